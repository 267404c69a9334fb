/* A shown file: header bytes, and tensors with their places.
 *
 * A safetensors file is made in four steps: what the rank shows, in order of
 * name; the text of the metadata key `retile` in that same order; the reference
 * writer's order and offsets; the header.  Entries are kept in the order of
 * their offsets. */
#include "ptc/file.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/npy.h"
#include "ptc/pieces.h"
#include "ptc/safetensors.h"

#define MAX_HEADER_BYTES ((size_t)PTC_ST_MAX_HEADER + 8)
/* Bits of a file, too, are counted in 64 bits. */
#define MAX_SUB_BYTE_BYTES (UINT64_C(1) << 60)

struct ptc_file {
    const struct ptc_layout *layout;
    ptc_rank rank;
    uint32_t n_entries;
    struct ptc_file_entry *entries; /* by offset */
    struct base_buf header;
    uint64_t n_bytes;
};

/* What goes into a file: shown tensors in order of name. */
struct shown_list {
    BASE_VEC(struct ptc_shown) items_;
    bool has_ties; /* hf/ leaves them out */
    const struct ptc_table *table;
};

void ptc_file_free(struct ptc_file *file)
{
    if (file == NULL) {
        return;
    }
    base_buf_done(&file->header);
    free(file->entries);
    free(file);
}

struct base_str ptc_file_header(const struct ptc_file *file)
{
    return base_buf_str(&file->header);
}

uint64_t ptc_file_n_bytes(const struct ptc_file *file)
{
    return file->n_bytes;
}

uint32_t ptc_file_n_entries(const struct ptc_file *file)
{
    return file->n_entries;
}

const struct ptc_file_entry *ptc_file_entry(const struct ptc_file *file,
                                            uint32_t idx)
{
    assert(idx < file->n_entries);
    return &file->entries[idx];
}

const struct ptc_layout *ptc_file_layout(const struct ptc_file *file)
{
    return file->layout;
}

ptc_rank ptc_file_rank(const struct ptc_file *file)
{
    return file->rank;
}

static enum base_code
shown_bytes(const struct ptc_shown *shown, uint64_t *ret, struct base_err *err)
{
    uint64_t n_elems = 1;
    bool is_good = true;

    for (uint32_t d = 0; is_good && d < shown->n_dims; d++) {
        is_good = base_mul_u64(n_elems, shown->shape[d], &n_elems);
    }
    if (!is_good || !ptc_dtype_bytes(shown->dtype, n_elems, ret) ||
        (ptc_dtype_bits(shown->dtype) % 8 != 0 && *ret > MAX_SUB_BYTE_BYTES)) {
        return base_fail(err, BASE_LIMIT,
                         "tensor %.*s: its shard is no whole number of bytes, "
                         "or too many",
                         BASE_STR_FMT(shown->name));
    }
    return BASE_OK;
}

static enum base_code
on_shown(void *ctx, const struct ptc_shown *shown, struct base_err *err)
{
    struct shown_list *list = ctx;

    if (!list->has_ties && shown->tensor != PTC_NONE &&
        ptc_table_tensor(list->table, shown->tensor)->tie != PTC_NONE) {
        return BASE_OK;
    }
    if (!base_vec_push(&list->items_, *shown)) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a file's tensors");
    }
    return BASE_OK;
}

/* ---- The metadata key `retile` ---- */

/* Tensors of the table, as indices. */
struct tensor_set {
    BASE_VEC(uint32_t) ids;
    const struct ptc_table *table;
};

static int id_cmp(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

/* Note a tie that stands in a rank's file by itself or in a flat. */
static enum base_code on_tie_part(void *ctx,
                                  uint32_t tensor,
                                  const struct ptc_part *part,
                                  struct base_err *err)
{
    struct tensor_set *ties = ctx;

    (void)part; /* where it lies does not matter */
    if (ptc_table_tensor(ties->table, tensor)->tie != PTC_NONE &&
        (ties->ids.n == 0 || ties->ids.items[ties->ids.n - 1] != tensor) &&
        !base_vec_push(&ties->ids, tensor)) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate ties");
    }
    return BASE_OK;
}

/* Ties without elements have no part in any flat: those of the rank's group. */
static enum base_code ties_empty(const struct ptc_layout *layout,
                                 ptc_rank rank,
                                 struct base_str group,
                                 struct tensor_set *ties,
                                 struct base_err *err)
{
    for (uint32_t t = 0; t < ptc_table_n_tensors(ties->table); t++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(ties->table, t);

        if (tensor->tie != PTC_NONE && tensor->n_elems == 0 &&
            base_str_eq(tensor->group, group) &&
            ptc_layout_has(layout, t, rank)) {
            BASE_TRY(on_tie_part(ties, t, NULL, err));
        }
    }
    return BASE_OK;
}

