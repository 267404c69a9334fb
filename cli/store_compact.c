/* `retile store compact`: digest what is not digested, and write versions whose
 * pieces are small, or whose blobs are mostly dead, anew. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/store_verbs.h"

/* What was done to one version. */
struct done {
    uint64_t digested_bytes;
    bool is_compacted;
    struct store_worth worth; /* before */
};

struct work {
    struct store_root *root;
    struct store_import_options options;
    struct cli_progress progress;
    json_t *versions; /* NULL: as lines */
};

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct work *work = ctx;

    cli_progress_show(&work->progress, done_bytes, all_bytes);
    return !cli_was_interrupted();
}

static void tell(const struct work *work,
                 const char *job,
                 uint64_t number,
                 const struct done *done)
{
    char text[24];

    if (work->versions != NULL) {
        (void)json_array_append_new(
            work->versions,
            json_pack(
                "{so sI sI sb sI sI}", "job", cli_json_text(job), "number",
                (json_int_t)number, "digested_bytes",
                (json_int_t)done->digested_bytes, "compacted",
                done->is_compacted, "copied_bytes",
                (json_int_t)(done->is_compacted ? done->worth.n_bytes : 0),
                "freed_bytes",
                (json_int_t)(done->is_compacted ? done->worth.n_freed_bytes
                                                : 0)));
        return;
    }
    if (done->digested_bytes > 0) {
        (void)printf("%s@%" PRIu64 ": %s digested\n", job, number,
                     base_format_size(done->digested_bytes, text));
    }
    if (done->is_compacted) {
        (void)printf("%s@%" PRIu64 ": compacted, %s copied", job, number,
                     base_format_size(done->worth.n_bytes, text));
        (void)printf("; %s for the sweep, when nobody reads them\n",
                     base_format_size(done->worth.n_freed_bytes, text));
    } else if (done->worth.is_compact) {
        (void)printf("%s@%" PRIu64 ": is compact\n", job, number);
    } else {
        (void)printf("%s@%" PRIu64 ": not due\n", job, number);
    }
}

/* @is_asked: compact though it is not due. */
static enum base_code one(struct work *work,
                          const char *job,
                          uint64_t number,
                          bool is_asked,
                          struct base_err *err)
{
    struct done done = {0};

    cli_progress_begin(&work->progress, "digesting");
    BASE_TRY(store_digest_version(work->root, job, number, &work->options,
                                  &done.digested_bytes, err));
    cli_progress_end(&work->progress);
    BASE_TRY(store_compact_worth(work->root, job, number, &done.worth, err));
    if (!done.worth.is_compact && (is_asked || done.worth.is_due)) {
        cli_progress_begin(&work->progress, "compacting");
        BASE_TRY(store_compact(work->root, job, number, &work->options, err));
        cli_progress_end(&work->progress);
        done.is_compacted = true;
    }
    tell(work, job, number, &done);
    return BASE_OK;
}

static enum base_code
all_of(struct work *work, const char *job, struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;

    BASE_TRY(store_root_versions(work->root, job, &numbers, &n, err));
    for (size_t i = 0; i < n; i++) {
        enum base_code rc = one(work, job, numbers[i], false, err);

        if (rc != BASE_NOT_FOUND) { /* released meanwhile */
            BASE_TRY(rc);
        }
    }
    return BASE_OK;
}

static enum base_code all(struct work *work, struct base_err *err)
{
    char **names = NULL;
    size_t n = 0;
    enum base_code rc = BASE_OK;

    BASE_TRY(store_root_jobs(work->root, &names, &n, err));
    for (size_t i = 0; i < n && rc == BASE_OK; i++) {
        rc = all_of(work, names[i], err);
    }
    base_names_free(names, n);
    return rc;
}

/* "JOB" or "JOB@N". */
static enum base_code
asked(struct work *work, const char *which, struct base_err *err)
{
    const char *at = strrchr(which, '@');
    BASE_AUTO_MEM char *job = NULL;
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    uint64_t number = 0;
    size_t n = 0;

    if (at == NULL || !base_parse_u64(base_str_of(at + 1), &number) ||
        number == 0) {
        at = which + strlen(which);
    }
    job = strndup(which, (size_t)(at - which));
    if (job == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot read %s", which);
    }
    if (number == 0) {
        BASE_TRY(store_root_versions(work->root, job, &numbers, &n, err));
        if (n == 0) {
            return base_fail(err, BASE_NOT_FOUND, "%s has no version yet", job);
        }
        number = numbers[n - 1];
    }
    return one(work, job, number, true, err);
}

enum cli_exit cli_store_compact(struct store_root *root,
                                const char *which,
                                unsigned n_threads,
                                bool wants_json)
{
    struct work work = {.root = root,
                        .options = {.n_threads = n_threads,
                                    .progress = on_progress,
                                    .progress_ctx = &work},
                        .versions = wants_json ? json_array() : NULL};
    struct base_err err = {0};
    enum base_code rc;

    cli_catch_signals();
    rc = which != NULL ? asked(&work, which, &err) : all(&work, &err);
    cli_progress_end(&work.progress);
    if (rc != BASE_OK) {
        json_decref(work.versions);
        return cli_tell("store", &err);
    }
    return wants_json
               ? cli_print_json("store", json_pack("{si so}", "version", 1,
                                                   "versions", work.versions))
               : CLI_DONE;
}
