/* What a target is made of: for trees, not for callers of store/target.h. */
#ifndef STORE_TARGET_PRIV_H
#define STORE_TARGET_PRIV_H

#include "store/problems.h"
#include "store/target.h"

/* An object that a rank shows. */
struct store_rank_object {
    ptc_rank rank;   /* of the target */
    uint32_t object; /* of the source, as store_source_object_at counts */
};

struct store_target {
    const struct store_source *source;
    struct ptc_table *own_table;   /* NULL: the source's */
    struct ptc_pieces *own_pieces; /* over own_table; NULL: the source's */
    struct ptc_layout *layout;
    bool is_whole; /* what `hf` means: no rank has a directory */
    BASE_VEC(struct store_rank_object) rank_objects; /* by rank, then name */
    BASE_VEC(char *) dropped;
};

/* Compare what @target's table ties (own_table and own_pieces are made) with
 * what it is tied to, wherever the source has other bytes for it of which
 * nobody said that they are equal.  @problems (may be NULL) gets each tensor
 * that differs; else the first ends it.
 * Errors: BASE_MISMATCH; BASE_CHANGED; those of reading */
enum base_code store_target_check_ties(const struct store_target *target,
                                       struct store_problems *problems,
                                       struct base_err *err) BASE_MUST_CHECK;

#endif
