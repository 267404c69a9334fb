/* Views: bytes of hand-made layouts, how few extents they take, what is
 * refused.  (tests/prop/prop_view.c has the random layouts.) */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "ptc/view.h"
#include "tests/prop/file_bytes.h"
#include "tests/unit/ptc/fixture.h"

/* A state under a layout, with bytes and pieces. */
struct world {
    struct ptc_layout *layout;
    struct file_set files;
    struct ptc_pieces *pieces;
};

static struct world world_make(const struct ptc_table *table, const char *spec)
{
    struct world world = {.layout = fixture_layout(table, spec)};
    struct base_err err;

    assert_ok(file_set_ranks(world.layout, &world.files, &err), &err);
    assert_ok(file_set_fill(&world.files, &err), &err);
    assert_ok(file_set_pieces(&world.files, world.layout, &world.pieces, &err),
              &err);
    assert_ok(ptc_pieces_check(world.pieces, &err), &err);
    return world;
}

static void world_done(struct world *world)
{
    file_set_done(&world->files);
    ptc_pieces_free(world->pieces);
    ptc_layout_free(world->layout);
}

/* Every file of @to through a view over @from; returns the most extents. */
static uint32_t worlds_compare(const struct world *from, const struct world *to)
{
    uint32_t most = 0;
    struct base_err err;

    for (uint32_t i = 0; i < to->files.n; i++) {
        const struct ptc_file *file = to->files.files[i];
        uint64_t n_bytes = ptc_file_n_bytes(file);
        uint8_t *got = calloc(n_bytes + 1, 1);
        BASE_AUTO(ptc_view) view = NULL;

        assert_non_null(got);
        assert_ok(ptc_view_create(file, from->pieces, &view, &err), &err);
        for (unsigned by_rows = 0; by_rows < 2; by_rows++) {
            memset(got, 0xee, n_bytes);
            assert_int_equal(
                file_set_read(&from->files, view, 0, n_bytes, by_rows, got),
                n_bytes);
            assert_memory_equal(got, to->files.bytes[i], n_bytes);
        }
        for (uint64_t at = ptc_view_header(view).len; at < n_bytes; at++) {
            uint64_t n = file_set_read(&from->files, view, at, 7, at % 2, got);

            assert_memory_equal(got, to->files.bytes[i] + at, n);
        }
        most =
            most > ptc_view_n_extents(view) ? most : ptc_view_n_extents(view);
        free(got);
    }
    return most;
}

#define WHOLE     "mesh: {}\nrules: [{match: '*'}]\n"
#define CUT(dims) "mesh: {a: 2, b: 3}\nrules: [{match: '*', dims: " dims "}]\n"

/* From, to, and the most extents a file may take (its header is one). */
struct change {
    const char *from;
    const char *to;
    uint32_t max_extents;
};

static void changes_run(const struct ptc_table *table,
                        const struct change *changes,
                        size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct world from = world_make(table, changes[i].from);
        struct world to = world_make(table, changes[i].to);
        uint32_t most = worlds_compare(&from, &to);

        if (most > changes[i].max_extents) {
            fail_msg("case %zu: %u extents, %u expected", i, most,
                     changes[i].max_extents);
        }
        world_done(&from);
        world_done(&to);
    }
}

static void test_cuts_cost_a_few_extents_not_one_per_row(void **state)
{
    static const struct fixture_tensor t[] = {
        {"t", "model", PTC_F32, 4, {4, 6, 12, 6}, NULL},
    };
    static const struct change changes[] = {
        {WHOLE, WHOLE, 2},                        /* header, run */
        {WHOLE, CUT("[a]"), 2},                   /* header, run */
        {CUT("[a]"), WHOLE, 3},                   /* header, two runs */
        {WHOLE, CUT("[~, ~, ~, b]"), 3},          /* header, loop, run */
        {CUT("[~, ~, ~, b]"), WHOLE, 5},          /* header, loop, 3 runs */
        {WHOLE, CUT("[~, b, a]"), 4},             /* two loops, run */
        {CUT("[~, b, a]"), WHOLE, 1 + 1 + 3 * 3}, /* loop{3 loops{2 runs}} */
        {WHOLE, CUT("[a, ~, ~, b]"), 3},
        {CUT("[~, b, ~, a]"), CUT("[~, a, ~, b]"), 12},
    };
    BASE_AUTO(ptc_table) table = fixture_table(t, 1);

    (void)state;
    changes_run(table, changes, N_ITEMS(changes));
}

static void test_a_file_over_itself_is_one_run(void **state)
{
    static const struct fixture_tensor t[] = {
        {"a", "model", PTC_F32, 2, {6, 6}, NULL},
        {"b", "model", PTC_BF16, 2, {12, 6}, NULL},
        {"c", "model", PTC_F32, 1, {6}, NULL},
    };
    static const char three[] =
        "mesh: {a: 3}\nrules: [{match: '*', dims: [a]}]\n";
    static const struct change changes[] = {
        {three, three, 2}, /* header, run */
    };
    BASE_AUTO(ptc_table) table = fixture_table(t, N_ITEMS(t));

    (void)state;
    changes_run(table, changes, N_ITEMS(changes));
}

