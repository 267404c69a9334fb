/* A commit that is killed or fails anywhere: the store is old or new, and the
 * staged files are as they were until they are a version. */
#include "tests/unit/store/saved.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "store/blob.h"

/* Every call of a kind fails once; a commit has fewer of each. */
enum { MAX_PASSES = 400 };

static void prepare(struct saved *saved)
{
    saved_write_whole(saved);
    saved_write(saved, 10);
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
    saved_write(saved, 20);
}

static char *staged(const struct saved *saved)
{
    return saved_picture(saved_in(saved, 20, "%s", ""));
}

static char *blobs(const struct saved *saved)
{
    return saved_picture(saved_at(saved, "store/blobs"));
}

static void commit_20(struct saved *saved)
{
    struct base_err err = {0};
    uint64_t number = 0;

    if (saved_commit(saved, 20, 1, STORE_REPLICAS_REFUSE, &number, &err) !=
            BASE_OK ||
        number != 2) {
        _exit(3);
    }
}

static void finish_20(struct saved *saved)
{
    struct base_err err = {0};

    if (saved_finish(saved, 20, STORE_REPLICAS_WARN, 2, &err) != BASE_OK) {
        _exit(3);
    }
}

/* What a change does that comes next. */
static void sweep(const struct saved *saved)
{
    struct store_sweep swept;
    struct base_err err = {0};

    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    assert_ok(store_sweep(saved->root, &swept, &err), &err);
    store_root_unlock(saved->root);
}

/* All blobs of the newest version are sealed. */
static void must_be_sealed(const struct saved *saved)
{
    BASE_AUTO(store_version) version = NULL;
    const struct ptc_manifest *manifest;
    struct base_err err = {0};

    assert_ok(store_version_open(saved->root, "j", 0, &version, &err), &err);
    manifest = store_version_manifest(version);
    for (uint32_t i = 0; i < ptc_manifest_n_blobs(manifest); i++) {
        struct ptc_manifest_blob blob = ptc_manifest_blob(manifest, i);
        BASE_AUTO_FD fd = -1;
        struct stat st;

        assert_ok(store_blob_open(saved->root, &blob, &fd, &err), &err);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0400);
    }
}

static void test_a_commit_killed_before_it_publishes_is_none(void **state)
{
    static const char *const points[] = {
        "save.checked", "save.adopted@1", "save.adopted@2", "save.adopted@19",
        "store.sealed", "io.rename@1",    "io.rename@2",    "store.publish"};
    struct saved *saved = *state;
    BASE_AUTO_MEM char *before = NULL;

    prepare(saved);
    before = staged(saved);
    for (size_t i = 0; i < N_ITEMS(points); i++) {
        BASE_AUTO_MEM char *after = NULL;

        saved_must_be_killed(saved, points[i], commit_20);
        assert_int_equal(saved_n_versions(saved), 1);
        saved_must_equal(saved, 1);
        sweep(saved); /* second names are its to remove */
        after = staged(saved);
        assert_string_equal(after, before);
        saved_must_be_sound(saved);
    }
    /* Numbers may be left out: `last` was raised. */
    assert_true(saved_must_commit(saved, 20, 1) >= 2);
    must_be_sealed(saved);
    saved_must_equal(saved, 0);
    saved_must_be_sound(saved);
}

static void commit_changed(struct saved *saved)
{
    struct base_err err = {0};
    uint64_t number = 0;

    _exit((int)saved_commit(saved, 20, 1, STORE_REPLICAS_WARN, &number, &err));
}

/* When all is done but the rename, a file is written to. */
static void
test_a_file_written_at_the_last_moment_is_not_published(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM char *before = NULL;
    BASE_AUTO_MEM char *after = NULL;
    int status = 0;
    pid_t child;

    prepare(saved);
    before = blobs(saved);
    saved_arm("store.publish=stop");
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(60);
        commit_changed(saved);
    }
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    saved_disarm();
    assert_true(WIFSTOPPED(status));
    saved_flip(saved_in(saved, 20, "ranks/000/model.safetensors"), 0);
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), (int)BASE_CHANGED);
    assert_int_equal(saved_n_versions(saved), 1);
    after = blobs(saved);
    assert_string_equal(after, before);
}

