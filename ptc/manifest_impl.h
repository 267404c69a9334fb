/* How a manifest lies in bytes: for ptc/manifest.c and ptc/manifest_open.c
 * only.  docs/formats.md has the same as tables. */
#ifndef PTC_MANIFEST_IMPL_H
#define PTC_MANIFEST_IMPL_H

#include <stdint.h>

#include "ptc/manifest.h"

#define PTC_MANIFEST_MAGIC  "RETILEMF"
#define PTC_MANIFEST_FORMAT 2u

/* Sections in their order: enum, name in errors, bytes of a record. */
#define PTC_MANIFEST_SECTIONS(X)                                               \
    X(PTC_MANIFEST_BLOBS, "blobs", 24)                                         \
    X(PTC_MANIFEST_TENSORS, "tensors", 24)                                     \
    X(PTC_MANIFEST_PIECES, "pieces", 8) /* words of records */                 \
    X(PTC_MANIFEST_REGIONS, "regions", 56)                                     \
    X(PTC_MANIFEST_CHUNKS, "chunks", 16)                                       \
    X(PTC_MANIFEST_OBJECTS, "objects", 16)                                     \
    X(PTC_MANIFEST_TEXTS, "texts", 1) /* then zeros up to a multiple of 8 */

enum ptc_manifest_section {
#define X(id, name, n_bytes) id,
    PTC_MANIFEST_SECTIONS(X)
#undef X
        PTC_MANIFEST_N_SECTIONS
};

enum {
#define X(id, name, n_bytes) id##_RECORD = (n_bytes),
    PTC_MANIFEST_SECTIONS(X)
#undef X
};

/* The header. */
enum {
    PTC_MANIFEST_AT_MAGIC = 0,
    PTC_MANIFEST_AT_FORMAT = 8,
    PTC_MANIFEST_AT_ZERO = 12,
    PTC_MANIFEST_AT_N_BYTES = 16,
    PTC_MANIFEST_AT_NUMBER = 24,
    PTC_MANIFEST_AT_PARENT = 32,
    PTC_MANIFEST_AT_STEP = 40,
    PTC_MANIFEST_AT_SAMPLES = 48,
    PTC_MANIFEST_AT_CREATED = 56,
    PTC_MANIFEST_AT_TABLE = 64,
    PTC_MANIFEST_AT_SECTIONS = 80, /* offset and count, 8 bytes each */
    PTC_MANIFEST_AT_LAYOUT = 192,  /* offset and length, 4 bytes each */
    PTC_MANIFEST_AT_ORIGIN = 200,
    PTC_MANIFEST_HEADER_BYTES = 208,
    PTC_MANIFEST_END_BYTES = 16, /* the digest of all before it */
};

/* The flags of a region. */
enum { PTC_MANIFEST_IS_DIGESTED = 1 };

struct ptc_manifest {
    const unsigned char *bytes;
    char *origin;
    struct ptc_manifest_head head;
    const unsigned char *at[PTC_MANIFEST_N_SECTIONS];
    uint64_t n[PTC_MANIFEST_N_SECTIONS]; /* records */
};

static inline uint32_t ptc_manifest_u32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
           (uint32_t)at[3] << 24;
}

static inline uint64_t ptc_manifest_u64(const unsigned char *at)
{
    return ptc_manifest_u32(at) | (uint64_t)ptc_manifest_u32(at + 4) << 32;
}

/* The record of a tensor; where its pieces begin is counted in words. */
struct ptc_manifest_tensor {
    uint64_t first_word;
    uint64_t n_pieces;
    uint32_t n_dims;
    uint32_t n_bits; /* of an element */
};

static inline struct ptc_manifest_tensor
ptc_manifest_tensor(const struct ptc_manifest *manifest, uint64_t idx)
{
    const unsigned char *at =
        manifest->at[PTC_MANIFEST_TENSORS] + idx * PTC_MANIFEST_TENSORS_RECORD;

    return (struct ptc_manifest_tensor){
        .first_word = ptc_manifest_u64(at),
        .n_pieces = ptc_manifest_u64(at + 8),
        .n_dims = ptc_manifest_u32(at + 16),
        .n_bits = ptc_manifest_u32(at + 20),
    };
}

static inline uint64_t ptc_manifest_word(const struct ptc_manifest *manifest,
                                         uint64_t idx)
{
    return ptc_manifest_u64(manifest->at[PTC_MANIFEST_PIECES] + 8 * idx);
}

#endif
