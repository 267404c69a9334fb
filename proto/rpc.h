/* What both ends of a call share: codes, statuses, messages, addresses.
 *
 * The layer stands on gRPC core's C API, which only proto/rpc*.c includes.  It
 * starts with the first server or channel of a process and ends with the
 * last, so a process may fork before its first and use the layer in the child;
 * it must not fork afterwards without exec.  Core starts threads, which inherit
 * the signal mask: block the signals that you wait for before the first.
 *
 * Any thread, unless a function says otherwise. */
#ifndef PROTO_RPC_H
#define PROTO_RPC_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

/* gRPC's codes: number, name on the wire. */
#define RPC_CODES(X)                                                           \
    X(RPC_OK, 0, "OK")                                                         \
    X(RPC_CANCELLED, 1, "CANCELLED")                                           \
    X(RPC_UNKNOWN, 2, "UNKNOWN")                                               \
    X(RPC_INVALID_ARGUMENT, 3, "INVALID_ARGUMENT")                             \
    X(RPC_DEADLINE_EXCEEDED, 4, "DEADLINE_EXCEEDED")                           \
    X(RPC_NOT_FOUND, 5, "NOT_FOUND")                                           \
    X(RPC_ALREADY_EXISTS, 6, "ALREADY_EXISTS")                                 \
    X(RPC_PERMISSION_DENIED, 7, "PERMISSION_DENIED")                           \
    X(RPC_RESOURCE_EXHAUSTED, 8, "RESOURCE_EXHAUSTED")                         \
    X(RPC_FAILED_PRECONDITION, 9, "FAILED_PRECONDITION")                       \
    X(RPC_ABORTED, 10, "ABORTED")                                              \
    X(RPC_OUT_OF_RANGE, 11, "OUT_OF_RANGE")                                    \
    X(RPC_UNIMPLEMENTED, 12, "UNIMPLEMENTED")                                  \
    X(RPC_INTERNAL, 13, "INTERNAL")                                            \
    X(RPC_UNAVAILABLE, 14, "UNAVAILABLE")                                      \
    X(RPC_DATA_LOSS, 15, "DATA_LOSS")                                          \
    X(RPC_UNAUTHENTICATED, 16, "UNAUTHENTICATED")

enum rpc_code {
#define X(code, number, name) code = (number),
    RPC_CODES(X)
#undef X
};

/* How a call ended. */
struct rpc_status {
    enum rpc_code code;
    char text[BASE_ERR_TEXT_BYTES]; /* one line; empty when OK */
};

/* "NOT_FOUND".  Static. */
const char *rpc_code_name(enum rpc_code code);
/* What a server answers for an error, and what a client makes of the answer.
 * A round trip keeps NOT_FOUND, EXISTS, DENIED, MISMATCH, CHANGED, LIMIT,
 * UNREACHABLE, TIMEOUT, INTERRUPTED, UNSUPPORTED and BAD_ARG; BAD_INPUT comes
 * back as BAD_ARG, NO_MEM and NO_SPACE as LIMIT, IO as IO. */
enum rpc_code rpc_code_of(enum base_code code);
enum base_code rpc_code_base(enum rpc_code code);

enum rpc_kind {
    RPC_UNARY,
    RPC_SERVER_STREAM,
    RPC_CLIENT_STREAM,
    RPC_BIDI,
};

/* What became of a message that was to be sent. */
enum rpc_sent {
    RPC_SENT,      /* queued */
    RPC_SENT_FULL, /* queued, and so much waits now that the sender should stop
                      until on_writable */
    RPC_SENT_NOT,  /* dropped: the call is over, or was just ended because its
                      peer reads too slowly (RESOURCE_EXHAUSTED) */
};

/* A message packed once, to be sent to many: immutable, counted. */
struct rpc_packed;
/* NULL: no memory, or above 2 GiB.  @message is borrowed; the result is given
 * (rpc_packed_unref). */
struct rpc_packed *rpc_packed_create(const ProtobufCMessage *message);
struct rpc_packed *rpc_packed_ref(struct rpc_packed *packed);
void rpc_packed_unref(struct rpc_packed *packed); /* NULL is fine */

/* Is a message from outside good?  proto/check.h's rpc_check is one.  Bad ones
 * are not handed on: the call ends with the error's status. */
typedef enum base_code (*rpc_check_fn)(const ProtobufCMessage *message,
                                       struct base_err *err);

/* A deep copy, given (rpc_message_free).  NULL: no memory. */
void *rpc_message_copy(const ProtobufCMessage *message);
/* Free a message that the layer gave; NULL is fine. */
void rpc_message_free(ProtobufCMessage *message);

/* Certificates, PEM.  Both ends show one and check the other's.  The paths are
 * borrowed during the call that takes them.  A server looks at its files again
 * at each handshake, so that replaced ones count for new connections; a channel
 * keeps what it has read. */
struct rpc_tls {
    const char *ca_path; /* who may have signed the peer's certificate */
    const char
        *cert_path; /* our certificate, and what is between it and the CA */
    const char *key_path;
    const char
        *peer_name; /* a client's: the name (SAN) that the server's certificate
                              must have; NULL: the target's host */
};

/* Where a server listens or a client calls:
 *   unix:PATH         a socket; PATH may be relative
 *   HOST:PORT         a name or an IPv4 address
 *   [ADDRESS]:PORT    IPv6
 * A host is a loopback one by its text alone: no name is looked up. */
enum rpc_family {
    RPC_FAMILY_UNIX,
    RPC_FAMILY_INET,
};
#define RPC_HOST_BYTES 256
struct rpc_address {
    enum rpc_family family;
    bool is_loopback; /* 127/8, ::1, localhost; not for unix */
    uint16_t port;
    char host[RPC_HOST_BYTES]; /* without brackets; unix: the path */
};
/* Errors: BASE_BAD_ARG */
enum base_code rpc_address_parse(const char *text,
                                 struct rpc_address *ret,
                                 struct base_err *err) BASE_MUST_CHECK;

/* What core has to say, for a program's log: failed handshakes and the like.
 * @text is one line.  Called on any thread, must not block or call the layer. */
typedef void (*rpc_log_fn)(bool is_error, const char *text);
/* NULL, the default: nobody is told.  Call from main, before threads. */
void rpc_log_to(rpc_log_fn log);

#endif
