#include "store/problems.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

static void tell(struct store_problems *problems,
                 bool is_refusal,
                 const struct base_err *line)
{
    if (problems->tell != NULL) {
        problems->tell(problems->ctx, is_refusal, line->text);
    }
}

static void keep(struct store_problems *problems, const struct base_err *line)
{
    if (problems->n++ == 0) {
        problems->first = *line;
    }
    if (problems->n <= STORE_PROBLEMS_MAX_TOLD) {
        tell(problems, true, line);
    }
}

/* base_fail cuts a line that is too long, and keeps it one line. */
__attribute__((format(printf, 3, 0))) static void line_make(
    struct base_err *line, enum base_code code, const char *fmt, va_list args)
{
    char text[BASE_ERR_TEXT_BYTES + 1];

    (void)vsnprintf(text, sizeof(text), fmt, args);
    (void)base_fail(line, code, "%s", text);
}

void store_problems_note(struct store_problems *problems, const char *fmt, ...)
{
    struct base_err line;
    va_list args;

    va_start(args, fmt);
    line_make(&line, BASE_OK, fmt, args);
    va_end(args);
    tell(problems, false, &line);
}

void store_problems_add(struct store_problems *problems,
                        enum base_code code,
                        const char *fmt,
                        ...)
{
    struct base_err line;
    va_list args;

    va_start(args, fmt);
    line_make(&line, code, fmt, args);
    va_end(args);
    keep(problems, &line);
}

enum base_code store_problems_take(struct store_problems *problems,
                                   enum base_code code,
                                   struct base_err *err)
{
    if (problems == NULL || code == BASE_OK) {
        return code;
    }
    switch (code) {
    case BASE_BAD_ARG:
    case BASE_BAD_INPUT:
    case BASE_MISMATCH:
    case BASE_LIMIT:
    case BASE_DENIED: /* a file's mode is its writer's */
    case BASE_UNSUPPORTED:
        keep(problems, err);
        return BASE_OK;
    case BASE_OK:
    case BASE_NOT_FOUND:
    case BASE_EXISTS:
    case BASE_NO_MEM:
    case BASE_NO_SPACE:
    case BASE_IO:
    case BASE_CHANGED:
    case BASE_INTERRUPTED:
    case BASE_UNREACHABLE:
    case BASE_TIMEOUT:
        break;
    }
    return code;
}

enum base_code store_problems_end(struct store_problems *problems,
                                  struct base_err *err)
{
    uint64_t n = problems->n;
    enum base_code code = problems->first.code;
    struct base_err line;

    if (n == 0) {
        return BASE_OK;
    }
    if (n > STORE_PROBLEMS_MAX_TOLD) {
        (void)base_fail(&line, code, "and %" PRIu64 " more",
                        n - STORE_PROBLEMS_MAX_TOLD);
        tell(problems, true, &line);
    }
    /* What refuses is the save: it is one of these two. */
    code = code == BASE_MISMATCH ? BASE_MISMATCH : BASE_BAD_INPUT;
    if (n == 1) {
        return base_fail(err, code, "%s", problems->first.text);
    }
    (void)base_fail(err, code, "%s", problems->first.text);
    return base_wrap(err, code, "%" PRIu64 " problems, the first", n);
}
