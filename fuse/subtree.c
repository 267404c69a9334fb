#include "fuse/subtree.h"

#include <stdlib.h>
#include <string.h>

void fs_subtree_free(struct fs_subtree *subtree)
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

/* One without its tree. */
static enum base_code
create(const char *name, struct fs_subtree **ret, struct base_err *err)
{
    BASE_AUTO(fs_subtree) subtree = calloc(1, sizeof(*subtree));

    if (subtree == NULL || (subtree->name = strdup(name)) == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot show %s", name);
    }
    *ret = base_steal(&subtree);
    return BASE_OK;
}

/* Make the tree over subtree->target. */
static enum base_code fill(struct fs_subtree *subtree,
                           enum store_tree_kind kind,
                           struct base_err *err)
{
    const struct ptc_layout *layout = store_target_layout(subtree->target);
    uint32_t n_nodes;

    BASE_TRY(ptc_spec_digest(ptc_layout_spec(layout), &subtree->layout, err));
    BASE_TRY(store_tree_create(subtree->target, kind, &subtree->tree, err));
    n_nodes = store_tree_n_nodes(subtree->tree);
    if (n_nodes >= FS_SUBTREE_MAX_NODES) {
        return base_fail(err, BASE_LIMIT, "%s: %u files are too many",
                         subtree->name, n_nodes);
    }
    subtree->files = calloc(n_nodes, sizeof(*subtree->files));
    if (subtree->files == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot show %u files", n_nodes);
    }
    return BASE_OK;
}

enum base_code fs_subtree_create(const struct store_source *source,
                                 const char *name,
                                 struct ptc_spec **spec,
                                 enum store_tree_kind kind,
                                 struct fs_subtree **ret,
                                 struct base_err *err)
{
    BASE_AUTO(fs_subtree) subtree = NULL;

    BASE_TRY(create(name, &subtree, err));
    BASE_TRY(store_target_open(source, spec, &subtree->own_target, err));
    subtree->target = subtree->own_target;
    BASE_TRY(fill(subtree, kind, err));
    *ret = base_steal(&subtree);
    return BASE_OK;
}

enum base_code fs_subtree_create_of(const struct store_target *target,
                                    const char *name,
                                    enum store_tree_kind kind,
                                    struct fs_subtree **ret,
                                    struct base_err *err)
{
    BASE_AUTO(fs_subtree) subtree = NULL;

    BASE_TRY(create(name, &subtree, err));
    subtree->target = target;
    BASE_TRY(fill(subtree, kind, err));
    *ret = base_steal(&subtree);
    return BASE_OK;
}
