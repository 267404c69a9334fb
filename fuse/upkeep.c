#include "fuse/upkeep.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "fuse/commit.h"
#include "fuse/fs.h"
#include "fuse/handover.h"
#include "store/compact.h"
#include "store/save.h"

enum {
    NS_PER_S = 1000000000,
    PATH_BYTES = 64,
    NICE = 10, /* beside trainers; idle would keep the store's lock too long */
    IO_CLASS_BEST_EFFORT = 2,
    IO_CLASS_SHIFT = 13,
    IO_LOWEST = 7,
    IO_WHO_PROCESS = 1,
    RETRY_S = 2, /* after a failure that may pass: the store was locked */
    MAX_TRIES = 15,
};

#define TIDY_WAIT_NS ((int64_t)10 * NS_PER_S)

enum doing { IDLE, FINISHING, DIGESTING, COMPACTING };

struct fs_upkeep {
    struct fs *fs;
    const char *staging_path; /* NULL: no saves */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    BASE_VEC(struct fs_finish) waiting; /* guarded by lock, as all below */
    enum doing doing;
    uint64_t version;
    uint64_t done_bytes;
    uint64_t all_bytes;
    uint64_t n_compacted;
    bool is_awake;   /* something may be to be done */
    int64_t stop_ns; /* when to break off; 0: not ending; monotonic */
    bool is_running; /* owner: who starts and stops */
    pthread_t thread;
    /* owner: thread */
    struct store_root *root;
    uint64_t digested;  /* versions up to this are, or cannot be */
    uint64_t compacted; /* the last version that was looked at for that */
    unsigned n_failures;
};

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void tell(struct fs_upkeep *upkeep,
                 enum base_level level,
                 const char *what,
                 uint64_t version,
                 const char *reason)
{
    char path[PATH_BYTES];

    (void)snprintf(path, sizeof(path), "versions/%" PRIu64, version);
    fs_events_add(upkeep->fs->events, level, what, path, reason);
}

static void begin(struct fs_upkeep *upkeep, enum doing doing, uint64_t version)
{
    (void)pthread_mutex_lock(&upkeep->lock);
    upkeep->doing = doing;
    upkeep->version = version;
    upkeep->done_bytes = 0;
    upkeep->all_bytes = 0;
    (void)pthread_mutex_unlock(&upkeep->lock);
}

/* What is being finished goes on for a while when the mount ends; the rest does
 * not, nor beside a save, whose commit needs the store's lock. */
static bool progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct fs_upkeep *upkeep = ctx;
    enum doing doing;
    bool is_ending;
    bool is_urgent;

    (void)pthread_mutex_lock(&upkeep->lock);
    upkeep->done_bytes = done_bytes;
    upkeep->all_bytes = all_bytes;
    doing = upkeep->doing;
    is_ending = upkeep->stop_ns != 0 &&
                (doing != FINISHING || now_ns() >= upkeep->stop_ns);
    is_urgent = doing != FINISHING && upkeep->waiting.n > 0;
    (void)pthread_mutex_unlock(&upkeep->lock);
    return !is_ending && !is_urgent &&
           !(doing == COMPACTING && fs_commit_is_saving(upkeep->fs->commit));
}

/* Finishing. */

static void tell_save(void *ctx, bool is_refusal, const char *text)
{
    struct fs_upkeep *upkeep = ctx;

    tell(upkeep, is_refusal ? BASE_ERROR : BASE_WARNING, "save",
         upkeep->version, text);
}

static enum base_code parent_of(struct fs_upkeep *upkeep,
                                uint64_t number,
                                uint64_t *ret,
                                struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;

    BASE_TRY(store_version_open(upkeep->root, upkeep->fs->options->job, number,
                                &version, err));
    *ret = ptc_manifest_head(store_version_manifest(version))->parent;
    return BASE_OK;
}

