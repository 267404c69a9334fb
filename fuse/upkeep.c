#include "fuse/upkeep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "fuse/commit.h"
#include "fuse/handover.h"
#include "fuse/upkeep_impl.h"

enum {
    NS_PER_S = 1000000000,
    NICE = 10, /* beside trainers; idle would keep the store's lock too long */
    IO_CLASS_BEST_EFFORT = 2,
    IO_CLASS_SHIFT = 13,
    IO_LOWEST = 7,
    IO_WHO_PROCESS = 1,
    RETRY_S = 2, /* after a failure that may pass: the store was locked */
};

#define TIDY_WAIT_NS ((int64_t)10 * NS_PER_S)

int64_t upkeep_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

void upkeep_tell(struct fs_upkeep *upkeep,
                 enum base_level level,
                 const char *what,
                 uint64_t version,
                 const char *reason)
{
    char path[UPKEEP_PATH_BYTES];

    (void)snprintf(path, sizeof(path), "versions/%" PRIu64, version);
    fs_events_add(upkeep->fs->events, level, what, path, reason);
}

/* What replaced a manifest is there all the same. */
static void on_warning(void *ctx, const char *text)
{
    struct fs_upkeep *upkeep = ctx;

    upkeep_tell(upkeep, BASE_WARNING, "store", upkeep->version, text);
}

/* The thread. */

static bool is_ending(struct fs_upkeep *upkeep)
{
    bool is;

    (void)pthread_mutex_lock(&upkeep->lock);
    is = upkeep->stop_ns != 0 && upkeep_now_ns() >= upkeep->stop_ns;
    (void)pthread_mutex_unlock(&upkeep->lock);
    return is;
}

/* Sleep until woken; for RETRY_S when there is something to be tried again.
 * False: end. */
static bool wait_awake(struct fs_upkeep *upkeep, bool is_retry)
{
    struct timespec until;
    bool goes_on;

    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
    until.tv_sec += RETRY_S;
    (void)pthread_mutex_lock(&upkeep->lock);
    upkeep->doing = IDLE;
    if (!upkeep->is_awake && upkeep->stop_ns == 0) {
        if (is_retry) {
            (void)pthread_cond_timedwait(&upkeep->changed, &upkeep->lock,
                                         &until);
        } else {
            (void)pthread_cond_wait(&upkeep->changed, &upkeep->lock);
        }
    }
    upkeep->is_awake = false;
    goes_on = upkeep->stop_ns == 0;
    (void)pthread_mutex_unlock(&upkeep->lock);
    return goes_on;
}

static void lower_priority(void)
{
    const id_t self = (id_t)syscall(SYS_gettid);

    /* As far as allowed: it works without. */
    (void)setpriority(PRIO_PROCESS, self, NICE);
    (void)syscall(SYS_ioprio_set, IO_WHO_PROCESS, 0,
                  IO_CLASS_BEST_EFFORT << IO_CLASS_SHIFT | IO_LOWEST);
}

/* What changes of a dead server left in staging goes when the lock is taken;
 * otherwise the next change does that. */
static void tidy(struct fs_upkeep *upkeep)
{
    struct base_err err;

    if (upkeep->fs->handover->incarnation > 1 &&
        store_root_lock(upkeep->root, TIDY_WAIT_NS, &err) == BASE_OK) {
        store_root_unlock(upkeep->root);
    }
}

static void *run(void *ctx)
{
    struct fs_upkeep *upkeep = ctx;
    bool is_retry = false;

    lower_priority();
    tidy(upkeep);
    for (;;) {
        while (!is_ending(upkeep) && upkeep_do_next(upkeep, &is_retry)) {
        }
        if (!wait_awake(upkeep, is_retry)) {
            return NULL;
        }
    }
}

static void wake(struct fs_upkeep *upkeep)
{
    (void)pthread_mutex_lock(&upkeep->lock);
    upkeep->is_awake = true;
    (void)pthread_cond_signal(&upkeep->changed);
    (void)pthread_mutex_unlock(&upkeep->lock);
}

