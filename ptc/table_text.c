/* The text form of a table: ptc_table_format and ptc_table_parse. */
#include <inttypes.h>

#include "base/num.h"
#include "ptc/json.h"
#include "ptc/table.h"
#include "ptc/table_canonical.h"

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

/* Parsing.  Errors name the part; ptc_table_parse knows the file. */

enum { KEY_NAME, KEY_GROUP, KEY_DTYPE, KEY_SHAPE, N_TENSOR_KEYS };
static const char *const tensor_keys[N_TENSOR_KEYS] = {
    [KEY_NAME] = "name",
    [KEY_GROUP] = "group",
    [KEY_DTYPE] = "dtype",
    [KEY_SHAPE] = "shape",
};

static enum base_code
read_dtype(const json_t *object, enum ptc_dtype *ret, struct base_err *err)
{
    struct base_str name;

    BASE_TRY(ptc_json_get_str(object, tensor_keys[KEY_DTYPE], &name, err));
    if (!ptc_dtype_parse(name, ret)) {
        return base_fail(err, BASE_BAD_INPUT, "dtype: unknown dtype '%.*s'",
                         (int)base_min_u64(name.len, 40), name.ptr);
    }
    return BASE_OK;
}

/* A tensor as it stands in the text. */
struct fields {
    struct base_str name;
    struct base_str group;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[PTC_MAX_DIMS];
};

static enum base_code
read_fields(const json_t *object, struct fields *ret, struct base_err *err)
{
    BASE_TRY(ptc_json_check_type(object, JSON_OBJECT, err));
    BASE_TRY(ptc_json_check_keys(object, tensor_keys, N_TENSOR_KEYS, err));
    BASE_TRY(ptc_json_get_str(object, tensor_keys[KEY_NAME], &ret->name, err));
    BASE_TRY(
        ptc_json_get_str(object, tensor_keys[KEY_GROUP], &ret->group, err));
    BASE_TRY(read_dtype(object, &ret->dtype, err));
    return ptc_json_get_u64s(object, tensor_keys[KEY_SHAPE], PTC_MAX_DIMS,
                             ret->shape, &ret->n_dims, err);
}

static enum base_code read_tensors(const json_t *array,
                                   struct ptc_table_builder *builder,
                                   struct base_err *err)
{
    size_t i;
    const json_t *item;

    json_array_foreach(array, i, item)
    {
        const json_t *name = json_object_get(item, tensor_keys[KEY_NAME]);
        struct fields f;
        enum base_code rc = read_fields(item, &f, err);

        if (rc != BASE_OK && json_is_string(name)) {
            return base_wrap(
                err, rc, "tensor '%.*s'",
                (int)base_min_u64(ptc_json_str(name).len, PTC_NAME_MAX),
                ptc_json_str(name).ptr);
        }
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "tensors: entry %zu", i);
        }
        BASE_TRY(ptc_table_add(builder, f.name, f.group, f.dtype, f.n_dims,
                               f.shape, err));
    }
    return BASE_OK;
}

static enum base_code read_ties(json_t *object,
                                struct ptc_table_builder *builder,
                                struct base_err *err)
{
    const char *key;
    size_t key_len;
    json_t *value;

    json_object_keylen_foreach(object, key, key_len, value)
    {
        enum base_code rc = ptc_json_check_type(value, JSON_STRING, err);

        if (rc != BASE_OK) {
            return base_wrap(err, rc, "tie '%.*s'",
                             (int)base_min_u64(key_len, PTC_NAME_MAX), key);
        }
        BASE_TRY(ptc_table_add_tie(builder, (struct base_str){key, key_len},
                                   ptc_json_str(value), err));
    }
    return BASE_OK;
}

static enum base_code read_objects(json_t *object,
                                   struct ptc_table_builder *builder,
                                   struct base_err *err)
{
    const char *key;
    size_t key_len;
    json_t *value;

