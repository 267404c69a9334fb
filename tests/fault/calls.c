/* System calls that fail on purpose, and what they left behind.
 *
 * Each has the errnos that it fails with, one run each.  EINTR is among them
 * where we retry: then nothing is to be seen of it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/fault/nth_impl.h"

struct nth_counter nth_calls = {.fail = NTH_NEVER};
atomic_int_fast64_t nth_n_maps;
atomic_int_fast64_t nth_n_dirs;

enum { MAX_VARIANTS = 4 };

/* 0: no more of them. */
static bool may_not(const char *what, const int *errnums)
{
    struct nth_counter *counter = &nth_calls;
    uint64_t n;

    if (nth_is_paused) {
        return false;
    }
    n = counter->n++;
    if (n < counter->fail || (n > counter->fail && !counter->stays)) {
        return false;
    }
    if (n == counter->fail) {
        for (counter->n_variants = 0; counter->n_variants < MAX_VARIANTS &&
                                      errnums[counter->n_variants] != 0;) {
            counter->n_variants++;
        }
        counter->what = what;
        counter->errnum =
            errnums[counter->variant < counter->n_variants ? counter->variant
                                                           : 0];
        counter->is_retried = counter->errnum == EINTR;
        errno = counter->errnum;
    } else {
        errno = errnums[0];
    }
    return true;
}

#define FAILS(what, ...) may_not(what, (const int[MAX_VARIANTS]){__VA_ARGS__})

/* NOLINTBEGIN(*-identifier,*-identifier-naming,cert-dcl*) */
#define WRAP(type, name, ...)                                                  \
    type __real_##name(__VA_ARGS__);                                           \
    type __wrap_##name(__VA_ARGS__);                                           \
    type __wrap_##name(__VA_ARGS__)

int __real_openat(int dir_fd, const char *path, int flags, ...);
int __wrap_openat(int dir_fd, const char *path, int flags, ...);
int __wrap_openat(int dir_fd, const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list args;

    if ((flags & O_CREAT) != 0) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return FAILS("openat", EIO, EMFILE, EINTR)
               ? -1
               : __real_openat(dir_fd, path, flags, mode);
}

WRAP(ssize_t, pread, int fd, void *buf, size_t n, off_t offset)
{
    return FAILS("pread", EIO, EINTR) ? -1 : __real_pread(fd, buf, n, offset);
}

/* What pread is under _FORTIFY_SOURCE. */
WRAP(ssize_t, __pread_chk, int fd, void *buf, size_t n, off_t off, size_t max)
{
    return FAILS("pread", EIO, EINTR)
               ? -1
               : __real___pread_chk(fd, buf, n, off, max);
}

WRAP(ssize_t, pwritev, int fd, const struct iovec *iov, int n, off_t offset)
{
    return FAILS("pwritev", EIO, ENOSPC, EINTR)
               ? -1
               : __real_pwritev(fd, iov, n, offset);
}

WRAP(int, fsync, int fd)
{
    return FAILS("fsync", EIO, ENOSPC) ? -1 : __real_fsync(fd);
}

WRAP(int, renameat, int from_fd, const char *from, int to_fd, const char *to)
{
    return FAILS("renameat", EIO, ENOSPC)
               ? -1
               : __real_renameat(from_fd, from, to_fd, to);
}

WRAP(int,
     renameat2,
     int from_fd,
     const char *from,
     int to_fd,
     const char *to,
     unsigned flags)
{
    return FAILS("renameat2", EIO, ENOSPC)
               ? -1
               : __real_renameat2(from_fd, from, to_fd, to, flags);
}

WRAP(int, mkdirat, int dir_fd, const char *path, mode_t mode)
{
    return FAILS("mkdirat", EIO, ENOSPC) ? -1
                                         : __real_mkdirat(dir_fd, path, mode);
}

WRAP(int, mkdir, const char *path, mode_t mode)
{
    return FAILS("mkdir", EIO, ENOSPC) ? -1 : __real_mkdir(path, mode);
}

WRAP(int, unlinkat, int dir_fd, const char *path, int flags)
{
    return FAILS("unlinkat", EIO) ? -1 : __real_unlinkat(dir_fd, path, flags);
}

WRAP(int,
     linkat,
     int from_fd,
     const char *from,
     int to_fd,
     const char *to,
     int flags)
{
    return FAILS("linkat", EIO, ENOSPC, EMLINK)
               ? -1
               : __real_linkat(from_fd, from, to_fd, to, flags);
}

