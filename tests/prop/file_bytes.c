#include "tests/prop/file_bytes.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate files");
}

void file_set_done(struct file_set *set)
{
    for (uint32_t i = 0; i < set->n; i++) {
        ptc_file_free(set->files[i]);
        free(set->bytes[i]);
    }
    free(set->files);
    free(set->bytes);
    memset(set, 0, sizeof(*set));
}

/* Takes @file, also when it fails. */
static enum base_code
set_add(struct file_set *set, struct ptc_file *file, struct base_err *err)
{
    struct ptc_file **files =
        reallocarray(set->files, set->n + 1, sizeof(*files));
    uint8_t **bytes = reallocarray(set->bytes, set->n + 1, sizeof(*bytes));

    set->files = files != NULL ? files : set->files;
    set->bytes = bytes != NULL ? bytes : set->bytes;
    if (files == NULL || bytes == NULL) {
        ptc_file_free(file);
        return no_mem(err);
    }
    files[set->n] = file;
    bytes[set->n++] = NULL;
    return BASE_OK;
}

enum base_code file_set_ranks(const struct ptc_layout *layout,
                              struct file_set *ret,
                              struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(layout);

    memset(ret, 0, sizeof(*ret));
    for (ptc_rank rank = 0; rank < ptc_layout_n_ranks(layout); rank++) {
        for (uint32_t g = 0; g < ptc_table_n_groups(table); g++) {
            struct ptc_file *file = NULL;

            BASE_TRY(ptc_file_create_rank(
                layout, rank, ptc_table_group(table, g), &file, err));
            if (file != NULL) {
                BASE_TRY(set_add(ret, file, err));
            }
        }
    }
    return BASE_OK;
}

enum base_code file_set_whole(const struct ptc_layout *whole,
                              uint64_t max_bytes,
                              struct file_set *ret,
                              struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(whole);

    memset(ret, 0, sizeof(*ret));
    for (uint32_t g = 0; g < ptc_table_n_groups(table); g++) {
        struct ptc_file **files = NULL;
        uint32_t n = 0;
        enum base_code rc = BASE_OK;

        BASE_TRY(ptc_file_create_hf(whole, ptc_table_group(table, g), max_bytes,
                                    &files, &n, err));
        for (uint32_t i = 0; i < n; i++) {
            enum base_code added = set_add(ret, files[i], err);

            rc = rc == BASE_OK ? added : rc;
        }
        free(files);
        BASE_TRY(rc);
    }
    for (uint32_t t = 0; t < ptc_table_n_tensors(table); t++) {
        struct ptc_file *file = NULL;

        if (ptc_dtype_bits(ptc_table_tensor(table, t)->dtype) % 8 == 0) {
            BASE_TRY(ptc_file_create_npy(whole, t, &file, err));
            BASE_TRY(set_add(ret, file, err));
        }
    }
    return BASE_OK;
}

/* ---- Filling ---- */

static uint64_t element_value(uint32_t root, uint64_t idx)
{
    uint64_t state = idx * UINT64_C(0x9e3779b97f4a7c15) + root;

    return base_random_next(&state);
}

struct fill {
    const struct ptc_table *table;
    uint8_t *bytes;
};

static void
element_write(uint8_t *bytes, uint64_t at_bits, unsigned n_bits, uint64_t value)
{
    if (n_bits % 8 == 0) {
        memcpy(bytes + at_bits / 8, &value, n_bits / 8);
        return;
    }
    for (unsigned i = 0; i < n_bits; i++) {
        uint8_t mask = (uint8_t)(1u << (at_bits + i) % 8);
        uint8_t *byte = &bytes[(at_bits + i) / 8];

        *byte = (uint8_t)((value >> i & 1) ? *byte | mask : *byte & ~mask);
    }
}

static enum base_code on_fill(void *ctx,
                              uint32_t tensor,
                              const struct ptc_piece *piece,
                              struct base_err *err)
{
    struct fill *fill = ctx;
    const struct ptc_tensor *info = ptc_table_tensor(fill->table, tensor);
    uint32_t root = ptc_table_root(fill->table, tensor);
    unsigned n_bits = ptc_dtype_bits(info->dtype);
    uint64_t at[PTC_MAX_DIMS];

    (void)err;
    memcpy(at, piece->box.begin, sizeof(at));
    for (uint64_t n = ptc_box_elems(&piece->box); n > 0; n--) {
        uint64_t idx = 0;
        uint64_t bits = 0;

        for (uint32_t d = 0; d < info->n_dims; d++) {
            idx = idx * info->shape[d] + at[d];
            bits += (at[d] - piece->box.begin[d]) * piece->stride[d];
        }
        bits = piece->offset * 8 + (n_bits % 8 == 0 ? bits * 8 : bits);
        element_write(fill->bytes, bits, n_bits, element_value(root, idx));
        for (uint32_t d = info->n_dims; d-- > 0;) {
            if (++at[d] < piece->box.end[d]) {
                break;
            }
            at[d] = piece->box.begin[d];
        }
    }
    return BASE_OK;
}

