/* The staging of a job's saves: whose it is, and how it goes away.
 *
 * Its owner holds flock on staging/save.JOB/lock.  Who takes the store's lock
 * looks at each such directory: one whose lock it can get is a dead mount's.
 * Both, and the owner at its end, remove it in one way: under its lock it is
 * renamed to another name of staging/, and removed there.  So whoever gets the
 * lock of a file that is still at its path has the directory, and whoever
 * finds another file there, or none, begins again. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/io.h"
#include "base/num.h"
#include "store/blob.h"
#include "store/root_priv.h"
#include "store/save_priv.h"

#define PREFIX    "save."
#define LOCK_NAME "lock"

/* A sweep of dead ones holds the lock for a moment; its owner for long. */
#define LOCK_WAIT_NS ((int64_t)200 * 1000000)

enum { MAX_TRIES = 100, PID_TEXT_BYTES = 24 };

struct store_staging {
    struct store_root *root; /* borrowed */
    char *path;              /* "staging/save.JOB" */
    char *absolute;
    int fd;
    int lock_fd; /* -1: given up */
};

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a staging of saves");
}

void store_staging_free(struct store_staging *staging)
{
    if (staging == NULL) {
        return;
    }
    if (staging->fd >= 0) {
        (void)close(staging->fd); /* only read */
    }
    if (staging->lock_fd >= 0) {
        (void)close(staging->lock_fd); /* a holder may have it, too */
    }
    free(staging->path);
    free(staging->absolute);
    free(staging);
}

int store_staging_fd(const struct store_staging *staging)
{
    return staging->fd;
}

int store_staging_lock_fd(const struct store_staging *staging)
{
    return staging->lock_fd;
}

const char *store_staging_path(const struct store_staging *staging)
{
    return staging->absolute;
}

struct store_root *store_staging_root(const struct store_staging *staging)
{
    return staging->root;
}

const char *store_staging_name(const struct store_staging *staging)
{
    return staging->path;
}

const char *store_staging_job(const struct store_staging *staging)
{
    return staging->path + strlen("staging/" PREFIX);
}

bool store_staging_is_one(const char *name)
{
    return strncmp(name, PREFIX, strlen(PREFIX)) == 0;
}

/* --- removing ----------------------------------------------------------- */

/* Its lock is ours: it vanishes by one rename; then what is left of it goes. */
static enum base_code
discard(const struct store_root *root, const char *path, struct base_err *err)
{
    int root_fd = store_root_fd(root);
    struct ptc_blob_name name;
    char text[STORE_BLOB_TEXT_BYTES];
    BASE_AUTO_MEM char *away = NULL;

    BASE_TRY(store_blob_name_make(&name, err));
    away = base_path("staging/dead-%s", store_blob_name_format(&name, text));
    if (away == NULL) {
        return no_mem(err);
    }
    BASE_TRY(base_rename_new(root_fd, path, away, err));
    if (base_dir_remove(root_fd, away, NULL) == BASE_OK) {
        return BASE_OK;
    }
    /* Somebody who took the store's lock may be at it, too. */
    return base_dir_remove(root_fd, away, err);
}

/* Open the lock file of @path, a directory, and take its lock.
 * Errors: BASE_EXISTS (somebody has it; *ret_fd is open all the same),
 * BASE_CHANGED (it went away meanwhile), BASE_NOT_FOUND, BASE_IO */
static enum base_code take_lock(const struct store_root *root,
                                const char *path,
                                int64_t wait_ns,
                                int *ret_fd,
                                struct base_err *err)
{
    BASE_AUTO_MEM char *lock = base_path("%s/" LOCK_NAME, path);
    bool is_same = true;
    enum base_code code;

    if (lock == NULL) {
        return no_mem(err);
    }
    BASE_TRY(base_io_open(store_root_fd(root), lock,
                          O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600,
                          lock, ret_fd, err));
    code = store_flock(*ret_fd, LOCK_EX, wait_ns, lock, err);
    if (code == BASE_OK) {
        code = store_same_file(root, lock, *ret_fd, &is_same, err);
    }
    if (!is_same) {
        return base_fail(err, BASE_CHANGED, "%s: went away", lock);
    }
    return code;
}

