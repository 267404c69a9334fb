/* The life of one rescale, step by step: what is asked, what is said. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "tests/unit/coordinator/gpt.h"

/* The host has planned what was asked for. */
static void plan(struct lab *lab, struct lab_status *status)
{
    status->status.plan = &status->plan;
    status->plan.number = 1;
    status->plan.layout = text("mesh: {tp: 4}\nrules:\n  - {match: '*', dims: "
                               "[tp]}\n");
    status->plan.mesh = text("tp=4");
    lab_status(lab, &status->status);
}

static void test_submit_runs_and_ends(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    lab_status_ranks(&status, RANK(EXITED), 0);
    lab_status(&lab, &status.status);
    lab_expect(&lab, "gpt: generation 1 ended: all processes ended\n"
                     "gpt: done\n"
                     "> gpt done\n");
    lab_done(&lab);
}

static void test_rescale_saves_makes_and_starts(void **state)
{
    struct lab lab;
    struct lab_status status;
    char wide[4096];

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    lab_expect(
        &lab,
        "gpt: save 1 open\n"
        "= OK\n"
        "> gpt running g1 running load=0 on=0,1 port=29500 next=0 keep=1\n"
        "gpt: save 1 committed\n"
        "= OK\n"
        "> gpt running g1 running load=0 on=0,1 port=29500 next=11 keep=1\n"
        "gpt: save 1 ready\n"
        "gpt: version 1 is published\n"
        "> gpt running g1 running load=0 on=0,1 port=29500 next=11 keep=1\n");

    rescale(&lab, "r1", "tp=4", false);
    lab_expect(&lab, "> gpt running g1 running load=0 on=0,1 port=29500 "
                     "next=11 plan 1 keep=1\n");
    plan(&lab, &status);
    lab_expect(&lab, "gpt: generation 1 draining: rescale to tp=4\n"
                     "gpt: draining: rescale to tp=4\n"
                     "= OK\n"
                     "> gpt draining g1 draining load=0 on=0,1 port=29500 "
                     "next=11 asked keep=1\n");
    (void)snprintf(wide, sizeof(wide), "%s", lab.layout);

    save(&lab, &status, 2, 1, 20);
    lab_expect(&lab, "gpt: save 2 open\n"
                     "= OK\n"
                     "> gpt draining g1 draining load=0 on=0,1 port=29500 "
                     "next=11 asked keep=1,2\n"
                     "gpt: save 2 committed\n"
                     "= OK\n"
                     "> gpt draining g1 draining load=0 on=0,1 port=29500 "
                     "next=21 asked keep=1,2\n"
                     "gpt: save 2 ready\n"
                     "gpt: version 2 is published\n");
    lab_status_ranks(&status, RANK(EXITED), 0);
    lab_status(&lab, &status.status);
    lab_expect(&lab, "gpt: generation 1 ended: stopped when asked\n"
                     "gpt: rescale 3 open\n"
                     "gpt: moving\n"
                     "> gpt moving rescale 3 of 2 keep=1,2,3\n");
    vote(&lab, 3, 0, 20, wide, "tp=4");
    lab_expect(&lab, "gpt: rescale 3 committed\n"
                     "= OK\n");
    lab_status_version(&status, 3, 20, wide, "tp=4");
    lab_status(&lab, &status.status);
    lab_expect(&lab, "gpt: rescale 3 ready\n"
                     "gpt: version 3 is published\n"
                     "gpt: generation 2 preparing\n"
                     "gpt: starting\n"
                     "gpt: version 1 is given up\n"
                     "> gpt starting g2 preparing load=3 on=0,1,2,3 port=0 "
                     "next=21 keep=2,3\n");
    lab_status_prepared(&status, 2, 4);
    lab_status(&lab, &status.status);
    lab_expect(&lab, "gpt: generation 2 ready\n"
                     "> gpt starting g2 ready load=3 on=0,1,2,3 port=29500 "
                     "next=21 keep=2,3\n");
    lab_status_ranks(&status, RANK(RUNNING), 0);
    lab_status(&lab, &status.status);
    lab_expect(&lab, "gpt: generation 2 running\n"
                     "gpt: running\n"
                     "> gpt running g2 running load=3 on=0,1,2,3 port=29500 "
                     "next=21 keep=2,3\n");
    vote(&lab, 3, 0, 20, wide, "tp=4");
    lab_expect(&lab, "= OK\n");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_done(&lab);
}

