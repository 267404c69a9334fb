/* A call, seen by core: how it comes, its operations, its end.
 *
 *   request --> new --> RECV_CLOSE alone: completes when the call is over
 *                   --> RECV_MESSAGE, one at a time, the next when the handler
 *                       has returned
 *                   --> headers, message, status in one batch as far as they
 *                       are due, one batch at a time
 *
 * Core's part is let go when RECV_CLOSE has completed, no other operation is
 * under way, and the handler has been told of the close. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rpc_call_impl.h"

/* Lock held. */
static bool start_batch(struct rpc_call *call,
                        const grpc_op *ops,
                        size_t n_ops,
                        struct rpc_tag *tag)
{
    rpc_hand_over(tag);
    return grpc_call_start_batch(call->core, ops, n_ops, tag, NULL) ==
           GRPC_CALL_OK;
}

void rpc_call_settle(struct rpc_call *call)
{
    struct rpc_server *server = call->server;
    grpc_call *core = call->core;

    if (core == NULL || !call->is_over || call->is_reading ||
        call->is_writing || call->is_running || !call->is_closed) {
        (void)pthread_mutex_unlock(&call->lock);
        return;
    }
    call->core = NULL;
    if (call->received != NULL) {
        grpc_byte_buffer_destroy(call->received); /* came after the close */
        call->received = NULL;
    }
    (void)pthread_mutex_unlock(&call->lock);
    grpc_metadata_array_destroy(&call->metadata);
    grpc_call_details_destroy(&call->details);
    grpc_call_unref(core);
    rpc_server_leave(server, call);
    rpc_call_unref(call);
}

/* Reading. */

static bool has_one_request(const struct rpc_call *call)
{
    const enum rpc_kind kind = call->row.method->kind;

    return kind == RPC_UNARY || kind == RPC_SERVER_STREAM;
}

static void on_read(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = rpc_container(tag, struct rpc_call, read_tag);
    bool has_no_request = false;

    (void)rpc_call_ref(call);
    (void)pthread_mutex_lock(&call->lock);
    call->is_reading = false;
    if (is_ok && call->received != NULL) {
        call->is_handling = true;
        call->pending |= CALL_MESSAGE;
    } else if (is_ok) {
        has_no_request = has_one_request(call);
        call->has_half_closed = true;
        call->pending |= has_no_request ? 0 : CALL_HALF_CLOSE;
    }
    (void)pthread_mutex_unlock(&call->lock);
    if (has_no_request) {
        rpc_call_finish(call, RPC_INVALID_ARGUMENT, "there is no request");
    }
    rpc_call_kick(call);
    rpc_call_unref(call);
}

void rpc_call_read(struct rpc_call *call)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    if (call->core == NULL || call->is_over || call->is_finished ||
        call->is_reading || call->is_handling || call->is_paused ||
        call->has_half_closed) {
        return;
    }
    op.data.recv_message.recv_message = &call->received;
    call->has_half_closed =
        has_one_request(call); /* the next would be nothing */
    call->is_reading = start_batch(call, &op, 1, &call->read_tag);
}

/* Writing. */

static void on_written(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = rpc_container(tag, struct rpc_call, write_tag);

    (void)rpc_call_ref(call);
    (void)pthread_mutex_lock(&call->lock);
    call->is_writing = false;
    if (call->sending != NULL) {
        grpc_byte_buffer_destroy(call->sending);
        call->sending = NULL;
        if (rpc_outbox_pop(&call->outbox)) {
            call->pending |= CALL_WRITABLE;
        }
    }
    if (!is_ok) {
        rpc_outbox_clear(&call->outbox); /* it is over, or soon will be */
    }
    rpc_call_write(call);
    (void)pthread_mutex_unlock(&call->lock);
    rpc_call_kick(call);
    rpc_call_unref(call);
}

void rpc_call_write(struct rpc_call *call)
{
    struct rpc_packed *first = rpc_outbox_first(&call->outbox);
    grpc_op ops[3];
    size_t n = 0;
    grpc_slice text = grpc_empty_slice();

    if (call->core == NULL || call->is_over || call->is_writing ||
        call->has_sent_status) {
        return;
    }
    memset(ops, 0, sizeof(ops));
    if (!call->has_sent_headers &&
        (call->wants_headers || first != NULL || call->is_finished)) {
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
        call->has_sent_headers = true;
    }
    if (first != NULL) {
        call->sending = rpc_packed_buffer(first);
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = call->sending;
    }
    if (call->is_finished && !rpc_outbox_has_more(&call->outbox)) {
        text = grpc_slice_from_copied_string(call->status.text);
        ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
        ops[n].data.send_status_from_server.status =
            (grpc_status_code)call->status.code;
        ops[n++].data.send_status_from_server.status_details = &text;
        call->has_sent_status = true;
    }
    if (n != 0) {
        call->is_writing = start_batch(call, ops, n, &call->write_tag);
    }
    grpc_slice_unref(text);
}

/* The end. */

