#include "base/parallel.h"

#include <stdatomic.h>
#include <string.h>

#include "tests/unit/unit.h"

enum { N = 500, MAX_THREADS = 8 };

struct tally {
    atomic_uint n_calls[N];
    atomic_uint n_inside[MAX_THREADS];
    size_t fails_at; /* N: never */
    atomic_size_t n_total;
};

static enum base_code
visit(void *ctx, size_t item, unsigned thread, struct base_err *err)
{
    struct tally *tally = ctx;

    if (thread >= MAX_THREADS ||
        atomic_fetch_add(&tally->n_inside[thread], 1) != 0) {
        return base_fail(err, BASE_BAD_ARG, "thread %u is not alone", thread);
    }
    atomic_fetch_add(&tally->n_calls[item], 1);
    atomic_fetch_add(&tally->n_total, 1);
    atomic_fetch_sub(&tally->n_inside[thread], 1);
    if (item == tally->fails_at) {
        return base_fail(err, BASE_LIMIT, "item %zu", item);
    }
    return BASE_OK;
}

static void test_each_item_is_visited_once(void **state)
{
    (void)state;
    for (unsigned n_threads = 0; n_threads <= MAX_THREADS; n_threads++) {
        static struct tally tally;
        struct base_err err;

        memset(&tally, 0, sizeof(tally));
        tally.fails_at = N;
        assert_ok(base_parallel(n_threads, N, visit, &tally, &err), &err);
        for (size_t i = 0; i < N; i++) {
            assert_int_equal(tally.n_calls[i], 1);
        }
    }
}

static void test_a_failure_stops_and_is_returned(void **state)
{
    (void)state;
    for (unsigned n_threads = 1; n_threads <= MAX_THREADS; n_threads++) {
        static struct tally tally;
        struct base_err err = {0};

        memset(&tally, 0, sizeof(tally));
        tally.fails_at = 10;
        assert_int_equal(base_parallel(n_threads, N, visit, &tally, &err),
                         BASE_LIMIT);
        assert_string_equal(err.text, "item 10");
        if (n_threads == 1) {
            assert_int_equal(tally.n_total, 11);
        }
        assert_int_equal(base_parallel(n_threads, N, visit, &tally, NULL),
                         BASE_LIMIT);
    }
}

static void test_nothing_to_do_is_ok(void **state)
{
    (void)state;
    assert_int_equal(base_parallel(4, 0, visit, NULL, NULL), BASE_OK);
    assert_true(base_n_cpus() >= 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_item_is_visited_once),
        cmocka_unit_test(test_a_failure_stops_and_is_returned),
        cmocka_unit_test(test_nothing_to_do_is_ok),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
