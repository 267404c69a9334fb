/* Presets against the names and shapes of whole, if small, models. */
#include <stdio.h>

#include "ptc/layout.h"
#include "ptc/preset.h"
#include "tests/unit/unit.h"

#define MAX_NAME 128

struct shape {
    const char *name; /* '#' stands for the layer, '@' for the expert */
    uint32_t n_dims;
    uint64_t dims[3];
};

static const struct shape llama[] = {
    {"model.embed_tokens.weight", 2, {101, 64}},
    {"model.layers.#.self_attn.q_proj.weight", 2, {64, 64}},
    {"model.layers.#.self_attn.k_proj.weight", 2, {32, 64}},
    {"model.layers.#.self_attn.v_proj.weight", 2, {32, 64}},
    {"model.layers.#.self_attn.q_proj.bias", 1, {64}},
    {"model.layers.#.self_attn.k_proj.bias", 1, {32}},
    {"model.layers.#.self_attn.v_proj.bias", 1, {32}},
    {"model.layers.#.self_attn.o_proj.weight", 2, {64, 64}},
    {"model.layers.#.self_attn.q_norm.weight", 1, {8}},
    {"model.layers.#.self_attn.rotary_emb.inv_freq", 1, {4}},
    {"model.layers.#.mlp.gate_proj.weight", 2, {90, 64}},
    {"model.layers.#.mlp.up_proj.weight", 2, {90, 64}},
    {"model.layers.#.mlp.down_proj.weight", 2, {64, 90}},
    {"model.layers.#.input_layernorm.weight", 1, {64}},
    {"model.layers.#.post_attention_layernorm.weight", 1, {64}},
    {"model.norm.weight", 1, {64}},
    {"lm_head.weight", 2, {101, 64}},
};

static const struct shape mixtral[] = {
    {"model.embed_tokens.weight", 2, {101, 64}},
    {"model.layers.#.self_attn.q_proj.weight", 2, {64, 64}},
    {"model.layers.#.self_attn.k_proj.weight", 2, {32, 64}},
    {"model.layers.#.self_attn.v_proj.weight", 2, {32, 64}},
    {"model.layers.#.self_attn.o_proj.weight", 2, {64, 64}},
    {"model.layers.#.block_sparse_moe.gate.weight", 2, {4, 64}},
    {"model.layers.#.block_sparse_moe.experts.@.w1.weight", 2, {48, 64}},
    {"model.layers.#.block_sparse_moe.experts.@.w2.weight", 2, {64, 48}},
    {"model.layers.#.block_sparse_moe.experts.@.w3.weight", 2, {48, 64}},
    {"model.layers.#.input_layernorm.weight", 1, {64}},
    {"model.norm.weight", 1, {64}},
    {"lm_head.weight", 2, {101, 64}},
};

static const struct shape qwen_moe[] = {
    {"model.embed_tokens.weight", 2, {101, 64}},
    {"model.layers.#.self_attn.q_proj.weight", 2, {64, 64}},
    {"model.layers.#.self_attn.k_proj.weight", 2, {32, 64}},
    {"model.layers.#.self_attn.v_proj.weight", 2, {32, 64}},
    {"model.layers.#.self_attn.o_proj.weight", 2, {64, 64}},
    {"model.layers.#.mlp.gate.weight", 2, {4, 64}},
    {"model.layers.#.mlp.experts.@.gate_proj.weight", 2, {48, 64}},
    {"model.layers.#.mlp.experts.@.up_proj.weight", 2, {48, 64}},
    {"model.layers.#.mlp.experts.@.down_proj.weight", 2, {64, 48}},
    {"model.layers.#.mlp.shared_expert.gate_proj.weight", 2, {48, 64}},
    {"model.layers.#.mlp.shared_expert.up_proj.weight", 2, {48, 64}},
    {"model.layers.#.mlp.shared_expert.down_proj.weight", 2, {64, 48}},
    {"model.layers.#.mlp.shared_expert_gate.weight", 2, {1, 64}},
    {"model.layers.#.post_attention_layernorm.weight", 1, {64}},
    {"model.norm.weight", 1, {64}},
};

