/* .npy headers.
 *
 * The header is a Python literal: a dict with exactly the keys descr,
 * fortran_order and shape.  A cursor reads just that much of Python: strings
 * without escapes, True, False, tuples of integers.
 *
 * Source: NumPy, doc/source/reference/generated/numpy.lib.format (the format's
 * description). */
#include "ptc/npy.h"

#include <inttypes.h>

#include "base/num.h"

#define MAGIC        "\x93NUMPY"
#define MAGIC_BYTES  6u
#define PREFIX_BYTES 10u /* of version 1.0: magic, version, u16 length */
#define NPY_ALIGN    4096u
#define MAX_DICT     65535u

enum base_code ptc_npy_header_write(enum ptc_dtype dtype,
                                    uint32_t n_dims,
                                    const uint64_t *shape,
                                    struct base_buf *buf,
                                    struct base_err *err)
{
    const char *descr = ptc_dtype_descr(dtype);
    size_t start = buf->len;
    size_t length = NPY_ALIGN - PREFIX_BYTES;

    if (descr[0] == '\0') {
        return base_fail(err, BASE_UNSUPPORTED,
                         "NumPy has no element of %u bits (%s)",
                         ptc_dtype_bits(dtype), ptc_dtype_name(dtype));
    }
    /* Failures stick to the buffer; the last call tells. */
    (void)base_buf_add(buf, MAGIC "\x01\x00", MAGIC_BYTES + 2);
    (void)base_buf_addf(buf, "%c%c", (int)(length & 0xff), (int)(length >> 8));
    (void)base_buf_addf(
        buf, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr);
    for (uint32_t d = 0; d < n_dims; d++) {
        (void)base_buf_addf(buf, "%s%" PRIu64, d == 0 ? "" : ", ", shape[d]);
    }
    (void)base_buf_addf(buf, "%s), }", n_dims == 1 ? "," : "");
    /* At most 8 dimensions of 20 digits: far below 4096. */
    (void)base_buf_addf(buf, "%*s\n", (int)(NPY_ALIGN - 1 - (buf->len - start)),
                        "");
    return base_buf_check(buf, err);
}

/* Where reading is; at == end is the end of the dict. */
struct cursor {
    const char *at;
    const char *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end &&
           (*c->at == ' ' || *c->at == '\t' || *c->at == '\n')) {
        c->at++;
    }
}

/* Skip space, then take @wanted if it comes next. */
static bool take(struct cursor *c, char wanted)
{
    skip_space(c);
    if (c->at == c->end || *c->at != wanted) {
        return false;
    }
    c->at++;
    return true;
}

static bool take_word(struct cursor *c, struct base_str word)
{
    skip_space(c);
    if (!base_str_starts((struct base_str){c->at, (size_t)(c->end - c->at)},
                         word)) {
        return false;
    }
    c->at += word.len;
    return true;
}

/* 'text' or "text", without backslashes. */
static bool take_string(struct cursor *c, struct base_str *ret)
{
    const char *begin;
    char quote;

    skip_space(c);
    if (c->at == c->end || (*c->at != '\'' && *c->at != '"')) {
        return false;
    }
    quote = *c->at++;
    begin = c->at;
    while (c->at < c->end && *c->at != quote && *c->at != '\\') {
        c->at++;
    }
    if (c->at == c->end || *c->at != quote) {
        return false;
    }
    *ret = (struct base_str){begin, (size_t)(c->at - begin)};
    c->at++;
    return true;
}

static bool take_u64(struct cursor *c, uint64_t *ret)
{
    const char *begin;

    skip_space(c);
    begin = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') {
        c->at++;
    }
    return base_parse_u64((struct base_str){begin, (size_t)(c->at - begin)},
                          ret);
}

/* "<f4": byte order, kind, size in bytes. */
static enum base_code check_descr(struct base_str descr,
                                  uint64_t *ret_item_bytes,
                                  struct base_err *err)
{
    char order = descr.len > 0 ? descr.ptr[0] : '\0';
    char kind = descr.len > 1 ? descr.ptr[1] : '\0';
    uint64_t n = 0;

