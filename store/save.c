/* A commit: looked at, named as blobs, published.
 *
 * Until the rename that publishes, staging is only read, and blobs/ gets second
 * names of its files, which are taken back when it fails.  A crash leaves them
 * to the sweep. */
#include "store/save.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/file.h"
#include "store/digest.h"
#include "store/draft.h"
#include "store/root_priv.h"
#include "store/save_priv.h"
#include "store/target_priv.h"
#include "store/vote_priv.h"

/* A region that is the parent's, with its digests. */
struct kept {
    uint32_t here;
    uint32_t there;
};

struct commit {
    struct store_staging *staging;
    struct store_looked *looked;
    struct store_change *change;
    struct store_draft draft;
    uint32_t *as; /* per blob of the source: that of the version, or PTC_NONE */
    struct ptc_pieces *pieces;
    BASE_VEC(struct kept) kept;
};

static void commit_done(struct commit *commit)
{
    store_change_free(commit->change);
    store_draft_done(&commit->draft);
    ptc_pieces_free(commit->pieces);
    base_vec_done(&commit->kept);
    free(commit->as);
}

#define AUTO_COMMIT __attribute__((cleanup(commit_done))) struct commit

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for a save");
}

/* --- is it there already ------------------------------------------------ */

/* The version that this save is, published by a mount that died then. */
static enum base_code find_published(const struct store_root *root,
                                     const char *job,
                                     const struct store_save *save,
                                     uint64_t *ret_number,
                                     struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;
    enum base_code code = store_root_versions(root, job, &numbers, &n, err);

    *ret_number = 0;
    if (code == BASE_NOT_FOUND) { /* a new job */
        return BASE_OK;
    }
    BASE_TRY(code);
    for (; n > 0 && numbers[n - 1] > save->parent && *ret_number == 0; n--) {
        BASE_AUTO(store_version) version = NULL;
        const struct ptc_manifest_head *head;

        code = store_version_open_manifest(root, job, numbers[n - 1], &version,
                                           err);
        if (code == BASE_NOT_FOUND || code == BASE_BAD_INPUT ||
            code == BASE_MISMATCH) { /* released meanwhile, or damaged */
            continue;
        }
        BASE_TRY(code);
        head = ptc_manifest_head(store_version_manifest(version));
        if (base_str_eq(head->origin, BASE_STR("save")) &&
            head->step == save->step && head->parent == save->parent) {
            *ret_number = head->version;
        }
    }
    return BASE_OK;
}

static enum base_code find_made(const struct store_root *root,
                                const char *job,
                                const struct store_save *save,
                                uint64_t *ret_number,
                                struct base_err *err)
{
    return save->attempt.number != 0
               ? store_vote_find(root, job, &save->attempt, "save", save->step,
                                 ret_number, err)
               : find_published(root, job, save, ret_number, err);
}

/* --- blobs -------------------------------------------------------------- */

static enum base_code on_wanted(void *ctx,
                                uint32_t tensor,
                                const struct ptc_piece *piece,
                                struct base_err *err)
{
    struct commit *commit = ctx;

    (void)tensor;
    (void)err;
    commit->as[piece->blob] = 0; /* wanted; numbered later */
    return BASE_OK;
}

/* Every piece of every tensor. */
static enum base_code
each_piece(struct commit *commit, ptc_piece_fn fn, struct base_err *err)
{
    const struct store_source *source = commit->looked->source;
    const struct ptc_table *table = store_source_table(source);

    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);
        struct ptc_box whole = ptc_box_whole(t->n_dims, t->shape);

        if (t->tie == PTC_NONE && t->n_elems > 0) {
            BASE_TRY(ptc_pieces_find(store_source_pieces(source), i, &whole, fn,
                                     commit, err));
        }
    }
    return BASE_OK;
}

/* Name the source's blob @idx as one of the version's. */
static enum base_code
adopt(struct commit *commit, uint32_t idx, struct base_err *err)
{
    const struct store_blob *blob =
        store_source_blob(commit->looked->source, idx);
    BASE_AUTO_MEM char *path =
        base_path("%s/%s", store_staging_name(commit->staging), blob->label);
    struct ptc_blob_name name;

    if (path == NULL) {
        return no_mem(err);
    }
    BASE_TRY(store_change_adopt(commit->change, path, blob->fd, &name, err));
    commit->as[idx] = (uint32_t)commit->draft.blobs.n;
    return store_draft_add_blob(&commit->draft, &name, blob->n_bytes, err);
}

