#include "fuse/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/auto.h"

/* Exit as @child says: 0 once it is ready, else with its own exit code. */
static _Noreturn void wait_for(pid_t child, int ready_fd)
{
    char byte;
    ssize_t n;
    int status = 0;
    pid_t pid;

    do {
        n = read(ready_fd, &byte, 1);
    } while (n < 0 && errno == EINTR);
    if (n == 1) {
        _exit(0);
    }
    do {
        pid = waitpid(child, &status, 0);
    } while (pid < 0 && errno == EINTR);
    if (pid == child && WIFSIGNALED(status)) {
        (void)fprintf(stderr, "retile-fuse: ended by signal %d\n",
                      WTERMSIG(status));
    }
    _exit(pid == child && WIFEXITED(status) && WEXITSTATUS(status) != 0
              ? WEXITSTATUS(status)
              : 1);
}

enum base_code
fs_daemon_start(struct fs_daemon *daemon, const char *log, struct base_err *err)
{
    BASE_AUTO_FD log_fd = -1;
    const pid_t parent = getpid();
    int ends[2];
    pid_t child;

    if (log != NULL) {
        log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (log_fd < 0) {
            return base_fail_errno(err, errno, "%s", log);
        }
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return base_fail_errno(err, errno, "pipe");
    }
    child = fork();
    if (child > 0) {
        (void)close(ends[1]);
        wait_for(child, ends[0]);
    }
    (void)close(ends[0]);
    if (child < 0) {
        int errnum = errno;

        (void)close(ends[1]);
        return base_fail_errno(err, errnum, "fork");
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* such a number: cannot fail */
    if (getppid() != parent) {
        (void)close(ends[1]);
        return base_fail(err, BASE_INTERRUPTED, "nobody waits for the mount");
    }
    daemon->ready_fd = ends[1];
    daemon->log_fd = base_steal_fd(&log_fd);
    daemon->is_started = true;
    return BASE_OK;
}

/* A daemon keeps nobody's terminal or pipe open. */
static void leave_terminal(int log_fd)
{
    BASE_AUTO_FD null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    int out_fd = log_fd >= 0 ? log_fd : null_fd;

    (void)setsid(); /* fails only for a group's leader, a fork before */
    if (null_fd < 0) {
        return; /* no /dev/null: keep what there is */
    }
    (void)dup2(null_fd, STDIN_FILENO); /* open descriptors: cannot fail */
    (void)dup2(out_fd, STDOUT_FILENO);
    (void)dup2(out_fd, STDERR_FILENO);
}

void fs_daemon_child(struct fs_daemon *daemon)
{
    if (daemon->ready_fd >= 0) {
        (void)close(daemon->ready_fd);
        daemon->ready_fd = -1;
    }
}

void fs_daemon_leave(struct fs_daemon *daemon)
{
    if (daemon->is_started && !daemon->has_left) {
        daemon->has_left = true;
        leave_terminal(daemon->log_fd);
    }
}

void fs_daemon_ready(struct fs_daemon *daemon)
{
    ssize_t n;

    if (!daemon->is_started) {
        return;
    }
    fs_daemon_leave(daemon);
    (void)prctl(PR_SET_PDEATHSIG, 0); /* from here on it may go */
    do {
        n = write(daemon->ready_fd, "", 1);
    } while (n < 0 && errno == EINTR); /* otherwise the parent is gone */
    (void)close(daemon->ready_fd);
    daemon->ready_fd = -1;
}
