/* Replacing the manifest of a published version.
 *
 * Its readers go on with the old one, which gets another name before the new
 * one takes its own; see store/version.c for their side, store/sweep.c for its
 * end. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "store/change_priv.h"
#include "store/root_priv.h"

/* A name for the manifest that was: the lowest that is free. */
static enum base_code replaced_path(const struct store_change *change,
                                    uint64_t number,
                                    char **ret,
                                    struct base_err *err)
{
    BASE_AUTO_MEM char *folder = store_version_path(change->job, number, "");
    STORE_AUTO_LISTING all = {0};
    uint64_t free_k = 1;
    bool is_taken = true;

    if (folder == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(store_list(change->root, folder, &all, err));
    while (is_taken) { /* once more than there are such names, at most */
        is_taken = false;
        for (size_t i = 0; i < all.n && !is_taken; i++) {
            uint64_t k;

            is_taken = store_replaced_parse(all.names[i], &k) && k == free_k;
        }
        free_k += is_taken;
    }
    *ret = base_path("%s/manifest.%" PRIu64, folder, free_k);
    return *ret != NULL ? BASE_OK : store_change_no_mem(err);
}

/* Is the version's manifest still the one with digest @old, and @manifest one
 * of the same state? */
static enum base_code check_replaced(const struct store_change *change,
                                     const struct ptc_manifest_new *manifest,
                                     uint64_t number,
                                     struct base_digest old,
                                     struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    const struct ptc_manifest *has;

    BASE_TRY(store_version_open_manifest(change->root, change->job, number,
                                         &version, err));
    has = store_version_manifest(version);
    if (!base_digest_eq(ptc_manifest_digest(has), old)) {
        return base_fail(err, BASE_CHANGED,
                         "%s: its manifest was replaced meanwhile",
                         store_version_label(version));
    }
    if (!base_digest_eq(ptc_manifest_head(has)->table,
                        ptc_table_digest(manifest->table))) {
        return base_fail(err, BASE_BAD_ARG, "%s: is over another table",
                         store_version_label(version));
    }
    return BASE_OK;
}

/* The new manifest in staging, synced. */
static enum base_code write_manifest(const struct store_change *change,
                                     const struct ptc_manifest_new *manifest,
                                     char **ret_path,
                                     struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/manifest", change->staging);
    BASE_AUTO_BUF bytes;

    base_buf_init(&bytes, PTC_MANIFEST_MAX_BYTES);
    if (path == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(ptc_manifest_encode(manifest, &bytes, err));
    BASE_TRY(store_change_write(change, path, base_buf_str(&bytes), err));
    *ret_path = base_steal(&path);
    return BASE_OK;
}

/* A crash between the two names leaves one file with both, which is the current
 * manifest: the sweep removes the second name, and no blob. */
enum base_code store_change_replace(struct store_change *change,
                                    struct ptc_manifest_new *manifest,
                                    uint64_t number,
                                    struct base_digest old,
                                    struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    BASE_AUTO_MEM char *folder = store_version_path(change->job, number, "");
    BASE_AUTO_MEM char *path =
        store_version_path(change->job, number, "/manifest");
    BASE_AUTO_MEM char *staged = NULL;
    BASE_AUTO_MEM char *replaced = NULL;

    if (folder == NULL || path == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(store_change_seal(change, err));
    BASE_TRY(store_change_relock(change, err));
    BASE_TRY(check_replaced(change, manifest, number, old, err));
    BASE_TRY(store_change_place(change, err));
    manifest->head.version = number;
    BASE_TRY(write_manifest(change, manifest, &staged, err));
    BASE_TRY(replaced_path(change, number, &replaced, err));
    BASE_TRY(base_fault_check(BASE_FAULT_store_replace, err));
    BASE_TRY(store_root_keep_lock(change->root, err));
    if (linkat(root_fd, path, root_fd, replaced, 0) != 0) {
        return base_fail_errno(err, errno, "%s/%s: cannot link it",
                               store_root_path(change->root), replaced);
    }
    BASE_TRY(base_fault_check(BASE_FAULT_store_linked, err));
    BASE_TRY(base_fault_check(BASE_FAULT_io_rename, err));
    if (renameat(root_fd, staged, root_fd, path) != 0) {
        return base_fail_errno(err, errno, "%s/%s: cannot replace it",
                               store_root_path(change->root), path);
    }
    change->is_published = true;
    store_root_sync_shown(change->root, folder, BASE_FAULT_store_replaced);
    return BASE_OK;
}
