/* What is rare: what agents and clients may say and seldom do, hosts that come
 * back after they were forgotten, records that are old or large. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "coordinator/core/impl.h"
#include "tests/unit/coordinator/gpt.h"

static const char bad_mesh[] = "tp";

static void fail_device(struct lab *lab, uint32_t index)
{
    Retile__V1__FailDeviceRequest request;
    char id[32];

    retile__v1__fail_device_request__init(&request);
    (void)snprintf(id, sizeof(id), "fail-%u", index);
    request.request_id = id;
    request.host = text("h");
    request.index = index;
    request.reason = text("a trial");
    lab_call(lab, "/retile.v1.Devices/Fail", &request);
}

static void pin(struct lab *lab, uint64_t version, const char *why)
{
    Retile__V1__PinVersionRequest request;
    char id[32];

    retile__v1__pin_version_request__init(&request);
    (void)snprintf(id, sizeof(id), "pin-%u-%s", (unsigned)version, why);
    request.request_id = id;
    request.job = text("gpt");
    request.version = version;
    request.why = text(why);
    lab_call(lab, "/retile.v1.Versions/Pin", &request);
}

static void rollback(struct lab *lab, uint64_t version)
{
    Retile__V1__RollbackRequest request;

    retile__v1__rollback_request__init(&request);
    request.request_id = text("rollback");
    request.job = text("gpt");
    request.version = version;
    lab_call(lab, "/retile.v1.Versions/Rollback", &request);
}

static void forget(struct lab *lab, bool force)
{
    Retile__V1__ForgetHostRequest request;

    retile__v1__forget_host_request__init(&request);
    request.request_id = text("forget");
    request.host = text("h");
    request.force = force;
    lab_call(lab, "/retile.v1.Devices/ForgetHost", &request);
}

static void remove_job(struct lab *lab, const char *name)
{
    Retile__V1__RemoveJobRequest request;

    retile__v1__remove_job_request__init(&request);
    request.request_id = text("remove");
    request.name = text(name);
    request.force = true;
    lab_call(lab, "/retile.v1.Jobs/Remove", &request);
}

static void hello(struct lab *lab, struct lab_status *status)
{
    lab_hello(lab, "h", gpt_store, 4,
              (Retile__V1__JobStatus *[]){&status->status}, 1);
}

static void test_forgotten_host_that_comes_back_has_its_job_again(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    open_save(&lab, 1, 20);
    vote(&lab, 2, 1, 20, gpt_spec, "tp=2");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_wait(&lab, 16000);
    lab_skip(&lab);
    forget(&lab, true);
    lab_expect(&lab, "gpt: save 2 aborted: its bytes are lost\n"
                     "gpt: version 1 is lost\n"
                     "gpt: lost: host h has no version any more: 1\n"
                     "h: forgotten\n"
                     "= OK\n");
    status.status.generation = NULL;
    hello(&lab, &status);
    lab_expect(
        &lab,
        "h: up\n"
        "gpt: version 1 is published\n"
        "gpt: waiting: its bytes are there again\n"
        "gpt: generation 2 preparing\n"
        "gpt: starting\n"
        "> welcome\n"
        "> gpt waiting keep=1\n"
        "> gpt starting g2 preparing load=1 on=0,1 port=0 next=11 keep=1\n");
    vote(&lab, 2, 1, 20, gpt_spec, "tp=2");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_done(&lab);
}

static void test_processes_on_a_forgotten_host_keep_their_devices(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    lab_wait(&lab, 16000);
    forget(&lab, false);
    submit(&lab, "other");
    lab_skip(&lab);
    hello(&lab, &status); /* with generation 1, which runs */
    lab_expect(&lab,
               "h: up\n"
               "other: generation 1 preparing\n"
               "other: starting\n"
               "gpt: generation 2 preparing\n"
               "gpt: starting\n"
               "> welcome\n"
               "> gpt waiting\n"
               "> gpt starting g2 preparing load=0 on=0,1 port=0 next=0\n"
               "> other starting g1 preparing load=0 on=2,3 port=0 next=0\n");
    lab_done(&lab);
}

