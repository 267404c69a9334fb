/* Each stretch of @a is read and met with the same boxes of @b, run by run. */
#include <inttypes.h>
#include <stdio.h>

#include "base/io.h"
#include "base/num.h"
#include "store/copy.h"
#include "store/pairs.h"

struct compare {
    const struct store_source *a;
    const struct store_source *b;
    const struct ptc_table *table; /* of a */
};

/* One pair being compared. */
struct run_compare {
    const struct compare *compare;
    const struct store_pair *pair;
    const unsigned char *in_b;
    const unsigned char *in_a;
    uint32_t a_blob;
    uint64_t n_before; /* bytes of the box that were equal */
};

/* Byte @at of @box, in C order, as an element: "[3, 17]". */
static void element_text(enum ptc_dtype dtype,
                         const struct ptc_box *box,
                         uint64_t at,
                         char *text,
                         size_t room)
{
    uint64_t elem = at * 8 / ptc_dtype_bits(dtype);
    uint64_t index[PTC_MAX_DIMS];
    int len = snprintf(text, room, "[");

    for (uint32_t d = box->n_dims; d > 0; d--) {
        uint64_t n = box->end[d - 1] - box->begin[d - 1];

        index[d - 1] = box->begin[d - 1] + elem % n;
        elem /= n;
    }
    for (uint32_t d = 0; d < box->n_dims && (size_t)len < room; d++) {
        len += snprintf(text + len, room - (size_t)len, "%s%" PRIu64,
                        d == 0 ? "" : ", ", index[d]);
    }
    if ((size_t)len < room) {
        (void)snprintf(text + len, room - (size_t)len, "]");
    }
}

static enum base_code on_run(void *ctx,
                             uint64_t b_at,
                             uint64_t a_at,
                             uint64_t n_bytes,
                             struct base_err *err)
{
    struct run_compare *run = ctx;
    const unsigned char *x = run->in_a + a_at;
    const unsigned char *y = run->in_b + b_at;
    const struct compare *c = run->compare;
    const struct ptc_tensor *t;
    char text[200];
    uint64_t i = 0;

    if (memcmp(x, y, n_bytes) == 0) {
        run->n_before += n_bytes;
        return BASE_OK;
    }
    while (x[i] == y[i]) {
        i++;
    }
    t = ptc_table_tensor(c->table, run->pair->tensor);
    element_text(t->dtype, &run->pair->box, run->n_before + i, text,
                 sizeof(text));
    return base_fail(err, BASE_MISMATCH,
                     "tensor %.*s: element %s differs in %s and %s",
                     BASE_STR_FMT(t->name), text,
                     store_source_blob(c->a, run->a_blob)->label,
                     store_source_blob(c->b, run->pair->have_blob)->label);
}

static enum base_code compare_stretch(void *ctx,
                                      const struct store_pairs *pairs,
                                      struct base_err *err)
{
    const struct compare *c = ctx;

    if (pairs->n == 0) {
        return BASE_OK;
    }
    BASE_TRY(store_image_read(pairs->want, pairs->stretch, c->a, pairs->scratch,
                              err));
    for (size_t i = 0; i < pairs->n; i++) {
        const struct store_pair *pair = &pairs->items[i];
        struct run_compare run = {.compare = c,
                                  .pair = pair,
                                  .in_b = pairs->have + pair->have_at,
                                  .in_a = pairs->scratch + pair->want_at,
                                  .a_blob = pairs->stretch->blob};

        BASE_TRY(store_strided_runs(&pair->runs, on_run, &run, err));
    }
    return BASE_OK;
}

enum base_code store_compare(const struct store_source *a,
                             const struct ptc_pieces *a_pieces,
                             const struct store_source *b,
                             const struct ptc_pieces *b_pieces,
                             const uint32_t *tensor_map,
                             const struct store_copy_options *options,
                             struct base_err *err)
{
    struct compare compare = {a, b, ptc_pieces_table(a_pieces)};
    struct store_pairs_job job = {.have = b,
                                  .have_pieces = b_pieces,
                                  .want_pieces = a_pieces,
                                  .want_table = compare.table,
                                  .tensor_map = tensor_map,
                                  .options = options,
                                  .fn = compare_stretch,
                                  .ctx = &compare};

    return store_pairs_run(&job, err);
}

enum base_code store_compare_blobs(const struct store_blob *a,
                                   const struct store_blob *b,
                                   struct base_err *err)
{
    enum { CHUNK = 1 << 16, BOTH = 2 * CHUNK };
    BASE_AUTO_MEM char *buf = malloc(BOTH);

    if (buf == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    if (a->n_bytes != b->n_bytes) {
        return base_fail(err, BASE_MISMATCH, "%s and %s differ in size",
                         a->label, b->label);
    }
    for (uint64_t at = 0; at < a->n_bytes;) {
        size_t n = (size_t)base_min_u64(CHUNK, a->n_bytes - at);

        BASE_TRY(base_io_pread(a->fd, buf, n, at, a->label, err));
        BASE_TRY(base_io_pread(b->fd, buf + CHUNK, n, at, b->label, err));
        if (memcmp(buf, buf + CHUNK, n) != 0) {
            return base_fail(err, BASE_MISMATCH, "%s and %s differ", a->label,
                             b->label);
        }
        at += n;
    }
    return BASE_OK;
}
