/* Generations: begun on devices, prepared, run, drained, ended, revoked. */
#include <stdio.h>

#include "coordinator/core/impl.h"

Retile__V1__Generation *generation_current(const struct coord_job *job)
{
    Retile__V1__Generation *generation = job->rec->job->generation;

    if (generation == NULL || generation->state == GENERATION_ENDED ||
        generation->state == GENERATION_REVOKED) {
        return NULL;
    }
    return generation;
}

uint64_t generation_next_step(const struct coord_job *job)
{
    const Retile__V1__Job *rec = job->rec->job;
    uint64_t next = 0;

    for (size_t i = 0; i < rec->n_versions; i++) {
        const Retile__V1__Version *version = rec->versions[i];

        if (version->has_step && version->number >= rec->generation->load &&
            version->step >= next) {
            next = version->step + (version->step < INT64_MAX);
        }
    }
    if (rec->generation->last_step >= next && rec->generation->last_step > 0) {
        next = rec->generation->last_step +
               (rec->generation->last_step < INT64_MAX);
    }
    return next;
}

static void back_off(struct coord *coord, struct coord_job *job)
{
    uint64_t ms = coord->limits.backoff_ms;

    for (uint32_t i = 1;
         i < job->rec->job->n_restarts && ms < coord->limits.max_backoff_ms;
         i++) {
        ms *= 2;
    }
    ms = ms < coord->limits.max_backoff_ms ? ms : coord->limits.max_backoff_ms;
    job->backoff_ns = coord->now.mono_ns + (int64_t)ms * NS_PER_MS;
}

/* Its processes failed: once more, unless it was too often. */
static void
count_failure(struct coord *coord, struct coord_job *job, const char *reason)
{
    Retile__V1__Job *rec = job->rec->job;

    if (rec->max_restarts == NEVER_RESTART ||
        rec->n_restarts >= rec->max_restarts) {
        change_drop(coord, job);
        plan_end(coord, job, RPC_ABORTED, "the job failed");
        job_move(coord, job, JOB_FAILED, reason);
        return;
    }
    rec->n_restarts++;
    back_off(coord, job);
}

/* What is known of the steps that are lost. */
static void tell_lost(struct coord *coord, const struct coord_job *job)
{
    const Retile__V1__Version *version = version_newest(job);

    coord_tell(
        coord,
        &(struct coord_about){.kind = EVENT_GENERATION,
                              .job = job,
                              .generation = job->rec->job->generation->number,
                              .version = version != NULL ? version->number : 0,
                              .step = version != NULL ? version->step : 0},
        version == NULL     ? "all steps are lost, nothing was saved"
        : version->has_step ? "steps after %" PRIu64 " are lost"
                            : "steps after version %" PRIu64 " are lost",
        version == NULL     ? UINT64_C(0)
        : version->has_step ? version->step
                            : version->number);
}

void generation_end(struct coord *coord,
                    struct coord_job *job,
                    int to,
                    bool is_counted,
                    const char *fmt,
                    ...)
{
    Retile__V1__Generation *generation = generation_current(job);
    Retile__V1__Job *rec = job->rec->job;
    char reason[WHY_BYTES];
    va_list args;
    bool had_started;

    if (generation == NULL) {
        return;
    }
    va_start(args, fmt);
    coord_vline(reason, sizeof(reason), fmt, args);
    va_end(args);
    had_started = generation->state == GENERATION_RUNNING ||
                  generation->state == GENERATION_DRAINING || job->has_started;
    generation_move(coord, job, to, reason);
    if (to == GENERATION_REVOKED && had_started) {
        tell_lost(coord, job);
    }
    job->drain_ns = job->start_ns = NO_NS;
    job->has_started = false;
    job->is_ended = true;
    coord_text(coord, &job->rec->request, "%s", "");
    attempt_refuse_waiting(coord, job, "the generation is over");
    if (rec->attempt != NULL && rec->attempt->kind == ATTEMPT_SAVE &&
        rec->attempt->state == ATTEMPT_OPEN) {
        attempt_abort(coord, job, "its generation is over");
    }
    if (rec->change != NULL && rec->change->phase == CHANGE_DRAINING) {
        change_phase(coord, job, CHANGE_MAKING);
    } else if (is_counted) {
        count_failure(coord, job, reason);
    }
}

