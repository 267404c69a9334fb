/* Whose a staging of saves is, and what it counts. */
#include "tests/unit/store/saved.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"

static enum base_code try_open(struct saved *saved, struct base_err *err)
{
    BASE_AUTO(store_staging) other = NULL;

    return store_staging_open(saved->root, "j", &other, err);
}

static bool is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

static void test_a_second_one_is_refused_and_told_who(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_staging) other = NULL;
    struct base_err err = {0};
    char pid[32];

    saved_write(saved, 10);
    assert_int_equal(try_open(saved, &err), BASE_EXISTS);
    (void)snprintf(pid, sizeof(pid), "process %ld ", (long)getpid());
    assert_non_null(strstr(err.text, pid));
    assert_true(is_there(saved_in(saved, 10, "layout.yaml")));
    assert_ok(store_staging_open(saved->root, "k", &other, &err), &err);
}

static void test_what_a_dead_one_left_is_removed(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM char *path = strdup(store_staging_path(saved->staging));
    struct base_err err = {0};

    assert_string_equal(strrchr(path, '/'), "/save.j");
    saved_write(saved, 10);
    store_staging_free(saved->staging);
    saved->staging = NULL;
    assert_true(is_there(path)); /* it keeps its files */
    assert_ok(store_staging_open(saved->root, "j", &saved->staging, &err),
              &err);
    assert_false(is_there(saved_in(saved, 10, "%s", "")));
    assert_string_equal(store_staging_path(saved->staging), path);

    saved_write(saved, 20);
    store_staging_free(saved->staging);
    saved->staging = NULL;
    assert_ok(store_root_lock(saved->root, 0, &err), &err); /* any change */
    store_root_unlock(saved->root);
    assert_false(is_there(path));
    saved_must_be_sound(saved);
}

static void test_a_change_leaves_a_living_one_alone(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM char *before = NULL;
    BASE_AUTO_MEM char *after = NULL;
    struct base_err err = {0};

    saved_write(saved, 10);
    saved_put(saved_at(saved, "store/staging/save.dead"), "no directory");
    assert_int_equal(mkdir(saved_at(saved, "store/staging/save.old"), 0700), 0);
    saved_put(saved_at(saved, "store/staging/save.old/x"), "of a dead one");
    assert_int_equal(mkdir(saved_at(saved, "store/staging/save.o"), 0700), 0);
    assert_int_equal(mkdir(saved_at(saved, "store/staging/save.o/lock"), 0700),
                     0);
    before = saved_picture(store_staging_path(saved->staging));
    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    store_root_unlock(saved->root);
    after = saved_picture(store_staging_path(saved->staging));
    assert_string_equal(after, before);
    assert_false(is_there(saved_at(saved, "store/staging/save.old")));
    assert_false(is_there(saved_at(saved, "store/staging/save.dead")));
    assert_false(is_there(saved_at(saved, "store/staging/save.o")));
    saved_must_be_sound(saved);
}

static void test_removing_leaves_nothing(void **state)
{
    struct saved *saved = *state;
    char **names = NULL;
    size_t n = 9;
    struct base_err err = {0};

    saved_write(saved, 10);
    assert_ok(store_staging_remove(&saved->staging, &err), &err);
    assert_null(saved->staging);
    assert_ok(base_dir_list(store_root_fd(saved->root), "staging", 9, &names,
                            &n, &err),
              &err);
    base_names_free(names, n);
    assert_int_equal(n, 0);
    assert_ok(store_staging_open(saved->root, "j", &saved->staging, &err),
              &err);
}

static void test_a_lock_is_handed_on(void **state)
{
    struct saved *saved = *state;
    struct store_staging *next = NULL;
    struct base_err err = {0};
    int lock_fd = dup(store_staging_lock_fd(saved->staging));
    int other_fd = open(store_staging_path(saved->staging), O_RDONLY);

    assert_true(lock_fd >= 0 && other_fd >= 0);
    saved_write(saved, 10);
    store_staging_free(saved->staging); /* killed: the holder has its lock */
    saved->staging = NULL;
    assert_int_equal(try_open(saved, &err), BASE_EXISTS);
    assert_int_equal(
        store_staging_adopt(saved->root, "j", other_fd, &next, &err),
        BASE_CHANGED);
    assert_int_equal(
        store_staging_adopt(saved->root, "k", lock_fd, &next, &err),
        BASE_CHANGED);
    assert_ok(
        store_staging_adopt(saved->root, "j", lock_fd, &saved->staging, &err),
        &err);
    assert_true(is_there(saved_in(saved, 10, "layout.yaml")));
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
    (void)close(other_fd);
}

static void test_names_have_room_for_a_prefix(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_staging) staging = NULL;
    struct base_err err = {0};
    char job[241];

    memset(job, 'j', sizeof(job) - 1);
    job[240] = '\0';
    assert_int_equal(store_staging_open(saved->root, job, &staging, &err),
                     BASE_BAD_ARG);
    job[235] = '\0';
    assert_ok(store_staging_open(saved->root, job, &staging, &err), &err);
    assert_int_equal(store_staging_open(saved->root, "../up", &staging, &err),
                     BASE_BAD_ARG);
}

/* One process takes the store's lock all the time, another opens and ends
 * stagings: what is held stays. */
