/* ptc_plan_check accepts right plans and refuses wrong ones, by name. */
#include "tests/unit/unit.h"

#include <string.h>

#include "tests/unit/ptc/plan_fixture.h"

#define TP2   "{mesh: {tp: 2}, rules: [{match: '*', dims: [tp]}]}"
#define COLS2 "{mesh: {tp: 2}, rules: [{match: '*', dims: [~, tp]}]}"
#define MAX   8

static const struct fixture_tensor tensors[] = {
    {.name = "w", .dtype = PTC_F32, .n_dims = 2, .shape = {8, 4}},
    {.name = "x", .tie = "w"},
};

/* Rows on hosts 0 and 1 become columns on the same: a plan of 4 moves,
 *   0: 0 -> 0 rank 0 [0:4, 0:2]    1: 1 -> 0 rank 1 [4:8, 0:2]
 *   2: 0 -> 1 rank 0 [0:4, 2:4]    3: 1 -> 1 rank 1 [4:8, 2:4] */
static void check_fixture(struct fixture *f)
{
    fixture_init(f, tensors, 2, 3);
    fixture_to(f, COLS2, (uint32_t[]){0, 1});
    fixture_hold(f, 0, fixture_layout(f, TP2), 0, 1);
    fixture_hold(f, 1, f->layouts[1], 1, 1);
    fixture_hold_box(f, 2, "w", 0, 3);
}

struct moves {
    struct ptc_move items[MAX];
    uint64_t n;
};

static void drop(struct moves *m)
{
    m->items[0] = m->items[1];
    m->items[1] = m->items[2];
    m->items[2] = m->items[3];
    m->n--;
}

static void drop_last(struct moves *m)
{
    m->n--;
}

static void repeat(struct moves *m)
{
    m->items[4] = m->items[3];
    m->n++;
}

static void overlap(struct moves *m)
{
    m->items[1].from = 2; /* which has rows 0:3 */
    m->items[1].holding = 2;
    m->items[1].from_rank = PTC_NONE;
    m->items[1].box.end[0] = 3;
    m->items[1].box.begin[0] = 1;
}

static void shift(struct moves *m)
{
    m->items[1].box.begin[1]++;
    m->items[1].box.end[1]++;
}

static void shrink(struct moves *m)
{
    m->items[2].box.end[0]--;
}

static void grow(struct moves *m)
{
    m->items[0].box.end[1] = 3;
}

static void outside(struct moves *m)
{
    m->items[3].box.end[0] = 9;
}

static void empty(struct moves *m)
{
    m->items[3].box.end[0] = 4;
}

static void swap_order(struct moves *m)
{
    struct ptc_move move = m->items[0];

    m->items[0] = m->items[1];
    m->items[1] = move;
}

static void other_rank(struct moves *m)
{
    m->items[2].from_rank = 1;
}

static void other_host(struct moves *m)
{
    m->items[2].from = 1;
}

static void other_holding(struct moves *m)
{
    m->items[2].holding = 3;
}

static void not_held(struct moves *m)
{
    m->items[2].from = 2; /* which has rows 0:3 only */
    m->items[2].holding = 2;
    m->items[2].from_rank = PTC_NONE;
}

static void no_tensor(struct moves *m)
{
    m->items[3].tensor = 2;
}

static void a_tie(struct moves *m)
{
    m->items[4] = m->items[3];
    m->items[4].tensor = 1;
    m->n++;
}

static void no_host(struct moves *m)
{
    m->items[3].to = 3;
}

static void not_needed(struct moves *m)
{
    m->items[4] = m->items[3];
    m->items[4].to = 2;
    m->n++;
}

static void had_already(struct moves *m)
{
    /* host 0 gets rows 0:3 of its columns from host 2, and has them */
    m->items[4] = m->items[3];
    m->items[3] = m->items[2];
    m->items[2] = m->items[1];
    m->items[1] = m->items[0];
    m->n++;
    m->items[0].from = 2;
    m->items[0].holding = 2;
    m->items[0].from_rank = PTC_NONE;
    m->items[0].box.end[0] = 3;
    m->items[1].box.begin[0] = 3;
}

