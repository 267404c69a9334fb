/* The driver of the core: it steps, commits some steps at once, then sends and
 * answers; and dies before, between and after these. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/core/impl.h"
#include "proto/check.h"
#include "tests/sim/world.h"

#define MS INT64_C(1000000)

static void commit(struct world *world);

/* A place where it may die; true: it has. */
static bool crash_point(struct world *world)
{
    if (world->crash_in == 0 || --world->crash_in > 0) {
        return false;
    }
    coordinator_crash(world);
    return true;
}

void coordinator_crash(struct world *world)
{
    if (world->coord == NULL) {
        return;
    }
    world_say(world, "coordinator dies");
    world->n_crashes++;
    coordinator_stop(world);
    for (size_t i = 0; i < world->sessions.n; i++) {
        struct sim_session *session = &world->sessions.items[i];

        session->is_open_coord = false;
        session->is_known = false;
        if (session->is_open_agent) {
            world_at(world, world_soon(world, 500),
                     (struct task){.kind = TASK_AGENT_CLOSED, .a = i});
        }
    }
    world->is_committing = false;
    world->crash_in = 0;
    world_at(world, world_soon(world, 1000),
             (struct task){.kind = TASK_COORD_START});
}

void records_done(struct sim_record *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(items[i].id);
        free(items[i].body);
    }
}

void coordinator_snapshot(struct world *world)
{
    records_done(world->snapshot.items, world->snapshot.n);
    world->snapshot.n = 0;
    for (size_t i = 0; i < world->records.n; i++) {
        struct sim_record copy = world->records.items[i];

        copy.id = strdup(copy.id);
        copy.body = malloc(copy.n_bytes + 1);
        if (copy.id == NULL || copy.body == NULL ||
            !base_vec_push(&world->snapshot, copy)) {
            abort();
        }
        memcpy(copy.body, world->records.items[i].body, copy.n_bytes);
    }
    world->snapshot_revision = world->revision;
}

void coordinator_restore(struct world *world)
{
    if (world->snapshot.n == 0 || world->coord == NULL) {
        return;
    }
    coordinator_crash(world);
    world_say(world, "its records are old ones");
    records_done(world->records.items, world->records.n);
    base_vec_done(&world->records);
    world->records.items = world->snapshot.items;
    world->records.n = world->snapshot.n;
    world->records.cap = world->snapshot.cap;
    world->snapshot.items = NULL;
    world->snapshot.n = world->snapshot.cap = 0;
    world->revision = world->snapshot_revision;
    /* What it forgot it may decide, and answer, anew. */
    world->decisions.n = 0;
    world->n_restores++;
    for (size_t i = 0; i < world->calls.n; i++) {
        world->calls.items[i].has_answer = false;
    }
}

void coordinator_stop(struct world *world)
{
    coord_free(world->coord);
    world->coord = NULL;
}

static void arm(struct world *world)
{
    int64_t at = world->actions.next_ns;

    if (at != INT64_MAX && (world->tick_ns == 0 || at < world->tick_ns)) {
        world->tick_ns = at;
        world_at(world, at > world->now_ns ? at - world->now_ns : 0,
                 (struct task){.kind = TASK_COORD_TICK, .a = (uint64_t)at});
    }
}

static struct coord_time now(struct world *world)
{
    /* The wall clock jumps, which changes nothing. */
    return (struct coord_time){
        world->now_ns, INT64_C(1700000000000000000) + world->now_ns +
                           (int64_t)(world->n_tasks % 7) * 3600 * 1000 * MS};
}

static void step(struct world *world, struct coord_event event)
{
    struct base_err err;

    event.now = now(world);
    world->n_steps++;
    if (coord_step(world->coord, &event, &world->actions, &err) != BASE_OK ||
        (world->n_steps % world->checks_in == 0 &&
         !coord_invariant(world->coord, &err))) {
        world_fault(world, "%s", err.text);
        return;
    }
    arm(world);
    if (world_chance(world, 2)) {
        commit(world);
    } else if (!world->is_committing) {
        world->is_committing = true;
        world_at(world, world_soon(world, 3),
                 (struct task){.kind = TASK_COORD_COMMIT});
    }
}

size_t records_lower(const struct world *world,
                     enum coord_record_kind kind,
                     struct base_str id)
{
    size_t begin = 0;
    size_t end = world->records.n;

