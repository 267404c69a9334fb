/* `retile rescale JOB`: another layout, or other devices, by the coordinator. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cli/device_args.h"
#include "cli/follow.h"
#include "cli/job_args.h"
#include "cli/job_wait.h"
#include "cli/message.h"
#include "cli/remote.h"

enum { MAX_DEADLINE_S = 86400 };

/* What the request points at, given. */
struct wish {
    Retile__V1__RescaleRequest request;
    char id[CLI_REQUEST_ID_BYTES];
    char *job;
    char *to;
    struct cli_devices devices;
};

static void wish_done(struct wish *wish)
{
    free(wish->job);
    free(wish->to);
    cli_devices_done(&wish->devices);
}

static enum base_code fill(struct wish *wish,
                           const struct cli_rescale_args *args,
                           struct base_err *err)
{
    Retile__V1__RescaleRequest *request = &wish->request;
    uint64_t deadline_s = 0;

    retile__v1__rescale_request__init(request);
    if (args->to == NULL && args->devices == NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "--to SPEC or --devices LIST is needed");
    }
    BASE_TRY(cli_parse_count("--deadline", args->deadline, 1, MAX_DEADLINE_S,
                             &deadline_s, err));
    BASE_TRY(cli_layout_text("--to", args->to == NULL ? "" : args->to,
                             &wish->to, err));
    if (args->devices != NULL) {
        BASE_TRY(cli_devices_parse(args->devices, &wish->devices, err));
    }
    wish->job = strdup(args->job);
    if (wish->job == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot ask for a rescale");
    }
    request->request_id = cli_request_id(wish->id);
    request->job = wish->job;
    request->to = wish->to;
    request->devices = wish->devices.list;
    request->n_devices = wish->devices.n;
    request->dry_run = args->is_dry_run;
    request->deadline_s = (uint32_t)deadline_s;
    return BASE_OK;
}

/* --- printing ------------------------------------------------------------ */

/* Nothing to move and nothing moved is 1, too. */
static double ratio_of(const Retile__V1__PlanSummary *plan)
{
    if (plan->moved_bytes == plan->bound_bytes) {
        return 1.0;
    }
    return (double)plan->moved_bytes /
           (double)base_max_u64(plan->bound_bytes, 1);
}

static void print_plan(const Retile__V1__RescaleResponse *answer)
{
    const Retile__V1__PlanSummary *plan = answer->plan;
    char a[24];
    char b[24];

    (void)printf("  state       %s, %" PRIu32 " ranks, %s\n",
                 base_format_size(plan->state_bytes, a), plan->n_ranks,
                 answer->mesh);
    (void)printf(
        "  moved       %s between hosts; the least is %s; ratio %.2f\n",
        base_format_size(plan->moved_bytes, a),
        base_format_size(plan->bound_bytes, b), ratio_of(plan));
    (void)printf("  copied      %s within hosts\n",
                 base_format_size(plan->copied_bytes, a));
    (void)printf("  peak        %s more memory\n",
                 base_format_size(plan->peak_bytes, a));
    (void)printf("  predicted   %.3f s to make the version\n",
                 plan->predicted_s);
    for (size_t i = 0; i < answer->n_placements; i++) {
        (void)printf("%s%" PRIu32 " on %s/%" PRIu32,
                     i == 0 ? "  ranks       " : ", ",
                     answer->placements[i]->rank, answer->placements[i]->host,
                     answer->placements[i]->device);
    }
    (void)printf("%s", answer->n_placements == 0 ? "" : "\n");
    for (size_t i = 0; i < plan->n_dropped; i++) {
        (void)printf("  dropped     %s\n", plan->dropped[i]);
    }
    for (size_t i = 0; i < plan->n_warnings; i++) {
        (void)printf("  warning     %s\n", plan->warnings[i]);
    }
}

