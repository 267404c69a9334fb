#include "cli/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/file.h"
#include "proto/check.h"

enum {
    CALL_TIMEOUT_MS = 30000,
    N_TRIES = 4,
    FIRST_PAUSE_MS = 150,
    TOKEN_MAX_BYTES = 4096,
};

struct cli_connect_args cli_connect_args;

struct cli_server {
    struct rpc_channel *channel;
    struct base_buf token; /* empty: none */
};

void cli_server_free(struct cli_server *server)
{
    if (server == NULL) {
        return;
    }
    rpc_channel_free(server->channel);
    base_buf_done(&server->token);
    free(server);
}

/* The option, else the variable when it is not empty, else @otherwise. */
static const char *
choose(const char *option, const char *variable, const char *otherwise)
{
    /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *env = option == NULL ? getenv(variable) : NULL;

    if (option != NULL) {
        return option;
    }
    return env != NULL && env[0] != '\0' ? env : otherwise;
}

static enum base_code read_token(struct cli_server *server,
                                 struct base_err *err)
{
    const char *path =
        choose(cli_connect_args.token_file, "RETILE_TOKEN_FILE", NULL);
    const char *text = path == NULL ? choose(NULL, "RETILE_TOKEN", NULL) : NULL;
    struct base_buf *token = &server->token;

    base_buf_init(token, TOKEN_MAX_BYTES);
    if (text != NULL) {
        (void)base_buf_add_str(token, base_str_of(text)); /* checked below */
    }
    if (path != NULL) {
        BASE_TRY(base_file_read(AT_FDCWD, path, token, err));
    }
    BASE_TRY(base_buf_check(token, err));
    while (token->len > 0 && strchr(" \r\n\t", token->ptr[token->len - 1])) {
        token->ptr[--token->len] = '\0';
    }
    if (path != NULL && token->len == 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s: there is no token in it",
                         path);
    }
    return BASE_OK;
}

/* All of CA, certificate and key, or none. */
static enum base_code take_tls(struct rpc_tls *tls, struct base_err *err)
{
    int n = 0;

    tls->ca_path = choose(cli_connect_args.tls_ca, "RETILE_TLS_CA", NULL);
    tls->cert_path = choose(cli_connect_args.tls_cert, "RETILE_TLS_CERT", NULL);
    tls->key_path = choose(cli_connect_args.tls_key, "RETILE_TLS_KEY", NULL);
    tls->peer_name = choose(cli_connect_args.tls_name, "RETILE_TLS_NAME", NULL);
    n = (tls->ca_path != NULL) + (tls->cert_path != NULL) +
        (tls->key_path != NULL);
    if (n != 0 && n != 3) {
        return base_fail(err, BASE_BAD_ARG,
                         "--tls-ca, --tls-cert and --tls-key belong together: "
                         "%s is missing",
                         tls->ca_path == NULL     ? "--tls-ca"
                         : tls->cert_path == NULL ? "--tls-cert"
                                                  : "--tls-key");
    }
    return BASE_OK;
}

enum base_code cli_connect(struct cli_server **ret, struct base_err *err)
{
    const char *address = choose(cli_connect_args.coordinator,
                                 "RETILE_COORDINATOR", CLI_DEFAULT_COORDINATOR);
    BASE_AUTO(cli_server) server = calloc(1, sizeof(*server));
    struct rpc_tls tls = {0};
    struct rpc_channel_options options = {
        .what = "the coordinator",
        .check = rpc_check,
    };

    if (server == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot keep a connection");
    }
    BASE_TRY(read_token(server, err));
    BASE_TRY(take_tls(&tls, err));
    options.tls = tls.ca_path == NULL ? NULL : &tls;
    cli_catch_signals();
    BASE_TRY(rpc_channel_open(address, &options, &server->channel, err));
    *ret = base_steal(&server);
    return BASE_OK;
}

struct rpc_channel *cli_server_channel(const struct cli_server *server)
{
    return server->channel;
}

const char *cli_server_token(const struct cli_server *server)
{
    return server->token.len == 0 ? NULL : server->token.ptr;
}

bool cli_is_lost(enum base_code code)
{
    return code == BASE_UNREACHABLE || code == BASE_TIMEOUT;
}

void cli_pause(int ms)
{
    if (!cli_was_interrupted()) {
        (void)poll(NULL, 0, ms); /* EINTR: a signal, as wanted */
    }
}

