/* Pieces: boxes of tensors and where their bytes are.
 *
 * A piece is a box, a blob, the byte offset of its first element and a byte
 * stride per dimension.  A `struct ptc_pieces` is a searchable set of them, per
 * tensor: what a source has, what a set of target files wants, and (later)
 * what a version's manifest says.  Ties own no pieces: ask for their root.
 *
 * Built once, then immutable; any thread.  Pure. */
#ifndef PTC_PIECES_H
#define PTC_PIECES_H

#include <stdint.h>

#include "ptc/box.h"
#include "ptc/file.h"
#include "ptc/table.h"

struct ptc_piece {
    struct ptc_box box;
    uint32_t blob;
    uint64_t offset;               /* bytes: of the element box.begin */
    uint64_t stride[PTC_MAX_DIMS]; /* bytes; but bits for a dtype whose element
                                      is no whole byte: every run that results
                                      is whole bytes again */
};

struct ptc_pieces;
struct ptc_pieces *ptc_pieces_create(const struct ptc_table *table);
void ptc_pieces_free(struct ptc_pieces *pieces);
BASE_AUTO_DEFINE(ptc_pieces);

/* Add a piece of @tensor (not a tie).  Empty boxes are ignored.
 * Errors: BASE_BAD_ARG (outside the tensor), BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_pieces_add(struct ptc_pieces *pieces,
                              uint32_t tensor,
                              const struct ptc_piece *piece,
                              struct base_err *err) BASE_MUST_CHECK;
/* Sort for searching; no piece may be added afterwards. */
enum base_code ptc_pieces_seal(struct ptc_pieces *pieces,
                               struct base_err *err) BASE_MUST_CHECK;
/* Does every tensor's every element lie in exactly one piece?  Errors:
 * BASE_MISMATCH, naming the tensor and a box that is missing or twice there. */
enum base_code ptc_pieces_check(const struct ptc_pieces *pieces,
                                struct base_err *err) BASE_MUST_CHECK;

/* The same pieces under another table that has all their tensors (one with
 * more ties, say; pieces of what is a tie there are left out).  Sealed, given.
 * Errors: BASE_MISMATCH  @table lacks a tensor that has pieces */
enum base_code ptc_pieces_rebind(const struct ptc_pieces *pieces,
                                 const struct ptc_table *table,
                                 struct ptc_pieces **ret,
                                 struct base_err *err) BASE_MUST_CHECK;

uint64_t ptc_pieces_n(const struct ptc_pieces *pieces);
/* The table they were made for. */
const struct ptc_table *ptc_pieces_table(const struct ptc_pieces *pieces);
/* The pieces that meet @box of @tensor (its root is looked up), each cut to
 * the box, offset moved along; in order of the uncut pieces' (box.begin in C
 * order, blob).  Cost: linear in the results, logarithmic in the pieces (a
 * packed tree of bounding boxes).
 * Errors: fn's; BASE_UNSUPPORTED  a cut inside a byte (sub-byte dtypes) */
enum base_code ptc_pieces_find(const struct ptc_pieces *pieces,
                               uint32_t tensor,
                               const struct ptc_box *box,
                               ptc_piece_fn fn,
                               void *ctx,
                               struct base_err *err) BASE_MUST_CHECK;

/* Cut a piece to a box that lies inside it: box and offset change.  The box
 * must begin on a whole byte (ptc_pieces_find refuses others). */
void ptc_piece_cut(struct ptc_piece *piece,
                   const struct ptc_tensor *tensor,
                   const struct ptc_box *box);

#endif
