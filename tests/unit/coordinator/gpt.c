#include "tests/unit/coordinator/gpt.h"

#include "tests/unit/unit.h"

#include <stdio.h>

const char gpt_spec[] = "mesh: {tp: 2}\n"
                        "rules:\n"
                        "  - {match: '*', dims: [tp]}\n";
const char gpt_store[] = "00000000000000000000000000000001";

char *text(const char *fixed)
{
    return (char *)(uintptr_t)fixed;
}

void submit(struct lab *lab, const char *name)
{
    Retile__V1__SubmitJobRequest request;
    char id[80];

    retile__v1__submit_job_request__init(&request);
    (void)snprintf(id, sizeof(id), "submit-%s", name);
    request.request_id = id;
    request.name = text(name);
    request.layout = text(gpt_spec);
    lab_call(lab, "/retile.v1.Jobs/Submit", &request);
}

void open_save(struct lab *lab, uint64_t generation, uint64_t step)
{
    Retile__V1__OpenSaveRequest request;

    retile__v1__open_save_request__init(&request);
    request.session = lab->session;
    request.job = text("gpt");
    request.generation = generation;
    request.step = step;
    lab_call(lab, "/retile.v1.Agents/OpenSave", &request);
}

void vote(struct lab *lab,
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

void rescale(struct lab *lab, const char *id, const char *to, bool dry)
{
    Retile__V1__RescaleRequest request;

    retile__v1__rescale_request__init(&request);
    request.request_id = text(id);
    request.job = text("gpt");
    request.to = text(to);
    request.dry_run = dry;
    lab_call(lab, "/retile.v1.Jobs/Rescale", &request);
}

void run_gpt(struct lab *lab, struct lab_status *status)
{
    lab_init(lab);
    lab_hello(lab, "h", gpt_store, 4, NULL, 0);
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

void save(struct lab *lab,
          struct lab_status *status,
          uint64_t number,
          uint64_t generation,
          uint64_t step)
{
    open_save(lab, generation, step);
    assert_int_equal(lab->attempt, number);
    vote(lab, number, generation, step, gpt_spec, "tp=2");
    assert_int_equal(lab->decision, RETILE__V1__DECISION__DECISION_COMMIT);
    lab_status_version(status, number, step, gpt_spec, "tp=2");
    lab_status(lab, &status->status);
}
