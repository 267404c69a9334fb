/* A layout: a spec bound to a table, a pure function
 * (table, tensor, rank) -> boxes, and its inverse (tensor, box) -> ranks.
 *
 * The paper's slicing (sigma) and partitioning (phi).  Both directions are
 * answered from cut points, sorted once per distinct geometry (rule, shape):
 * cost is linear in the pieces that result.  Nothing here knows `tp` or `pp`.
 *
 * What a rank shows of a tensor ("its shard") is a dense tensor: along each
 * dimension the concatenation of one or more ranges (several with segments);
 * or, in a flat, a run of the flat's 1-D bucket slice.  Offsets and strides
 * below are in elements of the *shown* tensor, C order, dimension 0 outermost.
 *
 * Immutable; any thread.  Source: Tenplex (SOSP 2024) section 4; the sorted
 * cut points are our own. */
#ifndef PTC_LAYOUT_H
#define PTC_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "ptc/box.h"
#include "ptc/spec.h"
#include "ptc/table.h"

typedef uint32_t ptc_rank;

struct ptc_layout;
void ptc_layout_free(struct ptc_layout *layout);
BASE_AUTO_DEFINE(ptc_layout);

/* Bind @spec (taken on success) to @table (borrowed: must outlive the layout).
 * Ties that the spec declares must be in the table already (ptc_spec_ties).
 * Errors: BASE_MISMATCH, naming tensor and rule (by line, or its pattern):
 *   a tensor that no rule matches, a rule that decides nothing and is not
 *   optional, more dims in a rule than the tensor has (a tensor with no
 *   dimensions is never cut and takes any rule), segments or cuts that do not
 *   fit the size, a size that is no multiple of `unit`, fewer units than parts
 *   and no divisor of them, a name without a layer (expert) number, counts
 *   that do not add up, stage numbers out of range, a flat of mixed dtypes,
 *   groups or meshes, a run of a sub-byte dtype that is no whole byte.
 *   BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_layout_create(struct ptc_spec **spec,
                                 const struct ptc_table *table,
                                 struct ptc_layout **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

const struct ptc_spec *ptc_layout_spec(const struct ptc_layout *layout);
const struct ptc_table *ptc_layout_table(const struct ptc_layout *layout);
uint32_t ptc_layout_n_ranks(const struct ptc_layout *layout);

/* Add the ties that @spec declares (rules with `tie`) to @table: *ret is a new
 * table, given, or NULL when there is nothing to add.  A declared tie whose
 * target the table lacks is BASE_MISMATCH unless its rule is optional. */
enum base_code ptc_spec_ties(const struct ptc_spec *spec,
                             const struct ptc_table *table,
                             struct ptc_table **ret,
                             struct base_err *err) BASE_MUST_CHECK;

/* One dense box of a shard and where it lies in the shown tensor. */
struct ptc_part {
    struct ptc_box box;            /* in the global tensor */
    uint64_t offset;               /* of box.begin, in the shown tensor */
    uint64_t stride[PTC_MAX_DIMS]; /* per global dimension; 0-d: none */
};

typedef enum base_code (*ptc_part_fn)(void *ctx,
                                      const struct ptc_part *part,
                                      struct base_err *err);

/* Every non-empty box of @tensor on @rank, disjoint, in order of offset.  Ties
 * are answered as tensors of their own.  Nothing for a tensor that is absent
 * or whose shard is empty. */
enum base_code ptc_layout_parts(const struct ptc_layout *layout,
                                uint32_t tensor,
                                ptc_rank rank,
                                ptc_part_fn fn,
                                void *ctx,
                                struct base_err *err) BASE_MUST_CHECK;

/* The same, of what lies within @within: boxes are clipped to it.
 * Cost: those parts, and a bisection per dimension. */
enum base_code ptc_layout_parts_in(const struct ptc_layout *layout,
                                   uint32_t tensor,
                                   ptc_rank rank,
                                   const struct ptc_box *within,
                                   ptc_part_fn fn,
                                   void *ctx,
                                   struct base_err *err) BASE_MUST_CHECK;

/* Set the bit of each tensor (bit t % 64 of ret_bits[t / 64]) that has elements
 * on @rank, and perhaps those of empty shards.  Other bits stay as they are.
 * Cost: the tensors of the rank, and where they are placed: not all tensors. */
void ptc_layout_tensors(const struct ptc_layout *layout,
                        ptc_rank rank,
                        uint64_t *ret_bits);

/* Is @tensor on @rank (perhaps as an empty shard)? */
bool ptc_layout_has(const struct ptc_layout *layout,
                    uint32_t tensor,
                    ptc_rank rank);
/* Is @tensor laid into a flat? */
bool ptc_layout_is_flat(const struct ptc_layout *layout, uint32_t tensor);
/* The shape of the dense shard of @tensor on @rank: what a file shows, or what
 * is laid into the flat.  PTC_MAX_DIMS entries.  Needs ptc_layout_has. */
void ptc_layout_shard_shape(const struct ptc_layout *layout,
                            uint32_t tensor,
                            ptc_rank rank,
                            uint64_t *ret_shape);
