#include "store/digest.h"

#include <stdlib.h>

#include "base/auto.h"
#include "base/io.h"

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
