/* Time is counted in steps of the loop, of at most a second each: a holder that
 * was stopped, or a machine that was asleep, is no server that hangs. */
#define FUSE_USE_VERSION 314

#include "fuse/holder.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "base/log.h"
#include "fuse/mount.h"

#define NS_PER_S INT64_C(1000000000)

enum {
    TICK_MS = 1000,
    RETRY_MS = 200,  /* before a server follows one that did not come up */
    END_WAIT_S = 40, /* for a server that was told to end */
    RESTARTS_OVER_S = 60,
    MAX_KEPT = 256,
    SLOW_FACTOR = 10, /* how much longer a request, or to come up, may take
                         than a ping: the disk may be slow */
};

enum phase {
    PHASE_STARTING, /* the server's source is not open */
    PHASE_MOUNTED,  /* it has the device */
    PHASE_UP,       /* it serves */
};

/* A descriptor that outlives the server who gave it. */
struct kept {
    uint64_t id;
    int fd;
    unsigned incarnation; /* of who gave it */
};

struct holder {
    const struct fs_options *options;
    struct fs_daemon *daemon;
    struct fs_handover *handover;
    struct fuse_session *fuse; /* NULL: nothing was mounted */
    bool is_mounted;
    bool was_up;    /* some server has served */
    bool is_ending; /* the server was told to */
    int exit_code;
    int signal_fd;
    sigset_t old_signals;
    char oom_score[16]; /* what the server gets back; "": unchanged */
    /* The server. */
    pid_t server;    /* 0: none */
    bool has_killed; /* it was us */
    int line;
    enum phase phase;
    bool is_asked; /* a ping is not answered */
    /* Since that ping, or since it was told to end. */
    int64_t silent_ns;
    int64_t pinged_ns; /* since the last ping */
    uint64_t oldest;   /* the request that it is at for longest; 0: at none */
    int64_t oldest_ns; /* since it was heard of */
    /* The prober, a child that asks the mount something, and since when; 0:
     * none. */
    pid_t prober;
    int64_t probing_ns;
    int64_t rested_ns; /* since the last one */
    int64_t last_ns;   /* when time was counted last */
    /* When the last servers were started, for the limit. */
    uint64_t n_restarts;
    int64_t *restarts;
    struct kept kept[MAX_KEPT];
    size_t n_kept;
};

/* Static: what it points at is reachable in each server, too. */
static struct holder holder;

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* What is kept. */

static void kept_remove(size_t i)
{
    (void)close(holder.kept[i].fd);
    holder.kept[i] = holder.kept[--holder.n_kept];
}

static void kept_drop(uint64_t id)
{
    size_t i;

    for (i = holder.n_kept; i-- > 0;) {
        if (holder.kept[i].id == id &&
            (id == FS_LINE_STAGING ||
             holder.kept[i].incarnation == holder.handover->incarnation)) {
            kept_remove(i);
        }
    }
}

/* Those of earlier servers, once the present one has what it needs. */
static void kept_drop_old(void)
{
    size_t i;

    for (i = holder.n_kept; i-- > 0;) {
        if (holder.kept[i].id != FS_LINE_STAGING &&
            holder.kept[i].incarnation != holder.handover->incarnation) {
            kept_remove(i);
        }
    }
}

static void kept_add(uint64_t id, int fd)
{
    if (fd < 0) {
        return;
    }
    kept_drop(id);
    if (holder.n_kept == MAX_KEPT) {
        (void)close(fd);
        return;
    }
    holder.kept[holder.n_kept++] =
        (struct kept){id, fd, holder.handover->incarnation};
}

static int kept_take_staging(void)
{
    size_t i;
    int fd;

    for (i = 0; i < holder.n_kept; i++) {
        if (holder.kept[i].id == FS_LINE_STAGING) {
            fd = holder.kept[i].fd;
            holder.kept[i] = holder.kept[--holder.n_kept];
            return fd;
        }
    }
    return -1;
}

