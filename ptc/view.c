/* Building a view.
 *
 * Each part of a shown tensor is met by pieces of the source; a part and a
 * piece share a box, a *block*: a loop nest that copies from one place in a
 * blob to one in the file.  Blocks of parts that interleave in the file (a
 * tensor's columns, say) make a group, whose blocks go through all dimensions
 * together:
 *
 *   level(d, blocks): divide each block's place by the file's stride of d: the
 *   rows it covers.  The cut points of all make bands; in a band every row is
 *   the same list of blocks, which level(d + 1) turns into extents of one row;
 *   a band of several rows becomes a loop over them.
 *
 * On the way extents are made few: a loop over one run that fills its row and
 * steps by its own length is a longer run; a loop over one loop that fills its
 * row and steps alike is one loop; neighbours that go on where the other ends
 * are one.  A file that is its source's file ends as a single run.
 *
 * Inside one tensor all is counted in units: bytes, or bits for a dtype whose
 * element is no whole byte.
 *
 * Invariants
 *   1. the extents of a level tile the file, or their row: no gap, no overlap
 *   2. every byte of a shown tensor that is not a flat's padding has a source
 *   3. extents are at most MAX_EXTENTS */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/extent.h"

#define MAX_EXTENTS ((size_t)1 << 24)
#define MAX_STRIDES ((size_t)1 << 30)

/* The box that a part and a piece share. */
struct source {
    uint64_t count[PTC_MAX_DIMS];
    uint64_t offset; /* units, in the blob */
    uint32_t blob;
    uint32_t strides; /* index of view->strides; in units */
};

/* A block, at one level. */
struct block {
    uint64_t at;    /* units, from the start of the row (or group) */
    uint64_t delta; /* units, from the source's offset */
    uint64_t begin; /* rows of this level */
    uint64_t end;
    uint32_t source;
};

struct build {
    struct ptc_view *view;
    const struct ptc_file *file;
    const struct ptc_pieces *pieces;
    const struct ptc_file_entry *entry;
    /* The tensor at hand. */
    uint64_t unit;        /* units per byte: 1 or 8 */
    uint64_t elem;        /* units per element */
    size_t strides_begin; /* strides of this entry begin here */
    size_t inner_begin;   /* and loops' extents here */
    uint64_t done;        /* units of the entry that have extents */
    /* The group at hand. */
    uint32_t tensor;
    uint32_t n_dims;
    uint64_t group_at; /* units, from the start of the entry */
    uint64_t group_end;
    uint64_t stride[PTC_MAX_DIMS]; /* of the file, in units */
    BASE_VEC(struct source) sources;
    BASE_VEC(struct block) blocks; /* a stack: a list per level */
    struct ptc_extents made;       /* a stack: extents of unfinished levels */
    /* The part at hand. */
    const struct ptc_piece *part;
    uint64_t n_found; /* elements */
};

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a view");
}

static enum base_code
part_fail(const struct build *build, const char *what, struct base_err *err)
{
    return base_fail(err, BASE_MISMATCH, "tensor %.*s: %s",
                     BASE_STR_FMT(build->entry->shown.name), what);
}

/* ---- Making extents few ---- */

static uint64_t stride_of(const struct ptc_view *view,
                          const struct ptc_extent *run,
                          uint32_t dim)
{
    return view->strides.items[run->strides + dim];
}

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
                : stride_of(view, child, dim) !=
                      stride_of(view, child, inner_dim) * n_rows) {
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
            x->offset + a->n_rows * stride_of(view, x, a->dim) != y->offset) {
            return false;
        }
    }
    return true;
}

/* Make @a and the extent @b behind it one, in place of @a. */
static bool extents_merge(struct build *build,
                          struct ptc_extent *a,
                          const struct ptc_extent *b)
{
    struct ptc_view *view = build->view;

    if (a->is_loop != b->is_loop || a->at + ptc_extent_bytes(a) != b->at) {
        return false;
    }
    if (a->is_loop) {
        if (!loops_continue(view, a, b, build->n_dims)) {
            return false;
        }
        a->n_rows += b->n_rows;
        view->inner.n -= b->n;
        return true;
    }
    if (a->blob != b->blob || a->offset + a->n_bytes != b->offset ||
        !strides_agree(view, a, b, build->n_dims)) {
        return false;
    }
    a->n_bytes += b->n_bytes;
    return true;
}

