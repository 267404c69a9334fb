#include "tests/unit/unit.h"

#include <string.h>

#include "ptc/infer.h"

/* What one rank shows; a list ends with a NULL name. */
struct shard {
    const char *name;
    ptc_rank rank;
    uint32_t n_dims;
    uint64_t shape[3];
    enum ptc_dtype dtype; /* 0, which is BOOL, where it does not matter */
    const char *group;    /* NULL: model */
};

#define OF(name_, rank_, dtype_, group_, n_, ...)                              \
    {                                                                          \
        .name = (name_), .rank = (rank_), .n_dims = (n_),                      \
        .shape = {__VA_ARGS__}, .dtype = (dtype_), .group = (group_)           \
    }
#define ON(name_, rank_, n_, ...)                                              \
    OF(name_, rank_, PTC_BOOL, NULL, n_, __VA_ARGS__)

enum { MAX_SHARDS = 8 };

struct tensor {
    const char *name;
    uint32_t n_dims;
    uint64_t shape[3];
};

static enum base_code infer(const char *yaml,
                            const struct shard *shards,
                            struct ptc_table **ret,
                            struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_seen seen[MAX_SHARDS];
    size_t n = 0;

    assert_non_null(builder);
    assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, err), err);
    for (; shards[n].name != NULL; n++) {
        assert_true(n < MAX_SHARDS);
        seen[n] = (struct ptc_seen){.name = base_str_of(shards[n].name),
                                    .group = base_str_of(shards[n].group == NULL
                                                             ? "model"
                                                             : shards[n].group),
                                    .rank = shards[n].rank,
                                    .dtype = shards[n].dtype,
                                    .n_dims = shards[n].n_dims,
                                    .shape = shards[n].shape};
    }
    BASE_TRY(ptc_infer(spec, seen, n, NULL, builder, err));
    return ptc_table_finish(builder, ret, err);
}

#define TP2  "mesh: {tp: 2}\n"
#define GRID "mesh: {dp: 2, tp: 2}\n"

static void test_solves_what_the_cuts_determine(void **state)
{
    static const struct {
        const char *yaml;
        struct shard shards[MAX_SHARDS + 1];
        struct tensor due[3];
    } cases[] = {
        /* cut, uneven; uncut */
        {TP2 "rules: [{match: w, dims: [tp]}, {match: n}]",
         {ON("w", 0, 2, 3, 4), ON("w", 1, 2, 2, 4), ON("n", 0, 1, 7),
          ON("n", 1, 1, 7)},
         {{"w", 2, {5, 4}}, {"n", 1, {7}}}},
        /* replicas count once; an empty part counts */
        {GRID "rules: [{match: w, dims: [~, tp]}]",
         {ON("w", 0, 2, 3, 1), ON("w", 1, 2, 3, 0), ON("w", 2, 2, 3, 1),
          ON("w", 3, 2, 3, 0)},
         {{"w", 2, {3, 1}}}},
        /* two axes on one dimension, in cutting order */
        {GRID "rules: [{match: w, dims: [[tp, dp]]}]",
         {ON("w", 0, 1, 2), ON("w", 1, 1, 2), ON("w", 2, 1, 1),
          ON("w", 3, 1, 1)},
         {{"w", 1, {6}}}},
        /* segments say the length; cuts do not hide it */
        {TP2 "rules: [{match: w, dims: [tp], segments: {0: [4, 6]}},"
             " {match: c, dims: [tp], cuts: {0: [1]}}]",
         {ON("w", 0, 1, 5), ON("w", 1, 1, 5), ON("c", 0, 1, 1),
          ON("c", 1, 1, 4)},
         {{"w", 1, {10}}, {"c", 1, {5}}}},
        /* several units on each rank cannot be repeats */
        {TP2 "rules: [{match: w, dims: [tp], unit: {0: 2}}]",
         {ON("w", 0, 1, 4), ON("w", 1, 1, 4)},
         {{"w", 1, {8}}}},
        /* optimizer states follow their parameter, or are one element */
        {TP2 "rules: [{match: w, dims: [tp]}]",
         {ON("w", 0, 1, 3), ON("w", 1, 1, 2), ON("optim.m.w", 0, 1, 3),
          ON("optim.m.w", 1, 1, 2), ON("optim.step.w", 0, 0, 0),
          ON("optim.step.w", 1, 0, 0)},
         {{"optim.m.w", 1, {5}}, {"optim.step.w", 0, {0}}}},
        {TP2 "rules: [{match: 'optim.m.*'}, {match: w, dims: [tp]}]",
         {ON("optim.m.x", 0, 1, 3), ON("optim.m.x", 1, 1, 3)},
         {{"optim.m.x", 1, {3}}}},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = NULL;
        struct base_err err = {0};

        assert_ok(infer(cases[i].yaml, cases[i].shards, &table, &err), &err);
        for (size_t k = 0; k < 3 && cases[i].due[k].name != NULL; k++) {
            const struct tensor *due = &cases[i].due[k];
            uint32_t idx = ptc_table_find(table, base_str_of(due->name));
            const struct ptc_tensor *t;

            assert_int_not_equal(idx, PTC_NONE);
            t = ptc_table_tensor(table, idx);
            assert_int_equal(t->n_dims, due->n_dims);
            for (uint32_t d = 0; d < due->n_dims; d++) {
                assert_int_equal(t->shape[d], due->shape[d]);
            }
        }
    }
}

