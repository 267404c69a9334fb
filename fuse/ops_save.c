#include "fuse/ops_save.h"

#include "fuse/ops_save_impl.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/fault.h"
#include "fuse/passthrough.h"

/* What the files of operations share. */

void save_turn_begin(fuse_req_t req, struct fs_turn *ret)
{
    fs_turn_begin(fs_of(req)->saves, fs_channel_unique(), ret);
}

/* What a person can do something about. */
static bool is_worth_telling(int errnum)
{
    return errnum == ENOSPC || errnum == EIO || errnum == EROFS ||
           errnum == EBUSY || errnum == ENOMEM || errnum == EDQUOT;
}

void save_tell(fuse_req_t req,
               const char *what,
               fuse_ino_t ino,
               const char *name,
               int errnum)
{
    struct fs *fs = fs_of(req);
    char path[PATH_MAX];
    char text[PATH_MAX + 256];
    char reason[128];

    if (!is_worth_telling(errnum)) {
        return;
    }
    if (fs_saves_path(fs->saves, ino, path, sizeof(path)) != 0) {
        (void)snprintf(path, sizeof(path), "?");
    }
    (void)snprintf(text, sizeof(text), "save/%s%s%s", path,
                   name != NULL ? "/" : "", name != NULL ? name : "");
    fs_events_add(fs->events, BASE_WARNING, what, text,
                  strerror_r(errnum, reason, sizeof(reason)));
}

void save_reply_err(fuse_req_t req,
                    const char *what,
                    fuse_ino_t ino,
                    const char *name,
                    int errnum)
{
    save_tell(req, what, ino, name, errnum);
    (void)fuse_reply_err(req, errnum); /* when it fails, nobody listens */
}

int save_fault(enum base_fault_point point)
{
    struct base_err err;

    return fs_errno(base_fault_check(point, &err));
}

void save_own(const struct fs *fs, struct stat *attr)
{
    attr->st_uid = fs->uid;
    attr->st_gid = fs->gid;
}

void fs_save_entry(const struct fs *fs,
                   const struct fs_saved *saved,
                   struct fuse_entry_param *ret)
{
    *ret = (struct fuse_entry_param){
        .ino = saved->ino,
        .generation = saved->generation,
        .attr = saved->attr,
        .attr_timeout = FS_FOREVER_S,
        .entry_timeout = FS_FOREVER_S,
    };
    save_own(fs, &ret->attr);
}

/* Answer with a node that was counted as looked up. */
static void reply_node(fuse_req_t req, const struct fs_saved *saved)
{
    struct fs *fs = fs_of(req);
    struct fuse_entry_param entry;

    fs_save_entry(fs, saved, &entry);
    if (fuse_reply_entry(req, &entry) != 0) {
        fs_saves_forget(fs->saves, saved->ino, 1); /* interrupted */
    }
}

/* Names. */

/* In a step's own directory there are other names once it is a version. */
static bool is_step(fuse_req_t req, fuse_ino_t ino)
{
    struct fs_step step;

    return fs_saves_step_of(fs_of(req)->saves, ino, &step) == 0 &&
           step.ino == ino;
}

void save_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    const struct fuse_entry_param none = {.entry_timeout = FS_FOREVER_S};
    struct fs_saved saved;
    struct fs_turn turn;
    int rc;

    save_turn_begin(req, &turn);
    rc = fs_saves_lookup(fs_of(req)->saves, &turn, parent, name, &saved);
    if (rc == 0) {
        reply_node(req, &saved);
    } else if (rc == ENOENT && !is_step(req, parent)) {
        (void)fuse_reply_entry(req, &none); /* until somebody makes it */
    } else {
        save_reply_err(req, "lookup failed", parent, name, rc);
    }
    fs_turn_end(&turn);
}

typedef int (*make_fn)(struct fs_saves *saves,
                       struct fs_turn *turn,
                       uint64_t dir,
                       const char *name,
                       mode_t mode,
                       struct fs_saved *ret);

