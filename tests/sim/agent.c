/* A host's agent: makes what is wanted (targets) from what is, and says what is
 * (statuses).  What it does takes time, and it may die meanwhile. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/world.h"

#define MS INT64_C(1000000)

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
    char layouts[MAX_SLOTS + 1][80], meshes[MAX_SLOTS + 1][16];
};

static void fill_version(struct status *to,
                         Retile__V1__Version *version,
                         const struct sim_version *from)
{
    retile__v1__version__init(version);
    version->number = from->number;
    version->has_step = true;
    version->step = from->step;
    version->n_bytes = 1000 + from->step;
    version->layout = to->layouts[from->tp];
    version->mesh = to->meshes[from->tp];
}

static void fill_layouts(struct status *to)
{
    for (uint32_t i = 0; i <= MAX_SLOTS; i++) {
        (void)snprintf(to->layouts[i], sizeof(to->layouts[i]),
                       "mesh: {tp: %" PRIu32 "}\nrules:\n  - {match: '*', "
                       "dims: [tp]}\n",
                       i);
        (void)snprintf(to->meshes[i], sizeof(to->meshes[i]), "tp=%" PRIu32, i);
    }
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
    fill_layouts(to);
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
        fill_version(to, &to->versions[i], &job->versions[i]);
        to->version_list[i] = &to->versions[i];
    }
    fill_generation(to, job);
    if (job->failed_attempt != 0) {
        to->status.attempt = &to->attempt;
        to->attempt.number = job->failed_attempt;
        to->attempt.is_failed = true;
        to->attempt.reason = "no space";
    }
    if (job->planned != 0) {
        to->status.plan = &to->plan;
        to->plan.number = job->planned;
        to->plan.layout = to->layouts[job->planned_tp];
        to->plan.mesh = to->meshes[job->planned_tp];
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

/* What it does. */

static void raise(uint64_t *number, uint64_t to)
{
    *number = *number > to ? *number : to;
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
    raise(&job->highest, job->voted.number);
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
    Retile__V1__Version version;
    static struct status layouts;

    fill_layouts(&layouts);
    retile__v1__vote_request__init(&request);
    fill_version(&layouts, &version, &job->voted);
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
    raise(&job->highest_generation, number);
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
        raise(&job->highest, attempt->number);
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
    raise(&job->highest, job->target->highest);
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

static void do_work(struct world *world, const struct task *task)
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
            raise(&job->highest, opened->attempt);
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
            do_work(world, task);
        }
        break;
    }
}
