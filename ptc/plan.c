/* Plans; see ptc/plan.h.
 *
 * One host's part, tensor by tensor (roots only, ties count as their root):
 *   rest  = union of the target boxes of its ranks
 *   kept  = rest taken by its own holdings, one after the other
 *   moves = what is left, cut by each origin's cells; a cell comes from the
 *           first of its holders, counted from a start that depends on (host,
 *           tensor), that some host has; then from explicit boxes
 * Moves are then sorted, neighbours from one holder joined, and stored in few
 * bytes: a record, and 2 * n_dims numbers in a pool.
 *
 * Invariants: (1) the moves of one tensor to one host are disjoint; (2) their
 * union is what the host needs; (3) a move from another host is of bytes that
 * the host has not. */
#include "ptc/plan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ptc/planner.h"

struct record {
    uint64_t at; /* of the box in the pool: begins, then ends */
    uint32_t tensor;
    uint32_t from;
    uint32_t to;
    uint32_t from_rank;
    uint32_t holding;
    uint32_t n_dims;
};

struct ptc_plan {
    BASE_VEC(struct record) moves;
    BASE_VEC(uint64_t) pool;
    BASE_VEC(uint32_t) hosts; /* that were planned, ascending */
};

void ptc_plan_free(struct ptc_plan *plan)
{
    if (plan == NULL) {
        return;
    }
    base_vec_done(&plan->moves);
    base_vec_done(&plan->pool);
    base_vec_done(&plan->hosts);
    free(plan);
}

uint64_t ptc_plan_n_moves(const struct ptc_plan *plan)
{
    return plan->moves.n;
}

void ptc_plan_move(const struct ptc_plan *plan,
                   uint64_t idx,
                   struct ptc_move *ret)
{
    const struct record *record = &plan->moves.items[idx];
    const uint64_t *bounds = &plan->pool.items[record->at];

    ret->tensor = record->tensor;
    ret->from = record->from;
    ret->to = record->to;
    ret->from_rank = record->from_rank;
    ret->holding = record->holding;
    ret->box.n_dims = record->n_dims;
    for (uint32_t d = 0; d < record->n_dims; d++) {
        ret->box.begin[d] = bounds[d];
        ret->box.end[d] = bounds[record->n_dims + d];
    }
}

/* Append a record and its box; record.at and .n_dims are set here. */
static enum base_code store(struct ptc_plan *plan,
                            struct record record,
                            const struct ptc_box *box,
                            struct base_err *err)
{
    uint64_t *bounds;

    record.at = plan->pool.n;
    record.n_dims = box->n_dims;
    if (plan->moves.n >= PTC_PLAN_MAX_MOVES) {
        return base_fail(err, BASE_LIMIT, "a plan of more than %u moves",
                         PTC_PLAN_MAX_MOVES);
    }
    if (!base_vec_reserve(&plan->pool,
                          plan->pool.n + 2 * (size_t)box->n_dims) ||
        !base_vec_push(&plan->moves, record)) {
        return ptc_planner_no_mem(err);
    }
    bounds = plan->pool.items + plan->pool.n;
    for (uint32_t d = 0; d < box->n_dims; d++) {
        bounds[d] = box->begin[d];
        bounds[box->n_dims + d] = box->end[d];
    }
    plan->pool.n += 2 * (size_t)box->n_dims;
    return BASE_OK;
}

enum base_code ptc_plan_of_moves(const struct ptc_move *moves,
                                 uint64_t n,
                                 struct ptc_plan **ret,
                                 struct base_err *err)
{
    BASE_AUTO(ptc_plan) plan = calloc(1, sizeof(*plan));

    if (plan == NULL) {
        return ptc_planner_no_mem(err);
    }
    for (uint64_t i = 0; i < n; i++) {
        struct record record = {
            .tensor = moves[i].tensor,
            .from = moves[i].from,
            .to = moves[i].to,
            .from_rank = moves[i].from_rank,
            .holding = moves[i].holding,
        };

        BASE_TRY(store(plan, record, &moves[i].box, err));
    }
    *ret = base_steal(&plan);
    return BASE_OK;
}

/* One host ---------------------------------------------------------------- */

/* What planning one host works on; reused from tensor to tensor. */
struct work {
    const struct ptc_planner *planner;
    uint32_t host;
    uint32_t tensor;
    uint64_t mix; /* of both: where the choice of holders begins */
    const struct ptc_origin *origin;
    struct ptc_boxes rest;  /* needed, and not yet found */
    struct ptc_boxes held;  /* what the host itself has */
    struct ptc_boxes moves; /* found; a tag tells from where */
    struct ptc_boxes next;  /* what an origin could not give */
    struct ptc_boxes scratch;
};

