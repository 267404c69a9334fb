/* What a server accepts: services, addresses, callers, and how many. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "proto/grpc/health/v1/health.pb-c.h"
#include "tests/unit/proto/lab.h"
#include "tests/unit/unit.h"

static struct lab lab;
static struct base_err err;

static int reset(void **state)
{
    (void)state;
    memset(&err, 0, sizeof(err));
    return 0;
}

static void test_tables_are_checked_against_the_proto(void **state)
{
    static const struct rpc_method wrong_kind[] = {
        {.name = "Count", .kind = RPC_UNARY},
    };
    static const struct rpc_method wrong_name[] = {
        {.name = "Cound", .kind = RPC_SERVER_STREAM},
    };
    struct rpc_service service = {
        .descriptor = LAB_SERVICE,
        .n_methods = 1,
    };

    (void)state;
    lab_start(&lab, NULL);
    assert_int_equal(rpc_server_add_service(lab.server, &service, &err),
                     BASE_EXISTS);
    lab_stop(&lab);
    for (int i = 0; i < 2; i++) {
        const struct rpc_server_options options = {0};
        struct rpc_server *server = NULL;

        service.methods = i == 0 ? wrong_kind : wrong_name;
        assert_ok(rpc_server_create(&options, &server, &err), &err);
        assert_int_equal(rpc_server_add_service(server, &service, &err),
                         BASE_BAD_ARG);
        rpc_server_free(server); /* also when it was never started */
    }
}

static void test_open_addresses_are_refused(void **state)
{
    static const struct {
        const char *address;
        enum base_code code;
    } cases[] = {
        {"0.0.0.0:0", BASE_DENIED},     {"[::]:0", BASE_DENIED},
        {"10.0.0.1:7070", BASE_DENIED}, {"example.org:7070", BASE_DENIED},
        {"nonsense", BASE_BAD_ARG},     {"unix:/nonexistent/s", BASE_NOT_FOUND},
        {"unix:/tmp/s", BASE_DENIED}, /* everybody's directory */
    };
    const struct rpc_server_options options = {0};
    struct rpc_server *server = NULL;
    struct rpc_channel *channel = NULL;

    (void)state;
    assert_ok(rpc_server_create(&options, &server, &err), &err);
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(
            rpc_server_listen(server, cases[i].address, NULL, NULL, &err),
            cases[i].code);
    }
    rpc_server_free(server);
    assert_int_equal(rpc_channel_open("10.0.0.1:7070", NULL, &channel, &err),
                     BASE_DENIED);
}

static void test_address_in_use_is_refused(void **state)
{
    const struct rpc_server_options options = {0};
    struct rpc_server *server = NULL;

    (void)state;
    lab_start(&lab, NULL);
    assert_ok(rpc_server_create(&options, &server, &err), &err);
    assert_int_equal(rpc_server_listen(server, lab.target, NULL, NULL, &err),
                     BASE_EXISTS);
    assert_non_null(strstr(err.text, "in use"));
    rpc_server_free(server);
    lab_stop(&lab);
    lab_start(&lab, &(struct lab_options){.address = "unix"});
    assert_ok(rpc_server_create(&options, &server, &err), &err);
    assert_int_equal(rpc_server_listen(server, lab.target, NULL, NULL, &err),
                     BASE_EXISTS);
    rpc_server_free(server);
    assert_ok(lab_echo(lab.channel, 1, 0, NULL, &err), &err);
    lab_stop(&lab);
}

/* A socket that a process left, or a file that is none. */
static void leave_behind(const char *path, bool is_socket)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd;

    if (is_socket) {
        fd = socket(AF_UNIX, SOCK_STREAM, 0);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
                         0);
    } else {
        fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    }
    assert_true(fd >= 0);
    (void)close(fd);
}

