/* What must be true of core, agents and processes together:
 *
 *   1. a vote that was answered COMMIT is never answered ABORT, and the reverse;
 *      a commit is in the record before anybody hears of it
 *   2. generations of a job start ascending, and each once
 *   3. no version goes that is written down as kept
 *   4. what is in memory is what was written
 *   5. when faults end, every job comes to its end, and every call is answered
 *
 * Beside these the models check what they see: no device has two processes, a
 * loaded version is there and the newest, numbers ascend (agent.c, training.c). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/core/impl.h"
#include "tests/sim/world.h"

/* The record of a job; NULL: there is none. */
static const struct sim_record *record_of(const struct world *world,
                                          const char *name)
{
    size_t at = records_lower(world, COORD_JOB, base_str_of(name));

    return at < world->records.n &&
                   world->records.items[at].kind == COORD_JOB &&
                   strcmp(world->records.items[at].id, name) == 0
               ? &world->records.items[at]
               : NULL;
}

static Retile__Coordinator__JobRecord *written(const struct world *world,
                                               const char *name)
{
    const struct sim_record *rec = record_of(world, name);

    return rec != NULL ? retile__coordinator__job_record__unpack(
                             NULL, rec->n_bytes, (const uint8_t *)rec->body)
                       : NULL;
}

void oracle_vote(struct world *world,
                 const struct sim_call *call,
                 bool is_commit)
{
    struct sim_decision decision = {.number = call->number,
                                    .is_commit = is_commit};
    const struct sim_job *job = &world->hosts[call->host].jobs[call->job];
    Retile__Coordinator__JobRecord *rec = written(world, job->name);
    bool is_written = false;

    if (call->is_lost && is_commit) {
        world_fault(world,
                    "%s: attempt %" PRIu64 ", which is lost, is committed",
                    job->name, call->number);
    }
    /* Removed meanwhile, or another job of this name. */
    if (rec == NULL || call->is_lost ||
        strcmp(rec->job->host, world->hosts[call->host].name) != 0) {
        retile__coordinator__job_record__free_unpacked(rec, NULL);
        return;
    }
    decision.born_ns = rec->job->submitted_ns;
    for (size_t i = 0; i + 1 < rec->n_committed; i += 2) {
        is_written |= call->number >= rec->committed[i] &&
                      call->number < rec->committed[i + 1];
    }
    if (is_commit && !is_written && !world->has_snapshots) {
        world_fault(world, "%s: attempt %" PRIu64 " is committed by word only",
                    job->name, call->number);
    }
    (void)snprintf(decision.job, sizeof(decision.job), "%s", job->name);
    retile__coordinator__job_record__free_unpacked(rec, NULL);
    for (size_t i = 0; i < world->decisions.n; i++) {
        const struct sim_decision *old = &world->decisions.items[i];

        if (old->number == decision.number &&
            old->born_ns == decision.born_ns &&
            strcmp(old->job, decision.job) == 0) {
            /* Restored, it has forgotten what it had told. */
            if (old->is_commit != is_commit && !world->has_snapshots) {
                world_fault(world, "%s: attempt %" PRIu64 " was %s, now is %s",
                            job->name, call->number,
                            old->is_commit ? "committed" : "aborted",
                            is_commit ? "committed" : "aborted");
            }
            return;
        }
    }
    if (!base_vec_push(&world->decisions, decision)) {
        abort();
    }
}

void oracle_start(struct world *world, uint32_t host, const struct sim_job *job)
{
    Retile__Coordinator__JobRecord *rec = written(world, job->name);

    if (rec == NULL) {
        world_fault(world, "%s: starts, and is not written down", job->name);
        return;
    }
    if (rec->job->generation == NULL ||
        rec->job->generation->number < job->run) {
        world_fault(
            world, "%s: generation %" PRIu64 " starts, and is not written down",
            job->name, job->run);
    }
    for (uint32_t k = 0; k < world->n_host_jobs; k++) {
        const struct sim_job *other = &world->hosts[host].jobs[k];

        if (other != job && other->is_used &&
            strcmp(other->name, job->name) == 0 && training_is_alive(other)) {
            world_fault(world, "%s: runs twice", job->name);
        }
    }
    if (training_is_alive(job)) {
        world_fault(world,
                    "%s: generation %" PRIu64 " starts beside an older one",
                    job->name, job->run);
    }
    retile__coordinator__job_record__free_unpacked(rec, NULL);
}

