/* The calls of agents: a save is opened, closed, voted for; and votes for what
 * the agents make themselves. */
#include "coordinator/core/impl.h"

/* The job, on the host whose session it is; NULL: was answered. */
static struct coord_job *job_of(struct coord *coord,
                                const struct coord_call *call,
                                uint64_t session,
                                const char *name)
{
    const struct coord_host *host = host_of_session(coord, session);
    struct coord_job *job = job_find(coord, name);

    if (host == NULL) {
        call_refuse(coord, call, RPC_UNAUTHENTICATED,
                    "session %" PRIu64 " is over or was none", session);
        return NULL;
    }
    if (job == NULL || job->host != host) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no job %s on host %s", name,
                    host->rec->name);
        return NULL;
    }
    return job;
}

static void
answer_open(struct coord *coord, const struct coord_call *call, uint64_t number)
{
    Retile__V1__OpenSaveResponse response;

    retile__v1__open_save_response__init(&response);
    response.attempt = number;
    call_answer(coord, call, coord_copy_out(coord, &response), false);
}

static void begin_save(struct coord *coord,
                       struct coord_job *job,
                       const struct coord_call *call,
                       uint64_t step)
{
    Retile__V1__Job *rec = job->rec->job;
    uint64_t parent =
        rec->n_versions > 0 ? rec->version : rec->generation->load;
    uint64_t number = attempt_begin(coord, job, ATTEMPT_SAVE, parent);

    if (number != 0) {
        rec->attempt->generation = rec->generation->number;
        rec->attempt->step = step;
        attempt_move(coord, job, ATTEMPT_OPEN, "");
        answer_open(coord, call, number);
    }
}

static bool is_saved(const struct coord_job *job, uint64_t step)
{
    const Retile__V1__Job *rec = job->rec->job;

    for (size_t i = 0; i < rec->n_versions; i++) {
        if (rec->versions[i]->kind == ATTEMPT_SAVE &&
            rec->versions[i]->number > rec->generation->load &&
            rec->versions[i]->step == step) {
            return true;
        }
    }
    return rec->generation->last_step == step && step > 0;
}

static void open_save(struct coord *coord,
                      struct coord_job *job,
                      const struct coord_call *call,
                      const Retile__V1__OpenSaveRequest *request)
{
    Retile__V1__Job *rec = job->rec->job;
    const Retile__V1__Generation *generation = generation_current(job);
    Retile__V1__Attempt *attempt = rec->attempt;

    if (generation == NULL || generation->number != request->generation ||
        generation->state == GENERATION_PREPARING) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "generation %" PRIu64 " of %s is not current",
                    request->generation, rec->name);
    } else if (attempt != NULL && attempt->state == ATTEMPT_OPEN &&
               attempt->step == request->step) {
        answer_open(coord, call, attempt->number);
    } else if (is_saved(job, request->step)) {
        call_refuse(coord, call, RPC_ALREADY_EXISTS,
                    "step %" PRIu64 " of %s is saved", request->step,
                    rec->name);
    } else if (request->step < generation_next_step(job)) {
        call_refuse(coord, call, RPC_OUT_OF_RANGE,
                    "step %" PRIu64 " of %s is below %" PRIu64, request->step,
                    rec->name, generation_next_step(job));
    } else if (attempt != NULL && attempt->state == ATTEMPT_OPEN &&
               attempt->step > request->step) {
        call_refuse(coord, call, RPC_ABORTED, "step %" PRIu64 " is open",
                    attempt->step);
    } else if (attempt != NULL && attempt->state == ATTEMPT_COMMITTED) {
        /* It is there, or the mount would not ask; its host says so soon. */
        attempt_refuse_waiting(coord, job, "asked again");
        job->save_ticket = call->ticket;
        job->save_session = request->session;
        job->save_generation = request->generation;
        job->save_step = request->step;
    } else if (!version_is_full(coord, call, job)) {
        if (attempt != NULL) {
            attempt_abort(coord, job, "a later step is saved");
        }
        begin_save(coord, job, call, request->step);
    }
}

void call_open_save(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__OpenSaveRequest *request =
        (const Retile__V1__OpenSaveRequest *)call->request;
    struct coord_job *job = job_of(coord, call, request->session, request->job);

    if (job != NULL) {
        open_save(coord, job, call, request);
    }
}

void attempt_refuse_waiting(struct coord *coord,
                            struct coord_job *job,
                            const char *why)
{
    const struct coord_call call = {.ticket = job->save_ticket};

    if (job->save_ticket != 0) {
        job->save_ticket = 0;
        call_refuse(coord, &call, RPC_UNAVAILABLE, "%s", why);
    }
}

