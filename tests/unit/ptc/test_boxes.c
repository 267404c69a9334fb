/* Lists of boxes: ptc/boxes.h against a bitmap of small tensors. */
#include "tests/unit/unit.h"

#include <string.h>

#include "base/num.h"
#include "ptc/boxes.h"

#define SIDE    6 /* of the small tensors */
#define N_ELEMS (SIDE * SIDE * SIDE)

/* How often each element lies in the boxes. */
static void count(const struct ptc_boxes *boxes, unsigned *counts)
{
    memset(counts, 0, N_ELEMS * sizeof(*counts));
    for (size_t i = 0; i < boxes->n; i++) {
        const struct ptc_box *b = &boxes->items[i].box;

        for (uint64_t x = b->begin[0]; x < b->end[0]; x++) {
            for (uint64_t y = b->begin[1]; y < b->end[1]; y++) {
                for (uint64_t z = b->begin[2]; z < b->end[2]; z++) {
                    counts[(x * SIDE + y) * SIDE + z]++;
                }
            }
        }
    }
}

static struct ptc_box random_box(uint64_t *state)
{
    struct ptc_box box = {.n_dims = 3};

    for (unsigned d = 0; d < 3; d++) {
        box.begin[d] = base_random_next(state) % SIDE;
        box.end[d] =
            box.begin[d] + 1 + base_random_next(state) % (SIDE - box.begin[d]);
    }
    return box;
}

static void random_boxes(struct ptc_boxes *boxes, size_t n, uint64_t *state)
{
    boxes->n = 0;
    for (size_t i = 0; i < n; i++) {
        struct ptc_box box = random_box(state);

        assert_true(ptc_boxes_add(boxes, &box, (uint32_t)i, (uint32_t)(i % 3)));
    }
}

static void test_union_covers_the_same_elements_once(void **test_state)
{
    PTC_AUTO_BOXES boxes = {0};
    PTC_AUTO_BOXES scratch = {0};
    unsigned before[N_ELEMS];
    unsigned after[N_ELEMS];

    (void)test_state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        uint64_t state = seed;

        random_boxes(&boxes, 1 + seed % 40, &state);
        count(&boxes, before);
        assert_true(ptc_boxes_union(&boxes, &scratch));
        count(&boxes, after);
        for (size_t i = 0; i < N_ELEMS; i++) {
            assert_int_equal(after[i], before[i] > 0);
        }
        for (size_t i = 1; i < boxes.n; i++) {
            assert_true(
                ptc_box_cmp(&boxes.items[i - 1].box, &boxes.items[i].box) < 0);
        }
    }
}

static void test_union_joins_a_grid_into_one_box(void **test_state)
{
    PTC_AUTO_BOXES boxes = {0};
    PTC_AUTO_BOXES scratch = {0};
    struct ptc_box box = {.n_dims = 3};

    (void)test_state;
    for (uint64_t i = 0; i < 2 * N_ELEMS; i++) { /* each cell twice */
        uint64_t at[3] = {i / 2 % SIDE, i / 12 % SIDE, i / 72 % SIDE};

        for (unsigned d = 0; d < 3; d++) {
            box.begin[d] = at[d];
            box.end[d] = at[d] + 1;
        }
        assert_true(ptc_boxes_add_new(&boxes, &box, (uint32_t)i, 0));
    }
    assert_int_equal(boxes.n, N_ELEMS);
    assert_true(ptc_boxes_union(&boxes, &scratch));
    assert_int_equal(boxes.n, 1);
    assert_int_equal(ptc_boxes_elems(&boxes), N_ELEMS);
}

static void test_take_splits_into_taken_and_rest(void **test_state)
{
    PTC_AUTO_BOXES rest = {0};
    PTC_AUTO_BOXES have = {0};
    PTC_AUTO_BOXES taken = {0};
    PTC_AUTO_BOXES scratch = {0};
    unsigned needed[N_ELEMS];
    unsigned had[N_ELEMS];
    unsigned got[N_ELEMS];
    unsigned left[N_ELEMS];

    (void)test_state;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        uint64_t state = seed;

        random_boxes(&rest, 1 + seed % 7, &state);
        assert_true(ptc_boxes_union(&rest, &scratch));
        random_boxes(&have, seed % 12, &state);
        ptc_boxes_unique(&have);
        count(&rest, needed);
        count(&have, had);
        taken.n = 0;
        assert_true(ptc_boxes_take(&rest, &have, &taken, &scratch));
        count(&taken, got);
        count(&rest, left);
        for (size_t i = 0; i < N_ELEMS; i++) {
            assert_int_equal(got[i], needed[i] && had[i]);
            assert_int_equal(left[i], needed[i] && !had[i]);
        }
    }
}

