/* Changes that a coordinator decides: cast, found again, published, removed. */
#include "tests/unit/store/saved.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/blob.h"
#include "store/change.h"
#include "store/root_priv.h"
#include "store/vote_priv.h"
#include "tests/unit/store/sample.h"

static struct store_vote *votes(const struct saved *saved, size_t *ret_n)
{
    struct store_vote *all = NULL;
    struct base_err err = {0};

    assert_ok(store_vote_list(saved->root, &all, ret_n, &err), &err);
    return all;
}

static size_t n_votes(const struct saved *saved)
{
    size_t n = 0;

    free(votes(saved, &n));
    return n;
}

static void publish(struct saved *saved, uint64_t number)
{
    struct base_err err = {0};

    assert_ok(store_vote_publish(saved->root, "j", number, &err), &err);
}

static void discard(struct saved *saved, uint64_t number)
{
    struct base_err err = {0};

    assert_ok(store_vote_remove(saved->root, "j", number, &err), &err);
}

static void sweep(const struct saved *saved)
{
    struct store_sweep swept;
    struct base_err err = {0};

    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    assert_ok(store_sweep(saved->root, &swept, &err), &err);
    store_root_unlock(saved->root);
}

static uint64_t used(const struct saved *saved)
{
    uint64_t n_used = 0, budget = 0;
    struct base_err err = {0};

    assert_ok(store_root_usage(saved->root, &n_used, &budget, &err), &err);
    return n_used;
}

/* Step 10, as attempt @number of generation 3. */
static void vote_10(struct saved *saved, uint64_t number)
{
    saved->attempt = (struct store_attempt){number, 3};
    assert_int_equal(saved_must_commit(saved, 10, 0), number);
}

/* Step 10 is written, and "whole" is what its version must be. */
static void prepare(struct saved *saved)
{
    saved_write_whole(saved);
    saved_write(saved, 10);
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static void test_a_vote_is_not_seen_until_it_is_published(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM struct store_vote *all = NULL;
    BASE_AUTO(store_version) version = NULL;
    struct base_err err = {0};
    size_t n = 0;

    prepare(saved);
    vote_10(saved, 5);
    assert_int_equal(saved_n_versions(saved), 0);
    assert_int_equal(store_version_open(saved->root, "j", 0, &version, &err),
                     BASE_NOT_FOUND);
    all = votes(saved, &n);
    assert_int_equal(n, 1);
    assert_string_equal(all[0].job, "j");
    assert_string_equal(all[0].origin, "save");
    assert_true(all[0].number == 5 && all[0].generation == 3);
    assert_true(all[0].step == 10 && all[0].parent == 0);
    assert_false(all[0].is_damaged);
    saved_must_be_sound(saved);
    publish(saved, 5);
    assert_int_equal(n_votes(saved), 0);
    saved_must_equal(saved, 5);
    saved_must_be_sound(saved);
    assert_ok(store_version_open(saved->root, "j", 0, &version, &err), &err);
    assert_true(base_digest_eq(
        ptc_manifest_digest(store_version_manifest(version)), all[0].manifest));
    assert_true(ptc_manifest_head(store_version_manifest(version))->step == 10);
}

static void test_adopted_files_are_sealed_when_it_is_published(void **state)
{
    struct saved *saved = *state;
    const char *path = saved_in(saved, 10, "ranks/000/model.safetensors");

    prepare(saved);
    assert_true((mode_of(path) & 0200) != 0);
    vote_10(saved, 1);
    assert_true((mode_of(path) & 0200) != 0);
    publish(saved, 1);
    assert_int_equal(mode_of(path), 0400);
}

static void test_a_vote_outlives_changes_sweeps_and_its_mount(void **state)
{
    struct saved *saved = *state;
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 5);
    saved_write(saved, 20);
    saved->attempt = (struct store_attempt){0};
    assert_int_equal(saved_must_commit(saved, 20, 0), 6);
    sweep(saved);
    assert_ok(store_staging_remove(&saved->staging, &err), &err);
    sweep(saved);
    assert_int_equal(n_votes(saved), 1);
    saved_must_be_sound(saved);
    publish(saved, 5);
    saved_must_equal(saved, 5);
    saved_must_equal(saved, 6);
    saved_must_be_sound(saved);
}

