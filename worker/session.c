/* The session with the coordinator: opened, renewed, opened again; never given
 * up while the agent lives.  What runs goes on without it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/version.h"
#include "worker/agent.h"

#define OPEN_WAIT_NS (10 * WORKER_SECOND_NS)
#define MAX_WAIT_NS  (5 * WORKER_SECOND_NS)

enum session_state {
    SESSION_DOWN,
    SESSION_OPENING, /* Hello is sent */
    SESSION_UP,      /* Welcome has come */
};

struct worker_session {
    struct worker_agent *agent;
    enum session_state state;
    struct rpc_stream *stream;
    uint64_t serial; /* of the stream: what others say late is not heard */
    uint64_t number; /* the coordinator's */
    int64_t since_ns;
    int64_t heard_ns;
    int64_t next_ns; /* DOWN: to be opened; UP: to be renewed */
    int64_t lease_ns;
    int64_t renew_ns;
    uint64_t sequence;
    unsigned n_failures;
};

/* What a stream says, from the layer's thread to the loop. */
struct heard {
    struct worker_post post; /* first */
    struct worker_session *session;
    uint64_t serial;
    Retile__V1__ToAgent *message; /* NULL: the stream is over */
    struct rpc_status status;
};

/* A stream's own, until its end was heard. */
struct line {
    struct worker_session *session;
    struct worker_loop *loop;
    uint64_t serial;
    struct heard last; /* its end needs no memory then */
};

static void go_down(struct worker_session *session, const char *why)
{
    int64_t wait_ns;

    base_log(session->n_failures == 0 ? BASE_WARNING : BASE_INFO,
             "no session with the coordinator, retrying", "coordinator",
             session->agent->options->coordinator, "why", why);
    session->n_failures++;
    wait_ns = worker_backoff_ns(session->n_failures);
    session->state = SESSION_DOWN;
    session->number = 0;
    session->serial++;
    session->next_ns =
        worker_now_ns() + (wait_ns < MAX_WAIT_NS ? wait_ns : MAX_WAIT_NS);
    if (session->stream != NULL) {
        rpc_stream_cancel(session->stream);
        rpc_stream_unref(session->stream);
        session->stream = NULL;
    }
}

/* --- what the coordinator says ------------------------------------------------ */

static void welcome(struct worker_session *session,
                    const Retile__V1__Welcome *welcome)
{
    session->state = SESSION_UP;
    session->number = welcome->session;
    session->lease_ns = (int64_t)welcome->lease_ms * 1000000;
    session->renew_ns = (int64_t)welcome->renew_ms * 1000000;
    if (session->renew_ns < WORKER_SECOND_NS / 100) {
        session->renew_ns = WORKER_SECOND_NS / 100;
    }
    session->next_ns = worker_now_ns() + session->renew_ns;
    session->n_failures = 0;
    base_log(BASE_NOTICE, "a session with the coordinator", "coordinator",
             session->agent->options->coordinator);
    for (size_t i = 0; i < session->agent->jobs.n; i++) {
        session->agent->jobs.items[i]->status.len = 0; /* told once more */
    }
    worker_agent_touch_all(session->agent);
}

static void take_message(struct worker_session *session,
                         Retile__V1__ToAgent *message)
{
    session->heard_ns = worker_now_ns();
    switch (message->what_case) {
    case RETILE__V1__TO_AGENT__WHAT_WELCOME:
        welcome(session, message->welcome);
        break;
    case RETILE__V1__TO_AGENT__WHAT_JOB:
        worker_agent_target(session->agent, message->job);
        message->what_case = RETILE__V1__TO_AGENT__WHAT__NOT_SET; /* taken */
        message->job = NULL;
        break;
    default: /* Renewed; what a newer coordinator may say */
        break;
    }
}

static void on_heard(struct worker_post *post)
{
    struct heard *heard = (struct heard *)(void *)post;
    struct worker_session *session = heard->session;

    if (heard->serial == session->serial && !session->agent->is_ending) {
        take_message(session, heard->message);
    }
    rpc_message_free(&heard->message->base);
    free(heard);
}

static void on_over(struct worker_post *post)
{
    struct heard *heard = (struct heard *)(void *)post;
    struct worker_session *session = heard->session;

    if (heard->serial == session->serial && !session->agent->is_ending) {
        go_down(session, heard->status.text[0] != '\0'
                             ? heard->status.text
                             : rpc_code_name(heard->status.code));
    }
    free((char *)heard - offsetof(struct line, last));
}

