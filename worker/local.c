/* The service on the agent's Unix socket.  Its callbacks run on the layer's
 * threads and do nothing but hand over to the loop; a stream is read on once the
 * loop has taken its last message, so a peer cannot pile up what it says. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "proto/check.h"
#include "worker/agent.h"

enum { ASK_MAX_MS = 60000, EXPECT_S = 10 };

struct said {
    struct worker_post post; /* first */
    struct worker_agent *agent;
    struct rpc_call *call;     /* a reference */
    ProtobufCMessage *message; /* a copy; NULL: the call is over */
};

static void said_free(struct said *said)
{
    rpc_message_free(said->message);
    rpc_call_unref(said->call);
    free(said);
}

static void hand_over(struct rpc_call *call,
                      const ProtobufCMessage *message,
                      void (*fn)(struct worker_post *post))
{
    struct said *said = calloc(1, sizeof(*said));

    if (said != NULL && message != NULL) {
        said->message = rpc_message_copy(message);
    }
    if (said == NULL || (message != NULL && said->message == NULL)) {
        free(said);
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    said->agent = rpc_call_ctx(call);
    said->call = rpc_call_ref(call);
    said->post.fn = fn;
    worker_loop_post(said->agent->loop, &said->post);
}

/* --- mounts and launchers --------------------------------------------------------- */

static void on_mount(struct worker_post *post)
{
    struct said *said = (struct said *)(void *)post;
    const Retile__V1__MountReport *report = (const void *)said->message;
    struct worker_job *job = worker_agent_need(said->agent, report->job);

    if (job == NULL) {
        rpc_call_finish(said->call, RPC_RESOURCE_EXHAUSTED,
                        "the agent has no room for another job");
    } else if (!said->agent->is_ending) {
        worker_mount_report(job, said->call, report);
    }
    rpc_call_pause(said->call, false);
    said_free(said);
}

static void on_launch(struct worker_post *post)
{
    struct said *said = (struct said *)(void *)post;
    const Retile__V1__LaunchReport *report = (const void *)said->message;
    struct worker_job *job = worker_agent_need(said->agent, report->job);

    if (job == NULL) {
        rpc_call_finish(said->call, RPC_RESOURCE_EXHAUSTED,
                        "the agent has no room for another job");
    } else if (!said->agent->is_ending) {
        worker_launcher_report(job, said->call, report);
    }
    rpc_call_pause(said->call, false);
    said_free(said);
}

static void on_over(struct worker_post *post)
{
    struct said *said = (struct said *)(void *)post;

    for (size_t i = 0; i < said->agent->jobs.n; i++) {
        struct worker_job *job = said->agent->jobs.items[i];

        if (job->mount.call == said->call) {
            rpc_call_unref(job->mount.call);
            job->mount.call = NULL;
            job->mount.order.len = 0;
            job->mount.ordered = 0;
            worker_job_touch(job);
        }
        if (job->launcher.call == said->call) {
            rpc_call_unref(job->launcher.call);
            job->launcher.call = NULL;
            job->launcher.order.len = 0;
            job->launcher.told = 0;
            job->scan_next_ns = 0;
            base_log(BASE_NOTICE, "a launcher has gone", "job", job->name);
            worker_job_touch(job);
        }
    }
    said_free(said);
}

static void mount_message(struct rpc_call *call,
                          const ProtobufCMessage *message)
{
    rpc_call_pause(call, true);
    hand_over(call, message, on_mount);
}

static void launch_message(struct rpc_call *call,
                           const ProtobufCMessage *message)
{
    rpc_call_pause(call, true);
    hand_over(call, message, on_launch);
}

static void half_close(struct rpc_call *call)
{
    rpc_call_finish(call, RPC_OK, "%s", "");
}

static void stream_close(struct rpc_call *call, bool was_cancelled)
{
    (void)was_cancelled;
    hand_over(call, NULL, on_over);
}

/* --- what the coordinator is asked for --------------------------------------------- */

struct asked {
    struct worker_post post; /* first */
    struct worker_agent *agent;
    struct rpc_call *call;
    char *job; /* of a vote */
    uint64_t attempt;
};

static void asked_free(struct asked *asked)
{
    free(asked->job);
    free(asked);
}

/* The mount that asked publishes now. */
static void on_commit(struct worker_post *post)
{
    struct asked *asked = (struct asked *)(void *)post;
    struct worker_job *job = worker_agent_job(asked->agent, asked->job);

    if (job != NULL) {
        int64_t now_ns = worker_now_ns();

        job->expected = asked->attempt;
        job->expect_until_ns = now_ns + EXPECT_S * WORKER_SECOND_NS;
        job->expect_next_ns = now_ns + WORKER_SECOND_NS / 200;
        worker_job_touch(job);
    }
    asked_free(asked);
}

/* What says nothing about the request says that nothing is decided. */
static enum rpc_code code_for_mount(enum rpc_code code)
{
    switch (code) {
    case RPC_UNAUTHENTICATED: /* the session has changed meanwhile */
    case RPC_DEADLINE_EXCEEDED:
    case RPC_CANCELLED:
    case RPC_UNKNOWN:
    case RPC_INTERNAL:
        return RPC_UNAVAILABLE;
    default:
        return code;
    }
}

static void on_answer(void *ctx,
                      const ProtobufCMessage *answer,
                      const struct rpc_status *status)
{
    struct asked *asked = ctx;
    struct rpc_call *call = asked->call;

    if (answer == NULL) {
        rpc_call_finish(call, code_for_mount(status->code), "%s", status->text);
    } else {
        rpc_call_reply(call, answer);
    }
    if (answer != NULL && asked->job != NULL &&
        ((const Retile__V1__VoteResponse *)(const void *)answer)->decision ==
            RETILE__V1__DECISION__DECISION_COMMIT) {
        asked->post.fn = on_commit;
        worker_loop_post(asked->agent->loop, &asked->post);
    } else {
        asked_free(asked);
    }
    rpc_call_unref(call);
}

/* Takes the reference to the call on success. */
static enum base_code forward(struct said *said,
                              const char *method,
                              const Retile__V1__VoteRequest *vote,
                              struct base_err *err)
{
    struct worker_agent *agent = said->agent;
    int64_t left_ms = rpc_call_remaining_ms(said->call);
    const struct rpc_call_options options = {
        .token = agent->options->token,
        .timeout_ms =
            (unsigned)(left_ms > ASK_MAX_MS ? ASK_MAX_MS : left_ms + 1)};
    struct asked *asked;
    enum base_code code;

    if (!worker_session_is_up(agent->session) || agent->is_ending) {
        return base_fail(err, BASE_UNREACHABLE,
                         "the agent has no session with the coordinator now");
    }
    asked = calloc(1, sizeof(*asked));
    if (asked != NULL && vote != NULL) {
        asked->attempt = vote->attempt;
        asked->job = strdup(vote->job);
    }
    if (asked == NULL || (vote != NULL && asked->job == NULL)) {
        free(asked);
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    asked->agent = agent;
    asked->call = said->call;
    code =
        rpc_unary_start(agent->channel, &retile__v1__agents__descriptor, method,
                        said->message, &options, on_answer, asked, err);
    if (code != BASE_OK) {
        asked_free(asked);
        return code;
    }
    said->call = NULL; /* taken */
    return BASE_OK;
}

static void forward_or_fail(struct said *said,
                            const char *method,
                            const Retile__V1__VoteRequest *vote)
{
    struct base_err err = {0};
    enum base_code code = forward(said, method, vote, &err);

    if (code != BASE_OK) {
        rpc_call_fail(said->call, code, &err);
    }
    said_free(said);
}

static void on_open_save(struct worker_post *post)
{
    struct said *said = (struct said *)(void *)post;
    Retile__V1__OpenSaveRequest *request = (void *)said->message;

    request->session = worker_session_number(said->agent->session);
    forward_or_fail(said, "OpenSave", NULL);
}

static void on_close_save(struct worker_post *post)
{
    struct said *said = (struct said *)(void *)post;
    Retile__V1__CloseSaveRequest *request = (void *)said->message;

    request->session = worker_session_number(said->agent->session);
    forward_or_fail(said, "CloseSave", NULL);
}

static void on_vote(struct worker_post *post)
{
    struct said *said = (struct said *)(void *)post;
    Retile__V1__VoteRequest *request = (void *)said->message;

    request->session = worker_session_number(said->agent->session);
    forward_or_fail(said, "Vote", request);
}

static void open_save(struct rpc_call *call, const ProtobufCMessage *message)
{
    hand_over(call, message, on_open_save);
}

static void close_save(struct rpc_call *call, const ProtobufCMessage *message)
{
    hand_over(call, message, on_close_save);
}

static void vote(struct rpc_call *call, const ProtobufCMessage *message)
{
    hand_over(call, message, on_vote);
}

/* --- Status ---------------------------------------------------------------------------- */

struct answer {
    struct worker_room *rooms;
    Retile__V1__HostJob *jobs;
    Retile__V1__HostJob **list;
    size_t n;
};

static void answer_done(struct answer *answer)
{
    for (size_t i = 0; i < answer->n; i++) {
        worker_room_done(&answer->rooms[i]);
    }
    free(answer->list);
    free(answer->jobs);
    free(answer->rooms);
}

static enum base_code fill(const struct worker_agent *agent,
                           struct answer *answer,
                           struct base_err *err)
{
    answer->rooms = calloc(agent->jobs.n + 1, sizeof(*answer->rooms));
    answer->jobs = calloc(agent->jobs.n + 1, sizeof(*answer->jobs));
    answer->list = calloc(agent->jobs.n + 1, sizeof(Retile__V1__HostJob *));
    if (answer->rooms == NULL || answer->jobs == NULL || answer->list == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    for (size_t i = 0; i < agent->jobs.n; i++) {
        const struct worker_job *job = agent->jobs.items[i];
        Retile__V1__HostJob *said = &answer->jobs[i];

        *said = (Retile__V1__HostJob)RETILE__V1__HOST_JOB__INIT;
        answer->n++;
        BASE_TRY(worker_job_status(job, &answer->rooms[i], err));
        said->target = job->target;
        said->status = &answer->rooms[i].status;
        said->mountpoint = job->mount.path;
        said->mount_pid = job->mount.proc.pid;
        said->launcher_pid =
            job->launcher.call != NULL ? job->launcher.proc.pid : 0;
        answer->list[i] = said;
    }
    return BASE_OK;
}

static enum base_code reply_status(const struct worker_agent *agent,
                                   struct rpc_call *call,
                                   struct base_err *err)
{
    __attribute__((cleanup(answer_done))) struct answer answer = {0};
    Retile__V1__HostStatusResponse message =
        RETILE__V1__HOST_STATUS_RESPONSE__INIT;
    union {
        const char *shown;
        char *field; /* a message's texts are not const */
    } coordinator = {.shown = agent->options->coordinator},
      store = {.shown = agent->options->store};
    union {
        const char *shown;
        char *field;
    } host = {.shown = agent->host.name};

    BASE_TRY(fill(agent, &answer, err));
    message.host = host.field;
    message.coordinator = coordinator.field;
    message.is_connected = worker_session_is_up(agent->session);
    message.store = store.field;
    message.jobs = answer.list;
    message.n_jobs = answer.n;
    rpc_call_reply(call, &message.base);
    return BASE_OK;
}

static void on_status(struct worker_post *post)
{
    struct said *said = (struct said *)(void *)post;
    struct base_err err = {0};
    enum base_code code = reply_status(said->agent, said->call, &err);

    if (code != BASE_OK) {
        rpc_call_fail(said->call, code, &err);
    }
    said_free(said);
}

static void status(struct rpc_call *call, const ProtobufCMessage *message)
{
    hand_over(call, message, on_status);
}

/* --- the server --------------------------------------------------------------------------- */

static const struct rpc_method methods[] = {
    {.name = "Mount",
     .kind = RPC_BIDI,
     .flags = RPC_INLINE | RPC_LONG,
     .on_message = mount_message,
     .on_half_close = half_close,
     .on_close = stream_close},
    {.name = "Launch",
     .kind = RPC_BIDI,
     .flags = RPC_INLINE | RPC_LONG,
     .on_message = launch_message,
     .on_half_close = half_close,
     .on_close = stream_close},
    {.name = "OpenSave",
     .kind = RPC_UNARY,
     .flags = RPC_INLINE,
     .max_ms = ASK_MAX_MS,
     .on_message = open_save},
    {.name = "CloseSave",
     .kind = RPC_UNARY,
     .flags = RPC_INLINE,
     .max_ms = ASK_MAX_MS,
     .on_message = close_save},
    {.name = "Vote",
     .kind = RPC_UNARY,
     .flags = RPC_INLINE,
     .max_ms = ASK_MAX_MS,
     .on_message = vote},
    {.name = "Status",
     .kind = RPC_UNARY,
     .flags = RPC_INLINE,
     .max_ms = ASK_MAX_MS,
     .on_message = status},
};

enum base_code worker_local_start(struct worker_agent *agent,
                                  struct base_err *err)
{
    const struct rpc_server_options options = {.check = rpc_check};
    static struct rpc_service service = {
        .descriptor = &retile__v1__local__descriptor,
        .methods = methods,
        .n_methods = sizeof(methods) / sizeof(methods[0]),
    };

    service.ctx = agent;
    BASE_TRY(rpc_server_create(&options, &agent->server, err));
    BASE_TRY(rpc_server_add_service(agent->server, &service, err));
    BASE_TRY(rpc_server_listen(agent->server, agent->listen, NULL, NULL, err));
    return rpc_server_start(agent->server, err);
}
