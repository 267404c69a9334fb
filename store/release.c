/* Pins, release, and the end of a job.
 *
 * A release locks versions/N/lock alone, without waiting, renames the directory
 * into staging/ and removes it there, with all its manifests. */
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
#include "store/blob.h"
#include "store/root.h"
#include "store/root_priv.h"
#include "store/vote.h"

enum { PIN_MAX_BYTES = 240 };

/* A version must be published to be pinned or released. */
static enum base_code version_find(const struct store_root *root,
                                   const char *job,
                                   uint64_t number,
                                   bool *ret_is_current,
                                   struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n;

    BASE_TRY(store_root_versions(root, job, &numbers, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (numbers[i] == number) {
            *ret_is_current = i + 1 == n;
            return BASE_OK;
        }
    }
    return store_version_missing(root, job, number, err);
}

static enum base_code why_check(struct base_str why, struct base_err *err)
{
    bool is_good =
        why.len > 0 && why.len <= PIN_MAX_BYTES && base_str_is_utf8(why);

    for (size_t i = 0; i < why.len && is_good; i++) {
        unsigned char c = (unsigned char)why.ptr[i];

        is_good = c >= 0x20 && c != 0x7f;
    }
    if (!is_good) {
        return base_fail(
            err, BASE_BAD_ARG,
            "a pin's reason is one line of UTF-8, of 1 to %d bytes",
            PIN_MAX_BYTES);
    }
    return BASE_OK;
}

/* A new name in staging/, given. */
static enum base_code
staging_path(const char *what, char **ret, struct base_err *err)
{
    struct ptc_blob_name name;
    char text[STORE_BLOB_TEXT_BYTES];

    BASE_TRY(store_blob_name_make(&name, err));
    *ret =
        base_path("staging/%s-%s", what, store_blob_name_format(&name, text));
    return *ret != NULL ? BASE_OK
                        : base_fail(err, BASE_NO_MEM, "cannot name a file");
}

/* Write @tmp and give it the name @path. */
static enum base_code pin_place(int dir_fd,
                                const char *tmp,
                                const char *path,
                                const char *text,
                                struct base_err *err)
{
    BASE_AUTO_FD fd = -1;

    BASE_TRY(base_io_open(dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL, 0600, path,
                          &fd, err));
    BASE_TRY(base_io_pwrite(fd, text, strlen(text), 0, path, err));
    BASE_TRY(base_io_sync(fd, path, err));
    BASE_TRY(base_fault_check(BASE_FAULT_io_rename, err));
    if (renameat(dir_fd, tmp, dir_fd, path) < 0) {
        return base_fail_errno(err, errno, "%s: cannot write", path);
    }
    return BASE_OK;
}

static enum base_code pin_write(const struct store_root *root,
                                const char *path,
                                const char *why,
                                struct base_err *err)
{
    const int dir_fd = store_root_fd(root);
    BASE_AUTO_MEM char *text = base_path("%s\n", why);
    BASE_AUTO_MEM char *tmp = NULL;
    enum base_code code;

    if (text == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot write", path);
    }
    BASE_TRY(staging_path("pin", &tmp, err));
    code = pin_place(dir_fd, tmp, path, text, err);
    if (code != BASE_OK) {
        (void)unlinkat(dir_fd, tmp, 0); /* else the next change removes it */
    }
    return code;
}

enum base_code store_version_pin(struct store_root *root,
                                 const char *job,
                                 uint64_t number,
                                 const char *why,
                                 struct base_err *err)
{
    BASE_AUTO_MEM char *path = NULL;
    BASE_AUTO_MEM char *folder = NULL;
    bool is_current;

    assert(store_root_is_locked(root));
    BASE_TRY(version_find(root, job, number, &is_current, err));
    path = store_version_path(job, number, "/pin");
    folder = store_version_path(job, number, "");
    if (path == NULL || folder == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s@%" PRIu64 ": cannot pin", job,
                         number);
    }
    if (why != NULL) {
        BASE_TRY(why_check(base_str_of(why), err));
        BASE_TRY(pin_write(root, path, why, err));
    } else if (unlinkat(store_root_fd(root), path, 0) < 0 && errno != ENOENT) {
        return base_fail_errno(err, errno, "%s: cannot remove", path);
    }
    return base_dir_sync(store_root_fd(root), folder, err);
}

enum base_code store_version_pin_why(const struct store_root *root,
                                     const char *job,
                                     uint64_t number,
                                     char **ret_why,
                                     struct base_err *err)
{
    BASE_AUTO_MEM char *path = NULL;
    BASE_AUTO_BUF text;
    enum base_code code;
    char *why;

