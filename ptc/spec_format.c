/* The canonical text of a spec: fixed order of keys, defaults left out, one
 * rule per line.  docs/layouts.md, "Canonical form".
 *
 * The buffer remembers its first failure, so only the end is checked. */
#include <inttypes.h>

#include "ptc/spec.h"
#include "ptc/table.h"

static void add(struct base_buf *buf, const char *text)
{
    (void)base_buf_add_str(buf, base_str_of(text)); /* sticky */
}

static void add_str(struct base_buf *buf, struct base_str text)
{
    (void)base_buf_add_str(buf, text);
}

static void add_u64(struct base_buf *buf, uint64_t value)
{
    (void)base_buf_addf(buf, "%" PRIu64, value);
}

/* In single quotes, doubled inside.  The parser admits only text that YAML
 * takes on one line. */
static void add_quoted(struct base_buf *buf, struct base_str text)
{
    size_t i;

    add(buf, "'");
    for (i = 0; i < text.len; i++) {
        (void)base_buf_add(buf, &text.ptr[i], 1);
        if (text.ptr[i] == '\'') {
            add(buf, "'");
        }
    }
    add(buf, "'");
}

static void add_names(struct base_buf *buf,
                      const struct base_str *names,
                      uint32_t n,
                      bool is_quoted)
{
    uint32_t i;

    add(buf, "[");
    for (i = 0; i < n; i++) {
        add(buf, i == 0 ? "" : ", ");
        if (is_quoted) {
            add_quoted(buf, names[i]);
        } else {
            add_str(buf, names[i]);
        }
    }
    add(buf, "]");
}

static void add_u64s(struct base_buf *buf, const uint64_t *values, uint32_t n)
{
    uint32_t i;

    add(buf, "[");
    for (i = 0; i < n; i++) {
        add(buf, i == 0 ? "" : ", ");
        add_u64(buf, values[i]);
    }
    add(buf, "]");
}

static void add_u32s(struct base_buf *buf, const uint32_t *values, uint32_t n)
{
    uint32_t i;

    add(buf, "[");
    for (i = 0; i < n; i++) {
        add(buf, i == 0 ? "" : ", ");
        add_u64(buf, values[i]);
    }
    add(buf, "]");
}

static void add_mesh(struct base_buf *buf, const struct ptc_mesh *mesh)
{
    uint32_t i;

    add(buf, "{");
    for (i = 0; i < mesh->n_axes; i++) {
        add(buf, i == 0 ? "" : ", ");
        add_str(buf, mesh->axes[i].name);
        add(buf, ": ");
        add_u64(buf, mesh->axes[i].size);
    }
    add(buf, "}\n");
}

static void add_numbered(struct base_buf *buf,
                         const char *section,
                         const char *pattern_key,
                         const struct ptc_numbered *numbered)
{
    if (!numbered->is_set) {
        return;
    }
    add(buf, section);
    add(buf, ": {axis: ");
    add_str(buf, numbered->axis);
    add(buf, ", ");
    add(buf, pattern_key);
    add(buf, ": ");
    add_quoted(buf, numbered->pattern);
    if (numbered->n_counts > 0) {
        add(buf, ", counts: ");
        add_u32s(buf, numbered->counts, numbered->n_counts);
    }
    if (numbered->interleave != 1) {
        add(buf, ", interleave: ");
        add_u64(buf, numbered->interleave);
    }
    add(buf, "}\n");
}

static void add_flat(struct base_buf *buf, const struct ptc_flat *flat)
{
    add(buf, "  ");
    add_str(buf, flat->name);
    add(buf, ": {over: ");
    add_names(buf, flat->axes, flat->n_axes, false);
    if (flat->n_order > 0) {
        add(buf, ", order: ");
        add_names(buf, flat->order, flat->n_order, true);
    }
    if (flat->is_per_layer) {
        add(buf, ", bucket: layer");
    } else if (flat->bucket_elems != 0) {
        add(buf, ", bucket: ");
        add_u64(buf, flat->bucket_elems);
    }
    if (flat->align_elems != 1) {
        add(buf, ", align: ");
        add_u64(buf, flat->align_elems);
    }
    add(buf, "}\n");
}

static void add_dims(struct base_buf *buf,
                     const struct ptc_mesh *mesh,
                     const struct ptc_rule *rule)
{
    uint32_t i;
    uint32_t j;

    if (rule->n_dims == 0) {
        return;
    }
    add(buf, ", dims: [");
    for (i = 0; i < rule->n_dims; i++) {
        const struct ptc_dim_rule *dim = &rule->dims[i];

        add(buf, i == 0 ? "" : ", ");
        add(buf, dim->n_axes > 1 ? "[" : "");
        for (j = 0; j < dim->n_axes; j++) {
            add(buf, j == 0 ? "" : ", ");
            add_str(buf, mesh->axes[dim->axes[j]].name);
        }
        add(buf, dim->n_axes > 1 ? "]" : "");
        add(buf, dim->n_axes == 0 ? "~" : "");
    }
    add(buf, "]");
}

/* What one dimension has of `unit`, `segments` or `cuts`. */
enum extra { EXTRA_UNIT, EXTRA_SEGMENTS, EXTRA_CUTS };

