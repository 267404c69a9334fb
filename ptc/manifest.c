/* Writing a manifest, and reading one that ptc/manifest_open.c has checked. */
#include "ptc/manifest.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/manifest_impl.h"
#include "ptc/pieces_impl.h"

_Static_assert(sizeof(struct base_digest) == PTC_MANIFEST_CHUNKS_RECORD,
               "digests are hashed as they lie in a manifest");

/* ---- Writing ---- */

static unsigned char *put_u32(unsigned char *at, uint32_t value)
{
    for (unsigned i = 0; i < 4; i++) {
        at[i] = (unsigned char)(value >> (8 * i));
    }
    return at + 4;
}

static unsigned char *put_u64(unsigned char *at, uint64_t value)
{
    return put_u32(put_u32(at, (uint32_t)value), (uint32_t)(value >> 32));
}

static unsigned char *put_bytes(unsigned char *at, const void *bytes, size_t n)
{
    if (n > 0) {
        memcpy(at, bytes, n);
    }
    return at + n;
}

/* Where everything goes. */
struct plan {
    uint64_t at[PTC_MANIFEST_N_SECTIONS]; /* bytes */
    uint64_t n[PTC_MANIFEST_N_SECTIONS];  /* records */
    uint64_t n_bytes;
};

static bool is_same_name(const struct ptc_manifest_new *from, uint32_t object)
{
    return object > 0 && base_str_eq(from->objects[object - 1].name,
                                     from->objects[object].name);
}

static enum base_code plan_make(const struct ptc_manifest_new *from,
                                struct plan *ret,
                                struct base_err *err)
{
    static const uint64_t record_bytes[] = {
#define X(id, name, n_bytes) n_bytes,
        PTC_MANIFEST_SECTIONS(X)
#undef X
    };
    uint64_t at = PTC_MANIFEST_HEADER_BYTES;
    uint64_t *n = ret->n;

    *ret = (struct plan){0};
    n[PTC_MANIFEST_BLOBS] = from->n_blobs;
    n[PTC_MANIFEST_TENSORS] = ptc_table_n_tensors(from->table);
    n[PTC_MANIFEST_PIECES] = from->pieces->words.n;
    n[PTC_MANIFEST_REGIONS] = from->n_regions;
    n[PTC_MANIFEST_CHUNKS] = from->n_chunks;
    n[PTC_MANIFEST_OBJECTS] = from->n_objects;
    n[PTC_MANIFEST_TEXTS] = from->head.layout.len + from->head.origin.len;
    for (uint32_t i = 0; i < from->n_objects; i++) {
        n[PTC_MANIFEST_TEXTS] +=
            is_same_name(from, i) ? 0 : from->objects[i].name.len;
    }
    for (unsigned s = 0; s < PTC_MANIFEST_N_SECTIONS; s++) {
        ret->at[s] = at;
        if (n[s] > PTC_MANIFEST_MAX_BYTES) {
            at = UINT64_MAX;
            break;
        }
        at += n[s] * record_bytes[s];
    }
    ret->n_bytes = at > PTC_MANIFEST_MAX_BYTES
                       ? at
                       : base_ceil_div(at, 8) * 8 + PTC_MANIFEST_END_BYTES;
    if (ret->n_bytes > PTC_MANIFEST_MAX_BYTES) {
        return base_fail(err, BASE_LIMIT,
                         "the manifest would have more than %" PRIu64 " bytes",
                         PTC_MANIFEST_MAX_BYTES);
    }
    return BASE_OK;
}

