/* Requests in gen/G/save: where steps are begun, committed and removed. */
#include "fuse/ops_impl.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fuse/commit.h"
#include "fuse/ops_save.h"
#include "fuse/saves.h"

/* The generation whose save/ @ino is; 0: it is no such directory. */
static uint64_t save_dir(struct fs *fs, fuse_ino_t ino)
{
    FS_AUTO_NODE node = {0};
    struct base_err err;

    if (fs_is_saved(ino) ||
        fs_tree_node(fs->versions, ino, &node, &err) != BASE_OK ||
        !fs_node_is_save(&node)) {
        return 0;
    }
    return node.generation;
}

/* One request, which may come again; see fuse/saves.h. */
static void turn_begin(struct fs *fs, struct fs_turn *ret)
{
    *ret = (struct fs_turn){0};
    if (fs->saves != NULL) {
        fs_turn_begin(fs->saves, fs_channel_unique(), ret);
    }
}

static void turn_end(struct fs *fs, struct fs_turn *turn)
{
    if (fs->saves != NULL) {
        fs_turn_end(turn);
    }
}

/* How long the kernel may remember a step's name.  What it asks for itself (a
 * commit, rmdir) it knows; a step that expires or is revoked goes by itself,
 * and what is left of it then can be neither read nor written. */
#define STEP_NAME_S 1.0

enum { FORGET_NS = 20000000 }; /* what a rename waits for that */

/* Answer with the directory of a step. */
static void
reply_step(fuse_req_t req, struct fs *fs, struct fs_turn *turn, uint64_t ino)
{
    struct fuse_entry_param entry;
    struct fs_saved saved;
    int errnum = fs_saves_step_node(fs->saves, turn, ino, &saved);

    if (errnum != 0) {
        (void)fuse_reply_err(req, errnum);
        return;
    }
    fs_save_entry(fs, &saved, &entry);
    entry.entry_timeout = STEP_NAME_S;
    if (fuse_reply_entry(req, &entry) != 0) {
        fs_saves_forget(fs->saves, saved.ino, 1); /* interrupted */
    }
}

enum base_code
fs_gen_prepare(struct fs *fs, struct fs_node *dir, struct base_err *err)
{
    if (!fs_node_is_save(dir) || dir->steps != NULL) {
        return BASE_OK;
    }
    return fs_commit_steps(fs->commit, &dir->steps, &dir->n_steps, err);
}

static uint64_t find_step(struct fs *fs, uint64_t generation, const char *name)
{
    BASE_AUTO_MEM struct fs_step *steps = NULL;
    const struct fs_step *found;
    struct base_err err;
    uint64_t step;
    bool is_tmp;
    size_t n;

    if (!fs_step_parse(base_str_of(name), &step, &is_tmp) ||
        fs_commit_steps(fs->commit, &steps, &n, &err) != BASE_OK) {
        return 0;
    }
    found =
        fs_step_find((struct fs_steps){steps, (uint32_t)n}, generation, step);
    return found != NULL && (found->state == FS_STEP_SEALED) != is_tmp
               ? found->ino
               : 0;
}

void fs_gen_lookup(fuse_req_t req, uint64_t generation, const char *name)
{
    struct fs *fs = fs_of(req);
    struct fs_turn turn;
    uint64_t ino;

    turn_begin(fs, &turn);
    ino = find_step(fs, generation, name);
    if (ino == 0) {
        (void)fuse_reply_err(req, ENOENT);
    } else {
        reply_step(req, fs, &turn, ino);
    }
    turn_end(fs, &turn);
}

void fs_gen_mkdir(fuse_req_t req,
                  fuse_ino_t parent,
                  const char *name,
                  mode_t mode)
{
    struct fs *fs = fs_of(req);
    const uint64_t generation = save_dir(fs, parent);
    struct fs_turn turn;
    uint64_t ino = 0;
    int errnum = EROFS;

    (void)mode; /* steps are their owner's */
    turn_begin(fs, &turn);
    if (turn.is_again) {
        ino = find_step(fs, generation, name); /* it was made */
    }
    if (ino != 0) {
        errnum = 0;
    } else if (generation != 0) {
        errnum =
            fs_commit_mkdir(fs->commit, generation, base_str_of(name), &ino);
    }
    if (errnum != 0) {
        (void)fuse_reply_err(req, errnum);
    } else {
        reply_step(req, fs, &turn, ino);
    }
    turn_end(fs, &turn);
}

