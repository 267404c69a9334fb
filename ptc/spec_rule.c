/* The rules of a spec: YAML nodes -> struct ptc_rule.
 *
 * A rule's keys are read in an order of ours, since `dims` needs the mesh and
 * `unit`, `segments` and `cuts` need `dims`.  The last step adds up which axes
 * the rule uses, by whatever key, and refuses one that is used twice. */
#include <assert.h>
#include <inttypes.h>

#include "base/num.h"
#include "ptc/spec_read.h"
#include "ptc/table.h"

static const char *const rule_keys[] = {
    "match",  "dims", "unit", "segments", "cuts",     "stage",
    "expert", "mesh", "flat", "tie",      "optional",
};
#define N_RULE_KEYS (sizeof(rule_keys) / sizeof(rule_keys[0]))

static enum base_code read_match(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *map,
                                 struct ptc_rule *rule)
{
    const struct base_yaml_node *match = ptc_spec_find(map, "match");

    if (match == NULL) {
        return ptc_spec_fail(reader, map, "match", "this rule has none");
    }
    return ptc_spec_text(reader, match, "match", PTC_SPEC_GLOB_MAX_BYTES,
                         &rule->match);
}

/* The index of the mesh or flat that @node names among @names. */
static enum base_code read_index(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *node,
                                 const char *key,
                                 const char *const *names,
                                 uint32_t n,
                                 uint32_t *ret)
{
    const char *nearest;
    uint32_t i;

    BASE_TRY(ptc_spec_check_kind(reader, node, key, BASE_YAML_TEXT));
    for (i = 0; i < n; i++) {
        if (base_str_eq(node->text, base_str_of(names[i]))) {
            *ret = i;
            return BASE_OK;
        }
    }
    nearest = base_str_nearest(node->text, names, n);
    return ptc_spec_fail(
        reader, node, key, "there is no '%.*s'%s%s%s", BASE_STR_FMT(node->text),
        nearest != NULL ? "; did you mean '" : "",
        nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
}

static enum base_code read_mesh(const struct ptc_spec_reader *reader,
                                const struct base_yaml_node *map,
                                struct ptc_rule *rule)
{
    const struct base_yaml_node *node = ptc_spec_find(map, "mesh");
    const struct ptc_spec *spec = reader->spec;
    const char *names[PTC_MAX_MESHES];
    uint32_t i;

    if (node == NULL) {
        return BASE_OK;
    }
    assert(spec->n_meshes >= 1);
    for (i = 1; i < spec->n_meshes; i++) {
        names[i - 1] = spec->mesh_names[i].ptr;
    }
    BASE_TRY(read_index(reader, node, "mesh", names, spec->n_meshes - 1, &i));
    rule->mesh = i + 1;
    return BASE_OK;
}

static enum base_code read_flat(const struct ptc_spec_reader *reader,
                                const struct base_yaml_node *map,
                                struct ptc_rule *rule)
{
    const struct base_yaml_node *node = ptc_spec_find(map, "flat");
    const struct ptc_spec *spec = reader->spec;
    const char *names[PTC_MAX_FLATS];
    uint32_t i;

    rule->flat = PTC_NONE;
    if (node == NULL) {
        return BASE_OK;
    }
    for (i = 0; i < spec->n_flats; i++) {
        names[i] = spec->flats[i].name.ptr;
    }
    return read_index(reader, node, "flat", names, spec->n_flats, &rule->flat);
}

static enum base_code read_dim_axis(const struct ptc_spec_reader *reader,
                                    const struct base_yaml_node *node,
                                    const struct ptc_rule *rule,
                                    struct ptc_dim_rule *dim)
{
    uint32_t axis;

    BASE_TRY(ptc_spec_check_kind(reader, node, "dims", BASE_YAML_TEXT));
    BASE_TRY(
        ptc_spec_axis(reader, node, "dims", rule->mesh, node->text, &axis));
    /* Twice is refused below, but must not overrun the array here. */
    if (dim->n_axes == PTC_MAX_AXES) {
        return ptc_spec_fail(reader, node, "dims", "more than %d axes",
                             PTC_MAX_AXES);
    }
    dim->axes[dim->n_axes++] = axis;
    return BASE_OK;
}

static enum base_code read_dims(const struct ptc_spec_reader *reader,
                                const struct base_yaml_node *map,
                                struct ptc_rule *rule)
{
    const struct base_yaml_node *dims = ptc_spec_find(map, "dims");
    const struct base_yaml_node *entry;
    const struct base_yaml_node *axis;
    uint32_t i;

    for (i = 0; i < PTC_MAX_DIMS; i++) {
        rule->dims[i].unit = 1;
    }
    if (dims == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, dims, "dims", BASE_YAML_LIST));
    for (entry = dims->children; entry != NULL; entry = entry->next) {
        struct ptc_dim_rule *dim;

        if (rule->n_dims == PTC_MAX_DIMS) {
            return ptc_spec_fail(reader, entry, "dims", "more than %d",
                                 PTC_MAX_DIMS);
        }
        dim = &rule->dims[rule->n_dims++];
        if (entry->kind == BASE_YAML_TEXT) {
            BASE_TRY(read_dim_axis(reader, entry, rule, dim));
        } else if (entry->kind == BASE_YAML_LIST) {
            for (axis = entry->children; axis != NULL; axis = axis->next) {
                BASE_TRY(read_dim_axis(reader, axis, rule, dim));
            }
        } else if (entry->kind != BASE_YAML_NULL) {
            return ptc_spec_fail(reader, entry, "dims",
                                 "expected ~, an axis or axes");
        }
    }
    return BASE_OK;
}

