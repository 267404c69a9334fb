/* Texts made when a file below .retile/ is opened, and read through that
 * handle.  All are kept in one list, because handles that are open when the
 * mount ends are never released.  Any thread. */
#ifndef FUSE_SNAPSHOT_H
#define FUSE_SNAPSHOT_H

#include <pthread.h>

#include "base/str.h"

struct fs_snapshot {
    struct base_buf text; /* immutable once the handle is open */
    struct fs_snapshot *prev;
    struct fs_snapshot *next;
};

struct fs_snapshots {
    pthread_mutex_t lock;
    struct fs_snapshot *first; /* guarded by lock */
};

void fs_snapshots_init(struct fs_snapshots *snapshots);
/* Frees those that are left.  A zeroed object is fine. */
void fs_snapshots_done(struct fs_snapshots *snapshots);

/* An empty text of at most @max_bytes; NULL: no memory. */
struct fs_snapshot *fs_snapshot_add(struct fs_snapshots *snapshots,
                                    size_t max_bytes);
/* NULL is fine. */
void fs_snapshot_remove(struct fs_snapshots *snapshots,
                        struct fs_snapshot *snapshot);

#endif
