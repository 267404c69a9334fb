/* Generations: which begins when, and what may be done to saves in them. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#include "fuse/generation.h"

static const struct fs_published nothing = {0};

static struct fs_published version(uint64_t number, uint64_t step)
{
    return (struct fs_published){number, step};
}

/* Generation 1, from version 4 at step 100. */
static struct fs_generations at_step_100(void)
{
    struct fs_generations all;

    fs_generations_begin(&all, version(4, 100), 1);
    return all;
}

static void test_the_first_generation_loads_what_is_current(void **state)
{
    struct fs_generations all = at_step_100();

    (void)state;
    assert_int_equal(all.current, 1);
    assert_int_equal(fs_generations_find(&all, 1)->load, 4);
    assert_int_equal(fs_generations_next(&all, 0), 1);
    assert_null(fs_generations_find(&all, 0));
    assert_null(fs_generations_find(&all, 2));
    assert_true(fs_generations_invariant(&all));
}

static void test_the_first_generation_may_load_nothing(void **state)
{
    struct fs_generations all;

    (void)state;
    fs_generations_begin(&all, nothing, 1);
    assert_int_equal(fs_generations_find(&all, 1)->load, 0);
    assert_int_equal(all.next_step, 0);
    assert_true(fs_generations_invariant(&all));
}

static void test_an_own_save_begins_no_generation(void **state)
{
    struct fs_generations all = at_step_100();

    (void)state;
    fs_generations_saved(&all, 110, 5);
    assert_false(fs_generations_follow(&all, version(5, 110), 2));
    assert_int_equal(all.current, 1);
    assert_int_equal(all.n_saved, 1);
    assert_int_equal(fs_generations_find(&all, 1)->load, 4);
    assert_int_equal(all.next_step, 111);
}

static void test_a_save_told_twice_counts_once(void **state)
{
    struct fs_generations all = at_step_100();

    (void)state;
    fs_generations_saved(&all, 110, 5);
    fs_generations_saved(&all, 110, 5);
    assert_int_equal(all.n_saved, 1);
    assert_int_equal(all.seen, 5);
}

static void test_a_foreign_version_begins_the_next_generation(void **state)
{
    struct fs_generations all = at_step_100();

    (void)state;
    fs_generations_saved(&all, 110, 5);
    assert_true(fs_generations_follow(&all, version(6, 110), 2));
    assert_int_equal(all.current, 2);
    assert_int_equal(all.n_saved, 0);
    assert_int_equal(fs_generations_find(&all, 2)->load, 6);
    assert_int_equal(fs_generations_find(&all, 1)->load, 4);
    assert_false(fs_generations_follow(&all, version(6, 110), 3));
    assert_false(fs_generations_follow(&all, nothing, 3));
    assert_true(fs_generations_invariant(&all));
}

static void test_a_rollback_takes_the_steps_back(void **state)
{
    struct fs_generations all = at_step_100();

    (void)state;
    assert_true(fs_generations_follow(&all, version(5, 20), 2));
    assert_int_equal(all.next_step, 21);
    assert_true(fs_generations_follow(&all, version(6, UINT64_MAX), 3));
    assert_int_equal(all.next_step, 0);
}

static void test_the_last_64_generations_are_remembered(void **state)
{
    struct fs_generations all = at_step_100();
    uint64_t i;

    (void)state;
    for (i = 2; i <= 100; i++) {
        assert_true(fs_generations_follow(&all, version(i + 3, 100), 2));
        assert_true(fs_generations_invariant(&all));
    }
    assert_int_equal(fs_generations_next(&all, 0), 37);
    assert_null(fs_generations_find(&all, 36));
    assert_int_equal(fs_generations_find(&all, 37)->load, 40);
    assert_int_equal(fs_generations_find(&all, 100)->load, 103);
}

static void test_a_state_that_contradicts_itself_is_noticed(void **state)
{
    struct fs_generations all = {0};

    (void)state;
    assert_false(fs_generations_invariant(&all));
    all = at_step_100();
    all.seen = 3;
    assert_false(fs_generations_invariant(&all));
    all = at_step_100();
    all.current = 2;
    assert_false(fs_generations_invariant(&all));
    all = at_step_100();
    assert_true(fs_generations_follow(&all, version(6, 1), 2));
    all.ring[1].load = 7;
    assert_false(fs_generations_invariant(&all));
    all = at_step_100();
    all.current = UINT64_MAX;
    assert_false(fs_generations_invariant(&all));
}

