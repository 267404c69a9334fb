/* Calls to the coordinator, over a layer that this file plays. */
#include <retile/v1/watch.pb-c.h>

#include "tests/unit/unit.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "cli/connect.h"
#include "cli/follow.h"
#include "proto/check.h"

enum { MAX_CALLS = 16, MAX_EVENTS = 8 };
#define PATIENCE_NS INT64_C(500000000)

/* What the played layer answers, call by call, and what it was asked. */
static struct {
    enum base_code unary[MAX_CALLS];
    char ids[MAX_CALLS][CLI_REQUEST_ID_BYTES];
    size_t n_unary;

    struct {
        uint64_t revisions[MAX_EVENTS]; /* sent, up to the first 0 */
        int stands_ms;
        enum base_code rc;
        enum rpc_code code;
    } follow[MAX_CALLS];
    uint64_t from[MAX_CALLS];
    size_t n_follow;
} fake;

enum base_code rpc_channel_open(const char *target,
                                const struct rpc_channel_options *options,
                                struct rpc_channel **ret,
                                struct base_err *err)
{
    (void)target;
    (void)options;
    (void)err;
    *ret = NULL;
    return BASE_OK;
}

void rpc_channel_free(struct rpc_channel *channel)
{
    (void)channel;
}

void rpc_message_free(ProtobufCMessage *message)
{
    (void)message;
}

enum base_code rpc_check(const ProtobufCMessage *message, struct base_err *err)
{
    (void)message;
    (void)err;
    return BASE_OK;
}

/* The request is a WatchRequest whose job is the id. */
enum base_code rpc_unary(struct rpc_channel *channel,
                         const ProtobufCServiceDescriptor *service,
                         const char *method,
                         const ProtobufCMessage *message,
                         const struct rpc_call_options *options,
                         ProtobufCMessage **ret,
                         struct base_err *err)
{
    const Retile__V1__WatchRequest *request = (const void *)message;
    enum base_code rc = fake.unary[fake.n_unary];

    (void)channel;
    (void)service;
    (void)method;
    (void)options;
    (void)ret;
    (void)snprintf(fake.ids[fake.n_unary++], CLI_REQUEST_ID_BYTES, "%s",
                   request->job);
    return rc == BASE_OK ? rc : base_fail(err, rc, "try %zu", fake.n_unary);
}

enum base_code rpc_follow(struct rpc_channel *channel,
                          const ProtobufCServiceDescriptor *service,
                          const char *method,
                          const ProtobufCMessage *message,
                          const struct rpc_call_options *options,
                          bool (*on_message)(void *ctx,
                                             const ProtobufCMessage *message),
                          void *ctx,
                          struct base_err *err)
{
    const Retile__V1__WatchRequest *request = (const void *)message;
    size_t i = fake.n_follow++;

    (void)channel;
    (void)service;
    (void)method;
    fake.from[i] = request->from_revision;
    for (size_t k = 0; fake.follow[i].revisions[k] != 0; k++) {
        Retile__V1__Event event = RETILE__V1__EVENT__INIT;
        Retile__V1__Event *events[] = {&event};
        Retile__V1__WatchResponse response = RETILE__V1__WATCH_RESPONSE__INIT;

        event.revision = fake.follow[i].revisions[k];
        response.n_events = 1;
        response.events = events;
        if (!on_message(ctx, &response.base)) {
            return BASE_OK;
        }
    }
    (void)poll(NULL, 0, fake.follow[i].stands_ms);
    if (options->is_interrupted()) {
        return base_fail(err, BASE_INTERRUPTED, "interrupted");
    }
    *options->ret_code = fake.follow[i].code;
    return fake.follow[i].rc == BASE_OK
               ? BASE_OK
               : base_fail(err, fake.follow[i].rc, "call %zu", i);
}

static int forget(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    return 0;
}

static enum base_code call(struct base_err *err)
{
    char id[CLI_REQUEST_ID_BYTES];
    Retile__V1__WatchRequest request = RETILE__V1__WATCH_REQUEST__INIT;
    BASE_AUTO(cli_server) server = NULL;

    assert_ok(cli_connect(&server, err), err);
    request.job = cli_request_id(id);
    return cli_call(server, &retile__v1__watch__descriptor, "Watch",
                    &request.base, NULL, err);
}

static void test_a_lost_call_is_made_again_under_its_id(void **state)
{
    struct base_err err = {0};

    (void)state;
    fake.unary[0] = BASE_UNREACHABLE;
    fake.unary[1] = BASE_UNREACHABLE;
    assert_ok(call(&err), &err);
    assert_int_equal(fake.n_unary, 3);
    assert_int_equal(strlen(fake.ids[0]), CLI_REQUEST_ID_BYTES - 1);
    assert_string_equal(fake.ids[0], fake.ids[1]);
    assert_string_equal(fake.ids[0], fake.ids[2]);
}

static void test_another_intention_has_another_id(void **state)
{
    struct base_err err = {0};

    (void)state;
    assert_ok(call(&err), &err);
    assert_ok(call(&err), &err);
    assert_string_not_equal(fake.ids[0], fake.ids[1]);
}

