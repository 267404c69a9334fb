/* What stands before the first special byte of a pattern and after the last
 * must stand so in every name that matches; a pattern with one star between
 * them, or nothing at all, needs no more.  (A `]` is special here: after the
 * last one no bracket is open.) */
#include "ptc/glob.h"

#include <assert.h>
#include <fnmatch.h>

#include "ptc/table.h"

struct ptc_glob ptc_glob_of(struct base_str pattern)
{
    struct ptc_glob glob = {.pattern = pattern.ptr, .n_bytes = pattern.len};

    assert(pattern.ptr[pattern.len] == '\0');
    glob.n_prefix = strcspn(pattern.ptr, "*?[\\");
    while (glob.n_suffix < pattern.len - glob.n_prefix &&
           strchr("*?[]\\", pattern.ptr[pattern.len - 1 - glob.n_suffix]) ==
               NULL) {
        glob.n_suffix++;
    }
    return glob;
}

bool ptc_glob_matches(const struct ptc_glob *glob, struct base_str name)
{
    size_t n_plain = glob->n_prefix + glob->n_suffix;
    struct base_str prefix = {glob->pattern, glob->n_prefix};
    struct base_str suffix = {glob->pattern + glob->n_bytes - glob->n_suffix,
                              glob->n_suffix};
    char text[PTC_NAME_MAX + 1];

    if (glob->n_prefix == glob->n_bytes) {
        return base_str_eq(name, prefix);
    }
    if (name.len < n_plain || name.len > PTC_NAME_MAX ||
        !base_str_ends(name, suffix) || !base_str_starts(name, prefix)) {
        return false;
    }
    if (n_plain + 1 == glob->n_bytes && glob->pattern[glob->n_prefix] == '*') {
        return true;
    }
    memcpy(text, name.ptr, name.len);
    text[name.len] = '\0';
    return fnmatch(glob->pattern, text, 0) == 0;
}
