/* What a save must have to become a version, whoever wrote it. */
#include "tests/unit/store/saved.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/change.h"
#include "tests/prop/tree_dir.h"

/* Version 1: everything, saved as step 10. */
static void make_parent(struct saved *saved)
{
    saved_write_whole(saved);
    saved_write(saved, 10);
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
}

static uint32_t n_blobs(const struct saved *saved, uint64_t number)
{
    BASE_AUTO(store_version) version = NULL;
    struct base_err err = {0};

    assert_ok(store_version_open(saved->root, "j", number, &version, &err),
              &err);
    return ptc_manifest_n_blobs(store_version_manifest(version));
}

/* --- who writes what ---------------------------------------------------- */

/* A rank's coordinates. */
struct who {
    unsigned pp, dp, tp;
};

static struct who who_is(ptc_rank rank)
{
    return (struct who){rank / 4, rank / 2 % 2, rank % 2};
}

typedef bool (*writes_fn)(struct who who, struct base_str name);

static bool is_bucket(struct base_str name)
{
    return base_str_starts(name, BASE_STR("optim.v.s."));
}

static bool all_write_all(struct who who, struct base_str name)
{
    (void)who;
    (void)name;
    return true;
}

static bool the_first_replica_writes(struct who who, struct base_str name)
{
    return is_bucket(name) || who.dp == 0;
}

static bool the_last_replica_writes(struct who who, struct base_str name)
{
    return is_bucket(name) || who.dp == 1;
}

static bool replicas_share(struct who who, struct base_str name)
{
    bool is_weight = name.ptr[name.len - 1] == 'a';

    return is_bucket(name) || who.dp == (is_weight ? 1u : 0u);
}

/* n is everywhere, buckets once per dp: one rank is enough for each. */
static bool nothing_twice(struct who who, struct base_str name)
{
    if (base_str_eq(name, BASE_STR("n"))) {
        return who.pp == 1 && who.dp == 1 && who.tp == 1;
    }
    if (base_str_eq(name, BASE_STR("t"))) {
        return false;
    }
    return is_bucket(name) ? who.tp == 1 : who.dp == who.tp;
}

struct thinning {
    writes_fn writes;
    struct who who;
};

static bool keep(void *ctx, struct base_str name)
{
    const struct thinning *t = ctx;

    return t->writes(t->who, name);
}

static void thin_all(const struct saved *saved, uint64_t step, writes_fn writes)
{
    static const char *const groups[] = {"model", "optim"};

    for (ptc_rank rank = 0; rank < 8; rank++) {
        struct thinning t = {writes, who_is(rank)};

        for (size_t g = 0; g < N_ITEMS(groups); g++) {
            tree_dir_thin(saved_in(saved, step, "ranks/%03u/%s.safetensors",
                                   rank, groups[g]),
                          keep, &t, "20");
        }
    }
}

static void test_replicas_may_be_left_out(void **state)
{
    static const struct {
        writes_fn writes;
        uint32_t n_files; /* that have something no lower rank gave */
    } cases[] = {
        {all_write_all, 10},           {the_first_replica_writes, 10},
        {the_last_replica_writes, 10}, {replicas_share, 14},
        {nothing_twice, 10},
    };
    struct saved *saved = *state;

    make_parent(saved);
    for (uint64_t i = 0; i < N_ITEMS(cases); i++) {
        uint64_t number;

        saved_write(saved, 20);
        thin_all(saved, 20, cases[i].writes);
        /* Another parent each time: else it would be the same save. */
        number = saved_must_commit(saved, 20, i + 1);
        assert_int_equal(number, i + 2);
        saved_must_equal(saved, number);
        /* note.txt, and rng.txt of each rank */
        assert_int_equal(n_blobs(saved, number), cases[i].n_files + 9);
        assert_ok(base_dir_remove(store_staging_fd(saved->staging), "20", NULL),
                  &(struct base_err){0});
    }
    saved_must_be_sound(saved);
}

/* --- what is refused ---------------------------------------------------- */

static const char *in(const struct saved *saved, const char *file)
{
    return saved_in(saved, 20, "%s", file);
}

/* Put @to where @from is in a file: of one length. */
static void replace(const struct saved *saved,
                    const char *file,
                    const char *from,
                    const char *to)
{
    BASE_AUTO_BUF bytes;
    BASE_AUTO_FD fd = open(in(saved, file), O_RDWR | O_CLOEXEC);
    struct base_err err = {0};
    char *at;

    base_buf_init(&bytes, 1 << 20);
    assert_true(fd >= 0);
    assert_int_equal(strlen(from), strlen(to));
    assert_ok(base_file_read(AT_FDCWD, in(saved, file), &bytes, &err), &err);
    at = memmem(bytes.ptr, bytes.len, from, strlen(from));
    assert_non_null(at);
    assert_int_equal(pwrite(fd, to, strlen(to), at - bytes.ptr),
                     (ssize_t)strlen(to));
}

