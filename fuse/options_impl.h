/* What the files of fuse/options.h share. */
#ifndef FUSE_OPTIONS_IMPL_H
#define FUSE_OPTIONS_IMPL_H

/* The absolute form of a path that need not exist; given, free it.  NULL: errno
 * says why. */
char *options_absolute(const char *path);

#endif
