/* Parameters first, optimizer states after them: a state takes its parameter's
 * rule only if it has the parameter's global shape. */
#include "ptc/infer.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/glob.h"

/* All of one name: a slice of the sorted list. */
struct group_of_seen {
    const struct ptc_seen *items;
    size_t n;
};

struct solved {
    struct base_str name;
    uint32_t n_dims;
    uint64_t shape[PTC_MAX_DIMS];
};

struct infer {
    const struct ptc_spec *spec;
    const struct ptc_table *known;
    struct ptc_table_builder *builder;
    struct base_arena *arena;
    struct ptc_glob *globs; /* one per rule */
    uint64_t *part_length;  /* scratch of solve_cut_dim: n_ranks */
    bool *part_seen;
    BASE_VEC(struct solved) solved; /* in order of name */
    struct base_err *err;
};

static const char HINT[] = "give the whole shapes with --table";

static int seen_cmp(const void *va, const void *vb)
{
    const struct ptc_seen *a = va;
    const struct ptc_seen *b = vb;
    int order = base_str_cmp(a->name, b->name);

    if (order != 0) {
        return order;
    }
    return (a->rank > b->rank) - (a->rank < b->rank);
}

/* The first rule that @name matches, among those for optimizer states or
 * among the others; NULL when none does. */
static const struct ptc_rule *
rule_find(const struct infer *in, struct base_str name, bool is_optim)
{
    for (uint32_t i = 0; i < in->spec->n_rules; i++) {
        const struct ptc_rule *rule = &in->spec->rules[i];

        if (base_str_starts(rule->match, BASE_STR("optim.")) == is_optim &&
            ptc_glob_matches(&in->globs[i], name)) {
            return rule;
        }
    }
    return NULL;
}

/* Is @name what a flat of the spec shows: [optim.STATE.]FLAT.BUCKET? */
static bool is_bucket(const struct ptc_spec *spec, struct base_str name)
{
    struct base_str state, rest = name;
    uint64_t number;
    size_t dot;

    (void)ptc_name_split_optim(name, &state, &rest);
    for (dot = rest.len; dot > 0 && rest.ptr[dot - 1] != '.'; dot--) {
    }
    if (dot == 0 ||
        !base_parse_u64((struct base_str){rest.ptr + dot, rest.len - dot},
                        &number)) {
        return false;
    }
    rest.len = dot - 1;
    for (uint32_t i = 0; i < spec->n_flats; i++) {
        if (base_str_eq(spec->flats[i].name, rest)) {
            return true;
        }
    }
    return false;
}

/* Which part of the dimension rank @rank has: mixed radix in cutting order. */
static uint32_t part_of(const struct ptc_mesh *mesh,
                        const struct ptc_dim_rule *dim,
                        ptc_rank rank)
{
    uint32_t coords[PTC_MAX_AXES];
    uint32_t part = 0;

    ptc_mesh_coords(mesh, rank, coords);
    for (uint32_t i = 0; i < dim->n_axes; i++) {
        part = part * mesh->axes[dim->axes[i]].size + coords[dim->axes[i]];
    }
    return part;
}

static uint32_t n_parts(const struct ptc_mesh *mesh,
                        const struct ptc_dim_rule *dim)
{
    uint32_t n = 1;

    for (uint32_t i = 0; i < dim->n_axes; i++) {
        n *= mesh->axes[dim->axes[i]].size; /* at most n_ranks */
    }
    return n;
}

static enum base_code differ(const struct infer *in,
                             const struct ptc_seen *a,
                             const struct ptc_seen *b,
                             uint32_t d)
{
    return base_fail(in->err, BASE_MISMATCH,
                     "tensor %.*s: ranks %u and %u hold the same part of "
                     "dimension %u with sizes %" PRIu64 " and %" PRIu64,
                     BASE_STR_FMT(a->name), a->rank, b->rank, d, a->shape[d],
                     b->shape[d]);
}

/* May units repeat?  Then some parts that differ in the last axis only have one
 * unit each (docs/layouts.md, Cutting).  A unit of one element is also what a
 * rule without `unit` has; then nothing repeats. */
static bool may_repeat(const struct infer *in,
                       const struct ptc_mesh *mesh,
                       const struct ptc_dim_rule *dim,
                       uint32_t parts)
{
    uint32_t n_last = 1;
    uint32_t n_single = 0;

    for (uint32_t i = dim->n_axes; i > 0 && n_last == 1; i--) {
        n_last = mesh->axes[dim->axes[i - 1]].size;
    }
    for (uint32_t part = 0; part < parts; part++) {
        n_single = part % n_last == 0 ? 0 : n_single;
        n_single += in->part_length[part] == dim->unit;
        if (n_single == n_last) {
            return dim->unit > 1 && n_last > 1;
        }
    }
    return false;
}

