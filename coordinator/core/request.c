/* Calls: which there are, what is answered, and answers that are kept for who
 * asks again with the same request_id. */
#include <stdio.h>

#include "coordinator/core/impl.h"

struct method {
    const char *name;
    const ProtobufCMessageDescriptor *request;
    const ProtobufCMessageDescriptor *response;
    void (*handle)(struct coord *coord, const struct coord_call *call);
};

#define METHOD(service, verb, request, response, handle)                       \
    {                                                                          \
        "/retile.v1." service "/" verb,                                        \
            &retile__v1__##request##_request__descriptor,                      \
            &retile__v1__##response##_response__descriptor, handle             \
    }

static const struct method methods[] = {
    METHOD("Jobs", "Submit", submit_job, submit_job, call_submit),
    METHOD("Jobs", "List", list_jobs, list_jobs, call_jobs_list),
    METHOD("Jobs", "Get", get_job, get_job, call_jobs_get),
    METHOD("Jobs", "Remove", remove_job, remove_job, call_remove),
    METHOD("Jobs", "Rescale", rescale, rescale, call_rescale),
    METHOD(
        "Versions", "List", list_versions, list_versions, call_versions_list),
    METHOD("Versions", "Pin", pin_version, pin_version, call_pin),
    METHOD(
        "Versions", "Release", release_version, release_version, call_release),
    METHOD("Versions", "Rollback", rollback, rollback, call_rollback),
    METHOD("Devices", "List", list_devices, list_devices, call_devices_list),
    METHOD("Devices", "Drain", drain_device, drain_device, call_drain),
    METHOD("Devices", "Fail", fail_device, fail_device, call_fail),
    METHOD("Devices", "Recover", recover_device, recover_device, call_recover),
    METHOD("Devices", "ForgetHost", forget_host, forget_host, call_forget_host),
    METHOD("Agents", "OpenSave", open_save, open_save, call_open_save),
    METHOD("Agents", "CloseSave", close_save, close_save, call_close_save),
    METHOD("Agents", "Vote", vote, vote, call_vote),
};

static const struct method *method_find(const char *name)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].name, name) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

static void reply(struct coord *coord, struct coord_reply reply)
{
    if (!base_vec_push(&coord->actions->replies, reply)) {
        coord_no_mem(coord);
    }
}

void call_refuse(struct coord *coord,
                 const struct coord_call *call,
                 enum rpc_code code,
                 const char *fmt,
                 ...)
{
    struct coord_reply refusal = {.ticket = call->ticket, .status.code = code};
    va_list args;

    va_start(args, fmt);
    coord_vline(refusal.status.text, sizeof(refusal.status.text), fmt, args);
    va_end(args);
    reply(coord, refusal);
}

bool call_is_too_much(struct coord *coord, const struct coord_call *call)
{
    if (coord->n_bytes <= MAX_STATE_BYTES) {
        return false;
    }
    call_refuse(coord, call, RPC_RESOURCE_EXHAUSTED,
                "the records of jobs have %zu bytes, no more than %d are kept",
                coord->n_bytes, MAX_STATE_BYTES);
    return true;
}

/* Answers that are kept. */

static const char *request_id(const void *item)
{
    return ((const struct coord_request *)item)->id;
}

struct coord_request *request_find(const struct coord *coord, const char *id)
{
    size_t at =
        coord_lower(coord->requests.items, coord->requests.n, id, request_id);

    if (at < coord->requests.n &&
        strcmp(coord->requests.items[at]->id, id) == 0) {
        return coord->requests.items[at];
    }
    return NULL;
}

void request_free(struct coord_request *request)
{
    if (request != NULL) {
        coord_message_free(request->rec);
        free(request);
    }
}

static void request_dirty(struct coord *coord, struct coord_request *request)
{
    if (!request->is_dirty) {
        if (!base_vec_push(&coord->dirty_requests, request)) {
            coord_no_mem(coord);
            return;
        }
        request->is_dirty = true;
    }
}

static void drop_oldest(struct coord *coord)
{
    size_t oldest = 0;
    struct coord_request *request;

    for (size_t i = 1; i < coord->requests.n; i++) {
        if (coord->requests.items[i]->rec->order <
            coord->requests.items[oldest]->rec->order) {
            oldest = i;
        }
    }
    request = coord->requests.items[oldest];
    memmove(coord->requests.items + oldest, coord->requests.items + oldest + 1,
            (coord->requests.n - oldest - 1) * sizeof(*coord->requests.items));
    coord->requests.n--;
    coord->n_kept -= request->rec->response.len;
    request->is_gone = true;
    request_dirty(coord, request);
}

