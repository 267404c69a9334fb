#include "ptc/safetensors.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

static enum base_code parse(const char *json,
                            uint64_t data_bytes,
                            struct ptc_st_header **ret,
                            struct base_err *err)
{
    return ptc_st_header_parse(base_str_of(json), 8 + strlen(json) + data_bytes,
                               "m.safetensors", ret, err);
}

#define E(dtype, shape, offsets)                                               \
    "{\"dtype\":\"" dtype "\",\"shape\":[" shape                               \
    "],\"data_offsets\":[" offsets "]}"

static void test_entries_stand_by_offset_whatever_the_names(void **state)
{
    BASE_AUTO(ptc_st_header) header = NULL;
    struct base_err err = {0};
    const char *json = "{\"a\":" E("F32", "2,3", "4,28") ", \"\\u00e9\\n\":" E(
        "U8", "4", "0,4") "}";

    (void)state;
    assert_int_equal(parse(json, 28, &header, &err), BASE_BAD_INPUT);
    assert_non_null(strstr(err.text, "has a control character"));

    json =
        "{\"__metadata__\":{\"z\":\"1\",\"format\":\"pt\"},\"a\":" E("F32", "2,3", "4,28") ",\n \"\\u00e9\\ud83d\\ude00\" : " E(
            "U8", "4", "0,4") ",\"e\":" E("BF16", "0,7",
                                          "28,28") ",\"s\":" E("F64", "",
                                                               "28,36") "}    ";
    assert_ok(parse(json, 36, &header, &err), &err);
    assert_int_equal(header->n_entries, 4);
    assert_int_equal(header->data_offset, 8 + strlen(json));
    assert_string_equal(header->entries[0].name.ptr,
                        "\xc3\xa9\xf0\x9f\x98\x80");
    assert_string_equal(header->entries[1].name.ptr, "a");
    assert_int_equal(header->entries[1].dtype, PTC_F32);
    assert_int_equal(header->entries[1].n_dims, 2);
    assert_int_equal(header->entries[1].shape[1], 3);
    assert_int_equal(header->entries[1].begin, 4);
    assert_int_equal(header->entries[1].end, 28);
    assert_string_equal(header->entries[2].name.ptr, "e");
    assert_int_equal(header->entries[3].n_dims, 0);
    assert_int_equal(header->n_meta, 2);
    assert_true(base_str_eq(ptc_st_meta(header, "format"), BASE_STR("pt")));
    assert_null(ptc_st_meta(header, "forma").ptr);
}

static void test_a_header_without_tensors_is_good(void **state)
{
    BASE_AUTO(ptc_st_header) header = NULL;
    struct base_err err = {0};

    (void)state;
    assert_ok(parse("{}", 0, &header, &err), &err);
    assert_int_equal(header->n_entries, 0);
    assert_null(ptc_st_meta(header, "format").ptr);
}

