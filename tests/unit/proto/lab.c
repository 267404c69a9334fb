#include "tests/unit/proto/lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/num.h"
#include "tests/unit/unit.h"

extern const unsigned char lab_descriptors[];
extern const size_t lab_descriptors_bytes;

/* What a handler keeps of a call. */
struct seen {
    atomic_uint n_inside;
    atomic_bool is_closed;
    int64_t sum;
    int64_t n_left; /* of Count */
    uint32_t body_bytes;
};

static struct lab *lab_of(struct rpc_call *call)
{
    return rpc_call_ctx(call);
}

static struct seen *enter(struct rpc_call *call)
{
    struct seen *seen = rpc_call_data(call);

    if (seen == NULL) {
        seen = calloc(1, sizeof(*seen));
        assert_non_null(seen);
        rpc_call_set_data(call, seen);
        (void)atomic_fetch_add(&lab_of(call)->n_opened, 1);
    }
    if (atomic_fetch_add(&seen->n_inside, 1) != 0) {
        (void)atomic_fetch_add(&lab_of(call)->n_overlaps, 1);
    }
    if (atomic_load(&seen->is_closed)) {
        (void)atomic_fetch_add(&lab_of(call)->n_late, 1);
    }
    return seen;
}

static void leave(struct seen *seen)
{
    (void)atomic_fetch_sub(&seen->n_inside, 1);
}

static const Lab__Note *note_of(const ProtobufCMessage *message)
{
    return (const Lab__Note *)(const void *)message;
}

static void on_close(struct rpc_call *call, bool was_cancelled)
{
    struct lab *lab = lab_of(call);
    struct seen *seen = enter(call);

    (void)atomic_fetch_add(&lab->n_cancelled, was_cancelled);
    (void)atomic_fetch_add(&lab->n_closed, 1);
    free(seen);
    rpc_call_set_data(call, NULL);
}

static void echo(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct lab *lab = lab_of(call);
    struct seen *seen = enter(call);

    (void)pthread_mutex_lock(&lab->lock);
    while (atomic_load(&lab->is_gate_shut)) {
        (void)pthread_cond_wait(&lab->changed, &lab->lock);
    }
    (void)pthread_mutex_unlock(&lab->lock);
    if (note_of(message)->number < 0) {
        struct base_err err;

        (void)base_fail(&err, BASE_NOT_FOUND, "no note %lld",
                        (long long)note_of(message)->number);
        rpc_call_fail(call, BASE_NOT_FOUND, &err);
    } else {
        rpc_call_reply(call, message);
    }
    leave(seen);
}

/* Send until it is full or done. */
static void count_on(struct rpc_call *call, struct seen *seen)
{
    Lab__Note note = LAB__NOTE__INIT;
    BASE_AUTO_MEM uint8_t *body = calloc(1, seen->body_bytes + 1U);
    enum rpc_sent sent = RPC_SENT;

    assert_non_null(body);
    note.body = (ProtobufCBinaryData){seen->body_bytes, body};
    while (sent == RPC_SENT && seen->n_left > 0) {
        note.number = seen->n_left--;
        sent = rpc_call_send(call, &note.base);
    }
    (void)atomic_fetch_add(&lab_of(call)->n_full, sent == RPC_SENT_FULL);
    if (seen->n_left == 0) {
        rpc_call_finish(call, RPC_OK, "%s", "");
    }
}

static void count(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Lab__CountRequest *request =
        (const Lab__CountRequest *)(const void *)message;
    struct seen *seen = enter(call);

    seen->n_left = request->n;
    seen->body_bytes = request->body_bytes;
    count_on(call, seen);
    leave(seen);
}

static void count_writable(struct rpc_call *call)
{
    struct seen *seen = enter(call);

    count_on(call, seen);
    leave(seen);
}

static void sum(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct seen *seen = enter(call);

    seen->sum += note_of(message)->number;
    leave(seen);
}

static void sum_end(struct rpc_call *call)
{
    struct seen *seen = enter(call);
    Lab__Note note = LAB__NOTE__INIT;

    note.number = seen->sum;
    rpc_call_reply(call, &note.base);
    leave(seen);
}

static void chat_open(struct rpc_call *call)
{
    struct seen *seen = enter(call);

    rpc_call_send_headers(call);
    leave(seen);
}

static void chat(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct seen *seen = enter(call);

    if (rpc_call_send(call, message) == RPC_SENT_FULL) {
        rpc_call_pause(call, true);
    }
    leave(seen);
}

static void chat_writable(struct rpc_call *call)
{
    struct seen *seen = enter(call);

    rpc_call_pause(call, false);
    leave(seen);
}

