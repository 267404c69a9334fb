/* Saves in gen/G/save: what a mkdir, a rename, an rmdir there come to, and the
 * thread that commits.
 *
 * A commit may take as long as writers are waited for, plus what the store
 * needs; so it is done by a thread of its own, which answers the rename when it
 * is decided.  No request is served in that thread, none waits for it but that
 * one.  It also drops steps that nobody writes to any more.
 *
 * Under an agent the version of a commit is not published, but voted for; the
 * coordinator decides, and the rename waits for that (-o decide_wait).  While it
 * is not decided the step stays frozen; the thread goes on asking, and so does
 * whoever renames again (commit_vote.c).
 *
 * Rules are in fuse/generation.h, files in fuse/saves.h, the publication in
 * store/save.h, what follows a publication in fuse/upkeep.h.
 *
 * What is refused, and why, is told (fuse/events.h).  Any thread. */
#ifndef FUSE_COMMIT_H
#define FUSE_COMMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/str.h"
#include "fuse/generation.h"
#include "fuse/saves.h"
#include "fuse/usage.h"

struct fs;
struct fs_commit;
/* Open steps are dropped and told, and the staging is removed: the mount has
 * ended.  Stops first. */
void fs_commit_free(struct fs_commit *commit);
BASE_AUTO_DEFINE(fs_commit);

/* For a mounted job, whose fs->versions has begun: take its saves (fs->saves is
 * made and owned by this), or remember who has them.  No thread is made yet. */
enum base_code fs_commit_create(struct fs *fs,
                                struct fs_commit **ret,
                                struct base_err *err) BASE_MUST_CHECK;
/* Once the process is the one that serves. */
enum base_code fs_commit_start(struct fs_commit *commit,
                               struct base_err *err) BASE_MUST_CHECK;
/* Answer the commit that runs, refuse others, end the threads.  While requests
 * are still served: the commit may wait for one.  May be called again. */
void fs_commit_stop(struct fs_commit *commit);

/* Follow an order of the agent's at once: what is revoked is EROFS when this
 * returns.  NULL: only try again to open what the current generation loads.
 * *ret_shown: the generation that is shown then.
 * Errors: BASE_LIMIT  a number that cannot be shown
 *         those of opening what it loads: it is current all the same */
enum base_code fs_commit_order(struct fs_commit *commit,
                               const struct fs_order *order,
                               uint64_t *ret_shown,
                               struct base_err *err) BASE_MUST_CHECK;

/* Something may have been published.  NULL is fine. */
void fs_commit_follow(struct fs_commit *commit);

/* Requests in gen/@generation/save; they return 0 or an errno. */
int fs_commit_mkdir(struct fs_commit *commit,
                    uint64_t generation,
                    struct base_str name,
                    uint64_t *ret_ino);
int fs_commit_rmdir(struct fs_commit *commit,
                    uint64_t generation,
                    struct base_str name);
/* Begin a commit: @done is called once with its errno, by the thread, and -1 is
 * returned; or an errno at once, and @done is not called. */
enum { FS_COMMIT_LATER = -1 };
typedef void (*fs_commit_fn)(void *ctx, int errnum);
/* Who asks, and how: mv(1) asks with RENAME_NOREPLACE and, where that is EINVAL,
 * at once again without; nothing has changed, so the answer is the same. */
struct fs_commit_asker {
    pid_t pid; /* 0: not known */
    bool is_noreplace;
};
int fs_commit_rename(struct fs_commit *commit,
                     uint64_t generation,
                     struct base_str from,
                     uint64_t to_generation, /* 0: elsewhere */
                     struct base_str to,
                     struct fs_commit_asker asker,
                     fs_commit_fn done,
                     void *ctx);

/* All steps, ascending (given, free it). */
enum base_code fs_commit_steps(struct fs_commit *commit,
                               struct fs_step **ret,
                               size_t *ret_n,
                               struct base_err *err) BASE_MUST_CHECK;
/* What a step that is not sealed has written. */
struct fs_usage fs_commit_usage(const struct fs_commit *commit,
                                const struct fs_step *step);
/* Is a step open or being committed? */
bool fs_commit_is_saving(struct fs_commit *commit);

struct fs_commit_status {
    const char *elsewhere; /* why this mount takes no saves; NULL: it does */
    uint64_t n_committed;
    uint64_t n_refused; /* renames that failed */
    uint64_t n_dropped; /* steps: expired, revoked, removed */
};
void fs_commit_status(struct fs_commit *commit, struct fs_commit_status *ret);

#endif
