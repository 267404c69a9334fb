/* Lists of boxes; see ptc/boxes.h.
 *
 * Two observations keep this linear for the shards that layouts make.  Equal
 * boxes (replicas) go first, by sorting.  And boxes are taken away in C order:
 * ptc_box_subtract leaves the part behind the box in C order as one piece, so
 * that the fragments of a box that is eaten from its front stay few. */
#include "ptc/boxes.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"

#define RECENT         16 /* how far back ptc_boxes_add_new looks */
#define INSERTION_SORT 24 /* lists up to this long are sorted in place */

void ptc_boxes_done(struct ptc_boxes *boxes)
{
    base_vec_done(boxes);
}

bool ptc_boxes_add(struct ptc_boxes *boxes,
                   const struct ptc_box *box,
                   uint32_t rank,
                   uint32_t holding)
{
    struct ptc_tagged_box *item;

    if (boxes->n >= PTC_BOXES_MAX) {
        boxes->is_full = true;
        return false;
    }
    if (!base_vec_reserve(boxes, boxes->n + 1)) {
        return false;
    }
    item = &boxes->items[boxes->n++];
    item->box.n_dims = box->n_dims;
    for (uint32_t d = 0; d < box->n_dims; d++) {
        item->box.begin[d] = box->begin[d];
        item->box.end[d] = box->end[d];
    }
    item->rank = rank;
    item->holding = holding;
    return true;
}

bool ptc_boxes_add_new(struct ptc_boxes *boxes,
                       const struct ptc_box *box,
                       uint32_t rank,
                       uint32_t holding)
{
    size_t stop = boxes->n > RECENT ? boxes->n - RECENT : 0;

    for (size_t i = boxes->n; i > stop; i--) {
        if (ptc_box_cmp(&boxes->items[i - 1].box, box) == 0) {
            return true;
        }
    }
    return ptc_boxes_add(boxes, box, rank, holding);
}

int ptc_box_cmp(const struct ptc_box *a, const struct ptc_box *b)
{
    for (uint32_t d = 0; d < a->n_dims; d++) {
        if (a->begin[d] != b->begin[d]) {
            return a->begin[d] < b->begin[d] ? -1 : 1;
        }
    }
    for (uint32_t d = 0; d < a->n_dims; d++) {
        if (a->end[d] != b->end[d]) {
            return a->end[d] < b->end[d] ? -1 : 1;
        }
    }
    return 0;
}

bool ptc_box_join(struct ptc_box *a, const struct ptc_box *b)
{
    uint32_t along = a->n_dims;

    for (uint32_t d = 0; d < a->n_dims; d++) {
        if (a->begin[d] == b->begin[d] && a->end[d] == b->end[d]) {
            continue;
        }
        if (along != a->n_dims || a->end[d] != b->begin[d]) {
            return false;
        }
        along = d;
    }
    if (along == a->n_dims) {
        return false; /* equal, or scalars */
    }
    a->end[along] = b->end[along];
    return true;
}

/* Boxes, then the owner: a total order. */
static int item_cmp(const struct ptc_tagged_box *a,
                    const struct ptc_tagged_box *b)
{
    int cmp = ptc_box_cmp(&a->box, &b->box);

    if (cmp != 0) {
        return cmp;
    }
    if (a->holding != b->holding) {
        return a->holding < b->holding ? -1 : 1;
    }
    return (a->rank > b->rank) - (a->rank < b->rank);
}

static int item_qsort_cmp(const void *a, const void *b)
{
    return item_cmp(a, b);
}

void ptc_boxes_sort(struct ptc_boxes *boxes)
{
    size_t sorted = 1;

    while (sorted < boxes->n &&
           item_cmp(&boxes->items[sorted - 1], &boxes->items[sorted]) <= 0) {
        sorted++;
    }
    if (sorted >= boxes->n) {
        return;
    }
    if (boxes->n > INSERTION_SORT) {
        qsort(boxes->items, boxes->n, sizeof(*boxes->items), item_qsort_cmp);
        return;
    }
    for (size_t i = sorted; i < boxes->n; i++) {
        struct ptc_tagged_box item = boxes->items[i];
        size_t at = i;

        while (at > 0 && item_cmp(&boxes->items[at - 1], &item) > 0) {
            boxes->items[at] = boxes->items[at - 1];
            at--;
        }
        boxes->items[at] = item;
    }
}

void ptc_boxes_unique(struct ptc_boxes *boxes)
{
    size_t n = 0;

    if (boxes->n < 2) {
        return;
    }
    ptc_boxes_sort(boxes);
    for (size_t i = 1; i < boxes->n; i++) {
        if (ptc_box_cmp(&boxes->items[n].box, &boxes->items[i].box) == 0) {
            continue;
        }
        n++;
        if (n != i) {
            boxes->items[n] = boxes->items[i];
        }
    }
    boxes->n = n + 1;
}

