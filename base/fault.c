#include "base/fault.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "base/str.h"

/* The actions that end or sleep here; the caller sees nothing of them. */
enum {
    FAULT_CRASH = BASE_FAULT_CORRUPT + 1,
    FAULT_STOP,
    FAULT_HANG,
    FAULT_SLOW,
};

/* In the order of `retile fault ls`. */
static const struct action {
    const char *name;
    int action;
    bool needs_bytes;
} actions[] = {
    {"crash", FAULT_CRASH, false},      {"stop", FAULT_STOP, false},
    {"hang", FAULT_HANG, false},        {"slow", FAULT_SLOW, false},
    {"error", BASE_FAULT_ERROR, false}, {"nospace", BASE_FAULT_NOSPACE, false},
    {"short", BASE_FAULT_SHORT, true},  {"corrupt", BASE_FAULT_CORRUPT, true},
};
enum { N_ACTIONS = sizeof(actions) / sizeof(actions[0]) };

#define NS_PER_S  1000000000u
#define NS_PER_MS 1000000u

static const struct {
    const char *name;
    const char *where;
} points[BASE_FAULT_N] = {
#define X(id, name_, where_) {name_, where_},
    BASE_FAULT_POINTS(X)
#undef X
};

static const bool has_bytes[BASE_FAULT_N] = {
#define X(id) [BASE_FAULT_##id] = true,
    BASE_FAULT_BYTES(X)
#undef X
};

/* Set by base_fault_init before there are threads; then read only. */
struct plan {
    int action;      /* BASE_FAULT_NONE: not armed */
    bool stays;      /* acts on all passes from @at on */
    uint64_t at;     /* acts on this pass, from 1 */
    uint64_t for_ns; /* hang, slow */
};

static struct plan plans[BASE_FAULT_N];

/* Passes so far, in memory that forked children share. */
static atomic_uint_fast64_t *n_passes;

bool base_fault_is_armed;

const char *base_fault_name(enum base_fault_point point)
{
    return points[point].name;
}

const char *base_fault_where(enum base_fault_point point)
{
    return points[point].where;
}

