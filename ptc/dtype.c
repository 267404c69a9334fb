#include "ptc/dtype.h"

#include <assert.h>

#include "base/num.h"

static const struct {
    struct base_str name;
    const char *descr;
    unsigned bits;
} dtypes[PTC_N_DTYPES] = {
#define X(id, text, n_bits, numpy)                                             \
    [id] = {{text, sizeof(text) - 1}, numpy, n_bits},
    PTC_DTYPES(X)
#undef X
};

unsigned ptc_dtype_bits(enum ptc_dtype dtype)
{
    assert(dtype < PTC_N_DTYPES);
    return dtypes[dtype].bits;
}

const char *ptc_dtype_name(enum ptc_dtype dtype)
{
    assert(dtype < PTC_N_DTYPES);
    return dtypes[dtype].name.ptr;
}

const char *ptc_dtype_descr(enum ptc_dtype dtype)
{
    assert(dtype < PTC_N_DTYPES);
    return dtypes[dtype].descr;
}

bool ptc_dtype_parse(struct base_str name, enum ptc_dtype *ret)
{
    for (unsigned i = 0; i < PTC_N_DTYPES; i++) {
        if (base_str_eq(name, dtypes[i].name)) {
            *ret = (enum ptc_dtype)i;
            return true;
        }
    }
    return false;
}

bool ptc_dtype_bytes(enum ptc_dtype dtype, uint64_t n_elems, uint64_t *ret)
{
    uint64_t n_bits;

    /* 2^58 elements of 64 bits and more overflow, as the reference has it. */
    if (!base_mul_u64(n_elems, ptc_dtype_bits(dtype), &n_bits) ||
        n_bits % 8 != 0) {
        return false;
    }
    *ret = n_bits / 8;
    return true;
}
