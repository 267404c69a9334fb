/* A server: methods as tables of callbacks, on any number of addresses.
 *
 *   create -> add_service ... listen ... -> start -> stop -> free
 *
 * Threads.  Pollers move bytes; they run the callbacks of RPC_INLINE methods,
 * which must not block.  Workers run all others.  The callbacks of one call
 * never overlap, and come in this order:
 *
 *   on_open, (on_message, ..., on_half_close), on_writable ..., on_close
 *
 * on_close is the last and comes exactly once, also after rpc_call_finish, when
 * the peer cancelled, the deadline passed, or the connection broke.  A call
 * that ends before it was opened has no callback.
 *
 * rpc_call_* may be called on any thread, with locks of the caller's held: none
 * of them calls back.  A call that is to be answered outside of its callbacks
 * is kept with rpc_call_ref.
 *
 * Who can connect can take memory, for core (1.51) looks at a message's size when
 * it has the whole of it, and bounds metadata by the frame, not in all.  The first
 * ends at 512 MiB for a server, the second nowhere: certificates, or a directory
 * of mode 0700, are what keeps strangers out.
 *
 * The standard services grpc.health.v1.Health and grpc.reflection (v1,
 * v1alpha) are always there. */
#ifndef PROTO_RPC_SERVER_H
#define PROTO_RPC_SERVER_H

#include "base/str.h"
#include "proto/rpc.h"

struct rpc_call;
struct rpc_peer;
struct rpc_server;

/* Flags of a method.  INLINE: its callbacks never block; run them on a poller.
 * LONG: it ends only when somebody ends it (a watch), so rpc_server_stop
 * finishes it with UNAVAILABLE. */
#define RPC_INLINE 1u
#define RPC_LONG   2u

/* One row per method, static const.  Callbacks may be NULL.  A message is
 * borrowed during the callback.  What is not listed is UNIMPLEMENTED. */
struct rpc_method {
    const char *name; /* as in the .proto */
    enum rpc_kind kind;
    unsigned flags;
    unsigned
        max_ms;    /* the call is ended then, whatever its deadline; 0: never */
    unsigned role; /* for the authorisation hook; the layer's own have 0 */
    void (*on_open)(struct rpc_call *call);
    void (*on_message)(struct rpc_call *call, const ProtobufCMessage *message);
    void (*on_half_close)(struct rpc_call *call); /* streams from the client */
    void (*on_writable)(struct rpc_call *call);   /* after RPC_SENT_FULL */
    void (*on_close)(struct rpc_call *call, bool was_cancelled);
};

/* Borrowed for the server's life. */
struct rpc_service {
    const ProtobufCServiceDescriptor *descriptor;
    const struct rpc_method *methods;
    size_t n_methods;
    void *ctx; /* rpc_call_ctx */
};

/* May @peer call @method?  On a poller: must not block.  Anything but BASE_OK
 * refuses: BASE_DENIED becomes PERMISSION_DENIED, or UNAUTHENTICATED when the
 * peer has shown neither a certificate nor a token. */
typedef enum base_code (*rpc_authorize_fn)(void *ctx,
                                           const struct rpc_peer *peer,
                                           const struct rpc_method *method,
                                           struct base_err *err);

/* Zero is the default of each. */
struct rpc_server_options {
    unsigned n_pollers; /* 2 */
    unsigned n_workers; /* 4 */
    unsigned
        max_queued; /* 1024 calls wait for a worker; more: RESOURCE_EXHAUSTED */
    unsigned max_calls;   /* 16384 are open */
    unsigned max_streams; /* 1024 on a connection; more wait at the client */
    size_t max_message_bytes;      /* 4 MiB; decoded it may take 16 times that;
                                 compressed ones are UNIMPLEMENTED */
    size_t send_high_bytes;        /* 256 KiB wait: RPC_SENT_FULL */
    size_t send_max_bytes;         /* 8 MiB wait: the call is ended */
    unsigned keepalive_ms;         /* 20000 without a frame: ping */
    unsigned keepalive_timeout_ms; /* 10000 without an answer, or until the
                                      handshake: closed */
    rpc_check_fn check;            /* NULL: messages are only decoded */
    rpc_authorize_fn authorize;    /* NULL: everybody may call everything */
    void *authorize_ctx;
    struct base_str
        descriptors; /* a FileDescriptorSet beside the product's own, for
                                    reflection and kinds; borrowed for ever */
};

void rpc_server_free(struct rpc_server *server); /* stops it, grace 0 */
BASE_AUTO_DEFINE(rpc_server);

/* Starts the layer, and raises the soft limit of open files to the hard one.
 * *ret is given; free with rpc_server_free.
 * Errors: BASE_NO_MEM */
