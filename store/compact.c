/* Compaction: a version's bytes in new blobs, under a manifest that replaces its
 * own.
 *
 *   1. plan      the files of its layout; their room is reserved, and the
 *                store's lock given up until 5
 *   2. check     what is digested is compared: damage is not copied
 *   3. copy      and digest, as an import does; objects' blobs stay
 *   4. compare   old and new bytes: the old ones will be gone
 *   5. replace   the manifest, if it is still the one that was read
 *
 * Until 5 nothing of it can be seen; the old blobs go with the sweep, when no
 * reader has the old manifest. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fault.h"
#include "store/blob.h"
#include "store/compact_priv.h"
#include "store/derive.h"
#include "store/digest.h"
#include "store/source_priv.h"

enum { MAX_TRIES = 4 };

/* --- is it compact already? --------------------------------------------- */

struct list {
    BASE_VEC(struct ptc_piece) items;
};

static void list_done(struct list *list)
{
    base_vec_done(&list->items);
}

#define AUTO_LIST __attribute__((cleanup(list_done))) struct list

static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct list *list = ctx;

    (void)tensor;
    return base_vec_push(&list->items, *piece)
               ? BASE_OK
               : base_fail(err, BASE_NO_MEM, "cannot list pieces");
}

static bool is_same_piece(const struct ptc_piece *a, const struct ptc_piece *b)
{
    if (!ptc_box_eq(&a->box, &b->box) || a->offset != b->offset) {
        return false;
    }
    for (uint32_t d = 0; d < a->box.n_dims; d++) {
        if (a->stride[d] != b->stride[d]) {
            return false;
        }
    }
    return true;
}

/* Are the pieces of @tensor where the files would have them?  @blobs says which
 * blob stands for which file; PTC_NONE: none yet. */
static enum base_code is_same_tensor(const struct store_pack *pack,
                                     uint32_t tensor,
                                     uint32_t *blobs,
                                     bool *ret,
                                     struct base_err *err)
{
    const struct ptc_tensor *info =
        ptc_table_tensor(ptc_layout_table(pack->layout), tensor);
    struct ptc_box whole = ptc_box_whole(info->n_dims, info->shape);
    AUTO_LIST has = {0};
    AUTO_LIST wants = {0};

    *ret = true;
    if (info->tie != PTC_NONE) {
        return BASE_OK;
    }
    BASE_TRY(ptc_pieces_find(store_source_pieces(pack->source), tensor, &whole,
                             on_piece, &has, err));
    BASE_TRY(
        ptc_pieces_find(pack->pieces, tensor, &whole, on_piece, &wants, err));
    *ret = has.items.n == wants.items.n;
    for (size_t i = 0; i < has.items.n && *ret; i++) {
        const struct ptc_piece *a = &has.items.items[i];
        const struct ptc_piece *b = &wants.items.items[i];

        if (blobs[b->blob] == PTC_NONE) {
            blobs[b->blob] = a->blob;
        }
        *ret = is_same_piece(a, b) && blobs[b->blob] == a->blob;
    }
    return BASE_OK;
}

enum base_code store_pack_is_compact(const struct store_pack *pack,
                                     const struct ptc_manifest *manifest,
                                     bool *ret,
                                     struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(pack->layout);
    size_t n = pack->files.n;
    BASE_AUTO_MEM uint32_t *blobs = calloc(n + 1, sizeof(*blobs));
    uint32_t n_used;
    bool is_same = true;

    if (blobs == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot list blobs");
    }
    for (size_t i = 0; i < n; i++) {
        blobs[i] = PTC_NONE;
    }
    for (uint32_t t = 0; t < ptc_table_n_tensors(table) && is_same; t++) {
        BASE_TRY(is_same_tensor(pack, t, blobs, &is_same, err));
    }
    for (size_t i = 0; i < n && is_same; i++) {
        is_same = blobs[i] != PTC_NONE &&
                  ptc_manifest_blob(manifest, blobs[i]).n_bytes ==
                      ptc_file_n_bytes(pack->files.items[i]);
    }
    /* And no blob that nothing needs. */
    BASE_TRY(store_count_object_blobs(manifest, &n_used, err));
    *ret = is_same && n + n_used == ptc_manifest_n_blobs(manifest);
    return BASE_OK;
}

