/* YAML events -> tree; see yaml.h.
 *
 * libyaml tokenises and checks grammar; this file turns its events into nodes,
 * by recursion that BASE_YAML_MAX_DEPTH bounds.  libyaml's own lookahead is
 * bounded by its limit of 1024 characters on simple keys. */
#include "base/yaml.h"

#include <yaml.h>

struct reader {
    yaml_parser_t parser;
    const char *origin;
    struct base_arena *arena;
    uint32_t n_nodes;
    struct base_err *err;
};

#define AUTO_EVENT __attribute__((cleanup(yaml_event_delete))) yaml_event_t

static enum base_code fail_at(const struct reader *reader,
                              enum base_code code,
                              size_t line_idx,
                              const char *what)
{
    (void)base_fail(reader->err, code, "%.*s:%zu: %s", BASE_YAML_MAX_ORIGIN,
                    reader->origin, line_idx + 1, what);
    return code;
}

static enum base_code fail_memory(const struct reader *reader)
{
    (void)base_fail(reader->err, BASE_NO_MEM, "cannot parse YAML");
    return BASE_NO_MEM;
}

/* The next event, or the reason why there is none. */
static enum base_code next_event(struct reader *reader, yaml_event_t *event)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *hint = "";

    if (yaml_parser_parse(&reader->parser, event) != 0) {
        return BASE_OK;
    }
    if (parser->error == YAML_MEMORY_ERROR) {
        return fail_memory(reader);
    }
    if (parser->context != NULL &&
        strcmp(parser->context, "while scanning an alias") == 0) {
        hint = " (write a glob in quotes: '*.weight')";
    }
    return base_fail(
        reader->err, BASE_BAD_INPUT, "%.*s:%zu: bad YAML: %s%s%s%s",
        BASE_YAML_MAX_ORIGIN, reader->origin, parser->problem_mark.line + 1,
        parser->context != NULL ? parser->context : "",
        parser->context != NULL ? ": " : "",
        parser->problem != NULL ? parser->problem : "unreadable", hint);
}

/* May @text stand between single quotes on one line of YAML?  No line breaks
 * of YAML's, no controls, no marks that its reader refuses. */
static bool is_one_line(struct base_str text)
{
    const unsigned char *at = (const unsigned char *)text.ptr;
    size_t i;

    for (i = 0; i < text.len; i++) {
        size_t left = text.len - i;

        if (at[i] < 0x20 || at[i] == 0x7f) {
            return false;
        }
        if (at[i] == 0xc2 && left > 1 && at[i + 1] < 0xa0) {
            return false; /* C1 controls, next line */
        }
        if (at[i] == 0xe2 && left > 2 && at[i + 1] == 0x80 &&
            (at[i + 2] == 0xa8 || at[i + 2] == 0xa9)) {
            return false; /* line and paragraph separators */
        }
        if (at[i] == 0xef && left > 2 &&
            ((at[i + 1] == 0xbb && at[i + 2] == 0xbf) ||
             (at[i + 1] == 0xbf && at[i + 2] >= 0xbe))) {
            return false; /* byte order mark, non-characters */
        }
    }
    return true;
}

static bool is_null_text(struct base_str text)
{
    return text.len == 0 || base_str_eq(text, BASE_STR("~")) ||
           base_str_eq(text, BASE_STR("null")) ||
           base_str_eq(text, BASE_STR("Null")) ||
           base_str_eq(text, BASE_STR("NULL"));
}

static enum base_code copy_text(struct reader *reader,
                                const yaml_event_t *event,
                                struct base_str *ret)
{
    struct base_str text = {(const char *)event->data.scalar.value,
                            event->data.scalar.length};

    if (!is_one_line(text)) {
        return fail_at(reader, BASE_BAD_INPUT, event->start_mark.line,
                       "a text with a line break, NUL or control character");
    }
    *ret = base_arena_str(reader->arena, text);
    if (ret->ptr == NULL) {
        return fail_memory(reader);
    }
    return BASE_OK;
}

/* What no node may carry. */
static enum base_code check_extras(const struct reader *reader,
                                   const yaml_event_t *event,
                                   const yaml_char_t *anchor,
                                   const yaml_char_t *tag)
{
    size_t line = event->start_mark.line;

    if (anchor != NULL) {
        return fail_at(reader, BASE_BAD_INPUT, line, "anchors are not allowed");
    }
    if (tag != NULL) {
        return fail_at(reader, BASE_BAD_INPUT, line, "tags are not allowed");
    }
    return BASE_OK;
}

