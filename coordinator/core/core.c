/* The core's functions: load, step, flush. */
#include "coordinator/core/core.h"

#include "coordinator/core/impl.h"

enum { ARENA_BYTES = 1 << 30 };

void coord_limits_init(struct coord_limits *limits)
{
    *limits = (struct coord_limits){
        .max_jobs = 10000,
        .max_hosts = 20000,
        .max_devices = 1024,
        .max_versions = 256,
        .max_requests = 1024,
        .history = 16,
        .lease_ms = 15000,
        .renew_ms = 5000,
        .make_wait_ms = 600000,
        .start_wait_ms = 120000,
        .backoff_ms = 1000,
        .max_backoff_ms = 60000,
    };
}

enum base_code coord_actions_init(struct coord_actions *actions,
                                  struct base_err *err)
{
    *actions = (struct coord_actions){.next_ns = NO_NS};
    actions->arena = base_arena_create(ARENA_BYTES);
    if (actions->arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for actions");
    }
    return BASE_OK;
}

void coord_actions_done(struct coord_actions *actions)
{
    base_vec_done(&actions->records);
    base_vec_done(&actions->events);
    base_vec_done(&actions->replies);
    base_vec_done(&actions->sends);
    base_arena_free(actions->arena);
    actions->arena = NULL;
}

void coord_actions_clear(struct coord_actions *actions)
{
    struct base_arena *arena = base_arena_create(ARENA_BYTES);

    /* Without memory for a new arena the old one goes on; nothing is lost. */
    if (arena != NULL) {
        base_arena_free(actions->arena);
        actions->arena = arena;
    }
    actions->records.n = 0;
    actions->events.n = 0;
    actions->replies.n = 0;
    actions->sends.n = 0;
}

void coord_free(struct coord *coord)
{
    if (coord == NULL) {
        return;
    }
    for (size_t i = 0; i < coord->dirty_jobs.n; i++) {
        if (coord->dirty_jobs.items[i]->is_gone) {
            job_free(coord->dirty_jobs.items[i]);
        }
    }
    for (size_t i = 0; i < coord->dirty_requests.n; i++) {
        if (coord->dirty_requests.items[i]->is_gone) {
            request_free(coord->dirty_requests.items[i]);
        }
    }
    for (size_t i = 0; i < coord->jobs.n; i++) {
        job_free(coord->jobs.items[i]);
    }
    for (size_t i = 0; i < coord->hosts.n; i++) {
        host_free(coord->hosts.items[i]);
    }
    for (size_t i = 0; i < coord->requests.n; i++) {
        request_free(coord->requests.items[i]);
    }
    base_vec_done(&coord->jobs);
    base_vec_done(&coord->hosts);
    base_vec_done(&coord->sessions);
    base_vec_done(&coord->requests);
    base_vec_done(&coord->timers);
    base_vec_done(&coord->woken);
    base_vec_done(&coord->touched);
    base_vec_done(&coord->dirty_jobs);
    base_vec_done(&coord->dirty_hosts);
    base_vec_done(&coord->dirty_requests);
    base_vec_done(&coord->gone_hosts);
    free(coord);
}

enum base_code coord_create(const struct coord_limits *limits,
                            struct coord **ret,
                            struct base_err *err)
{
    struct coord *coord = calloc(1, sizeof(*coord));

    if (coord == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for the core");
    }
    coord->limits = *limits;
    coord->most_free = UINT32_MAX;
    *ret = coord;
    return BASE_OK;
}

/* What follows from what was noted, until nothing does. */
static void settle(struct coord *coord)
{
    /* Each job comes to rest after a few rounds, however many there are. */
    size_t n_left = 1000 * (coord->jobs.n + 10);

    while (coord->failed == BASE_OK &&
           (coord->woken.n > 0 || coord->touched.n > 0)) {
        struct coord_job *job;

        if (n_left-- == 0) {
            coord_is_bug(coord, "a job comes to no rest");
            return;
        }
        if (coord->woken.n > 0) {
            job = coord->woken.items[--coord->woken.n];
            job->is_woken = false;
            if (!job->is_gone) {
                job_advance(coord, job);
            }
            continue;
        }
        job = coord->touched.items[--coord->touched.n];
        job->is_touched = false;
        if (!job->is_gone) {
            target_publish(coord, job, false);
        }
    }
}

