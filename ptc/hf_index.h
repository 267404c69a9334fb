/* Hugging Face's GROUP.safetensors.index.json: which tensor is in which file.
 * Pure. */
#ifndef PTC_HF_INDEX_H
#define PTC_HF_INDEX_H

#include <stdint.h>

#include "base/str.h"

struct ptc_hf_entry {
    struct base_str tensor;
    uint32_t file; /* index of files */
};

struct ptc_hf_index {
    struct base_arena *arena;
    uint64_t total_size; /* metadata.total_size in bytes; 0 when absent */
    uint32_t n_files;
    struct base_str *files; /* distinct names, sorted; NUL-terminated */
    uint32_t n_entries;
    struct ptc_hf_entry *entries; /* sorted by tensor */
};

void ptc_hf_index_free(struct ptc_hf_index *index);
BASE_AUTO_DEFINE(ptc_hf_index);

/* Unknown keys beside metadata and weight_map are refused; further keys inside
 * metadata are allowed.  A file name that is not a plain name ending in
 * .safetensors is refused. */
enum base_code ptc_hf_index_parse(struct base_str text,
                                  const char *origin,
                                  struct ptc_hf_index **ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Entries sorted by tensor; indented by two spaces as the hub's own are. */
enum base_code ptc_hf_index_write(const struct ptc_hf_index *index,
                                  struct base_buf *buf,
                                  struct base_err *err) BASE_MUST_CHECK;

#endif
