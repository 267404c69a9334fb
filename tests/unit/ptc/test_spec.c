#include "ptc/spec.h"

#include "ptc/table.h"
#include "tests/unit/unit.h"

static struct ptc_spec *parse(const char *text)
{
    struct ptc_spec *spec = NULL;
    struct base_err err = {0};

    assert_ok(ptc_spec_parse(base_str_of(text), "s.yaml", &spec, &err), &err);
    return spec;
}

/* Parse @text; what it says in canonical form must be @canonical, and that
 * must be a fixed point. */
static void check_canonical(const char *text, const char *canonical)
{
    BASE_AUTO(ptc_spec) spec = parse(text);
    BASE_AUTO(ptc_spec) again = parse(canonical);
    BASE_AUTO_BUF first;
    BASE_AUTO_BUF second;
    struct base_digest a;
    struct base_digest b;
    struct base_err err = {0};

    base_buf_init(&first, PTC_SPEC_MAX_BYTES);
    base_buf_init(&second, PTC_SPEC_MAX_BYTES);
    assert_ok(ptc_spec_format(spec, &first, &err), &err);
    assert_string_equal(first.ptr, canonical);
    assert_ok(ptc_spec_format(again, &second, &err), &err);
    assert_string_equal(second.ptr, canonical);
    assert_ok(ptc_spec_digest(spec, &a, &err), &err);
    assert_ok(ptc_spec_digest(again, &b, &err), &err);
    assert_true(base_digest_eq(a, b));
}

static void test_canonical_text_keeps_what_matters(void **state)
{
    (void)state;
    check_canonical("rules: []\nmesh: {}\n", "mesh: {}\nrules: []\n");
    check_canonical(
        "objects: {'r''s*': {on_change: refuse}, b: ~, c: {varies: []},\n"
        "  d: {on_change: drop, varies: [tp, pp]}}\n"
        "rules:\n"
        "  - match: \"a'b\"\n"
        "    optional: false\n"
        "    expert: false\n"
        "    stage: all\n"
        "    dims: [~, [], tp, [dp, pp]]\n"
        "    unit: {3: 1, 2: 8}\n"
        "  - {stage: [1, 0], match: x}\n"
        "  - {stage: [1], match: x, cuts: {0: []}, dims: [one], optional: "
        "true}\n"
        "  - {mesh: moe, expert: true, match: '*e*', dims: [~, tp], segments: "
        "{1: [3, 4]}, flat: f}\n"
        "  - {match: t, tie: u, cuts: {0: [5, 5, 9]}, dims: [tp]}\n"
        "flats: {f: {align: 1, over: [dp], bucket: 5}, g: {over: [pp, tp], "
        "order: [\"a\", '*'], bucket: layer, align: 8}}\n"
        "experts: {expert: 'e(\\d+)', axis: ep}\n"
        "stages: {interleave: 2, layer: 'l(\\d+)', counts: [1, 2, 3, 4], axis: "
        "pp}\n"
        "meshes: {moe: {dp: 3, ep: 2, tp: 4}}\n"
        "mesh: {pp: 2, dp: 3, tp: 4, one: 1}\n",
        "mesh: {pp: 2, dp: 3, tp: 4, one: 1}\n"
        "meshes:\n"
        "  moe: {dp: 3, ep: 2, tp: 4}\n"
        "stages: {axis: pp, layer: 'l(\\d+)', counts: [1, 2, 3, 4], "
        "interleave: 2}\n"
        "experts: {axis: ep, expert: 'e(\\d+)'}\n"
        "flats:\n"
        "  f: {over: [dp], bucket: 5}\n"
        "  g: {over: [pp, tp], order: ['a', '*'], bucket: layer, align: 8}\n"
        "rules:\n"
        "- {match: 'a''b', dims: [~, ~, tp, [dp, pp]], unit: {2: 8}}\n"
        "- {match: 'x', stage: [0, 1]}\n"
        "- {match: 'x', dims: [one], stage: 1, optional: true}\n"
        "- {match: '*e*', dims: [~, tp], segments: {1: [3, 4]}, expert: true, "
        "mesh: moe, flat: f}\n"
        "- {match: 't', dims: [tp], cuts: {0: [5, 5, 9]}, tie: 'u'}\n"
        "objects:\n"
        "  'r''s*': {}\n"
        "  'b': {}\n"
        "  'c': {varies: []}\n"
        "  'd': {varies: [tp, pp], on_change: drop}\n");
}

