/* `retile store ls`: jobs, and what upkeep would find to do. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/store_verbs.h"
#include "store/vote.h"

void cli_store_sum_done(struct cli_store_sum *sum)
{
    base_vec_done(&sum->blobs);
}

static enum base_code add_version(const struct store_version *version,
                                  struct cli_store_sum *sum,
                                  struct base_err *err)
{
    const struct ptc_manifest *manifest = store_version_manifest(version);
    uint64_t n_bytes;

    sum->n_undigested += ptc_manifest_undigested(manifest, &n_bytes);
    if (!base_add_u64(sum->undigested_bytes, n_bytes, &sum->undigested_bytes)) {
        sum->undigested_bytes = UINT64_MAX;
    }
    for (uint32_t i = 0; i < ptc_manifest_n_blobs(manifest); i++) {
        if (!base_vec_push(&sum->blobs, ptc_manifest_blob(manifest, i))) {
            return base_fail(err, BASE_NO_MEM, "cannot list blobs");
        }
    }
    return BASE_OK;
}

enum base_code cli_store_sum_job(const struct store_root *root,
                                 const char *job,
                                 struct cli_store_sum *sum,
                                 struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;

    BASE_TRY(store_root_versions(root, job, &numbers, &n, err));
    for (size_t i = 0; i < n; i++) {
        BASE_AUTO(store_version) version = NULL;
        enum base_code rc =
            store_version_open(root, job, numbers[i], &version, err);

        if (rc == BASE_NOT_FOUND) {
            continue; /* released meanwhile */
        }
        sum->n_versions++;
        if (rc == BASE_BAD_INPUT || rc == BASE_MISMATCH) {
            sum->n_damaged++;
            continue;
        }
        BASE_TRY(rc);
        BASE_TRY(add_version(version, sum, err));
    }
    return BASE_OK;
}

enum base_code cli_store_sum_all(const struct store_root *root,
                                 struct cli_store_sum *sum,
                                 struct base_err *err)
{
    char **names = NULL;
    size_t n = 0;
    enum base_code rc = BASE_OK;

    BASE_TRY(store_root_jobs(root, &names, &n, err));
    for (size_t i = 0; i < n && rc == BASE_OK; i++) {
        rc = cli_store_sum_job(root, names[i], sum, err);
    }
    base_names_free(names, n);
    return rc;
}

/* Their blobs are not the sweep's. */
static enum base_code add_votes(const struct store_root *root,
                                const struct store_vote *votes,
                                size_t n,
                                struct cli_store_sum *all,
                                struct base_err *err)
{
    struct cli_store_sum counts = *all; /* of versions only */

    for (size_t i = 0; i < n; i++) {
        BASE_AUTO(store_version) version = NULL;
        enum base_code rc =
            store_vote_open(root, votes[i].job, votes[i].number, &version, err);

        if (rc == BASE_NOT_FOUND) {
            continue; /* decided meanwhile */
        }
        if (rc == BASE_BAD_INPUT || rc == BASE_MISMATCH) {
            counts.n_damaged++;
            continue;
        }
        BASE_TRY(rc);
        BASE_TRY(add_version(version, all, err));
    }
    all->n_undigested = counts.n_undigested;
    all->undigested_bytes = counts.undigested_bytes;
    all->n_damaged = counts.n_damaged;
    return BASE_OK;
}

static int blob_cmp(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct ptc_blob_name)); /* its first member */
}

/* Bytes of the blobs in @sum, each once. */
static uint64_t named_bytes(struct cli_store_sum *sum)
{
    uint64_t n_bytes = 0;

    if (sum->blobs.n > 0) {
        qsort(sum->blobs.items, sum->blobs.n, sizeof(*sum->blobs.items),
              blob_cmp);
    }
    for (size_t i = 0; i < sum->blobs.n; i++) {
        const struct ptc_manifest_blob *blob = &sum->blobs.items[i];

        if (i == 0 || blob_cmp(blob, blob - 1) != 0) {
            n_bytes += blob->n_bytes;
        }
    }
    return n_bytes;
}

/* --- printing ----------------------------------------------------------- */

static void print_job(const char *job,
                      const uint64_t *numbers,
                      size_t n,
                      const struct cli_store_sum *sum)
{
    char size[24];

    (void)printf("%s: %zu version%s", job, n, n == 1 ? "" : "s");
    if (n > 0) {
        (void)printf(", current %" PRIu64, numbers[n - 1]);
    }
    if (sum->n_undigested > 0) {
        (void)printf(", %s not digested yet",
                     base_format_size(sum->undigested_bytes, size));
    }
    if (sum->n_damaged > 0) {
        (void)printf(", %" PRIu64 " damaged", sum->n_damaged);
    }
    (void)putchar('\n');
}

static json_t *number_json(bool is_known, uint64_t number)
{
    return is_known ? json_integer((json_int_t)number) : json_null();
}

static json_t *job_json(const char *job,
                        const uint64_t *numbers,
                        size_t n,
                        const struct cli_store_sum *sum)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        (void)json_array_append_new(list, json_integer((json_int_t)numbers[i]));
    }
    return json_pack("{so so sI sI}", "job", cli_json_text(job), "versions",
                     list, "undigested_bytes",
                     (json_int_t)sum->undigested_bytes, "damaged",
                     (json_int_t)sum->n_damaged);
}

