#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/copy.h"
#include "tests/unit/store/sample.h"

/* --- the plain form ----------------------------------------------------- */

/* Damage the sample below @dir (a descriptor). */
typedef void (*damage_fn)(int dir);

static void no_damage(int dir)
{
    (void)dir;
}

static void no_ranks_001(int dir)
{
    assert_int_equal(renameat(dir, "ranks/001", dir, ".gone"), 0);
}

static void rank_002(int dir)
{
    assert_int_equal(mkdirat(dir, "ranks/002", 0777), 0);
}

static void gap(int dir)
{
    assert_int_equal(renameat(dir, "ranks/001", dir, "ranks/002"), 0);
}

static void short_number(int dir)
{
    assert_int_equal(mkdirat(dir, "ranks/2", 0777), 0);
}

static void long_number(int dir)
{
    assert_int_equal(mkdirat(dir, "ranks/0002", 0777), 0);
}

static void no_ranks(int dir)
{
    assert_int_equal(renameat(dir, "ranks", dir, ".gone"), 0);
}

static void no_layout(int dir)
{
    assert_int_equal(unlinkat(dir, "layout.yaml", 0), 0);
}

static void fifo(int dir)
{
    assert_int_equal(mkfifoat(dir, "ranks/000/pipe", 0666), 0);
}

static void fifo_for_tensors(int dir)
{
    assert_int_equal(unlinkat(dir, "ranks/000/model.safetensors", 0), 0);
    assert_int_equal(mkfifoat(dir, "ranks/000/model.safetensors", 0666), 0);
}

static void link_loop(int dir)
{
    assert_int_equal(symlinkat("loop", dir, "loop"), 0);
}

static void link_to_nothing(int dir)
{
    assert_int_equal(symlinkat("nowhere", dir, "link"), 0);
}

static void no_model_on_1(int dir)
{
    assert_int_equal(unlinkat(dir, "ranks/001/model.safetensors", 0), 0);
}

static void swapped_ranks(int dir)
{
    assert_int_equal(renameat(dir, "ranks/001", dir, ".x"), 0);
    assert_int_equal(renameat(dir, "ranks/000", dir, "ranks/001"), 0);
    assert_int_equal(renameat(dir, ".x", dir, "ranks/000"), 0);
}

static void swapped_files(int dir)
{
    assert_int_equal(renameat(dir, "ranks/001/optim.safetensors", dir, ".x"),
                     0);
    assert_int_equal(renameat(dir, "ranks/001/model.safetensors", dir,
                              "ranks/001/optim.safetensors"),
                     0);
    assert_int_equal(renameat(dir, ".x", dir, "ranks/001/model.safetensors"),
                     0);
}

static void truncated(int dir)
{
    int fd = openat(dir, "ranks/001/model.safetensors", O_RDWR);
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
    (void)close(fd); /* its size is what matters */
}

static void tensors_on_top(int dir)
{
    assert_int_equal(
        linkat(dir, "ranks/000/model.safetensors", dir, "model.safetensors", 0),
        0);
}

static void job_and_rank_object(int dir)
{
    assert_int_equal(linkat(dir, "note.txt", dir, "rng.txt", 0), 0);
}

static void other_layout(int dir)
{
    static const char yaml[] = "mesh: {tp: 2}\n"
                               "rules: [{match: '[wtu]', dims: [~, tp]},"
                               " {match: '?'}]\n";
    struct base_err err = {0};

    no_layout(dir);
    assert_ok(base_file_write(dir, "layout.yaml", BASE_STR(yaml), &err), &err);
}

static void other_tensors(int dir)
{
    static const char yaml[] = "mesh: {tp: 2}\nrules: [{match: x}]\n";
    struct base_err err = {0};

    no_layout(dir);
    assert_ok(base_file_write(dir, "layout.yaml", BASE_STR(yaml), &err), &err);
}

static void bad_yaml(int dir)
{
    struct base_err err = {0};

    no_layout(dir);
    assert_ok(base_file_write(dir, "layout.yaml", BASE_STR("mesh: ["), &err),
              &err);
}

