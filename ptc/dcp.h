/* The sharding metadata of PyTorch DCP's safetensors writer: the string value
 * of DCP_SHARDING_INFO in a file's __metadata__,
 *   {"<tensor>": {"saved_offsets": [o0, o1, ..]}, ..}
 * A tensor's global shape is the maximum of offset + shape over all files.
 * Pure.  Source: torch/distributed/checkpoint/hf_storage.py (behaviour). */
#ifndef PTC_DCP_H
#define PTC_DCP_H

#include <stdint.h>

#include "base/str.h"
#include "ptc/box.h"

struct ptc_dcp_entry {
    struct base_str tensor;
    uint32_t n_dims;
    uint64_t offset[PTC_MAX_DIMS]; /* in elements */
};

struct ptc_dcp_info {
    struct base_arena *arena;
    uint32_t n_entries;
    struct ptc_dcp_entry *entries; /* sorted by tensor */
};

void ptc_dcp_info_free(struct ptc_dcp_info *info);
BASE_AUTO_DEFINE(ptc_dcp_info);

enum base_code ptc_dcp_info_parse(struct base_str text,
                                  const char *origin,
                                  struct ptc_dcp_info **ret,
                                  struct base_err *err) BASE_MUST_CHECK;
/* NULL when the tensor is not listed. */
const struct ptc_dcp_entry *ptc_dcp_info_find(const struct ptc_dcp_info *info,
                                              struct base_str tensor);

#endif
