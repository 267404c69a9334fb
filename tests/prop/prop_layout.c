/* Random layouts against the oracle, for every rank and every element:
 *   - what a rank shows: names, groups, dtypes, shapes, in order
 *   - parts put every element of a shown tensor where the oracle has it, each
 *     once, in order of offset; padding is in no part
 *   - find covers any box exactly, each cell's holders are exactly the ranks
 *     that the oracle says, the lowest first, each once
 *
 * RETILE_SEED replays one case, RETILE_CASES says how many to run. */
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/prop/oracle.h"
#include "tests/prop/random_layout.h"

/* What one comparison works with; a failure names seed and spec. */
struct check {
    const struct random_problem *problem;
    unsigned spec;
    const struct ptc_layout *layout;
    const struct oracle *oracle;
    uint64_t random;
    ptc_rank rank;
    uint32_t tensor;
    uint32_t next;        /* shown tensor of the rank */
    uint64_t last_offset; /* of the part before; UINT64_MAX: none */
    uint64_t *filled;     /* what parts put into the shown tensor */
    uint64_t n_filled;
    uint8_t *covered;   /* by cells, per element of the tensor */
    struct ptc_box box; /* that was asked for */
    uint64_t n_cells;
    uint64_t last_first; /* C order of the cell before; UINT64_MAX: none */
    bool is_flat;
};

#define CHECK(c, claim)                                                        \
    do {                                                                       \
        if (!(claim)) {                                                        \
            fputs((c)->problem->specs[(c)->spec], stderr);                     \
            fail_msg("RETILE_SEED=%" PRIu64 ", spec %u, rank %" PRIu32         \
                     ", tensor %" PRIu32 ": not so: %s",                       \
                     (c)->problem->seed, (c)->spec, (c)->rank, (c)->tensor,    \
                     #claim);                                                  \
        }                                                                      \
    } while (0)

static const struct ptc_tensor *tensor_of(const struct check *c, uint32_t idx)
{
    return ptc_table_tensor(ptc_layout_table(c->layout), idx);
}

/* Visit the elements of @box: C order in the tensor and, by @stride, offset. */
typedef void (*elem_fn)(struct check *c, uint64_t elem, uint64_t offset);

static void each_elem(struct check *c,
                      const struct ptc_box *box,
                      uint64_t offset,
                      const uint64_t *stride,
                      elem_fn fn)
{
    const struct ptc_tensor *t = tensor_of(c, c->tensor);
    uint64_t at[PTC_MAX_DIMS];
    uint32_t d;

    if (ptc_box_elems(box) == 0) {
        return;
    }
    memcpy(at, box->begin, sizeof(at));
    do {
        uint64_t elem = 0;
        uint64_t place = offset;

        for (d = 0; d < box->n_dims; d++) {
            elem = elem * t->shape[d] + at[d];
            place += (at[d] - box->begin[d]) * stride[d];
        }
        fn(c, elem, place);
        for (d = box->n_dims; d > 0 && ++at[d - 1] == box->end[d - 1]; d--) {
            at[d - 1] = box->begin[d - 1];
        }
    } while (d > 0);
}

/* Forward. */

static void fill_elem(struct check *c, uint64_t elem, uint64_t offset)
{
    const struct oracle_shown *want = &c->oracle->ranks[c->rank].shown[c->next];

    CHECK(c, offset < want->n_elems);
    CHECK(c, c->filled[offset] == ORACLE_PADDING); /* once */
    c->filled[offset] = oracle_elem(c->tensor, elem);
    c->n_filled++;
}

static enum base_code shown_part(void *ctx,
                                 uint32_t tensor,
                                 const struct ptc_part *part,
                                 struct base_err *err)
{
    struct check *c = ctx;
    struct ptc_box whole = ptc_box_whole(tensor_of(c, tensor)->n_dims,
                                         tensor_of(c, tensor)->shape);
    unsigned bits = ptc_dtype_bits(tensor_of(c, tensor)->dtype);

    (void)err;
    c->tensor = tensor;
    CHECK(c, !ptc_box_is_empty(&part->box));
    CHECK(c, part->box.n_dims == whole.n_dims);
    CHECK(c, ptc_box_contains(&whole, &part->box));
    CHECK(c, c->last_offset == UINT64_MAX || part->offset > c->last_offset);
    CHECK(c, part->offset * bits % 8 == 0);
    CHECK(c, ptc_box_elems(&part->box) * bits % 8 == 0);
    c->last_offset = part->offset;
    each_elem(c, &part->box, part->offset, part->stride, fill_elem);
    return BASE_OK;
}

/* A part of one tensor: counted, its bytes were looked at by shown_part. */
static enum base_code
count_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    uint64_t *n = ctx;

    (void)err;
    *n += ptc_box_elems(&part->box);
    return BASE_OK;
}

