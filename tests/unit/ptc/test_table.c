#include "ptc/table.h"

#include <stdio.h>

#include "ptc/table_canonical.h"
#include "tests/unit/unit.h"

static const uint64_t shape_23[] = {2, 3};

static void add(struct ptc_table_builder *builder, const char *name)
{
    struct base_err err = {0};

    assert_ok(ptc_table_add(builder, base_str_of(name), BASE_STR("model"),
                            PTC_F32, 2, shape_23, &err),
              &err);
}

static enum base_code
parse(const char *text, struct ptc_table **ret, struct base_err *err)
{
    return ptc_table_parse(base_str_of(text), "t.json", ret, err);
}

static const char golden[] =
    "{\"retile_table\": 1,\n"
    " \"tensors\": [\n"
    "{\"name\":\"a\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[2,3]},\n"
    "{\"name\":\"b\",\"group\":\"extra\",\"dtype\":\"BF16\",\"shape\":[]}],\n"
    " \"ties\": {\"z\": \"a\"},\n"
    " \"objects\": {\"opt.json\": \"job\", \"rng.pt\": \"rank\"}}\n";

static void test_text_is_golden_and_parses_back(void **state)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_table) back = NULL;
    BASE_AUTO_BUF text;
    struct base_err err = {0};

    (void)state;
    base_buf_init(&text, 10000);
    assert_ok(ptc_table_add_object(builder, BASE_STR("rng.pt"), true, &err),
              &err);
    assert_ok(ptc_table_add_object(builder, BASE_STR("opt.json"), false, &err),
              &err);
    assert_ok(ptc_table_add_tie(builder, BASE_STR("z"), BASE_STR("a"), &err),
              &err);
    assert_ok(ptc_table_add(builder, BASE_STR("b"), BASE_STR("extra"), PTC_BF16,
                            0, NULL, &err),
              &err);
    add(builder, "a");
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    assert_ok(ptc_table_format(table, &text, &err), &err);
    assert_string_equal(text.ptr, golden);

    assert_int_equal(ptc_table_n_tensors(table), 3);
    assert_int_equal(ptc_table_find(table, BASE_STR("z")), 2);
    assert_int_equal(ptc_table_find(table, BASE_STR("c")), PTC_NONE);
    assert_int_equal(ptc_table_root(table, 2), 0);
    assert_int_equal(ptc_table_root(table, 1), 1);
    assert_int_equal(ptc_table_tensor(table, 2)->n_bytes, 24);
    assert_int_equal(ptc_table_n_bytes(table), 26);
    assert_int_equal(ptc_table_n_groups(table), 2);
    assert_true(base_str_eq(ptc_table_group(table, 0), BASE_STR("extra")));
    assert_int_equal(ptc_table_n_objects(table), 2);
    assert_false(ptc_table_object(table, 0)->is_per_rank);

    assert_ok(parse(text.ptr, &back, &err), &err);
    assert_true(
        base_digest_eq(ptc_table_digest(table), ptc_table_digest(back)));
    assert_true(base_digest_eq(ptc_table_digest(table),
                               base_digest_of(golden, sizeof(golden) - 1)));
}

static bool is_canonical(const char *text)
{
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_table) slow = NULL;
    struct base_err err = {0};

    assert_ok(ptc_table_parse_canonical(base_str_of(text), &table, &err), &err);
    if (table != NULL) {
        assert_ok(parse(text, &slow, &err), &err);
        assert_true(
            base_digest_eq(ptc_table_digest(table), ptc_table_digest(slow)));
    }
    return table != NULL;
}

