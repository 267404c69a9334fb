/* The root: init, open, lock, usage. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/io.h"
#include "store/blob.h"
#include "tests/unit/store/small_store.h"

#define SECOND_NS ((int64_t)1000000000)

static void test_init_makes_a_store_with_its_own_id(void **state)
{
    struct small_store *store = *state;
    BASE_AUTO(store_root) other = NULL;
    char path[96];
    struct base_err err;

    (void)snprintf(path, sizeof(path), "%s/other", store->dir->path);
    assert_ok(store_root_init(path, 123, &err), &err);
    assert_ok(store_root_open(path, &other, &err), &err);
    assert_int_equal(strlen(store_root_id(other)), 32);
    assert_string_not_equal(store_root_id(other), store_root_id(store->root));
    assert_string_equal(store_root_path(other), path);
}

static void test_init_refuses_what_is_not_empty(void **state)
{
    struct small_store *store = *state;
    struct base_err err;

    assert_int_equal(store_root_init(store->path, 0, &err), BASE_EXISTS);
    assert_non_null(strstr(err.text, "a store already"));
    assert_int_equal(store_root_init(store->dir->path, 0, &err), BASE_EXISTS);
    assert_non_null(strstr(err.text, "\"store\""));
}

static void test_init_goes_on_where_one_died(void **state)
{
    struct small_store *store = *state;
    BASE_AUTO(store_root) root = NULL;
    struct base_err err;

    assert_int_equal(unlink(small_store_at(store, "id")), 0);
    assert_int_equal(rmdir(small_store_at(store, "jobs")), 0);
    assert_int_equal(store_root_open(store->path, &root, &err), BASE_BAD_INPUT);
    assert_non_null(strstr(err.text, "is no store"));
    assert_ok(store_root_init(store->path, 0, &err), &err);
    assert_ok(store_root_open(store->path, &root, &err), &err);
}

static void test_open_refuses_a_malformed_id(void **state)
{
    static const struct {
        const char *id;
        const char *text;
    } cases[] = {
        {"", "malformed"},
        {"something", "malformed"},
        {"retile store 2\nwhatever\n", "of format 2"},
        {"retile store 1\nid 00\nbudget 0\n", "malformed"},
        {"retile store 1\nid 0123456789abcdef0123456789ABCDEF\nbudget 0\n",
         "malformed"},
        {"retile store 1\nid 0123456789abcdef0123456789abcdef\n", "malformed"},
        {"retile store 1\nid 0123456789abcdef0123456789abcdef\nbudget -1\n",
         "malformed"},
        {"retile store 1\nid 0123456789abcdef0123456789abcdef\nbudget 1\nx",
         "malformed"},
    };
    struct small_store *store = *state;

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct store_root *root = NULL;
        struct base_err err;

        small_store_write(store, "id", cases[i].id);
        assert_int_equal(store_root_open(store->path, &root, &err),
                         BASE_BAD_INPUT);
        assert_null(root);
        assert_non_null(strstr(err.text, cases[i].text));
    }
}

static void test_open_of_nothing_is_not_found(void **state)
{
    struct store_root *root = NULL;
    struct base_err err;

    (void)state;
    assert_int_equal(store_root_open("/tmp/retile/no/store", &root, &err),
                     BASE_NOT_FOUND);
}

static void test_the_lock_is_one_programs(void **state)
{
    struct small_store *store = *state;
    struct base_err err;
    char pid_text[32];
    int to_child[2];
    int from_child[2];
    char byte = 0;
    int status;
    pid_t pid;

    assert_int_equal(pipe(to_child), 0);
    assert_int_equal(pipe(from_child), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct store_root *root = NULL;
        bool is_good = store_root_open(store->path, &root, NULL) == BASE_OK &&
                       store_root_lock(root, 0, NULL) == BASE_OK &&
                       write(from_child[1], "l", 1) == 1 && /* locked */
                       read(to_child[0], &byte, 1) == 1;

        _exit(is_good ? 0 : 1); /* dies with the lock */
    }
    assert_int_equal(read(from_child[0], &byte, 1), 1);
    (void)snprintf(pid_text, sizeof(pid_text), "process %ld ", (long)pid);
    assert_int_equal(store_root_lock(store->root, SECOND_NS / 50, &err),
                     BASE_EXISTS);
    assert_non_null(strstr(err.text, pid_text));
    assert_int_equal(write(to_child[1], "x", 1), 1);
    assert_ok(store_root_lock(store->root, 10 * SECOND_NS, &err), &err);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    for (size_t i = 0; i < 2; i++) {
        (void)close(to_child[i]);
        (void)close(from_child[i]);
    }
}

