/* Calls that wait, on the caller's thread. */
#include <stdlib.h>
#include <string.h>

#include "proto/rpc_client_impl.h"

/* One call that its thread waits for.  The operations' tags are addresses of
 * its fields. */
struct waiting {
    struct rpc_channel *channel;
    const struct rpc_call_options *options;
    grpc_completion_queue *queue;
    struct rpc_start start;
    struct rpc_live live;
    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    grpc_byte_buffer *sending;
    grpc_byte_buffer *received;
    grpc_status_code code;
    grpc_slice text;
    int64_t ask_ns; /* when to ask is_interrupted next; INT64_MAX: never */
    bool is_interrupted;
};

static enum base_code waiting_init(struct waiting *waiting,
                                   struct rpc_channel *channel,
                                   const ProtobufCServiceDescriptor *service,
                                   const char *method,
                                   const ProtobufCMessage *message,
                                   const struct rpc_call_options *options,
                                   unsigned default_timeout_ms,
                                   struct base_err *err)
{
    struct rpc_packed *packed;

    memset(waiting, 0, sizeof(*waiting));
    waiting->channel = channel;
    waiting->options = options;
    waiting->queue = rpc_pluck_take();
    waiting->ask_ns = options != NULL && options->is_interrupted != NULL
                          ? rpc_now_ns() + RPC_ASK_NS
                          : INT64_MAX;
    waiting->text = grpc_empty_slice();
    grpc_metadata_array_init(&waiting->initial);
    grpc_metadata_array_init(&waiting->trailing);
    packed = rpc_packed_create(message);
    if (packed == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot pack a request");
    }
    waiting->sending = rpc_packed_buffer(packed);
    rpc_packed_unref(packed);
    return rpc_channel_begin(channel, service, method, options,
                             default_timeout_ms, waiting->queue,
                             &waiting->start, &waiting->live, err);
}

static void waiting_done(struct waiting *waiting)
{
    if (waiting->sending != NULL) {
        grpc_byte_buffer_destroy(waiting->sending);
    }
    if (waiting->received != NULL) {
        grpc_byte_buffer_destroy(waiting->received);
    }
    grpc_metadata_array_destroy(&waiting->initial);
    grpc_metadata_array_destroy(&waiting->trailing);
    grpc_slice_unref(waiting->text);
    rpc_start_done(&waiting->start);
    if (waiting->live.core !=
        NULL) { /* last: the channel may be gone after it */
        rpc_channel_end(waiting->channel, &waiting->live, waiting->queue);
    } else {
        rpc_pluck_give(waiting->queue);
    }
}

static void start_batch(struct waiting *waiting,
                        const grpc_op *ops,
                        size_t n_ops,
                        void *tag)
{
    rpc_hand_over(tag);
    /* Nothing of it can be illegal: the metadata have been looked at. */
    if (grpc_call_start_batch(waiting->live.core, ops, n_ops, tag, NULL) !=
        GRPC_CALL_OK) {
        abort();
    }
}

/* How long to wait before it is asked again whether to go on. */
static gpr_timespec ask(struct waiting *waiting)
{
    const int64_t now_ns = rpc_now_ns();

    if (now_ns >= waiting->ask_ns) {
        waiting->ask_ns = now_ns + RPC_ASK_NS;
        if (waiting->options->is_interrupted()) {
            waiting->ask_ns = INT64_MAX;
            waiting->is_interrupted = true;
            (void)grpc_call_cancel(waiting->live.core, NULL);
        }
    }
    return waiting->ask_ns == INT64_MAX
               ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
               : rpc_after_ns(waiting->ask_ns - now_ns);
}

/* Wait for the operation with that tag; its success. */
static bool wait_for(struct waiting *waiting, void *tag)
{
    for (;;) {
        grpc_event event = grpc_completion_queue_pluck(waiting->queue, tag,
                                                       ask(waiting), NULL);

        if (event.type == GRPC_OP_COMPLETE) {
            rpc_take_over(tag);
            return event.success != 0;
        }
    }
}

