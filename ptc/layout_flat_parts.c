/* Reading flats: parts of a member, and the cells of a box.
 *
 * A dense cell (a product of runs) may be held by ranks of several variants,
 * and within their flats it may begin elsewhere and be cut elsewhere.  But in
 * every shard its elements stand in the same order, C order of the cell.  So
 * cells are ranges of that order: from where we are to the nearest place at
 * which any holder's part of its flat ends. */
#include <assert.h>

#include "base/num.h"
#include "ptc/layout_impl.h"

const struct ptc_flat_member *
ptc_flat_member_find(const struct ptc_flat_variant *variant, uint32_t position)
{
    uint32_t low = 0;
    uint32_t high = variant->n_members;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (variant->members[middle].position < position) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == variant->n_members ||
        variant->members[low].position != position) {
        return NULL;
    }
    return &variant->members[low];
}

/* Members end in ascending order, so it is found by bisection. */
uint32_t ptc_flat_member_at(const struct ptc_layout *layout,
                            const struct ptc_flat_set *set,
                            const struct ptc_flat_variant *variant,
                            uint32_t bucket,
                            ptc_rank rank,
                            uint64_t at)
{
    uint32_t low = variant->buckets[bucket].first;
    uint32_t high = variant->buckets[bucket + 1].first;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct ptc_flat_member *m = &variant->members[middle];
        uint32_t tensor = set->members[m->position];
        uint64_t n =
            ptc_geometry_shard_elems(ptc_geometry_of(layout, tensor), rank);

        if (m->offset + n <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

enum base_code ptc_flat_parts(const struct ptc_layout *layout,
                              uint32_t tensor,
                              const struct ptc_flat_member *member,
                              ptc_rank rank,
                              const struct ptc_box *within,
                              ptc_part_fn fn,
                              void *ctx,
                              struct base_err *err)
{
    const struct ptc_bound *bound = &layout->bound[tensor];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];
    const struct ptc_flat_set *set = &layout->flat_sets[bound->flat_set];
    const struct ptc_flat_variant *variant = ptc_flat_variant_of(set, rank);
    uint64_t n_part = variant->buckets[member->bucket].part_elems;
    uint64_t n = ptc_geometry_shard_elems(g, rank);
    uint64_t begin = ptc_flat_part(set, rank) * n_part;
    uint64_t end = begin + n_part;
    struct ptc_box boxes[2 * PTC_MAX_DIMS];
    uint64_t shape[PTC_MAX_DIMS];
    struct ptc_box sub;
    uint32_t n_boxes;

    if (begin >= member->offset + n || end <= member->offset) {
        return BASE_OK;
    }
    ptc_layout_shard_shape(layout, tensor, rank, shape);
    n_boxes = ptc_box_of_range(
        g->n_dims, shape, begin > member->offset ? begin - member->offset : 0,
        base_min_u64(end - member->offset, n), boxes);
    ptc_shard_within(g, rank, within, &sub);
    for (uint32_t i = 0; i < n_boxes; i++) {
        if (within != NULL && !ptc_box_intersect(&boxes[i], &sub, &boxes[i])) {
            continue;
        }
        BASE_TRY(ptc_shard_parts(g, rank, &boxes[i], member->offset - begin, fn,
                                 ctx, err));
    }
    return BASE_OK;
}

/* How one holder (but for its part of the flat) has a cell. */
struct holder_view {
    uint64_t n_part;
    uint64_t offset;              /* of the member in the bucket */
    uint64_t local[PTC_MAX_DIMS]; /* of the cell's first element in the shard */
    uint64_t shape[PTC_MAX_DIMS]; /* of the shard */
};

static void view_fill(const struct ptc_layout *layout,
                      uint32_t tensor,
                      const struct ptc_box *cell,
                      ptc_rank rank,
                      struct holder_view *view)
{
    const struct ptc_bound *bound = &layout->bound[tensor];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];
    const struct ptc_flat_set *set = &layout->flat_sets[bound->flat_set];
    const struct ptc_flat_variant *variant = ptc_flat_variant_of(set, rank);
    const struct ptc_flat_member *member =
        ptc_flat_member_find(variant, bound->position);

    assert(member != NULL);
    view->n_part = variant->buckets[member->bucket].part_elems;
    view->offset = member->offset;
    for (uint32_t d = 0; d < g->n_dims; d++) {
        uint32_t part = ptc_cut_part(g->cuts[d], rank);

        view->shape[d] = g->cuts[d]->lengths[part];
        view->local[d] = ptc_cut_local(g->cuts[d], part, cell->begin[d]);
    }
}