static enum base_code
check_shown(void *ctx, const struct ptc_shown *shown, struct base_err *err)
{
    struct check *c = ctx;
    const struct oracle_rank *rank = &c->oracle->ranks[c->rank];
    const struct oracle_shown *want = &rank->shown[c->next];

    c->tensor = shown->tensor;
    CHECK(c, c->next < rank->n_shown);
    CHECK(c, base_str_eq(shown->name, base_str_of(want->name)));
    CHECK(c, base_str_eq(shown->group, want->group));
    CHECK(c, shown->dtype == want->dtype);
    CHECK(c, shown->n_dims == want->n_dims);
    for (uint32_t d = 0; d < want->n_dims; d++) {
        CHECK(c, shown->shape[d] == want->shape[d]);
    }
    c->filled = calloc(want->n_elems + 1, sizeof(uint64_t));
    assert_non_null(c->filled);
    for (uint64_t e = 0; e < want->n_elems; e++) {
        c->filled[e] = ORACLE_PADDING;
    }
    c->last_offset = UINT64_MAX;
    assert_ok(
        ptc_layout_shown_parts(c->layout, c->rank, shown, shown_part, c, err),
        err);
    for (uint64_t e = 0; e < want->n_elems; e++) {
        CHECK(c, c->filled[e] == want->elems[e]);
    }
    free(c->filled);
    c->filled = NULL;
    c->next++;
    return BASE_OK;
}

/* Parts within a box, counted: what lies in it of the others. */
struct clipped {
    const struct ptc_box *within;
    uint64_t n_all; /* elements of all parts that lie in the box */
    uint64_t n_elems;
};

static enum base_code
clip_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    struct clipped *c = ctx;
    struct ptc_box box;

    (void)err;
    if (ptc_box_intersect(&part->box, c->within, &box)) {
        c->n_all += ptc_box_elems(&box);
    }
    return BASE_OK;
}

/* A clipped part must lie in the box. */
static enum base_code
count_clipped(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    struct clipped *c = ctx;

    (void)err;
    assert_true(ptc_box_contains(c->within, &part->box));
    assert_false(ptc_box_is_empty(&part->box));
    c->n_elems += ptc_box_elems(&part->box);
    return BASE_OK;
}

/* The parts within a box are disjoint as the parts are: so it is enough that
 * they lie in it and are as many elements. */
static void check_parts_in(struct check *c, struct base_err *err)
{
    const struct ptc_tensor *t = tensor_of(c, c->tensor);
    struct ptc_box box = ptc_box_whole(t->n_dims, t->shape);
    struct clipped clipped = {.within = &box};

    for (uint32_t d = 0; d < t->n_dims; d++) {
        uint64_t a = random_below(&c->random, t->shape[d] + 1);
        uint64_t b = random_below(&c->random, t->shape[d] + 1);

        box.begin[d] = a < b ? a : b;
        box.end[d] = a < b ? b : a;
    }
    assert_ok(ptc_layout_parts(c->layout, c->tensor, c->rank, clip_part,
                               &clipped, err),
              err);
    assert_ok(ptc_layout_parts_in(c->layout, c->tensor, c->rank, &box,
                                  count_clipped, &clipped, err),
              err);
    CHECK(c, clipped.n_elems == clipped.n_all);
}

