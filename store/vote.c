/* Deciding about votes.
 *
 * Publishing is the rename of staging/vote.JOB.N/version; when that is on disk
 * the vote goes.  A crash between the two leaves a vote without a version, which
 * whoever takes the lock next removes.  Removing is a rename of the whole
 * directory to another name of staging/, so that nobody sees half of one. */
#include "store/vote.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "store/blob.h"
#include "store/root_priv.h"
#include "store/vote_priv.h"

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for a vote");
}

/* --- listing ------------------------------------------------------------ */

struct list {
    BASE_VEC(struct store_vote) votes;
};

static void list_done(struct list *list)
{
    base_vec_done(&list->votes);
}

static int vote_cmp(const void *va, const void *vb)
{
    const struct store_vote *a = va;
    const struct store_vote *b = vb;
    int order = strcmp(a->job, b->job);

    return order != 0 ? order
                      : (a->number > b->number) - (a->number < b->number);
}

/* The one at @path, if it waits; *vote has its job and number. */
static enum base_code list_one(const struct store_root *root,
                               const char *path,
                               struct store_vote *vote,
                               struct list *list,
                               struct base_err *err)
{
    STORE_AUTO_VOTE_FILE file = {0};
    bool is_cast = false;
    enum base_code code;

    BASE_TRY(store_vote_is_cast(root, path, &is_cast, err));
    if (!is_cast) {
        return BASE_OK;
    }
    code = store_vote_read(root, vote->job, vote->number, &file, err);
    if (code == BASE_NOT_FOUND) { /* decided meanwhile */
        return BASE_OK;
    }
    if (code == BASE_BAD_INPUT) {
        vote->is_damaged = true;
    } else {
        BASE_TRY(code);
        *vote = file.vote;
    }
    return base_vec_push(&list->votes, *vote) ? BASE_OK : no_mem(err);
}

enum base_code store_vote_list(const struct store_root *root,
                               struct store_vote **ret,
                               size_t *ret_n,
                               struct base_err *err)
{
    __attribute__((cleanup(list_done))) struct list list = {0};
    STORE_AUTO_LISTING all = {0};

    BASE_TRY(store_list(root, "staging", &all, err));
    for (size_t i = 0; i < all.n; i++) {
        BASE_AUTO_MEM char *path = base_path("staging/%s", all.names[i]);
        struct store_vote vote;

        if (path == NULL) {
            return no_mem(err);
        }
        if (store_vote_name_parse(all.names[i], &vote)) {
            BASE_TRY(list_one(root, path, &vote, &list, err));
        }
    }
    if (list.votes.n > 0) {
        qsort(list.votes.items, list.votes.n, sizeof(*list.votes.items),
              vote_cmp);
    }
    *ret_n = list.votes.n;
    *ret = base_steal(&list.votes.items);
    return BASE_OK;
}

/* --- publishing --------------------------------------------------------- */

/* The manifest is the one that was voted for. */
static enum base_code check_manifest(const struct store_root *root,
                                     const struct store_vote *vote,
                                     struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;

    BASE_TRY(store_vote_open(root, vote->job, vote->number, &version, err));
    if (!base_digest_eq(ptc_manifest_digest(store_version_manifest(version)),
                        vote->manifest)) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: its manifest is not the one that was voted for",
                         store_version_label(version));
    }
    return BASE_OK;
}

/* Nobody has written to the files since. */
static enum base_code check_adopted(const struct store_root *root,
                                    const struct store_vote_file *file,
                                    struct base_err *err)
{
    for (size_t i = 0; i < file->adopted.n; i++) {
        const struct store_vote_adopted *was = &file->adopted.items[i];
        BASE_AUTO_MEM char *path = store_blob_path(&was->blob);
        struct stat now;

        if (path == NULL) {
            return no_mem(err);
        }
        if (fstatat(store_root_fd(root), path, &now, AT_SYMLINK_NOFOLLOW) !=
            0) {
            return errno == ENOENT
                       ? base_fail(err, BASE_CHANGED, "%s: is gone", path)
                       : base_fail_errno(err, errno, "%s: cannot stat", path);
        }
        if ((uint64_t)now.st_ino != was->ino ||
            (uint64_t)now.st_size != was->n_bytes ||
            (uint64_t)now.st_mtim.tv_sec != was->mtime_s ||
            (uint64_t)now.st_mtim.tv_nsec != was->mtime_ns) {
            return base_fail(err, BASE_CHANGED,
                             "job '%s', attempt %" PRIu64
                             ": a saved file, now %s, was written to after "
                             "the vote",
                             file->vote.job, file->vote.number, path);
        }
    }
    return BASE_OK;
}

