/* Codes of errors and codes on the wire. */
#include <string.h>

#include "proto/rpc.h"
#include "tests/unit/unit.h"

#define X(code, text) code,
static const enum base_code all[] = {BASE_CODES(X)};
#undef X

static void test_every_error_has_a_code(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ITEMS(all); i++) {
        enum rpc_code code = rpc_code_of(all[i]);

        assert_int_equal(code == RPC_OK, all[i] == BASE_OK);
        assert_int_not_equal(code, RPC_UNKNOWN);
    }
}

static void test_round_trip_keeps_what_callers_act_on(void **state)
{
    static const enum base_code kept[] = {
        BASE_OK,          BASE_BAD_ARG, BASE_MISMATCH,    BASE_NOT_FOUND,
        BASE_EXISTS,      BASE_DENIED,  BASE_LIMIT,       BASE_IO,
        BASE_CHANGED,     BASE_TIMEOUT, BASE_UNREACHABLE, BASE_INTERRUPTED,
        BASE_UNSUPPORTED,
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(kept); i++) {
        assert_int_equal(rpc_code_base(rpc_code_of(kept[i])), kept[i]);
    }
    assert_int_equal(rpc_code_base(rpc_code_of(BASE_BAD_INPUT)), BASE_BAD_ARG);
    assert_int_equal(rpc_code_base(rpc_code_of(BASE_NO_SPACE)), BASE_LIMIT);
}

static void test_every_code_has_a_name_and_an_error(void **state)
{
    (void)state;
    for (int i = 0; i <= 16; i++) {
        enum rpc_code code = (enum rpc_code)i;

        assert_int_equal(rpc_code_base(code) == BASE_OK, code == RPC_OK);
        assert_true(i == 2 || strcmp(rpc_code_name(code), "UNKNOWN") != 0);
    }
    assert_string_equal(rpc_code_name(RPC_ABORTED), "ABORTED");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_error_has_a_code),
        cmocka_unit_test(test_round_trip_keeps_what_callers_act_on),
        cmocka_unit_test(test_every_code_has_a_name_and_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