    if (kind == 'O') {
        return base_fail(err, BASE_UNSUPPORTED,
                         "descr: '%.*s' is Python objects",
                         BASE_STR_FMT(descr));
    }
    if (order == '>') {
        return base_fail(err, BASE_UNSUPPORTED, "descr: '%.*s' is big endian",
                         BASE_STR_FMT(descr));
    }
    if ((order != '<' && order != '|') || descr.len > 6 || kind == '\0' ||
        strchr("biufcV", kind) == NULL ||
        !base_parse_u64((struct base_str){descr.ptr + 2, descr.len - 2}, &n) ||
        n == 0 || (order == '|' && n > 1 && kind != 'V')) {
        return base_fail(err, BASE_UNSUPPORTED,
                         "descr: '%.*s' is no plain number",
                         BASE_STR_FMT(descr));
    }
    *ret_item_bytes = n;
    return BASE_OK;
}

static enum base_code read_descr(struct cursor *c,
                                 struct ptc_npy_header *header,
                                 uint64_t *ret_item_bytes,
                                 struct base_err *err)
{
    struct base_str descr;

    if (take(c, '[')) {
        return base_fail(err, BASE_UNSUPPORTED, "descr: a structured dtype");
    }
    if (!take_string(c, &descr)) {
        return base_fail(err, BASE_BAD_INPUT, "descr: expected a string");
    }
    BASE_TRY(check_descr(descr, ret_item_bytes, err));
    memcpy(header->descr, descr.ptr, descr.len);
    header->descr[descr.len] = '\0';
    return BASE_OK;
}

static enum base_code read_order(struct cursor *c, struct base_err *err)
{
    if (take_word(c, BASE_STR("True"))) {
        return base_fail(err, BASE_UNSUPPORTED,
                         "fortran_order: only C order is supported");
    }
    if (!take_word(c, BASE_STR("False"))) {
        return base_fail(err, BASE_BAD_INPUT,
                         "fortran_order: expected True or False");
    }
    return BASE_OK;
}

/* (), (3,), (3, 4) or (3, 4,). */
static enum base_code read_shape(struct cursor *c,
                                 struct ptc_npy_header *header,
                                 struct base_err *err)
{
    bool has_comma = false;

    if (!take(c, '(')) {
        return base_fail(err, BASE_BAD_INPUT, "shape: expected a tuple");
    }
    header->n_dims = 0;
    while (!take(c, ')')) {
        if (header->n_dims > 0 && !has_comma) {
            return base_fail(err, BASE_BAD_INPUT, "shape: expected a ','");
        }
        if (header->n_dims == PTC_MAX_DIMS) {
            return base_fail(err, BASE_BAD_INPUT,
                             "shape: more than %d dimensions", PTC_MAX_DIMS);
        }
        if (!take_u64(c, &header->shape[header->n_dims])) {
            return base_fail(err, BASE_BAD_INPUT,
                             "shape: expected a number of 64 bits");
        }
        header->n_dims++;
        has_comma = take(c, ',');
    }
    if (header->n_dims == 1 && !has_comma) {
        return base_fail(err, BASE_BAD_INPUT,
                         "shape: expected a tuple, got a number");
    }
    return BASE_OK;
}

enum { KEY_DESCR = 1, KEY_ORDER = 2, KEY_SHAPE = 4, KEY_ALL = 7 };

/* The value of one key; its bit joins *seen. */
static enum base_code read_value(struct cursor *c,
                                 struct base_str key,
                                 struct ptc_npy_header *header,
                                 unsigned *seen,
                                 uint64_t *ret_item_bytes,
                                 struct base_err *err)
{
    unsigned bit;

    if (base_str_eq(key, BASE_STR("descr"))) {
        bit = KEY_DESCR;
    } else if (base_str_eq(key, BASE_STR("fortran_order"))) {
        bit = KEY_ORDER;
    } else if (base_str_eq(key, BASE_STR("shape"))) {
        bit = KEY_SHAPE;
    } else {
        return base_fail(err, BASE_BAD_INPUT, "header: unknown key '%.*s'",
                         (int)base_min_u64(key.len, 40), key.ptr);
    }
    if ((*seen & bit) != 0) {
        return base_fail(err, BASE_BAD_INPUT, "header: key '%.*s' twice",
                         BASE_STR_FMT(key));
    }
    *seen |= bit;
    if (bit == KEY_DESCR) {
        return read_descr(c, header, ret_item_bytes, err);
    }
    return bit == KEY_ORDER ? read_order(c, err) : read_shape(c, header, err);
}

