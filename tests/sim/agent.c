/* A host's agent: hears what is wanted (targets), says what is (statuses), and may
 * die meanwhile.  What it does is in agent_work.c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/world.h"

#define MS INT64_C(1000000)
/* What it says. */

static void to_coord(struct world *world, uint64_t at, const void *message)
{
    struct sim_session *session = &world->sessions.items[at];
    struct task task = {.kind = TASK_TO_COORD, .a = at};

    task_pack(&task, message);
    session->to_coord_ns =
        (session->to_coord_ns > world->now_ns ? session->to_coord_ns
                                              : world->now_ns) +
        world_soon(world, 2);
    world_at(world, session->to_coord_ns - world->now_ns, task);
}

/* A status and all that it points to. */
struct status {
    Retile__V1__JobStatus status;
    Retile__V1__StatusGeneration generation;
    Retile__V1__StatusAttempt attempt;
    Retile__V1__StatusPlan plan;
    Retile__V1__PlanSummary summary;
    Retile__V1__RankStatus ranks[MAX_SLOTS], *rank_list[MAX_SLOTS];
    Retile__V1__Version versions[MAX_LOCAL_VERSIONS],
        *version_list[MAX_LOCAL_VERSIONS];
};

/* Of @tp ranks; never changed. */
static char *layout_of(uint32_t tp)
{
    static char layouts[MAX_SLOTS + 1][80];

    (void)snprintf(layouts[tp], sizeof(layouts[tp]),
                   "mesh: {tp: %" PRIu32 "}\nrules:\n  - {match: '*', "
                   "dims: [tp]}\n",
                   tp);
    return layouts[tp];
}

static char *mesh_of(uint32_t tp)
{
    static char meshes[MAX_SLOTS + 1][16];

    (void)snprintf(meshes[tp], sizeof(meshes[tp]), "tp=%" PRIu32, tp);
    return meshes[tp];
}

Retile__V1__Version agent_version(const struct sim_version *from)
{
    Retile__V1__Version version = RETILE__V1__VERSION__INIT;

    version.number = from->number;
    version.has_step = true;
    version.step = from->step;
    version.n_bytes = 1000 + from->step;
    version.layout = layout_of(from->tp);
    version.mesh = mesh_of(from->tp);
    return version;
}

static void fill_generation(struct status *to, const struct sim_job *job)
{
    bool is_alive = training_is_alive(job);
    /* The newest that is shown or has processes. */
    uint64_t number =
        is_alive && job->run >= job->shown ? job->run : job->shown;

    if (number == 0 && is_alive) {
        number = job->run;
    }
    if (number == 0) {
        return;
    }
    to->status.generation = &to->generation;
    to->generation.number = number;
    to->generation.is_prepared = job->shown == number;
    to->generation.master_port = 20000 + (uint32_t)(number % 1000);
    to->generation.is_clear = !is_alive;
    to->generation.ranks = to->rank_list;
    for (uint32_t i = 0; i < job->n_ranks && job->run == number; i++) {
        if (job->procs[i] == PROC_NONE) {
            continue;
        }
        retile__v1__rank_status__init(&to->ranks[i]);
        to->ranks[i].rank = i;
        to->ranks[i].state = (Retile__V1__RankState)job->procs[i];
        to->ranks[i].exit_code = job->exit_codes[i];
        to->rank_list[to->generation.n_ranks++] = &to->ranks[i];
    }
}

