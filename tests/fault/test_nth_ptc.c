/* Memory that runs out, at every allocation of what ptc does: decoders,
 * tables, specs, presets, layouts, plans, files and views. */
#include "tests/unit/unit.h"

#include <string.h>

#include "base/file.h"
#include "ptc/coords.h"
#include "ptc/dcp.h"
#include "ptc/file.h"
#include "ptc/hf_index.h"
#include "ptc/infer.h"
#include "ptc/manifest.h"
#include "ptc/pieces.h"
#include "ptc/plan.h"
#include "ptc/preset.h"
#include "ptc/safetensors.h"
#include "ptc/view.h"
#include "tests/fault/nth.h"

static const char header_text[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"x\"},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[4,20]},"
    "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}";

static const char index_text[] =
    "{\"metadata\":{\"total_size\":20},\"weight_map\":{"
    "\"a\":\"model-00001-of-00002.safetensors\","
    "\"b\":\"model-00002-of-00002.safetensors\"}}";

static const char sharding_text[] = "{\"a\":{\"saved_offsets\":[4,0]},"
                                    "\"b\":{\"saved_offsets\":[]}}";

static const char table_text[] =
    "{\"retile_table\":1,\"tensors\":["
    "{\"name\":\"wte\",\"group\":\"model\",\"dtype\":\"F32\","
    "\"shape\":[10,4]},"
    "{\"name\":\"h.0.in\",\"group\":\"model\",\"dtype\":\"F32\","
    "\"shape\":[12,4]},"
    "{\"name\":\"h.1.in\",\"group\":\"model\",\"dtype\":\"F32\","
    "\"shape\":[12,4]},"
    "{\"name\":\"h.1.b\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[4]},"
    "{\"name\":\"h.0.b\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[4]},"
    "{\"name\":\"optim.m.h.0.b\",\"group\":\"optim\",\"dtype\":\"F32\","
    "\"shape\":[4]},"
    "{\"name\":\"optim.m.wte\",\"group\":\"optim\",\"dtype\":\"F32\","
    "\"shape\":[10,4]},"
    "{\"name\":\"optim.step.wte\",\"group\":\"optim\",\"dtype\":\"F32\","
    "\"shape\":[]}],"
    "\"ties\":{\"head\":\"wte\"},\"objects\":{\"rng.json\":\"rank\","
    "\"notes\":\"job\"}}";

static const char spec_text[] =
    "mesh: {pp: 2, dp: 2, tp: 2}\n"
    "meshes: {moe: {a: 4, b: 2}}\n"
    "stages: {axis: pp, layer: 'h\\.(\\d+)\\.', counts: [1, 1]}\n"
    "flats: {all: {over: [dp], order: ['*'], align: 2}}\n"
    "rules:\n"
    "  - {match: 'optim.*.h.*', flat: all, stage: layer}\n"
    "  - {match: 'h.*.in', dims: [tp], segments: {0: [4, 8]}, unit: {0: 2},"
    " stage: layer}\n"
    "  - {match: 'h.*.b', stage: layer}\n"
    "  - {match: wte, dims: [[dp, tp], ~]}\n"
    "  - {match: head, dims: [[dp, tp], ~], tie: wte}\n"
    "  - {match: 'x.*', mesh: moe, dims: [a], optional: true}\n"
    "objects: {'rng.*': {varies: [pp], on_change: copy}}\n";

static const char config_text[] =
    "{\"model_type\":\"llama\",\"num_attention_heads\":8,"
    "\"num_key_value_heads\":4,\"hidden_size\":64,"
    "\"tie_word_embeddings\":true}";

static struct base_str text_of(const char *text)
{
    return base_str_of(text);
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "out of memory");
}

static enum base_code do_header(struct base_err *err)
{
    BASE_AUTO(ptc_st_header) header = NULL;

    return ptc_st_header_parse(text_of(header_text),
                               8 + strlen(header_text) + 20, "f", &header, err);
}

static enum base_code do_header_write(struct base_err *err)
{
    static const uint64_t shape[] = {2, 2};
    struct ptc_st_new entries[] = {
        {.name = BASE_STR("b"),
         .dtype = PTC_F32,
         .n_dims = 2,
         .shape = shape,
         .n_bytes = 16},
        {.name = BASE_STR("a"),
         .dtype = PTC_U8,
         .n_dims = 2,
         .shape = shape,
         .n_bytes = 4},
    };
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 1u << 20);
    ptc_st_order(entries, 2);
    return ptc_st_header_write(entries, 2, BASE_STR("{}"), &buf, err);
}

static enum base_code do_index(struct base_err *err)
{
    BASE_AUTO(ptc_hf_index) index = NULL;
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 1u << 20);
    BASE_TRY(ptc_hf_index_parse(text_of(index_text), "f", &index, err));
    return ptc_hf_index_write(index, &buf, err);
}

