/* Who may call what: coordinator/services.h. */
#include <string.h>

#include "base/str.h"
#include "coordinator/services.h"

static const char scheme[] = "retile://";

/* Cut @uri's next part, up to a slash or the end. */
static struct base_str cut(const char **uri)
{
    const size_t n = strcspn(*uri, "/");
    const struct base_str part = {*uri, n};

    *uri += n + ((*uri)[n] == '/' ? 1 : 0);
    return part;
}

bool coord_access_allows(const struct coord_access *access,
                         const char *uri,
                         unsigned role,
                         const char **ret_host)
{
    struct base_str cluster;
    struct base_str who;

    if (strncmp(uri, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    uri += sizeof(scheme) - 1;
    cluster = cut(&uri);
    who = cut(&uri);
    if (cluster.len == 0 || *uri == '\0' || strchr(uri, '/') != NULL ||
        (access->cluster[0] != '\0' &&
         !base_str_eq(cluster, base_str_of(access->cluster)))) {
        return false;
    }
    if (base_str_eq(who, BASE_STR("agent"))) {
        if (ret_host != NULL) {
            *ret_host = uri;
        }
        return role == COORD_ROLE_AGENT;
    }
    if (base_str_eq(who, BASE_STR("operator"))) {
        return role == COORD_ROLE_OPERATOR || role == COORD_ROLE_VIEWER;
    }
    return base_str_eq(who, BASE_STR("viewer")) && role == COORD_ROLE_VIEWER;
}

/* The time does not tell how much of it is right. */
static bool tokens_are_equal(const char *shown, const char *wanted)
{
    const size_t n_shown = strlen(shown);
    const size_t n_wanted = strlen(wanted);
    volatile unsigned char differs = n_shown != n_wanted;

    for (size_t i = 0; i < n_wanted; i++) {
        differs = (unsigned char)(differs |
                                  ((unsigned char)wanted[i] ^
                                   (unsigned char)shown[i < n_shown ? i : 0]));
    }
    return differs == 0;
}

enum base_code coord_access_authorize(void *ctx,
                                      const struct rpc_peer *peer,
                                      const struct rpc_method *method,
                                      struct base_err *err)
{
    const struct coord_access *access = ctx;
    const char *token = rpc_peer_token(peer);
    const char *name;

    if (method->role == 0) {
        return BASE_OK; /* health and reflection: whoever can reach us */
    }
    if (rpc_peer_is_verified(peer)) {
        for (unsigned i = 0; (name = rpc_peer_name(peer, i)) != NULL; i++) {
            if (coord_access_allows(access, name, method->role, NULL)) {
                return BASE_OK;
            }
        }
        return base_fail(err, BASE_DENIED,
                         "no name in the certificate (its common name is %s) "
                         "may call %s",
                         rpc_peer_common_name(peer) != NULL
                             ? rpc_peer_common_name(peer)
                             : "empty",
                         method->name);
    }
    if (access->token[0] == '\0') {
        return BASE_OK;
    }
    if (token == NULL) {
        return base_fail(err, BASE_DENIED, "a token is wanted");
    }
    if (!tokens_are_equal(token, access->token)) {
        return base_fail(err, BASE_DENIED, "it is the wrong token");
    }
    return BASE_OK;
}
