/* Processes that train: a step, sometimes a save; they stop when asked, or fail,
 * or hang.  They outlive their agent. */
#include <inttypes.h>
#include <stdlib.h>

#include "tests/sim/world.h"

enum { LAST_STEP = 60 };

bool training_is_alive(const struct sim_job *job)
{
    for (uint32_t i = 0; i < job->n_ranks; i++) {
        if (job->procs[i] == PROC_WAITING || job->procs[i] == PROC_RUNNING) {
            return true;
        }
    }
    return false;
}

static uint64_t user_of(const struct sim_job *job)
{
    struct base_digest digest = base_digest_of(job->name, strlen(job->name));
    uint64_t word;

    memcpy(&word, digest.bytes, sizeof(word));
    return word ^ job->run;
}

static void end_rank(struct world *world,
                     uint32_t host,
                     struct sim_job *job,
                     uint32_t rank,
                     int code)
{
    if (job->procs[rank] == PROC_WAITING || job->procs[rank] == PROC_RUNNING) {
        job->procs[rank] = PROC_EXITED;
        job->exit_codes[rank] = code;
        world->hosts[host].device_users[job->devices[rank]] = 0;
    }
}

void training_kill(struct world *world, uint32_t host, struct sim_job *job)
{
    for (uint32_t i = 0; i < job->n_ranks; i++) {
        end_rank(world, host, job, i, 137);
    }
    if (job->save != SAVE_VOTING) {
        job->save = SAVE_NONE;
    }
}

static void again(struct world *world, uint32_t host, const struct sim_job *job)
{
    world_at(world, world_soon(world, 400),
             (struct task){.kind = TASK_TRAIN,
                           .host = host,
                           .a = (uint64_t)(job - world->hosts[host].jobs),
                           .b = job->run});
}

void training_start(struct world *world,
                    uint32_t host,
                    struct sim_job *job,
                    const Retile__V1__TargetGeneration *generation)
{
    struct sim_host *h = &world->hosts[host];

    job->run = generation->number;
    job->n_ranks = (uint32_t)generation->n_placements;
    job->is_asked = job->is_over = false;
    job->hangs = !world->is_quiet && world_chance(world, 20);
    job->save = SAVE_NONE;
    job->step = job->loaded_step = 0;
    for (size_t i = 0; i < job->n_versions; i++) {
        if (job->versions[i].number == generation->load) {
            job->step = job->loaded_step = job->versions[i].step;
        }
        if (job->versions[i].number > generation->load) {
            world_fault(world,
                        "%s: generation %" PRIu64 " loads %" PRIu64 ", %" PRIu64
                        " is there",
                        job->name, job->run, generation->load,
                        job->versions[i].number);
        }
    }
    job->tp = job->n_ranks;
    job->last_step = LAST_STEP;
    job->next_save = job->step + 5 + world_random(world, 10);
    oracle_start(world, host, job);
    for (uint32_t i = 0; i < job->n_ranks; i++) {
        job->devices[i] = generation->placements[i]->device;
        job->procs[i] = PROC_RUNNING;
        job->exit_codes[i] = 0;
        if (h->device_users[job->devices[i]] != 0) {
            world_fault(world,
                        "%s: generation %" PRIu64
                        " starts on device %s/%" PRIu32 ", which has a process",
                        job->name, job->run, h->name, job->devices[i]);
        }
        h->device_users[job->devices[i]] = user_of(job) | 1;
    }
    agent_status(world, host, job);
    again(world, host, job);
}

static void exit_all(struct world *world, uint32_t host, struct sim_job *job)
{
    for (uint32_t i = 0; i < job->n_ranks; i++) {
        end_rank(world, host, job, i, 0);
        if (world_chance(world, 3)) {
            agent_status(world, host, job);
        }
    }
    agent_status(world, host, job);
}

void training_saved(struct world *world,
                    uint32_t host,
                    struct sim_job *job,
                    bool is_good)
{
    job->save = SAVE_NONE;
    if (!training_is_alive(job)) {
        return;
    }
    if (!is_good && world_chance(world, 2)) {
        end_rank(world, host, job, 0, 1); /* it takes that for an error */
        agent_status(world, host, job);
        return;
    }
    if (job->is_asked || job->step >= job->last_step) {
        exit_all(world, host, job);
    }
}

static void save(struct world *world, uint32_t host, struct sim_job *job)
{
    job->save = SAVE_OPENING;
    job->save_step = job->step;
    job->next_save = job->step + 5 + world_random(world, 10);
    agent_reconcile(world, host, job);
}

void training_task(struct world *world, struct task *task)
{
    struct sim_job *job = &world->hosts[task->host].jobs[task->a];

    if (job->run != task->b || !training_is_alive(job)) {
        return;
    }
    again(world, task->host, job);
    if (job->hangs || job->save != SAVE_NONE) {
        agent_reconcile(world, task->host, job);
        return;
    }
    if (!world->is_quiet && world_chance(world, 100)) {
        uint32_t rank = (uint32_t)world_random(world, job->n_ranks);

        end_rank(world, task->host, job, rank, 1);
        agent_status(world, task->host, job);
        return;
    }
    job->step++;
    if (job->step == job->save_step && job->step > job->loaded_step) {
        job->step++; /* a step is saved once */
    }
    if (job->is_asked || job->step >= job->last_step ||
        job->step >= job->next_save) {
        if (job->is_asked && world_chance(world, 5)) {
            exit_all(world, task->host, job); /* without a save */
        } else {
            save(world, task->host, job);
        }
    }
}
