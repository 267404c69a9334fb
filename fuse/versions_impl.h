/* What fuse/versions.c and fuse/versions_gen.c share. */
#ifndef FUSE_VERSIONS_IMPL_H
#define FUSE_VERSIONS_IMPL_H

#include "fuse/versions.h"

struct fs_versions {
    const struct fs_options *options;
    struct fs_views *views;
    struct fs_events *events;
    struct fs_handover *handover;
    const struct fs_line *line;
    struct store_root *root;      /* NULL: a directory */
    struct fs_version *at_root;   /* NULL: a store; holds it */
    pthread_mutex_t opening_lock; /* taken before the other */
    pthread_mutex_t lock;
    struct fs_version *first; /* open ones; guarded by lock, as is the next */
    struct fs_version *kept;  /* the newest that was opened; holds it */
    /* Changed by one thread at a time; guarded by lock. */
    struct fs_generations generations;
    struct fs_version *loaded; /* of the current generation; holds it */
};

#endif
