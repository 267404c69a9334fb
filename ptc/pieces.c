/* Pieces: boxes of tensors and where their bytes are.
 *
 * A piece is stored as a record of 64-bit words, 3 * n_dims + 2 of them (begin,
 * end, stride per dimension; offset; blob), because a struct ptc_piece has room
 * for PTC_MAX_DIMS and most tensors have one or two.  After sealing, the
 * records of one tensor stand together, sorted by (begin in C order, blob).
 *
 * Above the records of a tensor with many pieces stands a packed tree: level k
 * has one bounding box for each FANOUT neighbours of level k - 1.  Since C order
 * keeps neighbours together, a search goes down only where results are. */
#include "ptc/pieces_impl.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"

#define MAX_PIECES (1u << 28)
#define FANOUT     16u
#define MAX_LEVELS 8u /* FANOUT^8 > MAX_PIECES */

struct ptc_pieces *ptc_pieces_create(const struct ptc_table *table)
{
    struct ptc_pieces *pieces = calloc(1, sizeof(*pieces));

    if (pieces != NULL) {
        pieces->table = table;
    }
    return pieces;
}

void ptc_pieces_free(struct ptc_pieces *pieces)
{
    if (pieces == NULL) {
        return;
    }
    base_vec_done(&pieces->words);
    base_vec_done(&pieces->added);
    base_vec_done(&pieces->tree);
    free(pieces->first);
    free(pieces->tree_at);
    free(pieces);
}

const struct ptc_table *ptc_pieces_table(const struct ptc_pieces *pieces)
{
    return pieces->table;
}

uint64_t ptc_pieces_n(const struct ptc_pieces *pieces)
{
    return pieces->n;
}

static void
record_read(const uint64_t *words, uint32_t n_dims, struct ptc_piece *ret)
{
    ret->box.n_dims = n_dims;
    for (uint32_t d = 0; d < n_dims; d++) {
        ret->box.begin[d] = words[d];
        ret->box.end[d] = words[n_dims + d];
        ret->stride[d] = words[2 * n_dims + d];
    }
    ret->offset = words[3 * n_dims];
    ret->blob = (uint32_t)words[3 * n_dims + 1];
}

/* A box that lies in the tensor, and bytes whose offsets are numbers. */
static enum base_code piece_validate(const struct ptc_tensor *tensor,
                                     const struct ptc_piece *piece,
                                     struct base_err *err)
{
    char text[PTC_BOX_TEXT_BYTES];
    uint64_t last = piece->offset;
    bool is_good = piece->box.n_dims == tensor->n_dims;

    for (uint32_t d = 0; is_good && d < tensor->n_dims; d++) {
        uint64_t step = 0;

        is_good = piece->box.end[d] <= tensor->shape[d] &&
                  base_mul_u64(piece->box.end[d] - 1 - piece->box.begin[d],
                               piece->stride[d], &step) &&
                  base_add_u64(last, step, &last);
    }
    if (!is_good) {
        return base_fail(err, BASE_BAD_ARG, "tensor %.*s: %s is no piece of it",
                         BASE_STR_FMT(tensor->name),
                         ptc_box_format(&piece->box, text));
    }
    return BASE_OK;
}

enum base_code ptc_pieces_add(struct ptc_pieces *pieces,
                              uint32_t tensor,
                              const struct ptc_piece *piece,
                              struct base_err *err)
{
    const struct ptc_tensor *info = ptc_table_tensor(pieces->table, tensor);
    struct ptc_added added = {.at = pieces->words.n, .tensor = tensor};
    uint32_t n_dims = piece->box.n_dims;
    uint64_t *words;

