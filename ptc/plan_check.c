/* Is a plan right?  Written apart from the planner: it shares nothing with it
 * but the layout's boxes (ptc_layout_parts), and its method is another one.
 *
 * The planner takes boxes away from boxes.  Here only one number is computed,
 * the measure of a union of boxes (Klee's problem), by cutting space into
 * slabs, dimension after dimension.  With |X| the measure of a union and S the
 * sum over the moves of one (host, tensor), N what is needed, R what is
 * received from others, H what the host has:
 *   |moves| = S            the moves are disjoint
 *   |N u moves| = |N|      no move is outside of what is needed
 *   S = |N|                nothing needed is missing
 *   |H u R| = |H| + |R|    nothing is sent that the host has
 * and of each move: |move n boxes of its holding| = |move|.  The search for the
 * box to name in an error comes after one of these has failed. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "ptc/plan.h"

struct list {
    struct ptc_box *items;
    size_t n;
    size_t cap;
};

/* One check: of one host at a time. */
struct check {
    const struct ptc_problem *problem;
    const struct ptc_plan *plan;
    uint32_t host;
    uint32_t tensor;
    struct list needed;
    struct list moves;
    struct list received;
    struct list held;
    struct list scratch;
    const struct ptc_box *clip; /* collect only what lies in it, or NULL */
    struct list *into;
    uint32_t *next_name; /* per tensor: the next one with the same bytes,
                            beginning at the root; PTC_NONE ends */
    uint32_t n_own;
    ptc_rank *own; /* target ranks of the host */
};

static void check_done(struct check *c)
{
    base_vec_done(&c->needed);
    base_vec_done(&c->moves);
    base_vec_done(&c->received);
    base_vec_done(&c->held);
    base_vec_done(&c->scratch);
    free(c->next_name);
    free(c->own);
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "plan check: out of memory");
}

static enum base_code fail_at(const struct check *c,
                              const struct ptc_box *box,
                              const char *what,
                              struct base_err *err)
{
    char text[PTC_BOX_TEXT_BYTES];

    return base_fail(
        err, BASE_MISMATCH, "host %" PRIu32 ", tensor %.*s, box %s: %s",
        c->host,
        BASE_STR_FMT(ptc_table_tensor(c->problem->table, c->tensor)->name),
        ptc_box_format(box, text), what);
}

/* Measure ----------------------------------------------------------------- */

static int u64_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The measure of the union of boxes[0 .. n - 1], each a pointer, over the
 * dimensions from @d on.  The boxes that reach into a slab between two
 * neighbouring cut points all cross it; they are measured one dimension
 * further.  The pointers are permuted. */
static bool
measure(const struct ptc_box **boxes, size_t n, uint32_t d, uint64_t *ret);

static int begin_cmp(const void *a, const void *b, void *ctx)
{
    const struct ptc_box *x = *(const struct ptc_box *const *)a;
    const struct ptc_box *y = *(const struct ptc_box *const *)b;
    uint32_t d = *(const uint32_t *)ctx;

    return (x->begin[d] > y->begin[d]) - (x->begin[d] < y->begin[d]);
}

static bool
measure_slabs(const struct ptc_box **boxes, size_t n, uint32_t d, uint64_t *ret)
{
    BASE_AUTO_MEM uint64_t *cuts = calloc(2 * n, sizeof(*cuts));
    /* active boxes, then room for the recursion to permute */
    BASE_AUTO_MEM const struct ptc_box **active =
        calloc(2 * n, sizeof(*active));
    size_t n_active = 0;
    size_t next = 0;

    if (cuts == NULL || active == NULL) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        cuts[2 * i] = boxes[i]->begin[d];
        cuts[2 * i + 1] = boxes[i]->end[d];
    }
    qsort(cuts, 2 * n, sizeof(*cuts), u64_cmp);
    qsort_r(boxes, n, sizeof(*boxes), begin_cmp, &d);
    *ret = 0;
    for (size_t i = 0; i + 1 < 2 * n; i++) {
        size_t kept = 0;
        uint64_t inner;

        if (cuts[i] == cuts[i + 1]) {
            continue;
        }
        for (size_t k = 0; k < n_active; k++) {
            if (active[k]->end[d] > cuts[i]) {
                active[kept++] = active[k];
            }
        }
        while (next < n && boxes[next]->begin[d] == cuts[i]) {
            active[kept++] = boxes[next++];
        }
        n_active = kept;
        memcpy(active + n, active, n_active * sizeof(*active));
        if (!measure(active + n, n_active, d + 1, &inner)) {
            return false;
        }
        *ret += inner * (cuts[i + 1] - cuts[i]);
    }
    return true;
}

