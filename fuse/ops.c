#include "fuse/ops_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "fuse/agent.h"
#include "fuse/handover.h"
#include "fuse/ops.h"
#include "fuse/ops_save.h"

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
    case BASE_UNREACHABLE:
        return EHOSTUNREACH;
    case BASE_TIMEOUT:
        return ETIMEDOUT;
    }
    return EIO;
}

void fs_tell(struct fs *fs,
             enum base_level level,
             const char *what,
             const struct fs_node *node,
             const char *reason)
{
    BASE_AUTO_BUF path;

    base_buf_init(&path, 4096);
    fs_node_path(node, &path);
    fs_events_add(fs->events, level, what, path.ptr != NULL ? path.ptr : "?",
                  reason);
}

/* Attributes. */

static enum base_code size_of(const struct fs *fs,
                              const struct fs_node *node,
                              uint64_t *ret,
                              struct base_err *err)
{
    char target[FS_TARGET_BYTES];
    char request[FS_REQUEST_BYTES];

    switch (node->kind) {
    case FS_DIR:
    case FS_STATUS: /* made at open; read until the end, as in /proc */
    case FS_EVENTS:
        *ret = 0;
        return BASE_OK;
    case FS_REQUEST:
        *ret = fs_agent_request(fs->agent, node->generation, request);
        return BASE_OK;
    case FS_TEXT:
        *ret = node->node->text.len;
        return BASE_OK;
    case FS_OBJECT:
        *ret = node->node->object->n_bytes;
        return BASE_OK;
    case FS_FILE:
        return fs_views_size(node, ret, err);
    case FS_LINK:
        BASE_TRY(fs_node_target(fs->versions, node, target, err));
        *ret = strlen(target);
        return BASE_OK;
    }
    abort(); /* not a kind */
}

/* The version that @node belongs to; NULL: to none of a store's. */
static const struct fs_version *version_of(const struct fs *fs,
                                           const struct fs_node *node)
{
    return node->version != NULL ? node->version
                                 : fs_versions_root(fs->versions);
}

static mode_t mode_of(const struct fs *fs, const struct fs_node *node)
{
    mode_t mode = node->kind == FS_DIR ? S_IFDIR | 0500 : S_IFREG | 0400;

    if (node->kind == FS_LINK) {
        return S_IFLNK | 0777;
    }
    if (fs_node_is_save(node)) {
        mode |= 0200;
    }
    /* A job's state is its owner's; a directory is whoever's may read it. */
    if (fs->options->allow_other && fs->options->job == NULL) {
        mode |= (mode & 0500) >> 3 | (mode & 0500) >> 6;
    }
    return mode;
}

enum base_code fs_attr(const struct fs *fs,
                       const struct fs_node *node,
                       struct stat *ret,
                       struct base_err *err)
{
    const struct fs_version *version = version_of(fs, node);
    struct timespec time = version != NULL ? version->time : fs->started;
    uint64_t n_bytes;

    BASE_TRY(size_of(fs, node, &n_bytes, err));
    *ret = (struct stat){
        .st_ino = node->ino,
        .st_mode = mode_of(fs, node),
        .st_nlink = node->kind == FS_DIR ? 2 : 1,
        .st_uid = fs->uid,
        .st_gid = fs->gid,
        .st_size = (off_t)n_bytes,
        /* Readers make buffers of it, and the kernel pins all of a buffer
         * for a direct read, however short the file. */
        .st_blksize = n_bytes < FS_MAX_READ ? 4096 : FS_MAX_READ,
        .st_blocks = (blkcnt_t)(n_bytes / 512 + (n_bytes % 512 != 0)),
        .st_atim = time,
        .st_mtim = time,
        .st_ctim = time,
    };
    return BASE_OK;
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    FS_AUTO_NODE node = {0};
    struct stat attr;
    struct base_err err;
    enum base_code rc;

    (void)fi;
    rc = fs_tree_node(fs->versions, ino, &node, &err);
    if (rc == BASE_OK) {
        rc = fs_attr(fs, &node, &attr, &err);
        if (rc != BASE_OK) {
            fs_tell(fs, BASE_ERROR, "stat failed", &node, err.text);
        }
    }
    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc)); /* as with all replies: when
                                      it fails, the kernel does not listen */
        return;
    }
    (void)fuse_reply_attr(req, &attr, fs_attr_s(&node));
}

/* Lookup. */

static enum base_code lookup(struct fs *fs,
                             const struct fs_node *dir,
                             struct base_str name,
                             struct fs_node *ret_node,
                             struct fuse_entry_param *ret,
                             struct base_err *err)
{
    BASE_TRY(fs_tree_child(fs->versions, dir, name, ret_node, err));
    BASE_TRY(fs_attr(fs, ret_node, &ret->attr, err));
    ret->ino = ret_node->ino;
    ret->generation = 1;
    ret->attr_timeout = fs_attr_s(ret_node);
    ret->entry_timeout = fs_entry_of_s(fs, ret_node);
    return BASE_OK;
}

