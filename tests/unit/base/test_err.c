#include "base/err.h"

#include <errno.h>
#include <string.h>

#include "tests/unit/unit.h"

static void test_fail_sets_code_and_one_line(void **state)
{
    struct base_err err;

    (void)state;
    assert_int_equal(base_fail(&err, BASE_LIMIT, "a\nb\x1b %d", 7), BASE_LIMIT);
    assert_int_equal(err.code, BASE_LIMIT);
    assert_string_equal(err.text, "a?b? 7");
    assert_int_equal(base_fail(NULL, BASE_IO, "x"), BASE_IO);
}

static void test_long_text_is_cut_with_dots(void **state)
{
    char text[BASE_ERR_TEXT_BYTES * 2];
    struct base_err err;

    (void)state;
    for (size_t len = BASE_ERR_TEXT_BYTES - 3; len < BASE_ERR_TEXT_BYTES + 3;
         len++) {
        memset(text, 'x', len);
        text[len] = '\0';
        (void)base_fail(&err, BASE_IO, "%s", text);
        if (len < BASE_ERR_TEXT_BYTES) {
            assert_string_equal(err.text, text);
        } else {
            assert_int_equal(strlen(err.text), BASE_ERR_TEXT_BYTES - 1);
            assert_string_equal(err.text + BASE_ERR_TEXT_BYTES - 5, "x...");
        }
    }
    (void)base_wrap(&err, BASE_IO, "file");
    assert_memory_equal(err.text, "file: xxx", 9);
    assert_string_equal(err.text + BASE_ERR_TEXT_BYTES - 5, "x...");
}

static void test_wrap_puts_context_first(void **state)
{
    struct base_err err;

    (void)state;
    (void)base_fail(&err, BASE_IO, "inner");
    assert_int_equal(base_wrap(&err, BASE_IO, "rank %d", 3), BASE_IO);
    assert_string_equal(err.text, "rank 3: inner");
    assert_int_equal(base_wrap(NULL, BASE_IO, "x"), BASE_IO);
}

static void test_errno_becomes_a_code(void **state)
{
    static const struct {
        int errnum;
        enum base_code code;
    } cases[] = {
        {ENOSPC, BASE_NO_SPACE},  {EDQUOT, BASE_NO_SPACE},
        {ENOENT, BASE_NOT_FOUND}, {EACCES, BASE_DENIED},
        {EPERM, BASE_DENIED},     {EROFS, BASE_DENIED},
        {ENOMEM, BASE_NO_MEM},    {EEXIST, BASE_EXISTS},
        {ENOTEMPTY, BASE_EXISTS}, {EINTR, BASE_INTERRUPTED},
        {EIO, BASE_IO},           {EISDIR, BASE_IO},
    };
    struct base_err err;

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(base_fail_errno(&err, cases[i].errnum, "f"),
                         cases[i].code);
        assert_int_equal(err.code, cases[i].code);
        assert_memory_equal(err.text, "f: ", 3);
        assert_true(strlen(err.text) > 3);
    }
}

static void test_each_code_has_a_text(void **state)
{
    (void)state;
    assert_string_equal(base_code_text(BASE_OK), "ok");
    assert_string_equal(base_code_text(BASE_BAD_INPUT), "bad input");
    assert_string_equal(base_code_text(BASE_UNSUPPORTED), "not supported");
    assert_int_equal(base_code_exit(BASE_OK), 0);
    assert_int_equal(base_code_exit(BASE_IO), 1);
    assert_int_equal(base_code_exit(BASE_BAD_ARG), 2);
    assert_int_equal(base_code_exit(BASE_NOT_FOUND), 3);
    assert_int_equal(base_code_exit(BASE_UNREACHABLE), 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_sets_code_and_one_line),
        cmocka_unit_test(test_long_text_is_cut_with_dots),
        cmocka_unit_test(test_wrap_puts_context_first),
        cmocka_unit_test(test_errno_becomes_a_code),
        cmocka_unit_test(test_each_code_has_a_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
