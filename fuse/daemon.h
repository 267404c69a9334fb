/* Going to the background: the parent waits until the mount is ready and
 * returns the exit code, so that `retile-fuse SRC MNT && ls MNT` works. */
#ifndef FUSE_DAEMON_H
#define FUSE_DAEMON_H

#include <stdbool.h>

#include "base/err.h"

struct fs_daemon {
    int ready_fd;    /* tells the parent; -1 in the foreground */
    int log_fd;      /* becomes stdout and stderr; -1: /dev/null */
    bool has_left;   /* the terminal */
    bool is_started; /* there is a parent */
};

/* Fork.  If the parent is killed before the mount is ready, the child gets
 * SIGTERM.  The parent does not return: it exits with 0 once fs_daemon_ready was
 * called, else as the child did.  @log may be NULL.  Before threads. */
enum base_code fs_daemon_start(struct fs_daemon *daemon,
                               const char *log,
                               struct base_err *err) BASE_MUST_CHECK;

/* In a process that the daemon forked: the parent does not wait for it. */
void fs_daemon_child(struct fs_daemon *daemon);
/* Let go of the terminal.  No-op in the foreground, and the second time. */
void fs_daemon_leave(struct fs_daemon *daemon);
/* Let go of the parent, too. */
void fs_daemon_ready(struct fs_daemon *daemon);

#endif
