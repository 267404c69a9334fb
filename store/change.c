/* A change: blobs and a version made in staging/ATTEMPT, then published.
 *
 * The order is what makes it safe: bytes on disk, blobs under their names, the
 * table, the job's directory and its highest number, the version's files; and
 * only then the one rename that shows it all.  What a change that died leaves
 * is a directory in staging/ (removed by the next) and at most blobs that no
 * manifest names (removed by the sweep). */
#include "store/change.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "base/num.h"
#include "base/parallel.h"
#include "store/blob.h"
#include "store/root_priv.h"

#define LOCK_WAIT_NS ((int64_t)10 * 1000000000)

enum { LAST_TEXT_BYTES = 24, SYNC_THREADS = 4 };

struct made {
    struct ptc_blob_name name;
    int fd;
    char *adopted;    /* a file's own path, which it keeps; else NULL */
    struct stat stat; /* of one that was adopted */
    bool is_placed;   /* in blobs/, no longer in staging */
};

struct store_change {
    struct store_root *root;
    char *job;
    char *staging; /* "staging/ATTEMPT" */
    BASE_VEC(struct made) blobs;
    bool is_locked;
    bool has_staging;
    bool is_published;
};

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a change of a store");
}

/* "staging/ATTEMPT/HEX" of a blob, given. */
static char *staged_path(const struct store_change *change,
                         const struct ptc_blob_name *name)
{
    char text[STORE_BLOB_TEXT_BYTES];

    return base_path("%s/%s", change->staging,
                     store_blob_name_format(name, text));
}

