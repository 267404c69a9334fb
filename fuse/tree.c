#include "fuse/tree.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

/* Nodes of the mount, indices in FS_SLOT_MOUNT. */
enum fixed {
    FIXED_ROOT = FS_ROOT_INO,
    FIXED_VERSIONS,
    FIXED_CURRENT,
    FIXED_RETILE,
    FIXED_STATUS,
    FIXED_EVENTS,
    N_FIXED,
};

enum { VERSION_SHIFT = 40, SLOT_SHIFT = 30 };

_Static_assert(FS_SUBTREE_MAX_NODES <= UINT32_C(1) << SLOT_SHIFT &&
                   FS_N_SLOTS <= 1 << (VERSION_SHIFT - SLOT_SHIFT),
               "a node's number has room for slots and indices");

static const struct {
    enum fs_kind kind;
    const char *path;
} fixed[N_FIXED] = {
    [FIXED_ROOT] = {FS_DIR, "."},
    [FIXED_VERSIONS] = {FS_DIR, "versions"},
    [FIXED_CURRENT] = {FS_LINK, "current"},
    [FIXED_RETILE] = {FS_DIR, ".retile"},
    [FIXED_STATUS] = {FS_STATUS, ".retile/status"},
    [FIXED_EVENTS] = {FS_EVENTS, ".retile/events"},
};

/* Names that we give: in the mount's root, in .retile/ and in a version's root,
 * where they win over objects called so. */
struct given {
    struct base_str name;
    uint32_t slot;
    uint32_t idx;
};

struct given_list {
    const struct given *items;
    size_t n;
};

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct given version_names[] = {
    /* The first only where a version is the mount's root. */
    {{".retile", 7}, FS_SLOT_MOUNT, FIXED_RETILE},
    {{"as", 2}, FS_SLOT_AS_DIR, 0},
    {{"hf", 2}, FS_SLOT_HF, 0},
    {{"npy", 3}, FS_SLOT_NPY, 0},
};

static const struct given mount_names[] = {
    {{".retile", 7}, FS_SLOT_MOUNT, FIXED_RETILE},
    {{"current", 7}, FS_SLOT_MOUNT, FIXED_CURRENT},
    {{"versions", 8}, FS_SLOT_MOUNT, FIXED_VERSIONS},
};

static const struct given retile_names[] = {
    {{"status", 6}, FS_SLOT_MOUNT, FIXED_STATUS},
    {{"events", 6}, FS_SLOT_MOUNT, FIXED_EVENTS},
};

static bool is_fixed(const struct fs_node *node, uint32_t idx)
{
    return node->slot == FS_SLOT_MOUNT && node->idx == idx;
}

static bool is_version_root(const struct fs_node *node)
{
    return node->slot == FS_SLOT_OWN && node->idx == 0;
}

static struct given_list names_in(const struct fs_node *dir)
{
    if (is_version_root(dir)) {
        size_t skipped = dir->version->is_at_root ? 0 : 1;

        return (struct given_list){version_names + skipped,
                                   N_OF(version_names) - skipped};
    }
    if (is_fixed(dir, FIXED_ROOT)) {
        return (struct given_list){mount_names, N_OF(mount_names)};
    }
    if (is_fixed(dir, FIXED_RETILE)) {
        return (struct given_list){retile_names, N_OF(retile_names)};
    }
    return (struct given_list){0};
}

static const struct given *find_given(struct given_list list,
                                      struct base_str name)
{
    size_t i;

    for (i = 0; i < list.n; i++) {
        if (base_str_eq(list.items[i].name, name)) {
            return &list.items[i];
        }
    }
    return NULL;
}

/* Nodes. */

static uint64_t ino_of(uint64_t number, uint32_t slot, uint32_t idx)
{
    return number << VERSION_SHIFT | (uint64_t)slot << SLOT_SHIFT | idx;
}

