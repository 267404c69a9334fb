/* Messages and their bytes: packing once for many, unpacking what may be
 * hostile.
 *
 * Some two bytes on the wire can become a struct of a hundred, so what a
 * message may take when decoded is bounded, too. */
#include <stdatomic.h>
#include <stdlib.h>

#include "proto/rpc_impl.h"

enum { DECODED_TIMES = 16, DECODED_EXTRA_BYTES = 64 * 1024 };

struct rpc_packed {
    atomic_uint n_refs;
    grpc_slice slice;
};

struct rpc_packed *rpc_packed_create(const ProtobufCMessage *message)
{
    const size_t n = protobuf_c_message_get_packed_size(message);
    struct rpc_packed *packed;

    if (n > INT32_MAX) {
        return NULL;
    }
    packed = malloc(sizeof(*packed));
    if (packed == NULL) {
        return NULL;
    }
    atomic_init(&packed->n_refs, 1);
    packed->slice = grpc_slice_malloc(n);
    (void)protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(packed->slice));
    return packed;
}

struct rpc_packed *rpc_packed_ref(struct rpc_packed *packed)
{
    (void)atomic_fetch_add_explicit(&packed->n_refs, 1, memory_order_relaxed);
    return packed;
}

void rpc_packed_unref(struct rpc_packed *packed)
{
    /* acq_rel: who frees sees what the others did before they let go. */
    if (packed != NULL && atomic_fetch_sub_explicit(
                              &packed->n_refs, 1, memory_order_acq_rel) == 1) {
        grpc_slice_unref(packed->slice);
        free(packed);
    }
}

size_t rpc_packed_bytes(const struct rpc_packed *packed)
{
    return GRPC_SLICE_LENGTH(packed->slice);
}

grpc_byte_buffer *rpc_packed_buffer(struct rpc_packed *packed)
{
    return grpc_raw_byte_buffer_create(&packed->slice, 1);
}

void *rpc_message_copy(const ProtobufCMessage *message)
{
    const size_t n = protobuf_c_message_get_packed_size(message);
    BASE_AUTO_MEM uint8_t *bytes = malloc(n + 1);

    if (bytes == NULL) {
        return NULL;
    }
    (void)protobuf_c_message_pack(message, bytes);
    return protobuf_c_message_unpack(message->descriptor, NULL, n, bytes);
}

void rpc_message_free(ProtobufCMessage *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

/* malloc with a budget, so that the system's allocator frees it. */
static void *budget_alloc(void *ctx, size_t n)
{
    size_t *left = ctx;

    if (n > *left) {
        return NULL;
    }
    *left -= n;
    return malloc(n);
}

static void budget_free(void *ctx, void *memory)
{
    (void)ctx; /* what was tried counts, too */
    free(memory);
}

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *descriptor,
                                grpc_slice bytes)
{
    size_t left =
        GRPC_SLICE_LENGTH(bytes) * DECODED_TIMES + DECODED_EXTRA_BYTES;
    ProtobufCAllocator allocator = {budget_alloc, budget_free, &left};

    return protobuf_c_message_unpack(descriptor, &allocator,
                                     GRPC_SLICE_LENGTH(bytes),
                                     GRPC_SLICE_START_PTR(bytes));
}

enum base_code rpc_message_read(const ProtobufCMessageDescriptor *descriptor,
                                rpc_check_fn check,
                                grpc_byte_buffer *buffer,
                                ProtobufCMessage **ret,
                                struct base_err *err)
{
    grpc_byte_buffer_reader reader;
    ProtobufCMessage *message = NULL;
    grpc_slice bytes;
    enum base_code rc = BASE_OK;

    if (grpc_byte_buffer_reader_init(&reader, buffer) != 0) {
        bytes = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
        message = unpack(descriptor, bytes);
        grpc_slice_unref(bytes);
    }
    if (message == NULL) {
        return base_fail(err, BASE_BAD_INPUT, "cannot decode a %s",
                         descriptor->name);
    }
    if (check != NULL) {
        rc = check(message, err);
    }
    if (rc != BASE_OK) {
        rpc_message_free(message);
        return rc;
    }
    *ret = message;
    return BASE_OK;
}
