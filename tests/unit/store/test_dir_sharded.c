/* Directories of PyTorch DCP's safetensors writer, made by hand. */
#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/store/sample.h"

#define DCP(info, tensors)                                                     \
    "{\"__metadata__\":{\"DCP_SHARDING_INFO\":\"" info "\"}," tensors "}"

static void put_dcp(const char *dir, const char *second_offset)
{
    BASE_AUTO_MEM char *second =
        base_path(DCP("{\\\"w\\\":{\\\"saved_offsets\\\":[%s]}}",
                      F32("w", "[1,2]", 0, 8)),
                  second_offset);

    assert_non_null(second);
    sample_put_st(dir, "shard-00001-model-00001-of-00002.safetensors",
                  DCP("{\\\"w\\\":{\\\"saved_offsets\\\":[0,0]}}",
                      F32("w", "[2,2]", 0, 16)),
                  16);
    sample_put_st(dir, "shard-00002-model-00002-of-00002.safetensors", second,
                  8);
}

static void test_opens_sharded_files(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_source) source = NULL;
    const struct ptc_tensor *w;
    struct base_err err = {0};

    put_dcp(tmp->path, "2,0");
    assert_ok(store_source_open_dir(tmp->path, NULL, &source, &err), &err);
    assert_int_equal(store_source_form(source), STORE_FORM_SHARDED);
    assert_null(store_source_layout(source));
    assert_int_equal(ptc_table_n_tensors(store_source_table(source)), 1);
    w = ptc_table_tensor(store_source_table(source), 0);
    assert_int_equal(w->shape[0], 3);
    assert_true(base_str_eq(w->group, BASE_STR("model")));
    assert_int_equal(ptc_pieces_n(store_source_pieces(source)), 2);
}

static void test_shards_may_stand_in_any_order(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_source) source = NULL;
    struct base_err err = {0};

    sample_put_st(tmp->path, "shard-00001-model-00001-of-00002.safetensors",
                  DCP("{\\\"w\\\":{\\\"saved_offsets\\\":[1,0]}}",
                      F32("w", "[2,2]", 0, 16)),
                  16);
    sample_put_st(tmp->path, "shard-00002-model-00002-of-00002.safetensors",
                  DCP("{\\\"w\\\":{\\\"saved_offsets\\\":[0,0]}}",
                      F32("w", "[1,2]", 0, 8)),
                  8);
    assert_ok(store_source_open_dir(tmp->path, NULL, &source, &err), &err);
    assert_int_equal(ptc_table_tensor(store_source_table(source), 0)->shape[0],
                     3);
}

static void test_refuses_sharded_files_that_do_not_cover(void **state)
{
    static const struct {
        const char *offset;
        const char *says;
    } cases[] = {
        {"3,0", "tensor w"}, /* a hole */
        {"1,0", "tensor w"}, /* an overlap */
        {"1", "has 2 dimensions"},
        {"18446744073709551615,0", ""},
    };
    const struct tmp_dir *tmp = *state;

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        char name[24];
        BASE_AUTO_MEM char *path = NULL;
        struct store_source *source = NULL;
        struct base_err err = {0};

        (void)snprintf(name, sizeof(name), "case-%zu", i);
        sample_make_dir(tmp->path, name);
        path = base_path("%s/%s", tmp->path, name);
        assert_non_null(path);
        put_dcp(path, cases[i].offset);
        assert_int_not_equal(store_source_open_dir(path, NULL, &source, &err),
                             BASE_OK);
        if (strstr(err.text, cases[i].says) == NULL) {
            fail_msg("case %zu: %s", i, err.text);
        }
    }
}

static void test_any_file_of_dcp_makes_a_directory_sharded(void **state)
{
    static const char *const lacks = "{\"w\":{\"dtype\":\"F32\","
                                     "\"shape\":[2,2],"
                                     "\"data_offsets\":[0,16]}}";
    static const char *const whole = "{\"a\":{\"dtype\":\"F32\","
                                     "\"shape\":[2,2],"
                                     "\"data_offsets\":[0,16]}}";
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *mixed = base_path("%s/mixed", tmp->path);
    BASE_AUTO_MEM char *lost = base_path("%s/lost", tmp->path);
    BASE_AUTO(store_source) source = NULL;
    struct store_source *none = NULL;
    struct base_err err = {0};

    sample_make_dir(tmp->path, "mixed");
    sample_make_dir(tmp->path, "lost");
    put_dcp(mixed, "2,0");
    sample_put_st(mixed, "extra.safetensors", whole, 16); /* listed first */
    assert_ok(store_source_open_dir(mixed, NULL, &source, &err), &err);
    assert_int_equal(store_source_form(source), STORE_FORM_SHARDED);
    assert_int_equal(ptc_table_n_tensors(store_source_table(source)), 2);
    sample_put_st(lost, "shard-00001-model-00001-of-00002.safetensors", lacks,
                  16);
    sample_put_st(lost, "shard-00002-model-00002-of-00002.safetensors",
                  DCP("{\\\"w\\\":{\\\"saved_offsets\\\":[2,0]}}",
                      F32("w", "[1,2]", 0, 8)),
                  8);
    assert_int_equal(store_source_open_dir(lost, NULL, &none, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "shard-00001-model-00001-of-00002"));
    assert_non_null(strstr(err.text, "lacks DCP_SHARDING_INFO"));
}

static void test_parts_that_an_index_calls_whole_are_refused(void **state)
{
    static const char *const offsets[] = {"0,0", "0,1"};
    const struct tmp_dir *tmp = *state;

    for (size_t i = 0; i < N_ITEMS(offsets); i++) {
        BASE_AUTO_MEM char *dir = base_path("%s/%zu", tmp->path, i);
        BASE_AUTO(store_source) source = NULL;
        struct base_err err = {0};
        enum base_code code;
        BASE_AUTO_MEM char *header =
            base_path(DCP("{\\\"w\\\":{\\\"saved_offsets\\\":[%s]}}",
                          F32("w", "[1,2]", 0, 8)),
                      offsets[i]);

        assert_non_null(header);
        sample_make_dir(tmp->path, i == 0 ? "0" : "1");
        sample_put_st(dir, "model-00001-of-00001.safetensors", header, 8);
        tree_dir_put(dir, "model.safetensors.index.json",
                     BASE_STR("{\"metadata\":{},\"weight_map\":{\"w\":"
                              "\"model-00001-of-00001.safetensors\"}}"));
        code = store_source_open_dir(dir, NULL, &source, &err);
        assert_int_equal(code, i == 0 ? BASE_OK : BASE_MISMATCH);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmp_dir_test(test_opens_sharded_files),
        tmp_dir_test(test_shards_may_stand_in_any_order),
        tmp_dir_test(test_any_file_of_dcp_makes_a_directory_sharded),
        tmp_dir_test(test_parts_that_an_index_calls_whole_are_refused),
        tmp_dir_test(test_refuses_sharded_files_that_do_not_cover),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
