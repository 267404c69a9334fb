/* What a copy and a comparison have in common: slab by slab, the pieces of one
 * side are read, and each stretch of the other side is met with them.
 *
 * What `want` needs of `have` is read into a buffer (each byte once); `want` is
 * visited stretch by stretch, each with the pairs of boxes that fill it. */
#ifndef STORE_PAIRS_H
#define STORE_PAIRS_H

#include "store/copy.h"
#include "store/image.h"
#include "store/strided.h"

/* One box that both sides have. */
struct store_pair {
    uint32_t tensor; /* of want */
    struct ptc_box box;
    struct store_strided runs; /* a: have, b: want */
    uint64_t have_at;          /* in the buffer of have */
    uint64_t want_at;          /* in the stretch */
    uint32_t have_blob;
};

struct store_pairs {
    const struct store_image *want;
    const struct store_stretch *stretch;
    const unsigned char *have; /* the buffer */
    unsigned char *scratch;    /* as long as the stretch */
    const struct store_pair *items;
    size_t n;
    uint64_t n_bytes; /* of all pairs */
};

/* Called for each stretch, in any thread. */
typedef enum base_code (*store_pairs_fn)(void *ctx,
                                         const struct store_pairs *pairs,
                                         struct base_err *err);

struct store_pairs_job {
    const struct store_source *have;
    const struct ptc_pieces *have_pieces;
    const struct ptc_pieces *want_pieces;
    const struct ptc_table *want_table;
    const uint32_t *tensor_map; /* from want's tensors to have's; NULL: same;
                                   PTC_NONE entries are not visited */
    const struct store_copy_options *options;
    bool is_convert; /* passes the fault point convert.block */
    store_pairs_fn fn;
    void *ctx;
};

/* Visit everything.  Errors: fn's; BASE_INTERRUPTED (progress said so),
 * BASE_LIMIT (memory_bytes too small), BASE_NO_MEM, those of reading */
enum base_code store_pairs_run(const struct store_pairs_job *job,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
