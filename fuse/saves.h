/* Saved files: the nodes below gen/G/save/, each one a file or a directory in
 * the store's staging (store/save.h), where every operation is done again.
 *
 *   gen/1/save/100.tmp/     staging/save.JOB/100/     being written
 *   gen/1/save/100/         the same node, sealed: links into versions/V
 *
 * A node's number is FS_SAVED_BIT | st_ino of its file, so that it is found
 * again by walking the staging: a handle needs nothing but it.  (That of a
 * step's own directory is its record's, which outlives the directory; that of
 * a link in a sealed one has FS_SAVED_LINK_BIT, too.)  A file that is removed,
 * or replaced by a rename, while the kernel knows it goes to
 * staging/save.JOB/gone/INO until FORGET.  Beside the steps lie
 *
 *   steps/G.STEP     a step's record: state, version, names (saves_record.c)
 *   gone/INO         above
 *   ledger           what the kernel knows and has open (saves_ledger.h)
 *
 * so that a server that is killed leaves its state to the next one.
 *
 * Every call returns 0 or an errno.  Any thread. */
#ifndef FUSE_SAVES_H
#define FUSE_SAVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/auto.h"
#include "base/err.h"

#define FS_SAVED_BIT      (UINT64_C(1) << 63)
#define FS_SAVED_LINK_BIT (UINT64_C(1) << 62)

static inline bool fs_is_saved(uint64_t ino)
{
    return (ino & FS_SAVED_BIT) != 0;
}

struct fs_saves;
void fs_saves_free(struct fs_saves *saves); /* leaves the files */
BASE_AUTO_DEFINE(fs_saves);

/* @dir_fd: the staging of the mount's job, borrowed.  What is there already is
 * taken up: a server that was killed left it.  A step that it was committing is
 * still frozen: freeze it again and commit it again, or thaw it. */
enum base_code fs_saves_create(int dir_fd,
                               struct fs_saves **ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* How much may be written: @room gives the bytes that are left (false: not
 * known now), and is called from fs_saves_tick and from writes, at most every
 * 100 ms or 64 MiB.  @tell is told what a person should know.  Call before
 * the first request; without it there is no limit but the file system's. */
struct fs_saves_guard {
    bool (*room)(void *ctx, uint64_t *ret_bytes);
    void (*tell)(void *ctx, const char *path, const char *reason);
    void *ctx;
};
void fs_saves_set_guard(struct fs_saves *saves,
                        const struct fs_saves_guard *guard);
/* Look how much room is left: writes that pass us by are noticed only here.
 * About 10 times a second. */
void fs_saves_tick(struct fs_saves *saves);

/* Steps.  A step is called by its number, "100"; there are few.  Where a number
 * was saved by several generations, the one that is not sealed is meant. */

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
    bool is_full;       /* it is past the room: ENOSPC until that is mended */
    uint64_t version;   /* of a sealed one */
    uint64_t attempt;   /* the agent's number of its save; 0: none */
    uint32_t n_writers; /* handles that could write, not yet released */
    int64_t touched_ns; /* when it was last written to, monotonic: what can
                            be seen of it (mtimes too: passed-through writes) */
};

/* mkdir STEP.tmp.  EEXIST; EBUSY: the files of a step of that number, saved by
 * an earlier generation, are still being digested */
int fs_saves_begin(struct fs_saves *saves,
                   uint64_t generation,
                   uint64_t step,
                   uint64_t *ret_ino);
/* rmdir STEP.tmp.  ENOTEMPTY, EBUSY (frozen) */
int fs_saves_remove(struct fs_saves *saves, uint64_t step);
/* Those that there are, ascending; at most @max.  Returns how many. */
uint32_t
fs_saves_steps(struct fs_saves *saves, struct fs_step *ret, uint32_t max);
/* Let nobody begin to write, then wait until no handle can, at most @wait_ns.
 * EBUSY (open again; *ret_path, if any, is given: a file that is still open) */
int fs_saves_freeze(struct fs_saves *saves,
                    uint64_t step,
                    int64_t wait_ns,
                    char **ret_path);
