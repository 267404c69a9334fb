/* The nodes of a mount: fixed ones, and the trees of the layouts shown.
 *
 *   /               the source's own layout: layout.yaml, NAME, ranks/
 *   /hf /npy        every group whole; each tensor            (made when used)
 *   /as/SPEC        any layout                                (made when named)
 *   /.retile        status, events
 *
 * A node's number is version << 40 | subtree << 30 | index: nothing need be
 * remembered to answer for it, and it never changes its meaning.  A mounted
 * directory has one version, 1; the root is FUSE's 1.  Subtrees are made when
 * first needed and stay until the mount ends; there are at most FS_AS_MAX
 * below as/.
 *
 * Any thread.  Subtrees are immutable once published (an atomic pointer). */
#ifndef FUSE_TREE_H
#define FUSE_TREE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/hash.h"
#include "store/source.h"
#include "store/target.h"

#define FS_AS_MAX   256
#define FS_ROOT_INO 1

enum fs_kind {
    FS_DIR,
    FS_TEXT,   /* node->text */
    FS_OBJECT, /* node->object */
    FS_FILE,   /* tensors; see fuse/view_cache.h */
    FS_STATUS, /* .retile/status */
    FS_EVENTS, /* .retile/events */
};

struct ptc_view;

/* What fuse/view_cache.c knows of one file. */
struct fs_file {
    atomic_uint_fast64_t size_plus_1; /* 0: not known yet */
    /* Changed under the cache's lock; stays as it is while n_users > 0. */
    _Atomic(const struct ptc_view *) view;
    uint32_t n_users; /* guarded by the cache's lock, as all below */
    bool is_building;
    struct fs_file *older; /* among the unused ones that have a view */
    struct fs_file *newer;
};

struct fs_subtree {
    char *name;                      /* "", "hf", "npy", "as/SPEC" */
    struct store_target *own_target; /* NULL: the tree's */
    const struct store_target *target;
    struct store_tree *tree;
    struct base_digest layout; /* of the canonical spec */
    struct fs_file *files;     /* one per node of the tree */
};

struct fs_node {
    uint64_t ino;
    enum fs_kind kind;
    uint32_t slot;                    /* which subtree */
    uint32_t idx;                     /* in it */
    const struct fs_subtree *subtree; /* NULL: fixed, or not made yet */
    const struct store_node *node;    /* NULL with it */
};

struct fs_tree;
void fs_tree_free(struct fs_tree *tree);
BASE_AUTO_DEFINE(fs_tree);

/* Borrows @source; makes the root's subtree. */
enum base_code fs_tree_create(const struct store_source *source,
                              struct fs_tree **ret,
                              struct base_err *err) BASE_MUST_CHECK;

/* Show the spec @text (a YAML file, a short form) as as/@name.  For start-up;
 * a lookup of as/SHORTFORM does the same by itself.
 * Errors: BASE_BAD_ARG (the name), those of the spec and the layout,
 *         BASE_LIMIT  there are FS_AS_MAX already */
enum base_code fs_tree_add_layout(struct fs_tree *tree,
                                  struct base_str name,
                                  const char *text,
                                  struct base_err *err) BASE_MUST_CHECK;

/* The node with that number.  Errors: BASE_NOT_FOUND */
enum base_code fs_tree_node(struct fs_tree *tree,
                            uint64_t ino,
                            struct fs_node *ret,
                            struct base_err *err) BASE_MUST_CHECK;

/* The child of @dir with that name.  Errors: BASE_NOT_FOUND; in as/ also what
 * is wrong with a spec, and everywhere what prevents a subtree's making. */
enum base_code fs_tree_child(struct fs_tree *tree,
                             const struct fs_node *dir,
                             struct base_str name,
                             struct fs_node *ret,
                             struct base_err *err) BASE_MUST_CHECK;

/* The first child of @dir at or after @position (from 0).  *ret_next is where
 * to go on; false when there is none.  @dir must be prepared. */
bool fs_tree_list(struct fs_tree *tree,
                  const struct fs_node *dir,
                  uint64_t position,
                  struct base_str *ret_name,
                  struct fs_node *ret,
                  uint64_t *ret_next);

/* Make the subtree that @dir is the root of, when it is not there yet; fills
 * in dir->subtree. */
enum base_code fs_tree_prepare(struct fs_tree *tree,
                               struct fs_node *dir,
                               struct base_err *err) BASE_MUST_CHECK;

/* Is the list of names in @dir the same for ever?  (Not in as/.) */
bool fs_node_is_fixed(const struct fs_node *node);
/* Is @node the directory as/? */
bool fs_node_is_as(const struct fs_node *node);

/* Append the path below the mountpoint; "." for its root. */
void fs_node_path(const struct fs_node *node, struct base_buf *buf);

/* Visit the subtrees that exist. */
typedef void (*fs_subtree_fn)(void *ctx, const struct fs_subtree *subtree);
void fs_tree_each(struct fs_tree *tree, fs_subtree_fn fn, void *ctx);

#endif
