/* Versions: opening, pins, release; and the sweep. */
#include "tests/unit/unit.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "store/blob.h"
#include "tests/unit/store/small_store.h"

static void lock(struct small_store *store)
{
    struct base_err err;

    assert_ok(store_root_lock(store->root, 0, &err), &err);
}

static void test_an_open_version_has_manifest_and_table(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    BASE_AUTO(store_version) v = NULL;
    struct base_err err;

    small_store_publish(store, "train", 3, &blobs);
    small_store_publish(store, "train", 12, &blobs);
    assert_ok(store_version_open(store->root, "train", 0, &v, &err), &err);
    assert_string_equal(store_version_label(v), "train@12");
    assert_int_equal(ptc_manifest_head(store_version_manifest(v))->version, 12);
    assert_int_equal(ptc_table_n_tensors(store_version_table(v)), 4);
    store_version_free(base_steal(&v));
    assert_ok(store_version_open(store->root, "train", 3, &v, &err), &err);
    assert_string_equal(store_version_label(v), "train@3");
}

static void test_a_missing_version_names_those_that_are(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct store_version *v = NULL;
    struct base_err err;

    small_store_publish(store, "train", 3, &blobs);
    small_store_publish(store, "train", 4, &blobs);
    assert_int_equal(store_version_open(store->root, "train", 5, &v, &err),
                     BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "it has 3, 4"));
    assert_int_equal(store_version_open(store->root, "other", 0, &v, &err),
                     BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "there is: train"));
    assert_int_equal(mkdir(small_store_at(store, "jobs/new"), 0700), 0);
    assert_int_equal(mkdir(small_store_at(store, "jobs/new/versions"), 0700),
                     0);
    assert_int_equal(store_version_open(store->root, "new", 0, &v, &err),
                     BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "no version yet"));
}

static void test_a_damaged_version_is_not_opened(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct store_version *v = NULL;
    struct base_err err;

    small_store_publish_as(store, "train", 3, 4, &blobs);
    assert_int_equal(store_version_open(store->root, "train", 3, &v, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "train@3"));
    small_store_write(store, "jobs/train/versions/3/manifest", "nonsense");
    assert_int_equal(store_version_open(store->root, "train", 3, &v, &err),
                     BASE_BAD_INPUT);
    small_store_write(store, "jobs/train/versions/3/manifest", "");
    assert_int_equal(store_version_open(store->root, "train", 3, &v, &err),
                     BASE_BAD_INPUT);
    assert_int_equal(
        unlink(small_store_at(store, "jobs/train/versions/3/manifest")), 0);
    assert_int_equal(store_version_open(store->root, "train", 3, &v, &err),
                     BASE_BAD_INPUT);
    assert_non_null(strstr(err.text, "no manifest"));
    assert_int_equal(
        unlink(small_store_at(store, "jobs/train/versions/3/lock")), 0);
    assert_int_equal(store_version_open(store->root, "train", 3, &v, &err),
                     BASE_BAD_INPUT);
    assert_non_null(strstr(err.text, "'lock'"));
}

static void test_a_foreign_table_is_not_used(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct store_version *v = NULL;
    char **names;
    char path[64];
    struct base_err err;
    size_t n;

    small_store_publish(store, "train", 1, &blobs);
    assert_ok(base_dir_list(store_root_fd(store->root), "tables", 9, &names, &n,
                            &err),
              &err);
    assert_int_equal(n, 1);
    (void)snprintf(path, sizeof(path), "tables/%s", names[0]);
    base_names_free(names, n);
    small_store_write(store, path, "{\"retile_table\":1,\"tensors\":[]}");
    assert_int_equal(store_version_open(store->root, "train", 1, &v, &err),
                     BASE_MISMATCH);
    assert_int_equal(unlink(small_store_at(store, "%s", path)), 0);
    assert_int_equal(store_version_open(store->root, "train", 1, &v, &err),
                     BASE_BAD_INPUT);
}

static void test_a_held_version_is_not_released(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    BASE_AUTO(store_version) v = NULL;
    struct base_err err;

    small_store_publish(store, "train", 1, &blobs);
    small_store_publish(store, "train", 2, &blobs);
    assert_ok(store_version_open(store->root, "train", 1, &v, &err), &err);
    lock(store);
    assert_int_equal(store_version_release(store->root, "train", 1, &err),
                     BASE_EXISTS);
    assert_non_null(strstr(err.text, "in use"));
    assert_true(small_store_has(store, "jobs/train/versions/1/manifest"));
    store_version_free(base_steal(&v));
    assert_ok(store_version_release(store->root, "train", 1, &err), &err);
    assert_false(small_store_has(store, "jobs/train/versions/1"));
    assert_int_equal(store_version_open(store->root, "train", 1, &v, &err),
                     BASE_NOT_FOUND);
}

