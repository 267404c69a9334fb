/* Reading JSON whose shape is known, without a tree of values.
 *
 * A safetensors header may have 100 MB and a table 100,000 tensors: a tree
 * takes ten times the memory of the text and most of the time.  Here the
 * caller walks along: enter an object, take its fields, read each value in the
 * type it must have.  Nothing recurses, so nesting is bounded by the caller's
 * own code.  For small documents of freer shape see ptc/json.h.
 *
 *   BASE_TRY(ptc_json_read_enter(&r, '{', err));
 *   for (;;) {
 *       BASE_TRY(ptc_json_read_key(&r, &has_key, &key, err));
 *       if (!has_key) { break; }
 *       ... read the value
 *   }
 *   BASE_TRY(ptc_json_read_end(&r, err));
 *
 * Strict: RFC 8259, valid UTF-8, no \u0000, no lone surrogates; numbers are
 * decimal integers below 2^64.  A string is a view of the text, or of the
 * arena when it had escapes: valid as long as both.
 * Errors (BASE_BAD_INPUT) say "line L, column C: ..."; the caller puts file
 * and field in front.  Pure; a reader is its caller's alone. */
#ifndef PTC_JSON_READER_H
#define PTC_JSON_READER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

struct ptc_json_reader {
    struct base_str text;
    size_t at;                /* of the next byte */
    bool is_first;            /* no item of the innermost container was read */
    struct base_arena *arena; /* borrowed; for strings with escapes */
};

/* Errors: BASE_BAD_INPUT  @text is not UTF-8 */
enum base_code ptc_json_reader_init(struct ptc_json_reader *r,
                                    struct base_str text,
                                    struct base_arena *arena,
                                    struct base_err *err) BASE_MUST_CHECK;

/* Enter an object ('{') or an array ('['). */
enum base_code ptc_json_read_enter(struct ptc_json_reader *r,
                                   char open,
                                   struct base_err *err) BASE_MUST_CHECK;
/* The next key of an object, its colon taken; false: the object has ended. */
enum base_code ptc_json_read_key(struct ptc_json_reader *r,
                                 bool *ret_has,
                                 struct base_str *ret_key,
                                 struct base_err *err) BASE_MUST_CHECK;
/* As ptc_json_read_key, for an object whose keys are known: *ret_idx is the
 * key's index among the @n (at most 32) of @known, or @n at the object's end.
 * *seen collects their bits; begin with 0.  A key twice and an unknown key,
 * for which the nearest is named, are errors. */
enum base_code ptc_json_read_field(struct ptc_json_reader *r,
                                   const char *const *known,
                                   unsigned n,
                                   uint32_t *seen,
                                   unsigned *ret_idx,
                                   struct base_err *err) BASE_MUST_CHECK;
/* Is there a further item of an array?  False: the array has ended. */
enum base_code ptc_json_read_item(struct ptc_json_reader *r,
                                  bool *ret_has,
                                  struct base_err *err) BASE_MUST_CHECK;

enum base_code ptc_json_read_str(struct ptc_json_reader *r,
                                 struct base_str *ret,
                                 struct base_err *err) BASE_MUST_CHECK;
enum base_code ptc_json_read_u64(struct ptc_json_reader *r,
                                 uint64_t *ret,
                                 struct base_err *err) BASE_MUST_CHECK;
/* An array of at most @max integers. */
enum base_code ptc_json_read_u64s(struct ptc_json_reader *r,
                                  uint32_t max,
                                  uint64_t *ret,
                                  uint32_t *ret_n,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Nothing but white space may follow. */
enum base_code ptc_json_read_end(struct ptc_json_reader *r,
                                 struct base_err *err) BASE_MUST_CHECK;

#endif
