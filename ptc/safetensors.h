/* The safetensors format, on memory: header reading (as strict as the reference
 * reader, and stricter where it says "not all parsers agree") and writing.
 *
 * A file is: u64 LE header length N; N bytes of JSON, perhaps padded with
 * spaces; data.  Pure.
 * Source: safetensors, src/tensor.rs; docs/formats.md repeats each rule. */
#ifndef PTC_SAFETENSORS_H
#define PTC_SAFETENSORS_H

#include <stdint.h>

#include "base/str.h"
#include "ptc/box.h"
#include "ptc/dtype.h"

#define PTC_ST_MAX_HEADER 100000000u /* the reference reader's limit */
#define PTC_ST_DATA_ALIGN 4096u      /* where our writer puts the data */

struct ptc_st_entry {
    struct base_str name;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    const uint64_t *shape;
    uint64_t begin; /* in bytes, from the start of the data */
    uint64_t end;
};

struct ptc_st_header {
    struct base_arena *arena;
    uint64_t data_offset; /* 8 + N */
    uint32_t n_entries;
    struct ptc_st_entry *entries; /* by (begin, end) */
    uint32_t n_meta;
    struct base_str (*meta)[2]; /* key, value of __metadata__, by key */
};

void ptc_st_header_free(struct ptc_st_header *header);
BASE_AUTO_DEFINE(ptc_st_header);

/* The length of the JSON from a file's first 8 bytes, checked against the
 * limit and @file_bytes.  @origin names the file. */
enum base_code ptc_st_header_length(const uint8_t first8[8],
                                    uint64_t file_bytes,
                                    const char *origin,
                                    uint64_t *ret_length,
                                    struct base_err *err) BASE_MUST_CHECK;

/* Read the JSON part.  Errors, each naming @origin, tensor and field:
 *   BASE_BAD_INPUT  not UTF-8, not one object from '{' to '}' and spaces,
 *                   duplicate keys, deep nesting, an integer past 2^63 - 1,
 *                   unknown or missing field, wrong type, unknown dtype, more
 *                   than PTC_MAX_DIMS dims, negative or fractional numbers,
 *                   overflow, size != shape, hole, overlap, data that end
 *                   before or after the file does, a name that breaks
 *                   ptc_name_check
 *   BASE_LIMIT      what ptc_json_load refuses
 *   BASE_NO_MEM */
enum base_code ptc_st_header_parse(struct base_str json,
                                   uint64_t file_bytes,
                                   const char *origin,
                                   struct ptc_st_header **ret,
                                   struct base_err *err) BASE_MUST_CHECK;

/* The value of a __metadata__ key; .ptr NULL when absent. */
struct base_str ptc_st_meta(const struct ptc_st_header *header,
                            const char *key);

/* What a header is made from; the caller fills it in. */
struct ptc_st_new {
    struct base_str name;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    const uint64_t *shape;
    uint64_t n_bytes;
    uint64_t offset; /* out: from the start of the data */
};

/* Put @entries into the reference writer's order (dtype descending, name) and
 * give each its offset. */
void ptc_st_order(struct ptc_st_new *entries, uint32_t n);

/* Append length and JSON to @buf, padded so that data begins at a multiple of
 * PTC_ST_DATA_ALIGN.  @retile is the value of the metadata key `retile` (.len
 * 0: left out); `format: pt` is always written.  Entries as ptc_st_order left
 * them.  Deterministic. */
enum base_code ptc_st_header_write(const struct ptc_st_new *entries,
                                   uint32_t n,
                                   struct base_str retile,
                                   struct base_buf *buf,
                                   struct base_err *err) BASE_MUST_CHECK;

#endif
