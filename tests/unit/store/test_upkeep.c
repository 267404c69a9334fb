/* Digesting: a manifest is replaced by one that says the same and more, whoever
 * reads it. */
#define TMP_DIR_IN_MEMORY /* else hundreds of syncs wait for a disk */
#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>

#include "base/io.h"
#include "tests/unit/store/upkept.h"

/* --- digests ------------------------------------------------------------ */

static void test_what_is_undigested_is_digested(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct upkeep_told told;
    uint64_t n_bytes = 0;
    struct base_err err;

    store->is_undigested = true;
    small_store_publish(store, "train", 1, &blobs);
    assert_int_equal(upkeep_undigested(store->root, "train", 1), 5);
    assert_ok(store_digest_version(store->root, "train", 1, &upkeep_two_threads,
                                   &n_bytes, &err),
              &err);
    assert_int_equal(n_bytes, SMALL_A_BYTES + SMALL_BIG_BYTES +
                                  SMALL_BUCKET_BYTES + SMALL_NOTES_BYTES);
    assert_int_equal(upkeep_undigested(store->root, "train", 1), 0);
    upkeep_assert_clean(store->root);
    assert_ok(store_digest_version(store->root, "train", 0, &upkeep_two_threads,
                                   &n_bytes, &err),
              &err);
    assert_int_equal(n_bytes, 0);
    assert_false(small_store_has(store, "jobs/train/versions/1/manifest.2"));
    small_store_flip(small_store_blob_at(store, &blobs.blobs[0]),
                     SMALL_HEADER_BYTES + SMALL_A_BYTES + SMALL_BIG_BYTES - 1);
    told = upkeep_scrub(store->root);
    assert_int_equal(told.n, 1); /* of manifest.1 nothing is compared */
    assert_non_null(strstr(told.text, "big"));
}

/* Two versions of the same blobs, as a rescale leaves them. */
static void test_digests_of_another_version_are_taken(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    BASE_AUTO(store_version) first = NULL;
    BASE_AUTO(store_version) second = NULL;
    uint64_t n_bytes = 0;
    struct base_err err;

    store->is_undigested = true;
    small_store_publish(store, "train", 1, &blobs);
    small_store_publish(store, "train", 2, &blobs);
    assert_ok(store_digest_version(store->root, "train", 2, &upkeep_two_threads,
                                   &n_bytes, &err),
              &err);
    /* What is damaged after that gets no digest of its own. */
    small_store_flip(small_store_blob_at(store, &blobs.blobs[0]),
                     SMALL_HEADER_BYTES);
    assert_ok(store_digest_version(store->root, "train", 1, &upkeep_two_threads,
                                   &n_bytes, &err),
              &err);
    first = upkeep_open_version(store->root, "train", 1);
    second = upkeep_open_version(store->root, "train", 2);
    for (uint32_t i = 0; i < 5; i++) {
        struct ptc_manifest_region a =
            ptc_manifest_region(store_version_manifest(first), i);
        struct ptc_manifest_region b =
            ptc_manifest_region(store_version_manifest(second), i);

        assert_true(a.is_digested && b.is_digested);
        assert_true(base_digest_eq(a.digest, b.digest));
        for (uint64_t k = 0; k < store_digest_n_chunks(a.n_bytes); k++) {
            assert_true(base_digest_eq(
                ptc_manifest_chunk(store_version_manifest(first), &a, k),
                ptc_manifest_chunk(store_version_manifest(second), &b, k)));
        }
    }
}

static bool never(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    (void)ctx;
    (void)done_bytes;
    (void)all_bytes;
    return false;
}

static void test_interrupted_digesting_changes_nothing(void **state)
{
    const struct store_import_options options = {.n_threads = 1,
                                                 .progress = never};
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    uint64_t n_bytes = 0;
    struct base_err err;

    store->is_undigested = true;
    small_store_publish(store, "train", 1, &blobs);
    assert_int_equal(
        store_digest_version(store->root, "train", 1, &options, &n_bytes, &err),
        BASE_INTERRUPTED);
    assert_int_equal(upkeep_undigested(store->root, "train", 1), 5);
    assert_false(small_store_has(store, "jobs/train/versions/1/manifest.1"));
}

/* --- replacing ---------------------------------------------------------- */