/* The kernel remembers the node from here on, until it says FORGET. */
static void reply_found(fuse_req_t req,
                        struct fs *fs,
                        const struct fs_node *node,
                        const struct fuse_entry_param *entry)
{
    FS_AUTO_ONCE once = fs_once_begin(fs->handover, fs_channel_unique());

    if (!once.is_counted) {
        fs_versions_remember(fs->versions, node->version, 1);
        fs_once_count(&once);
    }
    if (fuse_reply_entry(req, entry) != 0) {
        fs_versions_forget(fs->versions, node->version, 1); /* interrupted */
    }
}

/* A name in as/ that shows no layout does not exist; it may be one that a
 * person mistyped, so the reason is told. */
static int as_failed(struct fs *fs,
                     const struct fs_node *dir,
                     const char *name,
                     enum base_code rc,
                     const struct base_err *err)
{
    BASE_AUTO_BUF path;

    base_buf_init(&path, 4096);
    fs_node_path(dir, &path);
    (void)base_buf_addf(&path, "/%s", name);
    if (name[0] != '.') {
        fs_events_add(fs->events, BASE_WARNING, "no such layout",
                      path.ptr != NULL ? path.ptr : name, err->text);
    }
    return rc == BASE_NO_MEM || rc == BASE_IO ? fs_errno(rc) : ENOENT;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param entry = {0};
    FS_AUTO_NODE dir = {0};
    FS_AUTO_NODE node = {0};
    struct base_err err;
    enum base_code rc;

    rc = fs_tree_node(fs->versions, parent, &dir, &err);
    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
        return;
    }
    if (fs_node_is_save(&dir)) {
        fs_gen_lookup(req, dir.generation, name);
        return;
    }
    rc = lookup(fs, &dir, base_str_of(name), &node, &entry, &err);
    if (rc == BASE_OK) {
        reply_found(req, fs, &node, &entry);
        if (dir.version == NULL && node.version != NULL &&
            entry.entry_timeout <= 0) {
            fs_watch_wake(fs->watch); /* perhaps it was just opened */
        }
    } else if (fs_node_is_as(&dir)) {
        (void)fuse_reply_err(req, as_failed(fs, &dir, name, rc, &err));
    } else if (rc == BASE_NOT_FOUND && !fs_node_is_kept(&dir)) {
        (void)fuse_reply_err(req, ENOENT);
    } else if (rc == BASE_NOT_FOUND) {
        /* Nor will it ever exist: let the kernel remember. */
        entry = (struct fuse_entry_param){.entry_timeout = FS_FOREVER_S};
        (void)fuse_reply_entry(req, &entry);
    } else {
        fs_tell(fs, BASE_ERROR, "lookup failed", node.ino != 0 ? &node : &dir,
                err.text);
        (void)fuse_reply_err(req, fs_errno(rc));
    }
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    struct fs *fs = fs_of(req);
    char target[FS_TARGET_BYTES];
    FS_AUTO_NODE node = {0};
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->versions, ino, &node, &err);

    if (rc == BASE_OK && node.kind != FS_LINK) {
        rc = BASE_BAD_ARG;
    } else if (rc == BASE_OK) {
        rc = fs_node_target(fs->versions, &node, target, &err);
        if (rc != BASE_OK) {
            fs_tell(fs, BASE_ERROR, "readlink failed", &node, err.text);
        }
    }
    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
    } else {
        (void)fuse_reply_readlink(req, target);
    }
}

/* The kernel no longer remembers what it looked up @n_lookups times. */
static void forget(struct fs *fs, fuse_ino_t ino, uint64_t n_lookups)
{
    FS_AUTO_NODE node = {0};
    struct base_err err;

    if (ino != FS_ROOT_INO &&
        fs_tree_node(fs->versions, ino, &node, &err) == BASE_OK) {
        fs_versions_forget(fs->versions, node.version, n_lookups);
    }
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups)
{
    forget(fs_of(req), ino, n_lookups);
    fuse_reply_none(req);
}