/* The dimension that an entry of `unit`, `segments` or `cuts` is about. */
static enum base_code read_dim_key(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *entry,
                                   const char *key,
                                   struct ptc_rule *rule,
                                   struct ptc_dim_rule **ret)
{
    uint64_t idx;

    if (entry->key.len != 1 || !base_parse_u64(entry->key, &idx) ||
        idx >= PTC_MAX_DIMS) {
        return ptc_spec_fail(reader, entry, key,
                             "'%.*s' is no dimension (0 to %d)",
                             BASE_STR_FMT(entry->key), PTC_MAX_DIMS - 1);
    }
    if (idx >= rule->n_dims || rule->dims[idx].n_axes == 0) {
        return ptc_spec_fail(reader, entry, key,
                             "dims does not cut dimension %" PRIu64, idx);
    }
    *ret = &rule->dims[idx];
    return BASE_OK;
}

static enum base_code read_units(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *map,
                                 struct ptc_rule *rule)
{
    const struct base_yaml_node *units = ptc_spec_find(map, "unit");
    const struct base_yaml_node *entry;

    if (units == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, units, "unit", BASE_YAML_MAP));
    for (entry = units->children; entry != NULL; entry = entry->next) {
        struct ptc_dim_rule *dim;

        BASE_TRY(read_dim_key(reader, entry, "unit", rule, &dim));
        BASE_TRY(ptc_spec_u64(reader, entry, "unit", 1, INT64_MAX, &dim->unit));
    }
    return BASE_OK;
}

static enum base_code read_segments(const struct ptc_spec_reader *reader,
                                    const struct base_yaml_node *map,
                                    struct ptc_rule *rule)
{
    const struct base_yaml_node *segments = ptc_spec_find(map, "segments");
    const struct base_yaml_node *entry;

