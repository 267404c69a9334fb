/* The mount's operations.  Each is two functions: an inner one that returns,
 * an outer one that replies exactly once. */
#ifndef FUSE_OPS_H
#define FUSE_OPS_H

struct fuse_lowlevel_ops;

/* The session's user data is a struct fs_channel whose owner is a struct fs. */
const struct fuse_lowlevel_ops *fs_ops(void);

#endif
