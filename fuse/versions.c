#include "fuse/versions.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "fuse/handover.h"
#include "fuse/line.h"
#include "fuse/versions_impl.h"
#include "store/change.h"

enum { NS_PER_S = 1000000000 };

/* Closing. */

static void drop_views(void *ctx, const struct fs_subtree *subtree)
{
    fs_views_drop(ctx, subtree);
}

static void version_free(struct fs_versions *versions,
                         struct fs_version *version)
{
    fs_version_each(version, drop_views, versions->views);
    fs_version_free(version);
}

static void version_close(struct fs_versions *versions,
                          struct fs_version *version)
{
    fs_line_drop(versions->line, version->line_id);
    version_free(versions, version);
}

void fs_versions_free(struct fs_versions *versions)
{
    struct fs_version *version;

    if (versions == NULL) {
        return;
    }
    while ((version = versions->first) != NULL) {
        versions->first = version->next;
        version_free(versions, version); /* the next server wants it */
    }
    store_root_free(versions->root);
    (void)pthread_mutex_destroy(&versions->lock);
    (void)pthread_mutex_destroy(&versions->opening_lock);
    free(versions);
}

/* Lock held.  True: it was the last hold, and the version is ours to close. */
static bool
take_holds(struct fs_versions *versions, struct fs_version *version, uint64_t n)
{
    struct fs_version **at = &versions->first;

    assert(n <= version->n_holds);
    version->n_holds -= n;
    if (version->n_holds > 0) {
        return false;
    }
    while (*at != version) {
        at = &(*at)->next;
    }
    *at = version->next;
    fs_handover_drop_version(version->kept);
    return true;
}

