/* Laying flats down: which variants a set has, which members each variant,
 * and where in which bucket a member begins.
 *
 * The axes that tell one rank's flat from another's, apart from the flat's own,
 * are those that pin some member (stages, experts) and those that cut some
 * member into parts of unequal size.  An axis that cuts all evenly gives the
 * same offsets at each coordinate, and one that nothing uses too.  One variant
 * per coordinate of these axes; each member is counted into the variants it is
 * in, then laid down there.
 *
 * Memory is linear in members times the variants each is in. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/layout_impl.h"

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for flats");
}

/* Which axes of the mesh (by stride) tell variants apart: see above. */
static bool
is_key(const struct ptc_layout *layout, const bool *seen, struct ptc_digit axis)
{
    for (uint32_t i = 0; i < layout->n_geometries; i++) {
        const struct ptc_geometry *g = layout->geometries[i];

        if (!seen[i]) {
            continue;
        }
        for (uint32_t k = 0; k < g->n_pins; k++) {
            if (g->pins[k].stride == axis.stride) {
                return true;
            }
        }
        if (g->n_list > 0 && g->list.stride == axis.stride) {
            return true;
        }
        for (uint32_t d = 0; d < g->n_dims; d++) {
            for (uint32_t k = 0; k < g->cuts[d]->n_axes; k++) {
                if (g->cuts[d]->axes[k].stride == axis.stride &&
                    !g->cuts[d]->is_uniform) {
                    return true;
                }
            }
        }
    }
    return false;
}

/* Find the keys of @set.  @seen has room for a flag per geometry. */
static void keys_find(const struct ptc_layout *layout,
                      struct ptc_flat_set *set,
                      const struct ptc_mesh *mesh,
                      bool *seen)
{
    for (uint32_t i = 0; i < set->n_members; i++) {
        seen[layout->bound[set->members[i]].geometry] = true;
    }
    set->n_variants = 1;
    for (uint32_t a = 0; a < mesh->n_axes; a++) {
        struct ptc_digit axis = ptc_mesh_digit(mesh, a);

        if (axis.size > 1 && is_key(layout, seen, axis)) {
            set->keys[set->n_keys++] = axis;
            set->n_variants *= axis.size;
        }
    }
    for (uint32_t i = 0; i < set->n_members; i++) {
        seen[layout->bound[set->members[i]].geometry] = false;
    }
}

/* The variants that one tensor is in, as a walk over coordinates of the keys. */
struct variant_walk {
    uint32_t n_keys;
    struct {
        uint32_t n;         /* how many coordinates */
        uint32_t size;      /* of the axis */
        uint32_t first;     /* the only coordinate, when pinned */
        const uint32_t *at; /* a list: coordinate times stride; or NULL */
        uint32_t stride;
        uint32_t idx;
    } keys[PTC_MAX_AXES];
};

static void walk_begin(const struct ptc_layout *layout,
                       const struct ptc_flat_set *set,
                       uint32_t tensor,
                       struct variant_walk *w)
{
    const struct ptc_bound *bound = &layout->bound[tensor];
    const struct ptc_geometry *g = layout->geometries[bound->geometry];

    *w = (struct variant_walk){.n_keys = set->n_keys};
    for (uint32_t i = 0; i < set->n_keys; i++) {
        struct ptc_digit key = set->keys[i];

        w->keys[i].n = key.size;
        w->keys[i].size = key.size;
        w->keys[i].stride = key.stride;
        for (uint32_t k = 0; k < g->n_pins; k++) {
            if (g->pins[k].stride == key.stride) {
                w->keys[i].n = 1;
                w->keys[i].first = ptc_digit_of(key, bound->base);
            }
        }
        if (g->n_list > 0 && g->list.stride == key.stride) {
            w->keys[i].n = g->n_list;
            w->keys[i].at = g->list_at;
        }
    }
}

/* The current variant. */
static uint32_t walk_variant(const struct variant_walk *w)
{
    uint32_t variant = 0;

    for (uint32_t i = 0; i < w->n_keys; i++) {
        uint32_t coord = w->keys[i].at != NULL
                             ? w->keys[i].at[w->keys[i].idx] / w->keys[i].stride
                             : w->keys[i].first + w->keys[i].idx;

        variant = variant * w->keys[i].size + coord;
    }
    return variant;
}

static bool walk_next(struct variant_walk *w)
{
    for (uint32_t i = w->n_keys; i-- > 0;) {
        if (++w->keys[i].idx < w->keys[i].n) {
            return true;
        }
        w->keys[i].idx = 0;
    }
    return false;
}

