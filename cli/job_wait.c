#include "cli/job_wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/follow.h"
#include "cli/message.h"

#define PATIENCE_NS ((int64_t)60 * 1000000000)

void cli_job_wait_done(struct cli_job_wait *wait)
{
    rpc_message_free((ProtobufCMessage *)wait->answer);
    wait->answer = NULL;
}

enum base_code cli_job_get(struct cli_server *server,
                           const char *name,
                           bool may_miss,
                           Retile__V1__GetJobResponse **ret,
                           struct base_err *err)
{
    Retile__V1__GetJobRequest request = RETILE__V1__GET_JOB_REQUEST__INIT;
    BASE_AUTO_MEM char *copy = strdup(name);
    ProtobufCMessage *answer = NULL;
    enum base_code rc;

    if (copy == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot ask for a job");
    }
    request.name = copy;
    rc = cli_call(server, &retile__v1__jobs__descriptor, "Get", &request.base,
                  &answer, err);
    if (rc == BASE_NOT_FOUND && may_miss) {
        *ret = NULL;
        return BASE_OK;
    }
    BASE_TRY(rc);
    *ret = (Retile__V1__GetJobResponse *)answer;
    if ((*ret)->job == NULL) {
        rpc_message_free(answer);
        return base_fail(err, BASE_BAD_INPUT, "an answer without a job");
    }
    return BASE_OK;
}

bool cli_job_is_ready(const Retile__V1__Job *job)
{
    const Retile__V1__Generation *generation = job->generation;

    return generation != NULL &&
           generation->state >=
               RETILE__V1__GENERATION_STATE__GENERATION_READY &&
           generation->state < RETILE__V1__GENERATION_STATE__GENERATION_REVOKED;
}

const char *cli_job_phase(const Retile__V1__Job *job, char *text)
{
    if (job->change != NULL) {
        return cli_enum_text(&retile__v1__change_phase__descriptor,
                             (int)job->change->phase, text);
    }
    return cli_enum_text(&retile__v1__job_state__descriptor, (int)job->state,
                         text);
}

static const struct cli_phase *last_phase(const struct cli_job_wait *wait)
{
    return wait->n_phases == 0 ? NULL : &wait->phases[wait->n_phases - 1];
}

static void note_phase(struct cli_job_wait *wait, const char *name)
{
    const struct cli_phase *last = last_phase(wait);
    int64_t now_ns = cli_now_ns();

    if (last != NULL && strcmp(last->name, name) == 0) {
        return;
    }
    if (wait->n_phases > 0) {
        wait->phases[wait->n_phases - 1].end_ns = now_ns;
    }
    if (wait->n_phases == CLI_MAX_PHASES) {
        wait->n_phases--; /* the last of many stands for the rest */
    }
    (void)snprintf(wait->phases[wait->n_phases].name,
                   sizeof(wait->phases[0].name), "%s", name);
    wait->phases[wait->n_phases++].begin_ns = now_ns;
    if (isatty(STDERR_FILENO) != 1) {
        (void)fprintf(stderr, "retile: %s: %s: %s\n", wait->verb, wait->job,
                      name);
    }
}

/* --- the line on a terminal ---------------------------------------------- */

static struct cli_job_wait *shown; /* on_idle has no context */
static int64_t shown_ns;

static void show(const struct cli_job_wait *wait)
{
    const struct cli_phase *last = last_phase(wait);
    int64_t now_ns = cli_now_ns();

    if (last == NULL || isatty(STDERR_FILENO) != 1 ||
        now_ns - shown_ns < 90000000) {
        return;
    }
    shown_ns = now_ns;
    (void)fprintf(stderr, "\r\033[K%s: %s %.1f s (%.1f s)  %.40s", wait->job,
                  last->name, (double)(now_ns - last->begin_ns) / 1e9,
                  (double)(now_ns - wait->phases[0].begin_ns) / 1e9,
                  wait->last_event);
}

static bool on_idle(void)
{
    show(shown);
    return false;
}

static void end_show(struct cli_job_wait *wait)
{
    if (wait->n_phases > 0) {
        wait->phases[wait->n_phases - 1].end_ns = cli_now_ns();
    }
    if (isatty(STDERR_FILENO) == 1) {
        (void)fputs("\r\033[K", stderr);
    }
    shown = NULL;
}