/* From now on freezing waits for nobody: the mount ends. */
void fs_saves_end_waits(struct fs_saves *saves);
void fs_saves_thaw(struct fs_saves *saves, uint64_t step);
/* The step is version @version: its directory now shows links to what is in
 * that.  Its files keep their names in staging until store_save_finish.  The
 * kernel has to be told that STEP's names mean something else now
 * (fuse_lowlevel_notify_inval_entry, after the rename was answered). */
void fs_saves_seal(struct fs_saves *saves, uint64_t step, uint64_t version);
/* The step's save is attempt @attempt (0: none), which the next server knows. */
int fs_saves_set_attempt(struct fs_saves *saves,
                         uint64_t step,
                         uint64_t attempt);
/* Remove an open step and its files (an abandoned or revoked one); those that
 * are open live on, but cannot be written any more by new handles.  EBUSY: it
 * is frozen */
int fs_saves_drop(struct fs_saves *saves, uint64_t step);
/* From now on everything that writes into steps of generations before
 * @generation is EROFS. */
void fs_saves_revoke(struct fs_saves *saves, uint64_t generation);

/* One request.  A request that a killed server had begun comes again: it is
 * known by its number (@unique, 0: none), what it had changed is not changed
 * twice, and its answer is the one that was not given.  End it after the
 * reply.  NULL is a turn that nobody repeats. */
struct fs_turn {
    struct fs_saves *saves;
    uint32_t entry;  /* in the ledger's journal */
    bool is_again;   /* a killed server began it ... */
    bool is_counted; /* ... and counted what it gave */
};
void fs_turn_begin(struct fs_saves *saves,
                   uint64_t unique,
                   struct fs_turn *ret);
void fs_turn_end(struct fs_turn *turn);

/* Nodes.  What gives a struct fs_saved counts one lookup of it; that is undone
 * by fs_saves_forget.  The kernel may remember all of them and their names for
 * ever: nothing changes but by its own requests, and by seal and drop.
 * Attributes say st_uid, st_gid 0: whose they are is the mount's to say. */
struct fs_saved {
    uint64_t ino;
    uint64_t generation; /* of the number, should it be used again */
    struct stat attr;
};

/* As a lookup of the directory of a step. */
int fs_saves_step_node(struct fs_saves *saves,
                       struct fs_turn *turn,
                       uint64_t ino, /* of struct fs_step */
                       struct fs_saved *ret);
int fs_saves_lookup(struct fs_saves *saves,
                    struct fs_turn *turn,
                    uint64_t dir,
                    const char *name,
                    struct fs_saved *ret);
void fs_saves_forget(struct fs_saves *saves, uint64_t ino, uint64_t n_lookups);
int fs_saves_attr(struct fs_saves *saves, uint64_t ino, struct stat *ret);

enum fs_saves_set { /* what of @attr is meant */
                    FS_SET_MODE = 1,
                    FS_SET_SIZE = 2,
                    FS_SET_ATIME = 4,
                    FS_SET_MTIME = 8,
                    FS_SET_ATIME_NOW = 16,
                    FS_SET_MTIME_NOW = 32,
};
int fs_saves_set_attr(struct fs_saves *saves,
                      uint64_t ino,
                      unsigned set,
                      const struct stat *attr,
                      struct stat *ret);

/* @mode: as shown; the caller's umask was applied. */
int fs_saves_mkdir(struct fs_saves *saves,
                   struct fs_turn *turn,
                   uint64_t dir,
                   const char *name,
                   mode_t mode,
                   struct fs_saved *ret);
int fs_saves_mknod(struct fs_saves *saves, /* a regular file, O_EXCL */
                   struct fs_turn *turn,
                   uint64_t dir,
                   const char *name,
                   mode_t mode,
                   struct fs_saved *ret);
int fs_saves_unlink(struct fs_saves *saves,
                    struct fs_turn *turn,
                    uint64_t dir,
                    const char *name);
int fs_saves_rmdir(struct fs_saves *saves,
                   struct fs_turn *turn,
                   uint64_t dir,
                   const char *name);
/* EXDEV: to another step.  @flags: RENAME_NOREPLACE, RENAME_EXCHANGE */
int fs_saves_rename(struct fs_saves *saves,
                    struct fs_turn *turn,
                    uint64_t from_dir,
                    const char *from,
                    uint64_t to_dir,
                    const char *to,
                    unsigned flags);

