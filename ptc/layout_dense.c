/* Dense shards: which boxes a rank has, and who has a box.
 *
 * Forward: a rank has one part per dimension, a part has ranges; the boxes are
 * their product, the last dimension fastest.
 *
 * Inverse: a box meets a few runs of each dimension; cells are their product,
 * the last dimension fastest.  A cell's holders are the sums of one holder of
 * each run, one stage of the list, and one coordinate of each free axis; taking
 * the least of each gives the lowest rank. */
#include "base/num.h"
#include "ptc/layout_impl.h"

bool ptc_geometry_lists(const struct ptc_geometry *g, ptc_rank rank)
{
    uint32_t low = 0;
    uint32_t high = g->n_list;
    uint32_t at;

    if (g->n_list == 0) {
        return true;
    }
    at = ptc_digit_of(g->list, rank) * g->list.stride;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (g->list_at[middle] < at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < g->n_list && g->list_at[low] == at;
}

bool ptc_layout_has(const struct ptc_layout *layout,
                    uint32_t tensor,
                    ptc_rank rank)
{
    const struct ptc_bound *bound = &layout->bound[tensor];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];

    for (uint32_t i = 0; i < g->n_pins; i++) {
        if (ptc_digit_of(g->pins[i], rank) !=
            ptc_digit_of(g->pins[i], bound->base)) {
            return false;
        }
    }
    return ptc_geometry_lists(g, rank);
}

bool ptc_layout_is_flat(const struct ptc_layout *layout, uint32_t tensor)
{
    return layout->bound[tensor].flat_set != PTC_NONE;
}

void ptc_layout_shard_shape(const struct ptc_layout *layout,
                            uint32_t tensor,
                            ptc_rank rank,
                            uint64_t *ret_shape)
{
    const struct ptc_geometry *g = ptc_geometry_of(layout, tensor);

    for (uint32_t d = 0; d < PTC_MAX_DIMS; d++) {
        ret_shape[d] = d < g->n_dims
                           ? g->cuts[d]->lengths[ptc_cut_part(g->cuts[d], rank)]
                           : 0;
    }
}

const struct ptc_range *ptc_layout_shard_ranges(const struct ptc_layout *layout,
                                                uint32_t tensor,
                                                ptc_rank rank,
                                                uint32_t dim,
                                                uint32_t *ret_n)
{
    const struct ptc_cut *cut = ptc_geometry_of(layout, tensor)->cuts[dim];
    uint32_t part = ptc_cut_part(cut, rank);

    *ret_n = cut->first[part + 1] - cut->first[part];
    return &cut->ranges[cut->first[part]];
}

uint64_t ptc_geometry_shard_elems(const struct ptc_geometry *g, ptc_rank rank)
{
    uint64_t n = 1;

    for (uint32_t d = 0; d < g->n_dims; d++) {
        n *= g->cuts[d]->lengths[ptc_cut_part(g->cuts[d], rank)];
    }
    return n;
}

/* One dimension of a walk over the ranges of a shard. */
struct walk_dim {
    const struct ptc_range *ranges; /* of the part */
    const uint64_t *starts;         /* where each begins in the shard */
    uint32_t first;                 /* the one that sub_begin lies in */
    uint32_t range;                 /* the current one */
    uint64_t sub_begin;             /* what of the shard is asked for */
    uint64_t sub_end;
};

/* Set dimension @d of @part from the walk's current range. */
static void
walk_set(const struct walk_dim *w, uint32_t d, struct ptc_part *part)
{
    const struct ptc_range *range = &w->ranges[w->range];
    uint64_t n = range->end - range->begin;
    uint64_t local = w->starts[w->range];
    uint64_t begin = w->sub_begin > local ? w->sub_begin - local : 0;
    uint64_t end = w->sub_end - local < n ? w->sub_end - local : n;

    part->box.begin[d] = range->begin + begin;
    part->box.end[d] = range->begin + end;
}

/* Begin a dimension at the first range that @w->sub_begin meets. */
static void walk_first(struct walk_dim *w, uint32_t d, struct ptc_part *part)
{
    w->range = w->first;
    walk_set(w, d, part);
}

