/* A mount is read-only and says so to the kernel, which then sends none of
 * these; but root can remount it read-write. */
#include "fuse/ops_impl.h"

#include <errno.h>

static void refuse(fuse_req_t req)
{
    (void)fuse_reply_err(req, EROFS);
}

static void refuse_setattr(fuse_req_t req,
                           fuse_ino_t ino,
                           struct stat *attr,
                           int to_set,
                           struct fuse_file_info *fi)
{
    (void)ino;
    (void)attr;
    (void)to_set;
    (void)fi;
    refuse(req);
}

static void refuse_mknod(fuse_req_t req,
                         fuse_ino_t parent,
                         const char *name,
                         mode_t mode,
                         dev_t rdev)
{
    (void)parent;
    (void)name;
    (void)mode;
    (void)rdev;
    refuse(req);
}

static void
refuse_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (void)parent;
    (void)name;
    (void)mode;
    refuse(req);
}

static void refuse_remove(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (void)parent;
    (void)name;
    refuse(req);
}

static void refuse_symlink(fuse_req_t req,
                           const char *link,
                           fuse_ino_t parent,
                           const char *name)
{
    (void)link;
    (void)parent;
    (void)name;
    refuse(req);
}

static void refuse_rename(fuse_req_t req,
                          fuse_ino_t parent,
                          const char *name,
                          fuse_ino_t new_parent,
                          const char *new_name,
                          unsigned int flags)
{
    (void)parent;
    (void)name;
    (void)new_parent;
    (void)new_name;
    (void)flags;
    refuse(req);
}

static void refuse_link(fuse_req_t req,
                        fuse_ino_t ino,
                        fuse_ino_t new_parent,
                        const char *new_name)
{
    (void)ino;
    (void)new_parent;
    (void)new_name;
    refuse(req);
}

static void refuse_create(fuse_req_t req,
                          fuse_ino_t parent,
                          const char *name,
                          mode_t mode,
                          struct fuse_file_info *fi)
{
    (void)parent;
    (void)name;
    (void)mode;
    (void)fi;
    refuse(req);
}

static void refuse_write(fuse_req_t req,
                         fuse_ino_t ino,
                         const char *bytes,
                         size_t size,
                         off_t offset,
                         struct fuse_file_info *fi)
{
    (void)ino;
    (void)bytes;
    (void)size;
    (void)offset;
    (void)fi;
    refuse(req);
}

static void refuse_setxattr(fuse_req_t req,
                            fuse_ino_t ino,
                            const char *name,
                            const char *value,
                            size_t size,
                            int flags)
{
    (void)ino;
    (void)name;
    (void)value;
    (void)size;
    (void)flags;
    refuse(req);
}

static void refuse_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    (void)ino;
    (void)name;
    refuse(req);
}

static void refuse_fallocate(fuse_req_t req,
                             fuse_ino_t ino,
                             int mode,
                             off_t offset,
                             off_t length,
                             struct fuse_file_info *fi)
{
    (void)ino;
    (void)mode;
    (void)offset;
    (void)length;
    (void)fi;
    refuse(req);
}

void fs_refuse(struct fuse_lowlevel_ops *ops)
{
    ops->setattr = refuse_setattr;
    ops->mknod = refuse_mknod;
    ops->mkdir = refuse_mkdir;
    ops->unlink = refuse_remove;
    ops->rmdir = refuse_remove;
    ops->symlink = refuse_symlink;
    ops->rename = refuse_rename;
    ops->link = refuse_link;
    ops->create = refuse_create;
    ops->write = refuse_write;
    ops->setxattr = refuse_setxattr;
    ops->removexattr = refuse_removexattr;
    ops->fallocate = refuse_fallocate;
}