void fs_gen_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fs *fs = fs_of(req);
    const uint64_t generation = save_dir(fs, parent);
    struct fs_turn turn;
    int errnum = EROFS;

    turn_begin(fs, &turn);
    if (generation != 0) {
        errnum = fs_commit_rmdir(fs->commit, generation, base_str_of(name));
    }
    if (errnum == ENOENT && turn.is_again) {
        errnum = 0; /* it was removed */
    }
    (void)fuse_reply_err(req, errnum);
    turn_end(fs, &turn);
}

/* A rename that is answered later. */
struct pending {
    struct fs *fs;
    fuse_req_t req;
    uint64_t ino; /* of the step */
};

struct names {
    BASE_VEC(char *) list;
};

static bool add_name(
    void *ctx, const char *name, uint64_t ino, mode_t type, uint64_t position)
{
    struct names *names = ctx;
    char *copy = strdup(name);

    (void)ino;
    (void)type;
    (void)position;
    if (copy != NULL && !base_vec_push(&names->list, copy)) {
        free(copy);
        return false;
    }
    return copy != NULL;
}

/* What the kernel knows below a step that was sealed are the files as they were
 * written; from now on there are links. */
static void forget_files(struct fs *fs, uint64_t ino)
{
    struct names names = {0};
    size_t i;

    (void)fs_saves_list(fs->saves, ino, 0, add_name, &names); /* or fewer */
    for (i = 0; i < names.list.n; i++) {
        (void)fuse_lowlevel_notify_inval_entry(
            fs->session, ino, names.list.items[i], strlen(names.list.items[i]));
        free(names.list.items[i]);
    }
    base_vec_done(&names.list);
    (void)fuse_lowlevel_notify_inval_inode(fs->session, ino, -1, 0);
}

/* Forgetting, by a thread of its own. */
struct forgetting {
    struct fs *fs;
    uint64_t ino;
    sem_t done;
};

static void *forget(void *ctx)
{
    struct forgetting *forgetting = ctx;

    forget_files(forgetting->fs, forgetting->ino);
    (void)sem_post(&forgetting->done); /* cannot fail: it is 0 */
    return NULL;
}

/* The kernel should have forgotten before who renamed goes on.  But there are
 * kernels that keep the directory locked until the rename is answered: then it
 * forgets right afterwards. */
static void reply_sealed(struct pending *pending)
{
    struct forgetting forgetting = {.fs = pending->fs, .ino = pending->ino};
    struct timespec until = {0};
    pthread_t thread;
    bool has_thread;

    (void)sem_init(&forgetting.done, 0, 0);      /* cannot fail */
    (void)clock_gettime(CLOCK_REALTIME, &until); /* nor this */
    until.tv_nsec += FORGET_NS;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    has_thread = pthread_create(&thread, NULL, forget, &forgetting) == 0;
    if (has_thread) {
        while (sem_timedwait(&forgetting.done, &until) != 0 && errno == EINTR) {
        }
    }
    (void)fuse_reply_err(pending->req, 0);
    if (has_thread) {
        (void)pthread_join(thread, NULL); /* ours, not joined yet */
    } else {
        forget_files(pending->fs, pending->ino);
    }
    (void)sem_destroy(&forgetting.done);
}

static void reply_committed(void *ctx, int errnum)
{
    struct pending *pending = ctx;

    if (errnum == 0) {
        reply_sealed(pending);
    } else {
        (void)fuse_reply_err(pending->req, errnum);
    }
    free(pending);
}

void fs_gen_rename(fuse_req_t req,
                   fuse_ino_t parent,
                   const char *name,
                   fuse_ino_t new_parent,
                   const char *new_name,
                   unsigned flags)
{
    struct fs *fs = fs_of(req);
    const uint64_t generation = save_dir(fs, parent);
    const struct fs_commit_asker asker = {.pid = fuse_req_ctx(req)->pid,
                                          .is_noreplace =
                                              (flags & RENAME_NOREPLACE) != 0};
    struct pending *pending;
    int errnum;

    if (generation == 0) {
        (void)fuse_reply_err(req, EROFS);
        return;
    }
    if ((flags & ~(unsigned)RENAME_NOREPLACE) != 0) {
        (void)fuse_reply_err(req, EINVAL);
        return;
    }
    pending = calloc(1, sizeof(*pending));
    if (pending == NULL) {
        (void)fuse_reply_err(req, ENOMEM);
        return;
    }
    *pending = (struct pending){fs, req, find_step(fs, generation, name)};
    errnum = fs_commit_rename(fs->commit, generation, base_str_of(name),
                              save_dir(fs, new_parent), base_str_of(new_name),
                              asker, reply_committed, pending);
    if (errnum != FS_COMMIT_LATER) {
        free(pending);
        (void)fuse_reply_err(req, errnum);
    }
}