/* Segments tell the whole length. */
static enum base_code solve_segments(const struct infer *in,
                                     const struct ptc_dim_rule *dim,
                                     uint64_t *ret)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < dim->n_segments; i++) {
        if (!base_add_u64(sum, dim->segments[i], &sum)) {
            return base_fail(in->err, BASE_LIMIT, "segments overflow");
        }
    }
    *ret = sum;
    return BASE_OK;
}

static enum base_code solve_cut_dim(struct infer *in,
                                    const struct ptc_mesh *mesh,
                                    const struct ptc_dim_rule *dim,
                                    const struct group_of_seen *g,
                                    uint32_t d,
                                    uint64_t *ret)
{
    struct base_str name = g->items[0].name;
    uint32_t parts = n_parts(mesh, dim);
    uint64_t sum = 0;
    uint32_t missing = 0;
    uint32_t n_missing = 0;

    memset(in->part_seen, 0, parts * sizeof(*in->part_seen));
    for (size_t i = 0; i < g->n; i++) {
        uint32_t part = part_of(mesh, dim, g->items[i].rank);
        uint64_t length = g->items[i].shape[d];

        if (in->part_seen[part] && in->part_length[part] != length) {
            size_t j = 0;

            while (part_of(mesh, dim, g->items[j].rank) != part) {
                j++;
            }
            return differ(in, &g->items[j], &g->items[i], d);
        }
        in->part_seen[part] = true;
        in->part_length[part] = length;
    }
    for (uint32_t part = parts; part > 0; part--) {
        if (!in->part_seen[part - 1]) {
            missing = part - 1;
            n_missing++;
            continue;
        }
        if (!base_add_u64(sum, in->part_length[part - 1], &sum)) {
            return base_fail(in->err, BASE_LIMIT,
                             "tensor %.*s: dimension %u overflows",
                             BASE_STR_FMT(name), d);
        }
    }
    if (n_missing > 0) {
        return base_fail(in->err, BASE_BAD_ARG,
                         "tensor %.*s: no rank shows part %u of %u of "
                         "dimension %u, so its whole shape is unknown; %s",
                         BASE_STR_FMT(name), missing, parts, d, HINT);
    }
    if (may_repeat(in, mesh, dim, parts)) {
        return base_fail(in->err, BASE_BAD_ARG,
                         "tensor %.*s: ranks have one unit of %" PRIu64
                         " of dimension %u each; whether units repeat on "
                         "several ranks cannot be told from shapes; %s",
                         BASE_STR_FMT(name), dim->unit, d, HINT);
    }
    *ret = sum;
    return BASE_OK;
}

static enum base_code solve_uncut_dim(const struct infer *in,
                                      const struct group_of_seen *g,
                                      uint32_t d,
                                      uint64_t *ret)
{
    for (size_t i = 1; i < g->n; i++) {
        if (g->items[i].shape[d] != g->items[0].shape[d]) {
            return differ(in, &g->items[0], &g->items[i], d);
        }
    }
    *ret = g->items[0].shape[d];
    return BASE_OK;
}

/* The global shape under @rule (NULL: nothing is cut). */
static enum base_code solve(struct infer *in,
                            const struct ptc_rule *rule,
                            const struct group_of_seen *g,
                            struct solved *ret)
{
    const struct ptc_seen *first = &g->items[0];

    ret->name = first->name;
    ret->n_dims = first->n_dims;
    for (uint32_t d = 0; d < first->n_dims; d++) {
        const struct ptc_dim_rule *dim =
            rule != NULL && d < rule->n_dims ? &rule->dims[d] : NULL;

        if (dim == NULL || dim->n_axes == 0) {
            BASE_TRY(solve_uncut_dim(in, g, d, &ret->shape[d]));
        } else if (dim->n_segments > 0) {
            BASE_TRY(solve_segments(in, dim, &ret->shape[d]));
        } else {
            BASE_TRY(solve_cut_dim(in, &in->spec->meshes[rule->mesh], dim, g, d,
                                   &ret->shape[d]));
        }
    }
    return BASE_OK;
}