void fs_upkeep_wake(struct fs_upkeep *upkeep)
{
    if (upkeep != NULL) {
        wake(upkeep);
    }
}

void fs_upkeep_finish(struct fs_upkeep *upkeep, struct fs_finish what)
{
    bool is_added;

    (void)pthread_mutex_lock(&upkeep->lock);
    is_added = base_vec_push(&upkeep->waiting, what);
    (void)pthread_mutex_unlock(&upkeep->lock);
    if (!is_added) {
        upkeep_tell(upkeep, BASE_ERROR, "save not finished", what.version,
                    "out of memory");
    }
    wake(upkeep);
}

void fs_upkeep_status(struct fs_upkeep *upkeep, struct fs_upkeep_status *ret)
{
    static const char *const texts[] = {
        [IDLE] = "idle",           [FINISHING] = "finishing",
        [DIGESTING] = "digesting", [COMPACTING] = "compacting",
        [SWEEPING] = "sweeping",
    };

    (void)pthread_mutex_lock(&upkeep->lock);
    *ret = (struct fs_upkeep_status){
        .n_waiting = (uint32_t)upkeep->waiting.n,
        .doing = texts[upkeep->doing],
        .version = upkeep->version,
        .done_bytes = upkeep->done_bytes,
        .all_bytes = upkeep->all_bytes,
        .n_compacted = upkeep->n_compacted,
        .n_swept_bytes = upkeep->n_swept_bytes,
    };
    (void)pthread_mutex_unlock(&upkeep->lock);
}

/* Beginning and ending. */

enum base_code fs_upkeep_create(struct fs *fs,
                                const char *staging_path,
                                struct fs_upkeep **ret,
                                struct base_err *err)
{
    BASE_AUTO(fs_upkeep) upkeep = calloc(1, sizeof(*upkeep));
    pthread_condattr_t attr;

    if (upkeep == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot look after versions");
    }
    upkeep->fs = fs;
    upkeep->staging_path = staging_path;
    upkeep->is_awake = true;
    (void)pthread_mutex_init(&upkeep->lock, NULL); /* these never fail here */
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&upkeep->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    BASE_TRY(store_root_open(fs->options->source, &upkeep->root, err));
    if (fs->agent != NULL) {
        store_root_serve_owner(upkeep->root);
    }
    store_root_on_warning(upkeep->root, on_warning, upkeep);
    *ret = base_steal(&upkeep);
    return BASE_OK;
}

enum base_code fs_upkeep_start(struct fs_upkeep *upkeep, struct base_err *err)
{
    int errnum = pthread_create(&upkeep->thread, NULL, run, upkeep);

    if (errnum != 0) {
        return base_fail_errno(err, errnum, "cannot start a thread");
    }
    upkeep->is_running = true;
    return BASE_OK;
}

void fs_upkeep_stop(struct fs_upkeep *upkeep, int64_t wait_ns)
{
    if (upkeep == NULL || !upkeep->is_running) {
        return;
    }
    (void)pthread_mutex_lock(&upkeep->lock);
    upkeep->stop_ns = upkeep_now_ns() + wait_ns;
    (void)pthread_cond_signal(&upkeep->changed);
    (void)pthread_mutex_unlock(&upkeep->lock);
    (void)pthread_join(upkeep->thread, NULL); /* ours, joined once */
    upkeep->is_running = false;
}

void fs_upkeep_free(struct fs_upkeep *upkeep)
{
    size_t i;

    if (upkeep == NULL) {
        return;
    }
    fs_upkeep_stop(upkeep, 0);
    for (i = 0; i < upkeep->waiting.n; i++) {
        upkeep_tell(
            upkeep, BASE_WARNING, "save not finished",
            upkeep->waiting.items[i].version,
            "the mount ended first; replicas were not compared, and the next "
            "mount digests it");
    }
    base_vec_done(&upkeep->waiting);
    store_root_free(upkeep->root);
    (void)pthread_cond_destroy(&upkeep->changed);
    (void)pthread_mutex_destroy(&upkeep->lock);
    free(upkeep);
}
