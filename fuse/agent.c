#include "fuse/agent.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <retile/v1/host.pb-c.h>

#include "fuse/agent_impl.h"
#include "fuse/commit.h"
#include "fuse/fs.h"
#include "proto/check.h"

enum { NS_PER_S = 1000000000, CLOSE_WAIT_NS = 1000000000 };

#define FIRST_WAIT_NS  ((int64_t)100000000)
#define MAX_WAIT_NS    ((int64_t)2 * NS_PER_S)
#define LAYOUT_WAIT_NS ((int64_t)5 * NS_PER_S)
#define RELOAD_NS      ((int64_t)NS_PER_S)

int64_t agent_now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* What came, on the layer's thread. */

static void take_texts(struct fs_agent *agent,
                       const Retile__V1__MountOrder *order)
{
    if (order->generation < agent->ordered) {
        return; /* of an agent that knows less */
    }
    agent->ordered = order->generation;
    (void)snprintf(agent->request, sizeof(agent->request), "%s",
                   order->request);
    free(agent->layout);
    agent->layout = order->layout[0] != '\0' ? strdup(order->layout) : NULL;
}

static void on_message(struct rpc_stream *stream,
                       void *ctx,
                       const ProtobufCMessage *message)
{
    const Retile__V1__MountOrder *order = (const void *)message;
    struct fs_agent *agent = ctx;
    AGENT_LOCKED(agent);

    (void)stream;
    agent->order = (struct fs_order){
        .generation = order->generation,
        .load = order->load,
        .next_step = order->next_step,
        .is_revoked = order->is_revoked,
    };
    take_texts(agent, order);
    agent->has_order = true;
    agent->is_told = true;
    agent->is_up = true;
    (void)pthread_cond_broadcast(&agent->changed);
}

static void
on_done(struct rpc_stream *stream, void *ctx, const struct rpc_status *status)
{
    struct fs_agent *agent = ctx;
    AGENT_LOCKED(agent);

    (void)stream;
    agent->is_open = false;
    (void)snprintf(agent->why, sizeof(agent->why), "%s: %s",
                   rpc_code_name(status->code), status->text);
    (void)pthread_cond_broadcast(&agent->changed);
}

static const struct rpc_stream_events stream_events = {
    .on_message = on_message,
    .on_done = on_done,
};

/* The thread. */

struct work {
    struct fs_agent *agent;
    struct rpc_stream *stream; /* NULL: none */
    int64_t open_ns;           /* when to call (again) */
    int64_t wait_ns;           /* and after that */
    int64_t reload_ns;         /* INT64_MAX: what is to be loaded is */
    uint64_t shown;
    bool is_report_due;
    bool was_up;
};

static void tell(struct work *work, enum base_level level, const char *what)
{
    fs_events_add(work->agent->fs->events, level, what, "gen",
                  work->agent->why);
}

static void open_call(struct work *work)
{
    struct fs_agent *agent = work->agent;
    struct base_err err;
    enum base_code rc;

    agent->is_open = true;
    (void)pthread_mutex_unlock(&agent->lock);
    rc =
        rpc_stream_open(agent->channel, &retile__v1__local__descriptor, "Mount",
                        NULL, &stream_events, agent, &work->stream, &err);
    (void)pthread_mutex_lock(&agent->lock);
    if (rc != BASE_OK) { /* no memory: later, perhaps */
        agent->is_open = false;
        (void)snprintf(agent->why, sizeof(agent->why), "%s", err.text);
    }
    work->is_report_due = rc == BASE_OK;
}

/* The call is over. */
static void close_call(struct work *work)
{
    rpc_stream_unref(work->stream);
    work->stream = NULL;
    work->open_ns = agent_now_ns() + work->wait_ns;
    work->wait_ns =
        work->wait_ns * 2 < MAX_WAIT_NS ? work->wait_ns * 2 : MAX_WAIT_NS;
    if (work->was_up) {
        tell(work, BASE_WARNING, "agent lost, calling again");
    }
    work->was_up = false;
    work->agent->is_up = false;
}