    if (segments == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, segments, "segments", BASE_YAML_MAP));
    for (entry = segments->children; entry != NULL; entry = entry->next) {
        struct ptc_dim_rule *dim;
        uint64_t sum = 0;
        uint32_t i;

        BASE_TRY(read_dim_key(reader, entry, "segments", rule, &dim));
        BASE_TRY(ptc_spec_u64_list(reader, entry, "segments", 1, INT64_MAX,
                                   &dim->segments, &dim->n_segments));
        for (i = 0; i < dim->n_segments; i++) {
            if (!base_add_u64(sum, dim->segments[i], &sum) || sum > INT64_MAX) {
                return ptc_spec_fail(reader, entry, "segments",
                                     "their sum is too large");
            }
        }
        if (dim->n_segments == 0) {
            return ptc_spec_fail(reader, entry, "segments", "an empty list");
        }
    }
    return BASE_OK;
}

static enum base_code check_cuts(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *entry,
                                 const struct ptc_rule *rule,
                                 const struct ptc_dim_rule *dim)
{
    const struct ptc_mesh *mesh = &reader->spec->meshes[rule->mesh];
    uint32_t n_parts = mesh->axes[dim->axes[0]].size;
    uint32_t i;

    if (dim->unit != 1 || dim->n_segments != 0) {
        return ptc_spec_fail(reader, entry, "cuts",
                             "not together with unit or segments");
    }
    if (dim->n_axes != 1) {
        return ptc_spec_fail(reader, entry, "cuts",
                             "only where one axis cuts the dimension");
    }
    if (dim->n_cuts != n_parts - 1) {
        return ptc_spec_fail(reader, entry, "cuts",
                             "%u parts have %u inner cut points, not %u",
                             n_parts, n_parts - 1, dim->n_cuts);
    }
    for (i = 1; i < dim->n_cuts; i++) {
        if (dim->cuts[i] < dim->cuts[i - 1]) {
            return ptc_spec_fail(reader, entry, "cuts",
                                 "cut points must ascend");
        }
    }
    return BASE_OK;
}

static enum base_code read_cuts(const struct ptc_spec_reader *reader,
                                const struct base_yaml_node *map,
                                struct ptc_rule *rule)
{
    const struct base_yaml_node *cuts = ptc_spec_find(map, "cuts");
    const struct base_yaml_node *entry;

    if (cuts == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, cuts, "cuts", BASE_YAML_MAP));
    for (entry = cuts->children; entry != NULL; entry = entry->next) {
        struct ptc_dim_rule *dim;

        BASE_TRY(read_dim_key(reader, entry, "cuts", rule, &dim));
        BASE_TRY(ptc_spec_u64_list(reader, entry, "cuts", 0, INT64_MAX,
                                   &dim->cuts, &dim->n_cuts));
        BASE_TRY(check_cuts(reader, entry, rule, dim));
    }
    return BASE_OK;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

/* `stage: 3` or `stage: [0, 3]`: sorted, so that equal sets are equal. */
static enum base_code read_stage_list(const struct ptc_spec_reader *reader,
                                      const struct base_yaml_node *node,
                                      struct ptc_rule *rule)
{
    struct base_yaml_node one = *node;
    struct base_yaml_node list = {.kind = BASE_YAML_LIST,
                                  .line = node->line,
                                  .n_children = 1,
                                  .children = &one};
    uint32_t *sorted;
    uint32_t i;

    one.next = NULL;
    rule->stage = PTC_STAGE_LIST;
    BASE_TRY(ptc_spec_u32_list(
        reader, node->kind == BASE_YAML_LIST ? node : &list, "stage",
        PTC_MAX_RANKS, &rule->stage_list, &rule->n_stage_list));
    if (rule->n_stage_list == 0) {
        return ptc_spec_fail(reader, node, "stage", "an empty list");
    }
    sorted = ptc_spec_alloc(reader, rule->n_stage_list, sizeof(*sorted));
    if (sorted == NULL) {
        return BASE_NO_MEM;
    }
    memcpy(sorted, rule->stage_list, rule->n_stage_list * sizeof(*sorted));
    qsort(sorted, rule->n_stage_list, sizeof(*sorted), compare_u32);
    rule->stage_list = sorted;
    for (i = 1; i < rule->n_stage_list; i++) {
        if (sorted[i] == sorted[i - 1]) {
            return ptc_spec_fail(reader, node, "stage", "%u is there twice",
                                 sorted[i]);
        }
    }
    return BASE_OK;
}

