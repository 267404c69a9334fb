/* `retile status`: the whole cluster on one screen.
 *
 * Each job has a letter; a host's devices are a row of marks, eight to a word:
 * the letter of the job that uses one, or what it is. */
#include <inttypes.h>
#include <retile/v1/devices.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cli/follow.h"
#include "cli/job_args.h"
#include "cli/job_wait.h"
#include "cli/message.h"

static bool wants_json;

static const struct base_option options[] = {
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
    CLI_CONNECT_OPTIONS,
};

const struct base_command cli_status_command = {
    .program = "retile status",
    .usage = "[options]",
    .about =
        "Show the whole cluster on one screen: hosts, devices, jobs\n"
        "A device is a mark: the letter of the job that uses it, or . free, "
        "! failed,\n- drained, ? its host is not heard of.",
    .example = "retile status\n"
               "watch -n1 retile status",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 0,
    .max_args = 0,
};

/* The letter of the @i-th job: A to Z, then a to z, then *. */
static char letter_of(size_t i)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

    if (i + 1 < sizeof(letters)) {
        return letters[i];
    }
    return '*';
}

static int by_name(const void *name, const void *job)
{
    return strcmp(name, (*(Retile__V1__Job *const *)job)->name);
}

static char mark_of(const Retile__V1__Device *device,
                    const Retile__V1__ListJobsResponse *jobs)
{
    Retile__V1__Job *const *job = /* they come by name */
        jobs->n_jobs == 0 ? NULL
                          : bsearch(device->job, jobs->jobs, jobs->n_jobs,
                                    sizeof(Retile__V1__Job *), by_name);

    switch (device->state) {
    case RETILE__V1__DEVICE_STATE__DEVICE_FAILED:
        return '!';
    case RETILE__V1__DEVICE_STATE__DEVICE_LOST:
        return '?';
    default:
        break;
    }
    if (job != NULL) {
        return letter_of((size_t)(job - jobs->jobs));
    }
    return device->state == RETILE__V1__DEVICE_STATE__DEVICE_DRAINED ? '-'
                                                                     : '.';
}

static void print_host(const Retile__V1__Host *host,
                       const Retile__V1__ListJobsResponse *jobs)
{
    enum { PER_WORD = 8, PER_LINE = 64 };
    char state[CLI_WORD_BYTES];
    char used[24];
    char budget[24];

    (void)printf("%-16s %-5s %10s of %-10s ", host->name,
                 cli_enum_text(&retile__v1__host_state__descriptor,
                               (int)host->state, state),
                 base_format_size(host->store_used_bytes, used),
                 host->store_budget_bytes == 0
                     ? "all"
                     : base_format_size(host->store_budget_bytes, budget));
    for (size_t i = 0; i < host->n_devices; i++) {
        if (i > 0 && i % PER_LINE == 0) {
            (void)printf("\n%47s", "");
        } else if (i % PER_WORD == 0) {
            (void)putchar(' ');
        }
        (void)putchar(mark_of(host->devices[i], jobs));
    }
    (void)putchar('\n');
}

static void print_job(const Retile__V1__Job *job, size_t i)
{
    char word[CLI_WORD_BYTES];
    char mesh[64];

    (void)snprintf(mesh, sizeof(mesh), "%s", job->mesh);
    (void)printf("%c %-14s %-10s %-20s %5" PRIu64 " %8" PRIu64 " %9" PRIu64
                 "  ",
                 letter_of(i), job->name,
                 cli_enum_text(&retile__v1__job_state__descriptor,
                               (int)job->state, word),
                 mesh, job->generation == NULL ? 0 : job->generation->number,
                 job->version, cli_job_step(job));
    if (job->change != NULL) {
        (void)printf("%s: %s", job->change->what, cli_job_phase(job, word));
    } else if (job->attempt != NULL) {
        (void)printf("%s %" PRIu64,
                     cli_enum_text(&retile__v1__attempt_kind__descriptor,
                                   (int)job->attempt->kind, word),
                     job->attempt->number);
    }
    (void)printf("%s%s\n", job->reason[0] == '\0' ? "" : " ", job->reason);
}

static void print_all(const char *coordinator,
                      const Retile__V1__ListDevicesResponse *hosts,
                      const Retile__V1__ListJobsResponse *jobs)
{
    (void)printf("%s\n\n%-16s %-5s %-25s %s\n", coordinator, "HOST", "STATE",
                 "STORE", "DEVICES (. free ! failed - drained ? lost)");
    for (size_t i = 0; i < hosts->n_hosts; i++) {
        print_host(hosts->hosts[i], jobs);
    }
    (void)printf("\n  %-14s %-10s %-20s %5s %8s %9s  %s\n", "JOB", "STATE",
                 "MESH", "GEN", "VERSION", "STEP", "UNDER WAY");
    for (size_t i = 0; i < jobs->n_jobs; i++) {
        print_job(jobs->jobs[i], i);
    }
}

static enum base_code ask(struct cli_server *server,
                          ProtobufCMessage **ret_hosts,
                          ProtobufCMessage **ret_jobs,
                          uint64_t *ret_next,
                          struct base_err *err)
{
    BASE_TRY(cli_follow_next(server, ret_next, err));
    BASE_TRY(cli_call_list(server, &retile__v1__devices__descriptor, ret_hosts,
                           err));
    return cli_call_list(server, &retile__v1__jobs__descriptor, ret_jobs, err);
}

enum cli_exit cli_status(int argc, char **argv)
{
    BASE_AUTO(cli_server) server = NULL;
    CLI_AUTO_ANSWER hosts_answer = NULL;
    CLI_AUTO_ANSWER jobs_answer = NULL;
    const Retile__V1__ListDevicesResponse *hosts;
    const Retile__V1__ListJobsResponse *jobs;
    struct base_err err = {0};
    uint64_t next = 0;
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_status_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (cli_connect(&server, &err) != BASE_OK ||
        ask(server, &hosts_answer, &jobs_answer, &next, &err) != BASE_OK) {
        return cli_tell("status", &err);
    }
    hosts = (const void *)hosts_answer;
    jobs = (const void *)jobs_answer;
    if (wants_json) {
        return cli_print_json(
            "status", json_pack("{si so sI so so}", "version", 1, "coordinator",
                                cli_json_text(rpc_channel_name(
                                    cli_server_channel(server))),
                                "revision", (json_int_t)(next - 1), "hosts",
                                cli_list_json(hosts, hosts), "jobs",
                                cli_list_json(jobs, jobs)));
    }
    print_all(rpc_channel_name(cli_server_channel(server)), hosts, jobs);
    return CLI_DONE;
}
