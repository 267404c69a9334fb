/* A server of lab.proto in this process, a channel to it, and what its
 * handlers have seen. */
#ifndef UNIT_PROTO_LAB_H
#define UNIT_PROTO_LAB_H

#include <pthread.h>
#include <stdatomic.h>

#include "proto/rpc_client.h"
#include "proto/rpc_server.h"
#include "tests/unit/proto/lab.pb-c.h"

enum { LAB_WAIT_MS = 20000 }; /* nothing is waited for longer */

#define LAB_SERVICE (&lab__lab__descriptor)

struct lab {
    struct rpc_server *server;
    struct rpc_channel *channel;
    char target[80];
    char dir[64]; /* of the socket; empty: TCP */
    /* What handlers have seen. */
    atomic_uint n_opened;
    atomic_uint n_closed;
    atomic_uint n_cancelled;
    atomic_uint n_overlaps;   /* callbacks of one call at the same time */
    atomic_uint n_late;       /* callbacks after on_close */
    atomic_uint n_full;       /* sends that were RPC_SENT_FULL */
    atomic_bool is_gate_shut; /* Echo waits for it to open */
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

struct lab_options {
    struct rpc_server_options server;
    struct rpc_channel_options channel;
    const struct rpc_tls *server_tls;
    const struct rpc_service *service; /* NULL: the lab's */
    const char *address; /* NULL: 127.0.0.1:0; "unix": a socket of its own */
    bool is_inline;      /* handlers run on pollers */
};

void lab_start(struct lab *lab, const struct lab_options *options);
void lab_stop(struct lab *lab); /* frees all; fails if handlers saw nonsense */

/* Authorises who comes by a socket. */
enum base_code lab_unix_only(void *ctx,
                             const struct rpc_peer *peer,
                             const struct rpc_method *method,
                             struct base_err *err);

/* Echo @number with @body_bytes; the answer's number is checked. */
enum base_code lab_echo(struct rpc_channel *channel,
                        int64_t number,
                        size_t body_bytes,
                        const struct rpc_call_options *options,
                        struct base_err *err);

/* Wait until @is_done says so; false: LAB_WAIT_MS have passed. */
bool lab_wait(bool (*is_done)(void *ctx), void *ctx);
/* Wait until a counter has a value. */
bool lab_wait_count(const atomic_uint *counter, unsigned wanted);

/* What the environment says; @otherwise when it does not. */
uint64_t lab_number(const char *name, uint64_t otherwise);

/* A stream of the client, and what it was told. */
struct lab_stream {
    struct rpc_stream *stream;
    atomic_uint n_headers;
    atomic_uint n_messages;
    atomic_llong sum; /* of the numbers that came */
    atomic_uint n_writable;
    atomic_uint n_done;
    atomic_bool pauses; /* after each message */
    struct rpc_status status;
};
void lab_open(struct rpc_channel *channel,
              const char *method,
              const struct rpc_call_options *options,
              struct lab_stream *stream);
enum rpc_sent
lab_send(struct lab_stream *stream, int64_t number, size_t body_bytes);
/* Wait for on_done, and let go. */
enum rpc_code lab_finish(struct lab_stream *stream);

#endif
