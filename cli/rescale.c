/* `retile rescale`: the same state under another layout, without a copy: of a
 * cluster's job, or in a store. */
#include <stdio.h>

#include "cli/connect.h"
#include "cli/remote.h"
#include "cli/store_args.h"
#include "store/target.h"

static const char *store_text;
static const char *job_text;
static const char *version_text;
static const char *to_text;
static const char *devices_text;
static const char *deadline_text;
static bool is_dry_run;
static bool wants_wait;
static bool wants_json;

static const struct base_option options[] = {
    {"to", 0, "SPEC",
     "the new layout: axes (tp=2,pp=2), a YAML file, hf, or a short form",
     &to_text, NULL},
    {"devices", 0, "LIST", "the devices to use: HOST/0,HOST/1 (default: any)",
     &devices_text, NULL},
    {"dry-run", 0, NULL, "say what it would cost, and change nothing", NULL,
     &is_dry_run},
    {"wait", 0, NULL, "until the next generation can run", NULL, &wants_wait},
    {"deadline", 0, "S", "for the processes to save and stop (default: 300 s)",
     &deadline_text, NULL},
    {"json", 0, NULL, "print what was done as JSON", NULL, &wants_json},
    {"store", 0, "ROOT", "in this store, without a coordinator", &store_text,
     NULL},
    {"job", 0, "JOB", "with --store: the job", &job_text, NULL},
    {"version", 0, "N",
     "with --store: the version to begin with (default: the current one)",
     &version_text, NULL},
    CLI_CONNECT_OPTIONS,
};

const struct base_command cli_rescale_command = {
    .program = "retile rescale",
    .usage = "JOB --to SPEC [options] | --store ROOT --job JOB --to SPEC "
             "[options]",
    .about =
        "Give a job another layout, or other devices\n"
        "The coordinator asks the job's processes to save and stop, the next "
        "version is\nmade, and the next generation starts from it.  With "
        "--store, make the next version\nof a job that nobody runs.  No tensor "
        "is copied within a host: the new version\nnames the old one's bytes.",
    .example =
        "retile rescale gpt --to tp=2,pp=2 --wait\n"
        "retile rescale gpt --to tp=2,pp=2 --dry-run\n"
        "retile rescale gpt --devices node0/0,node0/1,node0/4,node0/5\n"
        "retile rescale --store /dev/shm/store --job bert --to bert:tp=4",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 0,
    .max_args = 1,
};

/* The version that it begins with, and --to for that. */
static enum base_code open_spec(const struct store_root *root,
                                uint64_t number,
                                struct store_source **ret_source,
                                struct ptc_spec **ret,
                                struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    bool is_hf = false;

    BASE_TRY(store_version_open(root, job_text, number, &version, err));
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    BASE_TRY(store_spec_open_source(to_text, source, ret, &is_hf, err));
    *ret_source = base_steal(&source);
    return BASE_OK;
}

static void on_dropped(void *ctx, const char *path)
{
    (void)ctx;
    (void)fprintf(stderr,
                  "retile: rescale: dropped, no place under the new layout: "
                  "%s\n",
                  path);
}

static enum base_code rescale(uint64_t *ret_number, struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    uint64_t number = 0;
    enum base_code rc;

    BASE_TRY(cli_parse_version("--version", version_text, &number, err));
    BASE_TRY(cli_open_store(store_text, job_text, &root, err));
    if (to_text == NULL) {
        return base_fail(err, BASE_BAD_ARG, "--to SPEC is needed");
    }
    BASE_TRY(open_spec(root, number, &source, &spec, err));
    rc = store_rescale_source(root, job_text, source, &spec, on_dropped, NULL,
                              NULL, ret_number, err);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "--to %s", to_text);
}

static enum base_code check_options(int n_args, struct base_err *err)
{
    bool is_remote = devices_text != NULL || deadline_text != NULL ||
                     is_dry_run || wants_wait;

    if (store_text != NULL && (n_args == 1 || is_remote)) {
        return base_fail(err, BASE_BAD_ARG, "%s does not go with --store",
                         n_args == 1             ? "JOB (say --job)"
                         : devices_text != NULL  ? "--devices"
                         : deadline_text != NULL ? "--deadline"
                         : is_dry_run            ? "--dry-run"
                                                 : "--wait");
    }
    if (store_text == NULL && (n_args == 0 || version_text != NULL)) {
        return base_fail(err, BASE_BAD_ARG, "%s",
                         n_args == 0 ? "JOB is needed, or --store ROOT"
                                     : "--version goes with --store");
    }
    return BASE_OK;
}

enum cli_exit cli_rescale(int argc, char **argv)
{
    struct base_err err = {0};
    int64_t begin_ns = cli_now_ns();
    uint64_t number = 0;
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_rescale_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (check_options(n_args, &err) != BASE_OK) {
        return cli_tell("rescale", &err);
    }
    if (store_text == NULL) {
        return cli_rescale_remote(&(struct cli_rescale_args){
            .job = args[0],
            .to = to_text,
            .devices = devices_text,
            .deadline = deadline_text,
            .is_dry_run = is_dry_run,
            .wants_wait = wants_wait,
            .wants_json = wants_json,
        });
    }
    if (rescale(&number, &err) != BASE_OK) {
        return cli_tell("rescale", &err);
    }
    return cli_tell_version("rescale", job_text, number, begin_ns, wants_json);
}
