/* What an agent must know of a generation after it died: RUN/jobs/JOB, a small
 * text that is replaced by rename before what it says is done.
 *
 * One generation of a job at a time has processes here: the next one is prepared
 * when the one before is clear.  The file need not outlive the machine's power,
 * as no process does. */
#ifndef WORKER_RECORD_H
#define WORKER_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "worker/proc.h"

enum worker_rank_state {
    WORKER_RANK_UNKNOWN, /* nobody told */
    WORKER_RANK_WAITING,
    WORKER_RANK_RUNNING,
    WORKER_RANK_EXITED,
};

struct worker_rank {
    uint32_t rank;
    enum worker_rank_state state;
    int32_t exit_code;
    int32_t signal;
    struct worker_proc proc; /* pid 0: not started, or gone before we looked */
};

struct worker_record {
    uint64_t highest;            /* number of versions and attempts seen */
    uint64_t highest_generation; /* seen */
    uint64_t generation;         /* the newest that was prepared; 0: none */
    uint32_t port;               /* that it was prepared with */
    bool is_started;             /* its launcher was, or may have been, told */
    bool is_clear;               /* no process of it is left, or none began */
    struct worker_proc launcher; /* that was told; pid 0: none */
    BASE_VEC(struct worker_rank) ranks;
};
void worker_record_done(struct worker_record *record);
/* Begin with a generation that was prepared and has no process. */
void worker_record_begin(struct worker_record *record,
                         uint64_t generation,
                         uint32_t port);
/* The rank's entry; NULL: it has none. */
struct worker_rank *worker_record_rank(struct worker_record *record,
                                       uint32_t rank);

/* @dir_fd: RUN/jobs.  What is not there, or is damaged, is an empty record:
 * then nothing is known of processes but what their environment says. */
void worker_record_read(int dir_fd, const char *job, struct worker_record *ret);
enum base_code worker_record_write(int dir_fd,
                                   const char *job,
                                   const struct worker_record *record,
                                   struct base_err *err) BASE_MUST_CHECK;
void worker_record_remove(int dir_fd, const char *job);

#endif
