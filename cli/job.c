/* `retile job`: submit, list, show and remove jobs of a cluster. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/follow.h"
#include "cli/job_args.h"
#include "cli/job_wait.h"
#include "cli/message.h"

static const char *layout_text;
static const char *import_text;
static const char *from_text;
static const char *import_layout_text;
static const char *host_text;
static const char *restarts_text;
static const char *keep_text;
static bool wants_force;
static bool wants_wait;
static bool wants_json;

static const struct base_option options[] = {
    {"layout", 0, "SPEC",
     "submit: what it trains under, a YAML file or a short form (default: the "
     "layout of what it starts from)",
     &layout_text, NULL},
    {"import", 0, "DIR", "submit: start from this checkpoint directory",
     &import_text, NULL},
    {"import-layout", 0, "SPEC",
     "submit: the layout DIR is in, when it has no layout.yaml",
     &import_layout_text, NULL},
    {"from", 0, "JOB[@V]", "submit: start from a version of another job",
     &from_text, NULL},
    {"host", 0, "HOST", "submit: where (default: the coordinator chooses)",
     &host_text, NULL},
    {"max-restarts", 0, "N",
     "submit: restarts in a row before it has failed (default: 3)",
     &restarts_text, NULL},
    {"keep", 0, "N",
     "submit: versions that stay beside pinned ones (default: 2)", &keep_text,
     NULL},
    {"force", 0, NULL, "rm: also when it runs", NULL, &wants_force},
    {"wait", 0, NULL, "submit: until it can be started; rm: until it is gone",
     NULL, &wants_wait},
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
    CLI_CONNECT_OPTIONS,
};

const struct base_command cli_job_command = {
    .program = "retile job",
    .usage = "submit NAME | ls | show NAME | rm NAME  [options]",
    .about =
        "Submit, list, show and remove jobs\n"
        "A job is a training run: its layout, its versions, and the "
        "generations\nof processes that `retile launch` starts for it.  It "
        "starts from nothing, from\na checkpoint directory, or from another "
        "job's version.",
    .example = "retile job submit gpt --layout gpt.yaml\n"
               "retile job submit bert --import /data/ranks --wait\n"
               "retile job submit fork --from gpt@12\n"
               "retile job show gpt\n"
               "retile job rm gpt --force --wait",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 2,
};

/* --- printing ------------------------------------------------------------ */

static void print_times(const Retile__V1__Generation *generation)
{
    if (generation->ready_ns > 0) {
        (void)printf(", ready after %.3f s",
                     (double)(generation->ready_ns - generation->created_ns) /
                         1e9);
    }
    if (generation->running_ns > 0 && generation->ended_ns > 0) {
        (void)printf(", ran %.1f s",
                     (double)(generation->ended_ns - generation->running_ns) /
                         1e9);
    }
}

static void print_generation(const Retile__V1__Generation *generation)
{
    char word[CLI_WORD_BYTES];

    (void)printf("  generation %" PRIu64 "  %s, %s, from ", generation->number,
                 cli_enum_text(&retile__v1__generation_state__descriptor,
                               (int)generation->state, word),
                 generation->mesh);
    if (generation->load == 0) {
        (void)printf("nothing");
    } else {
        (void)printf("version %" PRIu64 " (step %" PRIu64 ")", generation->load,
                     generation->first_step);
    }
    print_times(generation);
    (void)printf("%s%s\n", generation->reason[0] == '\0' ? "" : ": ",
                 generation->reason);
}

static void print_placements(const Retile__V1__Generation *generation)
{
    for (size_t i = 0; i < generation->n_placements; i++) {
        const Retile__V1__Placement *placement = generation->placements[i];

        (void)printf("%s%" PRIu32 " on %s/%" PRIu32,
                     i == 0 ? "  ranks       " : ", ", placement->rank,
                     placement->host, placement->device);
    }
    (void)printf("%s", generation->n_placements == 0 ? "" : "\n");
}