static void put_header(const struct ptc_manifest_new *from,
                       const struct plan *plan,
                       unsigned char *at)
{
    const struct ptc_manifest_head *head = &from->head;
    struct base_digest table = ptc_table_digest(from->table);

    at = put_bytes(at, PTC_MANIFEST_MAGIC, 8);
    at = put_u32(at, PTC_MANIFEST_FORMAT);
    at = put_u32(at, 0);
    at = put_u64(at, plan->n_bytes);
    at = put_u64(at, head->version);
    at = put_u64(at, head->parent);
    at = put_u64(at, head->step);
    at = put_u64(at, head->samples);
    at = put_u64(at, (uint64_t)head->created_ns);
    at = put_bytes(at, table.bytes, sizeof(table.bytes));
    for (unsigned s = 0; s < PTC_MANIFEST_N_SECTIONS; s++) {
        at = put_u64(at, plan->at[s]);
        at = put_u64(at, plan->n[s]);
    }
    at = put_u32(at, 0);
    at = put_u32(at, (uint32_t)head->layout.len);
    at = put_u32(at, (uint32_t)head->layout.len);
    (void)put_u32(at, (uint32_t)head->origin.len); /* the header's end */
}

static unsigned char *put_tensors(const struct ptc_manifest_new *from,
                                  unsigned char *at)
{
    uint64_t first_word = 0;

    for (uint32_t t = 0; t < ptc_table_n_tensors(from->table); t++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(from->table, t);
        struct ptc_records run = ptc_records_of(from->pieces, t);

        at = put_u64(at, first_word);
        at = put_u64(at, run.n);
        at = put_u32(at, run.n_dims);
        at = put_u32(at, ptc_dtype_bits(tensor->dtype));
        first_word += run.n * run.n_words;
    }
    for (uint64_t w = 0; w < from->pieces->words.n; w++) {
        at = put_u64(at, from->pieces->words.items[w]);
    }
    return at;
}

static unsigned char *put_regions(const struct ptc_manifest_new *from,
                                  unsigned char *at)
{
    for (uint32_t i = 0; i < from->n_regions; i++) {
        const struct ptc_manifest_region *region = &from->regions[i];

        at = put_u32(at, region->tensor);
        at = put_u32(at, region->blob);
        at = put_u64(at, region->offset);
        at = put_u64(at, region->n_bytes);
        at = put_u64(at, region->first_chunk);
        at = put_bytes(at, region->digest.bytes, sizeof(region->digest.bytes));
        at = put_u32(at, region->is_digested ? PTC_MANIFEST_IS_DIGESTED : 0);
        at = put_u32(at, 0);
    }
    return put_bytes(at, from->chunks,
                     (size_t)from->n_chunks * sizeof(*from->chunks));
}

/* The objects, then all texts.  Names that are equal share one text. */
static unsigned char *put_objects(const struct ptc_manifest_new *from,
                                  unsigned char *at)
{
    size_t end = from->head.layout.len + from->head.origin.len;
    size_t begin = end;

    for (uint32_t i = 0; i < from->n_objects; i++) {
        const struct ptc_manifest_object *object = &from->objects[i];

        if (!is_same_name(from, i)) {
            begin = end;
            end += object->name.len;
        }
        at = put_u32(at, (uint32_t)begin);
        at = put_u32(at, (uint32_t)object->name.len);
        at = put_u32(at, object->rank);
        at = put_u32(at, object->region);
    }
    at = put_bytes(at, from->head.layout.ptr, from->head.layout.len);
    at = put_bytes(at, from->head.origin.ptr, from->head.origin.len);
    for (uint32_t i = 0; i < from->n_objects; i++) {
        if (!is_same_name(from, i)) {
            at = put_bytes(at, from->objects[i].name.ptr,
                           from->objects[i].name.len);
        }
    }
    return at;
}

static void put_all(const struct ptc_manifest_new *from,
                    const struct plan *plan,
                    unsigned char *bytes)
{
    size_t n = (size_t)plan->n_bytes - PTC_MANIFEST_END_BYTES;
    unsigned char *at = bytes + PTC_MANIFEST_HEADER_BYTES;
    struct base_digest digest;

    put_header(from, plan, bytes);
    for (uint32_t i = 0; i < from->n_blobs; i++) {
        at = put_bytes(at, from->blobs[i].name.bytes,
                       sizeof(from->blobs[i].name.bytes));
        at = put_u64(at, from->blobs[i].n_bytes);
    }
    at = put_tensors(from, at);
    at = put_regions(from, at);
    at = put_objects(from, at);
    memset(at, 0, (size_t)(bytes + n - at));
    digest = base_digest_of(bytes, n);
    (void)put_bytes(bytes + n, digest.bytes, sizeof(digest.bytes)); /* end */
}

