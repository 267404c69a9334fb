/* Steps: telling of them, dropping them, and what is published beside them. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "fuse/agent.h"
#include "fuse/commit_impl.h"
#include "fuse/handover.h"

enum { STEPS_AT_FIRST = 64 };

int64_t commit_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * COMMIT_NS_PER_S + now.tv_nsec;
}

/* Telling. */

static const char *
step_path(char path[COMMIT_PATH_BYTES], uint64_t generation, uint64_t step)
{
    (void)snprintf(path, COMMIT_PATH_BYTES, "gen/%" PRIu64 "/save/%" PRIu64,
                   generation, step);
    return path;
}

void commit_tell_step(struct fs_commit *commit,
                      enum base_level level,
                      const char *what,
                      uint64_t generation,
                      uint64_t step,
                      const char *reason)
{
    char path[COMMIT_PATH_BYTES];

    fs_events_add(commit->fs->events, level, what,
                  step_path(path, generation, step), reason);
}

void commit_tell_name(struct fs_commit *commit,
                      const char *what,
                      uint64_t generation,
                      struct base_str name,
                      const char *reason)
{
    BASE_AUTO_MEM char *path =
        base_path("gen/%" PRIu64 "/save/%.*s", generation, BASE_STR_FMT(name));

    fs_events_add(commit->fs->events, BASE_ERROR, what,
                  path != NULL ? path : "?", reason);
}

/* What is to be answered for a commit that failed. */
int commit_errno(enum base_code code)
{
    switch (code) {
    case BASE_OK:
        return 0;
    case BASE_BAD_ARG:
    case BASE_BAD_INPUT:
    case BASE_MISMATCH:
    case BASE_UNSUPPORTED:
        return EINVAL;
    case BASE_EXISTS:
    case BASE_CHANGED: /* somebody writes, past all handles we know of */
        return EBUSY;
    case BASE_LIMIT: /* the budget */
    case BASE_NO_SPACE:
        return ENOSPC;
    case BASE_NO_MEM:
        return ENOMEM;
    case BASE_INTERRUPTED:
        return EINTR;
    case BASE_DENIED:
        return EACCES;
    case BASE_NOT_FOUND:
    case BASE_IO:
        return EIO;
    case BASE_UNREACHABLE:
    case BASE_TIMEOUT:
        return ETIMEDOUT;
    }
    return EIO;
}

/* Steps. */

enum base_code fs_commit_steps(struct fs_commit *commit,
                               struct fs_step **ret,
                               size_t *ret_n,
                               struct base_err *err)
{
    uint32_t max = STEPS_AT_FIRST;
    uint32_t n;

    *ret = NULL;
    *ret_n = 0;
    if (commit->fs->saves == NULL) {
        return BASE_OK;
    }
    for (;; max *= 2) {
        BASE_AUTO_MEM struct fs_step *steps = calloc(max, sizeof(*steps));

        if (steps == NULL) {
            return base_fail(err, BASE_NO_MEM, "cannot list steps");
        }
        n = fs_saves_steps(commit->fs->saves, steps, max);
        if (n < max) {
            *ret = base_steal(&steps);
            *ret_n = n;
            return BASE_OK;
        }
    }
}

/* Those that are not sealed: one, or, just after a revocation, none. */
bool commit_find_unsealed(struct fs_commit *commit, struct fs_step *ret)
{
    BASE_AUTO_MEM struct fs_step *steps = NULL;
    struct base_err err;
    size_t n = 0;
    size_t i;

    if (fs_commit_steps(commit, &steps, &n, &err) != BASE_OK) {
        return false;
    }
    for (i = 0; i < n; i++) {
        if (steps[i].state != FS_STEP_SEALED) {
            *ret = steps[i];
            return true;
        }
    }
    return false;
}

struct fs_usage fs_commit_usage(const struct fs_commit *commit,
                                const struct fs_step *step)
{
    char name[COMMIT_STEP_BYTES];

    (void)snprintf(name, sizeof(name), "%" PRIu64, step->step);
    return fs_usage_of(store_staging_fd(commit->staging), name);
}

bool fs_commit_is_saving(struct fs_commit *commit)
{
    struct fs_step step;

    return commit_find_unsealed(commit, &step);
}

/* Lock held. */
void commit_drop(struct fs_commit *commit,
                 const struct fs_step *step,
                 const char *what,
                 const char *why)
{
    int errnum = fs_saves_drop(commit->fs->saves, step->step);

    if (errnum != 0 && errnum != ENOENT) {
        commit_tell_step(commit, BASE_ERROR, "save not removed",
                         step->generation, step->step, strerrordesc_np(errnum));
        return;
    }
    fs_agent_close_save(commit->fs->agent, step->attempt, why);
    commit->status.n_dropped++;
    commit_tell_step(commit, BASE_WARNING, what, step->generation, step->step,
                     why);
}

