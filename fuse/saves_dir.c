/* Names: looking them up, making, moving and removing them. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { MAX_NAME = 255 };

static void close_if(int fd)
{
    if (fd >= 0) {
        (void)close(fd); /* nothing was buffered */
    }
}

static int check_name(const char *name)
{
    size_t n = strlen(name);

    if (n > MAX_NAME) {
        return ENAMETOOLONG;
    }
    return n == 0 || strchr(name, '/') != NULL || strcmp(name, ".") == 0 ||
                   strcmp(name, "..") == 0
               ? EINVAL
               : 0;
}

/* Lock held, as in all that follows but the calls of the header. */

/* The directory @ino, and the path of @name in it. */
static int find_name(const struct fs_saves *saves,
                     uint64_t ino,
                     const char *name,
                     struct saved_node **ret_dir,
                     struct saved_path *ret)
{
    struct saved_node *dir = saves_find(saves, ino);
    int rc = check_name(name);

    if (rc != 0) {
        return rc;
    }
    if (dir == NULL || !dir->is_dir) {
        return dir == NULL ? ESTALE : ENOTDIR;
    }
    *ret_dir = dir;
    return saves_path(dir, name, ret);
}

/* ... to be changed. */
static int change_name(const struct fs_saves *saves,
                       uint64_t ino,
                       const char *name,
                       struct saved_node **ret_dir,
                       struct saved_path *ret)
{
    int rc = find_name(saves, ino, name, ret_dir, ret);

    return rc != 0 ? rc : saves_may_change(saves, *ret_dir);
}

static int may_add(struct fs_saves *saves, const struct saved_node *dir)
{
    if (dir->step->is_full) {
        return ENOSPC;
    }
    if (saves->n_entries < FS_SAVES_NODES) {
        saves->was_told_nodes = false;
        return 0;
    }
    if (!saves->was_told_nodes) {
        saves->was_told_nodes = true;
        saves_tell(saves, "save",
                   "a save may have 1000000 files and directories");
    }
    return ENOSPC;
}

static void count_entry(struct fs_saves *saves, struct saved_step *step, int by)
{
    if (by > 0) {
        step->n_entries++;
        saves->n_entries++;
    } else if (step->n_entries > 0) {
        step->n_entries--;
        saves->n_entries--;
    }
    saves_touched(step);
}

/* The node of a file that exists. */
static int give(struct fs_saves *saves,
                struct saved_node *dir,
                const char *name,
                const char *path,
                struct saved_node **ret_node,
                struct fs_saved *ret)
{
    uint64_t generation;
    int rc = saves_stat(saves->dir_fd, path, &ret->attr, &generation);

    if (rc != 0) {
        return rc;
    }
    *ret_node = saves_node_for(saves, dir, name, &ret->attr, generation);
    if (*ret_node == NULL) {
        return ENOMEM;
    }
    saves_adjust(*ret_node, &ret->attr);
    ret->ino = (*ret_node)->ino;
    ret->generation = (*ret_node)->generation;
    return 0;
}

/* ... looked up. */
static int give_lookup(struct fs_saves *saves,
                       struct fs_turn *turn,
                       struct saved_node *dir,
                       const char *name,
                       const char *path,
                       struct fs_saved *ret)
{
    const struct saved_delta one = {.lookups = 1};
    struct saved_node *node;
    int rc = give(saves, dir, name, path, &node, ret);

    if (rc == 0) {
        rc = saves_count(saves, node, turn, &one);
        if (rc != 0) {
            close_if(saves_collect(saves, node));
        }
    }
    return rc;
}

static int
find_link(const struct saved_step *step, const char *name, struct fs_saved *ret)
{
    ret->ino = saves_link_ino(step, name);
    if (ret->ino == 0) {
        return ENOENT;
    }
    ret->generation = 1;
    saves_link_attr(step, ret->ino, name, &ret->attr);
    return 0;
}

static int lookup(struct fs_saves *saves,
                  struct fs_turn *turn,
                  uint64_t ino,
                  const char *name,
                  struct fs_saved *ret)
{
    struct saved_node *dir = saves_find(saves, ino);
    struct saved_path path;
    int rc;

    if (dir != NULL && saves_is_sealed(dir) && dir->step->root == dir) {
        return find_link(dir->step, name, ret);
    }
    rc = find_name(saves, ino, name, &dir, &path);
    if (rc != 0) {
        return rc;
    }
    return give_lookup(saves, turn, dir, name, path.text, ret);
}

int fs_saves_lookup(struct fs_saves *saves,
                    struct fs_turn *turn,
                    uint64_t dir,
                    const char *name,
                    struct fs_saved *ret)
{
    int rc;

