/* `retile store`: make, list, check and clean a store. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/cli.h"
#include "store/root.h"

static const char *budget_text;
static bool wants_json;

static const struct base_option options[] = {
    {"budget", 0, "SIZE", "init: the most that blobs may take", &budget_text,
     NULL},
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
};

const struct base_command cli_store_command = {
    .program = "retile store",
    .usage = "init|ls|fsck|scrub|sweep ROOT [options]",
    .about =
        "Make, list, check and clean a store of versions\n"
        "fsck reads manifests, tables and sizes; scrub also compares every\n"
        "byte with its digest (exit 3 when either finds something).  sweep\n"
        "removes bytes that no version names.",
    .example = "retile store init /dev/shm/store --budget 64GiB\n"
               "retile store scrub /dev/shm/store",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 2,
    .max_args = 2,
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

/* --- ls ----------------------------------------------------------------- */

static enum base_code list_job(const struct store_root *root,
                               const char *job,
                               json_t *jobs,
                               struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;
    json_t *list;

    BASE_TRY(store_root_versions(root, job, &numbers, &n, err));
    if (!wants_json) {
        (void)printf("%s: %zu version%s", job, n, n == 1 ? "" : "s");
        if (n > 0) {
            (void)printf(", current %" PRIu64, numbers[n - 1]);
        }
        (void)putchar('\n');
        return BASE_OK;
    }
    list = json_array();
    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(list, json_integer((json_int_t)numbers[i]));
    }
    (void)json_array_append_new(
        jobs,
        json_pack("{so so}", "job", cli_json_text(job), "versions", list));
    return BASE_OK;
}

static enum base_code
list_jobs(const struct store_root *root, json_t *jobs, struct base_err *err)
{
    char **names = NULL;
    size_t n = 0;
    enum base_code rc = BASE_OK;

    BASE_TRY(store_root_jobs(root, &names, &n, err));
    for (size_t i = 0; i < n && rc == BASE_OK; i++) {
        rc = list_job(root, names[i], jobs, err);
    }
    base_names_free(names, n);
    return rc;
}

static enum cli_exit list(const struct store_root *root)
{
    struct base_err err = {0};
    json_t *jobs = wants_json ? json_array() : NULL;
    uint64_t used = 0, budget = 0;
    char used_text[24], budget_text_[24];

    if (store_root_usage(root, &used, &budget, &err) != BASE_OK ||
        list_jobs(root, jobs, &err) != BASE_OK) {
        json_decref(jobs);
        return cli_tell("store", &err);
    }
    if (wants_json) {
        return cli_print_json(
            "store",
            json_pack("{si so ss sI sI so}", "version", 1, "root",
                      cli_json_text(store_root_path(root)), "id",
                      store_root_id(root), "used_bytes", (json_int_t)used,
                      "budget_bytes", (json_int_t)budget, "jobs", jobs));
    }
    (void)printf("store %s: %s used", store_root_id(root),
                 base_format_size(used, used_text));
    if (budget != 0) {
        (void)printf(" of %s", base_format_size(budget, budget_text_));
    }
    (void)putchar('\n');
    return CLI_DONE;
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

static enum cli_exit check(struct store_root *root, bool is_scrub)
{
    struct check ctx = {.findings = wants_json ? json_array() : NULL};
    struct base_err err = {0};
    uint64_t n = 0;
    enum base_code rc;
    enum cli_exit told = CLI_DONE;

    cli_catch_signals();
    cli_progress_begin(&ctx.progress, is_scrub ? "scrubbing" : "checking");
    rc =
        store_check(root, is_scrub, 0, on_progress, on_finding, &ctx, &n, &err);
    cli_progress_end(&ctx.progress);
    if (rc != BASE_OK) {
        json_decref(ctx.findings);
        return cli_tell("store", &err);
    }
    if (wants_json) {
        told = cli_print_json("store",
                              json_pack("{si sb so}", "version", 1, "ok",
                                        n == 0, "findings", ctx.findings));
    } else if (n == 0) {
        (void)puts(is_scrub ? "every byte is as it was written" : "consistent");
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

enum cli_exit cli_store(int argc, char **argv)
{
    BASE_AUTO(store_root) root = NULL;
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_store_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
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
    if (strcmp(args[0], "ls") != 0 && strcmp(args[0], "fsck") != 0 &&
        strcmp(args[0], "scrub") != 0 && strcmp(args[0], "sweep") != 0) {
        (void)base_fail(&err, BASE_BAD_ARG,
                        "`%s`: init, ls, fsck, scrub or sweep is needed",
                        args[0]);
        return cli_tell("store", &err);
    }
    if (store_root_open(args[1], &root, &err) != BASE_OK) {
        return cli_tell("store", &err);
    }
    if (strcmp(args[0], "ls") == 0) {
        return list(root);
    }
    if (strcmp(args[0], "sweep") == 0) {
        return sweep(root);
    }
    return check(root, strcmp(args[0], "scrub") == 0);
}
