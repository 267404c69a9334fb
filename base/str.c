#include "base/str.h"

int base_str_cmp(struct base_str a, struct base_str b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int order = n == 0 ? 0 : memcmp(a.ptr, b.ptr, n);

    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

bool base_str_eq(struct base_str a, struct base_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool base_str_starts(struct base_str s, struct base_str prefix)
{
    return s.len >= prefix.len &&
           base_str_eq((struct base_str){s.ptr, prefix.len}, prefix);
}

bool base_str_ends(struct base_str s, struct base_str suffix)
{
    return s.len >= suffix.len &&
           base_str_eq(
               (struct base_str){s.ptr + (s.len - suffix.len), suffix.len},
               suffix);
}

/* The length of the valid UTF-8 sequence at @at, or 0.  Source: RFC 3629. */
static size_t utf8_sequence(const unsigned char *at, size_t left)
{
    unsigned char lead = at[0];
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    size_t n;
    size_t i;

    if (lead < 0x80) {
        return 1;
    }
    if (lead >= 0xc2 && lead <= 0xdf) {
        n = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        n = 3;
        low = lead == 0xe0 ? 0xa0 : low;   /* overlong */
        high = lead == 0xed ? 0x9f : high; /* surrogates */
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        n = 4;
        low = lead == 0xf0 ? 0x90 : low;   /* overlong */
        high = lead == 0xf4 ? 0x8f : high; /* past U+10FFFF */
    } else {
        return 0;
    }
    if (left < n || at[1] < low || at[1] > high) {
        return 0;
    }
    for (i = 2; i < n; i++) {
        if (at[i] < 0x80 || at[i] > 0xbf) {
            return 0;
        }
    }
    return n;
}

bool base_str_is_utf8(struct base_str s)
{
    const unsigned char *at = (const unsigned char *)s.ptr;
    size_t i = 0;

    while (i < s.len) {
        size_t n = utf8_sequence(at + i, s.len - i);

        if (n == 0) {
            return false;
        }
        i += n;
    }
    return true;
}

enum { NEAR = 3, NEAREST_MAX_LEN = 64 };

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;

    return ab < c ? ab : c;
}

/* Levenshtein's distance of two words of at most NEAREST_MAX_LEN bytes. */
static size_t edit_distance(struct base_str a, struct base_str b)
{
    size_t row[NEAREST_MAX_LEN + 1];
    size_t i;
    size_t j;

    for (j = 0; j <= b.len; j++) {
        row[j] = j;
    }
    for (i = 0; i < a.len; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (j = 0; j < b.len; j++) {
            size_t above = row[j + 1];

            row[j + 1] =
                min3(above + 1, row[j] + 1, diagonal + (a.ptr[i] != b.ptr[j]));
            diagonal = above;
        }
    }
    return row[b.len];
}

const char *
base_str_nearest(struct base_str word, const char *const *candidates, size_t n)
{
    const char *best = NULL;
    size_t best_distance = NEAR + 1;
    size_t i;

    if (word.len > NEAREST_MAX_LEN) {
        return NULL;
    }
    for (i = 0; i < n; i++) {
        struct base_str candidate = base_str_of(candidates[i]);
        size_t distance;

        if (candidate.len > NEAREST_MAX_LEN) {
            continue;
        }
        distance = edit_distance(word, candidate);
        /* To replace every letter is not to be near. */
        if (distance < best_distance && distance < candidate.len) {
            best = candidates[i];
            best_distance = distance;
        }
    }
    return best;
}
