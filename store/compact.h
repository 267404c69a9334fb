/* Upkeep of published versions, in the background: neither changes what a
 * version contains, both replace its manifest (store_change_replace).
 *
 * Digesting fills in the chunks of regions that a save left undigested.
 *
 * Compaction writes a version's bytes into new blobs, the files of its own
 * layout as an import writes them, when its pieces have become small or its
 * blobs hold mostly what no version needs; old blobs are swept when no reader
 * is left. */
#ifndef STORE_COMPACT_H
#define STORE_COMPACT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/change.h"

/* What compaction would do for a version.  Where versions cut one range of a
 * blob differently, what the one that has most of it has counts as named. */
struct store_worth {
    uint64_t n_bytes;       /* of the version: what would be copied */
    uint64_t n_dead_bytes;  /* of its blobs, named by no piece of any version */
    uint64_t n_freed_bytes; /* what a sweep would free afterwards */
    uint64_t run_bytes; /* mean length of what its rank files are gathered of */
    bool is_compact;    /* it is as compaction would make it: nothing to gain */
    bool is_due; /* by the rule: not compact; dead > 1/2 of its blobs, or runs
                    < 4 KiB; and the budget has room for n_bytes */
};
enum base_code store_compact_worth(const struct store_root *root,
                                   const char *job,
                                   uint64_t number,
                                   struct store_worth *ret,
                                   struct base_err *err) BASE_MUST_CHECK;

/* Both take the store's lock for the replacing, compaction also to reserve room.
 * @options' progress may end them: BASE_INTERRUPTED, nothing has changed.
 *
 * Compaction compares all that is digested with its digests before it copies
 * (BASE_MISMATCH: blob and tensor are named), so that damage does not get new
 * digests; it does nothing where a version is compact.  Blobs of objects stay.
 * @number 0: the current version.
 * Errors: also BASE_EXISTS (lock), BASE_LIMIT (budget), BASE_NO_SPACE */
enum base_code store_compact(struct store_root *root,
                             const char *job,
                             uint64_t number,
                             const struct store_import_options *options,
                             struct base_err *err) BASE_MUST_CHECK;
/* Digests that another version of the job has of the same bytes are taken.
 * *ret_bytes: of what is digested now, 0 when there was nothing to do. */
enum base_code store_digest_version(struct store_root *root,
                                    const char *job,
                                    uint64_t number,
                                    const struct store_import_options *options,
                                    uint64_t *ret_bytes,
                                    struct base_err *err) BASE_MUST_CHECK;

#endif