static void test_rules_are_resolved_and_know_their_line(void **state)
{
    BASE_AUTO(ptc_spec)
    spec = parse("mesh: {pp: 2, tp: 4}\n"
                 "rules:\n"
                 "- {match: a, dims: [~, [tp, pp]], unit: {1: 64}}\n"
                 "-\n"
                 "  match: b\n");
    const struct ptc_rule *rule = &spec->rules[0];

    (void)state;
    assert_int_equal(spec->n_rules, 2);
    assert_int_equal(rule->line, 3);
    assert_int_equal(rule->n_dims, 2);
    assert_int_equal(rule->dims[0].n_axes, 0);
    assert_int_equal(rule->dims[0].unit, 1);
    assert_int_equal(rule->dims[1].n_axes, 2);
    assert_int_equal(rule->dims[1].axes[0], 1);
    assert_int_equal(rule->dims[1].axes[1], 0);
    assert_int_equal(rule->dims[1].unit, 64);
    assert_int_equal(rule->flat, PTC_NONE);
    assert_int_equal(rule->stage, PTC_STAGE_ALL);
    assert_int_equal(spec->rules[1].line, 5);
    assert_int_equal(spec->rules[1].dims[7].unit, 1);
    assert_int_equal(spec->meshes[0].n_ranks, 8);
    assert_int_equal(spec->stages.interleave, 1);
}

#define MESH       "mesh: {pp: 2, dp: 2, tp: 4}\n"
#define STAGES     "stages: {axis: pp, layer: 'l(\\d+)'}\n"
#define FLATS      "flats: {f: {over: [dp]}}\n"
#define RULE(rule) MESH "rules:\n- {match: a, " rule "}\n"

