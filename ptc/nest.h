/* A group of blocks that lie interleaved in a file, and the extents that they
 * become: for ptc/view.c, which fills it in.
 *
 * All is counted in units: bytes, or bits for a dtype whose element is no whole
 * byte. */
#ifndef PTC_NEST_H
#define PTC_NEST_H

#include "base/str.h"
#include "ptc/extent.h"

#define PTC_MAX_EXTENTS ((size_t)1 << 24)

/* Where a block's bytes come from: the box that a part of the file and a piece
 * share. */
struct ptc_source {
    uint64_t count[PTC_MAX_DIMS];
    uint64_t offset; /* units, in the blob */
    uint32_t blob;
    uint32_t strides; /* index of view->strides; in units */
};

/* A loop nest that copies from one place in a blob to one in the file. */
struct ptc_block {
    uint64_t at;    /* units, from the start of the group (or row) */
    uint64_t delta; /* units, from the source's offset; 0 at first */
    uint64_t begin; /* rows of one level; the nest's own */
    uint64_t end;
    uint32_t source; /* index of sources */
};

struct ptc_nest {
    struct ptc_view *view; /* whose inner extents and strides these become */
    struct base_str name;  /* the shown tensor's, for errors */
    uint64_t elem;         /* units per element */
    uint32_t n_dims;
    uint64_t stride[PTC_MAX_DIMS]; /* of the file, in units */
    BASE_VEC(struct ptc_source) sources;
    BASE_VEC(struct ptc_block)
    blocks;                  /* at the end a stack: a list per level */
    struct ptc_extents made; /* out; before: of unfinished levels */
};

void ptc_nest_done(struct ptc_nest *nest);

static inline uint64_t ptc_extent_stride(const struct ptc_view *view,
                                         const struct ptc_extent *run,
                                         uint32_t dim)
{
    return view->strides.items[run->strides + dim];
}

/* Turn all blocks into extents nest->made, in order, from the start of the
 * group; sources and blocks are empty afterwards.  Loops in them stand in the
 * view, in units like all else.
 * Errors: BASE_MISMATCH  blocks overlap, leave holes in a row, or do not fit
 *                        its stride
 *         BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_nest_extents(struct ptc_nest *nest,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
