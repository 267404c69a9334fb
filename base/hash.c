#include "base/hash.h"

#include <string.h>
#include <xxhash.h>

struct base_digest base_digest_of(const void *bytes, size_t n)
{
    struct base_digest digest;
    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, n));
    memcpy(digest.bytes, canonical.digest, sizeof(digest.bytes));
    return digest;
}

bool base_digest_eq(struct base_digest a, struct base_digest b)
{
    return memcmp(a.bytes, b.bytes, sizeof(a.bytes)) == 0;
}

char *base_digest_format(struct base_digest digest, char *text)
{
    static const char digits[] = "0123456789abcdef";
    size_t i;

    for (i = 0; i < sizeof(digest.bytes); i++) {
        text[2 * i] = digits[digest.bytes[i] >> 4];
        text[2 * i + 1] = digits[digest.bytes[i] & 15];
    }
    text[2 * i] = '\0';
    return text;
}
