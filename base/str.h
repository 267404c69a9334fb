/* Strings with a length, buffers that grow up to a maximum, typed arrays, and
 * a bump allocator.  No object here is shared between threads. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/auto.h"
#include "base/err.h"

/* A borrowed view of bytes; not NUL-terminated unless a header says so. */
struct base_str {
    const char *ptr;
    size_t len;
};

#define BASE_STR(literal) ((struct base_str){(literal), sizeof(literal) - 1})
/* For printf: printf("%.*s", BASE_STR_FMT(name)). */
#define BASE_STR_FMT(s) (int)((s).len > 4096 ? 4096 : (s).len), (s).ptr

static inline struct base_str base_str_of(const char *text)
{
    return (struct base_str){text, strlen(text)};
}

/* Compare as unsigned bytes, the shorter first: <0, 0, >0. */
int base_str_cmp(struct base_str a, struct base_str b);
bool base_str_eq(struct base_str a, struct base_str b);
bool base_str_starts(struct base_str s, struct base_str prefix);
bool base_str_ends(struct base_str s, struct base_str suffix);
/* Is @s valid UTF-8 (no surrogates, no overlong forms)? */
bool base_str_is_utf8(struct base_str s);
/* The candidate of @n that is nearest to @word by edit distance, at most 3;
 * NULL when none is near.  For "unknown key X; did you mean Y?". */
const char *
base_str_nearest(struct base_str word, const char *const *candidates, size_t n);

/* A byte buffer that grows to at most max_bytes.  Zero it with
 * base_buf_init; appending past the maximum is BASE_LIMIT, and once an append
 * has failed the buffer stays failed, so that a writer may check only the
 * last call.  The bytes are always followed by a NUL that len does not count. */
struct base_buf {
    char *ptr;
    size_t len;
    size_t cap;
    size_t max_bytes;
    enum base_code failed; /* BASE_OK, or what the first failed append gave */
};

void base_buf_init(struct base_buf *buf, size_t max_bytes);
void base_buf_done(struct base_buf *buf);
#define BASE_AUTO_BUF __attribute__((cleanup(base_buf_done))) struct base_buf
enum base_code base_buf_add(struct base_buf *buf, const void *bytes, size_t n);
enum base_code base_buf_add_str(struct base_buf *buf, struct base_str s);
enum base_code base_buf_addf(struct base_buf *buf, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Append @s as a JSON string, quotes included (non-ASCII kept as UTF-8). */
enum base_code base_buf_add_json(struct base_buf *buf, struct base_str s);
/* BASE_OK, or the sticky failure with a text in *err. */
enum base_code base_buf_check(const struct base_buf *buf,
                              struct base_err *err) BASE_MUST_CHECK;
static inline struct base_str base_buf_str(const struct base_buf *buf)
{
    return (struct base_str){buf->ptr, buf->len};
}

/* A typed growing array: BASE_VEC(struct ptc_move) moves = {0};
 * base_vec_push(&moves, m) yields false when memory is short (or 2^32 items);
 * free with base_vec_done(&moves). */
#define BASE_VEC(type)                                                         \
    struct {                                                                   \
        type *items;                                                           \
        size_t n;                                                              \
        size_t cap;                                                            \
    }
bool base_vec_grow_(void **items, size_t *cap, size_t need, size_t item_bytes);
#define base_vec_reserve(vec, need)                                            \
    ((need) <= (vec)->cap ||                                                   \
     base_vec_grow_((void **)&(vec)->items, &(vec)->cap, (need),               \
                    sizeof(*(vec)->items)))
#define base_vec_push(vec, item)                                               \
    (base_vec_reserve((vec), (vec)->n + 1)                                     \
         ? ((vec)->items[(vec)->n++] = (item), true)                           \
         : false)
#define base_vec_done(vec)                                                     \
    (free((vec)->items), (vec)->items = NULL, (vec)->n = (vec)->cap = 0)

/* A bump allocator: everything lives until base_arena_free.  At most
 * max_bytes in all; memory is zeroed and aligned to 16. */
struct base_arena;
struct base_arena *base_arena_create(size_t max_bytes); /* NULL: no memory */
void base_arena_free(struct base_arena *arena);
BASE_AUTO_DEFINE(base_arena);
/* NULL when memory or the maximum is short, or n * item_bytes overflows. */
void *base_arena_alloc(struct base_arena *arena, size_t n, size_t item_bytes);
/* A NUL-terminated copy.  On failure .ptr is NULL. */
struct base_str base_arena_str(struct base_arena *arena, struct base_str s);
size_t base_arena_bytes(const struct base_arena *arena);

#endif
