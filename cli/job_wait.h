/* Waiting until a job has come somewhere, with live progress on stderr: on a
 * terminal one line that changes, else a line for each phase. */
#ifndef CLI_JOB_WAIT_H
#define CLI_JOB_WAIT_H

#include <retile/v1/jobs.pb-c.h>

#include "cli/connect.h"

enum cli_waited {
    CLI_WAIT_ON,
    CLI_WAIT_DONE,
    CLI_WAIT_FAILED,
};

enum { CLI_MAX_PHASES = 32 };

struct cli_phase {
    char name[32];
    int64_t begin_ns;
    int64_t end_ns;
};

struct cli_job_wait {
    const char *verb; /* "rescale" */
    const char *job;
    uint64_t from; /* the first event that may matter: cli_follow_next */
    /* Is @job (NULL: there is none of the name) there? */
    enum cli_waited (*judge)(void *ctx, const Retile__V1__Job *job);
    void *ctx;

    /* Filled. */
    Retile__V1__GetJobResponse *answer; /* the newest; NULL: not found */
    struct cli_phase phases[CLI_MAX_PHASES];
    size_t n_phases;
    char last_event[256];
};

void cli_job_wait_done(struct cli_job_wait *wait);

/* Ask for a job.  *ret is given (rpc_message_free); NULL when there is none and
 * @may_miss. */
enum base_code cli_job_get(struct cli_server *server,
                           const char *name,
                           bool may_miss,
                           Retile__V1__GetJobResponse **ret,
                           struct base_err *err) BASE_MUST_CHECK;

/* Wait until @judge does not say CLI_WAIT_ON.
 * Errors: BASE_CHANGED      judged CLI_WAIT_FAILED; the text has the job's reason
 *         BASE_INTERRUPTED  a signal; what was asked for goes on
 *         others            as cli_call, cli_follow */
enum base_code cli_job_wait(struct cli_server *server,
                            struct cli_job_wait *wait,
                            struct base_err *err) BASE_MUST_CHECK;

/* May the processes of a job's newest generation be started, or do they run? */
bool cli_job_is_ready(const Retile__V1__Job *job);

/* What a job is doing, as a word: its change's phase, or its state.  @text has
 * CLI_WORD_BYTES; returns it. */
const char *cli_job_phase(const Retile__V1__Job *job, char *text);

/* "planning 0.0 s, draining 2.1 s", and as JSON. */
void cli_job_wait_print(const struct cli_job_wait *wait);
json_t *cli_job_wait_json(const struct cli_job_wait *wait);

#endif
