/* How many files a directory has, and their bytes. */
#ifndef FUSE_USAGE_H
#define FUSE_USAGE_H

#include <stdint.h>

struct fs_usage {
    uint64_t n_files;
    uint64_t n_bytes;
};

/* Count what is below @name in @dir_fd, following no links and passing over
 * what disappears meanwhile. */
struct fs_usage fs_usage_of(int dir_fd, const char *name);

#endif
