#include "worker/points.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mountinfo.h"

/* --- what is mounted ------------------------------------------------------ */

/* Is something mounted on @path, or (@is_below) below it? */
static bool is_mount_found(const char *path, bool is_below)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    BASE_AUTO_MEM char *line = NULL;
    size_t n_path = strlen(path);
    size_t cap = 0;
    bool is_found = false;

    while (file != NULL && !is_found && getline(&line, &cap, file) > 0) {
        const char *point = base_mountinfo_point(line);

        is_found = point != NULL && strncmp(point, path, n_path) == 0 &&
                   point[n_path] == (is_below ? '/' : '\0');
    }
    if (file != NULL) {
        (void)fclose(file); /* only read */
    }
    return is_found;
}

bool worker_is_mounted(const char *path)
{
    return is_mount_found(path, false);
}

/* --- the cover ------------------------------------------------------------ */

/* Another mount of the directory @path, in no place yet; -1: errno says why.
 * Private: else what is mounted on the cover would show at its other places, and
 * a bare mountpoint would be busy. */
static int mount_again(const char *path, uint64_t set, uint64_t clear)
{
    struct mount_attr attr = {
        .attr_set = set, .attr_clr = clear, .propagation = MS_PRIVATE};
    BASE_AUTO_FD fd =
        open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (fd < 0 ||
        mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0) {
        return -1;
    }
    return base_steal_fd(&fd);
}

/* Is the cover of an earlier agent there? */
static bool is_covered(const char *path)
{
    struct statvfs fs;

    return statvfs(path, &fs) == 0 && (fs.f_flag & ST_RDONLY) != 0 &&
           worker_is_mounted(path);
}

/* It is read-only before anybody sees it. */
static enum base_code cover(struct worker_points *points, struct base_err *err)
{
    BASE_AUTO_FD fd = mount_again(points->path, 0, MOUNT_ATTR_RDONLY);
    BASE_AUTO_FD over = -1;

    if (fd < 0) {
        return base_fail_errno(err, errno, "%s", points->path);
    }
    if (!is_covered(points->path)) {
        if (is_mount_found(points->path, true)) { /* it would be hidden */
            return base_fail(err, BASE_EXISTS, "%s: mounts are there already",
                             points->path);
        }
        over = mount_again(points->path, MOUNT_ATTR_RDONLY, 0);
        if (over < 0 || move_mount(over, "", AT_FDCWD, points->path,
                                   MOVE_MOUNT_F_EMPTY_PATH) != 0) {
            return base_fail_errno(err, errno, "%s", points->path);
        }
    }
    points->fd = base_steal_fd(&fd);
    points->is_covered = true;
    return BASE_OK;
}

static enum base_code set_mode(const struct worker_points *points,
                               bool may_pass,
                               struct base_err *err)
{
    struct stat st;

    if (fstat(points->fd, &st) != 0) {
        return base_fail_errno(err, errno, "%s", points->path);
    }
    st.st_mode &= ALLPERMS;
    if (st.st_uid == geteuid() && (st.st_mode == 0700 || st.st_mode == 0711) &&
        fchmodat(points->fd, ".", may_pass ? 0711 : 0700, 0) != 0) {
        return base_fail_errno(err, errno, "%s", points->path);
    }
    return BASE_OK;
}

enum base_code worker_points_open(const char *path,
                                  bool may_pass,
                                  struct worker_points *ret,
                                  struct base_err *err)
{
    struct worker_points points = {.path = path, .fd = -1};
    struct base_err why = {0};

    if (geteuid() == 0 && cover(&points, &why) != BASE_OK) {
        base_log(BASE_WARNING,
                 "cannot make the mountpoints read-only, going on: what is "
                 "saved while a mount is dead is lost",
                 "why", why.text);
    }
    if (points.fd < 0) {
        points.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (points.fd < 0) {
        return base_fail_errno(err, errno, "%s", path);
    }
    *ret = points; /* from here on the caller's to close */
    return set_mode(ret, may_pass, err);
}

static bool is_empty(const struct worker_points *points)
{
    char **names = NULL;
    size_t n = 0;
    bool is_known =
        base_dir_list(points->fd, ".", 1, &names, &n, NULL) == BASE_OK;

    base_names_free(names, n);
    return is_known && n == 0;
}

void worker_points_close(struct worker_points *points)
{
    if (points->fd < 0) {
        return;
    }
    /* Who stands in it keeps it for as long. */
    if (points->is_covered && is_empty(points) &&
        umount2(points->path, MNT_DETACH | UMOUNT_NOFOLLOW) != 0) {
        base_log(BASE_WARNING, "cannot take the cover of mountpoints away",
                 "path", points->path);
    }
    (void)close(points->fd); /* a directory */
    points->fd = -1;
}

/* --- mountpoints ----------------------------------------------------------- */

enum base_code worker_points_make(const struct worker_points *points,
                                  const char *name,
                                  struct base_err *err)
{
    if (mkdirat(points->fd, name, 0500) != 0 && errno != EEXIST) {
        return base_fail_errno(err, errno, "%s/%s: cannot make it",
                               points->path, name);
    }
    return BASE_OK;
}

void worker_points_remove(const struct worker_points *points, const char *name)
{
    (void)unlinkat(points->fd, name, AT_REMOVEDIR);
}
