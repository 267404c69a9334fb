/* Jobs: what follows from a job's state, looked at after each step in which
 * something of it changed.  Nothing here depends on how it came to be so, which
 * is why a core that was loaded from records goes on as one that was not. */
#include <stdio.h>

#include "coordinator/core/impl.h"

static const char *job_name(const void *item)
{
    return ((const struct coord_job *)item)->rec->job->name;
}

struct coord_job *job_find(const struct coord *coord, const char *name)
{
    size_t at = coord_lower(coord->jobs.items, coord->jobs.n, name, job_name);

    if (at < coord->jobs.n &&
        strcmp(job_name(coord->jobs.items[at]), name) == 0) {
        return coord->jobs.items[at];
    }
    return NULL;
}

void job_free(struct coord_job *job)
{
    if (job != NULL) {
        coord_message_free(job->rec);
        plan_free(job->plan);
        base_vec_done(&job->holds);
        free(job->trouble);
        free(job);
    }
}

struct coord_job *job_add(struct coord *coord,
                          Retile__Coordinator__JobRecord *rec)
{
    struct coord_job *job = calloc(1, sizeof(*job));
    size_t at;

    if (job == NULL || !base_vec_reserve(&coord->jobs, coord->jobs.n + 1)) {
        coord_no_mem(coord);
        coord_message_free(rec);
        free(job);
        return NULL;
    }
    job->rec = rec;
    job->timer = (struct coord_timer){.at_ns = NO_NS, .owner = job};
    job->drain_ns = job->start_ns = job->make_ns = NO_NS;
    job->backoff_ns = job->plan_ns = NO_NS;
    at =
        coord_lower(coord->jobs.items, coord->jobs.n, rec->job->name, job_name);
    memmove(coord->jobs.items + at + 1, coord->jobs.items + at,
            (coord->jobs.n - at) * sizeof(*coord->jobs.items));
    coord->jobs.items[at] = job;
    coord->jobs.n++;
    coord->n_homeless++;
    return job;
}

static void unlist_host(struct coord *coord, struct coord_job *job)
{
    struct coord_host *host = job->host;

    if (host == NULL) {
        coord->n_homeless--;
        return;
    }
    place_free(coord, job, true);
    for (size_t i = 0; i < host->jobs.n; i++) {
        if (host->jobs.items[i] == job) {
            memmove(host->jobs.items + i, host->jobs.items + i + 1,
                    (host->jobs.n - i - 1) * sizeof(*host->jobs.items));
            host->jobs.n--;
            break;
        }
    }
    job->host = NULL;
}

void job_set_host(struct coord *coord,
                  struct coord_job *job,
                  struct coord_host *host)
{
    size_t at = 0;

    if (job->host == host) {
        return;
    }
    unlist_host(coord, job);
    /* A host that is here has said what it has, and this was not in it. */
    job->is_heard = host != NULL && host->session != 0;
    job->seen_revision = coord->revision;
    job->shown_generation = 0;
    job->shown_port = 0;
    job->is_prepared = job->is_clear = job->is_astray = false;
    if (host == NULL) {
        coord->n_homeless++;
        return;
    }
    if (!base_vec_reserve(&host->jobs, host->jobs.n + 1)) {
        coord->n_homeless++;
        coord_no_mem(coord);
        return;
    }
    at = coord_lower(host->jobs.items, host->jobs.n, job_name(job), job_name);
    memmove(host->jobs.items + at + 1, host->jobs.items + at,
            (host->jobs.n - at) * sizeof(*host->jobs.items));
    host->jobs.items[at] = job;
    host->jobs.n++;
    job->host = host;
    place_take_again(coord, job);
}

void job_remove(struct coord *coord, struct coord_job *job)
{
    struct coord_host *host = job->host;
    size_t at;

    coord_tell(coord, &(struct coord_about){.kind = EVENT_JOB, .job = job},
               "removed");
    plan_end(coord, job, RPC_ABORTED, "the job was removed");
    attempt_refuse_waiting(coord, job, "the job was removed");
    unlist_host(coord, job);
    at = coord_lower(coord->jobs.items, coord->jobs.n, job_name(job), job_name);
    memmove(coord->jobs.items + at, coord->jobs.items + at + 1,
            (coord->jobs.n - at - 1) * sizeof(*coord->jobs.items));
    coord->jobs.n--;
    coord_timer_set(coord, &job->timer, NO_NS);
    job->is_gone = true;
    job_touch(coord, job);
    if (host != NULL) {
        job_wake_host(coord, host);
    }
}

void job_wake(struct coord *coord, struct coord_job *job)
{
    if (!job->is_woken && !job->is_gone) {
        if (!base_vec_push(&coord->woken, job)) {
            coord_no_mem(coord);
            return;
        }
        job->is_woken = true;
    }
}

void job_touch(struct coord *coord, struct coord_job *job)
{
    if (!job->is_dirty) {
        if (!base_vec_push(&coord->dirty_jobs, job)) {
            coord_no_mem(coord);
            return;
        }
        job->is_dirty = true;
    }
    if (!job->is_touched) {
        if (!base_vec_push(&coord->touched, job)) {
            coord_no_mem(coord);
            return;
        }
        job->is_touched = true;
    }
    job_wake(coord, job);
}

/* Something of the host is free, or back, or gone. */
void job_wake_host(struct coord *coord, struct coord_host *host)
{
    uint32_t n_free;

    for (size_t i = 0; i < host->jobs.n; i++) {
        job_wake(coord, host->jobs.items[i]);
    }
    n_free = place_free_of(host);
    coord->most_free = n_free > coord->most_free ? n_free : coord->most_free;
    for (size_t i = 0; coord->n_homeless > 0 && i < coord->jobs.n; i++) {
        struct coord_job *job = coord->jobs.items[i];

        if (job->host == NULL &&
            (job->rec->making != NULL || job->rec->job->n_ranks <= n_free)) {
            job_wake(coord, job);
        }
    }
}

