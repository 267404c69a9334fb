/* What the files of the client share; for proto/rpc*.c alone.
 *
 * Locks: a stream's and the loop's may be taken under a channel's. */
#ifndef PROTO_RPC_CLIENT_IMPL_H
#define PROTO_RPC_CLIENT_IMPL_H

#include "proto/rpc_client.h"
#include "proto/rpc_impl.h"

enum { RPC_TIMEOUT_MS = 10000, RPC_ASK_NS = 100000000 };

/* The process's one loop of clients: a queue and the thread that runs the
 * callbacks of streams, and the queues that blocking calls wait on, kept for
 * the next ones.  Lives as long as there is a channel. */
bool rpc_loop_ref(void); /* false: no thread */
void rpc_loop_unref(void);
grpc_completion_queue *rpc_loop_queue(void);
bool rpc_loop_is_me(void); /* is this its thread? */
grpc_completion_queue *rpc_pluck_take(void);
void rpc_pluck_give(grpc_completion_queue *queue);

/* A call that is under way: its channel can cancel it. */
struct rpc_live {
    struct rpc_live *next;
    struct rpc_live **slot;
    grpc_call *core;
    void (*cancel)(struct rpc_live *live); /* of a stream; else NULL */
};

struct rpc_channel {
    grpc_channel *core;
    char *name; /* "the coordinator at 127.0.0.1:7070" */
    rpc_check_fn check;
    size_t send_high_bytes;
    size_t send_max_bytes;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct rpc_live *calls; /* guarded by lock */
    bool is_closing;        /* guarded by lock */
};

/* Everything that begins a call.  *metadata must stand during the first batch;
 * it holds @n_metadata pairs then.
 * Errors: BASE_BAD_ARG      no such method, or an illegal token
 *         BASE_INTERRUPTED  the channel is being freed */
struct rpc_start {
    const ProtobufCMethodDescriptor *method;
    char *token; /* the header's value */
    grpc_metadata metadata;
    size_t n_metadata;
    uint32_t flags; /* of SEND_INITIAL_METADATA */
};
enum base_code rpc_channel_begin(struct rpc_channel *channel,
                                 const ProtobufCServiceDescriptor *service,
                                 const char *method,
                                 const struct rpc_call_options *options,
                                 unsigned default_timeout_ms,
                                 grpc_completion_queue *queue,
                                 struct rpc_start *start,
                                 struct rpc_live *live,
                                 struct base_err *err) BASE_MUST_CHECK;
void rpc_start_done(struct rpc_start *start);
/* The call is over: let core's part go, and the queue that was waited on (NULL:
 * the loop's).  The channel may be gone afterwards, and the layer with it. */
void rpc_channel_end(struct rpc_channel *channel,
                     struct rpc_live *live,
                     grpc_completion_queue *pluck);

#endif
