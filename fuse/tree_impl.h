/* What the tree's files share: nodes' numbers, and the names that we give. */
#ifndef FUSE_TREE_IMPL_H
#define FUSE_TREE_IMPL_H

#include "fuse/tree.h"

/* Nodes of the mount, indices in FS_SLOT_MOUNT. */
enum fs_fixed {
    FS_FIXED_ROOT = FS_ROOT_INO,
    FS_FIXED_VERSIONS,
    FS_FIXED_CURRENT,
    FS_FIXED_RETILE,
    FS_FIXED_STATUS,
    FS_FIXED_EVENTS,
    FS_FIXED_GEN,
    FS_FIXED_GEN_CURRENT,
    FS_N_FIXED,
};

/* Those of a generation: its number << FS_GEN_SHIFT | one of these. */
enum fs_gen_part { FS_GEN_DIR, FS_GEN_LOAD, FS_GEN_SAVE, FS_GEN_REQUEST };

enum { FS_VERSION_SHIFT = 40, FS_SLOT_SHIFT = 30, FS_GEN_SHIFT = 4 };

_Static_assert(FS_SUBTREE_MAX_NODES <= UINT32_C(1) << FS_SLOT_SHIFT &&
                   FS_N_SLOTS <= 1 << (FS_VERSION_SHIFT - FS_SLOT_SHIFT),
               "a node's number has room for slots and indices");
_Static_assert(FS_MAX_GENERATION >> (FS_SLOT_SHIFT - FS_GEN_SHIFT) == 0,
               "and for generations");
_Static_assert(FS_MAX_VERSION < FS_SAVED_BIT >> FS_VERSION_SHIFT,
               "a version's node is no saved file");
_Static_assert((int)FS_N_FIXED <= 1 << FS_GEN_SHIFT,
               "the first generation comes after the fixed nodes");

static inline uint64_t fs_ino_of(uint64_t version, uint32_t slot, uint32_t idx)
{
    return version << FS_VERSION_SHIFT | (uint64_t)slot << FS_SLOT_SHIFT | idx;
}

static inline bool fs_node_is_at(const struct fs_node *node, enum fs_fixed idx)
{
    return node->slot == FS_SLOT_MOUNT && node->idx == (uint32_t)idx;
}

/* Is @node part @part of a generation? */
static inline bool fs_node_is_gen(const struct fs_node *node,
                                  enum fs_gen_part part)
{
    return node->generation != 0 &&
           (node->idx & ((1u << FS_GEN_SHIFT) - 1)) == (uint32_t)part;
}

/* Names that we give: in the mount's root, in .retile/, in gen/G/ and in a
 * version's root, where they win over objects called so. */
struct fs_given {
    struct base_str name;
    uint32_t slot;
    uint32_t idx; /* below a generation: the part */
};

struct fs_given_list {
    const struct fs_given *items;
    size_t n;
};

extern const struct fs_given_list fs_version_names;

struct fs_given_list fs_names_in(const struct fs_node *dir);
const struct fs_given *fs_given_find(struct fs_given_list list,
                                     struct base_str name);
struct fs_node fs_given_node(const struct fs_node *dir,
                             const struct fs_given *given);

/* None of these holds anything. */
struct fs_node fs_fixed_node(enum fs_fixed idx);
struct fs_node fs_gen_node(uint64_t generation, enum fs_gen_part part);
/* @slot may be one whose subtree is not made yet: then @idx is 0. */
struct fs_node
fs_version_node(struct fs_version *version, uint32_t slot, uint32_t idx);
/* Fill in what is known once the subtree of the node's slot is made. */
void fs_node_set_subtree(struct fs_node *node);

const char *fs_fixed_path(uint32_t idx);

#endif
