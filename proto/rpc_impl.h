/* What the files of the layer share; for proto/rpc*.c alone. */
#ifndef PROTO_RPC_IMPL_H
#define PROTO_RPC_IMPL_H

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include "base/str.h"
#include "proto/rpc.h"

enum {
    RPC_MAX_MESSAGE_BYTES = 4 << 20,
    RPC_SEND_HIGH_BYTES = 256 << 10,
    RPC_SEND_MAX_BYTES = 8 << 20,
    RPC_KEEPALIVE_MS = 20000,
    RPC_KEEPALIVE_TIMEOUT_MS = 10000,
};

/* Statuses. */

/* @text is cut to fit and made one line. */
void rpc_status_set(struct rpc_status *status,
                    enum rpc_code code,
                    const char *text);
/* What came from the wire; @text is borrowed. */
void rpc_status_take(struct rpc_status *status,
                     grpc_status_code code,
                     grpc_slice text);

/* Messages. */

size_t rpc_packed_bytes(const struct rpc_packed *packed);
/* Given: grpc_byte_buffer_destroy. */
grpc_byte_buffer *rpc_packed_buffer(struct rpc_packed *packed);
/* Decode and check; @buffer is borrowed, *ret given (rpc_message_free).
 * Errors: BASE_BAD_INPUT, and the check's */
enum base_code rpc_message_read(const ProtobufCMessageDescriptor *descriptor,
                                rpc_check_fn check,
                                grpc_byte_buffer *buffer,
                                ProtobufCMessage **ret,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
