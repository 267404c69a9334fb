/* `retile version`: a job's versions: list, show, pin, release, roll back; of a
 * cluster's job, or in a store. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/num.h"
#include "cli/connect.h"
#include "cli/remote.h"
#include "cli/store_args.h"
#include "store/compact.h"

static const char *store_text;
static const char *job_text;
static const char *why_text;
static bool wants_json;

static const struct base_option options[] = {
    {"why", 0, "TEXT", "why it is pinned", &why_text, NULL},
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
    {"store", 0, "ROOT", "in this store, without a coordinator", &store_text,
     NULL},
    {"job", 0, "JOB", "with --store: the job", &job_text, NULL},
    CLI_CONNECT_OPTIONS,
};

const struct base_command cli_version_command = {
    .program = "retile version",
    .usage = "ls|show|pin|unpin|release|rollback JOB [N] [options] | ... [N] "
             "--store ROOT --job JOB",
    .about =
        "List, show, pin, release or go back to versions of a job\n"
        "rollback makes a new version with the contents of version N; what "
        "runs is stopped\nwithout a save and goes on from there.  release "
        "gives up version N; in a store its\nbytes go with `store sweep`.",
    .example = "retile version ls gpt\n"
               "retile version pin gpt 12 --why 'before the new data'\n"
               "retile version rollback gpt 12\n"
               "retile version ls --store /dev/shm/store --job bert",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 3,
};

#define LOCK_WAIT_NS ((int64_t)10 * 1000000000)

enum { TIME_TEXT_BYTES = 32 };

static const char *time_text(int64_t created_ns, char *text)
{
    time_t seconds = (time_t)(created_ns / 1000000000);
    struct tm tm;

    if (gmtime_r(&seconds, &tm) == NULL ||
        strftime(text, TIME_TEXT_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        return "?";
    }
    return text;
}

static json_t *number_json(uint64_t number)
{
    return number == UINT64_MAX ? json_null()
                                : json_integer((json_int_t)number);
}

static uint64_t blob_bytes(const struct ptc_manifest *manifest)
{
    uint64_t n_bytes = 0;

    for (uint32_t i = 0; i < ptc_manifest_n_blobs(manifest); i++) {
        n_bytes += ptc_manifest_blob(manifest, i).n_bytes;
    }
    return n_bytes;
}

static json_t *version_json(const struct store_version *version,
                            const char *pin)
{
    const struct ptc_manifest *manifest = store_version_manifest(version);
    const struct ptc_manifest_head *head = ptc_manifest_head(manifest);
    char table[BASE_DIGEST_TEXT_BYTES];
    char time[TIME_TEXT_BYTES];
    uint64_t undigested_bytes;

    (void)ptc_manifest_undigested(manifest, &undigested_bytes);
    return json_pack(
        "{sI sI ss% ss so so ss sI sI sI sI so}", "number",
        (json_int_t)head->version, "parent", (json_int_t)head->parent, "origin",
        head->origin.ptr, (size_t)head->origin.len, "created",
        time_text(head->created_ns, time), "step", number_json(head->step),
        "samples", number_json(head->samples), "table",
        base_digest_format(head->table, table), "bytes",
        (json_int_t)ptc_table_n_bytes(store_version_table(version)), "blobs",
        (json_int_t)ptc_manifest_n_blobs(manifest), "blob_bytes",
        (json_int_t)blob_bytes(manifest), "undigested_bytes",
        (json_int_t)undigested_bytes, "pin",
        pin == NULL ? json_null() : cli_json_text(pin));
}

static void print_line(const struct store_version *version, const char *pin)
{
    const struct ptc_manifest *manifest = store_version_manifest(version);
    const struct ptc_manifest_head *head = ptc_manifest_head(manifest);
    uint64_t undigested_bytes;
    char time[TIME_TEXT_BYTES];
    char size[24];

    (void)printf("%-6" PRIu64 " %-20s %-9.*s ", head->version,
                 time_text(head->created_ns, time), BASE_STR_FMT(head->origin));
    if (head->step == UINT64_MAX) {
        (void)printf("%10s", "-");
    } else {
        (void)printf("%10" PRIu64, head->step);
    }
    if (ptc_manifest_undigested(manifest, &undigested_bytes) > 0) {
        (void)printf("  %s not digested yet",
                     base_format_size(undigested_bytes, size));
    }
    (void)printf("%s%s\n",
                 pin == NULL ? "" : "  pinned: ", pin == NULL ? "" : pin);
}

static void list_damaged(uint64_t number, json_t *list, const char *text)
{
    if (wants_json) {
        (void)json_array_append_new(
            list, json_pack("{sI so}", "number", (json_int_t)number, "damaged",
                            cli_json_text(text)));
    } else {
        (void)printf("%-6" PRIu64 " damaged: %s\n", number, text);
    }
}

/* One version as a line, or into @list. */
static enum base_code list_one(const struct store_root *root,
                               uint64_t number,
                               json_t *list,
                               struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO_MEM char *pin = NULL;
    enum base_code rc =
        store_version_open(root, job_text, number, &version, err);

    if (rc == BASE_NOT_FOUND) {
        return BASE_OK; /* released meanwhile */
    }
    if (rc == BASE_OK) {
        rc = store_version_pin_why(root, job_text, number, &pin, err);
    }
    if (rc == BASE_BAD_INPUT || rc == BASE_MISMATCH) {
        list_damaged(number, list, err->text);
        return BASE_OK;
    }
    BASE_TRY(rc);
    if (wants_json) {
        (void)json_array_append_new(list, version_json(version, pin));
    } else {
        print_line(version, pin);
    }
    return BASE_OK;
}

