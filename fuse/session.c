/* Threads: libfuse's loop runs in main's thread and makes the ones that serve.
 * One more waits for signals; it ends the thread that watches the store, tells the loop to end and wakes main until
 * the loop has ended, because main may be about to wait again. */
#define FUSE_USE_VERSION 314

#include "fuse/session.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "base/file.h"
#include "fuse/daemon.h"
#include "fuse/ops.h"
#include "fuse/readahead.h"

enum { WAKE_INTERVAL_MS = 20, LOG_TEXT_BYTES = 256 };

struct session {
    struct fs *fs;
    struct fuse_session *fuse;
    pthread_t main_thread;
    int signal_fd;
    int ended_fd; /* readable once the loop has ended */
};

/* What libfuse said last: the reason when it fails.  Written by main's thread
 * only while mounting. */
static char last_message[LOG_TEXT_BYTES];

static void keep_message(enum fuse_log_level level,
                         const char *fmt,
                         va_list args) __attribute__((format(printf, 2, 0)));

static void
keep_message(enum fuse_log_level level, const char *fmt, va_list args)
{
    size_t n;

    (void)level;
    (void)vsnprintf(last_message, sizeof(last_message), fmt, args);
    n = strcspn(last_message, "\n");
    last_message[n] = '\0';
}

static void log_message(enum fuse_log_level level,
                        const char *fmt,
                        va_list args) __attribute__((format(printf, 2, 0)));

static void
log_message(enum fuse_log_level level, const char *fmt, va_list args)
{
    char text[LOG_TEXT_BYTES];

    (void)vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = '\0';
    base_log(level <= FUSE_LOG_ERR ? BASE_ERROR : BASE_INFO, "libfuse", "text",
             text);
}

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
    int rc;

    ending_signals(&set);
    rc = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (rc != 0) {
        return base_fail_errno(err, rc, "cannot block signals");
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

static void *watch_signals(void *ctx)
{
    struct session *session = ctx;
    struct pollfd fds[2] = {
        {.fd = session->signal_fd, .events = POLLIN},
        {.fd = session->ended_fd, .events = POLLIN},
    };

    while (poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    if (fds[1].revents != 0) {
        return NULL;
    }
    fs_watch_stop(session->fs->watch);
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

    if (!fs->is_direct) {
        fs_readahead_raise(fs->options->mountpoint);
    }
    fs_daemon_ready(fs->daemon);
    base_log(BASE_INFO, "mounted", "source", fs->options->source, "mountpoint",
             fs->options->mountpoint);
}

/* Options for the kernel and fusermount3. */
static enum base_code mount_options(const struct fs_options *options,
                                    char **ret,
                                    struct base_err *err)
{
    BASE_AUTO_BUF text;
    BASE_AUTO_MEM char *fsname = NULL;
    char *escaped = NULL;

    base_buf_init(&text, 1 << 20);
    (void)base_buf_addf(
        &text, "ro,nosuid,nodev,subtype=retile,max_read=%u%.*s%s", FS_MAX_READ,
        (int)options->kernel.len,
        options->kernel.ptr != NULL ? options->kernel.ptr : "",
        options->allow_other ? ",allow_other,default_permissions" : "");
    BASE_TRY(base_buf_check(&text, err));
    fsname = calloc(1, strlen(options->source) + sizeof("fsname="));
    if (fsname != NULL) {
        (void)stpcpy(stpcpy(fsname, "fsname="), options->source);
    }
    if (fsname == NULL || fuse_opt_add_opt(&escaped, text.ptr) != 0 ||
        fuse_opt_add_opt_escaped(&escaped, fsname) != 0) {
        free(escaped);
        return base_fail(err, BASE_NO_MEM, "cannot mount");
    }
    *ret = escaped;
    return BASE_OK;
}

static enum base_code session_new(struct session *session, struct base_err *err)
{
    BASE_AUTO_MEM char *options = NULL;
    char program[] = "retile-fuse";
    char dash_o[] = "-o";
    char *argv[] = {program, dash_o, NULL, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct fs *fs = session->fs;

    BASE_TRY(mount_options(fs->options, &options, err));
    argv[2] = options;
    fs->channel = fs_channel_create(fs, fs->options->masked, on_ready);
    if (fs->channel == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot mount");
    }
    fuse_set_log_func(keep_message);
    session->fuse = fuse_session_new(
        &args, fs_ops(), sizeof(struct fuse_lowlevel_ops), fs->channel);
    fuse_opt_free_args(&args);
    if (session->fuse == NULL) {
        return base_fail(err, BASE_IO, "cannot make a FUSE session: %s",
                         last_message);
    }
    return BASE_OK;
}

static enum base_code session_mount(struct session *session,
                                    struct base_err *err)
{
    const char *mountpoint = session->fs->options->mountpoint;

    if (fuse_session_mount(session->fuse, mountpoint) != 0) {
        return base_fail(err, BASE_IO, "cannot mount on %s%s%s", mountpoint,
                         last_message[0] != '\0' ? ": " : "", last_message);
    }
    fuse_set_log_func(log_message);
    return fs_channel_attach(session->fs->channel, session->fuse,
                             fuse_session_fd(session->fuse), err);
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
    return fs_watch_create(fs->versions, path, forget_version, session->fuse,
                           &fs->watch, err);
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
    fs_watch_free(session->fs->watch);
    session->fs->watch = NULL;
    if (session->fuse != NULL) {
        fuse_session_unmount(session->fuse); /* no-op when not mounted */
        fuse_session_destroy(session->fuse);
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
    BASE_TRY(session_mount(&session, err));
    BASE_TRY(watch_store(&session, err));
    return serve(&session, err);
}