static void deadlines(struct coord *coord)
{
    while (coord->timers.n > 0 &&
           coord->timers.items[0]->at_ns <= coord->now.mono_ns) {
        struct coord_timer *timer = coord->timers.items[0];

        if (timer->is_host) {
            host_due(coord, timer->owner);
        } else {
            job_due(coord, timer->owner);
        }
    }
}

static enum base_code result(const struct coord *coord, struct base_err *err)
{
    if (coord->failed == BASE_OK) {
        return BASE_OK;
    }
    return base_fail(err, coord->failed, "%s%s",
                     coord->failed == BASE_CHANGED
                         ? "a move that no table has: "
                         : "no memory for a step",
                     coord->failed == BASE_CHANGED ? coord->bug : "");
}

static void begin_job(struct coord *coord, struct coord_job *job)
{
    const Retile__V1__Job *rec = job->rec->job;
    const Retile__V1__Generation *generation = generation_current(job);
    int64_t now = coord->now.mono_ns;

    job->end_revision = job->rec->revision;
    if (job->rec->revision > coord->revision) {
        coord->revision = job->rec->revision;
    }
    if (generation != NULL && generation->state == GENERATION_PREPARING) {
        job->start_ns = now + (int64_t)coord->limits.start_wait_ms * NS_PER_MS;
    } else if (generation != NULL && generation->state == GENERATION_DRAINING &&
               rec->change != NULL) {
        job->drain_ns =
            now + (int64_t)rec->change->deadline_s * 1000 * NS_PER_MS;
    }
    if (rec->attempt != NULL &&
        (rec->attempt->kind == ATTEMPT_SAVE) ==
            (rec->attempt->state == ATTEMPT_COMMITTED)) {
        attempt_wait(coord, job);
    }
    job_touch(coord, job);
}

enum base_code coord_begin(struct coord *coord,
                           uint64_t revision,
                           struct coord_time now,
                           struct coord_actions *actions,
                           struct base_err *err)
{
    coord->actions = actions;
    coord->now = now;
    coord->revision = revision > coord->revision ? revision : coord->revision;
    for (size_t i = 0; i < coord->requests.n; i++) {
        uint64_t order = coord->requests.items[i]->rec->order;

        coord->revision = order > coord->revision ? order : coord->revision;
    }
    for (size_t i = 0; i < coord->jobs.n; i++) {
        struct coord_job *job = coord->jobs.items[i];

        job_set_host(coord, job, host_find(coord, job->rec->job->host));
        if (coord->failed != BASE_OK) {
            return result(coord, err);
        }
        if (job->host == NULL && job->rec->job->host[0] != '\0' &&
            generation_current(job) != NULL) {
            return base_fail(err, BASE_BAD_INPUT,
                             "job %s: no record of host %s",
                             job->rec->job->name, job->rec->job->host);
        }
        begin_job(coord, job);
    }
    if (coord->failed == BASE_OK && !coord_invariant(coord, err)) {
        return BASE_BAD_INPUT;
    }
    for (size_t i = 0; i < coord->hosts.n; i++) {
        struct coord_host *host = coord->hosts.items[i];

        if ((int)host->rec->state == HOST_UP) {
            coord_timer_set(coord, &host->lease,
                            now.mono_ns +
                                (int64_t)coord->limits.lease_ms * NS_PER_MS);
        }
    }
    settle(coord);
    actions->next_ns = coord_timer_next(coord);
    coord->actions = NULL;
    return result(coord, err);
}

