/* The tree: links' targets and nodes' paths. */
#include <inttypes.h>
#include <stdio.h>

#include "fuse/tree_impl.h"

enum base_code fs_node_target(struct fs_versions *versions,
                              const struct fs_node *link,
                              char ret[FS_TARGET_BYTES],
                              struct base_err *err)
{
    struct fs_generations all;
    struct fs_generation generation;
    uint64_t number;

    if (fs_node_is_at(link, FS_FIXED_GEN_CURRENT)) {
        fs_versions_generations(versions, &all);
        (void)snprintf(ret, FS_TARGET_BYTES, "%" PRIu64, all.current);
        return BASE_OK;
    }
    if (fs_node_is_gen(link, FS_GEN_LOAD)) {
        if (!fs_versions_generation(versions, link->generation, &generation)) {
            return base_fail(err, BASE_NOT_FOUND, "no such generation");
        }
        (void)snprintf(ret, FS_TARGET_BYTES, "../../versions/%" PRIu64,
                       generation.load);
        return BASE_OK;
    }
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

static void gen_path(const struct fs_node *node, struct base_buf *buf)
{
    static const char *const parts[] = {
        [FS_GEN_DIR] = "",
        [FS_GEN_LOAD] = "/load",
        [FS_GEN_SAVE] = "/save",
        [FS_GEN_REQUEST] = "/request",
    };

    (void)base_buf_addf(buf, "gen/%" PRIu64 "%s", node->generation,
                        parts[node->idx & ((1u << FS_GEN_SHIFT) - 1)]);
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
        if (node->generation != 0) {
            gen_path(node, buf);
        } else {
            (void)base_buf_addf(buf, "%s", fs_fixed_path(node->idx));
        }
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
    } else if (node->slot < sizeof(unmade) / sizeof(unmade[0])) {
        add_name(buf, base_str_of(unmade[node->slot]));
    }
}
