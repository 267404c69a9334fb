/* Owner of everything but the queue: the loop. */
#include "coordinator/driver.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <retile/v1/watch.pb-c.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/fault.h"

/* One batch: few enough that the first does not wait long for the last. */
enum { BATCH_STEPS = 256, BATCH_BYTES = 16 << 20 };

/* The loop looks at the clock so often, or it is stalled: the disk is slow, the
 * process was stopped. */
enum { STALL_NS = 250 * 1000 * 1000 };

struct coord_driver {
    struct coord_driver_options options;
    struct coord *core;
    struct coord_actions actions;
    BASE_VEC(struct persist_event) events; /* of the batch */
    struct coord_node *pending;     /* taken from the queue, not stepped yet */
    struct coord_waiter *waiters;   /* by ticket */
    struct coord_session *sessions; /* by number */
    uint64_t next_ticket;
    uint64_t next_session;
    int64_t core_ns;    /* the core's time, when the loop last looked */
    int64_t stalled_ns; /* what the clock is ahead of it */
    pthread_t thread;
    bool is_started;
    bool has_failed;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct coord_node *head; /* guarded by lock, as all below */
    struct coord_node **tail;
    unsigned n_calls; /* in the queue or pending */
    bool is_stopping;
    struct coord_driver_stats stats;
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};

    (void)clock_gettime(clock, &now); /* these clocks are always there */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The core's time.  The loop was to look by @due_ns; what it is late beyond
 * STALL_NS has not been for the core, so that nobody is late whom it could not
 * hear. */
static int64_t look(struct coord_driver *driver, int64_t due_ns)
{
    int64_t now_ns = clock_ns(CLOCK_MONOTONIC) - driver->stalled_ns;

    if (now_ns - STALL_NS > due_ns) {
        driver->stalled_ns += now_ns - STALL_NS - driver->core_ns;
        now_ns = driver->core_ns + STALL_NS;
    }
    driver->core_ns = now_ns;
    return now_ns;
}

static struct coord_time time_now(struct coord_driver *driver)
{
    return (struct coord_time){look(driver, driver->core_ns),
                               clock_ns(CLOCK_REALTIME)};
}

/* --- the queue: any thread ---------------------------------------------- */

static void push(struct coord_driver *driver, struct coord_node *node)
{
    node->next = NULL;
    *driver->tail = node;
    driver->tail = &node->next;
    (void)pthread_cond_signal(&driver->wake); /* cannot fail */
}

enum base_code coord_driver_call(struct coord_driver *driver,
                                 struct coord_waiter *waiter,
                                 ProtobufCMessage *message,
                                 struct base_err *err)
{
    enum base_code code = BASE_OK;

    waiter->node = (struct coord_node){
        .kind = COORD_CALL, .message = message, .waiter = waiter};
    (void)pthread_mutex_lock(&driver->lock);
    if (driver->is_stopping) {
        code = base_fail(err, BASE_INTERRUPTED, "the coordinator stops");
    } else if (driver->n_calls >= driver->options.max_calls) {
        code = base_fail(err, BASE_LIMIT, "%u calls wait already: come again",
                         driver->n_calls);
    } else {
        driver->n_calls++;
        push(driver, &waiter->node);
    }
    (void)pthread_mutex_unlock(&driver->lock);
    return code;
}

static void push_session(struct coord_driver *driver,
                         struct coord_session *session,
                         struct coord_node *node,
                         enum coord_event_kind kind,
                         ProtobufCMessage *message)
{
    bool is_late;

    *node = (struct coord_node){
        .kind = kind, .message = message, .session = session};
    (void)pthread_mutex_lock(&driver->lock);
    is_late = driver->is_stopping && !driver->is_started;
    if (!is_late) {
        push(driver, node);
    }
    (void)pthread_mutex_unlock(&driver->lock);
    if (is_late) { /* the loop is gone */
        rpc_message_free(message);
        if (kind == COORD_SESSION_CLOSED) {
            session->closed(session);
        }
    }
}

void coord_driver_open(struct coord_driver *driver,
                       struct coord_session *session,
                       ProtobufCMessage *message)
{
    push_session(driver, session, &session->says, COORD_SESSION_OPEN, message);
}

void coord_driver_say(struct coord_driver *driver,
                      struct coord_session *session,
                      ProtobufCMessage *message)
{
    push_session(driver, session, &session->says, COORD_SESSION_SAYS, message);
}

void coord_driver_close(struct coord_driver *driver,
                        struct coord_session *session)
{
    push_session(driver, session, &session->closing, COORD_SESSION_CLOSED,
                 NULL);
}

struct coord_driver_stats coord_driver_stats_get(struct coord_driver *driver)
{
    struct coord_driver_stats stats;

