/* Requests in gen/G/save: judged, and done or given to the thread. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "fuse/agent.h"
#include "fuse/commit_impl.h"

/* Refuse; returns the errno. */
static int refuse(struct fs_commit *commit,
                  const char *what,
                  uint64_t generation,
                  struct base_str name,
                  enum fs_verdict verdict,
                  const struct base_err *why)
{
    if (verdict != FS_ABSENT) { /* a mere question */
        commit_tell_name(commit, what, generation, name, why->text);
    }
    return fs_verdict_errno(verdict);
}

/* Will the step fit?  As much as is loaded: ranks write all of it. */
static enum base_code check_room(struct fs_commit *commit, struct base_err *err)
{
    struct fs_version *loaded = fs_versions_hold_loaded(commit->fs->versions);
    uint64_t need = 0;
    uint64_t room;
    char need_text[24];
    char room_text[24];

    if (loaded != NULL) {
        need = ptc_table_n_bytes(store_source_table(loaded->source));
        fs_versions_let_go(commit->fs->versions, loaded, 1);
    }
    BASE_TRY(store_staging_room(commit->staging, &room, err));
    if (room < need) {
        return base_fail(err, BASE_NO_SPACE,
                         "a save needs %s (%" PRIu64
                         " bytes), and the store has room for %s (%" PRIu64
                         " bytes)",
                         base_format_size(need, need_text), need,
                         base_format_size(room, room_text), room);
    }
    return BASE_OK;
}

/* Lock held.  What there is to judge by. */
static enum base_code look(struct fs_commit *commit,
                           struct fs_generations *ret,
                           struct fs_step **ret_steps,
                           size_t *ret_n,
                           struct base_err *err)
{
    if (!commit->is_publishing) {
        commit_advance(commit); /* the watch may be a moment late */
    }
    fs_versions_generations(commit->fs->versions, ret);
    return fs_commit_steps(commit, ret_steps, ret_n, err);
}

static const char not_begun[] = "save not begun";

/* Lock held.  May it be begun?  0, or an errno: told. */
static int judge_mkdir(struct fs_commit *commit,
                       uint64_t generation,
                       struct base_str name,
                       uint64_t *ret_step)
{
    BASE_AUTO_MEM struct fs_step *steps = NULL;
    struct fs_generations all;
    struct base_err err = {0};
    enum fs_verdict verdict;
    size_t n = 0;
    int errnum;

    if (commit->staging == NULL || commit->is_ending) {
        commit_tell_name(commit, not_begun, generation, name,
                         commit->is_ending ? "the mount ends"
                                           : commit->elsewhere.text);
        return EBUSY;
    }
    if (look(commit, &all, &steps, &n, &err) != BASE_OK) {
        return ENOMEM;
    }
    verdict = fs_judge_mkdir(&all, (struct fs_steps){steps, (uint32_t)n},
                             generation, name, ret_step, &err);
    if (verdict != FS_ALLOWED) {
        return refuse(commit, not_begun, generation, name, verdict, &err);
    }
    errnum = commit_errno(check_room(commit, &err));
    if (errnum != 0) {
        commit_tell_name(commit, not_begun, generation, name, err.text);
    }
    return errnum;
}

/* Lock held. */
static int begin(struct fs_commit *commit,
                 uint64_t generation,
                 uint64_t step,
                 uint64_t attempt,
                 uint64_t *ret_ino)
{
    int errnum = fs_saves_begin(commit->fs->saves, generation, step, ret_ino);

    if (errnum != 0) {
        commit_tell_step(commit, BASE_ERROR, not_begun, generation, step,
                         errnum == EBUSY ? "an earlier save of this step is "
                                           "still being finished"
                                         : strerrordesc_np(errnum));
        return errnum;
    }
    if (attempt != 0) { /* a server that is killed first asks once more */
        (void)fs_saves_set_attempt(commit->fs->saves, step, attempt);
    }
    commit->has_open = true;
    (void)pthread_cond_signal(&commit->changed); /* look after it */
    return 0;
}

