#include "ptc/json.h"

#include <assert.h>
#include <inttypes.h>

#include "base/num.h"

/* What jansson 2.14 takes for each, in bytes of the heap and rounded up;
 * a string's bytes come on top. */
enum {
    OBJECT_BYTES = 224, /* itself and a table for 8 keys */
    ARRAY_BYTES = 128,  /* itself and room for 8 values */
    STRING_BYTES = 80,  /* a value, or a key in its table */
    NUMBER_BYTES = 32,
    KEY_BYTES = 48,  /* the table's slots, while they are doubled */
    ITEM_BYTES = 24, /* the array's slots, while they are doubled */
};

enum { N_SCAN_KEYS = 3 };

/* What brackets, separators and strings tell about a text without parsing it;
 * of a text that is no JSON, at least up to where it is none. */
struct scan {
    uint64_t tree_bytes;
    unsigned depth;
    struct base_str last;              /* string, as it stands in its quotes */
    struct base_str keys[N_SCAN_KEYS]; /* [d]: our place in depth d's object */
};

/* The end of the string that begins at @at, behind its quote. */
static size_t string_end(struct base_str text, size_t at)
{
    while (at < text.len && text.ptr[at] != '"') {
        at += text.ptr[at] == '\\' ? 2 : 1;
    }
    return at < text.len ? at : text.len;
}

static size_t number_end(struct base_str text, size_t at)
{
    while (at < text.len && text.ptr[at] != '\0' &&
           strchr("0123456789.+-eE", text.ptr[at]) != NULL) {
        at++;
    }
    return at;
}

/* What is at one place of the text; returns where the next thing is. */
static size_t scan_one(struct scan *s, struct base_str text, size_t at)
{
    size_t end = at + 1;

    switch (text.ptr[at]) {
    case '"':
        end = string_end(text, at + 1);
        s->last = (struct base_str){text.ptr + at + 1, end - at - 1};
        s->tree_bytes += STRING_BYTES + s->last.len;
        return end + 1;
    case '{':
    case '[':
        s->tree_bytes += text.ptr[at] == '{' ? OBJECT_BYTES : ARRAY_BYTES;
        s->depth++;
        break;
    case '}':
    case ']':
        s->depth -= s->depth > 0;
        return end;
    case ':':
        s->tree_bytes += KEY_BYTES;
        if (s->depth < N_SCAN_KEYS) {
            s->keys[s->depth] = s->last;
        }
        return end;
    case ',':
        s->tree_bytes += ITEM_BYTES;
        break;
    case '-':
    case '0' ... '9':
        s->tree_bytes += NUMBER_BYTES;
        return number_end(text, end);
    default:
        return end;
    }
    if (s->depth < N_SCAN_KEYS) { /* an item begins */
        s->keys[s->depth] = (struct base_str){NULL, 0};
    }
    return end;
}

static void scan(struct scan *s, struct base_str text)
{
    for (size_t at = 0; at < text.len && s->depth <= PTC_JSON_MAX_DEPTH;) {
        at = scan_one(s, text, at);
    }
}

static enum base_code
prescan(struct base_str text, const char *origin, struct base_err *err)
{
    struct scan s = {0};

    scan(&s, text);
    if (s.depth > PTC_JSON_MAX_DEPTH) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: JSON is nested deeper than %u", origin,
                         PTC_JSON_MAX_DEPTH);
    }
    if (s.tree_bytes > (uint64_t)PTC_JSON_MAX_TREE_MIB << 20) {
        return base_fail(err, BASE_LIMIT,
                         "%s: JSON with values of %" PRIu64
                         " MiB, at most %u are supported",
                         origin, s.tree_bytes >> 20, PTC_JSON_MAX_TREE_MIB);
    }
    return BASE_OK;
}

/* Why the text could not be loaded.  @last is the string in front. */
static enum base_code
say_why(const json_error_t *error, struct base_str last, struct base_err *err)
{
    const char *text = error->text;
    PTC_JSON_AUTO key = NULL;

    switch (json_error_code(error)) {
    case json_error_duplicate_key:
        assert(last.ptr != NULL);
        /* jansson tells only a short one; decoded, quotes included */
        key = json_loadb(last.ptr - 1, last.len + 2, JSON_DECODE_ANY, NULL);
        last = key != NULL ? ptc_json_str(key) : last;
        return base_fail(err, BASE_BAD_INPUT, "key '%.*s' twice",
                         (int)base_min_u64(last.len, 100), last.ptr);
    case json_error_null_character:
    case json_error_null_byte_in_key:
        text = "a string has a NUL character (\\u0000)";
        break;
    default:
        break;
    }
    return base_fail(err, BASE_BAD_INPUT, "%s", text);
}

static enum base_code load_failed(struct base_str text,
                                  const json_error_t *error,
                                  const char *origin,
                                  struct base_err *err)
{
    struct scan s = {0};
    enum base_code rc;

