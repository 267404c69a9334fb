/* Changes that were asked for: a rescale is planned by the host, then it drains,
 * is made, and starts (job.c takes it from phase to phase). */
#include <stdio.h>

#include "coordinator/core/impl.h"

void change_begin(struct coord *coord,
                  struct coord_job *job,
                  const char *what,
                  const char *layout,
                  const char *mesh,
                  uint32_t deadline_s)
{
    Retile__V1__Change *change = malloc(sizeof(*change));

    if (change == NULL) {
        coord_no_mem(coord);
        return;
    }
    retile__v1__change__init(change);
    coord_message_free(job->rec->job->change);
    job->rec->job->change = change;
    coord_text(coord, &change->what, "%s", what);
    coord_text(coord, &change->layout, "%s", layout);
    coord_text(coord, &change->mesh, "%s", mesh);
    change->deadline_s = deadline_s != 0 ? deadline_s : DEADLINE_S;
    change->asked_ns = coord->now.wall_ns;
    change_phase(coord, job, CHANGE_DRAINING);
}

void change_phase(struct coord *coord, struct coord_job *job, int phase)
{
    if (job->rec->job->change == NULL) {
        return; /* memory was short */
    }
    job->rec->job->change->phase = (Retile__V1__ChangePhase)phase;
    job_touch(coord, job);
}

void change_drop(struct coord *coord, struct coord_job *job)
{
    Retile__Coordinator__JobRecord *rec = job->rec;

    if (rec->job->change == NULL) {
        return;
    }
    coord_message_free(rec->job->change);
    rec->job->change = NULL;
    while (rec->n_wanted > 0) {
        coord_message_free(rec->wanted[--rec->n_wanted]);
    }
    job_touch(coord, job);
}

/* A plan: the call waits while the host works it out. */

void plan_free(struct coord_plan *plan)
{
    if (plan != NULL) {
        free(plan->to);
        coord_message_free(plan->request);
        free(plan);
    }
}

static struct coord_call call_of(const struct coord_plan *plan)
{
    return (struct coord_call){.ticket = plan->ticket,
                               .method = "/retile.v1.Jobs/Rescale",
                               .request_id = plan->request_id,
                               .digest = plan->digest,
                               .request = &plan->request->base};
}

static void plan_close(struct coord *coord, struct coord_job *job)
{
    plan_free(job->plan);
    job->plan = NULL;
    job->plan_ns = NO_NS;
    job_touch(coord, job);
}

void plan_end(struct coord *coord,
              struct coord_job *job,
              enum rpc_code code,
              const char *text)
{
    struct coord_call call;

    if (job->plan == NULL) {
        return;
    }
    call = call_of(job->plan);
    call_refuse(coord, &call, code, "%s", text);
    plan_close(coord, job);
}

/* Refuse what names no devices of the job's host that it could have. */
static bool check_devices(struct coord *coord,
                          const struct coord_call *call,
                          const struct coord_job *job,
                          const Retile__V1__RescaleRequest *request,
                          uint32_t n_ranks)
{
    const struct coord_host *host = job->host;

    for (size_t i = 0; i < request->n_devices; i++) {
        const Retile__V1__Device *device = request->devices[i];
        int state;

        if (host == NULL || strcmp(device->host, host->rec->name) != 0 ||
            device->index >= host->rec->n_devices) {
            call_refuse(coord, call, RPC_NOT_FOUND,
                        "no device %s/%" PRIu32 " on the job's host %s",
                        device->host, device->index, job->rec->job->host);
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (request->devices[k]->index == device->index) {
                call_refuse(coord, call, RPC_INVALID_ARGUMENT,
                            "device %s/%" PRIu32 " is named twice",
                            device->host, device->index);
                return false;
            }
        }
        state = device_state(host, device->index);
        if (state != DEVICE_READY || host->slots[device->index].n_holders !=
                                         place_holds(job, device->index)) {
            call_refuse(
                coord, call, RPC_FAILED_PRECONDITION,
                "device %s/%" PRIu32 " is %s", device->host, device->index,
                state != DEVICE_READY ? coord_state_name("device", state)
                                      : "used by another job");
            return false;
        }
    }
    if (request->n_devices > 0 && request->n_devices != n_ranks) {
        call_refuse(coord, call, RPC_INVALID_ARGUMENT,
                    "%zu devices are named, the layout has %" PRIu32 " ranks",
                    request->n_devices, n_ranks);
        return false;
    }
    return true;
}