enum base_code rpc_server_create(const struct rpc_server_options *options,
                                 struct rpc_server **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Before rpc_server_start.
 * Errors: BASE_BAD_ARG  a row's name or kind is not that of the .proto
 *         BASE_EXISTS   the service was added already
 *         BASE_NO_MEM */
enum base_code rpc_server_add_service(struct rpc_server *server,
                                      const struct rpc_service *service,
                                      struct base_err *err) BASE_MUST_CHECK;

/* Listen on one more address (proto/rpc.h); port 0 takes a free one.  Before
 * rpc_server_start.  @tls is NULL for unix sockets, and may be for loopback.
 * A socket file that no process listens on is replaced; the directory it lies
 * in must be nobody else's (mode 0700).  *ret_port (may be NULL): 0 for unix.
 * Errors: BASE_BAD_ARG  malformed address
 *         BASE_DENIED   not loopback, and no @tls; an open directory
 *         BASE_EXISTS   the address is in use
 *         BASE_NOT_FOUND, BASE_BAD_INPUT, BASE_IO  certificates, directory */
enum base_code rpc_server_listen(struct rpc_server *server,
                                 const char *address,
                                 const struct rpc_tls *tls,
                                 int *ret_port,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Start to accept.  Errors: BASE_NO_MEM, BASE_LIMIT (threads) */
enum base_code rpc_server_start(struct rpc_server *server,
                                struct base_err *err) BASE_MUST_CHECK;

/* What health says: SERVING from rpc_server_start on. */
void rpc_server_set_serving(struct rpc_server *server, bool is_serving);

/* Accept no more, finish RPC_LONG calls, let the others end for @grace_ms, then
 * cancel them; wait for every on_close.  Not from a callback.  A handler that
 * never returns keeps it for ever. */
void rpc_server_stop(struct rpc_server *server, unsigned grace_ms);

struct rpc_server_stats {
    uint64_t n_accepted; /* calls that had a method and were allowed */
    uint64_t n_refused;  /* calls that the layer answered itself */
    unsigned n_open;
    unsigned n_queued;
};
struct rpc_server_stats rpc_server_stats_get(struct rpc_server *server);

/* The other end of a call.  Valid as long as the call; texts are NULL when
 * there is none. */
const struct rpc_peer *rpc_call_peer(const struct rpc_call *call);
/* "ipv4:127.0.0.1:40112", "unix:" */
const char *rpc_peer_address(const struct rpc_peer *peer);
bool rpc_peer_is_unix(const struct rpc_peer *peer);
/* Did it show a certificate that our CA has signed? */
bool rpc_peer_is_verified(const struct rpc_peer *peer);
/* Of the certificate: the @i-th subject alternative name (URI, DNS, IP, e-mail),
 * at most 16; NULL: no more. */
const char *rpc_peer_name(const struct rpc_peer *peer, unsigned i);
bool rpc_peer_has_name(const struct rpc_peer *peer, const char *name);
const char *rpc_peer_common_name(const struct rpc_peer *peer);
/* What came as "authorization: Bearer ...".  Compare it in constant time. */
const char *rpc_peer_token(const struct rpc_peer *peer);

struct rpc_call *rpc_call_ref(struct rpc_call *call);
void rpc_call_unref(struct rpc_call *call);      /* NULL is fine */
void *rpc_call_ctx(const struct rpc_call *call); /* the service's */
void *
rpc_call_data(const struct rpc_call *call); /* the handler's; NULL at first */
void rpc_call_set_data(struct rpc_call *call,
                       void *data); /* in callbacks only */
/* In on_message, once: its message is the caller's then; free with
 * rpc_message_free. */
ProtobufCMessage *rpc_call_take(struct rpc_call *call);
const struct rpc_method *rpc_call_method(const struct rpc_call *call);
/* Is the call over, or was it cancelled?  What is sent is dropped then. */
bool rpc_call_is_over(struct rpc_call *call);
/* Until the deadline, the client's or max_ms, whichever is first; 0 when it has
 * passed, INT64_MAX when there is none. */
int64_t rpc_call_remaining_ms(const struct rpc_call *call);

/* Tell the client that the call was accepted, before the first message. */
void rpc_call_send_headers(struct rpc_call *call);
/* Queue a message; @message is borrowed. */
enum rpc_sent rpc_call_send(struct rpc_call *call,
                            const ProtobufCMessage *message);
enum rpc_sent rpc_call_send_packed(struct rpc_call *call,
                                   struct rpc_packed *packed);
/* Read no further message until it is undone.  Streams from the client read
 * the next one when on_message has returned and the call is not paused. */
void rpc_call_pause(struct rpc_call *call, bool is_paused);

/* End the call once what was sent has gone; the first end counts. */
void rpc_call_finish(struct rpc_call *call,
                     enum rpc_code code,
                     const char *fmt,
                     ...) __attribute__((format(printf, 3, 4)));
/* ... with what an error says (@err may be NULL). */
void rpc_call_fail(struct rpc_call *call,
                   enum base_code code,
                   const struct base_err *err);
/* End the call now, dropping what waits to be sent: for a client that does not
 * read. */
void rpc_call_abort(struct rpc_call *call,
                    enum rpc_code code,
                    const char *text);
/* Send the one message and end with OK. */
void rpc_call_reply(struct rpc_call *call, const ProtobufCMessage *message);

#endif
