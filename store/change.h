/* A change of a store: blobs and a manifest made in staging, then published by
 * one rename.  Until then nothing of it can be seen; whatever dies, the store
 * is old or new.
 *
 *   store_change_begin      takes the lock, makes staging/ATTEMPT
 *   store_change_blob       a new blob: reserved (fallocate) before it is
 *                           written, ENOSPC and the budget come first
 *   store_change_unlock     perhaps: others may change the store meanwhile
 *   ... write ...
 *   store_change_publish    sync, blobs to blobs/, table to tables/, manifest,
 *                           rename; the new version's number
 *
 * With an attempt the last rename is not that of the version, but of its vote,
 * and a coordinator decides about the version's: store/vote.h.
 *
 * A change belongs to one thread; blobs may be written by several. */
#ifndef STORE_CHANGE_H
#define STORE_CHANGE_H

#include "store/root.h"
#include "store/source.h"

struct store_attempt;
struct store_change;
void store_change_free(struct store_change *change); /* aborts, unlocks */
BASE_AUTO_DEFINE(store_change);

/* @reserve_bytes: what it will write, checked against budget and free space
 * now.  @attempt: NULL: published at once.  Errors: BASE_EXISTS (lock),
 * BASE_DENIED (the store has an owner), BASE_LIMIT (budget: with the numbers),
 * BASE_NO_SPACE, BASE_CHANGED (the attempt's number is not above all given) */
enum base_code store_change_begin(struct store_root *root,
                                  const char *job,
                                  uint64_t reserve_bytes,
                                  const struct store_attempt *attempt,
                                  struct store_change **ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* *ret_fd is borrowed, open for reading and writing until the change ends. */
enum base_code store_change_blob(struct store_change *change,
                                 uint64_t n_bytes,
                                 struct ptc_blob_name *ret_name,
                                 int *ret_fd,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Give up the store's lock while blobs are written; all were made before, so
 * that their room is taken.  Then the change holds its staging/ATTEMPT/lock, and
 * whoever takes the store's lock leaves it alone.  Publishing and replacing take
 * that again (BASE_EXISTS when they wait too long), after all is synced. */
enum base_code store_change_unlock(struct store_change *change,
                                   struct base_err *err) BASE_MUST_CHECK;

/* Publish, or vote.  What fails behind the version's rename is survived:
 * store_root_on_warning.  (A vote's is an error: it can be asked for again.)
 *
 * @manifest's head.version is set here.  Blobs that it names and this change
 * did not make must be in the store. */
enum base_code store_change_publish(struct store_change *change,
                                    struct ptc_manifest_new *manifest,
                                    uint64_t *ret_number,
                                    struct base_err *err) BASE_MUST_CHECK;

/* Name a file that is there already, @path relative to the root, as a blob: a
 * second link to it, made when the change is published (its mode becomes 0400,
 * it is synced).  @fd is that file, open until the change ends: what else has
 * the path by then is refused (BASE_CHANGED). */
enum base_code store_change_adopt(struct store_change *change,
                                  const char *path,
                                  int fd,
                                  struct ptc_blob_name *ret_name,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Replace the manifest of the published version @number by another of the same
 * content: other blobs, or more digests.  Readers of the old one keep it: it
 * stays as versions/NUMBER/manifest.K, which names its blobs as used until
 * nobody has that file locked (then the sweep removes it).
 * Errors: BASE_NOT_FOUND  it was released meanwhile
 *         BASE_CHANGED    its manifest is no longer the one with digest @old */
enum base_code store_change_replace(struct store_change *change,
                                    struct ptc_manifest_new *manifest,
                                    uint64_t number,
                                    struct base_digest old,
                                    struct base_err *err) BASE_MUST_CHECK;

/* The ways to make a version here.
 *
 * Import copies a source once, into blobs that are the files of its own
 * layout (replicas share one), digesting on the way.  Rescale and rollback
 * copy nothing: the new manifest names the old one's blobs.
 *
 * @attempt: NULL, or number 0: the version is published at once.  Else there is
 * a vote for it when the call returns, and *ret_number is the attempt's. */
struct store_import_options {
    unsigned n_threads;
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void *progress_ctx;
};
enum base_code store_import(struct store_root *root,
                            const char *job,
                            const struct store_source *source,
                            const struct store_import_options *options,
                            const struct store_attempt *attempt,
                            uint64_t *ret_number,
                            struct base_err *err) BASE_MUST_CHECK;
/* @to is taken on success.  @dropped (may be NULL) is told, once the version is
 * there, each rank's object that it has not: "ranks/003/rng.pt".
 * Errors: those of ptc_layout_create; objects whose coordinates change as
 * their rules say. */
enum base_code store_rescale(struct store_root *root,
                             const char *job,
                             uint64_t number, /* 0: the current one */
                             struct ptc_spec **to,
                             void (*dropped)(void *ctx, const char *path),
                             void *ctx,
                             const struct store_attempt *attempt,
                             uint64_t *ret_number,
                             struct base_err *err) BASE_MUST_CHECK;
/* The same of a version that is open as @source, which stays the caller's. */
enum base_code store_rescale_source(struct store_root *root,
                                    const char *job,
                                    const struct store_source *source,
                                    struct ptc_spec **to,
                                    void (*dropped)(void *ctx,
                                                    const char *path),
                                    void *ctx,
                                    const struct store_attempt *attempt,
                                    uint64_t *ret_number,
                                    struct base_err *err) BASE_MUST_CHECK;
enum base_code store_rollback(struct store_root *root,
                              const char *job,
                              uint64_t number,
                              const struct store_attempt *attempt,
                              uint64_t *ret_number,
                              struct base_err *err) BASE_MUST_CHECK;

/* Version @number (0: the current one) of @from_job, another job of the store,
 * as the next one of @job.  No byte is copied. */
enum base_code store_copy_version(struct store_root *root,
                                  const char *job,
                                  const char *from_job,
                                  uint64_t number,
                                  const struct store_attempt *attempt,
                                  uint64_t *ret_number,
                                  struct base_err *err) BASE_MUST_CHECK;

/* A version as a source, for export, mount and verify: the second backend of
 * store/source.h.  @version is taken on success. */
enum base_code store_source_open_version(const struct store_root *root,
                                         struct store_version **version,
                                         struct store_source **ret,
                                         struct base_err *err) BASE_MUST_CHECK;

/* The version that @source was opened from; NULL: from a directory. */
const struct store_version *
store_source_version(const struct store_source *source);

#endif
