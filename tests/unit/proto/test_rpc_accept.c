/* A server that runs out of descriptors goes on when it has some again. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/num.h"
#include "tests/unit/proto/lab.h"
#include "tests/unit/unit.h"

enum { MAX_FILES = 96, N_CONNECTIONS = 300 };

static struct lab lab;
static struct base_err err;

/* In a child, whose descriptors are its own: connect to the port that it is
 * told, say so, and hold the connections until it is told to go. */
static void flood(int line)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    uint16_t port = 0;
    char byte = 'x';
    bool is_good = read(line, &port, sizeof(port)) == sizeof(port);

    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < N_CONNECTIONS && is_good; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        is_good = fd >= 0 && connect(fd, (struct sockaddr *)&address,
                                     sizeof(address)) == 0;
    }
    is_good =
        is_good && write(line, &byte, 1) == 1 && read(line, &byte, 1) == 1;
    _exit(is_good ? 0 : 1);
}

static bool has_no_descriptor(void *ctx)
{
    int fd = dup(0);

    (void)ctx;
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd < 0 && errno == EMFILE;
}

static void test_listener_survives_exhaustion(void **state)
{
    const struct rlimit few = {MAX_FILES, MAX_FILES};
    const struct rpc_channel_options own = {.has_own_connection = true};
    const struct rpc_call_options patient = {.timeout_ms = LAB_WAIT_MS,
                                             .wait_for_ready = true};
    struct rpc_channel *channel = NULL;
    uint64_t number = 0;
    uint16_t port;
    int line[2];
    int status = -1;
    char byte;
    pid_t child;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, line), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(line[1]);
        flood(line[0]);
    }
    (void)close(line[0]);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    lab_start(&lab, NULL);
    assert_ok(lab_echo(lab.channel, 1, 0, NULL, &err), &err);
    assert_true(
        base_parse_u64(base_str_of(strchr(lab.target, ':') + 1), &number));
    port = (uint16_t)number;
    assert_int_equal(write(line[1], &port, sizeof(port)), sizeof(port));
    assert_int_equal(read(line[1], &byte, 1), 1);
    assert_true(lab_wait(has_no_descriptor, NULL));
    assert_ok(lab_echo(lab.channel, 2, 0, NULL, &err), &err);
    assert_int_equal(write(line[1], &byte, 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(rpc_channel_open(lab.target, &own, &channel, &err), &err);
    assert_ok(lab_echo(channel, 3, 0, &patient, &err), &err);
    rpc_channel_free(channel);
    (void)close(line[1]);
    lab_stop(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listener_survives_exhaustion),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