/* Move the extents made[from..] by @shift, merging them into those behind
 * made[level..] where they go on. */
static void
made_settle(struct build *build, size_t level, size_t from, uint64_t shift)
{
    struct ptc_extent *items = build->made.items;
    size_t to = from;

    for (size_t i = from; i < build->made.n; i++) {
        items[i].at += shift;
        if (to == level || !extents_merge(build, &items[to - 1], &items[i])) {
            items[to++] = items[i];
        }
    }
    build->made.n = to;
}

static enum base_code made_push(struct build *build,
                                const struct ptc_extent *extent,
                                struct base_err *err)
{
    if (build->view->top.n + build->view->inner.n + build->made.n >=
        MAX_EXTENTS) {
        return base_fail(err, BASE_LIMIT,
                         "tensor %.*s: more than %zu extents in one file",
                         BASE_STR_FMT(build->entry->shown.name), MAX_EXTENTS);
    }
    return base_vec_push(&build->made, *extent) ? BASE_OK : no_mem(err);
}

/* Replace made[from..], a row of dimension @dim, by a loop of @n_rows. */
static enum base_code made_loop(struct build *build,
                                size_t from,
                                uint32_t dim,
                                uint64_t n_rows,
                                struct base_err *err)
{
    struct ptc_view *view = build->view;
    struct ptc_extent *row = build->made.items + from;
    size_t n = build->made.n - from;
    uint64_t row_units = build->stride[dim];
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
        return part_fail(build, "its parts leave holes in a row", err);
    }
    if (n == 1 && !row->is_loop && stride_of(view, row, dim) == row_units) {
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
    build->made.n = from;
    return made_push(build, &loop, err);
}

/* ---- Dimension by dimension ---- */

