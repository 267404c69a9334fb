/* Publishing a change.
 *
 * The order is what makes it safe: bytes on disk, blobs under their names, the
 * table, the version's files, the job's directory and its highest number; and
 * only then the one rename that shows it all, or that of its vote. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "base/num.h"
#include "store/change_priv.h"
#include "store/root_priv.h"

enum { LAST_TEXT_BYTES = 24 };

/* Has the file @fd what was written?  These files are small, and there is one of
 * each: it costs little to look before an older one is given up for it. */
static enum base_code
read_back(int fd, const char *path, struct base_str bytes, struct base_err *err)
{
    char part[16384];

    for (size_t at = 0; at < bytes.len;) {
        size_t n = (size_t)base_min_u64(sizeof(part), bytes.len - at);

        BASE_TRY(base_io_pread(fd, part, n, at, path, err));
        if (memcmp(part, bytes.ptr + at, n) != 0) {
            return base_fail(err, BASE_IO,
                             "%s: reads other bytes than were written", path);
        }
        at += n;
    }
    return BASE_OK;
}

enum base_code store_change_write(const struct store_change *change,
                                  const char *path,
                                  struct base_str bytes,
                                  struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    BASE_AUTO_FD fd = -1;

    BASE_TRY(base_file_write(root_fd, path, bytes, err));
    BASE_TRY(base_io_open(root_fd, path, O_RDONLY, 0, path, &fd, err));
    BASE_TRY(base_io_sync(fd, path, err));
    return read_back(fd, path, bytes, err);
}

static enum base_code write_staged(const struct store_change *change,
                                   const char *name,
                                   struct base_str bytes,
                                   struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/%s", change->staging, name);

    return path == NULL ? store_change_no_mem(err)
                        : store_change_write(change, path, bytes, err);
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
        return store_change_no_mem(err);
    }
    if (is_table_whole(change, to, ptc_table_digest(table))) {
        return BASE_OK;
    }
    BASE_TRY(ptc_table_format(table, &text, err));
    BASE_TRY(base_buf_check(&text, err));
    BASE_TRY(store_change_write(change, from, base_buf_str(&text), err));
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
        return store_change_no_mem(err);
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
 * there are say it; or the attempt's, which must be above that. */
enum base_code store_change_number(const struct store_change *change,
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
    if (change->attempt.number != 0 && change->attempt.number <= last) {
        return base_fail(err, BASE_CHANGED,
                         "job '%s': attempt %" PRIu64
                         " comes too late: number %" PRIu64 " was given",
                         change->job, change->attempt.number, last);
    }
    *ret = change->attempt.number != 0 ? change->attempt.number : last + 1;
    return BASE_OK;
}

/* The job's directory, its versions/, and @number in `last`. */
static enum base_code take_number(const struct store_change *change,
                                  uint64_t number,
                                  struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    BASE_AUTO_MEM char *job = base_path("jobs/%s", change->job);
    BASE_AUTO_MEM char *versions = base_path("jobs/%s/versions", change->job);
    BASE_AUTO_MEM char *staged = base_path("%s/last", change->staging);
    BASE_AUTO_MEM char *last = base_path("jobs/%s/last", change->job);
    char text[LAST_TEXT_BYTES];

    if (job == NULL || versions == NULL || staged == NULL || last == NULL) {
        return store_change_no_mem(err);
    }
    (void)snprintf(text, sizeof(text), "%" PRIu64 "\n", number);
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

/* The version's directory in staging, synced.  *ret_digest: its manifest's. */
static enum base_code make_version(const struct store_change *change,
                                   const struct ptc_manifest_new *manifest,
                                   struct base_digest *ret_digest,
                                   struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/version", change->staging);
    BASE_AUTO_BUF bytes;

    base_buf_init(&bytes, PTC_MANIFEST_MAX_BYTES);
    if (path == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(ptc_manifest_encode(manifest, &bytes, err));
    BASE_TRY(base_buf_check(&bytes, err));
    /* A manifest ends in its digest. */
    memcpy(ret_digest->bytes, bytes.ptr + bytes.len - sizeof(ret_digest->bytes),
           sizeof(ret_digest->bytes));
    BASE_TRY(make_dir(change, path, err));
    BASE_TRY(
        write_staged(change, "version/manifest", base_buf_str(&bytes), err));
    BASE_TRY(write_staged(change, "version/lock", BASE_STR(""), err));
    return base_dir_sync(store_root_fd(change->root), path, err);
}

/* The one rename. */
static enum base_code
show(struct store_change *change, uint64_t number, struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    BASE_AUTO_MEM char *staged = base_path("%s/version", change->staging);
    BASE_AUTO_MEM char *place = store_version_path(change->job, number, "");
    BASE_AUTO_MEM char *parent = base_path("jobs/%s/versions", change->job);

    if (staged == NULL || place == NULL || parent == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(base_fault_check(BASE_FAULT_store_publish, err));
    BASE_TRY(store_root_keep_lock(change->root, err));
    BASE_TRY(store_change_check_adopted(change, err));
    BASE_TRY(base_rename_new(root_fd, staged, place, err));
    change->is_published = true;
    store_change_seal_adopted(change);
    store_root_sync_shown(change->root, parent, BASE_FAULT_store_published);
    return BASE_OK;
}

enum base_code store_change_publish(struct store_change *change,
                                    struct ptc_manifest_new *manifest,
                                    uint64_t *ret_number,
                                    struct base_err *err)
{
    struct base_digest digest;
    uint64_t number = 0;

    BASE_TRY(store_change_seal(change, err));
    BASE_TRY(store_change_relock(change, err));
    BASE_TRY(store_change_place(change, err));
    BASE_TRY(place_table(change, manifest->table, err));
    BASE_TRY(store_change_number(change, &number, err));
    manifest->head.version = number;
    BASE_TRY(make_version(change, manifest, &digest, err));
    BASE_TRY(take_number(change, number, err));
    BASE_TRY(change->attempt.number != 0
                 ? store_change_vote(change, manifest, digest, err)
                 : show(change, number, err));
    *ret_number = number;
    return BASE_OK;
}
