/* Every file against the layout, rank by rank: what a rank shows and what its
 * files have are two lists in order of name, merged.  Where both have a
 * tensor, its parts become pieces; a part that a lower rank has too becomes a
 * replica, and so do the bytes of a tied tensor (a target compares those that no
 * file calls tied: store/target_ties.c).
 *
 * In a save, ranks may leave out what others wrote: there a part that a lower
 * rank gave becomes a replica, and only the end shows what nobody gave. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ptc/pieces.h"
#include "store/directory.h"
#include "store/taken.h"

/* A tensor as a file of the rank has it. */
struct held {
    const struct ptc_st_entry *entry;
    const struct store_dir_file *file;
};

struct check {
    struct store_dir *dir;
    const struct ptc_layout *layout;
    const struct ptc_table *table;
    ptc_rank rank;
    struct held *held; /* of this rank, in order of name */
    size_t n_held;
    size_t next; /* the first that no shown tensor has asked for */
    /* the tensor whose parts are being visited */
    uint32_t blob;
    uint64_t begin; /* of its data, in the blob */
    enum ptc_dtype dtype;
    struct ptc_piece piece; /* the part being cut into cells */
    uint32_t root;
    uint32_t tensor;      /* whose parts they are */
    bool is_told_as_tied; /* by its file's coordinates */
    /* of a save */
    struct store_taken taken; /* cells of several ranks, that one has given */
    bool *is_bad; /* per tensor: told already that something is wrong with it */
};

static enum base_code no_mem(const struct check *c, struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "%s: no memory for its tensors",
                     c->dir->source->path);
}

static const char *held_label(const struct check *c, const struct held *held)
{
    return store_dir_label(c->dir, held->file);
}

enum { SHAPE_TEXT_BYTES = 192 };

static char *shape_text(uint32_t n, const uint64_t *shape, char *text)
{
    int len = snprintf(text, SHAPE_TEXT_BYTES, "[");

    for (uint32_t d = 0; d < n && len < SHAPE_TEXT_BYTES; d++) {
        len += snprintf(text + len, (size_t)(SHAPE_TEXT_BYTES - len),
                        "%s%" PRIu64, d == 0 ? "" : ", ", shape[d]);
    }
    if (len < SHAPE_TEXT_BYTES) {
        (void)snprintf(text + len, (size_t)(SHAPE_TEXT_BYTES - len), "]");
    }
    return text;
}

/* --- pieces ------------------------------------------------------------- */

/* Is this rank the first that has @cell of @tensor?  Ranks are visited in
 * order; all who hold a cell have it from its first element on. */
static enum base_code is_first(struct check *c,
                               uint32_t tensor,
                               const struct ptc_cell *cell,
                               bool *ret,
                               struct base_err *err)
{
    const struct ptc_tensor *t = ptc_table_tensor(c->table, tensor);
    uint64_t first = 0;

    if (c->dir->save == NULL || cell->n_holders == 1) {
        *ret = ptc_cell_holder(c->layout, cell, 0) == c->rank;
        return BASE_OK;
    }
    for (uint32_t d = 0; d < t->n_dims; d++) {
        first = first * t->shape[d] + cell->box.begin[d];
    }
    return store_taken_add(&c->taken, tensor, first, ret, err);
}

static enum base_code
on_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct check *c = ctx;
    const struct ptc_tensor *t = ptc_table_tensor(c->table, c->root);
    struct ptc_piece piece = c->piece;
    struct store_source *source = c->dir->source;
    bool counts = false;

    BASE_TRY(is_first(c, c->root, cell, &counts, err));
    ptc_piece_cut(&piece, t, &cell->box);
    return ptc_pieces_add(counts ? source->pieces : source->replicas, c->root,
                          &piece, err);
}

/* A cell of a tie's own bytes. */
static enum base_code
on_tied_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct check *c = ctx;
    struct store_tied tied = {.tensor = c->tensor, .piece = c->piece};
    bool counts = false;

    BASE_TRY(is_first(c, c->tensor, cell, &counts, err));
    if (!counts) {
        return BASE_OK;
    }
    ptc_piece_cut(&tied.piece, ptc_table_tensor(c->table, c->tensor),
                  &cell->box);
    return base_vec_push(&c->dir->source->tied, tied) ? BASE_OK
                                                      : no_mem(c, err);
}

