#include "fuse/watch.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

enum {
    IDLE_INTERVAL_MS = 100,
    /* Without inotify (its watches are limited per user). */
    LOOK_INTERVAL_MS = 1000,
    /* For manifests that other programs replaced. */
    REPLACED_INTERVAL_MS = 5000,
};

struct fs_watch {
    struct fs_versions *versions;
    fs_version_fn fn;
    void *ctx;
    void (*follow)(void *ctx);
    void *follow_ctx;
    char *path;
    bool is_aimed;   /* we are told when something appears */
    bool is_at_path; /* in versions/, not in one of its parents */
    int notify_fd;   /* -1: none to be had */
    int wake_fd;
    atomic_bool is_ending; /* set before wake_fd is written */
    bool is_running;
    pthread_t thread;
};

/* Which events they are does not matter. */
static void drain(int fd)
{
    char events[4096];

    while (read(fd, events, sizeof(events)) > 0) {
    }
}

static bool add_watch(const struct fs_watch *watch, const char *path)
{
    return inotify_add_watch(watch->notify_fd, path, IN_MOVED_TO | IN_CREATE) >=
           0;
}

/* Watch versions/, or, while it is not there, the nearest directory above it:
 * the next one on the way appears in that. */
static void aim(struct fs_watch *watch)
{
    BASE_AUTO_MEM char *path = strdup(watch->path);
    char *slash;

    if (watch->notify_fd < 0 || watch->is_at_path || path == NULL) {
        return;
    }
    watch->is_at_path = add_watch(watch, path);
    watch->is_aimed = watch->is_at_path;
    while (!watch->is_aimed && (slash = strrchr(path, '/')) != NULL &&
           slash > path) {
        *slash = '\0';
        watch->is_aimed = add_watch(watch, path);
    }
    if (!watch->is_at_path) { /* it may have appeared meanwhile */
        watch->is_at_path = add_watch(watch, watch->path);
    }
}

static int interval_ms(const struct fs_watch *watch, bool is_any)
{
    if (is_any) {
        return IDLE_INTERVAL_MS;
    }
    return watch->is_aimed ? REPLACED_INTERVAL_MS : LOOK_INTERVAL_MS;
}

static void *watch(void *ctx)
{
    struct fs_watch *watch = ctx;
    struct pollfd fds[2] = {
        {.fd = watch->wake_fd, .events = POLLIN},
        {.fd = watch->notify_fd, .events = POLLIN}, /* -1 is passed over */
    };
    bool is_any = false;

    while (!watch->is_ending) {
        if (poll(fds, 2, interval_ms(watch, is_any)) < 0 && errno != EINTR) {
            return NULL; /* out of memory: versions stay open longer */
        }
        drain(watch->wake_fd);
        if (watch->notify_fd >= 0) {
            drain(watch->notify_fd);
        }
        aim(watch);
        fs_versions_follow(watch->versions);
        watch->follow(watch->follow_ctx);
        is_any = fs_versions_idle(watch->versions, watch->fn, watch->ctx);
    }
    return NULL;
}

void fs_watch_wake(struct fs_watch *watch)
{
    const uint64_t one = 1;

    if (watch != NULL &&
        write(watch->wake_fd, &one, sizeof(one)) != sizeof(one)) {
        return; /* full: it is readable, which is all that counts */
    }
}

void fs_watch_stop(struct fs_watch *watch)
{
    if (watch != NULL && watch->is_running) {
        watch->is_ending = true;
        fs_watch_wake(watch);
        (void)pthread_join(watch->thread, NULL); /* ours, joined once */
        watch->is_running = false;
    }
}

void fs_watch_free(struct fs_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    fs_watch_stop(watch);
    if (watch->wake_fd >= 0) {
        (void)close(watch->wake_fd);
    }
    if (watch->notify_fd >= 0) {
        (void)close(watch->notify_fd);
    }
    free(watch->path);
    free(watch);
}

enum base_code fs_watch_create(struct fs_versions *versions,
                               const char *path,
                               fs_version_fn fn,
                               void *ctx,
                               void (*follow)(void *ctx),
                               void *follow_ctx,
                               struct fs_watch **ret,
                               struct base_err *err)
{
    BASE_AUTO(fs_watch) made = calloc(1, sizeof(*made));
    int errnum;

    if (made == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot watch the store");
    }
    made->versions = versions;
    made->fn = fn;
    made->ctx = ctx;
    made->follow = follow;
    made->follow_ctx = follow_ctx;
    made->notify_fd = -1;
    made->wake_fd = -1;
    made->path = strdup(path);
    if (made->path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot watch the store");
    }
    made->notify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    made->wake_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK); /* look at once */
    if (made->wake_fd < 0) {
        return base_fail_errno(err, errno, "cannot watch the store");
    }
    errnum = pthread_create(&made->thread, NULL, watch, made);
    if (errnum != 0) {
        return base_fail_errno(err, errnum, "cannot start a thread");
    }
    made->is_running = true;
    *ret = base_steal(&made);
    return BASE_OK;
}
