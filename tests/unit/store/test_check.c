/* fsck and scrub: each damage is found, named, and told once. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/num.h"
#include "store/blob.h"
#include "tests/unit/store/small_store.h"

enum { N_FLIPS = 200 };

/* What a check told, a line each. */
struct told {
    struct base_buf text;
    uint64_t n;
    uint64_t done_bytes;
    uint64_t all_bytes;
};

static void tell(void *ctx, const char *text)
{
    struct told *told = ctx;

    assert_int_equal(base_buf_addf(&told->text, "%s\n", text), BASE_OK);
    told->n++;
}

static bool count_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct told *told = ctx;

    assert_true(done_bytes >= told->done_bytes && done_bytes <= all_bytes);
    told->done_bytes = done_bytes;
    told->all_bytes = all_bytes;
    return true;
}

static bool stop_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    (void)ctx;
    (void)done_bytes;
    (void)all_bytes;
    return false;
}

static void told_done(struct told *told)
{
    base_buf_done(&told->text);
}
#define TOLD __attribute__((cleanup(told_done))) struct told

static void check(struct small_store *store, bool is_scrub, struct told *told)
{
    struct base_err err;
    uint64_t n;

    told_done(told);
    *told = (struct told){0};
    base_buf_init(&told->text, 1 << 20);
    assert_ok(store_check(store->root, is_scrub, 2, count_progress, tell, told,
                          &n, &err),
              &err);
    assert_int_equal(n, told->n);
    (void)base_buf_add(&told->text, "", 0); /* a NUL, whatever was told */
}

/* Exactly one finding, which has both texts in it. */
static void assert_told(const struct told *told, const char *a, const char *b)
{
    if (told->n != 1 || strstr(told->text.ptr, a) == NULL ||
        strstr(told->text.ptr, b) == NULL) {
        fail_msg("not one finding with \"%s\" and \"%s\":\n%s", a, b,
                 told->text.ptr);
    }
}

static void assert_clean(struct small_store *store)
{
    TOLD told = {0};

    check(store, true, &told);
    if (told.n != 0) {
        fail_msg("findings:\n%s", told.text.ptr);
    }
}