static void test_bad_headers_are_refused_with_the_place(void **state)
{
    static const struct {
        const char *json;
        uint64_t data_bytes;
        const char *error;
    } cases[] = {
        {"", 0, "does not begin with '{'"},
        {" {}", 0, "does not begin with '{'"},
        {"[]", 0, "does not begin with '{'"},
        {"{", 0, "ends neither in '}' nor in spaces"},
        {"{}x", 0, "ends neither in '}' nor in spaces"},
        {"{}\n", 0, "ends neither in '}' nor in spaces"},
        {"{} {}", 0, "header: JSON, line 1, column 4: end of file expected"},
        {"{\"a\":" E("F32", "1", "0,4"), 4,
         "line 1, column 53: 'a': '}' expected"},
        {"{\"a\":" E("F32", "1", "0,4") ",}", 4, "string or '}' expected"},
        {"{\"a\xff\":1}", 0, "header: JSON is not UTF-8"},
        {"{\"a\\u0000\":1}", 0, "NUL character"},
        {"{\"a\\ud800\":1}", 0, "invalid Unicode"},
        {"{\"a\\ud800\\u0041\":1}", 0, "invalid Unicode"},
        {"{\"a\\x\":1}", 0, "invalid escape"},
        {"{\"a\\u12\":1}", 0, "invalid escape"},
        {"{\"a\nb\":1}", 0, "line 1, column 3: unexpected newline"},
        {"{\"a\":1}", 0, "tensor 'a': expected an object, got an integer"},
        {"{\"a\":[[[[[[]]]]]]}", 0,
         "tensor 'a': expected an object, got an array"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4,
         "tensor 'a': data_offsets: missing"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         "tensor 'a': dtype: missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4,
         "tensor 'a': shape: missing"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 4,
         "line 1, column 27: 'a': key 'dtype' twice"},
        {"{\"a\":{\"stride\":[1]}}", 0, "tensor 'a': unknown key 'stride'"},
        {"{\"a\":{\"dtyp\":1}}", 0, "did you mean 'dtype'?"},
        {"{\"a\":" E("F33", "1", "0,4") "}", 4,
         "tensor 'a': dtype: unknown dtype 'F33'"},
        {"{\"a\":{\"dtype\":32}}", 4,
         "tensor 'a': dtype: expected a string, got an integer"},
        {"{\"a\":" E("F32", "-1", "0,4") "}", 4,
         "tensor 'a': shape: -1 is negative"},
        {"{\"a\":" E("F32", "1.0", "0,4") "}", 4,
         "tensor 'a': shape: expected an integer, got a fraction"},
        {"{\"a\":" E("F32", "1e0", "0,4") "}", 4,
         "tensor 'a': shape: expected an integer, got a fraction"},
        {"{\"a\":" E("F32", "01", "0,4") "}", 4, "'a': 'shape': invalid token"},
        {"{\"a\":" E("F32", "18446744073709551616", "0,4") "}", 4,
         "header: JSON, line 1, column 49: 'a': 'shape': too big integer"},
        {"{\"a\":" E("F32", "9223372036854775808", "0,4") "}", 4,
         "too big integer"},
        {"{\"a\":" E("F32", "-9223372036854775809", "0,4") "}", 4,
         "too big negative integer"},
        {"{\"a\":" E("F32", "1e999", "0,4") "}", 4, "real number overflow"},
        {"{\"a\":" E("F32", "\"1\"", "0,4") "}", 4,
         "tensor 'a': shape: expected an integer, got a string"},
        {"{\"a\":" E("F32", "4294967296,4294967296", "0,4") "}", 4,
         "tensor 'a': shape: the number of elements overflows"},
        {"{\"a\":" E("F32", "9223372036854775807", "0,4") "}", 4,
         "tensor 'a': shape: 9223372036854775807 elements of F32 overflow"},
        {"{\"a\":" E("F4", "3", "0,1") "}", 1, "no whole number of bytes"},
        {"{\"a\":" E("U8", "1,1,1,1,1,1,1,1,1", "0,1") "}", 1,
         "tensor 'a': shape: 9 numbers, at most 8"},
        {"{\"a\":" E("F32", "1", "0") "}", 4, "expected two numbers, got 1"},
        {"{\"a\":" E("F32", "1", "0,4,8") "}", 4,
         "data_offsets: 3 numbers, at most 2"},
        {"{\"a\":" E("F32", "1", "4,0") "}", 4,
         "tensor 'a': data_offsets: [4, 0] ends before it begins"},
        {"{\"a\":" E("F32", "1", "0,8") "}", 8,
         "tensor 'a': data_offsets: 8 bytes, but dtype and shape need 4"},
        {"{\"a\":" E("F32", "1", "4,8") "}", 8,
         "tensor 'a': data_offsets: begins at 4, but the data begin at 0"},
        {"{\"a\":" E("F32", "1", "0,4") ",\"b\":" E("F32", "1", "8,12") "}", 12,
         "tensor 'b': data_offsets: begins at 8, but the tensor before it ends "
         "at 4 (hole)"},
        {"{\"a\":" E("F32", "1", "0,4") ",\"b\":" E("F32", "1", "2,6") "}", 6,
         "(overlap)"},
        {"{\"a\":" E("F32", "1", "0,4") ",\"b\":" E("F32", "1", "0,4") "}", 4,
         "(overlap)"},
        {"{\"a\":" E("F32", "1", "0,4") ",\"a\":" E("F32", "1", "4,8") "}", 8,
         "header: JSON, line 1, column 57: key 'a' twice"},
        {"{\"a\":" E("F32", "1", "0,4") "}", 3, "(truncated)"},
        {"{\"a\":" E("F32", "1", "0,4") "}", 5, "(bytes left over)"},
        {"{}", 1, "(bytes left over)"},
        {"{\"x/y\":" E("F32", "1", "0,4") "}", 4, "the name has a '/'"},
        {"{\"\":" E("F32", "1", "0,4") "}", 4, "the name is empty"},
        {"{\"__metadata__\":null}", 0,
         "__metadata__: expected an object, got null"},
        {"{\"__metadata__\":{\"k\":1}}", 0,
         "__metadata__: key 'k': expected a string"},
        {"{\"__metadata__\":{\"k\":\"\",\"\\u006b\":\"\"}}", 0,
         "line 1, column 32: '__metadata__': key 'k' twice"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0,
         "key '__metadata__' twice"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_st_header) header = NULL;
        struct base_err err = {0};

        assert_int_equal(
            parse(cases[i].json, cases[i].data_bytes, &header, &err),
            BASE_BAD_INPUT);
        if (strstr(err.text, cases[i].error) == NULL ||
            strncmp(err.text, "m.safetensors: ", 15) != 0) {
            fail_msg("case %zu: %s", i, err.text);
        }
        assert_null(header);
    }
}

