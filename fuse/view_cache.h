/* Sizes and views of the files that show tensors.
 *
 * A file's size is found (its header made) when it is first asked for, and
 * kept.  Its view is made at the first open and stays at least as long as a
 * handle is open; views that no handle uses are kept up to a budget of memory,
 * the least recently used go first.
 *
 * Any thread.  A view is made without the lock held; others that want the same
 * file wait for it. */
#ifndef FUSE_VIEW_CACHE_H
#define FUSE_VIEW_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "fuse/subtree.h"
#include "ptc/view.h"

struct fs_node;

struct fs_views;
struct fs_views *fs_views_create(size_t max_unused_bytes); /* NULL: no memory */
/* After all subtrees were dropped. */
void fs_views_free(struct fs_views *views);

/* Free the views of @subtree, which nobody uses any more: before it is freed.
 * (Handles that were open when the mount ended may still count as users.) */
void fs_views_drop(struct fs_views *views, const struct fs_subtree *subtree);

/* Bytes in @node, a FS_FILE.  Errors: those of the file's making. */
enum base_code fs_views_size(const struct fs_node *node,
                             uint64_t *ret_bytes,
                             struct base_err *err) BASE_MUST_CHECK;
/* The same if it is known already. */
bool fs_views_known_size(const struct fs_node *node, uint64_t *ret_bytes);

/* Use @node's view: fs_views_get yields it until fs_views_release. */
enum base_code fs_views_use(struct fs_views *views,
                            const struct fs_node *node,
                            struct base_err *err) BASE_MUST_CHECK;
void fs_views_release(struct fs_views *views, const struct fs_node *node);
const struct ptc_view *fs_views_get(const struct fs_node *node);
/* The blob that has exactly @node's bytes (fuse/whole.h), or NULL.  While in
 * use. */
const struct store_blob *fs_views_whole(const struct fs_node *node);

/* Memory of all views, and of those that no handle uses. */
void fs_views_memory(struct fs_views *views,
                     size_t *ret_bytes,
                     size_t *ret_unused_bytes);

#endif
