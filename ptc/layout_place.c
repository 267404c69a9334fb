/* Placing: a tensor finds or makes its geometry, hashed by (rule, shape, dtype
 * width); a geometry finds or makes its cuts, hashed by (rule of the dimension,
 * length).  Then its numbers say what its pins add to a rank. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/layout_impl.h"

/* A hash table of indices: open addressing, no removal. */
struct index {
    uint32_t *slots;  /* index + 1, 0: empty */
    uint32_t n_slots; /* a power of two, more than twice n */
    uint32_t n;
};

struct cut_entry {
    const struct ptc_dim_rule *rule; /* NULL: not cut */
    uint64_t length;
    const struct ptc_cut *cut;
};

struct placer {
    struct ptc_layout *layout;
    const struct ptc_spec *spec;
    struct ptc_choice *choices;
    struct ptc_numbers stages;
    struct ptc_numbers experts;
    BASE_VEC(struct ptc_geometry *) geometries;
    BASE_VEC(struct cut_entry) cuts;
    struct index geometry_index;
    struct index cut_index;
};

static void placer_done(struct placer *p)
{
    ptc_numbers_done(&p->stages);
    ptc_numbers_done(&p->experts);
    base_vec_done(&p->geometries);
    base_vec_done(&p->cuts);
    free(p->geometry_index.slots);
    free(p->cut_index.slots);
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for a layout");
}

/* Hashing. */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 29);
}

static uint64_t geometry_hash(const struct ptc_geometry *g)
{
    uint64_t hash =
        mix(g->rule, g->n_dims * UINT64_C(64) + g->align_elems * UINT64_C(2) +
                         (g->is_whole ? 1 : 0));

    for (uint32_t d = 0; d < g->n_dims; d++) {
        hash = mix(hash, g->shape[d]);
    }
    return hash;
}

static bool geometry_eq(const struct ptc_geometry *a,
                        const struct ptc_geometry *b)
{
    return a->rule == b->rule && a->n_dims == b->n_dims &&
           a->align_elems == b->align_elems && a->is_whole == b->is_whole &&
           (a->n_dims == 0 ||
            memcmp(a->shape, b->shape, a->n_dims * sizeof(a->shape[0])) == 0);
}

static uint64_t cut_hash(const struct cut_entry *e)
{
    return mix(mix(0, (uintptr_t)e->rule), e->length);
}

/* Hash of item @idx, whichever index it is. */
static uint64_t
item_hash(const struct placer *p, const struct index *index, uint32_t idx)
{
    return index == &p->geometry_index ? geometry_hash(p->geometries.items[idx])
                                       : cut_hash(&p->cuts.items[idx]);
}

static void index_put(struct index *index, uint64_t hash, uint32_t idx)
{
    uint32_t at = (uint32_t)hash & (index->n_slots - 1);

    while (index->slots[at] != 0) {
        at = (at + 1) & (index->n_slots - 1);
    }
    index->slots[at] = idx + 1;
    index->n++;
}

/* Add item @idx, already in its array. */
static bool index_add(const struct placer *p, struct index *index, uint32_t idx)
{
    if (index->n_slots < 2 * (index->n + 1)) {
        struct index bigger = {
            .n_slots = index->n_slots == 0 ? 64 : 2 * index->n_slots};

        bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
        if (bigger.slots == NULL) {
            return false;
        }
        for (uint32_t i = 0; i < index->n; i++) {
            index_put(&bigger, item_hash(p, index, i), i);
        }
        free(index->slots);
        *index = bigger;
    }
    index_put(index, item_hash(p, index, idx), idx);
    return true;
}

/* Geometries. */

/* Mark @axis as used by a rule. */
static enum base_code axis_use(const struct ptc_mesh *mesh,
                               uint32_t axis,
                               bool *is_used,
                               struct base_err *err)
{
    if (axis >= mesh->n_axes) {
        return base_fail(err, BASE_MISMATCH, "its mesh lacks an axis it needs");
    }
    if (is_used[axis]) {
        return base_fail(err, BASE_MISMATCH, "it uses axis %.*s twice",
                         BASE_STR_FMT(mesh->axes[axis].name));
    }
    is_used[axis] = true;
    return BASE_OK;
}

