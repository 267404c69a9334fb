/* `retile device`: hosts and devices of a cluster. */
#include <inttypes.h>
#include <retile/v1/devices.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "cli/connect.h"
#include "cli/device_args.h"
#include "cli/job_args.h"
#include "cli/message.h"

enum { MAX_DEADLINE_S = 86400 };

static const char *reason_text;
static const char *deadline_text;
static bool wants_force;
static bool wants_json;

static const struct base_option options[] = {
    {"reason", 0, "TEXT", "drain, fail: why, for people (default: asked for)",
     &reason_text, NULL},
    {"deadline", 0, "S", "drain: for a job to save and stop (default: 300 s)",
     &deadline_text, NULL},
    {"force", 0, NULL, "forget: also when a job's only bytes are there", NULL,
     &wants_force},
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
    CLI_CONNECT_OPTIONS,
};

const struct base_command cli_device_command = {
    .program = "retile device",
    .usage = "ls | drain|fail|recover HOST[/INDEX] | forget HOST  [options]",
    .about =
        "List, drain, fail and recover devices\n"
        "drain: nothing new runs there, and a job that does saves and moves.\n"
        "fail: as if it had broken; its job goes on from the last version.  "
        "Try "
        "it.\nrecover: it may be used again.  HOST alone means all its "
        "devices.\n"
        "forget: a host that is lost for good.",
    .example = "retile device ls\n"
               "retile device fail node0/3 --reason 'to see what happens'\n"
               "retile device recover node0/3\n"
               "retile device drain node0 --deadline 60",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 2,
};

/* --- listing ------------------------------------------------------------- */

static void print_device(const Retile__V1__Device *device, bool has_host)
{
    char state[CLI_WORD_BYTES];

    if (has_host) {
        (void)printf("%s/", device->host);
    }
    (void)printf("%-3" PRIu32 " %-5s %-8s %-16s %s%s%s\n", device->index,
                 device->kind,
                 cli_enum_text(&retile__v1__device_state__descriptor,
                               (int)device->state, state),
                 device->job[0] == '\0' ? "-" : device->job, device->label,
                 device->reason[0] == '\0' ? "" : ": ", device->reason);
}

static void print_host(const Retile__V1__Host *host)
{
    char state[CLI_WORD_BYTES];
    char used[24];
    char budget[24];
    char time[CLI_TIME_BYTES];

    (void)printf("%s: %s", host->name,
                 cli_enum_text(&retile__v1__host_state__descriptor,
                               (int)host->state, state));
    if (host->state == RETILE__V1__HOST_STATE__HOST_LOST) {
        (void)printf(", last heard %s", cli_time_text(host->heard_ns, time));
    }
    (void)printf(", store %s", base_format_size(host->store_used_bytes, used));
    if (host->store_budget_bytes != 0) {
        (void)printf(" of %s",
                     base_format_size(host->store_budget_bytes, budget));
    }
    (void)printf("\n");
    for (size_t i = 0; i < host->n_devices; i++) {
        (void)printf("  ");
        print_device(host->devices[i], false);
    }
}

static enum cli_exit list(struct cli_server *server, struct base_err *err)
{
    CLI_AUTO_ANSWER answer = NULL;
    const Retile__V1__ListDevicesResponse *hosts;

    if (cli_call_list(server, &retile__v1__devices__descriptor, &answer, err) !=
        BASE_OK) {
        return cli_tell("device", err);
    }
    hosts = (const void *)answer;
    if (wants_json) {
        return cli_print_json("device",
                              json_pack("{si so}", "version", 1, "hosts",
                                        cli_list_json(hosts, hosts)));
    }
    for (size_t i = 0; i < hosts->n_hosts; i++) {
        print_host(hosts->hosts[i]);
    }
    return CLI_DONE;
}

/* --- changing ------------------------------------------------------------ */

/* What stands on the command line, for each of the calls. */
struct target {
    char id[CLI_REQUEST_ID_BYTES];
    char *host;
    char *reason;
    uint32_t index;
    bool all;
    uint64_t deadline_s;
};

static void target_done(struct target *target)
{
    free(target->host);
    free(target->reason);
}

static enum base_code
fill(struct target *target, const char *text, struct base_err *err)
{
    BASE_TRY(cli_parse_count("--deadline", deadline_text, 1, MAX_DEADLINE_S,
                             &target->deadline_s, err));
    BASE_TRY(cli_device_parse(text, strlen(text), &target->host, &target->index,
                              &target->all, err));
    target->reason = strdup(reason_text == NULL ? "asked for" : reason_text);
    if (target->reason == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot name a device");
    }
    (void)cli_request_id(target->id);
    return BASE_OK;
}

static enum base_code drain(struct cli_server *server,
                            struct target *target,
                            ProtobufCMessage **ret,
                            struct base_err *err)
{
    Retile__V1__DrainDeviceRequest request =
        RETILE__V1__DRAIN_DEVICE_REQUEST__INIT;

    request.request_id = target->id;
    request.host = target->host;
    request.index = target->index;
    request.all = target->all;
    request.reason = target->reason;
    request.deadline_s = (uint32_t)target->deadline_s;
    return cli_call(server, &retile__v1__devices__descriptor, "Drain",
                    &request.base, ret, err);
}

