/* What a host's agent does, and how long that takes: saves, votes, versions made
 * and released, generations prepared. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/world.h"

enum work {
    WORK_KILLED,
    WORK_PREPARED,
    WORK_MADE,
    WORK_PLANNED,
    WORK_RELEASE,
    WORK_GONE,
    WORK_WRITTEN,
    WORK_AGAIN,
};

static void work(struct world *world,
                 uint32_t host,
                 const struct sim_job *job,
                 enum work kind,
                 uint64_t number,
                 int64_t ms)
{
    bool is_mount = kind == WORK_WRITTEN;

    world_at(world, world_soon(world, ms),
             (struct task){.kind = TASK_WORK,
                           .host = host,
                           .epoch = is_mount ? 0 : world->hosts[host].epoch,
                           .a = (uint64_t)(job - world->hosts[host].jobs),
                           .b = kind,
                           .c = number});
}
static bool has_version(const struct sim_job *job, uint64_t number)
{
    for (size_t i = 0; i < job->n_versions; i++) {
        if (job->versions[i].number == number) {
            return true;
        }
    }
    return false;
}

void sim_publish(struct world *world, uint32_t host, struct sim_job *job)
{
    if (has_version(job, job->voted.number)) {
        world_fault(world, "%s: version %" PRIu64 " is published twice",
                    job->name, job->voted.number);
        return;
    }
    if (job->n_versions >= MAX_LOCAL_VERSIONS) {
        world_fault(world, "%s: versions are not released", job->name);
        return;
    }
    for (size_t i = 0; i < job->n_versions; i++) {
        if (job->versions[i].number > job->voted.number) {
            world_fault(world, "%s: version %" PRIu64 " after %" PRIu64,
                        job->name, job->voted.number, job->versions[i].number);
        }
    }
    job->versions[job->n_versions++] = job->voted;
    sim_raise(&job->highest, job->voted.number);
    (void)host;
}

static void ask_open(struct world *world, uint32_t host, struct sim_job *job)
{
    Retile__V1__OpenSaveRequest request;

    retile__v1__open_save_request__init(&request);
    request.session = world->hosts[host].session;
    request.job = job->name;
    request.generation = job->run;
    request.step = job->save_step;
    job->is_asking = true;
    (void)call_send(
        world,
        (struct sim_call){.owner = CALL_OPEN,
                          .host = host,
                          .job = (uint32_t)(job - world->hosts[host].jobs),
                          .epoch = world->hosts[host].epoch,
                          .number = job->save_step,
                          .method = "/retile.v1.Agents/OpenSave"},
        &request);
}

/* The mount gives a save up. */
static void ask_close(struct world *world, uint32_t host, struct sim_job *job)
{
    Retile__V1__CloseSaveRequest request;

    retile__v1__close_save_request__init(&request);
    request.session = world->hosts[host].session;
    request.job = job->name;
    request.attempt = job->save_attempt;
    (void)call_send(
        world,
        (struct sim_call){.owner = CALL_CLOSE,
                          .host = host,
                          .job = (uint32_t)(job - world->hosts[host].jobs),
                          .epoch = world->hosts[host].epoch,
                          .number = job->save_attempt,
                          .method = "/retile.v1.Agents/CloseSave"},
        &request);
}

static void ask_vote(struct world *world, uint32_t host, struct sim_job *job)
{
    Retile__V1__VoteRequest request;
    Retile__V1__Version version = agent_version(&job->voted);

    retile__v1__vote_request__init(&request);
    request.session = world->hosts[host].session;
    request.job = job->name;
    request.attempt = job->voted.number;
    request.generation = job->voted_generation;
    if (!world->is_quiet && world_chance(world, 40)) {
        job->is_damaged = true;
    }
    request.version = job->is_damaged ? NULL : &version;
    job->is_asking = true;
    (void)call_send(
        world,
        (struct sim_call){.owner = CALL_VOTE,
                          .host = host,
                          .job = (uint32_t)(job - world->hosts[host].jobs),
                          .epoch = world->hosts[host].epoch,
                          .number = job->voted.number,
                          .is_lost = job->is_damaged,
                          .method = "/retile.v1.Agents/Vote"},
        &request);
}

static void release(struct world *world, uint32_t host, struct sim_job *job)
{
    const Retile__V1__JobTarget *target = job->target;

    for (size_t i = 0; i < job->n_versions && !job->is_releasing; i++) {
        uint64_t number = job->versions[i].number;
        bool is_kept = number > target->highest;

        for (size_t k = 0; k < target->n_keep && !is_kept; k++) {
            is_kept = target->keep[k] == number;
        }
        if (!is_kept) {
            job->is_releasing = true;
            work(world, host, job, WORK_RELEASE, number, 50);
        }
    }
}

