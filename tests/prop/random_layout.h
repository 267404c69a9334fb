/* Random problems for property tests: one table and a few specs over it, as
 * YAML text, all of them valid.  They use the whole language: up to 5 axes and
 * 4 dimensions, uneven cuts, segments, units with repeats, cut points, several
 * axes per dimension in any order, stages, experts, several meshes, flats
 * (padded, in buckets, per layer), replicas, ties, sub-byte dtypes and
 * optimizer states.
 *
 * A problem is a pure function of its seed.  Tables are small (a few thousand
 * elements), so that a test may look at every element on every rank. */
#ifndef TESTS_PROP_RANDOM_LAYOUT_H
#define TESTS_PROP_RANDOM_LAYOUT_H

#include <stdint.h>

#include "ptc/layout.h"
#include "ptc/table.h"

#define RANDOM_N_SPECS 3

struct random_problem {
    uint64_t seed;
    struct ptc_table *table;     /* with the ties that the specs declare */
    char *specs[RANDOM_N_SPECS]; /* YAML, NUL-terminated */
};

/* Make the problem of @seed.  Free with random_problem_done.
 * Errors: BASE_NO_MEM, and whatever the table says (a bug of ours) */
enum base_code random_problem(uint64_t seed, struct random_problem *ret);
void random_problem_done(struct random_problem *problem);

/* Parse spec @idx and bind it to the table.  *ret is given. */
enum base_code random_problem_bind(const struct random_problem *problem,
                                   unsigned idx,
                                   struct ptc_layout **ret,
                                   struct base_err *err) BASE_MUST_CHECK;

/* A number below @n (n >= 1), for tests that need more of the same luck. */
uint64_t random_below(uint64_t *state, uint64_t n);

/* A seed of case @idx: RETILE_SEED when it is set (then only that one case
 * should run), else a fixed sequence. */
uint64_t random_seed(uint64_t idx);
/* How many cases to run: 1 when RETILE_SEED is set, else RETILE_CASES, else
 * @preset. */
uint64_t random_n_cases(uint64_t preset);

#endif
