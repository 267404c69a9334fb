/* Cutting one dimension: which ranges each part has, and who has a range.
 *
 * A dimension of some length is cut by axes in cutting order; part p is the
 * mixed radix number of the coordinates, the first axis slowest.  A part has
 * one range, or one per segment.  The inverse is an array of runs: ranges,
 * sorted, disjoint, together the whole dimension; each with its holders.
 * Several parts hold one run only where units repeat; then they hold all of
 * it.
 *
 * A part is a set of coordinates, and what those coordinates add to a rank
 * number (each times its axis's stride) is the part's `at`.
 *
 * Everything lives in the arena it was made in.  Immutable, pure. */
#ifndef PTC_CUT_H
#define PTC_CUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "ptc/layout.h"

/* An axis as ranks see it: the coordinate is rank / stride % size. */
struct ptc_digit {
    uint32_t size;
    uint32_t stride;
};

static inline uint32_t ptc_digit_of(struct ptc_digit digit, uint32_t rank)
{
    return digit.size == 1 ? 0 : rank / digit.stride % digit.size;
}

/* A range that parts hold. */
struct ptc_cut_run {
    struct ptc_range range; /* never empty */
    uint32_t first;         /* its holders are holders[first ...] */
    uint32_t n_holders;
};

struct ptc_cut {
    uint64_t length;
    uint32_t n_axes;
    struct ptc_digit axes[PTC_MAX_AXES]; /* in cutting order */
    uint32_t n_parts;
    bool is_uniform;         /* all parts have equally many elements */
    const uint32_t *first;   /* part p: ranges[first[p] .. first[p + 1]) */
    const uint64_t *lengths; /* of each part */
    const struct ptc_range *ranges; /* ascending within a part, touching ones
                                       merged; an empty part has one empty
                                       range */
    const uint64_t *starts; /* of each range: where it begins in its part */
    uint32_t n_runs;
    const struct ptc_cut_run *runs;
    const uint32_t *holders; /* `at` of parts, ascending within a run */
};

/* The bounds of a cut: parts times segments. */
#define PTC_CUT_MAX_RANGES (1u << 22)

/* Cut @length as @rule says (NULL: not at all) on @mesh.
 * Errors: BASE_MISMATCH  segments or cuts that do not fit, no multiple of the
 *                        unit, units that the parts are no multiple of (the
 *                        text names neither tensor nor rule)
 *         BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_cut_create(struct base_arena *arena,
                              const struct ptc_mesh *mesh,
                              const struct ptc_dim_rule *rule,
                              uint64_t length,
                              const struct ptc_cut **ret,
                              struct base_err *err) BASE_MUST_CHECK;

/* The digit of axis @axis of @mesh. */
struct ptc_digit ptc_mesh_digit(const struct ptc_mesh *mesh, uint32_t axis);

static inline uint32_t ptc_cut_part(const struct ptc_cut *cut, uint32_t rank)
{
    uint32_t part = 0;

    for (uint32_t i = 0; i < cut->n_axes; i++) {
        part = part * cut->axes[i].size + ptc_digit_of(cut->axes[i], rank);
    }
    return part;
}

/* The run that has position @at (< length). */
uint32_t ptc_cut_run_at(const struct ptc_cut *cut, uint64_t at);

/* How many elements of part @part stand before position @at: where @at lies in
 * the part, if the part has it. */
uint64_t ptc_cut_local(const struct ptc_cut *cut, uint32_t part, uint64_t at);

/* Which range of part @part has its element @local: an index from first[part]
 * on.  Past the part's elements: its last. */
uint32_t
ptc_cut_range_at(const struct ptc_cut *cut, uint32_t part, uint64_t local);

/* torch.chunk's rule: chunk @idx of @length things in @n chunks. */
struct ptc_range ptc_chunk(uint64_t length, uint32_t n, uint32_t idx);

#endif
