/* `retile export`: write a version's tree, under its own layout or another. */
#include "cli/store_args.h"
#include "cli/write_tree.h"

static const char *store_text;
static const char *job_text;
static const char *version_text;
static const char *to_text;
static const char *threads_text;
static const char *memory_text;
static bool wants_verify;
static bool wants_json;

static const struct base_option options[] = {
    {"store", 0, "ROOT", "the store", &store_text, NULL},
    {"job", 0, "JOB", "the job", &job_text, NULL},
    {"version", 0, "N", "the version (default: the current one)", &version_text,
     NULL},
    {"to", 0, "SPEC",
     "the layout to write: a YAML file, hf, or a short form (default: the "
     "version's own)",
     &to_text, NULL},
    {"threads", 0, "N", "copying threads (default: the processors, at most 8)",
     &threads_text, NULL},
    {"memory", 0, "SIZE", "memory for buffers (default 128MiB)", &memory_text,
     NULL},
    {"verify", 0, NULL, "read DIR back and compare before it gets its name",
     NULL, &wants_verify},
    {"json", 0, NULL, "print what was done as JSON", NULL, &wants_json},
};

const struct base_command cli_export_command = {
    .program = "retile export",
    .usage = "DIR --store ROOT --job JOB [options]",
    .about = "Write a version of a store as a checkpoint directory\n"
             "The files are those that `retile convert` writes.  DIR must not\n"
             "exist; it appears by one rename when all of it is on disk.",
    .example = "retile export model/ --store /dev/shm/store --job bert --to hf",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
};

static enum base_code
open_version(void *ctx, struct store_source **ret, struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO(store_version) version = NULL;
    uint64_t number = 0;

    (void)ctx;
    BASE_TRY(cli_parse_version("--version", version_text, &number, err));
    BASE_TRY(cli_open_store(store_text, job_text, &root, err));
    BASE_TRY(store_version_open(root, job_text, number, &version, err));
    return store_source_open_version(root, &version, ret, err);
}

enum cli_exit cli_export(int argc, char **argv)
{
    struct cli_write_tree job = {
        .verb = "export", .doing = "exporting", .open = open_version};
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_export_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    job.dst = args[0];
    job.to = to_text;
    job.threads = threads_text;
    job.memory = memory_text;
    job.wants_verify = wants_verify;
    job.wants_json = wants_json;
    return cli_write_tree(&job);
}