static void test_names_of_steps(void **state)
{
    static const struct {
        const char *name;
        bool is_step;
        uint64_t step;
        bool is_tmp;
    } cases[] = {
        {"0", true, 0, false},
        {"0.tmp", true, 0, true},
        {"100", true, 100, false},
        {"100.tmp", true, 100, true},
        {"9007199254740991.tmp", true, FS_MAX_STEP, true},
        {"9007199254740992.tmp", false, 0, false},
        {"18446744073709551616", false, 0, false},
        {"", false, 0, false},
        {".tmp", false, 0, false},
        {"00", false, 0, false},
        {"0100.tmp", false, 0, false},
        {"+1", false, 0, false},
        {"-1.tmp", false, 0, false},
        {"1 .tmp", false, 0, false},
        {"step-100.tmp", false, 0, false},
        {"100.tmp.tmp", false, 0, false},
        {"100.TMP", false, 0, false},
        {"0x10", false, 0, false},
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        uint64_t step = 0;
        bool is_tmp = false;

        if (fs_step_parse(base_str_of(cases[i].name), &step, &is_tmp) !=
            cases[i].is_step) {
            fail_msg("\"%s\"", cases[i].name);
        }
        if (cases[i].is_step) {
            assert_int_equal(step, cases[i].step);
            assert_int_equal(is_tmp, cases[i].is_tmp);
        }
    }
}

/* Judging.  In generation 2 (the current one), which loaded step 100: step 110
 * is sealed, and 120 is in one of the states.  Generation 1 had 90 sealed. */
enum { NOT_THERE = 100 };

struct scene {
    struct fs_generations all;
    struct fs_step items[3];
    struct fs_steps steps;
};

static void set_scene(struct scene *scene, unsigned state_of_120)
{
    *scene = (struct scene){0};
    fs_generations_begin(&scene->all, version(4, 80), 1);
    fs_generations_saved(&scene->all, 90, 5);
    assert_true(fs_generations_follow(&scene->all, version(6, 100), 2));
    fs_generations_saved(&scene->all, 110, 7);
    scene->items[0] = (struct fs_step){
        .step = 90, .generation = 1, .state = FS_STEP_SEALED, .version = 5};
    scene->items[1] = (struct fs_step){
        .step = 110, .generation = 2, .state = FS_STEP_SEALED, .version = 7};
    scene->items[2] =
        (struct fs_step){.step = 120,
                         .generation = 2,
                         .state = (enum fs_step_state)state_of_120};
    scene->steps =
        (struct fs_steps){scene->items, state_of_120 == NOT_THERE ? 2 : 3};
}

static void check(enum fs_verdict got,
                  enum fs_verdict want,
                  const struct base_err *err,
                  const char *request,
                  const char *name,
                  unsigned at)
{
    if (got != want) {
        fail_msg("%s %s, state %u: expected %d (%s), got %d (%s): %s", request,
                 name, at, want, strerror(fs_verdict_errno(want)), got,
                 strerror(fs_verdict_errno(got)), err->text);
    }
    /* What is not allowed says why. */
    if (fs_verdict_errno(got) != 0) {
        assert_true(strlen(err->text) > 0);
    }
}