static void test_segments_flats_and_padding_have_the_right_bytes(void **state)
{
    static const struct fixture_tensor t[] = {
        {"a", "model", PTC_F32, 2, {6, 10}, NULL},
        {"b", "model", PTC_F32, 2, {4, 12}, NULL},
        {"c", "model", PTC_F32, 1, {7}, NULL},
        {"s", "model", PTC_F32, 0, {0}, NULL},
    };
    static const char segments[] =
        "mesh: {a: 2}\n"
        "rules:\n"
        "  - {match: a, dims: [a, ~], segments: {0: [4, 2]}}\n"
        "  - {match: b, dims: [~, a], segments: {1: [3, 4, 5]}}\n"
        "  - {match: '*'}\n";
    static const char flat[] =
        "mesh: {dp: 3, a: 2}\n"
        "flats: {f: {over: [dp], align: 8}}\n"
        "rules:\n"
        "  - {match: b, dims: [~, a], segments: {1: [3, 4, 5]}, flat: f}\n"
        "  - {match: '*', flat: f}\n";
    static const struct change changes[] = {
        {segments, flat, 40},    {flat, segments, 40},
        {flat, flat, 2 + 6}, /* replicas of rank 0 elsewhere; padding */
        {segments, segments, 4}, {WHOLE, flat, 40},
        {flat, WHOLE, 60},       {CUT("[~, b]"), segments, 60},
    };
    BASE_AUTO(ptc_table) table = fixture_table(t, N_ITEMS(t));

    (void)state;
    changes_run(table, changes, 6);
    /* The vectors have one dimension: cut only what has two. */
    struct world from = world_make(table, "mesh: {b: 3}\n"
                                          "rules:\n"
                                          "  - {match: '[ab]', dims: [~, b]}\n"
                                          "  - {match: '*'}\n");
    struct world to = world_make(table, segments);
    (void)worlds_compare(&from, &to); /* only its checks matter */
    world_done(&from);
    world_done(&to);
}

static void test_sub_byte_runs_are_whole_bytes(void **state)
{
    static const struct fixture_tensor t[] = {
        {"t", "model", PTC_F4, 2, {6, 12}, NULL},
        {"u", "model", PTC_F6_E2M3, 2, {6, 24}, NULL},
        {"v", "model", PTC_F4, 2, {4, 3}, NULL},
        {"w", "model", PTC_F32, 2, {6, 12}, NULL},
    };
    static const char cut[] = "mesh: {a: 2, b: 3}\n"
                              "rules:\n"
                              "  - {match: v, dims: [a]}\n"
                              "  - {match: '*', dims: [a, b]}\n";
    static const struct change changes[] = {
        {WHOLE, cut, 8},
        {cut, WHOLE, 40},
        {cut, cut, 2},
        {WHOLE, WHOLE, 2},
    };
    BASE_AUTO(ptc_table) table = fixture_table(t, N_ITEMS(t));

    (void)state;
    changes_run(table, changes, 2);
    changes_run(table, changes + 3, 1);
}

static void test_what_no_piece_has_is_named(void **state)
{
    static const struct fixture_tensor t[] = {
        {"t", "model", PTC_F32, 2, {8, 8}, NULL},
    };
    BASE_AUTO(ptc_table) table = fixture_table(t, 1);
    struct world world = world_make(table, WHOLE);
    BASE_AUTO(ptc_pieces) pieces = ptc_pieces_create(table);
    struct ptc_piece piece = {.box = {2, {0, 0}, {8, 8}}, .stride = {32, 4}};
    struct base_err err = {0};
    BASE_AUTO(ptc_view) view = NULL;

    (void)state;
    piece.box.end[1] = 5;
    assert_ok(ptc_pieces_add(pieces, 0, &piece, &err), &err);
    assert_ok(ptc_pieces_seal(pieces, &err), &err);
    assert_int_equal(ptc_view_create(world.files.files[0], pieces, &view, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "tensor t: no piece has ["));
    world_done(&world);
}

static void test_pieces_that_overlap_are_refused(void **state)
{
    static const struct fixture_tensor t[] = {
        {"t", "model", PTC_F32, 1, {8}, NULL},
    };
    /* The second has as many elements twice as are missing. */
    static const char *const texts[] = {"overlap", "two pieces hold"};
    static const struct ptc_piece cases[][2] = {
        {{.box = {1, {0}, {8}}, .stride = {4}},
         {.box = {1, {2}, {4}}, .stride = {4}}},
        {{.box = {1, {0}, {6}}, .stride = {4}},
         {.box = {1, {4}, {6}}, .stride = {4}}},
    };
    BASE_AUTO(ptc_table) table = fixture_table(t, 1);
    struct world world = world_make(table, WHOLE);

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_pieces) pieces = ptc_pieces_create(table);
        BASE_AUTO(ptc_view) view = NULL;
        struct base_err err = {0};

        for (size_t k = 0; k < 2; k++) {
            assert_ok(ptc_pieces_add(pieces, 0, &cases[i][k], &err), &err);
        }
        assert_ok(ptc_pieces_seal(pieces, &err), &err);
        assert_int_equal(
            ptc_view_create(world.files.files[0], pieces, &view, &err),
            BASE_MISMATCH);
        assert_non_null(strstr(err.text, texts[i]));
    }
    world_done(&world);
}