static enum base_code read_stage(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *map,
                                 struct ptc_rule *rule)
{
    static const struct {
        const char *text;
        enum ptc_stage_kind kind;
    } words[] = {
        {"all", PTC_STAGE_ALL},
        {"layer", PTC_STAGE_LAYER},
        {"first", PTC_STAGE_FIRST},
        {"last", PTC_STAGE_LAST},
    };
    const struct base_yaml_node *node = ptc_spec_find(map, "stage");
    uint64_t number;
    size_t i;

    if (node == NULL) {
        return BASE_OK;
    }
    for (i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (node->kind == BASE_YAML_TEXT &&
            base_str_eq(node->text, base_str_of(words[i].text))) {
            rule->stage = words[i].kind;
            return BASE_OK;
        }
    }
    if (node->kind != BASE_YAML_LIST &&
        (node->kind != BASE_YAML_TEXT ||
         !base_parse_u64(node->text, &number))) {
        return ptc_spec_fail(
            reader, node, "stage",
            "expected all, layer, first, last, a number or a list of numbers");
    }
    return read_stage_list(reader, node, rule);
}

static enum base_code read_tie(const struct ptc_spec_reader *reader,
                               const struct base_yaml_node *map,
                               struct ptc_rule *rule)
{
    const struct base_yaml_node *node = ptc_spec_find(map, "tie");
    struct base_err why;

    if (node == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_text(reader, node, "tie", PTC_NAME_MAX, &rule->tie));
    if (ptc_name_check(rule->tie, "the target", &why) != BASE_OK) {
        return ptc_spec_fail(reader, node, "tie", "%s", why.text);
    }
    if (strpbrk(rule->match.ptr, "*?[\\") != NULL ||
        ptc_name_check(rule->match, "match", &why) != BASE_OK) {
        return ptc_spec_fail(reader, node, "tie",
                             "match must be a tensor's name, no pattern");
    }
    if (base_str_eq(rule->tie, rule->match)) {
        return ptc_spec_fail(reader, node, "tie", "a tensor tied to itself");
    }
    return BASE_OK;
}

/* Which axes of its mesh a rule has used so far. */
struct used {
    const struct ptc_spec_reader *reader;
    const struct base_yaml_node *map;
    const struct ptc_rule *rule;
    uint32_t axes; /* a bit each */
};

static enum base_code
use_axis(struct used *used, const char *key, uint32_t axis)
{
    const struct ptc_mesh *mesh = &used->reader->spec->meshes[used->rule->mesh];
    uint32_t bit = UINT32_C(1) << axis;

    assert(axis < mesh->n_axes);
    if ((used->axes & bit) != 0) {
        return ptc_spec_fail(used->reader, used->map, key,
                             "axis '%.*s' is used twice in this rule",
                             BASE_STR_FMT(mesh->axes[axis].name));
    }
    used->axes |= bit;
    return BASE_OK;
}

/* A rule that is placed by @numbered uses its axis. */
static enum base_code use_numbered(struct used *used,
                                   const char *key,
                                   const char *section,
                                   const struct ptc_numbered *numbered)
{
    const struct ptc_rule *rule = used->rule;
    const struct ptc_mesh *mesh = &used->reader->spec->meshes[rule->mesh];
    uint32_t axis;
    uint32_t i;

    if (!numbered->is_set) {
        return ptc_spec_fail(used->reader, used->map, key,
                             "the spec has no `%s`", section);
    }
    BASE_TRY(ptc_spec_axis(used->reader, used->map, key, rule->mesh,
                           numbered->axis, &axis));
    BASE_TRY(use_axis(used, key, axis));
    if (numbered->n_counts != 0 &&
        numbered->n_counts !=
            (uint64_t)mesh->axes[axis].size * numbered->interleave) {
        return ptc_spec_fail(used->reader, used->map, key,
                             "`%s` has %u counts for %" PRIu64 " chunks",
                             section, numbered->n_counts,
                             (uint64_t)mesh->axes[axis].size *
                                 numbered->interleave);
    }
    if (numbered != &used->reader->spec->stages) {
        return BASE_OK;
    }
    for (i = 0; i < rule->n_stage_list; i++) {
        if (rule->stage_list[i] >= mesh->axes[axis].size) {
            return ptc_spec_fail(used->reader, used->map, key,
                                 "there is no stage %u (there are %u)",
                                 rule->stage_list[i], mesh->axes[axis].size);
        }
    }
    return BASE_OK;
}

