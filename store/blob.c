#include "store/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/io.h"
#include "store/root_priv.h"

enum { FOLDER_TEXT_BYTES = 3 };

enum base_code store_blob_name_make(struct ptc_blob_name *ret,
                                    struct base_err *err)
{
    struct ptc_blob_name name;
    ssize_t got;

    do { /* 16 bytes come whole once the generator is seeded */
        got = getrandom(name.bytes, sizeof(name.bytes), 0);
    } while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof(name.bytes)) {
        return base_fail_errno(err, got < 0 ? errno : EIO,
                               "no random numbers for a name");
    }
    *ret = name;
    return BASE_OK;
}

char *store_blob_name_format(const struct ptc_blob_name *name, char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t i;

    for (i = 0; i < sizeof(name->bytes); i++) {
        text[2 * i] = digits[name->bytes[i] >> 4];
        text[2 * i + 1] = digits[name->bytes[i] & 15];
    }
    text[2 * i] = '\0';
    return text;
}

/* The value of a lower-case hexadecimal digit, or -1. */
static int digit_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool store_blob_name_parse(struct base_str text, struct ptc_blob_name *ret)
{
    struct ptc_blob_name name;

    if (text.len != 2 * sizeof(name.bytes)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(name.bytes); i++) {
        int high = digit_value(text.ptr[2 * i]);
        int low = digit_value(text.ptr[2 * i + 1]);

        if (high < 0 || low < 0) {
            return false;
        }
        name.bytes[i] = (uint8_t)(high * 16 + low);
    }
    *ret = name;
    return true;
}

int store_blob_name_cmp(const struct ptc_blob_name *a,
                        const struct ptc_blob_name *b)
{
    return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

char *store_blob_path(const struct ptc_blob_name *name)
{
    char text[STORE_BLOB_TEXT_BYTES];

    (void)store_blob_name_format(name, text);
    return base_path("blobs/%.2s/%s", text, text);
}

enum base_code store_blob_make_folder(struct store_root *root,
                                      const struct ptc_blob_name *name,
                                      struct base_err *err)
{
    char text[STORE_BLOB_TEXT_BYTES];
    char folder[sizeof("blobs/") + FOLDER_TEXT_BYTES];

    (void)store_blob_name_format(name, text);
    (void)snprintf(folder, sizeof(folder), "blobs/%.2s", text);
    if (mkdirat(store_root_fd(root), folder, 0700) < 0) {
        if (errno == EEXIST) {
            return BASE_OK;
        }
        return base_fail_errno(err, errno, "%s/%s: cannot make",
                               store_root_path(root), folder);
    }
    return base_dir_sync(store_root_fd(root), "blobs", err);
}

enum base_code store_blob_open(const struct store_root *root,
                               const struct ptc_manifest_blob *blob,
                               int *ret_fd,
                               struct base_err *err)
{
    BASE_AUTO_MEM char *path = store_blob_path(&blob->name);
    BASE_AUTO_FD fd = -1;
    struct stat st;

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open a blob");
    }
    BASE_TRY(base_io_open(store_root_fd(root), path,
                          O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, path, &fd,
                          err));
    if (fstat(fd, &st) < 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return base_fail(err, BASE_MISMATCH, "%s: is not a regular file", path);
    }
    if ((uint64_t)st.st_size != blob->n_bytes) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: has %" PRIu64
                         " bytes, its manifest says %" PRIu64,
                         path, (uint64_t)st.st_size, blob->n_bytes);
    }
    *ret_fd = base_steal_fd(&fd);
    return BASE_OK;
}

/* Tell @fn about one entry of a folder. */
static enum base_code entry_tell(const struct store_root *root,
                                 const char *folder,
                                 const char *text,
                                 store_blob_fn fn,
                                 void *ctx,
                                 struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("blobs/%s/%s", folder, text);
    struct ptc_manifest_blob blob = {0};
    struct stat st;

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "blobs/%s: cannot list", folder);
    }
    if (fstatat(store_root_fd(root), path, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        if (errno == ENOENT) {
            return BASE_OK;
        }
        return base_fail_errno(err, errno, "%s: cannot stat", path);
    }
    if (!S_ISREG(st.st_mode) || strncmp(folder, text, 2) != 0 ||
        !store_blob_name_parse(base_str_of(text), &blob.name)) {
        return fn(ctx, path, NULL, err);
    }
    blob.n_bytes = (uint64_t)st.st_size;
    return fn(ctx, path, &blob, err);
}

static bool is_folder(const struct store_root *root, const char *path)
{
    struct stat st;
    const char *name = path + strlen("blobs/");

    return strlen(name) == 2 && digit_value(name[0]) >= 0 &&
           digit_value(name[1]) >= 0 &&
           fstatat(store_root_fd(root), path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           S_ISDIR(st.st_mode);
}

enum base_code store_blobs_each(const struct store_root *root,
                                store_blob_fn fn,
                                void *ctx,
                                struct base_err *err)
{
    STORE_AUTO_LISTING folders = {0};

    BASE_TRY(store_list(root, "blobs", &folders, err));
    for (size_t i = 0; i < folders.n; i++) {
        const char *folder = folders.names[i];
        BASE_AUTO_MEM char *path = base_path("blobs/%s", folder);
        STORE_AUTO_LISTING files = {0};

        if (path == NULL) {
            return base_fail(err, BASE_NO_MEM, "blobs: cannot list");
        }
        if (!is_folder(root, path)) {
            BASE_TRY(fn(ctx, path, NULL, err));
            continue;
        }
        BASE_TRY(store_list(root, path, &files, err));
        for (size_t k = 0; k < files.n; k++) {
            BASE_TRY(entry_tell(root, folder, files.names[k], fn, ctx, err));
        }
    }
    return BASE_OK;
}
