#include "ptc/box.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"

struct ptc_box ptc_box_whole(uint32_t n_dims, const uint64_t *shape)
{
    struct ptc_box box = {.n_dims = n_dims};

    assert(n_dims <= PTC_MAX_DIMS);
    for (uint32_t d = 0; d < n_dims; d++) {
        box.end[d] = shape[d];
    }
    return box;
}

bool ptc_box_is_empty(const struct ptc_box *box)
{
    for (uint32_t d = 0; d < box->n_dims; d++) {
        if (box->begin[d] >= box->end[d]) {
            return true;
        }
    }
    return false;
}

uint64_t ptc_box_elems(const struct ptc_box *box)
{
    uint64_t n = 1;

    if (ptc_box_is_empty(box)) {
        return 0;
    }
    for (uint32_t d = 0; d < box->n_dims; d++) {
        n *= box->end[d] - box->begin[d]; /* bounded by the tensor's size */
    }
    return n;
}

bool ptc_box_eq(const struct ptc_box *a, const struct ptc_box *b)
{
    if (a->n_dims != b->n_dims) {
        return false;
    }
    for (uint32_t d = 0; d < a->n_dims; d++) {
        if (a->begin[d] != b->begin[d] || a->end[d] != b->end[d]) {
            return false;
        }
    }
    return true;
}

bool ptc_box_contains(const struct ptc_box *outer, const struct ptc_box *inner)
{
    if (outer->n_dims != inner->n_dims) {
        return false;
    }
    if (ptc_box_is_empty(inner)) {
        return true;
    }
    for (uint32_t d = 0; d < outer->n_dims; d++) {
        if (inner->begin[d] < outer->begin[d] ||
            inner->end[d] > outer->end[d]) {
            return false;
        }
    }
    return true;
}

bool ptc_box_intersect(const struct ptc_box *a,
                       const struct ptc_box *b,
                       struct ptc_box *ret)
{
    assert(a->n_dims == b->n_dims);
    ret->n_dims = a->n_dims;
    for (uint32_t d = 0; d < a->n_dims; d++) {
        uint64_t begin = base_max_u64(a->begin[d], b->begin[d]);
        uint64_t end = base_min_u64(a->end[d], b->end[d]);

        if (begin >= end) {
            return false;
        }
        ret->begin[d] = begin;
        ret->end[d] = end;
    }
    return true;
}

/* Dimension by dimension, what lies before and behind b is cut off, and the
 * rest, which agrees with b so far, is cut further. */
uint32_t ptc_box_subtract(const struct ptc_box *a,
                          const struct ptc_box *b,
                          struct ptc_box *ret)
{
    struct ptc_box common;
    struct ptc_box rest = *a;
    uint32_t n = 0;

    if (ptc_box_is_empty(a)) {
        return 0;
    }
    if (!ptc_box_intersect(a, b, &common)) {
        ret[0] = *a;
        return 1;
    }
    for (uint32_t d = 0; d < a->n_dims; d++) {
        if (rest.begin[d] < common.begin[d]) {
            ret[n] = rest;
            ret[n++].end[d] = common.begin[d];
        }
        if (common.end[d] < rest.end[d]) {
            ret[n] = rest;
            ret[n++].begin[d] = common.end[d];
        }
        rest.begin[d] = common.begin[d];
        rest.end[d] = common.end[d];
    }
    return n;
}

/* What ptc_box_of_range carries down the dimensions. */
struct range_state {
    struct ptc_box box;           /* outer dimensions are fixed, inner whole */
    uint64_t inner[PTC_MAX_DIMS]; /* elements of one index of dimension d */
    struct ptc_box *ret;
    uint32_t n;
};

static void
range_emit(struct range_state *s, uint32_t d, uint64_t begin, uint64_t end)
{
    struct ptc_box *box = &s->ret[s->n++];

    *box = s->box;
    box->begin[d] = begin;
    box->end[d] = end;
}

static void
range_cut(struct range_state *s, uint32_t d, uint64_t begin, uint64_t end);

/* The part [begin, end) of the one index @at of dimension @d. */
static void range_cut_row(struct range_state *s,
                          uint32_t d,
                          uint64_t at,
                          uint64_t begin,
                          uint64_t end)
{
    uint64_t whole_end = s->box.end[d];

    s->box.begin[d] = at;
    s->box.end[d] = at + 1;
    range_cut(s, d + 1, begin, end);
    s->box.begin[d] = 0;
    s->box.end[d] = whole_end;
}

/* Cut elements [begin, end) of the dimensions from @d on: a part of the first
 * row, whole rows, a part of the last row.  Depth is at most n_dims. */
static void
range_cut(struct range_state *s, uint32_t d, uint64_t begin, uint64_t end)
{
    uint64_t inner = s->inner[d];
    uint64_t first = begin / inner;
    uint64_t last = end / inner;

    if (begin % inner != 0 && first == last) {
        range_cut_row(s, d, first, begin % inner, end % inner);
        return;
    }
    if (begin % inner != 0) {
        range_cut_row(s, d, first, begin % inner, inner);
        first++;
    }
    if (first < last) {
        range_emit(s, d, first, last);
    }
    if (end % inner != 0) {
        range_cut_row(s, d, last, 0, end % inner);
    }
}

uint32_t ptc_box_of_range(uint32_t n_dims,
                          const uint64_t *shape,
                          uint64_t begin,
                          uint64_t end,
                          struct ptc_box *ret)
{
    struct range_state s = {.box = ptc_box_whole(n_dims, shape), .ret = ret};
    uint64_t inner = 1;

    assert(begin <= end && end <= ptc_box_elems(&s.box));
    if (begin == end) {
        return 0;
    }
    if (n_dims == 0) {
        ret[0] = s.box;
        return 1;
    }
    for (uint32_t d = n_dims; d-- > 0;) {
        s.inner[d] = inner;
        inner *= shape[d];
    }
    range_cut(&s, 0, begin, end);
    return s.n;
}

char *ptc_box_format(const struct ptc_box *box, char *text)
{
    size_t at = 0;

    text[at++] = '[';
    for (uint32_t d = 0; d < box->n_dims; d++) {
        /* 2 * 20 digits, a colon, a comma and a space: 43 bytes each */
        at += (size_t)snprintf(text + at, PTC_BOX_TEXT_BYTES - at,
                               "%s%" PRIu64 ":%" PRIu64, d == 0 ? "" : ", ",
                               box->begin[d], box->end[d]);
    }
    text[at++] = ']';
    text[at] = '\0';
    return text;
}
