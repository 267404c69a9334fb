/* A slab whose pieces lie too far apart in their files to be held (`sparse`
 * stretches) is halved until they can be. */
#include "store/pairs.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/num.h"
#include "base/parallel.h"
#include "ptc/boxes.h"
#include "store/slabs.h"

#define DEFAULT_MEMORY  ((uint64_t)128 << 20)
#define MIN_PER_THREAD  ((uint64_t)1 << 20)
#define MAX_SLAB_BYTES  ((uint64_t)4 << 20)
#define DEFAULT_THREADS 8u
#define BUFFER_ALIGN    4096u

/* A box of a tensor that is read of `have` as one: a pair lies within one. */
struct need {
    uint32_t tensor; /* of want */
    struct ptc_box box;
};

/* What a thread owns. */
struct worker {
    struct store_image have;
    struct store_image want;
    BASE_VEC(struct need) needs; /* by tensor */
    BASE_VEC(struct store_pair) pairs;
    struct ptc_boxes boxes;
    struct ptc_boxes boxes_scratch;
    unsigned char *have_buffer;
    unsigned char *scratch;
    uint64_t buffer_bytes; /* of each */
    /* while pairs of one part are collected */
    const struct store_pairs_job *job;
    const struct store_stretch *stretch;
    const struct store_image_part *part;
    uint64_t n_pair_bytes;
};

struct pool {
    const struct store_pairs_job *job;
    struct store_slabs *slabs;
    struct worker *workers;
    unsigned n_workers;
    uint64_t slab_bytes;
    uint64_t all_bytes;
    pthread_mutex_t lock; /* guards what follows, and calls of progress */
    uint64_t done_bytes;
};

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for buffers");
}

static uint32_t have_tensor(const struct store_pairs_job *job, uint32_t tensor)
{
    return job->tensor_map == NULL ? tensor : job->tensor_map[tensor];
}

static enum base_code on_have_piece(void *ctx,
                                    uint32_t tensor,
                                    const struct ptc_piece *piece,
                                    struct base_err *err)
{
    struct worker *w = ctx;
    const struct store_image_part *part = w->part;
    const struct ptc_tensor *t =
        ptc_table_tensor(w->job->want_table, part->tensor);
    const struct store_stretch *in =
        store_image_find(&w->have, piece->blob, piece->offset);
    struct ptc_piece to = part->piece;
    struct store_pair pair = {
        .tensor = part->tensor, .box = piece->box, .have_blob = piece->blob};
    uint64_t n_bytes;

    (void)tensor;
    if (in == NULL) {
        return base_fail(err, BASE_MISMATCH,
                         "tensor %.*s: a piece was not read",
                         BASE_STR_FMT(t->name));
    }
    ptc_piece_cut(&to, t, &piece->box);
    pair.have_at = in->at + (piece->offset - in->begin);
    pair.want_at = to.offset - w->stretch->begin;
    BASE_TRY(store_strided_plan(t->dtype, &piece->box, piece->stride, to.stride,
                                &pair.runs, err));
    (void)store_strided_extent(t->dtype, &piece->box, to.stride, &n_bytes);
    w->n_pair_bytes += n_bytes;
    return base_vec_push(&w->pairs, pair) ? BASE_OK : no_mem(err);
}

/* The pairs of w->part. */
static enum base_code pair_part(struct worker *w, struct base_err *err)
{
    uint32_t tensor = w->part->tensor;
    size_t low = 0, high = w->needs.n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (w->needs.items[middle].tensor < tensor) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for (; low < w->needs.n && w->needs.items[low].tensor == tensor; low++) {
        struct ptc_box box;

        if (ptc_box_intersect(&w->part->piece.box, &w->needs.items[low].box,
                              &box)) {
            BASE_TRY(ptc_pieces_find(w->job->have_pieces,
                                     have_tensor(w->job, tensor), &box,
                                     on_have_piece, w, err));
        }
    }
    return BASE_OK;
}

