/* Compaction: what a version contains stays, whoever reads it. */
#define TMP_DIR_IN_MEMORY /* else hundreds of syncs wait for a disk */
#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/io.h"
#include "store/blob.h"
#include "tests/unit/store/sample.h"
#include "tests/unit/store/upkept.h"

static void test_compaction_keeps_content_and_head(void **state)
{
    UPKEPT world = {0};
    struct base_err err;
    BASE_AUTO(store_version) old = NULL;
    BASE_AUTO(store_version) new = NULL;
    const struct ptc_manifest_head *a;
    const struct ptc_manifest_head *b;

    upkept_make(&world, *state);
    old = upkeep_open_version(world.root, "j", 2);
    assert_ok(store_compact(world.root, "j", 0, &upkeep_two_threads, &err),
              &err);
    new = upkeep_open_version(world.root, "j", 2);
    a = ptc_manifest_head(store_version_manifest(old));
    b = ptc_manifest_head(store_version_manifest(new));
    assert_int_equal(a->version, b->version);
    assert_int_equal(a->parent, b->parent);
    assert_int_equal(a->created_ns, b->created_ns);
    assert_true(base_str_eq(a->layout, b->layout));
    assert_true(base_str_eq(a->origin, b->origin));
    assert_int_equal(ptc_manifest_n_objects(store_version_manifest(old)),
                     ptc_manifest_n_objects(store_version_manifest(new)));
    assert_true(store_version_is_replaced(world.root, old));
    upkeep_must_equal(&world, 1);
    upkeep_must_equal(&world, 2);
    upkeep_assert_clean(world.root);
}

static void on_warning(void *ctx, const char *text)
{
    (void)text;
    (*(unsigned *)ctx)++;
}

static void test_a_replaced_manifest_is_no_failure(void **state)
{
    UPKEPT world = {0};
    unsigned n_warnings = 0;
    struct base_err err;

    upkept_make(&world, *state);
    store_root_on_warning(world.root, on_warning, &n_warnings);
    assert_int_equal(setenv("RETILE_FAULT", "store.replaced=error", 1), 0);
    assert_ok(base_fault_init(&err), &err);
    assert_ok(store_compact(world.root, "j", 2, &upkeep_two_threads, &err),
              &err);
    (void)unsetenv("RETILE_FAULT");
    assert_ok(base_fault_init(&err), &err);
    assert_int_equal(n_warnings, 1);
    assert_true(upkeep_worth_of(&world, 2).is_compact);
    upkeep_must_equal(&world, 2);
    upkeep_assert_clean(world.root);
}

/* What others do in the middle: a version of the job, and a sweep. */
static bool change_meanwhile(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct store_root **other = ctx;
    uint64_t number;
    struct base_err err;

    (void)done_bytes;
    (void)all_bytes;
    if (*other != NULL) {
        assert_ok(store_rollback(*other, "j", 1, NULL, &number, &err), &err);
        assert_int_equal(number, 3);
        assert_int_equal(upkeep_sweep(*other), 0);
        upkeep_assert_clean(*other);
        store_root_free(base_steal(other));
    }
    return true;
}

static void test_compaction_keeps_nobody_out(void **state)
{
    UPKEPT world = {0};
    BASE_AUTO(store_root) other = NULL;
    const struct store_import_options options = {
        .n_threads = 1, .progress = change_meanwhile, .progress_ctx = &other};
    struct base_err err;

    upkept_make(&world, *state);
    assert_ok(store_root_open(store_root_path(world.root), &other, &err), &err);
    assert_ok(store_compact(world.root, "j", 2, &options, &err), &err);
    assert_null(other);
    assert_true(upkeep_worth_of(&world, 2).is_compact);
    for (uint64_t number = 1; number <= 3; number++) {
        upkeep_must_equal(&world, number);
    }
    upkeep_assert_clean(world.root);
}

