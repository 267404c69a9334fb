/* coordinator/driver.c around a core of its own (below), so that each promise of
 * the loop can be seen: one commit for many steps, none for nothing, answers only
 * behind it, and silence when it fails. */
#include "tests/unit/unit.h"

#include <poll.h>
#include <pthread.h>
#include <retile/v1/agents.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/watch.pb-c.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "coordinator/driver.h"

/* --- a core that does what a job's name says ------------------------------- */

/* "write..." makes a record and an event; "later..." answers with the next call
 * that does not; "tick..." wants a tick soon, "lease..." one in TICK_MS; anything is
 * answered with the name. */
struct coord {
    uint64_t revision;
    uint64_t later; /* a ticket */
    bool is_changed;
    bool is_ticking;
};

enum { TICK_MS = 400, SLOW_MS = 700 };

static atomic_int n_ticks;
static atomic_int n_core_steps;
static sem_t ticked;

void coord_limits_init(struct coord_limits *limits)
{
    *limits = (struct coord_limits){0};
}

enum base_code coord_create(const struct coord_limits *limits,
                            struct coord **ret,
                            struct base_err *err)
{
    (void)limits;
    (void)err;
    *ret = calloc(1, sizeof(**ret));
    assert_non_null(*ret);
    return BASE_OK;
}

void coord_free(struct coord *coord)
{
    free(coord);
}

enum base_code coord_load(struct coord *coord,
                          enum coord_record_kind kind,
                          struct base_str id,
                          struct base_str body,
                          struct base_err *err)
{
    (void)coord;
    (void)kind;
    (void)body;
    return base_str_eq(id, BASE_STR("bad"))
               ? base_fail(err, BASE_BAD_INPUT, "record bad")
               : BASE_OK;
}

enum base_code coord_begin(struct coord *coord,
                           uint64_t revision,
                           struct coord_time now,
                           struct coord_actions *actions,
                           struct base_err *err)
{
    (void)now;
    (void)err;
    coord->revision = revision;
    actions->next_ns = INT64_MAX;
    return BASE_OK;
}

enum base_code coord_actions_init(struct coord_actions *actions,
                                  struct base_err *err)
{
    (void)err;
    *actions = (struct coord_actions){.next_ns = INT64_MAX};
    actions->arena = base_arena_create(1 << 20);
    return BASE_OK;
}

void coord_actions_clear(struct coord_actions *actions)
{
    base_arena_free(actions->arena);
    actions->arena = base_arena_create(1 << 20);
    actions->records.n = actions->events.n = actions->replies.n =
        actions->sends.n = 0;
}

void coord_actions_done(struct coord_actions *actions)
{
    base_arena_free(actions->arena);
    base_vec_done(&actions->records);
    base_vec_done(&actions->events);
    base_vec_done(&actions->replies);
    base_vec_done(&actions->sends);
}

static void reply(struct coord_actions *actions, uint64_t ticket)
{
    Retile__V1__GetJobResponse *response =
        base_arena_alloc(actions->arena, 1, sizeof(*response));
    struct coord_reply one = {.ticket = ticket, .message = &response->base};

    retile__v1__get_job_response__init(response);
    assert_true(base_vec_push(&actions->replies, one));
}

static void step_call(struct coord *coord,
                      const struct coord_event *event,
                      struct coord_actions *actions)
{
    const char *name =
        ((const Retile__V1__GetJobRequest *)event->message)->name;

    if (strncmp(name, "write", 5) == 0) {
        Retile__V1__Event *told =
            base_arena_alloc(actions->arena, 1, sizeof(*told));

        retile__v1__event__init(told);
        told->revision = ++coord->revision;
        assert_true(base_vec_push(&actions->events, &told->base));
        coord->is_changed = true;
    }
    if (strncmp(name, "tick", 4) == 0) {
        actions->next_ns = event->now.mono_ns + 1000000;
    }
    if (strncmp(name, "lease", 5) == 0) {
        actions->next_ns = event->now.mono_ns + INT64_C(1000000) * TICK_MS;
    }
    if (strncmp(name, "later", 5) == 0) {
        coord->later = event->ticket;
        return;
    }
    reply(actions, event->ticket);
    if (coord->later != 0) {
        reply(actions, coord->later);
        coord->later = 0;
    }
}

