/* When to ask the kernel again to forget a version that nobody seems to use.
 *
 * Asking is no small thing (every name of the version), and in vain while a
 * working directory, say, keeps it; so each try is followed by twice as many
 * looks without one, up to FS_IDLE_MAX_LOOKS.  Who uses the version begins it
 * anew.  Pure. */
#ifndef FUSE_IDLE_H
#define FUSE_IDLE_H

#include <stdbool.h>
#include <stdint.h>

enum { FS_IDLE_MAX_LOOKS = 32 }; /* some 3 s of those of fuse/watch.c */

/* All zero: used just now. */
struct fs_idle {
    uint32_t n_skip; /* looks after the next try; 0: one */
    uint32_t n_left; /* of them */
};

/* One look at it.  Is it to be tried? */
bool fs_idle_look(struct fs_idle *idle, bool is_used);

#endif
