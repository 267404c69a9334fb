/* The text form of a table: ptc_table_format and ptc_table_parse. */
#include <inttypes.h>

#include "base/num.h"
#include "ptc/json_reader.h"
#include "ptc/table.h"

#define ARENA_MAX_BYTES (UINT64_C(4) << 30)

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

struct fields {
    struct base_str name; /* NULL until it was read */
    struct base_str group;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[PTC_MAX_DIMS];
};

static enum base_code
read_dtype(struct ptc_json_reader *r, enum ptc_dtype *ret, struct base_err *err)
{
    struct base_str name;

    BASE_TRY(ptc_json_read_str(r, &name, err));
    if (!ptc_dtype_parse(name, ret)) {
        return base_fail(err, BASE_BAD_INPUT, "unknown dtype '%.*s'",
                         (int)base_min_u64(name.len, 40), name.ptr);
    }
    return BASE_OK;
}

static enum base_code read_field(struct ptc_json_reader *r,
                                 unsigned key,
                                 struct fields *ret,
                                 struct base_err *err)
{
    enum base_code rc = BASE_OK;

    switch (key) {
    case KEY_NAME:
        rc = ptc_json_read_str(r, &ret->name, err);
        break;
    case KEY_GROUP:
        rc = ptc_json_read_str(r, &ret->group, err);
        break;
    case KEY_DTYPE:
        rc = read_dtype(r, &ret->dtype, err);
        break;
    default:
        rc = ptc_json_read_u64s(r, PTC_MAX_DIMS, ret->shape, &ret->n_dims, err);
        break;
    }
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", tensor_keys[key]);
}

static enum base_code
read_fields(struct ptc_json_reader *r, struct fields *ret, struct base_err *err)
{
    uint32_t seen = 0;
    unsigned key;

    BASE_TRY(ptc_json_read_enter(r, '{', err));
    for (;;) {
        BASE_TRY(ptc_json_read_field(r, tensor_keys, N_TENSOR_KEYS, &seen, &key,
                                     err));
        if (key == N_TENSOR_KEYS) {
            break;
        }
        BASE_TRY(read_field(r, key, ret, err));
    }
    for (key = 0; key < N_TENSOR_KEYS; key++) {
        if ((seen & UINT32_C(1) << key) == 0) {
            return base_fail(err, BASE_BAD_INPUT, "%s: missing",
                             tensor_keys[key]);
        }
    }
    return BASE_OK;
}

static enum base_code read_tensors(struct ptc_json_reader *r,
                                   struct ptc_table_builder *builder,
                                   struct base_err *err)
{
    BASE_TRY(ptc_json_read_enter(r, '[', err));
    for (size_t i = 0;; i++) {
        struct fields f = {.name = {NULL, 0}};
        bool has_item;
        enum base_code rc;

        BASE_TRY(ptc_json_read_item(r, &has_item, err));
        if (!has_item) {
            return BASE_OK;
        }
        rc = read_fields(r, &f, err);
        if (rc != BASE_OK && f.name.ptr != NULL) {
            return base_wrap(err, rc, "tensor '%.*s'",
                             (int)base_min_u64(f.name.len, PTC_NAME_MAX),
                             f.name.ptr);
        }
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "tensors: entry %zu", i);
        }
        BASE_TRY(ptc_table_add(builder, f.name, f.group, f.dtype, f.n_dims,
                               f.shape, err));
    }
}

static enum base_code read_ties(struct ptc_json_reader *r,
                                struct ptc_table_builder *builder,
                                struct base_err *err)
{
    BASE_TRY(ptc_json_read_enter(r, '{', err));
    for (;;) {
        struct base_str name;
        struct base_str target;
        bool has_key;

        BASE_TRY(ptc_json_read_key(r, &has_key, &name, err));
        if (!has_key) {
            return BASE_OK;
        }
        BASE_TRY(ptc_json_read_str(r, &target, err));
        BASE_TRY(ptc_table_add_tie(builder, name, target, err));
    }
}