static int block_cmp(const void *a, const void *b)
{
    const struct block *x = a;
    const struct block *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

/* The rows of dimension @dim that blocks[first..] cover; at then counts inside
 * a row.  Sorted. */
static enum base_code blocks_divide(struct build *build,
                                    uint32_t dim,
                                    size_t first,
                                    struct base_err *err)
{
    struct block *blocks = build->blocks.items + first;
    size_t n = build->blocks.n - first;
    uint64_t row = build->stride[dim];

    if (n > 1) {
        qsort(blocks, n, sizeof(*blocks), block_cmp);
    }
    for (size_t i = 0; i < n; i++) {
        struct block *block = &blocks[i];
        const struct source *source = &build->sources.items[block->source];
        uint64_t span = build->elem;

        for (uint32_t d = dim + 1; d < build->n_dims; d++) {
            span += (source->count[d] - 1) * build->stride[d];
        }
        block->begin = row == 0 ? 0 : block->at / row;
        block->end = block->begin + source->count[dim];
        block->at -= block->begin * row;
        if ((row == 0 && block->end > 1) ||
            (row != 0 && block->at + span > row)) {
            return part_fail(build, "its parts interleave unevenly", err);
        }
    }
    return BASE_OK;
}

/* Drop blocks that end by row @until; returns how many stay. */
static size_t blocks_keep(struct block *blocks, size_t n, uint64_t until)
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
level(struct build *build, uint32_t dim, size_t first, struct base_err *err);

/* Extents of the rows [begin, end) of @dim, each the blocks that were pushed
 * above blocks[above]; behind made[made_level..]. */
static enum base_code band(struct build *build,
                           uint32_t dim,
                           size_t above,
                           uint64_t begin,
                           uint64_t end,
                           size_t made_level,
                           struct base_err *err)
{
    size_t from = build->made.n;

    BASE_TRY(level(build, dim + 1, above, err));
    if (end - begin > 1) {
        BASE_TRY(made_loop(build, from, dim, end - begin, err));
    }
    made_settle(build, made_level, from, begin * build->stride[dim]);
    return BASE_OK;
}

/* One block per element's place is left. */
static enum base_code
level_runs(struct build *build, size_t first, struct base_err *err)
{
    const struct block *block = &build->blocks.items[first];
    const struct source *source = &build->sources.items[block->source];
    struct ptc_extent run = {.at = block->at,
                             .n_bytes = build->elem,
                             .offset = source->offset + block->delta,
                             .blob = source->blob,
                             .strides = source->strides};

    if (build->blocks.n - first != 1) {
        return part_fail(build, "two pieces hold the same element", err);
    }
    return made_push(build, &run, err);
}

/* Push extents for blocks[first..] over dimensions @dim and further, and pop
 * the blocks. */
static enum base_code
level(struct build *build, uint32_t dim, size_t first, struct base_err *err)
{
    size_t end = build->blocks.n;
    size_t made_level = build->made.n;
    size_t next = first;
    size_t n_active = 0; /* of those before `next`, kept at the front */
    uint64_t at;

    if (dim == build->n_dims) {
        BASE_TRY(level_runs(build, first, err));
        build->blocks.n = first;
        return BASE_OK;
    }
    BASE_TRY(blocks_divide(build, dim, first, err));
    at = build->blocks.items[first].begin;
    while (next < end || n_active > 0) {
        struct block *blocks = build->blocks.items + first;
        uint64_t until = UINT64_MAX;

        /* Blocks that are over make place; the front is in order of begin. */
        while (next < end &&
               (n_active == 0 || build->blocks.items[next].begin <= at)) {
            if (n_active == 0) {
                at = build->blocks.items[next].begin;
            }
            blocks[n_active++] = build->blocks.items[next++];
        }
        if (next < end) {
            until = build->blocks.items[next].begin;
        }
        for (size_t i = 0; i < n_active; i++) {
            until = base_min_u64(until, blocks[i].end);
        }
        if (!base_vec_reserve(&build->blocks, end + n_active)) {
            return no_mem(err);
        }
        blocks = build->blocks.items + first;
        for (size_t i = 0; i < n_active; i++) {
            struct block *block = &build->blocks.items[end + i];
            const struct source *source =
                &build->sources.items[blocks[i].source];

            *block = blocks[i];
            block->delta += (at - blocks[i].begin) *
                            build->view->strides.items[source->strides + dim];
        }
        build->blocks.n = end + n_active;
        BASE_TRY(band(build, dim, end, at, until, made_level, err));
        blocks = build->blocks.items + first;
        n_active = blocks_keep(blocks, n_active, until);
        at = until;
    }
    build->blocks.n = first;
    return BASE_OK;
}

/* ---- From units to bytes ---- */

/* Bits to bytes, for @n extents and those in them; @dims are the dimensions of
 * the loops around.  False when something is no whole byte. */
static bool extents_to_bytes(const struct build *build,
                             struct ptc_extent *extents,
                             size_t n,
                             uint32_t dims)
{
    for (size_t i = 0; i < n; i++) {
        struct ptc_extent *extent = &extents[i];
        bool is_whole = extent->at % 8 == 0 && extent->n_bytes % 8 == 0;

        extent->at /= 8;
        extent->n_bytes /= 8;
        if (extent->is_loop) {
            is_whole =
                is_whole && extents_to_bytes(
                                build, build->view->inner.items + extent->first,
                                extent->n, dims | 1u << extent->dim);
        } else {
            is_whole = is_whole && extent->offset % 8 == 0;
            extent->offset /= 8;
            for (uint32_t d = 0; d < build->n_dims; d++) {
                is_whole =
                    is_whole && ((dims >> d & 1) == 0 ||
                                 stride_of(build->view, extent, d) % 8 == 0);
            }
        }
        if (!is_whole) {
            return false;
        }
    }
    return true;
}

/* Append to the file's extents; @extent counts bytes of the file. */
static enum base_code top_push(struct build *build,
                               const struct ptc_extent *extent,
                               struct base_err *err)
{
    struct ptc_extents *top = &build->view->top;
    struct ptc_extent *last = top->n > 0 ? &top->items[top->n - 1] : NULL;

    if (last != NULL && !last->is_loop && !extent->is_loop &&
        last->blob == extent->blob &&
        (extent->blob == PTC_BLOB_ZERO ||
         last->offset + last->n_bytes == extent->offset)) {
        last->n_bytes += extent->n_bytes;
        return BASE_OK;
    }
    if (top->n + build->view->inner.n >= MAX_EXTENTS) {
        return base_fail(err, BASE_LIMIT,
                         "tensor %.*s: more than %zu extents in one file",
                         BASE_STR_FMT(build->entry->shown.name), MAX_EXTENTS);
    }
    return base_vec_push(top, *extent) ? BASE_OK : no_mem(err);
}

/* Zeros up to unit @until of the entry: a flat's padding. */
static enum base_code
top_pad(struct build *build, uint64_t until, struct base_err *err)
{
    struct ptc_extent zeros = {.blob = PTC_BLOB_ZERO};

    if (until == build->done) {
        return BASE_OK;
    }
    if (until < build->done) {
        return part_fail(build, "its parts overlap", err);
    }
    if (build->entry->shown.tensor != PTC_NONE) {
        return part_fail(build, "its parts leave a hole", err);
    }
    if (build->done % build->unit != 0 || until % build->unit != 0) {
        return part_fail(build, "padding begins or ends inside a byte", err);
    }
    zeros.at = build->entry->offset + build->done / build->unit;
    zeros.n_bytes = (until - build->done) / build->unit;
    build->done = until;
    return top_push(build, &zeros, err);
}

/* ---- Groups ---- */

/* Turn the group's blocks into extents of the file. */
static enum base_code group_flush(struct build *build, struct base_err *err)
{
    size_t strides_end = build->view->strides.n;

    if (build->blocks.n == 0) {
        return BASE_OK;
    }
    BASE_TRY(top_pad(build, build->group_at, err));
    build->made.n = 0;
    BASE_TRY(level(build, 0, 0, err));
    if (build->unit == 8) {
        if (!extents_to_bytes(build, build->made.items, build->made.n, 0)) {
            return part_fail(build, "a run begins or ends inside a byte", err);
        }
        for (size_t i = build->strides_begin; i < strides_end; i++) {
            build->view->strides.items[i] /= 8;
        }
        build->strides_begin = strides_end;
    }
    for (size_t i = 0; i < build->made.n; i++) {
        struct ptc_extent *extent = &build->made.items[i];

        if (build->group_at + extent->at * build->unit != build->done) {
            return part_fail(build, "its parts leave a hole", err);
        }
        build->done += ptc_extent_bytes(extent) * build->unit;
        extent->at += build->entry->offset + build->group_at / build->unit;
        BASE_TRY(top_push(build, extent, err));
    }
    if (build->done != build->group_end) {
        return part_fail(build, "its parts leave a hole", err);
    }
    build->sources.n = 0;
    build->blocks.n = 0;
    return BASE_OK;
}

/* The index of a piece's strides, shared with the piece before where equal. */
static enum base_code strides_add(struct build *build,
                                  const struct ptc_piece *piece,
                                  uint32_t *ret,
                                  struct base_err *err)
{
    struct ptc_view *view = build->view;
    uint32_t n_dims = piece->box.n_dims;
    size_t last = view->strides.n - n_dims; /* used when there is one */

    if (n_dims == 0) {
        *ret = 0; /* no loop stands around it */
        return BASE_OK;
    }
    if (view->strides.n >= build->strides_begin + n_dims &&
        memcmp(view->strides.items + last, piece->stride,
               n_dims * sizeof(*piece->stride)) == 0) {
        *ret = (uint32_t)last;
        return BASE_OK;
    }
    if (view->strides.n + n_dims > MAX_STRIDES) {
        return base_fail(err, BASE_LIMIT, "too many extents in one file");
    }
    if (!base_vec_reserve(&view->strides, view->strides.n + n_dims)) {
        return no_mem(err);
    }
    memcpy(view->strides.items + view->strides.n, piece->stride,
           n_dims * sizeof(*piece->stride));
    *ret = (uint32_t)view->strides.n;
    view->strides.n += n_dims;
    return BASE_OK;
}

/* A piece of the source that meets the part at hand: a block. */
static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct build *build = ctx;
    const struct ptc_piece *part = build->part;
    struct source source = {.offset = piece->offset * build->unit,
                            .blob = piece->blob};
    struct block block = {.source = (uint32_t)build->sources.n};
    uint64_t at = (part->offset - build->entry->offset) * build->unit;

    (void)tensor; /* the part's, or the one it is tied to */
    for (uint32_t d = 0; d < piece->box.n_dims; d++) {
        source.count[d] = piece->box.end[d] - piece->box.begin[d];
        at += (piece->box.begin[d] - part->box.begin[d]) * part->stride[d];
    }
    block.at = at - build->group_at;
    build->n_found += ptc_box_elems(&piece->box);
    BASE_TRY(strides_add(build, piece, &source.strides, err));
    if (build->sources.n >= MAX_EXTENTS) {
        return base_fail(err, BASE_LIMIT, "too many pieces meet one tensor");
    }
    if (!base_vec_push(&build->sources, source) ||
        !base_vec_push(&build->blocks, block)) {
        return no_mem(err);
    }
    return BASE_OK;
}

