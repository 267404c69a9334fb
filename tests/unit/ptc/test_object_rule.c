#include "tests/unit/unit.h"

#include "tests/unit/ptc/bind.h"

#define REST "\nrules: [{match: '*'}]\n"

static void test_objects_come_from_their_coordinate(void **state)
{
    static const struct {
        const char *from;
        const char *to;
        ptc_rank rank;
        enum base_code code;
        ptc_rank want;
    } cases[] = {
        /* the same mesh: each its own */
        {"mesh: {pp: 2, dp: 2}" REST, "mesh: {pp: 2, dp: 2}" REST, 3, BASE_OK,
         3},
        /* another order of axes */
        {"mesh: {pp: 2, dp: 3}" REST, "mesh: {dp: 3, pp: 2}" REST, 5, BASE_OK,
         5},
        {"mesh: {pp: 2, dp: 3}" REST, "mesh: {dp: 3, pp: 2}" REST, 1, BASE_OK,
         3},
        /* dp 3 of dp=2: refused, modulo, dropped */
        {"mesh: {pp: 2, dp: 2}" REST, "mesh: {pp: 2, dp: 4}" REST, 7,
         BASE_MISMATCH, 0},
        {"mesh: {pp: 2, dp: 2}" REST,
         "mesh: {pp: 2, dp: 4}" REST "objects: {'rng*': {on_change: copy}}", 7,
         BASE_OK, 3},
        {"mesh: {pp: 2, dp: 2}" REST,
         "mesh: {pp: 2, dp: 4}" REST "objects: {'rng*': {on_change: drop}}", 7,
         BASE_OK, PTC_NONE},
        {"mesh: {pp: 2, dp: 2}" REST,
         "mesh: {pp: 2, dp: 4}" REST "objects: {'rng*': {on_change: drop}}", 5,
         BASE_OK, 3},
        /* varies over pp alone: the lowest rank of that stage */
        {"mesh: {pp: 2, dp: 2}" REST,
         "mesh: {pp: 2, dp: 4}" REST "objects: {'*': {varies: [pp]}}", 7,
         BASE_OK, 2},
        /* an axis that the old mesh lacks has coordinate 0 there */
        {"mesh: {pp: 2}" REST, "mesh: {pp: 2, tp: 2}" REST, 2, BASE_OK, 1},
        {"mesh: {pp: 2}" REST, "mesh: {pp: 2, tp: 2}" REST, 3, BASE_MISMATCH,
         0},
        {"mesh: {pp: 2, tp: 2}" REST, "mesh: {pp: 2}" REST, 1, BASE_OK, 2},
        /* the target's entry decides, else the source's */
        {"mesh: {dp: 2}" REST "objects: {rng: {on_change: copy}}",
         "mesh: {dp: 4}" REST, 3, BASE_OK, 1},
        {"mesh: {dp: 2}" REST "objects: {rng: {on_change: copy}}",
         "mesh: {dp: 4}" REST "objects: {rng: {on_change: drop}}", 3, BASE_OK,
         PTC_NONE},
        {"mesh: {dp: 2}" REST "objects: {other: {on_change: copy}}",
         "mesh: {dp: 4}" REST, 3, BASE_MISMATCH, 0},
    };
    BASE_AUTO(ptc_table) table = bind_table("a F32 1");

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_layout) from = bind_layout(cases[i].from, table);
        BASE_AUTO(ptc_layout) to = bind_layout(cases[i].to, table);
        struct base_err err = {0};
        ptc_rank rank = 12345;
        enum base_code rc = ptc_object_source(from, to, BASE_STR("rng"),
                                              cases[i].rank, &rank, &err);

        if (rc != cases[i].code ||
            rank != (rc == BASE_OK ? cases[i].want : 12345)) {
            fail_msg("case %zu: rank %u, %s", i, (unsigned)rank, err.text);
        }
    }
}

static void test_a_refusal_names_object_and_coordinate(void **state)
{
    BASE_AUTO(ptc_table) table = bind_table("a F32 1");
    BASE_AUTO(ptc_layout) from = bind_layout("mesh: {dp: 2}" REST, table);
    BASE_AUTO(ptc_layout) to = bind_layout("mesh: {dp: 3}" REST, table);
    struct base_err err = {0};
    ptc_rank rank;

    (void)state;
    assert_int_equal(
        ptc_object_source(from, to, BASE_STR("rng"), 2, &rank, &err),
        BASE_MISMATCH);
    assert_string_equal(err.text,
                        "object rng: the old layout has no coordinate dp=2 "
                        "and on_change is refuse; the new spec may say "
                        "objects: {'rng': {on_change: copy}}, or drop");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_objects_come_from_their_coordinate),
        cmocka_unit_test(test_a_refusal_names_object_and_coordinate),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
