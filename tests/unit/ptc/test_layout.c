/* Layouts of dense tensors, by hand. */
#include "tests/unit/unit.h"

#include "tests/unit/ptc/bind.h"

/* One question to a layout and its answer. */
struct case_of {
    const char *yaml;
    const char *table;
    const char *tensor; /* NULL: what @rank shows */
    int rank;           /* of parts; -1: cells */
    const char *want;
};

static void run_cases(const struct case_of *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        BASE_AUTO(ptc_table) table = bind_table(cases[i].table);
        BASE_AUTO(ptc_layout) layout = bind_layout(cases[i].yaml, table);
        char text[BIND_TEXT_BYTES];

        if (cases[i].tensor == NULL) {
            (void)bind_shown(layout, (ptc_rank)cases[i].rank, "", text);
        } else if (cases[i].rank < 0) {
            (void)bind_cells(layout, cases[i].tensor, text);
        } else {
            (void)bind_parts(layout, cases[i].tensor, (ptc_rank)cases[i].rank,
                             text);
        }
        if (strcmp(text, cases[i].want) != 0) {
            fail_msg("case %zu: %s", i, text);
        }
    }
}

#define TP4_DP2 "mesh: {dp: 2, tp: 4}\nrules:\n"

static void test_parts_and_cells_follow_the_cuts(void **state)
{
    static const char rows[] = TP4_DP2 "- {match: a, dims: [tp, ~]}\n";
    static const char both[] = TP4_DP2 "- {match: a, dims: [dp, tp]}\n";
    static const char twice[] = TP4_DP2 "- {match: a, dims: [[tp, dp]]}\n";
    static const char fused[] =
        "mesh: {tp: 2}\nrules:\n"
        "- {match: a, dims: [tp, ~], segments: {0: [8, 4]}}\n";
    static const char heads[] =
        TP4_DP2 "- {match: a, dims: [tp], unit: {0: 3}}\n";
    static const char none[] = TP4_DP2 "- {match: a}\n";
    static const struct case_of cases[] = {
        {rows, "a F32 10x4", "a", 0, "[0:3, 0:4]@0"},
        {rows, "a F32 10x4", "a", 3, "[9:10, 0:4]@0"},
        {rows, "a F32 10x4", "a", 6, "[6:9, 0:4]@0"},
        {rows, "a F32 10x4", "a", -1,
         "[0:3, 0:4]:0,4 [3:6, 0:4]:1,5 [6:9, 0:4]:2,6 [9:10, 0:4]:3,7"},
        {rows, "a F32 5x4", "a", 3, ""},
        {rows, "a F32 5x4", "a", -1,
         "[0:2, 0:4]:0,4 [2:4, 0:4]:1,5 [4:5, 0:4]:2,6"},
        {rows, "a F32 0x4", "a", -1, ""},
        {rows, "a F32 -", "a", 5, "[]@0"}, /* no dimensions: any rule */
        {rows, "a F32 -", "a", -1, "[]:0,1,2,3,4,5,6,7"},
        {both, "a F32 4x3", "a", 6, "[2:4, 2:3]@0"},
        {both, "a F32 4x3", "a", 7, ""},
        {both, "a F32 4x3", "a", -1,
         "[0:2, 0:1]:0 [0:2, 1:2]:1 [0:2, 2:3]:2 "
         "[2:4, 0:1]:4 [2:4, 1:2]:5 [2:4, 2:3]:6"},
        /* tp: 3, 3, 3, 1; each by dp: 2 and 1, or 1 and 0 */
        {twice, "a F32 10", "a", 4, "[2:3]@0"},
        {twice, "a F32 10", "a", -1,
         "[0:2]:0 [2:3]:4 [3:5]:1 [5:6]:5 [6:8]:2 [8:9]:6 [9:10]:3"},
        {fused, "a F32 12x2", "a", 0, "[0:4, 0:2]@0 [8:10, 0:2]@8"},
        {fused, "a F32 12x2", "a", 1, "[4:8, 0:2]@0 [10:12, 0:2]@8"},
        {fused, "a F32 12x2", "a", -1,
         "[0:4, 0:2]:0 [4:8, 0:2]:1 [8:10, 0:2]:0 [10:12, 0:2]:1"},
        {heads, "a F32 6", "a", 6, "[3:6]@0"},
        {heads, "a F32 6", "a", -1, "[0:3]:0,4,1,5 [3:6]:2,6,3,7"},
        {none, "a F32 2x2", "a", 7, "[0:2, 0:2]@0"},
    };

    (void)state;
    run_cases(cases, N_ITEMS(cases));
}