static void test_refuses_a_damaged_plain_form(void **state)
{
    static const struct {
        damage_fn damage;
        const char *from;
        enum base_code code;
        const char *says;
    } cases[] = {
        {no_ranks_001, NULL, BASE_MISMATCH,
         "ranks/001: missing, layout.yaml has 2 ranks"},
        {rank_002, NULL, BASE_MISMATCH, "ranks/002: one rank too many"},
        {gap, NULL, BASE_BAD_INPUT,
         "ranks/001: missing, though ranks/002 is there"},
        {short_number, NULL, BASE_BAD_INPUT, "ranks/2: not a rank's number"},
        {long_number, NULL, BASE_BAD_INPUT, "ranks/0002: not a rank's number"},
        {no_ranks, NULL, BASE_BAD_INPUT, "has a layout.yaml but no ranks/"},
        {no_damage, "fsdp2:dp=2", BASE_BAD_ARG, "has a layout.yaml, so --from"},
        {no_layout, NULL, BASE_BAD_ARG, "say with --from"},
        {fifo, NULL, BASE_BAD_INPUT, "pipe: a FIFO, not a regular file"},
        {fifo_for_tensors, NULL, BASE_BAD_INPUT, "a FIFO, not a regular file"},
        {link_loop, NULL, BASE_IO, "/loop: Too many levels of symbolic links"},
        {link_to_nothing, NULL, BASE_BAD_INPUT, "/link: a link to nothing"},
        {no_model_on_1, NULL, BASE_MISMATCH,
         "ranks/001/model.safetensors: tensor s is missing"},
        {swapped_ranks, NULL, BASE_MISMATCH,
         "ranks/000/optim.safetensors: tensor optim.m.w: the file says "
         "dimension 0 from 4, the spec says dimension 0 from 0"},
        {swapped_files, NULL, BASE_MISMATCH, "disagree in its group"},
        {truncated, NULL, BASE_BAD_INPUT, "ranks/001/model.safetensors"},
        {tensors_on_top, NULL, BASE_BAD_INPUT,
         "/model.safetensors: beside ranks/"},
        {job_and_rank_object, NULL, BASE_BAD_INPUT, "rng.txt"},
        {other_layout, NULL, BASE_MISMATCH,
         "shape is [4, 6], the layout gives rank 0 [7, 3]"},
        {other_tensors, NULL, BASE_MISMATCH, "layout.yaml"},
        {bad_yaml, NULL, BASE_BAD_INPUT, "layout.yaml"},
    };
    const struct tmp_dir *tmp = *state;

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        char name[24];
        BASE_AUTO_MEM char *path = NULL;
        BASE_AUTO_FD fd = -1;
        struct store_source_options options = {.from = cases[i].from};
        struct store_source *source = NULL;
        struct base_err err = {0};
        enum base_code code;

        (void)snprintf(name, sizeof(name), "case-%zu", i);
        path = sample_write(tmp->path, name, SAMPLE_TP2);
        fd = open(path, O_RDONLY | O_DIRECTORY);
        assert_true(fd >= 0);
        cases[i].damage(fd);
        code = store_source_open_dir(path, &options, &source, &err);
        if (code != cases[i].code || strstr(err.text, cases[i].says) == NULL) {
            fail_msg("case %zu: code %d: %s", i, (int)code, err.text);
        }
        assert_null(source);
    }
}

static void test_opens_the_plain_form(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(ptc_table) table = sample_table();
    const struct store_blob *blob = NULL;
    struct base_err err = {0};

    sample_make_dir(path, "extra");
    sample_make_dir(path, ".hidden");
    tree_dir_put(path, "half.tmp", BASE_STR("x"));
    tree_dir_put(path, "ranks/000/.model.tmp", BASE_STR("x"));
    assert_ok(store_source_open_dir(path, NULL, &source, &err), &err);
    assert_int_equal(store_source_form(source), STORE_FORM_PLAIN);
    assert_int_equal(ptc_table_n_tensors(store_source_table(source)),
                     ptc_table_n_tensors(table));
    assert_int_equal(ptc_table_n_objects(store_source_table(source)), 2);
    assert_int_equal(store_source_n_ignored(source), 1);
    assert_non_null(strstr(store_source_ignored(source, 0), "/extra"));
    assert_ok(store_source_object(source, BASE_STR("rng.txt"), 1, &blob, &err),
              &err);
    assert_non_null(blob);
    assert_non_null(strstr(blob->label, "ranks/001/rng.txt"));
    assert_ok(
        store_source_object(source, BASE_STR("rng.txt"), PTC_NONE, &blob, &err),
        &err);
    assert_null(blob);
    assert_ok(store_source_object(source, BASE_STR("note.txt"), PTC_NONE, &blob,
                                  &err),
              &err);
    assert_non_null(blob);
    assert_ok(store_blob_check(blob, &err), &err);
}

