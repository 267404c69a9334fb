/* Plans: which host sends which boxes to whom, so that every rank of the
 * target layout has its bytes.
 *
 * A problem is (table, target layout, allocation, holdings).  Every host
 * computes its own part alone from the same problem and gets the same answer
 * as anyone else would: integers and total orders only.
 *
 * For one host: needed is the union of the target boxes of its ranks; what
 * its own holdings have is kept; each other byte is fetched once, from the
 * holder that a fixed rule chooses (all holders of a cell in turn, by a mix
 * of target host and tensor, so that replicas share the load).  So
 * bytes moved = sum over hosts of |needed - held|, the lower bound.
 *
 * Cost is linear in the pieces, of which there is a limit: 2^23 of one tensor on
 * one host, 2^26 moves in a plan.  Pure.
 * Source: Tenplex, algorithm 1 (split, move, merge); the per-host form, the
 * bound per host and the choice of holders are our own. */
#ifndef PTC_PLAN_H
#define PTC_PLAN_H

#include <stdint.h>

#include "base/hash.h"
#include "ptc/layout.h"

#define PTC_PLAN_MAX_MOVES (1u << 26)

/* What one host has: ranks of a layout, or one explicit box. */
struct ptc_holding {
    uint32_t host;
    const struct ptc_layout *layout; /* NULL: an explicit box; else borrowed,
                                        over the problem's table */
    const ptc_rank *ranks;           /* ascending, borrowed */
    uint32_t n_ranks;
    uint32_t tensor;    /* of an explicit box */
    struct ptc_box box; /* of a sub-byte dtype: its runs are whole bytes */
};

struct ptc_problem {
    const struct ptc_table *table;
    const struct ptc_layout *to;
    uint32_t n_hosts;          /* hosts are 0 .. n_hosts - 1, old and new */
    const uint32_t *rank_host; /* of each rank of @to: the allocation */
    const struct ptc_holding *holdings;
    uint32_t n_holdings;
};

/* Fill @ret_host (n_ranks entries) so that ranks lie on hosts 0 .. n_hosts-1 in
 * equal consecutive blocks (torch.chunk's rule when they do not divide). */
void ptc_ranks_in_blocks(uint32_t n_ranks,
                         uint32_t n_hosts,
                         uint32_t *ret_host);

/* The problem's digest: what hosts agree on before anything starts. */
enum base_code ptc_problem_digest(const struct ptc_problem *problem,
                                  struct base_digest *ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* A problem made ready: per layout, which host holds which rank.  Borrows. */
struct ptc_planner;
void ptc_planner_free(struct ptc_planner *planner);
BASE_AUTO_DEFINE(ptc_planner);
/* Errors: BASE_BAD_ARG (a host, rank or box out of range, another table) */
enum base_code ptc_planner_create(const struct ptc_problem *problem,
                                  struct ptc_planner **ret,
                                  struct base_err *err) BASE_MUST_CHECK;

struct ptc_move {
    uint32_t tensor;    /* never a tie: its root */
    uint32_t from;      /* host */
    uint32_t to;        /* host; from == to: kept, nothing moves */
    ptc_rank from_rank; /* of the holding's layout; PTC_NONE: explicit box */
    uint32_t holding;   /* index into the problem's holdings */
    struct ptc_box box;
};

struct ptc_plan;
void ptc_plan_free(struct ptc_plan *plan);
BASE_AUTO_DEFINE(ptc_plan);

/* What @host keeps and receives.  Adds to *plan when it is not NULL (several
 * hosts in one plan, ascending), else makes it.  Moves are ordered by (to,
 * tensor, box.begin).  A move may span boxes of several target ranks of its
 * host, and several of the ranges that @from_rank has.
 * Errors: BASE_BAD_ARG (no such host, or not after the last one planned)
 *         BASE_NOT_FOUND  nobody holds a byte that is needed: names tensor,
 *         box and host.
 *         BASE_LIMIT      more pieces or moves than the limits above: names
 *         tensor and host (*plan is then unusable, as after BASE_NO_MEM) */
enum base_code ptc_planner_host(const struct ptc_planner *planner,
                                uint32_t host,
                                struct ptc_plan **plan,
                                struct base_err *err) BASE_MUST_CHECK;

uint64_t ptc_plan_n_moves(const struct ptc_plan *plan);
void ptc_plan_move(const struct ptc_plan *plan,
                   uint64_t idx,
                   struct ptc_move *ret);

/* A plan of these moves as they are, unchecked: one that came from elsewhere.
 * *ret is given. */
enum base_code ptc_plan_of_moves(const struct ptc_move *moves,
                                 uint64_t n,
                                 struct ptc_plan **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Sums over the hosts that a plan was made for, in bytes; arrays have one entry
 * per host.  sent is what those hosts receive from each. */
struct ptc_plan_totals {
    uint64_t needed_bytes; /* by all hosts, pieces shared on a host once */
    uint64_t kept_bytes;
    uint64_t moved_bytes;
    uint64_t bound_bytes; /* computed from coverage alone, not from the moves */
    uint64_t *received;   /* n_hosts each, given by the caller, or NULL */
    uint64_t *sent;
    uint64_t *needed;
    uint64_t *held; /* all that a host's holdings have */
    uint64_t *bound;
};
/* Errors: BASE_LIMIT (needed_bytes would be 2^63 or more), BASE_NO_MEM */
enum base_code ptc_plan_sum(const struct ptc_planner *planner,
                            const struct ptc_plan *plan,
                            struct ptc_plan_totals *totals,
                            struct base_err *err) BASE_MUST_CHECK;

/* Check a plan for hosts [begin, end) with code of its own (ptc/plan_check.c
 * shares nothing with the planner but the layout's boxes): every needed byte
 * exactly once, in bounds, from a host that holds it, and from another host
 * only what the host has not itself.
 * Errors: BASE_MISMATCH, naming host, tensor and box; BASE_BAD_ARG (a host of
 * the problem out of range), BASE_NO_MEM */
enum base_code ptc_plan_check(const struct ptc_problem *problem,
                              const struct ptc_plan *plan,
                              uint32_t host_begin,
                              uint32_t host_end,
                              struct base_err *err) BASE_MUST_CHECK;

#endif
