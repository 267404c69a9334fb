#include "store/strided.h"

#include <string.h>

/* One more loop outside the last; merged where two are one. */
static void add_loop(struct store_strided *s,
                     uint64_t count,
                     uint64_t a_step,
                     uint64_t b_step)
{
    uint32_t last = s->n_loops - 1;

    s->n_runs *= count;
    if (s->n_loops > 0 && a_step == s->count[last] * s->a_step[last] &&
        b_step == s->count[last] * s->b_step[last]) {
        s->count[last] *= count;
        return;
    }
    s->count[s->n_loops] = count;
    s->a_step[s->n_loops] = a_step;
    s->b_step[s->n_loops] = b_step;
    s->n_loops++;
}

static void reverse(struct store_strided *s)
{
    struct store_strided inner_first = *s;

    for (uint32_t i = 0; i < s->n_loops; i++) {
        uint32_t from = s->n_loops - 1 - i;

        s->count[i] = inner_first.count[from];
        s->a_step[i] = inner_first.a_step[from];
        s->b_step[i] = inner_first.b_step[from];
    }
}

/* From bits to bytes; false when something begins inside a byte. */
static bool to_bytes(struct store_strided *s)
{
    bool whole = s->run_bytes % 8 == 0;

    s->run_bytes /= 8;
    for (uint32_t i = 0; i < s->n_loops; i++) {
        whole = whole && s->a_step[i] % 8 == 0 && s->b_step[i] % 8 == 0;
        s->a_step[i] /= 8;
        s->b_step[i] /= 8;
    }
    return whole;
}

enum base_code store_strided_plan(enum ptc_dtype dtype,
                                  const struct ptc_box *box,
                                  const uint64_t *a_stride,
                                  const uint64_t *b_stride,
                                  struct store_strided *ret,
                                  struct base_err *err)
{
    unsigned bits = ptc_dtype_bits(dtype);
    uint64_t run = bits % 8 == 0 ? bits / 8 : bits;

    ret->n_loops = 0;
    ret->n_runs = 1;
    ret->is_same = true;
    for (uint32_t d = box->n_dims; d > 0; d--) {
        uint64_t count = box->end[d - 1] - box->begin[d - 1];
        uint64_t a = a_stride[d - 1];
        uint64_t b = b_stride[d - 1];

        if (count == 1) {
            continue;
        }
        ret->is_same = ret->is_same && a == b;
        if (ret->n_loops == 0 && a == run && b == run) {
            run *= count;
        } else {
            add_loop(ret, count, a, b);
        }
    }
    ret->run_bytes = run;
    reverse(ret);
    if (bits % 8 != 0 && !to_bytes(ret)) {
        return base_fail(err, BASE_UNSUPPORTED,
                         "a run of a %s tensor begins inside a byte",
                         ptc_dtype_name(dtype));
    }
    return BASE_OK;
}

/* Runs of a fixed small size: the compiler makes each a move. */
static void copy_row(const unsigned char *a,
                     unsigned char *b,
                     uint64_t count,
                     uint64_t a_step,
                     uint64_t b_step,
                     uint64_t run)
{
#define ROW(size)                                                              \
    case size:                                                                 \
        for (uint64_t i = 0; i < count; i++) {                                 \
            memcpy(b + i * b_step, a + i * a_step, size);                      \
        }                                                                      \
        return

    switch (run) {
        ROW(1);
        ROW(2);
        ROW(4);
        ROW(8);
        ROW(16);
        ROW(32);
        ROW(64);
    default:
        for (uint64_t i = 0; i < count; i++) {
            memcpy(b + i * b_step, a + i * a_step, run);
        }
    }
#undef ROW
}

void store_strided_copy(const struct store_strided *s,
                        const unsigned char *a,
                        unsigned char *b)
{
    uint64_t at[PTC_MAX_DIMS] = {0};
    uint32_t inner = s->n_loops - 1;

    if (s->n_loops == 0) {
        memcpy(b, a, s->run_bytes);
        return;
    }
    for (;;) {
        uint32_t d = inner;

        copy_row(a, b, s->count[inner], s->a_step[inner], s->b_step[inner],
                 s->run_bytes);
        for (;;) { /* count on, the innermost loop aside */
            if (d == 0) {
                return;
            }
            d--;
            a += s->a_step[d];
            b += s->b_step[d];
            if (++at[d] < s->count[d]) {
                break;
            }
            a -= s->count[d] * s->a_step[d];
            b -= s->count[d] * s->b_step[d];
            at[d] = 0;
        }
    }
}

enum base_code store_strided_runs(const struct store_strided *s,
                                  store_run_fn fn,
                                  void *ctx,
                                  struct base_err *err)
{
    uint64_t at[PTC_MAX_DIMS] = {0};
    uint64_t a = 0, b = 0;

    for (uint64_t i = 0; i < s->n_runs; i++) {
        BASE_TRY(fn(ctx, a, b, s->run_bytes, err));
        for (uint32_t d = s->n_loops; d > 0; d--) {
            a += s->a_step[d - 1];
            b += s->b_step[d - 1];
            if (++at[d - 1] < s->count[d - 1]) {
                break;
            }
            a -= s->count[d - 1] * s->a_step[d - 1];
            b -= s->count[d - 1] * s->b_step[d - 1];
            at[d - 1] = 0;
        }
    }
    return BASE_OK;
}

uint64_t store_strided_extent(enum ptc_dtype dtype,
                              const struct ptc_box *box,
                              const uint64_t *stride,
                              uint64_t *ret_n_bytes)
{
    unsigned bits = ptc_dtype_bits(dtype);
    uint64_t unit = bits % 8 == 0 ? 8 : 1; /* bits that a stride counts */
    uint64_t last = bits;

    for (uint32_t d = 0; d < box->n_dims; d++) {
        last += (box->end[d] - 1 - box->begin[d]) * stride[d] * unit;
    }
    *ret_n_bytes = (ptc_box_elems(box) * bits + 7) / 8;
    return (last + 7) / 8;
}
