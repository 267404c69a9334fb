/* The life of a step: begun, frozen, sealed, revoked, dropped. */
#include "tests/unit/fuse/saves_tmp.h"

#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>

/* Steps. */

static void test_a_step_is_begun_once_and_removed_empty(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino;

    assert_int_equal(fs_saves_begin(tmp->saves, 1, 100, &ino), EEXIST);
    write_file(tmp, tmp->dir, "a", "");
    assert_int_equal(fs_saves_remove(tmp->saves, 100), ENOTEMPTY);
    assert_int_equal(fs_saves_unlink(tmp->saves, NULL, tmp->dir, "a"), 0);
    assert_int_equal(fs_saves_remove(tmp->saves, 100), 0);
    assert_int_equal(fs_saves_remove(tmp->saves, 100), ENOENT);
    assert_false(saves_tmp_has(tmp, "100"));
    assert_false(saves_tmp_has(tmp, "steps/1.100"));
    assert_int_equal(fs_saves_begin(tmp->saves, 1, 100, &ino), 0);
}

static void test_files_do_not_move_between_steps(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t other;

    assert_int_equal(fs_saves_begin(tmp->saves, 1, 200, &other), 0);
    write_file(tmp, tmp->dir, "a", "");
    assert_int_equal(
        fs_saves_rename(tmp->saves, NULL, tmp->dir, "a", other, "a", 0), EXDEV);
}

static void test_freeze_waits_for_writers_and_names_one(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, make_dir(tmp, tmp->dir, "r"), "a", "hello");
    char *path = NULL;

    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0);
    assert_int_equal(fs_saves_freeze(tmp->saves, 100, WAIT_NS, &path), EBUSY);
    assert_non_null(path);
    assert_string_equal(path, "100/r/a");
    free(path);
    assert_int_equal(step_of(tmp, 0).state, FS_STEP_OPEN);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR);
    assert_int_equal(freeze(tmp, 100), 0); /* who reads does no harm */
}

static void *release_soon(void *ctx)
{
    struct saves_tmp *tmp = ctx;
    struct fs_saved saved;

    assert_int_equal(fs_saves_lookup(tmp->saves, NULL, tmp->dir, "a", &saved),
                     0);
    fs_saves_release(tmp->saves, NULL, saved.ino, O_WRONLY);
    return NULL;
}

static void test_freeze_ends_when_the_last_writer_does(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    pthread_t thread;
    char *path;

    assert_int_equal(open_file(tmp, ino, O_WRONLY), 0);
    assert_int_equal(pthread_create(&thread, NULL, release_soon, tmp), 0);
    assert_int_equal(
        fs_saves_freeze(tmp->saves, 100, INT64_C(60000000000), &path), 0);
    assert_null(path);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

/* All that changes something, in a step that must not change. */
static void assert_closed(struct saves_tmp *tmp, uint64_t ino, int errnum)
{
    const struct stat attr = {.st_size = 1, .st_mode = 0600};
    struct fs_saved saved;
    struct stat now;
    uint32_t backing;

    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0);
    assert_text(tmp, ino, "hello");
    fs_saves_release(tmp->saves, NULL, ino, O_RDONLY);
    assert_int_equal(open_file(tmp, ino, O_WRONLY), errnum);
    assert_int_equal(open_file(tmp, ino, O_RDONLY | O_TRUNC), errnum);
    assert_int_equal(fs_saves_write(tmp->saves, ino, "x", 1, 0), errnum);
    assert_int_equal(fs_saves_allocate(tmp->saves, ino, 0, 0, 100), errnum);
    assert_int_equal(
        fs_saves_set_attr(tmp->saves, ino, FS_SET_SIZE, &attr, &now), errnum);
    assert_int_equal(
        fs_saves_set_attr(tmp->saves, ino, FS_SET_MODE, &attr, &now), errnum);
    assert_int_equal(fs_saves_create_file(tmp->saves, NULL, tmp->dir, "new",
                                          0600, O_WRONLY, &saved, &backing),
                     errnum);
    assert_int_equal(
        fs_saves_mkdir(tmp->saves, NULL, tmp->dir, "new", 0700, &saved),
        errnum);
    assert_int_equal(fs_saves_unlink(tmp->saves, NULL, tmp->dir, "a"), errnum);
    assert_int_equal(
        fs_saves_rename(tmp->saves, NULL, tmp->dir, "a", tmp->dir, "b", 0),
        errnum);
}

static void test_nothing_changes_in_a_frozen_step(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");

    assert_int_equal(freeze(tmp, 100), 0);
    assert_closed(tmp, ino, EBUSY);
    assert_int_equal(freeze(tmp, 100), EBUSY);
    assert_int_equal(fs_saves_drop(tmp->saves, 100), EBUSY);
    assert_int_equal(fs_saves_remove(tmp->saves, 100), EBUSY);

    saves_tmp_restart(tmp); /* it may be a version by now */
    assert_closed(tmp, ino, EBUSY);
    assert_int_equal(freeze(tmp, 100), 0);
    fs_saves_thaw(tmp->saves, 100);
    assert_int_equal(open_file(tmp, ino, O_WRONLY), 0);
    fs_saves_release(tmp->saves, NULL, ino, O_WRONLY);
    saves_tmp_restart(tmp);
    assert_int_equal(step_of(tmp, 0).state, FS_STEP_OPEN);
}

