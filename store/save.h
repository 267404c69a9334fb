/* Saves: what training ranks write, until it is a version.
 *
 *   ROOT/staging/save.JOB/lock      flocked by the one mount that takes the
 *                                   saves of JOB, as long as it lives; its pid
 *   ROOT/staging/save.JOB/100/      step 100 as the ranks wrote it: the plain
 *                                   form, ordinary files
 *   ROOT/staging/save.JOB/gone/     files that were removed while open
 *
 * A commit copies nothing.  The files are checked as a plain directory is, each
 * file that has something no lower rank gave is linked into blobs/, and the
 * manifest names it there: until the one rename that publishes, nothing of
 * JOB/100 in staging is changed, so that a refused save can be mended.  Regions
 * are not digested yet; store_save_finish does that afterwards, compares the
 * replicas and removes the files' names in staging.
 *
 * Whoever takes the store's lock removes a save.JOB whose lock nobody holds.
 *
 * One thread at a time, but for store_staging_room. */
#ifndef STORE_SAVE_H
#define STORE_SAVE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/root.h"
#include "store/vote.h"

struct store_staging;
void store_staging_free(struct store_staging *staging); /* keeps the files */
BASE_AUTO_DEFINE(store_staging);

/* Take the saves of @job: make staging/save.JOB, lock it, and remove what a
 * dead mount left there.
 * Errors: BASE_EXISTS  another process takes them (the text names its pid) */
enum base_code store_staging_open(struct store_root *root,
                                  const char *job,
                                  struct store_staging **ret,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Go on with a lock that a dead server of the same mount had: @lock_fd (taken
 * on success) is its descriptor, of the same open file.  Files stay.
 * Errors: BASE_CHANGED  that lock is not the directory's any more */
enum base_code store_staging_adopt(struct store_root *root,
                                   const char *job,
                                   int lock_fd,
                                   struct store_staging **ret,
                                   struct base_err *err) BASE_MUST_CHECK;
/* Remove it with all files: the mount ends. */
enum base_code store_staging_remove(struct store_staging **staging,
                                    struct base_err *err) BASE_MUST_CHECK;

int store_staging_fd(const struct store_staging *staging); /* the directory */
int store_staging_lock_fd(const struct store_staging *staging);
const char *store_staging_path(const struct store_staging *s); /* absolute */

/* Bytes that a new save may take at this moment, by the budget and by what the
 * file system has; blobs and all of staging/ count as used.  Any thread. */
enum base_code store_staging_room(const struct store_staging *staging,
                                  uint64_t *ret_bytes,
                                  struct base_err *err) BASE_MUST_CHECK;

enum store_replicas {
    STORE_REPLICAS_WARN,   /* compared afterwards; a difference is told */
    STORE_REPLICAS_REFUSE, /* compared before it is published */
};

struct store_save {
    const char *name; /* the directory in the staging: "100" */
    uint64_t step;
    uint64_t parent;    /* the version loaded, 0: started from nothing */
    bool is_on_newest;  /* refuse (BASE_CHANGED) when @parent is not the job's
                           highest version any more */
    const char *layout; /* without a parent: a SPEC, as on a command line;
                           NULL: the save's own layout.yaml */
    enum store_replicas replicas;
    struct store_attempt attempt; /* number 0: published at once */
    /* Each thing that is wrong, as a line that names rank, file and tensor (at
     * most 100, then how many more); or that is worth telling.  May be NULL. */
    void (*tell)(void *ctx, bool is_refusal, const char *text);
    void *ctx;
};

/* Make a version of a save whose files nobody writes any more.
 *
 * It is complete when every box of the table is there: a rank may leave out what
 * another one wrote; where both did, the lowest rank's bytes count.  With a
 * parent its layout is the save's (a layout.yaml must say the same), and names,
 * dtypes and shapes must be those of its table, group by group; new groups may
 * come.  Job objects that the save lacks are the parent's still, but for
 * retile.json; of a rank object either all ranks that are due have one, or none.
 * retile.json and a file's metadata "step" must say @step.
 * Idempotent: a save that a killed server published already gives its number.
 * With an attempt there is a vote for it when this returns, *ret_number is the
 * attempt's, and the staged files must not be written to until it is decided:
 * once published they are sealed, after an abort they can be mended.
 * Errors: BASE_MISMATCH, BASE_BAD_INPUT  refused: told, nothing has changed
 *         BASE_LIMIT, BASE_NO_SPACE, BASE_IO, BASE_CHANGED (written meanwhile) */
enum base_code store_save_commit(struct store_staging *staging,
                                 const struct store_save *save,
                                 uint64_t *ret_number,
                                 struct base_err *err) BASE_MUST_CHECK;

/* After a commit, in the background: digest version @number, compare what
 * replicas wrote with it, remove the directory from staging.  @progress (may be
 * NULL) gets save->ctx, for each of the two from 0 on; false ends it
 * (BASE_INTERRUPTED), it can be begun again.  May run beside a commit, with a
 * root of its own.
 * @root: another than the staging's. */
enum base_code store_save_finish(struct store_root *root,
                                 const char *staging_path,
                                 const char *job,
                                 const struct store_save *save,
                                 uint64_t number,
                                 bool (*progress)(void *ctx,
                                                  uint64_t done_bytes,
                                                  uint64_t all_bytes),
                                 struct base_err *err) BASE_MUST_CHECK;

#endif
