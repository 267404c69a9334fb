/* The read path: from a node and a range to the bytes of a reply.
 *
 * Long runs are answered straight out of mapped source files, short ones are
 * gathered into this thread's scratch memory; nothing is allocated after a
 * thread's first read. */
#ifndef FUSE_SERVE_H
#define FUSE_SERVE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "fuse/fs.h"

/* A reply.  Valid until this thread's next one. */
struct fs_answer {
    const struct iovec *iov;
    uint32_t n_iov;
    uint64_t n_bytes;
};

/* Read at most @n_bytes of @node at @offset: fewer only at its end.  A FS_FILE
 * is in use (fs_views_use).  @snapshot is the text of a FS_STATUS or FS_EVENTS,
 * taken when it was opened.
 * Errors: BASE_MISMATCH  the version's bytes are not those of their digests
 *         BASE_CHANGED, BASE_IO  a source file is not as it was, or unreadable
 *         BASE_NO_MEM, BASE_BAD_ARG */
enum base_code fs_serve(const struct fs_node *node,
                        struct base_str snapshot,
                        uint64_t offset,
                        size_t n_bytes,
                        struct fs_answer *ret,
                        struct base_err *err) BASE_MUST_CHECK;

/* This thread's memory for a reply: FS_MAX_READ bytes, page aligned.  NULL: no
 * memory. */
void *fs_serve_scratch(void);

#endif
