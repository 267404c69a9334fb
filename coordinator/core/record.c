/* Records that were written once, read again: nothing in them is believed that
 * the core relies on. */
#include <stdio.h>

#include "coordinator/core/impl.h"

static enum base_code bad(struct base_err *err,
                          const char *kind,
                          struct base_str id,
                          const char *what)
{
    return base_fail(err, BASE_BAD_INPUT, "%s %.*s: %s", kind, BASE_STR_FMT(id),
                     what);
}

static bool is_id(struct base_str id, const char *text)
{
    return base_str_eq(id, base_str_of(text));
}

/* NULL: it is good. */
static const char *generation_fault(const Retile__V1__Job *job,
                                    const Retile__V1__Generation *generation,
                                    uint64_t next)
{
    if (coord_state_name("generation", (int)generation->state) == NULL ||
        (int)generation->state == GENERATION_NONE) {
        return "generation.state";
    }
    if (generation->number >= next) {
        return "generation.number";
    }
    if (generation->state == GENERATION_ENDED ||
        generation->state == GENERATION_REVOKED) {
        return NULL; /* its host may be forgotten */
    }
    for (size_t i = 0; i < generation->n_placements; i++) {
        if (strcmp(generation->placements[i]->host, job->host) != 0) {
            return "generation.placements";
        }
    }
    return NULL;
}

static const char *versions_fault(const Retile__V1__Job *job, uint64_t highest)
{
    uint64_t last = 0;

    for (size_t i = 0; i < job->n_versions; i++) {
        if (job->versions[i]->number <= last ||
            job->versions[i]->number > highest) {
            return "versions";
        }
        last = job->versions[i]->number;
    }
    return job->version != last ? "version" : NULL;
}

static const char *attempt_fault(const Retile__Coordinator__JobRecord *rec)
{
    const Retile__V1__Attempt *attempt = rec->job->attempt;

    if (attempt == NULL) {
        return rec->candidate != NULL ? "candidate" : NULL;
    }
    if ((int)attempt->state != ATTEMPT_OPEN &&
        (int)attempt->state != ATTEMPT_COMMITTED) {
        return "attempt.state";
    }
    if ((int)attempt->kind < ATTEMPT_SAVE ||
        (int)attempt->kind > ATTEMPT_COPY) {
        return "attempt.kind";
    }
    if (attempt->number == 0 || attempt->number > rec->highest) {
        return "attempt.number";
    }
    if ((rec->candidate != NULL) !=
        ((int)attempt->state == ATTEMPT_COMMITTED)) {
        return "candidate";
    }
    if ((int)attempt->kind == ATTEMPT_SAVE && rec->job->generation == NULL) {
        return "attempt.generation";
    }
    return ((int)attempt->kind != ATTEMPT_SAVE) !=
                   (rec->making != NULL && rec->making->number != 0)
               ? "making"
               : NULL;
}

static const char *change_fault(const Retile__V1__Change *change)
{
    if (change == NULL) {
        return NULL;
    }
    return (int)change->phase < CHANGE_DRAINING ||
                   (int)change->phase > CHANGE_STARTING
               ? "change.phase"
           : layout_mesh_ranks(change->mesh) == 0 ? "change.mesh"
                                                  : NULL;
}

static const char *job_fault(const Retile__Coordinator__JobRecord *rec)
{
    const Retile__V1__Job *job = rec->job;
    const char *fault;

    if ((int)job->state <= 0 ||
        coord_state_name("job", (int)job->state) == NULL) {
        return "state";
    }
    if (rec->next_generation == 0) {
        return "next_generation";
    }
    if (job->n_ranks > (1u << 20) ||
        (job->n_ranks == 0 && rec->making == NULL &&
         !(job->state == JOB_FAILED || job->state == JOB_LOST ||
           job->state == JOB_REMOVING))) {
        return "n_ranks";
    }
    if (job->keep_versions == 0) {
        return "keep_versions";
    }
    if (rec->n_committed % 2 != 0 || rec->n_committed > 2 * N_DECISIONS) {
        return "committed";
    }
    for (size_t i = 1; i < rec->n_committed; i++) {
        if (rec->committed[i] <= rec->committed[i - 1]) {
            return "committed";
        }
    }
    if (job->generation != NULL) {
        fault = generation_fault(job, job->generation, rec->next_generation);
        if (fault != NULL) {
            return fault;
        }
    }
    fault = versions_fault(job, rec->highest);
    fault = fault != NULL ? fault : attempt_fault(rec);
    return fault != NULL ? fault : change_fault(job->change);
}

