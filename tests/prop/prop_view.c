/* Views of random layouts: every file of a target, read through a view over a
 * source's files, has the bytes that its own parts say; there and back again is
 * the identity; a layout's view of itself is one run per file. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"
#include "tests/prop/file_bytes.h"
#include "tests/prop/random_layout.h"

#define N_CASES 150

/* Read @view whole and in random ranges; it must be @expect. */
static void view_compare(const struct file_set *source,
                         const struct ptc_view *view,
                         const uint8_t *expect,
                         uint64_t *state)
{
    uint64_t n_bytes = ptc_view_n_bytes(view);
    uint8_t *got = calloc(n_bytes + 1, 1);

    assert_non_null(got);
    for (unsigned by_rows = 0; by_rows < 2; by_rows++) {
        memset(got, 0xee, n_bytes);
        assert_int_equal(
            file_set_read(source, view, 0, UINT64_MAX, by_rows, got), n_bytes);
        assert_memory_equal(got, expect, n_bytes);
    }
    for (unsigned k = 0; k < 30; k++) {
        /* Headers are long and dull: most ranges begin behind them. */
        uint64_t data = ptc_view_header(view).len;
        uint64_t from = k % 8 == 0
                            ? random_below(state, n_bytes)
                            : data + random_below(state, n_bytes - data + 1);
        uint64_t n = random_below(state, n_bytes - from + 100);
        uint64_t got_n = file_set_read(source, view, from, n, k % 2, got);

        assert_int_equal(got_n, base_min_u64(n, n_bytes - from));
        assert_memory_equal(got, expect + from, got_n);
    }
    free(got);
}

/* Views of all files of @target over @source, whose pieces are @pieces. */
static void views_compare(const struct file_set *source,
                          const struct ptc_pieces *pieces,
                          const struct file_set *target,
                          uint64_t *state)
{
    struct base_err err = {0};

    for (uint32_t i = 0; i < target->n; i++) {
        const struct ptc_file *file = target->files[i];
        BASE_AUTO(ptc_view) view = NULL;

        assert_ok(ptc_view_create(file, pieces, &view, &err), &err);
        assert_int_equal(ptc_view_n_bytes(view), ptc_file_n_bytes(file));
        assert_true(base_str_eq(ptc_view_header(view), ptc_file_header(file)));
        view_compare(source, view, target->bytes[i], state);
    }
}

/* Replace the bytes of @target by what views over @source read. */
static void files_convert(const struct file_set *source,
                          const struct ptc_pieces *pieces,
                          struct file_set *target)
{
    struct base_err err = {0};

    for (uint32_t i = 0; i < target->n; i++) {
        BASE_AUTO(ptc_view) view = NULL;
        uint64_t n_bytes = ptc_file_n_bytes(target->files[i]);

        assert_ok(ptc_view_create(target->files[i], pieces, &view, &err), &err);
        memset(target->bytes[i], 0xee, n_bytes);
        (void)file_set_read(source, view, 0, n_bytes, false,
                            target->bytes[i]); /* all of it */
    }
}

static void case_run(uint64_t seed)
{
    struct random_problem problem;
    struct base_err err = {0};
    BASE_AUTO(ptc_layout) a = NULL;
    BASE_AUTO(ptc_layout) b = NULL;
    BASE_AUTO(ptc_layout) whole = NULL;
    BASE_AUTO(ptc_spec) whole_spec = NULL;
    BASE_AUTO(ptc_pieces) a_pieces = NULL;
    BASE_AUTO(ptc_pieces) b_pieces = NULL;
    struct file_set a_files;
    struct file_set b_files;
    struct file_set hf_files;
    uint64_t state = seed;

    assert_int_equal(random_problem(seed, &problem), BASE_OK);
    assert_ok(random_problem_bind(&problem, 0, &a, &err), &err);
    assert_ok(random_problem_bind(&problem, 1, &b, &err), &err);
    assert_ok(ptc_spec_whole(&whole_spec, &err), &err);
    assert_ok(ptc_layout_create(&whole_spec, problem.table, &whole, &err),
              &err);
    assert_ok(file_set_ranks(a, &a_files, &err), &err);
    assert_ok(file_set_ranks(b, &b_files, &err), &err);
    assert_ok(
        file_set_whole(whole, 1 + random_below(&state, 8000), &hf_files, &err),
        &err);
    assert_ok(file_set_fill(&a_files, &err), &err);
    assert_ok(file_set_fill(&b_files, &err), &err);
    assert_ok(file_set_fill(&hf_files, &err), &err);
    assert_ok(file_set_pieces(&a_files, a, &a_pieces, &err), &err);
    assert_ok(ptc_pieces_check(a_pieces, &err), &err);

    views_compare(&a_files, a_pieces, &b_files, &state);
    views_compare(&a_files, a_pieces, &hf_files, &state);
    views_compare(&a_files, a_pieces, &a_files, &state);

    files_convert(&a_files, a_pieces, &b_files);
    assert_ok(file_set_pieces(&b_files, b, &b_pieces, &err), &err);
    assert_ok(ptc_pieces_check(b_pieces, &err), &err);
    views_compare(&b_files, b_pieces, &a_files, &state);

    file_set_done(&a_files);
    file_set_done(&b_files);
    file_set_done(&hf_files);
    random_problem_done(&problem);
}

static void test_views_of_random_layouts_have_the_right_bytes(void **test_state)
{
    uint64_t n = random_n_cases(N_CASES);

    (void)test_state;
    for (uint64_t i = 0; i < n; i++) {
        print_message("RETILE_SEED=%llu\n", (unsigned long long)random_seed(i));
        case_run(random_seed(i));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views_of_random_layouts_have_the_right_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