static void report(struct work *work)
{
    Retile__V1__MountReport message = RETILE__V1__MOUNT_REPORT__INIT;
    struct fs_agent *agent = work->agent;
    union {
        const char *shown;
        char *field; /* the layer writes to neither */
    } job = {agent->fs->options->job};
    char trouble[sizeof(agent->trouble)];

    memcpy(trouble, agent->trouble, sizeof(trouble));
    message.job = job.field;
    message.pid = agent->holder; /* the holder is the mount */
    message.generation = work->shown;
    message.trouble = trouble;
    work->is_report_due = false;
    (void)pthread_mutex_unlock(&agent->lock);
    (void)rpc_stream_send(work->stream, &message.base); /* else on_done tells */
    (void)pthread_mutex_lock(&agent->lock);
}

/* Lock held, but not while the order is followed. */
static void follow(struct work *work, bool is_order)
{
    struct fs_agent *agent = work->agent;
    const struct fs_order order = agent->order;
    struct base_err err = {0};
    enum base_code rc;
    uint64_t shown = 0;

    if (is_order && !work->was_up) {
        work->was_up = true;
        work->wait_ns = FIRST_WAIT_NS;
    }
    agent->has_order = false;
    fs_handover_ask(agent->fs->handover, agent->request);
    (void)pthread_mutex_unlock(&agent->lock);
    rc = fs_commit_order(agent->fs->commit, is_order ? &order : NULL, &shown,
                         &err);
    (void)pthread_mutex_lock(&agent->lock);
    work->is_report_due =
        is_order || rc == BASE_OK || strcmp(agent->trouble, err.text) != 0;
    if (rc != BASE_OK && strcmp(agent->trouble, err.text) != 0) {
        fs_events_add(agent->fs->events, BASE_ERROR, "generation not shown",
                      "gen", err.text);
    }
    work->reload_ns = rc == BASE_OK ? INT64_MAX : agent_now_ns() + RELOAD_NS;
    work->shown = rc == BASE_OK ? shown : work->shown;
    (void)snprintf(agent->trouble, sizeof(agent->trouble), "%s",
                   rc == BASE_OK ? "" : err.text);
}

/* Lock held. */
void agent_wait_until(struct fs_agent *agent, int64_t ns)
{
    const struct timespec until = {ns / NS_PER_S, ns % NS_PER_S};

    if (ns == INT64_MAX) {
        (void)pthread_cond_wait(&agent->changed, &agent->lock);
    } else {
        (void)pthread_cond_timedwait(&agent->changed, &agent->lock, &until);
    }
}

/* Lock held.  One thing that is to be done, or wait for one. */
static void turn(struct work *work)
{
    struct fs_agent *agent = work->agent;
    const int64_t now = agent_now_ns();
    int64_t until = agent_send_closes(agent);

    if (work->stream != NULL && !agent->is_open) {
        close_call(work);
    } else if (work->stream == NULL && now >= work->open_ns) {
        open_call(work);
    } else if (agent->has_order) {
        follow(work, true);
    } else if (now >= work->reload_ns) {
        follow(work, false);
    } else if (work->stream != NULL && work->is_report_due) {
        report(work);
    } else {
        if (work->stream == NULL && work->open_ns < until) {
            until = work->open_ns;
        }
        agent_wait_until(agent,
                         work->reload_ns < until ? work->reload_ns : until);
    }
}

static void *run(void *ctx)
{
    struct work work = {.agent = ctx,
                        .wait_ns = FIRST_WAIT_NS,
                        .reload_ns = 0}; /* of an earlier server */
    struct fs_agent *agent = ctx;

    (void)pthread_mutex_lock(&agent->lock);
    while (!agent->is_ending) {
        turn(&work);
    }
    (void)pthread_mutex_unlock(&agent->lock);
    if (work.stream != NULL) {
        rpc_stream_cancel(work.stream);
        rpc_stream_unref(work.stream);
    }
    return NULL;
}

/* Beginning and end. */

/* With a clock that nobody sets. */
static enum base_code make_cond(pthread_cond_t *cond, struct base_err *err)
{
    pthread_condattr_t attr;
    int errnum;

