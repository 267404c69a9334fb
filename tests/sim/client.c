/* Calls that are asked again until they are answered; clients and faults that a
 * seed chooses. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/world.h"

#define MS INT64_C(1000000)

void coordinator_call(struct world *world, uint64_t id, uint64_t n_try);

static void deliver(struct world *world, uint64_t id)
{
    struct sim_call *call = &world->calls.items[id];
    struct task task = {.kind = TASK_CALL, .a = id, .b = call->tries};

    if (world->is_quiet || !world_chance(world, 12)) { /* else lost */
        world_at(world, world_soon(world, 5), task);
    }
    if (!world->is_quiet && world_chance(world, 15)) { /* twice */
        world_at(world, world_soon(world, 2000), task);
    }
    world_at(world, 3000 * MS,
             (struct task){.kind = TASK_RETRY, .a = id, .b = call->tries});
}

uint64_t
call_send(struct world *world, struct sim_call call, const void *message)
{
    struct task packed = {0};

    task_pack(&packed, message);
    call.bytes = packed.bytes;
    call.n_bytes = packed.n_bytes;
    call.tries = 1;
    if (!base_vec_push(&world->calls, call)) {
        abort();
    }
    deliver(world, world->calls.n - 1);
    return world->calls.n - 1;
}

static void retry(struct world *world, uint64_t id, uint64_t n_try)
{
    struct sim_call *call = &world->calls.items[id];

    if (call->is_done || call->tries != n_try) {
        return;
    }
    if (call->owner != CALL_CLIENT) {
        agent_reply(world, call, RPC_UNAVAILABLE, NULL, 0);
        call->is_done = true;
        return;
    }
    call->tries++;
    deliver(world, id);
}

static void client_reply(struct world *world,
                         struct sim_call *call,
                         const struct task *task)
{
    enum rpc_code code = (enum rpc_code)task->b;
    struct base_digest answer = base_digest_of(
        task->bytes != NULL ? (const void *)task->bytes : "", task->n_bytes);

    if (code == RPC_OK && task->c == world->n_restores) {
        if (call->has_answer && !base_digest_eq(call->answer, answer) &&
            !call->is_dry) {
            world_fault(world, "%s: the same call has two answers",
                        call->method);
        }
        call->answer = answer;
        call->has_answer = true;
    }
    if (code == RPC_UNAVAILABLE || code == RPC_ABORTED ||
        code == RPC_DEADLINE_EXCEEDED) {
        return; /* asked again in time */
    }
    if (!call->is_done) {
        world_say(world, "%s: %d", call->method, (int)code);
    }
    call->is_done = true;
}

void call_task(struct world *world, struct task *task)
{
    struct sim_call *call = &world->calls.items[task->a];

    if (task->kind == TASK_CALL) {
        coordinator_call(world, task->a, task->b);
    } else if (task->kind == TASK_RETRY) {
        retry(world, task->a, task->b);
    } else if (call->owner == CALL_CLIENT) {
        client_reply(world, call, task);
    } else {
        agent_reply(world, call, (enum rpc_code)task->b, task->bytes,
                    task->n_bytes);
    }
}

/* What a client does. */

/* A host, one that has jobs rather than not. */
static uint32_t some_host(struct world *world)
{
    uint32_t host = 0;

    for (int i = 0; i < 8; i++) {
        host = (uint32_t)world_random(world, world->n_hosts);
        if (world->hosts[host].jobs[0].is_used) {
            break;
        }
    }
    return host;
}

static void send_as(struct world *world,
                    const char *method,
                    const void *message,
                    bool is_dry)
{
    world_say(world, "client: %s", method);
    world->n_client_calls++;
    (void)call_send(
        world, (struct sim_call){.method = method, .is_dry = is_dry}, message);
}

static void send(struct world *world, const char *method, const void *message)
{
    send_as(world, method, message, false);
}

static char *request_id(struct world *world)
{
    static char id[32];

    world->n_requests++;
    (void)snprintf(id, sizeof(id), "q%" PRIu64, world->n_requests);
    return id;
}

static char *job_name(uint64_t number)
{
    static char names[2][32];
    static int next;

    next ^= 1;
    (void)snprintf(names[next], sizeof(names[next]), "j%" PRIu64, number);
    return names[next];
}

