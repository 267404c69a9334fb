#include "tests/unit/unit.h"

#include <string.h>

#include "ptc/coords.h"

static enum base_code
parse(const char *text, struct ptc_coords **ret, struct base_err *err)
{
    return ptc_coords_parse(base_str_of(text), "file", ret, err);
}

static void test_reads_dense_segments_flats_and_ties(void **state)
{
    static const char text[] =
        "{\"version\":1,\"tensors\":{"
        "\"w\":{\"shape\":[8,4],\"offset\":[4,0]},"
        "\"s\":{\"shape\":[8],\"ranges\":[[[0,2],[4,6]]]},"
        "\"f.0\":{\"flat\":[12,6],\"members\":["
        "{\"name\":\"a\",\"at\":0,\"shape\":[3],\"ranges\":[[[0,3]]]},"
        "{\"name\":\"b\",\"at\":3,\"shape\":[],\"ranges\":[]}]}},"
        "\"ties\":{\"t\":\"w\"}}";
    BASE_AUTO(ptc_coords) coords = NULL;
    const struct ptc_coord *w, *s, *f;
    struct base_err err = {0};

    (void)state;
    assert_ok(parse(text, &coords, &err), &err);
    assert_int_equal(coords->n_entries, 3);
    w = ptc_coords_find(coords, BASE_STR("w"));
    s = ptc_coords_find(coords, BASE_STR("s"));
    f = ptc_coords_find(coords, BASE_STR("f.0"));
    assert_non_null(w);
    assert_non_null(s);
    assert_non_null(f);
    assert_null(ptc_coords_find(coords, BASE_STR("x")));
    assert_int_equal(w->shard.shape[0], 8);
    assert_int_equal(w->shard.offset[0], 4);
    assert_int_equal(s->shard.n_ranges[0], 2);
    assert_int_equal(s->shard.ranges[0][1].begin, 4);
    assert_true(f->is_flat);
    assert_int_equal(f->flat_elems, 12);
    assert_int_equal(f->flat_begin, 6);
    assert_int_equal(f->n_members, 2);
    assert_int_equal(f->members[1].at, 3);
    assert_int_equal(coords->n_ties, 1);
    assert_true(base_str_eq(coords->ties[0].target, BASE_STR("w")));
}

static void test_refuses_what_is_malformed(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"", "metadata `retile`"},
        {"[]", "metadata `retile`"},
        {"{}", "`version` is not 1"},
        {"{\"version\":2}", "`version` is not 1"},
        {"{\"version\":1}", "`tensors` is missing"},
        {"{\"version\":1,\"x\":0}", "unknown key `x`"},
        {"{\"version\":1,\"tensors\":[]}", "`tensors` is not an object"},
        {"{\"version\":1,\"tensors\":{},\"ties\":{\"a\":1}}", "not a name"},
        {"{\"version\":1,\"tensors\":{\"w\":1}}", "tensor w: is not an object"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[1]}}}", "one of"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"offset\":[1]}}}", "one of"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[-1],\"offset\":[0]}}}",
         "`shape` is not"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[1.5],\"offset\":[0]}}}",
         "`shape` is not"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[4],\"offset\":[5]}}}",
         "outside"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[4],\"offset\":[]}}}",
         "differ in length"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[1,1,1,1,1,1,1,1,1],"
         "\"offset\":[]}}}",
         "`shape` is not"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[4],"
         "\"ranges\":[[[2,1]]]}}}",
         "`ranges` is not"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[4],"
         "\"ranges\":[[[0,5]]]}}}",
         "`ranges` is not"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[4],"
         "\"ranges\":[[[2,3],[1,2]]]}}}",
         "`ranges` is not"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[4],\"offset\":[0],"
         "\"at\":3}}}",
         "members of a flat"},
        {"{\"version\":1,\"tensors\":{\"w\":{\"shape\":[4],\"offset\":[0],"
         "\"y\":3}}}",
         "unknown key `y`"},
        {"{\"version\":1,\"tensors\":{\"f\":{\"flat\":[1,2],\"members\":[]}}}",
         "[size, begin]"},
        {"{\"version\":1,\"tensors\":{\"f\":{\"flat\":[1,0]}}}", "members"},
        {"{\"version\":1,\"tensors\":{\"f\":{\"flat\":[1,0],\"members\":["
         "{\"name\":\"a\",\"shape\":[],\"offset\":[]}]}}}",
         "a member wants"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct ptc_coords *coords = NULL;
        struct base_err err = {0};
        enum base_code code = parse(cases[i].text, &coords, &err);

        if (code == BASE_OK || strstr(err.text, cases[i].says) == NULL) {
            fail_msg("%s: %s", cases[i].text,
                     code == BASE_OK ? "accepted" : err.text);
        }
        assert_null(coords);
    }
}

