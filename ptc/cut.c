/* Cutting one dimension.
 *
 * Each segment is counted in units and split by each axis in turn: by
 * torch.chunk's rule, or, where an axis has more parts than there are units
 * and the rule writes `unit`, so that units repeat.  At every step two parts
 * have either the same units or none in common, so equal ranges, sorted, stand
 * side by side: that is the run and its holders.
 *
 * Nothing here overflows: the parts of a dimension lie within it. */
#include "ptc/cut.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"

/* A range of one part, before sorting. */
struct entry {
    struct ptc_range range;
    uint32_t at; /* of the part */
};

struct ptc_range ptc_chunk(uint64_t length, uint32_t n, uint32_t idx)
{
    uint64_t size = base_ceil_div(length, n);
    struct ptc_range range;

    /* size * idx < length + n, which fits */
    range.begin = base_min_u64(size * idx, length);
    range.end = base_min_u64(range.begin + size, length);
    return range;
}

struct ptc_digit ptc_mesh_digit(const struct ptc_mesh *mesh, uint32_t axis)
{
    struct ptc_digit digit = {.size = mesh->axes[axis].size, .stride = 1};

    for (uint32_t i = axis + 1; i < mesh->n_axes; i++) {
        digit.stride *= mesh->axes[i].size;
    }
    return digit;
}

uint32_t ptc_cut_run_at(const struct ptc_cut *cut, uint64_t at)
{
    uint32_t low = 0;
    uint32_t high = cut->n_runs;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (cut->runs[middle].range.begin <= at) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

uint64_t ptc_cut_local(const struct ptc_cut *cut, uint32_t part, uint64_t at)
{
    uint32_t low = cut->first[part];
    uint32_t high = cut->first[part + 1];
    const struct ptc_range *range;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (cut->ranges[middle].begin <= at) {
            low = middle;
        } else {
            high = middle;
        }
    }
    range = &cut->ranges[low];
    return cut->starts[low] +
           (at <= range->begin ? 0
                               : base_min_u64(at, range->end) - range->begin);
}

uint32_t
ptc_cut_range_at(const struct ptc_cut *cut, uint32_t part, uint64_t local)
{
    uint32_t low = cut->first[part];
    uint32_t high = cut->first[part + 1];

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;

        if (cut->starts[middle] <= local) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low - cut->first[part];
}

/* Split the units [*begin, *end) by one axis. */
static enum base_code units_split(const struct ptc_dim_rule *rule,
                                  uint32_t n,
                                  uint32_t idx,
                                  struct ptc_range *units,
                                  struct base_err *err)
{
    uint64_t n_units = units->end - units->begin;
    struct ptc_range range;

    if (rule->unit > 1 && n_units > 0 && n > n_units) {
        if (n % n_units != 0) {
            return base_fail(err, BASE_MISMATCH,
                             "%" PRIu64 " units of %" PRIu64
                             " cannot repeat evenly over %" PRIu32 " parts",
                             n_units, rule->unit, n);
        }
        units->begin += idx / (n / (uint32_t)n_units);
        units->end = units->begin + 1;
        return BASE_OK;
    }
    range = ptc_chunk(n_units, n, idx);
    units->end = units->begin + range.end;
    units->begin += range.begin;
    return BASE_OK;
}

/* The range of part @part in the segment [begin, begin + length). */
static enum base_code segment_split(const struct ptc_cut *cut,
                                    const struct ptc_dim_rule *rule,
                                    uint32_t part,
                                    uint64_t begin,
                                    uint64_t length,
                                    struct ptc_range *ret,
                                    struct base_err *err)
{
    uint64_t unit = rule->unit > 1 ? rule->unit : 1;
    struct ptc_range units = {0, length / unit};
    uint32_t divisor = cut->n_parts;

    for (uint32_t i = 0; i < cut->n_axes; i++) {
        uint32_t size = cut->axes[i].size;

        divisor /= size;
        BASE_TRY(units_split(rule, size, part / divisor % size, &units, err));
    }
    ret->begin = begin + units.begin * unit;
    ret->end = begin + units.end * unit;
    return BASE_OK;
}

/* Check segments, unit and cuts against the length. */
static enum base_code rule_check(const struct ptc_cut *cut,
                                 const struct ptc_dim_rule *rule,
                                 struct base_err *err)
{
    uint64_t sum = 0;
    uint64_t last = 0;