static bool has_extra(const struct ptc_dim_rule *dim, enum extra extra)
{
    switch (extra) {
    case EXTRA_UNIT:
        return dim->unit != 1;
    case EXTRA_SEGMENTS:
        return dim->n_segments != 0;
    case EXTRA_CUTS:
        return dim->n_cuts != 0;
    }
    return false;
}

static void add_extra(struct base_buf *buf,
                      const struct ptc_dim_rule *dim,
                      enum extra extra)
{
    switch (extra) {
    case EXTRA_UNIT:
        add_u64(buf, dim->unit);
        return;
    case EXTRA_SEGMENTS:
        add_u64s(buf, dim->segments, dim->n_segments);
        return;
    case EXTRA_CUTS:
        add_u64s(buf, dim->cuts, dim->n_cuts);
        return;
    }
}

static void add_extras(struct base_buf *buf,
                       const char *key,
                       const struct ptc_rule *rule,
                       enum extra extra)
{
    bool is_first = true;
    uint32_t i;

    for (i = 0; i < rule->n_dims; i++) {
        if (!has_extra(&rule->dims[i], extra)) {
            continue;
        }
        if (is_first) {
            add(buf, ", ");
            add(buf, key);
            add(buf, ": {");
        } else {
            add(buf, ", ");
        }
        add_u64(buf, i);
        add(buf, ": ");
        add_extra(buf, &rule->dims[i], extra);
        is_first = false;
    }
    add(buf, is_first ? "" : "}");
}

static void add_stage(struct base_buf *buf, const struct ptc_rule *rule)
{
    switch (rule->stage) {
    case PTC_STAGE_ALL:
        return;
    case PTC_STAGE_LAYER:
        add(buf, ", stage: layer");
        return;
    case PTC_STAGE_FIRST:
        add(buf, ", stage: first");
        return;
    case PTC_STAGE_LAST:
        add(buf, ", stage: last");
        return;
    case PTC_STAGE_LIST:
        add(buf, ", stage: ");
        if (rule->n_stage_list == 1) {
            add_u64(buf, rule->stage_list[0]);
        } else {
            add_u32s(buf, rule->stage_list, rule->n_stage_list);
        }
        return;
    }
}

static void add_rule(struct base_buf *buf,
                     const struct ptc_spec *spec,
                     const struct ptc_rule *rule)
{
    add(buf, "- {match: ");
    add_quoted(buf, rule->match);
    add_dims(buf, &spec->meshes[rule->mesh], rule);
    add_extras(buf, "unit", rule, EXTRA_UNIT);
    add_extras(buf, "segments", rule, EXTRA_SEGMENTS);
    add_extras(buf, "cuts", rule, EXTRA_CUTS);
    add_stage(buf, rule);
    add(buf, rule->is_expert ? ", expert: true" : "");
    if (rule->mesh != 0) {
        add(buf, ", mesh: ");
        add_str(buf, spec->mesh_names[rule->mesh]);
    }
    if (rule->flat != PTC_NONE) {
        add(buf, ", flat: ");
        add_str(buf, spec->flats[rule->flat].name);
    }
    if (rule->tie.len > 0) {
        add(buf, ", tie: ");
        add_quoted(buf, rule->tie);
    }
    add(buf, rule->is_optional ? ", optional: true}\n" : "}\n");
}

static void add_object(struct base_buf *buf,
                       const struct ptc_object_rule *object)
{
    bool has_change = object->on_change != PTC_ON_CHANGE_REFUSE;

    add(buf, "  ");
    add_quoted(buf, object->name);
    add(buf, ": {");
    if (object->has_varies) {
        add(buf, "varies: ");
        add_names(buf, object->varies, object->n_varies, false);
        add(buf, has_change ? ", " : "");
    }
    if (has_change) {
        add(buf, "on_change: ");
        add(buf, object->on_change == PTC_ON_CHANGE_COPY ? "copy" : "drop");
    }
    add(buf, "}\n");
}

enum base_code ptc_spec_format(const struct ptc_spec *spec,
                               struct base_buf *buf,
                               struct base_err *err)
{
    uint32_t i;

    add(buf, "mesh: ");
    add_mesh(buf, &spec->meshes[0]);
    add(buf, spec->n_meshes > 1 ? "meshes:\n" : "");
    for (i = 1; i < spec->n_meshes; i++) {
        add(buf, "  ");
        add_str(buf, spec->mesh_names[i]);
        add(buf, ": ");
        add_mesh(buf, &spec->meshes[i]);
    }
    add_numbered(buf, "stages", "layer", &spec->stages);
    add_numbered(buf, "experts", "expert", &spec->experts);
    add(buf, spec->n_flats > 0 ? "flats:\n" : "");
    for (i = 0; i < spec->n_flats; i++) {
        add_flat(buf, &spec->flats[i]);
    }
    add(buf, spec->n_rules > 0 ? "rules:\n" : "rules: []\n");
    for (i = 0; i < spec->n_rules; i++) {
        add_rule(buf, spec, &spec->rules[i]);
    }
    add(buf, spec->n_objects > 0 ? "objects:\n" : "");
    for (i = 0; i < spec->n_objects; i++) {
        add_object(buf, &spec->objects[i]);
    }
    return base_buf_check(buf, err);
}
