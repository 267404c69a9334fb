#include "tests/unit/coordinator/lab.h"

#include "tests/unit/unit.h"

#include <inttypes.h>
#include <retile/v1/watch.pb-c.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/core/impl.h"
#include "proto/check.h"

static const char *code_text(enum rpc_code code)
{
    switch (code) {
#define X(name, number, text)                                                  \
    case name:                                                                 \
        return text;
        RPC_CODES(X)
#undef X
    }
    return "?";
}

static void start(struct lab *lab)
{
    struct base_err err;

    assert_ok(coord_create(&lab->limits, &lab->coord, &err), &err);
    for (size_t i = 0; i < lab->records.n; i++) {
        const struct lab_record *rec = &lab->records.items[i];

        assert_ok(coord_load(lab->coord, rec->kind, base_str_of(rec->id),
                             (struct base_str){rec->body, rec->n_bytes}, &err),
                  &err);
    }
    coord_actions_clear(&lab->actions);
    assert_ok(
        coord_begin(lab->coord, lab->revision, lab->now, &lab->actions, &err),
        &err);
}

void lab_init(struct lab *lab)
{
    struct base_err err;

    memset(lab, 0, sizeof(*lab));
    coord_limits_init(&lab->limits);
    assert_ok(coord_actions_init(&lab->actions, &err), &err);
    base_buf_init(&lab->trace, 1 << 24);
    lab->now = (struct coord_time){1000000, 1700000000000000000};
    lab->session = 100;
    start(lab);
}

void lab_done(struct lab *lab)
{
    coord_free(lab->coord);
    coord_actions_done(&lab->actions);
    base_buf_done(&lab->trace);
    for (size_t i = 0; i < lab->records.n; i++) {
        free(lab->records.items[i].id);
        free(lab->records.items[i].body);
    }
    base_vec_done(&lab->records);
}

static void write_record(struct lab *lab, const struct coord_record *record)
{
    struct lab_record made = {.kind = record->kind};

    for (size_t i = 0; i < lab->records.n; i++) {
        struct lab_record *old = &lab->records.items[i];

        if (old->kind == record->kind &&
            base_str_eq(base_str_of(old->id), record->id)) {
            free(old->id);
            free(old->body);
            *old = lab->records.items[--lab->records.n];
            break;
        }
    }
    if (record->body.ptr != NULL) {
        made.id = strndup(record->id.ptr, record->id.len);
        made.body = malloc(record->body.len + 1);
        made.n_bytes = record->body.len;
        assert_non_null(made.body);
        memcpy(made.body, record->body.ptr, record->body.len);
        assert_true(base_vec_push(&lab->records, made));
    }
}

/* What goes out keeps to the bounds of the API. */
static void check(const ProtobufCMessage *message)
{
    struct base_err err = {0};

    if (message != NULL) {
        assert_ok(rpc_check(message, &err), &err);
    }
}

static void say(struct lab *lab, const char *text)
{
    (void)base_buf_addf(&lab->trace, "%s", text);
}

static void trace_generation(struct lab *lab,
                             const Retile__V1__TargetGeneration *generation)
{
    (void)base_buf_addf(&lab->trace, " g%" PRIu64 " %s load=%" PRIu64 " on=",
                        generation->number,
                        coord_state_name("generation", (int)generation->state),
                        generation->load);
    for (size_t i = 0; i < generation->n_placements; i++) {
        (void)base_buf_addf(&lab->trace, "%s%" PRIu32, i > 0 ? "," : "",
                            generation->placements[i]->device);
    }
    (void)base_buf_addf(&lab->trace, " port=%" PRIu32 " next=%" PRIu64 "%s",
                        generation->master_port, generation->next_step,
                        generation->request[0] != '\0' ? " asked" : "");
}

static void trace_target(struct lab *lab, const Retile__V1__JobTarget *target)
{
    static const char *const kinds[] = {"",       "save",     "rescale",
                                        "import", "rollback", "copy"};

    (void)base_buf_addf(&lab->trace, "> %s %s%s", target->job,
                        coord_state_name("job", (int)target->state),
                        target->is_gone ? " gone" : "");
    if (target->generation != NULL) {
        trace_generation(lab, target->generation);
    }
    if (target->attempt != NULL) {
        (void)base_buf_addf(&lab->trace, " %s %" PRIu64 " of %" PRIu64,
                            kinds[target->attempt->kind],
                            target->attempt->number, target->attempt->parent);
    }
    if (target->plan != NULL) {
        (void)base_buf_addf(&lab->trace, " plan %" PRIu64,
                            target->plan->number);
    }
    for (size_t i = 0; i < target->n_keep; i++) {
        (void)base_buf_addf(&lab->trace, "%s%" PRIu64,
                            i > 0 ? "," : " keep=", target->keep[i]);
    }
    say(lab, "\n");
}

