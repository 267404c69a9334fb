/* Logging for programs; libraries do not log.  One line to stderr: a
 * lower-case sentence, then key=value fields. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum base_level {
    BASE_ERROR,   /* failed, someone must look */
    BASE_WARNING, /* survived; the text says how */
    BASE_NOTICE,  /* state changes */
    BASE_INFO,    /* requests */
    BASE_DEBUG,
};

/* Set the program's name (borrowed for ever) and the level: RETILE_LOG
 * (error..debug), default notice.  Call once from main, before threads. */
void base_log_init(const char *name);
/* Any thread.  Fields are pairs of strings; values are quoted when they need it.  More than
 * 10 lines of one sentence within a second are counted, not printed. */
void base_log_(enum base_level level, const char *sentence, ...)
    __attribute__((sentinel));
#define base_log(level, ...) base_log_((level), __VA_ARGS__, (char *)0)

#endif