/* A grid of boxes in C order shrinks by one dimension in each pass. */
void ptc_boxes_join(struct ptc_boxes *boxes)
{
    size_t before;

    do {
        size_t n = 0;

        before = boxes->n;
        for (size_t i = 1; i < boxes->n; i++) {
            struct ptc_tagged_box *last = &boxes->items[n];
            const struct ptc_tagged_box *item = &boxes->items[i];

            if (last->rank == item->rank && last->holding == item->holding &&
                ptc_box_join(&last->box, &item->box)) {
                continue;
            }
            n++;
            if (n != i) {
                boxes->items[n] = boxes->items[i];
            }
        }
        if (boxes->n > 0) {
            boxes->n = n + 1;
        }
    } while (boxes->n != before && boxes->n > 1);
}

static bool overlap(const struct ptc_box *a, const struct ptc_box *b)
{
    for (uint32_t d = 0; d < a->n_dims; d++) {
        if (a->begin[d] >= b->end[d] || b->begin[d] >= a->end[d]) {
            return false;
        }
    }
    return true;
}

/* The dimension along which a sweep meets the fewest boxes at a time. */
static uint32_t sweep_dim(const struct ptc_boxes *boxes)
{
    uint32_t n_dims = boxes->items[0].box.n_dims;
    uint32_t best = 0;
    uint64_t best_active = UINT64_MAX;

    for (uint32_t d = 0; d < n_dims; d++) {
        uint64_t begin = UINT64_MAX;
        uint64_t end = 0;
        unsigned __int128 sum = 0;
        uint64_t active;

        for (size_t i = 0; i < boxes->n; i++) {
            const struct ptc_box *box = &boxes->items[i].box;

            begin = box->begin[d] < begin ? box->begin[d] : begin;
            end = box->end[d] > end ? box->end[d] : end;
            sum += box->end[d] - box->begin[d];
        }
        active = (uint64_t)(sum / (end - begin));
        if (active < best_active) {
            best_active = active;
            best = d;
        }
    }
    return best;
}

static int along_cmp(const void *a, const void *b, void *ctx)
{
    const struct ptc_tagged_box *x = a;
    const struct ptc_tagged_box *y = b;
    uint32_t d = *(const uint32_t *)ctx;

    if (x->box.begin[d] != y->box.begin[d]) {
        return x->box.begin[d] < y->box.begin[d] ? -1 : 1;
    }
    return item_cmp(x, y);
}

static bool pairwise_disjoint(const struct ptc_boxes *boxes)
{
    for (size_t i = 1; i < boxes->n; i++) {
        for (size_t k = 0; k < i; k++) {
            if (overlap(&boxes->items[k].box, &boxes->items[i].box)) {
                return false;
            }
        }
    }
    return true;
}

/* Append to @out what no box of @out that is still active has of @box.
 * active[0 .. n_active - 1] are indices into @out. */