static void test_compaction_frees_the_old_blobs_after_their_reader(void **state)
{
    UPKEPT world = {0};
    BASE_AUTO(store_source) reader = NULL;
    uint64_t before;
    struct base_err err;

    upkept_make(&world, *state);
    reader = upkeep_open_source(world.root, 2);
    assert_ok(store_root_lock(world.root, 0, &err), &err);
    assert_ok(store_version_release(world.root, "j", 1, &err), &err);
    store_root_unlock(world.root);
    assert_int_equal(upkeep_sweep(world.root), 0); /* @2 names them all */
    before = upkeep_used(world.root);
    assert_ok(store_compact(world.root, "j", 2, &upkeep_two_threads, &err),
              &err);
    assert_int_equal(upkeep_sweep(world.root),
                     0); /* the reader's manifest does */
    assert_true(upkeep_used(world.root) > before);
    upkeep_assert_same(reader, world.dir);
    store_source_free(base_steal(&reader));
    assert_true(upkeep_sweep(world.root) >= 4); /* two groups of two ranks */
    upkeep_must_equal(&world, 2);
    upkeep_assert_clean(world.root);
}

static void test_what_is_compact_is_left_alone(void **state)
{
    UPKEPT world = {0};
    BASE_AUTO(store_version) imported = NULL;
    BASE_AUTO(store_version) compacted = NULL;
    struct base_err err;

    upkept_make(&world, *state);
    assert_true(upkeep_worth_of(&world, 1).is_compact); /* as it was imported */
    assert_false(upkeep_worth_of(&world, 2).is_compact);
    imported = upkeep_open_version(world.root, "j", 1);
    assert_ok(store_compact(world.root, "j", 1, &upkeep_two_threads, &err),
              &err);
    assert_false(store_version_is_replaced(world.root, imported));
    assert_ok(store_compact(world.root, "j", 2, &upkeep_two_threads, &err),
              &err);
    assert_true(upkeep_worth_of(&world, 2).is_compact);
    assert_false(upkeep_worth_of(&world, 2).is_due);
    compacted = upkeep_open_version(world.root, "j", 2);
    assert_ok(store_compact(world.root, "j", 2, &upkeep_two_threads, &err),
              &err);
    assert_false(store_version_is_replaced(world.root, compacted));
}

static void test_worth_counts_what_is_dead_and_freed(void **state)
{
    struct small_store *store = *state;
    BASE_AUTO_MEM char *dir = base_path("%s/b", store->dir->path);
    BASE_AUTO(store_source) source = NULL;
    struct upkept world = {.root = store->root};
    struct store_worth worth;
    uint64_t number = 0;
    struct base_err err;

    /* 1024 x 4096 bytes in one file, of which eight ranks have columns. */
    assert_int_equal(mkdir(dir, 0777), 0);
    sample_put_st(dir, "model.safetensors",
                  "{\"w\":{\"dtype\":\"U8\",\"shape\":[1024,4096],"
                  "\"data_offsets\":[0,4194304]}}",
                  4194304);
    assert_ok(store_source_open_dir(dir, NULL, &source, &err), &err);
    assert_ok(store_import(store->root, "j", source, &upkeep_two_threads, NULL,
                           &number, &err),
              &err);
    (void)upkeep_rescale(store->root,
                         "mesh: {tp: 8}\nrules: [{match: w, dims: [~, tp]}]\n");
    worth = upkeep_worth_of(&world, 2);
    assert_int_equal(worth.run_bytes, 512);
    assert_int_equal(worth.n_bytes, 8 * (4096 + 4194304 / 8));
    assert_int_equal(worth.n_dead_bytes, 4096); /* the header */
    assert_int_equal(worth.n_freed_bytes, 0);   /* @1 has the blob, too */
    assert_true(worth.is_due);
    assert_ok(store_root_lock(store->root, 0, &err), &err);
    assert_ok(store_version_release(store->root, "j", 1, &err), &err);
    store_root_unlock(store->root);
    worth = upkeep_worth_of(&world, 2);
    assert_int_equal(worth.n_freed_bytes, 4096 + 4194304);
    assert_ok(store_compact(store->root, "j", 2, &upkeep_two_threads, &err),
              &err);
    worth = upkeep_worth_of(&world, 2);
    assert_int_equal(worth.run_bytes, 4194304 / 8);
    assert_true(worth.is_compact);
    assert_false(worth.is_due);
    assert_int_equal(upkeep_sweep(store->root), 1);
    assert_int_equal(upkeep_used(store->root), 8 * (4096 + 4194304 / 8));
}

