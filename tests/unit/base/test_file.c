#include "base/file.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "tests/unit/base/tmp_dir.h"

static void write_file(int dir_fd, const char *path, const char *text)
{
    struct base_err err;

    assert_ok(base_file_write(dir_fd, path, base_str_of(text), &err), &err);
}

static void test_write_then_read(void **state)
{
    const struct tmp_dir *dir = *state;
    BASE_AUTO_BUF buf;
    struct base_err err;

    base_buf_init(&buf, 5);
    write_file(dir->fd, "f", "hello");
    assert_ok(base_file_read(dir->fd, "f", &buf, &err), &err);
    assert_string_equal(buf.ptr, "hello");
    assert_int_equal(base_file_write(dir->fd, "f", BASE_STR("x"), &err),
                     BASE_EXISTS);
}

static void test_an_empty_file_reads_as_an_empty_string(void **state)
{
    const struct tmp_dir *dir = *state;
    BASE_AUTO_BUF buf;
    struct base_err err;

    base_buf_init(&buf, 0);
    write_file(dir->fd, "f", "");
    assert_ok(base_file_read(dir->fd, "f", &buf, &err), &err);
    assert_int_equal(buf.len, 0);
    assert_string_equal(buf.ptr, "");
}

static void test_read_refuses_what_is_no_small_file(void **state)
{
    const struct tmp_dir *dir = *state;
    BASE_AUTO_BUF buf;
    struct base_err err;

    base_buf_init(&buf, 4);
    write_file(dir->fd, "f", "hello");
    assert_int_equal(mkfifoat(dir->fd, "fifo", 0600), 0);
    assert_int_equal(base_file_read(dir->fd, "f", &buf, &err), BASE_LIMIT);
    assert_string_equal(err.text, "f: has 5 bytes, the limit is 4");
    assert_int_equal(base_file_read(dir->fd, "none", &buf, &err),
                     BASE_NOT_FOUND);
    assert_int_equal(base_file_read(dir->fd, "fifo", &buf, &err),
                     BASE_BAD_INPUT);
    assert_int_equal(base_file_read(dir->fd, ".", &buf, &err), BASE_BAD_INPUT);
}

static void test_list_is_sorted_and_bounded(void **state)
{
    static const char *const sorted[] = {".h", "10", "9", "B", "a", "\xc3"};
    const struct tmp_dir *dir = *state;
    struct base_err err;
    char **names;
    size_t n;

    for (size_t i = 0; i < N_ITEMS(sorted); i++) {
        write_file(dir->fd, sorted[(i * 5) % N_ITEMS(sorted)], "");
    }
    assert_ok(base_dir_list(dir->fd, ".", 6, &names, &n, &err), &err);
    assert_int_equal(n, N_ITEMS(sorted));
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(names[i], sorted[i]);
    }
    base_names_free(names, n);
    assert_int_equal(base_dir_list(dir->fd, ".", 5, &names, &n, &err),
                     BASE_LIMIT);
    assert_int_equal(base_dir_list(dir->fd, "none", 5, &names, &n, &err),
                     BASE_NOT_FOUND);
}

static void test_remove_takes_a_tree_but_follows_no_link(void **state)
{
    const struct tmp_dir *dir = *state;
    struct base_err err;
    struct stat st;

    assert_int_equal(mkdirat(dir->fd, "keep", 0700), 0);
    write_file(dir->fd, "keep/f", "");
    assert_int_equal(mkdirat(dir->fd, "tree", 0700), 0);
    assert_int_equal(mkdirat(dir->fd, "tree/a", 0700), 0);
    write_file(dir->fd, "tree/a/f", "");
    assert_int_equal(symlinkat("../keep", dir->fd, "tree/link"), 0);
    assert_ok(base_dir_remove(dir->fd, "tree", &err), &err);
    assert_int_equal(fstatat(dir->fd, "tree", &st, 0), -1);
    assert_int_equal(fstatat(dir->fd, "keep/f", &st, 0), 0);
    assert_ok(base_dir_remove(dir->fd, "tree", &err), &err);
}

