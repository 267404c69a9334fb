/* Shown files: names, order, offsets, metadata, splitting, parts. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "ptc/file.h"
#include "ptc/pieces.h"
#include "ptc/safetensors.h"
#include "tests/unit/ptc/fixture.h"

static const struct fixture_tensor tensors[] = {
    {"a.weight", "model", PTC_F32, 2, {4, 6}, NULL},
    {"b.weight", "model", PTC_BF16, 2, {8, 4}, NULL},
    {"head.weight", "model", PTC_F32, 0, {0}, "a.weight"},
    {"norm", "model", PTC_F32, 1, {3}, NULL},
    {"optim.exp_avg.b.weight", "optim", PTC_F32, 2, {8, 4}, NULL},
    {"scale", "model", PTC_F64, 0, {0}, NULL},
};

#define SPEC                                                                   \
    "mesh: {tp: 2}\n"                                                          \
    "rules:\n"                                                                 \
    "  - {match: a.weight, dims: [~, tp]}\n"                                   \
    "  - {match: head.weight, dims: [~, tp], tie: a.weight}\n"                 \
    "  - {match: b.weight, dims: [tp, ~], segments: {0: [4, 4]}}\n"            \
    "  - {match: '*'}\n"

static struct ptc_file *
rank_file(const struct ptc_layout *layout, ptc_rank rank, const char *group)
{
    struct ptc_file *file = NULL;
    struct base_err err;

    assert_ok(
        ptc_file_create_rank(layout, rank, base_str_of(group), &file, &err),
        &err);
    return file;
}

/* The header, read back; its tensors must be the file's entries. */
static struct ptc_st_header *header_read(const struct ptc_file *file)
{
    struct base_str bytes = ptc_file_header(file);
    struct ptc_st_header *header = NULL;
    struct base_err err;
    uint64_t length = 0;

    assert_ok(ptc_st_header_length((const uint8_t *)bytes.ptr,
                                   ptc_file_n_bytes(file), "file", &length,
                                   &err),
              &err);
    assert_int_equal(8 + length, bytes.len);
    assert_int_equal(bytes.len % PTC_ST_DATA_ALIGN, 0);
    assert_ok(
        ptc_st_header_parse((struct base_str){bytes.ptr + 8, (size_t)length},
                            ptc_file_n_bytes(file), "file", &header, &err),
        &err);
    assert_int_equal(header->n_entries, ptc_file_n_entries(file));
    for (uint32_t i = 0; i < header->n_entries; i++) {
        const struct ptc_st_entry *st = &header->entries[i];
        const struct ptc_file_entry *entry = ptc_file_entry(file, i);

        assert_true(base_str_eq(st->name, entry->shown.name));
        assert_int_equal(st->begin + bytes.len, entry->offset);
        assert_int_equal(st->end - st->begin, entry->n_bytes);
        assert_int_equal(st->n_dims, entry->shown.n_dims);
    }
    return header;
}

static void test_rank_file_is_a_safetensors_file(void **state)
{
    static const char *const names[] = {"scale", "a.weight", "head.weight",
                                        "norm", "b.weight"};
    BASE_AUTO(ptc_table) table = fixture_table(tensors, N_ITEMS(tensors));
    BASE_AUTO(ptc_layout) layout = fixture_layout(table, SPEC);
    BASE_AUTO(ptc_file) file = rank_file(layout, 1, "model");
    BASE_AUTO(ptc_st_header) header = header_read(file);
    struct base_str meta = ptc_st_meta(header, "retile");

    (void)state;
    assert_int_equal(header->n_entries, N_ITEMS(names));
    for (size_t i = 0; i < N_ITEMS(names); i++) { /* wide dtypes first */
        assert_true(
            base_str_eq(header->entries[i].name, base_str_of(names[i])));
    }
    assert_int_equal(ptc_file_n_bytes(file),
                     ptc_file_header(file).len + 8 + 48 + 48 + 12 + 32);
    assert_true(base_str_eq(
        meta, BASE_STR("{\"version\":1,\"tensors\":{"
                       "\"a.weight\":{\"shape\":[4,6],\"offset\":[0,3]},"
                       "\"b.weight\":{\"shape\":[8,4],\"ranges\":"
                       "[[[2,4],[6,8]],[[0,4]]]},"
                       "\"head.weight\":{\"shape\":[4,6],\"offset\":[0,3]},"
                       "\"norm\":{\"shape\":[3],\"offset\":[0]},"
                       "\"scale\":{\"shape\":[],\"offset\":[]}},"
                       "\"ties\":{\"head.weight\":\"a.weight\"}}")));
    assert_true(base_str_eq(ptc_st_meta(header, "format"), BASE_STR("pt")));
}

static void test_a_rank_without_tensors_of_a_group_has_no_file(void **state)
{
    BASE_AUTO(ptc_table) table = fixture_table(tensors, N_ITEMS(tensors));
    BASE_AUTO(ptc_layout)
    layout = fixture_layout(table, "mesh: {pp: 2}\n"
                                   "stages: {axis: pp, layer: '(\\d+)'}\n"
                                   "rules:\n"
                                   "  - {match: 'optim.*', stage: first}\n"
                                   "  - {match: '*', stage: all}\n");
    BASE_AUTO(ptc_file) first = rank_file(layout, 0, "optim");
    BASE_AUTO(ptc_file) second = rank_file(layout, 1, "optim");

    (void)state;
    assert_non_null(first);
    assert_null(second);
}

struct parts {
    unsigned n;
    struct ptc_piece pieces[4];
};

static enum base_code on_part(void *ctx,
                              uint32_t tensor,
                              const struct ptc_piece *piece,
                              struct base_err *err)
{
    struct parts *parts = ctx;

