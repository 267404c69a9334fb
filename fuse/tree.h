/* The nodes of a mount: a few fixed ones, and the trees of versions' layouts.
 *
 *   a version:
 *   /               its own layout: layout.yaml, NAME, ranks/
 *   /hf /npy        every group whole; each tensor            (made when used)
 *   /as/SPEC        any layout                                (made when named)
 *
 *   a mounted directory: its version at the root, and
 *   /.retile        status, events
 *
 *   a mounted job of a store:
 *   /versions/7     a version
 *   /current        a link to the highest one
 *   /gen/2/load     a link to what generation 2 starts from
 *   /gen/2/save     what it saves; below it, see fuse/saves.h
 *   /gen/2/request  what it is asked for; under an agent
 *   /gen/current    a link to the newest one
 *   /.retile        status, events
 *
 * A node's number is version << 40 | slot << 30 | index; it never changes its
 * meaning.  What belongs to no version has version 0; the root is FUSE's 1, and
 * the parts of a generation have generation << 4 | part as their index.
 *
 * Any thread. */
#ifndef FUSE_TREE_H
#define FUSE_TREE_H

#include <stdint.h>

#include "fuse/saves.h"
#include "fuse/versions.h"

#define FS_ROOT_INO 1

enum fs_kind {
    FS_DIR,
    FS_TEXT,    /* node->text */
    FS_OBJECT,  /* node->object */
    FS_FILE,    /* tensors; see fuse/view_cache.h */
    FS_LINK,    /* see fs_node_target */
    FS_STATUS,  /* .retile/status */
    FS_EVENTS,  /* .retile/events */
    FS_REQUEST, /* gen/G/request; see fuse/agent.h */
};

struct fs_node {
    uint64_t ino;
    enum fs_kind kind;
    uint32_t slot;                    /* which subtree */
    uint32_t idx;                     /* in it */
    struct fs_versions *holder;       /* of the version; NULL: not held */
    struct fs_version *version;       /* NULL: of none, or not opened */
    const struct fs_subtree *subtree; /* NULL: fixed, or not made yet */
    const struct store_node *node;    /* NULL with it */
    uint64_t *numbers;                /* of versions/, once prepared; owned */
    size_t n_numbers;
    uint64_t generation;   /* that it is a part of; 0: of none */
    bool has_load;         /* of gen/G: it loads something; of the mount's root,
                              once prepared: there is a current version */
    bool has_request;      /* of gen/G: there is an agent */
    struct fs_step *steps; /* of gen/G/save, once prepared; owned */
    size_t n_steps;
};

/* Gives up what the node holds.  A zeroed node is fine. */
void fs_node_done(struct fs_node *node);
#define FS_AUTO_NODE __attribute__((cleanup(fs_node_done))) struct fs_node

/* The node with that number; it holds its version until fs_node_done.
 * Errors: BASE_NOT_FOUND */
enum base_code fs_tree_node(struct fs_versions *versions,
                            uint64_t ino,
                            struct fs_node *ret,
                            struct base_err *err) BASE_MUST_CHECK;

/* The child of @dir with that name, which holds its version, too; a version is
 * opened when it is not.  Errors: BASE_NOT_FOUND; in as/ also what is wrong
 * with a spec, and everywhere what prevents a version's or subtree's making. */
enum base_code fs_tree_child(struct fs_versions *versions,
                             const struct fs_node *dir,
                             struct base_str name,
                             struct fs_node *ret,
                             struct base_err *err) BASE_MUST_CHECK;

/* Make @dir ready to be listed: the subtree that it is the root of is made,
 * the store is asked for its versions. */
enum base_code fs_tree_prepare(struct fs_versions *versions,
                               struct fs_node *dir,
                               struct base_err *err) BASE_MUST_CHECK;

#define FS_NAME_BYTES 32 /* a name that is made here: a number, "100.tmp" */

/* The first child of @dir (prepared) at or after @position (from 0).  *ret_next
 * is where to go on; false when there is none.  *ret holds nothing: it is as
 * good as @dir.  *ret_name may point into @room. */
bool fs_tree_list(const struct fs_node *dir,
                  uint64_t position,
                  char room[FS_NAME_BYTES],
                  struct base_str *ret_name,
                  struct fs_node *ret,
                  uint64_t *ret_next);

/* Where a FS_LINK points to, now. */
#define FS_TARGET_BYTES (sizeof("../../versions/") + FS_NAME_BYTES)
enum base_code fs_node_target(struct fs_versions *versions,
                              const struct fs_node *link,
                              char ret[FS_TARGET_BYTES],
                              struct base_err *err) BASE_MUST_CHECK;

/* Are names in @dir, and what they mean, the same for ever?  Not in as/,
 * versions/, gen/ and gen/G/save/. */
bool fs_node_is_fixed(const struct fs_node *node);
/* May the kernel remember the name of this node, and of what is not in it?
 * Not in a version that may be closed, nor `current`. */
bool fs_node_is_kept(const struct fs_node *node);
/* Is @node a directory as/? */
bool fs_node_is_as(const struct fs_node *node);
/* Is it a directory gen/G/save (of node->generation)?  Its children are those
 * of fuse/saves.h, and not found by fs_tree_child; who lists it sets its steps
 * (ascending). */
bool fs_node_is_save(const struct fs_node *node);

/* Visit all directories and files of @version, a store's: the number of each
 * one's parent, and its name there.  (A file that was being opened when the
 * name of its directory was forgotten keeps that; so it is named, too.) */
typedef void (*fs_name_fn)(void *ctx, uint64_t parent, struct base_str name);
void fs_tree_each_name(struct fs_version *version, fs_name_fn fn, void *ctx);

/* Append the path below the mountpoint; "." for its root. */
void fs_node_path(const struct fs_node *node, struct base_buf *buf);

#endif
