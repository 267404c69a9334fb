/* A source of nothing but blobs, each a memory file: enough of store/source.h
 * for what reads blobs.  Its functions stand in for the library's. */
#ifndef UNIT_STORE_FAKE_SOURCE_H
#define UNIT_STORE_FAKE_SOURCE_H

#include "store/source.h"

#define FAKE_MAX_BLOBS 64

struct store_source {
    uint32_t n;
    struct store_blob blobs[FAKE_MAX_BLOBS];
};

/* Add a blob of @n bytes; its index, or PTC_NONE when that failed. */
uint32_t
fake_source_add(struct store_source *source, const void *bytes, size_t n);
/* Say that blob @idx is as it should be now. */
void fake_source_trust(struct store_source *source, uint32_t idx);
void fake_source_done(struct store_source *source);

#endif
