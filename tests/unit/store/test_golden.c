/* The files of a store, as bytes: one that an earlier program made is read, and
 * today's program makes the same.
 *
 * tests/golden/checkpoint was imported into tests/golden/store as j@1, rescaled
 * to tests/golden/layout.yaml as j@2, and j@1 pinned.  Random names and the clock
 * are all that may differ. */
#include "tests/unit/base/tmp_dir.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "store/blob.h"
#include "store/change.h"
#include "store/copy.h"

#define BUDGET_BYTES (1u << 20)

enum { MAX_FILE = 1 << 20, MAX_ENTRIES = 100 };

static const char *golden(const char *name)
{
    static char paths[4][300];
    static unsigned next;
    char *path = paths[next++ % N_ITEMS(paths)];
    const char *root = getenv("RETILE_SOURCE");

    (void)snprintf(path, sizeof(paths[0]), "%s/tests/golden/%s",
                   root != NULL ? root : ".", name);
    return path;
}

static void read_file(const char *path, struct base_buf *ret)
{
    struct base_err err;

    base_buf_init(ret, MAX_FILE);
    assert_ok(base_file_read(AT_FDCWD, path, ret, &err), &err);
}

static void copy_tree(const char *from, const char *to)
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
        assert_int_equal(stat(in, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            copy_tree(in, out);
            continue;
        }
        assert_ok(base_file_read(AT_FDCWD, in, &bytes, &err), &err);
        assert_ok(base_file_write(AT_FDCWD, out, base_buf_str(&bytes), &err),
                  &err);
    }
    base_names_free(names, n);
}

/* The golden store, copied to DIR/old; git keeps no empty directory. */
static struct store_root *open_old(const struct tmp_dir *dir)
{
    BASE_AUTO_MEM char *path = base_path("%s/old", dir->path);
    struct store_root *root = NULL;
    struct base_err err;

    assert_non_null(path);
    copy_tree(golden("store"), path);
    assert_int_equal(mkdirat(dir->fd, "old/staging", 0700), 0);
    assert_ok(store_root_open(path, &root, &err), &err);
    return root;
}

/* DIR/new, made as the golden one was. */
static struct store_root *make_new(const struct tmp_dir *dir)
{
    const struct store_import_options options = {.n_threads = 1};
    BASE_AUTO_MEM char *path = base_path("%s/new", dir->path);
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_BUF layout;
    struct store_root *root = NULL;
    struct base_err err;
    uint64_t number = 0;

    read_file(golden("layout.yaml"), &layout);
    assert_non_null(path);
    assert_ok(store_root_init(path, BUDGET_BYTES, &err), &err);
    assert_ok(store_root_open(path, &root, &err), &err);
    assert_ok(store_source_open_dir(golden("checkpoint"), NULL, &source, &err),
              &err);
    assert_ok(store_import(root, "j", source, &options, NULL, &number, &err),
              &err);
    assert_ok(ptc_spec_parse(base_buf_str(&layout), "layout.yaml", &spec, &err),
              &err);
    assert_ok(
        store_rescale(root, "j", 1, &spec, NULL, NULL, NULL, &number, &err),
        &err);
    assert_int_equal(number, 2);
    assert_ok(store_root_lock(root, 0, &err), &err);
    assert_ok(store_version_pin(root, "j", 1, "for the tests", &err), &err);
    return root;
}

static struct store_version *open_version(const struct store_root *root,
                                          uint64_t number)
{
    struct store_version *version = NULL;
    struct base_err err;

    assert_ok(store_version_open(root, "j", number, &version, &err), &err);
    return version;
}

static void on_finding(void *ctx, const char *text)
{
    (void)ctx;
    fail_msg("%s", text);
}

/* @number has what the golden checkpoint has. */
static void must_have_the_state(const struct store_root *root, uint64_t number)
{
    const struct store_copy_options options = {.n_threads = 1};
    BASE_AUTO(store_version) version = open_version(root, number);
    BASE_AUTO(store_source) a = NULL;
    BASE_AUTO(store_source) b = NULL;
    struct base_err err;

    assert_ok(store_source_open_version(root, &version, &a, &err), &err);
    assert_ok(store_source_open_dir(golden("checkpoint"), NULL, &b, &err),
              &err);
    assert_ok(store_compare(a, store_source_pieces(a), b,
                            store_source_pieces(b), NULL, &options, &err),
              &err);
}

static void test_an_old_store_is_read(void **state)
{
    BASE_AUTO(store_root) root = open_old(*state);
    BASE_AUTO(store_version) version = open_version(root, 0);
    BASE_AUTO_MEM char *why = NULL;
    const struct ptc_manifest_head *head;
    uint64_t used, budget, n;
    struct base_err err;

    assert_string_equal(store_root_id(root),
                        "44bb3568b219146ca6daa571de59c193");
    assert_ok(store_root_usage(root, &used, &budget, &err), &err);
    assert_int_equal(budget, BUDGET_BYTES);
    assert_ok(store_check(root, true, 1, NULL, on_finding, NULL, &n, &err),
              &err);
    assert_int_equal(n, 0);
    must_have_the_state(root, 1);
    must_have_the_state(root, 2);
    head = ptc_manifest_head(store_version_manifest(version));
    assert_int_equal(head->version, 2);
    assert_int_equal(head->parent, 1);
    assert_int_equal(head->step, 7);
    assert_int_equal(head->samples, 448);
    assert_true(base_str_eq(head->origin, BASE_STR("rescale")));
    assert_ok(store_version_pin_why(root, "j", 1, &why, &err), &err);
    assert_string_equal(why, "for the tests");
}

