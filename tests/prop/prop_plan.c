/* Plans of random problems, against a planner that looks at every element.
 *
 * A case: layouts over one table, ranks dealt to 1 to 6 hosts, some of which
 * are dead, ranks that are missing, ranks that two hosts hold, explicit boxes.
 * Of the plan:
 *   - each element that a host needs comes or is kept exactly once, from a
 *     host that holds it, and nothing else comes
 *   - moved bytes = bound = what the element by element planner says
 *   - it fails exactly when an element that is needed is on no host
 *   - planned again it is the same; one host's plan is its share
 *   - ptc_plan_check accepts it, and refuses it with one move changed
 * RETILE_CASES=N runs N cases, RETILE_SEED=S replays one. */
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "ptc/plan.h"
#include "tests/prop/random_layout.h"

#define MAX_HOSTS    6
#define MAX_HOLDINGS 64
#define PRESET_CASES 400

/* Everything about one case. */
struct fixture {
    uint64_t seed;
    uint64_t luck; /* state of the generator */
    struct random_problem random;
    struct ptc_layout *layouts[RANDOM_N_SPECS];
    uint32_t *rank_host;
    struct ptc_holding holdings[MAX_HOLDINGS];
    ptc_rank *ranks[MAX_HOLDINGS];
    struct ptc_problem problem;
    uint64_t *first; /* per tensor: its first element among all */
    uint64_t n_elems;
    uint8_t *needed[MAX_HOSTS]; /* per element */
    uint8_t *held[MAX_HOSTS];
};

static void done(struct fixture *f)
{
    for (unsigned i = 0; i < RANDOM_N_SPECS; i++) {
        ptc_layout_free(f->layouts[i]);
    }
    for (unsigned i = 0; i < MAX_HOLDINGS; i++) {
        free(f->ranks[i]);
    }
    for (unsigned h = 0; h < MAX_HOSTS; h++) {
        free(f->needed[h]);
        free(f->held[h]);
    }
    free(f->rank_host);
    free(f->first);
    random_problem_done(&f->random);
}

#define MUST(f, claim)                                                         \
    do {                                                                       \
        if (!(claim)) {                                                        \
            fail_msg("RETILE_SEED=%" PRIu64 ": %s", (f)->seed, #claim);        \
        }                                                                      \
    } while (0)

#define MUST_OK(f, call, err)                                                  \
    do {                                                                       \
        if ((call) != BASE_OK) {                                               \
            fail_msg("RETILE_SEED=%" PRIu64 ": %s: %s", (f)->seed, #call,      \
                     (err)->text);                                             \
        }                                                                      \
    } while (0)

/* Elements ---------------------------------------------------------------- */

/* Call on every element of a box: @marks is of the whole tensor. */
static void mark(const struct ptc_tensor *tensor,
                 const struct ptc_box *box,
                 uint8_t *marks,
                 unsigned add)
{
    uint64_t at[PTC_MAX_DIMS];
    uint64_t n = ptc_box_elems(box);

    memcpy(at, box->begin, sizeof(at));
    for (uint64_t i = 0; i < n; i++) {
        uint64_t idx = 0;

        for (uint32_t d = 0; d < tensor->n_dims; d++) {
            idx = idx * tensor->shape[d] + at[d];
        }
        marks[idx] = (uint8_t)(add ? marks[idx] + add : 1);
        for (uint32_t d = tensor->n_dims; d > 0; d--) {
            if (++at[d - 1] < box->end[d - 1]) {
                break;
            }
            at[d - 1] = box->begin[d - 1];
        }
    }
}

struct marker {
    const struct fixture *f;
    uint32_t tensor;
    uint8_t *marks;
};

static uint8_t *marks_of(const struct fixture *f, uint8_t *marks, uint32_t idx)
{
    return marks + f->first[ptc_table_root(f->problem.table, idx)];
}

static enum base_code
mark_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    const struct marker *m = ctx;

    (void)err;
    mark(ptc_table_tensor(m->f->problem.table, m->tensor), &part->box,
         marks_of(m->f, m->marks, m->tensor), 0);
    return BASE_OK;
}

