/* Megatron-core GPT, one tensor per layer.
 *
 * linear_qkv holds, for each group, its query heads, one key head and one value
 * head; linear_proj's columns are the query heads in the same order.  With a
 * gated activation linear_fc1 is gate and up, one half each; whether it is so
 * follows from the shapes of linear_fc1 and linear_fc2.  Experts are stacked
 * along a dimension in front, or one tensor each: local_experts.E, weightE (E
 * counted over all ranks). */
#include <inttypes.h>

#include "ptc/preset_rules.h"

#define LAYER   "decoder\\.layers\\.(\\d+)\\."
#define EXPERT  "\\.experts\\.(?:local_experts\\.|linear_fc[12]\\.weight)(\\d+)"
#define EXPERTS ".mlp.experts.experts"

#define Q          PTC_SIZE_Q
#define QKV        PTC_SIZE_QKV
#define FC1        PTC_SIZE_FC1
#define SHARED_FC1 PTC_SIZE_SHARED_FC1
#define EXPERT_FC1 PTC_SIZE_EXPERT_FC1
#define AT         .stage = PTC_AT_LAYER
#define MOE        .place = PTC_PLACE_MOE
#define EACH       .place = PTC_PLACE_EXPERT

static const struct ptc_preset_rule rules[] = {
    {"*.self_attention.linear_qkv.weight", "t-", AT, .unit = QKV},
    {"*.self_attention.linear_qkv.bias", "t", AT, .unit = QKV},
    {"*.self_attention.linear_proj.weight", "-t", AT, .unit = Q},
    {"*.self_attention.linear_proj.bias", NULL, AT},
    {"*" EXPERTS ".linear_fc1.weight", "et-", AT, .segments = EXPERT_FC1, MOE},
    {"*" EXPERTS ".linear_fc2.weight", "e-t", AT, MOE},
    {"*.mlp.experts.local_experts.*.linear_fc1.weight", "t-", AT,
     .segments = EXPERT_FC1, EACH},
    {"*.mlp.experts.local_experts.*.linear_fc2.weight", "-t", AT, EACH},
    {"*.mlp.experts.linear_fc1.weight*", "t-", AT, .segments = EXPERT_FC1,
     EACH},
    {"*.mlp.experts.linear_fc2.weight*", "-t", AT, EACH},
    {"*.mlp.shared_experts.linear_fc1.weight", "t-", AT,
     .segments = SHARED_FC1},
    {"*.mlp.shared_experts.linear_fc2.weight", "-t", AT},
    {"*.mlp.shared_experts.gate_weight", NULL, AT},
    {"*.mlp.router.*", NULL, AT},
    {"*.mlp.linear_fc1.weight", "t-", AT, .segments = FC1},
    {"*.mlp.linear_fc1.bias", "t", AT, .segments = FC1},
    {"*.mlp.linear_fc2.weight", "-t", AT},
    {"*.mlp.linear_fc2.bias", NULL, AT},
    {"decoder.layers.*.*layer_norm_weight", NULL, AT},
    {"decoder.layers.*.*layer_norm_bias", NULL, AT},
    {"decoder.layers.*.*layernorm.weight", NULL, AT},
    {"decoder.layers.*.*layernorm.bias", NULL, AT},
    {"embedding.word_embeddings.weight", "t-", .stage = PTC_AT_FIRST},
    {"embedding.position_embeddings.weight", NULL, .stage = PTC_AT_FIRST},
    {"decoder.final_layernorm.*", NULL, .stage = PTC_AT_LAST},
};

static const struct ptc_preset_rule head = {"output_layer.weight", "t-",
                                            .stage = PTC_AT_LAST};

/* Query heads, groups and the size of a head into units. */
static enum base_code find_units(struct ptc_preset *preset)
{
    const struct ptc_preset_config *config = &preset->config;
    uint64_t heads = ptc_preset_pick(preset, PTC_OPT_HEADS, config->heads);
    uint64_t kv = ptc_preset_pick(preset, PTC_OPT_KV, config->kv);
    uint64_t head_dim =
        ptc_preset_pick(preset, PTC_OPT_HEAD_DIM, config->head_dim);
    uint64_t tp = preset->value[PTC_OPT_TP];
    uint64_t rows;
    uint64_t columns;

