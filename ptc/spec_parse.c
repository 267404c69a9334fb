/* The text of a spec -> struct ptc_spec: everything but the rules, which
 * spec_rule.c reads.  The language is described in docs/layouts.md.
 *
 * The tree of YAML nodes lives in an arena of its own and is gone when the
 * parse ends; what the spec keeps is copied. */
#include <inttypes.h>

#include "base/num.h"
#include "ptc/number.h"
#include "ptc/spec_read.h"
#include "ptc/table.h"

#define TREE_ARENA_BYTES ((size_t)128 << 20)
#define MAX_INTERLEAVE   4096u
#define MAX_ALIGN_ELEMS  (UINT64_C(1) << 31)
#define N_KEYS(keys)     (sizeof(keys) / sizeof((keys)[0]))

static enum base_code read_mesh(const struct ptc_spec_reader *reader,
                                const struct base_yaml_node *node,
                                const char *key,
                                struct ptc_mesh *mesh)
{
    const struct base_yaml_node *entry;
    uint64_t n_ranks = 1;

    BASE_TRY(ptc_spec_check_kind(reader, node, key, BASE_YAML_MAP));
    for (entry = node->children; entry != NULL; entry = entry->next) {
        struct ptc_axis *axis = &mesh->axes[mesh->n_axes];
        uint64_t size;

        if (mesh->n_axes == PTC_MAX_AXES) {
            return ptc_spec_fail(reader, entry, key, "more than %d axes",
                                 PTC_MAX_AXES);
        }
        BASE_TRY(ptc_spec_name(reader, entry, key, entry->key, &axis->name));
        BASE_TRY(ptc_spec_u64(reader, entry, axis->name.ptr, 1, PTC_MAX_RANKS,
                              &size));
        n_ranks *= size; /* both are at most 2^20 */
        if (n_ranks > PTC_MAX_RANKS) {
            return ptc_spec_fail(reader, entry, key, "more than %u ranks",
                                 PTC_MAX_RANKS);
        }
        axis->size = (uint32_t)size;
        mesh->n_axes++;
    }
    mesh->n_ranks = (uint32_t)n_ranks;
    return BASE_OK;
}

static enum base_code read_meshes(const struct ptc_spec_reader *reader,
                                  const struct base_yaml_node *root)
{
    const struct base_yaml_node *mesh = ptc_spec_find(root, "mesh");
    const struct base_yaml_node *others = ptc_spec_find(root, "meshes");
    const struct base_yaml_node *entry;
    struct ptc_spec *spec = reader->spec;

    if (mesh == NULL) {
        return ptc_spec_fail(reader, root, "mesh",
                             "missing (`mesh: {}` is one rank)");
    }
    BASE_TRY(read_mesh(reader, mesh, "mesh", &spec->meshes[0]));
    spec->mesh_names[0] = BASE_STR("");
    spec->n_meshes = 1;
    if (others == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, others, "meshes", BASE_YAML_MAP));
    for (entry = others->children; entry != NULL; entry = entry->next) {
        uint32_t i = spec->n_meshes;

        if (i == PTC_MAX_MESHES) {
            return ptc_spec_fail(reader, entry, "meshes",
                                 "more than %u with `mesh`", PTC_MAX_MESHES);
        }
        BASE_TRY(ptc_spec_name(reader, entry, "meshes", entry->key,
                               &spec->mesh_names[i]));
        BASE_TRY(read_mesh(reader, entry, "meshes", &spec->meshes[i]));
        if (spec->meshes[i].n_ranks != spec->meshes[0].n_ranks) {
            return ptc_spec_fail(
                reader, entry, "meshes", "'%.*s' has %u ranks, `mesh` has %u",
                BASE_STR_FMT(spec->mesh_names[i]), spec->meshes[i].n_ranks,
                spec->meshes[0].n_ranks);
        }
        spec->n_meshes++;
    }
    return BASE_OK;
}

/* Refuse an expression that does not compile. */
static enum base_code check_pattern(const struct ptc_spec_reader *reader,
                                    const struct base_yaml_node *node,
                                    const char *key,
                                    struct base_str pattern)
{
    BASE_AUTO(ptc_number) number = NULL;
    struct base_err why;
    enum base_code code = ptc_number_create(pattern, &number, &why);