static void test_publish_and_remove_may_be_repeated(void **state)
{
    struct saved *saved = *state;
    struct base_err err = {0};

    prepare(saved);
    assert_int_equal(store_vote_publish(saved->root, "j", 5, &err),
                     BASE_NOT_FOUND);
    discard(saved, 5); /* there is none */
    vote_10(saved, 5);
    discard(saved, 5);
    discard(saved, 5);
    assert_int_equal(n_votes(saved), 0);
    assert_int_equal(store_vote_publish(saved->root, "j", 5, &err),
                     BASE_NOT_FOUND);
    vote_10(saved, 6);
    publish(saved, 6);
    publish(saved, 6);
    assert_int_equal(saved_n_versions(saved), 1);
    assert_int_equal(store_vote_remove(saved->root, "j", 6, &err),
                     BASE_BAD_ARG);
    assert_int_equal(saved_n_versions(saved), 1);
    assert_int_equal(store_vote_publish(saved->root, "j", 0, &err),
                     BASE_BAD_ARG);
    assert_int_equal(store_vote_publish(saved->root, "a/b", 1, &err),
                     BASE_BAD_ARG);
}

static enum base_code
vote_again(struct saved *saved, uint64_t step, struct base_err *err)
{
    uint64_t number = 0;

    return saved_commit(saved, step, 0, STORE_REPLICAS_WARN, &number, err);
}

static void test_who_asks_again_finds_the_vote_or_the_version(void **state)
{
    struct saved *saved = *state;
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 5);
    vote_10(saved, 5);
    assert_int_equal(n_votes(saved), 1);
    saved_write(saved, 20);
    assert_int_equal(vote_again(saved, 20, &err), BASE_CHANGED);
    saved->attempt.generation = 4;
    assert_int_equal(vote_again(saved, 10, &err), BASE_CHANGED);
    publish(saved, 5);
    vote_10(saved, 5);
    assert_int_equal(n_votes(saved), 0);
    assert_int_equal(vote_again(saved, 20, &err), BASE_CHANGED);
    assert_int_equal(saved_n_versions(saved), 1);
}

static void test_a_number_is_given_once(void **state)
{
    struct saved *saved = *state;
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 5);
    discard(saved, 5);
    for (uint64_t i = 1; i <= 5; i++) {
        saved->attempt.number = i;
        assert_int_equal(vote_again(saved, 10, &err), BASE_CHANGED);
        assert_non_null(strstr(err.text, "comes too late"));
    }
    saved->attempt.number = (uint64_t)1 << 63;
    assert_int_equal(vote_again(saved, 10, &err), BASE_BAD_ARG);
    saved->attempt.number = 0;
    assert_int_equal(saved_must_commit(saved, 10, 0), 6);
    saved_write(saved, 20);
    saved->attempt.number = 6; /* it was not made by this attempt */
    assert_int_equal(vote_again(saved, 20, &err), BASE_CHANGED);
    saved->attempt.number = 7;
    assert_int_equal(saved_must_commit(saved, 20, 6), 7);
}

static void test_an_aborted_save_can_be_mended(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM char *before = NULL;
    BASE_AUTO_MEM char *after = NULL;
    uint64_t n_used;

    prepare(saved);
    before = saved_picture(saved_in(saved, 10, "%s", ""));
    n_used = used(saved);
    vote_10(saved, 5);
    discard(saved, 5);
    sweep(saved); /* second names are its to remove */
    after = saved_picture(saved_in(saved, 10, "%s", ""));
    assert_string_equal(after, before);
    assert_int_equal(used(saved), n_used);
    saved_flip(saved_in(saved, 10, "ranks/000/model.safetensors"), 0);
    saved_flip(saved_in(saved, 10, "ranks/000/model.safetensors"), 0);
    vote_10(saved, 6);
    publish(saved, 6);
    saved_must_equal(saved, 6);
    saved_must_be_sound(saved);
}

static void test_a_file_written_after_the_vote_is_not_published(void **state)
{
    struct saved *saved = *state;
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 5);
    saved_flip(saved_in(saved, 10, "ranks/000/model.safetensors"), 0);
    assert_int_equal(store_vote_publish(saved->root, "j", 5, &err),
                     BASE_CHANGED);
    assert_non_null(strstr(err.text, "was written to after the vote"));
    assert_int_equal(saved_n_versions(saved), 0);
    assert_int_equal(n_votes(saved), 1);
    discard(saved, 5);
    assert_int_equal(n_votes(saved), 0);
}

