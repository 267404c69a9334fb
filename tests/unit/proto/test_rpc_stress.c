/* Threads call everything at random, with short deadlines and cancels, while the
 * server stops in the middle.  What must hold: every call ends once, with a
 * status that its history allows, callbacks never overlap, and nothing is left.
 *
 * RETILE_SEED replays the choices, not their timing; RETILE_CASES says how many
 * rounds. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "tests/unit/proto/lab.h"
#include "tests/unit/unit.h"

enum { N_THREADS = 6, N_CALLS = 120 };

static struct lab lab;
static atomic_uint n_calls;
static atomic_uint n_wrong;
static atomic_bool is_stopping; /* the server, or soon */

struct caller {
    uint64_t random;
    pthread_t thread;
};

static uint64_t below(struct caller *caller, uint64_t n)
{
    return base_random_next(&caller->random) % n;
}

static void expect(bool is_good, const char *what, enum rpc_code code)
{
    if (!is_good) {
        (void)fprintf(stderr, "%s: %s\n", what, rpc_code_name(code));
        (void)atomic_fetch_add(&n_wrong, 1);
    }
}

static bool
may_end_so(enum rpc_code code, bool has_deadline, bool was_cancelled)
{
    return code == RPC_OK || (code == RPC_DEADLINE_EXCEEDED && has_deadline) ||
           (code == RPC_CANCELLED && (was_cancelled || has_deadline)) ||
           (atomic_load(&is_stopping) &&
            (code == RPC_UNAVAILABLE || code == RPC_CANCELLED));
}

static void call_unary(struct caller *caller,
                       const struct rpc_call_options *options)
{
    enum rpc_code code = RPC_OK;
    struct rpc_call_options mine = *options;
    struct base_err err;

    mine.ret_code = &code;
    (void)lab_echo(lab.channel, (int64_t)below(caller, 100),
                   below(caller, 20000), &mine, &err);
    expect(may_end_so(code, options->timeout_ms != 0, false), "unary", code);
}

/* Was it accepted, or has it ended? */
static bool is_told(void *ctx)
{
    const struct lab_stream *stream = ctx;

    return atomic_load(&stream->n_headers) + atomic_load(&stream->n_done) != 0;
}

static void call_stream(struct caller *caller,
                        const struct rpc_call_options *options)
{
    static const char *const methods[] = {"Sum", "Chat", "Hold", "Count"};
    const char *method = methods[below(caller, N_ITEMS(methods))];
    const bool is_count = strcmp(method, "Count") == 0;
    const bool is_hold = strcmp(method, "Hold") == 0;
    const bool cancels = is_hold || below(caller, 3) == 0;
    const uint64_t n_sent = is_hold ? 1 : below(caller, 20);
    struct lab_stream stream;
    enum rpc_code code;

    lab_open(lab.channel, method, options, &stream);
    if (is_count) {
        Lab__CountRequest request = LAB__COUNT_REQUEST__INIT;

        request.n = (int64_t)below(caller, 50);
        request.body_bytes = (uint32_t)below(caller, 20000);
        (void)rpc_stream_send(stream.stream, &request.base);
    } else {
        for (uint64_t i = 0; i < n_sent; i++) {
            (void)lab_send(&stream, 1, below(caller, 20000));
        }
    }
    if (cancels) {
        if (strcmp(method, "Chat") == 0 && below(caller, 2) == 0) {
            (void)lab_wait(is_told, &stream);
        }
        rpc_stream_cancel(stream.stream);
    } else {
        rpc_stream_half_close(stream.stream);
    }
    code = lab_finish(&stream);
    expect(may_end_so(code, options->timeout_ms != 0, cancels), method, code);
    expect(atomic_load(&stream.n_done) == 1, "done once", code);
    if (code == RPC_OK && strcmp(method, "Sum") == 0) {
        expect((uint64_t)atomic_load(&stream.sum) == n_sent, "sum", code);
    }
}

static void *run(void *ctx)
{
    struct caller *caller = ctx;

    for (int i = 0; i < N_CALLS; i++) {
        const struct rpc_call_options options = {
            .timeout_ms =
                below(caller, 2) == 0 ? 1 + (unsigned)below(caller, 50) : 0,
        };

        if (below(caller, 2) == 0) {
            call_unary(caller, &options);
        } else {
            call_stream(caller, &options);
        }
        (void)atomic_fetch_add(&n_calls, 1);
    }
    return NULL;
}

static void run_round(uint64_t seed)
{
    struct caller callers[N_THREADS];
    uint64_t random = seed;
    const struct lab_options options = {
        .is_inline = base_random_next(&random) % 2 == 0,
        .server.send_high_bytes = 65536,
    };

    (void)printf("RETILE_SEED=%" PRIu64 "\n", seed);
    atomic_store(&n_calls, 0);
    atomic_store(&is_stopping, false);
    lab_start(&lab, &options);
    for (size_t i = 0; i < N_THREADS; i++) {
        callers[i].random = base_random_next(&random);
        assert_int_equal(
            pthread_create(&callers[i].thread, NULL, run, &callers[i]), 0);
    }
    assert_true(lab_wait_count(&n_calls, N_THREADS * N_CALLS / 2));
    atomic_store(&is_stopping, true);
    rpc_server_stop(lab.server, (unsigned)(base_random_next(&random) % 50));
    for (size_t i = 0; i < N_THREADS; i++) {
        (void)pthread_join(callers[i].thread, NULL);
    }
    lab_stop(&lab);
    assert_int_equal(atomic_load(&n_wrong), 0);
}

static void test_every_call_ends_once(void **state)
{
    const uint64_t seed = lab_number("RETILE_SEED", (uint64_t)time(NULL));
    const uint64_t n_rounds = lab_number("RETILE_CASES", 2);

    (void)state;
    for (uint64_t i = 0; i < n_rounds; i++) {
        run_round(seed + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_ends_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
