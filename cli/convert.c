/* `retile convert`: write a directory's tree under another layout. */
#include "cli/write_tree.h"

static const char *to_text;
static const char *from_text;
static const char *table_path;
static const char *threads_text;
static const char *memory_text;
static bool wants_verify;
static bool wants_json;

static const struct base_option options[] = {
    {"to", 0, "SPEC", "the layout to write: a YAML file, hf, or a short form",
     &to_text, NULL},
    {"from", 0, "SPEC", "the layout SRC is in, when it has no layout.yaml",
     &from_text, NULL},
    {"table", 0, "FILE", "the tensors of SRC, as `inspect --table` prints them",
     &table_path, NULL},
    {"threads", 0, "N", "copying threads (default: the processors, at most 8)",
     &threads_text, NULL},
    {"memory", 0, "SIZE", "memory for buffers (default 128MiB)", &memory_text,
     NULL},
    {"verify", 0, NULL, "read DST back and compare before it gets its name",
     NULL, &wants_verify},
    {"json", 0, NULL, "print what was done as JSON", NULL, &wants_json},
};

const struct base_command cli_convert_command = {
    .program = "retile convert",
    .usage = "SRC DST --to SPEC [options]",
    .about = "Write a checkpoint directory under another layout\n"
             "Each byte of SRC is read once.  DST must not exist; it appears\n"
             "by one rename when all of it is on disk.",
    .example = "retile convert model/ ranks/ --to llama:tp=4,pp=2\n"
               "retile convert ranks/ model2/ --to hf --verify",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 2,
    .max_args = 2,
};

static enum base_code
open_dir(void *ctx, struct store_source **ret, struct base_err *err)
{
    struct store_source_options source_options = {.from = from_text,
                                                  .table = table_path};

    if (to_text == NULL) {
        return base_fail(err, BASE_BAD_ARG, "--to SPEC is needed");
    }
    return store_source_open_dir(ctx, &source_options, ret, err);
}

enum cli_exit cli_convert(int argc, char **argv)
{
    struct cli_write_tree job = {
        .verb = "convert", .doing = "converting", .open = open_dir};
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_convert_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    job.ctx = args[0];
    job.dst = args[1];
    job.to = to_text;
    job.threads = threads_text;
    job.memory = memory_text;
    job.wants_verify = wants_verify;
    job.wants_json = wants_json;
    return cli_write_tree(&job);
}
