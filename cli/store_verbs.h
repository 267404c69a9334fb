/* What `retile store` is made of. */
#ifndef CLI_STORE_VERBS_H
#define CLI_STORE_VERBS_H

#include "cli/cli.h"
#include "store/compact.h"

/* What the manifests of some versions say together. */
struct cli_store_sum {
    uint64_t n_versions;
    uint64_t n_damaged; /* cannot be opened */
    uint64_t n_undigested;
    uint64_t undigested_bytes;
    BASE_VEC(struct ptc_manifest_blob) blobs; /* each as often as it is named */
};
void cli_store_sum_done(struct cli_store_sum *sum);
/* Add those of @job. */
enum base_code cli_store_sum_job(const struct store_root *root,
                                 const char *job,
                                 struct cli_store_sum *sum,
                                 struct base_err *err) BASE_MUST_CHECK;
/* Of all jobs. */
enum base_code cli_store_sum_all(const struct store_root *root,
                                 struct cli_store_sum *sum,
                                 struct base_err *err) BASE_MUST_CHECK;

enum cli_exit cli_store_ls(const struct store_root *root, bool wants_json);
/* @which: "JOB", "JOB@N", or NULL: all that are due. */
enum cli_exit cli_store_compact(struct store_root *root,
                                const char *which,
                                unsigned n_threads,
                                bool wants_json);

#endif
