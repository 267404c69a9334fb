/* What the operations' files share. */
#ifndef FUSE_OPS_IMPL_H
#define FUSE_OPS_IMPL_H

#define FUSE_USE_VERSION 314

#include <fuse_lowlevel.h>

#include "fuse/fs.h"

/* Nothing that we show ever changes, but for where links point, and saves. */
#define FS_FOREVER_S 1e9

/* How long the kernel may remember a node's name, and its attributes. */
static inline double fs_entry_s(const struct fs_node *node)
{
    /* A store's version that may be closed is asked for at each use, which shows
     * who uses it; what is below stays as long as it is open, and is forgotten
     * before it is closed. */
    const bool is_below_version = node->version != NULL &&
                                  node->slot != FS_SLOT_MOUNT &&
                                  node->slot != FS_SLOT_SAVED &&
                                  (node->slot != FS_SLOT_OWN || node->idx != 0);

    /* What lists names that come and go is there itself as long as the mount. */
    const bool is_fixed = node->slot == FS_SLOT_MOUNT && node->kind != FS_LINK;

    return fs_node_is_kept(node) || is_below_version || is_fixed ? FS_FOREVER_S
                                                                 : 0;
}

/* The same, for an answer to the kernel. */
static inline double fs_entry_of_s(const struct fs *fs,
                                   const struct fs_node *node)
{
    return fs_versions_is_lasting(fs->versions, node->version)
               ? FS_FOREVER_S
               : fs_entry_s(node);
}

static inline double fs_attr_s(const struct fs_node *node)
{
    return node->kind == FS_LINK || node->kind == FS_REQUEST ? 0 : FS_FOREVER_S;
}

static inline struct fs *fs_of(fuse_req_t req)
{
    return fs_channel_owner(fuse_req_userdata(req));
}

/* The errno of a code. */
int fs_errno(enum base_code code);
/* The attributes of @node.  The size of tensors' files is found when it is not
 * known; see fs_views_size. */
enum base_code fs_attr(const struct fs *fs,
                       const struct fs_node *node,
                       struct stat *ret,
                       struct base_err *err) BASE_MUST_CHECK;
/* Log, and keep as an event, that @what happened to @node. */
void fs_tell(struct fs *fs,
             enum base_level level,
             const char *what,
             const struct fs_node *node,
             const char *reason);

/* ops_dir.c */
void fs_op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_releasedir(fuse_req_t req,
                      fuse_ino_t ino,
                      struct fuse_file_info *fi);
void fs_op_readdir(fuse_req_t req,
                   fuse_ino_t ino,
                   size_t size,
                   off_t offset,
                   struct fuse_file_info *fi);
void fs_op_readdirplus(fuse_req_t req,
                       fuse_ino_t ino,
                       size_t size,
                       off_t offset,
                       struct fuse_file_info *fi);

/* ops_file.c */
void fs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void fs_op_read(fuse_req_t req,
                fuse_ino_t ino,
                size_t size,
                off_t offset,
                struct fuse_file_info *fi);
void fs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* ops_gen.c: gen/G/save.  What changes something there is EROFS in any other
 * directory that is not a saved one. */
enum base_code fs_gen_prepare(struct fs *fs,
                              struct fs_node *dir,
                              struct base_err *err) BASE_MUST_CHECK;
void fs_gen_lookup(fuse_req_t req, uint64_t generation, const char *name);
void fs_gen_mkdir(fuse_req_t req,
                  fuse_ino_t parent,
                  const char *name,
                  mode_t mode);
void fs_gen_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void fs_gen_rename(fuse_req_t req,
                   fuse_ino_t parent,
                   const char *name,
                   fuse_ino_t new_parent,
                   const char *new_name,
                   unsigned flags);

/* ops_refuse.c: what would change something, answered with EROFS. */
void fs_refuse(struct fuse_lowlevel_ops *ops);

#endif
