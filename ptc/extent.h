/* What a view is made of; for ptc/view.c (which builds it) and ptc/cursor.c
 * (which walks it) only. */
#ifndef PTC_EXTENT_H
#define PTC_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#include "ptc/view.h"

/* A run or a loop.  Extents of one level stand together, in order of `at`, and
 * tile the file (or the row they stand in). */
struct ptc_extent {
    uint64_t at;      /* first byte: in the file, or in the enclosing row */
    uint64_t n_bytes; /* of the run; of one row of the loop */
    union {
        uint64_t offset; /* run: in the blob, when all rows around it are 0 */
        uint64_t n_rows; /* loop: at least 2 */
    };
    union {
        uint32_t blob;  /* run */
        uint32_t first; /* loop: its extents, in view->inner */
    };
    union {
        uint32_t strides; /* run: index of view->strides; [dim] is the step in
                             the blob per row of the enclosing loop over dim */
        uint32_t n;       /* loop: how many extents a row has */
    };
    uint8_t dim; /* loop: which of the tensor's dimensions it goes over */
    bool is_loop;
};

static inline uint64_t ptc_extent_bytes(const struct ptc_extent *extent)
{
    return extent->is_loop ? extent->n_bytes * extent->n_rows : extent->n_bytes;
}

struct ptc_extents {
    struct ptc_extent *items;
    size_t n;
    size_t cap;
};

struct ptc_view {
    struct ptc_extents top;
    struct ptc_extents inner;
    struct {
        uint64_t *items;
        size_t n;
        size_t cap;
    } strides;
    uint64_t n_bytes;
    size_t n_header;
    char *header;
};

#endif