/* The only blob of @n_bytes. */
static struct ptc_manifest_blob
blob_of(struct store_root *root, uint64_t number, uint64_t least_bytes)
{
    BASE_AUTO(store_version) version = upkeep_open_version(root, "j", number);
    const struct ptc_manifest *m = store_version_manifest(version);

    for (uint32_t i = 0; i < ptc_manifest_n_blobs(m); i++) {
        if (ptc_manifest_blob(m, i).n_bytes >= least_bytes) {
            return ptc_manifest_blob(m, i);
        }
    }
    fail_msg("no such blob");
    return (struct ptc_manifest_blob){0};
}

static void test_damage_is_not_compacted(void **state)
{
    UPKEPT world = {0};
    struct ptc_manifest_blob blob;
    uint64_t before;
    struct base_err err;

    upkept_make(&world, *state);
    before = upkeep_used(world.root);
    blob = blob_of(world.root, 2, 4097);
    small_store_flip(small_store_blob_at(world.store, &blob), blob.n_bytes - 1);
    assert_int_equal(
        store_compact(world.root, "j", 2, &upkeep_two_threads, &err),
        BASE_MISMATCH);
    assert_non_null(strstr(err.text, "j@2: "));
    assert_non_null(strstr(err.text, "not those of their digest"));
    assert_int_equal(upkeep_used(world.root), before);
    assert_false(small_store_has(world.store, "jobs/j/versions/2/manifest.1"));
}

/* A bit flips in a write: the old bytes are the only good ones, so the new ones
 * are looked at before they take their place. */
static void test_what_was_written_wrong_replaces_nothing(void **state)
{
    enum { N_WRITES = 30 }; /* more than a compaction makes here */
    const struct store_import_options one_thread = {.n_threads = 1};
    struct small_store *store = *state;
    UPKEPT world = {0};
    unsigned n_refused = 0;

    upkept_make(&world, store);
    for (unsigned n = 1; n <= N_WRITES; n++) {
        uint64_t number = 0;
        char fault[40];
        struct base_err err;
        enum base_code code;

        assert_ok(store_rollback(world.root, "j", 1, NULL, &number, &err),
                  &err);
        number = upkeep_rescale(world.root, SAMPLE_DP4);

        (void)snprintf(fault, sizeof(fault), "io.write=corrupt@%u", n);
        assert_int_equal(setenv("RETILE_FAULT", fault, 1), 0);
        assert_ok(base_fault_init(&err), &err);
        code = store_compact(world.root, "j", number, &one_thread, &err);
        assert_int_equal(unsetenv("RETILE_FAULT"), 0);
        assert_ok(base_fault_init(&err), &err);
        if (code != BASE_OK) { /* else nobody reads it: a header, a pid */
            assert_true(code == BASE_MISMATCH || code == BASE_IO);
            n_refused++;
        }
        upkeep_must_equal(&world, number);
        upkeep_assert_clean(world.root);
    }
    assert_true(n_refused >= 5); /* four files of two groups, the manifest */
}

static void test_compaction_needs_room_in_the_budget(void **state)
{
    struct small_store *store = *state;
    struct small_store tight = *store;
    UPKEPT world = {0};
    struct store_worth worth;
    uint64_t before;
    struct base_err err;

    (void)snprintf(tight.path, sizeof(tight.path), "%s/tight",
                   store->dir->path);
    assert_ok(store_root_init(tight.path, 26000, &err), &err);
    assert_ok(store_root_open(tight.path, &tight.root, &err), &err);
    upkept_make(&world, &tight);
    before = upkeep_used(tight.root);
    worth = upkeep_worth_of(&world, 2);
    assert_true(before + worth.n_bytes > 26000);
    assert_false(worth.is_due);
    assert_int_equal(
        store_compact(tight.root, "j", 2, &upkeep_two_threads, &err),
        BASE_LIMIT);
    assert_int_equal(upkeep_used(tight.root), before);
    upkeep_must_equal(&world, 2);
    store_root_free(tight.root);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        small_store_test(test_compaction_keeps_content_and_head),
        small_store_test(test_a_replaced_manifest_is_no_failure),
        small_store_test(test_compaction_keeps_nobody_out),
        small_store_test(
            test_compaction_frees_the_old_blobs_after_their_reader),
        small_store_test(test_what_is_compact_is_left_alone),
        small_store_test(test_worth_counts_what_is_dead_and_freed),
        small_store_test(test_damage_is_not_compacted),
        small_store_test(test_what_was_written_wrong_replaces_nothing),
        small_store_test(test_compaction_needs_room_in_the_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
