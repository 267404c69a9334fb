/* A shown file: its header bytes and, behind them, tensors with their places.
 *
 * This is the whole of what a file of a layout looks like, before anyone knows
 * where the bytes come from; a pure function of (table, layout, rank, group),
 * so `retile convert` and the mount make byte-identical files.
 *
 * Immutable; any thread; borrows the layout (or table) it was made from. */
#ifndef PTC_FILE_H
#define PTC_FILE_H

#include <stdint.h>

#include "ptc/layout.h"

struct ptc_file_entry {
    uint64_t offset;        /* of the tensor's first byte in the file */
    uint64_t n_bytes;       /* with a flat's padding */
    struct ptc_shown shown; /* what stands there */
};

struct ptc_file;
void ptc_file_free(struct ptc_file *file);
BASE_AUTO_DEFINE(ptc_file);

/* ranks/RRR/GROUP.safetensors.  *ret is NULL when the rank shows no tensor of
 * the group (no file then). */
enum base_code ptc_file_create_rank(const struct ptc_layout *layout,
                                    ptc_rank rank,
                                    struct base_str group,
                                    struct ptc_file **ret,
                                    struct base_err *err) BASE_MUST_CHECK;

/* hf/GROUP[-%05d-of-%05d].safetensors: the tensors of one group, ties left out
 * (the metadata names them), greedily in order of name into files of at most
 * @max_bytes of data.  @whole is the layout of ptc_spec_whole.
 * *ret_n files, given each (the array too, from malloc); none (*ret NULL) when
 * there is no such group.  A file names the ties whose target it has. */
#define PTC_HF_MAX_BYTES 5000000000u
enum base_code ptc_file_create_hf(const struct ptc_layout *whole,
                                  struct base_str group,
                                  uint64_t max_bytes,
                                  struct ptc_file ***ret,
                                  uint32_t *ret_n,
                                  struct base_err *err) BASE_MUST_CHECK;

/* npy/NAME.npy, whose data begin at a multiple of 4096.
 * Errors: BASE_UNSUPPORTED (sub-byte dtype) */
enum base_code ptc_file_create_npy(const struct ptc_layout *whole,
                                   uint32_t tensor,
                                   struct ptc_file **ret,
                                   struct base_err *err) BASE_MUST_CHECK;

struct base_str ptc_file_header(const struct ptc_file *file);
uint64_t ptc_file_n_bytes(const struct ptc_file *file); /* header and data */
uint32_t ptc_file_n_entries(const struct ptc_file *file);
const struct ptc_file_entry *ptc_file_entry(const struct ptc_file *file,
                                            uint32_t idx);
const struct ptc_layout *ptc_file_layout(const struct ptc_file *file);
ptc_rank ptc_file_rank(const struct ptc_file *file);

/* Visit the parts of entry @idx, in order of offset, as pieces whose offset and
 * strides are bytes of this file (ptc_layout_shown_parts, scaled and moved;
 * strides of sub-byte dtypes in bits, see ptc/pieces.h).  The pieces' blob is
 * 0; the tensor may be a tie. */
struct ptc_piece;
typedef enum base_code (*ptc_piece_fn)(void *ctx,
                                       uint32_t tensor,
                                       const struct ptc_piece *piece,
                                       struct base_err *err);
enum base_code ptc_file_pieces(const struct ptc_file *file,
                               uint32_t idx,
                               ptc_piece_fn fn,
                               void *ctx,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
