/* The agent's jobs, and what happens in a turn. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "worker/agent.h"

void worker_job_free(struct worker_job *job)
{
    if (job == NULL) {
        return;
    }
    for (size_t i = 0; i < job->votes.n; i++) {
        rpc_message_free((ProtobufCMessage *)job->votes.items[i].version);
    }
    base_vec_done(&job->votes);
    worker_versions_done(&job->versions);
    worker_record_done(&job->record);
    worker_mount_done(&job->mount);
    rpc_call_unref(job->launcher.call);
    base_buf_done(&job->launcher.order);
    base_buf_done(&job->status);
    rpc_message_free((ProtobufCMessage *)job->target);
    rpc_message_free((ProtobufCMessage *)job->plan);
    free(job->damaged);
    free(job->name);
    free(job);
}

struct worker_job *worker_agent_job(struct worker_agent *agent,
                                    const char *name)
{
    for (size_t i = 0; i < agent->jobs.n; i++) {
        if (strcmp(agent->jobs.items[i]->name, name) == 0) {
            return agent->jobs.items[i];
        }
    }
    return NULL;
}

static struct worker_job *make_job(struct worker_agent *agent, const char *name)
{
    struct worker_job *job = calloc(1, sizeof(*job));

    if (job == NULL) {
        return NULL;
    }
    job->agent = agent;
    job->wake_ns = INT64_MAX;
    job->mount.watch.fd = -1;
    base_buf_init(&job->mount.order, WORKER_MAX_MESSAGE_BYTES);
    base_buf_init(&job->launcher.order, WORKER_MAX_MESSAGE_BYTES);
    base_buf_init(&job->status, WORKER_MAX_MESSAGE_BYTES);
    job->name = strdup(name);
    job->mount.path = base_path("%s/%s", agent->mounts, name);
    if (job->name == NULL || job->mount.path == NULL ||
        /* Of pointers. NOLINTNEXTLINE(bugprone-sizeof-expression) */
        !base_vec_push(&agent->jobs, job)) {
        worker_job_free(job);
        return NULL;
    }
    return job;
}

/* What is of it is looked for before anything is done with it. */
struct worker_job *worker_agent_need(struct worker_agent *agent,
                                     const char *name)
{
    struct worker_job *job = worker_agent_job(agent, name);

    if (job != NULL || agent->jobs.n >= WORKER_MAX_JOBS) {
        return job;
    }
    job = make_job(agent, name);
    if (job != NULL) {
        worker_record_read(agent->records_fd, name, &job->record);
        worker_mount_adopt(job);
        worker_job_touch(job);
    }
    return job;
}

void worker_job_touch(struct worker_job *job)
{
    job->is_touched = true;
}

void worker_agent_touch_all(struct worker_agent *agent)
{
    for (size_t i = 0; i < agent->jobs.n; i++) {
        worker_job_touch(agent->jobs.items[i]);
    }
}

/* --- what the coordinator wants ------------------------------------------- */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Numbers that were seen are not forgotten. */
static void see_numbers(struct worker_job *job)
{
    const Retile__V1__JobTarget *target = job->target;
    struct worker_record *record = &job->record;
    uint64_t highest = max_u64(record->highest, target->highest);
    uint64_t generation = record->highest_generation;

    if (target->attempt != NULL) {
        highest = max_u64(highest, target->attempt->number);
    }
    if (target->generation != NULL) {
        generation = max_u64(generation, target->generation->number);
    }
    if (highest != record->highest ||
        generation != record->highest_generation) {
        record->highest = highest;
        record->highest_generation = generation;
        worker_job_write(job);
    }
}

/* A job that was removed here and is wanted again is another job. */
static void begin_again(struct worker_job *job)
{
    job->is_gone = false;
    job->is_removed = false;
    job->tried = 0;
    job->failed = 0;
    job->trouble[0] = '\0';
    rpc_message_free((ProtobufCMessage *)job->plan);
    job->plan = NULL;
    worker_record_done(&job->record);
    job->record.is_clear = true;
}

void worker_agent_target(struct worker_agent *agent,
                         Retile__V1__JobTarget *target)
{
    struct worker_job *job = worker_agent_need(agent, target->job);

    if (job == NULL) {
        base_log(BASE_ERROR, "no room for a job", "job", target->job);
        rpc_message_free(&target->base);
        return;
    }
    if (job->is_gone && !target->is_gone) {
        begin_again(job);
    }
    rpc_message_free((ProtobufCMessage *)job->target);
    job->target = target;
    see_numbers(job);
    worker_job_touch(job);
}

/* --- what the store's thread has done ---------------------------------------- */

/* A mount that was told to commit publishes now; see it soon. */
static void settle_expected(struct worker_job *job)
{
    for (size_t i = 0; i < job->versions.n; i++) {
        if (job->versions.items[i]->number >= job->expected) {
            job->expected = 0;
            return;
        }
    }
    job->expect_next_ns = worker_now_ns() + WORKER_SECOND_NS / 50;
}

