/* `retile version ... JOB`: versions of a job, by the coordinator. */
#include <inttypes.h>
#include <retile/v1/versions.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/job_args.h"
#include "cli/message.h"
#include "cli/remote.h"

static enum base_code ask_list(struct cli_server *server,
                               char *job,
                               ProtobufCMessage **ret,
                               struct base_err *err)
{
    Retile__V1__ListVersionsRequest request =
        RETILE__V1__LIST_VERSIONS_REQUEST__INIT;

    request.job = job;
    return cli_call(server, &retile__v1__versions__descriptor, "List",
                    &request.base, ret, err);
}

static enum cli_exit list(struct cli_server *server,
                          const struct cli_version_args *args,
                          char *job,
                          struct base_err *err)
{
    CLI_AUTO_ANSWER answer = NULL;
    const Retile__V1__ListVersionsResponse *versions;

    if (ask_list(server, job, &answer, err) != BASE_OK) {
        return cli_tell("version", err);
    }
    versions = (const void *)answer;
    if (args->wants_json) {
        return cli_print_json("version",
                              json_pack("{si so so}", "version", 1, "job",
                                        cli_json_text(job), "versions",
                                        cli_list_json(versions, versions)));
    }
    cli_versions_print(versions->versions, versions->n_versions);
    return CLI_DONE;
}

static enum cli_exit show(struct cli_server *server,
                          const struct cli_version_args *args,
                          char *job,
                          struct base_err *err)
{
    CLI_AUTO_ANSWER answer = NULL;
    const Retile__V1__ListVersionsResponse *versions;

    if (ask_list(server, job, &answer, err) != BASE_OK) {
        return cli_tell("version", err);
    }
    versions = (const void *)answer;
    for (size_t i = versions->n_versions; i-- > 0;) {
        Retile__V1__Version *version = versions->versions[i];

        if (args->number != 0 && version->number != args->number) {
            continue;
        }
        if (args->wants_json) {
            return cli_print_json("version",
                                  json_pack("{si so so}", "version", 1, "job",
                                            cli_json_text(job), "shown",
                                            cli_message_json(&version->base)));
        }
        cli_versions_print(&version, 1);
        (void)printf("%s", version->layout);
        return CLI_DONE;
    }
    (void)base_fail(err, BASE_NOT_FOUND, "%s has no version %" PRIu64, job,
                    args->number);
    return cli_tell("version", err);
}

static enum base_code change(struct cli_server *server,
                             const struct cli_version_args *args,
                             char *job,
                             struct base_err *err)
{
    const ProtobufCServiceDescriptor *service =
        &retile__v1__versions__descriptor;
    char id[CLI_REQUEST_ID_BYTES];

    (void)cli_request_id(id);
    if (strcmp(args->what, "release") == 0) {
        Retile__V1__ReleaseVersionRequest request =
            RETILE__V1__RELEASE_VERSION_REQUEST__INIT;

        request.request_id = id;
        request.job = job;
        request.version = args->number;
        return cli_call(server, service, "Release", &request.base, NULL, err);
    }
    if (strcmp(args->what, "rollback") == 0) {
        Retile__V1__RollbackRequest request =
            RETILE__V1__ROLLBACK_REQUEST__INIT;

        request.request_id = id;
        request.job = job;
        request.version = args->number;
        return cli_call(server, service, "Rollback", &request.base, NULL, err);
    }
    {
        Retile__V1__PinVersionRequest request =
            RETILE__V1__PIN_VERSION_REQUEST__INIT;
        bool is_pin = strcmp(args->what, "pin") == 0;
        BASE_AUTO_MEM char *why = strdup(!is_pin             ? ""
                                         : args->why != NULL ? args->why
                                                             : "pinned");

        if (why == NULL) {
            return base_fail(err, BASE_NO_MEM, "cannot pin");
        }
        request.request_id = id;
        request.job = job;
        request.version = args->number;
        request.why = why;
        return cli_call(server, service, "Pin", &request.base, NULL, err);
    }
}

static enum cli_exit tell_changed(const struct cli_version_args *args)
{
    const char *text = strcmp(args->what, "release") == 0 ? "released"
                       : strcmp(args->what, "pin") == 0   ? "pinned"
                       : strcmp(args->what, "unpin") == 0
                           ? "unpinned"
                           : "being made the newest once more";

    if (args->wants_json) {
        return cli_print_json("version",
                              json_pack("{si so sI ss}", "version", 1, "job",
                                        cli_json_text(args->job), "number",
                                        (json_int_t)args->number, "is", text));
    }
    (void)printf("%s@%" PRIu64 ": %s\n", args->job, args->number, text);
    return CLI_DONE;
}

enum cli_exit cli_version_remote(const struct cli_version_args *args)
{
    BASE_AUTO(cli_server) server = NULL;
    BASE_AUTO_MEM char *job = strdup(args->job);
    struct base_err err = {0};

    if (job == NULL) {
        (void)base_fail(&err, BASE_NO_MEM, "cannot ask");
        return cli_tell("version", &err);
    }
    if (cli_connect(&server, &err) != BASE_OK) {
        return cli_tell("version", &err);
    }
    if (strcmp(args->what, "ls") == 0) {
        return list(server, args, job, &err);
    }
    if (strcmp(args->what, "show") == 0) {
        return show(server, args, job, &err);
    }
    return change(server, args, job, &err) == BASE_OK
               ? tell_changed(args)
               : cli_tell("version", &err);
}
