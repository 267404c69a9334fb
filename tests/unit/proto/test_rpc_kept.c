/* Handlers that keep their calls: threads use them at random, also when client,
 * server, or both are gone, while clients free channels under calls and streams
 * that are paused.  What must hold: every call is told its end once, on both
 * sides, and nothing is left.
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

enum { N_SLOTS = 64, N_ACTORS = 3, N_CLIENTS = 3, N_STREAMS = 20 };
enum { BODY_BYTES = 40000 };

static struct lab lab;
static struct rpc_call *_Atomic slots[N_SLOTS]; /* a reference each */
static atomic_uint next_slot;
static atomic_uint n_channels; /* freed in this round */
static atomic_uint n_begun;    /* of the clients */
static atomic_uint n_ended;
static atomic_bool is_over; /* for clients */
static atomic_bool is_done; /* for actors */
static uint8_t body[BODY_BYTES];

struct player {
    uint64_t random;
    pthread_t thread;
};

static uint64_t below(uint64_t *random, uint64_t n)
{
    return base_random_next(random) % n;
}

static void fill(Lab__Note *note, uint64_t *random)
{
    lab__note__init(note);
    note->body = (ProtobufCBinaryData){below(random, BODY_BYTES), body};
}

/* --- the server's side ----------------------------------------------------- */

/* Put @call, a reference, in place of another, which is ended. */
static void put(struct rpc_call *call)
{
    struct rpc_call *old = atomic_exchange(
        &slots[atomic_fetch_add(&next_slot, 1) % N_SLOTS], call);

    if (old != NULL) {
        rpc_call_finish(old, RPC_ABORTED, "there is no room");
        rpc_call_unref(old);
    }
}

static void keep(struct rpc_call *call)
{
    if (rpc_call_data(call) == NULL) {
        rpc_call_set_data(call, &lab);
        (void)atomic_fetch_add(&lab.n_opened, 1);
    }
    put(rpc_call_ref(call));
}

static void on_message(struct rpc_call *call, const ProtobufCMessage *message)
{
    (void)message;
    rpc_call_pause(call, rpc_call_method(call)->kind == RPC_BIDI);
    keep(call);
}

static void on_close(struct rpc_call *call, bool was_cancelled)
{
    (void)was_cancelled;
    if (rpc_call_data(call) != NULL) {
        (void)atomic_fetch_add(&lab.n_closed, 1);
    }
}

#define ROW(name_, kind_, flags_, max_ms_)                                     \
    {                                                                          \
        .name = (name_), .kind = (kind_), .flags = (flags_),                   \
        .max_ms = (max_ms_), .on_message = on_message, .on_half_close = keep,  \
        .on_writable = keep, .on_close = on_close,                             \
    }
static const struct rpc_method methods[] = {
    ROW("Echo", RPC_UNARY, 0, 30),
    ROW("Count", RPC_SERVER_STREAM, RPC_INLINE, 50),
    ROW("Sum", RPC_CLIENT_STREAM, 0, 40),
    ROW("Chat", RPC_BIDI, RPC_INLINE, 60),
    ROW("Hold", RPC_SERVER_STREAM, RPC_LONG, 20),
};

static void use(struct rpc_call *call, uint64_t *random)
{
    Lab__Note note;
    struct rpc_packed *packed;

    fill(&note, random);
    switch (below(random, 9)) {
    case 0:
        rpc_call_send_headers(call);
        break;
    case 1:
        (void)rpc_call_send(call, &note.base);
        break;
    case 2:
        packed = rpc_packed_create(&note.base);
        (void)rpc_call_send_packed(call, packed);
        (void)rpc_call_send_packed(call, packed);
        rpc_packed_unref(packed);
        break;
    case 3:
        rpc_call_pause(call, true);
        break;
    case 4:
        rpc_call_pause(call, false);
        break;
    case 5:
        rpc_call_finish(call, RPC_OK, "%s", "");
        break;
    case 6:
        rpc_call_fail(call, BASE_CHANGED, NULL);
        break;
    case 7:
        rpc_call_reply(call, &note.base);
        break;
    default:
        (void)rpc_call_is_over(call);
        (void)rpc_call_remaining_ms(call);
        break;
    }
}

static void *act(void *ctx)
{
    struct player *player = ctx;
    const struct timespec pause = {0, 200000};

    while (!atomic_load(&is_done)) {
        struct rpc_call *call =
            atomic_exchange(&slots[below(&player->random, N_SLOTS)], NULL);

        if (call == NULL) {
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
            continue;
        }
        for (uint64_t n = below(&player->random, 5); n > 0; n--) {
            use(call, &player->random);
        }
        if (below(&player->random, 2) == 0) {
            put(call);
        } else {
            rpc_call_unref(call);
        }
    }
    return NULL;
}

/* --- the clients' side ----------------------------------------------------- */

static void
on_answer(struct rpc_stream *stream, void *ctx, const ProtobufCMessage *message)
{
    (void)ctx;
    (void)message;
    rpc_stream_pause(stream, true);
}

static void
on_done(struct rpc_stream *stream, void *ctx, const struct rpc_status *status)
{
    (void)stream;
    (void)ctx;
    (void)status;
    (void)atomic_fetch_add(&n_ended, 1);
}