static void
op_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *items)
{
    struct fs *fs = fs_of(req);
    size_t i;

    for (i = 0; i < n; i++) {
        forget(fs, items[i].ino, items[i].nlookup);
    }
    fuse_reply_none(req);
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
    struct fs *fs = fs_of(req);
    FS_AUTO_NODE node = {0};
    struct base_err err;
    int errnum = fs_errno(fs_tree_node(fs->versions, ino, &node, &err));

    if (errnum == 0 && (mask & W_OK) != 0 && !fs_node_is_save(&node)) {
        errnum = EROFS;
    } else if (errnum == 0 && (mask & X_OK) != 0 && node.kind != FS_DIR) {
        errnum = EACCES;
    }
    (void)fuse_reply_err(req, errnum);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct fs *fs = fs_of(req);
    struct statvfs stat = {.f_bsize = 4096, .f_frsize = 4096, .f_namemax = 255};
    FS_AUTO_NODE node = {0};
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->versions, ino, &node, &err);
    const struct fs_version *version;

    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
        return;
    }
    version = version_of(fs, &node);
    if (version != NULL) {
        const struct ptc_table *table = store_source_table(version->source);
        uint64_t n_bytes = ptc_table_n_bytes(table);

        stat.f_blocks = n_bytes / 4096 + (n_bytes % 4096 != 0);
        stat.f_files = ptc_table_n_tensors(table);
    }
    (void)fuse_reply_statfs(req, &stat);
}

/* Extended attributes: which table, which layout. */

#define XATTR_TABLE   "user.retile.table"
#define XATTR_LAYOUT  "user.retile.layout"
#define XATTR_VERSION "user.retile.version"
#define XATTR_DIGEST  "user.retile.digest"

enum { VALUE_BYTES = BASE_DIGEST_TEXT_BYTES };

_Static_assert(VALUE_BYTES > 20, "a version's number fits");

/* Is @node in a version of a store?  A mounted directory has no number. */
static bool is_stored(const struct fs_node *node)
{
    return node->version != NULL && !node->version->is_at_root;
}

static bool is_stored_root(const struct fs_node *node)
{
    return is_stored(node) && node->slot == FS_SLOT_OWN && node->idx == 0;
}

/* False: @node has no such attribute. */
static bool xattr_get(const struct fs *fs,
                      const struct fs_node *node,
                      const char *name,
                      char *ret)
{
    const struct fs_version *version = version_of(fs, node);
    const struct ptc_table *table;
    struct base_digest digest;
    struct base_err err;

    if (strcmp(name, XATTR_TABLE) == 0 && version != NULL) {
        table = node->subtree != NULL
                    ? store_target_table(node->subtree->target)
                    : store_source_table(version->source);
        (void)base_digest_format(ptc_table_digest(table), ret);
        return true;
    }
    if (strcmp(name, XATTR_LAYOUT) == 0 && node->subtree != NULL) {
        (void)base_digest_format(node->subtree->layout, ret);
        return true;
    }
    if (strcmp(name, XATTR_VERSION) == 0 && is_stored(node)) {
        (void)snprintf(ret, VALUE_BYTES, "%" PRIu64, node->version->number);
        return true;
    }
    if (strcmp(name, XATTR_DIGEST) == 0 && is_stored_root(node) &&
        fs_versions_digest(fs->versions, node->version->number, &digest,
                           &err) == BASE_OK) {
        (void)base_digest_format(digest, ret);
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
    char value[VALUE_BYTES];
    FS_AUTO_NODE node = {0};
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->versions, ino, &node, &err);

    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
    } else if (!xattr_get(fs, &node, name, value)) {
        (void)fuse_reply_err(req, ENODATA);
    } else {
        reply_xattr(req, value, strlen(value), size);
    }
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    static const char *const names[] = {XATTR_TABLE, XATTR_LAYOUT,
                                        XATTR_VERSION, XATTR_DIGEST};
    char list[sizeof(names) / sizeof(names[0]) * sizeof(XATTR_VERSION)];
    char value[VALUE_BYTES];
    struct fs *fs = fs_of(req);
    FS_AUTO_NODE node = {0};
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->versions, ino, &node, &err);
    size_t n = 0;
    size_t i;

    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
        return;
    }
    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (xattr_get(fs, &node, names[i], value)) {
            n += (size_t)(stpcpy(list + n, names[i]) - (list + n)) + 1;
        }
    }
    reply_xattr(req, list, n, size);
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
        .forget = op_forget,
        .forget_multi = op_forget_multi,
        .getattr = op_getattr,
        .readlink = op_readlink,
        .access = op_access,
        .statfs = op_statfs,
        .getxattr = op_getxattr,
        .listxattr = op_listxattr,
        .opendir = fs_op_opendir,
        .releasedir = fs_op_releasedir,
        .readdir = fs_op_readdir,
        .readdirplus = fs_op_readdirplus,
        .open = fs_op_open,
        .read = fs_op_read,
        .release = fs_op_release,
    };

    fs_refuse(&ops);
    ops.mkdir = fs_gen_mkdir;
    ops.rmdir = fs_gen_rmdir;
    ops.rename = fs_gen_rename;
    fs_save_route(&ops);
    return &ops;
}
