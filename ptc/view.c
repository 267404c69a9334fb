/* Building a view.
 *
 * Each part of a shown tensor is met by pieces of the source; a part and a
 * piece share a box, which makes a block (ptc/nest.h).  Parts that interleave
 * in the file (a tensor's columns, say) make a group, whose blocks become
 * extents together; between groups there is nothing, or a flat's padding.
 * Neighbours that go on where the other ends are one: a file that is its
 * source's file ends as a single run.
 *
 * Inside one tensor all is counted in units: bytes, or bits for a dtype whose
 * element is no whole byte.
 *
 * Invariants
 *   1. the extents of a level tile the file, or their row: no gap, no overlap
 *   2. every byte of a shown tensor that is not a flat's padding has a source
 *   3. extents are at most PTC_MAX_EXTENTS */
#include <assert.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/nest.h"

#define MAX_STRIDES ((size_t)1 << 30)

struct build {
    struct ptc_view *view;
    const struct ptc_file *file;
    const struct ptc_pieces *pieces;
    const struct ptc_file_entry *entry;
    /* The tensor at hand. */
    uint64_t unit;        /* units per byte: 1 or 8 */
    size_t strides_begin; /* strides that may be shared begin here */
    uint64_t done;        /* units of the entry that have extents */
    /* The group at hand. */
    struct ptc_nest nest;
    uint32_t tensor;
    uint64_t group_at; /* units, from the start of the entry */
    uint64_t group_end;
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
            for (uint32_t d = 0; d < build->nest.n_dims; d++) {
                is_whole = is_whole &&
                           ((dims >> d & 1) == 0 ||
                            ptc_extent_stride(build->view, extent, d) % 8 == 0);
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
    if (top->n + build->view->inner.n >= PTC_MAX_EXTENTS) {
        return base_fail(
            err, BASE_LIMIT, "tensor %.*s: more than %zu extents in one file",
            BASE_STR_FMT(build->entry->shown.name), PTC_MAX_EXTENTS);
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

    if (build->nest.blocks.n == 0) {
        return BASE_OK;
    }
    BASE_TRY(top_pad(build, build->group_at, err));
    BASE_TRY(ptc_nest_extents(&build->nest, err));
    if (build->unit == 8) {
        if (!extents_to_bytes(build, build->nest.made.items, build->nest.made.n,
                              0)) {
            return part_fail(build, "a run begins or ends inside a byte", err);
        }
        for (size_t i = build->strides_begin; i < strides_end; i++) {
            build->view->strides.items[i] /= 8;
        }
        build->strides_begin = strides_end;
    }
    for (size_t i = 0; i < build->nest.made.n; i++) {
        struct ptc_extent *extent = &build->nest.made.items[i];

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
    struct ptc_source source = {.offset = piece->offset * build->unit,
                                .blob = piece->blob};
    struct ptc_block block = {.source = (uint32_t)build->nest.sources.n};
    uint64_t at = (part->offset - build->entry->offset) * build->unit;

    (void)tensor; /* the part's, or the one it is tied to */
    for (uint32_t d = 0; d < piece->box.n_dims; d++) {
        source.count[d] = piece->box.end[d] - piece->box.begin[d];
        at += (piece->box.begin[d] - part->box.begin[d]) * part->stride[d];
    }
    block.at = at - build->group_at;
    build->n_found += ptc_box_elems(&piece->box);
    BASE_TRY(strides_add(build, piece, &source.strides, err));
    if (build->nest.sources.n >= PTC_MAX_EXTENTS) {
        return base_fail(err, BASE_LIMIT, "too many pieces meet one tensor");
    }
    if (!base_vec_push(&build->nest.sources, source) ||
        !base_vec_push(&build->nest.blocks, block)) {
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
    uint64_t end = at + build->nest.elem;
    bool is_alone = build->nest.blocks.n == 0 || at >= build->group_end;

    for (uint32_t d = 0; d < part->box.n_dims; d++) {
        end += (part->box.end[d] - 1 - part->box.begin[d]) * part->stride[d];
    }
    if (is_alone) {
        BASE_TRY(group_flush(build, err));
        build->tensor = tensor;
        build->nest.n_dims = part->box.n_dims;
        build->group_at = at;
        build->group_end = end;
        memcpy(build->nest.stride, part->stride, sizeof(build->nest.stride));
    } else if (build->tensor != tensor || at < build->group_at ||
               memcmp(build->nest.stride, part->stride,
                      build->nest.n_dims * sizeof(*build->nest.stride)) != 0) {
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
    build->nest.name = build->entry->shown.name;
    bits = ptc_dtype_bits(build->entry->shown.dtype);
    build->unit = bits % 8 == 0 ? 1 : 8;
    build->nest.elem = bits % 8 == 0 ? bits / 8 : bits;
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
    struct build build = {
        .view = view, .nest.view = view, .file = file, .pieces = pieces};
    enum base_code rc;

    if (view == NULL) {
        return no_mem(err);
    }
    rc = view_build(&build, err);
    ptc_nest_done(&build.nest);
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
