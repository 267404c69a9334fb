#include "cli/launch_link.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "cli/cli.h"
#include "proto/check.h"
#include "proto/rpc_client.h"

#define MS_NS          ((int64_t)1000000)
#define FIRST_RETRY_NS (100 * MS_NS)
#define LAST_RETRY_NS  (2000 * MS_NS)
#define GOODBYE_NS     (500 * MS_NS)
/* A call that stands so long has found its agent, which may have nothing to
 * order yet. */
#define STANDING_NS (1000 * MS_NS)

struct cli_link {
    struct rpc_channel *channel;
    int event_fd; /* rung by the layer's thread */

    /* Owner: the main thread. */
    struct rpc_stream *stream; /* NULL: no call */
    struct rpc_packed *report; /* the newest; NULL: none */
    int64_t lost_ns;           /* when the call ended; 0: there is one */
    int64_t retry_ns;          /* when to call again */
    int64_t begun_ns;          /* when the call was made */
    int64_t pause_ns;          /* between two tries */
    struct base_err why;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ended_cond;
    Retile__V1__LaunchOrder *order; /* not taken yet */
    bool is_deaf;                   /* until the next call */
    bool has_answered;              /* an order came in this call */
    bool has_ended;
    struct rpc_status status;
};

static void ring(struct cli_link *link)
{
    uint64_t one = 1;
    ssize_t n = write(link->event_fd, &one, sizeof(one));

    (void)n; /* EAGAIN: rung often enough */
}

/* A copy through the wire's form: the layer lends its message only. */
static Retile__V1__LaunchOrder *copy(const ProtobufCMessage *message)
{
    size_t n = protobuf_c_message_get_packed_size(message);
    BASE_AUTO_MEM uint8_t *bytes = malloc(n + 1);

    if (bytes == NULL) {
        return NULL;
    }
    (void)protobuf_c_message_pack(message, bytes); /* gives n */
    return retile__v1__launch_order__unpack(NULL, n, bytes);
}

static void on_message(struct rpc_stream *stream,
                       void *ctx,
                       const ProtobufCMessage *message)
{
    struct cli_link *link = ctx;
    Retile__V1__LaunchOrder *order = copy(message);
    Retile__V1__LaunchOrder *old = order;

    (void)stream;
    (void)pthread_mutex_lock(&link->lock);
    if (order != NULL && !link->is_deaf) {
        old = link->order;
        link->order = order;
        link->has_answered = true;
    }
    (void)pthread_mutex_unlock(&link->lock);
    if (old != NULL) {
        retile__v1__launch_order__free_unpacked(old, NULL);
    }
    if (order == NULL) {
        rpc_stream_cancel(stream); /* it comes again with the next call */
    }
    ring(link);
}

static void
on_done(struct rpc_stream *stream, void *ctx, const struct rpc_status *status)
{
    struct cli_link *link = ctx;

    (void)stream;
    (void)pthread_mutex_lock(&link->lock);
    link->has_ended = true;
    link->status = *status;
    (void)pthread_cond_broadcast(&link->ended_cond);
    (void)pthread_mutex_unlock(&link->lock);
    ring(link);
}

static const struct rpc_stream_events events = {
    .on_message = on_message,
    .on_done = on_done,
};

/* Let what was sent last arrive. */
static void say_goodbye(struct cli_link *link)
{
    struct timespec until = {0};

    rpc_stream_half_close(link->stream);
    (void)clock_gettime(CLOCK_MONOTONIC, &until); /* cannot fail */
    until.tv_nsec += GOODBYE_NS;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    (void)pthread_mutex_lock(&link->lock);
    while (!link->has_ended &&
           pthread_cond_timedwait(&link->ended_cond, &link->lock, &until) ==
               0) {
    }
    (void)pthread_mutex_unlock(&link->lock);
}

void cli_link_free(struct cli_link *link)
{
    if (link == NULL) {
        return;
    }
    if (link->stream != NULL) {
        say_goodbye(link);
        rpc_stream_unref(link->stream);
    }
    rpc_channel_free(link->channel);
    rpc_packed_unref(link->report);
    if (link->order != NULL) {
        retile__v1__launch_order__free_unpacked(link->order, NULL);
    }
    if (link->event_fd >= 0) {
        (void)close(link->event_fd); /* cannot fail */
    }
    (void)pthread_cond_destroy(&link->ended_cond);
    (void)pthread_mutex_destroy(&link->lock);
    free(link);
}

static bool init_lock(struct cli_link *link)
{
    pthread_condattr_t attr;
    bool is_ok;

    if (pthread_condattr_init(&attr) != 0) {
        return false;
    }
    is_ok = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
            pthread_cond_init(&link->ended_cond, &attr) == 0;
    (void)pthread_condattr_destroy(&attr);
    return is_ok && pthread_mutex_init(&link->lock, NULL) == 0;
}

