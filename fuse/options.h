/* The options of retile-fuse, checked; see `retile-fuse -o help`. */
#ifndef FUSE_OPTIONS_H
#define FUSE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/str.h"

struct fs_layout_option {
    char *name;
    char *file; /* absolute */
};

struct fs_options {
    const char *from;  /* --from, borrowed from argv; may be NULL */
    const char *table; /* --table */
    const char *job;   /* --job: `source` is a store; NULL: a directory */
    char *source;      /* absolute, links resolved */
    char *mountpoint;  /* the same */
    bool is_foreground;
    bool allow_other;
    bool is_page_cache;  /* cache=page: never direct I/O */
    uint64_t masked;     /* features of the kernel not to be used */
    unsigned n_threads;  /* at least 2 */
    uint64_t view_bytes; /* memory for views of files that are not open */
    char *log;           /* where a daemon's messages go; NULL: nowhere */
    BASE_VEC(struct fs_layout_option) layouts;
    struct base_buf kernel; /* options for the kernel: ",noexec,noatime" */
};

void fs_options_init(struct fs_options *options);
void fs_options_done(struct fs_options *options);

/* Read a list as in `-o a,b=c`; "\," and "\\" stand for the characters.  May
 * be called several times.
 * Errors: BASE_BAD_ARG  an unknown option (nearest is named) or a bad value */
enum base_code fs_options_add(struct fs_options *options,
                              const char *list,
                              struct base_err *err) BASE_MUST_CHECK;

/* Resolve the two paths of the command line.
 * Errors: BASE_NOT_FOUND, BASE_BAD_ARG  (no directory; one inside the other,
 *         which would wait for itself; a dead mount on it) */
enum base_code fs_options_paths(struct fs_options *options,
                                const char *source,
                                const char *mountpoint,
                                struct base_err *err) BASE_MUST_CHECK;

/* The list that `-o help` prints. */
void fs_options_help(FILE *out);

#endif
