#include "base/str.h"

#include "tests/unit/unit.h"

static void test_memory_is_zeroed_aligned_and_apart(void **state)
{
    BASE_AUTO(base_arena) arena = base_arena_create(16 << 20);
    uint64_t seed = 1;

    (void)state;
    assert_non_null(arena);
    for (size_t i = 0; i < 2000; i++) {
        size_t n = (size_t)(seed % 3000);
        unsigned char *ptr = base_arena_alloc(arena, n, 1);

        assert_non_null(ptr);
        assert_int_equal((uintptr_t)ptr % 16, 0);
        for (size_t at = 0; at < n; at++) {
            assert_int_equal(ptr[at], 0);
        }
        memset(ptr, 0xff, n);
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        seed >>= 1;
    }
}

static void test_limit_and_overflow_give_null(void **state)
{
    BASE_AUTO(base_arena) arena = base_arena_create(10000);

    (void)state;
    assert_null(base_arena_alloc(arena, SIZE_MAX, 2));
    assert_null(base_arena_alloc(arena, SIZE_MAX, 1));
    assert_null(base_arena_alloc(arena, 10001, 1));
    assert_non_null(base_arena_alloc(arena, 5000, 1));
    assert_null(base_arena_alloc(arena, 5000, 1));
    assert_non_null(base_arena_alloc(arena, 4000, 1));
    assert_true(base_arena_bytes(arena) <= 10000);
}

static void test_str_copies_with_a_nul(void **state)
{
    BASE_AUTO(base_arena) arena = base_arena_create(1000);
    struct base_str copy;

    (void)state;
    copy = base_arena_str(arena, (struct base_str){"abcdef", 3});
    assert_int_equal(copy.len, 3);
    assert_string_equal(copy.ptr, "abc");
    copy = base_arena_str(arena, (struct base_str){NULL, 0});
    assert_string_equal(copy.ptr, "");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(test_limit_and_overflow_give_null),
        cmocka_unit_test(test_str_copies_with_a_nul),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