static enum base_code read_objects(struct ptc_json_reader *r,
                                   struct ptc_table_builder *builder,
                                   struct base_err *err)
{
    BASE_TRY(ptc_json_read_enter(r, '{', err));
    for (;;) {
        struct base_str name;
        struct base_str kind;
        bool is_per_rank;
        bool has_key;

        BASE_TRY(ptc_json_read_key(r, &has_key, &name, err));
        if (!has_key) {
            return BASE_OK;
        }
        BASE_TRY(ptc_json_read_str(r, &kind, err));
        is_per_rank = base_str_eq(kind, BASE_STR("rank"));
        if (!is_per_rank && !base_str_eq(kind, BASE_STR("job"))) {
            return base_fail(err, BASE_BAD_INPUT,
                             "object '%.*s': expected \"rank\" or \"job\"",
                             (int)base_min_u64(name.len, PTC_NAME_MAX),
                             name.ptr);
        }
        BASE_TRY(ptc_table_add_object(builder, name, is_per_rank, err));
    }
}

enum { KEY_VERSION, KEY_TENSORS, KEY_TIES, KEY_OBJECTS, N_TABLE_KEYS };
static const char *const table_keys[N_TABLE_KEYS] = {
    [KEY_VERSION] = "retile_table",
    [KEY_TENSORS] = "tensors",
    [KEY_TIES] = "ties",
    [KEY_OBJECTS] = "objects",
};

static enum base_code read_version(struct ptc_json_reader *r,
                                   struct base_err *err)
{
    uint64_t version;

    BASE_TRY(ptc_json_read_u64(r, &version, err));
    if (version != 1) {
        return base_fail(err, BASE_UNSUPPORTED,
                         "version %" PRIu64 " is not known, only 1 is",
                         version);
    }
    return BASE_OK;
}

static enum base_code read_part(struct ptc_json_reader *r,
                                unsigned key,
                                struct ptc_table_builder *builder,
                                struct base_err *err)
{
    enum base_code rc;

    switch (key) {
    case KEY_VERSION:
        rc = read_version(r, err);
        break;
    case KEY_TENSORS:
        return read_tensors(r, builder, err); /* names the tensor itself */
    case KEY_TIES:
        rc = read_ties(r, builder, err);
        break;
    default:
        rc = read_objects(r, builder, err);
        break;
    }
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", table_keys[key]);
}

static enum base_code read_table(struct ptc_json_reader *r,
                                 struct ptc_table **ret,
                                 struct base_err *err)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    uint32_t seen = 0;
    unsigned key;

    if (builder == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a tensor table");
    }
    BASE_TRY(ptc_json_read_enter(r, '{', err));
    for (;;) {
        BASE_TRY(
            ptc_json_read_field(r, table_keys, N_TABLE_KEYS, &seen, &key, err));
        if (key == N_TABLE_KEYS) {
            break;
        }
        BASE_TRY(read_part(r, key, builder, err));
    }
    for (key = 0; key <= KEY_TENSORS; key++) { /* the others may be left out */
        if ((seen & UINT32_C(1) << key) == 0) {
            return base_fail(err, BASE_BAD_INPUT, "%s: missing",
                             table_keys[key]);
        }
    }
    BASE_TRY(ptc_json_read_end(r, err));
    return ptc_table_finish(builder, ret, err);
}

enum base_code ptc_table_parse(struct base_str text,
                               const char *origin,
                               struct ptc_table **ret,
                               struct base_err *err)
{
    BASE_AUTO(base_arena) arena = base_arena_create(ARENA_MAX_BYTES);
    struct ptc_json_reader r;
    enum base_code rc;

    if (arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot allocate a tensor table",
                         origin);
    }
    rc = ptc_json_reader_init(&r, text, arena, err);
    if (rc == BASE_OK) {
        rc = read_table(&r, ret, err);
    }
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", origin);
}
