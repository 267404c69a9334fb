/* The planner's insides, for ptc/planner*.c, ptc/plan.c and nobody else: a
 * problem made ready, and the questions that a plan is made of. */
#ifndef PTC_PLANNER_H
#define PTC_PLANNER_H

#include "ptc/boxes.h"
#include "ptc/plan.h"

/* Who holds a rank: one host, through one holding. */
struct ptc_holder {
    uint32_t host;
    uint32_t holding;
};

/* What a host holds: one rank, through one holding. */
struct ptc_own {
    ptc_rank rank;
    uint32_t holding;
};

/* All holdings of one layout. */
struct ptc_origin {
    const struct ptc_layout *layout;
    uint32_t *rank_at; /* n_ranks + 1: holders of rank r begin at rank_at[r] */
    struct ptc_holder *holders; /* of a rank: ascending by holding */
    uint32_t *host_at;          /* n_hosts + 1: likewise into owned */
    struct ptc_own *owned;      /* of a host: ascending by rank, then holding */
};

/* An explicit box, under its root. */
struct ptc_explicit {
    uint32_t tensor;
    uint32_t host;
    uint32_t holding;
};

struct ptc_planner {
    struct ptc_problem problem; /* what it points at is borrowed */
    uint32_t *to_at;            /* n_hosts + 1: into to_ranks */
    ptc_rank *to_ranks;         /* of a host: ascending */
    uint32_t n_origins;
    struct ptc_origin *origins; /* in order of their first holding */
    uint32_t n_explicits;
    struct ptc_explicit *explicits; /* by tensor, host, holding */
    uint32_t *explicit_at;          /* n_hosts + 1: into explicit_roots */
    uint32_t *explicit_roots;       /* of a host's boxes, ascending */
    uint32_t n_families;            /* tensors that others are tied to */
    uint32_t *family_at;            /* n_families + 1: into family_names */
    uint32_t *family_names;         /* of each: the root, then its ties */
};

/* Every name under which @root's bytes appear: itself first, then its ties. */
const uint32_t *ptc_planner_names(const struct ptc_planner *planner,
                                  const uint32_t *root,
                                  uint32_t *ret_n);

/* The explicit boxes of @root: [*ret_begin, *ret_end) of planner->explicits,
 * of one host or (PTC_NONE) of all. */
void ptc_planner_explicits(const struct ptc_planner *planner,
                           uint32_t root,
                           uint32_t host,
                           uint32_t *ret_begin,
                           uint32_t *ret_end);

/* What the target ranks of @host need of @root, as a union (ptc_boxes_union).
 */
enum base_code ptc_planner_needed(const struct ptc_planner *planner,
                                  uint32_t host,
                                  uint32_t root,
                                  struct ptc_boxes *ret,
                                  struct ptc_boxes *scratch,
                                  struct base_err *err) BASE_MUST_CHECK;

/* What @host has of @root: its shards under each origin, explicit boxes last;
 * tagged, unique, not disjoint. */
enum base_code ptc_planner_held(const struct ptc_planner *planner,
                                uint32_t host,
                                uint32_t root,
                                struct ptc_boxes *ret,
                                struct base_err *err) BASE_MUST_CHECK;

/* Set the bits (ptc_layout_tensors; of roots) of what the target ranks of @host
 * need, or of what it holds; perhaps of more. */
void ptc_planner_needed_bits(const struct ptc_planner *planner,
                             uint32_t host,
                             uint64_t *bits);
void ptc_planner_held_bits(const struct ptc_planner *planner,
                           uint32_t host,
                           uint64_t *bits);

enum base_code ptc_planner_no_mem(struct base_err *err);
/* Why lists of boxes of @root on @host could not grow: there are at least
 * @n_pieces, or, when that is no more than PTC_BOXES_MAX, memory is short. */
enum base_code ptc_planner_no_room(const struct ptc_planner *planner,
                                   uint32_t host,
                                   uint32_t root,
                                   uint64_t n_pieces,
                                   struct base_err *err);

#endif