/* As axis_use, by name. */
static enum base_code name_use(const struct ptc_mesh *mesh,
                               struct base_str name,
                               bool *is_used,
                               uint32_t *ret_axis,
                               struct base_err *err)
{
    *ret_axis = ptc_mesh_find(mesh, name);
    if (*ret_axis == PTC_NONE) {
        return base_fail(err, BASE_MISMATCH, "its mesh lacks the axis %.*s",
                         BASE_STR_FMT(name));
    }
    return axis_use(mesh, *ret_axis, is_used, err);
}

static void
pin_add(struct ptc_geometry *g, const struct ptc_mesh *mesh, uint32_t axis)
{
    if (mesh->axes[axis].size > 1) {
        g->pins[g->n_pins++] = ptc_mesh_digit(mesh, axis);
    }
}

/* A list of stages. */
static enum base_code list_fill(struct ptc_geometry *g,
                                const struct ptc_rule *rule,
                                struct base_arena *arena,
                                struct base_err *err)
{
    uint32_t *at = base_arena_alloc(arena, rule->n_stage_list, sizeof(*at));

    if (at == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < rule->n_stage_list; i++) {
        if (rule->stage_list[i] >= g->list.size) {
            return base_fail(err, BASE_MISMATCH,
                             "stage %" PRIu32
                             ", but the axis has size %" PRIu32,
                             rule->stage_list[i], g->list.size);
        }
        at[i] = rule->stage_list[i] * g->list.stride;
    }
    if (g->list.size == 1) {
        return BASE_OK; /* strides tell axes apart only where sizes exceed 1 */
    }
    g->n_list = ptc_sort_distinct(at, rule->n_stage_list);
    g->list_at = at;
    return BASE_OK;
}

/* Axes that place whole tensors. */
static enum base_code pins_fill(const struct placer *p,
                                struct ptc_geometry *g,
                                const struct ptc_rule *rule,
                                bool *is_used,
                                struct base_err *err)
{
    const struct ptc_mesh *mesh = &p->spec->meshes[g->mesh];
    uint32_t axis;

    if (rule->stage != PTC_STAGE_ALL) {
        if (!p->spec->stages.is_set) {
            return base_fail(err, BASE_MISMATCH,
                             "it has a stage, but the spec lacks 'stages'");
        }
        BASE_TRY(name_use(mesh, p->spec->stages.axis, is_used, &axis, err));
        if (rule->stage == PTC_STAGE_LIST) {
            g->list = ptc_mesh_digit(mesh, axis);
            BASE_TRY(list_fill(g, rule, p->layout->arena, err));
        } else {
            pin_add(g, mesh, axis);
        }
    }
    if (rule->is_expert) {
        if (!p->spec->experts.is_set) {
            return base_fail(err, BASE_MISMATCH,
                             "it has experts, but the spec lacks 'experts'");
        }
        BASE_TRY(name_use(mesh, p->spec->experts.axis, is_used, &axis, err));
        pin_add(g, mesh, axis);
    }
    return BASE_OK;
}

/* Axes of dims and of the flat are used; the others are free. */
static enum base_code axes_fill(const struct placer *p,
                                struct ptc_geometry *g,
                                const struct ptc_rule *rule,
                                struct base_err *err)
{
    const struct ptc_mesh *mesh = &p->spec->meshes[g->mesh];
    bool is_used[PTC_MAX_AXES] = {false};

    BASE_TRY(pins_fill(p, g, rule, is_used, err));
    for (uint32_t d = 0; !g->is_whole && d < rule->n_dims && d < g->n_dims;
         d++) {
        for (uint32_t i = 0; i < rule->dims[d].n_axes; i++) {
            BASE_TRY(axis_use(mesh, rule->dims[d].axes[i], is_used, err));
        }
    }
    if (g->flat != PTC_NONE) {
        const struct ptc_flat *flat = &p->spec->flats[g->flat];

        for (uint32_t i = 0; i < flat->n_axes; i++) {
            uint32_t axis;

            BASE_TRY(name_use(mesh, flat->axes[i], is_used, &axis, err));
            if (mesh->axes[axis].size > 1) {
                g->over[g->n_over++] = ptc_mesh_digit(mesh, axis);
            }
        }
    }
    g->n_free_ranks = g->n_list > 0 ? g->n_list : 1;
    for (uint32_t a = 0; a < mesh->n_axes; a++) {
        if (!is_used[a] && mesh->axes[a].size > 1) {
            g->free[g->n_free++] = ptc_mesh_digit(mesh, a);
            g->n_free_ranks *= mesh->axes[a].size;
        }
    }
    return BASE_OK;
}

