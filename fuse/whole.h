/* Whole files: a shown file that is one blob of the store, byte for byte, as
 * imports, saves and compaction make them.  The kernel can then read that blob
 * itself (fuse/passthrough.h).
 *
 * What several ranks have is read from the lowest one's blob.  So a rank's file
 * counts as whole, too, when all but a small part of it lies in one blob at its
 * own offsets, and that blob's bytes are equal in the rest. */
#ifndef FUSE_WHOLE_H
#define FUSE_WHOLE_H

#include "fuse/tree.h"

struct ptc_view;

/* The blob with exactly the bytes of @node, a FS_FILE that @view is of; NULL:
 * none (also of a mounted directory, whose files may change, and of a version
 * that is verified).  Compares the
 * header and what lies in other blobs; the cost is at most that of reading
 * 1/32 of the file, but no more than 64 MiB, twice. */
const struct store_blob *fs_whole_blob(const struct fs_node *node,
                                       const struct ptc_view *view);

#endif
