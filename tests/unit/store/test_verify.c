/* Bytes are compared with their digests when they are touched, once. */
#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/io.h"
#include "store/change.h"
#include "store/verify.h"
#include "tests/unit/store/small_store.h"

/* A version that is open, and what compares it. */
struct opened {
    struct store_source *source;
    struct store_verify *verify;
};

static void opened_done(struct opened *opened)
{
    store_verify_free(opened->verify);
    store_source_free(opened->source);
}

#define AUTO_OPENED __attribute__((cleanup(opened_done))) struct opened

static struct opened open_first(struct small_store *store)
{
    BASE_AUTO(store_version) version = NULL;
    struct opened opened = {0};
    struct base_err err;

    assert_ok(store_version_open(store->root, "train", 1, &version, &err),
              &err);
    assert_ok(
        store_source_open_version(store->root, &version, &opened.source, &err),
        &err);
    assert_ok(store_verify_create(opened.source, &opened.verify, &err), &err);
    return opened;
}

#define BIG (SMALL_HEADER_BYTES + SMALL_A_BYTES) /* where it begins */

static void test_each_chunk_is_digested_once(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    AUTO_OPENED opened = {0};
    struct base_err err;

    small_store_publish(store, "train", 1, &blobs);
    opened = open_first(store);
    assert_ok(store_verify_range(opened.verify, 0, BIG, 1, &err), &err);
    small_store_flip(
        small_store_blob_at(store, &blobs.blobs[0]),
        BIG + 1); /* in the chunk that was compared: no longer read */
    assert_ok(store_verify_range(opened.verify, 0, BIG, 10, &err), &err);
    assert_ok(store_verify_range(opened.verify, 0, SMALL_HEADER_BYTES,
                                 SMALL_A_BYTES, &err),
              &err);
    assert_false(store_verify_take_undigested(opened.verify));
}

static void test_damage_names_version_and_tensor(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    AUTO_OPENED opened = {0};
    struct base_err err;
    unsigned i;

    small_store_publish(store, "train", 1, &blobs);
    small_store_flip(small_store_blob_at(store, &blobs.blobs[0]),
                     BIG + SMALL_BIG_BYTES - 1); /* in its last chunk */
    opened = open_first(store);
    assert_ok(store_verify_range(opened.verify, 0, BIG, 1, &err), &err);
    for (i = 0; i < 2; i++) {
        assert_int_equal(
            store_verify_range(opened.verify, 0, BIG, SMALL_BIG_BYTES, &err),
            BASE_MISMATCH);
        assert_non_null(strstr(err.text, "train@1: big: "));
    }
    /* What is before it is good, though it is in the same blob. */
    assert_ok(store_verify_range(opened.verify, 0, 0, BIG, &err), &err);
}

static void test_what_has_no_digest_passes_and_is_told_once(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    AUTO_OPENED opened = {0};
    struct base_err err;

    store->is_undigested = true;
    small_store_publish(store, "train", 1, &blobs);
    opened = open_first(store);
    assert_false(store_verify_take_undigested(opened.verify));
    assert_ok(store_verify_range(opened.verify, 0, BIG, 10, &err), &err);
    assert_true(store_verify_take_undigested(opened.verify));
    assert_ok(store_verify_range(opened.verify, 0, BIG, 10, &err), &err);
    assert_false(store_verify_take_undigested(opened.verify));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        small_store_test(test_each_chunk_is_digested_once),
        small_store_test(test_damage_names_version_and_tensor),
        small_store_test(test_what_has_no_digest_passes_and_is_told_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