static void test_shards_tell_shape_and_ranges(void **state)
{
    BASE_AUTO(ptc_table) table = bind_table("a F32 10x4");
    BASE_AUTO(ptc_layout)
    layout = bind_layout(TP4_DP2 "- {match: a, dims: [tp, dp]}\n", table);
    uint64_t shape[PTC_MAX_DIMS];
    uint32_t n;
    const struct ptc_range *ranges;

    (void)state;
    assert_true(ptc_layout_has(layout, 0, 7));
    ptc_layout_shard_shape(layout, 0, 7, shape); /* dp 1, tp 3 */
    assert_int_equal(shape[0], 1);
    assert_int_equal(shape[1], 2);
    ranges = ptc_layout_shard_ranges(layout, 0, 7, 1, &n);
    assert_int_equal(n, 1);
    assert_int_equal(ranges[0].begin, 2);
    assert_int_equal(ranges[0].end, 4);
}

static enum base_code
sum_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    uint64_t *sum = ctx;

    (void)err;
    sum[0]++;
    sum[1] += ptc_box_elems(&cell->box);
    return sum[0] == 3 ? BASE_INTERRUPTED : BASE_OK;
}

static void test_find_cuts_the_asked_box_and_stops_when_told(void **state)
{
    BASE_AUTO(ptc_table) table = bind_table("a F32 10x4");
    BASE_AUTO(ptc_layout)
    layout = bind_layout(TP4_DP2 "- {match: a, dims: [tp, dp]}\n", table);
    struct ptc_box box = {2, {2, 1}, {4, 2}}; /* rows of parts 0 and 1 */
    struct ptc_box all = {2, {0, 0}, {10, 4}};
    struct ptc_box none = {2, {4, 0}, {4, 4}};
    uint64_t sum[2] = {0, 0};
    struct base_err err;

    (void)state;
    assert_ok(ptc_layout_find(layout, 0, &box, sum_cell, sum, &err), &err);
    assert_int_equal(sum[0], 2);
    assert_int_equal(sum[1], 2);
    assert_ok(ptc_layout_find(layout, 0, &none, sum_cell, sum, &err), &err);
    assert_int_equal(sum[0], 2);
    assert_int_equal(ptc_layout_find(layout, 0, &all, sum_cell, sum, &err),
                     BASE_INTERRUPTED);
    assert_int_equal(sum[0], 3);
}

#define STAGES "stages: {axis: pp, layer: 'layers\\.(\\d+)\\.'"
#define FIVE                                                                   \
    "layers.0.w F32 1\nlayers.1.w F32 1\nlayers.2.w F32 1\nlayers.3.w F32 "    \
    "1\nlayers.4.w F32 1\nin F32 1\nout F32 1\nall F32 1\nmid F32 1"
#define FIVE_RULES                                                             \
    "rules:\n- {match: 'layers.*', stage: layer}\n"                            \
    "- {match: in, stage: first}\n- {match: out, stage: last}\n"               \
    "- {match: all}\n- {match: mid, stage: [1, 0]}\n"

static void test_stages_hold_the_layers_they_should(void **state)
{
    static const char chunked[] = "mesh: {pp: 2}\n" STAGES "}\n" FIVE_RULES;
    static const char counted[] =
        "mesh: {pp: 2}\n" STAGES ", counts: [1, 4]}\n" FIVE_RULES;
    static const char woven[] =
        "mesh: {pp: 2}\n" STAGES ", interleave: 2}\n" FIVE_RULES;
    static const char both[] =
        "mesh: {pp: 2}\n" STAGES
        ", interleave: 2, counts: [1, 1, 1, 2]}\n" FIVE_RULES;
    static const char numeric[] =
        "mesh: {pp: 2}\n" STAGES "}\nrules: [{match: '*', stage: layer}]\n";
    static const char one[] = "mesh: {pp: 1, dp: 2}\n" STAGES
                              "}\nrules: [{match: '*', stage: [0]}]\n";
    static const struct case_of cases[] = {
        {chunked, FIVE, NULL, 0,
         "all[1] in[1] layers.0.w[1] layers.1.w[1] layers.2.w[1] mid[1]"},
        {chunked, FIVE, NULL, 1,
         "all[1] layers.3.w[1] layers.4.w[1] mid[1] out[1]"},
        {chunked, FIVE, "mid", -1, "[0:1]:0,1"},
        {chunked, FIVE, "layers.4.w", -1, "[0:1]:1"},
        {counted, FIVE, NULL, 0, "all[1] in[1] layers.0.w[1] mid[1]"},
        /* chunks of 2, 2, 1, 0 on stages 0, 1, 0, 1 */
        {woven, FIVE, NULL, 0,
         "all[1] in[1] layers.0.w[1] layers.1.w[1] layers.4.w[1] mid[1]"},
        {both, FIVE, NULL, 0,
         "all[1] in[1] layers.0.w[1] layers.2.w[1] mid[1]"},
        /* by number, not by name */
        {numeric, "layers.2.w F32 1\nlayers.10.w F32 1", NULL, 0,
         "layers.2.w[1]"},
        {one, "w F32 1", "w", -1, "[0:1]:0,1"},
    };

    (void)state;
    run_cases(cases, N_ITEMS(cases));
}

