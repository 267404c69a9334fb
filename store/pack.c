#include "store/pack.h"

#include "base/io.h"
#include "base/num.h"
#include "store/digest.h"
#include "store/source_priv.h"

enum { COPY_BYTES = 1 << 20 };

void store_pack_done(struct store_pack *pack)
{
    for (size_t i = 0; i < pack->files.n; i++) {
        ptc_file_free(pack->files.items[i]);
    }
    base_vec_done(&pack->files);
    base_vec_done(&pack->targets);
    store_draft_done(&pack->draft);
    base_vec_done(&pack->fds);
    ptc_pieces_free(pack->pieces);
    ptc_layout_free(pack->own_layout);
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate new blobs");
}

/* --- which files, and the pieces in them -------------------------------- */

/* A sharded source has no layout: it becomes that of `hf`. */
static enum base_code find_layout(struct store_pack *pack, struct base_err *err)
{
    BASE_AUTO(ptc_spec) whole = NULL;

    pack->layout = store_source_layout(pack->source);
    if (pack->layout != NULL) {
        return BASE_OK;
    }
    BASE_TRY(ptc_spec_whole(&whole, err));
    BASE_TRY(ptc_layout_create(&whole, store_source_table(pack->source),
                               &pack->own_layout, err));
    pack->layout = pack->own_layout;
    return BASE_OK;
}

/* A rank's file, while its pieces are collected. */
struct taking {
    struct store_pack *pack;
    ptc_rank rank;
    struct ptc_piece piece; /* of the part looked at; of `tensor` */
    uint32_t tensor;
    bool counts; /* this rank is the lowest holder of something in it */
};

static enum base_code
on_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct taking *taking = ctx;
    struct store_pack *pack = taking->pack;
    const struct ptc_table *table = ptc_layout_table(pack->layout);
    struct ptc_piece piece = taking->piece;

    if (ptc_cell_holder(pack->layout, cell, 0) != taking->rank) {
        return BASE_OK;
    }
    piece.blob = (uint32_t)pack->files.n; /* what the file becomes */
    taking->counts = true;
    ptc_piece_cut(&piece, ptc_table_tensor(table, taking->tensor), &cell->box);
    return ptc_pieces_add(pack->pieces, taking->tensor, &piece, err);
}

static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct taking *taking = ctx;
    const struct store_pack *pack = taking->pack;
    const struct ptc_table *table = ptc_layout_table(pack->layout);

    if (ptc_table_tensor(table, tensor)->tie != PTC_NONE) {
        return BASE_OK; /* its target's bytes count */
    }
    taking->piece = *piece;
    taking->tensor = tensor;
    return ptc_layout_find(pack->layout, tensor, &piece->box, on_cell, taking,
                           err);
}

/* What will be reserved. */
static enum base_code
add_bytes(uint64_t *sum, uint64_t n_bytes, struct base_err *err)
{
    if (!base_add_u64(*sum, n_bytes, sum) || *sum > INT64_MAX / 4) {
        return base_fail(err, BASE_LIMIT, "blobs: 2^61 bytes or more");
    }
    return BASE_OK;
}

/* One file of a rank, if the rank is the lowest holder of anything in it. */
static enum base_code take_file(struct store_pack *pack,
                                ptc_rank rank,
                                struct base_str group,
                                struct base_err *err)
{
    struct taking taking = {.pack = pack, .rank = rank};
    BASE_AUTO(ptc_file) file = NULL;

    BASE_TRY(ptc_file_create_rank(pack->layout, rank, group, &file, err));
    if (file == NULL) {
        return BASE_OK;
    }
    for (uint32_t i = 0; i < ptc_file_n_entries(file); i++) {
        BASE_TRY(ptc_file_pieces(file, i, on_piece, &taking, err));
    }
    if (!taking.counts) {
        return BASE_OK;
    }
    BASE_TRY(add_bytes(&pack->file_bytes, ptc_file_n_bytes(file), err));
    if (!base_vec_push(&pack->files, file)) {
        return no_mem(err);
    }
    (void)base_steal(&file);
    return BASE_OK;
}

