/* The operations on saved nodes (fuse/saves.h): what is below a step.  Those in
 * gen/G/save itself are not here. */
#ifndef FUSE_OPS_SAVE_H
#define FUSE_OPS_SAVE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct fs;
struct fs_saved;
struct fuse_entry_param;
struct fuse_lowlevel_ops;

/* Once, before the session: fs->saves (not NULL) passes files on where the
 * kernel can. */
void fs_save_attach(struct fs *fs);

/* Let @ops serve saved nodes, too: each operation is sent to the ones here, or
 * to what was in @ops, by the number of its node.  A rename between the two is
 * EXDEV. */
void fs_save_route(struct fuse_lowlevel_ops *ops);

/* The answer to a lookup.  The kernel may remember it for ever: names and
 * attributes change by its own requests, but for seal and drop, after which it
 * has to be told. */
void fs_save_entry(const struct fs *fs,
                   const struct fs_saved *saved,
                   struct fuse_entry_param *ret);

#endif