static void submit(struct world *world)
{
    Retile__V1__SubmitJobRequest request;
    char layout[96];
    char from[40];
    uint32_t host = (uint32_t)world_random(world, world->n_hosts);
    /* Sometimes a name that was used before. */
    uint64_t number = world_chance(world, 8) && world->n_submitted > 0
                          ? world_random(world, world->n_submitted)
                          : world->n_submitted++;

    retile__v1__submit_job_request__init(&request);
    request.request_id = request_id(world);
    request.name = job_name(number);
    (void)snprintf(layout, sizeof(layout),
                   "mesh: {tp: %" PRIu64 "}\nrules:\n  - {match: '*', dims: "
                   "[tp]}\n",
                   1 + world_random(world, world->hosts[host].n_slots));
    request.layout = layout;
    request.max_restarts = (uint32_t)(3 + world_random(world, 20));
    if (world_chance(world, 2)) {
        request.host = world->hosts[host].name;
    }
    if (world_chance(world, 6)) {
        request.start_case = RETILE__V1__SUBMIT_JOB_REQUEST__START_IMPORT_DIR;
        request.import_dir = "/checkpoint";
    } else if (world_chance(world, 6) && world->n_submitted > 1) {
        (void)snprintf(from, sizeof(from), "%s",
                       job_name(world_random(world, world->n_submitted)));
        request.start_case = RETILE__V1__SUBMIT_JOB_REQUEST__START_FROM_VERSION;
        request.from_version = from;
        request.host = "";
    }
    send(world, "/retile.v1.Jobs/Submit", &request);
}

/* Some of the job's host, in any order: as many as ranks, or not. */
static void choose_devices(struct world *world,
                           Retile__V1__RescaleRequest *request)
{
    static Retile__V1__Device devices[MAX_SLOTS];
    static Retile__V1__Device *list[MAX_SLOTS];
    uint32_t host = (uint32_t)world_random(world, world->n_hosts);
    uint32_t first = (uint32_t)world_random(world, MAX_SLOTS);
    uint32_t n = 1 + (uint32_t)world_random(world, MAX_SLOTS);

    for (uint32_t i = 0; i < n; i++) {
        retile__v1__device__init(&devices[i]);
        devices[i].host = world->hosts[host].name;
        devices[i].index = (first + i) % MAX_SLOTS;
        list[i] = &devices[i];
    }
    request->devices = list;
    request->n_devices = n;
}

static void rescale(struct world *world, char *job)
{
    Retile__V1__RescaleRequest request;
    char to[16];

    retile__v1__rescale_request__init(&request);
    request.request_id = request_id(world);
    request.job = job;
    (void)snprintf(to, sizeof(to), "tp=%" PRIu64,
                   1 + world_random(world, MAX_SLOTS));
    request.to = world_chance(world, 5) ? "" : to;
    request.dry_run = world_chance(world, 8);
    request.deadline_s = (uint32_t)(2 + world_random(world, 10));
    if (world_chance(world, 3)) {
        choose_devices(world, &request);
    }
    send_as(world, "/retile.v1.Jobs/Rescale", &request, request.dry_run);
}

static void version_call(struct world *world, char *job)
{
    Retile__V1__RollbackRequest rollback;
    Retile__V1__PinVersionRequest pin;
    Retile__V1__ReleaseVersionRequest release;
    uint64_t version = 1 + world_random(world, 8);

    switch (world_random(world, 3)) {
    case 0:
        retile__v1__rollback_request__init(&rollback);
        rollback.request_id = request_id(world);
        rollback.job = job;
        rollback.version = version;
        send(world, "/retile.v1.Versions/Rollback", &rollback);
        break;
    case 1:
        retile__v1__pin_version_request__init(&pin);
        pin.request_id = request_id(world);
        pin.job = job;
        pin.version = version;
        pin.why = world_chance(world, 2) ? "" : "good";
        send(world, "/retile.v1.Versions/Pin", &pin);
        break;
    default:
        retile__v1__release_version_request__init(&release);
        release.request_id = request_id(world);
        release.job = job;
        release.version = version;
        send(world, "/retile.v1.Versions/Release", &release);
        break;
    }
}

