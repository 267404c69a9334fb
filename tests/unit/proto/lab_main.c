/* The lab as a program, for peers in other languages.
 *
 *   rpc_lab serve               print the port; serve until SIGTERM
 *   rpc_lab call HOST:PORT      try the four kinds on a server of lab.proto */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/proto/lab.h"
#include "tests/unit/unit.h"

static int serve(void)
{
    static struct lab lab;
    sigset_t signals;
    int signo = 0;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before threads */
    lab_start(&lab, NULL);
    (void)printf("%s\n", strchr(lab.target, ':') + 1);
    (void)fflush(stdout);
    (void)sigwait(&signals, &signo);
    rpc_server_stop(lab.server, 5000);
    lab_stop(&lab);
    return EXIT_SUCCESS;
}

static void call_streams(struct rpc_channel *channel)
{
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;
    struct lab_stream stream;

    lab_open(channel, "Count", NULL, &stream);
    request.n = 1000;
    request.body_bytes = 1000;
    assert_int_equal(rpc_stream_send(stream.stream, &request.base), RPC_SENT);
    rpc_stream_half_close(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_OK);
    assert_int_equal(atomic_load(&stream.sum), 500500);
    lab_open(channel, "Sum", NULL, &stream);
    for (int i = 1; i <= 100; i++) {
        assert_int_not_equal(lab_send(&stream, i, 1000), RPC_SENT_NOT);
    }
    rpc_stream_half_close(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_OK);
    assert_int_equal(atomic_load(&stream.sum), 5050);
    lab_open(channel, "Chat", NULL, &stream);
    for (unsigned i = 1; i <= 20; i++) {
        assert_int_equal(lab_send(&stream, i, 10), RPC_SENT);
        assert_true(lab_wait_count(&stream.n_messages, i));
    }
    rpc_stream_half_close(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_OK);
    lab_open(channel, "Chat", NULL, &stream);
    assert_int_equal(lab_send(&stream, 1, 10), RPC_SENT);
    assert_true(lab_wait_count(&stream.n_messages, 1));
    rpc_stream_cancel(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_CANCELLED);
}

static int call(const char *target)
{
    struct rpc_call_options options = {.timeout_ms = LAB_WAIT_MS};
    struct rpc_channel *channel = NULL;
    struct base_err err = {0};
    enum rpc_code code = RPC_OK;
    Lab__Note note = LAB__NOTE__INIT;

    assert_ok(rpc_channel_open(target, NULL, &channel, &err), &err);
    for (int i = 0; i < 10; i++) {
        assert_ok(lab_echo(channel, i, 100, &options, &err), &err);
    }
    options.ret_code = &code;
    assert_int_equal(lab_echo(channel, -7, 0, &options, &err), BASE_NOT_FOUND);
    assert_string_equal(err.text, "keine Notiz \xe2\x80\x9e-7\xe2\x80\x9c");
    assert_int_equal(rpc_unary(channel, LAB_SERVICE, "Unused", &note.base,
                               &options, NULL, &err),
                     BASE_UNSUPPORTED);
    call_streams(channel);
    options.timeout_ms = 100;
    assert_int_equal(lab_echo(channel, 1000000, 0, &options, &err),
                     BASE_TIMEOUT); /* the peer sleeps at that number */
    rpc_channel_free(channel);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "serve") == 0) {
        return serve();
    }
    if (argc == 3 && strcmp(argv[1], "call") == 0) {
        return call(argv[2]);
    }
    (void)fprintf(stderr, "usage: rpc_lab serve | call HOST:PORT\n");
    return 2;
}
