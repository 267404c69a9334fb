/* Binding a spec to a table: choose rules, place tensors, make flats; see
 * ptc/layout_impl.h for the parts. */
#include "ptc/layout.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/layout_impl.h"

void ptc_layout_free(struct ptc_layout *layout)
{
    if (layout == NULL) {
        return;
    }
    ptc_spec_free(layout->spec);
    base_arena_free(layout->arena);
    free(layout);
}

const struct ptc_spec *ptc_layout_spec(const struct ptc_layout *layout)
{
    return layout->spec;
}

const struct ptc_table *ptc_layout_table(const struct ptc_layout *layout)
{
    return layout->table;
}

uint32_t ptc_layout_n_ranks(const struct ptc_layout *layout)
{
    return layout->spec->meshes[0].n_ranks;
}

/* All meshes must have as many ranks as their sizes say, and equally many. */
static enum base_code meshes_check(const struct ptc_spec *spec,
                                   struct base_err *err)
{
    for (uint32_t m = 0; m < spec->n_meshes; m++) {
        const struct ptc_mesh *mesh = &spec->meshes[m];
        uint64_t n = 1;

        for (uint32_t a = 0; a < mesh->n_axes && n <= PTC_MAX_RANKS; a++) {
            n *= mesh->axes[a].size;
        }
        if (n == 0 || n > PTC_MAX_RANKS) {
            return base_fail(err, BASE_LIMIT, "mesh %.*s: not 1 to %u ranks",
                             BASE_STR_FMT(spec->mesh_names[m]), PTC_MAX_RANKS);
        }
        if (n != spec->meshes[0].n_ranks || n != mesh->n_ranks) {
            return base_fail(
                err, BASE_MISMATCH,
                "mesh %.*s has %" PRIu64 " ranks, but the first has %" PRIu32,
                BASE_STR_FMT(spec->mesh_names[m]), n, spec->meshes[0].n_ranks);
        }
    }
    return BASE_OK;
}

/* Fill in a layout that has spec, table and arena. */
static enum base_code bind(struct ptc_layout *layout, struct base_err *err)
{
    BASE_AUTO_MEM struct ptc_choice *choices =
        calloc(layout->n_tensors + (size_t)1, sizeof(*choices));

    layout->bound = base_arena_alloc(
        layout->arena, layout->n_tensors + (size_t)1, sizeof(*layout->bound));
    if (choices == NULL || layout->bound == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for a layout");
    }
    BASE_TRY(meshes_check(layout->spec, err));
    BASE_TRY(ptc_layout_choose(layout->spec, layout->table, choices, err));
    BASE_TRY(ptc_layout_place(layout, choices, err));
    BASE_TRY(ptc_layout_flatten(layout, choices, err));
    return ptc_layout_group(layout, err);
}

enum base_code ptc_layout_create(struct ptc_spec **spec,
                                 const struct ptc_table *table,
                                 struct ptc_layout **ret,
                                 struct base_err *err)
{
    BASE_AUTO(ptc_layout) layout = calloc(1, sizeof(*layout));
    enum base_code rc;

    if (layout == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for a layout");
    }
    layout->arena = base_arena_create(PTC_LAYOUT_MAX_BYTES);
    if (layout->arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for a layout");
    }
    layout->table = table;
    layout->n_tensors = ptc_table_n_tensors(table);
    layout->spec = *spec; /* lent while we bind: the caller's until success */
    rc = bind(layout, err);
    if (rc != BASE_OK) {
        layout->spec = NULL;
        return rc;
    }
    *spec = NULL;
    *ret = base_steal(&layout);
    return BASE_OK;
}
