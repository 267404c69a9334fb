/* The sweep: what no manifest names is removed, those of votes included.
 *
 * Needs the lock, so that no change puts blobs in place before their manifest.
 * A manifest that cannot be read might name any blob: it stops the sweep.
 *
 * Files are unlinked under the lock and closed behind it (store_root_unlock):
 * freeing the memory of a tmpfs would hold up every change.
 *
 * First go the manifests that were replaced and that nobody has locked; their
 * names are gone for good before the first blob is. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/num.h"
#include "store/blob.h"
#include "store/root.h"
#include "store/root_priv.h"
#include "store/vote.h"

/* What manifests name.  Digests and blobs' names are 16 bytes both. */
struct named {
    BASE_VEC(struct ptc_blob_name) blobs;
    BASE_VEC(struct ptc_blob_name) tables;
};

static void named_done(struct named *named)
{
    base_vec_done(&named->blobs);
    base_vec_done(&named->tables);
}

static int name_cmp(const void *a, const void *b)
{
    return store_blob_name_cmp(a, b);
}

static bool has(const struct ptc_blob_name *items,
                size_t n,
                const struct ptc_blob_name *name)
{
    return n > 0 && bsearch(name, items, n, sizeof(*items), name_cmp) != NULL;
}

/* The names, sorted, each once: equal manifests name the same many blobs. */
static size_t names_sort(struct ptc_blob_name *items, size_t n)
{
    size_t n_kept = 0;

    if (n > 0) {
        qsort(items, n, sizeof(*items), name_cmp);
    }
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || store_blob_name_cmp(&items[i], &items[n_kept - 1]) != 0) {
            items[n_kept++] = items[i];
        }
    }
    return n_kept;
}

static enum base_code file_remove(const struct store_root *root,
                                  const char *path,
                                  struct base_err *err)
{
    BASE_TRY(base_fault_check(BASE_FAULT_store_sweep, err));
    BASE_TRY(store_root_keep_lock(root, err));
    if (unlinkat(store_root_fd(root), path, 0) < 0 && errno != ENOENT) {
        return base_fail_errno(err, errno, "%s: cannot remove", path);
    }
    return BASE_OK;
}

/* --- what is named --- */

static enum base_code named_add(const struct store_version *v,
                                struct named *named,
                                struct base_err *err)
{
    const struct ptc_manifest *manifest = store_version_manifest(v);
    struct ptc_blob_name table;

    memcpy(table.bytes, ptc_manifest_head(manifest)->table.bytes,
           sizeof(table.bytes));
    if (!base_vec_push(&named->tables, table)) {
        return base_fail(err, BASE_NO_MEM, "cannot list tables");
    }
    for (uint32_t i = 0; i < ptc_manifest_n_blobs(manifest); i++) {
        if (!base_vec_push(&named->blobs,
                           ptc_manifest_blob(manifest, i).name)) {
            return base_fail(err, BASE_NO_MEM, "cannot list blobs");
        }
    }
    return BASE_OK;
}

/* Remove a manifest that was replaced, while it is locked alone; false when a
 * reader has it. */
static enum base_code replaced_remove(const struct store_root *root,
                                      const char *path,
                                      bool *ret,
                                      struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    enum base_code code;

    BASE_TRY(base_io_open(store_root_fd(root), path,
                          O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, path, &fd,
                          err));
    code = store_flock(fd, LOCK_EX, 0, path, err);
    *ret = code == BASE_OK;
    if (code == BASE_EXISTS) {
        return BASE_OK;
    }
    BASE_TRY(code);
    return file_remove(root, path, err);
}

/* The manifests of one version: those that were replaced first. */
static enum base_code named_version(const struct store_root *root,
                                    const char *job,
                                    uint64_t number,
                                    struct named *named,
                                    struct base_err *err)
{
    BASE_AUTO_MEM char *folder = store_version_path(job, number, "");
    BASE_AUTO(store_version) current = NULL;
    STORE_AUTO_LISTING all = {0};
    bool is_removed = false;

    if (folder == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot list manifests");
    }
    BASE_TRY(store_list(root, folder, &all, err));
    for (size_t i = 0; i < all.n; i++) {
        BASE_AUTO(store_version) v = NULL;
        BASE_AUTO_MEM char *path = base_path("%s/%s", folder, all.names[i]);
        bool is_gone = false;
        uint64_t k;

        if (path == NULL) {
            return base_fail(err, BASE_NO_MEM, "cannot list manifests");
        }
        if (!store_replaced_parse(all.names[i], &k)) {
            continue;
        }
        BASE_TRY(replaced_remove(root, path, &is_gone, err));
        if (is_gone) {
            is_removed = true;
            continue;
        }
        BASE_TRY(store_version_open_replaced(root, job, number, k, &v, err));
        BASE_TRY(named_add(v, named, err));
    }
    if (is_removed) {
        BASE_TRY(base_dir_sync(store_root_fd(root), folder, err));
    }
    BASE_TRY(store_version_open_manifest(root, job, number, &current, err));
    return named_add(current, named, err);
}

