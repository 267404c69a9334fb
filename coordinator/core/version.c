/* Versions: which there are, which are kept, and the calls about them.
 *
 * What need not be kept is put into JobRecord.released, and never comes out: a
 * host may have removed it.  It is gone from the list when its host says so. */
#include <stdio.h>

#include "coordinator/core/impl.h"

Retile__V1__Version *version_find(const struct coord_job *job, uint64_t number)
{
    const Retile__V1__Job *rec = job->rec->job;

    for (size_t i = 0; i < rec->n_versions; i++) {
        if (rec->versions[i]->number == number) {
            return rec->versions[i];
        }
    }
    return NULL;
}

const Retile__V1__Version *version_newest(const struct coord_job *job)
{
    const Retile__V1__Job *rec = job->rec->job;

    for (size_t i = rec->n_versions; i-- > 0;) {
        if (!version_is_released(job, rec->versions[i]->number)) {
            return rec->versions[i];
        }
    }
    return rec->n_versions > 0 ? rec->versions[rec->n_versions - 1] : NULL;
}

bool version_is_released(const struct coord_job *job, uint64_t number)
{
    for (size_t i = 0; i < job->rec->n_released; i++) {
        if (job->rec->released[i] == number) {
            return true;
        }
    }
    return false;
}

static void tell(struct coord *coord,
                 const struct coord_job *job,
                 const Retile__V1__Version *version,
                 const char *what)
{
    coord_tell(coord,
               &(struct coord_about){.kind = EVENT_VERSION,
                                     .job = job,
                                     .host = job->rec->job->host,
                                     .device = -1,
                                     .version = version->number,
                                     .step = version->step},
               "version %" PRIu64 " %s", version->number, what);
}

void version_add(struct coord *coord,
                 struct coord_job *job,
                 const Retile__V1__Version *version)
{
    Retile__V1__Job *rec = job->rec->job;
    Retile__V1__Version *copy = coord_copy(coord, version);
    size_t at = rec->n_versions;

    if (copy == NULL || !coord_list_grow(coord, &rec->versions, rec->n_versions,
                                         sizeof(*rec->versions))) {
        coord_message_free(copy);
        return;
    }
    while (at > 0 && rec->versions[at - 1]->number > version->number) {
        at--;
    }
    memmove(rec->versions + at + 1, rec->versions + at,
            (rec->n_versions - at) * sizeof(*rec->versions));
    rec->versions[at] = copy;
    rec->n_versions++;
    rec->version = rec->versions[rec->n_versions - 1]->number;
    attempt_note_committed(coord, job, copy->number);
    tell(coord, job, copy, "is published");
    job_touch(coord, job);
}

static void drop(struct coord *coord, struct coord_job *job, size_t idx)
{
    Retile__V1__Job *rec = job->rec->job;
    Retile__V1__Version *version = rec->versions[idx];

    for (size_t i = 0; i < job->rec->n_released; i++) {
        if (job->rec->released[i] == version->number) {
            job->rec->released[i] = job->rec->released[--job->rec->n_released];
            break;
        }
    }
    memmove(rec->versions + idx, rec->versions + idx + 1,
            (rec->n_versions - idx - 1) * sizeof(*rec->versions));
    rec->n_versions--;
    coord_message_free(version);
    rec->version =
        rec->n_versions > 0 ? rec->versions[rec->n_versions - 1]->number : 0;
    job_touch(coord, job);
}

/* Is it needed by what goes on, in this job or by one that copies it? */
static bool
is_used(const struct coord *coord, const struct coord_job *job, uint64_t number)
{
    const Retile__V1__Job *rec = job->rec->job;
    const Retile__V1__Generation *generation = generation_current(job);

    if ((generation != NULL && generation->load == number) ||
        (rec->attempt != NULL && rec->attempt->parent == number) ||
        (rec->change != NULL && rec->change->rollback == number)) {
        return true;
    }
    for (size_t i = 0; job->host != NULL && i < job->host->jobs.n; i++) {
        const Retile__V1__TargetAttempt *making =
            job->host->jobs.items[i]->rec->making;

        if (making != NULL && making->kind == ATTEMPT_COPY &&
            making->parent == number &&
            strcmp(making->from_job, rec->name) == 0) {
            return true;
        }
    }
    (void)coord;
    return false;
}

static void release(struct coord *coord,
                    struct coord_job *job,
                    const Retile__V1__Version *version)
{
    Retile__Coordinator__JobRecord *rec = job->rec;

    if (!coord_list_grow(coord, &rec->released, rec->n_released,
                         sizeof(*rec->released))) {
        return;
    }
    rec->released[rec->n_released++] = version->number;
    tell(coord, job, version, "is given up");
    job_touch(coord, job);
}