static void test_stale_socket_is_replaced_a_file_is_not(void **state)
{
    const struct rpc_server_options options = {0};
    char dir[] = "/tmp/retile-rpc.XXXXXX";
    struct rpc_server *server = NULL;
    char address[80];
    char path[64];

    (void)state;
    assert_non_null(mkdtemp(dir));
    (void)snprintf(path, sizeof(path), "%s/s", dir);
    (void)snprintf(address, sizeof(address), "unix:%s", path);
    for (int is_socket = 0; is_socket < 2; is_socket++) {
        leave_behind(path, is_socket != 0);
        assert_ok(rpc_server_create(&options, &server, &err), &err);
        assert_int_equal(rpc_server_listen(server, address, NULL, NULL, &err),
                         is_socket != 0 ? BASE_OK : BASE_EXISTS);
        rpc_server_free(server);
        (void)unlink(path);
    }
    assert_int_equal(chmod(dir, 0755), 0);
    assert_ok(rpc_server_create(&options, &server, &err), &err);
    assert_int_equal(rpc_server_listen(server, address, NULL, NULL, &err),
                     BASE_DENIED);
    rpc_server_free(server);
    assert_int_equal(rmdir(dir), 0);
}

/* Core reads addresses as URIs. */
static void test_path_of_a_socket_may_have_any_characters(void **state)
{
    static const char *const names[] = {
        "a b",      "a%20b",   "a#b", "a?b", "a[b]",
        "\xc3\xbc", "a\"b\\c", "a%",  "a:1",
    };
    char top[] = "/tmp/retile-rpc.XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(top));
    for (size_t i = 0; i < N_ITEMS(names); i++) {
        BASE_AUTO_MEM char *dir = base_path("%s/%s", top, names[i]);
        BASE_AUTO_MEM char *path = base_path("%s/s", dir);
        BASE_AUTO_MEM char *address = base_path("unix:%s", path);

        assert_int_equal(mkdir(dir, 0700), 0);
        lab_start(&lab, &(struct lab_options){.address = address});
        assert_int_equal(access(path, F_OK), 0);
        assert_ok(lab_echo(lab.channel, 1, 0, NULL, &err), &err);
        lab_stop(&lab);
        assert_int_equal(rmdir(dir), 0);
    }
    assert_int_equal(rmdir(top), 0);
}

/* Who shows the token "good" may call methods of role 1; the rest is open. */
static enum base_code authorize(void *ctx,
                                const struct rpc_peer *peer,
                                const struct rpc_method *method,
                                struct base_err *ret_err)
{
    const char *token = rpc_peer_token(peer);

    (void)ctx;
    if (method->role == 0 || (token != NULL && strcmp(token, "good") == 0)) {
        return BASE_OK;
    }
    return base_fail(ret_err, BASE_DENIED, "%s is not for %s", method->name,
                     rpc_peer_address(peer));
}

static void test_token_opens_a_method(void **state)
{
    enum rpc_code code = RPC_OK;
    struct rpc_call_options options = {.ret_code = &code};

    (void)state;
    lab_start(&lab, &(struct lab_options){.server.authorize = authorize});
    assert_int_equal(lab_echo(lab.channel, 1, 0, &options, &err), BASE_DENIED);
    assert_int_equal(code, RPC_UNAUTHENTICATED);
    assert_non_null(strstr(err.text, "Echo is not for ipv4:127.0.0.1:"));
    options.token = "bad";
    assert_int_equal(lab_echo(lab.channel, 1, 0, &options, &err), BASE_DENIED);
    assert_int_equal(code, RPC_PERMISSION_DENIED);
    options.token = "good";
    assert_ok(lab_echo(lab.channel, 1, 0, &options, &err), &err);
    options.token = "good\r\nx: y";
    assert_int_equal(lab_echo(lab.channel, 1, 0, &options, &err), BASE_BAD_ARG);
    lab_stop(&lab);
}

static enum base_code check(const ProtobufCMessage *message,
                            struct base_err *ret_err)
{
    if (message->descriptor == &lab__note__descriptor &&
        ((const Lab__Note *)(const void *)message)->number == 13) {
        return base_fail(ret_err, BASE_BAD_ARG, "13 is not allowed");
    }
    return BASE_OK;
}

static void test_checked_messages_do_not_reach_handlers(void **state)
{
    (void)state;
    lab_start(&lab, &(struct lab_options){.server.check = check});
    assert_int_equal(lab_echo(lab.channel, 13, 0, NULL, &err), BASE_BAD_ARG);
    assert_string_equal(err.text, "13 is not allowed");
    assert_ok(lab_echo(lab.channel, 14, 0, NULL, &err), &err);
    lab_stop(&lab);
}