bool job_is_over(const struct coord_job *job)
{
    int state = (int)job->rec->job->state;

    return state == JOB_DONE || state == JOB_FAILED || state == JOB_LOST ||
           state == JOB_REMOVING;
}

void job_arm(struct coord *coord, struct coord_job *job)
{
    const int64_t all[] = {job->drain_ns, job->start_ns, job->make_ns,
                           job->backoff_ns, job->plan_ns};
    int64_t least = NO_NS;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        least = all[i] < least ? all[i] : least;
    }
    if (least != job->timer.at_ns) {
        coord_timer_set(coord, &job->timer, least);
    }
}

/* What the state of a job that is not over is called, from what it has. */
static int state_of(const struct coord_job *job)
{
    const Retile__V1__Job *rec = job->rec->job;
    const Retile__V1__Generation *generation = generation_current(job);

    if (generation != NULL) {
        switch ((int)generation->state) {
        case GENERATION_RUNNING:
            return JOB_RUNNING;
        case GENERATION_DRAINING:
            return JOB_DRAINING;
        default:
            return JOB_STARTING;
        }
    }
    if (job->rec->making != NULL && (job->rec->making->kind == ATTEMPT_IMPORT ||
                                     job->rec->making->kind == ATTEMPT_COPY)) {
        return JOB_IMPORTING;
    }
    return rec->attempt != NULL ? JOB_MOVING : JOB_WAITING;
}

static void settle(struct coord *coord, struct coord_job *job, const char *why)
{
    int state = state_of(job);

    if (state == JOB_STARTING && job->is_heard && !job->has_launcher &&
        generation_current(job)->state == GENERATION_READY) {
        why = "waits for `retile launch`";
    } else if (state == JOB_DRAINING) {
        why = job->rec->job->change != NULL ? job->rec->job->change->what : "";
    } else if (state == JOB_STARTING || state == JOB_RUNNING) {
        why = "";
    }
    job_move(coord, job, state, why);
}

void job_advance(struct coord *coord, struct coord_job *job)
{
    Retile__V1__Job *rec = job->rec->job;
    char why[WHY_BYTES] = "";

    if (rec->state == JOB_REMOVING && job->host == NULL) {
        job_remove(coord, job);
        return;
    }
    if (job_is_over(job)) {
        version_trim(coord, job);
        return;
    }
    generation_check(coord, job);
    if (rec->attempt != NULL && rec->attempt->state == ATTEMPT_OPEN) {
        if (job->host == NULL || job->host->rec->state == HOST_LOST) {
            attempt_abort(coord, job, "its host is lost");
        } else if (rec->attempt->kind == ATTEMPT_SAVE &&
                   generation_current(job) == NULL) {
            attempt_abort(coord, job, "its generation is over");
        }
    }
    if (!job_is_over(job) && generation_current(job) == NULL &&
        rec->attempt == NULL) {
        const Retile__V1__Version *newest = version_newest(job);

        if (rec->change != NULL && rec->change->phase == CHANGE_DRAINING) {
            change_phase(coord, job, CHANGE_MAKING);
        }
        if (newest != NULL && version_is_released(job, newest->number)) {
            (void)snprintf(why, sizeof(why),
                           "version %" PRIu64 " is given up, no other is left",
                           newest->number);
        } else if (attempt_make(coord, job, why) && rec->attempt == NULL) {
            (void)generation_start(coord, job, why); /* or waits */
        }
    }
    if (!job_is_over(job)) {
        settle(coord, job, why);
    }
    version_trim(coord, job);
    job_arm(coord, job);
}

static void make_due(struct coord *coord, struct coord_job *job)
{
    const Retile__V1__Attempt *attempt = attempt_open(job);
    bool is_save = attempt != NULL && attempt->kind == ATTEMPT_SAVE;
    char why[WHY_BYTES];

    coord_line(why, sizeof(why), "not %s within %" PRIu32 " ms%s%s",
               is_save ? "published" : "made", coord->limits.make_wait_ms,
               job->trouble != NULL ? ": " : "",
               job->trouble != NULL ? job->trouble : "");
    if (!is_save) {
        attempt_give_up(coord, job, why);
    } else if (job->is_heard) {
        attempt_lose(coord, job, why);
    } else {
        attempt_wait(coord, job); /* its host is away */
    }
}

void job_due(struct coord *coord, struct coord_job *job)
{
    int64_t now = coord->now.mono_ns;

    if (job->drain_ns <= now) {
        job->drain_ns = NO_NS;
        generation_end(coord, job, GENERATION_REVOKED, false,
                       "did not stop within %" PRIu32 " s",
                       job->rec->job->change != NULL
                           ? job->rec->job->change->deadline_s
                           : 0);
    }
    if (job->start_ns <= now) {
        job->start_ns = NO_NS;
        generation_end(coord, job, GENERATION_REVOKED, true,
                       "was not prepared within %" PRIu32 " ms%s%s",
                       coord->limits.start_wait_ms,
                       job->trouble != NULL ? ": " : "",
                       job->trouble != NULL ? job->trouble : "");
    }
    if (job->make_ns <= now) {
        job->make_ns = NO_NS;
        make_due(coord, job);
    }
    if (job->backoff_ns <= now) {
        job->backoff_ns = NO_NS;
    }
    if (job->plan_ns <= now) {
        plan_end(coord, job, RPC_DEADLINE_EXCEEDED,
                 "the host did not answer with a plan in time");
    }
    job_arm(coord, job);
    job_wake(coord, job);
}