/* Ranges of dimension @dim of that shard, in shard order; borrowed. */
struct ptc_range {
    uint64_t begin;
    uint64_t end;
};
const struct ptc_range *ptc_layout_shard_ranges(const struct ptc_layout *layout,
                                                uint32_t tensor,
                                                ptc_rank rank,
                                                uint32_t dim,
                                                uint32_t *ret_n);

/* A cell: the part of one shard that lies in an asked box, and who holds it. */
struct ptc_cell {
    struct ptc_box box; /* within the box that was asked for */
    uint64_t n_holders; /* ranks that hold it, at least 1 */
    uint32_t state_[2 * PTC_MAX_DIMS + 4]; /* the layout's own */
};

typedef enum base_code (*ptc_cell_fn)(void *ctx,
                                      const struct ptc_cell *cell,
                                      struct base_err *err);

/* Cut @box of @tensor along this layout's shards: disjoint cells that cover it
 * exactly, in C order of their first element for dense tensors (of flat offset
 * within each shard for flats).  The inverse of ptc_layout_parts. */
enum base_code ptc_layout_find(const struct ptc_layout *layout,
                               uint32_t tensor,
                               const struct ptc_box *box,
                               ptc_cell_fn fn,
                               void *ctx,
                               struct base_err *err) BASE_MUST_CHECK;

/* How many cells ptc_layout_find cuts @box (NULL: all of the tensor) into, at
 * least so many for a flat; UINT64_MAX stands for it and more.  Counts nothing:
 * a bisection per dimension. */
uint64_t ptc_layout_n_cells(const struct ptc_layout *layout,
                            uint32_t tensor,
                            const struct ptc_box *box);

/* Holder @k (< n_holders) of a cell.  Fixed order; holder 0 is the lowest
 * rank; each k is another rank. */
ptc_rank ptc_cell_holder(const struct ptc_layout *layout,
                         const struct ptc_cell *cell,
                         uint64_t k);

/* What a rank's files show.  Dense tensors under their own names; each flat as
 * 1-D tensors NAME.BUCKET (of optimizer states: optim.STATE.NAME.BUCKET). */
struct ptc_shown {
    struct base_str name; /* valid as long as the layout */
    struct base_str group;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[PTC_MAX_DIMS];
    uint32_t tensor; /* of a dense one; PTC_NONE for a flat bucket */
    uint32_t flat_;  /* of a flat bucket: the layout's own, else PTC_NONE */
    uint32_t bucket_;
};

typedef enum base_code (*ptc_shown_fn)(void *ctx,
                                       const struct ptc_shown *shown,
                                       struct base_err *err);

/* Every tensor that rank @rank shows in group @group (all when .len is 0), in
 * order of name.  Empty shards are shown with a zero dimension. */
enum base_code ptc_layout_shown(const struct ptc_layout *layout,
                                ptc_rank rank,
                                struct base_str group,
                                ptc_shown_fn fn,
                                void *ctx,
                                struct base_err *err) BASE_MUST_CHECK;

/* The parts of all tensors in one shown tensor, in order of offset.  For a
 * flat bucket the tensor differs from call to call; padding is in no part. */
typedef enum base_code (*ptc_shown_part_fn)(void *ctx,
                                            uint32_t tensor,
                                            const struct ptc_part *part,
                                            struct base_err *err);
enum base_code ptc_layout_shown_parts(const struct ptc_layout *layout,
                                      ptc_rank rank,
                                      const struct ptc_shown *shown,
                                      ptc_shown_part_fn fn,
                                      void *ctx,
                                      struct base_err *err) BASE_MUST_CHECK;

/* What the `retile` metadata of a file says of one shown tensor: a JSON value,
 *   dense, one range per dim  {"shape":[S..],"offset":[O..]}
 *   dense, segments           {"shape":[S..],"ranges":[[[b,e],..],..]}
 *   flat                      {"flat":[numel with padding, begin of this part],
 *                              "members":[{"name":..,"at":N,"shape":[..],
 *                                          "ranges":[..]},..]}
 * Members are those with elements in this part and those without any at all;
 * `at` is in the whole bucket, `shape` global, `ranges` as for segments.
 * Appended to @buf; a pure function of (table, layout, rank, shown). */
enum base_code ptc_layout_shown_json(const struct ptc_layout *layout,
                                     ptc_rank rank,
                                     const struct ptc_shown *shown,
                                     struct base_buf *buf,
                                     struct base_err *err) BASE_MUST_CHECK;

/* Where an object of rank @rank under @to comes from under @from: the lowest
 * source rank whose coordinates agree (axis by axis; an axis that a mesh lacks
 * is coordinate 0).  *ret_rank is PTC_NONE when the object is dropped there.
 * Errors: BASE_MISMATCH  a coordinate that @from did not have, on_change refuse */
enum base_code ptc_object_source(const struct ptc_layout *from,
                                 const struct ptc_layout *to,
                                 struct base_str object,
                                 ptc_rank rank,
                                 ptc_rank *ret_rank,
                                 struct base_err *err) BASE_MUST_CHECK;

#endif
