/* What the coordinator and people are told of a job. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "worker/agent.h"

void worker_room_done(struct worker_room *room)
{
    free(room->ranks);
    free(room->rank_list);
    *room = (struct worker_room){0};
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t highest(const struct worker_job *job)
{
    uint64_t number = job->record.highest;

    if (job->versions.n > 0) {
        number =
            max_u64(number, job->versions.items[job->versions.n - 1]->number);
    }
    for (size_t i = 0; i < job->votes.n; i++) {
        number = max_u64(number, job->votes.items[i].number);
    }
    return max_u64(number, job->tried);
}

static Retile__V1__RankState state_of(enum worker_rank_state state)
{
    switch (state) {
    case WORKER_RANK_UNKNOWN:
        break;
    case WORKER_RANK_WAITING:
        return RETILE__V1__RANK_STATE__RANK_WAITING;
    case WORKER_RANK_RUNNING:
        return RETILE__V1__RANK_STATE__RANK_RUNNING;
    case WORKER_RANK_EXITED:
        return RETILE__V1__RANK_STATE__RANK_EXITED;
    }
    return RETILE__V1__RANK_STATE__RANK_STATE_UNSPECIFIED;
}

static enum base_code add_ranks(const struct worker_record *record,
                                struct worker_room *room,
                                struct base_err *err)
{
    Retile__V1__StatusGeneration *said = &room->generation;

    room->ranks = calloc(record->ranks.n + 1, sizeof(*room->ranks));
    room->rank_list =
        calloc(record->ranks.n + 1, sizeof(Retile__V1__RankStatus *));
    if (room->ranks == NULL || room->rank_list == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot list ranks");
    }
    for (size_t i = 0; i < record->ranks.n; i++) {
        const struct worker_rank *rank = &record->ranks.items[i];
        Retile__V1__RankStatus *to = &room->ranks[said->n_ranks];

        if (rank->state == WORKER_RANK_UNKNOWN) {
            continue;
        }
        *to = (Retile__V1__RankStatus)RETILE__V1__RANK_STATUS__INIT;
        to->rank = rank->rank;
        to->state = state_of(rank->state);
        to->exit_code = rank->exit_code;
        to->signal = rank->signal;
        to->pid = rank->proc.pid;
        room->rank_list[said->n_ranks++] = to;
    }
    said->ranks = room->rank_list;
    return BASE_OK;
}

static enum base_code add_generation(const struct worker_job *job,
                                     struct worker_room *room,
                                     struct base_err *err)
{
    const struct worker_record *record = &job->record;

    if (record->generation == 0) {
        return BASE_OK;
    }
    room->generation =
        (Retile__V1__StatusGeneration)RETILE__V1__STATUS_GENERATION__INIT;
    room->generation.number = record->generation;
    room->generation.is_prepared = true;
    room->generation.master_port = record->port;
    room->generation.is_clear = record->is_clear;
    BASE_TRY(add_ranks(record, room, err));
    room->status.generation = &room->generation;
    return BASE_OK;
}

static void add_attempt(const struct worker_job *job, struct worker_room *room)
{
    union {
        const char *shown;
        char *field; /* a message's texts are not const */
    } reason = {.shown = job->failure};

    if (job->target == NULL || job->target->attempt == NULL ||
        job->target->attempt->number != job->failed) {
        return;
    }
    room->attempt = (Retile__V1__StatusAttempt)RETILE__V1__STATUS_ATTEMPT__INIT;
    room->attempt.number = job->failed;
    room->attempt.is_failed = true;
    room->attempt.reason = reason.field;
    room->attempt.may_come_again = job->may_come_again;
    room->status.attempt = &room->attempt;
}

/* The first of what keeps it from its target. */
static void add_trouble(const struct worker_job *job, struct worker_room *room)
{
    const char *what = "";
    const char *text = "";

    if (job->mount.trouble[0] != '\0') {
        what = "mount: ";
        text = job->mount.trouble;
    } else if (job->probe_trouble[0] != '\0') {
        text = job->probe_trouble;
    } else if (job->trouble[0] != '\0') {
        text = job->trouble;
    } else if (job->damaged != NULL) {
        what = "store: ";
        text = job->damaged;
    }
    (void)snprintf(room->trouble, sizeof(room->trouble), "%s%.380s", what,
                   text);
    room->status.trouble = room->trouble;
}

enum base_code worker_job_status(const struct worker_job *job,
                                 struct worker_room *room,
                                 struct base_err *err)
{
    Retile__V1__JobStatus *status = &room->status;

    *room = (struct worker_room){0};
    *status = (Retile__V1__JobStatus)RETILE__V1__JOB_STATUS__INIT;
    status->job = job->name;
    status->revision = job->target != NULL ? job->target->revision : 0;
    status->is_gone = job->is_gone;
    if (!job->is_gone) {
        status->versions = job->versions.items;
        status->n_versions = job->versions.n;
        BASE_TRY(add_generation(job, room, err));
    }
    add_attempt(job, room);
    status->plan = job->plan;
    add_trouble(job, room);
    status->has_launcher = job->launcher.call != NULL;
    status->max_restarts = job->launcher.max_restarts;
    status->highest = highest(job);
    status->highest_generation = job->record.highest_generation;
    return BASE_OK;
}

void worker_job_tell(struct worker_job *job)
{
    struct worker_session *session = job->agent->session;
    Retile__V1__FromAgent message = RETILE__V1__FROM_AGENT__INIT;
    BASE_AUTO_BUF bytes;
    __attribute__((cleanup(worker_room_done))) struct worker_room room = {0};

    base_buf_init(&bytes, WORKER_MAX_MESSAGE_BYTES);
    if (!worker_session_is_up(session) || !job->is_looked_at ||
        (job->is_gone && job->target == NULL) ||
        worker_job_status(job, &room, NULL) != BASE_OK ||
        worker_message_pack(&room.status.base, &bytes, NULL) != BASE_OK ||
        base_str_eq(base_buf_str(&bytes), base_buf_str(&job->status))) {
        return;
    }
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_JOB;
    message.job = &room.status;
    if (worker_session_send(session, &message)) {
        job->status.len = 0;
        (void)base_buf_add(&job->status, bytes.ptr, bytes.len); /* sticky */
        if (job->is_gone) { /* if that is lost, the next Hello has it not */
            rpc_message_free(&job->target->base);
            job->target = NULL;
        }
    }
}