/* Where a link in a sealed step leads to. */
#define FS_SAVED_TARGET_BYTES 320
int fs_saves_readlink(struct fs_saves *saves,
                      uint64_t ino,
                      char ret[FS_SAVED_TARGET_BYTES]);

/* What is in @dir after @position (0: from the first), in the order of their
 * positions, which stay as they are while other names come and go.  @each takes
 * a name, number, type (S_IFMT) and position; false ends it. */
typedef bool (*fs_saves_each_fn)(
    void *ctx, const char *name, uint64_t ino, mode_t type, uint64_t position);
int fs_saves_list(struct fs_saves *saves,
                  uint64_t dir,
                  uint64_t position,
                  fs_saves_each_fn each,
                  void *ctx);

/* The step that a node belongs to, and its generation and version (0: not
 * sealed).  ENOENT: to none, any more */
int fs_saves_step_of(struct fs_saves *saves, uint64_t ino, struct fs_step *ret);
/* "100.tmp/ranks/000/a", for people. */
int fs_saves_path(struct fs_saves *saves, uint64_t ino, char *ret, size_t room);

/* Handles.  All handles of a node are of one class, chosen for the first by
 * the caller: @backing (may be NULL) makes an id of the file's descriptor, 0
 * when it cannot; it is kept until the last handle is released.  Called under
 * a lock; it must not call back. */
struct fs_saves_backing {
    uint32_t (*open)(void *ctx, int fd);
    void (*close)(void *ctx, uint32_t id);
    void *ctx;
};
void fs_saves_set_backing(struct fs_saves *saves,
                          const struct fs_saves_backing *backing);
/* @flags: of open(2): access mode, O_TRUNC.  *ret_backing 0: pass nothing on.
 * EBUSY frozen, EROFS sealed or revoked, ENOSPC. */
int fs_saves_open(struct fs_saves *saves,
                  struct fs_turn *turn,
                  uint64_t ino,
                  int flags,
                  uint32_t *ret_backing);
/* Also O_CREAT (implied), O_EXCL. */
int fs_saves_create_file(struct fs_saves *saves,
                         struct fs_turn *turn,
                         uint64_t dir,
                         const char *name,
                         mode_t mode,
                         int flags,
                         struct fs_saved *ret,
                         uint32_t *ret_backing);
/* @flags: those of the open. */
void fs_saves_release(struct fs_saves *saves,
                      struct fs_turn *turn,
                      uint64_t ino,
                      int flags);

/* Bytes.  The descriptor is valid until fs_saves_unpin, beside other threads.
 * @is_change: it will be written to; EROFS and EBUSY as above. */
struct fs_pin {
    struct fs_saves *saves;
    void *node;
    uint64_t step; /* that is being changed: its record's sequence */
    int fd;
    bool is_change;
};
int fs_saves_pin(struct fs_saves *saves,
                 uint64_t ino,
                 bool is_change,
                 struct fs_pin *ret);
void fs_saves_unpin(struct fs_pin *pin);

/* *ret_bytes: fewer only at the end. */
int fs_saves_read(struct fs_saves *saves,
                  uint64_t ino,
                  void *bytes,
                  size_t n_bytes,
                  uint64_t offset,
                  size_t *ret_bytes);
int fs_saves_write(struct fs_saves *saves,
                   uint64_t ino,
                   const void *bytes,
                   size_t n_bytes,
                   uint64_t offset);
int fs_saves_allocate(struct fs_saves *saves,
                      uint64_t ino,
                      int mode,
                      uint64_t offset,
                      uint64_t n_bytes);
int fs_saves_copy(struct fs_saves *saves,
                  uint64_t from,
                  uint64_t from_offset,
                  uint64_t to,
                  uint64_t to_offset,
                  size_t n_bytes,
                  size_t *ret_bytes);
int fs_saves_sync(struct fs_saves *saves, uint64_t ino, bool only_data);

struct statvfs;
int fs_saves_statfs(struct fs_saves *saves, struct statvfs *ret);

#endif