static void test_remove_takes_any_depth_and_any_mode(void **state)
{
    enum { DEPTH = 300, NOBODY = 65534 };
    const struct tmp_dir *dir = *state;
    bool is_root = geteuid() == 0;
    int fd = dup(dir->fd);
    struct base_err err;
    struct stat st;
    enum base_code code;

    if (is_root) { /* who may do anything */
        assert_int_equal(fchown(dir->fd, NOBODY, (gid_t)-1), 0);
        assert_int_equal(seteuid(NOBODY), 0);
    }
    for (unsigned i = 0; i < DEPTH; i++) {
        const char *name = i == 0 ? "tree" : "d";
        int next;

        assert_int_equal(mkdirat(fd, name, 0700), 0);
        write_file(fd, i == 0 ? "f" : ".deep-0", "");
        next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        assert_int_equal(i == 0 ? 0 : fchmod(fd, i % 3 == 0 ? 0500 : 0), 0);
        (void)close(fd);
        fd = next;
    }
    (void)close(fd);
    code = base_dir_remove(dir->fd, "tree", &err);
    if (is_root) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_ok(code, &err);
    assert_int_equal(fstatat(dir->fd, "tree", &st, 0), -1);
}

static void test_rename_refuses_an_existing_target(void **state)
{
    const struct tmp_dir *dir = *state;
    struct base_err err;

    assert_int_equal(mkdirat(dir->fd, "a", 0700), 0);
    assert_int_equal(mkdirat(dir->fd, "b", 0700), 0);
    assert_int_equal(base_rename_new(dir->fd, "a", "b", &err), BASE_EXISTS);
    assert_ok(base_rename_new(dir->fd, "a", "c", &err), &err);
    assert_ok(base_dir_sync(dir->fd, ".", &err), &err);
    assert_int_equal(setenv("RETILE_FAULT", "io.rename=error", 1), 0);
    assert_ok(base_fault_init(&err), &err);
    assert_int_equal(base_rename_new(dir->fd, "c", "d", &err), BASE_IO);
    assert_int_equal(unsetenv("RETILE_FAULT"), 0);
    assert_ok(base_fault_init(&err), &err);
}

/* As on a file system that knows no flags (NFS). */
static bool has_no_flags;
int __real_renameat2(
    int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(
    int from_fd, const char *from, int to_fd, const char *to, unsigned flags);

int __wrap_renameat2(
    int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    if (has_no_flags && flags != 0) {
        errno = EINVAL;
        return -1;
    }
    return __real_renameat2(from_fd, from, to_fd, to, flags);
}

static void test_rename_of_a_directory_needs_no_flags(void **state)
{
    const struct tmp_dir *dir = *state;
    struct base_err err;
    struct stat st;

    has_no_flags = true;
    assert_int_equal(mkdirat(dir->fd, "p", 0700), 0);
    write_file(dir->fd, "p/f", "");
    assert_int_equal(mkdirat(dir->fd, "q", 0700), 0);
    assert_int_equal(base_rename_new(dir->fd, "p", "q", &err), BASE_EXISTS);
    assert_int_equal(fstatat(dir->fd, "p/f", &st, 0), 0);
    assert_ok(base_rename_new(dir->fd, "p", "r", &err), &err);
    assert_int_equal(fstatat(dir->fd, "r/f", &st, 0), 0);
    assert_int_equal(base_rename_new(dir->fd, "p", "s", &err), BASE_NOT_FOUND);
    assert_int_equal(fstatat(dir->fd, "s", &st, 0), -1);
    has_no_flags = false;
}

static void test_path_is_formatted(void **state)
{
    BASE_AUTO_MEM char *path = base_path("ranks/%03d/%s", 7, "x");

    (void)state;
    assert_string_equal(path, "ranks/007/x");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        tmp_dir_test(test_write_then_read),
        tmp_dir_test(test_an_empty_file_reads_as_an_empty_string),
        tmp_dir_test(test_read_refuses_what_is_no_small_file),
        tmp_dir_test(test_list_is_sorted_and_bounded),
        tmp_dir_test(test_remove_takes_a_tree_but_follows_no_link),
        tmp_dir_test(test_remove_takes_any_depth_and_any_mode),
        tmp_dir_test(test_rename_refuses_an_existing_target),
        tmp_dir_test(test_rename_of_a_directory_needs_no_flags),
        cmocka_unit_test(test_path_is_formatted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
