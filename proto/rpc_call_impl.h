/* What the two halves of a call share: rpc_call.c tells its handler,
 * rpc_call_io.c talks to core. */
#ifndef PROTO_RPC_CALL_IMPL_H
#define PROTO_RPC_CALL_IMPL_H

#include "proto/rpc_server_impl.h"

/* Lock held: begin the next operation, if one is due. */
void rpc_call_read(struct rpc_call *call);
void rpc_call_write(struct rpc_call *call);
/* Lock held, and given up: let core's part go if all is done. */
void rpc_call_settle(struct rpc_call *call);
/* Let a thread tell what is pending. */
void rpc_call_kick(struct rpc_call *call);

#endif