static const struct shape phi3[] = {
    {"model.embed_tokens.weight", 2, {101, 64}},
    {"model.layers.#.self_attn.qkv_proj.weight", 2, {128, 64}},
    {"model.layers.#.self_attn.o_proj.weight", 2, {64, 64}},
    {"model.layers.#.mlp.gate_up_proj.weight", 2, {180, 64}},
    {"model.layers.#.mlp.down_proj.weight", 2, {64, 90}},
    {"model.layers.#.input_layernorm.weight", 1, {64}},
    {"model.norm.weight", 1, {64}},
    {"lm_head.weight", 2, {101, 64}},
    {"score.weight", 2, {3, 64}},
};

/* Latent attention, with queries from a latent too. */
static const struct shape deepseek_v3[] = {
    {"model.embed_tokens.weight", 2, {101, 64}},
    {"model.layers.#.self_attn.q_a_proj.weight", 2, {20, 64}},
    {"model.layers.#.self_attn.q_a_layernorm.weight", 1, {20}},
    {"model.layers.#.self_attn.q_b_proj.weight", 2, {96, 20}},
    {"model.layers.#.self_attn.kv_a_proj_with_mqa.weight", 2, {28, 64}},
    {"model.layers.#.self_attn.kv_a_layernorm.weight", 1, {24}},
    {"model.layers.#.self_attn.kv_b_proj.weight", 2, {128, 24}},
    {"model.layers.#.self_attn.o_proj.weight", 2, {64, 64}},
    {"model.layers.#.mlp.gate.weight", 2, {4, 64}},
    {"model.layers.#.mlp.gate.e_score_correction_bias", 1, {4}},
    {"model.layers.#.mlp.experts.@.gate_proj.weight", 2, {48, 64}},
    {"model.layers.#.mlp.experts.@.up_proj.weight", 2, {48, 64}},
    {"model.layers.#.mlp.experts.@.down_proj.weight", 2, {64, 48}},
    {"model.layers.#.mlp.shared_experts.gate_proj.weight", 2, {96, 64}},
    {"model.layers.#.mlp.shared_experts.up_proj.weight", 2, {96, 64}},
    {"model.layers.#.mlp.shared_experts.down_proj.weight", 2, {64, 96}},
    {"model.layers.#.input_layernorm.weight", 1, {64}},
    {"model.layers.#.enorm.weight", 1, {64}},
    {"model.layers.#.eh_proj.weight", 2, {64, 128}},
    {"model.layers.#.embed_tokens.weight", 2, {101, 64}},
    {"model.layers.#.shared_head.norm.weight", 1, {64}},
    {"model.layers.#.shared_head.head.weight", 2, {101, 64}},
    {"model.norm.weight", 1, {64}},
    {"lm_head.weight", 2, {101, 64}},
};

static const struct shape deepseek_v2_lite[] = {
    {"model.layers.#.self_attn.q_proj.weight", 2, {96, 64}},
    {"model.layers.#.self_attn.kv_a_proj_with_mqa.weight", 2, {28, 64}},
    {"model.layers.#.self_attn.kv_b_proj.weight", 2, {128, 24}},
    {"model.layers.#.self_attn.o_proj.weight", 2, {64, 64}},
};

static const struct shape gpt2[] = {
    {"transformer.wte.weight", 2, {101, 48}},
    {"transformer.wpe.weight", 2, {16, 48}},
    {"transformer.h.#.ln_1.weight", 1, {48}},
    {"transformer.h.#.ln_1.bias", 1, {48}},
    {"transformer.h.#.attn.bias", 3, {1, 16, 16}},
    {"transformer.h.#.attn.masked_bias", 0, {0}},
    {"transformer.h.#.attn.c_attn.weight", 2, {48, 144}},
    {"transformer.h.#.attn.c_attn.bias", 1, {144}},
    {"transformer.h.#.attn.c_proj.weight", 2, {48, 48}},
    {"transformer.h.#.attn.c_proj.bias", 1, {48}},
    {"transformer.h.#.ln_2.weight", 1, {48}},
    {"transformer.h.#.ln_2.bias", 1, {48}},
    {"transformer.h.#.mlp.c_fc.weight", 2, {48, 192}},
    {"transformer.h.#.mlp.c_fc.bias", 1, {192}},
    {"transformer.h.#.mlp.c_proj.weight", 2, {192, 48}},
    {"transformer.h.#.mlp.c_proj.bias", 1, {48}},
    {"transformer.ln_f.weight", 1, {48}},
    {"transformer.ln_f.bias", 1, {48}},
};

