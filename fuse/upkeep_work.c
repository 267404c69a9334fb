/* What upkeep does: finishing saves, digesting, compacting, sweeping. */
#include <inttypes.h>
#include <stdio.h>

#include "fuse/commit.h"
#include "fuse/upkeep_impl.h"
#include "store/compact.h"
#include "store/save.h"

enum { MAX_TRIES = 15 }; /* while the store is locked */

#define LOCK_WAIT_NS ((int64_t)1000000000)

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
 * not, nor beside a save, which comes first. */
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
                (doing != FINISHING || upkeep_now_ns() >= upkeep->stop_ns);
    is_urgent = doing != FINISHING && upkeep->waiting.n > 0;
    (void)pthread_mutex_unlock(&upkeep->lock);
    return !is_ending && !is_urgent &&
           !(doing == COMPACTING && fs_commit_is_saving(upkeep->fs->commit));
}

/* Finishing. */

static void tell_save(void *ctx, bool is_refusal, const char *text)
{
    struct fs_upkeep *upkeep = ctx;

    upkeep_tell(upkeep, is_refusal ? BASE_ERROR : BASE_WARNING, "save",
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
    char name[UPKEEP_PATH_BYTES];
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
        (rc == BASE_EXISTS && ++upkeep->n_failures < MAX_TRIES)) {
        return false;
    }
    if (rc != BASE_OK) {
        upkeep_tell(upkeep, BASE_ERROR, "save not finished", what->version,
                    err.text);
    }
    upkeep->n_failures = 0;
    remove_first(upkeep);
    fs_watch_wake(upkeep->fs->watch); /* its manifest was replaced */
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

/* Broken off, or the store was locked: to be tried again. */
static bool is_passing(struct fs_upkeep *upkeep, enum base_code rc)
{
    if (rc == BASE_INTERRUPTED) {
        return true;
    }
    if (rc == BASE_EXISTS && ++upkeep->n_failures < MAX_TRIES) {
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
        upkeep_tell(upkeep, BASE_ERROR, "version not digested", number,
                    err.text);
    }
    upkeep->digested = number;
    fs_watch_wake(upkeep->fs->watch);
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
    upkeep_tell(upkeep, BASE_NOTICE, "compacted", number, "in the background");
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
        upkeep_tell(upkeep, BASE_WARNING, "version not compacted", number,
                    err.text);
    }
    upkeep->compacted = number;
    fs_watch_wake(upkeep->fs->watch);
    return true;
}

/* Sweeping: what was replaced, once nobody here has it open any more. */

static bool is_sweep_due(struct fs_upkeep *upkeep)
{
    return fs_versions_n_let_go(upkeep->fs->versions) > upkeep->n_let_go &&
           !fs_commit_is_saving(upkeep->fs->commit);
}

static enum base_code sweep_locked(struct fs_upkeep *upkeep,
                                   struct store_sweep *ret,
                                   struct base_err *err)
{
    enum base_code rc;

    BASE_TRY(store_root_lock(upkeep->root, LOCK_WAIT_NS, err));
    rc = store_sweep(upkeep->root, ret, err);
    store_root_unlock(upkeep->root);
    return rc;
}

static bool sweep(struct fs_upkeep *upkeep)
{
    const uint64_t n_let_go = fs_versions_n_let_go(upkeep->fs->versions);
    struct store_sweep swept = {0};
    struct base_err err = {0};
    char text[UPKEEP_PATH_BYTES];
    enum base_code rc;

    begin(upkeep, SWEEPING, 0);
    rc = sweep_locked(upkeep, &swept, &err);
    if (is_passing(upkeep, rc)) {
        return false;
    }
    upkeep->n_let_go = n_let_go;
    if (rc != BASE_OK) {
        fs_events_add(upkeep->fs->events, BASE_WARNING, "store not swept", ".",
                      err.text);
    } else if (swept.n_bytes > 0) {
        (void)pthread_mutex_lock(&upkeep->lock);
        upkeep->n_swept_bytes += swept.n_bytes;
        (void)pthread_mutex_unlock(&upkeep->lock);
        (void)snprintf(text, sizeof(text),
                       "%" PRIu64 " bytes in %" PRIu64
                       " blobs that nobody needs",
                       swept.n_bytes, swept.n_blobs);
        fs_events_add(upkeep->fs->events, BASE_NOTICE, "store swept", ".",
                      text);
    }
    return true;
}

static bool is_stopping(struct fs_upkeep *upkeep)
{
    bool is;

    (void)pthread_mutex_lock(&upkeep->lock);
    is = upkeep->stop_ns != 0;
    (void)pthread_mutex_unlock(&upkeep->lock);
    return is;
}

bool upkeep_do_next(struct fs_upkeep *upkeep, bool *ret_retry)
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
    } else if (is_sweep_due(upkeep)) {
        is_done = sweep(upkeep);
    } else {
        return false;
    }
    *ret_retry = !is_done;
    return is_done;
}