static void test_headers_that_would_fill_memory_are_refused(void **state)
{
    static const struct {
        const char *item;
        size_t n; /* a few more than 1 GiB holds */
    } cases[] = {
        {"0,", 20000000},    {"[],", 7200000},       {"{},", 4500000},
        {"\"\",", 10500000}, {"{\"\":0},", 2700000},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        size_t item_len = strlen(cases[i].item);
        size_t len = cases[i].n * item_len + 8;
        char *json = malloc(len);
        BASE_AUTO(ptc_st_header) header = NULL;
        struct base_err err = {0};

        assert_non_null(json);
        memcpy(json, "{\"a\":[0,", 8);
        for (size_t k = 0; k < cases[i].n; k++) {
            memcpy(json + 8 + k * item_len, cases[i].item, item_len);
        }
        memcpy(json + len - 2, "]}", 2);
        assert_int_equal(ptc_st_header_parse((struct base_str){json, len},
                                             8 + len, "f", &header, &err),
                         BASE_LIMIT);
        assert_non_null(strstr(err.text, "f: header: JSON with values of "));
        free(json);
    }
}

static void test_length_is_checked_against_file_and_limit(void **state)
{
    static const struct {
        uint8_t first8[8];
        uint64_t file_bytes;
        enum base_code code;
    } cases[] = {
        {{2}, 10, BASE_OK},
        {{2}, 9, BASE_BAD_INPUT},
        {{0}, 8, BASE_OK},
        {{0}, 7, BASE_BAD_INPUT},
        {{0x00, 0xe1, 0xf5, 0x05}, 8 + 100000000, BASE_OK},
        {{0x01, 0xe1, 0xf5, 0x05}, 9 + 100000000, BASE_LIMIT},
        {{255, 255, 255, 255, 255, 255, 255, 255}, UINT64_MAX, BASE_LIMIT},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct base_err err = {0};
        uint64_t length = 7;

        assert_int_equal(ptc_st_header_length(cases[i].first8,
                                              cases[i].file_bytes, "f", &length,
                                              &err),
                         cases[i].code);
    }
}