static bool
measure(const struct ptc_box **boxes, size_t n, uint32_t d, uint64_t *ret)
{
    uint64_t elems = 1;

    if (n == 0) {
        *ret = 0;
        return true;
    }
    if (n > 1 && d < boxes[0]->n_dims) {
        bool all_equal = true; /* then a slab is as good as whole space */

        for (size_t i = 1; i < n && all_equal; i++) {
            all_equal = boxes[i]->begin[d] == boxes[0]->begin[d] &&
                        boxes[i]->end[d] == boxes[0]->end[d];
        }
        if (!all_equal) {
            return measure_slabs(boxes, n, d, ret);
        }
        if (!measure(boxes, n, d + 1, ret)) {
            return false;
        }
        *ret *= boxes[0]->end[d] - boxes[0]->begin[d];
        return true;
    }
    for (; d < boxes[0]->n_dims; d++) {
        elems *= boxes[0]->end[d] - boxes[0]->begin[d];
    }
    *ret = elems;
    return true;
}

/* |a u b|; either may be NULL. */
static enum base_code union_elems(const struct list *a,
                                  const struct list *b,
                                  uint64_t *ret,
                                  struct base_err *err)
{
    size_t n_a = a == NULL ? 0 : a->n;
    size_t n_b = b == NULL ? 0 : b->n;
    BASE_AUTO_MEM const struct ptc_box **boxes = NULL;

    boxes = calloc(n_a + n_b + 1, sizeof(*boxes));
    if (boxes == NULL) {
        return no_mem(err);
    }
    for (size_t i = 0; i < n_a; i++) {
        boxes[i] = &a->items[i];
    }
    for (size_t i = 0; i < n_b; i++) {
        boxes[n_a + i] = &b->items[i];
    }
    return measure(boxes, n_a + n_b, 0, ret) ? BASE_OK : no_mem(err);
}

static uint64_t sum_elems(const struct list *list)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < list->n; i++) {
        sum += ptc_box_elems(&list->items[i]);
    }
    return sum;
}

/* Collecting -------------------------------------------------------------- */

static enum base_code
collect_box(struct check *c, const struct ptc_box *box, struct base_err *err)
{
    struct ptc_box common = *box;

    if (ptc_box_is_empty(box) ||
        (c->clip != NULL && !ptc_box_intersect(box, c->clip, &common))) {
        return BASE_OK;
    }
    /* Replicas come in runs or in turn: skip what is equal to the first or the
     * last box.  What is missed costs time, not truth. */
    if (c->into->n > 0 &&
        (ptc_box_eq(&c->into->items[0], &common) ||
         ptc_box_eq(&c->into->items[c->into->n - 1], &common))) {
        return BASE_OK;
    }
    return base_vec_push(c->into, common) ? BASE_OK : no_mem(err);
}

static enum base_code
collect_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    return collect_box(ctx, &part->box, err);
}

/* The boxes of the check's tensor, under all its names, on @rank. */
static enum base_code collect_rank(struct check *c,
                                   const struct ptc_layout *layout,
                                   ptc_rank rank,
                                   struct base_err *err)
{
    for (uint32_t t = c->tensor; t != PTC_NONE; t = c->next_name[t]) {
        BASE_TRY(ptc_layout_parts(layout, t, rank, collect_part, c, err));
    }
    return BASE_OK;
}

