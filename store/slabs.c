#include "store/slabs.h"

#include <stdlib.h>

#include "base/num.h"

/* Slabs first .. of the next entry - 1. */
struct entry {
    uint64_t first;
    uint32_t begin; /* tensors */
    uint32_t end;
    uint32_t dim;  /* that is cut; when end == begin + 1 */
    uint64_t step; /* in its indices */
};

struct store_slabs {
    const struct ptc_table *table;
    BASE_VEC(struct entry) entries;
    uint64_t n;
};

void store_slabs_free(struct store_slabs *slabs)
{
    if (slabs != NULL) {
        base_vec_done(&slabs->entries);
        free(slabs);
    }
}

size_t store_slabs_n(const struct store_slabs *slabs)
{
    return slabs->n;
}

/* Cut a tensor: the outermost dimension of which one index fits (eight, where
 * elements are no whole bytes, so that cuts are on bytes). */
static uint64_t
cut(const struct ptc_tensor *t, uint64_t max_bytes, struct entry *entry)
{
    unsigned bits = ptc_dtype_bits(t->dtype);
    uint64_t grain = bits % 8 == 0 ? 1 : 8;
    uint64_t per_index = t->n_elems; /* elements in one index of dim */
    uint64_t n_outer = 1;
    uint64_t fit = max_bytes * 8 / bits; /* elements */

    entry->dim = 0;
    entry->step = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        per_index /= t->shape[d];
        entry->dim = d;
        if (grain * per_index <= fit || d + 1 == t->n_dims) {
            entry->step = fit / per_index / grain * grain;
            entry->step = base_max_u64(entry->step, grain);
            return n_outer * base_ceil_div(t->shape[d], entry->step);
        }
        n_outer *= t->shape[d];
    }
    return 1; /* a scalar */
}

static enum base_code add(struct store_slabs *slabs,
                          const struct entry *entry,
                          uint64_t n,
                          struct base_err *err)
{
    struct entry next = *entry;

    next.first = slabs->n;
    slabs->n += n;
    if (!base_vec_push(&slabs->entries, next)) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate slabs");
    }
    return BASE_OK;
}

enum base_code store_slabs_create(const struct ptc_table *table,
                                  uint64_t max_bytes,
                                  struct store_slabs **ret,
                                  struct base_err *err)
{
    BASE_AUTO(store_slabs) slabs = calloc(1, sizeof(*slabs));
    struct entry batch = {0}; /* small tensors since the last slab */
    uint64_t batch_bytes = 0;

    if (slabs == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate slabs");
    }
    slabs->table = table;
    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);
        bool is_small = t->n_bytes <= max_bytes / 2;
        uint64_t n_bytes = t->tie != PTC_NONE ? 0 : t->n_bytes;
        struct entry one = {.begin = i, .end = i + 1};

        if (n_bytes > 0 && batch.end > batch.begin &&
            (!is_small || batch_bytes + n_bytes > max_bytes)) {
            BASE_TRY(add(slabs, &batch, 1, err));
            batch = (struct entry){0};
            batch_bytes = 0;
        }
        if (n_bytes == 0) {
            continue;
        }
        if (!is_small) {
            BASE_TRY(add(slabs, &one, cut(t, max_bytes, &one), err));
            slabs->entries.items[slabs->entries.n - 1].dim = one.dim;
            slabs->entries.items[slabs->entries.n - 1].step = one.step;
            continue;
        }
        if (batch.end == 0) {
            batch.begin = i;
        }
        batch.end = i + 1;
        batch.step = UINT64_MAX; /* whole, should it stay alone */
        batch_bytes += n_bytes;
    }
    if (batch.end > batch.begin) {
        BASE_TRY(add(slabs, &batch, 1, err));
    }
    *ret = base_steal(&slabs);
    return BASE_OK;
}

void store_slabs_get(const struct store_slabs *slabs,
                     size_t idx,
                     uint32_t *ret_begin,
                     uint32_t *ret_end,
                     struct ptc_box *ret_box)
{
    size_t low = 0, high = slabs->entries.n;
    const struct entry *entry;
    const struct ptc_tensor *t;
    uint64_t local, n_steps;

    while (high - low > 1) { /* entries[low].first <= idx */
        size_t middle = low + (high - low) / 2;

        if (slabs->entries.items[middle].first <= idx) {
            low = middle;
        } else {
            high = middle;
        }
    }
    entry = &slabs->entries.items[low];
    *ret_begin = entry->begin;
    *ret_end = entry->end;
    t = ptc_table_tensor(slabs->table, entry->begin);
    *ret_box = ptc_box_whole(t->n_dims, t->shape);
    if (entry->end - entry->begin > 1 || entry->step == UINT64_MAX ||
        t->n_dims == 0) {
        return;
    }
    local = idx - entry->first;
    n_steps = base_ceil_div(t->shape[entry->dim], entry->step);
    ret_box->begin[entry->dim] = local % n_steps * entry->step;
    ret_box->end[entry->dim] = base_min_u64(
        ret_box->begin[entry->dim] + entry->step, t->shape[entry->dim]);
    local /= n_steps;
    for (uint32_t d = entry->dim; d > 0; d--) {
        ret_box->begin[d - 1] = local % t->shape[d - 1];
        ret_box->end[d - 1] = ret_box->begin[d - 1] + 1;
        local /= t->shape[d - 1];
    }
}