enum base_code cli_call(struct cli_server *server,
                        const ProtobufCServiceDescriptor *service,
                        const char *method,
                        const ProtobufCMessage *message,
                        ProtobufCMessage **ret,
                        struct base_err *err)
{
    const struct rpc_call_options options = {
        .timeout_ms = CALL_TIMEOUT_MS,
        .token = cli_server_token(server),
        .is_interrupted = cli_was_interrupted,
    };
    enum base_code rc = BASE_OK;
    int pause_ms = FIRST_PAUSE_MS;

    for (int i = 0; i < N_TRIES; i++) {
        rc = rpc_unary(server->channel, service, method, message, &options, ret,
                       err);
        if (rc != BASE_UNREACHABLE || cli_was_interrupted()) {
            break;
        }
        if (i + 1 < N_TRIES) {
            cli_pause(pause_ms);
            pause_ms *= 2;
        }
    }
    return rc;
}

/* Jobs and hosts are listed alike. */
struct list_request {
    ProtobufCMessage base;
    char *after;
};
struct list_item {
    ProtobufCMessage base;
    char *name;
};
struct list {
    ProtobufCMessage base;
    size_t n;
    struct list_item **items;
    protobuf_c_boolean has_more;
};
#define IS_LIKE(a, field_a, b, field_b)                                        \
    _Static_assert(offsetof(a, field_a) == offsetof(b, field_b), "not alike")
/* One that grows would be initialised beyond the end of ours. */
_Static_assert(sizeof(struct list_request) ==
                       sizeof(Retile__V1__ListJobsRequest) &&
                   sizeof(struct list_request) ==
                       sizeof(Retile__V1__ListDevicesRequest),
               "not alike");
IS_LIKE(struct list_request, after, Retile__V1__ListJobsRequest, after);
IS_LIKE(struct list_request, after, Retile__V1__ListDevicesRequest, after);
IS_LIKE(struct list_item, name, Retile__V1__Job, name);
IS_LIKE(struct list_item, name, Retile__V1__Host, name);
IS_LIKE(struct list, n, Retile__V1__ListJobsResponse, n_jobs);
IS_LIKE(struct list, n, Retile__V1__ListDevicesResponse, n_hosts);
IS_LIKE(struct list, items, Retile__V1__ListJobsResponse, jobs);
IS_LIKE(struct list, items, Retile__V1__ListDevicesResponse, hosts);
IS_LIKE(struct list, has_more, Retile__V1__ListJobsResponse, has_more);
IS_LIKE(struct list, has_more, Retile__V1__ListDevicesResponse, has_more);

/* Move @page's items to the end of @list. */
static enum base_code
append(struct list *list, struct list *page, struct base_err *err)
{
    struct list_item **items = reallocarray(list->items, list->n + page->n + 1,
                                            sizeof(struct list_item *));

    if (items == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot list them all");
    }
    list->items = items;
    for (size_t i = 0; i < page->n; i++) {
        items[list->n++] = page->items[i];
    }
    page->n = 0;
    list->has_more = page->has_more;
    return BASE_OK;
}

enum base_code cli_call_list(struct cli_server *server,
                             const ProtobufCServiceDescriptor *service,
                             ProtobufCMessage **ret,
                             struct base_err *err)
{
    const ProtobufCMethodDescriptor *method =
        protobuf_c_service_descriptor_get_method_by_name(service, "List");
    struct list_request request;
    CLI_AUTO_ANSWER all = NULL;

    protobuf_c_message_init(method->input, &request);
    BASE_TRY(cli_call(server, service, "List", &request.base, &all, err));
    for (struct list *list = (struct list *)all; list->has_more;) {
        CLI_AUTO_ANSWER page = NULL;

        if (list->n == 0) {
            return base_fail(err, BASE_BAD_INPUT, "a page without an end");
        }
        request.after = list->items[list->n - 1]->name;
        BASE_TRY(cli_call(server, service, "List", &request.base, &page, err));
        BASE_TRY(append(list, (struct list *)page, err));
        if (strcmp(list->items[list->n - 1]->name, request.after) <= 0) {
            return base_fail(err, BASE_BAD_INPUT, "a page that does not go on");
        }
    }
    *ret = base_steal(&all);
    return BASE_OK;
}

char *cli_request_id(char *text)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[(CLI_REQUEST_ID_BYTES - 1) / 2];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        abort(); /* 16 bytes, without flags: it cannot fall short */
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * sizeof(bytes)] = '\0';
    return text;
}
