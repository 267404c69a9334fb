#include "tests/unit/unit.h"

#include <fnmatch.h>

#include "base/num.h"
#include "ptc/glob.h"

static bool matches(const char *pattern, const char *name)
{
    struct ptc_glob glob = ptc_glob_of(base_str_of(pattern));

    return ptc_glob_matches(&glob, base_str_of(name));
}

static void test_star_crosses_dots_and_brackets_are_one_byte(void **state)
{
    static const struct {
        const char *pattern;
        const char *name;
        bool is_match;
    } cases[] = {
        {"*", "", true},
        {"*", "a.b.c", true},
        {"a*c", "a.b.c", true},
        {"a*c", "ac", true},
        {"a*c", "a", false},
        {"ab*ba", "aba", false}, /* prefix and suffix may not overlap */
        {"*.[qkv]_proj.weight", "layers.0.q_proj.weight", true},
        {"*.[qkv]_proj.weight", "layers.0.o_proj.weight", false},
        {"*.[!qkv]_proj.weight", "layers.0.o_proj.weight", true},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"a\\*c", "a*c", true},
        {"a\\*c", "abc", false},
        {"a[b", "a[b", true}, /* no bracket without its end */
        {"[]x]", "]", true},
        {"[[:digit:]]*", "7up", true},
        {"[[:digit:]]*", "up7", false},
        {"*a*b*c*", "xxaxxbxxcxx", true},
        {"*a*b*c*", "xxaxxcxxbxx", false},
        {"", "", true},
        {"", "a", false},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        if (matches(cases[i].pattern, cases[i].name) != cases[i].is_match) {
            fail_msg("%s against %s", cases[i].pattern, cases[i].name);
        }
    }
}

static void test_random_patterns_agree_with_fnmatch(void **state)
{
    static const char pattern_bytes[] = "ab.*?[]!^-\\:";
    static const char name_bytes[] = "ab.[]-";
    uint64_t random = 1;

    (void)state;
    for (int i = 0; i < 100000; i++) {
        char pattern[12] = "";
        char name[10] = "";
        size_t n_pattern = base_random_next(&random) % (sizeof(pattern) - 1);
        size_t n_name = base_random_next(&random) % (sizeof(name) - 1);

        for (size_t k = 0; k < n_pattern; k++) {
            pattern[k] = pattern_bytes[base_random_next(&random) %
                                       (sizeof(pattern_bytes) - 1)];
        }
        for (size_t k = 0; k < n_name; k++) {
            name[k] = name_bytes[base_random_next(&random) %
                                 (sizeof(name_bytes) - 1)];
        }
        if (matches(pattern, name) != (fnmatch(pattern, name, 0) == 0)) {
            fail_msg("'%s' against '%s'", pattern, name);
        }
    }
}

static void test_many_stars_take_no_time(void **state)
{
    char name[241];

    (void)state;
    memset(name, 'a', 240);
    name[240] = '\0';
    assert_false(matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b*c", name));
}

static void test_only_names_of_a_name_s_length_match(void **state)
{
    char name[242];

    (void)state;
    memset(name, 'a', 241);
    name[241] = '\0';
    assert_false(matches("*a?", name));
    name[240] = '\0';
    assert_true(matches("*a?", name));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_star_crosses_dots_and_brackets_are_one_byte),
        cmocka_unit_test(test_random_patterns_agree_with_fnmatch),
        cmocka_unit_test(test_many_stars_take_no_time),
        cmocka_unit_test(test_only_names_of_a_name_s_length_match),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
