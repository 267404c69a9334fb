/* What the two halves of a table share: ptc/table.c and ptc/table_build.c. */
#ifndef PTC_TABLE_IMPL_H
#define PTC_TABLE_IMPL_H

#include "ptc/table.h"

struct ptc_table {
    struct base_arena *arena;
    struct ptc_tensor *tensors;
    struct ptc_object *objects;
    struct base_str *groups;
    uint32_t n_tensors;
    uint32_t n_objects;
    uint32_t n_groups;
    uint64_t n_bytes;
    struct base_digest digest;
};

/* The index of @name among @n tensors sorted by name, or PTC_NONE. */
uint32_t ptc_tensors_find_(const struct ptc_tensor *tensors,
                           uint32_t n,
                           struct base_str name);

#endif
