/* The line between the holder and the server of a mount: a socket, on which
 * short messages pass, some with a descriptor.
 *
 *   server                         holder
 *   OPENED    source is open  -->  mounts, if it is not
 *             device          <--  DEVICE
 *   SERVING   INIT is answered --> the mount is ready
 *             every second    <--  PING
 *   PONG      the request that
 *             it is at for
 *             longest         -->
 *   KEEP      a lock          -->  holds it, too: it outlives the server
 *   DROP                      -->
 *
 * When an end is closed, its process has died. */
#ifndef FUSE_LINE_H
#define FUSE_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

enum fs_line_kind {
    FS_LINE_OPENED = 1,
    FS_LINE_DEVICE,
    FS_LINE_SERVING,
    FS_LINE_PING,
    FS_LINE_PONG,
    FS_LINE_KEEP,
    FS_LINE_DROP,
};

/* What KEEP holds: locks of versions have numbers above it. */
#define FS_LINE_STAGING UINT64_C(1)

struct fs_line_message {
    uint32_t kind;
    uint32_t padding;
    uint64_t id; /* of KEEP and DROP; what PONG says */
};

/* Never waits.  @fd -1: none.  False: it was lost; the other process is gone, or
 * has not listened for long.  Any thread. */
bool fs_line_send(int line, enum fs_line_kind kind, uint64_t id, int fd);
/* Receive without waiting.  *ret_fd is given, or -1.
 * Errors: BASE_NOT_FOUND  there is no message
 *         BASE_IO         the other end is closed */
enum base_code fs_line_receive(int line,
                               struct fs_line_message *ret,
                               int *ret_fd,
                               struct base_err *err) BASE_MUST_CHECK;

/* The server's end. */
struct fs_line {
    int fd;         /* -1: there is no holder */
    int staging_fd; /* what an earlier server kept as FS_LINE_STAGING, or -1 */
};

/* Say that the source is open, and wait for the device (given).
 * Errors: BASE_IO  it was not mounted, or the holder died */
enum base_code fs_line_get_device(const struct fs_line *line,
                                  int *ret_fd,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Let the holder hold @fd (borrowed) as well.  Returns an id for fs_line_drop;
 * 0: it does not, and only this server's life is covered. */
uint64_t fs_line_keep(const struct fs_line *line, int fd);
void fs_line_drop(const struct fs_line *line, uint64_t id); /* 0 is fine */
/* The same for the lock of a job's staging: it is in the next server's
 * staging_fd. */
void fs_line_keep_staging(const struct fs_line *line, int fd);

#endif