static void
reconcile_generation(struct world *world, uint32_t host, struct sim_job *job)
{
    const Retile__V1__TargetGeneration *wanted = job->target->generation;
    uint64_t number = wanted != NULL ? wanted->number : 0;

    if (training_is_alive(job) && job->run != number) {
        job->is_over = true; /* the mount answers EROFS */
        if (!job->is_killing) {
            job->is_killing = true;
            work(world, host, job, WORK_KILLED, job->run, 200);
        }
        return;
    }
    if (job->shown != 0 && job->shown != number) {
        job->shown = 0;
        job->is_over = true;
        agent_status(world, host, job);
    }
    if (wanted == NULL) {
        return;
    }
    sim_raise(&job->highest_generation, number);
    if (job->run != number && job->started_generation >= number) {
        return; /* it was started once, and is over */
    }
    if (job->shown != number && !job->is_preparing) {
        job->is_preparing = true;
        work(world, host, job, WORK_PREPARED, number, 50);
    }
    if (job->shown == number &&
        wanted->state == RETILE__V1__GENERATION_STATE__GENERATION_READY &&
        job->started_generation < number) {
        job->started_generation = number;
        training_start(world, host, job, wanted);
    }
    if (job->run == number && wanted->request[0] != '\0') {
        job->is_asked = true;
    }
}

static void
reconcile_attempt(struct world *world, uint32_t host, struct sim_job *job)
{
    const Retile__V1__TargetAttempt *attempt = job->target->attempt;

    if (attempt != NULL) {
        sim_raise(&job->highest, attempt->number);
    }
    if (attempt == NULL || job->voted.number == attempt->number ||
        has_version(job, attempt->number) ||
        job->failed_attempt == attempt->number || job->is_making) {
        return;
    }
    if (attempt->parent != 0 && attempt->from_job[0] == '\0' &&
        !has_version(job, attempt->parent)) {
        world_fault(world, "%s: no parent %" PRIu64 " of attempt %" PRIu64,
                    job->name, attempt->parent, attempt->number);
    }
    job->is_making = true;
    work(world, host, job, WORK_MADE, attempt->number, 100);
}

void agent_reconcile(struct world *world, uint32_t host, struct sim_job *job)
{
    struct sim_host *h = &world->hosts[host];

    if (!h->is_up || h->is_paused || !job->is_used || job->is_gone) {
        return;
    }
    if (h->session != 0 && job->voted.number != 0 && !job->is_asking) {
        ask_vote(world, host, job);
    }
    if (h->session != 0 && job->save == SAVE_OPENING && !job->is_asking) {
        if (job->is_over) {
            training_saved(world, host, job, false);
        } else {
            ask_open(world, host, job);
        }
    }
    if (job->target == NULL) {
        return;
    }
    if (job->target->is_gone) {
        if (!job->is_leaving) {
            job->is_leaving = true;
            work(world, host, job, WORK_GONE, 0, 200);
        }
        return;
    }
    reconcile_generation(world, host, job);
    reconcile_attempt(world, host, job);
    if (job->target->plan != NULL &&
        job->planned != job->target->plan->number && !job->is_planning) {
        job->is_planning = true;
        work(world, host, job, WORK_PLANNED, job->target->plan->number, 50);
    }
    release(world, host, job);
}
static void
made(struct world *world, uint32_t host, struct sim_job *job, uint64_t number)
{
    const Retile__V1__TargetAttempt *attempt =
        job->target != NULL ? job->target->attempt : NULL;
    const char *tp;

    job->is_making = false;
    if (attempt == NULL || attempt->number != number ||
        job->voted.number != 0) {
        return; /* not wanted any more: its staging goes */
    }
    if (!world->is_quiet && world_chance(world, 15)) {
        job->failed_attempt = number;
        job->may_come_again = world_chance(world, 2);
        agent_status(world, host, job);
        return;
    }
    job->voted = (struct sim_version){.number = number, .step = 5, .tp = 2};
    for (size_t i = 0; i < job->n_versions; i++) {
        if (job->versions[i].number == attempt->parent) {
            job->voted = job->versions[i];
            job->voted.number = number;
        }
    }
    tp = strstr(attempt->layout, "tp: ");
    if (tp != NULL) {
        job->voted.tp = (uint32_t)(tp[4] - '0');
    }
    if (job->voted.tp > world->hosts[host].n_slots &&
        attempt->kind != RETILE__V1__ATTEMPT_KIND__ATTEMPT_RESCALE) {
        job->voted.tp = 1;
    }
    job->voted_generation = 0;
}

static void planned(struct world *world,
                    uint32_t host,
                    struct sim_job *job,
                    uint64_t number)
{
    const char *tp;

    job->is_planning = false;
    if (job->target == NULL || job->target->plan == NULL ||
        job->target->plan->number != number) {
        return;
    }
    tp = strstr(job->target->plan->to, "tp: ");
    job->planned = number;
    job->planned_tp =
        tp != NULL && !world_chance(world, 10) ? (uint32_t)(tp[4] - '0') : 0;
    agent_status(world, host, job);
}

static void released(struct world *world,
                     uint32_t host,
                     struct sim_job *job,
                     uint64_t number)
{
    job->is_releasing = false;
    if (job->target == NULL) {
        return;
    }
    for (size_t k = 0; k < job->target->n_keep; k++) {
        if (job->target->keep[k] == number) {
            return;
        }
    }
    for (size_t i = 0; i < job->n_versions; i++) {
        if (job->versions[i].number == number) {
            oracle_release(world, host, job, number);
            memmove(&job->versions[i], &job->versions[i + 1],
                    (job->n_versions - i - 1) * sizeof(job->versions[0]));
            job->n_versions--;
            break;
        }
    }
    agent_status(world, host, job);
}

