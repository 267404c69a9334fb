/* Slabs: all of a table's bytes, cut into parts that fit into a buffer.
 *
 * A slab is a box of one large tensor (one index of the dimensions before some
 * dimension k, a range of k, the rest whole), or the whole of several small
 * tensors that are neighbours in the table.  Ties have no slabs. */
#ifndef STORE_SLABS_H
#define STORE_SLABS_H

#include "ptc/box.h"
#include "ptc/table.h"

struct store_slabs;
void store_slabs_free(struct store_slabs *slabs);
BASE_AUTO_DEFINE(store_slabs);

/* Slabs of at most @max_bytes (a single row of the innermost dimension may be
 * cut, an element not).  Borrows @table. */
enum base_code store_slabs_create(const struct ptc_table *table,
                                  uint64_t max_bytes,
                                  struct store_slabs **ret,
                                  struct base_err *err) BASE_MUST_CHECK;
size_t store_slabs_n(const struct store_slabs *slabs);

/* Slab @idx: tensors [begin, end).  *ret_box is its box when it is of one
 * tensor; those of several are whole. */
void store_slabs_get(const struct store_slabs *slabs,
                     size_t idx,
                     uint32_t *ret_begin,
                     uint32_t *ret_end,
                     struct ptc_box *ret_box);

#endif
