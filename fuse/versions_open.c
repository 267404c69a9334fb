/* Opening versions: a directory, those of a store, and what an earlier server
 * had open. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "fuse/handover.h"
#include "fuse/line.h"
#include "fuse/versions_impl.h"
#include "store/change.h"
#include "store/verify.h"

enum { NS_PER_S = 1000000000 };

/* The layouts of -o layout.  What does not fit ends the mount's start; of a
 * version that is opened later it is only told. */
static enum base_code add_layouts(struct fs_versions *versions,
                                  struct fs_version *version,
                                  bool is_start,
                                  struct base_err *err)
{
    const struct fs_options *options = versions->options;
    enum base_code rc;
    size_t i;

    for (i = 0; i < options->layouts.n; i++) {
        const struct fs_layout_option *layout = &options->layouts.items[i];

        rc = fs_version_add_layout(version, base_str_of(layout->name),
                                   layout->file, err);
        if (rc != BASE_OK && is_start) {
            return base_wrap(err, rc, "layout %s", layout->name);
        }
        if (rc != BASE_OK) {
            BASE_AUTO_MEM char *path = base_path("versions/%" PRIu64 "/as/%s",
                                                 version->number, layout->name);

            fs_events_add(versions->events, BASE_WARNING, "no such layout",
                          path != NULL ? path : layout->name, err->text);
        }
    }
    return BASE_OK;
}

/* Find, or begin, what is handed over of @version.  Lock held, so that no other
 * thread takes the same room. */
static enum base_code set_kept(struct fs_versions *versions,
                               struct fs_version *version,
                               struct base_err *err)
{
    struct fs_kept_version *kept;

    (void)pthread_mutex_lock(&versions->lock);
    kept = fs_handover_version(versions->handover, version->number);
    (void)pthread_mutex_unlock(&versions->lock);
    return fs_version_set_kept(version, kept, err);
}

/* What the source's files were when they were opened, in one number. */
static uint64_t source_digest(const struct store_source *source)
{
    const uint32_t n = store_source_n_blobs(source);
    struct base_digest digest = {{0}};
    uint64_t number;
    uint32_t i;

    for (i = 0; i < n; i++) {
        const struct stat *stat = &store_source_blob(source, i)->stat;
        const struct {
            struct base_digest before;
            int64_t fields[6];
        } step = {
            digest,
            {(int64_t)stat->st_dev, (int64_t)stat->st_ino, stat->st_size,
             stat->st_mtim.tv_sec, stat->st_mtim.tv_nsec, i},
        };

        digest = base_digest_of(&step, sizeof(step));
    }
    memcpy(&number, digest.bytes, sizeof(number));
    return number | 1; /* never 0 */
}

/* What an earlier server began to show must be what is there now: its handles
 * live on. */
static enum base_code check_source(struct fs_versions *versions,
                                   uint64_t digest,
                                   struct base_err *err)
{
    uint_fast64_t before = 0;

    if (!atomic_compare_exchange_strong(&versions->handover->source, &before,
                                        digest) &&
        before != digest) {
        return base_fail(err, BASE_CHANGED,
                         "%s has changed since it was mounted",
                         versions->options->source);
    }
    return BASE_OK;
}

enum base_code versions_open_directory(struct fs_versions *versions,
                                       struct base_err *err)
{
    const struct store_source_options how = {
        .from = versions->options->from,
        .table = versions->options->table,
    };
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(fs_version) version = NULL;

    BASE_TRY(
        store_source_open_dir(versions->options->source, &how, &source, err));
    BASE_TRY(fs_version_create(1, &source, &version, err));
    version->is_at_root = true;
    BASE_TRY(add_layouts(versions, version, true, err));
    BASE_TRY(check_source(versions, source_digest(version->source), err));
    BASE_TRY(set_kept(versions, version, err));
    version->n_holds = 1;
    versions->at_root = version;
    versions->first = base_steal(&version);
    return BASE_OK;
}

/* A version of the store, with its lock held shared. */
static enum base_code open_published(struct fs_versions *versions,
                                     uint64_t number,
                                     struct fs_version **ret,
                                     struct base_err *err)
{
    BASE_AUTO(store_version) stored = NULL;
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(store_verify) verify = NULL;
    const struct ptc_manifest_head *head;
    int64_t created_ns;
    uint64_t step;
    bool is_saved;

    BASE_TRY(store_version_open(versions->root, versions->options->job, number,
                                &stored, err));
    head = ptc_manifest_head(store_version_manifest(stored));
    created_ns = head->created_ns;
    step = head->step;
    is_saved = base_str_eq(head->origin, BASE_STR("save"));
    number = head->version;
    if (number > FS_MAX_VERSION) {
        return base_fail(err, BASE_LIMIT,
                         "version %" PRIu64 ": a mount shows those up to "
                         "%" PRIu64,
                         number, FS_MAX_VERSION);
    }
    BASE_TRY(store_source_open_version(versions->root, &stored, &source, err));
    if (versions->options->is_verifying) {
        BASE_TRY(store_verify_create(source, &verify, err));
    }
    BASE_TRY(fs_version_create(number, &source, ret, err));
    (*ret)->verify = base_steal(&verify);
    (*ret)->step = step;
    (*ret)->is_saved = is_saved;
    (*ret)->time =
        (struct timespec){created_ns / NS_PER_S, created_ns % NS_PER_S};
    return BASE_OK;
}

/* Lock held.  Keep @version open when it is newer than the one kept.  Returns
 * a version to close, or NULL. */
static struct fs_version *keep_newest(struct fs_versions *versions,
                                      struct fs_version *version)
{
    struct fs_version *old = versions->kept;

