#include "fuse/view_cache.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

#include "fuse/tree.h"
#include "fuse/whole.h"

struct fs_views {
    size_t max_unused_bytes;
    pthread_mutex_t lock;
    pthread_cond_t built; /* some file is no longer being built */
    /* Guarded by lock. */
    size_t n_bytes;
    size_t n_unused_bytes;
    struct fs_file *oldest; /* unused files that have a view */
    struct fs_file *newest;
};

struct fs_views *fs_views_create(size_t max_unused_bytes)
{
    struct fs_views *views = calloc(1, sizeof(*views));

    if (views != NULL) {
        views->max_unused_bytes = max_unused_bytes;
        (void)pthread_mutex_init(&views->lock, NULL); /* never fail here */
        (void)pthread_cond_init(&views->built, NULL);
    }
    return views;
}

static void view_free(const struct ptc_view *view)
{
    /* Const only to its users.  NOLINTNEXTLINE(clang-diagnostic-cast-qual) */
    ptc_view_free((struct ptc_view *)(uintptr_t)view);
}

void fs_views_free(struct fs_views *views)
{
    if (views == NULL) {
        return;
    }
    (void)pthread_cond_destroy(&views->built);
    (void)pthread_mutex_destroy(&views->lock);
    free(views);
}

static struct fs_file *file_of(const struct fs_node *node)
{
    assert(node->kind == FS_FILE);
    return &node->subtree->files[node->idx];
}

static void keep_size(struct fs_file *file, uint64_t n_bytes)
{
    file->size_plus_1 = n_bytes + 1;
}

bool fs_views_known_size(const struct fs_node *node, uint64_t *ret_bytes)
{
    uint64_t size_plus_1 = file_of(node)->size_plus_1;

    if (size_plus_1 == 0) {
        return false;
    }
    *ret_bytes = size_plus_1 - 1;
    return true;
}

enum base_code fs_views_size(const struct fs_node *node,
                             uint64_t *ret_bytes,
                             struct base_err *err)
{
    BASE_AUTO(ptc_file) shown = NULL;

    if (fs_views_known_size(node, ret_bytes)) {
        return BASE_OK;
    }
    /* Two threads may both do this; they find the same. */
    BASE_TRY(store_tree_file(node->subtree->tree, node->idx, &shown, err));
    *ret_bytes = ptc_file_n_bytes(shown);
    keep_size(file_of(node), *ret_bytes);
    return BASE_OK;
}

static enum base_code
build(const struct fs_node *node, struct ptc_view **ret, struct base_err *err)
{
    BASE_AUTO(ptc_file) shown = NULL;

    BASE_TRY(store_tree_file(node->subtree->tree, node->idx, &shown, err));
    BASE_TRY(ptc_view_create(shown, store_target_pieces(node->subtree->target),
                             ret, err));
    keep_size(file_of(node), ptc_file_n_bytes(shown));
    return BASE_OK;
}

/* Lock held, as in all below. */

static void unused_add(struct fs_views *views, struct fs_file *file)
{
    file->newer = NULL;
    file->older = views->newest;
    if (views->newest != NULL) {
        views->newest->newer = file;
    } else {
        views->oldest = file;
    }
    views->newest = file;
    views->n_unused_bytes += ptc_view_memory_bytes(file->view);
}

static void unused_remove(struct fs_views *views, struct fs_file *file)
{
    if (file->newer != NULL) {
        file->newer->older = file->older;
    } else {
        views->newest = file->older;
    }
    if (file->older != NULL) {
        file->older->newer = file->newer;
    } else {
        views->oldest = file->newer;
    }
    file->older = NULL;
    file->newer = NULL;
    views->n_unused_bytes -= ptc_view_memory_bytes(file->view);
}

static void unused_trim(struct fs_views *views)
{
    struct fs_file *file;

    while (views->n_unused_bytes > views->max_unused_bytes &&
           (file = views->oldest) != NULL) {
        unused_remove(views, file);
        views->n_bytes -= ptc_view_memory_bytes(file->view);
        view_free(file->view);
        file->view = NULL;
    }
}

void fs_views_drop(struct fs_views *views, const struct fs_subtree *subtree)
{
    uint32_t n = store_tree_n_nodes(subtree->tree);
    uint32_t i;

    (void)pthread_mutex_lock(&views->lock);
    for (i = 0; i < n; i++) {
        struct fs_file *file = &subtree->files[i];

        if (file->view != NULL && file->n_users == 0) {
            unused_remove(views, file);
        }
        if (file->view != NULL) {
            views->n_bytes -= ptc_view_memory_bytes(file->view);
            view_free(file->view);
            file->view = NULL;
        }
    }
    (void)pthread_mutex_unlock(&views->lock);
}

/* The file's first user: what is slow is done without the lock, and guarded by
 * is_building. */
static enum base_code
begin(struct fs_views *views, const struct fs_node *node, struct base_err *err)
{
    struct fs_file *file = file_of(node);
    struct ptc_view *view = NULL;
    enum base_code rc = BASE_OK;

    if (file->view != NULL) {
        unused_remove(views, file);
    }
    file->is_building = true;
    (void)pthread_mutex_unlock(&views->lock);
    if (file->view == NULL) {
        rc = build(node, &view, err);
    }
    if (rc == BASE_OK && !file->is_whole_known) {
        file->whole = fs_whole_blob(node, view != NULL ? view : file->view);
        file->is_whole_known = true; /* what is mounted never changes */
    }
    (void)pthread_mutex_lock(&views->lock);
    file->is_building = false;
    (void)pthread_cond_broadcast(&views->built);
    if (view != NULL) {
        file->view = view;
        views->n_bytes += ptc_view_memory_bytes(view);
    }
    return rc;
}

static enum base_code
use(struct fs_views *views, const struct fs_node *node, struct base_err *err)
{
    struct fs_file *file = file_of(node);

    while (file->is_building) { /* ends: building waits for nothing */
        (void)pthread_cond_wait(&views->built, &views->lock);
    }
    if (file->n_users == 0) {
        BASE_TRY(begin(views, node, err));
    }
    file->n_users++;
    return BASE_OK;
}

enum base_code fs_views_use(struct fs_views *views,
                            const struct fs_node *node,
                            struct base_err *err)
{
    enum base_code rc;

    (void)pthread_mutex_lock(&views->lock);
    rc = use(views, node, err);
    (void)pthread_mutex_unlock(&views->lock);
    return rc;
}

void fs_views_release(struct fs_views *views, const struct fs_node *node)
{
    struct fs_file *file = file_of(node);

    (void)pthread_mutex_lock(&views->lock);
    assert(file->n_users > 0);
    if (--file->n_users == 0) {
        unused_add(views, file);
        unused_trim(views);
    }
    (void)pthread_mutex_unlock(&views->lock);
}

const struct ptc_view *fs_views_get(const struct fs_node *node)
{
    return file_of(node)->view;
}

const struct store_blob *fs_views_whole(const struct fs_node *node)
{
    return file_of(node)->whole;
}

void fs_views_memory(struct fs_views *views,
                     size_t *ret_bytes,
                     size_t *ret_unused_bytes)
{
    (void)pthread_mutex_lock(&views->lock);
    *ret_bytes = views->n_bytes;
    *ret_unused_bytes = views->n_unused_bytes;
    (void)pthread_mutex_unlock(&views->lock);
}
