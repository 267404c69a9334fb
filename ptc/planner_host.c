/* What one host needs, and what it holds, of one tensor: the two questions that
 * plans and sums are made of.  See ptc/planner.h.
 *
 * A host's boxes are collected from its ranks, or, where these are many, from
 * the layout's cells.  Cost per tensor: a host's ranks, or the holders of the
 * tensor's cells.  Tensors that a host has nothing to do with are not asked
 * about: the bits of those that it has are set first. */
#include <string.h>

#include "ptc/planner.h"

/* A host with more than MANY_RANKS ranks that are more than one in MANY_SHARE
 * of all is asked for its boxes cell by cell (who of a cell's holders is here?),
 * others rank by rank. */
#define MANY_RANKS 16
#define MANY_SHARE 4

static bool has_many(uint32_t n_here, const struct ptc_layout *layout)
{
    return n_here > MANY_RANKS &&
           n_here > ptc_layout_n_ranks(layout) / MANY_SHARE;
}

struct collect {
    uint32_t root;
    struct ptc_boxes *boxes;
    uint32_t rank;
    uint32_t holding;
    /* cell by cell: */
    const struct ptc_planner *planner;
    const struct ptc_layout *layout;
    const struct ptc_origin *origin; /* NULL: of the target */
    uint32_t host;
};

static enum base_code no_room(const struct collect *c, struct base_err *err)
{
    return ptc_planner_no_room(
        c->planner, c->host, c->root,
        c->boxes->is_full ? PTC_BOXES_MAX + UINT64_C(1) : 0, err);
}

static enum base_code
collect_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    struct collect *c = ctx;

    if (!ptc_boxes_add_new(c->boxes, &part->box, c->rank, c->holding)) {
        return no_room(c, err);
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
                   : no_room(c, err);
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

/* The boxes of one rank.  Those that are more than a host may have are refused
 * before they are made. */
static enum base_code collect_rank(struct collect *c,
                                   uint32_t name,
                                   ptc_rank rank,
                                   struct base_err *err)
{
    uint32_t n_dims = ptc_table_tensor(c->planner->problem.table, name)->n_dims;
    uint64_t n_boxes = 1;

    if (!ptc_layout_has(c->layout, name, rank)) {
        return BASE_OK;
    }
    /* (A flat's rank has a part of these only: the list will tell.) */
    if (!ptc_layout_is_flat(c->layout, name) &&
        ptc_layout_n_cells(c->layout, name, NULL) > PTC_BOXES_MAX) {
        for (uint32_t d = 0; d < n_dims && n_boxes <= PTC_BOXES_MAX; d++) {
            uint32_t n;

            (void)ptc_layout_shard_ranges(c->layout, name, rank, d, &n);
            n_boxes *= n; /* below 2^23 times 2^32 */
        }
    }
    if (n_boxes > PTC_BOXES_MAX) {
        return ptc_planner_no_room(c->planner, c->host, c->root, n_boxes, err);
    }
    return ptc_layout_parts(c->layout, name, rank, collect_part, c, err);
}

static enum base_code
collect_target(struct collect *c, uint32_t name, struct base_err *err)
{
    const struct ptc_planner *planner = c->planner;
    uint32_t begin = planner->to_at[c->host];
    uint32_t end = planner->to_at[c->host + 1];

    if (has_many(end - begin, c->layout)) {
        return collect_cells(c, name, err);
    }
    for (uint32_t k = begin; k < end; k++) {
        BASE_TRY(collect_rank(c, name, planner->to_ranks[k], err));
    }
    return BASE_OK;
}

static enum base_code
collect_origin(struct collect *c, uint32_t name, struct base_err *err)
{
    const struct ptc_origin *origin = c->origin;
    uint32_t begin = origin->host_at[c->host];
    uint32_t end = origin->host_at[c->host + 1];

    if (has_many(end - begin, c->layout)) {
        return collect_cells(c, name, err);
    }
    for (uint32_t k = begin; k < end; k++) {
        c->rank = origin->owned[k].rank;
        c->holding = origin->owned[k].holding;
        BASE_TRY(collect_rank(c, name, c->rank, err));
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
    struct collect c = {.root = root,
                        .boxes = ret,
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
        c.boxes = ret->is_full ? ret : scratch;
        return no_room(&c, err);
    }
    return BASE_OK;
}

enum base_code ptc_planner_held(const struct ptc_planner *planner,
                                uint32_t host,
                                uint32_t root,
                                struct ptc_boxes *ret,
                                struct base_err *err)
{
    struct collect c = {
        .root = root, .boxes = ret, .planner = planner, .host = host};
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
            return no_room(&c, err);
        }
    }
    ptc_boxes_unique(ret);
    return BASE_OK;
}

/* Which tensors ------------------------------------------------------------ */

static void set_all(const struct ptc_planner *planner, uint64_t *bits)
{
    uint32_t n = ptc_table_n_tensors(planner->problem.table);

    memset(bits, 0xff, n / 64 * sizeof(*bits));
    if (n % 64 != 0) {
        bits[n / 64] |= (UINT64_C(1) << n % 64) - 1;
    }
}

/* A tie that is here: so is its root.  (The bits of ties stay.) */
static void set_roots(const struct ptc_planner *planner, uint64_t *bits)
{
    const struct ptc_table *table = planner->problem.table;
    uint32_t n_tensors = ptc_table_n_tensors(table);

    for (uint32_t t = 0; planner->n_families > 0 && t < n_tensors; t++) {
        if (bits[t / 64] == 0) {
            t |= 63; /* on to the next word */
        } else if (bits[t / 64] >> t % 64 & 1) {
            uint32_t root = ptc_table_root(table, t);

            bits[root / 64] |= UINT64_C(1) << root % 64;
        }
    }
}

void ptc_planner_needed_bits(const struct ptc_planner *planner,
                             uint32_t host,
                             uint64_t *bits)
{
    const struct ptc_layout *to = planner->problem.to;
    uint32_t begin = planner->to_at[host];
    uint32_t end = planner->to_at[host + 1];

    if (has_many(end - begin, to)) {
        set_all(planner, bits);
        return;
    }
    for (uint32_t k = begin; k < end; k++) {
        ptc_layout_tensors(to, planner->to_ranks[k], bits);
    }
    set_roots(planner, bits);
}

void ptc_planner_held_bits(const struct ptc_planner *planner,
                           uint32_t host,
                           uint64_t *bits)
{
    for (uint32_t o = 0; o < planner->n_origins; o++) {
        const struct ptc_origin *origin = &planner->origins[o];
        uint32_t begin = origin->host_at[host];
        uint32_t end = origin->host_at[host + 1];

        if (has_many(end - begin, origin->layout)) {
            set_all(planner, bits);
            return;
        }
        for (uint32_t k = begin; k < end; k++) {
            ptc_layout_tensors(origin->layout, origin->owned[k].rank, bits);
        }
    }
    for (uint32_t i = planner->explicit_at[host];
         i < planner->explicit_at[host + 1]; i++) {
        uint32_t root = planner->explicit_roots[i];

        bits[root / 64] |= UINT64_C(1) << root % 64;
    }
    set_roots(planner, bits);
}
