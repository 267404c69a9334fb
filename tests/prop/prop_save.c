/* Saves of random layouts of which each rank wrote a random part: one is
 * accepted exactly when, element by element, some rank wrote each; and then it
 * is the state that was saved, of each element the lowest writer's. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "store/change.h"
#include "store/copy.h"
#include "store/save.h"
#include "tests/prop/random_layout.h"
#include "tests/prop/tree_dir.h"

#define N_CASES 60

/* The oracle: which elements somebody wrote. */
struct oracle {
    const struct ptc_layout *layout;
    const struct ptc_table *table;
    bool **written; /* per tensor and element, in C order */
    uint64_t luck;
    unsigned percent; /* of the tensors that a rank writes */
    ptc_rank rank;
    struct base_str group;
    struct base_str *kept; /* what `rank` writes of `group` */
    uint32_t n_kept;
    uint32_t n_all;
};

static void oracle_make(struct oracle *o)
{
    uint32_t n = ptc_table_n_tensors(o->table);

    o->written = calloc(n, sizeof(*o->written));
    o->kept = calloc(4096, sizeof(*o->kept));
    assert_true(o->written != NULL && o->kept != NULL);
    for (uint32_t i = 0; i < n; i++) {
        o->written[i] = calloc(ptc_table_tensor(o->table, i)->n_elems + 1,
                               sizeof(**o->written));
        assert_non_null(o->written[i]);
    }
}

static void oracle_done(struct oracle *o)
{
    for (uint32_t i = 0; i < ptc_table_n_tensors(o->table); i++) {
        free(o->written[i]);
    }
    free(o->written);
    free(o->kept);
}

static bool oracle_is_complete(const struct oracle *o)
{
    for (uint32_t i = 0; i < ptc_table_n_tensors(o->table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(o->table, i);

        for (uint64_t k = 0; t->tie == PTC_NONE && k < t->n_elems; k++) {
            if (!o->written[i][k]) {
                return false;
            }
        }
    }
    return true;
}

static enum base_code on_part(void *ctx,
                              uint32_t tensor,
                              const struct ptc_part *part,
                              struct base_err *err)
{
    struct oracle *o = ctx;
    const struct ptc_tensor *t = ptc_table_tensor(o->table, tensor);

    (void)err;
    for (uint64_t k = 0; k < t->n_elems; k++) {
        uint64_t rest = k;
        bool is_in = true;

        for (uint32_t d = t->n_dims; d > 0; d--) {
            uint64_t at = rest % t->shape[d - 1];

            rest /= t->shape[d - 1];
            is_in = is_in && at >= part->box.begin[d - 1] &&
                    at < part->box.end[d - 1];
        }
        o->written[tensor][k] = o->written[tensor][k] || is_in;
    }
    return BASE_OK;
}

static enum base_code
on_shown(void *ctx, const struct ptc_shown *shown, struct base_err *err)
{
    struct oracle *o = ctx;

    o->n_all++;
    if (random_below(&o->luck, 100) >= o->percent) {
        return BASE_OK;
    }
    assert_true(o->n_kept < 4096);
    o->kept[o->n_kept++] = shown->name;
    return ptc_layout_shown_parts(o->layout, o->rank, shown, on_part, o, err);
}

static bool keep(void *ctx, struct base_str name)
{
    const struct oracle *o = ctx;

    for (uint32_t i = 0; i < o->n_kept; i++) {
        if (base_str_eq(o->kept[i], name)) {
            return true;
        }
    }
    return false;
}

/* Leave of the save @dir what the ranks write, by luck. */
static void thin(struct oracle *o, const char *dir)
{
    struct base_err err = {0};

    for (o->rank = 0; o->rank < ptc_layout_n_ranks(o->layout); o->rank++) {
        for (uint32_t g = 0; g < ptc_table_n_groups(o->table); g++) {
            BASE_AUTO_MEM char *path = NULL;
            struct stat st;

            o->group = ptc_table_group(o->table, g);
            o->n_kept = o->n_all = 0;
            path = base_path("%s/ranks/%03u/%.*s.safetensors", dir, o->rank,
                             BASE_STR_FMT(o->group));
            assert_non_null(path);
            assert_ok(ptc_layout_shown(o->layout, o->rank, o->group, on_shown,
                                       o, &err),
                      &err);
            if (stat(path, &st) != 0) {
                assert_int_equal(o->n_all, 0);
            } else if (o->n_kept == 0) {
                assert_int_equal(unlink(path), 0);
            } else if (o->n_kept < o->n_all || random_below(&o->luck, 2) > 0) {
                assert_int_equal(tree_dir_thin(path, keep, o, NULL), o->n_kept);
            }
        }
    }
}

static void
must_equal(const struct store_root *root, uint64_t number, const char *dir)
{
    const struct store_copy_options options = {0};
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) a = NULL;
    BASE_AUTO(store_source) b = NULL;
    struct base_err err = {0};

    assert_ok(store_version_open(root, "j", number, &version, &err), &err);
    assert_ok(store_source_open_version(root, &version, &a, &err), &err);
    assert_ok(store_source_open_dir(dir, NULL, &b, &err), &err);
    assert_int_equal(ptc_table_n_tensors(store_source_table(a)),
                     ptc_table_n_tensors(store_source_table(b)));
    assert_ok(store_compare(b, store_source_pieces(b), a,
                            store_source_pieces(a), NULL, &options, &err),
              &err);
}