/* One job as a line, or into @jobs; its blobs are added to @all. */
static enum base_code list_job(const struct store_root *root,
                               const char *job,
                               struct cli_store_sum *all,
                               json_t *jobs,
                               struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    struct cli_store_sum before = *all; /* its counts */
    struct cli_store_sum own = {0};
    size_t n = 0;

    BASE_TRY(store_root_versions(root, job, &numbers, &n, err));
    BASE_TRY(cli_store_sum_job(root, job, all, err));
    own.n_undigested = all->n_undigested - before.n_undigested;
    own.undigested_bytes = all->undigested_bytes - before.undigested_bytes;
    own.n_damaged = all->n_damaged - before.n_damaged;
    if (jobs == NULL) {
        print_job(job, numbers, n, &own);
    } else {
        (void)json_array_append_new(jobs, job_json(job, numbers, n, &own));
    }
    return BASE_OK;
}

static enum base_code list_jobs(const struct store_root *root,
                                struct cli_store_sum *all,
                                json_t *jobs,
                                struct base_err *err)
{
    char **names = NULL;
    size_t n = 0;
    enum base_code rc = BASE_OK;

    BASE_TRY(store_root_jobs(root, &names, &n, err));
    for (size_t i = 0; i < n && rc == BASE_OK; i++) {
        rc = list_job(root, names[i], all, jobs, err);
    }
    base_names_free(names, n);
    return rc;
}

static void print_vote(const struct store_vote *vote)
{
    (void)printf("%s: attempt %" PRIu64, vote->job, vote->number);
    if (vote->is_damaged) {
        (void)printf(", damaged");
    } else {
        (void)printf(", %s", vote->origin);
    }
    if (!vote->is_damaged && vote->step != UINT64_MAX) {
        (void)printf(", step %" PRIu64, vote->step);
    }
    (void)printf(", waits for the coordinator\n");
}

static json_t *votes_json(const struct store_vote *votes, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        const struct store_vote *vote = &votes[i];
        bool is_known = !vote->is_damaged;

        (void)json_array_append_new(
            list,
            json_pack(
                "{so sI so so so so}", "job", cli_json_text(vote->job),
                "number", (json_int_t)vote->number, "origin",
                is_known ? json_string(vote->origin) : json_null(),
                "generation", number_json(is_known, vote->generation), "step",
                number_json(is_known && vote->step != UINT64_MAX, vote->step),
                "parent", number_json(is_known, vote->parent)));
    }
    return list;
}

static void print_store(const struct store_root *root,
                        uint64_t used,
                        uint64_t budget,
                        uint64_t staged,
                        uint64_t unnamed)
{
    char text[24];

    (void)printf("store %s: %s used", store_root_id(root),
                 base_format_size(used, text));
    if (budget != 0) {
        (void)printf(" of %s", base_format_size(budget, text));
    }
    if (staged > 0) {
        (void)printf(", %s being written", base_format_size(staged, text));
    }
    if (unnamed > 0) {
        (void)printf(", %s for the sweep", base_format_size(unnamed, text));
    }
    (void)putchar('\n');
}

enum cli_exit cli_store_ls(const struct store_root *root, bool wants_json)
{
    __attribute__((cleanup(cli_store_sum_done))) struct cli_store_sum all = {0};
    struct base_err err = {0};
    json_t *jobs = wants_json ? json_array() : NULL;
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    size_t n_votes = 0;
    uint64_t used = 0, budget = 0, staged = 0, unnamed;

    if (store_root_usage(root, &used, &budget, &err) != BASE_OK ||
        store_root_staged(root, &staged, &err) != BASE_OK ||
        store_vote_list(root, &votes, &n_votes, &err) != BASE_OK ||
        list_jobs(root, &all, jobs, &err) != BASE_OK ||
        add_votes(root, votes, n_votes, &all, &err) != BASE_OK) {
        json_decref(jobs);
        return cli_tell("store", &err);
    }
    /* What a damaged version names is not known. */
    staged = base_min_u64(staged, used); /* both change meanwhile */
    unnamed = used - staged;
    unnamed -= base_min_u64(named_bytes(&all), unnamed);
    unnamed = all.n_damaged > 0 ? 0 : unnamed;
    if (!wants_json) {
        for (size_t i = 0; i < n_votes; i++) {
            print_vote(&votes[i]);
        }
        print_store(root, used, budget, staged, unnamed);
        return CLI_DONE;
    }
    return cli_print_json(
        "store",
        json_pack("{si so ss sI sI sI sI sI so so}", "version", 1, "root",
                  cli_json_text(store_root_path(root)), "id",
                  store_root_id(root), "used_bytes", (json_int_t)used,
                  "budget_bytes", (json_int_t)budget, "staged_bytes",
                  (json_int_t)staged, "unnamed_bytes", (json_int_t)unnamed,
                  "undigested_bytes", (json_int_t)all.undigested_bytes, "jobs",
                  jobs, "votes", votes_json(votes, n_votes)));
}
