/* The table of a version: its tensors, ties and objects.
 *
 * Immutable once made; tensors are sorted by name (bytes), so an index is
 * stable and a name is found by bisection.  The table's identity is the digest
 * of its text form, which is also what `retile inspect --table` prints.
 *
 * Name rules (checked on add): 1 to PTC_NAME_MAX bytes of valid UTF-8 without
 * '/', control characters or NUL; not "__metadata__", "." or "..".
 * Group rules: as a name, at most 100 bytes, and it does not begin with '.'.
 * A name that begins with "optim." is optimizer state: optim.STATE.PARAMETER.
 * Pure; a table may be read by any thread. */
#ifndef PTC_TABLE_H
#define PTC_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/str.h"
#include "ptc/box.h"
#include "ptc/dtype.h"

#define PTC_NAME_MAX    240
#define PTC_MAX_TENSORS 4000000u
#define PTC_MAX_OBJECTS 10000u
#define PTC_NONE        UINT32_MAX

struct ptc_tensor {
    struct base_str name;
    struct base_str group;
    const uint64_t *shape; /* n_dims entries, global */
    uint64_t n_elems;
    uint64_t n_bytes;
    uint32_t n_dims;
    uint32_t tie; /* index of the tensor whose bytes these are, never itself
                     tied; PTC_NONE when it has its own */
    enum ptc_dtype dtype;
};

struct ptc_object {
    struct base_str name; /* a file name, not ending in .safetensors */
    bool is_per_rank;     /* one per rank, else one for the job */
};

struct ptc_table;
void ptc_table_free(struct ptc_table *table);
BASE_AUTO_DEFINE(ptc_table);

uint32_t ptc_table_n_tensors(const struct ptc_table *table);
const struct ptc_tensor *ptc_table_tensor(const struct ptc_table *table,
                                          uint32_t idx);
/* PTC_NONE when there is none. */
uint32_t ptc_table_find(const struct ptc_table *table, struct base_str name);
/* The tensor that holds @idx's bytes: its tie, or itself. */
uint32_t ptc_table_root(const struct ptc_table *table, uint32_t idx);
uint32_t ptc_table_n_objects(const struct ptc_table *table);
const struct ptc_object *ptc_table_object(const struct ptc_table *table,
                                          uint32_t idx);
/* Groups, sorted by name. */
uint32_t ptc_table_n_groups(const struct ptc_table *table);
struct base_str ptc_table_group(const struct ptc_table *table, uint32_t idx);
/* Bytes of all tensors that are not ties. */
uint64_t ptc_table_n_bytes(const struct ptc_table *table);
struct base_digest ptc_table_digest(const struct ptc_table *table);

/* Split "optim.STATE.PARAMETER" (STATE has no dot).  False for other names. */
bool ptc_name_split_optim(struct base_str name,
                          struct base_str *ret_state,
                          struct base_str *ret_param);
/* Check a tensor's, group's or object's name; @what names it in the error. */
enum base_code ptc_name_check(struct base_str name,
                              const char *what,
                              struct base_err *err) BASE_MUST_CHECK;

/* Building: add in any order, then finish.  Copies what it is given. */
struct ptc_table_builder;
struct ptc_table_builder *ptc_table_builder_create(void); /* NULL: no memory */
void ptc_table_builder_free(struct ptc_table_builder *builder);
BASE_AUTO_DEFINE(ptc_table_builder);

/* Errors: BASE_BAD_INPUT  bad name or group, more than PTC_MAX_DIMS dims,
 *                         2^61 bytes or more, or no whole byte
 *         BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_table_add(struct ptc_table_builder *builder,
                             struct base_str name,
                             struct base_str group,
                             enum ptc_dtype dtype,
                             uint32_t n_dims,
                             const uint64_t *shape,
                             struct base_err *err) BASE_MUST_CHECK;
/* Declare that @name has the bytes of @target.  @name need not be added: it
 * then takes @target's dtype, shape and group. */
enum base_code ptc_table_add_tie(struct ptc_table_builder *builder,
                                 struct base_str name,
                                 struct base_str target,
                                 struct base_err *err) BASE_MUST_CHECK;
enum base_code ptc_table_add_object(struct ptc_table_builder *builder,
                                    struct base_str name,
                                    bool is_per_rank,
                                    struct base_err *err) BASE_MUST_CHECK;
/* Everything of @table, ties and objects too, into @builder. */
enum base_code ptc_table_add_all(struct ptc_table_builder *builder,
                                 const struct ptc_table *table,
                                 struct base_err *err) BASE_MUST_CHECK;
/* Errors: BASE_BAD_INPUT  a name twice (objects too: a job's and a rank's
 *                         object of one name), a tie to nothing or in a
 *                         circle (chains are followed), tied tensors that
 *                         differ in dtype, shape or group, a sum past 2^63
 * *ret is given.  The builder is empty afterwards. */
enum base_code ptc_table_finish(struct ptc_table_builder *builder,
                                struct ptc_table **ret,
                                struct base_err *err) BASE_MUST_CHECK;

/* The text form: one JSON document,
 *   {"retile_table": 1,
 *    "tensors": [{"name":..,"group":..,"dtype":..,"shape":[..]},    (a line each)
 *    "ties": {"lm_head.weight": "wte.weight"}, "objects": {"rng.json": "rank"|"job"}}
 * Tied tensors stand only under "ties".  Canonical: equal tables, equal bytes. */
enum base_code ptc_table_format(const struct ptc_table *table,
                                struct base_buf *buf,
                                struct base_err *err) BASE_MUST_CHECK;
/* @origin names the text in errors (a path).  Unknown keys, wrong types and
 * duplicate keys are BASE_BAD_INPUT. */
enum base_code ptc_table_parse(struct base_str text,
                               const char *origin,
                               struct ptc_table **ret,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
