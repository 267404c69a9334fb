#include "fuse/usage.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/auto.h"

enum { MAX_DEPTH = 64 };

static void closedir_auto(DIR **dir)
{
    if (*dir != NULL) {
        (void)closedir(*dir); /* was only read */
    }
}

static void
add(int dir_fd, const char *name, unsigned depth, struct fs_usage *sum)
{
    BASE_AUTO_FD fd =
        openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    __attribute__((cleanup(closedir_auto))) DIR *dir =
        fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    struct stat stat;

    if (dir == NULL) {
        return;
    }
    (void)base_steal_fd(&fd); /* the stream's */
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 ||
            strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(dir), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) !=
                0) {
            continue;
        }
        if (S_ISDIR(stat.st_mode) && depth < MAX_DEPTH) {
            add(dirfd(dir), entry->d_name, depth + 1, sum);
        } else if (S_ISREG(stat.st_mode)) {
            sum->n_files++;
            sum->n_bytes += (uint64_t)stat.st_size;
        }
    }
}

struct fs_usage fs_usage_of(int dir_fd, const char *name)
{
    struct fs_usage sum = {0};

    add(dir_fd, name, 0, &sum);
    return sum;
}
