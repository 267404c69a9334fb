/* Saved files: names, listings, handles, room. */
#include "tests/unit/fuse/saves_tmp.h"

#include <stdio.h>

/* Files. */

static void test_a_file_is_the_one_in_staging(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t dir = make_dir(tmp, make_dir(tmp, tmp->dir, "ranks"), "000");
    uint64_t ino = write_file(tmp, dir, "a", "hello");
    struct stat attr;
    struct stat staged;

    assert_int_equal(fs_saves_attr(tmp->saves, ino, &attr), 0);
    assert_int_equal(fstatat(tmp->fd, "100/ranks/000/a", &staged, 0), 0);
    assert_int_equal(ino, FS_SAVED_BIT | staged.st_ino);
    assert_int_equal(attr.st_size, 5);
    assert_int_equal(attr.st_mode, S_IFREG | 0644);
    assert_text(tmp, ino, "hello");
}

static void test_names_that_are_none_are_refused(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t file = write_file(tmp, tmp->dir, "a", "");
    struct fs_saved saved;
    char name[300];

    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_int_equal(lookup(tmp, tmp->dir, "nothing"), ENOENT);
    assert_int_equal(lookup(tmp, tmp->dir, name), ENAMETOOLONG);
    assert_int_equal(lookup(tmp, tmp->dir, "../100"), EINVAL);
    assert_int_equal(lookup(tmp, tmp->dir, ".."), EINVAL);
    assert_int_equal(lookup(tmp, tmp->dir, ""), EINVAL);
    assert_int_equal(lookup(tmp, file, "a"), ENOTDIR);
    assert_int_equal(lookup(tmp, FS_SAVED_BIT | 1, "a"), ESTALE);
    assert_int_equal(
        fs_saves_mkdir(tmp->saves, NULL, tmp->dir, "a", 0700, &saved), EEXIST);
    assert_int_equal(fs_saves_rmdir(tmp->saves, NULL, tmp->dir, "a"), ENOTDIR);
    assert_int_equal(fs_saves_unlink(tmp->saves, NULL, tmp->dir, "b"), ENOENT);
}

static void test_a_removed_file_lives_until_it_is_forgotten(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    struct stat attr;

    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0);
    assert_int_equal(fs_saves_unlink(tmp->saves, NULL, tmp->dir, "a"), 0);
    assert_int_equal(lookup(tmp, tmp->dir, "a"), ENOENT);
    assert_text(tmp, ino, "hello");
    assert_int_equal(fs_saves_attr(tmp->saves, ino, &attr), 0);
    assert_int_equal(attr.st_nlink, 0);

    saves_tmp_restart(tmp);
    assert_text(tmp, ino, "hello");
    assert_int_equal(open_file(tmp, ino, O_RDWR), EROFS);
    fs_saves_release(tmp->saves, NULL, ino, O_RDONLY);
    assert_int_equal(saves_tmp_n_gone(tmp), 1);
    fs_saves_forget(tmp->saves, ino, 1);
    assert_int_equal(saves_tmp_n_gone(tmp), 0);
    assert_int_equal(fs_saves_attr(tmp->saves, ino, &attr), ESTALE);
}

static void test_a_removed_file_can_be_written_by_its_handles(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");

    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);
    assert_int_equal(fs_saves_unlink(tmp->saves, NULL, tmp->dir, "a"), 0);
    assert_int_equal(step_of(tmp, 0).n_writers, 0); /* not in the step */
    assert_int_equal(fs_saves_write(tmp->saves, ino, "J", 1, 0), 0);
    assert_text(tmp, ino, "Jello");
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR);
    assert_int_equal(fs_saves_write(tmp->saves, ino, "M", 1, 0), EROFS);
}

