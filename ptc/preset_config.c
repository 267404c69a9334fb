/* What a preset takes out of a model's config.json.  Keys that it does not
 * know are the model's business; those it knows must have the right type. */
#include <inttypes.h>

#include "ptc/json.h"
#include "ptc/preset_rules.h"

#define MAX_CONFIG_BYTES ((size_t)4 << 20)
#define MAX_SIZE         (INT64_C(1) << 31)

/* Model families have more than one word for the same thing. */
static const struct {
    const char *key;
    size_t offset;
} sizes[] = {
#define SIZE(key, field)                                                       \
    {                                                                          \
        key, offsetof(struct ptc_preset_config, field)                         \
    }
    SIZE("hidden_size", hidden),        SIZE("n_embd", hidden),
    SIZE("num_attention_heads", heads), SIZE("n_head", heads),
    SIZE("num_key_value_heads", kv),    SIZE("num_query_groups", kv),
    SIZE("head_dim", head_dim),         SIZE("kv_channels", head_dim),
    SIZE("intermediate_size", ffn),     SIZE("ffn_hidden_size", ffn),
#undef SIZE
};

static enum base_code
read_sizes(struct ptc_preset *preset, const json_t *object, const char *origin)
{
    size_t i;

    for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const json_t *value = json_object_get(object, sizes[i].key);
        char *field = (char *)&preset->config + sizes[i].offset;
        uint64_t size;

        if (value == NULL || json_is_null(value)) {
            continue;
        }
        if (!json_is_integer(value) || json_integer_value(value) < 1 ||
            json_integer_value(value) > MAX_SIZE) {
            return base_fail(preset->err, BASE_BAD_INPUT,
                             "%s: %s: expected an integer from 1 to %" PRId64,
                             origin, sizes[i].key, MAX_SIZE);
        }
        size = (uint64_t)json_integer_value(value);
        memcpy(field, &size, sizeof(size));
    }
    return BASE_OK;
}

static enum base_code
read_tied(struct ptc_preset *preset, const json_t *object, const char *origin)
{
    const json_t *value = json_object_get(object, "tie_word_embeddings");

    if (value == NULL || json_is_null(value)) {
        return BASE_OK;
    }
    if (!json_is_boolean(value)) {
        return base_fail(preset->err, BASE_BAD_INPUT,
                         "%s: tie_word_embeddings: expected true or false",
                         origin);
    }
    preset->config.has_tied = true;
    preset->config.is_tied = json_is_true(value);
    return BASE_OK;
}

static enum base_code fail_architecture(const struct ptc_preset *preset,
                                        const char *origin,
                                        const char *key,
                                        struct base_str found)
{
    return base_fail(preset->err, BASE_BAD_INPUT,
                     "%s: %s: '%.*s' is not an architecture of the preset %s",
                     origin, key, BASE_STR_FMT(found),
                     preset->family->info.name);
}

static enum base_code check_model_type(const struct ptc_preset *preset,
                                       const json_t *type,
                                       const char *origin)
{
    const char *const *known = preset->family->model_types;

    if (!json_is_string(type)) {
        return base_fail(preset->err, BASE_BAD_INPUT,
                         "%s: model_type: expected a string", origin);
    }
    for (; *known != NULL; known++) {
        if (base_str_eq(ptc_json_str(type), base_str_of(*known))) {
            return BASE_OK;
        }
    }
    return fail_architecture(preset, origin, "model_type", ptc_json_str(type));
}

static enum base_code check_classes(const struct ptc_preset *preset,
                                    const json_t *classes,
                                    const char *origin)
{
    const json_t *first = json_array_get(classes, 0);
    const char *const *known = preset->family->classes;

    if (!json_is_array(classes) ||
        (json_array_size(classes) > 0 && !json_is_string(first))) {
        return base_fail(preset->err, BASE_BAD_INPUT,
                         "%s: architectures: expected a list of strings",
                         origin);
    }
    if (first == NULL) {
        return BASE_OK;
    }
    for (; *known != NULL; known++) {
        if (base_str_starts(ptc_json_str(first), base_str_of(*known))) {
            return BASE_OK;
        }
    }
    return fail_architecture(preset, origin, "architectures",
                             ptc_json_str(first));
}

enum base_code ptc_preset_read_config(struct ptc_preset *preset,
                                      struct base_str text,
                                      const char *origin)
{
    PTC_JSON_AUTO object = NULL;
    const json_t *type;
    const json_t *classes;

    if (text.len > MAX_CONFIG_BYTES) {
        return base_fail(preset->err, BASE_LIMIT,
                         "%s: %zu bytes, more than %zu", origin, text.len,
                         MAX_CONFIG_BYTES);
    }
    BASE_TRY(ptc_json_load(text, origin, &object, preset->err));
    type = json_object_get(object, "model_type");
    classes = json_object_get(object, "architectures");
    if (preset->family->model_types != NULL) {
        if (type != NULL && !json_is_null(type)) {
            BASE_TRY(check_model_type(preset, type, origin));
        }
        if (classes != NULL && !json_is_null(classes)) {
            BASE_TRY(check_classes(preset, classes, origin));
        }
    }
    BASE_TRY(read_sizes(preset, object, origin));
    BASE_TRY(read_tied(preset, object, origin));
    preset->config.is_read = true;
    return BASE_OK;
}