/* What a holding has of the check's tensor: of one rank, or of all its ranks
 * (PTC_NONE). */
static enum base_code collect_holding(struct check *c,
                                      const struct ptc_holding *holding,
                                      ptc_rank rank,
                                      struct base_err *err)
{
    if (holding->layout == NULL) {
        if (ptc_table_root(c->problem->table, holding->tensor) != c->tensor) {
            return BASE_OK;
        }
        return collect_box(c, &holding->box, err);
    }
    if (rank != PTC_NONE) {
        return collect_rank(c, holding->layout, rank, err);
    }
    for (uint32_t i = 0; i < holding->n_ranks; i++) {
        BASE_TRY(collect_rank(c, holding->layout, holding->ranks[i], err));
    }
    return BASE_OK;
}

/* Moves ------------------------------------------------------------------- */

static bool has_rank(const struct ptc_holding *holding, ptc_rank rank)
{
    for (uint32_t i = 0; i < holding->n_ranks; i++) {
        if (holding->ranks[i] == rank) {
            return true;
        }
    }
    return false;
}

/* A move by itself: its numbers mean something, and its holder has its box. */
static enum base_code
check_move(struct check *c, const struct ptc_move *move, struct base_err *err)
{
    const struct ptc_tensor *tensor =
        ptc_table_tensor(c->problem->table, move->tensor);
    const struct ptc_holding *holding;
    struct ptc_box whole = ptc_box_whole(tensor->n_dims, tensor->shape);
    uint64_t has;

    if (tensor->tie != PTC_NONE) {
        return fail_at(c, &move->box, "the tensor is a tie", err);
    }
    if (move->box.n_dims != tensor->n_dims || ptc_box_is_empty(&move->box) ||
        !ptc_box_contains(&whole, &move->box)) {
        return fail_at(c, &move->box, "not a box of the tensor", err);
    }
    if (move->holding >= c->problem->n_holdings) {
        return fail_at(c, &move->box, "from no holding", err);
    }
    holding = &c->problem->holdings[move->holding];
    if (holding->host != move->from) {
        return fail_at(c, &move->box, "the holding is of another host", err);
    }
    if (holding->layout == NULL ? move->from_rank != PTC_NONE
                                : !has_rank(holding, move->from_rank)) {
        return fail_at(c, &move->box, "the holding lacks the rank", err);
    }
    c->into = &c->scratch;
    c->into->n = 0;
    c->clip = &move->box;
    BASE_TRY(collect_holding(c, holding, move->from_rank, err));
    c->clip = NULL;
    BASE_TRY(union_elems(&c->scratch, NULL, &has, err));
    if (has != ptc_box_elems(&move->box)) {
        return fail_at(c, &move->box, "the holder does not have it", err);
    }
    return BASE_OK;
}

/* Does @b stand after @a in the order of a plan? */
static bool is_after(const struct ptc_move *a, const struct ptc_move *b)
{
    if (a->to != b->to) {
        return b->to > a->to;
    }
    if (a->tensor != b->tensor) {
        return b->tensor > a->tensor;
    }
    for (uint32_t d = 0; d < a->box.n_dims; d++) {
        if (a->box.begin[d] != b->box.begin[d]) {
            return b->box.begin[d] > a->box.begin[d];
        }
    }
    return false; /* the same first element: twice */
}

/* Collect and check the moves from *at on that are of the check's host and
 * tensor. */
static enum base_code
collect_moves(struct check *c, uint64_t *at, struct base_err *err)
{
    struct ptc_move move;

    c->moves.n = 0;
    c->received.n = 0;
    for (; *at < ptc_plan_n_moves(c->plan); (*at)++) {
        ptc_plan_move(c->plan, *at, &move);
        if (move.to != c->host || move.tensor != c->tensor) {
            break;
        }
        BASE_TRY(check_move(c, &move, err));
        if (!base_vec_push(&c->moves, move.box) ||
            (move.from != move.to && !base_vec_push(&c->received, move.box))) {
            return no_mem(err);
        }
    }
    return BASE_OK;
}

