/* The device's number is looked up in /proc/self/mountinfo, since stat(2) on
 * our own mount would wait for ourselves. */
#include "fuse/readahead.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/auto.h"
#include "base/mountinfo.h"

/* "ID PARENT MAJOR:MINOR ROOT MOUNTPOINT ...": is it the mount at @mountpoint?
 * Then *device is set. */
static bool is_mount_line(char *line, const char *mountpoint, char device[32])
{
    char found[32];
    const char *point;

    if (sscanf(line, "%*u %*u %31s", found) != 1) {
        return false;
    }
    point = base_mountinfo_point(line);
    if (point == NULL || strcmp(point, mountpoint) != 0) {
        return false;
    }
    (void)stpcpy(device, found);
    return true;
}

static bool find_device(const char *mountpoint, char device[32])
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    BASE_AUTO_MEM char *line = NULL;
    size_t room = 0;
    bool is_found = false;

    if (file == NULL) {
        return false;
    }
    while (getline(&line, &room, file) > 0) {
        is_found |= is_mount_line(line, mountpoint, device); /* the last */
    }
    (void)fclose(file); /* only read */
    return is_found;
}

void fs_readahead_raise(const char *mountpoint)
{
    char device[32];
    char path[80];
    BASE_AUTO_FD fd = -1;

    if (!find_device(mountpoint, device)) {
        return;
    }
    (void)snprintf(path, sizeof(path), "/sys/class/bdi/%s/read_ahead_kb",
                   device);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "1024\n", 5) != 5) {
        return; /* best effort, as the header says */
    }
}