static bool add_rest(struct ptc_boxes *out,
                     const struct ptc_box *box,
                     const size_t *active,
                     size_t n_active)
{
    struct ptc_box pieces[2 * PTC_MAX_DIMS];
    size_t begin = out->n;

    if (!ptc_boxes_add(out, box, 0, 0)) {
        return false;
    }
    for (size_t a = 0; a < n_active; a++) {
        size_t n = out->n;

        for (size_t i = begin; i < n;) {
            uint32_t n_pieces;

            if (!overlap(&out->items[i].box, &out->items[active[a]].box)) {
                i++;
                continue;
            }
            n_pieces = ptc_box_subtract(&out->items[i].box,
                                        &out->items[active[a]].box, pieces);
            out->items[i] = out->items[--n]; /* fragments are in no order */
            out->items[n] = out->items[--out->n];
            for (uint32_t p = 0; p < n_pieces; p++) {
                if (!ptc_boxes_add(out, &pieces[p], 0, 0)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* Sweep over @boxes along one dimension; each box gives what the earlier ones
 * that reach into it leave.  The sweep forgets what ends before it. */
static bool disjoin(struct ptc_boxes *boxes, struct ptc_boxes *out)
{
    uint32_t d = sweep_dim(boxes);
    BASE_AUTO_MEM size_t *active = NULL;
    size_t cap = 0;
    size_t n_active = 0;

    out->n = 0;
    qsort_r(boxes->items, boxes->n, sizeof(*boxes->items), along_cmp, &d);
    for (size_t i = 0; i < boxes->n; i++) {
        const struct ptc_box *box = &boxes->items[i].box;
        size_t first = out->n;
        size_t kept = 0;

        for (size_t a = 0; a < n_active; a++) {
            if (out->items[active[a]].box.end[d] > box->begin[d]) {
                active[kept++] = active[a];
            }
        }
        n_active = kept;
        if (!add_rest(out, box, active, n_active)) {
            return false;
        }
        if (n_active + out->n - first > cap &&
            !base_vec_grow_((void **)&active, &cap, n_active + out->n - first,
                            sizeof(*active))) {
            return false;
        }
        for (size_t k = first; k < out->n; k++) {
            active[n_active++] = k;
        }
    }
    return true;
}

static void forget_tags(struct ptc_boxes *boxes)
{
    for (size_t i = 0; i < boxes->n; i++) {
        boxes->items[i].rank = 0;
        boxes->items[i].holding = 0;
    }
}

bool ptc_boxes_union(struct ptc_boxes *boxes, struct ptc_boxes *scratch)
{
    struct ptc_boxes swap;

    ptc_boxes_unique(boxes);
    if (boxes->n < 2) {
        return true;
    }
    if (boxes->n > INSERTION_SORT || !pairwise_disjoint(boxes)) {
        if (!disjoin(boxes, scratch)) {
            return false;
        }
        swap = *boxes;
        *boxes = *scratch;
        *scratch = swap;
        ptc_boxes_sort(boxes);
    } else {
        forget_tags(boxes);
    }
    ptc_boxes_join(boxes);
    return true;
}

/* Take @have from the boxes of @rest from index @begin on (fragments of one
 * box): what it covers goes to @taken. */
static bool take_one(struct ptc_boxes *rest,
                     size_t begin,
                     const struct ptc_tagged_box *have,
                     struct ptc_boxes *taken)
{
    struct ptc_box pieces[2 * PTC_MAX_DIMS];
    struct ptc_box common;
    size_t n = rest->n;

    for (size_t i = begin; i < n;) {
        uint32_t n_pieces;

        if (!ptc_box_intersect(&rest->items[i].box, &have->box, &common)) {
            i++;
            continue;
        }
        if (taken != NULL &&
            !ptc_boxes_add(taken, &common, have->rank, have->holding)) {
            return false;
        }
        n_pieces = ptc_box_subtract(&rest->items[i].box, &have->box, pieces);
        rest->items[i] = rest->items[--n];
        rest->items[n] = rest->items[--rest->n];
        for (uint32_t p = 0; p < n_pieces; p++) {
            if (!ptc_boxes_add(rest, &pieces[p], 0, 0)) {
                return false;
            }
        }
    }
    return true;
}

/* The first box of @have that may reach past @begin in dimension 0: ends need
 * not ascend, so this bisects only where they do (a layout's shards). */
static size_t
first_reaching(const struct ptc_boxes *have, uint64_t begin, bool ends_ascend)
{
    size_t low = 0;
    size_t high = have->n;

    if (!ends_ascend) {
        return 0;
    }
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (have->items[mid].box.end[0] > begin) {
            high = mid;
        } else {
            low = mid + 1;
        }
    }
    return low;
}

static bool do_ends_ascend(const struct ptc_boxes *have)
{
    if (have->items[0].box.n_dims == 0) {
        return false;
    }
    for (size_t i = 1; i < have->n; i++) {
        if (have->items[i].box.end[0] < have->items[i - 1].box.end[0]) {
            return false;
        }
    }
    return true;
}

bool ptc_boxes_take(struct ptc_boxes *rest,
                    const struct ptc_boxes *have,
                    struct ptc_boxes *taken,
                    struct ptc_boxes *scratch)
{
    struct ptc_boxes swap;
    bool ends_ascend;

    if (have->n == 0 || rest->n == 0) {
        return true;
    }
    ends_ascend = do_ends_ascend(have);
    scratch->n = 0;
    for (size_t i = 0; i < rest->n; i++) {
        const struct ptc_box *box = &rest->items[i].box;
        size_t begin = scratch->n;
        size_t k = 0;

        if (!ptc_boxes_add(scratch, box, 0, 0)) {
            return false;
        }
        if (box->n_dims > 0) {
            k = first_reaching(have, box->begin[0], ends_ascend);
        }
        for (; k < have->n && scratch->n > begin; k++) {
            if (box->n_dims > 0 && have->items[k].box.begin[0] >= box->end[0]) {
                break;
            }
            if (!take_one(scratch, begin, &have->items[k], taken)) {
                return false;
            }
        }
    }
    swap = *rest;
    *rest = *scratch;
    *scratch = swap;
    return true;
}

uint64_t ptc_boxes_elems(const struct ptc_boxes *boxes)
{
    uint64_t n = 0;

    for (size_t i = 0; i < boxes->n; i++) {
        n += ptc_box_elems(&boxes->items[i].box);
    }
    return n;
}