static enum base_code finish(struct fs_upkeep *upkeep,
                             const struct fs_finish *what,
                             struct base_err *err)
{
    char name[PATH_BYTES];
    struct store_save save = {
        .name = name,
        .step = what->step,
        .replicas = upkeep->fs->options->replicas,
        .tell = tell_save,
        .ctx = upkeep,
    };

    (void)snprintf(name, sizeof(name), "%" PRIu64, what->step);
    BASE_TRY(parent_of(upkeep, what->version, &save.parent, err));
    if (save.parent == 0) {
        save.layout = upkeep->fs->options->layout;
    }
    return store_save_finish(upkeep->root, upkeep->staging_path,
                             upkeep->fs->options->job, &save, what->version,
                             progress, err);
}

static bool first_waiting(struct fs_upkeep *upkeep, struct fs_finish *ret)
{
    bool is_any;

    (void)pthread_mutex_lock(&upkeep->lock);
    is_any = upkeep->waiting.n > 0;
    if (is_any) {
        *ret = upkeep->waiting.items[0];
    }
    (void)pthread_mutex_unlock(&upkeep->lock);
    return is_any;
}

static void remove_first(struct fs_upkeep *upkeep)
{
    size_t i;

    (void)pthread_mutex_lock(&upkeep->lock);
    upkeep->waiting.n--;
    for (i = 0; i < upkeep->waiting.n; i++) {
        upkeep->waiting.items[i] = upkeep->waiting.items[i + 1];
    }
    (void)pthread_mutex_unlock(&upkeep->lock);
}

/* False: try again later. */
static bool finish_first(struct fs_upkeep *upkeep, const struct fs_finish *what)
{
    struct base_err err = {0};
    enum base_code rc;

    begin(upkeep, FINISHING, what->version);
    rc = finish(upkeep, what, &err);
    if (rc == BASE_INTERRUPTED ||
        (rc == BASE_LIMIT && ++upkeep->n_failures < MAX_TRIES)) {
        return false;
    }
    if (rc != BASE_OK) {
        tell(upkeep, BASE_ERROR, "save not finished", what->version, err.text);
    }
    upkeep->n_failures = 0;
    remove_first(upkeep);
    return true;
}

/* Digesting and compacting. */

static struct store_import_options options_of(struct fs_upkeep *upkeep)
{
    return (struct store_import_options){
        .n_threads = 1,
        .progress = progress,
        .progress_ctx = upkeep,
    };
}

/* The lowest version above the watermark.  False: there is none. */
static bool next_undigested(struct fs_upkeep *upkeep, uint64_t *ret)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    struct base_err err;
    size_t n = 0;
    size_t i;

    if (!upkeep->fs->options->is_digesting ||
        fs_versions_list(upkeep->fs->versions, &numbers, &n, &err) != BASE_OK) {
        return false;
    }
    for (i = 0; i < n; i++) {
        if (numbers[i] > upkeep->digested) {
            *ret = numbers[i];
            return true;
        }
    }
    return false;
}

/* A version that is gone meanwhile needs nothing. */
static bool is_passing(struct fs_upkeep *upkeep, enum base_code rc)
{
    if (rc == BASE_INTERRUPTED) {
        return true;
    }
    if (rc == BASE_LIMIT && ++upkeep->n_failures < MAX_TRIES) {
        return true;
    }
    upkeep->n_failures = 0;
    return false;
}

static bool digest(struct fs_upkeep *upkeep, uint64_t number)
{
    const struct store_import_options options = options_of(upkeep);
    struct base_err err = {0};
    uint64_t n_bytes;
    enum base_code rc;

    begin(upkeep, DIGESTING, number);
    rc = store_digest_version(upkeep->root, upkeep->fs->options->job, number,
                              &options, &n_bytes, &err);
    if (is_passing(upkeep, rc)) {
        return false;
    }
    if (rc != BASE_OK && rc != BASE_NOT_FOUND) {
        tell(upkeep, BASE_ERROR, "version not digested", number, err.text);
    }
    upkeep->digested = number;
    return true;
}

