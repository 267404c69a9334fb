/* Boxes: half-open hyper-rectangles of a tensor, in elements; dimension 0 is
 * the outermost (C order).  Values, no ownership.  Pure. */
#ifndef PTC_BOX_H
#define PTC_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define PTC_MAX_DIMS 8

/* A scalar has n_dims 0 and one element.  Entries past n_dims are undefined. */
struct ptc_box {
    uint32_t n_dims;
    uint64_t begin[PTC_MAX_DIMS];
    uint64_t end[PTC_MAX_DIMS];
};

/* The whole of a tensor of that shape. */
struct ptc_box ptc_box_whole(uint32_t n_dims, const uint64_t *shape);
uint64_t ptc_box_elems(const struct ptc_box *box); /* 0 when empty */
bool ptc_box_is_empty(const struct ptc_box *box);
bool ptc_box_eq(const struct ptc_box *a, const struct ptc_box *b);
bool ptc_box_contains(const struct ptc_box *outer, const struct ptc_box *inner);
/* False when they share nothing (*ret then undefined).  @ret may be @a. */
bool ptc_box_intersect(const struct ptc_box *a,
                       const struct ptc_box *b,
                       struct ptc_box *ret);

/* a minus b as disjoint boxes: at most 2 * n_dims, written to @ret (room for
 * 2 * PTC_MAX_DIMS); returns how many.  Order is fixed. */
uint32_t ptc_box_subtract(const struct ptc_box *a,
                          const struct ptc_box *b,
                          struct ptc_box *ret);

/* A range [begin, end) of elements in C order of @shape, as disjoint boxes in
 * that order: at most 2 * n_dims - 1 (1 for a scalar); returns how many. */
uint32_t ptc_box_of_range(uint32_t n_dims,
                          const uint64_t *shape,
                          uint64_t begin,
                          uint64_t end,
                          struct ptc_box *ret);

#define PTC_BOX_TEXT_BYTES 400
/* "[0:4, 128:256]" into @text (PTC_BOX_TEXT_BYTES); returns @text. */
char *ptc_box_format(const struct ptc_box *box, char *text);

#endif
