/* A change's parts: for store/change*.c only. */
#ifndef STORE_CHANGE_PRIV_H
#define STORE_CHANGE_PRIV_H

#include <sys/stat.h>

#include "store/change.h"
#include "store/vote.h"

struct store_made {
    struct ptc_blob_name name;
    int fd;           /* borrowed, of one that was adopted */
    char *adopted;    /* a file's own path, which it keeps; else NULL */
    struct stat stat; /* of one that was adopted */
    bool is_placed;   /* in blobs/, no longer in staging */
};

struct store_change {
    struct store_root *root;
    char *job;
    struct store_attempt attempt;
    char *staging; /* "staging/ATTEMPT", or "staging/vote.JOB.NUMBER" */
    BASE_VEC(struct store_made) blobs;
    int own_fd; /* while it works without the store's lock: its own; else -1 */
    bool is_locked;
    bool has_staging;
    bool is_published; /* or voted for: its blobs stay */
};

enum base_code store_change_no_mem(struct base_err *err) BASE_MUST_CHECK;
/* "staging/ATTEMPT/HEX" of a blob, given. */
char *store_change_staged(const struct store_change *change,
                          const struct ptc_blob_name *name);

/* The number of the version to be; raises nothing.
 * Errors: BASE_CHANGED (the attempt's is not above all that were given) */
enum base_code store_change_number(const struct store_change *change,
                                   uint64_t *ret,
                                   struct base_err *err) BASE_MUST_CHECK;
/* All but the vote is there: cast it.  @manifest is that of the version, with
 * @digest. */
enum base_code store_change_vote(struct store_change *change,
                                 const struct ptc_manifest_new *manifest,
                                 struct base_digest digest,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Seal and sync the blobs; then, with the lock, which is taken again if it was
 * given up, put them into blobs/ under their names. */
enum base_code store_change_seal(struct store_change *change,
                                 struct base_err *err) BASE_MUST_CHECK;
enum base_code store_change_relock(struct store_change *change,
                                   struct base_err *err) BASE_MUST_CHECK;
enum base_code store_change_place(struct store_change *change,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Was anything adopted written to since?  Errors: BASE_CHANGED */
enum base_code store_change_check_adopted(const struct store_change *change,
                                          struct base_err *err) BASE_MUST_CHECK;
/* They are blobs now; a crash before this leaves another mode, no more. */
void store_change_seal_adopted(const struct store_change *change);

/* Write a file in staging and sync it. */
enum base_code store_change_write(const struct store_change *change,
                                  const char *path,
                                  struct base_str bytes,
                                  struct base_err *err) BASE_MUST_CHECK;

#endif
