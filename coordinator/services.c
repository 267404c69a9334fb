/* Callbacks run on the RPC layer's pollers: they take the message, queue it, and
 * return.  Two objects meet the driver there:
 *
 *   struct asked    a unary call.  Two hold it: the call, until on_close, and the
 *                   driver, until the answer.  Who is first takes `call` out.
 *   struct session  an agent's stream.  Of the callbacks until on_close, then of
 *                   the driver until `closed`. */
#include "coordinator/services.h"

#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/versions.pb-c.h>
#include <retile/v1/watch.pb-c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_SERVICES = 5,
    MAX_METHODS = 5, /* of a service */
    METHOD_BYTES = 64,
    CALL_MS = 60000, /* an answer may take the core as long as a plan takes */
};

struct service {
    struct coord_services *services;
    char methods[MAX_METHODS][METHOD_BYTES]; /* "/retile.v1.Jobs/Get" */
};

struct coord_services {
    struct coord_driver *driver;
    struct coord_watch *watch;
    struct persist *persist;
    const struct coord_access *access;
    struct service each[N_SERVICES];
    struct rpc_service rows[N_SERVICES];
};

/* The host that the caller's certificate is of; NULL: it has none, or no agent's.
 * As long as the call. */
static const char *host_of(const struct coord_services *services,
                           const struct rpc_call *call)
{
    const struct rpc_peer *peer = rpc_call_peer(call);
    const char *host = NULL;
    const char *name;

    if (!rpc_peer_is_verified(peer)) {
        return NULL;
    }
    for (unsigned i = 0; (name = rpc_peer_name(peer, i)) != NULL; i++) {
        if (coord_access_allows(services->access, name, COORD_ROLE_AGENT,
                                &host)) {
            return host;
        }
    }
    return NULL;
}

/* --- unary calls --------------------------------------------------------- */

struct asked {
    struct coord_waiter waiter;
    _Atomic(struct rpc_call *) call;
    atomic_uint n_refs;
    char host[129];
};

static void asked_unref(struct asked *asked)
{
    /* acq_rel: who frees sees what the other did before it let go. */
    if (atomic_fetch_sub_explicit(&asked->n_refs, 1, memory_order_acq_rel) ==
        1) {
        free(asked);
    }
}

static void asked_answer(struct coord_waiter *waiter,
                         const struct rpc_status *status,
                         const ProtobufCMessage *message)
{
    struct asked *asked = (struct asked *)waiter; /* its first member */
    struct rpc_call *call = atomic_exchange(&asked->call, NULL);

    if (call != NULL && status->code == RPC_OK) {
        rpc_call_reply(call, message);
    } else if (call != NULL) {
        rpc_call_finish(call, status->code, "%s", status->text);
    }
    rpc_call_unref(call);
    asked_unref(asked);
}

static uint64_t session_named(const ProtobufCMessage *message)
{
    if (message->descriptor == &retile__v1__open_save_request__descriptor) {
        return ((const Retile__V1__OpenSaveRequest *)message)->session;
    }
    if (message->descriptor == &retile__v1__close_save_request__descriptor) {
        return ((const Retile__V1__CloseSaveRequest *)message)->session;
    }
    if (message->descriptor == &retile__v1__vote_request__descriptor) {
        return ((const Retile__V1__VoteRequest *)message)->session;
    }
    return 0;
}

static enum base_code queue(struct rpc_call *call,
                            struct asked *asked,
                            ProtobufCMessage *message, /* taken */
                            struct base_err *err)
{
    struct service *service = rpc_call_ctx(call);
    struct coord_services *services = service->services;
    const struct rpc_service *row = &services->rows[service - services->each];
    const char *host = host_of(services, call);
    enum base_code code;

    asked->waiter.answer = asked_answer;
    asked->waiter.method =
        service->methods[rpc_call_method(call) - row->methods];
    asked->waiter.session_number = session_named(message);
    if (host != NULL) {
        (void)snprintf(asked->host, sizeof(asked->host), "%s", host);
        asked->waiter.host = asked->host;
    }
    atomic_init(&asked->call, rpc_call_ref(call));
    atomic_init(&asked->n_refs, 2);
    rpc_call_set_data(call, asked);
    code = coord_driver_call(services->driver, &asked->waiter, message, err);
    if (code != BASE_OK) {
        rpc_call_set_data(call, NULL);
        rpc_call_unref(call);
        rpc_message_free(message);
    }
    return code;
}

static void on_call(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct asked *asked = calloc(1, sizeof(*asked));
    struct base_err err = {0};
    enum base_code code;

    if (asked == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
        return;
    }
    (void)message; /* we take it */
    code = queue(call, asked, rpc_call_take(call), &err);
    if (code == BASE_INTERRUPTED) {
        rpc_call_finish(call, RPC_UNAVAILABLE, "%s", err.text);
    } else if (code != BASE_OK) {
        rpc_call_fail(call, code, &err);
    }
    if (code != BASE_OK) {
        free(asked);
    }
}

