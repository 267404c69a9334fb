/* What a mount asks its agent, and what it tells of attempts. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <retile/v1/host.pb-c.h>

#include "fuse/agent_impl.h"
#include "fuse/fs.h"
#include "proto/describe.h"
#include "store/vote.h"

enum { OPEN_MS = 5000, CLOSE_MS = 5000 };

#define NS_PER_MS      ((int64_t)1000000)
#define OPEN_AGAIN_NS  (100 * NS_PER_MS)
#define CLOSE_AGAIN_NS ((int64_t)500000000)

/* Of the process: calls that wait have no other way to be told.  Set once, when
 * its only mount ends. */
static atomic_bool is_ending;

bool agent_is_interrupted(void)
{
    return is_ending;
}

void fs_agent_interrupt(struct fs_agent *agent)
{
    if (agent != NULL) {
        is_ending = true;
        (void)pthread_mutex_lock(&agent->lock);
        (void)pthread_cond_broadcast(&agent->changed);
        (void)pthread_mutex_unlock(&agent->lock);
    }
}

/* What is only sent: the layer writes to no text of a message. */
static char *text_of(const char *text)
{
    union {
        const char *shown;
        char *field;
    } both = {text};

    return both.field;
}

/* A unary call that waits; @ret_code: of the answer. */
static enum base_code ask(struct fs_agent *agent,
                          const char *method,
                          const ProtobufCMessage *message,
                          unsigned timeout_ms,
                          enum rpc_code *ret_code,
                          ProtobufCMessage **ret,
                          struct base_err *err)
{
    const struct rpc_call_options options = {
        .timeout_ms = timeout_ms,
        .wait_for_ready = true, /* it may be about to start again */
        .is_interrupted = agent_is_interrupted,
        .ret_code = ret_code,
    };

    *ret_code = RPC_UNAVAILABLE;
    return rpc_unary(agent->channel, &retile__v1__local__descriptor, method,
                     message, &options, ret, err);
}

static int errno_of(enum rpc_code code)
{
    switch (code) {
    case RPC_OK:
        return 0;
    case RPC_ALREADY_EXISTS:
        return EEXIST;
    case RPC_ABORTED:
        return EBUSY;
    case RPC_FAILED_PRECONDITION:
        return EROFS;
    case RPC_OUT_OF_RANGE:
        return EINVAL;
    case RPC_RESOURCE_EXHAUSTED:
        return ENOSPC;
    case RPC_UNAVAILABLE:
    case RPC_DEADLINE_EXCEEDED:
    case RPC_CANCELLED:
        return ETIMEDOUT;
    case RPC_UNKNOWN:
    case RPC_INVALID_ARGUMENT:
    case RPC_NOT_FOUND:
    case RPC_PERMISSION_DENIED:
    case RPC_UNIMPLEMENTED:
    case RPC_INTERNAL:
    case RPC_DATA_LOSS:
    case RPC_UNAUTHENTICATED:
        return EIO;
    }
    return EIO;
}

bool agent_has_closes(const struct fs_agent *agent)
{
    size_t i;

    for (i = 0; i < AGENT_MAX_CLOSES; i++) {
        if (agent->closes[i].attempt != 0) {
            return true;
        }
    }
    return false;
}

/* An attempt that is closed must not be given once more for the next try. */
static bool wait_closes(struct fs_agent *agent)
{
    const int64_t end_ns = agent_now_ns() + (int64_t)OPEN_MS * 1000000;
    AGENT_LOCKED(agent);

    while (agent_has_closes(agent)) {
        if (agent_now_ns() >= end_ns || agent_is_interrupted()) {
            return false;
        }
        agent_wait_until(agent, end_ns);
    }
    return true;
}

/* False: that was past @end_ns, or the mount ends. */
static bool may_ask_again(struct fs_agent *agent, int64_t end_ns)
{
    const int64_t again_ns = agent_now_ns() + OPEN_AGAIN_NS;
    AGENT_LOCKED(agent);

    while (agent_now_ns() < again_ns && again_ns < end_ns &&
           !agent_is_interrupted()) {
        agent_wait_until(agent, again_ns);
    }
    return again_ns < end_ns && !agent_is_interrupted();
}