static enum base_code list_files(struct store_pack *pack, struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(pack->layout);

    pack->pieces = ptc_pieces_create(table);
    if (pack->pieces == NULL) {
        return no_mem(err);
    }
    for (ptc_rank rank = 0; rank < ptc_layout_n_ranks(pack->layout); rank++) {
        for (uint32_t g = 0; g < ptc_table_n_groups(table); g++) {
            BASE_TRY(take_file(pack, rank, ptc_table_group(table, g), err));
        }
    }
    BASE_TRY(ptc_pieces_seal(pack->pieces, err));
    BASE_TRY(ptc_pieces_check(pack->pieces, err));
    for (uint32_t i = 0; i < store_source_n_objects(pack->source); i++) {
        uint32_t blob = store_source_object_at(pack->source, i)->blob;

        BASE_TRY(add_bytes(&pack->object_bytes,
                           store_source_blob(pack->source, blob)->n_bytes,
                           err));
    }
    return BASE_OK;
}

enum base_code store_pack_plan(struct store_pack *pack,
                               const struct store_source *source,
                               struct base_err *err)
{
    pack->source = source;
    BASE_TRY(find_layout(pack, err));
    return list_files(pack, err);
}

/* --- copying ------------------------------------------------------------ */

static enum base_code add_blob(struct store_pack *pack,
                               struct store_change *change,
                               uint64_t n_bytes,
                               int *ret_fd,
                               struct base_err *err)
{
    struct ptc_blob_name name;

    BASE_TRY(store_change_blob(change, n_bytes, &name, ret_fd, err));
    BASE_TRY(store_draft_add_blob(&pack->draft, &name, n_bytes, err));
    return base_vec_push(&pack->fds, *ret_fd) ? BASE_OK : no_mem(err);
}

/* A blob for a file, with its header; data come later. */
static enum base_code make_file(struct store_pack *pack,
                                struct store_change *change,
                                const struct ptc_file *file,
                                struct base_err *err)
{
    struct store_copy_file target = {.file = file, .label = "a new blob"};
    struct base_str header = ptc_file_header(file);

    BASE_TRY(add_blob(pack, change, ptc_file_n_bytes(file), &target.fd, err));
    BASE_TRY(base_io_pwrite(target.fd, header.ptr, header.len, 0, target.label,
                            err));
    BASE_TRY(store_draft_add_region(&pack->draft, PTC_NONE, 0, header.len,
                                    false, err));
    for (uint32_t i = 0; i < ptc_file_n_entries(file); i++) {
        const struct ptc_file_entry *entry = ptc_file_entry(file, i);

        if (entry->n_bytes > 0) {
            BASE_TRY(store_draft_add_region(&pack->draft, entry->shown.tensor,
                                            entry->offset, entry->n_bytes,
                                            false, err));
        }
    }
    return base_vec_push(&pack->targets, target) ? BASE_OK : no_mem(err);
}

static enum base_code make_object(struct store_pack *pack,
                                  struct store_change *change,
                                  const struct store_object *object,
                                  struct base_err *err)
{
    int fd = -1;

    BASE_TRY(add_blob(pack, change,
                      store_source_blob(pack->source, object->blob)->n_bytes,
                      &fd, err));
    return store_draft_add_object(&pack->draft, object->name, object->rank,
                                  false, err);
}

/* Their blobs come behind those of the files. */
static enum base_code
copy_object(const struct store_pack *pack, uint32_t idx, struct base_err *err)
{
    const struct store_blob *from = store_source_blob(
        pack->source, store_source_object_at(pack->source, idx)->blob);
    int fd = pack->fds.items[pack->files.n + idx];
    BASE_AUTO_MEM char *buf = malloc(COPY_BYTES);

    if (buf == NULL) {
        return no_mem(err);
    }
    for (uint64_t at = 0; at < from->n_bytes;) {
        size_t n = (size_t)base_min_u64(COPY_BYTES, from->n_bytes - at);

        BASE_TRY(base_io_pread(from->fd, buf, n, at, from->label, err));
        BASE_TRY(base_io_pwrite(fd, buf, n, at, "a new blob", err));
        at += n;
    }
    return BASE_OK;
}