static void test_only_bytes_are_not_forgotten_without_force(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    open_save(&lab, 1, 10);
    vote(&lab, 1, 1, 10, gpt_spec, "tp=2"); /* committed, not published */
    lab_wait(&lab, 16000);
    lab_skip(&lab);
    forget(&lab, false);
    lab_expect(&lab, "= FAILED_PRECONDITION the only bytes of job gpt are on "
                     "host h\n");
    lab_done(&lab);
}

static void test_version_that_is_given_up_is_not_loaded(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    pin(&lab, 1, "good");
    save(&lab, &status, 2, 1, 20);
    save(&lab, &status, 3, 1, 30);
    save(&lab, &status, 4, 1, 40); /* 2 is given up, and there yet */
    lab_skip(&lab);
    status.status.n_versions = 2; /* 3 and 4 are damaged */
    lab_status(&lab, &status.status);
    lab_skip(&lab);
    fail_device(&lab, 0);
    lab_expect(
        &lab,
        "gpt: failed: a trial\n"
        "gpt: generation 1 revoked: device h/0 failed: a trial\n"
        "gpt: steps after 10 are lost\n"
        "gpt: generation 2 preparing\n"
        "gpt: starting\n"
        "= OK\n"
        "> gpt starting g2 preparing load=1 on=1,2 port=0 next=21 keep=1\n");
    lab_restart(&lab); /* the records do not contradict each other */
    lab_done(&lab);
}

static void test_old_copy_finds_a_job_where_it_went(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    lab_init(&lab);
    submit(&lab, "gpt");
    lab_restart(&lab); /* what was written since is lost */
    lab_skip(&lab);
    lab_status_init(&status, "gpt");
    lab_status_version(&status, 7, 70, gpt_spec, "tp=2");
    hello(&lab, &status);
    lab_expect(
        &lab,
        "h: up\n"
        "gpt: version 7 is published\n"
        "gpt: generation 1 preparing\n"
        "gpt: starting\n"
        "> welcome\n"
        "> gpt waiting keep=7\n"
        "> gpt starting g1 preparing load=7 on=0,1 port=0 next=71 keep=7\n");
    lab_done(&lab);
}

/* Texts of agents are long and not English; what is made of them is cut. */
static void test_texts_are_cut_between_characters(void **state)
{
    struct lab lab;
    struct lab_status status;
    char trouble[1025];

    (void)state;
    for (int shift = 0; shift < 2; shift++) {
        lab_init(&lab);
        lab_hello(&lab, "h", gpt_store, 4, NULL, 0);
        submit(&lab, "gpt");
        lab_status_init(&status, "gpt");
        memset(trouble, 'x', sizeof(trouble));
        for (size_t i = (size_t)shift; i + 2 < sizeof(trouble); i += 2) {
            memcpy(trouble + i, "\xc3\xa4", 2);
        }
        trouble[1022 + shift] = '\0';
        status.status.trouble = trouble;
        for (int i = 0; i < 4; i++) {
            lab_status(&lab, &status.status);
            for (int k = 0; k < 20; k++) { /* it is heard of */
                lab_wait(&lab, 10000);
                lab_status(&lab, &status.status);
            }
        }
        lab_restart(&lab);
        lab_done(&lab);
    }
}

static void test_largest_step_can_be_saved(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, INT64_MAX);
    lab_skip(&lab);
    open_save(&lab, 1, INT64_MAX);
    lab_expect(&lab, "= ALREADY_EXISTS step 9223372036854775807 of gpt is "
                     "saved\n");
    lab_done(&lab);
}

static void test_numbers_of_an_agent_leave_room_for_more(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    status.status.highest = INT64_MAX;
    status.status.highest_generation = INT64_MAX;
    status.status.revision = INT64_MAX;
    lab_status(&lab, &status.status);
    vote(&lab, INT64_MAX, 1, 10, gpt_spec, "tp=2");
    status.status.highest = status.status.highest_generation = 0;
    for (uint64_t i = 2; i < 4; i++) {
        fail_device(&lab, (uint32_t)i);
        open_save(&lab, 1, 10 * i);
    }
    lab_done(&lab);
}

