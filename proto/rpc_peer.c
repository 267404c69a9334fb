/* Who calls: address, certificate, token. */
#include <grpc/support/alloc.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/rpc_server_impl.h"

enum { MAX_NAMES = 16 };

static bool add_names(struct rpc_peer *peer, const grpc_auth_context *auth)
{
    grpc_auth_property_iterator it = grpc_auth_context_find_properties_by_name(
        auth, GRPC_X509_SAN_PROPERTY_NAME);
    const grpc_auth_property *property;

    while (peer->names.n < MAX_NAMES &&
           (property = grpc_auth_property_iterator_next(&it)) != NULL) {
        char *name;

        if (memchr(property->value, '\0', property->value_length) != NULL) {
            continue; /* what stands before it would pass for the whole */
        }
        name = strndup(property->value, property->value_length);
        if (name == NULL || !base_vec_push(&peer->names, name)) {
            free(name);
            return false;
        }
    }
    it = grpc_auth_context_find_properties_by_name(auth,
                                                   GRPC_X509_CN_PROPERTY_NAME);
    property = grpc_auth_property_iterator_next(&it);
    if (property != NULL) {
        peer->common_name = strndup(property->value, property->value_length);
        return peer->common_name != NULL;
    }
    return true;
}

static bool add_token(struct rpc_peer *peer,
                      const grpc_metadata_array *metadata)
{
    static const char scheme[] = "Bearer ";
    const size_t n_scheme = sizeof(scheme) - 1;

    for (size_t i = 0; i < metadata->count; i++) {
        const grpc_metadata *pair = &metadata->metadata[i];
        const char *value = (const char *)GRPC_SLICE_START_PTR(pair->value);
        const size_t n = GRPC_SLICE_LENGTH(pair->value);

        if (grpc_slice_str_cmp(pair->key, "authorization") == 0 &&
            n > n_scheme && strncasecmp(value, scheme, n_scheme) == 0) {
            peer->token = strndup(value + n_scheme, n - n_scheme);
            return peer->token != NULL;
        }
    }
    return true;
}

bool rpc_peer_init(struct rpc_peer *peer,
                   grpc_call *call,
                   const grpc_metadata_array *metadata)
{
    grpc_auth_context *auth = grpc_call_auth_context(call);
    char *address = grpc_call_get_peer(call);
    bool is_good;

    peer->address = strdup(address);
    gpr_free(address);
    is_good = peer->address != NULL && add_token(peer, metadata);
    if (auth != NULL) {
        peer->is_verified = grpc_auth_context_peer_is_authenticated(auth) != 0;
        if (peer->is_verified) {
            is_good = is_good && add_names(peer, auth);
        }
        grpc_auth_context_release(auth);
    }
    return is_good;
}

void rpc_peer_done(struct rpc_peer *peer)
{
    for (size_t i = 0; i < peer->names.n; i++) {
        free(peer->names.items[i]);
    }
    base_vec_done(&peer->names);
    free(peer->address);
    free(peer->common_name);
    if (peer->token != NULL) {
        explicit_bzero(peer->token, strlen(peer->token));
        free(peer->token);
    }
}

const char *rpc_peer_address(const struct rpc_peer *peer)
{
    return peer->address;
}

bool rpc_peer_is_unix(const struct rpc_peer *peer)
{
    return strncmp(peer->address, "unix:", 5) == 0;
}

bool rpc_peer_is_verified(const struct rpc_peer *peer)
{
    return peer->is_verified;
}

const char *rpc_peer_name(const struct rpc_peer *peer, unsigned i)
{
    return i < peer->names.n ? peer->names.items[i] : NULL;
}

bool rpc_peer_has_name(const struct rpc_peer *peer, const char *name)
{
    for (size_t i = 0; i < peer->names.n; i++) {
        if (strcmp(peer->names.items[i], name) == 0) {
            return true;
        }
    }
    return false;
}

const char *rpc_peer_common_name(const struct rpc_peer *peer)
{
    return peer->common_name;
}

const char *rpc_peer_token(const struct rpc_peer *peer)
{
    return peer->token;
}