static enum base_code check_agree(const struct infer *in,
                                  const struct group_of_seen *g)
{
    const struct ptc_seen *a = &g->items[0];

    for (size_t i = 1; i < g->n; i++) {
        const struct ptc_seen *b = &g->items[i];

        if (a->rank == b->rank) {
            return base_fail(in->err, BASE_MISMATCH,
                             "tensor %.*s: twice on rank %u, in groups %.*s "
                             "and %.*s",
                             BASE_STR_FMT(a->name), a->rank,
                             BASE_STR_FMT(a->group), BASE_STR_FMT(b->group));
        }
        if (!base_str_eq(a->group, b->group)) {
            return base_fail(in->err, BASE_MISMATCH,
                             "tensor %.*s: in group %.*s on rank %u, in group "
                             "%.*s on rank %u",
                             BASE_STR_FMT(a->name), BASE_STR_FMT(a->group),
                             a->rank, BASE_STR_FMT(b->group), b->rank);
        }
        if (a->dtype != b->dtype) {
            return base_fail(in->err, BASE_MISMATCH,
                             "tensor %.*s: %s on rank %u, %s on rank %u",
                             BASE_STR_FMT(a->name), ptc_dtype_name(a->dtype),
                             a->rank, ptc_dtype_name(b->dtype), b->rank);
        }
        if (a->n_dims != b->n_dims) {
            return base_fail(in->err, BASE_MISMATCH,
                             "tensor %.*s: %u dimensions on rank %u, %u on "
                             "rank %u",
                             BASE_STR_FMT(a->name), a->n_dims, a->rank,
                             b->n_dims, b->rank);
        }
    }
    return BASE_OK;
}

static enum base_code
add(struct infer *in, const struct group_of_seen *g, const struct solved *s)
{
    if (!base_vec_push(&in->solved, *s)) {
        return base_fail(in->err, BASE_NO_MEM, "no memory for shapes");
    }
    return ptc_table_add(in->builder, g->items[0].name, g->items[0].group,
                         g->items[0].dtype, s->n_dims, s->shape, in->err);
}

static enum base_code infer_parameter(struct infer *in,
                                      const struct group_of_seen *g)
{
    struct base_str name = g->items[0].name;
    const struct ptc_rule *rule;
    struct solved s = {0};

    if (is_bucket(in->spec, name)) {
        return base_fail(in->err, BASE_BAD_ARG,
                         "tensor %.*s: a flat does not tell its members' "
                         "shapes; %s",
                         BASE_STR_FMT(name), HINT);
    }
    rule = rule_find(in, name, false);
    if (rule == NULL) {
        return base_fail(in->err, BASE_MISMATCH,
                         "tensor %.*s: no rule matches it", BASE_STR_FMT(name));
    }
    if (rule->flat != PTC_NONE) {
        return base_fail(in->err, BASE_MISMATCH,
                         "tensor %.*s: its rule lays it into flat %.*s, but "
                         "rank %u shows it by itself",
                         BASE_STR_FMT(name),
                         BASE_STR_FMT(in->spec->flats[rule->flat].name),
                         g->items[0].rank);
    }
    BASE_TRY(solve(in, rule, g, &s));
    return add(in, g, &s);
}

static int solved_cmp(const void *a, const void *b)
{
    return base_str_cmp(((const struct solved *)a)->name,
                        ((const struct solved *)b)->name);
}

/* The parameter's shape: solved here, or known. */
static bool param_shape(const struct infer *in,
                        size_t n_params,
                        struct base_str param,
                        struct solved *ret)
{
    struct solved key = {.name = param};
    const struct solved *hit = NULL;
    uint32_t idx;

    if (n_params > 0) {
        hit =
            bsearch(&key, in->solved.items, n_params, sizeof(key), solved_cmp);
    }
    if (hit != NULL) {
        *ret = *hit;
        return true;
    }
    idx = in->known == NULL ? PTC_NONE : ptc_table_find(in->known, param);
    if (idx != PTC_NONE) {
        const struct ptc_tensor *t = ptc_table_tensor(in->known, idx);

        ret->name = param;
        ret->n_dims = t->n_dims;
        if (t->n_dims > 0) {
            memcpy(ret->shape, t->shape, t->n_dims * sizeof(*t->shape));
        }
        return true;
    }
    return false;
}

static bool solved_same_shape(const struct solved *a, const struct solved *b)
{
    bool same = a->n_dims == b->n_dims;

    for (uint32_t d = 0; same && d < a->n_dims; d++) {
        same = a->shape[d] == b->shape[d];
    }
    return same;
}

/* optim.STATE.P without an `optim.` rule: P's rule if that gives P's shape,
 * else one element everywhere. */
static enum base_code infer_like_parameter(struct infer *in,
                                           size_t n_params,
                                           const struct group_of_seen *g,
                                           struct base_str param)
{
    struct base_str name = g->items[0].name;
    const struct ptc_rule *rule = rule_find(in, param, false);
    struct solved p = {0}, as_param = {0}, as_one = {0};
    bool is_param, is_one = true;