static enum base_code load_job(struct coord *coord,
                               struct base_str id,
                               size_t n_bytes,
                               Retile__Coordinator__JobRecord *rec,
                               struct base_err *err)
{
    const char *fault = NULL;
    struct coord_job *job;

    if (rec->job == NULL || !is_id(id, rec->job->name) ||
        id.len >= NAME_BYTES) {
        fault = "name";
    } else if (job_find(coord, rec->job->name) != NULL) {
        fault = "it comes twice";
    } else {
        fault = job_fault(rec);
    }
    if (fault != NULL) {
        coord_message_free(rec);
        return bad(err, "job", id, fault);
    }
    if (coord->jobs.n >= coord->limits.max_jobs) {
        coord_message_free(rec);
        return base_fail(err, BASE_LIMIT, "more than %" PRIu32 " jobs",
                         coord->limits.max_jobs);
    }
    job = job_add(coord, rec);
    if (job != NULL) { /* failing is sticky */
        job->n_bytes = n_bytes;
        coord->n_bytes += n_bytes;
    }
    return BASE_OK;
}

static const char *host_fault(const Retile__V1__Host *host)
{
    if ((int)host->state != HOST_UP && (int)host->state != HOST_LOST) {
        return "state";
    }
    for (size_t i = 0; i < host->n_devices; i++) {
        const Retile__V1__Device *device = host->devices[i];

        if (device->index != i || strcmp(device->host, host->name) != 0 ||
            (int)device->state < DEVICE_READY ||
            (int)device->state > DEVICE_FAILED) {
            return "devices";
        }
    }
    return NULL;
}

static enum base_code load_host(struct coord *coord,
                                struct base_str id,
                                Retile__Coordinator__HostRecord *rec,
                                struct base_err *err)
{
    Retile__V1__Host *host = rec->host;
    const char *fault;

    if (host == NULL || !is_id(id, host->name) || id.len >= NAME_BYTES) {
        fault = "name";
    } else if (host_find(coord, host->name) != NULL) {
        fault = "it comes twice";
    } else {
        fault = host_fault(host);
    }
    if (fault != NULL) {
        coord_message_free(rec);
        return bad(err, "host", id, fault);
    }
    rec->host = NULL;
    coord_message_free(rec);
    if (coord->hosts.n >= coord->limits.max_hosts ||
        host->n_devices > coord->limits.max_devices) {
        coord_message_free(host);
        return base_fail(err, BASE_LIMIT,
                         "more than %" PRIu32 " hosts, or %" PRIu32
                         " devices of one",
                         coord->limits.max_hosts, coord->limits.max_devices);
    }
    (void)host_add(coord, host); /* failing is sticky */
    return BASE_OK;
}

static enum base_code load_request(struct coord *coord,
                                   struct base_str id,
                                   Retile__Coordinator__RequestRecord *rec,
                                   struct base_err *err)
{
    char text[REQUEST_ID_BYTES];

    if (id.len == 0 || id.len >= sizeof(text) ||
        memchr(id.ptr, '\0', id.len) != NULL) {
        coord_message_free(rec);
        return bad(err, "request", id, "id");
    }
    (void)snprintf(text, sizeof(text), "%.*s", (int)id.len, id.ptr);
    if (request_find(coord, text) != NULL) {
        coord_message_free(rec);
        return bad(err, "request", id, "it comes twice");
    }
    request_add(coord, text, rec); /* failing is sticky */
    return BASE_OK;
}

enum base_code coord_load(struct coord *coord,
                          enum coord_record_kind kind,
                          struct base_str id,
                          struct base_str body,
                          struct base_err *err)
{
    static const ProtobufCMessageDescriptor *const descriptors[] = {
        &retile__coordinator__job_record__descriptor,
        &retile__coordinator__host_record__descriptor,
        &retile__coordinator__request_record__descriptor};
    static const char *const kinds[] = {"job", "host", "request"};
    void *rec = NULL;
    enum base_code rc = coord_unpack(descriptors[kind], body, &rec);

    if (rc == BASE_NO_MEM) {
        return base_fail(err, rc, "no memory for records");
    }
    if (rc != BASE_OK) {
        return bad(err, kinds[kind], id, "no such message");
    }
    switch (kind) {
    case COORD_JOB:
        rc = load_job(coord, id, body.len, rec, err);
        break;
    case COORD_HOST:
        rc = load_host(coord, id, rec, err);
        break;
    case COORD_REQUEST:
        rc = load_request(coord, id, rec, err);
        break;
    }
    if (rc == BASE_OK && coord->failed != BASE_OK) {
        return base_fail(err, coord->failed, "no memory for records");
    }
    return rc;
}
