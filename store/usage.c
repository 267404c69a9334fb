/* What a store has used: all blobs, and all that lies in staging/.
 *
 * A staged file that is being made a blob has two names: it counts once.  What
 * ranks put out of sight, in directories that nobody may list or that are
 * nested too deeply for a save, is not counted: it must not stop a store. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/num.h"
#include "store/blob.h"
#include "store/root_priv.h"

enum { MAX_DEPTH = 64 }; /* of directories in staging/ */

struct linked {
    uint64_t ino;
    uint64_t n_bytes;
};

struct usage {
    const struct store_root *root;
    uint64_t used;
    uint64_t blob_bytes;            /* of these; staged or not */
    BASE_VEC(struct linked) linked; /* staged files with several names */
};

static void usage_done(struct usage *usage)
{
    base_vec_done(&usage->linked);
}

static enum base_code
add(struct usage *usage, uint64_t n_bytes, struct base_err *err)
{
    if (!base_add_u64(usage->used, n_bytes, &usage->used)) {
        return base_fail(err, BASE_LIMIT, "a store of 2^64 bytes or more");
    }
    return BASE_OK;
}

static int linked_cmp(const void *a, const void *b)
{
    const struct linked *x = a;
    const struct linked *y = b;

    return (x->ino > y->ino) - (x->ino < y->ino);
}

/* What it takes, or will: pages that are reserved, bytes not yet written. */
static uint64_t file_bytes(const struct stat *st)
{
    return base_max_u64((uint64_t)st->st_size, (uint64_t)st->st_blocks * 512);
}

static enum base_code add_tree(struct usage *usage,
                               int dir_fd,
                               const char *path,
                               unsigned depth,
                               struct base_err *err);

/* One that goes away meanwhile is passed over. */
static enum base_code add_entry(struct usage *usage,
                                int dir_fd,
                                const char *name,
                                unsigned depth,
                                struct base_err *err)
{
    struct stat st;

    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? BASE_OK
                               : base_fail_errno(err, errno, "%s", name);
    }
    if (S_ISDIR(st.st_mode)) {
        return add_tree(usage, dir_fd, name, depth + 1, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return BASE_OK;
    }
    if (st.st_nlink > 1) {
        struct linked linked = {(uint64_t)st.st_ino, file_bytes(&st)};

        return base_vec_push(&usage->linked, linked)
                   ? BASE_OK
                   : base_fail(err, BASE_NO_MEM, "cannot list staging");
    }
    return add(usage, file_bytes(&st), err);
}

static enum base_code add_tree(struct usage *usage,
                               int dir_fd,
                               const char *path,
                               unsigned depth,
                               struct base_err *err)
{
    STORE_AUTO_LISTING all = {0};
    BASE_AUTO_FD fd = -1;
    enum base_code code;

    if (depth > MAX_DEPTH) {
        return BASE_OK;
    }
    code = base_io_open(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
                        path, &fd, err);
    if (code == BASE_OK) {
        code =
            base_dir_list(fd, ".", STORE_MAX_ENTRIES, &all.names, &all.n, err);
    }
    if (code == BASE_NOT_FOUND || code == BASE_DENIED) {
        return BASE_OK;
    }
    BASE_TRY(code);
    for (size_t i = 0; i < all.n; i++) {
        BASE_TRY(add_entry(usage, fd, all.names[i], depth, err));
    }
    return BASE_OK;
}

/* Count each of them, once. */
static enum base_code add_linked(struct usage *usage, struct base_err *err)
{
    struct linked *items = usage->linked.items;
    size_t n = usage->linked.n;

    if (n > 0) {
        qsort(items, n, sizeof(*items), linked_cmp);
    }
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || items[i - 1].ino != items[i].ino) {
            BASE_TRY(add(usage, items[i].n_bytes, err));
        }
    }
    return BASE_OK;
}

static bool is_staged(const struct usage *usage, const char *path)
{
    struct linked key = {0};
    struct stat st;

    if (usage->linked.n == 0 || fstatat(store_root_fd(usage->root), path, &st,
                                        AT_SYMLINK_NOFOLLOW) != 0) {
        return false;
    }
    key.ino = (uint64_t)st.st_ino;
    return bsearch(&key, usage->linked.items, usage->linked.n, sizeof(key),
                   linked_cmp) != NULL;
}

static enum base_code add_blob(void *ctx,
                               const char *path,
                               const struct ptc_manifest_blob *blob,
                               struct base_err *err)
{
    struct usage *usage = ctx;

    if (blob == NULL) {
        return BASE_OK;
    }
    if (!base_add_u64(usage->blob_bytes, blob->n_bytes, &usage->blob_bytes)) {
        return base_fail(err, BASE_LIMIT, "blobs: 2^64 bytes or more");
    }
    return is_staged(usage, path) ? BASE_OK : add(usage, blob->n_bytes, err);
}

static enum base_code measure(const struct store_root *root,
                              uint64_t *ret_used,
                              uint64_t *ret_blob_bytes,
                              struct base_err *err)
{
    __attribute__((cleanup(usage_done))) struct usage usage = {.root = root};

    BASE_TRY(add_tree(&usage, store_root_fd(root), "staging", 0, err));
    BASE_TRY(add_linked(&usage, err));
    BASE_TRY(store_blobs_each(root, add_blob, &usage, err));
    *ret_used = usage.used;
    *ret_blob_bytes = base_min_u64(usage.blob_bytes, usage.used);
    return BASE_OK;
}

enum base_code store_root_staged(const struct store_root *root,
                                 uint64_t *ret_bytes,
                                 struct base_err *err)
{
    uint64_t used = 0, blob_bytes = 0;

    BASE_TRY(measure(root, &used, &blob_bytes, err));
    *ret_bytes = used - blob_bytes;
    return BASE_OK;
}

enum base_code store_root_usage(const struct store_root *root,
                                uint64_t *ret_used,
                                uint64_t *ret_budget,
                                struct base_err *err)
{
    uint64_t used = 0, blob_bytes = 0;
    uint64_t budget = store_root_budget(root);

    BASE_TRY(measure(root, &used, &blob_bytes, err));
    if (budget == 0) {
        struct statvfs fs;

        if (fstatvfs(store_root_fd(root), &fs) < 0) {
            return base_fail_errno(err, errno, "%s: cannot ask for free space",
                                   store_root_path(root));
        }
        if (!base_mul_u64(fs.f_bavail, fs.f_frsize, &budget) ||
            !base_add_u64(budget, used, &budget)) {
            budget = UINT64_MAX;
        }
    }
    *ret_used = used;
    *ret_budget = budget;
    return BASE_OK;
}
