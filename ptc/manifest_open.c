/* Opening a manifest: every offset, count, index and text is checked here, so
 * that reading it needs no checks.
 *
 * There is one way to write a manifest: sections follow one another without
 * gaps, and so do the pieces of tensors, the chunks of regions and the texts.
 * Their offsets are redundant, and checked. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/manifest.h"
#include "ptc/manifest_impl.h"
#include "ptc/mesh.h"
#include "ptc/pieces_impl.h"
#include "ptc/spec.h"

#define MAX_ORIGIN_BYTES 32u

static const struct {
    const char *name;
    uint64_t record_bytes;
} sections[] = {
#define X(id, name, n_bytes) {name, n_bytes},
    PTC_MANIFEST_SECTIONS(X)
#undef X
};

__attribute__((format(printf, 3, 4))) static void
tell(const struct ptc_manifest *m, struct base_err *err, const char *fmt, ...)
{
    char text[BASE_ERR_TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args); /* may be cut */
    va_end(args);
    base_fail(err, BASE_BAD_INPUT, "%s: manifest: %s", m->origin, text);
}

/* BASE_BAD_INPUT, naming the file.  A macro, so that an analyzer sees that it
 * is never BASE_OK. */
#define bad(m, err, ...) (tell((m), (err), __VA_ARGS__), BASE_BAD_INPUT)

/* ---- Header ---- */

static enum base_code
check_frame(struct ptc_manifest *m, struct base_str bytes, struct base_err *err)
{
    const unsigned char *at = m->bytes;
    size_t body = bytes.len - PTC_MANIFEST_END_BYTES;
    struct base_digest digest;
    uint64_t n_bytes;

    if (bytes.len < PTC_MANIFEST_HEADER_BYTES + PTC_MANIFEST_END_BYTES) {
        return bad(m, err, "header: %zu bytes, too few", bytes.len);
    }
    if (memcmp(at, PTC_MANIFEST_MAGIC, 8) != 0) {
        return bad(m, err, "header: magic: this is no manifest");
    }
    if (ptc_manifest_u32(at + PTC_MANIFEST_AT_FORMAT) != PTC_MANIFEST_FORMAT) {
        return bad(m, err, "header: format: %" PRIu32 ", this program reads %u",
                   ptc_manifest_u32(at + PTC_MANIFEST_AT_FORMAT),
                   PTC_MANIFEST_FORMAT);
    }
    n_bytes = ptc_manifest_u64(at + PTC_MANIFEST_AT_N_BYTES);
    if (n_bytes != bytes.len || n_bytes > PTC_MANIFEST_MAX_BYTES) {
        return bad(m, err, "header: bytes: %" PRIu64 ", the file has %zu",
                   n_bytes, bytes.len);
    }
    digest = base_digest_of(at, body);
    if (memcmp(digest.bytes, at + body, sizeof(digest.bytes)) != 0) {
        return bad(m, err, "digest: not that of the bytes: damaged");
    }
    if (ptc_manifest_u32(at + PTC_MANIFEST_AT_ZERO) != 0) {
        return bad(m, err, "header: reserved: not zero");
    }
    return BASE_OK;
}

static enum base_code
check_sections(struct ptc_manifest *m, uint64_t end, struct base_err *err)
{
    static const uint64_t max_n[] = {
        [PTC_MANIFEST_BLOBS] = PTC_MANIFEST_MAX_BLOBS,
        [PTC_MANIFEST_TENSORS] = PTC_MAX_TENSORS,
        [PTC_MANIFEST_PIECES] = UINT64_MAX,
        [PTC_MANIFEST_REGIONS] = PTC_NONE - 1,
        [PTC_MANIFEST_CHUNKS] = UINT64_MAX,
        [PTC_MANIFEST_OBJECTS] = PTC_NONE - 1,
        [PTC_MANIFEST_TEXTS] = UINT32_MAX,
    };
    const unsigned char *field = m->bytes + PTC_MANIFEST_AT_SECTIONS;
    uint64_t at = PTC_MANIFEST_HEADER_BYTES;

    for (unsigned s = 0; s < PTC_MANIFEST_N_SECTIONS; s++, field += 16) {
        uint64_t offset = ptc_manifest_u64(field);
        uint64_t n = ptc_manifest_u64(field + 8);

        if (offset != at) {
            return bad(m, err, "%s: offset: %" PRIu64 ", expected %" PRIu64,
                       sections[s].name, offset, at);
        }
        if (n > (end - at) / sections[s].record_bytes || n > max_n[s]) {
            return bad(m, err, "%s: count: %" PRIu64 " is too large",
                       sections[s].name, n);
        }
        m->at[s] = m->bytes + at;
        m->n[s] = n;
        at += n * sections[s].record_bytes;
    }
    if (base_ceil_div(at, 8) * 8 != end) {
        return bad(m, err, "texts: count: they end at %" PRIu64 " of %" PRIu64,
                   at, end);
    }
    for (; at < end; at++) {
        if (m->bytes[at] != 0) {
            return bad(m, err, "texts: padding: not zero");
        }
    }
    return BASE_OK;
}

