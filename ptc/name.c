/* Names of tensors, groups and objects: see ptc/table.h. */
#include "ptc/table.h"

/* Control characters are those of ASCII and, as U+0080 to U+009F, of
 * Latin-1: a terminal obeys both. */
static bool has_control(struct base_str name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];

        if (c < 0x20 || c == 0x7f) {
            return true;
        }
        if (c == 0xc2 && i + 1 < name.len &&
            (unsigned char)name.ptr[i + 1] < 0xa0) {
            return true;
        }
    }
    return false;
}

enum base_code
ptc_name_check(struct base_str name, const char *what, struct base_err *err)
{
    const char *reason = NULL;

    if (name.len == 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s: the name is empty", what);
    }
    if (name.len > PTC_NAME_MAX) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s '%.60s...': the name has %zu bytes, at most %d "
                         "are allowed",
                         what, name.ptr, name.len, PTC_NAME_MAX);
    }
    if (!base_str_is_utf8(name)) {
        reason = "is not UTF-8";
    } else if (has_control(name)) {
        reason = "has a control character";
    } else if (memchr(name.ptr, '/', name.len) != NULL) {
        reason = "has a '/'";
    } else if (base_str_eq(name, BASE_STR("__metadata__")) ||
               base_str_eq(name, BASE_STR(".")) ||
               base_str_eq(name, BASE_STR(".."))) {
        reason = "is reserved";
    }
    if (reason != NULL) {
        return base_fail(err, BASE_BAD_INPUT, "%s '%.*s': the name %s", what,
                         BASE_STR_FMT(name), reason);
    }
    return BASE_OK;
}

bool ptc_name_split_optim(struct base_str name,
                          struct base_str *ret_state,
                          struct base_str *ret_param)
{
    const struct base_str prefix = BASE_STR("optim.");
    struct base_str rest;
    const char *dot;
    size_t n;

    if (!base_str_starts(name, prefix)) {
        return false;
    }
    rest = (struct base_str){name.ptr + prefix.len, name.len - prefix.len};
    dot = memchr(rest.ptr, '.', rest.len);
    if (dot == NULL) {
        return false;
    }
    n = (size_t)(dot - rest.ptr);
    if (n == 0 || n + 1 == rest.len) {
        return false;
    }
    *ret_state = (struct base_str){rest.ptr, n};
    *ret_param = (struct base_str){dot + 1, rest.len - n - 1};
    return true;
}
