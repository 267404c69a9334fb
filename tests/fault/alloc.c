/* Allocations that fail on purpose, and how many of them are not freed. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fault/nth_impl.h"

struct nth_counter nth_allocs = {.fail = NTH_NEVER};
atomic_int_fast64_t nth_n_live;

/* The linker's --wrap gives these names.
 * NOLINTBEGIN(*-identifier,*-identifier-naming,cert-dcl*) */
void *__real_malloc(size_t n_bytes);
void *__real_calloc(size_t n, size_t item_bytes);
void *__real_aligned_alloc(size_t alignment, size_t n_bytes);
void *__real_realloc(void *ptr, size_t n_bytes);
void *__real_reallocarray(void *ptr, size_t n, size_t item_bytes);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t n);
int __real_vasprintf(char **ret, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
/* What vasprintf is under _FORTIFY_SOURCE. */
int __real___vasprintf_chk(char **ret, int flag, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
void __real_free(void *ptr);

void *__wrap_malloc(size_t n_bytes);
void *__wrap_calloc(size_t n, size_t item_bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t n_bytes);
void *__wrap_realloc(void *ptr, size_t n_bytes);
void *__wrap_reallocarray(void *ptr, size_t n, size_t item_bytes);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);
int __wrap_vasprintf(char **ret, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
int __wrap___vasprintf_chk(char **ret, int flag, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
void __wrap_free(void *ptr);

static bool may_not(const char *what)
{
    struct nth_counter *counter = &nth_allocs;
    uint64_t n;

    if (nth_is_paused) {
        return false;
    }
    n = counter->n++;
    if (n == counter->fail) {
        counter->what = what;
        counter->errnum = ENOMEM;
        counter->n_variants = 1;
    }
    if (counter->stays ? n < counter->fail : n != counter->fail) {
        return false;
    }
    errno = ENOMEM;
    return true;
}

static void *count(void *ptr)
{
    nth_n_live += ptr != NULL;
    return ptr;
}

void *__wrap_malloc(size_t n_bytes)
{
    return may_not("malloc") ? NULL : count(__real_malloc(n_bytes));
}

void *__wrap_calloc(size_t n, size_t item_bytes)
{
    return may_not("calloc") ? NULL : count(__real_calloc(n, item_bytes));
}

void *__wrap_aligned_alloc(size_t alignment, size_t n_bytes)
{
    return may_not("aligned_alloc")
               ? NULL
               : count(__real_aligned_alloc(alignment, n_bytes));
}

void *__wrap_realloc(void *ptr, size_t n_bytes)
{
    bool is_new = ptr == NULL;
    void *moved = may_not("realloc") ? NULL : __real_realloc(ptr, n_bytes);

    return is_new ? count(moved) : moved;
}

void *__wrap_reallocarray(void *ptr, size_t n, size_t item_bytes)
{
    bool is_new = ptr == NULL;
    void *moved = may_not("reallocarray")
                      ? NULL
                      : __real_reallocarray(ptr, n, item_bytes);

    return is_new ? count(moved) : moved;
}

char *__wrap_strdup(const char *text)
{
    return may_not("strdup") ? NULL : count(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t n)
{
    return may_not("strndup") ? NULL : count(__real_strndup(text, n));
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list args)
{
    int n;

    if (may_not("vasprintf")) {
        return -1;
    }
    n = __real_vasprintf(ret, fmt, args);
    nth_n_live += n >= 0;
    return n;
}

int __wrap___vasprintf_chk(char **ret, int flag, const char *fmt, va_list args)
{
    int n;

    if (may_not("vasprintf")) {
        return -1;
    }
    n = __real___vasprintf_chk(ret, flag, fmt, args);
    nth_n_live += n >= 0;
    return n;
}

void __wrap_free(void *ptr)
{
    nth_n_live -= ptr != NULL;
    __real_free(ptr);
}
/* NOLINTEND(*-identifier,*-identifier-naming,cert-dcl*) */
