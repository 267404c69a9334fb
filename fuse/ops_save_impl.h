/* What the operations on saved nodes share, and what fs_save_route routes to. */
#ifndef FUSE_OPS_SAVE_IMPL_H
#define FUSE_OPS_SAVE_IMPL_H

#include "base/fault.h"
#include "fuse/ops_impl.h"
#include "fuse/saves.h"

void save_turn_begin(fuse_req_t req, struct fs_turn *ret);
/* Tell (when it is worth it) that @what happened to @name in @ino, or to @ino
 * itself (NULL). */
void save_tell(fuse_req_t req,
               const char *what,
               fuse_ino_t ino,
               const char *name,
               int errnum);
/* ... and reply; 0 is told to nobody. */
void save_reply_err(fuse_req_t req,
                    const char *what,
                    fuse_ino_t ino,
                    const char *name,
                    int errnum);
int save_fault(enum base_fault_point point);
void save_own(const struct fs *fs, struct stat *attr);

/* ops_save.c */
void save_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void save_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void save_setattr(fuse_req_t req,
                  fuse_ino_t ino,
                  struct stat *attr,
                  int to_set,
                  struct fuse_file_info *fi);
void save_readlink(fuse_req_t req, fuse_ino_t ino);
void save_mknod(fuse_req_t req,
                fuse_ino_t parent,
                const char *name,
                mode_t mode,
                dev_t rdev);
void save_mkdir(fuse_req_t req,
                fuse_ino_t parent,
                const char *name,
                mode_t mode);
void save_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void save_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void save_symlink(fuse_req_t req,
                  const char *link,
                  fuse_ino_t parent,
                  const char *name);
void save_rename(fuse_req_t req,
                 fuse_ino_t parent,
                 const char *name,
                 fuse_ino_t new_parent,
                 const char *new_name,
                 unsigned int flags);
void save_link(fuse_req_t req,
               fuse_ino_t ino,
               fuse_ino_t new_parent,
               const char *new_name);
void save_statfs(fuse_req_t req, fuse_ino_t ino);
void save_access(fuse_req_t req, fuse_ino_t ino, int mask);
void save_setxattr(fuse_req_t req,
                   fuse_ino_t ino,
                   const char *name,
                   const char *value,
                   size_t size,
                   int flags);
void save_getxattr(fuse_req_t req,
                   fuse_ino_t ino,
                   const char *name,
                   size_t size);
void save_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void save_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ops_save_file.c */
void save_create(fuse_req_t req,
                 fuse_ino_t parent,
                 const char *name,
                 mode_t mode,
                 struct fuse_file_info *fi);
void save_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void save_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void save_read(fuse_req_t req,
               fuse_ino_t ino,
               size_t size,
               off_t offset,
               struct fuse_file_info *fi);
void save_write(fuse_req_t req,
                fuse_ino_t ino,
                const char *bytes,
                size_t size,
                off_t offset,
                struct fuse_file_info *fi);
void save_fsync(fuse_req_t req,
                fuse_ino_t ino,
                int only_data,
                struct fuse_file_info *fi);
void save_fallocate(fuse_req_t req,
                    fuse_ino_t ino,
                    int mode,
                    off_t offset,
                    off_t n_bytes,
                    struct fuse_file_info *fi);
void save_lseek(fuse_req_t req,
                fuse_ino_t ino,
                off_t offset,
                int whence,
                struct fuse_file_info *fi);
void save_copy_file_range(fuse_req_t req,
                          fuse_ino_t from,
                          off_t from_offset,
                          struct fuse_file_info *from_fi,
                          fuse_ino_t to,
                          off_t to_offset,
                          struct fuse_file_info *to_fi,
                          size_t n_bytes,
                          int flags);

/* ops_save_dir.c */
void save_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void save_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void save_readdir(fuse_req_t req,
                  fuse_ino_t ino,
                  size_t size,
                  off_t offset,
                  struct fuse_file_info *fi);
void save_readdirplus(fuse_req_t req,
                      fuse_ino_t ino,
                      size_t size,
                      off_t offset,
                      struct fuse_file_info *fi);
void save_fsyncdir(fuse_req_t req,
                   fuse_ino_t ino,
                   int only_data,
                   struct fuse_file_info *fi);

#endif