static void fill_status(struct status *to, struct sim_job *job)
{
    memset(to, 0, sizeof(*to));
    retile__v1__job_status__init(&to->status);
    retile__v1__status_generation__init(&to->generation);
    retile__v1__status_attempt__init(&to->attempt);
    retile__v1__status_plan__init(&to->plan);
    retile__v1__plan_summary__init(&to->summary);
    to->status.job = job->name;
    to->status.revision = job->seen_revision;
    to->status.has_launcher = true;
    to->status.highest = job->highest;
    to->status.highest_generation = job->highest_generation;
    if (job->is_gone) {
        to->status.is_gone = true;
        return;
    }
    to->status.versions = to->version_list;
    to->status.n_versions = job->n_versions;
    for (size_t i = 0; i < job->n_versions; i++) {
        to->versions[i] = agent_version(&job->versions[i]);
        to->version_list[i] = &to->versions[i];
    }
    fill_generation(to, job);
    if (job->failed_attempt != 0) {
        to->status.attempt = &to->attempt;
        to->attempt.number = job->failed_attempt;
        to->attempt.is_failed = true;
        to->attempt.reason = "no space";
        to->attempt.may_come_again = job->may_come_again;
    }
    if (job->planned != 0) {
        to->status.plan = &to->plan;
        to->plan.number = job->planned;
        to->plan.layout = layout_of(job->planned_tp);
        to->plan.mesh = mesh_of(job->planned_tp);
        to->plan.summary = &to->summary;
        if (job->planned_tp == 0) {
            to->plan.is_failed = true;
            to->plan.reason = "it cannot be";
        }
    }
}

void agent_status(struct world *world, uint32_t host, struct sim_job *job)
{
    uint64_t session = world->hosts[host].session;
    Retile__V1__FromAgent message;
    static struct status status;

    if (session == 0 || world->hosts[host].is_paused) {
        return;
    }
    fill_status(&status, job);
    retile__v1__from_agent__init(&message);
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_JOB;
    message.job = &status.status;
    to_coord(world, session - 1, &message);
}

static void hello(struct world *world, uint32_t host)
{
    struct sim_host *h = &world->hosts[host];
    static struct status statuses[MAX_HOST_JOBS];
    Retile__V1__JobStatus *jobs[MAX_HOST_JOBS];
    Retile__V1__Device devices[MAX_SLOTS], *device_list[MAX_SLOTS];
    Retile__V1__FromAgent message;
    Retile__V1__Hello say;
    char store[40];

    retile__v1__from_agent__init(&message);
    retile__v1__hello__init(&say);
    (void)snprintf(store, sizeof(store), "%032" PRIu64, h->store);
    say.host = h->name;
    say.store_id = store;
    say.address = h->name;
    say.jobs = jobs;
    say.devices = device_list;
    for (uint32_t i = 0; i < h->n_slots; i++) {
        retile__v1__device__init(&devices[i]);
        devices[i].index = i;
        devices[i].state =
            h->broken[i] ? RETILE__V1__DEVICE_STATE__DEVICE_FAILED
                         : RETILE__V1__DEVICE_STATE__DEVICE_STATE_UNSPECIFIED;
        devices[i].reason = h->broken[i] ? "broken" : "";
        device_list[say.n_devices++] = &devices[i];
    }
    for (uint32_t i = 0; i < world->n_host_jobs; i++) {
        if (h->jobs[i].is_used && !h->jobs[i].is_gone) {
            fill_status(&statuses[i], &h->jobs[i]);
            jobs[say.n_jobs++] = &statuses[i].status;
        }
    }
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_HELLO;
    message.hello = &say;
    to_coord(world, h->session - 1, &message);
}

void agent_device(struct world *world, uint32_t host, uint32_t index, bool bad)
{
    struct sim_host *h = &world->hosts[host];
    Retile__V1__FromAgent message;
    Retile__V1__DeviceReport report;

    h->broken[index] = bad;
    if (h->session == 0) {
        return;
    }
    retile__v1__from_agent__init(&message);
    retile__v1__device_report__init(&report);
    report.index = index;
    report.is_failed = bad;
    report.reason = bad ? "broken" : "";
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_DEVICE;
    message.device = &report;
    to_coord(world, h->session - 1, &message);
}

/* Sessions. */

static void connect(struct world *world, uint32_t host)
{
    struct sim_host *h = &world->hosts[host];
    struct sim_session session = {.host = host, .epoch = h->epoch};

    if (!h->is_up || h->session != 0) {
        return;
    }
    if (world->coord == NULL || h->is_paused) {
        world_at(world, world_soon(world, 500),
                 (struct task){
                     .kind = TASK_CONNECT, .host = host, .epoch = h->epoch});
        return;
    }
    session.is_open_agent = session.is_open_coord = true;
    if (!base_vec_push(&world->sessions, session)) {
        abort();
    }
    h->session = world->sessions.n;
    hello(world, host);
    world_at(world, 5000 * MS,
             (struct task){.kind = TASK_RENEW,
                           .host = host,
                           .epoch = h->epoch,
                           .a = h->session});
}

