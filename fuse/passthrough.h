/* Passthrough: the kernel reads and writes a file of the store itself, past us.
 *
 * An open or create is answered with the id of a backing file; libfuse 3.14
 * knows no such answers, so they are made here, raw.  Needs a kernel that offers
 * it and CAP_SYS_ADMIN: tried once, when the session begins, by registering a
 * file; never guessed from versions.  `-o mask=passthrough` turns it off.
 *
 * A node has at most one id at a time (the kernel insists on one backing inode
 * per inode); who opens a node keeps the id until no handle of it is left. */
#ifndef FUSE_PASSTHROUGH_H
#define FUSE_PASSTHROUGH_H

#include <stdint.h>

#include "fuse/ops_impl.h"

/* Register @fd, a regular file.  0: not possible, use another class. */
uint32_t fs_backing_open(struct fs *fs, int fd);
void fs_backing_close(struct fs *fs, uint32_t backing_id); /* 0 is fine */

/* As fuse_reply_open and fuse_reply_create; @backing_id 0: without. */
int fs_reply_open(fuse_req_t req,
                  const struct fuse_file_info *fi,
                  uint32_t backing_id);
int fs_reply_create(fuse_req_t req,
                    const struct fuse_entry_param *entry,
                    const struct fuse_file_info *fi,
                    uint32_t backing_id);

#endif
