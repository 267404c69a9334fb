/* Votes: asked of the coordinator until it decides, then carried out.
 *
 * An error decides nothing: the vote is asked for again, on the next session
 * when there is none.  Only COMMIT or ABORT is a decision.  One that is damaged,
 * or that turns out to be when it is to be published, is asked for without a
 * version: the coordinator then knows, and says ABORT. */
#include <retile/v1/agents.pb-c.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "worker/agent.h"

enum { ASK_MS = 60000 };

struct ask {
    struct worker_post post; /* first */
    struct worker_agent *agent;
    char *job;
    uint64_t number;
    Retile__V1__Decision decision; /* UNSPECIFIED: none */
};

static void ask_free(struct ask *ask)
{
    free(ask->job);
    free(ask);
}

static struct worker_vote *find(struct worker_job *job, uint64_t number)
{
    for (size_t i = 0; job != NULL && i < job->votes.n; i++) {
        if (job->votes.items[i].number == number) {
            return &job->votes.items[i];
        }
    }
    return NULL;
}

static void on_answer(struct worker_post *post)
{
    struct ask *ask = (struct ask *)(void *)post;
    struct worker_job *job = worker_agent_job(ask->agent, ask->job);
    struct worker_vote *vote = find(job, ask->number);

    if (vote != NULL) {
        vote->is_asked = false;
        vote->decision = ask->decision;
        vote->next_ns =
            ask->decision == RETILE__V1__DECISION__DECISION_UNSPECIFIED
                ? worker_now_ns() + WORKER_SECOND_NS / 4
                : 0;
        worker_job_touch(job);
    }
    ask_free(ask);
}

/* On a thread of the layer. */
static void on_done(void *ctx,
                    const ProtobufCMessage *answer,
                    const struct rpc_status *status)
{
    struct ask *ask = ctx;

    if (answer != NULL) {
        ask->decision =
            ((const Retile__V1__VoteResponse *)(const void *)answer)->decision;
    } else {
        base_log(BASE_INFO, "a vote is not decided, retrying", "job", ask->job,
                 "why", status->text);
    }
    ask->post.fn = on_answer;
    worker_loop_post(ask->agent->loop, &ask->post);
}

static void ask_for(struct worker_job *job, struct worker_vote *vote)
{
    struct worker_agent *agent = job->agent;
    const struct rpc_call_options options = {.timeout_ms = ASK_MS,
                                             .token = agent->options->token};
    Retile__V1__VoteRequest request = RETILE__V1__VOTE_REQUEST__INIT;
    struct ask *ask = calloc(1, sizeof(*ask));

    request.session = worker_session_number(agent->session);
    request.job = job->name;
    request.attempt = vote->number;
    request.generation = vote->generation;
    request.version = vote->version;
    if (ask != NULL) {
        ask->agent = agent;
        ask->number = vote->number;
        ask->job = strdup(job->name);
    }
    if (ask == NULL || ask->job == NULL ||
        rpc_unary_start(agent->channel, &retile__v1__agents__descriptor, "Vote",
                        &request.base, &options, on_done, ask,
                        NULL) != BASE_OK) {
        if (ask != NULL) {
            ask_free(ask);
        }
        vote->next_ns = worker_now_ns() + WORKER_AGAIN_NS;
        return;
    }
    vote->is_asked = true;
}

static void carry_out(struct worker_job *job, struct worker_vote *vote)
{
    bool is_commit = vote->decision == RETILE__V1__DECISION__DECISION_COMMIT;

    vote->is_asked = worker_job_work(
        job, is_commit ? WORKER_WORK_PUBLISH : WORKER_WORK_DISCARD,
        vote->number);
    if (vote->version == NULL) {
        base_log(BASE_ERROR, "a vote is damaged, and given up", "job",
                 job->name);
    } else {
        base_log(BASE_NOTICE,
                 is_commit ? "a vote is committed" : "a vote is aborted", "job",
                 job->name);
    }
}

void worker_job_votes(struct worker_job *job, int64_t *wake_ns)
{
    int64_t now_ns = worker_now_ns();

    for (size_t i = 0; i < job->votes.n; i++) {
        struct worker_vote *vote = &job->votes.items[i];

        if (vote->is_asked) {
            continue;
        }
        if (vote->next_ns > now_ns) {
            *wake_ns = vote->next_ns < *wake_ns ? vote->next_ns : *wake_ns;
        } else if (vote->decision !=
                   RETILE__V1__DECISION__DECISION_UNSPECIFIED) {
            carry_out(job, vote);
        } else if (worker_session_is_up(job->agent->session)) {
            ask_for(job, vote); /* else the session touches us */
        }
    }
}
