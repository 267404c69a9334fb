/* What a file says about itself: the value of the key `retile` in a rank file's
 * __metadata__ (docs/layouts.md, "What files say about themselves"),
 *   {"version": 1, "tensors": {NAME: COORDS}, "ties": {NAME: TARGET}}
 * with COORDS as ptc_layout_shown_json writes them.  Pure. */
#ifndef PTC_COORDS_H
#define PTC_COORDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "ptc/box.h"
#include "ptc/layout.h"

#define PTC_COORDS_MAX_BYTES (64u << 20)

/* Where a dense shard lies in its global tensor. */
struct ptc_coord_shard {
    uint32_t n_dims;
    const uint64_t *shape;  /* global */
    const uint64_t *offset; /* of its one range per dimension; NULL when ranges
                               are given */
    const uint32_t *n_ranges; /* per dimension; NULL when offset is given */
    const struct ptc_range *const *ranges;
};

struct ptc_coord_member {
    struct base_str name;
    uint64_t at; /* elements, as the file says */
    struct ptc_coord_shard shard;
};

struct ptc_coord {
    struct base_str name; /* of the shown tensor */
    bool is_flat;
    struct ptc_coord_shard shard; /* when dense */
    uint64_t flat_elems;          /* of the whole bucket, with padding */
    uint64_t flat_begin;          /* of this part */
    uint32_t n_members;
    const struct ptc_coord_member *members;
};

struct ptc_coord_tie {
    struct base_str name;
    struct base_str target;
};

struct ptc_coords {
    struct base_arena *arena;
    uint32_t n_entries;
    struct ptc_coord *entries; /* sorted by name */
    uint32_t n_ties;
    struct ptc_coord_tie *ties; /* sorted by name */
};

void ptc_coords_free(struct ptc_coords *coords);
BASE_AUTO_DEFINE(ptc_coords);

/* Read the text.  Strict: an unknown or double key, a wrong type, a number
 * that is negative or no integer, a range that ends before it begins or past
 * the shape, and another version are BASE_BAD_INPUT.  @origin names the file.
 * Errors: BASE_BAD_INPUT, BASE_LIMIT (length, dimensions), BASE_NO_MEM */
enum base_code ptc_coords_parse(struct base_str text,
                                const char *origin,
                                struct ptc_coords **ret,
                                struct base_err *err) BASE_MUST_CHECK;

/* Read one COORDS value: coords with that one entry, called @name. */
enum base_code ptc_coords_parse_one(struct base_str json,
                                    struct base_str name,
                                    struct ptc_coords **ret,
                                    struct base_err *err) BASE_MUST_CHECK;

/* NULL when the tensor is not listed. */
const struct ptc_coord *ptc_coords_find(const struct ptc_coords *coords,
                                        struct base_str name);

#define PTC_COORD_TEXT_BYTES 128
/* Do two say the same?  If not, the first difference is put into words, as
 * what @a says and what @b says (PTC_COORD_TEXT_BYTES each). */
bool ptc_coord_same(const struct ptc_coord *a,
                    const struct ptc_coord *b,
                    char *a_text,
                    char *b_text);

#endif
