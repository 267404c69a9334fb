/* Do pieces cover their tensors exactly?
 *
 * A sweep: dimension by dimension, the cut points make bands; in each band the
 * same pieces are active, and these must tile the next dimension; in the last
 * one they are ranges that must follow one another.  Cost: n log n, and the sum
 * of active pieces over the bands. */
#include <assert.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/pieces_impl.h"

struct cover {
    const struct ptc_tensor *tensor;
    struct ptc_records run;
    struct ptc_box band;    /* dimensions above the current one */
    BASE_VEC(uint64_t) ids; /* a stack of lists of pieces */
};

struct cover_key {
    const struct ptc_records *run;
    uint32_t dim;
};

static int cover_cmp(const void *a, const void *b, void *ctx)
{
    const struct cover_key *key = ctx;
    uint64_t x = ptc_record(key->run, *(const uint64_t *)a)[key->dim];
    uint64_t y = ptc_record(key->run, *(const uint64_t *)b)[key->dim];

    return x < y ? -1 : x > y;
}

static uint64_t cover_begin(const struct cover *cover, uint64_t id, uint32_t d)
{
    return ptc_record(&cover->run, id)[d];
}

static uint64_t cover_end(const struct cover *cover, uint64_t id, uint32_t d)
{
    return ptc_record(&cover->run, id)[cover->run.n_dims + d];
}

/* @begin to @end along @dim, in the band: name it. */
static enum base_code cover_fail(struct cover *cover,
                                 uint32_t dim,
                                 uint64_t begin,
                                 uint64_t end,
                                 bool is_missing,
                                 struct base_err *err)
{
    char text[PTC_BOX_TEXT_BYTES];

    cover->band.n_dims = cover->tensor->n_dims;
    for (uint32_t d = dim; d < cover->tensor->n_dims; d++) {
        cover->band.begin[d] = d == dim ? begin : 0;
        cover->band.end[d] = d == dim ? end : cover->tensor->shape[d];
    }
    return base_fail(err, BASE_MISMATCH, "tensor %.*s: %s is %s",
                     BASE_STR_FMT(cover->tensor->name),
                     ptc_box_format(&cover->band, text),
                     is_missing ? "missing" : "there twice");
}

/* The innermost dimension: sorted ranges that must follow one another. */
static enum base_code cover_line(struct cover *cover,
                                 uint32_t dim,
                                 size_t begin,
                                 size_t end,
                                 struct base_err *err)
{
    uint64_t at = 0;

    for (size_t i = begin; i < end; i++) {
        uint64_t from = cover_begin(cover, cover->ids.items[i], dim);
        uint64_t to = cover_end(cover, cover->ids.items[i], dim);

        if (from > at) {
            return cover_fail(cover, dim, at, from, true, err);
        }
        if (from < at) {
            return cover_fail(cover, dim, from, base_min_u64(at, to), false,
                              err);
        }
        at = to;
    }
    if (at < cover->tensor->shape[dim]) {
        return cover_fail(cover, dim, at, cover->tensor->shape[dim], true, err);
    }
    return BASE_OK;
}

/* Check dimensions @dim and further of the pieces ids[begin..]; what is pushed
 * above them is popped again. */
static enum base_code cover_level(struct cover *cover,
                                  uint32_t dim,
                                  size_t begin,
                                  struct base_err *err)
{
    struct cover_key key = {&cover->run, dim};
    size_t end = cover->ids.n;
    size_t next = begin;
    uint64_t n_active = 0; /* they stand at ids[end..end + n_active) */

    if (end - begin > 1) {
        qsort_r(cover->ids.items + begin, end - begin,
                sizeof(*cover->ids.items), cover_cmp, &key);
    }
    if (dim + 1 == cover->run.n_dims) {
        return cover_line(cover, dim, begin, end, err);
    }
    for (uint64_t at = 0; at < cover->tensor->shape[dim];) {
        uint64_t until = cover->tensor->shape[dim];
        size_t kept = end;

        for (size_t i = end; i < end + n_active; i++) {
            uint64_t id = cover->ids.items[i];

            if (cover_end(cover, id, dim) > at) {
                until = base_min_u64(until, cover_end(cover, id, dim));
                cover->ids.items[kept++] = id;
            }
        }
        cover->ids.n = kept;
        for (; next < end &&
               cover_begin(cover, cover->ids.items[next], dim) <= at;
             next++) {
            uint64_t id = cover->ids.items[next];

            until = base_min_u64(until, cover_end(cover, id, dim));
            if (!base_vec_push(&cover->ids, id)) {
                return base_fail(err, BASE_NO_MEM, "cannot check pieces");
            }
        }
        if (next < end) {
            until = base_min_u64(
                until, cover_begin(cover, cover->ids.items[next], dim));
        }
        n_active = cover->ids.n - end;
        if (n_active == 0) {
            return cover_fail(cover, dim, at, until, true, err);
        }
        /* The level below sorts its list: any order serves the next band. */
        cover->band.begin[dim] = at;
        cover->band.end[dim] = until;
        BASE_TRY(cover_level(cover, dim + 1, end, err));
        at = until;
    }
    cover->ids.n = end;
    return BASE_OK;
}

static enum base_code cover_tensor(struct cover *cover, struct base_err *err)
{
    cover->ids.n = 0;
    if (cover->run.n_dims == 0) {
        if (cover->run.n != 1) {
            return cover_fail(cover, 0, 0, 0, cover->run.n == 0, err);
        }
        return BASE_OK;
    }
    if (!base_vec_reserve(&cover->ids, cover->run.n)) {
        return base_fail(err, BASE_NO_MEM, "cannot check pieces");
    }
    for (uint64_t i = 0; i < cover->run.n; i++) {
        cover->ids.items[i] = i;
    }
    cover->ids.n = cover->run.n;
    return cover_level(cover, 0, 0, err);
}

enum base_code ptc_pieces_check(const struct ptc_pieces *pieces,
                                struct base_err *err)
{
    struct cover cover = {0};
    enum base_code rc = BASE_OK;

    assert(pieces->is_sealed);
    for (uint32_t t = 0;
         rc == BASE_OK && t < ptc_table_n_tensors(pieces->table); t++) {
        cover.tensor = ptc_table_tensor(pieces->table, t);
        cover.run = ptc_records_of(pieces, t);
        if (cover.tensor->tie == PTC_NONE && cover.tensor->n_elems > 0) {
            rc = cover_tensor(&cover, err);
        }
    }
    base_vec_done(&cover.ids);
    return rc;
}
