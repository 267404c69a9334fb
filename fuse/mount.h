/* A FUSE session with a mount's options: the holder's, which mounts, and the
 * server's, which serves what the holder mounted. */
#ifndef FUSE_MOUNT_H
#define FUSE_MOUNT_H

#include "fuse/options.h"

struct fuse_lowlevel_ops;
struct fuse_session;

/* @ops and @userdata as for fuse_session_new; free *ret with
 * fuse_session_destroy.  From here on libfuse's messages are kept. */
enum base_code fs_mount_session(const struct fs_options *options,
                                const struct fuse_lowlevel_ops *ops,
                                void *userdata,
                                struct fuse_session **ret,
                                struct base_err *err) BASE_MUST_CHECK;
/* Mount; from then on libfuse's messages are logged.
 * Errors: BASE_IO  with libfuse's reason */
enum base_code fs_mount(const struct fs_options *options,
                        struct fuse_session *session,
                        struct base_err *err) BASE_MUST_CHECK;
/* libfuse's messages are logged. */
void fs_mount_log(void);

#endif
