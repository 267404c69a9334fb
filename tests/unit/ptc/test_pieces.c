/* Pieces: search against brute force, exact cover, ties, sub-byte cuts. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "ptc/pieces.h"

#define MAX_BOXES 4096

/* A table of one tensor "t" and, when @has_tie, "tie" to it. */
static struct ptc_table *table_of(enum ptc_dtype dtype,
                                  uint32_t n_dims,
                                  const uint64_t *shape,
                                  bool has_tie)
{
    struct base_err err;
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_table *table = NULL;

    assert_non_null(builder);
    assert_ok(ptc_table_add(builder, BASE_STR("t"), BASE_STR("model"), dtype,
                            n_dims, shape, &err),
              &err);
    if (has_tie) {
        assert_ok(
            ptc_table_add_tie(builder, BASE_STR("tie"), BASE_STR("t"), &err),
            &err);
    }
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    return table;
}

/* A piece of a tensor of @shape that lies whole, in C order, in @blob; each
 * step is @elem. */
static struct ptc_piece piece_of(const struct ptc_box *box,
                                 const uint64_t *shape,
                                 uint32_t blob,
                                 uint64_t elem)
{
    struct ptc_piece piece = {.box = *box, .blob = blob, .offset = 1000};
    uint64_t step = elem;

    for (uint32_t d = box->n_dims; d-- > 0;) {
        piece.stride[d] = step;
        piece.offset += box->begin[d] * step;
        step *= shape[d];
    }
    return piece;
}

/* Cut @boxes[0], of @n_dims, at random until there are @n. */
static uint32_t boxes_split(struct ptc_box *boxes, uint32_t n, uint64_t *state)
{
    uint32_t have = 1;

    for (uint32_t tries = 0; have < n && tries < 20 * n; tries++) {
        struct ptc_box *box = &boxes[base_random_next(state) % have];
        uint32_t d = (uint32_t)(base_random_next(state) % box->n_dims);
        uint64_t length = box->end[d] - box->begin[d];

        if (length > 1) {
            boxes[have] = *box;
            boxes[have].begin[d] = box->end[d] =
                box->begin[d] + 1 + base_random_next(state) % (length - 1);
            have++;
        }
    }
    return have;
}

static struct ptc_pieces *pieces_of(const struct ptc_table *table,
                                    const uint64_t *shape,
                                    const struct ptc_box *boxes,
                                    uint32_t n)
{
    struct base_err err;
    struct ptc_pieces *pieces = ptc_pieces_create(table);

    assert_non_null(pieces);
    for (uint32_t i = 0; i < n; i++) {
        struct ptc_piece piece = piece_of(&boxes[i], shape, i, 4);

        assert_ok(ptc_pieces_add(pieces, 0, &piece, &err), &err);
    }
    assert_ok(ptc_pieces_seal(pieces, &err), &err);
    return pieces;
}

struct found {
    const struct ptc_box *boxes; /* of blob i */
    const struct ptc_box *asked;
    const uint64_t *shape;
    uint32_t n;
    uint32_t last;
};

static enum base_code on_found(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct found *found = ctx;
    struct ptc_box cut;
    struct ptc_piece expect;

    (void)err;
    assert_int_equal(tensor, 0);
    assert_true(
        ptc_box_intersect(&found->boxes[piece->blob], found->asked, &cut));
    assert_true(ptc_box_eq(&cut, &piece->box));
    expect = piece_of(&cut, found->shape, piece->blob, 4);
    assert_int_equal(piece->offset, expect.offset);
    if (found->n > 0) { /* C order of the uncut pieces */
        const struct ptc_box *a = &found->boxes[found->last];
        const struct ptc_box *b = &found->boxes[piece->blob];
        uint32_t d = 0;

        while (d < a->n_dims && a->begin[d] == b->begin[d]) {
            d++;
        }
        assert_true(d < a->n_dims && a->begin[d] < b->begin[d]);
    }
    found->last = piece->blob;
    found->n++;
    return BASE_OK;
}

static void test_find_agrees_with_a_look_at_every_piece(void **test_state)
{
    static const uint64_t shapes[][3] = {{5000}, {90, 70}, {9, 20, 30}};
    static struct ptc_box boxes[MAX_BOXES];

    (void)test_state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        uint64_t state = seed;
        uint32_t n_dims = (uint32_t)(1 + seed % 3);
        const uint64_t *shape = shapes[n_dims - 1];
        BASE_AUTO(ptc_table) table = table_of(PTC_F32, n_dims, shape, false);
        uint32_t n = (uint32_t)(1 + base_random_next(&state) % 1200);
        struct base_err err;

        boxes[0] = ptc_box_whole(n_dims, shape);
        n = boxes_split(boxes, n, &state);
        BASE_AUTO(ptc_pieces) pieces = pieces_of(table, shape, boxes, n);
        assert_int_equal(ptc_pieces_n(pieces), n);
        assert_ok(ptc_pieces_check(pieces, &err), &err);
        for (unsigned k = 0; k < 50; k++) {
            struct ptc_box asked = ptc_box_whole(n_dims, shape);
            struct ptc_box cut;
            struct found found = {boxes, &asked, shape, 0, 0};
            uint32_t n_meet = 0;

            for (uint32_t d = 0; d < n_dims; d++) {
                asked.begin[d] = base_random_next(&state) % shape[d];
                asked.end[d] =
                    asked.begin[d] + 1 +
                    base_random_next(&state) % (shape[d] - asked.begin[d]);
            }
            for (uint32_t i = 0; i < n; i++) {
                n_meet += ptc_box_intersect(&boxes[i], &asked, &cut);
            }
            assert_ok(
                ptc_pieces_find(pieces, 0, &asked, on_found, &found, &err),
                &err);
            assert_int_equal(found.n, n_meet);
        }
    }
}

