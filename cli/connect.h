/* The coordinator: where it is, who we are, and calls to it.
 *
 * A verb that calls it has CLI_CONNECT_OPTIONS in its table; what is not given
 * comes from the environment (RETILE_COORDINATOR, RETILE_TLS_CA, RETILE_TLS_CERT,
 * RETILE_TLS_KEY, RETILE_TLS_NAME, RETILE_TOKEN). */
#ifndef CLI_CONNECT_H
#define CLI_CONNECT_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "base/err.h"
#include "cli/cli.h"
#include "proto/rpc_client.h"

struct cli_connect_args {
    const char *coordinator;
    const char *tls_ca;
    const char *tls_cert;
    const char *tls_key;
    const char *tls_name;
    const char *token_file;
};
extern struct cli_connect_args cli_connect_args;

#define CLI_DEFAULT_COORDINATOR "unix:/run/retile-coordinator/coordinator.sock"

/* clang-format off */
#define CLI_CONNECT_OPTIONS                                                    \
    {"coordinator", 0, "ADDRESS",                                              \
     "unix:PATH or HOST:PORT (default: RETILE_COORDINATOR)",                   \
     &cli_connect_args.coordinator, NULL},                                     \
    {"tls-ca", 0, "FILE", "who signed its certificate (RETILE_TLS_CA)",        \
     &cli_connect_args.tls_ca, NULL},                                          \
    {"tls-cert", 0, "FILE", "our certificate (RETILE_TLS_CERT)",               \
     &cli_connect_args.tls_cert, NULL},                                        \
    {"tls-key", 0, "FILE", "its key (RETILE_TLS_KEY)",                         \
     &cli_connect_args.tls_key, NULL},                                         \
    {"tls-name", 0, "NAME",                                                    \
     "the name in its certificate, if not its host (RETILE_TLS_NAME)",         \
     &cli_connect_args.tls_name, NULL},                                        \
    {"token-file", 0, "FILE", "a file with our token (or RETILE_TOKEN)",       \
     &cli_connect_args.token_file, NULL}
/* clang-format on */

struct cli_server;
void cli_server_free(struct cli_server *server);
BASE_AUTO_DEFINE(cli_server);

/* Take options and environment; connects with the first call.  SIGINT, SIGTERM
 * and SIGHUP end calls from now on.
 * Errors: BASE_BAD_ARG, BASE_DENIED, BASE_NOT_FOUND, BASE_BAD_INPUT, BASE_IO
 *         as rpc_channel_open; or the token's file */
enum base_code cli_connect(struct cli_server **ret,
                           struct base_err *err) BASE_MUST_CHECK;

struct rpc_channel *cli_server_channel(const struct cli_server *server);
const char *cli_server_token(const struct cli_server *server);

/* Call a unary method.  A call that the coordinator did not answer is made again,
 * up to three times, as it is: what changes something has a request id.  *ret
 * (may be NULL) is given; free with rpc_message_free.
 * Errors: as rpc_unary */
enum base_code cli_call(struct cli_server *server,
                        const ProtobufCServiceDescriptor *service,
                        const char *method,
                        const ProtobufCMessage *message,
                        ProtobufCMessage **ret,
                        struct base_err *err) BASE_MUST_CHECK;

/* Call List of Jobs or Devices until all pages are there; *ret is a ListJobsResponse
 * or ListDevicesResponse with all of them, given as above.  Errors: as cli_call */
enum base_code cli_call_list(struct cli_server *server,
                             const ProtobufCServiceDescriptor *service,
                             ProtobufCMessage **ret,
                             struct base_err *err) BASE_MUST_CHECK;

/* An answer that is freed with its scope. */
static inline void cli_answer_auto_(ProtobufCMessage **slot)
{
    rpc_message_free(*slot);
}
#define CLI_AUTO_ANSWER                                                        \
    __attribute__((cleanup(cli_answer_auto_))) ProtobufCMessage *

/* May a call that failed so be made again? */
bool cli_is_lost(enum base_code code);

/* Wait @ms, or until a signal came. */
void cli_pause(int ms);

enum { CLI_REQUEST_ID_BYTES = 33 };
/* A random id, for one intention.  @text has CLI_REQUEST_ID_BYTES; returns it. */
char *cli_request_id(char *text);

#endif
