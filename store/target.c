#include "store/target_priv.h"

#include <stdlib.h>

#include "base/file.h"
#include "store/source_priv.h"

void store_target_free(struct store_target *target)
{
    if (target == NULL) {
        return;
    }
    for (size_t i = 0; i < target->dropped.n; i++) {
        free(target->dropped.items[i]);
    }
    base_vec_done(&target->dropped);
    base_vec_done(&target->rank_objects);
    ptc_layout_free(target->layout);
    ptc_pieces_free(target->own_pieces);
    ptc_table_free(target->own_table);
    free(target);
}

const struct ptc_table *store_target_table(const struct store_target *target)
{
    return target->own_table != NULL ? target->own_table
                                     : store_source_table(target->source);
}

const struct ptc_layout *store_target_layout(const struct store_target *target)
{
    return target->layout;
}

const struct ptc_pieces *store_target_pieces(const struct store_target *target)
{
    return target->own_pieces != NULL ? target->own_pieces
                                      : store_source_pieces(target->source);
}

uint32_t store_target_n_dropped(const struct store_target *target)
{
    return (uint32_t)target->dropped.n;
}

const char *store_target_dropped(const struct store_target *target,
                                 uint32_t idx)
{
    return target->dropped.items[idx];
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a target");
}

/* Is this spec what `hf` means?  Then ranks have no directories, and so
 * nowhere to keep their objects. */
static enum base_code
spec_is_whole(const struct ptc_spec *spec, bool *ret, struct base_err *err)
{
    BASE_AUTO(ptc_spec) whole = NULL;
    struct base_digest a, b;

    if (spec->meshes[0].n_ranks != 1) {
        *ret = false;
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_whole(&whole, err));
    BASE_TRY(ptc_spec_digest(whole, &a, err));
    BASE_TRY(ptc_spec_digest(spec, &b, err));
    *ret = base_digest_eq(a, b);
    return BASE_OK;
}

/* Which of the source's objects rank @rank shows under @name; PTC_NONE: none. */
static enum base_code find_rank_object(const struct store_target *target,
                                       struct base_str name,
                                       ptc_rank rank,
                                       uint32_t first,
                                       uint32_t end,
                                       uint32_t *ret,
                                       struct base_err *err)
{
    const struct ptc_layout *from = store_source_layout(target->source);
    ptc_rank from_rank = PTC_NONE;

    *ret = PTC_NONE;
    BASE_TRY(
        ptc_object_source(from, target->layout, name, rank, &from_rank, err));
    while (from_rank != PTC_NONE && first < end) {
        uint32_t middle = first + (end - first) / 2;
        ptc_rank at = store_source_object_at(target->source, middle)->rank;

        if (at == from_rank) {
            *ret = middle;
            break;
        }
        if (at < from_rank) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return BASE_OK;
}

static enum base_code list_dropped(struct store_target *target,
                                   const bool *used,
                                   struct base_err *err)
{
    const struct store_source *source = target->source;

    for (uint32_t i = 0; i < store_source_n_objects(source); i++) {
        const struct store_object *object = store_source_object_at(source, i);
        char *path;

        if (object->rank == PTC_NONE || used[i]) {
            continue;
        }
        path = base_path("ranks/%03u/%s", object->rank, object->name.ptr);
        if (path == NULL || !base_vec_push(&target->dropped, path)) {
            free(path);
            return no_mem(err);
        }
    }
    return BASE_OK;
}

/* Every rank's objects, by (object, rank), and those that no rank shows. */
static enum base_code place_objects(struct store_target *target,
                                    struct base_err *err)
{
    const struct store_source *source = target->source;
    uint32_t n = store_source_n_objects(source);
    uint32_t n_ranks = ptc_layout_n_ranks(target->layout);
    BASE_AUTO_MEM bool *used = calloc((size_t)n + 1, sizeof(*used));
    uint32_t end;

    if (used == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n && !target->is_whole; i = end) {
        struct base_str name = store_source_object_at(source, i)->name;

        for (end = i + 1;
             end < n &&
             base_str_eq(store_source_object_at(source, end)->name, name);
             end++) {
        }
        if (store_source_object_at(source, i)->rank == PTC_NONE) {
            continue;
        }
        for (ptc_rank rank = 0; rank < n_ranks; rank++) {
            uint32_t idx;

            BASE_TRY(find_rank_object(target, name, rank, i, end, &idx, err));
            if (idx == PTC_NONE) {
                continue;
            }
            if (!base_vec_push(&target->rank_objects,
                               ((struct store_rank_object){rank, idx}))) {
                return no_mem(err);
            }
            used[idx] = true;
        }
    }
    return list_dropped(target, used, err);
}

static int rank_object_cmp(const void *va, const void *vb)
{
    const struct store_rank_object *a = va;
    const struct store_rank_object *b = vb;

    if (a->rank != b->rank) {
        return a->rank < b->rank ? -1 : 1;
    }
    return (a->object > b->object) - (a->object < b->object);
}

enum base_code store_target_open(const struct store_source *source,
                                 struct ptc_spec **spec,
                                 struct store_target **ret,
                                 struct base_err *err)
{
    BASE_AUTO(store_target) target = calloc(1, sizeof(*target));

    if (target == NULL) {
        return no_mem(err);
    }
    target->source = source;
    BASE_TRY(spec_is_whole(*spec, &target->is_whole, err));
    BASE_TRY(ptc_spec_ties(*spec, store_source_table(source),
                           &target->own_table, err));
    if (target->own_table != NULL) {
        BASE_TRY(ptc_pieces_rebind(store_source_pieces(source),
                                   target->own_table, &target->own_pieces,
                                   err));
    }
    BASE_TRY(store_target_check_ties(target, NULL, err));
    BASE_TRY(ptc_layout_create(spec, store_target_table(target),
                               &target->layout, err));
    BASE_TRY(place_objects(target, err));
    if (target->rank_objects.n > 0) {
        qsort(target->rank_objects.items, target->rank_objects.n,
              sizeof(*target->rank_objects.items), rank_object_cmp);
    }
    *ret = base_steal(&target);
    return BASE_OK;
}
