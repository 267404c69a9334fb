/* What breaks, and what the core makes of it: processes, devices, hosts, stores,
 * answers, and the coordinator itself. */
#include "tests/unit/unit.h"

#include "tests/unit/coordinator/gpt.h"

/* Its process ends badly; its host has nothing running any more. */
static void break_rank(struct lab *lab, struct lab_status *status, int code)
{
    lab_status_ranks(status, RANK(EXITED), 0);
    status->ranks[1].exit_code = code;
    lab_status(lab, &status->status);
}

static void test_failed_rank_restarts_after_a_while(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    lab_skip(&lab);
    break_rank(&lab, &status, 7);
    lab_expect(&lab, "gpt: rank 1 ended: exit code 7\n"
                     "gpt: generation 1 revoked: rank 1 ended: exit code 7\n"
                     "gpt: steps after 10 are lost\n"
                     "gpt: waiting: restart 1 of 3 in a row is due\n"
                     "> gpt waiting keep=1\n");
    lab_wait(&lab, 900);
    lab_expect(&lab, "");
    lab_wait(&lab, 200);
    lab_expect(
        &lab,
        "gpt: generation 2 preparing\n"
        "gpt: starting\n"
        "> gpt starting g2 preparing load=1 on=0,1 port=0 next=11 keep=1\n");
    lab_done(&lab);
}

static void test_too_many_restarts_fail_the_job(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    for (uint64_t i = 1; i <= 4; i++) {
        lab_status_prepared(&status, i, 2);
        lab_status(&lab, &status.status);
        lab_status_ranks(&status, RANK(RUNNING), 0);
        lab_status(&lab, &status.status);
        lab_skip(&lab);
        break_rank(&lab, &status, 7);
        if (i < 4) {
            lab_wait(&lab, 60000 / 8);
        }
    }
    lab_expect(&lab, "gpt: rank 1 ended: exit code 7\n"
                     "gpt: generation 4 revoked: rank 1 ended: exit code 7\n"
                     "gpt: all steps are lost, nothing was saved\n"
                     "gpt: failed: rank 1 ended: exit code 7\n"
                     "> gpt failed\n");
    lab_done(&lab);
}

static void device_call(struct lab *lab, const char *verb, uint32_t index)
{
    Retile__V1__FailDeviceRequest fail;
    Retile__V1__DrainDeviceRequest drain;
    Retile__V1__RecoverDeviceRequest recover;

    if (strcmp(verb, "fail") == 0) {
        retile__v1__fail_device_request__init(&fail);
        fail.request_id = text("fail");
        fail.host = text("h");
        fail.index = index;
        fail.reason = text("a trial");
        lab_call(lab, "/retile.v1.Devices/Fail", &fail);
    } else if (strcmp(verb, "drain") == 0) {
        retile__v1__drain_device_request__init(&drain);
        drain.request_id = text("drain");
        drain.host = text("h");
        drain.index = index;
        lab_call(lab, "/retile.v1.Devices/Drain", &drain);
    } else {
        retile__v1__recover_device_request__init(&recover);
        recover.request_id = text("recover");
        recover.host = text("h");
        recover.all = true;
        lab_call(lab, "/retile.v1.Devices/Recover", &recover);
    }
}

static void test_failed_device_moves_the_job_at_once(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    device_call(&lab, "fail", 1);
    lab_expect(&lab,
               "gpt: failed: a trial\n"
               "gpt: generation 1 revoked: device h/1 failed: a trial\n"
               "gpt: all steps are lost, nothing was saved\n"
               "gpt: generation 2 preparing\n"
               "gpt: starting\n"
               "= OK\n"
               "> gpt starting g2 preparing load=0 on=0,2 port=0 next=0\n");
    lab_done(&lab);
}

static void test_drained_device_is_left_with_a_save(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    device_call(&lab, "drain", 0);
    lab_expect(
        &lab,
        "gpt: drained\n"
        "gpt: generation 1 draining: move off h/0\n"
        "gpt: draining: move off h/0\n"
        "= OK\n"
        "> gpt draining g1 draining load=0 on=0,1 port=29500 next=0 asked\n");
    save(&lab, &status, 1, 1, 10);
    lab_skip(&lab);
    lab_status_ranks(&status, RANK(EXITED), 0);
    lab_status(&lab, &status.status);
    lab_expect(
        &lab,
        "gpt: generation 1 ended: stopped when asked\n"
        "gpt: generation 2 preparing\n"
        "gpt: starting\n"
        "> gpt starting g2 preparing load=1 on=1,2 port=0 next=11 keep=1\n");
    lab_done(&lab);
}