static void test_malformed_mesh_is_no_layout(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    lab_status_version(&status, 2, 20, gpt_spec, bad_mesh);
    lab_status(&lab, &status.status);
    lab_skip(&lab);
    rollback(&lab, 2);
    lab_expect(&lab,
               "= FAILED_PRECONDITION gpt@2: its mesh is malformed: tp\n");
    lab_restart(&lab);
    hello(&lab, &status);
    lab_skip(&lab);
    rollback(&lab, 1); /* attempt 3 */
    lab_status_version(&status, 3, 10, gpt_spec, bad_mesh);
    lab_status(&lab, &status.status);
    lab_restart(&lab);
    lab_done(&lab);
}

static void import(struct lab *lab)
{
    Retile__V1__SubmitJobRequest request;

    lab_init(lab);
    lab_hello(lab, "h", gpt_store, 4, NULL, 0);
    retile__v1__submit_job_request__init(&request);
    request.request_id = text("import");
    request.name = text("gpt");
    request.start_case = RETILE__V1__SUBMIT_JOB_REQUEST__START_IMPORT_DIR;
    request.import_dir = text("/checkpoint");
    lab_call(lab, "/retile.v1.Jobs/Submit", &request);
    lab_skip(lab);
}

static void test_vote_that_is_lost_of_a_job_that_is_removed(void **state)
{
    struct lab lab;
    Retile__V1__VoteRequest lost;

    (void)state;
    import(&lab);
    vote(&lab, 1, 0, 10, gpt_spec, "tp=2");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    remove_job(&lab, "gpt");
    lab_skip(&lab);
    retile__v1__vote_request__init(&lost);
    lost.session = lab.session;
    lost.job = text("gpt");
    lost.attempt = 1;
    lab_call(&lab, "/retile.v1.Agents/Vote", &lost);
    lab_expect(&lab, "gpt: import 1 aborted: its bytes are damaged or lost\n"
                     "= OK\n");
    lab_done(&lab);
}

static void test_committed_save_that_is_not_published_is_left(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    open_save(&lab, 1, 20);
    vote(&lab, 2, 1, 20, gpt_spec, "tp=2");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_restart(&lab);
    hello(&lab, &status);
    lab_skip(&lab);
    for (int i = 0; i < 61; i++) {
        lab_wait(&lab, 10000);
        lab_status(&lab, &status.status);
    }
    lab_expect(
        &lab,
        "gpt: save 2 aborted: not published within 600000 ms\n"
        "> gpt running g1 running load=0 on=0,1 port=29500 next=11 keep=1\n");
    vote(&lab, 2, 1, 20, gpt_spec, "tp=2"); /* the decision stays */
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_status_version(&status, 2, 20, gpt_spec, "tp=2");
    lab_skip(&lab);
    lab_status(&lab, &status.status);
    lab_expect(&lab, "gpt: version 2 is published\n"
                     "> gpt running g1 running load=0 on=0,1 port=29500 "
                     "next=21 keep=1,2\n");
    lab_done(&lab);
}

static void test_old_copy_does_not_import_again(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    import(&lab);
    lab_restart(&lab); /* what was written since is lost */
    lab_skip(&lab);
    lab_status_init(&status, "gpt");
    lab_status_version(&status, 6, 60, gpt_spec, "tp=2");
    status.status.highest = 6;
    hello(&lab, &status);
    lab_expect(
        &lab,
        "gpt: import 1 aborted: its host has gone past it\n"
        "gpt: version 6 is published\n"
        "gpt: generation 1 preparing\n"
        "gpt: starting\n"
        "> welcome\n"
        "> gpt importing keep=6\n"
        "> gpt starting g1 preparing load=6 on=0,1 port=0 next=61 keep=6\n");
    lab_done(&lab);
}