void attempt_serve_waiting(struct coord *coord, struct coord_job *job)
{
    Retile__V1__OpenSaveRequest request;
    const struct coord_call call = {
        .ticket = job->save_ticket, .request_id = "", .request = &request.base};

    if (job->save_ticket == 0) {
        return;
    }
    job->save_ticket = 0;
    retile__v1__open_save_request__init(&request);
    request.session = job->save_session;
    request.generation = job->save_generation;
    request.step = job->save_step;
    open_save(coord, job, &call, &request);
}

void call_close_save(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__CloseSaveRequest *request =
        (const Retile__V1__CloseSaveRequest *)call->request;
    struct coord_job *job = job_of(coord, call, request->session, request->job);
    Retile__V1__CloseSaveResponse response;

    if (job == NULL) {
        return;
    }
    if (attempt_was_committed(job, request->attempt)) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "attempt %" PRIu64 " is committed", request->attempt);
        return;
    }
    if (job->rec->job->attempt != NULL &&
        job->rec->job->attempt->kind == ATTEMPT_SAVE &&
        job->rec->job->attempt->number == request->attempt) {
        attempt_abort(coord, job,
                      request->reason[0] != '\0' ? request->reason
                                                 : "it was given up");
    }
    retile__v1__close_save_response__init(&response);
    call_answer(coord, call, coord_copy_out(coord, &response), false);
}

static void answer_vote(struct coord *coord,
                        const struct coord_call *call,
                        bool is_commit,
                        const char *reason)
{
    Retile__V1__VoteResponse response;

    retile__v1__vote_response__init(&response);
    response.decision = is_commit ? RETILE__V1__DECISION__DECISION_COMMIT
                                  : RETILE__V1__DECISION__DECISION_ABORT;
    response.reason = coord_textf_out(coord, "%s", reason);
    call_answer(coord, call, coord_copy_out(coord, &response), false);
}

/* Why the open attempt can't be committed with this vote; NULL: it can. */
static const char *what_is_wrong(const struct coord_job *job,
                                 const Retile__V1__VoteRequest *vote)
{
    const Retile__V1__Attempt *attempt = job->rec->job->attempt;
    const Retile__V1__Generation *generation = generation_current(job);

    if (vote->version->number != vote->attempt) {
        return "the vote is for another version";
    }
    if (attempt->kind != ATTEMPT_SAVE) {
        return vote->generation != 0 ? "no save has this number"
               : layout_mesh_ranks(vote->version->mesh) == 0
                   ? "its mesh is malformed"
                   : NULL;
    }
    if (generation == NULL || generation->number != attempt->generation ||
        vote->generation != attempt->generation) {
        return "its generation is not current";
    }
    return vote->version->has_step && vote->version->step != attempt->step
               ? "the vote is for another step"
               : NULL;
}

/* The host has a vote that nothing can be made of. */
static void lose(struct coord *coord,
                 struct coord_job *job,
                 const struct coord_call *call,
                 uint64_t number)
{
    static const char why[] = "its bytes are damaged or lost";
    const Retile__V1__Attempt *attempt = job->rec->job->attempt;

    answer_vote(coord, call, false, why);
    if (attempt != NULL && attempt->number == number) {
        attempt_lose(coord, job, why);
    }
}

void call_vote(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__VoteRequest *vote =
        (const Retile__V1__VoteRequest *)call->request;
    const struct coord_host *host = host_of_session(coord, vote->session);
    struct coord_job *job = job_find(coord, vote->job);
    const Retile__V1__Attempt *attempt;
    const char *wrong;

    if (host == NULL) {
        call_refuse(coord, call, RPC_UNAUTHENTICATED,
                    "session %" PRIu64 " is over or was none", vote->session);
        return;
    }
    if (job == NULL || job->host != host) {
        answer_vote(coord, call, false, "no such job on this host");
        return;
    }
    if (vote->version != NULL && attempt_was_committed(job, vote->attempt)) {
        answer_vote(coord, call, true, "");
        return;
    }
    if (vote->attempt > job->rec->highest && vote->attempt <= MAX_NUMBER) {
        /* We are an old copy. */
        job->rec->highest = vote->attempt;
        job_touch(coord, job);
    }
    attempt = job->rec->job->attempt;
    if (vote->version == NULL) {
        lose(coord, job, call, vote->attempt);
        return;
    }
    if (attempt == NULL || attempt->number != vote->attempt) {
        answer_vote(coord, call, false, "the attempt is not open");
        return;
    }
    wrong = what_is_wrong(job, vote);
    if (wrong == NULL) {
        attempt_commit(coord, job, vote->version);
        answer_vote(coord, call, true, "");
        return;
    }
    answer_vote(coord, call, false, wrong);
    if (attempt->kind == ATTEMPT_SAVE) {
        attempt_abort(coord, job, wrong);
    } else {
        attempt_give_up(coord, job, wrong);
    }
}
