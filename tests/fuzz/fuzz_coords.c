/* Input: the metadata `retile` of a file.  What parses is sorted, found, the
 * same as itself, and its ranges lie in their shapes. */
#include "ptc/coords.h"
#include "tests/fuzz/fuzz.h"

static void check_shard(const struct ptc_coord_shard *shard)
{
    FUZZ_CHECK(shard->n_dims <= PTC_MAX_DIMS);
    FUZZ_CHECK((shard->offset == NULL) == (shard->ranges != NULL));
    for (uint32_t d = 0; d < shard->n_dims; d++) {
        uint32_t n = shard->offset != NULL ? 0 : shard->n_ranges[d];
        uint64_t past = 0;

        FUZZ_CHECK(shard->offset == NULL ||
                   shard->offset[d] <= shard->shape[d]);
        for (uint32_t i = 0; i < n; i++) {
            FUZZ_CHECK(shard->ranges[d][i].begin >= past);
            FUZZ_CHECK(shard->ranges[d][i].end >= shard->ranges[d][i].begin);
            past = shard->ranges[d][i].end;
        }
        FUZZ_CHECK(past <= shard->shape[d]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BASE_AUTO(ptc_coords) coords = NULL;
    struct base_err err = {0};
    enum base_code code =
        ptc_coords_parse(fuzz_str(data, size), "fuzz", &coords, &err);

    if (code != BASE_OK) {
        FUZZ_CHECK(coords == NULL);
        fuzz_check_error(code, &err);
        return 0;
    }
    for (uint32_t i = 0; i < coords->n_entries; i++) {
        const struct ptc_coord *coord = &coords->entries[i];
        char a[PTC_COORD_TEXT_BYTES], b[PTC_COORD_TEXT_BYTES];

        FUZZ_CHECK(ptc_coords_find(coords, coord->name) == coord);
        FUZZ_CHECK(ptc_coord_same(coord, coord, a, b));
        if (i > 0 && !ptc_coord_same(&coord[-1], coord, a, b)) {
            FUZZ_CHECK(strlen(a) < sizeof(a) && strlen(b) < sizeof(b));
        }
        if (!coord->is_flat) {
            check_shard(&coord->shard);
        }
        for (uint32_t m = 0; coord->is_flat && m < coord->n_members; m++) {
            check_shard(&coord->members[m].shard);
        }
    }
    for (uint32_t i = 1; i < coords->n_ties; i++) {
        FUZZ_CHECK(
            base_str_cmp(coords->ties[i - 1].name, coords->ties[i].name) < 0);
    }
    return 0;
}
