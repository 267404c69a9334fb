/* Devices: how they are, and the calls of operators.
 *
 * A device's record has what calls have set (READY, DRAINED, FAILED).  Beside it
 * stands what its host finds, which is not written down: each Hello says it
 * again, and until then nothing is placed there. */
#include <stdio.h>

#include "coordinator/core/impl.h"

int device_state(const struct coord_host *host, uint32_t index)
{
    const Retile__V1__Device *device = host->rec->devices[index];

    if ((int)host->rec->state == HOST_LOST) {
        return (int)device->state == DEVICE_FAILED ? DEVICE_FAILED
                                                   : DEVICE_LOST;
    }
    if (host->slots[index].is_broken) {
        return DEVICE_FAILED;
    }
    return (int)device->state;
}

const char *device_reason(const struct coord_host *host, uint32_t index)
{
    if (host->slots[index].is_broken &&
        (int)host->rec->devices[index]->state != DEVICE_FAILED) {
        return host->slots[index].why != NULL ? host->slots[index].why
                                              : "its host finds it broken";
    }
    return host->rec->devices[index]->reason;
}

void device_found(struct coord *coord,
                  struct coord_host *host,
                  uint32_t index,
                  bool is_broken,
                  const char *why)
{
    struct coord_slot *slot = &host->slots[index];

    if (slot->is_broken == is_broken) {
        return;
    }
    slot->is_broken = is_broken;
    free(slot->why);
    slot->why = is_broken ? strdup(why) : NULL;
    coord_tell(coord,
               &(struct coord_about){.kind = EVENT_DEVICE,
                                     .job = place_user(host, index),
                                     .host = host->rec->name,
                                     .device = (int)index},
               is_broken ? "its host finds it broken: %s"
                         : "its host finds it well again%s",
               is_broken ? why : "");
    job_wake_host(coord, host);
}

void call_devices_list(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__ListDevicesRequest *request =
        (const Retile__V1__ListDevicesRequest *)call->request;
    Retile__V1__ListDevicesResponse *response =
        base_arena_alloc(coord->actions->arena, 1, sizeof(*response));
    size_t n_bytes = 0;

    if (response == NULL) {
        coord_no_mem(coord);
        return;
    }
    retile__v1__list_devices_response__init(response);
    response->hosts = base_arena_alloc(
        coord->actions->arena, coord->hosts.n + 1, sizeof(Retile__V1__Host *));
    if (response->hosts == NULL) {
        coord_no_mem(coord);
        return;
    }
    for (size_t i = 0; i < coord->hosts.n; i++) {
        const struct coord_host *host = coord->hosts.items[i];
        Retile__V1__Host *shown;

        if (strcmp(host->rec->name, request->after) <= 0) {
            continue;
        }
        response->has_more = n_bytes >= PAGE_BYTES;
        shown = response->has_more ? NULL : show_host(coord, host);
        if (shown == NULL) {
            break; /* or memory was short */
        }
        n_bytes += protobuf_c_message_get_packed_size(&shown->base);
        response->hosts[response->n_hosts++] = shown;
    }
    call_answer(coord, call, response, false);
}

/* The devices that a call is about: begin to end; NULL: was answered. */
static struct coord_host *find(struct coord *coord,
                               const struct coord_call *call,
                               const char *name,
                               uint32_t index,
                               bool is_all,
                               uint32_t *ret_begin,
                               uint32_t *ret_end)
{
    struct coord_host *host = host_find(coord, name);

    if (host == NULL) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no host %s", name);
        return NULL;
    }
    if (!is_all && index >= host->rec->n_devices) {
        call_refuse(coord, call, RPC_NOT_FOUND, "host %s has %zu devices", name,
                    host->rec->n_devices);
        return NULL;
    }
    *ret_begin = is_all ? 0 : index;
    *ret_end = is_all ? (uint32_t)host->rec->n_devices : index + 1;
    return host;
}

