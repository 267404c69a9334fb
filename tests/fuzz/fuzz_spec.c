/* Specs from outside: what parses has a canonical text, and that text parses
 * to itself. */
#include <stdlib.h>

#include "ptc/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct base_str text = {(const char *)data, size};
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO(ptc_spec) again = NULL;
    BASE_AUTO_BUF first;
    BASE_AUTO_BUF second;
    struct base_err err;

    base_buf_init(&first, PTC_SPEC_MAX_BYTES);
    base_buf_init(&second, PTC_SPEC_MAX_BYTES);
    if (ptc_spec_parse(text, "fuzz", &spec, &err) != BASE_OK) {
        require(spec == NULL);
        return 0;
    }
    require(ptc_spec_format(spec, &first, &err) == BASE_OK);
    require(ptc_spec_parse(base_buf_str(&first), "again", &again, &err) ==
            BASE_OK);
    require(ptc_spec_format(again, &second, &err) == BASE_OK);
    require(base_str_eq(base_buf_str(&first), base_buf_str(&second)));
    require(again->n_rules == spec->n_rules);
    require(again->n_meshes == spec->n_meshes);
    require(again->n_flats == spec->n_flats);
    require(again->n_objects == spec->n_objects);
    return 0;
}