static void test_experts_lie_on_their_own_mesh(void **state)
{
    static const char yaml[] =
        "mesh: {dp: 4}\nmeshes: {moe: {edp: 2, ep: 2}}\n"
        "experts: {axis: ep, expert: 'experts\\.(\\d+)\\.'}\nrules:\n"
        "- {match: 'experts.*', mesh: moe, expert: true, dims: [edp]}\n"
        "- {match: w, dims: [dp]}\n";
    static const char table[] = "experts.0.w F32 4\nexperts.1.w F32 4\n"
                                "experts.2.w F32 4\nw F32 4";
    static const struct case_of cases[] = {
        {yaml, table, "experts.1.w", -1, "[0:2]:0 [2:4]:2"},
        {yaml, table, "experts.2.w", -1, "[0:2]:1 [2:4]:3"},
        {yaml, table, "w", -1, "[0:1]:0 [1:2]:1 [2:3]:2 [3:4]:3"},
        {yaml, table, NULL, 1, "experts.2.w[2] w[1]"},
    };

    (void)state;
    run_cases(cases, N_ITEMS(cases));
}

static void test_optimizer_states_follow_their_parameter(void **state)
{
    static const char plain[] =
        "mesh: {pp: 2, tp: 2}\n" STAGES
        "}\nrules: [{match: '*', dims: [tp], stage: layer}]\n";
    static const char own[] = "mesh: {pp: 2, tp: 2}\n" STAGES "}\nrules:\n"
                              "- {match: '*', dims: [tp], stage: layer}\n"
                              "- {match: 'optim.m.*', dims: [pp]}\n";
    static const char table[] =
        "layers.0.w F32 4x2\nlayers.1.w F32 4x2\noptim.m.layers.1.w F32 4x2\n"
        "optim.step.layers.1.w I64 -\noptim.k.layers.1.w I64 1";
    static const struct case_of cases[] = {
        {plain, table, "optim.m.layers.1.w", -1, "[0:2, 0:2]:2 [2:4, 0:2]:3"},
        {plain, table, "optim.step.layers.1.w", -1, "[]:2,3"},
        {plain, table, "optim.k.layers.1.w", -1, "[0:1]:2,3"}, /* not cut */
        {own, table, "optim.m.layers.1.w", -1, "[0:2, 0:2]:0,1 [2:4, 0:2]:2,3"},
        {own, table, "optim.step.layers.1.w", -1, "[]:2,3"},
    };

    (void)state;
    run_cases(cases, N_ITEMS(cases));
}

static void test_a_tie_without_a_rule_takes_its_target_s(void **state)
{
    static const char one[] =
        "mesh: {pp: 2, tp: 2}\n" STAGES
        "}\nrules: [{match: in, dims: [tp], stage: first}]\n";
    static const char two[] =
        "mesh: {pp: 2, tp: 2}\n" STAGES
        "}\nrules:\n- {match: in, dims: [tp], stage: first}\n"
        "- {match: out, tie: in, stage: last}\n";
    static const struct case_of cases[] = {
        {one, "in F32 2\nout = in", "out", -1, "[0:1]:0 [1:2]:1"},
        {two, "in F32 2\nout = in", "out", -1, "[0:2]:2,3"},
    };

    (void)state;
    run_cases(cases, N_ITEMS(cases));
}