static void test_a_call_is_given_up_after_four_tries(void **state)
{
    struct base_err err = {0};

    (void)state;
    for (size_t i = 0; i < MAX_CALLS; i++) {
        fake.unary[i] = BASE_UNREACHABLE;
    }
    assert_int_equal(call(&err), BASE_UNREACHABLE);
    assert_int_equal(fake.n_unary, 4);
    assert_string_equal(err.text, "try 4");
}

static void test_an_answered_call_is_not_made_again(void **state)
{
    static const enum base_code codes[] = {BASE_NOT_FOUND, BASE_EXISTS,
                                           BASE_TIMEOUT, BASE_DENIED};
    struct base_err err = {0};

    (void)state;
    for (size_t i = 0; i < N_ITEMS(codes); i++) {
        (void)forget(NULL);
        fake.unary[0] = codes[i];
        assert_int_equal(call(&err), codes[i]);
        assert_int_equal(fake.n_unary, 1);
    }
}

static void test_tls_options_belong_together(void **state)
{
    BASE_AUTO(cli_server) server = NULL;
    struct base_err err = {0};

    (void)state;
    cli_connect_args.tls_ca = "ca.pem";
    cli_connect_args.tls_cert = "cert.pem";
    assert_int_equal(cli_connect(&server, &err), BASE_BAD_ARG);
    assert_non_null(strstr(err.text, "--tls-key is missing"));
    memset(&cli_connect_args, 0, sizeof(cli_connect_args));
}

/* --- following ----------------------------------------------------------- */

static uint64_t seen[MAX_EVENTS * MAX_CALLS];
static size_t n_seen;

static bool on_event(void *ctx, const Retile__V1__Event *event)
{
    const uint64_t *last = ctx;

    seen[n_seen++] = event->revision;
    return event->revision != *last;
}

static enum base_code
follow_to(uint64_t from, uint64_t last, struct base_err *err)
{
    struct cli_follow follow = {.from = from,
                                .on_event = on_event,
                                .ctx = &last,
                                .patience_ns = PATIENCE_NS};
    BASE_AUTO(cli_server) server = NULL;

    n_seen = 0;
    assert_ok(cli_connect(&server, err), err);
    return cli_follow(server, &follow, err);
}

static void test_a_watch_goes_on_without_gap_or_repeat(void **state)
{
    struct base_err err = {0};

    (void)state;
    fake.follow[0].revisions[0] = 7;
    fake.follow[0].revisions[1] = 9;
    fake.follow[0].rc = BASE_UNREACHABLE;
    fake.follow[1].revisions[0] = 9; /* a server that sends one too many */
    fake.follow[1].revisions[1] = 12;
    fake.follow[1].rc = BASE_LIMIT; /* we read too slowly */
    fake.follow[1].code = RPC_RESOURCE_EXHAUSTED;
    fake.follow[2].rc = BASE_OK; /* the server stopped */
    fake.follow[3].revisions[0] = 13;
    assert_ok(follow_to(5, 13, &err), &err);
    assert_int_equal(n_seen, 4);
    assert_int_equal(seen[0], 7);
    assert_int_equal(seen[1], 9);
    assert_int_equal(seen[2], 12);
    assert_int_equal(seen[3], 13);
    assert_int_equal(fake.from[0], 5);
    assert_int_equal(fake.from[1], 10);
    assert_int_equal(fake.from[2], 13);
    assert_int_equal(fake.from[3], 13);
}

static void test_a_watch_ends_when_it_is_refused(void **state)
{
    struct base_err err = {0};

    (void)state;
    fake.follow[0].rc = BASE_LIMIT;
    fake.follow[0].code = RPC_OUT_OF_RANGE;
    assert_int_equal(follow_to(5, 13, &err), BASE_LIMIT);
    (void)forget(NULL);
    fake.follow[0].rc = BASE_DENIED;
    fake.follow[0].code = RPC_PERMISSION_DENIED;
    assert_int_equal(follow_to(5, 13, &err), BASE_DENIED);
    assert_int_equal(fake.n_follow, 1);
}

/* Connected is connected, though nothing happens. */
static void test_patience_begins_when_a_quiet_watch_is_lost(void **state)
{
    struct base_err err = {0};

    (void)state;
    fake.follow[0].rc = BASE_UNREACHABLE;
    fake.follow[1].stands_ms = 700;
    fake.follow[1].rc = BASE_UNREACHABLE;
    fake.follow[2].revisions[0] = 13;
    assert_ok(follow_to(5, 13, &err), &err);
    (void)forget(NULL);
    for (size_t i = 0; i < MAX_CALLS; i++) {
        fake.follow[i].rc = BASE_UNREACHABLE;
    }
    assert_int_equal(follow_to(5, 13, &err), BASE_UNREACHABLE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_lost_call_is_made_again_under_its_id,
                               forget),
        cmocka_unit_test_setup(test_another_intention_has_another_id, forget),
        cmocka_unit_test_setup(test_a_call_is_given_up_after_four_tries,
                               forget),
        cmocka_unit_test_setup(test_an_answered_call_is_not_made_again, forget),
        cmocka_unit_test_setup(test_tls_options_belong_together, forget),
        cmocka_unit_test_setup(test_a_watch_goes_on_without_gap_or_repeat,
                               forget),
        cmocka_unit_test_setup(test_a_watch_ends_when_it_is_refused, forget),
        cmocka_unit_test_setup(test_patience_begins_when_a_quiet_watch_is_lost,
                               forget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
