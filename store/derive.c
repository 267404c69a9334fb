#include "store/derive.h"

#include <stdlib.h>

#include "store/digest.h"

void store_derived_done(struct store_derived *derived)
{
    free(derived->blobs);
    free(derived->regions);
    free(derived->chunks);
    free(derived->objects);
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a manifest");
}

/* Regions and their chunks, with the tensors' indices in @to (which has all
 * tensors of @from by name). */
static enum base_code copy_regions(struct store_derived *derived,
                                   const struct ptc_table *from,
                                   const struct ptc_table *to,
                                   struct base_err *err)
{
    uint32_t n = ptc_manifest_n_regions(derived->from);
    uint64_t n_chunks = 0;

    derived->regions = calloc((size_t)n + 1, sizeof(*derived->regions));
    if (derived->regions == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct ptc_manifest_region *region = &derived->regions[i];

        *region = ptc_manifest_region(derived->from, i);
        n_chunks += store_digest_n_chunks(region->n_bytes);
        if (region->tensor != PTC_NONE && from != to) {
            region->tensor = ptc_table_find(
                to, ptc_table_tensor(from, region->tensor)->name);
        }
    }
    derived->chunks = calloc((size_t)n_chunks + 1, sizeof(*derived->chunks));
    if (derived->chunks == NULL) {
        return no_mem(err);
    }
    n_chunks = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct ptc_manifest_region *region = &derived->regions[i];
        struct ptc_manifest_region old = ptc_manifest_region(derived->from, i);
        uint64_t n_own = store_digest_n_chunks(region->n_bytes);

        region->first_chunk = n_chunks;
        for (uint64_t k = 0; k < n_own; k++) {
            derived->chunks[n_chunks++] =
                ptc_manifest_chunk(derived->from, &old, k);
        }
    }
    derived->manifest.regions = derived->regions;
    derived->manifest.n_regions = n;
    derived->manifest.chunks = derived->chunks;
    derived->manifest.n_chunks = n_chunks;
    return BASE_OK;
}

enum base_code store_derive(struct store_derived *ret,
                            const struct ptc_manifest *from,
                            const struct ptc_table *old,
                            const struct ptc_table *table,
                            struct base_err *err)
{
    uint32_t n = ptc_manifest_n_blobs(from);

    ret->from = from;
    ret->blobs = calloc((size_t)n + 1, sizeof(*ret->blobs));
    if (ret->blobs == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n; i++) {
        ret->blobs[i] = ptc_manifest_blob(from, i);
    }
    ret->manifest.blobs = ret->blobs;
    ret->manifest.n_blobs = n;
    ret->manifest.table = table;
    ret->manifest.head = *ptc_manifest_head(from);
    return copy_regions(ret, old, table, err);
}

enum base_code store_derive_objects(struct store_derived *derived,
                                    struct base_err *err)
{
    uint32_t n = ptc_manifest_n_objects(derived->from);

    derived->objects = calloc((size_t)n + 1, sizeof(*derived->objects));
    if (derived->objects == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n; i++) {
        derived->objects[i] = ptc_manifest_object(derived->from, i);
    }
    derived->manifest.objects = derived->objects;
    derived->manifest.n_objects = n;
    return BASE_OK;
}
