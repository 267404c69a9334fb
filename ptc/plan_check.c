/* Is a plan right?  Written apart from the planner: it shares nothing with it
 * but the layout's boxes (ptc_layout_parts) and which tensors a rank has, and its
 * method is another one.
 *
 * The planner takes boxes away from boxes.  Here only one number is computed,
 * the measure of a union of boxes (ptc/measure.c).  With |X| the measure of a union and S the
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
#include "ptc/measure.h"
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
    bool has_ties;
    uint32_t *own_at;   /* n_hosts + 1: into own */
    ptc_rank *own;      /* target ranks of each host */
    uint32_t *held_at;  /* n_hosts + 1: into holdings */
    uint32_t *holdings; /* of each host: layouts', then boxes by root */
    uint64_t *bits;     /* of the tensors to look at on the host */
    uint64_t next_move; /* moves before it are of earlier hosts */
    BASE_VEC(const struct ptc_box *) pointers;
};

static void check_done(struct check *c)
{
    base_vec_done(&c->needed);
    base_vec_done(&c->moves);
    base_vec_done(&c->received);
    base_vec_done(&c->held);
    base_vec_done(&c->scratch);
    base_vec_done(&c->pointers);
    free(c->next_name);
    free(c->own_at);
    free(c->own);
    free(c->held_at);
    free(c->holdings);
    free(c->bits);
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

/* |a u b|; either may be NULL. */
static enum base_code union_elems(struct check *c,
                                  const struct list *a,
                                  const struct list *b,
                                  uint64_t *ret,
                                  struct base_err *err)
{
    size_t n_a = a == NULL ? 0 : a->n;
    size_t n_b = b == NULL ? 0 : b->n;
    const struct ptc_box **boxes;

    if (!base_vec_reserve(&c->pointers, n_a + n_b)) {
        return no_mem(err);
    }
    boxes = c->pointers.items;
    for (size_t i = 0; i < n_a; i++) {
        boxes[i] = &a->items[i];
    }
    for (size_t i = 0; i < n_b; i++) {
        boxes[n_a + i] = &b->items[i];
    }
    return ptc_measure(boxes, n_a + n_b, ret) ? BASE_OK : no_mem(err);
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
        BASE_TRY(c->clip == NULL
                     ? ptc_layout_parts(layout, t, rank, collect_part, c, err)
                     : ptc_layout_parts_in(layout, t, rank, c->clip,
                                           collect_part, c, err));
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

static int u32_cmp(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static bool has_rank(const struct ptc_holding *holding, ptc_rank rank)
{
    return bsearch(&rank, holding->ranks, holding->n_ranks, sizeof(rank),
                   u32_cmp) != NULL;
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
    BASE_TRY(union_elems(c, &c->scratch, NULL, &has, err));
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

/* Collect and check the next moves, those of the check's host and tensor. */
static enum base_code collect_moves(struct check *c, struct base_err *err)
{
    struct ptc_move move;

    c->moves.n = 0;
    c->received.n = 0;
    for (; c->next_move < ptc_plan_n_moves(c->plan); c->next_move++) {
        ptc_plan_move(c->plan, c->next_move, &move);
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
        BASE_TRY(union_elems(c, &c->scratch, NULL, &covered, err));
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

/* Where among the holdings of a host the boxes of tensor @root begin. */
static uint32_t
boxes_begin(const struct check *c, uint32_t begin, uint32_t end, uint32_t root)
{
    while (begin < end) {
        uint32_t mid = begin + (end - begin) / 2;
        const struct ptc_holding *holding =
            &c->problem->holdings[c->holdings[mid]];

        if (holding->layout != NULL ||
            ptc_table_root(c->problem->table, holding->tensor) < root) {
            begin = mid + 1;
        } else {
            end = mid;
        }
    }
    return begin;
}

/* All that the host has of the check's tensor. */
static enum base_code collect_held(struct check *c, struct base_err *err)
{
    const struct ptc_holding *holdings = c->problem->holdings;
    uint32_t begin = c->held_at[c->host];
    uint32_t end = c->held_at[c->host + 1];
    uint32_t boxes = boxes_begin(c, begin, end, c->tensor);

    c->into = &c->held;
    c->into->n = 0;
    for (uint32_t i = begin; i < end && holdings[c->holdings[i]].layout != NULL;
         i++) {
        BASE_TRY(collect_holding(c, &holdings[c->holdings[i]], PTC_NONE, err));
    }
    end = boxes_begin(c, boxes, end, c->tensor + 1);
    for (uint32_t i = boxes; i < end; i++) {
        BASE_TRY(collect_holding(c, &holdings[c->holdings[i]], PTC_NONE, err));
    }
    return BASE_OK;
}

static enum base_code check_kept(struct check *c, struct base_err *err)
{
    uint64_t received = sum_elems(&c->received); /* known to be disjoint */
    uint64_t held;
    uint64_t both;

    if (c->received.n == 0) {
        return BASE_OK;
    }
    BASE_TRY(collect_held(c, err));
    BASE_TRY(union_elems(c, &c->held, NULL, &held, err));
    BASE_TRY(union_elems(c, &c->held, &c->received, &both, err));
    if (both != held + received) {
        return fail_common(c, &c->received, &c->held,
                           "sent to a host that has it", err);
    }
    return BASE_OK;
}

static enum base_code check_tensor(struct check *c, struct base_err *err)
{
    uint64_t needed;
    uint64_t moved;
    uint64_t both;
    uint64_t sum;

    BASE_TRY(collect_moves(c, err));
    c->into = &c->needed;
    c->into->n = 0;
    for (uint32_t i = c->own_at[c->host]; i < c->own_at[c->host + 1]; i++) {
        BASE_TRY(collect_rank(c, c->problem->to, c->own[i], err));
    }
    if (c->needed.n == 0 && c->moves.n == 0) {
        return BASE_OK;
    }
    sum = sum_elems(&c->moves);
    BASE_TRY(union_elems(c, &c->moves, NULL, &moved, err));
    if (moved != sum) {
        return fail_common(c, &c->moves, &c->moves, "comes twice", err);
    }
    BASE_TRY(union_elems(c, &c->needed, NULL, &needed, err));
    BASE_TRY(union_elems(c, &c->needed, &c->moves, &both, err));
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

static void bit_set(struct check *c, uint32_t tensor)
{
    uint32_t root = ptc_table_root(c->problem->table, tensor);

    c->bits[root / 64] |= UINT64_C(1) << root % 64;
}

/* Set the bits of the roots that the host needs, or that moves to it are of. */
static void find_tensors(struct check *c)
{
    uint32_t n_tensors = ptc_table_n_tensors(c->problem->table);
    struct ptc_move move;

    memset(c->bits, 0, (n_tensors / 64 + 1) * sizeof(*c->bits));
    for (uint32_t i = c->own_at[c->host]; i < c->own_at[c->host + 1]; i++) {
        ptc_layout_tensors(c->problem->to, c->own[i], c->bits);
    }
    for (uint32_t t = 0; c->has_ties && t < n_tensors; t++) {
        if (c->bits[t / 64] >> t % 64 & 1) {
            bit_set(c, t);
        }
    }
    for (uint64_t i = c->next_move; i < ptc_plan_n_moves(c->plan); i++) {
        ptc_plan_move(c->plan, i, &move);
        if (move.to != c->host) {
            break;
        }
        bit_set(c, move.tensor);
    }
}

static enum base_code check_host(struct check *c, struct base_err *err)
{
    const struct ptc_table *table = c->problem->table;
    uint32_t n_words = ptc_table_n_tensors(table) / 64 + 1;
    struct ptc_move move = {0};

    find_tensors(c);
    for (uint32_t i = 0; i < n_words; i++) {
        for (; c->bits[i] != 0; c->bits[i] &= c->bits[i] - 1) {
            c->tensor = i * 64 + (uint32_t)__builtin_ctzll(c->bits[i]);
            if (ptc_table_tensor(table, c->tensor)->tie == PTC_NONE) {
                BASE_TRY(check_tensor(c, err));
            }
        }
    }
    if (c->next_move < ptc_plan_n_moves(c->plan)) {
        ptc_plan_move(c->plan, c->next_move, &move);
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

/* The names of each tensor. */
static void chain_names(struct check *c)
{
    const struct ptc_table *table = c->problem->table;
    uint32_t n = ptc_table_n_tensors(table);

    for (uint32_t t = 0; t < n; t++) {
        c->next_name[t] = PTC_NONE;
    }
    for (uint32_t t = 0; t < n; t++) {
        uint32_t root = ptc_table_root(table, t);

        if (root != t) { /* a tie, which nothing is tied to: chain it in */
            c->next_name[t] = c->next_name[root];
            c->next_name[root] = t;
            c->has_ties = true;
        }
    }
}

/* What the indices below rely on. */
static enum base_code check_hosts(const struct ptc_problem *problem,
                                  struct base_err *err)
{
    uint32_t n_ranks = ptc_layout_n_ranks(problem->to);
    bool is_right = true;

    for (uint32_t r = 0; r < n_ranks; r++) {
        is_right = is_right && problem->rank_host[r] < problem->n_hosts;
    }
    for (uint32_t i = 0; i < problem->n_holdings; i++) {
        is_right = is_right && problem->holdings[i].host < problem->n_hosts;
    }
    return is_right ? BASE_OK
                    : base_fail(err, BASE_BAD_ARG,
                                "a rank or a holding is on no host");
}

/* The target ranks of each host. */
static void index_ranks(struct check *c)
{
    const struct ptc_problem *problem = c->problem;
    uint32_t n_ranks = ptc_layout_n_ranks(problem->to);
    uint32_t *at = c->own_at;

    for (uint32_t r = 0; r < n_ranks; r++) {
        at[problem->rank_host[r] + 1]++;
    }
    for (uint32_t h = 0; h < problem->n_hosts; h++) {
        at[h + 1] += at[h];
    }
    for (uint32_t r = n_ranks; r-- > 0;) { /* from the ends, which sink */
        c->own[--at[problem->rank_host[r] + 1]] = r;
    }
    /* at[h + 1] is now where host h begins. */
    memmove(at, at + 1, problem->n_hosts * sizeof(*at));
    at[problem->n_hosts] = n_ranks;
}

static int holding_cmp(const void *a, const void *b, void *ctx)
{
    const struct ptc_problem *problem = ctx;
    uint32_t i = *(const uint32_t *)a;
    uint32_t k = *(const uint32_t *)b;
    const struct ptc_holding *x = &problem->holdings[i];
    const struct ptc_holding *y = &problem->holdings[k];

    if (x->host != y->host) {
        return x->host < y->host ? -1 : 1;
    }
    if ((x->layout == NULL) != (y->layout == NULL)) {
        return x->layout != NULL ? -1 : 1;
    }
    if (x->layout == NULL) {
        uint32_t s = ptc_table_root(problem->table, x->tensor);
        uint32_t t = ptc_table_root(problem->table, y->tensor);

        if (s != t) {
            return s < t ? -1 : 1;
        }
    }
    return (i > k) - (i < k);
}

/* The holdings of each host. */
static void index_holdings(struct check *c)
{
    struct ptc_problem problem = *c->problem;

    for (uint32_t i = 0; i < problem.n_holdings; i++) {
        c->holdings[i] = i;
        c->held_at[problem.holdings[i].host + 1]++;
    }
    for (uint32_t h = 0; h < problem.n_hosts; h++) {
        c->held_at[h + 1] += c->held_at[h];
    }
    qsort_r(c->holdings, problem.n_holdings, sizeof(*c->holdings), holding_cmp,
            &problem);
}

static enum base_code prepare(struct check *c, struct base_err *err)
{
    const struct ptc_problem *problem = c->problem;
    size_t n_tensors = ptc_table_n_tensors(problem->table);
    size_t n_hosts = problem->n_hosts;
    size_t n_ranks = ptc_layout_n_ranks(problem->to);

    c->next_name = calloc(n_tensors + 1, sizeof(*c->next_name));
    c->bits = calloc(n_tensors / 64 + 1, sizeof(*c->bits));
    c->own_at = calloc(n_hosts + 1, sizeof(*c->own_at));
    c->own = calloc(n_ranks + 1, sizeof(*c->own));
    c->held_at = calloc(n_hosts + 1, sizeof(*c->held_at));
    c->holdings = calloc((size_t)problem->n_holdings + 1, sizeof(*c->holdings));
    if (c->next_name == NULL || c->bits == NULL || c->own_at == NULL ||
        c->own == NULL || c->held_at == NULL || c->holdings == NULL) {
        return no_mem(err);
    }
    chain_names(c);
    index_ranks(c);
    index_holdings(c);
    return BASE_OK;
}

/* The first move that is to host @host or a later one. */
static uint64_t first_move(const struct ptc_plan *plan, uint32_t host)
{
    uint64_t low = 0;
    uint64_t high = ptc_plan_n_moves(plan);

    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        struct ptc_move move;

        ptc_plan_move(plan, mid, &move);
        if (move.to < host) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
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

    BASE_TRY(check_hosts(problem, err));
    BASE_TRY(prepare(&c, err));
    BASE_TRY(check_order(&c, err));
    c.next_move = first_move(plan, host_begin);
    for (uint32_t h = host_begin; h < host_end; h++) {
        c.host = h;
        BASE_TRY(check_host(&c, err));
    }
    return BASE_OK;
}