static void test_runs_that_touch_in_one_row_only_stay_two(void **state)
{
    static const struct fixture_tensor t[] = {
        {"t", "model", PTC_U8, 2, {3, 8}, NULL},
    };
    /* In row 0 the second piece begins where the first ends. */
    static const struct ptc_piece pieces_of_t[] = {
        {.box = {2, {0, 0}, {3, 4}}, .offset = 0, .stride = {4, 1}},
        {.box = {2, {0, 4}, {3, 8}}, .offset = 4, .stride = {10, 1}},
    };
    static const uint8_t expect[] = {0, 1, 2,  3,  4,  5,  6,  7,
                                     4, 5, 6,  7,  14, 15, 16, 17,
                                     8, 9, 10, 11, 24, 25, 26, 27};
    BASE_AUTO(ptc_table) table = fixture_table(t, 1);
    struct world world = world_make(table, WHOLE);
    BASE_AUTO(ptc_pieces) pieces = ptc_pieces_create(table);
    BASE_AUTO(ptc_view) view = NULL;
    uint8_t bytes[32];
    uint8_t *blobs[] = {bytes};
    struct file_set set = {.n = 1, .bytes = blobs};
    struct base_err err;
    uint8_t got[sizeof(expect)];

    (void)state;
    for (uint8_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = i;
    }
    for (size_t i = 0; i < N_ITEMS(pieces_of_t); i++) {
        assert_ok(ptc_pieces_add(pieces, 0, &pieces_of_t[i], &err), &err);
    }
    assert_ok(ptc_pieces_seal(pieces, &err), &err);
    assert_ok(ptc_view_create(world.files.files[0], pieces, &view, &err), &err);
    assert_int_equal(file_set_read(&set, view, ptc_view_header(view).len,
                                   sizeof(got), false, got),
                     sizeof(got));
    assert_memory_equal(got, expect, sizeof(got));
    world_done(&world);
}

static void test_ranges_are_cut_to_the_file(void **state)
{
    static const struct fixture_tensor t[] = {
        {"t", "model", PTC_F32, 1, {8}, NULL},
    };
    BASE_AUTO(ptc_table) table = fixture_table(t, 1);
    struct world world = world_make(table, WHOLE);
    BASE_AUTO(ptc_view) view = NULL;
    struct base_err err;
    uint8_t bytes[64];
    uint64_t n;

    (void)state;
    assert_ok(ptc_view_create(world.files.files[0], world.pieces, &view, &err),
              &err);
    n = ptc_view_n_bytes(view);
    assert_int_equal(
        file_set_read(&world.files, view, n - 3, UINT64_MAX, false, bytes), 3);
    assert_int_equal(file_set_read(&world.files, view, n, 1, false, bytes), 0);
    assert_int_equal(
        file_set_read(&world.files, view, UINT64_MAX, 1, true, bytes), 0);
    assert_int_equal(file_set_read(&world.files, view, 9, 0, true, bytes), 0);
    world_done(&world);
}

static void test_a_tensor_without_elements_takes_no_extent(void **state)
{
    static const struct fixture_tensor t[] = {
        {"t", "model", PTC_F32, 2, {1, 8}, NULL},
        {"u", "model", PTC_F32, 1, {0}, NULL},
    };
    static const struct change changes[] = {
        {WHOLE, CUT("[a]"), 2}, /* rank 1 has an empty shard */
        {CUT("[a]"), WHOLE, 2},
    };
    BASE_AUTO(ptc_table) table = fixture_table(t, 2);

    (void)state;
    changes_run(table, changes, N_ITEMS(changes));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cuts_cost_a_few_extents_not_one_per_row),
        cmocka_unit_test(test_a_file_over_itself_is_one_run),
        cmocka_unit_test(test_segments_flats_and_padding_have_the_right_bytes),
        cmocka_unit_test(test_sub_byte_runs_are_whole_bytes),
        cmocka_unit_test(test_what_no_piece_has_is_named),
        cmocka_unit_test(test_pieces_that_overlap_are_refused),
        cmocka_unit_test(test_runs_that_touch_in_one_row_only_stay_two),
        cmocka_unit_test(test_ranges_are_cut_to_the_file),
        cmocka_unit_test(test_a_tensor_without_elements_takes_no_extent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