/* --- on the layer's thread ------------------------------------------------------ */

static void on_message(struct rpc_stream *stream,
                       void *ctx,
                       const ProtobufCMessage *message)
{
    struct line *line = ctx;
    struct heard *heard = calloc(1, sizeof(*heard));

    if (heard != NULL) {
        heard->message = rpc_message_copy(message);
    }
    if (heard == NULL || heard->message == NULL) {
        free(heard);
        rpc_stream_cancel(stream); /* and all comes again on the next one */
        return;
    }
    heard->post.fn = on_heard;
    heard->session = line->session;
    heard->serial = line->serial;
    worker_loop_post(line->loop, &heard->post);
}

static void
on_done(struct rpc_stream *stream, void *ctx, const struct rpc_status *status)
{
    struct line *line = ctx;

    (void)stream;
    line->last.post.fn = on_over;
    line->last.session = line->session;
    line->last.serial = line->serial;
    line->last.status = *status;
    worker_loop_post(line->loop, &line->last.post);
}

static const struct rpc_stream_events stream_events = {
    .on_message = on_message,
    .on_done = on_done,
};

/* --- Hello ------------------------------------------------------------------------ */

struct hello {
    Retile__V1__Hello message;
    Retile__V1__Device *devices;
    Retile__V1__Device **device_list;
    struct worker_room *rooms;
    Retile__V1__JobStatus **jobs;
    size_t n_rooms;
};

static void hello_done(struct hello *hello)
{
    for (size_t i = 0; i < hello->n_rooms; i++) {
        worker_room_done(&hello->rooms[i]);
    }
    free(hello->jobs);
    free(hello->rooms);
    free(hello->device_list);
    free(hello->devices);
}

static void
add_device(struct hello *hello, struct worker_device *device, uint32_t index)
{
    static char cuda[] = "cuda";
    static char cpu[] = "cpu";
    Retile__V1__Device *to = &hello->devices[index];

    *to = (Retile__V1__Device)RETILE__V1__DEVICE__INIT;
    to->index = index;
    to->kind = device->is_cuda ? cuda : cpu;
    to->label = device->label;
    to->memory_bytes = device->memory_bytes;
    if (device->is_failed) {
        to->state = RETILE__V1__DEVICE_STATE__DEVICE_FAILED;
        to->reason = device->reason;
    }
    hello->device_list[index] = to;
}

static enum base_code
add_jobs(struct worker_agent *agent, struct hello *hello, struct base_err *err)
{
    for (size_t i = 0; i < agent->jobs.n; i++) {
        struct worker_job *job = agent->jobs.items[i];
        struct worker_room *room = &hello->rooms[hello->n_rooms];

        if (job->is_gone) {
            continue;
        }
        hello->n_rooms++;
        BASE_TRY(worker_job_status(job, room, err));
        hello->jobs[hello->message.n_jobs++] = &room->status;
    }
    return BASE_OK;
}

/* The newest that is known; at first what it was when we took the store. */
static void look_at_usage(struct worker_agent *agent)
{
    (void)worker_store_usage(agent->store, &agent->used_bytes,
                             &agent->budget_bytes);
}

static enum base_code hello_make(struct worker_agent *agent,
                                 struct hello *hello,
                                 struct base_err *err)
{
    Retile__V1__Hello *message = &hello->message;
    static char version[] = RETILE_VERSION;

    *message = (Retile__V1__Hello)RETILE__V1__HELLO__INIT;
    hello->devices = calloc(agent->devices.n + 1, sizeof(*hello->devices));
    hello->device_list =
        calloc(agent->devices.n + 1, sizeof(Retile__V1__Device *));
    hello->rooms = calloc(agent->jobs.n + 1, sizeof(*hello->rooms));
    hello->jobs = calloc(agent->jobs.n + 1, sizeof(Retile__V1__JobStatus *));
    if (hello->devices == NULL || hello->device_list == NULL ||
        hello->rooms == NULL || hello->jobs == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    for (uint32_t i = 0; i < agent->devices.n; i++) {
        add_device(hello, &agent->devices.items[i], i);
    }
    BASE_TRY(add_jobs(agent, hello, err));
    look_at_usage(agent);
    message->host = agent->host.name;
    message->store_id = agent->store_id;
    message->address = agent->host.address;
    message->version = version;
    message->store_budget_bytes = agent->budget_bytes;
    message->store_used_bytes = agent->used_bytes;
    message->memory_bytes = agent->host.memory_bytes;
    message->n_numa_nodes = agent->host.n_numa_nodes;
    message->devices = hello->device_list;
    message->n_devices = agent->devices.n;
    message->jobs = hello->jobs;
    message->incarnation = agent->incarnation;
    return BASE_OK;
}

static enum base_code say_hello(struct worker_session *session,
                                struct base_err *err)
{
    __attribute__((cleanup(hello_done))) struct hello hello = {0};
    Retile__V1__FromAgent message = RETILE__V1__FROM_AGENT__INIT;

