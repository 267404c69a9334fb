/* Making a root.  The identity comes last: what has none is no store, and an
 * init that died may be done again. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/io.h"
#include "store/blob.h"
#include "store/root_priv.h"

#define ID_MAGIC "retile store 1\n" /* + "id 32 digits\nbudget BYTES\n" */

static const char *const folders[] = {"blobs", "tables", "jobs", "staging"};

/* May @fd's directory become a store: is it empty, or what an init that died
 * left (it writes the identity last)? */
static enum base_code init_check(int fd, const char *path, struct base_err *err)
{
    STORE_AUTO_LISTING all = {0};

    BASE_TRY(
        base_dir_list(fd, ".", STORE_MAX_ENTRIES, &all.names, &all.n, err));
    for (size_t i = 0; i < all.n; i++) {
        bool is_ours = strcmp(all.names[i], "lock") == 0 ||
                       strcmp(all.names[i], "id.tmp") == 0;

        for (size_t k = 0; k < sizeof(folders) / sizeof(folders[0]); k++) {
            STORE_AUTO_LISTING inner = {0};

            if (strcmp(all.names[i], folders[k]) == 0) {
                BASE_TRY(base_dir_list(fd, folders[k], STORE_MAX_ENTRIES,
                                       &inner.names, &inner.n, err));
                is_ours = inner.n == 0;
            }
        }
        if (strcmp(all.names[i], "id") == 0) {
            return base_fail(err, BASE_EXISTS, "%s: is a store already", path);
        }
        if (!is_ours) {
            return base_fail(err, BASE_EXISTS,
                             "%s: is not empty: it has \"%s\"", path,
                             all.names[i]);
        }
    }
    return BASE_OK;
}

/* The identity, whole or not at all. */
static enum base_code
init_id(int fd, uint64_t budget_bytes, struct base_err *err)
{
    struct ptc_blob_name name;
    char id[STORE_BLOB_TEXT_BYTES];
    char text[STORE_ID_MAX_BYTES];
    BASE_AUTO_FD id_fd = -1;
    int n;

    BASE_TRY(store_blob_name_make(&name, err));
    n = snprintf(text, sizeof(text), ID_MAGIC "id %s\nbudget %" PRIu64 "\n",
                 store_blob_name_format(&name, id), budget_bytes);
    BASE_TRY(base_io_open(fd, "id.tmp", O_WRONLY | O_CREAT | O_TRUNC, 0600,
                          "id.tmp", &id_fd, err));
    BASE_TRY(base_io_pwrite(id_fd, text, (size_t)n, 0, "id.tmp", err));
    BASE_TRY(base_io_sync(id_fd, "id.tmp", err));
    BASE_TRY(base_rename_new(fd, "id.tmp", "id", err));
    return base_dir_sync(fd, ".", err);
}

static enum base_code
init_in(int fd, const char *path, uint64_t budget_bytes, struct base_err *err)
{
    BASE_AUTO_FD lock_fd = -1;
    enum base_code code;

    BASE_TRY(init_check(fd, path, err));
    BASE_TRY(base_io_open(fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600,
                          "lock", &lock_fd, err));
    code = store_flock(lock_fd, LOCK_EX, 0, "lock", err);
    if (code == BASE_EXISTS) {
        return base_fail(err, code, "%s: another program makes a store here",
                         path);
    }
    BASE_TRY(code);
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        if (mkdirat(fd, folders[i], 0700) < 0 && errno != EEXIST) {
            return base_fail_errno(err, errno, "%s: cannot make", folders[i]);
        }
    }
    return init_id(fd, budget_bytes, err);
}

enum base_code
store_root_init(const char *path, uint64_t budget_bytes, struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    bool is_new = mkdir(path, 0700) == 0;
    enum base_code code;

    if (!is_new && errno != EEXIST) {
        return base_fail_errno(err, errno, "%s: cannot make", path);
    }
    BASE_TRY(base_io_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, path, &fd,
                          err));
    code = init_in(fd, path, budget_bytes, err);
    if (code != BASE_OK) {
        return code == BASE_EXISTS ? code : base_wrap(err, code, "%s", path);
    }
    if (is_new) {
        /* A parent that may be written but not listed cannot be synced. */
        code = base_dir_sync(fd, "..", err);
        return code == BASE_DENIED ? BASE_OK : code;
    }
    return BASE_OK;
}
