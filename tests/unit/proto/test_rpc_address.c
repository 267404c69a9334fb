/* Addresses as people write them. */
#include <string.h>

#include "proto/rpc.h"
#include "tests/unit/unit.h"

static void test_good_addresses_are_taken_apart(void **state)
{
    static const struct {
        const char *text;
        enum rpc_family family;
        const char *host;
        uint16_t port;
        bool is_loopback;
    } cases[] = {
        {"unix:/run/retile/agent", RPC_FAMILY_UNIX, "/run/retile/agent", 0,
         false},
        {"unix:s", RPC_FAMILY_UNIX, "s", 0, false},
        {"127.0.0.1:7070", RPC_FAMILY_INET, "127.0.0.1", 7070, true},
        {"127.8.9.1:0", RPC_FAMILY_INET, "127.8.9.1", 0, true},
        {"0.0.0.0:1", RPC_FAMILY_INET, "0.0.0.0", 1, false},
        {"10.1.2.3:65535", RPC_FAMILY_INET, "10.1.2.3", 65535, false},
        {"localhost:7070", RPC_FAMILY_INET, "localhost", 7070, true},
        {"localhost.example:7070", RPC_FAMILY_INET, "localhost.example", 7070,
         false},
        {"127.0.0.1.example:7", RPC_FAMILY_INET, "127.0.0.1.example", 7, false},
        {"node-1.cluster:7070", RPC_FAMILY_INET, "node-1.cluster", 7070, false},
        {"[::1]:7070", RPC_FAMILY_INET, "::1", 7070, true},
        {"[::]:7070", RPC_FAMILY_INET, "::", 7070, false},
        {"[fe80::1]:7070", RPC_FAMILY_INET, "fe80::1", 7070, false},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct rpc_address address;
        struct base_err err = {0};

        assert_ok(rpc_address_parse(cases[i].text, &address, &err), &err);
        assert_int_equal(address.family, cases[i].family);
        assert_string_equal(address.host, cases[i].host);
        assert_int_equal(address.port, cases[i].port);
        assert_int_equal(address.is_loopback, cases[i].is_loopback);
    }
}

static void test_bad_addresses_are_refused(void **state)
{
    static const char *const cases[] = {
        "",           "unix:",      ":7070",         "host",
        "host:",      "host:65536", "host:-1",       "host:7x",
        "host: 7",    "::1:7070",   "[::1]",         "[::1]7070",
        "[::1:7070",  "[]:7",       "[127.0.0.1]:7", "[fe80::1%eth0]:7",
        "dns:///x:7", "a,b:7",      "a/b:7",         "a b:7",
        "a\n:7",
    };
    char path[200] = "unix:";

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct rpc_address address;
        struct base_err err = {0};

        if (rpc_address_parse(cases[i], &address, &err) != BASE_BAD_ARG) {
            fail_msg("taken: %s", cases[i]);
        }
        assert_true(err.text[0] != '\0');
    }
    memset(path + 5, 'x', 107);
    assert_int_equal(rpc_address_parse(path, &(struct rpc_address){0}, NULL),
                     BASE_OK);
    path[5 + 107] = 'x';
    assert_int_equal(rpc_address_parse(path, &(struct rpc_address){0}, NULL),
                     BASE_BAD_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_addresses_are_taken_apart),
        cmocka_unit_test(test_bad_addresses_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