    (void)pthread_mutex_lock(&driver->lock);
    stats = driver->stats;
    (void)pthread_mutex_unlock(&driver->lock);
    return stats;
}

/* --- the loop ------------------------------------------------------------ */

/* Wait until something is queued, but not beyond @until_ns, nor for long: a
 * process that was stopped is seen by that. */
static void wait_a_while(struct coord_driver *driver, int64_t until_ns)
{
    struct timespec until;

    if (until_ns > driver->core_ns + STALL_NS) {
        until_ns = driver->core_ns + STALL_NS;
    }
    until.tv_sec = (until_ns + driver->stalled_ns) / 1000000000;
    until.tv_nsec = (until_ns + driver->stalled_ns) % 1000000000;
    /* Its result does not matter: who calls looks at the clock. */
    (void)pthread_cond_timedwait(&driver->wake, &driver->lock, &until);
    (void)look(driver, until_ns);
}

/* Wait until something waits, the core's time has come, or we stop; false: we
 * stop and nothing is left. */
static bool take(struct coord_driver *driver)
{
    const int64_t next_ns = driver->actions.next_ns;
    bool has_work;

    if (driver->pending != NULL) {
        return true;
    }
    (void)look(driver, driver->core_ns);
    (void)pthread_mutex_lock(&driver->lock);
    while (driver->head == NULL && !driver->is_stopping &&
           driver->core_ns < next_ns) {
        wait_a_while(driver, next_ns);
    }
    driver->pending = driver->head;
    driver->head = NULL;
    driver->tail = &driver->head;
    has_work = driver->pending != NULL || !driver->is_stopping;
    (void)pthread_mutex_unlock(&driver->lock);
    return has_work;
}

static void answer(struct coord_driver *driver,
                   struct coord_waiter *waiter,
                   const struct rpc_status *status,
                   const ProtobufCMessage *message)
{
    HASH_DEL(driver->waiters, waiter);
    waiter->answer(waiter, status, message);
}

/* May the caller speak for the session that it names?  The core knows whether
 * there is such a session; certificates are ours. */
static bool is_of_host(struct coord_driver *driver,
                       const struct coord_waiter *waiter)
{
    struct coord_session *session = NULL;

    if (waiter->host == NULL) {
        return true;
    }
    HASH_FIND(hh, driver->sessions, &waiter->session_number,
              sizeof(waiter->session_number), session);
    return session == NULL || strcmp(session->host, waiter->host) == 0;
}

static enum base_code step_call(struct coord_driver *driver,
                                struct coord_waiter *waiter,
                                const ProtobufCMessage *message,
                                struct base_err *err)
{
    static const struct rpc_status denied = {RPC_PERMISSION_DENIED,
                                             "the session is another host's"};
    struct coord_event event = {.kind = COORD_CALL,
                                .now = time_now(driver),
                                .method = waiter->method,
                                .message = message};

    waiter->ticket = event.ticket = driver->next_ticket++;
    HASH_ADD(hh, driver->waiters, ticket, sizeof(waiter->ticket), waiter);
    if (!is_of_host(driver, waiter)) {
        answer(driver, waiter, &denied, NULL);
        return BASE_OK;
    }
    return coord_step(driver->core, &event, &driver->actions, err);
}

static enum base_code step_session(struct coord_driver *driver,
                                   const struct coord_node *node,
                                   struct base_err *err)
{
    struct coord_session *session = node->session;
    struct coord_event event = {
        .kind = node->kind, .now = time_now(driver), .message = node->message};
    enum base_code code;

    if (node->kind == COORD_SESSION_OPEN) {
        session->number = driver->next_session++;
        HASH_ADD(hh, driver->sessions, number, sizeof(session->number),
                 session);
    }
    event.session = session->number;
    code = coord_step(driver->core, &event, &driver->actions, err);
    if (node->kind == COORD_SESSION_CLOSED) {
        HASH_DEL(driver->sessions, session);
        session->closed(session);
    } else {
        session->stepped(session);
    }
    return code;
}

/* Step what is pending, up to one batch. */
static enum base_code
step_pending(struct coord_driver *driver, int64_t due_ns, struct base_err *err)
{
    const struct coord_event tick = {.kind = COORD_TICK,
                                     .now = time_now(driver)};
    enum base_code code = BASE_OK;
    unsigned n_calls = 0;
    unsigned n = 0;

    if (tick.now.mono_ns >= due_ns) {
        code = coord_step(driver->core, &tick, &driver->actions, err);
        n++;
    }
    while (code == BASE_OK && driver->pending != NULL && n < BATCH_STEPS &&
           base_arena_bytes(driver->actions.arena) < BATCH_BYTES) {
        struct coord_node *node = driver->pending;
        ProtobufCMessage *message = node->message;

        /* The node goes with its owner in what follows. */
        driver->pending = node->next;
        if (node->kind == COORD_CALL) {
            n_calls++;
            code = step_call(driver, node->waiter, message, err);
        } else {
            code = step_session(driver, node, err);
        }
        rpc_message_free(message);
        n++;
    }
    (void)pthread_mutex_lock(&driver->lock);
    driver->n_calls -= n_calls;
    driver->stats.n_steps += n;
    (void)pthread_mutex_unlock(&driver->lock);
    return code;
}