/* The text at @field (offset, length), which must begin at *at and have at
 * least one byte; *at moves behind it. */
static enum base_code take_text(const struct ptc_manifest *m,
                                const unsigned char *field,
                                const char *what,
                                uint64_t *at,
                                struct base_str *ret,
                                struct base_err *err)
{
    uint32_t offset = ptc_manifest_u32(field);
    uint32_t len = ptc_manifest_u32(field + 4);

    if (offset != *at) {
        return bad(m, err, "%s: offset: %" PRIu32 ", expected %" PRIu64, what,
                   offset, *at);
    }
    if (len == 0 || len > m->n[PTC_MANIFEST_TEXTS] - offset) {
        return bad(m, err, "%s: length: %" PRIu32 " is out of range", what,
                   len);
    }
    *ret = (struct base_str){(const char *)m->at[PTC_MANIFEST_TEXTS] + offset,
                             len};
    *at += len;
    return BASE_OK;
}

static enum base_code
check_head(struct ptc_manifest *m, uint64_t *texts_at, struct base_err *err)
{
    const unsigned char *at = m->bytes;
    struct ptc_manifest_head *head = &m->head;

    head->version = ptc_manifest_u64(at + PTC_MANIFEST_AT_NUMBER);
    head->parent = ptc_manifest_u64(at + PTC_MANIFEST_AT_PARENT);
    head->step = ptc_manifest_u64(at + PTC_MANIFEST_AT_STEP);
    head->samples = ptc_manifest_u64(at + PTC_MANIFEST_AT_SAMPLES);
    head->created_ns = (int64_t)ptc_manifest_u64(at + PTC_MANIFEST_AT_CREATED);
    memcpy(head->table.bytes, at + PTC_MANIFEST_AT_TABLE,
           sizeof(head->table.bytes));
    if (head->version == 0) {
        return bad(m, err, "header: version: 0 is no version's number");
    }
    if (head->parent >= head->version) {
        return bad(m, err, "header: parent: %" PRIu64 " is not before %" PRIu64,
                   head->parent, head->version);
    }
    BASE_TRY(take_text(m, at + PTC_MANIFEST_AT_LAYOUT, "header: layout",
                       texts_at, &head->layout, err));
    BASE_TRY(take_text(m, at + PTC_MANIFEST_AT_ORIGIN, "header: origin",
                       texts_at, &head->origin, err));
    if (head->layout.len > PTC_SPEC_MAX_BYTES ||
        memchr(head->layout.ptr, '\0', head->layout.len) != NULL ||
        !base_str_is_utf8(head->layout)) {
        return bad(m, err, "header: layout: not UTF-8, or longer than %u bytes",
                   PTC_SPEC_MAX_BYTES);
    }
    for (size_t i = 0; i < head->origin.len; i++) {
        if (head->origin.len > MAX_ORIGIN_BYTES || head->origin.ptr[i] < 'a' ||
            head->origin.ptr[i] > 'z') {
            return bad(m, err,
                       "header: origin: not 1 to %u letters from a to z",
                       MAX_ORIGIN_BYTES);
        }
    }
    return BASE_OK;
}

/* ---- Blobs ---- */

static int name_cmp(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct ptc_blob_name));
}

static enum base_code check_blobs(const struct ptc_manifest *m,
                                  struct base_err *err)
{
    uint32_t n = ptc_manifest_n_blobs(m);
    BASE_AUTO_MEM struct ptc_blob_name *names =
        calloc((size_t)n + 1, sizeof(*names));

    if (names == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate names of blobs");
    }
    for (uint32_t i = 0; i < n; i++) {
        struct ptc_manifest_blob blob = ptc_manifest_blob(m, i);

        if (blob.n_bytes > INT64_MAX) {
            return bad(m, err,
                       "blobs: %" PRIu32 ": bytes: %" PRIu64 " is too large", i,
                       blob.n_bytes);
        }
        names[i] = blob.name;
    }
    qsort(names, n, sizeof(*names), name_cmp);
    for (uint32_t i = 1; i < n; i++) {
        if (name_cmp(&names[i - 1], &names[i]) == 0) {
            struct base_digest name;
            char text[BASE_DIGEST_TEXT_BYTES];

            memcpy(name.bytes, names[i].bytes, sizeof(name.bytes));
            return bad(m, err, "blobs: name: %s is there twice",
                       base_digest_format(name, text));
        }
    }
    return BASE_OK;
}

