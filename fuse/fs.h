/* A mount: what its operations share.  Made by main, freed after the session
 * has ended; everything it points at is safe for any thread. */
#ifndef FUSE_FS_H
#define FUSE_FS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "fuse/events.h"
#include "fuse/fuse_compat.h"
#include "fuse/line.h"
#include "fuse/options.h"
#include "fuse/snapshot.h"
#include "fuse/tree.h"
#include "fuse/versions.h"
#include "fuse/view_cache.h"
#include "fuse/watch.h"

#define FS_MAX_READ (1u << 20) /* the largest read request, in bytes */

struct fs_agent;
struct fs_backings;
struct fs_commit;
struct fs_daemon;
struct fs_handover;
struct fs_saves;
struct fs_upkeep;
struct fuse_session;

struct fs_stats {
    atomic_uint_fast64_t n_open; /* handles, now */
    atomic_uint_fast64_t n_opens;
    atomic_uint_fast64_t n_reads;
    atomic_uint_fast64_t n_failed_reads;
    atomic_uint_fast64_t n_bytes; /* served */
};

struct fs {
    const struct fs_options *options;
    struct fs_versions *versions;
    struct fs_watch *watch; /* of fs_session_run; NULL: nothing to watch */
    /* Of a mounted job, else NULL. */
    struct fs_agent *agent; /* NULL, too: without --agent */
    struct fs_commit *commit;
    struct fs_saves *saves;   /* the commit's; NULL: another mount's */
    struct fs_upkeep *upkeep; /* the commit's */
    struct fs_views *views;
    struct fs_events *events;
    struct fs_snapshots snapshots;
    struct fs_handover *handover; /* borrowed */
    struct fs_line line;          /* to the holder */
    struct fs_backings *backings; /* see fuse/passthrough.h */
    struct fs_channel *channel;   /* made by fs_session_run */
    struct fuse_session *session; /* borrowed from fs_session_run */
    struct fs_daemon *daemon;     /* borrowed: who waits for the mount */
    struct fs_stats stats;
    struct timespec started;
    uid_t uid; /* everybody's owner */
    gid_t gid;
    atomic_bool is_direct; /* tensors: direct I/O, else the page cache; both
                              can be mapped shared */
};

struct fs_holding;

/* Open what is to be shown and make all of the above but the session's; the
 * line of @holding is taken.
 * Errors: those of fs_versions_create. */
enum base_code fs_open(struct fs *fs,
                       const struct fs_options *options,
                       const struct fs_holding *holding,
                       struct base_err *err) BASE_MUST_CHECK;
void fs_close(struct fs *fs);

/* Append the status as one JSON document: what is shown, how, and what was
 * served. */
enum base_code fs_status_format(struct fs *fs,
                                struct base_buf *buf,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
