/* How calls end when something is wrong: deadlines, cancels, bad messages,
 * readers that do not read, servers that are not there. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/proto/lab.h"
#include "tests/unit/unit.h"

static struct lab lab;
static struct base_err err;

static int start(void **state)
{
    (void)state;
    memset(&err, 0, sizeof(err));
    lab_start(&lab, NULL);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    lab_stop(&lab);
    return 0;
}

/* Let Echo wait, or go on. */
static void set_gate(bool is_shut)
{
    (void)pthread_mutex_lock(&lab.lock);
    atomic_store(&lab.is_gate_shut, is_shut);
    (void)pthread_cond_broadcast(&lab.changed);
    (void)pthread_mutex_unlock(&lab.lock);
}

static void open_hold(struct lab_stream *stream)
{
    lab_open(lab.channel, "Hold", NULL, stream);
    assert_int_equal(lab_send(stream, 1, 0), RPC_SENT);
    rpc_stream_half_close(stream->stream);
    assert_true(lab_wait_count(&stream->n_headers, 1));
}

/* A short deadline may pass before the server has seen the call: take longer
 * ones until it has. */
static void test_deadline_ends_both_sides(void **state)
{
    struct rpc_call_options options = {.timeout_ms = 25};
    struct lab_stream stream;
    unsigned n_opened;

    (void)state;
    set_gate(true);
    while (atomic_load(&lab.n_opened) == 0) {
        options.timeout_ms *= 2;
        assert_int_equal(lab_echo(lab.channel, 1, 0, &options, &err),
                         BASE_TIMEOUT);
        assert_non_null(strstr(err.text, "has not answered in time"));
    }
    set_gate(false);
    n_opened = atomic_load(&lab.n_opened);
    while (atomic_load(&lab.n_opened) == n_opened) {
        lab_open(lab.channel, "Hold", &options, &stream);
        assert_int_equal(lab_send(&stream, 1, 0), RPC_SENT);
        assert_int_equal(lab_finish(&stream), RPC_DEADLINE_EXCEEDED);
        options.timeout_ms *= 2;
    }
    /* Echo may have answered before it was told; Hold never answers. */
    assert_true(lab_wait_count(&lab.n_closed, atomic_load(&lab.n_opened)));
    assert_true(atomic_load(&lab.n_cancelled) >= 1);
}

static void test_cancel_by_the_client_is_told(void **state)
{
    struct lab_stream stream;

    (void)state;
    open_hold(&stream);
    rpc_stream_cancel(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_CANCELLED);
    assert_true(lab_wait_count(&lab.n_closed, 1));
    assert_int_equal(atomic_load(&lab.n_cancelled), 1);
}

static bool has_no_call(void *ctx)
{
    return rpc_server_stats_get(ctx).n_open == 0;
}

static void test_client_that_goes_is_noticed(void **state)
{
    struct lab_stream stream;

    (void)state;
    open_hold(&stream);
    rpc_channel_free(lab.channel); /* cancels, and waits for on_done */
    lab.channel = NULL;
    assert_int_equal(atomic_load(&stream.n_done), 1);
    assert_int_equal(lab_finish(&stream), RPC_CANCELLED);
    assert_true(lab_wait_count(&lab.n_closed, 1));
    assert_true(lab_wait(has_no_call, lab.server)); /* soon after on_close */
}

static void *echo_until_freed(void *ctx)
{
    static struct base_err mine;

    (void)ctx;
    return lab_echo(lab.channel, 1, 0, NULL, &mine) == BASE_INTERRUPTED ? &lab
                                                                        : NULL;
}

static void test_freed_channel_ends_calls_that_wait(void **state)
{
    pthread_t thread;
    void *told = NULL;

    (void)state;
    set_gate(true);
    assert_int_equal(pthread_create(&thread, NULL, echo_until_freed, NULL), 0);
    assert_true(lab_wait_count(&lab.n_opened, 1));
    rpc_channel_free(lab.channel);
    (void)pthread_join(thread, &told);
    assert_ptr_equal(told, &lab);
    lab.channel = NULL;
    set_gate(false);
}

