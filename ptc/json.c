#include "ptc/json.h"

#include <inttypes.h>

/* Weigh the values of @text and measure its depth, before anything is
 * allocated: brackets and separators outside of strings tell both. */
static enum base_code
prescan(struct base_str text, const char *origin, struct base_err *err)
{
    size_t weight = 1;
    size_t depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];

        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
            continue;
        }
        switch (c) {
        case '"':
            in_string = true;
            break;
        case '{':
            weight += 3;
            /* fall through */
        case '[':
            weight++;
            if (++depth > PTC_JSON_MAX_DEPTH) {
                return base_fail(err, BASE_BAD_INPUT,
                                 "%s: JSON is nested deeper than %u", origin,
                                 PTC_JSON_MAX_DEPTH);
            }
            break;
        case '}':
        case ']':
            depth -= depth > 0;
            break;
        case ',':
            weight++;
            break;
        default:
            break;
        }
    }
    if (weight > PTC_JSON_MAX_VALUES) {
        return base_fail(err, BASE_LIMIT, "%s: JSON has more than %u values",
                         origin, PTC_JSON_MAX_VALUES);
    }
    return BASE_OK;
}

static enum base_code
load_failed(const json_error_t *error, const char *origin, struct base_err *err)
{
    const char *text = error->text;

    if (text[0] == '\0' || json_error_code(error) == json_error_out_of_memory) {
        /* jansson leaves the text empty where it could not allocate */
        return base_fail(err, BASE_NO_MEM, "%s: out of memory", origin);
    }
    switch (json_error_code(error)) {
    case json_error_null_character:
    case json_error_null_byte_in_key:
        text = "a string has a NUL character (\\u0000)";
        break;
    default:
        break;
    }
    return base_fail(err, BASE_BAD_INPUT, "%s: JSON, line %d, column %d: %s",
                     origin, error->line, error->column, text);
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
        return load_failed(&error, origin, err);
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

static enum base_code expected(const char *key,
                               json_type type,
                               const json_t *value,
                               struct base_err *err)
{
    return base_fail(err, BASE_BAD_INPUT, "%.100s: expected %s, got %s", key,
                     type_text(type), type_text(json_typeof(value)));
}

enum base_code ptc_json_get(const json_t *object,
                            const char *key,
                            json_type type,
                            json_t **ret,
                            struct base_err *err)
{
    json_t *value = json_object_get(object, key);

    if (value == NULL) {
        return base_fail(err, BASE_BAD_INPUT, "%.100s: missing", key);
    }
    if (json_typeof(value) != type) {
        return expected(key, type, value, err);
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
    if (!json_is_integer(value)) {
        return expected(key, JSON_INTEGER, value, err);
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