/* The ties that a rank's file shows. */
static enum base_code ties_shown(const struct ptc_layout *layout,
                                 ptc_rank rank,
                                 const struct ptc_shown *shown,
                                 uint32_t n_shown,
                                 struct tensor_set *ties,
                                 struct base_err *err)
{
    for (uint32_t i = 0; i < n_shown; i++) {
        if (shown[i].tensor == PTC_NONE) {
            BASE_TRY(ptc_layout_shown_parts(layout, rank, &shown[i],
                                            on_tie_part, ties, err));
        } else {
            BASE_TRY(on_tie_part(ties, shown[i].tensor, NULL, err));
        }
    }
    return ties_empty(layout, rank, shown[0].group, ties, err);
}

/* The ties whose target is in a file of hf/. */
static enum base_code ties_of_targets(const struct ptc_shown *shown,
                                      uint32_t n_shown,
                                      struct tensor_set *ties,
                                      struct base_err *err)
{
    for (uint32_t t = 0; t < ptc_table_n_tensors(ties->table); t++) {
        uint32_t target = ptc_table_tensor(ties->table, t)->tie;
        uint32_t low = 0;
        uint32_t high = n_shown;

        while (target != PTC_NONE && low < high) {
            uint32_t middle = low + (high - low) / 2;

            if (shown[middle].tensor < target) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (target != PTC_NONE && low < n_shown &&
            shown[low].tensor == target && !base_vec_push(&ties->ids, t)) {
            return base_fail(err, BASE_NO_MEM, "cannot allocate ties");
        }
    }
    return BASE_OK;
}

/* Append "ties":{..} in order of name; sorts @ties and drops repeats. */
static void ties_write(struct tensor_set *ties, struct base_buf *buf)
{
    uint32_t last = PTC_NONE;

    if (ties->ids.n > 1) {
        qsort(ties->ids.items, ties->ids.n, sizeof(*ties->ids.items), id_cmp);
    }
    (void)base_buf_add_str(buf, BASE_STR("\"ties\":{")); /* sticky */
    for (size_t i = 0; i < ties->ids.n; i++) {
        uint32_t id = ties->ids.items[i];
        const struct ptc_tensor *tie = ptc_table_tensor(ties->table, id);

        if (id == last) {
            continue;
        }
        if (last != PTC_NONE) {
            (void)base_buf_add(buf, ",", 1);
        }
        (void)base_buf_add_json(buf, tie->name);
        (void)base_buf_add(buf, ":", 1);
        (void)base_buf_add_json(buf,
                                ptc_table_tensor(ties->table, tie->tie)->name);
        last = id;
    }
    (void)base_buf_add(buf, "}", 1);
}

static enum base_code retile_write(const struct ptc_layout *layout,
                                   ptc_rank rank,
                                   const struct ptc_shown *shown,
                                   uint32_t n_shown,
                                   struct tensor_set *ties,
                                   struct base_buf *buf,
                                   struct base_err *err)
{
    (void)base_buf_add_str(buf, BASE_STR("{\"version\":1,\"tensors\":{"));
    for (uint32_t i = 0; i < n_shown; i++) {
        if (i > 0) {
            (void)base_buf_add(buf, ",", 1);
        }
        (void)base_buf_add_json(buf, shown[i].name);
        (void)base_buf_add(buf, ":", 1);
        BASE_TRY(ptc_layout_shown_json(layout, rank, &shown[i], buf, err));
    }
    (void)base_buf_add_str(buf, BASE_STR("},")); /* failures are sticky */
    ties_write(ties, buf);
    (void)base_buf_add(buf, "}", 1);
    return base_buf_check(buf, err);
}

/* ---- Files ---- */

static const struct ptc_shown *
shown_find(const struct ptc_shown *shown, uint32_t n, struct base_str name)
{
    uint32_t low = 0;
    uint32_t high = n;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (base_str_cmp(shown[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    assert(low < n && base_str_eq(shown[low].name, name));
    return &shown[low];
}

/* Entries in the writer's order, and the header. */
static enum base_code file_lay_out(struct ptc_file *file,
                                   const struct ptc_shown *shown,
                                   uint32_t n_shown,
                                   struct base_str retile,
                                   struct base_err *err)
{
    BASE_AUTO_MEM struct ptc_st_new *tensors =
        calloc((size_t)n_shown + 1, sizeof(*tensors));
    uint64_t n_bytes = 0;

    file->entries = calloc((size_t)n_shown + 1, sizeof(*file->entries));
    if (tensors == NULL || file->entries == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a file's tensors");
    }
    file->n_entries = n_shown;
    for (uint32_t i = 0; i < n_shown; i++) {
        tensors[i].name = shown[i].name;
        tensors[i].dtype = shown[i].dtype;
        tensors[i].n_dims = shown[i].n_dims;
        tensors[i].shape = shown[i].shape;
        BASE_TRY(shown_bytes(&shown[i], &tensors[i].n_bytes, err));
        if (!base_add_u64(n_bytes, tensors[i].n_bytes, &n_bytes) ||
            n_bytes > INT64_MAX - MAX_HEADER_BYTES) {
            return base_fail(err, BASE_LIMIT, "a file of more than 2^63 bytes");
        }
    }
    ptc_st_order(tensors, n_shown);
    BASE_TRY(ptc_st_header_write(tensors, n_shown, retile, &file->header, err));
    file->n_bytes = file->header.len + n_bytes;
    for (uint32_t i = 0; i < n_shown; i++) {
        struct ptc_file_entry *entry = &file->entries[i];

        entry->offset = file->header.len + tensors[i].offset;
        entry->n_bytes = tensors[i].n_bytes;
        entry->shown = *shown_find(shown, n_shown, tensors[i].name);
    }
    return BASE_OK;
}

/* A safetensors file of @n_shown tensors, in order of name. */
static enum base_code file_create(const struct ptc_layout *layout,
                                  ptc_rank rank,
                                  const struct ptc_shown *shown,
                                  uint32_t n_shown,
                                  struct tensor_set *ties,
                                  struct ptc_file **ret,
                                  struct base_err *err)
{
    BASE_AUTO(ptc_file) file = calloc(1, sizeof(*file));
    BASE_AUTO_BUF retile;

    base_buf_init(&retile, MAX_HEADER_BYTES);
    if (file == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a file");
    }
    base_buf_init(&file->header, MAX_HEADER_BYTES + PTC_ST_DATA_ALIGN);
    file->layout = layout;
    file->rank = rank;
    BASE_TRY(retile_write(layout, rank, shown, n_shown, ties, &retile, err));
    BASE_TRY(file_lay_out(file, shown, n_shown, base_buf_str(&retile), err));
    *ret = base_steal(&file);
    return BASE_OK;
}

static enum base_code rank_create(const struct ptc_layout *layout,
                                  ptc_rank rank,
                                  struct base_str group,
                                  struct shown_list *list,
                                  struct tensor_set *ties,
                                  struct ptc_file **ret,
                                  struct base_err *err)
{
    BASE_TRY(ptc_layout_shown(layout, rank, group, on_shown, list, err));
    if (list->items_.n == 0) {
        *ret = NULL;
        return BASE_OK;
    }
    BASE_TRY(ties_shown(layout, rank, list->items_.items,
                        (uint32_t)list->items_.n, ties, err));
    return file_create(layout, rank, list->items_.items,
                       (uint32_t)list->items_.n, ties, ret, err);
}

enum base_code ptc_file_create_rank(const struct ptc_layout *layout,
                                    ptc_rank rank,
                                    struct base_str group,
                                    struct ptc_file **ret,
                                    struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(layout);
    struct shown_list list = {.has_ties = true, .table = table};
    struct tensor_set ties = {.table = table};
    enum base_code rc =
        rank_create(layout, rank, group, &list, &ties, ret, err);

    base_vec_done(&list.items_);
    base_vec_done(&ties.ids);
    return rc;
}

/* How many of @n_shown go into the next file of at most @max_bytes: at least
 * one. */
static enum base_code hf_fill(const struct ptc_shown *shown,
                              uint32_t n_shown,
                              uint64_t max_bytes,
                              uint32_t *ret,
                              struct base_err *err)
{
    uint64_t sum = 0;
    uint32_t n = 0;

    for (; n < n_shown; n++) {
        uint64_t n_bytes;

        BASE_TRY(shown_bytes(&shown[n], &n_bytes, err));
        if (n > 0 && (n_bytes > max_bytes || sum > max_bytes - n_bytes)) {
            break;
        }
        if (!base_add_u64(sum, n_bytes, &sum)) {
            break;
        }
    }
    *ret = n;
    return BASE_OK;
}

struct file_list {
    BASE_VEC(struct ptc_file *) files;
};

static enum base_code hf_create(const struct ptc_layout *whole,
                                struct base_str group,
                                uint64_t max_bytes,
                                struct shown_list *list,
                                struct file_list *out,
                                struct base_err *err)
{
    BASE_TRY(ptc_layout_shown(whole, 0, group, on_shown, list, err));
    for (uint32_t i = 0, n; i < list->items_.n; i += n) {
        const struct ptc_shown *shown = list->items_.items + i;
        struct tensor_set ties = {.table = list->table};
        BASE_AUTO(ptc_file) file = NULL;
        enum base_code rc;

        BASE_TRY(
            hf_fill(shown, (uint32_t)list->items_.n - i, max_bytes, &n, err));
        rc = ties_of_targets(shown, n, &ties, err);
        if (rc == BASE_OK) {
            rc = file_create(whole, 0, shown, n, &ties, &file, err);
        }
        base_vec_done(&ties.ids);
        BASE_TRY(rc);
        if (!base_vec_push(&out->files, file)) {
            return base_fail(err, BASE_NO_MEM, "cannot allocate files");
        }
        (void)base_steal(&file); /* the list has it */
    }
    return BASE_OK;
}

enum base_code ptc_file_create_hf(const struct ptc_layout *whole,
                                  struct base_str group,
                                  uint64_t max_bytes,
                                  struct ptc_file ***ret,
                                  uint32_t *ret_n,
                                  struct base_err *err)
{
    struct shown_list list = {.has_ties = false,
                              .table = ptc_layout_table(whole)};
    struct file_list out = {0};
    enum base_code rc = hf_create(whole, group, max_bytes, &list, &out, err);

    base_vec_done(&list.items_);
    if (rc != BASE_OK) {
        for (size_t i = 0; i < out.files.n; i++) {
            ptc_file_free(out.files.items[i]);
        }
        base_vec_done(&out.files);
        return rc;
    }
    *ret = out.files.items;
    *ret_n = (uint32_t)out.files.n;
    return BASE_OK;
}

enum base_code ptc_file_create_npy(const struct ptc_layout *whole,
                                   uint32_t tensor,
                                   struct ptc_file **ret,
                                   struct base_err *err)
{
    const struct ptc_tensor *info =
        ptc_table_tensor(ptc_layout_table(whole), tensor);
    BASE_AUTO(ptc_file) file = calloc(1, sizeof(*file));
    struct ptc_shown *shown;

    if (file == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a file");
    }
    base_buf_init(&file->header, MAX_HEADER_BYTES);
    file->layout = whole;
    file->entries = calloc(1, sizeof(*file->entries));
    if (file->entries == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a file");
    }
    BASE_TRY(ptc_npy_header_write(info->dtype, info->n_dims, info->shape,
                                  &file->header, err));
    shown = &file->entries->shown;
    shown->name = info->name;
    shown->group = info->group;
    shown->dtype = info->dtype;
    shown->n_dims = info->n_dims;
    for (uint32_t d = 0; d < info->n_dims; d++) {
        shown->shape[d] = info->shape[d];
    }
    shown->tensor = tensor;
    shown->flat_ = PTC_NONE;
    file->n_entries = 1;
    file->entries->offset = file->header.len;
    file->entries->n_bytes = info->n_bytes;
    file->n_bytes = file->header.len + info->n_bytes;
    *ret = base_steal(&file);
    return BASE_OK;
}

/* ---- Parts as pieces ---- */

struct part_visit {
    const struct ptc_file *file;
    const struct ptc_file_entry *entry;
    ptc_piece_fn fn;
    void *ctx;
};

static enum base_code on_part(void *ctx,
                              uint32_t tensor,
                              const struct ptc_part *part,
                              struct base_err *err)
{
    const struct part_visit *visit = ctx;
    unsigned bits = ptc_dtype_bits(visit->entry->shown.dtype);
    bool is_whole = bits % 8 == 0;
    uint64_t scale = is_whole ? bits / 8 : bits;
    struct ptc_piece piece = {.box = part->box};
    uint64_t at = part->offset * scale; /* both inside the entry */

    if (!is_whole && at % 8 != 0) {
        return base_fail(err, BASE_UNSUPPORTED,
                         "tensor %.*s: a part begins inside a byte",
                         BASE_STR_FMT(visit->entry->shown.name));
    }
    piece.offset = visit->entry->offset + (is_whole ? at : at / 8);
    for (uint32_t d = 0; d < part->box.n_dims; d++) {
        piece.stride[d] = part->stride[d] * scale;
    }
    return visit->fn(visit->ctx, tensor, &piece, err);
}

enum base_code ptc_file_pieces(const struct ptc_file *file,
                               uint32_t idx,
                               ptc_piece_fn fn,
                               void *ctx,
                               struct base_err *err)
{
    struct part_visit visit = {
        .file = file, .entry = ptc_file_entry(file, idx), .fn = fn, .ctx = ctx};

    return ptc_layout_shown_parts(file->layout, file->rank, &visit.entry->shown,
                                  on_part, &visit, err);
}