/* As soon as the handler waits. */
static bool is_interrupted(void)
{
    return atomic_load(&lab.n_opened) != 0;
}

static void test_wait_can_be_interrupted(void **state)
{
    const struct rpc_call_options options = {.timeout_ms = 10 * LAB_WAIT_MS,
                                             .is_interrupted = is_interrupted};

    (void)state;
    set_gate(true);
    assert_int_equal(lab_echo(lab.channel, 1, 0, &options, &err),
                     BASE_INTERRUPTED);
    set_gate(false);
    assert_true(lab_wait_count(&lab.n_closed, 1));
}

static bool go_on(void *ctx, const ProtobufCMessage *message)
{
    (void)ctx;
    (void)message;
    return true;
}

/* Whose messages come faster than it is asked. */
static void test_busy_stream_can_be_interrupted(void **state)
{
    const struct rpc_call_options options = {.is_interrupted = is_interrupted,
                                             .timeout_ms = LAB_WAIT_MS};
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;

    (void)state;
    request.n = INT64_MAX;
    assert_int_equal(rpc_follow(lab.channel, LAB_SERVICE, "Count",
                                &request.base, &options, go_on, NULL, &err),
                     BASE_INTERRUPTED);
    assert_true(lab_wait_count(&lab.n_closed, 1));
}

static void test_unknown_method_is_unimplemented(void **state)
{
    ProtobufCServiceDescriptor other = lab__lab__descriptor;
    Lab__Note note = LAB__NOTE__INIT;
    enum rpc_code code = RPC_OK;
    const struct rpc_call_options options = {.ret_code = &code};

    (void)state;
    assert_int_equal(rpc_unary(lab.channel, LAB_SERVICE, "Unused", &note.base,
                               &options, NULL, &err),
                     BASE_UNSUPPORTED);
    assert_int_equal(code, RPC_UNIMPLEMENTED);
    other.name = "lab.Other";
    assert_int_equal(rpc_unary(lab.channel, &other, "Echo", &note.base,
                               &options, NULL, &err),
                     BASE_UNSUPPORTED);
    assert_non_null(strstr(err.text, "/lab.Other/Echo"));
    assert_int_equal(rpc_server_stats_get(lab.server).n_refused, 2);
    assert_int_equal(rpc_unary(lab.channel, LAB_SERVICE, "Nothing", &note.base,
                               NULL, NULL, &err),
                     BASE_BAD_ARG); /* ours to know */
}

/* Call @method with a message of another type. */
static enum base_code send_as(const char *method,
                              const ProtobufCMessage *message,
                              enum rpc_code *ret_code)
{
    ProtobufCServiceDescriptor service = lab__lab__descriptor;
    const struct rpc_call_options options = {.ret_code = ret_code};

    service.name = "lab.Lab";
    return rpc_unary(lab.channel, &service, method, message, &options, NULL,
                     &err);
}

static enum base_code refuse(const ProtobufCMessage *message,
                             struct base_err *ret_err)
{
    return base_fail(ret_err, BASE_BAD_ARG, "no %s is good",
                     message->descriptor->short_name);
}

static bool never(void *ctx, const ProtobufCMessage *message)
{
    (void)ctx;
    (void)message;
    fail();
    return false;
}

