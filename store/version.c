/* Versions: opening one, pins, release.
 *
 * A reader opens versions/N/lock, locks it shared, and then looks whether the
 * path still leads to the file it locked.  A release locks it alone without
 * waiting, renames the directory into staging/, and removes it there.  So a
 * reader either has a version that nobody removes, or finds that it is gone. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"
#include "store/blob.h"
#include "store/root.h"
#include "store/root_priv.h"

/* A release holds a version's lock for a rename.  A reader that waits longer
 * met one that was stopped. */
#define READER_WAIT_NS ((int64_t)5000000000)

enum {
    CURRENT_MAX_TRIES = 16, /* the current version changes, then is released */
    PIN_MAX_BYTES = 240
};

/* Immutable; any thread. */
struct store_version {
    struct ptc_manifest *manifest;
    struct ptc_table *table;
    char *label;
    void *map;
    size_t n_map;
    int lock_fd;
};

void store_version_free(struct store_version *version)
{
    if (version == NULL) {
        return;
    }
    ptc_table_free(version->table);
    ptc_manifest_free(version->manifest);
    if (version->map != NULL) {
        /* A failure leaves address space behind, no more. */
        (void)munmap(version->map, version->n_map);
    }
    if (version->lock_fd >= 0) {
        (void)close(version->lock_fd); /* gives up the lock */
    }
    free(version->label);
    free(version);
}

const struct ptc_manifest *store_version_manifest(const struct store_version *v)
{
    return v->manifest;
}

const struct ptc_table *store_version_table(const struct store_version *v)
{
    return v->table;
}

const char *store_version_label(const struct store_version *v)
{
    return v->label;
}

static char *version_path(const char *job, uint64_t number, const char *file)
{
    return base_path("jobs/%s/versions/%" PRIu64 "%s", job, number, file);
}

/* "job 'x' has no version 4; it has 1, 2, 7" (the newest ones). */
static enum base_code version_missing(const struct store_root *root,
                                      const char *job,
                                      uint64_t number,
                                      struct base_err *err)
{
    enum { N_SHOWN = 8 };
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    BASE_AUTO_BUF text;
    size_t n;

    base_buf_init(&text, 256);
    BASE_TRY(store_root_versions(root, job, &numbers, &n, err));
    if (n == 0) {
        return base_fail(err, BASE_NOT_FOUND, "%s: job '%s' has no version yet",
                         store_root_path(root), job);
    }
    for (size_t i = n > N_SHOWN ? n - N_SHOWN : 0; i < n; i++) {
        (void)base_buf_addf(&text, "%s%" PRIu64, text.len > 0 ? ", " : "",
                            numbers[i]);
    }
    return base_fail(err, BASE_NOT_FOUND,
                     "%s: job '%s' has no version %" PRIu64 "; it has %s%.*s",
                     store_root_path(root), job, number,
                     n > N_SHOWN ? "..., " : "", (int)text.len,
                     text.len > 0 ? text.ptr : "");
}

/* --- opening --- */

static enum base_code version_hold(const struct store_root *root,
                                   const char *job,
                                   uint64_t number,
                                   struct store_version *v,
                                   struct base_err *err)
{
    BASE_AUTO_MEM char *path = version_path(job, number, "/lock");
    BASE_AUTO_MEM char *folder = version_path(job, number, "");
    struct stat st;
    enum base_code code;

    if (path == NULL || folder == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot open", v->label);
    }
    code = base_io_open(store_root_fd(root), path,
                        O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, path,
                        &v->lock_fd, err);
    if (code == BASE_NOT_FOUND) {
        if (fstatat(store_root_fd(root), folder, &st, AT_SYMLINK_NOFOLLOW) ==
            0) {
            return base_fail(err, BASE_BAD_INPUT, "%s: has no file 'lock'",
                             v->label);
        }
        return version_missing(root, job, number, err);
    }
    BASE_TRY(code);
    if (fstat(v->lock_fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: its 'lock' is no regular file", v->label);
    }
    code = store_flock(v->lock_fd, LOCK_SH, READER_WAIT_NS, path, err);
    if (code == BASE_EXISTS) {
        return base_fail(err, BASE_LIMIT,
                         "%s: another program has been releasing it for 5 s",
                         v->label);
    }
    BASE_TRY(code);
    if (!store_is_same_file(root, path, v->lock_fd)) {
        return version_missing(root, job, number, err);
    }
    return BASE_OK;
}

static enum base_code version_map(const struct store_root *root,
                                  const char *job,
                                  uint64_t number,
                                  struct store_version *v,
                                  struct base_err *err)
{
    BASE_AUTO_MEM char *path = version_path(job, number, "/manifest");
    BASE_AUTO_FD fd = -1;
    struct stat st;
    enum base_code code;

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot open", v->label);
    }
    code = base_io_open(store_root_fd(root), path,
                        O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, path, &fd, err);
    if (code == BASE_NOT_FOUND) {
        return base_fail(err, BASE_BAD_INPUT, "%s: has no manifest", v->label);
    }
    BASE_TRY(code);
    if (fstat(fd, &st) < 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", path);
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: its manifest is empty, or no regular file",
                         v->label);
    }
    if ((uint64_t)st.st_size > PTC_MANIFEST_MAX_BYTES) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: its manifest has %" PRIu64
                         " bytes, at most %" PRIu64 " are allowed",
                         v->label, (uint64_t)st.st_size,
                         PTC_MANIFEST_MAX_BYTES);
    }
    v->n_map = (size_t)st.st_size;
    v->map = mmap(NULL, v->n_map, PROT_READ, MAP_SHARED, fd, 0);
    if (v->map == MAP_FAILED) {
        v->map = NULL;
        return base_fail_errno(err, errno, "%s: cannot map", path);
    }
    return BASE_OK;
}

