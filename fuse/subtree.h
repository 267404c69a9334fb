/* A subtree: the files of one layout of one version.  Immutable once made, but
 * for what fuse/view_cache.c keeps in its files. */
#ifndef FUSE_SUBTREE_H
#define FUSE_SUBTREE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/hash.h"
#include "store/source.h"
#include "store/target.h"

#define FS_SUBTREE_MAX_NODES (UINT32_C(1) << 30)

struct ptc_view;

/* What fuse/view_cache.c knows of one file. */
struct fs_file {
    atomic_uint_fast64_t size_plus_1; /* 0: not known yet */
    /* Changed under the cache's lock; stays as it is while n_users > 0. */
    _Atomic(const struct ptc_view *) view;
    uint32_t n_users; /* guarded by the cache's lock, as all below */
    bool is_building;
    /* See fuse/whole.h; found at the first use. */
    const struct store_blob *whole;
    bool is_whole_known;
    struct fs_file *older; /* among the unused ones that have a view */
    struct fs_file *newer;
};

struct fs_subtree {
    char *name;                      /* "", "hf", "npy", "as/SPEC" */
    struct store_target *own_target; /* NULL: somebody else's */
    const struct store_target *target;
    struct store_tree *tree;
    struct base_digest layout; /* of the canonical spec */
    struct fs_file *files;     /* one per node of the tree */
};

void fs_subtree_free(struct fs_subtree *subtree); /* not its views */
BASE_AUTO_DEFINE(fs_subtree);

/* @spec (taken on success) says what is shown of @source. */
enum base_code fs_subtree_create(const struct store_source *source,
                                 const char *name,
                                 struct ptc_spec **spec,
                                 enum store_tree_kind kind,
                                 struct fs_subtree **ret,
                                 struct base_err *err) BASE_MUST_CHECK;
/* The same of a target that is there already (borrowed). */
enum base_code fs_subtree_create_of(const struct store_target *target,
                                    const char *name,
                                    enum store_tree_kind kind,
                                    struct fs_subtree **ret,
                                    struct base_err *err) BASE_MUST_CHECK;

#endif
