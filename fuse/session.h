/* The session: mount, serve until unmounted or told to stop, unmount. */
#ifndef FUSE_SESSION_H
#define FUSE_SESSION_H

#include "fuse/fs.h"

/* Block the signals that end a session, so that it gets them by descriptor.
 * Before any thread is made. */
enum base_code fs_session_signals(struct base_err *err) BASE_MUST_CHECK;

/* Mount @fs and serve it in several threads.  Returns after `fusermount3 -u`,
 * or after SIGTERM, SIGINT or SIGHUP, when it is no longer mounted; requests
 * that were being served are answered first.
 * Errors: BASE_IO, BASE_DENIED  it cannot be mounted */
enum base_code fs_session_run(struct fs *fs,
                              struct base_err *err) BASE_MUST_CHECK;

#endif