/* Every tensor's parts are as many elements as the rank holds of it. */
static void check_parts(struct check *c, struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *bits =
        calloc(c->oracle->n_tensors / 64 + 1, sizeof(*bits));

    assert_non_null(bits);
    ptc_layout_tensors(c->layout, c->rank, bits);
    for (c->tensor = 0; c->tensor < c->oracle->n_tensors; c->tensor++) {
        uint64_t n_elems = tensor_of(c, c->tensor)->n_elems;
        bool has_bit = bits[c->tensor / 64] >> c->tensor % 64 & 1;
        uint64_t n = 0;
        uint64_t want = 0;

        for (uint64_t e = 0; e < n_elems; e++) {
            want += c->oracle->holders[c->tensor][e] >> c->rank & 1;
        }
        assert_ok(ptc_layout_parts(c->layout, c->tensor, c->rank, count_part,
                                   &n, err),
                  err);
        CHECK(c, n == want);
        CHECK(c, n == 0 || ptc_layout_has(c->layout, c->tensor, c->rank));
        CHECK(c, n == 0 || has_bit);
        CHECK(c, !has_bit || ptc_layout_has(c->layout, c->tensor, c->rank));
        check_parts_in(c, err);
    }
}

static void check_rank(struct check *c, struct base_err *err)
{
    c->next = 0;
    assert_ok(ptc_layout_shown(c->layout, c->rank, (struct base_str){"", 0},
                               check_shown, c, err),
              err);
    CHECK(c, c->next == c->oracle->ranks[c->rank].n_shown);
    check_parts(c, err);
}

/* Inverse. */

static uint64_t the_holders;

static void cover_elem(struct check *c, uint64_t elem, uint64_t offset)
{
    (void)offset;
    CHECK(c, c->covered[elem] == 0);
    CHECK(c, c->oracle->holders[c->tensor][elem] == the_holders);
    c->covered[elem] = 1;
}

static enum base_code
check_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct check *c = ctx;
    const struct ptc_tensor *t = tensor_of(c, c->tensor);
    const uint64_t no_stride[PTC_MAX_DIMS] = {0};
    uint64_t mask = 0;
    uint64_t first = 0;

    (void)err;
    CHECK(c, !ptc_box_is_empty(&cell->box));
    CHECK(c, ptc_box_contains(&c->box, &cell->box));
    CHECK(c, cell->n_holders >= 1 && cell->n_holders <= 64);
    for (uint64_t k = 0; k < cell->n_holders; k++) {
        ptc_rank rank = ptc_cell_holder(c->layout, cell, k);

        CHECK(c, rank < c->oracle->n_ranks);
        CHECK(c, (mask >> rank & 1) == 0);
        mask |= UINT64_C(1) << rank;
        CHECK(c, ptc_cell_holder(c->layout, cell, 0) <= rank);
    }
    c->n_cells++;
    the_holders = mask;
    each_elem(c, &cell->box, 0, no_stride, cover_elem);
    for (uint32_t d = 0; d < t->n_dims; d++) {
        first = first * t->shape[d] + cell->box.begin[d];
    }
    CHECK(c,
          c->is_flat || c->last_first == UINT64_MAX || first > c->last_first);
    c->last_first = first;
    return BASE_OK;
}

/* Every element of the box was covered, none outside was. */
static void count_elem(struct check *c, uint64_t elem, uint64_t offset)
{
    (void)offset;
    CHECK(c, c->covered[elem] == 1);
    c->covered[elem] = 2;
}

