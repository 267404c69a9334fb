/* Checked arithmetic for numbers that come from outside, and their text. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

/* True and *ret set, or false on overflow (*ret untouched). */
static inline bool base_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t product;

    if (__builtin_mul_overflow(a, b, &product)) {
        return false;
    }
    *ret = product;
    return true;
}

static inline bool base_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
    uint64_t sum;

    if (__builtin_add_overflow(a, b, &sum)) {
        return false;
    }
    *ret = sum;
    return true;
}

static inline uint64_t base_ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static inline uint64_t base_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t base_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Decimal digits only, the whole of @s; false when not so or past 2^64 - 1. */
bool base_parse_u64(struct base_str s, uint64_t *ret);
/* "64", "64K", "1.5GiB", "5GB": K/M/G/T and KiB.. are powers of 1024, KB.. of
 * 1000.  The whole of @s. */
bool base_parse_size(struct base_str s, uint64_t *ret_bytes);
/* Write e.g. "1.50 GiB" into @text (at least 24 bytes); returns @text. */
char *base_format_size(uint64_t n_bytes, char *text);

/* The default random generator of tests: splitmix64, one u64 of state. */
uint64_t base_random_next(uint64_t *state);

#endif
