/* JSON documents from outside, over jansson: bounded loading, and getters that
 * say what is wrong.
 *
 * A getter's error names the field ("shape: expected an array"); its caller
 * knows the rest and puts it in front with base_wrap ("FILE: tensor 'a.b'").
 * Values are borrowed from the document.  Objects keep the order of the text.
 * Pure. */
#ifndef PTC_JSON_H
#define PTC_JSON_H

#include <jansson.h>
#include <stdint.h>

#include "base/str.h"

#define PTC_JSON_MAX_DEPTH 32u
/* What the values of one document may take in memory, measured on the text
 * before anything is allocated: hostile texts have ten times as much as bytes,
 * or more.  About 750,000 tensors of a safetensors header. */
#define PTC_JSON_MAX_TREE_MIB 1024u

static inline void ptc_json_auto_(json_t **slot)
{
    json_decref(*slot);
}
#define PTC_JSON_AUTO __attribute__((cleanup(ptc_json_auto_))) json_t *

/* Load one document, an object.  *ret is given; json_decref it.
 * Errors, each naming @origin and, but for the first, what it is in (the keys
 * of the two outermost objects), line and column:
 *   BASE_BAD_INPUT  not UTF-8, not one object, not JSON, a key twice, \u0000,
 *                   deeper than PTC_JSON_MAX_DEPTH, an integer past 2^63 - 1
 *   BASE_LIMIT      values of more than PTC_JSON_MAX_TREE_MIB
 *   BASE_NO_MEM */
enum base_code ptc_json_load(struct base_str text,
                             const char *origin,
                             json_t **ret,
                             struct base_err *err) BASE_MUST_CHECK;

/* The bytes of a string; valid as long as the value. */
struct base_str ptc_json_str(const json_t *string);

/* Is @value of @type?  The error says only "expected X, got Y". */
enum base_code ptc_json_check_type(const json_t *value,
                                   json_type type,
                                   struct base_err *err) BASE_MUST_CHECK;

/* Refuse keys of @object that are not among @known; the nearest is named. */
enum base_code ptc_json_check_keys(const json_t *object,
                                   const char *const *known,
                                   size_t n_known,
                                   struct base_err *err) BASE_MUST_CHECK;

/* The value of @key, which must be there and have that type. */
enum base_code ptc_json_get(const json_t *object,
                            const char *key,
                            json_type type,
                            json_t **ret,
                            struct base_err *err) BASE_MUST_CHECK;
enum base_code ptc_json_get_str(const json_t *object,
                                const char *key,
                                struct base_str *ret,
                                struct base_err *err) BASE_MUST_CHECK;
enum base_code ptc_json_get_u64(const json_t *object,
                                const char *key,
                                uint64_t *ret,
                                struct base_err *err) BASE_MUST_CHECK;
/* An array of at most @max integers into @ret. */
enum base_code ptc_json_get_u64s(const json_t *object,
                                 const char *key,
                                 uint32_t max,
                                 uint64_t *ret,
                                 uint32_t *ret_n,
                                 struct base_err *err) BASE_MUST_CHECK;

#endif