static void test_errors_name_line_key_and_remedy(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"[]", "1: spec: expected a mapping, found a list"},
        {"rules: []", "1: mesh: missing (`mesh: {}` is one rank)"},
        {MESH, "1: rules: missing"},
        {MESH "rule: []", "2: rule: unknown key; did you mean 'rules'?"},
        {MESH "xyzzy: []", "2: xyzzy: unknown key"},
        {"mesh: 4\nrules: []", "1: mesh: expected a mapping, found a plain "
                               "value"},
        {"mesh: {tp: 0}\nrules: []",
         "1: tp: expected a number from 1 to 1048576"},
        {"mesh: {tp: '2'}\nrules: []",
         "1: tp: expected a number from 1 to 1048576"},
        {"mesh: {tp: 02}\nrules: []",
         "1: tp: expected a number from 1 to 1048576"},
        {"mesh: {tp: 1048577}\nrules: []",
         "1: tp: expected a number from 1 to 1048576"},
        {"mesh: {tp: 18446744073709551618}\nrules: []",
         "1: tp: expected a number from 1 to 1048576"},
        {"mesh: {tp: -1}\nrules: []",
         "1: tp: expected a number from 1 to 1048576"},
        {"mesh: {tp: 1.0}\nrules: []",
         "1: tp: expected a number from 1 to 1048576"},
        {"mesh:\n  a: 1024\n  b: 1024\n  c: 2\nrules: []",
         "4: mesh: more than 1048576 ranks"},
        {"mesh: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1}\n"
         "rules: []",
         "1: mesh: more than 8 axes"},
        {"mesh: {1a: 1}\nrules: []",
         "1: mesh: '1a' is no name (a letter or _, then letters, digits and _, "
         "at most 32)"},
        {"mesh: {null: 1}\nrules: []",
         "1: mesh: 'null' is no name (a letter or _, then letters, digits and "
         "_, at most 32)"},
        {MESH "meshes: {m: {tp: 15}}\nrules: []",
         "2: meshes: 'm' has 15 ranks, `mesh` has 16"},
        {MESH "stages: {axis: pp}\nrules: []", "2: stages: `layer` is missing"},
        {MESH "stages: {layer: '(1)'}\nrules: []",
         "2: stages: `axis` is missing"},
        {MESH "stages: {axis: pp, layer: 'l\\d+'}\nrules: []",
         "2: layer: bad expression: it has 0 groups, not one (the number)"},
        {MESH "stages: {axis: pp, layer: 'l(\\d+'}\nrules: []",
         "2: layer: bad expression: missing closing parenthesis at offset 5"},
        {MESH "stages: {axis: pp, layer: '(1)', interleave: 0}\nrules: []",
         "2: interleave: expected a number from 1 to 4096"},
        {MESH "stages: {axis: pp, layer: '(1)', counts: []}\nrules: []",
         "2: counts: expected one for each chunk (axis size * interleave)"},
        {MESH "stages: {axis: pp, layer: '(1)', counts: [2147483647, 1]}\n"
              "rules: []",
         "2: counts: their sum is too large"},
        {MESH "stages: {axis: pp, layer: '(1)', counts: [1, 2, 3]}\n"
              "rules: [{match: a, stage: layer}]",
         "3: stage: `stages` has 3 counts for 2 chunks"},
        {MESH "flats: {f: {}}\nrules: []", "2: over: missing"},
        {MESH "flats: {f: {over: []}}\nrules: []", "2: over: expected an axis"},
        {MESH "flats: {f: {over: [dp, dp]}}\nrules: []",
         "2: over: axis 'dp' is there twice"},
        {MESH "flats: {optim: {over: [dp]}}\nrules: []",
         "2: flats: 'optim' is the prefix of optimizer state"},
        {MESH "flats: {f: {over: [dp], bucket: layer}}\nrules: []",
         "2: bucket: `layer` needs `stages`, which reads layers"},
        {MESH "flats: {f: {over: [dp], bucket: 0}}\nrules: []",
         "2: bucket: expected a number from 1 to 9223372036854775807"},
        {MESH "objects: {r: {varies: [ep]}}\nrules: []",
         "2: varies: the mesh has no axis 'ep'; did you mean 'pp'? (if it has "
         "one rank along it, write its size 1)"},
        {MESH "objects: {r: {on_change: keep}}\nrules: []",
         "2: on_change: expected refuse, copy or drop"},
        {MESH "objects: {'': {}}\nrules: []",
         "2: objects: expected a glob of 1 to 480 bytes"},
        {MESH "rules: {}", "2: rules: expected a list, found a mapping"},
        {MESH "rules: [a]", "2: rules: expected a mapping, found a plain "
                            "value"},
        {MESH "rules:\n- {dims: [tp]}", "3: match: this rule has none"},
        {MESH "rules:\n- {match: ''}", "3: match: expected 1 to 480 bytes of "
                                       "text"},
        {MESH "rules:\n- {match: ~}",
         "3: match: expected a plain value, found nothing"},
        {RULE("dim: [tp]"), "3: dim: unknown key; did you mean 'dims'?"},
        {RULE("dims: tp"), "3: dims: expected a list, found a plain value"},
        {RULE("dims: [{}]"), "3: dims: expected ~, an axis or axes"},
        {RULE("dims: [~, ~, ~, ~, ~, ~, ~, ~, ~]"), "3: dims: more than 8"},
        {RULE("dims: [cp]"), "3: dims: the mesh has no axis 'cp'; did you mean "
                             "'pp'? (if it has one "
                             "rank along it, write its size 1)"},
        {RULE("dims: [tp, tp]"),
         "3: dims: axis 'tp' is used twice in this rule"},
        {RULE("dims: [[tp, dp, tp]]"),
         "3: dims: axis 'tp' is used twice in this rule"},
        {RULE("dims: [[tp, tp, tp, tp, tp, tp, tp, tp, tp]]"),
         "3: dims: more than 8 axes"},
        {RULE("dims: [tp], unit: {1: 4}"),
         "3: unit: dims does not cut dimension 1"},
        {RULE("dims: [tp], unit: {9: 4}"),
         "3: unit: '9' is no dimension (0 to 7)"},
        {RULE("dims: [tp], unit: {x: 4}"),
         "3: unit: 'x' is no dimension (0 to 7)"},
        {RULE("dims: [tp], unit: {0: 0}"),
         "3: unit: expected a number from 1 to 9223372036854775807"},
        {RULE("dims: [tp], segments: {0: []}"), "3: segments: an empty list"},
        {RULE("dims: [tp], segments: {0: [0]}"),
         "3: segments: expected a number from 1 to 9223372036854775807"},
        {RULE("dims: [tp], segments: {0: [9223372036854775807, 1]}"),
         "3: segments: their sum is too large"},
        {RULE("dims: [tp], cuts: {0: [1, 2]}"),
         "3: cuts: 4 parts have 3 inner cut points, not 2"},
        {RULE("dims: [tp], cuts: {0: [1, 3, 2]}"),
         "3: cuts: cut points must ascend"},
        {RULE("dims: [[tp, dp]], cuts: {0: [1, 3, 2]}"),
         "3: cuts: only where one axis cuts the dimension"},
        {RULE("dims: [tp], unit: {0: 2}, cuts: {0: [2, 4, 6]}"),
         "3: cuts: not together with unit or segments"},
        {RULE("stage: layer"), "3: stage: the spec has no `stages`"},
        {RULE("stage: x"), "3: stage: expected all, layer, first, last, a "
                           "number or a list of numbers"},
        {RULE("expert: true"), "3: expert: the spec has no `experts`"},
        {RULE("expert: yes"), "3: expert: expected true or false"},
        {RULE("optional: 'true'"), "3: optional: expected true or false"},
        {RULE("mesh: moe"), "3: mesh: there is no 'moe'"},
        {RULE("flat: f"), "3: flat: there is no 'f'"},
        {MESH "rules: [{match: 'a*', tie: b}]",
         "2: tie: match must be a tensor's name, no pattern"},
        {MESH "rules: [{match: a, tie: a}]", "2: tie: a tensor tied to itself"},
        {MESH STAGES "rules: [{match: a, stage: [0, 0]}]",
         "3: stage: 0 is there twice"},
        {MESH STAGES "rules: [{match: a, stage: []}]", "3: stage: an empty "
                                                       "list"},
        {MESH STAGES "rules: [{match: a, stage: 2}]",
         "3: stage: there is no stage 2 (there are 2)"},
        {MESH STAGES "rules: [{match: a, stage: first, dims: [pp]}]",
         "3: stage: axis 'pp' is used twice in this rule"},
        {MESH STAGES "experts: {axis: pp, expert: 'e(\\d)'}\n"
                     "rules: [{match: a, stage: first, expert: true}]",
         "4: expert: axis 'pp' is used twice in this rule"},
        {MESH FLATS "rules: [{match: a, flat: f, dims: [dp]}]",
         "3: flat: axis 'dp' is used twice in this rule"},
        {MESH FLATS "rules: [{match: a, flat: g}]", "3: flat: there is no 'g'"},
        {MESH "meshes: {moe: {x: 16}}\n" FLATS
              "rules: [{match: a, flat: f, mesh: moe}]",
         "4: flat: the mesh moe has no axis 'dp' (if it has one rank along it, "
         "write its size 1)"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        struct ptc_spec *spec = NULL;
        struct base_err err = {0};
        enum base_code code =
            ptc_spec_parse(base_str_of(cases[i].text), "s.yaml", &spec, &err);

        assert_null(spec);
        assert_memory_equal(err.text, "s.yaml:", 7);
        assert_string_equal(err.text + 7, cases[i].error);
        assert_int_equal(code, BASE_BAD_INPUT);
    }
}

