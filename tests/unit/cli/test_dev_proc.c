/* Which processes are of a cluster in a directory. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/connect.h"
#include "cli/dev_proc.h"

void cli_pause(int ms)
{
    (void)ms;
}

/* A process that shows @word as a coordinator's; it waits for *ret_end. */
static pid_t start(const char *word, int *ret_end)
{
    int input[2];
    int runs[2]; /* its end is closed when the program runs */
    char byte;
    pid_t pid;

    assert_int_equal(pipe2(input, O_CLOEXEC), 0);
    assert_int_equal(pipe2(runs, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)dup2(input[0], 0);
        (void)execl("/bin/sh", "retile-coordinator", "-c", "read -r line", word,
                    (char *)NULL);
        _exit(127);
    }
    assert_int_equal(close(input[0]), 0);
    assert_int_equal(close(runs[1]), 0);
    assert_int_equal(read(runs[0], &byte, 1), 0);
    assert_int_equal(close(runs[0]), 0);
    *ret_end = input[1];
    return pid;
}

static void test_a_cluster_is_that_of_its_own_directory(void **state)
{
    static const struct {
        const char *dir;
        bool is_found;
    } cases[] = {
        {"/q/w/dev", true},   {"/q/w", true},  {"/w/dev", false},
        {"/q/w/de", false},   {"/dev", false}, {"/q/w/dev/c.db", true},
        {"/q/w/dev2", false},
    };
    int end;
    pid_t pid = start("--db=/q/w/dev/c.db", &end);

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        cli_dev_procs procs = {0};
        struct base_err err = {0};
        bool is_found = false;

        assert_ok(cli_dev_find(cases[i].dir, &procs, &err), &err);
        for (size_t k = 0; k < procs.n; k++) {
            is_found = is_found || procs.items[k].pid == pid;
        }
        base_vec_done(&procs);
        if (is_found != cases[i].is_found) {
            (void)kill(pid, SIGKILL);
            fail_msg("%s: %s", cases[i].dir, is_found ? "found" : "not found");
        }
    }
    assert_int_equal(close(end), 0); /* and it ends */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_cluster_is_that_of_its_own_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
