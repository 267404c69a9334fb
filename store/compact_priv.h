/* What store/compact.c and store/worth.c share. */
#ifndef STORE_COMPACT_PRIV_H
#define STORE_COMPACT_PRIV_H

#include "store/compact.h"
#include "store/pack.h"

/* Is the version that @pack was planned for, with its @manifest, as the pack
 * would write it? */
enum base_code store_pack_is_compact(const struct store_pack *pack,
                                     const struct ptc_manifest *manifest,
                                     bool *ret,
                                     struct base_err *err) BASE_MUST_CHECK;

/* How many blobs have objects. */
enum base_code store_count_object_blobs(const struct ptc_manifest *manifest,
                                        uint32_t *ret,
                                        struct base_err *err) BASE_MUST_CHECK;

#endif