/* Those that wait for an answer: they may be versions yet. */
static enum base_code named_votes(const struct store_root *root,
                                  struct named *named,
                                  struct base_err *err)
{
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    size_t n = 0;

    BASE_TRY(store_vote_list(root, &votes, &n, err));
    for (size_t i = 0; i < n; i++) {
        BASE_AUTO(store_version) v = NULL;
        enum base_code code =
            store_vote_open(root, votes[i].job, votes[i].number, &v, err);

        if (code != BASE_OK) {
            return base_wrap(err, code,
                             "nothing is swept: a vote cannot be read");
        }
        BASE_TRY(named_add(v, named, err));
    }
    return BASE_OK;
}

static enum base_code named_collect(const struct store_root *root,
                                    struct named *named,
                                    struct base_err *err)
{
    STORE_AUTO_LISTING jobs = {0};

    BASE_TRY(store_root_jobs(root, &jobs.names, &jobs.n, err));
    for (size_t i = 0; i < jobs.n; i++) {
        BASE_AUTO_MEM uint64_t *numbers = NULL;
        enum base_code code;
        size_t n;

        code = store_root_versions(root, jobs.names[i], &numbers, &n, err);
        if (code == BASE_NOT_FOUND) {
            continue; /* a job without versions/ names nothing */
        }
        BASE_TRY(code);
        for (size_t k = 0; k < n; k++) {
            code = named_version(root, jobs.names[i], numbers[k], named, err);
            if (code != BASE_OK) {
                return base_wrap(err, code,
                                 "nothing is swept: a version cannot be read");
            }
        }
    }
    BASE_TRY(named_votes(root, named, err));
    named->blobs.n = names_sort(named->blobs.items, named->blobs.n);
    named->tables.n = names_sort(named->tables.items, named->tables.n);
    return BASE_OK;
}

/* --- removing --- */

struct sweep {
    struct store_root *root;
    const struct named *named;
    struct store_sweep done;
};

/* Strange entries are fsck's to tell, not ours to remove. */
static enum base_code sweep_blob(void *ctx,
                                 const char *path,
                                 const struct ptc_manifest_blob *blob,
                                 struct base_err *err)
{
    struct sweep *sweep = ctx;
    int fd;

    if (blob == NULL ||
        has(sweep->named->blobs.items, sweep->named->blobs.n, &blob->name)) {
        return BASE_OK;
    }
    fd = openat(store_root_fd(sweep->root), path,
                O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0) { /* else it is freed here and now */
        store_root_close_later(sweep->root, fd);
    }
    BASE_TRY(file_remove(sweep->root, path, err));
    sweep->done.n_blobs++;
    sweep->done.n_bytes += blob->n_bytes;
    return BASE_OK;
}

static enum base_code sweep_tables(const struct store_root *root,
                                   const struct named *named,
                                   struct base_err *err)
{
    STORE_AUTO_LISTING tables = {0};

    BASE_TRY(store_list(root, "tables", &tables, err));
    for (size_t i = 0; i < tables.n; i++) {
        BASE_AUTO_MEM char *path = base_path("tables/%s", tables.names[i]);
        struct ptc_blob_name name;

        if (path == NULL) {
            return base_fail(err, BASE_NO_MEM, "tables: cannot sweep");
        }
        if (store_blob_name_parse(base_str_of(tables.names[i]), &name) &&
            !has(named->tables.items, named->tables.n, &name)) {
            BASE_TRY(file_remove(root, path, err));
        }
    }
    return BASE_OK;
}

enum base_code store_sweep(struct store_root *root,
                           struct store_sweep *ret,
                           struct base_err *err)
{
    __attribute__((cleanup(named_done))) struct named named = {0};
    struct sweep sweep = {.root = root, .named = &named};

    assert(store_root_is_locked(root));
    BASE_TRY(named_collect(root, &named, err));
    BASE_TRY(store_blobs_each(root, sweep_blob, &sweep, err));
    BASE_TRY(sweep_tables(root, &named, err));
    *ret = sweep.done;
    return BASE_OK;
}