    saves_lock(saves);
    rc = lookup(saves, turn, dir, name, ret);
    saves_unlock(saves);
    return rc;
}

/* Making. */

static bool is_again(const struct fs_turn *turn)
{
    return turn != NULL && turn->is_again;
}

/* Our umask is not the one that counts; the kernel applied the caller's. */
static int
keep_mode(const struct fs_saves *saves, const char *path, mode_t mode)
{
    struct stat stat;

    if (fstatat(saves->dir_fd, path, &stat, AT_SYMLINK_NOFOLLOW) != 0 ||
        ((stat.st_mode & 0777) != (mode & 0777) &&
         fchmodat(saves->dir_fd, path, mode & 0777, 0) != 0)) {
        return errno;
    }
    return 0;
}

static int make_dir(struct fs_saves *saves,
                    struct fs_turn *turn,
                    uint64_t ino,
                    const char *name,
                    mode_t mode,
                    struct fs_saved *ret)
{
    struct saved_node *dir;
    struct saved_path path;
    int rc = change_name(saves, ino, name, &dir, &path);

    if (rc == 0) {
        rc = may_add(saves, dir);
    }
    if (rc != 0) {
        return rc;
    }
    if (mkdirat(saves->dir_fd, path.text, mode & 0777) != 0) {
        rc = errno;
        if (rc != EEXIST || !is_again(turn)) {
            return rc;
        }
    } else {
        count_entry(saves, dir->step, 1);
        rc = keep_mode(saves, path.text, mode);
        if (rc != 0) {
            return rc;
        }
    }
    return give_lookup(saves, turn, dir, name, path.text, ret);
}

int fs_saves_mkdir(struct fs_saves *saves,
                   struct fs_turn *turn,
                   uint64_t dir,
                   const char *name,
                   mode_t mode,
                   struct fs_saved *ret)
{
    int rc = saves_charge(saves, 0);

    if (rc == 0) {
        saves_lock(saves);
        rc = make_dir(saves, turn, dir, name, mode, ret);
        saves_unlock(saves);
    }
    return rc;
}

/* Make or find a regular file.  *ret_fd: open for reading and writing when it
 * was made, else -1. */
static int make_file(struct fs_saves *saves,
                     const struct fs_turn *turn,
                     struct saved_node *dir,
                     const char *path,
                     mode_t mode,
                     bool is_new,
                     int *ret_fd)
{
    int fd =
        openat(saves->dir_fd, path,
               O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0777);

    *ret_fd = fd;
    if (fd >= 0) {
        count_entry(saves, dir->step, 1);
        return keep_mode(saves, path, mode);
    }
    return errno == EEXIST && (!is_new || is_again(turn)) ? 0 : errno;
}

static int make_node(struct fs_saves *saves,
                     struct fs_turn *turn,
                     uint64_t ino,
                     const char *name,
                     mode_t mode,
                     struct fs_saved *ret)
{
    struct saved_node *dir;
    struct saved_path path;
    int fd = -1;
    int rc = change_name(saves, ino, name, &dir, &path);

    if (rc == 0) {
        rc = may_add(saves, dir);
    }
    if (rc == 0) {
        rc = make_file(saves, turn, dir, path.text, mode, true, &fd);
    }
    close_if(fd);
    return rc != 0 ? rc : give_lookup(saves, turn, dir, name, path.text, ret);
}

int fs_saves_mknod(struct fs_saves *saves,
                   struct fs_turn *turn,
                   uint64_t dir,
                   const char *name,
                   mode_t mode,
                   struct fs_saved *ret)
{
    int rc = saves_charge(saves, 0);

    if (rc == 0) {
        saves_lock(saves);
        rc = make_node(saves, turn, dir, name, mode, ret);
        saves_unlock(saves);
    }
    return rc;
}

static int create(struct fs_saves *saves,
                  struct fs_turn *turn,
                  uint64_t ino,
                  const char *name,
                  mode_t mode,
                  int flags,
                  struct fs_saved *ret,
                  uint32_t *ret_backing)
{
    struct saved_node *node;
    struct saved_node *dir;
    struct saved_path path;
    BASE_AUTO_FD fd = -1;
    int rc = change_name(saves, ino, name, &dir, &path);

    if (rc == 0) {
        rc = may_add(saves, dir);
    }
    if (rc == 0) {
        rc = make_file(saves, turn, dir, path.text, mode, (flags & O_EXCL) != 0,
                       &fd);
    }
    if (rc == 0) {
        rc = give(saves, dir, name, path.text, &node, ret);
    }
    if (rc != 0) {
        return rc;
    }
    if (node->fd < 0) {
        node->fd = base_steal_fd(&fd);
    }
    return saves_open_node(saves, turn, node, 1, flags, ret_backing);
}

