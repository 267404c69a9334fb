/* Whatever agents and clients say that keeps to the bounds of the API, in any
 * order, true or not: the core goes on, its invariants hold, its records can be
 * read again, and what it says keeps to the bounds too.
 *
 * RETILE_SEED is the first seed, RETILE_CASES how many. */
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "coordinator/core/impl.h"
#include "tests/unit/coordinator/gpt.h"

enum { N_STEPS = 300, N_JOBS = 3, N_HOSTS = 2 };

static const char *const jobs[N_JOBS] = {"gpt", "other", "third"};
static const char *const hosts[N_HOSTS] = {"h", "i"};
static const char *const stores[] = {"00000000000000000000000000000001",
                                     "00000000000000000000000000000002"};
static const char *const meshes[] = {"tp=2", "tp=1", "", "tp"};
static const char *const layouts[] = {gpt_spec, "tp=1", "tp=2", "tp=3", ""};

struct storm {
    struct lab lab;
    uint64_t random;
    uint64_t calm;              /* more: less is untrue */
    uint64_t newest;            /* session */
    uint64_t sessions[N_HOSTS]; /* 0: none */
    uint64_t n_requests;
    char id[32];
    struct lab_status statuses[N_JOBS];
};

static uint64_t below(struct storm *storm, uint64_t n)
{
    return base_random_next(&storm->random) % n;
}

/* Mostly small, so that it means something. */
static uint64_t number(struct storm *storm)
{
    static const uint64_t large[] = {INT64_MAX, (uint64_t)INT64_MAX / 2, 1000};

    return below(storm, 40) == 0 ? large[below(storm, 3)] : 1 + below(storm, 8);
}

enum what { GENERATION, ATTEMPT, PLAN };

/* Often the one that is expected. */
static uint64_t number_of(struct storm *storm, size_t job, enum what what)
{
    const struct coord_job *there = job_find(storm->lab.coord, jobs[job]);
    const Retile__V1__Job *rec = there != NULL ? there->rec->job : NULL;
    uint64_t expected = 0;

    if (rec == NULL || below(storm, 4 * storm->calm) == 0) {
        return number(storm);
    }
    switch (what) {
    case GENERATION:
        expected = rec->generation != NULL ? rec->generation->number : 0;
        break;
    case ATTEMPT:
        expected = rec->attempt != NULL ? rec->attempt->number : 0;
        break;
    case PLAN:
        expected = there->rec->plan;
        break;
    }
    return expected != 0 ? expected : number(storm);
}

/* What is there, or is to be. */
static void add_versions(struct storm *storm, size_t job)
{
    const struct coord_job *there = job_find(storm->lab.coord, jobs[job]);
    struct lab_status *to = &storm->statuses[job];

    for (size_t i = 0; there != NULL && i < there->rec->job->n_versions &&
                       i < 4 && below(storm, 20 * storm->calm) != 0;
         i++) {
        lab_status_version(to, there->rec->job->versions[i]->number,
                           number(storm), gpt_spec, "tp=2");
    }
    if (below(storm, 4) == 0) {
        lab_status_version(to, number_of(storm, job, ATTEMPT), number(storm),
                           gpt_spec, "tp=2");
    }
}

#define ONE_OF(storm, list)                                                    \
    text((list)[below(storm, sizeof(list) / sizeof((list)[0]))])

static char *request_id(struct storm *storm)
{
    storm->n_requests += below(storm, 20) != 0;
    (void)snprintf(storm->id, sizeof(storm->id), "q%u",
                   (unsigned)storm->n_requests);
    return storm->id;
}

static struct lab_status *some_status(struct storm *storm, size_t job)
{
    struct lab_status *to = &storm->statuses[job];

