#include "tests/unit/store/saved.h"

#include <string.h>
#include <sys/stat.h>

static void test_a_whole_save_is_a_version(void **state)
{
    struct saved *saved = *state;
    uint64_t number;

    saved_write_whole(saved);
    saved_write(saved, 100);
    number = saved_must_commit(saved, 100, 0);
    assert_int_equal(number, 1);
    saved_must_equal(saved, number);
    saved_must_be_sound(saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saved_test(test_a_whole_save_is_a_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
