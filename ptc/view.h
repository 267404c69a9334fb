/* A view: one shown file over a set of pieces, as a searchable list of extents
 * that name blobs, not paths.  Reading any range of the file yields runs:
 * bytes of the header, zeros (padding), or bytes of a blob.
 *
 * An extent is a run, or a loop: `n_rows` rows of equal length, each the same
 * few extents, whose runs advance by their own stride from row to row.  Loops
 * nest, so a tensor cut along any of its dimensions costs a few extents, not
 * one per row.  Found by bisection at each level; memory is linear in the
 * pieces (in the bands between their cut points).
 *
 * Immutable; any thread; borrows file and pieces only while it is made. */
#ifndef PTC_VIEW_H
#define PTC_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "ptc/file.h"
#include "ptc/pieces.h"

#define PTC_BLOB_HEADER (UINT32_MAX - 1) /* bytes of the view's own header */
#define PTC_BLOB_ZERO   UINT32_MAX       /* zeros */

/* A run of bytes of the file, from one place. */
struct ptc_run {
    uint32_t blob;
    uint64_t offset; /* in the blob (or the header) */
    uint64_t n_bytes;
};

struct ptc_view;
void ptc_view_free(struct ptc_view *view);
BASE_AUTO_DEFINE(ptc_view);

/* Errors: BASE_MISMATCH  a box of the file that no piece has (named)
 *         BASE_LIMIT  more than 2^24 extents, BASE_NO_MEM */
enum base_code ptc_view_create(const struct ptc_file *file,
                               const struct ptc_pieces *pieces,
                               struct ptc_view **ret,
                               struct base_err *err) BASE_MUST_CHECK;

uint64_t ptc_view_n_bytes(const struct ptc_view *view);
struct base_str ptc_view_header(const struct ptc_view *view);
uint32_t ptc_view_n_extents(const struct ptc_view *view);
size_t ptc_view_memory_bytes(const struct ptc_view *view);

struct ptc_extent; /* the view's own */

/* A place in a view; the caller's, on the stack. */
struct ptc_cursor {
    const struct ptc_view *view;
    uint64_t position; /* of the next run, in the file */
    uint64_t end;
    uint64_t skip_; /* the rest is the view's own */
    uint32_t depth_;
    struct ptc_level_ {
        const struct ptc_extent *first;
        const struct ptc_extent *next;
        const struct ptc_extent *end;
        uint64_t row;
        uint64_t n_rows;
        uint32_t dim;
    } level_[PTC_MAX_DIMS + 1];
};

/* Begin at @offset; ends after @n_bytes or at the end of the file. */
void ptc_cursor_init(struct ptc_cursor *cursor,
                     const struct ptc_view *view,
                     uint64_t offset,
                     uint64_t n_bytes);
/* The next run, in file order; false at the end.  No allocation. */
bool ptc_cursor_next(struct ptc_cursor *cursor, struct ptc_run *ret);

/* As ptc_cursor_next, but equal runs that follow one another in the file and
 * lie a fixed stride apart in one blob come as one: *ret is the first of
 * *ret_n_rows, each of the next *ret_stride bytes further on in the blob. */
bool ptc_cursor_next_rows(struct ptc_cursor *cursor,
                          struct ptc_run *ret,
                          uint64_t *ret_n_rows,
                          uint64_t *ret_stride);

#endif