static void
test_only_the_form_that_is_written_is_read_without_json(void **state)
{
#define HEAD "{\"retile_table\": 1,\n \"tensors\": ["
#define TAIL "],\n \"ties\": {},\n \"objects\": {}}\n"
#define A    "{\"name\":\"a\",\"group\":\"m\",\"dtype\":\"F32\",\"shape\":[2]}"
#define B    "{\"name\":\"b\",\"group\":\"m\",\"dtype\":\"F32\",\"shape\":[2]}"
    static const char *const others[] = {
        "",
        "{}",
        HEAD,
        HEAD "\n" A,
        HEAD "\n" B ",\n" A TAIL, /* not in order */
        HEAD "\n" A ",\n" A TAIL, /* twice */
        HEAD "\n" A TAIL " ",
        HEAD "\n" A ", " B TAIL,
        HEAD A TAIL,
        HEAD "\n{\"name\":\"\\u0061\",\"group\":\"m\",\"dtype\":\"F32\","
             "\"shape\":[2]}" TAIL,
        HEAD "\n{\"name\":\"a\",\"group\":\"m\",\"dtype\":\"F32\","
             "\"shape\":[02]}" TAIL,
        HEAD "\n{\"name\":\"a\",\"group\":\"m\",\"dtype\":\"F32\","
             "\"shape\":[2,]}" TAIL,
        HEAD "\n{\"name\":\"a\",\"group\":\"m\",\"dtype\":\"F32\","
             "\"shape\":[1,1,1,1,1,1,1,1,1]}" TAIL,
        HEAD "\n{\"name\":\"a/\",\"group\":\"m\",\"dtype\":\"F32\","
             "\"shape\":[2]}" TAIL,
        HEAD "],\n \"ties\": {},\n \"objects\": {\"r\": \"other\"}}\n",
        HEAD "\n" A "],\n \"ties\": {\"x\": \"y\"},\n \"objects\": {}}\n",
    };

    (void)state;
    assert_true(is_canonical(golden));
    assert_true(is_canonical(HEAD TAIL));
    assert_true(is_canonical(HEAD "\n" A ",\n" B TAIL));
    for (size_t i = 0; i < N_ITEMS(others); i++) {
        if (is_canonical(others[i])) {
            fail_msg("taken for canonical: %s", others[i]);
        }
    }
}

static void test_add_all_makes_an_equal_table(void **state)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_table) copy = NULL;
    struct base_err err = {0};

    (void)state;
    assert_ok(parse(golden, &table, &err), &err);
    assert_ok(ptc_table_add_all(builder, table, &err), &err);
    assert_ok(ptc_table_finish(builder, &copy, &err), &err);
    assert_true(
        base_digest_eq(ptc_table_digest(table), ptc_table_digest(copy)));
}

static void test_chains_of_ties_end_at_the_root(void **state)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    BASE_AUTO(ptc_table) table = NULL;
    struct base_err err = {0};

    (void)state;
    add(builder, "m");
    add(builder, "d"); /* added and tied: agrees with m */
    for (char c = 'a'; c < 'm'; c++) {
        const char name[] = {c, '\0'};
        const char target[] = {(char)(c + 1), '\0'};

        assert_ok(ptc_table_add_tie(builder, base_str_of(name),
                                    base_str_of(target), &err),
                  &err);
    }
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    assert_int_equal(ptc_table_n_tensors(table), 13);
    for (uint32_t i = 0; i < 13; i++) {
        assert_int_equal(ptc_table_root(table, i), 12);
    }
    assert_int_equal(ptc_table_n_bytes(table), 24);
}

#define T(name)                                                                \
    "{\"name\":\"" name "\",\"group\":\"g\",\"dtype\":\"F32\",\"shape\":[2]}"
#define TABLE(tensors, ties, objects)                                          \
    "{\"retile_table\":1,\"tensors\":[" tensors "],\"ties\":{" ties            \
    "},\"objects\":{" objects "}}"

