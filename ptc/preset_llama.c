/* Hugging Face LLaMA and its kin: Mistral, Qwen2 and 3, their mixtures of
 * experts (Mixtral, Qwen-MoE, DeepSeek's first).
 *
 * Query heads share key and value heads in groups.  A rank needs whole groups,
 * or a part of one group with that group's key and value head:
 *   tp <= kv, kv divisible by tp   both are cut at heads, groups stay whole
 *   tp <= kv, else                 queries are cut at groups
 *   tp > kv                        tp a multiple of kv, heads of tp; key and
 *                                  value heads repeat
 *   else                           refused. */
#include <assert.h>
#include <inttypes.h>

#include "ptc/preset_rules.h"

#define LAYER  "model\\.layers\\.(\\d+)\\."
#define EXPERT "\\.experts\\.(\\d+)\\."

#define Q    PTC_SIZE_Q
#define KV   PTC_SIZE_KV
#define AT   .stage = PTC_AT_LAYER
#define EACH .place = PTC_PLACE_EXPERT

static const struct ptc_preset_rule layers[] = {
    {"*.self_attn.q_proj.weight", "t-", AT, .unit = Q},
    {"*.self_attn.q_proj.bias", "t", AT, .unit = Q},
    {"*.self_attn.[kv]_proj.weight", "t-", AT, .unit = KV},
    {"*.self_attn.[kv]_proj.bias", "t", AT, .unit = KV},
    {"*.self_attn.o_proj.weight", "-t", AT, .unit = Q},
    {"*.self_attn.o_proj.bias", NULL, AT},
    {"*.self_attn.rotary_emb.inv_freq", NULL, AT},
    {"*.mlp.gate_proj.weight", "t-", AT},
    {"*.mlp.gate_proj.bias", "t", AT},
    {"*.mlp.up_proj.weight", "t-", AT},
    {"*.mlp.up_proj.bias", "t", AT},
    {"*.mlp.down_proj.weight", "-t", AT},
    {"*.mlp.down_proj.bias", NULL, AT},
    {"model.layers.*norm.weight", NULL, AT},
    /* Mixtures of experts: one tensor per expert, shared experts, routers. */
    {"*.mlp.experts.*.gate_proj.weight", "t-", AT, EACH},
    {"*.mlp.experts.*.up_proj.weight", "t-", AT, EACH},
    {"*.mlp.experts.*.down_proj.weight", "-t", AT, EACH},
    {"*.block_sparse_moe.experts.*.w[13].weight", "t-", AT, EACH},
    {"*.block_sparse_moe.experts.*.w2.weight", "-t", AT, EACH},
    {"*.mlp.shared_expert*.gate_proj.weight", "t-", AT},
    {"*.mlp.shared_expert*.up_proj.weight", "t-", AT},
    {"*.mlp.shared_expert*.down_proj.weight", "-t", AT},
    {"*.mlp.shared_expert_gate.weight", NULL, AT},
    {"*.mlp.gate.weight", NULL, AT},
    {"*.mlp.gate.e_score_correction_bias", NULL, AT},
    {"*.block_sparse_moe.gate.weight", NULL, AT},
};

static const struct ptc_preset_rule ends[] = {
    {"model.rotary_emb.inv_freq", NULL, .stage = PTC_AT_ALL},
    {"model.embed_tokens.weight", "t-", .stage = PTC_AT_FIRST},
    {"model.norm.weight", NULL, .stage = PTC_AT_LAST},
};

static const struct ptc_preset_rule head = {"lm_head.weight", "t-",
                                            .stage = PTC_AT_LAST};

struct heads {
    uint64_t heads;
    uint64_t kv;
    uint64_t head_dim;
    uint64_t q_rows; /* of the table; 0: unknown */
    uint64_t k_rows;
};

static enum base_code find_heads(const struct ptc_preset *preset,
                                 struct heads *ret)
{
    const struct ptc_preset_config *config = &preset->config;
    struct heads h = {0};