static void make(fuse_req_t req,
                 fuse_ino_t parent,
                 const char *name,
                 mode_t mode,
                 make_fn fn)
{
    int rc = save_fault(BASE_FAULT_mount_change);
    struct fs_saved saved;
    struct fs_turn turn;

    save_turn_begin(req, &turn);
    if (rc == 0) {
        rc = fn(fs_of(req)->saves, &turn, parent, name, mode, &saved);
    }
    if (rc == 0) {
        (void)base_fault(BASE_FAULT_mount_changed); /* nothing to fail */
    }
    if (rc == 0) {
        reply_node(req, &saved);
    } else {
        save_reply_err(req, "save: not made", parent, name, rc);
    }
    fs_turn_end(&turn);
}

void save_mkdir(fuse_req_t req,
                fuse_ino_t parent,
                const char *name,
                mode_t mode)
{
    make(req, parent, name, mode, fs_saves_mkdir);
}

void save_mknod(fuse_req_t req,
                fuse_ino_t parent,
                const char *name,
                mode_t mode,
                dev_t rdev)
{
    (void)rdev;
    if (S_ISREG(mode)) {
        make(req, parent, name, mode, fs_saves_mknod);
    } else {
        (void)fuse_reply_err(req, EPERM);
    }
}

typedef int (*remove_fn)(struct fs_saves *saves,
                         struct fs_turn *turn,
                         uint64_t dir,
                         const char *name);

static void
removal(fuse_req_t req, fuse_ino_t parent, const char *name, remove_fn fn)
{
    int rc = save_fault(BASE_FAULT_mount_change);
    struct fs_turn turn;

    save_turn_begin(req, &turn);
    if (rc == 0) {
        rc = fn(fs_of(req)->saves, &turn, parent, name);
    }
    if (rc == 0) {
        (void)base_fault(BASE_FAULT_mount_changed); /* nothing to fail */
    }
    save_reply_err(req, "save: not removed", parent, name, rc);
    fs_turn_end(&turn);
}

void save_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    removal(req, parent, name, fs_saves_unlink);
}

void save_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    removal(req, parent, name, fs_saves_rmdir);
}

void save_rename(fuse_req_t req,
                 fuse_ino_t parent,
                 const char *name,
                 fuse_ino_t new_parent,
                 const char *new_name,
                 unsigned int flags)
{
    int rc = save_fault(BASE_FAULT_mount_change);
    struct fs_turn turn;

    save_turn_begin(req, &turn);
    if (rc == 0) {
        rc = fs_saves_rename(fs_of(req)->saves, &turn, parent, name, new_parent,
                             new_name, flags);
    }
    if (rc == 0) {
        (void)base_fault(BASE_FAULT_mount_changed); /* nothing to fail */
    }
    save_reply_err(req, "save: not renamed", parent, name, rc);
    fs_turn_end(&turn);
}

/* A file has one name: a save is a plain tree. */

void save_link(fuse_req_t req,
               fuse_ino_t ino,
               fuse_ino_t new_parent,
               const char *new_name)
{
    (void)ino;
    (void)new_parent;
    (void)new_name;
    (void)fuse_reply_err(req, EPERM);
}

void save_symlink(fuse_req_t req,
                  const char *link,
                  fuse_ino_t parent,
                  const char *name)
{
    (void)link;
    (void)parent;
    (void)name;
    (void)fuse_reply_err(req, EPERM);
}

void save_readlink(fuse_req_t req, fuse_ino_t ino)
{
    char target[FS_SAVED_TARGET_BYTES];
    int rc = fs_saves_readlink(fs_of(req)->saves, ino, target);

    if (rc == 0) {
        (void)fuse_reply_readlink(req, target);
    } else {
        (void)fuse_reply_err(req, rc);
    }
}

/* Attributes. */

void save_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct stat attr;
    int rc = fs_saves_attr(fs->saves, ino, &attr);

    (void)fi;
    if (rc != 0) {
        save_reply_err(req, "stat failed", ino, NULL, rc);
        return;
    }
    save_own(fs, &attr);
    (void)fuse_reply_attr(req, &attr, FS_FOREVER_S);
}

/* A file's owner is the job's; setting that changes nothing. */
static bool
keeps_owner(const struct fs *fs, const struct stat *attr, int to_set)
{
    return ((to_set & FUSE_SET_ATTR_UID) == 0 || attr->st_uid == fs->uid) &&
           ((to_set & FUSE_SET_ATTR_GID) == 0 || attr->st_gid == fs->gid);
}

