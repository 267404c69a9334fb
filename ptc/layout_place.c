/* Placing: numbers in names -> coordinates, (rule, shape) -> geometries.
 *
 *   1. read the layer and expert numbers of names whose rules ask for them
 *   2. sort the distinct numbers; per mesh, each gets its coordinate
 *   3. per tensor, find or make its geometry (hashed), whose cuts are found or
 *      made by (rule of the dimension, length) */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/layout_impl.h"
#include "ptc/number.h"

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

/* The distinct numbers of a kind and the coordinate of each, per mesh. */
struct numbers {
    const struct ptc_numbered *how;
    const char *what; /* "stages", "experts" */
    uint32_t *found;  /* sorted */
    uint32_t n_found;
    uint32_t *coords[PTC_MAX_MESHES]; /* NULL until needed */
};

struct placer {
    struct ptc_layout *layout;
    const struct ptc_spec *spec;
    struct ptc_choice *choices;
    struct numbers stages;
    struct numbers experts;
    BASE_VEC(struct ptc_geometry *) geometries;
    BASE_VEC(struct cut_entry) cuts;
    struct index geometry_index;
    struct index cut_index;
};

static void placer_done(struct placer *p)
{
    free(p->stages.found);
    free(p->experts.found);
    for (uint32_t m = 0; m < PTC_MAX_MESHES; m++) {
        free(p->stages.coords[m]);
        free(p->experts.coords[m]);
    }
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

/* Numbers. */

static int u32_cmp(const void *a, const void *b)
{
    const uint32_t *x = a;
    const uint32_t *y = b;

    return (*x > *y) - (*x < *y);
}

static uint32_t sort_distinct(uint32_t *items, uint32_t n)
{
    uint32_t n_kept = 0;

    if (n > 0) {
        qsort(items, n, sizeof(*items), u32_cmp);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (n_kept == 0 || items[n_kept - 1] != items[i]) {
            items[n_kept++] = items[i];
        }
    }
    return n_kept;
}

static bool is_per_layer(const struct placer *p, const struct ptc_rule *rule)
{
    return rule->flat != PTC_NONE && p->spec->flats[rule->flat].is_per_layer;
}

/* Read the number of @tensor into *ret (PTC_NONE: none); one that @is_needed
 * must be there. */
static enum base_code number_read(struct ptc_number *number,
                                  const struct numbers *n,
                                  const struct ptc_rule *rule,
                                  const struct ptc_tensor *tensor,
                                  bool is_needed,
                                  uint32_t *ret,
                                  struct base_err *err)
{
    char text[PTC_RULE_TEXT_BYTES];
    bool is_found = false;
    enum base_code rc;

    rc = ptc_number_read(number, tensor->name, &is_found, ret, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "tensor %.*s, %s", BASE_STR_FMT(tensor->name),
                         ptc_rule_text(rule, text));
    }
    if (!is_found && is_needed) {
        return base_fail(err, BASE_MISMATCH,
                         "tensor %.*s, %s: its name has no number that "
                         "'%.*s' of %s reads",
                         BASE_STR_FMT(tensor->name), ptc_rule_text(rule, text),
                         BASE_STR_FMT(n->how->pattern), n->what);
    }
    return BASE_OK;
}

/* The expression of @n, which some rule needs. */
static enum base_code number_get(const struct numbers *n,
                                 const struct ptc_rule *rule,
                                 struct ptc_number **number,
                                 struct base_err *err)
{
    char text[PTC_RULE_TEXT_BYTES];
    enum base_code rc;

    if (*number != NULL) {
        return BASE_OK;
    }
    if (!n->how->is_set) {
        return base_fail(err, BASE_MISMATCH,
                         "%s needs '%s', which the spec lacks",
                         ptc_rule_text(rule, text), n->what);
    }
    rc = ptc_number_create(n->how->pattern, number, err);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", n->what);
}

/* Read the numbers of all names that matched a rule themselves. */
static enum base_code numbers_read(struct placer *p,
                                   const struct ptc_table *table,
                                   struct base_err *err)
{
    BASE_AUTO(ptc_number) layer = NULL;
    BASE_AUTO(ptc_number) expert = NULL;

    for (uint32_t i = 0; i < p->layout->n_tensors; i++) {
        struct ptc_choice *choice = &p->choices[i];
        const struct ptc_rule *rule = &p->spec->rules[choice->rule];
        const struct ptc_tensor *tensor = ptc_table_tensor(table, i);
        bool is_staged = rule->stage == PTC_STAGE_LAYER;

        if (choice->namer != i) {
            continue;
        }
        if (is_staged || is_per_layer(p, rule)) {
            BASE_TRY(number_get(&p->stages, rule, &layer, err));
            BASE_TRY(number_read(layer, &p->stages, rule, tensor, is_staged,
                                 &choice->layer, err));
        }
        if (is_staged) {
            p->stages.found[p->stages.n_found++] = choice->layer;
        }
        if (rule->is_expert) {
            BASE_TRY(number_get(&p->experts, rule, &expert, err));
            BASE_TRY(number_read(expert, &p->experts, rule, tensor, true,
                                 &choice->expert, err));
            p->experts.found[p->experts.n_found++] = choice->expert;
        }
    }
    return BASE_OK;
}