static void test_mkdir(void **state)
{
    static const struct {
        uint64_t generation;
        unsigned of_120;
        const char *name;
        enum fs_verdict verdict;
    } cases[] = {
        {2, NOT_THERE, "120.tmp", FS_ALLOWED},
        {2, NOT_THERE, "111.tmp", FS_ALLOWED},
        {2, NOT_THERE, "110.tmp", FS_SAVED},
        {2, NOT_THERE, "109.tmp", FS_BAD_STEP},
        {2, NOT_THERE, "100.tmp", FS_BAD_STEP},
        {2, NOT_THERE, "90.tmp", FS_BAD_STEP}, /* 1 saved it, not 2 */
        {2, NOT_THERE, "0.tmp", FS_BAD_STEP},
        {2, NOT_THERE, "120", FS_BAD_NAME},
        {2, NOT_THERE, "0120.tmp", FS_BAD_NAME},
        {2, NOT_THERE, "x", FS_BAD_NAME},
        {2, NOT_THERE, "x.tmp", FS_BAD_NAME},
        {2, FS_STEP_OPEN, "120.tmp", FS_THERE},
        {2, FS_STEP_FROZEN, "120.tmp", FS_BUSY},
        {2, FS_STEP_SEALED, "120.tmp", FS_SAVED},
        {2, FS_STEP_OPEN, "130.tmp", FS_BUSY},
        {2, FS_STEP_FROZEN, "130.tmp", FS_BUSY},
        {2, FS_STEP_SEALED, "130.tmp", FS_ALLOWED},
        {1, NOT_THERE, "120.tmp", FS_REVOKED},
        {1, NOT_THERE, "x", FS_REVOKED},
        {3, NOT_THERE, "120.tmp", FS_REVOKED},
    };
    struct scene scene;
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        struct base_err err = {0};
        uint64_t step;

        set_scene(&scene, cases[i].of_120);
        check(fs_judge_mkdir(&scene.all, scene.steps, cases[i].generation,
                             base_str_of(cases[i].name), &step, &err),
              cases[i].verdict, &err, "mkdir", cases[i].name, cases[i].of_120);
    }
}

static void test_rename(void **state)
{
    static const struct {
        uint64_t generation;
        unsigned of_120;
        const char *from;
        uint64_t to_generation;
        const char *to;
        enum fs_verdict verdict;
    } cases[] = {
        {2, FS_STEP_OPEN, "120.tmp", 2, "120", FS_ALLOWED},
        {2, FS_STEP_OPEN, "120.tmp", 2, "121", FS_BAD_NAME},
        {2, FS_STEP_OPEN, "120.tmp", 2, "110", FS_BAD_NAME},
        {2, FS_STEP_OPEN, "120.tmp", 2, "120.tmp", FS_BAD_NAME},
        {2, FS_STEP_OPEN, "120.tmp", 2, "121.tmp", FS_BAD_NAME},
        {2, FS_STEP_OPEN, "120.tmp", 2, "old", FS_BAD_NAME},
        {2, FS_STEP_OPEN, "120.tmp", 1, "120", FS_BAD_NAME},
        {2, FS_STEP_OPEN, "120.tmp", 0, "120", FS_BAD_NAME},
        {2, FS_STEP_FROZEN, "120.tmp", 2, "120", FS_BUSY},
        /* A killed server had done it. */
        {2, FS_STEP_SEALED, "120.tmp", 2, "120", FS_DONE},
        {2, NOT_THERE, "120.tmp", 2, "120", FS_ABSENT},
        {2, NOT_THERE, "110", 2, "130", FS_SEALED},
        {2, NOT_THERE, "110", 2, "110.tmp", FS_SEALED},
        {2, NOT_THERE, "130", 2, "131", FS_ABSENT},
        {2, NOT_THERE, "x", 2, "120", FS_BAD_NAME},
        {1, NOT_THERE, "90", 1, "91", FS_SEALED},
        {1, NOT_THERE, "90.tmp", 1, "90", FS_DONE},
        {1, FS_STEP_OPEN, "120.tmp", 1, "120", FS_ABSENT},
    };
    struct scene scene;
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        struct base_err err = {0};
        uint64_t step;

        set_scene(&scene, cases[i].of_120);
        check(fs_judge_rename(&scene.all, scene.steps, cases[i].generation,
                              base_str_of(cases[i].from),
                              cases[i].to_generation, base_str_of(cases[i].to),
                              &step, &err),
              cases[i].verdict, &err, "rename", cases[i].from, cases[i].of_120);
    }
}

