#include "ptc/npy.h"

#include "tests/unit/unit.h"

static void test_written_headers_are_golden_and_read_back(void **state)
{
    static const uint64_t shape[PTC_MAX_DIMS] = {3, 4, 0, 1, 1, 1, 1, 9};
    static const struct {
        enum ptc_dtype dtype;
        uint32_t n_dims;
        const char *dict;
    } cases[] = {
        {PTC_F32, 2,
         "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }"},
        {PTC_F32, 1,
         "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"},
        {PTC_BF16, 0,
         "{'descr': '<V2', 'fortran_order': False, 'shape': (), }"},
        {PTC_F8_E4M3, 3,
         "{'descr': '|V1', 'fortran_order': False, 'shape': (3, 4, 0), }"},
        {PTC_BOOL, 8,
         "{'descr': '|b1', 'fortran_order': False, 'shape': (3, 4, 0, 1, 1, 1, "
         "1, 9), }"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct ptc_npy_header header;
        BASE_AUTO_BUF buf;
        struct base_err err = {0};

        base_buf_init(&buf, 10000);
        assert_ok(ptc_npy_header_write(cases[i].dtype, cases[i].n_dims, shape,
                                       &buf, &err),
                  &err);
        assert_int_equal(buf.len, 4096);
        assert_memory_equal(buf.ptr, "\x93NUMPY\x01\x00\xf6\x0f", 10);
        assert_memory_equal(buf.ptr + 10, cases[i].dict, strlen(cases[i].dict));
        assert_int_equal(buf.ptr[4094], ' ');
        assert_int_equal(buf.ptr[4095], '\n');
        assert_ok(
            ptc_npy_header_parse(base_buf_str(&buf), "a.npy", &header, &err),
            &err);
        assert_int_equal(header.data_offset, 4096);
        assert_int_equal(header.n_dims, cases[i].n_dims);
        assert_memory_equal(header.shape, shape,
                            cases[i].n_dims * sizeof(*shape));
        assert_string_equal(header.descr, ptc_dtype_descr(cases[i].dtype));
    }
}

static void test_sub_byte_dtypes_are_not_written(void **state)
{
    BASE_AUTO_BUF buf;
    struct base_err err = {0};

    (void)state;
    base_buf_init(&buf, 10000);
    assert_int_equal(ptc_npy_header_write(PTC_F4, 0, NULL, &buf, &err),
                     BASE_UNSUPPORTED);
    assert_non_null(strstr(err.text, "no element of 4 bits (F4)"));
    assert_int_equal(buf.len, 0);
}

/* A header of @version around @dict. */
static enum base_code parse_dict(unsigned version,
                                 const char *dict,
                                 struct ptc_npy_header *ret,
                                 struct base_err *err)
{
    size_t n = strlen(dict);
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 10000);
    (void)base_buf_addf(&buf, "\x93NUMPY%c%c%c%c", (int)version, 0,
                        (int)(n & 0xff), (int)(n >> 8));
    if (version >= 2) {
        (void)base_buf_add(&buf, "\0\0", 2);
    }
    assert_int_equal(base_buf_add(&buf, dict, n), BASE_OK);
    return ptc_npy_header_parse(base_buf_str(&buf), "a.npy", ret, err);
}

static void test_numpys_own_spellings_are_read(void **state)
{
    static const struct {
        unsigned version;
        const char *dict;
        uint32_t n_dims;
    } cases[] = {
        {1, "{'descr': '<i8', 'fortran_order': False, 'shape': (3, 4), }   \n",
         2},
        {2, "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }\n", 1},
        {1, "{\"shape\":(),\"descr\":\"|u1\",\"fortran_order\":False}", 0},
        {1, "{'descr': '|V2', 'fortran_order': False, 'shape': (3, 4,)}", 2},
        {1, "{'descr': '<c16', 'fortran_order': False, 'shape': (1,\n2)}", 2},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct ptc_npy_header header;
        struct base_err err = {0};

        assert_ok(parse_dict(cases[i].version, cases[i].dict, &header, &err),
                  &err);
        assert_int_equal(header.n_dims, cases[i].n_dims);
        assert_int_equal(header.data_offset, (cases[i].version == 1 ? 10 : 12) +
                                                 strlen(cases[i].dict));
    }
}

#define D(descr, order, shape)                                                 \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape "}"