static void test_a_replaced_file_lives_until_it_is_forgotten(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t old = write_file(tmp, tmp->dir, "a", "old");
    uint64_t new = write_file(tmp, tmp->dir, "a.tmp", "new");

    assert_int_equal(fs_saves_rename(tmp->saves, NULL, tmp->dir, "a.tmp",
                                     tmp->dir, "a", RENAME_NOREPLACE),
                     EEXIST);
    assert_int_equal(
        fs_saves_rename(tmp->saves, NULL, tmp->dir, "a.tmp", tmp->dir, "a", 0),
        0);
    assert_text(tmp, old, "old");
    assert_text(tmp, new, "new");
    assert_true(saves_tmp_has(tmp, "100/a"));
    assert_false(saves_tmp_has(tmp, "100/a.tmp"));
    fs_saves_forget(tmp->saves, old, 1);
    assert_int_equal(saves_tmp_n_gone(tmp), 0);
}

static void test_names_are_exchanged(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t a = write_file(tmp, tmp->dir, "a", "was a");
    uint64_t b = write_file(tmp, make_dir(tmp, tmp->dir, "d"), "b", "was b");
    struct fs_saved saved;

    assert_int_equal(fs_saves_rename(tmp->saves, NULL, tmp->dir, "a", tmp->dir,
                                     "d", RENAME_EXCHANGE),
                     0);
    assert_int_equal(fs_saves_lookup(tmp->saves, NULL, tmp->dir, "d", &saved),
                     0);
    assert_int_equal(saved.ino, a);
    assert_text(tmp, a, "was a");
    assert_text(tmp, b, "was b"); /* it is a/b now */
    assert_true(saves_tmp_has(tmp, "100/a/b"));
}

static void test_a_moved_directory_takes_its_files_along(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t dir = make_dir(tmp, tmp->dir, "tmp-ranks");
    uint64_t ino = write_file(tmp, dir, "a", "hello");
    struct fs_saved saved;

    assert_int_equal(fs_saves_rename(tmp->saves, NULL, tmp->dir, "tmp-ranks",
                                     tmp->dir, "ranks", 0),
                     0);
    assert_text(tmp, ino, "hello");
    assert_int_equal(fs_saves_lookup(tmp->saves, NULL, dir, "a", &saved), 0);
    assert_int_equal(saved.ino, ino);
    assert_int_equal(
        fs_saves_rename(tmp->saves, NULL, tmp->dir, "ranks", dir, "ranks", 0),
        EINVAL); /* into itself */
}

static void test_a_removed_directory_is_empty_to_who_stands_in_it(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t dir = make_dir(tmp, tmp->dir, "d");
    struct fs_saved saved;
    struct stat attr;

    assert_int_equal(fs_saves_rmdir(tmp->saves, NULL, tmp->dir, "d"), 0);
    assert_int_equal(fs_saves_attr(tmp->saves, dir, &attr), 0);
    assert_int_equal(attr.st_nlink, 0);
    assert_int_equal(lookup(tmp, dir, "a"), ENOENT);
    assert_int_equal(fs_saves_mkdir(tmp->saves, NULL, dir, "e", 0700, &saved),
                     ENOENT);
    saves_tmp_restart(tmp);
    assert_int_equal(lookup(tmp, dir, "a"), ENOENT);
    fs_saves_forget(tmp->saves, dir, 1);
    assert_int_equal(fs_saves_attr(tmp->saves, dir, &attr), ESTALE);
}

/* Listing. */

static void test_a_listing_goes_on_while_entries_are_removed(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t dir = make_dir(tmp, tmp->dir, "d");
    uint32_t n_removed = 0;
    struct names names = {.max = 7};
    char *name;
    char *rest;
    int i;

    for (i = 0; i < 100; i++) {
        char file[16];

        (void)snprintf(file, sizeof(file), "f%d", i);
        write_file(tmp, dir, file, "");
    }
    for (;;) {
        names.n = 0;
        names.text[0] = '\0';
        assert_int_equal(
            fs_saves_list(tmp->saves, dir, names.position, add_name, &names),
            0);
        if (names.n == 0) {
            break;
        }
        for (name = strtok_r(names.text, " ", &rest); name != NULL;
             name = strtok_r(NULL, " ", &rest)) {
            assert_int_equal(fs_saves_unlink(tmp->saves, NULL, dir, name), 0);
            n_removed++;
        }
        if (n_removed == 49) {
            saves_tmp_restart(tmp); /* what was read is lost, too */
        }
    }
    assert_int_equal(n_removed, 100);
    assert_int_equal(fs_saves_rmdir(tmp->saves, NULL, tmp->dir, "d"), 0);
}

