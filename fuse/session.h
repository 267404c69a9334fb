/* The session: serve what the holder mounted until it is unmounted or we are
 * told to stop. */
#ifndef FUSE_SESSION_H
#define FUSE_SESSION_H

#include "fuse/fs.h"

/* Block the signals that end a session, so that it gets them by descriptor.
 * Before any thread is made. */
enum base_code fs_session_signals(struct base_err *err) BASE_MUST_CHECK;

/* Serve @fs in several threads.  Returns after `fusermount3 -u`, or after
 * SIGTERM, SIGINT or SIGHUP; requests that were being served are answered
 * first.  The holder unmounts; if it has died, this does.
 * Errors: BASE_IO  it could not be mounted, the kernel hung up */
enum base_code fs_session_run(struct fs *fs,
                              struct base_err *err) BASE_MUST_CHECK;

#endif