static void test_tells_the_first_difference(void **state)
{
    static const struct {
        const char *a, *b; /* COORDS */
        const char *a_says, *b_says;
    } cases[] = {
        {"{\"shape\":[4],\"offset\":[0]}", "{\"shape\":[5],\"offset\":[0]}",
         "global shape [4]", "global shape [5]"},
        {"{\"shape\":[4],\"offset\":[0]}", "{\"shape\":[4],\"offset\":[2]}",
         "dimension 0 from 0", "dimension 0 from 2"},
        {"{\"shape\":[4],\"ranges\":[[[0,1],[2,3]]]}",
         "{\"shape\":[4],\"ranges\":[[[0,1],[3,4]]]}", "dimension 0 is 0:1 2:3",
         "dimension 0 is 0:1 3:4"},
        {"{\"shape\":[4],\"offset\":[0]}", "{\"flat\":[4,0],\"members\":[]}",
         "a tensor of its own", "part of a flat"},
        {"{\"flat\":[4,0],\"members\":[]}", "{\"flat\":[4,2],\"members\":[]}",
         "flat [4, 0]", "flat [4, 2]"},
        {"{\"flat\":[4,0],\"members\":[{\"name\":\"a\",\"at\":0,\"shape\":[2],"
         "\"offset\":[0]}]}",
         "{\"flat\":[4,0],\"members\":[{\"name\":\"b\",\"at\":0,\"shape\":[2],"
         "\"offset\":[0]}]}",
         "member a at 0", "member b at 0"},
        {"{\"flat\":[4,0],\"members\":[]}",
         "{\"flat\":[4,0],\"members\":[{\"name\":\"b\",\"at\":0,\"shape\":[2],"
         "\"offset\":[0]}]}",
         "0 members", "1 members"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_coords) a = NULL;
        BASE_AUTO(ptc_coords) b = NULL;
        struct base_err err = {0};
        char a_text[PTC_COORD_TEXT_BYTES], b_text[PTC_COORD_TEXT_BYTES];

        assert_ok(ptc_coords_parse_one(base_str_of(cases[i].a), BASE_STR("w"),
                                       &a, &err),
                  &err);
        assert_ok(ptc_coords_parse_one(base_str_of(cases[i].b), BASE_STR("w"),
                                       &b, &err),
                  &err);
        assert_true(
            ptc_coord_same(&a->entries[0], &a->entries[0], a_text, b_text));
        assert_false(
            ptc_coord_same(&a->entries[0], &b->entries[0], a_text, b_text));
        assert_string_equal(a_text, cases[i].a_says);
        assert_string_equal(b_text, cases[i].b_says);
    }
}

static void test_an_offset_is_a_range_of_the_shape_in_the_file(void **state)
{
    BASE_AUTO(ptc_coords) a = NULL;
    BASE_AUTO(ptc_coords) b = NULL;
    struct base_err err = {0};
    char a_text[PTC_COORD_TEXT_BYTES], b_text[PTC_COORD_TEXT_BYTES];

    (void)state;
    assert_ok(ptc_coords_parse_one(BASE_STR("{\"shape\":[9],\"offset\":[3]}"),
                                   BASE_STR("w"), &a, &err),
              &err);
    assert_ok(
        ptc_coords_parse_one(BASE_STR("{\"shape\":[9],\"ranges\":[[[3,6]]]}"),
                             BASE_STR("w"), &b, &err),
        &err);
    assert_true(ptc_coord_same(&a->entries[0], &b->entries[0], a_text, b_text));
    assert_true(ptc_coord_same(&b->entries[0], &a->entries[0], a_text, b_text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_dense_segments_flats_and_ties),
        cmocka_unit_test(test_refuses_what_is_malformed),
        cmocka_unit_test(test_tells_the_first_difference),
        cmocka_unit_test(test_an_offset_is_a_range_of_the_shape_in_the_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