static void on_call_close(struct rpc_call *call, bool was_cancelled)
{
    struct asked *asked = rpc_call_data(call);

    (void)was_cancelled; /* nobody to answer; what was asked may be done */
    if (asked != NULL) {
        rpc_call_unref(atomic_exchange(&asked->call, NULL));
        asked_unref(asked);
    }
}

/* --- agents' sessions ---------------------------------------------------- */

struct session {
    struct coord_session session;
    struct rpc_call *call;
    bool is_open; /* Hello was good: the driver knows it */
};

static void session_send(struct coord_session *base,
                         const ProtobufCMessage *message,
                         const struct rpc_status *status)
{
    struct session *session = (struct session *)base; /* its first member */

    if (message != NULL) {
        (void)rpc_call_send(session->call, message); /* on_close tells */
    } else {
        rpc_call_finish(session->call, status->code, "%s", status->text);
    }
}

static void session_stepped(struct coord_session *base)
{
    rpc_call_pause(((struct session *)base)->call, false);
}

static void session_closed(struct coord_session *base)
{
    struct session *session = (struct session *)base;

    rpc_call_unref(session->call);
    free(session);
}

/* The first message: who is it? */
static struct session *greet(struct rpc_call *call,
                             const Retile__V1__FromAgent *from)
{
    const struct service *service = rpc_call_ctx(call);
    const char *host = host_of(service->services, call);
    struct session *session;

    if (from->what_case != RETILE__V1__FROM_AGENT__WHAT_HELLO) {
        rpc_call_finish(call, RPC_INVALID_ARGUMENT,
                        "a session begins with Hello");
        return NULL;
    }
    if (host != NULL && strcmp(host, from->hello->host) != 0) {
        rpc_call_finish(call, RPC_PERMISSION_DENIED,
                        "the certificate is of host %s, not of %s", host,
                        from->hello->host);
        return NULL;
    }
    session = calloc(1, sizeof(*session));
    if (session == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "out of memory");
        return NULL;
    }
    session->session.send = session_send;
    session->session.stepped = session_stepped;
    session->session.closed = session_closed;
    (void)snprintf(session->session.host, sizeof(session->session.host), "%s",
                   from->hello->host);
    session->call = rpc_call_ref(call);
    rpc_call_set_data(call, session);
    return session;
}

static void on_say(struct rpc_call *call, const ProtobufCMessage *message)
{
    const struct service *service = rpc_call_ctx(call);
    struct coord_driver *driver = service->services->driver;
    struct session *session = rpc_call_data(call);

    if (session == NULL) {
        session = greet(call, (const Retile__V1__FromAgent *)message);
    }
    if (session == NULL || rpc_call_is_over(call)) {
        return;
    }
    rpc_call_pause(call, true); /* until it was stepped */
    if (session->is_open) {
        coord_driver_say(driver, &session->session, rpc_call_take(call));
    } else {
        session->is_open = true;
        coord_driver_open(driver, &session->session, rpc_call_take(call));
    }
}

static void on_say_end(struct rpc_call *call)
{
    rpc_call_finish(call, RPC_OK, "%s", "");
}

static void on_session_close(struct rpc_call *call, bool was_cancelled)
{
    const struct service *service = rpc_call_ctx(call);
    struct session *session = rpc_call_data(call);

    (void)was_cancelled; /* however it ended */
    if (session != NULL && session->is_open) {
        coord_driver_close(service->services->driver, &session->session);
    } else if (session != NULL) {
        session_closed(&session->session);
    }
}

/* --- watch --------------------------------------------------------------- */

static void on_watch(struct rpc_call *call, const ProtobufCMessage *message)
{
    const struct service *service = rpc_call_ctx(call);
    const Retile__V1__WatchRequest *request =
        (const Retile__V1__WatchRequest *)message;
    struct coord_watcher *watcher = NULL;
    struct base_err err = {0};
    enum base_code code;

    code =
        coord_watch_add(service->services->watch, call, request->from_revision,
                        request->job, &watcher, &err);
    if (code == BASE_CHANGED) {
        rpc_call_finish(call, RPC_OUT_OF_RANGE, "%s", err.text);
    } else if (code != BASE_OK) {
        rpc_call_fail(call, code, &err);
    }
    rpc_call_set_data(call, watcher);
    rpc_call_send_headers(call); /* behind it: from here on nothing is missed */
}

static void on_watch_writable(struct rpc_call *call)
{
    struct coord_watcher *watcher = rpc_call_data(call);

    if (watcher != NULL) {
        coord_watch_writable(watcher);
    }
}

static void on_watch_close(struct rpc_call *call, bool was_cancelled)
{
    struct coord_watcher *watcher = rpc_call_data(call);

    (void)was_cancelled; /* however it ended */
    if (watcher != NULL) {
        coord_watch_close(watcher);
    }
}

