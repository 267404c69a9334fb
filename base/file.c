#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/io.h"

enum { REMOVE_MAX_DEPTH = 64 };

enum base_code base_file_read(int dir_fd,
                              const char *path,
                              struct base_buf *buf,
                              struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    struct stat st;
    char chunk[16384];
    uint64_t offset = 0;
    uint64_t size;

    /* O_NONBLOCK: to open a FIFO must not wait for a writer. */
    BASE_TRY(base_io_open(dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0,
                          path, &fd, err));
    if (fstat(fd, &st) < 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", path);
    }
    if (!S_ISREG(st.st_mode)) {
        return base_fail(err, BASE_BAD_INPUT, "%s: is not a regular file",
                         path);
    }
    size = (uint64_t)st.st_size;
    if (size > buf->max_bytes - buf->len) {
        return base_fail(err, BASE_LIMIT,
                         "%s: has %" PRIu64 " bytes, the limit is %zu", path,
                         size, buf->max_bytes - buf->len);
    }
    while (offset < size) {
        size_t part = size - offset < sizeof(chunk) ? (size_t)(size - offset)
                                                    : sizeof(chunk);

        BASE_TRY(base_io_pread(fd, chunk, part, offset, path, err));
        (void)base_buf_add(buf, chunk, part); /* sticky, checked below */
        offset += part;
    }
    (void)base_buf_add(buf, "", 0); /* a NUL after an empty file, too */
    if (base_buf_check(buf, err) != BASE_OK) {
        return base_wrap(err, buf->failed, "%s", path);
    }
    return BASE_OK;
}

enum base_code base_file_write(int dir_fd,
                               const char *path,
                               struct base_str bytes,
                               struct base_err *err)
{
    BASE_AUTO_FD fd = -1;

    BASE_TRY(base_io_open(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL, 0666, path,
                          &fd, err));
    BASE_TRY(base_io_pwrite(fd, bytes.ptr, bytes.len, 0, path, err));
    /* Some file systems report a full disk only here. */
    if (close(base_steal_fd(&fd)) < 0 && errno != EINTR) {
        return base_fail_errno(err, errno, "%s: cannot close", path);
    }
    return BASE_OK;
}

void base_names_free(char **names, size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        free(names[i]);
    }
    free(names);
}

struct names {
    char **items;
    size_t n;
    size_t cap;
};

static void names_done(struct names *names)
{
    base_names_free(names->items, names->n);
}

static void dir_close(DIR **dir)
{
    if (*dir != NULL) {
        (void)closedir(*dir); /* read only: nothing is lost */
    }
}

#define AUTO_NAMES __attribute__((cleanup(names_done))) struct names
#define AUTO_DIR   __attribute__((cleanup(dir_close))) DIR *

