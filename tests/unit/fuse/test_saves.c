#include "tests/unit/fuse/saves_tmp.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>

enum { WAIT_NS = 20000000 };

/* A new file with @text in it, looked up once and closed. */
static uint64_t write_file(struct saves_tmp *tmp,
                           uint64_t dir,
                           const char *name,
                           const char *text)
{
    struct fs_saved saved;
    uint32_t backing;

    assert_int_equal(fs_saves_create_file(tmp->saves, NULL, dir, name, 0644,
                                          O_WRONLY, &saved, &backing),
                     0);
    assert_int_equal(
        fs_saves_write(tmp->saves, saved.ino, text, strlen(text), 0), 0);
    fs_saves_release(tmp->saves, NULL, saved.ino, O_WRONLY);
    return saved.ino;
}

static uint64_t make_dir(struct saves_tmp *tmp, uint64_t dir, const char *name)
{
    struct fs_saved saved;

    assert_int_equal(fs_saves_mkdir(tmp->saves, NULL, dir, name, 0755, &saved),
                     0);
    return saved.ino;
}

static int open_file(struct saves_tmp *tmp, uint64_t ino, int flags)
{
    uint32_t backing;

    return fs_saves_open(tmp->saves, NULL, ino, flags, &backing);
}

static void assert_text(struct saves_tmp *tmp, uint64_t ino, const char *text)
{
    char buf[64] = "";
    size_t n;

    assert_int_equal(
        fs_saves_read(tmp->saves, ino, buf, sizeof(buf) - 1, 0, &n), 0);
    assert_int_equal(n, strlen(text));
    assert_string_equal(buf, text);
    assert_int_equal(fs_saves_read(tmp->saves, ino, buf, 1, n, &n), 0);
    assert_int_equal(n, 0);
}

static int lookup(struct saves_tmp *tmp, uint64_t dir, const char *name)
{
    struct fs_saved saved;
    int rc = fs_saves_lookup(tmp->saves, NULL, dir, name, &saved);

    if (rc == 0) {
        fs_saves_forget(tmp->saves, saved.ino, 1);
    }
    return rc;
}

static struct fs_step step_of(struct saves_tmp *tmp, uint32_t i)
{
    struct fs_step steps[8];

    assert_true(fs_saves_steps(tmp->saves, steps, N_ITEMS(steps)) > i);
    return steps[i];
}

static int freeze(struct saves_tmp *tmp, uint64_t step)
{
    char *path;
    int rc = fs_saves_freeze(tmp->saves, step, WAIT_NS, &path);

    free(path);
    return rc;
}

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

struct names {
    char text[4096];
    uint64_t position;
    uint32_t n;
    uint32_t max;
};

static bool
add_name(void *ctx, const char *name, uint64_t ino, mode_t type, uint64_t at)
{
    struct names *names = ctx;

    (void)ino;
    (void)type;
    if (names->n == names->max) {
        return false;
    }
    assert_true(at > names->position);
    names->n++;
    names->position = at;
    (void)snprintf(names->text + strlen(names->text),
                   sizeof(names->text) - strlen(names->text), "%s ", name);
    return true;
}

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

/* Servers that die. */

static void test_handles_are_counted_by_the_next_server(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, make_dir(tmp, tmp->dir, "d"), "a", "hello");

    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0);
    saves_tmp_restart(tmp);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);
    assert_int_equal(freeze(tmp, 100), EBUSY);
    assert_int_equal(fs_saves_write(tmp->saves, ino, "J", 1, 0), 0);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR);
    fs_saves_release(tmp->saves, NULL, ino, O_RDONLY);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR); /* one too many */
    assert_int_equal(step_of(tmp, 0).n_writers, 0);
    assert_text(tmp, ino, "Jello");
    assert_int_equal(freeze(tmp, 100), 0);
}

static void test_a_repeated_open_counts_once(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    struct fs_turn turn;
    uint32_t backing;

    fs_turn_begin(tmp->saves, 42, &turn);
    assert_false(turn.is_again);
    assert_int_equal(fs_saves_open(tmp->saves, &turn, ino, O_RDWR, &backing),
                     0);
    saves_tmp_restart(tmp); /* before it was answered */

    fs_turn_begin(tmp->saves, 42 | UINT64_C(1) << 63, &turn);
    assert_true(turn.is_again);
    assert_int_equal(fs_saves_open(tmp->saves, &turn, ino, O_RDWR, &backing),
                     0);
    fs_turn_end(&turn);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);

    fs_turn_begin(tmp->saves, 44, &turn); /* the same, of a release */
    fs_saves_release(tmp->saves, &turn, ino, O_RDWR);
    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    saves_tmp_restart(tmp);
    fs_turn_begin(tmp->saves, 44, &turn);
    fs_saves_release(tmp->saves, &turn, ino, O_RDWR);
    fs_turn_end(&turn);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);

    saves_tmp_restart(tmp); /* ended turns are not begun again */
    fs_turn_begin(tmp->saves, 42, &turn);
    assert_false(turn.is_again);
    fs_turn_end(&turn);
}

