/* What is done with the store: one thread, one thing after the other.
 *
 * A piece of work is made by the loop, run by the thread with a store_root of
 * its own, and comes back to the loop as a post.  Whatever it was, it comes back
 * with what the store then has of its job.  What the store takes is counted once
 * no work has come for a while, so that a vote's decision does not wait for it. */
#ifndef WORKER_WORK_H
#define WORKER_WORK_H

#include "store/vote.h"
#include "worker/inventory.h"
#include "worker/loop.h"

enum worker_work_kind {
    WORKER_WORK_LOOK,    /* at versions only */
    WORKER_WORK_VOTES,   /* at what waits for a decision */
    WORKER_WORK_ATTEMPT, /* make target->attempt, up to its vote */
    WORKER_WORK_PUBLISH, /* the vote `number` */
    WORKER_WORK_DISCARD, /* the same */
    WORKER_WORK_PLAN,    /* target->plan */
    WORKER_WORK_TIDY,    /* pins, releases, as target says */
    WORKER_WORK_REMOVE,  /* everything of the job */
};

/* A vote that was found or made. */
struct worker_found {
    uint64_t number;
    uint64_t generation;
    bool is_damaged;
    Retile__V1__Version *version; /* given; NULL: damaged */
};

struct worker_work {
    struct worker_post post; /* first: its way back */
    struct worker_work *next;
    enum worker_work_kind kind;
    void *ctx; /* the thread's */
    char *job;
    Retile__V1__JobTarget *target; /* a copy; NULL where it has no part */
    uint64_t number;

    /* What came of it. */
    enum base_code code;
    struct base_err err;
    struct worker_versions versions; /* of any kind, if has_versions */
    bool has_versions;
    char *damaged; /* a version that cannot be read; NULL: none */
    BASE_VEC(struct worker_found) votes; /* of VOTES; of ATTEMPT the one */
    Retile__V1__StatusPlan *plan;        /* of PLAN */
    bool is_incomplete; /* of TIDY, REMOVE: something is in use, try again */
    int *unlinked;      /* of TIDY: files to be closed aside; given */
    size_t n_unlinked;
};
void worker_work_free(struct worker_work *work);
BASE_AUTO_DEFINE(worker_work);
/* @target may be NULL.  NULL: no memory. */
struct worker_work *worker_work_create(enum worker_work_kind kind,
                                       const char *job,
                                       const Retile__V1__JobTarget *target);

struct worker_store;
/* End the thread once what it does is done; an import is broken off.  What came
 * of it is posted yet. */
void worker_store_stop(struct worker_store *store);
/* Stopped, and all that it posted was called. */
void worker_store_free(struct worker_store *store);
BASE_AUTO_DEFINE(worker_store);
/* @root is taken on success.  @done comes on the loop, with the work that it
 * then owns. */
enum base_code worker_store_create(struct worker_loop *loop,
                                   struct store_root **root,
                                   void (*done)(void *ctx,
                                                struct worker_work *work),
                                   void *ctx,
                                   struct worker_store **ret,
                                   struct base_err *err) BASE_MUST_CHECK;
/* Takes @work. */
void worker_store_do(struct worker_store *store, struct worker_work *work);
/* What the store takes, of what it may; as it was when the thread was last idle,
 * since that is counted blob by blob.  False: it was not counted yet.  Any thread. */
bool worker_store_usage(struct worker_store *store,
                        uint64_t *ret_used_bytes,
                        uint64_t *ret_budget_bytes);

/* One piece of work, on the thread that owns @root. */
void worker_work_run(struct worker_work *work,
                     struct store_root *root,
                     struct worker_inventory *inventory,
                     bool (*progress)(void *ctx,
                                      uint64_t done_bytes,
                                      uint64_t all_bytes),
                     void *ctx);

#endif
