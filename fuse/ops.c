#include "fuse/ops_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fuse/ops.h"

int fs_errno(enum base_code code)
{
    switch (code) {
    case BASE_OK:
        return 0;
    case BASE_BAD_ARG:
        return EINVAL;
    case BASE_BAD_INPUT:
    case BASE_MISMATCH:
    case BASE_IO:
    case BASE_CHANGED:
        return EIO;
    case BASE_NOT_FOUND:
        return ENOENT;
    case BASE_EXISTS:
        return EEXIST;
    case BASE_DENIED:
        return EACCES;
    case BASE_LIMIT:
        return EFBIG;
    case BASE_NO_MEM:
        return ENOMEM;
    case BASE_NO_SPACE:
        return ENOSPC;
    case BASE_INTERRUPTED:
        return EINTR;
    case BASE_UNSUPPORTED:
        return EOPNOTSUPP;
    }
    return EIO;
}

void fs_tell(struct fs *fs,
             const char *what,
             const struct fs_node *node,
             const char *reason)
{
    BASE_AUTO_BUF path;

    base_buf_init(&path, 4096);
    fs_node_path(node, &path);
    fs_events_add(fs->events, BASE_ERROR, what,
                  path.ptr != NULL ? path.ptr : "?", reason);
}

/* Attributes. */

static enum base_code
size_of(const struct fs_node *node, uint64_t *ret, struct base_err *err)
{
    switch (node->kind) {
    case FS_DIR:
    case FS_STATUS: /* made at open; read until the end, as in /proc */
    case FS_EVENTS:
        *ret = 0;
        return BASE_OK;
    case FS_TEXT:
        *ret = node->node->text.len;
        return BASE_OK;
    case FS_OBJECT:
        *ret = node->node->object->n_bytes;
        return BASE_OK;
    case FS_FILE:
        return fs_views_size(node, ret, err);
    }
    abort(); /* not a kind */
}

enum base_code fs_attr(const struct fs *fs,
                       const struct fs_node *node,
                       struct stat *ret,
                       struct base_err *err)
{
    mode_t mode = node->kind == FS_DIR ? S_IFDIR | 0500 : S_IFREG | 0400;
    uint64_t n_bytes;

    BASE_TRY(size_of(node, &n_bytes, err));
    if (fs->options->allow_other) {
        mode |= (mode & 0500) >> 3 | (mode & 0500) >> 6;
    }
    *ret = (struct stat){
        .st_ino = node->ino,
        .st_mode = mode,
        .st_nlink = node->kind == FS_DIR ? 2 : 1,
        .st_uid = fs->uid,
        .st_gid = fs->gid,
        .st_size = (off_t)n_bytes,
        /* Readers make buffers of it, and the kernel pins all of a buffer
         * for a direct read, however short the file. */
        .st_blksize = n_bytes < FS_MAX_READ ? 4096 : FS_MAX_READ,
        .st_blocks = (blkcnt_t)(n_bytes / 512 + (n_bytes % 512 != 0)),
        .st_atim = fs->newest,
        .st_mtim = fs->newest,
        .st_ctim = fs->newest,
    };
    return BASE_OK;
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct fs_node node = {.kind = FS_DIR};
    struct stat attr;
    struct base_err err;
    enum base_code rc;

    (void)fi;
    rc = fs_tree_node(fs->tree, ino, &node, &err);
    if (rc == BASE_OK) {
        rc = fs_attr(fs, &node, &attr, &err);
        if (rc != BASE_OK) {
            fs_tell(fs, "stat failed", &node, err.text);
        }
    }
    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc)); /* as with all replies: when
                                      it fails, the kernel does not listen */
        return;
    }
    (void)fuse_reply_attr(req, &attr, FS_FOREVER_S);
}

/* Lookup. */

static enum base_code lookup(struct fs *fs,
                             struct fs_node *dir,
                             struct base_str name,
                             struct fuse_entry_param *ret,
                             struct base_err *err)
{
    struct fs_node node;

    BASE_TRY(fs_tree_child(fs->tree, dir, name, &node, err));
    *dir = node; /* what a failure is about */
    BASE_TRY(fs_attr(fs, &node, &ret->attr, err));
    ret->ino = node.ino;
    ret->generation = 1;
    ret->attr_timeout = FS_FOREVER_S;
    ret->entry_timeout = FS_FOREVER_S;
    return BASE_OK;
}

/* A name in as/ that shows no layout does not exist; it may be one that a
 * person mistyped, so the reason is told. */
