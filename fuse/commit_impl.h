/* What the files of fuse/commit.h share. */
#ifndef FUSE_COMMIT_IMPL_H
#define FUSE_COMMIT_IMPL_H

#include <pthread.h>

#include "fuse/commit.h"
#include "fuse/fs.h"
#include "fuse/upkeep.h"
#include "store/save.h"

enum {
    COMMIT_NS_PER_S = 1000000000,
    COMMIT_PATH_BYTES = 96,
    COMMIT_STEP_BYTES = 24, /* a number's text */
};

/* A commit that was asked for. */
struct fs_job {
    uint64_t generation; /* 0: none */
    uint64_t step;
    struct fs_commit_asker asker;
    fs_commit_fn done;
    void *ctx;
    uint64_t attempt; /* that its version is voted for with; 0: published */
    uint64_t parent;
};

struct fs_commit {
    struct fs *fs;
    struct store_root *root;       /* of the staging */
    struct store_staging *staging; /* NULL: another mount takes the saves */
    struct base_err elsewhere;     /* then: which */
    struct fs_upkeep *upkeep;
    struct fs_commit_status status; /* guarded by lock, as all below */
    struct fs_job job;              /* waiting, or at work */
    struct fs_job refused;          /* the last one that may come again: see
                                       struct fs_commit_asker */
    struct fs_job undecided;        /* a frozen step whose vote is there */
    int64_t ask_ns;                 /* when to ask about it */
    struct base_err why_undecided;  /* the thread's */
    uint64_t told_lost;             /* the same: the attempt that was told */
    bool is_asking;     /* the agent, for a step that is to be begun */
    bool is_publishing; /* between the look for foreign versions and the one
                           after: what appears may be our own */
    bool is_follow_due; /* something was published meanwhile */
    bool has_open;      /* a step may be open */
    int64_t expire_look_ns;
    bool is_ending;
    bool is_running; /* owner: who starts and stops */
    bool has_served; /* the same */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
};

/* Hold a lock until the end of the scope. */
static inline void commit_unlock(pthread_mutex_t **lock)
{
    (void)pthread_mutex_unlock(*lock);
}

#define COMMIT_LOCKED(commit)                                                  \
    __attribute__((cleanup(commit_unlock))) pthread_mutex_t *locked_ =         \
        &(commit)->lock;                                                       \
    (void)pthread_mutex_lock(locked_)

int64_t commit_now_ns(void); /* monotonic */

/* Steps (commit_steps.c). */

void commit_tell_step(struct fs_commit *commit,
                      enum base_level level,
                      const char *what,
                      uint64_t generation,
                      uint64_t step,
                      const char *reason);
void commit_tell_name(struct fs_commit *commit,
                      const char *what,
                      uint64_t generation,
                      struct base_str name,
                      const char *reason);
/* What is to be answered for a commit that failed. */
int commit_errno(enum base_code code);
/* The step that is not sealed: there is one, or none. */
bool commit_find_unsealed(struct fs_commit *commit, struct fs_step *ret);
/* Lock held, as for the next ones. */
void commit_drop(struct fs_commit *commit,
                 const struct fs_step *step,
                 const char *what,
                 const char *why);
/* Leave the generations to the next server. */
void commit_keep_generations(struct fs_commit *commit);
/* Look whether something that is not our save was published. */
void commit_advance(struct fs_commit *commit);

/* The version that was made of @step by a save, after the last one that was
 * judged: told by nobody yet.  0: none. */
uint64_t commit_find_published(struct fs_commit *commit, uint64_t step);

/* Votes (commit_vote.c). */

/* Lock held, but given up meanwhile: an attempt for a step; 0, or an errno.
 * Without an agent *ret_attempt is 0. */
int commit_open_attempt(struct fs_commit *commit,
                        uint64_t generation,
                        uint64_t step,
                        uint64_t *ret_attempt,
                        struct base_err *err);
/* Nothing comes of the attempt of @job's step: the next try has another one. */
void commit_close_attempt(struct fs_commit *commit,
                          const struct fs_job *job,
                          const char *why);
/* Also when it cannot be told. */
bool commit_has_vote(struct fs_commit *commit, uint64_t attempt);
/* The vote of @job is there, its step frozen: ask until it is decided, at most
 * until @until_ns, and do what is decided.  0: it is published and sealed;
 * EROFS, EIO: aborted, the step is open again, or dropped; any other errno: the
 * step stays frozen, and is commit->undecided.  Without the lock. */
int commit_decide(struct fs_commit *commit,
                  const struct fs_job *job,
                  int64_t until_ns,
                  struct base_err *err);
/* Ask about what is undecided, when that is due.  With the lock. */
void commit_ask_again(struct fs_commit *commit);
/* A step that a dead server was committing under an attempt. */
void commit_recover_vote(struct fs_commit *commit, const struct fs_step *step);

/* Committing (commit_run.c). */

/* Ask the store; in the thread, or before it is there.  With job->attempt it is
 * a vote that is made. */
enum base_code commit_publish(struct fs_commit *commit,
                              const struct fs_job *job,
                              uint64_t *ret_number,
                              struct base_err *err) BASE_MUST_CHECK;
/* The step is version @number: everybody may know.  Lock held. */
void commit_seal(struct fs_commit *commit,
                 const struct fs_job *job,
                 uint64_t number);
void *commit_run(void *commit); /* the thread */

#endif