static void take_votes(struct worker_job *job, struct worker_work *work)
{
    for (size_t i = 0; i < work->votes.n; i++) {
        struct worker_found *found = &work->votes.items[i];
        struct worker_vote vote = {.number = found->number,
                                   .generation = found->generation,
                                   .version = found->version};

        if (base_vec_push(&job->votes, vote)) {
            found->version = NULL; /* taken */
        }
    }
}

static void drop_vote(struct worker_job *job, uint64_t number)
{
    size_t n = 0;

    for (size_t i = 0; i < job->votes.n; i++) {
        if (job->votes.items[i].number == number) {
            rpc_message_free((ProtobufCMessage *)job->votes.items[i].version);
        } else {
            job->votes.items[n++] = job->votes.items[i];
        }
    }
    job->votes.n = n;
}

/* Can it never be published? */
static bool is_damage(enum base_code code)
{
    return code == BASE_CHANGED || code == BASE_BAD_INPUT ||
           code == BASE_MISMATCH;
}

/* A decision that could not be carried out stays, and is tried again. */
static void settle_vote(struct worker_job *job, const struct worker_work *work)
{
    for (size_t i = 0; i < job->votes.n; i++) {
        struct worker_vote *vote = &job->votes.items[i];

        if (vote->number == work->number) {
            vote->is_asked = false;
            vote->next_ns = worker_now_ns() + WORKER_AGAIN_NS;
            if (work->kind == WORKER_WORK_PUBLISH && is_damage(work->code)) {
                vote->decision = RETILE__V1__DECISION__DECISION_UNSPECIFIED;
                rpc_message_free((ProtobufCMessage *)vote->version);
                vote->version = NULL; /* the coordinator has to know */
            }
        }
    }
    if (work->code == BASE_OK || work->code == BASE_NOT_FOUND ||
        (work->kind == WORKER_WORK_DISCARD && work->code == BASE_BAD_ARG)) {
        drop_vote(job, work->number);
    }
}

static void take_failure(struct worker_job *job, const struct worker_work *work)
{
    const char *text = work->err.text;

    if (work->kind == WORKER_WORK_ATTEMPT) {
        job->failed = work->target->attempt->number;
        /* Its number was given: an agent before us died while it made it. */
        job->may_come_again = work->code == BASE_CHANGED;
        (void)snprintf(job->failure, sizeof(job->failure), "%s", text);
    } else if (!work->is_incomplete) {
        (void)snprintf(job->trouble, sizeof(job->trouble), "store: %.380s",
                       text);
    }
    base_log(work->is_incomplete ? BASE_DEBUG : BASE_WARNING,
             work->kind == WORKER_WORK_ATTEMPT ? "an attempt failed"
                                               : "the store refuses, retrying",
             "job", job->name, "why", text);
}

/* What each kind leaves to be done. */
static void take_result(struct worker_job *job, struct worker_work *work)
{
    bool is_ok = work->code == BASE_OK;
    int64_t again_ns = worker_now_ns() + WORKER_AGAIN_NS;

    switch (work->kind) {
    case WORKER_WORK_LOOK:
        break;
    case WORKER_WORK_VOTES:
        job->are_votes_known = is_ok;
        job->look_next_ns = again_ns;
        take_votes(job, work);
        break;
    case WORKER_WORK_ATTEMPT:
        take_votes(job, work);
        break;
    case WORKER_WORK_PUBLISH:
    case WORKER_WORK_DISCARD:
        settle_vote(job, work);
        break;
    case WORKER_WORK_PLAN:
        rpc_message_free((ProtobufCMessage *)job->plan);
        job->plan = base_steal(&work->plan);
        break;
    case WORKER_WORK_TIDY:
        job->tidy_next_ns = is_ok && !work->is_incomplete ? 0 : again_ns;
        worker_aside_close(job, &work->unlinked, &work->n_unlinked);
        break;
    case WORKER_WORK_REMOVE:
        job->is_removed = is_ok;
        job->tidy_next_ns = is_ok ? 0 : again_ns;
        break;
    }
    if (is_ok) {
        job->trouble[0] = '\0';
    } else {
        take_failure(job, work);
    }
}

static void take_versions(struct worker_job *job, struct worker_work *work)
{
    worker_versions_done(&job->versions);
    job->versions = work->versions;
    work->versions = (struct worker_versions){0};
    free(job->damaged);
    job->damaged = base_steal(&work->damaged);
    job->is_looked_at = true;
    if (job->expected != 0) {
        settle_expected(job);
    }
}

void worker_agent_worked(void *ctx, struct worker_work *work)
{
    struct worker_agent *agent = ctx;
    struct worker_job *job = worker_agent_job(agent, work->job);

    if (job != NULL) {
        job->n_working--;
        if (work->has_versions) {
            take_versions(job, work);
        }
        take_result(job, work);
        worker_job_touch(job);
    }
    worker_work_free(work);
}

