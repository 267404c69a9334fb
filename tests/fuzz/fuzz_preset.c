/* A short form, a NUL, the text of config.json.  What expands is a spec that
 * its own canonical text describes.  A small table has a shape for each name
 * that presets look at. */
#include <stdlib.h>

#include "ptc/preset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) {
        abort();
    }
}

static struct ptc_table *make_table(void)
{
    static const struct {
        const char *name;
        uint32_t n_dims;
        uint64_t shape[3];
    } tensors[] = {
        {"model.layers.0.self_attn.q_proj.weight", 2, {64, 32}},
        {"model.layers.0.self_attn.k_proj.weight", 2, {32, 32}},
        {"wte.weight", 2, {100, 48}},
        {"h.0.attn.c_proj.weight", 2, {48, 48}},
        {"encoder.layer.0.attention.self.query.weight", 2, {48, 48}},
        {"decoder.layers.0.self_attention.linear_qkv.weight", 2, {256, 32}},
        {"decoder.layers.0.self_attention.linear_proj.weight", 2, {32, 128}},
        {"decoder.layers.0.mlp.linear_fc1.weight", 2, {20, 32}},
        {"decoder.layers.0.mlp.linear_fc2.weight", 2, {32, 10}},
        {"optim.exp_avg.wte.weight", 2, {100, 48}},
        {"optim.norm.wte.weight", 1, {1}},
    };
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_table *table = NULL;
    size_t i;

    require(builder != NULL);
    for (i = 0; i < sizeof(tensors) / sizeof(tensors[0]); i++) {
        require(ptc_table_add(builder, base_str_of(tensors[i].name),
                              BASE_STR("model"), PTC_F32, tensors[i].n_dims,
                              tensors[i].shape, NULL) == BASE_OK);
    }
    require(ptc_table_finish(builder, &table, NULL) == BASE_OK);
    return table;
}

static void check(struct base_str short_form,
                  struct base_str config,
                  const struct ptc_table *table)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO(ptc_spec) again = NULL;
    BASE_AUTO_BUF first;
    BASE_AUTO_BUF second;
    struct base_err err;

    base_buf_init(&first, PTC_SPEC_MAX_BYTES);
    base_buf_init(&second, PTC_SPEC_MAX_BYTES);
    if (ptc_preset_expand(short_form, config, "config.json", table, &spec,
                          &err) != BASE_OK) {
        require(spec == NULL);
        /* Bad input is config.json, never what the preset itself wrote. */
        require(err.code == BASE_BAD_ARG || err.code == BASE_LIMIT ||
                (err.code == BASE_BAD_INPUT &&
                 base_str_starts(base_str_of(err.text),
                                 BASE_STR("config.json: "))));
        return;
    }
    require(ptc_preset_is_short_form(short_form));
    require(ptc_spec_format(spec, &first, &err) == BASE_OK);
    require(ptc_spec_parse(base_buf_str(&first), "again", &again, &err) ==
            BASE_OK);
    require(ptc_spec_format(again, &second, &err) == BASE_OK);
    require(base_str_eq(base_buf_str(&first), base_buf_str(&second)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BASE_AUTO(ptc_table) table = make_table();
    const uint8_t *nul = size == 0 ? NULL : memchr(data, 0, size);
    size_t n = nul == NULL ? size : (size_t)(nul - data);
    struct base_str short_form = {(const char *)data, n};
    struct base_str config = {"", 0};

    if (nul != NULL) {
        config = (struct base_str){(const char *)nul + 1, size - n - 1};
    }
    check(short_form, config, NULL);
    check(short_form, config, table);
    return 0;
}