static void test_links_to_regular_files_are_followed(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *file =
        base_path("%s/ranks/000/model.safetensors", path);
    BASE_AUTO_MEM char *blob = base_path("%s/.blob", path);
    BASE_AUTO(store_source) source = NULL;
    struct base_err err = {0};

    assert_int_equal(rename(file, blob), 0);
    assert_int_equal(symlink("../../.blob", file), 0);
    assert_ok(store_source_open_dir(path, NULL, &source, &err), &err);
}

static void test_a_changed_blob_is_noticed(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *file =
        base_path("%s/ranks/000/model.safetensors", path);
    BASE_AUTO(store_source) source = NULL;
    const struct store_blob *blob = NULL;
    struct base_err err = {0};

    assert_ok(store_source_open_dir(path, NULL, &source, &err), &err);
    for (uint32_t i = 0; i < store_source_n_blobs(source); i++) {
        if (strcmp(store_source_blob(source, i)->label, file) == 0) {
            blob = store_source_blob(source, i);
        }
    }
    assert_non_null(blob);
    assert_ok(store_blob_check(blob, &err), &err);
    assert_int_equal(truncate(file, 10), 0);
    assert_int_equal(store_blob_check(blob, &err), BASE_CHANGED);
}

static void test_replicas_and_ties_are_all_the_other_copies(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO(store_source) source = NULL;
    struct base_err err = {0};

    assert_ok(store_source_open_dir(path, NULL, &source, &err), &err);
    /* w, optim.m.w and u in two pieces each; v, s and optim.step.w in one. */
    assert_int_equal(ptc_pieces_n(store_source_pieces(source)), 9);
    /* rank 1's v, s and optim.step.w; both parts of t. */
    assert_int_equal(ptc_pieces_n(store_source_replicas(source)), 5);
}

/* --- shapes without coordinates ----------------------------------------- */

static char *bare_ranks(const struct tmp_dir *tmp)
{
    char *path = base_path("%s/bare", tmp->path);

    assert_non_null(path);
    sample_make_dir(tmp->path, "bare");
    sample_make_dir(path, "ranks");
    sample_make_dir(path, "ranks/000");
    sample_make_dir(path, "ranks/001");
    sample_put_st(path, "ranks/000/model.safetensors",
                  "{" F32("n", "[2]", 0, 8) "," F32("w", "[2,2]", 8, 24) "}",
                  24);
    sample_put_st(path, "ranks/001/model.safetensors",
                  "{" F32("n", "[2]", 0, 8) "," F32("w", "[1,2]", 8, 16) "}",
                  16);
    return path;
}

static void test_files_that_say_nothing_are_understood_by_a_spec(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = bare_ranks(tmp);
    BASE_AUTO_MEM char *spec = base_path("%s/spec.yaml", tmp->path);
    struct store_source_options options = {.from = spec};
    BASE_AUTO(store_source) source = NULL;
    struct base_err err = {0};
    uint32_t w;

    tree_dir_put(tmp->path, "spec.yaml",
                 BASE_STR("mesh: {tp: 2}\n"
                          "rules: [{match: w, dims: [tp]}, {match: n}]\n"));
    assert_ok(store_source_open_dir(path, &options, &source, &err), &err);
    w = ptc_table_find(store_source_table(source), BASE_STR("w"));
    assert_int_not_equal(w, PTC_NONE);
    assert_int_equal(ptc_table_tensor(store_source_table(source), w)->shape[0],
                     3);
}

