/* Import: a source's bytes, copied once into blobs.
 *
 * The blobs are the files that the source's own layout shows, of those ranks
 * that are the lowest holder of something in them; what other ranks have is
 * a copy of these.  Each file is covered by regions: its header, and each
 * tensor.  Objects are blobs of their own. */
#include "base/io.h"
#include "base/num.h"
#include "base/parallel.h"
#include "store/copy.h"
#include "store/digest.h"
#include "store/draft.h"
#include "store/source_priv.h"

enum { COPY_BYTES = 1 << 20, MAX_THREADS = 8 };

struct import {
    const struct store_source *source;
    const struct ptc_layout *layout; /* the source's, or own_layout */
    struct ptc_layout *own_layout;
    struct ptc_pieces *pieces;
    const struct store_import_options *options;
    BASE_VEC(struct ptc_file *) files; /* of the first blobs */
    BASE_VEC(struct store_copy_file) targets;
    struct store_draft draft; /* blobs of files, then of objects */
    BASE_VEC(int) fds;        /* of these; borrowed of the change */
    uint64_t all_bytes;       /* of all blobs */
    uint64_t step, samples;
    ptc_rank rank;          /* while pieces are collected */
    struct ptc_piece piece; /* of the part looked at; of `tensor` */
    uint32_t tensor;
    bool file_counts; /* this rank is the lowest holder of something in it */
    uint64_t digested_bytes; /* atomic */
};

static void import_done(struct import *import)
{
    for (size_t i = 0; i < import->files.n; i++) {
        ptc_file_free(import->files.items[i]);
    }
    base_vec_done(&import->files);
    base_vec_done(&import->targets);
    store_draft_done(&import->draft);
    base_vec_done(&import->fds);
    ptc_pieces_free(import->pieces);
    ptc_layout_free(import->own_layout);
}

#define AUTO_IMPORT __attribute__((cleanup(import_done))) struct import

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate an import");
}

/* --- which files, and the pieces in them -------------------------------- */

/* A sharded source has no layout: it becomes that of `hf`. */
static enum base_code find_layout(struct import *import, struct base_err *err)
{
    BASE_AUTO(ptc_spec) whole = NULL;

    import->layout = store_source_layout(import->source);
    if (import->layout != NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_whole(&whole, err));
    BASE_TRY(ptc_layout_create(&whole, store_source_table(import->source),
                               &import->own_layout, err));
    import->layout = import->own_layout;
    return BASE_OK;
}

static enum base_code
on_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct import *import = ctx;
    const struct ptc_table *table = ptc_layout_table(import->layout);
    struct ptc_piece piece = import->piece;

    if (ptc_cell_holder(import->layout, cell, 0) != import->rank) {
        return BASE_OK;
    }
    piece.blob = (uint32_t)import->files.n; /* what the file becomes */
    import->file_counts = true;
    ptc_piece_cut(&piece, ptc_table_tensor(table, import->tensor), &cell->box);
    return ptc_pieces_add(import->pieces, import->tensor, &piece, err);
}

static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct import *import = ctx;
    const struct ptc_table *table = ptc_layout_table(import->layout);

    if (ptc_table_tensor(table, tensor)->tie != PTC_NONE) {
        return BASE_OK; /* its target's bytes count */
    }
    import->piece = *piece;
    import->tensor = tensor;
    return ptc_layout_find(import->layout, tensor, &piece->box, on_cell, import,
                           err);
}

/* What will be reserved. */
static enum base_code
add_bytes(struct import *import, uint64_t n_bytes, struct base_err *err)
{
    if (!base_add_u64(import->all_bytes, n_bytes, &import->all_bytes) ||
        import->all_bytes > INT64_MAX) {
        return base_fail(err, BASE_LIMIT, "blobs: 2^63 bytes or more");
    }
    return BASE_OK;
}

