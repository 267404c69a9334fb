/* Digesting and compaction: what a version contains stays, whoever reads it,
 * whatever dies. */
#define TMP_DIR_IN_MEMORY /* else hundreds of syncs wait for a disk */
#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/io.h"
#include "store/blob.h"
#include "store/compact.h"
#include "store/copy.h"
#include "store/digest.h"
#include "tests/unit/store/sample.h"
#include "tests/unit/store/small_store.h"

static const struct store_import_options two_threads = {.n_threads = 2};

static void flip(const char *path, uint64_t at)
{
    struct base_err err;
    BASE_AUTO_FD fd = -1;
    char byte;

    assert_int_equal(chmod(path, 0600), 0);
    assert_ok(base_io_open(AT_FDCWD, path, O_RDWR, 0, path, &fd, &err), &err);
    assert_ok(base_io_pread(fd, &byte, 1, at, path, &err), &err);
    byte = (char)(byte ^ 8);
    assert_ok(base_io_pwrite(fd, &byte, 1, at, path, &err), &err);
}

/* Findings are counted; the last one is kept. */
struct told {
    uint64_t n;
    char text[512];
};

static void on_finding(void *ctx, const char *text)
{
    struct told *told = ctx;

    (void)snprintf(told->text, sizeof(told->text), "%s", text);
}

static struct told scrub(struct store_root *root)
{
    struct told told = {0};
    struct base_err err;

    assert_ok(
        store_check(root, true, 2, NULL, on_finding, &told, &told.n, &err),
        &err);
    return told;
}

static void assert_clean(struct store_root *root)
{
    struct told told = scrub(root);

    if (told.n != 0) {
        fail_msg("%" PRIu64 " findings: %s", told.n, told.text);
    }
}

static struct store_version *
open_version(struct store_root *root, const char *job, uint64_t number)
{
    struct store_version *version = NULL;
    struct base_err err;

    assert_ok(store_version_open(root, job, number, &version, &err), &err);
    return version;
}

static uint32_t
undigested(struct store_root *root, const char *job, uint64_t number)
{
    BASE_AUTO(store_version) version = open_version(root, job, number);
    uint64_t n_bytes;

    return ptc_manifest_undigested(store_version_manifest(version), &n_bytes);
}

static uint64_t sweep(struct store_root *root)
{
    struct store_sweep swept = {0};
    struct base_err err;

    assert_ok(store_root_lock(root, 0, &err), &err);
    assert_ok(store_sweep(root, &swept, &err), &err);
    store_root_unlock(root);
    return swept.n_blobs;
}

static uint64_t used(const struct store_root *root)
{
    uint64_t used_bytes = 0, budget_bytes = 0;
    struct base_err err;

    assert_ok(store_root_usage(root, &used_bytes, &budget_bytes, &err), &err);
    return used_bytes;
}

/* --- digests ------------------------------------------------------------ */

