/* The processes of one generation on this host.
 *
 * Each rank is the leader of a process group of its own.  When it ends, the rest
 * of its group is killed.  The caller is a subreaper, so that what has left its
 * group becomes our child when its parent ends; cli_ranks_sweep ends that, too.
 * A rank is killed by the kernel when we die (PR_SET_PDEATHSIG).
 *
 * Processes are made by fork and exec, and the child calls only what may be
 * called in a process that had threads.  One thread, always the same: the
 * kernel's word for "we die" is the end of the thread that forked. */
#ifndef CLI_LAUNCH_RANKS_H
#define CLI_LAUNCH_RANKS_H

#include <retile/v1/host.pb-c.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

#include "cli/launch_output.h"

enum { CLI_OUT, CLI_ERR, CLI_N_STREAMS };

struct cli_rank {
    uint32_t rank;
    pid_t pid; /* 0: not started */
    bool has_ended;
    int exit_code;
    int signal;             /* that ended it; 0: it exited */
    int fds[CLI_N_STREAMS]; /* what it writes to; -1: it has ended that */
    struct cli_lines lines[CLI_N_STREAMS];
};

struct cli_ranks {
    uint64_t generation; /* 0: none yet */
    struct cli_rank *ranks;
    size_t n;
    size_t first[CLI_N_STREAMS]; /* who is read first the next time */
    bool is_clear;               /* none of it is left */
};

void cli_ranks_done(struct cli_ranks *ranks); /* closes; kills nobody */

/* Start one process per rank of @order, in the order of their ranks.  @command
 * is ended by NULL; @mask is the signal mask that a process begins with.  When one
 * cannot be made, those before it are killed, it and those behind it count as
 * ended, and the error says which.
 * Errors: BASE_NO_MEM, BASE_LIMIT (processes, descriptors), BASE_IO */
enum base_code cli_ranks_start(struct cli_ranks *ranks,
                               const Retile__V1__LaunchOrder *order,
                               const char *job,
                               char **command,
                               const sigset_t *mask,
                               struct base_err *err) BASE_MUST_CHECK;

/* To the groups of all that run. */
void cli_ranks_signal(const struct cli_ranks *ranks, int signo);

/* Take up what has ended (on SIGCHLD); @on_end is told of each rank that did.
 * Kills what is left once no rank runs, and sets is_clear when nothing is. */
void cli_ranks_reap(struct cli_ranks *ranks,
                    void (*on_end)(void *ctx, const struct cli_rank *rank),
                    void *ctx);

size_t cli_ranks_n_running(const struct cli_ranks *ranks);

/* Read what the ranks have written: at most @max_bytes of each and stream, and
 * nothing for a mux that is full; SIZE_MAX: all that is there.  @muxes has one
 * for each stream.  Who was not read for a full mux comes first the next time. */
void cli_ranks_read(struct cli_ranks *ranks,
                    struct cli_mux *muxes,
                    size_t max_bytes,
                    int64_t now_ns);

/* Kill all children and theirs, and wait until there is none. */
void cli_kill_children(void);

#endif
