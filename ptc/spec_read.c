/* Values out of YAML nodes; see spec_read.h. */
#include "ptc/spec_read.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/num.h"
#include "ptc/table.h"

enum { NAME_MAX_BYTES = 32, MAX_KNOWN = 256 };

void ptc_spec_fail_(const struct ptc_spec_reader *reader,
                    const struct base_yaml_node *node,
                    const char *key,
                    const char *fmt,
                    ...)
{
    char text[BASE_ERR_TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args); /* cut is good enough */
    va_end(args);
    (void)base_fail(reader->err, BASE_BAD_INPUT, "%.*s:%u: %s: %s",
                    BASE_YAML_MAX_ORIGIN, reader->origin, node->line, key,
                    text);
}

void *ptc_spec_alloc(const struct ptc_spec_reader *reader,
                     size_t n,
                     size_t item_bytes)
{
    void *ptr = base_arena_alloc(reader->spec->arena, n, item_bytes);

    if (ptr == NULL) {
        (void)base_fail(reader->err, BASE_NO_MEM, "cannot allocate a spec");
    }
    return ptr;
}

const struct base_yaml_node *ptc_spec_find(const struct base_yaml_node *map,
                                           const char *key)
{
    const struct base_yaml_node *entry;
    struct base_str wanted = base_str_of(key);

    for (entry = map->children; entry != NULL; entry = entry->next) {
        if (base_str_eq(entry->key, wanted)) {
            return entry;
        }
    }
    return NULL;
}

static const char *kind_text(enum base_yaml_kind kind)
{
    switch (kind) {
    case BASE_YAML_NULL:
        return "nothing";
    case BASE_YAML_TEXT:
        return "a plain value";
    case BASE_YAML_LIST:
        return "a list";
    case BASE_YAML_MAP:
        return "a mapping";
    }
    return "?";
}

enum base_code ptc_spec_check_kind(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *node,
                                   const char *key,
                                   enum base_yaml_kind kind)
{
    if (node->kind != kind) {
        return ptc_spec_fail(reader, node, key, "expected %s, found %s",
                             kind_text(kind), kind_text(node->kind));
    }
    return BASE_OK;
}

enum base_code ptc_spec_check_keys(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *map,
                                   const char *const *known,
                                   size_t n_known)
{
    const struct base_yaml_node *entry;

    for (entry = map->children; entry != NULL; entry = entry->next) {
        const char *nearest;
        size_t i;

        for (i = 0; i < n_known; i++) {
            if (base_str_eq(entry->key, base_str_of(known[i]))) {
                break;
            }
        }
        if (i < n_known) {
            continue;
        }
        nearest = base_str_nearest(entry->key, known, n_known);
        return base_fail(
            reader->err, BASE_BAD_INPUT, "%.*s:%u: %.*s: unknown key%s%s%s",
            BASE_YAML_MAX_ORIGIN, reader->origin, entry->line,
            BASE_STR_FMT(entry->key), nearest != NULL ? "; did you mean '" : "",
            nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
    }
    return BASE_OK;
}

enum base_code ptc_spec_u64(const struct ptc_spec_reader *reader,
                            const struct base_yaml_node *node,
                            const char *key,
                            uint64_t min,
                            uint64_t max,
                            uint64_t *ret)
{
    uint64_t value;
    bool has_zeros = node->text.len > 1 && node->text.ptr[0] == '0';

    if (node->kind != BASE_YAML_TEXT || !node->is_plain || has_zeros ||
        !base_parse_u64(node->text, &value) || value < min || value > max) {
        return ptc_spec_fail(reader, node, key,
                             "expected a number from %" PRIu64 " to %" PRIu64,
                             min, max);
    }
    *ret = value;
    return BASE_OK;
}

enum base_code ptc_spec_u64_list(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *node,
                                 const char *key,
                                 uint64_t min,
                                 uint64_t max,
                                 const uint64_t **ret,
                                 uint32_t *ret_n)
{
    const struct base_yaml_node *item;
    uint64_t *values;
    uint32_t i = 0;

    BASE_TRY(ptc_spec_check_kind(reader, node, key, BASE_YAML_LIST));
    values = ptc_spec_alloc(reader, node->n_children, sizeof(*values));
    if (values == NULL) {
        return BASE_NO_MEM;
    }
    for (item = node->children; item != NULL; item = item->next) {
        BASE_TRY(ptc_spec_u64(reader, item, key, min, max, &values[i]));
        i++;
    }
    *ret = values;
    *ret_n = node->n_children;
    return BASE_OK;
}

enum base_code ptc_spec_u32_list(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *node,
                                 const char *key,
                                 uint32_t max,
                                 const uint32_t **ret,
                                 uint32_t *ret_n)
{
    const struct base_yaml_node *item;
    uint32_t *values;
    uint32_t i = 0;

    BASE_TRY(ptc_spec_check_kind(reader, node, key, BASE_YAML_LIST));
    values = ptc_spec_alloc(reader, node->n_children, sizeof(*values));
    if (values == NULL) {
        return BASE_NO_MEM;
    }
    for (item = node->children; item != NULL; item = item->next) {
        uint64_t value;

        BASE_TRY(ptc_spec_u64(reader, item, key, 0, max, &value));
        values[i++] = (uint32_t)value;
    }
    *ret = values;
    *ret_n = node->n_children;
    return BASE_OK;
}

enum base_code ptc_spec_bool(const struct ptc_spec_reader *reader,
                             const struct base_yaml_node *node,
                             const char *key,
                             bool *ret)
{
    if (node == NULL) {
        return BASE_OK;
    }
    if (node->kind == BASE_YAML_TEXT && node->is_plain) {
        if (base_str_eq(node->text, BASE_STR("true"))) {
            *ret = true;
            return BASE_OK;
        }
        if (base_str_eq(node->text, BASE_STR("false"))) {
            *ret = false;
            return BASE_OK;
        }
    }
    return ptc_spec_fail(reader, node, key, "expected true or false");
}

static enum base_code copy(const struct ptc_spec_reader *reader,
                           struct base_str text,
                           struct base_str *ret)
{
    *ret = base_arena_str(reader->spec->arena, text);
    if (ret->ptr == NULL) {
        return base_fail(reader->err, BASE_NO_MEM, "cannot allocate a spec");
    }
    return BASE_OK;
}

enum base_code ptc_spec_text(const struct ptc_spec_reader *reader,
                             const struct base_yaml_node *node,
                             const char *key,
                             size_t max,
                             struct base_str *ret)
{
    BASE_TRY(ptc_spec_check_kind(reader, node, key, BASE_YAML_TEXT));
    if (node->text.len == 0 || node->text.len > max) {
        return ptc_spec_fail(reader, node, key,
                             "expected 1 to %zu bytes of text", max);
    }
    return copy(reader, node->text, ret);
}

static bool is_name(struct base_str text)
{
    size_t i;

    if (text.len == 0 || text.len > NAME_MAX_BYTES) {
        return false;
    }
    for (i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
            (i > 0 && c >= '0' && c <= '9')) {
            continue;
        }
        return false;
    }
    return !base_str_eq(text, BASE_STR("null")) &&
           !base_str_eq(text, BASE_STR("Null")) &&
           !base_str_eq(text, BASE_STR("NULL"));
}

