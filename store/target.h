/* A target: a layout under which a source is shown, and the tree of files that
 * shows it.  `retile convert` writes that tree, the mount answers from it; so
 * the two are byte-identical.
 *
 * A target that declares ties which the source's table lacks has a table and
 * pieces of its own.  Immutable once opened; any thread; borrows the source. */
#ifndef STORE_TARGET_H
#define STORE_TARGET_H

#include <stdint.h>

#include "ptc/file.h"
#include "ptc/layout.h"
#include "ptc/pieces.h"
#include "store/source.h"

struct store_target;
void store_target_free(struct store_target *target);
BASE_AUTO_DEFINE(store_target);

/* Reads tensor data only where @spec (taken on success) or the source's spec
 * ties tensors that have bytes of their own in the source: these must be equal.
 * Those that files of the source themselves call tied are taken to be.
 * Errors: those of ptc_layout_create; BASE_MISMATCH for such a tie that is not,
 * and for a rank's object whose coordinate did not exist (on_change refuse). */
enum base_code store_target_open(const struct store_source *source,
                                 struct ptc_spec **spec,
                                 struct store_target **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

const struct ptc_table *store_target_table(const struct store_target *target);
const struct ptc_layout *store_target_layout(const struct store_target *target);
const struct ptc_pieces *store_target_pieces(const struct store_target *target);

/* Rank objects of the source that the target does not show, for people:
 * "ranks/003/rng.json".  What `hf` means shows none. */
uint32_t store_target_n_dropped(const struct store_target *target);
const char *store_target_dropped(const struct store_target *target,
                                 uint32_t idx);

/* The tree.  Node 0 is its root; children of a directory are consecutive and
 * sorted by name. */
enum store_node_kind {
    STORE_NODE_DIR,
    STORE_NODE_TEXT,   /* bytes made here: layout.yaml, an index */
    STORE_NODE_OBJECT, /* a blob of the source, as it is */
    STORE_NODE_FILE,   /* tensors: a ptc_file */
};

struct store_node {
    struct base_str name; /* NUL-terminated; "" for the root */
    enum store_node_kind kind;
    uint32_t parent;
    uint32_t child_begin; /* children of a directory */
    uint32_t child_end;
    struct base_str text;            /* of STORE_NODE_TEXT */
    const struct store_blob *object; /* of STORE_NODE_OBJECT */
    uint32_t recipe_[3];             /* of STORE_NODE_FILE: the tree's own */
};

struct store_tree;
void store_tree_free(struct store_tree *tree);
BASE_AUTO_DEFINE(store_tree);

enum store_tree_kind {
    STORE_TREE_RANKS, /* layout.yaml NAME ranks/RRR/{GROUP.safetensors,NAME} */
    STORE_TREE_HF,    /* GROUP.safetensors[.index.json] ... NAME */
    STORE_TREE_NPY,   /* NAME.npy (no sub-byte tensors) */
};

/* Borrows @target.  STORE_TREE_HF and _NPY need a target whose spec is whole. */
enum base_code store_tree_create(const struct store_target *target,
                                 enum store_tree_kind kind,
                                 struct store_tree **ret,
                                 struct base_err *err) BASE_MUST_CHECK;
uint32_t store_tree_n_nodes(const struct store_tree *tree);
const struct store_node *store_tree_node(const struct store_tree *tree,
                                         uint32_t idx);
/* The child of @dir with that name, or PTC_NONE. */
uint32_t store_tree_child(const struct store_tree *tree,
                          uint32_t dir,
                          struct base_str name);
/* The shown file of a STORE_NODE_FILE: made anew at each call, given. */
enum base_code store_tree_file(const struct store_tree *tree,
                               uint32_t idx,
                               struct ptc_file **ret,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
