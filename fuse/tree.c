#include "fuse/tree.h"

#include <stdlib.h>

#include "base/num.h"
#include "fuse/tree_impl.h"

static const struct {
    enum fs_kind kind;
    const char *path;
} fixed[FS_N_FIXED] = {
    [FS_FIXED_ROOT] = {FS_DIR, "."},
    [FS_FIXED_VERSIONS] = {FS_DIR, "versions"},
    [FS_FIXED_CURRENT] = {FS_LINK, "current"},
    [FS_FIXED_RETILE] = {FS_DIR, ".retile"},
    [FS_FIXED_STATUS] = {FS_STATUS, ".retile/status"},
    [FS_FIXED_EVENTS] = {FS_EVENTS, ".retile/events"},
    [FS_FIXED_GEN] = {FS_DIR, "gen"},
    [FS_FIXED_GEN_CURRENT] = {FS_LINK, "gen/current"},
};

const char *fs_fixed_path(uint32_t idx)
{
    return idx > 0 && idx < FS_N_FIXED ? fixed[idx].path : ".";
}

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

static const struct fs_given version_names[] = {
    /* The first only where a version is the mount's root. */
    {{".retile", 7}, FS_SLOT_MOUNT, FS_FIXED_RETILE},
    {{"as", 2}, FS_SLOT_AS_DIR, 0},
    {{"hf", 2}, FS_SLOT_HF, 0},
    {{"npy", 3}, FS_SLOT_NPY, 0},
};

const struct fs_given_list fs_version_names = {version_names,
                                               N_OF(version_names)};

static const struct fs_given mount_names[] = {
    {{".retile", 7}, FS_SLOT_MOUNT, FS_FIXED_RETILE},
    {{"current", 7}, FS_SLOT_MOUNT, FS_FIXED_CURRENT},
    {{"gen", 3}, FS_SLOT_MOUNT, FS_FIXED_GEN},
    {{"versions", 8}, FS_SLOT_MOUNT, FS_FIXED_VERSIONS},
};

static const struct fs_given retile_names[] = {
    {{"status", 6}, FS_SLOT_MOUNT, FS_FIXED_STATUS},
    {{"events", 6}, FS_SLOT_MOUNT, FS_FIXED_EVENTS},
};

/* "load" is first: it is left out where nothing is loaded; "request" is last:
 * it is left out where nobody asks. */
static const struct fs_given gen_names[] = {
    {{"load", 4}, FS_SLOT_MOUNT, FS_GEN_LOAD},
    {{"save", 4}, FS_SLOT_MOUNT, FS_GEN_SAVE},
    {{"request", 7}, FS_SLOT_MOUNT, FS_GEN_REQUEST},
};

static bool is_version_root(const struct fs_node *node)
{
    return node->slot == FS_SLOT_OWN && node->idx == 0;
}

struct fs_given_list fs_names_in(const struct fs_node *dir)
{
    if (is_version_root(dir)) {
        size_t skipped = dir->version->is_at_root ? 0 : 1;

        return (struct fs_given_list){version_names + skipped,
                                      N_OF(version_names) - skipped};
    }
    if (fs_node_is_at(dir, FS_FIXED_ROOT)) {
        return (struct fs_given_list){mount_names, N_OF(mount_names)};
    }
    if (fs_node_is_at(dir, FS_FIXED_RETILE)) {
        return (struct fs_given_list){retile_names, N_OF(retile_names)};
    }
    if (fs_node_is_gen(dir, FS_GEN_DIR)) {
        size_t skipped = dir->has_load ? 0 : 1;
        size_t n_left_out = skipped + (dir->has_request ? 0 : 1);

        return (struct fs_given_list){gen_names + skipped,
                                      N_OF(gen_names) - n_left_out};
    }
    return (struct fs_given_list){0};
}

