/* The life of one rescale, step by step: what is asked, what is said. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "tests/unit/coordinator/gpt.h"

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
    status.status.plan = &status.plan;
    status.plan.number = 1;
    status.plan.layout = text("mesh: {tp: 4}\nrules:\n  - {match: '*', dims: "
                              "[tp]}\n");
    status.plan.mesh = text("tp=4");
    lab_status(&lab, &status.status);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_submit_runs_and_ends),
        cmocka_unit_test(test_rescale_saves_makes_and_starts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