    lab_status_init(to, jobs[job]);
    if (below(storm, 4 * storm->calm) != 0) {
        lab_status_prepared(
            to, number_of(storm, job, GENERATION),
            below(storm, storm->calm) == 0 ? (uint32_t)below(storm, 4) : 2);
        lab_status_ranks(to,
                         below(storm, storm->calm) == 0
                             ? (int)below(storm, 3) + 1
                             : RANK(RUNNING),
                         below(storm, 3) == 0);
        to->generation.is_prepared = below(storm, 3 * storm->calm) != 0;
        to->generation.is_clear = below(storm, 2) != 0;
    }
    if (below(storm, 4 * storm->calm) != 0) {
        add_versions(storm, job);
    }
    for (uint64_t n = below(storm, 4 * storm->calm) == 0 ? 2 : 0; n > 0; n--) {
        lab_status_version(to, number(storm), number(storm),
                           ONE_OF(storm, layouts), ONE_OF(storm, meshes));
    }
    if (below(storm, 4) == 0) {
        to->status.attempt = &to->attempt;
        to->attempt.number = number_of(storm, job, ATTEMPT);
        to->attempt.is_failed = below(storm, 2) == 0;
        to->attempt.may_come_again = below(storm, 2) == 0;
    }
    if (below(storm, 3) == 0) {
        to->status.plan = &to->plan;
        to->plan.number = number_of(storm, job, PLAN);
        to->plan.layout = ONE_OF(storm, layouts);
        to->plan.mesh = ONE_OF(storm, meshes);
        to->plan.is_failed = below(storm, 4) == 0;
    }
    to->status.is_gone = below(storm, 10 * storm->calm) == 0;
    to->status.highest = below(storm, 8 * storm->calm) == 0 ? number(storm) : 0;
    to->status.highest_generation =
        below(storm, 8 * storm->calm) == 0 ? number(storm) : 0;
    to->status.revision =
        below(storm, 2) == 0 ? number(storm) : storm->lab.revision + 2;
    return to;
}

/* A job that is not known is rarely told of: while it is, it can't be made. */
static bool is_there(struct storm *storm, size_t job)
{
    return job_find(storm->lab.coord, jobs[job]) != NULL ||
           below(storm, 20 * storm->calm) == 0;
}

static void agent(struct storm *storm)
{
    uint64_t host = below(storm, N_HOSTS);
    Retile__V1__JobStatus *list[N_JOBS];
    size_t n = 0;

    if (storm->sessions[host] == 0 || below(storm, 15) == 0 ||
        host_of_session(storm->lab.coord, storm->sessions[host]) == NULL) {
        for (size_t i = 0; i < N_JOBS; i++) {
            if (is_there(storm, i) && below(storm, 2 * storm->calm) != 0) {
                list[n++] = &some_status(storm, i)->status;
            }
        }
        storm->lab.session = storm->newest;
        lab_hello(&storm->lab, hosts[host],
                  stores[below(storm, storm->calm) == 0 ? below(storm, 2) : 0],
                  below(storm, storm->calm) == 0 ? (uint32_t)below(storm, 5)
                                                 : 4,
                  list, n);
        storm->sessions[host] = storm->newest = storm->lab.session;
    } else if (below(storm, 15) == 0) {
        lab_closed(&storm->lab, storm->sessions[host]);
        storm->sessions[host] = 0;
    } else {
        size_t job = below(storm, N_JOBS);

        storm->lab.session = storm->sessions[host];
        if (is_there(storm, job)) {
            lab_status(&storm->lab, &some_status(storm, job)->status);
        }
    }
}

