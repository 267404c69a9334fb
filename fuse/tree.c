#include "fuse/tree.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "ptc/preset.h"

enum slot {
    SLOT_FIXED, /* indices: enum fixed */
    SLOT_OWN,   /* the source's own layout; its root is the mount's */
    SLOT_HF,
    SLOT_NPY,
    SLOT_AS, /* and on: as/SPEC, in order of making */
    N_SLOTS = SLOT_AS + FS_AS_MAX,
};

enum fixed { FIXED_ROOT, FIXED_AS, FIXED_RETILE, FIXED_STATUS, FIXED_EVENTS };

enum {
    VERSION = 1, /* of a directory's only state */
    VERSION_SHIFT = 40,
    SLOT_SHIFT = 30,
};

struct fs_tree {
    const struct store_source *source;
    pthread_mutex_t lock;       /* held while a subtree is made */
    struct store_target *whole; /* of hf/ and npy/; guarded by lock */
    /* Set once, under the lock; immutable from then on. */
    _Atomic(struct fs_subtree *) slots[N_SLOTS];
};

/* The names that we add to the root; they win over objects called so. */
static const struct {
    struct base_str name;
    enum slot slot;
    uint32_t idx;
} root_names[] = {
    {{".retile", 7}, SLOT_FIXED, FIXED_RETILE},
    {{"as", 2}, SLOT_FIXED, FIXED_AS},
    {{"hf", 2}, SLOT_HF, 0},
    {{"npy", 3}, SLOT_NPY, 0},
};

enum { N_ROOT_NAMES = sizeof(root_names) / sizeof(root_names[0]) };

static const struct {
    struct base_str name;
    enum fixed idx;
} retile_names[] = {
    {{"status", 6}, FIXED_STATUS},
    {{"events", 6}, FIXED_EVENTS},
};

enum { N_RETILE_NAMES = sizeof(retile_names) / sizeof(retile_names[0]) };

/* Subtrees. */

static void subtree_free(struct fs_subtree *subtree)
{
    if (subtree == NULL) {
        return;
    }
    free(subtree->files); /* their views are the cache's */
    store_tree_free(subtree->tree);
    store_target_free(subtree->own_target);
    free(subtree->name);
    free(subtree);
}

static void subtree_free_slot(struct fs_subtree **slot)
{
    subtree_free(*slot);
}

#define AUTO_SUBTREE                                                           \
    __attribute__((cleanup(subtree_free_slot))) struct fs_subtree *

/* Make the tree over subtree->target.  *subtree is completed. */
static enum base_code subtree_fill(struct fs_subtree *subtree,
                                   enum store_tree_kind kind,
                                   struct base_err *err)
{
    const struct ptc_layout *layout = store_target_layout(subtree->target);
    uint32_t n_nodes;

    BASE_TRY(ptc_spec_digest(ptc_layout_spec(layout), &subtree->layout, err));
    BASE_TRY(store_tree_create(subtree->target, kind, &subtree->tree, err));
    n_nodes = store_tree_n_nodes(subtree->tree);
    if (n_nodes >= UINT32_C(1) << SLOT_SHIFT) {
        return base_fail(err, BASE_LIMIT, "%s: %u files are too many",
                         subtree->name, n_nodes);
    }
    subtree->files = calloc(n_nodes, sizeof(*subtree->files));
    if (subtree->files == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot show %u files", n_nodes);
    }
    return BASE_OK;
}

/* @spec (taken on success) or else @target (borrowed) says what is shown. */
static enum base_code subtree_create(const struct store_source *source,
                                     const char *name,
                                     struct ptc_spec **spec,
                                     const struct store_target *target,
                                     enum store_tree_kind kind,
                                     struct fs_subtree **ret,
                                     struct base_err *err)
{
    AUTO_SUBTREE subtree = calloc(1, sizeof(*subtree));

    if (subtree == NULL || (subtree->name = strdup(name)) == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot show %s", name);
    }
    subtree->target = target;
    if (spec != NULL) {
        BASE_TRY(store_target_open(source, spec, &subtree->own_target, err));
        subtree->target = subtree->own_target;
    }
    BASE_TRY(subtree_fill(subtree, kind, err));
    *ret = base_steal(&subtree);
    return BASE_OK;
}

