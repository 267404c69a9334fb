/* Hugging Face GPT-2, with or without `transformer.` before its names.
 *
 * Its weights are [in, out] (Conv1D), so what others cut by rows it cuts by
 * columns; c_attn is queries, keys and values side by side. */
#include "ptc/preset_rules.h"

#define LAYER "(?:^|\\.)h\\.(\\d+)\\."

#define Q   PTC_SIZE_Q
#define QKV PTC_SIZE_QKV
#define AT  .stage = PTC_AT_LAYER

static const struct ptc_preset_rule rules[] = {
    {"*.attn.c_attn.weight", "-t", AT, .unit = Q, .segments = QKV},
    {"*.attn.c_attn.bias", "t", AT, .unit = Q, .segments = QKV},
    {"*.attn.c_proj.weight", "t-", AT, .unit = Q},
    {"*.attn.c_proj.bias", NULL, AT},
    {"*.attn.bias", NULL, AT},
    {"*.attn.masked_bias", NULL, AT},
    {"*.mlp.c_fc.weight", "-t", AT},
    {"*.mlp.c_fc.bias", "t", AT},
    {"*.mlp.c_proj.weight", "t-", AT},
    {"*.mlp.c_proj.bias", NULL, AT},
    {"*.ln_[12].weight", NULL, AT},
    {"*.ln_[12].bias", NULL, AT},
    {"*wte.weight", "t-", .stage = PTC_AT_FIRST},
    {"*wpe.weight", NULL, .stage = PTC_AT_FIRST},
    {"*ln_f.weight", NULL, .stage = PTC_AT_LAST},
    {"*ln_f.bias", NULL, .stage = PTC_AT_LAST},
    {"score.weight", NULL, .stage = PTC_AT_LAST},
};

static const struct ptc_preset_rule head = {"lm_head.weight", "t-",
                                            .stage = PTC_AT_LAST};

static enum base_code find_sizes(struct ptc_preset *preset)
{
    uint64_t hidden;

    BASE_TRY(ptc_preset_dim(preset, ".attn.c_proj.weight", 2, 0, &hidden));
    if (hidden == 0) {
        hidden = preset->config.hidden;
    }
    BASE_TRY(ptc_preset_plain_heads(preset, hidden));
    ptc_preset_set_segments(preset, PTC_SIZE_QKV, 3, hidden);
    return BASE_OK;
}

/* What the table calls the embedding. */
static const char *find_embedding(const struct ptc_preset *preset)
{
    static const char bare[] = "wte.weight";

    if (preset->table != NULL &&
        ptc_table_find(preset->table, base_str_of(bare)) != PTC_NONE) {
        return bare;
    }
    return "transformer.wte.weight";
}

static enum base_code write_gpt2(struct ptc_preset *preset)
{
    if (ptc_preset_cuts(preset)) {
        BASE_TRY(find_sizes(preset));
    }
    ptc_preset_write_head(preset, LAYER, NULL);
    PTC_PRESET_WRITE(preset, rules);
    if (ptc_preset_is_tied(preset, true)) {
        ptc_preset_write_tie(preset, &head, find_embedding(preset));
    } else {
        ptc_preset_write_rules(preset, &head, 1);
    }
    return BASE_OK;
}

static const char *const model_types[] = {"gpt2", NULL};
static const char *const classes[] = {"GPT2", NULL};

const struct ptc_preset_family ptc_preset_gpt2 = {
    .info = {"gpt2",
             "Hugging Face GPT-2 (Conv1D), with or without transformer.",
             "tp pp dp heads tied zero1"},
    .has_config = true,
    .model_types = model_types,
    .classes = classes,
    .write = write_gpt2,
};