/* A file of tensors: its header, and each of them. */
static enum base_code add_file(struct commit *commit,
                               const struct store_dir_file *file,
                               struct base_err *err)
{
    const struct ptc_table *table = store_source_table(commit->looked->source);
    uint64_t data = file->header->data_offset;

    BASE_TRY(adopt(commit, file->blob, err));
    BASE_TRY(
        store_draft_add_region(&commit->draft, PTC_NONE, 0, data, false, err));
    for (uint32_t i = 0; i < file->header->n_entries; i++) {
        const struct ptc_st_entry *entry = &file->header->entries[i];

        if (entry->end > entry->begin) {
            BASE_TRY(store_draft_add_region(
                &commit->draft, ptc_table_find(table, entry->name),
                data + entry->begin, entry->end - entry->begin, false, err));
        }
    }
    return BASE_OK;
}

/* Files that have pieces, in the source's order. */
static enum base_code add_files(struct commit *commit, struct base_err *err)
{
    const struct store_looked *looked = commit->looked;
    uint32_t n = store_source_n_blobs(looked->source);

    commit->as = calloc((size_t)n + 1, sizeof(*commit->as));
    if (commit->as == NULL) {
        return no_mem(err);
    }
    memset(commit->as, 0xff, n * sizeof(*commit->as)); /* PTC_NONE each */
    BASE_TRY(each_piece(commit, on_wanted, err));
    for (size_t i = 0; i < looked->n_files; i++) {
        if (commit->as[looked->files[i].blob] != PTC_NONE) {
            BASE_TRY(add_file(commit, &looked->files[i], err));
        }
    }
    return BASE_OK;
}

/* --- objects ------------------------------------------------------------ */

/* The parent's blob, named once more. */
static enum base_code keep_object(struct commit *commit,
                                  const struct store_saved_object *object,
                                  struct base_err *err)
{
    const struct ptc_manifest *manifest =
        store_version_manifest(commit->looked->parent);
    struct kept kept = {.here = (uint32_t)commit->draft.regions.n,
                        .there =
                            ptc_manifest_object(manifest, object->kept).region};
    struct ptc_manifest_region region =
        ptc_manifest_region(manifest, kept.there);
    struct ptc_manifest_blob blob = ptc_manifest_blob(manifest, region.blob);

    BASE_TRY(
        store_draft_add_blob(&commit->draft, &blob.name, blob.n_bytes, err));
    BASE_TRY(store_draft_add_object(&commit->draft, object->name, object->rank,
                                    region.is_digested, err));
    return !region.is_digested || base_vec_push(&commit->kept, kept)
               ? BASE_OK
               : no_mem(err);
}

static enum base_code add_objects(struct commit *commit, struct base_err *err)
{
    for (size_t i = 0; i < commit->looked->objects.n; i++) {
        const struct store_saved_object *object =
            &commit->looked->objects.items[i];

        if (object->blob == PTC_NONE) {
            BASE_TRY(keep_object(commit, object, err));
            continue;
        }
        BASE_TRY(adopt(commit, object->blob, err));
        BASE_TRY(store_draft_add_object(&commit->draft, object->name,
                                        object->rank, false, err));
    }
    return BASE_OK;
}

/* Room for all digests; those of the parent's regions are known. */
static enum base_code add_digests(struct commit *commit, struct base_err *err)
{
    struct store_draft *draft = &commit->draft;

    BASE_TRY(store_draft_make_chunks(draft, err));
    for (size_t i = 0; i < commit->kept.n; i++) {
        const struct ptc_manifest *manifest =
            store_version_manifest(commit->looked->parent);
        struct ptc_manifest_region *to =
            &draft->regions.items[commit->kept.items[i].here];
        struct ptc_manifest_region from =
            ptc_manifest_region(manifest, commit->kept.items[i].there);
        uint64_t n = store_digest_n_chunks(from.n_bytes);

        to->digest = from.digest;
        for (uint64_t k = 0; k < n; k++) {
            draft->chunks[to->first_chunk + k] =
                ptc_manifest_chunk(manifest, &from, k);
        }
    }
    return BASE_OK;
}

/* --- publishing --------------------------------------------------------- */

static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct commit *commit = ctx;
    struct ptc_piece moved = *piece;

    moved.blob = commit->as[piece->blob];
    return ptc_pieces_add(commit->pieces, tensor, &moved, err);
}