static void test_hang_is_stopped_at_the_deadline(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    rescale(&lab, "r", "", false);
    lab_skip(&lab);
    lab_wait(&lab, 4000);
    lab_hello(&lab, "h", gpt_store, 4,
              (Retile__V1__JobStatus *[]){&status.status}, 1);
    lab_skip(&lab);
    for (int i = 0; i < 30; i++) {
        lab_wait(&lab, 10000);
        lab_status(&lab, &status.status);
    }
    lab_expect(&lab,
               "gpt: generation 1 revoked: did not stop within 300 s\n"
               "gpt: all steps are lost, nothing was saved\n"
               "gpt: generation 2 preparing\n"
               "gpt: starting\n"
               "> gpt starting g2 preparing load=0 on=0,1 port=0 next=0\n");
    lab_done(&lab);
}

static void test_lost_host_keeps_its_job_waiting(void **state)
{
    struct lab lab;
    struct lab_status status;
    Retile__V1__JobStatus *jobs[] = {&status.status};

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    lab_skip(&lab);
    lab_wait(&lab, 14000);
    lab_expect(&lab, "");
    lab_wait(&lab, 2000);
    lab_expect(&lab, "h: lost: not heard of for 15000 ms\n"
                     "gpt: generation 1 revoked: host h is lost\n"
                     "gpt: steps after 10 are lost\n"
                     "gpt: waiting: host h is lost\n"
                     "> end ABORTED the lease has run out\n");
    /* It comes back with generation 1, which is killed. */
    lab_hello(&lab, "h", gpt_store, 4, jobs, 1);
    lab_expect(
        &lab,
        "h: up\n"
        "gpt: generation 2 preparing\n"
        "gpt: starting\n"
        "> welcome\n"
        "> gpt waiting keep=1\n"
        "> gpt starting g2 preparing load=1 on=0,1 port=0 next=11 keep=1\n");
    lab_done(&lab);
}

static void test_short_break_of_a_session_changes_nothing(void **state)
{
    struct lab lab;
    struct lab_status status;
    Retile__V1__JobStatus *jobs[] = {&status.status};

    (void)state;
    run_gpt(&lab, &status);
    lab_closed(&lab, lab.session);
    lab_wait(&lab, 5000);
    lab_hello(&lab, "h", gpt_store, 4, jobs, 1);
    lab_expect(&lab,
               "> welcome\n"
               "> gpt running g1 running load=0 on=0,1 port=29500 next=0\n");
    lab_done(&lab);
}

static void test_new_store_loses_the_job_by_name(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    lab_skip(&lab);
    lab_closed(&lab, lab.session);
    lab_hello(&lab, "h", "00000000000000000000000000000002", 4, NULL, 0);
    lab_expect(&lab, "h: store 00000000000000000000000000000001 is gone, it "
                     "has store 00000000000000000000000000000002 now\n"
                     "gpt: version 1 is lost\n"
                     "gpt: generation 1 revoked: no version is left\n"
                     "gpt: all steps are lost, nothing was saved\n"
                     "gpt: lost: host h has no version any more: 1\n"
                     "> welcome\n"
                     "> gpt lost\n");
    lab_done(&lab);
}

/* A save is committed and lost, and @generation runs (0: none); then the records
 * are those of before the loss.  The host comes with @store. */
