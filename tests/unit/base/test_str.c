#include "base/str.h"

#include "tests/unit/unit.h"

static void test_cmp_orders_as_unsigned_bytes_shorter_first(void **state)
{
    static const struct {
        const char *a;
        const char *b;
        int order;
    } cases[] = {
        {"", "", 0},     {"", "a", -1},   {"a", "", 1},   {"a", "a", 0},
        {"a", "b", -1},  {"ab", "b", -1}, {"ab", "a", 1}, {"\xff", "a", 1},
        {"a.b", "a", 1}, {"10", "9", -1},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        int order =
            base_str_cmp(base_str_of(cases[i].a), base_str_of(cases[i].b));

        assert_int_equal((order > 0) - (order < 0), cases[i].order);
        assert_int_equal(
            base_str_eq(base_str_of(cases[i].a), base_str_of(cases[i].b)),
            cases[i].order == 0);
    }
}

static void test_starts_and_ends(void **state)
{
    static const struct {
        const char *s;
        const char *part;
        bool starts;
        bool ends;
    } cases[] = {
        {"", "", true, true},       {"abc", "", true, true},
        {"abc", "ab", true, false}, {"abc", "bc", false, true},
        {"abc", "abc", true, true}, {"abc", "abcd", false, false},
        {"aba", "a", true, true},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct base_str s = base_str_of(cases[i].s);
        struct base_str part = base_str_of(cases[i].part);

        assert_int_equal(base_str_starts(s, part), cases[i].starts);
        assert_int_equal(base_str_ends(s, part), cases[i].ends);
    }
}

static void test_utf8_rejects_overlong_surrogate_and_cut(void **state)
{
    static const struct {
        const char *s;
        bool is_utf8;
    } cases[] = {
        {"", true},
        {"plain", true},
        {"\xc3\xa9", true},          /* U+00E9 */
        {"\xe2\x82\xac", true},      /* U+20AC */
        {"\xf0\x9f\x98\x80", true},  /* U+1F600 */
        {"\xf4\x8f\xbf\xbf", true},  /* U+10FFFF */
        {"\xed\x9f\xbf", true},      /* U+D7FF */
        {"\x80", false},             /* no lead */
        {"\xc3", false},             /* cut */
        {"\xe2\x82", false},         /* cut */
        {"\xc0\x80", false},         /* overlong */
        {"\xc1\xbf", false},         /* overlong */
        {"\xe0\x9f\xbf", false},     /* overlong */
        {"\xf0\x8f\xbf\xbf", false}, /* overlong */
        {"\xed\xa0\x80", false},     /* surrogate */
        {"\xf4\x90\x80\x80", false}, /* past the end */
        {"\xf5\x80\x80\x80", false}, /* past the end */
        {"\xff", false},
        {"a\xe2\x28\xa1", false}, /* bad second byte */
        {"\xe2\x82\x28", false},  /* bad third byte */
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(base_str_is_utf8(base_str_of(cases[i].s)),
                         cases[i].is_utf8);
    }
    assert_true(base_str_is_utf8((struct base_str){"a\0b", 3}));
}

static void test_nearest_is_within_three_edits(void **state)
{
    static const char *const keys[] = {"rules", "mesh", "meshes", "stages",
                                       "tie"};
    static const struct {
        const char *word;
        const char *nearest;
    } cases[] = {
        {"rule", "rules"},   {"mesh", "mesh"},  {"mehs", "mesh"},
        {"stage", "stages"}, {"meshs", "mesh"}, {"segments", NULL},
        {"", NULL},          {"xyz", NULL},     {"ties", "tie"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        const char *nearest =
            base_str_nearest(base_str_of(cases[i].word), keys, N_ITEMS(keys));

        if (cases[i].nearest == NULL) {
            assert_null(nearest);
        } else {
            assert_non_null(nearest);
            assert_string_equal(nearest, cases[i].nearest);
        }
    }
    assert_null(base_str_nearest(BASE_STR("rules"), NULL, 0));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cmp_orders_as_unsigned_bytes_shorter_first),
        cmocka_unit_test(test_starts_and_ends),
        cmocka_unit_test(test_utf8_rejects_overlong_surrogate_and_cut),
        cmocka_unit_test(test_nearest_is_within_three_edits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
