/* Upkeep of the versions of a mounted job, in the background, one thing at a
 * time: saves are finished (digests, replicas, names in staging), versions that
 * have no digests yet are digested, the current one is compacted when that is
 * due and nobody saves, and when nobody here has open what it was before, the
 * store is swept.
 *
 * The thread has a store of its own and a low priority; all it does can be
 * broken off, and is begun again by the next mount.  Any thread. */
#ifndef FUSE_UPKEEP_H
#define FUSE_UPKEEP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct fs;
struct fs_upkeep;
void fs_upkeep_free(struct fs_upkeep *upkeep); /* stops it */
BASE_AUTO_DEFINE(fs_upkeep);

/* @staging_path: borrowed; NULL when another mount takes the saves. */
enum base_code fs_upkeep_create(struct fs *fs,
                                const char *staging_path,
                                struct fs_upkeep **ret,
                                struct base_err *err) BASE_MUST_CHECK;
enum base_code fs_upkeep_start(struct fs_upkeep *upkeep,
                               struct base_err *err) BASE_MUST_CHECK;
/* End it: what is being finished gets up to @wait_ns, the rest is broken off. */
void fs_upkeep_stop(struct fs_upkeep *upkeep, int64_t wait_ns);

/* A save was committed. */
struct fs_finish {
    uint64_t generation;
    uint64_t step;
    uint64_t version;
};
void fs_upkeep_finish(struct fs_upkeep *upkeep, struct fs_finish finish);
/* Something may have been published, or nobody saves any more. */
void fs_upkeep_wake(struct fs_upkeep *upkeep);

struct fs_upkeep_status {
    uint32_t n_waiting;  /* saves that are not finished */
    const char *doing;   /* "idle", "finishing", "digesting", "compacting",
                            "sweeping" */
    uint64_t version;    /* which one */
    uint64_t done_bytes; /* of it */
    uint64_t all_bytes;
    uint64_t n_compacted;   /* versions */
    uint64_t n_swept_bytes; /* freed by sweeps */
};
void fs_upkeep_status(struct fs_upkeep *upkeep, struct fs_upkeep_status *ret);

#endif
