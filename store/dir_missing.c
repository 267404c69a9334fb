/* What no rank of a save wrote: box by box, with those who hold it. */
#include <inttypes.h>
#include <stdio.h>

#include "store/directory.h"

struct missing {
    struct store_dir *dir;
    const struct ptc_layout *layout;
    const struct ptc_table *table;
    const bool *is_bad;
    uint32_t root;    /* the tensor whose cells are visited */
    uint64_t n_found; /* elements of it */
};

static enum base_code on_found(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct missing *c = ctx;

    (void)tensor;
    (void)err;
    c->n_found += ptc_box_elems(&piece->box);
    return BASE_OK;
}

/* How many elements of @box the pieces have: none lies in two of them. */
static enum base_code count_found(struct missing *c,
                                  uint32_t tensor,
                                  const struct ptc_box *box,
                                  struct base_err *err)
{
    c->n_found = 0;
    return ptc_pieces_find(c->dir->source->pieces, tensor, box, on_found, c,
                           err);
}

enum { HOLDERS_SHOWN = 4, HOLDERS_TEXT_BYTES = 100 };

/* "only rank 3 holds it", "none of ranks 1, 3 wrote it" */
static char *
holders_text(const struct missing *c, const struct ptc_cell *cell, char *text)
{
    uint64_t n =
        cell->n_holders < HOLDERS_SHOWN ? cell->n_holders : HOLDERS_SHOWN;
    int len;

    if (cell->n_holders == 1) {
        (void)snprintf(text, HOLDERS_TEXT_BYTES, "only rank %u holds it",
                       ptc_cell_holder(c->layout, cell, 0));
        return text;
    }
    len = snprintf(text, HOLDERS_TEXT_BYTES, "none of ranks");
    for (uint64_t k = 0; k < n; k++) { /* at most 9 digits each: it fits */
        len += snprintf(text + len, (size_t)(HOLDERS_TEXT_BYTES - len), "%s %u",
                        k == 0 ? "" : ",", ptc_cell_holder(c->layout, cell, k));
    }
    (void)snprintf(text + len, (size_t)(HOLDERS_TEXT_BYTES - len),
                   "%s wrote it", cell->n_holders > n ? ", ..." : "");
    return text;
}

static enum base_code
on_due_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct missing *c = ctx;
    const struct ptc_tensor *t = ptc_table_tensor(c->table, c->root);
    char box[PTC_BOX_TEXT_BYTES];
    char holders[HOLDERS_TEXT_BYTES];

    BASE_TRY(count_found(c, c->root, &cell->box, err));
    if (c->n_found < ptc_box_elems(&cell->box)) {
        store_problems_add(
            c->dir->problems, BASE_MISMATCH,
            "%s/ranks/%03u/%.*s.safetensors: tensor %.*s: %s is missing, %s",
            c->dir->source->path, ptc_cell_holder(c->layout, cell, 0),
            BASE_STR_FMT(t->group), BASE_STR_FMT(t->name),
            ptc_box_format(&cell->box, box), holders_text(c, cell, holders));
    }
    return BASE_OK;
}

static bool has_group(const struct missing *c, struct base_str group)
{
    for (size_t i = 0; i < c->dir->files.n; i++) {
        if (base_str_eq(c->dir->files.items[i].group, group)) {
            return true;
        }
    }
    for (size_t i = 0; i < c->dir->lost.n; i++) {
        if (base_str_eq(c->dir->lost.items[i].group, group)) {
            return true;
        }
    }
    return false;
}

/* A group that no rank wrote is told once, not tensor by tensor. */
static enum base_code
tell_group(struct missing *c, struct base_str group, struct base_err *err)
{
    bool is_absent = !has_group(c, group);

    for (uint32_t i = 0; i < ptc_table_n_tensors(c->table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(c->table, i);
        struct ptc_box whole = ptc_box_whole(t->n_dims, t->shape);

        if (t->tie != PTC_NONE || t->n_elems == 0 || c->is_bad[i] ||
            !base_str_eq(t->group, group)) {
            continue;
        }
        if (is_absent) {
            store_problems_add(c->dir->problems, BASE_MISMATCH,
                               "%s: group %.*s is missing: no rank wrote "
                               "ranks/RRR/%.*s.safetensors",
                               c->dir->source->path, BASE_STR_FMT(group),
                               BASE_STR_FMT(group));
            return BASE_OK;
        }
        BASE_TRY(count_found(c, i, &whole, err));
        if (c->n_found < t->n_elems) {
            c->root = i;
            BASE_TRY(
                ptc_layout_find(c->layout, i, &whole, on_due_cell, c, err));
        }
    }
    return BASE_OK;
}

enum base_code store_dir_tell_missing(struct store_dir *dir,
                                      const bool *is_bad,
                                      struct base_err *err)
{
    struct missing c = {.dir = dir,
                        .layout = dir->source->layout,
                        .table = dir->source->table,
                        .is_bad = is_bad};
    enum base_code code;

    for (uint32_t g = 0; g < ptc_table_n_groups(c.table); g++) {
        BASE_TRY(tell_group(&c, ptc_table_group(c.table, g), err));
    }
    if (dir->problems->n > 0) {
        return BASE_OK;
    }
    code = ptc_pieces_check(dir->source->pieces, err);
    return store_problems_take(dir->problems, code, err);
}
