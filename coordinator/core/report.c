/* What a host says of a job, against what is wanted of it. */
#include <stdio.h>

#include "coordinator/core/impl.h"

/* The highest generation that the host has seen. */
static uint64_t seen_generation(const Retile__V1__JobStatus *status)
{
    return status->generation != NULL &&
                   status->generation->number > status->highest_generation
               ? status->generation->number
               : status->highest_generation;
}

/* Has the host seen numbers that we have not given?  Then we are an old copy. */
static bool is_ahead(const struct coord_job *job,
                     const Retile__V1__JobStatus *status)
{
    return (status->highest > job->rec->highest &&
            status->highest <= MAX_NUMBER) ||
           (seen_generation(status) >= job->rec->next_generation &&
            seen_generation(status) <= MAX_NUMBER);
}

static void
raise(struct coord *coord, struct coord_job *job, uint64_t *number, uint64_t to)
{
    if (to > *number && to <= MAX_NUMBER) {
        *number = to;
        job_touch(coord, job);
    }
}

/* Numbers that the host has seen and we have not: we are an old copy. */
static void raise_numbers(struct coord *coord,
                          struct coord_job *job,
                          const Retile__V1__JobStatus *status)
{
    Retile__Coordinator__JobRecord *rec = job->rec;

    raise(coord, job, &rec->highest, status->highest);
    for (size_t i = 0; i < status->n_versions; i++) {
        raise(coord, job, &rec->highest, status->versions[i]->number);
    }
    if (status->attempt != NULL) {
        raise(coord, job, &rec->highest, status->attempt->number);
    }
    if (status->plan != NULL) {
        raise(coord, job, &rec->plan, status->plan->number);
    }
    raise(coord, job, &rec->next_generation, seen_generation(status) + 1);
    if (status->revision > coord->revision && status->revision <= MAX_NUMBER) {
        coord->revision = status->revision;
    }
}

/* The host has gone past what we think is under way: we are an old copy, and it
 * is over.  What came of an attempt is among the versions, or gone; a change is
 * not begun again, which might take back what was trained since.  A generation
 * begins only when no attempt is left, so one that we have not begun is as good a
 * sign as a number that we have not given: a save that was lost has no number
 * above it. */
static void go_past(struct coord *coord,
                    struct coord_job *job,
                    const Retile__V1__JobStatus *status)
{
    const Retile__V1__Attempt *attempt = attempt_open(job);
    const Retile__V1__Change *change = job->rec->job->change;

    if (change != NULL) {
        coord_tell(coord, &(struct coord_about){.kind = EVENT_JOB, .job = job},
                   "%s is given up: its host has gone past it", change->what);
        change_drop(coord, job);
    }
    if (attempt == NULL) {
        return;
    }
    for (size_t i = 0; i < status->n_versions; i++) {
        if (status->versions[i]->number == attempt->number) {
            return;
        }
    }
    attempt_abort(coord, job, "its host has gone past it");
}

static void see_launcher(struct coord *coord,
                         struct coord_job *job,
                         const Retile__V1__JobStatus *status)
{
    Retile__V1__Job *rec = job->rec->job;

    if (job->has_launcher != status->has_launcher) {
        job->has_launcher = status->has_launcher;
        job_wake(coord, job);
    }
    if (status->max_restarts != 0 &&
        status->max_restarts != rec->max_restarts) {
        rec->max_restarts = status->max_restarts;
        job_touch(coord, job);
    }
    if (job->trouble == NULL || strcmp(job->trouble, status->trouble) != 0) {
        free(job->trouble);
        job->trouble =
            status->trouble[0] != '\0' ? strdup(status->trouble) : NULL;
    }
}

/* Does it show processes of a generation that is neither the newest nor in the
 * history? */
static bool is_astray(const struct coord_job *job)
{
    const Retile__V1__Job *rec = job->rec->job;
    bool is_known = rec->generation != NULL &&
                    rec->generation->number == job->shown_generation;

    for (size_t i = 0; i < rec->n_history && !is_known; i++) {
        is_known = rec->history[i]->number == job->shown_generation;
    }
    return job->shown_generation != 0 && !job->is_clear && !is_known;
}

/* Nothing of it is there. */
static void see_nothing(struct coord *coord, struct coord_job *job)
{
    Retile__V1__Job *rec = job->rec->job;

    if (rec->state == JOB_REMOVING) {
        job_remove(coord, job);
        return;
    }
    if (rec->attempt != NULL && rec->attempt->state == ATTEMPT_COMMITTED) {
        attempt_abort(coord, job, "its bytes are lost");
    }
}

void report_lost_store(struct coord *coord, const struct coord_host *host)
{
    for (size_t i = 0; i < host->jobs.n; i++) {
        if (attempt_open(host->jobs.items[i]) != NULL) {
            attempt_abort(coord, host->jobs.items[i], "its bytes are lost");
        }
    }
}

void job_report(struct coord *coord,
                struct coord_host *host,
                struct coord_job *job,
                const Retile__V1__JobStatus *status,
                bool is_hello)
{
    Retile__V1__JobStatus nothing;
    Retile__V1__Attempt *attempt;

    if (status == NULL) {
        retile__v1__job_status__init(&nothing);
        nothing.revision = job->rec->revision;
        status = &nothing;
        see_nothing(coord, job);
        if (job->is_gone) {
            return;
        }
    }
    if (is_ahead(job, status)) {
        go_past(coord, job, status);
    }
    raise_numbers(coord, job, status);
    if (job->rec->job->state == JOB_REMOVING && status->is_gone && !is_hello &&
        status->revision >= job->rec->revision) {
        job_remove(coord, job);
        return;
    }
    job->is_heard = true;
    job->seen_revision = status->revision;
    job->shown_generation =
        status->generation != NULL ? status->generation->number : 0;
    job->is_prepared =
        status->generation != NULL && status->generation->is_prepared;
    job->is_clear = status->generation != NULL && status->generation->is_clear;
    if (job->is_astray != is_astray(job)) {
        job->is_astray = !job->is_astray;
        job_wake_host(coord, host);
    }
    job->shown_port =
        status->generation != NULL ? status->generation->master_port : 0;
    see_launcher(coord, job, status);
    if (job->rec->job->state != JOB_REMOVING) {
        version_report(coord, job, status->versions, status->n_versions);
        generation_report(coord, job, status);
    }
    attempt = attempt_open(job);
    if (attempt != NULL && status->attempt != NULL &&
        attempt->kind != ATTEMPT_SAVE && status->attempt->is_failed &&
        status->attempt->number == attempt->number) {
        attempt_fail(coord, job, status->attempt);
    }
    plan_report(coord, job, status->plan);
    place_free(coord, job, false);
    job_wake(coord, job);
}