static const struct shape bert[] = {
    {"bert.embeddings.word_embeddings.weight", 2, {101, 48}},
    {"bert.embeddings.position_embeddings.weight", 2, {16, 48}},
    {"bert.embeddings.token_type_embeddings.weight", 2, {2, 48}},
    {"bert.embeddings.position_ids", 2, {1, 16}},
    {"bert.embeddings.LayerNorm.weight", 1, {48}},
    {"bert.encoder.layer.#.attention.self.query.weight", 2, {48, 48}},
    {"bert.encoder.layer.#.attention.self.query.bias", 1, {48}},
    {"bert.encoder.layer.#.attention.self.key.weight", 2, {48, 48}},
    {"bert.encoder.layer.#.attention.self.key.bias", 1, {48}},
    {"bert.encoder.layer.#.attention.self.value.weight", 2, {48, 48}},
    {"bert.encoder.layer.#.attention.self.value.bias", 1, {48}},
    {"bert.encoder.layer.#.attention.output.dense.weight", 2, {48, 48}},
    {"bert.encoder.layer.#.attention.output.dense.bias", 1, {48}},
    {"bert.encoder.layer.#.attention.output.LayerNorm.weight", 1, {48}},
    {"bert.encoder.layer.#.intermediate.dense.weight", 2, {90, 48}},
    {"bert.encoder.layer.#.intermediate.dense.bias", 1, {90}},
    {"bert.encoder.layer.#.output.dense.weight", 2, {48, 90}},
    {"bert.encoder.layer.#.output.dense.bias", 1, {48}},
    {"bert.encoder.layer.#.output.LayerNorm.bias", 1, {48}},
    {"bert.pooler.dense.weight", 2, {48, 48}},
    {"bert.pooler.dense.bias", 1, {48}},
    {"cls.predictions.bias", 1, {101}},
    {"cls.predictions.decoder.weight", 2, {101, 48}},
    {"cls.predictions.transform.dense.weight", 2, {48, 48}},
    {"cls.seq_relationship.weight", 2, {2, 48}},
};

static const struct shape megatron[] = {
    {"embedding.word_embeddings.weight", 2, {101, 64}},
    {"embedding.position_embeddings.weight", 2, {16, 64}},
    {"decoder.layers.#.self_attention.linear_qkv.weight", 2, {128, 64}},
    {"decoder.layers.#.self_attention.linear_qkv.bias", 1, {128}},
    {"decoder.layers.#.self_attention.linear_qkv.layer_norm_weight", 1, {64}},
    {"decoder.layers.#.self_attention.linear_proj.weight", 2, {64, 64}},
    {"decoder.layers.#.self_attention.linear_proj.bias", 1, {64}},
    {"decoder.layers.#.self_attention.q_layernorm.weight", 1, {8}},
    {"decoder.layers.#.mlp.linear_fc1.layer_norm_weight", 1, {64}},
    {"decoder.layers.#.mlp.linear_fc1.weight", 2, {180, 64}},
    {"decoder.layers.#.mlp.linear_fc1.bias", 1, {180}},
    {"decoder.layers.#.mlp.linear_fc2.weight", 2, {64, 90}},
    {"decoder.layers.#.mlp.linear_fc2.bias", 1, {64}},
    {"decoder.final_layernorm.weight", 1, {64}},
    {"output_layer.weight", 2, {101, 64}},
};

static const struct shape megatron_moe[] = {
    {"embedding.word_embeddings.weight", 2, {101, 64}},
    {"decoder.layers.#.self_attention.linear_qkv.weight", 2, {128, 64}},
    {"decoder.layers.#.self_attention.linear_proj.weight", 2, {64, 64}},
    {"decoder.layers.#.pre_mlp_layernorm.weight", 1, {64}},
    {"decoder.layers.#.mlp.router.weight", 2, {4, 64}},
    {"decoder.layers.#.mlp.experts.experts.linear_fc1.weight", 3, {4, 96, 64}},
    {"decoder.layers.#.mlp.experts.experts.linear_fc2.weight", 3, {4, 64, 48}},
    {"decoder.final_layernorm.weight", 1, {64}},
    {"output_layer.weight", 2, {101, 64}},
};

static const struct shape megatron_local_experts[] = {
    {"decoder.layers.#.self_attention.linear_qkv.weight", 2, {128, 64}},
    {"decoder.layers.#.self_attention.linear_proj.weight", 2, {64, 64}},
    {"decoder.layers.#.mlp.shared_experts.linear_fc1.weight", 2, {24, 64}},
    {"decoder.layers.#.mlp.shared_experts.linear_fc2.weight", 2, {64, 12}},
    {"decoder.layers.#.mlp.experts.local_experts.@.linear_fc1.weight",
     2,
     {96, 64}},
    {"decoder.layers.#.mlp.experts.local_experts.@.linear_fc2.weight",
     2,
     {64, 48}},
};