static unsigned set_of(int to_set)
{
    static const struct {
        int asked;
        unsigned set;
    } map[] = {
        {FUSE_SET_ATTR_MODE, FS_SET_MODE},
        {FUSE_SET_ATTR_SIZE, FS_SET_SIZE},
        {FUSE_SET_ATTR_ATIME, FS_SET_ATIME},
        {FUSE_SET_ATTR_MTIME, FS_SET_MTIME},
        {FUSE_SET_ATTR_ATIME_NOW, FS_SET_ATIME_NOW},
        {FUSE_SET_ATTR_MTIME_NOW, FS_SET_MTIME_NOW},
    };
    unsigned set = 0;
    size_t i;

    for (i = 0; i < sizeof(map) / sizeof(map[0]); i++) {
        set |= (to_set & map[i].asked) != 0 ? map[i].set : 0;
    }
    return set;
}

void save_setattr(fuse_req_t req,
                  fuse_ino_t ino,
                  struct stat *attr,
                  int to_set,
                  struct fuse_file_info *fi)
{
    struct fs *fs = fs_of(req);
    struct stat now;
    int rc = keeps_owner(fs, attr, to_set) ? 0 : EPERM;

    (void)fi;
    if (rc == 0) {
        rc = fs_saves_set_attr(fs->saves, ino, set_of(to_set), attr, &now);
    }
    if (rc != 0) {
        save_reply_err(req, "save: attributes not set", ino, NULL, rc);
        return;
    }
    save_own(fs, &now);
    (void)fuse_reply_attr(req, &now, FS_FOREVER_S);
}

void save_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
    struct fs_step step;
    int rc = fs_saves_step_of(fs_of(req)->saves, ino, &step);

    if (rc == 0 && (mask & W_OK) != 0 && step.state == FS_STEP_SEALED) {
        rc = EROFS;
    }
    (void)fuse_reply_err(req, rc);
}

void save_statfs(fuse_req_t req, fuse_ino_t ino)
{
    struct statvfs stat;
    int rc = fs_saves_statfs(fs_of(req)->saves, &stat);

    (void)ino;
    if (rc != 0) {
        (void)fuse_reply_err(req, rc);
    } else {
        (void)fuse_reply_statfs(req, &stat);
    }
}

/* Extended attributes: of which step. */

#define XATTR_STEP       "user.retile.step"
#define XATTR_GENERATION "user.retile.generation"
#define XATTR_VERSION    "user.retile.version"

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

void save_getxattr(fuse_req_t req,
                   fuse_ino_t ino,
                   const char *name,
                   size_t size)
{
    struct fs_step step;
    uint64_t number;
    char value[32];
    int n;

    if (strncmp(name, "user.retile.", 12) != 0 ||
        fs_saves_step_of(fs_of(req)->saves, ino, &step) != 0) {
        (void)fuse_reply_err(req, ENODATA);
        return;
    }
    if (strcmp(name, XATTR_STEP) == 0) {
        number = step.step;
    } else if (strcmp(name, XATTR_GENERATION) == 0) {
        number = step.generation;
    } else if (strcmp(name, XATTR_VERSION) == 0 &&
               step.state == FS_STEP_SEALED) {
        number = step.version;
    } else {
        (void)fuse_reply_err(req, ENODATA);
        return;
    }
    n = snprintf(value, sizeof(value), "%llu", (unsigned long long)number);
    reply_xattr(req, value, (size_t)n, size);
}

void save_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    static const char names[] =
        XATTR_STEP "\0" XATTR_GENERATION "\0" XATTR_VERSION;
    struct fs_step step;
    size_t n = 0;

    if (fs_saves_step_of(fs_of(req)->saves, ino, &step) == 0) {
        n = step.state == FS_STEP_SEALED
                ? sizeof(names)
                : sizeof(names) - sizeof(XATTR_VERSION);
    }
    reply_xattr(req, names, n, size);
}

void save_setxattr(fuse_req_t req,
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
    (void)fuse_reply_err(req, ENOTSUP);
}

void save_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    (void)ino;
    (void)name;
    (void)fuse_reply_err(req, ENOTSUP);
}