static enum base_code read_dict(struct cursor *c,
                                struct ptc_npy_header *header,
                                uint64_t *ret_item_bytes,
                                struct base_err *err)
{
    unsigned seen = 0;
    bool has_comma = true;

    if (!take(c, '{')) {
        return base_fail(err, BASE_BAD_INPUT, "header: expected a dict");
    }
    while (!take(c, '}')) {
        struct base_str key;

        if (!has_comma) {
            return base_fail(err, BASE_BAD_INPUT, "header: expected a ','");
        }
        if (!take_string(c, &key) || !take(c, ':')) {
            return base_fail(err, BASE_BAD_INPUT,
                             "header: expected a string and a ':'");
        }
        BASE_TRY(read_value(c, key, header, &seen, ret_item_bytes, err));
        has_comma = take(c, ',');
    }
    skip_space(c);
    if (c->at != c->end) {
        return base_fail(err, BASE_BAD_INPUT,
                         "header: something follows the dict");
    }
    if (seen != KEY_ALL) {
        return base_fail(err, BASE_BAD_INPUT, "header: %s is missing",
                         (seen & KEY_DESCR) == 0   ? "descr"
                         : (seen & KEY_ORDER) == 0 ? "fortran_order"
                                                   : "shape");
    }
    return BASE_OK;
}

/* Magic, version and length; the cursor is then the dict. */
static enum base_code
read_prefix(struct base_str bytes, struct cursor *ret, struct base_err *err)
{
    const unsigned char *at = (const unsigned char *)bytes.ptr;
    size_t prefix = PREFIX_BYTES;
    size_t length;

    if (bytes.len < PREFIX_BYTES || memcmp(at, MAGIC, MAGIC_BYTES) != 0) {
        return base_fail(err, BASE_BAD_INPUT, "not a .npy file");
    }
    if ((at[6] != 1 && at[6] != 2) || at[7] != 0) {
        return base_fail(err, BASE_UNSUPPORTED, "version %u.%u, not 1.0 or 2.0",
                         at[6], at[7]);
    }
    length = (size_t)at[8] | (size_t)at[9] << 8;
    if (at[6] == 2) {
        prefix += 2;
        if (bytes.len < prefix) {
            return base_fail(err, BASE_BAD_INPUT, "header: truncated");
        }
        length |= (size_t)at[10] << 16 | (size_t)at[11] << 24;
    }
    if (length > MAX_DICT) {
        return base_fail(err, BASE_LIMIT,
                         "header: %zu bytes, at most %u are allowed", length,
                         MAX_DICT);
    }
    if (length > bytes.len - prefix) {
        return base_fail(err, BASE_BAD_INPUT, "header: truncated");
    }
    *ret = (struct cursor){bytes.ptr + prefix, bytes.ptr + prefix + length};
    return BASE_OK;
}

static enum base_code read_header(struct base_str bytes,
                                  struct ptc_npy_header *header,
                                  struct base_err *err)
{
    struct cursor c = {0};
    uint64_t n_bytes = 0;

    BASE_TRY(read_prefix(bytes, &c, err));
    header->data_offset = (uint64_t)(c.end - bytes.ptr);
    BASE_TRY(read_dict(&c, header, &n_bytes, err));
    for (uint32_t d = 0; d < header->n_dims; d++) {
        if (!base_mul_u64(n_bytes, header->shape[d], &n_bytes)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "shape: the number of bytes overflows");
        }
    }
    return BASE_OK;
}

enum base_code ptc_npy_header_parse(struct base_str bytes,
                                    const char *origin,
                                    struct ptc_npy_header *ret,
                                    struct base_err *err)
{
    struct ptc_npy_header header = {0};
    enum base_code rc = read_header(bytes, &header, err);

    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s", origin);
    }
    *ret = header;
    return BASE_OK;
}