/* Being hard to kill: of root's mounts only the server may be chosen when
 * memory runs out. */

static void set_oom_score(const char *text)
{
    BASE_AUTO_FD fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, text, strlen(text)) < 0) {
        return; /* not allowed: as it was */
    }
}

static void lower_oom_score(void)
{
    BASE_AUTO_FD fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (geteuid() != 0 || fd < 0) {
        return;
    }
    n = read(fd, holder.oom_score, sizeof(holder.oom_score) - 1);
    holder.oom_score[n > 0 ? n : 0] = '\0';
    if (n > 0) {
        set_oom_score("-900");
    }
}

/* Servers. */

static enum base_code block_signals(struct base_err *err)
{
    sigset_t set;

    (void)sigemptyset(&set); /* cannot fail, nor can these */
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, &holder.old_signals) != 0) {
        return base_fail_errno(err, errno, "cannot block signals");
    }
    holder.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (holder.signal_fd < 0) {
        return base_fail_errno(err, errno, "cannot watch for signals");
    }
    return BASE_OK;
}

/* In the child: what is the holder's alone is let go of. */
static void become_server(struct fs_holding *ret, int line)
{
    *ret = (struct fs_holding){
        .is_server = true,
        .line = {.fd = line, .staging_fd = kept_take_staging()},
        .handover = holder.handover,
    };
    while (holder.n_kept > 0) {
        kept_remove(0);
    }
    (void)close(holder.line);
    (void)close(holder.signal_fd);
    fs_daemon_child(holder.daemon);
    if (holder.is_mounted) {
        (void)close(fuse_session_fd(holder.fuse)); /* it comes by the line */
    }
    (void)prctl(PR_SET_NAME, "retile-fuse");
    if (holder.oom_score[0] != '\0') {
        set_oom_score(holder.oom_score);
    }
    /* Those that end a mount stay blocked; see fs_session_signals. */
    (void)sigprocmask(SIG_SETMASK, &holder.old_signals, NULL);
    fs_handover_enter(holder.handover);
}

/* Fork; true in the server. */
static enum base_code
fork_server(struct fs_holding *ret, bool *ret_is_server, struct base_err *err)
{
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
        return base_fail_errno(err, errno, "socketpair");
    }
    holder.line = ends[0];
    holder.phase = PHASE_STARTING;
    holder.is_asked = false;
    holder.silent_ns = 0;
    holder.oldest = 0;
    holder.probing_ns = 0;
    holder.has_killed = false;
    holder.server = fork();
    if (holder.server < 0) {
        int errnum = errno;

        holder.server = 0;
        (void)close(ends[0]);
        (void)close(ends[1]);
        return base_fail_errno(err, errnum, "fork");
    }
    *ret_is_server = holder.server == 0;
    if (*ret_is_server) {
        become_server(ret, ends[1]);
    } else {
        (void)close(ends[1]);
    }
    return BASE_OK;
}

static void kill_server(const char *why)
{
    base_log(BASE_ERROR, "server killed", "reason", why);
    (void)snprintf(holder.handover->reason, sizeof(holder.handover->reason),
                   "%s", why);
    holder.has_killed = true;
    (void)kill(holder.server, SIGKILL); /* ours, not yet reaped */
}

/* Its messages. */

static enum base_code mount_it(struct base_err *err)
{
    static const struct fuse_lowlevel_ops none;

    if (holder.is_mounted) {
        return BASE_OK;
    }
    BASE_TRY(fs_mount_session(holder.options, &none, NULL, &holder.fuse, err));
    BASE_TRY(fs_mount(holder.options, holder.fuse, err));
    holder.is_mounted = true;
    return BASE_OK;
}

static enum base_code on_opened(struct base_err *err)
{
    BASE_TRY(mount_it(err));
    kept_drop_old();
    holder.phase = PHASE_MOUNTED;
    /* If it does not listen, its end is to come. */
    (void)fs_line_send(holder.line, FS_LINE_DEVICE, 0,
                       fuse_session_fd(holder.fuse));
    return BASE_OK;
}

