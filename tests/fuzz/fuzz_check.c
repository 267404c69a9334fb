/* Input: the index of a message type, then its bytes.  What unpacks is checked;
 * a refusal has a text that may be shown, and what passes can be packed and
 * passes again. */
#include "proto/check.h"

#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/host.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/versions.pb-c.h>
#include <retile/v1/watch.pb-c.h>

#include "tests/fuzz/fuzz.h"

/* Ends when @n methods were counted: then it is the n-th one's message. */
static const ProtobufCMessageDescriptor *message_of(size_t n)
{
    static const ProtobufCServiceDescriptor *const services[] = {
        &retile__v1__jobs__descriptor,    &retile__v1__versions__descriptor,
        &retile__v1__devices__descriptor, &retile__v1__watch__descriptor,
        &retile__v1__agents__descriptor,  &retile__v1__local__descriptor,
    };

    for (size_t s = 0; s < sizeof(services) / sizeof(services[0]); s++) {
        size_t n_messages = (size_t)services[s]->n_methods * 2;

        if (n < n_messages) {
            const ProtobufCMethodDescriptor *method =
                &services[s]->methods[n / 2];

            return n % 2 == 0 ? method->input : method->output;
        }
        n -= n_messages;
    }
    return NULL;
}

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *descriptor,
                                const uint8_t *data,
                                size_t size)
{
    return protobuf_c_message_unpack(descriptor, NULL, size, data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const ProtobufCMessageDescriptor *descriptor =
        size == 0 ? NULL : message_of(data[0]);
    ProtobufCMessage *message;
    ProtobufCMessage *again;
    struct base_err err = {0};
    uint8_t *packed;
    size_t n;

    if (descriptor == NULL) {
        return 0;
    }
    message = unpack(descriptor, data + 1, size - 1);
    if (message == NULL) {
        return 0;
    }
    if (rpc_check(message, &err) != BASE_OK) {
        FUZZ_CHECK(err.code == BASE_BAD_ARG);
        FUZZ_CHECK(base_str_is_utf8(base_str_of(err.text)));
        protobuf_c_message_free_unpacked(message, NULL);
        return 0;
    }
    n = protobuf_c_message_get_packed_size(message);
    packed = malloc(n + 1);
    FUZZ_CHECK(packed != NULL);
    FUZZ_CHECK(protobuf_c_message_pack(message, packed) == n);
    again = unpack(descriptor, packed, n);
    FUZZ_CHECK(again != NULL && rpc_check(again, &err) == BASE_OK);
    protobuf_c_message_free_unpacked(again, NULL);
    protobuf_c_message_free_unpacked(message, NULL);
    free(packed);
    return 0;
}
