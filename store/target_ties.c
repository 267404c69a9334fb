/* Tensors that are tied now, yet have bytes of their own in the source: those
 * that the target's spec ties, and those that the source's spec ties without a
 * word of it in the files.  All are compared in one pass; which of them differ
 * is found by halving, only once it is known that one does. */
#include <stdlib.h>

#include "ptc/pieces.h"
#include "store/copy.h"
#include "store/source_priv.h"
#include "store/target_priv.h"

/* In order of tensor, an index of the source's table. */
struct ties {
    const struct store_target *target;
    struct store_problems *problems; /* NULL: the first ends it */
    uint64_t n_told;
    BASE_VEC(struct store_tied) items;
};

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for ties");
}

static uint32_t root_of(const struct store_target *target, uint32_t tensor)
{
    const struct ptc_table *table = store_target_table(target);
    const struct ptc_tensor *t =
        ptc_table_tensor(store_source_table(target->source), tensor);

    return ptc_table_root(table, ptc_table_find(table, t->name));
}

static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct ties *ties = ctx;
    struct store_tied tied = {.tensor = tensor, .piece = *piece};

    return base_vec_push(&ties->items, tied) ? BASE_OK : no_mem(err);
}

/* Tensors that had bytes of their own and are ties from now on. */
static enum base_code add_new(struct ties *ties, struct base_err *err)
{
    const struct store_source *source = ties->target->source;
    const struct ptc_table *had = store_source_table(source);
    const struct ptc_table *now = store_target_table(ties->target);

    for (uint32_t i = 0; now != had && i < ptc_table_n_tensors(had); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(had, i);
        struct ptc_box whole = ptc_box_whole(t->n_dims, t->shape);
        uint32_t idx = ptc_table_find(now, t->name);

        if (t->tie == PTC_NONE && ptc_table_root(now, idx) != idx) {
            BASE_TRY(ptc_pieces_find(store_source_pieces(source), i, &whole,
                                     on_piece, ties, err));
        }
    }
    return BASE_OK;
}

static int tied_cmp(const void *va, const void *vb)
{
    const struct store_tied *a = va;
    const struct store_tied *b = vb;

    return (a->tensor > b->tensor) - (a->tensor < b->tensor);
}

/* Compare items [begin, end) with the bytes they are tied to. */
static enum base_code
compare(const struct ties *ties, size_t begin, size_t end, struct base_err *err)
{
    const struct store_target *target = ties->target;
    const struct store_copy_options options = {0};
    BASE_AUTO(ptc_pieces)
    own = ptc_pieces_create(store_target_table(target));

    if (own == NULL) {
        return no_mem(err);
    }
    for (size_t i = begin; i < end; i++) {
        const struct store_tied *tied = &ties->items.items[i];

        BASE_TRY(ptc_pieces_add(own, root_of(target, tied->tensor),
                                &tied->piece, err));
    }
    BASE_TRY(ptc_pieces_seal(own, err));
    return store_compare(target->source, own, target->source,
                         store_target_pieces(target), NULL, &options, err);
}

/* The first item of the tensor that item @at is of. */
static size_t tensor_begin(const struct ties *ties, size_t begin, size_t at)
{
    while (at > begin &&
           ties->items.items[at - 1].tensor == ties->items.items[at].tensor) {
        at--;
    }
    return at;
}

/* Where [begin, end), of several tensors, is halved: between two of them. */
static size_t middle_of(const struct ties *ties, size_t begin, size_t end)
{
    const struct store_tied *items = ties->items.items;
    size_t middle = tensor_begin(ties, begin, begin + (end - begin) / 2);

    if (middle == begin) { /* its first tensor has more than half */
        while (items[middle].tensor == items[begin].tensor) {
            middle++;
        }
    }
    return middle;
}

/* Tensor @tied, which was compared, differs: *err says where. */
static enum base_code
tell_one(struct ties *ties, uint32_t tied, struct base_err *err)
{
    const struct store_target *target = ties->target;
    enum base_code code = base_wrap(
        err, BASE_MISMATCH, "tensor %.*s cannot be tied to %.*s",
        BASE_STR_FMT(
            ptc_table_tensor(store_source_table(target->source), tied)->name),
        BASE_STR_FMT(
            ptc_table_tensor(store_target_table(target), root_of(target, tied))
                ->name));

    ties->n_told++;
    return store_problems_take(ties->problems, code, err);
}

/* Compare [begin, end), whole tensors, and tell each that differs. */
static enum base_code
check_some(struct ties *ties, size_t begin, size_t end, struct base_err *err)
{
    const struct store_tied *items = ties->items.items;
    uint64_t n_told = ties->n_told;
    enum base_code code;
    size_t middle;

    if (n_told >= STORE_PROBLEMS_MAX_TOLD) {
        return BASE_OK; /* enough is known */
    }
    code = compare(ties, begin, end, err);
    if (code != BASE_MISMATCH) {
        return code;
    }
    if (items[begin].tensor == items[end - 1].tensor) {
        return tell_one(ties, items[begin].tensor, err);
    }
    middle = middle_of(ties, begin, end);
    BASE_TRY(check_some(ties, begin, middle, err));
    BASE_TRY(check_some(ties, middle, end, err));
    if (ties->n_told == n_told) {
        return base_fail(err, BASE_CHANGED,
                         "%s: changes while its ties are compared",
                         store_source_path(ties->target->source));
    }
    return BASE_OK;
}

static enum base_code check(struct ties *ties, struct base_err *err)
{
    const struct store_source *source = ties->target->source;

    for (size_t i = 0; i < source->tied.n; i++) {
        if (!base_vec_push(&ties->items, source->tied.items[i])) {
            return no_mem(err);
        }
    }
    BASE_TRY(add_new(ties, err));
    if (ties->items.n == 0) {
        return BASE_OK;
    }
    qsort(ties->items.items, ties->items.n, sizeof(*ties->items.items),
          tied_cmp);
    return check_some(ties, 0, ties->items.n, err);
}

enum base_code store_target_check_ties(const struct store_target *target,
                                       struct store_problems *problems,
                                       struct base_err *err)
{
    struct ties ties = {.target = target, .problems = problems};
    enum base_code code = check(&ties, err);

    base_vec_done(&ties.items);
    return code;
}
