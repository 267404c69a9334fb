/* Inside a layout; only ptc/layout*.c include this.
 *
 *   tensor -> rule            layout_rules.c   first match, optimizer states, ties
 *   names -> numbers          layout_numbers.c layers, experts, coordinates
 *   tensor -> geometry, pins  layout_place.c   cuts shared by (rule, shape)
 *   tensor -> flat, position  layout_flat.c, layout_flat_lay.c
 *   parts, find, holders      layout_dense.c, layout_flat_parts.c
 *   rank -> tensors           layout_ranks.c
 *   shown tensors             layout_shown.c
 *
 * A geometry is what all tensors of one rule, shape and dtype width share: a
 * cut per dimension, the axes that place whole tensors (pins: stages, experts)
 * and the axes that nothing uses (free: replicas).  A rank number is the sum of
 * what each axis adds to it, so a tensor's single pins are one number, `base`,
 * and holders are sums. */
#ifndef PTC_LAYOUT_IMPL_H
#define PTC_LAYOUT_IMPL_H

#include "ptc/cut.h"
#include "ptc/layout.h"

#define PTC_LAYOUT_MAX_BYTES (UINT64_C(4) << 30)

struct ptc_geometry {
    uint32_t rule;
    uint32_t n_dims;
    uint32_t align_elems; /* elements in the least whole number of bytes; 1
                             unless the dtype is sub-byte */
    bool is_whole;        /* a one-element state: nothing cut, no flat */
    uint32_t mesh;
    uint32_t flat; /* index of the spec's flats, or PTC_NONE */
    const uint64_t *shape;
    const struct ptc_cut *cuts[PTC_MAX_DIMS]; /* n_dims, never NULL */
    uint32_t n_pins;                          /* axes of `base`, 0 to 2 */
    struct ptc_digit pins[2];
    uint32_t n_list; /* a stage list: coordinates on `list`, ascending; 0: no */
    struct ptc_digit list;
    const uint32_t *list_at; /* coordinate times stride */
    uint32_t n_free;         /* axes that nothing uses, sizes > 1 */
    struct ptc_digit free[PTC_MAX_AXES];
    uint32_t n_over; /* axes of the flat, sizes > 1 */
    struct ptc_digit over[PTC_MAX_AXES];
    uint32_t n_free_ranks; /* product of the free sizes and of n_list */
};

/* A tensor, bound. */
struct ptc_bound {
    uint32_t geometry;
    uint32_t base;     /* what its single pins add to a rank */
    uint32_t flat_set; /* PTC_NONE: dense */
    uint32_t position; /* among the members of its flat set */
};

/* A member of a flat as one variant has it. */
struct ptc_flat_member {
    uint32_t position;
    uint32_t bucket;
    uint64_t offset; /* in the bucket */
};

struct ptc_flat_bucket {
    uint64_t part_elems; /* of each rank's part, with padding */
    uint32_t first;      /* member */
};

/* What the ranks that agree on the axes that matter have of a flat. */
struct ptc_flat_variant {
    uint32_t n_members;
    uint32_t n_buckets;
    const struct ptc_flat_member *members; /* by position */
    const struct ptc_flat_bucket *buckets; /* n_buckets + 1: `first` only */
};

/* One flat of one optimizer state (or of plain tensors). */
struct ptc_flat_set {
    const struct ptc_flat *flat;
    struct base_str state; /* .len 0: plain tensors */
    struct base_str group;
    enum ptc_dtype dtype;
    uint32_t n_parts;
    uint32_t n_members;
    const uint32_t *members; /* tensors, by position */
    uint32_t n_over;         /* the axes of the flat, first slowest */
    struct ptc_digit over[PTC_MAX_AXES];
    uint32_t n_keys; /* axes that tell variants apart, first slowest */
    struct ptc_digit keys[PTC_MAX_AXES];
    uint32_t n_variants;
    struct ptc_flat_variant *variants;
    uint32_t n_names; /* the most buckets of a variant */
    const struct base_str *names;
};

/* A bucket's name, for listing what is shown in order. */
struct ptc_bucket_name {
    struct base_str name;
    uint32_t flat_set;
    uint32_t bucket;
};

