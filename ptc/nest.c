/* Turning a group of blocks into extents.
 *
 *   level(d, blocks): divide each block's place by the file's stride of d: the
 *   rows it covers.  The cut points of all make bands; in a band every row is
 *   the same list of blocks, which level(d + 1) turns into extents of one row;
 *   a band of several rows becomes a loop over them.
 *
 * On the way extents are made few: a loop over one run that fills its row and
 * steps by its own length is a longer run; a loop over one loop that fills its
 * row and steps alike is one loop; neighbours that go on where the other ends
 * are one.
 *
 * Cost: n log n, and the sum over the bands of the blocks in them. */
#include "ptc/nest.h"

#include <assert.h>
#include <stdlib.h>

#include "base/num.h"

void ptc_nest_done(struct ptc_nest *nest)
{
    base_vec_done(&nest->sources);
    base_vec_done(&nest->blocks);
    base_vec_done(&nest->made);
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a view");
}

static enum base_code
nest_fail(const struct ptc_nest *nest, const char *what, struct base_err *err)
{
    return base_fail(err, BASE_MISMATCH, "tensor %.*s: %s",
                     BASE_STR_FMT(nest->name), what);
}

/* ---- Making extents few ---- */

/* Does every run in @loop step by @n_rows inner steps (over @loop->dim) when
 * the loop over @dim around it makes one? */
static bool loop_steps_alike(const struct ptc_view *view,
                             const struct ptc_extent *loop,
                             uint32_t inner_dim,
                             uint32_t dim,
                             uint64_t n_rows)
{
    for (uint32_t i = 0; i < loop->n; i++) {
        const struct ptc_extent *child = &view->inner.items[loop->first + i];

        if (child->is_loop
                ? !loop_steps_alike(view, child, inner_dim, dim, n_rows)
                : ptc_extent_stride(view, child, dim) !=
                      ptc_extent_stride(view, child, inner_dim) * n_rows) {
            return false;
        }
    }
    return true;
}

static bool strides_agree(const struct ptc_view *view,
                          const struct ptc_extent *a,
                          const struct ptc_extent *b,
                          uint32_t n_dims)
{
    return a->strides == b->strides ||
           memcmp(view->strides.items + a->strides,
                  view->strides.items + b->strides,
                  n_dims * sizeof(*view->strides.items)) == 0;
}

/* Is @b the rest of @a's rows?  Only loops over runs are compared. */
static bool loops_continue(const struct ptc_view *view,
                           const struct ptc_extent *a,
                           const struct ptc_extent *b,
                           uint32_t n_dims)
{
    if (a->n != b->n || a->n_bytes != b->n_bytes || a->dim != b->dim ||
        b->first + b->n != view->inner.n) {
        return false;
    }
    for (uint32_t i = 0; i < a->n; i++) {
        const struct ptc_extent *x = &view->inner.items[a->first + i];
        const struct ptc_extent *y = &view->inner.items[b->first + i];

        if (x->is_loop || y->is_loop || x->at != y->at ||
            x->n_bytes != y->n_bytes || x->blob != y->blob ||
            !strides_agree(view, x, y, n_dims) ||
            x->offset + a->n_rows * ptc_extent_stride(view, x, a->dim) !=
                y->offset) {
            return false;
        }
    }
    return true;
}

/* Make @a and the extent @b behind it one, in place of @a. */
static bool extents_merge(struct ptc_nest *nest,
                          struct ptc_extent *a,
                          const struct ptc_extent *b)
{
    struct ptc_view *view = nest->view;

    if (a->is_loop != b->is_loop || a->at + ptc_extent_bytes(a) != b->at) {
        return false;
    }
    if (a->is_loop) {
        if (!loops_continue(view, a, b, nest->n_dims)) {
            return false;
        }
        a->n_rows += b->n_rows;
        view->inner.n -= b->n;
        return true;
    }
    if (a->blob != b->blob || a->offset + a->n_bytes != b->offset ||
        !strides_agree(view, a, b, nest->n_dims)) {
        return false;
    }
    a->n_bytes += b->n_bytes;
    return true;
}

