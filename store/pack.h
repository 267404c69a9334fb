/* A source's tensors as new blobs: the files of its own layout, of those ranks
 * that are the lowest holder of something in them; what other ranks have is a
 * copy of these.  Each file is covered by regions: its header, and each tensor.
 * Objects are blobs of their own.
 *
 * Import and compaction are made of this.  Owner: one thread. */
#ifndef STORE_PACK_H
#define STORE_PACK_H

#include "store/change.h"
#include "store/copy.h"
#include "store/draft.h"

struct store_pack {
    const struct store_source *source; /* borrowed */
    const struct ptc_layout *layout;   /* the source's, or own_layout */
    struct ptc_layout *own_layout;
    struct ptc_pieces *pieces;         /* in the files, file i as blob i */
    BASE_VEC(struct ptc_file *) files; /* of the first blobs */
    BASE_VEC(struct store_copy_file) targets;
    struct store_draft draft; /* blobs of files, then of objects */
    BASE_VEC(int) fds;        /* of these; borrowed of change and source */
    uint64_t file_bytes;      /* of all files */
    uint64_t object_bytes;    /* of all objects */
    bool copies_objects;      /* else they are the source's blobs */

    /* What is being done, for progress. */
    const struct store_import_options *options;
    uint64_t begin_bytes; /* done before, counted in... */
    uint64_t all_bytes;   /* ...what will have been done */
};

void store_pack_done(struct store_pack *pack);
#define STORE_AUTO_PACK                                                        \
    __attribute__((cleanup(store_pack_done))) struct store_pack

/* Which files there will be, and the pieces in them.  *pack is empty. */
enum base_code store_pack_plan(struct store_pack *pack,
                               const struct store_source *source,
                               struct base_err *err) BASE_MUST_CHECK;

/* Tell the progress that @done_bytes more than begin_bytes are done; false: it
 * wants an end. */
bool store_pack_progress(const struct store_pack *pack, uint64_t done_bytes);

/* Make the blobs in @change, with their room; then pack->draft has them.
 * @keep: NULL, and objects are copied, too; or the manifest of @source, a
 * version, whose blobs of objects stay. */
enum base_code store_pack_make(struct store_pack *pack,
                               struct store_change *change,
                               const struct ptc_manifest *keep,
                               struct base_err *err) BASE_MUST_CHECK;
/* Copy and digest.  Progress counts each byte of the files twice. */
enum base_code store_pack_write(struct store_pack *pack,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