/* The reader opens the lock, waits for it, and gets it when the version was
 * renamed away (or, where it was slow, finds no lock: the same answer). */
static void test_a_reader_that_came_late_finds_it_gone(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct pollfd end = {.events = POLLIN};
    BASE_AUTO_FD fd = -1;
    struct base_err err;
    int from_child[2];
    int status;
    pid_t pid;

    small_store_publish(store, "train", 1, &blobs);
    fd = open(small_store_at(store, "jobs/train/versions/1/lock"),
              O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(pipe(from_child), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct store_version *v = NULL;

        (void)close(fd); /* or the lock would stay */
        (void)close(from_child[0]);
        _exit((int)store_version_open(store->root, "train", 1, &v, NULL));
    }
    (void)close(from_child[1]);
    end.fd = from_child[0];
    assert_int_equal(poll(&end, 1, 100), 0); /* it waits for the lock */
    assert_ok(base_rename_new(store_root_fd(store->root),
                              "jobs/train/versions/1", "staging/away", &err),
              &err);
    (void)close(base_steal_fd(&fd));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    (void)close(from_child[0]);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), BASE_NOT_FOUND);
}

static void test_the_current_version_is_not_released(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct base_err err;

    small_store_publish(store, "train", 1, &blobs);
    lock(store);
    assert_int_equal(store_version_release(store->root, "train", 1, &err),
                     BASE_BAD_ARG);
    assert_int_equal(store_version_release(store->root, "train", 2, &err),
                     BASE_NOT_FOUND);
    assert_true(small_store_has(store, "jobs/train/versions/1/manifest"));
}

static void test_a_pin_says_why_and_keeps_the_version(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    char *why = NULL;
    struct base_err err;

    small_store_publish(store, "train", 1, &blobs);
    small_store_publish(store, "train", 2, &blobs);
    lock(store);
    assert_ok(store_version_pin_why(store->root, "train", 1, &why, &err), &err);
    assert_null(why);
    assert_ok(store_version_pin(store->root, "train", 1, "first", &err), &err);
    assert_ok(store_version_pin(store->root, "train", 1, "a/b, best", &err),
              &err);
    assert_ok(store_version_pin_why(store->root, "train", 1, &why, &err), &err);
    assert_string_equal(why, "a/b, best");
    free(why);
    assert_int_equal(store_version_release(store->root, "train", 1, &err),
                     BASE_EXISTS);
    assert_non_null(strstr(err.text, "pinned: a/b, best"));
    assert_int_equal(store_version_pin(store->root, "train", 1, "", &err),
                     BASE_BAD_ARG);
    assert_int_equal(store_version_pin(store->root, "train", 1, "a\nb", &err),
                     BASE_BAD_ARG);
    assert_int_equal(store_version_pin(store->root, "train", 7, "x", &err),
                     BASE_NOT_FOUND);
    assert_ok(store_version_pin(store->root, "train", 1, NULL, &err), &err);
    assert_ok(store_version_pin(store->root, "train", 1, NULL, &err), &err);
    assert_ok(store_version_release(store->root, "train", 1, &err), &err);
}

static void test_a_release_that_died_is_finished_by_the_next_lock(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    char **names;
    struct base_err err;
    size_t n;

    small_store_publish(store, "train", 1, &blobs);
    small_store_publish(store, "train", 2, &blobs);
    lock(store);
    assert_int_equal(setenv("RETILE_FAULT", "store.release=error", 1), 0);
    assert_ok(base_fault_init(&err), &err);
    assert_int_equal(store_version_release(store->root, "train", 1, &err),
                     BASE_IO);
    assert_int_equal(unsetenv("RETILE_FAULT"), 0);
    assert_ok(base_fault_init(&err), &err);
    store_root_unlock(store->root);
    assert_false(small_store_has(store, "jobs/train/versions/1"));
    assert_ok(base_dir_list(store_root_fd(store->root), "staging", 9, &names,
                            &n, &err),
              &err);
    base_names_free(names, n);
    assert_int_equal(n, 1);
    lock(store);
    assert_ok(base_dir_list(store_root_fd(store->root), "staging", 9, &names,
                            &n, &err),
              &err);
    base_names_free(names, n);
    assert_int_equal(n, 0);
}