/* The stream breaks: each end sees it later, what is on its way is lost. */
void agent_break(struct world *world, uint64_t at)
{
    struct sim_session *session = &world->sessions.items[at];

    if (session->is_open_coord) {
        session->is_open_coord = false;
        world_at(world, world_soon(world, 3000),
                 (struct task){.kind = TASK_COORD_CLOSED, .a = at});
    }
    if (session->is_open_agent) {
        world_at(world, world_soon(world, 3000),
                 (struct task){.kind = TASK_AGENT_CLOSED, .a = at});
    }
}

static void renew(struct world *world, const struct task *task)
{
    struct sim_host *h = &world->hosts[task->host];
    Retile__V1__FromAgent message;
    Retile__V1__Renew say;

    if (h->session != task->a) {
        return;
    }
    if (!h->is_paused) {
        retile__v1__from_agent__init(&message);
        retile__v1__renew__init(&say);
        message.what_case = RETILE__V1__FROM_AGENT__WHAT_RENEW;
        message.renew = &say;
        to_coord(world, h->session - 1, &message);
    }
    world_at(world, 5000 * MS, *task);
}

void agent_pause(struct world *world, uint32_t host, bool is_paused)
{
    struct sim_host *h = &world->hosts[host];

    world_say(world, "agent %s %s", h->name,
              is_paused ? "is paused" : "goes on");
    h->is_paused = is_paused;
    for (uint32_t i = 0; i < world->n_host_jobs && !is_paused; i++) {
        if (h->jobs[i].is_used) {
            agent_reconcile(world, host, &h->jobs[i]);
            agent_status(world, host, &h->jobs[i]);
        }
    }
}

void agent_start(struct world *world, uint32_t host)
{
    struct sim_host *h = &world->hosts[host];

    h->is_up = true;
    h->epoch++;
    world_at(
        world, world_soon(world, 1000),
        (struct task){.kind = TASK_CONNECT, .host = host, .epoch = h->epoch});
    for (uint32_t i = 0; i < world->n_host_jobs; i++) {
        if (h->jobs[i].is_used) {
            agent_reconcile(world, host, &h->jobs[i]);
        }
    }
}

static void forget(struct sim_job *job)
{
    if (job->target != NULL) {
        retile__v1__job_target__free_unpacked(job->target, NULL);
        job->target = NULL;
    }
    job->is_killing = job->is_preparing = job->is_making = false;
    job->is_planning = job->is_leaving = job->is_releasing = false;
    job->is_asking = false;
    job->failed_attempt = job->planned = 0;
    job->seen_revision = 0;
}

void agent_die(struct world *world, uint32_t host, int64_t for_ns)
{
    struct sim_host *h = &world->hosts[host];

    if (!h->is_up) {
        return;
    }
    world_say(world, "agent %s dies", h->name);
    h->is_up = false;
    h->is_paused = false;
    h->epoch++;
    if (h->session != 0) {
        world->sessions.items[h->session - 1].is_open_agent = false;
        agent_break(world, h->session - 1);
        h->session = 0;
    }
    for (uint32_t i = 0; i < world->n_host_jobs; i++) {
        forget(&h->jobs[i]);
    }
    world_at(world, for_ns,
             (struct task){.kind = TASK_AGENT_START, .host = host});
}

