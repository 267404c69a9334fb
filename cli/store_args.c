#include "cli/store_args.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/io.h"
#include "base/num.h"

static void on_warning(void *ctx, const char *text)
{
    (void)ctx;
    (void)fprintf(stderr, "retile: warning: %s\n", text);
}

void cli_warn_of_store(struct store_root *root)
{
    store_root_on_warning(root, on_warning, NULL);
}

enum base_code cli_open_store(const char *store,
                              const char *job,
                              struct store_root **ret,
                              struct base_err *err)
{
    if (store == NULL || job == NULL) {
        return base_fail(err, BASE_BAD_ARG, "%s is needed",
                         store == NULL ? "--store ROOT" : "--job JOB");
    }
    BASE_TRY(store_root_open(store, ret, err));
    cli_warn_of_store(*ret);
    return BASE_OK;
}

enum base_code cli_parse_version(const char *what,
                                 const char *text,
                                 uint64_t *ret,
                                 struct base_err *err)
{
    *ret = 0;
    if (text != NULL &&
        (!base_parse_u64(base_str_of(text), ret) || *ret == 0)) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s %s: a version's number, from 1, is needed", what,
                         text);
    }
    return BASE_OK;
}

enum cli_exit cli_tell_version(const char *verb,
                               const char *job,
                               uint64_t number,
                               int64_t begin_ns,
                               bool wants_json)
{
    struct base_io_stats io = base_io_stats_get();
    double seconds = (double)(cli_now_ns() - begin_ns) / 1e9;
    char written[24];

    if (wants_json) {
        return cli_print_json(
            verb,
            json_pack("{si so sI sI sI sf}", "version", 1, "job",
                      cli_json_text(job), "number", (json_int_t)number,
                      "read_bytes", (json_int_t)io.read_bytes, "written_bytes",
                      (json_int_t)io.written_bytes, "seconds", seconds));
    }
    (void)printf("%s@%" PRIu64 ": %s written, in %.3f s\n", job, number,
                 base_format_size(io.written_bytes, written), seconds);
    return CLI_DONE;
}