    (void)tensor;
    (void)err;
    assert_true(parts->n < N_ITEMS(parts->pieces));
    parts->pieces[parts->n++] = *piece;
    return BASE_OK;
}

static void test_parts_are_bytes_of_the_file(void **state)
{
    BASE_AUTO(ptc_table) table = fixture_table(tensors, N_ITEMS(tensors));
    BASE_AUTO(ptc_layout) layout = fixture_layout(table, SPEC);
    BASE_AUTO(ptc_file) file = rank_file(layout, 1, "model");
    struct parts parts = {0};
    struct base_err err;
    uint64_t offset = ptc_file_entry(file, 4)->offset; /* b.weight, bf16 */

    (void)state;
    assert_ok(ptc_file_pieces(file, 4, on_part, &parts, &err), &err);
    assert_int_equal(parts.n, 2);
    assert_int_equal(parts.pieces[0].offset, offset);
    assert_int_equal(parts.pieces[0].box.begin[0], 2);
    assert_int_equal(parts.pieces[1].offset, offset + 2 * 4 * 2);
    assert_int_equal(parts.pieces[1].box.begin[0], 6);
    assert_int_equal(parts.pieces[1].stride[0], 8);
    assert_int_equal(parts.pieces[1].stride[1], 2);
}

static void files_free(struct ptc_file **files, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        ptc_file_free(files[i]);
    }
    free(files);
}

static void
test_hf_files_leave_ties_out_and_fill_up_in_order_of_name(void **state)
{
    static const struct {
        uint64_t max_bytes;
        uint32_t n_files;
        uint32_t n_first; /* tensors of the first file */
    } cases[] = {
        {PTC_HF_MAX_BYTES, 1, 4},
        {96 + 64 + 12 + 8, 1, 4}, /* just so */
        {96 + 64 + 12 + 7, 2, 3},
        {160, 2, 2},
        {159, 2, 1}, /* a | b norm scale */
        {1, 4, 1},
    };
    BASE_AUTO(ptc_table) table = fixture_table(tensors, N_ITEMS(tensors));
    BASE_AUTO(ptc_layout)
    whole = fixture_layout(table, "mesh: {}\nrules: [{match: '*'}]\n");
    struct base_err err;

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct ptc_file **files = NULL;
        uint32_t n = 0;

        assert_ok(ptc_file_create_hf(whole, BASE_STR("model"),
                                     cases[i].max_bytes, &files, &n, &err),
                  &err);
        assert_int_equal(n, cases[i].n_files);
        assert_int_equal(ptc_file_n_entries(files[0]), cases[i].n_first);
        for (uint32_t f = 0; f < n; f++) { /* ties stand with their target */
            BASE_AUTO(ptc_st_header) header = header_read(files[f]);
            struct base_str meta = ptc_st_meta(header, "retile");
            struct base_str none = BASE_STR("\"ties\":{}}");
            struct base_str tie =
                BASE_STR("\"ties\":{\"head.weight\":\"a.weight\"}}");

            assert_true(base_str_ends(meta, f == 0 ? tie : none));
        }
        files_free(files, n);
    }
}

static void test_an_unknown_group_has_no_hf_file(void **state)
{
    BASE_AUTO(ptc_table) table = fixture_table(tensors, N_ITEMS(tensors));
    BASE_AUTO(ptc_layout)
    whole = fixture_layout(table, "mesh: {}\nrules: [{match: '*'}]\n");
    struct ptc_file **files = NULL;
    uint32_t n = 7;
    struct base_err err;

    (void)state;
    assert_ok(
        ptc_file_create_hf(whole, BASE_STR("other"), 100, &files, &n, &err),
        &err);
    assert_int_equal(n, 0);
    assert_null(files);
}

static void test_npy_data_begin_on_a_page(void **state)
{
    BASE_AUTO(ptc_table) table = fixture_table(tensors, N_ITEMS(tensors));
    BASE_AUTO(ptc_layout)
    whole = fixture_layout(table, "mesh: {}\nrules: [{match: '*'}]\n");
    BASE_AUTO(ptc_file) file = NULL;
    struct base_err err;

    (void)state;
    assert_ok(ptc_file_create_npy(
                  whole, ptc_table_find(table, BASE_STR("norm")), &file, &err),
              &err);
    assert_int_equal(ptc_file_header(file).len % 4096, 0);
    assert_int_equal(ptc_file_entry(file, 0)->offset,
                     ptc_file_header(file).len);
    assert_int_equal(ptc_file_n_bytes(file), ptc_file_header(file).len + 12);
}

static void test_a_sub_byte_tensor_has_no_npy_file(void **state)
{
    static const struct fixture_tensor small[] = {
        {"a", "model", PTC_F4, 1, {4}, NULL},
    };
    BASE_AUTO(ptc_table) table = fixture_table(small, 1);
    BASE_AUTO(ptc_layout)
    whole = fixture_layout(table, "mesh: {}\nrules: [{match: '*'}]\n");
    BASE_AUTO(ptc_file) file = NULL;
    struct base_err err;

    (void)state;
    assert_int_equal(ptc_file_create_npy(whole, 0, &file, &err),
                     BASE_UNSUPPORTED);
    assert_null(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rank_file_is_a_safetensors_file),
        cmocka_unit_test(test_a_rank_without_tensors_of_a_group_has_no_file),
        cmocka_unit_test(test_parts_are_bytes_of_the_file),
        cmocka_unit_test(
            test_hf_files_leave_ties_out_and_fill_up_in_order_of_name),
        cmocka_unit_test(test_an_unknown_group_has_no_hf_file),
        cmocka_unit_test(test_npy_data_begin_on_a_page),
        cmocka_unit_test(test_a_sub_byte_tensor_has_no_npy_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
