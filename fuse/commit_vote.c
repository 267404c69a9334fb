/* Votes: attempts are asked for, and what becomes of them is done.
 *
 *            commit_publish            COMMIT
 *   frozen ------------------> vote ----------> published, sealed
 *     ^                        |  |   ABORT
 *     +---- the step is open --+--+-----------> removed, the step is open again
 *
 * Until it is decided the step stays frozen.  The agent asks about votes, too,
 * when it starts: what it has published or removed meanwhile is found so. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/num.h"
#include "fuse/agent.h"
#include "fuse/commit_impl.h"

enum { NS_PER_MS = 1000000, ASK_MS = 5000 };

#define AGAIN_NS ((int64_t)200 * NS_PER_MS)
#define LATER_NS ((int64_t)1000 * NS_PER_MS)

int commit_open_attempt(struct fs_commit *commit,
                        uint64_t generation,
                        uint64_t step,
                        uint64_t *ret_attempt,
                        struct base_err *err)
{
    struct fs_agent *agent = commit->fs->agent;
    int errnum;

    *ret_attempt = 0;
    if (agent == NULL) {
        return 0;
    }
    if (commit->is_asking) {
        (void)base_fail(err, BASE_EXISTS,
                        "the agent is being asked for a step");
        return EBUSY;
    }
    commit->is_asking = true;
    (void)pthread_mutex_unlock(&commit->lock);
    errnum = fs_agent_open_save(agent, generation, step, ret_attempt, err);
    (void)pthread_mutex_lock(&commit->lock);
    commit->is_asking = false;
    if (errnum == 0) {
        (void)base_fault(BASE_FAULT_mount_opened); /* nothing to fail */
    }
    return errnum;
}

void commit_close_attempt(struct fs_commit *commit,
                          const struct fs_job *job,
                          const char *why)
{
    /* In this order: a server that follows in between finds it (recover). */
    fs_agent_close_save(commit->fs->agent, job->attempt, why);
    (void)fs_saves_set_attempt(commit->fs->saves, job->step, 0); /* else it is
                                             found to be over when it is used */
}

bool commit_has_vote(struct fs_commit *commit, uint64_t attempt)
{
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    struct base_err err;
    size_t n = 0;
    size_t i;

    if (store_vote_list(commit->root, &votes, &n, &err) != BASE_OK) {
        return true;
    }
    for (i = 0; i < n; i++) {
        if (votes[i].number == attempt &&
            strcmp(votes[i].job, commit->fs->options->job) == 0) {
            return true;
        }
    }
    return false;
}

static enum base_code find_published(struct fs_commit *commit,
                                     uint64_t attempt,
                                     bool *ret_is_there,
                                     struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;
    size_t i;

    BASE_TRY(fs_versions_list(commit->fs->versions, &numbers, &n, err));
    for (i = 0; i < n && numbers[i] != attempt; i++) {
    }
    *ret_is_there = i < n;
    return BASE_OK;
}

static bool is_published(struct fs_commit *commit, uint64_t attempt)
{
    struct base_err err;
    bool is_there = false;

    return find_published(commit, attempt, &is_there, &err) == BASE_OK &&
           is_there;
}

/* What is decided. */

static void set_undecided(struct fs_commit *commit, const struct fs_job *job)
{
    (void)pthread_mutex_lock(&commit->lock);
    commit->undecided = job != NULL ? *job : (struct fs_job){0};
    commit->ask_ns = commit_now_ns() + LATER_NS;
    (void)pthread_mutex_unlock(&commit->lock);
}

static void seal(struct fs_commit *commit, const struct fs_job *job)
{
    (void)base_fault(BASE_FAULT_mount_committed); /* nothing to fail */
    (void)pthread_mutex_lock(&commit->lock);
    commit_seal(commit, job, job->attempt);
    commit->undecided = (struct fs_job){0};
    (void)pthread_mutex_unlock(&commit->lock);
}

/* The vote is no more: the step is open again, or goes with its generation.
 * Returns the errno. */
static int
open_again(struct fs_commit *commit, const struct fs_job *job, const char *why)
{
    struct fs_saves *saves = commit->fs->saves;
    struct fs_generations all;
    struct fs_step step;
    bool is_over;

    (void)fs_saves_set_attempt(saves, job->step, 0); /* else the next try finds
                                                        it aborted, once more */
    fs_saves_thaw(saves, job->step);
    (void)pthread_mutex_lock(&commit->lock);
    commit->undecided = (struct fs_job){0};
    fs_versions_generations(commit->fs->versions, &all);
    is_over = job->generation < fs_generations_revoked(&all);
    if (is_over && commit_find_unsealed(commit, &step) &&
        step.step == job->step) {
        commit_drop(commit, &step, "save revoked", why);
    }
    (void)pthread_mutex_unlock(&commit->lock);
    return is_over ? EROFS : EIO;
}

/* Can it never be published? */
static bool is_damage(enum base_code code)
{
    return code == BASE_CHANGED || code == BASE_BAD_INPUT ||
           code == BASE_MISMATCH;
}

/* It was committed, and cannot be published; *err says why.  When coordinator
 * and people know, the step is open again; else it is tried once more. */