    BASE_TRY(ptc_preset_dim(preset, ".self_attention.linear_qkv.weight", 2, 0,
                            &rows));
    BASE_TRY(ptc_preset_dim(preset, ".self_attention.linear_proj.weight", 2, 1,
                            &columns));
    if (head_dim == 0) {
        head_dim =
            ptc_preset_divide(columns != 0 ? columns : config->hidden, heads);
    }
    if (heads == 0) {
        heads = ptc_preset_divide(columns, head_dim);
    }
    if (heads == 0) {
        return ptc_preset_needs(preset, PTC_OPT_HEADS);
    }
    if (head_dim == 0) {
        return ptc_preset_needs(preset, PTC_OPT_HEAD_DIM);
    }
    if (kv == 0 && rows > heads * head_dim) {
        kv = ptc_preset_divide(rows - heads * head_dim, 2 * head_dim);
    }
    if (kv == 0) {
        return ptc_preset_needs(preset, PTC_OPT_KV);
    }
    /* Each factor is at most 2^31. */
    if (heads % kv != 0 || (columns != 0 && columns != heads * head_dim) ||
        (rows != 0 &&
         (rows % head_dim != 0 || rows / head_dim != heads + 2 * kv))) {
        return ptc_preset_fail(preset,
                               "heads=%" PRIu64 ", kv=%" PRIu64
                               ", head_dim=%" PRIu64
                               " do not make linear_qkv's %" PRIu64
                               " rows and linear_proj's %" PRIu64 " columns",
                               heads, kv, head_dim, rows, columns);
    }
    if (tp > kv) {
        return ptc_preset_fail(preset,
                               "tp=%" PRIu64 " is more than kv=%" PRIu64
                               ": a group of linear_qkv is never cut",
                               tp, kv);
    }
    preset->units[PTC_SIZE_Q] = heads / kv * head_dim;
    preset->units[PTC_SIZE_QKV] = (heads / kv + 2) * head_dim;
    return BASE_OK;
}

/* Is linear_fc1 of @rows two halves of what linear_fc2's @columns take? */
static enum base_code find_halves(struct ptc_preset *preset,
                                  enum ptc_preset_size size,
                                  uint64_t rows,
                                  uint64_t columns)
{
    bool is_told = preset->has[PTC_OPT_SWIGLU];
    bool is_gated = preset->value[PTC_OPT_SWIGLU] != 0;

    if (rows != 0 && columns != 0) {
        bool fits_gated = rows % 2 == 0 && rows / 2 == columns;

        if ((!fits_gated && rows != columns) ||
            (is_told && is_gated != fits_gated)) {
            return ptc_preset_fail(preset,
                                   "swiglu=%d: linear_fc1 has %" PRIu64
                                   " rows, linear_fc2 %" PRIu64 " columns",
                                   is_gated, rows, columns);
        }
        is_told = true;
        is_gated = fits_gated;
    }
    if (!is_told) {
        return ptc_preset_needs(preset, PTC_OPT_SWIGLU);
    }
    if (!is_gated) {
        return BASE_OK;
    }
    if (columns == 0) {
        columns = preset->config.ffn;
    }
    if (columns == 0) {
        return ptc_preset_fail(preset,
                               "swiglu=1 needs the size of linear_fc1's "
                               "halves, which neither config.json nor a "
                               "tensor's shape tells");
    }
    ptc_preset_set_segments(preset, size, 2, columns);
    return BASE_OK;
}

/* Dense layers, shared experts, and experts as they may be named; each if it is
 * there.  Without a table all are taken to be as told. */
static enum base_code find_segments(struct ptc_preset *preset)
{
    static const struct {
        enum ptc_preset_size size;
        uint32_t n_dims;
        const char *fc1;
        const char *fc2;
    } places[] = {
        {FC1, 2, ".mlp.linear_fc1.weight", ".mlp.linear_fc2.weight"},
        {SHARED_FC1, 2, ".mlp.shared_experts.linear_fc1.weight",
         ".mlp.shared_experts.linear_fc2.weight"},
        {EXPERT_FC1, 3, EXPERTS ".linear_fc1.weight",
         EXPERTS ".linear_fc2.weight"},
        {EXPERT_FC1, 2, ".local_experts.0.linear_fc1.weight",
         ".local_experts.0.linear_fc2.weight"},
        {EXPERT_FC1, 2, ".mlp.experts.linear_fc1.weight0",
         ".mlp.experts.linear_fc2.weight0"},
    };
    size_t i;

    for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        uint32_t n_dims = places[i].n_dims;
        uint64_t rows;
        uint64_t columns;

        BASE_TRY(
            ptc_preset_dim(preset, places[i].fc1, n_dims, n_dims - 2, &rows));
        BASE_TRY(ptc_preset_dim(preset, places[i].fc2, n_dims, n_dims - 1,
                                &columns));
        if (rows != 0 || preset->table == NULL) {
            BASE_TRY(find_halves(preset, places[i].size, rows, columns));
        }
    }
    return BASE_OK;
}

static enum base_code write_megatron(struct ptc_preset *preset)
{
    if (ptc_preset_cuts(preset)) {
        BASE_TRY(find_units(preset));
        BASE_TRY(find_segments(preset));
    }
    ptc_preset_write_head(preset, LAYER, EXPERT);
    PTC_PRESET_WRITE(preset, rules);
    if (ptc_preset_is_tied(preset, false)) {
        ptc_preset_write_tie(preset, &head, "embedding.word_embeddings.weight");
    } else {
        ptc_preset_write_rules(preset, &head, 1);
    }
    return BASE_OK;
}

const struct ptc_preset_family ptc_preset_megatron = {
    .info = {"megatron",
             "Megatron-core GPT: decoder.layers.N.self_attention.linear_qkv",
             "tp pp dp ep heads kv head_dim swiglu tied zero1"},
    .has_config = true,
    .write = write_megatron,
};