static void test_old_copy_does_not_roll_back_again(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    pin(&lab, 1, "good");
    save(&lab, &status, 2, 1, 20);
    rollback(&lab, 1); /* attempt 3 */
    lab_restart(&lab); /* what was written since is lost */
    lab_skip(&lab);
    status.status.n_versions = 1;
    lab_status_version(&status, 6, 60, gpt_spec, "tp=2");
    status.status.generation = NULL;
    status.status.highest = 6;
    status.status.highest_generation = 2;
    hello(&lab, &status);
    lab_expect(
        &lab,
        "gpt: rollback to version 1 is given up: its host has gone past it\n"
        "gpt: rollback 3 aborted: its host has gone past it\n"
        "gpt: version 6 is published\n"
        "gpt: version 2 is lost\n"
        "gpt: generation 3 preparing\n"
        "gpt: starting\n"
        "> welcome\n"
        "> gpt moving keep=1,6\n"
        "> gpt starting g3 preparing load=6 on=0,1 port=0 next=61 keep=1,6\n");
    lab_done(&lab);
}

static void test_plan_of_an_old_copy_is_not_taken_for_a_new_one(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    status.status.plan = &status.plan; /* which nobody remembers */
    status.plan.number = 1;
    status.plan.layout = text("mesh: {tp: 4}\nrules:\n  - {match: '*'}\n");
    status.plan.mesh = text("tp=4");
    hello(&lab, &status);
    lab_skip(&lab);
    rescale(&lab, "r", "tp=1", false);
    lab_status(&lab, &status.status);
    lab_expect(&lab, "> gpt running g1 running load=0 on=0,1 port=29500 "
                     "next=11 plan 2 keep=1\n");
    lab_done(&lab);
}

static void test_nothing_of_a_lost_job_is_given_up(void **state)
{
    struct lab lab;
    struct lab_status status;
    const Retile__V1__ToAgent *sent;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    status.status.n_versions = 0;
    lab_status(&lab, &status.status);
    assert_int_equal(lab.actions.sends.n, 1);
    sent = (const Retile__V1__ToAgent *)lab.actions.sends.items[0].message;
    assert_int_equal(sent->job->state, JOB_LOST);
    assert_int_equal(sent->job->n_keep, 0);
    assert_int_equal(sent->job->highest, 0); /* what is above stays */
    lab_done(&lab);
}

static void test_job_cannot_keep_more_than_there_may_be(void **state)
{
    struct lab lab;
    Retile__V1__SubmitJobRequest request;

    (void)state;
    lab_init(&lab);
    retile__v1__submit_job_request__init(&request);
    request.request_id = text("many");
    request.name = text("gpt");
    request.layout = text(gpt_spec);
    request.keep_versions = 256;
    lab_call(&lab, "/retile.v1.Jobs/Submit", &request);
    lab_expect(&lab, "= INVALID_ARGUMENT keep_versions is 256, of a job fewer "
                     "than 256 are kept\n");
    lab_done(&lab);
}

static void test_rescale_is_refused_when_too_many_versions_stay(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    save(&lab, &status, 2, 1, 20);
    coord_free(lab.coord);
    lab.limits.max_versions = 2;
    lab.coord = NULL;
    lab_restart(&lab);
    hello(&lab, &status);
    lab_skip(&lab);
    rescale(&lab, "r", "tp=1", false);
    lab_expect(&lab, "= RESOURCE_EXHAUSTED gpt has 2 versions, no more than 2 "
                     "are kept\n");
    lab_done(&lab);
}

static void test_request_id_of_two_plans_is_kept_once(void **state)
{
    struct lab lab;
    struct lab_status status;
    struct lab_status other;
    Retile__V1__RescaleRequest request;

    (void)state;
    run_gpt(&lab, &status);
    submit(&lab, "other");
    lab_status_init(&other, "other");
    for (int i = 0; i < 2; i++) {
        struct lab_status *of = i == 0 ? &status : &other;

        lab_status_version(of, 1, 10, gpt_spec, "tp=2");
        lab_status(&lab, &of->status);
        retile__v1__rescale_request__init(&request);
        request.request_id = text("one");
        request.job = of->status.job;
        request.to = text("tp=1");
        lab_call(&lab, "/retile.v1.Jobs/Rescale", &request);
        of->status.plan = &of->plan;
        of->plan.number = 1;
        of->plan.layout = text("mesh: {tp: 1}\nrules:\n  - {match: '*'}\n");
        of->plan.mesh = text("tp=1");
    }
    lab_status(&lab, &status.status);
    lab_status(&lab, &other.status);
    assert_int_equal(lab.coord->requests.n, 3); /* two of Submit */
    lab_restart(&lab);
    lab_done(&lab);
}