static void test_bad_tables_are_refused_with_the_place(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {TABLE(T("a") "," T("a"), "", ""), "t.json: tensor 'a': twice there"},
        {TABLE(T("a/b"), "", ""), "tensor 'a/b': the name has a '/'"},
        {TABLE(T(""), "", ""), "the name is empty"},
        {TABLE(T("a\\u0001"), "", ""), "has a control character"},
        {TABLE(T("a\\u0000"), "", ""), "NUL character"},
        {TABLE(T("a\xc2\x85"), "", ""), "has a control character"},
        {TABLE(T("a\xff"), "", ""), "t.json: JSON is not UTF-8"},
        {TABLE(T(".."), "", ""), "is reserved"},
        {TABLE(T("__metadata__"), "", ""), "is reserved"},
        {TABLE(T("a"), "\"b\":\"c\"", ""), "tie 'b': there is no tensor 'c'"},
        {TABLE(T("a"), "\"b\":\"b\"", ""),
         "tie 'b': its targets go in a circle"},
        {TABLE(T("a"), "\"b\":\"c\",\"c\":\"b\"", ""), "in a circle"},
        {TABLE(T("a"), "\"b\":\"a\",\"b\":\"a\"", ""),
         "JSON, line 1, column 100: 'ties': key 'b' twice"},
        {TABLE(T("a"), "\"b\":7", ""),
         "ties: tie 'b': expected a string, got an integer"},
        {TABLE("", "", "\"o\":\"x\""), "object 'o': expected \"rank\" or"},
        {TABLE("", "", "\"o.safetensors\":\"job\""),
         "is not one for an object"},
        {TABLE("", "", "\"o\":\"job\",\"o\":\"rank\""),
         "line 1, column 65: 'objects': key 'o' twice"},
        {TABLE("{\"name\":\"a\",\"group\":\"\",\"dtype\":\"F32\",\"shape\":[]}",
               "", ""),
         "group: the name is empty"},
        {"{\"retile_table\":2,\"tensors\":[]}", "retile_table: version 2"},
        {"{\"retile_table\":1}", "tensors: missing"},
        {"{\"tensors\":[]}", "retile_table: missing"},
        {"{\"retile_tables\":1}", "did you mean 'retile_table'?"},
        {"{\"retile_table\":1,\"retile_table\":1}", "key 'retile_table' twice"},
        {"{\"retile_table\":1,\"tensors\":[]} x",
         "end of file expected near 'x'"},
        {"", "t.json: JSON, line 1, column 1: '[' or '{' expected"},
        {"{\"retile_table\":2,\"later\":[]}", "retile_table: version 2"},
        {"{\"retile_table\":1,\"tensors\":{}}", "tensors: expected an array"},
        {TABLE("7", "", ""), "tensors: entry 0: expected an object"},
        {"[]", "JSON is not an object"},
        {TABLE("{\"name\":\"a\",\"shap\":[]}", "", ""),
         "tensor 'a': unknown key 'shap'; did you mean 'shape'?"},
        {TABLE(
             "{\"name\":\"a\",\"group\":\"g\",\"dtype\":\"F31\",\"shape\":[]}",
             "", ""),
         "tensor 'a': dtype: unknown dtype 'F31'"},
        {TABLE(
             "{\"name\":\"a\",\"group\":\".g\",\"dtype\":\"F32\",\"shape\":[]}",
             "", ""),
         "group '.g': the name begins with '.'"},
        {TABLE(
             "{\"name\":\"a\",\"group\":\"g\",\"dtype\":\"F4\",\"shape\":[3]}",
             "", ""),
         "no whole number of bytes"},
        {TABLE("{\"name\":\"a\",\"group\":\"g\",\"dtype\":\"U8\",\"shape\":"
               "[4294967296,4294967296]}",
               "", ""),
         "the number of elements overflows"},
        {TABLE("{\"name\":\"a\",\"group\":\"g\",\"dtype\":\"U64\",\"shape\":"
               "[2305843009213693952]}",
               "", ""),
         "are 2^61 bytes or more"},
        {TABLE("{\"name\":\"a\",\"group\":\"g\",\"dtype\":\"U8\",\"shape\":"
               "[1,1,1,1,1,1,1,1,1]}",
               "", ""),
         "shape: 9 numbers, at most 8"},
        {TABLE(
             "{\"name\":\"a\",\"group\":\"g\",\"dtype\":\"U8\",\"shape\":[-1]}",
             "", ""),
         "tensor 'a': shape: -1 is negative"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = NULL;
        struct base_err err = {0};

        assert_int_not_equal(parse(cases[i].text, &table, &err), BASE_OK);
        if (strstr(err.text, cases[i].error) == NULL ||
            strncmp(err.text, "t.json: ", 8) != 0) {
            fail_msg("case %zu: %s", i, err.text);
        }
        assert_null(table);
    }
}

