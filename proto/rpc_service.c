/* Services and their methods: tables that are checked once, then looked up. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "proto/rpc_server_impl.h"

static const char *kind_name(enum rpc_kind kind)
{
    switch (kind) {
    case RPC_UNARY:
        return "unary";
    case RPC_SERVER_STREAM:
        return "server stream";
    case RPC_CLIENT_STREAM:
        return "client stream";
    case RPC_BIDI:
        return "bidi";
    }
    return "?";
}

static enum base_code add_method(struct rpc_server *server,
                                 const struct rpc_service *service,
                                 const struct rpc_method *method,
                                 struct base_err *err)
{
    const char *name = service->descriptor->name;
    struct rpc_row row = {service, method, NULL, NULL};
    enum rpc_kind kind = RPC_UNARY;

    row.descriptor = protobuf_c_service_descriptor_get_method_by_name(
        service->descriptor, method->name);
    if (row.descriptor == NULL ||
        !rpc_descriptors_kind(server->descriptors, name, method->name, &kind)) {
        return base_fail(err, BASE_BAD_ARG, "service %s has no method %s", name,
                         method->name);
    }
    if (kind != method->kind) {
        return base_fail(err, BASE_BAD_ARG, "%s/%s is %s, not %s", name,
                         method->name, kind_name(kind),
                         kind_name(method->kind));
    }
    row.path = base_path("/%s/%s", name, method->name);
    if (row.path == NULL || !base_vec_push(&server->rows, row)) {
        free(row.path);
        return base_fail(err, BASE_NO_MEM, "cannot hold method %s",
                         method->name);
    }
    return BASE_OK;
}

enum base_code rpc_server_add_service(struct rpc_server *server,
                                      const struct rpc_service *service,
                                      struct base_err *err)
{
    const struct rpc_known known = {service->descriptor};

    for (size_t i = 0; i < server->services.n; i++) {
        if (server->services.items[i].descriptor == service->descriptor) {
            return base_fail(err, BASE_EXISTS, "service %s was added already",
                             service->descriptor->name);
        }
    }
    for (size_t i = 0; i < service->n_methods; i++) {
        BASE_TRY(add_method(server, service, &service->methods[i], err));
    }
    if (!base_vec_push(&server->services, known)) {
        return base_fail(err, BASE_NO_MEM, "cannot hold service %s",
                         service->descriptor->name);
    }
    return BASE_OK;
}

const struct rpc_row *rpc_server_find(const struct rpc_server *server,
                                      struct base_str path)
{
    size_t begin = 0;
    size_t end = server->rows.n;

    while (begin < end) {
        size_t mid = begin + (end - begin) / 2;
        const struct rpc_row *row = &server->rows.items[mid];
        int order = base_str_cmp(path, base_str_of(row->path));

        if (order == 0) {
            return row;
        }
        if (order < 0) {
            end = mid;
        } else {
            begin = mid + 1;
        }
    }
    return NULL;
}
