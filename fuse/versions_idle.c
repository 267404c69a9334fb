/* Versions that are open and that nobody uses: closed when they are not
 * current, opened anew when their manifest was replaced. */
#include <inttypes.h>
#include <stdio.h>

#include "fuse/line.h"
#include "fuse/versions_impl.h"
#include "store/change.h"

struct idle_visit {
    struct fs_versions *versions;
    fs_version_fn fn;
    void *ctx;
    bool is_any;
};

/* Lock held.  Holds of the mount's own: current, loaded. */
static uint64_t n_own_holds(const struct fs_versions *versions,
                            const struct fs_version *version)
{
    return (version == versions->kept ? 1u : 0u) +
           (version == versions->loaded ? 1u : 0u);
}

/* Lock held, @version by the visit.  Does nobody else hold it, and was no request
 * for it since the visit began? */
static bool is_alone(const struct fs_versions *versions,
                     const struct fs_version *version)
{
    return version->n_holds == n_own_holds(versions, version) + 1 &&
           version->n_uses == version->n_uses_seen;
}

/* Lock held.  @fresh comes in front of @old, so that it is the one found, and
 * has the mount's holds; the visit's is the last on @old. */
static void put_in_place(struct fs_versions *versions,
                         struct fs_version *old,
                         struct fs_version *fresh)
{
    fresh->n_holds = n_own_holds(versions, old);
    old->n_holds = 1;
    old->kept = NULL; /* it is the fresh one's */
    versions->kept = versions->kept == old ? fresh : versions->kept;
    versions->loaded = versions->loaded == old ? fresh : versions->loaded;
    fresh->next = versions->first;
    versions->first = fresh;
}

static bool has_same_blobs(const struct fs_version *a,
                           const struct fs_version *b)
{
    const uint32_t n = store_source_n_blobs(a->source);
    uint32_t i;

    if (store_source_n_blobs(b->source) != n) {
        return false;
    }
    for (i = 0; i < n; i++) {
        if (store_source_blob(a->source, i)->stat.st_ino !=
            store_source_blob(b->source, i)->stat.st_ino) {
            return false;
        }
    }
    return true;
}

/* Open @version, one that the mount itself keeps open, by its new manifest.  It
 * is held all the while, so the store does not release it. */
static enum base_code renew(struct fs_versions *versions,
                            struct fs_version *version,
                            struct base_err *err)
{
    BASE_AUTO(fs_version) fresh = NULL;
    bool is_ours;

    (void)pthread_mutex_lock(&versions->lock);
    is_ours = n_own_holds(versions, version) > 0 && is_alone(versions, version);
    (void)pthread_mutex_unlock(&versions->lock);
    if (!is_ours) { /* the kernel has not forgotten all, or it is used again */
        return BASE_OK;
    }
    BASE_TRY(versions_open_again(versions, version, &fresh, err));
    versions_keep_lock(versions, fresh);
    (void)pthread_mutex_lock(&versions->lock);
    is_ours = n_own_holds(versions, version) > 0 && is_alone(versions, version);
    if (is_ours) {
        if (has_same_blobs(version, fresh)) {
            version->is_renewed = true;
        }
        put_in_place(versions, version, fresh);
        fresh = NULL;
    }
    (void)pthread_mutex_unlock(&versions->lock);
    if (fresh != NULL) { /* else the holder would hold it as long as we live */
        fs_line_drop(versions->line, fresh->line_id);
    }
    return BASE_OK;
}

static void try_renew(struct fs_versions *versions, struct fs_version *version)
{
    char path[sizeof("versions/") + 24];
    struct base_err err;
    enum base_code rc;

    (void)pthread_mutex_lock(&versions->opening_lock);
    rc = renew(versions, version, &err);
    (void)pthread_mutex_unlock(&versions->opening_lock);
    if (rc != BASE_OK) { /* it stays as it is, and is tried again */
        (void)snprintf(path, sizeof(path), "versions/%" PRIu64,
                       version->number);
        fs_events_add(versions->events, BASE_WARNING, "version not reopened",
                      path, err.text);
    }
}

static void visit_idle(void *ctx, struct fs_version *version)
{
    struct idle_visit *visit = ctx;
    struct fs_versions *versions = visit->versions;
    bool is_kept;
    bool is_used;

    if (version->is_at_root) {
        return;
    }
    (void)pthread_mutex_lock(&versions->lock);
    is_kept = n_own_holds(versions, version) > 0;
    is_used = version->n_handles > 0 || version->n_uses != version->n_uses_seen;
    version->n_uses_seen = version->n_uses;
    (void)pthread_mutex_unlock(&versions->lock);
    if (is_kept && !store_version_is_replaced(
                       versions->root, store_source_version(version->source))) {
        version->idle = (struct fs_idle){0}; /* nothing is tried */
        return;
    }
    visit->is_any = true;
    if (!fs_idle_look(&version->idle, is_used)) {
        return;
    }
    visit->fn(visit->ctx, version);
    if (is_kept) {
        try_renew(versions, version);
    }
}

bool fs_versions_idle(struct fs_versions *versions, fs_version_fn fn, void *ctx)
{
    struct idle_visit visit = {.versions = versions, .fn = fn, .ctx = ctx};

    fs_versions_each(versions, visit_idle, &visit);
    return visit.is_any;
}

uint64_t fs_versions_n_let_go(const struct fs_versions *versions)
{
    return versions->n_let_go;
}
