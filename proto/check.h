/* Messages from outside, checked field by field before anybody uses them.
 *
 * proto/rules.c is one table: for each field of each message its bound (a name's
 * form, the most bytes of a text, items of a list, the range of a number, whether
 * it must be there).  A field without a row fails a test, so that a new one is
 * thought about.  Enums have a known value; strings are UTF-8.  Pure. */
#ifndef PROTO_CHECK_H
#define PROTO_CHECK_H

#include <protobuf-c/protobuf-c.h>

#include "base/err.h"

/* The largest request: a Hello, which says all that a host has.  A server that
 * takes those takes messages of this size (rpc_server_options). */
enum { RPC_HELLO_MAX_BYTES = 32 << 20 };

/* Check @message and all that is in it.
 * Errors: BASE_BAD_ARG  names message, field, value and bound */
enum base_code rpc_check(const ProtobufCMessage *message,
                         struct base_err *err) BASE_MUST_CHECK;

#endif
