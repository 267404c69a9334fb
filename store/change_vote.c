/* Casting a change's vote: the last of its files, by rename.
 *
 * From then on the attempt's directory belongs to who decides about it, and no
 * longer to the change. */
#include <errno.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/file.h"
#include "store/change_priv.h"
#include "store/root_priv.h"
#include "store/vote_priv.h"

/* What is compared before the version is published. */
static enum base_code add_adopted(const struct store_change *change,
                                  struct store_vote_file *file,
                                  struct base_err *err)
{
    for (size_t i = 0; i < change->blobs.n; i++) {
        const struct store_made *made = &change->blobs.items[i];
        struct store_vote_adopted item = {
            .blob = made->name,
            .ino = (uint64_t)made->stat.st_ino,
            .n_bytes = (uint64_t)made->stat.st_size,
            .mtime_s = (uint64_t)made->stat.st_mtim.tv_sec,
            .mtime_ns = (uint32_t)made->stat.st_mtim.tv_nsec};

        if (made->adopted != NULL && !base_vec_push(&file->adopted, item)) {
            return store_change_no_mem(err);
        }
    }
    return BASE_OK;
}

static enum base_code fill(const struct store_change *change,
                           const struct ptc_manifest_head *head,
                           struct base_digest digest,
                           struct store_vote_file *file,
                           struct base_err *err)
{
    struct store_vote *vote = &file->vote;

    vote->number = change->attempt.number;
    vote->generation = change->attempt.generation;
    vote->step = head->step;
    vote->parent = head->parent;
    vote->manifest = digest;
    /* Both have room: the job's name was checked, an origin is ours. */
    (void)snprintf(vote->job, sizeof(vote->job), "%s", change->job);
    (void)snprintf(vote->origin, sizeof(vote->origin), "%.*s",
                   BASE_STR_FMT(head->origin));
    return add_adopted(change, file, err);
}

/* The file with another name, synced. */
static enum base_code write_vote(const struct store_change *change,
                                 const struct store_vote_file *file,
                                 const char *path,
                                 struct base_err *err)
{
    BASE_AUTO_BUF text;

    base_buf_init(&text, STORE_VOTE_MAX_BYTES);
    BASE_TRY(store_vote_format(file, &text, err));
    return store_change_write(change, path, base_buf_str(&text), err);
}

enum base_code store_change_vote(struct store_change *change,
                                 const struct ptc_manifest_new *manifest,
                                 struct base_digest digest,
                                 struct base_err *err)
{
    int root_fd = store_root_fd(change->root);
    BASE_AUTO_MEM char *staged = base_path("%s/vote.tmp", change->staging);
    BASE_AUTO_MEM char *place = base_path("%s/vote", change->staging);
    STORE_AUTO_VOTE_FILE file = {0};

    if (staged == NULL || place == NULL) {
        return store_change_no_mem(err);
    }
    BASE_TRY(fill(change, &manifest->head, digest, &file, err));
    BASE_TRY(write_vote(change, &file, staged, err));
    BASE_TRY(base_fault_check(BASE_FAULT_vote_made, err));
    BASE_TRY(store_root_keep_lock(change->root, err));
    BASE_TRY(store_change_check_adopted(change, err));
    BASE_TRY(base_fault_check(BASE_FAULT_io_rename, err));
    if (renameat(root_fd, staged, root_fd, place) != 0) {
        return base_fail_errno(err, errno, "%s/%s: cannot cast it",
                               store_root_path(change->root), place);
    }
    change->is_published = true;
    change->has_staging = false;
    BASE_TRY(base_fault_check(BASE_FAULT_vote_voted, err));
    BASE_TRY(base_dir_sync(root_fd, change->staging, err));
    return base_dir_sync(root_fd, "staging", err);
}
