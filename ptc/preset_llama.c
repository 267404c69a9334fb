/* Hugging Face LLaMA and its kin: Mistral, Qwen2 and 3, their mixtures of
 * experts (Mixtral, Qwen-MoE, DeepSeek), Gemma, Phi-3.
 *
 * Query heads share key and value heads in groups.  A rank needs whole groups,
 * or a part of one group with that group's key and value head:
 *   tp <= kv, kv divisible by tp   both are cut at heads, groups stay whole
 *   tp <= kv, else                 queries are cut at groups
 *   tp > kv                        tp a multiple of kv, heads of tp; key and
 *                                  value heads repeat
 *   else                           refused.
 *
 * Phi-3 fuses queries, keys and values, and gate and up: segments.  DeepSeek's
 * latent attention makes each head's keys and values out of kv_b_proj: cut at
 * heads, which shapes do not tell. */
#include <assert.h>
#include <inttypes.h>

#include "ptc/preset_rules.h"

#define LAYER  "model\\.layers\\.(\\d+)\\."
#define EXPERT "\\.experts\\.(\\d+)\\."

#define Q    PTC_SIZE_Q
#define KV   PTC_SIZE_KV
#define O    PTC_SIZE_O
#define KV_B PTC_SIZE_KV_B
#define AT   .stage = PTC_AT_LAYER
#define EACH .place = PTC_PLACE_EXPERT

static const struct ptc_preset_rule layers[] = {
    {"*.self_attn.q_proj.weight", "t-", AT, .unit = Q},
    {"*.self_attn.q_proj.bias", "t", AT, .unit = Q},
    {"*.self_attn.[kv]_proj.weight", "t-", AT, .unit = KV},
    {"*.self_attn.[kv]_proj.bias", "t", AT, .unit = KV},
    {"*.self_attn.o_proj.weight", "-t", AT, .unit = O},
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
    /* A layer that predicts one token more. */
    {"model.layers.*.eh_proj.weight", NULL, AT},
    {"model.layers.*.embed_tokens.weight", "t-", AT},
    {"model.layers.*.shared_head.head.weight", "t-", AT},
};

/* Rules that need sizes which a model without such tensors does not give. */
static const struct ptc_preset_rule latent[] = {
    {"*.self_attn.q_a_proj.*", NULL, AT},
    {"*.self_attn.q_b_proj.weight", "t-", AT, .unit = Q},
    {"*.self_attn.kv_a_proj_with_mqa.*", NULL, AT},
    {"*.self_attn.kv_b_proj.weight", "t-", AT, .unit = KV_B},
};

static const struct ptc_preset_rule fused_qkv[] = {
    {"*.self_attn.qkv_proj.weight", "t-", AT, .unit = PTC_SIZE_QKV,
     .segments = PTC_SIZE_QKV},
    {"*.self_attn.qkv_proj.bias", "t", AT, .unit = PTC_SIZE_QKV,
     .segments = PTC_SIZE_QKV},
};

static const struct ptc_preset_rule fused_mlp[] = {
    {"*.mlp.gate_up_proj.weight", "t-", AT, .segments = PTC_SIZE_FC1},
};

static const struct ptc_preset_rule ends[] = {
    {"model.rotary_emb.inv_freq", NULL, .stage = PTC_AT_ALL},
    {"model.embed_tokens.weight", "t-", .stage = PTC_AT_FIRST},
    {"model.norm.weight", NULL, .stage = PTC_AT_LAST},
    {"score.weight", NULL, .stage = PTC_AT_LAST},
};

static const struct ptc_preset_rule head = {"lm_head.weight", "t-",
                                            .stage = PTC_AT_LAST};

