#include "fuse/commit.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fuse/commit_impl.h"
#include "fuse/handover.h"

/* What a save that is being finished gets when the mount ends. */
enum { FINISH_WAIT_S = 5 };

static bool room_left(void *ctx, uint64_t *ret_bytes)
{
    struct fs_commit *commit = ctx;
    struct base_err err;

    return store_staging_room(commit->staging, ret_bytes, &err) == BASE_OK;
}

static void tell_saves(void *ctx, const char *path, const char *reason)
{
    struct fs_commit *commit = ctx;

    fs_events_add(commit->fs->events, BASE_WARNING, "save", path, reason);
}

/* A step that a dead server was committing: it is a version, or open again.
 * Whoever asked for it asks again. */
static enum base_code recover_frozen(struct fs_commit *commit,
                                     const struct fs_step *step,
                                     struct base_err *err)
{
    const struct fs_job job = {.generation = step->generation,
                               .step = step->step};
    struct fs_generations all;
    struct fs_job publishing = job;
    uint64_t number = 0;

    if (commit->fs->agent != NULL) {
        commit_recover_vote(commit, step);
        return BASE_OK;
    }
    fs_versions_generations(commit->fs->versions, &all);
    publishing.parent = all.seen;
    if (step->generation != all.current ||
        commit_find_published(commit, step->step) == 0) {
        fs_saves_thaw(commit->fs->saves, step->step);
        return BASE_OK;
    }
    BASE_TRY(commit_publish(commit, &publishing, &number, err));
    commit_seal(commit, &job, number);
    return BASE_OK;
}

/* Are there still files of the sealed step @step, which is thus not finished?
 * They may be those of a later save of the same step. */
static bool has_files(struct fs_commit *commit,
                      const struct fs_step *steps,
                      size_t n,
                      uint64_t step)
{
    char name[COMMIT_STEP_BYTES];
    size_t i;

    for (i = 0; i < n; i++) {
        if (steps[i].step == step && steps[i].state != FS_STEP_SEALED) {
            return false;
        }
    }
    (void)snprintf(name, sizeof(name), "%" PRIu64, step);
    return faccessat(store_staging_fd(commit->staging), name, F_OK,
                     AT_SYMLINK_NOFOLLOW) == 0;
}

static struct fs_finish finish_of(const struct fs_step *step)
{
    return (struct fs_finish){step->generation, step->step, step->version};
}

static enum base_code recover(struct fs_commit *commit, struct base_err *err)
{
    BASE_AUTO_MEM struct fs_step *steps = NULL;
    struct fs_generations all;
    size_t n;
    size_t i;

    fs_versions_generations(commit->fs->versions, &all);
    BASE_TRY(fs_commit_steps(commit, &steps, &n, err));
    for (i = 0; i < n; i++) {
        enum base_code rc = BASE_OK;

        switch (steps[i].state) {
        case FS_STEP_OPEN:
            commit->has_open = true;
            if (fs_handover_closes(commit->fs->handover, steps[i].attempt)) {
                (void)fs_saves_set_attempt(commit->fs->saves, steps[i].step, 0);
            }
            break;
        case FS_STEP_FROZEN:
            commit->has_open = true;
            rc = recover_frozen(commit, &steps[i], err);
            break;
        case FS_STEP_SEALED:
            if (steps[i].generation == all.current) {
                /* Unless it is known, which is all that had to be done. */
                fs_versions_saved(commit->fs->versions, steps[i].step,
                                  steps[i].version);
            }
            if (has_files(commit, steps, n, steps[i].step)) {
                fs_upkeep_finish(commit->upkeep, finish_of(&steps[i]));
            }
            break;
        }
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "step %" PRIu64, steps[i].step);
        }
    }
    return BASE_OK;
}

/* Go on with what the server before had, if it had it. */
static enum base_code open_staging(struct fs_commit *commit,
                                   struct base_err *err)
{
    struct fs *fs = commit->fs;

    if (fs->line.staging_fd >= 0 &&
        store_staging_adopt(commit->root, fs->options->job, fs->line.staging_fd,
                            &commit->staging, err) == BASE_OK) {
        fs->line.staging_fd = -1; /* taken */
        return BASE_OK;
    }
    return store_staging_open(commit->root, fs->options->job, &commit->staging,
                              err);
}

/* A version, or what replaced a manifest, is there all the same. */
static void on_warning(void *ctx, const char *text)
{
    struct fs *fs = ctx;

    fs_events_add(fs->events, BASE_WARNING, "store", "versions", text);
}

static enum base_code take_saves(struct fs_commit *commit, struct base_err *err)
{
    struct fs *fs = commit->fs;
    const struct fs_saves_guard guard = {room_left, tell_saves, commit};
    enum base_code rc;

