/* Named fault points, so that tests can make a program die or a call fail at
 * an exact place.  Off unless RETILE_FAULT is set:
 *
 *   RETILE_FAULT=NAME=ACTION[@N[+]][,...]   on the N-th pass, from 1 (default);
 *                                           N+: and on every one behind it
 *   ACTION: crash    SIGKILL to ourselves
 *           stop     SIGSTOP to ourselves; goes on at SIGCONT
 *           hang     the thread sleeps for RETILE_FAULT_HANG_S seconds (3600),
 *                    whatever signals come, then goes on; /proc/PID/wchan says
 *                    hrtimer_nanosleep
 *           slow:MS  sleeps so many milliseconds, then goes on
 *           error    the call fails with EIO
 *           nospace  the call fails with ENOSPC
 *           short    a read or write does half of what was asked
 *           corrupt  a read or write flips one bit of what it moved
 *
 * short and corrupt are for the points where bytes pass, BASE_FAULT_BYTES.
 * Passes are counted over a process and what it forks, so that a child that is
 * started anew does not die again of what killed the one before it.
 *
 * Every point is in the one list below: `retile fault ls` prints it, and an
 * unknown name, an action that the point cannot do, or a point armed twice is an
 * error at start. */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

/* name, where it is.  Add a line to add a point. */
#define BASE_FAULT_POINTS(X)                                                   \
    X(io_open, "io.open", "opening any file")                                  \
    X(io_read, "io.read", "reading file bytes")                                \
    X(io_write, "io.write", "writing file bytes")                              \
    X(io_sync, "io.sync", "fsync of a file or directory")                      \
    X(io_rename, "io.rename", "a rename")                                      \
    X(convert_tmp, "convert.tmp", "the temporary directory was made")          \
    X(convert_files, "convert.files", "all files exist, none has data")        \
    X(convert_block, "convert.block", "before each block of data")             \
    X(convert_synced, "convert.synced", "all is on disk, not yet renamed")     \
    X(convert_renamed, "convert.renamed", "DST exists, parent not synced")     \
    X(store_blob, "store.blob", "a blob was reserved in staging")              \
    X(store_unlocked, "store.unlocked", "blobs are copied without the lock")   \
    X(store_sealed, "store.sealed", "blobs are on disk, not in blobs/")        \
    X(store_publish, "store.publish", "all but the version's rename is done")  \
    X(store_published, "store.published", "renamed, its parent not synced")    \
    X(vote_made, "vote.made", "all of an attempt is there but its vote")       \
    X(vote_voted, "vote.voted", "the vote is there, not synced")               \
    X(vote_publish, "vote.publish", "before a vote's version is renamed")      \
    X(vote_published, "vote.published", "renamed, its vote not removed")       \
    X(vote_removed, "vote.removed", "a vote was renamed away")                 \
    X(store_replace, "store.replace", "all but the manifest's rename is done") \
    X(store_linked, "store.linked", "the old manifest has a second name")      \
    X(store_replaced, "store.replaced", "renamed, its directory not synced")   \
    X(compact_checked, "compact.checked", "old bytes are as digested")         \
    X(compact_copied, "compact.copied", "all is in new blobs, none is named")  \
    X(digest_done, "digest.done", "all is digested, nothing is replaced")      \
    X(save_checked, "save.checked", "a save is good, nothing is published")    \
    X(save_adopted, "save.adopted", "a staged file has a blob's name")         \
    X(save_published, "save.published", "a save is a version")                 \
    X(save_finish, "save.finish", "a save is digested, its files not removed") \
    X(store_release, "store.release", "a version was renamed away")            \
    X(store_sweep, "store.sweep", "before each file is removed")               \
    X(mount_read, "mount.read", "before a read is answered")                   \
    X(mount_open, "mount.open", "before an open is answered")                  \
    X(mount_write, "mount.write", "before bytes are written to a save")        \
    X(mount_change, "mount.change", "before a name in a save is changed")      \
    X(mount_changed, "mount.changed", "it was changed, and not answered")      \
    X(mount_commit, "mount.commit", "writers are gone, the store not asked")   \
    X(mount_opened, "mount.opened", "an attempt was given, its step not made") \
    X(mount_voted, "mount.voted", "the vote is there, nobody was asked")       \
    X(mount_decided, "mount.decided", "it is decided, nothing was done")       \
    X(mount_committed, "mount.committed", "published, nobody was told")        \
    X(agent_mounting, "agent.mounting", "a mount was started")                 \
    X(agent_prepared, "agent.prepared", "a generation is, nobody was told")    \
    X(agent_started, "agent.started", "written, its launcher was not told")    \
    X(agent_voted, "agent.voted", "a vote is there, nobody was asked")         \
    X(agent_publish, "agent.publish", "it is decided, nothing is published")   \
    X(agent_published, "agent.published", "published, nobody was told")        \
    X(agent_removed, "agent.removed", "a job is gone, nobody was told")        \
    X(coordinator_commit, "coordinator.commit", "stepped, nothing is written") \
    X(coordinator_committed, "coordinator.committed",                          \
      "written, nobody was told")

/* The points where bytes pass: they can be halved and corrupted, too. */
#define BASE_FAULT_BYTES(X)                                                    \
    X(io_read)                                                                 \
    X(io_write)

enum base_fault_point {
#define X(id, name, where) BASE_FAULT_##id,
    BASE_FAULT_POINTS(X)
#undef X
        BASE_FAULT_N
};

/* What is left to the caller. */
enum base_fault_action {
    BASE_FAULT_NONE,
    BASE_FAULT_ERROR,   /* behave as if the call failed with EIO */
    BASE_FAULT_NOSPACE, /* ... with ENOSPC */
    BASE_FAULT_SHORT,   /* do half */
    BASE_FAULT_CORRUPT, /* flip a bit: base_fault_flip */
};

const char *base_fault_name(enum base_fault_point point);
const char *base_fault_where(enum base_fault_point point);

/* The name of the i-th action that @point can do; NULL: no more. */
const char *base_fault_action_name(enum base_fault_point point, unsigned i);

/* Read RETILE_FAULT.  Call once from main, before threads.
 * Errors: BASE_BAD_ARG  unknown name or action (the text names both)
 *         BASE_NO_MEM */
enum base_code base_fault_init(struct base_err *err) BASE_MUST_CHECK;

extern bool base_fault_is_armed; /* read only; set by base_fault_init */
enum base_fault_action base_fault_pass_(enum base_fault_point point);

/* Pass a point: does not return when it is armed with crash, and sleeps here
 * for hang, slow and stop.  Any thread.
 * Cost when nothing is armed: one predictable branch. */
static inline enum base_fault_action base_fault(enum base_fault_point point)
{
    if (__builtin_expect(!base_fault_is_armed, 1)) {
        return BASE_FAULT_NONE;
    }
    return base_fault_pass_(point);
}

/* Flip one bit in the middle of @n bytes; none when there are none. */
void base_fault_flip(void *bytes, size_t n);

/* Pass a point that has no call to fail: error and nospace become a code. */
enum base_code base_fault_check(enum base_fault_point point,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
