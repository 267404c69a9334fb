/* Bytes for shown files without any checkpoint: every element of every tensor
 * has a value that is a function of (root tensor, global index), so what a file
 * must contain is known from its parts alone. */
#ifndef TESTS_PROP_FILE_BYTES_H
#define TESTS_PROP_FILE_BYTES_H

#include <stdint.h>

#include "ptc/file.h"
#include "ptc/pieces.h"
#include "ptc/view.h"

/* The files of one state: of each rank and group, in that order. */
struct file_set {
    uint32_t n;
    struct ptc_file **files;
    uint8_t **bytes; /* of each; NULL until filled */
};

void file_set_done(struct file_set *set);

/* All files of a layout (rank files), without bytes. */
enum base_code file_set_ranks(const struct ptc_layout *layout,
                              struct file_set *ret,
                              struct base_err *err) BASE_MUST_CHECK;
/* hf/ of a whole layout, in files of at most @max_bytes, then npy/. */
enum base_code file_set_whole(const struct ptc_layout *whole,
                              uint64_t max_bytes,
                              struct file_set *ret,
                              struct base_err *err) BASE_MUST_CHECK;
/* Give every file the bytes that it must have. */
enum base_code file_set_fill(struct file_set *set,
                             struct base_err *err) BASE_MUST_CHECK;

/* Where the files of @layout have every byte of the table once, from the lowest
 * rank: blob i is file i.  Sealed, given. */
enum base_code file_set_pieces(const struct file_set *set,
                               const struct ptc_layout *layout,
                               struct ptc_pieces **ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* Read @n bytes of a view over the blobs of @set, by ptc_cursor_next or (when
 * @by_rows) ptc_cursor_next_rows; returns how many it had. */
uint64_t file_set_read(const struct file_set *set,
                       const struct ptc_view *view,
                       uint64_t offset,
                       uint64_t n,
                       bool by_rows,
                       uint8_t *to);

#endif