static void trace_reply(struct lab *lab, const struct coord_reply *reply)
{
    (void)base_buf_addf(
        &lab->trace, "= %s%s%s\n", code_text(reply->status.code),
        reply->status.text[0] != '\0' ? " " : "", reply->status.text);
    if (reply->message == NULL) {
        return;
    }
    if (reply->message->descriptor ==
        &retile__v1__open_save_response__descriptor) {
        lab->attempt =
            ((const Retile__V1__OpenSaveResponse *)reply->message)->attempt;
    } else if (reply->message->descriptor ==
               &retile__v1__vote_response__descriptor) {
        lab->decision =
            (int)((const Retile__V1__VoteResponse *)reply->message)->decision;
    } else if (reply->message->descriptor ==
               &retile__v1__rescale_response__descriptor) {
        (void)snprintf(
            lab->layout, sizeof(lab->layout), "%s",
            ((const Retile__V1__RescaleResponse *)reply->message)->layout);
    }
}

static void trace_send(struct lab *lab, const struct coord_send *send)
{
    const Retile__V1__ToAgent *message =
        (const Retile__V1__ToAgent *)send->message;

    if (message == NULL) {
        (void)base_buf_addf(&lab->trace, "> end %s %s\n",
                            code_text(send->status.code), send->status.text);
    } else if (message->what_case == RETILE__V1__TO_AGENT__WHAT_JOB) {
        trace_target(lab, message->job);
    } else {
        say(lab, message->what_case == RETILE__V1__TO_AGENT__WHAT_WELCOME
                     ? "> welcome\n"
                     : "> renewed\n");
    }
}

/* Write what the actions say, then do it. */
static void commit(struct lab *lab)
{
    struct base_err err;

    assert_ok(coord_flush(lab->coord, &lab->actions, &err), &err);
    for (size_t i = 0; i < lab->actions.records.n; i++) {
        write_record(lab, &lab->actions.records.items[i]);
    }
    for (size_t i = 0; i < lab->actions.events.n; i++) {
        const Retile__V1__Event *event =
            (const Retile__V1__Event *)lab->actions.events.items[i];

        check(&event->base);
        assert_true(event->revision > lab->revision);
        lab->revision = event->revision;
        (void)base_buf_addf(&lab->trace, "%s: %s\n",
                            event->job[0] != '\0' ? event->job : event->host,
                            event->text);
    }
    for (size_t i = 0; i < lab->actions.replies.n; i++) {
        check(lab->actions.replies.items[i].message);
        trace_reply(lab, &lab->actions.replies.items[i]);
    }
    for (size_t i = 0; i < lab->actions.sends.n; i++) {
        check(lab->actions.sends.items[i].message);
        trace_send(lab, &lab->actions.sends.items[i]);
    }
}

static void step(struct lab *lab, struct coord_event event)
{
    struct base_err err;

    event.now = lab->now;
    coord_actions_clear(&lab->actions);
    assert_ok(coord_step(lab->coord, &event, &lab->actions, &err), &err);
    if (!coord_invariant(lab->coord, &err)) {
        fail_msg("%s", err.text);
    }
    commit(lab);
}

void lab_restart(struct lab *lab)
{
    coord_free(lab->coord);
    lab->coord = NULL;
    start(lab);
    commit(lab);
}

void lab_expect(struct lab *lab, const char *expected)
{
    const char *said = lab->trace.len > 0 ? lab->trace.ptr : "";

    if (strcmp(said, expected) != 0) {
        print_error("--- said:\n%s--- expected:\n%s", said, expected);
        fail_msg("another trace");
    }
    lab_skip(lab);
}

void lab_skip(struct lab *lab)
{
    base_buf_done(&lab->trace);
}

void lab_call(struct lab *lab, const char *method, const void *message)
{
    step(lab, (struct coord_event){.kind = COORD_CALL,
                                   .ticket = ++lab->ticket,
                                   .method = method,
                                   .message = message});
}