#define MODEL(rank) "ranks/00" #rank "/model.safetensors"
#define OPTIM(rank) "ranks/00" #rank "/optim.safetensors"

static void drop_tp1(const struct saved *saved)
{
    saved_unlink(in(saved, MODEL(1)));
    saved_unlink(in(saved, MODEL(3)));
}

static void drop_optim(const struct saved *saved)
{
    for (unsigned rank = 0; rank < 8; rank++) {
        saved_unlink(saved_in(saved, 20, "ranks/%03u/optim.safetensors", rank));
    }
}

static void drop_dp1(const struct saved *saved)
{
    saved_unlink(in(saved, OPTIM(6)));
    saved_unlink(in(saved, OPTIM(7)));
}

/* Nothing at all. */
static void drop_ranks(const struct saved *saved)
{
    struct base_err err = {0};

    assert_ok(base_dir_remove(AT_FDCWD, in(saved, "ranks"), &err), &err);
}

/* Without coordinates. */
static void make_bare(const struct saved *saved, const char *file)
{
    struct thinning t = {all_write_all, {0}};

    tree_dir_thin(in(saved, file), keep, &t, NULL);
}

static void change_dtype(const struct saved *saved)
{
    replace(saved, MODEL(0), "F32", "I32");
}

static void change_shape(const struct saved *saved)
{
    replace(saved, MODEL(2), "\"shape\":[3,4]", "\"shape\":[4,3]");
}

static void change_name(const struct saved *saved)
{
    make_bare(saved, MODEL(2));
    replace(saved, MODEL(2), "\"l0.a\"", "\"l9.a\"");
}

static void change_place(const struct saved *saved)
{
    make_bare(saved, MODEL(2));
    replace(saved, MODEL(2), "\"l0.a\"", "\"l1.a\"");
}

static void change_group(const struct saved *saved)
{
    assert_int_equal(
        rename(in(saved, MODEL(5)), in(saved, "ranks/005/extra.safetensors")),
        0);
}

static void cut_short(const struct saved *saved)
{
    assert_int_equal(truncate(in(saved, MODEL(0)), 4100), 0);
}

static void make_empty(const struct saved *saved)
{
    assert_int_equal(truncate(in(saved, MODEL(7)), 0), 0);
}

static void put_link(const struct saved *saved)
{
    assert_int_equal(rename(in(saved, MODEL(6)), in(saved, "away")), 0);
    assert_int_equal(symlink("../../away", in(saved, MODEL(6))), 0);
}

static void put_fifo(const struct saved *saved)
{
    assert_int_equal(mkfifo(in(saved, "ranks/002/pipe"), 0600), 0);
}

static void put_ninth_rank(const struct saved *saved)
{
    assert_int_equal(mkdir(in(saved, "ranks/008"), 0700), 0);
    assert_int_equal(rename(in(saved, MODEL(7)), in(saved, MODEL(8))), 0);
}

static void put_ninth_object(const struct saved *saved)
{
    assert_int_equal(mkdir(in(saved, "ranks/008"), 0700), 0);
    saved_put(in(saved, "ranks/008/rng.txt"), "9");
}

static void put_odd_rank(const struct saved *saved)
{
    assert_int_equal(mkdir(in(saved, "ranks/7"), 0700), 0);
}

static void put_file_among_ranks(const struct saved *saved)
{
    saved_put(in(saved, "ranks/009"), "");
}

static void put_top_tensors(const struct saved *saved)
{
    assert_int_equal(
        rename(in(saved, MODEL(7)), in(saved, "model.safetensors")), 0);
}

static void put_other_layout(const struct saved *saved)
{
    saved_put(in(saved, "layout.yaml"), "mesh: {dp: 8}\nrules: []\n");
}

static void put_bad_layout(const struct saved *saved)
{
    saved_put(in(saved, "layout.yaml"), "mesh: {dp: 8\n");
}

static void put_layout_link(const struct saved *saved)
{
    assert_int_equal(rename(in(saved, "layout.yaml"), in(saved, "away")), 0);
    assert_int_equal(symlink("away", in(saved, "layout.yaml")), 0);
}

static void drop_rng(const struct saved *saved)
{
    saved_unlink(in(saved, "ranks/003/rng.txt"));
}