static void test_the_lock_is_one_roots_and_is_given_up(void **state)
{
    struct small_store *store = *state;
    BASE_AUTO(store_root) other = NULL;
    struct base_err err;

    assert_ok(store_root_open(store->path, &other, &err), &err);
    assert_ok(store_root_lock(store->root, 0, &err), &err);
    assert_int_equal(store_root_lock(store->root, 0, &err), BASE_EXISTS);
    assert_int_equal(store_root_lock(other, 0, &err), BASE_EXISTS);
    store_root_unlock(store->root);
    assert_ok(store_root_lock(other, 0, &err), &err);
    store_root_free(base_steal(&other));
    assert_ok(store_root_lock(store->root, 0, &err), &err);
}

static void test_who_lost_the_lock_changes_no_more(void **state)
{
    struct small_store *store = *state;
    BASE_AUTO(store_root) other = NULL;
    struct store_sweep swept;
    struct base_err err;

    (void)small_store_blobs(store, 1); /* the sweep's */
    assert_ok(store_root_lock(store->root, 0, &err), &err);
    assert_int_equal(unlink(small_store_at(store, "lock")), 0);
    assert_ok(store_root_open(store->path, &other, &err), &err);
    assert_ok(store_root_lock(other, 0, &err), &err);
    assert_int_equal(store_sweep(store->root, &swept, &err), BASE_CHANGED);
    assert_non_null(strstr(err.text, "was removed or replaced"));
    assert_ok(store_sweep(other, &swept, &err), &err);
    assert_int_equal(swept.n_blobs, SMALL_N_BLOBS);
}

static void test_the_lock_clears_staging(void **state)
{
    struct small_store *store = *state;
    struct base_err err;

    assert_int_equal(mkdir(small_store_at(store, "staging/x"), 0700), 0);
    small_store_write(store, "staging/x/blob", "bytes");
    small_store_write(store, "staging/pin-1", "bytes");
    assert_ok(store_root_lock(store->root, 0, &err), &err);
    assert_false(small_store_has(store, "staging/x"));
    assert_false(small_store_has(store, "staging/pin-1"));
    assert_true(small_store_has(store, "staging"));
}

static void test_usage_counts_blobs_against_the_budget(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    BASE_AUTO(store_root) root = NULL;
    struct base_err err;
    uint64_t used;
    uint64_t budget;

    assert_ok(store_root_usage(store->root, &used, &budget, &err), &err);
    assert_int_equal(used, blobs.blobs[0].n_bytes + blobs.blobs[1].n_bytes +
                               blobs.blobs[2].n_bytes);
    assert_true(budget > used);
    small_store_write(
        store, "id",
        "retile store 1\nid 0123456789abcdef0123456789abcdef\nbudget 4096\n");
    assert_ok(store_root_open(store->path, &root, &err), &err);
    assert_ok(store_root_usage(root, &used, &budget, &err), &err);
    assert_int_equal(budget, 4096);
}