/* They are blobs now; a crash before this leaves another mode, no more. */
static void seal_adopted(const struct store_root *root,
                         const struct store_vote_file *file)
{
    for (size_t i = 0; i < file->adopted.n; i++) {
        BASE_AUTO_MEM char *path =
            store_blob_path(&file->adopted.items[i].blob);

        if (path != NULL) {
            (void)!fchmodat(store_root_fd(root), path, 0400, 0);
        }
    }
}

static enum base_code publish(struct store_root *root,
                              const char *job,
                              uint64_t number,
                              struct base_err *err)
{
    int root_fd = store_root_fd(root);
    BASE_AUTO_MEM char *path = store_vote_path(job, number, "");
    BASE_AUTO_MEM char *staged = store_vote_path(job, number, "/version");
    BASE_AUTO_MEM char *place = store_version_path(job, number, "");
    BASE_AUTO_MEM char *parent = base_path("jobs/%s/versions", job);
    STORE_AUTO_VOTE_FILE file = {0};

    if (path == NULL || staged == NULL || place == NULL || parent == NULL) {
        return no_mem(err);
    }
    BASE_TRY(store_vote_read(root, job, number, &file, err));
    BASE_TRY(check_manifest(root, &file.vote, err));
    BASE_TRY(base_fault_check(BASE_FAULT_vote_publish, err));
    BASE_TRY(store_root_keep_lock(root, err));
    BASE_TRY(check_adopted(root, &file, err));
    BASE_TRY(base_rename_new(root_fd, staged, place, err));
    seal_adopted(root, &file);
    BASE_TRY(base_fault_check(BASE_FAULT_vote_published, err));
    BASE_TRY(base_dir_sync(root_fd, parent, err));
    /* What cannot be removed now, the next change removes. */
    (void)!base_dir_remove(root_fd, path, NULL);
    return BASE_OK;
}

/* Is there such a version?  Then its rename is brought to disk. */
static enum base_code find_published(const struct store_root *root,
                                     const char *job,
                                     uint64_t number,
                                     bool *ret,
                                     struct base_err *err)
{
    BASE_AUTO_MEM char *place = store_version_path(job, number, "");
    BASE_AUTO_MEM char *parent = base_path("jobs/%s/versions", job);
    struct stat st;

    if (place == NULL || parent == NULL) {
        return no_mem(err);
    }
    *ret = fstatat(store_root_fd(root), place, &st, AT_SYMLINK_NOFOLLOW) == 0;
    if (!*ret) {
        return errno == ENOENT
                   ? BASE_OK
                   : base_fail_errno(err, errno, "%s: cannot stat", place);
    }
    return base_dir_sync(store_root_fd(root), parent, err);
}

/* With the lock. */
static enum base_code decide_publish(struct store_root *root,
                                     const char *job,
                                     uint64_t number,
                                     struct base_err *err)
{
    BASE_AUTO_MEM char *path = store_vote_path(job, number, "");
    bool is_there = false;

    if (path == NULL) {
        return no_mem(err);
    }
    BASE_TRY(store_vote_is_cast(root, path, &is_there, err));
    if (is_there) {
        enum base_code code = publish(root, job, number, err);

        return code == BASE_NOT_FOUND /* a part of it: the lock is ours */
                   ? base_wrap(err, BASE_BAD_INPUT, "a vote is not whole")
                   : code;
    }
    BASE_TRY(find_published(root, job, number, &is_there, err));
    return is_there ? BASE_OK
                    : base_fail(err, BASE_NOT_FOUND,
                                "%s: job '%s' has neither a vote nor a version "
                                "%" PRIu64,
                                store_root_path(root), job, number);
}