static enum base_code visit_stretch(struct worker *w,
                                    const struct store_stretch *stretch,
                                    struct base_err *err)
{
    const struct store_pairs_job *job = w->job;
    struct store_pairs pairs = {.want = &w->want,
                                .stretch = stretch,
                                .have = w->have_buffer,
                                .scratch = w->scratch};

    w->stretch = stretch;
    w->pairs.n = 0;
    w->n_pair_bytes = 0;
    for (uint32_t i = 0; i < stretch->n_parts; i++) {
        w->part = &w->want.parts.items[stretch->first_part + i];
        BASE_TRY(pair_part(w, err));
    }
    pairs.items = w->pairs.items;
    pairs.n = w->pairs.n;
    pairs.n_bytes = w->n_pair_bytes;
    return job->fn(job->ctx, &pairs, err);
}

static enum base_code
add_progress(struct pool *pool, uint64_t n_bytes, struct base_err *err)
{
    const struct store_copy_options *options = pool->job->options;
    bool go_on = true;

    if (options->progress == NULL) {
        return BASE_OK;
    }
    (void)pthread_mutex_lock(&pool->lock); /* ours: cannot fail */
    pool->done_bytes += n_bytes;
    go_on = options->progress(options->progress_ctx, pool->done_bytes,
                              pool->all_bytes);
    (void)pthread_mutex_unlock(&pool->lock);
    return go_on ? BASE_OK : base_fail(err, BASE_INTERRUPTED, "interrupted");
}

/* What is wanted of @tensor in @of (parts from @first on), as disjoint boxes:
 * @of itself when that is all of it. */
static enum base_code collect_needs(struct worker *w,
                                    uint32_t tensor,
                                    const struct ptc_box *of,
                                    size_t first,
                                    struct base_err *err)
{
    struct need need = {.tensor = tensor, .box = *of};

    w->boxes.n = 0;
    for (size_t i = first; i < w->want.parts.n; i++) {
        if (!ptc_boxes_add_new(&w->boxes, &w->want.parts.items[i].piece.box, 0,
                               0)) {
            return no_mem(err);
        }
    }
    if (!ptc_boxes_union(&w->boxes, &w->boxes_scratch)) {
        return no_mem(err);
    }
    if (ptc_boxes_elems(&w->boxes) == ptc_box_elems(of)) {
        return base_vec_push(&w->needs, need) ? BASE_OK : no_mem(err);
    }
    for (size_t i = 0; i < w->boxes.n; i++) {
        need.box = w->boxes.items[i].box;
        if (!base_vec_push(&w->needs, need)) {
            return no_mem(err);
        }
    }
    return BASE_OK;
}

/* Both images of tensors [begin, end), of one tensor cut to @box. */
static enum base_code collect(const struct pool *pool,
                              struct worker *w,
                              uint32_t begin,
                              uint32_t end,
                              const struct ptc_box *box,
                              struct base_err *err)
{
    const struct store_pairs_job *job = pool->job;

    store_image_reset(&w->have, ptc_pieces_table(job->have_pieces));
    store_image_reset(&w->want, job->want_table);
    w->needs.n = 0;
    for (uint32_t i = begin; i < end; i++) {
        const struct ptc_tensor *t = ptc_table_tensor(job->want_table, i);
        struct ptc_box whole = ptc_box_whole(t->n_dims, t->shape);
        const struct ptc_box *of = end - begin > 1 ? &whole : box;

        if (t->tie == PTC_NONE && have_tensor(job, i) != PTC_NONE) {
            size_t first = w->want.parts.n;

            BASE_TRY(
                store_image_collect(&w->want, job->want_pieces, i, of, err));
            BASE_TRY(collect_needs(w, i, of, first, err));
        }
    }
    for (size_t i = 0; i < w->needs.n; i++) {
        BASE_TRY(store_image_collect(&w->have, job->have_pieces,
                                     have_tensor(job, w->needs.items[i].tensor),
                                     &w->needs.items[i].box, err));
    }
    BASE_TRY(store_image_settle(&w->have, pool->slab_bytes, err));
    return store_image_settle(&w->want, pool->slab_bytes, err);
}