/* Where in the bucket element @at (C order of the cell) stands. */
static uint64_t view_place(const struct holder_view *view,
                           const struct ptc_box *cell,
                           uint64_t at)
{
    uint64_t place = view->offset;
    uint64_t stride = 1;

    for (uint32_t d = cell->n_dims; d-- > 0;) {
        uint64_t n = cell->end[d] - cell->begin[d];

        place += (view->local[d] + at % n) * stride;
        at /= n;
        stride *= view->shape[d];
    }
    return place;
}

/* How many elements of the cell stand before @place of the bucket. */
static uint64_t view_count(const struct holder_view *view,
                           const struct ptc_box *cell,
                           uint64_t place)
{
    uint64_t linear = place - view->offset;
    uint64_t count = 0;
    uint64_t coord[PTC_MAX_DIMS];

    for (uint32_t d = cell->n_dims; d-- > 0;) {
        coord[d] = linear % view->shape[d];
        linear /= view->shape[d];
    }
    if (linear > 0) { /* past the shard */
        return ptc_box_elems(cell);
    }
    for (uint32_t d = 0; d < cell->n_dims; d++) {
        uint64_t n = cell->end[d] - cell->begin[d];
        uint64_t inner = 1;

        for (uint32_t i = d + 1; i < cell->n_dims; i++) {
            inner *= cell->end[i] - cell->begin[i];
        }
        if (coord[d] < view->local[d]) {
            return count;
        }
        if (coord[d] >= view->local[d] + n) {
            return count + n * inner;
        }
        count += (coord[d] - view->local[d]) * inner;
    }
    return count;
}

/* The digits of a holder's number that make a difference to its flat. */
struct digits {
    uint32_t n;
    struct {
        uint32_t size;
        uint64_t weight; /* in the holder's number */
        uint32_t idx;
    } items[PTC_MAX_AXES + 1 + PTC_MAX_DIMS];
};

/* In the order of ptc_dense_holder. */
static void digits_fill(const struct ptc_geometry *g,
                        const struct ptc_flat_set *set,
                        const struct ptc_cell *cell,
                        struct digits *digits)
{
    uint64_t weight = 1;

    digits->n = 0;
    for (uint32_t i = g->n_free; i-- > 0;) {
        for (uint32_t k = 0; k < set->n_keys; k++) {
            if (set->keys[k].stride == g->free[i].stride) {
                digits->items[digits->n].size = g->free[i].size;
                digits->items[digits->n].idx = 0;
                digits->items[digits->n++].weight = weight;
            }
        }
        weight *= g->free[i].size;
    }
    if (g->n_list > 0) {
        digits->items[digits->n].size = g->n_list;
        digits->items[digits->n].idx = 0;
        digits->items[digits->n++].weight = weight;
        weight *= g->n_list;
    }
    for (uint32_t d = g->n_dims; d-- > 0;) {
        uint32_t n =
            g->cuts[d]->runs[cell->state_[PTC_CELL_RUNS + d]].n_holders;

        if (n > 1) {
            digits->items[digits->n].size = n;
            digits->items[digits->n].idx = 0;
            digits->items[digits->n++].weight = weight;
        }
        weight *= n;
    }
}

static uint64_t digits_number(const struct digits *digits)
{
    uint64_t number = 0;

    for (uint32_t i = 0; i < digits->n; i++) {
        number += digits->items[i].idx * digits->items[i].weight;
    }
    return number;
}

static bool digits_next(struct digits *digits)
{
    for (uint32_t i = 0; i < digits->n; i++) {
        if (++digits->items[i].idx < digits->items[i].size) {
            return true;
        }
        digits->items[i].idx = 0;
    }
    return false;
}