static enum base_code on_found(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    uint64_t *n_elems = ctx;

    (void)tensor; /* known */
    (void)err;
    *n_elems += ptc_box_elems(&piece->box);
    return BASE_OK;
}

/* The elements of @part are not all there (or some twice): halve the box until
 * it is wholly missing, and name it. */
static enum base_code
part_missing(struct build *build, uint32_t tensor, struct base_err *err)
{
    struct ptc_box box = build->part->box;
    char text[PTC_BOX_TEXT_BYTES];

    for (;;) {
        uint64_t n_found = 0;
        uint64_t n_elems;
        uint32_t dim = 0;
        uint64_t middle;

        for (uint32_t d = 1; d < box.n_dims; d++) {
            if (box.end[d] - box.begin[d] > box.end[dim] - box.begin[dim]) {
                dim = d;
            }
        }
        BASE_TRY(ptc_pieces_find(build->pieces, tensor, &box, on_found,
                                 &n_found, err));
        n_elems = ptc_box_elems(&box);
        if (n_found == 0) {
            break;
        }
        /* The half that lacks something: the lower one, or the other. */
        middle = box.begin[dim] + (box.end[dim] - box.begin[dim]) / 2;
        if (n_found < n_elems) {
            struct ptc_box lower = box;

            lower.end[dim] = middle;
            n_found = 0;
            BASE_TRY(ptc_pieces_find(build->pieces, tensor, &lower, on_found,
                                     &n_found, err));
            if (n_found < ptc_box_elems(&lower)) {
                box = lower;
                continue;
            }
            box.begin[dim] = middle;
            continue;
        }
        return base_fail(
            err, BASE_MISMATCH, "tensor %.*s: pieces of %s overlap",
            BASE_STR_FMT(build->entry->shown.name), ptc_box_format(&box, text));
    }
    return base_fail(err, BASE_MISMATCH, "tensor %.*s: no piece has %s",
                     BASE_STR_FMT(build->entry->shown.name),
                     ptc_box_format(&box, text));
}

