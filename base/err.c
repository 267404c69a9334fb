#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *base_code_text(enum base_code code)
{
    switch (code) {
#define X(code_, text_)                                                        \
    case code_:                                                                \
        return text_;
        BASE_CODES(X)
#undef X
    }
    return "unknown error";
}

int base_code_exit(enum base_code code)
{
    switch (code) {
    case BASE_OK:
        return 0;
    case BASE_BAD_ARG:
        return 2;
    case BASE_NOT_FOUND:
        return 3;
    case BASE_UNREACHABLE:
        return 4;
    case BASE_BAD_INPUT:
    case BASE_MISMATCH:
    case BASE_EXISTS:
    case BASE_DENIED:
    case BASE_LIMIT:
    case BASE_NO_MEM:
    case BASE_NO_SPACE:
    case BASE_IO:
    case BASE_CHANGED:
    case BASE_INTERRUPTED:
    case BASE_UNSUPPORTED:
    case BASE_TIMEOUT:
        break;
    }
    return 1;
}

/* Make the first @len bytes of a text that wanted @wanted bytes one line. */
static void text_finish(struct base_err *err, size_t wanted)
{
    unsigned char *at;

    if (wanted >= sizeof(err->text)) {
        memcpy(err->text + sizeof(err->text) - 4, "...", 4);
    }
    for (at = (unsigned char *)err->text; *at != '\0'; at++) {
        if (*at < 0x20 || *at == 0x7f) {
            *at = '?';
        }
    }
}

__attribute__((format(printf, 2, 0))) static size_t
text_format(struct base_err *err, const char *fmt, va_list args)
{
    int n = vsnprintf(err->text, sizeof(err->text), fmt, args);

    if (n < 0) {
        err->text[0] = '\0';
        return 0;
    }
    return (size_t)n;
}

/* Append to a text of which @len bytes were wanted so far; the new total. */
static size_t text_append(struct base_err *err, size_t len, const char *more)
{
    size_t n = strlen(more);

    if (len < sizeof(err->text) - 1) {
        size_t room = sizeof(err->text) - 1 - len;
        size_t part = n < room ? n : room;

        memcpy(err->text + len, more, part);
        err->text[len + part] = '\0';
    }
    return len + n;
}

enum base_code
base_fail(struct base_err *err, enum base_code code, const char *fmt, ...)
{
    va_list args;

    if (err != NULL) {
        err->code = code;
        va_start(args, fmt);
        text_finish(err, text_format(err, fmt, args));
        va_end(args);
    }
    return code;
}

static enum base_code code_of_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return BASE_NO_SPACE;
    case ENOENT:
        return BASE_NOT_FOUND;
    case EACCES:
    case EPERM:
    case EROFS:
        return BASE_DENIED;
    case ENOMEM:
        return BASE_NO_MEM;
    case EEXIST:
    case ENOTEMPTY:
        return BASE_EXISTS;
    case EINTR:
        return BASE_INTERRUPTED;
    default:
        return BASE_IO;
    }
}

enum base_code
base_fail_errno(struct base_err *err, int errnum, const char *fmt, ...)
{
    enum base_code code = code_of_errno(errnum);
    char scratch[128];
    va_list args;
    size_t len;

    if (err != NULL) {
        err->code = code;
        va_start(args, fmt);
        len = text_format(err, fmt, args);
        va_end(args);
        len = text_append(err, len, ": ");
        len =
            text_append(err, len, strerror_r(errnum, scratch, sizeof(scratch)));
        text_finish(err, len);
    }
    return code;
}

enum base_code
base_wrap(struct base_err *err, enum base_code code, const char *fmt, ...)
{
    char inner[BASE_ERR_TEXT_BYTES];
    va_list args;
    size_t len;

    if (err != NULL) {
        memcpy(inner, err->text, sizeof(inner));
        err->code = code;
        va_start(args, fmt);
        len = text_format(err, fmt, args);
        va_end(args);
        len = text_append(err, len, ": ");
        len = text_append(err, len, inner);
        text_finish(err, len);
    }
    return code;
}
