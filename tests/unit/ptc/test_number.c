#include "ptc/number.h"

#include "tests/unit/unit.h"

#define LAYER "model\\.layers\\.(\\d+)\\."

static void test_number_is_read_from_the_group(void **state)
{
    static const struct {
        const char *pattern;
        const char *name;
        bool is_found;
        uint32_t number;
    } cases[] = {
        {LAYER, "model.layers.0.a", true, 0},
        {LAYER, "model.layers.17.mlp.up.weight", true, 17},
        {LAYER, "optim.exp_avg.model.layers.3.a", true, 3},
        {LAYER, "model.layers.2147483647.a", true, 2147483647},
        {LAYER, "model.layers.007.a", true, 7},
        {LAYER, "model.layers.x.a", false, 0},
        {LAYER, "model.norm.weight", false, 0},
        {LAYER, "", false, 0},
        {"(?:^|\\.)h\\.(\\d+)\\.", "h.5.ln_1", true, 5},
        {"(?:^|\\.)h\\.(\\d+)\\.", "transformer.h.5.ln_1", true, 5},
        {"(?:^|\\.)h\\.(\\d+)\\.", "moth.5.ln_1", false, 0},
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_number) number = NULL;
        struct base_err err = {0};
        bool is_found = !cases[i].is_found;
        uint32_t value = 0;

        assert_ok(
            ptc_number_create(base_str_of(cases[i].pattern), &number, &err),
            &err);
        assert_ok(ptc_number_read(number, base_str_of(cases[i].name), &is_found,
                                  &value, &err),
                  &err);
        assert_int_equal(is_found, cases[i].is_found);
        assert_int_equal(value, cases[i].number);
    }
}

static void test_bad_expressions_are_refused(void **state)
{
    static const char *const cases[] = {
        "",  "a",        "(a)(\\d+)",    "(\\d+",      "((\\d+))",
        "[", "\\C(\\d)", "(?<n>a)(\\d)", "(\\d+)\xff", "(a{99999})",
    };
    char huge[PTC_PATTERN_MAX_BYTES + 2];
    BASE_AUTO_BUF nested;
    BASE_AUTO(ptc_number) number = NULL;
    struct base_err err;
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(
            ptc_number_create(base_str_of(cases[i]), &number, &err),
            BASE_BAD_INPUT);
        assert_null(number);
        assert_true(base_str_starts(base_str_of(err.text),
                                    BASE_STR("bad expression: ")));
    }
    base_buf_init(&nested, 1000);
    for (i = 0; i < 40; i++) {
        (void)base_buf_add_str(&nested, BASE_STR("(?:"));
    }
    (void)base_buf_add_str(&nested, BASE_STR("(\\d+)"));
    for (i = 0; i < 40; i++) {
        (void)base_buf_add_str(&nested, BASE_STR(")"));
    }
    assert_int_equal(ptc_number_create(base_buf_str(&nested), &number, &err),
                     BASE_BAD_INPUT);
    memset(huge, 'a', sizeof(huge));
    assert_int_equal(
        ptc_number_create((struct base_str){huge, sizeof(huge)}, &number, &err),
        BASE_BAD_INPUT);
}

static void test_bad_numbers_are_refused(void **state)
{
    static const struct {
        const char *pattern;
        const char *name;
    } cases[] = {
        {"l(.*)", "lx"},
        {"l(.*)", "l"},
        {"l(\\d+)", "l2147483648"},
        {"l(\\d+)", "l99999999999999999999999"},
        {"l|(\\d)x", "l"},
        {"(*UCP)l(\\d)", "l\xd9\xa3"}, /* an Arabic digit */
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_number) number = NULL;
        struct base_err err = {0};
        bool is_found;
        uint32_t value;

        assert_ok(
            ptc_number_create(base_str_of(cases[i].pattern), &number, &err),
            &err);
        assert_int_equal(ptc_number_read(number, base_str_of(cases[i].name),
                                         &is_found, &value, &err),
                         BASE_BAD_INPUT);
    }
}

static void test_backtracking_is_limited(void **state)
{
    BASE_AUTO(ptc_number) number = NULL;
    struct base_err err = {0};
    bool is_found;
    uint32_t value;

    (void)state;
    assert_ok(ptc_number_create(BASE_STR("(?:(?:a+)+)+b(\\d)"), &number, &err),
              &err);
    /* The last letter keeps PCRE2 from seeing at once that nothing fits. */
    assert_int_equal(
        ptc_number_read(number, BASE_STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"),
                        &is_found, &value, &err),
        BASE_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_number_is_read_from_the_group),
        cmocka_unit_test(test_bad_expressions_are_refused),
        cmocka_unit_test(test_bad_numbers_are_refused),
        cmocka_unit_test(test_backtracking_is_limited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
