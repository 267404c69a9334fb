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

void fs_handover_keep(struct fs_handover *handover,
                      const struct fs_generations *all)
{
    const unsigned idx = handover->generations_at == 1 ? 1 : 0;

    handover->generations[idx] = *all;
    handover->generations_at = idx + 1; /* in this order: it is atomic */
}

const struct fs_generations *
fs_handover_generations(const struct fs_handover *handover)
{
    const unsigned at = handover->generations_at;

    return at == 1 || at == 2 ? &handover->generations[at - 1] : NULL;
}
