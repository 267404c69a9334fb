/* Passthrough: the kernel reads and writes a file of the store itself, past us.
 *
 * An open or create is answered with the id of a backing file: fs_reply_open and
 * fs_reply_create of fuse/fuse_compat.h, since libfuse 3.14 cannot.  Needs a kernel that offers
 * it and CAP_SYS_ADMIN: tried once, when the session begins, by registering a
 * file; never guessed from versions.  `-o mask=passthrough` turns it off.
 *
 * A node has at most one id at a time (the kernel insists on one backing inode
 * per inode); who opens a node keeps the id until no handle of it is left:
 * fs_backing_use counts them, and where a dead server left handles, goes on
 * with its counts and ids.  Of more than FS_HANDOVER_NODES open nodes at a time
 * the rest have none, nor have those that are opened later.  Any thread. */
#ifndef FUSE_PASSTHROUGH_H
#define FUSE_PASSTHROUGH_H

#include <stdbool.h>
#include <stdint.h>

#include "fuse/ops_impl.h"

struct fs_handover;

/* Who knows which nodes are open: in @handover, borrowed.  NULL: no memory. */
struct fs_backings *fs_backings_create(struct fs_handover *handover);
void fs_backings_free(struct fs_backings *backings);

/* Register @fd, a regular file.  0: not possible, use another class. */
uint32_t fs_backing_open(struct fs *fs, int fd);
void fs_backing_close(struct fs *fs, uint32_t backing_id); /* 0 is fine */

/* A handle of node @ino is being opened: returns the node's id, made from @fd
 * when this is its first handle.  0 (also for all further handles, until none
 * is left): without passthrough; @fd -1 wants that.  Call fs_backing_release
 * once per use, at RELEASE or when the reply to the open failed.
 * @is_new: false for an open that an earlier server counted. */
uint32_t fs_backing_use(struct fs *fs, uint64_t ino, int fd, bool is_new);
void fs_backing_release(struct fs *fs, uint64_t ino);

#endif