static void test_what_is_undigested_is_digested(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct told told;
    uint64_t n_bytes = 0;
    struct base_err err;

    store->is_undigested = true;
    small_store_publish(store, "train", 1, &blobs);
    assert_int_equal(undigested(store->root, "train", 1), 5);
    assert_ok(store_digest_version(store->root, "train", 1, &two_threads,
                                   &n_bytes, &err),
              &err);
    assert_int_equal(n_bytes, SMALL_A_BYTES + SMALL_BIG_BYTES +
                                  SMALL_BUCKET_BYTES + SMALL_NOTES_BYTES);
    assert_int_equal(undigested(store->root, "train", 1), 0);
    assert_clean(store->root);
    assert_ok(store_digest_version(store->root, "train", 0, &two_threads,
                                   &n_bytes, &err),
              &err);
    assert_int_equal(n_bytes, 0);
    assert_false(small_store_has(store, "jobs/train/versions/1/manifest.2"));
    flip(small_store_blob_at(store, &blobs.blobs[0]),
         SMALL_HEADER_BYTES + SMALL_A_BYTES + SMALL_BIG_BYTES - 1);
    told = scrub(store->root);
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
    assert_ok(store_digest_version(store->root, "train", 2, &two_threads,
                                   &n_bytes, &err),
              &err);
    /* What is damaged after that gets no digest of its own. */
    flip(small_store_blob_at(store, &blobs.blobs[0]), SMALL_HEADER_BYTES);
    assert_ok(store_digest_version(store->root, "train", 1, &two_threads,
                                   &n_bytes, &err),
              &err);
    first = open_version(store->root, "train", 1);
    second = open_version(store->root, "train", 2);
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
    assert_int_equal(undigested(store->root, "train", 1), 5);
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
    reader = open_version(store->root, "train", 1);
    assert_false(store_version_is_replaced(store->root, reader));
    assert_ok(store_digest_version(store->root, "train", 1, &two_threads,
                                   &n_bytes, &err),
              &err);
    assert_true(store_version_is_replaced(store->root, reader));
    late = open_version(store->root, "train", 1);
    assert_false(store_version_is_replaced(store->root, late));
    assert_int_equal(sweep(store->root), 0);
    assert_true(small_store_has(store, "jobs/train/versions/1/manifest.1"));
    assert_clean(store->root);
    store_version_free(base_steal(&reader));
    assert_int_equal(sweep(store->root), 0);
    assert_false(small_store_has(store, "jobs/train/versions/1/manifest.1"));
    assert_true(small_store_has(store, "jobs/train/versions/1/manifest"));
    assert_clean(store->root);
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
        _exit(undigested(store->root, "train", 1) == 0 ? 0 : 1);
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
    reader = open_version(store->root, "train", 1);
    assert_ok(store_digest_version(store->root, "train", 1, &two_threads,
                                   &n_bytes, &err),
              &err);
    assert_ok(store_root_lock(store->root, 0, &err), &err);
    assert_int_equal(store_version_release(store->root, "train", 1, &err),
                     BASE_EXISTS); /* the old manifest's reader has it */
    store_version_free(base_steal(&reader));
    assert_ok(store_version_release(store->root, "train", 1, &err), &err);
    assert_false(small_store_has(store, "jobs/train/versions/1"));
    store_root_unlock(store->root);
    assert_int_equal(sweep(store->root), SMALL_N_BLOBS);
}

static void test_a_damaged_replaced_manifest_stops_no_sweep(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct told told;

    small_store_publish(store, "train", 1, &blobs);
    small_store_write(store, "jobs/train/versions/1/manifest.7", "nonsense");
    told = scrub(store->root);
    assert_int_equal(told.n, 1);
    assert_non_null(strstr(told.text, "train@1 (manifest.7)"));
    assert_int_equal(sweep(store->root), 0); /* nobody reads it */
    assert_clean(store->root);
}

/* --- compaction --------------------------------------------------------- */

struct world {
    struct small_store *store; /* for its directory and root */
    struct store_root *root;
    char *dir; /* what was imported as j@1 */
};

static void world_done(struct world *world)
{
    free(world->dir);
}
#define WORLD __attribute__((cleanup(world_done))) struct world

static uint64_t rescale(struct store_root *root, const char *yaml)
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
static void world_make(struct world *world, struct small_store *store)
{
    BASE_AUTO(store_source) source = NULL;
    uint64_t number = 0;
    struct base_err err;

    world->store = store;
    world->root = store->root;
    world->dir = sample_write(store->dir->path, "a", SAMPLE_TP2);
    assert_ok(store_source_open_dir(world->dir, NULL, &source, &err), &err);
    assert_ok(store_import(store->root, "j", source, &two_threads, NULL,
                           &number, &err),
              &err);
    assert_int_equal(number, 1);
    assert_int_equal(rescale(store->root, SAMPLE_DP4), 2);
}

static struct store_source *open_source(struct store_root *root,
                                        uint64_t number)
{
    BASE_AUTO(store_version) version = open_version(root, "j", number);
    struct store_source *source = NULL;
    struct base_err err;

    assert_ok(store_source_open_version(root, &version, &source, &err), &err);
    return source;
}

static void assert_same(const struct store_source *a, const char *dir)
{
    const struct store_copy_options options = {0};
    BASE_AUTO(store_source) b = NULL;
    struct base_err err;

    assert_ok(store_source_open_dir(dir, NULL, &b, &err), &err);
    assert_ok(store_compare(a, store_source_pieces(a), b,
                            store_source_pieces(b), NULL, &options, &err),
              &err);
}

