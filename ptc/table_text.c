/* The text form of a table: ptc_table_format and ptc_table_parse. */
#include <inttypes.h>

#include "ptc/json.h"
#include "ptc/table.h"

static void format_tensor(const struct ptc_tensor *t, struct base_buf *buf)
{
    /* Failures stick to the buffer; the last call tells. */
    (void)base_buf_add_str(buf, BASE_STR("{\"name\":"));
    (void)base_buf_add_json(buf, t->name);
    (void)base_buf_add_str(buf, BASE_STR(",\"group\":"));
    (void)base_buf_add_json(buf, t->group);
    (void)base_buf_addf(buf, ",\"dtype\":\"%s\",\"shape\":[",
                        ptc_dtype_name(t->dtype));
    for (uint32_t d = 0; d < t->n_dims; d++) {
        (void)base_buf_addf(buf, "%s%" PRIu64, d == 0 ? "" : ",", t->shape[d]);
    }
    (void)base_buf_add_str(buf, BASE_STR("]}"));
}

enum base_code ptc_table_format(const struct ptc_table *table,
                                struct base_buf *buf,
                                struct base_err *err)
{
    const char *separator = "\n";

    (void)base_buf_addf(buf, "{\"retile_table\": 1,\n \"tensors\": [");
    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);

        if (t->tie == PTC_NONE) {
            (void)base_buf_add_str(buf, base_str_of(separator));
            format_tensor(t, buf);
            separator = ",\n";
        }
    }
    (void)base_buf_add_str(buf, BASE_STR("],\n \"ties\": {"));
    separator = "";
    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);

        if (t->tie != PTC_NONE) {
            (void)base_buf_add_str(buf, base_str_of(separator));
            (void)base_buf_add_json(buf, t->name);
            (void)base_buf_add_str(buf, BASE_STR(": "));
            (void)base_buf_add_json(buf, ptc_table_tensor(table, t->tie)->name);
            separator = ", ";
        }
    }
    (void)base_buf_add_str(buf, BASE_STR("},\n \"objects\": {"));
    for (uint32_t i = 0; i < ptc_table_n_objects(table); i++) {
        const struct ptc_object *object = ptc_table_object(table, i);

        (void)base_buf_add_str(buf, base_str_of(i == 0 ? "" : ", "));
        (void)base_buf_add_json(buf, object->name);
        (void)base_buf_addf(buf, ": \"%s\"",
                            object->is_per_rank ? "rank" : "job");
    }
    (void)base_buf_add_str(buf, BASE_STR("}}\n"));
    return base_buf_check(buf, err);
}

/* Parsing. */

static const char *const table_keys[] = {"retile_table", "tensors", "ties",
                                         "objects"};
static const char *const tensor_keys[] = {"name", "group", "dtype", "shape"};

/* The fields beside the name; an error names the field. */
struct fields {
    struct base_str group;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[PTC_MAX_DIMS];
};

static enum base_code
parse_fields(const json_t *object, struct fields *ret, struct base_err *err)
{
    struct base_str dtype;

    BASE_TRY(ptc_json_check_keys(object, tensor_keys,
                                 sizeof(tensor_keys) / sizeof(tensor_keys[0]),
                                 err));
    BASE_TRY(ptc_json_get_str(object, "group", &ret->group, err));
    BASE_TRY(ptc_json_get_str(object, "dtype", &dtype, err));
    if (!ptc_dtype_parse(dtype, &ret->dtype)) {
        return base_fail(err, BASE_BAD_INPUT, "dtype: unknown dtype '%.40s'",
                         dtype.ptr);
    }
    return ptc_json_get_u64s(object, "shape", PTC_MAX_DIMS, ret->shape,
                             &ret->n_dims, err);
}

static enum base_code parse_tensors(const json_t *array,
                                    struct ptc_table_builder *builder,
                                    struct base_err *err)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *object = json_array_get(array, i);
        struct fields f;
        struct base_str name;
        enum base_code rc;

        if (!json_is_object(object)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "tensors: entry %zu: expected an object", i);
        }
        rc = ptc_json_get_str(object, "name", &name, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "tensors: entry %zu", i);
        }
        rc = parse_fields(object, &f, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "tensor '%.240s'", name.ptr);
        }
        BASE_TRY(ptc_table_add(builder, name, f.group, f.dtype, f.n_dims,
                               f.shape, err));
    }
    return BASE_OK;
}

static enum base_code parse_ties(json_t *object,
                                 struct ptc_table_builder *builder,
                                 struct base_err *err)
{
    const char *key;
    size_t key_len;
    json_t *value;

    json_object_keylen_foreach(object, key, key_len, value)
    {
        if (!json_is_string(value)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "ties: '%.100s': expected a string", key);
        }
        BASE_TRY(ptc_table_add_tie(builder, (struct base_str){key, key_len},
                                   ptc_json_str(value), err));
    }
    return BASE_OK;
}

static enum base_code parse_objects(json_t *object,
                                    struct ptc_table_builder *builder,
                                    struct base_err *err)
{
    const char *key;
    size_t key_len;
    json_t *value;

    json_object_keylen_foreach(object, key, key_len, value)
    {
        struct base_str kind = {NULL, 0};
        bool is_per_rank;

        if (json_is_string(value)) {
            kind = ptc_json_str(value);
        }
        is_per_rank = base_str_eq(kind, BASE_STR("rank"));
        if (!is_per_rank && !base_str_eq(kind, BASE_STR("job"))) {
            return base_fail(err, BASE_BAD_INPUT,
                             "objects: '%.100s': expected \"rank\" or \"job\"",
                             key);
        }
        BASE_TRY(ptc_table_add_object(builder, (struct base_str){key, key_len},
                                      is_per_rank, err));
    }
    return BASE_OK;
}

static enum base_code
parse_root(const json_t *root, struct ptc_table **ret, struct base_err *err)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    json_t *part;
    uint64_t version;

    if (builder == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a tensor table");
    }
    BASE_TRY(ptc_json_get_u64(root, "retile_table", &version, err));
    if (version != 1) {
        return base_fail(err, BASE_UNSUPPORTED,
                         "retile_table: version %" PRIu64 ", not 1", version);
    }
    BASE_TRY(ptc_json_check_keys(
        root, table_keys, sizeof(table_keys) / sizeof(table_keys[0]), err));
    BASE_TRY(ptc_json_get(root, "tensors", JSON_ARRAY, &part, err));
    BASE_TRY(parse_tensors(part, builder, err));
    if (json_object_get(root, "ties") != NULL) {
        BASE_TRY(ptc_json_get(root, "ties", JSON_OBJECT, &part, err));
        BASE_TRY(parse_ties(part, builder, err));
    }
    if (json_object_get(root, "objects") != NULL) {
        BASE_TRY(ptc_json_get(root, "objects", JSON_OBJECT, &part, err));
        BASE_TRY(parse_objects(part, builder, err));
    }
    return ptc_table_finish(builder, ret, err);
}

enum base_code ptc_table_parse(struct base_str text,
                               const char *origin,
                               struct ptc_table **ret,
                               struct base_err *err)
{
    PTC_JSON_AUTO root = NULL;
    enum base_code rc;

    BASE_TRY(ptc_json_load(text, origin, &root, err));
    rc = parse_root(root, ret, err);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", origin);
}