static enum base_code fail(struct cli_server *server,
                           struct target *target,
                           ProtobufCMessage **ret,
                           struct base_err *err)
{
    Retile__V1__FailDeviceRequest request =
        RETILE__V1__FAIL_DEVICE_REQUEST__INIT;

    request.request_id = target->id;
    request.host = target->host;
    request.index = target->index;
    request.all = target->all;
    request.reason = target->reason;
    return cli_call(server, &retile__v1__devices__descriptor, "Fail",
                    &request.base, ret, err);
}

static enum base_code recover(struct cli_server *server,
                              struct target *target,
                              ProtobufCMessage **ret,
                              struct base_err *err)
{
    Retile__V1__RecoverDeviceRequest request =
        RETILE__V1__RECOVER_DEVICE_REQUEST__INIT;

    request.request_id = target->id;
    request.host = target->host;
    request.index = target->index;
    request.all = target->all;
    return cli_call(server, &retile__v1__devices__descriptor, "Recover",
                    &request.base, ret, err);
}

static enum base_code forget(struct cli_server *server,
                             struct target *target,
                             ProtobufCMessage **ret,
                             struct base_err *err)
{
    Retile__V1__ForgetHostRequest request =
        RETILE__V1__FORGET_HOST_REQUEST__INIT;

    if (!target->all) {
        return base_fail(err, BASE_BAD_ARG, "a host is forgotten whole");
    }
    request.request_id = target->id;
    request.host = target->host;
    request.force = wants_force;
    return cli_call(server, &retile__v1__devices__descriptor, "ForgetHost",
                    &request.base, ret, err);
}

typedef enum base_code (*change_fn)(struct cli_server *server,
                                    struct target *target,
                                    ProtobufCMessage **ret,
                                    struct base_err *err);

static const struct {
    const char *name;
    change_fn call; /* NULL: ls */
    bool takes_reason;
    bool takes_deadline;
    bool takes_force;
} words[] = {
    {"ls", NULL, false, false, false},
    {"drain", drain, true, true, false},
    {"fail", fail, true, false, false},
    {"recover", recover, false, false, false},
    {"forget", forget, false, false, true},
};
enum { N_WORDS = sizeof(words) / sizeof(words[0]) };

/* Drain, fail and recover answer with the devices, field for field alike. */
static enum cli_exit
tell(const char *word, const char *target, const ProtobufCMessage *answer)
{
    const Retile__V1__FailDeviceResponse *changed = (const void *)answer;

    if (strcmp(word, "forget") == 0) {
        if (wants_json) {
            return cli_print_json(
                "device", json_pack("{si so ss}", "version", 1, "host",
                                    cli_json_text(target), "is", "forgotten"));
        }
        (void)printf("%s: forgotten\n", target);
        return CLI_DONE;
    }
    if (wants_json) {
        return cli_print_json("device",
                              json_pack("{si so}", "version", 1, "devices",
                                        cli_list_json(changed, devices)));
    }
    for (size_t i = 0; i < changed->n_devices; i++) {
        print_device(changed->devices[i], true);
    }
    return CLI_DONE;
}

/* --- the verb ------------------------------------------------------------ */

static enum base_code
parse_word(char **args, int n_args, size_t *ret, struct base_err *err)
{
    size_t i = 0;

    while (i < N_WORDS && strcmp(words[i].name, args[0]) != 0) {
        i++;
    }
    if (i == N_WORDS) {
        return base_fail(err, BASE_BAD_ARG,
                         "`%s`: ls, drain, fail, recover or forget is needed",
                         args[0]);
    }
    if ((words[i].call == NULL) != (n_args == 1)) {
        return base_fail(err, BASE_BAD_ARG, "%s: %s", args[0],
                         n_args == 1 ? "HOST or HOST/INDEX is needed"
                                     : "it takes no argument");
    }
    if ((reason_text != NULL && !words[i].takes_reason) ||
        (deadline_text != NULL && !words[i].takes_deadline) ||
        (wants_force && !words[i].takes_force)) {
        return base_fail(
            err, BASE_BAD_ARG, "%s does not go with %s",
            reason_text != NULL && !words[i].takes_reason       ? "--reason"
            : deadline_text != NULL && !words[i].takes_deadline ? "--deadline"
                                                                : "--force",
            args[0]);
    }
    *ret = i;
    return BASE_OK;
}

enum cli_exit cli_device(int argc, char **argv)
{
    __attribute__((cleanup(target_done))) struct target target = {0};
    BASE_AUTO(cli_server) server = NULL;
    CLI_AUTO_ANSWER answer = NULL;
    struct base_err err = {0};
    size_t word = 0;
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_device_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (parse_word(args, n_args, &word, &err) != BASE_OK ||
        (n_args == 2 && fill(&target, args[1], &err) != BASE_OK) ||
        cli_connect(&server, &err) != BASE_OK) {
        return cli_tell("device", &err);
    }
    if (words[word].call == NULL) {
        return list(server, &err);
    }
    return words[word].call(server, &target, &answer, &err) == BASE_OK
               ? tell(args[0], args[1], answer)
               : cli_tell("device", &err);
}
