/* Errors that travel: a code, and text in the caller's frame.
 *
 * A function that can fail returns enum base_code and takes a struct base_err
 * as its last argument (the caller's; may be NULL).  The text travels, without
 * allocation, to the one place that acts: a terminal, a FUSE reply, an RPC.
 *
 * Any thread; an object belongs to the frame that declares it. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

/* code, text.  Each audience maps codes in one switch without default. */
#define BASE_CODES(X)                                                          \
    X(BASE_OK, "ok")                                                           \
    X(BASE_BAD_ARG, "bad argument") /* the caller asked for nonsense */        \
    X(BASE_BAD_INPUT, "bad input")  /* a file or a spec is malformed */        \
    X(BASE_MISMATCH, "mismatch")    /* two good things disagree */             \
    X(BASE_NOT_FOUND, "not found")                                             \
    X(BASE_EXISTS, "exists already")                                           \
    X(BASE_DENIED, "permission denied")                                        \
    X(BASE_LIMIT, "limit exceeded")                                            \
    X(BASE_NO_MEM, "out of memory")                                            \
    X(BASE_NO_SPACE, "no space left")                                          \
    X(BASE_IO, "input/output error")                                           \
    X(BASE_CHANGED,                                                            \
      "changed while in use") /* a source that is not as it was */             \
    X(BASE_INTERRUPTED, "interrupted")                                         \
    X(BASE_UNSUPPORTED, "not supported")                                       \
    X(BASE_UNREACHABLE, "unreachable")   /* nobody answers; outcome unknown */ \
    X(BASE_TIMEOUT, "deadline exceeded") /* no answer in time; ditto */

enum base_code {
#define X(code, text) code,
    BASE_CODES(X)
#undef X
};

#define BASE_ERR_TEXT_BYTES 400

struct base_err {
    enum base_code code;
    char text[BASE_ERR_TEXT_BYTES]; /* one line, valid UTF-8 not promised */
};

#define BASE_MUST_CHECK __attribute__((warn_unused_result))

/* The text of a code, e.g. "bad input".  Static. */
const char *base_code_text(enum base_code code);

/* What a program exits with: 0 done, 1 failed, 2 usage, 3 not found, 4 the other
 * end does not answer. */
int base_code_exit(enum base_code code);

/* Set *err (if not NULL) to @code and the formatted text; return @code.  Text
 * that does not fit is cut and ends in "...".  Control characters become '?'. */
enum base_code
base_fail(struct base_err *err, enum base_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As base_fail, with ": " and strerror(@errnum) after the text, and the code
 * that @errnum stands for (ENOSPC -> BASE_NO_SPACE, ENOENT -> BASE_NOT_FOUND,
 * EACCES/EPERM/EROFS -> BASE_DENIED, ENOMEM -> BASE_NO_MEM, EEXIST/ENOTEMPTY
 * -> BASE_EXISTS, EINTR -> BASE_INTERRUPTED, else BASE_IO). */
enum base_code
base_fail_errno(struct base_err *err, int errnum, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "<formatted text>: " before the text of *err; return @code, unchanged. */
enum base_code
base_wrap(struct base_err *err, enum base_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Return from the calling function when @expr is not BASE_OK. */
#define BASE_TRY(expr)                                                         \
    do {                                                                       \
        enum base_code base_try_code_ = (expr);                                \
        if (base_try_code_ != BASE_OK) {                                       \
            return base_try_code_;                                             \
        }                                                                      \
    } while (0)

#endif