static void print_job(const Retile__V1__Job *job)
{
    char word[CLI_WORD_BYTES];
    char time[CLI_TIME_BYTES];

    (void)printf("%s: %s%s%s\n", job->name,
                 cli_enum_text(&retile__v1__job_state__descriptor,
                               (int)job->state, word),
                 job->reason[0] == '\0' ? "" : ": ", job->reason);
    (void)printf("  mesh        %s, %" PRIu32 " ranks\n", job->mesh,
                 job->n_ranks);
    (void)printf("  host        %s\n",
                 job->host[0] == '\0' ? "none yet" : job->host);
    (void)printf("  submitted   %s\n", cli_time_text(job->submitted_ns, time));
    (void)printf("  restarts    %" PRIu32 " of %" PRIu32 " in a row; %" PRIu64
                 " saved steps given up\n",
                 job->n_restarts, job->max_restarts, job->lost_steps);
    if (job->change != NULL) {
        (void)printf("  under way   %s: %s\n", job->change->what,
                     cli_job_phase(job, word));
    }
    if (job->generation != NULL) {
        print_placements(job->generation);
        print_generation(job->generation);
    }
    for (size_t i = 0; i < job->n_history; i++) {
        if (job->generation == NULL ||
            job->history[i]->number != job->generation->number) {
            print_generation(job->history[i]);
        }
    }
    cli_versions_print(job->versions, job->n_versions);
}

static enum cli_exit tell_job(const Retile__V1__Job *job)
{
    if (wants_json) {
        return cli_print_json("job", json_pack("{si so}", "version", 1, "job",
                                               cli_message_json(&job->base)));
    }
    print_job(job);
    return CLI_DONE;
}

static void print_line(const Retile__V1__Job *job)
{
    const Retile__V1__Generation *generation = job->generation;
    char word[CLI_WORD_BYTES];
    char mesh[64];

    (void)snprintf(mesh, sizeof(mesh), "%s", job->mesh);
    (void)printf("%-16s %-10s %-20s %5" PRIu64 " %8" PRIu64 " %9" PRIu64
                 "  %s%s%s\n",
                 job->name, cli_job_phase(job, word), mesh,
                 generation == NULL ? 0 : generation->number, job->version,
                 cli_job_step(job), job->host[0] == '\0' ? "-" : job->host,
                 job->reason[0] == '\0' ? "" : "  ", job->reason);
}

static enum cli_exit list(struct cli_server *server, struct base_err *err)
{
    CLI_AUTO_ANSWER answer = NULL;
    const Retile__V1__ListJobsResponse *jobs;

    if (cli_call_list(server, &retile__v1__jobs__descriptor, &answer, err) !=
        BASE_OK) {
        return cli_tell("job", err);
    }
    jobs = (const void *)answer;
    if (wants_json) {
        return cli_print_json("job", json_pack("{si so}", "version", 1, "jobs",
                                               cli_list_json(jobs, jobs)));
    }
    if (jobs->n_jobs > 0) {
        (void)printf("%-16s %-10s %-20s %5s %8s %9s  %s\n", "NAME", "STATE",
                     "MESH", "GEN", "VERSION", "STEP", "HOST");
    }
    for (size_t i = 0; i < jobs->n_jobs; i++) {
        print_line(jobs->jobs[i]);
    }
    return CLI_DONE;
}

static enum cli_exit
show(struct cli_server *server, const char *name, struct base_err *err)
{
    Retile__V1__GetJobResponse *answer = NULL;
    enum cli_exit rc;

    if (cli_job_get(server, name, false, &answer, err) != BASE_OK) {
        return cli_tell("job", err);
    }
    rc = tell_job(answer->job);
    rpc_message_free(&answer->base);
    return rc;
}

/* --- submit -------------------------------------------------------------- */

/* Everything that a request points at: strings that are given. */
struct submission {
    Retile__V1__SubmitJobRequest request;
    char id[CLI_REQUEST_ID_BYTES];
    char *name;
    char *layout;
    char *start;
    char *import_layout;
    char *host;
};

static void submission_done(struct submission *submission)
{
    free(submission->name);
    free(submission->layout);
    free(submission->start);
    free(submission->import_layout);
    free(submission->host);
}

/* A directory as its host will see it: a relative one is of this machine. */
static enum base_code
absolute(const char *path, char **ret, struct base_err *err)
{
    *ret = path[0] == '/' ? strdup(path) : realpath(path, NULL);
    return *ret != NULL ? BASE_OK
                        : base_fail_errno(err, errno, "--import %s", path);
}