static void put_job_and_rank(const struct saved *saved)
{
    saved_put(in(saved, "rng.txt"), "the job's");
}

static void put_other_step(const struct saved *saved)
{
    saved_put(in(saved, "retile.json"), "{\"step\": 19, \"samples\": 5}");
}

static void put_bad_position(const struct saved *saved)
{
    saved_put(in(saved, "retile.json"), "{\"step\": \"20\"}");
}

static void put_fraction(const struct saved *saved)
{
    saved_put(in(saved, "retile.json"), "{\"step\": 20.0}");
}

static void put_negative(const struct saved *saved)
{
    saved_put(in(saved, "retile.json"), "{\"step\": 20, \"samples\": -1}");
}

static void put_huge(const struct saved *saved)
{
    saved_put(in(saved, "retile.json"),
              "{\"step\": 18446744073709551616, \"samples\": 1}");
}

static void put_file_step(const struct saved *saved)
{
    struct thinning t = {all_write_all, {0}};

    tree_dir_thin(in(saved, OPTIM(3)), keep, &t, "21");
    tree_dir_thin(in(saved, OPTIM(4)), keep, &t, "twenty");
}

static void differ_in_tie(const struct saved *saved)
{
    struct thinning t = {all_write_all, {0}};

    tree_dir_thin(in(saved, MODEL(4)), keep, &t, "20");
    saved_flip(in(saved, MODEL(4)), 0);
}

static void differ_in_replica(const struct saved *saved)
{
    saved_flip(in(saved, MODEL(2)), 0);
    saved_flip(in(saved, OPTIM(7)), 0);
}

/* dp.txt varies over dp: ranks 0, 1, 4, 5 have one, and 2, 3, 6, 7. */
static void differ_in_object(const struct saved *saved)
{
    saved_put(in(saved, "ranks/001/dp.txt"), "dp 0");
    saved_put(in(saved, "ranks/004/dp.txt"), "dp 4");
    saved_put(in(saved, "ranks/005/dp.txt"), "dp 0, more");
    saved_put(in(saved, "ranks/002/dp.txt"), "dp 1");
    saved_put(in(saved, "ranks/007/dp.txt"), "dp 1");
}

static void test_what_is_refused(void **state)
{
    static const struct {
        void (*damage)(const struct saved *saved);
        const char *words[3];
    } cases[] = {
        {drop_tp1,
         {"20/ranks/001/model.safetensors: tensor l0.a: [3:6, 0:4] is missing, "
          "none of ranks 1, 3 wrote it",
          "tensor l0.b: [0:3, 4:8] is missing",
          "tensor e: [4:7, 0:3] is missing"}},
        {drop_optim,
         {"20: group optim is missing: no rank wrote "
          "ranks/RRR/optim.safetensors"}},
        {drop_dp1, {"tensor optim.v.l1.b: ", "none of ranks 6, 7 wrote it"}},
        {drop_ranks, {"20: has no ranks/"}},
        {change_dtype,
         {"20/ranks/000/model.safetensors: tensor e: dtype is I32, elsewhere "
          "F32"}},
        {change_shape,
         {"20/ranks/002/model.safetensors: tensor l0.a: shape is [4, 3], the "
          "layout gives rank 2 [3, 4]"}},
        {change_name, {"tensor l9.a: neither the table nor a flat has it"}},
        {change_place, {"tensor l1.a: the layout does not place it on rank 2"}},
        {change_group,
         {"20/ranks/005/extra.safetensors: tensor l1.a: it belongs to group "
          "model"}},
        {cut_short, {"20/ranks/000/model.safetensors: "}},
        {make_empty, {"20/ranks/007/model.safetensors: 0 bytes are too few"}},
        {put_link,
         {"20/ranks/006/model.safetensors: a symbolic link, not a regular "
          "file"}},
        {put_fifo, {"20/ranks/002/pipe: a FIFO, not a regular file"}},
        {put_ninth_rank,
         {"20/ranks/008/model.safetensors: one rank too many, the layout has 8 "
          "ranks"}},
        {put_ninth_object, {"20/ranks/008/rng.txt: one rank too many"}},
        {put_odd_rank, {"20/ranks/7: not a rank's number"}},
        {put_file_among_ranks, {"20/ranks/009: not a directory"}},
        {put_top_tensors, {"20/model.safetensors: beside ranks/"}},
        {put_other_layout,
         {"20/layout.yaml: is not the layout that is loaded"}},
        {put_bad_layout, {"20/layout.yaml:"}},
        {put_layout_link,
         {"20/layout.yaml: a symbolic link, not a regular file"}},
        {drop_rng, {"20/ranks/003/rng.txt: missing, though rank 0 has one"}},
        {put_job_and_rank, {"rng.txt"}},
        {put_other_step,
         {"20/retile.json: is of step 19, the save is of step 20"}},
        {put_bad_position, {"20/retile.json: "}},
        {put_fraction, {"20/retile.json: "}},
        {put_negative, {"20/retile.json: "}},
        {put_huge, {"20/retile.json: "}},
        {put_file_step,
         {"20/ranks/003/optim.safetensors: is of step 21, the save is of step "
          "20",
          "20/ranks/004/optim.safetensors: metadata `step` is \"twenty\", not "
          "a number"}},
        {differ_in_tie, {"tensor t cannot be tied to e: "}},
        {differ_in_replica,
         {"tensor n: element [4] differs in 20/ranks/002/model.safetensors and "
          "20/ranks/000/model.safetensors",
          "ranks/007/optim.safetensors and 20/ranks/006/optim.safetensors"}},
        {differ_in_object,
         {"20/ranks/004/dp.txt and 20/ranks/001/dp.txt differ",
          "20/ranks/005/dp.txt and 20/ranks/001/dp.txt differ in size"}},
    };
    struct saved *saved = *state;

    make_parent(saved);
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        saved_write(saved, 20);
        cases[i].damage(saved);
        saved_must_refuse(saved, 20, 1, cases[i].words[0]);
        for (size_t k = 1; k < N_ITEMS(cases[i].words); k++) {
            if (cases[i].words[k] != NULL &&
                !saved_was_told(saved, cases[i].words[k])) {
                fail_msg("not \"%s\" in %.*s", cases[i].words[k],
                         (int)saved->told.len, saved->told.ptr);
            }
        }
        assert_ok(base_dir_remove(store_staging_fd(saved->staging), "20", NULL),
                  &(struct base_err){0});
    }
    assert_int_equal(saved_n_versions(saved), 1);
    saved_must_be_sound(saved);
}

