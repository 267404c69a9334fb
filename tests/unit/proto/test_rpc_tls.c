/* Mutual TLS: who may connect, and who the server takes them for. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/io.h"
#include "tests/unit/proto/lab.h"
#include "tests/unit/unit.h"

extern char **environ;

static char dir[] = "/tmp/retile-tls.XXXXXX";
static struct lab lab;
static struct base_err err;

/* Files of one identity, below dir. */
struct identity {
    char ca[64];
    char cert[64];
    char key[64];
    struct rpc_tls tls;
};

static void identify(struct identity *who, const char *ca, const char *name)
{
    (void)snprintf(who->ca, sizeof(who->ca), "%s/%s.pem", dir, ca);
    (void)snprintf(who->cert, sizeof(who->cert), "%s/%s.pem", dir, name);
    (void)snprintf(who->key, sizeof(who->key), "%s/%s.key", dir, name);
    who->tls = (struct rpc_tls){
        .ca_path = who->ca,
        .cert_path = who->cert,
        .key_path = who->key,
    };
}

static int make_certificates(void **state)
{
    BASE_AUTO_MEM char *script = base_path(
        "%s/tests/unit/proto/certs.sh",
        getenv("RETILE_SOURCE") != NULL ? getenv("RETILE_SOURCE") : ".");
    char *argv[] = {script, dir, NULL};
    int status = -1;
    pid_t child;

    (void)state;
    if (mkdtemp(dir) == NULL ||
        posix_spawn(&child, script, NULL, NULL, argv, environ) != 0 ||
        waitpid(child, &status, 0) != child) {
        return -1;
    }
    return status;
}

static int remove_certificates(void **state)
{
    (void)state;
    return base_dir_remove(AT_FDCWD, dir, NULL) == BASE_OK ? 0 : -1;
}

/* Agents alone may call methods of role 1, by a name that our CA has signed. */
static enum base_code agents_only(void *ctx,
                                  const struct rpc_peer *peer,
                                  const struct rpc_method *method,
                                  struct base_err *ret_err)
{
    (void)ctx;
    if (method->role != 1 ||
        (rpc_peer_is_verified(peer) &&
         rpc_peer_has_name(peer, "spiffe://retile/agent/worker-7"))) {
        return BASE_OK;
    }
    return base_fail(ret_err, BASE_DENIED, "%s (%s, %s) is no agent",
                     rpc_peer_common_name(peer), rpc_peer_name(peer, 0),
                     rpc_peer_name(peer, 1) != NULL ? "two names" : "one name");
}

static void start_server(struct identity *server)
{
    identify(server, "ca", "server");
    memset(&err, 0, sizeof(err));
    lab_start(&lab, &(struct lab_options){
                        .server.authorize = agents_only,
                        .server_tls = &server->tls,
                        .address = "0.0.0.0:0", /* with certificates it may */
                    });
}

/* What an echo gives to a client that shows @tls. */
static enum base_code echo_as(const struct rpc_tls *tls,
                              enum rpc_code *ret_code)
{
    const struct rpc_channel_options options = {
        .tls = tls,
        .has_own_connection = true,
    };
    const struct rpc_call_options call_options = {.ret_code = ret_code};
    struct rpc_channel *channel = NULL;
    enum base_code rc;

    assert_ok(rpc_channel_open(lab.target, &options, &channel, &err), &err);
    rc = lab_echo(channel, 1, 100, &call_options, &err);
    rpc_channel_free(channel);
    return rc;
}

static void test_agent_is_known_by_its_name(void **state)
{
    struct identity server;
    struct identity agent;
    enum rpc_code code = RPC_OK;

    (void)state;
    start_server(&server);
    identify(&agent, "ca", "agent");
    assert_ok(echo_as(&agent.tls, &code), &err);
    agent.tls.peer_name = "node0"; /* a name in place of the address */
    assert_ok(echo_as(&agent.tls, &code), &err);
    lab_stop(&lab);
}

static void test_another_role_is_denied(void **state)
{
    struct identity server;
    struct identity person;
    enum rpc_code code = RPC_OK;

    (void)state;
    start_server(&server);
    identify(&person, "ca", "person");
    assert_int_equal(echo_as(&person.tls, &code), BASE_DENIED);
    assert_int_equal(code, RPC_PERMISSION_DENIED);
    assert_string_equal(
        err.text, "alice (spiffe://retile/person/alice, one name) is no agent");
    lab_stop(&lab);
}

