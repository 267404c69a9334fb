/* The thread that commits, and looks after what is open. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "fuse/agent.h"
#include "fuse/commit_impl.h"
#include "fuse/handover.h"

enum { TICK_NS = 100 * 1000 * 1000, LAYOUT_PATH_BYTES = 32 };

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

/* Sets what the version is to be made from. */
static bool has_begun_publishing(struct fs_commit *commit,
                                 struct fs_job *job,
                                 struct base_err *err)
{
    struct fs_generations all;
    COMMIT_LOCKED(commit);

    commit_advance(commit);
    fs_versions_generations(commit->fs->versions, &all);
    if (job->generation < fs_generations_revoked(&all)) {
        (void)base_fail(err, BASE_DENIED,
                        "generation %" PRIu64
                        " was revoked before its save was published",
                        job->generation);
        return false;
    }
    /* The current one: what is loaded, or was saved last. */
    job->parent = all.seen;
    if (all.is_ordered) { /* this generation may have saved by another mount */
        uint64_t newest = 0;
        struct base_err none;

        if (fs_versions_current(commit->fs->versions, &newest, &none) ==
            BASE_OK) {
            job->parent = newest;
        }
    }
    commit->is_publishing = true;
    return true;
}

/* What a version is made of; also of one that is to be finished. */
static struct store_save save_of(struct fs_commit *commit,
                                 const struct fs_job *job,
                                 const char *name,
                                 const char *layout,
                                 struct telling *telling)
{
    return (struct store_save){
        .name = name,
        .step = job->step,
        .parent = job->parent,
        .is_on_newest = job->attempt == 0, /* else the coordinator sees to it */
        .layout = layout,
        .attempt = {.number = job->attempt, .generation = job->generation},
        .replicas = commit->fs->options->replicas,
        .tell = tell,
        .ctx = telling,
    };
}

/* The agent's layout as a file, which is what the store reads; *ret_layout NULL:
 * it has said none. */
static enum base_code ordered_layout(struct fs_commit *commit,
                                     int *ret_fd,
                                     char path[LAYOUT_PATH_BYTES],
                                     const char **ret_layout,
                                     struct base_err *err)
{
    BASE_AUTO_MEM char *text = fs_agent_layout(commit->fs->agent);

    if (text == NULL) {
        return BASE_OK;
    }
    *ret_fd = memfd_create("layout.yaml", MFD_CLOEXEC);
    if (*ret_fd < 0) {
        return base_fail_errno(err, errno, "memory for a layout");
    }
    BASE_TRY(base_io_pwrite(*ret_fd, text, strlen(text), 0, "the job's layout",
                            err));
    (void)snprintf(path, LAYOUT_PATH_BYTES, "/proc/self/fd/%d", *ret_fd);
    *ret_layout = path;
    return BASE_OK;
}

enum base_code commit_publish(struct fs_commit *commit,
                              const struct fs_job *job,
                              uint64_t *ret_number,
                              struct base_err *err)
{
    struct telling telling = {commit, job};
    char name[COMMIT_STEP_BYTES];
    char layout_path[LAYOUT_PATH_BYTES];
    const char *layout = NULL;
    struct store_save save;
    BASE_AUTO_FD layout_fd = -1;

    if (job->parent == 0 && commit->fs->agent != NULL) {
        BASE_TRY(ordered_layout(commit, &layout_fd, layout_path, &layout, err));
    } else if (job->parent == 0) {
        layout = commit->fs->options->layout;
    }
    (void)snprintf(name, sizeof(name), "%" PRIu64, job->step);
    save = save_of(commit, job, name, layout, &telling);
    BASE_TRY(base_fault_check(BASE_FAULT_mount_commit, err));
    BASE_TRY(store_save_commit(commit->staging, &save, ret_number, err));
    (void)base_fault(job->attempt == 0
                         ? BASE_FAULT_mount_committed
                         : BASE_FAULT_mount_voted); /* nothing to fail */
    return BASE_OK;
}

