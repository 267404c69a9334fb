#include "base/num.h"

#include <stdio.h>

/* Read digits from the front of *s. */
static bool take_digits(struct base_str *s, uint64_t *ret)
{
    uint64_t value = 0;
    size_t i;

    for (i = 0; i < s->len && s->ptr[i] >= '0' && s->ptr[i] <= '9'; i++) {
        if (!base_mul_u64(value, 10, &value) ||
            !base_add_u64(value, (uint64_t)(s->ptr[i] - '0'), &value)) {
            return false;
        }
    }
    if (i == 0) {
        return false;
    }
    *s = (struct base_str){s->ptr + i, s->len - i};
    *ret = value;
    return true;
}

bool base_parse_u64(struct base_str s, uint64_t *ret)
{
    uint64_t value;

    if (!take_digits(&s, &value) || s.len != 0) {
        return false;
    }
    *ret = value;
    return true;
}

/* What "K", "KiB", "KB", "B", "" stand for. */
static bool parse_unit(struct base_str unit, uint64_t *ret)
{
    static const char letters[] = "KMGT";
    const char *letter;
    uint64_t step = 1024;
    uint64_t value = 1;
    ptrdiff_t power;

    if (unit.len == 0 || base_str_eq(unit, BASE_STR("B"))) {
        *ret = 1;
        return true;
    }
    letter = memchr(letters, unit.ptr[0], sizeof(letters) - 1);
    if (letter == NULL) {
        return false;
    }
    unit = (struct base_str){unit.ptr + 1, unit.len - 1};
    if (base_str_eq(unit, BASE_STR("B"))) {
        step = 1000;
    } else if (unit.len != 0 && !base_str_eq(unit, BASE_STR("iB"))) {
        return false;
    }
    for (power = letter - letters; power >= 0; power--) {
        value *= step;
    }
    *ret = value;
    return true;
}

bool base_parse_size(struct base_str s, uint64_t *ret_bytes)
{
    uint64_t whole;
    uint64_t unit;
    uint64_t part = 0;
    uint64_t scale = 1;

    if (!take_digits(&s, &whole)) {
        return false;
    }
    if (s.len > 0 && s.ptr[0] == '.') {
        struct base_str digits = {s.ptr + 1, s.len - 1};

        s = digits;
        if (!take_digits(&s, &part) || digits.len - s.len > 6) {
            return false;
        }
        for (size_t i = digits.len - s.len; i > 0; i--) {
            scale *= 10;
        }
    }
    if (!parse_unit(s, &unit) || (unit == 1 && scale > 1) ||
        !base_mul_u64(whole, unit, &whole) ||
        !base_add_u64(whole, unit * part / scale, &whole)) {
        return false;
    }
    *ret_bytes = whole;
    return true;
}

char *base_format_size(uint64_t n_bytes, char *text)
{
    static const char *const units[] = {"B",   "KiB", "MiB", "GiB",
                                        "TiB", "PiB", "EiB"};
    double value = (double)n_bytes;
    size_t i = 0;

    if (n_bytes < 1024) {
        (void)snprintf(text, 24, "%u B", (unsigned)n_bytes);
        return text;
    }
    /* 1023.995 would be printed as 1024.00. */
    while (value >= 1023.995 && i + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        i++;
    }
    (void)snprintf(text, 24, "%.2f %s", value, units[i]);
    return text;
}

/* Source: Steele, Lea, Flood, "Fast splittable pseudorandom number
 * generators", OOPSLA 2014; constants of Vigna's splitmix64. */
uint64_t base_random_next(uint64_t *state)
{
    uint64_t z;

    *state += 0x9e3779b97f4a7c15U;
    z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}