static void must_equal(const struct world *world, uint64_t number)
{
    BASE_AUTO(store_source) a = open_source(world->root, number);

    assert_same(a, world->dir);
}

static struct store_worth worth_of(const struct world *world, uint64_t number)
{
    struct store_worth worth;
    struct base_err err;

    assert_ok(store_compact_worth(world->root, "j", number, &worth, &err),
              &err);
    return worth;
}

static void test_compaction_keeps_content_and_head(void **state)
{
    WORLD world = {0};
    struct base_err err;
    BASE_AUTO(store_version) old = NULL;
    BASE_AUTO(store_version) new = NULL;
    const struct ptc_manifest_head *a;
    const struct ptc_manifest_head *b;

    world_make(&world, *state);
    old = open_version(world.root, "j", 2);
    assert_ok(store_compact(world.root, "j", 0, &two_threads, &err), &err);
    new = open_version(world.root, "j", 2);
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
    must_equal(&world, 1);
    must_equal(&world, 2);
    assert_clean(world.root);
}

static void on_warning(void *ctx, const char *text)
{
    (void)text;
    (*(unsigned *)ctx)++;
}

static void test_a_replaced_manifest_is_no_failure(void **state)
{
    WORLD world = {0};
    unsigned n_warnings = 0;
    struct base_err err;

    world_make(&world, *state);
    store_root_on_warning(world.root, on_warning, &n_warnings);
    assert_int_equal(setenv("RETILE_FAULT", "store.replaced=error", 1), 0);
    assert_ok(base_fault_init(&err), &err);
    assert_ok(store_compact(world.root, "j", 2, &two_threads, &err), &err);
    (void)unsetenv("RETILE_FAULT");
    assert_ok(base_fault_init(&err), &err);
    assert_int_equal(n_warnings, 1);
    assert_true(worth_of(&world, 2).is_compact);
    must_equal(&world, 2);
    assert_clean(world.root);
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
        assert_int_equal(sweep(*other), 0);
        assert_clean(*other);
        store_root_free(base_steal(other));
    }
    return true;
}

static void test_compaction_keeps_nobody_out(void **state)
{
    WORLD world = {0};
    BASE_AUTO(store_root) other = NULL;
    const struct store_import_options options = {
        .n_threads = 1, .progress = change_meanwhile, .progress_ctx = &other};
    struct base_err err;

    world_make(&world, *state);
    assert_ok(store_root_open(store_root_path(world.root), &other, &err), &err);
    assert_ok(store_compact(world.root, "j", 2, &options, &err), &err);
    assert_null(other);
    assert_true(worth_of(&world, 2).is_compact);
    for (uint64_t number = 1; number <= 3; number++) {
        must_equal(&world, number);
    }
    assert_clean(world.root);
}

static void test_compaction_frees_the_old_blobs_after_their_reader(void **state)
{
    WORLD world = {0};
    BASE_AUTO(store_source) reader = NULL;
    uint64_t before;
    struct base_err err;

    world_make(&world, *state);
    reader = open_source(world.root, 2);
    assert_ok(store_root_lock(world.root, 0, &err), &err);
    assert_ok(store_version_release(world.root, "j", 1, &err), &err);
    store_root_unlock(world.root);
    assert_int_equal(sweep(world.root), 0); /* @2 names them all */
    before = used(world.root);
    assert_ok(store_compact(world.root, "j", 2, &two_threads, &err), &err);
    assert_int_equal(sweep(world.root), 0); /* the reader's manifest does */
    assert_true(used(world.root) > before);
    assert_same(reader, world.dir);
    store_source_free(base_steal(&reader));
    assert_true(sweep(world.root) >= 4); /* two groups of two ranks */
    must_equal(&world, 2);
    assert_clean(world.root);
}

