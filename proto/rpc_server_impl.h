/* What the files of the server share; for proto/rpc*.c alone.
 *
 * Locks: a call's and its server's are never held together. */
#ifndef PROTO_RPC_SERVER_IMPL_H
#define PROTO_RPC_SERVER_IMPL_H

#include <stdatomic.h>

#include "proto/rpc_impl.h"
#include "proto/rpc_server.h"

/* A method of a service that was added. */
struct rpc_row {
    const struct rpc_service *service;
    const struct rpc_method *method;
    const ProtobufCMethodDescriptor *descriptor;
    char *path; /* "/package.Service/Method" */
};

/* Worker threads and the calls that wait for one.  A call waits at most once. */
struct rpc_pool;
struct rpc_pool *rpc_pool_create(unsigned n_threads, unsigned max_queued);
void rpc_pool_free(struct rpc_pool *pool); /* nothing may wait; NULL is fine */
/* False: it is full; with @must it never is. */
bool rpc_pool_add(struct rpc_pool *pool, struct rpc_call *call, bool must);
unsigned rpc_pool_queued(struct rpc_pool *pool);

struct rpc_descriptors;
struct rpc_health;

struct rpc_known {
    const ProtobufCServiceDescriptor *descriptor;
};

struct rpc_server {
    struct rpc_server_options options; /* immutable, with defaults filled in */
    grpc_server *core;
    grpc_completion_queue *queue;
    grpc_resource_quota *quota;
    struct rpc_pool *pool;
    struct rpc_descriptors *descriptors; /* immutable */
    struct rpc_health *health;
    struct rpc_service health_service;
    struct rpc_service reflection_services[2]; /* v1, v1alpha */
    pthread_t *pollers;
    unsigned n_pollers;
    BASE_VEC(struct rpc_row) rows; /* sorted by path at start; then immutable */
    BASE_VEC(struct rpc_known) services; /* likewise */
    struct rpc_reloader *reloaders;
    bool has_started;
    bool has_stopped;
    struct rpc_tag shut_tag;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    struct rpc_call *calls; /* that have a row and core's call, in a list */
    unsigned n_open;        /* of them */
    unsigned n_alive; /* and of those that wait for a request or a refusal */
    bool is_stopping;
    bool is_shut;
    uint64_t n_accepted;
    _Atomic uint64_t n_refused;
    /* Calls that have to be ended at a time of ours. */
    atomic_uint n_capped;
    _Atomic int64_t look_ns; /* when to look at them next */
};

struct rpc_peer {
    char *address;
    char *token;
    char *common_name;
    BASE_VEC(char *) names;
    bool is_verified;
};
/* False: no memory.  The caller frees in either case. */
bool rpc_peer_init(struct rpc_peer *peer,
                   grpc_call *call,
                   const grpc_metadata_array *metadata);
void rpc_peer_done(struct rpc_peer *peer);

/* Things that can happen to a call, in the order in which they are told. */
enum {
    CALL_OPEN = 1,
    CALL_MESSAGE = 2,
    CALL_HALF_CLOSE = 4,
    CALL_WRITABLE = 8,
    CALL_CLOSE = 16,
};

/* One call.  It is counted; core's part goes when the call is over and no
 * operation is under way, the rest with the last who holds it. */