void version_trim(struct coord *coord, struct coord_job *job)
{
    const Retile__V1__Job *rec = job->rec->job;
    uint32_t n_kept = 0;

    if (job->is_gone || rec->state == JOB_REMOVING) {
        return;
    }
    for (size_t i = rec->n_versions; i-- > 0;) {
        const Retile__V1__Version *version = rec->versions[i];

        if (version_is_released(job, version->number) ||
            version->pinned[0] != '\0') {
            continue;
        }
        if (n_kept < rec->keep_versions) {
            n_kept++;
        } else if (!is_used(coord, job, version->number)) {
            release(coord, job, version);
        }
    }
}

/* A version that we did not know: we are an old copy, or it was lost before. */
static void adopt(struct coord *coord,
                  struct coord_job *job,
                  const Retile__V1__Version *version)
{
    Retile__V1__Job *rec = job->rec->job;

    if (version->number > MAX_NUMBER) {
        return;
    }
    version_add(coord, job, version);
    if (version->number == rec->version &&
        layout_mesh_ranks(version->mesh) != 0 && version->layout[0] != '\0') {
        coord_text(coord, &rec->layout, "%s", version->layout);
        coord_text(coord, &rec->mesh, "%s", version->mesh);
        rec->n_ranks = layout_mesh_ranks(version->mesh);
    }
}

static void see(struct coord *coord,
                struct coord_job *job,
                const Retile__V1__Version *shown)
{
    Retile__V1__Job *rec = job->rec->job;
    Retile__V1__Version *known = version_find(job, shown->number);

    if (known != NULL) {
        if (known->durability != shown->durability ||
            known->n_bytes != shown->n_bytes) {
            known->durability = shown->durability;
            known->n_bytes = shown->n_bytes;
            job_touch(coord, job);
        }
        return;
    }
    if (rec->attempt != NULL && rec->attempt->number == shown->number) {
        if (rec->attempt->state == ATTEMPT_COMMITTED ||
            rec->attempt->kind == ATTEMPT_SAVE ||
            layout_mesh_ranks(shown->mesh) != 0) {
            if (rec->attempt->state == ATTEMPT_OPEN) {
                attempt_commit(coord, job, shown);
            }
            attempt_ready(coord, job, shown);
            return;
        }
        attempt_give_up(coord, job, "its mesh is malformed");
    }
    adopt(coord, job, shown);
}

/* What was to be started with it can't be: the next one takes the newest. */
static void lose(struct coord *coord, struct coord_job *job, uint64_t number)
{
    const Retile__V1__Generation *generation = generation_current(job);

    if (generation != NULL && generation->state == GENERATION_PREPARING &&
        generation->load == number) {
        generation_end(coord, job, GENERATION_REVOKED, false,
                       "version %" PRIu64 ", which it loads, is lost", number);
    }
}

void version_report(struct coord *coord,
                    struct coord_job *job,
                    Retile__V1__Version *const *versions,
                    size_t n)
{
    Retile__V1__Job *rec = job->rec->job;
    bool had_some = rec->n_versions > 0;
    char gone[WHY_BYTES] = "";
    size_t n_gone = 0;

    for (size_t i = 0; i < n; i++) {
        see(coord, job, versions[i]);
    }
    for (size_t i = rec->n_versions; i-- > 0;) {
        bool is_there = false;

        for (size_t k = 0; k < n && !is_there; k++) {
            is_there = versions[k]->number == rec->versions[i]->number;
        }
        if (is_there) {
            continue;
        }
        if (version_is_released(job, rec->versions[i]->number)) {
            tell(coord, job, rec->versions[i], "is released");
        } else {
            tell(coord, job, rec->versions[i], "is lost");
            lose(coord, job, rec->versions[i]->number);
            n_gone += (size_t)snprintf(
                gone + n_gone,
                n_gone < sizeof(gone) ? sizeof(gone) - n_gone : 0, "%s%" PRIu64,
                n_gone > 0 ? ", " : "", rec->versions[i]->number);
            n_gone = n_gone < sizeof(gone) ? n_gone : sizeof(gone) - 1;
        }
        drop(coord, job, i);
    }
    if (had_some && rec->n_versions == 0 && rec->state != JOB_REMOVING) {
        char why[2 * WHY_BYTES];

        (void)snprintf(why, sizeof(why), "host %s has no version any more: %s",
                       rec->host, gone);
        generation_end(coord, job, GENERATION_REVOKED, false,
                       "no version is left");
        change_drop(coord, job);
        plan_end(coord, job, RPC_ABORTED, why);
        if (rec->attempt != NULL) {
            attempt_abort(coord, job, "its bytes are lost");
        }
        job_move(coord, job, JOB_LOST, why);
    } else if (rec->state == JOB_LOST && rec->n_versions > 0 &&
               rec->n_ranks > 0) {
        job_move(coord, job, JOB_WAITING, "its bytes are there again");
    }
}

bool version_is_full(struct coord *coord,
                     const struct coord_call *call,
                     const struct coord_job *job)
{
    const Retile__V1__Job *rec = job->rec->job;

    if (rec->n_versions < coord->limits.max_versions) {
        return false;
    }
    call_refuse(coord, call, RPC_RESOURCE_EXHAUSTED,
                "%s has %zu versions, no more than %" PRIu32 " are kept",
                rec->name, rec->n_versions, coord->limits.max_versions);
    return true;
}

