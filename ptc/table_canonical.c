/* A table's text, token by token.  What this takes for a table has the digest of
 * the text, or it is no result: so nothing here need be checked twice. */
#include "ptc/table_canonical.h"

#include <string.h>

#include "base/num.h"

struct scan {
    const char *at;
    const char *end;
};

/* Is this what comes next?  Then go behind it. */
static bool take(struct scan *scan, const char *what)
{
    size_t n = strlen(what);

    if ((size_t)(scan->end - scan->at) < n || memcmp(scan->at, what, n) != 0) {
        return false;
    }
    scan->at += n;
    return true;
}

/* A string without escapes. */
static bool take_str(struct scan *scan, struct base_str *ret)
{
    const char *begin = scan->at + 1;
    const char *quote;

    if (!take(scan, "\"")) {
        return false;
    }
    quote = memchr(begin, '"', (size_t)(scan->end - begin));
    if (quote == NULL || memchr(begin, '\\', (size_t)(quote - begin)) != NULL) {
        return false;
    }
    *ret = (struct base_str){begin, (size_t)(quote - begin)};
    scan->at = quote + 1;
    return true;
}

static bool take_number(struct scan *scan, uint64_t *ret)
{
    const char *begin = scan->at;

    while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9') {
        scan->at++;
    }
    return base_parse_u64((struct base_str){begin, (size_t)(scan->at - begin)},
                          ret);
}

static bool take_shape(struct scan *scan, uint64_t *shape, uint32_t *ret_n)
{
    uint32_t n = 0;

    if (take(scan, "]")) {
        *ret_n = 0;
        return true;
    }
    do {
        if (n == PTC_MAX_DIMS || !take_number(scan, &shape[n++])) {
            return false;
        }
    } while (take(scan, ","));
    *ret_n = n;
    return take(scan, "]");
}

/* *ret_is_one: false where the text is another. */
static enum base_code take_tensor(struct scan *scan,
                                  struct ptc_table_builder *builder,
                                  bool *ret_is_one,
                                  struct base_err *err)
{
    struct base_str name, group, dtype;
    uint64_t shape[PTC_MAX_DIMS];
    enum ptc_dtype type;
    uint32_t n_dims;

    *ret_is_one = take(scan, "{\"name\":") && take_str(scan, &name) &&
                  take(scan, ",\"group\":") && take_str(scan, &group) &&
                  take(scan, ",\"dtype\":") && take_str(scan, &dtype) &&
                  ptc_dtype_parse(dtype, &type) && take(scan, ",\"shape\":[") &&
                  take_shape(scan, shape, &n_dims) && take(scan, "}");
    return *ret_is_one
               ? ptc_table_add(builder, name, group, type, n_dims, shape, err)
               : BASE_OK;
}

static enum base_code take_tensors(struct scan *scan,
                                   struct ptc_table_builder *builder,
                                   bool *ret_is_one,
                                   struct base_err *err)
{
    *ret_is_one = true;
    if (take(scan, "]")) {
        return BASE_OK;
    }
    for (const char *separator = "\n"; take(scan, separator);
         separator = ",\n") {
        BASE_TRY(take_tensor(scan, builder, ret_is_one, err));
        if (!*ret_is_one) {
            return BASE_OK;
        }
    }
    *ret_is_one = take(scan, "]");
    return BASE_OK;
}

/* "KEY": "VALUE", ... up to a brace; ties or objects. */
static enum base_code take_pairs(struct scan *scan,
                                 struct ptc_table_builder *builder,
                                 bool are_ties,
                                 bool *ret_is_one,
                                 struct base_err *err)
{
    *ret_is_one = true;
    if (take(scan, "}")) {
        return BASE_OK;
    }
    do {
        struct base_str key, value;
        bool is_per_rank;

        *ret_is_one =
            take_str(scan, &key) && take(scan, ": ") && take_str(scan, &value);
        if (!*ret_is_one) {
            return BASE_OK;
        }
        if (are_ties) {
            BASE_TRY(ptc_table_add_tie(builder, key, value, err));
            continue;
        }
        is_per_rank = base_str_eq(value, BASE_STR("rank")); /* else "job" */
        BASE_TRY(ptc_table_add_object(builder, key, is_per_rank, err));
    } while (take(scan, ", "));
    *ret_is_one = take(scan, "}");
    return BASE_OK;
}

static enum base_code take_all(struct scan *scan,
                               struct ptc_table_builder *builder,
                               bool *ret_is_one,
                               struct base_err *err)
{
    *ret_is_one = take(scan, "{\"retile_table\": 1,\n \"tensors\": [");
    if (*ret_is_one) {
        BASE_TRY(take_tensors(scan, builder, ret_is_one, err));
    }
    *ret_is_one = *ret_is_one && take(scan, ",\n \"ties\": {");
    if (*ret_is_one) {
        BASE_TRY(take_pairs(scan, builder, true, ret_is_one, err));
    }
    *ret_is_one = *ret_is_one && take(scan, ",\n \"objects\": {");
    if (*ret_is_one) {
        BASE_TRY(take_pairs(scan, builder, false, ret_is_one, err));
    }
    *ret_is_one = *ret_is_one && take(scan, "}\n") && scan->at == scan->end;
    return BASE_OK;
}

enum base_code ptc_table_parse_canonical(struct base_str text,
                                         struct ptc_table **ret,
                                         struct base_err *err)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    BASE_AUTO(ptc_table) table = NULL;
    struct scan scan = {text.ptr, text.ptr + text.len};
    bool is_one = false;
    enum base_code rc;

    *ret = NULL;
    if (builder == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a tensor table");
    }
    rc = take_all(&scan, builder, &is_one, err);
    if (rc == BASE_OK && is_one) {
        rc = ptc_table_finish(builder, &table, err);
    }
    if (rc == BASE_NO_MEM) {
        return rc;
    }
    if (rc == BASE_OK && is_one &&
        base_digest_eq(ptc_table_digest(table),
                       base_digest_of(text.ptr, text.len))) {
        *ret = base_steal(&table);
    }
    return BASE_OK;
}
