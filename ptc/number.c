/* The number in a name; see number.h.
 *
 * No just-in-time compilation: it needs writable and executable memory, and
 * names are short.  The limits below stop an expression that backtracks
 * exponentially within some milliseconds. */
#include "ptc/number.h"

#include <assert.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/num.h"

enum {
    MAX_NESTING = 32,    /* of parentheses */
    MAX_MATCH = 200000,  /* calls of PCRE2's inner match function */
    MAX_DEPTH = 5000,    /* backtracking points at a time */
    MAX_HEAP_KIB = 4096, /* for those */
    MESSAGE_BYTES = 160, /* PCRE2's messages are at most about 100 */
};

struct ptc_number {
    pcre2_code *code;
    pcre2_match_context *context;
    pcre2_match_data *match;
};

void ptc_number_free(struct ptc_number *number)
{
    if (number == NULL) {
        return;
    }
    pcre2_match_data_free(number->match);
    pcre2_match_context_free(number->context);
    pcre2_code_free(number->code);
    free(number);
}

static enum base_code
fail_pcre(struct base_err *err, int number, const char *what, size_t at)
{
    PCRE2_UCHAR message[MESSAGE_BYTES];

    if (number == PCRE2_ERROR_NOMEMORY || number == PCRE2_ERROR_HEAP_FAILED) {
        return base_fail(err, BASE_NO_MEM, "cannot compile an expression");
    }
    if (pcre2_get_error_message(number, message, sizeof(message)) < 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s: error %d", what, number);
    }
    return base_fail(err, BASE_BAD_INPUT, "%s: %s at offset %zu", what,
                     (const char *)message, at);
}

static enum base_code compile(struct ptc_number *number,
                              struct base_str pattern,
                              struct base_err *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    PCRE2_SIZE at = 0;
    int failed = 0;

    if (context == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot compile an expression");
    }
    /* Cannot fail: both only store a number. */
    (void)pcre2_set_max_pattern_length(context, PTC_PATTERN_MAX_BYTES);
    (void)pcre2_set_parens_nest_limit(context, MAX_NESTING);
    number->code = pcre2_compile((PCRE2_SPTR)pattern.ptr, pattern.len,
                                 PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C |
                                     PCRE2_DOLLAR_ENDONLY,
                                 &failed, &at, context);
    pcre2_compile_context_free(context);
    if (number->code == NULL) {
        return fail_pcre(err, failed, "bad expression", at);
    }
    return BASE_OK;
}

enum base_code ptc_number_create(struct base_str pattern,
                                 struct ptc_number **ret,
                                 struct base_err *err)
{
    BASE_AUTO(ptc_number) number = calloc(1, sizeof(*number));
    uint32_t n_groups = 0;

    if (number == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot compile an expression");
    }
    if (pattern.len > PTC_PATTERN_MAX_BYTES) {
        return base_fail(err, BASE_BAD_INPUT,
                         "bad expression: longer than %u bytes",
                         PTC_PATTERN_MAX_BYTES);
    }
    BASE_TRY(compile(number, pattern, err));
    (void)pcre2_pattern_info(/* cannot fail on good code */
                             number->code, PCRE2_INFO_CAPTURECOUNT, &n_groups);
    if (n_groups != 1) {
        return base_fail(err, BASE_BAD_INPUT,
                         "bad expression: it has %u groups, not one (the "
                         "number)",
                         n_groups);
    }
    number->context = pcre2_match_context_create(NULL);
    number->match = pcre2_match_data_create_from_pattern(number->code, NULL);
    if (number->context == NULL || number->match == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot compile an expression");
    }
    /* Cannot fail either. */
    (void)pcre2_set_match_limit(number->context, MAX_MATCH);
    (void)pcre2_set_depth_limit(number->context, MAX_DEPTH);
    (void)pcre2_set_heap_limit(number->context, MAX_HEAP_KIB);
    *ret = base_steal(&number);
    return BASE_OK;
}

/* The text of group 1 after a match; empty when the group took no part. */
static struct base_str group_text(const struct ptc_number *number,
                                  struct base_str name)
{
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(number->match);

    /* \K in a lookahead may put the end before the start. */
    if (ends[2] == PCRE2_UNSET || ends[3] == PCRE2_UNSET || ends[2] > ends[3] ||
        ends[3] > name.len) {
        return (struct base_str){"", 0};
    }
    return (struct base_str){name.ptr + ends[2], ends[3] - ends[2]};
}

enum base_code ptc_number_read(struct ptc_number *number,
                               struct base_str name,
                               bool *ret_found,
                               uint32_t *ret_number,
                               struct base_err *err)
{
    struct base_str text;
    uint64_t value;
    int n;

    assert(number != NULL && number->code != NULL);
    n = pcre2_match(number->code, (PCRE2_SPTR)(name.len == 0 ? "" : name.ptr),
                    name.len, 0, 0, number->match, number->context);
    if (n == PCRE2_ERROR_NOMATCH) {
        *ret_found = false;
        return BASE_OK;
    }
    if (n == PCRE2_ERROR_MATCHLIMIT || n == PCRE2_ERROR_DEPTHLIMIT ||
        n == PCRE2_ERROR_HEAPLIMIT) {
        return base_fail(err, BASE_LIMIT,
                         "%.*s: the expression that reads its number "
                         "backtracks too much",
                         BASE_STR_FMT(name));
    }
    if (n < 0) {
        return fail_pcre(err, n, "cannot read a number from a name", 0);
    }
    text = group_text(number, name);
    if (!base_parse_u64(text, &value) || value > PTC_NUMBER_MAX) {
        return base_fail(
            err, BASE_BAD_INPUT, "%.*s: '%.*s' is not a number up to %d",
            BASE_STR_FMT(name), BASE_STR_FMT(text), PTC_NUMBER_MAX);
    }
    *ret_found = true;
    *ret_number = (uint32_t)value;
    return BASE_OK;
}