enum base_code store_count_object_blobs(const struct ptc_manifest *manifest,
                                        uint32_t *ret,
                                        struct base_err *err)
{
    uint32_t n = ptc_manifest_n_blobs(manifest);
    BASE_AUTO_MEM bool *is_used = calloc((size_t)n + 1, sizeof(*is_used));

    if (is_used == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot list blobs");
    }
    *ret = 0;
    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        uint32_t region = ptc_manifest_object(manifest, i).region;
        uint32_t blob = ptc_manifest_region(manifest, region).blob;

        *ret += !is_used[blob];
        is_used[blob] = true;
    }
    return BASE_OK;
}

/* --- checking ----------------------------------------------------------- */

/* Name the first chunk of a region that differs. */
static enum base_code tell_damage(const struct store_source *source,
                                  const struct store_derived *has,
                                  uint32_t idx,
                                  struct base_err *err)
{
    const struct ptc_manifest_region *region = &has->regions[idx];
    uint64_t n = store_digest_n_chunks(region->n_bytes);
    uint64_t i = 0;
    char text[STORE_BLOB_TEXT_BYTES];
    struct base_str owner = BASE_STR("an object, or a file's header");
    struct ptc_manifest_region old = ptc_manifest_region(has->from, idx);

    while (i + 1 < n &&
           base_digest_eq(has->chunks[region->first_chunk + i],
                          ptc_manifest_chunk(has->from, &old, i))) {
        i++;
    }
    if (region->tensor != PTC_NONE) {
        owner =
            ptc_table_tensor(store_source_table(source), region->tensor)->name;
    }
    return base_fail(
        err, BASE_MISMATCH,
        "%s: %.*s: bytes from %" PRIu64
        " of blob %s are not those of their digest; it is not compacted",
        store_source_path(source), BASE_STR_FMT(owner),
        region->offset + i * PTC_DIGEST_CHUNK_BYTES,
        store_blob_name_format(&has->blobs[region->blob].name, text));
}

/* All that is digested has its digest. */
static enum base_code check_bytes(const struct store_pack *pack,
                                  const struct ptc_manifest *manifest,
                                  struct base_err *err)
{
    const struct store_source *source = pack->source;
    const struct ptc_table *table = store_source_table(source);
    uint32_t n = ptc_manifest_n_blobs(manifest);
    BASE_AUTO_MEM int *fds = calloc((size_t)n + 1, sizeof(*fds));
    STORE_AUTO_DERIVED has = {0};
    struct store_digest_options digest = {.n_threads = pack->options->n_threads,
                                          .progress = pack->options->progress,
                                          .progress_ctx =
                                              pack->options->progress_ctx,
                                          .all_bytes = pack->all_bytes};

    if (fds == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot list blobs");
    }
    for (uint32_t i = 0; i < n; i++) {
        fds[i] = store_source_blob(source, i)->fd;
    }
    BASE_TRY(store_derive(&has, manifest, table, table, err));
    for (uint32_t i = 0; i < has.manifest.n_regions; i++) {
        has.regions[i].is_digested = !has.regions[i].is_digested;
    }
    BASE_TRY(store_digest_regions(fds, has.regions, has.manifest.n_regions,
                                  has.chunks, &digest, err));
    for (uint32_t i = 0; i < has.manifest.n_regions; i++) {
        struct ptc_manifest_region old = ptc_manifest_region(manifest, i);

        if (old.is_digested &&
            !base_digest_eq(old.digest, has.regions[i].digest)) {
            return tell_damage(source, &has, i, err);
        }
    }
    return base_fault_check(BASE_FAULT_compact_checked, err);
}

static bool on_compared(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    (void)all_bytes;
    return store_pack_progress(ctx, done_bytes);
}

/* What was digested is what was written, which need not be what was read: the
 * new blobs have the old ones' bytes. */
static enum base_code compare_new(struct store_pack *pack,
                                  struct store_source *fresh,
                                  struct base_err *err)
{
    const struct store_copy_options options = {.n_threads =
                                                   pack->options->n_threads,
                                               .progress = on_compared,
                                               .progress_ctx = pack};

