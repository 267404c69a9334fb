/* What one host needs, and what it holds, of one tensor: the two questions that
 * plans and sums are made of.  See ptc/planner.h.
 *
 * A host's boxes are collected from its ranks, or, where these are many, from
 * the layout's cells.  Cost per tensor: a host's ranks, or the holders of the
 * tensor's cells. */
#include "ptc/planner.h"

/* A host with more ranks than this is asked for its boxes cell by cell (who of
 * a cell's holders is here?), others rank by rank. */
#define MANY_RANKS 16

struct collect {
    struct ptc_boxes *boxes;
    uint32_t rank;
    uint32_t holding;
    /* cell by cell: */
    const struct ptc_planner *planner;
    const struct ptc_layout *layout;
    const struct ptc_origin *origin; /* NULL: of the target */
    uint32_t host;
};

static enum base_code
collect_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    struct collect *c = ctx;

    if (!ptc_boxes_add_new(c->boxes, &part->box, c->rank, c->holding)) {
        return ptc_planner_no_mem(err);
    }
    return BASE_OK;
}

/* Has the host of @c this rank?  Through which holding? */
static bool
is_rank_here(const struct collect *c, ptc_rank rank, uint32_t *ret_holding)
{
    const struct ptc_origin *origin = c->origin;

    if (origin == NULL) {
        *ret_holding = 0;
        return c->planner->problem.rank_host[rank] == c->host;
    }
    for (uint32_t i = origin->rank_at[rank]; i < origin->rank_at[rank + 1];
         i++) {
        if (origin->holders[i].host == c->host) {
            *ret_holding = origin->holders[i].holding;
            return true;
        }
    }
    return false;
}

static enum base_code
collect_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct collect *c = ctx;

    for (uint64_t k = 0; k < cell->n_holders; k++) {
        ptc_rank rank = ptc_cell_holder(c->layout, cell, k);
        uint32_t holding;

        if (!is_rank_here(c, rank, &holding)) {
            continue;
        }
        return ptc_boxes_add(c->boxes, &cell->box, rank, holding)
                   ? BASE_OK
                   : ptc_planner_no_mem(err);
    }
    return BASE_OK;
}

static enum base_code
collect_cells(struct collect *c, uint32_t name, struct base_err *err)
{
    const struct ptc_tensor *tensor =
        ptc_table_tensor(c->planner->problem.table, name);
    struct ptc_box whole = ptc_box_whole(tensor->n_dims, tensor->shape);

    if (ptc_box_is_empty(&whole)) {
        return BASE_OK;
    }
    return ptc_layout_find(c->layout, name, &whole, collect_cell, c, err);
}

static enum base_code
collect_target(struct collect *c, uint32_t name, struct base_err *err)
{
    const struct ptc_planner *planner = c->planner;
    uint32_t begin = planner->to_at[c->host];
    uint32_t end = planner->to_at[c->host + 1];

    if (end - begin > MANY_RANKS) {
        return collect_cells(c, name, err);
    }
    for (uint32_t k = begin; k < end; k++) {
        ptc_rank rank = planner->to_ranks[k];

        if (ptc_layout_has(c->layout, name, rank)) {
            BASE_TRY(
                ptc_layout_parts(c->layout, name, rank, collect_part, c, err));
        }
    }
    return BASE_OK;
}

static enum base_code
collect_origin(struct collect *c, uint32_t name, struct base_err *err)
{
    const struct ptc_origin *origin = c->origin;
    uint32_t begin = origin->host_at[c->host];
    uint32_t end = origin->host_at[c->host + 1];

    if (end - begin > MANY_RANKS) {
        return collect_cells(c, name, err);
    }
    for (uint32_t k = begin; k < end; k++) {
        c->rank = origin->owned[k].rank;
        c->holding = origin->owned[k].holding;
        if (ptc_layout_has(c->layout, name, c->rank)) {
            BASE_TRY(ptc_layout_parts(c->layout, name, c->rank, collect_part, c,
                                      err));
        }
    }
    return BASE_OK;
}

enum base_code ptc_planner_needed(const struct ptc_planner *planner,
                                  uint32_t host,
                                  uint32_t root,
                                  struct ptc_boxes *ret,
                                  struct ptc_boxes *scratch,
                                  struct base_err *err)
{
    struct collect c = {.boxes = ret,
                        .planner = planner,
                        .layout = planner->problem.to,
                        .host = host};
    uint32_t n_names;
    const uint32_t *names = ptc_planner_names(planner, &root, &n_names);

    ret->n = 0;
    for (uint32_t i = 0; i < n_names; i++) {
        BASE_TRY(collect_target(&c, names[i], err));
    }
    if (!ptc_boxes_union(ret, scratch)) {
        return ptc_planner_no_mem(err);
    }
    return BASE_OK;
}

enum base_code ptc_planner_held(const struct ptc_planner *planner,
                                uint32_t host,
                                uint32_t root,
                                struct ptc_boxes *ret,
                                struct base_err *err)
{
    struct collect c = {.boxes = ret, .planner = planner, .host = host};
    uint32_t n_names;
    const uint32_t *names = ptc_planner_names(planner, &root, &n_names);
    uint32_t begin;
    uint32_t end;

    ret->n = 0;
    for (uint32_t o = 0; o < planner->n_origins; o++) {
        c.origin = &planner->origins[o];
        c.layout = c.origin->layout;
        for (uint32_t i = 0; i < n_names; i++) {
            BASE_TRY(collect_origin(&c, names[i], err));
        }
    }
    ptc_planner_explicits(planner, root, host, &begin, &end);
    for (uint32_t i = begin; i < end; i++) {
        uint32_t holding = planner->explicits[i].holding;

        if (!ptc_boxes_add_new(ret, &planner->problem.holdings[holding].box,
                               PTC_NONE, holding)) {
            return ptc_planner_no_mem(err);
        }
    }
    ptc_boxes_unique(ret);
    return BASE_OK;
}