/* A copy of the source's own spec, through its canonical text. */
static enum base_code own_spec(const struct ptc_layout *layout,
                               struct ptc_spec **ret,
                               struct base_err *err)
{
    BASE_AUTO_BUF text;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    BASE_TRY(ptc_spec_format(ptc_layout_spec(layout), &text, err));
    return ptc_spec_parse(base_buf_str(&text), "layout.yaml", ret, err);
}

static enum base_code make_own(struct fs_tree *tree, struct base_err *err)
{
    const struct ptc_layout *layout = store_source_layout(tree->source);
    BASE_AUTO(ptc_spec) spec = NULL;
    struct fs_subtree *subtree = NULL;

    if (layout == NULL) {
        return BASE_OK; /* pieces without a layout: only hf/, npy/, as/ */
    }
    BASE_TRY(own_spec(layout, &spec, err));
    BASE_TRY(subtree_create(tree->source, "", &spec, NULL, STORE_TREE_RANKS,
                            &subtree, err));
    tree->slots[SLOT_OWN] = subtree;
    return BASE_OK;
}

/* hf/ or npy/.  Lock held. */
static enum base_code
make_whole(struct fs_tree *tree, enum slot slot, struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct fs_subtree *subtree = NULL;

    if (tree->whole == NULL) {
        BASE_TRY(ptc_spec_whole(&spec, err));
        BASE_TRY(store_target_open(tree->source, &spec, &tree->whole, err));
    }
    BASE_TRY(subtree_create(
        tree->source, slot == SLOT_HF ? "hf" : "npy", NULL, tree->whole,
        slot == SLOT_HF ? STORE_TREE_HF : STORE_TREE_NPY, &subtree, err));
    tree->slots[slot] = subtree;
    return BASE_OK;
}

static void unlock(pthread_mutex_t **lock)
{
    (void)pthread_mutex_unlock(*lock);
}

/* Hold a lock until the end of the scope. */
#define LOCKED(mutex)                                                          \
    __attribute__((cleanup(unlock))) pthread_mutex_t *locked_ = (mutex);       \
    (void)pthread_mutex_lock(locked_)

enum base_code
fs_tree_prepare(struct fs_tree *tree, struct fs_node *dir, struct base_err *err)
{
    if (dir->subtree == NULL &&
        (dir->slot == SLOT_HF || dir->slot == SLOT_NPY)) {
        LOCKED(&tree->lock);
        if (tree->slots[dir->slot] == NULL) {
            BASE_TRY(make_whole(tree, (enum slot)dir->slot, err));
        }
    }
    if (dir->slot != SLOT_FIXED) {
        dir->subtree = tree->slots[dir->slot];
        if (dir->subtree != NULL) {
            dir->node = store_tree_node(dir->subtree->tree, dir->idx);
        }
    }
    return BASE_OK;
}

enum base_code fs_tree_create(const struct store_source *source,
                              struct fs_tree **ret,
                              struct base_err *err)
{
    BASE_AUTO(fs_tree) tree = calloc(1, sizeof(*tree));

    if (tree == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot make the tree of files");
    }
    tree->source = source;
    (void)pthread_mutex_init(&tree->lock, NULL); /* never fails here */
    BASE_TRY(make_own(tree, err));
    *ret = base_steal(&tree);
    return BASE_OK;
}

void fs_tree_free(struct fs_tree *tree)
{
    size_t i;

    if (tree == NULL) {
        return;
    }
    for (i = 0; i < N_SLOTS; i++) {
        subtree_free(tree->slots[i]);
    }
    store_target_free(tree->whole);
    (void)pthread_mutex_destroy(&tree->lock);
    free(tree);
}

/* as/. */

static uint32_t find_as(struct fs_tree *tree, struct base_str name)
{
    uint32_t slot;

    for (slot = SLOT_AS; slot < N_SLOTS; slot++) {
        const struct fs_subtree *subtree = tree->slots[slot];

        if (subtree == NULL) {
            break;
        }
        if (base_str_eq(base_str_of(subtree->name + strlen("as/")), name)) {
            return slot;
        }
    }
    return slot; /* the first free one, or N_SLOTS */
}