enum base_code file_set_fill(struct file_set *set, struct base_err *err)
{
    for (uint32_t i = 0; i < set->n; i++) {
        const struct ptc_file *file = set->files[i];
        struct base_str header = ptc_file_header(file);
        struct fill fill = {.table = ptc_layout_table(ptc_file_layout(file))};

        set->bytes[i] = calloc(ptc_file_n_bytes(file) + 1, 1);
        if (set->bytes[i] == NULL) {
            return no_mem(err);
        }
        memcpy(set->bytes[i], header.ptr, header.len);
        fill.bytes = set->bytes[i];
        for (uint32_t e = 0; e < ptc_file_n_entries(file); e++) {
            BASE_TRY(ptc_file_pieces(file, e, on_fill, &fill, err));
        }
    }
    return BASE_OK;
}

/* ---- Pieces ---- */

struct choose {
    const struct ptc_layout *layout;
    struct ptc_pieces **ranks; /* what each rank has */
    struct ptc_pieces *out;
    uint32_t tensor;
    uint32_t blob;
    struct ptc_pieces *to;
};

static enum base_code on_own(void *ctx,
                             uint32_t tensor,
                             const struct ptc_piece *piece,
                             struct base_err *err)
{
    struct choose *choose = ctx;
    const struct ptc_table *table = ptc_layout_table(choose->layout);
    struct ptc_piece own = *piece;

    if (ptc_table_tensor(table, tensor)->tie != PTC_NONE) {
        return BASE_OK;
    }
    own.blob = choose->blob;
    return ptc_pieces_add(choose->to, tensor, &own, err);
}

static enum base_code on_chosen(void *ctx,
                                uint32_t tensor,
                                const struct ptc_piece *piece,
                                struct base_err *err)
{
    struct choose *choose = ctx;

    return ptc_pieces_add(choose->out, tensor, piece, err);
}

static enum base_code
on_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct choose *choose = ctx;
    ptc_rank rank = ptc_cell_holder(choose->layout, cell, 0);

    return ptc_pieces_find(choose->ranks[rank], choose->tensor, &cell->box,
                           on_chosen, choose, err);
}

static enum base_code choose_all(const struct file_set *set,
                                 struct choose *choose,
                                 struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(choose->layout);
    uint32_t n_ranks = ptc_layout_n_ranks(choose->layout);

    for (uint32_t r = 0; r < n_ranks; r++) {
        choose->ranks[r] = ptc_pieces_create(table);
        if (choose->ranks[r] == NULL) {
            return no_mem(err);
        }
    }
    for (uint32_t i = 0; i < set->n; i++) {
        choose->blob = i;
        choose->to = choose->ranks[ptc_file_rank(set->files[i])];
        for (uint32_t e = 0; e < ptc_file_n_entries(set->files[i]); e++) {
            BASE_TRY(ptc_file_pieces(set->files[i], e, on_own, choose, err));
        }
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        BASE_TRY(ptc_pieces_seal(choose->ranks[r], err));
    }
    for (uint32_t t = 0; t < ptc_table_n_tensors(table); t++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(table, t);
        struct ptc_box box = ptc_box_whole(tensor->n_dims, tensor->shape);

        choose->tensor = t;
        if (tensor->tie == PTC_NONE && tensor->n_elems > 0) {
            BASE_TRY(
                ptc_layout_find(choose->layout, t, &box, on_cell, choose, err));
        }
    }
    return ptc_pieces_seal(choose->out, err);
}

enum base_code file_set_pieces(const struct file_set *set,
                               const struct ptc_layout *layout,
                               struct ptc_pieces **ret,
                               struct base_err *err)
{
    uint32_t n_ranks = ptc_layout_n_ranks(layout);
    BASE_AUTO(ptc_pieces) out = ptc_pieces_create(ptc_layout_table(layout));
    struct choose choose = {.layout = layout, .out = out};
    enum base_code rc;

    choose.ranks = calloc(n_ranks, sizeof(struct ptc_pieces *));
    if (choose.ranks == NULL || out == NULL) {
        free(choose.ranks);
        return no_mem(err);
    }
    rc = choose_all(set, &choose, err);
    for (uint32_t r = 0; r < n_ranks; r++) {
        ptc_pieces_free(choose.ranks[r]);
    }
    free(choose.ranks);
    BASE_TRY(rc);
    *ret = base_steal(&out);
    return BASE_OK;
}

/* ---- Reading a view ---- */

uint64_t file_set_read(const struct file_set *set,
                       const struct ptc_view *view,
                       uint64_t offset,
                       uint64_t n,
                       bool by_rows,
                       uint8_t *to)
{
    struct ptc_cursor cursor;
    struct ptc_run run;
    uint64_t n_rows = 1;
    uint64_t stride = 0;
    uint64_t got = 0;

    ptc_cursor_init(&cursor, view, offset, n);
    while (by_rows ? ptc_cursor_next_rows(&cursor, &run, &n_rows, &stride)
                   : ptc_cursor_next(&cursor, &run)) {
        for (uint64_t i = 0; i < n_rows; i++) {
            const uint8_t *from =
                run.blob == PTC_BLOB_HEADER
                    ? (const uint8_t *)ptc_view_header(view).ptr
                : run.blob == PTC_BLOB_ZERO ? NULL
                                            : set->bytes[run.blob];

            if (from == NULL) {
                memset(to + got, 0, run.n_bytes);
            } else {
                memcpy(to + got, from + run.offset + i * stride, run.n_bytes);
            }
            got += run.n_bytes;
        }
    }
    return got;
}