static void work_done(struct work *work)
{
    ptc_boxes_done(&work->rest);
    ptc_boxes_done(&work->held);
    ptc_boxes_done(&work->moves);
    ptc_boxes_done(&work->next);
    ptc_boxes_done(&work->scratch);
}

#define AUTO_WORK __attribute__((cleanup(work_done))) struct work

/* Scatter (host, tensor) over 64 bits: the finalizer of splitmix64. */
static uint64_t mix(uint32_t host, uint32_t tensor)
{
    uint64_t x = ((uint64_t)host << 32 | tensor) + 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static enum base_code no_room(const struct work *w, struct base_err *err)
{
    bool is_full = w->rest.is_full || w->held.is_full || w->moves.is_full ||
                   w->next.is_full || w->scratch.is_full;

    return ptc_planner_no_room(w->planner, w->host, w->tensor,
                               is_full ? PTC_BOXES_MAX + UINT64_C(1) : 0, err);
}

/* Take one cell from the first holder that some host has. */
static enum base_code
take_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct work *w = ctx;
    const struct ptc_origin *origin = w->origin;
    uint64_t k = w->mix % cell->n_holders;
    bool ok;

    for (uint64_t tried = 0; tried < cell->n_holders; tried++) {
        ptc_rank rank = ptc_cell_holder(origin->layout, cell, k);
        uint32_t begin = origin->rank_at[rank];
        uint32_t n = origin->rank_at[rank + 1] - begin;

        if (n > 0) {
            uint32_t one = (uint32_t)((w->mix >> 32) % n);

            ok = ptc_boxes_add(&w->moves, &cell->box, rank,
                               origin->holders[begin + one].holding);
            return ok ? BASE_OK : no_room(w, err);
        }
        k = k + 1 == cell->n_holders ? 0 : k + 1;
    }
    ok = ptc_boxes_add(&w->next, &cell->box, 0, 0);
    return ok ? BASE_OK : no_room(w, err);
}

/* Refuse to look for more pieces than a host may have of a tensor, rather than
 * to find out in the middle. */
static enum base_code
check_n_cells(const struct work *w, uint32_t name, struct base_err *err)
{
    const struct ptc_layout *layout = w->origin->layout;
    uint64_t n = 0;

    if (ptc_layout_n_cells(layout, name, NULL) <= PTC_BOXES_MAX) {
        return BASE_OK; /* as ever */
    }
    for (size_t i = 0; i < w->rest.n; i++) {
        uint64_t more = ptc_layout_n_cells(layout, name, &w->rest.items[i].box);

        if (!base_add_u64(n, more, &n)) {
            n = UINT64_MAX;
        }
    }
    return n <= PTC_BOXES_MAX
               ? BASE_OK
               : ptc_planner_no_room(w->planner, w->host, w->tensor, n, err);
}

/* Look for the rest under one name in one origin. */
static enum base_code
take_from_origin(struct work *w, uint32_t name, struct base_err *err)
{
    struct ptc_boxes swap;

    BASE_TRY(check_n_cells(w, name, err));
    w->next.n = 0;
    for (size_t i = 0; i < w->rest.n; i++) {
        BASE_TRY(ptc_layout_find(w->origin->layout, name, &w->rest.items[i].box,
                                 take_cell, w, err));
    }
    swap = w->rest;
    w->rest = w->next;
    w->next = swap;
    return BASE_OK;
}

/* Look for the rest in the explicit boxes of all hosts, in turn. */
static enum base_code take_from_explicits(struct work *w, struct base_err *err)
{
    const struct ptc_planner *planner = w->planner;
    uint32_t begin;
    uint32_t end;
    uint32_t at;

    ptc_planner_explicits(planner, w->tensor, PTC_NONE, &begin, &end);
    if (begin == end) {
        return BASE_OK;
    }
    at = begin + (uint32_t)(w->mix % (end - begin));
    for (uint32_t i = begin; i < end && w->rest.n > 0; i++) {
        uint32_t holding = planner->explicits[at].holding;

        w->held.n = 0;
        if (!ptc_boxes_add(&w->held, &planner->problem.holdings[holding].box,
                           PTC_NONE, holding) ||
            !ptc_boxes_take(&w->rest, &w->held, &w->moves, &w->scratch)) {
            return no_room(w, err);
        }
        at = at + 1 == end ? begin : at + 1;
    }
    return BASE_OK;
}

static enum base_code take_from_others(struct work *w, struct base_err *err)
{
    const struct ptc_planner *planner = w->planner;
    uint32_t n_names;
    const uint32_t *names = ptc_planner_names(planner, &w->tensor, &n_names);