/* Lock held; @slot is free. */
static enum base_code make_as(struct fs_tree *tree,
                              uint32_t slot,
                              struct base_str name,
                              const char *text,
                              struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_MEM char *path = base_path("as/%.*s", BASE_STR_FMT(name));
    struct fs_subtree *subtree = NULL;
    bool is_hf = false;

    if (slot == N_SLOTS) {
        return base_fail(err, BASE_LIMIT,
                         "%d layouts are shown already, none is forgotten "
                         "before the mount ends",
                         FS_AS_MAX);
    }
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot show a layout");
    }
    BASE_TRY(store_spec_open(text, store_source_path(tree->source),
                             store_source_table(tree->source), &spec, &is_hf,
                             err));
    BASE_TRY(subtree_create(tree->source, path, &spec, NULL,
                            is_hf ? STORE_TREE_HF : STORE_TREE_RANKS, &subtree,
                            err));
    tree->slots[slot] = subtree;
    return BASE_OK;
}

enum base_code fs_tree_add_layout(struct fs_tree *tree,
                                  struct base_str name,
                                  const char *text,
                                  struct base_err *err)
{
    uint32_t slot;
    LOCKED(&tree->lock);

    if (name.len == 0 || name.len > 255 || name.ptr[0] == '.' ||
        memchr(name.ptr, '/', name.len) != NULL) {
        return base_fail(err, BASE_BAD_ARG, "layout name \"%.*s\"",
                         BASE_STR_FMT(name));
    }
    slot = find_as(tree, name);
    if (slot < N_SLOTS && tree->slots[slot] != NULL) {
        return base_fail(err, BASE_BAD_ARG, "layout %.*s is given twice",
                         BASE_STR_FMT(name));
    }
    return make_as(tree, slot, name, text, err);
}

/* Nodes. */

static uint64_t ino_of(uint32_t slot, uint32_t idx)
{
    if (slot == SLOT_FIXED && idx == FIXED_ROOT) {
        return FS_ROOT_INO;
    }
    return (uint64_t)VERSION << VERSION_SHIFT | (uint64_t)slot << SLOT_SHIFT |
           idx;
}

static struct fs_node root_node(struct fs_tree *tree)
{
    struct fs_node node = {.ino = FS_ROOT_INO, .kind = FS_DIR};

    node.slot = SLOT_OWN;
    node.subtree = tree->slots[SLOT_OWN];
    if (node.subtree != NULL) {
        node.node = store_tree_node(node.subtree->tree, 0);
    }
    return node;
}

static struct fs_node fixed_node(uint32_t idx)
{
    static const enum fs_kind kinds[] = {
        [FIXED_ROOT] = FS_DIR,      [FIXED_AS] = FS_DIR,
        [FIXED_RETILE] = FS_DIR,    [FIXED_STATUS] = FS_STATUS,
        [FIXED_EVENTS] = FS_EVENTS,
    };

    return (struct fs_node){
        .ino = ino_of(SLOT_FIXED, idx),
        .kind = kinds[idx],
        .slot = SLOT_FIXED,
        .idx = idx,
    };
}

static enum fs_kind kind_of(const struct store_node *node)
{
    switch (node->kind) {
    case STORE_NODE_DIR:
        return FS_DIR;
    case STORE_NODE_TEXT:
        return FS_TEXT;
    case STORE_NODE_OBJECT:
        return FS_OBJECT;
    case STORE_NODE_FILE:
        return FS_FILE;
    }
    abort(); /* not a kind */
}

/* @slot may be one whose subtree is not made yet: then @idx is 0. */
static struct fs_node
slot_node(struct fs_tree *tree, uint32_t slot, uint32_t idx)
{
    struct fs_node node = {
        .ino = ino_of(slot, idx), .kind = FS_DIR, .slot = slot, .idx = idx};

    node.subtree = tree->slots[slot];
    if (node.subtree != NULL) {
        node.node = store_tree_node(node.subtree->tree, idx);
        node.kind = kind_of(node.node);
    }
    return node;
}

