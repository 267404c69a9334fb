#include "tests/fault/nth.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tests/fault/nth_impl.h"
#include "tests/unit/unit.h"

/* What a run may not leave behind. */
struct left {
    int64_t n_live;
    int64_t n_maps;
    int64_t n_dirs;
    int64_t n_fds;
};

struct case_ {
    struct nth_counter *counter; /* nth_allocs or nth_calls */
    uint64_t n;
    unsigned variant;
    bool stays;
};

/* Of the last run. */
static uint64_t n_allocs;
static uint64_t n_calls;
static unsigned n_wrong; /* of this scenario */

static int64_t count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int64_t n = 0;

    assert_non_null(dir);
    /* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while (readdir(dir) != NULL) {
        n++;
    }
    nth_n_dirs++; /* opendir is not counted, closedir is */
    (void)closedir(dir);
    return n;
}

static struct left left_now(void)
{
    return (struct left){.n_live = nth_n_live,
                         .n_maps = nth_n_maps,
                         .n_dirs = nth_n_dirs,
                         .n_fds = count_fds()};
}

const char *nth_text(const struct nth_failure *failure)
{
    static char text[120];

    (void)snprintf(text, sizeof(text), "%s %llu %s: %s",
                   failure->what == NULL ? "nothing" : failure->what,
                   (unsigned long long)failure->n,
                   failure->stays ? "and on" : "once",
                   /* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
                   strerror(failure->errnum));
    return text;
}

bool nth_is_paused;

void nth_pause(void)
{
    nth_is_paused = true;
}

void nth_resume(void)
{
    nth_is_paused = false;
}

void nth_wrong(const struct nth_failure *failure, const char *fmt, ...)
{
    va_list args;

    n_wrong++;
    (void)printf("  %s: ", nth_text(failure));
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)putchar('\n');
}

static void must_leave_nothing(const struct nth_failure *failure,
                               const struct left *before)
{
    struct left after = left_now();

    if (memcmp(before, &after, sizeof(after)) != 0) {
        nth_wrong(failure,
                  "left: %lld allocations, %lld descriptors, %lld mappings, "
                  "%lld directories",
                  (long long)(after.n_live - before->n_live),
                  (long long)(after.n_fds - before->n_fds),
                  (long long)(after.n_maps - before->n_maps),
                  (long long)(after.n_dirs - before->n_dirs));
    }
}

/* Was @rc what it must be? */
static bool is_right(const struct nth_failure *failure,
                     enum base_code rc,
                     const struct base_err *err)
{
    if (rc == BASE_OK) {
        return true; /* it could do without; @check knows more */
    }
    if (!failure->has_failed || failure->is_retried || err->text[0] == '\0' ||
        err->code != rc) {
        return false;
    }
    if (failure->stays && (rc == BASE_IO || rc == BASE_NO_MEM)) {
        return true;
    }
    return rc == base_fail_errno(NULL, failure->errnum, "%s", failure->what);
}

/* One run; how many variants its failure has (0: it did not come to that). */
static unsigned run_case(const struct nth_scenario *scenario,
                         const struct case_ *item)
{
    struct nth_counter *counter = item->counter;
    struct left before = left_now();
    struct nth_failure failure = {.n = item->n, .stays = item->stays};
    struct base_err err = {0};
    enum base_code rc;

    nth_allocs.n = 0;
    nth_calls.n = 0;
    *counter = (struct nth_counter){
        .fail = item->n, .stays = item->stays, .variant = item->variant};
    rc = scenario->run(&err);
    n_allocs = nth_allocs.n;
    n_calls = nth_calls.n;
    counter->fail = NTH_NEVER;
    failure.has_failed = counter->n_variants > 0;
    failure.what = counter->what;
    failure.errnum = counter->errnum;
    failure.is_retried = counter->is_retried;
    must_leave_nothing(&failure, &before);
    if (!is_right(&failure, rc, &err)) {
        nth_wrong(&failure, "%s: \"%s\"", base_code_text(rc), err.text);
    }
    if (scenario->check != NULL) {
        scenario->check(&failure, rc);
    }
    return counter->n_variants;
}

/* @n: how many there are in a run where nothing fails.  Not all of many. */
static void run_all(const struct nth_scenario *scenario,
                    struct nth_counter *counter,
                    bool stays,
                    uint64_t n,
                    uint64_t max_cases)
{
    uint64_t n_cases = base_min_u64(n, max_cases);

    for (uint64_t i = 0; i < n_cases; i++) {
        struct case_ item = {
            .counter = counter, .n = i * n / n_cases, .stays = stays};
        unsigned n_variants = 1;

        for (; item.variant < n_variants; item.variant++) {
            n_variants = run_case(scenario, &item);
            if (stays) { /* all behind it fail with their first, so does it */
                break;
            }
        }
    }
}

static uint64_t cases_wanted(uint64_t max_cases)
{
    /* One thread. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *text = getenv("RETILE_CASES");
    uint64_t n = max_cases;

    if (text != NULL) {
        assert_true(base_parse_u64(base_str_of(text), &n) && n > 0);
    }
    return n;
}

void nth_run(const struct nth_scenario *scenario, uint64_t max_cases)
{
    const struct case_ none = {.counter = &nth_allocs, .n = NTH_NEVER};
    uint64_t n_done_allocs;
    uint64_t n_done_calls;

    max_cases = cases_wanted(max_cases);
    n_wrong = 0;
    (void)run_case(scenario, &none); /* what is made once per process is made */
    (void)run_case(scenario, &none);
    n_done_allocs = n_allocs;
    n_done_calls = n_calls;
    (void)printf("%s: %llu allocations, %llu system calls\n", scenario->name,
                 (unsigned long long)n_done_allocs,
                 (unsigned long long)n_done_calls);
    assert_true(n_done_allocs + n_done_calls > 0);
    run_all(scenario, &nth_allocs, false, n_done_allocs, max_cases);
    run_all(scenario, &nth_allocs, true, n_done_allocs, max_cases);
    run_all(scenario, &nth_calls, false, n_done_calls, max_cases);
    run_all(scenario, &nth_calls, true, n_done_calls, max_cases);
    if (n_wrong > 0) {
        fail_msg("%s: %u of these are wrong, see above", scenario->name,
                 n_wrong);
    }
}