/* One file of a rank, if the rank is the lowest holder of anything in it. */
static enum base_code take_file(struct import *import,
                                ptc_rank rank,
                                struct base_str group,
                                struct base_err *err)
{
    BASE_AUTO(ptc_file) file = NULL;

    BASE_TRY(ptc_file_create_rank(import->layout, rank, group, &file, err));
    if (file == NULL) {
        return BASE_OK;
    }
    import->rank = rank;
    import->file_counts = false;
    for (uint32_t i = 0; i < ptc_file_n_entries(file); i++) {
        BASE_TRY(ptc_file_pieces(file, i, on_piece, import, err));
    }
    if (!import->file_counts) {
        return BASE_OK;
    }
    BASE_TRY(add_bytes(import, ptc_file_n_bytes(file), err));
    if (!base_vec_push(&import->files, file)) {
        return no_mem(err);
    }
    (void)base_steal(&file);
    return BASE_OK;
}

static enum base_code list_files(struct import *import, struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(import->layout);

    import->pieces = ptc_pieces_create(table);
    if (import->pieces == NULL) {
        return no_mem(err);
    }
    for (ptc_rank rank = 0; rank < ptc_layout_n_ranks(import->layout); rank++) {
        for (uint32_t g = 0; g < ptc_table_n_groups(table); g++) {
            BASE_TRY(take_file(import, rank, ptc_table_group(table, g), err));
        }
    }
    BASE_TRY(ptc_pieces_seal(import->pieces, err));
    BASE_TRY(ptc_pieces_check(import->pieces, err));
    for (uint32_t i = 0; i < store_source_n_objects(import->source); i++) {
        uint32_t blob = store_source_object_at(import->source, i)->blob;

        BASE_TRY(add_bytes(
            import, store_source_blob(import->source, blob)->n_bytes, err));
    }
    return BASE_OK;
}

/* --- copying ------------------------------------------------------------ */

static enum base_code add_blob(struct import *import,
                               struct store_change *change,
                               uint64_t n_bytes,
                               int *ret_fd,
                               struct base_err *err)
{
    struct ptc_blob_name name;

    BASE_TRY(store_change_blob(change, n_bytes, &name, ret_fd, err));
    BASE_TRY(store_draft_add_blob(&import->draft, &name, n_bytes, err));
    return base_vec_push(&import->fds, *ret_fd) ? BASE_OK : no_mem(err);
}

/* A blob for a file, with its header; data come later. */
static enum base_code make_file(struct import *import,
                                struct store_change *change,
                                const struct ptc_file *file,
                                struct base_err *err)
{
    struct store_copy_file target = {.file = file, .label = "a new blob"};
    struct base_str header = ptc_file_header(file);

    BASE_TRY(add_blob(import, change, ptc_file_n_bytes(file), &target.fd, err));
    BASE_TRY(base_io_pwrite(target.fd, header.ptr, header.len, 0, target.label,
                            err));
    BASE_TRY(store_draft_add_region(&import->draft, PTC_NONE, 0, header.len,
                                    true, err));
    for (uint32_t i = 0; i < ptc_file_n_entries(file); i++) {
        const struct ptc_file_entry *entry = ptc_file_entry(file, i);

        if (entry->n_bytes > 0) {
            BASE_TRY(store_draft_add_region(&import->draft, entry->shown.tensor,
                                            entry->offset, entry->n_bytes, true,
                                            err));
        }
    }
    return base_vec_push(&import->targets, target) ? BASE_OK : no_mem(err);
}

static enum base_code copy_object(struct import *import,
                                  struct store_change *change,
                                  const struct store_object *object,
                                  struct base_err *err)
{
    const struct store_blob *from =
        store_source_blob(import->source, object->blob);
    BASE_AUTO_MEM char *buf = malloc(COPY_BYTES);
    int fd = -1;