/* Go to the next range; false when it lies past what is asked for. */
static bool walk_next(struct walk_dim *w, uint32_t d, struct ptc_part *part)
{
    uint64_t n = w->ranges[w->range].end - w->ranges[w->range].begin;

    if (w->starts[w->range] + n >= w->sub_end) {
        return false;
    }
    w->range++;
    walk_set(w, d, part);
    return true;
}

enum base_code ptc_shard_parts(const struct ptc_geometry *g,
                               ptc_rank rank,
                               const struct ptc_box *sub,
                               uint64_t offset,
                               ptc_part_fn fn,
                               void *ctx,
                               struct base_err *err)
{
    struct walk_dim walk[PTC_MAX_DIMS];
    struct ptc_part part = {.box.n_dims = g->n_dims};
    uint64_t stride = 1;
    uint32_t d;

    for (d = g->n_dims; d-- > 0;) {
        const struct ptc_cut *cut = g->cuts[d];
        uint32_t idx = ptc_cut_part(cut, rank);

        if (sub->begin[d] >= sub->end[d]) {
            return BASE_OK;
        }
        walk[d].ranges = &cut->ranges[cut->first[idx]];
        walk[d].starts = &cut->starts[cut->first[idx]];
        walk[d].first = ptc_cut_range_at(cut, idx, sub->begin[d]);
        walk[d].sub_begin = sub->begin[d];
        walk[d].sub_end = sub->end[d];
        part.stride[d] = stride;
        stride *= cut->lengths[idx];
    }
    for (d = 0; d < g->n_dims; d++) {
        walk_first(&walk[d], d, &part);
    }
    for (;;) {
        part.offset = offset;
        for (d = 0; d < g->n_dims; d++) {
            uint64_t skipped =
                part.box.begin[d] - walk[d].ranges[walk[d].range].begin;

            part.offset +=
                (walk[d].starts[walk[d].range] + skipped) * part.stride[d];
        }
        BASE_TRY(fn(ctx, &part, err));
        d = g->n_dims;
        while (d > 0 && !walk_next(&walk[d - 1], d - 1, &part)) {
            d--;
            walk_first(&walk[d], d, &part);
        }
        if (d == 0) {
            return BASE_OK;
        }
    }
}

void ptc_shard_within(const struct ptc_geometry *g,
                      ptc_rank rank,
                      const struct ptc_box *within,
                      struct ptc_box *ret)
{
    ret->n_dims = g->n_dims;
    for (uint32_t d = 0; d < g->n_dims; d++) {
        const struct ptc_cut *cut = g->cuts[d];
        uint32_t part = ptc_cut_part(cut, rank);

        if (within == NULL) {
            ret->begin[d] = 0;
            ret->end[d] = cut->lengths[part];
        } else {
            ret->begin[d] = ptc_cut_local(cut, part, within->begin[d]);
            ret->end[d] = ptc_cut_local(cut, part, within->end[d]);
        }
    }
}

enum base_code ptc_layout_parts(const struct ptc_layout *layout,
                                uint32_t tensor,
                                ptc_rank rank,
                                ptc_part_fn fn,
                                void *ctx,
                                struct base_err *err)
{
    return ptc_layout_parts_in(layout, tensor, rank, NULL, fn, ctx, err);
}

enum base_code ptc_layout_parts_in(const struct ptc_layout *layout,
                                   uint32_t tensor,
                                   ptc_rank rank,
                                   const struct ptc_box *within,
                                   ptc_part_fn fn,
                                   void *ctx,
                                   struct base_err *err)
{
    const struct ptc_bound *bound = &layout->bound[tensor];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];
    struct ptc_box sub;

    if (!ptc_layout_has(layout, tensor, rank)) {
        return BASE_OK;
    }
    if (bound->flat_set != PTC_NONE) {
        const struct ptc_flat_set *set = &layout->flat_sets[bound->flat_set];
        const struct ptc_flat_member *member = ptc_flat_member_find(
            ptc_flat_variant_of(set, rank), bound->position);

        return ptc_flat_parts(layout, tensor, member, rank, within, fn, ctx,
                              err);
    }
    ptc_shard_within(g, rank, within, &sub);
    return ptc_shard_parts(g, rank, &sub, 0, fn, ctx, err);
}

/* Set dimension @d of @cell to what of the box lies in run @run. */
static void cell_set(const struct ptc_cut *cut,
                     const struct ptc_box *box,
                     uint32_t d,
                     uint32_t run,
                     struct ptc_cell *cell)
{
    const struct ptc_range *range = &cut->runs[run].range;

