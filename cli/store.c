/* `retile store`: make, check and clean a store. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"
#include "cli/store_args.h"
#include "cli/store_verbs.h"
#include "cli/write_tree.h"

static const char *budget_text;
static const char *threads_text;
static bool wants_json;

static const struct base_option options[] = {
    {"budget", 0, "SIZE", "init: the most that it may take", &budget_text,
     NULL},
    {"threads", 0, "N",
     "scrub, compact: threads (default: the processors, at most 8)",
     &threads_text, NULL},
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
};

const struct base_command cli_store_command = {
    .program = "retile store",
    .usage = "init|ls|fsck|scrub|sweep ROOT [options]\n"
             "       retile store compact ROOT [JOB[@N]] [options]",
    .about =
        "Make, list, check and clean a store of versions\n"
        "fsck reads manifests, tables and sizes; scrub also compares every\n"
        "byte with its digest (exit 3 when either finds something).  sweep\n"
        "removes bytes that no version names.  compact digests what is not\n"
        "digested yet, and writes versions in small pieces, or in blobs that\n"
        "are mostly dead, into new blobs; JOB[@N] whether it is due or not.",
    .example = "retile store init /dev/shm/store --budget 64GiB\n"
               "retile store scrub /dev/shm/store",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 2,
    .max_args = 3,
};

#define LOCK_WAIT_NS ((int64_t)10 * 1000000000)

static enum base_code init(const char *path, struct base_err *err)
{
    uint64_t budget_bytes = 0;

    if (budget_text != NULL &&
        (!base_parse_size(base_str_of(budget_text), &budget_bytes) ||
         budget_bytes == 0 || budget_bytes > INT64_MAX)) { /* as JSON has it */
        return base_fail(err, BASE_BAD_ARG,
                         "--budget %s: a size such as 64GiB is needed",
                         budget_text);
    }
    return store_root_init(path, budget_bytes, err);
}

static enum cli_exit made(const char *path)
{
    BASE_AUTO(store_root) root = NULL;
    struct base_err err = {0};

    if (store_root_open(path, &root, &err) != BASE_OK) {
        return cli_tell("store", &err);
    }
    return cli_print_json("store", json_pack("{si so ss}", "version", 1, "root",
                                             cli_json_text(path), "id",
                                             store_root_id(root)));
}

/* --- fsck and scrub ----------------------------------------------------- */

struct check {
    struct cli_progress progress;
    json_t *findings; /* NULL: as lines */
};

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct check *check = ctx;

    cli_progress_show(&check->progress, done_bytes, all_bytes);
    return !cli_was_interrupted();
}

static void on_finding(void *ctx, const char *text)
{
    const struct check *check = ctx;

    if (check->findings != NULL) {
        (void)json_array_append_new(check->findings, cli_json_text(text));
    } else {
        (void)puts(text);
    }
}

/* What scrub could not compare; it is no finding. */
static enum cli_exit
tell_scrubbed(const struct store_root *root, json_t *findings, uint64_t n)
{
    __attribute__((cleanup(cli_store_sum_done))) struct cli_store_sum sum = {0};
    struct base_err err = {0};
    char size[24];

    if (cli_store_sum_all(root, &sum, &err) != BASE_OK) {
        json_decref(findings);
        return cli_tell("store", &err);
    }
    if (findings != NULL) {
        return cli_print_json(
            "store", json_pack("{si sb so sI sI}", "version", 1, "ok", n == 0,
                               "findings", findings, "undigested_regions",
                               (json_int_t)sum.n_undigested, "undigested_bytes",
                               (json_int_t)sum.undigested_bytes));
    }
    if (n == 0) {
        (void)printf("every byte%s is as it was written\n",
                     sum.n_undigested > 0 ? " that is digested" : "");
    }
    if (sum.n_undigested > 0) {
        (void)printf("%" PRIu64 " regions of %s are not digested yet\n",
                     sum.n_undigested,
                     base_format_size(sum.undigested_bytes, size));
    }
    return CLI_DONE;
}