static enum base_code on_part(void *ctx,
                              uint32_t tensor,
                              const struct ptc_part *part,
                              struct base_err *err)
{
    struct check *c = ctx;
    struct store_source *source = c->dir->source;
    unsigned bits = ptc_dtype_bits(c->dtype);
    uint64_t scale = bits % 8 == 0 ? bits / 8 : bits;
    uint64_t at = part->offset * scale; /* within the entry: no overflow */
    struct ptc_piece piece = {.box = part->box, .blob = c->blob};

    if (bits % 8 != 0 && at % 8 != 0) {
        return base_fail(
            err, BASE_UNSUPPORTED, "tensor %.*s: a part begins inside a byte",
            BASE_STR_FMT(ptc_table_tensor(c->table, tensor)->name));
    }
    piece.offset = c->begin + (bits % 8 == 0 ? at : at / 8);
    for (uint32_t d = 0; d < part->box.n_dims; d++) {
        piece.stride[d] = part->stride[d] * scale;
    }
    c->root = ptc_table_root(c->table, tensor);
    c->tensor = tensor;
    c->piece = piece;
    if (c->root != tensor) {
        BASE_TRY(ptc_pieces_add(source->replicas, c->root, &piece, err));
        return c->is_told_as_tied
                   ? BASE_OK
                   : ptc_layout_find(c->layout, tensor, &part->box,
                                     on_tied_cell, c, err);
    }
    if (ptc_layout_n_ranks(c->layout) == 1) {
        return ptc_pieces_add(source->pieces, tensor, &piece, err);
    }
    return ptc_layout_find(c->layout, tensor, &part->box, on_cell, c, err);
}

/* --- checks ------------------------------------------------------------- */

static enum base_code check_coords(const struct check *c,
                                   const struct ptc_shown *shown,
                                   const struct held *held,
                                   struct base_err *err)
{
    const struct ptc_coord *said;
    BASE_AUTO(ptc_coords) due = NULL;
    BASE_AUTO_BUF json = {0};
    char said_text[PTC_COORD_TEXT_BYTES];
    char due_text[PTC_COORD_TEXT_BYTES];

    if (held->file->coords == NULL) {
        return BASE_OK;
    }
    said = ptc_coords_find(held->file->coords, shown->name);
    if (said == NULL) {
        return BASE_OK;
    }
    base_buf_init(&json, PTC_COORDS_MAX_BYTES);
    BASE_TRY(ptc_layout_shown_json(c->layout, c->rank, shown, &json, err));
    BASE_TRY(ptc_coords_parse_one(base_buf_str(&json), shown->name, &due, err));
    if (ptc_coord_same(said, &due->entries[0], said_text, due_text)) {
        return BASE_OK;
    }
    return base_fail(err, BASE_MISMATCH,
                     "%s: tensor %.*s: the file says %s, the spec says %s",
                     held_label(c, held), BASE_STR_FMT(shown->name), said_text,
                     due_text);
}

static enum base_code check_held(const struct check *c,
                                 const struct ptc_shown *shown,
                                 const struct held *held,
                                 struct base_err *err)
{
    const struct ptc_st_entry *entry = held->entry;
    const char *label = held_label(c, held);
    char has[SHAPE_TEXT_BYTES], due[SHAPE_TEXT_BYTES];

    if (!base_str_eq(shown->group, held->file->group)) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: tensor %.*s: it belongs to group %.*s", label,
                         BASE_STR_FMT(shown->name), BASE_STR_FMT(shown->group));
    }
    if (entry->dtype != shown->dtype) {
        return base_fail(
            err, BASE_MISMATCH, "%s: tensor %.*s: dtype is %s, elsewhere %s",
            label, BASE_STR_FMT(shown->name), ptc_dtype_name(entry->dtype),
            ptc_dtype_name(shown->dtype));
    }
    BASE_TRY(check_coords(c, shown, held, err));
    if (entry->n_dims != shown->n_dims ||
        (entry->n_dims > 0 &&
         memcmp(entry->shape, shown->shape,
                entry->n_dims * sizeof(*entry->shape)) != 0)) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: tensor %.*s: shape is %s, the layout gives rank "
                         "%u %s",
                         label, BASE_STR_FMT(shown->name),
                         shape_text(entry->n_dims, entry->shape, has), c->rank,
                         shape_text(shown->n_dims, shown->shape, due));
    }
    return BASE_OK;
}