    for (uint32_t o = 0; o < planner->n_origins; o++) {
        w->origin = &planner->origins[o];
        for (uint32_t i = 0; i < n_names && w->rest.n > 0; i++) {
            BASE_TRY(take_from_origin(w, names[i], err));
        }
    }
    if (w->rest.n > 0) {
        BASE_TRY(take_from_explicits(w, err));
    }
    if (w->rest.n > 0) {
        const struct ptc_tensor *tensor =
            ptc_table_tensor(planner->problem.table, w->tensor);
        char text[PTC_BOX_TEXT_BYTES];

        ptc_boxes_sort(&w->rest);
        return base_fail(err, BASE_NOT_FOUND,
                         "no host holds %s of tensor %.*s, which host %" PRIu32
                         " needs",
                         ptc_box_format(&w->rest.items[0].box, text),
                         BASE_STR_FMT(tensor->name), w->host);
    }
    return BASE_OK;
}

static enum base_code
plan_tensor(struct work *w, struct ptc_plan *plan, struct base_err *err)
{
    const struct ptc_planner *planner = w->planner;

    BASE_TRY(ptc_planner_needed(planner, w->host, w->tensor, &w->rest,
                                &w->scratch, err));
    if (w->rest.n == 0) {
        return BASE_OK;
    }
    w->moves.n = 0;
    BASE_TRY(ptc_planner_held(planner, w->host, w->tensor, &w->held, err));
    if (!ptc_boxes_take(&w->rest, &w->held, &w->moves, &w->scratch)) {
        return no_room(w, err);
    }
    if (w->rest.n > 0) {
        w->mix = mix(w->host, w->tensor);
        ptc_boxes_sort(&w->rest);
        ptc_boxes_join(&w->rest);
        BASE_TRY(take_from_others(w, err));
    }
    ptc_boxes_sort(&w->moves);
    ptc_boxes_join(&w->moves);
    for (size_t i = 0; i < w->moves.n; i++) {
        const struct ptc_tagged_box *move = &w->moves.items[i];
        struct record record = {
            .tensor = w->tensor,
            .from = planner->problem.holdings[move->holding].host,
            .to = w->host,
            .from_rank = move->rank,
            .holding = move->holding,
        };

        BASE_TRY(store(plan, record, &move->box, err));
    }
    return BASE_OK;
}

static enum base_code plan_host(const struct ptc_planner *planner,
                                uint32_t host,
                                struct ptc_plan *plan,
                                struct base_err *err)
{
    const struct ptc_table *table = planner->problem.table;
    uint32_t n_words = ptc_table_n_tensors(table) / 64 + 1;
    BASE_AUTO_MEM uint64_t *bits = NULL;
    AUTO_WORK work = {.planner = planner, .host = host};

    if (!base_vec_push(&plan->hosts, host)) {
        return ptc_planner_no_mem(err);
    }
    if (planner->to_at[host] == planner->to_at[host + 1]) {
        return BASE_OK; /* no rank here: nothing is needed */
    }
    bits = calloc(n_words, sizeof(*bits));
    if (bits == NULL) {
        return ptc_planner_no_mem(err);
    }
    ptc_planner_needed_bits(planner, host, bits);
    for (uint32_t i = 0; i < n_words; i++) {
        for (; bits[i] != 0; bits[i] &= bits[i] - 1) {
            work.tensor = i * 64 + (uint32_t)__builtin_ctzll(bits[i]);
            if (ptc_table_tensor(table, work.tensor)->tie == PTC_NONE) {
                BASE_TRY(plan_tensor(&work, plan, err));
            }
        }
    }
    return BASE_OK;
}

enum base_code ptc_planner_host(const struct ptc_planner *planner,
                                uint32_t host,
                                struct ptc_plan **plan,
                                struct base_err *err)
{
    BASE_AUTO(ptc_plan) made = NULL;

    if (host >= planner->problem.n_hosts) {
        return base_fail(err, BASE_BAD_ARG, "host %" PRIu32 " of %" PRIu32,
                         host, planner->problem.n_hosts);
    }
    if (*plan != NULL) {
        const struct ptc_plan *p = *plan;

        if (p->hosts.n > 0 && p->hosts.items[p->hosts.n - 1] >= host) {
            return base_fail(err, BASE_BAD_ARG,
                             "host %" PRIu32 " is planned after host %" PRIu32,
                             host, p->hosts.items[p->hosts.n - 1]);
        }
        return plan_host(planner, host, *plan, err);
    }
    made = calloc(1, sizeof(*made));
    if (made == NULL) {
        return ptc_planner_no_mem(err);
    }
    BASE_TRY(plan_host(planner, host, made, err));
    *plan = base_steal(&made);
    return BASE_OK;
}

/* Sums -------------------------------------------------------------------- */