static enum base_code do_sharding(struct base_err *err)
{
    BASE_AUTO(ptc_dcp_info) info = NULL;

    return ptc_dcp_info_parse(text_of(sharding_text), "f", &info, err);
}

static enum base_code open_table(struct ptc_table **ret, struct base_err *err)
{
    return ptc_table_parse(text_of(table_text), "t", ret, err);
}

static enum base_code do_table(struct base_err *err)
{
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_table) again = NULL;
    BASE_AUTO(ptc_table_builder) builder = NULL;
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 1u << 20);
    BASE_TRY(open_table(&table, err));
    builder = ptc_table_builder_create();
    if (builder == NULL) {
        return no_mem(err);
    }
    BASE_TRY(ptc_table_add_all(builder, table, err));
    BASE_TRY(ptc_table_finish(builder, &again, err));
    return ptc_table_format(again, &buf, err);
}

static enum base_code do_spec(struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct base_digest digest;
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 1u << 20);
    BASE_TRY(ptc_spec_parse(text_of(spec_text), "s", &spec, err));
    BASE_TRY(ptc_spec_format(spec, &buf, err));
    return ptc_spec_digest(spec, &digest, err);
}

static enum base_code do_whole(struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;

    return ptc_spec_whole(&spec, err);
}

static enum base_code expand(const char *short_form, struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;

    return ptc_preset_expand(text_of(short_form), text_of(config_text), "c",
                             NULL, &spec, err);
}

static enum base_code do_presets(struct base_err *err)
{
    BASE_TRY(expand("llama:tp=2,pp=2,zero1=1", err));
    BASE_TRY(expand("megatron:tp=2,heads=8,kv=4,head_dim=8,swiglu=0", err));
    return expand("fsdp2:dp=4", err);
}

/* A table that has @text's ties, and the layout of @text (NULL: whole). */
struct bound {
    struct ptc_table *table;
    struct ptc_layout *layout;
};

static void bound_done(struct bound *bound)
{
    ptc_layout_free(bound->layout);
    ptc_table_free(bound->table);
}
#define BOUND __attribute__((cleanup(bound_done))) struct bound

static enum base_code open_layout(const struct ptc_table *table,
                                  const char *text,
                                  struct ptc_layout **ret,
                                  struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;

    BASE_TRY(text == NULL ? ptc_spec_whole(&spec, err)
                          : ptc_spec_parse(text_of(text), "s", &spec, err));
    return ptc_layout_create(&spec, table, ret, err);
}

static enum base_code bind(struct bound *bound, struct base_err *err)
{
    BASE_TRY(open_table(&bound->table, err));
    return open_layout(bound->table, spec_text, &bound->layout, err);
}

static enum base_code
skip_shown(void *ctx, const struct ptc_shown *shown, struct base_err *err)
{
    (void)ctx;
    (void)shown;
    (void)err;
    return BASE_OK;
}

static enum base_code
skip_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    (void)ctx;
    (void)part;
    (void)err;
    return BASE_OK;
}

static enum base_code
skip_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    (void)ctx;
    (void)cell;
    (void)err;
    return BASE_OK;
}

static enum base_code do_layout(struct base_err *err)
{
    BOUND bound = {0};
    uint32_t n_tensors;

    BASE_TRY(bind(&bound, err));
    n_tensors = ptc_table_n_tensors(bound.table);
    for (ptc_rank rank = 0; rank < ptc_layout_n_ranks(bound.layout); rank++) {
        struct base_str all = {0};

        BASE_TRY(
            ptc_layout_shown(bound.layout, rank, all, skip_shown, NULL, err));
        for (uint32_t i = 0; i < n_tensors; i++) {
            BASE_TRY(
                ptc_layout_parts(bound.layout, i, rank, skip_part, NULL, err));
        }
    }
    for (uint32_t i = 0; i < n_tensors; i++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(bound.table, i);
        struct ptc_box box = ptc_box_whole(tensor->n_dims, tensor->shape);

        BASE_TRY(ptc_layout_find(bound.layout, i, &box, skip_cell, NULL, err));
    }
    return BASE_OK;
}

static enum base_code do_ties(struct base_err *err)
{
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_table) more = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;

    BASE_TRY(open_table(&table, err));
    BASE_TRY(ptc_spec_parse(BASE_STR("mesh: {}\nrules:\n"
                                     "  - {match: top, tie: h.0.b}\n"
                                     "  - {match: '*'}\n"),
                            "s", &spec, err));
    return ptc_spec_ties(spec, table, &more, err);
}

