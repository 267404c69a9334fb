/* Saved files: the nodes below gen/G/save/, each one a file or a directory in
 * the store's staging (store/save.h), where every operation is done again.
 *
 *   gen/1/save/100.tmp/     staging/save.JOB/100/     being written
 *   gen/1/save/100/         the same node, sealed: links into versions/V
 *
 * A node's number is FS_SAVED_BIT | st_ino of its file, so that it is found
 * again by walking the staging: a handle needs nothing but it.  A file that is
 * removed, or replaced by a rename, while the kernel knows it goes to
 * staging/save.JOB/gone/INO until FORGET.
 *
 * Every call returns 0 or an errno.  Any thread. */
#ifndef FUSE_SAVES_H
#define FUSE_SAVES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/auto.h"
#include "base/err.h"

#define FS_SAVED_BIT (UINT64_C(1) << 63)

static inline bool fs_is_saved(uint64_t ino)
{
    return (ino & FS_SAVED_BIT) != 0;
}

struct fs_saves;
void fs_saves_free(struct fs_saves *saves); /* leaves the files */
BASE_AUTO_DEFINE(fs_saves);

/* @dir_fd: the staging of the mount's job, borrowed.  What is there already is
 * taken up: a server that was killed left it. */
enum base_code fs_saves_create(int dir_fd,
                               struct fs_saves **ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* Steps.  A step is called by its number, "100"; there are few. */

enum fs_step_state {
    FS_STEP_OPEN,   /* STEP.tmp, may be written */
    FS_STEP_FROZEN, /* being committed: nobody may begin to write (EBUSY) */
    FS_STEP_SEALED, /* STEP: names lead to a version */
};

struct fs_step {
    uint64_t step;
    uint64_t ino; /* of its directory */
    uint64_t generation;
    enum fs_step_state state;
    uint64_t version;   /* of a sealed one */
    uint32_t n_writers; /* handles that could write, not yet released */
    int64_t touched_ns; /* when it was last written to, monotonic: what can
                            be seen of it (mtimes too: passed-through writes) */
};

/* mkdir STEP.tmp.  EEXIST */
int fs_saves_begin(struct fs_saves *saves,
                   uint64_t generation,
                   uint64_t step,
                   uint64_t *ret_ino);
/* Those that there are, ascending; at most @max.  Returns how many. */
uint32_t
fs_saves_steps(struct fs_saves *saves, struct fs_step *ret, uint32_t max);
/* Let nobody begin to write, then wait until no handle can, at most @wait_ns.
 * EBUSY (open again; *ret_path, if any, is given: a file that is still open) */
int fs_saves_freeze(struct fs_saves *saves,
                    uint64_t step,
                    int64_t wait_ns,
                    char **ret_path);
void fs_saves_thaw(struct fs_saves *saves, uint64_t step);
/* The step is version @version: its directory now shows links to what is in
 * that.  Its files keep their names in staging until store_save_finish. */
void fs_saves_seal(struct fs_saves *saves, uint64_t step, uint64_t version);
/* Remove an open step and its files (an abandoned or revoked one); those that
 * are open live on, but cannot be written any more by new handles. */
int fs_saves_drop(struct fs_saves *saves, uint64_t step);
/* From now on everything that writes into steps of generations before
 * @generation is EROFS. */
void fs_saves_revoke(struct fs_saves *saves, uint64_t generation);

#endif