void call_versions_list(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__ListVersionsRequest *request =
        (const Retile__V1__ListVersionsRequest *)call->request;
    const struct coord_job *job = job_find(coord, request->job);
    Retile__V1__ListVersionsResponse response;

    if (job == NULL) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no job %s", request->job);
        return;
    }
    retile__v1__list_versions_response__init(&response);
    response.n_versions = job->rec->job->n_versions;
    response.versions = job->rec->job->versions;
    call_answer(coord, call, coord_copy_out(coord, &response), false);
}

/* The version; NULL: was answered. */
static Retile__V1__Version *find(struct coord *coord,
                                 const struct coord_call *call,
                                 const char *name,
                                 uint64_t number,
                                 struct coord_job **ret_job)
{
    struct coord_job *job = job_find(coord, name);
    Retile__V1__Version *version =
        job != NULL ? version_find(job, number) : NULL;

    if (job == NULL) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no job %s", name);
    } else if (job->rec->job->state == JOB_REMOVING) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION, "%s is being removed",
                    name);
        return NULL;
    } else if (version == NULL) {
        call_refuse(coord, call, RPC_NOT_FOUND, "%s has no version %" PRIu64,
                    name, number);
    } else if (version_is_released(job, number)) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "%s@%" PRIu64 " is given up", name, number);
        return NULL;
    }
    *ret_job = job;
    return version;
}

void call_pin(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__PinVersionRequest *request =
        (const Retile__V1__PinVersionRequest *)call->request;
    Retile__V1__PinVersionResponse response;
    struct coord_job *job;
    Retile__V1__Version *version =
        find(coord, call, request->job, request->version, &job);

    if (version == NULL) {
        return;
    }
    if (request->why[0] != '\0' && call_is_too_much(coord, call)) {
        return;
    }
    if (strcmp(version->pinned, request->why) != 0) {
        coord_text(coord, &version->pinned, "%s", request->why);
        tell(coord, job, version,
             request->why[0] != '\0' ? "is pinned" : "is unpinned");
        job_touch(coord, job);
    }
    retile__v1__pin_version_response__init(&response);
    response.version = version;
    call_answer(coord, call, coord_copy_out(coord, &response), true);
}

void call_release(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__ReleaseVersionRequest *request =
        (const Retile__V1__ReleaseVersionRequest *)call->request;
    Retile__V1__ReleaseVersionResponse response;
    struct coord_job *job;
    const Retile__V1__Version *version =
        find(coord, call, request->job, request->version, &job);

    if (version == NULL) {
        return;
    }
    if (version == version_newest(job) || version->pinned[0] != '\0' ||
        is_used(coord, job, version->number)) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "%s@%" PRIu64 " is %s", request->job, request->version,
                    version == version_newest(job) ? "the newest"
                    : version->pinned[0] != '\0'   ? "pinned"
                                                   : "in use");
        return;
    }
    release(coord, job, version);
    retile__v1__release_version_response__init(&response);
    call_answer(coord, call, coord_copy_out(coord, &response), true);
}

void call_rollback(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__RollbackRequest *request =
        (const Retile__V1__RollbackRequest *)call->request;
    Retile__V1__RollbackResponse response;
    struct coord_job *job;
    const Retile__V1__Version *version =
        find(coord, call, request->job, request->version, &job);
    char what[WHY_BYTES];

    if (version == NULL) {
        return;
    }
    if (job->rec->job->change != NULL &&
        job->rec->job->change->phase != CHANGE_STARTING) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION, "%s is under way: %s",
                    request->job, job->rec->job->change->what);
        return;
    }
    if (job->rec->making != NULL || job->rec->job->n_ranks == 0) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "%s has no first version yet", request->job);
        return;
    }
    if (layout_mesh_ranks(version->mesh) == 0) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "%s@%" PRIu64 ": its mesh is malformed: %s", request->job,
                    request->version, version->mesh);
        return;
    }
    if (version_is_full(coord, call, job)) {
        return;
    }
    (void)snprintf(what, sizeof(what), "rollback to version %" PRIu64,
                   request->version);
    change_drop(coord, job);
    change_begin(coord, job, what, version->layout, version->mesh, DEADLINE_S);
    if (coord->failed != BASE_OK) {
        return;
    }
    job->rec->job->change->rollback = request->version;
    generation_end(coord, job, GENERATION_REVOKED, false, "%s", what);
    if (job->rec->job->change->phase == CHANGE_DRAINING) {
        change_phase(coord, job, CHANGE_MAKING);
    }
    job->rec->job->n_restarts = 0;
    job->backoff_ns = NO_NS;
    if (job_is_over(job)) {
        job_move(coord, job, JOB_WAITING, what);
    }
    retile__v1__rollback_response__init(&response);
    response.job = show_job(coord, job, false);
    call_answer(coord, call, coord_copy_out(coord, &response), true);
}
