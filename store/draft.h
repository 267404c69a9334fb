/* A draft: a manifest while its version is being made.  Blobs, the regions that
 * cover them, objects; then it is published over a layout and pieces.
 *
 * Owner: one thread. */
#ifndef STORE_DRAFT_H
#define STORE_DRAFT_H

#include "ptc/layout.h"
#include "ptc/manifest.h"
#include "store/change.h"

struct store_draft {
    BASE_VEC(struct ptc_manifest_blob) blobs;
    BASE_VEC(struct ptc_manifest_region) regions;
    BASE_VEC(struct ptc_manifest_object) objects; /* by name, then rank */
    struct base_digest *chunks;                   /* of all regions */
    uint64_t n_chunks;
};

void store_draft_done(struct store_draft *draft);
#define STORE_AUTO_DRAFT                                                       \
    __attribute__((cleanup(store_draft_done))) struct store_draft

enum base_code store_draft_add_blob(struct store_draft *draft,
                                    const struct ptc_blob_name *name,
                                    uint64_t n_bytes,
                                    struct base_err *err) BASE_MUST_CHECK;
/* A range of the blob that was added last. */
enum base_code store_draft_add_region(struct store_draft *draft,
                                      uint32_t tensor,
                                      uint64_t offset,
                                      uint64_t n_bytes,
                                      bool is_digested,
                                      struct base_err *err) BASE_MUST_CHECK;
/* The blob that was added last, whole, as a region and an object.  @name lives
 * as long as the draft. */
enum base_code store_draft_add_object(struct store_draft *draft,
                                      struct base_str name,
                                      ptc_rank rank,
                                      bool is_digested,
                                      struct base_err *err) BASE_MUST_CHECK;
/* Room for the digests of all regions, zeros; no region comes after that. */
enum base_code store_draft_make_chunks(struct store_draft *draft,
                                       struct base_err *err) BASE_MUST_CHECK;

/* What @source's retile.json says: UINT64_MAX where it, or the file, says
 * nothing.  Errors: BASE_BAD_INPUT, BASE_LIMIT (its size) */
enum base_code store_read_position(const struct store_source *source,
                                   uint64_t *ret_step,
                                   uint64_t *ret_samples,
                                   struct base_err *err) BASE_MUST_CHECK;

/* The manifest, but for its head; objects are put into order.  Borrows all. */
struct ptc_manifest_new store_draft_manifest(struct store_draft *draft,
                                             const struct ptc_table *table,
                                             const struct ptc_pieces *pieces);

/* Publish: @head's origin, step, samples and parent count, the rest of it is
 * filled in here.  Objects are put into order. */
enum base_code store_draft_publish(struct store_draft *draft,
                                   struct store_change *change,
                                   const struct ptc_layout *layout,
                                   const struct ptc_pieces *pieces,
                                   const struct ptc_manifest_head *head,
                                   uint64_t *ret_number,
                                   struct base_err *err) BASE_MUST_CHECK;

#endif