static enum base_code plan_all(const struct ptc_problem *problem,
                               struct base_err *err)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    BASE_AUTO(ptc_plan) plan = NULL;
    struct ptc_plan_totals totals = {0};
    struct base_digest digest;

    BASE_TRY(ptc_problem_digest(problem, &digest, err));
    BASE_TRY(ptc_planner_create(problem, &planner, err));
    for (uint32_t host = 0; host < problem->n_hosts; host++) {
        BASE_TRY(ptc_planner_host(planner, host, &plan, err));
    }
    BASE_TRY(ptc_plan_sum(planner, plan, &totals, err));
    return ptc_plan_check(problem, plan, 0, problem->n_hosts, err);
}

static enum base_code do_plan(struct base_err *err)
{
    static const ptc_rank ranks[] = {0, 1, 2, 3, 4, 5, 6, 7};
    BOUND bound = {0};
    BASE_AUTO(ptc_layout) to = NULL;
    uint32_t to_host[3];
    struct ptc_holding holdings[2];
    struct ptc_problem problem;

    BASE_TRY(bind(&bound, err));
    BASE_TRY(open_layout(bound.table,
                         "mesh: {dp: 3}\nrules:\n"
                         "  - {match: 'optim.*'}\n"
                         "  - {match: '*', dims: [dp]}\n",
                         &to, err));
    ptc_ranks_in_blocks(3, 2, to_host);
    for (uint32_t host = 0; host < 2; host++) {
        holdings[host] = (struct ptc_holding){
            .host = host,
            .layout = bound.layout,
            .ranks = ranks + 4 * (size_t)host,
            .n_ranks = 4,
        };
    }
    problem = (struct ptc_problem){
        .table = bound.table,
        .to = to,
        .n_hosts = 2,
        .rank_host = to_host,
        .holdings = holdings,
        .n_holdings = 2,
    };
    return plan_all(&problem, err);
}

/* Pieces of the whole state, as one file per group. */
static enum base_code add_piece(void *ctx,
                                uint32_t tensor,
                                const struct ptc_piece *piece,
                                struct base_err *err)
{
    return ptc_pieces_add(ctx, tensor, piece, err);
}

static enum base_code add_group(struct ptc_pieces *pieces,
                                const struct ptc_layout *whole,
                                struct base_str group,
                                struct base_err *err)
{
    struct ptc_file **files = NULL;
    uint32_t n_files = 0;
    enum base_code rc;

    BASE_TRY(ptc_file_create_hf(whole, group, PTC_HF_MAX_BYTES, &files,
                                &n_files, err));
    rc = BASE_OK;
    for (uint32_t i = 0; i < n_files; i++) {
        for (uint32_t k = 0; rc == BASE_OK && k < ptc_file_n_entries(files[i]);
             k++) {
            rc = ptc_file_pieces(files[i], k, add_piece, pieces, err);
        }
        ptc_file_free(files[i]);
    }
    free(files);
    return rc;
}

static enum base_code make_pieces(const struct ptc_table *table,
                                  struct ptc_pieces **ret,
                                  struct base_err *err)
{
    BASE_AUTO(ptc_layout) whole = NULL;
    BASE_AUTO(ptc_pieces) pieces = ptc_pieces_create(table);

    if (pieces == NULL) {
        return no_mem(err);
    }
    BASE_TRY(open_layout(table, NULL, &whole, err));
    BASE_TRY(add_group(pieces, whole, BASE_STR("model"), err));
    BASE_TRY(add_group(pieces, whole, BASE_STR("optim"), err));
    BASE_TRY(ptc_pieces_seal(pieces, err));
    BASE_TRY(ptc_pieces_check(pieces, err));
    *ret = base_steal(&pieces);
    return BASE_OK;
}

static enum base_code do_pieces(struct base_err *err)
{
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_pieces) pieces = NULL;
    BASE_AUTO(ptc_pieces) again = NULL;

    BASE_TRY(open_table(&table, err));
    BASE_TRY(make_pieces(table, &pieces, err));
    return ptc_pieces_rebind(pieces, table, &again, err);
}

static enum base_code view_file(const struct ptc_file *file,
                                const struct ptc_pieces *pieces,
                                struct base_err *err)
{
    BASE_AUTO(ptc_view) view = NULL;
    struct ptc_cursor cursor;
    struct ptc_run run;
    uint64_t n_bytes = 0;

    if (file == NULL) {
        return BASE_OK; /* the rank shows nothing of the group */
    }
    BASE_TRY(ptc_view_create(file, pieces, &view, err));
    ptc_cursor_init(&cursor, view, 0, UINT64_MAX);
    while (ptc_cursor_next(&cursor, &run)) {
        n_bytes += run.n_bytes;
    }
    assert_int_equal(n_bytes, ptc_view_n_bytes(view));
    return BASE_OK;
}