static void test_too_many_calls_are_refused(void **state)
{
    enum { MAX = 4 };
    struct lab_stream held[MAX];
    enum rpc_code code = RPC_OK;
    const struct rpc_call_options options = {.ret_code = &code};

    (void)state;
    lab_start(&lab, &(struct lab_options){.server.max_calls = MAX});
    for (size_t i = 0; i < MAX; i++) {
        lab_open(lab.channel, "Hold", NULL, &held[i]);
        assert_int_equal(lab_send(&held[i], 1, 0), RPC_SENT);
        assert_true(lab_wait_count(&held[i].n_headers, 1));
    }
    assert_int_equal(lab_echo(lab.channel, 1, 0, &options, &err), BASE_LIMIT);
    assert_int_equal(code, RPC_RESOURCE_EXHAUSTED);
    assert_string_equal(err.text, "too many calls are open");
    for (size_t i = 0; i < MAX; i++) {
        rpc_stream_cancel(held[i].stream);
        assert_int_equal(lab_finish(&held[i]), RPC_CANCELLED);
    }
    assert_true(lab_wait_count(&lab.n_closed, MAX));
    lab_stop(&lab);
}

static void on_nothing(void *ctx,
                       const ProtobufCMessage *answer,
                       const struct rpc_status *status)
{
    atomic_uint *n_by_code = ctx;

    (void)answer;
    (void)atomic_fetch_add(&n_by_code[status->code], 1);
}

static void test_busy_server_refuses(void **state)
{
    enum { N = 40, MAX = 8 };
    atomic_uint n_by_code[17] = {0};
    Lab__Note note = LAB__NOTE__INIT;

    (void)state;
    lab_start(&lab, &(struct lab_options){.server.n_workers = 1,
                                          .server.max_queued = MAX});
    atomic_store(&lab.is_gate_shut, true);
    for (int i = 0; i < N; i++) {
        assert_ok(rpc_unary_start(lab.channel, LAB_SERVICE, "Echo", &note.base,
                                  NULL, on_nothing, n_by_code, &err),
                  &err);
    }
    /* MAX wait, and one is in the handler, or was among them before. */
    assert_true(
        lab_wait_count(&n_by_code[RPC_RESOURCE_EXHAUSTED], N - MAX - 1));
    assert_in_range(rpc_server_stats_get(lab.server).n_queued, MAX - 1, MAX);
    (void)pthread_mutex_lock(&lab.lock);
    atomic_store(&lab.is_gate_shut, false);
    (void)pthread_cond_broadcast(&lab.changed);
    (void)pthread_mutex_unlock(&lab.lock);
    assert_true(lab_wait_count(&n_by_code[RPC_OK], MAX));
    lab_stop(&lab);
}

static void capped_open(struct rpc_call *call)
{
    assert_true(rpc_call_remaining_ms(call) <= 150);
    rpc_call_send_headers(call);
}

static void test_method_has_a_limit_of_time(void **state)
{
    static const struct rpc_method methods[] = {
        {
            .name = "Chat",
            .kind = RPC_BIDI,
            .max_ms = 150,
            .on_open = capped_open,
        },
    };
    static const struct rpc_service service = {
        .descriptor = LAB_SERVICE,
        .methods = methods,
        .n_methods = 1,
    };
    struct lab_stream stream;
    const struct rpc_call_options options = {.timeout_ms = 1000000};

    (void)state;
    lab_start(&lab, &(struct lab_options){.service = &service});
    lab_open(lab.channel, "Chat", &options, &stream);
    assert_true(lab_wait_count(&stream.n_headers, 1));
    assert_int_equal(lab_finish(&stream), RPC_DEADLINE_EXCEEDED);
    assert_non_null(strstr(stream.status.text, "limit of time"));
    lab_stop(&lab);
}

static void test_peer_of_a_socket_is_known(void **state)
{
    (void)state;
    lab_start(&lab, &(struct lab_options){.address = "unix",
                                          .server.authorize = lab_unix_only});
    assert_ok(lab_echo(lab.channel, 1, 0, NULL, &err), &err);
    lab_stop(&lab);
    lab_start(&lab, &(struct lab_options){.server.authorize = lab_unix_only});
    assert_int_equal(lab_echo(lab.channel, 1, 0, NULL, &err), BASE_DENIED);
    lab_stop(&lab);
}