static void test_wrong_plans_are_refused_by_name(void **state)
{
    static const struct {
        void (*apply)(struct moves *m);
        const char *text;
    } cases[] = {
        {drop, "host 0, tensor w, box [0:8, 0:2]: needed, but does not come"},
        {drop_last,
         "host 1, tensor w, box [0:8, 2:4]: needed, but does not come"},
        {repeat, "move 4: out of order, or twice"},
        {overlap, "host 0, tensor w, box [1:3, 0:2]: comes twice"},
        {shift, "host 0, tensor w, box [4:8, 1:3]: comes, but is not needed"},
        {shrink, "host 1, tensor w, box [0:8, 2:4]: needed, but does not come"},
        {grow, "host 0, tensor w, box [0:4, 0:3]: comes, but is not needed"},
        {outside, "host 1, tensor w, box [4:9, 2:4]: not a box of the tensor"},
        {empty, "host 1, tensor w, box [4:4, 2:4]: not a box of the tensor"},
        {swap_order, "move 1: out of order, or twice"},
        {other_rank,
         "host 1, tensor w, box [0:4, 2:4]: the holding lacks the rank"},
        {other_host,
         "host 1, tensor w, box [0:4, 2:4]: the holding is of another host"},
        {other_holding, "host 1, tensor w, box [0:4, 2:4]: from no holding"},
        {not_held,
         "host 1, tensor w, box [0:4, 2:4]: the holder does not have it"},
        {no_tensor, "move 3: no tensor 2 or no host 1 or 1"},
        {a_tie, "host 1, tensor x, box [4:8, 2:4]: the tensor is a tie"},
        {no_host, "move 3: no tensor 0 or no host 1 or 3"},
        {not_needed,
         "host 2, tensor w, box [4:8, 2:4]: comes, but is not needed"},
        {had_already,
         "host 0, tensor w, box [0:3, 0:2]: sent to a host that has it"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_plan) mutant = NULL;
        struct moves moves = {0};
        struct base_err err = {0};
        FIXTURE f;

        check_fixture(&f);
        BASE_AUTO(ptc_plan) plan = fixture_plan(&f);
        assert_int_equal(ptc_plan_n_moves(plan), 4);
        for (moves.n = 0; moves.n < 4; moves.n++) {
            ptc_plan_move(plan, moves.n, &moves.items[moves.n]);
        }
        cases[i].apply(&moves);
        assert_ok(ptc_plan_of_moves(moves.items, moves.n, &mutant, &err), &err);
        assert_int_equal(ptc_plan_check(&f.problem, mutant, 0, 3, &err),
                         BASE_MISMATCH);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void test_only_the_asked_hosts_are_checked(void **state)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    BASE_AUTO(ptc_plan) plan = NULL;
    struct base_err err;
    FIXTURE f;

    (void)state;
    check_fixture(&f);
    assert_ok(ptc_planner_create(&f.problem, &planner, &err), &err);
    assert_ok(ptc_planner_host(planner, 1, &plan, &err), &err);
    assert_ok(ptc_plan_check(&f.problem, plan, 1, 2, &err), &err);
    assert_int_equal(ptc_plan_check(&f.problem, plan, 0, 2, &err),
                     BASE_MISMATCH);
}

/* Host 0 has a box of one tensor, but all of both comes from host 1. */
static void test_a_box_that_the_host_has_is_not_to_come(void **state)
{
    static const struct fixture_tensor pair[] = {
        {.name = "v", .dtype = PTC_F32, .n_dims = 1, .shape = {4}},
        {.name = "w", .dtype = PTC_F32, .n_dims = 1, .shape = {8}},
    };

    (void)state;
    for (uint32_t t = 0; t < 2; t++) {
        BASE_AUTO(ptc_plan) mutant = NULL;
        struct ptc_move moves[2] = {{.tensor = 0}, {.tensor = 1}};
        struct base_err err = {0};
        FIXTURE f;

        fixture_init(&f, pair, 2, 2);
        fixture_to(&f, "{mesh: {}, rules: [{match: '*'}]}", (uint32_t[]){0});
        fixture_hold(&f, 1, f.layouts[0], 0, 1);
        fixture_hold_box(&f, 0, t == 0 ? "v" : "w", 1, 4);
        for (uint32_t i = 0; i < 2; i++) {
            moves[i].from = 1;
            moves[i].box = ptc_box_whole(1, pair[i].shape);
        }
        assert_ok(ptc_plan_of_moves(moves, 2, &mutant, &err), &err);
        assert_int_equal(ptc_plan_check(&f.problem, mutant, 0, 2, &err),
                         BASE_MISMATCH);
        assert_string_equal(
            err.text,
            t == 0 ? "host 0, tensor v, box [1:4]: sent to a host that has it"
                   : "host 0, tensor w, box [1:4]: sent to a host that has it");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_plans_are_refused_by_name),
        cmocka_unit_test(test_only_the_asked_hosts_are_checked),
        cmocka_unit_test(test_a_box_that_the_host_has_is_not_to_come),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
