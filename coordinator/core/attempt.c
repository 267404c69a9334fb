/* Attempts: one try at making a version, fenced by its number.  At most one is
 * open per job.  A decision is in the record before anybody hears of it, and is
 * the same for whoever asks again: a number that was committed stays in
 * JobRecord.committed, any other is aborted. */
#include <stdio.h>

#include "coordinator/core/impl.h"

Retile__V1__Attempt *attempt_open(const struct coord_job *job)
{
    return job->rec->job->attempt;
}

bool attempt_was_committed(const struct coord_job *job, uint64_t number)
{
    const Retile__Coordinator__JobRecord *rec = job->rec;

    for (size_t i = 0; i + 1 < rec->n_committed; i += 2) {
        if (number >= rec->committed[i] && number < rec->committed[i + 1]) {
            return true;
        }
    }
    return version_find(job, number) != NULL;
}

void attempt_note_committed(struct coord *coord,
                            struct coord_job *job,
                            uint64_t number)
{
    Retile__Coordinator__JobRecord *rec = job->rec;
    size_t at = 0;

    while (at < rec->n_committed && rec->committed[at + 1] < number) {
        at += 2;
    }
    if (at < rec->n_committed && rec->committed[at] <= number) {
        if (rec->committed[at + 1] == number) { /* extends it */
            rec->committed[at + 1]++;
            if (at + 2 < rec->n_committed &&
                rec->committed[at + 2] == number + 1) {
                rec->committed[at + 1] = rec->committed[at + 3];
                memmove(rec->committed + at + 2, rec->committed + at + 4,
                        (rec->n_committed - at - 4) * sizeof(uint64_t));
                rec->n_committed -= 2;
            }
        }
        return;
    }
    if (!coord_list_grow(coord, &rec->committed, rec->n_committed + 1,
                         sizeof(uint64_t))) {
        return;
    }
    memmove(rec->committed + at + 2, rec->committed + at,
            (rec->n_committed - at) * sizeof(uint64_t));
    rec->committed[at] = number;
    rec->committed[at + 1] = number + 1;
    rec->n_committed += 2;
    if (at + 2 < rec->n_committed && rec->committed[at + 2] == number + 1) {
        rec->committed[at + 1] = rec->committed[at + 3];
        memmove(rec->committed + at + 2, rec->committed + at + 4,
                (rec->n_committed - at - 4) * sizeof(uint64_t));
        rec->n_committed -= 2;
    }
    while (rec->n_committed > 2 * N_DECISIONS) {
        memmove(rec->committed, rec->committed + 2,
                (rec->n_committed - 2) * sizeof(uint64_t));
        rec->n_committed -= 2;
    }
}

uint64_t attempt_begin(struct coord *coord,
                       struct coord_job *job,
                       int kind,
                       uint64_t parent)
{
    Retile__V1__Attempt *attempt = malloc(sizeof(*attempt));

    if (attempt == NULL) {
        coord_no_mem(coord);
        return 0;
    }
    retile__v1__attempt__init(attempt);
    attempt->number = ++job->rec->highest;
    attempt->kind = (Retile__V1__AttemptKind)kind;
    attempt->parent = parent;
    job->rec->job->attempt = attempt;
    return attempt->number;
}

/* Forget the one that was open. */
static void close_it(struct coord *coord, struct coord_job *job)
{
    Retile__Coordinator__JobRecord *rec = job->rec;

    coord_message_free(rec->job->attempt);
    rec->job->attempt = NULL;
    coord_message_free(rec->candidate);
    rec->candidate = NULL;
    if (rec->making != NULL && (rec->making->kind == ATTEMPT_IMPORT ||
                                rec->making->kind == ATTEMPT_COPY)) {
        rec->making->number = 0; /* to be made yet */
    } else {
        coord_message_free(rec->making);
        rec->making = NULL;
    }
    job->make_ns = NO_NS;
    job_touch(coord, job);
}

void attempt_abort(struct coord *coord,
                   struct coord_job *job,
                   const char *reason)
{
    attempt_move(coord, job, ATTEMPT_ABORTED, reason);
    close_it(coord, job);
    attempt_serve_waiting(coord, job);
}

/* With it, what it was made for. */
static void
give_up(struct coord *coord, struct coord_job *job, const char *reason)
{
    Retile__Coordinator__JobRecord *rec = job->rec;

    attempt_abort(coord, job, reason);
    if (job->host == NULL || job->host->session == 0 || job_is_over(job)) {
        return; /* its host is away: again when it is back */
    }
    job->n_again = 0;
    if (rec->making != NULL) {
        coord_message_free(rec->making);
        rec->making = NULL;
        job_move(coord, job, JOB_FAILED, reason);
    } else {
        change_drop(coord, job);
    }
}

void attempt_give_up(struct coord *coord,
                     struct coord_job *job,
                     const char *reason)
{
    const Retile__V1__Attempt *attempt = job->rec->job->attempt;

    if (attempt != NULL && attempt->state == ATTEMPT_OPEN) {
        give_up(coord, job, reason);
    }
}

