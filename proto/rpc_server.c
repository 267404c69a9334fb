/* A server: its parts, its methods, its calls. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rpc_server_impl.h"

extern const unsigned char proto_descriptors[];
extern const size_t proto_descriptors_bytes;

enum {
    N_REQUESTED = 32, /* calls that core may fill at once */
    LOOK_NS = 100000000,
    MAX_COLLECTED = 64, /* calls ended at a time */
    LINGER_NS = 100000000,
};

static void fill_defaults(struct rpc_server_options *options)
{
    options->n_pollers = options->n_pollers != 0 ? options->n_pollers : 2;
    options->n_workers = options->n_workers != 0 ? options->n_workers : 4;
    options->max_queued = options->max_queued != 0 ? options->max_queued : 1024;
    options->max_calls = options->max_calls != 0 ? options->max_calls : 16384;
    options->max_streams =
        options->max_streams != 0 ? options->max_streams : 1024;
    options->max_message_bytes = options->max_message_bytes != 0
                                     ? options->max_message_bytes
                                     : RPC_MAX_MESSAGE_BYTES;
    options->keepalive_ms =
        options->keepalive_ms != 0 ? options->keepalive_ms : RPC_KEEPALIVE_MS;
    options->keepalive_timeout_ms = options->keepalive_timeout_ms != 0
                                        ? options->keepalive_timeout_ms
                                        : RPC_KEEPALIVE_TIMEOUT_MS;
}

/* Calls. */

void rpc_server_request(struct rpc_server *server)
{
    struct rpc_call *call;
    bool is_stopping;

    (void)pthread_mutex_lock(&server->lock);
    is_stopping = server->is_stopping;
    server->n_alive += !is_stopping;
    (void)pthread_mutex_unlock(&server->lock);
    if (is_stopping) {
        return;
    }
    call = rpc_call_create(server);
    if (call != NULL) {
        rpc_hand_over(&call->new_tag);
        if (grpc_server_request_call(
                server->core, &call->core, &call->details, &call->metadata,
                server->queue, server->queue, &call->new_tag) == GRPC_CALL_OK) {
            return;
        }
    }
    rpc_server_leave(server, call);
    rpc_call_unref(call);
}

enum rpc_code rpc_server_enter(struct rpc_call *call)
{
    struct rpc_server *server = call->server;
    enum rpc_code code = RPC_OK;

    (void)pthread_mutex_lock(&server->lock);
    if (server->is_stopping) {
        code = RPC_UNAVAILABLE;
    } else if (server->n_open >= server->options.max_calls) {
        code = RPC_RESOURCE_EXHAUSTED;
    } else {
        server->n_open++;
        server->n_accepted++;
        call->list_next = server->calls;
        call->list_slot = &server->calls;
        if (server->calls != NULL) {
            server->calls->list_slot = &call->list_next;
        }
        server->calls = call;
        if (call->cap_ns != INT64_MAX &&
            atomic_fetch_add(&server->n_capped, 1) == 0) {
            atomic_store(&server->look_ns, rpc_now_ns() + LOOK_NS);
        }
    }
    (void)pthread_mutex_unlock(&server->lock);
    return code;
}

void rpc_server_leave(struct rpc_server *server, struct rpc_call *call)
{
    (void)pthread_mutex_lock(&server->lock);
    if (call != NULL && call->list_slot != NULL) {
        *call->list_slot = call->list_next;
        if (call->list_next != NULL) {
            call->list_next->list_slot = call->list_slot;
        }
        call->list_slot = NULL;
        server->n_open--;
        if (call->cap_ns != INT64_MAX) {
            (void)atomic_fetch_sub(&server->n_capped, 1);
        }
    }
    server->n_alive--;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->lock);
}

/* Collect up to MAX_COLLECTED calls for which @wants says so, with a ref each. */
static size_t collect(struct rpc_server *server,
                      bool (*wants)(struct rpc_call *call, int64_t now_ns),
                      struct rpc_call **ret)
{
    const int64_t now_ns = rpc_now_ns();
    size_t n = 0;

    (void)pthread_mutex_lock(&server->lock);
    for (struct rpc_call *call = server->calls;
         call != NULL && n < MAX_COLLECTED; call = call->list_next) {
        if (wants(call, now_ns)) {
            ret[n++] = rpc_call_ref(call);
        }
    }
    (void)pthread_mutex_unlock(&server->lock);
    return n;
}

static bool has_expired(struct rpc_call *call, int64_t now_ns)
{
    bool is_due = now_ns >= call->cap_ns;

    if (is_due) { /* once */
        call->cap_ns = INT64_MAX;
        (void)atomic_fetch_sub(&call->server->n_capped, 1);
    }
    return is_due;
}

static void end_expired(struct rpc_server *server)
{
    struct rpc_call *calls[MAX_COLLECTED];
    size_t n;

    while ((n = collect(server, has_expired, calls)) != 0) {
        for (size_t i = 0; i < n; i++) {
            rpc_call_abort(calls[i], RPC_DEADLINE_EXCEEDED,
                           "the method's own limit of time has passed");
            rpc_call_unref(calls[i]);
        }
    }
}