static void written(struct world *world,
                    uint32_t host,
                    struct sim_job *job,
                    uint64_t number)
{
    if (job->save != SAVE_WRITING || job->save_attempt != number ||
        !training_is_alive(job)) {
        return;
    }
    if (job->is_over) {
        training_saved(world, host, job, false);
        return;
    }
    if (!world->is_quiet && world_chance(world, 20)) {
        ask_close(world, host, job);
        training_saved(world, host, job, false);
        return;
    }
    job->save = SAVE_VOTING;
    job->voted = (struct sim_version){
        .number = number, .step = job->save_step, .tp = job->tp};
    job->voted_generation = job->run;
}

void agent_do_work(struct world *world, const struct task *task)
{
    uint32_t host = task->host;
    struct sim_job *job = &world->hosts[host].jobs[task->a];

    if (!job->is_used) {
        return;
    }
    switch ((enum work)task->b) {
    case WORK_KILLED:
        job->is_killing = false;
        if (job->run == task->c && job->is_over) {
            training_kill(world, host, job);
            agent_status(world, host, job);
        }
        break;
    case WORK_PREPARED:
        job->is_preparing = false;
        if (job->target != NULL && job->target->generation != NULL &&
            job->target->generation->number == task->c &&
            !training_is_alive(job)) {
            if (job->target->generation->load != 0 &&
                !has_version(job, job->target->generation->load)) {
                world_fault(world,
                            "%s: generation %" PRIu64 " loads %" PRIu64
                            ", which is not there",
                            job->name, task->c, job->target->generation->load);
            }
            job->shown = task->c;
            agent_status(world, host, job);
        }
        break;
    case WORK_MADE:
        made(world, host, job, task->c);
        break;
    case WORK_PLANNED:
        planned(world, host, job, task->c);
        break;
    case WORK_RELEASE:
        released(world, host, job, task->c);
        break;
    case WORK_GONE:
        job->is_leaving = false;
        if (job->target != NULL && job->target->is_gone) {
            training_kill(world, host, job);
            job->n_versions = 0;
            job->voted.number = 0;
            job->is_damaged = false;
            job->shown = job->started_generation = 0;
            job->highest = job->highest_generation = 0;
            job->is_gone = true;
            agent_status(world, host, job);
        }
        return;
    case WORK_WRITTEN:
        written(world, host, job, task->c);
        break;
    case WORK_AGAIN:
        break;
    }
    agent_reconcile(world, host, job);
}

/* Answers to its calls. */
void agent_reply(struct world *world,
                 struct sim_call *call,
                 enum rpc_code code,
                 const void *bytes,
                 size_t n)
{
    struct sim_host *h = &world->hosts[call->host];
    struct sim_job *job = &h->jobs[call->job];
    Retile__V1__OpenSaveResponse *opened;
    Retile__V1__VoteResponse *vote = NULL;

    if (call->owner == CALL_CLOSE) {
        return; /* whatever came of it */
    }
    if (call->owner == CALL_VOTE && code == RPC_OK) {
        vote = retile__v1__vote_response__unpack(NULL, n, bytes);
        oracle_vote(world, call,
                    vote->decision == RETILE__V1__DECISION__DECISION_COMMIT);
    }
    if (h->epoch != call->epoch || !job->is_asking || call->is_done) {
        retile__v1__vote_response__free_unpacked(vote, NULL);
        return;
    }
    call->is_done = true;
    job->is_asking = false;
    if (call->owner == CALL_OPEN && job->save == SAVE_OPENING &&
        job->save_step == call->number) {
        if (code == RPC_OK) {
            opened = retile__v1__open_save_response__unpack(NULL, n, bytes);
            job->save = SAVE_WRITING;
            job->save_attempt = opened->attempt;
            sim_raise(&job->highest, opened->attempt);
            retile__v1__open_save_response__free_unpacked(opened, NULL);
            work(world, call->host, job, WORK_WRITTEN, job->save_attempt, 50);
        } else if (code != RPC_UNAVAILABLE && code != RPC_UNAUTHENTICATED) {
            training_saved(world, call->host, job, false);
        }
    } else if (vote != NULL && job->voted.number == call->number) {
        bool is_commit =
            vote->decision == RETILE__V1__DECISION__DECISION_COMMIT;
        bool is_save = job->voted_generation != 0;

        if (is_commit) {
            sim_publish(world, call->host, job);
        }
        if (call->is_lost && !is_save) {
            job->failed_attempt = call->number; /* it is tried once */
        }
        job->voted.number = 0;
        job->is_damaged = false;
        if (is_commit) {
            agent_status(world, call->host, job);
        }
        if (is_save && job->save == SAVE_VOTING) {
            training_saved(world, call->host, job, is_commit);
        }
    }
    retile__v1__vote_response__free_unpacked(vote, NULL);
    work(world, call->host, job, WORK_AGAIN, 0, 300);
}
