/* Digesting a version's regions after it was published.
 *
 * The bytes are read without the store's lock: the version is held, so they
 * stay.  Then a manifest that differs in nothing but the digests replaces the
 * old one, if that is still the one that was read; else all is done again, for
 * what somebody else has left undigested. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fault.h"
#include "store/blob.h"
#include "store/compact.h"
#include "store/derive.h"
#include "store/digest.h"
#include "store/source_priv.h"

enum { MAX_TRIES = 4 };

/* Descriptors by blob; those that nobody needs are -1. */
struct fds {
    int *items;
    uint32_t n;
};

static void fds_done(struct fds *fds)
{
    for (uint32_t i = 0; i < fds->n; i++) {
        if (fds->items[i] >= 0) {
            (void)close(fds->items[i]); /* was only read */
        }
    }
    free(fds->items);
}

static enum base_code open_blobs(const struct store_root *root,
                                 const struct store_version *version,
                                 struct fds *ret,
                                 struct base_err *err)
{
    const struct ptc_manifest *manifest = store_version_manifest(version);
    uint32_t n = ptc_manifest_n_blobs(manifest);

    ret->items = calloc((size_t)n + 1, sizeof(*ret->items));
    if (ret->items == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open blobs");
    }
    for (; ret->n < n; ret->n++) {
        ret->items[ret->n] = -1;
    }
    store_raise_open_files();
    for (uint32_t i = 0; i < ptc_manifest_n_regions(manifest); i++) {
        struct ptc_manifest_region region = ptc_manifest_region(manifest, i);
        struct ptc_manifest_blob blob =
            ptc_manifest_blob(manifest, region.blob);
        enum base_code code;

        if (region.is_digested || ret->items[region.blob] >= 0) {
            continue;
        }
        code = store_blob_open(root, &blob, &ret->items[region.blob], err);
        if (code != BASE_OK) {
            return base_wrap(err, code, "%s", store_version_label(version));
        }
    }
    return BASE_OK;
}

/* BASE_CHANGED: another replaced the manifest meanwhile. */
static enum base_code digest_once(struct store_root *root,
                                  const char *job,
                                  uint64_t number,
                                  const struct store_import_options *options,
                                  uint64_t *ret_bytes,
                                  struct base_err *err)
{
    __attribute__((cleanup(fds_done))) struct fds fds = {0};
    STORE_AUTO_DERIVED derived = {0};
    BASE_AUTO(store_change) change = NULL;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(ptc_pieces) pieces = NULL;
    const struct ptc_manifest *manifest;
    struct store_digest_options digest = {.n_threads = options->n_threads,
                                          .progress = options->progress,
                                          .progress_ctx =
                                              options->progress_ctx};

    BASE_TRY(store_version_open(root, job, number, &version, err));
    manifest = store_version_manifest(version);
    if (ptc_manifest_undigested(manifest, &digest.all_bytes) == 0) {
        *ret_bytes = 0;
        return BASE_OK;
    }
    BASE_TRY(ptc_manifest_pieces(manifest, store_version_table(version),
                                 &pieces, err));
    BASE_TRY(store_derive(&derived, manifest, store_version_table(version),
                          store_version_table(version), err));
    BASE_TRY(store_derive_objects(&derived, err));
    derived.manifest.pieces = pieces;
    BASE_TRY(open_blobs(root, version, &fds, err));
    BASE_TRY(store_digest_regions(fds.items, derived.regions,
                                  derived.manifest.n_regions, derived.chunks,
                                  &digest, err));
    BASE_TRY(base_fault_check(BASE_FAULT_digest_done, err));
    BASE_TRY(store_change_begin(root, job, 0, &change, err));
    BASE_TRY(store_change_replace(change, &derived.manifest,
                                  ptc_manifest_head(manifest)->version,
                                  ptc_manifest_digest(manifest), err));
    *ret_bytes = digest.all_bytes;
    return BASE_OK;
}

enum base_code store_digest_version(struct store_root *root,
                                    const char *job,
                                    uint64_t number,
                                    const struct store_import_options *options,
                                    uint64_t *ret_bytes,
                                    struct base_err *err)
{
    enum base_code code = BASE_CHANGED;

    for (unsigned i = 0; i < MAX_TRIES && code == BASE_CHANGED; i++) {
        code = digest_once(root, job, number, options, ret_bytes, err);
    }
    return code;
}