static enum base_code read_node(struct reader *reader,
                                const yaml_event_t *event,
                                uint32_t depth,
                                struct base_yaml_node **ret);

static enum base_code read_text(struct reader *reader,
                                const yaml_event_t *event,
                                struct base_yaml_node *node)
{
    BASE_TRY(check_extras(reader, event, event->data.scalar.anchor,
                          event->data.scalar.tag));
    BASE_TRY(copy_text(reader, event, &node->text));
    node->is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    node->kind = node->is_plain && is_null_text(node->text) ? BASE_YAML_NULL
                                                            : BASE_YAML_TEXT;
    return BASE_OK;
}

static enum base_code check_children(const struct reader *reader,
                                     const yaml_event_t *event,
                                     uint32_t depth)
{
    if (depth >= BASE_YAML_MAX_DEPTH) {
        return fail_at(reader, BASE_LIMIT, event->start_mark.line,
                       "nested deeper than 8 levels");
    }
    return BASE_OK;
}

static enum base_code read_list(struct reader *reader,
                                const yaml_event_t *event,
                                uint32_t depth,
                                struct base_yaml_node *node)
{
    struct base_yaml_node **tail = &node->children;

    BASE_TRY(check_extras(reader, event, event->data.sequence_start.anchor,
                          event->data.sequence_start.tag));
    BASE_TRY(check_children(reader, event, depth));
    node->kind = BASE_YAML_LIST;
    for (;;) {
        AUTO_EVENT item = {0};

        BASE_TRY(next_event(reader, &item));
        if (item.type == YAML_SEQUENCE_END_EVENT) {
            return BASE_OK;
        }
        BASE_TRY(read_node(reader, &item, depth + 1, tail));
        tail = &(*tail)->next;
        node->n_children++;
    }
}

/* Read a key, which must be new in @map. */
static enum base_code read_key(struct reader *reader,
                               const yaml_event_t *event,
                               const struct base_yaml_node *map,
                               struct base_str *ret)
{
    const struct base_yaml_node *entry;

    if (event->type == YAML_ALIAS_EVENT) {
        return fail_at(reader, BASE_BAD_INPUT, event->start_mark.line,
                       "aliases are not allowed (write a glob in quotes)");
    }
    if (event->type != YAML_SCALAR_EVENT) {
        return fail_at(reader, BASE_BAD_INPUT, event->start_mark.line,
                       "a key must be a text");
    }
    BASE_TRY(check_extras(reader, event, event->data.scalar.anchor,
                          event->data.scalar.tag));
    BASE_TRY(copy_text(reader, event, ret));
    if (map->n_children >= BASE_YAML_MAX_KEYS) {
        return fail_at(reader, BASE_LIMIT, event->start_mark.line,
                       "more than 256 keys in one mapping");
    }
    for (entry = map->children; entry != NULL; entry = entry->next) {
        if (base_str_eq(entry->key, *ret)) {
            return base_fail(reader->err, BASE_BAD_INPUT,
                             "%.*s:%zu: %.*s: this key is there twice (see "
                             "line %u)",
                             BASE_YAML_MAX_ORIGIN, reader->origin,
                             event->start_mark.line + 1, BASE_STR_FMT(*ret),
                             entry->line);
        }
    }
    return BASE_OK;
}

static enum base_code read_map(struct reader *reader,
                               const yaml_event_t *event,
                               uint32_t depth,
                               struct base_yaml_node *node)
{
    struct base_yaml_node **tail = &node->children;

    BASE_TRY(check_extras(reader, event, event->data.mapping_start.anchor,
                          event->data.mapping_start.tag));
    BASE_TRY(check_children(reader, event, depth));
    node->kind = BASE_YAML_MAP;
    for (;;) {
        AUTO_EVENT key = {0};
        AUTO_EVENT value = {0};
        struct base_str text;

        BASE_TRY(next_event(reader, &key));
        if (key.type == YAML_MAPPING_END_EVENT) {
            return BASE_OK;
        }
        BASE_TRY(read_key(reader, &key, node, &text));
        BASE_TRY(next_event(reader, &value));
        BASE_TRY(read_node(reader, &value, depth + 1, tail));
        (*tail)->key = text;
        (*tail)->line = (uint32_t)key.start_mark.line + 1;
        tail = &(*tail)->next;
        node->n_children++;
    }
}