/* Backing files. */

static void test_all_handles_of_a_file_have_one_backing(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    struct backings all = {0};
    uint32_t first;
    uint32_t second;

    tmp->backing = (struct fs_saves_backing){backing_open, backing_close, &all};
    fs_saves_set_backing(tmp->saves, &tmp->backing);
    assert_int_equal(fs_saves_open(tmp->saves, NULL, ino, O_RDONLY, &first), 0);
    saves_tmp_restart(tmp); /* the kernel has it still */
    assert_int_equal(fs_saves_open(tmp->saves, NULL, ino, O_RDWR, &second), 0);
    assert_int_equal(first, 1);
    assert_int_equal(second, 1);
    fs_saves_release(tmp->saves, NULL, ino, O_RDONLY);
    assert_int_equal(all.n_open, 1);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR);
    assert_int_equal(all.n_open, 0);
    assert_int_equal(fs_saves_open(tmp->saves, NULL, ino, O_RDWR, &second), 0);
    assert_int_equal(second, 2);
}

/* Room. */

static bool room_of(void *ctx, uint64_t *ret_bytes)
{
    *ret_bytes = *(const uint64_t *)ctx;
    return true;
}

static void test_no_room_is_told_before_damage(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    uint64_t room = 4096;
    struct fs_saved saved;
    uint32_t backing;

    tmp->guard = (struct fs_saves_guard){.room = room_of, .ctx = &room};
    fs_saves_set_guard(tmp->saves, &tmp->guard);
    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    assert_int_equal(fs_saves_write(tmp->saves, ino, "hello", 5, 5), 0);
    room = 0;
    fs_saves_tick(tmp->saves);
    assert_int_equal(fs_saves_write(tmp->saves, ino, "more", 4, 8192), ENOSPC);
    assert_int_equal(fs_saves_write(tmp->saves, ino, "HELLO", 5, 0), 0);
    assert_int_equal(fs_saves_allocate(tmp->saves, ino, 0, 0, 1 << 20), ENOSPC);
    assert_int_equal(fs_saves_create_file(tmp->saves, NULL, tmp->dir, "b", 0600,
                                          O_WRONLY, &saved, &backing),
                     ENOSPC);
    assert_int_equal(open_file(tmp, ino, O_WRONLY), ENOSPC);
    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR);
    assert_true(step_of(tmp, 0).is_full);
    assert_int_equal(freeze(tmp, 100), ENOSPC);
    room = 1 << 20;
    fs_saves_tick(tmp->saves);
    assert_false(step_of(tmp, 0).is_full);
    assert_text(tmp, ino, "HELLOhello");
    assert_int_equal(freeze(tmp, 100), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saves_test(test_a_file_is_the_one_in_staging),
        saves_test(test_names_that_are_none_are_refused),
        saves_test(test_a_removed_file_lives_until_it_is_forgotten),
        saves_test(test_a_removed_file_can_be_written_by_its_handles),
        saves_test(test_a_replaced_file_lives_until_it_is_forgotten),
        saves_test(test_names_are_exchanged),
        saves_test(test_a_moved_directory_takes_its_files_along),
        saves_test(test_a_removed_directory_is_empty_to_who_stands_in_it),
        saves_test(test_a_listing_goes_on_while_entries_are_removed),
        saves_test(test_all_handles_of_a_file_have_one_backing),
        saves_test(test_no_room_is_told_before_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