static void test_the_wrong_spec_for_such_files_is_refused(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = bare_ranks(tmp);
    BASE_AUTO_MEM char *spec = base_path("%s/spec.yaml", tmp->path);
    BASE_AUTO_MEM char *table = base_path("%s/table.json", tmp->path);
    struct store_source_options options = {.from = spec};
    struct store_source *source = NULL;
    struct base_err err = {0};

    tree_dir_put(tmp->path, "spec.yaml",
                 BASE_STR("mesh: {tp: 2}\nrules: [{match: '*'}]\n"));
    assert_int_equal(store_source_open_dir(path, &options, &source, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "ranks 0 and 1"));
    tree_dir_put(
        tmp->path, "table.json",
        BASE_STR("{\"retile_table\":1,\"tensors\":["
                 "{\"name\":\"n\",\"group\":\"model\",\"dtype\":\"F32\","
                 "\"shape\":[2]},"
                 "{\"name\":\"w\",\"group\":\"model\",\"dtype\":\"F32\","
                 "\"shape\":[2,2]}],\"ties\":{},\"objects\":{}}"));
    options.table = table;
    assert_int_equal(store_source_open_dir(path, &options, &source, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "shape is [1, 2], the layout gives rank 1 "
                                     "[2, 2]"));
}

static void test_a_table_that_contradicts_a_file_is_refused(void **state)
{
    static const struct {
        const char *n, *says;
    } cases[] = {
        {"\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[2]", NULL},
        {"\"group\":\"other\",\"dtype\":\"F32\",\"shape\":[2]",
         "000/model.safetensors: tensor n: it belongs to group other"},
        {"\"group\":\"model\",\"dtype\":\"I32\",\"shape\":[2]",
         "000/model.safetensors: tensor n: dtype is F32, elsewhere I32"},
        {"\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[3]",
         "shape is [2], the layout gives rank 0 [3]"},
    };
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = bare_ranks(tmp);
    BASE_AUTO_MEM char *spec = base_path("%s/spec.yaml", tmp->path);

    tree_dir_put(tmp->path, "spec.yaml",
                 BASE_STR("mesh: {tp: 2}\n"
                          "rules: [{match: w, dims: [tp]}, {match: n}]\n"));
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO_MEM char *table = base_path("%s/%zu.json", tmp->path, i);
        BASE_AUTO_MEM char *text =
            base_path("{\"retile_table\":1,\"tensors\":[{\"name\":\"n\",%s},"
                      "{\"name\":\"w\",\"group\":\"model\",\"dtype\":\"F32\","
                      "\"shape\":[3,2]}],\"ties\":{},\"objects\":{}}",
                      cases[i].n);
        struct store_source_options options = {.from = spec, .table = table};
        BASE_AUTO(store_source) source = NULL;
        struct base_err err = {0};
        enum base_code code;

        tree_dir_put(tmp->path, table + strlen(tmp->path) + 1,
                     base_str_of(text));
        code = store_source_open_dir(path, &options, &source, &err);
        if (cases[i].says == NULL) {
            assert_ok(code, &err);
        } else if (code != BASE_MISMATCH ||
                   strstr(err.text, cases[i].says) == NULL) {
            fail_msg("case %zu: code %d: %s", i, (int)code, err.text);
        }
    }
}

#define TIED_FILE(tensor, target)                                              \
    "{\"__metadata__\":{\"retile\":\"{\\\"version\\\":1,\\\"tensors\\\":{"     \
    "\\\"" tensor "\\\":{\\\"shape\\\":[2],\\\"offset\\\":[0]}},"              \
    "\\\"ties\\\":{\\\"t\\\":\\\"" target                                      \
    "\\\"}}\"}," F32(tensor, "[2]", 0, 8) "}"

static void test_files_must_agree_on_ties(void **state)
{
    const struct tmp_dir *tmp = *state;
    struct store_source *source = NULL;
    struct base_err err = {0};

    sample_put_st(tmp->path, "x.safetensors", TIED_FILE("a", "a"), 8);
    sample_put_st(tmp->path, "y.safetensors", TIED_FILE("b", "b"), 8);
    assert_int_equal(store_source_open_dir(tmp->path, NULL, &source, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "tensor t: tied to a by"));
}

/* --- Hugging Face ------------------------------------------------------- */

#define A_FILE "{" F32("a", "[2]", 0, 8) "}"
#define B_FILE "{" F32("b", "[3]", 0, 12) "}"