enum base_code fs_tree_node(struct fs_tree *tree,
                            uint64_t ino,
                            struct fs_node *ret,
                            struct base_err *err)
{
    const uint64_t index = ino & ((UINT64_C(1) << VERSION_SHIFT) - 1);
    const uint64_t slot = index >> SLOT_SHIFT;
    const uint32_t idx = (uint32_t)(index & ((UINT32_C(1) << SLOT_SHIFT) - 1));
    const struct fs_subtree *subtree;

    if (ino == FS_ROOT_INO) {
        *ret = root_node(tree);
        return BASE_OK;
    }
    if (ino >> VERSION_SHIFT == VERSION && slot == SLOT_FIXED &&
        idx != FIXED_ROOT && idx <= FIXED_EVENTS) {
        *ret = fixed_node(idx);
        return BASE_OK;
    }
    if (ino >> VERSION_SHIFT == VERSION && slot != SLOT_FIXED &&
        slot < N_SLOTS) {
        subtree = tree->slots[slot];
        if (subtree == NULL ? idx == 0 && slot < SLOT_AS
                            : idx < store_tree_n_nodes(subtree->tree)) {
            *ret = slot_node(tree, (uint32_t)slot, idx);
            return BASE_OK;
        }
    }
    return base_fail(err, BASE_NOT_FOUND, "no node %llx",
                     (unsigned long long)ino);
}

bool fs_node_is_as(const struct fs_node *node)
{
    return node->slot == SLOT_FIXED && node->idx == FIXED_AS;
}

bool fs_node_is_fixed(const struct fs_node *node)
{
    return !fs_node_is_as(node);
}

/* Looking up. */

static enum base_code child_as(struct fs_tree *tree,
                               struct base_str name,
                               struct fs_node *ret,
                               struct base_err *err)
{
    uint32_t slot = find_as(tree, name);

    if (slot == N_SLOTS || tree->slots[slot] == NULL) {
        LOCKED(&tree->lock);
        slot = find_as(tree, name);
        if (slot == N_SLOTS || tree->slots[slot] == NULL) {
            /* Only short forms: a name never opens a file of ours. */
            if (memchr(name.ptr, ':', name.len) == NULL ||
                !ptc_preset_is_short_form(name)) {
                return base_fail(err, BASE_NOT_FOUND,
                                 "\"%.*s\" is neither a short form "
                                 "(PRESET:tp=2,...) nor a name given by "
                                 "-o layout=NAME:FILE",
                                 BASE_STR_FMT(name));
            }
            BASE_TRY(make_as(tree, slot, name, name.ptr, err));
        }
    }
    *ret = slot_node(tree, slot, 0);
    return BASE_OK;
}

static bool
child_root(struct fs_tree *tree, struct base_str name, struct fs_node *ret)
{
    size_t i;

    for (i = 0; i < N_ROOT_NAMES; i++) {
        if (base_str_eq(root_names[i].name, name)) {
            *ret = root_names[i].slot == SLOT_FIXED
                       ? fixed_node(root_names[i].idx)
                       : slot_node(tree, root_names[i].slot, 0);
            return true;
        }
    }
    return false;
}

static bool child_retile(struct base_str name, struct fs_node *ret)
{
    size_t i;

    for (i = 0; i < N_RETILE_NAMES; i++) {
        if (base_str_eq(retile_names[i].name, name)) {
            *ret = fixed_node(retile_names[i].idx);
            return true;
        }
    }
    return false;
}

enum base_code fs_tree_child(struct fs_tree *tree,
                             const struct fs_node *dir,
                             struct base_str name,
                             struct fs_node *ret,
                             struct base_err *err)
{
    struct fs_node prepared = *dir;
    uint32_t idx = PTC_NONE;

    if (fs_node_is_as(dir)) {
        return child_as(tree, name, ret, err);
    }
    if (dir->ino == FS_ROOT_INO && child_root(tree, name, ret)) {
        return BASE_OK;
    }
    if (dir->slot == SLOT_FIXED && dir->idx == FIXED_RETILE &&
        child_retile(name, ret)) {
        return BASE_OK;
    }
    BASE_TRY(fs_tree_prepare(tree, &prepared, err));
    if (prepared.subtree != NULL && prepared.kind == FS_DIR) {
        idx = store_tree_child(prepared.subtree->tree, dir->idx, name);
    }
    if (idx == PTC_NONE) {
        return base_fail(err, BASE_NOT_FOUND, "no file \"%.*s\"",
                         BASE_STR_FMT(name));
    }
    *ret = slot_node(tree, dir->slot, idx);
    return BASE_OK;
}

