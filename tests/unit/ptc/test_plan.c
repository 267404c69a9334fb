/* Plans of problems small enough to be worked out by hand. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/ptc/plan_fixture.h"

#define ONE_RANK "{mesh: {}, rules: [{match: '*'}]}"
#define TP2      "{mesh: {tp: 2}, rules: [{match: '*', dims: [tp]}]}"
#define TP4      "{mesh: {tp: 4}, rules: [{match: '*', dims: [tp]}]}"
#define COLS2    "{mesh: {tp: 2}, rules: [{match: '*', dims: [~, tp]}]}"
#define DP2      "{mesh: {dp: 2}, rules: [{match: '*'}]}"

static const struct fixture_tensor one_matrix[] = {
    {.name = "w", .dtype = PTC_F32, .n_dims = 2, .shape = {8, 4}},
};

/* "embed" on the first stage, "head" on the last. */
#define ENDS                                                                   \
    "{mesh: {pp: 2}, stages: {axis: pp, layer: '(\\d+)'},"                     \
    " rules: [{match: embed, stage: first}, {match: head, stage: last}]}"

/* A move, as a test writes it: dimensions 0 and 1. */
struct expected {
    uint32_t from;
    uint32_t to;
    uint32_t from_rank;
    uint64_t begin[2];
    uint64_t end[2];
};

static void assert_moves(const struct ptc_plan *plan,
                         const struct expected *expected,
                         size_t n)
{
    assert_int_equal(ptc_plan_n_moves(plan), n);
    for (size_t i = 0; i < n; i++) {
        struct ptc_move move;

        ptc_plan_move(plan, i, &move);
        assert_int_equal(move.tensor, 0);
        assert_int_equal(move.from, expected[i].from);
        assert_int_equal(move.to, expected[i].to);
        assert_int_equal(move.from_rank, expected[i].from_rank);
        for (uint32_t d = 0; d < move.box.n_dims; d++) {
            assert_int_equal(move.box.begin[d], expected[i].begin[d]);
            assert_int_equal(move.box.end[d], expected[i].end[d]);
        }
    }
}

/* @n tensors like one_matrix[0]. */
static void
many_matrices(struct fixture_tensor *ret, char (*names)[8], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "t%02u", (unsigned)i);
        ret[i] = one_matrix[0];
        ret[i].name = names[i];
    }
}

static void test_a_half_is_kept_and_a_half_moves(void **state)
{
    static const struct expected expected[] = {
        {0, 0, 0, {0, 0}, {4, 4}},
        {1, 0, 1, {4, 0}, {8, 4}},
    };
    struct ptc_plan_totals totals = {0};
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 2);
    fixture_to(&f, ONE_RANK, (uint32_t[]){0});
    fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 1);
    fixture_hold(&f, 1, f.layouts[1], 1, 1);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
    fixture_sum(&f, plan, &totals);
    assert_int_equal(totals.needed_bytes, 128);
    assert_int_equal(totals.kept_bytes, 64);
    assert_int_equal(totals.moved_bytes, 64);
    assert_int_equal(totals.bound_bytes, 64);
}

static void test_cuts_of_two_dimensions_cross(void **state)
{
    /* host 1 is new; rows become columns */
    static const struct expected expected[] = {
        {0, 0, 0, {0, 0}, {4, 2}},
        {0, 0, 1, {4, 0}, {8, 2}},
        {0, 1, 0, {0, 2}, {4, 4}},
        {0, 1, 1, {4, 2}, {8, 4}},
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 2);
    fixture_to(&f, COLS2, (uint32_t[]){0, 1});
    fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 2);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_the_same_layout_and_hosts_move_nothing(void **state)
{
    struct ptc_plan_totals totals = {0};
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 2);
    fixture_to(&f, TP4, (uint32_t[]){0, 0, 1, 1});
    fixture_hold(&f, 0, f.problem.to, 0, 2);
    fixture_hold(&f, 1, f.problem.to, 2, 2);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    fixture_sum(&f, plan, &totals);
    assert_int_equal(totals.moved_bytes, 0);
    assert_int_equal(totals.kept_bytes, 128);
}

