/* A host's store: a directory, on tmpfs or on a disk.
 *
 *   ROOT/id                        "retile store 1\n", a random identity, the
 *                                  budget
 *   ROOT/lock                      flock: who holds it may change the store
 *   ROOT/owner                     flock: the agent that the store belongs to,
 *                                  for its life; absent before the first
 *   ROOT/blobs/ab/abcdef...        bytes, random names; immutable once named by
 *                                  a manifest: never written, only unlinked
 *   ROOT/tables/DIGEST             tables, in their text form
 *   ROOT/jobs/JOB/versions/7/manifest
 *   ROOT/jobs/JOB/versions/7/manifest.2
 *                                  an earlier manifest of the same content that
 *                                  was replaced (store/compact.h)
 *   ROOT/jobs/JOB/versions/7/lock  readers hold it shared (flock) while they
 *                                  use the version
 *   ROOT/jobs/JOB/versions/7/pin   present: not swept, and says why
 *   ROOT/jobs/JOB/last             the highest number ever given (decimal)
 *   ROOT/staging/ATTEMPT/          what an unfinished change has made; removed
 *                                  by whoever takes the lock next, unless its
 *                                  own lock is held (store_change_unlock)
 *   ROOT/staging/vote.JOB.7/       a change that waits for a coordinator's
 *                                  answer (store/vote.h)
 *   ROOT/staging/save.JOB/         saves being written (store/save.h); removed
 *                                  when nobody holds its lock
 *
 * Numbers are never reused.  The current version is the highest published
 * one.  Publishing is one rename, of staging/ATTEMPT/version to its place.
 *
 * A program takes the lock per change, with a deadline; readers need none.
 * Invariants: a published manifest's blobs exist and are whole; a blob that no
 * manifest names may be removed by the sweep under the lock; a version
 * directory is removed only when its lock can be had alone.  Readers hold the
 * manifest that they use shared, too: one that was replaced, and the blobs that
 * it alone names, are removed only when it can be had alone. */
#ifndef STORE_ROOT_H
#define STORE_ROOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "ptc/manifest.h"

struct store_root;
void store_root_free(struct store_root *root); /* gives up the lock, too */
BASE_AUTO_DEFINE(store_root);

/* Make a store in @path, which must not exist or be empty.
 * @budget_bytes: most that blobs and staging may take; 0: what the file system has. */
enum base_code store_root_init(const char *path,
                               uint64_t budget_bytes,
                               struct base_err *err) BASE_MUST_CHECK;
/* Errors: BASE_NOT_FOUND, BASE_BAD_INPUT (no store, or of a later format) */
enum base_code store_root_open(const char *path,
                               struct store_root **ret,
                               struct base_err *err) BASE_MUST_CHECK;

const char *store_root_path(const struct store_root *root);
const char *store_root_id(const struct store_root *root); /* 32 hex digits */
int store_root_fd(const struct store_root *root);

/* Take the lock for a change, waiting at most @wait_ns; then remove what dead
 * changes left in staging/.
 * Errors: BASE_EXISTS  still held; names the pid
 *         BASE_DENIED  at once: the store belongs to an agent, which is asked
 *                      instead (names its pid) */
enum base_code store_root_lock(struct store_root *root,
                               int64_t wait_ns,
                               struct base_err *err) BASE_MUST_CHECK;
/* What a sweep has unlinked under the lock is closed here, which takes a while
 * where it was much. */
void store_root_unlock(struct store_root *root);
/* Before that: take those files' descriptors, to close them elsewhere.  *ret_fds
 * is given; NULL: there are none, or no memory (unlocking then closes them). */
void store_root_take_unlinked(struct store_root *root,
                              int **ret_fds,
                              size_t *ret_n);

/* Call @fn with what went wrong and was survived: what was published is there,
 * whatever process dies, but its directory could not be synced, so that it may
 * not outlive a loss of power.  From the thread that changes the store. */
void store_root_on_warning(struct store_root *root,
                           void (*fn)(void *ctx, const char *text),
                           void *ctx);

/* Own the store as long as @root lives: others' changes are refused, reading is
 * not.  Errors: BASE_EXISTS (another process owns it; names the pid) */
enum base_code store_root_own(struct store_root *root,
                              struct base_err *err) BASE_MUST_CHECK;
/* @root is the owner's, too: a mount or a mover that the agent has started. */
void store_root_serve_owner(struct store_root *root);