static void test_the_sweep_frees_exactly_what_is_not_named(void **state)
{
    struct small_store *store = *state;
    struct small_blobs old = small_store_blobs(store, 1);
    struct small_blobs new = small_store_blobs(store, 2);
    struct store_sweep sweep;
    struct base_err err;
    int fd;

    small_store_publish(store, "train", 1, &old);
    small_store_publish(store, "train", 2, &new);
    small_store_publish(store, "other", 1, &new);
    small_store_write(store, "tables/00000000000000000000000000000000", "x");
    lock(store);
    assert_ok(store_sweep(store->root, &sweep, &err), &err);
    assert_int_equal(sweep.n_blobs, 0);
    assert_false(
        small_store_has(store, "tables/00000000000000000000000000000000"));
    assert_ok(store_version_release(store->root, "train", 1, &err), &err);
    assert_ok(store_sweep(store->root, &sweep, &err), &err);
    assert_int_equal(sweep.n_blobs, SMALL_N_BLOBS);
    assert_int_equal(sweep.n_bytes, old.blobs[0].n_bytes +
                                        old.blobs[1].n_bytes +
                                        old.blobs[2].n_bytes);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(store_blob_open(store->root, &old.blobs[i], &fd, &err),
                         BASE_NOT_FOUND);
        assert_ok(store_blob_open(store->root, &new.blobs[i], &fd, &err), &err);
        (void)close(fd);
    }
    assert_ok(store_sweep(store->root, &sweep, &err), &err);
    assert_int_equal(sweep.n_blobs, 0);
}

/* Freeing much memory takes a while, in which others may have the lock. */
static void test_swept_bytes_are_freed_behind_the_lock(void **state)
{
    struct small_store *store = *state;
    struct small_blobs loose = small_store_blobs(store, 1);
    struct store_sweep sweep;
    struct base_err err;
    struct stat st;
    int *fds;
    size_t n;

    lock(store);
    assert_ok(store_sweep(store->root, &sweep, &err), &err);
    store_root_take_unlinked(store->root, &fds, &n);
    assert_int_equal(n, SMALL_N_BLOBS);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(fstat(fds[i], &st), 0);
        assert_int_equal(st.st_nlink, 0);
        assert_true(st.st_size == (off_t)loose.blobs[0].n_bytes ||
                    st.st_size == (off_t)loose.blobs[1].n_bytes ||
                    st.st_size == (off_t)loose.blobs[2].n_bytes);
        (void)close(fds[i]);
    }
    free(fds);
    store_root_take_unlinked(store->root, &fds, &n);
    assert_int_equal(n, 0);
    assert_null(fds);
}

static void test_a_manifest_that_cannot_be_read_stops_the_sweep(void **state)
{
    struct small_store *store = *state;
    struct small_blobs old = small_store_blobs(store, 1);
    struct small_blobs loose = small_store_blobs(store, 2);
    struct store_sweep sweep;
    struct base_err err;
    int fd;

    small_store_publish(store, "train", 1, &old);
    small_store_write(store, "jobs/train/versions/1/manifest", "nonsense");
    lock(store);
    assert_int_equal(store_sweep(store->root, &sweep, &err), BASE_BAD_INPUT);
    assert_non_null(strstr(err.text, "train@1"));
    assert_ok(store_blob_open(store->root, &loose.blobs[0], &fd, &err), &err);
    (void)close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        small_store_test(test_an_open_version_has_manifest_and_table),
        small_store_test(test_a_missing_version_names_those_that_are),
        small_store_test(test_a_damaged_version_is_not_opened),
        small_store_test(test_a_foreign_table_is_not_used),
        small_store_test(test_a_held_version_is_not_released),
        small_store_test(test_a_reader_that_came_late_finds_it_gone),
        small_store_test(test_the_current_version_is_not_released),
        small_store_test(test_a_pin_says_why_and_keeps_the_version),
        small_store_test(test_a_release_that_died_is_finished_by_the_next_lock),
        small_store_test(test_the_sweep_frees_exactly_what_is_not_named),
        small_store_test(test_swept_bytes_are_freed_behind_the_lock),
        small_store_test(test_a_manifest_that_cannot_be_read_stops_the_sweep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
