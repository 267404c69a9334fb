/* Flats, by hand. */
#include "tests/unit/unit.h"

#include "tests/unit/ptc/bind.h"

#define ABC "a F32 3\nb F32 2x2\nc F32 -"

/* What two ranks show of ABC, and of which parts it is. */
static void test_members_are_laid_end_to_end_padded_and_cut(void **state)
{
    static const struct {
        const char *flat;
        const char *shown;
        const char *name; /* of one shown tensor */
        const char *parts[2];
    } cases[] = {
        {"over: [dp]",
         "z.0[4]",
         "z.0",
         {"a[0:3]@0 b[0:1, 0:1]@3", "b[0:1, 1:2]@0 b[1:2, 0:2]@1 c[]@3"}},
        {"over: [dp], align: 3",
         "z.0[6]",
         "z.0",
         {"a[0:3]@0 b[0:1, 0:2]@3 b[1:2, 0:1]@5", "b[1:2, 1:2]@0 c[]@1"}},
        {"over: [dp], bucket: 3",
         "z.0[2] z.1[2] z.2[1]",
         "z.0",
         {"a[0:2]@0", "a[2:3]@0"}},
        {"over: [dp], bucket: 3", "z.0[2] z.1[2] z.2[1]", "z.2", {"c[]@0", ""}},
        {"over: [dp], order: [c, b]",
         "z.0[4]",
         "z.0",
         {"c[]@0 b[0:1, 0:2]@1 b[1:2, 0:1]@3", "b[1:2, 1:2]@0 a[0:3]@1"}},
    };
    BASE_AUTO(ptc_table) table = bind_table(ABC);

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_layout) layout = NULL;
        BASE_AUTO_BUF yaml = {0};
        char text[BIND_TEXT_BYTES];

        base_buf_init(&yaml, 1000);
        (void)base_buf_addf(&yaml,
                            "{mesh: {dp: 2}, flats: {z: {%s}}, rules: "
                            "[{match: '*', flat: z}]}",
                            cases[i].flat);
        layout = bind_layout(yaml.ptr, table);
        for (ptc_rank rank = 0; rank < 2; rank++) {
            assert_string_equal(bind_shown(layout, rank, "", text),
                                cases[i].shown);
            assert_string_equal(
                bind_shown_parts(layout, rank, cases[i].name, text),
                cases[i].parts[rank]);
        }
    }
}

/* A layout's cells of one tensor. */
static void expect_cells(const char *yaml,
                         const char *lines,
                         const char *tensor,
                         const char *want)
{
    BASE_AUTO(ptc_table) table = bind_table(lines);
    BASE_AUTO(ptc_layout) layout = bind_layout(yaml, table);
    char text[BIND_TEXT_BYTES];

    assert_string_equal(bind_cells(layout, tensor, text), want);
}

static void test_cells_follow_the_parts_of_the_flat(void **state)
{
    (void)state;
    expect_cells("{mesh: {dp: 2}, flats: {z: {over: [dp]}}, rules: [{match: "
                 "'*', flat: z}]}",
                 ABC, "b", "[0:1, 0:1]:0 [0:1, 1:2]:1 [1:2, 0:2]:1");
}

static void test_members_may_be_cut_by_other_axes(void **state)
{
    static const char yaml[] =
        "{mesh: {dp: 2, tp: 2}, flats: {z: {over: [dp]}}, rules: [{match: w, "
        "dims: [~, tp], flat: z}]}";
    BASE_AUTO(ptc_table) table = bind_table("w F32 4x2");
    BASE_AUTO(ptc_layout) layout = bind_layout(yaml, table);
    char text[BIND_TEXT_BYTES];

    (void)state;
    assert_string_equal(bind_parts(layout, "w", 0, text), "[0:2, 0:1]@0");
    assert_string_equal(bind_parts(layout, "w", 3, text), "[2:4, 1:2]@0");
    assert_string_equal(bind_cells(layout, "w", text),
                        "[0:2, 0:1]:0 [2:4, 0:1]:2 [0:2, 1:2]:1 [2:4, 1:2]:3");
}