static enum base_code fill_start(struct submission *submission,
                                 struct base_err *err)
{
    Retile__V1__SubmitJobRequest *request = &submission->request;

    if (import_text != NULL && from_text != NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "--import and --from: a job starts from one thing");
    }
    if (import_text != NULL) {
        BASE_TRY(absolute(import_text, &submission->start, err));
        request->import_dir = submission->start;
        request->start_case = RETILE__V1__SUBMIT_JOB_REQUEST__START_IMPORT_DIR;
    } else if (import_layout_text != NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "--import-layout says what the directory of --import "
                         "is in");
    }
    if (import_layout_text != NULL) {
        BASE_TRY(cli_layout_text("--import-layout", import_layout_text,
                                 &submission->import_layout, err));
        request->import_layout = submission->import_layout;
    }
    if (from_text != NULL) {
        submission->start = strdup(from_text);
        request->from_version = submission->start;
        request->start_case =
            RETILE__V1__SUBMIT_JOB_REQUEST__START_FROM_VERSION;
    }
    return BASE_OK;
}

static enum base_code
fill(struct submission *submission, const char *name, struct base_err *err)
{
    Retile__V1__SubmitJobRequest *request = &submission->request;
    uint64_t restarts = 0;
    uint64_t keep = 0;

    retile__v1__submit_job_request__init(request);
    BASE_TRY(cli_parse_count("--max-restarts", restarts_text, 0, 1000000,
                             &restarts, err));
    BASE_TRY(cli_parse_count("--keep", keep_text, 1, 1000000, &keep, err));
    BASE_TRY(fill_start(submission, err));
    if (layout_text != NULL) {
        BASE_TRY(
            cli_layout_text("--layout", layout_text, &submission->layout, err));
    } else if (submission->start == NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "--layout is needed for a job that starts from "
                         "nothing");
    }
    submission->name = strdup(name);
    submission->host = strdup(host_text == NULL ? "" : host_text);
    if (submission->name == NULL || submission->host == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot submit");
    }
    request->request_id = cli_request_id(submission->id);
    request->name = submission->name;
    request->host = submission->host;
    if (submission->layout != NULL) {
        request->layout = submission->layout;
    }
    request->keep_versions = (uint32_t)keep;
    request->max_restarts = restarts_text != NULL && restarts == 0
                                ? UINT32_MAX
                                : (uint32_t)restarts;
    return BASE_OK;
}

/* Can it be started, or will it never be? */
static enum cli_waited can_start(void *ctx, const Retile__V1__Job *job)
{
    (void)ctx;
    if (job == NULL || job->state == RETILE__V1__JOB_STATE__JOB_FAILED ||
        job->state == RETILE__V1__JOB_STATE__JOB_LOST) {
        return CLI_WAIT_FAILED;
    }
    return cli_job_is_ready(job) ? CLI_WAIT_DONE : CLI_WAIT_ON;
}

static enum base_code wait_start(struct cli_server *server,
                                 struct cli_job_wait *wait,
                                 struct base_err *err)
{
    BASE_TRY(cli_job_wait(server, wait, err));
    return wait->answer != NULL
               ? BASE_OK
               : base_fail(err, BASE_NOT_FOUND, "%s is gone", wait->job);
}

static enum cli_exit
submit(struct cli_server *server, const char *name, struct base_err *err)
{
    __attribute__((cleanup(submission_done))) struct submission submission = {
        0};
    __attribute__((cleanup(cli_job_wait_done))) struct cli_job_wait wait = {
        .verb = "job", .job = name, .judge = can_start};
    CLI_AUTO_ANSWER answer = NULL;
    const Retile__V1__SubmitJobResponse *made;

    if (fill(&submission, name, err) != BASE_OK ||
        (wants_wait && cli_follow_next(server, &wait.from, err) != BASE_OK) ||
        cli_call(server, &retile__v1__jobs__descriptor, "Submit",
                 &submission.request.base, &answer, err) != BASE_OK) {
        return cli_tell("job", err);
    }
    made = (const void *)answer;
    if (!wants_wait) {
        return made->job == NULL ? show(server, name, err)
                                 : tell_job(made->job);
    }
    return wait_start(server, &wait, err) == BASE_OK
               ? tell_job(wait.answer->job)
               : cli_tell("job", err);
}

/* --- rm ------------------------------------------------------------------ */