/* Flip one bit of a file. */
static void flip(const char *path, uint64_t offset, unsigned bit)
{
    BASE_AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte = (uint8_t)(byte ^ 1U << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

static void test_a_whole_store_has_no_finding(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    TOLD told = {0};

    assert_clean(store);
    small_store_publish(store, "train", 1, &blobs);
    small_store_publish(store, "train", 2, &blobs);
    small_store_write(store, "jobs/train/last", "2\n");
    small_store_write(store, "jobs/train/versions/1/pin", "why\n");
    assert_clean(store);
    /* Shared regions are read once. */
    check(store, true, &told);
    assert_int_equal(told.all_bytes, SMALL_A_BYTES + SMALL_BIG_BYTES +
                                         SMALL_BUCKET_BYTES +
                                         SMALL_NOTES_BYTES);
    assert_int_equal(told.done_bytes, told.all_bytes);
}

static void test_an_object_that_is_no_blob_of_its_own_is_found(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    TOLD told = {0};

    store->object_blob = 1;
    small_store_publish(store, "train", 1, &blobs);
    check(store, false, &told);
    assert_told(&told, "train@1", "object notes.txt: is no blob of its own");
}

static void test_what_is_not_digested_is_no_finding(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    TOLD told = {0};

    store->is_undigested = true;
    small_store_publish(store, "train", 1, &blobs);
    assert_clean(store);
    check(store, true, &told);
    assert_int_equal(told.n, 0);
    assert_int_equal(told.all_bytes, 0);
    store->is_undigested = false; /* another version has digests of them */
    small_store_publish(store, "train", 2, &blobs);
    flip(small_store_blob_at(store, &blobs.blobs[1]), 3, 3);
    check(store, true, &told);
    assert_told(&told, "train@2", "a bucket with 'm1', 'm2'");
}

static void test_a_strange_file_is_found(void **state)
{
    static const char *const paths[] = {
        "core",
        "jobs/.hidden",
        "jobs/file",
        "jobs/train/extra",
        "jobs/train/versions/x",
        "jobs/train/versions/01",
        "jobs/train/versions/1/manifest.old",
        "tables/readme",
        "tables/0123456789ABCDEF0123456789ABCDEF",
        "blobs/zz",
        "blobs/00",
        "blobs/ab/cdef",
    };
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);

    small_store_publish(store, "train", 1, &blobs);
    for (size_t i = 0; i < N_ITEMS(paths); i++) {
        TOLD told = {0};

        (void)mkdir(small_store_at(store, "blobs/ab"), 0700);
        if (small_store_has(store, paths[i])) {
            continue; /* a blob's folder by chance */
        }
        small_store_write(store, paths[i], "x");
        check(store, false, &told);
        assert_told(&told, paths[i], ": ");
        assert_int_equal(unlink(small_store_at(store, "%s", paths[i])), 0);
    }
    assert_clean(store);
}

static void test_a_missing_folder_is_found(void **state)
{
    static const char *const paths[] = {"blobs", "tables", "jobs", "staging"};
    struct small_store *store = *state;

    for (size_t i = 0; i < N_ITEMS(paths); i++) {
        TOLD told = {0};

        assert_int_equal(rmdir(small_store_at(store, "%s", paths[i])), 0);
        check(store, true, &told);
        assert_told(&told, paths[i], "missing");
        assert_int_equal(mkdir(small_store_at(store, "%s", paths[i]), 0700), 0);
    }
}

static void test_a_last_that_is_no_number_is_found(void **state)
{
    static const char *const texts[] = {"", "x\n", "07\n", "-1\n", "1 2\n"};
    struct small_store *store = *state;

    assert_int_equal(mkdir(small_store_at(store, "jobs/train"), 0700), 0);
    for (size_t i = 0; i < N_ITEMS(texts); i++) {
        TOLD told = {0};

        small_store_write(store, "jobs/train/last", texts[i]);
        check(store, false, &told);
        assert_told(&told, "jobs/train/last", "number");
    }
}

static void test_stale_staging_is_found_and_a_works_is_not(void **state)
{
    struct small_store *store = *state;
    BASE_AUTO(store_root) other = NULL;
    TOLD told = {0};
    struct base_err err;

    assert_ok(store_root_open(store->path, &other, &err), &err);
    assert_ok(store_root_lock(other, 0, &err), &err);
    small_store_write(store, "staging/x", "y");
    check(store, false, &told);
    assert_int_equal(told.n, 0);
    store_root_unlock(other);
    check(store, false, &told);
    assert_told(&told, "staging/x", "died");
}

static void test_a_missing_or_short_blob_is_found_once(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    char name[STORE_BLOB_TEXT_BYTES];
    TOLD told = {0};

    small_store_publish(store, "train", 1, &blobs);
    small_store_publish(store, "train", 2, &blobs);
    (void)store_blob_name_format(&blobs.blobs[1].name, name);
    assert_int_equal(truncate(small_store_blob_at(store, &blobs.blobs[1]), 47),
                     0);
    check(store, true, &told);
    assert_told(&told, name, "has 47 bytes, its manifest says 48");
    assert_non_null(strstr(told.text.ptr, "train@1"));
    assert_int_equal(unlink(small_store_blob_at(store, &blobs.blobs[1])), 0);
    check(store, true, &told);
    assert_told(&told, name, "train@1");
    assert_int_equal(mkdir(small_store_blob_at(store, &blobs.blobs[1]), 0700),
                     0);
    check(store, false, &told);
    assert_int_equal(told.n, 2); /* needed, and strange */
}

static void test_a_damaged_table_is_found_once(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    TOLD told = {0};
    char **names;
    char path[64];
    struct base_err err;
    size_t n;

    small_store_publish(store, "train", 1, &blobs);
    small_store_publish(store, "train", 2, &blobs);
    assert_ok(base_dir_list(store_root_fd(store->root), "tables", 9, &names, &n,
                            &err),
              &err);
    (void)snprintf(path, sizeof(path), "tables/%s", names[0]);
    base_names_free(names, n);
    flip(small_store_at(store, "%s", path), 20, 0);
    check(store, false, &told);
    assert_told(&told, path, "train@1");
    flip(small_store_at(store, "%s", path), 20, 0);
    small_store_write(store, "tables/0123456789abcdef0123456789abcdef",
                      "{\"retile_table\":1,\"tensors\":[]}");
    check(store, false, &told);
    assert_told(&told, "tables/0123456789abcdef0123456789abcdef",
                "not those of its digest");
}

static void test_a_damaged_manifest_is_found(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    const char *path;
    struct stat st;
    uint64_t seed = 5;

    small_store_publish(store, "train", 1, &blobs);
    small_store_publish(store, "train", 2, &blobs);
    path = small_store_at(store, "jobs/train/versions/1/manifest");
    assert_int_equal(stat(path, &st), 0);
    for (size_t i = 0; i < N_FLIPS; i++) {
        uint64_t at = base_random_next(&seed) % (uint64_t)st.st_size;
        unsigned bit = (unsigned)(base_random_next(&seed) % 8);
        TOLD told = {0};

        path = small_store_at(store, "jobs/train/versions/1/manifest");
        flip(path, at, bit);
        check(store, false, &told);
        assert_told(&told, "train@1", "");
        flip(small_store_at(store, "jobs/train/versions/1/manifest"), at, bit);
    }
    assert_clean(store);
}

/* Its digest is right, but no such layout can be made of its table. */
static void test_a_layout_that_does_not_fit_is_found(void **state)
{
    static const char *const layouts[] = {
        "no YAML: [",
        "mesh: {tp: 7}\nrules:\n  - {match: '*', dims: [tp, tp, tp, tp]}\n",
        "mesh: {}\nrules:\n  - {match: 'other'}\n",
    };
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);

    small_store_publish(store, "train", 1, &blobs);
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        TOLD told = {0};

        store->layout = layouts[i];
        small_store_publish(store, "train", 2 + i, &blobs);
        check(store, false, &told);
        assert_int_equal(told.n, i + 1);
        assert_non_null(strstr(told.text.ptr, "its layout"));
    }
}