/* The newest goes to the history, which is bounded. */
static void into_history(struct coord *coord, struct coord_job *job)
{
    Retile__V1__Job *rec = job->rec->job;

    if (rec->generation == NULL ||
        !coord_list_grow(coord, &rec->history, rec->n_history,
                         sizeof(*rec->history))) {
        return;
    }
    memmove(rec->history + 1, rec->history,
            rec->n_history * sizeof(*rec->history));
    rec->history[0] = rec->generation;
    rec->generation = NULL;
    rec->n_history++;
    while (rec->n_history > coord->limits.history) {
        coord_message_free(rec->history[--rec->n_history]);
    }
}

static void set_placements(struct coord *coord,
                           const struct coord_job *job,
                           Retile__V1__Generation *generation,
                           const uint32_t *devices,
                           uint32_t n)
{
    generation->placements = calloc(n, sizeof(*generation->placements));
    if (generation->placements == NULL) {
        coord_no_mem(coord);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        Retile__V1__Placement *placement = malloc(sizeof(*placement));

        if (placement == NULL) {
            coord_no_mem(coord);
            return;
        }
        retile__v1__placement__init(placement);
        placement->rank = i;
        placement->device = devices[i];
        generation->placements[generation->n_placements++] = placement;
        coord_text(coord, &placement->host, "%s", job->host->rec->name);
    }
}

static void
begin(struct coord *coord, struct coord_job *job, const uint32_t *devices)
{
    Retile__V1__Job *rec = job->rec->job;
    const Retile__V1__Version *version = version_newest(job);
    Retile__V1__Generation *generation = malloc(sizeof(*generation));

    if (generation == NULL) {
        coord_no_mem(coord);
        return;
    }
    retile__v1__generation__init(generation);
    generation->number = job->rec->next_generation++;
    generation->created_ns = coord->now.wall_ns;
    if (version != NULL) {
        generation->load = version->number;
        generation->first_step = version->has_step ? version->step : 0;
    }
    coord_text(coord, &generation->mesh, "%s", rec->mesh);
    set_placements(coord, job, generation, devices, rec->n_ranks);
    into_history(coord, job);
    if (rec->generation != NULL) { /* memory was short */
        coord_message_free(generation);
        return;
    }
    rec->generation = generation;
    job->rec->master_port = 0;
    coord_text(coord, &job->rec->master_addr, "%s", "");
    coord_text(coord, &job->rec->request, "%s", "");
    place_take(coord, job, generation);
    job->start_ns =
        coord->now.mono_ns + (int64_t)coord->limits.start_wait_ms * NS_PER_MS;
    job->has_started = false;
    generation_move(coord, job, GENERATION_PREPARING, "");
}

bool generation_start(struct coord *coord, struct coord_job *job, char *why)
{
    Retile__V1__Job *rec = job->rec->job;
    BASE_AUTO_MEM uint32_t *devices = NULL;
    struct coord_host *host = job->host;
    uint32_t n_ready = 0;

    if (job->backoff_ns != NO_NS) {
        (void)snprintf(why, WHY_BYTES,
                       "restart %" PRIu32 " of %" PRIu32 " in a row is due",
                       rec->n_restarts, rec->max_restarts);
        return false;
    }
    devices = calloc(rec->n_ranks, sizeof(*devices));
    if (devices == NULL) {
        coord_no_mem(coord);
        return false;
    }
    if (host == NULL) {
        host = place_choose(coord, job, rec->n_ranks);
        if (host == NULL) {
            (void)snprintf(why, WHY_BYTES,
                           "no host has %" PRIu32 " devices that are ready",
                           rec->n_ranks);
            return false;
        }
    } else if (host->session == 0) {
        (void)snprintf(why, WHY_BYTES, "host %s is %s", host->rec->name,
                       host->rec->state == HOST_LOST ? "lost"
                                                     : "not connected");
        return false;
    }
    if (!place_on(host, job, rec->n_ranks, devices, &n_ready)) {
        (void)snprintf(why, WHY_BYTES,
                       "needs %" PRIu32 " devices, host %s has %" PRIu32
                       " that are ready",
                       rec->n_ranks, host->rec->name, n_ready);
        return false;
    }
    if (job->host == NULL) {
        job_set_host(coord, job, host);
        coord_text(coord, &rec->host, "%s", host->rec->name);
    }
    if (coord->failed == BASE_OK) {
        begin(coord, job, devices);
    }
    return true;
}