/* The machine starts again with an empty store. */
void agent_lose_store(struct world *world, uint32_t host)
{
    struct sim_host *h = &world->hosts[host];

    agent_die(world, host, world_soon(world, 3000));
    world_say(world, "host %s loses its store", h->name);
    for (uint32_t i = 0; i < world->n_host_jobs; i++) {
        if (h->jobs[i].is_used) {
            training_kill(world, host, &h->jobs[i]);
            memset(&h->jobs[i], 0, sizeof(h->jobs[i]));
        }
    }
    h->store += 1000000;
}
static struct sim_job *
find_job(struct world *world, struct sim_host *host, const char *name)
{
    struct sim_job *free_one = NULL;

    for (uint32_t i = 0; i < world->n_host_jobs; i++) {
        if (host->jobs[i].is_used && strcmp(host->jobs[i].name, name) == 0) {
            return &host->jobs[i];
        }
        if (!host->jobs[i].is_used && free_one == NULL) {
            free_one = &host->jobs[i];
        }
    }
    if (free_one != NULL) {
        memset(free_one, 0, sizeof(*free_one));
        free_one->is_used = true;
        (void)snprintf(free_one->name, sizeof(free_one->name), "%s", name);
    }
    return free_one;
}

static void
take_target(struct world *world, uint32_t host, Retile__V1__ToAgent *message)
{
    struct sim_job *job =
        find_job(world, &world->hosts[host], message->job->job);

    if (job == NULL) {
        world_fault(world, "host %s has too many jobs",
                    world->hosts[host].name);
        return;
    }
    if (job->target != NULL) {
        retile__v1__job_target__free_unpacked(job->target, NULL);
    }
    job->target = message->job;
    message->what_case = RETILE__V1__TO_AGENT__WHAT__NOT_SET;
    message->job = NULL;
    sim_raise(&job->highest, job->target->highest);
    job->seen_revision = job->target->revision;
    job->is_gone = job->is_gone && job->target->is_gone;
    agent_reconcile(world, host, job);
    agent_status(world, host, job);
}

static void take_message(struct world *world, struct task *task)
{
    struct sim_session *session = &world->sessions.items[task->a];
    struct sim_host *h = &world->hosts[session->host];
    Retile__V1__ToAgent *message;
    struct task later = *task;

    if (!session->is_open_coord || !session->is_open_agent ||
        h->session != task->a + 1) {
        return;
    }
    if (h->is_paused) { /* it lies there, and what comes lies behind it */
        task->bytes = NULL;
        session->to_agent_ns = world->now_ns + 200 * MS;
        world_at(world, 200 * MS, later);
        return;
    }
    message = retile__v1__to_agent__unpack(NULL, task->n_bytes, task->bytes);
    if (message == NULL) {
        abort();
    }
    if (message->what_case == RETILE__V1__TO_AGENT__WHAT_JOB) {
        take_target(world, session->host, message);
    } else if (message->what_case == RETILE__V1__TO_AGENT__WHAT_WELCOME) {
        for (uint32_t i = 0; i < world->n_host_jobs; i++) {
            agent_reconcile(world, session->host, &h->jobs[i]);
        }
    }
    retile__v1__to_agent__free_unpacked(message, NULL);
}
void agent_task(struct world *world, struct task *task)
{
    struct sim_host *h = &world->hosts[task->host];

    switch ((int)task->kind) {
    case TASK_TO_AGENT:
        take_message(world, task);
        break;
    case TASK_AGENT_CLOSED:
        h = &world->hosts[world->sessions.items[task->a].host];
        if (world->sessions.items[task->a].is_open_agent) {
            world->sessions.items[task->a].is_open_agent = false;
            if (world->sessions.items[task->a].is_open_coord) {
                agent_break(world, task->a);
            }
            if (h->session == task->a + 1) {
                h->session = 0;
                world_at(world, world_soon(world, 500),
                         (struct task){.kind = TASK_CONNECT,
                                       .host = (uint32_t)(h - world->hosts),
                                       .epoch = h->epoch});
            }
        }
        break;
    case TASK_CONNECT:
        if (task->epoch == h->epoch) {
            connect(world, task->host);
        }
        break;
    case TASK_RENEW:
        if (task->epoch == h->epoch) {
            renew(world, task);
        }
        break;
    case TASK_AGENT_START:
        if (!h->is_up) {
            agent_start(world, task->host);
        }
        break;
    default:
        if (task->epoch == 0 || task->epoch == h->epoch) {
            agent_do_work(world, task);
        }
        break;
    }
}
