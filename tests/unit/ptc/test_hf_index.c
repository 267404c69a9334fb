#include "ptc/hf_index.h"

#include "tests/unit/unit.h"

static enum base_code
parse(const char *text, struct ptc_hf_index **ret, struct base_err *err)
{
    return ptc_hf_index_parse(base_str_of(text), "i.json", ret, err);
}

static const char golden[] =
    "{\n  \"metadata\": {\n    \"total_size\": 40\n  },\n"
    "  \"weight_map\": {\n"
    "    \"a\": \"model-00002-of-00002.safetensors\",\n"
    "    \"b\": \"model-00001-of-00002.safetensors\",\n"
    "    \"c\": \"model-00002-of-00002.safetensors\"\n"
    "  }\n}\n";

static void test_golden_text_survives_reading_and_writing(void **state)
{
    BASE_AUTO(ptc_hf_index) index = NULL;
    BASE_AUTO_BUF buf;
    struct base_err err = {0};

    (void)state;
    base_buf_init(&buf, 10000);
    assert_ok(parse(golden, &index, &err), &err);
    assert_int_equal(index->total_size, 40);
    assert_int_equal(index->n_files, 2);
    assert_string_equal(index->files[0].ptr,
                        "model-00001-of-00002.safetensors");
    assert_int_equal(index->n_entries, 3);
    assert_int_equal(index->entries[0].file, 1);
    assert_int_equal(index->entries[1].file, 0);
    assert_ok(ptc_hf_index_write(index, &buf, &err), &err);
    assert_string_equal(buf.ptr, golden);
}

static void test_entries_are_sorted_and_metadata_is_free(void **state)
{
    BASE_AUTO(ptc_hf_index) index = NULL;
    struct base_err err = {0};

    (void)state;
    assert_ok(parse("{\"weight_map\":{\"b\":\"x.safetensors\",\"a\":\"x."
                    "safetensors\"},\"metadata\":{\"total_parameters\":-7,"
                    "\"total_size\":12.0}}",
                    &index, &err),
              &err);
    assert_int_equal(index->total_size, 12);
    assert_int_equal(index->n_files, 1);
    assert_true(base_str_eq(index->entries[0].tensor, BASE_STR("a")));
}

static void test_an_empty_index_is_written_as_json(void **state)
{
    BASE_AUTO(ptc_hf_index) index = NULL;
    BASE_AUTO(ptc_hf_index) back = NULL;
    BASE_AUTO_BUF buf;
    struct base_err err = {0};

    (void)state;
    base_buf_init(&buf, 1000);
    assert_ok(parse("{\"weight_map\":{}}", &index, &err), &err);
    assert_ok(ptc_hf_index_write(index, &buf, &err), &err);
    assert_ok(parse(buf.ptr, &back, &err), &err);
    assert_int_equal(back->n_entries, 0);
    assert_int_equal(back->n_files, 0);
}

static void test_bad_indexes_are_refused_with_the_place(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"", "JSON, line 1"},
        {"[]", "JSON is not an object"},
        {"{}", "weight_map: missing"},
        {"{\"weight_maps\":{}}", "did you mean 'weight_map'?"},
        {"{\"weight_map\":[]}", "weight_map: expected an object, got an array"},
        {"{\"weight_map\":{\"a\":1}}",
         "weight_map: tensor 'a': expected a string"},
        {"{\"weight_map\":{\"a\":\"../x.safetensors\"}}",
         "tensor 'a': file '../x.safetensors': the name has a '/'"},
        {"{\"weight_map\":{\"a\":\"x.bin\"}}", "ends in .safetensors"},
        {"{\"weight_map\":{\"a\":\".safetensors\"}}", "ends in .safetensors"},
        {"{\"weight_map\":{\"a\":\"\"}}", "the name is empty"},
        {"{\"weight_map\":{\"a\":\"x\\u0000.safetensors\"}}", "NUL character"},
        {"{\"weight_map\":{\"a/b\":\"x.safetensors\"}}",
         "weight_map: tensor 'a/b': the name has a '/'"},
        {"{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"x.safetensors\"}}",
         "key 'a' twice"},
        {"{\"metadata\":{\"total_size\":-1},\"weight_map\":{}}",
         "metadata: total_size: -1 is negative"},
        {"{\"metadata\":{\"total_size\":1.5},\"weight_map\":{}}",
         "metadata: total_size: not a whole number"},
        {"{\"metadata\":{\"total_size\":\"1\"},\"weight_map\":{}}",
         "metadata: total_size: expected an integer, got a string"},
        {"{\"metadata\":{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]"
         "]]"
         "]]]]]]]]]]]]]]]]]]},\"weight_map\":{}}",
         "nested deeper than 32"},
        {"{\"weight_map\":{}} x", "end of file expected"},
        {"{\"a\xff\":1}", "not UTF-8"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_hf_index) index = NULL;
        struct base_err err = {0};

        assert_int_equal(parse(cases[i].text, &index, &err), BASE_BAD_INPUT);
        if (strstr(err.text, cases[i].error) == NULL ||
            strncmp(err.text, "i.json: ", 8) != 0) {
            fail_msg("case %zu: %s", i, err.text);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_text_survives_reading_and_writing),
        cmocka_unit_test(test_entries_are_sorted_and_metadata_is_free),
        cmocka_unit_test(test_an_empty_index_is_written_as_json),
        cmocka_unit_test(test_bad_indexes_are_refused_with_the_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