static void test_opens_whole_files(void **state)
{
    static const struct {
        const char *names[3]; /* with A_FILE, B_FILE, an index */
        const char *index;
        uint32_t n_groups;
    } cases[] = {
        {{"model.safetensors"}, NULL, 1},
        {{"model.safetensors", "optim.safetensors"}, NULL, 2},
        {{"model-00001-of-00002.safetensors",
          "model-00002-of-00002.safetensors"},
         NULL,
         1},
        {{"x.safetensors", "y.safetensors", "model.safetensors.index.json"},
         "{\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"}}",
         1},
        {{"x.safetensors", "y.safetensors", "model.safetensors.index.json"},
         "{\"weight_map\":{\"a\":\"x.safetensors\"}}",
         2},
    };
    const struct tmp_dir *tmp = *state;

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        char name[24];
        BASE_AUTO_MEM char *path = NULL;
        BASE_AUTO(store_source) source = NULL;
        struct base_err err = {0};

        (void)snprintf(name, sizeof(name), "case-%zu", i);
        sample_make_dir(tmp->path, name);
        path = base_path("%s/%s", tmp->path, name);
        assert_non_null(path);
        tree_dir_put(path, "config.json", BASE_STR("{}"));
        sample_put_st(path, cases[i].names[0], A_FILE, 8);
        if (cases[i].names[1] != NULL) {
            sample_put_st(path, cases[i].names[1], B_FILE, 12);
        }
        if (cases[i].names[2] != NULL) {
            tree_dir_put(path, cases[i].names[2], base_str_of(cases[i].index));
        }
        assert_ok(store_source_open_dir(path, NULL, &source, &err), &err);
        assert_int_equal(store_source_form(source), STORE_FORM_HF);
        assert_int_equal(ptc_table_n_groups(store_source_table(source)),
                         cases[i].n_groups);
        assert_int_equal(ptc_table_n_objects(store_source_table(source)), 1);
        assert_int_equal(ptc_layout_n_ranks(store_source_layout(source)), 1);
    }
}

static void test_refuses_whole_files_that_do_not_fit(void **state)
{
    static const struct {
        const char *a, *b; /* files with tensor a and with tensor b */
        const char *index;
        const char *from;
        enum base_code code;
        const char *says;
    } cases[] = {
        {NULL, NULL, NULL, NULL, BASE_BAD_INPUT, "no checkpoint"},
        {"m-00001-of-00002.safetensors", NULL, NULL, NULL, BASE_NOT_FOUND,
         "m-00002-of-00002.safetensors: missing, though m-00001"},
        {"m-00003-of-00002.safetensors", NULL, NULL, NULL, BASE_BAD_INPUT,
         "no such shard"},
        {"x.safetensors", NULL,
         "{\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"y.safetensors\"}}",
         NULL, BASE_BAD_INPUT, "file y.safetensors is missing"},
        {"x.safetensors", "y.safetensors",
         "{\"weight_map\":{\"b\":\"x.safetensors\",\"a\":\"y.safetensors\"}}",
         NULL, BASE_MISMATCH,
         "tensor a is not in y.safetensors, but in x.safetensors"},
        {"x.safetensors", NULL,
         "{\"weight_map\":{\"a\":\"x.safetensors\",\"c\":\"x.safetensors\"}}",
         NULL, BASE_MISMATCH, "tensor c is not in x.safetensors"},
        {"x.safetensors", "model-00009-of-00009.safetensors",
         "{\"weight_map\":{\"a\":\"x.safetensors\"}}", NULL, BASE_MISMATCH,
         "its group's index does not name it"},
        {"x.safetensors", NULL, NULL, "fsdp2:dp=2", BASE_BAD_ARG,
         "holds whole tensors"},
    };
    const struct tmp_dir *tmp = *state;

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct store_source_options options = {.from = cases[i].from};
        char name[24];
        BASE_AUTO_MEM char *path = NULL;
        struct store_source *source = NULL;
        struct base_err err = {0};
        enum base_code code;

        (void)snprintf(name, sizeof(name), "case-%zu", i);
        sample_make_dir(tmp->path, name);
        path = base_path("%s/%s", tmp->path, name);
        assert_non_null(path);
        if (cases[i].a != NULL) {
            sample_put_st(path, cases[i].a, A_FILE, 8);
        }
        if (cases[i].b != NULL) {
            sample_put_st(path, cases[i].b, B_FILE, 12);
        }
        if (cases[i].index != NULL) {
            tree_dir_put(path, "model.safetensors.index.json",
                         base_str_of(cases[i].index));
        }
        code = store_source_open_dir(path, &options, &source, &err);
        if (code != cases[i].code || strstr(err.text, cases[i].says) == NULL) {
            fail_msg("case %zu: code %d: %s", i, (int)code, err.text);
        }
        assert_null(source);
    }
}