/* ... and is the server's fault, not that of who asked. */
static void test_bad_answer_is_refused(void **state)
{
    const struct rpc_channel_options picky = {.check = refuse};
    enum rpc_code code = RPC_OK;
    const struct rpc_call_options options = {.ret_code = &code};
    struct rpc_channel *channel = NULL;
    struct lab_stream stream;
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;

    (void)state;
    assert_ok(rpc_channel_open(lab.target, &picky, &channel, &err), &err);
    assert_int_equal(lab_echo(channel, 1, 0, &options, &err), BASE_IO);
    assert_int_equal(code, RPC_INTERNAL);
    assert_non_null(strstr(err.text, "no Note is good"));
    request.n = 1000;
    code = RPC_OK;
    assert_int_equal(rpc_follow(channel, LAB_SERVICE, "Count", &request.base,
                                &options, never, NULL, &err),
                     BASE_IO);
    assert_int_equal(code, RPC_INTERNAL);
    lab_open(channel, "Count", NULL, &stream);
    assert_int_equal(rpc_stream_send(stream.stream, &request.base), RPC_SENT);
    assert_int_equal(lab_finish(&stream), RPC_INTERNAL);
    assert_int_equal(atomic_load(&stream.n_messages), 0);
    rpc_channel_free(channel);
    assert_true(lab_wait_count(&lab.n_closed, 3));
}

static void test_malformed_message_is_refused(void **state)
{
    static const uint8_t garbage[] = {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f};
    Lab__Garbage bad = LAB__GARBAGE__INIT;
    enum rpc_code code = RPC_OK;
    struct lab_stream stream;

    (void)state;
    bad.number.data = (uint8_t *)(uintptr_t)garbage; /* not written to */
    bad.number.len = sizeof(garbage);
    assert_int_equal(send_as("Echo", &bad.base, &code), BASE_BAD_ARG);
    assert_int_equal(code, RPC_INVALID_ARGUMENT);
    assert_string_equal(err.text, "cannot decode a lab.Note");
    lab_open(lab.channel, "Chat", NULL, &stream);
    assert_int_equal(lab_send(&stream, 1, 0), RPC_SENT);
    assert_true(lab_wait_count(&stream.n_messages, 1));
    assert_int_equal(rpc_stream_send(stream.stream, &bad.base), RPC_SENT);
    assert_int_equal(lab_finish(&stream), RPC_INVALID_ARGUMENT);
    assert_ok(lab_echo(lab.channel, 2, 0, NULL, &err), &err);
}

static void test_message_that_grows_when_decoded_is_refused(void **state)
{
    enum { N = 1000000 };
    BASE_AUTO_MEM Lab__Part **parts = calloc(N, sizeof(parts[0]));
    Lab__Part part = LAB__PART__INIT;
    Lab__Note note = LAB__NOTE__INIT;
    enum rpc_code code = RPC_OK;

    (void)state;
    assert_non_null(parts);
    for (size_t i = 0; i < N; i++) {
        parts[i] = &part;
    }
    note.parts = parts;
    note.n_parts = N; /* 2 MB on the wire, some 60 MB when decoded */
    assert_int_equal(send_as("Echo", &note.base, &code), BASE_BAD_ARG);
    assert_int_equal(code, RPC_INVALID_ARGUMENT);
    note.n_parts = 100;
    assert_int_equal(send_as("Echo", &note.base, &code), BASE_OK);
}

static void test_oversize_message_is_refused(void **state)
{
    enum rpc_code code = RPC_OK;
    const struct rpc_call_options options = {.ret_code = &code};

    (void)state;
    assert_ok(lab_echo(lab.channel, 1, 4000000, &options, &err), &err);
    assert_int_equal(lab_echo(lab.channel, 1, 5000000, &options, &err),
                     BASE_LIMIT);
    assert_int_equal(code, RPC_RESOURCE_EXHAUSTED);
    assert_ok(lab_echo(lab.channel, 1, 10, NULL, &err), &err);
}

static void test_oversize_answer_is_refused(void **state)
{
    const struct rpc_channel_options small = {.max_message_bytes = 1000};
    enum rpc_code code = RPC_OK;
    const struct rpc_call_options options = {.ret_code = &code};
    struct rpc_channel *channel = NULL;

    (void)state;
    assert_ok(rpc_channel_open(lab.target, &small, &channel, &err), &err);
    assert_int_equal(lab_echo(channel, 1, 2000, &options, &err), BASE_LIMIT);
    assert_int_equal(code, RPC_RESOURCE_EXHAUSTED);
    assert_ok(lab_echo(channel, 1, 10, NULL, &err), &err);
    rpc_channel_free(channel);
    assert_true(lab_wait_count(&lab.n_closed, 2));
}

