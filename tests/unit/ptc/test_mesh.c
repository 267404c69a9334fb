#include "ptc/mesh.h"

#include "tests/unit/unit.h"

static const struct ptc_mesh mesh_2x3x4 = {
    .n_axes = 3,
    .n_ranks = 24,
    .axes = {{{"pp", 2}, 2}, {{"dp", 2}, 3}, {{"tp", 2}, 4}},
};

static void test_last_axis_is_fastest(void **state)
{
    uint32_t coords[PTC_MAX_AXES];

    (void)state;
    ptc_mesh_coords(&mesh_2x3x4, 1, coords);
    assert_int_equal(coords[0], 0);
    assert_int_equal(coords[1], 0);
    assert_int_equal(coords[2], 1);
    ptc_mesh_coords(&mesh_2x3x4, 12 + 4 + 3, coords);
    assert_int_equal(coords[0], 1);
    assert_int_equal(coords[1], 1);
    assert_int_equal(coords[2], 3);
}

static void test_rank_is_the_inverse_of_coords(void **state)
{
    (void)state;
    for (uint32_t rank = 0; rank < mesh_2x3x4.n_ranks; rank++) {
        uint32_t coords[PTC_MAX_AXES];

        ptc_mesh_coords(&mesh_2x3x4, rank, coords);
        assert_int_equal(ptc_mesh_rank(&mesh_2x3x4, coords), rank);
    }
}

static void test_a_mesh_without_axes_is_one_rank(void **state)
{
    const struct ptc_mesh one = {.n_axes = 0, .n_ranks = 1};
    uint32_t coords[PTC_MAX_AXES];

    (void)state;
    ptc_mesh_coords(&one, 0, coords);
    assert_int_equal(ptc_mesh_rank(&one, coords), 0);
    assert_int_equal(ptc_mesh_find(&one, BASE_STR("tp")), UINT32_MAX);
}

static void test_axes_are_found_by_their_whole_name(void **state)
{
    (void)state;
    assert_int_equal(ptc_mesh_find(&mesh_2x3x4, BASE_STR("pp")), 0);
    assert_int_equal(ptc_mesh_find(&mesh_2x3x4, BASE_STR("tp")), 2);
    assert_int_equal(ptc_mesh_find(&mesh_2x3x4, BASE_STR("t")), UINT32_MAX);
    assert_int_equal(ptc_mesh_find(&mesh_2x3x4, BASE_STR("tpx")), UINT32_MAX);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_last_axis_is_fastest),
        cmocka_unit_test(test_rank_is_the_inverse_of_coords),
        cmocka_unit_test(test_a_mesh_without_axes_is_one_rank),
        cmocka_unit_test(test_axes_are_found_by_their_whole_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