static void save_call(struct storm *storm)
{
    Retile__V1__OpenSaveRequest open;
    Retile__V1__CloseSaveRequest close;
    Retile__V1__VoteRequest vote_request;
    Retile__V1__Version version;
    uint64_t session = storm->sessions[below(storm, N_HOSTS)];
    size_t job = below(storm, N_JOBS);

    switch (below(storm, 3)) {
    case 0:
        retile__v1__open_save_request__init(&open);
        open.session = session;
        open.job = text(jobs[job]);
        open.generation = number_of(storm, job, GENERATION);
        open.step = number(storm);
        lab_call(&storm->lab, "/retile.v1.Agents/OpenSave", &open);
        break;
    case 1:
        retile__v1__close_save_request__init(&close);
        close.session = session;
        close.job = text(jobs[job]);
        close.attempt = number_of(storm, job, ATTEMPT);
        lab_call(&storm->lab, "/retile.v1.Agents/CloseSave", &close);
        break;
    default:
        retile__v1__vote_request__init(&vote_request);
        retile__v1__version__init(&version);
        vote_request.session = session;
        vote_request.job = text(jobs[job]);
        vote_request.attempt = number_of(storm, job, ATTEMPT);
        vote_request.generation =
            below(storm, 2) * number_of(storm, job, GENERATION);
        version.number = vote_request.attempt;
        version.mesh = ONE_OF(storm, meshes);
        version.layout = ONE_OF(storm, layouts);
        if (below(storm, 4) != 0) {
            vote_request.version = &version;
        }
        lab_call(&storm->lab, "/retile.v1.Agents/Vote", &vote_request);
    }
}

static void job_call(struct storm *storm)
{
    Retile__V1__SubmitJobRequest submission;
    Retile__V1__RemoveJobRequest removal;
    Retile__V1__RescaleRequest request;
    Retile__V1__Device devices[2];
    Retile__V1__Device *list[2] = {&devices[0], &devices[1]};

    switch (below(storm, 8)) {
    case 0:
    case 1:
    case 2:
        retile__v1__submit_job_request__init(&submission);
        submission.request_id = request_id(storm);
        submission.name = ONE_OF(storm, jobs);
        submission.layout = below(storm, 4) == 0 ? text("") : text(gpt_spec);
        submission.max_restarts = (uint32_t)below(storm, 3) - 1;
        if (below(storm, 3) == 0) {
            submission.host = ONE_OF(storm, hosts);
        }
        if (below(storm, 4) == 0) {
            submission.start_case =
                RETILE__V1__SUBMIT_JOB_REQUEST__START_IMPORT_DIR;
            submission.import_dir = text("/checkpoint");
        } else if (below(storm, 4) == 0) {
            submission.start_case =
                RETILE__V1__SUBMIT_JOB_REQUEST__START_FROM_VERSION;
            submission.from_version = ONE_OF(storm, jobs);
        }
        lab_call(&storm->lab, "/retile.v1.Jobs/Submit", &submission);
        break;
    case 3:
        retile__v1__remove_job_request__init(&removal);
        removal.request_id = request_id(storm);
        removal.name = ONE_OF(storm, jobs);
        removal.force = below(storm, 2) == 0;
        lab_call(&storm->lab, "/retile.v1.Jobs/Remove", &removal);
        break;
    default:
        retile__v1__rescale_request__init(&request);
        request.request_id = request_id(storm);
        request.job = ONE_OF(storm, jobs);
        request.to = ONE_OF(storm, layouts);
        request.dry_run = below(storm, 4) == 0;
        request.deadline_s = (uint32_t)below(storm, 3);
        request.devices = list;
        request.n_devices = below(storm, 3) == 0 ? 2 : 0;
        for (size_t i = 0; i < 2; i++) {
            retile__v1__device__init(&devices[i]);
            devices[i].host = ONE_OF(storm, hosts);
            devices[i].index = (uint32_t)below(storm, 4);
        }
        lab_call(&storm->lab, "/retile.v1.Jobs/Rescale", &request);
    }
}

static void version_call(struct storm *storm)
{
    Retile__V1__PinVersionRequest pin;
    Retile__V1__ReleaseVersionRequest release;
    Retile__V1__RollbackRequest rollback;

    switch (below(storm, 3)) {
    case 0:
        retile__v1__pin_version_request__init(&pin);
        pin.request_id = request_id(storm);
        pin.job = ONE_OF(storm, jobs);
        pin.version = number(storm);
        pin.why = text(below(storm, 2) == 0 ? "" : "good");
        lab_call(&storm->lab, "/retile.v1.Versions/Pin", &pin);
        break;
    case 1:
        retile__v1__release_version_request__init(&release);
        release.request_id = request_id(storm);
        release.job = ONE_OF(storm, jobs);
        release.version = number(storm);
        lab_call(&storm->lab, "/retile.v1.Versions/Release", &release);
        break;
    default:
        retile__v1__rollback_request__init(&rollback);
        rollback.request_id = request_id(storm);
        rollback.job = ONE_OF(storm, jobs);
        rollback.version = number(storm);
        lab_call(&storm->lab, "/retile.v1.Versions/Rollback", &rollback);
    }
}

