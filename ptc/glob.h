/* Globs over names: what fnmatch(3) without flags matches in the C locale, but
 * compiled once, bounded (no backtracking beyond the last star) and the same
 * whatever locale a program sets.  `*` crosses dots; `?` and `[...]` are one
 * byte.  Pure. */
#ifndef PTC_GLOB_H
#define PTC_GLOB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* One byte that a glob asks for. */
struct ptc_glob_atom {
    uint8_t byte; /* of a plain one */
    uint8_t kind; /* the glob's own */
    uint16_t set; /* of a bracket: index of sets */
};

struct ptc_glob {
    struct base_str prefix; /* plain bytes before the first special */
    struct base_str suffix; /* plain bytes after the last star */
    bool is_plain;          /* no special at all: prefix is the name */
    bool is_simple;         /* prefix, one star, suffix */
    uint32_t min_bytes;     /* the shortest name it can match */
    uint32_t n_atoms;
    const struct ptc_glob_atom *atoms;
    const uint64_t (*sets)[4]; /* 256 bits each */
};

/* Compile @pattern into *ret; everything lives in @arena.  Any pattern is
 * valid (an open bracket without its end is a plain byte).
 * Errors: BASE_LIMIT  longer than 4096 bytes, BASE_NO_MEM */
enum base_code ptc_glob_compile(struct base_arena *arena,
                                struct base_str pattern,
                                struct ptc_glob *ret,
                                struct base_err *err) BASE_MUST_CHECK;

bool ptc_glob_matches(const struct ptc_glob *glob, struct base_str name);

#endif
