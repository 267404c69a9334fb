/* Which tensors a rank has, without asking tensor by tensor.
 *
 * Dense tensors are grouped by where they are placed.  A kind is what places:
 * the axes of the single pins and the list of stages; kinds are as few as a
 * spec's rules.  A kind and a base are a group: the tensors of a group are on
 * the same ranks.  Given a rank, each kind has one base at most, and the group
 * is found by bisection.
 *
 * The members of a flat that a rank has are a run in each bucket: its first is
 * found by bisection too. */
#include <stdlib.h>

#include "base/num.h"
#include "ptc/layout_impl.h"

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for a layout");
}

static bool digit_eq(struct ptc_digit a, struct ptc_digit b)
{
    return a.size == b.size && a.stride == b.stride;
}

/* Do the two place in the same way? */
static bool kind_eq(const struct ptc_geometry *a, const struct ptc_geometry *b)
{
    if (a->n_pins != b->n_pins || a->n_list != b->n_list) {
        return false;
    }
    for (uint32_t i = 0; i < a->n_pins; i++) {
        if (!digit_eq(a->pins[i], b->pins[i])) {
            return false;
        }
    }
    return a->n_list == 0 || (digit_eq(a->list, b->list) &&
                              memcmp(a->list_at, b->list_at,
                                     a->n_list * sizeof(*a->list_at)) == 0);
}

/* The kind of each geometry, into @kind_of. */
static enum base_code
kinds_make(struct ptc_layout *layout, uint32_t *kind_of, struct base_err *err)
{
    const struct ptc_geometry **kinds =
        base_arena_alloc(layout->arena, layout->n_geometries + (size_t)1,
                         sizeof(struct ptc_geometry *));
    uint32_t n = 0;

    if (kinds == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < layout->n_geometries; i++) {
        uint32_t k = 0;

        while (k < n && !kind_eq(kinds[k], layout->geometries[i])) {
            k++;
        }
        if (k == n) {
            kinds[n++] = layout->geometries[i];
        }
        kind_of[i] = k;
    }
    layout->kinds = kinds;
    layout->n_kinds = n;
    return BASE_OK;
}

/* Groups while they are made: found by hash. */
struct grouping {
    uint32_t *slots; /* group + 1, or 0 */
    uint32_t mask;
    uint32_t *group_of; /* per tensor; PTC_NONE: in a flat */
    struct ptc_group *groups;
    uint32_t n;
    uint32_t n_dense;
};

static void grouping_done(struct grouping *g)
{
    free(g->slots);
    free(g->group_of);
    free(g->groups);
}

static uint32_t group_get(struct grouping *g, uint32_t kind, uint32_t base)
{
    uint64_t key = ((uint64_t)kind << 32 | base) * 0x9e3779b97f4a7c15u;
    uint32_t at = (uint32_t)(key >> 32) & g->mask;

    for (; g->slots[at] != 0; at = (at + 1) & g->mask) {
        const struct ptc_group *group = &g->groups[g->slots[at] - 1];

        if (group->kind == kind && group->base == base) {
            return g->slots[at] - 1;
        }
    }
    g->groups[g->n] = (struct ptc_group){.kind = kind, .base = base};
    g->slots[at] = ++g->n;
    return g->n - 1;
}

/* Find the group of each dense tensor, and count. */
static enum base_code groups_find(const struct ptc_layout *layout,
                                  const uint32_t *kind_of,
                                  struct grouping *g,
                                  struct base_err *err)
{
    size_t n_slots = 16;

    while (n_slots < 2 * (size_t)layout->n_tensors) {
        n_slots *= 2;
    }
    g->mask = (uint32_t)(n_slots - 1);
    g->slots = calloc(n_slots, sizeof(*g->slots));
    g->group_of = calloc(layout->n_tensors + (size_t)1, sizeof(*g->group_of));
    g->groups = calloc(layout->n_tensors + (size_t)1, sizeof(*g->groups));
    if (g->slots == NULL || g->group_of == NULL || g->groups == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < layout->n_tensors; i++) {
        const struct ptc_bound *bound = &layout->bound[i];

        if (bound->flat_set != PTC_NONE) {
            g->group_of[i] = PTC_NONE;
            continue;
        }
        g->group_of[i] = group_get(g, kind_of[bound->geometry], bound->base);
        g->groups[g->group_of[i]].n_tensors++;
        g->n_dense++;
    }
    return BASE_OK;
}

