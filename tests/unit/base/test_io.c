#include "base/io.h"

#include "base/fault.h"
#include "tests/unit/base/tmp_dir.h"

enum { SIZE = 10000 };

static void arm(const char *text)
{
    struct base_err err;

    assert_int_equal(setenv("RETILE_FAULT", text, 1), 0);
    assert_ok(base_fault_init(&err), &err);
}

static void open_new(const struct tmp_dir *dir, int *ret_fd)
{
    struct base_err err;

    assert_ok(base_io_open(dir->fd, "f", O_RDWR | O_CREAT | O_TRUNC, 0600,
                           "label", ret_fd, &err),
              &err);
}

static void fill(unsigned char *bytes)
{
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    }
}

static void test_short_counts_are_retried(void **state)
{
    static const char *const faults[] = {"", "io.write=short@1",
                                         "io.write=short@2,io.read=short@1",
                                         "io.read=short@2"};
    unsigned char out[SIZE];
    unsigned char in[SIZE];

    fill(out);
    for (size_t i = 0; i < N_ITEMS(faults); i++) {
        BASE_AUTO_FD fd = -1;
        struct base_io_stats before;
        struct base_io_stats after;
        struct base_err err;

        open_new(*state, &fd);
        arm(faults[i]);
        before = base_io_stats_get();
        assert_ok(base_io_pwrite(fd, out, 5000, 0, "label", &err), &err);
        assert_ok(base_io_pwrite(fd, out + 5000, 5000, 5000, "label", &err),
                  &err);
        memset(in, 0, sizeof(in));
        assert_ok(base_io_pread(fd, in, SIZE, 0, "label", &err), &err);
        after = base_io_stats_get();
        assert_memory_equal(in, out, SIZE);
        assert_int_equal(after.written_bytes - before.written_bytes, SIZE);
        assert_int_equal(after.read_bytes - before.read_bytes, SIZE);
    }
    arm("");
}

static void test_pwritev_takes_any_number_of_parts(void **state)
{
    static unsigned char out[SIZE];
    static unsigned char in[SIZE];
    static struct iovec iov[SIZE];
    BASE_AUTO_FD fd = -1;
    struct base_err err;
    size_t at = 0;
    size_t n = 0;

    fill(out);
    open_new(*state, &fd);
    while (at < SIZE) { /* more than IOV_MAX, some empty */
        size_t len = n % 5;

        if (len > SIZE - at) {
            len = SIZE - at;
        }
        iov[n++] = (struct iovec){out + at, len};
        at += len;
    }
    assert_true(n > 4000);
    arm("io.write=short@2");
    assert_ok(base_io_pwritev(fd, iov, n, 3, "label", &err), &err);
    arm("");
    assert_ok(base_io_pread(fd, in, SIZE, 3, "label", &err), &err);
    assert_memory_equal(in, out, SIZE);
}

static void test_a_shrunken_file_is_changed(void **state)
{
    BASE_AUTO_FD fd = -1;
    struct base_err err;
    char in[10];

    open_new(*state, &fd);
    assert_ok(base_io_pwrite(fd, "abc", 3, 0, "label", &err), &err);
    assert_int_equal(base_io_pread(fd, in, 10, 0, "label", &err), BASE_CHANGED);
    assert_string_equal(err.text, "label: ends at byte 3, expected 10");
    assert_int_equal(base_io_pread(fd, in, 10, UINT64_MAX, "label", &err),
                     BASE_BAD_ARG);
}

static void test_armed_errors_are_reported(void **state)
{
    BASE_AUTO_FD fd = -1;
    struct base_err err;
    char in[3];

    open_new(*state, &fd);
    arm("io.write=nospace,io.read=error,io.sync=error,io.open=error");
    assert_int_equal(base_io_pwrite(fd, "abc", 3, 0, "label", &err),
                     BASE_NO_SPACE);
    assert_memory_equal(err.text, "label: cannot write: ", 21);
    assert_int_equal(base_io_pread(fd, in, 3, 0, "label", &err), BASE_IO);
    assert_int_equal(base_io_sync(fd, "label", &err), BASE_IO);
    assert_ok(base_io_sync(fd, "label", &err), &err);
    assert_int_equal(
        base_io_open(AT_FDCWD, "/", O_RDONLY, 0, "root", &fd, &err), BASE_IO);
    arm("");
}

/* How many bits differ, and none but in one byte. */
static int n_flipped(const unsigned char *a, const unsigned char *b)
{
    int n_bytes = 0;
    int n_bits = 0;

    for (size_t i = 0; i < SIZE; i++) {
        n_bytes += a[i] != b[i];
        n_bits += __builtin_popcount((unsigned)(a[i] ^ b[i]));
    }
    assert_true(n_bytes <= 1);
    return n_bits;
}

static void test_a_corrupt_call_flips_one_bit(void **state)
{
    unsigned char out[SIZE];
    unsigned char in[SIZE];
    unsigned char kept[SIZE];
    BASE_AUTO_FD fd = -1;
    struct base_err err;

    fill(out);
    fill(kept);
    open_new(*state, &fd);
    arm("io.write=corrupt,io.read=corrupt@2");
    assert_ok(base_io_pwrite(fd, out, SIZE, 0, "label", &err), &err);
    assert_int_equal(n_flipped(out, kept), 0); /* the caller's bytes are his */
    assert_ok(base_io_pread(fd, in, SIZE, 0, "label", &err), &err);
    assert_int_equal(n_flipped(in, out), 1);
    memcpy(kept, in, SIZE);
    assert_ok(base_io_pread(fd, in, SIZE, 0, "label", &err), &err);
    assert_int_equal(n_flipped(in, kept), 1); /* in memory, not in the file */
    assert_ok(base_io_pread(fd, in, SIZE, 0, "label", &err), &err);
    assert_int_equal(n_flipped(in, kept), 0);
    arm("");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        tmp_dir_test(test_short_counts_are_retried),
        tmp_dir_test(test_pwritev_takes_any_number_of_parts),
        tmp_dir_test(test_a_shrunken_file_is_changed),
        tmp_dir_test(test_armed_errors_are_reported),
        tmp_dir_test(test_a_corrupt_call_flips_one_bit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
