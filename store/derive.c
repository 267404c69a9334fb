#include "store/derive.h"

#include <stdlib.h>

#include "base/auto.h"
#include "store/blob.h"
#include "store/digest.h"
#include "store/root_priv.h"

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

/* --- digests that others have ------------------------------------------- */

/* One of our regions without digests, by where it lies. */
struct range {
    struct ptc_blob_name blob;
    uint64_t offset;
    uint64_t n_bytes;
    uint32_t region;
};

struct ranges {
    BASE_VEC(struct range) items; /* sorted */
    size_t n_left;                /* not found yet */
};

static void ranges_done(struct ranges *ranges)
{
    base_vec_done(&ranges->items);
}

static int range_cmp(const void *va, const void *vb)
{
    const struct range *a = va;
    const struct range *b = vb;
    int order = store_blob_name_cmp(&a->blob, &b->blob);

    if (order == 0) {
        order = (a->offset > b->offset) - (a->offset < b->offset);
    }
    return order != 0 ? order
                      : (a->n_bytes > b->n_bytes) - (a->n_bytes < b->n_bytes);
}

static enum base_code list_ranges(const struct store_derived *derived,
                                  struct ranges *ret,
                                  struct base_err *err)
{
    for (uint32_t i = 0; i < derived->manifest.n_regions; i++) {
        const struct ptc_manifest_region *region = &derived->regions[i];
        struct range range = {derived->blobs[region->blob].name, region->offset,
                              region->n_bytes, i};

        if (!region->is_digested && !base_vec_push(&ret->items, range)) {
            return no_mem(err);
        }
    }
    ret->n_left = ret->items.n;
    if (ret->items.n > 0) {
        qsort(ret->items.items, ret->items.n, sizeof(*ret->items.items),
              range_cmp);
    }
    return BASE_OK;
}

/* The first of ours that is not before @key. */
static size_t ranges_find(const struct ranges *ranges, const struct range *key)
{
    size_t begin = 0, end = ranges->items.n;

    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;

        if (range_cmp(&ranges->items.items[middle], key) < 0) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}

static void take_digests(struct store_derived *derived,
                         struct ranges *ranges,
                         const struct ptc_manifest *from)
{
    for (uint32_t i = 0; i < ptc_manifest_n_regions(from); i++) {
        struct ptc_manifest_region has = ptc_manifest_region(from, i);
        struct range key = {ptc_manifest_blob(from, has.blob).name, has.offset,
                            has.n_bytes, 0};
        uint64_t n = store_digest_n_chunks(has.n_bytes);

        for (size_t k = has.is_digested ? ranges_find(ranges, &key)
                                        : ranges->items.n;
             k < ranges->items.n &&
             range_cmp(&ranges->items.items[k], &key) == 0;
             k++) {
            struct ptc_manifest_region *to =
                &derived->regions[ranges->items.items[k].region];

            if (to->is_digested) {
                continue;
            }
            for (uint64_t c = 0; c < n; c++) {
                derived->chunks[to->first_chunk + c] =
                    ptc_manifest_chunk(from, &has, c);
            }
            to->digest = has.digest;
            to->is_digested = true;
            ranges->n_left--;
        }
    }
}

enum base_code store_derive_digests(struct store_derived *derived,
                                    const struct store_root *root,
                                    const char *job,
                                    struct base_err *err)
{
    __attribute__((cleanup(ranges_done))) struct ranges ranges = {0};
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;

    BASE_TRY(list_ranges(derived, &ranges, err));
    BASE_TRY(store_root_versions(root, job, &numbers, &n, err));
    for (; n > 0 && ranges.n_left > 0; n--) {
        BASE_AUTO(store_version) version = NULL;
        enum base_code code = store_version_open_manifest(
            root, job, numbers[n - 1], &version, err);

        if (code == BASE_NOT_FOUND || code == BASE_BAD_INPUT ||
            code == BASE_MISMATCH) { /* released meanwhile, or damaged */
            continue;
        }
        BASE_TRY(code);
        take_digests(derived, &ranges, store_version_manifest(version));
    }
    return BASE_OK;
}
