/* How pieces are stored: for ptc/pieces.c, ptc/pieces_check.c and the manifest,
 * which has the same records, only. */
#ifndef PTC_PIECES_IMPL_H
#define PTC_PIECES_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "ptc/pieces.h"

struct ptc_added {
    uint64_t at; /* first word of the record */
    uint32_t tensor;
};

struct ptc_pieces {
    const struct ptc_table *table;
    BASE_VEC(uint64_t) words; /* the records */
    BASE_VEC(struct ptc_added)
    added;                   /* in order of adding; empty when sealed */
    BASE_VEC(uint64_t) tree; /* levels of all tensors that have one */
    uint64_t *first;         /* per tensor (and one more): its first word */
    uint64_t *tree_at;       /* per tensor: its level 1 in `tree` */
    uint64_t n;
    bool is_sealed;
};

/* The pieces of one tensor. */
struct ptc_records {
    const uint64_t *words;
    uint64_t n;
    uint32_t n_dims;
    uint32_t n_words; /* of a record */
};

static inline uint32_t ptc_record_words(uint32_t n_dims)
{
    return 3 * n_dims + 2;
}

static inline const uint64_t *ptc_record(const struct ptc_records *run,
                                         uint64_t idx)
{
    return run->words + idx * run->n_words;
}

static inline struct ptc_records ptc_records_of(const struct ptc_pieces *pieces,
                                                uint32_t tensor)
{
    uint32_t n_dims = ptc_table_tensor(pieces->table, tensor)->n_dims;
    struct ptc_records run = {.n_dims = n_dims,
                              .n_words = ptc_record_words(n_dims)};
    uint64_t begin = pieces->first[tensor];

    run.n = (pieces->first[tensor + 1] - begin) / run.n_words;
    run.words = run.n > 0 ? pieces->words.items + begin : NULL;
    return run;
}

#endif
