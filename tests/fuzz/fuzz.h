/* What fuzz targets share.  A broken promise must crash in release too, so
 * assert will not do. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/str.h"

#define FUZZ_CHECK(claim)                                                      \
    do {                                                                       \
        if (!(claim)) {                                                        \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__,   \
                          #claim);                                             \
            abort();                                                           \
        }                                                                      \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline struct base_str fuzz_str(const uint8_t *data, size_t size)
{
    return (struct base_str){(const char *)data, size};
}

/* An error has a text, and a code that a decoder may give. */
static inline void fuzz_check_error(enum base_code code,
                                    const struct base_err *err)
{
    FUZZ_CHECK(code == BASE_BAD_INPUT || code == BASE_LIMIT ||
               code == BASE_UNSUPPORTED || code == BASE_NO_MEM);
    FUZZ_CHECK(err->code == code);
    FUZZ_CHECK(memchr(err->text, '\0', sizeof(err->text)) != NULL);
    FUZZ_CHECK(strncmp(err->text, "fuzz", 4) == 0); /* the origin */
    for (const char *at = err->text; *at != '\0'; at++) {
        FUZZ_CHECK((unsigned char)*at >= 0x20 && *at != 0x7f);
    }
}

#endif
