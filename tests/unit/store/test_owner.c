/* A store that belongs to an agent. */
#include "tests/unit/store/saved.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "store/change.h"

static struct store_root *open_other(const struct saved *saved)
{
    struct store_root *root = NULL;
    struct base_err err = {0};

    assert_ok(store_root_open(store_root_path(saved->root), &root, &err), &err);
    return root;
}

static void test_others_are_refused_at_once_and_told_what_to_do(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_root) other = open_other(saved);
    struct base_err err = {0};
    char pid[32];

    (void)snprintf(pid, sizeof(pid), "process %ld:", (long)getpid());
    assert_ok(store_root_lock(other, 0, &err), &err);
    store_root_unlock(other);
    assert_ok(store_root_own(saved->root, &err), &err);
    assert_ok(store_root_own(saved->root, &err), &err);
    assert_int_equal(store_root_lock(other, INT64_MAX, &err), BASE_DENIED);
    assert_non_null(strstr(err.text, "belongs to the agent"));
    assert_non_null(strstr(err.text, pid));
    assert_non_null(strstr(err.text, "without --store"));
    assert_int_equal(store_root_own(other, &err), BASE_EXISTS);
    pid[strlen(pid) - 1] = '\0';
    assert_non_null(strstr(err.text, pid));
}

static void test_owner_and_who_serves_it_change_the_store(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_root) other = open_other(saved);
    struct base_err err = {0};

    assert_ok(store_root_own(saved->root, &err), &err);
    saved_write_whole(saved);
    saved_write(saved, 10);
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
    store_root_serve_owner(other);
    assert_ok(store_root_lock(other, 0, &err), &err);
    store_root_unlock(other);
}

static void test_reading_needs_no_owner(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_root) owner = open_other(saved);
    struct base_err err = {0};
    uint64_t number = 0;

    saved_write_whole(saved);
    saved_write(saved, 10);
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
    assert_ok(store_root_own(owner, &err), &err);
    saved_must_equal(saved, 1);
    saved_must_be_sound(saved);
    assert_int_equal(store_rollback(saved->root, "j", 1, NULL, &number, &err),
                     BASE_DENIED);
}

static void test_an_owner_that_is_killed_owns_nothing(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_root) other = open_other(saved);
    struct base_err err = {0};
    int status = 0;
    int ready[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe(ready), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(60);
        if (store_root_own(saved->root, &err) != BASE_OK ||
            write(ready[1], "", 1) != 1) {
            _exit(3);
        }
        (void)pause();
        _exit(0);
    }
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    assert_int_equal(store_root_lock(other, 0, &err), BASE_DENIED);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_ok(store_root_lock(other, 0, &err), &err);
    store_root_unlock(other);
    assert_ok(store_root_own(other, &err), &err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saved_test(test_others_are_refused_at_once_and_told_what_to_do),
        saved_test(test_owner_and_who_serves_it_change_the_store),
        saved_test(test_reading_needs_no_owner),
        saved_test(test_an_owner_that_is_killed_owns_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