static void test_a_vote_counts_once_in_the_budget(void **state)
{
    struct saved *saved = *state;
    uint64_t before;

    prepare(saved);
    before = used(saved);
    vote_10(saved, 5);
    /* Manifest and vote; the saved files have two names now. */
    assert_in_range(used(saved), before + 1, before + 65536);
    publish(saved, 5);
    assert_int_equal(used(saved), before);
}

/* --- the other makers ---------------------------------------------------- */

/* From j@1, the save of step 10. */
static uint64_t rescale(struct saved *saved,
                        const struct store_attempt *attempt)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct base_err err = {0};
    uint64_t number = 0;

    assert_ok(ptc_spec_parse(BASE_STR("mesh: {}\n"
                                      "rules: [{match: t, tie: e}, "
                                      "{match: '*'}]\n"
                                      "objects: {'*': {on_change: drop}}\n"),
                             "spec", &spec, &err),
              &err);
    assert_ok(store_rescale(saved->root, "j", 1, &spec, NULL, NULL, attempt,
                            &number, &err),
              &err);
    return number;
}

static void test_rescale_and_rollback_vote(void **state)
{
    struct saved *saved = *state;
    const struct store_attempt four = {4, 2};
    const struct store_attempt eight = {8, 2};
    BASE_AUTO_MEM struct store_vote *all = NULL;
    struct base_err err = {0};
    uint64_t number = 0;
    size_t n = 0;

    prepare(saved);
    vote_10(saved, 1);
    publish(saved, 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(rescale(saved, &four), 4);
        assert_ok(store_rollback(saved->root, "j", 1, &eight, &number, &err),
                  &err);
        assert_int_equal(number, 8);
    }
    assert_int_equal(saved_n_versions(saved), 1);
    all = votes(saved, &n);
    assert_int_equal(n, 2);
    assert_string_equal(all[0].origin, "rescale");
    assert_string_equal(all[1].origin, "rollback");
    assert_true(all[0].number == 4 && all[0].parent == 1);
    assert_true(all[1].number == 8 && all[1].step == 10);
    assert_int_equal(store_rollback(saved->root, "j", 1, &four, &number, &err),
                     BASE_CHANGED); /* that was a rescale */
    sweep(saved);
    publish(saved, 8);
    publish(saved, 4); /* below it: the current one stays */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(rescale(saved, &four), 4);
    }
    assert_int_equal(saved_n_versions(saved), 3);
    saved_must_equal(saved, 4);
    saved_must_equal(saved, 0);
    saved_must_be_sound(saved);
}

/* A process that makes @attempt, a rollback to version 5, once it is told to by
 * a byte; its pid.  It exits with 0 (made), 1 (refused) or 2. */
static pid_t fork_rollback(const struct saved *saved,
                           int go_fd,
                           struct store_attempt attempt)
{
    pid_t pid = fork();
    struct store_root *root = NULL;
    enum base_code code;
    uint64_t number = 0;
    char byte;

    assert_true(pid >= 0);
    if (pid > 0) {
        return pid;
    }
    (void)alarm(60);
    if (store_root_open(store_root_path(saved->root), &root, NULL) != BASE_OK ||
        read(go_fd, &byte, 1) != 1) {
        _exit(2);
    }
    code = store_rollback(root, "j", 5, &attempt, &number, NULL);
    _exit(code == BASE_OK && number == attempt.number ? 0
          : code == BASE_CHANGED                      ? 1
                                                      : 2);
}

static void test_two_processes_cast_one_vote(void **state)
{
    enum { N_ROUNDS = 20 };
    struct saved *saved = *state;
    struct base_err err = {0};
    uint64_t number = 0;

    prepare(saved);
    vote_10(saved, 5);
    publish(saved, 5);
    for (int i = 0; i < N_ROUNDS; i++) {
        struct store_attempt attempt = {7 + (uint64_t)i, 0};
        pid_t pids[2];
        int go[2];
        int n_made = 0;

        assert_int_equal(pipe(go), 0);
        for (int k = 0; k < 2; k++) {
            pids[k] = fork_rollback(saved, go[0], attempt);
        }
        assert_int_equal(write(go[1], "gg", 2), 2);
        for (int k = 0; k < 2; k++) {
            int status = 0;

            assert_int_equal(waitpid(pids[k], &status, 0), pids[k]);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
            n_made += WEXITSTATUS(status) == 0;
        }
        (void)close(go[0]);
        (void)close(go[1]);
        assert_true(n_made >= 1);
        assert_int_equal(n_votes(saved), 1);
        assert_ok(store_rollback(saved->root, "j", 5, &attempt, &number, &err),
                  &err);
        assert_int_equal(number, attempt.number);
        saved_must_be_sound(saved);
        publish(saved, attempt.number);
        assert_int_equal(n_votes(saved), 0);
        saved_must_equal(saved, attempt.number);
    }
}

