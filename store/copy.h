/* Copy: all bytes of a target's files, out of a source's blobs, each source
 * byte read at most once, and only if a file wants it.
 *
 * The unit of work is a block: a box of one tensor whose inner dimensions are
 * whole, or several small tensors.  What a block needs of a source file is one
 * read wherever it is contiguous there (pieces that interleave are read at
 * once), and what a target file needs of it is one write: straight out of the
 * bytes read where they are in that order, else put together in scratch.
 * Replicas of a target are further writes of the same bytes.  Threads take
 * blocks; memory is two blocks a thread. */
#ifndef STORE_COPY_H
#define STORE_COPY_H

#include <stdint.h>

#include "ptc/file.h"
#include "store/source.h"

/* One target file: made, sized and with its header written by the caller. */
struct store_copy_file {
    const struct ptc_file *file;
    int fd;
    const char *label;
};

struct store_copy_options {
    unsigned n_threads;    /* 0: the processors, at most 8 */
    uint64_t memory_bytes; /* for all buffers; 0: 128 MiB.  At least 1 MiB per
                               thread is needed */
    uint64_t block_bytes;  /* the most in a block; 0: 4 MiB, or less where
                              memory_bytes asks for it.  For tests */
    /* Called now and then with bytes written so far and in all, from any one
     * thread at a time; return false to stop (BASE_INTERRUPTED). */
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void *progress_ctx;
};

/* @pieces are over the same table as the files' layouts.  Errors: BASE_CHANGED
 * where a file of @source, an object too, is not as it was when it was opened:
 * what was written is then worth nothing; BASE_INTERRUPTED; BASE_BAD_ARG (too
 * little memory); those of reading and writing */
enum base_code store_copy(const struct store_source *source,
                          const struct ptc_pieces *pieces,
                          const struct store_copy_file *files,
                          uint32_t n_files,
                          const struct store_copy_options *options,
                          struct base_err *err) BASE_MUST_CHECK;

/* Compare two sets of pieces of equal tables: each box of @a's pieces with the
 * same box in @b's.  Errors: BASE_MISMATCH naming tensor, the first element
 * that differs, and both files.  @tensor_map gives b's index for each of a's
 * (NULL: the same; PTC_NONE: not asked, a's has no pieces). */
enum base_code store_compare(const struct store_source *a,
                             const struct ptc_pieces *a_pieces,
                             const struct store_source *b,
                             const struct ptc_pieces *b_pieces,
                             const uint32_t *tensor_map,
                             const struct store_copy_options *options,
                             struct base_err *err) BASE_MUST_CHECK;

/* Compare two files whole, such as objects.
 * Errors: BASE_MISMATCH (both are named), BASE_CHANGED, BASE_IO */
enum base_code store_compare_blobs(const struct store_blob *a,
                                   const struct store_blob *b,
                                   struct base_err *err) BASE_MUST_CHECK;

#endif