static void test_what_two_ranks_of_a_host_need_comes_once(void **state)
{
    static const struct expected expected[] = {
        {0, 1, 0, {0, 0}, {8, 4}},
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 2);
    fixture_to(&f, DP2, (uint32_t[]){1, 1});
    fixture_hold(&f, 0, fixture_layout(&f, ONE_RANK), 0, 1);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_neighbours_from_one_holder_are_one_move(void **state)
{
    static const struct expected expected[] = {
        {0, 1, 0, {0, 0}, {4, 4}},
        {0, 1, 1, {4, 0}, {8, 4}},
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 2);
    fixture_to(&f, TP4, (uint32_t[]){1, 1, 1, 1});
    fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 2);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_cells_that_touch_are_one_move(void **state)
{
    /* b is on both stages; in the first, a lies before it in the flat, so that
     * the stages cut it at different places: [0:4] and [4:8] are two cells,
     * and rank 1 has both. */
    static const struct fixture_tensor tensors[] = {
        {.name = "a.0", .dtype = PTC_F32, .n_dims = 1, .shape = {8}},
        {.name = "b", .dtype = PTC_F32, .n_dims = 1, .shape = {8}},
    };
    struct ptc_move move;
    FIXTURE f;

    (void)state;
    fixture_init(&f, tensors, 2, 2);
    fixture_to(&f, ONE_RANK, (uint32_t[]){1});
    (void)fixture_layout(&f, "{mesh: {pp: 2, dp: 2},"
                             " stages: {axis: pp, layer: 'a\\.(\\d+)'},"
                             " flats: {all: {over: [dp]}},"
                             " rules: [{match: a.0, stage: first, flat: all},"
                             " {match: b, flat: all}]}");
    fixture_hold(&f, 0, f.layouts[1], 0, 2);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_int_equal(ptc_plan_n_moves(plan), 2);
    for (uint32_t i = 0; i < 2; i++) {
        ptc_plan_move(plan, i, &move);
        assert_int_equal(move.tensor, i);
        assert_int_equal(move.from_rank, i);
        assert_int_equal(ptc_box_elems(&move.box), 8);
    }
}

static void test_replicas_share_the_load(void **state)
{
    struct fixture_tensor tensors[64];
    char names[64][8];
    uint64_t sent[5] = {0};
    struct ptc_plan_totals totals = {.sent = sent};
    FIXTURE f;

    (void)state;
    many_matrices(tensors, names, 64);
    fixture_init(&f, tensors, 64, 5);
    fixture_to(&f, ONE_RANK, (uint32_t[]){4});
    (void)fixture_layout(&f, "{mesh: {dp: 4}, rules: [{match: '*'}]}");
    for (uint32_t h = 0; h < 4; h++) {
        fixture_hold(&f, h, f.layouts[1], h, 1);
    }
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    fixture_sum(&f, plan, &totals);
    for (uint32_t h = 0; h < 4; h++) {
        assert_in_range(sent[h], 8 * 128, 24 * 128); /* 16 of 64 each */
    }
    assert_int_equal(sent[4], 0);
}

static void test_a_replica_stands_in_for_a_dead_host(void **state)
{
    static const struct expected expected[] = {
        {1, 2, 1, {0, 0}, {8, 4}},
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 3); /* host 0, with rank 0, is dead */
    fixture_to(&f, ONE_RANK, (uint32_t[]){2});
    fixture_hold(&f, 1, fixture_layout(&f, DP2), 1, 1);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_a_byte_that_nobody_holds_is_named(void **state)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    BASE_AUTO(ptc_plan) plan = NULL;
    struct base_err err;
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 2);
    fixture_to(&f, ONE_RANK, (uint32_t[]){1});
    fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 1);
    fixture_hold_box(&f, 0, "w", 5, 8);
    assert_ok(ptc_planner_create(&f.problem, &planner, &err), &err);
    assert_int_equal(ptc_planner_host(planner, 1, &plan, &err), BASE_NOT_FOUND);
    assert_string_equal(
        err.text, "no host holds [4:5, 0:4] of tensor w, which host 1 needs");
    assert_null(plan);
}