static void test_rmdir(void **state)
{
    static const struct {
        uint64_t generation;
        unsigned of_120;
        const char *name;
        enum fs_verdict verdict;
    } cases[] = {
        {2, FS_STEP_OPEN, "120.tmp", FS_ALLOWED},
        {2, FS_STEP_OPEN, "120", FS_ABSENT},
        {2, FS_STEP_FROZEN, "120.tmp", FS_BUSY},
        {2, FS_STEP_SEALED, "120.tmp", FS_ABSENT},
        {2, FS_STEP_SEALED, "120", FS_SEALED},
        {2, NOT_THERE, "120.tmp", FS_ABSENT},
        {2, NOT_THERE, "x", FS_ABSENT},
        {1, NOT_THERE, "90", FS_SEALED},
        {1, NOT_THERE, "120.tmp", FS_ABSENT},
    };
    struct scene scene;
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        struct base_err err = {0};
        uint64_t step;

        set_scene(&scene, cases[i].of_120);
        check(fs_judge_rmdir(&scene.all, scene.steps, cases[i].generation,
                             base_str_of(cases[i].name), &step, &err),
              cases[i].verdict, &err, "rmdir", cases[i].name, cases[i].of_120);
    }
}

static void test_a_revoked_generation_is_told_what_came(void **state)
{
    struct scene scene;
    struct base_err err = {0};
    uint64_t step;

    (void)state;
    set_scene(&scene, FS_STEP_OPEN);
    assert_true(fs_generations_follow(&scene.all, version(8, 115), 3));
    assert_int_equal(fs_judge_rename(&scene.all, scene.steps, 2,
                                     BASE_STR("120.tmp"), 2, BASE_STR("120"),
                                     &step, &err),
                     FS_REVOKED);
    assert_non_null(strstr(err.text, "generation 2 is revoked"));
    assert_non_null(strstr(err.text, "version 8"));
    assert_int_equal(fs_judge_rmdir(&scene.all, scene.steps, 2,
                                    BASE_STR("120.tmp"), &step, &err),
                     FS_REVOKED);
    assert_int_equal(fs_verdict_errno(FS_REVOKED), EROFS);
}

static void test_where_nothing_is_loaded_any_step_may_come(void **state)
{
    struct fs_generations all;
    struct fs_steps none = {0};
    struct base_err err = {0};
    uint64_t step = 1;

    (void)state;
    fs_generations_begin(&all, nothing, 1);
    assert_int_equal(
        fs_judge_mkdir(&all, none, 1, BASE_STR("0.tmp"), &step, &err),
        FS_ALLOWED);
    assert_int_equal(step, 0);
    fs_generations_saved(&all, 0, 1);
    assert_int_equal(
        fs_judge_mkdir(&all, none, 1, BASE_STR("0.tmp"), &step, &err),
        FS_BAD_STEP);
}

/* Ordered. */

static enum fs_ordered order(struct fs_generations *all,
                             uint64_t generation,
                             uint64_t load,
                             uint64_t next_step,
                             bool is_revoked)
{
    const struct fs_order one = {generation, load, next_step, is_revoked};

    return fs_generations_order(all, &one, 1);
}

/* May step 120 begin in generation @generation? */
static enum fs_verdict ask(const struct fs_generations *all,
                           uint64_t generation)
{
    struct fs_steps none = {0};
    struct base_err err = {0};
    uint64_t step;

    return fs_judge_mkdir(all, none, generation, BASE_STR("120.tmp"), &step,
                          &err);
}

static void test_what_awaits_orders_has_no_generation(void **state)
{
    struct fs_generations all;

    (void)state;
    fs_generations_await(&all);
    assert_true(fs_generations_invariant(&all));
    assert_int_equal(all.current, 0);
    assert_int_equal(fs_generations_next(&all, 0), 0);
    assert_false(fs_generations_follow(&all, version(4, 100), 1));
    assert_int_equal(order(&all, 0, 4, 0, true), FS_ORDERED_NOTHING);
    assert_int_equal(all.current, 0);
}

static void test_a_higher_order_revokes_the_lower_ones(void **state)
{
    struct fs_generations all;

    (void)state;
    fs_generations_await(&all);
    assert_int_equal(order(&all, 3, 4, 101, false), FS_ORDERED_BEGUN);
    assert_int_equal(ask(&all, 3), FS_ALLOWED);
    assert_int_equal(order(&all, 70, 5, 111, false), FS_ORDERED_BEGUN);
    assert_int_equal(ask(&all, 3), FS_REVOKED);
    assert_int_equal(ask(&all, 70), FS_ALLOWED);
    assert_int_equal(fs_generations_revoked(&all), 70);
    assert_int_equal(fs_generations_find(&all, 70)->load, 5);
    assert_int_equal(fs_generations_next(&all, 0), 3);
    assert_int_equal(fs_generations_next(&all, 3), 70);
    assert_int_equal(fs_generations_next(&all, 70), 0);
    assert_true(fs_generations_invariant(&all));
}