static void test_an_old_store_is_changed(void **state)
{
    BASE_AUTO(store_root) root = open_old(*state);
    struct base_err err;
    uint64_t number = 0;

    assert_ok(store_rollback(root, "j", 1, NULL, &number, &err), &err);
    assert_int_equal(number, 3); /* `last` was read */
    must_have_the_state(root, 3);
}

/* The same text but for 32 digits behind "id ". */
static void same_id(const char *a, const char *b)
{
    const char *digits = strstr(a, "id ");

    assert_non_null(digits);
    digits += strlen("id ");
    assert_int_equal(strlen(a), strlen(b));
    assert_memory_equal(a, b, (size_t)(digits - a));
    assert_string_equal(digits + 32, b + (digits - a) + 32);
}

static void same_file(const struct store_root *root, const char *name)
{
    BASE_AUTO_MEM char *path = base_path("store/%s", name);
    BASE_AUTO_BUF old;
    BASE_AUTO_BUF now;
    struct base_err err;

    assert_non_null(path);
    read_file(golden(path), &old);
    base_buf_init(&now, MAX_FILE);
    assert_ok(base_file_read(store_root_fd(root), name, &now, &err), &err);
    assert_int_equal(old.len, now.len);
    assert_memory_equal(old.ptr, now.ptr, old.len);
}

/* Blob @i of both has the same bytes. */
static void same_blob(const struct store_root *a,
                      const struct store_root *b,
                      const struct ptc_manifest *of_a,
                      const struct ptc_manifest *of_b,
                      uint32_t i)
{
    struct ptc_manifest_blob blobs[] = {ptc_manifest_blob(of_a, i),
                                        ptc_manifest_blob(of_b, i)};
    const struct store_root *roots[] = {a, b};
    static char bytes[2][8192];
    struct base_err err;

    assert_int_equal(blobs[0].n_bytes, blobs[1].n_bytes);
    assert_true(blobs[0].n_bytes <= sizeof(bytes[0]));
    for (size_t k = 0; k < N_ITEMS(blobs); k++) {
        BASE_AUTO_FD fd = -1;

        assert_ok(store_blob_open(roots[k], &blobs[k], &fd, &err), &err);
        assert_ok(base_io_pread(fd, bytes[k], (size_t)blobs[k].n_bytes, 0,
                                "blob", &err),
                  &err);
    }
    assert_memory_equal(bytes[0], bytes[1], (size_t)blobs[0].n_bytes);
}

static void
same_version(struct store_root *a, struct store_root *b, uint64_t number)
{
    BASE_AUTO(store_version) of_a = open_version(a, number);
    BASE_AUTO(store_version) of_b = open_version(b, number);
    const struct ptc_manifest *x = store_version_manifest(of_a);
    const struct ptc_manifest *y = store_version_manifest(of_b);

    assert_true(base_str_eq(ptc_manifest_head(x)->layout,
                            ptc_manifest_head(y)->layout));
    assert_int_equal(ptc_manifest_n_blobs(x), ptc_manifest_n_blobs(y));
    assert_int_equal(ptc_manifest_n_regions(x), ptc_manifest_n_regions(y));
    for (uint32_t i = 0; i < ptc_manifest_n_blobs(x); i++) {
        same_blob(a, b, x, y, i);
    }
    for (uint32_t i = 0; i < ptc_manifest_n_regions(x); i++) {
        assert_true(base_digest_eq(ptc_manifest_region(x, i).digest,
                                   ptc_manifest_region(y, i).digest));
    }
}

static void test_a_new_store_has_the_same_files(void **state)
{
    const struct tmp_dir *dir = *state;
    BASE_AUTO(store_root) old = open_old(dir);
    BASE_AUTO(store_root) now = make_new(dir);
    BASE_AUTO_MEM char *id = base_path("%s/new/id", dir->path);
    BASE_AUTO_MEM char *lock = base_path("%s/new/lock", dir->path);
    BASE_AUTO_BUF old_id;
    BASE_AUTO_BUF new_id;
    BASE_AUTO_BUF signed_by;
    char pid[32];

    read_file(golden("store/id"), &old_id);
    read_file(id, &new_id);
    same_id(old_id.ptr, new_id.ptr);
    same_file(now, "jobs/j/last");
    same_file(now, "jobs/j/versions/1/pin");
    same_file(now, "jobs/j/versions/1/lock");
    same_file(now, "tables/eb879fdf69447d6b9705e3e5a60c2f49");
    same_version(old, now, 1);
    same_version(old, now, 2);
    read_file(lock, &signed_by); /* it is ours: make_new has taken it */
    (void)snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    assert_string_equal(signed_by.ptr, pid);
    store_root_unlock(now);
    same_file(now, "lock");
}

/* layout.yaml is the canonical text. */
static void test_a_layout_is_written_as_it_was(void **state)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_BUF old;
    BASE_AUTO_BUF now;
    struct base_err err;

    (void)state;
    read_file(golden("layout.yaml"), &old);
    base_buf_init(&now, MAX_FILE);
    assert_ok(ptc_spec_parse(base_buf_str(&old), "layout.yaml", &spec, &err),
              &err);
    assert_ok(ptc_spec_format(spec, &now, &err), &err);
    assert_string_equal(now.ptr, old.ptr);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        tmp_dir_test(test_an_old_store_is_read),
        tmp_dir_test(test_an_old_store_is_changed),
        tmp_dir_test(test_a_new_store_has_the_same_files),
        tmp_dir_test(test_a_layout_is_written_as_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