enum base_code coord_step(struct coord *coord,
                          const struct coord_event *event,
                          struct coord_actions *actions,
                          struct base_err *err)
{
    struct coord_send send = {.session = event->session};
    Retile__V1__ToAgent *message;

    (void)err;
    (void)atomic_fetch_add(&n_core_steps, 1);
    switch (event->kind) {
    case COORD_CALL:
        step_call(coord, event, actions);
        break;
    case COORD_SESSION_OPEN:
    case COORD_SESSION_SAYS:
        message = base_arena_alloc(actions->arena, 1, sizeof(*message));
        retile__v1__to_agent__init(message);
        send.message = &message->base;
        assert_true(base_vec_push(&actions->sends, send));
        break;
    case COORD_SESSION_CLOSED:
        break;
    case COORD_TICK:
        actions->next_ns = INT64_MAX;
        (void)atomic_fetch_add(&n_ticks, 1);
        (void)sem_post(&ticked);
        break;
    }
    return BASE_OK;
}

enum base_code coord_flush(struct coord *coord,
                           struct coord_actions *actions,
                           struct base_err *err)
{
    struct coord_record record = {COORD_JOB, BASE_STR("id"), BASE_STR("body")};

    (void)err;
    if (coord->is_changed) {
        assert_true(base_vec_push(&actions->records, record));
        coord->is_changed = false;
    }
    return BASE_OK;
}

/* --- persistence that can be held up, and can fail ------------------------- */

struct fake {
    struct persist persist;
    pthread_mutex_t gate; /* a commit passes it */
    bool fails;
    bool has_bad;
    atomic_int n_commits;
    size_t n_records; /* of the last */
    size_t n_events;
    uint64_t newest;
};

static enum base_code fake_load(struct persist *persist,
                                persist_record_fn fn,
                                void *ctx,
                                uint64_t *ret_oldest,
                                uint64_t *ret_newest,
                                struct base_err *err)
{
    struct fake *fake = (struct fake *)persist;
    struct coord_record bad = {COORD_JOB, BASE_STR("bad"), BASE_STR("x")};

    *ret_oldest = 1;
    *ret_newest = 41;
    return fake->has_bad ? fn(ctx, &bad, err) : BASE_OK;
}

static enum base_code fake_commit(struct persist *persist,
                                  const struct persist_batch *batch,
                                  struct base_err *err)
{
    struct fake *fake = (struct fake *)persist;

    (void)pthread_mutex_lock(&fake->gate);
    (void)pthread_mutex_unlock(&fake->gate);
    if (fake->fails) {
        return base_fail(err, BASE_NO_SPACE, "db: full");
    }
    fake->n_records = batch->n_records;
    fake->n_events = batch->n_events;
    (void)atomic_fetch_add(&fake->n_commits, 1);
    return BASE_OK;
}

static const struct persist_ops fake_ops = {
    .name = "fake", .load = fake_load, .commit = fake_commit};

static void on_events(void *ctx, const struct persist_event *events, size_t n)
{
    struct fake *fake = ctx;

    assert_true(events[0].body.len > 0);
    fake->newest = events[n - 1].revision;
}

static sem_t failed;
static struct base_err failure;

static void on_failed(void *ctx, const struct base_err *err)
{
    (void)ctx;
    failure = *err;
    (void)sem_post(&failed);
}

/* --- who asks -------------------------------------------------------------- */

struct asker {
    struct coord_waiter waiter;
    sem_t answered;
    atomic_int n_answers;
    struct rpc_status status;
    int n_ticks; /* that were before its answer */
};

static void on_answer(struct coord_waiter *waiter,
                      const struct rpc_status *status,
                      const ProtobufCMessage *message)
{
    struct asker *asker = (struct asker *)waiter;

    assert_true((status->code == RPC_OK) == (message != NULL));
    asker->status = *status;
    asker->n_ticks = n_ticks;
    (void)atomic_fetch_add(&asker->n_answers, 1);
    (void)sem_post(&asker->answered);
}

static void wait_for(sem_t *sem)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 20;
    assert_int_equal(sem_timedwait(sem, &until), 0);
}