static enum base_code
list_all(const struct store_root *root, json_t *list, struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;

    BASE_TRY(store_root_versions(root, job_text, &numbers, &n, err));
    if (!wants_json) {
        (void)printf("%-6s %-20s %-9s %10s\n", "number", "created", "origin",
                     "step");
    }
    for (size_t i = 0; i < n; i++) {
        BASE_TRY(list_one(root, numbers[i], list, err));
    }
    return BASE_OK;
}

/* @worth: NULL, and @why says why it is not known. */
static void print_worth(const struct store_worth *worth, const char *why)
{
    char dead[24];
    char run[24];

    if (worth == NULL) {
        (void)printf("compaction: not known: %s\n", why);
        return;
    }
    (void)printf("compaction: %s; %s of its blobs dead, runs of %s\n",
                 worth->is_compact ? "none is needed"
                 : worth->is_due   ? "is due"
                                   : "is not due",
                 base_format_size(worth->n_dead_bytes, dead),
                 base_format_size(worth->run_bytes, run));
}

static void print_shown(const struct store_version *version,
                        const struct store_worth *worth,
                        const char *why,
                        const char *pin)
{
    const struct ptc_manifest *manifest = store_version_manifest(version);
    const struct ptc_manifest_head *head = ptc_manifest_head(manifest);
    const struct ptc_table *table = store_version_table(version);
    uint64_t undigested_bytes;
    char digest[BASE_DIGEST_TEXT_BYTES];
    char time[TIME_TEXT_BYTES];
    char size[24];

    (void)printf("%s: %.*s of %s", store_version_label(version),
                 BASE_STR_FMT(head->origin), time_text(head->created_ns, time));
    if (head->parent != 0) {
        (void)printf(", from version %" PRIu64, head->parent);
    }
    (void)printf("\nstate: %u tensors, %s; table %s\n",
                 ptc_table_n_tensors(table),
                 base_format_size(ptc_table_n_bytes(table), size),
                 base_digest_format(head->table, digest));
    (void)printf("blobs: %u, %s; objects: %u\n", ptc_manifest_n_blobs(manifest),
                 base_format_size(blob_bytes(manifest), size),
                 ptc_manifest_n_objects(manifest));
    if (ptc_manifest_undigested(manifest, &undigested_bytes) > 0) {
        (void)printf("not digested yet: %s\n",
                     base_format_size(undigested_bytes, size));
    }
    print_worth(worth, why);
    if (head->step != UINT64_MAX) {
        (void)printf("step: %" PRIu64 "\n", head->step);
    }
    if (head->samples != UINT64_MAX) {
        (void)printf("samples: %" PRIu64 "\n", head->samples);
    }
    if (pin != NULL) {
        (void)printf("pinned: %s\n", pin);
    }
    (void)printf("layout:\n%.*s", (int)head->layout.len, head->layout.ptr);
}

static json_t *worth_json(const struct store_worth *worth)
{
    return worth == NULL
               ? json_null()
               : json_pack("{sI sI sI sI sb sb}", "bytes",
                           (json_int_t)worth->n_bytes, "dead_bytes",
                           (json_int_t)worth->n_dead_bytes, "freed_bytes",
                           (json_int_t)worth->n_freed_bytes, "run_bytes",
                           (json_int_t)worth->run_bytes, "is_compact",
                           worth->is_compact, "is_due", worth->is_due);
}

static enum cli_exit show(const struct store_root *root, uint64_t number)
{
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO_MEM char *pin = NULL;
    struct base_err err = {0};
    struct base_err why = {0}; /* the worth is not known */
    struct store_worth measured;
    const struct store_worth *worth = NULL;
    const struct ptc_manifest_head *head;
    json_t *json;

    if (store_version_open(root, job_text, number, &version, &err) != BASE_OK) {
        return cli_tell("version", &err);
    }
    head = ptc_manifest_head(store_version_manifest(version));
    if (store_version_pin_why(root, job_text, head->version, &pin, &err) !=
        BASE_OK) {
        return cli_tell("version", &err);
    }
    if (store_compact_worth(root, job_text, head->version, &measured, &why) ==
        BASE_OK) {
        worth = &measured;
    }
    if (!wants_json) {
        print_shown(version, worth, why.text, pin);
        return CLI_DONE;
    }
    json = version_json(version, pin);
    if (json != NULL) {
        (void)json_object_set_new(json, "version", json_integer(1));
        (void)json_object_set_new(json, "compaction", worth_json(worth));
        (void)json_object_set_new(
            json, "layout", json_stringn(head->layout.ptr, head->layout.len));
    }
    return cli_print_json("version", json);
}