enum base_code store_version_open_manifest(const struct store_root *root,
                                           const char *job,
                                           uint64_t number,
                                           struct store_version **ret,
                                           struct base_err *err)
{
    BASE_AUTO(store_version) v = NULL;
    uint64_t said;

    BASE_TRY(store_job_check(job, err));
    v = calloc(1, sizeof(*v));
    if (v != NULL) {
        v->lock_fd = -1;
        v->label = base_path("%s@%" PRIu64, job, number);
    }
    if (v == NULL || v->label == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s@%" PRIu64 ": cannot open", job,
                         number);
    }
    BASE_TRY(version_hold(root, job, number, v, err));
    BASE_TRY(version_map(root, job, number, v, err));
    BASE_TRY(ptc_manifest_open((struct base_str){v->map, v->n_map}, v->label,
                               &v->manifest, err));
    said = ptc_manifest_head(v->manifest)->version;
    if (said != number) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: its manifest is of version %" PRIu64, v->label,
                         said);
    }
    *ret = base_steal(&v);
    return BASE_OK;
}

enum base_code store_table_read(const struct store_root *root,
                                struct base_digest digest,
                                struct ptc_table **ret,
                                struct base_err *err)
{
    char text[BASE_DIGEST_TEXT_BYTES];
    char path[sizeof("tables/") + BASE_DIGEST_TEXT_BYTES];
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO_BUF bytes;

    base_buf_init(&bytes, STORE_TABLE_MAX_BYTES);
    (void)snprintf(path, sizeof(path), "tables/%s",
                   base_digest_format(digest, text));
    BASE_TRY(base_file_read(store_root_fd(root), path, &bytes, err));
    if (!base_digest_eq(base_digest_of(bytes.ptr, bytes.len), digest)) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: its bytes are not those of its digest", path);
    }
    BASE_TRY(ptc_table_parse(base_buf_str(&bytes), path, &table, err));
    if (!base_digest_eq(ptc_table_digest(table), digest)) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: is not in the form that Retile writes", path);
    }
    *ret = base_steal(&table);
    return BASE_OK;
}

static enum base_code open_number(const struct store_root *root,
                                  const char *job,
                                  uint64_t number,
                                  struct store_version **ret,
                                  struct base_err *err)
{
    BASE_AUTO(store_version) v = NULL;
    enum base_code code;

    BASE_TRY(store_version_open_manifest(root, job, number, &v, err));
    code = store_table_read(root, ptc_manifest_head(v->manifest)->table,
                            &v->table, err);
    if (code != BASE_OK) {
        /* What is missing is not the version. */
        return base_wrap(err, code == BASE_NOT_FOUND ? BASE_BAD_INPUT : code,
                         "%s", v->label);
    }
    *ret = base_steal(&v);
    return BASE_OK;
}

enum base_code store_version_open(const struct store_root *root,
                                  const char *job,
                                  uint64_t number,
                                  struct store_version **ret,
                                  struct base_err *err)
{
    enum base_code code = BASE_OK;

    if (number != 0) {
        return open_number(root, job, number, ret, err);
    }
    /* Between looking for the highest and opening it, it may be followed by
     * another and released: look again. */
    for (unsigned i = 0; i < CURRENT_MAX_TRIES; i++) {
        BASE_AUTO_MEM uint64_t *numbers = NULL;
        size_t n;

        BASE_TRY(store_root_versions(root, job, &numbers, &n, err));
        if (n == 0) {
            return version_missing(root, job, 0, err);
        }
        code = open_number(root, job, numbers[n - 1], ret, err);
        if (code != BASE_NOT_FOUND) {
            break;
        }
    }
    return code;
}

/* --- pins and release --- */

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
    return version_missing(root, job, number, err);
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

static enum base_code pin_write(const struct store_root *root,
                                const char *path,
                                const char *why,
                                struct base_err *err)
{
    const int dir_fd = store_root_fd(root);
    BASE_AUTO_MEM char *text = base_path("%s\n", why);
    BASE_AUTO_MEM char *tmp = NULL;
    BASE_AUTO_FD fd = -1;

    BASE_TRY(staging_path("pin", &tmp, err));
    if (text == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot write", path);
    }
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
    path = version_path(job, number, "/pin");
    folder = version_path(job, number, "");
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
    path = version_path(job, number, "/pin");
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

enum base_code store_version_release(struct store_root *root,
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

    assert(store_root_is_locked(root));
    BASE_TRY(release_check(root, job, number, err));
    BASE_TRY(staging_path("released", &away, err));
    folder = version_path(job, number, "");
    lock = version_path(job, number, "/lock");
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
