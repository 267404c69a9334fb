/* The directory of mountpoints, in which a mountpoint takes nothing while nothing
 * is mounted on it.
 *
 * A mount that dies leaves a bare directory until the next one lies on it.  A rank
 * that makes whatever a path lacks (mkdir -p) would save into that, see nothing
 * fail, and lose it.  So
 *
 *   root's   the directory is covered by a read-only mount of itself, and mounts
 *            lie on the cover: EROFS.  We make and remove mountpoints through a
 *            mount of the same directory that has no place in the tree, only our
 *            descriptor.
 *   others'  who may mount nothing themselves: a mountpoint has the mode 0500:
 *            EACCES.  retile-fuse changes that for as long as fusermount3 takes
 *            to mount (fuse/mount.c).
 *
 * The cover outlives a killed agent, the next one finds it.  Owner: the loop. */
#ifndef WORKER_POINTS_H
#define WORKER_POINTS_H

#include <stdbool.h>

#include "base/err.h"

struct worker_points {
    const char *path; /* borrowed; without links */
    int fd;           /* -1: not open */
    bool is_covered;
};

/* Open @path, a directory without links in its name, and cover it.  It is made
 * mode 0711 when others @may_pass, else 0700, unless its mode is neither.  Where it
 * cannot be covered it is told, and bare mountpoints can be written to.  It is not
 * covered either while something is mounted below.
 * Errors: BASE_IO, BASE_DENIED, BASE_NOT_FOUND  it cannot be opened, or its mode
 *                                               not be set; *ret is to be closed */
enum base_code worker_points_open(const char *path,
                                  bool may_pass,
                                  struct worker_points *ret,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Take the cover away, unless a mountpoint is left.  Not open: nothing. */
void worker_points_close(struct worker_points *points);

/* Make a mountpoint, unless it is there.
 * Errors: BASE_IO and others  with the reason */
enum base_code worker_points_make(const struct worker_points *points,
                                  const char *name,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Remove one.  Not there: fine; not empty: it is somebody else's, and stays. */
void worker_points_remove(const struct worker_points *points, const char *name);

/* Is something mounted on @path?  Asks nobody who serves it. */
bool worker_is_mounted(const char *path);

#endif
