#include "store/image.h"

#include <stdlib.h>

#include "base/io.h"
#include "base/num.h"
#include "store/strided.h"

void store_image_done(struct store_image *image)
{
    base_vec_done(&image->parts);
    base_vec_done(&image->stretches);
}

void store_image_reset(struct store_image *image, const struct ptc_table *table)
{
    image->table = table;
    image->parts.n = 0;
    image->stretches.n = 0;
    image->n_bytes = 0;
    image->max_bytes = 0;
}

static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct store_image *image = ctx;
    uint32_t root = ptc_table_root(image->table, tensor);
    struct store_image_part part = {
        .tensor = root, .piece = *piece, .begin = piece->offset};
    uint64_t n_bytes;

    part.end = part.begin +
               store_strided_extent(ptc_table_tensor(image->table, root)->dtype,
                                    &piece->box, piece->stride, &n_bytes);
    if (!base_vec_push(&image->parts, part)) {
        return base_fail(err, BASE_NO_MEM, "no memory for a slab's pieces");
    }
    return BASE_OK;
}

enum base_code store_image_collect(struct store_image *image,
                                   const struct ptc_pieces *pieces,
                                   uint32_t tensor,
                                   const struct ptc_box *box,
                                   struct base_err *err)
{
    return ptc_pieces_find(pieces, tensor, box, on_piece, image, err);
}

static int part_cmp(const void *va, const void *vb)
{
    const struct store_image_part *a = va;
    const struct store_image_part *b = vb;

    if (a->piece.blob != b->piece.blob) {
        return a->piece.blob < b->piece.blob ? -1 : 1;
    }
    if (a->begin != b->begin) {
        return a->begin < b->begin ? -1 : 1;
    }
    return (a->end > b->end) - (a->end < b->end);
}

static uint64_t part_bytes(const struct store_image *image,
                           const struct store_image_part *part)
{
    uint64_t n_bytes;

    (void)store_strided_extent(
        ptc_table_tensor(image->table, part->tensor)->dtype, &part->piece.box,
        part->piece.stride, &n_bytes); /* only the count is wanted */
    return n_bytes;
}

/* Does @part continue @stretch?  It must where they interleave, and it may
 * where they touch, as long as the two are not too long. */
static bool continues(const struct store_stretch *stretch,
                      const struct store_image_part *part,
                      uint64_t limit)
{
    if (part->piece.blob != stretch->blob || part->begin > stretch->end) {
        return false;
    }
    return part->begin < stretch->end || part->end - stretch->begin <= limit;
}

enum base_code store_image_settle(struct store_image *image,
                                  uint64_t limit,
                                  struct base_err *err)
{
    size_t i = 0;

    if (image->parts.n > 1) {
        qsort(image->parts.items, image->parts.n, sizeof(*image->parts.items),
              part_cmp);
    }
    while (i < image->parts.n) {
        const struct store_image_part *part = &image->parts.items[i];
        struct store_stretch stretch = {.blob = part->piece.blob,
                                        .begin = part->begin,
                                        .end = part->end,
                                        .at = image->n_bytes,
                                        .first_part = (uint32_t)i};
        uint64_t n_bytes = 0;

        for (; i < image->parts.n &&
               continues(&stretch, &image->parts.items[i], limit);
             i++) {
            part = &image->parts.items[i];
            stretch.end = base_max_u64(stretch.end, part->end);
            stretch.n_parts++;
            n_bytes += part_bytes(image, part);
        }
        /* Pieces of one file do not overlap: a byte fewer than the length is
         * a byte that no piece has. */
        stretch.is_sparse = n_bytes != stretch.end - stretch.begin;
        image->n_bytes += stretch.end - stretch.begin;
        image->max_bytes =
            base_max_u64(image->max_bytes, stretch.end - stretch.begin);
        if (!base_vec_push(&image->stretches, stretch)) {
            return base_fail(err, BASE_NO_MEM, "no memory for a slab");
        }
    }
    return BASE_OK;
}

struct run_read {
    const struct store_blob *blob;
    uint64_t file_at; /* of the part */
    unsigned char *buffer;
};

static enum base_code on_run(void *ctx,
                             uint64_t a_at,
                             uint64_t b_at,
                             uint64_t n_bytes,
                             struct base_err *err)
{
    const struct run_read *read = ctx;

    (void)b_at; /* the same as a_at */
    return base_io_pread(read->blob->fd, read->buffer + a_at, n_bytes,
                         read->file_at + a_at, read->blob->label, err);
}

enum base_code store_image_read(const struct store_image *image,
                                const struct store_stretch *stretch,
                                const struct store_source *source,
                                unsigned char *buffer,
                                struct base_err *err)
{
    const struct store_blob *blob = store_source_blob(source, stretch->blob);

    if (!stretch->is_sparse) {
        return base_io_pread(blob->fd, buffer, stretch->end - stretch->begin,
                             stretch->begin, blob->label, err);
    }
    for (uint32_t i = 0; i < stretch->n_parts; i++) {
        const struct store_image_part *part =
            &image->parts.items[stretch->first_part + i];
        struct run_read read = {blob, part->begin,
                                buffer + (part->begin - stretch->begin)};
        struct store_strided runs;

        BASE_TRY(store_strided_plan(
            ptc_table_tensor(image->table, part->tensor)->dtype,
            &part->piece.box, part->piece.stride, part->piece.stride, &runs,
            err));
        BASE_TRY(store_strided_runs(&runs, on_run, &read, err));
    }
    return BASE_OK;
}

const struct store_stretch *store_image_find(const struct store_image *image,
                                             uint32_t blob,
                                             uint64_t offset)
{
    size_t low = 0, high = image->stretches.n;
    const struct store_stretch *hit;

    while (low < high) { /* the first that begins after */
        size_t middle = low + (high - low) / 2;
        const struct store_stretch *s = &image->stretches.items[middle];

        if (s->blob < blob || (s->blob == blob && s->begin <= offset)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return NULL;
    }
    hit = &image->stretches.items[low - 1];
    return hit->blob == blob && offset < hit->end ? hit : NULL;
}