/* Following what is published. */

void commit_keep_generations(struct fs_commit *commit)
{
    struct fs_generations all;

    fs_versions_generations(commit->fs->versions, &all);
    fs_handover_keep(commit->fs->handover, &all);
}

/* Lock held. */
static void
change_generation(struct fs_commit *commit, const char *what, const char *why)
{
    struct fs *fs = commit->fs;
    struct fs_generations all;
    struct fs_step open;
    char path[COMMIT_PATH_BYTES];
    uint64_t revoked;

    fs_versions_generations(fs->versions, &all);
    revoked = fs_generations_revoked(&all);
    commit_keep_generations(commit);
    if (fs->saves != NULL) {
        fs_saves_revoke(fs->saves, revoked);
    }
    (void)snprintf(path, sizeof(path), "gen/%" PRIu64, all.current);
    fs_events_add(fs->events, BASE_NOTICE, what, path, why);
    if (fs->saves != NULL && commit_find_unsealed(commit, &open) &&
        open.state == FS_STEP_OPEN && open.generation < revoked) {
        commit_drop(commit, &open, "save revoked", why);
    }
}

/* Lock held. */
static void begin_generation(struct fs_commit *commit)
{
    struct fs_generations all;
    struct fs_generation now = {0};
    char why[COMMIT_PATH_BYTES];

    fs_versions_generations(commit->fs->versions, &all);
    (void)fs_versions_generation(commit->fs->versions, all.current,
                                 &now); /* it is */
    (void)snprintf(why, sizeof(why), "version %" PRIu64 " was published",
                   now.load);
    change_generation(commit, "generation begun", why);
}

/* Lock held. */
static void follow_order(struct fs_commit *commit, const struct fs_order *order)
{
    char why[COMMIT_PATH_BYTES];

    switch (fs_versions_order(commit->fs->versions, order)) {
    case FS_ORDERED_NOTHING:
        commit_keep_generations(commit); /* its next step, perhaps */
        break;
    case FS_ORDERED_REVOKED:
        change_generation(commit, "generation revoked",
                          "the coordinator has ended it");
        break;
    case FS_ORDERED_BEGUN:
        (void)snprintf(why, sizeof(why),
                       "ordered: it loads version %" PRIu64 "%s", order->load,
                       order->is_revoked ? ", and is over" : "");
        change_generation(commit, "generation begun", why);
        break;
    }
}

enum base_code fs_commit_order(struct fs_commit *commit,
                               const struct fs_order *order,
                               uint64_t *ret_shown,
                               struct base_err *err)
{
    struct fs_generations all;
    COMMIT_LOCKED(commit);

    if (order != NULL && order->generation > FS_MAX_GENERATION) {
        return base_fail(err, BASE_LIMIT,
                         "generation %" PRIu64
                         ": a mount shows those up to %" PRIu64,
                         order->generation, FS_MAX_GENERATION);
    }
    if (order != NULL) {
        follow_order(commit, order);
    }
    BASE_TRY(fs_versions_load(commit->fs->versions, err));
    fs_versions_generations(commit->fs->versions, &all);
    *ret_shown = all.current;
    return BASE_OK;
}

/* Lock held. */
void commit_advance(struct fs_commit *commit)
{
    struct base_err err;
    bool has_begun = false;

    if (fs_versions_advance(commit->fs->versions, &has_begun, &err) !=
        BASE_OK) {
        fs_events_add(commit->fs->events, BASE_ERROR, "versions not listed",
                      "versions", err.text);
        return;
    }
    if (has_begun) {
        begin_generation(commit);
    }
}

void fs_commit_follow(struct fs_commit *commit)
{
    if (commit == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&commit->lock);
    if (commit->is_publishing) {
        commit->is_follow_due = true;
    } else {
        commit_advance(commit);
    }
    (void)pthread_mutex_unlock(&commit->lock);
    fs_upkeep_wake(commit->upkeep);
}

uint64_t commit_find_published(struct fs_commit *commit, uint64_t step)
{
    struct fs_versions *versions = commit->fs->versions;
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    struct fs_generations all;
    struct base_err err;
    size_t n = 0;
    size_t i;

    fs_versions_generations(versions, &all);
    if (fs_versions_list(versions, &numbers, &n, &err) != BASE_OK) {
        return 0;
    }
    for (i = 0; i < n; i++) {
        struct fs_version *version = NULL;
        bool is_it;

        if (numbers[i] <= all.seen ||
            fs_versions_open(versions, numbers[i], &version, &err) != BASE_OK) {
            continue;
        }
        is_it = version->is_saved && version->step == step;
        fs_versions_let_go(versions, version, 1);
        if (is_it) {
            return numbers[i];
        }
    }
    return 0;
}
