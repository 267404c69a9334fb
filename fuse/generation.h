/* Generations of a mount, and what may be done to their saves: the rules, as
 * pure functions of (generations, steps, request).
 *
 * A generation is one start of the training processes.  Without a coordinator
 * the mount makes them: the first loads what is current when the mount starts,
 * or nothing; a version that is published and is not the generation's own save
 * (a rescale, an import, a rollback) begins the next one, which loads it, and
 * revokes the one before.  Under an agent they are ordered instead, by numbers
 * that a coordinator gives: what is published begins none.
 *
 * The life of a step in the current generation:
 *
 *              mkdir STEP.tmp      rename to STEP       published
 *     absent -----------------> open ------------> frozen ---------> sealed
 *        ^                      |  ^                  |
 *        |   rmdir, expired,    |  |     refused      |
 *        +------- revoked ------+  +------------------+
 *
 * (Under an agent a frozen step also waits for what is decided of its vote, be
 * its generation revoked or not.)
 *
 * At most one step is open or frozen at a time.  Steps that are saved ascend.
 *
 * The state is plain memory without pointers, so that it can be handed to the
 * next server whole.  Owner: whoever calls; nothing here locks. */
#ifndef FUSE_GENERATION_H
#define FUSE_GENERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "fuse/saves.h"

enum { FS_GENERATIONS_MAX = 64 };                   /* that are remembered */
#define FS_MAX_GENERATION ((UINT64_C(1) << 26) - 1) /* fits a node's number */

struct fs_generation {
    uint64_t number;  /* from 1; 0: no generation */
    uint64_t load;    /* the version it starts from, 0: from nothing */
    int64_t since_ns; /* wall clock */
};

struct fs_generations {
    uint64_t current;   /* number of the newest; 0: not begun */
    uint64_t seen;      /* the highest version that was judged */
    uint64_t next_step; /* the least step that may be saved now */
    uint64_t n_saved;   /* steps of the current one that are versions */
    bool is_ordered;    /* by an agent */
    bool is_revoked;    /* the current one, too: nothing may be saved */
    struct fs_generation ring[FS_GENERATIONS_MAX]; /* number modulo size */
};

/* What is known of a version; step UINT64_MAX: not known. */
struct fs_published {
    uint64_t number; /* 0: there is none */
    uint64_t step;
};

/* Begin generation 1, which loads @version. */
void fs_generations_begin(struct fs_generations *all,
                          struct fs_published version,
                          int64_t now_ns);
/* Begin none: they will be ordered. */
void fs_generations_await(struct fs_generations *all);
/* An order.  What it says may have been said before, or be older than what is
 * known: generations never go back, a revoked one stays revoked, and what a
 * generation loads stays as it was. */
struct fs_order {
    uint64_t generation;
    uint64_t load; /* 0: nothing */
    uint64_t next_step;
    bool is_revoked;
};
enum fs_ordered {
    FS_ORDERED_NOTHING,
    FS_ORDERED_REVOKED, /* the current one is */
    FS_ORDERED_BEGUN,   /* a newer one is current; all before are revoked */
};
enum fs_ordered fs_generations_order(struct fs_generations *all,
                                     const struct fs_order *order,
                                     int64_t now_ns);
/* The save of @step by the current generation was published as @version. */
void fs_generations_saved(struct fs_generations *all,
                          uint64_t step,
                          uint64_t version);
/* @version is the highest one now.  Does it begin the next generation?  Not when
 * it was judged already: a save of our own, or what is loaded; nor when they are
 * ordered. */
bool fs_generations_follow(struct fs_generations *all,
                           struct fs_published version,
                           int64_t now_ns);
/* NULL when there is none, or it is too long ago. */
const struct fs_generation *
fs_generations_find(const struct fs_generations *all, uint64_t number);
/* The least number above @number that is remembered; 0: there is none. */
uint64_t fs_generations_next(const struct fs_generations *all, uint64_t number);
/* Generations before this one may save nothing. */
uint64_t fs_generations_revoked(const struct fs_generations *all);
/* Is this state that somebody else left one that can be gone on with? */
bool fs_generations_invariant(const struct fs_generations *all);

/* Verdicts on requests: name, errno. */
#define FS_VERDICTS(X)                                                         \
    X(FS_ALLOWED, 0)                                                           \
    X(FS_DONE, 0)          /* it was, by a server that could not say so */     \
    X(FS_REVOKED, EROFS)   /* a newer generation is current */                 \
    X(FS_SEALED, EROFS)    /* a saved step goes with its generation */         \
    X(FS_SAVED, EEXIST)    /* the step is a version already */                 \
    X(FS_THERE, EEXIST)    /* the name is taken */                             \
    X(FS_BUSY, EBUSY)      /* another step is open, or this one committed */   \
    X(FS_BAD_NAME, EINVAL) /* neither STEP.tmp nor its own STEP */             \
    X(FS_BAD_STEP, EINVAL) /* not greater than what was loaded or saved */     \
    X(FS_ABSENT, ENOENT)

enum fs_verdict {
#define X(verdict, errnum) verdict,
    FS_VERDICTS(X)
#undef X
};

int fs_verdict_errno(enum fs_verdict verdict);

#define FS_MAX_STEP ((UINT64_C(1) << 53) - 1) /* exact in JSON, everywhere */

/* "100" is a step, "100.tmp" one that is written; decimal, without leading
 * zeros.  False: neither. */
bool fs_step_parse(struct base_str name, uint64_t *ret_step, bool *ret_is_tmp);

/* mkdir, rename and rmdir in gen/@generation/save, where @steps are (those of
 * all generations; of a number in several, the newest counts).  Unless it is
 * allowed, *err (not NULL) says why, for people. */
struct fs_steps {
    const struct fs_step *items;
    uint32_t n;
};
enum fs_verdict fs_judge_mkdir(const struct fs_generations *all,
                               struct fs_steps steps,
                               uint64_t generation,
                               struct base_str name,
                               uint64_t *ret_step,
                               struct base_err *err);
enum fs_verdict fs_judge_rename(const struct fs_generations *all,
                                struct fs_steps steps,
                                uint64_t generation,
                                struct base_str from,
                                uint64_t to_generation, /* 0: elsewhere */
                                struct base_str to,
                                uint64_t *ret_step,
                                struct base_err *err);
enum fs_verdict fs_judge_rmdir(const struct fs_generations *all,
                               struct fs_steps steps,
                               uint64_t generation,
                               struct base_str name,
                               uint64_t *ret_step,
                               struct base_err *err);

/* The step of @generation with that number; NULL: absent. */
const struct fs_step *
fs_step_find(struct fs_steps steps, uint64_t generation, uint64_t step);

#endif