/* "w", each of its two dimensions in @n segments of two: @n * @n boxes on each
 * of four ranks, four times as many cells. */
static struct ptc_layout *layout_of_segments(struct fixture *f, unsigned n)
{
    BASE_AUTO_BUF spec;
    struct base_err err;

    base_buf_init(&spec, 1 << 16);
    (void)base_buf_addf(&spec, "{mesh: {a: 2, b: 2}, rules: [{match: v}, "
                               "{match: w, dims: [a, b], segments: {");
    for (unsigned d = 0; d < 2; d++) {
        (void)base_buf_addf(&spec, "%s%u: [2", d > 0 ? ", " : "", d);
        for (unsigned i = 1; i < n; i++) {
            (void)base_buf_addf(&spec, ",2");
        }
        (void)base_buf_addf(&spec, "]");
    }
    (void)base_buf_addf(&spec, "}}]}");
    assert_ok(base_buf_check(&spec, &err), &err);
    return fixture_layout(f, spec.ptr);
}

static void
refuses_pieces(unsigned n_segments, uint32_t holder, const char *text)
{
    const struct fixture_tensor tensors[] = {
        {.name = "v", .dtype = PTC_F32, .n_dims = 1, .shape = {4}},
        {.name = "w",
         .dtype = PTC_F32,
         .n_dims = 2,
         .shape = {2 * n_segments, 2 * n_segments}},
    };
    BASE_AUTO(ptc_planner) planner = NULL;
    BASE_AUTO(ptc_plan) plan = NULL;
    struct base_err err;
    FIXTURE f;

    fixture_init(&f, tensors, 2, 2);
    fixture_to(&f, ONE_RANK, (uint32_t[]){1});
    fixture_hold(&f, holder, layout_of_segments(&f, n_segments), 0, 4);
    assert_ok(ptc_planner_create(&f.problem, &planner, &err), &err);
    assert_int_equal(ptc_planner_host(planner, 1, &plan, &err), BASE_LIMIT);
    assert_string_equal(err.text, text);
    assert_null(plan);
}

static void test_more_pieces_than_the_limit_are_refused(void **state)
{
    (void)state;
    refuses_pieces(1500, 0,
                   "tensor w falls into 9000000 pieces or more on host 1, at "
                   "most 8388608"); /* that come */
    refuses_pieces(3000, 1,
                   "tensor w falls into 9000000 pieces or more on host 1, at "
                   "most 8388608"); /* that one rank here has */
}