static bool is_in_blob(const struct ptc_manifest *m,
                       uint64_t blob,
                       uint64_t offset,
                       uint64_t n_bytes)
{
    uint64_t end;

    return base_add_u64(offset, n_bytes, &end) &&
           end <= ptc_manifest_blob(m, (uint32_t)blob).n_bytes;
}

/* ---- Tensors and pieces ---- */

static bool is_bits(uint32_t n_bits)
{
    for (unsigned d = 0; d < PTC_N_DTYPES; d++) {
        if (ptc_dtype_bits((enum ptc_dtype)d) == n_bits) {
            return true;
        }
    }
    return false;
}

/* Bytes from a piece's first to its last; false when that is no number. */
static bool piece_bytes(const struct ptc_manifest *m,
                        const struct ptc_manifest_tensor *tensor,
                        uint64_t word,
                        uint64_t *ret)
{
    uint32_t n_dims = tensor->n_dims;
    bool is_bytes = tensor->n_bits % 8 == 0;
    uint64_t n = is_bytes ? tensor->n_bits / 8 : tensor->n_bits;

    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t begin = ptc_manifest_word(m, word + d);
        uint64_t end = ptc_manifest_word(m, word + n_dims + d);
        uint64_t stride = ptc_manifest_word(m, word + 2 * (uint64_t)n_dims + d);
        uint64_t step;

        if (!base_mul_u64(end - 1 - begin, stride, &step) ||
            !base_add_u64(n, step, &n)) {
            return false;
        }
    }
    *ret = is_bytes ? n : base_ceil_div(n, 8);
    return true;
}

static enum base_code check_piece(const struct ptc_manifest *m,
                                  uint64_t idx,
                                  const struct ptc_manifest_tensor *tensor,
                                  uint64_t word,
                                  struct base_err *err)
{
    uint32_t n_dims = tensor->n_dims;
    uint64_t offset = ptc_manifest_word(m, word + 3 * (uint64_t)n_dims);
    uint64_t blob = ptc_manifest_word(m, word + 3 * (uint64_t)n_dims + 1);
    uint64_t n_bytes;

    for (uint32_t d = 0; d < n_dims; d++) {
        if (ptc_manifest_word(m, word + d) >=
            ptc_manifest_word(m, word + n_dims + d)) {
            return bad(m, err,
                       "pieces: word %" PRIu64 ", of tensor %" PRIu64
                       ": box: dimension %" PRIu32 " is empty",
                       word, idx, d);
        }
    }
    if (blob >= m->n[PTC_MANIFEST_BLOBS]) {
        return bad(m, err,
                   "pieces: word %" PRIu64 ", of tensor %" PRIu64
                   ": blob: %" PRIu64 " of %" PRIu64,
                   word, idx, blob, m->n[PTC_MANIFEST_BLOBS]);
    }
    if (!piece_bytes(m, tensor, word, &n_bytes) ||
        !is_in_blob(m, blob, offset, n_bytes)) {
        return bad(m, err,
                   "pieces: word %" PRIu64 ", of tensor %" PRIu64
                   ": offset and stride: outside blob %" PRIu64,
                   word, idx, blob);
    }
    return BASE_OK;
}

/* Is the piece at @word behind the one before it, in C order of their begins? */
static bool
is_behind(const struct ptc_manifest *m, uint32_t n_dims, uint64_t word)
{
    uint64_t before = word - ptc_record_words(n_dims);

    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t a = ptc_manifest_word(m, before + d);
        uint64_t b = ptc_manifest_word(m, word + d);

        if (a != b) {
            return a < b;
        }
    }
    return false;
}

static enum base_code check_tensors(const struct ptc_manifest *m,
                                    struct base_err *err)
{
    uint64_t word = 0;

