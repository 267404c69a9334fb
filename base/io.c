/* Short counts and EINTR are retried; a fault point is passed once per system
 * call.  Totals are relaxed atomics: they are only ever read as statistics. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/fault.h"

/* One call moves at most this much, well below the kernel's 0x7ffff000. */
enum { CALL_MAX_BYTES = 1 << 30 };

static atomic_uint_fast64_t read_bytes;
static atomic_uint_fast64_t read_calls;
static atomic_uint_fast64_t written_bytes;
static atomic_uint_fast64_t write_calls;
static atomic_uint_fast64_t mapped_bytes;

static void count(atomic_uint_fast64_t *total, uint64_t n)
{
    atomic_fetch_add_explicit(total, n, memory_order_relaxed);
}

static uint64_t total_of(atomic_uint_fast64_t *total)
{
    return atomic_load_explicit(total, memory_order_relaxed);
}

struct base_io_stats base_io_stats_get(void)
{
    return (struct base_io_stats){
        .read_bytes = total_of(&read_bytes),
        .read_calls = total_of(&read_calls),
        .written_bytes = total_of(&written_bytes),
        .write_calls = total_of(&write_calls),
        .mapped_bytes = total_of(&mapped_bytes),
    };
}

void base_io_count_mapped(uint64_t n_bytes)
{
    count(&mapped_bytes, n_bytes);
}

/* Pass @point: the errno to pretend, or 0; @n is halved by a short fault, and
 * *flips set where a bit is to flip. */
static int pass(enum base_fault_point point, size_t *n, bool *flips)
{
    switch (base_fault(point)) {
    case BASE_FAULT_NONE:
        return 0;
    case BASE_FAULT_ERROR:
        return EIO;
    case BASE_FAULT_NOSPACE:
        return ENOSPC;
    case BASE_FAULT_SHORT:
        if (n != NULL && *n > 1) {
            *n /= 2;
        }
        return 0;
    case BASE_FAULT_CORRUPT:
        if (flips != NULL) {
            *flips = true;
        }
        return 0;
    }
    return 0;
}

enum base_code base_io_open(int dir_fd,
                            const char *path,
                            int flags,
                            unsigned mode,
                            const char *label,
                            int *ret_fd,
                            struct base_err *err)
{
    int errnum = pass(BASE_FAULT_io_open, NULL, NULL);
    int fd = -1;

    if (errnum == 0) {
        do {
            fd = openat(dir_fd, path, flags | O_CLOEXEC, mode);
        } while (fd < 0 && errno == EINTR);
        errnum = errno;
    }
    if (fd < 0) {
        return base_fail_errno(err, errnum, "%s: cannot open", label);
    }
    *ret_fd = fd;
    return BASE_OK;
}

static bool offset_is_valid(uint64_t offset, size_t n)
{
    uint64_t end;

    return !__builtin_add_overflow(offset, n, &end) && end <= INT64_MAX;
}

enum base_code base_io_pread(int fd,
                             void *buf,
                             size_t n,
                             uint64_t offset,
                             const char *label,
                             struct base_err *err)
{
    size_t done = 0;

    if (!offset_is_valid(offset, n)) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s: offset %" PRIu64 " is too large", label, offset);
    }
    while (done < n) {
        size_t part = n - done < CALL_MAX_BYTES ? n - done : CALL_MAX_BYTES;
        bool flips = false;
        int errnum = pass(BASE_FAULT_io_read, &part, &flips);
        ssize_t got;

        if (errnum != 0) {
            return base_fail_errno(err, errnum, "%s: cannot read", label);
        }
        got = pread(fd, (char *)buf + done, part, (off_t)(offset + done));
        if (got < 0) {
            if (errno == EINTR) {
                continue;
            }
            return base_fail_errno(err, errno, "%s: cannot read", label);
        }
        count(&read_calls, 1);
        if (got == 0) {
            return base_fail(err, BASE_CHANGED,
                             "%s: ends at byte %" PRIu64 ", expected %" PRIu64,
                             label, offset + done, offset + n);
        }
        if (flips) {
            base_fault_flip((char *)buf + done, (size_t)got);
        }
        count(&read_bytes, (uint64_t)got);
        done += (size_t)got;
    }
    return BASE_OK;
}

/* One pwritev with its fault point: the count, at least 0; or -1 and errno. */
static ssize_t
write_some(int fd, const struct iovec *iov, size_t n_iov, uint64_t offset)
{
    struct iovec one;
    char wrong[512];
    size_t part = iov[0].iov_len;
    size_t whole = part;
    bool flips = false;
    int errnum = pass(BASE_FAULT_io_write, &part, &flips);
    ssize_t put;

    if (errnum != 0) {
        errno = errnum;
        return -1;
    }
    if (part != whole) { /* a short write was asked for */
        one = (struct iovec){iov[0].iov_base, part};
        iov = &one;
        n_iov = 1;
    }
    if (flips) { /* a short write of a bad copy: the caller's bytes are his */
        part = part < sizeof(wrong) ? part : sizeof(wrong);
        memcpy(wrong, iov[0].iov_base, part);
        base_fault_flip(wrong, part);
        one = (struct iovec){wrong, part};
        iov = &one;
        n_iov = 1;
    }
    put =
        pwritev(fd, iov, n_iov > IOV_MAX ? IOV_MAX : (int)n_iov, (off_t)offset);
    if (put >= 0) {
        count(&write_calls, 1);
        count(&written_bytes, (uint64_t)put);
    }
    return put;
}

enum base_code base_io_pwritev(int fd,
                               struct iovec *iov,
                               size_t n_iov,
                               uint64_t offset,
                               const char *label,
                               struct base_err *err)
{
    size_t i = 0;

    while (i < n_iov) {
        ssize_t put;
        size_t left;

        if (iov[i].iov_len == 0) {
            i++;
            continue;
        }
        if (!offset_is_valid(offset, iov[i].iov_len)) {
            return base_fail(err, BASE_BAD_ARG,
                             "%s: offset %" PRIu64 " is too large", label,
                             offset);
        }
        put = write_some(fd, iov + i, n_iov - i, offset);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put <= 0) { /* 0 for a non-empty write would go on for ever */
            return base_fail_errno(err, put < 0 ? errno : EIO,
                                   "%s: cannot write", label);
        }
        offset += (uint64_t)put;
        for (left = (size_t)put; left > 0 && i < n_iov;) {
            size_t step = left < iov[i].iov_len ? left : iov[i].iov_len;

            iov[i].iov_base = (char *)iov[i].iov_base + step;
            iov[i].iov_len -= step;
            left -= step;
            i += iov[i].iov_len == 0;
        }
    }
    return BASE_OK;
}

enum base_code base_io_pwrite(int fd,
                              const void *buf,
                              size_t n,
                              uint64_t offset,
                              const char *label,
                              struct base_err *err)
{
    /* iovec has no const; the kernel only reads. */
    struct iovec iov = {(void *)(uintptr_t)buf, n};

    return base_io_pwritev(fd, &iov, 1, offset, label, err);
}

enum base_code base_io_sync(int fd, const char *label, struct base_err *err)
{
    int errnum = pass(BASE_FAULT_io_sync, NULL, NULL);

    /* Never retried: after a failed fsync the kernel has dropped the pages'
     * error, and a second call would report success. */
    if (errnum == 0 && fsync(fd) < 0) {
        errnum = errno;
    }
    if (errnum != 0) {
        return base_fail_errno(err, errnum, "%s: cannot sync", label);
    }
    return BASE_OK;
}