static void on_close(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = rpc_container(tag, struct rpc_call, close_tag);

    (void)is_ok; /* this one always is */
    (void)rpc_call_ref(call);
    (void)pthread_mutex_lock(&call->lock);
    call->is_over = true;
    rpc_outbox_clear(&call->outbox);
    if (call->has_begun) {
        call->pending |= CALL_CLOSE;
    } else {
        call->is_closed = true;
    }
    (void)pthread_mutex_unlock(&call->lock);
    rpc_call_kick(call);
    rpc_call_unref(call);
}

/* The beginning. */

static void set_deadline(struct rpc_call *call)
{
    const int64_t now_ns = rpc_now_ns();
    const gpr_timespec left = gpr_time_sub(
        gpr_convert_clock_type(call->details.deadline, GPR_CLOCK_MONOTONIC),
        gpr_now(GPR_CLOCK_MONOTONIC));
    const unsigned max_ms = call->row.method->max_ms;
    const int64_t max_s = INT64_C(1000000000); /* more than that is none */

    if (left.tv_sec < max_s) {
        call->deadline_ns = now_ns + left.tv_sec * 1000000000 + left.tv_nsec;
    }
    if (max_ms != 0 && call->deadline_ns > now_ns + (int64_t)max_ms * 1000000) {
        call->deadline_ns = now_ns + (int64_t)max_ms * 1000000;
        call->cap_ns = call->deadline_ns;
    }
}

/* May the call go on?  What it is refused with is in its status. */
static bool judge(struct rpc_call *call)
{
    const struct rpc_server_options *options = &call->server->options;
    const struct base_str path = {
        (const char *)GRPC_SLICE_START_PTR(call->details.method),
        GRPC_SLICE_LENGTH(call->details.method)};
    const struct rpc_row *row = rpc_server_find(call->server, path);
    struct base_err err = {0};
    enum rpc_code code;

    if (row == NULL) {
        (void)base_fail(&err, BASE_UNSUPPORTED, "there is no method %.*s",
                        BASE_STR_FMT(path));
        rpc_status_set(&call->status, RPC_UNIMPLEMENTED, err.text);
        return false;
    }
    if (!rpc_peer_init(&call->peer, call->core, &call->metadata)) {
        rpc_status_set(&call->status, RPC_RESOURCE_EXHAUSTED,
                       "the server has no memory");
        return false;
    }
    if (options->authorize != NULL) {
        enum base_code rc = options->authorize(options->authorize_ctx,
                                               &call->peer, row->method, &err);

        if (rc != BASE_OK) {
            code = rpc_code_of(rc);
            if (code == RPC_PERMISSION_DENIED && !call->peer.is_verified &&
                call->peer.token == NULL) {
                code = RPC_UNAUTHENTICATED;
            }
            rpc_status_set(&call->status, code, err.text);
            return false;
        }
    }
    call->row = *row;
    call->ctx = row->service->ctx;
    set_deadline(call);
    code = rpc_server_enter(call);
    if (code != RPC_OK) {
        rpc_status_set(&call->status, code,
                       code == RPC_UNAVAILABLE ? "the server is stopping"
                                               : "too many calls are open");
        return false;
    }
    return true;
}

static void accept(struct rpc_call *call)
{
    const bool is_good = judge(call);
    grpc_op op = {.op = GRPC_OP_RECV_CLOSE_ON_SERVER};
    bool has_started;

    (void)pthread_mutex_lock(&call->lock);
    op.data.recv_close_on_server.cancelled = &call->was_cancelled;
    has_started = start_batch(call, &op, 1, &call->close_tag);
    call->is_over = !has_started; /* cannot be: nothing of it can be illegal */
    if (is_good) {
        call->pending |= call->row.method->on_open != NULL ? CALL_OPEN : 0;
        rpc_call_read(call);
    } else {
        (void)atomic_fetch_add(&call->server->n_refused, 1);
        call->is_closed = true;
        call->is_finished = true;
        rpc_call_write(call);
    }
    (void)pthread_mutex_unlock(&call->lock);
    rpc_call_kick(call);
}

static void on_new(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_call *call = rpc_container(tag, struct rpc_call, new_tag);
    struct rpc_server *server = call->server;

    if (!is_ok) { /* the server stops */
        grpc_metadata_array_destroy(&call->metadata);
        grpc_call_details_destroy(&call->details);
        rpc_server_leave(server, call);
        rpc_call_unref(call);
        return;
    }
    rpc_server_request(server); /* first: the next one may wait already */
    (void)rpc_call_ref(call);
    accept(call);
    rpc_call_unref(call);
}

struct rpc_call *rpc_call_create(struct rpc_server *server)
{
    struct rpc_call *call = calloc(1, sizeof(*call));

    if (call == NULL) {
        return NULL;
    }
    atomic_init(&call->n_refs, 1);
    call->server = server;
    call->new_tag.run = on_new;
    call->read_tag.run = on_read;
    call->write_tag.run = on_written;
    call->close_tag.run = on_close;
    call->deadline_ns = INT64_MAX;
    call->cap_ns = INT64_MAX;
    (void)pthread_mutex_init(&call->lock, NULL);
    rpc_outbox_init(&call->outbox, server->options.send_high_bytes,
                    server->options.send_max_bytes);
    grpc_call_details_init(&call->details);
    grpc_metadata_array_init(&call->metadata);
    return call;
}