enum base_code ptc_spec_name(const struct ptc_spec_reader *reader,
                             const struct base_yaml_node *node,
                             const char *key,
                             struct base_str text,
                             struct base_str *ret)
{
    if (!is_name(text)) {
        return ptc_spec_fail(reader, node, key,
                             "'%.*s' is no name (a letter or _, then letters, "
                             "digits and _, at most 32)",
                             BASE_STR_FMT(text));
    }
    return copy(reader, text, ret);
}

enum base_code ptc_spec_axis_names(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *node,
                                   const char *key,
                                   struct base_str *ret,
                                   uint32_t *ret_n)
{
    const struct base_yaml_node *item;
    uint32_t n = 0;
    uint32_t i;

    BASE_TRY(ptc_spec_check_kind(reader, node, key, BASE_YAML_LIST));
    for (item = node->children; item != NULL; item = item->next) {
        BASE_TRY(ptc_spec_check_kind(reader, item, key, BASE_YAML_TEXT));
        if (n == PTC_MAX_AXES) {
            return ptc_spec_fail(reader, item, key, "more than %d axes",
                                 PTC_MAX_AXES);
        }
        BASE_TRY(ptc_spec_name(reader, item, key, item->text, &ret[n]));
        for (i = 0; i < n; i++) {
            if (base_str_eq(ret[i], ret[n])) {
                return ptc_spec_fail(reader, item, key,
                                     "axis '%.*s' is there twice",
                                     BASE_STR_FMT(ret[n]));
            }
        }
        n++;
    }
    *ret_n = n;
    return BASE_OK;
}

enum base_code ptc_spec_axis(const struct ptc_spec_reader *reader,
                             const struct base_yaml_node *node,
                             const char *key,
                             uint32_t mesh,
                             struct base_str name,
                             uint32_t *ret)
{
    const struct ptc_mesh *within = &reader->spec->meshes[mesh];
    const char *names[PTC_MAX_AXES];
    const char *nearest;
    struct base_str of = reader->spec->mesh_names[mesh];
    uint32_t axis = ptc_mesh_find(within, name);
    uint32_t i;

    if (axis != PTC_NONE) {
        *ret = axis;
        return BASE_OK;
    }
    for (i = 0; i < within->n_axes; i++) {
        names[i] = within->axes[i].name.ptr; /* NUL-terminated in our arena */
    }
    nearest = base_str_nearest(name, names, within->n_axes);
    return ptc_spec_fail(
        reader, node, key,
        "the mesh%s%.*s has no axis '%.*s'%s%s%s (if it has "
        "one rank along it, write its size 1)",
        of.len > 0 ? " " : "", BASE_STR_FMT(of), BASE_STR_FMT(name),
        nearest != NULL ? "; did you mean '" : "",
        nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
}
