/* Maps of a source's blobs: for store/gather.c. */
#ifndef STORE_MAPS_H
#define STORE_MAPS_H

#include <stdint.h>

#include "store/gather.h"

const struct store_source *store_maps_source(const struct store_maps *maps);

/* The first byte of blob @idx, mapped as long as @maps lives; NULL when it
 * cannot be mapped (then read it).  Bytes past the end of a file that shrank
 * fault: read under store_guard_run.  Any thread. */
const uint8_t *store_maps_get(struct store_maps *maps, uint32_t idx);

#endif
