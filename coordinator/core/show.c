/* The state as messages, in the arena of the actions. */
#include "coordinator/core/impl.h"

Retile__V1__Job *
show_job(struct coord *coord, const struct coord_job *job, bool is_whole)
{
    Retile__V1__Job shown = *job->rec->job;

    if (!is_whole) {
        shown.n_versions = 0;
        shown.n_history = 0;
    }
    return coord_copy_out(coord, &shown);
}

/* Borrows from the state. */
static Retile__V1__Device device_of(const struct coord_host *host,
                                    uint32_t index)
{
    Retile__V1__Device shown = *host->rec->devices[index];
    const struct coord_job *job = place_user(host, index);
    char *const none = (char *)(uintptr_t)protobuf_c_empty_string;

    shown.state = (Retile__V1__DeviceState)device_state(host, index);
    shown.reason = (char *)(uintptr_t)device_reason(host, index);
    shown.job = job != NULL ? job->rec->job->name : none;
    return shown;
}

Retile__V1__Device *
show_device(struct coord *coord, const struct coord_host *host, uint32_t index)
{
    const Retile__V1__Device shown = device_of(host, index);

    return coord_copy_out(coord, &shown);
}

Retile__V1__Host *show_host(struct coord *coord, const struct coord_host *host)
{
    Retile__V1__Host shown = *host->rec;
    BASE_AUTO_MEM Retile__V1__Device *all =
        calloc(shown.n_devices + 1, sizeof(*all));
    BASE_AUTO_MEM Retile__V1__Device **devices =
        calloc(shown.n_devices + 1, sizeof(*devices));

    if (all == NULL || devices == NULL) {
        coord_no_mem(coord);
        return NULL;
    }
    for (uint32_t i = 0; i < shown.n_devices; i++) {
        all[i] = device_of(host, i);
        devices[i] = &all[i];
    }
    shown.devices = devices;
    return coord_copy_out(coord, &shown);
}

void call_jobs_list(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__ListJobsRequest *request =
        (const Retile__V1__ListJobsRequest *)call->request;
    Retile__V1__ListJobsResponse *response =
        base_arena_alloc(coord->actions->arena, 1, sizeof(*response));
    size_t n_bytes = 0;

    if (response == NULL) {
        coord_no_mem(coord);
        return;
    }
    retile__v1__list_jobs_response__init(response);
    response->jobs = base_arena_alloc(coord->actions->arena, coord->jobs.n + 1,
                                      sizeof(Retile__V1__Job *));
    if (response->jobs == NULL) {
        coord_no_mem(coord);
        return;
    }
    for (size_t i = 0; i < coord->jobs.n; i++) {
        const struct coord_job *job = coord->jobs.items[i];
        Retile__V1__Job *shown;

        if (strcmp(job->rec->job->name, request->after) <= 0) {
            continue;
        }
        response->has_more = n_bytes >= PAGE_BYTES;
        shown = response->has_more ? NULL : show_job(coord, job, false);
        if (shown == NULL) {
            break; /* or memory was short */
        }
        n_bytes += protobuf_c_message_get_packed_size(&shown->base);
        response->jobs[response->n_jobs++] = shown;
    }
    call_answer(coord, call, response, false);
}

void call_jobs_get(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__GetJobRequest *request =
        (const Retile__V1__GetJobRequest *)call->request;
    const struct coord_job *job = job_find(coord, request->name);
    Retile__V1__GetJobResponse response;

    if (job == NULL) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no job %s", request->name);
        return;
    }
    retile__v1__get_job_response__init(&response);
    response.job = job->rec->job;
    call_answer(coord, call, coord_copy_out(coord, &response), false);
}
