/* base/mountinfo.h */
#include "tests/unit/unit.h"

#include <stdio.h>

#include "base/mountinfo.h"

static void test_a_mountpoint_is_found_and_unescaped(void **state)
{
    static const struct {
        const char *line;
        const char *point;
    } cases[] = {
        {"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n",
         "/mnt2"},
        {"1 2 0:5 / /a\\040b/c\\011\\012\\134d rw - fuse x rw\n",
         "/a b/c\t\n\\d"},
        {"1 2 0:5 / /ends\n", "/ends"},
        {"1 2 0:5 / /half\\04 rw\n", "/half\\04"},
        {"1 2 0:5 / /no\\999 rw\n", "/no\\999"},
        {"1 2 0:5 /\n", NULL},
        {"1 2 0:5 / \n", NULL},
        {"\n", NULL},
        {"", NULL},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        char line[128];
        const char *point;

        (void)snprintf(line, sizeof(line), "%s", cases[i].line);
        point = base_mountinfo_point(line);
        if (cases[i].point == NULL) {
            assert_null(point);
        } else {
            assert_non_null(point);
            assert_string_equal(point, cases[i].point);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_mountpoint_is_found_and_unescaped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