/* Listing. */

static bool list_as(struct fs_tree *tree,
                    uint64_t position,
                    struct base_str *ret_name,
                    struct fs_node *ret)
{
    const struct fs_subtree *subtree;

    if (position >= FS_AS_MAX ||
        (subtree = tree->slots[SLOT_AS + position]) == NULL) {
        return false;
    }
    *ret_name = base_str_of(subtree->name + strlen("as/"));
    *ret = slot_node(tree, SLOT_AS + (uint32_t)position, 0);
    return true;
}

static bool list_store(struct fs_tree *tree,
                       const struct fs_node *dir,
                       uint64_t position,
                       struct base_str *ret_name,
                       struct fs_node *ret)
{
    uint32_t idx;

    if (dir->node == NULL ||
        position >= dir->node->child_end - dir->node->child_begin) {
        return false;
    }
    idx = dir->node->child_begin + (uint32_t)position;
    *ret = slot_node(tree, dir->slot, idx);
    *ret_name = ret->node->name;
    return true;
}

static bool list_root(struct fs_tree *tree,
                      const struct fs_node *dir,
                      uint64_t position,
                      struct base_str *ret_name,
                      struct fs_node *ret,
                      uint64_t *ret_next)
{
    struct fs_node hidden;

    for (; position < N_ROOT_NAMES; position++) {
        *ret_name = root_names[position].name;
        *ret_next = position + 1;
        return child_root(tree, *ret_name, ret);
    }
    while (list_store(tree, dir, position - N_ROOT_NAMES, ret_name, ret)) {
        position++;
        if (!child_root(tree, *ret_name, &hidden)) {
            *ret_next = position;
            return true;
        }
    }
    return false;
}

bool fs_tree_list(struct fs_tree *tree,
                  const struct fs_node *dir,
                  uint64_t position,
                  struct base_str *ret_name,
                  struct fs_node *ret,
                  uint64_t *ret_next)
{
    if (dir->ino == FS_ROOT_INO) {
        return list_root(tree, dir, position, ret_name, ret, ret_next);
    }
    *ret_next = position + 1;
    if (fs_node_is_as(dir)) {
        return list_as(tree, position, ret_name, ret);
    }
    if (dir->slot == SLOT_FIXED) {
        if (dir->idx != FIXED_RETILE || position >= N_RETILE_NAMES) {
            return false;
        }
        *ret_name = retile_names[position].name;
        return child_retile(*ret_name, ret);
    }
    return list_store(tree, dir, position, ret_name, ret);
}

/* Paths. */

static void
path_of(const struct fs_subtree *subtree, uint32_t idx, struct base_buf *buf)
{
    const struct store_node *node = store_tree_node(subtree->tree, idx);

    if (idx == 0) {
        (void)base_buf_addf(buf, "%s", subtree->name);
        return;
    }
    path_of(subtree, node->parent, buf); /* at most 3 deep */
    if (buf->len > 0) {
        (void)base_buf_addf(buf, "/");
    }
    (void)base_buf_add_str(buf, node->name);
}

void fs_node_path(const struct fs_node *node, struct base_buf *buf)
{
    static const char *const fixed[] = {".", "as", ".retile", ".retile/status",
                                        ".retile/events"};

    if (node->ino == FS_ROOT_INO) {
        (void)base_buf_addf(buf, ".");
    } else if (node->slot == SLOT_FIXED) {
        (void)base_buf_addf(buf, "%s", fixed[node->idx]);
    } else if (node->subtree == NULL) {
        (void)base_buf_addf(buf, "%s", node->slot == SLOT_HF ? "hf" : "npy");
    } else {
        path_of(node->subtree, node->idx, buf);
    }
}

void fs_tree_each(struct fs_tree *tree, fs_subtree_fn fn, void *ctx)
{
    size_t i;

    for (i = 0; i < N_SLOTS; i++) {
        const struct fs_subtree *subtree = tree->slots[i];

        if (subtree != NULL) {
            fn(ctx, subtree);
        }
    }
}
