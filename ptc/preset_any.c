/* Presets that know no names: fsdp2 and zero1. */
#include "ptc/preset_rules.h"

static enum base_code write_fsdp2(struct ptc_preset *preset)
{
    static const struct ptc_preset_rule rules[] = {{.match = "*", .cut = "d"}};

    if (!preset->has[PTC_OPT_DP]) {
        preset->has[PTC_OPT_DP] = true;
        preset->value[PTC_OPT_DP] = 1;
    }
    ptc_preset_write_head(preset, NULL, NULL);
    PTC_PRESET_WRITE(preset, rules);
    return BASE_OK;
}

static enum base_code write_zero1(struct ptc_preset *preset)
{
    static const struct ptc_preset_rule rules[] = {{.match = "*"}};

    ptc_preset_write_head(preset, NULL, NULL);
    PTC_PRESET_WRITE(preset, rules);
    return BASE_OK;
}

const struct ptc_preset_family ptc_preset_fsdp2 = {
    .info = {"fsdp2", "any: every tensor cut along dimension 0",
             "dp replicate"},
    .write = write_fsdp2,
};

const struct ptc_preset_family ptc_preset_zero1 = {
    .info = {"zero1",
             "any: parameters replicated, optimizer state in flats over dp",
             "dp"},
    .is_zero1 = true,
    .write = write_zero1,
};
