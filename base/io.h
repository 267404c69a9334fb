/* Our own I/O layer: every byte of a file that Retile reads or writes passes
 * here, is counted, and can be made to fail (base/fault.h).
 *
 * All calls retry EINTR and short counts.  Any thread.  Paths appear in the
 * error's text, so each call takes the name that a person would recognise. */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/str.h"

struct base_io_stats {
    uint64_t read_bytes;
    uint64_t read_calls;
    uint64_t written_bytes;
    uint64_t write_calls;
    uint64_t
        mapped_bytes; /* bytes taken out of mapped files, see store/gather */
};

/* Totals of the process since its start. */
struct base_io_stats base_io_stats_get(void);
void base_io_count_mapped(uint64_t n_bytes);

/* Open relative to @dir_fd (AT_FDCWD allowed), O_CLOEXEC added.  @label is
 * what an error calls the file.  *ret_fd is given; close it. */
enum base_code base_io_open(int dir_fd,
                            const char *path,
                            int flags,
                            unsigned mode,
                            const char *label,
                            int *ret_fd,
                            struct base_err *err) BASE_MUST_CHECK;

/* Read exactly @n bytes at @offset.  Errors: BASE_CHANGED when the file ends
 * first (it shrank), BASE_IO. */
enum base_code base_io_pread(int fd,
                             void *buf,
                             size_t n,
                             uint64_t offset,
                             const char *label,
                             struct base_err *err) BASE_MUST_CHECK;

enum base_code base_io_pwrite(int fd,
                              const void *buf,
                              size_t n,
                              uint64_t offset,
                              const char *label,
                              struct base_err *err) BASE_MUST_CHECK;

/* Write all of @iov (changed by the call) at @offset.  n_iov is unlimited:
 * the call cuts it into what the kernel takes. */
enum base_code base_io_pwritev(int fd,
                               struct iovec *iov,
                               size_t n_iov,
                               uint64_t offset,
                               const char *label,
                               struct base_err *err) BASE_MUST_CHECK;

enum base_code
base_io_sync(int fd, const char *label, struct base_err *err) BASE_MUST_CHECK;

#endif