static void test_a_replaced_manifest_stays_while_it_is_read(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    BASE_AUTO(store_version) reader = NULL;
    BASE_AUTO(store_version) late = NULL;
    uint64_t n_bytes = 0;
    struct base_err err;

    store->is_undigested = true;
    small_store_publish(store, "train", 1, &blobs);
    reader = upkeep_open_version(store->root, "train", 1);
    assert_false(store_version_is_replaced(store->root, reader));
    assert_ok(store_digest_version(store->root, "train", 1, &upkeep_two_threads,
                                   &n_bytes, &err),
              &err);
    assert_true(store_version_is_replaced(store->root, reader));
    late = upkeep_open_version(store->root, "train", 1);
    assert_false(store_version_is_replaced(store->root, late));
    assert_int_equal(upkeep_sweep(store->root), 0);
    assert_true(small_store_has(store, "jobs/train/versions/1/manifest.1"));
    upkeep_assert_clean(store->root);
    store_version_free(base_steal(&reader));
    assert_int_equal(upkeep_sweep(store->root), 0);
    assert_false(small_store_has(store, "jobs/train/versions/1/manifest.1"));
    assert_true(small_store_has(store, "jobs/train/versions/1/manifest"));
    upkeep_assert_clean(store->root);
}

/* A sweep has the manifest that a reader has opened and not locked yet. */
static void test_a_reader_that_comes_late_opens_the_new_manifest(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    BASE_AUTO_FD fd = -1;
    int status = 0;
    pid_t child;
    struct base_err err;

    small_store_publish(store, "new", 1, &blobs);
    store->is_undigested = true;
    small_store_publish(store, "train", 1, &blobs);
    assert_ok(base_io_open(store_root_fd(store->root),
                           "jobs/train/versions/1/manifest", O_RDONLY, 0, "m",
                           &fd, &err),
              &err);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(fd);
        _exit(upkeep_undigested(store->root, "train", 1) == 0 ? 0 : 1);
    }
    (void)poll(NULL, 0, 100); /* it waits now, or comes later */
    assert_int_equal(
        renameat(store_root_fd(store->root), "jobs/new/versions/1/manifest",
                 store_root_fd(store->root), "jobs/train/versions/1/manifest"),
        0);
    assert_int_equal(flock(fd, LOCK_UN), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_release_takes_all_manifests_of_a_version(void **state)
{
    struct small_store *store = *state;
    struct small_blobs old = small_store_blobs(store, 1);
    struct small_blobs new = small_store_blobs(store, 2);
    BASE_AUTO(store_version) reader = NULL;
    uint64_t n_bytes = 0;
    struct base_err err;

    store->is_undigested = true;
    small_store_publish(store, "train", 1, &old);
    small_store_publish(store, "train", 2, &new);
    reader = upkeep_open_version(store->root, "train", 1);
    assert_ok(store_digest_version(store->root, "train", 1, &upkeep_two_threads,
                                   &n_bytes, &err),
              &err);
    assert_ok(store_root_lock(store->root, 0, &err), &err);
    assert_int_equal(store_version_release(store->root, "train", 1, &err),
                     BASE_EXISTS); /* the old manifest's reader has it */
    store_version_free(base_steal(&reader));
    assert_ok(store_version_release(store->root, "train", 1, &err), &err);
    assert_false(small_store_has(store, "jobs/train/versions/1"));
    store_root_unlock(store->root);
    assert_int_equal(upkeep_sweep(store->root), SMALL_N_BLOBS);
}

static void test_a_damaged_replaced_manifest_stops_no_sweep(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct upkeep_told told;

    small_store_publish(store, "train", 1, &blobs);
    small_store_write(store, "jobs/train/versions/1/manifest.7", "nonsense");
    told = upkeep_scrub(store->root);
    assert_int_equal(told.n, 1);
    assert_non_null(strstr(told.text, "train@1 (manifest.7)"));
    assert_int_equal(upkeep_sweep(store->root), 0); /* nobody reads it */
    upkeep_assert_clean(store->root);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        small_store_test(test_what_is_undigested_is_digested),
        small_store_test(test_digests_of_another_version_are_taken),
        small_store_test(test_interrupted_digesting_changes_nothing),
        small_store_test(test_a_replaced_manifest_stays_while_it_is_read),
        small_store_test(test_a_reader_that_comes_late_opens_the_new_manifest),
        small_store_test(test_release_takes_all_manifests_of_a_version),
        small_store_test(test_a_damaged_replaced_manifest_stops_no_sweep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
