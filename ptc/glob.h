/* Globs over names: fnmatch(3) without flags, behind cheap checks that tell
 * most names apart.  `*` crosses dots.
 *
 * fnmatch goes by the program's locale.  Ours set none, so it is C, `?` and
 * `[...]` are one byte each, and equal specs match equally everywhere.  Pure
 * as long as that holds. */
#ifndef PTC_GLOB_H
#define PTC_GLOB_H

#include <stdbool.h>

#include "base/str.h"

struct ptc_glob {
    const char *pattern; /* borrowed */
    size_t n_prefix;     /* bytes before the first special one */
    size_t n_suffix;     /* bytes after the last special one */
    size_t n_bytes;
};

/* Any pattern is valid; it is NUL-terminated, and outlives the glob. */
struct ptc_glob ptc_glob_of(struct base_str pattern);

/* A name of more than PTC_NAME_MAX bytes matches nothing. */
bool ptc_glob_matches(const struct ptc_glob *glob, struct base_str name);

#endif
