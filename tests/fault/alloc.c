#include "tests/fault/alloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

#define NEVER UINT64_MAX

static struct {
    uint64_t n;    /* allocations asked for since the start of a run */
    uint64_t fail; /* the one that fails */
    bool stays;    /* and those behind it */
    int64_t n_live;
} state = {.fail = NEVER};

/* The linker's --wrap gives these names.
 * NOLINTBEGIN(*-identifier,*-identifier-naming,cert-dcl*) */
void *__real_malloc(size_t n_bytes);
void *__real_calloc(size_t n, size_t item_bytes);
void *__real_realloc(void *ptr, size_t n_bytes);
void *__real_reallocarray(void *ptr, size_t n, size_t item_bytes);
char *__real_strdup(const char *text);
int __real_vasprintf(char **ret, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
/* What vasprintf is under _FORTIFY_SOURCE. */
int __real___vasprintf_chk(char **ret, int flag, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
void __real_free(void *ptr);

void *__wrap_malloc(size_t n_bytes);
void *__wrap_calloc(size_t n, size_t item_bytes);
void *__wrap_realloc(void *ptr, size_t n_bytes);
void *__wrap_reallocarray(void *ptr, size_t n, size_t item_bytes);
char *__wrap_strdup(const char *text);
int __wrap_vasprintf(char **ret, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));
int __wrap___vasprintf_chk(char **ret, int flag, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
void __wrap_free(void *ptr);

static bool may_not(void)
{
    uint64_t n = state.n++;

    return state.stays ? n >= state.fail : n == state.fail;
}

static void *count(void *ptr)
{
    state.n_live += ptr != NULL;
    return ptr;
}

void *__wrap_malloc(size_t n_bytes)
{
    return may_not() ? NULL : count(__real_malloc(n_bytes));
}

void *__wrap_calloc(size_t n, size_t item_bytes)
{
    return may_not() ? NULL : count(__real_calloc(n, item_bytes));
}

void *__wrap_realloc(void *ptr, size_t n_bytes)
{
    bool is_new = ptr == NULL;
    void *moved = may_not() ? NULL : __real_realloc(ptr, n_bytes);

    return is_new ? count(moved) : moved;
}

void *__wrap_reallocarray(void *ptr, size_t n, size_t item_bytes)
{
    bool is_new = ptr == NULL;
    void *moved = may_not() ? NULL : __real_reallocarray(ptr, n, item_bytes);

    return is_new ? count(moved) : moved;
}

char *__wrap_strdup(const char *text)
{
    return may_not() ? NULL : count(__real_strdup(text));
}

int __wrap_vasprintf(char **ret, const char *fmt, va_list args)
{
    int n;

    if (may_not()) {
        return -1;
    }
    n = __real_vasprintf(ret, fmt, args);
    state.n_live += n >= 0;
    return n;
}

int __wrap___vasprintf_chk(char **ret, int flag, const char *fmt, va_list args)
{
    int n;

    if (may_not()) {
        return -1;
    }
    n = __real___vasprintf_chk(ret, flag, fmt, args);
    state.n_live += n >= 0;
    return n;
}

void __wrap_free(void *ptr)
{
    state.n_live -= ptr != NULL;
    __real_free(ptr);
}
/* NOLINTEND(*-identifier,*-identifier-naming,cert-dcl*) */

static enum base_code
run_once(alloc_scenario scenario, uint64_t fail, bool stays, char *text)
{
    struct base_err err = {0};
    enum base_code rc;

    state.n = 0;
    state.fail = fail;
    state.stays = stays;
    rc = scenario(&err);
    state.fail = NEVER;
    memcpy(text, err.text, sizeof(err.text));
    return rc;
}

/* The first failure that makes no difference; how many allocations there are. */
static void run_all(const char *name, alloc_scenario scenario, bool stays)
{
    for (uint64_t fail = 0;; fail++) {
        int64_t n_live = state.n_live;
        char text[BASE_ERR_TEXT_BYTES];
        enum base_code rc = run_once(scenario, fail, stays, text);

        if (state.n_live != n_live) {
            fail_msg("%s: allocation %llu %s: %lld leaked", name,
                     (unsigned long long)fail, stays ? "and on" : "once",
                     (long long)(state.n_live - n_live));
        }
        if (state.n <= fail) { /* it did not come to that */
            assert_int_equal(rc, BASE_OK);
            return;
        }
        if (rc == BASE_OK) {
            continue; /* it could do without */
        }
        if (rc != BASE_NO_MEM || text[0] == '\0') {
            fail_msg("%s: allocation %llu %s: %s: \"%s\"", name,
                     (unsigned long long)fail, stays ? "and on" : "once",
                     base_code_text(rc), text);
        }
    }
}

void alloc_run(const char *name, alloc_scenario scenario)
{
    char text[BASE_ERR_TEXT_BYTES];
    enum base_code rc;

    rc = run_once(scenario, NEVER, false, text);
    if (rc != BASE_OK) {
        fail_msg("%s: %s", name, text);
    }
    (void)printf("%s: %llu allocations\n", name, (unsigned long long)state.n);
    assert_true(state.n > 0);
    run_all(name, scenario, false);
    run_all(name, scenario, true);
}
