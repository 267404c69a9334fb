/* Source: RFC 8259. */
#include "ptc/json_reader.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"

/* What the next byte begins; for errors. */
static const char *kind_at(const struct ptc_json_reader *r)
{
    if (r->at >= r->text.len) {
        return "the end";
    }
    switch (r->text.ptr[r->at]) {
    case '{':
        return "an object";
    case '[':
        return "an array";
    case '"':
        return "a string";
    case 't':
    case 'f':
        return "a boolean";
    case 'n':
        return "null";
    case '}':
    case ']':
    case ',':
    case ':':
        return "punctuation";
    default:
        return "something else";
    }
}

static enum base_code fail_at(const struct ptc_json_reader *r,
                              size_t at,
                              struct base_err *err,
                              const char *text)
{
    size_t line = 1;
    size_t line_begin = 0;

    for (size_t i = 0; i < at && i < r->text.len; i++) {
        if (r->text.ptr[i] == '\n') {
            line++;
            line_begin = i + 1;
        }
    }
    return base_fail(err, BASE_BAD_INPUT, "line %zu, column %zu: %s", line,
                     at - line_begin + 1, text);
}

static enum base_code expected(const struct ptc_json_reader *r,
                               const char *what,
                               struct base_err *err)
{
    char text[80];

    (void)snprintf(text, sizeof(text), "expected %s, got %s", what, kind_at(r));
    return fail_at(r, r->at, err, text);
}

enum base_code ptc_json_reader_init(struct ptc_json_reader *r,
                                    struct base_str text,
                                    struct base_arena *arena,
                                    struct base_err *err)
{
    if (!base_str_is_utf8(text)) {
        return base_fail(err, BASE_BAD_INPUT, "not UTF-8");
    }
    *r = (struct ptc_json_reader){.text = text, .arena = arena};
    return BASE_OK;
}

static void skip_space(struct ptc_json_reader *r)
{
    while (r->at < r->text.len) {
        char c = r->text.ptr[r->at];

        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
            return;
        }
        r->at++;
    }
}

/* Skip space, then take @wanted if it comes next. */
static bool take(struct ptc_json_reader *r, char wanted)
{
    skip_space(r);
    if (r->at < r->text.len && r->text.ptr[r->at] == wanted) {
        r->at++;
        return true;
    }
    return false;
}

enum base_code
ptc_json_read_enter(struct ptc_json_reader *r, char open, struct base_err *err)
{
    assert(open == '{' || open == '[');
    if (!take(r, open)) {
        return expected(r, open == '{' ? "an object" : "an array", err);
    }
    r->is_first = true;
    return BASE_OK;
}

/* Take the comma before a further item, or @close. */
static enum base_code
next(struct ptc_json_reader *r, char close, bool *ret_has, struct base_err *err)
{
    bool is_first = r->is_first;

    r->is_first = false;
    if (take(r, close)) {
        *ret_has = false;
        return BASE_OK;
    }
    if (!is_first && !take(r, ',')) {
        return expected(r, close == '}' ? "',' or '}'" : "',' or ']'", err);
    }
    *ret_has = true;
    return BASE_OK;
}

enum base_code ptc_json_read_item(struct ptc_json_reader *r,
                                  bool *ret_has,
                                  struct base_err *err)
{
    return next(r, ']', ret_has, err);
}

enum base_code ptc_json_read_key(struct ptc_json_reader *r,
                                 bool *ret_has,
                                 struct base_str *ret_key,
                                 struct base_err *err)
{
    BASE_TRY(next(r, '}', ret_has, err));
    if (!*ret_has) {
        return BASE_OK;
    }
    BASE_TRY(ptc_json_read_str(r, ret_key, err));
    return take(r, ':') ? BASE_OK : expected(r, "':'", err);
}

enum base_code ptc_json_read_field(struct ptc_json_reader *r,
                                   const char *const *known,
                                   unsigned n,
                                   uint32_t *seen,
                                   unsigned *ret_idx,
                                   struct base_err *err)
{
    struct base_str key;
    const char *near;
    bool has_key;
    unsigned i;

    BASE_TRY(ptc_json_read_key(r, &has_key, &key, err));
    if (!has_key) {
        *ret_idx = n;
        return BASE_OK;
    }
    for (i = 0; i < n && !base_str_eq(key, base_str_of(known[i])); i++) {
    }
    if (i < n && (*seen & UINT32_C(1) << i) != 0) {
        return base_fail(err, BASE_BAD_INPUT, "key '%s' twice", known[i]);
    }
    if (i < n) {
        *seen |= UINT32_C(1) << i;
        *ret_idx = i;
        return BASE_OK;
    }
    near = base_str_nearest(key, known, n);
    return base_fail(err, BASE_BAD_INPUT, "unknown key '%.*s'%s%s%s",
                     (int)base_min_u64(key.len, 100), key.ptr,
                     near != NULL ? "; did you mean '" : "",
                     near != NULL ? near : "", near != NULL ? "'?" : "");
}

/* Strings. */

/* Four hexadecimal digits at @at; false when there are none. */
static bool hex4(const struct ptc_json_reader *r, size_t at, uint32_t *ret)
{
    uint32_t value = 0;

    if (at > r->text.len || r->text.len - at < 4) {
        return false;
    }
    for (size_t i = at; i < at + 4; i++) {
        char c = r->text.ptr[i];
        int digit;

        if (c >= '0' && c <= '9') {
            digit = c - '0';
        } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
            digit = (c | 0x20) - 'a' + 10;
        } else {
            return false;
        }
        value = value << 4 | (uint32_t)digit;
    }
    *ret = value;
    return true;
}