static enum base_code ask(struct coord_driver *driver,
                          struct asker *asker,
                          const char *name,
                          struct base_err *err)
{
    Retile__V1__GetJobRequest request = RETILE__V1__GET_JOB_REQUEST__INIT;
    uint8_t packed[64];
    ProtobufCMessage *message;
    enum base_code code;
    size_t n;

    request.name = (char *)(uintptr_t)name;
    n = protobuf_c_message_pack(&request.base, packed);
    message = protobuf_c_message_unpack(
        &retile__v1__get_job_request__descriptor, NULL, n, packed);
    assert_non_null(message);
    asker->waiter.answer = on_answer;
    asker->waiter.method = "/retile.v1.Jobs/Get";
    (void)sem_init(&asker->answered, 0, 0);
    code = coord_driver_call(driver, &asker->waiter, message, err);
    if (code != BASE_OK) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
    return code;
}

struct setup {
    struct fake fake;
    struct coord_driver *driver;
};

static void set_up(struct setup *s)
{
    struct coord_driver_options options = {.persist = &s->fake.persist,
                                           .max_calls = 300,
                                           .on_events = on_events,
                                           .on_failed = on_failed,
                                           .ctx = &s->fake};
    struct base_err err = {0};
    uint64_t newest = 0;

    s->fake.persist.ops = &fake_ops;
    (void)pthread_mutex_init(&s->fake.gate, NULL);
    (void)sem_init(&ticked, 0, 0);
    (void)sem_init(&failed, 0, 0);
    assert_ok(coord_driver_create(&options, &s->driver, &newest, &err), &err);
    assert_int_equal(newest, 41);
    assert_ok(coord_driver_start(s->driver, &err), &err);
}

static void tear_down(struct setup *s)
{
    coord_driver_free(s->driver);
    (void)pthread_mutex_destroy(&s->fake.gate);
}

static void test_a_call_that_changes_nothing_commits_nothing(void **state)
{
    struct setup s = {.driver = NULL};
    struct asker asker = {.n_answers = 0};
    struct base_err err = {0};

    (void)state;
    set_up(&s);
    assert_ok(ask(s.driver, &asker, "read", &err), &err);
    wait_for(&asker.answered);
    assert_int_equal(asker.status.code, RPC_OK);
    assert_int_equal(s.fake.n_commits, 0);
    tear_down(&s);
}

static void test_many_calls_are_one_commit_and_answered_behind_it(void **state)
{
    struct setup s = {.driver = NULL};
    struct asker askers[101] = {{.n_answers = 0}};
    struct base_err err = {0};

    (void)state;
    set_up(&s);
    (void)pthread_mutex_lock(&s.fake.gate); /* a disk that is slow */
    for (size_t i = 0; i < N_ITEMS(askers); i++) {
        assert_ok(ask(s.driver, &askers[i], "write", &err), &err);
    }
    for (size_t i = 0; i < N_ITEMS(askers); i++) {
        assert_int_equal(atomic_load(&askers[i].n_answers), 0);
    }
    (void)pthread_mutex_unlock(&s.fake.gate);
    for (size_t i = 0; i < N_ITEMS(askers); i++) {
        wait_for(&askers[i].answered);
    }
    /* What the loop took before all were queued, and the rest. */
    assert_in_range(s.fake.n_commits, 1, 2);
    assert_int_equal(s.fake.newest, 41 + N_ITEMS(askers));
    tear_down(&s);
}

static void test_a_commit_that_fails_is_told_and_answers_nobody(void **state)
{
    struct setup s = {.driver = NULL};
    struct asker first = {.n_answers = 0};
    struct asker second = {.n_answers = 0};
    struct base_err err = {0};

    (void)state;
    set_up(&s);
    s.fake.fails = true;
    assert_ok(ask(s.driver, &first, "write", &err), &err);
    wait_for(&failed);
    assert_int_equal(failure.code, BASE_NO_SPACE);
    assert_string_equal(failure.text, "db: full");
    s.fake.fails = false;
    assert_ok(ask(s.driver, &second, "write", &err), &err);
    assert_int_equal(atomic_load(&first.n_answers), 0);
    assert_int_equal(s.fake.n_commits, 0); /* it never goes on */
    tear_down(&s);
    assert_int_equal(first.status.code, RPC_UNAVAILABLE);
    assert_int_equal(second.status.code, RPC_UNAVAILABLE);
    assert_int_equal(first.n_answers + second.n_answers, 2);
}

