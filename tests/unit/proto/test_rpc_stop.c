/* Servers that stop, processes that fork first, packed messages for many. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "proto/rpc_client_impl.h"
#include "tests/unit/proto/lab.h"
#include "tests/unit/unit.h"

static struct lab lab;
static struct base_err err;

static void open_gate(void)
{
    (void)pthread_mutex_lock(&lab.lock);
    atomic_store(&lab.is_gate_shut, false);
    (void)pthread_cond_broadcast(&lab.changed);
    (void)pthread_mutex_unlock(&lab.lock);
}

struct asked {
    enum base_code rc;
    struct base_err err;
};

static void *ask(void *ctx)
{
    struct asked *asked = ctx;

    asked->rc = lab_echo(lab.channel, 1, 0, NULL, &asked->err);
    return NULL;
}

/* Must run first: nothing of the layer is up when it forks. */
static void test_child_may_use_the_layer_first(void **state)
{
    int status = -1;
    pid_t child;

    (void)state;
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        lab_start(&lab, &(struct lab_options){.address = "unix"});
        if (lab_echo(lab.channel, 1, 10, NULL, &err) != BASE_OK) {
            _exit(1);
        }
        lab_stop(&lab);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_idle_server_stops_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        lab_start(&lab, NULL);
        if (i % 2 == 0) {
            assert_ok(lab_echo(lab.channel, 1, 0, NULL, &err), &err);
        }
        rpc_server_stop(lab.server, LAB_WAIT_MS);
        rpc_server_stop(lab.server, LAB_WAIT_MS); /* again is nothing */
        lab_stop(&lab);
    }
}

static void *stop_patiently(void *ctx)
{
    (void)ctx;
    rpc_server_stop(lab.server, LAB_WAIT_MS);
    return NULL;
}

static void test_calls_under_way_may_end(void **state)
{
    struct lab_stream held;
    struct asked asked = {0};
    pthread_t asker;
    pthread_t stopper;

    (void)state;
    lab_start(&lab, NULL);
    lab_open(lab.channel, "Hold", NULL, &held);
    assert_int_equal(lab_send(&held, 1, 0), RPC_SENT);
    assert_true(lab_wait_count(&held.n_headers, 1));
    atomic_store(&lab.is_gate_shut, true);
    assert_int_equal(pthread_create(&asker, NULL, ask, &asked), 0);
    assert_true(lab_wait_count(&lab.n_opened, 2));
    assert_int_equal(pthread_create(&stopper, NULL, stop_patiently, NULL), 0);
    assert_int_equal(lab_finish(&held), RPC_UNAVAILABLE); /* it is told */
    assert_string_equal(held.status.text, "the server is stopping");
    open_gate();
    (void)pthread_join(asker, NULL);
    (void)pthread_join(stopper, NULL);
    assert_ok(asked.rc, &asked.err);
    assert_int_equal(lab_echo(lab.channel, 2, 0, NULL, &err), BASE_UNREACHABLE);
    lab_stop(&lab);
}

static void test_calls_are_cancelled_when_grace_is_over(void **state)
{
    struct lab_stream chats[20];

    (void)state;
    lab_start(&lab, NULL);
    for (size_t i = 0; i < N_ITEMS(chats); i++) {
        lab_open(lab.channel, "Chat", NULL, &chats[i]);
        assert_true(lab_wait_count(&chats[i].n_headers, 1));
    }
    rpc_server_stop(lab.server, 20);
    assert_int_equal(atomic_load(&lab.n_closed), N_ITEMS(chats));
    assert_int_equal(atomic_load(&lab.n_cancelled), N_ITEMS(chats));
    for (size_t i = 0; i < N_ITEMS(chats); i++) {
        assert_int_equal(lab_finish(&chats[i]), RPC_UNAVAILABLE);
    }
    lab_stop(&lab);
}

/* A call that its handler keeps, to be answered by another thread. */
static struct rpc_call *_Atomic kept;

static void keep(struct rpc_call *call, const ProtobufCMessage *message)
{
    (void)message;
    atomic_store(&kept, rpc_call_ref(call));
}

static bool has_kept(void *ctx)
{
    (void)ctx;
    return atomic_load(&kept) != NULL;
}

