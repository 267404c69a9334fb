/* After a commit: digests, replicas, and the end of the staged names.
 *
 * The last is one rename to a hidden name, so that a finish that is killed finds
 * either all files again or none. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "store/blob.h"
#include "store/compact.h"
#include "store/copy.h"
#include "store/save_priv.h"

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory to finish a save");
}

/* Both parts of the work as one. */
struct work {
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void *ctx;
};

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    const struct work *work = ctx;

    return work->progress(work->ctx, done_bytes, all_bytes);
}

/* A commit that was killed when it had published left modes as they were. */
static enum base_code seal_blobs(const struct store_root *root,
                                 const struct store_version *version,
                                 struct base_err *err)
{
    const struct ptc_manifest *manifest = store_version_manifest(version);

    for (uint32_t i = 0; i < ptc_manifest_n_blobs(manifest); i++) {
        struct ptc_manifest_blob blob = ptc_manifest_blob(manifest, i);
        BASE_AUTO_FD fd = -1;
        struct stat st;

        BASE_TRY(store_blob_open(root, &blob, &fd, err));
        if (fstat(fd, &st) != 0 ||
            ((st.st_mode & 07777) != 0400 && fchmod(fd, 0400) != 0)) {
            return base_fail_errno(err, errno, "%s: cannot seal a blob",
                                   store_version_label(version));
        }
    }
    return BASE_OK;
}

/* What ranks wrote besides the version's bytes is compared with these. */
static enum base_code compare(struct store_root *root,
                              const char *job,
                              int staging_fd,
                              const char *staging_path,
                              const struct store_save *save,
                              struct store_version **version,
                              struct work *work,
                              struct base_err *err)
{
    uint64_t number =
        ptc_manifest_head(store_version_manifest(*version))->version;
    STORE_AUTO_LOOKED looked = {0};
    BASE_AUTO(store_source) source = NULL;
    struct stat st;
    uint64_t n = 0;

    if (save->replicas == STORE_REPLICAS_REFUSE) { /* compared already */
        return BASE_OK;
    }
    if (fstatat(staging_fd, save->name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT
                   ? BASE_OK /* and removed */
                   : base_fail_errno(err, errno, "%s: cannot stat", save->name);
    }
    BASE_TRY(store_looked_open(root, job, staging_fd, staging_path, save,
                               number, &looked, err));
    BASE_TRY(store_looked_objects(&looked, err));
    BASE_TRY(store_problems_end(&looked.problems, err));
    BASE_TRY(store_source_open_version(root, version, &source, err));
    looked.problems.tell = save->tell;
    looked.problems.ctx = save->ctx;
    return store_looked_compare(&looked, source, false,
                                work->progress != NULL ? on_progress : NULL,
                                work, &n, err);
}

static enum base_code
discard(int staging_fd, const char *name, struct base_err *err)
{
    BASE_AUTO_MEM char *hidden = base_path(".done.%s", name);

    if (hidden == NULL) {
        return no_mem(err);
    }
    BASE_TRY(base_dir_remove(staging_fd, hidden, err)); /* of a killed one */
    if (renameat(staging_fd, name, staging_fd, hidden) != 0) {
        return errno == ENOENT
                   ? BASE_OK
                   : base_fail_errno(err, errno, "%s: cannot remove", name);
    }
    return base_dir_remove(staging_fd, hidden, err);
}

enum base_code store_save_finish(struct store_root *root,
                                 const char *staging_path,
                                 const char *job,
                                 const struct store_save *save,
                                 uint64_t number,
                                 bool (*progress)(void *ctx,
                                                  uint64_t done_bytes,
                                                  uint64_t all_bytes),
                                 struct base_err *err)
{
    struct work work = {progress, save->ctx};
    const struct store_import_options options = {
        .progress = progress != NULL ? on_progress : NULL,
        .progress_ctx = &work};
    BASE_AUTO_FD staging_fd = -1;
    BASE_AUTO(store_version) version = NULL;
    struct base_err own;
    uint64_t n_bytes = 0;
    enum base_code code;

    err = err == NULL ? &own : err;
    BASE_TRY(base_io_open(AT_FDCWD, staging_path, O_RDONLY | O_DIRECTORY, 0,
                          staging_path, &staging_fd, err));
    code = store_version_open(root, job, number, &version, err);
    if (code != BASE_NOT_FOUND) { /* else it was released meanwhile */
        BASE_TRY(code);
        BASE_TRY(seal_blobs(root, version, err));
        BASE_TRY(
            store_digest_version(root, job, number, &options, &n_bytes, err));
        BASE_TRY(base_fault_check(BASE_FAULT_save_finish, err));
        BASE_TRY(compare(root, job, staging_fd, staging_path, save, &version,
                         &work, err));
    }
    return discard(staging_fd, save->name, err);
}
