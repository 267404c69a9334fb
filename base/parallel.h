/* Run a function over n items on a few threads. */
#ifndef BASE_PARALLEL_H
#define BASE_PARALLEL_H

#include <stddef.h>

#include "base/err.h"

/* Called with the item and the number of the thread (0 .. n_threads - 1),
 * which owns whatever scratch the caller keeps per thread. */
typedef enum base_code (*base_parallel_fn)(void *ctx,
                                           size_t item,
                                           unsigned thread,
                                           struct base_err *err);

/* Call fn for every item in 0 .. n_items - 1, in that order of start; return
 * when all that started have ended.  After the first failure no further item
 * starts; that failure is returned.  n_threads = 1 runs in the caller's thread.
 * Errors: fn's, BASE_NO_MEM */
enum base_code base_parallel(unsigned n_threads,
                             size_t n_items,
                             base_parallel_fn fn,
                             void *ctx,
                             struct base_err *err) BASE_MUST_CHECK;

/* Processors this process may use. */
unsigned base_n_cpus(void);

#endif
