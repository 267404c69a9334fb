/* One version of a state, open: its source, the maps of its blobs, and the
 * subtrees of the layouts asked for.  Subtrees are made when first needed and
 * stay as long as the version is open; there are at most FS_AS_MAX below as/.
 *
 * Any thread.  Who uses a version holds it: see fuse/versions.h. */
#ifndef FUSE_VERSION_H
#define FUSE_VERSION_H

#include <pthread.h>
#include <time.h>

#include "fuse/idle.h"
#include "fuse/subtree.h"
#include "store/gather.h"

#define FS_AS_MAX 256

/* Parts of a version, in its nodes' numbers. */
enum fs_slot {
    FS_SLOT_MOUNT, /* of no version: see fuse/tree.c */
    FS_SLOT_OWN,   /* its own layout; the root is the version's */
    FS_SLOT_HF,
    FS_SLOT_NPY,
    FS_SLOT_AS_DIR, /* the directory as/: has no subtree */
    FS_SLOT_AS,     /* and on: as/SPEC, in order of making */
    FS_N_SLOTS = FS_SLOT_AS + FS_AS_MAX,
    FS_SLOT_SAVED = FS_N_SLOTS, /* of no version: see fuse/saves.h */
};

struct fs_kept_version;

struct fs_version {
    uint64_t number;
    bool is_at_root; /* shown at the mount's root, else as versions/NUMBER */
    struct store_source *source;
    struct store_maps *maps;
    struct store_verify *verify; /* -o verify=read; else NULL */
    struct timespec time;        /* everybody's mtime */
    uint64_t step;        /* of the training job; UINT64_MAX: not known */
    bool is_saved;        /* by training ranks, not made from another */
    pthread_mutex_t lock; /* held while a subtree is made */
    struct fs_kept_version *kept; /* in the handover; NULL: it had no room */
    struct store_target *whole;   /* of hf/ and npy/; guarded by lock */
    /* Set once, under the lock; immutable from then on. */
    _Atomic(struct fs_subtree *) slots[FS_N_SLOTS];
    /* Of fuse/versions.c, guarded by its lock. */
    uint64_t n_holds;
    bool is_renewed;      /* another took its place, with the same blobs */
    uint64_t n_lookups;   /* of nodes, by the kernel; a hold each */
    uint64_t n_handles;   /* a hold each */
    uint64_t line_id;     /* of its lock, kept by the holder */
    uint64_t n_uses;      /* requests so far, and when it was last visited */
    uint64_t n_uses_seen; /* by fs_versions_idle */
    struct fs_idle idle;  /* owner: the watch thread */
    struct fs_version *next;
};

/* Makes the subtree of the version's own layout.  @source is taken on
 * success. */
enum base_code fs_version_create(uint64_t number,
                                 struct store_source **source,
                                 struct fs_version **ret,
                                 struct base_err *err) BASE_MUST_CHECK;
void fs_version_free(struct fs_version *version);
BASE_AUTO_DEFINE(fs_version);

/* Make the subtree of @slot when it is one of hf/ and npy/ and not there. */
enum base_code fs_version_prepare(struct fs_version *version,
                                  uint32_t slot,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Show the spec @text (a YAML file, a short form) as as/@name.
 * Errors: BASE_BAD_ARG (the name), those of the spec and the layout,
 *         BASE_LIMIT  there are FS_AS_MAX already */
enum base_code fs_version_add_layout(struct fs_version *version,
                                     struct base_str name,
                                     const char *text,
                                     struct base_err *err) BASE_MUST_CHECK;

/* The slot of as/@name, which is made when it is a short form.
 * Errors: BASE_NOT_FOUND, and what is wrong with a spec */
enum base_code fs_version_find_as(struct fs_version *version,
                                  struct base_str name,
                                  uint32_t *ret_slot,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Be @kept, which is @version's own; what layouts an earlier server showed below
 * as/ are shown in the same slots.
 * Errors: BASE_CHANGED  one of them is not what it was (-o layout) */
enum base_code fs_version_set_kept(struct fs_version *version,
                                   struct fs_kept_version *kept,
                                   struct base_err *err) BASE_MUST_CHECK;

/* A subtree's name within as/. */
struct base_str fs_as_name(const struct fs_subtree *subtree);

/* Visit the subtrees that exist. */
typedef void (*fs_subtree_fn)(void *ctx, const struct fs_subtree *subtree);
void fs_version_each(struct fs_version *version, fs_subtree_fn fn, void *ctx);

#endif
