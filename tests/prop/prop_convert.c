/* Random layouts as directories: A -> B -> A is the identity, B is what it
 * should be, A -> hf -> A too; every byte of the tensors is read once. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "tests/prop/random_layout.h"
#include "tests/prop/tree_dir.h"

#define N_CASES 30

static struct ptc_layout *bind(const struct random_problem *problem,
                               const char *yaml)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct ptc_layout *layout = NULL;
    struct base_err err = {0};

    assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, &err), &err);
    assert_ok(ptc_layout_create(&spec, problem->table, &layout, &err), &err);
    return layout;
}

/* hf/ has none, so what comes from there has none either. */
static void remove_rank_objects(const char *dir, uint32_t n_ranks)
{
    for (ptc_rank rank = 0; rank < n_ranks; rank++) {
        BASE_AUTO_MEM char *path =
            base_path("%s/ranks/%03u/rng.txt", dir, rank);

        assert_non_null(path);
        assert_int_equal(unlink(path), 0);
    }
}

/* @problem's layouts a and b below @root. */
static void there_and_back(const struct random_problem *problem,
                           const char *root,
                           unsigned a,
                           unsigned b,
                           const struct store_copy_options *options)
{
    const char *a_yaml = problem->specs[a];
    const char *b_yaml = problem->specs[b];
    BASE_AUTO(ptc_layout) a_layout = bind(problem, a_yaml);
    BASE_AUTO(ptc_layout) b_layout = bind(problem, b_yaml);
    BASE_AUTO_MEM char *a_dir = base_path("%s/a", root);
    BASE_AUTO_MEM char *b_dir = base_path("%s/b", root);
    BASE_AUTO_MEM char *hf_dir = base_path("%s/hf", root);
    BASE_AUTO_MEM char *npy_dir = base_path("%s/npy", root);
    BASE_AUTO_MEM char *b_due = base_path("%s/b-due", root);
    BASE_AUTO_MEM char *a_again = base_path("%s/a-again", root);
    BASE_AUTO_MEM char *a_hf = base_path("%s/a-hf", root);
    struct base_err err = {0};

    tree_dir_write(a_dir, a_layout);
    tree_dir_write(b_due, b_layout);
    assert_ok(
        tree_dir_convert(a_dir, b_dir, b_yaml, STORE_TREE_RANKS, options, &err),
        &err);
    tree_dir_same(b_dir, b_due, "rng.txt");
    assert_ok(tree_dir_convert(b_dir, a_again, a_yaml, STORE_TREE_RANKS,
                               options, &err),
              &err);
    tree_dir_same(a_dir, a_again, "rng.txt");
    assert_ok(
        tree_dir_convert(a_dir, hf_dir, NULL, STORE_TREE_HF, options, &err),
        &err);
    assert_ok(
        tree_dir_convert(a_dir, npy_dir, NULL, STORE_TREE_NPY, options, &err),
        &err);
    assert_ok(
        tree_dir_convert(hf_dir, a_hf, a_yaml, STORE_TREE_RANKS, options, &err),
        &err);
    remove_rank_objects(a_dir, ptc_layout_n_ranks(a_layout));
    tree_dir_same(a_dir, a_hf, NULL);
}

static void test_there_and_back_is_the_identity(void **state)
{
    /* All in one, a few per tensor, a few elements each. */
    static const uint64_t blocks[] = {0, 4096, 300, 24};
    struct store_copy_options options = {0};
    uint64_t n = random_n_cases(N_CASES);

    (void)state;
    for (uint64_t i = 0; i < n; i++) {
        struct random_problem problem;
        BASE_AUTO_MEM char *root = tree_dir_temp();
        struct base_err err = {0};
        uint64_t seed = random_seed(i);
        uint64_t luck = seed ^ 0x5bd1e995;
        unsigned a, b;

        assert_int_equal(random_problem(seed, &problem), BASE_OK);
        printf("case %llu: RETILE_SEED=%llu\n", (unsigned long long)i,
               (unsigned long long)seed);
        (void)fflush(stdout); /* a crash must not take the seed with it */
        a = (unsigned)random_below(&luck, RANDOM_N_SPECS);
        b = (unsigned)random_below(&luck, RANDOM_N_SPECS);
        options.n_threads = 1 + (unsigned)random_below(&luck, 4);
        options.block_bytes = blocks[random_below(&luck, N_ITEMS(blocks))];
        there_and_back(&problem, root, a, b, &options);
        assert_ok(base_dir_remove(AT_FDCWD, root, &err), &err);
        random_problem_done(&problem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back_is_the_identity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