/* The step is version @number: everybody may know. */
void commit_seal(struct fs_commit *commit,
                 const struct fs_job *job,
                 uint64_t number)
{
    char reason[COMMIT_PATH_BYTES];
    struct fs_generations all;

    fs_saves_seal(commit->fs->saves, job->step, number); /* first: recover() */
    fs_versions_generations(commit->fs->versions, &all);
    if (job->generation == all.current) { /* a vote may outlive it */
        fs_versions_saved(commit->fs->versions, job->step, number);
    }
    commit_keep_generations(commit);
    fs_upkeep_finish(commit->upkeep,
                     (struct fs_finish){job->generation, job->step, number});
    (void)snprintf(reason, sizeof(reason), "version %" PRIu64, number);
    commit_tell_step(commit, BASE_NOTICE, "saved", job->generation, job->step,
                     reason);
}

/* Lock held.  What is published now? */
static void end_publishing(struct fs_commit *commit, bool has_failed)
{
    commit->is_publishing = false;
    if (commit->is_follow_due || has_failed) {
        commit->is_follow_due = false;
        commit_advance(commit);
    }
}

/* Is the generation of @job over? */
static bool is_over(struct fs_commit *commit, const struct fs_job *job)
{
    struct fs_generations all;

    fs_versions_generations(commit->fs->versions, &all);
    return job->generation < fs_generations_revoked(&all);
}

static int
do_publish(struct fs_commit *commit, struct fs_job *job, struct base_err *err)
{
    uint64_t number = 0;
    enum base_code rc;

    if (!has_begun_publishing(commit, job, err)) {
        return EROFS;
    }
    rc = commit_publish(commit, job, &number, err);
    if (rc != BASE_OK && commit_find_published(commit, job->step) != 0) {
        /* It failed afterwards; asked again, the store gives the number. */
        rc = commit_publish(commit, job, &number, err);
    }
    (void)pthread_mutex_lock(&commit->lock);
    if (rc == BASE_OK) {
        commit_seal(commit, job, number);
    }
    end_publishing(commit, rc != BASE_OK);
    (void)pthread_mutex_unlock(&commit->lock);
    return rc != BASE_OK && is_over(commit, job) ? EROFS : commit_errno(rc);
}

/* Make the vote, once.  Where it cannot be made the attempt is over. */
static int try_vote(struct fs_commit *commit,
                    struct fs_job *job,
                    enum base_code *ret_code,
                    struct base_err *err)
{
    uint64_t number = 0;
    enum base_code rc;
    int errnum = 0;

    *ret_code = BASE_OK;
    if (job->attempt == 0) { /* an earlier one was aborted */
        (void)pthread_mutex_lock(&commit->lock);
        errnum = commit_open_attempt(commit, job->generation, job->step,
                                     &job->attempt, err);
        (void)pthread_mutex_unlock(&commit->lock);
    }
    if (errnum != 0) {
        return errnum;
    }
    (void)fs_saves_set_attempt(commit->fs->saves, job->step, job->attempt);
    rc = commit_publish(commit, job, &number, err);
    if (rc != BASE_OK && commit_has_vote(commit, job->attempt)) {
        rc = BASE_OK; /* it failed afterwards */
    }
    if (rc != BASE_OK) {
        commit_close_attempt(commit, job, err->text);
        job->attempt = 0;
        *ret_code = rc;
        return is_over(commit, job) ? EROFS : commit_errno(rc);
    }
    return 0;
}

static int
do_vote(struct fs_commit *commit, struct fs_job *job, struct base_err *err)
{
    enum base_code code;
    int errnum;

    if (!has_begun_publishing(commit, job, err)) {
        return EROFS;
    }
    errnum = try_vote(commit, job, &code, err);
    if (code == BASE_CHANGED && errnum != EROFS) {
        /* The store has given its number: a dead server, or mount, had used it
         * up and could not say so. */
        errnum = try_vote(commit, job, &code, err);
    }
    return errnum;
}

