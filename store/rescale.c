/* Rescale and rollback: a manifest made from another, over the same blobs.
 *
 * Nothing but manifests and tables is read or written, so the cost is that of
 * the manifest.  All regions and blobs of the old version stay named: what a
 * new tie or layout no longer shows is little, and scrub goes on to check it.
 */
#include <time.h>

#include "store/change.h"
#include "store/digest.h"
#include "store/target_priv.h"

#define LAYOUT_MAX_BYTES ((size_t)PTC_SPEC_MAX_BYTES * 4)

/* The arrays of a manifest to be; the rest is borrowed from the old one. */
struct derived {
    const struct ptc_manifest *from;
    struct ptc_manifest_blob *blobs;
    struct ptc_manifest_region *regions;
    struct base_digest *chunks;
    struct ptc_manifest_object *objects;
    struct ptc_manifest_new manifest;
};

static void derived_done(struct derived *derived)
{
    free(derived->blobs);
    free(derived->regions);
    free(derived->chunks);
    free(derived->objects);
}

#define AUTO_DERIVED __attribute__((cleanup(derived_done))) struct derived

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a manifest");
}

/* Regions and their chunks, with the tensors' indices in @to (which has all
 * tensors of @from by name). */
static enum base_code copy_regions(struct derived *derived,
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

/* All of the old manifest but pieces and objects; @layout is borrowed. */
static enum base_code derive(struct derived *derived,
                             const struct ptc_table *from,
                             const struct ptc_table *to,
                             const char *origin,
                             struct base_str layout,
                             struct base_err *err)
{
    const struct ptc_manifest_head *old = ptc_manifest_head(derived->from);
    uint32_t n = ptc_manifest_n_blobs(derived->from);
    struct timespec now = {0};

    derived->blobs = calloc((size_t)n + 1, sizeof(*derived->blobs));
    if (derived->blobs == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n; i++) {
        derived->blobs[i] = ptc_manifest_blob(derived->from, i);
    }
    derived->manifest.blobs = derived->blobs;
    derived->manifest.n_blobs = n;
    BASE_TRY(copy_regions(derived, from, to, err));
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    derived->manifest.table = to;
    derived->manifest.head = (struct ptc_manifest_head){
        .parent = old->version,
        .step = old->step,
        .samples = old->samples,
        .created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec,
        .table = ptc_table_digest(to),
        .layout = layout,
        .origin = base_str_of(origin)};
    return BASE_OK;
}

/* Every object of the old version. */
static enum base_code keep_objects(struct derived *derived,
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

static int object_cmp(const void *va, const void *vb)
{
    const struct ptc_manifest_object *a = va;
    const struct ptc_manifest_object *b = vb;
    int order = base_str_cmp(a->name, b->name);

    return order != 0 ? order : (a->rank > b->rank) - (a->rank < b->rank);
}

/* The job's objects, and those of ranks where the target shows them.  A
 * version's source has its objects in the manifest's order. */
static enum base_code move_objects(struct derived *derived,
                                   const struct store_target *target,
                                   struct base_err *err)
{
    uint32_t n_old = ptc_manifest_n_objects(derived->from);
    uint32_t n = 0;

    derived->objects =
        calloc(n_old + target->rank_objects.n + 1, sizeof(*derived->objects));
    if (derived->objects == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n_old; i++) {
        struct ptc_manifest_object old = ptc_manifest_object(derived->from, i);

        if (old.rank == PTC_NONE) {
            derived->objects[n++] = old;
        }
    }
    for (size_t i = 0; i < target->rank_objects.n; i++) {
        const struct store_rank_object *shown = &target->rank_objects.items[i];
        struct ptc_manifest_object object =
            ptc_manifest_object(derived->from, shown->object);

        object.rank = shown->rank;
        derived->objects[n++] = object;
    }
    qsort(derived->objects, n, sizeof(*derived->objects), object_cmp);
    derived->manifest.objects = derived->objects;
    derived->manifest.n_objects = n;
    return BASE_OK;
}

enum base_code store_rescale(struct store_root *root,
                             const char *job,
                             uint64_t number,
                             struct ptc_spec **to,
                             void (*dropped)(void *ctx, const char *path),
                             void *ctx,
                             uint64_t *ret_number,
                             struct base_err *err)
{
    AUTO_DERIVED derived = {0};
    BASE_AUTO(store_change) change = NULL;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(store_target) target = NULL;
    BASE_AUTO_BUF layout;

    base_buf_init(&layout, LAYOUT_MAX_BYTES);
    BASE_TRY(store_change_begin(root, job, 0, &change, err));
    BASE_TRY(store_version_open(root, job, number, &version, err));
    derived.from = store_version_manifest(version); /* the source keeps it */
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    BASE_TRY(store_target_open(source, to, &target, err));
    BASE_TRY(ptc_spec_format(ptc_layout_spec(store_target_layout(target)),
                             &layout, err));
    BASE_TRY(derive(&derived, store_source_table(source),
                    store_target_table(target), "rescale",
                    base_buf_str(&layout), err));
    BASE_TRY(move_objects(&derived, target, err));
    derived.manifest.pieces = store_target_pieces(target);
    BASE_TRY(store_change_publish(change, &derived.manifest, ret_number, err));
    for (uint32_t i = 0; dropped != NULL && i < store_target_n_dropped(target);
         i++) {
        dropped(ctx, store_target_dropped(target, i));
    }
    return BASE_OK;
}

enum base_code store_rollback(struct store_root *root,
                              const char *job,
                              uint64_t number,
                              uint64_t *ret_number,
                              struct base_err *err)
{
    AUTO_DERIVED derived = {0};
    BASE_AUTO(store_change) change = NULL;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    const struct ptc_table *table;

    BASE_TRY(store_change_begin(root, job, 0, &change, err));
    BASE_TRY(store_version_open(root, job, number, &version, err));
    derived.from = store_version_manifest(version); /* the source keeps it */
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    table = store_source_table(source);
    BASE_TRY(derive(&derived, table, table, "rollback",
                    ptc_manifest_head(derived.from)->layout, err));
    BASE_TRY(keep_objects(&derived, err));
    derived.manifest.pieces = store_source_pieces(source);
    return store_change_publish(change, &derived.manifest, ret_number, err);
}