void attempt_fail(struct coord *coord,
                  struct coord_job *job,
                  const Retile__V1__StatusAttempt *status)
{
    if (!status->may_come_again || job->n_again >= MAX_AGAIN) {
        attempt_give_up(coord, job, status->reason);
        return;
    }
    job->n_again++;
    attempt_abort(coord, job, status->reason);
}

/* The newest step that the generation saved and that is there; 0: none. */
static uint64_t last_step(const Retile__V1__Job *rec)
{
    uint64_t step = 0;

    for (size_t i = 0; i < rec->n_versions; i++) {
        const Retile__V1__Version *version = rec->versions[i];

        if (version->kind == ATTEMPT_SAVE && version->has_step &&
            version->number > rec->generation->load && version->step > step) {
            step = version->step;
        }
    }
    return step;
}

void attempt_lose(struct coord *coord,
                  struct coord_job *job,
                  const char *reason)
{
    Retile__V1__Job *rec = job->rec->job;

    if (rec->attempt->kind != ATTEMPT_SAVE) {
        give_up(coord, job, reason);
        return;
    }
    if (rec->attempt->state == ATTEMPT_COMMITTED &&
        rec->attempt->generation == rec->generation->number) {
        rec->generation->last_step = last_step(rec); /* it may come again */
    }
    attempt_abort(coord, job, reason);
    job_wake(coord, job);
}

void attempt_wait(struct coord *coord, struct coord_job *job)
{
    job->make_ns =
        coord->now.mono_ns + (int64_t)coord->limits.make_wait_ms * NS_PER_MS;
}

void attempt_commit(struct coord *coord,
                    struct coord_job *job,
                    const Retile__V1__Version *version)
{
    Retile__Coordinator__JobRecord *rec = job->rec;
    Retile__V1__Attempt *attempt = rec->job->attempt;

    rec->candidate = coord_copy(coord, version);
    if (rec->candidate == NULL) {
        return;
    }
    rec->candidate->number = attempt->number;
    rec->candidate->parent = attempt->parent;
    rec->candidate->kind = attempt->kind;
    rec->candidate->created_ns = coord->now.wall_ns;
    rec->candidate->opened_ns = attempt->opened_ns;
    coord_text(coord, &rec->candidate->pinned, "%s", "");
    job->make_ns = NO_NS;
    job->n_again = 0;
    if (attempt->kind == ATTEMPT_SAVE) {
        attempt_wait(coord, job);
    }
    attempt_note_committed(coord, job, attempt->number);
    attempt_move(coord, job, ATTEMPT_COMMITTED, "");
    if (attempt->kind == ATTEMPT_SAVE) {
        rec->job->n_restarts = 0;
        rec->job->generation->last_step = attempt->step;
    }
}

static void take_layout(struct coord *coord,
                        struct coord_job *job,
                        const Retile__V1__Version *version)
{
    Retile__V1__Job *rec = job->rec->job;

    coord_text(coord, &rec->layout, "%s", version->layout);
    coord_text(coord, &rec->mesh, "%s", version->mesh);
    rec->n_ranks = layout_mesh_ranks(version->mesh);
}

/* The first version is there: does the job train under another layout? */
static void then_layout(struct coord *coord, struct coord_job *job)
{
    Retile__Coordinator__JobRecord *rec = job->rec;
    AUTO_LAYOUT layout = {0};

    if (rec->then_layout[0] == '\0') {
        return;
    }
    if (layout_parse(rec->then_layout, &layout, NULL) != BASE_OK ||
        strcmp(layout.text.ptr, rec->job->layout) != 0) {
        change_begin(coord, job, "the layout that it was submitted with",
                     rec->then_layout, "", DEADLINE_S);
        change_phase(coord, job, CHANGE_MAKING);
    }
    coord_text(coord, &rec->then_layout, "%s", "");
}

static void count_lost(struct coord *coord,
                       struct coord_job *job,
                       const Retile__V1__Version *newest)
{
    const Retile__V1__Version *made = job->rec->candidate;

    if (newest != NULL && newest->has_step && made->has_step &&
        newest->step > made->step) {
        job->rec->job->lost_steps += newest->step - made->step;
        coord_tell(coord,
                   &(struct coord_about){.kind = EVENT_VERSION,
                                         .job = job,
                                         .version = made->number,
                                         .step = made->step},
                   "steps %" PRIu64 " to %" PRIu64 " are given up",
                   made->step + 1, newest->step);
    }
}