static void test_ties_of_the_spec_are_added_to_the_table(void **state)
{
    static const struct {
        const char *table;
        const char *rule;
        enum base_code code;
        bool is_added;
        const char *text;
    } cases[] = {
        {"in F32 2", "{match: out, tie: in}", BASE_OK, true, ""},
        {"in F32 2\nout F32 2", "{match: out, tie: in}", BASE_OK, true, ""},
        {"in F32 2\nout = in", "{match: out, tie: in}", BASE_OK, false, ""},
        {"x F32 2", "{match: out, tie: in, optional: true}", BASE_OK, false,
         ""},
        {"x F32 2", "{match: out, tie: in}", BASE_MISMATCH, false,
         "rule 'out' (line 1): its tie in is not in the table"},
        {"x F32 2\nin F32 2\nout = x", "{match: out, tie: in}", BASE_MISMATCH,
         false, "rule 'out' (line 1): the table ties it to x, not to in"},
        {"in F32 2\nout F32 3", "{match: out, tie: in}", BASE_BAD_INPUT, false,
         NULL},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = bind_table(cases[i].table);
        BASE_AUTO(ptc_table) more = NULL;
        BASE_AUTO(ptc_spec) spec = NULL;
        BASE_AUTO_BUF yaml = {0};
        struct base_err err = {0};

        base_buf_init(&yaml, 1000);
        (void)base_buf_addf(&yaml, "{mesh: {}, rules: [%s]}", cases[i].rule);
        assert_ok(ptc_spec_parse(base_buf_str(&yaml), "test", &spec, &err),
                  &err);
        assert_int_equal(ptc_spec_ties(spec, table, &more, &err),
                         cases[i].code);
        assert_int_equal(more != NULL, cases[i].is_added);
        if (cases[i].text != NULL) {
            assert_string_equal(err.text, cases[i].text);
        }
        if (more != NULL) {
            uint32_t out = ptc_table_find(more, BASE_STR("out"));

            assert_int_equal(ptc_table_root(more, out),
                             ptc_table_find(more, BASE_STR("in")));
        }
    }
}