static enum base_code
no_place(const struct check *c, const struct held *held, struct base_err *err)
{
    struct base_str name = held->entry->name;

    if (ptc_table_find(c->table, name) == PTC_NONE) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: tensor %.*s: neither the table nor a flat has it",
                         held_label(c, held), BASE_STR_FMT(name));
    }
    return base_fail(err, BASE_MISMATCH,
                     "%s: tensor %.*s: the layout does not place it on rank %u",
                     held_label(c, held), BASE_STR_FMT(name), c->rank);
}

static bool shown_is_empty(const struct ptc_shown *shown)
{
    for (uint32_t d = 0; d < shown->n_dims; d++) {
        if (shown->shape[d] == 0) {
            return true;
        }
    }
    return false;
}

/* A tensor that no file of the rank has: empty shards and ties may be left
 * out. */
static enum base_code missing(const struct check *c,
                              const struct ptc_shown *shown,
                              struct base_err *err)
{
    bool is_tie = shown->tensor != PTC_NONE &&
                  ptc_table_tensor(c->table, shown->tensor)->tie != PTC_NONE;

    if (is_tie || (shown_is_empty(shown) && c->dir->has_table)) {
        return BASE_OK;
    }
    if (c->dir->source->form != STORE_FORM_PLAIN) {
        return base_fail(err, BASE_MISMATCH, "%s: tensor %.*s is missing",
                         c->dir->source->path, BASE_STR_FMT(shown->name));
    }
    return base_fail(err, BASE_MISMATCH,
                     "%s/ranks/%03u/%.*s.safetensors: tensor %.*s is missing, "
                     "the layout places it on rank %u",
                     c->dir->source->path, c->rank, BASE_STR_FMT(shown->group),
                     BASE_STR_FMT(shown->name), c->rank);
}

static int tie_cmp(const void *name, const void *tie)
{
    return base_str_cmp(*(const struct base_str *)name,
                        ((const struct ptc_coord_tie *)tie)->name);
}

static bool is_told_as_tied(const struct held *held)
{
    const struct ptc_coords *coords = held->file->coords;

    return coords != NULL && coords->n_ties > 0 &&
           bsearch(&held->entry->name, coords->ties, coords->n_ties,
                   sizeof(coords->ties[0]), tie_cmp) != NULL;
}

static enum base_code on_bad_part(void *ctx,
                                  uint32_t tensor,
                                  const struct ptc_part *part,
                                  struct base_err *err)
{
    const struct check *c = ctx;

    (void)part;
    (void)err;
    c->is_bad[ptc_table_root(c->table, tensor)] = true;
    return BASE_OK;
}

/* What a rank shows is wrong, and told: it is not told as missing, too. */
static enum base_code
mark_bad(struct check *c, const struct ptc_shown *shown, struct base_err *err)
{
    return ptc_layout_shown_parts(c->layout, c->rank, shown, on_bad_part, c,
                                  err);
}

/* In a save a rank may lack anything, as long as another one has it. */
static enum base_code
left_out(struct check *c, const struct ptc_shown *shown, struct base_err *err)
{
    for (size_t i = 0; i < c->dir->lost.n; i++) {
        const struct store_dir_lost *lost = &c->dir->lost.items[i];

        if (lost->rank == c->rank && base_str_eq(lost->group, shown->group)) {
            return mark_bad(c, shown, err);
        }
    }
    return BASE_OK;
}

static enum base_code
on_shown(void *ctx, const struct ptc_shown *shown, struct base_err *err)
{
    struct check *c = ctx;
    struct store_problems *problems = c->dir->problems;
    const struct held *held;
    int order = 1;
    enum base_code code;

    while (c->next < c->n_held) {
        order = base_str_cmp(c->held[c->next].entry->name, shown->name);
        if (order >= 0) {
            break;
        }
        code = no_place(c, &c->held[c->next++], err);
        BASE_TRY(store_problems_take(problems, code, err));
    }
    if (c->next == c->n_held || order > 0) {
        return c->dir->save != NULL ? left_out(c, shown, err)
                                    : missing(c, shown, err);
    }
    held = &c->held[c->next++];
    code = check_held(c, shown, held, err);
    if (code != BASE_OK) {
        BASE_TRY(store_problems_take(problems, code, err));
        return mark_bad(c, shown, err);
    }
    c->blob = held->file->blob;
    c->begin = held->file->header->data_offset + held->entry->begin;
    c->dtype = held->entry->dtype;
    c->is_told_as_tied = is_told_as_tied(held);
    return ptc_layout_shown_parts(c->layout, c->rank, shown, on_part, c, err);
}