static void test_unequal_cuts_give_each_coordinate_its_own_offsets(void **state)
{
    /* a: tp 0 has 2, tp 1 has 1; so b begins at 2 or at 1 */
    static const char yaml[] =
        "{mesh: {tp: 2, dp: 2}, flats: {z: {over: [dp]}}, rules: [{match: a, "
        "dims: [tp], flat: z}, {match: b, flat: z}]}";
    static const char lines[] = "a F32 3\nb F32 4";
    BASE_AUTO(ptc_table) table = bind_table(lines);
    BASE_AUTO(ptc_layout) layout = bind_layout(yaml, table);
    char text[BIND_TEXT_BYTES];

    (void)state;
    assert_string_equal(bind_shown_parts(layout, 0, "z.0", text),
                        "a[0:2]@0 b[0:1]@2");
    assert_string_equal(bind_shown_parts(layout, 2, "z.0", text),
                        "a[2:3]@0 b[0:2]@1");
    assert_string_equal(bind_cells(layout, "b", text),
                        "[0:1]:0,2 [1:2]:1,2 [2:4]:1,3");
}

static void
test_a_member_on_all_stages_is_cut_by_each_stage_s_flat(void **state)
{
    static const char yaml[] =
        "{mesh: {pp: 2, dp: 2}, stages: {axis: pp, layer: 'l(\\d+)'}, flats: "
        "{z: {over: [dp]}}, rules: [{match: 'l*', stage: layer, flat: z}, "
        "{match: x, flat: z}]}";

    (void)state;
    /* stage 0: l0 2, x 4, parts of 3; stage 1: l1 6, x 4, parts of 5 */
    expect_cells(yaml, "l0 F32 2\nl1 F32 6\nx F32 4", "x",
                 "[0:1]:0,3 [1:4]:1,3");
}

static void test_the_lowest_holder_is_first(void **state)
{
    /* dp is slower than pp, and the part on stage 1 lies on the lower dp */
    static const char yaml[] =
        "{mesh: {dp: 2, pp: 2}, stages: {axis: pp, layer: 'l(\\d+)'}, flats: "
        "{z: {over: [dp]}}, rules: [{match: 'l*', stage: layer, flat: z}, "
        "{match: x, flat: z}]}";

    (void)state;
    /* stage 0: l0 4, x 4: x on dp 1; stage 1: l1 0, x 4: halves */
    expect_cells(yaml, "l0 F32 4\nl1 F32 0\nx F32 4", "x",
                 "[0:2]:1,2 [2:4]:2,3");
}

static void test_a_bucket_per_layer_stands_by_number(void **state)
{
    static const char yaml[] =
        "{mesh: {pp: 1, dp: 2}, stages: {axis: pp, layer: 'l(\\d+)'}, flats: "
        "{z: {over: [dp], bucket: layer}}, rules: [{match: '*', flat: z}]}";
    BASE_AUTO(ptc_table) table = bind_table("l10 F32 2\nl2 F32 3\nemb F32 8");
    BASE_AUTO(ptc_layout) layout = bind_layout(yaml, table);
    char text[BIND_TEXT_BYTES];

    (void)state;
    assert_string_equal(bind_shown(layout, 0, "", text),
                        "z.0[2] z.1[1] z.2[4]");
    assert_string_equal(bind_shown_parts(layout, 1, "z.0", text), "l2[2:3]@0");
    assert_string_equal(bind_shown_parts(layout, 1, "z.1", text), "l10[1:2]@0");
    assert_string_equal(bind_shown_parts(layout, 1, "z.2", text), "emb[4:8]@0");
}

