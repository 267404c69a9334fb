/* `retile import`: a checkpoint directory becomes a version of a job. */
#include <stdio.h>

#include "cli/store_args.h"
#include "cli/write_tree.h"

static const char *store_text;
static const char *job_text;
static const char *from_text;
static const char *table_path;
static const char *threads_text;
static bool wants_json;

static const struct base_option options[] = {
    {"store", 0, "ROOT", "the store", &store_text, NULL},
    {"job", 0, "JOB", "the job; a new name makes a new one", &job_text, NULL},
    {"from", 0, "SPEC", "the layout DIR is in, when it has no layout.yaml",
     &from_text, NULL},
    {"table", 0, "FILE", "the tensors of DIR, as `inspect --table` prints them",
     &table_path, NULL},
    {"threads", 0, "N", "copying threads (default: the processors, at most 8)",
     &threads_text, NULL},
    {"json", 0, NULL, "print what was done as JSON", NULL, &wants_json},
};

const struct base_command cli_import_command = {
    .program = "retile import",
    .usage = "DIR --store ROOT --job JOB [options]",
    .about =
        "Copy a checkpoint directory into a store, as a job's next version\n"
        "Each byte is copied once and digested.  Refused before the first\n"
        "byte when it does not fit into the store's budget.",
    .example = "retile store init /dev/shm/store\n"
               "retile import model/ --store /dev/shm/store --job bert",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
};

static struct cli_progress progress;

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    (void)ctx;
    cli_progress_show(&progress, done_bytes, all_bytes);
    return !cli_was_interrupted();
}

static enum base_code
import(const char *dir, uint64_t *ret_number, struct base_err *err)
{
    struct store_source_options source_options = {.from = from_text,
                                                  .table = table_path};
    struct store_import_options import_options = {.progress = on_progress};
    struct store_copy_options copy = {0};
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO(store_source) source = NULL;
    enum base_code rc;

    BASE_TRY(cli_parse_copy(threads_text, NULL, &copy, err));
    import_options.n_threads = copy.n_threads;
    BASE_TRY(cli_open_store(store_text, job_text, &root, err));
    BASE_TRY(store_source_open_dir(dir, &source_options, &source, err));
    for (uint32_t i = 0; i < store_source_n_ignored(source); i++) {
        (void)fprintf(stderr, "retile: import: not imported: %s\n",
                      store_source_ignored(source, i));
    }
    cli_progress_begin(&progress, "importing");
    rc = store_import(root, job_text, source, &import_options, NULL, ret_number,
                      err);
    cli_progress_end(&progress);
    return rc;
}

enum cli_exit cli_import(int argc, char **argv)
{
    struct base_err err = {0};
    int64_t begin_ns = cli_now_ns();
    uint64_t number = 0;
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_import_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    cli_catch_signals();
    if (import(args[0], &number, &err) != BASE_OK) {
        return cli_tell("import", &err);
    }
    return cli_tell_version("import", job_text, number, begin_ns, wants_json);
}
