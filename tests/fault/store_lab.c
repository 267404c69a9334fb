#include "tests/fault/store_lab.h"
#include "store/vote.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "tests/unit/store/sample.h"
#include "tests/unit/unit.h"

enum { MAX_ENTRIES = 1000, MAX_FILE = 1 << 24 };

/* Of the store, in words that a random name or the clock does not change. */
struct snapshot {
    char *jobs;       /* all versions and what they contain */
    char *last;       /* the numbers that were given */
    uint64_t n_blobs; /* files */
    uint64_t n_tables;
    uint64_t n_staged; /* entries */
};

static struct {
    char *top;
    struct snapshot before;
    struct snapshot after; /* of the first run that succeeded */
} lab;

const char *store_lab_at(const char *name)
{
    static char paths[5][200];
    static unsigned next;
    char *path = paths[next++ % N_ITEMS(paths)];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", lab.top, name);
    return path;
}

int store_lab_make(void **state)
{
    (void)state;
    lab.top = tree_dir_temp();
    free(sample_write(lab.top, "a", SAMPLE_TP2));
    free(sample_write(lab.top, "b", SAMPLE_DP4));
    return 0;
}

static void snapshot_done(struct snapshot *snapshot)
{
    free(snapshot->jobs);
    free(snapshot->last);
    *snapshot = (struct snapshot){0};
}

int store_lab_remove(void **state)
{
    struct base_err err;

    (void)state;
    snapshot_done(&lab.before);
    snapshot_done(&lab.after);
    assert_ok(base_dir_remove(AT_FDCWD, lab.top, &err), &err);
    free(base_steal(&lab.top));
    return 0;
}

/* --- arranging ---------------------------------------------------------- */

struct store_root *store_lab_open(void)
{
    struct store_root *root = NULL;
    struct base_err err;

    assert_ok(store_root_open(store_lab_at("store"), &root, &err), &err);
    return root;
}

uint64_t store_lab_import(struct store_root *root, const char *dir)
{
    const struct store_import_options options = {.n_threads = 1};
    BASE_AUTO(store_source) source = NULL;
    struct base_err err;
    uint64_t number = 0;

    assert_ok(store_source_open_dir(store_lab_at(dir), NULL, &source, &err),
              &err);
    assert_ok(store_import(root, "j", source, &options, NULL, &number, &err),
              &err);
    return number;
}

uint64_t store_lab_rescale(struct store_root *root, const char *yaml)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct base_err err;
    uint64_t number = 0;

    assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, &err), &err);
    assert_ok(
        store_rescale(root, "j", 0, &spec, NULL, NULL, NULL, &number, &err),
        &err);
    return number;
}

/* --- copies of the whole tree ------------------------------------------- */

void store_lab_copy(const char *from, const char *to)
{
    char **names = NULL;
    size_t n = 0;
    struct base_err err;

    assert_int_equal(mkdir(to, 0700), 0);
    assert_ok(base_dir_list(AT_FDCWD, from, MAX_ENTRIES, &names, &n, &err),
              &err);
    for (size_t i = 0; i < n; i++) {
        BASE_AUTO_MEM char *in = base_path("%s/%s", from, names[i]);
        BASE_AUTO_MEM char *out = base_path("%s/%s", to, names[i]);
        struct stat st;
        BASE_AUTO_BUF bytes;

        base_buf_init(&bytes, MAX_FILE);
        assert_int_equal(lstat(in, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            store_lab_copy(in, out);
            continue;
        }
        assert_ok(base_file_read(AT_FDCWD, in, &bytes, &err), &err);
        assert_ok(base_file_write(AT_FDCWD, out, base_buf_str(&bytes), &err),
                  &err);
        assert_int_equal(chmod(out, st.st_mode & 0777), 0);
    }
    base_names_free(names, n);
}

static void copy_store(const char *from, const char *to)
{
    struct base_err err;

    assert_ok(base_dir_remove(AT_FDCWD, store_lab_at(to), &err), &err);
    store_lab_copy(store_lab_at(from), store_lab_at(to));
}

/* --- what a store has --------------------------------------------------- */

/* Files below @path, which may not be there. */
static uint64_t count_files(const char *path)
{
    char **names = NULL;
    size_t n = 0;
    uint64_t n_files = 0;

    if (base_dir_list(AT_FDCWD, path, MAX_ENTRIES, &names, &n, NULL) !=
        BASE_OK) {
        return 0;
    }
    for (size_t i = 0; i < n; i++) {
        BASE_AUTO_MEM char *inner = base_path("%s/%s", path, names[i]);
        struct stat st;

        assert_int_equal(lstat(inner, &st), 0);
        n_files += S_ISDIR(st.st_mode) ? count_files(inner) : 1;
    }
    base_names_free(names, n);
    return n_files;
}

static uint64_t count_entries(const char *path)
{
    char **names = NULL;
    size_t n = 0;
    struct base_err err;

    assert_ok(base_dir_list(AT_FDCWD, path, MAX_ENTRIES, &names, &n, &err),
              &err);
    base_names_free(names, n);
    return n;
}

static void add_regions(struct base_buf *text,
                        const struct ptc_manifest *manifest)
{
    char digest[BASE_DIGEST_TEXT_BYTES];

    for (uint32_t i = 0; i < ptc_manifest_n_regions(manifest); i++) {
        struct ptc_manifest_region region = ptc_manifest_region(manifest, i);

        (void)base_buf_addf(text, "  %u: %u %" PRIu64 " %s\n", i, region.tensor,
                            region.n_bytes,
                            base_digest_format(region.digest, digest));
    }
    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(manifest, i);

        (void)base_buf_addf(text, "  %.*s %u %u\n", BASE_STR_FMT(object.name),
                            object.rank, object.region);
    }
    for (uint32_t i = 0; i < ptc_manifest_n_blobs(manifest); i++) {
        (void)base_buf_addf(text, "  %" PRIu64 "\n",
                            ptc_manifest_blob(manifest, i).n_bytes);
    }
}

