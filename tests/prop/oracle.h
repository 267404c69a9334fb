/* A brute-force oracle of layouts, written from docs/layouts.md alone: it
 * makes, element by element, what every rank shows.  It shares no code with
 * ptc/layout*.c; slow, and only for small tables (2^32 elements a tensor, 64
 * ranks). */
#ifndef TESTS_PROP_ORACLE_H
#define TESTS_PROP_ORACLE_H

#include <stdint.h>

#include "ptc/spec.h"
#include "ptc/table.h"

#define ORACLE_PADDING UINT64_MAX

/* An element of a tensor (C order), as one number. */
static inline uint64_t oracle_elem(uint32_t tensor, uint64_t elem)
{
    return (uint64_t)tensor << 32 | elem;
}

struct oracle_shown {
    char *name;
    struct base_str group;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[PTC_MAX_DIMS];
    uint64_t n_elems;
    uint64_t *elems; /* oracle_elem, or ORACLE_PADDING, in order of offset */
};

struct oracle_rank {
    uint32_t n_shown;
    struct oracle_shown *shown; /* sorted by name */
};

struct oracle {
    uint32_t n_ranks;
    struct oracle_rank *ranks;
    uint32_t n_tensors;
    uint64_t **holders; /* [tensor][element]: a bit per rank */
};

/* NULL when the spec and the table do not fit (or memory is short). */
struct oracle *oracle_create(const struct ptc_spec *spec,
                             const struct ptc_table *table);
void oracle_free(struct oracle *oracle);

#endif
