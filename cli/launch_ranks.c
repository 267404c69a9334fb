#include "cli/launch_ranks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "cli/launch_env.h"

enum {
    EXIT_NO_COMMAND = 127, /* as a shell says it */
    EXIT_NO_EXEC = 126,
    READ_BYTES = 1 << 16,
};

void cli_ranks_done(struct cli_ranks *ranks)
{
    for (size_t i = 0; i < ranks->n; i++) {
        for (int k = 0; k < CLI_N_STREAMS; k++) {
            if (ranks->ranks[i].fds[k] >= 0) {
                (void)close(ranks->ranks[i].fds[k]); /* a pipe: cannot fail */
            }
            cli_lines_done(&ranks->ranks[i].lines[k]);
        }
    }
    free(ranks->ranks);
    *ranks = (struct cli_ranks){0};
}

/* --- starting ------------------------------------------------------------ */

static void say_in_child(const char *text)
{
    ssize_t n = write(STDERR_FILENO, text, strlen(text));

    (void)n; /* nobody else can be told */
}

/* What runs between fork and exec: only calls that are safe there. */
static _Noreturn void become(char **command,
                             char **env,
                             const int *fds,
                             const sigset_t *mask,
                             pid_t parent)
{
    static const int handled[] = {SIGPIPE, SIGINT,  SIGTERM,
                                  SIGHUP,  SIGCHLD, SIGTTOU};
    const char *text;
    int errnum;

    (void)setpgid(0, 0); /* the parent does it, too */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(EXIT_NO_EXEC); /* it died before we asked to be told */
    }
    for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++) {
        (void)signal(handled[i], SIG_DFL);
    }
    (void)pthread_sigmask(SIG_SETMASK, mask, NULL);
    if (dup2(fds[0], STDIN_FILENO) >= 0 && dup2(fds[1], STDOUT_FILENO) >= 0 &&
        dup2(fds[2], STDERR_FILENO) >= 0) {
        (void)execvpe(command[0], command, env);
    }
    errnum = errno;
    text = strerrordesc_np(errnum);
    say_in_child("retile: launch: cannot run ");
    say_in_child(command[0]);
    say_in_child(": ");
    say_in_child(text == NULL ? "unknown error" : text);
    say_in_child("\n");
    _exit(errnum == ENOENT ? EXIT_NO_COMMAND : EXIT_NO_EXEC);
}

static enum base_code
make_pipe(int *ret_read, int *ret_write, struct base_err *err)
{
    int fds[2];

    if (pipe2(fds, O_CLOEXEC) != 0) {
        return base_fail_errno(err, errno, "cannot make a pipe");
    }
    *ret_read = fds[0];
    *ret_write = fds[1];
    if (fcntl(fds[0], F_SETFL, O_NONBLOCK) != 0) {
        return base_fail_errno(err, errno, "cannot set up a pipe");
    }
    return BASE_OK;
}

static enum base_code start_one(struct cli_rank *rank,
                                char **command,
                                char **env,
                                const sigset_t *mask,
                                struct base_err *err)
{
    BASE_AUTO_FD null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    BASE_AUTO_FD out = -1;
    BASE_AUTO_FD errors = -1;
    pid_t parent = getpid();
    pid_t pid;

    if (null < 0) {
        return base_fail_errno(err, errno, "/dev/null");
    }
    BASE_TRY(make_pipe(&rank->fds[CLI_OUT], &out, err));
    BASE_TRY(make_pipe(&rank->fds[CLI_ERR], &errors, err));
    pid = fork();
    if (pid < 0) {
        return base_fail_errno(err, errno, "cannot make a process");
    }
    if (pid == 0) {
        become(command, env, (const int[]){null, out, errors}, mask, parent);
    }
    (void)setpgid(pid, pid); /* EACCES: it has done so itself, and more */
    rank->pid = pid;
    return BASE_OK;
}

static int by_rank(const void *a, const void *b)
{
    uint32_t left = (*(Retile__V1__LaunchRank *const *)a)->rank;
    uint32_t right = (*(Retile__V1__LaunchRank *const *)b)->rank;

    return left < right ? -1 : left > right;
}

static void env_auto(char ***env)
{
    cli_env_free(*env);
}

static enum base_code start_all(struct cli_ranks *ranks,
                                const Retile__V1__LaunchOrder *order,
                                const char *job,
                                char **command,
                                const sigset_t *mask,
                                struct base_err *err)
{
    for (size_t i = 0; i < ranks->n; i++) {
        __attribute__((cleanup(env_auto))) char **env = NULL;
        enum base_code rc;

        BASE_TRY(cli_env_create(order, i, job, environ, &env, err));
        rc = start_one(&ranks->ranks[i], command, env, mask, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "rank %" PRIu32, ranks->ranks[i].rank);
        }
    }
    return BASE_OK;
}

enum base_code cli_ranks_start(struct cli_ranks *ranks,
                               const Retile__V1__LaunchOrder *order,
                               const char *job,
                               char **command,
                               const sigset_t *mask,
                               struct base_err *err)
{
    enum base_code rc;

    cli_ranks_done(ranks);
    ranks->ranks = calloc(order->n_ranks, sizeof(*ranks->ranks));
    if (ranks->ranks == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot keep %zu ranks",
                         order->n_ranks);
    }
    qsort(order->ranks, order->n_ranks, sizeof(Retile__V1__LaunchRank *),
          by_rank);
    ranks->generation = order->generation;
    ranks->n = order->n_ranks;
    for (size_t i = 0; i < ranks->n; i++) {
        struct cli_rank *rank = &ranks->ranks[i];

        rank->rank = order->ranks[i]->rank;
        for (int k = 0; k < CLI_N_STREAMS; k++) {
            rank->fds[k] = -1;
            cli_lines_init(&rank->lines[k], rank->rank);
        }
    }
    rc = start_all(ranks, order, job, command, mask, err);
    if (rc != BASE_OK) {
        cli_ranks_signal(ranks, SIGKILL);
        for (size_t i = 0; i < ranks->n; i++) {
            if (ranks->ranks[i].pid == 0) {
                ranks->ranks[i].has_ended = true;
                ranks->ranks[i].exit_code = EXIT_NO_EXEC;
            }
        }
    }
    return rc;
}

