/* A set of cells, each of a tensor and known by its first element: which of
 * those that several ranks hold one has given already. */
#ifndef STORE_TAKEN_H
#define STORE_TAKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

struct store_taken_cell {
    uint64_t at; /* its first element, in C order, + 1; 0: an empty slot */
    uint32_t tensor;
};

struct store_taken {
    struct store_taken_cell *slots; /* a hash table, at most half full */
    size_t n;
    size_t cap; /* a power of two, or 0 */
};

void store_taken_done(struct store_taken *taken);

/* Put a cell in, whose first element is @first; *ret_is_new: it was not there.
 * Errors: BASE_NO_MEM */
enum base_code store_taken_add(struct store_taken *taken,
                               uint32_t tensor,
                               uint64_t first,
                               bool *ret_is_new,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