static void test_records_of_jobs_are_bounded_together(void **state)
{
    struct lab lab;
    struct lab_status status;
    size_t n_bytes;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    n_bytes = lab.coord->n_bytes;
    lab_restart(&lab);
    hello(&lab, &status);
    assert_int_equal(lab.coord->n_bytes, n_bytes);
    lab_skip(&lab);
    lab.coord->n_bytes = MAX_STATE_BYTES + 1;
    submit(&lab, "other");
    rescale(&lab, "r", "", false);
    pin(&lab, 1, "good");
#define TOO_MUCH                                                               \
    "= RESOURCE_EXHAUSTED the records of jobs have 268435457 bytes, no more "  \
    "than 268435456 are kept\n"
    lab_expect(&lab, TOO_MUCH TOO_MUCH TOO_MUCH);
    lab.coord->n_bytes = n_bytes;
    lab_done(&lab);
}

static void test_oldest_answers_go_when_they_are_large(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    submit(&lab, "a");
    submit(&lab, "b");
    assert_int_equal(lab.coord->requests.n, 3);
    lab.coord->n_kept += MAX_KEPT_BYTES;
    submit(&lab, "c");
    assert_int_equal(lab.coord->requests.n, 1);
    lab_done(&lab);
}

static void test_job_goes_where_there_is_room_since(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    submit(&lab, "second");
    submit(&lab, "third"); /* asks each host: none has room */
    remove_job(&lab, "third");
    lab_hello(&lab, "i", "00000000000000000000000000000002", 2, NULL, 0);
    lab_skip(&lab);
    submit(&lab, "fourth");
    lab_expect(&lab,
               "fourth: waiting\n"
               "fourth: generation 1 preparing\n"
               "fourth: starting\n"
               "= OK\n"
               "> fourth starting g1 preparing load=0 on=0,1 port=0 next=0\n");
    lab_done(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forgotten_host_that_comes_back_has_its_job_again),
        cmocka_unit_test(test_processes_on_a_forgotten_host_keep_their_devices),
        cmocka_unit_test(test_only_bytes_are_not_forgotten_without_force),
        cmocka_unit_test(test_version_that_is_given_up_is_not_loaded),
        cmocka_unit_test(test_old_copy_finds_a_job_where_it_went),
        cmocka_unit_test(test_texts_are_cut_between_characters),
        cmocka_unit_test(test_largest_step_can_be_saved),
        cmocka_unit_test(test_numbers_of_an_agent_leave_room_for_more),
        cmocka_unit_test(test_malformed_mesh_is_no_layout),
        cmocka_unit_test(test_vote_that_is_lost_of_a_job_that_is_removed),
        cmocka_unit_test(test_committed_save_that_is_not_published_is_left),
        cmocka_unit_test(test_old_copy_does_not_import_again),
        cmocka_unit_test(test_old_copy_does_not_roll_back_again),
        cmocka_unit_test(test_plan_of_an_old_copy_is_not_taken_for_a_new_one),
        cmocka_unit_test(test_nothing_of_a_lost_job_is_given_up),
        cmocka_unit_test(test_job_cannot_keep_more_than_there_may_be),
        cmocka_unit_test(test_rescale_is_refused_when_too_many_versions_stay),
        cmocka_unit_test(test_request_id_of_two_plans_is_kept_once),
        cmocka_unit_test(test_records_of_jobs_are_bounded_together),
        cmocka_unit_test(test_oldest_answers_go_when_they_are_large),
        cmocka_unit_test(test_job_goes_where_there_is_room_since),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
