/* The state machines, as tables: a state, its name, the states that may follow.
 * ARCHITECTURE.md draws them.  Every move passes here: it is checked, told as an
 * Event, and makes the record dirty. */
#include "coordinator/core/impl.h"

enum { MAX_STATES = 11 };

struct state {
    const char *name;
    unsigned next; /* a bit for each state */
};

struct machine {
    const char *name;
    struct state states[MAX_STATES];
};

#define TO(state) (1u << (state))
/* What can happen to a job that is not over. */
#define JOB_ANY                                                                \
    (TO(JOB_FAILED) | TO(JOB_LOST) | TO(JOB_REMOVING) | TO(JOB_WAITING) |      \
     TO(JOB_MOVING))

static const struct machine machines[] = {
    {"job",
     {[0] = {"new", TO(JOB_WAITING) | TO(JOB_IMPORTING)},
      [JOB_IMPORTING] = {"importing", JOB_ANY | TO(JOB_STARTING)},
      [JOB_WAITING] = {"waiting",
                       JOB_ANY | TO(JOB_STARTING) | TO(JOB_IMPORTING)},
      /* Running again in one step with having drained: all ranks were seen to
       * run at once. */
      [JOB_STARTING] = {"starting", JOB_ANY | TO(JOB_RUNNING) |
                                        TO(JOB_DRAINING) | TO(JOB_DONE)},
      [JOB_RUNNING] = {"running", JOB_ANY | TO(JOB_DRAINING) |
                                      TO(JOB_STARTING) | TO(JOB_DONE)},
      [JOB_DRAINING] = {"draining", JOB_ANY | TO(JOB_STARTING)},
      [JOB_MOVING] = {"moving", JOB_ANY | TO(JOB_STARTING)},
      /* A rollback, or a rescale, begins anew. */
      [JOB_DONE] = {"done", JOB_ANY | TO(JOB_STARTING)},
      [JOB_FAILED] = {"failed", JOB_ANY | TO(JOB_STARTING)},
      /* Its bytes are there again. */
      [JOB_LOST] = {"lost", TO(JOB_REMOVING) | TO(JOB_WAITING) |
                                TO(JOB_STARTING) | TO(JOB_MOVING)},
      [JOB_REMOVING] = {"removing", 0}}},
    {"generation",
     {[0] = {"none", TO(GENERATION_PREPARING)},
      [GENERATION_PREPARING] = {"preparing",
                                TO(GENERATION_READY) | TO(GENERATION_REVOKED)},
      [GENERATION_READY] = {"ready", TO(GENERATION_RUNNING) |
                                         TO(GENERATION_DRAINING) |
                                         TO(GENERATION_REVOKED)},
      [GENERATION_RUNNING] = {"running", TO(GENERATION_DRAINING) |
                                             TO(GENERATION_ENDED) |
                                             TO(GENERATION_REVOKED)},
      [GENERATION_DRAINING] = {"draining",
                               TO(GENERATION_ENDED) | TO(GENERATION_REVOKED)},
      [GENERATION_ENDED] = {"ended", 0},
      [GENERATION_REVOKED] = {"revoked", 0}}},
    {"attempt",
     {[0] = {"none", TO(ATTEMPT_OPEN)},
      [ATTEMPT_OPEN] = {"open", TO(ATTEMPT_COMMITTED) | TO(ATTEMPT_ABORTED)},
      /* Aborted only when its bytes are lost, or with their store. */
      [ATTEMPT_COMMITTED] = {"committed",
                             TO(ATTEMPT_READY) | TO(ATTEMPT_ABORTED)},
      [ATTEMPT_READY] = {"ready", 0},
      [ATTEMPT_ABORTED] = {"aborted", 0}}},
    {"host",
     {[0] = {"new", TO(HOST_UP)},
      [HOST_UP] = {"up", TO(HOST_LOST)},
      [HOST_LOST] = {"lost", TO(HOST_UP)}}},
    {"device",
     {[0] = {"new", TO(DEVICE_READY)},
      [DEVICE_READY] = {"ready", TO(DEVICE_DRAINED) | TO(DEVICE_FAILED)},
      [DEVICE_DRAINED] = {"drained", TO(DEVICE_READY) | TO(DEVICE_FAILED)},
      [DEVICE_FAILED] = {"failed", TO(DEVICE_READY)},
      [DEVICE_LOST] = {"lost", 0}}},
};

static const struct machine *machine_of(const char *name)
{
    for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
        if (strcmp(machines[i].name, name) == 0) {
            return &machines[i];
        }
    }
    return NULL;
}

const char *coord_state_name(const char *machine, int state)
{
    const struct machine *table = machine_of(machine);

    if (table == NULL || state < 0 || state >= MAX_STATES) {
        return NULL;
    }
    return table->states[state].name;
}

bool coord_may_move(const char *machine, int from, int to)
{
    const struct machine *table = machine_of(machine);

    return coord_state_name(machine, from) != NULL &&
           coord_state_name(machine, to) != NULL && to > 0 &&
           (table->states[from].next & TO(to)) != 0;
}

/* Is the move allowed?  One that is not is our bug. */
static bool check(struct coord *coord, const char *machine, int from, int to)
{
    if (!coord_may_move(machine, from, to)) {
        coord_is_bug(coord,
                     coord_textf_out(coord, "no move of a %s from %s to %s",
                                     machine, coord_state_name(machine, from),
                                     coord_state_name(machine, to)));
        return false;
    }
    return true;
}

