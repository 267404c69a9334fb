#include "store/verify.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "store/blob.h"
#include "store/digest.h"

/* A region, by place.  Regions may overlap: @max_end is the furthest end in its
 * blob of this one and all before it. */
struct place {
    uint32_t blob;
    uint64_t offset;
    uint64_t max_end;
    uint32_t region; /* in the manifest */
};

struct store_verify {
    const struct store_source *source;
    const struct ptc_manifest *manifest;
    struct place *places; /* immutable, in order */
    uint32_t n_places;
    atomic_uchar *good; /* bits, by a chunk's number in the manifest */
    atomic_bool has_undigested;
    atomic_bool is_undigested_told;
};

void store_verify_free(struct store_verify *verify)
{
    if (verify != NULL) {
        free(verify->places);
        free(verify->good);
        free(verify);
    }
}

static int place_cmp(const void *a, const void *b)
{
    const struct place *x = a;
    const struct place *y = b;

    if (x->blob != y->blob) {
        return x->blob < y->blob ? -1 : 1;
    }
    if (x->offset != y->offset) {
        return x->offset < y->offset ? -1 : 1;
    }
    return x->region < y->region ? -1 : x->region > y->region;
}

static uint64_t end_of(const struct ptc_manifest_region *region)
{
    return region->offset + region->n_bytes; /* within a blob: no overflow */
}

/* In order; returns one more than the highest chunk. */
static uint64_t put_places(struct store_verify *verify)
{
    const uint32_t n = verify->n_places;
    uint64_t n_chunks = 0;
    uint64_t max_end = 0;
    uint32_t i;

    for (i = 0; i < n; i++) {
        const struct ptc_manifest_region region =
            ptc_manifest_region(verify->manifest, i);

        verify->places[i] = (struct place){
            .blob = region.blob, .offset = region.offset, .region = i};
        n_chunks =
            base_max_u64(n_chunks, region.first_chunk +
                                       store_digest_n_chunks(region.n_bytes));
    }
    qsort(verify->places, n, sizeof(*verify->places), place_cmp);
    for (i = 0; i < n; i++) {
        const struct ptc_manifest_region region =
            ptc_manifest_region(verify->manifest, verify->places[i].region);

        if (i == 0 || verify->places[i - 1].blob != region.blob) {
            max_end = 0;
        }
        max_end = base_max_u64(max_end, end_of(&region));
        verify->places[i].max_end = max_end;
    }
    return n_chunks;
}

enum base_code store_verify_create(const struct store_source *source,
                                   struct store_verify **ret,
                                   struct base_err *err)
{
    BASE_AUTO(store_verify) verify = calloc(1, sizeof(*verify));
    uint64_t n_chunks;

    if (verify == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot verify a version");
    }
    verify->source = source;
    verify->manifest = store_version_manifest(store_source_version(source));
    verify->n_places = ptc_manifest_n_regions(verify->manifest);
    verify->places =
        calloc((size_t)verify->n_places + 1, sizeof(*verify->places));
    if (verify->places == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot verify a version");
    }
    n_chunks = put_places(verify);
    verify->good = calloc((size_t)(n_chunks / 8 + 1), sizeof(*verify->good));
    if (verify->good == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot verify a version");
    }
    *ret = base_steal(&verify);
    return BASE_OK;
}

static enum base_code tell_damage(const struct store_verify *verify,
                                  const struct ptc_manifest_region *region,
                                  uint64_t chunk,
                                  struct base_err *err)
{
    const struct ptc_table *table = store_source_table(verify->source);
    const uint64_t at = chunk * PTC_DIGEST_CHUNK_BYTES;
    struct base_str owner = BASE_STR("an object, or a file's header");

    if (region->tensor != PTC_NONE) {
        owner = ptc_table_tensor(table, region->tensor)->name;
    }
    return base_fail(err, BASE_MISMATCH,
                     "%s: %.*s: damaged: bytes %" PRIu64 " to %" PRIu64
                     " of %s are not those of their digest",
                     store_source_path(verify->source), BASE_STR_FMT(owner),
                     region->offset + at,
                     region->offset + base_min_u64(region->n_bytes,
                                                   at + PTC_DIGEST_CHUNK_BYTES),
                     store_source_blob(verify->source, region->blob)->label);
}