static enum base_code do_views(struct base_err *err)
{
    BOUND bound = {0};
    BASE_AUTO(ptc_pieces) pieces = NULL;

    BASE_TRY(bind(&bound, err));
    BASE_TRY(make_pieces(bound.table, &pieces, err));
    for (ptc_rank rank = 0; rank < ptc_layout_n_ranks(bound.layout);
         rank += 3) {
        for (uint32_t i = 0; i < ptc_table_n_groups(bound.table); i++) {
            BASE_AUTO(ptc_file) file = NULL;

            BASE_TRY(ptc_file_create_rank(bound.layout, rank,
                                          ptc_table_group(bound.table, i),
                                          &file, err));
            BASE_TRY(view_file(file, pieces, err));
        }
    }
    return BASE_OK;
}

static enum base_code do_npy(struct base_err *err)
{
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_layout) whole = NULL;
    BASE_AUTO(ptc_file) file = NULL;

    BASE_TRY(open_table(&table, err));
    BASE_TRY(open_layout(table, NULL, &whole, err));
    return ptc_file_create_npy(whole, 0, &file, err);
}

static enum base_code do_coords(struct base_err *err)
{
    BASE_AUTO(ptc_coords) coords = NULL;

    return ptc_coords_parse(
        BASE_STR("{\"version\":1,\"tensors\":{"
                 "\"a\":{\"shape\":[8,2],\"offset\":[4,0]},"
                 "\"b\":{\"shape\":[6],\"ranges\":[[[0,1],[3,4]]]},"
                 "\"all.0\":{\"flat\":[16,8],\"members\":[{\"name\":\"c\","
                 "\"at\":0,\"shape\":[16],\"ranges\":[[[0,16]]]}]}},"
                 "\"ties\":{\"head\":\"a\"}}"),
        "f", &coords, err);
}

static enum base_code do_infer(struct base_err *err)
{
    static const uint64_t shapes[][1] = {{4}, {3}, {7}, {7}};
    struct ptc_seen seen[4] = {
        {.name = BASE_STR("cut"), .rank = 0},
        {.name = BASE_STR("cut"), .rank = 1},
        {.name = BASE_STR("norm"), .rank = 0},
        {.name = BASE_STR("norm"), .rank = 1},
    };
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();

    if (builder == NULL) {
        return no_mem(err);
    }
    for (size_t i = 0; i < N_ITEMS(seen); i++) {
        seen[i].group = BASE_STR("model");
        seen[i].dtype = PTC_F32;
        seen[i].n_dims = 1;
        seen[i].shape = shapes[i];
    }
    BASE_TRY(ptc_spec_parse(BASE_STR("mesh: {tp: 2}\nrules:\n"
                                     "  - {match: cut, dims: [tp]}\n"
                                     "  - {match: norm}\n"),
                            "s", &spec, err));
    return ptc_infer(spec, seen, N_ITEMS(seen), NULL, builder, err);
}

static enum base_code do_manifest(struct base_err *err)
{
    static const struct ptc_manifest_blob blob = {.n_bytes = 1u << 20};
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_pieces) pieces = NULL;
    BASE_AUTO(ptc_pieces) again = NULL;
    BASE_AUTO(ptc_manifest) manifest = NULL;
    struct ptc_manifest_new from = {.blobs = &blob, .n_blobs = 1};
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 1u << 20);
    BASE_TRY(open_table(&table, err));
    BASE_TRY(make_pieces(table, &pieces, err));
    from.head.version = 1;
    from.head.layout = text_of(spec_text);
    from.head.origin = BASE_STR("save");
    from.table = table;
    from.pieces = pieces;
    BASE_TRY(ptc_manifest_encode(&from, &buf, err));
    BASE_TRY(ptc_manifest_open(base_buf_str(&buf), "m", &manifest, err));
    return ptc_manifest_pieces(manifest, table, &again, err);
}

static const struct nth_scenario scenarios[] = {
    {"safetensors header", do_header, NULL},
    {"safetensors writer", do_header_write, NULL},
    {"hf index", do_index, NULL},
    {"dcp sharding info", do_sharding, NULL},
    {"table", do_table, NULL},
    {"spec", do_spec, NULL},
    {"whole spec", do_whole, NULL},
    {"presets", do_presets, NULL},
    {"ties", do_ties, NULL},
    {"layout", do_layout, NULL},
    {"plan", do_plan, NULL},
    {"pieces", do_pieces, NULL},
    {"manifest", do_manifest, NULL},
    {"views", do_views, NULL},
    {"npy", do_npy, NULL},
    {"coordinates", do_coords, NULL},
    {"shapes from shards", do_infer, NULL},
};

static void test_each_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ITEMS(scenarios); i++) {
        nth_run(&scenarios[i], UINT64_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
