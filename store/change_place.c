/* A change's blobs, from staging to blobs/. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "base/parallel.h"
#include "store/blob.h"
#include "store/change_priv.h"
#include "store/root_priv.h"

enum { SYNC_THREADS = 4 };

/* One that was adopted keeps its mode until it is published: a change that
 * fails leaves it as it was. */
static enum base_code
seal_one(void *ctx, size_t item, unsigned thread, struct base_err *err)
{
    const struct store_change *change = ctx;
    const struct store_made *made = &change->blobs.items[item];
    const char *label = made->adopted != NULL ? made->adopted : change->staging;

    (void)thread;
    if (made->adopted == NULL && fchmod(made->fd, 0400) != 0) {
        return base_fail_errno(err, errno, "%s: cannot seal a blob", label);
    }
    return base_io_sync(made->fd, label, err);
}

/* A second name for what is open, not for what has its path by now. */
static enum base_code place_adopted(const struct store_change *change,
                                    struct store_made *made,
                                    const char *to,
                                    struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    bool is_same;

    if (linkat(root_fd, made->adopted, root_fd, to, 0) != 0) {
        if (errno == ENOENT) {
            return base_fail(err, BASE_CHANGED, "%s: went away meanwhile",
                             made->adopted);
        }
        return base_fail_errno(err, errno, "%s: cannot link it to %s",
                               made->adopted, to);
    }
    made->is_placed = true;
    BASE_TRY(store_same_file(change->root, to, made->fd, &is_same, err));
    if (!is_same) {
        return base_fail(err, BASE_CHANGED, "%s: was replaced meanwhile",
                         made->adopted);
    }
    return base_fault_check(BASE_FAULT_save_adopted, err);
}

enum base_code store_change_check_adopted(const struct store_change *change,
                                          struct base_err *err)
{
    for (size_t i = 0; i < change->blobs.n; i++) {
        const struct store_made *made = &change->blobs.items[i];
        const struct store_blob blob = {
            .label = made->adopted, .fd = made->fd, .stat = made->stat};

        if (made->adopted != NULL) {
            BASE_TRY(store_blob_check(&blob, err));
        }
    }
    return BASE_OK;
}

void store_change_seal_adopted(const struct store_change *change)
{
    for (size_t i = 0; i < change->blobs.n; i++) {
        const struct store_made *made = &change->blobs.items[i];

        if (made->adopted != NULL) {
            (void)!fchmod(made->fd, 0400);
        }
    }
}

/* Into blobs/, one after the other; then their folders are synced. */
enum base_code store_change_place(struct store_change *change,
                                  struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    bool is_touched[256] = {false}; /* folders, by the name's first byte */

    for (size_t i = 0; i < change->blobs.n; i++) {
        struct store_made *made = &change->blobs.items[i];
        BASE_AUTO_MEM char *from = store_change_staged(change, &made->name);
        BASE_AUTO_MEM char *to = store_blob_path(&made->name);

        if (from == NULL || to == NULL) {
            return store_change_no_mem(err);
        }
        BASE_TRY(store_blob_make_folder(change->root, &made->name, err));
        if (made->adopted != NULL) {
            BASE_TRY(place_adopted(change, made, to, err));
        } else {
            BASE_TRY(base_rename_new(root_fd, from, to, err));
            made->is_placed = true;
        }
        is_touched[made->name.bytes[0]] = true;
    }
    for (unsigned i = 0; i < 256; i++) {
        char folder[sizeof("blobs/ab")];

        if (is_touched[i]) {
            (void)snprintf(folder, sizeof(folder), "blobs/%02x", i);
            BASE_TRY(base_dir_sync(root_fd, folder, err));
        }
    }
    return BASE_OK;
}

enum base_code store_change_seal(struct store_change *change,
                                 struct base_err *err)
{
    BASE_TRY(
        base_parallel(SYNC_THREADS, change->blobs.n, seal_one, change, err));
    return base_fault_check(BASE_FAULT_store_sealed, err);
}