static void chat_end(struct rpc_call *call)
{
    struct seen *seen = enter(call);

    rpc_call_finish(call, RPC_OK, "%s", "");
    leave(seen);
}

static void hold(struct rpc_call *call, const ProtobufCMessage *message)
{
    struct seen *seen = enter(call);

    (void)message;
    rpc_call_send_headers(call);
    leave(seen);
}

#define LAB_METHODS(more)                                                      \
    {                                                                          \
        {.name = "Echo",                                                       \
         .kind = RPC_UNARY,                                                    \
         .flags = (more),                                                      \
         .role = 1,                                                            \
         .on_message = echo,                                                   \
         .on_close = on_close},                                                \
            {.name = "Count",                                                  \
             .kind = RPC_SERVER_STREAM,                                        \
             .flags = (more),                                                  \
             .on_message = count,                                              \
             .on_writable = count_writable,                                    \
             .on_close = on_close},                                            \
            {.name = "Sum",                                                    \
             .kind = RPC_CLIENT_STREAM,                                        \
             .flags = (more),                                                  \
             .on_message = sum,                                                \
             .on_half_close = sum_end,                                         \
             .on_close = on_close},                                            \
            {.name = "Chat",                                                   \
             .kind = RPC_BIDI,                                                 \
             .flags = (more),                                                  \
             .on_open = chat_open,                                             \
             .on_message = chat,                                               \
             .on_half_close = chat_end,                                        \
             .on_writable = chat_writable,                                     \
             .on_close = on_close},                                            \
        {                                                                      \
            .name = "Hold", .kind = RPC_SERVER_STREAM,                         \
            .flags = (more) | RPC_LONG, .max_ms = 30000, .on_message = hold,   \
            .on_close = on_close                                               \
        }                                                                      \
    }
static const struct rpc_method on_workers[] = LAB_METHODS(0);
static const struct rpc_method on_pollers[] = LAB_METHODS(RPC_INLINE);

void lab_start(struct lab *lab, const struct lab_options *options)
{
    static const struct lab_options standard;
    const struct lab_options *how = options != NULL ? options : &standard;
    struct rpc_server_options server_options = how->server;
    static struct rpc_service services[2]; /* the server borrows them */
    struct rpc_service *service = &services[how->is_inline];
    struct base_err err = {0};
    char address[80] = "127.0.0.1:0";
    int port = 0;

    memset(lab, 0, sizeof(*lab));
    (void)pthread_mutex_init(&lab->lock, NULL);
    (void)pthread_cond_init(&lab->changed, NULL);
    server_options.descriptors =
        (struct base_str){(const char *)lab_descriptors, lab_descriptors_bytes};
    assert_ok(rpc_server_create(&server_options, &lab->server, &err), &err);
    *service = (struct rpc_service){
        .descriptor = LAB_SERVICE,
        .methods = how->is_inline ? on_pollers : on_workers,
        .n_methods = N_ITEMS(on_workers),
        .ctx = lab,
    };
    assert_ok(
        rpc_server_add_service(
            lab->server, how->service != NULL ? how->service : service, &err),
        &err);
    if (how->address != NULL && strcmp(how->address, "unix") == 0) {
        (void)snprintf(lab->dir, sizeof(lab->dir), "/tmp/retile-rpc.XXXXXX");
        assert_non_null(mkdtemp(lab->dir));
        (void)snprintf(address, sizeof(address), "unix:%s/s", lab->dir);
    } else if (how->address != NULL) {
        (void)snprintf(address, sizeof(address), "%s", how->address);
    }
    assert_ok(
        rpc_server_listen(lab->server, address, how->server_tls, &port, &err),
        &err);
    assert_ok(rpc_server_start(lab->server, &err), &err);
    if (port == 0) {
        (void)snprintf(lab->target, sizeof(lab->target), "%s", address);
    } else {
        (void)snprintf(lab->target, sizeof(lab->target), "127.0.0.1:%d", port);
    }
    assert_ok(rpc_channel_open(lab->target, &how->channel, &lab->channel, &err),
              &err);
}

void lab_stop(struct lab *lab)
{
    rpc_channel_free(lab->channel);
    rpc_server_free(lab->server);
    assert_int_equal(atomic_load(&lab->n_overlaps), 0);
    assert_int_equal(atomic_load(&lab->n_late), 0);
    assert_int_equal(atomic_load(&lab->n_opened), atomic_load(&lab->n_closed));
    if (lab->dir[0] != '\0') {
        assert_int_equal(rmdir(lab->dir), 0); /* the socket is gone */
    }
    (void)pthread_cond_destroy(&lab->changed);
    (void)pthread_mutex_destroy(&lab->lock);
}