static enum base_code visit_slab(struct pool *pool,
                                 struct worker *w,
                                 uint32_t begin,
                                 uint32_t end,
                                 const struct ptc_box *box,
                                 struct base_err *err);

/* Make the buffers at least @n_bytes long; what they hold is lost. */
static enum base_code
grow_buffers(struct worker *w, uint64_t n_bytes, struct base_err *err)
{
    if (n_bytes <= w->buffer_bytes) {
        return BASE_OK;
    }
    n_bytes = base_ceil_div(n_bytes, BUFFER_ALIGN) * BUFFER_ALIGN;
    free(w->have_buffer);
    free(w->scratch);
    w->buffer_bytes = 0;
    w->have_buffer = aligned_alloc(BUFFER_ALIGN, n_bytes);
    w->scratch = aligned_alloc(BUFFER_ALIGN, n_bytes);
    if (w->have_buffer == NULL || w->scratch == NULL) {
        return no_mem(err);
    }
    w->buffer_bytes = n_bytes;
    return BASE_OK;
}

/* Read what was collected of `have`, visit what was collected of `want`. */
static enum base_code
fill_slab(struct pool *pool, struct worker *w, struct base_err *err)
{
    uint64_t n_bytes = 0;

    BASE_TRY(
        grow_buffers(w, base_max_u64(w->have.n_bytes, w->want.max_bytes), err));
    for (size_t i = 0; i < w->have.stretches.n; i++) {
        const struct store_stretch *s = &w->have.stretches.items[i];

        BASE_TRY(store_image_read(&w->have, s, pool->job->have,
                                  w->have_buffer + s->at, err));
    }
    for (size_t i = 0; i < w->want.stretches.n; i++) {
        BASE_TRY(visit_stretch(w, &w->want.stretches.items[i], err));
        n_bytes += w->n_pair_bytes;
    }
    return add_progress(pool, n_bytes, err);
}

/* Halve a slab: tensors, or the first dimension of its box with two indices. */
static enum base_code halve(struct pool *pool,
                            struct worker *w,
                            uint32_t begin,
                            uint32_t end,
                            const struct ptc_box *box,
                            struct base_err *err)
{
    const struct ptc_tensor *t = ptc_table_tensor(pool->job->want_table, begin);
    uint64_t grain = ptc_dtype_bits(t->dtype) % 8 == 0 ? 1 : 8;
    struct ptc_box half[2] = {*box, *box};

    if (end - begin > 1) {
        for (uint32_t i = begin; i < end; i++) {
            const struct ptc_tensor *one =
                ptc_table_tensor(pool->job->want_table, i);
            struct ptc_box whole = ptc_box_whole(one->n_dims, one->shape);

            if (one->tie == PTC_NONE && one->n_bytes > 0) {
                BASE_TRY(visit_slab(pool, w, i, i + 1, &whole, err));
            }
        }
        return BASE_OK;
    }
    for (uint32_t d = 0; d < box->n_dims; d++) {
        uint64_t n = box->end[d] - box->begin[d];

        if (n > grain) {
            half[0].end[d] = half[1].begin[d] =
                box->begin[d] + base_ceil_div(n / 2, grain) * grain;
            BASE_TRY(visit_slab(pool, w, begin, end, &half[0], err));
            return visit_slab(pool, w, begin, end, &half[1], err);
        }
    }
    return fill_slab(pool, w, err); /* cannot be less */
}

static enum base_code visit_slab(struct pool *pool,
                                 struct worker *w,
                                 uint32_t begin,
                                 uint32_t end,
                                 const struct ptc_box *box,
                                 struct base_err *err)
{
    BASE_TRY(collect(pool, w, begin, end, box, err));
    if (w->have.n_bytes > pool->slab_bytes ||
        w->want.max_bytes > pool->slab_bytes) {
        return halve(pool, w, begin, end, box, err);
    }
    return fill_slab(pool, w, err);
}

static enum base_code
on_slab(void *ctx, size_t item, unsigned thread, struct base_err *err)
{
    struct pool *pool = ctx;
    struct ptc_box box;
    uint32_t begin, end;

    if (pool->job->is_convert) {
        BASE_TRY(base_fault_check(BASE_FAULT_convert_block, err));
    }
    store_slabs_get(pool->slabs, item, &begin, &end, &box);
    return visit_slab(pool, &pool->workers[thread], begin, end, &box, err);
}

