/* A change, until its blobs are written: the lock, room, staging/ATTEMPT.
 *
 * What a change that died leaves is a directory in staging/ (removed by the
 * next, unless its own lock is held: then the change lives, and copies) and at most blobs that no manifest names (removed by the sweep). */
#include "store/change.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "base/num.h"
#include "store/blob.h"
#include "store/change_priv.h"
#include "store/root_priv.h"
#include "store/vote_priv.h"

/* Who only asks whether it is held holds it for a moment. */
#define OWN_LOCK_WAIT_NS ((int64_t)200 * 1000000)

enum base_code store_change_no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a change of a store");
}

char *store_change_staged(const struct store_change *change,
                          const struct ptc_blob_name *name)
{
    char text[STORE_BLOB_TEXT_BYTES];

    return base_path("%s/%s", change->staging,
                     store_blob_name_format(name, text));
}

/* --- working without the store's lock ------------------------------------ */

enum base_code store_change_unlock(struct store_change *change,
                                   struct base_err *err)
{
    BASE_AUTO_MEM char *lock = base_path("%s/lock", change->staging);
    BASE_AUTO_FD fd = -1;

    if (lock == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(base_io_open(store_root_fd(change->root), lock,
                          O_RDWR | O_CREAT | O_EXCL, 0600, lock, &fd, err));
    BASE_TRY(store_flock(fd, LOCK_EX, OWN_LOCK_WAIT_NS, lock, err));
    change->own_fd = base_steal_fd(&fd);
    store_root_unlock(change->root);
    change->is_locked = false;
    return base_fault_check(BASE_FAULT_store_unlocked, err);
}

static enum base_code
relock(struct store_change *change, int64_t wait_ns, struct base_err *err)
{
    BASE_AUTO_MEM char *lock = base_path("%s/lock", change->staging);

    if (lock == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(store_root_lock(change->root, wait_ns, err));
    change->is_locked = true;
    (void)unlinkat(store_root_fd(change->root), lock, 0); /* else it stays */
    (void)close(change->own_fd);
    change->own_fd = -1;
    return BASE_OK;
}

enum base_code store_change_relock(struct store_change *change,
                                   struct base_err *err)
{
    return change->is_locked ? BASE_OK
                             : relock(change, STORE_LOCK_WAIT_NS, err);
}

void store_change_free(struct store_change *change)
{
    if (change == NULL) {
        return;
    }
    for (size_t i = 0; i < change->blobs.n; i++) {
        const struct store_made *made = &change->blobs.items[i];

        if (made->adopted == NULL) { /* else it is the caller's */
            (void)close(made->fd);   /* synced before it was published */
        }
        if (made->is_placed && !change->is_published) {
            BASE_AUTO_MEM char *path = store_blob_path(&made->name);

            if (path != NULL) { /* else the sweep finds it */
                (void)unlinkat(store_root_fd(change->root), path, 0);
            }
        }
        free(made->adopted);
    }
    base_vec_done(&change->blobs);
    /* What is left there the next change removes. */
    if (change->has_staging &&
        (change->is_locked || relock(change, 0, NULL) == BASE_OK)) {
        (void)!base_dir_remove(store_root_fd(change->root), change->staging,
                               NULL);
    }
    if (change->own_fd >= 0) {
        (void)close(change->own_fd);
    }
    if (change->is_locked) {
        store_root_unlock(change->root);
    }
    free(change->staging);
    free(change->job);
    free(change);
}

/* --- room --------------------------------------------------------------- */

static enum base_code check_budget(const struct store_root *root,
                                   uint64_t reserve_bytes,
                                   struct base_err *err)
{
    uint64_t used = 0, budget = 0;
    char need_text[24], used_text[24], budget_text[24];

    BASE_TRY(store_root_usage(root, &used, &budget, err));
    if (budget != 0 && (used > budget || reserve_bytes > budget - used)) {
        return base_fail(err, BASE_LIMIT,
                         "%s: %s are needed, %s of the budget of %s are used; "
                         "release versions and sweep, or make the budget "
                         "larger",
                         store_root_path(root),
                         base_format_size(reserve_bytes, need_text),
                         base_format_size(used, used_text),
                         base_format_size(budget, budget_text));
    }
    return BASE_OK;
}

static enum base_code check_free(const struct store_root *root,
                                 uint64_t reserve_bytes,
                                 struct base_err *err)
{
    struct statvfs fs;
    uint64_t free_bytes;
    char need_text[24], free_text[24];

    if (fstatvfs(store_root_fd(root), &fs) != 0 || fs.f_blocks == 0) {
        return BASE_OK; /* not told; reserving will tell */
    }
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (reserve_bytes > free_bytes) {
        return base_fail(err, BASE_NO_SPACE,
                         "%s: %s are needed, %s are free on its file system",
                         store_root_path(root),
                         base_format_size(reserve_bytes, need_text),
                         base_format_size(free_bytes, free_text));
    }
    return BASE_OK;
}

/* Refuse before the first byte; what dead changes left is swept first. */
static enum base_code check_room(struct store_root *root,
                                 uint64_t reserve_bytes,
                                 struct base_err *err)
{
    struct store_sweep swept;

    if (reserve_bytes == 0) {
        return BASE_OK;
    }
    if (check_budget(root, reserve_bytes, NULL) == BASE_OK &&
        check_free(root, reserve_bytes, NULL) == BASE_OK) {
        return BASE_OK;
    }
    BASE_TRY(store_sweep(root, &swept, err));
    store_root_close_unlinked(root);
    BASE_TRY(check_budget(root, reserve_bytes, err));
    return check_free(root, reserve_bytes, err);
}

/* Random, but for an attempt, which is found by its own. */
static enum base_code name_staging(struct store_change *change,
                                   struct base_err *err)
{
    struct ptc_blob_name name;
    char text[STORE_BLOB_TEXT_BYTES];

    if (change->attempt.number != 0) {
        change->staging =
            store_vote_path(change->job, change->attempt.number, "");
    } else {
        BASE_TRY(store_blob_name_make(&name, err));
        change->staging =
            base_path("staging/%s", store_blob_name_format(&name, text));
    }
    return change->staging != NULL ? BASE_OK : store_change_no_mem(err);
}

static enum base_code make_staging(struct store_change *change,
                                   struct base_err *err)
{
    BASE_TRY(name_staging(change, err));
    if (mkdirat(store_root_fd(change->root), change->staging, 0700) != 0) {
        return base_fail_errno(err, errno, "%s/%s: cannot make it",
                               store_root_path(change->root), change->staging);
    }
    change->has_staging = true;
    return BASE_OK;
}

enum base_code store_change_begin(struct store_root *root,
                                  const char *job,
                                  uint64_t reserve_bytes,
                                  const struct store_attempt *attempt,
                                  struct store_change **ret,
                                  struct base_err *err)
{
    BASE_AUTO(store_change) change = calloc(1, sizeof(*change));
    uint64_t number;

    if (change == NULL) {
        return store_change_no_mem(err);
    }
    change->root = root;
    change->own_fd = -1;
    BASE_TRY(store_job_check(job, err));
    if (attempt != NULL && attempt->number != 0) {
        BASE_TRY(store_vote_check_name(job, attempt->number, err));
        change->attempt = *attempt;
    }
    change->job = base_path("%s", job);
    if (change->job == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(store_root_lock(root, STORE_LOCK_WAIT_NS, err));
    change->is_locked = true;
    if (change->attempt.number != 0) { /* before anything is copied */
        BASE_TRY(store_change_number(change, &number, err));
    }
    BASE_TRY(check_room(root, reserve_bytes, err));
    BASE_TRY(make_staging(change, err));
    *ret = base_steal(&change);
    return BASE_OK;
}

/* --- blobs -------------------------------------------------------------- */

/* Pages now, not later: a full file system is told before it does harm. */
static enum base_code
reserve(int fd, uint64_t n_bytes, const char *path, struct base_err *err)
{
    int rc;

    if (n_bytes == 0) {
        return BASE_OK;
    }
    do {
        rc = fallocate(fd, 0, 0, (off_t)n_bytes);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0 && errno == EOPNOTSUPP) { /* then it is only made that long */
        rc = ftruncate(fd, (off_t)n_bytes);
    }
    if (rc != 0) {
        return base_fail_errno(
            err, errno, "%s: cannot reserve %" PRIu64 " bytes", path, n_bytes);
    }
    return BASE_OK;
}

enum base_code store_change_blob(struct store_change *change,
                                 uint64_t n_bytes,
                                 struct ptc_blob_name *ret_name,
                                 int *ret_fd,
                                 struct base_err *err)
{
    struct store_made made = {.fd = -1};
    BASE_AUTO_MEM char *path = NULL;
    BASE_AUTO_FD fd = -1;

    BASE_TRY(store_blob_name_make(&made.name, err));
    path = store_change_staged(change, &made.name);
    if (path == NULL ||
        !base_vec_reserve(&change->blobs, change->blobs.n + 1)) {
        return store_change_no_mem(err);
    }
    BASE_TRY(base_io_open(store_root_fd(change->root), path,
                          O_RDWR | O_CREAT | O_EXCL, 0600, path, &fd, err));
    BASE_TRY(reserve(fd, n_bytes, path, err));
    made.fd = base_steal_fd(&fd);
    (void)base_vec_push(&change->blobs, made); /* room was made */
    *ret_name = made.name;
    *ret_fd = made.fd;
    return base_fault_check(BASE_FAULT_store_blob, err);
}

enum base_code store_change_adopt(struct store_change *change,
                                  const char *path,
                                  int fd,
                                  struct ptc_blob_name *ret_name,
                                  struct base_err *err)
{
    struct store_made made = {.fd = fd};

    BASE_TRY(store_blob_name_make(&made.name, err));
    if (fstat(fd, &made.stat) != 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", path);
    }
    if (!base_vec_reserve(&change->blobs, change->blobs.n + 1)) {
        return store_change_no_mem(err);
    }
    made.adopted = base_path("%s", path);
    if (made.adopted == NULL) {
        return store_change_no_mem(err);
    }
    (void)base_vec_push(&change->blobs, made); /* room was made */
    *ret_name = made.name;
    return BASE_OK;
}