/* A part of the shown tensor; parts come in order of offset. */
static enum base_code on_part(void *ctx,
                              uint32_t tensor,
                              const struct ptc_piece *part,
                              struct base_err *err)
{
    struct build *build = ctx;
    uint64_t at = (part->offset - build->entry->offset) * build->unit;
    uint64_t end = at + build->elem;
    bool is_alone = build->blocks.n == 0 || at >= build->group_end;

    for (uint32_t d = 0; d < part->box.n_dims; d++) {
        end += (part->box.end[d] - 1 - part->box.begin[d]) * part->stride[d];
    }
    if (is_alone) {
        BASE_TRY(group_flush(build, err));
        build->tensor = tensor;
        build->n_dims = part->box.n_dims;
        build->group_at = at;
        build->group_end = end;
        memcpy(build->stride, part->stride, sizeof(build->stride));
    } else if (build->tensor != tensor || at < build->group_at ||
               memcmp(build->stride, part->stride,
                      build->n_dims * sizeof(*build->stride)) != 0) {
        return part_fail(build, "its parts interleave unevenly", err);
    }
    build->group_end = base_max_u64(build->group_end, end);
    build->part = part;
    build->n_found = 0;
    BASE_TRY(ptc_pieces_find(build->pieces, tensor, &part->box, on_piece, build,
                             err));
    if (build->n_found != ptc_box_elems(&part->box)) {
        return part_missing(build, tensor, err);
    }
    return BASE_OK;
}