struct rpc_call {
    atomic_uint n_refs;
    struct rpc_server *server; /* valid as long as core is not NULL */
    grpc_call *core;           /* set to NULL under lock */
    grpc_call_details details;
    grpc_metadata_array metadata;
    struct rpc_tag new_tag;
    struct rpc_tag read_tag;
    struct rpc_tag write_tag;
    struct rpc_tag close_tag;
    struct rpc_row row; /* a copy: a handler may keep a call for longer than its
                           server lives; of no use when it is refused */
    struct rpc_peer peer;
    int64_t deadline_ns; /* INT64_MAX: none */
    void *ctx;
    void *data;                /* owner: callbacks, as message */
    ProtobufCMessage *message; /* that on_message is told of, unless taken */
    struct rpc_call *next;     /* in the pool's queue: guarded by its lock */
    /* Guarded by the server's lock. */
    struct rpc_call *list_next;
    struct rpc_call **list_slot; /* NULL: in no list */
    int64_t cap_ns;       /* when we end it ourselves; INT64_MAX: core does */
    bool was_told_to_end; /* the server stops */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    unsigned pending;  /* CALL_*: what is to be told */
    bool is_running;   /* a thread tells, or will */
    bool has_begun;    /* the pool took it, once */
    bool has_told;     /* a callback has been called */
    bool is_closed;    /* nothing is told any more */
    bool is_over;      /* core says so */
    int was_cancelled; /* core writes it before is_over */
    bool is_reading;
    bool is_handling; /* a message waits or is told: read no other */
    bool is_paused;
    bool has_half_closed;
    bool is_writing;
    bool wants_headers;
    bool has_sent_headers;
    bool is_finished; /* status is to be sent, or was */
    bool has_sent_status;
    struct rpc_status status;
    struct rpc_outbox outbox;
    grpc_byte_buffer *received;
    grpc_byte_buffer *sending;
};

/* One that waits for core to fill it; NULL: no memory. */
struct rpc_call *rpc_call_create(struct rpc_server *server);
/* Tell what is pending; from the pool and from pollers. */
void rpc_call_run(struct rpc_call *call);

/* Of rpc_server.c, for calls. */

const struct rpc_row *rpc_server_find(const struct rpc_server *server,
                                      struct base_str path);
/* Ask core for a next call, unless the server stops. */
void rpc_server_request(struct rpc_server *server);
/* May the call be open?  OK: it is in the server's list, and owns a ref. */
enum rpc_code rpc_server_enter(struct rpc_call *call);
/* Its core part has gone.  @call may be freed by somebody else already. */
void rpc_server_leave(struct rpc_server *server, struct rpc_call *call);

/* Of the standard services. */

enum base_code rpc_std_add(struct rpc_server *server,
                           struct base_err *err) BASE_MUST_CHECK;
enum base_code rpc_reflection_add(struct rpc_server *server,
                                  struct base_err *err) BASE_MUST_CHECK;
struct rpc_health *rpc_health_create(void);
void rpc_health_free(struct rpc_health *health); /* NULL is fine */
void rpc_health_set(struct rpc_health *health, bool is_serving);

/* The messages and services of FileDescriptorSets. */
void rpc_descriptors_free(struct rpc_descriptors *descriptors);
BASE_AUTO_DEFINE(rpc_descriptors);
enum base_code rpc_descriptors_create(const struct base_str *sets,
                                      size_t n_sets,
                                      struct rpc_descriptors **ret,
                                      struct base_err *err) BASE_MUST_CHECK;
/* False: there is no such method. */
bool rpc_descriptors_kind(const struct rpc_descriptors *descriptors,
                          const char *service,
                          const char *method,
                          enum rpc_kind *ret);
/* The file with that name, or that defines that symbol; -1: none. */
ssize_t rpc_descriptors_file(const struct rpc_descriptors *descriptors,
                             const char *name);
ssize_t rpc_descriptors_symbol(const struct rpc_descriptors *descriptors,
                               const char *symbol);
struct base_str rpc_descriptors_bytes(const struct rpc_descriptors *descriptors,
                                      size_t file);

/* Certificates of a server, which looks at their files at each handshake.  What
 * it needs for that is put before *list, and must outlive core's server. */
struct rpc_reloader;
void rpc_reloaders_free(struct rpc_reloader *list); /* NULL is fine */
enum base_code rpc_tls_server(const struct rpc_tls *tls,
                              struct rpc_reloader **list,
                              grpc_server_credentials **ret,
                              struct base_err *err) BASE_MUST_CHECK;

/* Keep a spare descriptor for accept4 (rpc_accept.c). */
void rpc_accept_guard(void);

#endif