static int
lose(struct fs_commit *commit, const struct fs_job *job, struct base_err *err)
{
    const struct fs_vote vote = {commit->root, job->attempt, job->generation,
                                 true};
    struct base_err none;

    if (commit->told_lost != job->attempt) {
        commit->told_lost = job->attempt;
        commit_tell_step(commit, BASE_ERROR, "save lost", job->generation,
                         job->step, err->text);
    }
    if (fs_agent_vote(commit->fs->agent, &vote, ASK_MS, &none) == FS_ABORT &&
        store_vote_remove(commit->root, commit->fs->options->job, job->attempt,
                          &none) == BASE_OK) {
        return open_again(commit, job, err->text);
    }
    set_undecided(commit, job);
    return EIO;
}

/* Returns what commit_decide does. */
static int carry_out(struct fs_commit *commit,
                     const struct fs_job *job,
                     enum fs_decision decision,
                     struct base_err *err)
{
    const char *name = commit->fs->options->job;
    struct base_err failed;
    enum base_code rc;

    (void)base_fault(BASE_FAULT_mount_decided); /* nothing to fail */
    if (decision == FS_ABORT) {
        rc = store_vote_remove(commit->root, name, job->attempt, &failed);
        if (rc == BASE_OK) {
            return open_again(commit, job, err->text);
        }
    } else {
        rc = store_vote_publish(commit->root, name, job->attempt, &failed);
    }
    if (rc == BASE_OK || is_published(commit, job->attempt)) {
        seal(commit, job);
        return 0;
    }
    *err = failed;
    if (rc == BASE_NOT_FOUND) { /* somebody has removed it */
        return open_again(commit, job, err->text);
    }
    if (is_damage(rc)) {
        return lose(commit, job, err);
    }
    set_undecided(commit, job);
    return commit_errno(rc);
}

/* Is it decided, and done, by the agent?  Then *ret_errnum is the outcome. */
static bool is_done(struct fs_commit *commit,
                    const struct fs_job *job,
                    int *ret_errnum,
                    struct base_err *err)
{
    bool is_there = false;

    if (commit_has_vote(commit, job->attempt) ||
        find_published(commit, job->attempt, &is_there, err) != BASE_OK) {
        return false;
    }
    if (is_there) {
        seal(commit, job);
        *ret_errnum = 0;
        return true;
    }
    (void)base_fail(err, BASE_DENIED,
                    "attempt %" PRIu64 " was aborted: its vote is gone",
                    job->attempt);
    *ret_errnum = open_again(commit, job, err->text);
    return true;
}

static bool is_ending(struct fs_commit *commit)
{
    COMMIT_LOCKED(commit);

    return commit->is_ending;
}

/* Lock not held. */
static void wait_a_little(struct fs_commit *commit)
{
    const int64_t until_ns = commit_now_ns() + AGAIN_NS;
    const struct timespec until = {until_ns / COMMIT_NS_PER_S,
                                   until_ns % COMMIT_NS_PER_S};
    COMMIT_LOCKED(commit);

    if (!commit->is_ending) {
        (void)pthread_cond_timedwait(&commit->changed, &commit->lock, &until);
    }
}

int commit_decide(struct fs_commit *commit,
                  const struct fs_job *job,
                  int64_t until_ns,
                  struct base_err *err)
{
    const struct fs_vote vote = {commit->root, job->attempt, job->generation,
                                 false};
    enum fs_decision decision;
    int64_t left_ns;
    int errnum;

    set_undecided(commit, job);
    while (!is_done(commit, job, &errnum, err)) {
        left_ns = until_ns - commit_now_ns();
        if (left_ns < NS_PER_MS || is_ending(commit)) {
            set_undecided(commit, job);
            (void)base_fail(err, BASE_TIMEOUT,
                            "it is not decided: %.150s; it stays as it is, and "
                            "may be renamed again",
                            commit->why_undecided.text);
            return ETIMEDOUT;
        }
        decision = fs_agent_vote(
            commit->fs->agent, &vote,
            (unsigned)base_min_u64((uint64_t)(left_ns / NS_PER_MS), ASK_MS),
            err);
        if (decision != FS_UNDECIDED) {
            return carry_out(commit, job, decision, err);
        }
        commit->why_undecided = *err;
        wait_a_little(commit);
    }
    return errnum;
}

void commit_ask_again(struct fs_commit *commit)
{
    const struct fs_job job = commit->undecided;
    struct base_err err = {0};
    int errnum;

    if (job.generation == 0 || commit->job.generation != 0 ||
        commit->is_ending || commit_now_ns() < commit->ask_ns) {
        return;
    }
    (void)pthread_mutex_unlock(&commit->lock);
    errnum = commit_decide(commit, &job, commit_now_ns() + LATER_NS, &err);
    (void)pthread_mutex_lock(&commit->lock);
    if (errnum != 0 && commit->undecided.generation == 0) {
        commit_tell_step(commit, BASE_ERROR, "save not committed",
                         job.generation, job.step, err.text);
    }
    commit->status.n_committed += errnum == 0;
}

void commit_recover_vote(struct fs_commit *commit, const struct fs_step *step)
{
    struct fs_generations all;
    struct fs_job job = {.generation = step->generation,
                         .step = step->step,
                         .attempt = step->attempt};
    struct base_err err;
    bool is_there = false;

    fs_versions_generations(commit->fs->versions, &all);
    job.parent = all.seen;
    if (job.attempt != 0 &&
        (commit_has_vote(commit, job.attempt) ||
         find_published(commit, job.attempt, &is_there, &err) != BASE_OK)) {
        commit->undecided = job; /* asked about at once */
    } else if (is_there) {
        commit_seal(commit, &job, job.attempt);
    } else {
        /* The attempt may have been used up. */
        commit_close_attempt(commit, &job, "the mount was interrupted");
        fs_saves_thaw(commit->fs->saves, step->step);
    }
}