struct heads {
    uint64_t heads;
    uint64_t kv;
    uint64_t head_dim;
    uint64_t q_rows; /* of the table; 0: unknown */
    uint64_t k_rows;
    uint64_t qkv_rows; /* fused; 0: there is none */
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
    BASE_TRY(ptc_preset_dim(preset, ".self_attn.qkv_proj.weight", 2, 0,
                            &h.qkv_rows));
    if (h.q_rows == 0 && h.qkv_rows != 0) {
        BASE_TRY(ptc_preset_dim(preset, ".self_attn.o_proj.weight", 2, 1,
                                &h.q_rows));
        h.k_rows = h.qkv_rows > h.q_rows && h.q_rows != 0
                       ? ptc_preset_divide(h.qkv_rows - h.q_rows, 2)
                       : 0;
    }
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

/* Queries, keys and values in one matrix: segments, which have one unit. */
static enum base_code fuse_qkv(struct ptc_preset *preset, const struct heads *h)
{
    if (preset->units[PTC_SIZE_Q] != h->head_dim) {
        return h->qkv_rows == 0
                   ? BASE_OK
                   : ptc_preset_fail(preset,
                                     "tp=%" PRIu64
                                     " does not divide kv=%" PRIu64
                                     ", as qkv_proj needs",
                                     preset->value[PTC_OPT_TP], h->kv);
    }
    preset->units[PTC_SIZE_QKV] = h->head_dim;
    ptc_preset_set_segments(preset, PTC_SIZE_QKV, 3, h->kv * h->head_dim);
    preset->segments[PTC_SIZE_QKV][0] = h->heads * h->head_dim;
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
    preset->units[PTC_SIZE_O] = preset->units[PTC_SIZE_Q];
    return fuse_qkv(preset, &h);
}

/* Latent attention: a head is an equal share of each of three matrices. */
static enum base_code find_latent_units(struct ptc_preset *preset,
                                        uint64_t kv_b_rows)
{
    uint64_t tp = preset->value[PTC_OPT_TP];
    uint64_t heads =
        ptc_preset_pick(preset, PTC_OPT_HEADS, preset->config.heads);
    uint64_t q_rows;
    uint64_t o_columns;

    BASE_TRY(
        ptc_preset_dim(preset, ".self_attn.q_b_proj.weight", 2, 0, &q_rows));
    if (q_rows == 0) {
        BASE_TRY(
            ptc_preset_dim(preset, ".self_attn.q_proj.weight", 2, 0, &q_rows));
    }
    BASE_TRY(
        ptc_preset_dim(preset, ".self_attn.o_proj.weight", 2, 1, &o_columns));
    if (heads == 0) {
        return ptc_preset_needs(preset, PTC_OPT_HEADS);
    }
    if (tp > heads || q_rows % heads != 0 || kv_b_rows % heads != 0 ||
        o_columns % heads != 0) {
        return ptc_preset_fail(preset,
                               "heads=%" PRIu64 " does not go with tp=%" PRIu64
                               ", %" PRIu64 " rows of queries, %" PRIu64
                               " of kv_b_proj, %" PRIu64 " columns of o_proj",
                               heads, tp, q_rows, kv_b_rows, o_columns);
    }
    preset->units[PTC_SIZE_Q] = q_rows / heads;
    preset->units[PTC_SIZE_KV_B] = kv_b_rows / heads;
    preset->units[PTC_SIZE_O] = o_columns / heads;
    return BASE_OK;
}

/* Gate and up in one matrix: halves. */
static enum base_code find_halves(struct ptc_preset *preset)
{
    uint64_t ffn = preset->config.ffn;
    uint64_t rows;

    BASE_TRY(ptc_preset_dim(preset, ".mlp.gate_up_proj.weight", 2, 0, &rows));
    if (rows % 2 != 0) {
        return ptc_preset_fail(
            preset, "gate_up_proj has %" PRIu64 " rows: no halves", rows);
    }
    ffn = rows != 0 ? rows / 2 : ffn;
    if (ffn != 0) {
        ptc_preset_set_segments(preset, PTC_SIZE_FC1, 2, ffn);
    }
    return BASE_OK;
}

static enum base_code find_sizes(struct ptc_preset *preset)
{
    uint64_t kv_b_rows;

    BASE_TRY(ptc_preset_dim(preset, ".self_attn.kv_b_proj.weight", 2, 0,
                            &kv_b_rows));
    BASE_TRY(kv_b_rows != 0 ? find_latent_units(preset, kv_b_rows)
                            : find_units(preset));
    return find_halves(preset);
}

static enum base_code write_llama(struct ptc_preset *preset)
{
    bool cuts = ptc_preset_cuts(preset);

    if (cuts) {
        BASE_TRY(find_sizes(preset));
    }
    ptc_preset_write_head(preset, LAYER, EXPERT);
    PTC_PRESET_WRITE(preset, layers);
    if (!cuts || preset->units[PTC_SIZE_KV_B] != 0) {
        PTC_PRESET_WRITE(preset, latent);
    }
    if (!cuts || preset->n_segments[PTC_SIZE_QKV] != 0) {
        PTC_PRESET_WRITE(preset, fused_qkv);
    }
    if (!cuts || preset->n_segments[PTC_SIZE_FC1] != 0) {
        PTC_PRESET_WRITE(preset, fused_mlp);
    }
    PTC_PRESET_WRITE(preset, ends);
    if (ptc_preset_is_tied(preset, false)) {
        ptc_preset_write_tie(preset, &head, "model.embed_tokens.weight");
    } else {
        ptc_preset_write_rules(preset, &head, 1);
    }
    return BASE_OK;
}

static const char *const model_types[] = {
    "llama",    "mistral",     "mixtral",     "qwen2",  "qwen2_moe",
    "qwen3",    "qwen3_moe",   "gemma",       "gemma2", "phi3",
    "deepseek", "deepseek_v2", "deepseek_v3", NULL,
};
static const char *const classes[] = {
    "Llama", "Mistral",  "Mixtral", "Qwen2", "Qwen3",
    "Gemma", "Deepseek", "Phi3",    NULL,
};

const struct ptc_preset_family ptc_preset_llama = {
    .info = {"llama", "Hugging Face LLaMA, Mistral, Qwen2; experts along ep",
             "tp pp dp ep heads kv head_dim tied zero1"},
    .has_config = true,
    .model_types = model_types,
    .classes = classes,
    .write = write_llama,
};
