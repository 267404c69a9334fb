/* Gather: a walk over a view's runs that makes iovecs.
 *
 * Long runs point into the map of their blob, short ones are copied into the
 * scratch (runs of one size and stride in one specialised loop), zeros are
 * written there.  The walk runs under one guard (store/guard.h) and allocates
 * nothing, so a fault may end it anywhere.
 *
 * Every touched blob is compared with what it was when it was opened once all
 * bytes are copied: a file that is then as it was has been so all the time, and
 * one that was changed under the walk is told, whatever was copied.  Bytes that
 * iovecs point at are as good as that check: a file truncated between it and
 * the use of the iovec gives EFAULT to write(2), or zeros in its last page. */
#include "store/gather.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/io.h"
#include "base/num.h"
#include "store/guard.h"
#include "store/maps.h"

#define MAX_TOUCHED 1024u
#define N_RECENT    256u

/* A blob that this gather reads. */
struct touched {
    const struct store_blob *blob;
    const uint8_t *bytes; /* NULL: not mapped */
    uint32_t idx;
};

struct walk {
    struct store_maps *maps;
    struct ptc_cursor cursor;
    const char *header;
    uint8_t *scratch;
    size_t scratch_bytes;
    size_t used; /* of the scratch */
    struct store_gather *out;
    uint64_t mapped_bytes;
    bool is_full; /* iov or scratch ran out */
    enum base_code rc;
    struct base_err *err;
    uint32_t n_touched;
    /* By slot_of the blob: one more than an index of touched; 0 none. */
    uint32_t recent[N_RECENT];
    struct touched touched[MAX_TOUCHED];
};

/* ---- Where bytes go ---- */

/* Bytes that stay where they are. */
static void put_direct(struct walk *walk, const void *bytes, size_t n)
{
    struct store_gather *out = walk->out;

    if (out->n_iov >= STORE_GATHER_MAX_IOV) {
        walk->is_full = true;
        return;
    }
    out->iov[out->n_iov].iov_base = (void *)(uintptr_t)bytes;
    out->iov[out->n_iov].iov_len = n;
    out->n_iov++;
    out->n_bytes += n;
}

/* Room for at most @n bytes of scratch; *ret_n may be less (then the gather is
 * full). */
static uint8_t *put_scratch(struct walk *walk, uint64_t n, size_t *ret_n)
{
    struct store_gather *out = walk->out;
    struct iovec *last = out->n_iov > 0 ? &out->iov[out->n_iov - 1] : NULL;
    uint8_t *room = walk->scratch + walk->used;
    size_t got = walk->scratch_bytes - walk->used;

    if (got < n) {
        walk->is_full = true;
    } else {
        got = (size_t)n;
    }
    if (got > 0 &&
        (last == NULL || (uint8_t *)last->iov_base + last->iov_len != room)) {
        if (out->n_iov >= STORE_GATHER_MAX_IOV) {
            walk->is_full = true;
            *ret_n = 0;
            return room;
        }
        last = &out->iov[out->n_iov++];
        last->iov_base = room;
        last->iov_len = 0;
    }
    if (got > 0) {
        last->iov_len += got;
    }
    walk->used += got;
    out->n_bytes += got;
    *ret_n = got;
    return room;
}

/* ---- Copies ---- */

/* Rows of a size known at compile time. */
#define COPY_FIXED(size)                                                       \
    case size:                                                                 \
        for (uint64_t i = 0; i < n_rows; i++) {                                \
            memcpy(to + i * (size), from + i * stride, (size));                \
        }                                                                      \
        return

static void copy_rows(uint8_t *to,
                      const uint8_t *from,
                      uint64_t stride,
                      size_t n_bytes,
                      uint64_t n_rows)
{
    switch (n_bytes) {
        COPY_FIXED(1);
        COPY_FIXED(2);
        COPY_FIXED(4);
        COPY_FIXED(8);
        COPY_FIXED(16);
        COPY_FIXED(32);
        COPY_FIXED(64);
        COPY_FIXED(128);
    default:
        for (uint64_t i = 0; i < n_rows; i++) {
            memcpy(to, from, n_bytes);
            to += n_bytes;
            from += stride;
        }
    }
}

/* Read rows of a blob that could not be mapped. */
static void read_rows(struct walk *walk,
                      const struct touched *touched,
                      const struct ptc_run *run,
                      uint64_t stride,
                      uint8_t *to,
                      size_t n)
{
    uint64_t offset = run->offset;

    while (n > 0 && walk->rc == BASE_OK) {
        size_t step = (size_t)base_min_u64(run->n_bytes, n);

        walk->rc = base_io_pread(touched->blob->fd, to, step, offset,
                                 touched->blob->label, walk->err);
        to += step;
        n -= step;
        offset += stride;
    }
}

/* ---- The walk ---- */

/* Is every touched blob as it was when it was opened? */
static enum base_code walk_check(const struct walk *walk, struct base_err *err)
{
    for (uint32_t i = 0; i < walk->n_touched; i++) {
        BASE_TRY(store_blob_check(walk->touched[i].blob, err));
    }
    return BASE_OK;
}