/* Move the extents made[from..] by @shift, merging them into those behind
 * made[level..] where they go on. */
static void
made_settle(struct ptc_nest *nest, size_t level, size_t from, uint64_t shift)
{
    struct ptc_extent *items = nest->made.items;
    size_t to = from;

    for (size_t i = from; i < nest->made.n; i++) {
        items[i].at += shift;
        if (to == level || !extents_merge(nest, &items[to - 1], &items[i])) {
            items[to++] = items[i];
        }
    }
    nest->made.n = to;
}

static enum base_code made_push(struct ptc_nest *nest,
                                const struct ptc_extent *extent,
                                struct base_err *err)
{
    if (nest->view->top.n + nest->view->inner.n + nest->made.n >=
        PTC_MAX_EXTENTS) {
        return base_fail(err, BASE_LIMIT,
                         "tensor %.*s: more than %zu extents in one file",
                         BASE_STR_FMT(nest->name), PTC_MAX_EXTENTS);
    }
    return base_vec_push(&nest->made, *extent) ? BASE_OK : no_mem(err);
}

/* Replace made[from..], a row of dimension @dim, by a loop of @n_rows. */
static enum base_code made_loop(struct ptc_nest *nest,
                                size_t from,
                                uint32_t dim,
                                uint64_t n_rows,
                                struct base_err *err)
{
    struct ptc_view *view = nest->view;
    struct ptc_extent *row = nest->made.items + from;
    size_t n = nest->made.n - from;
    uint64_t row_units = nest->stride[dim];
    struct ptc_extent loop = {.n_bytes = row_units,
                              .n_rows = n_rows,
                              .first = (uint32_t)view->inner.n,
                              .n = (uint32_t)n,
                              .dim = (uint8_t)dim,
                              .is_loop = true};
    uint64_t at = 0;

    for (size_t i = 0; i < n && row[i].at == at; i++) {
        at += ptc_extent_bytes(&row[i]);
    }
    if (at != row_units) {
        return nest_fail(nest, "its parts leave holes in a row", err);
    }
    if (n == 1 && !row->is_loop &&
        ptc_extent_stride(view, row, dim) == row_units) {
        row->n_bytes *= n_rows;
        return BASE_OK;
    }
    if (n == 1 && row->is_loop &&
        loop_steps_alike(view, row, row->dim, dim, row->n_rows)) {
        row->n_rows *= n_rows;
        return BASE_OK;
    }
    if (!base_vec_reserve(&view->inner, view->inner.n + n)) {
        return no_mem(err);
    }
    memcpy(view->inner.items + view->inner.n, row, n * sizeof(*row));
    view->inner.n += n;
    nest->made.n = from;
    return made_push(nest, &loop, err);
}

/* ---- Dimension by dimension ---- */