enum base_code coord_step(struct coord *coord,
                          const struct coord_event *event,
                          struct coord_actions *actions,
                          struct base_err *err)
{
    coord->actions = actions;
    coord->now = event->now;
    switch (event->kind) {
    case COORD_CALL:
        call_step(coord, event);
        break;
    case COORD_SESSION_OPEN:
        session_open(coord, event->session,
                     (const Retile__V1__FromAgent *)event->message);
        break;
    case COORD_SESSION_SAYS:
        session_says(coord, event->session,
                     (const Retile__V1__FromAgent *)event->message);
        break;
    case COORD_SESSION_CLOSED:
        session_closed(coord, event->session);
        break;
    case COORD_TICK:
        deadlines(coord);
        break;
    }
    settle(coord);
    actions->next_ns = coord_timer_next(coord);
    coord->actions = NULL;
    return result(coord, err);
}

static void put(struct coord *coord, struct coord_record record)
{
    if (!base_vec_push(&coord->actions->records, record)) {
        coord_no_mem(coord);
    }
}

static struct base_str text_out(struct coord *coord, const char *text)
{
    struct base_str copy =
        base_arena_str(coord->actions->arena, base_str_of(text));

    if (copy.ptr == NULL) {
        coord_no_mem(coord);
    }
    return copy;
}

/* What is gone comes before what is there: a name may be both. */
static void flush_gone(struct coord *coord)
{
    for (size_t i = 0; i < coord->dirty_jobs.n; i++) {
        struct coord_job *job = coord->dirty_jobs.items[i];

        if (job->is_gone) {
            put(coord, (struct coord_record){
                           .kind = COORD_JOB,
                           .id = text_out(coord, job->rec->job->name)});
            coord->n_bytes -= job->n_bytes;
            job_free(job);
            coord->dirty_jobs.items[i] = NULL;
        }
    }
    for (size_t i = 0; i < coord->gone_hosts.n; i++) {
        put(coord, (struct coord_record){
                       .kind = COORD_HOST,
                       .id = text_out(coord, coord->gone_hosts.items[i].name)});
    }
    for (size_t i = 0; i < coord->dirty_requests.n; i++) {
        struct coord_request *request = coord->dirty_requests.items[i];

        if (request->is_gone) {
            put(coord,
                (struct coord_record){.kind = COORD_REQUEST,
                                      .id = text_out(coord, request->id)});
            request_free(request);
            coord->dirty_requests.items[i] = NULL;
        }
    }
    coord->gone_hosts.n = 0;
}

static void flush_there(struct coord *coord)
{
    for (size_t i = 0; i < coord->dirty_jobs.n; i++) {
        struct coord_job *job = coord->dirty_jobs.items[i];

        if (job != NULL) {
            struct base_str body = coord_pack_out(coord, job->rec);

            job->is_dirty = false;
            coord->n_bytes = coord->n_bytes - job->n_bytes + body.len;
            job->n_bytes = body.len;
            put(coord, (struct coord_record){
                           .kind = COORD_JOB,
                           .id = text_out(coord, job->rec->job->name),
                           .body = body});
        }
    }
    for (size_t i = 0; i < coord->dirty_hosts.n; i++) {
        struct coord_host *host = coord->dirty_hosts.items[i];
        Retile__Coordinator__HostRecord rec;

        host->is_dirty = false;
        retile__coordinator__host_record__init(&rec);
        rec.host = host->rec;
        put(coord, (struct coord_record){.kind = COORD_HOST,
                                         .id = text_out(coord, host->rec->name),
                                         .body = coord_pack_out(coord, &rec)});
    }
    for (size_t i = 0; i < coord->dirty_requests.n; i++) {
        struct coord_request *request = coord->dirty_requests.items[i];

        if (request != NULL) {
            request->is_dirty = false;
            put(coord, (struct coord_record){
                           .kind = COORD_REQUEST,
                           .id = text_out(coord, request->id),
                           .body = coord_pack_out(coord, request->rec)});
        }
    }
    coord->dirty_jobs.n = 0;
    coord->dirty_hosts.n = 0;
    coord->dirty_requests.n = 0;
}

enum base_code coord_flush(struct coord *coord,
                           struct coord_actions *actions,
                           struct base_err *err)
{
    coord->actions = actions;
    flush_gone(coord);
    flush_there(coord);
    coord->actions = NULL;
    return result(coord, err);
}
