/* A call, seen by its handler: what is told to it, and what it does.
 *
 * What happens to a call are bits in `pending`; one thread at a time takes them,
 * lowest first, and calls the method's callbacks without the lock.  What has no
 * use any more (messages of a finished call) is dropped there. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rpc_call_impl.h"

struct rpc_call *rpc_call_ref(struct rpc_call *call)
{
    (void)atomic_fetch_add_explicit(&call->n_refs, 1, memory_order_relaxed);
    return call;
}

void rpc_call_unref(struct rpc_call *call)
{
    if (call == NULL || atomic_fetch_sub_explicit(&call->n_refs, 1,
                                                  memory_order_acq_rel) != 1) {
        return;
    }
    rpc_outbox_clear(&call->outbox);
    rpc_peer_done(&call->peer);
    (void)pthread_mutex_destroy(&call->lock);
    free(call);
}

/* Lock held.  Forget a message that nobody will be told of. */
static void drop_received(struct rpc_call *call)
{
    if (call->is_handling && call->received != NULL) {
        grpc_byte_buffer_destroy(call->received);
        call->received = NULL;
    }
    call->is_handling = false;
}

static void tell_message(struct rpc_call *call, grpc_byte_buffer *buffer)
{
    const struct rpc_row *row = &call->row;
    /* The standard services' messages are none that a product's check knows. */
    const bool is_ours =
        strncmp(row->service->descriptor->name, "grpc.", 5) == 0;
    struct base_err err = {0};
    ProtobufCMessage *message = NULL;
    enum base_code rc;

    rc = rpc_message_read(row->descriptor->input,
                          is_ours ? NULL : call->server->options.check, buffer,
                          &message, &err);
    grpc_byte_buffer_destroy(buffer);
    if (rc != BASE_OK) {
        rpc_call_fail(call, rc, &err);
        return;
    }
    if (row->method->on_message != NULL) {
        call->message = message;
        row->method->on_message(call, message);
        message = base_steal(&call->message);
    }
    rpc_message_free(message);
}

static void tell(struct rpc_call *call, unsigned bit, grpc_byte_buffer *buffer)
{
    const struct rpc_method *method = call->row.method;

    switch (bit) {
    case CALL_OPEN:
        if (method->on_open != NULL) {
            method->on_open(call);
        }
        break;
    case CALL_MESSAGE:
        tell_message(call, buffer);
        break;
    case CALL_HALF_CLOSE:
        if (method->on_half_close != NULL) {
            method->on_half_close(call);
        }
        break;
    case CALL_WRITABLE:
        if (method->on_writable != NULL) {
            method->on_writable(call);
        }
        break;
    default:
        if (method->on_close != NULL) {
            method->on_close(call, call->was_cancelled != 0);
        }
        break;
    }
}

/* Lock held.  The next thing to tell; 0: nothing. */
static unsigned take_pending(struct rpc_call *call, grpc_byte_buffer **ret)
{
    unsigned bit;

    if ((call->pending & CALL_CLOSE) != 0 && !call->has_told) {
        call->is_closed = true; /* it never was open for its handler */
    }
    if (call->is_over || call->is_finished || call->is_closed) {
        call->pending &= CALL_OPEN | CALL_CLOSE;
        drop_received(call);
    }
    if (call->is_closed) {
        call->pending = 0;
    }
    bit = call->pending & -call->pending;
    call->pending &= ~bit;
    *ret = NULL;
    if (bit == CALL_MESSAGE) {
        *ret = call->received;
        call->received = NULL;
    }
    return bit;
}

void rpc_call_run(struct rpc_call *call)
{
    grpc_byte_buffer *buffer;
    unsigned bit;

    (void)pthread_mutex_lock(&call->lock);
    while ((bit = take_pending(call, &buffer)) != 0) {
        call->has_told = true;
        (void)pthread_mutex_unlock(&call->lock);
        tell(call, bit, buffer);
        (void)pthread_mutex_lock(&call->lock);
        if (bit == CALL_MESSAGE) {
            call->is_handling = false;
            rpc_call_read(call);
        }
        call->is_closed = call->is_closed || bit == CALL_CLOSE;
    }
    call->is_running = false;
    rpc_call_settle(call);
}

void rpc_call_kick(struct rpc_call *call)
{
    bool is_first;

    (void)pthread_mutex_lock(&call->lock);
    if (call->is_running || call->is_closed || call->pending == 0) {
        rpc_call_settle(call);
        return;
    }
    call->is_running = true;
    is_first = !call->has_begun;
    call->has_begun = true;
    (void)pthread_mutex_unlock(&call->lock);
    if ((call->row.method->flags & RPC_INLINE) != 0) {
        rpc_call_run(call);
    } else if (!rpc_pool_add(call->server->pool, call, !is_first)) {
        (void)atomic_fetch_add(&call->server->n_refused, 1);
        rpc_call_finish(call, RPC_RESOURCE_EXHAUSTED,
                        "the server is busy: %u calls wait for it",
                        call->server->options.max_queued);
        (void)pthread_mutex_lock(&call->lock);
        call->is_running = false;
        call->is_closed = true;
        call->pending = 0;
        drop_received(call);
        rpc_call_settle(call);
    }
}