    for (uint32_t i = 0; i < rule->n_segments; i++) {
        if (!base_add_u64(sum, rule->segments[i], &sum)) {
            sum = UINT64_MAX;
            break;
        }
    }
    if (rule->n_segments > 0 && sum != cut->length) {
        return base_fail(err, BASE_MISMATCH,
                         "segments of %" PRIu64
                         " in all, but the size is %" PRIu64,
                         sum, cut->length);
    }
    for (uint32_t i = 0; rule->unit > 1 && i < rule->n_segments; i++) {
        if (rule->segments[i] % rule->unit != 0) {
            return base_fail(err, BASE_MISMATCH,
                             "segment %" PRIu64
                             " is no multiple of the unit %" PRIu64,
                             rule->segments[i], rule->unit);
        }
    }
    if (rule->unit > 1 && cut->length % rule->unit != 0) {
        return base_fail(err, BASE_MISMATCH,
                         "the size %" PRIu64
                         " is no multiple of the unit %" PRIu64,
                         cut->length, rule->unit);
    }
    if (rule->n_cuts > 0 &&
        (rule->n_cuts + 1 != cut->n_parts || rule->n_axes != 1 ||
         rule->n_segments > 0 || rule->unit > 1)) {
        return base_fail(err, BASE_MISMATCH,
                         "%" PRIu32 " cut points do not make %" PRIu32 " parts",
                         rule->n_cuts, cut->n_parts);
    }
    for (uint32_t i = 0; i < rule->n_cuts; i++) {
        if (rule->cuts[i] < last || rule->cuts[i] > cut->length) {
            return base_fail(err, BASE_MISMATCH,
                             "cut point %" PRIu64 " in a size of %" PRIu64,
                             rule->cuts[i], cut->length);
        }
        last = rule->cuts[i];
    }
    return BASE_OK;
}

/* What the coordinates of @part add to a rank. */
static uint32_t part_at(const struct ptc_cut *cut, uint32_t part)
{
    uint32_t at = 0;

    for (uint32_t i = cut->n_axes; i-- > 0;) {
        at += part % cut->axes[i].size * cut->axes[i].stride;
        part /= cut->axes[i].size;
    }
    return at;
}

/* All ranges of @part, one per segment, into @ret. */
static enum base_code part_ranges(const struct ptc_cut *cut,
                                  const struct ptc_dim_rule *rule,
                                  uint32_t part,
                                  struct ptc_range *ret,
                                  struct base_err *err)
{
    uint64_t begin = 0;

    if (rule->n_cuts > 0) {
        ret->begin = part == 0 ? 0 : rule->cuts[part - 1];
        ret->end = part == rule->n_cuts ? cut->length : rule->cuts[part];
        return BASE_OK;
    }
    if (rule->n_segments == 0) {
        return segment_split(cut, rule, part, 0, cut->length, ret, err);
    }
    for (uint32_t i = 0; i < rule->n_segments; i++) {
        BASE_TRY(segment_split(cut, rule, part, begin, rule->segments[i],
                               &ret[i], err));
        begin += rule->segments[i];
    }
    return BASE_OK;
}

/* Append the ranges of a part to @to, and where each begins in the part to
 * @starts, those that touch merged, empty ones left
 * out unless all are; returns how many. */
static uint32_t ranges_merge(const struct ptc_range *from,
                             uint32_t n,
                             struct ptc_range *to,
                             uint64_t *starts,
                             uint64_t *ret_length)
{
    uint32_t n_to = 0;
    uint64_t length = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (from[i].begin == from[i].end) {
            continue;
        }
        if (n_to > 0 && to[n_to - 1].end == from[i].begin) {
            to[n_to - 1].end = from[i].end;
        } else {
            starts[n_to] = length;
            to[n_to++] = from[i];
        }
        length += from[i].end - from[i].begin;
    }
    if (n_to == 0) {
        starts[n_to] = 0;
        to[n_to++] = from[n - 1];
    }
    *ret_length = length;
    return n_to;
}

static int entry_cmp(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;

    if (x->range.begin != y->range.begin) {
        return x->range.begin < y->range.begin ? -1 : 1;
    }
    return (x->at > y->at) - (x->at < y->at);
}

/* Sort the entries and make runs of equal ranges. */
static enum base_code runs_make(struct base_arena *arena,
                                struct entry *entries,
                                uint32_t n,
                                struct ptc_cut *cut,
                                struct base_err *err)
{
    struct ptc_cut_run *runs;
    uint32_t *holders = base_arena_alloc(arena, n, sizeof(*holders));
    uint32_t n_runs = 0;

