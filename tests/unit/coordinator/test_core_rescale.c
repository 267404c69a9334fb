/* The life of one rescale, step by step: what is asked, what is said. */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "tests/unit/coordinator/lab.h"

static const char spec[] = "mesh: {tp: 2}\n"
                           "rules:\n"
                           "  - {match: '*', dims: [tp]}\n";
static const char store[] = "00000000000000000000000000000001";
#define RANK(state) ((int)RETILE__V1__RANK_STATE__RANK_##state)

static char *text(const char *fixed)
{
    return (char *)(uintptr_t)fixed;
}

static void submit(struct lab *lab, const char *name)
{
    Retile__V1__SubmitJobRequest request;
    char id[80];

    retile__v1__submit_job_request__init(&request);
    (void)snprintf(id, sizeof(id), "submit-%s", name);
    request.request_id = id;
    request.name = text(name);
    request.layout = text(spec);
    lab_call(lab, "/retile.v1.Jobs/Submit", &request);
}

static void open_save(struct lab *lab, uint64_t generation, uint64_t step)
{
    Retile__V1__OpenSaveRequest request;

    retile__v1__open_save_request__init(&request);
    request.session = lab->session;
    request.job = text("gpt");
    request.generation = generation;
    request.step = step;
    lab_call(lab, "/retile.v1.Agents/OpenSave", &request);
}

static void vote(struct lab *lab,
                 uint64_t attempt,
                 uint64_t generation,
                 uint64_t step,
                 const char *layout,
                 const char *mesh)
{
    Retile__V1__VoteRequest request;
    Retile__V1__Version version;

    retile__v1__vote_request__init(&request);
    retile__v1__version__init(&version);
    version.number = attempt;
    version.has_step = true;
    version.step = step;
    version.layout = text(layout);
    version.mesh = text(mesh);
    request.session = lab->session;
    request.job = text("gpt");
    request.attempt = attempt;
    request.generation = generation;
    request.version = &version;
    lab_call(lab, "/retile.v1.Agents/Vote", &request);
}

static void rescale(struct lab *lab, const char *id, const char *to, bool dry)
{
    Retile__V1__RescaleRequest request;

    retile__v1__rescale_request__init(&request);
    request.request_id = text(id);
    request.job = text("gpt");
    request.to = text(to);
    request.dry_run = dry;
    lab_call(lab, "/retile.v1.Jobs/Rescale", &request);
}

/* gpt runs as generation 1 on two of four devices. */
static void run_gpt(struct lab *lab, struct lab_status *status)
{
    lab_init(lab);
    lab_hello(lab, "h", store, 4, NULL, 0);
    lab_expect(lab, "h: up\n> welcome\n");
    submit(lab, "gpt");
    lab_expect(lab,
               "gpt: waiting\n"
               "gpt: generation 1 preparing\n"
               "gpt: starting\n"
               "= OK\n"
               "> gpt starting g1 preparing load=0 on=0,1 port=0 next=0\n");
    lab_status_init(status, "gpt");
    lab_status_prepared(status, 1, 2);
    lab_status(lab, &status->status);
    lab_expect(lab,
               "gpt: generation 1 ready\n"
               "> gpt starting g1 ready load=0 on=0,1 port=29500 next=0\n");
    lab_status_ranks(status, RANK(RUNNING), 0);
    lab_status(lab, &status->status);
    lab_expect(lab,
               "gpt: generation 1 running\n"
               "gpt: running\n"
               "> gpt running g1 running load=0 on=0,1 port=29500 next=0\n");
}

static void save(struct lab *lab,
                 struct lab_status *status,
                 uint64_t number,
                 uint64_t generation,
                 uint64_t step)
{
    open_save(lab, generation, step);
    assert_int_equal(lab->attempt, number);
    vote(lab, number, generation, step, spec, "tp=2");
    assert_int_equal(lab->decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_status_version(status, number, step, spec, "tp=2");
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