void attempt_ready(struct coord *coord,
                   struct coord_job *job,
                   const Retile__V1__Version *version)
{
    Retile__Coordinator__JobRecord *rec = job->rec;
    int kind = (int)rec->job->attempt->kind;

    if (rec->candidate == NULL) {
        return; /* memory was short */
    }
    rec->candidate->durability = version->durability;
    if (version->n_bytes > 0) {
        rec->candidate->n_bytes = version->n_bytes;
    }
    if (kind == ATTEMPT_ROLLBACK) {
        count_lost(coord, job, version_newest(job));
    }
    attempt_move(coord, job, ATTEMPT_READY, "");
    rec->candidate->ready_ns = rec->job->attempt->ready_ns;
    version_add(coord, job, rec->candidate);
    if (kind != ATTEMPT_SAVE) {
        take_layout(coord, job, rec->candidate);
    }
    close_it(coord, job);
    if (kind == ATTEMPT_IMPORT || kind == ATTEMPT_COPY) {
        coord_message_free(rec->making);
        rec->making = NULL;
        then_layout(coord, job);
    } else if (kind != ATTEMPT_SAVE && rec->job->change != NULL) {
        change_phase(coord, job, CHANGE_STARTING);
    }
    attempt_serve_waiting(coord, job);
}

/* The host where the job's first version is made. */
static struct coord_host *choose_host(struct coord *coord,
                                      struct coord_job *job)
{
    const Retile__V1__TargetAttempt *making = job->rec->making;
    const struct coord_job *from;

    if (making->kind == ATTEMPT_COPY) {
        from = job_find(coord, making->from_job);
        return from != NULL ? from->host : NULL;
    }
    return place_choose(coord, job, 0);
}

static bool make_first(struct coord *coord, struct coord_job *job, char *why)
{
    Retile__Coordinator__JobRecord *rec = job->rec;
    const struct coord_job *from;

    if (rec->making->kind == ATTEMPT_COPY) {
        from = job_find(coord, rec->making->from_job);
        if (from == NULL || version_find(from, rec->making->parent) == NULL) {
            (void)snprintf(why, WHY_BYTES, "%s@%" PRIu64 " is no more",
                           rec->making->from_job, rec->making->parent);
            coord_message_free(rec->making);
            rec->making = NULL;
            job_move(coord, job, JOB_FAILED, why);
            return false;
        }
    }
    if (job->host == NULL) {
        struct coord_host *host = choose_host(coord, job);

        if (host != NULL) {
            job_set_host(coord, job, host);
            coord_text(coord, &rec->job->host, "%s", host->rec->name);
        }
    }
    if (job->host == NULL || job->host->session == 0) {
        (void)snprintf(why, WHY_BYTES, "host %s is not connected",
                       rec->job->host[0] != '\0' ? rec->job->host : "(any)");
        return false;
    }
    rec->making->number = attempt_begin(coord, job, (int)rec->making->kind, 0);
    return true;
}

static bool make_change(struct coord *coord, struct coord_job *job, char *why)
{
    Retile__Coordinator__JobRecord *rec = job->rec;
    const Retile__V1__Change *change = rec->job->change;
    const Retile__V1__Version *newest = version_newest(job);
    bool is_rollback = change->rollback != 0;
    Retile__V1__TargetAttempt *making;

    if (is_rollback && version_find(job, change->rollback) == NULL) {
        change_drop(coord, job); /* it was lost meanwhile */
        return true;
    }
    if (!is_rollback &&
        (newest == NULL || strcmp(change->layout, rec->job->layout) == 0)) {
        coord_text(coord, &rec->job->layout, "%s", change->layout);
        coord_text(coord, &rec->job->mesh, "%s", change->mesh);
        rec->job->n_ranks = layout_mesh_ranks(change->mesh);
        change_phase(coord, job, CHANGE_STARTING);
        return true;
    }
    if (job->host == NULL || job->host->session == 0) {
        (void)snprintf(why, WHY_BYTES, "%s: host %s is not connected",
                       change->what, rec->job->host);
        return false;
    }
    making = malloc(sizeof(*making));
    if (making == NULL) {
        coord_no_mem(coord);
        return false;
    }
    retile__v1__target_attempt__init(making);
    rec->making = making;
    making->kind = (Retile__V1__AttemptKind)(is_rollback ? ATTEMPT_ROLLBACK
                                                         : ATTEMPT_RESCALE);
    making->parent = is_rollback ? change->rollback : newest->number;
    if (!is_rollback) {
        coord_text(coord, &making->layout, "%s", change->layout);
    }
    making->number =
        attempt_begin(coord, job, (int)making->kind, making->parent);
    return true;
}

bool attempt_make(struct coord *coord, struct coord_job *job, char *why)
{
    Retile__V1__Job *rec = job->rec->job;
    bool is_done = true;

    if (job->rec->making != NULL && rec->n_versions > 0 && rec->n_ranks > 0) {
        /* We are an old copy, and it was made. */
        coord_message_free(job->rec->making);
        job->rec->making = NULL;
        coord_text(coord, &job->rec->then_layout, "%s", "");
        job_touch(coord, job);
    }
    if (job->rec->making != NULL) {
        is_done = make_first(coord, job, why);
    } else if (rec->change != NULL && rec->change->phase == CHANGE_MAKING) {
        is_done = make_change(coord, job, why);
    }
    if (is_done && rec->attempt != NULL) {
        attempt_wait(coord, job);
        attempt_move(coord, job, ATTEMPT_OPEN, "");
    }
    return is_done;
}