/* Its host has prepared it, and knows of no other processes. */
static void see_prepared(struct coord *coord, struct coord_job *job)
{
    const Retile__V1__Generation *generation = generation_current(job);

    if (generation->state != GENERATION_PREPARING || !job->is_heard ||
        job->shown_generation != generation->number || !job->is_prepared ||
        job->shown_port == 0 || !host_is_clear(job->host, job)) {
        return;
    }
    job->start_ns = NO_NS;
    job->rec->master_port = job->shown_port;
    coord_text(coord, &job->rec->master_addr, "%s", job->host->rec->address);
    generation_move(coord, job, GENERATION_READY, "");
}

static void ask_to_stop(struct coord *coord, struct coord_job *job)
{
    const Retile__V1__Change *change = job->rec->job->change;

    coord_text(coord, &job->rec->request,
               "{\"stop_after\": null, \"deadline_s\": %" PRIu32 "}\n",
               change->deadline_s);
    job->drain_ns =
        coord->now.mono_ns + (int64_t)change->deadline_s * 1000 * NS_PER_MS;
    generation_move(coord, job, GENERATION_DRAINING, change->what);
}

/* A device of it that has @state; UINT32_MAX: none. */
static uint32_t device_with(const struct coord_job *job,
                            const Retile__V1__Generation *generation,
                            int state)
{
    for (size_t i = 0; i < generation->n_placements; i++) {
        uint32_t device = generation->placements[i]->device;

        if (device >= job->host->rec->n_devices
                ? state == DEVICE_FAILED
                : device_state(job->host, device) == state) {
            return device;
        }
    }
    return UINT32_MAX;
}

void generation_check(struct coord *coord, struct coord_job *job)
{
    Retile__V1__Generation *generation = generation_current(job);
    Retile__V1__Job *rec = job->rec->job;
    bool is_idle;
    bool is_stopping;
    uint32_t device;

    if (generation == NULL) {
        return;
    }
    if (job->host == NULL || job->host->rec->state == HOST_LOST) {
        generation_end(coord, job, GENERATION_REVOKED, false, "host %s is lost",
                       rec->host);
        return;
    }
    device = device_with(job, generation, DEVICE_FAILED);
    if (device != UINT32_MAX) {
        generation_end(coord, job, GENERATION_REVOKED, false,
                       "device %s/%" PRIu32 " failed: %s", rec->host, device,
                       device_reason(job->host, device));
        return;
    }
    device = device_with(job, generation, DEVICE_DRAINED);
    if (device != UINT32_MAX && generation->state == GENERATION_RUNNING &&
        rec->change == NULL) {
        char what[WHY_BYTES];

        (void)snprintf(what, sizeof(what), "move off %s/%" PRIu32, rec->host,
                       device);
        change_begin(coord, job, what, rec->layout, rec->mesh,
                     job->host->slots[device].deadline_s);
    }
    /* Nobody has started it, as far as we know: nothing is lost. */
    is_idle = generation->state == GENERATION_PREPARING ||
              (generation->state == GENERATION_READY && job->is_heard &&
               !job->has_started);
    is_stopping = rec->change != NULL && rec->change->phase == CHANGE_DRAINING;
    if (is_idle && (is_stopping || device != UINT32_MAX)) {
        generation_end(coord, job, GENERATION_REVOKED, false, "%s",
                       is_stopping ? rec->change->what
                                   : "one of its devices is drained");
    } else if (is_stopping &&
               (generation->state == GENERATION_RUNNING ||
                (generation->state == GENERATION_READY && job->has_started))) {
        ask_to_stop(coord, job);
    } else {
        see_prepared(coord, job);
    }
}

/* How the ranks are. */
struct ranks {
    uint32_t n_started, n_good; /* good: exited 0 */
    const Retile__V1__RankStatus *bad;
};

