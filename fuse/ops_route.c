/* Sends each operation to the saved nodes' or to the others', by number.
 *
 * An operation that the others have not is answered for them as if the kernel
 * did it: ENOSYS would end it for saved nodes, too. */
#include "fuse/ops_save_impl.h"

#include <errno.h>
#include <unistd.h>

#include "fuse/ops_save.h"

static struct fuse_lowlevel_ops rest; /* written once, before the session */

static void route_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (fs_is_saved(parent) ? save_lookup : rest.lookup)(req, parent, name);
}

static void route_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n_lookups)
{
    if (!fs_is_saved(ino)) {
        rest.forget(req, ino, n_lookups);
        return;
    }
    fs_saves_forget(fs_of(req)->saves, ino, n_lookups);
    fuse_reply_none(req);
}

static void
route_forget_multi(fuse_req_t req, size_t n, struct fuse_forget_data *items)
{
    size_t n_rest = 0;
    size_t i;

    for (i = 0; i < n; i++) {
        if (fs_is_saved(items[i].ino)) {
            fs_saves_forget(fs_of(req)->saves, items[i].ino, items[i].nlookup);
        } else {
            items[n_rest++] = items[i];
        }
    }
    rest.forget_multi(req, n_rest, items);
}

static void
route_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_getattr : rest.getattr)(req, ino, fi);
}

static void route_setattr(fuse_req_t req,
                          fuse_ino_t ino,
                          struct stat *attr,
                          int to_set,
                          struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_setattr : rest.setattr)(req, ino, attr, to_set,
                                                     fi);
}

static void route_readlink(fuse_req_t req, fuse_ino_t ino)
{
    (fs_is_saved(ino) ? save_readlink : rest.readlink)(req, ino);
}

static void route_mknod(fuse_req_t req,
                        fuse_ino_t parent,
                        const char *name,
                        mode_t mode,
                        dev_t rdev)
{
    (fs_is_saved(parent) ? save_mknod : rest.mknod)(req, parent, name, mode,
                                                    rdev);
}

static void
route_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    (fs_is_saved(parent) ? save_mkdir : rest.mkdir)(req, parent, name, mode);
}

static void route_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (fs_is_saved(parent) ? save_unlink : rest.unlink)(req, parent, name);
}

static void route_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    (fs_is_saved(parent) ? save_rmdir : rest.rmdir)(req, parent, name);
}

static void route_symlink(fuse_req_t req,
                          const char *link,
                          fuse_ino_t parent,
                          const char *name)
{
    (fs_is_saved(parent) ? save_symlink : rest.symlink)(req, link, parent,
                                                        name);
}

static void route_rename(fuse_req_t req,
                         fuse_ino_t parent,
                         const char *name,
                         fuse_ino_t new_parent,
                         const char *new_name,
                         unsigned int flags)
{
    if (fs_is_saved(parent) != fs_is_saved(new_parent)) {
        (void)fuse_reply_err(req, EXDEV);
        return;
    }
    (fs_is_saved(parent) ? save_rename : rest.rename)(
        req, parent, name, new_parent, new_name, flags);
}

static void route_link(fuse_req_t req,
                       fuse_ino_t ino,
                       fuse_ino_t new_parent,
                       const char *new_name)
{
    (fs_is_saved(new_parent) ? save_link : rest.link)(req, ino, new_parent,
                                                      new_name);
}

static void route_create(fuse_req_t req,
                         fuse_ino_t parent,
                         const char *name,
                         mode_t mode,
                         struct fuse_file_info *fi)
{
    (fs_is_saved(parent) ? save_create : rest.create)(req, parent, name, mode,
                                                      fi);
}

static void
route_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_open : rest.open)(req, ino, fi);
}

static void
route_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_release : rest.release)(req, ino, fi);
}

static void route_read(fuse_req_t req,
                       fuse_ino_t ino,
                       size_t size,
                       off_t offset,
                       struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_read : rest.read)(req, ino, size, offset, fi);
}

static void route_write(fuse_req_t req,
                        fuse_ino_t ino,
                        const char *bytes,
                        size_t size,
                        off_t offset,
                        struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_write : rest.write)(req, ino, bytes, size, offset,
                                                 fi);
}

static void route_fsync(fuse_req_t req,
                        fuse_ino_t ino,
                        int only_data,
                        struct fuse_file_info *fi)
{
    if (fs_is_saved(ino)) {
        save_fsync(req, ino, only_data, fi);
    } else {
        (void)fuse_reply_err(req, 0); /* what never changes is safe */
    }
}

static void
route_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_opendir : rest.opendir)(req, ino, fi);
}

static void
route_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_releasedir : rest.releasedir)(req, ino, fi);
}

static void route_readdir(fuse_req_t req,
                          fuse_ino_t ino,
                          size_t size,
                          off_t offset,
                          struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_readdir : rest.readdir)(req, ino, size, offset,
                                                     fi);
}

