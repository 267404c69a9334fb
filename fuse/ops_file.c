#include "fuse/ops_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/fault.h"
#include "fuse/agent.h"
#include "fuse/handover.h"
#include "fuse/passthrough.h"
#include "fuse/serve.h"
#include "store/verify.h"

enum { SNAPSHOT_MAX_BYTES = 16 << 20 };

/* A handle needs memory only where its text is made at open (.retile/, a
 * request): fi->fh is then the id of a snapshot.  Other handles are nothing but their node, so
 * they work with a server that did not open them, too; fi->fh says which one
 * did. */
static bool has_snapshot(const struct fs_node *node)
{
    return node->kind == FS_STATUS || node->kind == FS_EVENTS ||
           node->kind == FS_REQUEST;
}

static enum base_code format_request(struct fs *fs,
                                     uint64_t generation,
                                     struct base_buf *buf,
                                     struct base_err *err)
{
    char request[FS_REQUEST_BYTES];
    size_t n = fs_agent_request(fs->agent, generation, request);

    (void)base_buf_add(buf, request, n); /* sticky */
    return base_buf_check(buf, err);
}

static enum base_code take_snapshot(struct fs *fs,
                                    const struct fs_node *node,
                                    uint64_t id,
                                    struct fs_snapshot **ret,
                                    struct base_err *err)
{
    BASE_AUTO_BUF text;

    base_buf_init(&text, SNAPSHOT_MAX_BYTES);
    if (node->kind == FS_REQUEST) {
        BASE_TRY(format_request(fs, node->generation, &text, err));
    } else {
        BASE_TRY(node->kind == FS_STATUS
                     ? fs_status_format(fs, &text, err)
                     : fs_events_format(fs->events, &text, err));
    }
    *ret = fs_snapshot_add(&fs->snapshots, id, &text);
    if (*ret == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot describe the mount");
    }
    return BASE_OK;
}

/* How the kernel is to read the file. */
static void set_class(const struct fs *fs,
                      const struct fs_node *node,
                      struct fuse_file_info *fi)
{
    bool is_direct = true;

    switch (node->kind) {
    case FS_DIR:
    case FS_LINK:
    case FS_STATUS:
    case FS_EVENTS:
    case FS_REQUEST:
        break;
    case FS_TEXT:
        is_direct = false; /* small, and in our memory for ever */
        break;
    case FS_OBJECT:
    case FS_FILE:
        is_direct = fs->is_direct;
        break;
    }
    fi->direct_io = is_direct;
    fi->keep_cache = !is_direct;
    fi->noflush = 1;
}

/* The file of the store that the kernel may read in place of @node, which is
 * open; -1: none. */
static int backing_fd(const struct fs_node *node)
{
    const struct store_blob *blob = NULL;

    if (node->kind == FS_FILE) {
        blob = fs_views_whole(node);
    } else if (node->kind == FS_OBJECT &&
               store_source_form(node->version->source) == STORE_FORM_VERSION &&
               node->version->verify == NULL) {
        blob = node->node->object;
    }
    return blob != NULL ? blob->fd : -1;
}

static bool is_counted(const struct fs_node *node)
{
    return node->kind == FS_FILE || node->kind == FS_OBJECT;
}

static enum base_code open_node(struct fs *fs,
                                const struct fs_node *node,
                                struct fuse_file_info *fi,
                                struct base_err *err)
{
    struct fs_snapshot *snapshot = NULL;

    BASE_TRY(base_fault_check(BASE_FAULT_mount_open, err));
    switch (node->kind) {
    case FS_DIR:
    case FS_LINK:
        return base_fail(err, BASE_BAD_ARG, "no file");
    case FS_TEXT:
    case FS_OBJECT:
        break;
    case FS_FILE:
        BASE_TRY(fs_views_use(fs->views, node, err));
        break;
    case FS_STATUS:
    case FS_EVENTS:
    case FS_REQUEST:
        BASE_TRY(take_snapshot(fs, node, 0, &snapshot, err));
        break;
    }
    fi->fh = snapshot != NULL ? snapshot->id : fs->handover->incarnation;
    set_class(fs, node, fi);
    fs->stats.n_open++;
    fs->stats.n_opens++;
    return BASE_OK;
}

/* Does this server hold the view of @node for the handle?  One of an earlier
 * server has it in use only while it reads. */
static bool holds_view(const struct fs *fs,
                       const struct fs_node *node,
                       const struct fuse_file_info *fi)
{
    return node->kind == FS_FILE && fi->fh == fs->handover->incarnation;
}

/* What outlives the server is counted once for each request. */

static uint32_t
count_open(struct fs *fs, const struct fs_node *node, struct fs_once *once)
{
    uint32_t backing_id = 0;

    if (!once->is_counted) {
        fs_versions_handle_open(fs->versions, node->version);
    }
    if (is_counted(node)) {
        backing_id =
            fs_backing_use(fs, node->ino, backing_fd(node), !once->is_counted);
    }
    fs_once_count(once);
    return backing_id;
}

static void
count_close(struct fs *fs, const struct fs_node *node, struct fs_once *once)
{
    if (once->is_counted) {
        return;
    }
    fs_once_count(once);
    if (is_counted(node)) {
        fs_backing_release(fs, node->ino);
    }
    fs_versions_handle_close(fs->versions, node->version);
}

