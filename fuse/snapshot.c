#include "fuse/snapshot.h"

#include <stdlib.h>

void fs_snapshots_init(struct fs_snapshots *snapshots, unsigned incarnation)
{
    snapshots->first = NULL;
    snapshots->last_id = (uint64_t)incarnation << 32;
    (void)pthread_mutex_init(&snapshots->lock, NULL); /* never fails here */
}

static void snapshot_free(struct fs_snapshot *snapshot)
{
    base_buf_done(&snapshot->text);
    free(snapshot);
}

void fs_snapshots_done(struct fs_snapshots *snapshots)
{
    struct fs_snapshot *snapshot;

    while ((snapshot = snapshots->first) != NULL) {
        snapshots->first = snapshot->next;
        snapshot_free(snapshot);
    }
    (void)pthread_mutex_destroy(&snapshots->lock);
}

/* Lock held. */
static struct fs_snapshot *find(const struct fs_snapshots *snapshots,
                                uint64_t id)
{
    struct fs_snapshot *snapshot = snapshots->first;

    while (snapshot != NULL && snapshot->id != id) {
        snapshot = snapshot->next;
    }
    return snapshot;
}

/* Lock held. */
static void insert(struct fs_snapshots *snapshots, struct fs_snapshot *snapshot)
{
    snapshot->next = snapshots->first;
    if (snapshot->next != NULL) {
        snapshot->next->prev = snapshot;
    }
    snapshots->first = snapshot;
}

struct fs_snapshot *fs_snapshot_add(struct fs_snapshots *snapshots,
                                    uint64_t id,
                                    struct base_buf *text)
{
    struct fs_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    struct fs_snapshot *other;

    if (snapshot == NULL) {
        base_buf_done(text);
        return NULL;
    }
    snapshot->text = *text;
    *text = (struct base_buf){0};
    (void)pthread_mutex_lock(&snapshots->lock);
    snapshot->id = id != 0 ? id : ++snapshots->last_id;
    other = find(snapshots, snapshot->id);
    if (other == NULL) {
        insert(snapshots, snapshot);
    }
    (void)pthread_mutex_unlock(&snapshots->lock);
    if (other != NULL) {
        snapshot_free(snapshot);
        return other;
    }
    return snapshot;
}

struct fs_snapshot *fs_snapshot_find(struct fs_snapshots *snapshots,
                                     uint64_t id)
{
    struct fs_snapshot *snapshot;

    (void)pthread_mutex_lock(&snapshots->lock);
    snapshot = find(snapshots, id);
    (void)pthread_mutex_unlock(&snapshots->lock);
    return snapshot;
}

void fs_snapshot_remove(struct fs_snapshots *snapshots,
                        struct fs_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&snapshots->lock);
    if (snapshot->prev != NULL) {
        snapshot->prev->next = snapshot->next;
    } else {
        snapshots->first = snapshot->next;
    }
    if (snapshot->next != NULL) {
        snapshot->next->prev = snapshot->prev;
    }
    (void)pthread_mutex_unlock(&snapshots->lock);
    snapshot_free(snapshot);
}