static void go_back(struct lab *lab,
                    struct lab_status *status,
                    const char *store,
                    uint64_t generation,
                    const char *expected)
{
    Retile__V1__JobStatus *jobs[] = {&status->status};

    run_gpt(lab, status);
    open_save(lab, 1, 10);
    vote(lab, 1, 1, 10, gpt_spec, "tp=2");
    assert_int_equal(lab->decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_skip(lab);
    lab_restart(lab);
    lab_status_prepared(status, generation, 2);
    lab_status_ranks(status, RANK(RUNNING), 0);
    status->status.generation = generation != 0 ? &status->generation : NULL;
    status->status.highest = 1; /* as its target said */
    status->status.highest_generation = generation;
    lab_hello(lab, "h", store, 4, jobs, 1);
    lab_expect(lab, expected);
}

#define GOES_ON                                                                \
    "gpt: generation 1 revoked: host h has seen generation 2\n"                \
    "gpt: all steps are lost, nothing was saved\n"                             \
    "gpt: generation 3 preparing\n"                                            \
    "gpt: starting\n"                                                          \
    "> welcome\n"                                                              \
    "> gpt running\n"                                                          \
    "> gpt starting g3 preparing load=0 on=0,1 port=0 next=0\n"

static void test_old_copy_gives_up_a_save_of_a_lost_store(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    go_back(&lab, &status, "00000000000000000000000000000002", 2,
            "h: store 00000000000000000000000000000001 is gone, it has store "
            "00000000000000000000000000000002 now\n"
            "gpt: save 1 aborted: its bytes are lost\n" GOES_ON);
    lab_done(&lab);
}

static void
test_old_copy_gives_up_a_save_before_a_later_generation(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    go_back(&lab, &status, gpt_store, 2,
            "gpt: save 1 aborted: its host has gone past it\n" GOES_ON);
    status.status.highest_generation = 3;
    lab_status_prepared(&status, 3, 2);
    lab_status(&lab, &status.status);
    lab_status_ranks(&status, RANK(RUNNING), 0);
    lab_status(&lab, &status.status);
    open_save(&lab, 3, 10);
    lab_status(&lab, &status.status); /* gone past nothing of now */
    vote(&lab, 2, 3, 10, gpt_spec, "tp=2");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_done(&lab);
}

static void test_old_copy_gives_up_a_save_of_a_job_that_was_lost(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    go_back(&lab, &status, "00000000000000000000000000000002", 0,
            "h: store 00000000000000000000000000000001 is gone, it has store "
            "00000000000000000000000000000002 now\n"
            "gpt: save 1 aborted: its bytes are lost\n"
            "gpt: generation 1 revoked: host h has nothing of it any more\n"
            "gpt: all steps are lost, nothing was saved\n"
            "gpt: waiting: restart 1 of 3 in a row is due\n"
            "> welcome\n"
            "> gpt running\n"
            "> gpt waiting\n");
    lab_done(&lab);
}

static void test_version_lost_before_its_load_is_left(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    save(&lab, &status, 2, 1, 20);
    device_call(&lab, "fail", 1);
    lab_skip(&lab);
    status.status.generation = NULL;
    status.status.n_versions = 1;
    lab_status(&lab, &status.status);
    lab_expect(
        &lab,
        "gpt: version 2 is lost\n"
        "gpt: generation 2 revoked: version 2, which it loads, is lost\n"
        "gpt: generation 3 preparing\n"
        "> gpt starting g3 preparing load=1 on=0,2 port=0 next=11 keep=1\n");
    lab_done(&lab);
}

static void test_second_agent_of_a_name_is_refused(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    lab_hello(&lab, "h", "00000000000000000000000000000002", 4, NULL, 0);
    lab_expect(&lab, "> end FAILED_PRECONDITION another agent, with another "
                     "store, has this name\n");
    lab_done(&lab);
}

static void test_restarted_coordinator_goes_on(void **state)
{
    struct lab lab;
    struct lab_status status;
    Retile__V1__JobStatus *jobs[] = {&status.status};

    (void)state;
    run_gpt(&lab, &status);
    open_save(&lab, 1, 10);
    vote(&lab, 1, 1, 10, gpt_spec, "tp=2");
    lab_skip(&lab);
    lab_restart(&lab); /* between the decision and its publication */
    lab_hello(&lab, "h", gpt_store, 4, jobs, 1);
    lab_expect(
        &lab,
        "> welcome\n"
        "> gpt running g1 running load=0 on=0,1 port=29500 next=11 keep=1\n");
    vote(&lab, 1, 1, 10, gpt_spec, "tp=2");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    vote(&lab, 2, 1, 20, gpt_spec, "tp=2"); /* never opened */
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_ABORT);
    lab_skip(&lab);
    open_save(&lab, 1, 20); /* waits for version 1, gets a new number */
    lab_expect(&lab, "");
    lab_status_version(&status, 1, 10, gpt_spec, "tp=2");
    lab_status(&lab, &status.status);
    assert_int_equal(lab.attempt, 3);
    lab_done(&lab);
}