static struct ranks count_ranks(const Retile__V1__StatusGeneration *shown,
                                uint32_t n_ranks)
{
    struct ranks ranks = {0};
    uint32_t next = 0; /* ascending, so that each counts once */

    for (size_t i = 0; i < shown->n_ranks; i++) {
        const Retile__V1__RankStatus *rank = shown->ranks[i];
        bool has_exited = rank->state == RETILE__V1__RANK_STATE__RANK_EXITED;

        if (rank->rank < next || rank->rank >= n_ranks) {
            continue;
        }
        next = rank->rank + 1;
        ranks.n_started +=
            has_exited || rank->state == RETILE__V1__RANK_STATE__RANK_RUNNING;
        if (has_exited && rank->exit_code == 0 && rank->signal == 0) {
            ranks.n_good++;
        } else if (has_exited && ranks.bad == NULL) {
            ranks.bad = rank;
        }
    }
    return ranks;
}

static void ended_well(struct coord *coord, struct coord_job *job)
{
    bool was_asked = generation_current(job)->state == GENERATION_DRAINING;

    generation_end(coord, job, GENERATION_ENDED, false, "%s",
                   was_asked ? "stopped when asked" : "all processes ended");
    if (!was_asked) {
        change_drop(coord, job);
        plan_end(coord, job, RPC_FAILED_PRECONDITION, "the job is done");
        job_move(coord, job, JOB_DONE, "");
    }
}

static void see_ranks(struct coord *coord,
                      struct coord_job *job,
                      const Retile__V1__StatusGeneration *shown)
{
    Retile__V1__Generation *generation = generation_current(job);
    Retile__V1__Job *rec = job->rec->job;
    uint32_t n_ranks = (uint32_t)generation->n_placements;
    struct ranks ranks = count_ranks(shown, n_ranks);

    if (ranks.n_started > 0 && !job->has_started) {
        job->has_started = true;
        job_wake(coord, job);
    }
    if (ranks.bad != NULL) {
        coord_tell(coord,
                   &(struct coord_about){.kind = EVENT_RANK,
                                         .job = job,
                                         .host = rec->host,
                                         .device = -1,
                                         .generation = generation->number},
                   "rank %" PRIu32 " ended: %s %" PRId32, ranks.bad->rank,
                   ranks.bad->signal != 0 ? "signal" : "exit code",
                   ranks.bad->signal != 0 ? ranks.bad->signal
                                          : ranks.bad->exit_code);
        generation_end(coord, job, GENERATION_REVOKED, true,
                       "rank %" PRIu32 " ended: %s %" PRId32, ranks.bad->rank,
                       ranks.bad->signal != 0 ? "signal" : "exit code",
                       ranks.bad->signal != 0 ? ranks.bad->signal
                                              : ranks.bad->exit_code);
        return;
    }
    if (generation->state == GENERATION_READY && ranks.n_started == n_ranks) {
        if (rec->change != NULL && rec->change->phase == CHANGE_STARTING) {
            change_drop(coord, job);
        }
        generation_move(coord, job, GENERATION_RUNNING, "");
    }
    if (ranks.n_good == n_ranks) {
        ended_well(coord, job);
    }
}

void generation_report(struct coord *coord,
                       struct coord_job *job,
                       const Retile__V1__JobStatus *status)
{
    Retile__V1__Generation *generation = generation_current(job);
    const Retile__V1__StatusGeneration *shown = status->generation;

    if (generation == NULL) {
        return;
    }
    if (status->highest_generation > generation->number &&
        status->highest_generation <= MAX_NUMBER) {
        generation_end(coord, job, GENERATION_REVOKED, false,
                       "host %s has seen generation %" PRIu64,
                       job->host->rec->name, status->highest_generation);
        return;
    }
    if (shown == NULL || shown->number != generation->number) {
        if (generation->state != GENERATION_PREPARING) {
            generation_end(coord, job, GENERATION_REVOKED, true,
                           "host %s has nothing of it any more",
                           job->host->rec->name);
        }
        return;
    }
    if (generation->state != GENERATION_PREPARING) {
        see_ranks(coord, job, shown);
    }
}
