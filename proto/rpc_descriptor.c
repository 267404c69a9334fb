/* FileDescriptorSets, as proto/rpc_server_impl.h describes: files by their
 * name, files by what they define, and the kinds of methods.  The sets are our
 * own, embedded by the build. */
#include <stdlib.h>
#include <string.h>

#include "proto/rpc/descriptor.pb-c.h"
#include "proto/rpc_server_impl.h"

struct file {
    Rpc__File *view;
    struct base_str bytes; /* of its set */
};

struct set {
    Rpc__FileSet *view; /* holds the bytes of its files */
};

struct rpc_descriptors {
    BASE_VEC(struct set) sets;
    BASE_VEC(struct file) files;
};

void rpc_descriptors_free(struct rpc_descriptors *descriptors)
{
    if (descriptors == NULL) {
        return;
    }
    for (size_t i = 0; i < descriptors->files.n; i++) {
        rpc__file__free_unpacked(descriptors->files.items[i].view, NULL);
    }
    for (size_t i = 0; i < descriptors->sets.n; i++) {
        rpc__file_set__free_unpacked(descriptors->sets.items[i].view, NULL);
    }
    base_vec_done(&descriptors->files);
    base_vec_done(&descriptors->sets);
    free(descriptors);
}

/* A file that was known already, from an earlier set, is left out. */
static enum base_code add_file(struct rpc_descriptors *descriptors,
                               ProtobufCBinaryData bytes,
                               struct base_err *err)
{
    struct file file = {
        .view = rpc__file__unpack(NULL, bytes.len, bytes.data),
        .bytes = {(const char *)bytes.data, bytes.len},
    };

    if (file.view == NULL || file.view->name == NULL) {
        rpc__file__free_unpacked(file.view, NULL);
        return base_fail(err, BASE_BAD_ARG, "a malformed FileDescriptorProto");
    }
    if (rpc_descriptors_file(descriptors, file.view->name) >= 0) {
        rpc__file__free_unpacked(file.view, NULL);
        return BASE_OK;
    }
    if (!base_vec_push(&descriptors->files, file)) {
        rpc__file__free_unpacked(file.view, NULL);
        return base_fail(err, BASE_NO_MEM, "cannot hold descriptors");
    }
    return BASE_OK;
}

enum base_code rpc_descriptors_create(const struct base_str *sets,
                                      size_t n_sets,
                                      struct rpc_descriptors **ret,
                                      struct base_err *err)
{
    BASE_AUTO(rpc_descriptors) made = calloc(1, sizeof(*made));

    for (size_t i = 0; made != NULL && i < n_sets; i++) {
        struct set set = {rpc__file_set__unpack(NULL, sets[i].len,
                                                (const uint8_t *)sets[i].ptr)};

        if (set.view == NULL) {
            return base_fail(err, BASE_BAD_ARG,
                             "a malformed FileDescriptorSet");
        }
        if (!base_vec_push(&made->sets, set)) {
            rpc__file_set__free_unpacked(set.view, NULL);
            return base_fail(err, BASE_NO_MEM, "cannot hold descriptors");
        }
        for (size_t k = 0; k < set.view->n_file; k++) {
            BASE_TRY(add_file(made, set.view->file[k], err));
        }
    }
    if (made == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot hold descriptors");
    }
    *ret = base_steal(&made);
    return BASE_OK;
}

/* If @name is @part, or @part and a dot and more: what follows @part (and the
 * dot).  Else NULL. */
static const char *after(const char *name, const char *part)
{
    size_t n;

    if (part == NULL || part[0] == '\0') {
        return NULL;
    }
    n = strlen(part);
    if (strncmp(name, part, n) != 0 || (name[n] != '\0' && name[n] != '.')) {
        return NULL;
    }
    return name[n] == '.' ? name + n + 1 : name + n;
}

static bool is_one_of(const char *name, Rpc__Enum *const *enums, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (enums[i]->name != NULL && strcmp(name, enums[i]->name) == 0) {
            return true;
        }
    }
    return false;
}

/* Messages nest: a loop that goes down a level at a time. */
static bool
has_message(const char *name, Rpc__Message *const *messages, size_t n)
{
    size_t i = 0;

    while (i < n) {
        const char *rest = after(name, messages[i]->name);
        const Rpc__Message *message = messages[i];

        if (rest == NULL) {
            i++;
            continue;
        }
        if (rest[0] == '\0' ||
            is_one_of(rest, message->enum_type, message->n_enum_type)) {
            return true;
        }
        name = rest;
        messages = message->nested_type;
        n = message->n_nested_type;
        i = 0;
    }
    return false;
}

static const Rpc__Method *find_method(const Rpc__Service *service,
                                      const char *name)
{
    for (size_t i = 0; i < service->n_method; i++) {
        if (service->method[i]->name != NULL &&
            strcmp(name, service->method[i]->name) == 0) {
            return service->method[i];
        }
    }
    return NULL;
}

static bool defines(const Rpc__File *file, const char *symbol)
{
    const char *name = symbol;

    if (file->package != NULL && file->package[0] != '\0') {
        name = after(symbol, file->package);
    }
    if (name == NULL) {
        return false;
    }
    for (size_t i = 0; i < file->n_service; i++) {
        const char *rest = after(name, file->service[i]->name);

        if (rest != NULL &&
            (rest[0] == '\0' || find_method(file->service[i], rest) != NULL)) {
            return true;
        }
    }
    return is_one_of(name, file->enum_type, file->n_enum_type) ||
           has_message(name, file->message_type, file->n_message_type);
}

ssize_t rpc_descriptors_file(const struct rpc_descriptors *descriptors,
                             const char *name)
{
    for (size_t i = 0; i < descriptors->files.n; i++) {
        if (strcmp(descriptors->files.items[i].view->name, name) == 0) {
            return (ssize_t)i;
        }
    }
    return -1;
}

ssize_t rpc_descriptors_symbol(const struct rpc_descriptors *descriptors,
                               const char *symbol)
{
    for (size_t i = 0; i < descriptors->files.n; i++) {
        if (defines(descriptors->files.items[i].view, symbol)) {
            return (ssize_t)i;
        }
    }
    return -1;
}

struct base_str rpc_descriptors_bytes(const struct rpc_descriptors *descriptors,
                                      size_t file)
{
    return descriptors->files.items[file].bytes;
}

static enum rpc_kind kind_of(const Rpc__Method *method)
{
    if (method->client_streaming) {
        return method->server_streaming ? RPC_BIDI : RPC_CLIENT_STREAM;
    }
    return method->server_streaming ? RPC_SERVER_STREAM : RPC_UNARY;
}

bool rpc_descriptors_kind(const struct rpc_descriptors *descriptors,
                          const char *service,
                          const char *method,
                          enum rpc_kind *ret)
{
    ssize_t at = rpc_descriptors_symbol(descriptors, service);
    const Rpc__File *file;

    if (at < 0) {
        return false;
    }
    file = descriptors->files.items[at].view;
    for (size_t i = 0; i < file->n_service; i++) {
        const char *short_name = strrchr(service, '.');
        const Rpc__Method *found;

        short_name = short_name == NULL ? service : short_name + 1;
        if (strcmp(file->service[i]->name, short_name) != 0) {
            continue;
        }
        found = find_method(file->service[i], method);
        if (found != NULL) {
            *ret = kind_of(found);
        }
        return found != NULL;
    }
    return false;
}