/* --- the pool ----------------------------------------------------------- */

static enum base_code count_piece(void *ctx,
                                  uint32_t tensor,
                                  const struct ptc_piece *piece,
                                  struct base_err *err)
{
    uint64_t *elems = ctx;

    (void)tensor;
    (void)err;
    *elems += ptc_box_elems(&piece->box);
    return BASE_OK;
}

/* Bytes of everything that is wanted. */
static enum base_code count_all(const struct store_pairs_job *job,
                                uint64_t *ret,
                                struct base_err *err)
{
    uint64_t n_bytes = 0;

    for (uint32_t i = 0; i < ptc_table_n_tensors(job->want_table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(job->want_table, i);
        struct ptc_box whole = ptc_box_whole(t->n_dims, t->shape);
        uint64_t elems = 0;

        if (t->tie == PTC_NONE && have_tensor(job, i) != PTC_NONE) {
            BASE_TRY(ptc_pieces_find(job->want_pieces, i, &whole, count_piece,
                                     &elems, err));
            n_bytes += elems * ptc_dtype_bits(t->dtype) / 8;
        }
    }
    *ret = n_bytes;
    return BASE_OK;
}

static void pool_done(struct pool *pool)
{
    for (unsigned i = 0; i < pool->n_workers; i++) {
        struct worker *w = &pool->workers[i];

        store_image_done(&w->have);
        store_image_done(&w->want);
        base_vec_done(&w->pairs);
        base_vec_done(&w->needs);
        ptc_boxes_done(&w->boxes);
        ptc_boxes_done(&w->boxes_scratch);
        free(w->have_buffer);
        free(w->scratch);
    }
    free(pool->workers);
    store_slabs_free(pool->slabs);
}

static enum base_code pool_init(struct pool *pool, struct base_err *err)
{
    const struct store_copy_options *options = pool->job->options;
    uint64_t memory =
        options->memory_bytes == 0 ? DEFAULT_MEMORY : options->memory_bytes;
    unsigned n = options->n_threads;

    if (n == 0) {
        n = base_n_cpus() < DEFAULT_THREADS ? base_n_cpus() : DEFAULT_THREADS;
    }
    if (memory < MIN_PER_THREAD) {
        return base_fail(err, BASE_BAD_ARG,
                         "%" PRIu64 " bytes of memory are too few, at least "
                         "1 MiB is needed",
                         memory);
    }
    n = (unsigned)base_min_u64(n, memory / MIN_PER_THREAD);
    pool->slab_bytes = base_min_u64(
        options->block_bytes == 0 ? MAX_SLAB_BYTES : options->block_bytes,
        memory / n / 2);
    BASE_TRY(store_slabs_create(pool->job->want_table, pool->slab_bytes,
                                &pool->slabs, err));
    n = (unsigned)base_min_u64(n, store_slabs_n(pool->slabs) + 1);
    pool->workers = calloc(n, sizeof(*pool->workers));
    if (pool->workers == NULL) {
        return no_mem(err);
    }
    pool->n_workers = n;
    for (unsigned i = 0; i < n; i++) {
        struct worker *w = &pool->workers[i];

        w->job = pool->job;
        BASE_TRY(grow_buffers(w, pool->slab_bytes, err));
    }
    return BASE_OK;
}

enum base_code store_pairs_run(const struct store_pairs_job *job,
                               struct base_err *err)
{
    struct pool pool = {.job = job, .lock = PTHREAD_MUTEX_INITIALIZER};
    enum base_code code = pool_init(&pool, err);

    if (code == BASE_OK && job->options->progress != NULL) {
        code = count_all(job, &pool.all_bytes, err);
    }
    if (code == BASE_OK) {
        code = base_parallel(pool.n_workers, store_slabs_n(pool.slabs), on_slab,
                             &pool, err);
    }
    pool_done(&pool);
    return code;
}
