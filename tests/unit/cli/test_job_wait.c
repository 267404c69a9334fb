/* Waiting for a job, over calls and a watch that this file plays. */
#include <retile/v1/jobs.pb-c.h>

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/follow.h"
#include "cli/job_wait.h"

enum { MAX_CALLS = 8 };

/* What is answered, in order; past the end the last. */
static struct {
    enum base_code get[MAX_CALLS];
    bool is_running[MAX_CALLS]; /* the job that is answered */
    size_t n_get;
    enum base_code follow[MAX_CALLS]; /* behind one event */
    uint64_t from[MAX_CALLS];
    size_t n_follow;
} fake;
static uint64_t last_event;

enum base_code cli_call(struct cli_server *server,
                        const ProtobufCServiceDescriptor *service,
                        const char *method,
                        const ProtobufCMessage *message,
                        ProtobufCMessage **ret,
                        struct base_err *err)
{
    Retile__V1__GetJobResponse *answer = calloc(1, sizeof(*answer));
    size_t i = fake.n_get++;

    (void)server;
    (void)service;
    (void)message;
    assert_string_equal(method, "Get");
    assert_non_null(answer);
    if (fake.get[i] != BASE_OK) {
        free(answer);
        return base_fail(err, fake.get[i], "get %zu", i);
    }
    retile__v1__get_job_response__init(answer);
    answer->job = calloc(1, sizeof(*answer->job));
    assert_non_null(answer->job);
    retile__v1__job__init(answer->job);
    answer->job->state = fake.is_running[i]
                             ? RETILE__V1__JOB_STATE__JOB_RUNNING
                             : RETILE__V1__JOB_STATE__JOB_STARTING;
    *ret = &answer->base;
    return BASE_OK;
}

void rpc_message_free(ProtobufCMessage *message)
{
    if (message != NULL) {
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

/* One event of the revision that is wanted; then it ends as was said. */
enum base_code cli_follow(struct cli_server *server,
                          struct cli_follow *follow,
                          struct base_err *err)
{
    Retile__V1__Event event = RETILE__V1__EVENT__INIT;
    size_t i = fake.n_follow++;

    (void)server;
    fake.from[i] = follow->from;
    if (fake.follow[i] != BASE_OK) {
        return base_fail(err, fake.follow[i], "follow %zu", i);
    }
    do {
        last_event = event.revision = follow->from++;
    } while (follow->on_event(follow->ctx, &event));
    return BASE_OK;
}

enum base_code
cli_follow_next(struct cli_server *server, uint64_t *ret, struct base_err *err)
{
    (void)server;
    (void)err;
    *ret = 100;
    return BASE_OK;
}

static enum cli_waited runs(void *ctx, const Retile__V1__Job *job)
{
    (void)ctx;
    return job->state == RETILE__V1__JOB_STATE__JOB_RUNNING ? CLI_WAIT_DONE
                                                            : CLI_WAIT_ON;
}

static int forget(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    return 0;
}

static void wait_for_job(void)
{
    __attribute__((cleanup(cli_job_wait_done))) struct cli_job_wait wait = {
        .verb = "job", .job = "gpt", .from = 5, .judge = runs};
    struct base_err err = {0};

    assert_ok(cli_job_wait(NULL, &wait, &err), &err);
}

/* Else the job is where it should be, nothing happens to it any more, and nobody
 * looks. */
static void test_an_event_whose_job_was_not_seen_comes_again(void **state)
{
    (void)state;
    fake.get[1] = BASE_UNREACHABLE; /* of event 5 */
    fake.is_running[2] = true;      /* of event 5, once more */
    wait_for_job();
    assert_int_equal(fake.n_get, 3);
    assert_int_equal(last_event, 5);
}

static void test_a_watch_that_lost_its_place_goes_on_from_now(void **state)
{
    (void)state;
    fake.follow[0] = BASE_LIMIT;
    fake.is_running[2] = true;
    wait_for_job();
    assert_int_equal(fake.n_follow, 2);
    assert_int_equal(fake.from[1], 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_an_event_whose_job_was_not_seen_comes_again,
                               forget),
        cmocka_unit_test_setup(
            test_a_watch_that_lost_its_place_goes_on_from_now, forget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
