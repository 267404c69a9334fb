/* A channel, and what every call on it begins and ends with. */
#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "proto/rpc_client_impl.h"

enum {
    FIRST_BACKOFF_MS = 100,
    LAST_BACKOFF_MS = 5000,
    CONNECT_MS = 5000, /* a connection is given up then */
};

static int int_of(size_t value, int standard)
{
    return value != 0 && value <= INT32_MAX ? (int)value : standard;
}

static grpc_channel *create_core(const char *target,
                                 const struct rpc_channel_options *options,
                                 grpc_channel_credentials *credentials)
{
    grpc_arg args[16];
    grpc_channel_args all = {0, args};

#define ADD_INT(key, value) args[all.num_args++] = rpc_arg_int((key), (value))
    ADD_INT(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    ADD_INT(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
    ADD_INT(GRPC_ARG_KEEPALIVE_TIME_MS,
            int_of(options->keepalive_ms, RPC_KEEPALIVE_MS));
    ADD_INT(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
            int_of(options->keepalive_timeout_ms, RPC_KEEPALIVE_TIMEOUT_MS));
    ADD_INT(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    ADD_INT(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    ADD_INT(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, FIRST_BACKOFF_MS);
    ADD_INT(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, CONNECT_MS);
    ADD_INT(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, LAST_BACKOFF_MS);
    /* Core decompresses a message before it looks at its size. */
    ADD_INT(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET,
            1 << GRPC_COMPRESS_NONE);
    ADD_INT(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH,
            int_of(options->max_message_bytes, RPC_MAX_ANSWER_BYTES));
    ADD_INT(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, options->has_own_connection);
#undef ADD_INT
    if (options->tls != NULL && options->tls->peer_name != NULL) {
        args[all.num_args++] = rpc_arg_text(GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
                                            options->tls->peer_name);
    }
    assert(all.num_args <= sizeof(args) / sizeof(args[0]));
    return grpc_channel_create(target, credentials, &all);
}

static enum base_code make_credentials(const struct rpc_address *address,
                                       const char *target,
                                       const struct rpc_tls *tls,
                                       grpc_channel_credentials **ret,
                                       struct base_err *err)
{
    if (tls != NULL) {
        return rpc_tls_client(tls, ret, err);
    }
    if (address->family == RPC_FAMILY_INET && !address->is_loopback) {
        return base_fail(err, BASE_DENIED,
                         "will not talk to %s without certificates: others can "
                         "listen",
                         target);
    }
    *ret = grpc_insecure_credentials_create();
    return BASE_OK;
}

enum base_code rpc_channel_open(const char *target,
                                const struct rpc_channel_options *options,
                                struct rpc_channel **ret,
                                struct base_err *err)
{
    static const struct rpc_channel_options standard;
    const struct rpc_channel_options *how =
        options != NULL ? options : &standard;
    BASE_AUTO(rpc_channel) channel = NULL;
    grpc_channel_credentials *credentials = NULL;
    struct rpc_address address;

    BASE_TRY(rpc_address_parse(target, &address, err));
    channel = calloc(1, sizeof(*channel));
    if (channel == NULL || !rpc_loop_ref()) {
        free(base_steal(&channel));
        return base_fail(err, BASE_NO_MEM, "cannot open a channel to %s",
                         target);
    }
    (void)pthread_mutex_init(&channel->lock, NULL);
    (void)pthread_cond_init(&channel->changed, NULL);
    channel->check = how->check;
    channel->send_high_bytes = how->send_high_bytes;
    channel->send_max_bytes = how->send_max_bytes;
    channel->name = base_path(
        "%s at %s", how->what != NULL ? how->what : "the server", target);
    if (channel->name == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open a channel to %s",
                         target);
    }
    BASE_TRY(make_credentials(&address, target, how->tls, &credentials, err));
    channel->core =
        create_core(rpc_address_uri(&address, target).text, how, credentials);
    grpc_channel_credentials_release(credentials);
    *ret = base_steal(&channel);
    return BASE_OK;
}

void rpc_channel_free(struct rpc_channel *channel)
{
    if (channel == NULL) {
        return;
    }
    assert(!rpc_loop_is_me());
    (void)pthread_mutex_lock(&channel->lock);
    channel->is_closing = true;
    for (struct rpc_live *at = channel->calls; at != NULL; at = at->next) {
        if (at->cancel != NULL) {
            at->cancel(at);
        } else {
            (void)grpc_call_cancel(at->core, NULL);
        }
    }
    while (channel->calls != NULL) {
        (void)pthread_cond_wait(&channel->changed, &channel->lock);
    }
    (void)pthread_mutex_unlock(&channel->lock);
    if (channel->core != NULL) {
        grpc_channel_destroy(channel->core);
    }
    rpc_loop_unref();
    (void)pthread_cond_destroy(&channel->changed);
    (void)pthread_mutex_destroy(&channel->lock);
    free(channel->name);
    free(channel);
}

const char *rpc_channel_name(const struct rpc_channel *channel)
{
    return channel->name;
}

/* Calls. */

static enum base_code
add_token(const char *token, struct rpc_start *start, struct base_err *err)
{
    for (const char *at = token; *at != '\0'; at++) {
        if (*at <= ' ' || *at > '~') {
            return base_fail(err, BASE_BAD_ARG,
                             "a token may not contain blanks or control "
                             "characters");
        }
    }
    start->token = base_path("Bearer %s", token);
    if (start->token == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot hold a token");
    }
    start->metadata.key = grpc_slice_from_static_string("authorization");
    start->metadata.value = grpc_slice_from_copied_string(start->token);
    start->n_metadata = 1;
    return BASE_OK;
}

void rpc_start_done(struct rpc_start *start)
{
    if (start->n_metadata != 0) {
        grpc_slice_unref(start->metadata.value);
    }
    if (start->token != NULL) {
        explicit_bzero(start->token, strlen(start->token));
        free(start->token);
    }
}

/* The call, in the channel's list; NULL: the channel is being freed. */
static grpc_call *create_call(struct rpc_channel *channel,
                              const char *path,
                              unsigned timeout_ms,
                              grpc_completion_queue *queue,
                              struct rpc_live *live)
{
    const gpr_timespec until =
        timeout_ms == 0 ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                        : rpc_after_ns((int64_t)timeout_ms * 1000000);
    grpc_slice name = grpc_slice_from_copied_string(path);

    (void)pthread_mutex_lock(&channel->lock);
    if (!channel->is_closing) {
        live->core = grpc_channel_create_call(channel->core, NULL,
                                              GRPC_PROPAGATE_DEFAULTS, queue,
                                              name, NULL, until, NULL);
        live->next = channel->calls;
        live->slot = &channel->calls;
        if (live->next != NULL) {
            live->next->slot = &live->next;
        }
        channel->calls = live;
    }
    (void)pthread_mutex_unlock(&channel->lock);
    grpc_slice_unref(name);
    return live->core;
}

enum base_code rpc_channel_begin(struct rpc_channel *channel,
                                 const ProtobufCServiceDescriptor *service,
                                 const char *method,
                                 const struct rpc_call_options *options,
                                 unsigned default_timeout_ms,
                                 grpc_completion_queue *queue,
                                 struct rpc_start *start,
                                 struct rpc_live *live,
                                 struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("/%s/%s", service->name, method);
    unsigned timeout_ms = default_timeout_ms;

    start->method =
        protobuf_c_service_descriptor_get_method_by_name(service, method);
    if (start->method == NULL) {
        return base_fail(err, BASE_BAD_ARG, "service %s has no method %s",
                         service->name, method);
    }
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot call %s", method);
    }
    if (options != NULL && options->timeout_ms != 0) {
        timeout_ms = options->timeout_ms;
    }
    if (options != NULL && options->token != NULL) {
        BASE_TRY(add_token(options->token, start, err));
    }
    if (options != NULL && options->wait_for_ready) {
        start->flags = GRPC_INITIAL_METADATA_WAIT_FOR_READY |
                       GRPC_INITIAL_METADATA_WAIT_FOR_READY_EXPLICITLY_SET;
    }
    if (create_call(channel, path, timeout_ms, queue, live) == NULL) {
        return base_fail(err, BASE_INTERRUPTED, "the channel is closed");
    }
    return BASE_OK;
}

void rpc_channel_end(struct rpc_channel *channel,
                     struct rpc_live *live,
                     grpc_completion_queue *pluck)
{
    grpc_call *core = live->core;

    (void)pthread_mutex_lock(&channel->lock);
    *live->slot = live->next;
    if (live->next != NULL) {
        live->next->slot = live->slot;
    }
    /* Before the channel is told: its queue may go then. */
    grpc_call_unref(core);
    if (pluck != NULL) {
        rpc_pluck_give(pluck);
    }
    (void)pthread_cond_broadcast(&channel->changed);
    (void)pthread_mutex_unlock(&channel->lock);
}

/* Statuses as people read them. */

#define EMPTY_LIST "empty address list"

static bool is_connect_failure(struct base_str text)
{
    return base_str_starts(text,
                           BASE_STR("failed to connect to all addresses")) ||
           base_str_starts(text, BASE_STR("DNS resolution failed")) ||
           base_str_starts(text, BASE_STR(EMPTY_LIST));
}

/* Core puts the cause last: "...: Connection refused".  A certificate and a key
 * that it cannot use leave it no address to go to. */
static const char *connect_cause(const char *text)
{
    const char *part = text;

    if (strncmp(text, EMPTY_LIST, sizeof(EMPTY_LIST) - 1) == 0) {
        return "its name has no address, or the certificate and the key that "
               "we have are none, or do not fit";
    }
    for (const char *at = strstr(text, ": "); at != NULL;
         at = strstr(at + 2, ": ")) {
        part = at[2] != '\0' ? at + 2 : part;
    }
    return part;
}

enum base_code rpc_channel_fail(const struct rpc_channel *channel,
                                const struct rpc_status *status,
                                struct base_err *err)
{
    const enum base_code code = rpc_code_base(status->code);
    const struct base_str text = base_str_of(status->text);
    const char *cause;

    if (status->code == RPC_UNAVAILABLE && is_connect_failure(text)) {
        cause = connect_cause(status->text);
        return base_fail(err, code, "cannot reach %s: %c%s", channel->name,
                         tolower((unsigned char)cause[0]),
                         cause[0] != '\0' ? cause + 1 : "");
    }
    if (status->code == RPC_UNAVAILABLE) {
        return base_fail(err, code, "%s: %s", channel->name,
                         text.len != 0 ? status->text : "the connection broke");
    }
    if (status->code == RPC_DEADLINE_EXCEEDED &&
        base_str_eq(text, BASE_STR("Deadline Exceeded"))) {
        return base_fail(err, code, "%s has not answered in time",
                         channel->name);
    }
    return base_fail(err, code, "%s",
                     text.len != 0 ? status->text
                                   : rpc_code_name(status->code));
}