static void mark_rank(const struct fixture *f,
                      const struct ptc_layout *layout,
                      ptc_rank rank,
                      uint8_t *marks)
{
    uint32_t n = ptc_table_n_tensors(f->problem.table);
    struct base_err err;

    for (uint32_t t = 0; t < n; t++) {
        struct marker m = {f, t, marks};

        MUST_OK(f, ptc_layout_parts(layout, t, rank, mark_part, &m, &err),
                &err);
    }
}

static void find_elements(struct fixture *f)
{
    const struct ptc_table *table = f->problem.table;
    uint32_t n = ptc_table_n_tensors(table);

    f->first = calloc((size_t)n + 1, sizeof(*f->first));
    assert_non_null(f->first);
    for (uint32_t t = 0; t < n; t++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(table, t);

        f->first[t + 1] =
            f->first[t] + (tensor->tie == PTC_NONE ? tensor->n_elems : 0);
    }
    f->n_elems = f->first[n];
    for (uint32_t h = 0; h < f->problem.n_hosts; h++) {
        f->needed[h] = calloc(f->n_elems + 1, 1);
        f->held[h] = calloc(f->n_elems + 1, 1);
        assert_true(f->needed[h] != NULL && f->held[h] != NULL);
    }
    for (uint32_t r = 0; r < ptc_layout_n_ranks(f->problem.to); r++) {
        mark_rank(f, f->problem.to, r, f->needed[f->rank_host[r]]);
    }
    for (uint32_t i = 0; i < f->problem.n_holdings; i++) {
        const struct ptc_holding *holding = &f->holdings[i];

        for (uint32_t k = 0; k < holding->n_ranks; k++) {
            mark_rank(f, holding->layout, holding->ranks[k],
                      f->held[holding->host]);
        }
        if (holding->layout == NULL) {
            mark(ptc_table_tensor(table, holding->tensor), &holding->box,
                 marks_of(f, f->held[holding->host], holding->tensor), 0);
        }
    }
}

/* Problems ---------------------------------------------------------------- */

static uint32_t below(struct fixture *f, uint32_t n)
{
    return (uint32_t)random_below(&f->luck, n);
}

/* Deal ranks to hosts: in blocks, or anyhow. */
static void deal(struct fixture *f, uint32_t n_ranks, uint32_t *host)
{
    ptc_ranks_in_blocks(n_ranks, f->problem.n_hosts, host);
    if (below(f, 3) == 0) {
        for (uint32_t r = 0; r < n_ranks; r++) {
            host[r] = below(f, f->problem.n_hosts);
        }
    }
}

static struct ptc_holding *new_holding(struct fixture *f, uint32_t host)
{
    struct ptc_holding *holding;

    if (f->problem.n_holdings == MAX_HOLDINGS) {
        return NULL;
    }
    holding = &f->holdings[f->problem.n_holdings++];
    holding->host = host;
    return holding;
}

/* Every host holds its ranks of @layout, but for dead hosts and lost ranks. */
static void hold_layout(struct fixture *f,
                        const struct ptc_layout *layout,
                        const uint32_t *host,
                        unsigned dead_of_16,
                        unsigned lost_of_16)
{
    uint32_t n_ranks = ptc_layout_n_ranks(layout);

    for (uint32_t h = 0; h < f->problem.n_hosts; h++) {
        struct ptc_holding *holding;
        ptc_rank *ranks;

        if (below(f, 16) < dead_of_16) {
            continue;
        }
        holding = new_holding(f, h);
        if (holding == NULL) {
            return;
        }
        ranks = calloc(n_ranks, sizeof(*ranks));
        assert_non_null(ranks);
        f->ranks[holding - f->holdings] = ranks;
        holding->layout = layout;
        holding->ranks = ranks;
        for (uint32_t r = 0; r < n_ranks; r++) {
            bool copy = below(f, 16) == 0; /* of another host's rank */

            if ((host[r] == h || copy) && below(f, 16) >= lost_of_16) {
                ranks[holding->n_ranks++] = r;
            }
        }
    }
}

