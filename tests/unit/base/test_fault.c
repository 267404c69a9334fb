#include "base/fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
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

/* Run in a child of which @text is armed; its wait status. */
static int pass_in_child(const char *text, enum base_fault_point point)
{
    int status = 0;
    pid_t child;

    arm(text);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(base_fault(point) == BASE_FAULT_NONE ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    if (WIFSTOPPED(status)) {
        int stopped = status;

        assert_int_equal(kill(child, SIGCONT), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        return stopped;
    }
    return status;
}

static void test_from_the_nth_pass_on(void **state)
{
    (void)state;
    arm("io.read=error@3+");
    for (int i = 1; i < 6; i++) {
        assert_int_equal(base_fault(BASE_FAULT_io_read),
                         i >= 3 ? BASE_FAULT_ERROR : BASE_FAULT_NONE);
    }
}

static void test_passes_of_children_count(void **state)
{
    struct base_err err;
    int status;

    (void)state;
    status = pass_in_child("convert.tmp=crash", BASE_FAULT_convert_tmp);
    assert_true(WIFSIGNALED(status));
    /* The second pass: whoever is started anew gets by. */
    assert_ok(base_fault_check(BASE_FAULT_convert_tmp, &err), &err);
}

static void test_stop_goes_on_at_sigcont(void **state)
{
    int status;

    (void)state;
    status = pass_in_child("io.sync=stop", BASE_FAULT_io_sync);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(WSTOPSIG(status), SIGSTOP);
}

static int64_t now_ms(void)
{
    struct timespec now;

    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &now), 0);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void test_slow_and_hang_take_their_time(void **state)
{
    int64_t begin = now_ms();

    (void)state;
    arm("io.sync=slow:30@1+");
    assert_int_equal(base_fault(BASE_FAULT_io_sync), BASE_FAULT_NONE);
    assert_int_equal(base_fault(BASE_FAULT_io_sync), BASE_FAULT_NONE);
    assert_true(now_ms() - begin >= 60);

    assert_int_equal(setenv("RETILE_FAULT_HANG_S", "1", 1), 0);
    begin = now_ms();
    assert_int_equal(pass_in_child("io.open=hang", BASE_FAULT_io_open), 0);
    assert_true(now_ms() - begin >= 1000);
    assert_int_equal(unsetenv("RETILE_FAULT_HANG_S"), 0);
}

/* Where the kernel says what a process waits for, it says that it sleeps. */
static void test_a_hang_can_be_seen(void **state)
{
    char path[64];
    char text[64] = "";
    int64_t end_ms = now_ms() + 1000;
    pid_t child;

    (void)state;
    arm("io.open=hang");
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)base_fault(BASE_FAULT_io_open);
        _exit(0);
    }
    (void)snprintf(path, sizeof(path), "/proc/%ld/wchan", (long)child);
    do {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

        assert_true(fd < 0 || close(fd) == 0);
        text[n > 0 ? n : 0] = '\0';
    } while (strstr(text, "nanosleep") == NULL && now_ms() < end_ms);
    assert_int_equal(waitpid(child, NULL, WNOHANG), 0);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    /* Empty or 0: we may not know. */
    assert_true(text[0] == '\0' || text[0] == '0' ||
                strstr(text, "nanosleep") != NULL);
}

static void test_a_flip_is_one_bit(void **state)
{
    unsigned char bytes[3] = {0, 0, 0};

    (void)state;
    base_fault_flip(bytes, 0);
    assert_int_equal(bytes[0] + bytes[1] + bytes[2], 0);
    base_fault_flip(bytes, 3);
    assert_int_equal(bytes[1], 1);
    assert_int_equal(bytes[0] + bytes[2], 0);
    base_fault_flip(bytes, 3);
    assert_int_equal(bytes[1], 0);
}

static void test_only_bytes_can_be_halved_and_corrupted(void **state)
{
    (void)state;
    for (int point = 0; point < BASE_FAULT_N; point++) {
        bool has_corrupt = false;
        bool has_short = false;
        bool has_crash = false;
        const char *name;

        for (unsigned i = 0;
             (name = base_fault_action_name((enum base_fault_point)point, i)) !=
             NULL;
             i++) {
            has_corrupt |= strcmp(name, "corrupt") == 0;
            has_short |= strcmp(name, "short") == 0;
            has_crash |= strcmp(name, "crash") == 0;
        }
        assert_true(has_crash);
        assert_int_equal(has_corrupt, point == BASE_FAULT_io_read ||
                                          point == BASE_FAULT_io_write);
        assert_int_equal(has_short, has_corrupt);
    }
}

static void test_a_hang_of_no_time_is_refused(void **state)
{
    struct base_err err;

    (void)state;
    assert_int_equal(setenv("RETILE_FAULT", "io.open=hang", 1), 0);
    assert_int_equal(setenv("RETILE_FAULT_HANG_S", "soon", 1), 0);
    assert_int_equal(base_fault_init(&err), BASE_BAD_ARG);
    assert_non_null(strstr(err.text, "soon"));
    assert_int_equal(unsetenv("RETILE_FAULT_HANG_S"), 0);
}

static void test_bad_text_is_refused_by_name(void **state)
{
    static const struct {
        const char *text;
        const char *names;
    } cases[] = {
        {"io.reed=error", "io.reed"},
        {"io.read=explode", "explode"},
        {"io.read", "io.read"},
        {"io.read=error@0", "\"0\""},
        {"io.read=error@x", "\"x\""},
        {",", "\"\""},
        {"io.read=error,", "\"\""},
        {"io.read=error@", "\"\""},
        {"io.read=error@+", "\"\""},
        {"io.read=error@2-", "\"2-\""},
        {"io.open=corrupt", "corrupt"},
        {"io.sync=short", "short"},
        {"io.open=slow", "slow:200"},
        {"io.open=slow:x", "slow:x"},
        {"io.open=slow:99999999999999", "slow:9"},
        {"io.open=hang:3", "hang:3"},
        {"io.open=error,io.open=crash", "twice"},
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
        cmocka_unit_test(test_from_the_nth_pass_on),
        cmocka_unit_test(test_passes_of_children_count),
        cmocka_unit_test(test_stop_goes_on_at_sigcont),
        cmocka_unit_test(test_slow_and_hang_take_their_time),
        cmocka_unit_test(test_a_hang_can_be_seen),
        cmocka_unit_test(test_a_flip_is_one_bit),
        cmocka_unit_test(test_only_bytes_can_be_halved_and_corrupted),
        cmocka_unit_test(test_a_hang_of_no_time_is_refused),
        cmocka_unit_test(test_bad_text_is_refused_by_name),
        cmocka_unit_test(test_each_point_has_a_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
