/* Everything that is wrong with one thing, told line by line: what is looked at
 * goes on after the first problem, and is refused at the end.
 *
 * Owner: one thread. */
#ifndef STORE_PROBLEMS_H
#define STORE_PROBLEMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define STORE_PROBLEMS_MAX_TOLD 100u

struct store_problems {
    void (*tell)(void *ctx, bool is_refusal, const char *text); /* or NULL */
    void *ctx;
    uint64_t n;
    struct base_err first;
};

/* A line that refuses nothing. */
void store_problems_note(struct store_problems *problems, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void store_problems_add(struct store_problems *problems,
                        enum base_code code,
                        const char *fmt,
                        ...) __attribute__((format(printf, 3, 4)));
/* What a step gave: a problem of what was looked at is told, and BASE_OK
 * returned; of the machine (memory, input and output) is returned.  @problems
 * NULL: everything is returned.  @err is not NULL where @problems is not. */
enum base_code store_problems_take(struct store_problems *problems,
                                   enum base_code code,
                                   struct base_err *err) BASE_MUST_CHECK;
/* BASE_OK when there were none; else says how many were not told, and fails
 * with the first. */
enum base_code store_problems_end(struct store_problems *problems,
                                  struct base_err *err) BASE_MUST_CHECK;

#endif