static void test_opening_and_clearing_do_not_meet(void **state)
{
    enum { N_TIMES = 300 };
    struct saved *saved = *state;
    struct base_err err = {0};
    int status = 0;
    pid_t child;

    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        BASE_AUTO(store_root) root = NULL;

        (void)alarm(60);
        if (store_root_open(saved_at(saved, "store"), &root, NULL) != BASE_OK) {
            _exit(1);
        }
        while (getppid() != 1) { /* until it is killed */
            if (store_root_lock(root, 1000000000, &err) != BASE_OK) {
                print_error("%s\n", err.text);
                _exit(1);
            }
            store_root_unlock(root);
        }
        _exit(0);
    }
    for (unsigned i = 0; i < N_TIMES; i++) {
        struct store_staging *staging = NULL;
        char path[128];

        assert_ok(store_staging_open(saved->root, "k", &staging, &err), &err);
        (void)snprintf(path, sizeof(path), "%s/f", store_staging_path(staging));
        saved_put(path, "x");
        assert_true(is_there(path));
        if (i % 2 == 0) {
            assert_ok(store_staging_remove(&staging, &err), &err);
        } else {
            store_staging_free(staging);
        }
    }
    (void)kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status)); /* it was still at it */
}

/* --- room --------------------------------------------------------------- */

static uint64_t used(const struct saved *saved)
{
    uint64_t n = 0, budget = 0;
    struct base_err err = {0};

    assert_ok(store_root_usage(saved->root, &n, &budget, &err), &err);
    return n;
}

static uint64_t not_yet(const struct saved *saved)
{
    uint64_t n = 0;
    struct base_err err = {0};

    assert_ok(store_root_staged(saved->root, &n, &err), &err);
    return n;
}

static uint64_t room(const struct saved *saved)
{
    uint64_t n = 0;
    struct base_err err = {0};

    assert_ok(store_staging_room(saved->staging, &n, &err), &err);
    return n;
}

/* A store with a budget in place of the one that there is. */
static void set_budget(struct saved *saved, uint64_t budget_bytes)
{
    BASE_AUTO_MEM char *path = strdup(saved_at(saved, "store"));
    struct base_err err = {0};

    store_staging_free(saved->staging);
    store_root_free(saved->root);
    saved->staging = NULL;
    saved->root = NULL;
    assert_ok(base_dir_remove(AT_FDCWD, path, &err), &err);
    assert_ok(store_root_init(path, budget_bytes, &err), &err);
    assert_ok(store_root_open(path, &saved->root, &err), &err);
    assert_ok(store_staging_open(saved->root, "j", &saved->staging, &err),
              &err);
}

static void test_staged_files_count_once(void **state)
{
    enum { BUDGET = 4 << 20, HOLE = 1 << 20 };
    struct saved *saved = *state;
    struct base_err err = {0};
    uint64_t empty, staged;
    int fd;

    set_budget(saved, BUDGET);
    empty = used(saved); /* the lock's own page, where there is one */
    assert_true(empty <= 4096);
    assert_int_equal(room(saved), BUDGET - empty);
    saved_write(saved, 10);
    staged = used(saved);
    assert_true(staged >= 16 * 4096 && staged < 64 * 8192);
    assert_int_equal(room(saved), BUDGET - staged);
    assert_int_equal(not_yet(saved), staged); /* nothing is a blob */
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
    assert_int_equal(used(saved), staged); /* they have two names now */
    assert_ok(saved_finish(saved, 10, STORE_REPLICAS_WARN, 1, &err), &err);
    assert_true(not_yet(saved) <= 4096);
    assert_true(used(saved) < staged); /* replicas and layout.yaml are gone */

    /* What is not written yet is wanted all the same. */
    staged = used(saved);
    assert_int_equal(mkdir(saved_in(saved, 20, "%s", ""), 0700), 0);
    fd = open(saved_in(saved, 20, "f"), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, HOLE), 0);
    assert_int_equal(used(saved), staged + HOLE);
    assert_int_equal(link(saved_in(saved, 20, "f"), saved_in(saved, 20, "g")),
                     0);
    assert_int_equal(used(saved), staged + HOLE); /* two names of one */
    assert_int_equal(ftruncate(fd, 8 * (off_t)HOLE), 0);
    assert_int_equal(room(saved), 0); /* past the budget */
    (void)close(fd);
}

/* What a rank may make below save/ stops neither a change nor the clearing. */
static void test_deep_directories_do_not_stop_a_store(void **state)
{
    enum { DEPTH = 200 };
    struct saved *saved = *state;
    struct base_err err = {0};
    struct stat st;
    int fd;

    saved_write(saved, 10);
    fd = open(saved_in(saved, 10, "%s", ""), O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < DEPTH; i++) {
        int next;

        assert_true(fd >= 0);
        assert_int_equal(mkdirat(fd, "d", 0700), 0);
        next = openat(fd, "d", O_RDONLY | O_CLOEXEC);
        (void)close(fd);
        fd = next;
    }
    (void)close(fd);
    assert_true(used(saved) > 0);
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
    store_staging_free(saved->staging); /* it dies */
    saved->staging = NULL;
    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    store_root_unlock(saved->root);
    assert_int_equal(stat(saved_at(saved, "store/staging/save.j"), &st), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saved_test(test_a_second_one_is_refused_and_told_who),
        saved_test(test_what_a_dead_one_left_is_removed),
        saved_test(test_a_change_leaves_a_living_one_alone),
        saved_test(test_removing_leaves_nothing),
        saved_test(test_a_lock_is_handed_on),
        saved_test(test_names_have_room_for_a_prefix),
        saved_test(test_opening_and_clearing_do_not_meet),
        saved_test(test_staged_files_count_once),
        saved_test(test_deep_directories_do_not_stop_a_store),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
