/* The number in a name: "model.layers.17.mlp.up_proj.weight" -> 17, by a
 * PCRE2 expression with one group.  Expressions come from specs, names from
 * checkpoints: both are hostile, so compiling and matching are bounded. */
#ifndef PTC_NUMBER_H
#define PTC_NUMBER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define PTC_PATTERN_MAX_BYTES 1000u
#define PTC_NUMBER_MAX        INT32_MAX /* a greater number is refused */

/* Owner: one thread at a time (it holds scratch for matching). */
struct ptc_number;
void ptc_number_free(struct ptc_number *number);
BASE_AUTO_DEFINE(ptc_number);

/* Compile @pattern (copied).
 * Errors: BASE_BAD_INPUT  it does not compile, or has not exactly one group
 *         BASE_NO_MEM */
enum base_code ptc_number_create(struct base_str pattern,
                                 struct ptc_number **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Search @name (valid UTF-8) for the expression and read its group.
 * *ret_found is false, and *ret_number untouched, when nothing matches.
 * Errors: BASE_BAD_INPUT  the group took no digits, something else than ASCII
 *                         digits, or a number past PTC_NUMBER_MAX
 *         BASE_LIMIT      the expression backtracks too much on this name
 *         BASE_NO_MEM */
enum base_code ptc_number_read(struct ptc_number *number,
                               struct base_str name,
                               bool *ret_found,
                               uint32_t *ret_number,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