/* Errors ------------------------------------------------------------------ */

/* Name a box of @boxes that @others do not cover. */
static enum base_code fail_uncovered(struct check *c,
                                     const struct list *boxes,
                                     const struct list *others,
                                     const char *what,
                                     struct base_err *err)
{
    for (size_t i = 0; i < boxes->n; i++) {
        uint64_t covered;

        c->into = &c->scratch;
        c->into->n = 0;
        c->clip = &boxes->items[i];
        for (size_t k = 0; k < others->n; k++) {
            BASE_TRY(collect_box(c, &others->items[k], err));
        }
        c->clip = NULL;
        BASE_TRY(union_elems(&c->scratch, NULL, &covered, err));
        if (covered != ptc_box_elems(&boxes->items[i])) {
            return fail_at(c, &boxes->items[i], what, err);
        }
    }
    return fail_at(c, &boxes->items[0], what, err);
}

/* Name a box of @boxes that meets one of @others (another one, if they are the
 * same list). */
static enum base_code fail_common(struct check *c,
                                  const struct list *boxes,
                                  const struct list *others,
                                  const char *what,
                                  struct base_err *err)
{
    struct ptc_box common;

    for (size_t i = 0; i < boxes->n; i++) {
        for (size_t k = 0; k < others->n; k++) {
            if ((boxes != others || i != k) &&
                ptc_box_intersect(&boxes->items[i], &others->items[k],
                                  &common)) {
                return fail_at(c, &common, what, err);
            }
        }
    }
    return fail_at(c, &boxes->items[0], what, err);
}

/* Coverage ---------------------------------------------------------------- */

static enum base_code check_kept(struct check *c, struct base_err *err)
{
    uint64_t received = sum_elems(&c->received); /* known to be disjoint */
    uint64_t held;
    uint64_t both;

    if (c->received.n == 0) {
        return BASE_OK;
    }
    c->into = &c->held;
    c->into->n = 0;
    for (uint32_t i = 0; i < c->problem->n_holdings; i++) {
        if (c->problem->holdings[i].host == c->host) {
            BASE_TRY(
                collect_holding(c, &c->problem->holdings[i], PTC_NONE, err));
        }
    }
    BASE_TRY(union_elems(&c->held, NULL, &held, err));
    BASE_TRY(union_elems(&c->held, &c->received, &both, err));
    if (both != held + received) {
        return fail_common(c, &c->received, &c->held,
                           "sent to a host that has it", err);
    }
    return BASE_OK;
}

static enum base_code
check_tensor(struct check *c, uint64_t *at, struct base_err *err)
{
    uint64_t needed;
    uint64_t moved;
    uint64_t both;
    uint64_t sum;

    BASE_TRY(collect_moves(c, at, err));
    c->into = &c->needed;
    c->into->n = 0;
    for (uint32_t i = 0; i < c->n_own; i++) {
        BASE_TRY(collect_rank(c, c->problem->to, c->own[i], err));
    }
    if (c->needed.n == 0 && c->moves.n == 0) {
        return BASE_OK;
    }
    sum = sum_elems(&c->moves);
    BASE_TRY(union_elems(&c->moves, NULL, &moved, err));
    if (moved != sum) {
        return fail_common(c, &c->moves, &c->moves, "comes twice", err);
    }
    BASE_TRY(union_elems(&c->needed, NULL, &needed, err));
    BASE_TRY(union_elems(&c->needed, &c->moves, &both, err));
    if (both != needed) {
        return fail_uncovered(c, &c->moves, &c->needed,
                              "comes, but is not needed", err);
    }
    if (sum != needed) {
        return fail_uncovered(c, &c->needed, &c->moves,
                              "needed, but does not come", err);
    }
    return check_kept(c, err);
}

