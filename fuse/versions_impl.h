/* What the files of fuse/versions.h share. */
#ifndef FUSE_VERSIONS_IMPL_H
#define FUSE_VERSIONS_IMPL_H

#include <stdatomic.h>

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
    /* Closed ones whose blobs may be needed by nobody now. */
    atomic_uint_fast64_t n_let_go;
};

/* Lock held.  True: it was the last hold, and the version is ours to close. */
bool versions_take_holds(struct fs_versions *versions,
                         struct fs_version *version,
                         uint64_t n);
/* Let the holder hold the lock of @version, too, which is about to be among the
 * open ones: versions_close ends that. */
void versions_keep_lock(const struct fs_versions *versions,
                        struct fs_version *version);
/* Without the lock. */
void versions_close(struct fs_versions *versions, struct fs_version *version);

/* versions_open.c; of what -o said. */
enum base_code versions_open_directory(struct fs_versions *versions,
                                       struct base_err *err) BASE_MUST_CHECK;
enum base_code versions_open_store(struct fs_versions *versions,
                                   struct base_err *err) BASE_MUST_CHECK;
/* @version as it is published now; given, and not among the open ones.
 * @opening_lock held. */
enum base_code versions_open_again(struct fs_versions *versions,
                                   const struct fs_version *version,
                                   struct fs_version **ret,
                                   struct base_err *err) BASE_MUST_CHECK;

#endif
