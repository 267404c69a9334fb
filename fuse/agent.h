/* A mount's side of the host's agent: proto/retile/v1/host.proto, service Local.
 *
 * One call (Mount) is open as long as there is an agent: its orders are handed
 * to fuse/commit.h, and what became of them is reported.  When it ends it is
 * made again, for ever; a mount whose agent is gone goes on showing what it
 * shows.  What has to be decided is asked for.
 *
 *   thread        what it does
 *   agent         opens the call, follows orders, reports, closes saves
 *   the layer's   callbacks: they leave what came to that thread
 *   any other     fs_agent_open_save and fs_agent_vote wait for their answer
 *
 * The layer's threads are begun here: only in a server, never in the holder,
 * which forks. */
#ifndef FUSE_AGENT_H
#define FUSE_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"
#include "fuse/handover.h"

struct fs;
struct fs_agent;
struct store_root;
/* Stops first.  NULL is fine, here and below. */
void fs_agent_free(struct fs_agent *agent);
BASE_AUTO_DEFINE(fs_agent);

/* For fs->options->agent; what an earlier server was asked for goes on.  Does
 * not call yet.  Errors: BASE_BAD_ARG (the target), BASE_NO_MEM */
enum base_code fs_agent_create(struct fs *fs,
                               struct fs_agent **ret,
                               struct base_err *err) BASE_MUST_CHECK;
/* Once orders can be followed. */
enum base_code fs_agent_start(struct fs_agent *agent,
                              struct base_err *err) BASE_MUST_CHECK;
/* The mount ends: who waits for an answer gets none, now and later. */
void fs_agent_interrupt(struct fs_agent *agent);
/* Follow no more orders. */
void fs_agent_stop(struct fs_agent *agent);

/* What generation @generation is asked for now; its length.  0: nothing. */
size_t fs_agent_request(struct fs_agent *agent,
                        uint64_t generation,
                        char ret[FS_REQUEST_BYTES]);
/* The layout of saves while the job has no version, as text; given, NULL: none
 * was said, or no memory.  A server that has just begun waits for it, at most
 * 5 s. */
char *fs_agent_layout(struct fs_agent *agent);

/* May @step be saved?  Waits at most 5 s.  0, or an errno:
 * EEXIST    it is saved            EBUSY      another one is open
 * EROFS     the generation is over EINVAL     it is below the least one
 * ENOSPC    there are too many versions
 * ETIMEDOUT agent or coordinator cannot be asked now: nothing was decided
 * EIO       any other refusal */
int fs_agent_open_save(struct fs_agent *agent,
                       uint64_t generation,
                       uint64_t step,
                       uint64_t *ret_attempt,
                       struct base_err *err);
/* Nothing comes of it.  Does not wait; is repeated until it is known. */
void fs_agent_close_save(struct fs_agent *agent,
                         uint64_t attempt,
                         const char *reason);

/* Ask what becomes of a vote that is there, once; at most @timeout_ms. */
enum fs_decision {
    FS_UNDECIDED, /* *err (may be NULL): why */
    FS_COMMIT,
    FS_ABORT, /* *err: the coordinator's reason */
};
struct fs_vote {
    const struct store_root *root; /* where it is */
    uint64_t attempt;
    uint64_t generation;
    bool is_lost; /* it cannot be published: only FS_ABORT can come of it */
};
enum fs_decision fs_agent_vote(struct fs_agent *agent,
                               const struct fs_vote *vote,
                               unsigned timeout_ms,
                               struct base_err *err);

struct fs_agent_status {
    bool is_connected;
    uint64_t ordered; /* the newest generation that was; 0: none */
    char trouble[BASE_ERR_TEXT_BYTES]; /* why it is not shown; empty: it is */
};
void fs_agent_status(struct fs_agent *agent, struct fs_agent_status *ret);

#endif