/* The host says of @attempt that nothing can be made of its vote. */
static void lose(struct lab *lab, uint64_t attempt, uint64_t generation)
{
    Retile__V1__VoteRequest request;

    retile__v1__vote_request__init(&request);
    request.session = lab->session;
    request.job = text("gpt");
    request.attempt = attempt;
    request.generation = generation;
    lab->decision = 0;
    lab_call(lab, "/retile.v1.Agents/Vote", &request);
    assert_int_equal(lab->decision, RETILE__V1__DECISION__DECISION_ABORT);
}

static void test_a_committed_save_that_is_lost_may_come_again(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    run_gpt(&lab, &status);
    save(&lab, &status, 1, 1, 10);
    open_save(&lab, 1, 20);
    vote(&lab, 2, 1, 20, gpt_spec, "tp=2");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_skip(&lab);
    lose(&lab, 2, 1);
    lab_expect(
        &lab,
        "gpt: save 2 aborted: its bytes are damaged or lost\n"
        "= OK\n"
        "> gpt running g1 running load=0 on=0,1 port=29500 next=11 keep=1\n");
    lose(&lab, 2, 1); /* its answer was lost */
    lab_expect(&lab, "= OK\n");
    lab_restart(&lab);
    lab_hello(&lab, "h", gpt_store, 4,
              (Retile__V1__JobStatus *[]){&status.status}, 1);
    lab_skip(&lab);
    save(&lab, &status, 3, 1, 20);
    lose(&lab, 3, 1); /* it is there: means nothing */
    lab_skip(&lab);
    open_save(&lab, 1, 20);
    lab_expect(&lab, "= ALREADY_EXISTS step 20 of gpt is saved\n");
    lab_done(&lab);
}

/* To tp=4: its processes have ended, attempt 2 is being made. */
static void begin_rescale(struct lab *lab, struct lab_status *status)
{
    run_gpt(lab, status);
    save(lab, status, 1, 1, 10);
    rescale(lab, "r1", "tp=4", false);
    plan(lab, status);
    lab_status_ranks(status, RANK(EXITED), 0);
    lab_status(lab, &status->status);
    lab_skip(lab);
}

static void test_a_committed_rescale_that_is_lost_ends_the_change(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    begin_rescale(&lab, &status);
    vote(&lab, 2, 0, 10, lab.layout, "tp=4");
    assert_int_equal(lab.decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_skip(&lab);
    lose(&lab, 2, 0);
    lab_expect(&lab, "gpt: rescale 2 aborted: its bytes are damaged or lost\n"
                     "gpt: generation 2 preparing\n"
                     "gpt: starting\n"
                     "= OK\n"
                     "> gpt starting g2 preparing load=1 on=0,1 port=0 next=11 "
                     "keep=1\n");
    lab_done(&lab);
}

/* The host could not make @attempt; its agent had died while it made it. */
static void
come_again(struct lab *lab, struct lab_status *status, uint64_t attempt)
{
    status->status.attempt = &status->attempt;
    status->attempt.number = attempt;
    status->attempt.is_failed = true;
    status->attempt.may_come_again = true;
    status->attempt.reason = "it comes too late";
    lab_status(lab, &status->status);
}

static void test_what_died_with_its_agent_is_made_again(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    begin_rescale(&lab, &status);
    for (uint64_t n = 2; n < 5; n++) {
        come_again(&lab, &status, n);
        lab_skip(&lab);
        come_again(&lab, &status, n); /* once more, which means nothing */
        lab_expect(&lab, "");
    }
    vote(&lab, 5, 0, 10, lab.layout, "tp=4");
    lab_expect(&lab, "gpt: rescale 5 committed\n"
                     "= OK\n");
    lab_done(&lab);
}

static void test_but_not_for_ever(void **state)
{
    struct lab lab;
    struct lab_status status;

    (void)state;
    begin_rescale(&lab, &status);
    for (uint64_t n = 2; n < 5; n++) {
        come_again(&lab, &status, n);
    }
    lab_skip(&lab);
    come_again(&lab, &status, 5);
    lab_expect(&lab, "gpt: rescale 5 aborted: it comes too late\n"
                     "gpt: generation 2 preparing\n"
                     "gpt: starting\n"
                     "> gpt starting g2 preparing load=1 on=0,1 port=0 next=11 "
                     "keep=1\n");
    lab_done(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit_runs_and_ends),
        cmocka_unit_test(test_rescale_saves_makes_and_starts),
        cmocka_unit_test(test_a_committed_save_that_is_lost_may_come_again),
        cmocka_unit_test(test_a_committed_rescale_that_is_lost_ends_the_change),
        cmocka_unit_test(test_what_died_with_its_agent_is_made_again),
        cmocka_unit_test(test_but_not_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