int fs_saves_create_file(struct fs_saves *saves,
                         struct fs_turn *turn,
                         uint64_t dir,
                         const char *name,
                         mode_t mode,
                         int flags,
                         struct fs_saved *ret,
                         uint32_t *ret_backing)
{
    int rc = saves_charge(saves, 0);

    if (rc != 0) {
        return rc;
    }
    saves_lock(saves);
    rc = create(saves, turn, dir, name, mode, flags, ret, ret_backing);
    saves_unlock(saves);
    if (rc == 0 && (flags & O_TRUNC) != 0 && ret->attr.st_size != 0) {
        rc = saves_truncate_opened(saves, ret->ino, 1, flags);
        ret->attr.st_size = 0;
        ret->attr.st_blocks = 0;
    }
    return rc;
}

/* Removing. */

/* Remove the file @path, or keep it for those who know it.  *ret_fd: to be
 * closed without the lock. */
static int remove_file(struct fs_saves *saves,
                       struct saved_node *node,
                       const char *path,
                       int *ret_fd)
{
    int rc;

    if (node != NULL && saves_is_known(saves, node)) {
        rc = saves_to_gone(saves, node, false);
        if (rc == 0) {
            saves_node_detach(saves, node);
        }
        return rc;
    }
    *ret_fd = openat(saves->dir_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    return unlinkat(saves->dir_fd, path, 0) == 0 ? 0 : errno;
}

static struct saved_node *node_of(const struct fs_saves *saves,
                                  const struct stat *stat,
                                  uint64_t generation)
{
    struct saved_node *node =
        saves_find(saves, FS_SAVED_BIT | (uint64_t)stat->st_ino);

    return node != NULL && node->generation == generation ? node : NULL;
}

static int remove_name(struct fs_saves *saves,
                       const struct fs_turn *turn,
                       uint64_t ino,
                       const char *name,
                       bool is_dir,
                       int *ret_fd)
{
    struct saved_node *dir;
    struct saved_node *node;
    struct saved_path path;
    struct stat stat;
    uint64_t generation;
    int rc = change_name(saves, ino, name, &dir, &path);

    if (rc == 0) {
        rc = saves_stat(saves->dir_fd, path.text, &stat, &generation);
        if (rc == ENOENT && is_again(turn)) {
            return 0;
        }
    }
    if (rc != 0) {
        return rc;
    }
    if (S_ISDIR(stat.st_mode) != is_dir) {
        return is_dir ? ENOTDIR : EISDIR;
    }
    node = node_of(saves, &stat, generation);
    if (!is_dir) {
        rc = remove_file(saves, node, path.text, ret_fd);
    } else if (unlinkat(saves->dir_fd, path.text, AT_REMOVEDIR) != 0) {
        rc = errno;
    } else if (node != NULL) {
        saves_node_detach(saves, node);
        (void)saves_collect(saves, node); /* a directory has no descriptor */
    }
    if (rc == 0) {
        count_entry(saves, dir->step, -1);
    }
    return rc;
}

int fs_saves_unlink(struct fs_saves *saves,
                    struct fs_turn *turn,
                    uint64_t dir,
                    const char *name)
{
    int fd = -1;
    int rc;

    saves_lock(saves);
    rc = remove_name(saves, turn, dir, name, false, &fd);
    saves_unlock(saves);
    close_if(fd);
    return rc;
}

int fs_saves_rmdir(struct fs_saves *saves,
                   struct fs_turn *turn,
                   uint64_t dir,
                   const char *name)
{
    int fd = -1;
    int rc;

    saves_lock(saves);
    rc = remove_name(saves, turn, dir, name, true, &fd);
    saves_unlock(saves);
    return rc;
}

/* Moving. */

struct end {
    struct saved_node *dir;
    const char *name;
    char *copy; /* of the name, for a node that comes to bear it */
    struct saved_path path;
    bool exists;
    bool is_dir;
    struct saved_node *node; /* NULL: not known */
};

static int find_end(struct fs_saves *saves,
                    uint64_t ino,
                    const char *name,
                    struct end *ret)
{
    struct stat stat;
    uint64_t generation;
    int rc = change_name(saves, ino, name, &ret->dir, &ret->path);

    if (rc != 0) {
        return rc;
    }
    ret->name = name;
    ret->copy = strdup(name);
    if (ret->copy == NULL) {
        return ENOMEM;
    }
    rc = saves_stat(saves->dir_fd, ret->path.text, &stat, &generation);
    ret->exists = rc == 0;
    if (ret->exists) {
        ret->is_dir = S_ISDIR(stat.st_mode);
        ret->node = node_of(saves, &stat, generation);
    }
    return rc == ENOENT ? 0 : rc;
}

static int check_ends(const struct fs_turn *turn,
                      const struct end *from,
                      const struct end *to,
                      unsigned flags,
                      bool *ret_is_done)
{
    *ret_is_done = false;
    if (from->dir->step != to->dir->step) {
        return EXDEV;
    }
    if (!from->exists) {
        *ret_is_done = to->exists && is_again(turn);
        return *ret_is_done ? 0 : ENOENT;
    }
    if ((flags & RENAME_EXCHANGE) != 0) {
        return to->exists ? 0 : ENOENT;
    }
    if (!to->exists) {
        return 0;
    }
    if ((flags & RENAME_NOREPLACE) != 0) {
        return EEXIST;
    }
    if (from->is_dir != to->is_dir) {
        return from->is_dir ? ENOTDIR : EISDIR;
    }
    *ret_is_done = strcmp(from->path.text, to->path.text) == 0;
    return 0;
}

static void
move_node(struct fs_saves *saves, struct saved_node *node, struct end *to)
{
    if (node != NULL) {
        saves_node_move(saves, node, to->dir, base_steal(&to->copy));
    }
}

/* The file that is replaced is put aside first: who dies in between is asked
 * once more, and goes on. */
static int
replace(struct fs_saves *saves, struct end *from, struct end *to, int *ret_fd)
{
    bool is_kept = to->exists && !to->is_dir && to->node != NULL &&
                   saves_is_known(saves, to->node);
    char gone[32];
    int rc = 0;

    if (is_kept) {
        rc = saves_to_gone(saves, to->node, false);
    } else if (to->exists && !to->is_dir) {
        *ret_fd = openat(saves->dir_fd, to->path.text,
                         O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    }
    if (rc != 0) {
        return rc;
    }
    if (renameat(saves->dir_fd, from->path.text, saves->dir_fd,
                 to->path.text) != 0) {
        rc = errno;
        if (is_kept) {
            saves_gone_name(to->node->ino, gone);
            if (renameat(saves->dir_fd, gone, saves->dir_fd, to->path.text) ==
                0) {
                to->node->is_gone = false;
            }
        }
        return rc;
    }
    if (to->exists) {
        count_entry(saves, to->dir->step, -1);
    }
    if (to->node != NULL) {
        saves_node_detach(saves, to->node);
        (void)saves_collect(saves, to->node); /* a file is known, or was not */
    }
    move_node(saves, from->node, to);
    saves_touched(to->dir->step);
    return 0;
}

/* Done twice it would be undone: that it was is noted with the node. */
static int exchange(struct fs_saves *saves,
                    struct fs_turn *turn,
                    struct end *from,
                    struct end *to)
{
    const struct saved_delta none = {0};

    if (turn != NULL && turn->is_counted) {
        return 0;
    }
    if (renameat2(saves->dir_fd, from->path.text, saves->dir_fd, to->path.text,
                  RENAME_EXCHANGE) != 0) {
        return errno;
    }
    if (from->node != NULL && saves_is_known(saves, from->node)) {
        (void)saves_count(saves, from->node, turn, &none); /* it has a slot */
    }
    if (from->node != to->node) {
        move_node(saves, from->node, to);
        move_node(saves, to->node, from);
    }
    saves_touched(to->dir->step);
    return 0;
}

static int rename_ends(struct fs_saves *saves,
                       struct fs_turn *turn,
                       struct end *from,
                       struct end *to,
                       unsigned flags,
                       int *ret_fd)
{
    bool is_done;
    int rc = check_ends(turn, from, to, flags, &is_done);

    if (rc != 0 || is_done) {
        return rc;
    }
    return (flags & RENAME_EXCHANGE) != 0 ? exchange(saves, turn, from, to)
                                          : replace(saves, from, to, ret_fd);
}

int fs_saves_rename(struct fs_saves *saves,
                    struct fs_turn *turn,
                    uint64_t from_dir,
                    const char *from,
                    uint64_t to_dir,
                    const char *to,
                    unsigned flags)
{
    struct end old = {0};
    struct end new = {0};
    int fd = -1;
    int rc;

    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0 ||
        flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)) {
        return EINVAL;
    }
    saves_lock(saves);
    rc = find_end(saves, from_dir, from, &old);
    if (rc == 0) {
        rc = find_end(saves, to_dir, to, &new);
    }
    if (rc == 0) {
        rc = rename_ends(saves, turn, &old, &new, flags, &fd);
    }
    saves_unlock(saves);
    close_if(fd);
    free(old.copy);
    free(new.copy);
    return rc;
}