    assert(!pieces->is_sealed);
    if (info->tie != PTC_NONE) {
        return base_fail(err, BASE_BAD_ARG,
                         "tensor %.*s is a tie and has no pieces",
                         BASE_STR_FMT(info->name));
    }
    if (n_dims <= PTC_MAX_DIMS && ptc_box_is_empty(&piece->box)) {
        return BASE_OK;
    }
    BASE_TRY(piece_validate(info, piece, err));
    if (pieces->added.n >= MAX_PIECES) {
        return base_fail(err, BASE_LIMIT, "more than %u pieces of tensors",
                         MAX_PIECES);
    }
    if (!base_vec_reserve(&pieces->words,
                          pieces->words.n + ptc_record_words(n_dims)) ||
        !base_vec_push(&pieces->added, added)) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate pieces");
    }
    words = pieces->words.items + pieces->words.n;
    for (uint32_t d = 0; d < n_dims; d++) {
        words[d] = piece->box.begin[d];
        words[n_dims + d] = piece->box.end[d];
        words[2 * n_dims + d] = piece->stride[d];
    }
    words[3 * n_dims] = piece->offset;
    words[3 * n_dims + 1] = piece->blob;
    pieces->words.n += ptc_record_words(n_dims);
    return BASE_OK;
}

/* qsort_r: two records of @n_dims (begin first, blob last). */
static int record_cmp(const void *a, const void *b, void *ctx)
{
    const uint64_t *x = a;
    const uint64_t *y = b;
    uint32_t n_dims = *(const uint32_t *)ctx;

    for (uint32_t d = 0; d < n_dims; d++) {
        if (x[d] != y[d]) {
            return x[d] < y[d] ? -1 : 1;
        }
    }
    for (uint32_t w = ptc_record_words(n_dims); w-- > n_dims;) {
        if (x[w] != y[w]) {
            return x[w] < y[w] ? -1 : 1;
        }
    }
    return 0;
}

/* Put the records of each tensor together (a counting sort), and in order. */
static enum base_code records_sort(struct ptc_pieces *pieces,
                                   struct base_err *err)
{
    uint32_t n_tensors = ptc_table_n_tensors(pieces->table);
    BASE_AUTO_MEM uint64_t *first =
        calloc((size_t)n_tensors + 2, sizeof(*first));
    BASE_AUTO_MEM uint64_t *sorted =
        calloc(pieces->words.n + 1, sizeof(*sorted));
    uint64_t *fill;

    if (first == NULL || sorted == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate pieces");
    }
    /* fill[t] is where tensor t's next record goes; when all are placed, it is
     * where t ends, which is where t + 1 begins. */
    fill = first + 1;
    for (size_t i = 0; i < pieces->added.n; i++) {
        uint32_t t = pieces->added.items[i].tensor;

        fill[t + 1] +=
            ptc_record_words(ptc_table_tensor(pieces->table, t)->n_dims);
    }
    for (uint32_t t = 0; t < n_tensors; t++) {
        fill[t + 1] += fill[t];
    }
    for (size_t i = 0; i < pieces->added.n; i++) {
        const struct ptc_added *added = &pieces->added.items[i];
        uint32_t n_words = ptc_record_words(
            ptc_table_tensor(pieces->table, added->tensor)->n_dims);

        memcpy(sorted + fill[added->tensor], pieces->words.items + added->at,
               n_words * sizeof(*sorted));
        fill[added->tensor] += n_words;
    }
    memcpy(pieces->words.items == NULL ? sorted : pieces->words.items, sorted,
           pieces->words.n * sizeof(*sorted));
    pieces->first = base_steal(&first);
    for (uint32_t t = 0; t < n_tensors; t++) {
        uint64_t begin = pieces->first[t];
        uint32_t n_dims = ptc_table_tensor(pieces->table, t)->n_dims;
        size_t n = (pieces->first[t + 1] - begin) / ptc_record_words(n_dims);

        if (n > 1) {
            qsort_r(pieces->words.items + begin, n,
                    ptc_record_words(n_dims) * sizeof(uint64_t), record_cmp,
                    &n_dims);
        }
    }
    return BASE_OK;
}

/* Append one level: a bounding box for each FANOUT of the @n boxes at @below,
 * which lie @n_words apart. */
