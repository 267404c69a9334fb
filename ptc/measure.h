/* The measure of a union of boxes (Klee's problem): how many elements it has.
 *
 * For ptc/plan_check.c, which must share no code with the planner: so nothing
 * here is of ptc/boxes.h.  Pure. */
#ifndef PTC_MEASURE_H
#define PTC_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptc/box.h"

/* The number of elements that are in any of @boxes, which are of one tensor and
 * not empty.  The pointers are permuted.  False when memory is short.
 * Cost: n log n in one dimension; in more, the boxes that cross each slab. */
bool ptc_measure(const struct ptc_box **boxes, size_t n, uint64_t *ret);

#endif