static void test_check_finds_what_is_missing_or_twice_there(void **test_state)
{
    static const uint64_t shape[] = {12, 10, 8};
    static struct ptc_box boxes[MAX_BOXES];
    BASE_AUTO(ptc_table) table = table_of(PTC_F32, 3, shape, false);

    (void)test_state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        uint64_t state = seed;
        struct base_err err = {0};
        uint32_t n;
        uint32_t victim;

        boxes[0] = ptc_box_whole(3, shape);
        n = boxes_split(boxes, 1 + (uint32_t)(seed % 60), &state);
        victim = (uint32_t)(base_random_next(&state) % n);
        if (seed % 2 == 0) { /* one element less, or a piece less */
            if (++boxes[victim].begin[0] == boxes[victim].end[0]) {
                boxes[victim] = boxes[--n];
            }
        } else { /* one element twice */
            boxes[n] = boxes[victim];
            for (uint32_t d = 0; d < 3; d++) {
                boxes[n].end[d] = boxes[n].begin[d] + 1;
            }
            n++;
        }
        BASE_AUTO(ptc_pieces) pieces = pieces_of(table, shape, boxes, n);
        assert_int_equal(ptc_pieces_check(pieces, &err), BASE_MISMATCH);
        assert_non_null(strstr(err.text, "tensor t: ["));
        assert_non_null(
            strstr(err.text, seed % 2 == 0 ? "missing" : "there twice"));
    }
}

static void test_check_names_the_box(void **test_state)
{
    static const uint64_t shape[] = {4, 6};
    static const struct ptc_box boxes[] = {
        {2, {0, 0}, {4, 3}},
        {2, {0, 3}, {2, 6}},
        {2, {3, 3}, {4, 6}},
    };
    BASE_AUTO(ptc_table) table = table_of(PTC_F32, 2, shape, false);
    BASE_AUTO(ptc_pieces) pieces = pieces_of(table, shape, boxes, 3);
    BASE_AUTO(ptc_pieces) none = pieces_of(table, shape, boxes, 0);
    struct base_err err = {0};

    (void)test_state;
    assert_int_equal(ptc_pieces_check(pieces, &err), BASE_MISMATCH);
    assert_string_equal(err.text, "tensor t: [2:3, 3:6] is missing");
    assert_int_equal(ptc_pieces_check(none, &err), BASE_MISMATCH);
    assert_string_equal(err.text, "tensor t: [0:4, 0:6] is missing");
}

static void test_check_of_a_large_grid_is_quick(void **test_state)
{
    static const uint64_t shape[] = {900, 900};
    BASE_AUTO(ptc_table) table = table_of(PTC_F32, 2, shape, false);
    BASE_AUTO(ptc_pieces) pieces = ptc_pieces_create(table);
    struct base_err err;

    (void)test_state;
    for (uint64_t x = 0; x < 450; x++) {
        for (uint64_t y = 0; y < 450; y++) {
            struct ptc_box box = {2, {2 * x, 2 * y}, {2 * x + 2, 2 * y + 2}};
            struct ptc_piece piece = piece_of(&box, shape, 0, 4);

            assert_ok(ptc_pieces_add(pieces, 0, &piece, &err), &err);
        }
    }
    assert_ok(ptc_pieces_seal(pieces, &err), &err);
    assert_ok(ptc_pieces_check(pieces, &err), &err);
}

static void test_add_refuses_what_is_no_piece(void **test_state)
{
    static const uint64_t shape[] = {4, 6};
    static const struct {
        struct ptc_piece piece;
        enum base_code code;
    } cases[] = {
        {{.box = {2, {0, 0}, {4, 7}}}, BASE_BAD_ARG},
        {{.box = {1, {0}, {4}}}, BASE_BAD_ARG},
        {{.box = {2, {0, 0}, {4, 6}}, .stride = {UINT64_MAX, 1}}, BASE_BAD_ARG},
        {{.box = {2, {0, 0}, {4, 6}}, .offset = UINT64_MAX, .stride = {1, 0}},
         BASE_BAD_ARG},
        {{.box = {2, {3, 3}, {3, 6}}}, BASE_OK}, /* empty: ignored */
    };
    BASE_AUTO(ptc_table) table = table_of(PTC_F32, 2, shape, true);
    BASE_AUTO(ptc_pieces) pieces = ptc_pieces_create(table);
    struct ptc_piece piece = {.box = ptc_box_whole(2, shape)};
    struct base_err err;

    (void)test_state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(ptc_pieces_add(pieces, 0, &cases[i].piece, &err),
                         cases[i].code);
    }
    assert_int_equal(ptc_pieces_add(pieces,
                                    ptc_table_find(table, BASE_STR("tie")),
                                    &piece, &err),
                     BASE_BAD_ARG);
    assert_ok(ptc_pieces_seal(pieces, &err), &err);
    assert_int_equal(ptc_pieces_n(pieces), 0);
}

