/* Specs: their life, digest, and the one that cuts nothing. */
#include "ptc/spec.h"

void ptc_spec_free(struct ptc_spec *spec)
{
    if (spec == NULL) {
        return;
    }
    base_arena_free(spec->arena);
    free(spec);
}

enum base_code ptc_spec_digest(const struct ptc_spec *spec,
                               struct base_digest *ret,
                               struct base_err *err)
{
    BASE_AUTO_BUF text;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    BASE_TRY(ptc_spec_format(spec, &text, err));
    *ret = base_digest_of(text.ptr, text.len);
    return BASE_OK;
}

enum base_code ptc_spec_whole(struct ptc_spec **ret, struct base_err *err)
{
    uint32_t i;

    /* `optim.*` is for states whose parameter is in no table. */
    BASE_TRY(ptc_spec_parse(BASE_STR("mesh: {}\n"
                                     "rules:\n"
                                     "- {match: 'optim.*', optional: true}\n"
                                     "- {match: '*', optional: true}\n"),
                            "hf", ret, err));
    for (i = 0; i < (*ret)->n_rules; i++) {
        (*ret)->rules[i].line = 0;
    }
    return BASE_OK;
}
