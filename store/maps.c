/* Maps of a source's blobs, made on first use, kept, and shared.
 *
 * The first touch of a page through a map costs a third of copying it, so a
 * file has one map in the process: what one version's readers have touched, the
 * next version finds, which after a rescale has the same blobs.  Sharing goes by
 * inode and size; a map holds its inode, so the number cannot come to mean
 * another file.
 *
 * Two threads that need a blob at once both get its map; the one that publishes
 * second gives it back.  The lock is held for a look and a system call, never
 * while a map is read: so a fault in a copy (store/guard.h) can never leave it
 * held. */
#include "store/maps.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/num.h"

enum { N_BUCKETS = 1024, UNMAP_BYTES = 8 << 20, BESIDE_BYTES = 64 << 20 };

/* A file that is mapped. */
struct shared {
    struct shared *next; /* of its bucket */
    dev_t dev;
    ino_t ino;
    uint64_t n_bytes;
    const uint8_t *bytes;
    uint64_t n_users;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *buckets[N_BUCKETS]; /* guarded by lock */

/* In place of a map: the blob has to be read. */
static struct shared unmappable;

struct store_maps {
    const struct store_source *source;
    uint32_t n;
    /* Per blob; NULL: not tried.  Written once, by compare-and-swap; a map does
     * not change once it is published. */
    _Atomic(struct shared *) blobs[];
};

/* Where a blob's map is listed, or would be.  Under the lock. */
static struct shared **shared_find(const struct store_blob *blob)
{
    struct shared **at = &buckets[blob->stat.st_ino % N_BUCKETS];

    while (*at != NULL && ((*at)->ino != blob->stat.st_ino ||
                           (*at)->dev != blob->stat.st_dev ||
                           (*at)->n_bytes != blob->n_bytes)) {
        at = &(*at)->next;
    }
    return at;
}

/* &unmappable, too, when there is no memory for it. */
static struct shared *shared_make(const struct store_blob *blob)
{
    struct shared *made = calloc(1, sizeof(*made));
    void *bytes;

    if (made == NULL) {
        return &unmappable;
    }
    bytes = mmap(NULL, blob->n_bytes, PROT_READ, MAP_SHARED, blob->fd, 0);
    if (bytes == MAP_FAILED) {
        free(made);
        return &unmappable;
    }
    *made = (struct shared){
        .dev = blob->stat.st_dev,
        .ino = blob->stat.st_ino,
        .n_bytes = blob->n_bytes,
        .bytes = bytes,
        .n_users = 1,
    };
    return made;
}

static struct shared *shared_get(const struct store_blob *blob)
{
    struct shared *shared = &unmappable;
    struct shared **at;

    if (blob->n_bytes == 0 || blob->n_bytes > SIZE_MAX) {
        return shared;
    }
    (void)pthread_mutex_lock(&lock); /* ours: cannot fail */
    at = shared_find(blob);
    if (*at != NULL) {
        shared = *at;
        shared->n_users++;
    } else {
        shared = shared_make(blob);
        if (shared != &unmappable) {
            *at = shared;
        }
    }
    (void)pthread_mutex_unlock(&lock);
    return shared;
}

/* Pages are let go first, in steps: munmap would do it with the process's
 * address space locked, and whatever else is mapped would wait. */
static void unmap(const uint8_t *bytes, uint64_t n_bytes)
{
    for (uint64_t at = 0; at < n_bytes; at += UNMAP_BYTES) {
        (void)madvise((void *)(uintptr_t)(bytes + at),
                      base_min_u64(UNMAP_BYTES, n_bytes - at),
                      MADV_DONTNEED); /* else munmap does it */
    }
    /* A failure leaves address space behind, no more. */
    (void)munmap((void *)(uintptr_t)bytes, n_bytes);
}

static void *unmap_all(void *ctx)
{
    struct shared *first = ctx;

    while (first != NULL) {
        struct shared *next = first->next;

        unmap(first->bytes, first->n_bytes);
        free(first);
        first = next;
    }
    return NULL;
}

/* Unmap a list.  What takes long goes by a thread that touches nothing else, so
 * nobody waits for its end: a mount lets a version go when it has to show the
 * next one. */
static void unmap_beside(struct shared *first)
{
    uint64_t n_bytes = 0;
    pthread_attr_t attr;
    pthread_t thread;
    int errnum;

    for (const struct shared *at = first; at != NULL; at = at->next) {
        n_bytes += at->n_bytes;
    }
    if (n_bytes < BESIDE_BYTES) {
        (void)unmap_all(first);
        return;
    }
    (void)pthread_attr_init(&attr); /* as the next: cannot fail here */
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    errnum = pthread_create(&thread, &attr, unmap_all, first);
    (void)pthread_attr_destroy(&attr);
    if (errnum != 0) {
        (void)unmap_all(first);
    }
}

/* What was its last use goes to the list @ended. */
static void shared_put(struct shared *shared, struct shared **ended)
{
    struct shared **at = &buckets[shared->ino % N_BUCKETS];
    bool is_last;

    if (shared == &unmappable) {
        return;
    }
    (void)pthread_mutex_lock(&lock);
    is_last = --shared->n_users == 0;
    if (is_last) {
        while (*at != shared) {
            at = &(*at)->next;
        }
        *at = shared->next;
    }
    (void)pthread_mutex_unlock(&lock);
    if (is_last) {
        shared->next = *ended;
        *ended = shared;
    }
}

/* What is mapped already is taken at once: who has it may be about to end. */
static void take_shared(struct store_maps *maps)
{
    (void)pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < maps->n; i++) {
        struct shared *shared =
            *shared_find(store_source_blob(maps->source, i));

        if (shared != NULL) {
            shared->n_users++;
            atomic_init(&maps->blobs[i], shared);
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

struct store_maps *store_maps_create(const struct store_source *source)
{
    uint32_t n = store_source_n_blobs(source);
    struct store_maps *maps =
        calloc(1, sizeof(*maps) + (size_t)n * sizeof(maps->blobs[0]));

    if (maps != NULL) {
        maps->source = source;
        maps->n = n;
        take_shared(maps);
    }
    return maps;
}

void store_maps_free(struct store_maps *maps)
{
    struct shared *ended = NULL;

    if (maps == NULL) {
        return;
    }
    for (uint32_t i = 0; i < maps->n; i++) {
        struct shared *shared = atomic_load(&maps->blobs[i]);

        if (shared != NULL) {
            shared_put(shared, &ended);
        }
    }
    unmap_beside(ended);
    free(maps);
}

const struct store_source *store_maps_source(const struct store_maps *maps)
{
    return maps->source;
}

const uint8_t *store_maps_get(struct store_maps *maps, uint32_t idx)
{
    struct shared *shared =
        atomic_load_explicit(&maps->blobs[idx], memory_order_acquire);

    if (shared == NULL) {
        struct shared *ours = shared_get(store_source_blob(maps->source, idx));
        struct shared *ended = NULL;

        if (atomic_compare_exchange_strong(&maps->blobs[idx], &shared, ours)) {
            shared = ours;
        } else {
            shared_put(ours, &ended);
            unmap_beside(ended); /* none: the other thread has it, too */
        }
    }
    return shared->bytes; /* NULL: unmappable */
}