static int group_cmp(const void *a, const void *b)
{
    const struct ptc_group *x = a;
    const struct ptc_group *y = b;

    if (x->kind != y->kind) {
        return x->kind < y->kind ? -1 : 1;
    }
    return (x->base > y->base) - (x->base < y->base);
}

/* Move the groups and their tensors into the layout. */
static enum base_code
groups_keep(struct ptc_layout *layout, struct grouping *g, struct base_err *err)
{
    uint32_t *tensors =
        base_arena_alloc(layout->arena, g->n_dense, sizeof(*tensors));
    struct ptc_group *groups =
        base_arena_alloc(layout->arena, g->n, sizeof(*groups));
    uint32_t n = 0;

    if (tensors == NULL || groups == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < g->n; i++) {
        g->groups[i].tensors = tensors + n;
        n += g->groups[i].n_tensors;
        g->groups[i].n_tensors = 0;
    }
    for (uint32_t i = 0; i < layout->n_tensors; i++) {
        if (g->group_of[i] != PTC_NONE) {
            struct ptc_group *group = &g->groups[g->group_of[i]];

            tensors[(group->tensors - tensors) + group->n_tensors++] = i;
        }
    }
    qsort(g->groups, g->n, sizeof(*g->groups), group_cmp);
    memcpy(groups, g->groups, g->n * sizeof(*groups));
    layout->groups = groups;
    layout->n_groups = g->n;
    return BASE_OK;
}

enum base_code ptc_layout_group(struct ptc_layout *layout, struct base_err *err)
{
    BASE_AUTO_MEM uint32_t *kind_of =
        calloc(layout->n_geometries + (size_t)1, sizeof(*kind_of));
    __attribute__((cleanup(grouping_done))) struct grouping grouping = {0};

    if (kind_of == NULL) {
        return no_mem(err);
    }
    BASE_TRY(kinds_make(layout, kind_of, err));
    BASE_TRY(groups_find(layout, kind_of, &grouping, err));
    return grouping.n == 0 ? BASE_OK : groups_keep(layout, &grouping, err);
}

static void bit_set(uint64_t *bits, uint32_t idx)
{
    bits[idx / 64] |= UINT64_C(1) << idx % 64;
}

/* The group of a kind that @rank has, or NULL. */
static const struct ptc_group *
group_of_rank(const struct ptc_layout *layout, uint32_t kind, ptc_rank rank)
{
    const struct ptc_geometry *g = layout->kinds[kind];
    struct ptc_group key = {.kind = kind};

    if (!ptc_geometry_lists(g, rank)) {
        return NULL;
    }
    for (uint32_t i = 0; i < g->n_pins; i++) {
        key.base += ptc_digit_of(g->pins[i], rank) * g->pins[i].stride;
    }
    return bsearch(&key, layout->groups, layout->n_groups, sizeof(key),
                   group_cmp);
}

/* Members of flats that have elements on @rank. */
static void flat_tensors(const struct ptc_layout *layout,
                         const struct ptc_flat_set *set,
                         ptc_rank rank,
                         uint64_t *ret_bits)
{
    const struct ptc_flat_variant *variant = ptc_flat_variant_of(set, rank);
    uint32_t part = ptc_flat_part(set, rank);

    for (uint32_t b = 0; b < variant->n_buckets; b++) {
        uint64_t begin = part * variant->buckets[b].part_elems;
        uint64_t end = begin + variant->buckets[b].part_elems;

        for (uint32_t i =
                 ptc_flat_member_at(layout, set, variant, b, rank, begin);
             i < variant->buckets[b + 1].first &&
             variant->members[i].offset < end;
             i++) {
            bit_set(ret_bits, set->members[variant->members[i].position]);
        }
    }
}

void ptc_layout_tensors(const struct ptc_layout *layout,
                        ptc_rank rank,
                        uint64_t *ret_bits)
{
    for (uint32_t k = 0; layout->n_groups > 0 && k < layout->n_kinds; k++) {
        const struct ptc_group *group = group_of_rank(layout, k, rank);

        for (uint32_t i = 0; group != NULL && i < group->n_tensors; i++) {
            bit_set(ret_bits, group->tensors[i]);
        }
    }
    for (uint32_t s = 0; s < layout->n_flat_sets; s++) {
        flat_tensors(layout, &layout->flat_sets[s], rank, ret_bits);
    }
}