static enum cli_waited is_gone(void *ctx, const Retile__V1__Job *job)
{
    (void)ctx;
    return job == NULL ? CLI_WAIT_DONE : CLI_WAIT_ON;
}

static enum base_code
ask_removal(struct cli_server *server, const char *name, struct base_err *err)
{
    Retile__V1__RemoveJobRequest request = RETILE__V1__REMOVE_JOB_REQUEST__INIT;
    BASE_AUTO_MEM char *copy = strdup(name);
    char id[CLI_REQUEST_ID_BYTES];

    if (copy == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot remove a job");
    }
    request.request_id = cli_request_id(id);
    request.name = copy;
    request.force = wants_force;
    return cli_call(server, &retile__v1__jobs__descriptor, "Remove",
                    &request.base, NULL, err);
}

static enum cli_exit
remove_job(struct cli_server *server, const char *name, struct base_err *err)
{
    __attribute__((cleanup(cli_job_wait_done))) struct cli_job_wait wait = {
        .verb = "job", .job = name, .judge = is_gone};
    const char *is = wants_wait ? "removed" : "being removed";

    if ((wants_wait && cli_follow_next(server, &wait.from, err) != BASE_OK) ||
        ask_removal(server, name, err) != BASE_OK ||
        (wants_wait && cli_job_wait(server, &wait, err) != BASE_OK)) {
        return cli_tell("job", err);
    }
    if (wants_json) {
        return cli_print_json("job",
                              json_pack("{si so ss}", "version", 1, "name",
                                        cli_json_text(name), "is", is));
    }
    (void)printf("%s: %s\n", name, is);
    return CLI_DONE;
}

/* --- the verb ------------------------------------------------------------ */

enum word { SUBMIT, LIST, SHOW, REMOVE, N_WORDS };
static const char *const words[] = {"submit", "ls", "show", "rm"};

/* Each option belongs to some of the words. */
static enum base_code check_options(enum word word, struct base_err *err)
{
    const struct {
        const char *name;
        bool is_given;
        unsigned of; /* bits */
    } rules[] = {
        {"--layout", layout_text != NULL, 1u << SUBMIT},
        {"--import", import_text != NULL, 1u << SUBMIT},
        {"--import-layout", import_layout_text != NULL, 1u << SUBMIT},
        {"--from", from_text != NULL, 1u << SUBMIT},
        {"--host", host_text != NULL, 1u << SUBMIT},
        {"--max-restarts", restarts_text != NULL, 1u << SUBMIT},
        {"--keep", keep_text != NULL, 1u << SUBMIT},
        {"--force", wants_force, 1u << REMOVE},
        {"--wait", wants_wait, 1u << SUBMIT | 1u << REMOVE},
    };

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].is_given && (rules[i].of & 1u << word) == 0) {
            return base_fail(err, BASE_BAD_ARG, "%s does not go with %s",
                             rules[i].name, words[word]);
        }
    }
    return BASE_OK;
}

static enum base_code
parse_word(char **args, int n_args, enum word *ret, struct base_err *err)
{
    enum word word = SUBMIT;

    while (word < N_WORDS && strcmp(words[word], args[0]) != 0) {
        word++;
    }
    if (word == N_WORDS) {
        return base_fail(err, BASE_BAD_ARG,
                         "`%s`: submit, ls, show or rm is needed", args[0]);
    }
    if ((word == LIST) != (n_args == 1)) {
        return base_fail(err, BASE_BAD_ARG,
                         word == LIST ? "ls takes no name"
                                      : "%s: a job's name is needed",
                         args[0]);
    }
    *ret = word;
    return check_options(word, err);
}

enum cli_exit cli_job(int argc, char **argv)
{
    BASE_AUTO(cli_server) server = NULL;
    struct base_err err = {0};
    enum word word = LIST;
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_job_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (parse_word(args, n_args, &word, &err) != BASE_OK ||
        cli_connect(&server, &err) != BASE_OK) {
        return cli_tell("job", &err);
    }
    switch (word) {
    case SUBMIT:
        return submit(server, args[1], &err);
    case SHOW:
        return show(server, args[1], &err);
    case REMOVE:
        return remove_job(server, args[1], &err);
    case LIST:
    case N_WORDS:
        break;
    }
    return list(server, &err);
}