static void test_explicit_boxes_come_first_at_home_and_last_abroad(void **state)
{
    static const struct expected expected[] = {
        {1, 1, PTC_NONE, {0, 0}, {3, 4}}, /* its own box */
        {0, 1, 0, {3, 0}, {4, 4}},        /* a rank, not host 2's box */
        {2, 1, PTC_NONE, {4, 0}, {8, 4}}, /* nobody else has it */
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 3);
    fixture_to(&f, ONE_RANK, (uint32_t[]){1});
    fixture_hold_box(&f, 2, "w", 2, 8);
    fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 1);
    fixture_hold_box(&f, 1, "w", 0, 3);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_layouts_complete_each_other(void **state)
{
    static const struct expected expected[] = {
        {0, 2, 0, {0, 0}, {4, 4}}, /* TP2, which stands first */
        {1, 2, 2, {4, 0}, {6, 4}}, /* TP4 */
        {1, 2, 3, {6, 0}, {8, 4}},
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 3);
    fixture_to(&f, ONE_RANK, (uint32_t[]){2});
    fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 1);
    fixture_hold(&f, 1, fixture_layout(&f, TP4), 1, 3);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_a_tie_is_a_copy_of_its_root(void **state)
{
    static const struct fixture_tensor tensors[] = {
        {.name = "embed", .dtype = PTC_F32, .n_dims = 2, .shape = {8, 4}},
        {.name = "head", .tie = "embed"},
    };
    static const struct expected expected[] = {
        {1, 1, 1, {0, 0}, {8, 4}},
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, tensors, 2, 2);
    fixture_to(&f, ONE_RANK, (uint32_t[]){1});
    (void)fixture_layout(&f, ENDS);
    fixture_hold(&f, 0, f.layouts[1], 0, 1);
    fixture_hold(&f, 1, f.layouts[1], 1, 1);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_a_tie_abroad_is_found_too(void **state)
{
    static const struct fixture_tensor tensors[] = {
        {.name = "embed", .dtype = PTC_F32, .n_dims = 2, .shape = {8, 4}},
        {.name = "head", .tie = "embed"},
    };
    static const struct expected expected[] = {
        {1, 0, 1, {0, 0}, {8, 4}},
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, tensors, 2, 2); /* rank 0, with embed, is lost */
    fixture_to(&f, ONE_RANK, (uint32_t[]){0});
    fixture_hold(&f, 1, fixture_layout(&f, ENDS), 1, 1);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_scalars_move_whole(void **state)
{
    static const struct fixture_tensor tensors[] = {
        {.name = "s", .dtype = PTC_F32},
    };
    static const struct expected expected[] = {
        {0, 0, 0, {0}, {0}},
        {0, 1, 0, {0}, {0}},
    };
    FIXTURE f;

    (void)state;
    fixture_init(&f, tensors, 1, 2);
    fixture_to(&f, DP2, (uint32_t[]){0, 1});
    fixture_hold(&f, 0, fixture_layout(&f, ONE_RANK), 0, 1);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    assert_moves(plan, expected, N_ITEMS(expected));
}

static void test_sums_are_told_per_host(void **state)
{
    uint64_t sums[5][3];
    struct ptc_plan_totals totals = {.received = sums[0],
                                     .sent = sums[1],
                                     .needed = sums[2],
                                     .held = sums[3],
                                     .bound = sums[4]};
    /* by host: TP2 on hosts 0, 1 becomes TP4 on 1, 1, 2, 2 */
    static const uint64_t expected[5][3] = {
        {0, 64, 64}, /* received: 1 gets rows 0:4, 2 gets rows 4:8 */
        {64, 64, 0}, {0, 64, 64}, {64, 64, 0}, {0, 64, 64},
    };
    FIXTURE f;

    (void)state;
    memset(sums, 0xff, sizeof(sums));
    fixture_init(&f, one_matrix, 1, 3);
    fixture_to(&f, TP4, (uint32_t[]){1, 1, 2, 2});
    fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 1);
    fixture_hold(&f, 1, f.layouts[1], 1, 1);
    BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
    fixture_sum(&f, plan, &totals);
    assert_memory_equal(sums, expected, sizeof(sums));
}

static void test_hosts_are_planned_in_order(void **state)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    BASE_AUTO(ptc_plan) plan = NULL;
    struct base_err err;
    FIXTURE f;

    (void)state;
    fixture_init(&f, one_matrix, 1, 2);
    fixture_to(&f, ONE_RANK, (uint32_t[]){1});
    fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 2);
    assert_ok(ptc_planner_create(&f.problem, &planner, &err), &err);
    assert_int_equal(ptc_planner_host(planner, 2, &plan, &err), BASE_BAD_ARG);
    assert_ok(ptc_planner_host(planner, 1, &plan, &err), &err);
    assert_int_equal(ptc_planner_host(planner, 1, &plan, &err), BASE_BAD_ARG);
    assert_int_equal(ptc_planner_host(planner, 0, &plan, &err), BASE_BAD_ARG);
}

static void break_host(struct fixture *f)
{
    f->holdings[0].host = 2;
}

static void break_rank(struct fixture *f)
{
    f->ranks[0][1] = 2;
}

static void break_order(struct fixture *f)
{
    f->ranks[0][1] = 0;
}

static void break_allocation(struct fixture *f)
{
    f->rank_host[0] = 2;
}

static void break_tensor(struct fixture *f)
{
    f->holdings[1].tensor = 1;
}

static void break_dims(struct fixture *f)
{
    f->holdings[1].box.n_dims = 1;
}

static void break_box(struct fixture *f)
{
    f->holdings[1].box.end[1] = 5;
}

static void break_box_order(struct fixture *f)
{
    f->holdings[1].box.begin[1] = 5;
}