static void route_readdirplus(fuse_req_t req,
                              fuse_ino_t ino,
                              size_t size,
                              off_t offset,
                              struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_readdirplus : rest.readdirplus)(req, ino, size,
                                                             offset, fi);
}

static void route_statfs(fuse_req_t req, fuse_ino_t ino)
{
    (fs_is_saved(ino) ? save_statfs : rest.statfs)(req, ino);
}

static void route_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
    (fs_is_saved(ino) ? save_access : rest.access)(req, ino, mask);
}

static void route_setxattr(fuse_req_t req,
                           fuse_ino_t ino,
                           const char *name,
                           const char *value,
                           size_t size,
                           int flags)
{
    (fs_is_saved(ino) ? save_setxattr : rest.setxattr)(req, ino, name, value,
                                                       size, flags);
}

static void
route_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    (fs_is_saved(ino) ? save_getxattr : rest.getxattr)(req, ino, name, size);
}

static void route_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    (fs_is_saved(ino) ? save_listxattr : rest.listxattr)(req, ino, size);
}

static void route_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    (fs_is_saved(ino) ? save_removexattr : rest.removexattr)(req, ino, name);
}

static void route_fallocate(fuse_req_t req,
                            fuse_ino_t ino,
                            int mode,
                            off_t offset,
                            off_t n_bytes,
                            struct fuse_file_info *fi)
{
    (fs_is_saved(ino) ? save_fallocate : rest.fallocate)(req, ino, mode, offset,
                                                         n_bytes, fi);
}

/* A version's file has no holes but its end. */
static int
seek(struct fs *fs, fuse_ino_t ino, off_t offset, int whence, off_t *ret)
{
    FS_AUTO_NODE node = {0};
    struct stat attr;
    struct base_err err;
    enum base_code rc = fs_tree_node(fs->versions, ino, &node, &err);

    if (rc == BASE_OK) {
        rc = fs_attr(fs, &node, &attr, &err);
    }
    if (rc != BASE_OK) {
        return fs_errno(rc);
    }
    if (offset < 0 || offset >= attr.st_size) {
        return ENXIO;
    }
    *ret = whence == SEEK_DATA ? offset : attr.st_size;
    return 0;
}

static void route_lseek(fuse_req_t req,
                        fuse_ino_t ino,
                        off_t offset,
                        int whence,
                        struct fuse_file_info *fi)
{
    off_t at;
    int rc;

    if (fs_is_saved(ino)) {
        save_lseek(req, ino, offset, whence, fi);
        return;
    }
    rc = seek(fs_of(req), ino, offset, whence, &at);
    if (rc != 0) {
        (void)fuse_reply_err(req, rc);
    } else {
        (void)fuse_reply_lseek(req, at);
    }
}

static void route_copy_file_range(fuse_req_t req,
                                  fuse_ino_t from,
                                  off_t from_offset,
                                  struct fuse_file_info *from_fi,
                                  fuse_ino_t to,
                                  off_t to_offset,
                                  struct fuse_file_info *to_fi,
                                  size_t n_bytes,
                                  int flags)
{
    if (fs_is_saved(from) && fs_is_saved(to)) {
        save_copy_file_range(req, from, from_offset, from_fi, to, to_offset,
                             to_fi, n_bytes, flags);
    } else {
        (void)fuse_reply_err(req, EOPNOTSUPP); /* the kernel copies */
    }
}

static void route_fsyncdir(fuse_req_t req,
                           fuse_ino_t ino,
                           int only_data,
                           struct fuse_file_info *fi)
{
    if (fs_is_saved(ino)) {
        save_fsyncdir(req, ino, only_data, fi);
    } else {
        (void)fuse_reply_err(req, 0);
    }
}

void fs_save_route(struct fuse_lowlevel_ops *ops)
{
    if (ops->lookup == route_lookup) {
        return; /* was done */
    }
    rest = *ops;
    ops->lookup = route_lookup;
    ops->forget = route_forget;
    ops->forget_multi = route_forget_multi;
    ops->getattr = route_getattr;
    ops->setattr = route_setattr;
    ops->readlink = route_readlink;
    ops->mknod = route_mknod;
    ops->mkdir = route_mkdir;
    ops->unlink = route_unlink;
    ops->rmdir = route_rmdir;
    ops->symlink = route_symlink;
    ops->rename = route_rename;
    ops->link = route_link;
    ops->create = route_create;
    ops->open = route_open;
    ops->release = route_release;
    ops->read = route_read;
    ops->write = route_write;
    ops->fsync = route_fsync;
    ops->opendir = route_opendir;
    ops->releasedir = route_releasedir;
    ops->readdir = route_readdir;
    ops->readdirplus = route_readdirplus;
    ops->fsyncdir = route_fsyncdir;
    ops->statfs = route_statfs;
    ops->access = route_access;
    ops->setxattr = route_setxattr;
    ops->getxattr = route_getxattr;
    ops->listxattr = route_listxattr;
    ops->removexattr = route_removexattr;
    ops->fallocate = route_fallocate;
    ops->lseek = route_lseek;
    ops->copy_file_range = route_copy_file_range;
}