static void test_states_make_flats_of_their_own(void **state)
{
    static const char yaml[] =
        "{mesh: {dp: 2}, flats: {z: {over: [dp]}}, rules: [{match: '*', flat: "
        "z}]}";
    BASE_AUTO(ptc_table)
    table = bind_table("w BF16 4\noptim.m.w F32 4\noptim.step.w I64 -");
    BASE_AUTO(ptc_layout) layout = bind_layout(yaml, table);
    char text[BIND_TEXT_BYTES];

    (void)state;
    /* one element and not the parameter's shape: replicated, in no flat */
    assert_string_equal(bind_shown(layout, 1, "", text),
                        "optim.m.z.0[2] optim.step.w[] z.0[2]");
    assert_string_equal(bind_shown(layout, 1, "model", text), "z.0[2]");
    assert_string_equal(bind_cells(layout, "optim.step.w", text), "[]:0,1");
}

static void test_metadata_lists_the_members_of_a_part(void **state)
{
    static const char yaml[] =
        "{mesh: {dp: 2}, flats: {z: {over: [dp], align: 5}}, rules: [{match: "
        "'*', flat: z}]}";
    BASE_AUTO(ptc_table) table = bind_table(ABC "\ne F32 0x3");
    BASE_AUTO(ptc_layout) layout = bind_layout(yaml, table);
    char text[BIND_TEXT_BYTES];

    (void)state;
    /* a 3, b 4, c 1, e 0: padded to 10; e has no elements and is told always */
    assert_string_equal(bind_json(layout, 1, "z.0", text),
                        "{\"flat\":[10,5],\"members\":["
                        "{\"name\":\"b\",\"at\":3,\"shape\":[2,2],"
                        "\"ranges\":[[[0,2]],[[0,2]]]},"
                        "{\"name\":\"c\",\"at\":7,\"shape\":[],\"ranges\":[]},"
                        "{\"name\":\"e\",\"at\":8,\"shape\":[0,3],"
                        "\"ranges\":[[[0,0]],[[0,3]]]}]}");
}

static void test_what_cannot_be_a_flat_is_refused(void **state)
{
    static const struct {
        const char *rule;
        const char *lines;
        const char *text;
    } cases[] = {
        {"{match: '*', flat: z}", "a F32 1\nb U8 1",
         "flat z: tensor a and tensor b differ in dtype"},
        {"{match: '*', flat: z}", "a F32 1\nb F32 1 extra",
         "flat z: tensor a and tensor b differ in group"},
        {"{match: a, flat: z}, {match: b, flat: z, mesh: other}",
         "a F32 1\nb F32 1", "flat z: tensor a and tensor b differ in mesh"},
        {"{match: a, flat: z}, {match: '*'}", "a F32 1\nz.0 F32 1",
         "a bucket of a flat and another tensor are both called z.0"},
        {"{match: '*', flat: z}", "a F4 2\nb F4 4",
         "flat z, tensor a: a run of a sub-byte dtype begins or ends within a "
         "byte"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = bind_table(cases[i].lines);
        BASE_AUTO_BUF yaml = {0};
        struct base_err err;

        base_buf_init(&yaml, 1000);
        (void)base_buf_addf(&yaml,
                            "{mesh: {dp: 2}, meshes: {other: {dp: 2}}, flats: "
                            "{z: {over: [dp]}}, rules: [%s]}",
                            cases[i].rule);
        assert_int_equal(bind_error(yaml.ptr, table, &err), BASE_MISMATCH);
        assert_string_equal(err.text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_are_laid_end_to_end_padded_and_cut),
        cmocka_unit_test(test_cells_follow_the_parts_of_the_flat),
        cmocka_unit_test(test_members_may_be_cut_by_other_axes),
        cmocka_unit_test(
            test_unequal_cuts_give_each_coordinate_its_own_offsets),
        cmocka_unit_test(
            test_a_member_on_all_stages_is_cut_by_each_stage_s_flat),
        cmocka_unit_test(test_the_lowest_holder_is_first),
        cmocka_unit_test(test_a_bucket_per_layer_stands_by_number),
        cmocka_unit_test(test_states_make_flats_of_their_own),
        cmocka_unit_test(test_metadata_lists_the_members_of_a_part),
        cmocka_unit_test(test_what_cannot_be_a_flat_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
