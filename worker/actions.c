/* What was decided is done. */
#include <signal.h>

#include "base/log.h"
#include "worker/agent.h"

bool worker_job_work(struct worker_job *job,
                     enum worker_work_kind kind,
                     uint64_t number)
{
    struct worker_work *work = worker_work_create(kind, job->name, job->target);

    if (work == NULL) { /* decided again in the next turn that comes */
        base_log(BASE_WARNING, "out of memory, retrying", "job", job->name);
        job->wake_ns = worker_now_ns() + WORKER_AGAIN_NS;
        return false;
    }
    work->number = number;
    job->n_working++;
    worker_store_do(job->agent->store, work);
    return true;
}

static void gone(struct worker_job *job)
{
    if (!job->is_gone) {
        job->is_gone = true;
        worker_record_remove(job->agent->records_fd, job->name);
        worker_points_remove(&job->agent->points, job->name);
        base_log(BASE_NOTICE, "a job is gone", "job", job->name);
        worker_job_touch(job);
    }
}

void worker_job_act(struct worker_job *job, unsigned todo)
{
    if ((todo & WORKER_LOOK_VOTES) != 0) {
        (void)worker_job_work(job, WORKER_WORK_VOTES, 0); /* decided again */
    }
    if ((todo & WORKER_KILL) != 0) {
        job->killed_ns = worker_now_ns();
        worker_job_scan(job, SIGKILL);
    }
    if ((todo & WORKER_SCAN) != 0) {
        worker_job_scan(job, 0);
    }
    if ((todo & WORKER_MOUNT_CLEAN) != 0) {
        worker_mount_clean(job);
    }
    if ((todo & WORKER_MOUNT_START) != 0) {
        worker_mount_start(job);
    }
    if ((todo & WORKER_MOUNT_END) != 0) {
        worker_mount_end(job);
    }
    if ((todo & WORKER_MOUNT_KILL) != 0) {
        worker_mount_kill(job);
    }
    if ((todo & WORKER_PROBE) != 0) {
        worker_mount_probe(job);
    }
    if ((todo & WORKER_ATTEMPT) != 0) {
        if (worker_job_work(job, WORKER_WORK_ATTEMPT, 0)) {
            job->tried = job->target->attempt->number;
        }
    }
    if ((todo & WORKER_PLAN) != 0) {
        (void)worker_job_work(job, WORKER_WORK_PLAN, 0);
    }
    if ((todo & WORKER_TIDY) != 0) {
        (void)worker_job_work(job, WORKER_WORK_TIDY, 0);
    }
    if ((todo & WORKER_REMOVE) != 0) {
        (void)worker_job_work(job, WORKER_WORK_REMOVE, 0);
    }
    if ((todo & WORKER_GONE) != 0) {
        gone(job);
    }
}