static enum cli_exit list(const struct store_root *root)
{
    struct base_err err = {0};
    json_t *all = wants_json ? json_array() : NULL;

    if (list_all(root, all, &err) != BASE_OK) {
        json_decref(all);
        return cli_tell("version", &err);
    }
    return wants_json ? cli_print_json("version",
                                       json_pack("{si so so}", "version", 1,
                                                 "job", cli_json_text(job_text),
                                                 "versions", all))
                      : CLI_DONE;
}

/* pin, unpin, release: under the lock. */
static enum base_code change(struct store_root *root,
                             const char *what,
                             uint64_t number,
                             struct base_err *err)
{
    BASE_TRY(store_root_lock(root, LOCK_WAIT_NS, err));
    if (strcmp(what, "release") == 0) {
        return store_version_release(root, job_text, number, err);
    }
    if (strcmp(what, "unpin") == 0) {
        return store_version_pin(root, job_text, number, NULL, err);
    }
    return store_version_pin(root, job_text, number,
                             why_text == NULL ? "pinned" : why_text, err);
}

static enum cli_exit tell_changed(const char *what, uint64_t number)
{
    const char *text = strcmp(what, "release") == 0 ? "released"
                       : strcmp(what, "pin") == 0   ? "pinned"
                                                    : "unpinned";

    if (wants_json) {
        return cli_print_json("version",
                              json_pack("{si so sI ss}", "version", 1, "job",
                                        cli_json_text(job_text), "number",
                                        (json_int_t)number, "is", text));
    }
    (void)printf("%s@%" PRIu64 ": %s\n", job_text, number, text);
    return CLI_DONE;
}

static enum cli_exit
run(struct store_root *root, const char *what, uint64_t number)
{
    int64_t begin_ns = cli_now_ns();
    struct base_err err = {0};
    uint64_t made = 0;

    if (strcmp(what, "ls") == 0) {
        return list(root);
    }
    if (strcmp(what, "show") == 0) {
        return show(root, number);
    }
    if (number == 0) {
        (void)base_fail(&err, BASE_BAD_ARG, "%s: a version's number is needed",
                        what);
        return cli_tell("version", &err);
    }
    if (strcmp(what, "rollback") == 0) {
        return store_rollback(root, job_text, number, NULL, &made, &err) ==
                       BASE_OK
                   ? cli_tell_version("version", job_text, made, begin_ns,
                                      wants_json)
                   : cli_tell("version", &err);
    }
    return change(root, what, number, &err) == BASE_OK
               ? tell_changed(what, number)
               : cli_tell("version", &err);
}

/* args: what, N */
static enum cli_exit run_local(char **args, int n_args)
{
    BASE_AUTO(store_root) root = NULL;
    struct base_err err = {0};
    uint64_t number = 0;

    if (n_args == 3) {
        (void)base_fail(&err, BASE_BAD_ARG,
                        "`%s`: with --store the job is --job JOB", args[1]);
        return cli_tell("version", &err);
    }
    if (cli_parse_version(args[0], n_args == 2 ? args[1] : NULL, &number,
                          &err) != BASE_OK ||
        cli_open_store(store_text, job_text, &root, &err) != BASE_OK) {
        return cli_tell("version", &err);
    }
    return run(root, args[0], number);
}

/* args: what, JOB, N */
static enum cli_exit run_remote(char **args, int n_args)
{
    struct cli_version_args wish = {
        .what = args[0], .why = why_text, .wants_json = wants_json};
    struct base_err err = {0};

    if (n_args == 1) {
        (void)base_fail(&err, BASE_BAD_ARG, "JOB is needed, or --store ROOT");
        return cli_tell("version", &err);
    }
    wish.job = args[1];
    if (cli_parse_version(args[0], n_args == 3 ? args[2] : NULL, &wish.number,
                          &err) != BASE_OK) {
        return cli_tell("version", &err);
    }
    if (wish.number == 0 && strcmp(args[0], "ls") != 0 &&
        strcmp(args[0], "show") != 0) {
        (void)base_fail(&err, BASE_BAD_ARG, "%s: a version's number is needed",
                        args[0]);
        return cli_tell("version", &err);
    }
    return cli_version_remote(&wish);
}

enum cli_exit cli_version(int argc, char **argv)
{
    static const char *const known[] = {"ls",    "show",    "pin",
                                        "unpin", "release", "rollback"};
    enum { N_KNOWN = sizeof(known) / sizeof(known[0]) };
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;
    size_t i = 0;

    if (!cli_parse(&cli_version_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    while (i < N_KNOWN && strcmp(known[i], args[0]) != 0) {
        i++;
    }
    if (i == N_KNOWN) {
        (void)base_fail(&err, BASE_BAD_ARG,
                        "`%s`: ls, show, pin, unpin, release or rollback is "
                        "needed",
                        args[0]);
        return cli_tell("version", &err);
    }
    return store_text != NULL ? run_local(args, n_args)
                              : run_remote(args, n_args);
}
