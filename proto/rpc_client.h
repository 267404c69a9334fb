/* A client: a channel to one server, and calls of the four kinds on it.
 *
 * A channel connects when it is first used, and again by itself (after 100 ms
 * to 5 s).  Calls are made by descriptor and name:
 *
 *   rpc_unary(channel, &retile__v1__jobs__descriptor, "Get", &in.base, ...)
 *
 * Callbacks of streams and of rpc_unary_start run on one thread of the layer,
 * the same for all channels of the process: they must not block, nor call
 * rpc_unary, rpc_follow or rpc_channel_free.
 *
 * UNAVAILABLE (BASE_UNREACHABLE) and DEADLINE_EXCEEDED (BASE_TIMEOUT) leave open
 * whether the server did what was asked: repeat only what may be done twice. */
#ifndef PROTO_RPC_CLIENT_H
#define PROTO_RPC_CLIENT_H

#include "proto/rpc.h"

struct rpc_channel;
struct rpc_stream;

/* Zero is the default of each. */
struct rpc_channel_options {
    const char *what; /* what errors call the server: "the coordinator" */
    const struct rpc_tls
        *tls;                 /* NULL: plain, to a socket or to loopback only */
    rpc_check_fn check;       /* NULL: messages are only decoded */
    size_t max_message_bytes; /* 64 MiB of an answer, which may be a whole list;
                                 decoded it may take 16 times that */
    size_t send_high_bytes;   /* 256 KiB of a stream wait: RPC_SENT_FULL */
    size_t send_max_bytes;    /* 8 MiB wait: the stream is cancelled */
    unsigned keepalive_ms;    /* 20000 */
    unsigned keepalive_timeout_ms; /* 10000 */
    bool
        has_own_connection; /* else channels of equal target and options share one */
};

/* Cancel the channel's calls and wait until their last callbacks have returned.
 * NULL is fine. */
void rpc_channel_free(struct rpc_channel *channel);
BASE_AUTO_DEFINE(rpc_channel);

/* Does not connect yet.  @target: proto/rpc.h; options are copied.  *ret is
 * given; free with rpc_channel_free.
 * Errors: BASE_BAD_ARG  malformed target
 *         BASE_DENIED   neither a socket nor loopback, and no tls
 *         BASE_NOT_FOUND, BASE_BAD_INPUT, BASE_IO  certificates
 *         BASE_NO_MEM */
enum base_code rpc_channel_open(const char *target,
                                const struct rpc_channel_options *options,
                                struct rpc_channel **ret,
                                struct base_err *err) BASE_MUST_CHECK;
/* "the coordinator at 127.0.0.1:7070".  The channel's. */
const char *rpc_channel_name(const struct rpc_channel *channel);

/* May be NULL where a function takes them.  Borrowed during the call. */
struct rpc_call_options {
    unsigned timeout_ms; /* 0: 10000; of streams: none */
    const char *token;   /* sent as "authorization: Bearer TOKEN" */
    bool wait_for_ready; /* wait for a server that cannot be reached, until the
                            deadline; else fail at once */
    /* Of what blocks: asked every 100 ms; true ends the call. */
    bool (*is_interrupted)(void);
    enum rpc_code
        *ret_code; /* of what blocks: the code on the wire, if asked for */
};

/* Call a unary method and wait.  *ret (may be NULL) is given on success; free
 * with rpc_message_free.
 * Errors: rpc_code_base() of the server's or the layer's status, with a text
 *         that says what a person can act on:
 *         BASE_UNREACHABLE  "cannot reach the coordinator at 127.0.0.1:7070:
 *                           connection refused"
 *         BASE_TIMEOUT      "the coordinator at ... has not answered in time"
 *         BASE_IO           also: an answer that the channel's check refuses
 *         BASE_INTERRUPTED  is_interrupted, or the channel was freed */
enum base_code rpc_unary(struct rpc_channel *channel,
                         const ProtobufCServiceDescriptor *service,
                         const char *method,
                         const ProtobufCMessage *message,
                         const struct rpc_call_options *options,
                         ProtobufCMessage **ret,
                         struct base_err *err) BASE_MUST_CHECK;

/* Call a method that answers with a stream, and hand each message (borrowed) to
 * @on_message on the caller's thread; false ends the call and is BASE_OK, as
 * the stream's end is.  Errors: as rpc_unary. */
enum base_code rpc_follow(struct rpc_channel *channel,
                          const ProtobufCServiceDescriptor *service,
                          const char *method,
                          const ProtobufCMessage *message,
                          const struct rpc_call_options *options,
                          bool (*on_message)(void *ctx,
                                             const ProtobufCMessage *message),
                          void *ctx,
                          struct base_err *err) BASE_MUST_CHECK;

/* Call a unary method; @on_done comes exactly once if this returned BASE_OK,
 * with the answer (borrowed), or with NULL and why.
 * Errors: BASE_NO_MEM */
enum base_code rpc_unary_start(struct rpc_channel *channel,
                               const ProtobufCServiceDescriptor *service,
                               const char *method,
                               const ProtobufCMessage *message,
                               const struct rpc_call_options *options,
                               void (*on_done)(void *ctx,
                                               const ProtobufCMessage *answer,
                                               const struct rpc_status *status),
                               void *ctx,
                               struct base_err *err) BASE_MUST_CHECK;

/* What a stream tells; a static const table.  Callbacks may be NULL. */
struct rpc_stream_events {
    /* The server has seen the call: it accepted it, or on_done comes at once. */
    void (*on_headers)(struct rpc_stream *stream, void *ctx);
    void (*on_message)(struct rpc_stream *stream,
                       void *ctx,
                       const ProtobufCMessage *message); /* borrowed */
    void (*on_writable)(struct rpc_stream *stream, void *ctx);
    /* Exactly once, the last. */
    void (*on_done)(struct rpc_stream *stream,
                    void *ctx,
                    const struct rpc_status *status);
};

/* Open a call of any kind.  Callbacks may come before this returns.  *ret (may
 * be NULL) is given: rpc_stream_unref, which ends nothing.
 * Errors: BASE_NO_MEM */
enum base_code rpc_stream_open(struct rpc_channel *channel,
                               const ProtobufCServiceDescriptor *service,
                               const char *method,
                               const struct rpc_call_options *options,
                               const struct rpc_stream_events *events,
                               void *ctx,
                               struct rpc_stream **ret,
                               struct base_err *err) BASE_MUST_CHECK;
struct rpc_stream *rpc_stream_ref(struct rpc_stream *stream);
void rpc_stream_unref(struct rpc_stream *stream); /* NULL is fine */

/* As rpc_call_send. */
enum rpc_sent rpc_stream_send(struct rpc_stream *stream,
                              const ProtobufCMessage *message);
enum rpc_sent rpc_stream_send_packed(struct rpc_stream *stream,
                                     struct rpc_packed *packed);
/* No more messages from us; what was sent still goes. */
void rpc_stream_half_close(struct rpc_stream *stream);
/* on_done follows, with CANCELLED unless the server was faster. */
void rpc_stream_cancel(struct rpc_stream *stream);
/* Read no further message until it is undone; the end of the call is not told
 * either before all messages were read. */
void rpc_stream_pause(struct rpc_stream *stream, bool is_paused);

/* Turn a status into an error as rpc_unary does; returns its code. */
enum base_code rpc_channel_fail(const struct rpc_channel *channel,
                                const struct rpc_status *status,
                                struct base_err *err);

#endif
