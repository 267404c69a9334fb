/* The measure of a union of boxes, by slabs; see ptc/measure.h.
 *
 * Space is cut at every begin and end along one dimension.  The boxes that
 * reach into a slab between two neighbouring cut points all cross it, so that
 * they are measured one dimension further, times the slab's width. */
#include "ptc/measure.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

/* So many boxes are sorted and kept in place, more of them with libc's help. */
#define FEW 16

static int u64_cmp(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void cuts_sort(uint64_t *cuts, size_t n)
{
    if (n > 2 * FEW) {
        qsort(cuts, n, sizeof(*cuts), u64_cmp);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        uint64_t cut = cuts[i];
        size_t at = i;

        for (; at > 0 && cuts[at - 1] > cut; at--) {
            cuts[at] = cuts[at - 1];
        }
        cuts[at] = cut;
    }
}

static int begin_cmp(const void *a, const void *b, void *ctx)
{
    const struct ptc_box *x = *(const struct ptc_box *const *)a;
    const struct ptc_box *y = *(const struct ptc_box *const *)b;
    uint32_t d = *(const uint32_t *)ctx;

    return (x->begin[d] > y->begin[d]) - (x->begin[d] < y->begin[d]);
}

static void boxes_sort(const struct ptc_box **boxes, size_t n, uint32_t d)
{
    if (n > FEW) {
        qsort_r(boxes, n, sizeof(*boxes), begin_cmp, &d);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        const struct ptc_box *box = boxes[i];
        size_t at = i;

        for (; at > 0 && boxes[at - 1]->begin[d] > box->begin[d]; at--) {
            boxes[at] = boxes[at - 1];
        }
        boxes[at] = box;
    }
}

/* Over the dimensions from @d on. */
static bool
measure(const struct ptc_box **boxes, size_t n, uint32_t d, uint64_t *ret);

/* @cuts has room for 2 * n cut points; @active for the boxes that cross a slab,
 * n, and behind them n more for the recursion to permute. */
static bool sweep(const struct ptc_box **boxes,
                  size_t n,
                  uint32_t d,
                  uint64_t *cuts,
                  const struct ptc_box **active,
                  uint64_t *ret)
{
    size_t n_active = 0;
    size_t next = 0;

    for (size_t i = 0; i < n; i++) {
        cuts[2 * i] = boxes[i]->begin[d];
        cuts[2 * i + 1] = boxes[i]->end[d];
    }
    cuts_sort(cuts, 2 * n);
    boxes_sort(boxes, n, d);
    *ret = 0;
    for (size_t i = 0; i + 1 < 2 * n; i++) {
        size_t kept = 0;
        uint64_t inner;

        if (cuts[i] == cuts[i + 1]) {
            continue;
        }
        for (size_t k = 0; k < n_active; k++) {
            if (active[k]->end[d] > cuts[i]) {
                active[kept++] = active[k];
            }
        }
        while (next < n && boxes[next]->begin[d] == cuts[i]) {
            active[kept++] = boxes[next++];
        }
        n_active = kept;
        memcpy(active + n, active, n_active * sizeof(*active));
        if (!measure(active + n, n_active, d + 1, &inner)) {
            return false;
        }
        *ret += inner * (cuts[i + 1] - cuts[i]);
    }
    return true;
}

static bool
sweep_few(const struct ptc_box **boxes, size_t n, uint32_t d, uint64_t *ret)
{
    uint64_t cuts[2 * FEW];
    const struct ptc_box *active[2 * FEW];

    return sweep(boxes, n, d, cuts, active, ret);
}

static bool
sweep_many(const struct ptc_box **boxes, size_t n, uint32_t d, uint64_t *ret)
{
    BASE_AUTO_MEM uint64_t *cuts = calloc(2 * n, sizeof(*cuts));
    BASE_AUTO_MEM const struct ptc_box **active =
        calloc(2 * n, sizeof(*active));

    return cuts != NULL && active != NULL &&
           sweep(boxes, n, d, cuts, active, ret);
}

static bool
measure(const struct ptc_box **boxes, size_t n, uint32_t d, uint64_t *ret)
{
    uint64_t elems = 1;

    for (; n > 0 && d < boxes[0]->n_dims; d++) {
        bool all_equal = true; /* then a slab is as good as whole space */
        uint64_t inner;

        for (size_t i = 1; i < n && all_equal; i++) {
            all_equal = boxes[i]->begin[d] == boxes[0]->begin[d] &&
                        boxes[i]->end[d] == boxes[0]->end[d];
        }
        if (!all_equal) {
            if (!(n > FEW ? sweep_many : sweep_few)(boxes, n, d, &inner)) {
                return false;
            }
            *ret = elems * inner;
            return true;
        }
        elems *= boxes[0]->end[d] - boxes[0]->begin[d];
    }
    *ret = n == 0 ? 0 : elems;
    return true;
}

bool ptc_measure(const struct ptc_box **boxes, size_t n, uint64_t *ret)
{
    return measure(boxes, n, 0, ret);
}
