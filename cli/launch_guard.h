/* Two processes, so that nothing outlives a launcher that is killed.
 *
 *   guard     what the caller has started: one thread, no state.  It passes
 *             signals on and waits.  A subreaper: what the launcher leaves
 *             becomes its child, and is killed.
 *   launcher  its child, in a process group of its own, so that a terminal's
 *             signals come through the guard alone.  Gets SIGTERM when the guard
 *             dies, and kills everything then.
 *
 * When both are killed at once the ranks die with the launcher; what the ranks
 * had started does not. */
#ifndef CLI_LAUNCH_GUARD_H
#define CLI_LAUNCH_GUARD_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "cli/cli.h"

struct cli_guard {
    pid_t pid;     /* the guard's */
    sigset_t mask; /* what was blocked before */
    int signal_fd; /* SIGINT SIGTERM SIGHUP SIGCHLD; the launcher's */
};

/* Fork; before any thread is made.  True in the launcher, whose *ret is filled.
 * False in the guard, when all is over: *ret_exit is what to return. */
bool cli_guard_fork(struct cli_guard *ret, enum cli_exit *ret_exit);

/* Has the guard been killed? */
bool cli_guard_is_gone(const struct cli_guard *guard);

#endif
