#include "store/taken.h"

#include <stdlib.h>

enum { FIRST_CAP = 1024 };

void store_taken_done(struct store_taken *taken)
{
    free(taken->slots);
    *taken = (struct store_taken){0};
}

/* Where @cell is, or would be. */
static struct store_taken_cell *slot_of(const struct store_taken *taken,
                                        const struct store_taken_cell *cell)
{
    uint64_t hash = (cell->at * 0x9e3779b97f4a7c15u) ^
                    (cell->tensor * UINT64_C(0xc2b2ae3d27d4eb4f));
    size_t i = (size_t)((hash ^ (hash >> 29)) * 0x9e3779b97f4a7c15u >> 32);

    for (i &= taken->cap - 1;; i = (i + 1) & (taken->cap - 1)) {
        struct store_taken_cell *slot = &taken->slots[i];

        if (slot->at == 0 ||
            (slot->at == cell->at && slot->tensor == cell->tensor)) {
            return slot;
        }
    }
}

static enum base_code grow(struct store_taken *taken, struct base_err *err)
{
    struct store_taken more = {.n = taken->n};

    if (2 * (taken->n + 1) <= taken->cap) {
        return BASE_OK;
    }
    more.cap = taken->cap == 0 ? FIRST_CAP : 2 * taken->cap;
    more.slots = calloc(more.cap, sizeof(*more.slots));
    if (more.slots == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for cells");
    }
    for (size_t i = 0; i < taken->cap; i++) {
        if (taken->slots[i].at != 0) {
            *slot_of(&more, &taken->slots[i]) = taken->slots[i];
        }
    }
    free(taken->slots);
    *taken = more;
    return BASE_OK;
}

enum base_code store_taken_add(struct store_taken *taken,
                               uint32_t tensor,
                               uint64_t first,
                               bool *ret_is_new,
                               struct base_err *err)
{
    struct store_taken_cell cell = {first + 1, tensor};
    struct store_taken_cell *slot;

    BASE_TRY(grow(taken, err));
    slot = slot_of(taken, &cell);
    *ret_is_new = slot->at == 0;
    taken->n += *ret_is_new;
    *slot = cell;
    return BASE_OK;
}
