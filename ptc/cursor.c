/* Walking a view.
 *
 * A cursor stands before a run (perhaps inside it) and keeps, for each loop
 * around it, the row it is in.  A run's place in its blob is its offset plus,
 * for each loop, row * stride. */
#include <assert.h>

#include "base/num.h"
#include "ptc/extent.h"

/* The last extent of @n that begins at or before @at. */
static uint32_t
extent_find(const struct ptc_extent *extents, uint32_t n, uint64_t at)
{
    uint32_t low = 0;
    uint32_t high = n;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (extents[middle].at <= at) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Enter the loops that the cursor stands before, at their first run. */
static void cursor_descend(struct ptc_cursor *cursor)
{
    const struct ptc_extent *extent = cursor->level_[cursor->depth_].next;

    while (extent->is_loop) {
        struct ptc_level_ *level = &cursor->level_[++cursor->depth_];

        level->first = cursor->view->inner.items + extent->first;
        level->next = level->first;
        level->end = level->first + extent->n;
        level->row = 0;
        level->n_rows = extent->n_rows;
        level->dim = extent->dim;
        extent = level->next;
    }
}

void ptc_cursor_init(struct ptc_cursor *cursor,
                     const struct ptc_view *view,
                     uint64_t offset,
                     uint64_t n_bytes)
{
    struct ptc_level_ *level = cursor->level_;
    uint64_t at;

    cursor->view = view;
    cursor->position = base_min_u64(offset, view->n_bytes);
    cursor->end = cursor->position +
                  base_min_u64(n_bytes, view->n_bytes - cursor->position);
    cursor->depth_ = 0;
    cursor->skip_ = 0;
    if (cursor->position >= cursor->end) {
        return;
    }
    level->first = view->top.items;
    level->end = view->top.items + view->top.n;
    level->next =
        level->first +
        extent_find(level->first, (uint32_t)view->top.n, cursor->position);
    at = cursor->position - level->next->at;
    while (level->next->is_loop) {
        const struct ptc_extent *loop = level->next;

        level = &cursor->level_[++cursor->depth_];
        level->row = at / loop->n_bytes;
        level->n_rows = loop->n_rows;
        level->dim = loop->dim;
        level->first = view->inner.items + loop->first;
        level->end = level->first + loop->n;
        at %= loop->n_bytes;
        level->next = level->first + extent_find(level->first, loop->n, at);
        at -= level->next->at;
    }
    cursor->skip_ = at;
}

/* Step past the run the cursor stands before. */
static inline void cursor_advance(struct ptc_cursor *cursor)
{
    struct ptc_level_ *level = &cursor->level_[cursor->depth_];

    cursor->skip_ = 0;
    level->next++;
    while (level->next == level->end && cursor->depth_ > 0) {
        level->row++;
        if (level->row < level->n_rows) {
            level->next = level->first;
        } else {
            level = &cursor->level_[--cursor->depth_];
            level->next++;
        }
    }
    if (level->next != level->end && level->next->is_loop) {
        cursor_descend(cursor);
    }
}

/* The run the cursor stands before; not cut to the cursor's end. */
static inline void cursor_run(const struct ptc_cursor *cursor,
                              struct ptc_run *ret)
{
    const struct ptc_extent *run = cursor->level_[cursor->depth_].next;
    uint64_t offset = run->offset;

    if (cursor->depth_ > 0) {
        const uint64_t *strides = cursor->view->strides.items + run->strides;

        for (uint32_t i = 1; i <= cursor->depth_; i++) {
            const struct ptc_level_ *level = &cursor->level_[i];

            offset += level->row * strides[level->dim];
        }
    }
    ret->blob = run->blob;
    ret->offset = run->blob == PTC_BLOB_ZERO ? 0 : offset + cursor->skip_;
    ret->n_bytes = run->n_bytes - cursor->skip_;
}

bool ptc_cursor_next(struct ptc_cursor *cursor, struct ptc_run *ret)
{
    uint64_t left = cursor->end - cursor->position;

    if (left == 0) {
        return false;
    }
    cursor_run(cursor, ret);
    if (ret->n_bytes > left) {
        ret->n_bytes = left; /* the last: the cursor goes no further */
    } else {
        cursor_advance(cursor);
    }
    cursor->position += ret->n_bytes;
    return true;
}

bool ptc_cursor_next_rows(struct ptc_cursor *cursor,
                          struct ptc_run *ret,
                          uint64_t *ret_n_rows,
                          uint64_t *ret_stride)
{
    struct ptc_level_ *level = &cursor->level_[cursor->depth_];
    uint64_t left = cursor->end - cursor->position;
    uint64_t n_rows;

    *ret_n_rows = 1;
    *ret_stride = 0;
    if (left == 0 || cursor->depth_ == 0 || cursor->skip_ > 0 ||
        level->end - level->first != 1) {
        return ptc_cursor_next(cursor, ret);
    }
    cursor_run(cursor, ret);
    n_rows = base_min_u64(level->n_rows - level->row, left / ret->n_bytes);
    if (n_rows < 2) {
        return ptc_cursor_next(cursor, ret);
    }
    *ret_n_rows = n_rows;
    *ret_stride =
        cursor->view->strides.items[level->first->strides + level->dim];
    cursor->position += n_rows * ret->n_bytes;
    level->row += n_rows - 1; /* cursor_advance steps past the last */
    cursor_advance(cursor);
    return true;
}