static bool tree_add_level(struct ptc_pieces *pieces,
                           bool is_of_records,
                           uint64_t below,
                           uint64_t n,
                           uint32_t n_words,
                           uint32_t n_dims)
{
    uint64_t n_above = base_ceil_div(n, FANOUT);
    size_t need = pieces->tree.n + n_above * 2 * n_dims;

    /* One more: a level of scalars has no words, but a place. */
    if (!base_vec_reserve(&pieces->tree, need + 1)) {
        return false;
    }
    for (uint64_t i = 0; i < n_above; i++) {
        const uint64_t *from =
            (is_of_records ? pieces->words.items : pieces->tree.items) + below;
        uint64_t *to = pieces->tree.items + pieces->tree.n;

        memcpy(to, from + i * FANOUT * n_words, 2 * n_dims * sizeof(*to));
        for (uint64_t k = i * FANOUT + 1; k < n && k < (i + 1) * FANOUT; k++) {
            const uint64_t *box = from + k * n_words;

            for (uint32_t d = 0; d < n_dims; d++) {
                to[d] = base_min_u64(to[d], box[d]);
                to[n_dims + d] = base_max_u64(to[n_dims + d], box[n_dims + d]);
            }
        }
        pieces->tree.n += 2 * n_dims;
    }
    return true;
}

static enum base_code trees_build(struct ptc_pieces *pieces,
                                  struct base_err *err)
{
    uint32_t n_tensors = ptc_table_n_tensors(pieces->table);

    pieces->tree_at = calloc((size_t)n_tensors + 1, sizeof(*pieces->tree_at));
    if (pieces->tree_at == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate pieces");
    }
    for (uint32_t t = 0; t < n_tensors; t++) {
        struct ptc_records run = ptc_records_of(pieces, t);
        uint64_t below = pieces->first[t];
        uint32_t n_words = run.n_words;
        bool is_of_records = true;

        pieces->tree_at[t] = pieces->tree.n;
        for (uint64_t n = run.n; n > FANOUT; n = base_ceil_div(n, FANOUT)) {
            size_t at = pieces->tree.n;

            if (!tree_add_level(pieces, is_of_records, below, n, n_words,
                                run.n_dims)) {
                return base_fail(err, BASE_NO_MEM, "cannot allocate pieces");
            }
            below = at;
            n_words = 2 * run.n_dims;
            is_of_records = false;
        }
    }
    return BASE_OK;
}

enum base_code ptc_pieces_seal(struct ptc_pieces *pieces, struct base_err *err)
{
    assert(!pieces->is_sealed);
    BASE_TRY(records_sort(pieces, err));
    BASE_TRY(trees_build(pieces, err));
    pieces->n = pieces->added.n;
    base_vec_done(&pieces->added);
    pieces->is_sealed = true;
    return BASE_OK;
}

/* ---- Search ---- */

struct search {
    const struct ptc_tensor *tensor;
    uint32_t tensor_idx;
    struct ptc_records run;
    const uint64_t *levels[MAX_LEVELS + 1]; /* [0]: the records */
    uint64_t level_n[MAX_LEVELS + 1];
    const struct ptc_box *box;
    ptc_piece_fn fn;
    void *ctx;
};

static bool words_meet(const uint64_t *words, const struct ptc_box *box)
{
    for (uint32_t d = 0; d < box->n_dims; d++) {
        if (words[d] >= box->end[d] ||
            words[box->n_dims + d] <= box->begin[d]) {
            return false;
        }
    }
    return true;
}

void ptc_piece_cut(struct ptc_piece *piece,
                   const struct ptc_tensor *tensor,
                   const struct ptc_box *box)
{
    uint64_t delta = 0;

    for (uint32_t d = 0; d < box->n_dims; d++) {
        delta += (box->begin[d] - piece->box.begin[d]) * piece->stride[d];
    }
    piece->offset += ptc_dtype_bits(tensor->dtype) % 8 == 0 ? delta : delta / 8;
    piece->box = *box;
}

static enum base_code search_hit(const struct search *search,
                                 const uint64_t *words,
                                 struct base_err *err)
{
    struct ptc_piece piece;
    struct ptc_box box;