static void test_an_answer_may_come_with_a_later_call(void **state)
{
    struct setup s = {.driver = NULL};
    struct asker vote = {.n_answers = 0};
    struct asker other = {.n_answers = 0};
    struct asker never = {.n_answers = 0};
    struct base_err err = {0};

    (void)state;
    set_up(&s);
    assert_ok(ask(s.driver, &vote, "later", &err), &err);
    assert_ok(ask(s.driver, &other, "read", &err), &err);
    wait_for(&vote.answered);
    wait_for(&other.answered);
    assert_int_equal(vote.status.code, RPC_OK);
    assert_ok(ask(s.driver, &never, "later", &err), &err);
    tear_down(&s);
    assert_int_equal(never.status.code, RPC_UNAVAILABLE);
    assert_int_equal(never.n_answers, 1);
}

static void test_what_waits_is_bounded(void **state)
{
    static struct asker askers[700];
    struct setup s = {.driver = NULL};
    struct base_err err = {0};
    size_t n = 0;
    size_t n_ok = 0;

    (void)state;
    set_up(&s);
    (void)pthread_mutex_lock(&s.fake.gate);
    while (n < N_ITEMS(askers)) {
        enum base_code code = ask(s.driver, &askers[n], "write", &err);

        n++;
        if (code != BASE_OK) {
            assert_int_equal(code, BASE_LIMIT);
            break;
        }
        n_ok++;
    }
    assert_in_range(n_ok, 300, 699); /* a batch may have been taken */
    (void)pthread_mutex_unlock(&s.fake.gate);
    for (size_t i = 0; i < n_ok; i++) {
        wait_for(&askers[i].answered);
    }
    tear_down(&s);
}

static void test_a_tick_comes_when_the_core_wants_it(void **state)
{
    struct setup s = {.driver = NULL};
    struct asker asker = {.n_answers = 0};
    struct base_err err = {0};
    int before = n_ticks;

    (void)state;
    set_up(&s);
    assert_ok(ask(s.driver, &asker, "tick", &err), &err);
    wait_for(&ticked);
    assert_int_equal(n_ticks, before + 1);
    tear_down(&s);
    assert_int_equal(n_ticks, before + 1);
}

/* Who could not be heard because the disk was slow is not late. */
static void test_a_slow_commit_is_no_time_for_the_core(void **state)
{
    struct setup s = {.driver = NULL};
    struct asker lease = {.n_answers = 0};
    struct asker write = {.n_answers = 0};
    struct asker renew = {.n_answers = 0};
    struct base_err err = {0};
    int before = n_ticks;

    (void)state;
    set_up(&s);
    assert_ok(ask(s.driver, &lease, "lease", &err), &err);
    wait_for(&lease.answered);
    (void)pthread_mutex_lock(&s.fake.gate);
    assert_ok(ask(s.driver, &write, "write", &err), &err);
    (void)poll(NULL, 0, SLOW_MS);
    assert_ok(ask(s.driver, &renew, "renew", &err), &err);
    (void)pthread_mutex_unlock(&s.fake.gate);
    wait_for(&renew.answered);
    assert_int_equal(renew.n_ticks, before); /* it was stepped first */
    wait_for(&ticked);
    tear_down(&s);
}

static void test_a_record_that_cannot_be_loaded_is_an_error(void **state)
{
    struct fake fake = {.persist = {&fake_ops}, .has_bad = true};
    struct coord_driver_options options = {.persist = &fake.persist};
    struct coord_driver *driver = NULL;
    struct base_err err = {0};
    uint64_t newest;

    (void)state;
    assert_int_equal(coord_driver_create(&options, &driver, &newest, &err),
                     BASE_BAD_INPUT);
    assert_string_equal(err.text, "record bad");
}

/* --- sessions -------------------------------------------------------------- */

struct agent {
    struct coord_session session;
    sem_t stepped;
    sem_t closed;
    atomic_int n_sent;
    atomic_int n_ended;
};

