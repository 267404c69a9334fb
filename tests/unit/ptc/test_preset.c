#include "ptc/preset.h"

#include <stdio.h>

#include "tests/unit/unit.h"

struct shape {
    const char *name;
    uint32_t n_dims;
    uint64_t dims[3];
};

static struct ptc_table *make_table(const struct shape *shapes, size_t n)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_table *table = NULL;
    struct base_err err = {0};
    size_t i;

    for (i = 0; i < n; i++) {
        assert_ok(ptc_table_add(builder, base_str_of(shapes[i].name),
                                BASE_STR("model"), PTC_F32, shapes[i].n_dims,
                                shapes[i].dims, &err),
                  &err);
    }
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    return table;
}

static enum base_code expand(const char *short_form,
                             const char *config,
                             const struct ptc_table *table,
                             struct base_buf *text,
                             struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;

    BASE_TRY(ptc_preset_expand(base_str_of(short_form),
                               base_str_of(config == NULL ? "" : config),
                               "m/config.json", table, &spec, err));
    return ptc_spec_format(spec, text, err);
}

static void check_text(const char *short_form,
                       const char *config,
                       const struct ptc_table *table,
                       const char *expected)
{
    struct base_err err = {0};
    BASE_AUTO_BUF text;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    assert_ok(expand(short_form, config, table, &text, &err), &err);
    assert_string_equal(text.ptr, expected);
}

/* The expansion has each of @lines (NULL-ended; '!' before one: has it not). */
static void check_lines(const char *short_form,
                        const char *config,
                        const struct ptc_table *table,
                        const char *const *lines)
{
    struct base_err err = {0};
    BASE_AUTO_BUF text;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    assert_ok(expand(short_form, config, table, &text, &err), &err);
    for (; *lines != NULL; lines++) {
        bool is_wanted = **lines != '!';

        if ((strstr(text.ptr, *lines + !is_wanted) != NULL) != is_wanted) {
            fail_msg("%s: expected %s in:\n%s", short_form, *lines, text.ptr);
        }
    }
}

static void test_presets_without_names_are_short(void **state)
{
    (void)state;
    check_text("hf", NULL, NULL,
               "mesh: {}\nrules:\n"
               "- {match: 'optim.*', optional: true}\n"
               "- {match: '*', optional: true}\n");
    check_text("fsdp2:replicate=3,dp=2", "not read", NULL,
               "mesh: {replicate: 3, dp: 2}\nrules:\n"
               "- {match: '*', dims: [dp], optional: true}\n");
    check_text("fsdp2", NULL, NULL,
               "mesh: {dp: 1}\nrules:\n"
               "- {match: '*', dims: [dp], optional: true}\n");
    check_text("zero1:dp=3", NULL, NULL,
               "mesh: {dp: 3}\nflats:\n  optimizer: {over: [dp]}\nrules:\n"
               "- {match: 'optim.step.*', optional: true}\n"
               "- {match: '*', optional: true}\n"
               "- {match: 'optim.*.*', flat: optimizer, optional: true}\n");
}

static void test_states_of_one_element_stay_out_of_flats(void **state)
{
    static const struct shape shapes[] = {
        {"w", 1, {4}},
        {"s", 0, {0}},
        {"optim.exp_avg.s", 0, {0}},
        {"optim.exp_avg.w", 1, {4}},
        {"optim.beta1.w", 1, {1}},
        {"optim.odd'*.w", 1, {1}},
        {"optim.gone.x", 1, {1}},
    };
    BASE_AUTO(ptc_table) table = make_table(shapes, N_ITEMS(shapes));

    (void)state;
    check_text("zero1:dp=3", NULL, table,
               "mesh: {dp: 3}\nflats:\n  optimizer: {over: [dp]}\nrules:\n"
               "- {match: 'optim.step.*', optional: true}\n"
               "- {match: 'optim.beta1.*', optional: true}\n"
               "- {match: '*', optional: true}\n"
               "- {match: 'optim.*.*', flat: optimizer, optional: true}\n");
}