static void test_what_does_not_fit_is_refused_by_name(void **state)
{
    static const struct {
        const char *yaml;
        const char *table;
        const char *text;
    } cases[] = {
        {"mesh: {}\nrules: [{match: a}]", "a F32 1\nb F32 1",
         "tensor b: no rule matches"},
        {"mesh: {}\nrules:\n- {match: a}\n- {match: zz}\n", "a F32 1",
         "rule 'zz' (line 4) matches no tensor (and is not optional)"},
        {"mesh: {}\nrules:\n- {match: '*'}\n- {match: a}\n", "a F32 1",
         "rule 'a' (line 4) decides nothing: earlier rules take all that it "
         "matches, as a"},
        {"mesh: {tp: 2}\nrules:\n- {match: a, dims: [~, tp]}\n", "a F32 4",
         "tensor a, rule 'a' (line 3): 2 dims given, but the tensor has 1"},
        {"mesh: {tp: 2}\nrules:\n- {match: a, dims: [tp], unit: {0: 4}}\n",
         "a F32 6",
         "tensor a, rule 'a' (line 3): dim 0: the size 6 is no multiple of the "
         "unit 4"},
        {"mesh: {pp: 2}\n" STAGES "}\nrules:\n- {match: a, stage: layer}\n",
         "a F32 6",
         "tensor a, rule 'a' (line 4): its name has no number that "
         "'layers\\.(\\d+)\\.' of stages reads"},
        {"mesh: {pp: 2}\n" STAGES
         ", counts: [1, 1]}\nrules:\n- {match: '*', stage: layer}\n",
         "layers.7.w F32 1",
         "tensor layers.7.w, rule '*' (line 4): stages: the counts add up to "
         "2, "
         "but the names have 1 numbers"},
        {"mesh: {}\nrules: [{match: '*'}]", "a F32 1\noptim.m.b F32 1",
         "tensor optim.m.b: no optim. rule matches and its parameter is not in "
         "the table"},
        {"mesh: {}\nrules: [{match: '*'}]", "a F32 4\noptim.m.a F32 3",
         "tensor optim.m.a: no optim. rule matches and it has neither its "
         "parameter's shape nor one element"},
        {"mesh: {}\nrules:\n- {match: in}\n- {match: out, tie: in}\n",
         "in F32 1\nout F32 1",
         "rule 'out' (line 4): the table does not tie it to in"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = bind_table(cases[i].table);
        struct base_err err;

        assert_int_equal(bind_error(cases[i].yaml, table, &err), BASE_MISMATCH);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void test_sub_byte_runs_are_whole_bytes_or_refused(void **state)
{
    static const struct {
        const char *dims;
        const char *tensor;
        enum base_code code;
    } cases[] = {
        {"[~, ~]", "a F4 2x3", BASE_OK},
        {"[tp, ~]", "a F4 4x3", BASE_OK},       /* two rows: 6 elements */
        {"[tp, ~]", "a F4 2x3", BASE_MISMATCH}, /* one row: 3 */
        {"[~, tp]", "a F4 2x4", BASE_OK},
        {"[~, tp]", "a F4 2x6", BASE_MISMATCH}, /* 3 and 3 */
        {"[tp, ~]", "a F6_E2M3 2x4", BASE_OK},
        {"[~, tp]", "a F6_E2M3 2x4", BASE_MISMATCH}, /* 2: 12 bits */
        {"[tp, ~]", "a U8 2x3", BASE_OK},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = bind_table(cases[i].tensor);
        BASE_AUTO_BUF yaml = {0};
        struct base_err err;

        base_buf_init(&yaml, 1000);
        (void)base_buf_addf(&yaml,
                            "{mesh: {tp: 2}, rules: [{match: a, dims: %s}]}",
                            cases[i].dims);
        if (bind_error(yaml.ptr, table, &err) != cases[i].code) {
            fail_msg("%s, %s: %s", cases[i].dims, cases[i].tensor, err.text);
        }
    }
}

static void test_shown_tensors_stand_by_name_and_group(void **state)
{
    BASE_AUTO(ptc_table)
    table = bind_table("b F32 5\na F32 2x2 extra\noptim.m.b F32 5");
    BASE_AUTO(ptc_layout)
    layout = bind_layout("mesh: {tp: 4}\nrules: [{match: '*', dims: [tp]}]\n",
                         table);
    char text[BIND_TEXT_BYTES];

    (void)state;
    assert_string_equal(bind_shown(layout, 0, "", text),
                        "a[1,2] b[2] optim.m.b[2]");
    assert_string_equal(bind_shown(layout, 3, "model", text), "b[0]");
    assert_string_equal(bind_shown(layout, 3, "extra", text), "a[0,2]");
    assert_string_equal(bind_shown(layout, 3, "none", text), "");
    assert_string_equal(bind_shown_parts(layout, 1, "b", text), "b[2:4]@0");
    assert_string_equal(bind_shown_parts(layout, 3, "b", text), "");
}

static void test_metadata_tells_offset_or_ranges(void **state)
{
    BASE_AUTO(ptc_table)
    table = bind_table("a F32 10x4\nqkv F32 12x2\ns F32 -");
    BASE_AUTO(ptc_layout)
    layout =
        bind_layout("mesh: {tp: 4}\nrules:\n"
                    "- {match: qkv, dims: [tp, ~], segments: {0: [8, 4]}}\n"
                    "- {match: '*', dims: [tp]}\n",
                    table);
    char text[BIND_TEXT_BYTES];

    (void)state;
    assert_string_equal(bind_json(layout, 3, "a", text),
                        "{\"shape\":[10,4],\"offset\":[9,0]}");
    assert_string_equal(
        bind_json(layout, 1, "qkv", text),
        "{\"shape\":[12,2],\"ranges\":[[[2,4],[9,10]],[[0,2]]]}");
    assert_string_equal(bind_json(layout, 1, "s", text),
                        "{\"shape\":[],\"offset\":[]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_and_cells_follow_the_cuts),
        cmocka_unit_test(test_shards_tell_shape_and_ranges),
        cmocka_unit_test(test_find_cuts_the_asked_box_and_stops_when_told),
        cmocka_unit_test(test_stages_hold_the_layers_they_should),
        cmocka_unit_test(test_experts_lie_on_their_own_mesh),
        cmocka_unit_test(test_optimizer_states_follow_their_parameter),
        cmocka_unit_test(test_a_tie_without_a_rule_takes_its_target_s),
        cmocka_unit_test(test_ties_of_the_spec_are_added_to_the_table),
        cmocka_unit_test(test_what_does_not_fit_is_refused_by_name),
        cmocka_unit_test(test_sub_byte_runs_are_whole_bytes_or_refused),
        cmocka_unit_test(test_shown_tensors_stand_by_name_and_group),
        cmocka_unit_test(test_metadata_tells_offset_or_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