    if (code == BASE_BAD_INPUT) {
        return ptc_spec_fail(reader, node, key, "%s", why.text);
    }
    if (code != BASE_OK) {
        return base_fail(reader->err, code, "%s", why.text);
    }
    return BASE_OK;
}

/* How many numbers there are in all must be a number too. */
static enum base_code read_counts(const struct ptc_spec_reader *reader,
                                  const struct base_yaml_node *node,
                                  struct ptc_numbered *ret)
{
    uint64_t sum = 0;
    uint32_t i;

    BASE_TRY(ptc_spec_u32_list(reader, node, "counts", INT32_MAX, &ret->counts,
                               &ret->n_counts));
    if (ret->n_counts == 0 || ret->n_counts % ret->interleave != 0) {
        return ptc_spec_fail(reader, node, "counts",
                             "expected one for each chunk (axis size * "
                             "interleave)");
    }
    for (i = 0; i < ret->n_counts; i++) {
        sum += ret->counts[i];
    }
    if (sum > INT32_MAX) {
        return ptc_spec_fail(reader, node, "counts", "their sum is too large");
    }
    return BASE_OK;
}

/* `stages` or `experts`; @pattern_key is the name of its expression. */
static enum base_code read_numbered(const struct ptc_spec_reader *reader,
                                    const struct base_yaml_node *node,
                                    const char *key,
                                    const char *pattern_key,
                                    struct ptc_numbered *ret)
{
    const char *const keys[] = {"axis", pattern_key, "counts", "interleave"};
    const struct base_yaml_node *axis;
    const struct base_yaml_node *value;
    uint64_t interleave = 1;

    ret->interleave = 1;
    if (node == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, node, key, BASE_YAML_MAP));
    BASE_TRY(ptc_spec_check_keys(reader, node, keys, N_KEYS(keys)));
    axis = ptc_spec_find(node, "axis");
    value = ptc_spec_find(node, pattern_key);
    if (axis == NULL || value == NULL) {
        return ptc_spec_fail(reader, node, key, "`%s` is missing",
                             axis == NULL ? "axis" : pattern_key);
    }
    BASE_TRY(ptc_spec_check_kind(reader, axis, "axis", BASE_YAML_TEXT));
    BASE_TRY(ptc_spec_name(reader, axis, "axis", axis->text, &ret->axis));
    BASE_TRY(ptc_spec_text(reader, value, pattern_key, PTC_PATTERN_MAX_BYTES,
                           &ret->pattern));
    BASE_TRY(check_pattern(reader, value, pattern_key, ret->pattern));
    value = ptc_spec_find(node, "interleave");
    if (value != NULL) {
        BASE_TRY(ptc_spec_u64(reader, value, "interleave", 1, MAX_INTERLEAVE,
                              &interleave));
        ret->interleave = (uint32_t)interleave;
    }
    value = ptc_spec_find(node, "counts");
    if (value != NULL) {
        BASE_TRY(read_counts(reader, value, ret));
    }
    ret->is_set = true;
    return BASE_OK;
}

static enum base_code read_order(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *node,
                                 struct ptc_flat *flat)
{
    const struct base_yaml_node *item;
    struct base_str *order;
    uint32_t i = 0;

    BASE_TRY(ptc_spec_check_kind(reader, node, "order", BASE_YAML_LIST));
    order = ptc_spec_alloc(reader, node->n_children, sizeof(*order));
    if (order == NULL) {
        return BASE_NO_MEM;
    }
    for (item = node->children; item != NULL; item = item->next) {
        BASE_TRY(ptc_spec_text(reader, item, "order", PTC_SPEC_GLOB_MAX_BYTES,
                               &order[i]));
        i++;
    }
    flat->order = order;
    flat->n_order = node->n_children;
    return BASE_OK;
}

static enum base_code read_bucket(const struct ptc_spec_reader *reader,
                                  const struct base_yaml_node *node,
                                  struct ptc_flat *flat)
{
    if (node->kind != BASE_YAML_TEXT ||
        !base_str_eq(node->text, BASE_STR("layer"))) {
        return ptc_spec_u64(reader, node, "bucket", 1, INT64_MAX,
                            &flat->bucket_elems);
    }
    if (!reader->spec->stages.is_set) {
        return ptc_spec_fail(reader, node, "bucket",
                             "`layer` needs `stages`, which reads layers");
    }
    flat->is_per_layer = true;
    return BASE_OK;
}

