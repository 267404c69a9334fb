/* What the parts of the spec parser share: errors with file and line, and
 * values out of nodes.  Internal to ptc/spec_*.c.
 *
 * Every getter takes the node of a value and the key it stands under; every
 * error is BASE_BAD_INPUT and reads "FILE:LINE: key: ..." unless said. */
#ifndef PTC_SPEC_READ_H
#define PTC_SPEC_READ_H

#include "base/yaml.h"
#include "ptc/spec.h"

#define PTC_SPEC_ARENA_BYTES    ((size_t)64 << 20)
#define PTC_SPEC_GLOB_MAX_BYTES 480u /* quoted, a key of 1024 characters */

struct ptc_spec_reader {
    const char *origin;
    struct ptc_spec *spec; /* being filled */
    struct base_err *err;
};

/* Set the reader's error; yields BASE_BAD_INPUT, visibly to compilers. */
#define ptc_spec_fail(...) (ptc_spec_fail_(__VA_ARGS__), BASE_BAD_INPUT)
void ptc_spec_fail_(const struct ptc_spec_reader *reader,
                    const struct base_yaml_node *node,
                    const char *key,
                    const char *fmt,
                    ...) __attribute__((format(printf, 4, 5)));

/* Memory in the spec's arena; NULL with BASE_NO_MEM as the reader's error. */
void *ptc_spec_alloc(const struct ptc_spec_reader *reader,
                     size_t n,
                     size_t item_bytes);

/* The value under @key, or NULL. */
const struct base_yaml_node *ptc_spec_find(const struct base_yaml_node *map,
                                           const char *key);
enum base_code ptc_spec_check_kind(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *node,
                                   const char *key,
                                   enum base_yaml_kind kind) BASE_MUST_CHECK;
/* Refuse keys of @map that are not in @known, naming the nearest. */
enum base_code ptc_spec_check_keys(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *map,
                                   const char *const *known,
                                   size_t n_known) BASE_MUST_CHECK;

enum base_code ptc_spec_u64(const struct ptc_spec_reader *reader,
                            const struct base_yaml_node *node,
                            const char *key,
                            uint64_t min,
                            uint64_t max,
                            uint64_t *ret) BASE_MUST_CHECK;
enum base_code ptc_spec_u64_list(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *node,
                                 const char *key,
                                 uint64_t min,
                                 uint64_t max,
                                 const uint64_t **ret,
                                 uint32_t *ret_n) BASE_MUST_CHECK;
enum base_code ptc_spec_u32_list(const struct ptc_spec_reader *reader,
                                 const struct base_yaml_node *node,
                                 const char *key,
                                 uint32_t max,
                                 const uint32_t **ret,
                                 uint32_t *ret_n) BASE_MUST_CHECK;
/* `true` or `false`; a missing node leaves *ret alone. */
enum base_code ptc_spec_bool(const struct ptc_spec_reader *reader,
                             const struct base_yaml_node *node,
                             const char *key,
                             bool *ret) BASE_MUST_CHECK;
/* A text that is not empty, of at most @max bytes, copied. */
enum base_code ptc_spec_text(const struct ptc_spec_reader *reader,
                             const struct base_yaml_node *node,
                             const char *key,
                             size_t max,
                             struct base_str *ret) BASE_MUST_CHECK;
/* A name of our own (axis, mesh, flat), copied: [A-Za-z_][A-Za-z0-9_]*, at
 * most 32 bytes, not what YAML takes for null.  @node gives the line. */
enum base_code ptc_spec_name(const struct ptc_spec_reader *reader,
                             const struct base_yaml_node *node,
                             const char *key,
                             struct base_str text,
                             struct base_str *ret) BASE_MUST_CHECK;
/* A list of 1 or more different names of axes. */
enum base_code ptc_spec_axis_names(const struct ptc_spec_reader *reader,
                                   const struct base_yaml_node *node,
                                   const char *key,
                                   struct base_str *ret,
                                   uint32_t *ret_n) BASE_MUST_CHECK;
/* The axis that @name is in @mesh; if there is none, an error that helps. */
enum base_code ptc_spec_axis(const struct ptc_spec_reader *reader,
                             const struct base_yaml_node *node,
                             const char *key,
                             uint32_t mesh,
                             struct base_str name,
                             uint32_t *ret) BASE_MUST_CHECK;

/* The list under `rules` into the spec, whose other parts are read already. */
enum base_code
ptc_spec_read_rules(const struct ptc_spec_reader *reader,
                    const struct base_yaml_node *rules) BASE_MUST_CHECK;

#endif
