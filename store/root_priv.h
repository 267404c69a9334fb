/* What root*.c, version.c, sweep.c and check.c share. */
#ifndef STORE_ROOT_PRIV_H
#define STORE_ROOT_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/file.h"
#include "store/root.h"

#define STORE_MAX_ENTRIES ((size_t)1 << 24) /* of any directory of a store */
/* What an identity's text may have at most. */
enum { STORE_ID_MAX_BYTES = 256 };
/* The most that a table's text may have. */
#define STORE_TABLE_MAX_BYTES ((size_t)1 << 32)

/* What a directory has, freed with the scope. */
struct store_listing {
    char **names;
    size_t n;
};

static inline void store_listing_done(struct store_listing *listing)
{
    base_names_free(listing->names, listing->n);
}

#define STORE_AUTO_LISTING                                                     \
    __attribute__((cleanup(store_listing_done))) struct store_listing

/* Entries of @path, relative to the root. */
enum base_code store_list(const struct store_root *root,
                          const char *path,
                          struct store_listing *ret,
                          struct base_err *err) BASE_MUST_CHECK;

/* flock(@fd, @operation), waiting at most @wait_ns.
 * Errors: BASE_EXISTS (another has it; no text), BASE_IO */
enum base_code store_flock(int fd,
                           int operation,
                           int64_t wait_ns,
                           const char *label,
                           struct base_err *err) BASE_MUST_CHECK;

/* Is @fd still what @path, relative to the root, leads to?  Errors: BASE_IO */
enum base_code store_same_file(const struct store_root *root,
                               const char *path,
                               int fd,
                               bool *ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* How long a change waits for the lock. */
#define STORE_LOCK_WAIT_NS ((int64_t)10 * 1000000000)

bool store_root_is_locked(const struct store_root *root);  /* by us */
uint64_t store_root_budget(const struct store_root *root); /* 0: none */
/* Is the file that we locked still ROOT/lock?  When somebody has removed it,
 * another program may have locked a new one: then no more may be changed.
 * Errors: BASE_CHANGED */
enum base_code store_root_keep_lock(const struct store_root *root,
                                    struct base_err *err) BASE_MUST_CHECK;
/* Bring the rename that has published something in @folder to disk; a failure is
 * a warning.  @point is passed before. */
void store_root_sync_shown(const struct store_root *root,
                           const char *folder,
                           enum base_fault_point point);
/* Take @fd, of a file that was unlinked, and close it once the lock is given up:
 * that frees its bytes, which takes 0.15 s a GiB on tmpfs.  With the lock held. */
void store_root_close_later(struct store_root *root, int fd);
/* Close them now: their room is needed. */
void store_root_close_unlinked(struct store_root *root);
/* Does a program hold the lock at this moment?  Errors: BASE_IO */
enum base_code store_root_is_busy(const struct store_root *root,
                                  bool *ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Take flock on ROOT/owner; *ret_fd is given.  Errors: BASE_EXISTS */
enum base_code store_owner_take(const struct store_root *root,
                                int *ret_fd,
                                struct base_err *err) BASE_MUST_CHECK;
/* Has the store an owner now?  Errors: BASE_DENIED (it has) */
enum base_code store_owner_check(const struct store_root *root,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Does a process hold the file `lock` in @path, a directory in staging/? */
enum base_code store_staging_is_held(const struct store_root *root,
                                     const char *path,
                                     bool *ret,
                                     struct base_err *err) BASE_MUST_CHECK;
/* The staging of a job's saves (store/save.h): is @name, in staging/, one?
 * Remove the one at @path ("staging/save.JOB") when nobody holds it. */
bool store_staging_is_one(const char *name);
enum base_code store_staging_clear(const struct store_root *root,
                                   const char *path,
                                   struct base_err *err) BASE_MUST_CHECK;

/* A job's name is a file's name that does not begin with '.'.
 * Errors: BASE_BAD_ARG */
enum base_code store_job_check(const char *job,
                               struct base_err *err) BASE_MUST_CHECK;
/* Decimal, from 1, without leading zeros. */
bool store_number_parse(const char *text, uint64_t *ret);

/* "jobs/JOB/versions/NUMBER" + @file, given; NULL when memory is short. */
char *store_version_path(const char *job, uint64_t number, const char *file);
/* BASE_NOT_FOUND: says which versions there are. */
enum base_code store_version_missing(const struct store_root *root,
                                     const char *job,
                                     uint64_t number,
                                     struct base_err *err) BASE_MUST_CHECK;

/* A version without its table (store_version_table is NULL): for those that
 * look at many. */
enum base_code
store_version_open_manifest(const struct store_root *root,
                            const char *job,
                            uint64_t number,
                            struct store_version **ret,
                            struct base_err *err) BASE_MUST_CHECK;
/* The same by the manifest that was replaced and is versions/NUMBER/manifest.K
 * since.  Errors: also BASE_NOT_FOUND */
enum base_code
store_version_open_replaced(const struct store_root *root,
                            const char *job,
                            uint64_t number,
                            uint64_t k,
                            struct store_version **ret,
                            struct base_err *err) BASE_MUST_CHECK;
/* Is @name that of such a manifest?  "manifest.3" */
bool store_replaced_parse(const char *name, uint64_t *ret);
/* The table in tables/DIGEST.  Errors: BASE_NOT_FOUND, BASE_MISMATCH (its bytes
 * have another digest), BASE_BAD_INPUT */
enum base_code store_table_read(const struct store_root *root,
                                struct base_digest digest,
                                struct ptc_table **ret,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
