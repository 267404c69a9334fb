/* Memory that runs out at every allocation of the coordinator's core: it says
 * so, its driver ends, and nothing leaks. */
#include "tests/unit/unit.h"

#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/versions.pb-c.h>
#include <string.h>

#include "coordinator/core/core.h"
#include "tests/fault/nth.h"

static char narrow[] = "mesh: {tp: 1}\nrules:\n  - {match: '*', dims: [tp]}\n";
static char wide[] = "mesh: {tp: 2}\nrules:\n- {match: '*', dims: [tp]}\n";

/* A core and what drives it. */
struct run {
    struct coord *coord;
    struct coord_actions actions;
    int64_t now_ns;
    bool keeps; /* what was said before */
};

static enum base_code
step(struct run *run, struct coord_event event, struct base_err *err)
{
    enum base_code rc;

    event.now.mono_ns = run->now_ns += 1000000;
    if (!run->keeps) {
        coord_actions_clear(&run->actions);
    }
    rc = coord_step(run->coord, &event, &run->actions, err);
    return rc != BASE_OK ? rc : coord_flush(run->coord, &run->actions, err);
}

static enum base_code call(struct run *run,
                           const char *method,
                           const void *message,
                           struct base_err *err)
{
    return step(run,
                (struct coord_event){.kind = COORD_CALL,
                                     .ticket = 1,
                                     .method = method,
                                     .message = message},
                err);
}

static enum base_code hello(struct run *run, struct base_err *err)
{
    Retile__V1__FromAgent message = RETILE__V1__FROM_AGENT__INIT;
    Retile__V1__Hello say = RETILE__V1__HELLO__INIT;
    Retile__V1__Device devices[2] = {RETILE__V1__DEVICE__INIT,
                                     RETILE__V1__DEVICE__INIT};
    Retile__V1__Device *list[2] = {&devices[0], &devices[1]};
    Retile__V1__JobStatus other = RETILE__V1__JOB_STATUS__INIT;
    Retile__V1__JobStatus *jobs[1] = {&other};
    char kind[] = "cpu";
    char host[] = "h";
    char name[] = "stranger";
    char why[] = "broken";

    devices[0].kind = kind;
    devices[1].index = 1;
    devices[1].state = RETILE__V1__DEVICE_STATE__DEVICE_FAILED;
    devices[1].reason = why;
    other.job = name;
    say.host = host;
    say.store_id = host;
    say.address = host;
    say.n_devices = 2;
    say.devices = list;
    say.n_jobs = 1;
    say.jobs = jobs;
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_HELLO;
    message.hello = &say;
    BASE_TRY(step(run,
                  (struct coord_event){.kind = COORD_SESSION_OPEN,
                                       .session = 7,
                                       .message = &message.base},
                  err));
    Retile__V1__DeviceReport report = RETILE__V1__DEVICE_REPORT__INIT;
    Retile__V1__FromAgent well = RETILE__V1__FROM_AGENT__INIT;

    report.index = 1;
    well.what_case = RETILE__V1__FROM_AGENT__WHAT_DEVICE;
    well.device = &report;
    return step(run,
                (struct coord_event){.kind = COORD_SESSION_SAYS,
                                     .session = 7,
                                     .message = &well.base},
                err);
}

static enum base_code
submit(struct run *run, bool is_import, struct base_err *err)
{
    Retile__V1__SubmitJobRequest request = RETILE__V1__SUBMIT_JOB_REQUEST__INIT;
    char id[] = "submit";
    char name[] = "gpt";
    char dir[] = "/checkpoint";

    request.request_id = id;
    request.name = name;
    request.layout = narrow;
    if (is_import) {
        request.layout = wide;
        request.start_case = RETILE__V1__SUBMIT_JOB_REQUEST__START_IMPORT_DIR;
        request.import_dir = dir;
    }
    BASE_TRY(call(run, "/retile.v1.Jobs/Submit", &request, err));
    return call(run, "/retile.v1.Jobs/Submit", &request, err); /* once more */
}

/* What its host says of gpt. */
struct said {
    uint64_t generation, n_versions, failed, plan;
    Retile__V1__RankState rank;
};

static void fill_version(Retile__V1__Version *version, uint64_t number)
{
    static char mesh[] = "tp=1";

    retile__v1__version__init(version);
    version->number = number;
    version->has_step = true;
    version->step = number * 10;
    version->layout = narrow;
    version->mesh = mesh;
}

