#include "fuse/ops_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "fuse/handover.h"

/* Positions in a directory: ".", "..", then the children. */
enum { AT_SELF, AT_PARENT, AT_CHILDREN };

/* A reply under construction. */
struct listing {
    fuse_req_t req;
    bool has_attrs; /* readdirplus */
    char *bytes;
    size_t n_bytes;
    size_t max_bytes;
    uint64_t n_lookups; /* entries that the kernel takes for a LOOKUP each */
};

static enum base_code prepared_dir(struct fs *fs,
                                   fuse_ino_t ino,
                                   struct fs_node *ret,
                                   struct base_err *err)
{
    BASE_TRY(fs_tree_node(fs->versions, ino, ret, err));
    BASE_TRY(fs_tree_prepare(fs->versions, ret, err));
    return fs_gen_prepare(fs, ret, err);
}

void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    FS_AUTO_ONCE once = fs_once_begin(fs->handover, fs_channel_unique());
    FS_AUTO_NODE dir = {0};
    struct base_err err;
    enum base_code rc = prepared_dir(fs, ino, &dir, &err);

    if (rc != BASE_OK) {
        fs_tell(fs, BASE_ERROR, "opendir failed", &dir, err.text);
        (void)fuse_reply_err(req, fs_errno(rc));
        return;
    }
    fi->cache_readdir = fs_node_is_fixed(&dir);
    fi->keep_cache = fs_node_is_fixed(&dir);
    if (!once.is_counted) {
        fs_versions_handle_open(fs->versions, dir.version);
        fs_once_count(&once);
    }
    if (fuse_reply_open(req, fi) != 0) {
        fs_versions_handle_close(fs->versions, dir.version); /* interrupted */
    }
}

void fs_op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    FS_AUTO_ONCE once = fs_once_begin(fs->handover, fs_channel_unique());
    FS_AUTO_NODE dir = {0};
    struct base_err err;

    (void)fi;
    if (!once.is_counted &&
        fs_tree_node(fs->versions, ino, &dir, &err) == BASE_OK) {
        fs_once_count(&once);
        fs_versions_handle_close(fs->versions, dir.version);
    }
    (void)fuse_reply_err(req, 0);
}

/* Type and number of a node: all that a plain listing needs. */
static struct stat brief_of(const struct fs_node *node)
{
    return (struct stat){
        .st_ino = node->ino,
        .st_mode = node->kind == FS_DIR    ? S_IFDIR
                   : node->kind == FS_LINK ? S_IFLNK
                                           : S_IFREG,
    };
}

/* What readdirplus says of @node.  No attributes (ino 0) where the kernel may
 * not remember them, nor for a file whose size is not known yet: who wants them
 * asks for them. */
static struct fuse_entry_param plus_of(const struct fs *fs,
                                       const struct fs_node *node)
{
    struct fuse_entry_param entry = {.attr = brief_of(node)};
    struct base_err err;
    uint64_t n_bytes;

    if (!fs_node_is_kept(node) ||
        (node->kind == FS_FILE && !fs_views_known_size(node, &n_bytes))) {
        return entry;
    }
    if (fs_attr(fs, node, &entry.attr, &err) == BASE_OK) {
        entry.ino = node->ino;
        entry.generation = 1;
        entry.attr_timeout = fs_attr_s(node);
        entry.entry_timeout = fs_entry_of_s(fs, node);
    }
    return entry;
}

/* False when it does not fit. */
static bool add(struct listing *listing,
                const char *name,
                const struct fuse_entry_param *entry,
                uint64_t next)
{
    char *at = listing->bytes + listing->n_bytes;
    size_t room = listing->max_bytes - listing->n_bytes;
    size_t n = listing->has_attrs
                   ? fuse_add_direntry_plus(listing->req, at, room, name, entry,
                                            (off_t)next)
                   : fuse_add_direntry(listing->req, at, room, name,
                                       &entry->attr, (off_t)next);

    if (n > room) {
        return false;
    }
    listing->n_bytes += n;
    return true;
}

static void fill(const struct fs *fs,
                 const struct fs_node *dir,
                 uint64_t position,
                 struct listing *listing)
{
    const struct fuse_entry_param self = {.attr = brief_of(dir)};
    char room[FS_NAME_BYTES];
    struct fs_node child;
    struct base_str name;
    uint64_t next;

    if (position == AT_SELF) {
        if (!add(listing, ".", &self, AT_PARENT)) {
            return;
        }
        position = AT_PARENT;
    }
    if (position == AT_PARENT) {
        if (!add(listing, "..", &self, AT_CHILDREN)) {
            return;
        }
        position = AT_CHILDREN;
    }
    while (
        fs_tree_list(dir, position - AT_CHILDREN, room, &name, &child, &next)) {
        struct fuse_entry_param entry = {.attr = brief_of(&child)};

        if (listing->has_attrs) {
            entry = plus_of(fs, &child);
        }
        position = next + AT_CHILDREN;
        if (!add(listing, name.ptr, &entry, position)) {
            return;
        }
        listing->n_lookups += entry.ino != 0;
    }
}

static void
list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool has_attrs)
{
    struct fs *fs = fs_of(req);
    BASE_AUTO_MEM char *bytes = malloc(size);
    struct listing listing = {
        .req = req, .has_attrs = has_attrs, .bytes = bytes, .max_bytes = size};
    FS_AUTO_NODE dir = {0};
    struct base_err err;
    enum base_code rc = prepared_dir(fs, ino, &dir, &err);

    if (rc == BASE_OK && bytes == NULL) {
        rc = BASE_NO_MEM;
    }
    if (rc != BASE_OK || offset < 0) {
        (void)fuse_reply_err(req, rc != BASE_OK ? fs_errno(rc) : EINVAL);
        return;
    }
    fill(fs, &dir, (uint64_t)offset, &listing);
    fs_versions_remember(fs->versions, dir.version, listing.n_lookups);
    if (fuse_reply_buf(req, bytes, listing.n_bytes) != 0) {
        fs_versions_forget(fs->versions, dir.version, listing.n_lookups);
    }
}

void fs_op_readdir(fuse_req_t req,
                   fuse_ino_t ino,
                   size_t size,
                   off_t offset,
                   struct fuse_file_info *fi)
{
    (void)fi;
    list(req, ino, size, offset, false);
}

void fs_op_readdirplus(fuse_req_t req,
                       fuse_ino_t ino,
                       size_t size,
                       off_t offset,
                       struct fuse_file_info *fi)
{
    (void)fi;
    list(req, ino, size, offset, true);
}