static void device_call(struct world *world)
{
    Retile__V1__FailDeviceRequest fail;
    Retile__V1__DrainDeviceRequest drain;
    Retile__V1__RecoverDeviceRequest recover;
    uint32_t host = some_host(world);
    uint32_t index = (uint32_t)world_random(world, world->hosts[host].n_slots);

    switch (world_random(world, 3)) {
    case 0:
        retile__v1__fail_device_request__init(&fail);
        fail.request_id = request_id(world);
        fail.host = world->hosts[host].name;
        fail.index = index;
        fail.reason = "a trial";
        send(world, "/retile.v1.Devices/Fail", &fail);
        break;
    case 1:
        retile__v1__drain_device_request__init(&drain);
        drain.request_id = request_id(world);
        drain.host = world->hosts[host].name;
        drain.index = index;
        drain.deadline_s = 5;
        send(world, "/retile.v1.Devices/Drain", &drain);
        break;
    default:
        retile__v1__recover_device_request__init(&recover);
        recover.request_id = request_id(world);
        recover.host = world->hosts[host].name;
        recover.all = true;
        send(world, "/retile.v1.Devices/Recover", &recover);
        break;
    }
}

void client_task(struct world *world)
{
    Retile__V1__RemoveJobRequest removal;
    Retile__V1__ForgetHostRequest forget;
    char *job;

    if (world->is_quiet) {
        return;
    }
    world_at(world, world_soon_us(world, 14000000 / world->n_jobs),
             (struct task){.kind = TASK_CLIENT});
    if (world->n_submitted < world->n_jobs &&
        (world->n_submitted == 0 || world_chance(world, 2))) {
        submit(world);
        return;
    }
    job = job_name(world_random(world, world->n_submitted));
    switch (world_random(world, 12)) {
    case 0:
        retile__v1__remove_job_request__init(&removal);
        removal.request_id = request_id(world);
        removal.name = job;
        removal.force = world_chance(world, 2);
        send(world, "/retile.v1.Jobs/Remove", &removal);
        break;
    case 1:
    case 2:
        version_call(world, job);
        break;
    case 3:
    case 4:
    case 5:
        device_call(world);
        break;
    case 6:
        retile__v1__forget_host_request__init(&forget);
        forget.request_id = request_id(world);
        forget.host = world->hosts[world_random(world, world->n_hosts)].name;
        forget.force = world_chance(world, 3);
        send(world, "/retile.v1.Devices/ForgetHost", &forget);
        break;
    default:
        rescale(world, job);
        break;
    }
}

/* Faults. */
void chaos_task(struct world *world)
{
    uint32_t host = some_host(world);
    struct sim_host *h = &world->hosts[host];

    if (world->is_quiet) {
        return;
    }
    world_at(world, world_soon_us(world, 14000000 / world->n_jobs),
             (struct task){.kind = TASK_CHAOS});
    if (world->has_snapshots && world_chance(world, 8)) {
        if (world_chance(world, 2)) {
            coordinator_snapshot(world);
        } else {
            coordinator_restore(world);
        }
        return;
    }
    switch (world_random(world, 10)) {
    case 0:
    case 1:
        world->crash_in = 1 + world_random(world, 20);
        break;
    case 2:
    case 3:
        agent_die(world, host, world_soon(world, 4000));
        break;
    case 4:
        agent_die(world, host, world_soon(world, 40000));
        break;
    case 5:
    case 6:
        if (h->session != 0) {
            agent_break(world, h->session - 1);
        }
        break;
    case 7:
        agent_pause(world, host, !h->is_paused);
        break;
    case 8:
        agent_device(world, host, (uint32_t)world_random(world, h->n_slots),
                     !h->broken[0]);
        break;
    default:
        if (world_chance(world, 4)) {
            agent_lose_store(world, host);
        }
        break;
    }
}

/* Everything that was broken is mended. */
void world_heal(struct world *world)
{
    Retile__V1__RecoverDeviceRequest recover;

    world->crash_in = 0;
    for (uint32_t i = 0; i < world->n_hosts; i++) {
        struct sim_host *h = &world->hosts[i];

        if (h->is_paused) {
            agent_pause(world, i, false);
        }
        for (uint32_t k = 0; k < h->n_slots; k++) {
            if (h->broken[k]) {
                agent_device(world, i, k, false);
            }
        }
        for (uint32_t k = 0; k < world->n_host_jobs; k++) {
            h->jobs[k].hangs = false;
            if (h->jobs[k].is_used) {
                agent_reconcile(world, i, &h->jobs[k]);
            }
        }
        retile__v1__recover_device_request__init(&recover);
        recover.request_id = request_id(world);
        recover.host = h->name;
        recover.all = true;
        send(world, "/retile.v1.Devices/Recover", &recover);
    }
}
