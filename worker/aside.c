#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/agent.h"

static void close_all(struct worker_aside *aside)
{
    for (size_t i = 0; i < aside->n_fds; i++) {
        (void)close(aside->fds[i]); /* was only opened */
    }
    aside->n_fds = 0;
}

static void aside_free(struct worker_aside *aside)
{
    close_all(aside);
    free(aside->fds);
    free(aside->ranks);
    free(aside->path);
    free(aside->job);
    free(aside);
}

static void on_done(struct worker_post *post)
{
    struct worker_aside *aside = (struct worker_aside *)(void *)post;
    struct worker_job *job = worker_agent_job(aside->agent, aside->job);

    aside->done(aside, job);
    if (job != NULL) {
        worker_job_touch(job);
    }
    aside_free(aside);
}

static void *run(void *ctx)
{
    struct worker_aside *aside = ctx;
    struct worker_agent *agent = aside->agent;

    aside->run(aside);
    aside->post.fn = on_done;
    worker_loop_post(agent->loop, &aside->post);
    /* Last: whoever waits for it frees the agent. */
    (void)atomic_fetch_sub(&agent->n_aside, 1);
    return NULL;
}

static void done_close(struct worker_aside *aside, struct worker_job *job)
{
    (void)aside;
    (void)job;
}

void worker_aside_close(struct worker_job *job, int **fds, size_t *n)
{
    struct worker_aside *aside = *n == 0 ? NULL : calloc(1, sizeof(*aside));

    if (aside == NULL) {
        return;
    }
    aside->run = close_all;
    aside->done = done_close;
    aside->fds = base_steal(fds);
    aside->n_fds = *n;
    *n = 0;
    (void)worker_aside_start(job, aside); /* else they are closed here */
}

bool worker_aside_start(struct worker_job *job, struct worker_aside *aside)
{
    pthread_attr_t attr;
    pthread_t thread;
    int errnum;

    aside->agent = job->agent;
    aside->job = strdup(job->name);
    if (aside->job == NULL) {
        aside_free(aside);
        return false;
    }
    (void)atomic_fetch_add(&job->agent->n_aside, 1);
    (void)pthread_attr_init(&attr); /* as the next: cannot fail here */
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    errnum = pthread_create(&thread, &attr, run, aside);
    (void)pthread_attr_destroy(&attr);
    if (errnum != 0) {
        (void)atomic_fetch_sub(&job->agent->n_aside, 1);
        aside_free(aside);
        return false;
    }
    return true;
}