    record_read(words, search->run.n_dims, &piece);
    if (!ptc_box_intersect(&piece.box, search->box, &box)) {
        return BASE_OK;
    }
    if (ptc_dtype_bits(search->tensor->dtype) % 8 != 0) {
        char text[PTC_BOX_TEXT_BYTES];
        uint64_t bits = 0;

        for (uint32_t d = 0; d < box.n_dims; d++) {
            bits += (box.begin[d] - piece.box.begin[d]) * piece.stride[d];
        }
        if (bits % 8 != 0) {
            return base_fail(err, BASE_UNSUPPORTED,
                             "tensor %.*s (%s): %s begins inside a byte",
                             BASE_STR_FMT(search->tensor->name),
                             ptc_dtype_name(search->tensor->dtype),
                             ptc_box_format(&box, text));
        }
    }
    ptc_piece_cut(&piece, search->tensor, &box);
    return search->fn(search->ctx, search->tensor_idx, &piece, err);
}

static enum base_code search_level(const struct search *search,
                                   uint32_t level,
                                   uint64_t begin,
                                   struct base_err *err)
{
    uint64_t end = base_min_u64(begin + FANOUT, search->level_n[level]);
    uint32_t n_words =
        level == 0 ? search->run.n_words : 2 * search->run.n_dims;

    for (uint64_t i = begin; i < end; i++) {
        const uint64_t *words = search->levels[level] + i * n_words;

        if (!words_meet(words, search->box)) {
            continue;
        }
        if (level == 0) {
            BASE_TRY(search_hit(search, words, err));
        } else {
            BASE_TRY(search_level(search, level - 1, i * FANOUT, err));
        }
    }
    return BASE_OK;
}

enum base_code ptc_pieces_find(const struct ptc_pieces *pieces,
                               uint32_t tensor,
                               const struct ptc_box *box,
                               ptc_piece_fn fn,
                               void *ctx,
                               struct base_err *err)
{
    uint32_t root = ptc_table_root(pieces->table, tensor);
    struct search search = {.tensor = ptc_table_tensor(pieces->table, root),
                            .tensor_idx = root,
                            .box = box,
                            .fn = fn,
                            .ctx = ctx};
    uint32_t top = 0;
    uint64_t at;

    assert(pieces->is_sealed && box->n_dims == search.tensor->n_dims);
    search.run = ptc_records_of(pieces, root);
    if (search.run.n == 0) {
        return BASE_OK;
    }
    search.levels[0] = search.run.words;
    search.level_n[0] = search.run.n;
    at = pieces->tree_at[root];
    while (search.level_n[top] > FANOUT) {
        uint64_t n = base_ceil_div(search.level_n[top], FANOUT);

        top++;
        search.levels[top] = pieces->tree.items + at;
        search.level_n[top] = n;
        at += n * 2 * search.run.n_dims;
    }
    return search_level(&search, top, 0, err);
}

enum base_code ptc_pieces_rebind(const struct ptc_pieces *pieces,
                                 const struct ptc_table *table,
                                 struct ptc_pieces **ret,
                                 struct base_err *err)
{
    BASE_AUTO(ptc_pieces) copy = ptc_pieces_create(table);

    assert(pieces->is_sealed);
    if (copy == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate pieces");
    }
    for (uint32_t t = 0; t < ptc_table_n_tensors(pieces->table); t++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(pieces->table, t);
        struct ptc_records run = ptc_records_of(pieces, t);
        uint32_t to = run.n > 0 ? ptc_table_find(table, tensor->name) : 0;

        if (to == PTC_NONE) {
            return base_fail(err, BASE_MISMATCH,
                             "tensor %.*s is not in the other table",
                             BASE_STR_FMT(tensor->name));
        }
        if (run.n == 0 || ptc_table_tensor(table, to)->tie != PTC_NONE) {
            continue;
        }
        for (uint64_t i = 0; i < run.n; i++) {
            struct ptc_piece piece;

            record_read(ptc_record(&run, i), run.n_dims, &piece);
            BASE_TRY(ptc_pieces_add(copy, to, &piece, err));
        }
    }
    BASE_TRY(ptc_pieces_seal(copy, err));
    *ret = base_steal(&copy);
    return BASE_OK;
}
