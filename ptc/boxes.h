/* Lists of boxes of one tensor: the scratch of the planner.
 *
 * A list is zeroed to begin with, reused from tensor to tensor, and freed with
 * ptc_boxes_done.  Functions yield false when memory is short, or when a list
 * would have more than PTC_BOXES_MAX boxes (then it is full).  A tag says
 * whose a box is; it plays no part in the order of boxes.  Pure. */
#ifndef PTC_BOXES_H
#define PTC_BOXES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptc/box.h"

struct ptc_tagged_box {
    struct ptc_box box;
    uint32_t rank;    /* of the holding's layout, or PTC_NONE */
    uint32_t holding; /* index into the problem's holdings */
};

/* Two layouts that each cut one dimension at PTC_CUT_MAX_RANGES places, all
 * different, are within it. */
#define PTC_BOXES_MAX (1u << 23)

struct ptc_boxes {
    struct ptc_tagged_box *items;
    size_t n;
    size_t cap;
    bool is_full; /* a box had no place */
};

void ptc_boxes_done(struct ptc_boxes *boxes);
#define PTC_AUTO_BOXES __attribute__((cleanup(ptc_boxes_done))) struct ptc_boxes

bool ptc_boxes_add(struct ptc_boxes *boxes,
                   const struct ptc_box *box,
                   uint32_t rank,
                   uint32_t holding);
/* As ptc_boxes_add, unless an equal box was added lately (the first tag of
 * equal boxes stays).  Keeps the lists of replicas short. */
bool ptc_boxes_add_new(struct ptc_boxes *boxes,
                       const struct ptc_box *box,
                       uint32_t rank,
                       uint32_t holding);

/* By begin in C order, then by end: <0, 0, >0. */
int ptc_box_cmp(const struct ptc_box *a, const struct ptc_box *b);
/* If @a and @b differ in one dimension only and @b begins there where @a ends,
 * grow @a over @b. */
bool ptc_box_join(struct ptc_box *a, const struct ptc_box *b);

/* Sort by box, then holding, then rank: a total order. */
void ptc_boxes_sort(struct ptc_boxes *boxes);
/* Join neighbours in the list that have the same tags, until that changes
 * nothing. */
void ptc_boxes_join(struct ptc_boxes *boxes);
/* Sort, and keep one of each set of equal boxes: the least (holding, rank). */
void ptc_boxes_unique(struct ptc_boxes *boxes);
/* Turn the list into disjoint boxes with the same union, sorted; neighbours
 * are joined where that is simple, tags are lost.  @scratch is overwritten.
 * Cost: n log n, and the overlaps (replicas that are equal cost nothing). */
bool ptc_boxes_union(struct ptc_boxes *boxes, struct ptc_boxes *scratch);

/* Take away from @rest (disjoint) what @have (ptc_boxes_unique) covers; what
 * is taken is added to @taken, disjoint, with the tags of @have; @taken may be
 * NULL.  @scratch is overwritten. */
bool ptc_boxes_take(struct ptc_boxes *rest,
                    const struct ptc_boxes *have,
                    struct ptc_boxes *taken,
                    struct ptc_boxes *scratch);

/* Sum of elements: of a disjoint list, those of its union. */
uint64_t ptc_boxes_elems(const struct ptc_boxes *boxes);

#endif