    BASE_TRY(
        ptc_preset_dim(preset, ".self_attn.q_proj.weight", 2, 0, &h.q_rows));
    BASE_TRY(
        ptc_preset_dim(preset, ".self_attn.k_proj.weight", 2, 0, &h.k_rows));
    h.heads = ptc_preset_pick(preset, PTC_OPT_HEADS, config->heads);
    h.head_dim = ptc_preset_pick(preset, PTC_OPT_HEAD_DIM, config->head_dim);
    if (h.head_dim == 0) {
        h.head_dim = ptc_preset_divide(
            h.q_rows != 0 ? h.q_rows : config->hidden, h.heads);
    }
    if (h.heads == 0) {
        h.heads = ptc_preset_divide(h.q_rows, h.head_dim);
    }
    h.kv = ptc_preset_pick(preset, PTC_OPT_KV, config->kv);
    if (h.kv == 0) {
        h.kv = ptc_preset_divide(h.k_rows, h.head_dim);
    }
    if (h.kv == 0 && config->is_read && config->heads != 0) {
        h.kv = h.heads; /* what that file means by leaving it out */
    }
    if (h.heads == 0) {
        return ptc_preset_needs(preset, PTC_OPT_HEADS);
    }
    if (h.head_dim == 0) {
        return ptc_preset_needs(preset, PTC_OPT_HEAD_DIM);
    }
    if (h.kv == 0) {
        return ptc_preset_needs(preset, PTC_OPT_KV);
    }
    *ret = h;
    return BASE_OK;
}

/* Do these heads make these rows? */
static enum base_code check_rows(const struct ptc_preset *preset,
                                 const char *option,
                                 uint64_t heads,
                                 uint64_t head_dim,
                                 const char *tensor,
                                 uint64_t rows)
{
    /* Each factor is at most 2^31. */
    if (rows != 0 && rows != heads * head_dim) {
        return ptc_preset_fail(preset,
                               "%s=%" PRIu64 " with head_dim=%" PRIu64
                               " does not make the %" PRIu64 " rows of %s",
                               option, heads, head_dim, rows, tensor);
    }
    return BASE_OK;
}

static enum base_code find_units(struct ptc_preset *preset)
{
    uint64_t tp = preset->value[PTC_OPT_TP];
    struct heads h = {0};

    BASE_TRY(find_heads(preset, &h));
    assert(h.heads != 0 && h.kv != 0 && h.head_dim != 0);
    BASE_TRY(
        check_rows(preset, "heads", h.heads, h.head_dim, "q_proj", h.q_rows));
    BASE_TRY(check_rows(preset, "kv", h.kv, h.head_dim, "k_proj", h.k_rows));
    if (h.heads % h.kv != 0) {
        return ptc_preset_fail(preset,
                               "kv=%" PRIu64 " does not divide heads=%" PRIu64,
                               h.kv, h.heads);
    }
    if (tp > h.kv && (tp % h.kv != 0 || h.heads % tp != 0)) {
        return ptc_preset_fail(preset,
                               "tp=%" PRIu64 " does not go with heads=%" PRIu64
                               " and kv=%" PRIu64
                               ": some rank would need parts of two groups",
                               tp, h.heads, h.kv);
    }
    preset->units[PTC_SIZE_KV] = h.head_dim;
    preset->units[PTC_SIZE_Q] = h.head_dim;
    if (tp <= h.kv && h.kv % tp != 0) {
        preset->units[PTC_SIZE_Q] = h.head_dim * (h.heads / h.kv);
    }
    return BASE_OK;
}

static enum base_code write_llama(struct ptc_preset *preset)
{
    if (ptc_preset_cuts(preset)) {
        BASE_TRY(find_units(preset));
    }
    ptc_preset_write_head(preset, LAYER, EXPERT);
    PTC_PRESET_WRITE(preset, layers);
    PTC_PRESET_WRITE(preset, ends);
    if (ptc_preset_is_tied(preset, false)) {
        ptc_preset_write_tie(preset, &head, "model.embed_tokens.weight");
    } else {
        ptc_preset_write_rules(preset, &head, 1);
    }
    return BASE_OK;
}

static const char *const model_types[] = {
    "llama", "mistral",   "mixtral",  "qwen2", "qwen2_moe",
    "qwen3", "qwen3_moe", "deepseek", NULL,
};
static const char *const classes[] = {
    "Llama", "Mistral", "Mixtral", "Qwen2", "Qwen3", "Deepseek", NULL,
};

const struct ptc_preset_family ptc_preset_llama = {
    .info = {"llama", "Hugging Face LLaMA, Mistral, Qwen2; experts along ep",
             "tp pp dp ep heads kv head_dim tied zero1"},
    .has_config = true,
    .model_types = model_types,
    .classes = classes,
    .write = write_llama,
};