static void test_import_votes(void **state)
{
    struct saved *saved = *state;
    const struct store_import_options options = {.n_threads = 1};
    const struct store_attempt attempt = {7, 0};
    BASE_AUTO_MEM char *dir = sample_write(saved->dir->path, "a", SAMPLE_TP2);
    BASE_AUTO(store_source) source = NULL;
    struct base_err err = {0};
    uint64_t number = 0;

    assert_ok(store_source_open_dir(dir, NULL, &source, &err), &err);
    for (unsigned i = 0; i < 3; i++) {
        assert_ok(store_import(saved->root, "x.9", source, &options, &attempt,
                               &number, &err),
                  &err);
        assert_int_equal(number, 7);
        assert_int_equal(n_votes(saved), i < 2);
        sweep(saved);
        saved_must_be_sound(saved);
        if (i == 1) {
            assert_ok(store_vote_publish(saved->root, "x.9", 7, &err), &err);
        }
    }
}

/* A version that a vote needs is released, its blobs are not. */
static void test_a_vote_keeps_what_its_parent_had(void **state)
{
    struct saved *saved = *state;
    const struct store_attempt four = {4, 2};
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 1);
    publish(saved, 1);
    saved_write(saved, 20);
    saved->attempt.number = 2;
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    publish(saved, 2);
    assert_int_equal(rescale(saved, &four), 4);
    assert_ok(store_staging_remove(&saved->staging, &err), &err);
    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    assert_ok(store_version_release(saved->root, "j", 1, &err), &err);
    store_root_unlock(saved->root);
    sweep(saved);
    saved_must_be_sound(saved);
    publish(saved, 4);
    saved_must_equal(saved, 4);
}

/* --- what is wrong ------------------------------------------------------ */

static void test_what_has_no_vote_is_removed(void **state)
{
    struct saved *saved = *state;
    const char *top = saved_at(saved, "store/staging/vote.j.5");
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 5);
    saved_unlink(saved_at(saved, "store/staging/vote.j.5/vote"));
    assert_int_equal(n_votes(saved), 0);
    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    store_root_unlock(saved->root);
    assert_int_equal(access(top, F_OK), -1);
}

static uint64_t n_found;

static void on_finding(void *ctx, const char *text)
{
    n_found += strstr(text, ctx) != NULL;
}

static void must_find(const struct saved *saved, const char *words)
{
    BASE_AUTO_MEM char *copy = strdup(words);
    struct base_err err = {0};
    uint64_t n = 0;

    n_found = 0;
    assert_ok(
        store_check(saved->root, false, 1, NULL, on_finding, copy, &n, &err),
        &err);
    assert_true(n_found >= 1);
}

static void test_a_damaged_vote_can_only_be_removed(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM struct store_vote *all = NULL;
    struct base_err err = {0};
    size_t n = 0;

    prepare(saved);
    vote_10(saved, 5);
    saved_put(saved_at(saved, "store/staging/vote.j.5/vote"),
              "retile vote 2\n");
    must_find(saved, "attempt 5: its vote is malformed");
    all = votes(saved, &n);
    assert_int_equal(n, 1);
    assert_true(all[0].is_damaged && all[0].number == 5);
    assert_int_equal(store_vote_publish(saved->root, "j", 5, &err),
                     BASE_BAD_INPUT);
    discard(saved, 5);
    assert_int_equal(n_votes(saved), 0);
    saved_must_be_sound(saved);
}

