/* Files of PyTorch DCP's safetensors writer: each says where its part of each
 * tensor begins; a global shape is the greatest end.  Coverage is checked. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/dcp.h"
#include "ptc/pieces.h"
#include "store/directory.h"

#define DCP_KEY "DCP_SHARDING_INFO"

/* A part of a tensor, in one file. */
struct shard {
    const struct ptc_st_entry *entry;
    const struct store_dir_file *file;
    uint64_t offset[PTC_MAX_DIMS];
};

struct sharded {
    struct store_dir *dir;
    BASE_VEC(struct shard) shards; /* by name, box, file */
};

static enum base_code no_mem(const struct store_dir *dir, struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "%s: no memory for its tensors",
                     dir->source->path);
}

/* The group of "shard-00003-model-00001-of-00002": "model". */
static struct base_str group_of(struct base_str stem)
{
    struct base_str prefix = BASE_STR("shard-");
    uint64_t idx, n;
    size_t at = prefix.len;

    (void)store_dir_split_shard(stem, &stem, &idx, &n);
    if (!base_str_starts(stem, prefix)) {
        return stem;
    }
    while (at < stem.len && stem.ptr[at] >= '0' && stem.ptr[at] <= '9') {
        at++;
    }
    if (at == prefix.len || at + 1 >= stem.len || stem.ptr[at] != '-') {
        return stem;
    }
    return (struct base_str){stem.ptr + at + 1, stem.len - at - 1};
}

static enum base_code add_shard(struct sharded *s,
                                const struct store_dir_file *file,
                                const struct ptc_st_entry *entry,
                                const struct ptc_dcp_info *info,
                                struct base_err *err)
{
    const char *label = store_dir_label(s->dir, file);
    struct shard shard = {.entry = entry, .file = file};
    const struct ptc_dcp_entry *at;

    if (info != NULL) { /* a file without it has whole tensors */
        at = ptc_dcp_info_find(info, entry->name);
        if (at == NULL) {
            return base_fail(err, BASE_MISMATCH,
                             "%s: tensor %.*s is not in " DCP_KEY, label,
                             BASE_STR_FMT(entry->name));
        }
        if (at->n_dims != entry->n_dims) {
            return base_fail(
                err, BASE_MISMATCH,
                "%s: tensor %.*s has %u dimensions, " DCP_KEY " says %u", label,
                BASE_STR_FMT(entry->name), entry->n_dims, at->n_dims);
        }
        memcpy(shard.offset, at->offset, sizeof(shard.offset));
    }
    if (!base_vec_push(&s->shards, shard)) {
        return no_mem(s->dir, err);
    }
    return BASE_OK;
}

static enum base_code read_file(struct sharded *s,
                                const struct store_dir_file *file,
                                bool is_shard,
                                struct base_err *err)
{
    struct base_str text = ptc_st_meta(file->header, DCP_KEY);
    BASE_AUTO(ptc_dcp_info) info = NULL;

    if (text.ptr == NULL && is_shard) {
        return base_fail(err, BASE_MISMATCH, "%s: lacks " DCP_KEY,
                         store_dir_label(s->dir, file));
    }
    if (text.ptr != NULL) {
        BASE_TRY(ptc_dcp_info_parse(text, store_dir_label(s->dir, file), &info,
                                    err));
    }
    for (uint32_t i = 0; i < file->header->n_entries; i++) {
        BASE_TRY(add_shard(s, file, &file->header->entries[i], info, err));
    }
    return BASE_OK;
}

static int u64s_cmp(const uint64_t *a, const uint64_t *b, uint32_t n)
{
    for (uint32_t d = 0; d < n; d++) {
        if (a[d] != b[d]) {
            return a[d] < b[d] ? -1 : 1;
        }
    }
    return 0;
}

/* In order of dimensions, offset, shape. */
static int box_cmp(const struct shard *a, const struct shard *b)
{
    uint32_t n = a->entry->n_dims;
    int order;

    if (n != b->entry->n_dims) {
        return n < b->entry->n_dims ? -1 : 1;
    }
    order = u64s_cmp(a->offset, b->offset, n);
    return order != 0 ? order : u64s_cmp(a->entry->shape, b->entry->shape, n);
}

static int shard_cmp(const void *va, const void *vb)
{
    const struct shard *a = va;
    const struct shard *b = vb;
    int order = base_str_cmp(a->entry->name, b->entry->name);

    if (order == 0) {
        order = box_cmp(a, b);
    }
    return order != 0 ? order
                      : (a->file->blob > b->file->blob) -
                            (a->file->blob < b->file->blob);
}

static enum base_code shards_agree(const struct sharded *s,
                                   const struct shard *a,
                                   const struct shard *b,
                                   struct base_err *err)
{
    const char *what = NULL;

    if (a->entry->dtype != b->entry->dtype) {
        what = "dtype";
    } else if (a->entry->n_dims != b->entry->n_dims) {
        what = "number of dimensions";
    } else if (!base_str_eq(a->file->group, b->file->group)) {
        what = "group";
    }
    if (what == NULL) {
        return BASE_OK;
    }
    return base_fail(
        err, BASE_MISMATCH, "tensor %.*s: %s and %s disagree in its %s",
        BASE_STR_FMT(a->entry->name), store_dir_label(s->dir, a->file),
        store_dir_label(s->dir, b->file), what);
}