/* A list of everything may be larger than any request. */
static void test_answer_may_be_larger_than_a_request(void **state)
{
    struct lab_stream stream;
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;

    (void)state;
    lab_open(lab.channel, "Count", NULL, &stream);
    request.n = 1;
    request.body_bytes = 20000000;
    assert_int_equal(rpc_stream_send(stream.stream, &request.base), RPC_SENT);
    assert_int_equal(lab_finish(&stream), RPC_OK);
    assert_int_equal(atomic_load(&stream.sum), 1);
}

static void test_stream_without_a_request_is_refused(void **state)
{
    struct lab_stream stream;

    (void)state;
    lab_open(lab.channel, "Hold", NULL, &stream);
    rpc_stream_half_close(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_INVALID_ARGUMENT);
    assert_int_equal(atomic_load(&lab.n_opened), 0);
}

/* A reader that reads nothing: the sender is told to wait, and does. */
static void test_slow_reader_costs_a_bounded_amount(void **state)
{
    struct lab_stream stream;
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;

    (void)state;
    lab_open(lab.channel, "Count", NULL, &stream);
    atomic_store(&stream.pauses, true);
    request.n = 1000000;
    request.body_bytes = 100000;
    assert_int_equal(rpc_stream_send(stream.stream, &request.base), RPC_SENT);
    assert_true(lab_wait_count(&lab.n_full, 1));
    assert_true(lab_wait_count(&stream.n_messages, 1));
    assert_ok(lab_echo(lab.channel, 2, 10, NULL, &err), &err);
    rpc_stream_cancel(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_CANCELLED);
    assert_true(lab_wait_count(&lab.n_closed, 2));
}

static void test_sender_that_does_not_wait_is_ended(void **state)
{
    struct lab_stream stream;
    enum rpc_sent sent = RPC_SENT;

    (void)state;
    lab_open(lab.channel, "Chat", NULL, &stream);
    atomic_store(&stream.pauses, true); /* so Chat stops reading as well */
    for (int i = 0; i < 10000 && sent != RPC_SENT_NOT; i++) {
        sent = lab_send(&stream, i, 100000);
    }
    assert_int_equal(sent, RPC_SENT_NOT);
    assert_int_equal(lab_send(&stream, 1, 1), RPC_SENT_NOT);
    assert_int_equal(lab_finish(&stream), RPC_RESOURCE_EXHAUSTED);
}

static void test_paused_stream_goes_on(void **state)
{
    struct lab_stream stream;
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;

    (void)state;
    lab_open(lab.channel, "Count", NULL, &stream);
    atomic_store(&stream.pauses, true);
    request.n = 3;
    assert_int_equal(rpc_stream_send(stream.stream, &request.base), RPC_SENT);
    for (unsigned i = 1; i <= 3; i++) {
        assert_true(lab_wait_count(&stream.n_messages, i));
        assert_int_equal(atomic_load(&stream.n_messages), i);
        assert_int_equal(atomic_load(&stream.n_done), 0);
        rpc_stream_pause(stream.stream, false);
    }
    assert_int_equal(lab_finish(&stream), RPC_OK);
}

/* Paused, or over. */
static bool has_stopped(void *ctx)
{
    const struct lab_stream *stream = ctx;

    return atomic_load(&stream->n_messages) + atomic_load(&stream->n_done) != 0;
}

static bool is_past_deadline(void *ctx)
{
    const struct lab_stream *stream = ctx;

    return atomic_load(&lab.n_closed) + atomic_load(&stream->n_done) != 0;
}

