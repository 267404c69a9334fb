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
#include "base/hash.h"
#include "fuse/fuse_compat.h"
#include "fuse/generation.h"

/* Most of each, at a time.  What is beyond does not outlive its server. */
#define FS_HANDOVER_NODES    16384u /* that have open handles */
#define FS_HANDOVER_VERSIONS 64u
#define FS_HANDOVER_LAYOUTS  256u /* of a version, below as/ */
#define FS_HANDOVER_ONCES    256u

#define FS_HANDOVER_CLOSES 16u /* attempts */

#define FS_REQUEST_BYTES 4096u /* of gen/G/request, and its NUL */

/* A node that has open handles. */
struct fs_open_node {
    atomic_uint_fast64_t ino; /* 0: free; written last */
    atomic_uint_fast32_t backing_id;
    atomic_uint_fast32_t n_handles;
};

struct fs_kept_layout {
    char name[256]; /* within as/ */
    struct base_digest layout;
};

/* A version that is open: what the kernel knows of it. */
struct fs_kept_version {
    atomic_uint_fast64_t number; /* 0: free; written last */
    atomic_uint_fast64_t n_lookups;
    atomic_uint_fast64_t n_handles;
    atomic_uint_fast32_t n_layouts;
    struct fs_kept_layout layouts[FS_HANDOVER_LAYOUTS]; /* in order of slots */
};

/* A request that is being served. */
struct fs_once_slot {
    atomic_uint_fast64_t unique; /* 0: free */
    atomic_uint_fast32_t incarnation;
    atomic_bool is_counted;
};

struct fs_handover {
    atomic_uint incarnation;     /* which server it is, from 1 */
    atomic_uint_fast64_t source; /* of a mounted directory: a digest of what its
                                    files were when they were first opened */
    char reason[96];             /* the holder's: why the last server ended */
    struct fs_saved_init init;
    struct fs_once_slot onces[FS_HANDOVER_ONCES];
    struct fs_kept_version versions[FS_HANDOVER_VERSIONS];
    struct fs_open_node nodes[FS_HANDOVER_NODES];
    /* There was no slot for a node: it has handles that are not counted. */
    atomic_bool was_full;
    /* One is written while the other is the valid one. */
    struct fs_generations generations[2];
    atomic_uint generations_at; /* 1 + index of the valid one; 0: none */
    char requests[2][FS_REQUEST_BYTES]; /* the same */
    atomic_uint requests_at;
    /* Attempts of which nothing comes, which the agent was not told yet; 0:
     * free.  The agent's lock. */
    atomic_uint_fast64_t closes[FS_HANDOVER_CLOSES];
};

/* New memory, zeroed; processes that are forked from this one share it. */
enum base_code fs_handover_create(struct fs_handover **ret,
                                  struct base_err *err) BASE_MUST_CHECK;
void fs_handover_free(struct fs_handover *handover); /* unmaps */
BASE_AUTO_DEFINE(fs_handover);

/* Begin to be its server. */
void fs_handover_enter(struct fs_handover *handover);

/* The versions: find, or take a free one; NULL: there is none.  One thread at a
 * time. */
struct fs_kept_version *fs_handover_version(struct fs_handover *handover,
                                            uint64_t number);
void fs_handover_drop_version(struct fs_kept_version *kept); /* NULL is fine */

/* What a request counts it counts once, though it comes again when its server
 * died: it is known by its number @unique (0: none).  Where the server dies
 * between the two steps, a count is rather too high than too low. */
struct fs_once {
    struct fs_once_slot *slot; /* NULL: unknown */
    bool is_counted;           /* an earlier server counted it */
};
struct fs_once fs_once_begin(struct fs_handover *handover, uint64_t unique);
/* Before what it does lowers a count, or after what raises one. */
void fs_once_count(struct fs_once *once);
void fs_once_end(struct fs_once *once); /* after the reply */
#define FS_AUTO_ONCE __attribute__((cleanup(fs_once_end))) struct fs_once

/* The generations.  One thread at a time. */
void fs_handover_keep(struct fs_handover *handover,
                      const struct fs_generations *all);
/* What was kept last, by whomever; NULL: nothing. */
const struct fs_generations *
fs_handover_generations(const struct fs_handover *handover);

/* What the current generation is asked for, in the same way; what does not fit
 * is cut off.  "": nothing. */
void fs_handover_ask(struct fs_handover *handover, const char *request);
const char *fs_handover_asked(const struct fs_handover *handover);

/* Is @attempt among those that the agent is to be told of? */
bool fs_handover_closes(const struct fs_handover *handover, uint64_t attempt);

#endif