static void test_llama_units_keep_groups_together(void **state)
{
    static const struct {
        const char *short_form;
        const char *config;
        const char *q;
        const char *kv;
    } cases[] = {
        {"llama:tp=2,heads=8,kv=4,head_dim=16", NULL, "{0: 16}", "{0: 16}"},
        {"llama:tp=2",
         "{\"hidden_size\": 128, \"num_attention_heads\": 8,"
         " \"num_key_value_heads\": 4}",
         "{0: 16}", "{0: 16}"},
        {"llama:tp=2",
         "{\"hidden_size\": 100, \"num_attention_heads\": 8,"
         " \"num_key_value_heads\": null, \"head_dim\": 32}",
         "{0: 32}", "{0: 32}"},
        /* uneven: queries move in groups of two */
        {"llama:tp=3,heads=8,kv=4,head_dim=16", NULL, "{0: 32}", "{0: 16}"},
        /* key and value heads repeat */
        {"llama:tp=8,heads=8,kv=4,head_dim=16", NULL, "{0: 16}", "{0: 16}"},
        /* the short form goes before the file */
        {"llama:head_dim=64,tp=2",
         "{\"head_dim\": 16, \"num_attention_heads\": 8}", "{0: 64}",
         "{0: 64}"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        char q[200];
        char kv[200];
        const char *lines[] = {q, kv, NULL};

        (void)snprintf(q, sizeof(q),
                       "'*.self_attn.q_proj.weight', dims: [tp, ~], unit: %s,",
                       cases[i].q);
        (void)snprintf(kv, sizeof(kv),
                       "'*.self_attn.[kv]_proj.weight', dims: [tp, ~], unit: "
                       "%s,",
                       cases[i].kv);
        check_lines(cases[i].short_form, cases[i].config, NULL, lines);
    }
}

static void test_axes_that_are_not_named_are_left_out(void **state)
{
    static const char *const bare[] = {
        "mesh: {}\nrules:\n", "!stage", "!dims", "!unit", "!mesh: moe", NULL};
    static const char *const named[] = {
        "mesh: {pp: 1, tp: 1}\n", "stages: {axis: pp, layer: '",
        "'*.self_attn.q_proj.weight', dims: [tp, ~], stage: layer,", NULL};

    (void)state;
    check_lines("llama", NULL, NULL, bare);
    check_lines("llama:", NULL, NULL, bare);
    check_lines("gpt2", NULL, NULL, bare);
    check_lines("bert", NULL, NULL, bare);
    check_lines("megatron", NULL, NULL, bare);
    check_lines("llama:tp=1,pp=1", NULL, NULL, named);
}

static void test_experts_lie_across_data_parallel_ranks(void **state)
{
    static const char *const llama[] = {
        "mesh: {pp: 2, dp: 4}\nmeshes:\n  moe: {pp: 2, dp: 2, ep: 2}\n",
        "experts: {axis: ep, expert: '\\.experts\\.(\\d+)\\.'}\n",
        "'*.mlp.experts.*.up_proj.weight', stage: layer, expert: true, mesh: "
        "moe, optional: true}",
        "'*.block_sparse_moe.experts.*.w2.weight', stage: layer, expert: true, "
        "mesh: moe,",
        "- {match: '*.mlp.gate.weight', stage: layer, optional: true}",
        NULL};
    static const char *const megatron[] = {
        "meshes:\n  moe: {dp: 1, ep: 2, tp: 2}\n",
        "'*.mlp.experts.linear_fc1.weight*', dims: [tp, ~], segments: {0: [6, "
        "6]}, expert: true, mesh: moe,",
        "'*.mlp.experts.experts.linear_fc1.weight', dims: [ep, tp, ~], "
        "segments: {1: [6, 6]}, mesh: moe,",
        "'*.mlp.experts.experts.linear_fc2.weight', dims: [ep, ~, tp], mesh: "
        "moe,",
        NULL};
    static const char *const zero1[] = {
        "'optim.step.*.mlp.experts.*.up_proj.weight', expert: true, mesh: moe,",
        "'optim.*.*.mlp.experts.*.up_proj.weight', expert: true, mesh: moe, "
        "flat: expert_optimizer,",
        "'optim.*.*.mlp.gate.weight', flat: optimizer,", NULL};

    (void)state;
    check_lines("llama:ep=2,dp=4,pp=2", NULL, NULL, llama);
    check_lines("llama:ep=2,dp=4,zero1=1", NULL, NULL, zero1);
    check_lines("megatron:ep=2,dp=2,tp=2,swiglu=1,heads=4,kv=2,head_dim=8",
                "{\"ffn_hidden_size\": 6}", NULL, megatron);
}

static void test_zero1_lays_what_tp_leaves_into_flats(void **state)
{
    static const char *const staged[] = {
        "mesh: {pp: 2, dp: 1, tp: 1}\n", "flats:\n  optimizer: {over: [dp]}\n",
        "- {match: 'optim.step.*.intermediate.dense.weight', stage: layer, "
        "optional: true}\n"
        "- {match: 'optim.*.*.intermediate.dense.weight', dims: [tp, ~], "
        "stage: layer, flat: optimizer, optional: true}\n",
        "!'optim.step.*',", NULL};
    static const char *const tied[] = {
        "- {match: 'optim.step.*', optional: true}\n", "!optim.step.l",
        "- {match: 'lm_head.weight', tie: 'transformer.wte.weight', optional: "
        "true}\n"
        "- {match: 'optim.*.lm_head.weight', flat: optimizer, optional: "
        "true}\n",
        NULL};

    (void)state;
    check_lines("bert:tp=1,pp=2,zero1=1", NULL, NULL, staged);
    check_lines("gpt2:zero1=1", NULL, NULL, tied);
}

static void test_gpt2_cuts_columns_of_three_blocks(void **state)
{
    static const struct shape shapes[] = {
        {"wte.weight", 2, {100, 48}},
        {"h.0.attn.c_attn.weight", 2, {48, 144}},
        {"h.0.attn.c_proj.weight", 2, {48, 48}},
    };
    BASE_AUTO(ptc_table) table = make_table(shapes, N_ITEMS(shapes));
    static const char *const lines[] = {
        "'*.attn.c_attn.weight', dims: [~, tp], unit: {1: 12}, segments: {1: "
        "[48, 48, 48]},",
        "'*.attn.c_attn.bias', dims: [tp], unit: {0: 12}, segments: {0: [48, "
        "48, 48]},",
        "'*.attn.c_proj.weight', dims: [tp, ~], unit: {0: 12},",
        "'*.mlp.c_fc.weight', dims: [~, tp],",
        "'*wte.weight', dims: [tp, ~], optional",
        "'lm_head.weight', dims: [tp, ~], tie: 'wte.weight',",
        NULL};
    static const char *const untied[] = {"!tie:", NULL};

    (void)state;
    check_lines("gpt2:heads=4,tp=2", NULL, table, lines);
    check_lines("gpt2:tied=0", NULL, table, untied);
    check_lines("gpt2", "{\"tie_word_embeddings\": false}", table, untied);
}

static void test_megatron_cuts_groups_and_halves(void **state)
{
    static const struct shape shapes[] = {
        {"decoder.layers.0.self_attention.linear_qkv.weight", 2, {256, 32}},
        {"decoder.layers.0.self_attention.linear_proj.weight", 2, {32, 128}},
        {"decoder.layers.0.mlp.linear_fc1.weight", 2, {20, 32}},
        {"decoder.layers.0.mlp.linear_fc2.weight", 2, {32, 10}},
    };
    BASE_AUTO(ptc_table) table = make_table(shapes, N_ITEMS(shapes));
    static const char *const lines[] = {
        /* 8 heads of 16 in 4 groups: (2 + 2) * 16 rows each */
        "linear_qkv.weight', dims: [tp, ~], unit: {0: 64},",
        "linear_proj.weight', dims: [~, tp], unit: {1: 32},",
        "'*.mlp.linear_fc1.weight', dims: [tp, ~], segments: {0: [10, 10]},",
        "'*.mlp.linear_fc2.weight', dims: [~, tp], optional", NULL};

    (void)state;
    check_lines("megatron:tp=2,heads=8", NULL, table, lines);
    check_lines("megatron:tp=2,heads=8,kv=4", NULL, table, lines);
    check_lines("megatron:tp=2,head_dim=16,swiglu=1", NULL, table, lines);
}

static void test_ties_follow_option_then_config(void **state)
{
    static const char *const tied[] = {
        "'lm_head.weight', tie: 'model.embed_tokens.weight',", NULL};
    static const char *const untied[] = {"!tie:", NULL};

    (void)state;
    check_lines("llama", NULL, NULL, untied);
    check_lines("llama:tied=1", NULL, NULL, tied);
    check_lines("llama", "{\"tie_word_embeddings\": true}", NULL, tied);
    check_lines("llama:tied=0", "{\"tie_word_embeddings\": true}", NULL,
                untied);
}

static void test_refusals_name_the_reason(void **state)
{
    static const struct {
        const char *short_form;
        const char *config;
        enum base_code code;
        const char *error;
    } cases[] = {
        {"lama:tp=2", NULL, BASE_BAD_ARG,
         "there is no preset 'lama'; did you mean 'llama'?"},
        {"", NULL, BASE_BAD_ARG, "there is no preset ''"},
        {"hf:tp=2", NULL, BASE_BAD_ARG, "hf: it has no options"},
        {"bert:cp=2", NULL, BASE_BAD_ARG,
         "bert: no option 'cp', did you mean 'tp'?; it has: tp pp dp heads "
         "zero1"},
        {"fsdp2:tp=2", NULL, BASE_BAD_ARG,
         "fsdp2: no option 'tp', did you mean 'dp'?; it has: dp replicate"},
        {"llama:tp", NULL, BASE_BAD_ARG, "llama: 'tp' is no KEY=VALUE"},
        {"llama:tp=1,,pp=1", NULL, BASE_BAD_ARG, "llama: '' is no KEY=VALUE"},
        {"llama:tp=1,", NULL, BASE_BAD_ARG, "llama: a comma at the end"},
        {"llama:tp=1,tp=1", NULL, BASE_BAD_ARG, "llama: tp is there twice"},
        {"llama:tp=0", NULL, BASE_BAD_ARG,
         "llama: tp=0: expected a number from 1 to 1048576"},
        {"llama:tp=1x", NULL, BASE_BAD_ARG,
         "llama: tp=1x: expected a number from 1 to 1048576"},
        {"llama:zero1=2", NULL, BASE_BAD_ARG,
         "llama: zero1=2: expected a number from 0 to 1"},
        {"llama:dp=1048576,pp=2", NULL, BASE_BAD_ARG,
         "llama: more than 1048576 ranks"},
        {"llama:dp=3,ep=2", NULL, BASE_BAD_ARG,
         "llama: ep=2 does not divide dp=3 (experts lie across the ranks of "
         "dp)"},
        {"llama:tp=2", NULL, BASE_BAD_ARG,
         "llama: tp=2 needs heads: write it (heads=N), as neither config.json "
         "nor a tensor's shape tells it"},
        {"llama:tp=2,heads=4,head_dim=8", NULL, BASE_BAD_ARG,
         "llama: tp=2 needs kv: write it (kv=N), as neither config.json nor a "
         "tensor's shape tells it"},
        {"llama:tp=2,heads=6,kv=4,head_dim=8", NULL, BASE_BAD_ARG,
         "llama: kv=4 does not divide heads=6"},
        {"llama:tp=4,heads=6,kv=2,head_dim=8", NULL, BASE_BAD_ARG,
         "llama: tp=4 does not go with heads=6 and kv=2: some rank would need "
         "parts of two groups"},
        {"bert:tp=5", "{\"num_attention_heads\": 4, \"hidden_size\": 8}",
         BASE_BAD_ARG, "bert: tp=5 is more than heads=4"},
        {"bert:tp=2", "{\"num_attention_heads\": 3, \"hidden_size\": 8}",
         BASE_BAD_ARG, "bert: heads=3 does not divide the hidden size 8"},
        {"gpt2:tp=2,heads=2", NULL, BASE_BAD_ARG,
         "gpt2: tp=2 needs the hidden size, which neither config.json nor a "
         "tensor's shape tells"},
        {"megatron:tp=4,heads=4,kv=2,head_dim=8", NULL, BASE_BAD_ARG,
         "megatron: tp=4 is more than kv=2: a group of linear_qkv is never "
         "cut"},
        {"megatron:tp=2,heads=4,kv=2,head_dim=8,swiglu=1", NULL, BASE_BAD_ARG,
         "megatron: swiglu=1 needs the size of linear_fc1's halves, which "
         "neither config.json nor a tensor's shape tells"},
        {"bert", "{\"model_type\": \"llama\"}", BASE_BAD_INPUT,
         "m/config.json: model_type: 'llama' is not an architecture of the "
         "preset bert"},
        {"gpt2", "{\"architectures\": [\"BertModel\"]}", BASE_BAD_INPUT,
         "m/config.json: architectures: 'BertModel' is not an architecture of "
         "the preset gpt2"},
        {"gpt2", "{\"model_type\": 3}", BASE_BAD_INPUT,
         "m/config.json: model_type: expected a string"},
        {"gpt2", "{\"architectures\": \"GPT2\"}", BASE_BAD_INPUT,
         "m/config.json: architectures: expected a list of strings"},
        {"gpt2", "{\"n_head\": \"12\"}", BASE_BAD_INPUT,
         "m/config.json: n_head: expected an integer from 1 to 2147483648"},
        {"gpt2", "{\"n_head\": -1}", BASE_BAD_INPUT,
         "m/config.json: n_head: expected an integer from 1 to 2147483648"},
        {"gpt2", "{\"n_head\": 12.5}", BASE_BAD_INPUT,
         "m/config.json: n_head: expected an integer from 1 to 2147483648"},
        {"gpt2", "{\"tie_word_embeddings\": 1}", BASE_BAD_INPUT,
         "m/config.json: tie_word_embeddings: expected true or false"},
        {"gpt2", "[]", BASE_BAD_INPUT, NULL},
        {"gpt2", "{", BASE_BAD_INPUT, NULL},
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        struct base_err err = {0};
        BASE_AUTO_BUF text;
        enum base_code code;

        base_buf_init(&text, PTC_SPEC_MAX_BYTES);
        code = expand(cases[i].short_form, cases[i].config, NULL, &text, &err);
        if (cases[i].error != NULL) {
            assert_string_equal(err.text, cases[i].error);
        }
        assert_int_equal(code, cases[i].code);
    }
}

static void test_shapes_that_contradict_are_refused(void **state)
{
    static const struct shape llama[] = {
        {"model.layers.0.self_attn.q_proj.weight", 2, {64, 32}},
        {"model.layers.0.self_attn.k_proj.weight", 2, {32, 32}},
    };
    static const struct shape megatron[] = {
        {"decoder.layers.0.self_attention.linear_qkv.weight", 2, {256, 32}},
        {"decoder.layers.0.self_attention.linear_proj.weight", 2, {32, 128}},
        {"decoder.layers.0.mlp.linear_fc1.weight", 2, {20, 32}},
        {"decoder.layers.0.mlp.linear_fc2.weight", 2, {32, 10}},
    };
    static const struct shape uneven[] = {
        {"model.layers.0.self_attn.q_proj.weight", 2, {64, 32}},
        {"model.layers.1.self_attn.q_proj.weight", 2, {32, 32}},
    };
    static const struct {
        const char *short_form;
        const struct shape *shapes;
        size_t n;
        const char *error;
    } cases[] = {
        {"llama:tp=2,heads=4,head_dim=8", llama, 2,
         "llama: heads=4 with head_dim=8 does not make the 64 rows of q_proj"},
        {"llama:tp=2,heads=4,kv=4", llama, 2,
         "llama: kv=4 with head_dim=16 does not make the 32 rows of k_proj"},
        {"llama:tp=2,heads=3", llama, 2,
         "llama: tp=2 needs head_dim: write it (head_dim=N), as neither "
         "config.json nor a tensor's shape tells it"},
        {"llama:tp=2,heads=4", uneven, 2,
         "llama: model.layers.0.self_attn.q_proj.weight and "
         "model.layers.1.self_attn.q_proj.weight differ in dimension 0: write "
         "a spec instead"},
        {"megatron:tp=2,heads=8,kv=2", megatron, 4,
         "megatron: heads=8, kv=2, head_dim=16 do not make linear_qkv's 256 "
         "rows and linear_proj's 128 columns"},
        {"megatron:tp=2,heads=8,swiglu=0", megatron, 4,
         "megatron: swiglu=0: linear_fc1 has 20 rows, linear_fc2 10 columns"},
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = make_table(cases[i].shapes, cases[i].n);
        struct base_err err = {0};
        BASE_AUTO_BUF text;

        base_buf_init(&text, PTC_SPEC_MAX_BYTES);
        assert_int_equal(expand(cases[i].short_form, NULL, table, &text, &err),
                         BASE_BAD_ARG);
        assert_string_equal(err.text, cases[i].error);
    }
}

static void test_short_forms_are_told_from_paths(void **state)
{
    static const struct {
        const char *text;
        bool is_short;
    } cases[] = {
        {"llama", true},      {"llama:", true},      {"hf", true},
        {"fsdp2:dp=1", true}, {"llama.yaml", false}, {"./llama", false},
        {"", false},          {":tp=1", false},      {"lama:tp=1", false},
    };
    unsigned i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(ptc_preset_is_short_form(base_str_of(cases[i].text)),
                         cases[i].is_short);
    }
    for (i = 0; ptc_preset_info(i) != NULL; i++) {
        assert_true(
            ptc_preset_is_short_form(base_str_of(ptc_preset_info(i)->name)));
    }
    assert_int_equal(i, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presets_without_names_are_short),
        cmocka_unit_test(test_states_of_one_element_stay_out_of_flats),
        cmocka_unit_test(test_llama_units_keep_groups_together),
        cmocka_unit_test(test_axes_that_are_not_named_are_left_out),
        cmocka_unit_test(test_experts_lie_across_data_parallel_ranks),
        cmocka_unit_test(test_zero1_lays_what_tp_leaves_into_flats),
        cmocka_unit_test(test_gpt2_cuts_columns_of_three_blocks),
        cmocka_unit_test(test_megatron_cuts_groups_and_halves),
        cmocka_unit_test(test_ties_follow_option_then_config),
        cmocka_unit_test(test_refusals_name_the_reason),
        cmocka_unit_test(test_shapes_that_contradict_are_refused),
        cmocka_unit_test(test_short_forms_are_told_from_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