static enum base_code pack_events(struct coord_driver *driver,
                                  struct base_err *err)
{
    struct coord_actions *actions = &driver->actions;

    driver->events.n = 0;
    for (size_t i = 0; i < actions->events.n; i++) {
        const ProtobufCMessage *message = actions->events.items[i];
        const size_t n = protobuf_c_message_get_packed_size(message);
        char *body = base_arena_alloc(actions->arena, n + 1, 1);
        struct persist_event event = {
            .revision = ((const Retile__V1__Event *)message)->revision,
            .body = {body, n}};

        if (body == NULL || !base_vec_push(&driver->events, event)) {
            return base_fail(err, BASE_NO_MEM, "cannot write an event");
        }
        (void)protobuf_c_message_pack(message, (uint8_t *)body);
    }
    return BASE_OK;
}

/* Make durable what the steps have done. */
static enum base_code commit(struct coord_driver *driver, struct base_err *err)
{
    struct persist *persist = driver->options.persist;
    struct persist_batch batch;

    BASE_TRY(coord_flush(driver->core, &driver->actions, err));
    BASE_TRY(pack_events(driver, err));
    batch = (struct persist_batch){.records = driver->actions.records.items,
                                   .n_records = driver->actions.records.n,
                                   .events = driver->events.items,
                                   .n_events = driver->events.n};
    if (batch.n_records + batch.n_events == 0) {
        return BASE_OK;
    }
    BASE_TRY(base_fault_check(BASE_FAULT_coordinator_commit, err));
    BASE_TRY(persist->ops->commit(persist, &batch, err));
    BASE_TRY(base_fault_check(BASE_FAULT_coordinator_committed, err));
    (void)pthread_mutex_lock(&driver->lock);
    driver->stats.n_commits++;
    driver->stats.n_records += batch.n_records;
    driver->stats.n_events += batch.n_events;
    (void)pthread_mutex_unlock(&driver->lock);
    return BASE_OK;
}

/* What may be seen, now that it is durable. */
static void tell(struct coord_driver *driver)
{
    struct coord_actions *actions = &driver->actions;

    /* The first: who has an answer finds what it did in a watch. */
    if (driver->events.n > 0) {
        driver->options.on_events(driver->options.ctx, driver->events.items,
                                  driver->events.n);
    }
    for (size_t i = 0; i < actions->replies.n; i++) {
        const struct coord_reply *reply = &actions->replies.items[i];
        struct coord_waiter *waiter = NULL;

        HASH_FIND(hh, driver->waiters, &reply->ticket, sizeof(reply->ticket),
                  waiter);
        assert(waiter != NULL); /* the core answers a ticket once */
        answer(driver, waiter, &reply->status, reply->message);
    }
    for (size_t i = 0; i < actions->sends.n; i++) {
        const struct coord_send *send = &actions->sends.items[i];
        struct coord_session *session = NULL;

        HASH_FIND(hh, driver->sessions, &send->session, sizeof(send->session),
                  session);
        if (session != NULL) { /* else its stream ended in this batch */
            session->send(session, send->message, &send->status);
        }
    }
}

static enum base_code run_batch(struct coord_driver *driver,
                                struct base_err *err)
{
    const int64_t due_ns = driver->actions.next_ns;

    coord_actions_clear(&driver->actions);
    BASE_TRY(step_pending(driver, due_ns, err));
    BASE_TRY(commit(driver, err));
    tell(driver);
    (void)pthread_mutex_lock(&driver->lock);
    driver->stats.n_sessions = HASH_COUNT(driver->sessions);
    driver->stats.n_waiting = HASH_COUNT(driver->waiters);
    (void)pthread_mutex_unlock(&driver->lock);
    return BASE_OK;
}

static void forget_session(struct coord_driver *driver,
                           const struct coord_session *session)
{
    struct coord_session *known = NULL;

    HASH_FIND(hh, driver->sessions, &session->number, sizeof(session->number),
              known);
    if (known != NULL) { /* else its Hello was not stepped */
        HASH_DEL(driver->sessions, known);
    }
}

