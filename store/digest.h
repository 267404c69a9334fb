/* Digests of a region: one per chunk of PTC_DIGEST_CHUNK_BYTES, counted from
 * the region's own first byte, and its identity, the digest of those (16 bytes
 * each, one after the other).  Equal bytes have one identity, wherever they lie.
 *
 * One call, one thread.  To use several, give base_parallel regions; or parts of
 * one region that begin at multiples of a chunk, each with its place in the
 * chunks, and call store_digest_identity at the end.  Any thread. */
#ifndef STORE_DIGEST_H
#define STORE_DIGEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/num.h"
#include "ptc/manifest.h"

static inline uint64_t store_digest_n_chunks(uint64_t n_bytes)
{
    return base_ceil_div(n_bytes, PTC_DIGEST_CHUNK_BYTES);
}

/* Of the @n_bytes of @fd at @offset.  @ret_chunks has room for
 * store_digest_n_chunks of them; @ret_identity may be NULL.  @label is what an
 * error calls the file.  Both are undefined after an error.
 * Errors: BASE_CHANGED (the file ends first), BASE_IO, BASE_NO_MEM */
enum base_code store_digest_range(int fd,
                                  uint64_t offset,
                                  uint64_t n_bytes,
                                  const char *label,
                                  struct base_digest *ret_chunks,
                                  struct base_digest *ret_identity,
                                  struct base_err *err) BASE_MUST_CHECK;

/* The same of memory. */
void store_digest_bytes(const void *bytes,
                        uint64_t n_bytes,
                        struct base_digest *ret_chunks,
                        struct base_digest *ret_identity);

/* Digest those of @regions that are not: their places in @chunks (by first_chunk),
 * their identities, and is_digested are filled in.  @fds has a descriptor for
 * each blob that such a region names.  Reads are shared by @options' threads;
 * progress counts bytes, from @begin_bytes on, of @all_bytes.
 * Errors: BASE_INTERRUPTED; those of store_digest_range */
struct store_digest_options {
    unsigned n_threads; /* 0: the processors, at most 8 */
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void *progress_ctx;
    uint64_t begin_bytes;
    uint64_t all_bytes;
};
enum base_code store_digest_regions(const int *fds,
                                    struct ptc_manifest_region *regions,
                                    uint32_t n_regions,
                                    struct base_digest *chunks,
                                    const struct store_digest_options *options,
                                    struct base_err *err) BASE_MUST_CHECK;

/* The identity of a region whose chunks have these digests. */
struct base_digest store_digest_identity(const struct base_digest *chunks,
                                         uint64_t n_chunks);

#endif
