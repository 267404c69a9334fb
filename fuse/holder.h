/* The holder: the process that a mount belongs to.
 *
 * retile-fuse is two processes.  The holder mounts, keeps the device, the locks
 * of what is open and the handover (fuse/handover.h), and does nothing else: it
 * has one thread and little state, so nothing of it fails.  The server is forked
 * from it and does all the work.  When the server dies by a fault, or hangs, the
 * holder forks the next one, which finds all it needs; the kernel then sends
 * again what was not answered, so that readers and writers see a stall and no
 * error.
 *
 *   start --> forked --OPENED--> mounted --SERVING--> up --+--> ended: unmount
 *               ^                                          |
 *               +------------- died, hangs ----------------+--> too often, or the
 *                                                   kernel cannot: give up
 *
 * Giving up closes the device: whoever waits gets ENOTCONN; the mount is taken
 * away lazily.  If the holder dies, the server sees its line end and unmounts. */
#ifndef FUSE_HOLDER_H
#define FUSE_HOLDER_H

#include "fuse/daemon.h"
#include "fuse/handover.h"
#include "fuse/line.h"
#include "fuse/options.h"

/* Returns several times: in each server, with *ret_line (its descriptors are
 * the server's), and once in the holder, when the mount has ended.  Before
 * threads.
 * *ret_exit: the holder's, when the server said why it ended. */
struct fs_holding {
    bool is_server;
    struct fs_line line;
    struct fs_handover *handover; /* borrowed */
    int exit_code;                /* of the holder: the server's own */
};
enum base_code fs_holder_run(const struct fs_options *options,
                             struct fs_daemon *daemon,
                             struct fs_holding *ret,
                             struct base_err *err) BASE_MUST_CHECK;

/* For a server whose holder died. */
void fs_holder_unmount(const char *mountpoint);

#endif
