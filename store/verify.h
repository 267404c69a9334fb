/* Bytes of an open version, compared with the digests in its manifest before
 * they are given away (`-o verify=read`).
 *
 * Each chunk is digested once, when it is first touched, and found good as long
 * as the version stays open; one that is bad is digested again at each touch.
 * What damages memory afterwards is not found here: scrub does.
 *
 * Bytes that have no digest yet (a save's, until upkeep is done) pass; that there
 * were such is remembered.  Any thread. */
#ifndef STORE_VERIFY_H
#define STORE_VERIFY_H

#include "ptc/view.h"
#include "store/change.h"

/* Borrows @source, which was opened from a version. */
struct store_verify;
void store_verify_free(struct store_verify *verify);
BASE_AUTO_DEFINE(store_verify);
enum base_code store_verify_create(const struct store_source *source,
                                   struct store_verify **ret,
                                   struct base_err *err) BASE_MUST_CHECK;

/* Bytes [offset, offset + n_bytes) of blob @blob.
 * Errors: BASE_MISMATCH  they are not what was saved: version, tensor, blob
 *         those of store_digest_range */
enum base_code store_verify_range(struct store_verify *verify,
                                  uint32_t blob,
                                  uint64_t offset,
                                  uint64_t n_bytes,
                                  struct base_err *err) BASE_MUST_CHECK;
/* The same for what a reader of @view gets. */
enum base_code store_verify_view(struct store_verify *verify,
                                 const struct ptc_view *view,
                                 uint64_t offset,
                                 uint64_t n_bytes,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Did bytes without a digest pass since this was last asked?  True once. */
bool store_verify_take_undigested(struct store_verify *verify);

#endif