/* --- ending -------------------------------------------------------------- */

static bool is_running(const struct cli_rank *rank)
{
    return rank->pid != 0 && !rank->has_ended;
}

size_t cli_ranks_n_running(const struct cli_ranks *ranks)
{
    size_t n = 0;

    for (size_t i = 0; i < ranks->n; i++) {
        n += is_running(&ranks->ranks[i]);
    }
    return n;
}

void cli_ranks_signal(const struct cli_ranks *ranks, int signo)
{
    for (size_t i = 0; i < ranks->n; i++) {
        if (is_running(&ranks->ranks[i])) {
            (void)kill(-ranks->ranks[i].pid, signo); /* ended: reaped soon */
        }
    }
}

static struct cli_rank *find_pid(struct cli_ranks *ranks, pid_t pid)
{
    for (size_t i = 0; i < ranks->n; i++) {
        if (is_running(&ranks->ranks[i]) && ranks->ranks[i].pid == pid) {
            return &ranks->ranks[i];
        }
    }
    return NULL;
}

static void note_end(struct cli_rank *rank, const siginfo_t *info)
{
    rank->has_ended = true;
    if (info->si_code == CLD_EXITED) {
        rank->exit_code = info->si_status;
    } else {
        rank->signal = info->si_status;
    }
}

/* The pids of our children, a line of the kernel's, are killed.  They are ours,
 * dead or not, until we wait for them, so no number is another's by now. */
static void kill_each_child(void)
{
    BASE_AUTO_MEM char *line = NULL;
    BASE_AUTO_MEM char *path = NULL;
    size_t cap = 0;
    FILE *file;

    if (asprintf(&path, "/proc/self/task/%d/children", (int)getpid()) < 0) {
        path = NULL;
        return;
    }
    file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    while (getdelim(&line, &cap, ' ', file) > 0) {
        uint64_t pid;

        if (base_parse_u64((struct base_str){line, strcspn(line, " \n")},
                           &pid) &&
            pid > 1 && pid <= INT32_MAX) {
            (void)kill((pid_t)pid, SIGKILL);
        }
    }
    (void)fclose(file); /* it was only read */
}

/* Wait for children that have ended.  False: there are no children. */
static bool reap_each(struct cli_ranks *ranks,
                      void (*on_end)(void *ctx, const struct cli_rank *rank),
                      void *ctx)
{
    for (;;) {
        siginfo_t info = {0};
        struct cli_rank *rank;

        /* It stays a zombie at first: its group's number is its own so long. */
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
            return errno != ECHILD;
        }
        if (info.si_pid == 0) {
            return true;
        }
        rank = find_pid(ranks, info.si_pid);
        if (rank != NULL) {
            (void)kill(-rank->pid, SIGKILL); /* what it has left behind */
        }
        (void)waitpid(info.si_pid, NULL, 0);
        if (rank != NULL) {
            note_end(rank, &info);
            on_end(ctx, rank);
        }
    }
}

void cli_ranks_reap(struct cli_ranks *ranks,
                    void (*on_end)(void *ctx, const struct cli_rank *rank),
                    void *ctx)
{
    bool has_children = reap_each(ranks, on_end, ctx);

    if (cli_ranks_n_running(ranks) == 0) {
        ranks->is_clear = !has_children;
        if (has_children) {
            kill_each_child(); /* their ends come as SIGCHLD */
        }
    }
}

void cli_kill_children(void)
{
    do {
        kill_each_child();
    } while (waitpid(-1, NULL, 0) > 0 || errno == EINTR);
}

/* --- reading ------------------------------------------------------------- */

/* How many bytes there were. */
static size_t read_stream(struct cli_rank *rank,
                          int k,
                          struct cli_mux *mux,
                          size_t max_bytes,
                          int64_t now_ns)
{
    char bytes[READ_BYTES];
    size_t n_read = 0;

    while (n_read < max_bytes &&
           (max_bytes == SIZE_MAX || !cli_mux_is_full(mux))) {
        ssize_t n = read(rank->fds[k], bytes, sizeof(bytes));

        if (n > 0) {
            cli_lines_feed(&rank->lines[k], mux,
                           (struct base_str){bytes, (size_t)n}, now_ns);
            n_read += (size_t)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else if (n < 0 && errno == EAGAIN) {
            break;
        } else {
            cli_lines_end(&rank->lines[k], mux);
            (void)close(rank->fds[k]); /* a pipe: cannot fail */
            rank->fds[k] = -1;
            return n_read;
        }
    }
    cli_lines_tick(&rank->lines[k], mux, now_ns);
    return n_read;
}

void cli_ranks_read(struct cli_ranks *ranks,
                    struct cli_mux *muxes,
                    size_t max_bytes,
                    int64_t now_ns)
{
    for (int k = 0; k < CLI_N_STREAMS; k++) {
        size_t first = ranks->first[k];

        for (size_t i = first; i < first + ranks->n; i++) {
            struct cli_rank *rank = &ranks->ranks[i % ranks->n];

            if (rank->fds[k] >= 0 &&
                read_stream(rank, k, &muxes[k], max_bytes, now_ns) > 0) {
                ranks->first[k] = (i + 1) % ranks->n;
            }
        }
    }
}
