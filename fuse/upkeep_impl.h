/* What fuse/upkeep.c (the thread) and fuse/upkeep_work.c (what it does) share. */
#ifndef FUSE_UPKEEP_IMPL_H
#define FUSE_UPKEEP_IMPL_H

#include <pthread.h>

#include "fuse/fs.h"
#include "fuse/upkeep.h"

enum { UPKEEP_PATH_BYTES = 64 };

enum doing { IDLE, FINISHING, DIGESTING, COMPACTING, SWEEPING };

struct fs_upkeep {
    struct fs *fs;
    const char *staging_path; /* NULL: no saves */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    BASE_VEC(struct fs_finish) waiting; /* guarded by lock, as all below */
    enum doing doing;
    uint64_t version;
    uint64_t done_bytes;
    uint64_t all_bytes;
    uint64_t n_compacted;
    uint64_t n_swept_bytes;
    bool is_awake;   /* something may be to be done */
    int64_t stop_ns; /* when to break off; 0: not ending; monotonic */
    bool is_running; /* owner: who starts and stops */
    pthread_t thread;
    /* owner: thread */
    struct store_root *root;
    uint64_t digested;  /* versions up to this are, or cannot be */
    uint64_t compacted; /* the last version that was looked at for that */
    uint64_t n_let_go;  /* of fs_versions_n_let_go, what was swept after */
    unsigned n_failures;
};

int64_t upkeep_now_ns(void); /* monotonic */
void upkeep_tell(struct fs_upkeep *upkeep,
                 enum base_level level,
                 const char *what,
                 uint64_t version,
                 const char *reason);

/* Do one thing, in the thread.  Returns false when there is nothing, or it has to
 * wait; *ret_retry: then look again soon. */
bool upkeep_do_next(struct fs_upkeep *upkeep, bool *ret_retry);

#endif
