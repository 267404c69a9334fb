/* Whatever dies while it digests, compacts or sweeps: the content stays. */
#define TMP_DIR_IN_MEMORY /* else hundreds of syncs wait for a disk */
#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "tests/unit/store/sample.h"
#include "tests/unit/store/upkept.h"

/* In a child that dies at the @nth pass of @point; true when it did. */
static bool dies(const char *path,
                 enum base_fault_point point,
                 unsigned nth,
                 int (*work)(struct store_root *root))
{
    char text[64];
    int status = 0;
    pid_t child;

    (void)snprintf(text, sizeof(text), "%s=crash@%u", base_fault_name(point),
                   nth);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct store_root *root = NULL;

        if (setenv("RETILE_FAULT", text, 1) != 0 ||
            base_fault_init(NULL) != BASE_OK ||
            store_root_open(path, &root, NULL) != BASE_OK) {
            _exit(3);
        }
        _exit(work(root));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return true;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

static int compact_current(struct store_root *root)
{
    const struct store_import_options one = {.n_threads = 1};

    return store_compact(root, "j", 0, &one, NULL) == BASE_OK ? 0 : 2;
}

static int sweep_all(struct store_root *root)
{
    struct store_sweep swept;

    return store_root_lock(root, 0, NULL) == BASE_OK &&
                   store_sweep(root, &swept, NULL) == BASE_OK
               ? 0
               : 2;
}

static int digest_train(struct store_root *root)
{
    const struct store_import_options one = {.n_threads = 1};
    uint64_t n_bytes;

    return store_digest_version(root, "train", 1, &one, &n_bytes, NULL) ==
                   BASE_OK
               ? 0
               : 2;
}

/* The next change finds nothing that the dead one would hinder. */
static void assert_usable(struct store_root *root)
{
    struct base_err err;

    assert_ok(store_root_lock(root, 0, &err), &err); /* clears staging/ */
    store_root_unlock(root);
    upkeep_assert_clean(root);
}

/* Old or new; with the sweep, too. */
static void assert_whole(const struct upkept *world)
{
    upkeep_must_equal(world, 1);
    upkeep_must_equal(world, 0);
    assert_usable(world->root);
    (void)upkeep_sweep(world->root);
    upkeep_must_equal(world, 1);
    upkeep_must_equal(world, 0);
    upkeep_assert_clean(world->root);
}

static void test_compaction_survives_death_at_any_point(void **state)
{
    static const char *const layouts[] = {SAMPLE_TP2, SAMPLE_DP4};
    UPKEPT world = {0};
    unsigned n_deaths = 0;
    unsigned n_layouts = 0;

    upkept_make(&world, *state);
    for (unsigned p = 0; p < BASE_FAULT_N; p++) {
        bool died = true;

        for (unsigned nth = 1; died; nth++) {
            died = dies(world.store->path, (enum base_fault_point)p, nth,
                        compact_current);
            n_deaths += died;
            if (died || nth > 1) { /* else it never passes the point */
                assert_whole(&world);
            }
            if (upkeep_worth_of(&world, 0)
                    .is_compact) { /* one to compact, again */
                (void)upkeep_rescale(world.root, layouts[n_layouts++ % 2]);
            }
        }
    }
    assert_whole(&world);
    assert_true(n_deaths > 30);
}

static void test_a_sweep_of_what_was_replaced_survives_death(void **state)
{
    UPKEPT world = {0};
    unsigned n_deaths = 0;
    struct base_err err;

    upkept_make(&world, *state);
    (void)upkeep_rescale(world.root, SAMPLE_TP2);
    assert_ok(store_compact(world.root, "j", 2, &upkeep_two_threads, &err),
              &err);
    (void)upkeep_rescale(world.root, SAMPLE_TP2);
    assert_ok(store_compact(world.root, "j", 0, &upkeep_two_threads, &err),
              &err);
    while (dies(world.store->path, BASE_FAULT_store_sweep, 1 + n_deaths % 3,
                sweep_all)) {
        n_deaths++;
        upkeep_must_equal(&world, 1);
        upkeep_must_equal(&world, 2);
        upkeep_must_equal(&world, 0);
        assert_usable(world.root);
    }
    assert_true(n_deaths >= 1);
}

static void test_digesting_survives_death_at_any_point(void **state)
{
    struct small_store *store = *state;
    unsigned n_deaths = 0;

    for (unsigned p = 0; p < BASE_FAULT_N; p++) {
        bool died = true;

        for (unsigned nth = 1; died; nth++) {
            struct small_blobs blobs = small_store_blobs(store, 1);
            uint32_t n;
            struct base_err err;

            store->is_undigested = true;
            small_store_publish(store, "train", 1, &blobs);
            died =
                dies(store->path, (enum base_fault_point)p, nth, digest_train);
            n_deaths += died;
            n = upkeep_undigested(store->root, "train", 1);
            assert_true(n == 5 || n == 0);
            assert_true(n == 0 || died);
            assert_usable(store->root);
            assert_int_equal(upkeep_sweep(store->root), 0);
            assert_false(
                small_store_has(store, "jobs/train/versions/1/manifest.1"));
            assert_ok(base_dir_remove(store_root_fd(store->root),
                                      "jobs/train/versions/1", &err),
                      &err);
            assert_int_equal(upkeep_sweep(store->root), SMALL_N_BLOBS);
        }
    }
    assert_true(n_deaths > 15);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        small_store_test(test_compaction_survives_death_at_any_point),
        small_store_test(test_a_sweep_of_what_was_replaced_survives_death),
        small_store_test(test_digesting_survives_death_at_any_point),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