static void test_a_damaged_manifest_is_not_published(void **state)
{
    struct saved *saved = *state;
    struct store_sweep swept;
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 5);
    assert_int_equal(
        chmod(saved_at(saved, "store/staging/vote.j.5/version/manifest"), 0600),
        0);
    saved_flip(saved_at(saved, "store/staging/vote.j.5/version/manifest"), 300);
    must_find(saved, "j@5 (a vote)");
    assert_int_equal(store_vote_publish(saved->root, "j", 5, &err),
                     BASE_BAD_INPUT);
    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    assert_int_equal(store_sweep(saved->root, &swept, &err), BASE_BAD_INPUT);
    store_root_unlock(saved->root);
    discard(saved, 5);
    sweep(saved);
    saved_must_be_sound(saved);
}

static void test_a_lost_blob_of_a_vote_is_found(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO_MEM char *path = NULL;
    struct ptc_manifest_blob blob;
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 5);
    assert_ok(store_vote_open(saved->root, "j", 5, &version, &err), &err);
    blob = ptc_manifest_blob(store_version_manifest(version), 0);
    path = store_blob_path(&blob.name);
    assert_int_equal(unlinkat(store_root_fd(saved->root), path, 0), 0);
    must_find(saved, "(j@5 (a vote) needs it)");
    /* Who looks at it holds it. */
    assert_int_equal(store_vote_remove(saved->root, "j", 5, &err), BASE_EXISTS);
    assert_int_equal(n_votes(saved), 1);
    /* Not what a vote that was decided says. */
    assert_int_equal(store_vote_publish(saved->root, "j", 5, &err),
                     BASE_CHANGED);
}

static void test_a_vote_without_its_manifest_is_damaged(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_version) version = NULL;
    struct base_err err = {0};

    prepare(saved);
    vote_10(saved, 5);
    assert_int_equal(
        unlink(saved_at(saved, "store/staging/vote.j.5/version/manifest")), 0);
    assert_int_equal(store_vote_open(saved->root, "j", 5, &version, &err),
                     BASE_BAD_INPUT);
    assert_int_equal(store_vote_publish(saved->root, "j", 5, &err),
                     BASE_BAD_INPUT);
    assert_int_equal(n_votes(saved), 1);
    discard(saved, 5);
    assert_int_equal(store_vote_open(saved->root, "j", 5, &version, &err),
                     BASE_NOT_FOUND);
}

static void test_a_job_with_a_long_name_has_no_votes(void **state)
{
    struct saved *saved = *state;
    const struct store_attempt attempt = {1, 0};
    BASE_AUTO(store_change) change = NULL;
    char job[STORE_VOTE_JOB_MAX + 2];
    struct base_err err = {0};

    memset(job, 'x', sizeof(job));
    job[sizeof(job) - 1] = '\0';
    assert_int_equal(
        store_change_begin(saved->root, job, 0, &attempt, &change, &err),
        BASE_BAD_ARG);
    job[STORE_VOTE_JOB_MAX] = '\0';
    assert_ok(store_change_begin(saved->root, job, 0, &attempt, &change, &err),
              &err);
}

/* --- the file ----------------------------------------------------------- */

static void read_golden(struct base_buf *ret)
{
    const char *root = getenv("RETILE_SOURCE");
    BASE_AUTO_MEM char *path =
        base_path("%s/tests/golden/vote.txt", root != NULL ? root : ".");
    struct base_err err = {0};

    base_buf_init(ret, 4096);
    assert_ok(base_file_read(AT_FDCWD, path, ret, &err), &err);
}

static void test_the_file_has_one_form(void **state)
{
    STORE_AUTO_VOTE_FILE file = {0};
    BASE_AUTO_BUF golden;
    BASE_AUTO_BUF text;
    struct base_err err = {0};

    (void)state;
    read_golden(&golden);
    base_buf_init(&text, 4096);
    assert_ok(store_vote_parse(base_buf_str(&golden), "golden", &file, &err),
              &err);
    assert_string_equal(file.vote.job, "a job");
    assert_string_equal(file.vote.origin, "save");
    assert_true(file.vote.number == 7 && file.vote.generation == 3);
    assert_true(file.vote.step == 100 && file.vote.parent == 5);
    assert_int_equal(file.vote.manifest.bytes[15], 15);
    assert_int_equal(file.adopted.n, 2);
    assert_int_equal(file.adopted.items[0].blob.bytes[0], 0x3f);
    assert_true(file.adopted.items[0].ino == 1234);
    assert_true(file.adopted.items[0].n_bytes == 4096);
    assert_true(file.adopted.items[0].mtime_s == 1795824000);
    assert_int_equal(file.adopted.items[0].mtime_ns, 123456789);
    assert_ok(store_vote_format(&file, &text, &err), &err);
    assert_string_equal(text.ptr, golden.ptr);
}

