/* worker/proc.h */
#include "tests/unit/unit.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/proc.h"

/* A child in a group of its own that waits for a signal; with @setting in its
 * environment, which only exec gives. */
static pid_t start(const char *setting)
{
    pid_t pid = fork();

    if (pid == 0) {
        union {
            const char *shown;
            char *field;
        } env = {.shown = setting};
        char *const environment[] = {env.field, NULL};
        static char sh[] = "/bin/sh";
        static char c[] = "-c";
        static char wait[] = "read x"; /* of a pipe that nobody writes to */
        char *const argv[] = {sh, c, wait, NULL};
        int fds[2];

        (void)setpgid(0, 0);
        if (pipe(fds) == 0 && dup2(fds[0], 0) == 0) {
            (void)execve(sh, argv, environment);
        }
        _exit(127);
    }
    assert_true(pid > 0);
    (void)setpgid(pid, pid);
    return pid;
}

static void end(pid_t pid)
{
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_a_process_is_its_pid_and_start(void **state)
{
    pid_t pid = start(NULL);
    struct worker_proc proc;
    struct worker_proc other;

    (void)state;
    assert_true(worker_proc_find(pid, &proc));
    assert_true(worker_proc_lives(&proc));
    other = proc;
    other.start++;
    assert_false(worker_proc_lives(&other));
    worker_proc_kill(&other, SIGKILL); /* another's pid: nothing is sent */
    assert_true(worker_proc_lives(&proc));
    assert_int_equal(worker_proc_open(&other), -1);
    end(pid);
    assert_false(worker_proc_lives(&proc));
}

static void test_a_zombie_has_ended(void **state)
{
    pid_t pid = start(NULL);
    struct worker_proc proc;
    siginfo_t info;

    (void)state;
    assert_true(worker_proc_find(pid, &proc));
    worker_proc_kill(&proc, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_false(worker_proc_lives(&proc));
    end(pid);
}

static void test_an_end_can_be_waited_for(void **state)
{
    pid_t pid = start(NULL);
    struct worker_proc proc;
    struct pollfd wait = {.events = POLLIN};

    (void)state;
    assert_true(worker_proc_find(pid, &proc));
    wait.fd = worker_proc_open(&proc);
    assert_true(wait.fd >= 0);
    assert_int_equal(poll(&wait, 1, 0), 0);
    worker_proc_kill(&proc, SIGKILL);
    assert_int_equal(poll(&wait, 1, 10000), 1);
    (void)close(wait.fd);
    end(pid);
}

static void test_leftovers_are_found_by_group_and_environment(void **state)
{
    char directory[64];
    char setting[96];
    struct worker_proc ranks[2];
    struct worker_leftovers what = {.directory = directory, .ranks = ranks};
    pid_t rank;
    pid_t stray;
    pid_t other;

    (void)state;
    (void)snprintf(directory, sizeof(directory), "/mnt/%d/gen/3",
                   (int)getpid());
    (void)snprintf(setting, sizeof(setting), "RETILE_DIR=%s", directory);
    rank = start(NULL);
    stray = start(setting);
    (void)snprintf(setting, sizeof(setting), "RETILE_DIR=%s0", directory);
    other = start(setting); /* of generation 30 */
    assert_true(worker_proc_find(rank, &ranks[0]));
    what.n_ranks = 1;
    /* execve gives the environment a moment after fork. */
    for (int i = 0; i < 1000 && worker_proc_leftovers(&what, 0) < 2; i++) {
        (void)poll(NULL, 0, 5);
    }
    assert_int_equal(worker_proc_leftovers(&what, 0), 2);
    what.has_user = true; /* of another user: none of these */
    what.uid = getuid() + 1;
    assert_int_equal(worker_proc_leftovers(&what, SIGKILL), 0);
    what.uid = getuid();
    assert_int_equal(worker_proc_leftovers(&what, SIGKILL), 2);
    assert_int_equal(waitpid(rank, NULL, 0), rank);
    assert_int_equal(waitpid(stray, NULL, 0), stray);
    assert_int_equal(worker_proc_leftovers(&what, 0), 0);
    assert_int_equal(kill(other, 0), 0);
    end(other);
}

static void test_a_program_is_found_by_its_command(void **state)
{
    struct worker_proc proc = {0};
    char own[256] = "";
    char *slash;

    (void)state;
    assert_true(readlink("/proc/self/exe", own, sizeof(own) - 1) > 0);
    slash = strrchr(own, '/');
    assert_true(worker_proc_by_command(slash + 1, "--marked", &proc));
    assert_int_equal(proc.pid, getpid());
    assert_false(worker_proc_by_command(slash + 1, "--other", &proc));
    assert_false(worker_proc_by_command("other", "--marked", &proc));
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_process_is_its_pid_and_start),
        cmocka_unit_test(test_a_zombie_has_ended),
        cmocka_unit_test(test_an_end_can_be_waited_for),
        cmocka_unit_test(test_leftovers_are_found_by_group_and_environment),
        cmocka_unit_test(test_a_program_is_found_by_its_command),
    };

    if (argc == 1) { /* with an argument that nobody else has */
        static char marked[] = "--marked";
        char *const again[] = {argv[0], marked, NULL};

        (void)execv("/proc/self/exe", again);
        return EXIT_FAILURE;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
