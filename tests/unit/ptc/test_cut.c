/* Cuts of one dimension, by hand. */
#include "tests/unit/unit.h"

#include <inttypes.h>

#include "ptc/cut.h"

/* The rule's axes are those of a mesh of these sizes, in this order. */
struct cut_case {
    const char *claim;
    uint64_t length;
    uint32_t n_axes;
    uint32_t sizes[3]; /* of the mesh, first slowest */
    uint32_t axes[3];  /* in cutting order */
    uint64_t unit;
    uint32_t n_segments;
    uint64_t segments[3];
    uint32_t n_cuts;
    uint64_t cuts[4];
    const char *parts; /* ranges of each part, '|' between parts */
    const char *runs;  /* each run and what its holders add to a rank */
};

static enum base_code cut_make(struct base_arena *arena,
                               const struct cut_case *c,
                               const struct ptc_cut **ret,
                               struct base_err *err)
{
    struct ptc_mesh mesh = {.n_axes = c->n_axes, .n_ranks = 1};
    struct ptc_dim_rule rule = {
        .n_axes = c->n_axes,
        .unit = c->unit,
        .n_segments = c->n_segments,
        .segments = c->segments,
        .n_cuts = c->n_cuts,
        .cuts = c->cuts,
    };

    for (uint32_t i = 0; i < c->n_axes; i++) {
        mesh.axes[i].size = c->sizes[i];
        mesh.n_ranks *= c->sizes[i];
        rule.axes[i] = c->axes[i];
    }
    return ptc_cut_create(arena, &mesh, &rule, c->length, ret, err);
}

static void describe(const struct ptc_cut *cut,
                     struct base_buf *parts,
                     struct base_buf *runs)
{
    for (uint32_t p = 0; p < cut->n_parts; p++) {
        (void)base_buf_addf(parts, "%s", p == 0 ? "" : "|");
        for (uint32_t i = cut->first[p]; i < cut->first[p + 1]; i++) {
            (void)base_buf_addf(parts, "%s%" PRIu64 "-%" PRIu64,
                                i == cut->first[p] ? "" : ",",
                                cut->ranges[i].begin, cut->ranges[i].end);
        }
    }
    (void)base_buf_addf(runs, "%s", "");
    for (uint32_t r = 0; r < cut->n_runs; r++) {
        const struct ptc_cut_run *run = &cut->runs[r];

        (void)base_buf_addf(runs, "%s%" PRIu64 ":", r == 0 ? "" : " ",
                            run->range.begin);
        for (uint32_t k = 0; k < run->n_holders; k++) {
            (void)base_buf_addf(runs, "%s%" PRIu32, k == 0 ? "" : ",",
                                cut->holders[run->first + k]);
        }
    }
}