static void on_serving(void)
{
    holder.phase = PHASE_UP;
    holder.silent_ns = 0;
    if (!holder.was_up) {
        holder.was_up = true;
        fs_daemon_ready(holder.daemon);
    }
}

/* The time that it has been at a request is counted here, too. */
static void note_oldest(uint64_t begun)
{
    if (holder.oldest != begun) {
        holder.oldest = begun;
        holder.oldest_ns = 0;
    }
}

/* An error is what the mount cannot go on with. */
static enum base_code read_line(struct base_err *err)
{
    struct fs_line_message message;
    struct base_err failed;
    int fd = -1;

    while (fs_line_receive(holder.line, &message, &fd, &failed) == BASE_OK) {
        switch ((enum fs_line_kind)message.kind) {
        case FS_LINE_OPENED:
            BASE_TRY(on_opened(err));
            break;
        case FS_LINE_SERVING:
            on_serving();
            break;
        case FS_LINE_PONG:
            holder.is_asked = false;
            holder.silent_ns = holder.is_ending ? holder.silent_ns : 0;
            note_oldest(message.id);
            break;
        case FS_LINE_KEEP:
            kept_add(message.id, fd);
            fd = -1;
            break;
        case FS_LINE_DROP:
            kept_drop(message.id);
            break;
        case FS_LINE_DEVICE:
        case FS_LINE_PING:
            break;
        }
        if (fd >= 0) {
            (void)close(fd);
            fd = -1;
        }
    }
    return BASE_OK;
}

/* Watching. */

static void start_prober(void)
{
    struct statfs ignored;

    holder.prober = fork();
    if (holder.prober != 0) {
        holder.probing_ns = 0;
        holder.prober = holder.prober > 0 ? holder.prober : 0;
        return;
    }
    /* It may wait as long as nobody answers, so it must not hold the device:
     * closing that is what ends all waiting. */
    (void)close_range(STDERR_FILENO + 1, ~0U, 0);
    _exit(statfs(holder.options->mountpoint, &ignored) == 0 ? 0 : 1);
}

static void watch_server(int64_t step_ns)
{
    const int64_t hang_ns = (int64_t)holder.options->hang_s * NS_PER_S;

    if (holder.has_killed) {
        return; /* its end is to come */
    }

    holder.silent_ns +=
        holder.is_asked || holder.is_ending || holder.phase != PHASE_UP
            ? step_ns
            : 0;
    holder.oldest_ns += step_ns;
    holder.pinged_ns += step_ns;
    holder.probing_ns += step_ns;
    holder.rested_ns += step_ns;
    if (holder.is_ending) {
        if (holder.silent_ns > END_WAIT_S * NS_PER_S) {
            kill_server("it did not end in time");
            holder.silent_ns = 0;
        }
        return;
    }
    if (hang_ns == 0) {
        return;
    }
    if (holder.phase != PHASE_UP) {
        /* The first one has nobody waiting but who started it. */
        if (holder.was_up && holder.silent_ns > SLOW_FACTOR * hang_ns) {
            kill_server("it does not come up");
        }
        return;
    }
    if (holder.silent_ns > hang_ns) {
        kill_server("it hangs");
        return;
    }
    if ((holder.oldest != 0 && holder.oldest_ns > SLOW_FACTOR * hang_ns) ||
        (holder.prober != 0 && holder.oldest == 0 &&
         holder.probing_ns > hang_ns)) {
        kill_server("a request is not answered");
        return;
    }
    /* An answer ends the wait, so there may be less than a tick between. */
    if (holder.pinged_ns >= (int64_t)TICK_MS * (NS_PER_S / 1000)) {
        holder.pinged_ns = 0;
        holder.is_asked = true;
        /* A full line answers nothing, either. */
        (void)fs_line_send(holder.line, FS_LINE_PING, 0, -1);
    }
    if (holder.prober == 0 && holder.rested_ns >= hang_ns / 4) {
        holder.rested_ns = 0;
        start_prober();
    }
}

