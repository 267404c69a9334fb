#include "cli/launch_guard.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/launch_ranks.h"

/* The standard descriptors must be there: pipes would take their place. */
static bool open_standard(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    return fd >= 0 && close(fd) == 0;
}

static void fill_set(sigset_t *set)
{
    (void)sigemptyset(set);
    (void)sigaddset(set, SIGINT);
    (void)sigaddset(set, SIGTERM);
    (void)sigaddset(set, SIGHUP);
    (void)sigaddset(set, SIGCHLD);
}

/* The launcher has ended.  What is left of it is ours now. */
static enum cli_exit after(int status)
{
    cli_kill_children();
    if (WIFEXITED(status)) {
        return (enum cli_exit)WEXITSTATUS(status);
    }
    (void)fprintf(stderr,
                  "retile: launch: was ended by signal %d; its processes were "
                  "killed\n",
                  WTERMSIG(status));
    return CLI_FAILED;
}

static enum cli_exit stand_guard(pid_t launcher, const sigset_t *set)
{
    for (;;) {
        siginfo_t info = {0};
        int status;
        int signo = sigwaitinfo(set, &info);

        if (signo == SIGCHLD) {
            if (waitpid(launcher, &status, WNOHANG) == launcher) {
                return after(status);
            }
        } else if (signo > 0) {
            (void)kill(launcher, signo); /* ours, ended or not */
        }
    }
}

static bool begin_launcher(struct cli_guard *ret, const sigset_t *set)
{
    sigset_t tty;

    (void)sigemptyset(&tty);
    (void)sigaddset(&tty, SIGTTOU); /* we write from the background */
    (void)pthread_sigmask(SIG_BLOCK, &tty, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setpgid(0, 0);
    ret->signal_fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    return ret->signal_fd >= 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 &&
           prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && !cli_guard_is_gone(ret);
}

bool cli_guard_fork(struct cli_guard *ret, enum cli_exit *ret_exit)
{
    pid_t launcher = -1;
    sigset_t set;

    fill_set(&set);
    *ret_exit = CLI_FAILED;
    *ret = (struct cli_guard){.pid = getpid(), .signal_fd = -1};
    if (open_standard() && pthread_sigmask(SIG_BLOCK, &set, &ret->mask) == 0 &&
        prctl(PR_SET_CHILD_SUBREAPER, 1) == 0) {
        launcher = fork();
    }
    if (launcher == 0 && begin_launcher(ret, &set)) {
        return true;
    }
    if (launcher <= 0) {
        (void)fprintf(stderr, "retile: launch: cannot begin: %s\n",
                      strerrordesc_np(errno));
        return false;
    }
    *ret_exit = stand_guard(launcher, &set);
    return false;
}

bool cli_guard_is_gone(const struct cli_guard *guard)
{
    return getppid() != guard->pid;
}
