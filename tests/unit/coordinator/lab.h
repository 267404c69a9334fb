/* The core with records in memory: a test gives it messages and looks at what it
 * says, as text, a line for each thing:
 *
 *   gpt: running                              an event, of a job or a host
 *   > gpt running g1 running load=0 ...       a target that is sent
 *   > welcome | > renewed | > end CODE text   what else is sent
 *   = OK | = NOT_FOUND text                   the answer to a call
 *
 * Each step is followed by a flush, unless the lab holds it back. */
#ifndef UNIT_COORDINATOR_LAB_H
#define UNIT_COORDINATOR_LAB_H

#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/versions.pb-c.h>

#include "coordinator/core/core.h"

struct lab_record {
    enum coord_record_kind kind;
    char *id;
    char *body;
    size_t n_bytes;
};

struct lab {
    struct coord_limits limits;
    struct coord *coord;
    struct coord_actions actions;
    BASE_VEC(struct lab_record) records;
    uint64_t revision; /* of the newest event that was written */
    struct coord_time now;
    uint64_t ticket, session;
    struct base_buf trace;
    uint64_t attempt;  /* of the last OpenSave that was answered */
    int decision;      /* of the last Vote */
    char layout[4096]; /* of the last Rescale */
};

void lab_init(struct lab *lab);
void lab_done(struct lab *lab);
/* The coordinator dies and is started again from its records. */
void lab_restart(struct lab *lab);
/* Everything that was said since the last look must be @expected. */
void lab_expect(struct lab *lab, const char *expected);
/* Do not look. */
void lab_skip(struct lab *lab);

void lab_call(struct lab *lab, const char *method, const void *message);
/* A host of @n_devices with @jobs says Hello, in a new session. */
void lab_hello(struct lab *lab,
               const char *host,
               const char *store,
               uint32_t n_devices,
               Retile__V1__JobStatus **jobs,
               size_t n_jobs);
void lab_status(struct lab *lab, const Retile__V1__JobStatus *status);
void lab_closed(struct lab *lab, uint64_t session);
/* Time goes by, with ticks when they are due. */
void lab_wait(struct lab *lab, int64_t ms);

/* A job's status, as a value that tests change. */
struct lab_status {
    Retile__V1__JobStatus status;
    Retile__V1__StatusGeneration generation;
    Retile__V1__StatusAttempt attempt;
    Retile__V1__StatusPlan plan;
    Retile__V1__PlanSummary summary;
    Retile__V1__RankStatus ranks[8];
    Retile__V1__RankStatus *rank_list[8];
    Retile__V1__Version versions[8];
    Retile__V1__Version *version_list[8];
};
void lab_status_init(struct lab_status *status, const char *job);
/* It has prepared @generation, of @n ranks. */
void lab_status_prepared(struct lab_status *status,
                         uint64_t generation,
                         uint32_t n);
/* All ranks are so. */
void lab_status_ranks(struct lab_status *status, int state, int exit_code);
void lab_status_version(struct lab_status *status,
                        uint64_t number,
                        uint64_t step,
                        const char *layout,
                        const char *mesh);

#endif
