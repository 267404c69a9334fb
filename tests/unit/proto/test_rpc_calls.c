/* The four kinds of calls, both ends in this process. */
#include "proto/rpc_client.h"
#include "tests/unit/proto/lab.h"
#include "tests/unit/unit.h"

static struct lab lab;

static int start(void **state)
{
    (void)state;
    lab_start(&lab, NULL);
    return 0;
}

static int start_inline(void **state)
{
    (void)state;
    lab_start(&lab, &(struct lab_options){.is_inline = true});
    return 0;
}

static int start_unix(void **state)
{
    (void)state;
    lab_start(&lab, &(struct lab_options){.address = "unix"});
    return 0;
}

static int stop(void **state)
{
    (void)state;
    lab_stop(&lab);
    return 0;
}

static void test_unary_is_answered(void **state)
{
    struct base_err err = {0};

    (void)state;
    for (int i = 0; i < 50; i++) {
        assert_ok(lab_echo(lab.channel, i, (size_t)i * 100, NULL, &err), &err);
    }
    assert_true(lab_wait_count(&lab.n_closed, 50));
}

static void test_error_keeps_code_and_text(void **state)
{
    enum rpc_code code = RPC_OK;
    struct rpc_call_options options = {.ret_code = &code};
    struct base_err err = {0};

    (void)state;
    assert_int_equal(lab_echo(lab.channel, -7, 0, &options, &err),
                     BASE_NOT_FOUND);
    assert_string_equal(err.text, "no note -7");
    assert_int_equal(code, RPC_NOT_FOUND);
}

static void test_server_stream_brings_all(void **state)
{
    struct lab_stream stream;
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;

    (void)state;
    lab_open(lab.channel, "Count", NULL, &stream);
    request.n = 2000;
    request.body_bytes = 500; /* more than may wait: it goes on when writable */
    assert_int_equal(rpc_stream_send(stream.stream, &request.base), RPC_SENT);
    rpc_stream_half_close(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_OK);
    assert_int_equal(atomic_load(&stream.n_messages), 2000);
    assert_int_equal(atomic_load(&stream.sum), 2000 * 2001 / 2);
    assert_int_equal(atomic_load(&stream.n_headers), 1);
}

static void test_client_stream_is_summed(void **state)
{
    struct lab_stream stream;

    (void)state;
    lab_open(lab.channel, "Sum", NULL, &stream);
    for (int i = 1; i <= 100; i++) {
        assert_int_equal(lab_send(&stream, i, 10), RPC_SENT);
    }
    rpc_stream_half_close(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_OK);
    assert_int_equal(atomic_load(&stream.n_messages), 1);
    assert_int_equal(atomic_load(&stream.sum), 5050);
}

static void test_bidi_answers_each(void **state)
{
    struct lab_stream stream;

    (void)state;
    lab_open(lab.channel, "Chat", NULL, &stream);
    assert_true(lab_wait_count(&stream.n_headers, 1)); /* before a message */
    for (unsigned i = 1; i <= 100; i++) {
        assert_int_equal(lab_send(&stream, i, 10), RPC_SENT);
        if (i % 10 == 0) {
            assert_true(lab_wait_count(&stream.n_messages, i));
        }
    }
    rpc_stream_half_close(stream.stream);
    assert_int_equal(lab_finish(&stream), RPC_OK);
    assert_int_equal(atomic_load(&stream.sum), 5050);
}

static bool take(void *ctx, const ProtobufCMessage *message)
{
    int64_t *sum = ctx;

    *sum += ((const Lab__Note *)(const void *)message)->number;
    return *sum < 50;
}

static void test_follow_ends_where_the_caller_says(void **state)
{
    Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;
    struct base_err err = {0};
    int64_t sum = 0;

    (void)state;
    request.n = 5;
    assert_ok(rpc_follow(lab.channel, LAB_SERVICE, "Count", &request.base, NULL,
                         take, &sum, &err),
              &err);
    assert_int_equal(sum, 15);
    request.n = 1000000;
    assert_ok(rpc_follow(lab.channel, LAB_SERVICE, "Count", &request.base, NULL,
                         take, &sum, &err),
              &err);
    assert_true(lab_wait_count(&lab.n_cancelled, 1));
}

struct answered {
    atomic_uint n;
    int64_t number;
    enum rpc_code code;
};

static void on_answer(void *ctx,
                      const ProtobufCMessage *answer,
                      const struct rpc_status *status)
{
    struct answered *answered = ctx;

    answered->code = status->code;
    if (answer != NULL) {
        answered->number = ((const Lab__Note *)(const void *)answer)->number;
    }
    (void)atomic_fetch_add(&answered->n, 1);
}

static void test_unary_without_waiting(void **state)
{
    struct answered good = {0};
    struct answered bad = {0};
    Lab__Note note = LAB__NOTE__INIT;
    struct base_err err = {0};

    (void)state;
    note.number = 12;
    assert_ok(rpc_unary_start(lab.channel, LAB_SERVICE, "Echo", &note.base,
                              NULL, on_answer, &good, &err),
              &err);
    note.number = -12;
    assert_ok(rpc_unary_start(lab.channel, LAB_SERVICE, "Echo", &note.base,
                              NULL, on_answer, &bad, &err),
              &err);
    assert_true(lab_wait_count(&good.n, 1));
    assert_true(lab_wait_count(&bad.n, 1));
    assert_int_equal(good.code, RPC_OK);
    assert_int_equal(good.number, 12);
    assert_int_equal(bad.code, RPC_NOT_FOUND);
}

#define ALL_KINDS(setup)                                                       \
    cmocka_unit_test_setup_teardown(test_unary_is_answered, setup, stop),      \
        cmocka_unit_test_setup_teardown(test_error_keeps_code_and_text, setup, \
                                        stop),                                 \
        cmocka_unit_test_setup_teardown(test_server_stream_brings_all, setup,  \
                                        stop),                                 \
        cmocka_unit_test_setup_teardown(test_client_stream_is_summed, setup,   \
                                        stop),                                 \
        cmocka_unit_test_setup_teardown(test_bidi_answers_each, setup, stop),  \
        cmocka_unit_test_setup_teardown(                                       \
            test_follow_ends_where_the_caller_says, setup, stop),              \
        cmocka_unit_test_setup_teardown(test_unary_without_waiting, setup,     \
                                        stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL_KINDS(start),
        ALL_KINDS(start_inline),
        ALL_KINDS(start_unix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