    for (uint64_t t = 0; t < m->n[PTC_MANIFEST_TENSORS]; t++) {
        struct ptc_manifest_tensor tensor = ptc_manifest_tensor(m, t);
        uint32_t n_words;

        if (tensor.first_word != word) {
            return bad(m, err,
                       "tensors: %" PRIu64 ": first word: %" PRIu64
                       ", expected %" PRIu64,
                       t, tensor.first_word, word);
        }
        if (tensor.n_dims > PTC_MAX_DIMS) {
            return bad(m, err,
                       "tensors: %" PRIu64 ": dimensions: %" PRIu32
                       ", at most %d",
                       t, tensor.n_dims, PTC_MAX_DIMS);
        }
        if (!is_bits(tensor.n_bits)) {
            return bad(m, err,
                       "tensors: %" PRIu64 ": bits: no dtype has %" PRIu32, t,
                       tensor.n_bits);
        }
        n_words = ptc_record_words(tensor.n_dims);
        if (tensor.n_pieces > (m->n[PTC_MANIFEST_PIECES] - word) / n_words) {
            return bad(m, err,
                       "tensors: %" PRIu64 ": pieces: %" PRIu64 " are too many",
                       t, tensor.n_pieces);
        }
        for (uint64_t i = 0; i < tensor.n_pieces; i++, word += n_words) {
            BASE_TRY(check_piece(m, t, &tensor, word, err));
            if (i > 0 && !is_behind(m, tensor.n_dims, word)) {
                return bad(m, err,
                           "pieces: word %" PRIu64 ", of tensor %" PRIu64
                           ": box: not in order",
                           word, t);
            }
        }
    }
    if (word != m->n[PTC_MANIFEST_PIECES]) {
        return bad(m, err,
                   "pieces: count: %" PRIu64
                   " words, the tensors have %" PRIu64,
                   m->n[PTC_MANIFEST_PIECES], word);
    }
    return BASE_OK;
}

/* ---- Regions ---- */

