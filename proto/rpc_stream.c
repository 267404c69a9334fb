/* Streams of a client.
 *
 *   open --> headers: sent, and received        \
 *        --> RECV_STATUS at once                 > all three end, and no write is
 *        --> RECV_MESSAGE, until there is none  /  under way: on_done, and the
 *                                                  ref of the stream's own goes
 *
 * All of them complete on the loop's one thread, which runs the callbacks, so
 * these cannot overlap.  Sends begin on any thread, under the stream's lock. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "proto/rpc_client_impl.h"

typedef void (*answer_fn)(void *ctx,
                          const ProtobufCMessage *answer,
                          const struct rpc_status *status);

struct rpc_stream {
    atomic_uint n_refs;
    struct rpc_channel *channel;
    const struct rpc_stream_events *events;
    void *ctx;
    const ProtobufCMethodDescriptor *method;
    struct rpc_live live; /* core's call stands until all has ended */
    struct rpc_tag headers_tag;
    struct rpc_tag status_tag;
    struct rpc_tag read_tag;
    struct rpc_tag write_tag;
    grpc_metadata_array initial;
    grpc_metadata_array trailing;
    grpc_status_code code;
    grpc_slice text;
    grpc_byte_buffer *received; /* owner: the loop */
    ProtobufCMessage *answer;   /* owner: the loop; of a unary call */
    answer_fn on_answer;        /* not NULL: it is one */
    bool has_told_headers;      /* owner: the loop */
    struct rpc_status refusal;  /* owner: the loop; why we gave up, or OK */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    bool has_headers;
    bool has_status;
    bool has_read_all;
    bool is_reading;
    bool is_telling; /* a message: the next is read when on_message returned */
    bool is_paused;
    bool is_writing;
    bool is_cancelled;
    bool wants_half_close;
    bool has_half_closed;
    bool has_ended;
    struct rpc_outbox outbox;
    grpc_byte_buffer *sending;
};

struct rpc_stream *rpc_stream_ref(struct rpc_stream *stream)
{
    (void)atomic_fetch_add_explicit(&stream->n_refs, 1, memory_order_relaxed);
    return stream;
}

void rpc_stream_unref(struct rpc_stream *stream)
{
    if (stream == NULL || atomic_fetch_sub_explicit(
                              &stream->n_refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    rpc_message_free(stream->answer);
    rpc_outbox_clear(&stream->outbox);
    grpc_metadata_array_destroy(&stream->initial);
    grpc_metadata_array_destroy(&stream->trailing);
    grpc_slice_unref(stream->text);
    (void)pthread_mutex_destroy(&stream->lock);
    free(stream);
}

/* Lock held. */
static void start_batch(struct rpc_stream *stream,
                        const grpc_op *ops,
                        size_t n_ops,
                        struct rpc_tag *tag)
{
    rpc_hand_over(tag);
    /* Nothing of it can be illegal: the metadata have been looked at. */
    if (grpc_call_start_batch(stream->live.core, ops, n_ops, tag, NULL) !=
        GRPC_CALL_OK) {
        abort();
    }
}

/* Lock held. */
static void read_next(struct rpc_stream *stream)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE};

    if (stream->is_reading || stream->is_telling || stream->has_read_all ||
        (stream->is_paused && !stream->is_cancelled)) {
        return;
    }
    op.data.recv_message.recv_message = &stream->received;
    stream->is_reading = true;
    start_batch(stream, &op, 1, &stream->read_tag);
}

