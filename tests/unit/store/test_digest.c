/* Digests of regions: chunks count from the region's first byte. */
#include "tests/unit/base/tmp_dir.h"

#include "base/io.h"
#include "store/digest.h"

#define CHUNK     PTC_DIGEST_CHUNK_BYTES
#define MAX_BYTES (3 * CHUNK + 100)

static unsigned char *sample_bytes(void)
{
    static unsigned char bytes[MAX_BYTES];
    uint64_t state = 7;

    for (size_t i = 0; i < MAX_BYTES; i++) {
        bytes[i] = (unsigned char)(base_random_next(&state) >> 56);
    }
    return bytes;
}

/* A file of @n of the sample's bytes behind @offset zeros; its descriptor. */
static int file_of(const struct tmp_dir *dir, uint64_t offset, size_t n)
{
    struct base_err err;
    int fd = -1;

    assert_ok(base_io_open(dir->fd, "blob", O_RDWR | O_CREAT | O_TRUNC, 0600,
                           "blob", &fd, &err),
              &err);
    assert_ok(base_io_pwrite(fd, sample_bytes(), n, offset, "blob", &err),
              &err);
    return fd;
}

static void test_a_digest_stands_for_each_mib_from_the_first_byte(void **state)
{
    static const size_t sizes[] = {
        0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 99,
    };
    const unsigned char *bytes = sample_bytes();

    for (size_t i = 0; i < N_ITEMS(sizes); i++) {
        size_t n = sizes[i];
        uint64_t n_chunks = store_digest_n_chunks(n);
        BASE_AUTO_FD fd = file_of(*state, 4097, n);
        struct base_digest chunks[4];
        struct base_digest again[4];
        struct base_digest identity;
        struct base_digest same;
        struct base_err err;

        assert_int_equal(n_chunks, (n + CHUNK - 1) / CHUNK);
        assert_ok(
            store_digest_range(fd, 4097, n, "blob", chunks, &identity, &err),
            &err);
        for (size_t c = 0; c < n_chunks; c++) {
            size_t left = n - c * CHUNK;

            assert_true(base_digest_eq(
                chunks[c], base_digest_of(bytes + c * CHUNK,
                                          left < CHUNK ? left : CHUNK)));
        }
        assert_true(base_digest_eq(
            identity, base_digest_of(chunks, 16 * (size_t)n_chunks)));
        store_digest_bytes(bytes, n, again, &same);
        assert_memory_equal(again, chunks, 16 * n_chunks);
        assert_true(base_digest_eq(identity, same));
    }
}

static void test_parts_of_a_region_give_what_the_whole_gives(void **state)
{
    size_t n = 3 * CHUNK + 99;
    BASE_AUTO_FD fd = file_of(*state, 0, n);
    struct base_digest whole[4];
    struct base_digest parts[4];
    struct base_digest identity;
    struct base_err err;

    assert_ok(store_digest_range(fd, 0, n, "blob", whole, &identity, &err),
              &err);
    assert_ok(store_digest_range(fd, 0, CHUNK, "blob", parts, NULL, &err),
              &err);
    assert_ok(
        store_digest_range(fd, CHUNK, n - CHUNK, "blob", parts + 1, NULL, &err),
        &err);
    assert_memory_equal(parts, whole, sizeof(whole));
    assert_true(base_digest_eq(store_digest_identity(parts, 4), identity));
}

static void test_a_changed_byte_changes_its_chunk_and_the_identity(void **state)
{
    size_t n = 2 * CHUNK + 5;
    BASE_AUTO_FD fd = file_of(*state, 0, n);
    struct base_digest before[3];
    struct base_digest after[3];
    struct base_digest identities[2];
    unsigned char byte = (unsigned char)(sample_bytes()[CHUNK] ^ 1u);
    struct base_err err;

    assert_ok(
        store_digest_range(fd, 0, n, "blob", before, &identities[0], &err),
        &err);
    assert_ok(base_io_pwrite(fd, &byte, 1, CHUNK, "blob", &err), &err);
    assert_ok(store_digest_range(fd, 0, n, "blob", after, &identities[1], &err),
              &err);
    assert_true(base_digest_eq(before[0], after[0]));
    assert_false(base_digest_eq(before[1], after[1]));
    assert_true(base_digest_eq(before[2], after[2]));
    assert_false(base_digest_eq(identities[0], identities[1]));
}

static void test_a_file_that_ends_first_is_told(void **state)
{
    BASE_AUTO_FD fd = file_of(*state, 0, CHUNK + 10);
    struct base_digest chunks[2];
    struct base_err err;

    assert_int_equal(
        store_digest_range(fd, 0, CHUNK + 11, "blob x", chunks, NULL, &err),
        BASE_CHANGED);
    assert_memory_equal(err.text, "blob x: ", 8);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        tmp_dir_test(test_a_digest_stands_for_each_mib_from_the_first_byte),
        tmp_dir_test(test_parts_of_a_region_give_what_the_whole_gives),
        tmp_dir_test(test_a_changed_byte_changes_its_chunk_and_the_identity),
        tmp_dir_test(test_a_file_that_ends_first_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