static bool is_long(struct rpc_call *call, int64_t now_ns)
{
    bool is_due =
        (call->row.method->flags & RPC_LONG) != 0 && !call->was_told_to_end;

    (void)now_ns;
    call->was_told_to_end = is_due || call->was_told_to_end;
    return is_due;
}

static void end_long(struct rpc_server *server)
{
    struct rpc_call *calls[MAX_COLLECTED];
    size_t n;

    while ((n = collect(server, is_long, calls)) != 0) {
        for (size_t i = 0; i < n; i++) {
            rpc_call_finish(calls[i], RPC_UNAVAILABLE,
                            "the server is stopping");
            rpc_call_unref(calls[i]);
        }
    }
}

/* Pollers. */

static gpr_timespec next_look(struct rpc_server *server)
{
    if (atomic_load(&server->n_capped) == 0) {
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    }
    return rpc_after_ns(LOOK_NS);
}

static void look(struct rpc_server *server)
{
    int64_t due_ns = atomic_load(&server->look_ns);
    int64_t now_ns;

    if (atomic_load(&server->n_capped) == 0) {
        return;
    }
    now_ns = rpc_now_ns();
    if (now_ns >= due_ns && atomic_compare_exchange_strong(
                                &server->look_ns, &due_ns, now_ns + LOOK_NS)) {
        end_expired(server);
    }
}

static void *poll_run(void *ctx)
{
    struct rpc_server *server = ctx;

    for (;;) {
        grpc_event event =
            grpc_completion_queue_next(server->queue, next_look(server), NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN) {
            return NULL;
        }
        if (event.type == GRPC_OP_COMPLETE) {
            struct rpc_tag *tag = event.tag;

            rpc_take_over(tag);
            tag->run(tag, event.success != 0);
        }
        look(server);
    }
}

static void on_shut(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_server *server = rpc_container(tag, struct rpc_server, shut_tag);

    (void)is_ok;
    (void)pthread_mutex_lock(&server->lock);
    server->is_shut = true;
    (void)pthread_cond_broadcast(&server->changed);
    (void)pthread_mutex_unlock(&server->lock);
}

/* Life. */

static void create_core(struct rpc_server *server)
{
    const struct rpc_server_options *options = &server->options;
    grpc_arg args[] = {
        rpc_arg_int(GRPC_ARG_ALLOW_REUSEPORT, 0),
        rpc_arg_int(GRPC_ARG_KEEPALIVE_TIME_MS, (int)options->keepalive_ms),
        rpc_arg_int(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                    (int)options->keepalive_timeout_ms),
        /* Who says nothing from the start is not kept for core's two minutes. */
        rpc_arg_int(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS,
                    (int)options->keepalive_timeout_ms),
        rpc_arg_int(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1),
        rpc_arg_int(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0),
        /* Below our clients' interval, else they are sent away. */
        rpc_arg_int(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                    (int)options->keepalive_ms / 2),
        rpc_arg_int(GRPC_ARG_MAX_CONCURRENT_STREAMS, (int)options->max_streams),
        /* Core decompresses a message before it looks at its size. */
        rpc_arg_int(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
                    1 << GRPC_COMPRESS_NONE),
        rpc_arg_int(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
                    (int)options->max_message_bytes),
        rpc_arg_text(GRPC_ARG_RESOURCE_QUOTA, NULL),
    };
    grpc_channel_args all = {sizeof(args) / sizeof(args[0]), args};
    grpc_arg *quota = &args[all.num_args - 1];

    server->quota = grpc_resource_quota_create("retile");
    grpc_resource_quota_resize(server->quota, RPC_QUOTA_BYTES);
    quota->type = GRPC_ARG_POINTER;
    quota->value.pointer.p = server->quota;
    quota->value.pointer.vtable = grpc_resource_quota_arg_vtable();
    server->core = grpc_server_create(&all, NULL);
    server->queue = grpc_completion_queue_create_for_next(NULL);
    grpc_server_register_completion_queue(server->core, server->queue, NULL);
}

static enum base_code start_threads(struct rpc_server *server,
                                    struct base_err *err)
{
    const unsigned n = server->options.n_pollers;

    server->pollers = calloc(n, sizeof(server->pollers[0]));
    server->pool =
        rpc_pool_create(server->options.n_workers, server->options.max_queued);
    server->health = rpc_health_create();
    if (server->pollers == NULL || server->pool == NULL ||
        server->health == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot start a server's threads");
    }
    while (server->n_pollers < n) {
        if (!rpc_thread_start(&server->pollers[server->n_pollers], "rpc-poll",
                              poll_run, server)) {
            return base_fail(err, BASE_LIMIT,
                             "cannot start a server's threads");
        }
        server->n_pollers++;
    }
    return BASE_OK;
}

enum base_code rpc_server_create(const struct rpc_server_options *options,
                                 struct rpc_server **ret,
                                 struct base_err *err)
{
    BASE_AUTO(rpc_server) server = calloc(1, sizeof(*server));
    struct base_str sets[2];