/* Health. */

typedef Grpc__Health__V1__HealthCheckResponse health_response;

static enum base_code
ask(const char *service, int *ret_status, struct base_err *ret_err)
{
    Grpc__Health__V1__HealthCheckRequest request =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    BASE_AUTO_MEM char *name = strdup(service);

    request.service = name;
    BASE_TRY(rpc_unary(lab.channel, &grpc__health__v1__health__descriptor,
                       "Check", &request.base, NULL, &answer, ret_err));
    *ret_status = (int)((const health_response *)(const void *)answer)->status;
    rpc_message_free(answer);
    return BASE_OK;
}

struct health_seen {
    atomic_uint n;
    atomic_int last;
    atomic_uint n_done;
};

static void
on_health(struct rpc_stream *stream, void *ctx, const ProtobufCMessage *message)
{
    struct health_seen *seen = ctx;

    (void)stream;
    atomic_store(&seen->last,
                 (int)((const health_response *)(const void *)message)->status);
    (void)atomic_fetch_add(&seen->n, 1);
}

static void on_health_done(struct rpc_stream *stream,
                           void *ctx,
                           const struct rpc_status *status)
{
    struct health_seen *seen = ctx;

    (void)stream;
    (void)atomic_fetch_add(&seen->n_done, status->code == RPC_UNAVAILABLE);
}

static void test_health_is_told_and_watched(void **state)
{
    static const struct rpc_stream_events events = {
        .on_message = on_health,
        .on_done = on_health_done,
    };
    Grpc__Health__V1__HealthCheckRequest request =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct health_seen seen = {0};
    struct rpc_stream *stream = NULL;
    int status = 0;

    (void)state;
    lab_start(&lab, NULL);
    assert_ok(ask("", &status, &err), &err);
    assert_int_equal(status, 1);
    assert_ok(ask("lab.Lab", &status, &err), &err);
    assert_int_equal(ask("lab.Nobody", &status, &err), BASE_NOT_FOUND);
    assert_ok(rpc_stream_open(lab.channel,
                              &grpc__health__v1__health__descriptor, "Watch",
                              NULL, &events, &seen, &stream, &err),
              &err);
    assert_int_equal(rpc_stream_send(stream, &request.base), RPC_SENT);
    assert_true(lab_wait_count(&seen.n, 1));
    assert_int_equal(atomic_load(&seen.last), 1);
    rpc_server_set_serving(lab.server, false);
    assert_true(lab_wait_count(&seen.n, 2));
    assert_int_equal(atomic_load(&seen.last), 2);
    assert_ok(ask("", &status, &err), &err);
    assert_int_equal(status, 2);
    rpc_server_set_serving(lab.server, true);
    assert_true(lab_wait_count(&seen.n, 3));
    rpc_server_stop(lab.server, LAB_WAIT_MS); /* does not wait for watchers */
    assert_true(lab_wait_count(&seen.n_done, 1));
    assert_int_equal(atomic_load(&seen.last), 2);
    rpc_stream_unref(stream);
    lab_stop(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_tables_are_checked_against_the_proto,
                               reset),
        cmocka_unit_test_setup(test_open_addresses_are_refused, reset),
        cmocka_unit_test_setup(test_address_in_use_is_refused, reset),
        cmocka_unit_test_setup(test_stale_socket_is_replaced_a_file_is_not,
                               reset),
        cmocka_unit_test_setup(test_path_of_a_socket_may_have_any_characters,
                               reset),
        cmocka_unit_test_setup(test_token_opens_a_method, reset),
        cmocka_unit_test_setup(test_checked_messages_do_not_reach_handlers,
                               reset),
        cmocka_unit_test_setup(test_too_many_calls_are_refused, reset),
        cmocka_unit_test_setup(test_busy_server_refuses, reset),
        cmocka_unit_test_setup(test_method_has_a_limit_of_time, reset),
        cmocka_unit_test_setup(test_peer_of_a_socket_is_known, reset),
        cmocka_unit_test_setup(test_health_is_told_and_watched, reset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
