#include "fuse/versions.h"

#include <assert.h>
#include <stdlib.h>

#include "base/num.h"
#include "fuse/handover.h"
#include "fuse/line.h"
#include "fuse/versions_impl.h"
#include "store/change.h"

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

void versions_keep_lock(const struct fs_versions *versions,
                        struct fs_version *version)
{
    const struct store_version *stored = store_source_version(version->source);

    version->line_id =
        fs_line_keep(versions->line, store_version_lock_fd(stored));
}

void versions_close(struct fs_versions *versions, struct fs_version *version)
{
    const struct store_version *stored =
        store_source_version(version->source); /* NULL: of a directory */

    if (stored != NULL && !version->is_renewed &&
        store_version_is_replaced(versions->root, stored)) {
        versions->n_let_go++; /* nobody may need its blobs any more */
    }
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

bool versions_take_holds(struct fs_versions *versions,
                         struct fs_version *version,
                         uint64_t n)
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
    is_last = versions_take_holds(versions, version, n);
    (void)pthread_mutex_unlock(&versions->lock);
    if (is_last) {
        versions_close(versions, version);
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

bool fs_versions_is_lasting(struct fs_versions *versions,
                            const struct fs_version *version)
{
    bool is_lasting;

    if (version == NULL || version->is_at_root) {
        return false; /* without it; kept by its kind */
    }
    (void)pthread_mutex_lock(&versions->lock);
    is_lasting = version == versions->kept || version == versions->loaded;
    (void)pthread_mutex_unlock(&versions->lock);
    return is_lasting;
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

/* Making. */

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
    BASE_TRY(options->job != NULL ? versions_open_store(versions, err)
                                  : versions_open_directory(versions, err));
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
        if (!versions_take_holds(versions, closing, 1)) {
            closing = NULL;
        }
    }
    (void)pthread_mutex_unlock(&versions->lock);
    if (closing != NULL) {
        versions_close(versions, closing);
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