enum base_code ptc_manifest_encode(const struct ptc_manifest_new *from,
                                   struct base_buf *buf,
                                   struct base_err *err)
{
    BASE_AUTO_MEM unsigned char *bytes = NULL;
    BASE_AUTO(ptc_manifest) check = NULL;
    struct base_str text;
    struct plan plan;
    enum base_code rc;

    assert(ptc_pieces_table(from->pieces) == from->table);
    assert(from->pieces->is_sealed);
    BASE_TRY(plan_make(from, &plan, err));
    bytes = malloc((size_t)plan.n_bytes);
    if (bytes == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a manifest");
    }
    put_all(from, &plan, bytes);
    /* What cannot be opened must not be published. */
    text = (struct base_str){(const char *)bytes, (size_t)plan.n_bytes};
    rc = ptc_manifest_open(text, "new version", &check, err);
    if (rc == BASE_BAD_INPUT) {
        return base_wrap(err, BASE_BAD_ARG, "cannot encode");
    }
    BASE_TRY(rc);
    (void)base_buf_add_str(buf, text); /* sticky */
    return base_buf_check(buf, err);
}

/* ---- Reading ---- */

void ptc_manifest_free(struct ptc_manifest *manifest)
{
    if (manifest == NULL) {
        return;
    }
    free(manifest->origin);
    free(manifest);
}

const struct ptc_manifest_head *
ptc_manifest_head(const struct ptc_manifest *manifest)
{
    return &manifest->head;
}

struct base_digest ptc_manifest_digest(const struct ptc_manifest *manifest)
{
    const unsigned char *at = manifest->bytes;
    struct base_digest digest;

    at += ptc_manifest_u64(at + PTC_MANIFEST_AT_N_BYTES);
    memcpy(digest.bytes, at - PTC_MANIFEST_END_BYTES, sizeof(digest.bytes));
    return digest;
}

uint32_t ptc_manifest_n_blobs(const struct ptc_manifest *manifest)
{
    return (uint32_t)manifest->n[PTC_MANIFEST_BLOBS];
}

struct ptc_manifest_blob ptc_manifest_blob(const struct ptc_manifest *manifest,
                                           uint32_t idx)
{
    const unsigned char *at = manifest->at[PTC_MANIFEST_BLOBS] +
                              (size_t)idx * PTC_MANIFEST_BLOBS_RECORD;
    struct ptc_manifest_blob blob = {.n_bytes = ptc_manifest_u64(at + 16)};

    assert(idx < manifest->n[PTC_MANIFEST_BLOBS]);
    memcpy(blob.name.bytes, at, sizeof(blob.name.bytes));
    return blob;
}

uint32_t ptc_manifest_n_regions(const struct ptc_manifest *manifest)
{
    return (uint32_t)manifest->n[PTC_MANIFEST_REGIONS];
}

struct ptc_manifest_region
ptc_manifest_region(const struct ptc_manifest *manifest, uint32_t idx)
{
    const unsigned char *at = manifest->at[PTC_MANIFEST_REGIONS] +
                              (size_t)idx * PTC_MANIFEST_REGIONS_RECORD;
    struct ptc_manifest_region region = {
        .tensor = ptc_manifest_u32(at),
        .blob = ptc_manifest_u32(at + 4),
        .offset = ptc_manifest_u64(at + 8),
        .n_bytes = ptc_manifest_u64(at + 16),
        .first_chunk = ptc_manifest_u64(at + 24),
        .is_digested = ptc_manifest_u32(at + 48) == PTC_MANIFEST_IS_DIGESTED,
    };

    assert(idx < manifest->n[PTC_MANIFEST_REGIONS]);
    memcpy(region.digest.bytes, at + 32, sizeof(region.digest.bytes));
    return region;
}

