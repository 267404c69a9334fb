/* Processes of this host: who is who, and what is left of a generation.
 *
 * A pid alone is nobody: it is given again.  With the time at which the process
 * was started (field 22 of /proc/PID/stat) it is one process for ever. */
#ifndef WORKER_PROC_H
#define WORKER_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

struct worker_proc {
    pid_t pid;      /* 0: none */
    uint64_t start; /* clock ticks since the machine's start */
};

/* Who has @pid now?  False: nobody, or one that has ended (a zombie). */
bool worker_proc_find(pid_t pid, struct worker_proc *ret);
/* Has it not ended? */
bool worker_proc_lives(const struct worker_proc *proc);
/* Send @signal to it, unless its pid is another's by now. */
void worker_proc_kill(const struct worker_proc *proc, int signal);
/* A descriptor that can be read once it has ended; -1: it has, or is not there. */
int worker_proc_open(const struct worker_proc *proc);

/* Those of a generation: the ranks that its launcher told of, their process
 * groups, and whatever has RETILE_DIR=@directory in its environment, so that
 * one that left its group is found as well.  A launcher of another user's could
 * name any process: then only those count that are that user's (real uid). */
struct worker_leftovers {
    bool has_user;
    uid_t uid;
    const char *directory; /* NULL: not looked for */
    const struct worker_proc *ranks;
    size_t n_ranks;
};
/* Send @signal (0: none) to each; how many there are.  Cost: a read of each
 * process's stat and environment. */
size_t worker_proc_leftovers(const struct worker_leftovers *what, int signal);

/* The process of ours (real uid) that was started as @program (its last
 * component; perhaps by an interpreter) with @last as its last argument, and is
 * not the child of such a one. */
bool worker_proc_by_command(const char *program,
                            const char *last,
                            struct worker_proc *ret);

#endif
