/* The options of retile-fuse, checked; see `retile-fuse -o help`. */
#ifndef FUSE_OPTIONS_H
#define FUSE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"
#include "store/save.h"

struct fs_layout_option {
    char *name;
    char *file; /* absolute */
};

struct fs_options {
    const char *from;   /* --from; may be NULL, as table */
    const char *table;  /* --table */
    const char *job;    /* --job: `source` is a store; NULL: a directory */
    const char *layout; /* --layout: of a job that has no version yet; a file's
                           name is absolute; may be NULL */
    const char *agent;  /* --agent: orders generations and decides saves; NULL:
                           the mount does itself */
    char *source;       /* absolute, links resolved */
    char *mountpoint;   /* the same */
    bool is_foreground;
    bool allow_other;
    bool is_new;         /* the job may be one that the store does not know */
    bool is_verifying;   /* verify=read: bytes against their digests */
    bool is_page_cache;  /* cache=page: never direct I/O */
    uint64_t masked;     /* features of the kernel not to be used */
    unsigned n_threads;  /* at least 2 */
    uint64_t view_bytes; /* memory for views of files that are not open */
    char *log;           /* where a daemon's messages go; NULL: nowhere */
    BASE_VEC(struct fs_layout_option) layouts;
    struct base_buf kernel; /* options for the kernel: ",noexec,noatime" */
    /* Whom everything belongs to. */
    uid_t uid;
    gid_t gid;
    /* Saves. */
    enum store_replicas replicas;
    uint64_t commit_wait_s; /* for writers that are still open */
    uint64_t decide_wait_s; /* for the coordinator, under an agent */
    uint64_t save_expire_s; /* an untouched step is dropped; 0: never */
    bool is_digesting;
    bool is_compacting;
    char *layout_file; /* owns layout */
    char *from_file;   /* owns from */
    char *table_file;  /* owns table */
    /* Servers that die or hang. */
    uint64_t hang_s;       /* without an answer: it hangs; 0: not watched */
    uint64_t max_restarts; /* within a minute */
};

void fs_options_init(struct fs_options *options);
void fs_options_done(struct fs_options *options);

/* Read a list as in `-o a,b=c`; "\," and "\\" stand for the characters.  May
 * be called several times.
 * Errors: BASE_BAD_ARG  an unknown option (nearest is named) or a bad value */
enum base_code fs_options_add(struct fs_options *options,
                              const char *list,
                              struct base_err *err) BASE_MUST_CHECK;

/* What --from and --table say of a directory; names of files become absolute.
 * Either may be NULL. */
enum base_code fs_options_from(struct fs_options *options,
                               const char *from,
                               const char *table,
                               struct base_err *err) BASE_MUST_CHECK;

/* Resolve the two paths of the command line.
 * Errors: BASE_NOT_FOUND, BASE_BAD_ARG  (no directory; one inside the other,
 *         which would wait for itself; a dead mount on it) */
enum base_code fs_options_paths(struct fs_options *options,
                                const char *source,
                                const char *mountpoint,
                                struct base_err *err) BASE_MUST_CHECK;

/* Set the layout of --layout: a SPEC, as on any command line.
 * Errors: what is wrong with it; BASE_BAD_ARG  it is no layout at all */
enum base_code fs_options_layout(struct fs_options *options,
                                 const char *spec,
                                 struct base_err *err) BASE_MUST_CHECK;

/* The list that `-o help` prints. */
void fs_options_help(FILE *out);

#endif