static enum base_code check_chunk(struct store_verify *verify,
                                  const struct ptc_manifest_region *region,
                                  uint64_t chunk,
                                  struct base_err *err)
{
    const struct store_blob *blob =
        store_source_blob(verify->source, region->blob);
    const uint64_t number = region->first_chunk + chunk;
    const uint64_t at = chunk * PTC_DIGEST_CHUNK_BYTES;
    const unsigned char bit = (unsigned char)(1u << number % 8);
    struct base_digest found;

    if ((verify->good[number / 8] & bit) != 0) {
        return BASE_OK;
    }
    /* Others may do the same meanwhile; they find the same. */
    BASE_TRY(store_digest_range(
        blob->fd, region->offset + at,
        base_min_u64(region->n_bytes - at, PTC_DIGEST_CHUNK_BYTES), blob->label,
        &found, NULL, err));
    if (!base_digest_eq(found,
                        ptc_manifest_chunk(verify->manifest, region, chunk))) {
        return tell_damage(verify, region, chunk, err);
    }
    (void)atomic_fetch_or(&verify->good[number / 8], bit);
    return BASE_OK;
}

/* What of [begin, end) lies in region @idx. */
static enum base_code check_region(struct store_verify *verify,
                                   uint32_t idx,
                                   uint64_t begin,
                                   uint64_t end,
                                   struct base_err *err)
{
    const struct ptc_manifest_region region =
        ptc_manifest_region(verify->manifest, idx);
    uint64_t chunk;
    uint64_t last;

    begin = base_max_u64(begin, region.offset);
    end = base_min_u64(end, end_of(&region));
    if (begin >= end) {
        return BASE_OK;
    }
    if (!region.is_digested) {
        verify->has_undigested = true;
        return BASE_OK;
    }
    chunk = (begin - region.offset) / PTC_DIGEST_CHUNK_BYTES;
    last = (end - 1 - region.offset) / PTC_DIGEST_CHUNK_BYTES;
    for (; chunk <= last; chunk++) {
        BASE_TRY(check_chunk(verify, &region, chunk, err));
    }
    return BASE_OK;
}

/* How many places are before the first that begins at @end of @blob or later. */
static uint32_t
n_before(const struct store_verify *verify, uint32_t blob, uint64_t end)
{
    uint32_t low = 0;
    uint32_t high = verify->n_places;

    while (low < high) {
        const uint32_t mid = low + (high - low) / 2;
        const struct place *place = &verify->places[mid];

        if (place->blob < blob ||
            (place->blob == blob && place->offset < end)) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

enum base_code store_verify_range(struct store_verify *verify,
                                  uint32_t blob,
                                  uint64_t offset,
                                  uint64_t n_bytes,
                                  struct base_err *err)
{
    uint32_t i = n_before(verify, blob, offset + n_bytes);

    while (i > 0 && verify->places[i - 1].blob == blob &&
           verify->places[i - 1].max_end > offset) {
        i--;
        BASE_TRY(check_region(verify, verify->places[i].region, offset,
                              offset + n_bytes, err));
    }
    return BASE_OK;
}

enum base_code store_verify_view(struct store_verify *verify,
                                 const struct ptc_view *view,
                                 uint64_t offset,
                                 uint64_t n_bytes,
                                 struct base_err *err)
{
    struct ptc_cursor cursor;
    struct ptc_run run;
    uint64_t n_rows;
    uint64_t stride;

    ptc_cursor_init(&cursor, view, offset, n_bytes);
    while (ptc_cursor_next_rows(&cursor, &run, &n_rows, &stride)) {
        uint64_t n = run.n_bytes;

        if (run.blob == PTC_BLOB_HEADER || run.blob == PTC_BLOB_ZERO) {
            continue;
        }
        if (stride <=
            PTC_DIGEST_CHUNK_BYTES) { /* all chunks between have a row */
            n += (n_rows - 1) * stride;
            n_rows = 1;
        }
        for (; n_rows > 0; n_rows--) {
            BASE_TRY(store_verify_range(verify, run.blob, run.offset, n, err));
            run.offset += stride;
        }
    }
    return BASE_OK;
}

bool store_verify_take_undigested(struct store_verify *verify)
{
    return verify->has_undigested &&
           !atomic_exchange(&verify->is_undigested_told, true);
}