const struct fs_given *fs_given_find(struct fs_given_list list,
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

struct fs_node fs_fixed_node(enum fs_fixed idx)
{
    return (struct fs_node){
        .ino = fs_ino_of(0, FS_SLOT_MOUNT, (uint32_t)idx),
        .kind = fixed[idx].kind,
        .slot = FS_SLOT_MOUNT,
        .idx = (uint32_t)idx,
    };
}

static enum fs_kind part_kind(enum fs_gen_part part)
{
    switch (part) {
    case FS_GEN_DIR:
    case FS_GEN_SAVE:
        return FS_DIR;
    case FS_GEN_LOAD:
        return FS_LINK;
    case FS_GEN_REQUEST:
        return FS_REQUEST;
    }
    abort(); /* not a part */
}

struct fs_node fs_gen_node(uint64_t generation, enum fs_gen_part part)
{
    const uint32_t idx =
        (uint32_t)(generation << FS_GEN_SHIFT) | (uint32_t)part;

    return (struct fs_node){
        .ino = fs_ino_of(0, FS_SLOT_MOUNT, idx),
        .kind = part_kind(part),
        .slot = FS_SLOT_MOUNT,
        .idx = idx,
        .generation = generation,
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

void fs_node_set_subtree(struct fs_node *node)
{
    node->subtree = node->version->slots[node->slot];
    if (node->subtree != NULL) {
        node->node = store_tree_node(node->subtree->tree, node->idx);
        node->kind = kind_of(node->node);
    }
}

struct fs_node
fs_version_node(struct fs_version *version, uint32_t slot, uint32_t idx)
{
    struct fs_node node = {
        .ino = fs_ino_of(version->number, slot, idx),
        .kind = FS_DIR,
        .slot = slot,
        .idx = idx,
        .version = version,
    };

    if (version->is_at_root && is_version_root(&node)) {
        node.ino = FS_ROOT_INO;
    }
    fs_node_set_subtree(&node);
    return node;
}

struct fs_node fs_given_node(const struct fs_node *dir,
                             const struct fs_given *given)
{
    if (dir->generation != 0) {
        return fs_gen_node(dir->generation, (enum fs_gen_part)given->idx);
    }
    return given->slot == FS_SLOT_MOUNT
               ? fs_fixed_node((enum fs_fixed)given->idx)
               : fs_version_node(dir->version, given->slot, given->idx);
}

void fs_node_done(struct fs_node *node)
{
    if (node->holder != NULL) {
        fs_versions_let_go(node->holder, node->version, 1);
    }
    free(node->numbers);
    free(node->steps);
    *node = (struct fs_node){0};
}

static bool has_node(struct fs_version *version, uint32_t slot, uint32_t idx)
{
    const struct fs_subtree *subtree = version->slots[slot];

    return subtree == NULL ? idx == 0 && slot < FS_SLOT_AS
                           : idx < store_tree_n_nodes(subtree->tree);
}

/* Part @part of generation @number, when there is such. */
static bool find_gen(struct fs_versions *versions,
                     uint64_t number,
                     uint32_t part,
                     struct fs_node *ret)
{
    struct fs_generation generation;

    const bool is_ordered = fs_versions_is_ordered(versions);

    if (part > FS_GEN_REQUEST ||
        !fs_versions_generation(versions, number, &generation) ||
        (part == FS_GEN_LOAD && generation.load == 0) ||
        (part == FS_GEN_REQUEST && !is_ordered)) {
        return false;
    }
    *ret = fs_gen_node(number, (enum fs_gen_part)part);
    ret->has_load = generation.load != 0;
    ret->has_request = is_ordered;
    return true;
}

enum base_code fs_tree_node(struct fs_versions *versions,
                            uint64_t ino,
                            struct fs_node *ret,
                            struct base_err *err)
{
    const uint64_t number = ino >> FS_VERSION_SHIFT;
    const uint64_t index = ino & ((UINT64_C(1) << FS_VERSION_SHIFT) - 1);
    const uint32_t slot = (uint32_t)(index >> FS_SLOT_SHIFT);
    const uint32_t idx =
        (uint32_t)(index & ((UINT32_C(1) << FS_SLOT_SHIFT) - 1));
    struct fs_version *version;
    enum base_code rc = BASE_OK;

    if (ino == FS_ROOT_INO && fs_versions_root(versions) != NULL) {
        *ret = fs_version_node(fs_versions_root(versions), FS_SLOT_OWN, 0);
        return BASE_OK;
    }
    if (number == 0 && slot == FS_SLOT_MOUNT && idx >= FS_FIXED_ROOT &&
        idx < FS_N_FIXED) {
        *ret = fs_fixed_node((enum fs_fixed)idx);
        return BASE_OK;
    }
    if (number == 0 && slot == FS_SLOT_MOUNT &&
        find_gen(versions, idx >> FS_GEN_SHIFT,
                 idx & ((1u << FS_GEN_SHIFT) - 1), ret)) {
        return BASE_OK;
    }
    version = fs_versions_hold(versions, number);
    if (version != NULL && idx > 0) {
        /* Known from an earlier server, it may have to be made again. */
        rc = fs_version_prepare(version, slot, err);
    }
    if (rc == BASE_OK && version != NULL && slot != FS_SLOT_MOUNT &&
        slot < FS_N_SLOTS && has_node(version, slot, idx)) {
        *ret = fs_version_node(version, slot, idx);
        ret->holder = versions;
        return BASE_OK;
    }
    fs_versions_let_go(versions, version, 1);
    BASE_TRY(rc);
    return base_fail(err, BASE_NOT_FOUND, "no node %llx",
                     (unsigned long long)ino);
}

bool fs_node_is_as(const struct fs_node *node)
{
    return node->slot == FS_SLOT_AS_DIR;
}

bool fs_node_is_save(const struct fs_node *node)
{
    return fs_node_is_gen(node, FS_GEN_SAVE);
}

/* Its children come, and go: numbers, and `current` with the first version. */
static bool is_changing(const struct fs_node *node)
{
    return fs_node_is_at(node, FS_FIXED_ROOT) ||
           fs_node_is_at(node, FS_FIXED_VERSIONS) ||
           fs_node_is_at(node, FS_FIXED_GEN) || fs_node_is_save(node);
}

bool fs_node_is_fixed(const struct fs_node *node)
{
    return !fs_node_is_as(node) && !is_changing(node);
}

bool fs_node_is_kept(const struct fs_node *node)
{
    return node->slot == FS_SLOT_MOUNT
               ? !is_changing(node) && !fs_node_is_at(node, FS_FIXED_CURRENT) &&
                     !fs_node_is_at(node, FS_FIXED_GEN_CURRENT)
               : node->version != NULL && node->version->is_at_root;
}

static enum base_code list_gens(struct fs_versions *versions,
                                struct fs_node *dir,
                                struct base_err *err)
{
    struct fs_generations all;
    uint64_t number;

    fs_versions_generations(versions, &all);
    dir->numbers = calloc(FS_GENERATIONS_MAX, sizeof(*dir->numbers));
    if (dir->numbers == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot list gen/");
    }
    for (number = fs_generations_next(&all, 0); number != 0;
         number = fs_generations_next(&all, number)) {
        dir->numbers[dir->n_numbers++] = number;
    }
    return BASE_OK;
}

enum base_code fs_tree_prepare(struct fs_versions *versions,
                               struct fs_node *dir,
                               struct base_err *err)
{
    if (fs_node_is_at(dir, FS_FIXED_VERSIONS) && dir->numbers == NULL) {
        return fs_versions_list(versions, &dir->numbers, &dir->n_numbers, err);
    }
    if (fs_node_is_at(dir, FS_FIXED_GEN) && dir->numbers == NULL) {
        return list_gens(versions, dir, err);
    }
    if (fs_node_is_at(dir, FS_FIXED_ROOT)) {
        uint64_t current;

        dir->has_load = fs_versions_current(versions, &current, err) == BASE_OK;
    }
    if (dir->version != NULL && dir->subtree == NULL) {
        BASE_TRY(fs_version_prepare(dir->version, dir->slot, err));
        fs_node_set_subtree(dir);
    }
    return BASE_OK;
}

/* Looking up. */

/* Names that are numbers, without leading zeros. */
static bool parse_number(struct base_str name, uint64_t *ret)
{
    return name.len > 0 && name.ptr[0] != '0' && base_parse_u64(name, ret);
}

static enum base_code child_gens(struct fs_versions *versions,
                                 struct base_str name,
                                 struct fs_node *ret,
                                 struct base_err *err)
{
    uint64_t number;

    if (base_str_eq(name, BASE_STR("current"))) {
        struct fs_generations all;

        fs_versions_generations(versions, &all);
        if (all.current == 0) {
            return base_fail(err, BASE_NOT_FOUND, "no generation has begun");
        }
        *ret = fs_fixed_node(FS_FIXED_GEN_CURRENT);
        return BASE_OK;
    }
    if (!parse_number(name, &number) ||
        !find_gen(versions, number, FS_GEN_DIR, ret)) {
        return base_fail(err, BASE_NOT_FOUND, "\"%.*s\" is no generation",
                         BASE_STR_FMT(name));
    }
    return BASE_OK;
}

static enum base_code child_versions(struct fs_versions *versions,
                                     struct base_str name,
                                     struct fs_node *ret,
                                     struct base_err *err)
{
    struct fs_version *version;
    uint64_t number;

    if (!parse_number(name, &number)) {
        return base_fail(err, BASE_NOT_FOUND, "\"%.*s\" is no version",
                         BASE_STR_FMT(name));
    }
    BASE_TRY(fs_versions_open(versions, number, &version, err));
    *ret = fs_version_node(version, FS_SLOT_OWN, 0);
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
        *ret = fs_version_node(dir->version, slot, 0);
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
    *ret = fs_version_node(dir->version, dir->slot, idx);
    return BASE_OK;
}

enum base_code fs_tree_child(struct fs_versions *versions,
                             const struct fs_node *dir,
                             struct base_str name,
                             struct fs_node *ret,
                             struct base_err *err)
{
    const struct fs_given *given = fs_given_find(fs_names_in(dir), name);

    if (fs_node_is_at(dir, FS_FIXED_VERSIONS)) {
        return child_versions(versions, name, ret, err);
    }
    if (fs_node_is_at(dir, FS_FIXED_GEN)) {
        return child_gens(versions, name, ret, err);
    }
    if (given != NULL) {
        *ret = fs_given_node(dir, given);
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