/* The blobs of a version's objects, as they are: several ranks may have one. */
static enum base_code keep_objects(struct store_pack *pack,
                                   const struct ptc_manifest *manifest,
                                   struct base_err *err)
{
    struct store_draft *draft = &pack->draft;
    uint32_t n = ptc_manifest_n_blobs(manifest);
    BASE_AUTO_MEM uint32_t *kept = calloc((size_t)n + 1, sizeof(*kept));

    if (kept == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(manifest, i);
        struct ptc_manifest_region region =
            ptc_manifest_region(manifest, object.region);
        struct ptc_manifest_blob blob =
            ptc_manifest_blob(manifest, region.blob);

        if (kept[region.blob] == 0) {
            BASE_TRY(
                store_draft_add_blob(draft, &blob.name, blob.n_bytes, err));
            if (!base_vec_push(
                    &pack->fds,
                    store_source_blob(pack->source, region.blob)->fd)) {
                return no_mem(err);
            }
            BASE_TRY(store_draft_add_region(draft, PTC_NONE, 0, blob.n_bytes,
                                            false, err));
            kept[region.blob] = (uint32_t)draft->regions.n;
        }
        object.region = kept[region.blob] - 1;
        if (!base_vec_push(&draft->objects, object)) {
            return no_mem(err);
        }
    }
    return BASE_OK;
}

bool store_pack_progress(const struct store_pack *pack, uint64_t done_bytes)
{
    return pack->options->progress == NULL ||
           pack->options->progress(pack->options->progress_ctx,
                                   pack->begin_bytes + done_bytes,
                                   pack->all_bytes);
}

static bool on_copied(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    (void)all_bytes;
    return store_pack_progress(ctx, done_bytes);
}

enum base_code store_pack_make(struct store_pack *pack,
                               struct store_change *change,
                               const struct ptc_manifest *keep,
                               struct base_err *err)
{
    for (size_t i = 0; i < pack->files.n; i++) {
        BASE_TRY(make_file(pack, change, pack->files.items[i], err));
    }
    if (keep != NULL) {
        return keep_objects(pack, keep, err);
    }
    pack->copies_objects = true;
    for (uint32_t i = 0; i < store_source_n_objects(pack->source); i++) {
        BASE_TRY(make_object(pack, change,
                             store_source_object_at(pack->source, i), err));
    }
    return BASE_OK;
}

static enum base_code copy_all(struct store_pack *pack, struct base_err *err)
{
    const struct store_source *source = pack->source;
    struct store_copy_options copy = {.n_threads = pack->options->n_threads,
                                      .progress = on_copied,
                                      .progress_ctx = pack};

    for (uint32_t i = 0;
         pack->copies_objects && i < store_source_n_objects(source); i++) {
        BASE_TRY(copy_object(pack, i, err));
    }
    BASE_TRY(store_copy(source, store_source_pieces(source),
                        pack->targets.items, (uint32_t)pack->targets.n, &copy,
                        err));
    for (uint32_t i = 0; i < store_source_n_blobs(source); i++) {
        BASE_TRY(store_blob_check(store_source_blob(source, i), err));
    }
    return BASE_OK;
}

enum base_code store_pack_write(struct store_pack *pack, struct base_err *err)
{
    struct store_digest_options digest = {
        .n_threads = pack->options->n_threads,
        .progress = pack->options->progress,
        .progress_ctx = pack->options->progress_ctx,
        .begin_bytes = pack->begin_bytes + pack->file_bytes,
        .all_bytes = pack->all_bytes};

    BASE_TRY(copy_all(pack, err));
    BASE_TRY(store_draft_make_chunks(&pack->draft, err));
    return store_digest_regions(pack->fds.items, pack->draft.regions.items,
                                (uint32_t)pack->draft.regions.n,
                                pack->draft.chunks, &digest, err);
}