    if (error->text[0] == '\0' ||
        json_error_code(error) == json_error_out_of_memory) {
        /* jansson leaves the text empty where it could not allocate */
        return base_fail(err, BASE_NO_MEM, "%s: out of memory", origin);
    }
    if (error->position >= 0 && (size_t)error->position < text.len) {
        text.len = (size_t)error->position;
    }
    scan(&s, text);
    rc = say_why(error, s.last, err);
    for (size_t d = N_SCAN_KEYS; d-- > 1;) {
        struct base_str key = s.keys[d];

        if (d <= s.depth && key.ptr != NULL) {
            rc = base_wrap(err, rc, "'%.*s'", (int)base_min_u64(key.len, 100),
                           key.ptr);
        }
    }
    return base_wrap(err, rc, "%s: JSON, line %d, column %d", origin,
                     error->line, error->column);
}

enum base_code ptc_json_load(struct base_str text,
                             const char *origin,
                             json_t **ret,
                             struct base_err *err)
{
    json_error_t error;
    json_t *root;

    if (!base_str_is_utf8(text)) {
        return base_fail(err, BASE_BAD_INPUT, "%s: JSON is not UTF-8", origin);
    }
    BASE_TRY(prescan(text, origin, err));
    if (text.len == 0) { /* jansson wants a pointer */
        text = BASE_STR(" ");
    }
    root = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        return load_failed(text, &error, origin, err);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return base_fail(err, BASE_BAD_INPUT, "%s: JSON is not an object",
                         origin);
    }
    *ret = root;
    return BASE_OK;
}

struct base_str ptc_json_str(const json_t *string)
{
    return (struct base_str){json_string_value(string),
                             json_string_length(string)};
}

enum base_code ptc_json_check_keys(const json_t *object,
                                   const char *const *known,
                                   size_t n_known,
                                   struct base_err *err)
{
    const char *key;
    json_t *value;

    /* jansson's iterator takes a pointer that is not const, but reads only */
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        const char *near;
        size_t i;

        (void)value;
        for (i = 0; i < n_known && strcmp(key, known[i]) != 0; i++) {
        }
        if (i < n_known) {
            continue;
        }
        near = base_str_nearest(base_str_of(key), known, n_known);
        if (near != NULL) {
            return base_fail(err, BASE_BAD_INPUT,
                             "unknown key '%.100s'; did you mean '%s'?", key,
                             near);
        }
        return base_fail(err, BASE_BAD_INPUT, "unknown key '%.100s'", key);
    }
    return BASE_OK;
}

static const char *type_text(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

enum base_code
ptc_json_check_type(const json_t *value, json_type type, struct base_err *err)
{
    if (json_typeof(value) == type) {
        return BASE_OK;
    }
    return base_fail(err, BASE_BAD_INPUT, "expected %s, got %s",
                     type_text(type), type_text(json_typeof(value)));
}

enum base_code ptc_json_get(const json_t *object,
                            const char *key,
                            json_type type,
                            json_t **ret,
                            struct base_err *err)
{
    json_t *value = json_object_get(object, key);
    enum base_code rc;

    if (value == NULL) {
        return base_fail(err, BASE_BAD_INPUT, "%.100s: missing", key);
    }
    rc = ptc_json_check_type(value, type, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%.100s", key);
    }
    *ret = value;
    return BASE_OK;
}

enum base_code ptc_json_get_str(const json_t *object,
                                const char *key,
                                struct base_str *ret,
                                struct base_err *err)
{
    json_t *value;

    BASE_TRY(ptc_json_get(object, key, JSON_STRING, &value, err));
    *ret = ptc_json_str(value);
    return BASE_OK;
}

static enum base_code u64_of(const json_t *value,
                             const char *key,
                             uint64_t *ret,
                             struct base_err *err)
{
    enum base_code rc = ptc_json_check_type(value, JSON_INTEGER, err);

    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%.100s", key);
    }
    if (json_integer_value(value) < 0) {
        return base_fail(err, BASE_BAD_INPUT, "%.100s: %lld is negative", key,
                         (long long)json_integer_value(value));
    }
    *ret = (uint64_t)json_integer_value(value);
    return BASE_OK;
}

enum base_code ptc_json_get_u64(const json_t *object,
                                const char *key,
                                uint64_t *ret,
                                struct base_err *err)
{
    json_t *value;

    BASE_TRY(ptc_json_get(object, key, JSON_INTEGER, &value, err));
    return u64_of(value, key, ret, err);
}

enum base_code ptc_json_get_u64s(const json_t *object,
                                 const char *key,
                                 uint32_t max,
                                 uint64_t *ret,
                                 uint32_t *ret_n,
                                 struct base_err *err)
{
    json_t *array;
    size_t n;

    BASE_TRY(ptc_json_get(object, key, JSON_ARRAY, &array, err));
    n = json_array_size(array);
    if (n > max) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%.100s: %zu numbers, at most %" PRIu32
                         " are supported",
                         key, n, max);
    }
    for (size_t i = 0; i < n; i++) {
        BASE_TRY(u64_of(json_array_get(array, i), key, &ret[i], err));
    }
    *ret_n = (uint32_t)n;
    return BASE_OK;
}
