/* Maps: one per file, however many sources have it. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "store/maps.h"
#include "tests/unit/store/fake_source.h"

#define BLOB_BYTES ((size_t)3 << 20)

enum { WAIT_MS = 20000 };

/* A blob of BLOB_BYTES, and the same file as another source's second. */
static void make_two(struct store_source *one, struct store_source *other)
{
    uint8_t *bytes = malloc(BLOB_BYTES);

    assert_non_null(bytes);
    memset(bytes, 7, BLOB_BYTES);
    memset(one, 0, sizeof(*one));
    memset(other, 0, sizeof(*other));
    assert_int_equal(fake_source_add(one, bytes, BLOB_BYTES), 0);
    assert_int_equal(fake_source_add(other, "else", 4), 0);
    other->blobs[1] = one->blobs[0];
    other->blobs[1].fd = dup(one->blobs[0].fd);
    assert_true(other->blobs[1].fd >= 0);
    other->n = 2;
    free(bytes);
}

static bool is_mapped(const uint8_t *bytes)
{
    unsigned char resident;

    return mincore((void *)(uintptr_t)bytes, 1, &resident) == 0 ||
           errno != ENOMEM;
}

static void test_a_file_of_two_sources_is_mapped_once(void **state)
{
    struct store_source one;
    struct store_source other;
    struct store_maps *maps[2];
    const uint8_t *bytes;

    (void)state;
    make_two(&one, &other);
    maps[0] = store_maps_create(&one);
    maps[1] = store_maps_create(&other);
    assert_non_null(maps[0]);
    assert_non_null(maps[1]);
    bytes = store_maps_get(maps[0], 0);
    assert_non_null(bytes);
    assert_ptr_equal(store_maps_get(maps[1], 1), bytes);
    assert_ptr_equal(store_maps_get(maps[1], 1), bytes); /* no second share */
    assert_ptr_not_equal(store_maps_get(maps[1], 0), bytes);
    assert_memory_equal(store_maps_get(maps[1], 0), "else", 4);
    store_maps_free(maps[0]);
    assert_true(is_mapped(bytes));
    assert_int_equal(bytes[BLOB_BYTES - 1], 7);
    store_maps_free(maps[1]);
    assert_false(is_mapped(bytes));
    fake_source_done(&one);
    fake_source_done(&other);
}

static void test_a_map_outlives_who_made_it(void **state)
{
    struct store_source one;
    struct store_source other;
    struct store_maps *first;
    struct store_maps *next;
    const uint8_t *bytes;

    (void)state;
    make_two(&one, &other);
    first = store_maps_create(&one);
    assert_non_null(first);
    bytes = store_maps_get(first, 0);
    next = store_maps_create(&other); /* has not asked for it yet */
    assert_non_null(next);
    store_maps_free(first);
    assert_true(is_mapped(bytes));
    assert_ptr_equal(store_maps_get(next, 1), bytes);
    store_maps_free(next);
    assert_false(is_mapped(bytes));
    fake_source_done(&one);
    fake_source_done(&other);
}

static void test_an_empty_blob_is_unmappable(void **state)
{
    static struct store_source source;
    struct store_maps *maps;

    (void)state;
    assert_int_equal(fake_source_add(&source, "", 0), 0);
    maps = store_maps_create(&source);
    assert_non_null(maps);
    assert_null(store_maps_get(maps, 0));
    assert_null(store_maps_get(maps, 0));
    store_maps_free(maps);
    fake_source_done(&source);
}

/* By a thread that nobody waits for. */
static void test_a_large_map_is_given_up_soon(void **state)
{
    static const uint64_t n_bytes = (uint64_t)80 << 20;
    static struct store_source source;
    struct store_maps *maps;
    const uint8_t *bytes;

    (void)state;
    assert_int_equal(fake_source_add(&source, "much", 4), 0);
    assert_int_equal(ftruncate(source.blobs[0].fd, (off_t)n_bytes), 0);
    source.blobs[0].n_bytes = n_bytes;
    maps = store_maps_create(&source);
    assert_non_null(maps);
    bytes = store_maps_get(maps, 0);
    assert_non_null(bytes);
    assert_int_equal(bytes[n_bytes - 1], 0);
    store_maps_free(maps);
    for (int i = 0; i < WAIT_MS && is_mapped(bytes); i++) {
        (void)poll(NULL, 0, 1);
    }
    assert_false(is_mapped(bytes));
    fake_source_done(&source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_of_two_sources_is_mapped_once),
        cmocka_unit_test(test_a_map_outlives_who_made_it),
        cmocka_unit_test(test_an_empty_blob_is_unmappable),
        cmocka_unit_test(test_a_large_map_is_given_up_soon),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