struct base_digest ptc_manifest_chunk(const struct ptc_manifest *manifest,
                                      const struct ptc_manifest_region *region,
                                      uint64_t idx)
{
    struct base_digest digest;

    assert(region->first_chunk + idx < manifest->n[PTC_MANIFEST_CHUNKS]);
    memcpy(digest.bytes,
           manifest->at[PTC_MANIFEST_CHUNKS] +
               (region->first_chunk + idx) * PTC_MANIFEST_CHUNKS_RECORD,
           sizeof(digest.bytes));
    return digest;
}

uint32_t ptc_manifest_undigested(const struct ptc_manifest *manifest,
                                 uint64_t *ret_bytes)
{
    uint64_t n_bytes = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < ptc_manifest_n_regions(manifest); i++) {
        struct ptc_manifest_region region = ptc_manifest_region(manifest, i);

        if (!region.is_digested) {
            n++;
            if (!base_add_u64(n_bytes, region.n_bytes, &n_bytes)) {
                n_bytes = UINT64_MAX; /* ranges may overlap */
            }
        }
    }
    *ret_bytes = n_bytes;
    return n;
}

uint32_t ptc_manifest_n_objects(const struct ptc_manifest *manifest)
{
    return (uint32_t)manifest->n[PTC_MANIFEST_OBJECTS];
}

struct ptc_manifest_object
ptc_manifest_object(const struct ptc_manifest *manifest, uint32_t idx)
{
    const unsigned char *at = manifest->at[PTC_MANIFEST_OBJECTS] +
                              (size_t)idx * PTC_MANIFEST_OBJECTS_RECORD;
    const unsigned char *texts = manifest->at[PTC_MANIFEST_TEXTS];

    assert(idx < manifest->n[PTC_MANIFEST_OBJECTS]);
    return (struct ptc_manifest_object){
        .name = {(const char *)texts + ptc_manifest_u32(at),
                 ptc_manifest_u32(at + 4)},
        .rank = ptc_manifest_u32(at + 8),
        .region = ptc_manifest_u32(at + 12),
    };
}

/* ---- Pieces ---- */

/* The span does not overflow: it lies in the blob. */
static struct ptc_manifest_extent
extent_of(const struct ptc_manifest *manifest,
          const struct ptc_manifest_tensor *tensor,
          uint64_t word)
{
    uint32_t n_dims = tensor->n_dims;
    bool is_bytes = tensor->n_bits % 8 == 0;
    uint64_t unit = is_bytes ? tensor->n_bits / 8 : tensor->n_bits;
    struct ptc_manifest_extent extent = {.span_bytes = unit, .n_bytes = unit};

    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t n = ptc_manifest_word(manifest, word + n_dims + d) -
                     ptc_manifest_word(manifest, word + d);
        uint64_t stride =
            ptc_manifest_word(manifest, word + 2 * (uint64_t)n_dims + d);

        extent.span_bytes += (n - 1) * stride;
        if (!base_mul_u64(extent.n_bytes, n, &extent.n_bytes)) {
            extent.n_bytes = UINT64_MAX; /* elements of stride 0 */
        }
    }
    if (!is_bytes) {
        extent.span_bytes = base_ceil_div(extent.span_bytes, 8);
        extent.n_bytes = base_ceil_div(extent.n_bytes, 8);
    }
    extent.n_bytes = base_min_u64(extent.n_bytes, extent.span_bytes);
    extent.offset = ptc_manifest_word(manifest, word + 3 * (uint64_t)n_dims);
    extent.blob =
        (uint32_t)ptc_manifest_word(manifest, word + 3 * (uint64_t)n_dims + 1);
    return extent;
}

enum base_code ptc_manifest_extents(const struct ptc_manifest *manifest,
                                    ptc_manifest_extent_fn fn,
                                    void *ctx,
                                    struct base_err *err)
{
    for (uint64_t t = 0; t < manifest->n[PTC_MANIFEST_TENSORS]; t++) {
        struct ptc_manifest_tensor tensor = ptc_manifest_tensor(manifest, t);
        uint32_t n_words = ptc_record_words(tensor.n_dims);

        for (uint64_t i = 0; i < tensor.n_pieces; i++) {
            struct ptc_manifest_extent extent =
                extent_of(manifest, &tensor, tensor.first_word + i * n_words);

            BASE_TRY(fn(ctx, &extent, err));
        }
    }
    return BASE_OK;
}

