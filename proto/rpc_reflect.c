/* grpc.reflection.v1 and v1alpha: the services that a server has, and the
 * files that describe them. */
#include <stdlib.h>
#include <string.h>

#include "proto/grpc/reflection/v1/reflection.pb-c.h"
#include "proto/grpc/reflection/v1alpha/reflection.pb-c.h"
#include "proto/rpc_server_impl.h"

typedef Grpc__Reflection__V1__ServerReflectionRequest reflect_request;
typedef Grpc__Reflection__V1__ServerReflectionResponse reflect_response;
typedef Grpc__Reflection__V1__ServiceResponse reflect_service;

/* @text is borrowed and not changed; protobuf-c's fields are not const. */
static char *field_text(const char *text)
{
    union {
        const char *in;
        char *out;
    } field = {text};

    return field.out;
}

/* What it refers to is its caller's, so it refers to nothing afterwards. */
static enum rpc_sent send_answer(struct rpc_call *call,
                                 reflect_response *answer)
{
    enum rpc_sent sent = rpc_call_send(call, &answer->base);

    answer->error_response = NULL; /* a union */
    return sent;
}

static enum rpc_sent send_error(struct rpc_call *call,
                                reflect_response *answer,
                                enum rpc_code code,
                                const char *text)
{
    Grpc__Reflection__V1__ErrorResponse error =
        GRPC__REFLECTION__V1__ERROR_RESPONSE__INIT;

    error.error_code = (int)code;
    error.error_message = field_text(text);
    answer->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_ERROR_RESPONSE;
    answer->error_response = &error;
    return send_answer(call, answer);
}

static enum rpc_sent
send_file(struct rpc_call *call, reflect_response *answer, ssize_t at)
{
    const struct rpc_server *server = rpc_call_ctx(call);
    Grpc__Reflection__V1__FileDescriptorResponse files =
        GRPC__REFLECTION__V1__FILE_DESCRIPTOR_RESPONSE__INIT;
    ProtobufCBinaryData bytes;
    struct base_str file;

    if (at < 0) {
        return send_error(call, answer, RPC_NOT_FOUND,
                          "there is no such file or symbol");
    }
    file = rpc_descriptors_bytes(server->descriptors, (size_t)at);
    bytes.len = file.len;
    bytes.data = (uint8_t *)field_text(file.ptr);
    files.n_file_descriptor_proto = 1;
    files.file_descriptor_proto = &bytes;
    answer->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_FILE_DESCRIPTOR_RESPONSE;
    answer->file_descriptor_response = &files;
    return send_answer(call, answer);
}

static enum rpc_sent send_services(struct rpc_call *call,
                                   reflect_response *answer)
{
    const struct rpc_server *server = rpc_call_ctx(call);
    const size_t n = server->services.n;
    BASE_AUTO_MEM reflect_service *services = calloc(n, sizeof(services[0]));
    BASE_AUTO_MEM reflect_service **list = calloc(n, sizeof(void *));
    Grpc__Reflection__V1__ListServiceResponse names =
        GRPC__REFLECTION__V1__LIST_SERVICE_RESPONSE__INIT;

    if (services == NULL || list == NULL) {
        return send_error(call, answer, RPC_RESOURCE_EXHAUSTED, "no memory");
    }
    for (size_t i = 0; i < n; i++) {
        grpc__reflection__v1__service_response__init(&services[i]);
        services[i].name =
            field_text(server->services.items[i].descriptor->name);
        list[i] = &services[i];
    }
    names.n_service = n;
    names.service = list;
    answer->message_response_case =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__MESSAGE_RESPONSE_LIST_SERVICES_RESPONSE;
    answer->list_services_response = &names;
    return send_answer(call, answer);
}

static void on_message(struct rpc_call *call, const ProtobufCMessage *message)
{
    union {
        const void *in;
        reflect_request *out; /* for the answer's field; not changed */
    } given = {message};
    const struct rpc_server *server = rpc_call_ctx(call);
    reflect_request *request = given.out;
    reflect_response answer =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;
    enum rpc_sent sent = RPC_SENT;

    answer.valid_host = request->host;
    answer.original_request = request;
    switch (request->message_request_case) {
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_BY_FILENAME:
        sent = send_file(call, &answer,
                         rpc_descriptors_file(server->descriptors,
                                              request->file_by_filename));
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_FILE_CONTAINING_SYMBOL:
        sent =
            send_file(call, &answer,
                      rpc_descriptors_symbol(server->descriptors,
                                             request->file_containing_symbol));
        break;
    case GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__MESSAGE_REQUEST_LIST_SERVICES:
        sent = send_services(call, &answer);
        break;
    default: /* none, or about extensions, of which there are none */
        sent =
            send_error(call, &answer, RPC_NOT_FOUND, "there are no extensions");
        break;
    }
    rpc_call_pause(call, sent == RPC_SENT_FULL);
}

static void on_writable(struct rpc_call *call)
{
    rpc_call_pause(call, false);
}

static void on_half_close(struct rpc_call *call)
{
    rpc_call_finish(call, RPC_OK, "%s", "");
}

static const struct rpc_method methods[] = {
    {
        .name = "ServerReflectionInfo",
        .kind = RPC_BIDI,
        .flags = RPC_INLINE | RPC_LONG,
        .on_message = on_message,
        .on_half_close = on_half_close,
        .on_writable = on_writable,
    },
};

enum base_code rpc_reflection_add(struct rpc_server *server,
                                  struct base_err *err)
{
    const ProtobufCServiceDescriptor *const descriptors[] = {
        &grpc__reflection__v1__server_reflection__descriptor,
        &grpc__reflection__v1alpha__server_reflection__descriptor,
    };

    for (size_t i = 0; i < 2; i++) {
        server->reflection_services[i] = (struct rpc_service){
            .descriptor = descriptors[i],
            .methods = methods,
            .n_methods = 1,
            .ctx = server,
        };
        BASE_TRY(rpc_server_add_service(server, &server->reflection_services[i],
                                        err));
    }
    return BASE_OK;
}
