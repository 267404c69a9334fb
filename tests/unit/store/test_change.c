#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/io.h"
#include "store/change.h"
#include "store/copy.h"
#include "store/target.h"
#include "tests/unit/store/sample.h"

static struct store_root *make_store(const struct tmp_dir *tmp,
                                     uint64_t budget_bytes)
{
    BASE_AUTO_MEM char *path = base_path("%s/store", tmp->path);
    struct store_root *root = NULL;
    struct base_err err = {0};

    assert_non_null(path);
    assert_ok(store_root_init(path, budget_bytes, &err), &err);
    assert_ok(store_root_open(path, &root, &err), &err);
    return root;
}

static struct store_source *open_dir(const char *path)
{
    struct store_source *source = NULL;
    struct base_err err = {0};

    assert_ok(store_source_open_dir(path, NULL, &source, &err), &err);
    return source;
}

static enum base_code import(struct store_root *root,
                             const char *path,
                             uint64_t *ret_number,
                             struct base_err *err)
{
    const struct store_import_options options = {.n_threads = 2};
    BASE_AUTO(store_source) source = open_dir(path);

    return store_import(root, "j", source, &options, NULL, ret_number, err);
}

static uint64_t must_import(struct store_root *root, const char *path)
{
    struct base_err err = {0};
    uint64_t number = 0;

    assert_ok(import(root, path, &number, &err), &err);
    return number;
}

static enum base_code rescale(struct store_root *root,
                              const char *yaml,
                              uint64_t *ret_number,
                              struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;

    assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, err), err);
    return store_rescale(root, "j", 0, &spec, NULL, NULL, NULL, ret_number,
                         err);
}

static struct store_source *open_version(struct store_root *root,
                                         uint64_t number)
{
    BASE_AUTO(store_version) version = NULL;
    struct store_source *source = NULL;
    struct base_err err = {0};

    assert_ok(store_version_open(root, "j", number, &version, &err), &err);
    assert_ok(store_source_open_version(root, &version, &source, &err), &err);
    assert_null(version);
    return source;
}

/* A version has exactly the bytes of a directory. */
static void
must_equal(struct store_root *root, uint64_t number, const char *dir)
{
    const struct store_copy_options options = {0};
    BASE_AUTO(store_source) a = open_version(root, number);
    BASE_AUTO(store_source) b = open_dir(dir);
    struct base_err err = {0};

    assert_int_equal(ptc_table_n_tensors(store_source_table(a)),
                     ptc_table_n_tensors(store_source_table(b)));
    assert_ok(store_compare(a, store_source_pieces(a), b,
                            store_source_pieces(b), NULL, &options, &err),
              &err);
}

static uint64_t used(const struct store_root *root)
{
    uint64_t used_bytes = 0, budget_bytes = 0;
    struct base_err err = {0};

    assert_ok(store_root_usage(root, &used_bytes, &budget_bytes, &err), &err);
    return used_bytes;
}

static size_t n_staged(const struct store_root *root)
{
    char **names = NULL;
    size_t n = 0;
    struct base_err err = {0};

    assert_ok(
        base_dir_list(store_root_fd(root), "staging", 100, &names, &n, &err),
        &err);
    base_names_free(names, n);
    return n;
}

static void test_versions_have_what_was_imported(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *b = sample_write(tmp->path, "b", SAMPLE_DP4);

    assert_int_equal(must_import(root, a), 1);
    assert_int_equal(must_import(root, b), 2);
    must_equal(root, 1, a);
    must_equal(root, 2, b);
    must_equal(root, 0, a); /* both have the same state */
    assert_int_equal(n_staged(root), 0);
}

static void test_replicas_share_a_blob(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *a =
        sample_write(tmp->path, "a",
                     "mesh: {dp: 4}\nrules: [{match: t, tie: w}, "
                     "{match: '*'}]\nobjects: {'*': {on_change: copy}}\n");
    BASE_AUTO(store_source) source = NULL;

    (void)must_import(root, a);
    source = open_version(root, 1);
    /* model and optim of rank 0; note.txt, and rng.txt of four ranks */
    assert_int_equal(store_source_n_blobs(source), 2 + 1 + 4);
}

static void test_rescale_copies_no_blob(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *dir = base_path("%s/a", tmp->path);
    struct base_err err = {0};
    struct base_io_stats before, after;
    uint64_t n_used, number = 0;

    assert_int_equal(mkdir(dir, 0777), 0);
    sample_put_st(dir, "model.safetensors",
                  "{\"w\":{\"dtype\":\"U8\",\"shape\":[1024,4096],"
                  "\"data_offsets\":[0,4194304]}}",
                  4194304);
    (void)must_import(root, dir);
    n_used = used(root);
    before = base_io_stats_get();
    assert_ok(rescale(root, "mesh: {tp: 8}\nrules: [{match: w, dims: [~, tp]}]",
                      &number, &err),
              &err);
    after = base_io_stats_get();
    assert_int_equal(number, 2);
    assert_true(after.read_bytes - before.read_bytes < 65536);
    assert_true(after.written_bytes - before.written_bytes < 65536);
    assert_true(after.mapped_bytes == before.mapped_bytes);
    assert_int_equal(used(root), n_used);
    must_equal(root, 2, dir);
}

