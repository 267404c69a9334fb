/* The generations of a mounted job: which version each one loads. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "fuse/versions_impl.h"

enum { NS_PER_S = 1000000000 };

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

bool fs_versions_is_ordered(const struct fs_versions *versions)
{
    return versions->options->agent != NULL;
}

void fs_versions_generations(struct fs_versions *versions,
                             struct fs_generations *ret)
{
    (void)pthread_mutex_lock(&versions->lock);
    *ret = versions->generations;
    (void)pthread_mutex_unlock(&versions->lock);
}

bool fs_versions_generation(struct fs_versions *versions,
                            uint64_t number,
                            struct fs_generation *ret)
{
    const struct fs_generation *found;

    (void)pthread_mutex_lock(&versions->lock);
    found = fs_generations_find(&versions->generations, number);
    if (found != NULL) {
        *ret = *found;
    }
    (void)pthread_mutex_unlock(&versions->lock);
    return found != NULL;
}

struct fs_version *fs_versions_hold_loaded(struct fs_versions *versions)
{
    struct fs_version *loaded;

    (void)pthread_mutex_lock(&versions->lock);
    loaded = versions->loaded;
    if (loaded != NULL) {
        loaded->n_holds++;
    }
    (void)pthread_mutex_unlock(&versions->lock);
    return loaded;
}

/* Take over @all, and the hold on @loaded in place of the one before. */
static void set(struct fs_versions *versions,
                const struct fs_generations *all,
                struct fs_version *loaded)
{
    struct fs_version *old;

    (void)pthread_mutex_lock(&versions->lock);
    versions->generations = *all;
    old = versions->loaded;
    versions->loaded = loaded;
    (void)pthread_mutex_unlock(&versions->lock);
    fs_versions_let_go(versions, old, 1);
}

static enum base_code go_on(struct fs_versions *versions,
                            const struct fs_generations *inherited,
                            struct base_err *err)
{
    const struct fs_generation *current =
        fs_generations_find(inherited, inherited->current);
    struct fs_version *loaded = NULL;

    if (!inherited->is_ordered && current->load != 0) {
        BASE_TRY(fs_versions_open(versions, current->load, &loaded, err));
    }
    set(versions, inherited, loaded); /* the agent is told what is not loaded */
    return BASE_OK;
}

enum base_code fs_versions_begin(struct fs_versions *versions,
                                 const struct fs_generations *inherited,
                                 struct base_err *err)
{
    struct fs_generations all;
    struct fs_published published = {0};
    struct fs_version *loaded = NULL;
    enum base_code rc;

    if (inherited != NULL && fs_generations_invariant(inherited)) {
        return go_on(versions, inherited, err);
    }
    if (versions->options->agent != NULL) {
        fs_generations_await(&all);
        set(versions, &all, NULL);
        return BASE_OK;
    }
    rc = fs_versions_current(versions, &published.number, err);
    if (rc == BASE_OK) {
        rc = fs_versions_open(versions, published.number, &loaded, err);
    }
    if (rc == BASE_OK) {
        published.step = loaded->step;
    } else if (rc != BASE_NOT_FOUND) {
        return rc;
    }
    fs_generations_begin(&all, published, now_ns());
    set(versions, &all, loaded);
    return BASE_OK;
}

void fs_versions_saved(struct fs_versions *versions,
                       uint64_t step,
                       uint64_t version)
{
    (void)pthread_mutex_lock(&versions->lock);
    fs_generations_saved(&versions->generations, step, version);
    (void)pthread_mutex_unlock(&versions->lock);
}

enum base_code fs_versions_advance(struct fs_versions *versions,
                                   bool *ret_has_begun,
                                   struct base_err *err)
{
    struct fs_generations all;
    struct fs_published published = {.step = UINT64_MAX};
    struct fs_version *loaded = NULL;
    struct base_err failed;
    char path[sizeof("versions/") + 24];
    enum base_code rc;

    *ret_has_begun = false;
    if (versions->options->agent != NULL) {
        return BASE_OK;
    }
    rc = fs_versions_current(versions, &published.number, err);
    if (rc == BASE_NOT_FOUND) {
        return BASE_OK;
    }
    BASE_TRY(rc);
    fs_versions_generations(versions, &all);
    if (published.number <= all.seen) {
        return BASE_OK;
    }
    rc = fs_versions_open(versions, published.number, &loaded, &failed);
    if (rc == BASE_OK) {
        published.step = loaded->step;
    } else {
        /* The generation begins all the same: what it loads is what there is,
         * and whoever reads it learns what is wrong with it. */
        (void)snprintf(path, sizeof(path), "versions/%" PRIu64,
                       published.number);
        fs_events_add(versions->events, BASE_ERROR, "version not opened", path,
                      failed.text);
    }
    *ret_has_begun = fs_generations_follow(&all, published, now_ns());
    set(versions, &all, loaded);
    return BASE_OK;
}

enum fs_ordered fs_versions_order(struct fs_versions *versions,
                                  const struct fs_order *order)
{
    struct fs_generations all;
    enum fs_ordered ordered;

    fs_versions_generations(versions, &all);
    ordered = fs_generations_order(&all, order, now_ns());
    if (ordered == FS_ORDERED_BEGUN) {
        set(versions, &all, NULL);
    } else {
        (void)pthread_mutex_lock(&versions->lock);
        versions->generations = all;
        (void)pthread_mutex_unlock(&versions->lock);
    }
    return ordered;
}

enum base_code fs_versions_load(struct fs_versions *versions,
                                struct base_err *err)
{
    struct fs_generations all;
    const struct fs_generation *current;
    struct fs_version *loaded;

    fs_versions_generations(versions, &all);
    current = fs_generations_find(&all, all.current);
    loaded = fs_versions_hold_loaded(versions);
    fs_versions_let_go(versions, loaded, 1);
    if (loaded != NULL || current == NULL || current->load == 0) {
        return BASE_OK;
    }
    BASE_TRY(fs_versions_open(versions, current->load, &loaded, err));
    set(versions, &all, loaded);
    return BASE_OK;
}
