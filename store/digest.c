#include "store/digest.h"

#include <stdlib.h>

#include "base/auto.h"
#include "base/io.h"
#include "base/parallel.h"
#include "base/str.h"

enum { PART_CHUNKS = 64, MAX_THREADS = 8 };

/* Chunks' digests are hashed as they lie in an array. */
_Static_assert(sizeof(struct base_digest) == 16, "digests have no padding");

struct base_digest store_digest_identity(const struct base_digest *chunks,
                                         uint64_t n_chunks)
{
    return base_digest_of(chunks, (size_t)n_chunks * sizeof(*chunks));
}

void store_digest_bytes(const void *bytes,
                        uint64_t n_bytes,
                        struct base_digest *ret_chunks,
                        struct base_digest *ret_identity)
{
    uint64_t n_chunks = store_digest_n_chunks(n_bytes);

    for (uint64_t i = 0; i < n_chunks; i++) {
        uint64_t at = i * PTC_DIGEST_CHUNK_BYTES;

        ret_chunks[i] = base_digest_of(
            (const unsigned char *)bytes + at,
            (size_t)base_min_u64(n_bytes - at, PTC_DIGEST_CHUNK_BYTES));
    }
    if (ret_identity != NULL) {
        *ret_identity = store_digest_identity(ret_chunks, n_chunks);
    }
}

enum base_code store_digest_range(int fd,
                                  uint64_t offset,
                                  uint64_t n_bytes,
                                  const char *label,
                                  struct base_digest *ret_chunks,
                                  struct base_digest *ret_identity,
                                  struct base_err *err)
{
    uint64_t n_chunks = store_digest_n_chunks(n_bytes);
    size_t room = (size_t)base_min_u64(n_bytes, PTC_DIGEST_CHUNK_BYTES);
    BASE_AUTO_MEM unsigned char *chunk = malloc(room > 0 ? room : 1);

    if (chunk == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate %zu bytes", room);
    }
    for (uint64_t i = 0; i < n_chunks; i++) {
        uint64_t at = i * PTC_DIGEST_CHUNK_BYTES;
        size_t n = (size_t)base_min_u64(n_bytes - at, room);

        BASE_TRY(base_io_pread(fd, chunk, n, offset + at, label, err));
        ret_chunks[i] = base_digest_of(chunk, n);
    }
    if (ret_identity != NULL) {
        *ret_identity = store_digest_identity(ret_chunks, n_chunks);
    }
    return BASE_OK;
}

/* --- many regions, by several threads ---------------------------------- */

/* Some chunks of a region, so that threads share a large one. */
struct part {
    uint32_t region;
    uint64_t first; /* its first chunk, of the region's */
};

struct digesting {
    const int *fds;
    const struct ptc_manifest_region *regions;
    struct base_digest *chunks;
    const struct store_digest_options *options;
    BASE_VEC(struct part) parts;
    uint64_t done_bytes; /* atomic: a sum, nothing hangs on its order */
};

static void digesting_done(struct digesting *digesting)
{
    base_vec_done(&digesting->parts);
}

static enum base_code
digest_part(void *ctx, size_t item, unsigned thread, struct base_err *err)
{
    struct digesting *digesting = ctx;
    const struct store_digest_options *options = digesting->options;
    const struct part *part = &digesting->parts.items[item];
    const struct ptc_manifest_region *region =
        &digesting->regions[part->region];
    uint64_t at = part->first * PTC_DIGEST_CHUNK_BYTES;
    uint64_t n = base_min_u64(region->n_bytes - at,
                              PART_CHUNKS * PTC_DIGEST_CHUNK_BYTES);
    uint64_t done;

    BASE_TRY(store_digest_range(
        digesting->fds[region->blob], region->offset + at, n, "a blob",
        digesting->chunks + region->first_chunk + part->first, NULL, err));
    done = __atomic_add_fetch(&digesting->done_bytes, n, __ATOMIC_RELAXED);
    if (thread == 0 && options->progress != NULL &&
        !options->progress(options->progress_ctx, options->begin_bytes + done,
                           options->all_bytes)) {
        return base_fail(err, BASE_INTERRUPTED, "interrupted");
    }
    return BASE_OK;
}

enum base_code store_digest_regions(const int *fds,
                                    struct ptc_manifest_region *regions,
                                    uint32_t n_regions,
                                    struct base_digest *chunks,
                                    const struct store_digest_options *options,
                                    struct base_err *err)
{
    __attribute__((cleanup(digesting_done))) struct digesting digesting = {
        .fds = fds, .regions = regions, .chunks = chunks, .options = options};
    unsigned n_threads = options->n_threads;

    if (n_threads == 0) {
        n_threads = (unsigned)base_min_u64(base_n_cpus(), MAX_THREADS);
    }
    for (uint32_t i = 0; i < n_regions; i++) {
        uint64_t n = store_digest_n_chunks(regions[i].n_bytes);
        struct part part = {.region = i};

        for (; !regions[i].is_digested && part.first < n;
             part.first += PART_CHUNKS) {
            if (!base_vec_push(&digesting.parts, part)) {
                return base_fail(err, BASE_NO_MEM, "cannot list regions");
            }
        }
    }
    BASE_TRY(base_parallel(n_threads, digesting.parts.n, digest_part,
                           &digesting, err));
    for (uint32_t i = 0; i < n_regions; i++) {
        if (!regions[i].is_digested) {
            regions[i].digest = store_digest_identity(
                chunks + regions[i].first_chunk,
                store_digest_n_chunks(regions[i].n_bytes));
            regions[i].is_digested = true;
        }
    }
    return BASE_OK;
}