static struct fs_node fixed_node(uint32_t idx)
{
    return (struct fs_node){
        .ino = ino_of(0, FS_SLOT_MOUNT, idx),
        .kind = fixed[idx].kind,
        .slot = FS_SLOT_MOUNT,
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

/* Fill in what is known once the subtree of the node's slot is made. */
static void set_subtree(struct fs_node *node)
{
    node->subtree = node->version->slots[node->slot];
    if (node->subtree != NULL) {
        node->node = store_tree_node(node->subtree->tree, node->idx);
        node->kind = kind_of(node->node);
    }
}

/* @slot may be one whose subtree is not made yet: then @idx is 0. */
static struct fs_node
version_node(struct fs_version *version, uint32_t slot, uint32_t idx)
{
    struct fs_node node = {
        .ino = ino_of(version->number, slot, idx),
        .kind = FS_DIR,
        .slot = slot,
        .idx = idx,
        .version = version,
    };

    if (version->is_at_root && is_version_root(&node)) {
        node.ino = FS_ROOT_INO;
    }
    set_subtree(&node);
    return node;
}

static struct fs_node given_node(const struct fs_node *dir,
                                 const struct given *given)
{
    return given->slot == FS_SLOT_MOUNT
               ? fixed_node(given->idx)
               : version_node(dir->version, given->slot, given->idx);
}

void fs_node_done(struct fs_node *node)
{
    if (node->holder != NULL) {
        fs_versions_let_go(node->holder, node->version, 1);
    }
    free(node->numbers);
    *node = (struct fs_node){0};
}

static bool has_node(struct fs_version *version, uint32_t slot, uint32_t idx)
{
    const struct fs_subtree *subtree = version->slots[slot];

    return subtree == NULL ? idx == 0 && slot < FS_SLOT_AS
                           : idx < store_tree_n_nodes(subtree->tree);
}

enum base_code fs_tree_node(struct fs_versions *versions,
                            uint64_t ino,
                            struct fs_node *ret,
                            struct base_err *err)
{
    const uint64_t number = ino >> VERSION_SHIFT;
    const uint64_t index = ino & ((UINT64_C(1) << VERSION_SHIFT) - 1);
    const uint32_t slot = (uint32_t)(index >> SLOT_SHIFT);
    const uint32_t idx = (uint32_t)(index & ((UINT32_C(1) << SLOT_SHIFT) - 1));
    struct fs_version *version;

    if (ino == FS_ROOT_INO && fs_versions_root(versions) != NULL) {
        *ret = version_node(fs_versions_root(versions), FS_SLOT_OWN, 0);
        return BASE_OK;
    }
    if (number == 0 && slot == FS_SLOT_MOUNT && idx >= FIXED_ROOT &&
        idx < N_FIXED) {
        *ret = fixed_node(idx);
        return BASE_OK;
    }
    version = fs_versions_hold(versions, number);
    if (version != NULL && slot != FS_SLOT_MOUNT && slot < FS_N_SLOTS &&
        has_node(version, slot, idx)) {
        *ret = version_node(version, slot, idx);
        ret->holder = versions;
        return BASE_OK;
    }
    fs_versions_let_go(versions, version, 1);
    return base_fail(err, BASE_NOT_FOUND, "no node %llx",
                     (unsigned long long)ino);
}

bool fs_node_is_as(const struct fs_node *node)
{
    return node->slot == FS_SLOT_AS_DIR;
}

bool fs_node_is_fixed(const struct fs_node *node)
{
    return !fs_node_is_as(node) && !is_fixed(node, FIXED_VERSIONS);
}

bool fs_node_is_kept(const struct fs_node *node)
{
    return node->slot == FS_SLOT_MOUNT
               ? node->idx != FIXED_CURRENT && node->idx != FIXED_VERSIONS
               : node->version != NULL && node->version->is_at_root;
}

enum base_code fs_tree_prepare(struct fs_versions *versions,
                               struct fs_node *dir,
                               struct base_err *err)
{
    if (is_fixed(dir, FIXED_VERSIONS) && dir->numbers == NULL) {
        return fs_versions_list(versions, &dir->numbers, &dir->n_numbers, err);
    }
    if (dir->version != NULL && dir->subtree == NULL) {
        BASE_TRY(fs_version_prepare(dir->version, dir->slot, err));
        set_subtree(dir);
    }
    return BASE_OK;
}

/* Looking up. */

static enum base_code child_versions(struct fs_versions *versions,
                                     struct base_str name,
                                     struct fs_node *ret,
                                     struct base_err *err)
{
    struct fs_version *version;
    uint64_t number;

    if (name.len == 0 || name.ptr[0] == '0' || !base_parse_u64(name, &number)) {
        return base_fail(err, BASE_NOT_FOUND, "\"%.*s\" is no version",
                         BASE_STR_FMT(name));
    }
    BASE_TRY(fs_versions_open(versions, number, &version, err));
    *ret = version_node(version, FS_SLOT_OWN, 0);
    ret->holder = versions;
    return BASE_OK;
}

/* A child of a directory of @dir's version; *ret holds nothing yet. */
static enum base_code child_in_version(const struct fs_node *dir,
                                       struct base_str name,
                                       struct fs_node *ret,
                                       struct base_err *err)
{
    const struct fs_subtree *subtree;
    uint32_t idx = PTC_NONE;
    uint32_t slot;

    if (fs_node_is_as(dir)) {
        BASE_TRY(fs_version_find_as(dir->version, name, &slot, err));
        *ret = version_node(dir->version, slot, 0);
        return BASE_OK;
    }
    BASE_TRY(fs_version_prepare(dir->version, dir->slot, err));
    subtree = dir->version->slots[dir->slot];
    if (subtree != NULL && dir->kind == FS_DIR) {
        idx = store_tree_child(subtree->tree, dir->idx, name);
    }
    if (idx == PTC_NONE) {
        return base_fail(err, BASE_NOT_FOUND, "no file \"%.*s\"",
                         BASE_STR_FMT(name));
    }
    *ret = version_node(dir->version, dir->slot, idx);
    return BASE_OK;
}

enum base_code fs_tree_child(struct fs_versions *versions,
                             const struct fs_node *dir,
                             struct base_str name,
                             struct fs_node *ret,
                             struct base_err *err)
{
    const struct given *given = find_given(names_in(dir), name);

    if (is_fixed(dir, FIXED_VERSIONS)) {
        return child_versions(versions, name, ret, err);
    }
    if (given != NULL) {
        *ret = given_node(dir, given);
    } else if (dir->version != NULL) {
        BASE_TRY(child_in_version(dir, name, ret, err));
    } else {
        return base_fail(err, BASE_NOT_FOUND, "no file \"%.*s\"",
                         BASE_STR_FMT(name));
    }
    fs_versions_hold_more(versions, ret->version, 1);
    ret->holder = versions;
    return BASE_OK;
}

/* Listing. */

/* Positions are numbers, so that versions that come and go while the directory
 * is read move none of the others. */
static bool list_versions(const struct fs_node *dir,
                          uint64_t position,
                          char room[FS_NAME_BYTES],
                          struct base_str *ret_name,
                          struct fs_node *ret,
                          uint64_t *ret_next)
{
    size_t i = 0;

    while (i < dir->n_numbers && dir->numbers[i] < position) {
        i++;
    }
    if (i == dir->n_numbers || dir->numbers[i] > FS_MAX_VERSION) {
        return false;
    }
    (void)snprintf(room, FS_NAME_BYTES, "%" PRIu64, dir->numbers[i]);
    *ret_name = base_str_of(room);
    *ret = (struct fs_node){
        .ino = ino_of(dir->numbers[i], FS_SLOT_OWN, 0),
        .kind = FS_DIR,
        .slot = FS_SLOT_OWN,
    };
    *ret_next = dir->numbers[i] + 1;
    return true;
}

static bool list_as(struct fs_version *version,
                    uint64_t position,
                    struct base_str *ret_name,
                    struct fs_node *ret)
{
    const struct fs_subtree *subtree;

    if (position >= FS_AS_MAX ||
        (subtree = version->slots[FS_SLOT_AS + position]) == NULL) {
        return false;
    }
    *ret_name = fs_as_name(subtree);
    *ret = version_node(version, FS_SLOT_AS + (uint32_t)position, 0);
    return true;
}

static bool list_store(const struct fs_node *dir,
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
    *ret = version_node(dir->version, dir->slot, idx);
    *ret_name = ret->node->name;
    return true;
}

bool fs_tree_list(const struct fs_node *dir,
                  uint64_t position,
                  char room[FS_NAME_BYTES],
                  struct base_str *ret_name,
                  struct fs_node *ret,
                  uint64_t *ret_next)
{
    const struct given_list given = names_in(dir);

    if (is_fixed(dir, FIXED_VERSIONS)) {
        return list_versions(dir, position, room, ret_name, ret, ret_next);
    }
    *ret_next = position + 1;
    if (fs_node_is_as(dir)) {
        return list_as(dir->version, position, ret_name, ret);
    }
    if (position < given.n) {
        *ret_name = given.items[position].name;
        *ret = given_node(dir, &given.items[position]);
        return true;
    }
    for (; list_store(dir, position - given.n, ret_name, ret); position++) {
        if (find_given(given, *ret_name) == NULL) {
            *ret_next = position + 1;
            return true;
        }
    }
    return false;
}

static void
each_dir_in(struct fs_version *version, uint32_t slot, fs_name_fn fn, void *ctx)
{
    const struct fs_subtree *subtree = version->slots[slot];
    uint32_t n = subtree != NULL ? store_tree_n_nodes(subtree->tree) : 0;
    uint32_t i;

    if (subtree != NULL && slot >= FS_SLOT_AS) {
        fn(ctx, ino_of(version->number, FS_SLOT_AS_DIR, 0),
           fs_as_name(subtree));
    }
    for (i = 1; i < n; i++) {
        const struct store_node *node = store_tree_node(subtree->tree, i);

        if (node->kind == STORE_NODE_DIR) {
            fn(ctx, ino_of(version->number, slot, node->parent), node->name);
        }
    }
}

void fs_tree_each_dir(struct fs_version *version, fs_name_fn fn, void *ctx)
{
    const uint64_t root = ino_of(version->number, FS_SLOT_OWN, 0);
    char name[FS_NAME_BYTES];
    uint32_t slot;
    size_t i;

    (void)snprintf(name, sizeof(name), "%" PRIu64, version->number);
    fn(ctx, ino_of(0, FS_SLOT_MOUNT, FIXED_VERSIONS), base_str_of(name));
    for (i = 0; i < N_OF(version_names); i++) {
        fn(ctx, root, version_names[i].name);
    }
    for (slot = FS_SLOT_OWN; slot < FS_N_SLOTS; slot++) {
        each_dir_in(version, slot, fn, ctx);
    }
}

/* Texts. */

enum base_code fs_node_target(const struct fs_versions *versions,
                              char ret[FS_TARGET_BYTES],
                              struct base_err *err)
{
    uint64_t number;

    BASE_TRY(fs_versions_current(versions, &number, err));
    (void)snprintf(ret, FS_TARGET_BYTES, "versions/%" PRIu64, number);
    return BASE_OK;
}

static void add_name(struct base_buf *buf, struct base_str name)
{
    if (buf->len > 0 && name.len > 0) {
        (void)base_buf_addf(buf, "/");
    }
    (void)base_buf_add_str(buf, name);
}

static void
path_of(const struct fs_subtree *subtree, uint32_t idx, struct base_buf *buf)
{
    const struct store_node *node = store_tree_node(subtree->tree, idx);

    if (idx == 0) {
        add_name(buf, base_str_of(subtree->name));
        return;
    }
    path_of(subtree, node->parent, buf); /* at most 3 deep */
    add_name(buf, node->name);
}

void fs_node_path(const struct fs_node *node, struct base_buf *buf)
{
    static const char *const unmade[] = {
        [FS_SLOT_OWN] = "",
        [FS_SLOT_HF] = "hf",
        [FS_SLOT_NPY] = "npy",
        [FS_SLOT_AS_DIR] = "as",
    };

    if (node->slot == FS_SLOT_MOUNT) {
        (void)base_buf_addf(
            buf, "%s",
            node->idx < N_FIXED && node->idx > 0 ? fixed[node->idx].path : ".");
        return;
    }
    if (node->ino == FS_ROOT_INO) {
        (void)base_buf_addf(buf, ".");
        return;
    }
    if (node->version != NULL && !node->version->is_at_root) {
        (void)base_buf_addf(buf, "versions/%" PRIu64, node->version->number);
    }
    if (node->subtree != NULL) {
        path_of(node->subtree, node->idx, buf);
    } else if (node->slot < N_OF(unmade)) {
        add_name(buf, base_str_of(unmade[node->slot]));
    }
}