/* Everything at once, each told once. */
static void test_all_that_is_wrong_is_told(void **state)
{
    struct saved *saved = *state;

    make_parent(saved);
    saved_write(saved, 20);
    change_dtype(saved);
    cut_short(saved);
    drop_rng(saved);
    put_fifo(saved);
    put_other_step(saved);
    put_file_step(saved);
    saved_unlink(in(saved, MODEL(4)));
    saved_unlink(in(saved, MODEL(6)));
    saved_must_refuse(saved, 20, 1, "20/ranks/002/pipe");
    assert_true(saved_was_told(saved, "20/ranks/000/model.safetensors"));
    assert_true(saved_was_told(saved, "20/ranks/003/rng.txt"));
    assert_true(saved_was_told(saved, "is of step 19"));
    assert_true(saved_was_told(saved, "is of step 21"));
    assert_true(saved_was_told(saved, "twenty"));
    assert_true(saved_was_told(saved, "tensor l1.a: [0:3, 0:4] is missing"));
    assert_true(saved_was_told(saved, "tensor l1.b: [0:3, 0:4] is missing"));
    assert_false(saved_was_told(saved, "l0.a: [0:3, 0:4] is missing"));
    assert_int_equal(saved->n_refusals, 8);
}

static void test_a_hundred_problems_are_told_and_the_rest_counted(void **state)
{
    struct saved *saved = *state;

    make_parent(saved);
    saved_write(saved, 20);
    for (unsigned i = 0; i < 130; i++) {
        saved_put(saved_in(saved, 20, "ranks/odd%u", i), "");
    }
    saved_must_refuse(saved, 20, 1, "20/ranks/odd0: not a rank's number");
    assert_true(saved_was_told(saved, "and 30 more"));
    assert_int_equal(saved->n_refusals, 101);
}

static void test_what_was_refused_can_be_mended(void **state)
{
    struct saved *saved = *state;

    make_parent(saved);
    saved_write(saved, 20);
    drop_tp1(saved);
    saved_must_refuse(saved, 20, 1, NULL);
    assert_int_equal(link(saved_at(saved, "whole/ranks/001/model.safetensors"),
                          in(saved, MODEL(3))),
                     0);
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    saved_must_equal(saved, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saved_test(test_replicas_may_be_left_out),
        saved_test(test_what_is_refused),
        saved_test(test_all_that_is_wrong_is_told),
        saved_test(test_a_hundred_problems_are_told_and_the_rest_counted),
        saved_test(test_what_was_refused_can_be_mended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