void oracle_release(struct world *world,
                    uint32_t host,
                    const struct sim_job *job,
                    uint64_t number)
{
    Retile__Coordinator__JobRecord *rec = written(world, job->name);
    bool is_known = false;
    bool is_released = false;

    /* A coordinator that was restored does not know what it gave up. */
    if (rec == NULL || world->has_snapshots ||
        strcmp(rec->job->host, world->hosts[host].name) != 0) {
        retile__coordinator__job_record__free_unpacked(rec, NULL);
        return;
    }
    for (size_t i = 0; i < rec->job->n_versions; i++) {
        is_known |= rec->job->versions[i]->number == number;
    }
    for (size_t i = 0; i < rec->n_released; i++) {
        is_released |= rec->released[i] == number;
    }
    if (is_known && !is_released) {
        world_fault(world, "%s: version %" PRIu64 " goes and is kept",
                    job->name, number);
    }
    retile__coordinator__job_record__free_unpacked(rec, NULL);
}

/* After a commit: one job, in memory and as it was written. */
void oracle_step(struct world *world)
{
    const struct coord *coord = world->coord;
    const struct coord_job *job;
    const struct sim_record *rec;
    uint8_t *packed;
    size_t n;
    bool is_same;

    if (coord->jobs.n == 0) {
        return;
    }
    job = coord->jobs.items[world->n_commits % coord->jobs.n];
    n = protobuf_c_message_get_packed_size(&job->rec->base);
    packed = malloc(n + 1);
    if (packed == NULL) {
        abort();
    }
    (void)protobuf_c_message_pack(&job->rec->base, packed);
    rec = record_of(world, job->rec->job->name);
    is_same =
        rec != NULL && rec->n_bytes == n && memcmp(rec->body, packed, n) == 0;
    free(packed);
    if (!is_same) {
        world_fault(world, "%s: is not as it was written", job->rec->job->name);
    }
}

/* What both sides have of it. */
static void tell_job(const struct world *world,
                     const struct coord_job *job,
                     char *why,
                     size_t n)
{
    const Retile__V1__Job *rec = job->rec->job;
    const Retile__V1__Generation *generation = rec->generation;
    const struct sim_job *there = NULL;

    for (uint32_t i = 0; i < world->n_hosts; i++) {
        for (uint32_t k = 0; k < world->n_host_jobs; k++) {
            if (strcmp(world->hosts[i].name, rec->host) == 0 &&
                world->hosts[i].jobs[k].is_used &&
                strcmp(world->hosts[i].jobs[k].name, rec->name) == 0) {
                there = &world->hosts[i].jobs[k];
            }
        }
    }
    (void)snprintf(why, n,
                   "%s is %s: %s (generation %" PRIu64 " %s, attempt %" PRIu64
                   "; there: shown %" PRIu64 ", run %" PRIu64 " of %" PRIu64
                   ", voted %" PRIu64 ", save %d, asking %d)",
                   rec->name, coord_state_name("job", (int)rec->state),
                   rec->reason, generation != NULL ? generation->number : 0,
                   generation != NULL
                       ? coord_state_name("generation", (int)generation->state)
                       : "",
                   rec->attempt != NULL ? rec->attempt->number : 0,
                   there != NULL ? there->shown : 0,
                   there != NULL ? there->run : 0,
                   there != NULL ? there->started_generation : 0,
                   there != NULL ? there->voted.number : 0,
                   there != NULL ? (int)there->save : 0,
                   there != NULL ? (int)there->is_asking : 0);
}

bool oracle_is_settled(const struct world *world, char *why, size_t n)
{
    const struct coord *coord = world->coord;

    if (coord == NULL) {
        (void)snprintf(why, n, "the coordinator is down");
        return false;
    }
    for (size_t i = 0; i < world->calls.n; i++) {
        if (world->calls.items[i].owner == CALL_CLIENT &&
            !world->calls.items[i].is_done) {
            (void)snprintf(why, n, "call %zu, %s, is not answered", i,
                           world->calls.items[i].method);
            return false;
        }
    }
    for (size_t i = 0; i < coord->jobs.n; i++) {
        const struct coord_job *job = coord->jobs.items[i];
        const Retile__V1__Job *rec = job->rec->job;
        bool has_room =
            job->host == NULL || rec->n_ranks <= job->host->rec->n_devices;

        if (rec->state == JOB_DONE || rec->state == JOB_FAILED ||
            rec->state == JOB_LOST ||
            (rec->state == JOB_WAITING && !has_room) ||
            (rec->state == JOB_WAITING && job->host == NULL &&
             rec->n_ranks > MAX_SLOTS)) {
            continue;
        }
        tell_job(world, job, why, n);
        return false;
    }
    return true;
}