/* Dense tensors that are on the same ranks. */
struct ptc_group {
    uint32_t kind; /* index into the layout's kinds */
    uint32_t base;
    uint32_t n_tensors;
    const uint32_t *tensors; /* ascending */
};

struct ptc_layout {
    struct ptc_spec *spec;
    const struct ptc_table *table;
    struct base_arena *arena;
    uint32_t n_tensors;
    struct ptc_bound *bound; /* by tensor */
    uint32_t n_geometries;
    struct ptc_geometry **geometries;
    uint32_t n_flat_sets;
    struct ptc_flat_set *flat_sets;
    uint32_t n_bucket_names;
    struct ptc_bucket_name *bucket_names; /* sorted by name */
    uint32_t n_kinds; /* of ways to place: see layout_ranks.c */
    const struct ptc_geometry **kinds; /* one of each */
    uint32_t n_groups;
    const struct ptc_group *groups; /* by kind, base */
};

/* What binding knows of a tensor before it is placed. */
struct ptc_choice {
    uint32_t rule;
    uint32_t namer;  /* the tensor whose name matched the rule: numbers are
                        read from it */
    uint32_t layer;  /* number, or PTC_NONE */
    uint32_t expert; /* number, or PTC_NONE */
    bool is_whole;   /* a one-element state */
};

/* Fill in rule, namer and is_whole for every tensor. */
enum base_code ptc_layout_choose(const struct ptc_spec *spec,
                                 const struct ptc_table *table,
                                 struct ptc_choice *choices,
                                 struct base_err *err) BASE_MUST_CHECK;

/* The distinct numbers of a kind (layers, experts) that names have, and the
 * coordinate of each on its axis, per mesh. */
struct ptc_numbers {
    const struct ptc_numbered *how;
    const char *what; /* "stages", "experts" */
    uint32_t *found;  /* sorted, malloc'ed */
    uint32_t n_found;
    uint32_t *coords[PTC_MAX_MESHES]; /* NULL until needed, malloc'ed */
};

/* Sort and keep one of each; returns how many are left. */
uint32_t ptc_sort_distinct(uint32_t *items, uint32_t n);

void ptc_numbers_done(struct ptc_numbers *numbers);

/* Read the numbers that rules ask for into @choices, and find the distinct
 * ones. */
enum base_code ptc_numbers_read(const struct ptc_layout *layout,
                                struct ptc_choice *choices,
                                struct ptc_numbers *stages,
                                struct ptc_numbers *experts,
                                struct base_err *err) BASE_MUST_CHECK;