/* The text of rank @rank's rng.txt in version @number; "" when there is none. */
static void
rng_text(struct store_root *root, uint64_t number, ptc_rank rank, char *text)
{
    BASE_AUTO(store_source) source = open_version(root, number);
    const struct store_blob *blob = NULL;
    struct base_err err = {0};

    assert_ok(
        store_source_object(source, BASE_STR("rng.txt"), rank, &blob, &err),
        &err);
    text[0] = '\0';
    if (blob != NULL) {
        assert_true(blob->n_bytes < 32);
        assert_ok(base_io_pread(blob->fd, text, (size_t)blob->n_bytes, 0,
                                blob->label, &err),
                  &err);
        text[blob->n_bytes] = '\0';
    }
}

static void test_objects_move_as_their_rules_say(void **state)
{
    static const char *const due[] = {"rank 0", "rank 0", "rank 0", "rank 0"};
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct base_err err = {0};
    uint64_t number = 0;
    char text[32];

    (void)must_import(root, a);
    rng_text(root, 1, 1, text);
    assert_memory_equal(text, "rank 1", 6);
    assert_ok(rescale(root, SAMPLE_DP4, &number, &err), &err);
    for (ptc_rank rank = 0; rank < N_ITEMS(due); rank++) {
        rng_text(root, 2, rank, text);
        assert_memory_equal(text, due[rank], 6);
    }
    rng_text(root, 2, 4, text);
    assert_string_equal(text, "");
    /* What refuses leaves the store as it was. */
    assert_int_equal(rescale(root,
                             "mesh: {tp: 2}\nrules: [{match: t, tie: w}, "
                             "{match: '*'}]\n"
                             "objects: {'rng.txt': {on_change: refuse}}\n",
                             &number, &err),
                     BASE_MISMATCH);
    rng_text(root, 0, 3, text);
    assert_memory_equal(text, "rank 0", 6);
    assert_int_equal(n_staged(root), 0);
}

static void test_a_new_tie_makes_a_new_table(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *dir = base_path("%s/a", tmp->path);
    BASE_AUTO(store_source) tied = NULL;
    struct base_err err = {0};
    uint64_t number = 0;

    assert_int_equal(mkdir(dir, 0777), 0);
    sample_put_st(dir, "model.safetensors", /* bytes repeat after 251 */
                  "{\"a\":{\"dtype\":\"U8\",\"shape\":[251],"
                  "\"data_offsets\":[0,251]},"
                  "\"b\":{\"dtype\":\"U8\",\"shape\":[251],"
                  "\"data_offsets\":[251,502]},"
                  "\"c\":{\"dtype\":\"U8\",\"shape\":[251],"
                  "\"data_offsets\":[502,753]}}",
                  753);
    (void)must_import(root, dir);
    assert_ok(rescale(root,
                      "mesh: {}\nrules: [{match: b, tie: a}, {match: '*'}]\n",
                      &number, &err),
              &err);
    tied = open_version(root, 2);
    assert_int_equal(ptc_table_tensor(store_source_table(tied), 1)->tie, 0);
    assert_int_equal(ptc_pieces_n(store_source_pieces(tied)), 2);
}

static void test_rollback_is_a_new_number(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO(store_version) version = NULL;
    const struct ptc_manifest_head *head;
    struct base_err err = {0};
    uint64_t number = 0;

    (void)must_import(root, a);
    assert_ok(rescale(root, SAMPLE_DP4, &number, &err), &err);
    assert_ok(store_rollback(root, "j", 1, NULL, &number, &err), &err);
    assert_int_equal(number, 3);
    must_equal(root, 3, a);
    assert_ok(store_version_open(root, "j", 0, &version, &err), &err);
    head = ptc_manifest_head(store_version_manifest(version));
    assert_int_equal(head->version, 3);
    assert_int_equal(head->parent, 1);
    assert_true(base_str_eq(head->origin, BASE_STR("rollback")));
    assert_int_equal(store_rollback(root, "j", 9, NULL, &number, &err),
                     BASE_NOT_FOUND);
}

static void test_numbers_are_never_reused(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct base_err err = {0};

    assert_int_equal(must_import(root, a), 1);
    assert_int_equal(must_import(root, a), 2);
    assert_ok(base_dir_remove(store_root_fd(root), "jobs/j/versions/2", &err),
              &err);
    assert_int_equal(must_import(root, a), 3);
}