/* Nobody is left waiting: the loop has ended. */
static void let_go(struct coord_driver *driver)
{
    static const struct rpc_status stopping = {RPC_UNAVAILABLE,
                                               "the coordinator stops"};
    struct coord_waiter *waiter;
    struct coord_waiter *next_waiter;
    struct coord_session *session;
    struct coord_session *next_session;

    for (struct coord_node *node = driver->pending; node != NULL;) {
        struct coord_node *next = node->next;

        rpc_message_free(node->message);
        if (node->kind == COORD_CALL) {
            node->waiter->answer(node->waiter, &stopping, NULL);
        } else if (node->kind == COORD_SESSION_CLOSED) {
            forget_session(driver, node->session);
            node->session->closed(node->session);
        }
        node = next;
    }
    driver->pending = NULL;
    HASH_ITER(hh, driver->waiters, waiter, next_waiter)
    {
        answer(driver, waiter, &stopping, NULL);
    }
    /* Their streams end by themselves, and are closed then. */
    HASH_ITER(hh, driver->sessions, session, next_session)
    {
        HASH_DEL(driver->sessions, session);
        session->send(session, NULL, &stopping);
    }
}

static void *loop(void *arg)
{
    struct coord_driver *driver = arg;
    struct base_err err = {0};

    while (take(driver)) {
        if (run_batch(driver, &err) != BASE_OK) {
            driver->has_failed = true;
            driver->options.on_failed(driver->options.ctx, &err);
            return NULL;
        }
    }
    return NULL;
}

/* --- life ---------------------------------------------------------------- */

static enum base_code
load_record(void *ctx, const struct coord_record *record, struct base_err *err)
{
    struct coord_driver *driver = ctx;

    return coord_load(driver->core, record->kind, record->id, record->body,
                      err);
}

static enum base_code
begin(struct coord_driver *driver, uint64_t *ret_newest, struct base_err *err)
{
    struct persist *persist = driver->options.persist;
    uint64_t oldest;
    uint64_t random;

    BASE_TRY(coord_actions_init(&driver->actions, err));
    BASE_TRY(coord_create(&driver->options.limits, &driver->core, err));
    BASE_TRY(persist->ops->load(persist, load_record, driver, &oldest,
                                ret_newest, err));
    BASE_TRY(coord_begin(driver->core, *ret_newest, time_now(driver),
                         &driver->actions, err));
    BASE_TRY(commit(driver, err));
    /* Above anything that a run before us has given, but for a chance of one in
     * 2^42 for each run: 2^20 sessions each. */
    if (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
        return base_fail_errno(err, errno, "getrandom");
    }
    driver->next_session = ((random >> 22) << 20) + 1;
    driver->next_ticket = 1;
    if (driver->events.n > 0) {
        *ret_newest = driver->events.items[driver->events.n - 1].revision;
    }
    return BASE_OK;
}

enum base_code coord_driver_create(const struct coord_driver_options *options,
                                   struct coord_driver **ret,
                                   uint64_t *ret_newest,
                                   struct base_err *err)
{
    BASE_AUTO(coord_driver) driver = calloc(1, sizeof(*driver));
    pthread_condattr_t attributes;

    if (driver == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot start a coordinator");
    }
    driver->options = *options;
    driver->tail = &driver->head;
    driver->core_ns = clock_ns(CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&driver->lock, NULL); /* defaults cannot fail */
    (void)pthread_condattr_init(&attributes);      /* ditto */
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&driver->wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    BASE_TRY(begin(driver, ret_newest, err));
    *ret = base_steal(&driver);
    return BASE_OK;
}

enum base_code coord_driver_start(struct coord_driver *driver,
                                  struct base_err *err)
{
    const int errnum = pthread_create(&driver->thread, NULL, loop, driver);

    if (errnum != 0) {
        return base_fail_errno(err, errnum, "cannot start a thread");
    }
    driver->is_started = true;
    return BASE_OK;
}

void coord_driver_stop(struct coord_driver *driver)
{
    (void)pthread_mutex_lock(&driver->lock);
    driver->is_stopping = true;
    (void)pthread_cond_signal(&driver->wake);
    (void)pthread_mutex_unlock(&driver->lock);
    if (!driver->is_started) {
        return;
    }
    (void)pthread_join(driver->thread, NULL); /* ours, joined once */
    (void)pthread_mutex_lock(&driver->lock);
    driver->is_started = false;
    driver->pending = driver->head;
    driver->head = NULL;
    driver->tail = &driver->head;
    (void)pthread_mutex_unlock(&driver->lock);
    let_go(driver);
}

void coord_driver_free(struct coord_driver *driver)
{
    if (driver == NULL) {
        return;
    }
    coord_driver_stop(driver);
    coord_free(driver->core);
    coord_actions_done(&driver->actions);
    base_vec_done(&driver->events);
    (void)pthread_cond_destroy(&driver->wake);
    (void)pthread_mutex_destroy(&driver->lock);
    free(driver);
}