static void test_a_tensor_in_two_groups_is_refused(void **state)
{
    const struct tmp_dir *tmp = *state;
    struct store_source *source = NULL;
    struct base_err err = {0};

    sample_put_st(tmp->path, "x.safetensors", A_FILE, 8);
    sample_put_st(tmp->path, "y.safetensors", A_FILE, 8);
    assert_int_equal(store_source_open_dir(tmp->path, NULL, &source, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "tensor a"));
}

static void test_opens_one_file_and_no_rank_file_as_whole(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *part =
        base_path("%s/ranks/001/model.safetensors", path);
    BASE_AUTO_MEM char *whole = base_path("%s/x.safetensors", tmp->path);
    BASE_AUTO_MEM char *other = base_path("%s/note.txt", path);
    BASE_AUTO(store_source) source = NULL;
    struct store_source *none = NULL;
    struct base_err err = {0};

    sample_put_st(tmp->path, "x.safetensors", A_FILE, 8);
    assert_ok(store_source_open_dir(whole, NULL, &source, &err), &err);
    assert_int_equal(store_source_form(source), STORE_FORM_FILE);
    assert_int_equal(store_source_open_dir(part, NULL, &none, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "the file says"));
    assert_int_equal(store_source_open_dir(other, NULL, &none, &err),
                     BASE_BAD_INPUT);
    assert_int_equal(store_source_open_dir("/no/such", NULL, &none, &err),
                     BASE_NOT_FOUND);
}

/* --- specs -------------------------------------------------------------- */

static void test_a_spec_is_a_file_or_a_short_form_or_hf(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *file = base_path("%s/spec.yaml", tmp->path);
    const char *good[] = {"hf", "fsdp2:dp=2", file};
    static const struct {
        const char *text;
        enum base_code code;
        const char *says;
    } bad[] = {
        {"no/such.yaml", BASE_NOT_FOUND, "neither a file nor"},
        {"lama:tp=2", BASE_BAD_ARG, "did you mean llama?"},
        {"/", BASE_BAD_INPUT, "regular file"},
    };
    struct base_err err = {0};

    tree_dir_put(tmp->path, "spec.yaml",
                 BASE_STR("mesh: {}\nrules: [{match: '*'}]\n"));
    for (size_t i = 0; i < N_ITEMS(good); i++) {
        BASE_AUTO(ptc_spec) spec = NULL;
        bool is_hf = i != 0;

        assert_ok(store_spec_open(good[i], NULL, NULL, &spec, &is_hf, &err),
                  &err);
        assert_int_equal(is_hf, i == 0);
    }
    for (size_t i = 0; i < N_ITEMS(bad); i++) {
        struct ptc_spec *spec = NULL;
        bool is_hf;
        enum base_code code =
            store_spec_open(bad[i].text, NULL, NULL, &spec, &is_hf, &err);

        if (code != bad[i].code || strstr(err.text, bad[i].says) == NULL) {
            fail_msg("%s: code %d: %s", bad[i].text, (int)code, err.text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmp_dir_test(test_refuses_a_damaged_plain_form),
        tmp_dir_test(test_opens_the_plain_form),
        tmp_dir_test(test_links_to_regular_files_are_followed),
        tmp_dir_test(test_a_changed_blob_is_noticed),
        tmp_dir_test(test_replicas_and_ties_are_all_the_other_copies),
        tmp_dir_test(test_files_that_say_nothing_are_understood_by_a_spec),
        tmp_dir_test(test_the_wrong_spec_for_such_files_is_refused),
        tmp_dir_test(test_a_table_that_contradicts_a_file_is_refused),
        tmp_dir_test(test_files_must_agree_on_ties),
        tmp_dir_test(test_opens_whole_files),
        tmp_dir_test(test_refuses_whole_files_that_do_not_fit),
        tmp_dir_test(test_a_tensor_in_two_groups_is_refused),
        tmp_dir_test(test_opens_one_file_and_no_rank_file_as_whole),
        tmp_dir_test(test_a_spec_is_a_file_or_a_short_form_or_hf),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