static void test_an_aborted_change_leaves_nothing(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO(store_change) change = NULL;
    struct ptc_blob_name name;
    struct base_err err = {0};
    int fd = -1;

    assert_ok(store_change_begin(root, "j", 100, NULL, &change, &err), &err);
    assert_ok(store_change_blob(change, 100, &name, &fd, &err), &err);
    assert_int_equal(n_staged(root), 1);
    store_change_free(base_steal(&change));
    assert_int_equal(n_staged(root), 0);
    assert_int_equal(used(root), 0);
    assert_ok(store_root_lock(root, 0, &err), &err); /* it was given up */
}

static void test_a_budget_refuses_before_a_byte(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 20000);
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct base_io_stats before, after;
    struct base_err err = {0};
    uint64_t number = 0;

    before = base_io_stats_get();
    for (unsigned i = 0; i < 2; i++) {
        number = 0;
        if (import(root, a, &number, &err) != BASE_OK) {
            break;
        }
        before = base_io_stats_get();
    }
    after = base_io_stats_get();
    assert_int_equal(number, 0);
    assert_int_equal(err.code, BASE_LIMIT);
    assert_non_null(strstr(err.text, "budget of 19.53 KiB"));
    assert_true(after.written_bytes - before.written_bytes < 100); /* the pid */
    assert_int_equal(n_staged(root), 0);
}

/* A child that stops before its last rename, then somebody removes the lock. */
static void test_who_lost_the_lock_does_not_publish(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct base_err err = {0};
    uint64_t number = 0;
    int status = 0;
    pid_t child;

    assert_int_equal(setenv("RETILE_FAULT", "store.publish=stop", 1), 0);
    assert_ok(base_fault_init(&err), &err);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(60);
        _exit((int)import(root, a, &number, &err));
    }
    (void)unsetenv("RETILE_FAULT");
    assert_ok(base_fault_init(&err), &err);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(unlinkat(store_root_fd(root), "lock", 0), 0);
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), (int)BASE_CHANGED);
    assert_int_equal(used(root), 0);
    assert_int_equal(n_staged(root), 0);
    assert_int_equal(must_import(root, a), 2);
}

static void on_warning(void *ctx, const char *text)
{
    assert_non_null(strstr(text, "may not outlive a loss of power"));
    (*(unsigned *)ctx)++;
}

/* What fails behind the rename takes nothing away: the version is there. */
static void test_a_published_version_is_no_failure(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    unsigned n_warnings = 0;
    struct base_err err = {0};
    uint64_t number = 0;

    store_root_on_warning(root, on_warning, &n_warnings);
    for (unsigned i = 1; i <= 2; i++) {
        assert_int_equal(setenv("RETILE_FAULT", "store.published=error", 1), 0);
        assert_ok(base_fault_init(&err), &err);
        assert_int_equal(must_import(root, a), i);
        (void)unsetenv("RETILE_FAULT");
        assert_ok(base_fault_init(&err), &err);
        assert_int_equal(n_warnings, i);
        must_equal(root, i, a);
    }
    assert_ok(rescale(root, SAMPLE_DP4, &number, &err), &err);
    assert_int_equal(number, 3);
    assert_int_equal(n_warnings, 2);
    assert_int_equal(n_staged(root), 0);
}

/* In the middle of a copy, what others do. */
struct meanwhile {
    struct store_root *other;
    const char *dir;
    bool is_done;
    uint64_t n_findings;
};

static void on_finding(void *ctx, const char *text)
{
    (void)ctx;
    (void)fprintf(stderr, "%s\n", text);
}

static bool change_meanwhile(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct meanwhile *meanwhile = ctx;
    struct store_sweep swept;
    struct base_err err = {0};

    (void)done_bytes;
    (void)all_bytes;
    if (!meanwhile->is_done) {
        meanwhile->is_done = true;
        assert_int_equal(must_import(meanwhile->other, meanwhile->dir), 1);
        assert_ok(store_root_lock(meanwhile->other, 0, &err), &err);
        assert_ok(store_sweep(meanwhile->other, &swept, &err), &err);
        assert_int_equal(swept.n_blobs, 0);
        store_root_unlock(meanwhile->other);
        assert_ok(store_check(meanwhile->other, false, 1, NULL, on_finding,
                              NULL, &meanwhile->n_findings, &err),
                  &err);
    }
    return true;
}

