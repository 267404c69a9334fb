/* Jobs come and go: Submit, Remove. */
#include <stdio.h>

#include "base/num.h"
#include "coordinator/core/impl.h"

/* "JOB" or "JOB@7": the job and its version; false: was answered. */
static bool find_source(struct coord *coord,
                        const struct coord_call *call,
                        const char *text,
                        const struct coord_job **ret_job,
                        uint64_t *ret_number)
{
    const char *at = strrchr(text, '@');
    struct base_str name = base_str_of(text);
    char job[NAME_BYTES];
    const Retile__V1__Version *version;

    name.len = at != NULL ? (size_t)(at - text) : name.len;
    *ret_number = 0;
    if (name.len >= sizeof(job) ||
        (at != NULL && (!base_parse_u64(base_str_of(at + 1), ret_number) ||
                        *ret_number == 0))) {
        call_refuse(coord, call, RPC_INVALID_ARGUMENT,
                    "from_version: %s is not JOB or JOB@VERSION", text);
        return false;
    }
    (void)snprintf(job, sizeof(job), "%.*s", (int)name.len, name.ptr);
    *ret_job = job_find(coord, job);
    version = *ret_job == NULL ? NULL
              : at != NULL     ? version_find(*ret_job, *ret_number)
                               : version_newest(*ret_job);
    if (version == NULL || (*ret_job)->host == NULL ||
        (*ret_job)->rec->job->state == JOB_REMOVING ||
        version_is_released(*ret_job, version->number)) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no version %s", text);
        return false;
    }
    *ret_number = version->number;
    return true;
}

/* Where the job is to be: NULL with *ret_is_good: anywhere. */
static struct coord_host *find_host(struct coord *coord,
                                    const struct coord_call *call,
                                    const Retile__V1__SubmitJobRequest *request,
                                    const struct coord_job *from,
                                    bool *ret_is_good)
{
    struct coord_host *host = NULL;

    *ret_is_good = false;
    if (request->host[0] != '\0') {
        host = host_find(coord, request->host);
        if (host == NULL) {
            call_refuse(coord, call, RPC_NOT_FOUND, "no host %s",
                        request->host);
            return NULL;
        }
    }
    if (from != NULL && host != NULL && from->host != host) {
        call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                    "%s is on host %s; a copy is made where it is",
                    request->from_version, from->rec->job->host);
        return NULL;
    }
    host = from != NULL ? from->host : host;
    for (size_t i = 0; i < coord->hosts.n; i++) {
        struct coord_host *other = coord->hosts.items[i];

        if ((host == NULL || host == other) &&
            host_is_stranger(other, request->name)) {
            call_refuse(coord, call, RPC_ALREADY_EXISTS,
                        "host %s has a job %s that the coordinator does not "
                        "know",
                        other->rec->name, request->name);
            return NULL;
        }
    }
    *ret_is_good = true;
    return host;
}

static Retile__Coordinator__JobRecord *new_record(struct coord *coord)
{
    Retile__Coordinator__JobRecord *rec = malloc(sizeof(*rec));

    if (rec == NULL) {
        coord_no_mem(coord);
        return NULL;
    }
    retile__coordinator__job_record__init(rec);
    rec->job = malloc(sizeof(*rec->job));
    if (rec->job == NULL) {
        coord_no_mem(coord);
        coord_message_free(rec);
        return NULL;
    }
    retile__v1__job__init(rec->job);
    rec->next_generation = 1;
    return rec;
}

static void set_making(struct coord *coord,
                       Retile__Coordinator__JobRecord *rec,
                       const Retile__V1__SubmitJobRequest *request,
                       const struct coord_job *from,
                       uint64_t number)
{
    Retile__V1__TargetAttempt *making = malloc(sizeof(*making));

    if (making == NULL) {
        coord_no_mem(coord);
        return;
    }
    retile__v1__target_attempt__init(making);
    rec->making = making;
    if (from != NULL) {
        making->kind = RETILE__V1__ATTEMPT_KIND__ATTEMPT_COPY;
        making->parent = number;
        coord_text(coord, &making->from_job, "%s", from->rec->job->name);
    } else {
        making->kind = RETILE__V1__ATTEMPT_KIND__ATTEMPT_IMPORT;
        coord_text(coord, &making->import_dir, "%s", request->import_dir);
        coord_text(coord, &making->layout, "%s", request->import_layout);
    }
    coord_text(coord, &rec->then_layout, "%s", request->layout);
}

/* What Submit was found to ask for. */
struct submission {
    struct coord_layout layout;
    const struct coord_job *from;
    uint64_t number;
    struct coord_host *host;
};