/* What a handler asks and does. */

const struct rpc_peer *rpc_call_peer(const struct rpc_call *call)
{
    return &call->peer;
}

void *rpc_call_ctx(const struct rpc_call *call)
{
    return call->ctx;
}

void *rpc_call_data(const struct rpc_call *call)
{
    return call->data;
}

void rpc_call_set_data(struct rpc_call *call, void *data)
{
    call->data = data;
}

ProtobufCMessage *rpc_call_take(struct rpc_call *call)
{
    return base_steal(&call->message);
}

const struct rpc_method *rpc_call_method(const struct rpc_call *call)
{
    return call->row.method;
}

bool rpc_call_is_over(struct rpc_call *call)
{
    bool is_over;

    (void)pthread_mutex_lock(&call->lock);
    is_over = call->is_over || call->is_finished;
    (void)pthread_mutex_unlock(&call->lock);
    return is_over;
}

int64_t rpc_call_remaining_ms(const struct rpc_call *call)
{
    int64_t left_ns;

    if (call->deadline_ns == INT64_MAX) {
        return INT64_MAX;
    }
    left_ns = call->deadline_ns - rpc_now_ns();
    return left_ns <= 0 ? 0 : left_ns / 1000000;
}

void rpc_call_send_headers(struct rpc_call *call)
{
    (void)pthread_mutex_lock(&call->lock);
    call->wants_headers = true;
    rpc_call_write(call);
    (void)pthread_mutex_unlock(&call->lock);
}

/* Lock held. */
static void
abort_locked(struct rpc_call *call, enum rpc_code code, const char *text)
{
    call->is_finished = true;
    call->has_sent_status = true; /* with the cancellation */
    if (!call->is_over && call->core != NULL) {
        (void)grpc_call_cancel_with_status(call->core, (grpc_status_code)code,
                                           text, NULL);
    }
}

void rpc_call_abort(struct rpc_call *call, enum rpc_code code, const char *text)
{
    (void)pthread_mutex_lock(&call->lock);
    abort_locked(call, code, text);
    (void)pthread_mutex_unlock(&call->lock);
}

enum rpc_sent rpc_call_send_packed(struct rpc_call *call,
                                   struct rpc_packed *packed)
{
    enum rpc_sent sent = RPC_SENT_NOT;
    char text[96];

    (void)pthread_mutex_lock(&call->lock);
    if (!call->is_over && !call->is_finished) {
        sent = rpc_outbox_add(&call->outbox, packed);
        if (sent == RPC_SENT_NOT) {
            (void)snprintf(text, sizeof(text),
                           "the client reads too slowly: %zu bytes wait",
                           call->outbox.n_bytes);
            abort_locked(call, RPC_RESOURCE_EXHAUSTED, text);
        } else {
            rpc_call_write(call);
        }
    }
    (void)pthread_mutex_unlock(&call->lock);
    return sent;
}

enum rpc_sent rpc_call_send(struct rpc_call *call,
                            const ProtobufCMessage *message)
{
    struct rpc_packed *packed = rpc_packed_create(message);
    enum rpc_sent sent = RPC_SENT_NOT;

    if (packed == NULL) {
        rpc_call_abort(call, RPC_RESOURCE_EXHAUSTED,
                       "the server has no memory for an answer");
        return RPC_SENT_NOT;
    }
    sent = rpc_call_send_packed(call, packed);
    rpc_packed_unref(packed);
    return sent;
}

void rpc_call_pause(struct rpc_call *call, bool is_paused)
{
    (void)pthread_mutex_lock(&call->lock);
    call->is_paused = is_paused;
    rpc_call_read(call);
    (void)pthread_mutex_unlock(&call->lock);
}

static void finish(struct rpc_call *call, enum rpc_code code, const char *text)
{
    (void)pthread_mutex_lock(&call->lock);
    if (!call->is_finished) {
        call->is_finished = true;
        rpc_status_set(&call->status, code, text);
        rpc_call_write(call);
    }
    (void)pthread_mutex_unlock(&call->lock);
}

void rpc_call_finish(struct rpc_call *call,
                     enum rpc_code code,
                     const char *fmt,
                     ...)
{
    char text[BASE_ERR_TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    finish(call, code, text);
}

void rpc_call_fail(struct rpc_call *call,
                   enum base_code code,
                   const struct base_err *err)
{
    finish(call, rpc_code_of(code),
           err != NULL ? err->text : base_code_text(code));
}

void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *message)
{
    if (rpc_call_send(call, message) != RPC_SENT_NOT) {
        finish(call, RPC_OK, "");
    }
}