static void agent_send(struct coord_session *session,
                       const ProtobufCMessage *message,
                       const struct rpc_status *status)
{
    struct agent *agent = (struct agent *)session;

    (void)status;
    (void)atomic_fetch_add(message != NULL ? &agent->n_sent : &agent->n_ended,
                           1);
}

static void agent_stepped(struct coord_session *session)
{
    (void)sem_post(&((struct agent *)session)->stepped);
}

static void agent_closed(struct coord_session *session)
{
    (void)sem_post(&((struct agent *)session)->closed);
}

static void agent_init(struct agent *agent, const char *host)
{
    *agent = (struct agent){.session = {.send = agent_send,
                                        .stepped = agent_stepped,
                                        .closed = agent_closed}};
    (void)strncpy(agent->session.host, host, sizeof(agent->session.host) - 1);
    (void)sem_init(&agent->stepped, 0, 0);
    (void)sem_init(&agent->closed, 0, 0);
}

static ProtobufCMessage *from_agent(void)
{
    Retile__V1__FromAgent *from = calloc(1, sizeof(*from));

    assert_non_null(from);
    retile__v1__from_agent__init(from);
    return &from->base;
}

static void test_a_session_opens_speaks_and_is_closed(void **state)
{
    struct setup s = {.driver = NULL};
    struct agent agent;
    struct agent other;
    struct asker asker = {.n_answers = 0};
    struct base_err err = {0};

    (void)state;
    set_up(&s);
    agent_init(&agent, "h0");
    agent_init(&other, "h1");
    coord_driver_open(s.driver, &agent.session, from_agent());
    coord_driver_open(s.driver, &other.session, from_agent());
    wait_for(&agent.stepped);
    wait_for(&other.stepped);
    assert_true(agent.session.number > 0 &&
                agent.session.number != other.session.number);
    coord_driver_say(s.driver, &agent.session, from_agent());
    wait_for(&agent.stepped);
    /* A call behind it: what was sent before it has been sent. */
    assert_ok(ask(s.driver, &asker, "read", &err), &err);
    wait_for(&asker.answered);
    assert_int_equal(agent.n_sent, 2);
    coord_driver_close(s.driver, &agent.session);
    wait_for(&agent.closed);
    coord_driver_stop(s.driver);
    assert_int_equal(other.n_ended, 1); /* told that we stop */
    coord_driver_close(s.driver, &other.session);
    wait_for(&other.closed);
    tear_down(&s);
}

static void test_a_call_for_another_hosts_session_is_refused(void **state)
{
    struct setup s = {.driver = NULL};
    struct agent agent;
    struct asker own = {.n_answers = 0};
    struct asker foreign = {.n_answers = 0};
    struct base_err err = {0};

    (void)state;
    set_up(&s);
    agent_init(&agent, "h0");
    coord_driver_open(s.driver, &agent.session, from_agent());
    wait_for(&agent.stepped);
    own.waiter.session_number = foreign.waiter.session_number =
        agent.session.number;
    own.waiter.host = "h0";
    foreign.waiter.host = "h1";
    assert_ok(ask(s.driver, &own, "read", &err), &err);
    assert_ok(ask(s.driver, &foreign, "write", &err), &err);
    wait_for(&own.answered);
    wait_for(&foreign.answered);
    assert_int_equal(own.status.code, RPC_OK);
    assert_int_equal(foreign.status.code, RPC_PERMISSION_DENIED);
    assert_int_equal(s.fake.n_commits, 0);
    coord_driver_close(s.driver, &agent.session);
    wait_for(&agent.closed);
    tear_down(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_call_that_changes_nothing_commits_nothing),
        cmocka_unit_test(test_many_calls_are_one_commit_and_answered_behind_it),
        cmocka_unit_test(test_a_commit_that_fails_is_told_and_answers_nobody),
        cmocka_unit_test(test_an_answer_may_come_with_a_later_call),
        cmocka_unit_test(test_what_waits_is_bounded),
        cmocka_unit_test(test_a_tick_comes_when_the_core_wants_it),
        cmocka_unit_test(test_a_slow_commit_is_no_time_for_the_core),
        cmocka_unit_test(test_a_record_that_cannot_be_loaded_is_an_error),
        cmocka_unit_test(test_a_session_opens_speaks_and_is_closed),
        cmocka_unit_test(test_a_call_for_another_hosts_session_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
