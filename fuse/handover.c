#include "fuse/handover.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

enum base_code
fs_handover_create(int *ret_fd, struct fs_handover **ret, struct base_err *err)
{
    BASE_AUTO_FD fd = memfd_create("retile-handover", MFD_CLOEXEC);
    struct fs_handover *handover;

    if (fd < 0 || ftruncate(fd, sizeof(*handover)) != 0) {
        return base_fail_errno(err, errno, "memory for the mount");
    }
    handover = mmap(NULL, sizeof(*handover), PROT_READ | PROT_WRITE, MAP_SHARED,
                    fd, 0);
    if (handover == MAP_FAILED) {
        return base_fail_errno(err, errno, "memory for the mount");
    }
    *ret = handover;
    *ret_fd = base_steal_fd(&fd);
    return BASE_OK;
}

void fs_handover_free(struct fs_handover *handover)
{
    if (handover != NULL) {
        (void)munmap(handover, sizeof(*handover)); /* ours: cannot fail */
    }
}
