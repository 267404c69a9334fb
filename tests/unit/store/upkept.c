#include "tests/unit/store/upkept.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "store/copy.h"
#include "tests/unit/store/sample.h"
#include "tests/unit/unit.h"

const struct store_import_options upkeep_two_threads = {.n_threads = 2};

static void on_finding(void *ctx, const char *text)
{
    struct upkeep_told *told = ctx;

    (void)snprintf(told->text, sizeof(told->text), "%s", text);
}

struct upkeep_told upkeep_scrub(struct store_root *root)
{
    struct upkeep_told told = {0};
    struct base_err err;

    assert_ok(
        store_check(root, true, 2, NULL, on_finding, &told, &told.n, &err),
        &err);
    return told;
}

void upkeep_assert_clean(struct store_root *root)
{
    struct upkeep_told told = upkeep_scrub(root);

    if (told.n != 0) {
        fail_msg("%" PRIu64 " findings: %s", told.n, told.text);
    }
}

struct store_version *
upkeep_open_version(struct store_root *root, const char *job, uint64_t number)
{
    struct store_version *version = NULL;
    struct base_err err;

    assert_ok(store_version_open(root, job, number, &version, &err), &err);
    return version;
}

uint32_t
upkeep_undigested(struct store_root *root, const char *job, uint64_t number)
{
    BASE_AUTO(store_version) version = upkeep_open_version(root, job, number);
    uint64_t n_bytes;

    return ptc_manifest_undigested(store_version_manifest(version), &n_bytes);
}

uint64_t upkeep_sweep(struct store_root *root)
{
    struct store_sweep swept = {0};
    struct base_err err;

    assert_ok(store_root_lock(root, 0, &err), &err);
    assert_ok(store_sweep(root, &swept, &err), &err);
    store_root_unlock(root);
    return swept.n_blobs;
}

uint64_t upkeep_used(const struct store_root *root)
{
    uint64_t used_bytes = 0, budget_bytes = 0;
    struct base_err err;

    assert_ok(store_root_usage(root, &used_bytes, &budget_bytes, &err), &err);
    return used_bytes;
}

uint64_t upkeep_rescale(struct store_root *root, const char *yaml)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    uint64_t number = 0;
    struct base_err err;

    assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, &err), &err);
    assert_ok(
        store_rescale(root, "j", 0, &spec, NULL, NULL, NULL, &number, &err),
        &err);
    return number;
}

/* j@1 as imported, j@2 the same over its blobs as four ranks. */
void upkept_make(struct upkept *world, struct small_store *store)
{
    BASE_AUTO(store_source) source = NULL;
    uint64_t number = 0;
    struct base_err err;

    world->store = store;
    world->root = store->root;
    world->dir = sample_write(store->dir->path, "a", SAMPLE_TP2);
    assert_ok(store_source_open_dir(world->dir, NULL, &source, &err), &err);
    assert_ok(store_import(store->root, "j", source, &upkeep_two_threads, NULL,
                           &number, &err),
              &err);
    assert_int_equal(number, 1);
    assert_int_equal(upkeep_rescale(store->root, SAMPLE_DP4), 2);
}

struct store_source *upkeep_open_source(struct store_root *root,
                                        uint64_t number)
{
    BASE_AUTO(store_version) version = upkeep_open_version(root, "j", number);
    struct store_source *source = NULL;
    struct base_err err;

    assert_ok(store_source_open_version(root, &version, &source, &err), &err);
    return source;
}

void upkeep_assert_same(const struct store_source *a, const char *dir)
{
    const struct store_copy_options options = {0};
    BASE_AUTO(store_source) b = NULL;
    struct base_err err;

    assert_ok(store_source_open_dir(dir, NULL, &b, &err), &err);
    assert_ok(store_compare(a, store_source_pieces(a), b,
                            store_source_pieces(b), NULL, &options, &err),
              &err);
}

void upkeep_must_equal(const struct upkept *world, uint64_t number)
{
    BASE_AUTO(store_source) a = upkeep_open_source(world->root, number);

    upkeep_assert_same(a, world->dir);
}

struct store_worth upkeep_worth_of(const struct upkept *world, uint64_t number)
{
    struct store_worth worth;
    struct base_err err;

    assert_ok(store_compact_worth(world->root, "j", number, &worth, &err),
              &err);
    return worth;
}

void upkept_done(struct upkept *world)
{
    free(world->dir);
}