static enum base_code move_pieces(struct commit *commit, struct base_err *err)
{
    commit->pieces =
        ptc_pieces_create(store_source_table(commit->looked->source));
    if (commit->pieces == NULL) {
        return no_mem(err);
    }
    BASE_TRY(each_piece(commit, on_piece, err));
    return ptc_pieces_seal(commit->pieces, err);
}

/* With the lock: nothing else is published meanwhile. */
static enum base_code check_newest(const struct commit *commit,
                                   struct base_err *err)
{
    const struct store_save *save = commit->looked->save;
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;
    enum base_code code;

    if (!save->is_on_newest) {
        return BASE_OK;
    }
    code = store_root_versions(store_staging_root(commit->staging),
                               store_staging_job(commit->staging), &numbers, &n,
                               err);
    if (code != BASE_OK && code != BASE_NOT_FOUND) {
        return code;
    }
    if ((n > 0 ? numbers[n - 1] : 0) != save->parent) {
        return base_fail(
            err, BASE_CHANGED,
            "version %" PRIu64
            " was published, the save goes on from version %" PRIu64,
            n > 0 ? numbers[n - 1] : 0, save->parent);
    }
    return BASE_OK;
}

static enum base_code
publish(struct commit *commit, uint64_t *ret_number, struct base_err *err)
{
    const struct store_looked *looked = commit->looked;
    const struct store_source *source = looked->source;
    struct ptc_manifest_head head = {.step = looked->save->step,
                                     .samples = looked->samples,
                                     .parent = looked->save->parent,
                                     .origin = BASE_STR("save")};

    BASE_TRY(store_change_begin(store_staging_root(commit->staging),
                                store_staging_job(commit->staging), 0,
                                &looked->save->attempt, &commit->change, err));
    BASE_TRY(check_newest(commit, err));
    BASE_TRY(add_files(commit, err));
    BASE_TRY(add_objects(commit, err));
    BASE_TRY(add_digests(commit, err));
    BASE_TRY(move_pieces(commit, err));
    for (uint32_t i = 0; i < store_source_n_blobs(source); i++) {
        BASE_TRY(store_blob_check(store_source_blob(source, i), err));
    }
    return store_draft_publish(&commit->draft, commit->change,
                               store_source_layout(source), commit->pieces,
                               &head, ret_number, err);
}

/* --- the whole ---------------------------------------------------------- */

/* Bytes that are said to be the same: ties always, replicas as asked. */
static enum base_code check_bytes(struct store_looked *looked,
                                  struct base_err *err)
{
    struct store_target target = {.source = looked->source};
    uint64_t n = 0;

    BASE_TRY(store_target_check_ties(&target, &looked->problems, err));
    if (looked->save->replicas == STORE_REPLICAS_REFUSE) {
        BASE_TRY(store_looked_compare(looked, looked->source, true, NULL, NULL,
                                      &n, err));
    }
    return store_problems_end(&looked->problems, err);
}

static enum base_code look(struct store_staging *staging,
                           const struct store_save *save,
                           struct store_looked *looked,
                           struct base_err *err)
{
    BASE_TRY(
        store_looked_open(store_staging_root(staging),
                          store_staging_job(staging), store_staging_fd(staging),
                          store_staging_path(staging), save, 0, looked, err));
    BASE_TRY(store_looked_objects(looked, err));
    /* What is not complete is not compared. */
    if (looked->problems.n > 0) {
        return store_problems_end(&looked->problems, err);
    }
    return check_bytes(looked, err);
}

enum base_code store_save_commit(struct store_staging *staging,
                                 const struct store_save *save,
                                 uint64_t *ret_number,
                                 struct base_err *err)
{
    STORE_AUTO_LOOKED looked = {0};
    AUTO_COMMIT commit = {.staging = staging, .looked = &looked};
    struct base_err own;
    uint64_t number = 0;

    err = err == NULL ? &own : err; /* problems are told from it */
    BASE_TRY(find_made(store_staging_root(staging), store_staging_job(staging),
                       save, &number, err));
    if (number != 0) {
        *ret_number = number;
        return BASE_OK;
    }
    BASE_TRY(look(staging, save, &looked, err));
    BASE_TRY(base_fault_check(BASE_FAULT_save_checked, err));
    BASE_TRY(publish(&commit, &number, err));
    *ret_number = number;
    (void)base_fault(BASE_FAULT_save_published); /* nothing to fail */
    return BASE_OK;
}