static enum base_code on_count(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    uint64_t *n_elems = ctx;

    (void)tensor;
    (void)err;
    *n_elems += ptc_box_elems(&piece->box);
    return BASE_OK;
}

static void
test_ties_are_found_in_their_root_and_left_out_of_rebind(void **test_state)
{
    static const uint64_t shape[] = {4, 6};
    BASE_AUTO(ptc_table) table = table_of(PTC_F32, 2, shape, false);
    BASE_AUTO(ptc_table) tied = table_of(PTC_F32, 2, shape, true);
    BASE_AUTO(ptc_pieces) copy = NULL;
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_box whole = ptc_box_whole(2, shape);
    BASE_AUTO(ptc_pieces) pieces = pieces_of(table, shape, &whole, 1);
    BASE_AUTO(ptc_table) other = NULL;
    struct base_err err = {0};
    uint64_t n_elems = 0;

    (void)test_state;
    assert_ok(ptc_pieces_rebind(pieces, tied, &copy, &err), &err);
    assert_ok(ptc_pieces_find(copy, ptc_table_find(tied, BASE_STR("tie")),
                              &whole, on_count, &n_elems, &err),
              &err);
    assert_int_equal(n_elems, 24);
    assert_ok(ptc_pieces_check(copy, &err), &err);
    assert_ok(ptc_table_finish(builder, &other, &err), &err);
    assert_int_equal(ptc_pieces_rebind(pieces, other, &copy, &err),
                     BASE_MISMATCH);
}

static void test_a_scalar_is_one_piece(void **test_state)
{
    BASE_AUTO(ptc_table) table = table_of(PTC_F64, 0, NULL, false);
    struct ptc_box box = {0};
    struct ptc_box twice[2] = {{0}, {0}};
    BASE_AUTO(ptc_pieces) none = pieces_of(table, NULL, &box, 0);
    BASE_AUTO(ptc_pieces) one = pieces_of(table, NULL, &box, 1);
    BASE_AUTO(ptc_pieces) two = pieces_of(table, NULL, twice, 2);
    struct base_err err;
    uint64_t n_elems = 0;

    (void)test_state;
    assert_int_equal(ptc_pieces_check(none, &err), BASE_MISMATCH);
    assert_ok(ptc_pieces_check(one, &err), &err);
    assert_int_equal(ptc_pieces_check(two, &err), BASE_MISMATCH);
    assert_ok(ptc_pieces_find(one, 0, &box, on_count, &n_elems, &err), &err);
    assert_int_equal(n_elems, 1);
}

static void test_a_cut_inside_a_byte_is_refused(void **test_state)
{
    static const uint64_t shape[] = {4, 6};
    BASE_AUTO(ptc_table) table = table_of(PTC_F4, 2, shape, false);
    BASE_AUTO(ptc_pieces) pieces = ptc_pieces_create(table);
    struct ptc_piece piece = {.box = ptc_box_whole(2, shape),
                              .stride = {24, 4}};
    struct ptc_box good = {2, {1, 2}, {2, 4}};
    struct ptc_box bad = {2, {1, 1}, {2, 4}};
    struct base_err err;
    uint64_t n_elems = 0;

    (void)test_state;
    assert_ok(ptc_pieces_add(pieces, 0, &piece, &err), &err);
    assert_ok(ptc_pieces_seal(pieces, &err), &err);
    assert_ok(ptc_pieces_find(pieces, 0, &good, on_count, &n_elems, &err),
              &err);
    assert_int_equal(ptc_pieces_find(pieces, 0, &bad, on_count, &n_elems, &err),
                     BASE_UNSUPPORTED);
    ptc_piece_cut(&piece, ptc_table_tensor(table, 0), &good);
    assert_int_equal(piece.offset, 4); /* (24 + 2 * 4) / 8 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find_agrees_with_a_look_at_every_piece),
        cmocka_unit_test(test_check_finds_what_is_missing_or_twice_there),
        cmocka_unit_test(test_check_names_the_box),
        cmocka_unit_test(test_check_of_a_large_grid_is_quick),
        cmocka_unit_test(test_add_refuses_what_is_no_piece),
        cmocka_unit_test(
            test_ties_are_found_in_their_root_and_left_out_of_rebind),
        cmocka_unit_test(test_a_scalar_is_one_piece),
        cmocka_unit_test(test_a_cut_inside_a_byte_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
