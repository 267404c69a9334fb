/* A thread that waits for versions to be published in the store, and has those
 * closed that are no longer current and that nobody uses: else the kernel, which
 * remembers names, would keep them from being released.  Those whose manifest was
 * replaced are opened anew, else their old blobs would stay.
 *
 * The kernel does not tell when a version's last user (a working directory, say)
 * is gone; so while such a version is open the thread looks a few times a
 * second, and asks the kernel to forget it ever more seldom (fuse/idle.h). */
#ifndef FUSE_WATCH_H
#define FUSE_WATCH_H

#include "fuse/versions.h"

struct fs_watch;
/* Ends the thread; before the loop that serves requests, which it may be waiting
 * for.  NULL is fine, here and below. */
void fs_watch_stop(struct fs_watch *watch);
void fs_watch_free(struct fs_watch *watch); /* stops it, too */
BASE_AUTO_DEFINE(fs_watch);

/* Watch the directory of the job's versions, @path (absolute; the job may be
 * without one until then).  @fn makes the kernel forget a version's names; @follow
 * is called when something may have been published. */
enum base_code fs_watch_create(struct fs_versions *versions,
                               const char *path,
                               fs_version_fn fn,
                               void *ctx,
                               void (*follow)(void *ctx),
                               void *follow_ctx,
                               struct fs_watch **ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* A version may have been opened, published or replaced. */
void fs_watch_wake(struct fs_watch *watch);

#endif