static const struct shape megatron_grouped_experts[] = {
    {"decoder.layers.#.self_attention.linear_qkv.weight", 2, {128, 64}},
    {"decoder.layers.#.self_attention.linear_proj.weight", 2, {64, 64}},
    {"decoder.layers.#.mlp.experts.linear_fc1.weight@", 2, {96, 64}},
    {"decoder.layers.#.mlp.experts.linear_fc2.weight@", 2, {64, 48}},
};

static void add(struct ptc_table_builder *builder,
                const char *prefix,
                const char *name,
                const struct shape *shape,
                uint32_t n_dims)
{
    char text[MAX_NAME];
    struct base_err err = {0};

    (void)snprintf(text, sizeof(text), "%s%s", prefix, name);
    assert_ok(
        ptc_table_add(builder, base_str_of(text),
                      prefix[0] == '\0' ? BASE_STR("model") : BASE_STR("optim"),
                      PTC_F32, n_dims, shape->dims, &err),
        &err);
}

/* A tensor and its optimizer state. */
static void add_all(struct ptc_table_builder *builder,
                    const char *name,
                    const struct shape *shape)
{
    add(builder, "", name, shape, shape->n_dims);
    add(builder, "optim.exp_avg.", name, shape, shape->n_dims);
    add(builder, "optim.step.", name, shape, 0);
}

/* Three layers, four experts. */
static void add_shape(struct ptc_table_builder *builder,
                      const struct shape *shape)
{
    static const char digits[] = "0123";
    char name[MAX_NAME];
    size_t n_layers = strchr(shape->name, '#') == NULL ? 1 : 3;
    size_t n_experts = strchr(shape->name, '@') == NULL ? 1 : 4;
    size_t layer;
    size_t expert;
    size_t i;

    for (layer = 0; layer < n_layers; layer++) {
        for (expert = 0; expert < n_experts; expert++) {
            for (i = 0; shape->name[i] != '\0'; i++) {
                name[i] = shape->name[i];
                if (name[i] == '#') {
                    name[i] = digits[layer];
                } else if (name[i] == '@') {
                    name[i] = digits[expert];
                }
            }
            name[i] = '\0';
            add_all(builder, name, shape);
        }
    }
}

static struct ptc_table *make_table(const struct shape *shapes, size_t n)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_table *table = NULL;
    struct base_err err = {0};
    size_t i;

    for (i = 0; i < n; i++) {
        add_shape(builder, &shapes[i]);
    }
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    return table;
}

static void check_binds(const char *short_form,
                        const struct ptc_table *table,
                        uint32_t n_ranks)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO(ptc_table) tied = NULL;
    BASE_AUTO(ptc_layout) layout = NULL;
    struct base_err err = {0};

    if (ptc_preset_expand(base_str_of(short_form), BASE_STR(""), NULL, table,
                          &spec, &err) != BASE_OK ||
        ptc_spec_ties(spec, table, &tied, &err) != BASE_OK ||
        ptc_layout_create(&spec, tied == NULL ? table : tied, &layout, &err) !=
            BASE_OK) {
        fail_msg("%s: %s", short_form, err.text);
    }
    assert_int_equal(ptc_layout_n_ranks(layout), n_ranks);
}

#define MODEL(shapes) shapes, N_ITEMS(shapes)

