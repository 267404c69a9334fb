#include "fuse/idle.h"

bool fs_idle_look(struct fs_idle *idle, bool is_used)
{
    if (is_used) {
        *idle = (struct fs_idle){0};
        return false;
    }
    if (idle->n_left > 0) {
        idle->n_left--;
        return false;
    }
    idle->n_left = idle->n_skip;
    idle->n_skip = idle->n_skip * 2 + 1;
    if (idle->n_skip > FS_IDLE_MAX_LOOKS - 1) {
        idle->n_skip = FS_IDLE_MAX_LOOKS - 1;
    }
    return true;
}