/* @job's step as it is now. */
static bool find_step(struct fs_commit *commit,
                      const struct fs_job *job,
                      struct fs_step *ret)
{
    BASE_AUTO_MEM struct fs_step *steps = NULL;
    const struct fs_step *found;
    struct base_err err;
    size_t n = 0;

    if (fs_commit_steps(commit, &steps, &n, &err) != BASE_OK) {
        return false;
    }
    found = fs_step_find((struct fs_steps){steps, (uint32_t)n}, job->generation,
                         job->step);
    if (found != NULL) {
        *ret = *found;
    }
    return found != NULL;
}

static int
freeze(struct fs_commit *commit, const struct fs_job *job, struct base_err *err)
{
    const int64_t wait_ns =
        (int64_t)commit->fs->options->commit_wait_s * COMMIT_NS_PER_S;
    BASE_AUTO_MEM char *open_path = NULL;
    int errnum =
        fs_saves_freeze(commit->fs->saves, job->step, wait_ns, &open_path);

    if (errnum != 0) {
        (void)base_fail(err, BASE_EXISTS,
                        errnum == EBUSY
                            ? "%s is still open for writing after %" PRIu64 " s"
                            : "%s: cannot wait for it, %" PRIu64 " s",
                        open_path != NULL ? open_path : "a file",
                        commit->fs->options->commit_wait_s);
    }
    return errnum;
}

/* It was frozen, and nothing came of it. */
static void thaw(struct fs_commit *commit,
                 const struct fs_job *job,
                 bool is_revoked,
                 const struct base_err *why)
{
    struct fs_step step;

    fs_saves_thaw(commit->fs->saves, job->step);
    if (is_revoked) {
        (void)pthread_mutex_lock(&commit->lock);
        if (commit_find_unsealed(commit, &step) && step.step == job->step) {
            commit_drop(commit, &step, "save revoked", why->text);
        }
        (void)pthread_mutex_unlock(&commit->lock);
    }
}

/* Under an agent: the vote, and what is decided of it. */
static int do_commit_vote(struct fs_commit *commit,
                          struct fs_job *job,
                          struct base_err *err)
{
    const int64_t until_ns =
        commit_now_ns() +
        (int64_t)commit->fs->options->decide_wait_s * COMMIT_NS_PER_S;
    struct fs_step step;
    bool is_there;
    int errnum;

    is_there = find_step(commit, job, &step);
    if (!is_there || step.state == FS_STEP_SEALED) { /* decided just now */
        return is_there ? 0 : ENOENT;
    }
    job->attempt = step.attempt;
    if (commit->undecided.step != job->step ||
        commit->undecided.generation != job->generation) {
        errnum = freeze(commit, job, err);
        if (errnum != 0) {
            return errnum;
        }
        errnum = do_vote(commit, job, err);
        (void)pthread_mutex_lock(&commit->lock);
        commit->is_publishing = false;
        (void)pthread_mutex_unlock(&commit->lock);
        if (errnum != 0) {
            thaw(commit, job, errnum == EROFS, err);
            return errnum;
        }
    }
    return commit_decide(commit, job, until_ns, err);
}

static int
do_commit(struct fs_commit *commit, struct fs_job *job, struct base_err *err)
{
    int errnum;

    if (commit->fs->agent != NULL) {
        return do_commit_vote(commit, job, err);
    }
    errnum = freeze(commit, job, err);
    if (errnum != 0) {
        return errnum;
    }
    errnum = do_publish(commit, job, err);
    if (errnum != 0) {
        thaw(commit, job, errnum == EROFS, err);
    }
    return errnum;
}

static void run_job(struct fs_commit *commit, struct fs_job *job)
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
    commit_ask_again(commit);
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
            struct fs_job job = commit->job;

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
