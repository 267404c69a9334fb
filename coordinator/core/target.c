/* What is wanted of a job on its host: a pure function of its record.  It is
 * sent when it is another than before, and on each new session. */
#include "coordinator/core/impl.h"

static void
send(struct coord *coord, uint64_t session, Retile__V1__JobTarget *target)
{
    Retile__V1__ToAgent message;

    retile__v1__to_agent__init(&message);
    message.what_case = RETILE__V1__TO_AGENT__WHAT_JOB;
    message.job = target;
    if (!base_vec_push(&coord->actions->sends,
                       ((struct coord_send){
                           .session = session,
                           .message = coord_copy_out(coord, &message)}))) {
        coord_no_mem(coord);
    }
}

/* The newest pair of @n things of @size is in the arena; failing is sticky. */
static void *room(struct coord *coord, size_t n, size_t size)
{
    void *items = base_arena_alloc(coord->actions->arena, n > 0 ? n : 1, size);

    if (items == NULL) {
        coord_no_mem(coord);
    }
    return items;
}

static bool set_versions(struct coord *coord,
                         const struct coord_job *job,
                         Retile__V1__JobTarget *target)
{
    const Retile__V1__Job *rec = job->rec->job;
    Retile__V1__TargetPin *pins = room(coord, rec->n_versions, sizeof(*pins));

    target->keep = room(coord, rec->n_versions + 1, sizeof(*target->keep));
    target->pins =
        room(coord, rec->n_versions, sizeof(Retile__V1__TargetPin *));
    if (pins == NULL || target->keep == NULL || target->pins == NULL) {
        return false;
    }
    for (size_t i = 0; i < rec->n_versions; i++) {
        Retile__V1__Version *version = rec->versions[i];

        if (version_is_released(job, version->number)) {
            continue;
        }
        target->keep[target->n_keep++] = version->number;
        if (version->pinned[0] != '\0') {
            Retile__V1__TargetPin *pin = &pins[target->n_pins];

            retile__v1__target_pin__init(pin);
            pin->version = version->number;
            pin->why = version->pinned;
            target->pins[target->n_pins++] = pin;
        }
    }
    if (rec->attempt != NULL) {
        target->keep[target->n_keep++] = rec->attempt->number;
    }
    return true;
}

static Retile__V1__TargetGeneration *set_generation(struct coord *coord,
                                                    const struct coord_job *job)
{
    const Retile__V1__Generation *generation = generation_current(job);
    Retile__V1__TargetGeneration *target = room(coord, 1, sizeof(*target));

    if (target == NULL) {
        return NULL;
    }
    retile__v1__target_generation__init(target);
    target->number = generation->number;
    target->load = generation->load;
    target->mesh = generation->mesh;
    target->state = generation->state;
    target->world_size = (uint32_t)generation->n_placements;
    target->master_addr = job->rec->master_addr;
    target->master_port = job->rec->master_port;
    target->placements = generation->placements;
    target->n_placements = generation->n_placements;
    target->request = job->rec->request;
    target->next_step = generation_next_step(job);
    return target;
}

static Retile__V1__TargetPlan *set_plan(struct coord *coord,
                                        const struct coord_job *job)
{
    Retile__V1__TargetPlan *target = room(coord, 1, sizeof(*target));

    if (target == NULL) {
        return NULL;
    }
    retile__v1__target_plan__init(target);
    target->number = job->plan->number;
    target->to = job->plan->to;
    return target;
}

void target_publish(struct coord *coord, struct coord_job *job, bool is_again)
{
    Retile__Coordinator__JobRecord *rec = job->rec;
    Retile__V1__JobTarget target;
    struct base_str packed;
    struct base_digest digest;
    uint64_t session = job->host != NULL ? job->host->session : 0;

    retile__v1__job_target__init(&target);
    target.job = rec->job->name;
    target.state = rec->job->state;
    target.reason = rec->job->reason;
    /* Of a job whose versions are lost nothing is given up: they may be back. */
    target.highest = rec->job->state != JOB_LOST ? rec->highest : 0;
    if (rec->job->state == JOB_REMOVING) {
        target.is_gone = true;
    } else {
        target.layout =
            rec->job->n_versions == 0 ? rec->job->layout : target.layout;
        if (!set_versions(coord, job, &target)) {
            return;
        }
        if (generation_current(job) != NULL) {
            target.generation = set_generation(coord, job);
        }
        if (rec->making != NULL && rec->making->number != 0) {
            target.attempt = rec->making;
        }
        if (job->plan != NULL) {
            target.plan = set_plan(coord, job);
        }
    }
    packed = coord_pack_out(coord, &target);
    if (packed.ptr == NULL) {
        return;
    }
    digest = base_digest_of(packed.ptr, packed.len);
    if (!job->is_told || !base_digest_eq(digest, job->told)) {
        job->told = digest;
        job->is_told = true;
        rec->revision = ++coord->revision;
        is_again = true;
        if (!job->is_dirty) {
            job_touch(coord, job);
        }
    }
    if (job->is_ended) {
        job->end_revision = rec->revision;
        job->is_ended = false;
    }
    target.revision = rec->revision;
    if (is_again && session != 0) {
        send(coord, session, &target);
    }
}

void target_stranger(struct coord *coord,
                     struct coord_host *host,
                     const char *name)
{
    Retile__V1__JobTarget target;

    retile__v1__job_target__init(&target);
    target.job = coord_textf_out(coord, "%s", name);
    target.state = RETILE__V1__JOB_STATE__JOB_LOST;
    target.reason = coord_textf_out(
        coord, "the coordinator knows no such job on this host");
    target.revision = ++coord->revision;
    send(coord, host->session, &target);
}
