/* The n-th call that fails.
 *
 * A test program is linked with --wrap for the functions that allocate and for
 * the system calls (CMakeLists.txt), so that those of our own objects pass
 * here.  What is inside libyaml, pcre2, jansson and the C library does not:
 * jansson 2.14 drops what it had no memory for, in part without a word.
 *
 * A scenario is run with its n-th allocation failing, n = 0, 1, ..., first once
 * and then from there on; then with its n-th system call failing, with each
 * errno that this call is known for.  Where a scenario has more calls than
 * RETILE_CASES (each test program has its default), so many of them are taken,
 * evenly. */
#ifndef FAULT_NTH_H
#define FAULT_NTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* What failed in a run. */
struct nth_failure {
    const char *what; /* "malloc", "openat" */
    uint64_t n;
    int errnum;
    bool stays;      /* all behind it, too */
    bool has_failed; /* it came to that */
    bool is_retried; /* EINTR of a call that we retry: nothing is to be seen */
};

struct nth_scenario {
    const char *name;
    /* Does some work and frees all of it, whether it succeeded or not. */
    enum base_code (*run)(struct base_err *err);
    /* Called after each run, with nothing failing: fails the test unless what
     * @run worked on is as it should be, and makes it ready again.  NULL: there
     * is nothing. */
    void (*check)(const struct nth_failure *failure, enum base_code rc);
};

/* Fails the test unless each failure gives its code and a text, or makes no
 * difference, and no memory, descriptor or mapping is left.  Where all calls
 * fail from the n-th on, the code may be another's that failed.
 * @max_cases: see RETILE_CASES. */
void nth_run(const struct nth_scenario *scenario, uint64_t max_cases);

/* Between these nothing fails and nothing is counted: for what a scenario needs,
 * but is not about. */
void nth_pause(void);
void nth_resume(void);

/* What is wrong, for @check: printed at once, and nth_run fails at its end. */
void nth_wrong(const struct nth_failure *failure, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* For messages: "openat 12 once: Input/output error".  Static. */
const char *nth_text(const struct nth_failure *failure);

#endif
