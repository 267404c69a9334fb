/* The table of open nodes lies in the handover; its index (chains by a hash of
 * the node's number) is made anew by each server. */
#include "fuse/passthrough.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "fuse/handover.h"

#define NONE UINT32_MAX

struct fs_backings {
    struct fs_handover *handover;
    pthread_mutex_t lock; /* guards all below, and the table's counts */
    uint32_t first[FS_HANDOVER_NODES]; /* by hash: a slot, or NONE */
    uint32_t next[FS_HANDOVER_NODES];  /* in its chain, or among the free */
    uint32_t free;
};

uint32_t fs_backing_open(struct fs *fs, int fd)
{
    if (fs->options->is_page_cache ||
        !fs_channel_has_passthrough(fs->channel)) {
        return 0;
    }
    return fs_channel_backing_open(fs->channel, fd);
}

void fs_backing_close(struct fs *fs, uint32_t backing_id)
{
    if (backing_id != 0) {
        fs_channel_backing_close(fs->channel, backing_id);
    }
}

/* The table. */

static uint32_t *chain_of(struct fs_backings *backings, uint64_t ino)
{
    return &backings->first[(ino * UINT64_C(0x9e3779b97f4a7c15) >> 32) %
                            FS_HANDOVER_NODES];
}

static void chain_add(struct fs_backings *backings, uint32_t slot)
{
    uint32_t *first = chain_of(backings, backings->handover->nodes[slot].ino);

    backings->next[slot] = *first;
    *first = slot;
}

static void free_add(struct fs_backings *backings, uint32_t slot)
{
    backings->next[slot] = backings->free;
    backings->free = slot;
}

struct fs_backings *fs_backings_create(struct fs_handover *handover)
{
    struct fs_backings *backings = calloc(1, sizeof(*backings));
    uint32_t slot;

    if (backings == NULL) {
        return NULL;
    }
    backings->handover = handover;
    (void)pthread_mutex_init(&backings->lock, NULL); /* never fails here */
    memset(backings->first, 0xff, sizeof(backings->first));
    backings->free = NONE;
    for (slot = FS_HANDOVER_NODES; slot-- > 0;) {
        if (handover->nodes[slot].ino != 0) {
            chain_add(backings, slot);
        } else {
            free_add(backings, slot);
        }
    }
    return backings;
}

void fs_backings_free(struct fs_backings *backings)
{
    if (backings != NULL) {
        (void)pthread_mutex_destroy(&backings->lock);
        free(backings);
    }
}

/* Lock held, as in all below.  NULL: it has no handle. */
static struct fs_open_node *find(struct fs_backings *backings, uint64_t ino)
{
    uint32_t slot = *chain_of(backings, ino);

    while (slot != NONE && backings->handover->nodes[slot].ino != ino) {
        slot = backings->next[slot];
    }
    return slot != NONE ? &backings->handover->nodes[slot] : NULL;
}

/* NULL: the table is full. */
static struct fs_open_node *
add(struct fs_backings *backings, uint64_t ino, uint32_t backing_id)
{
    uint32_t slot = backings->free;
    struct fs_open_node *node;

    if (slot == NONE) {
        return NULL;
    }
    backings->free = backings->next[slot];
    node = &backings->handover->nodes[slot];
    node->n_handles = 0;
    node->backing_id = backing_id;
    node->ino = ino;
    chain_add(backings, slot);
    return node;
}

static void drop(struct fs_backings *backings, struct fs_open_node *node)
{
    uint32_t slot = (uint32_t)(node - backings->handover->nodes);
    uint32_t *at = chain_of(backings, node->ino);

    while (*at != slot) {
        at = &backings->next[*at];
    }
    *at = backings->next[slot];
    node->ino = 0;
    free_add(backings, slot);
}

static struct fs_open_node *find_or_add(struct fs *fs, uint64_t ino, int fd)
{
    struct fs_handover *handover = fs->backings->handover;
    struct fs_open_node *node = find(fs->backings, ino);
    uint32_t id;

    if (node != NULL) {
        return node;
    }
    /* A node with handles that are not counted may be among those to come: its
     * id would be closed too early, and the kernel refuses another one. */
    id = fd >= 0 && !handover->was_full ? fs_backing_open(fs, fd) : 0;
    node = add(fs->backings, ino, id);
    if (node == NULL) {
        handover->was_full = true;
        fs_backing_close(fs, id);
    }
    return node;
}

uint32_t fs_backing_use(struct fs *fs, uint64_t ino, int fd, bool is_new)
{
    struct fs_backings *backings = fs->backings;
    struct fs_open_node *node;
    uint32_t id = 0;

    (void)pthread_mutex_lock(&backings->lock);
    node = find_or_add(fs, ino, fd);
    if (node != NULL) {
        node->n_handles += is_new || node->n_handles == 0 ? 1 : 0;
        id = (uint32_t)node->backing_id;
    }
    (void)pthread_mutex_unlock(&backings->lock);
    return id;
}

void fs_backing_release(struct fs *fs, uint64_t ino)
{
    struct fs_backings *backings = fs->backings;
    struct fs_open_node *node;

    (void)pthread_mutex_lock(&backings->lock);
    node = find(backings, ino);
    if (node != NULL) { /* else the table was full when it was opened */
        if (node->n_handles > 0) {
            node->n_handles--;
        }
        if (node->n_handles == 0) {
            const uint32_t id = (uint32_t)node->backing_id;

            /* First: a next server must not find an id that is closed. */
            drop(backings, node);
            fs_backing_close(fs, id);
        }
    }
    (void)pthread_mutex_unlock(&backings->lock);
}