/* No staging at all, or without a lock that anybody could hold. */
static bool is_odd(const struct store_root *root, const char *path)
{
    BASE_AUTO_MEM char *lock = base_path("%s/" LOCK_NAME, path);
    struct stat st;

    if (fstatat(store_root_fd(root), path, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISDIR(st.st_mode)) {
        return true;
    }
    return lock != NULL &&
           fstatat(store_root_fd(root), lock, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
           !S_ISREG(st.st_mode);
}

enum base_code store_staging_clear(const struct store_root *root,
                                   const char *path,
                                   struct base_err *err)
{
    BASE_AUTO_FD fd = -1;
    enum base_code code;

    if (is_odd(root, path)) {
        return base_dir_remove(store_root_fd(root), path, err);
    }
    code = take_lock(root, path, 0, &fd, err);
    if (code == BASE_EXISTS || code == BASE_CHANGED ||
        code == BASE_NOT_FOUND) { /* a mount's, or gone by itself */
        return BASE_OK;
    }
    return code == BASE_OK ? discard(root, path, err) : code;
}

enum base_code store_staging_is_held(const struct store_root *root,
                                     const char *path,
                                     bool *ret,
                                     struct base_err *err)
{
    BASE_AUTO_MEM char *lock = base_path("%s/" LOCK_NAME, path);
    BASE_AUTO_FD fd = -1;
    struct stat st;
    enum base_code code;

    *ret = false;
    if (lock == NULL) {
        return no_mem(err);
    }
    if (fstatat(store_root_fd(root), lock, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT || errno == ENOTDIR
                   ? BASE_OK
                   : base_fail_errno(err, errno, "%s: cannot stat", lock);
    }
    if (!S_ISREG(st.st_mode)) { /* nobody can hold it */
        return BASE_OK;
    }
    code = base_io_open(store_root_fd(root), lock,
                        O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, lock, &fd, err);
    if (code == BASE_NOT_FOUND) { /* it went away meanwhile */
        return BASE_OK;
    }
    BASE_TRY(code);
    code = store_flock(fd, LOCK_SH, 0, lock, err);
    *ret = code == BASE_EXISTS;
    return *ret ? BASE_OK : code;
}

enum base_code store_staging_remove(struct store_staging **staging,
                                    struct base_err *err)
{
    BASE_AUTO(store_staging) own = base_steal(staging);

    return discard(own->root, own->path, err);
}

/* --- taking ------------------------------------------------------------- */

static enum base_code create(struct store_root *root,
                             const char *job,
                             struct store_staging **ret,
                             struct base_err *err)
{
    BASE_AUTO(store_staging) staging = calloc(1, sizeof(*staging));
    BASE_AUTO_MEM char *top = realpath(store_root_path(root), NULL);

    if (staging == NULL) {
        return no_mem(err);
    }
    staging->root = root;
    staging->fd = staging->lock_fd = -1;
    BASE_TRY(store_job_check(job, err));
    if (strlen(job) > PTC_NAME_MAX - strlen(PREFIX)) {
        return base_fail(err, BASE_BAD_ARG,
                         "job '%s': the name is too long for one that saves",
                         job);
    }
    staging->path = base_path("staging/" PREFIX "%s", job);
    staging->absolute =
        base_path("%s/staging/" PREFIX "%s",
                  top != NULL ? top : store_root_path(root), job);
    if (staging->path == NULL || staging->absolute == NULL) {
        return no_mem(err);
    }
    *ret = base_steal(&staging);
    return BASE_OK;
}

/* Say in the lock who has it: for people only. */
static void sign(int lock_fd)
{
    char text[PID_TEXT_BYTES];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());

    (void)!ftruncate(lock_fd, 0);
    (void)!pwrite(lock_fd, text, (size_t)n, 0);
}

static enum base_code
taken(const struct store_staging *staging, int lock_fd, struct base_err *err)
{
    char text[PID_TEXT_BYTES] = "";
    ssize_t got = pread(lock_fd, text, sizeof(text) - 1, 0);
    struct base_str digits = {text, got > 1 ? (size_t)got - 1 : 0};
    uint64_t pid;

    if (!base_parse_u64(digits, &pid)) {
        return base_fail(
            err, BASE_EXISTS, "%s: another process takes the saves of job '%s'",
            store_root_path(staging->root), store_staging_job(staging));
    }
    return base_fail(
        err, BASE_EXISTS, "%s: process %" PRIu64 " takes the saves of job '%s'",
        store_root_path(staging->root), pid, store_staging_job(staging));
}

static enum base_code open_dir(struct store_staging *staging,
                               struct base_err *err)
{
    return base_io_open(store_root_fd(staging->root), staging->path,
                        O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, staging->path,
                        &staging->fd, err);
}

/* Remove what a dead mount left: everything but the lock. */
static enum base_code clear(const struct store_staging *staging,
                            struct base_err *err)
{
    STORE_AUTO_LISTING left = {0};

    BASE_TRY(base_dir_list(staging->fd, ".", STORE_MAX_ENTRIES, &left.names,
                           &left.n, err));
    for (size_t i = 0; i < left.n; i++) {
        if (strcmp(left.names[i], LOCK_NAME) != 0) {
            BASE_TRY(base_dir_remove(staging->fd, left.names[i], err));
        }
    }
    return BASE_OK;
}

/* Once: BASE_CHANGED and BASE_NOT_FOUND when it was removed at that moment. */
static enum base_code try_open(struct store_staging *staging,
                               struct base_err *err)
{
    BASE_AUTO_FD lock_fd = -1;
    enum base_code code;

    if (mkdirat(store_root_fd(staging->root), staging->path, 0700) != 0 &&
        errno != EEXIST) {
        return base_fail_errno(err, errno, "%s: cannot make it",
                               staging->absolute);
    }
    code = take_lock(staging->root, staging->path, LOCK_WAIT_NS, &lock_fd, err);
    if (code == BASE_EXISTS) {
        return taken(staging, lock_fd, err);
    }
    BASE_TRY(code);
    BASE_TRY(open_dir(staging, err)); /* nobody else may move it now */
    sign(lock_fd);
    staging->lock_fd = base_steal_fd(&lock_fd);
    return clear(staging, err);
}

enum base_code store_staging_open(struct store_root *root,
                                  const char *job,
                                  struct store_staging **ret,
                                  struct base_err *err)
{
    BASE_AUTO(store_staging) staging = NULL;
    enum base_code code = BASE_CHANGED;

    BASE_TRY(create(root, job, &staging, err));
    for (unsigned i = 0;
         i < MAX_TRIES && (code == BASE_CHANGED || code == BASE_NOT_FOUND);
         i++) {
        code = try_open(staging, err);
    }
    BASE_TRY(code);
    *ret = base_steal(&staging);
    return BASE_OK;
}

enum base_code store_staging_adopt(struct store_root *root,
                                   const char *job,
                                   int lock_fd,
                                   struct store_staging **ret,
                                   struct base_err *err)
{
    BASE_AUTO(store_staging) staging = NULL;
    BASE_AUTO_MEM char *lock = NULL;
    bool is_same;

    BASE_TRY(create(root, job, &staging, err));
    lock = base_path("%s/" LOCK_NAME, staging->path);
    if (lock == NULL) {
        return no_mem(err);
    }
    /* The lock belongs to the open file: asking again for it costs nothing. */
    BASE_TRY(store_same_file(root, lock, lock_fd, &is_same, err));
    if (!is_same || store_flock(lock_fd, LOCK_EX, 0, lock, NULL) != BASE_OK) {
        return base_fail(err, BASE_CHANGED, "%s: its lock is another's now",
                         staging->absolute);
    }
    BASE_TRY(open_dir(staging, err));
    sign(lock_fd);
    staging->lock_fd = lock_fd;
    *ret = base_steal(&staging);
    return BASE_OK;
}

/* --- room --------------------------------------------------------------- */

enum base_code store_staging_room(const struct store_staging *staging,
                                  uint64_t *ret_bytes,
                                  struct base_err *err)
{
    uint64_t used = 0, budget = 0, room, free_bytes;
    struct statvfs fs;

    BASE_TRY(store_root_usage(staging->root, &used, &budget, err));
    room = used < budget ? budget - used : 0;
    if (fstatvfs(staging->fd, &fs) != 0) {
        return base_fail_errno(err, errno, "%s: cannot ask for free space",
                               staging->absolute);
    }
    if (fs.f_blocks > 0 && /* else the file system has no limit */
        base_mul_u64(fs.f_bavail, fs.f_frsize, &free_bytes)) {
        room = base_min_u64(room, free_bytes);
    }
    *ret_bytes = room;
    return BASE_OK;
}