    if (rule == NULL || !param_shape(in, n_params, param, &p)) {
        return base_fail(in->err, BASE_MISMATCH,
                         "tensor %.*s: there is no parameter %.*s, and no "
                         "rule beginning with optim. matches",
                         BASE_STR_FMT(name), BASE_STR_FMT(param));
    }
    is_param = g->items[0].n_dims == p.n_dims && rule->flat == PTC_NONE &&
               solve(in, rule, g, &as_param) == BASE_OK &&
               solved_same_shape(&as_param, &p);
    for (size_t i = 0; i < g->n && is_one; i++) {
        for (uint32_t d = 0; d < g->items[i].n_dims; d++) {
            is_one = is_one && g->items[i].shape[d] == 1;
        }
    }
    as_one.name = name;
    as_one.n_dims = g->items[0].n_dims;
    for (uint32_t d = 0; d < as_one.n_dims; d++) {
        as_one.shape[d] = 1;
    }
    if (is_param && is_one && !solved_same_shape(&as_param, &as_one)) {
        return base_fail(in->err, BASE_BAD_ARG,
                         "tensor %.*s: one element on each rank may be the "
                         "whole or a part; %s",
                         BASE_STR_FMT(name), HINT);
    }
    if (is_param) {
        return add(in, g, &as_param);
    }
    if (is_one) {
        return add(in, g, &as_one);
    }
    return base_fail(in->err, BASE_MISMATCH,
                     "tensor %.*s: its parts do not make up the shape of %.*s, "
                     "and no rule beginning with optim. matches",
                     BASE_STR_FMT(name), BASE_STR_FMT(param));
}

static enum base_code
infer_state(struct infer *in, size_t n_params, const struct group_of_seen *g)
{
    struct base_str name = g->items[0].name;
    struct base_str state, param;
    const struct ptc_rule *rule = rule_find(in, name, true);
    struct solved s = {0};

    if (rule == NULL && is_bucket(in->spec, name)) {
        return infer_parameter(in, g); /* says why not */
    }
    if (rule != NULL && rule->flat == PTC_NONE) {
        BASE_TRY(solve(in, rule, g, &s));
        return add(in, g, &s);
    }
    if (rule != NULL || !ptc_name_split_optim(name, &state, &param)) {
        return base_fail(in->err, BASE_MISMATCH,
                         "tensor %.*s: no rule places it by itself",
                         BASE_STR_FMT(name));
    }
    return infer_like_parameter(in, n_params, g, param);
}

/* All tensors that are optimizer states, or all others. */
static enum base_code infer_all(struct infer *in,
                                const struct ptc_seen *seen,
                                size_t n_seen,
                                bool states)
{
    size_t n_params = states ? in->solved.n : 0;
    size_t i = 0;

    while (i < n_seen) {
        struct group_of_seen g = {&seen[i], 1};

        while (i + g.n < n_seen &&
               base_str_eq(seen[i + g.n].name, g.items[0].name)) {
            g.n++;
        }
        i += g.n;
        if (base_str_starts(g.items[0].name, BASE_STR("optim.")) != states) {
            continue;
        }
        BASE_TRY(check_agree(in, &g));
        BASE_TRY(states ? infer_state(in, n_params, &g)
                        : infer_parameter(in, &g));
    }
    return BASE_OK;
}

static enum base_code infer_prepare(struct infer *in)
{
    uint32_t n_ranks = in->spec->meshes[0].n_ranks;

    in->arena = base_arena_create(PTC_SPEC_MAX_BYTES + (size_t)n_ranks * 16);
    if (in->arena == NULL) {
        return base_fail(in->err, BASE_NO_MEM, "no memory for rules");
    }
    in->globs =
        base_arena_alloc(in->arena, in->spec->n_rules + 1, sizeof(*in->globs));
    in->part_length =
        base_arena_alloc(in->arena, n_ranks, sizeof(*in->part_length));
    in->part_seen =
        base_arena_alloc(in->arena, n_ranks, sizeof(*in->part_seen));
    if (in->globs == NULL || in->part_length == NULL || in->part_seen == NULL) {
        return base_fail(in->err, BASE_NO_MEM, "no memory for rules");
    }
    for (uint32_t i = 0; i < in->spec->n_rules; i++) {
        in->globs[i] = ptc_glob_of(in->spec->rules[i].match);
    }
    return BASE_OK;
}

enum base_code ptc_infer(const struct ptc_spec *spec,
                         struct ptc_seen *seen,
                         size_t n_seen,
                         const struct ptc_table *known,
                         struct ptc_table_builder *builder,
                         struct base_err *err)
{
    struct infer in = {
        .spec = spec, .known = known, .builder = builder, .err = err};
    enum base_code code;

    if (n_seen == 0) {
        return BASE_OK;
    }
    qsort(seen, n_seen, sizeof(*seen), seen_cmp);
    code = infer_prepare(&in);
    if (code == BASE_OK) {
        code = infer_all(&in, seen, n_seen, false);
    }
    if (code == BASE_OK) {
        code = infer_all(&in, seen, n_seen, true);
    }
    base_vec_done(&in.solved);
    base_arena_free(in.arena);
    return code;
}