/* A layout's boxes are whole bytes even where elements are not. */
static uint64_t bytes_of(const struct ptc_tensor *tensor, uint64_t n_elems)
{
    uint64_t bits = ptc_dtype_bits(tensor->dtype);

    return n_elems / 8 * bits + n_elems % 8 * bits / 8;
}

static void sum_moves(const struct ptc_planner *planner,
                      const struct ptc_plan *plan,
                      struct ptc_plan_totals *totals)
{
    struct ptc_move move;

    for (uint64_t i = 0; i < plan->moves.n; i++) {
        uint64_t n_bytes;

        ptc_plan_move(plan, i, &move);
        n_bytes =
            bytes_of(ptc_table_tensor(planner->problem.table, move.tensor),
                     ptc_box_elems(&move.box));
        if (move.from == move.to) {
            totals->kept_bytes += n_bytes;
            continue;
        }
        totals->moved_bytes += n_bytes;
        if (totals->received != NULL) {
            totals->received[move.to] += n_bytes;
        }
        if (totals->sent != NULL) {
            totals->sent[move.from] += n_bytes;
        }
    }
}

/* Coverage of one tensor on one host: needed, held, and needed but not held.
 * Knows nothing of moves. */
static enum base_code cover_tensor(struct work *w,
                                   struct ptc_plan_totals *totals,
                                   struct base_err *err)
{
    const struct ptc_tensor *tensor =
        ptc_table_tensor(w->planner->problem.table, w->tensor);
    uint64_t needed;
    uint64_t bound;

    BASE_TRY(ptc_planner_needed(w->planner, w->host, w->tensor, &w->rest,
                                &w->scratch, err));
    if (w->rest.n == 0 && totals->held == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_planner_held(w->planner, w->host, w->tensor, &w->held, err));
    needed = bytes_of(tensor, ptc_boxes_elems(&w->rest));
    if (!ptc_boxes_take(&w->rest, &w->held, NULL, &w->scratch)) {
        return no_room(w, err);
    }
    bound = bytes_of(tensor, ptc_boxes_elems(&w->rest));
    /* Every other sum over hosts is of a part of what is needed. */
    if (!base_add_u64(totals->needed_bytes, needed, &totals->needed_bytes) ||
        totals->needed_bytes > INT64_MAX) {
        return base_fail(err, BASE_LIMIT,
                         "all hosts together need 2^63 bytes or more");
    }
    totals->bound_bytes += bound;
    if (totals->needed != NULL) {
        totals->needed[w->host] += needed;
    }
    if (totals->bound != NULL) {
        totals->bound[w->host] += bound;
    }
    if (totals->held != NULL) {
        if (!ptc_boxes_union(&w->held, &w->scratch)) {
            return no_room(w, err);
        }
        totals->held[w->host] += bytes_of(tensor, ptc_boxes_elems(&w->held));
    }
    return BASE_OK;
}

enum base_code ptc_plan_sum(const struct ptc_planner *planner,
                            const struct ptc_plan *plan,
                            struct ptc_plan_totals *totals,
                            struct base_err *err)
{
    const struct ptc_table *table = planner->problem.table;
    uint64_t *const arrays[] = {totals->received, totals->sent, totals->needed,
                                totals->held, totals->bound};
    uint32_t n_words = ptc_table_n_tensors(table) / 64 + 1;
    BASE_AUTO_MEM uint64_t *bits = calloc(n_words, sizeof(*bits));
    AUTO_WORK work = {.planner = planner};

    if (bits == NULL) {
        return ptc_planner_no_mem(err);
    }
    for (size_t i = 0; i < sizeof(arrays) / sizeof(*arrays); i++) {
        if (arrays[i] != NULL) {
            memset(arrays[i], 0, planner->problem.n_hosts * sizeof(uint64_t));
        }
    }
    totals->needed_bytes = totals->kept_bytes = 0;
    totals->moved_bytes = totals->bound_bytes = 0;
    sum_moves(planner, plan, totals);
    for (size_t h = 0; h < plan->hosts.n; h++) {
        work.host = plan->hosts.items[h];
        ptc_planner_needed_bits(planner, work.host, bits);
        if (totals->held != NULL) {
            ptc_planner_held_bits(planner, work.host, bits);
        }
        for (uint32_t i = 0; i < n_words; i++) {
            for (; bits[i] != 0; bits[i] &= bits[i] - 1) {
                work.tensor = i * 64 + (uint32_t)__builtin_ctzll(bits[i]);
                if (ptc_table_tensor(table, work.tensor)->tie == PTC_NONE) {
                    BASE_TRY(cover_tensor(&work, totals, err));
                }
            }
        }
    }
    return BASE_OK;
}