    base_buf_init(&text, PIN_MAX_BYTES + 1);
    BASE_TRY(store_job_check(job, err));
    path = store_version_path(job, number, "/pin");
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s@%" PRIu64 ": cannot look", job,
                         number);
    }
    code = base_file_read(store_root_fd(root), path, &text, err);
    if (code == BASE_NOT_FOUND) {
        *ret_why = NULL;
        return BASE_OK;
    }
    BASE_TRY(code);
    if (text.len > 0 && text.ptr[text.len - 1] == '\n') {
        text.len--;
    }
    why = strndup(text.ptr, text.len);
    if (why == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot read", path);
    }
    *ret_why = why;
    return BASE_OK;
}

/* Not the current one, not pinned. */
static enum base_code release_check(struct store_root *root,
                                    const char *job,
                                    uint64_t number,
                                    struct base_err *err)
{
    BASE_AUTO_MEM char *why = NULL;
    bool is_current;

    BASE_TRY(version_find(root, job, number, &is_current, err));
    if (is_current) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s@%" PRIu64 " is the current version", job, number);
    }
    BASE_TRY(store_version_pin_why(root, job, number, &why, err));
    if (why != NULL) {
        return base_fail(err, BASE_EXISTS, "%s@%" PRIu64 " is pinned: %s", job,
                         number, why);
    }
    return BASE_OK;
}

/* Rename it away, unless somebody uses it. */
static enum base_code take_away(struct store_root *root,
                                const char *job,
                                uint64_t number,
                                struct base_err *err)
{
    const int dir_fd = store_root_fd(root);
    BASE_AUTO_MEM char *folder = NULL;
    BASE_AUTO_MEM char *lock = NULL;
    BASE_AUTO_MEM char *parent = NULL;
    BASE_AUTO_MEM char *away = NULL;
    BASE_AUTO_FD lock_fd = -1;
    enum base_code code;

    BASE_TRY(staging_path("released", &away, err));
    folder = store_version_path(job, number, "");
    lock = store_version_path(job, number, "/lock");
    parent = base_path("jobs/%s/versions", job);
    if (folder == NULL || lock == NULL || parent == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s@%" PRIu64 ": cannot release",
                         job, number);
    }
    /* A damaged version may lack its lock, and is released all the same. */
    BASE_TRY(base_io_open(dir_fd, lock, O_RDWR | O_CREAT | O_NOFOLLOW, 0600,
                          lock, &lock_fd, err));
    code = store_flock(lock_fd, LOCK_EX, 0, lock, err);
    if (code == BASE_EXISTS) {
        return base_fail(err, code, "%s@%" PRIu64 " is in use", job, number);
    }
    BASE_TRY(code);
    BASE_TRY(base_rename_new(dir_fd, folder, away, err));
    BASE_TRY(base_dir_sync(dir_fd, parent, err));
    BASE_TRY(base_fault_check(BASE_FAULT_store_release, err));
    /* It is released.  What cannot be removed now, the next change removes. */
    (void)!base_dir_remove(dir_fd, away, NULL);
    return BASE_OK;
}

enum base_code store_version_release(struct store_root *root,
                                     const char *job,
                                     uint64_t number,
                                     struct base_err *err)
{
    assert(store_root_is_locked(root));
    BASE_TRY(release_check(root, job, number, err));
    return take_away(root, job, number, err);
}

/* --- a whole job --- */

static enum base_code has_no_vote(const struct store_root *root,
                                  const char *job,
                                  struct base_err *err)
{
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    size_t n = 0;

    BASE_TRY(store_vote_list(root, &votes, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(votes[i].job, job) == 0) {
            return base_fail(err, BASE_EXISTS,
                             "%s@%" PRIu64 " waits for an answer", job,
                             votes[i].number);
        }
    }
    return BASE_OK;
}

enum base_code
store_job_remove(struct store_root *root, const char *job, struct base_err *err)
{
    const int dir_fd = store_root_fd(root);
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    BASE_AUTO_MEM char *folder = base_path("jobs/%s", job);
    BASE_AUTO_MEM char *away = NULL;
    size_t n = 0;
    enum base_code code;

    assert(store_root_is_locked(root));
    BASE_TRY(store_job_check(job, err));
    BASE_TRY(has_no_vote(root, job, err));
    BASE_TRY(staging_path("removed", &away, err));
    if (folder == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot remove", job);
    }
    code = store_root_versions(root, job, &numbers, &n, err);
    for (size_t i = 0; code == BASE_OK && i < n; i++) {
        code = take_away(root, job, numbers[i], err);
    }
    if (code != BASE_NOT_FOUND) {
        BASE_TRY(code);
    }
    code = base_rename_new(dir_fd, folder, away, err);
    if (code == BASE_NOT_FOUND) {
        return BASE_OK;
    }
    BASE_TRY(code);
    BASE_TRY(base_dir_sync(dir_fd, "jobs", err));
    (void)!base_dir_remove(dir_fd, away, NULL); /* else the next change does */
    return BASE_OK;
}