static void on_unary_done(void *ctx,
                          const ProtobufCMessage *answer,
                          const struct rpc_status *status)
{
    (void)ctx;
    (void)answer;
    (void)status;
    (void)atomic_fetch_add(&n_ended, 1);
}

static struct rpc_stream *begin(struct rpc_channel *channel, uint64_t *random)
{
    static const struct rpc_stream_events events = {.on_message = on_answer,
                                                    .on_done = on_done};
    const struct rpc_method *method = &methods[below(random, N_ITEMS(methods))];
    const struct rpc_call_options options = {
        .timeout_ms = (unsigned)below(random, 2) * (unsigned)below(random, 40),
        .wait_for_ready = below(random, 2) == 0,
    };
    struct rpc_stream *stream = NULL;
    struct base_err err = {0};
    Lab__Note note;

    fill(&note, random);
    (void)atomic_fetch_add(&n_begun, 1);
    if (below(random, 4) == 0) {
        assert_ok(rpc_unary_start(channel, LAB_SERVICE, "Echo", &note.base,
                                  &options, on_unary_done, NULL, &err),
                  &err);
        return NULL;
    }
    assert_ok(rpc_stream_open(channel, LAB_SERVICE, method->name, &options,
                              &events, NULL, &stream, &err),
              &err);
    for (uint64_t n = below(random, 8); n > 0; n--) {
        (void)rpc_stream_send(stream, &note.base);
    }
    return stream;
}

static void disturb(struct rpc_stream *stream, uint64_t *random)
{
    switch (below(random, 4)) {
    case 0:
        rpc_stream_half_close(stream);
        break;
    case 1:
        rpc_stream_cancel(stream);
        break;
    case 2:
        rpc_stream_pause(stream, false);
        break;
    default:
        break;
    }
}

static void *call_and_free(void *ctx)
{
    const struct rpc_channel_options options = {.send_max_bytes = 200000};
    struct player *player = ctx;
    struct base_err err = {0};

    while (!atomic_load(&is_over)) {
        struct rpc_stream *streams[N_STREAMS];
        struct rpc_channel *channel = NULL;

        assert_ok(rpc_channel_open(lab.target, &options, &channel, &err), &err);
        for (size_t i = 0; i < N_STREAMS; i++) {
            streams[i] = begin(channel, &player->random);
            if (streams[i] != NULL) {
                disturb(streams[i], &player->random);
            }
        }
        rpc_channel_free(channel);
        for (size_t i = 0; i < N_STREAMS; i++) {
            if (streams[i] != NULL) { /* its channel is gone */
                disturb(streams[i], &player->random);
            }
            rpc_stream_unref(streams[i]);
        }
        (void)atomic_fetch_add(&n_channels, 1);
    }
    return NULL;
}

/* --- rounds ---------------------------------------------------------------- */

static void start_all(struct player *players,
                      size_t n,
                      void *(*run)(void *ctx),
                      uint64_t *random)
{
    for (size_t i = 0; i < n; i++) {
        players[i].random = base_random_next(random);
        assert_int_equal(
            pthread_create(&players[i].thread, NULL, run, &players[i]), 0);
    }
}

static void join_all(struct player *players, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)pthread_join(players[i].thread, NULL);
    }
}

static void run_round(uint64_t *random)
{
    static const struct rpc_service service = {
        .descriptor = LAB_SERVICE,
        .methods = methods,
        .n_methods = N_ITEMS(methods),
    };
    struct player clients[N_CLIENTS];

    atomic_store(&is_over, false);
    atomic_store(&n_channels, 0);
    lab_start(&lab, &(struct lab_options){
                        .service = &service,
                        .server.max_queued = (unsigned)below(random, 2) * 2,
                        .server.max_calls = (unsigned)below(random, 2) * 30,
                        .server.send_max_bytes = 150000,
                    });
    start_all(clients, N_ITEMS(clients), call_and_free, random);
    assert_true(lab_wait_count(&n_channels, 15));
    rpc_server_stop(lab.server, (unsigned)below(random, 50));
    rpc_server_free(lab.server);
    lab.server = NULL;
    atomic_store(&is_over, true);
    join_all(clients, N_ITEMS(clients));
    assert_int_equal(atomic_load(&n_begun), atomic_load(&n_ended));
    lab_stop(&lab);
}

static void test_kept_calls_end_once(void **state)
{
    const uint64_t n_rounds = lab_number("RETILE_CASES", 4);
    uint64_t random = lab_number("RETILE_SEED", (uint64_t)time(NULL));
    struct player actors[N_ACTORS];

    (void)state;
    (void)printf("RETILE_SEED=%" PRIu64 "\n", random);
    start_all(actors, N_ITEMS(actors), act, &random);
    for (uint64_t i = 0; i < n_rounds; i++) {
        run_round(&random);
    }
    atomic_store(&is_done, true);
    join_all(actors, N_ITEMS(actors));
    for (size_t i = 0; i < N_SLOTS; i++) {
        rpc_call_unref(atomic_exchange(&slots[i], NULL));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept_calls_end_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