static void test_nothing_changes_in_a_revoked_step(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");

    fs_saves_revoke(tmp->saves, 2);
    assert_closed(tmp, ino, EROFS);
    assert_int_equal(freeze(tmp, 100), EROFS);
    assert_int_equal(fs_saves_begin(tmp->saves, 1, 101, &ino), EROFS);
    assert_int_equal(fs_saves_drop(tmp->saves, 100), 0);
    assert_int_equal(fs_saves_begin(tmp->saves, 2, 101, &ino), 0);
}

static void assert_sealed(struct saves_tmp *tmp, uint64_t dir)
{
    char target[FS_SAVED_TARGET_BYTES];
    struct names names = {.max = 100};
    struct fs_saved saved;

    assert_int_equal(fs_saves_list(tmp->saves, dir, 0, add_name, &names), 0);
    assert_string_equal(names.text, "ranks notes retile.json ");
    assert_int_equal(
        fs_saves_lookup(tmp->saves, NULL, dir, "retile.json", &saved), 0);
    assert_true(S_ISLNK(saved.attr.st_mode));
    assert_int_equal(fs_saves_readlink(tmp->saves, saved.ino, target), 0);
    assert_string_equal(target, "../../../../versions/7/retile.json");
    assert_int_equal(saved.attr.st_size, strlen(target));
    assert_int_equal(fs_saves_lookup(tmp->saves, NULL, dir, "hf", &saved), 0);
    assert_int_equal(fs_saves_readlink(tmp->saves, saved.ino, target), 0);
    assert_string_equal(target, "../../../../versions/7/hf");
    assert_int_equal(fs_saves_lookup(tmp->saves, NULL, dir, "x", &saved),
                     ENOENT);
    assert_int_equal(fs_saves_attr(tmp->saves, dir, &saved.attr), 0);
    assert_int_equal(saved.attr.st_mode, S_IFDIR | 0500);
}

static void test_a_sealed_step_shows_links_into_its_version(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ranks = make_dir(tmp, tmp->dir, "ranks");
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    struct fs_step step;

    assert_int_equal(
        fs_saves_rename(tmp->saves, NULL, tmp->dir, "a", ranks, "a", 0), 0);
    write_file(tmp, tmp->dir, "retile.json", "{}");
    write_file(tmp, tmp->dir, "notes", "");
    write_file(tmp, tmp->dir, "half.tmp", "");
    write_file(tmp, tmp->dir, ".hidden", "");
    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0);
    assert_int_equal(freeze(tmp, 100), 0);
    fs_saves_seal(tmp->saves, 100, 7);
    assert_sealed(tmp, tmp->dir);
    saves_tmp_restart(tmp);
    assert_sealed(tmp, tmp->dir);
    assert_int_equal(fs_saves_step_of(tmp->saves, tmp->dir, &step), 0);
    assert_int_equal(step.version, 7);
    assert_int_equal(step.state, FS_STEP_SEALED);
}

static void test_who_reads_a_sealed_step_reads_on(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    struct base_err err;

    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0);
    assert_int_equal(freeze(tmp, 100), 0);
    fs_saves_seal(tmp->saves, 100, 7);
    assert_ok(base_dir_remove(tmp->fd, "100", &err), &err); /* finished */
    assert_text(tmp, ino, "hello");
    saves_tmp_restart(tmp);
    assert_text(tmp, ino, "hello");
    assert_int_equal(open_file(tmp, ino, O_WRONLY), EROFS);
    assert_int_equal(fs_saves_write(tmp->saves, ino, "x", 1, 0), EROFS);
    fs_saves_release(tmp->saves, NULL, ino, O_RDONLY);
    fs_saves_forget(tmp->saves, ino, 1);
    assert_int_equal(saves_tmp_n_gone(tmp), 0);
}

static void test_a_later_generation_may_save_the_same_step(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    uint64_t ranks = make_dir(tmp, tmp->dir, "ranks");
    /* So that its number is not used again. */
    int fd = openat(tmp->fd, "100/ranks", O_PATH | O_CLOEXEC);
    struct base_err err;
    uint64_t second;
    uint64_t dir;

    assert_true(fd >= 0);
    assert_int_equal(freeze(tmp, 100), 0);
    fs_saves_seal(tmp->saves, 100, 7);
    assert_int_equal(fs_saves_begin(tmp->saves, 1, 100, &dir), EEXIST);
    assert_int_equal(fs_saves_begin(tmp->saves, 2, 100, &dir), EBUSY);
    assert_ok(base_dir_remove(tmp->fd, "100", &err), &err); /* finished */
    assert_int_equal(fs_saves_begin(tmp->saves, 2, 100, &dir), 0);
    assert_int_not_equal(dir, tmp->dir);
    second = make_dir(tmp, dir, "ranks");
    write_file(tmp, second, "a", "second");
    assert_text(tmp, ino, "hello");
    assert_int_equal(lookup(tmp, ranks, "a"), ENOENT); /* the first one's */
    saves_tmp_restart(tmp);
    assert_text(tmp, ino, "hello");
    assert_int_equal(lookup(tmp, ranks, "a"), ENOENT);
    write_file(tmp, second, "b", ""); /* that is not sealed */
    assert_int_equal(step_of(tmp, 0).state, FS_STEP_SEALED);
    assert_int_equal(step_of(tmp, 1).state, FS_STEP_OPEN);
    assert_int_equal(freeze(tmp, 100), 0); /* the second */
    (void)close(fd);                       /* was only held */
}