static void test_a_flipped_bit_is_found_with_tensor_and_version(void **state)
{
    static const struct {
        uint32_t blob;
        uint64_t offset;
        const char *owner;
    } cases[] = {
        {0, SMALL_HEADER_BYTES, "tensor 'a'"},
        {0, SMALL_HEADER_BYTES + 47, "tensor 'a'"},
        {0, SMALL_HEADER_BYTES + SMALL_A_BYTES, "tensor 'big'"},
        {0, SMALL_HEADER_BYTES + SMALL_A_BYTES + SMALL_BIG_BYTES - 1,
         "tensor 'big'"},
        {1, 3, "a bucket with 'm1', 'm2'"},
        {2, 15, "object 'notes.txt'"},
    };
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);

    small_store_publish(store, "train", 3, &blobs);
    small_store_publish(store, "train", 4, &blobs);
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        const struct ptc_manifest_blob *blob = &blobs.blobs[cases[i].blob];
        TOLD told = {0};

        flip(small_store_blob_at(store, blob), cases[i].offset, 3);
        check(store, false, &told); /* fsck reads no bytes */
        assert_int_equal(told.n, 0);
        check(store, true, &told);
        assert_told(&told, "train@3", cases[i].owner);
        flip(small_store_blob_at(store, blob), cases[i].offset, 3);
    }
    assert_clean(store);
}

static void test_every_flipped_bit_of_a_region_is_found(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    uint64_t begin = SMALL_HEADER_BYTES;
    uint64_t seed = 7;

    small_store_publish(store, "train", 1, &blobs);
    for (size_t i = 0; i < N_FLIPS; i++) {
        uint64_t at =
            begin + base_random_next(&seed) % (SMALL_A_BYTES + SMALL_BIG_BYTES);
        unsigned bit = (unsigned)(base_random_next(&seed) % 8);
        TOLD told = {0};

        flip(small_store_blob_at(store, &blobs.blobs[0]), at, bit);
        check(store, true, &told);
        assert_told(&told, "train@1: tensor '", "of their digest");
        flip(small_store_blob_at(store, &blobs.blobs[0]), at, bit);
    }
    assert_clean(store);
}

static void test_neighbouring_chunks_are_one_finding(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    uint64_t begin = SMALL_HEADER_BYTES + SMALL_A_BYTES;
    TOLD told = {0};

    small_store_publish(store, "train", 1, &blobs);
    flip(small_store_blob_at(store, &blobs.blobs[0]), begin, 0);
    flip(small_store_blob_at(store, &blobs.blobs[0]),
         begin + PTC_DIGEST_CHUNK_BYTES, 0);
    check(store, true, &told);
    assert_told(&told, "tensor 'big'", "bytes 4144 to 2101296 ");
    flip(small_store_blob_at(store, &blobs.blobs[0]),
         begin + PTC_DIGEST_CHUNK_BYTES, 0);
    flip(small_store_blob_at(store, &blobs.blobs[0]),
         begin + 2 * PTC_DIGEST_CHUNK_BYTES, 0);
    check(store, true, &told);
    assert_int_equal(told.n, 2);
}

static void test_scrub_stops_when_asked(void **state)
{
    struct small_store *store = *state;
    struct small_blobs blobs = small_store_blobs(store, 1);
    struct base_err err;
    uint64_t n = 77;

    small_store_publish(store, "train", 1, &blobs);
    assert_int_equal(
        store_check(store->root, true, 2, stop_progress, tell, NULL, &n, &err),
        BASE_INTERRUPTED);
    assert_int_equal(n, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        small_store_test(test_a_whole_store_has_no_finding),
        small_store_test(test_an_object_that_is_no_blob_of_its_own_is_found),
        small_store_test(test_what_is_not_digested_is_no_finding),
        small_store_test(test_a_strange_file_is_found),
        small_store_test(test_a_missing_folder_is_found),
        small_store_test(test_a_last_that_is_no_number_is_found),
        small_store_test(test_stale_staging_is_found_and_a_works_is_not),
        small_store_test(test_a_missing_or_short_blob_is_found_once),
        small_store_test(test_a_damaged_table_is_found_once),
        small_store_test(test_a_damaged_manifest_is_found),
        small_store_test(test_a_layout_that_does_not_fit_is_found),
        small_store_test(test_a_flipped_bit_is_found_with_tensor_and_version),
        small_store_test(test_every_flipped_bit_of_a_region_is_found),
        small_store_test(test_neighbouring_chunks_are_one_finding),
        small_store_test(test_scrub_stops_when_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