/* --- removing ----------------------------------------------------------- */

/* Nobody looks at it (fsck) any more, and nobody will. */
static enum base_code lock_version(const struct store_root *root,
                                   const char *job,
                                   uint64_t number,
                                   int *ret_fd,
                                   struct base_err *err)
{
    BASE_AUTO_MEM char *lock = store_vote_path(job, number, "/version/lock");
    enum base_code code;

    if (lock == NULL) {
        return no_mem(err);
    }
    /* A damaged one may lack its lock, and is removed all the same. */
    BASE_TRY(base_io_open(store_root_fd(root), lock,
                          O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600,
                          lock, ret_fd, err));
    code = store_flock(*ret_fd, LOCK_EX, 0, lock, err);
    return code == BASE_EXISTS
               ? base_fail(err, code,
                           "job '%s', attempt %" PRIu64
                           ": another program looks at its vote",
                           job, number)
               : code;
}

static enum base_code discard(const struct store_root *root,
                              const char *job,
                              uint64_t number,
                              struct base_err *err)
{
    int root_fd = store_root_fd(root);
    BASE_AUTO_MEM char *path = store_vote_path(job, number, "");
    BASE_AUTO_MEM char *away = NULL;
    BASE_AUTO_FD lock_fd = -1;
    struct ptc_blob_name name;
    char text[STORE_BLOB_TEXT_BYTES];

    BASE_TRY(store_blob_name_make(&name, err));
    away = base_path("staging/dead-%s", store_blob_name_format(&name, text));
    if (path == NULL || away == NULL) {
        return no_mem(err);
    }
    BASE_TRY(lock_version(root, job, number, &lock_fd, err));
    BASE_TRY(store_root_keep_lock(root, err));
    BASE_TRY(base_rename_new(root_fd, path, away, err));
    BASE_TRY(base_fault_check(BASE_FAULT_vote_removed, err));
    BASE_TRY(base_dir_sync(root_fd, "staging", err));
    /* What cannot be removed now, the next change removes. */
    (void)!base_dir_remove(root_fd, away, NULL);
    return BASE_OK;
}

/* With the lock. */
static enum base_code decide_remove(struct store_root *root,
                                    const char *job,
                                    uint64_t number,
                                    struct base_err *err)
{
    BASE_AUTO_MEM char *path = store_vote_path(job, number, "");
    bool is_there = false;

    if (path == NULL) {
        return no_mem(err);
    }
    BASE_TRY(store_vote_is_cast(root, path, &is_there, err));
    if (is_there) {
        return discard(root, job, number, err);
    }
    BASE_TRY(find_published(root, job, number, &is_there, err));
    if (is_there) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s: attempt %" PRIu64
                         " of job '%s' was published: release the version",
                         store_root_path(root), number, job);
    }
    /* A removal that failed after its rename. */
    return base_dir_sync(store_root_fd(root), "staging", err);
}

/* --- with the lock ------------------------------------------------------ */

static enum base_code decide(struct store_root *root,
                             const char *job,
                             uint64_t number,
                             enum base_code (*fn)(struct store_root *root,
                                                  const char *job,
                                                  uint64_t number,
                                                  struct base_err *err),
                             struct base_err *err)
{
    enum base_code code;

    BASE_TRY(store_vote_check_name(job, number, err));
    BASE_TRY(store_root_lock(root, STORE_LOCK_WAIT_NS, err));
    code = fn(root, job, number, err);
    store_root_unlock(root);
    return code;
}

enum base_code store_vote_publish(struct store_root *root,
                                  const char *job,
                                  uint64_t number,
                                  struct base_err *err)
{
    return decide(root, job, number, decide_publish, err);
}

enum base_code store_vote_remove(struct store_root *root,
                                 const char *job,
                                 uint64_t number,
                                 struct base_err *err)
{
    return decide(root, job, number, decide_remove, err);
}
