/* Allocations that fail on purpose.
 *
 * A test program is linked with --wrap for the allocating functions
 * (CMakeLists.txt), so that every allocation of our own objects passes here;
 * those inside libyaml, pcre2 and jansson do not (jansson 2.14 drops what it had
 * no memory for, in part without a word).  One thread. */
#ifndef FAULT_ALLOC_H
#define FAULT_ALLOC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

/* Does some work and frees all of it, whether it succeeded or not. */
typedef enum base_code (*alloc_scenario)(struct base_err *err);

/* Run @scenario with its n-th allocation failing, n = 0, 1, ..., first once and
 * then from there on, until it gets through.  Fails the test unless each
 * failure is BASE_NO_MEM with a text, or makes no difference, and nothing is
 * leaked. */
void alloc_run(const char *name, alloc_scenario scenario);

#endif