static void test_bad_headers_are_refused_with_the_place(void **state)
{
    static const struct {
        const char *dict;
        enum base_code code;
        const char *error;
    } cases[] = {
        {D("'|O'", "False", "()"), BASE_UNSUPPORTED, "descr: '|O' is Python"},
        {D("'>f4'", "False", "()"), BASE_UNSUPPORTED, "is big endian"},
        {D("[('a', '<f4')]", "False", "()"), BASE_UNSUPPORTED, "structured"},
        {D("'<U4'", "False", "()"), BASE_UNSUPPORTED, "is no plain number"},
        {D("'|f4'", "False", "()"), BASE_UNSUPPORTED, "is no plain number"},
        {D("'<f'", "False", "()"), BASE_UNSUPPORTED, "is no plain number"},
        {D("'<f0'", "False", "()"), BASE_UNSUPPORTED, "is no plain number"},
        {D("'<f99999'", "False", "()"), BASE_UNSUPPORTED, "is no plain number"},
        {D("''", "False", "()"), BASE_UNSUPPORTED, "is no plain number"},
        {D("'<f4'", "True", "()"), BASE_UNSUPPORTED, "only C order"},
        {D("'<f4'", "0", "()"), BASE_BAD_INPUT, "expected True or False"},
        {D("4", "False", "()"), BASE_BAD_INPUT, "descr: expected a string"},
        {D("'<f4'", "False", "(3)"), BASE_BAD_INPUT, "got a number"},
        {D("'<f4'", "False", "3"), BASE_BAD_INPUT, "expected a tuple"},
        {D("'<f4'", "False", "(-3,)"), BASE_BAD_INPUT, "expected a number"},
        {D("'<f4'", "False", "(3 4)"), BASE_BAD_INPUT, "expected a ','"},
        {D("'<f4'", "False", "(3"), BASE_BAD_INPUT, "shape: expected a ','"},
        {D("'<f4'", "False", "(1,1,1,1,1,1,1,1,1)"), BASE_BAD_INPUT,
         "more than 8 dimensions"},
        {D("'<f4'", "False", "(4294967296,4294967296)"), BASE_BAD_INPUT,
         "shape: the number of bytes overflows"},
        {D("'<f4'", "False", "(18446744073709551616,)"), BASE_BAD_INPUT,
         "a number of 64 bits"},
        {D("'<f4'", "False", "()") "x", BASE_BAD_INPUT, "follows the dict"},
        {"{'descr': '<f4', 'descr': '<f4'}", BASE_BAD_INPUT, "'descr' twice"},
        {"{'descr': '<f4', 'shape': ()}", BASE_BAD_INPUT,
         "fortran_order is missing"},
        {"{'strides': ()}", BASE_BAD_INPUT, "unknown key 'strides'"},
        {"{'descr' '<f4'}", BASE_BAD_INPUT, "expected a string and a ':'"},
        {"{'descr: '<f4'}", BASE_BAD_INPUT, "expected a string and a ':'"},
        {"{'de\\x73cr': '<f4'}", BASE_BAD_INPUT, "expected a string and"},
        {"[]", BASE_BAD_INPUT, "expected a dict"},
        {"", BASE_BAD_INPUT, "expected a dict"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct ptc_npy_header header;
        struct base_err err = {0};

        assert_int_equal(parse_dict(1, cases[i].dict, &header, &err),
                         cases[i].code);
        if (strstr(err.text, cases[i].error) == NULL ||
            strncmp(err.text, "a.npy: ", 7) != 0) {
            fail_msg("case %zu: %s", i, err.text);
        }
    }
}

static void test_bad_prefixes_are_refused(void **state)
{
    static const struct {
        struct base_str bytes;
        enum base_code code;
        const char *error;
    } cases[] = {
        {{NULL, 0}, BASE_BAD_INPUT, "not a .npy file"},
        {BASE_STR("\x93NUMPY\x01\x00\x01"), BASE_BAD_INPUT, "not a .npy file"},
        {BASE_STR("\x92NUMPY\x01\x00\x00\x00"), BASE_BAD_INPUT, "not a .npy"},
        {BASE_STR("\x93NUMPY\x01\x00\x01\x00"), BASE_BAD_INPUT, "truncated"},
        {BASE_STR("\x93NUMPY\x03\x00\x00\x00\x00\x00"), BASE_UNSUPPORTED,
         "version 3.0"},
        {BASE_STR("\x93NUMPY\x01\x01\x00\x00"), BASE_UNSUPPORTED,
         "version 1.1"},
        {BASE_STR("\x93NUMPY\x02\x00\x00\x00"), BASE_BAD_INPUT, "truncated"},
        {BASE_STR("\x93NUMPY\x02\x00\xff\xff\xff\xff{}"), BASE_LIMIT,
         "at most 65535"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct ptc_npy_header header;
        struct base_err err = {0};

        assert_int_equal(
            ptc_npy_header_parse(cases[i].bytes, "a.npy", &header, &err),
            cases[i].code);
        if (strstr(err.text, cases[i].error) == NULL) {
            fail_msg("case %zu: %s", i, err.text);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_written_headers_are_golden_and_read_back),
        cmocka_unit_test(test_sub_byte_dtypes_are_not_written),
        cmocka_unit_test(test_numpys_own_spellings_are_read),
        cmocka_unit_test(test_bad_headers_are_refused_with_the_place),
        cmocka_unit_test(test_bad_prefixes_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
