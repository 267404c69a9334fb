/* Input: DCP's sharding info.  What parses is sorted, and each is found. */
#include "ptc/dcp.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BASE_AUTO(ptc_dcp_info) info = NULL;
    struct base_err err = {0};
    enum base_code code =
        ptc_dcp_info_parse(fuzz_str(data, size), "fuzz", &info, &err);

    if (code != BASE_OK) {
        FUZZ_CHECK(info == NULL);
        fuzz_check_error(code, &err);
        return 0;
    }
    for (uint32_t i = 0; i < info->n_entries; i++) {
        const struct ptc_dcp_entry *entry = &info->entries[i];

        FUZZ_CHECK(entry->n_dims <= PTC_MAX_DIMS);
        FUZZ_CHECK(ptc_dcp_info_find(info, entry->tensor) == entry);
        FUZZ_CHECK(i == 0 || base_str_cmp(entry[-1].tensor, entry->tensor) < 0);
    }
    FUZZ_CHECK(ptc_dcp_info_find(info, BASE_STR("no/such")) == NULL);
    return 0;
}