/* The lowest rank of variant @idx. */
static ptc_rank variant_rank(const struct ptc_flat_set *set, uint32_t idx)
{
    ptc_rank rank = 0;

    for (uint32_t i = set->n_keys; i-- > 0;) {
        rank += idx % set->keys[i].size * set->keys[i].stride;
        idx /= set->keys[i].size;
    }
    return rank;
}

/* Put each member into its variants (position only).  *ret is the one array
 * that all variants share, in order. */
static enum base_code variants_fill(struct ptc_layout *layout,
                                    struct ptc_flat_set *set,
                                    struct ptc_flat_member **ret,
                                    struct base_err *err)
{
    BASE_AUTO_MEM uint32_t *at = calloc(set->n_variants, sizeof(*at));
    struct ptc_flat_member *members;
    struct variant_walk w;
    uint64_t n = 0;

    set->variants = base_arena_alloc(layout->arena, set->n_variants,
                                     sizeof(*set->variants));
    if (at == NULL || set->variants == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < set->n_members; i++) {
        uint64_t n_in = 1;

        walk_begin(layout, set, set->members[i], &w);
        for (uint32_t k = 0; k < w.n_keys; k++) {
            n_in *= w.keys[k].n;
        }
        n += n_in;
        if (n > PTC_LAYOUT_MAX_BYTES / sizeof(*members)) {
            return base_fail(err, BASE_LIMIT,
                             "flat %.*s: too many members on too many ranks",
                             BASE_STR_FMT(set->flat->name));
        }
        do {
            set->variants[walk_variant(&w)].n_members++;
        } while (walk_next(&w));
    }
    members = base_arena_alloc(layout->arena, (size_t)n, sizeof(*members));
    if (members == NULL) {
        return no_mem(err);
    }
    n = 0;
    for (uint32_t v = 0; v < set->n_variants; v++) {
        set->variants[v].members = members + n;
        at[v] = (uint32_t)n;
        n += set->variants[v].n_members;
    }
    for (uint32_t i = 0; i < set->n_members; i++) {
        walk_begin(layout, set, set->members[i], &w);
        do {
            members[at[walk_variant(&w)]++].position = i;
        } while (walk_next(&w));
    }
    *ret = members;
    return BASE_OK;
}

/* Buckets. */

/* Close a bucket of @n elements: what each rank has of it, in *ret. */
static enum base_code bucket_close(const struct ptc_flat_set *set,
                                   uint64_t n,
                                   uint64_t *ret,
                                   struct base_err *err)
{
    uint64_t align = set->flat->align_elems > 1 ? set->flat->align_elems : 1;
    uint64_t step;
    uint64_t padded;

    if (!base_mul_u64(set->n_parts, align, &step) ||
        !base_mul_u64(base_ceil_div(n, step), step, &padded) ||
        padded > INT64_MAX) {
        return base_fail(err, BASE_LIMIT,
                         "flat %.*s: a bucket of more than 2^63 elements",
                         BASE_STR_FMT(set->flat->name));
    }
    *ret = padded / set->n_parts;
    return BASE_OK;
}

/* Does a new bucket begin before member @i? */
static bool bucket_ends(const struct ptc_flat_set *set,
                        const struct ptc_choice *choices,
                        const struct ptc_flat_variant *variant,
                        uint32_t i,
                        uint64_t n_elems)
{
    if (set->flat->is_per_layer) {
        uint32_t before = set->members[variant->members[i - 1].position];
        uint32_t now = set->members[variant->members[i].position];

        return choices[before].layer != choices[now].layer;
    }
    return set->flat->bucket_elems > 0 && n_elems >= set->flat->bucket_elems;
}

/* Lay the members of a variant down; @members and @buckets are its own. */
static enum base_code variant_lay(const struct ptc_layout *layout,
                                  const struct ptc_flat_set *set,
                                  const struct ptc_choice *choices,
                                  uint32_t idx,
                                  struct ptc_flat_member *members,
                                  struct ptc_flat_bucket *buckets,
                                  struct base_err *err)
{
    struct ptc_flat_variant *variant = &set->variants[idx];
    ptc_rank rank = variant_rank(set, idx);
    uint32_t bucket = 0;
    uint64_t at = 0;