static size_t utf8_put(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* \uXXXX at *at (behind the 'u'), a surrogate pair included; *at moves on. */
static enum base_code unescape_u(const struct ptc_json_reader *r,
                                 size_t *at,
                                 uint32_t *ret,
                                 struct base_err *err)
{
    size_t begin = *at - 2;
    uint32_t high;
    uint32_t low;

    if (!hex4(r, *at, &high)) {
        return fail_at(r, begin, err, "\\u wants four hexadecimal digits");
    }
    *at += 4;
    if (high == 0) {
        return fail_at(r, begin, err, "a string has a NUL character (\\u0000)");
    }
    if (high < 0xd800 || high > 0xdfff) {
        *ret = high;
        return BASE_OK;
    }
    if (high > 0xdbff || r->text.len - *at < 6 || r->text.ptr[*at] != '\\' ||
        r->text.ptr[*at + 1] != 'u' || !hex4(r, *at + 2, &low) ||
        low < 0xdc00 || low > 0xdfff) {
        return fail_at(r, begin, err, "a surrogate without its pair");
    }
    *at += 6;
    *ret = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    return BASE_OK;
}

/* The escape at *at (behind the backslash) into @out; *at moves on. */
static enum base_code unescape(const struct ptc_json_reader *r,
                               size_t *at,
                               char *out,
                               size_t *ret_n,
                               struct base_err *err)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    char c = *at < r->text.len ? r->text.ptr[*at] : '\0';
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    uint32_t code = 0;

    (*at)++;
    if (found != NULL) {
        out[0] = to[found - from];
        *ret_n = 1;
        return BASE_OK;
    }
    if (c != 'u') {
        return fail_at(r, *at - 2, err, "an unknown escape");
    }
    BASE_TRY(unescape_u(r, at, &code, err));
    *ret_n = utf8_put(code, out);
    return BASE_OK;
}

/* Decode the string whose text is [begin, end) into the arena. */
static enum base_code decode(struct ptc_json_reader *r,
                             size_t begin,
                             size_t end,
                             struct base_str *ret,
                             struct base_err *err)
{
    /* an escape is never shorter than what it stands for */
    char *out = base_arena_alloc(r->arena, end - begin + 1, 1);
    size_t n = 0;
    size_t at = begin;

    if (out == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a string");
    }
    while (at < end) {
        size_t n_put = 1;

        if (r->text.ptr[at] == '\\') {
            at++;
            BASE_TRY(unescape(r, &at, out + n, &n_put, err));
        } else {
            out[n] = r->text.ptr[at++];
        }
        n += n_put;
    }
    *ret = (struct base_str){out, n};
    return BASE_OK;
}

enum base_code ptc_json_read_str(struct ptc_json_reader *r,
                                 struct base_str *ret,
                                 struct base_err *err)
{
    bool has_escape = false;
    size_t begin;
    size_t at;

    if (!take(r, '"')) {
        return expected(r, "a string", err);
    }
    begin = r->at;
    for (at = begin; at < r->text.len && r->text.ptr[at] != '"'; at++) {
        if ((unsigned char)r->text.ptr[at] < 0x20) {
            return fail_at(r, at, err, "a string has a control character");
        }
        if (r->text.ptr[at] == '\\') {
            has_escape = true;
            at++;
        }
    }
    if (at >= r->text.len) {
        return fail_at(r, begin, err, "a string without an end");
    }
    r->at = at + 1;
    if (has_escape) {
        return decode(r, begin, at, ret, err);
    }
    *ret = (struct base_str){r->text.ptr + begin, at - begin};
    return BASE_OK;
}

/* Numbers. */

static bool is_digit(const struct ptc_json_reader *r, size_t at)
{
    return at < r->text.len && r->text.ptr[at] >= '0' && r->text.ptr[at] <= '9';
}

enum base_code ptc_json_read_u64(struct ptc_json_reader *r,
                                 uint64_t *ret,
                                 struct base_err *err)
{
    size_t begin;
    size_t at;

    skip_space(r);
    begin = r->at;
    if (begin < r->text.len && r->text.ptr[begin] == '-') {
        return fail_at(r, begin, err, "a negative number");
    }
    for (at = begin; is_digit(r, at); at++) {
    }
    if (at == begin) {
        return expected(r, "an integer", err);
    }
    if (at - begin > 1 && r->text.ptr[begin] == '0') {
        return fail_at(r, begin, err, "a number with a leading zero");
    }
    if (at < r->text.len && strchr(".eE", r->text.ptr[at]) != NULL &&
        r->text.ptr[at] != '\0') {
        return fail_at(r, begin, err, "expected an integer, got a fraction");
    }
    if (!base_parse_u64((struct base_str){r->text.ptr + begin, at - begin},
                        ret)) {
        return fail_at(r, begin, err, "a number past 2^64 - 1");
    }
    r->at = at;
    return BASE_OK;
}

enum base_code ptc_json_read_u64s(struct ptc_json_reader *r,
                                  uint32_t max,
                                  uint64_t *ret,
                                  uint32_t *ret_n,
                                  struct base_err *err)
{
    uint32_t n = 0;
    bool has_item;

    BASE_TRY(ptc_json_read_enter(r, '[', err));
    for (;;) {
        BASE_TRY(ptc_json_read_item(r, &has_item, err));
        if (!has_item) {
            *ret_n = n;
            return BASE_OK;
        }
        if (n == max) {
            return base_fail(err, BASE_BAD_INPUT,
                             "more than %" PRIu32 " numbers", max);
        }
        BASE_TRY(ptc_json_read_u64(r, &ret[n], err));
        n++;
    }
}

enum base_code ptc_json_read_end(struct ptc_json_reader *r,
                                 struct base_err *err)
{
    skip_space(r);
    return r->at == r->text.len ? BASE_OK : expected(r, "the end", err);
}