static void close_node(struct fs *fs,
                       const struct fs_node *node,
                       const struct fuse_file_info *fi)
{
    if (holds_view(fs, node, fi)) {
        fs_views_release(fs->views, node);
    }
    if (has_snapshot(node)) {
        fs_snapshot_remove(&fs->snapshots,
                           fs_snapshot_find(&fs->snapshots, fi->fh));
    }
    if (fs->stats.n_open > 0) { /* not all were opened here */
        fs->stats.n_open--;
    }
}

void fs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    FS_AUTO_ONCE once = fs_once_begin(fs->handover, fs_channel_unique());
    FS_AUTO_NODE node = {0};
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->versions, ino, &node, &err);

    if (rc == BASE_OK && (fi->flags & O_ACCMODE) != O_RDONLY) {
        (void)fuse_reply_err(req, EROFS);
        return;
    }
    if (rc == BASE_OK) {
        rc = open_node(fs, &node, fi, &err);
        if (rc != BASE_OK) {
            fs_tell(fs, BASE_ERROR, "open failed", &node, err.text);
        }
    }
    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
        return;
    }
    if (fs_reply_open(req, fi, count_open(fs, &node, &once)) != 0) {
        close_node(fs, &node, fi); /* interrupted: no release will come */
        once.is_counted = false;
        count_close(fs, &node, &once);
    }
}

static void
read_failed(struct fs *fs, const struct fs_node *node, const char *reason)
{
    fs->stats.n_failed_reads++;
    fs_tell(fs, BASE_ERROR, "read failed", node, reason);
}

/* What was read without being compared, as was asked for: told once. */
static void tell_undigested(struct fs *fs, const struct fs_node *node)
{
    if (node->version != NULL && node->version->verify != NULL &&
        store_verify_take_undigested(node->version->verify)) {
        fs_tell(fs, BASE_NOTICE, "not verified", node,
                "its version has bytes without a digest, until upkeep is done");
    }
}

/* Answer a read. */
static void serve_read(fuse_req_t req,
                       const struct fs_node *node,
                       struct base_str text,
                       uint64_t offset,
                       size_t size)
{
    struct fs *fs = fs_of(req);
    struct fs_answer answer;
    struct base_err err;
    enum base_code rc = fs_serve(node, text, offset, size, &answer, &err);

    if (rc != BASE_OK) {
        read_failed(fs, node, err.text);
        (void)fuse_reply_err(req, fs_errno(rc));
        return;
    }
    (void)fuse_reply_iov(req, answer.iov, (int)answer.n_iov);
    if (fs_channel_take_fault()) {
        read_failed(fs, node, "a source file shrank while it was read");
        return;
    }
    tell_undigested(fs, node);
    fs->stats.n_reads++;
    fs->stats.n_bytes += answer.n_bytes;
}

/* The text of a handle.  One that an earlier server made is made anew, unless a
 * part of it was read already: ESTALE. */
static int text_of(struct fs *fs,
                   const struct fs_node *node,
                   uint64_t id,
                   off_t offset,
                   struct base_str *ret)
{
    struct fs_snapshot *snapshot;
    struct base_err err;
    enum base_code rc;

    if (!has_snapshot(node)) {
        *ret = (struct base_str){0};
        return 0;
    }
    snapshot = fs_snapshot_find(&fs->snapshots, id);
    if (snapshot == NULL && offset > 0) {
        return ESTALE;
    }
    if (snapshot == NULL) {
        rc = take_snapshot(fs, node, id, &snapshot, &err);
        if (rc != BASE_OK) {
            read_failed(fs, node, err.text);
            return fs_errno(rc);
        }
    }
    *ret = base_buf_str(&snapshot->text);
    return 0;
}

void fs_op_read(fuse_req_t req,
                fuse_ino_t ino,
                size_t size,
                off_t offset,
                struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct base_str text;
    FS_AUTO_NODE node = {0};
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->versions, ino, &node, &err);
    bool uses_view = false;
    int errnum;

    if (rc == BASE_OK && node.kind == FS_FILE && !holds_view(fs, &node, fi)) {
        rc = fs_views_use(fs->views, &node, &err);
        uses_view = rc == BASE_OK;
    }
    if (rc != BASE_OK) {
        (void)fuse_reply_err(req, fs_errno(rc));
        return;
    }
    errnum = text_of(fs, &node, fi->fh, offset, &text);
    if (errnum != 0) {
        (void)fuse_reply_err(req, errnum);
        return;
    }
    serve_read(req, &node, text, (uint64_t)offset, size);
    if (uses_view) {
        fs_views_release(fs->views, &node);
    }
}

void fs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    FS_AUTO_ONCE once = fs_once_begin(fs->handover, fs_channel_unique());
    FS_AUTO_NODE node = {0};
    struct base_err err;

    if (fs_tree_node(fs->versions, ino, &node, &err) == BASE_OK) {
        close_node(fs, &node, fi);
        count_close(fs, &node, &once);
    }
    (void)fuse_reply_err(req, 0);
}