/* The current version, when nobody has looked at it yet. */
static bool next_compaction(struct fs_upkeep *upkeep, uint64_t *ret)
{
    struct base_err err;

    return upkeep->fs->options->is_compacting &&
           fs_versions_current(upkeep->fs->versions, ret, &err) == BASE_OK &&
           *ret > upkeep->compacted && !fs_commit_is_saving(upkeep->fs->commit);
}

static enum base_code
compact(struct fs_upkeep *upkeep, uint64_t number, struct base_err *err)
{
    const struct store_import_options options = options_of(upkeep);
    struct store_worth worth;

    BASE_TRY(store_compact_worth(upkeep->root, upkeep->fs->options->job, number,
                                 &worth, err));
    if (!worth.is_due) {
        return BASE_OK;
    }
    BASE_TRY(store_compact(upkeep->root, upkeep->fs->options->job, number,
                           &options, err));
    (void)pthread_mutex_lock(&upkeep->lock);
    upkeep->n_compacted++;
    (void)pthread_mutex_unlock(&upkeep->lock);
    tell(upkeep, BASE_NOTICE, "compacted", number, "in the background");
    return BASE_OK;
}

static bool compact_current(struct fs_upkeep *upkeep, uint64_t number)
{
    struct base_err err = {0};
    enum base_code rc;

    begin(upkeep, COMPACTING, number);
    rc = compact(upkeep, number, &err);
    if (is_passing(upkeep, rc)) {
        return false;
    }
    if (rc != BASE_OK && rc != BASE_NOT_FOUND) {
        tell(upkeep, BASE_WARNING, "version not compacted", number, err.text);
    }
    upkeep->compacted = number;
    return true;
}

/* The thread. */

static bool is_ending(struct fs_upkeep *upkeep)
{
    bool is;

    (void)pthread_mutex_lock(&upkeep->lock);
    is = upkeep->stop_ns != 0 && now_ns() >= upkeep->stop_ns;
    (void)pthread_mutex_unlock(&upkeep->lock);
    return is;
}

static bool is_stopping(struct fs_upkeep *upkeep)
{
    bool is;

    (void)pthread_mutex_lock(&upkeep->lock);
    is = upkeep->stop_ns != 0;
    (void)pthread_mutex_unlock(&upkeep->lock);
    return is;
}

/* Do one thing.  Returns false when there is nothing, or it has to wait;
 * *ret_retry: then look again soon. */
static bool do_next(struct fs_upkeep *upkeep, bool *ret_retry)
{
    struct fs_finish what;
    uint64_t number;
    bool is_done;

    *ret_retry = false;
    if (first_waiting(upkeep, &what)) {
        is_done = finish_first(upkeep, &what);
    } else if (is_stopping(upkeep)) {
        return false;
    } else if (next_undigested(upkeep, &number)) {
        is_done = digest(upkeep, number);
    } else if (next_compaction(upkeep, &number)) {
        is_done = compact_current(upkeep, number);
    } else {
        return false;
    }
    *ret_retry = !is_done;
    return is_done;
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
        while (!is_ending(upkeep) && do_next(upkeep, &is_retry)) {
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
        tell(upkeep, BASE_ERROR, "save not finished", what.version,
             "out of memory");
    }
    wake(upkeep);
}

void fs_upkeep_status(struct fs_upkeep *upkeep, struct fs_upkeep_status *ret)
{
    static const char *const texts[] = {
        [IDLE] = "idle",
        [FINISHING] = "finishing",
        [DIGESTING] = "digesting",
        [COMPACTING] = "compacting",
    };

    (void)pthread_mutex_lock(&upkeep->lock);
    *ret = (struct fs_upkeep_status){
        .n_waiting = (uint32_t)upkeep->waiting.n,
        .doing = texts[upkeep->doing],
        .version = upkeep->version,
        .done_bytes = upkeep->done_bytes,
        .all_bytes = upkeep->all_bytes,
        .n_compacted = upkeep->n_compacted,
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
    upkeep->stop_ns = now_ns() + wait_ns;
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
        tell(upkeep, BASE_WARNING, "save not finished",
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
