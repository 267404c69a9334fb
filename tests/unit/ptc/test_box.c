#include "ptc/box.h"

#include "tests/unit/unit.h"

#include "base/num.h"

#define MAX_ELEMS 4096u

/* A random box inside [0, side)^n_dims, empty now and then. */
static struct ptc_box random_box(uint64_t *seed, uint32_t n_dims, uint64_t side)
{
    struct ptc_box box = {.n_dims = n_dims};

    for (uint32_t d = 0; d < n_dims; d++) {
        box.begin[d] = base_random_next(seed) % (side + 1);
        box.end[d] =
            box.begin[d] + base_random_next(seed) % (side + 1 - box.begin[d]);
    }
    return box;
}

/* Add 1 to every cell of @box in a cube of @side. */
static void paint(const struct ptc_box *box, uint64_t side, uint8_t *cells)
{
    uint64_t n = 1;

    for (uint32_t d = 0; d < box->n_dims; d++) {
        n *= side;
    }
    for (uint64_t i = 0; i < n; i++) {
        uint64_t rest = i;
        bool is_inside = true;

        for (uint32_t d = box->n_dims; d-- > 0; rest /= side) {
            is_inside = is_inside && rest % side >= box->begin[d] &&
                        rest % side < box->end[d];
        }
        cells[i] = (uint8_t)(cells[i] + is_inside);
    }
}

static void test_subtract_leaves_exactly_what_b_lacks(void **state)
{
    uint64_t seed = 1;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint32_t n_dims = (uint32_t)(base_random_next(&seed) % 5);
        uint64_t side = 4;
        struct ptc_box a = random_box(&seed, n_dims, side);
        struct ptc_box b = random_box(&seed, n_dims, side);
        struct ptc_box rest[2 * PTC_MAX_DIMS];
        uint32_t n = ptc_box_subtract(&a, &b, rest);
        uint8_t in_a[MAX_ELEMS] = {0};
        uint8_t in_b[MAX_ELEMS] = {0};
        uint8_t in_rest[MAX_ELEMS] = {0};

        assert_true(n <= 2 * n_dims || n == 1);
        paint(&a, side, in_a);
        paint(&b, side, in_b);
        for (uint32_t i = 0; i < n; i++) {
            assert_false(ptc_box_is_empty(&rest[i]));
            paint(&rest[i], side, in_rest);
        }
        for (size_t i = 0; i < MAX_ELEMS; i++) {
            assert_int_equal(in_rest[i], in_a[i] && !in_b[i]);
        }
    }
}

static void test_intersect_agrees_with_cells(void **state)
{
    uint64_t seed = 2;

    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint32_t n_dims = (uint32_t)(base_random_next(&seed) % 4);
        uint64_t side = 5;
        struct ptc_box a = random_box(&seed, n_dims, side);
        struct ptc_box b = random_box(&seed, n_dims, side);
        struct ptc_box common;
        bool is_there = ptc_box_intersect(&a, &b, &common);
        uint8_t both[MAX_ELEMS] = {0};
        uint64_t n = 0;

        paint(&a, side, both);
        paint(&b, side, both);
        for (size_t i = 0; i < MAX_ELEMS; i++) {
            n += both[i] == 2;
        }
        assert_int_equal(is_there, n > 0);
        assert_int_equal(is_there ? ptc_box_elems(&common) : 0, n);
        if (is_there) {
            assert_true(ptc_box_contains(&a, &common));
            assert_true(ptc_box_contains(&b, &common));
            (void)ptc_box_intersect(&a, &b, &a); /* in place: known to meet */
            assert_true(ptc_box_eq(&a, &common));
        }
    }
}

/* Every range of every small shape: boxes in order, disjoint, complete. */
static void check_range(uint32_t n_dims,
                        const uint64_t *shape,
                        uint64_t begin,
                        uint64_t end)
{
    struct ptc_box boxes[2 * PTC_MAX_DIMS];
    uint32_t n = ptc_box_of_range(n_dims, shape, begin, end, boxes);
    uint64_t at = begin;

    assert_true(n <= (n_dims == 0 ? 1 : 2 * n_dims - 1));
    for (uint32_t i = 0; i < n; i++) {
        uint64_t first = 0;
        uint64_t last = 0;

        for (uint32_t d = 0; d < n_dims; d++) {
            first = first * shape[d] + boxes[i].begin[d];
            last = last * shape[d] + boxes[i].end[d] - 1;
        }
        assert_int_equal(first, at);
        /* contiguous: as many elements as lie between first and last */
        assert_int_equal(ptc_box_elems(&boxes[i]), last - first + 1);
        at = last + 1;
    }
    assert_int_equal(at, end);
}

static void test_ranges_become_boxes_in_order(void **state)
{
    static const struct {
        uint32_t n_dims;
        uint64_t shape[4];
    } shapes[] = {{0, {0}},       {1, {7}},          {2, {3, 5}},
                  {3, {2, 3, 4}}, {4, {2, 3, 2, 2}}, {3, {1, 4, 1}},
                  {2, {0, 4}},    {3, {3, 0, 2}}};

    (void)state;
    for (size_t s = 0; s < N_ITEMS(shapes); s++) {
        struct ptc_box whole = ptc_box_whole(shapes[s].n_dims, shapes[s].shape);
        uint64_t n = ptc_box_elems(&whole);

        for (uint64_t begin = 0; begin <= n; begin++) {
            for (uint64_t end = begin; end <= n; end++) {
                check_range(shapes[s].n_dims, shapes[s].shape, begin, end);
            }
        }
    }
}

static void test_format_fits_the_largest_box(void **state)
{
    struct ptc_box box = {.n_dims = 2, .begin = {0, 128}, .end = {4, 256}};
    char text[PTC_BOX_TEXT_BYTES];

    (void)state;
    assert_string_equal(ptc_box_format(&box, text), "[0:4, 128:256]");
    box.n_dims = 0;
    assert_string_equal(ptc_box_format(&box, text), "[]");
    box.n_dims = PTC_MAX_DIMS;
    for (uint32_t d = 0; d < PTC_MAX_DIMS; d++) {
        box.begin[d] = box.end[d] = UINT64_MAX;
    }
    assert_int_equal(strlen(ptc_box_format(&box, text)),
                     2 + PTC_MAX_DIMS * 41 + (PTC_MAX_DIMS - 1) * 2);
}

static void test_boxes_of_other_rank_are_never_contained(void **state)
{
    const uint64_t shape[] = {4, 4};
    struct ptc_box two = ptc_box_whole(2, shape);
    struct ptc_box one = ptc_box_whole(1, shape);
    struct ptc_box empty = two;

    (void)state;
    assert_false(ptc_box_contains(&two, &one));
    assert_false(ptc_box_eq(&two, &one));
    empty.begin[1] = empty.end[1] = 9;
    assert_true(ptc_box_is_empty(&empty));
    assert_true(ptc_box_contains(&two, &empty));
    assert_int_equal(ptc_box_elems(&empty), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_subtract_leaves_exactly_what_b_lacks),
        cmocka_unit_test(test_intersect_agrees_with_cells),
        cmocka_unit_test(test_ranges_become_boxes_in_order),
        cmocka_unit_test(test_format_fits_the_largest_box),
        cmocka_unit_test(test_boxes_of_other_rank_are_never_contained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
