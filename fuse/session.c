/* Threads: libfuse's loop runs in main's thread and makes the ones that serve.
 * One more waits for signals and for the holder: it answers its questions, and
 * when the mount is to end, or the holder has died, it ends the thread that
 * watches the store, tells the loop to end and wakes main until the loop has
 * ended, because main may be about to wait again. */
#define FUSE_USE_VERSION 314

#include "fuse/session.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "base/file.h"
#include "fuse/agent.h"
#include "fuse/commit.h"
#include "fuse/daemon.h"
#include "fuse/handover.h"
#include "fuse/holder.h"
#include "fuse/mount.h"
#include "fuse/ops.h"
#include "fuse/readahead.h"

enum { WAKE_INTERVAL_MS = 20 };

struct session {
    struct fs *fs;
    struct fuse_session *fuse;
    pthread_t main_thread;
    int signal_fd;
    int ended_fd;   /* readable once the loop has ended */
    bool is_orphan; /* the holder has died; read after the thread's end */
};

static void ending_signals(sigset_t *set)
{
    (void)sigemptyset(set); /* cannot fail, nor can these */
    (void)sigaddset(set, SIGTERM);
    (void)sigaddset(set, SIGINT);
    (void)sigaddset(set, SIGHUP);
}

static void wake(int signal_number)
{
    (void)signal_number; /* it only has to interrupt a wait */
}

enum base_code fs_session_signals(struct base_err *err)
{
    struct sigaction on_wake = {.sa_handler = wake};
    struct sigaction on_pipe = {.sa_handler = SIG_IGN};
    sigset_t set;
    sigset_t own;
    int rc;

    ending_signals(&set);
    (void)sigemptyset(&own);
    (void)sigaddset(&own, SIGUSR1);
    rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (rc == 0) { /* who started us may have blocked it */
        rc = pthread_sigmask(SIG_UNBLOCK, &own, NULL);
    }
    if (rc != 0) {
        return base_fail_errno(err, rc, "cannot set the signal mask");
    }
    if (sigaction(SIGUSR1, &on_wake, NULL) != 0 ||
        sigaction(SIGPIPE, &on_pipe, NULL) != 0) {
        return base_fail_errno(err, errno, "cannot set signal handlers");
    }
    return BASE_OK;
}

/* Wait until @fd is readable; false on the deadline (-1: none). */
static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, timeout_ms) == 1;
}

/* Answer the holder.  False: it has died. */
static bool answer_holder(struct fs *fs)
{
    const int line = fs->line.fd;
    struct fs_line_message message;
    struct base_err err;
    int fd = -1;
    enum base_code rc;

    while ((rc = fs_line_receive(line, &message, &fd, &err)) == BASE_OK) {
        if (fd >= 0) {
            (void)close(fd);
        }
        if (message.kind == FS_LINE_PING) {
            /* What is lost is asked again. */
            (void)fs_line_send(line, FS_LINE_PONG,
                               fs_channel_oldest(fs->channel), -1);
        }
    }
    return rc == BASE_NOT_FOUND;
}

/* Until the mount is to end (true), or the loop has ended by itself. */
static bool wait_for_end(struct session *session)
{
    struct pollfd fds[3] = {
        {.fd = session->signal_fd, .events = POLLIN},
        {.fd = session->ended_fd, .events = POLLIN},
        {.fd = session->fs->line.fd, .events = POLLIN},
    };

    for (;;) {
        if (poll(fds, 3, -1) < 0) {
            continue; /* interrupted */
        }
        if (fds[1].revents != 0) {
            return false;
        }
        if (fds[2].revents != 0 && !answer_holder(session->fs)) {
            session->is_orphan = true;
        }
        if (session->is_orphan || fds[0].revents != 0) {
            return true;
        }
    }
}

static void *watch_signals(void *ctx)
{
    struct session *session = ctx;

    if (!wait_for_end(session)) {
        return NULL;
    }
    fs_watch_stop(session->fs->watch);
    fs_agent_interrupt(session->fs->agent);
    fs_commit_stop(session->fs->commit);
    do {
        fuse_session_exit(session->fuse);
        (void)pthread_kill(session->main_thread, SIGUSR1); /* it lives */
    } while (!is_readable(session->ended_fd, WAKE_INTERVAL_MS));
    return NULL;
}

/* The kernel has taken our answer to INIT. */
static void on_ready(void *owner)
{
    struct fs *fs = owner;

    fs_daemon_leave(fs->daemon);
    if (fs->handover->incarnation > 1) {
        fs_events_add(fs->events, BASE_WARNING, "server restarted", ".",
                      fs->handover->reason);
    }
    if (!fs_channel_is_resuming(fs->channel)) {
        if (!fs->is_direct) {
            fs_readahead_raise(fs->options->mountpoint);
        }
        base_log(BASE_INFO, "mounted", "source", fs->options->source,
                 "mountpoint", fs->options->mountpoint);
    }
    /* Without a holder nobody is told: then the mount ends, too. */
    (void)fs_line_send(fs->line.fd, FS_LINE_SERVING, 0, -1);
}