    for (uint32_t i = 0; i < variant->n_members; i++) {
        uint32_t tensor = set->members[members[i].position];
        const struct ptc_geometry *g = ptc_geometry_of(layout, tensor);

        if (i > 0 && bucket_ends(set, choices, variant, i, at)) {
            BASE_TRY(bucket_close(set, at, &buckets[bucket].part_elems, err));
            buckets[++bucket].first = i;
            at = 0;
        }
        members[i].bucket = bucket;
        members[i].offset = at;
        at += ptc_geometry_shard_elems(g, rank);
        if (at > INT64_MAX) {
            return base_fail(err, BASE_LIMIT,
                             "flat %.*s: a bucket of more than 2^63 elements",
                             BASE_STR_FMT(set->flat->name));
        }
    }
    BASE_TRY(bucket_close(set, at, &buckets[bucket].part_elems, err));
    buckets[bucket + 1].first = variant->n_members;
    variant->n_buckets = bucket + 1;
    return BASE_OK;
}

/* Sub-byte dtypes: members and parts must begin on a byte, and where a part
 * begins within a member, so must each of the member's rows. */
static enum base_code bytes_check(const struct ptc_layout *layout,
                                  const struct ptc_flat_set *set,
                                  uint32_t idx,
                                  struct base_err *err)
{
    const struct ptc_flat_variant *variant = &set->variants[idx];
    ptc_rank rank = variant_rank(set, idx);

    for (uint32_t i = 0; i < variant->n_members; i++) {
        const struct ptc_flat_member *m = &variant->members[i];
        uint32_t tensor = set->members[m->position];
        const struct ptc_geometry *g = ptc_geometry_of(layout, tensor);
        uint64_t part = variant->buckets[m->bucket].part_elems;
        uint64_t n = ptc_geometry_shard_elems(g, rank);
        uint64_t row = n;

        if (g->align_elems == 1 || n == 0) {
            continue;
        }
        if (g->n_dims > 1) {
            const struct ptc_cut *cut = g->cuts[g->n_dims - 1];

            row = cut->lengths[ptc_cut_part(cut, rank)];
        }
        if (m->offset % g->align_elems != 0 || part % g->align_elems != 0 ||
            n % g->align_elems != 0 ||
            (m->offset / part != (m->offset + n - 1) / part &&
             row % g->align_elems != 0)) {
            return base_fail(
                err, BASE_MISMATCH,
                "flat %.*s, tensor %.*s: a run of a sub-byte dtype begins or "
                "ends within a byte",
                BASE_STR_FMT(set->flat->name),
                BASE_STR_FMT(ptc_table_tensor(layout->table, tensor)->name));
        }
    }
    return BASE_OK;
}

/* Lay all variants down; @members is what variants_fill made. */
static enum base_code variants_lay(struct ptc_layout *layout,
                                   struct ptc_flat_set *set,
                                   const struct ptc_choice *choices,
                                   struct ptc_flat_member *members,
                                   struct base_err *err)
{
    BASE_AUTO_MEM struct ptc_flat_bucket *scratch =
        calloc(set->n_members + (size_t)2, sizeof(*scratch));

    if (scratch == NULL) {
        return no_mem(err);
    }
    for (uint32_t v = 0; v < set->n_variants; v++) {
        struct ptc_flat_variant *variant = &set->variants[v];
        struct ptc_flat_bucket *buckets;

        if (variant->n_members == 0) {
            continue;
        }
        scratch[0].first = 0;
        BASE_TRY(variant_lay(layout, set, choices, v, members, scratch, err));
        members += variant->n_members;
        buckets = base_arena_alloc(
            layout->arena, variant->n_buckets + (size_t)1, sizeof(*buckets));
        if (buckets == NULL) {
            return no_mem(err);
        }
        memcpy(buckets, scratch,
               (variant->n_buckets + (size_t)1) * sizeof(*buckets));
        variant->buckets = buckets;
        if (variant->n_buckets > set->n_names) {
            set->n_names = variant->n_buckets;
        }
        BASE_TRY(bytes_check(layout, set, v, err));
    }
    return BASE_OK;
}

enum base_code ptc_flat_lay(struct ptc_layout *layout,
                            struct ptc_flat_set *set,
                            const struct ptc_choice *choices,
                            bool *seen,
                            struct base_err *err)
{
    uint32_t mesh = ptc_geometry_of(layout, set->members[0])->mesh;
    struct ptc_flat_member *members;

    keys_find(layout, set, &layout->spec->meshes[mesh], seen);
    BASE_TRY(variants_fill(layout, set, &members, err));
    return variants_lay(layout, set, choices, members, err);
}
