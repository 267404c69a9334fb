/* `retile rescale`: the same state under another layout, without a copy. */
#include <stdio.h>

#include "cli/store_args.h"
#include "store/target.h"

static const char *store_text;
static const char *job_text;
static const char *version_text;
static const char *to_text;
static bool wants_json;

static const struct base_option options[] = {
    {"store", 0, "ROOT", "the store", &store_text, NULL},
    {"job", 0, "JOB", "the job", &job_text, NULL},
    {"to", 0, "SPEC", "the new layout: a YAML file, hf, or a short form",
     &to_text, NULL},
    {"version", 0, "N", "the version to begin with (default: the current one)",
     &version_text, NULL},
    {"json", 0, NULL, "print what was done as JSON", NULL, &wants_json},
};

const struct base_command cli_rescale_command = {
    .program = "retile rescale",
    .usage = "--store ROOT --job JOB --to SPEC [options]",
    .about = "Make a job's next version: the same state under another layout\n"
             "Copies no tensor: the new version names the old one's bytes.",
    .example =
        "retile rescale --store /dev/shm/store --job bert --to bert:tp=4",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 0,
    .max_args = 0,
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
    if (rescale(&number, &err) != BASE_OK) {
        return cli_tell("rescale", &err);
    }
    return cli_tell_version("rescale", job_text, number, begin_ns, wants_json);
}