static void test_strangers_are_refused(void **state)
{
    struct identity server;
    struct identity stranger;
    struct identity agent;
    enum rpc_code code = RPC_OK;

    (void)state;
    start_server(&server);
    assert_int_equal(echo_as(NULL, &code), BASE_UNREACHABLE); /* plain */
    identify(&stranger, "ca", "stranger"); /* signed by a foreign CA */
    assert_int_equal(echo_as(&stranger.tls, &code), BASE_UNREACHABLE);
    identify(&agent, "foreign", "agent"); /* does not trust the server */
    assert_int_equal(echo_as(&agent.tls, &code), BASE_UNREACHABLE);
    assert_non_null(strstr(err.text, "ertificate"));
    identify(&agent, "ca", "agent");
    agent.tls.peer_name = "node1"; /* the server is another one */
    assert_int_equal(echo_as(&agent.tls, &code), BASE_UNREACHABLE);
    assert_int_equal(rpc_server_stats_get(lab.server).n_accepted, 0);
    identify(&agent, "ca", "agent"); /* and service goes on */
    assert_ok(echo_as(&agent.tls, &code), &err);
    lab_stop(&lab);
}

static void copy_file(const char *from, const char *to)
{
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 65536);
    assert_ok(base_file_read(AT_FDCWD, from, &buf, &err), &err);
    (void)unlink(to);
    assert_ok(base_file_write(AT_FDCWD, to, base_buf_str(&buf), &err), &err);
}

static void test_replaced_certificates_count_for_new_connections(void **state)
{
    struct identity server;
    struct identity renewed;
    struct identity old;
    struct identity agent;
    enum rpc_code code = RPC_OK;

    (void)state;
    start_server(&server);
    identify(&agent, "ca", "agent");
    agent.tls.peer_name = "node0";
    assert_ok(echo_as(&agent.tls, &code), &err);
    identify(&renewed, "ca", "renewed");
    (void)snprintf(old.cert, sizeof(old.cert), "%s/old.pem", dir);
    (void)snprintf(old.key, sizeof(old.key), "%s/old.key", dir);
    copy_file(server.cert, old.cert);
    copy_file(server.key, old.key);
    copy_file(renewed.cert, server.cert);
    /* Half replaced: the pair does not fit, the one before stays. */
    assert_ok(echo_as(&agent.tls, &code), &err);
    copy_file(renewed.key, server.key);
    /* The new one is not node0, and is good for the address. */
    assert_int_equal(echo_as(&agent.tls, &code), BASE_UNREACHABLE);
    agent.tls.peer_name = NULL;
    assert_ok(echo_as(&agent.tls, &code), &err);
    /* Without files the last pair stays. */
    assert_int_equal(unlink(server.cert), 0);
    assert_ok(echo_as(&agent.tls, &code), &err);
    copy_file(old.cert, server.cert);
    copy_file(old.key, server.key);
    lab_stop(&lab);
}

static void test_bad_files_are_named(void **state)
{
    const struct rpc_server_options options = {0};
    struct rpc_server *server = NULL;
    struct identity who;

    (void)state;
    assert_ok(rpc_server_create(&options, &server, &err), &err);
    identify(&who, "ca", "nobody");
    assert_int_equal(
        rpc_server_listen(server, "127.0.0.1:0", &who.tls, NULL, &err),
        BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "nobody.pem"));
    identify(&who, "ca", "server");
    (void)snprintf(who.ca, sizeof(who.ca), "%s/ca.srl", dir);
    assert_int_equal(
        rpc_server_listen(server, "127.0.0.1:0", &who.tls, NULL, &err),
        BASE_BAD_INPUT);
    who.tls.ca_path = NULL;
    assert_int_equal(
        rpc_server_listen(server, "127.0.0.1:0", &who.tls, NULL, &err),
        BASE_BAD_ARG);
    rpc_server_free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agent_is_known_by_its_name),
        cmocka_unit_test(test_another_role_is_denied),
        cmocka_unit_test(test_strangers_are_refused),
        cmocka_unit_test(test_replaced_certificates_count_for_new_connections),
        cmocka_unit_test(test_bad_files_are_named),
    };

    return cmocka_run_group_tests(tests, make_certificates,
                                  remove_certificates);
}