    json_object_keylen_foreach(object, key, key_len, value)
    {
        struct base_str kind = {"", 0};
        bool is_per_rank;

        if (json_is_string(value)) {
            kind = ptc_json_str(value);
        }
        is_per_rank = base_str_eq(kind, BASE_STR("rank"));
        if (!is_per_rank && !base_str_eq(kind, BASE_STR("job"))) {
            return base_fail(err, BASE_BAD_INPUT,
                             "object '%.*s': expected \"rank\" or \"job\"",
                             (int)base_min_u64(key_len, PTC_NAME_MAX), key);
        }
        BASE_TRY(ptc_table_add_object(builder, (struct base_str){key, key_len},
                                      is_per_rank, err));
    }
    return BASE_OK;
}

enum { KEY_VERSION, KEY_TENSORS, KEY_TIES, KEY_OBJECTS, N_TABLE_KEYS };
static const char *const table_keys[N_TABLE_KEYS] = {
    [KEY_VERSION] = "retile_table",
    [KEY_TENSORS] = "tensors",
    [KEY_TIES] = "ties",
    [KEY_OBJECTS] = "objects",
};

/* The version first: what else a later one has is not for us to judge. */
static enum base_code check_head(const json_t *root, struct base_err *err)
{
    const char *key = table_keys[KEY_VERSION];
    uint64_t version;

    if (json_object_get(root, key) != NULL) {
        BASE_TRY(ptc_json_get_u64(root, key, &version, err));
        if (version != 1) {
            return base_fail(err, BASE_UNSUPPORTED,
                             "%s: version %" PRIu64 " is not known, only 1 is",
                             key, version);
        }
    }
    BASE_TRY(ptc_json_check_keys(root, table_keys, N_TABLE_KEYS, err));
    return ptc_json_get_u64(root, key, &version, err); /* is it there? */
}

/* ties or objects, which may be left out: *ret is NULL then. */
static enum base_code get_optional(const json_t *root,
                                   unsigned key,
                                   json_t **ret,
                                   struct base_err *err)
{
    *ret = NULL;
    return json_object_get(root, table_keys[key]) == NULL
               ? BASE_OK
               : ptc_json_get(root, table_keys[key], JSON_OBJECT, ret, err);
}

static enum base_code read_parts(const json_t *root,
                                 struct ptc_table_builder *builder,
                                 struct base_err *err)
{
    json_t *tensors;
    json_t *ties;
    json_t *objects;
    enum base_code rc;

    BASE_TRY(check_head(root, err));
    BASE_TRY(
        ptc_json_get(root, table_keys[KEY_TENSORS], JSON_ARRAY, &tensors, err));
    BASE_TRY(get_optional(root, KEY_TIES, &ties, err));
    BASE_TRY(get_optional(root, KEY_OBJECTS, &objects, err));
    BASE_TRY(read_tensors(tensors, builder, err)); /* names the tensor itself */
    rc = read_ties(ties, builder, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s", table_keys[KEY_TIES]);
    }
    rc = read_objects(objects, builder, err);
    return rc == BASE_OK ? rc
                         : base_wrap(err, rc, "%s", table_keys[KEY_OBJECTS]);
}

static enum base_code read_text(struct base_str text,
                                const char *origin,
                                struct ptc_table_builder *builder,
                                struct base_err *err)
{
    PTC_JSON_AUTO root = NULL;
    enum base_code rc;

    BASE_TRY(ptc_json_load(text, origin, &root, err));
    rc = read_parts(root, builder, err);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", origin);
}

enum base_code ptc_table_parse(struct base_str text,
                               const char *origin,
                               struct ptc_table **ret,
                               struct base_err *err)
{
    BASE_AUTO(ptc_table_builder) builder = NULL;
    struct ptc_table *table = NULL;
    enum base_code rc;

    /* What Retile itself wrote needs no document: many times as fast. */
    rc = ptc_table_parse_canonical(text, &table, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s", origin);
    }
    if (table != NULL) {
        *ret = table;
        return BASE_OK;
    }
    builder = ptc_table_builder_create();
    if (builder == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot allocate a tensor table",
                         origin);
    }
    BASE_TRY(read_text(text, origin, builder, err)); /* its tree is freed */
    rc = ptc_table_finish(builder, ret, err);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", origin);
}