static enum base_code
entry_build(struct build *build, uint32_t idx, struct base_err *err)
{
    unsigned bits;

    build->entry = ptc_file_entry(build->file, idx);
    bits = ptc_dtype_bits(build->entry->shown.dtype);
    build->unit = bits % 8 == 0 ? 1 : 8;
    build->elem = bits % 8 == 0 ? bits / 8 : bits;
    if (build->unit == 8) { /* strides in bits are shared with no others */
        build->strides_begin = build->view->strides.n;
    }
    build->done = 0;
    BASE_TRY(ptc_file_pieces(build->file, idx, on_part, build, err));
    BASE_TRY(group_flush(build, err));
    BASE_TRY(top_pad(build, build->entry->n_bytes * build->unit, err));
    build->strides_begin = build->view->strides.n;
    return BASE_OK;
}

static enum base_code header_build(struct build *build, struct base_err *err)
{
    struct ptc_view *view = build->view;
    struct base_str header = ptc_file_header(build->file);
    struct ptc_extent run = {.n_bytes = header.len, .blob = PTC_BLOB_HEADER};

    view->header = malloc(header.len + 1);
    if (view->header == NULL || !base_vec_push(&view->top, run)) {
        return no_mem(err);
    }
    memcpy(view->header, header.ptr, header.len);
    view->n_header = header.len;
    return BASE_OK;
}

static enum base_code view_build(struct build *build, struct base_err *err)
{
    struct ptc_view *view = build->view;
    uint64_t at = ptc_file_header(build->file).len;

    BASE_TRY(header_build(build, err));
    for (uint32_t i = 0; i < ptc_file_n_entries(build->file); i++) {
        const struct ptc_file_entry *entry = ptc_file_entry(build->file, i);

        if (entry->offset != at) {
            return base_fail(err, BASE_MISMATCH,
                             "tensor %.*s does not follow the one before",
                             BASE_STR_FMT(entry->shown.name));
        }
        BASE_TRY(entry_build(build, i, err));
        at += entry->n_bytes;
    }
    view->n_bytes = ptc_file_n_bytes(build->file);
    assert(at == view->n_bytes);
    return BASE_OK;
}

void ptc_view_free(struct ptc_view *view)
{
    if (view == NULL) {
        return;
    }
    base_vec_done(&view->top);
    base_vec_done(&view->inner);
    base_vec_done(&view->strides);
    free(view->header);
    free(view);
}

enum base_code ptc_view_create(const struct ptc_file *file,
                               const struct ptc_pieces *pieces,
                               struct ptc_view **ret,
                               struct base_err *err)
{
    BASE_AUTO(ptc_view) view = calloc(1, sizeof(*view));
    struct build build = {.view = view, .file = file, .pieces = pieces};
    enum base_code rc;

    if (view == NULL) {
        return no_mem(err);
    }
    rc = view_build(&build, err);
    base_vec_done(&build.sources);
    base_vec_done(&build.blocks);
    base_vec_done(&build.made);
    BASE_TRY(rc);
    *ret = base_steal(&view);
    return BASE_OK;
}

uint64_t ptc_view_n_bytes(const struct ptc_view *view)
{
    return view->n_bytes;
}

struct base_str ptc_view_header(const struct ptc_view *view)
{
    return (struct base_str){view->header, view->n_header};
}

uint32_t ptc_view_n_extents(const struct ptc_view *view)
{
    return (uint32_t)(view->top.n + view->inner.n);
}

size_t ptc_view_memory_bytes(const struct ptc_view *view)
{
    return sizeof(*view) + view->n_header +
           (view->top.cap + view->inner.cap) * sizeof(struct ptc_extent) +
           view->strides.cap * sizeof(*view->strides.items);
}