    (void)pthread_condattr_init(&attr); /* these never fail here */
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    errnum = pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    return errnum == 0 ? BASE_OK
                       : base_fail_errno(err, errnum, "cannot call the agent");
}

enum base_code
fs_agent_create(struct fs *fs, struct fs_agent **ret, struct base_err *err)
{
    const struct rpc_channel_options options = {.what = "the agent",
                                                .check = rpc_check};
    BASE_AUTO(fs_agent) agent = calloc(1, sizeof(*agent));
    const struct fs_generations *all = fs_handover_generations(fs->handover);

    if (agent == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot call the agent");
    }
    agent->fs = fs;
    agent->holder = getppid();
    (void)pthread_mutex_init(&agent->lock, NULL); /* never fails here */
    BASE_TRY(make_cond(&agent->changed, err));
    agent->ordered = all != NULL ? all->current : 0;
    agent_resume_closes(agent);
    (void)snprintf(agent->request, sizeof(agent->request), "%s",
                   fs_handover_asked(fs->handover));
    BASE_TRY(
        rpc_channel_open(fs->options->agent, &options, &agent->channel, err));
    *ret = base_steal(&agent);
    return BASE_OK;
}

enum base_code fs_agent_start(struct fs_agent *agent, struct base_err *err)
{
    int errnum = pthread_create(&agent->thread, NULL, run, agent);

    if (errnum != 0) {
        return base_fail_errno(err, errnum, "cannot start a thread");
    }
    agent->is_running = true;
    return BASE_OK;
}

void fs_agent_stop(struct fs_agent *agent)
{
    if (agent == NULL || !agent->is_running) {
        return;
    }
    fs_agent_interrupt(agent);
    (void)pthread_mutex_lock(&agent->lock);
    agent->is_ending = true;
    (void)pthread_cond_broadcast(&agent->changed);
    (void)pthread_mutex_unlock(&agent->lock);
    (void)pthread_join(agent->thread, NULL); /* ours, joined once */
    agent->is_running = false;
}

/* What is said of attempts at the very end, in so far as it can be said soon. */
static void finish_closes(struct fs_agent *agent)
{
    const int64_t end_ns = agent_now_ns() + CLOSE_WAIT_NS;
    AGENT_LOCKED(agent);

    while (agent_has_closes(agent) && agent_now_ns() < end_ns) {
        (void)agent_send_closes(agent);
        agent_wait_until(agent, end_ns);
    }
}

void fs_agent_free(struct fs_agent *agent)
{
    if (agent == NULL) {
        return;
    }
    fs_agent_stop(agent);
    if (agent->channel != NULL) {
        finish_closes(agent);
        rpc_channel_free(agent->channel);
    }
    free(agent->layout);
    (void)pthread_cond_destroy(&agent->changed);
    (void)pthread_mutex_destroy(&agent->lock);
    free(agent);
}

/* What it says. */

size_t fs_agent_request(struct fs_agent *agent,
                        uint64_t generation,
                        char ret[FS_REQUEST_BYTES])
{
    AGENT_LOCKED(agent);

    (void)snprintf(ret, FS_REQUEST_BYTES, "%s",
                   generation == agent->ordered ? agent->request : "");
    return strlen(ret);
}

char *fs_agent_layout(struct fs_agent *agent)
{
    const int64_t end_ns = agent_now_ns() + LAYOUT_WAIT_NS;
    AGENT_LOCKED(agent);

    while (!agent->is_told && !agent_is_interrupted() &&
           agent_now_ns() < end_ns) {
        agent_wait_until(agent, end_ns);
    }
    return agent->layout != NULL ? strdup(agent->layout) : NULL;
}

void fs_agent_status(struct fs_agent *agent, struct fs_agent_status *ret)
{
    AGENT_LOCKED(agent);

    ret->is_connected = agent->is_up;
    ret->ordered = agent->ordered;
    (void)snprintf(ret->trouble, sizeof(ret->trouble), "%s", agent->trouble);
}