static enum base_code check_axes(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *map,
                                 const struct ptc_rule *rule)
{
    struct used used = {.reader = reader, .map = map, .rule = rule};
    const struct ptc_spec *spec = reader->spec;
    uint32_t i;
    uint32_t j;

    for (i = 0; i < rule->n_dims; i++) {
        for (j = 0; j < rule->dims[i].n_axes; j++) {
            BASE_TRY(use_axis(&used, "dims", rule->dims[i].axes[j]));
        }
    }
    if (rule->stage != PTC_STAGE_ALL) {
        BASE_TRY(use_numbered(&used, "stage", "stages", &spec->stages));
    }
    if (rule->is_expert) {
        BASE_TRY(use_numbered(&used, "expert", "experts", &spec->experts));
    }
    if (rule->flat != PTC_NONE) {
        const struct ptc_flat *flat = &spec->flats[rule->flat];

        for (i = 0; i < flat->n_axes; i++) {
            BASE_TRY(ptc_spec_axis(reader, map, "flat", rule->mesh,
                                   flat->axes[i], &j));
            BASE_TRY(use_axis(&used, "flat", j));
        }
    }
    return BASE_OK;
}

static enum base_code read_rule(const struct ptc_spec_reader *reader,
                                const struct base_yaml_node *map,
                                struct ptc_rule *rule)
{
    BASE_TRY(ptc_spec_check_kind(reader, map, "rules", BASE_YAML_MAP));
    BASE_TRY(ptc_spec_check_keys(reader, map, rule_keys, N_RULE_KEYS));
    rule->line = map->line;
    BASE_TRY(read_match(reader, map, rule));
    BASE_TRY(read_mesh(reader, map, rule));
    BASE_TRY(read_dims(reader, map, rule));
    BASE_TRY(read_units(reader, map, rule));
    BASE_TRY(read_segments(reader, map, rule));
    BASE_TRY(read_cuts(reader, map, rule));
    BASE_TRY(read_stage(reader, map, rule));
    BASE_TRY(ptc_spec_bool(reader, ptc_spec_find(map, "expert"), "expert",
                           &rule->is_expert));
    BASE_TRY(read_flat(reader, map, rule));
    BASE_TRY(read_tie(reader, map, rule));
    BASE_TRY(ptc_spec_bool(reader, ptc_spec_find(map, "optional"), "optional",
                           &rule->is_optional));
    return check_axes(reader, map, rule);
}

enum base_code ptc_spec_read_rules(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *rules)
{
    const struct base_yaml_node *node;
    uint32_t i = 0;

    BASE_TRY(ptc_spec_check_kind(reader, rules, "rules", BASE_YAML_LIST));
    if (rules->n_children > PTC_MAX_RULES) {
        return ptc_spec_fail(reader, rules, "rules", "more than %u",
                             PTC_MAX_RULES);
    }
    reader->spec->rules =
        ptc_spec_alloc(reader, rules->n_children, sizeof(*reader->spec->rules));
    if (reader->spec->rules == NULL) {
        return BASE_NO_MEM;
    }
    for (node = rules->children; node != NULL; node = node->next) {
        BASE_TRY(read_rule(reader, node, &reader->spec->rules[i]));
        i++;
    }
    reader->spec->n_rules = rules->n_children;
    return BASE_OK;
}
