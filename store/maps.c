/* Maps of a source's blobs, made on first use and kept.
 *
 * Two threads that need a blob at once both map it; the one that publishes
 * second gives its map back.  So no thread waits, and a fault in a copy
 * (store/guard.h) can never leave a lock held. */
#include "store/maps.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

struct store_maps {
    const struct store_source *source;
    uint32_t n;
    /* Per blob: NULL not tried, UNMAPPABLE, or its first byte.  Written once,
     * by compare-and-swap; a map does not change once it is published. */
    _Atomic(const uint8_t *) bytes[];
};

static const uint8_t unmappable;
#define UNMAPPABLE (&unmappable)

struct store_maps *store_maps_create(const struct store_source *source)
{
    uint32_t n = store_source_n_blobs(source);
    struct store_maps *maps =
        calloc(1, sizeof(*maps) + (size_t)n * sizeof(maps->bytes[0]));

    if (maps != NULL) {
        maps->source = source;
        maps->n = n;
    }
    return maps;
}

static void blob_unmap(const uint8_t *bytes, uint64_t n_bytes)
{
    /* A failure leaves address space behind, no more. */
    (void)munmap((void *)(uintptr_t)bytes, n_bytes);
}

void store_maps_free(struct store_maps *maps)
{
    if (maps == NULL) {
        return;
    }
    for (uint32_t i = 0; i < maps->n; i++) {
        const uint8_t *bytes = atomic_load(&maps->bytes[i]);

        if (bytes != NULL && bytes != UNMAPPABLE) {
            blob_unmap(bytes, store_source_blob(maps->source, i)->n_bytes);
        }
    }
    free(maps);
}

const struct store_source *store_maps_source(const struct store_maps *maps)
{
    return maps->source;
}

static const uint8_t *blob_map(const struct store_blob *blob)
{
    void *bytes;

    if (blob->n_bytes == 0 || blob->n_bytes > SIZE_MAX) {
        return UNMAPPABLE;
    }
    bytes = mmap(NULL, blob->n_bytes, PROT_READ, MAP_SHARED, blob->fd, 0);
    return bytes == MAP_FAILED ? UNMAPPABLE : bytes;
}

const uint8_t *store_maps_get(struct store_maps *maps, uint32_t idx)
{
    const uint8_t *bytes =
        atomic_load_explicit(&maps->bytes[idx], memory_order_acquire);

    if (bytes == NULL) {
        const struct store_blob *blob = store_source_blob(maps->source, idx);
        const uint8_t *ours = blob_map(blob);

        if (atomic_compare_exchange_strong(&maps->bytes[idx], &bytes, ours)) {
            bytes = ours;
        } else if (ours != UNMAPPABLE) {
            blob_unmap(ours, blob->n_bytes);
        }
    }
    return bytes == UNMAPPABLE ? NULL : bytes;
}