static void must_be_new(struct saved *saved, const char *point)
{
    struct base_err err = {0};

    prepare(saved);
    saved_must_be_killed(saved, point, commit_20);
    assert_int_equal(saved_n_versions(saved), 2);
    sweep(saved);
    saved_must_be_sound(saved);
    saved_must_equal(saved, 2);
    assert_int_equal(saved_must_commit(saved, 20, 1), 2); /* it is there */
    /* As if it had been killed a moment before. */
    assert_int_equal(
        chmod(saved_in(saved, 20, "ranks/000/model.safetensors"), 0644), 0);
    assert_ok(saved_finish(saved, 20, STORE_REPLICAS_WARN, 2, &err), &err);
    must_be_sealed(saved);
    saved_must_equal(saved, 2);
    saved_must_be_sound(saved);
}

static void test_a_commit_killed_when_it_published_is_found(void **state)
{
    must_be_new(*state, "store.published");
}

static void test_a_commit_killed_at_its_end_is_found(void **state)
{
    must_be_new(*state, "save.published");
}

static void test_a_killed_finish_is_begun_again(void **state)
{
    static const char *const points[] = {"digest.done",  "store.replace",
                                         "store.linked", "store.replaced",
                                         "save.finish",  "io.read@9"};
    struct saved *saved = *state;
    struct base_err err = {0};
    struct stat st;

    prepare(saved);
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    for (size_t i = 0; i < N_ITEMS(points); i++) {
        saved_must_be_killed(saved, points[i], finish_20);
        saved_must_equal(saved, 2);
        sweep(saved);
        saved_must_be_sound(saved);
        if (i == 3) { /* it was digested: there is nothing more to replace */
            assert_int_equal(stat(saved_in(saved, 20, "ranks"), &st), 0);
        }
    }
    assert_ok(saved_finish(saved, 20, STORE_REPLICAS_WARN, 2, &err), &err);
    assert_int_equal(stat(saved_in(saved, 20, "%s", ""), &st), -1);
    saved_must_equal(saved, 2);
    saved_must_be_sound(saved);
}

static uint64_t newest(const struct saved *saved)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;
    struct base_err err = {0};

    assert_ok(store_root_versions(saved->root, "j", &numbers, &n, &err), &err);
    return numbers[n - 1];
}

static void test_a_commit_that_fails_leaves_all_as_it_was(void **state)
{
    static const char *const kinds[] = {
        "io.open",      "io.read",       "io.sync",
        "io.rename",    "io.write",      "save.checked",
        "save.adopted", "store.publish", "store.sealed"};
    struct saved *saved = *state;

    prepare(saved);
    for (size_t i = 0; i < N_ITEMS(kinds); i++) {
        enum base_code code = BASE_IO;
        uint64_t parent = newest(saved);
        unsigned pass;

        for (pass = 1; code != BASE_OK && pass < MAX_PASSES; pass++) {
            BASE_AUTO_MEM char *before = staged(saved);
            BASE_AUTO_MEM char *blobs_before = blobs(saved);
            BASE_AUTO_MEM char *after = NULL;
            BASE_AUTO_MEM char *blobs_after = NULL;
            struct base_err err = {0};
            uint64_t number = 0;

            saved_arm("%s=error@%u", kinds[i], pass);
            code = saved_commit(saved, 20, parent, STORE_REPLICAS_REFUSE,
                                &number, &err);
            saved_disarm();
            if (code == BASE_OK || saved_n_versions(saved) > i + 1) {
                break; /* or only the last directory was not synced */
            }
            if (code != BASE_IO) {
                fail_msg("%s@%u: code %d: %s", kinds[i], pass, code, err.text);
            }
            after = staged(saved);
            blobs_after = blobs(saved);
            assert_string_equal(after, before);
            assert_string_equal(blobs_after, blobs_before);
            assert_int_equal(saved->n_refusals, 0);
        }
        assert_in_range(pass, 2, MAX_PASSES - 1);
        assert_int_equal(saved_n_versions(saved), i + 2);
        saved_must_equal(saved, 0);
        assert_ok(base_dir_remove(store_staging_fd(saved->staging), "20", NULL),
                  &(struct base_err){0});
        saved_write(saved, 20);
    }
    saved_must_be_sound(saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saved_test(test_a_commit_killed_before_it_publishes_is_none),
        saved_test(test_a_commit_killed_when_it_published_is_found),
        saved_test(test_a_commit_killed_at_its_end_is_found),
        saved_test(test_a_file_written_at_the_last_moment_is_not_published),
        saved_test(test_a_killed_finish_is_begun_again),
        saved_test(test_a_commit_that_fails_leaves_all_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