/* Read the node that begins with @event; *ret is set on success only. */
static enum base_code read_node(struct reader *reader,
                                const yaml_event_t *event,
                                uint32_t depth,
                                struct base_yaml_node **ret)
{
    struct base_yaml_node *node;
    size_t line = event->start_mark.line;

    if (++reader->n_nodes > BASE_YAML_MAX_NODES) {
        return fail_at(reader, BASE_LIMIT, line, "more than 600000 values");
    }
    node = base_arena_alloc(reader->arena, 1, sizeof(*node));
    if (node == NULL) {
        return fail_memory(reader);
    }
    node->line = (uint32_t)line + 1;
    if (event->type == YAML_SCALAR_EVENT) {
        BASE_TRY(read_text(reader, event, node));
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        BASE_TRY(read_list(reader, event, depth, node));
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        BASE_TRY(read_map(reader, event, depth, node));
    } else {
        return fail_at(reader, BASE_BAD_INPUT, line,
                       "aliases are not allowed (write a glob in quotes)");
    }
    *ret = node;
    return BASE_OK;
}

/* The one document between the start and the end of the stream. */
static enum base_code read_stream(struct reader *reader,
                                  struct base_yaml_node **ret)
{
    AUTO_EVENT stream = {0};
    AUTO_EVENT start = {0};
    AUTO_EVENT first = {0};
    AUTO_EVENT end = {0};
    AUTO_EVENT after = {0};

    BASE_TRY(next_event(reader, &stream));
    BASE_TRY(next_event(reader, &start));
    if (start.type == YAML_STREAM_END_EVENT) {
        *ret = base_arena_alloc(reader->arena, 1, sizeof(**ret));
        if (*ret == NULL) {
            return fail_memory(reader);
        }
        **ret = (struct base_yaml_node){.line = 1, .text = BASE_STR("")};
        return BASE_OK;
    }
    if (start.data.document_start.version_directive != NULL ||
        start.data.document_start.tag_directives.start !=
            start.data.document_start.tag_directives.end) {
        return fail_at(reader, BASE_BAD_INPUT, start.start_mark.line,
                       "directives are not allowed");
    }
    BASE_TRY(next_event(reader, &first));
    BASE_TRY(read_node(reader, &first, 0, ret));
    BASE_TRY(next_event(reader, &end));
    BASE_TRY(next_event(reader, &after));
    if (after.type != YAML_STREAM_END_EVENT) {
        return fail_at(reader, BASE_BAD_INPUT, after.start_mark.line,
                       "a second document");
    }
    return BASE_OK;
}

static size_t line_of(struct base_str text, const char *at)
{
    size_t line = 0;
    const char *c;

    for (c = text.ptr; c < at; c++) {
        line += *c == '\n';
    }
    return line;
}

enum base_code base_yaml_parse(struct base_str text,
                               const char *origin,
                               struct base_arena *arena,
                               const struct base_yaml_node **ret_root,
                               struct base_err *err)
{
    struct reader reader = {.origin = origin, .arena = arena, .err = err};
    struct base_yaml_node *root = NULL;
    const char *nul = text.len == 0 ? NULL : memchr(text.ptr, 0, text.len);
    enum base_code code;

    if (nul != NULL) {
        return fail_at(&reader, BASE_BAD_INPUT, line_of(text, nul),
                       "a NUL byte");
    }
    if (!base_str_is_utf8(text)) {
        return fail_at(&reader, BASE_BAD_INPUT, 0, "the text is not UTF-8");
    }
    if (yaml_parser_initialize(&reader.parser) == 0) {
        return base_fail(err, BASE_NO_MEM, "cannot parse YAML");
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(
        &reader.parser, (const unsigned char *)(text.len == 0 ? "" : text.ptr),
        text.len);
    code = read_stream(&reader, &root);
    yaml_parser_delete(&reader.parser);
    if (code == BASE_OK) {
        *ret_root = root;
    }
    return code;
}
