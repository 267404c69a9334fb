/* Element types: all of safetensors', the sub-byte ones included.
 *
 * The enum's order is the reference writer's: a file's tensors stand by
 * descending dtype, then by name.  Pure.
 * Source: safetensors, src/tensor.rs (order and widths). */
#ifndef PTC_DTYPE_H
#define PTC_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* enum, name in safetensors, bits, NumPy descr ("" when NumPy has none and the
 * bytes are shown as raw void; see ptc/npy.h) */
#define PTC_DTYPES(X)                                                          \
    X(PTC_BOOL, "BOOL", 8, "|b1")                                              \
    X(PTC_F4, "F4", 4, "")                                                     \
    X(PTC_F6_E2M3, "F6_E2M3", 6, "")                                           \
    X(PTC_F6_E3M2, "F6_E3M2", 6, "")                                           \
    X(PTC_U8, "U8", 8, "|u1")                                                  \
    X(PTC_I8, "I8", 8, "|i1")                                                  \
    X(PTC_F8_E5M2, "F8_E5M2", 8, "|V1")                                        \
    X(PTC_F8_E4M3, "F8_E4M3", 8, "|V1")                                        \
    X(PTC_F8_E8M0, "F8_E8M0", 8, "|V1")                                        \
    X(PTC_F8_E4M3FNUZ, "F8_E4M3FNUZ", 8, "|V1")                                \
    X(PTC_F8_E5M2FNUZ, "F8_E5M2FNUZ", 8, "|V1")                                \
    X(PTC_I16, "I16", 16, "<i2")                                               \
    X(PTC_U16, "U16", 16, "<u2")                                               \
    X(PTC_F16, "F16", 16, "<f2")                                               \
    X(PTC_BF16, "BF16", 16, "<V2")                                             \
    X(PTC_I32, "I32", 32, "<i4")                                               \
    X(PTC_U32, "U32", 32, "<u4")                                               \
    X(PTC_F32, "F32", 32, "<f4")                                               \
    X(PTC_C64, "C64", 64, "<c8")                                               \
    X(PTC_F64, "F64", 64, "<f8")                                               \
    X(PTC_I64, "I64", 64, "<i8")                                               \
    X(PTC_U64, "U64", 64, "<u8")

enum ptc_dtype {
#define X(id, name, bits, descr) id,
    PTC_DTYPES(X)
#undef X
        PTC_N_DTYPES
};

unsigned ptc_dtype_bits(enum ptc_dtype dtype);
const char *ptc_dtype_name(enum ptc_dtype dtype);
const char *ptc_dtype_descr(enum ptc_dtype dtype);
/* False when @name is no dtype. */
bool ptc_dtype_parse(struct base_str name, enum ptc_dtype *ret);

/* n_elems * bits / 8; false when that overflows or is no whole byte. */
bool ptc_dtype_bytes(enum ptc_dtype dtype, uint64_t n_elems, uint64_t *ret);

#endif