    while (begin < end) { /* by kind and id */
        size_t middle = begin + (end - begin) / 2;
        const struct sim_record *old = &world->records.items[middle];
        int order = old->kind != kind ? (int)old->kind - (int)kind
                                      : base_str_cmp(base_str_of(old->id), id);

        if (order < 0) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}

static void write_record(struct world *world, const struct coord_record *record)
{
    struct sim_record made = {.kind = record->kind};
    size_t begin = records_lower(world, record->kind, record->id);

    if (begin < world->records.n &&
        world->records.items[begin].kind == record->kind &&
        base_str_eq(base_str_of(world->records.items[begin].id), record->id)) {
        free(world->records.items[begin].id);
        free(world->records.items[begin].body);
        memmove(world->records.items + begin, world->records.items + begin + 1,
                (world->records.n - begin - 1) * sizeof(made));
        world->records.n--;
    }
    if (record->body.ptr == NULL) {
        return;
    }
    made.id = strndup(record->id.ptr, record->id.len);
    made.n_bytes = record->body.len;
    made.body = malloc(made.n_bytes + 1);
    if (made.id == NULL || made.body == NULL ||
        !base_vec_reserve(&world->records, world->records.n + 1)) {
        abort();
    }
    memcpy(made.body, record->body.ptr, made.n_bytes);
    memmove(world->records.items + begin + 1, world->records.items + begin,
            (world->records.n - begin) * sizeof(made));
    world->records.items[begin] = made;
    world->records.n++;
}

/* What goes out keeps to the bounds of the API. */
static void check(struct world *world, const ProtobufCMessage *message)
{
    struct base_err err;

    if (rpc_check(message, &err) != BASE_OK) {
        world_fault(world, "%s", err.text);
    }
}

static void send(struct world *world, const struct coord_send *send)
{
    size_t at = (size_t)send->session - 1;
    struct sim_session *session = &world->sessions.items[at];
    struct task task = {.kind = TASK_TO_AGENT, .a = at};

    if (!session->is_open_coord) {
        return;
    }
    if (send->message == NULL) {
        session->is_open_coord = false;
        session->is_known = false;
        world_at(world, world_soon(world, 50),
                 (struct task){.kind = TASK_AGENT_CLOSED, .a = at});
        return;
    }
    check(world, send->message);
    task_pack(&task, send->message);
    world_trace(world, task.bytes, task.n_bytes);
    session->to_agent_ns =
        (session->to_agent_ns > world->now_ns ? session->to_agent_ns
                                              : world->now_ns) +
        world_soon(world, 2);
    world_at(world, session->to_agent_ns - world->now_ns, task);
}

static void reply(struct world *world, const struct coord_reply *reply)
{
    uint64_t ticket = world->tickets.items[reply->ticket - 1];
    struct task task = {.kind = TASK_REPLY,
                        .a = ticket >> 8,
                        .b = reply->status.code,
                        .c = world->n_restores};

    if (reply->message != NULL) {
        check(world, reply->message);
        task_pack(&task, reply->message);
        world_trace(world, task.bytes, task.n_bytes);
    }
    if (!world->is_quiet && world_chance(world, 12)) {
        free(task.bytes); /* lost */
        return;
    }
    world_at(world, world_soon(world, 5), task);
}

static void note_event(struct world *world, const Retile__V1__Event *event)
{
    if (event->revision <= world->revision) {
        world_fault(world, "an event's revision does not ascend");
    }
    check(world, &event->base);
    world->revision = event->revision;
    world->n_events++;
    world_trace(world, event->text, strlen(event->text));
    world_say(world, "  %s%s%s: %s", event->job, event->job[0] ? " " : "",
              event->host, event->text);
}

static void act(struct world *world)
{
    struct coord_actions actions = world->actions;

    /* Its own: a crash on the way frees nothing of it. */
    for (size_t i = 0; i < actions.replies.n; i++) {
        if (crash_point(world)) {
            return;
        }
        reply(world, &actions.replies.items[i]);
    }
    for (size_t i = 0; i < actions.sends.n; i++) {
        if (crash_point(world)) {
            return;
        }
        send(world, &actions.sends.items[i]);
    }
}

static void commit(struct world *world)
{
    struct base_err err;

    world->is_committing = false;
    if (crash_point(world)) {
        coord_actions_clear(&world->actions);
        return;
    }
    if (coord_flush(world->coord, &world->actions, &err) != BASE_OK) {
        world_fault(world, "%s", err.text);
        return;
    }
    world->n_commits++;
    for (size_t i = 0; i < world->actions.records.n; i++) {
        write_record(world, &world->actions.records.items[i]);
    }
    for (size_t i = 0; i < world->actions.events.n; i++) {
        note_event(world,
                   (const Retile__V1__Event *)world->actions.events.items[i]);
    }
    oracle_step(world);
    if (!crash_point(world)) {
        act(world);
    }
    coord_actions_clear(&world->actions);
}

void coordinator_start(struct world *world)
{
    struct base_err err;

    if (coord_create(&world->limits, &world->coord, &err) != BASE_OK) {
        abort();
    }
    for (size_t i = 0; i < world->records.n; i++) {
        const struct sim_record *rec = &world->records.items[i];

        if (coord_load(world->coord, rec->kind, base_str_of(rec->id),
                       (struct base_str){rec->body, rec->n_bytes},
                       &err) != BASE_OK) {
            world_fault(world, "load: %s", err.text);
            return;
        }
    }
    coord_actions_clear(&world->actions);
    world->tick_ns = 0;
    if (coord_begin(world->coord, world->revision, now(world), &world->actions,
                    &err) != BASE_OK ||
        !coord_invariant(world->coord, &err)) {
        world_fault(world, "begin: %s", err.text);
        return;
    }
    arm(world);
    commit(world);
}

static void take_message(struct world *world, const struct task *task)
{
    struct sim_session *session = &world->sessions.items[task->a];
    Retile__V1__FromAgent *message;
    struct coord_event event = {.kind = COORD_SESSION_SAYS,
                                .session = task->a + 1};

    if (world->coord == NULL || !session->is_open_coord) {
        return;
    }
    message = retile__v1__from_agent__unpack(NULL, task->n_bytes, task->bytes);
    if (message == NULL) {
        abort();
    }
    if (!session->is_known) {
        session->is_known = true;
        event.kind = COORD_SESSION_OPEN;
    }
    event.message = &message->base;
    step(world, event);
    retile__v1__from_agent__free_unpacked(message, NULL);
}

void coordinator_task(struct world *world, struct task *task)
{
    switch ((int)task->kind) {
    case TASK_TO_COORD:
        take_message(world, task);
        break;
    case TASK_COORD_CLOSED:
        if (world->coord != NULL && world->sessions.items[task->a].is_known) {
            world->sessions.items[task->a].is_known = false;
            step(world, (struct coord_event){.kind = COORD_SESSION_CLOSED,
                                             .session = task->a + 1});
        }
        break;
    case TASK_COORD_TICK:
        if (world->coord != NULL && (int64_t)task->a == world->tick_ns) {
            world->tick_ns = 0;
            step(world, (struct coord_event){.kind = COORD_TICK});
        }
        break;
    case TASK_COORD_COMMIT:
        if (world->coord != NULL && world->is_committing) {
            commit(world);
        }
        break;
    default:
        if (world->coord == NULL) {
            world_say(world, "coordinator starts");
            coordinator_start(world);
        }
        break;
    }
}

/* A call arrives. */
void coordinator_call(struct world *world, uint64_t id, uint64_t n_try);
void coordinator_call(struct world *world, uint64_t id, uint64_t n_try)
{
    const struct sim_call *call = &world->calls.items[id];
    const ProtobufCMessageDescriptor *descriptor = NULL;
    ProtobufCMessage *message;
    static const struct {
        const char *method;
        const ProtobufCMessageDescriptor *descriptor;
    } methods[] = {
        {"/retile.v1.Jobs/Submit", &retile__v1__submit_job_request__descriptor},
        {"/retile.v1.Jobs/Rescale", &retile__v1__rescale_request__descriptor},
        {"/retile.v1.Jobs/Remove", &retile__v1__remove_job_request__descriptor},
        {"/retile.v1.Versions/Rollback",
         &retile__v1__rollback_request__descriptor},
        {"/retile.v1.Versions/Pin",
         &retile__v1__pin_version_request__descriptor},
        {"/retile.v1.Versions/Release",
         &retile__v1__release_version_request__descriptor},
        {"/retile.v1.Devices/Fail",
         &retile__v1__fail_device_request__descriptor},
        {"/retile.v1.Devices/Drain",
         &retile__v1__drain_device_request__descriptor},
        {"/retile.v1.Devices/Recover",
         &retile__v1__recover_device_request__descriptor},
        {"/retile.v1.Devices/ForgetHost",
         &retile__v1__forget_host_request__descriptor},
        {"/retile.v1.Agents/OpenSave",
         &retile__v1__open_save_request__descriptor},
        {"/retile.v1.Agents/CloseSave",
         &retile__v1__close_save_request__descriptor},
        {"/retile.v1.Agents/Vote", &retile__v1__vote_request__descriptor},
    };

    if (world->coord == NULL) {
        world_at(
            world, world_soon(world, 5),
            (struct task){.kind = TASK_REPLY, .a = id, .b = RPC_UNAVAILABLE});
        return;
    }
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(methods[i].method, call->method) == 0) {
            descriptor = methods[i].descriptor;
        }
    }
    message =
        protobuf_c_message_unpack(descriptor, NULL, call->n_bytes, call->bytes);
    if (message == NULL ||
        !base_vec_push(&world->tickets, id << 8 | (n_try & 255))) {
        abort();
    }
    step(world, (struct coord_event){.kind = COORD_CALL,
                                     .ticket = world->tickets.n,
                                     .method = call->method,
                                     .message = message});
    protobuf_c_message_free_unpacked(message, NULL);
}
