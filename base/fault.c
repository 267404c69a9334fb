#include "base/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/num.h"
#include "base/str.h"

enum { FAULT_CRASH = BASE_FAULT_SHORT + 1 };

static const struct {
    const char *name;
    const char *where;
} points[BASE_FAULT_N] = {
#define X(id, name_, where_) {name_, where_},
    BASE_FAULT_POINTS(X)
#undef X
};

/* Set by base_fault_init before there are threads; only n_passes changes. */
struct plan {
    int action;  /* BASE_FAULT_NONE: not armed */
    uint64_t at; /* acts on this pass, from 1 */
    atomic_uint_fast64_t n_passes;
};

static struct plan plans[BASE_FAULT_N];

bool base_fault_is_armed;

const char *base_fault_name(enum base_fault_point point)
{
    return points[point].name;
}

const char *base_fault_where(enum base_fault_point point)
{
    return points[point].where;
}

/* Split *rest at the first @sep; the whole when there is none. */
static struct base_str take_until(struct base_str *rest, char sep, bool *found)
{
    const char *at = rest->len == 0 ? NULL : memchr(rest->ptr, sep, rest->len);
    struct base_str head = *rest;

    *found = at != NULL;
    if (at == NULL) {
        rest->ptr += rest->len;
        rest->len = 0;
        return head;
    }
    head.len = (size_t)(at - rest->ptr);
    rest->len -= head.len + 1;
    rest->ptr = at + 1;
    return head;
}

static bool find_point(struct base_str name, size_t *ret_point)
{
    size_t i;

    for (i = 0; i < BASE_FAULT_N; i++) {
        if (base_str_eq(name, base_str_of(points[i].name))) {
            *ret_point = i;
            return true;
        }
    }
    return false;
}

static bool find_action(struct base_str text, int *ret_action)
{
    static const struct {
        const char *name;
        int action;
    } actions[] = {
        {"crash", FAULT_CRASH},
        {"error", BASE_FAULT_ERROR},
        {"nospace", BASE_FAULT_NOSPACE},
        {"short", BASE_FAULT_SHORT},
    };
    size_t i;

    for (i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (base_str_eq(text, base_str_of(actions[i].name))) {
            *ret_action = actions[i].action;
            return true;
        }
    }
    return false;
}

static enum base_code arm(struct base_str item, struct base_err *err)
{
    struct base_str rest = item;
    bool has_action;
    bool has_count;
    struct base_str name = take_until(&rest, '=', &has_action);
    struct base_str action_text = take_until(&rest, '@', &has_count);
    uint64_t at = 1;
    size_t point;
    int action;

    if (!find_point(name, &point)) {
        return base_fail(err, BASE_BAD_ARG,
                         "RETILE_FAULT: unknown point \"%.*s\" in \"%.*s\"",
                         BASE_STR_FMT(name), BASE_STR_FMT(item));
    }
    if (!find_action(action_text, &action)) {
        return base_fail(err, BASE_BAD_ARG,
                         "RETILE_FAULT: %.*s: unknown action \"%.*s\" (crash, "
                         "error, nospace or short)",
                         BASE_STR_FMT(name), BASE_STR_FMT(action_text));
    }
    if (has_count && (!base_parse_u64(rest, &at) || at == 0)) {
        return base_fail(err, BASE_BAD_ARG,
                         "RETILE_FAULT: %.*s: \"%.*s\" is no count from 1",
                         BASE_STR_FMT(name), BASE_STR_FMT(rest));
    }
    plans[point].action = action;
    plans[point].at = at;
    atomic_store(&plans[point].n_passes, 0);
    return BASE_OK;
}

enum base_code base_fault_init(struct base_err *err)
{
    /* No thread runs yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *text = getenv("RETILE_FAULT");
    struct base_str rest;
    bool more;
    size_t i;

    base_fault_is_armed = false;
    for (i = 0; i < BASE_FAULT_N; i++) {
        plans[i].action = BASE_FAULT_NONE;
    }
    if (text == NULL || text[0] == '\0') {
        return BASE_OK;
    }
    rest = base_str_of(text);
    do {
        BASE_TRY(arm(take_until(&rest, ',', &more), err));
    } while (more);
    base_fault_is_armed = true;
    return BASE_OK;
}

enum base_fault_action base_fault_pass_(enum base_fault_point point)
{
    struct plan *plan = &plans[point];

    if (plan->action == BASE_FAULT_NONE ||
        atomic_fetch_add(&plan->n_passes, 1) + 1 != plan->at) {
        return BASE_FAULT_NONE;
    }
    if (plan->action == FAULT_CRASH) {
        for (;;) {
            (void)kill(getpid(), SIGKILL); /* cannot fail */
        }
    }
    return (enum base_fault_action)plan->action;
}

enum base_code base_fault_check(enum base_fault_point point,
                                struct base_err *err)
{
    switch (base_fault(point)) {
    case BASE_FAULT_NONE:
    case BASE_FAULT_SHORT:
        return BASE_OK;
    case BASE_FAULT_ERROR:
        return base_fail_errno(err, EIO, "%s", base_fault_name(point));
    case BASE_FAULT_NOSPACE:
        return base_fail_errno(err, ENOSPC, "%s", base_fault_name(point));
    }
    return BASE_OK;
}