/* Also when the stream's end is there and only waits to be told. */
static void test_channel_ends_with_a_paused_stream(void **state)
{
    static const unsigned timeouts_ms[] = {0, 300};
    struct lab_stream streams[N_ITEMS(timeouts_ms)];
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;

    (void)state;
    request.n = 1000000;
    request.body_bytes = 100000;
    for (size_t i = 0; i < N_ITEMS(streams); i++) {
        const struct rpc_call_options options = {.timeout_ms = timeouts_ms[i]};

        lab_open(lab.channel, "Count", &options, &streams[i]);
        atomic_store(&streams[i].pauses, true);
        assert_int_equal(rpc_stream_send(streams[i].stream, &request.base),
                         RPC_SENT);
        assert_true(lab_wait(has_stopped, &streams[i]));
    }
    assert_true(lab_wait(is_past_deadline, &streams[1]));
    rpc_channel_free(lab.channel);
    lab.channel = NULL;
    for (size_t i = 0; i < N_ITEMS(streams); i++) {
        assert_int_equal(atomic_load(&streams[i].n_done), 1);
        assert_int_not_equal(lab_finish(&streams[i]), RPC_OK);
    }
}

static void test_absent_server_is_named(void **state)
{
    const struct rpc_channel_options options = {.what = "the coordinator"};
    struct rpc_channel *channel = NULL;

    (void)state;
    assert_ok(rpc_channel_open("127.0.0.1:1", &options, &channel, &err), &err);
    assert_int_equal(lab_echo(channel, 1, 0, NULL, &err), BASE_UNREACHABLE);
    assert_string_equal(
        err.text,
        "cannot reach the coordinator at 127.0.0.1:1: connection refused");
    rpc_channel_free(channel);
    assert_ok(rpc_channel_open("unix:/nonexistent/s", NULL, &channel, &err),
              &err);
    assert_int_equal(lab_echo(channel, 1, 0, NULL, &err), BASE_UNREACHABLE);
    assert_string_equal(err.text,
                        "cannot reach the server at unix:/nonexistent/s: no "
                        "such file or directory");
    rpc_channel_free(channel);
}

static void test_wait_for_ready_waits_for_the_server(void **state)
{
    const struct rpc_call_options brief = {.timeout_ms = 100,
                                           .wait_for_ready = true};
    const struct rpc_call_options patient = {.timeout_ms = LAB_WAIT_MS,
                                             .wait_for_ready = true};
    struct rpc_server *old = lab.server;
    struct rpc_channel *channel = NULL;
    struct lab second;
    char address[80];

    (void)state;
    (void)snprintf(address, sizeof(address), "%s", lab.target);
    assert_ok(rpc_channel_open(address, NULL, &channel, &err), &err);
    rpc_server_stop(old, 0);
    assert_int_equal(lab_echo(channel, 1, 0, &brief, &err), BASE_TIMEOUT);
    rpc_server_free(old);
    lab.server = NULL;
    lab_start(&second, &(struct lab_options){.address = address});
    assert_ok(lab_echo(channel, 2, 0, &patient, &err), &err);
    rpc_channel_free(channel);
    lab_stop(&second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_deadline_ends_both_sides),
        TEST(test_cancel_by_the_client_is_told),
        TEST(test_client_that_goes_is_noticed),
        TEST(test_freed_channel_ends_calls_that_wait),
        TEST(test_wait_can_be_interrupted),
        TEST(test_busy_stream_can_be_interrupted),
        TEST(test_unknown_method_is_unimplemented),
        TEST(test_bad_answer_is_refused),
        TEST(test_malformed_message_is_refused),
        TEST(test_message_that_grows_when_decoded_is_refused),
        TEST(test_oversize_message_is_refused),
        TEST(test_oversize_answer_is_refused),
        TEST(test_answer_may_be_larger_than_a_request),
        TEST(test_stream_without_a_request_is_refused),
        TEST(test_slow_reader_costs_a_bounded_amount),
        TEST(test_sender_that_does_not_wait_is_ended),
        TEST(test_paused_stream_goes_on),
        TEST(test_channel_ends_with_a_paused_stream),
        TEST(test_absent_server_is_named),
        TEST(test_wait_for_ready_waits_for_the_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
