/* Codes on the wire and codes of ours; the texts of statuses. */
#include <grpc/status.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "proto/rpc_impl.h"

_Static_assert((int)RPC_ABORTED == (int)GRPC_STATUS_ABORTED &&
                   (int)RPC_UNAUTHENTICATED == (int)GRPC_STATUS_UNAUTHENTICATED,
               "our numbers are gRPC's");

const char *rpc_code_name(enum rpc_code code)
{
    switch (code) {
#define X(code_, number, name)                                                 \
    case code_:                                                                \
        return name;
        RPC_CODES(X)
#undef X
    }
    return "UNKNOWN";
}

enum rpc_code rpc_code_of(enum base_code code)
{
    switch (code) {
    case BASE_OK:
        return RPC_OK;
    case BASE_BAD_ARG:
    case BASE_BAD_INPUT:
        return RPC_INVALID_ARGUMENT;
    case BASE_MISMATCH:
        return RPC_FAILED_PRECONDITION;
    case BASE_NOT_FOUND:
        return RPC_NOT_FOUND;
    case BASE_EXISTS:
        return RPC_ALREADY_EXISTS;
    case BASE_DENIED:
        return RPC_PERMISSION_DENIED;
    case BASE_LIMIT:
    case BASE_NO_MEM:
    case BASE_NO_SPACE:
        return RPC_RESOURCE_EXHAUSTED;
    case BASE_IO:
        return RPC_INTERNAL;
    case BASE_CHANGED:
        return RPC_ABORTED;
    case BASE_INTERRUPTED:
        return RPC_CANCELLED;
    case BASE_UNSUPPORTED:
        return RPC_UNIMPLEMENTED;
    case BASE_UNREACHABLE:
        return RPC_UNAVAILABLE;
    case BASE_TIMEOUT:
        return RPC_DEADLINE_EXCEEDED;
    }
    return RPC_UNKNOWN;
}

enum base_code rpc_code_base(enum rpc_code code)
{
    switch (code) {
    case RPC_OK:
        return BASE_OK;
    case RPC_CANCELLED:
        return BASE_INTERRUPTED;
    case RPC_INVALID_ARGUMENT:
        return BASE_BAD_ARG;
    case RPC_DEADLINE_EXCEEDED:
        return BASE_TIMEOUT;
    case RPC_NOT_FOUND:
    case RPC_OUT_OF_RANGE: /* it is there no longer */
        return BASE_NOT_FOUND;
    case RPC_ALREADY_EXISTS:
        return BASE_EXISTS;
    case RPC_PERMISSION_DENIED:
    case RPC_UNAUTHENTICATED:
        return BASE_DENIED;
    case RPC_RESOURCE_EXHAUSTED:
        return BASE_LIMIT;
    case RPC_FAILED_PRECONDITION:
        return BASE_MISMATCH;
    case RPC_ABORTED:
        return BASE_CHANGED;
    case RPC_UNIMPLEMENTED:
        return BASE_UNSUPPORTED;
    case RPC_UNAVAILABLE:
        return BASE_UNREACHABLE;
    case RPC_UNKNOWN:
    case RPC_INTERNAL:
    case RPC_DATA_LOSS:
        return BASE_IO;
    }
    return BASE_IO; /* a number that gRPC does not have */
}

void rpc_status_set(struct rpc_status *status,
                    enum rpc_code code,
                    const char *text)
{
    struct base_err err;

    (void)base_fail(&err, BASE_OK, "%s", text); /* for its cutting */
    status->code = code;
    memcpy(status->text, err.text, sizeof(status->text));
}

void rpc_status_take(struct rpc_status *status,
                     grpc_status_code code,
                     grpc_slice text)
{
    struct base_err err;
    struct base_str bytes = {(const char *)GRPC_SLICE_START_PTR(text),
                             GRPC_SLICE_LENGTH(text)};

    (void)base_fail(&err, BASE_OK, "%.*s", BASE_STR_FMT(bytes));
    status->code = (int)code >= 0 && code <= GRPC_STATUS_UNAUTHENTICATED
                       ? (enum rpc_code)code
                       : RPC_UNKNOWN;
    memcpy(status->text, err.text, sizeof(status->text));
}