static bool is_zero(const unsigned char *bytes, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

/* The digest of @n chunks at @chunk; zeros, all of them, where there is none
 * yet. */
static enum base_code check_digest(const struct ptc_manifest *m,
                                   uint32_t idx,
                                   uint64_t chunk,
                                   uint64_t n,
                                   struct base_err *err)
{
    const unsigned char *at =
        m->at[PTC_MANIFEST_REGIONS] + (size_t)idx * PTC_MANIFEST_REGIONS_RECORD;
    const unsigned char *chunks =
        m->at[PTC_MANIFEST_CHUNKS] + chunk * PTC_MANIFEST_CHUNKS_RECORD;
    size_t n_bytes = (size_t)n * PTC_MANIFEST_CHUNKS_RECORD;
    uint32_t flags = ptc_manifest_u32(at + 48);
    struct base_digest digest;

    if ((flags & ~(uint32_t)PTC_MANIFEST_IS_DIGESTED) != 0) {
        return bad(m, err, "regions: %" PRIu32 ": flags: %" PRIx32, idx, flags);
    }
    if (ptc_manifest_u32(at + 52) != 0) {
        return bad(m, err, "regions: %" PRIu32 ": reserved: not zero", idx);
    }
    if (flags == 0) {
        if (!is_zero(at + 32, sizeof(digest.bytes)) ||
            !is_zero(chunks, n_bytes)) {
            return bad(m, err,
                       "regions: %" PRIu32
                       ": digest: not zero, though it has none",
                       idx);
        }
        return BASE_OK;
    }
    digest = base_digest_of(chunks, n_bytes);
    if (memcmp(digest.bytes, at + 32, sizeof(digest.bytes)) != 0) {
        return bad(m, err,
                   "regions: %" PRIu32 ": digest: not that of its chunks", idx);
    }
    return BASE_OK;
}

static enum base_code check_region(const struct ptc_manifest *m,
                                   uint32_t idx,
                                   uint64_t *chunk,
                                   struct base_err *err)
{
    struct ptc_manifest_region region = ptc_manifest_region(m, idx);
    uint64_t n = base_ceil_div(region.n_bytes, PTC_DIGEST_CHUNK_BYTES);

    if (region.tensor != PTC_NONE &&
        region.tensor >= m->n[PTC_MANIFEST_TENSORS]) {
        return bad(m, err,
                   "regions: %" PRIu32 ": tensor: %" PRIu32 " of %" PRIu64, idx,
                   region.tensor, m->n[PTC_MANIFEST_TENSORS]);
    }
    if (region.blob >= m->n[PTC_MANIFEST_BLOBS]) {
        return bad(m, err,
                   "regions: %" PRIu32 ": blob: %" PRIu32 " of %" PRIu64, idx,
                   region.blob, m->n[PTC_MANIFEST_BLOBS]);
    }
    if (!is_in_blob(m, region.blob, region.offset, region.n_bytes)) {
        return bad(m, err,
                   "regions: %" PRIu32
                   ": offset and bytes: outside blob %" PRIu32,
                   idx, region.blob);
    }
    if (region.first_chunk != *chunk) {
        return bad(m, err,
                   "regions: %" PRIu32 ": first chunk: %" PRIu64
                   ", expected %" PRIu64,
                   idx, region.first_chunk, *chunk);
    }
    if (n > m->n[PTC_MANIFEST_CHUNKS] - *chunk) {
        return bad(m, err,
                   "regions: %" PRIu32 ": bytes: more chunks than there are",
                   idx);
    }
    BASE_TRY(check_digest(m, idx, *chunk, n, err));
    *chunk += n;
    return BASE_OK;
}

static enum base_code check_regions(const struct ptc_manifest *m,
                                    struct base_err *err)
{
    uint64_t chunk = 0;

    for (uint32_t i = 0; i < ptc_manifest_n_regions(m); i++) {
        BASE_TRY(check_region(m, i, &chunk, err));
    }
    if (chunk != m->n[PTC_MANIFEST_CHUNKS]) {
        return bad(m, err,
                   "chunks: count: %" PRIu64 ", the regions have %" PRIu64,
                   m->n[PTC_MANIFEST_CHUNKS], chunk);
    }
    return BASE_OK;
}

/* ---- Objects ---- */

/* The name of object @idx: that of the one before it, or the next text. */
static enum base_code take_name(const struct ptc_manifest *m,
                                uint32_t idx,
                                const struct ptc_manifest_object *before,
                                uint64_t *texts_at,
                                struct base_err *err)
{
    const unsigned char *field =
        m->at[PTC_MANIFEST_OBJECTS] + (size_t)idx * PTC_MANIFEST_OBJECTS_RECORD;
    struct base_str name;
    char what[64];
    enum base_code rc;

    if (idx > 0 && memcmp(field, field - PTC_MANIFEST_OBJECTS_RECORD, 8) == 0) {
        return BASE_OK;
    }
    (void)snprintf(what, sizeof(what), "objects: %" PRIu32 ": name", idx);
    BASE_TRY(take_text(m, field, what, texts_at, &name, err));
    rc = ptc_name_check(name, what, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s: manifest", m->origin);
    }
    if (idx > 0 && base_str_cmp(before->name, name) >= 0) {
        return bad(m, err, "%s: not behind the one before it", what);
    }
    return BASE_OK;
}

static enum base_code check_objects(const struct ptc_manifest *m,
                                    uint64_t *texts_at,
                                    struct base_err *err)
{
    struct ptc_manifest_object before = {0};

    for (uint32_t i = 0; i < ptc_manifest_n_objects(m); i++) {
        struct ptc_manifest_object object;
        bool is_job;

        BASE_TRY(take_name(m, i, &before, texts_at, err));
        object = ptc_manifest_object(m, i);
        is_job = object.rank == PTC_NONE;
        if (!is_job && object.rank >= PTC_MAX_RANKS) {
            return bad(m, err,
                       "objects: %" PRIu32 ": rank: %" PRIu32 " is too large",
                       i, object.rank);
        }
        if (object.name.ptr == before.name.ptr &&
            (is_job || object.rank <= before.rank)) {
            return bad(m, err,
                       "objects: %" PRIu32 ": rank: not behind the one before",
                       i);
        }
        if (object.region >= m->n[PTC_MANIFEST_REGIONS] ||
            ptc_manifest_region(m, object.region).tensor != PTC_NONE) {
            return bad(m, err,
                       "objects: %" PRIu32 ": region: %" PRIu32
                       " is none of an object",
                       i, object.region);
        }
        before = object;
    }
    if (*texts_at != m->n[PTC_MANIFEST_TEXTS]) {
        return bad(m, err, "texts: count: %" PRIu64 " bytes, %" PRIu64 " used",
                   m->n[PTC_MANIFEST_TEXTS], *texts_at);
    }
    return BASE_OK;
}

enum base_code ptc_manifest_open(struct base_str bytes,
                                 const char *origin,
                                 struct ptc_manifest **ret,
                                 struct base_err *err)
{
    BASE_AUTO(ptc_manifest) m = calloc(1, sizeof(*m));
    uint64_t texts_at = 0;

    if (m != NULL) {
        m->bytes = (const unsigned char *)bytes.ptr;
        m->origin = strdup(origin);
    }
    if (m == NULL || m->origin == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a manifest");
    }
    BASE_TRY(check_frame(m, bytes, err));
    BASE_TRY(check_sections(m, bytes.len - PTC_MANIFEST_END_BYTES, err));
    BASE_TRY(check_head(m, &texts_at, err));
    BASE_TRY(check_blobs(m, err));
    BASE_TRY(check_tensors(m, err));
    BASE_TRY(check_regions(m, err));
    BASE_TRY(check_objects(m, &texts_at, err));
    *ret = base_steal(&m);
    return BASE_OK;
}