    for (size_t i = 0; i < pack->files.n; i++) {
        const struct store_blob blob = {
            .label = "a new blob",
            .fd = pack->fds.items[i],
            .n_bytes = ptc_file_n_bytes(pack->files.items[i])};

        if (!base_vec_push(&fresh->blobs, blob)) {
            return base_fail(err, BASE_NO_MEM, "cannot list blobs");
        }
    }
    return store_compare(pack->source, store_source_pieces(pack->source), fresh,
                         pack->pieces, NULL, &options, err);
}

static enum base_code check_copy(struct store_pack *pack, struct base_err *err)
{
    struct store_source fresh = {0}; /* its descriptors are the change's */
    enum base_code code = compare_new(pack, &fresh, err);

    base_vec_done(&fresh.blobs);
    return code == BASE_OK ? code
                           : base_wrap(err, code, "%s: it is not compacted",
                                       store_source_path(pack->source));
}

/* --- compacting --------------------------------------------------------- */

static enum base_code replace(struct store_pack *pack,
                              struct store_change *change,
                              const struct ptc_manifest *old,
                              struct base_err *err)
{
    struct ptc_manifest_new manifest = store_draft_manifest(
        &pack->draft, store_source_table(pack->source), pack->pieces);

    manifest.head = *ptc_manifest_head(old);
    return store_change_replace(change, &manifest, manifest.head.version,
                                ptc_manifest_digest(old), err);
}

/* Bytes that check_bytes reads. */
static uint64_t digested_bytes(const struct ptc_manifest *manifest)
{
    uint64_t n_bytes = 0;

    for (uint32_t i = 0; i < ptc_manifest_n_regions(manifest); i++) {
        struct ptc_manifest_region region = ptc_manifest_region(manifest, i);

        n_bytes += region.is_digested ? region.n_bytes : 0;
    }
    return n_bytes; /* only shown: regions may overlap, and it wrap */
}

/* BASE_CHANGED: another replaced the manifest meanwhile. */
static enum base_code compact_once(struct store_root *root,
                                   const char *job,
                                   uint64_t number,
                                   const struct store_import_options *options,
                                   struct base_err *err)
{
    STORE_AUTO_PACK pack = {.options = options};
    BASE_AUTO(store_change) change = NULL;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    const struct ptc_manifest *manifest;
    bool is_compact = false;
    uint64_t checked;

    BASE_TRY(store_version_open(root, job, number, &version, err));
    manifest = store_version_manifest(version); /* the source keeps it */
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    BASE_TRY(store_pack_plan(&pack, source, err));
    BASE_TRY(store_pack_is_compact(&pack, manifest, &is_compact, err));
    if (is_compact) {
        return BASE_OK;
    }
    BASE_TRY(
        store_change_begin(root, job, pack.file_bytes, NULL, &change, err));
    if (store_version_is_replaced(root, source->version)) {
        return base_fail(err, BASE_CHANGED,
                         "%s: its manifest was replaced meanwhile",
                         store_source_path(source));
    }
    BASE_TRY(store_pack_make(&pack, change, manifest, err));
    BASE_TRY(store_change_unlock(change, err));
    checked = digested_bytes(manifest);
    pack.all_bytes = checked + 3 * pack.file_bytes;
    BASE_TRY(check_bytes(&pack, manifest, err));
    pack.begin_bytes = checked;
    BASE_TRY(store_pack_write(&pack, err));
    pack.begin_bytes += 2 * pack.file_bytes;
    BASE_TRY(check_copy(&pack, err));
    BASE_TRY(base_fault_check(BASE_FAULT_compact_copied, err));
    return replace(&pack, change, manifest, err);
}

enum base_code store_compact(struct store_root *root,
                             const char *job,
                             uint64_t number,
                             const struct store_import_options *options,
                             struct base_err *err)
{
    enum base_code code = BASE_CHANGED;

    for (unsigned i = 0; i < MAX_TRIES && code == BASE_CHANGED; i++) {
        code = compact_once(root, job, number, options, err);
    }
    return code;
}