/* Lock held. */
static void write_next(struct rpc_stream *stream)
{
    struct rpc_packed *first = rpc_outbox_first(&stream->outbox);
    grpc_op ops[2];
    size_t n = 0;

    if (stream->is_writing || stream->has_half_closed || stream->has_ended) {
        return;
    }
    memset(ops, 0, sizeof(ops));
    if (first != NULL) {
        stream->sending = rpc_packed_buffer(first);
        ops[n].op = GRPC_OP_SEND_MESSAGE;
        ops[n++].data.send_message.send_message = stream->sending;
    }
    if (stream->wants_half_close && !rpc_outbox_has_more(&stream->outbox)) {
        ops[n++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
        stream->has_half_closed = true;
    }
    if (n != 0) {
        stream->is_writing = true;
        start_batch(stream, ops, n, &stream->write_tag);
    }
}

static void tell_end(struct rpc_stream *stream)
{
    struct rpc_status status;

    rpc_status_take(&status, stream->code, stream->text);
    if (stream->refusal.code != RPC_OK) {
        status = stream->refusal;
    } else if (stream->on_answer != NULL && stream->answer == NULL &&
               status.code == RPC_OK) {
        rpc_status_set(&status, RPC_INTERNAL, "there is no answer");
    }
    if (stream->on_answer != NULL) {
        stream->on_answer(stream->ctx,
                          status.code == RPC_OK ? stream->answer : NULL,
                          &status);
    } else if (stream->events->on_done != NULL) {
        stream->events->on_done(stream, stream->ctx, &status);
    }
}

static void tell_headers(struct rpc_stream *stream)
{
    if (!stream->has_told_headers && stream->events->on_headers != NULL) {
        stream->events->on_headers(stream, stream->ctx);
    }
    stream->has_told_headers = true;
}

/* Lock held, and given up.  The stream's own ref goes with the end. */
static void settle(struct rpc_stream *stream)
{
    struct rpc_channel *channel = stream->channel;

    if (stream->has_ended || !stream->has_headers || !stream->has_status ||
        !stream->has_read_all || stream->is_writing) {
        (void)pthread_mutex_unlock(&stream->lock);
        return;
    }
    stream->has_ended = true;
    (void)pthread_mutex_unlock(&stream->lock);
    tell_end(stream);
    /* Last: the channel may be gone after it. */
    rpc_channel_end(channel, &stream->live, NULL);
    rpc_stream_unref(stream);
}

static void on_headers(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_stream *stream =
        rpc_container(tag, struct rpc_stream, headers_tag);

    if (is_ok) {
        tell_headers(stream);
    }
    (void)pthread_mutex_lock(&stream->lock);
    stream->has_headers = true;
    settle(stream);
}

static void on_status(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_stream *stream =
        rpc_container(tag, struct rpc_stream, status_tag);

    (void)is_ok; /* this one always is */
    (void)pthread_mutex_lock(&stream->lock);
    stream->has_status = true;
    rpc_outbox_clear(&stream->outbox); /* nobody takes it any more */
    settle(stream);
}

/* Is what came good?  Else the stream ends with what is wrong. */
static void tell_message(struct rpc_stream *stream)
{
    ProtobufCMessage *message = NULL;
    struct base_err err = {0};
    enum base_code rc;

    if (stream->refusal.code != RPC_OK) {
        return; /* what came behind a bad one */
    }
    rc = rpc_message_read(stream->method->output, stream->channel->check,
                          stream->received, &message, &err);
    if (rc != BASE_OK) {
        rpc_status_set(&stream->refusal, RPC_INTERNAL, err.text);
        rpc_stream_cancel(stream);
        return;
    }
    if (stream->on_answer != NULL) {
        rpc_message_free(stream->answer); /* one is enough */
        stream->answer = message;
        return;
    }
    tell_headers(stream);
    if (stream->events->on_message != NULL) {
        stream->events->on_message(stream, stream->ctx, message);
    }
    rpc_message_free(message);
}

static void on_read(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_stream *stream = rpc_container(tag, struct rpc_stream, read_tag);
    const bool has_message = stream->received != NULL;

    (void)pthread_mutex_lock(&stream->lock);
    stream->is_reading = false;
    stream->is_telling = has_message;
    (void)pthread_mutex_unlock(&stream->lock);
    if (has_message) {
        tell_message(stream);
        grpc_byte_buffer_destroy(stream->received);
        stream->received = NULL;
    }
    (void)pthread_mutex_lock(&stream->lock);
    stream->is_telling = false;
    stream->has_read_all = !is_ok || !has_message;
    read_next(stream);
    settle(stream);
}

static void on_written(struct rpc_tag *tag, bool is_ok)
{
    struct rpc_stream *stream =
        rpc_container(tag, struct rpc_stream, write_tag);
    bool is_writable = false;

    (void)pthread_mutex_lock(&stream->lock);
    if (stream->sending != NULL) {
        grpc_byte_buffer_destroy(stream->sending);
        stream->sending = NULL;
        is_writable = rpc_outbox_pop(&stream->outbox) && is_ok;
    }
    if (!is_ok) {
        rpc_outbox_clear(&stream->outbox);
    }
    if (is_writable && stream->events->on_writable != NULL) {
        (void)pthread_mutex_unlock(&stream->lock);
        stream->events->on_writable(stream, stream->ctx);
        (void)pthread_mutex_lock(&stream->lock);
    }
    stream->is_writing = false; /* now: the end may not come in between */
    write_next(stream);
    settle(stream);
}

static void start(struct rpc_stream *stream, struct rpc_start *begin)
{
    grpc_op ops[2];

    (void)pthread_mutex_lock(&stream->lock);
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[0].flags = begin->flags;
    ops[0].data.send_initial_metadata.count = begin->n_metadata;
    ops[0].data.send_initial_metadata.metadata = &begin->metadata;
    ops[1].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[1].data.recv_initial_metadata.recv_initial_metadata = &stream->initial;
    start_batch(stream, ops, 2, &stream->headers_tag);
    memset(ops, 0, sizeof(ops));
    ops[0].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[0].data.recv_status_on_client.trailing_metadata = &stream->trailing;
    ops[0].data.recv_status_on_client.status = &stream->code;
    ops[0].data.recv_status_on_client.status_details = &stream->text;
    start_batch(stream, ops, 1, &stream->status_tag);
    read_next(stream);
    (void)pthread_mutex_unlock(&stream->lock);
}

/* Lock held. */
static void
cancel(struct rpc_stream *stream, enum rpc_code code, const char *text)
{
    if (stream->has_ended) {
        return;
    }
    stream->is_cancelled = true;
    (void)grpc_call_cancel_with_status(stream->live.core,
                                       (grpc_status_code)code, text, NULL);
    read_next(stream); /* if it was paused: the end is to come */
}

static void cancel_live(struct rpc_live *live)
{
    rpc_stream_cancel(rpc_container(live, struct rpc_stream, live));
}

void rpc_stream_cancel(struct rpc_stream *stream)
{
    (void)pthread_mutex_lock(&stream->lock);
    cancel(stream, RPC_CANCELLED, "cancelled");
    (void)pthread_mutex_unlock(&stream->lock);
}

static struct rpc_stream *stream_create(struct rpc_channel *channel,
                                        const struct rpc_stream_events *events,
                                        void *ctx)
{
    struct rpc_stream *stream = calloc(1, sizeof(*stream));

    if (stream == NULL) {
        return NULL;
    }
    atomic_init(&stream->n_refs, 1);
    stream->channel = channel;
    stream->events = events;
    stream->ctx = ctx;
    stream->live.cancel = cancel_live;
    stream->headers_tag.run = on_headers;
    stream->status_tag.run = on_status;
    stream->read_tag.run = on_read;
    stream->write_tag.run = on_written;
    stream->text = grpc_empty_slice();
    (void)pthread_mutex_init(&stream->lock, NULL);
    rpc_outbox_init(&stream->outbox, channel->send_high_bytes,
                    channel->send_max_bytes);
    grpc_metadata_array_init(&stream->initial);
    grpc_metadata_array_init(&stream->trailing);
    return stream;
}

/* Begin; on success the layer has a ref of its own.  *ret (may be NULL) is set
 * before callbacks can come. */
static enum base_code open_stream(struct rpc_stream *stream,
                                  const ProtobufCServiceDescriptor *service,
                                  const char *method,
                                  const struct rpc_call_options *options,
                                  unsigned timeout_ms,
                                  struct rpc_stream **ret,
                                  struct base_err *err)
{
    __attribute__((cleanup(rpc_start_done))) struct rpc_start begin = {0};

    BASE_TRY(rpc_channel_begin(stream->channel, service, method, options,
                               timeout_ms, rpc_loop_queue(), &begin,
                               &stream->live, err));
    stream->method = begin.method;
    if (ret != NULL) {
        *ret = rpc_stream_ref(stream);
    }
    start(rpc_stream_ref(stream), &begin);
    return BASE_OK;
}

enum base_code rpc_stream_open(struct rpc_channel *channel,
                               const ProtobufCServiceDescriptor *service,
                               const char *method,
                               const struct rpc_call_options *options,
                               const struct rpc_stream_events *events,
                               void *ctx,
                               struct rpc_stream **ret,
                               struct base_err *err)
{
    struct rpc_stream *stream = stream_create(channel, events, ctx);
    enum base_code rc;

    if (stream == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open a stream");
    }
    rc = open_stream(stream, service, method, options, 0, ret, err);
    rpc_stream_unref(stream);
    return rc;
}

enum rpc_sent rpc_stream_send_packed(struct rpc_stream *stream,
                                     struct rpc_packed *packed)
{
    enum rpc_sent sent = RPC_SENT_NOT;

    (void)pthread_mutex_lock(&stream->lock);
    if (!stream->has_status && !stream->is_cancelled &&
        !stream->wants_half_close) {
        sent = rpc_outbox_add(&stream->outbox, packed);
        if (sent == RPC_SENT_NOT) {
            cancel(stream, RPC_RESOURCE_EXHAUSTED,
                   "the server reads too slowly");
        } else {
            write_next(stream);
        }
    }
    (void)pthread_mutex_unlock(&stream->lock);
    return sent;
}

enum rpc_sent rpc_stream_send(struct rpc_stream *stream,
                              const ProtobufCMessage *message)
{
    struct rpc_packed *packed = rpc_packed_create(message);
    enum rpc_sent sent;

    if (packed == NULL) {
        rpc_stream_cancel(stream);
        return RPC_SENT_NOT;
    }
    sent = rpc_stream_send_packed(stream, packed);
    rpc_packed_unref(packed);
    return sent;
}

void rpc_stream_half_close(struct rpc_stream *stream)
{
    (void)pthread_mutex_lock(&stream->lock);
    stream->wants_half_close = true;
    write_next(stream);
    (void)pthread_mutex_unlock(&stream->lock);
}

void rpc_stream_pause(struct rpc_stream *stream, bool is_paused)
{
    (void)pthread_mutex_lock(&stream->lock);
    stream->is_paused = is_paused;
    if (!stream->has_ended) {
        read_next(stream);
    }
    (void)pthread_mutex_unlock(&stream->lock);
}

enum base_code rpc_unary_start(struct rpc_channel *channel,
                               const ProtobufCServiceDescriptor *service,
                               const char *method,
                               const ProtobufCMessage *message,
                               const struct rpc_call_options *options,
                               void (*on_done)(void *ctx,
                                               const ProtobufCMessage *answer,
                                               const struct rpc_status *status),
                               void *ctx,
                               struct base_err *err)
{
    static const struct rpc_stream_events no_events;
    struct rpc_stream *stream = stream_create(channel, &no_events, ctx);
    enum base_code rc;

    if (stream == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open a stream");
    }
    stream->on_answer = on_done;
    rc = open_stream(stream, service, method, options, RPC_TIMEOUT_MS, NULL,
                     err);
    if (rc == BASE_OK) {
        (void)rpc_stream_send(stream, message); /* on_done says what became */
        rpc_stream_half_close(stream);
    }
    rpc_stream_unref(stream);
    return rc;
}