    qsort(entries, n, sizeof(*entries), entry_cmp);
    for (uint32_t i = 0; i < n; i++) {
        n_runs +=
            i == 0 || entries[i].range.begin != entries[i - 1].range.begin;
    }
    runs = base_arena_alloc(arena, n_runs, sizeof(*runs));
    if (holders == NULL || runs == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for cut points");
    }
    cut->runs = runs;
    cut->holders = holders;
    for (uint32_t i = 0; i < n; i++) {
        holders[i] = entries[i].at;
        if (i == 0 || entries[i].range.begin != entries[i - 1].range.begin) {
            runs[cut->n_runs++] = (struct ptc_cut_run){entries[i].range, i, 0};
        }
        runs[cut->n_runs - 1].n_holders++;
    }
    return BASE_OK;
}

/* Fill in ranges and runs of a cut whose axes are set. */
static enum base_code cut_fill(struct base_arena *arena,
                               const struct ptc_dim_rule *rule,
                               struct ptc_cut *cut,
                               struct base_err *err)
{
    uint32_t per_part = rule->n_segments == 0 ? 1 : rule->n_segments;
    size_t n_max = (size_t)cut->n_parts * per_part;
    BASE_AUTO_MEM struct ptc_range *scratch =
        calloc(per_part, sizeof(*scratch));
    BASE_AUTO_MEM struct entry *entries = calloc(n_max, sizeof(*entries));
    uint32_t *first =
        base_arena_alloc(arena, (size_t)cut->n_parts + 1, sizeof(*first));
    uint64_t *lengths = base_arena_alloc(arena, cut->n_parts, sizeof(*lengths));
    struct ptc_range *ranges = base_arena_alloc(arena, n_max, sizeof(*ranges));
    uint64_t *starts = base_arena_alloc(arena, n_max, sizeof(*starts));
    uint32_t n_entries = 0;
    uint32_t n_ranges = 0;

    if (scratch == NULL || entries == NULL || first == NULL ||
        lengths == NULL || ranges == NULL || starts == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for cut points");
    }
    cut->is_uniform = true;
    for (uint32_t p = 0; p < cut->n_parts; p++) {
        uint32_t at = part_at(cut, p);

        BASE_TRY(part_ranges(cut, rule, p, scratch, err));
        for (uint32_t i = 0; i < per_part; i++) {
            if (scratch[i].begin != scratch[i].end) {
                entries[n_entries++] = (struct entry){scratch[i], at};
            }
        }
        first[p] = n_ranges;
        n_ranges += ranges_merge(scratch, per_part, ranges + n_ranges,
                                 starts + n_ranges, &lengths[p]);
        cut->is_uniform = cut->is_uniform && lengths[p] == lengths[0];
    }
    first[cut->n_parts] = n_ranges;
    cut->first = first;
    cut->lengths = lengths;
    cut->ranges = ranges;
    cut->starts = starts;
    return runs_make(arena, entries, n_entries, cut, err);
}

enum base_code ptc_cut_create(struct base_arena *arena,
                              const struct ptc_mesh *mesh,
                              const struct ptc_dim_rule *rule,
                              uint64_t length,
                              const struct ptc_cut **ret,
                              struct base_err *err)
{
    static const struct ptc_dim_rule whole = {.n_axes = 0};
    struct ptc_cut *cut = base_arena_alloc(arena, 1, sizeof(*cut));

    if (cut == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for cut points");
    }
    if (rule == NULL) {
        rule = &whole;
    }
    cut->length = length;
    cut->n_parts = 1;
    for (uint32_t i = 0; i < rule->n_axes; i++) {
        struct ptc_digit digit = ptc_mesh_digit(mesh, rule->axes[i]);

        if (digit.size > 1) {
            cut->axes[cut->n_axes++] = digit;
        }
        cut->n_parts *= digit.size; /* at most the ranks: axes differ */
    }
    if ((uint64_t)cut->n_parts * (rule->n_segments + UINT64_C(1)) >
        PTC_CUT_MAX_RANGES) {
        return base_fail(err, BASE_LIMIT,
                         "%" PRIu32 " parts of %" PRIu32
                         " segments are too many",
                         cut->n_parts, rule->n_segments);
    }
    BASE_TRY(rule_check(cut, rule, err));
    if (cut->n_parts == 1) {
        rule = &whole; /* one part has all segments: one range */
    }
    BASE_TRY(cut_fill(arena, rule, cut, err));
    *ret = cut;
    return BASE_OK;
}
