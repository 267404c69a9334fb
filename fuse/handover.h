/* The handover: what a server leaves to the one that follows it when it dies.
 *
 * A small memory that the holder (fuse/holder.h) owns and every server of the
 * mount maps.  One server at a time writes it; the next one finds it as it was
 * at any instant of the last one's life, so each change is one store of an
 * atomic, or ordered so that what is half done is harmless.
 *
 * Without a holder it is memory of the process, and all works the same. */
#ifndef FUSE_HANDOVER_H
#define FUSE_HANDOVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"
#include "fuse/generation.h"

#define FS_HANDOVER_NODES 16384u /* that have open handles, at a time */

/* A node that has open handles. */
struct fs_open_node {
    atomic_uint_fast64_t ino; /* 0: free; written last */
    atomic_uint_fast32_t backing_id;
    atomic_uint_fast32_t n_handles;
    atomic_uint_fast32_t n_writers; /* of them */
};

struct fs_handover {
    struct fs_open_node nodes[FS_HANDOVER_NODES];
    /* One is written while the other is the valid one. */
    struct fs_generations generations[2];
    atomic_uint generations_at; /* 1 + index of the valid one; 0: none */
};

/* New memory, zeroed.  *ret_fd is given: it is what others map. */
enum base_code fs_handover_create(int *ret_fd,
                                  struct fs_handover **ret,
                                  struct base_err *err) BASE_MUST_CHECK;
void fs_handover_free(struct fs_handover *handover); /* unmaps */
BASE_AUTO_DEFINE(fs_handover);

/* One thread at a time. */
void fs_handover_keep(struct fs_handover *handover,
                      const struct fs_generations *all);
/* What was kept last, by whomever; NULL: nothing. */
const struct fs_generations *
fs_handover_generations(const struct fs_handover *handover);

#endif