static void submit(struct coord *coord,
                   const struct coord_call *call,
                   const struct submission *made)
{
    const Retile__V1__SubmitJobRequest *request =
        (const Retile__V1__SubmitJobRequest *)call->request;
    Retile__Coordinator__JobRecord *rec = new_record(coord);
    Retile__V1__SubmitJobResponse response;
    struct coord_job *job;

    if (rec == NULL) {
        return;
    }
    coord_text(coord, &rec->job->name, "%s", request->name);
    rec->job->submitted_ns = coord->now.wall_ns;
    rec->job->max_restarts =
        request->max_restarts != 0 ? request->max_restarts : MAX_RESTARTS;
    rec->job->keep_versions =
        request->keep_versions != 0 ? request->keep_versions : KEEP_VERSIONS;
    if (request->start_case == RETILE__V1__SUBMIT_JOB_REQUEST__START__NOT_SET) {
        coord_text(coord, &rec->job->layout, "%s", made->layout.text.ptr);
        coord_text(coord, &rec->job->mesh, "%s", made->layout.mesh);
        rec->job->n_ranks = made->layout.n_ranks;
    } else {
        set_making(coord, rec, request, made->from, made->number);
    }
    if (made->host != NULL) {
        coord_text(coord, &rec->job->host, "%s", made->host->rec->name);
    }
    if (coord->failed != BASE_OK) {
        coord_message_free(rec);
        return;
    }
    job = job_add(coord, rec);
    if (job == NULL) {
        return;
    }
    job_set_host(coord, job, made->host);
    job_move(coord, job, rec->making != NULL ? JOB_IMPORTING : JOB_WAITING, "");
    retile__v1__submit_job_response__init(&response);
    response.job = show_job(coord, job, false);
    call_answer(coord, call, coord_copy_out(coord, &response), true);
}

void call_submit(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__SubmitJobRequest *request =
        (const Retile__V1__SubmitJobRequest *)call->request;
    struct submission made = {0};
    struct base_err err = {0};
    enum base_code rc = BASE_OK;
    bool is_good = true;

    if (job_find(coord, request->name) != NULL) {
        call_refuse(coord, call, RPC_ALREADY_EXISTS, "job %s exists",
                    request->name);
        return;
    }
    if (call_is_too_much(coord, call)) {
        return;
    }
    if (coord->jobs.n >= coord->limits.max_jobs) {
        call_refuse(coord, call, RPC_RESOURCE_EXHAUSTED,
                    "there are %zu jobs already", coord->jobs.n);
        return;
    }
    if (request->keep_versions >= coord->limits.max_versions) {
        call_refuse(coord, call, RPC_INVALID_ARGUMENT,
                    "keep_versions is %" PRIu32 ", of a job fewer than %" PRIu32
                    " are kept",
                    request->keep_versions, coord->limits.max_versions);
        return;
    }
    if (request->start_case ==
            RETILE__V1__SUBMIT_JOB_REQUEST__START_FROM_VERSION &&
        !find_source(coord, call, request->from_version, &made.from,
                     &made.number)) {
        return;
    }
    made.host = find_host(coord, call, request, made.from, &is_good);
    if (!is_good) {
        return;
    }
    /* A short form may need the tensors' names and shapes: an import has them
     * later, a job that starts from nothing does not. */
    if (request->start_case == RETILE__V1__SUBMIT_JOB_REQUEST__START__NOT_SET ||
        strchr(request->layout, '\n') != NULL) {
        rc = layout_parse(request->layout, &made.layout, &err);
    }
    if (rc == BASE_NO_MEM) {
        coord_no_mem(coord);
    } else if (rc != BASE_OK) {
        call_refuse(coord, call, RPC_INVALID_ARGUMENT, "layout: %s",
                    request->layout[0] != '\0'
                        ? err.text
                        : "a job that starts from nothing needs one");
    } else {
        submit(coord, call, &made);
    }
    layout_done(&made.layout);
}

void call_remove(struct coord *coord, const struct coord_call *call)
{
    const Retile__V1__RemoveJobRequest *request =
        (const Retile__V1__RemoveJobRequest *)call->request;
    struct coord_job *job = job_find(coord, request->name);
    Retile__V1__Job *rec = job != NULL ? job->rec->job : NULL;
    Retile__V1__RemoveJobResponse response;

    if (job == NULL) {
        call_refuse(coord, call, RPC_NOT_FOUND, "no job %s", request->name);
        return;
    }
    if (rec->state != JOB_REMOVING) {
        if (!request->force &&
            (generation_current(job) != NULL || rec->attempt != NULL)) {
            call_refuse(coord, call, RPC_FAILED_PRECONDITION,
                        "%s is %s; `force` ends it", request->name,
                        coord_state_name("job", (int)rec->state));
            return;
        }
        generation_end(coord, job, GENERATION_REVOKED, false,
                       "the job is removed");
        plan_end(coord, job, RPC_ABORTED, "the job is removed");
        if (rec->attempt != NULL && rec->attempt->state == ATTEMPT_OPEN) {
            attempt_abort(coord, job, "the job is removed");
        }
        change_drop(coord, job);
        job->backoff_ns = NO_NS;
        job_move(coord, job, JOB_REMOVING, "");
    }
    retile__v1__remove_job_response__init(&response);
    call_answer(coord, call, coord_copy_out(coord, &response), true);
}