/* The cut of a length by a dimension's rule, made once. */
static enum base_code cut_get(struct placer *p,
                              uint32_t mesh,
                              const struct ptc_dim_rule *rule,
                              uint64_t length,
                              const struct ptc_cut **ret,
                              struct base_err *err)
{
    struct cut_entry entry = {.rule = rule, .length = length};
    uint64_t hash = cut_hash(&entry);
    uint32_t mask = p->cut_index.n_slots - 1;

    for (uint32_t at = (uint32_t)hash & mask;
         p->cut_index.n_slots > 0 && p->cut_index.slots[at] != 0;
         at = (at + 1) & mask) {
        const struct cut_entry *e = &p->cuts.items[p->cut_index.slots[at] - 1];

        if (e->rule == rule && e->length == length) {
            *ret = e->cut;
            return BASE_OK;
        }
    }
    BASE_TRY(ptc_cut_create(p->layout->arena, &p->spec->meshes[mesh], rule,
                            length, &entry.cut, err));
    if (!base_vec_push(&p->cuts, entry) ||
        !index_add(p, &p->cut_index, (uint32_t)p->cuts.n - 1)) {
        return no_mem(err);
    }
    *ret = entry.cut;
    return BASE_OK;
}

/* Every run must be whole bytes: those along the innermost dimension that is
 * cut, with all that lies inside it.  (Rows then begin on a byte too, as the
 * last run ends with the row.) */
static enum base_code runs_check(const struct ptc_geometry *g,
                                 struct base_err *err)
{
    uint64_t inner = 1;
    uint32_t d = g->n_dims;

    if (g->align_elems == 1) {
        return BASE_OK;
    }
    while (d > 0 && g->cuts[d - 1]->n_runs <= 1) {
        inner *= g->shape[--d]; /* at most the tensor's elements */
    }
    for (uint32_t r = 0; d > 0 && r < g->cuts[d - 1]->n_runs; r++) {
        uint64_t end = g->cuts[d - 1]->runs[r].range.end;

        if (end * inner % g->align_elems != 0) {
            return base_fail(err, BASE_MISMATCH,
                             "dim %" PRIu32 ": a run of a sub-byte dtype ends "
                             "within a byte (at element %" PRIu64 ")",
                             d - 1, end * inner);
        }
    }
    return BASE_OK;
}

/* Fill in a geometry whose key is set. */
static enum base_code
geometry_fill(struct placer *p, struct ptc_geometry *g, struct base_err *err)
{
    const struct ptc_rule *rule = &p->spec->rules[g->rule];

    if (rule->n_dims > g->n_dims && g->n_dims > 0 && !g->is_whole) {
        return base_fail(err, BASE_MISMATCH,
                         "%" PRIu32 " dims given, but the tensor has %" PRIu32,
                         rule->n_dims, g->n_dims);
    }
    g->mesh = rule->mesh;
    g->flat = g->is_whole ? PTC_NONE : rule->flat;
    BASE_TRY(axes_fill(p, g, rule, err));
    for (uint32_t d = 0; d < g->n_dims; d++) {
        bool is_cut = !g->is_whole && d < rule->n_dims;
        enum base_code rc = cut_get(p, g->mesh, is_cut ? &rule->dims[d] : NULL,
                                    g->shape[d], &g->cuts[d], err);

        if (rc != BASE_OK) {
            return base_wrap(err, rc, "dim %" PRIu32, d);
        }
    }
    return runs_check(g, err);
}

/* Elements in the least whole number of bytes. */
static uint32_t align_of(enum ptc_dtype dtype)
{
    unsigned bits = ptc_dtype_bits(dtype);
    uint32_t n = 1;

    while (bits * n % 8 != 0) {
        n *= 2;
    }
    return n;
}

/* Find or make the geometry of tensor @idx. */
static enum base_code geometry_get(struct placer *p,
                                   uint32_t idx,
                                   uint32_t *ret,
                                   struct base_err *err)
{
    const struct ptc_tensor *tensor = ptc_table_tensor(p->layout->table, idx);
    struct ptc_geometry key = {
        .rule = p->choices[idx].rule,
        .n_dims = tensor->n_dims,
        .align_elems = align_of(tensor->dtype),
        .is_whole = p->choices[idx].is_whole,
        .shape = tensor->shape,
    };
    uint32_t mask = p->geometry_index.n_slots - 1;
    struct ptc_geometry *g;