static enum base_code
status(struct run *run, struct said said, struct base_err *err)
{
    Retile__V1__FromAgent message = RETILE__V1__FROM_AGENT__INIT;
    Retile__V1__JobStatus job = RETILE__V1__JOB_STATUS__INIT;
    Retile__V1__StatusGeneration generation =
        RETILE__V1__STATUS_GENERATION__INIT;
    Retile__V1__RankStatus rank = RETILE__V1__RANK_STATUS__INIT;
    Retile__V1__RankStatus *ranks[1] = {&rank};
    Retile__V1__Version versions[8];
    Retile__V1__Version *list[8];
    Retile__V1__StatusPlan plan = RETILE__V1__STATUS_PLAN__INIT;
    char name[] = "gpt";
    char trouble[] = "mount: slow";
    char mesh[] = "tp=2";

    job.job = name;
    job.trouble = trouble;
    job.revision = 1000;
    for (uint64_t i = 0; i < said.n_versions; i++) {
        fill_version(&versions[i], i + 1);
        list[i] = &versions[i];
    }
    job.n_versions = (size_t)said.n_versions;
    job.versions = list;
    if (said.generation != 0) {
        generation.number = said.generation;
        generation.is_prepared = true;
        generation.master_port = 1;
        generation.n_ranks = 1;
        generation.ranks = ranks;
        rank.state = said.rank;
        job.generation = &generation;
    }
    if (said.plan != 0) {
        plan.number = said.plan;
        plan.layout = wide;
        plan.mesh = mesh;
        job.plan = &plan;
    }
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_JOB;
    message.job = &job;
    return step(run,
                (struct coord_event){.kind = COORD_SESSION_SAYS,
                                     .session = 7,
                                     .message = &message.base},
                err);
}

static enum base_code vote(struct run *run,
                           uint64_t number,
                           uint64_t generation,
                           struct base_err *err)
{
    Retile__V1__OpenSaveRequest open = RETILE__V1__OPEN_SAVE_REQUEST__INIT;
    Retile__V1__VoteRequest request = RETILE__V1__VOTE_REQUEST__INIT;
    Retile__V1__Version version;
    char name[] = "gpt";

    open.session = request.session = 7;
    open.job = request.job = name;
    open.generation = request.generation = generation;
    open.step = number * 10;
    request.attempt = number;
    fill_version(&version, number);
    request.version = &version;
    if (generation != 0) {
        BASE_TRY(call(run, "/retile.v1.Agents/OpenSave", &open, err));
    }
    return call(run, "/retile.v1.Agents/Vote", &request, err);
}

static enum base_code rescale(struct run *run, struct base_err *err)
{
    Retile__V1__RescaleRequest request = RETILE__V1__RESCALE_REQUEST__INIT;
    Retile__V1__Device device = RETILE__V1__DEVICE__INIT;
    Retile__V1__Device second = RETILE__V1__DEVICE__INIT;
    Retile__V1__Device *devices[2] = {&device, &second};
    char id[] = "rescale";
    char name[] = "gpt";
    char to[] = "tp=2";
    char host[] = "h";

    device.host = second.host = host;
    second.index = 1;
    request.request_id = id;
    request.job = name;
    request.to = to;
    request.n_devices = 2;
    request.devices = devices;
    return call(run, "/retile.v1.Jobs/Rescale", &request, err);
}

static enum base_code looks(struct run *run, struct base_err *err)
{
    Retile__V1__ListJobsRequest jobs = RETILE__V1__LIST_JOBS_REQUEST__INIT;
    Retile__V1__ListDevicesRequest devices =
        RETILE__V1__LIST_DEVICES_REQUEST__INIT;
    Retile__V1__ListVersionsRequest versions =
        RETILE__V1__LIST_VERSIONS_REQUEST__INIT;
    Retile__V1__PinVersionRequest pin = RETILE__V1__PIN_VERSION_REQUEST__INIT;
    Retile__V1__RollbackRequest back = RETILE__V1__ROLLBACK_REQUEST__INIT;
    Retile__V1__DrainDeviceRequest drain =
        RETILE__V1__DRAIN_DEVICE_REQUEST__INIT;
    Retile__V1__RemoveJobRequest removal = RETILE__V1__REMOVE_JOB_REQUEST__INIT;
    char name[] = "gpt";
    char host[] = "h";
    char ids[4][8] = {"pin", "back", "drain", "remove"};

    versions.job = pin.job = back.job = removal.name = name;
    pin.request_id = ids[0];
    pin.version = back.version = 1;
    pin.why = name;
    back.request_id = ids[1];
    drain.request_id = ids[2];
    drain.host = host;
    removal.request_id = ids[3];
    removal.force = true;
    BASE_TRY(call(run, "/retile.v1.Jobs/List", &jobs, err));
    BASE_TRY(call(run, "/retile.v1.Devices/List", &devices, err));
    BASE_TRY(call(run, "/retile.v1.Versions/List", &versions, err));
    BASE_TRY(call(run, "/retile.v1.Versions/Pin", &pin, err));
    BASE_TRY(call(run, "/retile.v1.Versions/Rollback", &back, err));
    BASE_TRY(call(run, "/retile.v1.Devices/Drain", &drain, err));
    return call(run, "/retile.v1.Jobs/Remove", &removal, err);
}