void coord_tell(struct coord *coord,
                const struct coord_about *about,
                const char *fmt,
                ...)
{
    Retile__V1__Event *event =
        base_arena_alloc(coord->actions->arena, 1, sizeof(*event));
    char text[BASE_ERR_TEXT_BYTES];
    va_list args;

    if (event == NULL ||
        !base_vec_push(&coord->actions->events, &event->base)) {
        coord_no_mem(coord);
        return;
    }
    va_start(args, fmt);
    coord_vline(text, sizeof(text), fmt, args);
    va_end(args);
    retile__v1__event__init(event);
    event->revision = ++coord->revision;
    event->time_ns = coord->now.wall_ns;
    event->kind = (Retile__V1__EventKind)about->kind;
    event->text = coord_textf_out(coord, "%s", text);
    if (about->job != NULL) {
        event->job = coord_textf_out(coord, "%s", about->job->rec->job->name);
    }
    event->device = -1;
    if (about->host != NULL) {
        event->host = coord_textf_out(coord, "%s", about->host);
        event->device = about->device;
    }
    event->generation = about->generation;
    event->version = about->version;
    event->step = about->step;
}

void job_move(struct coord *coord,
              struct coord_job *job,
              int to,
              const char *reason)
{
    Retile__V1__Job *rec = job->rec->job;

    if ((int)rec->state == to && strcmp(rec->reason, reason) == 0) {
        return;
    }
    if ((int)rec->state != to) {
        if (!check(coord, "job", (int)rec->state, to)) {
            return;
        }
        rec->state = (Retile__V1__JobState)to;
    }
    coord_text(coord, &rec->reason, "%s", reason);
    coord_tell(coord,
               &(struct coord_about){
                   .kind = EVENT_JOB,
                   .job = job,
                   .host = job->host != NULL ? job->host->rec->name : NULL,
                   .device = -1,
                   .version = rec->version},
               "%s%s%s", coord_state_name("job", to),
               reason[0] != '\0' ? ": " : "", reason);
    job_touch(coord, job);
}

void generation_move(struct coord *coord,
                     struct coord_job *job,
                     int to,
                     const char *reason)
{
    Retile__V1__Generation *generation = job->rec->job->generation;

    if (!check(coord, "generation", (int)generation->state, to)) {
        return;
    }
    generation->state = (Retile__V1__GenerationState)to;
    if (to == GENERATION_READY) {
        generation->ready_ns = coord->now.wall_ns;
    } else if (to == GENERATION_RUNNING) {
        generation->running_ns = coord->now.wall_ns;
    } else if (to == GENERATION_ENDED || to == GENERATION_REVOKED) {
        generation->ended_ns = coord->now.wall_ns;
    }
    if (reason[0] != '\0') {
        coord_text(coord, &generation->reason, "%s", reason);
    }
    coord_tell(coord,
               &(struct coord_about){.kind = EVENT_GENERATION,
                                     .job = job,
                                     .host = job->rec->job->host,
                                     .device = -1,
                                     .generation = generation->number,
                                     .version = generation->load,
                                     .step = generation->last_step},
               "generation %" PRIu64 " %s%s%s", generation->number,
               coord_state_name("generation", to),
               reason[0] != '\0' ? ": " : "", reason);
    job_touch(coord, job);
}

void attempt_move(struct coord *coord,
                  struct coord_job *job,
                  int to,
                  const char *reason)
{
    static const char *const kinds[] = {"",       "save",     "rescale",
                                        "import", "rollback", "copy"};
    Retile__V1__Attempt *attempt = job->rec->job->attempt;

    if (!check(coord, "attempt", (int)attempt->state, to)) {
        return;
    }
    attempt->state = (Retile__V1__AttemptState)to;
    if (to == ATTEMPT_OPEN) {
        attempt->opened_ns = coord->now.wall_ns;
    } else if (to == ATTEMPT_COMMITTED) {
        attempt->voted_ns = coord->now.wall_ns;
        attempt->committed_ns = coord->now.wall_ns;
    } else if (to == ATTEMPT_READY) {
        attempt->ready_ns = coord->now.wall_ns;
    }
    coord_tell(coord,
               &(struct coord_about){.kind = EVENT_ATTEMPT,
                                     .job = job,
                                     .host = job->rec->job->host,
                                     .device = -1,
                                     .generation = attempt->generation,
                                     .version = attempt->number,
                                     .step = attempt->step},
               "%s %" PRIu64 " %s%s%s", kinds[attempt->kind], attempt->number,
               coord_state_name("attempt", to), reason[0] != '\0' ? ": " : "",
               reason);
    job_touch(coord, job);
}

void host_move(struct coord *coord,
               struct coord_host *host,
               int to,
               const char *reason)
{
    if (!check(coord, "host", (int)host->rec->state, to)) {
        return;
    }
    host->rec->state = (Retile__V1__HostState)to;
    coord_tell(coord,
               &(struct coord_about){
                   .kind = EVENT_HOST, .host = host->rec->name, .device = -1},
               "%s%s%s", coord_state_name("host", to),
               reason[0] != '\0' ? ": " : "", reason);
    host_dirty(coord, host);
}

void device_move(struct coord *coord,
                 struct coord_host *host,
                 uint32_t index,
                 int to,
                 const char *reason)
{
    Retile__V1__Device *device = host->rec->devices[index];

    if ((int)device->state != to) {
        if (!check(coord, "device", (int)device->state, to)) {
            return;
        }
        device->state = (Retile__V1__DeviceState)to;
    }
    coord_text(coord, &device->reason, "%s", reason);
    coord_tell(coord,
               &(struct coord_about){.kind = EVENT_DEVICE,
                                     .job = place_user(host, index),
                                     .host = host->rec->name,
                                     .device = (int)index},
               "%s%s%s", coord_state_name("device", to),
               reason[0] != '\0' ? ": " : "", reason);
    host_dirty(coord, host);
}