    if (old != NULL && old->number >= version->number) {
        return NULL;
    }
    version->n_holds++;
    versions->kept = version;
    return old != NULL && versions_take_holds(versions, old, 1) ? old : NULL;
}

static void add_open(struct fs_versions *versions, struct fs_version *version)
{
    struct fs_version *closing;

    (void)pthread_mutex_lock(&versions->lock);
    version->n_holds = 1;
    version->next = versions->first;
    versions->first = version;
    closing = keep_newest(versions, version);
    (void)pthread_mutex_unlock(&versions->lock);
    if (closing != NULL) {
        versions_close(versions, closing);
    }
}

/* @opening_lock held; @number 0: the current one.  Whether it should be kept is
 * asked last: what is published later is told by fuse/watch.c. */
static enum base_code open_new(struct fs_versions *versions,
                               uint64_t number,
                               bool is_start,
                               struct fs_version **ret,
                               struct base_err *err)
{
    BASE_AUTO(fs_version) version = NULL;

    BASE_TRY(open_published(versions, number, &version, err));
    BASE_TRY(add_layouts(versions, version, is_start, err));
    BASE_TRY(set_kept(versions, version, err));
    versions_keep_lock(versions, version);
    *ret = version;
    add_open(versions, base_steal(&version));
    fs_versions_follow(versions);
    return BASE_OK;
}

enum base_code versions_open_again(struct fs_versions *versions,
                                   const struct fs_version *version,
                                   struct fs_version **ret,
                                   struct base_err *err)
{
    BASE_AUTO(fs_version) fresh = NULL;

    BASE_TRY(open_published(versions, version->number, &fresh, err));
    BASE_TRY(add_layouts(versions, fresh, false, err));
    BASE_TRY(fs_version_set_kept(fresh, version->kept, err));
    *ret = base_steal(&fresh);
    return BASE_OK;
}

enum base_code fs_versions_open(struct fs_versions *versions,
                                uint64_t number,
                                struct fs_version **ret,
                                struct base_err *err)
{
    enum base_code rc = BASE_OK;

    *ret = fs_versions_hold(versions, number);
    if (*ret != NULL) {
        return BASE_OK;
    }
    if (versions->root == NULL || number == 0) {
        return base_fail(err, BASE_NOT_FOUND, "no version %" PRIu64, number);
    }
    (void)pthread_mutex_lock(&versions->opening_lock);
    *ret = fs_versions_hold(versions, number); /* another's meanwhile? */
    if (*ret == NULL) {
        rc = open_new(versions, number, false, ret, err);
    }
    (void)pthread_mutex_unlock(&versions->opening_lock);
    return rc;
}

/* What the kernel knew of a version when an earlier server died. */
static enum base_code restore(struct fs_versions *versions,
                              struct fs_kept_version *kept,
                              struct base_err *err)
{
    const uint64_t n_lookups = kept->n_lookups;
    const uint64_t n_handles = kept->n_handles;
    struct fs_version *version;

    if (n_lookups == 0 && n_handles == 0) {
        fs_handover_drop_version(kept);
        return BASE_OK;
    }
    BASE_TRY(open_new(versions, kept->number, false, &version, err));
    (void)pthread_mutex_lock(&versions->lock);
    version->n_lookups = n_lookups;
    version->n_handles = n_handles;
    version->n_holds += n_lookups + n_handles;
    (void)pthread_mutex_unlock(&versions->lock);
    fs_versions_let_go(versions, version, 1);
    return BASE_OK;
}

static enum base_code restore_all(struct fs_versions *versions,
                                  struct base_err *err)
{
    uint32_t i;

    for (i = 0; i < FS_HANDOVER_VERSIONS; i++) {
        struct fs_kept_version *kept = &versions->handover->versions[i];

        if (kept->number != 0) {
            BASE_TRY(restore(versions, kept, err));
        }
    }
    return BASE_OK;
}

/* A job that has no version yet is not known to the store at all: its name may
 * be mistyped. */
static enum base_code check_new(const struct fs_versions *versions,
                                bool is_start,
                                struct base_err *err)
{
    const struct fs_options *options = versions->options;
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    struct base_err found;
    enum base_code rc;
    size_t n = 0;

    if (!is_start || options->is_new || options->layout != NULL ||
        options->agent != NULL) {
        return BASE_OK;
    }
    rc =
        store_root_versions(versions->root, options->job, &numbers, &n, &found);
    if (rc != BASE_OK && rc != BASE_NOT_FOUND) {
        *err = found;
        return rc;
    }
    if (rc == BASE_OK) {
        (void)base_fail(&found, BASE_NOT_FOUND,
                        "%s: job '%s' has no version yet", options->source,
                        options->job);
    }
    return base_fail(err, BASE_NOT_FOUND,
                     "%s (a new job is begun with --layout or -o new)",
                     found.text);
}

enum base_code versions_open_store(struct fs_versions *versions,
                                   struct base_err *err)
{
    const bool is_start = versions->handover->incarnation <= 1;
    struct fs_version *current;
    uint64_t number;
    enum base_code rc;

    BASE_TRY(store_root_open(versions->options->source, &versions->root, err));
    BASE_TRY(restore_all(versions, err));
    rc = fs_versions_current(versions, &number, err);
    if (rc == BASE_NOT_FOUND) {
        return check_new(versions, is_start, err);
    }
    BASE_TRY(rc);
    BASE_TRY(is_start ? open_new(versions, 0, true, &current, err)
                      : fs_versions_open(versions, number, &current, err));
    fs_versions_let_go(versions, current, 1); /* it is kept */
    return BASE_OK;
}
