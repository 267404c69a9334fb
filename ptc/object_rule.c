/* Where a rank's object comes from when the layout changes. */
#include <inttypes.h>

#include "ptc/glob.h"
#include "ptc/layout.h"

/* The first entry of @spec for @object, NULL when there is none. */
static const struct ptc_object_rule *entry_find(const struct ptc_spec *spec,
                                                struct base_str object)
{
    for (uint32_t i = 0; i < spec->n_objects; i++) {
        struct ptc_glob glob = ptc_glob_of(spec->objects[i].name);

        if (ptc_glob_matches(&glob, object)) {
            return &spec->objects[i];
        }
    }
    return NULL;
}

/* Does an object under @entry vary over @axis? */
static bool varies_over(const struct ptc_object_rule *entry,
                        struct base_str axis)
{
    if (entry == NULL || !entry->has_varies) {
        return true;
    }
    for (uint32_t i = 0; i < entry->n_varies; i++) {
        if (base_str_eq(entry->varies[i], axis)) {
            return true;
        }
    }
    return false;
}

/* The source coordinate of @coord on an axis of @size there; *ret is PTC_NONE
 * when the object is dropped. */
static enum base_code coord_source(const struct ptc_object_rule *entry,
                                   struct base_str object,
                                   struct base_str axis,
                                   uint32_t coord,
                                   uint32_t size,
                                   uint32_t *ret,
                                   struct base_err *err)
{
    enum ptc_on_change on_change =
        entry == NULL ? PTC_ON_CHANGE_REFUSE : entry->on_change;

    if (coord < size) {
        *ret = coord;
        return BASE_OK;
    }
    switch (on_change) {
    case PTC_ON_CHANGE_COPY:
        *ret = coord % size;
        return BASE_OK;
    case PTC_ON_CHANGE_DROP:
        *ret = PTC_NONE;
        return BASE_OK;
    case PTC_ON_CHANGE_REFUSE:
        break;
    }
    return base_fail(
        err, BASE_MISMATCH,
        "object %.*s: the old layout has no coordinate %.*s=%" PRIu32
        " and on_change is refuse; the new spec may say objects: {'%.*s': "
        "{on_change: copy}}, or drop",
        BASE_STR_FMT(object), BASE_STR_FMT(axis), coord, BASE_STR_FMT(object));
}

enum base_code ptc_object_source(const struct ptc_layout *from,
                                 const struct ptc_layout *to,
                                 struct base_str object,
                                 ptc_rank rank,
                                 ptc_rank *ret_rank,
                                 struct base_err *err)
{
    const struct ptc_mesh *source = &ptc_layout_spec(from)->meshes[0];
    const struct ptc_mesh *target = &ptc_layout_spec(to)->meshes[0];
    const struct ptc_object_rule *entry;
    uint32_t coords[PTC_MAX_AXES] = {0}; /* axes not asked about: the lowest */
    uint32_t target_coords[PTC_MAX_AXES];
    bool is_dropped = false;

    entry = entry_find(ptc_layout_spec(to), object);
    if (entry == NULL) {
        entry = entry_find(ptc_layout_spec(from), object);
    }
    ptc_mesh_coords(target, rank, target_coords);
    for (uint32_t a = 0; a < target->n_axes; a++) {
        struct base_str name = target->axes[a].name;
        uint32_t at = ptc_mesh_find(source, name);
        uint32_t size = at == PTC_NONE ? 1 : source->axes[at].size;
        uint32_t coord = 0;

        if (!varies_over(entry, name)) {
            continue;
        }
        BASE_TRY(coord_source(entry, object, name, target_coords[a], size,
                              &coord, err));
        is_dropped = is_dropped || coord == PTC_NONE;
        if (at != PTC_NONE && coord != PTC_NONE) {
            coords[at] = coord;
        }
    }
    *ret_rank = is_dropped ? PTC_NONE : ptc_mesh_rank(source, coords);
    return BASE_OK;
}
