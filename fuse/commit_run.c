/* The thread that commits, and looks after what is open. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/fault.h"
#include "fuse/commit_impl.h"
#include "fuse/handover.h"

enum { TICK_NS = 100 * 1000 * 1000 };

#define MAX_EXPIRE_LOOK_NS ((int64_t)30 * COMMIT_NS_PER_S)

struct telling {
    struct fs_commit *commit;
    const struct fs_job *job;
};

static void tell(void *ctx, bool is_refusal, const char *text)
{
    const struct telling *telling = ctx;

    commit_tell_step(telling->commit, is_refusal ? BASE_ERROR : BASE_WARNING,
                     is_refusal ? "save refused" : "save",
                     telling->job->generation, telling->job->step, text);
}

static bool has_begun_publishing(struct fs_commit *commit,
                                 const struct fs_job *job,
                                 uint64_t *ret_parent,
                                 struct base_err *err)
{
    struct fs_generations all;
    COMMIT_LOCKED(commit);

    commit_advance(commit);
    fs_versions_generations(commit->fs->versions, &all);
    if (all.current != job->generation) {
        (void)base_fail(err, BASE_DENIED,
                        "generation %" PRIu64
                        " was revoked before its save was published",
                        job->generation);
        return false;
    }
    /* The current one: what is loaded, or was saved last. */
    *ret_parent = all.seen;
    commit->is_publishing = true;
    return true;
}

/* What a version is made of; also of one that is to be finished. */
static struct store_save save_of(struct fs_commit *commit,
                                 const struct fs_job *job,
                                 const char *name,
                                 uint64_t parent,
                                 struct telling *telling)
{
    return (struct store_save){
        .name = name,
        .step = job->step,
        .parent = parent,
        .is_on_newest = true,
        .layout = parent == 0 ? commit->fs->options->layout : NULL,
        .replicas = commit->fs->options->replicas,
        .tell = tell,
        .ctx = telling,
    };
}

enum base_code commit_publish(struct fs_commit *commit,
                              const struct fs_job *job,
                              uint64_t parent,
                              uint64_t *ret_number,
                              struct base_err *err)
{
    struct telling telling = {commit, job};
    char name[COMMIT_STEP_BYTES];
    struct store_save save;

    (void)snprintf(name, sizeof(name), "%" PRIu64, job->step);
    save = save_of(commit, job, name, parent, &telling);
    BASE_TRY(base_fault_check(BASE_FAULT_mount_commit, err));
    BASE_TRY(store_save_commit(commit->staging, &save, ret_number, err));
    (void)base_fault(BASE_FAULT_mount_committed); /* nothing to fail */
    return BASE_OK;
}

/* The step is version @number: everybody may know. */
void commit_seal(struct fs_commit *commit,
                 const struct fs_job *job,
                 uint64_t number)
{
    char reason[COMMIT_PATH_BYTES];

    fs_saves_seal(commit->fs->saves, job->step, number); /* first: recover() */
    fs_versions_saved(commit->fs->versions, job->step, number);
    commit_keep_generations(commit);
    fs_upkeep_finish(commit->upkeep,
                     (struct fs_finish){job->generation, job->step, number});
    (void)snprintf(reason, sizeof(reason), "version %" PRIu64, number);
    commit_tell_step(commit, BASE_NOTICE, "saved", job->generation, job->step,
                     reason);
}

static int do_publish(struct fs_commit *commit,
                      const struct fs_job *job,
                      struct base_err *err)
{
    struct fs_generations all;
    uint64_t parent = 0;
    uint64_t number = 0;
    enum base_code rc;

    if (!has_begun_publishing(commit, job, &parent, err)) {
        return EROFS;
    }
    rc = commit_publish(commit, job, parent, &number, err);
    if (rc != BASE_OK && commit_find_published(commit, job->step) != 0) {
        /* It failed afterwards; asked again, the store gives the number. */
        rc = commit_publish(commit, job, parent, &number, err);
    }
    (void)pthread_mutex_lock(&commit->lock);
    if (rc == BASE_OK) {
        commit_seal(commit, job, number);
    }
    commit->is_publishing = false;
    if (commit->is_follow_due || rc != BASE_OK) {
        commit->is_follow_due = false;
        commit_advance(commit);
    }
    fs_versions_generations(commit->fs->versions, &all);
    (void)pthread_mutex_unlock(&commit->lock);
    return rc != BASE_OK && all.current != job->generation ? EROFS
                                                           : commit_errno(rc);
}