static void test_a_problem_out_of_range_is_refused(void **state)
{
    static const struct {
        void (*apply)(struct fixture *f);
        const char *text;
    } cases[] = {
        {break_host, "holding 0: host 2 of 2"},
        {break_rank, "holding 0: rank 2 is not below 2 or does not ascend"},
        {break_order, "holding 0: rank 0 is not below 2 or does not ascend"},
        {break_allocation, "rank 0 is on host 2 of 2"},
        {break_tensor, "holding 1: no tensor 1"},
        {break_dims, "holding 1: a box of 1 dims, but tensor w has 2"},
        {break_box, "holding 1: [0:8, 0:5] is outside tensor w"},
        {break_box_order, "holding 1: [0:8, 5:4] is outside tensor w"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_planner) planner = NULL;
        struct base_err err;
        FIXTURE f;

        fixture_init(&f, one_matrix, 1, 2);
        fixture_to(&f, ONE_RANK, (uint32_t[]){1});
        fixture_hold(&f, 0, fixture_layout(&f, TP2), 0, 2);
        fixture_hold_box(&f, 1, "w", 0, 8);
        cases[i].apply(&f);
        assert_int_equal(ptc_planner_create(&f.problem, &planner, &err),
                         BASE_BAD_ARG);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void test_a_layout_of_another_table_is_refused(void **state)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    static const struct fixture_tensor other[] = {
        {.name = "w", .dtype = PTC_F32, .n_dims = 2, .shape = {8, 5}},
    };
    struct base_err err;
    FIXTURE f;
    FIXTURE g;

    (void)state;
    fixture_init(&f, one_matrix, 1, 2);
    fixture_init(&g, other, 1, 2);
    fixture_to(&f, ONE_RANK, (uint32_t[]){1});
    fixture_hold(&f, 0, fixture_layout(&g, TP2), 0, 2);
    assert_int_equal(ptc_planner_create(&f.problem, &planner, &err),
                     BASE_BAD_ARG);
    assert_string_equal(err.text, "holding 0: its layout is of another table");
}

/* The problem that digests are taken of. */
static void digest_fixture(struct fixture *f)
{
    fixture_init(f, one_matrix, 1, 2);
    fixture_to(f, TP4, (uint32_t[]){0, 0, 1, 1});
    fixture_hold(f, 0, fixture_layout(f, TP2), 0, 1);
    fixture_hold(f, 1, f->layouts[1], 1, 1);
    fixture_hold_box(f, 1, "w", 0, 3);
}

static void change_host(struct fixture *f)
{
    f->holdings[1].host = 0;
}

static void change_rank(struct fixture *f)
{
    f->ranks[0][0] = 1;
}

static void change_allocation(struct fixture *f)
{
    f->rank_host[1] = 1;
}

static void change_box(struct fixture *f)
{
    f->holdings[2].box.end[0] = 4;
}

static void change_layout(struct fixture *f)
{
    f->holdings[0].layout = fixture_layout(f, COLS2);
}

static void change_target(struct fixture *f)
{
    fixture_to(f, "{mesh: {tp: 4}, rules: [{match: '*', dims: [~, tp]}]}",
               (uint32_t[]){0, 0, 1, 1});
}

static void change_hosts(struct fixture *f)
{
    f->problem.n_hosts = 3;
}

static void change_holdings(struct fixture *f)
{
    f->problem.n_holdings--;
}

static void test_digests_tell_problems_apart(void **state)
{
    static void (*const changes[])(struct fixture *) = {
        change_host,   change_rank,   change_allocation, change_box,
        change_layout, change_target, change_hosts,      change_holdings,
    };
    struct base_digest first;
    struct base_digest digest;
    struct base_err err;
    FIXTURE f;
    FIXTURE g;

    (void)state;
    digest_fixture(&f);
    digest_fixture(&g); /* equal, by other pointers */
    assert_ok(ptc_problem_digest(&f.problem, &first, &err), &err);
    assert_ok(ptc_problem_digest(&g.problem, &digest, &err), &err);
    assert_true(base_digest_eq(first, digest));
    for (size_t i = 0; i < N_ITEMS(changes); i++) {
        FIXTURE h;

        digest_fixture(&h);
        changes[i](&h);
        assert_ok(ptc_problem_digest(&h.problem, &digest, &err), &err);
        assert_false(base_digest_eq(first, digest));
    }
}

/* The plan of two replicas that are sent to a third host; the second host has
 * its own copy of the layout, or not. */
static struct ptc_plan *plan_of_replicas(bool own_copy)
{
    struct fixture_tensor tensors[16];
    char names[16][8];
    FIXTURE f;

    many_matrices(tensors, names, 16);
    fixture_init(&f, tensors, 16, 3);
    fixture_to(&f, ONE_RANK, (uint32_t[]){2});
    (void)fixture_layout(&f, DP2);
    (void)fixture_layout(&f, DP2);
    fixture_hold(&f, 0, f.layouts[1], 0, 1);
    fixture_hold(&f, 1, f.layouts[own_copy ? 2 : 1], 1, 1);
    return fixture_plan(&f);
}

static void test_equal_layouts_are_one_origin(void **state)
{
    BASE_AUTO(ptc_plan) one = plan_of_replicas(false);
    BASE_AUTO(ptc_plan) two = plan_of_replicas(true);
    unsigned n_from_1 = 0;

    (void)state;
    assert_int_equal(ptc_plan_n_moves(one), 16);
    assert_int_equal(ptc_plan_n_moves(two), 16);
    for (uint64_t i = 0; i < 16; i++) {
        struct ptc_move a;
        struct ptc_move b;

        ptc_plan_move(one, i, &a);
        ptc_plan_move(two, i, &b);
        assert_int_equal(a.from, b.from);
        n_from_1 += b.from == 1;
    }
    assert_in_range(n_from_1, 1, 15);
}

static void test_ranks_lie_in_blocks(void **state)
{
    static const struct {
        uint32_t n_ranks;
        uint32_t n_hosts;
        uint32_t host[8];
    } cases[] = {
        {8, 2, {0, 0, 0, 0, 1, 1, 1, 1}},
        {7, 3, {0, 0, 0, 1, 1, 1, 2}},
        {5, 4, {0, 0, 1, 1, 2}}, /* torch.chunk: the last has none */
        {2, 5, {0, 1}},
        {1, 1, {0}},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        uint32_t host[8] = {0};

        ptc_ranks_in_blocks(cases[i].n_ranks, cases[i].n_hosts, host);
        assert_memory_equal(host, cases[i].host, sizeof(host));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_half_is_kept_and_a_half_moves),
        cmocka_unit_test(test_cuts_of_two_dimensions_cross),
        cmocka_unit_test(test_the_same_layout_and_hosts_move_nothing),
        cmocka_unit_test(test_what_two_ranks_of_a_host_need_comes_once),
        cmocka_unit_test(test_neighbours_from_one_holder_are_one_move),
        cmocka_unit_test(test_cells_that_touch_are_one_move),
        cmocka_unit_test(test_replicas_share_the_load),
        cmocka_unit_test(test_a_replica_stands_in_for_a_dead_host),
        cmocka_unit_test(test_a_byte_that_nobody_holds_is_named),
        cmocka_unit_test(test_more_pieces_than_the_limit_are_refused),
        cmocka_unit_test(
            test_explicit_boxes_come_first_at_home_and_last_abroad),
        cmocka_unit_test(test_layouts_complete_each_other),
        cmocka_unit_test(test_a_tie_is_a_copy_of_its_root),
        cmocka_unit_test(test_a_tie_abroad_is_found_too),
        cmocka_unit_test(test_scalars_move_whole),
        cmocka_unit_test(test_sums_are_told_per_host),
        cmocka_unit_test(test_hosts_are_planned_in_order),
        cmocka_unit_test(test_a_problem_out_of_range_is_refused),
        cmocka_unit_test(test_a_layout_of_another_table_is_refused),
        cmocka_unit_test(test_digests_tell_problems_apart),
        cmocka_unit_test(test_equal_layouts_are_one_origin),
        cmocka_unit_test(test_ranks_lie_in_blocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
