/* Texts made when a file below .retile/ is opened, and read through that
 * handle.  All are kept in one list, because handles that are open when the
 * mount ends are never released.  Any thread. */
#ifndef FUSE_SNAPSHOT_H
#define FUSE_SNAPSHOT_H

#include <pthread.h>
#include <stdint.h>

#include "base/str.h"

struct fs_snapshot {
    uint64_t id;
    struct base_buf text; /* immutable */
    struct fs_snapshot *prev;
    struct fs_snapshot *next;
};

struct fs_snapshots {
    pthread_mutex_t lock;
    /* Guarded by lock. */
    struct fs_snapshot *first;
    uint64_t last_id;
};

/* @incarnation: of the server; its ids are those of no other one. */
void fs_snapshots_init(struct fs_snapshots *snapshots, unsigned incarnation);
/* Frees those that are left.  A zeroed object is fine. */
void fs_snapshots_done(struct fs_snapshots *snapshots);

/* Keep @text (taken, also without success); NULL: no memory.  @id: 0, a new one;
 * or that of an earlier server's, which this one replaces, unless another thread
 * has done so: then it is what that one kept. */
struct fs_snapshot *fs_snapshot_add(struct fs_snapshots *snapshots,
                                    uint64_t id,
                                    struct base_buf *text);
/* The one with that id, valid until it is removed; NULL: there is none, since it
 * was an earlier server's. */
struct fs_snapshot *fs_snapshot_find(struct fs_snapshots *snapshots,
                                     uint64_t id);
/* NULL is fine. */
void fs_snapshot_remove(struct fs_snapshots *snapshots,
                        struct fs_snapshot *snapshot);

#endif
