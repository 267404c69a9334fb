/* The kernel's read-ahead on our mount, which FUSE can only lower. */
#ifndef FUSE_READAHEAD_H
#define FUSE_READAHEAD_H

/* Set it to 1 MiB for the mount at @mountpoint (absolute, without links),
 * without touching the mount.  Needs root; best effort: without it reads
 * through the page cache are slower, nothing else. */
void fs_readahead_raise(const char *mountpoint);

#endif
