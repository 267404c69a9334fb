/* How much may be written.  The room is asked for when the last answer is old,
 * when much was written since, and when it does not suffice. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "base/num.h"

enum { STALE_NS = 100000000, STALE_BYTES = 64 << 20, LOOK_NS = 1000000000 };

/* room_lock held. */
static void ask(struct fs_saves *saves)
{
    uint64_t n_bytes;

    if (!saves->guard.room(saves->guard.ctx, &n_bytes)) {
        n_bytes = UINT64_MAX; /* then the file system says when it is full */
    }
    saves->room_bytes = n_bytes;
    saves->charged_bytes = 0;
    saves->room_ns = saves_now_ns();
}

int saves_charge(struct fs_saves *saves, uint64_t n_bytes)
{
    bool is_enough;

    if (saves->guard.room == NULL) {
        return 0;
    }
    (void)pthread_mutex_lock(&saves->room_lock);
    if (saves->room_ns == 0 || saves_now_ns() - saves->room_ns > STALE_NS ||
        saves->charged_bytes > STALE_BYTES || n_bytes >= saves->room_bytes) {
        ask(saves);
    }
    is_enough = n_bytes < saves->room_bytes;
    if (is_enough) {
        saves->room_bytes -= n_bytes;
        saves->charged_bytes += n_bytes;
    }
    (void)pthread_mutex_unlock(&saves->room_lock);
    return is_enough ? 0 : ENOSPC;
}

/* Lock held. */
static void mark(struct fs_saves *saves, bool is_full)
{
    uint32_t i;

    for (i = 0; i < saves->n_steps; i++) {
        struct saved_step *step = saves->steps[i];

        if (step->state == FS_STEP_OPEN) {
            step->is_full = is_full;
        }
    }
}

static void look_for_room(struct fs_saves *saves)
{
    uint64_t room;
    bool was_full;
    bool is_full;

    if (saves->guard.room == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&saves->room_lock);
    ask(saves);
    room = saves->room_bytes;
    (void)pthread_mutex_unlock(&saves->room_lock);

    is_full = room == 0;
    saves_lock(saves);
    was_full = saves->is_full;
    saves->is_full = is_full;
    mark(saves, is_full);
    saves_unlock(saves);
    if (is_full && !was_full) {
        saves_tell(saves, "save", "no room is left: nothing new is taken");
    }
}

void fs_saves_tick(struct fs_saves *saves)
{
    int64_t now_ns = saves_now_ns();

    look_for_room(saves);
    saves_lock(saves);
    if (now_ns - saves->looked_ns >= LOOK_NS) {
        saves->looked_ns = now_ns;
        saves_look_at_writers(saves);
    }
    saves_unlock(saves);
}

int fs_saves_statfs(struct fs_saves *saves, struct statvfs *ret)
{
    uint64_t room;

    if (fstatvfs(saves->dir_fd, ret) != 0) {
        return errno;
    }
    ret->f_namemax = 255;
    if (saves->guard.room != NULL &&
        saves->guard.room(saves->guard.ctx, &room) && ret->f_frsize > 0) {
        ret->f_bavail = base_min_u64(ret->f_bavail, room / ret->f_frsize);
        ret->f_bfree = base_min_u64(ret->f_bfree, ret->f_bavail);
    }
    return 0;
}
