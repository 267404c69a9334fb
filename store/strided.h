/* Bytes of one box in two places: runs that are contiguous in both. */
#ifndef STORE_STRIDED_H
#define STORE_STRIDED_H

#include <stdbool.h>
#include <stddef.h>

#include "ptc/dtype.h"
#include "ptc/pieces.h"

/* Loops over runs, the outermost first; strides in bytes. */
struct store_strided {
    uint32_t n_loops;
    uint64_t count[PTC_MAX_DIMS];
    uint64_t a_step[PTC_MAX_DIMS];
    uint64_t b_step[PTC_MAX_DIMS];
    uint64_t run_bytes;
    uint64_t n_runs;
    bool is_same; /* both places have the same steps */
};

/* Plan the loops for @box, whose bytes have the strides of pieces @a and @b
 * (bits for sub-byte dtypes).  Errors: BASE_UNSUPPORTED  a run inside a byte */
enum base_code store_strided_plan(enum ptc_dtype dtype,
                                  const struct ptc_box *box,
                                  const uint64_t *a_stride,
                                  const uint64_t *b_stride,
                                  struct store_strided *ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Copy from @a to @b. */
void store_strided_copy(const struct store_strided *s,
                        const unsigned char *a,
                        unsigned char *b);

/* Call @fn for each run, in order of the loops, with where it begins in both. */
typedef enum base_code (*store_run_fn)(void *ctx,
                                       uint64_t a_at,
                                       uint64_t b_at,
                                       uint64_t n_bytes,
                                       struct base_err *err);
enum base_code store_strided_runs(const struct store_strided *s,
                                  store_run_fn fn,
                                  void *ctx,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Bytes from the first to the last of @box (not empty) in a place with
 * @stride.  *ret_n_bytes: the box's own; as many when nothing lies between. */
uint64_t store_strided_extent(enum ptc_dtype dtype,
                              const struct ptc_box *box,
                              const uint64_t *stride,
                              uint64_t *ret_n_bytes);

#endif