const char *base_fault_action_name(enum base_fault_point point, unsigned i)
{
    for (unsigned k = 0; k < N_ACTIONS; k++) {
        if ((!actions[k].needs_bytes || has_bytes[point]) && i-- == 0) {
            return actions[k].name;
        }
    }
    return NULL;
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

/* What @point can do, for a text. */
static void list_actions(size_t point, char *text, size_t n_bytes)
{
    size_t len = 0;
    const char *name;

    text[0] = '\0';
    for (unsigned i = 0;
         (name = base_fault_action_name((enum base_fault_point)point, i)) !=
         NULL;
         i++) {
        int n = snprintf(text + len, n_bytes - len, "%s%s", i > 0 ? ", " : "",
                         name);

        len += n > 0 && (size_t)n < n_bytes - len ? (size_t)n : 0;
    }
}

static const struct action *find_action(struct base_str text)
{
    for (size_t i = 0; i < N_ACTIONS; i++) {
        if (base_str_eq(text, base_str_of(actions[i].name))) {
            return &actions[i];
        }
    }
    return NULL;
}

/* How long a hang lasts: RETILE_FAULT_HANG_S. */
static enum base_code hang_ns(uint64_t *ret, struct base_err *err)
{
    /* No thread runs yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *text = getenv("RETILE_FAULT_HANG_S");
    uint64_t seconds = 3600;

    if (text != NULL && (!base_parse_u64(base_str_of(text), &seconds) ||
                         !base_mul_u64(seconds, NS_PER_S, ret))) {
        return base_fail(err, BASE_BAD_ARG,
                         "RETILE_FAULT_HANG_S: \"%s\" is no number of seconds",
                         text);
    }
    *ret = seconds * NS_PER_S;
    return BASE_OK;
}

/* ACTION[:MS] for @point. */
static enum base_code read_action(struct base_str text,
                                  size_t point,
                                  struct plan *plan,
                                  struct base_err *err)
{
    struct base_str rest = text;
    bool has_time;
    const struct action *action =
        find_action(take_until(&rest, ':', &has_time));
    uint64_t ms = 0;
    char list[120];

    if (action == NULL || (action->needs_bytes && !has_bytes[point])) {
        list_actions(point, list, sizeof(list));
        return base_fail(
            err, BASE_BAD_ARG, "RETILE_FAULT: %s: %s \"%.*s\" (%s)",
            points[point].name,
            action == NULL ? "unknown action" : "no bytes pass for",
            BASE_STR_FMT(text), list);
    }
    if (has_time != (action->action == FAULT_SLOW) ||
        (has_time && (!base_parse_u64(rest, &ms) ||
                      !base_mul_u64(ms, NS_PER_MS, &plan->for_ns)))) {
        return base_fail(err, BASE_BAD_ARG,
                         "RETILE_FAULT: %s: \"%.*s\": slow, and only it, has "
                         "milliseconds: slow:200",
                         points[point].name, BASE_STR_FMT(text));
    }
    if (action->action == FAULT_HANG) {
        BASE_TRY(hang_ns(&plan->for_ns, err));
    }
    plan->action = action->action;
    return BASE_OK;
}

static enum base_code arm(struct base_str item, struct base_err *err)
{
    struct base_str rest = item;
    bool has_action;
    bool has_count;
    struct base_str name = take_until(&rest, '=', &has_action);
    struct base_str action = take_until(&rest, '@', &has_count);
    struct plan plan = {.at = 1};
    size_t point;

    if (!find_point(name, &point)) {
        return base_fail(err, BASE_BAD_ARG,
                         "RETILE_FAULT: unknown point \"%.*s\" in \"%.*s\"",
                         BASE_STR_FMT(name), BASE_STR_FMT(item));
    }
    if (plans[point].action != BASE_FAULT_NONE) {
        return base_fail(err, BASE_BAD_ARG, "RETILE_FAULT: %s is armed twice",
                         points[point].name);
    }
    BASE_TRY(read_action(action, point, &plan, err));
    plan.stays = base_str_ends(rest, BASE_STR("+"));
    rest.len -= plan.stays;
    if (has_count && (!base_parse_u64(rest, &plan.at) || plan.at == 0)) {
        return base_fail(err, BASE_BAD_ARG,
                         "RETILE_FAULT: %.*s: \"%.*s\" is no count from 1",
                         BASE_STR_FMT(name), BASE_STR_FMT(rest));
    }
    plans[point] = plan;
    return BASE_OK;
}

/* Counts of zero, shared with what is forked from here on. */
static enum base_code share_counts(struct base_err *err)
{
    size_t n_bytes = BASE_FAULT_N * sizeof(*n_passes);

    if (n_passes == NULL) {
        void *mem = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);

        if (mem == MAP_FAILED) {
            return base_fail_errno(err, errno, "RETILE_FAULT: no memory");
        }
        n_passes = mem;
    }
    for (size_t i = 0; i < BASE_FAULT_N; i++) {
        atomic_store(&n_passes[i], 0);
    }
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
        plans[i] = (struct plan){.action = BASE_FAULT_NONE};
    }
    if (text == NULL || text[0] == '\0') {
        return BASE_OK;
    }
    rest = base_str_of(text);
    do {
        BASE_TRY(arm(take_until(&rest, ',', &more), err));
    } while (more);
    BASE_TRY(share_counts(err));
    base_fault_is_armed = true;
    return BASE_OK;
}

/* Not ended by a signal: what hangs does not come back for one. */
static void rest_for(uint64_t ns)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
    ns += (uint64_t)until.tv_nsec;
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec = (long)(ns % NS_PER_S);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) ==
           EINTR) {
    }
}

enum base_fault_action base_fault_pass_(enum base_fault_point point)
{
    const struct plan *plan = &plans[point];
    uint64_t n;

    if (plan->action == BASE_FAULT_NONE) {
        return BASE_FAULT_NONE;
    }
    n = atomic_fetch_add(&n_passes[point], 1) + 1;
    if (plan->stays ? n < plan->at : n != plan->at) {
        return BASE_FAULT_NONE;
    }
    switch (plan->action) {
    case FAULT_CRASH:
        for (;;) {
            (void)kill(getpid(), SIGKILL); /* cannot fail */
        }
    case FAULT_STOP:
        (void)kill(getpid(), SIGSTOP); /* cannot fail */
        return BASE_FAULT_NONE;
    case FAULT_HANG:
    case FAULT_SLOW:
        rest_for(plan->for_ns);
        return BASE_FAULT_NONE;
    default:
        return (enum base_fault_action)plan->action;
    }
}

void base_fault_flip(void *bytes, size_t n)
{
    if (n > 0) {
        ((unsigned char *)bytes)[n / 2] ^= 1;
    }
}

enum base_code base_fault_check(enum base_fault_point point,
                                struct base_err *err)
{
    switch (base_fault(point)) {
    case BASE_FAULT_NONE:
    case BASE_FAULT_SHORT:
    case BASE_FAULT_CORRUPT: /* a point without bytes has neither */
        return BASE_OK;
    case BASE_FAULT_ERROR:
        return base_fail_errno(err, EIO, "%s", base_fault_name(point));
    case BASE_FAULT_NOSPACE:
        return base_fail_errno(err, ENOSPC, "%s", base_fault_name(point));
    }
    return BASE_OK;
}