WRAP(int, fstat, int fd, struct stat *st)
{
    return FAILS("fstat", EIO) ? -1 : __real_fstat(fd, st);
}

WRAP(int, stat, const char *path, struct stat *st)
{
    return FAILS("stat", EIO) ? -1 : __real_stat(path, st);
}

WRAP(int, fstatat, int dir_fd, const char *path, struct stat *st, int flags)
{
    return FAILS("fstatat", EIO) ? -1 : __real_fstatat(dir_fd, path, st, flags);
}

WRAP(int, faccessat, int dir_fd, const char *path, int mode, int flags)
{
    return FAILS("faccessat", EIO)
               ? -1
               : __real_faccessat(dir_fd, path, mode, flags);
}

WRAP(char *, realpath, const char *path, char *resolved)
{
    char *real =
        FAILS("realpath", EIO, ENOMEM) ? NULL : __real_realpath(path, resolved);

    nth_n_live += real != NULL && resolved == NULL;
    return real;
}

WRAP(ssize_t, pwrite, int fd, const void *buf, size_t n, off_t offset)
{
    return FAILS("pwrite", EIO, ENOSPC) ? -1
                                        : __real_pwrite(fd, buf, n, offset);
}

WRAP(int, fstatfs, int fd, struct statfs *st)
{
    return FAILS("fstatfs", EIO) ? -1 : __real_fstatfs(fd, st);
}

WRAP(int, madvise, void *map, size_t n, int advice)
{
    return FAILS("madvise", EIO, ENOSYS) ? -1 : __real_madvise(map, n, advice);
}

WRAP(int, fstatvfs, int fd, struct statvfs *st)
{
    return FAILS("fstatvfs", EIO) ? -1 : __real_fstatvfs(fd, st);
}

WRAP(int, ftruncate, int fd, off_t n_bytes)
{
    return FAILS("ftruncate", EIO, ENOSPC) ? -1 : __real_ftruncate(fd, n_bytes);
}

WRAP(int, fallocate, int fd, int mode, off_t offset, off_t n_bytes)
{
    return FAILS("fallocate", EIO, ENOSPC, EINTR, EOPNOTSUPP)
               ? -1
               : __real_fallocate(fd, mode, offset, n_bytes);
}

WRAP(int, flock, int fd, int operation)
{
    return FAILS("flock", ENOLCK, EINTR) ? -1 : __real_flock(fd, operation);
}

WRAP(int, fchmod, int fd, mode_t mode)
{
    return FAILS("fchmod", EIO) ? -1 : __real_fchmod(fd, mode);
}

WRAP(int, fchmodat, int dir_fd, const char *path, mode_t mode, int flags)
{
    return FAILS("fchmodat", EIO) ? -1
                                  : __real_fchmodat(dir_fd, path, mode, flags);
}

WRAP(ssize_t, getrandom, void *bytes, size_t n, unsigned flags)
{
    return FAILS("getrandom", EAGAIN, EINTR)
               ? -1
               : __real_getrandom(bytes, n, flags);
}

/* It is closed all the same. */
WRAP(int, close, int fd)
{
    bool fails = FAILS("close", EIO, ENOSPC);
    int errnum = errno;
    int rc = __real_close(fd);

    errno = errnum;
    return fails ? -1 : rc;
}

WRAP(DIR *, fdopendir, int fd)
{
    DIR *dir = FAILS("fdopendir", ENOMEM) ? NULL : __real_fdopendir(fd);

    nth_n_dirs += dir != NULL;
    return dir;
}

WRAP(struct dirent *, readdir, DIR *dir)
{
    return FAILS("readdir", EIO) ? NULL : __real_readdir(dir);
}

WRAP(int, closedir, DIR *dir)
{
    nth_n_dirs--;
    return __real_closedir(dir);
}

WRAP(
    void *, mmap, void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    void *map = FAILS("mmap", ENOMEM, ENODEV)
                    ? MAP_FAILED
                    : __real_mmap(at, n, prot, flags, fd, offset);

    nth_n_maps += map != MAP_FAILED;
    return map;
}

WRAP(int, munmap, void *map, size_t n)
{
    nth_n_maps--;
    return __real_munmap(map, n);
}

WRAP(int,
     pthread_create,
     pthread_t *thread,
     const pthread_attr_t *attr,
     void *(*fn)(void *),
     void *ctx)
{
    return FAILS("pthread_create", EAGAIN)
               ? EAGAIN
               : __real_pthread_create(thread, attr, fn, ctx);
}
/* NOLINTEND(*-identifier,*-identifier-naming,cert-dcl*) */