    cell->state_[PTC_CELL_RUNS + d] = run;
    cell->box.begin[d] =
        range->begin > box->begin[d] ? range->begin : box->begin[d];
    cell->box.end[d] = range->end < box->end[d] ? range->end : box->end[d];
}

enum base_code ptc_layout_find(const struct ptc_layout *layout,
                               uint32_t tensor,
                               const struct ptc_box *box,
                               ptc_cell_fn fn,
                               void *ctx,
                               struct base_err *err)
{
    const struct ptc_bound *bound = &layout->bound[tensor];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];
    uint32_t first[PTC_MAX_DIMS];
    struct ptc_cell cell;
    uint32_t d;

    cell.box.n_dims = g->n_dims;
    cell.state_[PTC_CELL_TENSOR] = tensor;
    for (d = 0; d < g->n_dims; d++) {
        if (box->begin[d] >= box->end[d]) {
            return BASE_OK;
        }
        first[d] = ptc_cut_run_at(g->cuts[d], box->begin[d]);
        cell_set(g->cuts[d], box, d, first[d], &cell);
    }
    for (;;) {
        cell.n_holders = g->n_free_ranks;
        for (d = 0; d < g->n_dims; d++) {
            cell.n_holders *=
                g->cuts[d]->runs[cell.state_[PTC_CELL_RUNS + d]].n_holders;
        }
        if (bound->flat_set == PTC_NONE) {
            BASE_TRY(fn(ctx, &cell, err));
        } else {
            BASE_TRY(ptc_flat_cells(layout, tensor, &cell, fn, ctx, err));
        }
        for (d = g->n_dims; d > 0; d--) {
            uint32_t run = cell.state_[PTC_CELL_RUNS + d - 1];

            if (cell.box.end[d - 1] < box->end[d - 1]) {
                cell_set(g->cuts[d - 1], box, d - 1, run + 1, &cell);
                break;
            }
            cell_set(g->cuts[d - 1], box, d - 1, first[d - 1], &cell);
        }
        if (d == 0) {
            return BASE_OK;
        }
    }
}

uint64_t ptc_layout_n_cells(const struct ptc_layout *layout,
                            uint32_t tensor,
                            const struct ptc_box *box)
{
    const struct ptc_geometry *g = ptc_geometry_of(layout, tensor);
    uint64_t n = 1;

    for (uint32_t d = 0; d < g->n_dims; d++) {
        const struct ptc_cut *cut = g->cuts[d];
        uint64_t n_runs = cut->n_runs;

        if (box != NULL) {
            if (box->begin[d] >= box->end[d]) {
                return 0;
            }
            n_runs = ptc_cut_run_at(cut, box->end[d] - 1) -
                     ptc_cut_run_at(cut, box->begin[d]) + 1;
        }
        if (!base_mul_u64(n, n_runs, &n)) {
            n = UINT64_MAX;
        }
    }
    return n;
}

ptc_rank ptc_cell_holder(const struct ptc_layout *layout,
                         const struct ptc_cell *cell,
                         uint64_t k)
{
    const struct ptc_bound *bound =
        &layout->bound[cell->state_[PTC_CELL_TENSOR]];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];

    if (bound->flat_set != PTC_NONE) {
        return ptc_flat_holder(layout, cell, k);
    }
    return ptc_dense_holder(g, bound->base, cell, k);
}

ptc_rank ptc_dense_holder(const struct ptc_geometry *g,
                          uint32_t base,
                          const struct ptc_cell *cell,
                          uint64_t k)
{
    uint32_t rank = base;

    for (uint32_t i = g->n_free; i-- > 0;) {
        rank += (uint32_t)(k % g->free[i].size) * g->free[i].stride;
        k /= g->free[i].size;
    }
    if (g->n_list > 0) {
        rank += g->list_at[k % g->n_list];
        k /= g->n_list;
    }
    for (uint32_t d = g->n_dims; d-- > 0;) {
        const struct ptc_cut *cut = g->cuts[d];
        const struct ptc_cut_run *run =
            &cut->runs[cell->state_[PTC_CELL_RUNS + d]];

        rank += cut->holders[run->first + (uint32_t)(k % run->n_holders)];
        k /= run->n_holders;
    }
    return rank;
}