void fs_versions_let_go(struct fs_versions *versions,
                        struct fs_version *version,
                        uint64_t n)
{
    bool is_last;

    if (version == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    is_last = take_holds(versions, version, n);
    (void)pthread_mutex_unlock(&versions->lock);
    if (is_last) {
        version_close(versions, version);
    }
}

void fs_versions_hold_more(struct fs_versions *versions,
                           struct fs_version *version,
                           uint64_t n)
{
    if (version == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    version->n_holds += n;
    (void)pthread_mutex_unlock(&versions->lock);
}

struct fs_version *fs_versions_hold(struct fs_versions *versions,
                                    uint64_t number)
{
    struct fs_version *version;

    (void)pthread_mutex_lock(&versions->lock);
    version = versions->first;
    while (version != NULL && version->number != number) {
        version = version->next;
    }
    if (version != NULL) {
        version->n_holds++;
        version->n_uses++;
    }
    (void)pthread_mutex_unlock(&versions->lock);
    return version;
}

static void count(atomic_uint_fast64_t *kept, uint64_t *count, uint64_t n)
{
    *count += n;
    if (kept != NULL) {
        *kept = *count;
    }
}

void fs_versions_remember(struct fs_versions *versions,
                          struct fs_version *version,
                          uint64_t n)
{
    if (version == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    version->n_holds += n;
    count(version->kept != NULL ? &version->kept->n_lookups : NULL,
          &version->n_lookups, n);
    (void)pthread_mutex_unlock(&versions->lock);
}

void fs_versions_forget(struct fs_versions *versions,
                        struct fs_version *version,
                        uint64_t n)
{
    if (version == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    n = base_min_u64(n, version->n_lookups);
    count(version->kept != NULL ? &version->kept->n_lookups : NULL,
          &version->n_lookups, 0 - n);
    (void)pthread_mutex_unlock(&versions->lock);
    fs_versions_let_go(versions, version, n);
}

void fs_versions_handle_open(struct fs_versions *versions,
                             struct fs_version *version)
{
    if (version == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    version->n_holds++;
    count(version->kept != NULL ? &version->kept->n_handles : NULL,
          &version->n_handles, 1);
    (void)pthread_mutex_unlock(&versions->lock);
}

void fs_versions_handle_close(struct fs_versions *versions,
                              struct fs_version *version)
{
    uint64_t n;

    if (version == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    n = base_min_u64(1, version->n_handles); /* 0: it was not handed over */
    count(version->kept != NULL ? &version->kept->n_handles : NULL,
          &version->n_handles, 0 - n);
    (void)pthread_mutex_unlock(&versions->lock);
    fs_versions_let_go(versions, version, n);
}

/* Opening. */

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

static enum base_code open_directory(struct fs_versions *versions,
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
    const struct ptc_manifest_head *head;
    int64_t created_ns;
    uint64_t step;
    bool is_saved;
    int lock_fd; /* the source's, once that has the version */

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
    lock_fd = store_version_lock_fd(stored);
    BASE_TRY(store_source_open_version(versions->root, &stored, &source, err));
    BASE_TRY(fs_version_create(number, &source, ret, err));
    (*ret)->line_id = fs_line_keep(versions->line, lock_fd);
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
    return old != NULL && take_holds(versions, old, 1) ? old : NULL;
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
        version_close(versions, closing);
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
    *ret = version;
    add_open(versions, base_steal(&version));
    fs_versions_follow(versions);
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

/* A job that has no version yet is not known to the store at all. */
static enum base_code open_store(struct fs_versions *versions,
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
        return BASE_OK;
    }
    BASE_TRY(rc);
    BASE_TRY(is_start ? open_new(versions, 0, true, &current, err)
                      : fs_versions_open(versions, number, &current, err));
    fs_versions_let_go(versions, current, 1); /* it is kept */
    return BASE_OK;
}

enum base_code fs_versions_create(const struct fs_options *options,
                                  struct fs_views *views,
                                  struct fs_events *events,
                                  struct fs_handover *handover,
                                  const struct fs_line *line,
                                  struct fs_versions **ret,
                                  struct base_err *err)
{
    BASE_AUTO(fs_versions) versions = calloc(1, sizeof(*versions));

    if (versions == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot set up the mount");
    }
    versions->options = options;
    versions->views = views;
    versions->events = events;
    versions->handover = handover;
    versions->line = line;
    (void)pthread_mutex_init(&versions->lock, NULL); /* never fail here */
    (void)pthread_mutex_init(&versions->opening_lock, NULL);
    BASE_TRY(options->job != NULL ? open_store(versions, err)
                                  : open_directory(versions, err));
    *ret = base_steal(&versions);
    return BASE_OK;
}

/* What there is. */

struct fs_version *fs_versions_root(const struct fs_versions *versions)
{
    return versions->at_root;
}

enum base_code fs_versions_list(const struct fs_versions *versions,
                                uint64_t **ret,
                                size_t *ret_n,
                                struct base_err *err)
{
    enum base_code rc = BASE_NOT_FOUND;

    if (versions->root != NULL) {
        rc = store_root_versions(versions->root, versions->options->job, ret,
                                 ret_n, err);
    }
    if (rc == BASE_NOT_FOUND) { /* the job has no versions yet */
        *ret = NULL;
        *ret_n = 0;
        return BASE_OK;
    }
    return rc;
}

enum base_code fs_versions_current(const struct fs_versions *versions,
                                   uint64_t *ret,
                                   struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n;

    BASE_TRY(fs_versions_list(versions, &numbers, &n, err));
    if (n == 0) {
        return base_fail(err, BASE_NOT_FOUND, "no version is published");
    }
    *ret = numbers[n - 1];
    return BASE_OK;
}

void fs_versions_follow(struct fs_versions *versions)
{
    struct fs_version *closing = NULL;
    uint64_t current;
    struct base_err err;

    if (fs_versions_current(versions, &current, &err) != BASE_OK) {
        return; /* the next look tells; nothing is closed for it */
    }
    (void)pthread_mutex_lock(&versions->lock);
    if (versions->kept != NULL && versions->kept->number < current) {
        closing = versions->kept;
        versions->kept = NULL;
        if (!take_holds(versions, closing, 1)) {
            closing = NULL;
        }
    }
    (void)pthread_mutex_unlock(&versions->lock);
    if (closing != NULL) {
        version_close(versions, closing);
    }
}

/* Hold the open version with the least number above @number; NULL: none. */
static struct fs_version *hold_next(struct fs_versions *versions,
                                    uint64_t number)
{
    struct fs_version *least = NULL;
    struct fs_version *version;

    (void)pthread_mutex_lock(&versions->lock);
    for (version = versions->first; version != NULL; version = version->next) {
        if (version->number > number &&
            (least == NULL || version->number < least->number)) {
            least = version;
        }
    }
    if (least != NULL) {
        least->n_holds++;
    }
    (void)pthread_mutex_unlock(&versions->lock);
    return least;
}

void fs_versions_each(struct fs_versions *versions, fs_version_fn fn, void *ctx)
{
    struct fs_version *version;
    uint64_t number = 0;

    while ((version = hold_next(versions, number)) != NULL) {
        number = version->number;
        fn(ctx, version);
        fs_versions_let_go(versions, version, 1);
    }
}

struct idle_visit {
    struct fs_versions *versions;
    fs_version_fn fn;
    void *ctx;
    bool is_any;
};

static void visit_idle(void *ctx, struct fs_version *version)
{
    struct idle_visit *visit = ctx;
    struct fs_versions *versions = visit->versions;
    bool is_idle;

    (void)pthread_mutex_lock(&versions->lock);
    if (version == versions->kept || version == versions->loaded ||
        version->is_at_root) {
        (void)pthread_mutex_unlock(&versions->lock);
        return;
    }
    is_idle =
        version->n_handles == 0 && version->n_uses == version->n_uses_seen;
    version->n_uses_seen = version->n_uses;
    (void)pthread_mutex_unlock(&versions->lock);
    visit->is_any = true;
    if (is_idle) {
        visit->fn(visit->ctx, version);
    }
}

bool fs_versions_idle(struct fs_versions *versions, fs_version_fn fn, void *ctx)
{
    struct idle_visit visit = {.versions = versions, .fn = fn, .ctx = ctx};

    fs_versions_each(versions, visit_idle, &visit);
    return visit.is_any;
}