static void test_a_repeated_change_is_done_once(void **state)
{
    struct saves_tmp *tmp = *state;
    struct fs_turn turns[4];
    struct fs_saved saved;
    struct fs_saved again;
    uint32_t backing;
    uint64_t i;

    write_file(tmp, tmp->dir, "old", "");
    write_file(tmp, tmp->dir, "from", "");
    for (i = 0; i < 4; i++) {
        fs_turn_begin(tmp->saves, 2 + 2 * i, &turns[i]);
    }
    assert_int_equal(
        fs_saves_mkdir(tmp->saves, &turns[0], tmp->dir, "d", 0700, &saved), 0);
    assert_int_equal(fs_saves_unlink(tmp->saves, &turns[1], tmp->dir, "old"),
                     0);
    assert_int_equal(fs_saves_rename(tmp->saves, &turns[2], tmp->dir, "from",
                                     tmp->dir, "to", 0),
                     0);
    assert_int_equal(fs_saves_create_file(tmp->saves, &turns[3], tmp->dir, "f",
                                          0600, O_WRONLY | O_EXCL, &saved,
                                          &backing),
                     0);
    saves_tmp_restart(tmp);
    for (i = 0; i < 4; i++) {
        fs_turn_begin(tmp->saves, 2 + 2 * i, &turns[i]);
        assert_true(turns[i].is_again);
    }
    assert_int_equal(
        fs_saves_mkdir(tmp->saves, &turns[0], tmp->dir, "d", 0700, &again), 0);
    assert_int_equal(fs_saves_unlink(tmp->saves, &turns[1], tmp->dir, "old"),
                     0);
    assert_int_equal(fs_saves_rename(tmp->saves, &turns[2], tmp->dir, "from",
                                     tmp->dir, "to", 0),
                     0);
    assert_int_equal(fs_saves_create_file(tmp->saves, &turns[3], tmp->dir, "f",
                                          0600, O_WRONLY | O_EXCL, &again,
                                          &backing),
                     0);
    assert_int_equal(again.ino, saved.ino);
    assert_int_equal(again.generation, saved.generation);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);
    for (i = 0; i < 4; i++) {
        fs_turn_end(&turns[i]);
    }
    /* Asked for the first time, it is an error. */
    assert_int_equal(fs_saves_create_file(tmp->saves, NULL, tmp->dir, "f", 0600,
                                          O_WRONLY | O_EXCL, &again, &backing),
                     EEXIST);
    assert_int_equal(fs_saves_unlink(tmp->saves, NULL, tmp->dir, "old"),
                     ENOENT);
}

static void test_a_repeated_exchange_is_not_undone(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t a = write_file(tmp, tmp->dir, "a", "was a");
    struct fs_saved saved;
    struct fs_turn turn;

    write_file(tmp, tmp->dir, "b", "was b");
    fs_turn_begin(tmp->saves, 2, &turn);
    assert_int_equal(fs_saves_rename(tmp->saves, &turn, tmp->dir, "a", tmp->dir,
                                     "b", RENAME_EXCHANGE),
                     0);
    saves_tmp_restart(tmp);
    fs_turn_begin(tmp->saves, 2, &turn);
    assert_int_equal(fs_saves_rename(tmp->saves, &turn, tmp->dir, "a", tmp->dir,
                                     "b", RENAME_EXCHANGE),
                     0);
    fs_turn_end(&turn);
    assert_int_equal(fs_saves_lookup(tmp->saves, NULL, tmp->dir, "b", &saved),
                     0);
    assert_int_equal(saved.ino, a);
}

static void test_a_damaged_ledger_is_refused(void **state)
{
    struct saves_tmp *tmp = *state;
    struct fs_saves *saves;
    struct base_err err;
    int fd = openat(tmp->fd, "ledger", O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 0), 1);
    assert_int_equal(fs_saves_create(tmp->fd, &saves, &err), BASE_BAD_INPUT);
    assert_int_equal(pwrite(fd, "R", 1, 0), 1);
    assert_int_equal(pwrite(fd, "\xff\xff\xff\xff", 4, 16), 4);
    assert_int_equal(fs_saves_create(tmp->fd, &saves, &err), BASE_BAD_INPUT);
    (void)close(fd); /* what was written is not needed */
}