static void test_take_keeps_the_tags_of_the_owner(void **test_state)
{
    const struct ptc_box whole = {.n_dims = 1, .begin = {0}, .end = {10}};
    const struct ptc_box front = {.n_dims = 1, .begin = {0}, .end = {4}};
    PTC_AUTO_BOXES rest = {0};
    PTC_AUTO_BOXES have = {0};
    PTC_AUTO_BOXES taken = {0};
    PTC_AUTO_BOXES scratch = {0};

    (void)test_state;
    assert_true(ptc_boxes_add(&rest, &whole, 1, 2));
    assert_true(ptc_boxes_add(&have, &front, 9, 5));
    assert_true(ptc_boxes_add(&have, &front, 7, 3));
    ptc_boxes_unique(&have);
    assert_int_equal(have.n, 1);
    assert_true(ptc_boxes_take(&rest, &have, &taken, &scratch));
    assert_int_equal(taken.n, 1);
    assert_int_equal(taken.items[0].rank, 7);
    assert_int_equal(taken.items[0].holding, 3);
    assert_int_equal(rest.n, 1);
    assert_int_equal(rest.items[0].box.begin[0], 4);
}

static void test_join_respects_tags_and_gaps(void **test_state)
{
    /* begin, end, rank: of neighbours on a line */
    static const struct {
        uint64_t begin[3];
        uint64_t end[3];
        uint32_t rank[3];
        size_t n_joined;
    } cases[] = {
        {{0, 2, 4}, {2, 4, 6}, {1, 1, 1}, 1},
        {{0, 2, 4}, {2, 4, 6}, {1, 2, 2}, 2},
        {{0, 2, 4}, {2, 4, 6}, {1, 2, 1}, 3},
        {{0, 2, 5}, {2, 4, 6}, {1, 1, 1}, 2},
        {{0, 3, 5}, {2, 4, 6}, {1, 1, 1}, 3},
    };

    (void)test_state;
    for (size_t c = 0; c < N_ITEMS(cases); c++) {
        PTC_AUTO_BOXES boxes = {0};

        for (size_t i = 0; i < 3; i++) {
            struct ptc_box box = {.n_dims = 2, .end = {1}};

            box.begin[1] = cases[c].begin[i];
            box.end[1] = cases[c].end[i];
            assert_true(ptc_boxes_add(&boxes, &box, cases[c].rank[i], 0));
        }
        ptc_boxes_join(&boxes);
        assert_int_equal(boxes.n, cases[c].n_joined);
    }
}

static void test_scalars_are_boxes_too(void **test_state)
{
    const struct ptc_box scalar = {.n_dims = 0};
    PTC_AUTO_BOXES rest = {0};
    PTC_AUTO_BOXES have = {0};
    PTC_AUTO_BOXES taken = {0};
    PTC_AUTO_BOXES scratch = {0};

    (void)test_state;
    assert_true(ptc_boxes_add(&rest, &scalar, 0, 0));
    assert_true(ptc_boxes_add(&rest, &scalar, 1, 0));
    assert_true(ptc_boxes_union(&rest, &scratch));
    assert_int_equal(rest.n, 1);
    assert_true(ptc_boxes_add(&have, &scalar, 4, 4));
    assert_true(ptc_boxes_take(&rest, &have, &taken, &scratch));
    assert_int_equal(rest.n, 0);
    assert_int_equal(taken.n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_union_covers_the_same_elements_once),
        cmocka_unit_test(test_union_joins_a_grid_into_one_box),
        cmocka_unit_test(test_take_splits_into_taken_and_rest),
        cmocka_unit_test(test_take_keeps_the_tags_of_the_owner),
        cmocka_unit_test(test_join_respects_tags_and_gaps),
        cmocka_unit_test(test_scalars_are_boxes_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