static void test_jobs_and_versions_are_listed_in_order(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    char **jobs;
    struct base_err err;
    size_t n;

    small_store_publish(store, "train", 10, &blobs);
    small_store_publish(store, "train", 9, &blobs);
    small_store_publish(store, "b", 1, &blobs);
    assert_int_equal(mkdir(small_store_at(store, "jobs/.x"), 0700), 0);
    assert_int_equal(mkdir(small_store_at(store, "jobs/new"), 0700), 0);
    assert_int_equal(mkdir(small_store_at(store, "jobs/b/versions/02"), 0700),
                     0);
    assert_ok(store_root_jobs(store->root, &jobs, &n, &err), &err);
    assert_int_equal(n, 3);
    assert_string_equal(jobs[0], "b");
    assert_string_equal(jobs[1], "new"); /* whose first import was killed */
    assert_string_equal(jobs[2], "train");
    base_names_free(jobs, n);
    assert_ok(store_root_versions(store->root, "train", &numbers, &n, &err),
              &err);
    assert_int_equal(n, 2);
    assert_int_equal(numbers[0], 9);
    assert_int_equal(numbers[1], 10);
    free(base_steal(&numbers));
    assert_ok(store_root_versions(store->root, "b", &numbers, &n, &err), &err);
    assert_int_equal(n, 1);
    free(base_steal(&numbers));
    assert_ok(store_root_versions(store->root, "new", &numbers, &n, &err),
              &err);
    assert_int_equal(n, 0);
    free(base_steal(&numbers));
    assert_int_equal(store_root_versions(store->root, "c", &numbers, &n, &err),
                     BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "b, new, train"));
}

static void test_a_jobs_name_is_no_path(void **state)
{
    static const char *const names[] = {"",    ".",    "..",  ".a",
                                        "a/b", "../a", "a\nb"};
    struct small_store *store = *state;

    for (size_t i = 0; i < N_ITEMS(names); i++) {
        uint64_t *numbers = NULL;
        struct store_version *v = NULL;
        struct base_err err;
        size_t n;

        assert_int_equal(
            store_root_versions(store->root, names[i], &numbers, &n, &err),
            BASE_BAD_ARG);
        assert_int_equal(store_version_open(store->root, names[i], 1, &v, &err),
                         BASE_BAD_ARG);
    }
}

static void test_a_blobs_name_is_32_digits(void **state)
{
    static const char *const bad[] = {"", "0123456789abcdef0123456789abcde",
                                      "0123456789abcdef0123456789abcdef0",
                                      "0123456789abcdef0123456789abcdeF",
                                      "0123456789abcdef0123456789abcdeg"};
    struct ptc_blob_name name;
    struct ptc_blob_name again;
    char text[STORE_BLOB_TEXT_BYTES];
    struct base_err err;

    (void)state;
    assert_ok(store_blob_name_make(&name, &err), &err);
    (void)store_blob_name_format(&name, text);
    assert_true(store_blob_name_parse(base_str_of(text), &again));
    assert_int_equal(store_blob_name_cmp(&name, &again), 0);
    assert_ok(store_blob_name_make(&again, &err), &err);
    assert_int_not_equal(store_blob_name_cmp(&name, &again), 0);
    for (size_t i = 0; i < N_ITEMS(bad); i++) {
        assert_false(store_blob_name_parse(base_str_of(bad[i]), &again));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        small_store_test(test_init_makes_a_store_with_its_own_id),
        small_store_test(test_init_refuses_what_is_not_empty),
        small_store_test(test_init_goes_on_where_one_died),
        small_store_test(test_open_refuses_a_malformed_id),
        small_store_test(test_open_of_nothing_is_not_found),
        small_store_test(test_the_lock_is_one_programs),
        small_store_test(test_the_lock_is_one_roots_and_is_given_up),
        small_store_test(test_who_lost_the_lock_changes_no_more),
        small_store_test(test_the_lock_clears_staging),
        small_store_test(test_usage_counts_blobs_against_the_budget),
        small_store_test(test_jobs_and_versions_are_listed_in_order),
        small_store_test(test_a_jobs_name_is_no_path),
        small_store_test(test_a_blobs_name_is_32_digits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
