/* Texts of handles below .retile/. */
#include "tests/unit/unit.h"

#include "fuse/snapshot.h"

static struct fs_snapshot *
add(struct fs_snapshots *snapshots, uint64_t id, const char *text)
{
    struct base_buf buf;

    base_buf_init(&buf, 1000);
    assert_int_equal(base_buf_add_str(&buf, base_str_of(text)), BASE_OK);
    return fs_snapshot_add(snapshots, id, &buf);
}

static void test_each_has_an_id_and_is_found_by_it(void **state)
{
    struct fs_snapshots snapshots;
    struct fs_snapshot *one;
    struct fs_snapshot *two;

    (void)state;
    fs_snapshots_init(&snapshots, 1);
    one = add(&snapshots, 0, "one");
    two = add(&snapshots, 0, "two");
    assert_int_not_equal(one->id, two->id);
    assert_ptr_equal(fs_snapshot_find(&snapshots, one->id), one);
    assert_ptr_equal(fs_snapshot_find(&snapshots, two->id), two);
    fs_snapshot_remove(&snapshots, one);
    fs_snapshot_remove(&snapshots, NULL);
    assert_null(fs_snapshot_find(&snapshots, two->id - 1));
    fs_snapshots_done(&snapshots); /* and what is left */
}

/* Two threads read a handle of an earlier server: both find it missing. */
static void test_what_is_made_anew_twice_is_kept_once(void **state)
{
    struct fs_snapshots snapshots;
    struct fs_snapshot *one;

    (void)state;
    fs_snapshots_init(&snapshots, 2);
    one = add(&snapshots, 77, "one");
    assert_ptr_equal(add(&snapshots, 77, "two"), one);
    assert_true(base_str_eq(base_buf_str(&one->text), BASE_STR("one")));
    fs_snapshot_remove(&snapshots, one);
    assert_null(fs_snapshot_find(&snapshots, 77));
    fs_snapshots_done(&snapshots);
}

static void test_servers_do_not_share_ids(void **state)
{
    struct fs_snapshots first;
    struct fs_snapshots second;

    (void)state;
    fs_snapshots_init(&first, 1);
    fs_snapshots_init(&second, 2);
    assert_int_not_equal(add(&first, 0, "one")->id, add(&second, 0, "one")->id);
    fs_snapshots_done(&first);
    fs_snapshots_done(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_has_an_id_and_is_found_by_it),
        cmocka_unit_test(test_what_is_made_anew_twice_is_kept_once),
        cmocka_unit_test(test_servers_do_not_share_ids),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
