/* Mutual TLS: who may connect, and who the server takes them for. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/io.h"
#include "base/num.h"
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

/* Only the name itself, in its place, is the name. */
static void test_odd_names_are_nobody(void **state)
{
    static const struct {
        const char *name;
        enum base_code code;
    } cases[] = {
        {"nameless", BASE_DENIED}, {"common", BASE_DENIED}, {"many", BASE_OK},
        {"tail", BASE_DENIED}, /* the 17th */
        {"wild", BASE_DENIED},     {"nul", BASE_DENIED},    {"agent", BASE_OK},
    };
    struct identity server;

    (void)state;
    start_server(&server);
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct identity who;
        enum rpc_code code = RPC_OK;

        identify(&who, "ca", cases[i].name);
        assert_int_equal(echo_as(&who.tls, &code), cases[i].code);
        assert_int_equal(
            code, cases[i].code == BASE_OK ? RPC_OK : RPC_PERMISSION_DENIED);
    }
    lab_stop(&lab);
}

static void test_expired_certificates_are_refused(void **state)
{
    struct identity server;
    struct identity expired;
    struct identity agent;
    enum rpc_code code = RPC_OK;

    (void)state;
    start_server(&server);
    identify(&expired, "ca", "expired");
    assert_int_equal(echo_as(&expired.tls, &code), BASE_UNREACHABLE);
    assert_int_equal(rpc_server_stats_get(lab.server).n_accepted, 0);
    lab_stop(&lab);
    lab_start(&lab, &(struct lab_options){.server_tls = &expired.tls});
    identify(&agent, "ca", "agent");
    assert_int_equal(echo_as(&agent.tls, &code), BASE_UNREACHABLE);
    assert_non_null(strstr(err.text, "ertificate"));
    lab_stop(&lab);
}

/* A wildcard stands for one label of a server's name. */
static void test_server_may_have_a_wildcard(void **state)
{
    struct identity server;
    struct identity agent;
    enum rpc_code code = RPC_OK;

    (void)state;
    start_server(&server);
    identify(&agent, "ca", "agent");
    agent.tls.peer_name = "n7.pool.example";
    assert_ok(echo_as(&agent.tls, &code), &err);
    agent.tls.peer_name = "a.n7.pool.example";
    assert_int_equal(echo_as(&agent.tls, &code), BASE_UNREACHABLE);
    agent.tls.peer_name = "pool.example";
    assert_int_equal(echo_as(&agent.tls, &code), BASE_UNREACHABLE);
    lab_stop(&lab);
}

static void test_pair_that_does_not_fit_is_named(void **state)
{
    const struct rpc_server_options options = {0};
    struct rpc_server *bad = NULL;
    struct identity server;
    struct identity who;
    enum rpc_code code = RPC_OK;

    (void)state;
    start_server(&server);
    identify(&who, "ca", "agent");
    (void)snprintf(who.key, sizeof(who.key), "%s/person.key", dir);
    assert_int_equal(echo_as(&who.tls, &code), BASE_UNREACHABLE);
    assert_non_null(strstr(err.text, "certificate and the key"));
    assert_ok(rpc_server_create(&options, &bad, &err), &err);
    assert_int_equal(
        rpc_server_listen(bad, "127.0.0.1:0", &who.tls, NULL, &err),
        BASE_BAD_INPUT);
    assert_non_null(strstr(err.text, "person.key"));
    rpc_server_free(bad);
    lab_stop(&lab);
}

static void test_connection_without_a_handshake_is_closed(void **state)
{
    struct identity server;
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct pollfd fd = {.events = POLLIN};
    uint64_t port = 0;
    char bytes[256];
    ssize_t n = 1;

    (void)state;
    identify(&server, "ca", "server");
    lab_start(&lab, &(struct lab_options){.server.keepalive_timeout_ms = 100,
                                          .server_tls = &server.tls});
    assert_true(
        base_parse_u64(base_str_of(strchr(lab.target, ':') + 1), &port));
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fd.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(
        connect(fd.fd, (struct sockaddr *)&address, sizeof(address)), 0);
    while (n > 0) {
        assert_int_equal(poll(&fd, 1, LAB_WAIT_MS), 1);
        n = read(fd.fd, bytes, sizeof(bytes));
    }
    (void)close(fd.fd);
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
        cmocka_unit_test(test_odd_names_are_nobody),
        cmocka_unit_test(test_expired_certificates_are_refused),
        cmocka_unit_test(test_connection_without_a_handshake_is_closed),
        cmocka_unit_test(test_server_may_have_a_wildcard),
        cmocka_unit_test(test_pair_that_does_not_fit_is_named),
        cmocka_unit_test(test_replaced_certificates_count_for_new_connections),
        cmocka_unit_test(test_bad_files_are_named),
    };

    return cmocka_run_group_tests(tests, make_certificates,
                                  remove_certificates);
}