static enum base_code begin(struct run *run, struct base_err *err)
{
    struct coord_limits limits;

    coord_limits_init(&limits);
    limits.history = 1;
    limits.max_requests = 2;
    BASE_TRY(coord_create(&limits, &run->coord, err));
    BASE_TRY(coord_actions_init(&run->actions, err));
    return coord_begin(run->coord, 0, (struct coord_time){0}, &run->actions,
                       err);
}

static enum base_code with_job(struct run *run, struct base_err *err)
{
    BASE_TRY(begin(run, err));
    BASE_TRY(hello(run, err));
    BASE_TRY(submit(run, false, err));
    BASE_TRY(status(run, (struct said){.generation = 1}, err));
    BASE_TRY(status(run,
                    (struct said){.generation = 1,
                                  .rank = RETILE__V1__RANK_STATE__RANK_RUNNING},
                    err));
    BASE_TRY(vote(run, 1, 1, err));
    BASE_TRY(status(run,
                    (struct said){.generation = 1,
                                  .n_versions = 1,
                                  .rank = RETILE__V1__RANK_STATE__RANK_RUNNING},
                    err));
    BASE_TRY(vote(run, 2, 1, err)); /* a save that has a parent */
    BASE_TRY(status(run,
                    (struct said){.generation = 1,
                                  .n_versions = 2,
                                  .rank = RETILE__V1__RANK_STATE__RANK_RUNNING},
                    err));
    BASE_TRY(rescale(run, err));
    BASE_TRY(status(run,
                    (struct said){.generation = 1,
                                  .n_versions = 2,
                                  .plan = 1,
                                  .rank = RETILE__V1__RANK_STATE__RANK_RUNNING},
                    err));
    BASE_TRY(status(run,
                    (struct said){.generation = 1,
                                  .n_versions = 2,
                                  .rank = RETILE__V1__RANK_STATE__RANK_EXITED},
                    err));
    BASE_TRY(vote(run, 3, 0, err));
    BASE_TRY(status(run, (struct said){.n_versions = 3}, err));
    BASE_TRY(status(run, (struct said){.n_versions = 3, .generation = 2}, err));
    BASE_TRY(looks(run, err));
    run->now_ns += INT64_C(100) * 1000000000;
    return step(run, (struct coord_event){.kind = COORD_TICK}, err);
}

static enum base_code end(struct run *run, enum base_code rc)
{
    coord_free(run->coord);
    coord_actions_done(&run->actions);
    return rc;
}

static enum base_code do_job(struct base_err *err)
{
    struct run run = {0};

    return end(&run, with_job(&run, err));
}

static enum base_code do_import(struct base_err *err)
{
    struct run run = {0};
    enum base_code rc = begin(&run, err);

    rc = rc != BASE_OK ? rc : hello(&run, err);
    rc = rc != BASE_OK ? rc : submit(&run, true, err);
    rc = rc != BASE_OK ? rc : vote(&run, 1, 0, err);
    rc = rc != BASE_OK ? rc : status(&run, (struct said){.n_versions = 1}, err);
    return end(&run, rc);
}

/* Records of a core that had everything are read into another. */
static enum base_code
reload(const struct coord_actions *from, struct run *run, struct base_err *err)
{
    BASE_TRY(coord_actions_init(&run->actions, err));
    for (size_t i = 0; i < from->records.n; i++) {
        const struct coord_record *rec = &from->records.items[i];

        if (rec->body.ptr != NULL) {
            BASE_TRY(
                coord_load(run->coord, rec->kind, rec->id, rec->body, err));
        }
    }
    return coord_begin(run->coord, 0, (struct coord_time){0}, &run->actions,
                       err);
}

static enum base_code do_load(struct base_err *err)
{
    struct run run = {0};
    struct run second = {0};
    struct coord_limits limits;
    enum base_code rc;

    coord_limits_init(&limits);
    nth_pause();
    run.keeps = true;
    rc = begin(&run, err);
    rc = rc != BASE_OK ? rc : hello(&run, err);
    rc = rc != BASE_OK ? rc : submit(&run, false, err);
    assert_int_equal(rc, BASE_OK);
    nth_resume();
    rc = coord_create(&limits, &second.coord, err);
    rc = rc != BASE_OK ? rc : reload(&run.actions, &second, err);
    rc = end(&second, rc);
    nth_pause();
    (void)end(&run, rc);
    nth_resume();
    return rc;
}

static void test_each_allocation_may_fail(void **state)
{
    static const struct nth_scenario scenarios[] = {
        {"job", do_job, NULL},
        {"import", do_import, NULL},
        {"load", do_load, NULL},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(scenarios); i++) {
        nth_run(&scenarios[i], 200);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
