/* Versions: opening one.
 *
 * A reader opens versions/N/lock, locks it shared, and then looks whether the
 * path still leads to the file it locked.  A release locks it alone without
 * waiting, renames the directory into staging/, and removes it there.  So a
 * reader either has a version that nobody removes, or finds that it is gone.
 *
 * The manifest is locked shared, too, for the blobs that it names: upkeep may
 * replace it, and then the old one stays as manifest.K until the sweep can lock
 * it alone; it removes the name while it holds the lock.  So a reader that has
 * locked a manifest that still has a name keeps its blobs; one that has locked
 * a file without any opens the manifest again. */
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
#include "store/vote_priv.h"

/* A release holds a version's lock for a rename.  A reader that waits longer
 * met one that was stopped. */
#define READER_WAIT_NS ((int64_t)5000000000)

enum {
    CURRENT_MAX_TRIES = 16,  /* the current version changes, then is released */
    MANIFEST_MAX_TRIES = 16, /* it is replaced, and swept, while it is opened */
};

#define REPLACED_PREFIX "manifest."

/* Immutable; any thread. */
struct store_version {
    struct ptc_manifest *manifest;
    struct ptc_table *table;
    char *label;
    void *map;
    size_t n_map;
    int lock_fd;
    int manifest_fd; /* locked shared, too */
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
    if (version->manifest_fd >= 0) {
        (void)close(version->manifest_fd); /* gives up its lock */
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

int store_version_lock_fd(const struct store_version *v)
{
    return v->lock_fd;
}

const char *store_version_label(const struct store_version *v)
{
    return v->label;
}

char *store_version_path(const char *job, uint64_t number, const char *file)
{
    return base_path("jobs/%s/versions/%" PRIu64 "%s", job, number, file);
}

/* "job 'x' has no version 4; it has 1, 2, 7" (the newest ones). */
enum base_code store_version_missing(const struct store_root *root,
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

/* @folder is the version's, relative to the root. */
static enum base_code version_hold(const struct store_root *root,
                                   const char *folder,
                                   struct store_version *v,
                                   struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/lock", folder);
    struct stat st;
    bool is_same;
    enum base_code code;

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot open", v->label);
    }
    code = base_io_open(store_root_fd(root), path,
                        O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, path,
                        &v->lock_fd, err);
    if (code == BASE_NOT_FOUND &&
        fstatat(store_root_fd(root), folder, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s: has no file 'lock'",
                         v->label);
    }
    BASE_TRY(code);
    if (fstat(v->lock_fd, &st) < 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", path);
    }
    if (!S_ISREG(st.st_mode)) {
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
    BASE_TRY(store_same_file(root, path, v->lock_fd, &is_same, err));
    return is_same ? BASE_OK
                   : base_fail(err, BASE_NOT_FOUND, "%s: is there no more",
                               v->label);
}

/* Lock the manifest at @path; *ret_named tells whether it still has a name. */
static enum base_code manifest_lock(const struct store_root *root,
                                    const char *path,
                                    struct store_version *v,
                                    bool *ret_named,
                                    struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    struct stat st;
    enum base_code code;

    BASE_TRY(base_io_open(store_root_fd(root), path,
                          O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, path, &fd,
                          err));
    code = store_flock(fd, LOCK_SH, READER_WAIT_NS, path, err);
    if (code == BASE_EXISTS) {
        return base_fail(err, BASE_LIMIT,
                         "%s: another program has been removing its manifest "
                         "for 5 s",
                         v->label);
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
    *ret_named = st.st_nlink > 0;
    if (*ret_named) {
        v->manifest_fd = base_steal_fd(&fd);
    }
    return BASE_OK;
}

/* @file: "manifest", or one that was replaced. */
static enum base_code version_map(const struct store_root *root,
                                  const char *folder,
                                  const char *file,
                                  struct store_version *v,
                                  struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/%s", folder, file);
    bool is_named = false;

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot open", v->label);
    }
    for (unsigned i = 0; i < MANIFEST_MAX_TRIES && !is_named; i++) {
        BASE_TRY(manifest_lock(root, path, v, &is_named, err));
    }
    if (!is_named) {
        return base_fail(err, BASE_LIMIT,
                         "%s: its manifest is replaced all the time", v->label);
    }
    v->map = mmap(NULL, v->n_map, PROT_READ, MAP_SHARED, v->manifest_fd, 0);
    if (v->map == MAP_FAILED) {
        v->map = NULL;
        return base_fail_errno(err, errno, "%s: cannot map", path);
    }
    return BASE_OK;
}

/* Version @number in folder @in, by one of its manifests; both texts are taken. */
static enum base_code open_file(const struct store_root *root,
                                char *in,
                                const char *file,
                                char *label,
                                uint64_t number,
                                struct store_version **ret,
                                struct base_err *err)
{
    BASE_AUTO(store_version) v = calloc(1, sizeof(*v));
    BASE_AUTO_MEM char *folder = in;
    uint64_t said;

    if (v != NULL) {
        v->lock_fd = -1;
        v->manifest_fd = -1;
    }
    if (v == NULL || label == NULL || folder == NULL) {
        free(label);
        return base_fail(err, BASE_NO_MEM, "version %" PRIu64 ": cannot open",
                         number);
    }
    v->label = label;
    BASE_TRY(version_hold(root, folder, v, err));
    BASE_TRY(version_map(root, folder, file, v, err));
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

enum base_code store_version_open_manifest(const struct store_root *root,
                                           const char *job,
                                           uint64_t number,
                                           struct store_version **ret,
                                           struct base_err *err)
{
    BASE_AUTO_MEM char *folder = NULL;
    struct stat st;
    enum base_code code;

    BASE_TRY(store_job_check(job, err));
    code = open_file(root, store_version_path(job, number, ""), "manifest",
                     base_path("%s@%" PRIu64, job, number), number, ret, err);
    if (code != BASE_NOT_FOUND) {
        return code;
    }
    folder = store_version_path(job, number, "");
    if (folder != NULL &&
        fstatat(store_root_fd(root), folder, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s@%" PRIu64 ": has no manifest",
                         job, number);
    }
    return store_version_missing(root, job, number, err);
}

enum base_code store_vote_open(const struct store_root *root,
                               const char *job,
                               uint64_t number,
                               struct store_version **ret,
                               struct base_err *err)
{
    enum base_code code = open_file(
        root, store_vote_path(job, number, "/version"), "manifest",
        base_path("%s@%" PRIu64 " (a vote)", job, number), number, ret, err);
    BASE_AUTO_MEM char *path = NULL;
    bool is_there = false;

    if (code != BASE_NOT_FOUND) {
        return code;
    }
    path = store_vote_path(job, number, "");
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for a vote");
    }
    BASE_TRY(store_vote_is_cast(root, path, &is_there, NULL));
    return is_there ? base_wrap(err, BASE_BAD_INPUT, "a vote is not whole")
                    : code;
}

bool store_replaced_parse(const char *name, uint64_t *ret)
{
    struct base_str text = base_str_of(name);

    return base_str_starts(text, BASE_STR(REPLACED_PREFIX)) &&
           store_number_parse(name + strlen(REPLACED_PREFIX), ret);
}

enum base_code store_version_open_replaced(const struct store_root *root,
                                           const char *job,
                                           uint64_t number,
                                           uint64_t k,
                                           struct store_version **ret,
                                           struct base_err *err)
{
    char file[sizeof(REPLACED_PREFIX) + 24];

    BASE_TRY(store_job_check(job, err));
    (void)snprintf(file, sizeof(file), REPLACED_PREFIX "%" PRIu64, k);
    return open_file(root, store_version_path(job, number, ""), file,
                     base_path("%s@%" PRIu64 " (%s)", job, number, file),
                     number, ret, err);
}

bool store_version_is_replaced(const struct store_root *root,
                               const struct store_version *version)
{
    BASE_AUTO_MEM char *path = NULL;
    struct base_str job = base_str_of(version->label);
    bool is_same = true; /* when that cannot be told */

    while (job.len > 0 && job.ptr[job.len - 1] != '@') { /* its last one */
        job.len--;
    }
    job.len -= job.len > 0;
    path =
        base_path("jobs/%.*s/versions/%" PRIu64 "/manifest", BASE_STR_FMT(job),
                  ptc_manifest_head(version->manifest)->version);
    return path != NULL &&
           store_same_file(root, path, version->manifest_fd, &is_same, NULL) ==
               BASE_OK &&
           !is_same;
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
            return store_version_missing(root, job, 0, err);
        }
        code = open_number(root, job, numbers[n - 1], ret, err);
        if (code != BASE_NOT_FOUND) {
            break;
        }
    }
    return code;
}