static void count_time(void)
{
    const int64_t now = now_ns();
    const int64_t step = now - holder.last_ns;
    const int64_t most = (int64_t)TICK_MS * (NS_PER_S / 1000);

    holder.last_ns = now;
    if (holder.server != 0) {
        watch_server(step < most ? step : most);
    }
}

/* Ends and new beginnings. */

/* May another server be started? */
static bool is_within_limit(void)
{
    const uint64_t max = holder.options->max_restarts;
    const int64_t now = now_ns();
    int64_t *oldest;

    if (max == 0) {
        return false;
    }
    oldest = &holder.restarts[holder.n_restarts % max];
    if (holder.n_restarts >= max &&
        now - *oldest < RESTARTS_OVER_S * NS_PER_S) {
        return false;
    }
    *oldest = now;
    holder.n_restarts++;
    return true;
}

static bool is_ending_signal(int number)
{
    return number == SIGTERM || number == SIGINT || number == SIGHUP;
}

static void note_reason(int status)
{
    char *reason = holder.handover->reason;
    const size_t n = sizeof(holder.handover->reason);

    if (holder.has_killed) {
        return; /* noted already */
    }
    if (WIFSIGNALED(status)) {
        (void)snprintf(reason, n, "signal %d", WTERMSIG(status));
    } else {
        (void)snprintf(reason, n, "exit code %d", WEXITSTATUS(status));
    }
}

/* The server is gone: *ret_goes_on says whether there is to be another one. */
static enum base_code
on_exit_of_server(int status, bool *ret_goes_on, struct base_err *err)
{
    const bool is_clean = WIFEXITED(status) && WEXITSTATUS(status) == 0;

    *ret_goes_on = false;
    if (is_clean) {
        return BASE_OK;
    }
    if (!holder.was_up && WIFEXITED(status)) {
        holder.exit_code = WEXITSTATUS(status); /* it has said why */
        return BASE_OK;
    }
    if (holder.is_ending && WIFSIGNALED(status) &&
        is_ending_signal(WTERMSIG(status))) {
        return BASE_OK; /* passed on before the server watched for it */
    }
    note_reason(status);
    if (holder.is_ending) {
        return base_fail(err, BASE_IO, "the server ended by %s",
                         holder.handover->reason);
    }
    if (holder.handover->init.is_answered &&
        !holder.handover->init.can_resend) {
        return base_fail(err, BASE_IO,
                         "the server ended by %s; this kernel cannot go on "
                         "with another one",
                         holder.handover->reason);
    }
    if (!is_within_limit()) {
        return base_fail(err, BASE_IO,
                         "the server ended by %s, after %" PRIu64
                         " restarts within %d s (-o restarts)",
                         holder.handover->reason, holder.options->max_restarts,
                         RESTARTS_OVER_S);
    }
    base_log(BASE_ERROR, "server ended, starting another one", "reason",
             holder.handover->reason);
    *ret_goes_on = true;
    return BASE_OK;
}

/* Reap what has ended.  *ret_has_ended: the server, with *ret_status. */
static void reap(bool *ret_has_ended, int *ret_status)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == holder.prober) {
            holder.prober = 0;
        } else if (pid == holder.server) {
            *ret_has_ended = true;
            *ret_status = status;
        }
    }
}

/* Pass on what is to end the mount. */
static void read_signals(void)
{
    struct signalfd_siginfo info;

    while (read(holder.signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            continue;
        }
        if (holder.server != 0) {
            (void)kill(holder.server, (int)info.ssi_signo);
        }
        if (!holder.is_ending) {
            holder.silent_ns = 0;
        }
        holder.is_ending = true;
    }
}

