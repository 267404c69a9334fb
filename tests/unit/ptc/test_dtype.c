#include "ptc/dtype.h"

#include "tests/unit/unit.h"

static void test_names_parse_back(void **state)
{
    (void)state;
    for (unsigned i = 0; i < PTC_N_DTYPES; i++) {
        enum ptc_dtype dtype = (enum ptc_dtype)i;
        enum ptc_dtype parsed = PTC_N_DTYPES;

        assert_true(
            ptc_dtype_parse(base_str_of(ptc_dtype_name(dtype)), &parsed));
        assert_int_equal(parsed, dtype);
        assert_true(ptc_dtype_bits(dtype) >= 4 && ptc_dtype_bits(dtype) <= 64);
    }
}

static void test_parse_refuses_what_is_no_dtype(void **state)
{
    static const char *const names[] = {"",     "f32",  "F32 ", "F3",
                                        "F322", "BF32", "F16\t"};
    enum ptc_dtype dtype;

    (void)state;
    for (size_t i = 0; i < N_ITEMS(names); i++) {
        assert_false(ptc_dtype_parse(base_str_of(names[i]), &dtype));
    }
}

static void test_order_is_the_reference_writers(void **state)
{
    (void)state;
    assert_true(PTC_BOOL < PTC_F4 && PTC_F4 < PTC_U8);
    assert_true(PTC_F16 < PTC_BF16 && PTC_BF16 < PTC_I32);
    assert_true(PTC_F32 < PTC_C64 && PTC_C64 < PTC_F64);
    assert_int_equal(PTC_U64, PTC_N_DTYPES - 1);
}

static void test_bytes_are_whole_and_do_not_overflow(void **state)
{
    static const struct {
        enum ptc_dtype dtype;
        uint64_t n_elems;
        bool is_good;
        uint64_t n_bytes;
    } cases[] = {
        {PTC_F32, 0, true, 0},
        {PTC_F32, 3, true, 12},
        {PTC_F4, 2, true, 1},
        {PTC_F4, 3, false, 0},
        {PTC_F6_E2M3, 4, true, 3},
        {PTC_F6_E3M2, 2, false, 0},
        {PTC_BOOL, UINT64_MAX / 8, true, UINT64_MAX / 8},
        {PTC_BOOL, UINT64_MAX / 8 + 1, false, 0},
        {PTC_U64, (UINT64_C(1) << 58) - 1, true, (UINT64_C(1) << 61) - 8},
        {PTC_U64, UINT64_C(1) << 58, false, 0},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        uint64_t n_bytes = 0;

        assert_int_equal(
            ptc_dtype_bytes(cases[i].dtype, cases[i].n_elems, &n_bytes),
            cases[i].is_good);
        assert_int_equal(n_bytes, cases[i].n_bytes);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_parse_back),
        cmocka_unit_test(test_parse_refuses_what_is_no_dtype),
        cmocka_unit_test(test_order_is_the_reference_writers),
        cmocka_unit_test(test_bytes_are_whole_and_do_not_overflow),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