void lab_hello(struct lab *lab,
               const char *host,
               const char *store,
               uint32_t n_devices,
               Retile__V1__JobStatus **jobs,
               size_t n_jobs)
{
    Retile__V1__FromAgent message;
    Retile__V1__Hello hello;
    Retile__V1__Device devices[8];
    Retile__V1__Device *list[8];

    retile__v1__from_agent__init(&message);
    retile__v1__hello__init(&hello);
    hello.host = (char *)(uintptr_t)host;
    hello.store_id = (char *)(uintptr_t)store;
    hello.address = (char *)(uintptr_t) "10.0.0.1";
    for (uint32_t i = 0; i < n_devices; i++) {
        retile__v1__device__init(&devices[i]);
        devices[i].index = i;
        list[i] = &devices[i];
    }
    hello.n_devices = n_devices;
    hello.devices = list;
    hello.jobs = jobs;
    hello.n_jobs = n_jobs;
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_HELLO;
    message.hello = &hello;
    step(lab, (struct coord_event){.kind = COORD_SESSION_OPEN,
                                   .session = ++lab->session,
                                   .message = &message.base});
}

void lab_status(struct lab *lab, const Retile__V1__JobStatus *status)
{
    Retile__V1__FromAgent message;

    retile__v1__from_agent__init(&message);
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_JOB;
    message.job = (Retile__V1__JobStatus *)(uintptr_t)status;
    step(lab, (struct coord_event){.kind = COORD_SESSION_SAYS,
                                   .session = lab->session,
                                   .message = &message.base});
}

void lab_closed(struct lab *lab, uint64_t session)
{
    step(lab, (struct coord_event){.kind = COORD_SESSION_CLOSED,
                                   .session = session});
}

void lab_wait(struct lab *lab, int64_t ms)
{
    int64_t until = lab->now.mono_ns + ms * 1000000;

    while (lab->actions.next_ns <= until) {
        if (lab->actions.next_ns > lab->now.mono_ns) {
            lab->now.mono_ns = lab->actions.next_ns;
        }
        step(lab, (struct coord_event){.kind = COORD_TICK});
    }
    lab->now.mono_ns = until;
}

void lab_status_init(struct lab_status *status, const char *job)
{
    memset(status, 0, sizeof(*status));
    retile__v1__job_status__init(&status->status);
    retile__v1__status_generation__init(&status->generation);
    retile__v1__status_attempt__init(&status->attempt);
    retile__v1__status_plan__init(&status->plan);
    retile__v1__plan_summary__init(&status->summary);
    status->status.job = (char *)(uintptr_t)job;
    status->status.has_launcher = true;
    status->status.versions = status->version_list;
    /* What it has seen is what there is. */
    status->status.revision = INT64_MAX / 2;
    status->generation.ranks = status->rank_list;
    status->plan.summary = &status->summary;
}

void lab_status_prepared(struct lab_status *status,
                         uint64_t generation,
                         uint32_t n)
{
    status->status.generation = &status->generation;
    status->generation.number = generation;
    status->generation.is_prepared = true;
    status->generation.is_clear = true;
    status->generation.master_port = 29500;
    status->generation.n_ranks = n;
    for (uint32_t i = 0; i < n; i++) {
        retile__v1__rank_status__init(&status->ranks[i]);
        status->ranks[i].rank = i;
        status->ranks[i].state = RETILE__V1__RANK_STATE__RANK_WAITING;
        status->rank_list[i] = &status->ranks[i];
    }
}

void lab_status_ranks(struct lab_status *status, int state, int exit_code)
{
    for (size_t i = 0; i < status->generation.n_ranks; i++) {
        status->ranks[i].state = (Retile__V1__RankState)state;
        status->ranks[i].exit_code = exit_code;
    }
    status->generation.is_clear =
        state == (int)RETILE__V1__RANK_STATE__RANK_EXITED;
}

void lab_status_version(struct lab_status *status,
                        uint64_t number,
                        uint64_t step_number,
                        const char *layout,
                        const char *mesh)
{
    size_t at = status->status.n_versions++;

    retile__v1__version__init(&status->versions[at]);
    status->versions[at].number = number;
    status->versions[at].has_step = true;
    status->versions[at].step = step_number;
    status->versions[at].layout = (char *)(uintptr_t)layout;
    status->versions[at].mesh = (char *)(uintptr_t)mesh;
    status->version_list[at] = &status->versions[at];
}