static void test_parts_and_runs(void **state)
{
    static const struct cut_case cases[] = {
        {.claim = "10 rows over 4 are 3, 3, 3, 1",
         .length = 10,
         .n_axes = 1,
         .sizes = {4},
         .unit = 1,
         .parts = "0-3|3-6|6-9|9-10",
         .runs = "0:0 3:1 6:2 9:3"},
        {.claim = "5 rows over 4 are 2, 2, 1, 0",
         .length = 5,
         .n_axes = 1,
         .sizes = {4},
         .unit = 1,
         .parts = "0-2|2-4|4-5|5-5",
         .runs = "0:0 2:1 4:2"},
        {.claim = "nothing over 2 is nothing",
         .length = 0,
         .n_axes = 1,
         .sizes = {2},
         .unit = 1,
         .parts = "0-0|0-0",
         .runs = ""},
        {.claim = "units keep heads whole: 3 heads of 4 over 2",
         .length = 12,
         .n_axes = 1,
         .sizes = {2},
         .unit = 4,
         .parts = "0-8|8-12",
         .runs = "0:0 8:1"},
        {.claim = "2 heads over 4 repeat",
         .length = 8,
         .n_axes = 1,
         .sizes = {4},
         .unit = 4,
         .parts = "0-4|0-4|4-8|4-8",
         .runs = "0:0,1 4:2,3"},
        {.claim = "segments are cut one by one",
         .length = 10,
         .n_axes = 1,
         .sizes = {2},
         .unit = 1,
         .n_segments = 2,
         .segments = {6, 4},
         .parts = "0-3,6-8|3-6,8-10",
         .runs = "0:0 3:1 6:0 8:1"},
        {.claim = "segments with units: queries split, keys repeat",
         .length = 12,
         .n_axes = 1,
         .sizes = {4},
         .unit = 2,
         .n_segments = 2,
         .segments = {8, 4},
         .parts = "0-2,8-10|2-4,8-10|4-6,10-12|6-8,10-12",
         .runs = "0:0 2:1 4:2 6:3 8:0,1 10:2,3"},
        {.claim = "[tp, dp] on mesh dp=2,tp=3: tp first, each part by dp",
         .length = 10,
         .n_axes = 2,
         .sizes = {2, 3},
         .axes = {1, 0},
         .unit = 1,
         .parts = "0-2|2-4|4-6|6-8|8-9|9-10",
         .runs = "0:0 2:3 4:1 6:4 8:2 9:5"},
        {.claim = "[dp, tp] on the same mesh",
         .length = 10,
         .n_axes = 2,
         .sizes = {2, 3},
         .axes = {0, 1},
         .unit = 1,
         .parts = "0-2|2-4|4-5|5-7|7-9|9-10",
         .runs = "0:0 2:1 4:2 5:3 7:4 9:5"},
        {.claim = "holders stand by rank even when repeated across axes",
         .length = 4,
         .n_axes = 2,
         .sizes = {2, 2},
         .axes = {1, 0},
         .unit = 4,
         .parts = "0-4|0-4|0-4|0-4",
         .runs = "0:0,1,2,3"},
        {.claim = "cut points are taken as they are",
         .length = 10,
         .n_axes = 1,
         .sizes = {4},
         .unit = 1,
         .n_cuts = 3,
         .cuts = {1, 1, 9},
         .parts = "0-1|1-1|1-9|9-10",
         .runs = "0:0 1:2 9:3"},
        {.claim = "an axis of size 1 cuts nothing, segments become one range",
         .length = 10,
         .n_axes = 1,
         .sizes = {1},
         .unit = 1,
         .n_segments = 2,
         .segments = {6, 4},
         .parts = "0-10",
         .runs = "0:0"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(base_arena) arena = base_arena_create(1 << 20);
        const struct ptc_cut *cut = NULL;
        BASE_AUTO_BUF parts = {0};
        BASE_AUTO_BUF runs = {0};
        struct base_err err;

        base_buf_init(&parts, 500);
        base_buf_init(&runs, 500);

        assert_non_null(arena);
        assert_ok(cut_make(arena, &cases[i], &cut, &err), &err);
        describe(cut, &parts, &runs);
        if (strcmp(parts.ptr, cases[i].parts) != 0 ||
            strcmp(runs.ptr, cases[i].runs) != 0) {
            fail_msg("%s: %s; %s", cases[i].claim, parts.ptr, runs.ptr);
        }
    }
}

static void test_what_does_not_fit_is_refused(void **state)
{
    static const struct {
        struct cut_case cut;
        const char *text;
    } cases[] = {
        {{.length = 10, .n_axes = 1, .sizes = {2}, .unit = 4},
         "the size 10 is no multiple of the unit 4"},
        {{.length = 12, .n_axes = 1, .sizes = {4}, .unit = 4},
         "3 units of 4 cannot repeat evenly over 4 parts"},
        {{.length = 8, .n_axes = 2, .sizes = {2, 3}, .axes = {0, 1}, .unit = 2},
         "2 units of 2 cannot repeat evenly over 3 parts"},
        {{.length = 10,
          .n_axes = 1,
          .sizes = {2},
          .unit = 1,
          .n_segments = 2,
          .segments = {6, 5}},
         "segments of 11 in all, but the size is 10"},
        {{.length = 10,
          .n_axes = 1,
          .sizes = {2},
          .unit = 2,
          .n_segments = 2,
          .segments = {5, 5}},
         "segment 5 is no multiple of the unit 2"},
        {{.length = 10,
          .n_axes = 1,
          .sizes = {2},
          .unit = 1,
          .n_cuts = 1,
          .cuts = {11}},
         "cut point 11 in a size of 10"},
        {{.length = 10,
          .n_axes = 1,
          .sizes = {3},
          .unit = 1,
          .n_cuts = 1,
          .cuts = {1}},
         "1 cut points do not make 3 parts"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(base_arena) arena = base_arena_create(1 << 20);
        const struct ptc_cut *cut = NULL;
        struct base_err err;

        assert_non_null(arena);
        assert_int_equal(cut_make(arena, &cases[i].cut, &cut, &err),
                         BASE_MISMATCH);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void test_parts_times_segments_are_bounded(void **state)
{
    static uint64_t segments[2000];
    BASE_AUTO(base_arena) arena = base_arena_create(1 << 20);
    struct ptc_mesh mesh = {.n_axes = 1, .n_ranks = 4096};
    struct ptc_dim_rule rule = {
        .n_axes = 1, .unit = 1, .n_segments = 2000, .segments = segments};
    const struct ptc_cut *cut = NULL;
    struct base_err err;

    (void)state;
    assert_non_null(arena);
    mesh.axes[0].size = 4096;
    assert_int_equal(ptc_cut_create(arena, &mesh, &rule, 0, &cut, &err),
                     BASE_LIMIT);
}

static void test_lengths_near_the_limit_do_not_overflow(void **state)
{
    struct ptc_range range = ptc_chunk(INT64_MAX, 1048576, 1048575);

    (void)state;
    assert_true(range.end == INT64_MAX);
    assert_true(range.begin < range.end);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_and_runs),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_parts_times_segments_are_bounded),
        cmocka_unit_test(test_lengths_near_the_limit_do_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