    rc = open_staging(commit, err);
    if (rc == BASE_EXISTS) {
        commit->elsewhere = *err;
        fs_events_add(fs->events, BASE_WARNING, "saves are another mount's",
                      "gen", err->text);
        return BASE_OK;
    }
    BASE_TRY(rc);
    fs_line_keep_staging(&fs->line, store_staging_lock_fd(commit->staging));
    BASE_TRY(
        fs_saves_create(store_staging_fd(commit->staging), &fs->saves, err));
    fs_saves_set_guard(fs->saves, &guard);
    return BASE_OK;
}

/* With a clock that nobody sets. */
static enum base_code make_cond(pthread_cond_t *cond, struct base_err *err)
{
    pthread_condattr_t attr;
    int errnum;

    (void)pthread_condattr_init(&attr); /* these never fail here */
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    errnum = pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    return errnum == 0 ? BASE_OK
                       : base_fail_errno(err, errnum, "cannot take saves");
}

/* What an earlier server had revoked. */
static void revoke_again(struct fs_commit *commit)
{
    struct fs_generations all;

    fs_versions_generations(commit->fs->versions, &all);
    if (commit->fs->saves != NULL) {
        fs_saves_revoke(commit->fs->saves, fs_generations_revoked(&all));
    }
}

enum base_code
fs_commit_create(struct fs *fs, struct fs_commit **ret, struct base_err *err)
{
    BASE_AUTO(fs_commit) commit = calloc(1, sizeof(*commit));

    if (commit == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot take saves");
    }
    commit->fs = fs;
    (void)pthread_mutex_init(&commit->lock, NULL); /* never fails here */
    BASE_TRY(make_cond(&commit->changed, err));
    BASE_TRY(store_root_open(fs->options->source, &commit->root, err));
    if (fs->agent != NULL) {
        store_root_serve_owner(commit->root);
    }
    store_root_on_warning(commit->root, on_warning, fs);
    BASE_TRY(take_saves(commit, err));
    BASE_TRY(fs_upkeep_create(
        fs,
        commit->staging != NULL ? store_staging_path(commit->staging) : NULL,
        &commit->upkeep, err));
    fs->upkeep = commit->upkeep;
    revoke_again(commit);
    BASE_TRY(recover(commit, err));
    commit_keep_generations(commit);
    *ret = base_steal(&commit);
    return BASE_OK;
}

enum base_code fs_commit_start(struct fs_commit *commit, struct base_err *err)
{
    int errnum = pthread_create(&commit->thread, NULL, commit_run, commit);

    if (errnum != 0) {
        return base_fail_errno(err, errnum, "cannot start a thread");
    }
    commit->is_running = true;
    commit->has_served = true;
    return fs_upkeep_start(commit->upkeep, err);
}

/* Ending. */

void fs_commit_stop(struct fs_commit *commit)
{
    if (commit == NULL || !commit->is_running) {
        return;
    }
    (void)pthread_mutex_lock(&commit->lock);
    commit->is_ending = true;
    (void)pthread_cond_broadcast(&commit->changed);
    (void)pthread_mutex_unlock(&commit->lock);
    if (commit->fs->saves != NULL) {
        fs_saves_end_waits(commit->fs->saves);
    }
    (void)pthread_join(commit->thread, NULL); /* ours, joined once */
    commit->is_running = false;
    fs_upkeep_stop(commit->upkeep, (int64_t)FINISH_WAIT_S * COMMIT_NS_PER_S);
}

static void end_saves(struct fs_commit *commit)
{
    struct fs_step open;
    struct base_err err;

    if (commit->fs->saves != NULL) {
        if (commit_find_unsealed(commit, &open)) {
            fs_saves_thaw(commit->fs->saves, open.step);
            if (commit->undecided.generation != 0) {
                open.attempt = 0; /* its vote is the agent's now */
            }
            commit_drop(commit, &open, "save dropped", "the mount has ended");
        }
        fs_saves_free(commit->fs->saves);
        commit->fs->saves = NULL;
    }
    if (commit->staging != NULL &&
        store_staging_remove(&commit->staging, &err) != BASE_OK) {
        base_log(BASE_WARNING,
                 "staging not removed, the next change of the "
                 "store does",
                 "reason", err.text);
    }
    store_staging_free(commit->staging);
}

void fs_commit_free(struct fs_commit *commit)
{
    if (commit == NULL) {
        return;
    }
    fs_commit_stop(commit);
    fs_upkeep_free(commit->upkeep);
    commit->fs->upkeep = NULL;
    end_saves(commit);
    store_root_free(commit->root);
    (void)pthread_cond_destroy(&commit->changed);
    (void)pthread_mutex_destroy(&commit->lock);
    free(commit);
}

void fs_commit_status(struct fs_commit *commit, struct fs_commit_status *ret)
{
    (void)pthread_mutex_lock(&commit->lock);
    *ret = commit->status;
    (void)pthread_mutex_unlock(&commit->lock);
    ret->elsewhere = commit->staging == NULL ? commit->elsewhere.text : NULL;
}
