/* A manifest made from another one: its blobs, regions, digests and objects in
 * arrays of one's own, the rest borrowed from it. */
#ifndef STORE_DERIVE_H
#define STORE_DERIVE_H

#include "ptc/manifest.h"
#include "store/root.h"

struct store_derived {
    const struct ptc_manifest *from;
    struct ptc_manifest_blob *blobs;
    struct ptc_manifest_region *regions;
    struct base_digest *chunks;
    struct ptc_manifest_object *objects;
    struct ptc_manifest_new manifest; /* of these arrays */
};

void store_derived_done(struct store_derived *derived);

#define STORE_AUTO_DERIVED                                                     \
    __attribute__((cleanup(store_derived_done))) struct store_derived

/* All of @from, a manifest over table @old, but objects and pieces, as one over
 * @table, which has all its tensors by name.  *ret is empty. */
enum base_code store_derive(struct store_derived *ret,
                            const struct ptc_manifest *from,
                            const struct ptc_table *old,
                            const struct ptc_table *table,
                            struct base_err *err) BASE_MUST_CHECK;
/* And every object. */
enum base_code store_derive_objects(struct store_derived *derived,
                                    struct base_err *err) BASE_MUST_CHECK;
/* Digests that other versions of @job have of the same ranges of the same
 * blobs, for regions that have none: after a rescale, versions share them. */
enum base_code store_derive_digests(struct store_derived *derived,
                                    const struct store_root *root,
                                    const char *job,
                                    struct base_err *err) BASE_MUST_CHECK;

#endif