static void test_same_request_id_is_done_once(void **state)
{
    struct lab lab;
    struct lab_status status;
    Retile__V1__SubmitJobRequest request;

    (void)state;
    run_gpt(&lab, &status);
    submit(&lab, "gpt"); /* as run_gpt did */
    lab_expect(&lab, "= OK\n");
    lab_restart(&lab);
    lab_skip(&lab);
    submit(&lab, "gpt");
    lab_expect(&lab, "= OK\n");
    retile__v1__submit_job_request__init(&request);
    request.request_id = text("submit-gpt");
    request.name = text("other");
    lab_call(&lab, "/retile.v1.Jobs/Submit", &request);
    lab_expect(&lab, "= INVALID_ARGUMENT request_id: submit-gpt was used for "
                     "another call\n");
    lab_done(&lab);
}

static void test_revoked_generation_saves_nothing(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    open_save(&lab, 1, 10);
    device_call(&lab, "fail", 0);
    lab_skip(&lab);
    vote(&lab, 1, 1, 10, gpt_spec, "tp=2");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_ABORT);
    open_save(&lab, 1, 11);
    lab_expect(&lab, "= OK\n"
                     "= FAILED_PRECONDITION generation 1 of gpt is not "
                     "current\n");
    lab_done(&lab);
}

static void test_saved_steps_ascend_and_are_saved_once(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    lab_skip(&lab);
    open_save(&lab, 1, 10);
    lab_expect(&lab, "= ALREADY_EXISTS step 10 of gpt is saved\n");
    open_save(&lab, 1, 9);
    lab_expect(&lab, "= OUT_OF_RANGE step 9 of gpt is below 11\n");
    open_save(&lab, 1, 20);
    open_save(&lab, 1, 20);
    assert_int_equal(lab.attempt, 2);
    lab_skip(&lab);
    open_save(&lab, 1, 15);
    lab_expect(&lab, "= ABORTED step 20 is open\n");
    open_save(&lab, 1, 30); /* the mount has given up 20 */
    assert_int_equal(lab.attempt, 3);
    lab_done(&lab);
}

static void test_dry_run_changes_nothing(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    rescale(&lab, "r", "tp=4", true);
    lab_expect(&lab, "= OK\n");
    rescale(&lab, "r", "tp=8", true);
    lab_expect(&lab, "= FAILED_PRECONDITION 8 devices are needed, h has 4 that "
                     "are ready\n");
    rescale(&lab, "r", "pp=2", true);
    lab_expect(&lab, "= INVALID_ARGUMENT the layout has no axis pp\n");
    lab_done(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_rank_restarts_after_a_while),
        cmocka_unit_test(test_too_many_restarts_fail_the_job),
        cmocka_unit_test(test_failed_device_moves_the_job_at_once),
        cmocka_unit_test(test_drained_device_is_left_with_a_save),
        cmocka_unit_test(test_hang_is_stopped_at_the_deadline),
        cmocka_unit_test(test_lost_host_keeps_its_job_waiting),
        cmocka_unit_test(test_short_break_of_a_session_changes_nothing),
        cmocka_unit_test(test_new_store_loses_the_job_by_name),
        cmocka_unit_test(test_old_copy_gives_up_a_save_of_a_lost_store),
        cmocka_unit_test(
            test_old_copy_gives_up_a_save_before_a_later_generation),
        cmocka_unit_test(test_old_copy_gives_up_a_save_of_a_job_that_was_lost),
        cmocka_unit_test(test_version_lost_before_its_load_is_left),
        cmocka_unit_test(test_second_agent_of_a_name_is_refused),
        cmocka_unit_test(test_restarted_coordinator_goes_on),
        cmocka_unit_test(test_same_request_id_is_done_once),
        cmocka_unit_test(test_revoked_generation_saves_nothing),
        cmocka_unit_test(test_saved_steps_ascend_and_are_saved_once),
        cmocka_unit_test(test_dry_run_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
