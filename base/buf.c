#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>

enum { BUF_FIRST_CAP = 64, VEC_FIRST_CAP = 8 };

void base_buf_init(struct base_buf *buf, size_t max_bytes)
{
    *buf = (struct base_buf){.max_bytes = max_bytes};
}

void base_buf_done(struct base_buf *buf)
{
    free(buf->ptr);
    *buf = (struct base_buf){.max_bytes = buf->max_bytes};
}

/* Make room for @n more bytes and the NUL. */
static enum base_code buf_reserve(struct base_buf *buf, size_t n)
{
    size_t need;
    size_t cap;
    char *ptr;

    if (buf->failed != BASE_OK) {
        return buf->failed;
    }
    if (n > buf->max_bytes || buf->len > buf->max_bytes - n ||
        __builtin_add_overflow(buf->len + n, 1, &need)) {
        buf->failed = BASE_LIMIT;
        return BASE_LIMIT;
    }
    if (need <= buf->cap) {
        return BASE_OK;
    }
    cap = buf->cap < BUF_FIRST_CAP ? BUF_FIRST_CAP : buf->cap;
    while (cap < need) {
        if (__builtin_mul_overflow(cap, 2, &cap)) {
            cap = need;
        }
    }
    if (cap > buf->max_bytes) { /* so need - 1 <= max_bytes fits as well */
        cap = need > buf->max_bytes ? need : buf->max_bytes;
    }
    ptr = realloc(buf->ptr, cap);
    if (ptr == NULL) {
        buf->failed = BASE_NO_MEM;
        return BASE_NO_MEM;
    }
    buf->ptr = ptr;
    buf->cap = cap;
    return BASE_OK;
}

enum base_code base_buf_add(struct base_buf *buf, const void *bytes, size_t n)
{
    BASE_TRY(buf_reserve(buf, n));
    if (n > 0) {
        memcpy(buf->ptr + buf->len, bytes, n);
    }
    buf->len += n;
    buf->ptr[buf->len] = '\0';
    return BASE_OK;
}

enum base_code base_buf_add_str(struct base_buf *buf, struct base_str s)
{
    return base_buf_add(buf, s.ptr, s.len);
}

enum base_code base_buf_addf(struct base_buf *buf, const char *fmt, ...)
{
    va_list args;
    va_list again;
    size_t room;
    int n;

    if (buf->failed != BASE_OK) {
        return buf->failed;
    }
    room = buf->cap - buf->len;
    va_start(args, fmt);
    va_copy(again, args);
    n = vsnprintf(room == 0 ? NULL : buf->ptr + buf->len, room, fmt, args);
    va_end(args);
    if (n < 0) {
        buf->failed = BASE_NO_MEM;
    } else if (buf_reserve(buf, (size_t)n) == BASE_OK) {
        if ((size_t)n >= room) {
            n = vsnprintf(buf->ptr + buf->len, (size_t)n + 1, fmt, again);
        }
        buf->len += (size_t)n;
    } else if (room > 0) {
        buf->ptr[buf->len] = '\0'; /* take back what the first try wrote */
    }
    va_end(again);
    return buf->failed;
}

enum base_code base_buf_add_json(struct base_buf *buf, struct base_str s)
{
    size_t begin = 0;
    size_t i;

    (void)base_buf_add(buf, "\"", 1); /* failure is sticky */
    for (i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];

        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            continue;
        }
        (void)base_buf_add(buf, s.ptr + begin, i - begin);
        begin = i + 1;
        if (c == '"' || c == '\\') {
            (void)base_buf_addf(buf, "\\%c", c);
        } else if (c == '\n') {
            (void)base_buf_add(buf, "\\n", 2);
        } else if (c == '\t') {
            (void)base_buf_add(buf, "\\t", 2);
        } else {
            (void)base_buf_addf(buf, "\\u%04x", c);
        }
    }
    (void)base_buf_add(buf, s.ptr + begin, s.len - begin);
    return base_buf_add(buf, "\"", 1);
}

enum base_code base_buf_check(const struct base_buf *buf, struct base_err *err)
{
    if (buf->failed == BASE_LIMIT) {
        return base_fail(err, BASE_LIMIT, "more than %zu bytes",
                         buf->max_bytes);
    }
    if (buf->failed != BASE_OK) {
        return base_fail(err, buf->failed, "cannot grow a buffer of %zu bytes",
                         buf->len);
    }
    return BASE_OK;
}

bool base_vec_grow_(void **items, size_t *cap, size_t need, size_t item_bytes)
{
    size_t new_cap = *cap < VEC_FIRST_CAP ? VEC_FIRST_CAP : *cap;
    void *grown;

    if (need > UINT32_MAX) {
        return false;
    }
    while (new_cap < need) {
        new_cap *= 2;
    }
    grown = reallocarray(*items, new_cap, item_bytes);
    if (grown == NULL) {
        return false;
    }
    *items = grown;
    *cap = new_cap;
    return true;
}