static void wait_for_events(int timeout_ms)
{
    struct pollfd fds[2] = {
        {.fd = holder.signal_fd, .events = POLLIN},
        {.fd = holder.line, .events = POLLIN},
    };

    /* A line that has ended is no event: the server's end is. */
    if (poll(fds, 2, timeout_ms) > 0 && (fds[1].revents & POLLHUP) != 0 &&
        (fds[1].revents & POLLIN) == 0) {
        (void)poll(fds, 1, timeout_ms);
    }
}

/* Until the server is gone. */
static enum base_code serve_one(int *ret_status, struct base_err *err)
{
    bool has_ended = false;

    for (;;) {
        read_signals();
        BASE_TRY(read_line(err));
        reap(&has_ended, ret_status);
        if (has_ended) {
            enum base_code rc;

            holder.server = 0;
            /* What it said last counts, a lock that it gave above all. */
            rc = read_line(err);
            (void)close(holder.line);
            return rc;
        }
        count_time();
        wait_for_events(TICK_MS);
    }
}

static void rest(int timeout_ms)
{
    struct pollfd poll_fd = {.fd = holder.signal_fd, .events = POLLIN};

    (void)poll(&poll_fd, 1, timeout_ms);
}

static enum base_code run(struct fs_holding *ret, struct base_err *err)
{
    bool goes_on = true;
    int status = 0;

    holder.last_ns = now_ns();
    while (goes_on && !holder.is_ending) {
        bool is_server = false;

        BASE_TRY(fork_server(ret, &is_server, err));
        if (is_server) {
            return BASE_OK;
        }
        BASE_TRY(serve_one(&status, err));
        BASE_TRY(on_exit_of_server(status, &goes_on, err));
        if (goes_on && holder.phase != PHASE_UP) {
            rest(RETRY_MS);
            read_signals();
        }
    }
    return BASE_OK;
}

/* Take the mount away, and whoever waits for it out of its wait. */
static void holder_done(void)
{
    int i;

    if (holder.server > 0) {
        (void)kill(holder.server, SIGKILL);
        (void)waitpid(holder.server, NULL, 0);
        (void)close(holder.line);
    }
    if (holder.fuse != NULL) {
        fuse_session_unmount(holder.fuse); /* closes the device first */
        fuse_session_destroy(holder.fuse);
    }
    while (holder.n_kept > 0) {
        kept_remove(0);
    }
    /* The prober is free now; it needs a moment to end. */
    for (i = 0; holder.prober > 0 && i < 20; i++) {
        bool ignored;
        int status;

        reap(&ignored, &status);
        if (holder.prober > 0) {
            rest(100);
        }
    }
    if (holder.signal_fd >= 0) {
        (void)close(holder.signal_fd);
    }
    free(holder.restarts);
    fs_handover_free(holder.handover);
}

enum base_code fs_holder_run(const struct fs_options *options,
                             struct fs_daemon *daemon,
                             struct fs_holding *ret,
                             struct base_err *err)
{
    enum base_code rc;

    holder = (struct holder){
        .options = options,
        .daemon = daemon,
        .signal_fd = -1,
        .restarts = calloc(options->max_restarts + 1, sizeof(int64_t)),
    };
    if (holder.restarts == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot mount");
    }
    rc = fs_handover_create(&holder.handover, err);
    if (rc == BASE_OK) {
        rc = block_signals(err);
    }
    if (rc == BASE_OK) {
        (void)prctl(PR_SET_NAME, "retile-holder"); /* for people */
        lower_oom_score();
        rc = run(ret, err);
    }
    if (rc == BASE_OK && ret->is_server) {
        return BASE_OK;
    }
    holder_done();
    ret->exit_code = holder.exit_code;
    return rc;
}

void fs_holder_unmount(const char *mountpoint)
{
    pid_t child;

    if (umount2(mountpoint, MNT_DETACH) == 0) {
        return;
    }
    child = fork();
    if (child == 0) {
        (void)execlp("fusermount3", "fusermount3", "-u", "-q", "-z", "--",
                     mountpoint, (char *)NULL);
        _exit(1);
    }
    if (child > 0) {
        (void)waitpid(child, NULL, 0);
    }
}
