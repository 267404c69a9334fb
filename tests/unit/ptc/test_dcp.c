#include "ptc/dcp.h"

#include "tests/unit/unit.h"

static enum base_code
parse(const char *text, struct ptc_dcp_info **ret, struct base_err *err)
{
    return ptc_dcp_info_parse(base_str_of(text), "s.safetensors", ret, err);
}

static void test_offsets_are_found_by_tensor(void **state)
{
    BASE_AUTO(ptc_dcp_info) info = NULL;
    struct base_err err = {0};
    const struct ptc_dcp_entry *entry;

    (void)state;
    assert_ok(parse("{\"w\": {\"saved_offsets\": [128, 0]}, "
                    "\"b\": {\"saved_offsets\": [64]}, "
                    "\"s\": {\"saved_offsets\": []}}",
                    &info, &err),
              &err);
    assert_int_equal(info->n_entries, 3);
    assert_true(base_str_eq(info->entries[0].tensor, BASE_STR("b")));
    entry = ptc_dcp_info_find(info, BASE_STR("w"));
    assert_non_null(entry);
    assert_int_equal(entry->n_dims, 2);
    assert_int_equal(entry->offset[0], 128);
    assert_int_equal(entry->offset[1], 0);
    assert_int_equal(ptc_dcp_info_find(info, BASE_STR("s"))->n_dims, 0);
    assert_null(ptc_dcp_info_find(info, BASE_STR("ww")));
}

static void test_nothing_is_found_in_an_empty_info(void **state)
{
    BASE_AUTO(ptc_dcp_info) info = NULL;
    struct base_err err = {0};

    (void)state;
    assert_ok(parse("{}", &info, &err), &err);
    assert_null(ptc_dcp_info_find(info, BASE_STR("w")));
}

static void test_bad_infos_are_refused_with_the_place(void **state)
{
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"", "JSON, line 1"},
        {"{\"a\":[]}", "tensor 'a': expected an object"},
        {"{\"a\":{}}", "tensor 'a': saved_offsets: missing"},
        {"{\"a\":{\"saved_offset\":[1]}}", "did you mean 'saved_offsets'?"},
        {"{\"a\":{\"saved_offsets\":1}}",
         "tensor 'a': saved_offsets: expected an array, got an integer"},
        {"{\"a\":{\"saved_offsets\":[-1]}}",
         "tensor 'a': saved_offsets: -1 is negative"},
        {"{\"a\":{\"saved_offsets\":[1.5]}}",
         "saved_offsets: expected an integer, got a fraction"},
        {"{\"a\":{\"saved_offsets\":[18446744073709551616]}}", "too big"},
        {"{\"a\":{\"saved_offsets\":[1,1,1,1,1,1,1,1,1]}}",
         "9 numbers, at most 8"},
        {"{\"a/\":{\"saved_offsets\":[]}}", "the name has a '/'"},
        {"{\"a\":{\"saved_offsets\":[]},\"a\":{}}", "key 'a' twice"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_dcp_info) info = NULL;
        struct base_err err = {0};

        assert_int_equal(parse(cases[i].text, &info, &err), BASE_BAD_INPUT);
        if (strstr(err.text, cases[i].error) == NULL ||
            strncmp(err.text, "s.safetensors: DCP_SHARDING_INFO: ", 34) != 0) {
            fail_msg("case %zu: %s", i, err.text);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_offsets_are_found_by_tensor),
        cmocka_unit_test(test_nothing_is_found_in_an_empty_info),
        cmocka_unit_test(test_bad_infos_are_refused_with_the_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