void store_change_free(struct store_change *change)
{
    if (change == NULL) {
        return;
    }
    for (size_t i = 0; i < change->blobs.n; i++) {
        const struct made *made = &change->blobs.items[i];

        (void)close(made->fd); /* synced before it was published */
        if (made->is_placed && !change->is_published) {
            BASE_AUTO_MEM char *path = store_blob_path(&made->name);

            if (path != NULL) { /* else the sweep finds it */
                (void)unlinkat(store_root_fd(change->root), path, 0);
            }
        }
        free(made->adopted);
    }
    base_vec_done(&change->blobs);
    if (change->has_staging &&
        base_dir_remove(store_root_fd(change->root), change->staging, NULL) !=
            BASE_OK) {
        change->has_staging = false; /* the next change removes it */
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
    BASE_TRY(check_budget(root, reserve_bytes, err));
    return check_free(root, reserve_bytes, err);
}

static enum base_code make_staging(struct store_change *change,
                                   struct base_err *err)
{
    struct ptc_blob_name attempt;
    char text[STORE_BLOB_TEXT_BYTES];

    BASE_TRY(store_blob_name_make(&attempt, err));
    change->staging =
        base_path("staging/%s", store_blob_name_format(&attempt, text));
    if (change->staging == NULL) {
        return no_mem(err);
    }
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
                                  struct store_change **ret,
                                  struct base_err *err)
{
    BASE_AUTO(store_change) change = calloc(1, sizeof(*change));

    if (change == NULL) {
        return no_mem(err);
    }
    change->root = root;
    BASE_TRY(store_job_check(job, err));
    change->job = base_path("%s", job);
    if (change->job == NULL) {
        return no_mem(err);
    }
    BASE_TRY(store_root_lock(root, LOCK_WAIT_NS, err));
    change->is_locked = true;
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
    struct made made = {.fd = -1};
    BASE_AUTO_MEM char *path = NULL;
    BASE_AUTO_FD fd = -1;

    BASE_TRY(store_blob_name_make(&made.name, err));
    path = staged_path(change, &made.name);
    if (path == NULL ||
        !base_vec_reserve(&change->blobs, change->blobs.n + 1)) {
        return no_mem(err);
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
                                  struct ptc_blob_name *ret_name,
                                  int *ret_fd,
                                  struct base_err *err)
{
    struct made made = {.fd = -1};
    BASE_AUTO_MEM char *adopted = base_path("%s", path);
    BASE_AUTO_FD fd = -1;

    if (adopted == NULL ||
        !base_vec_reserve(&change->blobs, change->blobs.n + 1)) {
        return no_mem(err);
    }
    BASE_TRY(store_blob_name_make(&made.name, err));
    BASE_TRY(base_io_open(store_root_fd(change->root), path,
                          O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, path, &fd,
                          err));
    if (fstat(fd, &made.stat) != 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", path);
    }
    if (!S_ISREG(made.stat.st_mode)) {
        return base_fail(err, BASE_BAD_INPUT, "%s: is not a regular file",
                         path);
    }
    made.adopted = base_steal(&adopted);
    made.fd = base_steal_fd(&fd);
    (void)base_vec_push(&change->blobs, made); /* room was made */
    *ret_name = made.name;
    *ret_fd = made.fd;
    return BASE_OK;
}

/* One that was adopted keeps its mode until it is published: a change that
 * fails leaves it as it was. */
static enum base_code
seal_one(void *ctx, size_t item, unsigned thread, struct base_err *err)
{
    const struct store_change *change = ctx;
    const struct made *made = &change->blobs.items[item];
    const char *label = made->adopted != NULL ? made->adopted : change->staging;

    (void)thread;
    if (made->adopted == NULL && fchmod(made->fd, 0400) != 0) {
        return base_fail_errno(err, errno, "%s: cannot seal a blob", label);
    }
    return base_io_sync(made->fd, label, err);
}

/* A second name for what is open, not for what has its path by now. */
static enum base_code place_adopted(const struct store_change *change,
                                    struct made *made,
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

/* Was anything adopted written to since? */
static enum base_code check_adopted(const struct store_change *change,
                                    struct base_err *err)
{
    for (size_t i = 0; i < change->blobs.n; i++) {
        const struct made *made = &change->blobs.items[i];
        const struct store_blob blob = {
            .label = made->adopted, .fd = made->fd, .stat = made->stat};

        if (made->adopted != NULL) {
            BASE_TRY(store_blob_check(&blob, err));
        }
    }
    return BASE_OK;
}

/* They are blobs now; a crash before this leaves another mode, no more. */
static void seal_adopted(const struct store_change *change)
{
    for (size_t i = 0; i < change->blobs.n; i++) {
        const struct made *made = &change->blobs.items[i];

        if (made->adopted != NULL) {
            (void)!fchmod(made->fd, 0400);
        }
    }
}

/* Into blobs/, one after the other; then their folders are synced. */
static enum base_code place_blobs(struct store_change *change,
                                  struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    bool is_touched[256] = {false}; /* folders, by the name's first byte */

    for (size_t i = 0; i < change->blobs.n; i++) {
        struct made *made = &change->blobs.items[i];
        BASE_AUTO_MEM char *from = staged_path(change, &made->name);
        BASE_AUTO_MEM char *to = store_blob_path(&made->name);

        if (from == NULL || to == NULL) {
            return no_mem(err);
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

/* --- publishing --------------------------------------------------------- */

/* Write a file in staging and sync it. */
static enum base_code write_synced(const struct store_change *change,
                                   const char *path,
                                   struct base_str bytes,
                                   struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    BASE_AUTO_FD fd = -1;

    BASE_TRY(base_file_write(root_fd, path, bytes, err));
    BASE_TRY(base_io_open(root_fd, path, O_RDONLY, 0, path, &fd, err));
    return base_io_sync(fd, path, err);
}

static enum base_code write_staged(const struct store_change *change,
                                   const char *name,
                                   struct base_str bytes,
                                   struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/%s", change->staging, name);

    return path == NULL ? no_mem(err) : write_synced(change, path, bytes, err);
}

static enum base_code make_dir(const struct store_change *change,
                               const char *path,
                               struct base_err *err)
{
    if (mkdirat(store_root_fd(change->root), path, 0700) != 0 &&
        errno != EEXIST) {
        return base_fail_errno(err, errno, "%s/%s: cannot make it",
                               store_root_path(change->root), path);
    }
    return BASE_OK;
}

/* Does @path have the bytes that its name says? */
static bool is_table_whole(const struct store_change *change,
                           const char *path,
                           struct base_digest digest)
{
    BASE_AUTO_BUF text;

    base_buf_init(&text, STORE_TABLE_MAX_BYTES);
    return base_file_read(store_root_fd(change->root), path, &text, NULL) ==
               BASE_OK &&
           base_digest_eq(base_digest_of(text.ptr, text.len), digest);
}

/* tables/DIGEST, when it is not there, or damaged: then older versions get
 * theirs back, too. */
static enum base_code place_table(const struct store_change *change,
                                  const struct ptc_table *table,
                                  struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    char digest[BASE_DIGEST_TEXT_BYTES];
    BASE_AUTO_MEM char *from = base_path("%s/table", change->staging);
    BASE_AUTO_MEM char *to = base_path(
        "tables/%s", base_digest_format(ptc_table_digest(table), digest));
    BASE_AUTO_BUF text;

    base_buf_init(&text, SIZE_MAX / 2);
    if (from == NULL || to == NULL) {
        return no_mem(err);
    }
    if (is_table_whole(change, to, ptc_table_digest(table))) {
        return BASE_OK;
    }
    BASE_TRY(ptc_table_format(table, &text, err));
    BASE_TRY(base_buf_check(&text, err));
    BASE_TRY(write_synced(change, from, base_buf_str(&text), err));
    BASE_TRY(base_fault_check(BASE_FAULT_io_rename, err));
    if (renameat(root_fd, from, root_fd, to) != 0) {
        return base_fail_errno(err, errno, "%s/%s: cannot replace it",
                               store_root_path(change->root), to);
    }
    return base_dir_sync(root_fd, "tables", err);
}

/* The number in jobs/JOB/last; 0 when there is no such file. */
static enum base_code read_last(const struct store_change *change,
                                uint64_t *ret,
                                struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("jobs/%s/last", change->job);
    BASE_AUTO_BUF text;
    struct base_str digits;
    enum base_code code;

    base_buf_init(&text, LAST_TEXT_BYTES);
    if (path == NULL) {
        return no_mem(err);
    }
    code = base_file_read(store_root_fd(change->root), path, &text, err);
    if (code == BASE_NOT_FOUND) {
        *ret = 0;
        return BASE_OK;
    }
    BASE_TRY(code);
    digits = base_buf_str(&text);
    if (digits.len > 0 && digits.ptr[digits.len - 1] == '\n') {
        digits.len--;
    }
    if (!base_parse_u64(digits, ret)) {
        return base_fail(err, BASE_BAD_INPUT, "%s/%s: is no number",
                         store_root_path(change->root), path);
    }
    return BASE_OK;
}

/* One more than the highest number ever given, as `last` and the versions that
 * there are say it. */
static enum base_code next_number(const struct store_change *change,
                                  uint64_t *ret,
                                  struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    uint64_t last;
    size_t n = 0;
    enum base_code code;

    BASE_TRY(read_last(change, &last, err));
    code = store_root_versions(change->root, change->job, &numbers, &n, err);
    if (code != BASE_NOT_FOUND) { /* a new job */
        BASE_TRY(code);
    }
    if (n > 0) {
        last = base_max_u64(last, numbers[n - 1]);
    }
    if (last >= INT64_MAX) { /* numbers are JSON's integers, too */
        return base_fail(err, BASE_LIMIT,
                         "job '%s': %" PRIu64 " is the last of all numbers",
                         change->job, last);
    }
    *ret = last + 1;
    return BASE_OK;
}

/* The job's directory, its versions/, and the number in `last`. */
static enum base_code take_number(const struct store_change *change,
                                  uint64_t *ret,
                                  struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    BASE_AUTO_MEM char *job = base_path("jobs/%s", change->job);
    BASE_AUTO_MEM char *versions = base_path("jobs/%s/versions", change->job);
    BASE_AUTO_MEM char *staged = base_path("%s/last", change->staging);
    BASE_AUTO_MEM char *last = base_path("jobs/%s/last", change->job);
    char text[LAST_TEXT_BYTES];

    if (job == NULL || versions == NULL || staged == NULL || last == NULL) {
        return no_mem(err);
    }
    BASE_TRY(next_number(change, ret, err));
    (void)snprintf(text, sizeof(text), "%" PRIu64 "\n", *ret);
    BASE_TRY(write_staged(change, "last", base_str_of(text), err));
    BASE_TRY(make_dir(change, job, err));
    BASE_TRY(make_dir(change, versions, err));
    BASE_TRY(base_fault_check(BASE_FAULT_io_rename, err));
    if (renameat(root_fd, staged, root_fd, last) != 0) {
        return base_fail_errno(err, errno, "%s/%s: cannot replace it",
                               store_root_path(change->root), last);
    }
    BASE_TRY(base_dir_sync(root_fd, job, err));
    return base_dir_sync(root_fd, "jobs", err);
}

static enum base_code make_version(const struct store_change *change,
                                   const struct ptc_manifest_new *manifest,
                                   char **ret_path,
                                   struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/version", change->staging);
    BASE_AUTO_BUF bytes;

    base_buf_init(&bytes, PTC_MANIFEST_MAX_BYTES);
    if (path == NULL) {
        return no_mem(err);
    }
    BASE_TRY(ptc_manifest_encode(manifest, &bytes, err));
    BASE_TRY(base_buf_check(&bytes, err));
    BASE_TRY(make_dir(change, path, err));
    BASE_TRY(
        write_staged(change, "version/manifest", base_buf_str(&bytes), err));
    BASE_TRY(write_staged(change, "version/lock", BASE_STR(""), err));
    BASE_TRY(base_dir_sync(store_root_fd(change->root), path, err));
    *ret_path = base_steal(&path);
    return BASE_OK;
}

enum base_code store_change_publish(struct store_change *change,
                                    struct ptc_manifest_new *manifest,
                                    uint64_t *ret_number,
                                    struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    BASE_AUTO_MEM char *staged = NULL;
    BASE_AUTO_MEM char *place = NULL;
    BASE_AUTO_MEM char *parent = base_path("jobs/%s/versions", change->job);
    uint64_t number = 0;

    BASE_TRY(
        base_parallel(SYNC_THREADS, change->blobs.n, seal_one, change, err));
    BASE_TRY(base_fault_check(BASE_FAULT_store_sealed, err));
    BASE_TRY(place_blobs(change, err));
    BASE_TRY(place_table(change, manifest->table, err));
    BASE_TRY(take_number(change, &number, err));
    manifest->head.version = number;
    BASE_TRY(make_version(change, manifest, &staged, err));
    place = base_path("jobs/%s/versions/%" PRIu64, change->job, number);
    if (place == NULL || parent == NULL) {
        return no_mem(err);
    }
    BASE_TRY(base_fault_check(BASE_FAULT_store_publish, err));
    BASE_TRY(store_root_keep_lock(change->root, err));
    BASE_TRY(check_adopted(change, err));
    BASE_TRY(base_rename_new(root_fd, staged, place, err));
    change->is_published = true;
    *ret_number = number;
    seal_adopted(change);
    BASE_TRY(base_fault_check(BASE_FAULT_store_published, err));
    return base_dir_sync(root_fd, parent, err);
}

/* --- replacing ---------------------------------------------------------- */

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
        return no_mem(err);
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
    return *ret != NULL ? BASE_OK : no_mem(err);
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
        return no_mem(err);
    }
    BASE_TRY(ptc_manifest_encode(manifest, &bytes, err));
    BASE_TRY(write_synced(change, path, base_buf_str(&bytes), err));
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
        return no_mem(err);
    }
    BASE_TRY(check_replaced(change, manifest, number, old, err));
    BASE_TRY(
        base_parallel(SYNC_THREADS, change->blobs.n, seal_one, change, err));
    BASE_TRY(base_fault_check(BASE_FAULT_store_sealed, err));
    BASE_TRY(place_blobs(change, err));
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
    BASE_TRY(base_fault_check(BASE_FAULT_store_replaced, err));
    return base_dir_sync(root_fd, folder, err);
}
