/* coordinator/access.c: what a certificate's name may call. */
#include "tests/unit/unit.h"

#include <string.h>

#include "coordinator/services.h"

enum { V = 1, O = 2, A = 4 }; /* viewer, operator, agent: what is allowed */

static unsigned allowed(const struct coord_access *access, const char *uri)
{
    static const unsigned roles[] = {COORD_ROLE_VIEWER, COORD_ROLE_OPERATOR,
                                     COORD_ROLE_AGENT};
    unsigned found = 0;

    for (unsigned i = 0; i < N_ITEMS(roles); i++) {
        if (coord_access_allows(access, uri, roles[i], NULL)) {
            found |= 1u << i;
        }
    }
    return found;
}

static void test_a_name_may_what_its_role_may(void **state)
{
    static const struct {
        const char *uri;
        unsigned any;   /* when no cluster is set */
        unsigned there; /* in cluster "prod" */
    } cases[] = {
        {"retile://prod/agent/h0", A, A},
        {"retile://prod/operator/ann", V | O, V | O},
        {"retile://prod/viewer/bob", V, V},
        {"retile://test/operator/ann", V | O, 0},
        {"retile://prod/root/ann", 0, 0},
        {"retile://prod/operator/", 0, 0},
        {"retile://prod/operator", 0, 0},
        {"retile://prod/operator/a/b", 0, 0},
        {"retile:///operator/ann", 0, 0},
        {"retile://prod/operatorx/ann", 0, 0},
        {"retile://prodx/operator/ann", V | O, 0},
        {"https://prod/operator/ann", 0, 0},
        {"Retile://prod/operator/ann", 0, 0},
        {"", 0, 0},
        {"retile://", 0, 0},
    };
    const struct coord_access any = {.cluster = "", .token = ""};
    const struct coord_access prod = {.cluster = "prod", .token = ""};

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        if (allowed(&any, cases[i].uri) != cases[i].any ||
            allowed(&prod, cases[i].uri) != cases[i].there) {
            fail_msg("%s", cases[i].uri);
        }
    }
}

static void test_an_agents_host_is_the_last_part(void **state)
{
    const struct coord_access any = {.cluster = "", .token = ""};
    const char *host = NULL;

    (void)state;
    assert_true(coord_access_allows(&any, "retile://c/agent/h0.rack-1",
                                    COORD_ROLE_AGENT, &host));
    assert_string_equal(host, "h0.rack-1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_may_what_its_role_may),
        cmocka_unit_test(test_an_agents_host_is_the_last_part),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