/* Who maps a file that is cut off gets SIGBUS; the next server must not take
 * what is missing for zeros, and so for files that nobody has open. */
static void test_a_ledger_that_was_cut_off_is_refused(void **state)
{
    static const off_t sizes[] = {8191, 4096, 100, 8192, 1, 0};
    struct saves_tmp *tmp = *state;
    struct fs_saves *saves;
    struct base_err err;
    char path[96];
    size_t i;

    (void)write_file(tmp, tmp->dir, "a", "hello");
    (void)snprintf(path, sizeof(path), "%s/ledger", tmp->path);
    fs_saves_free(tmp->saves);
    tmp->saves = NULL;
    for (i = 0; i < N_ITEMS(sizes); i++) {
        assert_int_equal(truncate(path, sizes[i]), 0);
        assert_int_equal(fs_saves_create(tmp->fd, &saves, &err),
                         BASE_BAD_INPUT);
        assert_int_equal(fs_saves_create(tmp->fd, &saves, &err),
                         BASE_BAD_INPUT); /* as often as it is tried */
    }
    assert_false(saves_tmp_has(tmp, "ledger")); /* none, as was found */
    assert_int_equal(unlinkat(tmp->fd, "steps/1.100", 0), 0);
    saves_tmp_start(tmp);
}

static void test_impossible_slots_are_refused(void **state)
{
    static const struct {
        off_t offset; /* in the first slot */
        uint32_t to;
    } cases[] = {{4, 0}, {4, 0xc0000000}, {20, 77}};
    struct saves_tmp *tmp = *state;
    struct fs_saves *saves;
    struct base_err err;
    unsigned char slots[80];
    int fd = openat(tmp->fd, "ledger", O_RDWR | O_CLOEXEC);
    size_t i;

    assert_true(fd >= 0);
    (void)write_file(tmp, tmp->dir, "a", "hello");
    (void)write_file(tmp, tmp->dir, "b", "hello");
    assert_int_equal(pread(fd, slots, 80, 8192), 80);
    for (i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(pwrite(fd, &cases[i].to, 4, 8192 + cases[i].offset),
                         4);
        assert_int_equal(fs_saves_create(tmp->fd, &saves, &err),
                         BASE_BAD_INPUT);
        assert_int_equal(pwrite(fd, slots, 80, 8192), 80);
    }
    assert_int_equal(pwrite(fd, slots, 40, 8192 + 40), 40); /* one node twice */
    assert_int_equal(fs_saves_create(tmp->fd, &saves, &err), BASE_BAD_INPUT);
    assert_int_equal(pwrite(fd, slots, 80, 8192), 80);
    (void)close(fd); /* it is as it was */
}

/* What a server does with what it has taken up. */
static void use(struct fs_saves *saves)
{
    struct fs_step steps[4];
    struct fs_saved saved;
    struct fs_turn turn;
    uint32_t backing;
    char *path;

    fs_turn_begin(saves, 5, &turn);
    if (fs_saves_steps(saves, steps, 4) > 0 &&
        fs_saves_lookup(saves, &turn, steps[0].ino, "a", &saved) == 0) {
        if (fs_saves_open(saves, NULL, saved.ino, O_RDWR, &backing) == 0) {
            (void)fs_saves_write(saves, saved.ino, "x", 1, 0);
            fs_saves_release(saves, NULL, saved.ino, O_RDWR);
        }
        fs_saves_forget(saves, saved.ino, UINT64_MAX);
    }
    fs_turn_end(&turn);
    if (fs_saves_freeze(saves, 100, 0, &path) == 0) {
        fs_saves_thaw(saves, 100);
    }
    free(path);
    fs_saves_free(saves);
}