static void test_tied_tensors_must_agree(void **state)
{
    static const uint64_t shape_32[] = {3, 2};
    static const struct {
        const char *group;
        enum ptc_dtype dtype;
        const uint64_t *shape;
        const char *error;
    } cases[] = {
        {"model", PTC_F16, shape_23, "'b': dtype: not that of 'a'"},
        {"model", PTC_F32, shape_32, "'b': shape: not that of 'a'"},
        {"other", PTC_F32, shape_23, "'b': group: not that of 'a'"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
        BASE_AUTO(ptc_table) table = NULL;
        struct base_err err = {0};

        add(builder, "a");
        assert_ok(ptc_table_add(builder, BASE_STR("b"),
                                base_str_of(cases[i].group), cases[i].dtype, 2,
                                cases[i].shape, &err),
                  &err);
        assert_ok(
            ptc_table_add_tie(builder, BASE_STR("b"), BASE_STR("a"), &err),
            &err);
        assert_int_equal(ptc_table_finish(builder, &table, &err),
                         BASE_BAD_INPUT);
        assert_non_null(strstr(err.text, cases[i].error));
    }
}

static void test_optim_names_split_at_the_state(void **state)
{
    static const struct {
        const char *name;
        const char *state; /* NULL: no such name */
        const char *param;
    } cases[] = {
        {"optim.exp_avg.a.b", "exp_avg", "a.b"},
        {"optim.m.x", "m", "x"},
        {"optim.x", NULL, NULL},
        {"optim..x", NULL, NULL},
        {"optim.m.", NULL, NULL},
        {"model.a", NULL, NULL},
        {"optim", NULL, NULL},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct base_str name = base_str_of(cases[i].name);
        struct base_str part;
        struct base_str param;
        bool is_optim = ptc_name_split_optim(name, &part, &param);

        assert_int_equal(is_optim, cases[i].state != NULL);
        if (is_optim) {
            assert_true(base_str_eq(part, base_str_of(cases[i].state)));
            assert_true(base_str_eq(param, base_str_of(cases[i].param)));
        }
    }
}

static void test_names_are_found_among_many(void **state)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    BASE_AUTO(ptc_table) table = NULL;
    struct base_err err = {0};
    char name[32];

    (void)state;
    for (uint32_t i = 0; i < 5000; i++) {
        (void)snprintf(name, sizeof(name), "t%u", i * 7919 % 5000);
        add(builder, name);
    }
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    for (uint32_t i = 0; i < 5000; i++) {
        uint32_t idx;

        (void)snprintf(name, sizeof(name), "t%u", i);
        idx = ptc_table_find(table, base_str_of(name));
        assert_int_not_equal(idx, PTC_NONE);
        assert_true(
            base_str_eq(ptc_table_tensor(table, idx)->name, base_str_of(name)));
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_is_golden_and_parses_back),
        cmocka_unit_test(
            test_only_the_form_that_is_written_is_read_without_json),
        cmocka_unit_test(test_add_all_makes_an_equal_table),
        cmocka_unit_test(test_chains_of_ties_end_at_the_root),
        cmocka_unit_test(test_bad_tables_are_refused_with_the_place),
        cmocka_unit_test(test_tied_tensors_must_agree),
        cmocka_unit_test(test_optim_names_split_at_the_state),
        cmocka_unit_test(test_names_are_found_among_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