    BASE_TRY(hello_make(session->agent, &hello, err));
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_HELLO;
    message.hello = &hello.message;
    if (rpc_stream_send(session->stream, &message.base) == RPC_SENT_NOT) {
        return base_fail(err, BASE_UNREACHABLE, "the stream is over");
    }
    return BASE_OK;
}

static enum base_code open_stream(struct worker_session *session,
                                  struct base_err *err)
{
    struct worker_agent *agent = session->agent;
    const struct rpc_call_options options = {.token = agent->options->token};
    struct line *line = calloc(1, sizeof(*line));
    enum base_code code;

    if (line == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    session->serial++;
    line->session = session;
    line->loop = agent->loop;
    line->serial = session->serial;
    code = rpc_stream_open(agent->channel, &retile__v1__agents__descriptor,
                           "Session", &options, &stream_events, line,
                           &session->stream, err);
    if (code != BASE_OK) {
        free(line);
        return code;
    }
    session->state = SESSION_OPENING;
    session->since_ns = worker_now_ns();
    return say_hello(session, err);
}

/* --- a turn ------------------------------------------------------------------------ */

static void renew(struct worker_session *session, int64_t now_ns)
{
    Retile__V1__FromAgent message = RETILE__V1__FROM_AGENT__INIT;
    Retile__V1__Renew renew = RETILE__V1__RENEW__INIT;

    look_at_usage(session->agent);
    renew.sequence = ++session->sequence;
    renew.store_used_bytes = session->agent->used_bytes;
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_RENEW;
    message.renew = &renew;
    session->next_ns = now_ns + session->renew_ns;
    (void)worker_session_send(session, &message); /* its end will be heard */
}

static int64_t turn_up(struct worker_session *session, int64_t now_ns)
{
    int64_t lost_ns = session->heard_ns + session->lease_ns;

    if (session->lease_ns > 0 && now_ns >= lost_ns) {
        go_down(session, "it has not answered for a lease");
        return session->next_ns;
    }
    if (now_ns >= session->next_ns) {
        renew(session, now_ns);
    }
    return session->lease_ns > 0 && lost_ns < session->next_ns
               ? lost_ns
               : session->next_ns;
}

int64_t worker_session_turn(struct worker_session *session)
{
    int64_t now_ns = worker_now_ns();
    struct base_err err = {0};

    switch (session->state) {
    case SESSION_DOWN:
        if (now_ns < session->next_ns) {
            return session->next_ns;
        }
        if (open_stream(session, &err) != BASE_OK) {
            go_down(session, err.text);
            return session->next_ns;
        }
        return session->since_ns + OPEN_WAIT_NS;
    case SESSION_OPENING:
        if (now_ns >= session->since_ns + OPEN_WAIT_NS) {
            go_down(session, "it does not answer Hello");
            return session->next_ns;
        }
        return session->since_ns + OPEN_WAIT_NS;
    case SESSION_UP:
        return turn_up(session, now_ns);
    }
    return now_ns;
}

bool worker_session_is_up(const struct worker_session *session)
{
    return session != NULL && session->state == SESSION_UP;
}

uint64_t worker_session_number(const struct worker_session *session)
{
    return session->number;
}

bool worker_session_send(struct worker_session *session,
                         const Retile__V1__FromAgent *message)
{
    return worker_session_is_up(session) &&
           rpc_stream_send(session->stream, &message->base) != RPC_SENT_NOT;
}

enum base_code worker_session_create(struct worker_agent *agent,
                                     struct base_err *err)
{
    agent->session = calloc(1, sizeof(*agent->session));
    if (agent->session == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    agent->session->agent = agent;
    return BASE_OK;
}

void worker_session_free(struct worker_session *session)
{
    if (session != NULL) {
        rpc_stream_unref(session->stream);
        free(session);
    }
}
