/* NumPy's .npy header, version 1.0 and 2.0, C order, little endian.  Pure. */
#ifndef PTC_NPY_H
#define PTC_NPY_H

#include <stdint.h>

#include "base/str.h"
#include "ptc/box.h"
#include "ptc/dtype.h"

/* Append magic, version, length and dict, padded so that data begins at a
 * multiple of 4096 (and so of NumPy's 64).  bf16 is written as '<V2' and fp8 as '|V1', raw bytes.
 * Errors: BASE_UNSUPPORTED  a sub-byte dtype: NumPy has no such element */
enum base_code ptc_npy_header_write(enum ptc_dtype dtype,
                                    uint32_t n_dims,
                                    const uint64_t *shape,
                                    struct base_buf *buf,
                                    struct base_err *err) BASE_MUST_CHECK;

struct ptc_npy_header {
    char descr[16]; /* e.g. "<f4" */
    uint32_t n_dims;
    uint64_t shape[PTC_MAX_DIMS];
    uint64_t data_offset;
};

/* Read a header from the first bytes of a file.  Object dtypes, Fortran order,
 * structured dtypes and big endian are refused with a reason. */
enum base_code ptc_npy_header_parse(struct base_str bytes,
                                    const char *origin,
                                    struct ptc_npy_header *ret,
                                    struct base_err *err) BASE_MUST_CHECK;

#endif
