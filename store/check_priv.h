/* What store/check.c (fsck) and store/scrub.c share: the versions that are
 * looked at, held until the end, and the findings. */
#ifndef STORE_CHECK_PRIV_H
#define STORE_CHECK_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "store/root.h"

struct check_version {
    struct store_version *version;
    const struct ptc_table *table; /* NULL when it is damaged */
};

/* A blob as a version names it. */
struct check_blob {
    struct ptc_manifest_blob blob;
    uint32_t version; /* index */
    bool is_bad;      /* missing, or of another size */
};

/* Owner: the thread that called store_check, but where scrub.c says so. */
struct check {
    struct store_root *root;
    store_finding_fn tell;
    void *ctx;
    uint64_t n_findings;
    BASE_VEC(struct check_version) versions;
    BASE_VEC(struct check_blob) blobs; /* by name, then size, then version */
};

/* Tell one finding. */
void check_tell(struct check *check, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Is the failure of one thing that is looked at a finding?  Others end the
 * check. */
bool check_is_finding(enum base_code code);
/* Entries; none where there is no such directory (told elsewhere, or released
 * meanwhile). */
struct store_listing;
enum base_code check_list(const struct check *check,
                          const char *path,
                          struct store_listing *ret,
                          struct base_err *err) BASE_MUST_CHECK;

/* The tree; fills in the versions that open. */
enum base_code check_tree(struct check *check,
                          struct base_err *err) BASE_MUST_CHECK;

/* Read every region once, however many versions name it. */
enum base_code check_scrub(struct check *check,
                           unsigned n_threads,
                           bool (*progress)(void *ctx,
                                            uint64_t done_bytes,
                                            uint64_t all_bytes),
                           struct base_err *err) BASE_MUST_CHECK;

/* Is the blob missing, or of another size than @blob says? */
bool check_blob_is_bad(const struct check *check,
                       const struct ptc_manifest_blob *blob);

#endif
