/* YAML as a small tree with line numbers: the subset that specs and settings are
 * written in.  One document, which may be empty (a null); no anchors, aliases or
 * tags; keys are scalars, each once in its mapping.  Scalars hold one line of
 * printable text.
 *
 * Bytes come from outside: everything is bounded.  Pure. */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

#define BASE_YAML_MAX_DEPTH  8u   /* lists and mappings inside one another */
#define BASE_YAML_MAX_KEYS   256u /* of one mapping */
#define BASE_YAML_MAX_NODES  600000u
#define BASE_YAML_MAX_ORIGIN 200 /* bytes of the origin that an error shows */

enum base_yaml_kind {
    BASE_YAML_NULL, /* plain ~, null or nothing */
    BASE_YAML_TEXT,
    BASE_YAML_LIST,
    BASE_YAML_MAP,
};

struct base_yaml_node {
    enum base_yaml_kind kind;
    uint32_t line;        /* from 1 */
    bool is_plain;        /* text without quotes: may be a number */
    struct base_str key;  /* in a mapping; NUL-terminated */
    struct base_str text; /* NUL-terminated; what was written, for a null too */
    uint32_t n_children;
    struct base_yaml_node *children; /* first item or entry, in written order */
    struct base_yaml_node *next;     /* after this one */
};

/* Parse @text; nodes and their text live in @arena.  @origin names the text in
 * errors: "ORIGIN:LINE: ...".
 * Errors: BASE_BAD_INPUT  not UTF-8, NUL, bad YAML, a thing refused above
 *         BASE_LIMIT      too deep, too many nodes or keys
 *         BASE_NO_MEM */
enum base_code base_yaml_parse(struct base_str text,
                               const char *origin,
                               struct base_arena *arena,
                               const struct base_yaml_node **ret_root,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