    if (server == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a server");
    }
    server->options = *options;
    fill_defaults(&server->options);
    (void)pthread_mutex_init(&server->lock, NULL);
    rpc_cond_init(&server->changed);
    server->shut_tag.run = on_shut;
    rpc_raise_files();
    rpc_accept_guard();
    rpc_init();
    create_core(server);
    BASE_TRY(start_threads(server, err));
    sets[0] = (struct base_str){(const char *)proto_descriptors,
                                proto_descriptors_bytes};
    sets[1] = options->descriptors;
    BASE_TRY(rpc_descriptors_create(sets, options->descriptors.len != 0 ? 2 : 1,
                                    &server->descriptors, err));
    BASE_TRY(rpc_std_add(server, err));
    *ret = base_steal(&server);
    return BASE_OK;
}

static int row_cmp(const void *a, const void *b)
{
    return strcmp(((const struct rpc_row *)a)->path,
                  ((const struct rpc_row *)b)->path);
}

enum base_code rpc_server_start(struct rpc_server *server, struct base_err *err)
{
    (void)err; /* threads run already */
    assert(!server->has_started);
    qsort(server->rows.items, server->rows.n, sizeof(server->rows.items[0]),
          row_cmp);
    server->has_started = true;
    grpc_server_start(server->core);
    for (unsigned i = 0; i < N_REQUESTED; i++) {
        rpc_server_request(server);
    }
    rpc_health_set(server->health, true);
    return BASE_OK;
}

void rpc_server_set_serving(struct rpc_server *server, bool is_serving)
{
    rpc_health_set(server->health, is_serving);
}

/* Lock held.  Wait until core has shut, or the calls are over and what they sent
 * had time to go: a client that is idle may not look at its connection, and
 * core waits for it to close. */
static void wait_for_calls(struct rpc_server *server, int64_t until_ns)
{
    int64_t last_ns = INT64_MAX; /* when they were over, and some more */
    bool is_early = true;

    while (!server->is_shut && is_early) {
        if (server->n_open > 0) {
            last_ns = INT64_MAX;
        } else if (last_ns == INT64_MAX) {
            last_ns = rpc_now_ns() + LINGER_NS;
        }
        is_early = rpc_cond_wait_until(&server->changed, &server->lock,
                                       last_ns < until_ns ? last_ns : until_ns);
    }
}

void rpc_server_stop(struct rpc_server *server, unsigned grace_ms)
{
    const int64_t until_ns = rpc_now_ns() + (int64_t)grace_ms * 1000000;

    if (server->has_stopped) {
        return;
    }
    server->has_stopped = true;
    if (server->health != NULL) {
        rpc_health_set(server->health, false);
    }
    (void)pthread_mutex_lock(&server->lock);
    server->is_stopping = true;
    (void)pthread_mutex_unlock(&server->lock);
    end_long(server);
    rpc_hand_over(&server->shut_tag);
    grpc_server_shutdown_and_notify(server->core, server->queue,
                                    &server->shut_tag);
    (void)pthread_mutex_lock(&server->lock);
    wait_for_calls(server, until_ns);
    if (!server->is_shut) {
        (void)pthread_mutex_unlock(&server->lock);
        grpc_server_cancel_all_calls(server->core);
        (void)pthread_mutex_lock(&server->lock);
    }
    /* Core may say so before our handlers have let go of their calls. */
    while (!server->is_shut || server->n_alive != 0) {
        (void)pthread_cond_wait(&server->changed, &server->lock);
    }
    (void)pthread_mutex_unlock(&server->lock);
}

void rpc_server_free(struct rpc_server *server)
{
    if (server == NULL) {
        return;
    }
    if (server->n_pollers != 0) {
        rpc_server_stop(server, 0);
    }
    grpc_server_destroy(server->core);
    grpc_completion_queue_shutdown(server->queue);
    for (unsigned i = 0; i < server->n_pollers; i++) {
        (void)pthread_join(server->pollers[i], NULL);
    }
    grpc_completion_queue_destroy(server->queue);
    grpc_resource_quota_unref(server->quota);
    rpc_pool_free(server->pool);
    rpc_health_free(server->health);
    rpc_descriptors_free(server->descriptors);
    rpc_reloaders_free(server->reloaders);
    for (size_t i = 0; i < server->rows.n; i++) {
        free(server->rows.items[i].path);
    }
    base_vec_done(&server->rows);
    base_vec_done(&server->services);
    free(server->pollers);
    (void)pthread_cond_destroy(&server->changed);
    (void)pthread_mutex_destroy(&server->lock);
    free(server);
    rpc_done();
}

struct rpc_server_stats rpc_server_stats_get(struct rpc_server *server)
{
    struct rpc_server_stats stats;

    (void)pthread_mutex_lock(&server->lock);
    stats = (struct rpc_server_stats){
        .n_accepted = server->n_accepted,
        .n_refused = atomic_load(&server->n_refused),
        .n_open = server->n_open,
    };
    (void)pthread_mutex_unlock(&server->lock);
    stats.n_queued = rpc_pool_queued(server->pool);
    return stats;
}
