/* Input: bytes that make two boxes and a range.  Differences are disjoint,
 * lie in the first box and outside of the second, and their volumes add up;
 * the boxes of a range do too, in order. */
#include "ptc/box.h"
#include "tests/fuzz/fuzz.h"

struct bytes {
    const uint8_t *at;
    size_t left;
};

static uint64_t take(struct bytes *bytes)
{
    if (bytes->left == 0) {
        return 0;
    }
    bytes->left--;
    return *bytes->at++;
}

static struct ptc_box take_box(struct bytes *bytes, uint32_t n_dims)
{
    struct ptc_box box = {.n_dims = n_dims};

    for (uint32_t d = 0; d < n_dims; d++) {
        box.begin[d] = take(bytes) % 32;
        box.end[d] = box.begin[d] + take(bytes) % 32;
    }
    return box;
}

static void check_disjoint(const struct ptc_box *boxes, uint32_t n)
{
    struct ptc_box common;

    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t k = 0; k < i; k++) {
            FUZZ_CHECK(!ptc_box_intersect(&boxes[i], &boxes[k], &common));
        }
    }
}

static void check_subtract(const struct ptc_box *a, const struct ptc_box *b)
{
    struct ptc_box rest[2 * PTC_MAX_DIMS];
    struct ptc_box common;
    uint32_t n = ptc_box_subtract(a, b, rest);
    uint64_t n_elems = 0;

    for (uint32_t i = 0; i < n; i++) {
        FUZZ_CHECK(!ptc_box_is_empty(&rest[i]));
        FUZZ_CHECK(ptc_box_contains(a, &rest[i]));
        FUZZ_CHECK(!ptc_box_intersect(b, &rest[i], &common));
        n_elems += ptc_box_elems(&rest[i]);
    }
    check_disjoint(rest, n);
    if (ptc_box_intersect(a, b, &common)) {
        n_elems += ptc_box_elems(&common);
    }
    FUZZ_CHECK(n_elems == ptc_box_elems(a));
}

static void check_range(struct bytes *bytes, uint32_t n_dims)
{
    struct ptc_box boxes[2 * PTC_MAX_DIMS];
    struct ptc_box whole;
    uint64_t shape[PTC_MAX_DIMS];
    uint64_t n;
    uint64_t begin;
    uint64_t end;
    uint64_t n_elems = 0;
    uint32_t n_boxes;

    for (uint32_t d = 0; d < n_dims; d++) {
        shape[d] = take(bytes) % 9;
    }
    whole = ptc_box_whole(n_dims, shape);
    n = ptc_box_elems(&whole);
    begin = (take(bytes) << 16 | take(bytes) << 8 | take(bytes)) % (n + 1);
    end = begin + (take(bytes) << 16 | take(bytes) << 8 | take(bytes)) %
                      (n + 1 - begin);
    n_boxes = ptc_box_of_range(n_dims, shape, begin, end, boxes);
    FUZZ_CHECK(n_boxes <= (n_dims == 0 ? 1 : 2 * n_dims - 1));
    check_disjoint(boxes, n_boxes);
    for (uint32_t i = 0; i < n_boxes; i++) {
        uint64_t first = 0;

        for (uint32_t d = 0; d < n_dims; d++) {
            first = first * shape[d] + boxes[i].begin[d];
        }
        FUZZ_CHECK(ptc_box_contains(&whole, &boxes[i]));
        FUZZ_CHECK(first == begin + n_elems);
        n_elems += ptc_box_elems(&boxes[i]);
    }
    FUZZ_CHECK(n_elems == end - begin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes bytes = {data, size};
    uint32_t n_dims = (uint32_t)(take(&bytes) % (PTC_MAX_DIMS + 1));
    struct ptc_box a = take_box(&bytes, n_dims);
    struct ptc_box b = take_box(&bytes, n_dims);
    char text[PTC_BOX_TEXT_BYTES];

    check_subtract(&a, &b);
    check_subtract(&b, &a);
    FUZZ_CHECK(strlen(ptc_box_format(&a, text)) < PTC_BOX_TEXT_BYTES);
    check_range(&bytes, n_dims);
    return 0;
}