static int do_commit(struct fs_commit *commit,
                     const struct fs_job *job,
                     struct base_err *err)
{
    const int64_t wait_ns =
        (int64_t)commit->fs->options->commit_wait_s * COMMIT_NS_PER_S;
    BASE_AUTO_MEM char *open_path = NULL;
    struct fs_step step;
    int errnum;

    errnum = fs_saves_freeze(commit->fs->saves, job->step, wait_ns, &open_path);
    if (errnum != 0) {
        (void)base_fail(err, BASE_EXISTS,
                        errnum == EBUSY
                            ? "%s is still open for writing after %" PRIu64 " s"
                            : "%s: cannot wait for it, %" PRIu64 " s",
                        open_path != NULL ? open_path : "a file",
                        commit->fs->options->commit_wait_s);
        return errnum;
    }
    errnum = do_publish(commit, job, err);
    if (errnum == 0) {
        return 0;
    }
    fs_saves_thaw(commit->fs->saves, job->step);
    if (errnum == EROFS) {
        (void)pthread_mutex_lock(&commit->lock);
        if (commit_find_unsealed(commit, &step) && step.step == job->step) {
            commit_drop(commit, &step, "save revoked", err->text);
        }
        (void)pthread_mutex_unlock(&commit->lock);
    }
    return errnum;
}

static void run_job(struct fs_commit *commit, const struct fs_job *job)
{
    struct base_err err = {0};
    int errnum;

    errnum = do_commit(commit, job, &err);
    if (errnum != 0) {
        commit_tell_step(commit, BASE_ERROR, "save not committed",
                         job->generation, job->step, err.text);
    }
    (void)pthread_mutex_lock(&commit->lock);
    commit->job = (struct fs_job){0};
    if (errnum == EINVAL && job->asker.is_noreplace) {
        commit->refused = *job;
    }
    commit->status.n_committed += errnum == 0;
    commit->status.n_refused += errnum != 0;
    (void)pthread_cond_broadcast(&commit->changed);
    (void)pthread_mutex_unlock(&commit->lock);
    fs_watch_wake(commit->fs->watch); /* `current` has moved */
    job->done(job->ctx, errnum);
}

/* Lock held.  Drop what nobody writes to. */
static void expire(struct fs_commit *commit)
{
    const int64_t expire_ns =
        (int64_t)commit->fs->options->save_expire_s * COMMIT_NS_PER_S;
    const int64_t now = commit_now_ns();
    struct fs_step open;
    char why[COMMIT_PATH_BYTES];

    if (now < commit->expire_look_ns) {
        return;
    }
    /* Soon enough, and seldom: every file of the step is looked at. */
    commit->expire_look_ns =
        now + (expire_ns / 4 < MAX_EXPIRE_LOOK_NS ? expire_ns / 4
                                                  : MAX_EXPIRE_LOOK_NS);
    commit->has_open = commit_find_unsealed(commit, &open);
    if (!commit->has_open || expire_ns == 0 || open.state != FS_STEP_OPEN ||
        now - open.touched_ns < expire_ns) {
        return;
    }
    (void)snprintf(why, sizeof(why),
                   "nobody has written to it for %" PRIu64 " s",
                   commit->fs->options->save_expire_s);
    commit_drop(commit, &open, "save expired", why);
    commit->has_open = false;
}

/* Lock held.  Wait for something to do, and look after what is open. */
static void idle(struct fs_commit *commit)
{
    const int64_t until_ns = commit_now_ns() + TICK_NS;
    const struct timespec until = {until_ns / COMMIT_NS_PER_S,
                                   until_ns % COMMIT_NS_PER_S};

    if (!commit->has_open) {
        (void)pthread_cond_wait(&commit->changed, &commit->lock);
        return;
    }
    (void)pthread_cond_timedwait(&commit->changed, &commit->lock, &until);
    (void)pthread_mutex_unlock(&commit->lock);
    fs_saves_tick(commit->fs->saves);
    (void)pthread_mutex_lock(&commit->lock);
    expire(commit);
    if (!commit->has_open) {
        fs_upkeep_wake(commit->upkeep);
    }
}

void *commit_run(void *ctx)
{
    struct fs_commit *commit = ctx;

    (void)pthread_mutex_lock(&commit->lock);
    for (;;) {
        if (commit->job.generation != 0) {
            const struct fs_job job = commit->job;

            (void)pthread_mutex_unlock(&commit->lock);
            run_job(commit, &job);
            (void)pthread_mutex_lock(&commit->lock);
        } else if (commit->is_ending) {
            break;
        } else {
            idle(commit);
        }
    }
    (void)pthread_mutex_unlock(&commit->lock);
    return NULL;
}
