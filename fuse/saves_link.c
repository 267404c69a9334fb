/* What a sealed step shows: links into the version that it has become.
 *
 * A link's number is the record's sequence and the name's index: first the
 * names that every version has, then those that the saved directory had. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define LINK_BITS (FS_SAVED_BIT | FS_SAVED_LINK_BIT)

enum { INDEX_BITS = 20 };

static const char *const everywhere[] = {"layout.yaml", "ranks", "hf", "npy",
                                         "as"};

enum { N_EVERYWHERE = sizeof(everywhere) / sizeof(everywhere[0]) };

/* gen/G/save/STEP is four deep. */
#define TARGET "../../../../versions/%" PRIu64 "/%s"

static uint64_t number_of(const struct saved_step *step, uint64_t idx)
{
    return LINK_BITS | step->sequence << INDEX_BITS | idx;
}

uint64_t saves_link_ino(const struct saved_step *step, const char *name)
{
    uint64_t i;

    for (i = 0; i < N_EVERYWHERE; i++) {
        if (strcmp(everywhere[i], name) == 0) {
            return number_of(step, i);
        }
    }
    for (i = 0; i < step->n_names; i++) {
        if (strcmp(step->names[i], name) == 0) {
            return number_of(step, N_EVERYWHERE + i);
        }
    }
    return 0;
}

struct saved_step *saves_link_step(const struct fs_saves *saves,
                                   uint64_t ino,
                                   const char **ret_name)
{
    uint64_t sequence = (ino & ~LINK_BITS) >> INDEX_BITS;
    uint64_t idx = ino & ((UINT64_C(1) << INDEX_BITS) - 1);
    uint32_t i;

    for (i = 0; i < saves->n_steps; i++) {
        struct saved_step *step = saves->steps[i];

        if (step->sequence != sequence || step->state != FS_STEP_SEALED) {
            continue;
        }
        if (idx < N_EVERYWHERE) {
            *ret_name = everywhere[idx];
            return step;
        }
        if (idx - N_EVERYWHERE < step->n_names) {
            *ret_name = step->names[idx - N_EVERYWHERE];
            return step;
        }
    }
    return NULL;
}

void saves_link_attr(const struct saved_step *step,
                     uint64_t ino,
                     const char *name,
                     struct stat *ret)
{
    *ret = (struct stat){
        .st_ino = ino,
        .st_mode = S_IFLNK | 0777,
        .st_nlink = 1,
        .st_size = snprintf(NULL, 0, TARGET, step->version, name),
        .st_blksize = FS_SAVES_BLOCK,
        .st_atim = step->time,
        .st_mtim = step->time,
        .st_ctim = step->time,
    };
}

int fs_saves_readlink(struct fs_saves *saves,
                      uint64_t ino,
                      char ret[FS_SAVED_TARGET_BYTES])
{
    const struct saved_step *step;
    const char *name;

    saves_lock(saves);
    step = saves_link_step(saves, ino, &name);
    if (step != NULL) {
        (void)snprintf(ret, FS_SAVED_TARGET_BYTES, TARGET, step->version, name);
    }
    saves_unlock(saves);
    return step != NULL ? 0 : EINVAL;
}