int fs_commit_mkdir(struct fs_commit *commit,
                    uint64_t generation,
                    struct base_str name,
                    uint64_t *ret_ino)
{
    struct base_err err = {0};
    uint64_t attempt = 0;
    uint64_t step = 0;
    int errnum;
    COMMIT_LOCKED(commit);

    errnum = judge_mkdir(commit, generation, name, &step);
    if (errnum != 0) {
        return errnum;
    }
    errnum = commit_open_attempt(commit, generation, step, &attempt, &err);
    if (errnum != 0) {
        commit_tell_name(commit, not_begun, generation, name, err.text);
        return errnum;
    }
    if (attempt != 0) { /* much may have happened meanwhile */
        errnum = judge_mkdir(commit, generation, name, &step);
    }
    if (errnum == 0) {
        errnum = begin(commit, generation, step, attempt, ret_ino);
    }
    if (errnum != 0) {
        fs_agent_close_save(commit->fs->agent, attempt, "it was not begun");
    }
    return errnum;
}

int fs_commit_rmdir(struct fs_commit *commit,
                    uint64_t generation,
                    struct base_str name)
{
    static const char what[] = "save not removed";
    BASE_AUTO_MEM struct fs_step *steps = NULL;
    struct fs_generations all;
    struct base_err err = {0};
    enum fs_verdict verdict;
    struct fs_steps all_steps;
    uint64_t attempt;
    uint64_t step;
    size_t n = 0;
    int errnum;
    COMMIT_LOCKED(commit);

    if (commit->staging == NULL) {
        return ENOENT;
    }
    if (look(commit, &all, &steps, &n, &err) != BASE_OK) {
        return ENOMEM;
    }
    all_steps = (struct fs_steps){steps, (uint32_t)n};
    verdict = fs_judge_rmdir(&all, all_steps, generation, name, &step, &err);
    if (verdict != FS_ALLOWED) {
        return refuse(commit, what, generation, name, verdict, &err);
    }
    attempt = fs_step_find(all_steps, generation, step)->attempt;
    errnum = fs_saves_remove(commit->fs->saves, step);
    if (errnum == 0) {
        fs_agent_close_save(commit->fs->agent, attempt, "it was removed");
    }
    commit->status.n_dropped += errnum == 0;
    return errnum;
}

/* Lock held.  Is it what was refused just now, asked by mv(1) a second time? */
static bool is_asked_again(struct fs_commit *commit,
                           uint64_t generation,
                           uint64_t step,
                           struct fs_commit_asker asker)
{
    const struct fs_job refused = commit->refused;

    commit->refused = (struct fs_job){0};
    return asker.pid != 0 && !asker.is_noreplace &&
           refused.asker.pid == asker.pid && refused.generation == generation &&
           refused.step == step;
}

int fs_commit_rename(struct fs_commit *commit,
                     uint64_t generation,
                     struct base_str from,
                     uint64_t to_generation,
                     struct base_str to,
                     struct fs_commit_asker asker,
                     fs_commit_fn done,
                     void *ctx)
{
    static const char what[] = "save not committed";
    BASE_AUTO_MEM struct fs_step *steps = NULL;
    struct fs_generations all;
    struct base_err err = {0};
    enum fs_verdict verdict;
    uint64_t step;
    size_t n = 0;
    COMMIT_LOCKED(commit);

    if (commit->staging == NULL) {
        return ENOENT;
    }
    if (look(commit, &all, &steps, &n, &err) != BASE_OK) {
        return ENOMEM;
    }
    verdict = fs_judge_rename(&all, (struct fs_steps){steps, (uint32_t)n},
                              generation, from, to_generation, to, &step, &err);
    if (verdict == FS_DONE) {
        return 0;
    }
    if (verdict == FS_BUSY && commit->undecided.generation == generation &&
        commit->undecided.step == step) {
        verdict = FS_ALLOWED; /* it is asked for once more */
    }
    if (verdict == FS_ALLOWED &&
        (commit->is_ending || commit->job.generation != 0)) {
        verdict = FS_BUSY;
        (void)base_fail(&err, BASE_EXISTS,
                        commit->is_ending ? "the mount ends"
                                          : "another commit is at work");
    }
    if (verdict != FS_ALLOWED) {
        commit->status.n_refused += verdict != FS_ABSENT;
        return refuse(commit, what, generation, from, verdict, &err);
    }
    if (is_asked_again(commit, generation, step, asker)) {
        return EINVAL;
    }
    commit->job = (struct fs_job){.generation = generation,
                                  .step = step,
                                  .asker = asker,
                                  .done = done,
                                  .ctx = ctx};
    (void)pthread_cond_signal(&commit->changed);
    return FS_COMMIT_LATER;
}