void request_add(struct coord *coord,
                 const char *id,
                 Retile__Coordinator__RequestRecord *rec)
{
    struct coord_request *request = calloc(1, sizeof(*request));
    size_t at;

    if (request == NULL ||
        !base_vec_reserve(&coord->requests, coord->requests.n + 1)) {
        coord_no_mem(coord);
        coord_message_free(rec);
        free(request);
        return;
    }
    (void)snprintf(request->id, sizeof(request->id), "%s", id);
    request->rec = rec;
    at = coord_lower(coord->requests.items, coord->requests.n, id, request_id);
    memmove(coord->requests.items + at + 1, coord->requests.items + at,
            (coord->requests.n - at) * sizeof(*coord->requests.items));
    coord->requests.items[at] = request;
    coord->requests.n++;
    coord->n_kept += rec->response.len;
}

static void keep(struct coord *coord,
                 const struct coord_call *call,
                 const ProtobufCMessage *response)
{
    Retile__Coordinator__RequestRecord *rec;
    struct base_str packed;
    struct coord_request *request;

    if (request_find(coord, call->request_id) != NULL) {
        return; /* it waited for two plans at once */
    }
    rec = malloc(sizeof(*rec));
    packed = coord_pack_out(coord, response);
    if (rec == NULL || packed.ptr == NULL) {
        coord_no_mem(coord);
        free(rec);
        return;
    }
    retile__coordinator__request_record__init(rec);
    coord_text(coord, &rec->method, "%s", call->method);
    rec->digest.data = malloc(sizeof(call->digest.bytes));
    rec->response.data = malloc(packed.len > 0 ? packed.len : 1);
    if (rec->digest.data == NULL || rec->response.data == NULL) {
        coord_no_mem(coord);
        coord_message_free(rec);
        return;
    }
    memcpy(rec->digest.data, call->digest.bytes, sizeof(call->digest.bytes));
    rec->digest.len = sizeof(call->digest.bytes);
    memcpy(rec->response.data, packed.ptr, packed.len);
    rec->response.len = packed.len;
    rec->time_ns = coord->now.wall_ns;
    rec->order = ++coord->revision;
    while (coord->requests.n > 0 &&
           (coord->requests.n >= coord->limits.max_requests ||
            coord->n_kept + packed.len > MAX_KEPT_BYTES)) {
        drop_oldest(coord);
    }
    request_add(coord, call->request_id, rec);
    request = request_find(coord, call->request_id);
    if (request != NULL) {
        request_dirty(coord, request);
    }
}

void call_answer(struct coord *coord,
                 const struct coord_call *call,
                 const void *response,
                 bool is_kept)
{
    if (response == NULL) {
        return; /* memory was short */
    }
    if (is_kept && call->request_id[0] != '\0') {
        keep(coord, call, response);
    }
    reply(coord,
          (struct coord_reply){.ticket = call->ticket, .message = response});
}

static const char *id_of(const ProtobufCMessage *message)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor,
                                                        "request_id");

    if (field == NULL) {
        return "";
    }
    return *(char *const *)(const void *)((const char *)message +
                                          field->offset);
}

/* The same call came before: the same answer, from what was written. */
static void again(struct coord *coord,
                  const struct coord_call *call,
                  const struct method *method,
                  const struct coord_request *request)
{
    const Retile__Coordinator__RequestRecord *rec = request->rec;
    ProtobufCMessage *response;

    if (strcmp(rec->method, call->method) != 0 ||
        rec->digest.len != sizeof(call->digest.bytes) ||
        memcmp(rec->digest.data, call->digest.bytes, rec->digest.len) != 0) {
        call_refuse(coord, call, RPC_INVALID_ARGUMENT,
                    "request_id: %s was used for another call",
                    call->request_id);
        return;
    }
    response = protobuf_c_message_unpack(method->response, &coord_allocator,
                                         rec->response.len, rec->response.data);
    if (response == NULL) {
        coord_no_mem(coord);
        return;
    }
    call_answer(coord, call, coord_copy_out(coord, response), false);
    coord_message_free(response);
}

void call_step(struct coord *coord, const struct coord_event *event)
{
    struct coord_call call = {.ticket = event->ticket,
                              .method = event->method,
                              .request_id = "",
                              .request = event->message};
    const struct method *method = method_find(event->method);
    const struct coord_request *request = NULL;
    BASE_AUTO_MEM uint8_t *packed = NULL;
    size_t n;

    if (method == NULL || event->message->descriptor != method->request) {
        call_refuse(coord, &call, RPC_UNIMPLEMENTED, "no method %s",
                    event->method);
        return;
    }
    call.request_id = id_of(event->message);
    if (call.request_id[0] != '\0') {
        n = protobuf_c_message_get_packed_size(event->message);
        packed = malloc(n);
        if (packed == NULL) {
            coord_no_mem(coord);
            return;
        }
        (void)protobuf_c_message_pack(event->message, packed);
        call.digest = base_digest_of(packed, n);
        request = request_find(coord, call.request_id);
    }
    if (request != NULL) {
        again(coord, &call, method, request);
    } else {
        method->handle(coord, &call);
    }
}