enum base_code lab_unix_only(void *ctx,
                             const struct rpc_peer *peer,
                             const struct rpc_method *method,
                             struct base_err *err)
{
    (void)ctx;
    return rpc_peer_is_unix(peer)
               ? BASE_OK
               : base_fail(err, BASE_DENIED, "%s: come by the socket",
                           method->name);
}

enum base_code lab_echo(struct rpc_channel *channel,
                        int64_t number,
                        size_t body_bytes,
                        const struct rpc_call_options *options,
                        struct base_err *err)
{
    Lab__Note note = LAB__NOTE__INIT;
    BASE_AUTO_MEM uint8_t *body = calloc(1, body_bytes + 1);
    ProtobufCMessage *answer = NULL;
    enum base_code rc;

    assert_non_null(body);
    note.number = number;
    note.body = (ProtobufCBinaryData){body_bytes, body};
    rc = rpc_unary(channel, LAB_SERVICE, "Echo", &note.base, options, &answer,
                   err);
    if (rc == BASE_OK) {
        assert_int_equal(note_of(answer)->number, number);
        assert_int_equal(note_of(answer)->body.len, body_bytes);
        rpc_message_free(answer);
    }
    return rc;
}

bool lab_wait(bool (*is_done)(void *ctx), void *ctx)
{
    const struct timespec pause = {0, 1000000};
    struct timespec left;

    for (int i = 0; i < LAB_WAIT_MS; i++) {
        if (is_done(ctx)) {
            return true;
        }
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, &left);
    }
    return is_done(ctx);
}

struct wanted {
    const atomic_uint *counter;
    unsigned wanted;
};

static bool has_count(void *ctx)
{
    const struct wanted *wanted = ctx;

    return atomic_load(wanted->counter) >= wanted->wanted;
}

bool lab_wait_count(const atomic_uint *counter, unsigned wanted)
{
    struct wanted ctx = {counter, wanted};

    return lab_wait(has_count, &ctx);
}

uint64_t lab_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t number;

    return text != NULL && base_parse_u64(base_str_of(text), &number)
               ? number
               : otherwise;
}

/* Streams. */

static void stream_headers(struct rpc_stream *stream, void *ctx)
{
    struct lab_stream *seen = ctx;

    (void)stream;
    (void)atomic_fetch_add(&seen->n_headers, 1);
}

static void stream_message(struct rpc_stream *stream,
                           void *ctx,
                           const ProtobufCMessage *message)
{
    struct lab_stream *seen = ctx;

    if (atomic_load(&seen->pauses)) {
        rpc_stream_pause(stream, true);
    }
    (void)atomic_fetch_add(&seen->sum, note_of(message)->number);
    (void)atomic_fetch_add(&seen->n_messages, 1);
}

static void stream_writable(struct rpc_stream *stream, void *ctx)
{
    struct lab_stream *seen = ctx;

    (void)stream;
    (void)atomic_fetch_add(&seen->n_writable, 1);
}

static void stream_done(struct rpc_stream *stream,
                        void *ctx,
                        const struct rpc_status *status)
{
    struct lab_stream *seen = ctx;

    (void)stream;
    seen->status = *status;
    (void)atomic_fetch_add(&seen->n_done, 1);
}

void lab_open(struct rpc_channel *channel,
              const char *method,
              const struct rpc_call_options *options,
              struct lab_stream *stream)
{
    static const struct rpc_stream_events events = {
        .on_headers = stream_headers,
        .on_message = stream_message,
        .on_writable = stream_writable,
        .on_done = stream_done,
    };
    struct base_err err = {0};

    memset(stream, 0, sizeof(*stream));
    assert_ok(rpc_stream_open(channel, LAB_SERVICE, method, options, &events,
                              stream, &stream->stream, &err),
              &err);
}

enum rpc_sent
lab_send(struct lab_stream *stream, int64_t number, size_t body_bytes)
{
    Lab__Note note = LAB__NOTE__INIT;
    BASE_AUTO_MEM uint8_t *body = calloc(1, body_bytes + 1);

    assert_non_null(body);
    note.number = number;
    note.body = (ProtobufCBinaryData){body_bytes, body};
    return rpc_stream_send(stream->stream, &note.base);
}

enum rpc_code lab_finish(struct lab_stream *stream)
{
    assert_true(lab_wait_count(&stream->n_done, 1));
    rpc_stream_unref(stream->stream);
    return stream->status.code;
}
