/* `retile watch`: what happens, as lines. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "cli/follow.h"
#include "cli/job_args.h"
#include "cli/message.h"

static const char *from_text;
static bool wants_json;

static const struct base_option options[] = {
    {"from", 0, "REVISION",
     "begin with this one, if it is still kept (default: from now on)",
     &from_text, NULL},
    {"json", 0, NULL, "a JSON object per line", NULL, &wants_json},
    CLI_CONNECT_OPTIONS,
};

const struct base_command cli_watch_command = {
    .program = "retile watch",
    .usage = "[JOB] [options]",
    .about =
        "Show what happens, without an end\n"
        "Each line has a time, a revision, and what happened.  A lost "
        "connection is made\nagain, and no event is missed or shown twice.  "
        "--from goes on where an earlier\nwatch ended: behind its last "
        "revision.",
    .example = "retile watch\n"
               "retile watch gpt --json --from 1 | jq .text",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 0,
    .max_args = 1,
};

static bool is_lost; /* it was told */

/* "gpt: ", "node0/3 gpt: ", "node0: " */
static void print_subject(const Retile__V1__Event *event)
{
    bool has_host = event->host[0] != '\0';
    bool has_job = event->job[0] != '\0';

    if (has_host && (event->device >= 0 || !has_job)) {
        (void)printf("%s", event->host);
        if (event->device >= 0) {
            (void)printf("/%" PRId32, event->device);
        }
        (void)printf(has_job ? " " : ": ");
    }
    if (has_job) {
        (void)printf("%s: ", event->job);
    }
}

static bool on_event(void *ctx, const Retile__V1__Event *event)
{
    char time[CLI_TIME_BYTES];
    char kind[CLI_WORD_BYTES];
    json_t *json;

    (void)ctx;
    if (!wants_json) {
        (void)printf("%s %6" PRIu64 " %-10s ",
                     cli_time_text(event->time_ns, time), event->revision,
                     cli_enum_text(&retile__v1__event_kind__descriptor,
                                   (int)event->kind, kind));
        print_subject(event);
        (void)printf("%s\n", event->text);
        return fflush(stdout) == 0;
    }
    json = cli_message_json(&event->base);
    if (json == NULL) {
        return false;
    }
    (void)json_dumpf(json, stdout, JSON_COMPACT); /* stdout's state tells */
    (void)putchar('\n');
    json_decref(json);
    return fflush(stdout) == 0;
}

static void on_lost(void *ctx, const struct base_err *err)
{
    (void)ctx;
    if (err != NULL && !is_lost) {
        (void)fprintf(stderr, "retile: watch: %s; trying again\n", err->text);
    } else if (err == NULL && is_lost) {
        (void)fputs("retile: watch: connected again\n", stderr);
    }
    is_lost = err != NULL;
}

static enum base_code
watch(struct cli_server *server, const char *job, struct base_err *err)
{
    struct cli_follow follow = {
        .job = job, .on_event = on_event, .on_lost = on_lost};
    enum base_code rc;

    if (from_text == NULL) {
        BASE_TRY(cli_follow_next(server, &follow.from, err));
    } else {
        BASE_TRY(cli_parse_count("--from", from_text, 1, INT64_MAX,
                                 &follow.from, err));
    }
    rc = cli_follow(server, &follow, err);
    return rc == BASE_INTERRUPTED ? BASE_OK : rc; /* its only way to end */
}

enum cli_exit cli_watch(int argc, char **argv)
{
    BASE_AUTO(cli_server) server = NULL;
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_watch_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (cli_connect(&server, &err) != BASE_OK ||
        watch(server, n_args == 1 ? args[0] : NULL, &err) != BASE_OK) {
        return cli_tell("watch", &err);
    }
    return CLI_DONE;
}