static void test_refuses_what_shards_do_not_determine(void **state)
{
    static const struct {
        const char *yaml;
        struct shard shards[MAX_SHARDS + 1];
        enum base_code code;
        const char *says;
    } cases[] = {
        {TP2 "rules: [{match: w}]",
         {ON("w", 0, 1, 3), ON("w", 1, 1, 4)},
         BASE_MISMATCH,
         "ranks 0 and 1 hold the same part of dimension 0 with sizes 3 and 4"},
        {GRID "rules: [{match: w, dims: [tp]}]",
         {ON("w", 0, 1, 3), ON("w", 1, 1, 3), ON("w", 2, 1, 2)},
         BASE_MISMATCH,
         "ranks 0 and 2"},
        {TP2 "rules: [{match: w, dims: [tp]}]",
         {ON("w", 0, 1, 3)},
         BASE_BAD_ARG,
         "no rank shows part 1 of 2"},
        /* 7 units or 8: the last two ranks may have the same one */
        {"mesh: {a: 3, b: 2}\n"
         "rules: [{match: w, dims: [[a, b]], unit: {0: 4}}]",
         {ON("w", 0, 1, 8), ON("w", 1, 1, 4), ON("w", 2, 1, 8),
          ON("w", 3, 1, 4), ON("w", 4, 1, 4), ON("w", 5, 1, 4)},
         BASE_BAD_ARG,
         "repeat"},
        {TP2 "rules: [{match: w, dims: [tp], unit: {0: 4}}]",
         {ON("w", 0, 1, 4), ON("w", 1, 1, 4)},
         BASE_BAD_ARG,
         "--table"},
        {TP2 "rules: [{match: w}]",
         {ON("x", 0, 1, 3)},
         BASE_MISMATCH,
         "no rule matches"},
        {TP2 "rules: [{match: w}]",
         {ON("w", 0, 1, 3), ON("w", 1, 2, 3, 1)},
         BASE_MISMATCH,
         "1 dimensions on rank 0, 2 on rank 1"},
        {TP2 "rules: [{match: w}]",
         {OF("w", 0, PTC_F32, NULL, 1, 3), OF("w", 1, PTC_F64, NULL, 1, 3)},
         BASE_MISMATCH,
         "F32 on rank 0, F64 on rank 1"},
        {TP2 "rules: [{match: w}]",
         {ON("w", 0, 1, 3), OF("w", 1, PTC_BOOL, "other", 1, 3)},
         BASE_MISMATCH,
         "in group model on rank 0, in group other on rank 1"},
        {TP2 "flats: {z: {over: [tp]}}\nrules: [{match: w, flat: z}]",
         {ON("z.0", 0, 1, 3), ON("z.0", 1, 1, 3)},
         BASE_BAD_ARG,
         "a flat does not tell"},
        {TP2 "flats: {z: {over: [tp]}}\nrules: [{match: w, flat: z}]",
         {ON("optim.m.z.0", 0, 1, 3)},
         BASE_BAD_ARG,
         "a flat does not tell"},
        {TP2 "flats: {z: {over: [tp]}}\nrules: [{match: w, flat: z}]",
         {ON("w", 0, 1, 3)},
         BASE_MISMATCH,
         "lays it into flat z"},
        {TP2 "rules: [{match: w, dims: [tp]}]",
         {ON("w", 0, 1, 1), ON("w", 1, 1, 1), ON("optim.m.w", 0, 1, 1),
          ON("optim.m.w", 1, 1, 1)},
         BASE_BAD_ARG,
         "may be the whole or a part"},
        {TP2 "rules: [{match: w, dims: [tp]}]",
         {ON("w", 0, 1, 3), ON("w", 1, 1, 3), ON("optim.m.w", 0, 1, 2),
          ON("optim.m.w", 1, 1, 2)},
         BASE_MISMATCH,
         "do not make up the shape of w"},
        {TP2 "rules: [{match: w, dims: [tp]}]",
         {ON("optim.m.w", 0, 1, 2)},
         BASE_MISMATCH,
         "there is no parameter w"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_table) table = NULL;
        struct base_err err = {0};
        enum base_code code =
            infer(cases[i].yaml, cases[i].shards, &table, &err);

        if (code != cases[i].code || strstr(err.text, cases[i].says) == NULL) {
            fail_msg("case %zu: code %d: %s", i, (int)code, err.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_solves_what_the_cuts_determine),
        cmocka_unit_test(test_refuses_what_shards_do_not_determine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