static enum base_code add_pieces(const struct ptc_manifest *manifest,
                                 uint32_t idx,
                                 struct ptc_pieces *pieces,
                                 struct base_err *err)
{
    const struct ptc_tensor *info =
        ptc_table_tensor(ptc_pieces_table(pieces), idx);
    struct ptc_manifest_tensor tensor = ptc_manifest_tensor(manifest, idx);
    uint32_t n_dims = tensor.n_dims;
    uint64_t word = tensor.first_word;

    if (n_dims != info->n_dims ||
        tensor.n_bits != ptc_dtype_bits(info->dtype)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "tensor %.*s: %" PRIu32 " dimensions of %" PRIu32
                         " bits, but %" PRIu32 " of %u in the table",
                         BASE_STR_FMT(info->name), n_dims, tensor.n_bits,
                         info->n_dims, ptc_dtype_bits(info->dtype));
    }
    for (uint64_t i = 0; i < tensor.n_pieces; i++) {
        struct ptc_piece piece = {.box.n_dims = n_dims};

        for (uint32_t d = 0; d < n_dims; d++) {
            piece.box.begin[d] = ptc_manifest_word(manifest, word + d);
            piece.box.end[d] = ptc_manifest_word(manifest, word + n_dims + d);
            piece.stride[d] =
                ptc_manifest_word(manifest, word + 2 * (uint64_t)n_dims + d);
        }
        piece.offset = ptc_manifest_word(manifest, word + 3 * (uint64_t)n_dims);
        piece.blob = (uint32_t)ptc_manifest_word(
            manifest, word + 3 * (uint64_t)n_dims + 1);
        BASE_TRY(ptc_pieces_add(pieces, idx, &piece, err));
        word += ptc_record_words(n_dims);
    }
    return BASE_OK;
}

static enum base_code add_all(const struct ptc_manifest *manifest,
                              struct ptc_pieces *pieces,
                              struct base_err *err)
{
    for (uint32_t t = 0; t < manifest->n[PTC_MANIFEST_TENSORS]; t++) {
        BASE_TRY(add_pieces(manifest, t, pieces, err));
    }
    BASE_TRY(ptc_pieces_seal(pieces, err));
    return ptc_pieces_check(pieces, err);
}

enum base_code ptc_manifest_pieces(const struct ptc_manifest *manifest,
                                   const struct ptc_table *table,
                                   struct ptc_pieces **ret,
                                   struct base_err *err)
{
    struct base_digest digest = ptc_table_digest(table);
    BASE_AUTO(ptc_pieces) pieces = NULL;
    char has[BASE_DIGEST_TEXT_BYTES];
    char wants[BASE_DIGEST_TEXT_BYTES];
    enum base_code rc;

    if (!base_digest_eq(digest, manifest->head.table)) {
        return base_fail(
            err, BASE_MISMATCH, "%s: manifest: is over table %s, not %s",
            manifest->origin, base_digest_format(manifest->head.table, wants),
            base_digest_format(digest, has));
    }
    if (ptc_table_n_tensors(table) != manifest->n[PTC_MANIFEST_TENSORS]) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: manifest: %" PRIu64 " tensors, but %" PRIu32
                         " in the table",
                         manifest->origin, manifest->n[PTC_MANIFEST_TENSORS],
                         ptc_table_n_tensors(table));
    }
    pieces = ptc_pieces_create(table);
    if (pieces == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate pieces");
    }
    rc = add_all(manifest, pieces, err);
    if (rc == BASE_BAD_ARG || rc == BASE_MISMATCH) { /* its fault, not ours */
        rc = BASE_BAD_INPUT;
    }
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s: manifest", manifest->origin);
    }
    *ret = base_steal(&pieces);
    return BASE_OK;
}
