#include "cli/follow.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_PAUSE_MS = 100, LAST_PAUSE_MS = 2000, STEP_MS = 100 };

enum base_code
cli_follow_next(struct cli_server *server, uint64_t *ret, struct base_err *err)
{
    Retile__V1__RevisionRequest request = RETILE__V1__REVISION_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;

    BASE_TRY(cli_call(server, &retile__v1__watch__descriptor, "Revision",
                      &request.base, &answer, err));
    *ret = ((const Retile__V1__RevisionResponse *)answer)->newest + 1;
    rpc_message_free(answer);
    return BASE_OK;
}

/* One call's state. */
struct call {
    struct cli_follow *follow;
    bool has_answered;
    bool is_enough;
};

static bool on_message(void *ctx, const ProtobufCMessage *message)
{
    const Retile__V1__WatchResponse *response = (const void *)message;
    struct call *call = ctx;
    struct cli_follow *follow = call->follow;

    if (!call->has_answered && follow->on_lost != NULL) {
        follow->on_lost(follow->ctx, NULL);
    }
    call->has_answered = true;
    for (size_t i = 0; i < response->n_events; i++) {
        const Retile__V1__Event *event = response->events[i];

        if (event->revision < follow->from) {
            continue; /* it was seen */
        }
        follow->from = event->revision + 1;
        if (!follow->on_event(follow->ctx, event)) {
            call->is_enough = true;
            return false;
        }
    }
    return true;
}

/* rpc_follow asks this without a context; one thread follows at a time. */
static bool (*current_on_idle)(void);
static bool had_enough;

static bool is_over(void)
{
    had_enough = had_enough || (current_on_idle != NULL && current_on_idle());
    return had_enough || cli_was_interrupted();
}

static enum base_code follow_once(struct cli_server *server,
                                  struct call *call,
                                  enum rpc_code *ret_code, /* NOLINT */
                                  struct base_err *err)
{
    Retile__V1__WatchRequest request = RETILE__V1__WATCH_REQUEST__INIT;
    BASE_AUTO_MEM char *job =
        strdup(call->follow->job == NULL ? "" : call->follow->job);
    const struct rpc_call_options options = {
        .token = cli_server_token(server),
        .is_interrupted = is_over,
        .ret_code = ret_code,
    };

    if (job == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot watch");
    }
    request.from_revision = call->follow->from;
    request.job = job;
    return rpc_follow(cli_server_channel(server),
                      &retile__v1__watch__descriptor, "Watch", &request.base,
                      &options, on_message, call, err);
}

/* Does a watch that ended so go on by itself?  A slow reader is cut off with
 * RESOURCE_EXHAUSTED; a server that stops may end it with OK. */
static bool goes_on(enum base_code rc, enum rpc_code code)
{
    return rc == BASE_OK || cli_is_lost(rc) || code == RPC_RESOURCE_EXHAUSTED;
}

static bool wait_a_while(int ms)
{
    for (int i = 0; i < ms; i += STEP_MS) {
        if (is_over()) {
            return false;
        }
        cli_pause(STEP_MS);
    }
    return !is_over();
}

enum base_code cli_follow(struct cli_server *server,
                          struct cli_follow *follow,
                          struct base_err *err)
{
    int64_t lost_ns = 0;
    int pause_ms = FIRST_PAUSE_MS;

    current_on_idle = follow->on_idle;
    had_enough = false;
    for (;;) {
        struct call call = {.follow = follow};
        struct base_err why = {0};
        enum rpc_code code = RPC_OK;
        int64_t began_ns = cli_now_ns();
        enum base_code rc = follow_once(server, &call, &code, &why);

        if (call.is_enough || had_enough) {
            return BASE_OK;
        }
        if (cli_was_interrupted()) {
            return base_fail(err, BASE_INTERRUPTED, "interrupted");
        }
        if (!goes_on(rc, code)) {
            return base_fail(err, code == RPC_OUT_OF_RANGE ? BASE_LIMIT : rc,
                             "%s", why.text);
        }
        /* A watch may stand for long without an event; what cannot connect
         * fails before. */
        if (call.has_answered ||
            cli_now_ns() - began_ns > follow->patience_ns / 8) {
            lost_ns = 0;
            pause_ms = FIRST_PAUSE_MS;
        }
        if (lost_ns == 0) {
            lost_ns = cli_now_ns();
        }
        if (follow->patience_ns != 0 &&
            cli_now_ns() - lost_ns > follow->patience_ns) {
            return base_fail(err, BASE_UNREACHABLE, "%s", why.text);
        }
        if (follow->on_lost != NULL && rc != BASE_OK) {
            follow->on_lost(follow->ctx, &why);
        }
        if (!wait_a_while(pause_ms)) {
            continue; /* told above */
        }
        pause_ms = pause_ms * 2 > LAST_PAUSE_MS ? LAST_PAUSE_MS : pause_ms * 2;
    }
}