/* Answer with the devices: the three responses have the same form. */
static void answer(struct coord *coord,
                   const struct coord_call *call,
                   const struct coord_host *host,
                   uint32_t begin,
                   uint32_t end)
{
    Retile__V1__DrainDeviceResponse drained;
    Retile__V1__FailDeviceResponse failed;
    Retile__V1__RecoverDeviceResponse recovered;
    Retile__V1__Device **devices = base_arena_alloc(
        coord->actions->arena, end - begin + 1, sizeof(*devices));

    if (devices == NULL) {
        coord_no_mem(coord);
        return;
    }
    for (uint32_t i = begin; i < end; i++) {
        devices[i - begin] = show_device(coord, host, i);
        if (devices[i - begin] == NULL) {
            return;
        }
    }
    if (call->request->descriptor ==
        &retile__v1__drain_device_request__descriptor) {
        retile__v1__drain_device_response__init(&drained);
        drained.n_devices = end - begin;
        drained.devices = devices;
        call_answer(coord, call, coord_copy_out(coord, &drained), true);
    } else if (call->request->descriptor ==
               &retile__v1__fail_device_request__descriptor) {
        retile__v1__fail_device_response__init(&failed);
        failed.n_devices = end - begin;
        failed.devices = devices;
        call_answer(coord, call, coord_copy_out(coord, &failed), true);
    } else {
        retile__v1__recover_device_response__init(&recovered);
        recovered.n_devices = end - begin;
        recovered.devices = devices;
        call_answer(coord, call, coord_copy_out(coord, &recovered), true);
    }
}

void call_drain(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__DrainDeviceRequest *request =
        (const Retile__V1__DrainDeviceRequest *)call->request;
    uint32_t begin;
    uint32_t end;
    struct coord_host *host = find(coord, call, request->host, request->index,
                                   request->all, &begin, &end);

    if (host == NULL) {
        return;
    }
    for (uint32_t i = begin; i < end; i++) {
        if ((int)host->rec->devices[i]->state == DEVICE_READY) {
            host->slots[i].deadline_s = request->deadline_s;
            device_move(coord, host, i, DEVICE_DRAINED, request->reason);
        }
    }
    job_wake_host(coord, host);
    answer(coord, call, host, begin, end);
}

void call_fail(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__FailDeviceRequest *request =
        (const Retile__V1__FailDeviceRequest *)call->request;
    uint32_t begin;
    uint32_t end;
    struct coord_host *host = find(coord, call, request->host, request->index,
                                   request->all, &begin, &end);

    if (host == NULL) {
        return;
    }
    for (uint32_t i = begin; i < end; i++) {
        if ((int)host->rec->devices[i]->state != DEVICE_FAILED) {
            device_move(coord, host, i, DEVICE_FAILED, request->reason);
        }
    }
    job_wake_host(coord, host);
    answer(coord, call, host, begin, end);
}

void call_recover(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__RecoverDeviceRequest *request =
        (const Retile__V1__RecoverDeviceRequest *)call->request;
    uint32_t begin;
    uint32_t end;
    struct coord_host *host = find(coord, call, request->host, request->index,
                                   request->all, &begin, &end);

    if (host == NULL) {
        return;
    }
    if (!request->all && host->slots[begin].is_broken) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "its host finds device %s/%" PRIu32 " broken: %s",
                    request->host, begin, device_reason(host, begin));
        return;
    }
    for (uint32_t i = begin; i < end; i++) {
        if ((int)host->rec->devices[i]->state != DEVICE_READY) {
            device_move(coord, host, i, DEVICE_READY, "");
        }
    }
    job_wake_host(coord, host);
    answer(coord, call, host, begin, end);
}

void call_forget_host(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__ForgetHostRequest *request =
        (const Retile__V1__ForgetHostRequest *)call->request;
    struct coord_host *host = host_find(coord, request->host);
    Retile__V1__ForgetHostResponse response;

    if (host == NULL) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no host %s", request->host);
        return;
    }
    if ((int)host->rec->state == HOST_UP) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION, "host %s is up",
                    request->host);
        return;
    }
    for (size_t i = 0; i < host->jobs.n && !request->force; i++) {
        const struct coord_job *job = host->jobs.items[i];

        if (job->rec->job->n_versions > 0 || job->rec->making != NULL ||
            job->rec->job->attempt != NULL) {
            call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                        "the only bytes of job %s are on host %s",
                        job->rec->job->name, request->host);
            return;
        }
    }
    host_forget(coord, host);
    retile__v1__forget_host_response__init(&response);
    call_answer(coord, call, coord_copy_out(coord, &response), true);
}
