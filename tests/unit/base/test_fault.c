#include "base/fault.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static void arm(const char *text)
{
    struct base_err err;

    assert_int_equal(setenv("RETILE_FAULT", text, 1), 0);
    assert_ok(base_fault_init(&err), &err);
}

static void test_off_unless_armed(void **state)
{
    struct base_err err;

    (void)state;
    assert_int_equal(unsetenv("RETILE_FAULT"), 0);
    assert_ok(base_fault_init(&err), &err);
    assert_false(base_fault_is_armed);
    assert_int_equal(base_fault(BASE_FAULT_io_read), BASE_FAULT_NONE);
}

static void test_acts_on_the_nth_pass_only(void **state)
{
    struct base_err err;

    (void)state;
    arm("io.read=error@3,convert.block=nospace,io.write=short@2");
    for (int i = 1; i < 6; i++) {
        assert_int_equal(base_fault(BASE_FAULT_io_read),
                         i == 3 ? BASE_FAULT_ERROR : BASE_FAULT_NONE);
        assert_int_equal(base_fault(BASE_FAULT_io_write),
                         i == 2 ? BASE_FAULT_SHORT : BASE_FAULT_NONE);
        assert_int_equal(base_fault_check(BASE_FAULT_convert_block, &err),
                         i == 1 ? BASE_NO_SPACE : BASE_OK);
        assert_int_equal(base_fault(BASE_FAULT_io_sync), BASE_FAULT_NONE);
    }
    assert_memory_equal(err.text, "convert.block: ", 15);
}

static void test_crash_kills(void **state)
{
    int status = 0;
    pid_t child;

    (void)state;
    arm("convert.tmp=crash");
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)base_fault(BASE_FAULT_convert_tmp);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGKILL);
}

static void test_bad_text_is_refused_by_name(void **state)
{
    static const struct {
        const char *text;
        const char *names;
    } cases[] = {
        {"io.reed=error", "io.reed"}, {"io.read=explode", "explode"},
        {"io.read", "io.read"},       {"io.read=error@0", "\"0\""},
        {"io.read=error@x", "\"x\""}, {",", "\"\""},
        {"io.read=error,", "\"\""},   {"io.read=error@", "\"\""},
    };
    struct base_err err;

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(setenv("RETILE_FAULT", cases[i].text, 1), 0);
        assert_int_equal(base_fault_init(&err), BASE_BAD_ARG);
        assert_non_null(strstr(err.text, cases[i].names));
        assert_false(base_fault_is_armed);
    }
}

static void test_each_point_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(base_fault_name(BASE_FAULT_io_open), "io.open");
    assert_string_equal(base_fault_where(BASE_FAULT_io_rename), "a rename");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off_unless_armed),
        cmocka_unit_test(test_acts_on_the_nth_pass_only),
        cmocka_unit_test(test_crash_kills),
        cmocka_unit_test(test_bad_text_is_refused_by_name),
        cmocka_unit_test(test_each_point_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