static size_t op_begin(struct waiting *waiting, grpc_op *ops)
{
    size_t n = 0;

    ops[n].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[n].flags = waiting->start.flags;
    ops[n].data.send_initial_metadata.count = waiting->start.n_metadata;
    ops[n++].data.send_initial_metadata.metadata = &waiting->start.metadata;
    ops[n].op = GRPC_OP_SEND_MESSAGE;
    ops[n++].data.send_message.send_message = waiting->sending;
    ops[n++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[n].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[n++].data.recv_initial_metadata.recv_initial_metadata =
        &waiting->initial;
    return n;
}

static size_t op_message(struct waiting *waiting, grpc_op *ops)
{
    ops[0].op = GRPC_OP_RECV_MESSAGE;
    ops[0].data.recv_message.recv_message = &waiting->received;
    return 1;
}

static size_t op_status(struct waiting *waiting, grpc_op *ops)
{
    ops[0].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[0].data.recv_status_on_client.trailing_metadata = &waiting->trailing;
    ops[0].data.recv_status_on_client.status = &waiting->code;
    ops[0].data.recv_status_on_client.status_details = &waiting->text;
    return 1;
}

/* What the call ended with, as an error. */
static enum base_code tell_status(struct waiting *waiting, struct base_err *err)
{
    struct rpc_status status;

    rpc_status_take(&status, waiting->code, waiting->text);
    if (waiting->options != NULL && waiting->options->ret_code != NULL) {
        *waiting->options->ret_code = status.code;
    }
    if (status.code == RPC_OK) {
        return BASE_OK;
    }
    if (waiting->is_interrupted) {
        return base_fail(err, BASE_INTERRUPTED, "interrupted");
    }
    return rpc_channel_fail(waiting->channel, &status, err);
}

/* A bad one is the server's fault: INTERNAL, as of a stream. */
static enum base_code read_answer(struct waiting *waiting,
                                  ProtobufCMessage **ret,
                                  struct base_err *err)
{
    enum base_code rc;

    rc = rpc_message_read(waiting->start.method->output,
                          waiting->channel->check, waiting->received, ret, err);
    grpc_byte_buffer_destroy(waiting->received);
    waiting->received = NULL;
    if (rc == BASE_OK) {
        return rc;
    }
    if (waiting->options != NULL && waiting->options->ret_code != NULL) {
        *waiting->options->ret_code = RPC_INTERNAL;
    }
    return base_wrap(err, BASE_IO, "%s", waiting->channel->name);
}

enum base_code rpc_unary(struct rpc_channel *channel,
                         const ProtobufCServiceDescriptor *service,
                         const char *method,
                         const ProtobufCMessage *message,
                         const struct rpc_call_options *options,
                         ProtobufCMessage **ret,
                         struct base_err *err)
{
    __attribute__((cleanup(waiting_done))) struct waiting waiting;
    ProtobufCMessage *answer = NULL;
    grpc_op ops[6];
    size_t n;

    BASE_TRY(waiting_init(&waiting, channel, service, method, message, options,
                          RPC_TIMEOUT_MS, err));
    memset(ops, 0, sizeof(ops));
    n = op_begin(&waiting, ops);
    n += op_message(&waiting, ops + n);
    n += op_status(&waiting, ops + n);
    start_batch(&waiting, ops, n, &waiting.code);
    (void)wait_for(&waiting, &waiting.code);
    BASE_TRY(tell_status(&waiting, err));
    if (waiting.received == NULL) {
        return base_fail(err, BASE_IO, "%s gave no answer", channel->name);
    }
    BASE_TRY(read_answer(&waiting, &answer, err));
    if (ret != NULL) {
        *ret = answer;
    } else {
        rpc_message_free(answer);
    }
    return BASE_OK;
}

/* Hand on messages until there are no more.  True: on_message had enough. */
static enum base_code
follow(struct waiting *waiting,
       bool (*on_message)(void *ctx, const ProtobufCMessage *message),
       void *ctx,
       bool *ret_had_enough,
       struct base_err *err)
{
    for (;;) {
        ProtobufCMessage *message = NULL;
        grpc_op op = {0};

        (void)op_message(waiting, &op);
        start_batch(waiting, &op, 1, &waiting->received);
        if (!wait_for(waiting, &waiting->received) ||
            waiting->received == NULL) {
            return BASE_OK;
        }
        BASE_TRY(read_answer(waiting, &message, err));
        *ret_had_enough = !on_message(ctx, message);
        rpc_message_free(message);
        if (*ret_had_enough) {
            return BASE_OK;
        }
    }
}

enum base_code rpc_follow(struct rpc_channel *channel,
                          const ProtobufCServiceDescriptor *service,
                          const char *method,
                          const ProtobufCMessage *message,
                          const struct rpc_call_options *options,
                          bool (*on_message)(void *ctx,
                                             const ProtobufCMessage *message),
                          void *ctx,
                          struct base_err *err)
{
    __attribute__((cleanup(waiting_done))) struct waiting waiting;
    bool had_enough = false;
    grpc_op ops[4];
    enum base_code rc;

    BASE_TRY(waiting_init(&waiting, channel, service, method, message, options,
                          0, err));
    memset(ops, 0, sizeof(ops));
    start_batch(&waiting, ops, op_begin(&waiting, ops), &waiting.initial);
    memset(ops, 0, sizeof(ops));
    start_batch(&waiting, ops, op_status(&waiting, ops), &waiting.code);
    rc = follow(&waiting, on_message, ctx, &had_enough, err);
    if (rc != BASE_OK || had_enough) {
        (void)grpc_call_cancel(waiting.live.core, NULL);
    }
    (void)wait_for(&waiting, &waiting.initial);
    (void)wait_for(&waiting, &waiting.code);
    if (rc != BASE_OK) {
        return rc;
    }
    rc = tell_status(&waiting, err);
    return had_enough ? BASE_OK : rc;
}