/* The session, on the device that the holder mounted. */
static enum base_code session_new(struct session *session, struct base_err *err)
{
    struct fs *fs = session->fs;
    BASE_AUTO_FD device = -1;

    fs->channel = fs_channel_create(fs, fs->options->masked, on_ready);
    if (fs->channel == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot mount");
    }
    fs_channel_keep_init(fs->channel, &fs->handover->init);
    BASE_TRY(fs_mount_session(fs->options, fs_ops(), fs->channel,
                              &session->fuse, err));
    BASE_TRY(fs_line_get_device(&fs->line, &device, err));
    fs_mount_log();
    BASE_TRY(fs_channel_attach(fs->channel, session->fuse, device, err));
    (void)base_steal_fd(&device); /* the session's */
    fs->session = session->fuse;
    return BASE_OK;
}

/* A server that is not the first one goes on where the last one was. */
static enum base_code session_begin(struct session *session,
                                    struct base_err *err)
{
    struct fs *fs = session->fs;

    return fs->handover->incarnation > 1
               ? fs_channel_resume(fs->channel, session->fuse, err)
               : BASE_OK;
}

static enum base_code loop(struct session *session, struct base_err *err)
{
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    int rc;

    if (config == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot start threads");
    }
    fuse_loop_cfg_set_max_threads(config, session->fs->options->n_threads);
    rc = fuse_session_loop_mt(session->fuse, config);
    fuse_loop_cfg_destroy(config);
    if (rc < 0) {
        return base_fail_errno(err, -rc, "the FUSE channel");
    }
    return BASE_OK;
}

/* Make the kernel forget names of a version.  It may know none of them. */

static void forget_name(void *ctx, uint64_t parent, struct base_str name)
{
    (void)fuse_lowlevel_notify_inval_entry(ctx, parent, name.ptr, name.len);
}

static void forget_version(void *ctx, struct fs_version *version)
{
    fs_tree_each_name(version, forget_name, ctx);
}

static void follow(void *ctx)
{
    fs_commit_follow(ctx);
}

static enum base_code watch_store(struct session *session, struct base_err *err)
{
    struct fs *fs = session->fs;
    BASE_AUTO_MEM char *path = NULL;

    if (fs->options->job == NULL) {
        return BASE_OK;
    }
    path =
        base_path("%s/jobs/%s/versions", fs->options->source, fs->options->job);
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot watch the store");
    }
    BASE_TRY(fs_watch_create(fs->versions, path, forget_version, session->fuse,
                             follow, fs->commit, &fs->watch, err));
    BASE_TRY(fs_commit_start(fs->commit, err));
    return fs->agent != NULL ? fs_agent_start(fs->agent, err) : BASE_OK;
}

/* Serve with the signal thread beside. */
static enum base_code serve(struct session *session, struct base_err *err)
{
    const uint64_t one = 1;
    pthread_t watcher;
    enum base_code rc;
    int errnum;

    session->main_thread = pthread_self();
    errnum = pthread_create(&watcher, NULL, watch_signals, session);
    if (errnum != 0) {
        return base_fail_errno(err, errnum, "cannot start a thread");
    }
    rc = loop(session, err);
    if (write(session->ended_fd, &one, sizeof(one)) != sizeof(one)) {
        abort(); /* an eventfd at 0 takes 1 */
    }
    (void)pthread_join(watcher, NULL); /* ours, joined once */
    return rc;
}

static void session_done(struct session *session)
{
    fs_agent_interrupt(session->fs->agent);
    fs_commit_stop(session->fs->commit); /* it wakes the watch */
    fs_watch_free(session->fs->watch);
    session->fs->watch = NULL;
    if (session->fuse != NULL) {
        fuse_session_destroy(session->fuse); /* closes the device */
    }
    if (session->is_orphan) {
        fs_holder_unmount(session->fs->options->mountpoint);
    }
    if (session->signal_fd >= 0) {
        (void)close(session->signal_fd);
    }
    if (session->ended_fd >= 0) {
        (void)close(session->ended_fd);
    }
}

enum base_code fs_session_run(struct fs *fs, struct base_err *err)
{
    __attribute__((cleanup(session_done))) struct session session = {
        .fs = fs, .signal_fd = -1, .ended_fd = -1};
    sigset_t set;

    ending_signals(&set);
    session.signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    session.ended_fd = eventfd(0, EFD_CLOEXEC);
    if (session.signal_fd < 0 || session.ended_fd < 0) {
        return base_fail_errno(err, errno, "cannot watch for signals");
    }
    BASE_TRY(session_new(&session, err));
    BASE_TRY(watch_store(&session, err));
    BASE_TRY(session_begin(&session, err));
    return serve(&session, err);
}