static void test_a_dropped_step_keeps_what_is_open(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t dir = make_dir(tmp, tmp->dir, "d");
    uint64_t ino = write_file(tmp, dir, "a", "hello");
    struct fs_step steps[1];

    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    assert_int_equal(fs_saves_drop(tmp->saves, 100), 0);
    assert_int_equal(fs_saves_steps(tmp->saves, steps, 1), 0);
    assert_false(saves_tmp_has(tmp, "100"));
    assert_text(tmp, ino, "hello");
    saves_tmp_restart(tmp);
    assert_text(tmp, ino, "hello");
    assert_int_equal(open_file(tmp, ino, O_RDWR), EROFS);
    assert_int_equal(lookup(tmp, dir, "a"), ENOENT);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR);
    fs_saves_forget(tmp->saves, ino, 1);
    fs_saves_forget(tmp->saves, dir, 1);
    assert_int_equal(saves_tmp_n_gone(tmp), 0);
}

static void *freeze_long(void *ctx)
{
    struct saves_tmp *tmp = ctx;
    char *path;
    int rc = fs_saves_freeze(tmp->saves, 100, INT64_C(60000000000), &path);

    free(path);
    assert_int_equal(rc, 0);
    return NULL;
}

static void test_who_is_waited_for_may_write(void **state)
{
    const struct stat attr = {.st_size = 3};
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    uint64_t other = write_file(tmp, tmp->dir, "b", "hello");
    struct stat now;
    pthread_t thread;

    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    assert_int_equal(pthread_create(&thread, NULL, freeze_long, tmp), 0);
    while (step_of(tmp, 0).state != FS_STEP_FROZEN) {
        (void)sched_yield(); /* cannot fail */
    }
    assert_int_equal(fs_saves_write(tmp->saves, ino, "HELL", 4, 0), 0);
    assert_int_equal(
        fs_saves_set_attr(tmp->saves, ino, FS_SET_SIZE, &attr, &now), 0);
    assert_int_equal(fs_saves_write(tmp->saves, other, "H", 1, 0), EBUSY);
    assert_int_equal(open_file(tmp, other, O_RDWR), EBUSY);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_text(tmp, ino, "HEL");
    assert_int_equal(fs_saves_write(tmp->saves, ino, "H", 1, 0), EBUSY);
}

/* The kernel maps the file that it passes on to: closing tells of no end. */
static void test_freeze_waits_for_who_maps_a_file(void **state)
{
    struct saves_tmp *tmp = *state;
    struct backings all = {0};
    char *path = NULL;
    uint64_t ino;
    void *map;
    int fd;

    tmp->backing = (struct fs_saves_backing){backing_open, backing_close, &all};
    fs_saves_set_backing(tmp->saves, &tmp->backing);
    ino = write_file(tmp, tmp->dir, "a", "hello");
    fd = openat(tmp->fd, "100/a", O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    map = mmap(NULL, 5, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_equal(close(fd), 0);
    saves_tmp_restart(tmp); /* the next server knows, too */
    assert_int_equal(fs_saves_freeze(tmp->saves, 100, WAIT_NS, &path), EBUSY);
    assert_non_null(path);
    assert_string_equal(path, "100/a");
    free(path);
    assert_int_equal(munmap(map, 5), 0);
    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0); /* who reads may */
    assert_text(tmp, ino, "hello");
    assert_int_equal(freeze(tmp, 100), 0);
    fs_saves_release(tmp->saves, NULL, ino, O_RDONLY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saves_test(test_a_step_is_begun_once_and_removed_empty),
        saves_test(test_files_do_not_move_between_steps),
        saves_test(test_freeze_waits_for_writers_and_names_one),
        saves_test(test_freeze_ends_when_the_last_writer_does),
        saves_test(test_who_is_waited_for_may_write),
        saves_test(test_freeze_waits_for_who_maps_a_file),
        saves_test(test_nothing_changes_in_a_frozen_step),
        saves_test(test_nothing_changes_in_a_revoked_step),
        saves_test(test_a_sealed_step_shows_links_into_its_version),
        saves_test(test_who_reads_a_sealed_step_reads_on),
        saves_test(test_a_later_generation_may_save_the_same_step),
        saves_test(test_a_dropped_step_keeps_what_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