static void test_an_import_that_copies_keeps_nobody_out(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);
    BASE_AUTO(store_root) other = NULL;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *b = sample_write(tmp->path, "b", SAMPLE_DP4);
    BASE_AUTO(store_source) source = open_dir(a);
    struct meanwhile meanwhile = {.dir = b};
    const struct store_import_options options = {.n_threads = 1,
                                                 .progress = change_meanwhile,
                                                 .progress_ctx = &meanwhile};
    struct base_err err = {0};
    uint64_t number = 0;

    assert_ok(store_root_open(store_root_path(root), &other, &err), &err);
    meanwhile.other = other;
    assert_ok(store_import(root, "j", source, &options, NULL, &number, &err),
              &err);
    assert_true(meanwhile.is_done);
    assert_int_equal(meanwhile.n_findings, 0);
    assert_int_equal(number, 2);
    must_equal(root, 1, b);
    must_equal(root, 2, a);
    assert_int_equal(n_staged(root), 0);
}

/* The room of both is reserved before either copies. */
static bool begin_meanwhile(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct meanwhile *meanwhile = ctx;
    struct base_err err = {0};
    uint64_t number = 0;

    (void)done_bytes;
    (void)all_bytes;
    meanwhile->is_done = true;
    assert_int_equal(import(meanwhile->other, meanwhile->dir, &number, &err),
                     BASE_LIMIT);
    return true;
}

static void test_who_copies_has_its_room(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 20000);
    BASE_AUTO(store_root) other = NULL;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO(store_source) source = open_dir(a);
    struct meanwhile meanwhile = {.dir = a};
    const struct store_import_options options = {.n_threads = 1,
                                                 .progress = begin_meanwhile,
                                                 .progress_ctx = &meanwhile};
    struct base_err err = {0};
    uint64_t number = 0;

    assert_ok(store_root_open(store_root_path(root), &other, &err), &err);
    meanwhile.other = other;
    assert_ok(store_import(root, "j", source, &options, NULL, &number, &err),
              &err);
    assert_true(meanwhile.is_done);
    must_equal(root, 1, a);
}

static void test_the_position_is_read(void **state)
{
    static const struct {
        const char *text;
        enum base_code code;
        uint64_t step, samples;
    } cases[] = {
        {"{\"step\": 7, \"samples\": 900}", BASE_OK, 7, 900},
        {"{\"samples\": 1, \"more\": []}", BASE_OK, UINT64_MAX, 1},
        {"{}", BASE_OK, UINT64_MAX, UINT64_MAX},
        {"{\"step\": \"7\"}", BASE_BAD_INPUT, 0, 0},
        {"{\"step\": -1}", BASE_BAD_INPUT, 0, 0},
        {"[", BASE_BAD_INPUT, 0, 0},
    };
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO_MEM char *name = base_path("a%zu", i);
        BASE_AUTO_MEM char *a = sample_write(tmp->path, name, SAMPLE_TP2);
        BASE_AUTO(store_version) version = NULL;
        const struct ptc_manifest_head *head;
        struct base_err err = {0};
        uint64_t number = 0;

        tree_dir_put(a, "retile.json", base_str_of(cases[i].text));
        assert_int_equal(import(root, a, &number, &err), cases[i].code);
        if (cases[i].code != BASE_OK) {
            assert_non_null(strstr(err.text, "retile.json"));
            continue;
        }
        assert_ok(store_version_open(root, "j", number, &version, &err), &err);
        head = ptc_manifest_head(store_version_manifest(version));
        assert_true(head->step == cases[i].step);
        assert_true(head->samples == cases[i].samples);
    }
}

static void test_a_job_needs_a_plain_name(void **state)
{
    static const char *const names[] = {"", ".", "..", ".x", "a/b", "a\nb"};
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(store_root) root = make_store(tmp, 0);

    for (size_t i = 0; i < N_ITEMS(names); i++) {
        BASE_AUTO(store_change) change = NULL;
        struct base_err err = {0};

        assert_int_not_equal(
            store_change_begin(root, names[i], 0, NULL, &change, &err),
            BASE_OK);
        assert_null(change);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmp_dir_test(test_versions_have_what_was_imported),
        tmp_dir_test(test_replicas_share_a_blob),
        tmp_dir_test(test_rescale_copies_no_blob),
        tmp_dir_test(test_objects_move_as_their_rules_say),
        tmp_dir_test(test_a_new_tie_makes_a_new_table),
        tmp_dir_test(test_rollback_is_a_new_number),
        tmp_dir_test(test_numbers_are_never_reused),
        tmp_dir_test(test_an_aborted_change_leaves_nothing),
        tmp_dir_test(test_a_budget_refuses_before_a_byte),
        tmp_dir_test(test_who_lost_the_lock_does_not_publish),
        tmp_dir_test(test_a_published_version_is_no_failure),
        tmp_dir_test(test_an_import_that_copies_keeps_nobody_out),
        tmp_dir_test(test_who_copies_has_its_room),
        tmp_dir_test(test_the_position_is_read),
        tmp_dir_test(test_a_job_needs_a_plain_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