static int as_failed(struct fs *fs,
                     const char *name,
                     enum base_code rc,
                     const struct base_err *err)
{
    char path[300];

    (void)snprintf(path, sizeof(path), "as/%s", name);
    if (name[0] != '.') {
        fs_events_add(fs->events, BASE_WARNING, "no such layout", path,
                      err->text);
    }
    return rc == BASE_NO_MEM || rc == BASE_IO ? fs_errno(rc) : ENOENT;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param entry = {0};
    struct fs_node node = {.kind = FS_DIR};
    struct base_err err;
    enum base_code rc;
    bool is_as;

    rc = fs_tree_node(fs->tree, parent, &node, &err);
    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
        return;
    }
    is_as = fs_node_is_as(&node);
    rc = lookup(fs, &node, base_str_of(name), &entry, &err);
    if (rc == BASE_OK) {
        (void)fuse_reply_entry(req, &entry);
    } else if (is_as) {
        (void)fuse_reply_err(req, as_failed(fs, name, rc, &err));
    } else if (rc == BASE_NOT_FOUND) {
        /* Nor will it ever exist: let the kernel remember. */
        entry = (struct fuse_entry_param){.entry_timeout = FS_FOREVER_S};
        (void)fuse_reply_entry(req, &entry);
    } else {
        fs_tell(fs, "lookup failed", &node, err.text);
        (void)fuse_reply_err(req, fs_errno(rc));
    }
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
    struct fs *fs = fs_of(req);
    struct fs_node node;
    struct base_err err;
    int errnum = fs_errno(fs_tree_node(fs->tree, ino, &node, &err));

    if (errnum == 0 && (mask & W_OK) != 0) {
        errnum = EROFS;
    } else if (errnum == 0 && (mask & X_OK) != 0 && node.kind != FS_DIR) {
        errnum = EACCES;
    }
    (void)fuse_reply_err(req, errnum);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct fs *fs = fs_of(req);
    uint64_t n_bytes = ptc_table_n_bytes(store_source_table(fs->source));
    struct statvfs stat = {
        .f_bsize = 4096,
        .f_frsize = 4096,
        .f_blocks = n_bytes / 4096 + (n_bytes % 4096 != 0),
        .f_files = ptc_table_n_tensors(store_source_table(fs->source)),
        .f_namemax = 255,
    };

    (void)ino;
    (void)fuse_reply_statfs(req, &stat);
}

/* Extended attributes: which table, which layout. */

#define XATTR_TABLE  "user.retile.table"
#define XATTR_LAYOUT "user.retile.layout"

/* False: @node has no such attribute. */
static bool xattr_get(const struct fs *fs,
                      const struct fs_node *node,
                      const char *name,
                      char *ret)
{
    const struct ptc_table *table = store_source_table(fs->source);

    if (strcmp(name, XATTR_TABLE) == 0) {
        if (node->subtree != NULL) {
            table = store_target_table(node->subtree->target);
        }
        (void)base_digest_format(ptc_table_digest(table), ret);
        return true;
    }
    if (strcmp(name, XATTR_LAYOUT) == 0 && node->subtree != NULL) {
        (void)base_digest_format(node->subtree->layout, ret);
        return true;
    }
    return false;
}

static void
reply_xattr(fuse_req_t req, const char *value, size_t n, size_t room)
{
    if (room == 0) {
        (void)fuse_reply_xattr(req, n);
    } else if (room < n) {
        (void)fuse_reply_err(req, ERANGE);
    } else {
        (void)fuse_reply_buf(req, value, n);
    }
}

static void
op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    struct fs *fs = fs_of(req);
    char value[BASE_DIGEST_TEXT_BYTES];
    struct fs_node node;
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->tree, ino, &node, &err);

    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
    } else if (!xattr_get(fs, &node, name, value)) {
        (void)fuse_reply_err(req, ENODATA);
    } else {
        reply_xattr(req, value, sizeof(value) - 1, size);
    }
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    static const char names[] = XATTR_TABLE "\0" XATTR_LAYOUT;
    struct fs *fs = fs_of(req);
    struct fs_node node;
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->tree, ino, &node, &err);

    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
    } else {
        reply_xattr(req, names,
                    node.subtree != NULL ? sizeof(names) : sizeof(XATTR_TABLE),
                    size);
    }
}

/* The session's beginning. */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
    struct fs_channel *channel = userdata;
    struct fs *fs = fs_channel_owner(channel);

    /* Replies come out of mapped files: splicing them costs twice as much. */
    conn->want &= (unsigned)~(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                              FUSE_CAP_SPLICE_MOVE | FUSE_CAP_WRITEBACK_CACHE);
    conn->want |=
        conn->capable & (FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                         FUSE_CAP_PARALLEL_DIROPS);
    conn->max_read = FS_MAX_READ; /* as the mount option says */
    conn->max_background = 64;
    conn->congestion_threshold = 48;
    fs->is_direct = !fs->options->is_page_cache && fs_channel_has_mmap(channel);
}

const struct fuse_lowlevel_ops *fs_ops(void)
{
    static struct fuse_lowlevel_ops ops = {
        .init = op_init,
        .lookup = op_lookup,
        .getattr = op_getattr,
        .access = op_access,
        .statfs = op_statfs,
        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
        .opendir = fs_op_opendir,
        .readdir = fs_op_readdir,
        .readdirplus = fs_op_readdirplus,
        .open = fs_op_open,
        .read = fs_op_read,
        .release = fs_op_release,
    };

    fs_refuse(&ops);
    return &ops;
}