static int block_cmp(const void *a, const void *b)
{
    const struct ptc_block *x = a;
    const struct ptc_block *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

/* The rows of dimension @dim that blocks[first..] cover; at then counts inside
 * a row.  Sorted. */
static enum base_code blocks_divide(struct ptc_nest *nest,
                                    uint32_t dim,
                                    size_t first,
                                    struct base_err *err)
{
    struct ptc_block *blocks = nest->blocks.items + first;
    size_t n = nest->blocks.n - first;
    uint64_t row = nest->stride[dim];

    if (n > 1) {
        qsort(blocks, n, sizeof(*blocks), block_cmp);
    }
    for (size_t i = 0; i < n; i++) {
        struct ptc_block *block = &blocks[i];
        const struct ptc_source *source = &nest->sources.items[block->source];
        uint64_t span = nest->elem;

        for (uint32_t d = dim + 1; d < nest->n_dims; d++) {
            span += (source->count[d] - 1) * nest->stride[d];
        }
        block->begin = row == 0 ? 0 : block->at / row;
        block->end = block->begin + source->count[dim];
        block->at -= block->begin * row;
        if ((row == 0 && block->end > 1) ||
            (row != 0 && block->at + span > row)) {
            return nest_fail(nest, "its parts interleave unevenly", err);
        }
    }
    return BASE_OK;
}

/* Drop blocks that end by row @until; returns how many stay. */
static size_t blocks_keep(struct ptc_block *blocks, size_t n, uint64_t until)
{
    size_t n_kept = 0;

    for (size_t i = 0; i < n; i++) {
        if (blocks[i].end > until) {
            blocks[n_kept++] = blocks[i];
        }
    }
    return n_kept;
}

static enum base_code
level(struct ptc_nest *nest, uint32_t dim, size_t first, struct base_err *err);

/* Extents of the rows [begin, end) of @dim, each the blocks that were pushed
 * above blocks[above]; behind made[made_level..]. */
static enum base_code band(struct ptc_nest *nest,
                           uint32_t dim,
                           size_t above,
                           uint64_t begin,
                           uint64_t end,
                           size_t made_level,
                           struct base_err *err)
{
    size_t from = nest->made.n;

    BASE_TRY(level(nest, dim + 1, above, err));
    if (end - begin > 1) {
        BASE_TRY(made_loop(nest, from, dim, end - begin, err));
    }
    made_settle(nest, made_level, from, begin * nest->stride[dim]);
    return BASE_OK;
}

/* One block per element's place is left. */
static enum base_code
level_runs(struct ptc_nest *nest, size_t first, struct base_err *err)
{
    const struct ptc_block *block = &nest->blocks.items[first];
    const struct ptc_source *source = &nest->sources.items[block->source];
    struct ptc_extent run = {.at = block->at,
                             .n_bytes = nest->elem,
                             .offset = source->offset + block->delta,
                             .blob = source->blob,
                             .strides = source->strides};

    if (nest->blocks.n - first != 1) {
        return nest_fail(nest, "two pieces hold the same element", err);
    }
    return made_push(nest, &run, err);
}

/* Push extents for blocks[first..] over dimensions @dim and further, and pop
 * the blocks. */
static enum base_code
level(struct ptc_nest *nest, uint32_t dim, size_t first, struct base_err *err)
{
    size_t end = nest->blocks.n;
    size_t made_level = nest->made.n;
    size_t next = first;
    size_t n_active = 0; /* of those before `next`, kept at the front */
    uint64_t at;

    if (dim == nest->n_dims) {
        BASE_TRY(level_runs(nest, first, err));
        nest->blocks.n = first;
        return BASE_OK;
    }
    BASE_TRY(blocks_divide(nest, dim, first, err));
    at = nest->blocks.items[first].begin;
    while (next < end || n_active > 0) {
        struct ptc_block *blocks = nest->blocks.items + first;
        uint64_t until = UINT64_MAX;

        /* Blocks that are over make place; the front is in order of begin. */
        while (next < end &&
               (n_active == 0 || nest->blocks.items[next].begin <= at)) {
            if (n_active == 0) {
                at = nest->blocks.items[next].begin;
            }
            blocks[n_active++] = nest->blocks.items[next++];
        }
        if (next < end) {
            until = nest->blocks.items[next].begin;
        }
        for (size_t i = 0; i < n_active; i++) {
            until = base_min_u64(until, blocks[i].end);
        }
        if (!base_vec_reserve(&nest->blocks, end + n_active)) {
            return no_mem(err);
        }
        blocks = nest->blocks.items + first;
        for (size_t i = 0; i < n_active; i++) {
            struct ptc_block *block = &nest->blocks.items[end + i];
            const struct ptc_source *source =
                &nest->sources.items[blocks[i].source];

            *block = blocks[i];
            block->delta += (at - blocks[i].begin) *
                            nest->view->strides.items[source->strides + dim];
        }
        nest->blocks.n = end + n_active;
        BASE_TRY(band(nest, dim, end, at, until, made_level, err));
        blocks = nest->blocks.items + first;
        n_active = blocks_keep(blocks, n_active, until);
        at = until;
    }
    nest->blocks.n = first;
    return BASE_OK;
}

enum base_code ptc_nest_extents(struct ptc_nest *nest, struct base_err *err)
{
    nest->made.n = 0;
    BASE_TRY(level(nest, 0, 0, err));
    nest->sources.n = 0;
    assert(nest->blocks.n == 0);
    return BASE_OK;
}