/* Save steps 1 (whole) and 2 (in part). */
static void save_twice(struct oracle *o, const char *root_path)
{
    BASE_AUTO_MEM char *store_path = base_path("%s/store", root_path);
    BASE_AUTO_MEM char *whole = base_path("%s/whole", root_path);
    BASE_AUTO_MEM char *first = NULL;
    BASE_AUTO_MEM char *second = NULL;
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO(store_root) other = NULL;
    BASE_AUTO(store_staging) staging = NULL;
    struct store_save save = {.name = "1", .step = 1};
    struct base_err err = {0};
    uint64_t number = 0;
    enum base_code code;

    assert_ok(store_root_init(store_path, 0, &err), &err);
    assert_ok(store_root_open(store_path, &root, &err), &err);
    assert_ok(store_root_open(store_path, &other, &err), &err);
    assert_ok(store_staging_open(root, "j", &staging, &err), &err);
    first = base_path("%s/1", store_staging_path(staging));
    second = base_path("%s/2", store_staging_path(staging));
    tree_dir_write(whole, o->layout);
    tree_dir_write(first, o->layout);
    tree_dir_write(second, o->layout);
    assert_ok(store_save_commit(staging, &save, &number, &err), &err);
    assert_int_equal(number, 1);
    must_equal(root, 1, whole);

    thin(o, second);
    save = (struct store_save){
        .name = "2", .step = 2, .parent = 1, .replicas = STORE_REPLICAS_REFUSE};
    code = store_save_commit(staging, &save, &number, &err);
    printf("  %u percent: %s\n", o->percent,
           code == BASE_OK ? "accepted" : err.text);
    if (!oracle_is_complete(o)) {
        assert_int_equal(code, BASE_MISMATCH);
        return;
    }
    assert_ok(code, &err);
    must_equal(root, 2, whole);
    assert_ok(store_save_finish(other, store_staging_path(staging), "j", &save,
                                2, NULL, &err),
              &err);
    must_equal(root, 2, whole);
}

static void test_what_is_complete_is_accepted_and_nothing_else(void **state)
{
    /* Whole; where replicas abound, often enough; hardly ever. */
    static const unsigned percents[] = {100, 97, 85, 50};
    uint64_t n = random_n_cases(N_CASES);

    (void)state;
    for (uint64_t i = 0; i < n; i++) {
        struct random_problem problem;
        BASE_AUTO(ptc_layout) layout = NULL;
        BASE_AUTO_MEM char *root = tree_dir_temp();
        uint64_t seed = random_seed(i);
        struct oracle o = {.luck = seed ^ 0x9747b28c};
        struct base_err err = {0};

        assert_int_equal(random_problem(seed, &problem), BASE_OK);
        printf("case %llu: RETILE_SEED=%llu\n", (unsigned long long)i,
               (unsigned long long)seed);
        (void)fflush(stdout); /* a crash must not take the seed with it */
        assert_ok(random_problem_bind(
                      &problem, (unsigned)random_below(&o.luck, RANDOM_N_SPECS),
                      &layout, &err),
                  &err);
        o.percent = percents[random_below(&o.luck, N_ITEMS(percents))];
        o.layout = layout;
        o.table = problem.table;
        oracle_make(&o);
        save_twice(&o, root);
        oracle_done(&o);
        assert_ok(base_dir_remove(AT_FDCWD, root, &err), &err);
        random_problem_done(&problem);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_complete_is_accepted_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
