/* A stretch of a target file is written at once: straight out of the source's
 * bytes where these are in the same order, as iovecs where runs are long, else
 * put together in scratch. */
#include "store/copy.h"

#include <stdlib.h>

#include "base/io.h"
#include "store/pairs.h"

struct copy {
    const struct store_copy_file *files;
    uint32_t n_files;
    struct ptc_pieces *target; /* pieces of all files; blob: index of files */
    const struct ptc_table *table;
    uint32_t file; /* whose pieces are being added */
};

/* Where one run goes, when runs are written one by one. */
struct run_write {
    const struct store_copy_file *file;
    const unsigned char *from;
    uint64_t file_at;
};

static enum base_code on_run(void *ctx,
                             uint64_t a_at,
                             uint64_t b_at,
                             uint64_t n_bytes,
                             struct base_err *err)
{
    const struct run_write *write = ctx;

    return base_io_pwrite(write->file->fd, write->from + a_at, n_bytes,
                          write->file_at + b_at, write->file->label, err);
}

/* Bytes between that are not ours must not be touched. */
static enum base_code write_sparse(const struct store_copy_file *file,
                                   const struct store_pairs *pairs,
                                   struct base_err *err)
{
    for (size_t i = 0; i < pairs->n; i++) {
        const struct store_pair *pair = &pairs->items[i];
        struct run_write write = {file, pairs->have + pair->have_at,
                                  pairs->stretch->begin + pair->want_at};

        BASE_TRY(store_strided_runs(&pair->runs, on_run, &write, err));
    }
    return BASE_OK;
}

/* Are all bytes of the stretch in the buffer in their order, without gap? */
static bool is_direct(const struct store_pairs *pairs)
{
    uint64_t delta = pairs->items[0].have_at - pairs->items[0].want_at;

    for (size_t i = 0; i < pairs->n; i++) {
        if (!pairs->items[i].runs.is_same ||
            pairs->items[i].have_at - pairs->items[i].want_at != delta) {
            return false;
        }
    }
    return true;
}

static enum base_code
write_stretch(void *ctx, const struct store_pairs *pairs, struct base_err *err)
{
    const struct copy *copy = ctx;
    const struct store_stretch *s = pairs->stretch;
    const struct store_copy_file *file = &copy->files[s->blob];
    const unsigned char *bytes = pairs->scratch;
    uint64_t due = s->end - s->begin;

    if (s->is_sparse) {
        return write_sparse(file, pairs, err);
    }
    if (pairs->n_bytes != due) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: the source has not all bytes of it", file->label);
    }
    if (is_direct(pairs)) {
        bytes =
            pairs->have + (pairs->items[0].have_at - pairs->items[0].want_at);
    } else {
        for (size_t i = 0; i < pairs->n; i++) {
            const struct store_pair *pair = &pairs->items[i];

            store_strided_copy(&pair->runs, pairs->have + pair->have_at,
                               pairs->scratch + pair->want_at);
        }
    }
    return base_io_pwrite(file->fd, bytes, due, s->begin, file->label, err);
}

static enum base_code on_target_piece(void *ctx,
                                      uint32_t tensor,
                                      const struct ptc_piece *piece,
                                      struct base_err *err)
{
    const struct copy *copy = ctx;
    struct ptc_piece own = *piece;

    own.blob = copy->file;
    return ptc_pieces_add(copy->target, ptc_table_root(copy->table, tensor),
                          &own, err);
}

static enum base_code collect_targets(struct copy *copy, struct base_err *err)
{
    for (copy->file = 0; copy->file < copy->n_files; copy->file++) {
        const struct ptc_file *file = copy->files[copy->file].file;

        for (uint32_t i = 0; i < ptc_file_n_entries(file); i++) {
            BASE_TRY(ptc_file_pieces(file, i, on_target_piece, copy, err));
        }
    }
    return ptc_pieces_seal(copy->target, err);
}

/* Was any file written to while it was copied? */
static enum base_code check_blobs(const struct store_source *source,
                                  struct base_err *err)
{
    for (uint32_t i = 0; i < store_source_n_blobs(source); i++) {
        BASE_TRY(store_blob_check(store_source_blob(source, i), err));
    }
    return BASE_OK;
}

enum base_code store_copy(const struct store_source *source,
                          const struct ptc_pieces *pieces,
                          const struct store_copy_file *files,
                          uint32_t n_files,
                          const struct store_copy_options *options,
                          struct base_err *err)
{
    BASE_AUTO(ptc_pieces) target = NULL;
    struct copy copy = {.files = files, .n_files = n_files};
    struct store_pairs_job job = {.have = source,
                                  .have_pieces = pieces,
                                  .options = options,
                                  .is_convert = true,
                                  .fn = write_stretch,
                                  .ctx = &copy};

    if (n_files == 0) {
        return check_blobs(source, err);
    }
    copy.table = ptc_layout_table(ptc_file_layout(files[0].file));
    target = ptc_pieces_create(copy.table);
    if (target == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a copy");
    }
    copy.target = target;
    BASE_TRY(collect_targets(&copy, err));
    job.want_pieces = target;
    job.want_table = copy.table;
    BASE_TRY(store_pairs_run(&job, err));
    return check_blobs(source, err);
}
