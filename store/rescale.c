/* Rescale, rollback and copy: a manifest made from another, over the same blobs.
 *
 * Nothing but manifests and tables is read or written, so the cost is that of
 * the manifest.  All regions and blobs of the old version stay named: what a
 * new tie or layout no longer shows is little, and scrub goes on to check it.
 */
#include <time.h>

#include "store/change.h"
#include "store/derive.h"
#include "store/source_priv.h"
#include "store/target_priv.h"
#include "store/vote_priv.h"

#define LAYOUT_MAX_BYTES ((size_t)PTC_SPEC_MAX_BYTES * 4)

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a manifest");
}

/* All of the old manifest but pieces and objects; @layout is borrowed. */
static enum base_code derive(struct store_derived *derived,
                             const struct store_version *version,
                             const struct ptc_table *to,
                             const char *origin,
                             struct base_str layout,
                             struct base_err *err)
{
    const struct ptc_manifest *from = store_version_manifest(version);
    struct timespec now = {0};

    BASE_TRY(
        store_derive(derived, from, store_version_table(version), to, err));
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    derived->manifest.head.parent = ptc_manifest_head(from)->version;
    derived->manifest.head.created_ns =
        (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    derived->manifest.head.layout = layout;
    derived->manifest.head.origin = base_str_of(origin);
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
static enum base_code move_objects(struct store_derived *derived,
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

/* Publish @source, a version, under another layout. */
static enum base_code publish(struct store_change *change,
                              const struct store_source *source,
                              struct ptc_spec **to,
                              void (*dropped)(void *ctx, const char *path),
                              void *ctx,
                              uint64_t *ret_number,
                              struct base_err *err)
{
    STORE_AUTO_DERIVED derived = {0};
    BASE_AUTO(store_target) target = NULL;
    BASE_AUTO_BUF layout;

    base_buf_init(&layout, LAYOUT_MAX_BYTES);
    BASE_TRY(store_target_open(source, to, &target, err));
    BASE_TRY(ptc_spec_format(ptc_layout_spec(store_target_layout(target)),
                             &layout, err));
    BASE_TRY(derive(&derived, source->version, store_target_table(target),
                    "rescale", base_buf_str(&layout), err));
    BASE_TRY(move_objects(&derived, target, err));
    derived.manifest.pieces = store_target_pieces(target);
    BASE_TRY(store_change_publish(change, &derived.manifest, ret_number, err));
    for (uint32_t i = 0; dropped != NULL && i < store_target_n_dropped(target);
         i++) {
        dropped(ctx, store_target_dropped(target, i));
    }
    return BASE_OK;
}

enum base_code store_rescale_source(struct store_root *root,
                                    const char *job,
                                    const struct store_source *source,
                                    struct ptc_spec **to,
                                    void (*dropped)(void *ctx,
                                                    const char *path),
                                    void *ctx,
                                    const struct store_attempt *attempt,
                                    uint64_t *ret_number,
                                    struct base_err *err)
{
    BASE_AUTO(store_change) change = NULL;
    uint64_t made = 0;

    BASE_TRY(
        store_vote_find(root, job, attempt, "rescale", UINT64_MAX, &made, err));
    if (made != 0) {
        ptc_spec_free(base_steal(to));
        *ret_number = made;
        return BASE_OK;
    }
    BASE_TRY(store_change_begin(root, job, 0, attempt, &change, err));
    return publish(change, source, to, dropped, ctx, ret_number, err);
}

enum base_code store_rescale(struct store_root *root,
                             const char *job,
                             uint64_t number,
                             struct ptc_spec **to,
                             void (*dropped)(void *ctx, const char *path),
                             void *ctx,
                             const struct store_attempt *attempt,
                             uint64_t *ret_number,
                             struct base_err *err)
{
    BASE_AUTO(store_change) change = NULL;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    uint64_t made = 0;

    BASE_TRY(
        store_vote_find(root, job, attempt, "rescale", UINT64_MAX, &made, err));
    if (made != 0) {
        ptc_spec_free(base_steal(to));
        *ret_number = made;
        return BASE_OK;
    }
    BASE_TRY(store_change_begin(root, job, 0, attempt, &change, err));
    BASE_TRY(store_version_open(root, job, number, &version, err));
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    return publish(change, source, to, dropped, ctx, ret_number, err);
}

/* A version of @from_job as the next one of @job, under its own layout. */
static enum base_code repeat(struct store_root *root,
                             const char *job,
                             const char *from_job,
                             uint64_t number,
                             const char *origin,
                             const struct store_attempt *attempt,
                             uint64_t *ret_number,
                             struct base_err *err)
{
    STORE_AUTO_DERIVED derived = {0};
    BASE_AUTO(store_change) change = NULL;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    const struct ptc_manifest *manifest;
    uint64_t made = 0;

    BASE_TRY(
        store_vote_find(root, job, attempt, origin, UINT64_MAX, &made, err));
    if (made != 0) {
        *ret_number = made;
        return BASE_OK;
    }
    BASE_TRY(store_change_begin(root, job, 0, attempt, &change, err));
    BASE_TRY(store_version_open(root, from_job, number, &version, err));
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    manifest = store_version_manifest(source->version);
    BASE_TRY(derive(&derived, source->version, store_source_table(source),
                    origin, ptc_manifest_head(manifest)->layout, err));
    if (from_job != job) { /* a number of another job's is no parent */
        derived.manifest.head.parent = 0;
    }
    BASE_TRY(store_derive_objects(&derived, err));
    derived.manifest.pieces = store_source_pieces(source);
    return store_change_publish(change, &derived.manifest, ret_number, err);
}

enum base_code store_rollback(struct store_root *root,
                              const char *job,
                              uint64_t number,
                              const struct store_attempt *attempt,
                              uint64_t *ret_number,
                              struct base_err *err)
{
    return repeat(root, job, job, number, "rollback", attempt, ret_number, err);
}

enum base_code store_copy_version(struct store_root *root,
                                  const char *job,
                                  const char *from_job,
                                  uint64_t number,
                                  const struct store_attempt *attempt,
                                  uint64_t *ret_number,
                                  struct base_err *err)
{
    return repeat(root, job, from_job, number, "copy", attempt, ret_number,
                  err);
}