static void test_an_order_that_is_older_changes_nothing(void **state)
{
    struct fs_generations all;

    (void)state;
    fs_generations_await(&all);
    (void)order(&all, 5, 4, 101, false);
    assert_int_equal(order(&all, 4, 9, 200, true), FS_ORDERED_NOTHING);
    assert_int_equal(ask(&all, 5), FS_ALLOWED);
    assert_int_equal(order(&all, 5, 9, 101, false), FS_ORDERED_NOTHING);
    assert_int_equal(fs_generations_find(&all, 5)->load, 4);
}

static void test_a_revoked_generation_stays_revoked(void **state)
{
    struct fs_generations all;

    (void)state;
    fs_generations_await(&all);
    (void)order(&all, 5, 4, 101, false);
    assert_int_equal(order(&all, 5, 4, 101, true), FS_ORDERED_REVOKED);
    assert_int_equal(ask(&all, 5), FS_REVOKED);
    assert_int_equal(order(&all, 5, 4, 101, true), FS_ORDERED_NOTHING);
    assert_int_equal(order(&all, 5, 4, 101, false), FS_ORDERED_NOTHING);
    assert_int_equal(ask(&all, 5), FS_REVOKED);
    assert_int_equal(fs_generations_revoked(&all), 6);
    assert_int_equal(order(&all, 6, 4, 101, false), FS_ORDERED_BEGUN);
    assert_int_equal(ask(&all, 6), FS_ALLOWED);
}

static void test_an_order_raises_the_least_step(void **state)
{
    struct fs_generations all;

    (void)state;
    fs_generations_await(&all);
    (void)order(&all, 5, 4, 101, false);
    fs_generations_saved(&all, 119, 5);
    assert_int_equal(all.next_step, 120);
    (void)order(&all, 5, 4, 101, false); /* said again: older than our save */
    assert_int_equal(all.next_step, 120);
    assert_int_equal(ask(&all, 5), FS_ALLOWED);
    (void)order(&all, 5, 4, 121, false);
    assert_int_equal(ask(&all, 5), FS_BAD_STEP);
    assert_false(fs_generations_follow(&all, version(9, 300), 1));
}

static void test_ordered_state_that_is_out_of_place_is_noticed(void **state)
{
    struct fs_generations all;

    (void)state;
    fs_generations_await(&all);
    (void)order(&all, 5, 4, 101, false);
    all.ring[6].number = 6; /* after the current one */
    assert_false(fs_generations_invariant(&all));
    all.ring[6].number = 3; /* another's place */
    assert_false(fs_generations_invariant(&all));
    all.ring[6].number = 0;
    all.current = 4;
    assert_false(fs_generations_invariant(&all));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_generation_loads_what_is_current),
        cmocka_unit_test(test_the_first_generation_may_load_nothing),
        cmocka_unit_test(test_an_own_save_begins_no_generation),
        cmocka_unit_test(test_a_save_told_twice_counts_once),
        cmocka_unit_test(test_a_foreign_version_begins_the_next_generation),
        cmocka_unit_test(test_a_rollback_takes_the_steps_back),
        cmocka_unit_test(test_the_last_64_generations_are_remembered),
        cmocka_unit_test(test_a_state_that_contradicts_itself_is_noticed),
        cmocka_unit_test(test_names_of_steps),
        cmocka_unit_test(test_mkdir),
        cmocka_unit_test(test_rename),
        cmocka_unit_test(test_rmdir),
        cmocka_unit_test(test_a_revoked_generation_is_told_what_came),
        cmocka_unit_test(test_where_nothing_is_loaded_any_step_may_come),
        cmocka_unit_test(test_what_awaits_orders_has_no_generation),
        cmocka_unit_test(test_a_higher_order_revokes_the_lower_ones),
        cmocka_unit_test(test_an_order_that_is_older_changes_nothing),
        cmocka_unit_test(test_a_revoked_generation_stays_revoked),
        cmocka_unit_test(test_an_order_raises_the_least_step),
        cmocka_unit_test(test_ordered_state_that_is_out_of_place_is_noticed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
