/* Hugging Face BERT, with or without `bert.` before its names.
 *
 * `*.attention.output.*` stands before `*.output.*`, which it matches too. */
#include "ptc/preset_rules.h"

#define LAYER "encoder\\.layer\\.(\\d+)\\."

#define Q  PTC_SIZE_Q
#define AT .stage = PTC_AT_LAYER

static const struct ptc_preset_rule rules[] = {
    {"*embeddings.word_embeddings.weight", "t-", .stage = PTC_AT_FIRST},
    {"*embeddings.position_embeddings.weight", NULL, .stage = PTC_AT_FIRST},
    {"*embeddings.token_type_embeddings.weight", NULL, .stage = PTC_AT_FIRST},
    {"*embeddings.LayerNorm.*", NULL, .stage = PTC_AT_FIRST},
    {"*embeddings.position_ids", NULL, .stage = PTC_AT_FIRST},
    {"*embeddings.token_type_ids", NULL, .stage = PTC_AT_FIRST},
    {"*.attention.self.query.weight", "t-", AT, .unit = Q},
    {"*.attention.self.query.bias", "t", AT, .unit = Q},
    {"*.attention.self.key.weight", "t-", AT, .unit = Q},
    {"*.attention.self.key.bias", "t", AT, .unit = Q},
    {"*.attention.self.value.weight", "t-", AT, .unit = Q},
    {"*.attention.self.value.bias", "t", AT, .unit = Q},
    {"*.attention.output.dense.weight", "-t", AT, .unit = Q},
    {"*.attention.output.dense.bias", NULL, AT},
    {"*.attention.output.LayerNorm.*", NULL, AT},
    {"*.intermediate.dense.weight", "t-", AT},
    {"*.intermediate.dense.bias", "t", AT},
    {"*.output.dense.weight", "-t", AT},
    {"*.output.dense.bias", NULL, AT},
    {"*.output.LayerNorm.*", NULL, AT},
    {"*pooler.dense.*", NULL, .stage = PTC_AT_LAST},
    {"cls.predictions.decoder.weight", "t-", .stage = PTC_AT_LAST},
    {"cls.predictions.decoder.bias", "t", .stage = PTC_AT_LAST},
    {"cls.predictions.bias", "t", .stage = PTC_AT_LAST},
    {"cls.*", NULL, .stage = PTC_AT_LAST},
    {"classifier.*", NULL, .stage = PTC_AT_LAST},
    {"qa_outputs.*", NULL, .stage = PTC_AT_LAST},
};

static enum base_code write_bert(struct ptc_preset *preset)
{
    uint64_t hidden;

    if (ptc_preset_cuts(preset)) {
        BASE_TRY(ptc_preset_dim(preset, ".attention.self.query.weight", 2, 0,
                                &hidden));
        BASE_TRY(ptc_preset_plain_heads(
            preset, hidden != 0 ? hidden : preset->config.hidden));
    }
    ptc_preset_write_head(preset, LAYER, NULL);
    PTC_PRESET_WRITE(preset, rules);
    return BASE_OK;
}

static const char *const model_types[] = {"bert", NULL};
static const char *const classes[] = {"Bert", NULL};

const struct ptc_preset_family ptc_preset_bert = {
    .info = {"bert", "Hugging Face BERT, with or without bert.",
             "tp pp dp heads zero1"},
    .has_config = true,
    .model_types = model_types,
    .classes = classes,
    .write = write_bert,
};