/* The devices of @request, or those that it would get; NULL: was answered. */
static uint32_t *choose(struct coord *coord,
                        const struct coord_call *call,
                        const struct coord_job *job,
                        const Retile__V1__RescaleRequest *request,
                        uint32_t n_ranks,
                        const struct coord_host **ret_host)
{
    uint32_t *devices =
        base_arena_alloc(coord->actions->arena, n_ranks, sizeof(*devices));
    const struct coord_host *host = job->host;
    uint32_t n_ready = 0;

    if (devices == NULL) {
        coord_no_mem(coord);
        return NULL;
    }
    if (!check_devices(coord, call, job, request, n_ranks)) {
        return NULL;
    }
    for (size_t i = 0; i < request->n_devices; i++) {
        devices[i] = request->devices[i]->index;
    }
    if (request->n_devices > 0) {
        *ret_host = host; /* as they were checked */
        return devices;
    }
    if (host == NULL) {
        host = place_choose(coord, job, n_ranks);
    }
    *ret_host = host;
    if (host == NULL || !place_any(host, job, n_ranks, devices, &n_ready)) {
        call_refuse(
            coord, call, RPC_FAILED_PRECONDITION,
            "%" PRIu32 " devices are needed, %s has %" PRIu32 " that are ready",
            n_ranks, host != NULL ? host->rec->name : "no host", n_ready);
        return NULL;
    }
    return devices;
}

static void show_placements(struct coord *coord,
                            const struct coord_host *host,
                            Retile__V1__RescaleResponse *response,
                            const uint32_t *devices,
                            uint32_t n)
{
    struct base_arena *arena = coord->actions->arena;
    Retile__V1__Placement *all = base_arena_alloc(arena, n, sizeof(*all));

    response->placements =
        base_arena_alloc(arena, n, sizeof(*response->placements));
    if (all == NULL || response->placements == NULL) {
        coord_no_mem(coord);
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        retile__v1__placement__init(&all[i]);
        all[i].rank = i;
        all[i].device = devices[i];
        all[i].host = host->rec->name;
        response->placements[i] = &all[i];
    }
    response->n_placements = n;
}

/* The change begins, unless it was a dry run; the call is answered. */
static void begin(struct coord *coord,
                  struct coord_job *job,
                  const struct coord_call *call,
                  const char *layout,
                  const char *mesh,
                  Retile__V1__PlanSummary *summary)
{
    const Retile__V1__RescaleRequest *request =
        (const Retile__V1__RescaleRequest *)call->request;
    Retile__Coordinator__JobRecord *rec = job->rec;
    Retile__V1__RescaleResponse response;
    uint32_t n_ranks = layout_mesh_ranks(mesh);
    const uint32_t *devices = NULL;
    const struct coord_host *host = NULL;
    char what[WHY_BYTES];

    if (n_ranks == 0) {
        call_refuse(coord, call, RPC_INTERNAL, "the mesh is malformed: %s",
                    mesh);
        return;
    }
    devices = choose(coord, call, job, request, n_ranks, &host);
    if (devices == NULL) {
        return;
    }
    summary->n_ranks = n_ranks;
    retile__v1__rescale_response__init(&response);
    response.plan = summary;
    response.layout = coord_textf_out(coord, "%s", layout);
    response.mesh = coord_textf_out(coord, "%s", mesh);
    show_placements(coord, host, &response, devices, n_ranks);
    if (!request->dry_run) {
        (void)snprintf(what, sizeof(what), "%s%s",
                       strcmp(layout, rec->job->layout) == 0 ? "restart with "
                                                             : "rescale to ",
                       mesh[0] != '\0' ? mesh : "one rank");
        change_drop(coord, job);
        change_begin(coord, job, what, layout, mesh, request->deadline_s);
        for (size_t i = 0; i < request->n_devices; i++) {
            if (coord_list_grow(coord, &rec->wanted, rec->n_wanted,
                                sizeof(Retile__V1__Device *))) {
                rec->wanted[rec->n_wanted] =
                    coord_copy(coord, request->devices[i]);
                rec->n_wanted += rec->wanted[rec->n_wanted] != NULL;
            }
        }
        if (coord->failed != BASE_OK) {
            return;
        }
        rec->job->change->plan = coord_copy(coord, summary);
        rec->job->n_restarts = 0;
        job->backoff_ns = NO_NS;
        if (job_is_over(job)) {
            job_move(coord, job, JOB_WAITING, what);
        }
    }
    response.job = show_job(coord, job, false);
    call_answer(coord, call, coord_copy_out(coord, &response),
                !request->dry_run);
}