static enum cli_exit
check(struct store_root *root, bool is_scrub, unsigned n_threads)
{
    struct check ctx = {.findings = wants_json ? json_array() : NULL};
    struct base_err err = {0};
    uint64_t n = 0;
    enum base_code rc;
    enum cli_exit told = CLI_DONE;

    cli_catch_signals();
    cli_progress_begin(&ctx.progress, is_scrub ? "scrubbing" : "checking");
    rc = store_check(root, is_scrub, n_threads, on_progress, on_finding, &ctx,
                     &n, &err);
    cli_progress_end(&ctx.progress);
    if (rc != BASE_OK) {
        json_decref(ctx.findings);
        return cli_tell("store", &err);
    }
    if (is_scrub) {
        told = tell_scrubbed(root, ctx.findings, n);
    } else if (wants_json) {
        told = cli_print_json("store",
                              json_pack("{si sb so}", "version", 1, "ok",
                                        n == 0, "findings", ctx.findings));
    } else if (n == 0) {
        (void)puts("consistent");
    }
    return n == 0 ? told : CLI_NOT_FOUND;
}

static enum cli_exit sweep(struct store_root *root)
{
    struct base_err err = {0};
    struct store_sweep swept = {0};
    char size[24];

    if (store_root_lock(root, LOCK_WAIT_NS, &err) != BASE_OK ||
        store_sweep(root, &swept, &err) != BASE_OK) {
        return cli_tell("store", &err);
    }
    if (wants_json) {
        return cli_print_json(
            "store", json_pack("{si sI sI}", "version", 1, "blobs",
                               (json_int_t)swept.n_blobs, "freed_bytes",
                               (json_int_t)swept.n_bytes));
    }
    (void)printf("%" PRIu64 " blobs removed, %s freed\n", swept.n_blobs,
                 base_format_size(swept.n_bytes, size));
    return CLI_DONE;
}

/* The verb, for a store that is there. */
static enum cli_exit run(char **args, int n_args)
{
    BASE_AUTO(store_root) root = NULL;
    struct store_copy_options copy = {0};
    struct base_err err = {0};

    if (cli_parse_copy(threads_text, NULL, &copy, &err) != BASE_OK ||
        store_root_open(args[1], &root, &err) != BASE_OK) {
        return cli_tell("store", &err);
    }
    cli_warn_of_store(root);
    if (strcmp(args[0], "ls") == 0) {
        return cli_store_ls(root, wants_json);
    }
    if (strcmp(args[0], "sweep") == 0) {
        return sweep(root);
    }
    if (strcmp(args[0], "compact") == 0) {
        return cli_store_compact(root, n_args == 3 ? args[2] : NULL,
                                 copy.n_threads, wants_json);
    }
    return check(root, strcmp(args[0], "scrub") == 0, copy.n_threads);
}

enum cli_exit cli_store(int argc, char **argv)
{
    static const char *const known[] = {"init",  "ls",    "fsck",
                                        "scrub", "sweep", "compact"};
    enum { N_KNOWN = sizeof(known) / sizeof(known[0]) };
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;
    size_t i = 0;

    if (!cli_parse(&cli_store_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    while (i < N_KNOWN && strcmp(known[i], args[0]) != 0) {
        i++;
    }
    if (i == N_KNOWN) {
        (void)base_fail(&err, BASE_BAD_ARG,
                        "`%s`: init, ls, fsck, scrub, sweep or compact is "
                        "needed",
                        args[0]);
        return cli_tell("store", &err);
    }
    if (n_args == 3 && strcmp(args[0], "compact") != 0) {
        (void)base_fail(&err, BASE_BAD_ARG, "`%s`: is one argument too many",
                        args[2]);
        return cli_tell("store", &err);
    }
    if (strcmp(args[0], "init") == 0) {
        if (init(args[1], &err) != BASE_OK) {
            return cli_tell("store", &err);
        }
        return wants_json ? made(args[1]) : CLI_DONE;
    }
    if (budget_text != NULL) {
        (void)base_fail(&err, BASE_BAD_ARG, "--budget is for init");
        return cli_tell("store", &err);
    }
    return run(args, n_args);
}