static void test_what_is_compact_is_left_alone(void **state)
{
    WORLD world = {0};
    BASE_AUTO(store_version) imported = NULL;
    BASE_AUTO(store_version) compacted = NULL;
    struct base_err err;

    world_make(&world, *state);
    assert_true(worth_of(&world, 1).is_compact); /* as it was imported */
    assert_false(worth_of(&world, 2).is_compact);
    imported = open_version(world.root, "j", 1);
    assert_ok(store_compact(world.root, "j", 1, &two_threads, &err), &err);
    assert_false(store_version_is_replaced(world.root, imported));
    assert_ok(store_compact(world.root, "j", 2, &two_threads, &err), &err);
    assert_true(worth_of(&world, 2).is_compact);
    assert_false(worth_of(&world, 2).is_due);
    compacted = open_version(world.root, "j", 2);
    assert_ok(store_compact(world.root, "j", 2, &two_threads, &err), &err);
    assert_false(store_version_is_replaced(world.root, compacted));
}

static void test_worth_counts_what_is_dead_and_freed(void **state)
{
    struct small_store *store = *state;
    BASE_AUTO_MEM char *dir = base_path("%s/b", store->dir->path);
    BASE_AUTO(store_source) source = NULL;
    struct world world = {.root = store->root};
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
    assert_ok(store_import(store->root, "j", source, &two_threads, NULL,
                           &number, &err),
              &err);
    (void)rescale(store->root,
                  "mesh: {tp: 8}\nrules: [{match: w, dims: [~, tp]}]\n");
    worth = worth_of(&world, 2);
    assert_int_equal(worth.run_bytes, 512);
    assert_int_equal(worth.n_bytes, 8 * (4096 + 4194304 / 8));
    assert_int_equal(worth.n_dead_bytes, 4096); /* the header */
    assert_int_equal(worth.n_freed_bytes, 0);   /* @1 has the blob, too */
    assert_true(worth.is_due);
    assert_ok(store_root_lock(store->root, 0, &err), &err);
    assert_ok(store_version_release(store->root, "j", 1, &err), &err);
    store_root_unlock(store->root);
    worth = worth_of(&world, 2);
    assert_int_equal(worth.n_freed_bytes, 4096 + 4194304);
    assert_ok(store_compact(store->root, "j", 2, &two_threads, &err), &err);
    worth = worth_of(&world, 2);
    assert_int_equal(worth.run_bytes, 4194304 / 8);
    assert_true(worth.is_compact);
    assert_false(worth.is_due);
    assert_int_equal(sweep(store->root), 1);
    assert_int_equal(used(store->root), 8 * (4096 + 4194304 / 8));
}

/* The only blob of @n_bytes. */
static struct ptc_manifest_blob
blob_of(struct store_root *root, uint64_t number, uint64_t least_bytes)
{
    BASE_AUTO(store_version) version = open_version(root, "j", number);
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
    WORLD world = {0};
    struct ptc_manifest_blob blob;
    uint64_t before;
    struct base_err err;

    world_make(&world, *state);
    before = used(world.root);
    blob = blob_of(world.root, 2, 4097);
    flip(small_store_blob_at(world.store, &blob), blob.n_bytes - 1);
    assert_int_equal(store_compact(world.root, "j", 2, &two_threads, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "j@2: "));
    assert_non_null(strstr(err.text, "not those of their digest"));
    assert_int_equal(used(world.root), before);
    assert_false(small_store_has(world.store, "jobs/j/versions/2/manifest.1"));
}

/* A bit flips in a write: the old bytes are the only good ones, so the new ones
 * are looked at before they take their place. */
static void test_what_was_written_wrong_replaces_nothing(void **state)
{
    enum { N_WRITES = 30 }; /* more than a compaction makes here */
    const struct store_import_options one_thread = {.n_threads = 1};
    struct small_store *store = *state;
    WORLD world = {0};
    unsigned n_refused = 0;

    world_make(&world, store);
    for (unsigned n = 1; n <= N_WRITES; n++) {
        uint64_t number = 0;
        char fault[40];
        struct base_err err;
        enum base_code code;

        assert_ok(store_rollback(world.root, "j", 1, NULL, &number, &err),
                  &err);
        number = rescale(world.root, SAMPLE_DP4);

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
        must_equal(&world, number);
        assert_clean(world.root);
    }
    assert_true(n_refused >= 5); /* four files of two groups, the manifest */
}

