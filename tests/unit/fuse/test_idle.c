/* When the kernel is asked to forget a version. */
#include "tests/unit/unit.h"

#include "fuse/idle.h"

/* Looks until one tries, that one, too. */
static uint32_t n_looks(struct fs_idle *idle)
{
    uint32_t n = 1;

    while (!fs_idle_look(idle, false)) {
        assert_true(++n < 1000);
    }
    return n;
}

static void test_tries_get_rarer_up_to_a_limit(void **state)
{
    static const uint32_t expected[] = {1, 1, 2, 4, 8, 16, 32, 32, 32, 32};
    struct fs_idle idle = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        assert_int_equal(n_looks(&idle), expected[i]);
    }
    assert_int_equal(FS_IDLE_MAX_LOOKS, 32);
}

static void test_a_use_begins_anew(void **state)
{
    struct fs_idle idle = {0};

    (void)state;
    for (int i = 0; i < 6; i++) {
        (void)n_looks(&idle);
    }
    assert_false(fs_idle_look(&idle, true));
    assert_int_equal(n_looks(&idle), 1);
    assert_int_equal(n_looks(&idle), 1);
    assert_int_equal(n_looks(&idle), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tries_get_rarer_up_to_a_limit),
        cmocka_unit_test(test_a_use_begins_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