static enum cli_exit tell(const Retile__V1__RescaleResponse *answer,
                          const struct cli_rescale_args *args,
                          const struct cli_job_wait *wait)
{
    const Retile__V1__Job *job =
        wait->answer != NULL ? wait->answer->job : answer->job;
    json_t *json;

    if (args->wants_json) {
        json = cli_message_json(&answer->base);
        if (json == NULL ||
            json_object_set_new(json, "version", json_integer(1)) != 0 ||
            json_object_set_new(json, "dry_run",
                                json_boolean(args->is_dry_run)) != 0 ||
            json_object_set_new(json, "ratio",
                                answer->plan == NULL
                                    ? json_null()
                                    : json_real(ratio_of(answer->plan))) != 0 ||
            json_object_set_new(json, "job",
                                job == NULL
                                    ? json_null()
                                    : cli_message_json(&job->base)) != 0 ||
            json_object_set_new(json, "phases", cli_job_wait_json(wait)) != 0) {
            json_decref(json);
            json = NULL;
        }
        return cli_print_json("rescale", json);
    }
    if (wait->answer == NULL) {
        (void)printf("%s: %s\n", args->job,
                     args->is_dry_run ? "would be rescaled"
                                      : "is being "
                                        "rescaled");
    } else {
        (void)printf("%s: generation %" PRIu64 ", %s, from version %" PRIu64
                     "\n",
                     args->job, job->generation->number, job->generation->mesh,
                     job->generation->load);
    }
    if (answer->plan != NULL) {
        print_plan(answer);
    }
    if (wait->answer != NULL) {
        (void)printf("  took        ");
        cli_job_wait_print(wait);
    }
    return CLI_DONE;
}

/* --- waiting ------------------------------------------------------------- */

/* The next generation may be started, or there will be none: the change is gone
 * while the generation before it is still the newest. */
static enum cli_waited has_next(void *ctx, const Retile__V1__Job *job)
{
    const uint64_t *before = ctx;
    const Retile__V1__Generation *generation =
        job == NULL ? NULL : job->generation;
    bool is_new = generation != NULL && generation->number > *before;

    if (job == NULL || job->state == RETILE__V1__JOB_STATE__JOB_FAILED ||
        job->state == RETILE__V1__JOB_STATE__JOB_LOST ||
        job->state == RETILE__V1__JOB_STATE__JOB_REMOVING) {
        return CLI_WAIT_FAILED;
    }
    if (job->change != NULL) {
        return CLI_WAIT_ON;
    }
    if (is_new && cli_job_is_ready(job)) {
        return CLI_WAIT_DONE;
    }
    return !is_new && (job->state == RETILE__V1__JOB_STATE__JOB_RUNNING ||
                       job->state == RETILE__V1__JOB_STATE__JOB_DONE)
               ? CLI_WAIT_FAILED
               : CLI_WAIT_ON;
}

static enum base_code ask(struct cli_server *server,
                          const struct cli_rescale_args *args,
                          struct cli_job_wait *wait,
                          uint64_t *before,
                          ProtobufCMessage **ret,
                          struct base_err *err)
{
    __attribute__((cleanup(wish_done))) struct wish wish = {0};
    Retile__V1__GetJobResponse *job = NULL;

    BASE_TRY(fill(&wish, args, err));
    if (args->wants_wait && !args->is_dry_run) {
        BASE_TRY(cli_follow_next(server, &wait->from, err));
        BASE_TRY(cli_job_get(server, args->job, false, &job, err));
        *before =
            job->job->generation == NULL ? 0 : job->job->generation->number;
        rpc_message_free(&job->base);
    }
    return cli_call(server, &retile__v1__jobs__descriptor, "Rescale",
                    &wish.request.base, ret, err);
}

enum cli_exit cli_rescale_remote(const struct cli_rescale_args *args)
{
    uint64_t before = 0;
    __attribute__((cleanup(cli_job_wait_done))) struct cli_job_wait wait = {
        .verb = "rescale", .job = args->job, .judge = has_next, .ctx = &before};
    BASE_AUTO(cli_server) server = NULL;
    CLI_AUTO_ANSWER answer = NULL;
    struct base_err err = {0};

    if (cli_connect(&server, &err) != BASE_OK ||
        ask(server, args, &wait, &before, &answer, &err) != BASE_OK ||
        (args->wants_wait && !args->is_dry_run &&
         cli_job_wait(server, &wait, &err) != BASE_OK)) {
        return cli_tell("rescale", &err);
    }
    return tell((const void *)answer, args, &wait);
}
