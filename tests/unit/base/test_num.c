#include "base/num.h"

#include "base/hash.h"
#include "tests/unit/unit.h"

static void test_parse_u64_takes_digits_only(void **state)
{
    static const struct {
        const char *text;
        bool is_good;
        uint64_t value;
    } cases[] = {
        {"0", true, 0},
        {"007", true, 7},
        {"18446744073709551615", true, UINT64_MAX},
        {"18446744073709551616", false, 0},
        {"99999999999999999999", false, 0},
        {"", false, 0},
        {"-1", false, 0},
        {"+1", false, 0},
        {" 1", false, 0},
        {"1 ", false, 0},
        {"0x10", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        uint64_t value = 42;

        assert_int_equal(base_parse_u64(base_str_of(cases[i].text), &value),
                         cases[i].is_good);
        assert_int_equal(value, cases[i].is_good ? cases[i].value : 42);
    }
}

static void test_parse_size_knows_units(void **state)
{
    static const struct {
        const char *text;
        bool is_good;
        uint64_t value;
    } cases[] = {
        {"64", true, 64},
        {"64B", true, 64},
        {"64K", true, 65536},
        {"64KiB", true, 65536},
        {"64KB", true, 64000},
        {"1.5GiB", true, 1610612736},
        {"5GB", true, 5000000000},
        {"0.5K", true, 512},
        {"2T", true, (uint64_t)2 << 40},
        {"16777215T", true, (uint64_t)16777215 << 40},
        {"16777216T", false, 0},
        {"1.5", false, 0},
        {"1.K", false, 0},
        {".5K", false, 0},
        {"K", false, 0},
        {"", false, 0},
        {"1k", false, 0},
        {"1KX", false, 0},
        {"1 K", false, 0},
        {"1Ki", false, 0},
        {"-1K", false, 0},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        uint64_t value = 42;

        assert_int_equal(base_parse_size(base_str_of(cases[i].text), &value),
                         cases[i].is_good);
        assert_int_equal(value, cases[i].is_good ? cases[i].value : 42);
    }
}

static void test_format_size_never_says_1024(void **state)
{
    static const struct {
        uint64_t value;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.00 KiB"},
        {1536, "1.50 KiB"},
        {1048575, "1.00 MiB"},
        {1048576, "1.00 MiB"},
        {1610612736, "1.50 GiB"},
        {UINT64_MAX, "16.00 EiB"},
    };
    char text[24];

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        assert_string_equal(base_format_size(cases[i].value, text),
                            cases[i].text);
    }
}

static void test_checked_arithmetic(void **state)
{
    uint64_t out = 42;

    (void)state;
    assert_false(base_mul_u64((uint64_t)1 << 32, (uint64_t)1 << 32, &out));
    assert_false(base_add_u64(UINT64_MAX, 1, &out));
    assert_int_equal(out, 42);
    assert_true(base_mul_u64(UINT64_MAX, 1, &out));
    assert_int_equal(out, UINT64_MAX);
    assert_int_equal(base_ceil_div(UINT64_MAX, 2), (uint64_t)1 << 63);
    assert_int_equal(base_ceil_div(0, 5), 0);
    assert_int_equal(base_ceil_div(11, 5), 3);
}

static void test_random_is_splitmix64(void **state)
{
    uint64_t seed = 1234567;

    (void)state;
    assert_int_equal(base_random_next(&seed), 6457827717110365317U);
    assert_int_equal(base_random_next(&seed), 3203168211198807973U);
}

static void test_digest_is_canonical_xxh128(void **state)
{
    char text[BASE_DIGEST_TEXT_BYTES];
    struct base_digest empty = base_digest_of("", 0);

    (void)state;
    /* The value that xxh128sum prints for an empty file. */
    assert_string_equal(base_digest_format(empty, text),
                        "99aa06d3014798d86001c324468d497f");
    assert_true(base_digest_eq(empty, base_digest_of("x", 0)));
    assert_false(base_digest_eq(empty, base_digest_of("x", 1)));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse_u64_takes_digits_only),
        cmocka_unit_test(test_parse_size_knows_units),
        cmocka_unit_test(test_format_size_never_says_1024),
        cmocka_unit_test(test_checked_arithmetic),
        cmocka_unit_test(test_random_is_splitmix64),
        cmocka_unit_test(test_digest_is_canonical_xxh128),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