/* Add the tensor whose shards are @shards to the table. */
static enum base_code add_tensor(const struct sharded *s,
                                 const struct shard *shards,
                                 size_t n,
                                 struct ptc_table_builder *builder,
                                 struct base_err *err)
{
    uint64_t shape[PTC_MAX_DIMS] = {0};
    uint32_t n_dims = shards[0].entry->n_dims;

    for (size_t i = 0; i < n; i++) {
        BASE_TRY(shards_agree(s, &shards[0], &shards[i], err));
        for (uint32_t d = 0; d < n_dims; d++) {
            uint64_t end;

            if (!base_add_u64(shards[i].offset[d], shards[i].entry->shape[d],
                              &end)) {
                return base_fail(err, BASE_LIMIT,
                                 "%s: tensor %.*s: dimension %u overflows",
                                 store_dir_label(s->dir, shards[i].file),
                                 BASE_STR_FMT(shards[i].entry->name), d);
            }
            shape[d] = base_max_u64(shape[d], end);
        }
    }
    return ptc_table_add(builder, shards[0].entry->name, shards[0].file->group,
                         shards[0].entry->dtype, n_dims, shape, err);
}

static enum base_code make_table(const struct sharded *s, struct base_err *err)
{
    struct store_source *source = s->dir->source;
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    const struct shard *shards = s->shards.items;
    enum base_code code;

    if (builder == NULL) {
        return no_mem(s->dir, err);
    }
    for (size_t i = 0, n; i < s->shards.n; i += n) {
        for (n = 1;
             i + n < s->shards.n &&
             base_str_eq(shards[i].entry->name, shards[i + n].entry->name);
             n++) {
        }
        BASE_TRY(add_tensor(s, &shards[i], n, builder, err));
    }
    BASE_TRY(store_dir_add_objects(s->dir, builder, err));
    code = ptc_table_finish(builder, &source->table, err);
    return code == BASE_OK ? code : base_wrap(err, code, "%s", source->path);
}

static struct ptc_piece piece_of(const struct shard *shard)
{
    const struct ptc_st_entry *entry = shard->entry;
    unsigned bits = ptc_dtype_bits(entry->dtype);
    uint64_t step = bits % 8 == 0 ? bits / 8 : bits;
    struct ptc_piece piece = {.box.n_dims = entry->n_dims,
                              .blob = shard->file->blob,
                              .offset = shard->file->header->data_offset +
                                        entry->begin};

    for (uint32_t d = entry->n_dims; d > 0; d--) {
        piece.box.begin[d - 1] = shard->offset[d - 1];
        piece.box.end[d - 1] = shard->offset[d - 1] + entry->shape[d - 1];
        piece.stride[d - 1] = step;
        step *= entry->shape[d - 1]; /* a file's tensor: no overflow */
    }
    return piece;
}

/* An equal box of an earlier file: this one is its replica. */
static bool is_replica(const struct sharded *s, size_t i)
{
    const struct shard *shard = &s->shards.items[i];

    return i > 0 && base_str_eq(shard[-1].entry->name, shard->entry->name) &&
           box_cmp(&shard[-1], shard) == 0;
}

static enum base_code make_pieces(const struct sharded *s, struct base_err *err)
{
    struct store_source *source = s->dir->source;
    enum base_code code;

    source->pieces = ptc_pieces_create(source->table);
    source->replicas = ptc_pieces_create(source->table);
    if (source->pieces == NULL || source->replicas == NULL) {
        return no_mem(s->dir, err);
    }
    for (size_t i = 0; i < s->shards.n; i++) {
        struct ptc_piece piece = piece_of(&s->shards.items[i]);

        BASE_TRY(ptc_pieces_add(
            is_replica(s, i) ? source->replicas : source->pieces,
            ptc_table_find(source->table, s->shards.items[i].entry->name),
            &piece, err));
    }
    BASE_TRY(ptc_pieces_seal(source->pieces, err));
    BASE_TRY(ptc_pieces_seal(source->replicas, err));
    code = ptc_pieces_check(source->pieces, err);
    return code == BASE_OK ? code : base_wrap(err, code, "%s", source->path);
}

static enum base_code open_all(struct sharded *s, struct base_err *err)
{
    for (size_t f = 0; f < s->dir->files.n; f++) {
        struct store_dir_file *file = &s->dir->files.items[f];
        struct base_str group = group_of(file->group);
        bool is_shard = group.ptr != file->group.ptr;

        file->group = group;
        BASE_TRY(read_file(s, file, is_shard, err));
    }
    if (s->shards.n == 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s: no tensors",
                         s->dir->source->path);
    }
    qsort(s->shards.items, s->shards.n, sizeof(*s->shards.items), shard_cmp);
    BASE_TRY(make_table(s, err));
    return make_pieces(s, err);
}

enum base_code store_dir_open_sharded(struct store_dir *dir,
                                      struct base_err *err)
{
    struct sharded s = {.dir = dir};
    enum base_code code;

    dir->source->form = STORE_FORM_SHARDED;
    if (dir->options->from != NULL || dir->options->table != NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s says itself where its parts lie (" DCP_KEY
                         "), so neither --from nor --table is wanted",
                         dir->source->path);
    }
    store_source_sort_objects(dir->source);
    code = open_all(&s, err);
    base_vec_done(&s.shards);
    return code;
}
