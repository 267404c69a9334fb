/* Digesting a version's regions after it was published; what another version
 * has the digests of is not read again.
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

/* Those of regions that are to be digested. */
static enum base_code open_blobs(const struct store_root *root,
                                 const char *label,
                                 const struct store_derived *derived,
                                 struct fds *ret,
                                 struct base_err *err)
{
    uint32_t n = derived->manifest.n_blobs;

    ret->items = calloc((size_t)n + 1, sizeof(*ret->items));
    if (ret->items == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open blobs");
    }
    for (; ret->n < n; ret->n++) {
        ret->items[ret->n] = -1;
    }
    store_raise_open_files();
    for (uint32_t i = 0; i < derived->manifest.n_regions; i++) {
        const struct ptc_manifest_region *region = &derived->regions[i];
        enum base_code code;

        if (region->is_digested || ret->items[region->blob] >= 0) {
            continue;
        }
        code = store_blob_open(root, &derived->blobs[region->blob],
                               &ret->items[region->blob], err);
        if (code != BASE_OK) {
            return base_wrap(err, code, "%s", label);
        }
    }
    return BASE_OK;
}

static uint64_t undigested_bytes(const struct store_derived *derived)
{
    uint64_t n_bytes = 0;

    for (uint32_t i = 0; i < derived->manifest.n_regions; i++) {
        const struct ptc_manifest_region *region = &derived->regions[i];

        n_bytes += region->is_digested ? 0 : region->n_bytes;
    }
    return n_bytes; /* only shown: regions may overlap, and it wrap */
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
    uint64_t all_bytes = 0;
    struct store_digest_options digest = {.n_threads = options->n_threads,
                                          .progress = options->progress,
                                          .progress_ctx =
                                              options->progress_ctx};

    BASE_TRY(store_version_open(root, job, number, &version, err));
    manifest = store_version_manifest(version);
    if (ptc_manifest_undigested(manifest, &all_bytes) == 0) {
        *ret_bytes = 0;
        return BASE_OK;
    }
    BASE_TRY(ptc_manifest_pieces(manifest, store_version_table(version),
                                 &pieces, err));
    BASE_TRY(store_derive(&derived, manifest, store_version_table(version),
                          store_version_table(version), err));
    BASE_TRY(store_derive_objects(&derived, err));
    derived.manifest.pieces = pieces;
    BASE_TRY(store_derive_digests(&derived, root, job, err));
    BASE_TRY(
        open_blobs(root, store_version_label(version), &derived, &fds, err));
    digest.all_bytes = undigested_bytes(&derived);
    BASE_TRY(store_digest_regions(fds.items, derived.regions,
                                  derived.manifest.n_regions, derived.chunks,
                                  &digest, err));
    BASE_TRY(base_fault_check(BASE_FAULT_digest_done, err));
    BASE_TRY(store_change_begin(root, job, 0, NULL, &change, err));
    BASE_TRY(store_change_replace(change, &derived.manifest,
                                  ptc_manifest_head(manifest)->version,
                                  ptc_manifest_digest(manifest), err));
    *ret_bytes = all_bytes;
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
