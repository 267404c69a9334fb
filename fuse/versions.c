#include "fuse/versions.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "fuse/versions_impl.h"
#include "store/change.h"

enum { NS_PER_S = 1000000000 };

/* Closing. */

static void drop_views(void *ctx, const struct fs_subtree *subtree)
{
    fs_views_drop(ctx, subtree);
}

static void version_close(struct fs_versions *versions,
                          struct fs_version *version)
{
    fs_version_each(version, drop_views, versions->views);
    fs_version_free(version);
}

void fs_versions_free(struct fs_versions *versions)
{
    struct fs_version *version;

    if (versions == NULL) {
        return;
    }
    while ((version = versions->first) != NULL) {
        versions->first = version->next;
        version_close(versions, version);
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

void fs_versions_handle_open(struct fs_versions *versions,
                             struct fs_version *version)
{
    if (version == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    version->n_holds++;
    version->n_handles++;
    (void)pthread_mutex_unlock(&versions->lock);
}

void fs_versions_handle_close(struct fs_versions *versions,
                              struct fs_version *version)
{
    if (version == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    assert(version->n_handles > 0);
    version->n_handles--;
    (void)pthread_mutex_unlock(&versions->lock);
    fs_versions_let_go(versions, version, 1);
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

    BASE_TRY(store_version_open(versions->root, versions->options->job, number,
                                &stored, err));
    head = ptc_manifest_head(store_version_manifest(stored));
    created_ns = head->created_ns;
    step = head->step;
    number = head->version;
    if (number > FS_MAX_VERSION) {
        return base_fail(err, BASE_LIMIT,
                         "version %" PRIu64 ": a mount shows those up to "
                         "%" PRIu64,
                         number, FS_MAX_VERSION);
    }
    BASE_TRY(store_source_open_version(versions->root, &stored, &source, err));
    BASE_TRY(fs_version_create(number, &source, ret, err));
    (*ret)->step = step;
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

/* A job that has no version yet is not known to the store at all. */
static enum base_code open_store(struct fs_versions *versions,
                                 struct base_err *err)
{
    struct fs_version *current;
    uint64_t number;
    enum base_code rc;

    BASE_TRY(store_root_open(versions->options->source, &versions->root, err));
    rc = fs_versions_current(versions, &number, err);
    if (rc == BASE_NOT_FOUND) {
        return BASE_OK;
    }
    BASE_TRY(rc);
    BASE_TRY(open_new(versions, 0, true, &current, err));
    fs_versions_let_go(versions, current, 1); /* it is kept */
    return BASE_OK;
}

enum base_code fs_versions_create(const struct fs_options *options,
                                  struct fs_views *views,
                                  struct fs_events *events,
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