/* --- waiting ------------------------------------------------------------- */

struct waiting {
    struct cli_server *server;
    struct cli_job_wait *wait;
    struct cli_follow follow;
    enum cli_waited is;
    enum base_code rc; /* of asking for the job */
    struct base_err err;
};

/* How is it?  What @revision said is looked at again when nobody answers. */
static bool look(struct waiting *waiting, uint64_t revision)
{
    struct cli_job_wait *wait = waiting->wait;
    Retile__V1__GetJobResponse *answer = NULL;
    char word[CLI_WORD_BYTES];

    waiting->rc =
        cli_job_get(waiting->server, wait->job, true, &answer, &waiting->err);
    if (waiting->rc == BASE_UNREACHABLE) {
        waiting->rc = BASE_OK; /* the watch sees it, too, and has patience */
        waiting->follow.from = revision;
        return true;
    }
    if (waiting->rc != BASE_OK) {
        return false;
    }
    cli_job_wait_done(wait);
    wait->answer = answer;
    note_phase(wait,
               answer == NULL ? "gone" : cli_job_phase(answer->job, word));
    show(wait);
    waiting->is = wait->judge(wait->ctx, answer == NULL ? NULL : answer->job);
    return waiting->is == CLI_WAIT_ON;
}

static bool on_event(void *ctx, const Retile__V1__Event *event)
{
    struct waiting *waiting = ctx;

    (void)snprintf(waiting->wait->last_event, sizeof(waiting->wait->last_event),
                   "%s", event->text);
    return look(waiting, event->revision);
}

enum base_code cli_job_wait(struct cli_server *server,
                            struct cli_job_wait *wait,
                            struct base_err *err)
{
    struct waiting waiting = {
        .server = server,
        .wait = wait,
        .follow = {.job = wait->job,
                   .from = wait->from,
                   .on_event = on_event,
                   .on_idle = on_idle,
                   .ctx = &waiting,
                   .patience_ns = PATIENCE_NS},
    };
    enum base_code rc = BASE_OK;

    shown = wait;
    while (look(&waiting, waiting.follow.from)) {
        rc = cli_follow(server, &waiting.follow, err);
        if (rc != BASE_LIMIT) {
            break;
        }
        /* What happened is no longer kept: how it is, is enough. */
        rc = cli_follow_next(server, &waiting.follow.from, err);
        if (rc != BASE_OK) {
            break;
        }
    }
    end_show(wait);
    if (rc == BASE_INTERRUPTED) {
        return base_fail(err, rc,
                         "%s: not waited for any longer; it goes on, `retile "
                         "watch %s` shows how",
                         wait->job, wait->job);
    }
    BASE_TRY(rc);
    if (waiting.rc != BASE_OK) {
        return base_fail(err, waiting.rc, "%s", waiting.err.text);
    }
    if (waiting.is == CLI_WAIT_FAILED) {
        const char *reason =
            wait->answer == NULL ? "it is gone" : wait->answer->job->reason;

        return base_fail(err, BASE_CHANGED, "%s: %s", wait->job,
                         reason[0] == '\0' ? wait->last_event : reason);
    }
    return BASE_OK;
}

void cli_job_wait_print(const struct cli_job_wait *wait)
{
    /* The last one is where it has come to, not what it took. */
    for (size_t i = 0; i + 1 < wait->n_phases; i++) {
        const struct cli_phase *phase = &wait->phases[i];

        (void)printf("%s%s %.2f s", i == 0 ? "" : ", ", phase->name,
                     (double)(phase->end_ns - phase->begin_ns) / 1e9);
    }
    (void)putchar('\n');
}

json_t *cli_job_wait_json(const struct cli_job_wait *wait)
{
    json_t *list = json_array();

    for (size_t i = 0; i < wait->n_phases; i++) {
        const struct cli_phase *phase = &wait->phases[i];

        if (json_array_append_new(
                list, json_pack("{ss sf}", "phase", phase->name, "seconds",
                                (double)(phase->end_ns - phase->begin_ns) /
                                    1e9)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