/* The version's place in the order stands for its number: a run that failed may
 * have used one up. */
static void add_version(struct base_buf *text,
                        const struct store_root *root,
                        const char *job,
                        uint64_t number,
                        size_t place)
{
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO_MEM char *why = NULL;
    const struct ptc_manifest_head *head;
    char digest[BASE_DIGEST_TEXT_BYTES];
    struct base_err err;

    assert_ok(store_version_open(root, job, number, &version, &err), &err);
    assert_ok(store_version_pin_why(root, job, number, &why, &err), &err);
    head = ptc_manifest_head(store_version_manifest(version));
    assert_true(head->version == number);
    (void)base_buf_addf(
        text, "%s %zu: %.*s of %" PRIu64 " step %" PRIu64 " %s\n%.*s", job,
        place, BASE_STR_FMT(head->origin), head->parent, head->step,
        base_digest_format(head->table, digest), BASE_STR_FMT(head->layout));
    (void)base_buf_addf(text, "pinned: %s\n", why == NULL ? "no" : why);
    add_regions(text, store_version_manifest(version));
}

static void add_votes(struct base_buf *text, const struct store_root *root)
{
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    size_t n = 0;
    struct base_err err;

    assert_ok(store_vote_list(root, &votes, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        (void)base_buf_addf(text, "vote: %s %" PRIu64 " %s\n", votes[i].job,
                            votes[i].number, votes[i].origin);
    }
}

static void add_job(struct base_buf *text,
                    struct base_buf *last,
                    const struct store_root *root,
                    const char *job)
{
    BASE_AUTO_MEM char *path = base_path("jobs/%s/last", job);
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    struct base_err err;
    size_t n = 0;

    assert_ok(store_root_versions(root, job, &numbers, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        add_version(text, root, job, numbers[i], i);
    }
    (void)base_buf_addf(last, "%s ", job);
    if (faccessat(store_root_fd(root), path, F_OK, 0) == 0) {
        assert_ok(base_file_read(store_root_fd(root), path, last, &err), &err);
    }
}

static struct snapshot snapshot_of(const struct store_root *root)
{
    struct snapshot snapshot = {
        .n_blobs = count_files(store_lab_at("store/blobs")),
        .n_tables = count_files(store_lab_at("store/tables")),
        .n_staged = count_entries(store_lab_at("store/staging")),
    };
    char **jobs = NULL;
    size_t n = 0;
    struct base_buf text;
    struct base_buf last;
    struct base_err err;

    base_buf_init(&text, MAX_FILE);
    base_buf_init(&last, MAX_FILE);
    assert_ok(store_root_jobs(root, &jobs, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        add_job(&text, &last, root, jobs[i]);
    }
    base_names_free(jobs, n);
    add_votes(&text, root);
    (void)base_buf_add(&text, "", 0);
    (void)base_buf_add(&last, "", 0);
    assert_ok(base_buf_check(&text, &err), &err);
    assert_ok(base_buf_check(&last, &err), &err);
    snapshot.jobs = text.ptr;
    snapshot.last = last.ptr;
    return snapshot;
}

/* --- after each run ----------------------------------------------------- */

static void on_finding(void *ctx, const char *text)
{
    /* Whether anything may be left there is told by how much there is. */
    if (!base_str_starts(base_str_of(text), BASE_STR("staging/"))) {
        nth_wrong(ctx, "fsck: %s", text);
    }
}

static void must_be_consistent(struct store_root *root,
                               const struct nth_failure *failure)
{
    struct nth_failure copy = *failure;
    struct base_err err;
    uint64_t n = 0;

    if (store_check(root, false, 1, NULL, on_finding, &copy, &n, &err) !=
        BASE_OK) {
        nth_wrong(failure, "fsck fails: %s", err.text);
    }
}

/* Whoever takes the lock next removes what is left, and a sweep the rest. */
static void must_clean_up(struct store_root *root,
                          const struct nth_failure *failure,
                          const struct snapshot *like)
{
    struct store_sweep swept;
    struct snapshot now;
    struct base_err err;

    assert_ok(store_root_lock(root, 0, &err), &err);
    assert_ok(store_sweep(root, &swept, &err), &err);
    store_root_unlock(root);
    now = snapshot_of(root);
    if (now.n_staged != like->n_staged || now.n_blobs > like->n_blobs ||
        now.n_tables > like->n_tables) {
        nth_wrong(failure,
                  "a sweep leaves %" PRIu64 " of %" PRIu64
                  " files in staging, %" PRIu64 " blobs of %" PRIu64
                  ", %" PRIu64 " tables of %" PRIu64,
                  now.n_staged, like->n_staged, now.n_blobs, like->n_blobs,
                  now.n_tables, like->n_tables);
    }
    must_be_consistent(root, failure);
    snapshot_done(&now);
}

static void check(const struct nth_failure *failure, enum base_code rc)
{
    BASE_AUTO(store_root) root = store_lab_open();
    struct snapshot now = snapshot_of(root);
    bool is_old = strcmp(now.jobs, lab.before.jobs) == 0;
    bool is_dirty;

    if (lab.after.jobs == NULL && rc == BASE_OK) {
        lab.after = now;
        now = snapshot_of(root);
    }
    if ((rc == BASE_OK || !is_old) && strcmp(now.jobs, lab.after.jobs) != 0) {
        nth_wrong(failure, "%s: the store was\n%s\nand is\n%s\nbut not\n%s",
                  base_code_text(rc), lab.before.jobs, now.jobs,
                  lab.after.jobs);
    }
    is_old = is_old && rc != BASE_OK;
    if (is_old && !failure->stays &&
        (now.n_staged != lab.before.n_staged ||
         now.n_blobs > lab.before.n_blobs)) { /* fewer: a sweep */
        nth_wrong(failure,
                  "%" PRIu64 " files are left in staging, %" PRIu64
                  " blobs of %" PRIu64,
                  now.n_staged, now.n_blobs, lab.before.n_blobs);
    }
    must_be_consistent(root, failure);
    is_dirty = !is_old || strcmp(now.last, lab.before.last) != 0 ||
               now.n_staged != lab.before.n_staged ||
               now.n_blobs != lab.before.n_blobs ||
               now.n_tables != lab.before.n_tables;
    if (is_dirty) {
        must_clean_up(root, failure, is_old ? &lab.before : &lab.after);
        copy_store("kept", "store");
    }
    snapshot_done(&now);
}

void store_lab_run(const char *name,
                   void (*arrange)(struct store_root *root),
                   enum base_code (*run)(struct base_err *err),
                   uint64_t max_cases)
{
    const struct nth_scenario scenario = {
        .name = name, .run = run, .check = check};
    struct store_root *root;
    struct base_err err;

    snapshot_done(&lab.before);
    snapshot_done(&lab.after);
    assert_ok(base_dir_remove(AT_FDCWD, store_lab_at("store"), &err), &err);
    assert_ok(store_root_init(store_lab_at("store"), 0, &err), &err);
    root = store_lab_open();
    arrange(root);
    lab.before = snapshot_of(root);
    store_root_free(root);
    copy_store("store", "kept");
    nth_run(&scenario, max_cases);
}