/* An agent without a session says so at once; it may have one in a moment, and
 * the same question has the same answer. */
static enum base_code ask_open(struct fs_agent *agent,
                               const Retile__V1__OpenSaveRequest *request,
                               enum rpc_code *ret_code,
                               ProtobufCMessage **ret,
                               struct base_err *err)
{
    const int64_t end_ns = agent_now_ns() + OPEN_MS * NS_PER_MS;
    enum base_code rc;

    do {
        const int64_t left_ms = (end_ns - agent_now_ns()) / NS_PER_MS;

        rc = ask(agent, "OpenSave", &request->base,
                 left_ms > 0 ? (unsigned)left_ms : 1, ret_code, ret, err);
    } while (rc != BASE_OK && *ret_code == RPC_UNAVAILABLE &&
             may_ask_again(agent, end_ns));
    return rc;
}

int fs_agent_open_save(struct fs_agent *agent,
                       uint64_t generation,
                       uint64_t step,
                       uint64_t *ret_attempt,
                       struct base_err *err)
{
    Retile__V1__OpenSaveRequest request = RETILE__V1__OPEN_SAVE_REQUEST__INIT;
    ProtobufCMessage *answer = NULL;
    enum rpc_code code;
    int errnum;

    if (!wait_closes(agent)) {
        (void)base_fail(err, BASE_TIMEOUT,
                        "the agent was not told of an earlier save in %d s",
                        OPEN_MS / 1000);
        return ETIMEDOUT;
    }
    request.job = text_of(agent->fs->options->job);
    request.generation = generation;
    request.step = step;
    if (ask_open(agent, &request, &code, &answer, err) != BASE_OK) {
        errnum = errno_of(code);
        return errnum != 0 ? errnum : EIO;
    }
    *ret_attempt =
        ((const Retile__V1__OpenSaveResponse *)(const void *)answer)->attempt;
    rpc_message_free(answer);
    return 0;
}

/* What is voted for: *ret NULL, nothing that could be published.
 * Errors: BASE_NOT_FOUND  it was just decided
 *         others of opening it */
static enum base_code describe(const struct fs_agent *agent,
                               const struct fs_vote *vote,
                               Retile__V1__Version **ret,
                               struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    enum base_code code;

    if (vote->is_lost) {
        return BASE_OK;
    }
    code = store_vote_open(vote->root, agent->fs->options->job, vote->attempt,
                           &version, err);
    if (code == BASE_BAD_INPUT || code == BASE_MISMATCH) {
        return BASE_OK;
    }
    BASE_TRY(code);
    *ret = rpc_version_describe(version);
    return *ret != NULL ? BASE_OK : base_fail(err, BASE_NO_MEM, "cannot vote");
}

enum fs_decision fs_agent_vote(struct fs_agent *agent,
                               const struct fs_vote *vote,
                               unsigned timeout_ms,
                               struct base_err *err)
{
    Retile__V1__VoteRequest request = RETILE__V1__VOTE_REQUEST__INIT;
    Retile__V1__Version *version = NULL;
    const Retile__V1__VoteResponse *response;
    enum fs_decision decision = FS_UNDECIDED;
    ProtobufCMessage *answer = NULL;
    enum rpc_code code;
    enum base_code rc;

    if (describe(agent, vote, &version, err) != BASE_OK) {
        return FS_UNDECIDED;
    }
    request.job = text_of(agent->fs->options->job);
    request.attempt = vote->attempt;
    request.generation = vote->generation;
    request.version = version;
    rc = ask(agent, "Vote", &request.base, timeout_ms, &code, &answer, err);
    rpc_message_free((ProtobufCMessage *)version);
    if (rc != BASE_OK) {
        return FS_UNDECIDED;
    }
    response = (const void *)answer;
    if (response->decision == RETILE__V1__DECISION__DECISION_COMMIT) {
        decision = FS_COMMIT;
    } else if (response->decision == RETILE__V1__DECISION__DECISION_ABORT) {
        (void)base_fail(err, BASE_DENIED,
                        "attempt %" PRIu64
                        " was aborted by the coordinator: %s",
                        vote->attempt, response->reason);
        decision = FS_ABORT;
    } else {
        (void)base_fail(err, BASE_IO, "the agent's answer decides nothing");
    }
    rpc_message_free(answer);
    return decision;
}