static void hold_boxes(struct fixture *f, unsigned n)
{
    const struct ptc_table *table = f->problem.table;

    for (unsigned i = 0; i < n; i++) {
        uint32_t t = below(f, ptc_table_n_tensors(table));
        const struct ptc_tensor *tensor = ptc_table_tensor(table, t);
        struct ptc_holding *holding =
            new_holding(f, below(f, f->problem.n_hosts));

        if (holding == NULL) {
            return;
        }
        holding->tensor = t;
        holding->box = ptc_box_whole(tensor->n_dims, tensor->shape);
        for (uint32_t d = 0; d < tensor->n_dims; d++) {
            uint64_t size = tensor->shape[d];

            if (size == 0 || ptc_dtype_bits(tensor->dtype) < 8) {
                continue; /* whole: surely whole bytes */
            }
            holding->box.begin[d] = random_below(&f->luck, size);
            holding->box.end[d] =
                holding->box.begin[d] +
                random_below(&f->luck, size - holding->box.begin[d] + 1);
        }
    }
}

/* Returns whether target and holdings are the same. */
static bool fill_problem(struct fixture *f)
{
    uint32_t to = below(f, RANDOM_N_SPECS);
    uint32_t n_ranks = ptc_layout_n_ranks(f->layouts[to]);
    unsigned n_origins = 1 + below(f, 2);
    bool is_same = below(f, 8) == 0;
    unsigned lossy = below(f, 3); /* 0: everything is there */

    f->problem.table = f->random.table;
    f->problem.to = f->layouts[to];
    f->problem.n_hosts = 1 + below(f, MAX_HOSTS);
    f->problem.holdings = f->holdings;
    f->rank_host = calloc(n_ranks, sizeof(*f->rank_host));
    assert_non_null(f->rank_host);
    deal(f, n_ranks, f->rank_host);
    f->problem.rank_host = f->rank_host;
    if (is_same) {
        hold_layout(f, f->problem.to, f->rank_host, 0, 0);
        return true;
    }
    for (unsigned i = 0; i < n_origins; i++) {
        const struct ptc_layout *from = f->layouts[below(f, RANDOM_N_SPECS)];
        uint32_t n = ptc_layout_n_ranks(from);
        BASE_AUTO_MEM uint32_t *host = calloc(n, sizeof(*host));

        assert_non_null(host);
        deal(f, n, host);
        hold_layout(f, from, host, lossy == 2 ? 3 : 0,
                    lossy >= 1 ? 1 + below(f, 3) : 0);
    }
    if (below(f, 2) == 0) {
        hold_boxes(f, 1 + below(f, 20));
    }
    return false;
}

/* Checks ------------------------------------------------------------------ */

static uint64_t bytes(const struct ptc_tensor *tensor, uint64_t n_elems)
{
    return n_elems * ptc_dtype_bits(tensor->dtype) / 8;
}

/* Is there an element that @host needs and nobody holds? */
static bool is_lost(const struct fixture *f, uint32_t host)
{
    for (uint64_t i = 0; i < f->n_elems; i++) {
        bool is_held = !f->needed[host][i];

        for (uint32_t h = 0; h < f->problem.n_hosts && !is_held; h++) {
            is_held = f->held[h][i];
        }
        if (!is_held) {
            return true;
        }
    }
    return false;
}

/* The elements of all moves are those that are needed, each once, each from a
 * host that has it, and from home where it can be. */
static void check_elements(const struct fixture *f, const struct ptc_plan *plan)
{
    const struct ptc_table *table = f->problem.table;
    BASE_AUTO_MEM uint8_t *got = calloc(f->problem.n_hosts, f->n_elems + 1);
    BASE_AUTO_MEM uint8_t *one = calloc(f->n_elems + 1, 1);
    struct ptc_move move;

    assert_true(got != NULL && one != NULL);
    for (uint64_t i = 0; i < ptc_plan_n_moves(plan); i++) {
        const struct ptc_tensor *tensor;
        uint64_t first;
        uint8_t *marks;

        ptc_plan_move(plan, i, &move);
        tensor = ptc_table_tensor(table, move.tensor);
        MUST(f, tensor->tie == PTC_NONE);
        MUST(f, f->holdings[move.holding].host == move.from);
        first = f->first[move.tensor];
        marks = got + move.to * (f->n_elems + 1);
        mark(tensor, &move.box, marks + first, 1);
        memset(one, 0, f->n_elems);
        mark(tensor, &move.box, one + first, 0);
        for (uint64_t e = first; e < first + tensor->n_elems; e++) {
            MUST(f, !one[e] || f->held[move.from][e]);
            MUST(f, !one[e] || move.from == move.to || !f->held[move.to][e]);
        }
    }
    for (uint32_t h = 0; h < f->problem.n_hosts; h++) {
        MUST(f,
             memcmp(got + h * (f->n_elems + 1), f->needed[h], f->n_elems) == 0);
    }
}