/* What part @part of a flat adds to a rank. */
static uint32_t part_at(const struct ptc_flat_set *set, uint32_t part)
{
    uint32_t at = 0;

    for (uint32_t i = set->n_over; i-- > 0;) {
        at += part % set->over[i].size * set->over[i].stride;
        part /= set->over[i].size;
    }
    return at;
}

/* From element @at of the dense cell: how far all holders go without a cut
 * (*ret_end) and which of them is lowest. */
static void cell_extent(const struct ptc_layout *layout,
                        uint32_t tensor,
                        const struct ptc_cell *cell,
                        uint64_t at,
                        uint64_t *ret_end,
                        uint32_t *ret_lowest)
{
    const struct ptc_bound *bound = &layout->bound[tensor];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];
    const struct ptc_flat_set *set = &layout->flat_sets[bound->flat_set];
    ptc_rank lowest = UINT32_MAX;
    struct digits digits;

    digits_fill(g, set, cell, &digits);
    *ret_end = ptc_box_elems(&cell->box);
    do {
        uint64_t number = digits_number(&digits);
        ptc_rank rank = ptc_dense_holder(g, bound->base, cell, number);
        struct holder_view view;
        uint64_t part;

        view_fill(layout, tensor, &cell->box, rank, &view);
        part = view_place(&view, &cell->box, at) / view.n_part;
        *ret_end = base_min_u64(
            *ret_end, view_count(&view, &cell->box, (part + 1) * view.n_part));
        rank += part_at(set, (uint32_t)part);
        if (rank < lowest) {
            lowest = rank;
            *ret_lowest = (uint32_t)number;
        }
    } while (digits_next(&digits));
}

enum base_code ptc_flat_cells(const struct ptc_layout *layout,
                              uint32_t tensor,
                              const struct ptc_cell *cell,
                              ptc_cell_fn fn,
                              void *ctx,
                              struct base_err *err)
{
    uint64_t n = ptc_box_elems(&cell->box);
    struct ptc_cell sub = *cell;
    uint64_t shape[PTC_MAX_DIMS];
    uint64_t at = 0;

    for (uint32_t d = 0; d < cell->box.n_dims; d++) {
        shape[d] = cell->box.end[d] - cell->box.begin[d];
    }
    while (at < n) {
        struct ptc_box boxes[2 * PTC_MAX_DIMS];
        uint64_t end = n;
        uint32_t n_boxes;

        cell_extent(layout, tensor, cell, at, &end,
                    &sub.state_[PTC_CELL_LOWEST]);
        n_boxes = ptc_box_of_range(cell->box.n_dims, shape, at, end, boxes);
        for (uint32_t i = 0; i < n_boxes; i++) {
            for (uint32_t d = 0; d < cell->box.n_dims; d++) {
                sub.box.begin[d] = cell->box.begin[d] + boxes[i].begin[d];
                sub.box.end[d] = cell->box.begin[d] + boxes[i].end[d];
            }
            BASE_TRY(fn(ctx, &sub, err));
        }
        at = end;
    }
    return BASE_OK;
}

ptc_rank ptc_flat_holder(const struct ptc_layout *layout,
                         const struct ptc_cell *cell,
                         uint64_t k)
{
    uint32_t tensor = cell->state_[PTC_CELL_TENSOR];
    const struct ptc_bound *bound = &layout->bound[tensor];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];
    const struct ptc_flat_set *set = &layout->flat_sets[bound->flat_set];
    uint64_t lowest = cell->state_[PTC_CELL_LOWEST];
    struct holder_view view;
    ptc_rank rank;
    uint64_t part;

    /* the lowest first, the others in their order */
    if (k == 0) {
        k = lowest;
    } else if (k <= lowest) {
        k--;
    }
    rank = ptc_dense_holder(g, bound->base, cell, k);
    view_fill(layout, tensor, &cell->box, rank, &view);
    part = view_place(&view, &cell->box, 0) / view.n_part;
    return rank + part_at(set, (uint32_t)part);
}
