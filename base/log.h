/* Logging for programs; libraries do not log.  One line to stderr: a
 * lower-case sentence, then key=value fields; or the same as a JSON object:
 *
 *   retile-fuse: warning: it was so, and is not host=h0
 *   {"time":"2026-01-31T12:00:00.123Z","program":"retile-fuse",
 *    "level":"warning","message":"it was so, and is not","host":"h0"}
 *
 * (on one line; "cut":true at its end when fields did not fit). */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum base_level {
    BASE_ERROR,   /* failed, someone must look */
    BASE_WARNING, /* survived; the text says how */
    BASE_NOTICE,  /* state changes */
    BASE_INFO,    /* requests */
    BASE_DEBUG,
};

enum base_log_format {
    BASE_LOG_TEXT,
    BASE_LOG_JSON,
};

/* Of each, in the order of its values; NULL ends them. */
extern const char *const base_level_names[];
extern const char *const base_log_format_names[];

/* Set the program's name (borrowed for ever), the level: RETILE_LOG
 * (error..debug), default notice, and the format: RETILE_LOG_FORMAT (text, json).
 * Call once from main, before threads. */
void base_log_init(const char *name);
/* Any thread, at any time. */
void base_log_set_level(enum base_level level);
void base_log_set_format(enum base_log_format format);
/* Any thread.  Fields are pairs of strings; values are quoted when they need it.  More than
 * 10 lines of one sentence within a second are counted, not printed. */
void base_log_(enum base_level level, const char *sentence, ...)
    __attribute__((sentinel));
#define base_log(level, ...) base_log_((level), __VA_ARGS__, (char *)0)

#endif