/* Ask the host for a plan. */
static void ask(struct coord *coord,
                struct coord_job *job,
                const struct coord_call *call,
                const char *to)
{
    struct coord_plan *plan;

    if (job->host == NULL || job->host->session == 0 || !job->is_heard) {
        call_refuse(coord, call, RPC_UNAVAILABLE, "host %s is not connected",
                    job->rec->job->host);
        return;
    }
    if (version_is_full(coord, call, job)) {
        return;
    }
    plan = calloc(1, sizeof(*plan));
    if (plan == NULL) {
        coord_no_mem(coord);
        return;
    }
    job->plan = plan;
    plan->number = ++job->rec->plan;
    plan->ticket = call->ticket;
    (void)snprintf(plan->request_id, sizeof(plan->request_id), "%s",
                   call->request_id);
    plan->digest = call->digest;
    plan->request = coord_copy(coord, call->request);
    coord_text(coord, &plan->to, "%s", to);
    job->plan_ns =
        coord->now.mono_ns + (int64_t)coord->limits.start_wait_ms * NS_PER_MS;
    job_touch(coord, job);
}

/* The layout is known, or the host has to look. */
static void rescale(struct coord *coord,
                    struct coord_job *job,
                    const struct coord_call *call)
{
    const Retile__V1__RescaleRequest *request =
        (const Retile__V1__RescaleRequest *)call->request;
    const Retile__V1__Job *rec = job->rec->job;
    const Retile__V1__Version *newest = version_newest(job);
    Retile__V1__PlanSummary summary;
    AUTO_LAYOUT layout = {0};
    enum base_code rc = BASE_OK;
    struct base_err err = {0};

    retile__v1__plan_summary__init(&summary);
    summary.state_bytes = newest != NULL ? newest->n_bytes : 0;
    if (request->to[0] == '\0') {
        begin(coord, job, call, rec->layout, rec->mesh, &summary);
        return;
    }
    if (layout_is_sizes(request->to)) {
        rc = layout_resize(rec->layout, request->to, &layout, &err);
    } else if (newest == NULL || strchr(request->to, '\n') != NULL) {
        rc = layout_parse(request->to, &layout, &err);
    } else {
        ask(coord, job, call, request->to);
        return;
    }
    if (rc == BASE_NO_MEM) {
        coord_no_mem(coord);
    } else if (rc != BASE_OK) {
        call_refuse(coord, call, RPC_INVALID_ARGUMENT, "%s", err.text);
    } else if (newest == NULL || strcmp(layout.text.ptr, rec->layout) == 0) {
        begin(coord, job, call, layout.text.ptr, layout.mesh, &summary);
    } else {
        ask(coord, job, call, layout.text.ptr);
    }
}

void call_rescale(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__RescaleRequest *request =
        (const Retile__V1__RescaleRequest *)call->request;
    struct coord_job *job = job_find(coord, request->job);
    const Retile__V1__Job *rec = job != NULL ? job->rec->job : NULL;

    if (job == NULL) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no job %s", request->job);
        return;
    }
    if (!request->dry_run && call_is_too_much(coord, call)) {
        return;
    }
    if (job->plan != NULL) {
        if (strcmp(job->plan->request_id, call->request_id) != 0 ||
            !base_digest_eq(job->plan->digest, call->digest)) {
            call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                        "another change of %s is being planned", rec->name);
            return;
        }
        plan_end(coord, job, RPC_ABORTED, "the same call came again");
    }
    if (job_is_over(job) && rec->state != JOB_FAILED) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION, "%s is %s", rec->name,
                    coord_state_name("job", (int)rec->state));
    } else if (rec->change != NULL && rec->change->phase != CHANGE_STARTING) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION, "%s is under way: %s",
                    rec->name, rec->change->what);
    } else if (job->rec->making != NULL || rec->mesh == NULL ||
               rec->n_ranks == 0) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "%s has no first version yet", rec->name);
    } else {
        rescale(coord, job, call);
    }
}

void plan_report(struct coord *coord,
                 struct coord_job *job,
                 const Retile__V1__StatusPlan *shown)
{
    const Retile__V1__Job *rec = job->rec->job;
    Retile__V1__PlanSummary summary;
    struct coord_call call;

    if (job->plan == NULL || shown == NULL ||
        shown->number != job->plan->number) {
        return;
    }
    call = call_of(job->plan);
    if (shown->is_failed) {
        plan_end(coord, job, RPC_INVALID_ARGUMENT, shown->reason);
        return;
    }
    retile__v1__plan_summary__init(&summary);
    if (job_is_over(job) && rec->state != JOB_FAILED) {
        plan_end(coord, job, RPC_FAILED_PRECONDITION, "the job is over");
        return;
    }
    if (rec->change != NULL && rec->change->phase != CHANGE_STARTING) {
        plan_end(coord, job, RPC_FAILED_PRECONDITION,
                 "another change is under way");
        return;
    }
    begin(coord, job, &call, shown->layout, shown->mesh,
          shown->summary != NULL ? shown->summary : &summary);
    plan_close(coord, job);
}