static void check_sums(const struct fixture *f,
                       const struct ptc_planner *planner,
                       const struct ptc_plan *plan,
                       bool is_same)
{
    const struct ptc_table *table = f->problem.table;
    uint64_t received[MAX_HOSTS];
    uint64_t sent[MAX_HOSTS];
    uint64_t needed[MAX_HOSTS];
    uint64_t held[MAX_HOSTS];
    uint64_t bound[MAX_HOSTS];
    struct ptc_plan_totals totals = {.received = received,
                                     .sent = sent,
                                     .needed = needed,
                                     .held = held,
                                     .bound = bound};
    uint64_t all_sent = 0;
    uint64_t all_moved = 0;
    uint64_t all_needed = 0;
    struct base_err err;

    MUST_OK(f, ptc_plan_sum(planner, plan, &totals, &err), &err);
    for (uint32_t h = 0; h < f->problem.n_hosts; h++) {
        uint64_t sums[3] = {0}; /* needed, held, moved */

        for (uint32_t t = 0; t < ptc_table_n_tensors(table); t++) {
            uint64_t counts[3] = {0};

            for (uint64_t e = f->first[t]; e < f->first[t + 1]; e++) {
                counts[0] += f->needed[h][e];
                counts[1] += f->held[h][e];
                counts[2] += f->needed[h][e] && !f->held[h][e];
            }
            for (unsigned i = 0; i < 3; i++) {
                sums[i] += bytes(ptc_table_tensor(table, t), counts[i]);
            }
        }
        MUST(f, needed[h] == sums[0]);
        MUST(f, held[h] == sums[1]);
        MUST(f, received[h] == sums[2]);
        MUST(f, bound[h] == sums[2]);
        all_sent += sent[h];
        all_moved += sums[2];
        all_needed += sums[0];
    }
    MUST(f, totals.moved_bytes == all_moved);
    MUST(f, totals.bound_bytes == all_moved);
    MUST(f, totals.needed_bytes == all_needed);
    MUST(f, totals.kept_bytes == all_needed - all_moved);
    MUST(f, all_sent == all_moved);
    MUST(f, !is_same || all_moved == 0);
}

static bool are_equal(const struct ptc_move *a, const struct ptc_move *b)
{
    return a->tensor == b->tensor && a->from == b->from && a->to == b->to &&
           a->from_rank == b->from_rank && a->holding == b->holding &&
           ptc_box_eq(&a->box, &b->box);
}

/* A host that plans alone has the same moves. */
static void check_shares(const struct fixture *f, const struct ptc_plan *plan)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    struct base_err err;
    uint64_t at = 0;

    MUST_OK(f, ptc_planner_create(&f->problem, &planner, &err), &err);
    for (uint32_t h = 0; h < f->problem.n_hosts; h++) {
        BASE_AUTO(ptc_plan) share = NULL;

        MUST_OK(f, ptc_planner_host(planner, h, &share, &err), &err);
        for (uint64_t i = 0; i < ptc_plan_n_moves(share); i++) {
            struct ptc_move a;
            struct ptc_move b;

            MUST(f, at < ptc_plan_n_moves(plan));
            ptc_plan_move(share, i, &a);
            ptc_plan_move(plan, at++, &b);
            MUST(f, are_equal(&a, &b));
        }
    }
    MUST(f, at == ptc_plan_n_moves(plan));
}

