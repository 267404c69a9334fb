/* grpc.health.v1.Health: one state for the server and each of its services. */
#include <stdlib.h>
#include <string.h>

#include "proto/grpc/health/v1/health.pb-c.h"
#include "proto/rpc_server_impl.h"

typedef Grpc__Health__V1__HealthCheckRequest health_request;
typedef Grpc__Health__V1__HealthCheckResponse health_response;

/* A Watch that is open. */
struct watcher {
    struct watcher *next;
    struct watcher **slot;
    struct rpc_call *call; /* owns this, and lives longer */
    bool is_known;         /* the service is one of ours */
};

struct rpc_health {
    pthread_mutex_t lock;
    /* Guarded by lock. */
    bool is_serving;
    struct watcher *watchers;
};

struct rpc_health *rpc_health_create(void)
{
    struct rpc_health *health = calloc(1, sizeof(*health));

    if (health != NULL) {
        (void)pthread_mutex_init(&health->lock, NULL);
    }
    return health;
}

void rpc_health_free(struct rpc_health *health)
{
    if (health != NULL) {
        (void)pthread_mutex_destroy(&health->lock);
        free(health);
    }
}

static bool is_known(const struct rpc_server *server, const char *service)
{
    for (size_t i = 0; i < server->services.n; i++) {
        if (strcmp(server->services.items[i].descriptor->name, service) == 0) {
            return true;
        }
    }
    return service[0] == '\0';
}

/* Lock held, so that states are sent in their order. */
static void tell_watcher(const struct rpc_health *health,
                         const struct watcher *watcher)
{
    health_response answer = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    answer.status =
        !watcher->is_known
            ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVICE_UNKNOWN
        : health->is_serving
            ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
            : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    (void)rpc_call_send(watcher->call, &answer.base); /* over: on_close comes */
}

void rpc_health_set(struct rpc_health *health, bool is_serving)
{
    (void)pthread_mutex_lock(&health->lock);
    if (health->is_serving != is_serving) {
        health->is_serving = is_serving;
        for (struct watcher *at = health->watchers; at != NULL; at = at->next) {
            tell_watcher(health, at);
        }
    }
    (void)pthread_mutex_unlock(&health->lock);
}

static void on_check(struct rpc_call *call, const ProtobufCMessage *message)
{
    const health_request *request =
        (const health_request *)(const void *)message;
    struct rpc_server *server = rpc_call_ctx(call);
    health_response answer = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    if (!is_known(server, request->service)) {
        rpc_call_finish(call, RPC_NOT_FOUND, "there is no service %s",
                        request->service);
        return;
    }
    (void)pthread_mutex_lock(&server->health->lock);
    answer.status =
        server->health->is_serving
            ? GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING
            : GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__NOT_SERVING;
    (void)pthread_mutex_unlock(&server->health->lock);
    rpc_call_reply(call, &answer.base);
}

static void on_watch(struct rpc_call *call, const ProtobufCMessage *message)
{
    const health_request *request =
        (const health_request *)(const void *)message;
    struct rpc_server *server = rpc_call_ctx(call);
    struct rpc_health *health = server->health;
    struct watcher *watcher = calloc(1, sizeof(*watcher));

    if (watcher == NULL) {
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED, "no memory");
        return;
    }
    watcher->call = call;
    watcher->is_known = is_known(server, request->service);
    rpc_call_set_data(call, watcher);
    (void)pthread_mutex_lock(&health->lock);
    watcher->next = health->watchers;
    watcher->slot = &health->watchers;
    if (watcher->next != NULL) {
        watcher->next->slot = &watcher->next;
    }
    health->watchers = watcher;
    tell_watcher(health, watcher);
    (void)pthread_mutex_unlock(&health->lock);
}

static void on_watch_close(struct rpc_call *call, bool was_cancelled)
{
    struct rpc_server *server = rpc_call_ctx(call);
    struct watcher *watcher = rpc_call_data(call);

    (void)was_cancelled;
    if (watcher == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&server->health->lock);
    *watcher->slot = watcher->next;
    if (watcher->next != NULL) {
        watcher->next->slot = watcher->slot;
    }
    (void)pthread_mutex_unlock(&server->health->lock);
    free(watcher);
}

static const struct rpc_method methods[] = {
    {
        .name = "Check",
        .kind = RPC_UNARY,
        .flags = RPC_INLINE,
        .on_message = on_check,
    },
    {
        .name = "Watch",
        .kind = RPC_SERVER_STREAM,
        .flags = RPC_INLINE | RPC_LONG,
        .on_message = on_watch,
        .on_close = on_watch_close,
    },
};

enum base_code rpc_std_add(struct rpc_server *server, struct base_err *err)
{
    server->health_service = (struct rpc_service){
        .descriptor = &grpc__health__v1__health__descriptor,
        .methods = methods,
        .n_methods = sizeof(methods) / sizeof(methods[0]),
        .ctx = server,
    };
    BASE_TRY(rpc_server_add_service(server, &server->health_service, err));
    return rpc_reflection_add(server, err);
}