/* Closing. */

struct closing {
    struct fs_agent *agent;
    uint64_t attempt;
};

static struct agent_close *find_close(struct fs_agent *agent, uint64_t attempt)
{
    size_t i;

    for (i = 0; i < AGENT_MAX_CLOSES; i++) {
        if (agent->closes[i].attempt == attempt) {
            return &agent->closes[i];
        }
    }
    return NULL;
}

/* Lock held. */
static void set_close(struct fs_agent *agent,
                      struct agent_close *close,
                      uint64_t attempt,
                      const char *reason)
{
    *close = (struct agent_close){.attempt = attempt};
    (void)snprintf(close->reason, sizeof(close->reason), "%s", reason);
    agent->fs->handover->closes[close - agent->closes] = attempt;
}

static void on_closed(void *ctx,
                      const ProtobufCMessage *answer,
                      const struct rpc_status *status)
{
    struct closing *closing = ctx;
    struct fs_agent *agent = closing->agent;
    const int errnum = errno_of(status->code);
    struct agent_close *close;
    AGENT_LOCKED(agent);

    (void)answer;
    close = find_close(agent, closing->attempt);
    free(closing);
    if (close != NULL && errnum == ETIMEDOUT) {
        close->is_asked = false;
        close->next_ns = agent_now_ns() + CLOSE_AGAIN_NS;
    } else if (close != NULL) { /* it is, or somebody else has decided */
        set_close(agent, close, 0, "");
    }
    (void)pthread_cond_broadcast(&agent->changed);
}

/* Lock held; on_closed may come before the layer returns, but waits for it. */
static bool send_close(struct fs_agent *agent, const struct agent_close *close)
{
    const struct rpc_call_options options = {.timeout_ms = CLOSE_MS};
    Retile__V1__CloseSaveRequest request = RETILE__V1__CLOSE_SAVE_REQUEST__INIT;
    struct closing *closing = calloc(1, sizeof(*closing));
    char reason[AGENT_REASON_BYTES];

    if (closing == NULL) {
        return false;
    }
    *closing = (struct closing){agent, close->attempt};
    memcpy(reason, close->reason, sizeof(reason));
    request.job = text_of(agent->fs->options->job);
    request.attempt = close->attempt;
    request.reason = reason;
    if (rpc_unary_start(agent->channel, &retile__v1__local__descriptor,
                        "CloseSave", &request.base, &options, on_closed,
                        closing, NULL) != BASE_OK) {
        free(closing);
        return false;
    }
    return true;
}

int64_t agent_send_closes(struct fs_agent *agent)
{
    const int64_t now = agent_now_ns();
    int64_t until = INT64_MAX;
    size_t i;

    for (i = 0; i < AGENT_MAX_CLOSES; i++) {
        struct agent_close *close = &agent->closes[i];

        if (close->attempt == 0 || close->is_asked) {
            continue;
        }
        if (now >= close->next_ns) {
            close->is_asked = send_close(agent, close);
            close->next_ns = now + CLOSE_AGAIN_NS;
        }
        if (!close->is_asked && close->next_ns < until) {
            until = close->next_ns;
        }
    }
    return until;
}

void fs_agent_close_save(struct fs_agent *agent,
                         uint64_t attempt,
                         const char *reason)
{
    struct agent_close *close;

    if (agent == NULL || attempt == 0) {
        return;
    }
    (void)pthread_mutex_lock(&agent->lock);
    close = find_close(agent, 0); /* else it is aborted with a later one */
    if (close != NULL && find_close(agent, attempt) == NULL) {
        set_close(agent, close, attempt, reason);
        (void)pthread_cond_broadcast(&agent->changed);
    }
    (void)pthread_mutex_unlock(&agent->lock);
}

void agent_resume_closes(struct fs_agent *agent)
{
    size_t i;

    for (i = 0; i < AGENT_MAX_CLOSES; i++) {
        const uint64_t attempt = agent->fs->handover->closes[i];

        if (attempt != 0) {
            set_close(agent, &agent->closes[i], attempt,
                      "its mount was interrupted");
        }
    }
}