static void test_long_specs_are_refused(void **state)
{
    struct ptc_spec *spec = NULL;
    struct base_err err = {0};
    BASE_AUTO_BUF text;
    uint32_t i;

    (void)state;
    base_buf_init(&text, 4 << 20);
    (void)base_buf_addf(&text, "mesh: {}\nrules:\n");
    for (i = 0; i <= PTC_MAX_RULES; i++) {
        (void)base_buf_addf(&text, "- {match: a}\n");
    }
    assert_ok(base_buf_check(&text, &err), &err);
    assert_int_equal(ptc_spec_parse(base_buf_str(&text), "s", &spec, &err),
                     BASE_BAD_INPUT);
    assert_string_equal(err.text, "s:2: rules: more than 10000");

    /* Shorter than the limit, but its canonical form is not: each quote
     * becomes two. */
    base_buf_done(&text);
    base_buf_init(&text, 4 << 20);
    (void)base_buf_addf(&text, "mesh: {}\nrules:\n");
    for (i = 0; i < 2200; i++) {
        (void)base_buf_addf(&text, "- {match: \"%0*d\"}\n", 450, 0);
    }
    for (i = 0; i < text.len; i++) {
        if (text.ptr[i] == '0') {
            text.ptr[i] = '\'';
        }
    }
    assert_true(text.len < PTC_SPEC_MAX_BYTES);
    assert_int_equal(ptc_spec_parse(base_buf_str(&text), "s", &spec, &err),
                     BASE_LIMIT);

    while (text.len <= PTC_SPEC_MAX_BYTES) {
        (void)base_buf_addf(&text, "# a comment\n");
    }
    assert_int_equal(ptc_spec_parse(base_buf_str(&text), "s", &spec, &err),
                     BASE_LIMIT);
    assert_null(spec);
}

static void test_whole_is_one_rank_that_takes_everything(void **state)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct base_err err = {0};

    (void)state;
    assert_ok(ptc_spec_whole(&spec, &err), &err);
    assert_int_equal(spec->meshes[0].n_ranks, 1);
    assert_int_equal(spec->n_rules, 2);
    assert_string_equal(spec->rules[0].match.ptr, "optim.*");
    assert_string_equal(spec->rules[1].match.ptr, "*");
    assert_true(spec->rules[1].is_optional);
    assert_int_equal(spec->rules[1].line, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical_text_keeps_what_matters),
        cmocka_unit_test(test_rules_are_resolved_and_know_their_line),
        cmocka_unit_test(test_errors_name_line_key_and_remedy),
        cmocka_unit_test(test_long_specs_are_refused),
        cmocka_unit_test(test_whole_is_one_rank_that_takes_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
