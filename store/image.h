/* An image: the stretches of some files that hold a slab's pieces, and where
 * each stretch lies in a buffer.  Within a stretch everything is where it is in
 * the file, so a piece keeps its strides.
 *
 * Pieces that interleave in a file (segments of a column cut, say) make one
 * stretch, which is read or written at once.  A stretch with bytes between that
 * are nobody's is `sparse`: it must be read or written run by run.
 *
 * Use: reset, collect for each tensor, settle; then read, find.
 * Owner: one thread. */
#ifndef STORE_IMAGE_H
#define STORE_IMAGE_H

#include <stdbool.h>

#include "ptc/pieces.h"
#include "ptc/table.h"
#include "store/source.h"

/* A piece, cut to the slab. */
struct store_image_part {
    uint32_t tensor; /* a root */
    struct ptc_piece piece;
    uint64_t begin; /* in the file */
    uint64_t end;
};

struct store_stretch {
    uint32_t blob;
    uint64_t begin; /* in the file */
    uint64_t end;
    uint64_t at; /* in the buffer, when all are kept in one */
    uint32_t first_part;
    uint32_t n_parts;
    bool is_sparse;
};

struct store_image {
    const struct ptc_table *table;
    BASE_VEC(struct store_image_part) parts;  /* by blob, then begin */
    BASE_VEC(struct store_stretch) stretches; /* by blob, then begin */
    uint64_t n_bytes;   /* of all stretches: what the buffer must hold */
    uint64_t max_bytes; /* of the longest */
};

void store_image_done(struct store_image *image);
void store_image_reset(struct store_image *image,
                       const struct ptc_table *table);
/* Add the pieces of @tensor that meet @box. */
enum base_code store_image_collect(struct store_image *image,
                                   const struct ptc_pieces *pieces,
                                   uint32_t tensor,
                                   const struct ptc_box *box,
                                   struct base_err *err) BASE_MUST_CHECK;
/* Make stretches, none longer than @limit where they can be parted. */
enum base_code store_image_settle(struct store_image *image,
                                  uint64_t limit,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Read a stretch to @buffer (its own beginning, not the image's). */
enum base_code store_image_read(const struct store_image *image,
                                const struct store_stretch *stretch,
                                const struct store_source *source,
                                unsigned char *buffer,
                                struct base_err *err) BASE_MUST_CHECK;
/* The stretch that has byte @offset of @blob; NULL when none has. */
const struct store_stretch *store_image_find(const struct store_image *image,
                                             uint32_t blob,
                                             uint64_t offset);

#endif