enum base_code
cli_link_open(const char *address, struct cli_link **ret, struct base_err *err)
{
    const struct rpc_channel_options options = {
        .what = "the agent",
        .check = rpc_check,
    };
    BASE_AUTO_MEM struct cli_link *raw = calloc(1, sizeof(*raw));
    BASE_AUTO(cli_link) link = NULL;

    if (raw == NULL || !init_lock(raw)) {
        return base_fail(err, BASE_NO_MEM, "cannot open a call");
    }
    link = base_steal(&raw);
    link->pause_ns = FIRST_RETRY_NS;
    link->lost_ns = cli_now_ns();
    link->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (link->event_fd < 0) {
        return base_fail_errno(err, errno, "cannot make an eventfd");
    }
    BASE_TRY(rpc_channel_open(address, &options, &link->channel, err));
    *ret = base_steal(&link);
    return BASE_OK;
}

int cli_link_fd(const struct cli_link *link)
{
    return link->event_fd;
}

/* Is a call that ended so not to be made again? */
static bool is_final(enum rpc_code code)
{
    return code == RPC_ABORTED || code == RPC_INVALID_ARGUMENT ||
           code == RPC_PERMISSION_DENIED || code == RPC_UNAUTHENTICATED ||
           code == RPC_UNIMPLEMENTED;
}

/* The call has ended: wait a little longer each time, unless it had worked. */
static enum base_code
end_call(struct cli_link *link, int64_t now_ns, struct base_err *err)
{
    enum base_code rc;

    rpc_stream_unref(base_steal(&link->stream));
    rc = rpc_channel_fail(link->channel, &link->status, &link->why);
    if (is_final(link->status.code)) {
        return base_fail(err,
                         link->status.code == RPC_ABORTED ? BASE_EXISTS : rc,
                         "%s", link->why.text);
    }
    link->lost_ns = link->lost_ns == 0 ? now_ns : link->lost_ns;
    if (link->has_answered) {
        link->lost_ns = now_ns;
        link->pause_ns = FIRST_RETRY_NS;
    }
    link->retry_ns = now_ns + link->pause_ns;
    link->pause_ns =
        link->pause_ns * 2 > LAST_RETRY_NS ? LAST_RETRY_NS : link->pause_ns * 2;
    return BASE_OK;
}

static enum base_code begin_call(struct cli_link *link, struct base_err *err)
{
    link->has_ended = false;
    link->has_answered = false;
    link->is_deaf = false; /* the last call is over: nobody else writes it */
    link->begun_ns = cli_now_ns();
    BASE_TRY(rpc_stream_open(link->channel, &retile__v1__local__descriptor,
                             "Launch", NULL, &events, link, &link->stream,
                             err));
    if (link->report != NULL) {
        /* Not sent: the call is over, which is told by itself. */
        (void)rpc_stream_send_packed(link->stream, link->report);
    }
    return BASE_OK;
}

enum base_code cli_link_tick(struct cli_link *link,
                             int64_t now_ns,
                             int64_t *ret_wait_ns,
                             struct base_err *err)
{
    uint64_t rung;
    ssize_t n = read(link->event_fd, &rung, sizeof(rung));
    bool has_ended;

    (void)n; /* EAGAIN: it was not rung */
    (void)pthread_mutex_lock(&link->lock);
    has_ended = link->has_ended;
    if (!has_ended && link->stream != NULL &&
        (link->has_answered || now_ns - link->begun_ns >= STANDING_NS)) {
        link->lost_ns = 0;
    }
    (void)pthread_mutex_unlock(&link->lock);
    if (link->stream != NULL && has_ended) {
        BASE_TRY(end_call(link, now_ns, err));
    }
    if (link->stream == NULL && now_ns >= link->retry_ns) {
        BASE_TRY(begin_call(link, err));
    }
    *ret_wait_ns = -1;
    if (link->stream == NULL) {
        *ret_wait_ns = link->retry_ns - now_ns;
    } else if (link->lost_ns != 0) {
        *ret_wait_ns = STANDING_NS;
    }
    return BASE_OK;
}

Retile__V1__LaunchOrder *cli_link_take(struct cli_link *link)
{
    Retile__V1__LaunchOrder *order;

    (void)pthread_mutex_lock(&link->lock);
    order = base_steal(&link->order);
    (void)pthread_mutex_unlock(&link->lock);
    return order;
}

void cli_link_renew(struct cli_link *link)
{
    Retile__V1__LaunchOrder *order;

    if (link->stream == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&link->lock);
    order = base_steal(&link->order);
    link->is_deaf = true;
    (void)pthread_mutex_unlock(&link->lock);
    if (order != NULL) {
        retile__v1__launch_order__free_unpacked(order, NULL);
    }
    rpc_stream_cancel(link->stream);
}

void cli_link_report(struct cli_link *link,
                     const Retile__V1__LaunchReport *report)
{
    struct rpc_packed *packed = rpc_packed_create(&report->base);

    if (packed == NULL) {
        return; /* the next report has all of this one, too */
    }
    rpc_packed_unref(link->report);
    link->report = packed;
    if (link->stream != NULL) {
        (void)rpc_stream_send_packed(link->stream, packed); /* as above */
    }
}

int64_t cli_link_lost_ns(const struct cli_link *link)
{
    return link->lost_ns;
}

const char *cli_link_why(const struct cli_link *link)
{
    return link->why.text;
}