/* Blobs of a file's pieces are often a power of two apart. */
static uint32_t slot_of(uint32_t idx)
{
    return (idx ^ idx >> 8 ^ idx >> 16) % N_RECENT;
}

/* NULL: walk->rc says why.  When the table is full, the blobs in it are checked
 * and forgotten: what was copied from them so far is good. */
static const struct touched *walk_touch(struct walk *walk, uint32_t idx)
{
    uint32_t *recent = &walk->recent[slot_of(idx)];
    struct touched *touched;

    if (*recent != 0 && walk->touched[*recent - 1].idx == idx) {
        return &walk->touched[*recent - 1];
    }
    if (walk->n_touched == MAX_TOUCHED) {
        walk->rc = walk_check(walk, walk->err);
        if (walk->rc != BASE_OK) {
            return NULL;
        }
        walk->n_touched = 0;
        memset(walk->recent, 0, sizeof(walk->recent));
    }
    touched = &walk->touched[walk->n_touched++];
    touched->idx = idx;
    touched->blob = store_source_blob(store_maps_source(walk->maps), idx);
    touched->bytes = store_maps_get(walk->maps, idx);
    *recent = walk->n_touched;
    return touched;
}

static void walk_blob(struct walk *walk,
                      const struct ptc_run *run,
                      uint64_t n_rows,
                      uint64_t stride)
{
    const struct touched *touched = walk_touch(walk, run->blob);
    uint64_t n = run->n_bytes * n_rows;
    uint64_t span = (n_rows - 1) * stride + run->n_bytes;
    size_t got;
    uint8_t *to;

    if (touched == NULL) {
        return;
    }
    if (run->offset > touched->blob->n_bytes ||
        span > touched->blob->n_bytes - run->offset) {
        walk->rc = base_fail(walk->err, BASE_MISMATCH,
                             "%s: bytes past its end are asked for",
                             touched->blob->label);
        return;
    }
    if (touched->bytes != NULL && run->n_bytes >= STORE_GATHER_DIRECT_BYTES) {
        const uint8_t *from = touched->bytes + run->offset;
        uint64_t before = walk->out->n_bytes;

        for (uint64_t i = 0; i < n_rows && !walk->is_full; i++) {
            put_direct(walk, from + i * stride, run->n_bytes);
        }
        walk->mapped_bytes += walk->out->n_bytes - before;
        return;
    }
    to = put_scratch(walk, n, &got);
    if (touched->bytes == NULL) {
        read_rows(walk, touched, run, stride, to, got);
        return;
    }
    n_rows = got / run->n_bytes;
    copy_rows(to, touched->bytes + run->offset, stride, run->n_bytes, n_rows);
    memcpy(to + n_rows * run->n_bytes,
           touched->bytes + run->offset + n_rows * stride,
           got - n_rows * run->n_bytes);
    walk->mapped_bytes += got;
}

static void walk_run(void *ctx)
{
    struct walk *walk = ctx;
    struct ptc_run run;
    uint64_t n_rows;
    uint64_t stride;

    while (walk->rc == BASE_OK && !walk->is_full &&
           ptc_cursor_next_rows(&walk->cursor, &run, &n_rows, &stride)) {
        size_t got;

        if (run.blob == PTC_BLOB_HEADER) {
            put_direct(walk, walk->header + run.offset, run.n_bytes);
        } else if (run.blob == PTC_BLOB_ZERO) {
            uint8_t *to = put_scratch(walk, run.n_bytes * n_rows, &got);

            memset(to, 0, got);
        } else {
            walk_blob(walk, &run, n_rows, stride);
        }
    }
}

enum base_code store_gather(struct store_maps *maps,
                            const struct ptc_view *view,
                            uint64_t offset,
                            size_t n_bytes,
                            void *scratch,
                            size_t scratch_bytes,
                            struct store_gather *ret,
                            struct base_err *err)
{
    struct walk walk;

    walk.maps = maps; /* no initialiser: it would clear `touched` as well */
    walk.header = ptc_view_header(view).ptr;
    walk.scratch = scratch;
    walk.scratch_bytes = scratch_bytes;
    walk.used = 0;
    walk.out = ret;
    walk.mapped_bytes = 0;
    walk.is_full = false;
    walk.rc = BASE_OK;
    walk.err = err;
    walk.n_touched = 0;
    memset(walk.recent, 0, sizeof(walk.recent));
    ret->n_iov = 0;
    ret->n_bytes = 0;
    ptc_cursor_init(&walk.cursor, view, offset, n_bytes);
    if (!store_guard_run(walk_run, &walk)) {
        BASE_TRY(walk_check(&walk, err));
        return base_fail(err, BASE_IO, "a mapped page cannot be read");
    }
    BASE_TRY(walk.rc);
    BASE_TRY(walk_check(&walk, err));
    base_io_count_mapped(walk.mapped_bytes);
    return BASE_OK;
}
