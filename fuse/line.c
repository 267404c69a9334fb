#include "fuse/line.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int))];
};

bool fs_line_send(int line, enum fs_line_kind kind, uint64_t id, int fd)
{
    struct fs_line_message message = {.kind = (uint32_t)kind, .id = id};
    struct iovec iov = {&message, sizeof(message)};
    union control control = {.room = {0}};
    struct msghdr head = {.msg_iov = &iov, .msg_iovlen = 1};
    ssize_t n;

    if (fd >= 0) {
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(fd));
        memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
        head.msg_control = &control;
        head.msg_controllen = sizeof(control.room);
    }
    do {
        n = sendmsg(line, &head, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof(message);
}

enum base_code fs_line_receive(int line,
                               struct fs_line_message *ret,
                               int *ret_fd,
                               struct base_err *err)
{
    struct iovec iov = {ret, sizeof(*ret)};
    union control control = {.room = {0}};
    struct msghdr head = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = &control,
        .msg_controllen = sizeof(control.room),
    };
    ssize_t n;

    do {
        n = recvmsg(line, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return base_fail(err, BASE_NOT_FOUND, "no message");
    }
    if (n != (ssize_t)sizeof(*ret)) {
        return base_fail(err, BASE_IO, "the other process is gone");
    }
    *ret_fd = -1;
    if (head.msg_controllen >= CMSG_LEN(sizeof(int)) &&
        control.head.cmsg_type == SCM_RIGHTS) {
        memcpy(ret_fd, CMSG_DATA(&control.head), sizeof(*ret_fd));
    }
    return BASE_OK;
}

/* The server's end. */

enum base_code fs_line_get_device(const struct fs_line *line,
                                  int *ret_fd,
                                  struct base_err *err)
{
    struct pollfd poll_fd = {.fd = line->fd, .events = POLLIN};
    struct fs_line_message message;

    if (!fs_line_send(line->fd, FS_LINE_OPENED, 0, -1)) {
        return base_fail(err, BASE_IO, "the holder is gone");
    }
    /* However long fusermount3 takes: if it fails, the holder hangs up. */
    while (poll(&poll_fd, 1, -1) < 0) {
        if (errno != EINTR) {
            return base_fail_errno(err, errno, "poll");
        }
    }
    BASE_TRY(fs_line_receive(line->fd, &message, ret_fd, err));
    if (message.kind != FS_LINE_DEVICE || *ret_fd < 0) {
        return base_fail(err, BASE_IO, "the holder sent no device");
    }
    return BASE_OK;
}

uint64_t fs_line_keep(const struct fs_line *line, int fd)
{
    static atomic_uint_fast64_t last_id = FS_LINE_STAGING;
    uint64_t id = ++last_id;

    return line->fd >= 0 && fs_line_send(line->fd, FS_LINE_KEEP, id, fd) ? id
                                                                         : 0;
}

void fs_line_drop(const struct fs_line *line, uint64_t id)
{
    if (id != 0) {
        /* Lost, it is held until the mount or its next server ends. */
        (void)fs_line_send(line->fd, FS_LINE_DROP, id, -1);
    }
}

void fs_line_keep_staging(const struct fs_line *line, int fd)
{
    if (line->fd >= 0) {
        /* Lost, the next server finds that it has to begin anew. */
        (void)fs_line_send(line->fd, FS_LINE_KEEP, FS_LINE_STAGING, fd);
    }
}