static void test_compaction_needs_room_in_the_budget(void **state)
{
    struct small_store *store = *state;
    struct small_store tight = *store;
    WORLD world = {0};
    struct store_worth worth;
    uint64_t before;
    struct base_err err;

    (void)snprintf(tight.path, sizeof(tight.path), "%s/tight",
                   store->dir->path);
    assert_ok(store_root_init(tight.path, 26000, &err), &err);
    assert_ok(store_root_open(tight.path, &tight.root, &err), &err);
    world_make(&world, &tight);
    before = used(tight.root);
    worth = worth_of(&world, 2);
    assert_true(before + worth.n_bytes > 26000);
    assert_false(worth.is_due);
    assert_int_equal(store_compact(tight.root, "j", 2, &two_threads, &err),
                     BASE_LIMIT);
    assert_int_equal(used(tight.root), before);
    must_equal(&world, 2);
    store_root_free(tight.root);
}

/* --- crashes ------------------------------------------------------------ */

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
    assert_clean(root);
}

/* Old or new; with the sweep, too. */
static void assert_whole(const struct world *world)
{
    must_equal(world, 1);
    must_equal(world, 0);
    assert_usable(world->root);
    (void)sweep(world->root);
    must_equal(world, 1);
    must_equal(world, 0);
    assert_clean(world->root);
}

static void test_compaction_survives_death_at_any_point(void **state)
{
    static const char *const layouts[] = {SAMPLE_TP2, SAMPLE_DP4};
    WORLD world = {0};
    unsigned n_deaths = 0;
    unsigned n_layouts = 0;

    world_make(&world, *state);
    for (unsigned p = 0; p < BASE_FAULT_N; p++) {
        bool died = true;

        for (unsigned nth = 1; died; nth++) {
            died = dies(world.store->path, (enum base_fault_point)p, nth,
                        compact_current);
            n_deaths += died;
            assert_whole(&world);
            if (worth_of(&world, 0).is_compact) { /* one to compact, again */
                (void)rescale(world.root, layouts[n_layouts++ % 2]);
            }
        }
    }
    assert_true(n_deaths > 30);
}

static void test_a_sweep_of_what_was_replaced_survives_death(void **state)
{
    WORLD world = {0};
    unsigned n_deaths = 0;
    struct base_err err;

    world_make(&world, *state);
    (void)rescale(world.root, SAMPLE_TP2);
    assert_ok(store_compact(world.root, "j", 2, &two_threads, &err), &err);
    (void)rescale(world.root, SAMPLE_TP2);
    assert_ok(store_compact(world.root, "j", 0, &two_threads, &err), &err);
    while (dies(world.store->path, BASE_FAULT_store_sweep, 1 + n_deaths % 3,
                sweep_all)) {
        n_deaths++;
        must_equal(&world, 1);
        must_equal(&world, 2);
        must_equal(&world, 0);
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
            n = undigested(store->root, "train", 1);
            assert_true(n == 5 || n == 0);
            assert_true(n == 0 || died);
            assert_usable(store->root);
            assert_int_equal(sweep(store->root), 0);
            assert_false(
                small_store_has(store, "jobs/train/versions/1/manifest.1"));
            assert_ok(base_dir_remove(store_root_fd(store->root),
                                      "jobs/train/versions/1", &err),
                      &err);
            assert_int_equal(sweep(store->root), SMALL_N_BLOBS);
        }
    }
    assert_true(n_deaths > 15);
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
        small_store_test(test_compaction_keeps_content_and_head),
        small_store_test(test_compaction_keeps_nobody_out),
        small_store_test(test_a_replaced_manifest_is_no_failure),
        small_store_test(
            test_compaction_frees_the_old_blobs_after_their_reader),
        small_store_test(test_what_is_compact_is_left_alone),
        small_store_test(test_worth_counts_what_is_dead_and_freed),
        small_store_test(test_damage_is_not_compacted),
        small_store_test(test_what_was_written_wrong_replaces_nothing),
        small_store_test(test_compaction_needs_room_in_the_budget),
        small_store_test(test_compaction_survives_death_at_any_point),
        small_store_test(test_a_sweep_of_what_was_replaced_survives_death),
        small_store_test(test_digesting_survives_death_at_any_point),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
