/* Input: a manifest.  It is opened as it is; then again with its size and its
 * digests made right, which no mutation would guess.  What opens can be read
 * whole, and its regions and objects lie where they should. */
#include "base/num.h"
#include "ptc/manifest.h"
#include "ptc/manifest_impl.h"
#include "tests/fuzz/fuzz.h"

static void put_digest(unsigned char *at, const void *bytes, size_t n)
{
    struct base_digest digest = base_digest_of(bytes, n);

    memcpy(at, digest.bytes, sizeof(digest.bytes));
}

/* The digests of regions whose chunks lie in the body; zeros where the flags
 * say that there are none. */
static void fix_regions(unsigned char *bytes, size_t body)
{
    const unsigned char *field =
        bytes + PTC_MANIFEST_AT_SECTIONS + (size_t)16 * PTC_MANIFEST_REGIONS;
    uint64_t at = ptc_manifest_u64(field);
    uint64_t n = ptc_manifest_u64(field + 8);
    uint64_t chunks = ptc_manifest_u64(field + 16);

    for (; n > 0 && at <= body && body - at >= PTC_MANIFEST_REGIONS_RECORD;
         n--, at += PTC_MANIFEST_REGIONS_RECORD) {
        uint64_t n_bytes = ptc_manifest_u64(bytes + at + 16);
        uint64_t first = ptc_manifest_u64(bytes + at + 24);
        uint64_t n_chunks = base_ceil_div(n_bytes, PTC_DIGEST_CHUNK_BYTES);

        if (first < body / 16 && n_chunks < body / 16 && chunks <= body &&
            16 * (first + n_chunks) <= body - chunks) {
            unsigned char *own = bytes + chunks + 16 * first;

            if (ptc_manifest_u32(bytes + at + 48) == 0) {
                memset(bytes + at + 32, 0, 16);
                memset(own, 0, (size_t)(16 * n_chunks));
            } else {
                put_digest(bytes + at + 32, own, (size_t)(16 * n_chunks));
            }
        }
    }
}

static void fix(unsigned char *bytes, size_t size)
{
    size_t body = size - PTC_MANIFEST_END_BYTES;

    for (unsigned i = 0; i < 8; i++) {
        bytes[PTC_MANIFEST_AT_N_BYTES + i] =
            (unsigned char)((uint64_t)size >> (8 * i));
    }
    fix_regions(bytes, body);
    put_digest(bytes + body, bytes, body);
}

static void check_regions(const struct ptc_manifest *m)
{
    uint64_t n_chunks = 0;

    for (uint32_t i = 0; i < ptc_manifest_n_regions(m); i++) {
        struct ptc_manifest_region region = ptc_manifest_region(m, i);
        struct ptc_manifest_blob blob;
        uint64_t n = base_ceil_div(region.n_bytes, PTC_DIGEST_CHUNK_BYTES);

        FUZZ_CHECK(region.blob < ptc_manifest_n_blobs(m));
        blob = ptc_manifest_blob(m, region.blob);
        FUZZ_CHECK(region.n_bytes <= blob.n_bytes &&
                   region.offset <= blob.n_bytes - region.n_bytes);
        FUZZ_CHECK(region.first_chunk == n_chunks);
        for (uint64_t c = 0; c < n; c++) {
            static const struct base_digest zero;
            struct base_digest chunk = ptc_manifest_chunk(m, &region, c);

            FUZZ_CHECK(region.is_digested || base_digest_eq(chunk, zero));
        }
        n_chunks += n;
    }
}

static void check_objects(const struct ptc_manifest *m)
{
    for (uint32_t i = 0; i < ptc_manifest_n_objects(m); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(m, i);

        FUZZ_CHECK(ptc_name_check(object.name, "object", NULL) == BASE_OK);
        FUZZ_CHECK(object.region < ptc_manifest_n_regions(m));
        if (i > 0) {
            struct ptc_manifest_object before = ptc_manifest_object(m, i - 1);
            int order = base_str_cmp(before.name, object.name);

            FUZZ_CHECK(order < 0 || (order == 0 && before.rank < object.rank &&
                                     object.rank != PTC_NONE));
        }
    }
}

static void try_open(const uint8_t *data, size_t size)
{
    /* The table of the golden file. */
    static const char table_text[] =
        "{\"retile_table\":1,\"tensors\":["
        "{\"name\":\"a\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[4,3]}"
        ","
        "{\"name\":\"big\",\"group\":\"model\",\"dtype\":\"U8\","
        "\"shape\":[2097157]},"
        "{\"name\":\"n\",\"group\":\"model\",\"dtype\":\"I64\",\"shape\":[]},"
        "{\"name\":\"q\",\"group\":\"model\",\"dtype\":\"F4\",\"shape\":[2,4]},"
        "{\"name\":\"z\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[0,5]}"
        "],"
        "\"ties\":{\"t\":\"a\"},"
        "\"objects\":{\"notes.txt\":\"job\",\"rng.pt\":\"rank\"}}";
    BASE_AUTO(ptc_manifest) m = NULL;
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_pieces) pieces = NULL;
    struct base_err err = {0};
    enum base_code code =
        ptc_manifest_open(fuzz_str(data, size), "fuzz", &m, &err);

    if (code != BASE_OK) {
        FUZZ_CHECK(m == NULL);
        fuzz_check_error(code, &err);
        return;
    }
    FUZZ_CHECK(base_str_is_utf8(ptc_manifest_head(m)->layout));
    FUZZ_CHECK(ptc_manifest_head(m)->parent < ptc_manifest_head(m)->version);
    check_regions(m);
    check_objects(m);
    FUZZ_CHECK(ptc_table_parse(base_str_of(table_text), "t", &table, &err) ==
               BASE_OK);
    code = ptc_manifest_pieces(m, table, &pieces, &err);
    if (code == BASE_OK) {
        FUZZ_CHECK(ptc_pieces_check(pieces, &err) == BASE_OK);
    } else if (code != BASE_MISMATCH) {
        fuzz_check_error(code, &err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *copy;

    try_open(data, size);
    if (size < PTC_MANIFEST_HEADER_BYTES + PTC_MANIFEST_END_BYTES) {
        return 0;
    }
    copy = malloc(size);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size);
    fix(copy, size);
    try_open(copy, size);
    free(copy);
    return 0;
}
