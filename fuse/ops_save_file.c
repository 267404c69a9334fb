/* Files of saves: where the kernel passes reads and writes on, only opening and
 * closing comes here. */
#include "fuse/ops_save_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "fuse/ops_save.h"
#include "fuse/passthrough.h"
#include "fuse/serve.h"

static uint32_t backing_open(void *ctx, int fd)
{
    return fs_backing_open(ctx, fd);
}

static void backing_close(void *ctx, uint32_t id)
{
    fs_backing_close(ctx, id);
}

void fs_save_attach(struct fs *fs)
{
    const struct fs_saves_backing backing = {backing_open, backing_close, fs};

    fs_saves_set_backing(fs->saves, &backing);
}

/* Without passing on: as tensors are read.  The page cache stays right: all
 * that changes a file comes through the kernel. */
static void set_class(const struct fs *fs, struct fuse_file_info *fi)
{
    fi->fh = 0;
    fi->direct_io = fs->is_direct;
    fi->keep_cache = !fs->is_direct;
    fi->noflush = 1;
}

void save_create(fuse_req_t req,
                 fuse_ino_t parent,
                 const char *name,
                 mode_t mode,
                 struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    int rc = save_fault(BASE_FAULT_mount_open);
    struct fuse_entry_param entry;
    struct fs_saved saved;
    struct fs_turn turn;
    uint32_t backing;

    save_turn_begin(req, &turn);
    if (rc == 0) {
        rc = fs_saves_create_file(fs->saves, &turn, parent, name, mode,
                                  fi->flags, &saved, &backing);
    }
    if (rc == 0) {
        (void)base_fault(BASE_FAULT_mount_changed); /* nothing to fail */
    }
    if (rc != 0) {
        save_reply_err(req, "save: not created", parent, name, rc);
    } else {
        fs_save_entry(fs, &saved, &entry);
        set_class(fs, fi);
        fs->stats.n_opens++;
        if (fs_reply_create(req, &entry, fi, backing) != 0) { /* interrupted */
            fs_saves_release(fs->saves, NULL, saved.ino, fi->flags);
            fs_saves_forget(fs->saves, saved.ino, 1);
        }
    }
    fs_turn_end(&turn);
}

void save_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    int rc = save_fault(BASE_FAULT_mount_open);
    struct fs_turn turn;
    uint32_t backing;

    save_turn_begin(req, &turn);
    if (rc == 0) {
        rc = fs_saves_open(fs->saves, &turn, ino, fi->flags, &backing);
    }
    if (rc != 0) {
        save_reply_err(req, "save: not opened", ino, NULL, rc);
    } else {
        set_class(fs, fi);
        fs->stats.n_opens++;
        if (fs_reply_open(req, fi, backing) != 0) { /* interrupted */
            fs_saves_release(fs->saves, NULL, ino, fi->flags);
        }
    }
    fs_turn_end(&turn);
}

void save_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs_turn turn;

    save_turn_begin(req, &turn);
    fs_saves_release(fs_of(req)->saves, &turn, ino, fi->flags);
    (void)fuse_reply_err(req, 0);
    fs_turn_end(&turn);
}

/* Bytes. */

void save_read(fuse_req_t req,
               fuse_ino_t ino,
               size_t size,
               off_t offset,
               struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    char *scratch = fs_serve_scratch();
    size_t n = 0;
    int rc = save_fault(BASE_FAULT_mount_read);

    (void)fi;
    if (rc == 0 && (scratch == NULL || size > FS_MAX_READ)) {
        rc = scratch == NULL ? ENOMEM : EINVAL;
    }
    if (rc == 0) {
        rc = fs_saves_read(fs->saves, ino, scratch, size, (uint64_t)offset, &n);
    }
    if (rc != 0) {
        fs->stats.n_failed_reads++;
        save_reply_err(req, "read failed", ino, NULL, rc);
        return;
    }
    (void)fuse_reply_buf(req, scratch, n);
    fs->stats.n_reads++;
    fs->stats.n_bytes += n;
}

void save_write(fuse_req_t req,
                fuse_ino_t ino,
                const char *bytes,
                size_t size,
                off_t offset,
                struct fuse_file_info *fi)
{
    int rc = save_fault(BASE_FAULT_mount_write);

    (void)fi;
    if (rc == 0) {
        rc = fs_saves_write(fs_of(req)->saves, ino, bytes, size,
                            (uint64_t)offset);
    }
    if (rc != 0) {
        save_reply_err(req, "save: not written", ino, NULL, rc);
    } else {
        (void)fuse_reply_write(req, size);
    }
}

void save_fsync(fuse_req_t req,
                fuse_ino_t ino,
                int only_data,
                struct fuse_file_info *fi)
{
    int rc = fs_saves_sync(fs_of(req)->saves, ino, only_data != 0);

    (void)fi;
    save_reply_err(req, "save: not synced", ino, NULL, rc);
}

void save_fallocate(fuse_req_t req,
                    fuse_ino_t ino,
                    int mode,
                    off_t offset,
                    off_t n_bytes,
                    struct fuse_file_info *fi)
{
    int rc = fs_saves_allocate(fs_of(req)->saves, ino, mode, (uint64_t)offset,
                               (uint64_t)n_bytes);

    (void)fi;
    save_reply_err(req, "save: not allocated", ino, NULL, rc);
}

void save_lseek(fuse_req_t req,
                fuse_ino_t ino,
                off_t offset,
                int whence,
                struct fuse_file_info *fi)
{
    struct fs_pin pin;
    off_t at = -1;
    int rc = whence == SEEK_DATA || whence == SEEK_HOLE
                 ? fs_saves_pin(fs_of(req)->saves, ino, false, &pin)
                 : EINVAL;

    (void)fi;
    if (rc == 0) {
        at = lseek(pin.fd, offset, whence);
        rc = at < 0 ? errno : 0;
        fs_saves_unpin(&pin);
    }
    if (rc != 0) {
        (void)fuse_reply_err(req, rc);
    } else {
        (void)fuse_reply_lseek(req, at);
    }
}

void save_copy_file_range(fuse_req_t req,
                          fuse_ino_t from,
                          off_t from_offset,
                          struct fuse_file_info *from_fi,
                          fuse_ino_t to,
                          off_t to_offset,
                          struct fuse_file_info *to_fi,
                          size_t n_bytes,
                          int flags)
{
    size_t n = 0;
    int rc = flags != 0
                 ? EINVAL
                 : fs_saves_copy(fs_of(req)->saves, from, (uint64_t)from_offset,
                                 to, (uint64_t)to_offset, n_bytes, &n);

    (void)from_fi;
    (void)to_fi;
    if (rc != 0) {
        save_reply_err(req, "save: not copied", to, NULL, rc);
    } else {
        (void)fuse_reply_write(req, n);
    }
}