/* Bytes of all blobs and of all that is in staging/, and the most they may be. */
enum base_code store_root_usage(const struct store_root *root,
                                uint64_t *ret_used,
                                uint64_t *ret_budget,
                                struct base_err *err) BASE_MUST_CHECK;

/* Those of staging/ that are no blob's. */
enum base_code store_root_staged(const struct store_root *root,
                                 uint64_t *ret_bytes,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Jobs, sorted (given, free with base_names_free), and a job's published
 * versions, ascending (given, free with free()).
 * Errors: BASE_NOT_FOUND (no such job; names what there is) */
enum base_code store_root_jobs(const struct store_root *root,
                               char ***ret_names,
                               size_t *ret_n,
                               struct base_err *err) BASE_MUST_CHECK;
enum base_code store_root_versions(const struct store_root *root,
                                   const char *job,
                                   uint64_t **ret,
                                   size_t *ret_n,
                                   struct base_err *err) BASE_MUST_CHECK;

/* An open version: its manifest mapped, its table read, its lock held shared.
 * @number 0: the current one.  Errors: BASE_NOT_FOUND (names what there is),
 * BASE_BAD_INPUT, BASE_MISMATCH */
struct store_version;
void store_version_free(struct store_version *version);
BASE_AUTO_DEFINE(store_version);
enum base_code store_version_open(const struct store_root *root,
                                  const char *job,
                                  uint64_t number,
                                  struct store_version **ret,
                                  struct base_err *err) BASE_MUST_CHECK;
const struct ptc_manifest *
store_version_manifest(const struct store_version *v);
const struct ptc_table *store_version_table(const struct store_version *v);
/* Its lock's descriptor, borrowed: who has a copy of it holds the version. */
int store_version_lock_fd(const struct store_version *v);
const char *store_version_label(const struct store_version *v); /* "JOB@7" */

/* Has its manifest been replaced since it was opened?  What is open stays as
 * it is; who opens it anew finds the same bytes elsewhere, or more digests, and
 * lets the old blobs go. */
bool store_version_is_replaced(const struct store_root *root,
                               const struct store_version *version);

/* Pins and release.  Need the lock.  A released version is unpublished at once
 * (its directory renamed away) when no reader holds it and it is not pinned,
 * else BASE_EXISTS; the current version is not released (BASE_BAD_ARG). */
enum base_code store_version_pin(struct store_root *root,
                                 const char *job,
                                 uint64_t number,
                                 const char *why, /* NULL: unpin */
                                 struct base_err *err) BASE_MUST_CHECK;
/* Why it is pinned; given, free it; NULL when it is not.  Needs no lock. */
enum base_code store_version_pin_why(const struct store_root *root,
                                     const char *job,
                                     uint64_t number,
                                     char **ret_why,
                                     struct base_err *err) BASE_MUST_CHECK;
enum base_code store_version_release(struct store_root *root,
                                     const char *job,
                                     uint64_t number,
                                     struct base_err *err) BASE_MUST_CHECK;

/* Remove @job: all its versions, pinned ones and the current one too, and its
 * numbers.  Needs the lock.  Not existing is BASE_OK.  Its blobs go with the next
 * sweep.
 * Errors: BASE_EXISTS  a version is in use, or waits for an answer: some of them
 *                      may be gone then; call again */
enum base_code store_job_remove(struct store_root *root,
                                const char *job,
                                struct base_err *err) BASE_MUST_CHECK;

/* Remove blobs and tables that no manifest names.  Needs the lock. */
struct store_sweep {
    uint64_t n_blobs;
    uint64_t n_bytes; /* freed */
};
enum base_code store_sweep(struct store_root *root,
                           struct store_sweep *ret,
                           struct base_err *err) BASE_MUST_CHECK;

/* Check.  fsck reads manifests, tables and blobs' sizes; scrub also every byte
 * against its digest.  Each finding is told once, as a line; *ret_n counts
 * them.  Needs no lock: versions are held shared while they are looked at. */
typedef void (*store_finding_fn)(void *ctx, const char *text);
enum base_code store_check(struct store_root *root,
                           bool is_scrub,
                           unsigned n_threads,
                           bool (*progress)(void *ctx,
                                            uint64_t done_bytes,
                                            uint64_t all_bytes),
                           store_finding_fn tell,
                           void *ctx,
                           uint64_t *ret_n,
                           struct base_err *err) BASE_MUST_CHECK;

#endif