/* --- a turn ------------------------------------------------------------------ */

static void expect(struct worker_job *job, int64_t now_ns, int64_t *wake_ns)
{
    if (job->expected == 0 || job->n_working > 0) {
        return;
    }
    if (now_ns > job->expect_until_ns) {
        job->expected = 0;
    } else if (now_ns >= job->expect_next_ns) {
        (void)worker_job_work(job, WORKER_WORK_LOOK, 0); /* else later */
    } else if (job->expect_next_ns < *wake_ns) {
        *wake_ns = job->expect_next_ns;
    }
}

static void turn_job(struct worker_job *job, int64_t now_ns)
{
    struct worker_facts facts;
    unsigned todo;

    job->is_touched = false;
    if (worker_job_is_wanted(job, job->record.generation)) {
        job->revoked_ns = 0;
    } else if (job->target != NULL && job->revoked_ns == 0) {
        job->revoked_ns = now_ns;
        job->killed_ns = 0;
    }
    worker_job_order(job); /* mounts are told before anything is killed */
    facts = worker_job_facts(job);
    todo = worker_decide(&facts, now_ns, &job->wake_ns);
    worker_job_act(job, todo);
    worker_job_votes(job, &job->wake_ns);
    expect(job, now_ns, &job->wake_ns);
    worker_job_order(job);
    worker_job_tell(job);
}

/* A job of which nothing is left stays until the coordinator was told; it then
 * wants nothing of it. */
static bool is_forgotten(const struct worker_job *job)
{
    return job->is_gone && job->n_working == 0 && !job->is_probing &&
           job->mount.state == WORKER_MOUNT_NONE &&
           job->launcher.call == NULL && job->mount.call == NULL &&
           job->target == NULL;
}

/* Hello says all that is here, so everything is looked at before the first. */
static bool has_looked(struct worker_agent *agent)
{
    for (size_t i = 0; i < agent->jobs.n && !agent->has_looked; i++) {
        if (!agent->jobs.items[i]->is_looked_at) {
            return false;
        }
    }
    agent->has_looked = true;
    return true;
}

int64_t worker_agent_turn(void *ctx)
{
    struct worker_agent *agent = ctx;
    int64_t now_ns = worker_now_ns();
    int64_t wake_ns;
    size_t n = 0;

    if (agent->is_ending) {
        return worker_agent_ending(agent, now_ns);
    }
    wake_ns = worker_check_turn(agent, now_ns);
    for (size_t i = 0; i < agent->jobs.n; i++) {
        struct worker_job *job = agent->jobs.items[i];

        if (job->is_touched || job->wake_ns <= now_ns) {
            turn_job(job, now_ns);
        }
        if (job->is_touched) { /* by what was just done */
            wake_ns = now_ns;
        } else if (job->wake_ns < wake_ns) {
            wake_ns = job->wake_ns;
        }
    }
    for (size_t i = 0; i < agent->jobs.n; i++) {
        struct worker_job *job = agent->jobs.items[i];

        if (is_forgotten(job)) {
            worker_job_free(job);
        } else {
            agent->jobs.items[n++] = job;
        }
    }
    agent->jobs.n = n;
    if (has_looked(agent)) {
        int64_t session_ns = worker_session_turn(agent->session);

        wake_ns = session_ns < wake_ns ? session_ns : wake_ns;
    }
    return wake_ns;
}

/* --- the end ------------------------------------------------------------------- */

/* SIGTERM: mounts end, what runs in them is its launcher's. */
void worker_agent_stop(struct worker_agent *agent)
{
    if (agent->is_ending) {
        return;
    }
    agent->is_ending = true;
    agent->end_ns = worker_now_ns() + 2 * WORKER_KILL_WAIT_NS;
    for (size_t i = 0; i < agent->jobs.n; i++) {
        if (agent->jobs.items[i]->mount.state != WORKER_MOUNT_NONE) {
            worker_mount_end(agent->jobs.items[i]);
        }
    }
}

int64_t worker_agent_ending(struct worker_agent *agent, int64_t now_ns)
{
    bool is_any = false;

    for (size_t i = 0; i < agent->jobs.n; i++) {
        struct worker_mount *mount = &agent->jobs.items[i]->mount;

        is_any = is_any || mount->state != WORKER_MOUNT_NONE;
        if (mount->state == WORKER_MOUNT_ENDING &&
            now_ns > mount->since_ns + WORKER_KILL_WAIT_NS) {
            worker_mount_kill(agent->jobs.items[i]);
        }
    }
    if (!is_any || now_ns > agent->end_ns) {
        worker_loop_stop(agent->loop);
    }
    return now_ns + WORKER_SECOND_NS / 10;
}
