/* A manifest: one version of a job, as bytes that are mapped, not parsed.
 *
 * It says everything about a version but its tensors' bytes: which blobs it
 * consists of, where in them each box of each tensor lies (pieces, strided),
 * which byte ranges carry digests (regions), the objects, the layout's text,
 * and the table's digest.  Another layout of the same state is another
 * manifest over the same blobs: that is all a rescale writes.
 *
 * Little endian, sections of fixed-size records behind one header; every
 * offset and count is checked when a manifest is opened, so that accessors
 * need no checks.  docs/formats.md has each byte.  Pure. */
#ifndef PTC_MANIFEST_H
#define PTC_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "ptc/pieces.h"
#include "ptc/table.h"

#define PTC_MANIFEST_MAX_BYTES ((uint64_t)1 << 32)
#define PTC_MANIFEST_MAX_BLOBS ((uint32_t)1 << 24)
#define PTC_DIGEST_CHUNK_BYTES ((uint64_t)1 << 20) /* one digest per 1 MiB */

struct ptc_blob_name {
    uint8_t bytes[16]; /* random; 32 hexadecimal digits as a file's name */
};

struct ptc_manifest_blob {
    struct ptc_blob_name name;
    uint64_t n_bytes;
};

/* A range of a blob that holds one shard of one tensor, contiguous.  Chunk i
 * is its bytes [i MiB, (i + 1) MiB), counted from its own first byte, so the
 * digest is the same wherever the region lies.  Chunks stand in the order of
 * the regions, one region's after the other's. */
struct ptc_manifest_region {
    uint32_t tensor; /* PTC_NONE: of a flat bucket, or of an object */
    uint32_t blob;
    uint64_t offset;
    uint64_t n_bytes;
    uint64_t first_chunk;      /* index into the digests */
    struct base_digest digest; /* of its chunks' digests: its identity */
    bool is_digested;          /* else digest and chunks are zero */
};

struct ptc_manifest_object {
    struct base_str name;
    uint32_t rank; /* PTC_NONE: the job's */
    uint32_t region;
};

/* What a manifest says once; the texts are borrowed from the manifest. */
struct ptc_manifest_head {
    uint64_t version;         /* its number in the job */
    uint64_t parent;          /* the version it was made from, 0: none */
    uint64_t step;            /* of the training job; UINT64_MAX: not known */
    uint64_t samples;         /* the data position; UINT64_MAX: not known */
    int64_t created_ns;       /* wall clock, since 1970 */
    struct base_digest table; /* encode writes that of its table instead */
    struct base_str layout;   /* canonical text of the spec */
    struct base_str origin;   /* "import", "rescale", "rollback", "save" */
};

/* Making one.  Arrays are borrowed until ptc_manifest_encode returns; pieces
 * name blobs by their index in @blobs. */
struct ptc_manifest_new {
    struct ptc_manifest_head head;
    const struct ptc_manifest_blob *blobs;
    uint32_t n_blobs;
    const struct ptc_manifest_region *regions;
    uint32_t n_regions;
    const struct base_digest *chunks;
    uint64_t n_chunks;
    const struct ptc_manifest_object *objects; /* by name, then rank */
    uint32_t n_objects;
    const struct ptc_table *table;
    const struct ptc_pieces *pieces; /* every byte of @table once */
};

/* Append the bytes.  Equal input, equal bytes; what was appended can be opened.
 * @pieces are sealed, and were made for @table.
 * Errors: BASE_BAD_ARG  it could not be opened, and why
 *         BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_manifest_encode(const struct ptc_manifest_new *from,
                                   struct base_buf *buf,
                                   struct base_err *err) BASE_MUST_CHECK;

/* Opening one: @bytes (8-aligned, borrowed as long as the manifest) are checked
 * whole: magic, version, own digest, sizes, offsets, counts, indices, texts.
 * Errors: BASE_BAD_INPUT, naming @origin, section and field; BASE_NO_MEM */
struct ptc_manifest;
void ptc_manifest_free(struct ptc_manifest *manifest);
BASE_AUTO_DEFINE(ptc_manifest);
enum base_code ptc_manifest_open(struct base_str bytes,
                                 const char *origin,
                                 struct ptc_manifest **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

const struct ptc_manifest_head *
ptc_manifest_head(const struct ptc_manifest *manifest);
/* Of all its bytes: no two manifests have the same. */
struct base_digest ptc_manifest_digest(const struct ptc_manifest *manifest);
uint32_t ptc_manifest_n_blobs(const struct ptc_manifest *manifest);
struct ptc_manifest_blob ptc_manifest_blob(const struct ptc_manifest *manifest,
                                           uint32_t idx);
uint32_t ptc_manifest_n_regions(const struct ptc_manifest *manifest);
struct ptc_manifest_region
ptc_manifest_region(const struct ptc_manifest *manifest, uint32_t idx);
/* Digest of a region's chunk @idx. */
struct base_digest ptc_manifest_chunk(const struct ptc_manifest *manifest,
                                      const struct ptc_manifest_region *region,
                                      uint64_t idx);
/* How many regions have no digest yet, and their bytes. */
uint32_t ptc_manifest_undigested(const struct ptc_manifest *manifest,
                                 uint64_t *ret_bytes);
uint32_t ptc_manifest_n_objects(const struct ptc_manifest *manifest);
struct ptc_manifest_object
ptc_manifest_object(const struct ptc_manifest *manifest, uint32_t idx);

/* Where the bytes of a piece lie: @n_bytes of them, in a range of @span_bytes. */
struct ptc_manifest_extent {
    uint32_t blob;
    uint64_t offset;
    uint64_t span_bytes;
    uint64_t n_bytes;
};
/* Call @fn for each piece.  Needs no table.  Errors: fn's */
typedef enum base_code (*ptc_manifest_extent_fn)(
    void *ctx, const struct ptc_manifest_extent *extent, struct base_err *err);
enum base_code ptc_manifest_extents(const struct ptc_manifest *manifest,
                                    ptc_manifest_extent_fn fn,
                                    void *ctx,
                                    struct base_err *err) BASE_MUST_CHECK;

/* The pieces over @table; sealed and checked for exact cover, given.
 * Errors: BASE_MISMATCH   @table's digest is not the head's
 *         BASE_BAD_INPUT  the pieces are not such of @table, or do not cover it
 *         BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_manifest_pieces(const struct ptc_manifest *manifest,
                                   const struct ptc_table *table,
                                   struct ptc_pieces **ret,
                                   struct base_err *err) BASE_MUST_CHECK;

#endif