static void test_every_tensor_of_a_model_has_a_rule(void **state)
{
    static const struct {
        const char *short_form;
        const struct shape *shapes;
        size_t n;
        uint32_t n_ranks;
    } cases[] = {
        {"llama", MODEL(llama), 1},
        {"llama:tp=2,pp=3,heads=8", MODEL(llama), 6},
        {"llama:tp=3,dp=2,heads=8,zero1=1", MODEL(llama), 6},
        {"llama:tp=8,pp=2,head_dim=8,zero1=1", MODEL(llama), 16},
        {"llama:tp=2,dp=4,ep=2,pp=2,heads=8,zero1=1", MODEL(mixtral), 16},
        {"llama:tp=2,heads=8", MODEL(mixtral), 2},
        {"llama:dp=4,ep=4", MODEL(qwen_moe), 4},
        {"llama:tp=2,tied=1,heads=8,pp=2,zero1=1", MODEL(qwen_moe), 4},
        {"llama:tp=4,pp=2,heads=8", MODEL(phi3), 8},
        {"llama:tp=8,dp=2,heads=8,zero1=1", MODEL(phi3), 16},
        {"llama:tp=3,heads=8,pp=3", MODEL(deepseek_v3), 9},
        {"llama:tp=2,dp=4,ep=4,heads=8,zero1=1", MODEL(deepseek_v3), 8},
        {"llama:tp=8,heads=8", MODEL(deepseek_v2_lite), 8},
        {"gpt2:tp=4,pp=2,heads=4", MODEL(gpt2), 8},
        {"gpt2:tp=3,dp=2,heads=4,zero1=1", MODEL(gpt2), 6},
        {"gpt2:tied=0", MODEL(gpt2), 1},
        {"bert:tp=5,pp=2,heads=12", MODEL(bert), 10},
        {"bert:tp=4,dp=3,heads=12,zero1=1", MODEL(bert), 12},
        {"megatron:tp=2,pp=3,heads=8,swiglu=1", MODEL(megatron), 6},
        {"megatron:tp=3,dp=2,heads=8,zero1=1", MODEL(megatron), 6},
        {"megatron:tp=2,dp=4,ep=2,heads=8", MODEL(megatron_moe), 8},
        {"megatron:ep=4,dp=4,pp=2,zero1=1", MODEL(megatron_moe), 8},
        {"megatron:tp=2,dp=4,ep=2,heads=8", MODEL(megatron_local_experts), 8},
        {"megatron:tp=2,dp=2,ep=2,pp=3,heads=8,zero1=1",
         MODEL(megatron_grouped_experts), 12},
        {"fsdp2:dp=7", MODEL(gpt2), 7},
        {"fsdp2:dp=3,replicate=2", MODEL(bert), 6},
        {"zero1:dp=3", MODEL(llama), 3},
        {"hf", MODEL(megatron), 1},
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = make_table(cases[i].shapes, cases[i].n);

        check_binds(cases[i].short_form, table, cases[i].n_ranks);
    }
}

/* The text that a preset writes for a model's table. */
static void check_writes(const char *short_form,
                         const struct shape *shapes,
                         size_t n,
                         const char *text)
{
    BASE_AUTO(ptc_table) table = make_table(shapes, n);
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_BUF buf;
    struct base_err err = {0};

    base_buf_init(&buf, 1 << 20);
    assert_ok(ptc_preset_expand(base_str_of(short_form), BASE_STR(""), NULL,
                                table, &spec, &err),
              &err);
    assert_ok(ptc_spec_format(spec, &buf, &err), &err);
    if (strstr(base_buf_str(&buf).ptr, text) == NULL) {
        fail_msg("%s: no '%s' in\n%s", short_form, text,
                 base_buf_str(&buf).ptr);
    }
}

static void test_fused_and_latent_tensors_are_cut_at_heads(void **state)
{
    (void)state;
    check_writes("llama:tp=2,heads=8", MODEL(phi3),
                 "qkv_proj.weight', dims: [tp, ~], unit: {0: 8}, "
                 "segments: {0: [64, 32, 32]}");
    check_writes(
        "llama:tp=2,heads=8", MODEL(phi3),
        "gate_up_proj.weight', dims: [tp, ~], segments: {0: [90, 90]}");
    check_writes("llama:tp=2,heads=8", MODEL(deepseek_v3),
                 "q_b_proj.weight', dims: [tp, ~], unit: {0: 12}");
    check_writes("llama:tp=2,heads=8", MODEL(deepseek_v3),
                 "kv_b_proj.weight', dims: [tp, ~], unit: {0: 16}");
    check_writes("llama:tp=2,heads=8", MODEL(deepseek_v3),
                 "o_proj.weight', dims: [~, tp], unit: {1: 8}");
    check_writes("megatron:tp=2,heads=8", MODEL(megatron_local_experts),
                 "linear_fc1.weight', dims: [tp, ~], segments: {0: [12, 12]}");
    check_writes("megatron:tp=2,heads=8", MODEL(megatron_grouped_experts),
                 "linear_fc1.weight*', dims: [tp, ~], segments: {0: [48, 48]}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_tensor_of_a_model_has_a_rule),
        cmocka_unit_test(test_fused_and_latent_tensors_are_cut_at_heads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