/* The coordinate of @number on mesh @mesh_idx (which has the axis). */
enum base_code ptc_numbers_coord(struct ptc_numbers *numbers,
                                 const struct ptc_spec *spec,
                                 uint32_t mesh_idx,
                                 uint32_t number,
                                 struct ptc_digit *ret_digit,
                                 uint32_t *ret,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Make geometries and bound tensors; fills in choices' layer where a flat or a
 * stage asks for it. */
enum base_code ptc_layout_place(struct ptc_layout *layout,
                                struct ptc_choice *choices,
                                struct base_err *err) BASE_MUST_CHECK;

/* Make the flat sets. */
enum base_code ptc_layout_flatten(struct ptc_layout *layout,
                                  const struct ptc_choice *choices,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Group the dense tensors by where they are placed. */
enum base_code ptc_layout_group(struct ptc_layout *layout,
                                struct base_err *err) BASE_MUST_CHECK;

/* Fill in the variants of a set that has its members.  @seen has a flag per
 * geometry, false before and after. */
enum base_code ptc_flat_lay(struct ptc_layout *layout,
                            struct ptc_flat_set *set,
                            const struct ptc_choice *choices,
                            bool *seen,
                            struct base_err *err) BASE_MUST_CHECK;

/* "rule 'PATTERN' (line N)" into @text (at least PTC_RULE_TEXT_BYTES). */
#define PTC_RULE_TEXT_BYTES 160
const char *ptc_rule_text(const struct ptc_rule *rule, char *text);

static inline const struct ptc_geometry *
ptc_geometry_of(const struct ptc_layout *layout, uint32_t tensor)
{
    return layout->geometries[layout->bound[tensor].geometry];
}

/* The part of the flat @set that @rank has. */
static inline uint32_t ptc_flat_part(const struct ptc_flat_set *set,
                                     ptc_rank rank)
{
    uint32_t part = 0;

    for (uint32_t i = 0; i < set->n_over; i++) {
        part = part * set->over[i].size + ptc_digit_of(set->over[i], rank);
    }
    return part;
}

static inline const struct ptc_flat_variant *
ptc_flat_variant_of(const struct ptc_flat_set *set, ptc_rank rank)
{
    uint32_t variant = 0;

    for (uint32_t i = 0; i < set->n_keys; i++) {
        variant =
            variant * set->keys[i].size + ptc_digit_of(set->keys[i], rank);
    }
    return &set->variants[variant];
}

/* The member at @position; NULL when the variant lacks it. */
const struct ptc_flat_member *
ptc_flat_member_find(const struct ptc_flat_variant *variant, uint32_t position);

/* The first member of bucket @bucket that ends past @at, or one past the
 * bucket's last. */
uint32_t ptc_flat_member_at(const struct ptc_layout *layout,
                            const struct ptc_flat_set *set,
                            const struct ptc_flat_variant *variant,
                            uint32_t bucket,
                            ptc_rank rank,
                            uint64_t at);

/* Is @rank in the stages of @geometry's list?  Yes when it has none. */
bool ptc_geometry_lists(const struct ptc_geometry *geometry, ptc_rank rank);

/* The number of elements of the dense shard of @geometry on @rank. */
uint64_t ptc_geometry_shard_elems(const struct ptc_geometry *geometry,
                                  ptc_rank rank);

/* Walk the boxes that ranges @sub (a box of the shard on @rank, in its own
 * coordinates) stands for.  @offset is that of the shard's first element in
 * what is shown (modulo 2^64: it may lie before it). */
enum base_code ptc_shard_parts(const struct ptc_geometry *geometry,
                               ptc_rank rank,
                               const struct ptc_box *sub,
                               uint64_t offset,
                               ptc_part_fn fn,
                               void *ctx,
                               struct base_err *err) BASE_MUST_CHECK;

/* What of the shard on @rank lies within @within (of the tensor; NULL: all), in
 * the shard's own coordinates: one box, for ranges ascend. */
void ptc_shard_within(const struct ptc_geometry *geometry,
                      ptc_rank rank,
                      const struct ptc_box *within,
                      struct ptc_box *ret);

/* The parts of one flat member on a rank that holds it, within @within. */
enum base_code ptc_flat_parts(const struct ptc_layout *layout,
                              uint32_t tensor,
                              const struct ptc_flat_member *member,
                              ptc_rank rank,
                              const struct ptc_box *within,
                              ptc_part_fn fn,
                              void *ctx,
                              struct base_err *err) BASE_MUST_CHECK;

/* Holder @k of a cell of a dense tensor; of a flat's, the one whose coordinates
 * on the axes of the flat are 0.  Digits of @k, fastest first: free axes, stage
 * list, dimensions; the last of each first. */
ptc_rank ptc_dense_holder(const struct ptc_geometry *geometry,
                          uint32_t base,
                          const struct ptc_cell *cell,
                          uint64_t k);

/* Cut one dense cell (runs set in @cell->state_) along the flat's parts. */
enum base_code ptc_flat_cells(const struct ptc_layout *layout,
                              uint32_t tensor,
                              const struct ptc_cell *cell,
                              ptc_cell_fn fn,
                              void *ctx,
                              struct base_err *err) BASE_MUST_CHECK;
ptc_rank ptc_flat_holder(const struct ptc_layout *layout,
                         const struct ptc_cell *cell,
                         uint64_t k);

/* Where a cell's state_ has what. */
enum {
    PTC_CELL_TENSOR = 0,
    PTC_CELL_RUNS = 1,                  /* one per dimension */
    PTC_CELL_LOWEST = 1 + PTC_MAX_DIMS, /* a flat's: which holder is lowest */
};

#endif
