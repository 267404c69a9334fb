/* Tasks in the order of their time; random numbers; the digest of a run. */
#include "tests/sim/world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"

#define MS         INT64_C(1000000)
#define SEC        (1000 * MS)
#define TASK_LIMIT UINT64_C(2000000) /* more: it does not settle */

uint64_t world_random(struct world *world, uint64_t n)
{
    return base_random_next(&world->random) % n;
}

bool world_chance(struct world *world, uint64_t one_in)
{
    return world_random(world, one_in) == 0;
}

int64_t world_soon(struct world *world, int64_t ms)
{
    return (int64_t)(1 + world_random(world, (uint64_t)(ms * 1000))) * 1000;
}

int64_t world_soon_us(struct world *world, uint64_t us)
{
    return (int64_t)(1 + world_random(world, us)) * 1000;
}

static bool is_before(const struct task *a, const struct task *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

void world_at(struct world *world, int64_t in_ns, struct task task)
{
    struct task *heap;
    size_t at = world->tasks.n;

    task.at_ns = world->now_ns + in_ns;
    task.order = ++world->n_tasks;
    if (!base_vec_push(&world->tasks, task)) {
        abort();
    }
    heap = world->tasks.items;
    while (at > 0 && is_before(&task, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = task;
}

static struct task take(struct world *world)
{
    struct task *heap = world->tasks.items;
    struct task first = heap[0];
    struct task last = heap[--world->tasks.n];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < world->tasks.n &&
            is_before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (child >= world->tasks.n || !is_before(&heap[child], &last)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    if (world->tasks.n > 0) {
        heap[at] = last;
    }
    return first;
}

void task_pack(struct task *task, const void *message)
{
    task->n_bytes = protobuf_c_message_get_packed_size(message);
    task->bytes = malloc(task->n_bytes + 1);
    if (task->bytes == NULL) {
        abort();
    }
    (void)protobuf_c_message_pack(message, task->bytes);
}

void world_fault(struct world *world, const char *fmt, ...)
{
    va_list args;

    if (world->fault[0] == '\0') {
        va_start(args, fmt);
        (void)vsnprintf(world->fault, sizeof(world->fault), fmt, args);
        va_end(args);
    }
}

void world_trace(struct world *world, const void *bytes, size_t n)
{
    struct base_digest digest = base_digest_of(bytes, n);
    uint64_t words[2];

    memcpy(words, digest.bytes, sizeof(words));
    world->trace[0] = (world->trace[0] ^ words[0]) * UINT64_C(0x100000001b3);
    world->trace[1] += words[1] ^ world->trace[0];
}

void world_say(struct world *world, const char *fmt, ...)
{
    va_list args;

    if (world->is_verbose) {
        printf("%9.3f ", (double)world->now_ns / 1e9);
        va_start(args, fmt);
        (void)vprintf(fmt, args);
        va_end(args);
        (void)putchar('\n');
    }
}

void world_init(struct world *world,
                uint64_t seed,
                uint32_t n_hosts,
                uint32_t n_jobs)
{
    memset(world, 0, sizeof(*world));
    world->seed = seed;
    world->random = seed;
    world->n_hosts = n_hosts;
    world->n_jobs = n_jobs;
    world->n_host_jobs = n_hosts < 1000 ? MAX_HOST_JOBS : MAX_HOST_JOBS / 4;
    world->checks_in = n_hosts < 1000 ? 1 : 1009;
    coord_limits_init(&world->limits);
    world->limits.make_wait_ms = 20000;
    world->limits.start_wait_ms = 20000;
    world->limits.max_requests = 512 + 16 * n_jobs;
    world->limits.history = 4;
    world->limits.backoff_ms = 200;
    world->limits.max_backoff_ms = 2000;
    world->now_ns = SEC;
    world->hosts = calloc(n_hosts, sizeof(*world->hosts));
    if (world->hosts == NULL ||
        coord_actions_init(&world->actions, NULL) != BASE_OK) {
        abort();
    }
    for (uint32_t i = 0; i < n_hosts; i++) {
        struct sim_host *host = &world->hosts[i];

        (void)snprintf(host->name, sizeof(host->name), "h%05" PRIu32, i);
        host->store = 1 + i;
        host->jobs = calloc(world->n_host_jobs, sizeof(*host->jobs));
        if (host->jobs == NULL) {
            abort();
        }
        host->n_slots = 2 + (uint32_t)world_random(world, MAX_SLOTS - 1);
        agent_start(world, i);
    }
    coordinator_start(world);
    world_at(world, world_soon(world, 2000),
             (struct task){.kind = TASK_CLIENT});
    world_at(world, world_soon(world, 5000), (struct task){.kind = TASK_CHAOS});
}

void world_done(struct world *world)
{
    coordinator_stop(world);
    coord_actions_done(&world->actions);
    for (uint32_t i = 0; i < world->n_hosts; i++) {
        for (uint32_t k = 0; k < world->n_host_jobs; k++) {
            if (world->hosts[i].jobs[k].target != NULL) {
                retile__v1__job_target__free_unpacked(
                    world->hosts[i].jobs[k].target, NULL);
            }
        }
    }
    for (uint32_t i = 0; i < world->n_hosts; i++) {
        free(world->hosts[i].jobs);
    }
    for (size_t i = 0; i < world->tasks.n; i++) {
        free(world->tasks.items[i].bytes);
    }
    records_done(world->records.items, world->records.n);
    records_done(world->snapshot.items, world->snapshot.n);
    for (size_t i = 0; i < world->calls.n; i++) {
        free(world->calls.items[i].bytes);
    }
    base_vec_done(&world->tasks);
    base_vec_done(&world->records);
    base_vec_done(&world->snapshot);
    base_vec_done(&world->sessions);
    base_vec_done(&world->tickets);
    base_vec_done(&world->calls);
    base_vec_done(&world->decisions);
    free(world->hosts);
}

static void run_task(struct world *world, struct task *task)
{
    switch (task->kind) {
    case TASK_TO_COORD:
    case TASK_COORD_CLOSED:
    case TASK_COORD_TICK:
    case TASK_COORD_COMMIT:
    case TASK_COORD_START:
        coordinator_task(world, task);
        break;
    case TASK_TO_AGENT:
    case TASK_AGENT_CLOSED:
    case TASK_CONNECT:
    case TASK_RENEW:
    case TASK_AGENT_START:
    case TASK_WORK:
        agent_task(world, task);
        break;
    case TASK_CALL:
    case TASK_REPLY:
    case TASK_RETRY:
        call_task(world, task);
        break;
    case TASK_TRAIN:
        training_task(world, task);
        break;
    case TASK_CLIENT:
        client_task(world);
        break;
    case TASK_CHAOS:
        chaos_task(world);
        break;
    }
}

bool world_run(struct world *world)
{
    int64_t faults_until = 60 * SEC;
    int64_t next_look = faults_until;
    char why[256] = "";

    while (world->fault[0] == '\0' && world->tasks.n > 0) {
        struct task task = take(world);

        world->now_ns = task.at_ns;
        run_task(world, &task);
        free(task.bytes);
        if (!world->is_quiet && world->now_ns > faults_until) {
            world->is_quiet = true;
            world_say(world, "--- no more faults");
            world_heal(world);
        }
        if (world->is_quiet && world->now_ns > next_look) {
            next_look = world->now_ns + 5 * SEC;
            if (oracle_is_settled(world, why, sizeof(why))) {
                break;
            }
            if (world->now_ns < faults_until + 60 * SEC) {
                world_heal(world); /* calls that were late have broken more */
            }
            if (world->now_ns > faults_until + 1200 * SEC) {
                world_fault(world, "it does not settle: %s", why);
            }
        }
        if (world->n_tasks > TASK_LIMIT * (1 + world->n_hosts / 50)) {
            world_fault(world, "too many tasks");
        }
    }
    return world->fault[0] == '\0';
}