/* Change some of the first @n_bytes of @name at random, many times. */
static void meddle(struct saves_tmp *tmp, const char *name, size_t n_bytes)
{
    unsigned char whole[10000];
    unsigned char bytes[10000];
    struct fs_saves *saves;
    struct base_err err;
    uint64_t random = 88172645463325252u;
    unsigned i;
    ssize_t n;

    for (i = 0; i < 2000; i++) {
        int fd = openat(tmp->fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        unsigned k;

        assert_true(fd >= 0);
        if (i == 0) {
            n = pread(fd, whole, sizeof(whole), 0);
            assert_true(n >= (ssize_t)n_bytes);
        }
        memcpy(bytes, whole, (size_t)n);
        for (k = 0; k <= i % 4; k++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            /* The heads and the slots, more than the zeros between them. */
            bytes[random % 2 == 0 || n_bytes < 8192
                      ? (random >> 8) % (n_bytes < 128 ? n_bytes : 128)
                      : 8192 + (random >> 8) % (n_bytes - 8192)] ^=
                (unsigned char)(1u << (random >> 40) % 8);
        }
        assert_int_equal(pwrite(fd, bytes, (size_t)n, 0), n);
        (void)close(fd); /* damaged as it is */
        if (fs_saves_create(tmp->fd, &saves, &err) == BASE_OK) {
            use(saves);
        } else {
            assert_true(err.text[0] != '\0');
        }
    }
}

static void test_whatever_is_in_the_ledger_is_survived(void **state)
{
    struct saves_tmp *tmp = *state;

    (void)write_file(tmp, tmp->dir, "a", "hello");
    (void)write_file(tmp, make_dir(tmp, tmp->dir, "d"), "b", "hello");
    fs_saves_free(tmp->saves);
    tmp->saves = NULL;
    meddle(tmp, "ledger", 8192 + 5 * 40);
    assert_int_equal(unlinkat(tmp->fd, "ledger", 0), 0);
    assert_int_equal(unlinkat(tmp->fd, "steps/1.100", 0), 0);
    saves_tmp_start(tmp);
}

static void test_whatever_is_in_a_record_is_survived(void **state)
{
    struct saves_tmp *tmp = *state;

    (void)write_file(tmp, tmp->dir, "a", "hello");
    assert_int_equal(freeze(tmp, 100), 0);
    fs_saves_seal(tmp->saves, 100, 7);
    fs_saves_free(tmp->saves);
    tmp->saves = NULL;
    meddle(tmp, "steps/1.100", 64 + 2);
    saves_tmp_start(tmp);
}

static void test_a_half_written_record_is_no_step(void **state)
{
    struct saves_tmp *tmp = *state;
    struct fs_step steps[8];
    int fd = openat(tmp->fd, "steps/1.300", O_WRONLY | O_CREAT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "RTLSTEP1", 8), 8);
    (void)close(fd); /* damaged as it is */
    saves_tmp_restart(tmp);
    assert_int_equal(fs_saves_steps(tmp->saves, steps, 8), 1);
    assert_false(saves_tmp_has(tmp, "steps/1.300"));
}

static void test_a_damaged_record_is_no_step(void **state)
{
    static const struct {
        off_t offset;
        char byte;
    } cases[] = {{0, 'x'}, {8, 9},  {12, 1}, {52, 1},
                 {16, 9},  {24, 9}, {32, 0}, {38, 1}};
    struct saves_tmp *tmp = *state;
    struct fs_step steps[8];
    size_t i;

    for (i = 0; i < N_ITEMS(cases); i++) {
        char name[32];
        uint64_t ino;
        int fd;

        assert_int_equal(fs_saves_begin(tmp->saves, 1, 300 + i, &ino), 0);
        (void)snprintf(name, sizeof(name), "steps/1.%zu", 300 + i);
        fd = openat(tmp->fd, name, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, &cases[i].byte, 1, cases[i].offset), 1);
        (void)close(fd); /* damaged as it is */
        saves_tmp_restart(tmp);
        assert_int_equal(fs_saves_steps(tmp->saves, steps, 8), 1);
    }
}

/* Backing files. */

struct backings {
    uint32_t n_open;
    uint32_t last;
};

static uint32_t backing_open(void *ctx, int fd)
{
    struct backings *all = ctx;

    assert_true(fd >= 0);
    all->n_open++;
    return ++all->last;
}

static void backing_close(void *ctx, uint32_t id)
{
    struct backings *all = ctx;

    assert_int_equal(id, all->last);
    all->n_open--;
}

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
        saves_test(test_handles_are_counted_by_the_next_server),
        saves_test(test_a_repeated_open_counts_once),
        saves_test(test_a_repeated_change_is_done_once),
        saves_test(test_a_repeated_exchange_is_not_undone),
        saves_test(test_a_damaged_ledger_is_refused),
        saves_test(test_a_ledger_that_was_cut_off_is_refused),
        saves_test(test_impossible_slots_are_refused),
        saves_test(test_whatever_is_in_the_ledger_is_survived),
        saves_test(test_whatever_is_in_a_record_is_survived),
        saves_test(test_a_half_written_record_is_no_step),
        saves_test(test_a_damaged_record_is_no_step),
        saves_test(test_all_handles_of_a_file_have_one_backing),
        saves_test(test_no_room_is_told_before_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