static enum base_code numbers_find(struct placer *p,
                                   const struct ptc_table *table,
                                   struct base_err *err)
{
    size_t n = p->layout->n_tensors + (size_t)1;

    p->stages.found = malloc(n * sizeof(*p->stages.found));
    p->experts.found = malloc(n * sizeof(*p->experts.found));
    if (p->stages.found == NULL || p->experts.found == NULL) {
        return no_mem(err);
    }
    BASE_TRY(numbers_read(p, table, err));
    for (uint32_t i = 0; i < p->layout->n_tensors; i++) {
        struct ptc_choice *choice = &p->choices[i];

        choice->layer = p->choices[choice->namer].layer;
        choice->expert = p->choices[choice->namer].expert;
    }
    p->stages.n_found = sort_distinct(p->stages.found, p->stages.n_found);
    p->experts.n_found = sort_distinct(p->experts.found, p->experts.n_found);
    return BASE_OK;
}

/* The chunk of each number, by counts. */
static enum base_code counts_fill(const struct numbers *n,
                                  uint32_t n_chunks,
                                  uint32_t *chunks,
                                  struct base_err *err)
{
    uint64_t at = 0;

    if (n->how->n_counts != n_chunks) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: %" PRIu32 " counts for %" PRIu32 " chunks",
                         n->what, n->how->n_counts, n_chunks);
    }
    for (uint32_t c = 0; c < n_chunks; c++) {
        for (uint32_t i = 0; i < n->how->counts[c] && at < n->n_found; i++) {
            chunks[at++] = c;
        }
    }
    at = 0;
    for (uint32_t c = 0; c < n_chunks; c++) {
        at += n->how->counts[c];
    }
    if (at != n->n_found) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: the counts add up to %" PRIu64
                         ", but the names have %" PRIu32 " numbers",
                         n->what, at, n->n_found);
    }
    return BASE_OK;
}

/* The coordinates of all numbers on mesh @mesh_idx. */
static enum base_code coords_fill(struct numbers *n,
                                  uint32_t mesh_idx,
                                  uint32_t size,
                                  struct base_err *err)
{
    uint64_t n_chunks =
        (uint64_t)size * (n->how->interleave == 0 ? 1 : n->how->interleave);
    uint32_t *coords;

    if (n_chunks > PTC_MAX_RANKS) {
        return base_fail(err, BASE_LIMIT, "%s: %" PRIu64 " chunks, at most %u",
                         n->what, n_chunks, PTC_MAX_RANKS);
    }
    coords = calloc(n->n_found + (size_t)1, sizeof(*coords));
    if (coords == NULL) {
        return no_mem(err);
    }
    n->coords[mesh_idx] = coords;
    if (n->how->n_counts > 0) {
        BASE_TRY(counts_fill(n, (uint32_t)n_chunks, coords, err));
    } else {
        uint64_t chunk = base_ceil_div(n->n_found, n_chunks);

        for (uint32_t i = 0; i < n->n_found; i++) {
            coords[i] = (uint32_t)(i / chunk);
        }
    }
    for (uint32_t i = 0; i < n->n_found; i++) {
        coords[i] %= size;
    }
    return BASE_OK;
}

/* The coordinate of @number on the axis of @n in mesh @mesh_idx. */
static enum base_code coord_of(const struct placer *p,
                               struct numbers *n,
                               uint32_t mesh_idx,
                               uint32_t number,
                               struct ptc_digit *ret_digit,
                               uint32_t *ret,
                               struct base_err *err)
{
    const struct ptc_mesh *mesh = &p->spec->meshes[mesh_idx];
    uint32_t axis = ptc_mesh_find(mesh, n->how->axis); /* known to be there */
    const uint32_t *at;

    *ret_digit = ptc_mesh_digit(mesh, axis);
    if (n->coords[mesh_idx] == NULL) {
        BASE_TRY(coords_fill(n, mesh_idx, ret_digit->size, err));
    }
    at = bsearch(&number, n->found, n->n_found, sizeof(number), u32_cmp);
    *ret = n->coords[mesh_idx][at - n->found];
    return BASE_OK;
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
    g->n_list = sort_distinct(at, rule->n_stage_list);
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
        BASE_TRY(coord_of(p, &p->stages, g->mesh, p->choices[idx].layer, &digit,
                          &coord, err));
        *ret += coord * digit.stride;
    } else if (rule->stage == PTC_STAGE_LAST) {
        digit = ptc_mesh_digit(mesh, ptc_mesh_find(mesh, p->spec->stages.axis));
        *ret += (digit.size - 1) * digit.stride;
    }
    if (rule->is_expert) {
        BASE_TRY(coord_of(p, &p->experts, g->mesh, p->choices[idx].expert,
                          &digit, &coord, err));
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

    BASE_TRY(numbers_find(p, layout->table, err));
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