static void test_answer_may_come_later_from_any_thread(void **state)
{
    static const struct rpc_method methods[] = {
        {
            .name = "Echo",
            .kind = RPC_UNARY,
            .flags = RPC_INLINE,
            .on_message = keep,
        },
    };
    static const struct rpc_service service = {
        .descriptor = LAB_SERVICE,
        .methods = methods,
        .n_methods = 1,
    };
    struct asked asked = {0};
    pthread_t asker;
    Lab__Note note = LAB__NOTE__INIT;
    struct rpc_call *call;

    (void)state;
    lab_start(&lab, &(struct lab_options){.service = &service});
    assert_int_equal(pthread_create(&asker, NULL, ask, &asked), 0);
    assert_true(lab_wait(has_kept, NULL));
    call = atomic_load(&kept);
    note.number = 1;
    assert_false(rpc_call_is_over(call));
    rpc_call_reply(call, &note.base);
    assert_true(rpc_call_is_over(call));
    assert_int_equal(rpc_call_send(call, &note.base), RPC_SENT_NOT);
    (void)pthread_join(asker, NULL);
    assert_ok(asked.rc, &asked.err);
    lab_stop(&lab);
    /* The server is gone, the handle is not. */
    rpc_call_finish(call, RPC_OK, "%s", "");
    rpc_call_send_headers(call);
    rpc_call_pause(call, true);
    rpc_call_pause(call, false);
    assert_ptr_equal(rpc_call_method(call), &methods[0]);
    assert_true(rpc_call_is_over(call));
    rpc_call_unref(call);
    atomic_store(&kept, NULL);
}

/* Fan-out: one message, packed once, to all who hold. */
static struct rpc_call *_Atomic holders[50];
static atomic_uint n_holders;

static void hold_open(struct rpc_call *call, const ProtobufCMessage *message)
{
    (void)message;
    atomic_store(&holders[atomic_fetch_add(&n_holders, 1)], rpc_call_ref(call));
}

static void test_packed_message_goes_to_many(void **state)
{
    static const struct rpc_method methods[] = {
        {
            .name = "Hold",
            .kind = RPC_SERVER_STREAM,
            .flags = RPC_LONG,
            .on_message = hold_open,
        },
    };
    static const struct rpc_service service = {
        .descriptor = LAB_SERVICE,
        .methods = methods,
        .n_methods = 1,
    };
    static struct lab_stream streams[N_ITEMS(holders)];
    Lab__Note note = LAB__NOTE__INIT;
    struct rpc_packed *packed;

    (void)state;
    lab_start(&lab, &(struct lab_options){.service = &service});
    for (size_t i = 0; i < N_ITEMS(holders); i++) {
        lab_open(lab.channel, "Hold", NULL, &streams[i]);
        assert_int_equal(lab_send(&streams[i], 1, 0), RPC_SENT);
    }
    assert_true(lab_wait_count(&n_holders, N_ITEMS(holders)));
    note.number = 7;
    packed = rpc_packed_create(&note.base);
    assert_non_null(packed);
    for (size_t i = 0; i < N_ITEMS(holders); i++) {
        for (int k = 0; k < 10; k++) {
            assert_int_equal(rpc_call_send_packed(holders[i], packed),
                             RPC_SENT);
        }
        rpc_call_finish(holders[i], RPC_OK, "%s", "");
        rpc_call_unref(holders[i]);
    }
    rpc_packed_unref(packed);
    for (size_t i = 0; i < N_ITEMS(holders); i++) {
        assert_int_equal(lab_finish(&streams[i]), RPC_OK);
        assert_int_equal(atomic_load(&streams[i].sum), 70);
    }
    lab_stop(&lab);
}

static void *wait_for_nobody(void *ctx)
{
    const struct rpc_call_options options = {.wait_for_ready = true};

    return lab_echo(ctx, 1, 0, &options, NULL) == BASE_INTERRUPTED ? ctx : NULL;
}

static bool has_call(void *ctx)
{
    struct rpc_channel *channel = ctx;
    bool has_one;

    (void)pthread_mutex_lock(&channel->lock);
    has_one = channel->calls != NULL;
    (void)pthread_mutex_unlock(&channel->lock);
    return has_one;
}

/* The layer ends with the last channel, and nothing of a call comes after. */
static void test_layer_ends_after_the_last_call(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct rpc_channel *channel = NULL;
        pthread_t thread;
        void *told = NULL;

        assert_ok(rpc_channel_open("127.0.0.1:1", NULL, &channel, &err), &err);
        assert_int_equal(
            pthread_create(&thread, NULL, wait_for_nobody, channel), 0);
        assert_true(lab_wait(has_call, channel));
        rpc_channel_free(channel);
        (void)pthread_join(thread, &told);
        assert_ptr_equal(told, channel);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_child_may_use_the_layer_first),
        cmocka_unit_test(test_idle_server_stops_at_once),
        cmocka_unit_test(test_calls_under_way_may_end),
        cmocka_unit_test(test_calls_are_cancelled_when_grace_is_over),
        cmocka_unit_test(test_answer_may_come_later_from_any_thread),
        cmocka_unit_test(test_layer_ends_after_the_last_call),
        cmocka_unit_test(test_packed_message_goes_to_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