    if (buf == NULL) {
        return no_mem(err);
    }
    BASE_TRY(add_blob(import, change, from->n_bytes, &fd, err));
    for (uint64_t at = 0; at < from->n_bytes;) {
        size_t n = (size_t)base_min_u64(COPY_BYTES, from->n_bytes - at);

        BASE_TRY(base_io_pread(from->fd, buf, n, at, from->label, err));
        BASE_TRY(base_io_pwrite(fd, buf, n, at, "a new blob", err));
        at += n;
    }
    return store_draft_add_object(&import->draft, object->name, object->rank,
                                  true, err);
}

static bool on_copied(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    const struct import *import = ctx;

    return import->options->progress == NULL ||
           import->options->progress(import->options->progress_ctx, done_bytes,
                                     all_bytes + import->all_bytes);
}

static enum base_code copy_all(struct import *import,
                               struct store_change *change,
                               struct base_err *err)
{
    struct store_copy_options copy = {.n_threads = import->options->n_threads,
                                      .progress = on_copied,
                                      .progress_ctx = import};

    for (size_t i = 0; i < import->files.n; i++) {
        BASE_TRY(make_file(import, change, import->files.items[i], err));
    }
    for (uint32_t i = 0; i < store_source_n_objects(import->source); i++) {
        BASE_TRY(copy_object(import, change,
                             store_source_object_at(import->source, i), err));
    }
    BASE_TRY(store_copy(import->source, store_source_pieces(import->source),
                        import->targets.items, (uint32_t)import->targets.n,
                        &copy, err));
    for (uint32_t i = 0; i < store_source_n_blobs(import->source); i++) {
        BASE_TRY(store_blob_check(store_source_blob(import->source, i), err));
    }
    return BASE_OK;
}

/* --- digests ------------------------------------------------------------ */

static enum base_code
digest_one(void *ctx, size_t item, unsigned thread, struct base_err *err)
{
    struct import *import = ctx;
    struct store_draft *draft = &import->draft;
    struct ptc_manifest_region *region = &draft->regions.items[item];
    uint64_t done;

    BASE_TRY(store_digest_range(import->fds.items[region->blob], region->offset,
                                region->n_bytes, "a new blob",
                                draft->chunks + region->first_chunk,
                                &region->digest, err));
    done = __atomic_add_fetch(&import->digested_bytes, region->n_bytes,
                              __ATOMIC_RELAXED);
    if (thread == 0 &&
        !on_copied(import, import->all_bytes + done, import->all_bytes)) {
        return base_fail(err, BASE_INTERRUPTED, "interrupted");
    }
    return BASE_OK;
}

static enum base_code digest_all(struct import *import, struct base_err *err)
{
    unsigned n_threads = import->options->n_threads;

    if (n_threads == 0) {
        n_threads = (unsigned)base_min_u64(base_n_cpus(), MAX_THREADS);
    }
    BASE_TRY(store_draft_make_chunks(&import->draft, err));
    return base_parallel(n_threads, import->draft.regions.n, digest_one, import,
                         err);
}

static enum base_code publish(struct import *import,
                              struct store_change *change,
                              uint64_t *ret_number,
                              struct base_err *err)
{
    struct ptc_manifest_head head = {.step = import->step,
                                     .samples = import->samples,
                                     .origin = BASE_STR("import")};

    return store_draft_publish(&import->draft, change, import->layout,
                               import->pieces, &head, ret_number, err);
}

enum base_code store_import(struct store_root *root,
                            const char *job,
                            const struct store_source *source,
                            const struct store_import_options *options,
                            uint64_t *ret_number,
                            struct base_err *err)
{
    AUTO_IMPORT import = {.source = source, .options = options};
    BASE_AUTO(store_change) change = NULL;

    BASE_TRY(find_layout(&import, err));
    BASE_TRY(list_files(&import, err));
    BASE_TRY(store_read_position(source, &import.step, &import.samples, err));
    BASE_TRY(store_change_begin(root, job, import.all_bytes, &change, err));
    BASE_TRY(copy_all(&import, change, err));
    BASE_TRY(digest_all(&import, err));
    return publish(&import, change, ret_number, err);
}