static void check_box(struct check *c, struct base_err *err)
{
    const struct ptc_tensor *t = tensor_of(c, c->tensor);
    const uint64_t no_stride[PTC_MAX_DIMS] = {0};
    uint64_t n_cells;

    c->covered = calloc(t->n_elems + 1, 1);
    assert_non_null(c->covered);
    c->last_first = UINT64_MAX;
    c->n_cells = 0;
    assert_ok(
        ptc_layout_find(c->layout, c->tensor, &c->box, check_cell, c, err),
        err);
    n_cells = ptc_layout_n_cells(c->layout, c->tensor, &c->box);
    CHECK(c, c->is_flat ? n_cells <= c->n_cells : n_cells == c->n_cells);
    CHECK(c, ptc_layout_n_cells(c->layout, c->tensor, NULL) >= n_cells);
    each_elem(c, &c->box, 0, no_stride, count_elem);
    for (uint64_t e = 0; e < t->n_elems; e++) {
        CHECK(c, c->covered[e] != 1);
    }
    free(c->covered);
    c->covered = NULL;
}

/* The whole tensor, and some boxes of it. */
static void check_find(struct check *c, struct base_err *err)
{
    const struct ptc_tensor *t = tensor_of(c, c->tensor);

    c->is_flat = true; /* unless some rank shows it under its own name */
    for (uint32_t r = 0; r < c->oracle->n_ranks && c->is_flat; r++) {
        for (uint32_t s = 0; s < c->oracle->ranks[r].n_shown; s++) {
            c->is_flat =
                c->is_flat &&
                !base_str_eq(t->name,
                             base_str_of(c->oracle->ranks[r].shown[s].name));
        }
    }
    c->box = ptc_box_whole(t->n_dims, t->shape);
    check_box(c, err);
    for (unsigned i = 0; i < 3; i++) {
        for (uint32_t d = 0; d < t->n_dims; d++) {
            uint64_t a = random_below(&c->random, t->shape[d] + 1);
            uint64_t b = random_below(&c->random, t->shape[d] + 1);

            c->box.begin[d] = a < b ? a : b;
            c->box.end[d] = a < b ? b : a;
        }
        check_box(c, err);
    }
}

static void check_spec(const struct random_problem *problem, unsigned spec)
{
    BASE_AUTO(ptc_layout) layout = NULL;
    struct base_err err = {0};
    struct check c = {
        .problem = problem, .spec = spec, .random = problem->seed + spec};
    struct oracle *oracle;

    if (random_problem_bind(problem, spec, &layout, &err) != BASE_OK) {
        fputs(problem->specs[spec], stderr);
        fail_msg("RETILE_SEED=%" PRIu64 ", spec %u: %s", problem->seed, spec,
                 err.text);
    }
    oracle = oracle_create(ptc_layout_spec(layout), problem->table);
    c.layout = layout;
    c.oracle = oracle;
    CHECK(&c, oracle != NULL);
    CHECK(&c, ptc_layout_n_ranks(layout) == oracle->n_ranks);
    for (c.rank = 0; c.rank < oracle->n_ranks; c.rank++) {
        check_rank(&c, &err);
    }
    c.rank = 0;
    for (c.tensor = 0; c.tensor < oracle->n_tensors; c.tensor++) {
        check_find(&c, &err);
    }
    oracle_free(oracle);
}

static void test_layouts_agree_with_the_oracle(void **state)
{
    uint64_t n = random_n_cases(200);

    (void)state;
    for (uint64_t i = 0; i < n; i++) {
        struct random_problem problem;

        if (random_problem(random_seed(i), &problem) != BASE_OK) {
            fail_msg("RETILE_SEED=%" PRIu64 ": no problem made",
                     random_seed(i));
        }
        for (unsigned s = 0; s < RANDOM_N_SPECS; s++) {
            check_spec(&problem, s);
        }
        random_problem_done(&problem);
    }
    print_message("%" PRIu64 " problems of %d layouts\n", n, RANDOM_N_SPECS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts_agree_with_the_oracle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