/* Each line replaced by something else. */
static void test_a_malformed_file_is_refused_with_its_line(void **state)
{
    static const char *const lines[][5] = {
        {"retile vote 2", "retile vote 1 ", ""},
        {"job", "job ", "job .x", "job a/b", "Job j"},
        {"number 0", "number 07", "number -1", "number 9223372036854775808"},
        {"generation", "generation 1.0", "generation 18446744073709551616"},
        {"origin ", "origin Save", "origin a b",
         "origin aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
        {"step", "step --", "step 18446744073709551615", "step 00"},
        {"parent 7", "parent 8", "parent"},
        {"manifest 00", "manifest 000102030405060708090A0B0C0D0E0F"},
        {"adopted 3", "adopted 1", "adopted 18446744073709551615", "adopted"},
        {"3fbafb6f238d87bcb977316f9193c4b0 1 1 1 1000000000",
         "3fbafb6f238d87bcb977316f9193c4b0 1 1 1",
         "3fbafb6f238d87bcb977316f9193c4b0 1 1 1 1 1", "x 1 1 1 1"},
    };
    BASE_AUTO_BUF golden;

    (void)state;
    read_golden(&golden);
    for (size_t i = 0; i < N_ITEMS(lines); i++) {
        const char *begin = golden.ptr;
        const char *end;

        for (size_t k = 0; k < i; k++) {
            begin = strchr(begin, '\n') + 1;
        }
        end = strchr(begin, '\n');
        for (size_t k = 0; k < N_ITEMS(lines[i]) && lines[i][k] != NULL; k++) {
            STORE_AUTO_VOTE_FILE file = {0};
            BASE_AUTO_MEM char *text =
                base_path("%.*s%s%s", (int)(begin - golden.ptr), golden.ptr,
                          lines[i][k], end);
            struct base_err err = {0};

            if (store_vote_parse(base_str_of(text), "f", &file, &err) !=
                    BASE_BAD_INPUT ||
                strncmp(err.text, "f: line ", 8) != 0) {
                fail_msg("\"%s\": %s", lines[i][k], err.text);
            }
        }
    }
}

/* Nothing but the whole is one. */
static void test_a_cut_file_is_refused(void **state)
{
    BASE_AUTO_BUF golden;

    (void)state;
    read_golden(&golden);
    for (size_t n = 0; n < golden.len; n++) {
        STORE_AUTO_VOTE_FILE file = {0};
        struct base_err err = {0};

        assert_int_equal(store_vote_parse((struct base_str){golden.ptr, n}, "f",
                                          &file, &err),
                         BASE_BAD_INPUT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saved_test(test_a_vote_is_not_seen_until_it_is_published),
        saved_test(test_adopted_files_are_sealed_when_it_is_published),
        saved_test(test_a_vote_outlives_changes_sweeps_and_its_mount),
        saved_test(test_publish_and_remove_may_be_repeated),
        saved_test(test_who_asks_again_finds_the_vote_or_the_version),
        saved_test(test_a_number_is_given_once),
        saved_test(test_an_aborted_save_can_be_mended),
        saved_test(test_a_file_written_after_the_vote_is_not_published),
        saved_test(test_a_vote_counts_once_in_the_budget),
        saved_test(test_rescale_and_rollback_vote),
        saved_test(test_two_processes_cast_one_vote),
        saved_test(test_import_votes),
        saved_test(test_a_vote_keeps_what_its_parent_had),
        saved_test(test_what_has_no_vote_is_removed),
        saved_test(test_a_damaged_vote_can_only_be_removed),
        saved_test(test_a_damaged_manifest_is_not_published),
        saved_test(test_a_lost_blob_of_a_vote_is_found),
        saved_test(test_a_vote_without_its_manifest_is_damaged),
        saved_test(test_a_job_with_a_long_name_has_no_votes),
        cmocka_unit_test(test_the_file_has_one_form),
        cmocka_unit_test(test_a_malformed_file_is_refused_with_its_line),
        cmocka_unit_test(test_a_cut_file_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