static const uint64_t shape_23[] = {2, 3};

/* What test_written_bytes_are_golden expects behind the length. */
static const char golden[] =
    "{\"__metadata__\":{\"format\":\"pt\",\"retile\":\"{\\\"version\\\": 1}\"},"
    "\"z\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[24,36]},"
    "\"a\\\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[36,37]},"
    "\"c\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[37,38]}}";

static void test_written_bytes_are_golden_and_read_back(void **state)
{
    struct ptc_st_new entries[] = {
        {BASE_STR("c"), PTC_U8, 0, NULL, 1, 0},
        {BASE_STR("a\""), PTC_U8, 0, NULL, 1, 0},
        {BASE_STR("b"), PTC_BF16, 2, shape_23, 12, 0},
        {BASE_STR("z"), PTC_F32, 2, shape_23, 24, 0},
    };
    BASE_AUTO(ptc_st_header) header = NULL;
    BASE_AUTO_BUF buf;
    struct base_err err = {0};
    uint64_t length = 0;

    (void)state;
    base_buf_init(&buf, 10000);
    ptc_st_order(entries, 4);
    assert_ok(ptc_st_header_write(entries, 4, BASE_STR("{\"version\": 1}"),
                                  &buf, &err),
              &err);
    assert_int_equal(buf.len, PTC_ST_DATA_ALIGN);
    assert_memory_equal(buf.ptr, "\xf8\x0f\0\0\0\0\0\0", 8);
    assert_memory_equal(buf.ptr + 8, golden, sizeof(golden) - 1);
    for (size_t i = 8 + sizeof(golden) - 1; i < buf.len; i++) {
        assert_int_equal(buf.ptr[i], ' ');
    }
    assert_ok(ptc_st_header_length((const uint8_t *)buf.ptr, buf.len + 38, "f",
                                   &length, &err),
              &err);
    assert_ok(
        ptc_st_header_parse((struct base_str){buf.ptr + 8, (size_t)length},
                            buf.len + 38, "f", &header, &err),
        &err);
    assert_int_equal(header->n_entries, 4);
    assert_string_equal(header->entries[2].name.ptr, "a\"");
    assert_true(base_str_eq(ptc_st_meta(header, "retile"),
                            BASE_STR("{\"version\": 1}")));
}

static void test_data_begin_aligned_for_every_header_length(void **state)
{
    struct base_err err = {0};
    char name[PTC_ST_DATA_ALIGN + 1];

    (void)state;
    memset(name, 'x', sizeof(name));
    for (size_t n = 1; n < sizeof(name); n += n < 3950 ? 97 : 1) {
        const struct ptc_st_new entry = {
            {name, n}, PTC_U8, 0, NULL, 1, 0}; /* the writer takes any name */
        BASE_AUTO_BUF buf;

        base_buf_init(&buf, 20000);
        assert_int_equal(base_buf_add(&buf, "before", 6), BASE_OK);
        assert_ok(ptc_st_header_write(&entry, 1, (struct base_str){NULL, 0},
                                      &buf, &err),
                  &err);
        assert_int_equal((buf.len - 6) % PTC_ST_DATA_ALIGN, 0);
        assert_memory_equal(buf.ptr, "before", 6);
        assert_non_null(memchr(buf.ptr + buf.len - PTC_ST_DATA_ALIGN, '}',
                               PTC_ST_DATA_ALIGN)); /* not more than needed */
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_stand_by_offset_whatever_the_names),
        cmocka_unit_test(test_a_header_without_tensors_is_good),
        cmocka_unit_test(test_bad_headers_are_refused_with_the_place),
        cmocka_unit_test(test_headers_that_would_fill_memory_are_refused),
        cmocka_unit_test(test_length_is_checked_against_file_and_limit),
        cmocka_unit_test(test_written_bytes_are_golden_and_read_back),
        cmocka_unit_test(test_data_begin_aligned_for_every_header_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