static enum base_code take_revision(void *ctx,
                                    const struct persist_event *event,
                                    struct base_err *err)
{
    (void)err;
    *(uint64_t *)ctx = event->revision;
    return BASE_OK;
}

static void on_revision(struct rpc_call *call, const ProtobufCMessage *message)
{
    const struct service *service = rpc_call_ctx(call);
    struct coord_services *services = service->services;
    Retile__V1__RevisionResponse response = RETILE__V1__REVISION_RESPONSE__INIT;
    struct base_err err = {0};
    enum base_code code;

    (void)message; /* it has no fields */
    code = services->persist->ops->events(
        services->persist, 0, 1, take_revision, &response.oldest, &err);
    if (code != BASE_OK) {
        rpc_call_fail(call, code, &err);
        return;
    }
    response.newest = coord_watch_newest(services->watch);
    rpc_call_reply(call, &response.base);
}

/* --- tables -------------------------------------------------------------- */

#define CALL(name, role)                                                       \
    {                                                                          \
        (name), RPC_UNARY, RPC_INLINE, CALL_MS, (role), NULL, on_call, NULL,   \
            NULL, on_call_close                                                \
    }
static const struct rpc_method jobs_methods[] = {
    CALL("Submit", COORD_ROLE_OPERATOR), CALL("List", COORD_ROLE_VIEWER),
    CALL("Get", COORD_ROLE_VIEWER), CALL("Remove", COORD_ROLE_OPERATOR),
    CALL("Rescale", COORD_ROLE_OPERATOR)};
static const struct rpc_method versions_methods[] = {
    CALL("List", COORD_ROLE_VIEWER), CALL("Pin", COORD_ROLE_OPERATOR),
    CALL("Release", COORD_ROLE_OPERATOR),
    CALL("Rollback", COORD_ROLE_OPERATOR)};
static const struct rpc_method devices_methods[] = {
    CALL("List", COORD_ROLE_VIEWER), CALL("Drain", COORD_ROLE_OPERATOR),
    CALL("Fail", COORD_ROLE_OPERATOR), CALL("Recover", COORD_ROLE_OPERATOR),
    CALL("ForgetHost", COORD_ROLE_OPERATOR)};
static const struct rpc_method watch_methods[] = {
    {.name = "Watch",
     .kind = RPC_SERVER_STREAM,
     .flags = RPC_INLINE | RPC_LONG,
     .role = COORD_ROLE_VIEWER,
     .on_message = on_watch,
     .on_writable = on_watch_writable,
     .on_close = on_watch_close},
    {.name = "Revision", /* reads a file: not inline */
     .kind = RPC_UNARY,
     .max_ms = CALL_MS,
     .role = COORD_ROLE_VIEWER,
     .on_message = on_revision},
};
static const struct rpc_method agents_methods[] = {
    {.name = "Session",
     .kind = RPC_BIDI,
     .flags = RPC_INLINE | RPC_LONG,
     .role = COORD_ROLE_AGENT,
     .on_message = on_say,
     .on_half_close = on_say_end,
     .on_close = on_session_close},
    CALL("OpenSave", COORD_ROLE_AGENT),
    CALL("CloseSave", COORD_ROLE_AGENT),
    CALL("Vote", COORD_ROLE_AGENT),
};

#define ROW(name)                                                              \
    {                                                                          \
        &retile__v1__##name##__descriptor, name##_methods,                     \
            sizeof(name##_methods) / sizeof(name##_methods[0]), NULL           \
    }
static const struct rpc_service rows[N_SERVICES] = {
    ROW(jobs), ROW(versions), ROW(devices), ROW(watch), ROW(agents)};

void coord_services_free(struct coord_services *services)
{
    free(services);
}

enum base_code coord_services_create(struct coord_driver *driver,
                                     struct coord_watch *watch,
                                     struct persist *persist,
                                     const struct coord_access *access,
                                     struct coord_services **ret,
                                     struct base_err *err)
{
    struct coord_services *services = calloc(1, sizeof(*services));

    if (services == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot serve");
    }
    services->driver = driver;
    services->watch = watch;
    services->persist = persist;
    services->access = access;
    for (unsigned i = 0; i < N_SERVICES; i++) {
        services->each[i].services = services;
        services->rows[i] = rows[i];
        services->rows[i].ctx = &services->each[i];
        for (size_t m = 0; m < rows[i].n_methods; m++) {
            (void)snprintf(services->each[i].methods[m], METHOD_BYTES, "/%s/%s",
                           rows[i].descriptor->name,
                           rows[i].methods[m].name); /* fits */
        }
    }
    *ret = services;
    return BASE_OK;
}

enum base_code coord_services_add(struct coord_services *services,
                                  struct rpc_server *server,
                                  struct base_err *err)
{
    for (unsigned i = 0; i < N_SERVICES; i++) {
        BASE_TRY(rpc_server_add_service(server, &services->rows[i], err));
    }
    return BASE_OK;
}
