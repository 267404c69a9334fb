#include "base/str.h"

#include "tests/unit/unit.h"

static void test_append_keeps_a_nul_behind_the_bytes(void **state)
{
    BASE_AUTO_BUF buf;

    (void)state;
    base_buf_init(&buf, 1000);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(base_buf_addf(&buf, "%03d", i), BASE_OK);
        assert_int_equal(buf.len, 3 * (i + 1));
        assert_int_equal(buf.ptr[buf.len], '\0');
    }
    assert_memory_equal(buf.ptr, "000001002", 9);
    assert_string_equal(buf.ptr + 294, "098099");
}

static void test_limit_is_exact_and_sticky(void **state)
{
    BASE_AUTO_BUF buf;
    struct base_err err;

    (void)state;
    base_buf_init(&buf, 100);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(base_buf_add(&buf, "0123456789", 10), BASE_OK);
    }
    assert_int_equal(base_buf_check(&buf, &err), BASE_OK);
    assert_int_equal(base_buf_add(&buf, "x", 1), BASE_LIMIT);
    assert_int_equal(base_buf_add(&buf, "", 0), BASE_LIMIT);
    assert_int_equal(base_buf_addf(&buf, "x"), BASE_LIMIT);
    assert_int_equal(buf.len, 100);
    assert_int_equal(buf.ptr[100], '\0');
    assert_int_equal(base_buf_check(&buf, &err), BASE_LIMIT);
    assert_string_equal(err.text, "more than 100 bytes");
}

static void test_addf_past_the_limit_leaves_the_bytes(void **state)
{
    BASE_AUTO_BUF buf;

    (void)state;
    base_buf_init(&buf, 5);
    assert_int_equal(base_buf_addf(&buf, "%s", "abc"), BASE_OK);
    assert_int_equal(base_buf_addf(&buf, "%s", "def"), BASE_LIMIT);
    assert_string_equal(buf.ptr, "abc");
}

static void test_huge_maximum_does_not_overflow(void **state)
{
    BASE_AUTO_BUF buf;

    (void)state;
    base_buf_init(&buf, SIZE_MAX);
    assert_int_equal(base_buf_add(&buf, "a", 1), BASE_OK);
    assert_int_equal(base_buf_add(&buf, "a", SIZE_MAX), BASE_LIMIT);
}

static void test_json_strings(void **state)
{
    static const struct {
        struct base_str in;
        const char *out;
    } cases[] = {
        {BASE_STR(""), "\"\""},
        {BASE_STR("a.b"), "\"a.b\""},
        {BASE_STR("a\"b\\c"), "\"a\\\"b\\\\c\""},
        {BASE_STR("\n\t\r"), "\"\\n\\t\\u000d\""},
        {BASE_STR("\x01\x7f"), "\"\\u0001\\u007f\""},
        {BASE_STR("a\0b"), "\"a\\u0000b\""},
        {BASE_STR("\xc3\xa9"), "\"\xc3\xa9\""},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO_BUF buf;

        base_buf_init(&buf, 100);
        assert_int_equal(base_buf_add_json(&buf, cases[i].in), BASE_OK);
        assert_string_equal(buf.ptr, cases[i].out);
    }
}

static void test_vec_grows_and_keeps_items(void **state)
{
    BASE_VEC(uint32_t) vec = {0};

    (void)state;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_true(base_vec_push(&vec, i * i));
    }
    assert_int_equal(vec.n, 1000);
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(vec.items[i], i * i);
    }
    assert_false(base_vec_reserve(&vec, (size_t)UINT32_MAX + 1));
    base_vec_done(&vec);
    assert_null(vec.items);
    assert_int_equal(vec.n, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_keeps_a_nul_behind_the_bytes),
        cmocka_unit_test(test_limit_is_exact_and_sticky),
        cmocka_unit_test(test_addf_past_the_limit_leaves_the_bytes),
        cmocka_unit_test(test_huge_maximum_does_not_overflow),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_vec_grows_and_keeps_items),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