static int name_cmp(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum base_code dir_open(int dir_fd,
                               const char *path,
                               int flags,
                               DIR **ret_dir,
                               struct base_err *err)
{
    BASE_AUTO_FD fd = -1;

    BASE_TRY(base_io_open(dir_fd, path, O_RDONLY | O_DIRECTORY | flags, 0, path,
                          &fd, err));
    *ret_dir = fdopendir(fd);
    if (*ret_dir == NULL) {
        return base_fail_errno(err, errno, "%s: cannot open", path);
    }
    (void)base_steal_fd(&fd); /* the DIR owns it now */
    return BASE_OK;
}

/* The next entry but "." and ".."; *ret_name is NULL at the end. */
static enum base_code dir_next(DIR *dir,
                               const char *path,
                               const char **ret_name,
                               struct base_err *err)
{
    const struct dirent *entry;

    do {
        errno = 0;
        /* No other thread has this DIR.
         * NOLINTNEXTLINE(concurrency-mt-unsafe) */
        entry = readdir(dir);
        if (entry == NULL && errno != 0) {
            return base_fail_errno(err, errno, "%s: cannot list", path);
        }
    } while (entry != NULL && (strcmp(entry->d_name, ".") == 0 ||
                               strcmp(entry->d_name, "..") == 0));
    *ret_name = entry == NULL ? NULL : entry->d_name;
    return BASE_OK;
}

enum base_code base_dir_list(int dir_fd,
                             const char *path,
                             size_t max,
                             char ***ret_names,
                             size_t *ret_n,
                             struct base_err *err)
{
    AUTO_NAMES names = {0};
    AUTO_DIR dir = NULL;

    BASE_TRY(dir_open(dir_fd, path, 0, &dir, err));
    for (;;) {
        const char *name;
        char *copy;

        BASE_TRY(dir_next(dir, path, &name, err));
        if (name == NULL) {
            break;
        }
        if (names.n == max) {
            return base_fail(err, BASE_LIMIT, "%s: more than %zu entries", path,
                             max);
        }
        copy = strdup(name);
        if (copy == NULL || !base_vec_push(&names, copy)) {
            free(copy);
            return base_fail(err, BASE_NO_MEM, "%s: cannot list", path);
        }
    }
    if (names.n > 0) {
        qsort(names.items, names.n, sizeof(*names.items), name_cmp);
    }
    *ret_names = base_steal(&names.items);
    *ret_n = names.n;
    names.n = 0;
    return BASE_OK;
}

/* A tree that is being removed.  What lies too deep is moved up to its top, and
 * removed there: neither stack nor descriptors grow with the depth. */
struct removal {
    int top_fd;
    unsigned n_moved;
};

static enum base_code move_up(struct removal *removal,
                              int dir_fd,
                              const char *path,
                              struct base_err *err)
{
    char name[sizeof(".deep-") + 10];

    (void)!fchmodat(dir_fd, path, 0700, 0); /* renaming will tell */
    do {
        (void)snprintf(name, sizeof(name), ".deep-%u", removal->n_moved++);
        if (renameat(dir_fd, path, removal->top_fd, name) == 0 ||
            errno == ENOENT) {
            return BASE_OK;
        }
    } while (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR);
    return base_fail_errno(err, errno, "%s: cannot move it up", path);
}

/* Open a directory to remove what it has, whatever its mode. */
static enum base_code open_to_remove(int dir_fd,
                                     const char *path,
                                     DIR **ret_dir,
                                     struct base_err *err)
{
    enum base_code code = dir_open(dir_fd, path, O_NOFOLLOW, ret_dir, err);

    if (code == BASE_DENIED && fchmodat(dir_fd, path, 0700, 0) == 0) {
        code = dir_open(dir_fd, path, O_NOFOLLOW, ret_dir, err);
    }
    if (code == BASE_OK) {
        (void)!fchmod(dirfd(*ret_dir), 0700); /* removing will tell */
    }
    return code;
}

/* Remove what is in @path of @dir_fd, and @path. */
static enum base_code tree_remove(struct removal *removal,
                                  int dir_fd,
                                  const char *path,
                                  unsigned depth,
                                  struct base_err *err)
{
    AUTO_DIR dir = NULL;
    const char *name = NULL;
    unsigned n_moved = 0;
    enum base_code code;

    if (unlinkat(dir_fd, path, 0) == 0 || errno == ENOENT) {
        return BASE_OK;
    }
    if (errno != EISDIR && errno != EPERM) { /* POSIX says EPERM */
        return base_fail_errno(err, errno, "%s: cannot remove", path);
    }
    if (depth == REMOVE_MAX_DEPTH) {
        return move_up(removal, dir_fd, path, err);
    }
    code = open_to_remove(dir_fd, path, &dir, err);
    if (code == BASE_NOT_FOUND) { /* by somebody else, just now */
        return BASE_OK;
    }
    BASE_TRY(code);
    if (depth == 0) {
        removal->top_fd = dirfd(dir);
    }
    for (;;) {
        BASE_TRY(dir_next(dir, path, &name, err));
        if (name == NULL && depth == 0 && n_moved != removal->n_moved) {
            n_moved = removal->n_moved;
            rewinddir(dir); /* for what came up */
            continue;
        }
        if (name == NULL) {
            break;
        }
        code = tree_remove(removal, dirfd(dir), name, depth + 1, err);
        if (code != BASE_OK) {
            return base_wrap(err, code, "%s", path);
        }
    }
    if (unlinkat(dir_fd, path, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        return base_fail_errno(err, errno, "%s: cannot remove", path);
    }
    return BASE_OK;
}

enum base_code
base_dir_remove(int dir_fd, const char *path, struct base_err *err)
{
    struct removal removal = {.top_fd = -1};

    return tree_remove(&removal, dir_fd, path, 0, err);
}

/* The same for a directory where the file system knows no RENAME_NOREPLACE
 * (NFS): claim @to by making it, then rename over it, which only an empty
 * directory allows.  0, or -1 and errno. */
static int rename_over_new(int dir_fd, const char *from, const char *to)
{
    int errnum;

    if (mkdirat(dir_fd, to, 0700) < 0) {
        return -1;
    }
    if (renameat(dir_fd, from, dir_fd, to) == 0) {
        return 0;
    }
    errnum = errno;
    (void)unlinkat(dir_fd, to, AT_REMOVEDIR); /* stays if it is not empty */
    errno = errnum;
    return -1;
}

enum base_code base_rename_new(int dir_fd,
                               const char *from,
                               const char *to,
                               struct base_err *err)
{
    enum base_code code = base_fault_check(BASE_FAULT_io_rename, err);

    if (code != BASE_OK) {
        return base_wrap(err, code, "%s: cannot rename to %s", from, to);
    }
    if (renameat2(dir_fd, from, dir_fd, to, RENAME_NOREPLACE) < 0 &&
        (errno != EINVAL || rename_over_new(dir_fd, from, to) < 0)) {
        return base_fail_errno(err, errno, "%s: cannot rename to %s", from, to);
    }
    return BASE_OK;
}

enum base_code base_dir_sync(int dir_fd, const char *path, struct base_err *err)
{
    BASE_AUTO_FD fd = -1;

    BASE_TRY(
        base_io_open(dir_fd, path, O_RDONLY | O_DIRECTORY, 0, path, &fd, err));
    return base_io_sync(fd, path, err);
}

char *base_path(const char *fmt, ...)
{
    char *path = NULL;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&path, fmt, args);
    va_end(args);
    return n < 0 ? NULL : path;
}