    for (uint32_t at = (uint32_t)geometry_hash(&key) & mask;
         p->geometry_index.n_slots > 0 && p->geometry_index.slots[at] != 0;
         at = (at + 1) & mask) {
        uint32_t found = p->geometry_index.slots[at] - 1;

        if (geometry_eq(p->geometries.items[found], &key)) {
            *ret = found;
            return BASE_OK;
        }
    }
    g = base_arena_alloc(p->layout->arena, 1, sizeof(*g));
    if (g == NULL) {
        return no_mem(err);
    }
    *g = key;
    BASE_TRY(geometry_fill(p, g, err));
    if (!base_vec_push(&p->geometries, g) ||
        !index_add(p, &p->geometry_index, (uint32_t)p->geometries.n - 1)) {
        return no_mem(err);
    }
    *ret = (uint32_t)p->geometries.n - 1;
    return BASE_OK;
}

/* What the single pins of tensor @idx add to a rank. */
static enum base_code base_of(struct placer *p,
                              uint32_t idx,
                              const struct ptc_geometry *g,
                              uint32_t *ret,
                              struct base_err *err)
{
    const struct ptc_rule *rule = &p->spec->rules[g->rule];
    const struct ptc_mesh *mesh = &p->spec->meshes[g->mesh];
    struct ptc_digit digit;
    uint32_t coord;

    *ret = 0;
    if (rule->stage == PTC_STAGE_LAYER) {
        BASE_TRY(ptc_numbers_coord(&p->stages, p->spec, g->mesh,
                                   p->choices[idx].layer, &digit, &coord, err));
        *ret += coord * digit.stride;
    } else if (rule->stage == PTC_STAGE_LAST) {
        digit = ptc_mesh_digit(mesh, ptc_mesh_find(mesh, p->spec->stages.axis));
        *ret += (digit.size - 1) * digit.stride;
    }
    if (rule->is_expert) {
        BASE_TRY(ptc_numbers_coord(&p->experts, p->spec, g->mesh,
                                   p->choices[idx].expert, &digit, &coord,
                                   err));
        *ret += coord * digit.stride;
    }
    return BASE_OK;
}

/* Place tensor @idx. */
static enum base_code
tensor_place(struct placer *p, uint32_t idx, struct base_err *err)
{
    struct ptc_bound *bound = &p->layout->bound[idx];

    bound->flat_set = PTC_NONE;
    BASE_TRY(geometry_get(p, idx, &bound->geometry, err));
    return base_of(p, idx, p->geometries.items[bound->geometry], &bound->base,
                   err);
}

static enum base_code place(struct placer *p, struct base_err *err)
{
    struct ptc_layout *layout = p->layout;

    BASE_TRY(
        ptc_numbers_read(layout, p->choices, &p->stages, &p->experts, err));
    for (uint32_t i = 0; i < layout->n_tensors; i++) {
        enum base_code rc = tensor_place(p, i, err);

        if (rc != BASE_OK) {
            const struct ptc_tensor *t = ptc_table_tensor(layout->table, i);
            char text[PTC_RULE_TEXT_BYTES];

            return base_wrap(
                err, rc, "tensor %.*s, %s", BASE_STR_FMT(t->name),
                ptc_rule_text(&p->spec->rules[p->choices[i].rule], text));
        }
    }
    layout->n_geometries = (uint32_t)p->geometries.n;
    layout->geometries = base_arena_alloc(layout->arena, p->geometries.n + 1,
                                          sizeof(struct ptc_geometry *));
    if (layout->geometries == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < layout->n_geometries; i++) {
        layout->geometries[i] = p->geometries.items[i];
    }
    return BASE_OK;
}

enum base_code ptc_layout_place(struct ptc_layout *layout,
                                struct ptc_choice *choices,
                                struct base_err *err)
{
    struct placer placer = {
        .layout = layout,
        .spec = layout->spec,
        .choices = choices,
        .stages = {.how = &layout->spec->stages, .what = "stages"},
        .experts = {.how = &layout->spec->experts, .what = "experts"},
    };
    enum base_code rc = place(&placer, err);

    placer_done(&placer);
    return rc;
}
