/* Digests: XXH3-128, written as 32 lower-case hexadecimal digits.  They find
 * accidents, not attackers.  Source: libxxhash. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct base_digest {
    uint8_t bytes[16]; /* canonical (big-endian) form of XXH128 */
};

#define BASE_DIGEST_TEXT_BYTES 33

struct base_digest base_digest_of(const void *bytes, size_t n);
bool base_digest_eq(struct base_digest a, struct base_digest b);
/* Fill @text (33 bytes, NUL-terminated); returns @text. */
char *base_digest_format(struct base_digest digest, char *text);

#endif