static enum base_code read_flat(const struct ptc_spec_reader *reader,
                                const struct base_yaml_node *node,
                                struct ptc_flat *flat)
{
    static const char *const keys[] = {"over", "order", "bucket", "align"};
    const struct base_yaml_node *value;

    BASE_TRY(ptc_spec_name(reader, node, "flats", node->key, &flat->name));
    if (base_str_eq(flat->name, BASE_STR("optim"))) {
        return ptc_spec_fail(reader, node, "flats",
                             "'optim' is the prefix of optimizer state");
    }
    BASE_TRY(ptc_spec_check_kind(reader, node, "flats", BASE_YAML_MAP));
    BASE_TRY(ptc_spec_check_keys(reader, node, keys, N_KEYS(keys)));
    flat->align_elems = 1;
    value = ptc_spec_find(node, "over");
    if (value == NULL) {
        return ptc_spec_fail(reader, node, "over", "missing");
    }
    BASE_TRY(
        ptc_spec_axis_names(reader, value, "over", flat->axes, &flat->n_axes));
    if (flat->n_axes == 0) {
        return ptc_spec_fail(reader, value, "over", "expected an axis");
    }
    value = ptc_spec_find(node, "order");
    if (value != NULL) {
        BASE_TRY(read_order(reader, value, flat));
    }
    value = ptc_spec_find(node, "bucket");
    if (value != NULL) {
        BASE_TRY(read_bucket(reader, value, flat));
    }
    value = ptc_spec_find(node, "align");
    if (value != NULL) {
        BASE_TRY(ptc_spec_u64(reader, value, "align", 1, MAX_ALIGN_ELEMS,
                              &flat->align_elems));
    }
    return BASE_OK;
}

static enum base_code read_flats(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *flats)
{
    const struct base_yaml_node *entry;
    struct ptc_spec *spec = reader->spec;

    if (flats == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, flats, "flats", BASE_YAML_MAP));
    if (flats->n_children > PTC_MAX_FLATS) {
        return ptc_spec_fail(reader, flats, "flats", "more than %u",
                             PTC_MAX_FLATS);
    }
    spec->flats =
        ptc_spec_alloc(reader, flats->n_children, sizeof(*spec->flats));
    if (spec->flats == NULL) {
        return BASE_NO_MEM;
    }
    for (entry = flats->children; entry != NULL; entry = entry->next) {
        BASE_TRY(read_flat(reader, entry, &spec->flats[spec->n_flats]));
        spec->n_flats++;
    }
    return BASE_OK;
}

static enum base_code read_on_change(const struct ptc_spec_reader *reader,
                                     const struct base_yaml_node *node,
                                     enum ptc_on_change *ret)
{
    static const struct {
        const char *text;
        enum ptc_on_change value;
    } words[] = {
        {"refuse", PTC_ON_CHANGE_REFUSE},
        {"copy", PTC_ON_CHANGE_COPY},
        {"drop", PTC_ON_CHANGE_DROP},
    };
    size_t i;

    for (i = 0; i < N_KEYS(words); i++) {
        if (node->kind == BASE_YAML_TEXT &&
            base_str_eq(node->text, base_str_of(words[i].text))) {
            *ret = words[i].value;
            return BASE_OK;
        }
    }
    return ptc_spec_fail(reader, node, "on_change",
                         "expected refuse, copy or drop");
}

static enum base_code read_object(const struct ptc_spec_reader *reader,
                                  const struct base_yaml_node *node,
                                  struct ptc_object_rule *object)
{
    static const char *const keys[] = {"varies", "on_change"};
    const struct base_yaml_node *value;
    uint32_t axis;
    uint32_t i;

    object->name = base_arena_str(reader->spec->arena, node->key);
    if (object->name.ptr == NULL) {
        return base_fail(reader->err, BASE_NO_MEM, "cannot allocate a spec");
    }
    if (node->key.len == 0 || node->key.len > PTC_SPEC_GLOB_MAX_BYTES) {
        return ptc_spec_fail(reader, node, "objects",
                             "expected a glob of 1 to %u bytes",
                             PTC_SPEC_GLOB_MAX_BYTES);
    }
    if (node->kind == BASE_YAML_NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, node, "objects", BASE_YAML_MAP));
    BASE_TRY(ptc_spec_check_keys(reader, node, keys, N_KEYS(keys)));
    value = ptc_spec_find(node, "varies");
    if (value != NULL) {
        object->has_varies = true;
        BASE_TRY(ptc_spec_axis_names(reader, value, "varies", object->varies,
                                     &object->n_varies));
        for (i = 0; i < object->n_varies; i++) {
            BASE_TRY(ptc_spec_axis(reader, value, "varies", 0,
                                   object->varies[i], &axis));
        }
    }
    value = ptc_spec_find(node, "on_change");
    if (value != NULL) {
        BASE_TRY(read_on_change(reader, value, &object->on_change));
    }
    return BASE_OK;
}