/* Change one move: drop it, repeat it, or shift it by one element. */
static uint64_t mutate(struct fixture *f, struct ptc_move *moves, uint64_t n)
{
    uint64_t at = random_below(&f->luck, n);
    uint32_t n_dims = moves[at].box.n_dims;
    uint32_t d;

    switch (n_dims == 0 ? below(f, 2) : below(f, 3)) {
    case 0:
        memmove(&moves[at], &moves[at + 1], (n - at - 1) * sizeof(*moves));
        return n - 1;
    case 1:
        memmove(&moves[at + 1], &moves[at], (n - at) * sizeof(*moves));
        return n + 1;
    default:
        d = below(f, n_dims);
        moves[at].box.begin[d]++;
        moves[at].box.end[d]++;
        return n;
    }
}

static void check_mutants(struct fixture *f, const struct ptc_plan *plan)
{
    uint64_t n = ptc_plan_n_moves(plan);
    BASE_AUTO_MEM struct ptc_move *moves = calloc(n + 1, sizeof(*moves));
    struct base_err err;

    assert_non_null(moves);
    for (unsigned i = 0; i < 3 && n > 0; i++) {
        BASE_AUTO(ptc_plan) mutant = NULL;
        uint64_t n_mutant;

        for (uint64_t k = 0; k < n; k++) {
            ptc_plan_move(plan, k, &moves[k]);
        }
        n_mutant = mutate(f, moves, n);
        MUST_OK(f, ptc_plan_of_moves(moves, n_mutant, &mutant, &err), &err);
        MUST(f, ptc_plan_check(&f->problem, mutant, 0, f->problem.n_hosts,
                               &err) == BASE_MISMATCH);
    }
}

/* What the cases were, for a line at the end. */
struct tally {
    uint64_t n_lost;
    uint64_t n_moves;
    uint64_t n_moved_bytes;
    uint64_t n_kept_only;
};

static void run_case(uint64_t seed, struct tally *tally)
{
    __attribute__((cleanup(done))) struct fixture f = {
        .seed = seed,
        .luck = seed ^ 0x706c616e,
    };
    BASE_AUTO(ptc_planner) planner = NULL;
    BASE_AUTO(ptc_plan) plan = NULL;
    struct ptc_plan_totals totals = {0};
    struct base_err err;
    bool is_same;

    MUST(&f, random_problem(seed, &f.random) == BASE_OK);
    for (unsigned i = 0; i < RANDOM_N_SPECS; i++) {
        MUST_OK(&f, random_problem_bind(&f.random, i, &f.layouts[i], &err),
                &err);
    }
    is_same = fill_problem(&f);
    find_elements(&f);
    MUST_OK(&f, ptc_planner_create(&f.problem, &planner, &err), &err);
    for (uint32_t h = 0; h < f.problem.n_hosts; h++) {
        if (is_lost(&f, h)) {
            MUST(&f,
                 ptc_planner_host(planner, h, &plan, &err) == BASE_NOT_FOUND);
            tally->n_lost++;
            return;
        }
        MUST_OK(&f, ptc_planner_host(planner, h, &plan, &err), &err);
    }
    check_elements(&f, plan);
    check_sums(&f, planner, plan, is_same);
    check_shares(&f, plan);
    MUST_OK(&f, ptc_plan_check(&f.problem, plan, 0, f.problem.n_hosts, &err),
            &err);
    check_mutants(&f, plan);
    MUST_OK(&f, ptc_plan_sum(planner, plan, &totals, &err), &err);
    tally->n_moves += ptc_plan_n_moves(plan);
    tally->n_moved_bytes += totals.moved_bytes;
    tally->n_kept_only += totals.moved_bytes == 0;
}

static void test_plans_agree_with_a_planner_of_elements(void **state)
{
    uint64_t n = random_n_cases(PRESET_CASES);
    struct tally tally = {0};

    (void)state;
    (void)printf("prop_plan: %" PRIu64 " cases, seeds from %" PRIu64 "\n", n,
                 random_seed(0));
    for (uint64_t i = 0; i < n; i++) {
        run_case(random_seed(i), &tally);
    }
    (void)printf(
        "prop_plan: %" PRIu64 " moves, %" PRIu64 " bytes moved; %" PRIu64
        " cases kept all, in %" PRIu64 " something was lost\n",
        tally.n_moves, tally.n_moved_bytes, tally.n_kept_only, tally.n_lost);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plans_agree_with_a_planner_of_elements),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