static enum base_code check_host(struct check *c, struct base_err *err)
{
    const struct ptc_problem *problem = c->problem;
    uint32_t n_ranks = ptc_layout_n_ranks(problem->to);
    uint32_t n_tensors = ptc_table_n_tensors(problem->table);
    uint64_t at = 0;
    struct ptc_move move = {0};

    c->n_own = 0;
    for (uint32_t r = 0; r < n_ranks; r++) {
        if (problem->rank_host[r] == c->host) {
            c->own[c->n_own++] = r;
        }
    }
    while (at < ptc_plan_n_moves(c->plan)) {
        ptc_plan_move(c->plan, at, &move);
        if (move.to >= c->host) {
            break;
        }
        at++;
    }
    for (uint32_t t = 0; t < n_tensors; t++) {
        if (ptc_table_tensor(problem->table, t)->tie == PTC_NONE) {
            c->tensor = t;
            BASE_TRY(check_tensor(c, &at, err));
        }
    }
    if (at < ptc_plan_n_moves(c->plan)) {
        ptc_plan_move(c->plan, at, &move);
        if (move.to == c->host) { /* of a tie */
            c->tensor = move.tensor;
            return check_move(c, &move, err);
        }
    }
    return BASE_OK;
}

/* The order of the moves, and that their tensors and hosts exist. */
static enum base_code check_order(const struct check *c, struct base_err *err)
{
    const struct ptc_problem *problem = c->problem;
    struct ptc_move last = {0};
    struct ptc_move move;

    for (uint64_t i = 0; i < ptc_plan_n_moves(c->plan); i++) {
        ptc_plan_move(c->plan, i, &move);
        if (move.tensor >= ptc_table_n_tensors(problem->table) ||
            move.to >= problem->n_hosts || move.from >= problem->n_hosts) {
            return base_fail(err, BASE_MISMATCH,
                             "move %" PRIu64 ": no tensor %" PRIu32
                             " or no host %" PRIu32 " or %" PRIu32,
                             i, move.tensor, move.from, move.to);
        }
        if (i > 0 && !is_after(&last, &move)) {
            return base_fail(err, BASE_MISMATCH,
                             "move %" PRIu64 ": out of order, or twice", i);
        }
        last = move;
    }
    return BASE_OK;
}

static enum base_code prepare(struct check *c, struct base_err *err)
{
    const struct ptc_table *table = c->problem->table;
    uint32_t n = ptc_table_n_tensors(table);

    c->next_name = calloc((size_t)n + 1, sizeof(*c->next_name));
    c->own =
        calloc((size_t)ptc_layout_n_ranks(c->problem->to) + 1, sizeof(*c->own));
    if (c->next_name == NULL || c->own == NULL) {
        return no_mem(err);
    }
    for (uint32_t t = 0; t < n; t++) {
        c->next_name[t] = PTC_NONE;
    }
    for (uint32_t t = 0; t < n; t++) {
        uint32_t root = ptc_table_root(table, t);

        if (root != t) { /* a tie, which nothing is tied to: chain it in */
            c->next_name[t] = c->next_name[root];
            c->next_name[root] = t;
        }
    }
    return BASE_OK;
}

enum base_code ptc_plan_check(const struct ptc_problem *problem,
                              const struct ptc_plan *plan,
                              uint32_t host_begin,
                              uint32_t host_end,
                              struct base_err *err)
{
    __attribute__((cleanup(check_done))) struct check c = {
        .problem = problem,
        .plan = plan,
    };

    BASE_TRY(prepare(&c, err));
    BASE_TRY(check_order(&c, err));
    for (uint32_t h = host_begin; h < host_end; h++) {
        c.host = h;
        BASE_TRY(check_host(&c, err));
    }
    return BASE_OK;
}