static enum base_code read_objects(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *objects)
{
    const struct base_yaml_node *entry;
    struct ptc_spec *spec = reader->spec;

    if (objects == NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_check_kind(reader, objects, "objects", BASE_YAML_MAP));
    spec->objects =
        ptc_spec_alloc(reader, objects->n_children, sizeof(*spec->objects));
    if (spec->objects == NULL) {
        return BASE_NO_MEM;
    }
    for (entry = objects->children; entry != NULL; entry = entry->next) {
        BASE_TRY(read_object(reader, entry, &spec->objects[spec->n_objects]));
        spec->n_objects++;
    }
    return BASE_OK;
}

static enum base_code read_spec(const struct ptc_spec_reader *reader,
                                const struct base_yaml_node *root)
{
    static const char *const keys[] = {"mesh",  "meshes", "stages", "experts",
                                       "flats", "rules",  "objects"};
    struct ptc_spec *spec = reader->spec;
    const struct base_yaml_node *rules;

    BASE_TRY(ptc_spec_check_kind(reader, root, "spec", BASE_YAML_MAP));
    BASE_TRY(ptc_spec_check_keys(reader, root, keys, N_KEYS(keys)));
    BASE_TRY(read_meshes(reader, root));
    BASE_TRY(read_numbered(reader, ptc_spec_find(root, "stages"), "stages",
                           "layer", &spec->stages));
    BASE_TRY(read_numbered(reader, ptc_spec_find(root, "experts"), "experts",
                           "expert", &spec->experts));
    BASE_TRY(read_flats(reader, ptc_spec_find(root, "flats")));
    rules = ptc_spec_find(root, "rules");
    if (rules == NULL) {
        return ptc_spec_fail(reader, root, "rules", "missing");
    }
    BASE_TRY(ptc_spec_read_rules(reader, rules));
    return read_objects(reader, ptc_spec_find(root, "objects"));
}

/* The canonical text may be longer than what was written; it must be as
 * acceptable as that. */
static enum base_code check_canonical(const struct ptc_spec_reader *reader)
{
    BASE_AUTO_BUF text;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    if (ptc_spec_format(reader->spec, &text, NULL) == BASE_LIMIT) {
        return base_fail(reader->err, BASE_LIMIT,
                         "%.*s: its canonical text is longer than %u bytes",
                         BASE_YAML_MAX_ORIGIN, reader->origin,
                         PTC_SPEC_MAX_BYTES);
    }
    return base_buf_check(&text, reader->err);
}

enum base_code ptc_spec_parse(struct base_str text,
                              const char *origin,
                              struct ptc_spec **ret,
                              struct base_err *err)
{
    BASE_AUTO(base_arena) tree = base_arena_create(TREE_ARENA_BYTES);
    BASE_AUTO(ptc_spec) spec = calloc(1, sizeof(*spec));
    struct ptc_spec_reader reader = {
        .origin = origin, .spec = spec, .err = err};
    const struct base_yaml_node *root;

    if (tree == NULL || spec == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a spec");
    }
    spec->arena = base_arena_create(PTC_SPEC_ARENA_BYTES);
    if (spec->arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a spec");
    }
    if (text.len > PTC_SPEC_MAX_BYTES) {
        return base_fail(
            err, BASE_LIMIT, "%.*s: a spec of %zu bytes, more than %u",
            BASE_YAML_MAX_ORIGIN, origin, text.len, PTC_SPEC_MAX_BYTES);
    }
    BASE_TRY(base_yaml_parse(text, origin, tree, &root, err));
    BASE_TRY(read_spec(&reader, root));
    BASE_TRY(check_canonical(&reader));
    *ret = base_steal(&spec);
    return BASE_OK;
}
