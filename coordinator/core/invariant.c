/* What must hold after each step. */
#include "coordinator/core/impl.h"

static bool
wrong(struct base_err *err, const struct coord_job *job, const char *what)
{
    (void)base_fail(err, BASE_CHANGED, "job %s: %s", job->rec->job->name, what);
    return false;
}

/* 1. A device is of at most one current generation, and of that once. */
static bool check_devices(const struct coord_job *job, struct base_err *err)
{
    const Retile__V1__Generation *generation = generation_current(job);

    for (size_t i = 0; generation != NULL && i < generation->n_placements;
         i++) {
        uint32_t device = generation->placements[i]->device;

        if (job->host == NULL || device >= job->host->rec->n_devices ||
            !place_holds(job, device) || place_user(job->host, device) != job) {
            return wrong(err, job, "a device of its generation is not its own");
        }
        for (size_t k = 0; k < i; k++) {
            if (generation->placements[k]->device == device) {
                return wrong(err, job, "two ranks have one device");
            }
        }
    }
    return true;
}

/* 2. Numbers: versions ascend, none is above the highest that was given, each
 *    was committed; an open attempt's is the highest of all but those adopted. */
static bool check_numbers(const struct coord_job *job, struct base_err *err)
{
    const Retile__Coordinator__JobRecord *rec = job->rec;
    const Retile__V1__Attempt *attempt = rec->job->attempt;
    uint64_t last = 0;

    for (size_t i = 0; i < rec->job->n_versions; i++) {
        uint64_t number = rec->job->versions[i]->number;

        if (number <= last || number > rec->highest) {
            return wrong(err, job, "its versions' numbers are out of order");
        }
        if (attempt != NULL && attempt->number == number) {
            return wrong(err, job, "an open attempt has a version's number");
        }
        last = number;
    }
    if (rec->job->version != last) {
        return wrong(err, job, "the newest version is not the last");
    }
    if (attempt != NULL &&
        (attempt->number == 0 || attempt->number > rec->highest)) {
        return wrong(err, job, "an attempt is above the highest number");
    }
    if (rec->job->generation != NULL &&
        rec->job->generation->number >= rec->next_generation) {
        return wrong(err, job, "a generation is above the next one");
    }
    return true;
}

/* 3. A version is made by its host only while nothing runs; what runs may be
 *    saved only by the current generation. */
static bool check_attempt(const struct coord_job *job, struct base_err *err)
{
    const Retile__Coordinator__JobRecord *rec = job->rec;
    const Retile__V1__Attempt *attempt = rec->job->attempt;
    const Retile__V1__Generation *generation = generation_current(job);

    if ((rec->candidate != NULL) !=
        (attempt != NULL && attempt->state == ATTEMPT_COMMITTED)) {
        return wrong(err, job, "a candidate without a committed attempt");
    }
    if (attempt == NULL) {
        return true;
    }
    if (attempt->kind != ATTEMPT_SAVE && generation != NULL) {
        return wrong(err, job,
                     "a version is made while a generation is current");
    }
    if (attempt->kind == ATTEMPT_SAVE && attempt->state == ATTEMPT_OPEN &&
        (generation == NULL || generation->number != attempt->generation)) {
        return wrong(err, job, "a save is open of no current generation");
    }
    if (attempt->state == ATTEMPT_COMMITTED &&
        !attempt_was_committed(job, attempt->number)) {
        return wrong(err, job, "a committed number is not written down");
    }
    return true;
}

/* 4. Pinned versions are kept, and what is loaded is. */
static bool check_kept(const struct coord_job *job, struct base_err *err)
{
    const Retile__V1__Generation *generation = generation_current(job);

    for (size_t i = 0; i < job->rec->n_released; i++) {
        uint64_t number = job->rec->released[i];
        const Retile__V1__Version *version = version_find(job, number);

        if (version == NULL) {
            return wrong(err, job, "a version that is not there is given up");
        }
        if (version->pinned[0] != '\0') {
            return wrong(err, job, "a pinned version is given up");
        }
        if (generation != NULL && generation->load == number) {
            return wrong(err, job, "a loaded version is given up");
        }
    }
    return true;
}

/* 5. A job that is over has nothing that goes on. */
static bool check_over(const struct coord_job *job, struct base_err *err)
{
    const Retile__V1__Job *rec = job->rec->job;

    if (!job_is_over(job)) {
        return true;
    }
    if (generation_current(job) != NULL) {
        return wrong(err, job, "it is over and has a current generation");
    }
    if (rec->attempt != NULL && rec->attempt->state == ATTEMPT_OPEN) {
        return wrong(err, job, "it is over and has an open attempt");
    }
    if (rec->change != NULL) {
        return wrong(err, job, "it is over and has a change");
    }
    return true;
}

/* 6. No host has more free devices than place_choose believes. */
static bool check_free(const struct coord *coord, struct base_err *err)
{
    for (size_t i = 0; i < coord->hosts.n; i++) {
        const struct coord_host *host = coord->hosts.items[i];
        uint32_t n_free = place_free_of(host);

        if (n_free > coord->most_free) {
            (void)base_fail(err, BASE_CHANGED,
                            "host %s: %" PRIu32
                            " devices are free, at most %" PRIu32
                            " are believed to be",
                            host->rec->name, n_free, coord->most_free);
            return false;
        }
    }
    return true;
}

bool coord_invariant(const struct coord *coord, struct base_err *err)
{
    for (size_t i = 0; i < coord->jobs.n; i++) {
        const struct coord_job *job = coord->jobs.items[i];

        if (i > 0 && strcmp(coord->jobs.items[i - 1]->rec->job->name,
                            job->rec->job->name) >= 0) {
            return wrong(err, job, "jobs are not in order");
        }
        if (!check_devices(job, err) || !check_numbers(job, err) ||
            !check_attempt(job, err) || !check_kept(job, err) ||
            !check_over(job, err)) {
            return false;
        }
    }
    return check_free(coord, err);
}