static int held_cmp(const void *a, const void *b)
{
    return base_str_cmp(((const struct held *)a)->entry->name,
                        ((const struct held *)b)->entry->name);
}

/* The rank's tensors in order of name; a name twice is refused. */
static enum base_code collect_held(struct check *c,
                                   const struct store_dir_file *files,
                                   size_t n_files,
                                   struct base_err *err)
{
    size_t n = 0;

    for (size_t f = 0; f < n_files; f++) {
        n += files[f].header->n_entries;
    }
    free(c->held);
    c->n_held = c->next = 0;
    c->held = calloc(n + 1, sizeof(*c->held));
    if (c->held == NULL) {
        return no_mem(c, err);
    }
    for (size_t f = 0; f < n_files; f++) {
        for (uint32_t i = 0; i < files[f].header->n_entries; i++) {
            c->held[c->n_held++] =
                (struct held){&files[f].header->entries[i], &files[f]};
        }
    }
    qsort(c->held, c->n_held, sizeof(*c->held), held_cmp);
    n = 0;
    for (size_t i = 0; i < c->n_held; i++) {
        if (n > 0 && held_cmp(&c->held[n - 1], &c->held[i]) == 0) {
            enum base_code code = base_fail(
                err, BASE_MISMATCH, "tensor %.*s: both in %s and in %s",
                BASE_STR_FMT(c->held[i].entry->name),
                held_label(c, &c->held[n - 1]), held_label(c, &c->held[i]));

            BASE_TRY(store_problems_take(c->dir->problems, code, err));
            continue;
        }
        c->held[n++] = c->held[i];
    }
    c->n_held = n;
    return BASE_OK;
}

static enum base_code check_ranks(struct check *c, struct base_err *err)
{
    const struct store_dir_file *files = c->dir->files.items;
    size_t n = c->dir->files.n;
    size_t i = 0;

    for (c->rank = 0; c->rank < ptc_layout_n_ranks(c->layout); c->rank++) {
        size_t begin = i;

        while (i < n && files[i].rank == c->rank) {
            i++;
        }
        BASE_TRY(collect_held(c, files + begin, i - begin, err));
        BASE_TRY(ptc_layout_shown(c->layout, c->rank, (struct base_str){0},
                                  on_shown, c, err));
        while (c->next < c->n_held) {
            enum base_code code = no_place(c, &c->held[c->next++], err);

            BASE_TRY(store_problems_take(c->dir->problems, code, err));
        }
    }
    return BASE_OK;
}

static enum base_code check_all(struct check *c, struct base_err *err)
{
    struct store_source *source = c->dir->source;
    enum base_code code;

    BASE_TRY(check_ranks(c, err));
    BASE_TRY(ptc_pieces_seal(source->pieces, err));
    BASE_TRY(ptc_pieces_seal(source->replicas, err));
    if (c->dir->save != NULL) {
        return store_dir_tell_missing(c->dir, c->is_bad, err);
    }
    code = ptc_pieces_check(source->pieces, err);
    return code == BASE_OK ? code : base_wrap(err, code, "%s", source->path);
}

enum base_code store_dir_check(struct store_dir *dir, struct base_err *err)
{
    struct store_source *source = dir->source;
    struct check c = {
        .dir = dir, .layout = source->layout, .table = source->table};
    enum base_code code;

    source->pieces = ptc_pieces_create(source->table);
    source->replicas = ptc_pieces_create(source->table);
    c.is_bad = calloc((size_t)ptc_table_n_tensors(source->table) + 1,
                      sizeof(*c.is_bad));
    if (source->pieces == NULL || source->replicas == NULL ||
        c.is_bad == NULL) {
        code = no_mem(&c, err);
    } else {
        code = check_all(&c, err);
    }
    free(c.held);
    store_taken_done(&c.taken);
    free(c.is_bad);
    return code;
}