static void device_call(struct storm *storm)
{
    Retile__V1__FailDeviceRequest fail;
    Retile__V1__DrainDeviceRequest drain;
    Retile__V1__RecoverDeviceRequest recover;
    Retile__V1__ForgetHostRequest forget;

    switch (below(storm, 4)) {
    case 0:
        retile__v1__fail_device_request__init(&fail);
        fail.request_id = request_id(storm);
        fail.host = ONE_OF(storm, hosts);
        fail.index = (uint32_t)below(storm, 4);
        lab_call(&storm->lab, "/retile.v1.Devices/Fail", &fail);
        break;
    case 1:
        retile__v1__drain_device_request__init(&drain);
        drain.request_id = request_id(storm);
        drain.host = ONE_OF(storm, hosts);
        drain.index = (uint32_t)below(storm, 4);
        lab_call(&storm->lab, "/retile.v1.Devices/Drain", &drain);
        break;
    case 2:
        retile__v1__recover_device_request__init(&recover);
        recover.request_id = request_id(storm);
        recover.host = ONE_OF(storm, hosts);
        recover.all = true;
        lab_call(&storm->lab, "/retile.v1.Devices/Recover", &recover);
        break;
    default:
        retile__v1__forget_host_request__init(&forget);
        forget.request_id = request_id(storm);
        forget.host = ONE_OF(storm, hosts);
        forget.force = below(storm, 2) == 0;
        lab_call(&storm->lab, "/retile.v1.Devices/ForgetHost", &forget);
    }
}

static void run(uint64_t seed)
{
    static struct storm storm;

    memset(&storm, 0, sizeof(storm));
    storm.random = seed;
    storm.calm = 1 + below(&storm, 16);
    lab_init(&storm.lab);
    storm.newest = storm.lab.session;
    for (int i = 0; i < N_STEPS; i++) {
        switch (below(&storm, 16)) {
        case 0:
            lab_wait(&storm.lab,
                     (int64_t)(below(&storm, 4) == 0 ? 20000 : 500));
            break;
        case 1:
            version_call(&storm);
            break;
        case 2:
            if (below(&storm, storm.calm) == 0) {
                device_call(&storm);
            }
            break;
        case 3:
        case 4:
            job_call(&storm);
            break;
        case 5:
        case 6:
        case 7:
            save_call(&storm);
            break;
        case 8:
            if (below(&storm, 5) == 0) {
                lab_restart(&storm.lab);
                memset(storm.sessions, 0, sizeof(storm.sessions));
            }
            break;
        default:
            agent(&storm);
        }
        lab_skip(&storm.lab);
    }
    lab_done(&storm.lab);
}

static uint64_t env(const char *name, uint64_t otherwise)
{
    const char *value = getenv(name);
    uint64_t n;

    return value != NULL && base_parse_u64(base_str_of(value), &n) ? n
                                                                   : otherwise;
}

static uint64_t running; /* the seed; 0: none */

static int tell_seed(void **state)
{
    (void)state;
    if (running != 0) {
        print_error("RETILE_SEED=%" PRIu64 "\n", running);
    }
    return 0;
}

static void test_nothing_that_is_said_breaks_the_core(void **state)
{
    uint64_t first = env("RETILE_SEED", 1);
    uint64_t n = env("RETILE_CASES", 500);

    (void)state;
    for (running = first; running < first + n; running++) {
        run(running);
    }
    running = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_nothing_that_is_said_breaks_the_core,
                                  tell_seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
