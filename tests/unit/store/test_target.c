#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <string.h>

#include "ptc/hf_index.h"
#include "tests/unit/store/sample.h"

struct shown {
    struct store_source *source;
    struct store_target *target;
    struct store_tree *tree;
};

static enum base_code show(const char *path,
                           const char *yaml, /* NULL: whole */
                           enum store_tree_kind kind,
                           struct shown *ret,
                           struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;

    *ret = (struct shown){0};
    assert_ok(store_source_open_dir(path, NULL, &ret->source, err), err);
    if (yaml == NULL) {
        assert_ok(ptc_spec_whole(&spec, err), err);
    } else {
        assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, err), err);
    }
    BASE_TRY(store_target_open(ret->source, &spec, &ret->target, err));
    return store_tree_create(ret->target, kind, &ret->tree, err);
}

static void shown_done(struct shown *shown)
{
    store_tree_free(shown->tree);
    store_target_free(shown->target);
    store_source_free(shown->source);
}

/* The node of a path, or PTC_NONE. */
static uint32_t node_at(const struct store_tree *tree, const char *path)
{
    uint32_t node = 0;

    while (*path != '\0' && node != PTC_NONE) {
        size_t len = strcspn(path, "/");

        node = store_tree_child(tree, node, (struct base_str){path, len});
        path += len + (path[len] == '/');
    }
    return node;
}

static const struct store_node *must_have(const struct store_tree *tree,
                                          const char *path,
                                          enum store_node_kind kind)
{
    uint32_t idx = node_at(tree, path);

    if (idx == PTC_NONE) {
        fail_msg("%s is not there", path);
    }
    assert_int_equal(store_tree_node(tree, idx)->kind, kind);
    return store_tree_node(tree, idx);
}

static void test_a_tree_of_ranks_has_what_the_ranks_show(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    const struct store_node *node;
    BASE_AUTO(ptc_file) file = NULL;
    struct shown shown;
    struct base_err err = {0};

    assert_ok(show(path, SAMPLE_DP4, STORE_TREE_RANKS, &shown, &err), &err);
    node = must_have(shown.tree, "layout.yaml", STORE_NODE_TEXT);
    assert_true(base_str_starts(node->text, BASE_STR("mesh: {dp: 4}")));
    (void)must_have(shown.tree, "note.txt", STORE_NODE_OBJECT);
    (void)must_have(shown.tree, "ranks/003", STORE_NODE_DIR);
    (void)must_have(shown.tree, "ranks/003/model.safetensors", STORE_NODE_FILE);
    node = must_have(shown.tree, "ranks/003/rng.txt", STORE_NODE_OBJECT);
    /* axis dp is new: coordinate 3 of 1 is 0 again */
    assert_non_null(strstr(node->object->label, "ranks/000/rng.txt"));
    assert_int_equal(node_at(shown.tree, "ranks/004"), PTC_NONE);
    assert_int_equal(store_target_n_dropped(shown.target), 1);
    assert_string_equal(store_target_dropped(shown.target, 0),
                        "ranks/001/rng.txt");
    assert_ok(
        store_tree_file(shown.tree,
                        node_at(shown.tree, "ranks/002/optim.safetensors"),
                        &file, &err),
        &err);
    assert_int_equal(ptc_file_rank(file), 2);
    shown_done(&shown);
}

static void
test_children_are_consecutive_sorted_and_know_their_parent(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct shown shown;
    struct base_err err = {0};
    uint32_t n = 1; /* the root */

    assert_ok(show(path, SAMPLE_TP2, STORE_TREE_RANKS, &shown, &err), &err);
    for (uint32_t i = 0; i < store_tree_n_nodes(shown.tree); i++) {
        const struct store_node *dir = store_tree_node(shown.tree, i);

        n += dir->child_end - dir->child_begin;
        for (uint32_t k = dir->child_begin; k < dir->child_end; k++) {
            const struct store_node *child = store_tree_node(shown.tree, k);

            assert_int_equal(child->parent, i);
            assert_true(k == dir->child_begin ||
                        base_str_cmp(child[-1].name, child->name) < 0);
        }
    }
    assert_int_equal(n, store_tree_n_nodes(shown.tree));
    shown_done(&shown);
}

static void
test_hf_has_groups_and_job_objects_and_drops_rank_objects(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct shown shown;
    struct base_err err = {0};

    assert_ok(show(path, NULL, STORE_TREE_HF, &shown, &err), &err);
    assert_int_equal(store_tree_n_nodes(shown.tree), 4);
    (void)must_have(shown.tree, "model.safetensors", STORE_NODE_FILE);
    (void)must_have(shown.tree, "optim.safetensors", STORE_NODE_FILE);
    (void)must_have(shown.tree, "note.txt", STORE_NODE_OBJECT);
    assert_int_equal(store_target_n_dropped(shown.target), 2);
    shown_done(&shown);
}

static void test_npy_has_every_tensor_by_name(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO(ptc_file) file = NULL;
    struct shown shown;
    struct base_err err = {0};

    assert_ok(show(path, NULL, STORE_TREE_NPY, &shown, &err), &err);
    assert_int_equal(store_tree_n_nodes(shown.tree), 1 + 7);
    (void)must_have(shown.tree, "t.npy", STORE_NODE_FILE); /* the tie, too */
    assert_ok(store_tree_file(shown.tree,
                              node_at(shown.tree, "optim.step.w.npy"), &file,
                              &err),
              &err);
    assert_int_equal(ptc_file_n_bytes(file), 4096 + 4);
    shown_done(&shown);
}

static void test_whole_trees_want_the_whole_layout(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct shown shown;
    struct base_err err = {0};

    assert_int_equal(show(path, SAMPLE_DP4, STORE_TREE_HF, &shown, &err),
                     BASE_BAD_ARG);
    shown_done(&shown);
}

/* A file as large as it says, of which only the header is on disk. */
static void put_sparse(const char *dir, const char *header, off_t n_bytes)
{
    BASE_AUTO_MEM char *path = base_path("%s/model.safetensors", dir);

    sample_put_st(dir, "model.safetensors", header, 0);
    assert_int_equal(truncate(path, 8 + (off_t)strlen(header) + n_bytes), 0);
}

static void test_hf_splits_at_five_gigabytes_and_writes_an_index(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO(ptc_hf_index) index = NULL;
    BASE_AUTO(ptc_file) file = NULL;
    const struct store_node *node;
    struct shown shown;
    struct base_err err = {0};

    put_sparse(tmp->path,
               "{\"a\":{\"dtype\":\"U8\",\"shape\":[3000000000],"
               "\"data_offsets\":[0,3000000000]},"
               "\"b\":{\"dtype\":\"U8\",\"shape\":[3000000000],"
               "\"data_offsets\":[3000000000,6000000000]}}",
               (off_t)6000000000);
    assert_ok(show(tmp->path, NULL, STORE_TREE_HF, &shown, &err), &err);
    assert_int_equal(store_tree_n_nodes(shown.tree), 4);
    node =
        must_have(shown.tree, "model.safetensors.index.json", STORE_NODE_TEXT);
    assert_ok(ptc_hf_index_parse(node->text, "index", &index, &err), &err);
    assert_int_equal(index->total_size, 6000000000);
    assert_int_equal(index->n_files, 2);
    assert_int_equal(index->entries[1].file, 1);
    assert_ok(
        store_tree_file(shown.tree,
                        node_at(shown.tree, "model-00002-of-00002.safetensors"),
                        &file, &err),
        &err);
    assert_true(
        base_str_eq(ptc_file_entry(file, 0)->shown.name, BASE_STR("b")));
    shown_done(&shown);
}

#define PAIR(a, b)                                                             \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[" #a "],\"data_offsets\":[0," #a      \
    "]},"                                                                      \
    "\"b\":{\"dtype\":\"U8\",\"shape\":[" #b "],\"data_offsets\":[" #a         \
    ",502]}}"
#define TIE_B "mesh: {dp: 2}\nrules: [{match: b, tie: a}, {match: a}]\n"

static void test_a_declared_tie_must_have_equal_bytes(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *good = base_path("%s/good", tmp->path);
    BASE_AUTO_MEM char *bad = base_path("%s/bad", tmp->path);
    struct shown shown;
    struct base_err err = {0};
    uint32_t b;

    sample_make_dir(tmp->path, "good");
    sample_make_dir(tmp->path, "bad");
    sample_put_st(good, "model.safetensors", PAIR(251, 251), 502);
    assert_ok(show(good, TIE_B, STORE_TREE_RANKS, &shown, &err), &err);
    b = ptc_table_find(store_target_table(shown.target), BASE_STR("b"));
    assert_int_not_equal(
        ptc_table_tensor(store_target_table(shown.target), b)->tie, PTC_NONE);
    shown_done(&shown);
    sample_put_st(bad, "model.safetensors", PAIR(251, 251), 502);
    {
        BASE_AUTO_MEM char *file = base_path("%s/model.safetensors", bad);
        BASE_AUTO_FD fd = open(file, O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "\xff", 1, lseek(fd, 0, SEEK_END) - 1), 1);
    }
    assert_int_equal(show(bad, TIE_B, STORE_TREE_RANKS, &shown, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "tensor b cannot be tied to a"));
    assert_non_null(strstr(err.text, "element [250] differs"));
    shown_done(&shown);
}

/* Two ranks of one layout.yaml, whose files have tensors of 251 bytes each. */
static char *write_tied(const struct tmp_dir *tmp, const char *name)
{
    char *dir = base_path("%s/%s", tmp->path, name);
    static const char *const ranks[] = {"ranks", "ranks/000", "ranks/001"};

    assert_non_null(dir);
    sample_make_dir(tmp->path, name);
    tree_dir_put(dir, "layout.yaml",
                 BASE_STR("mesh: {dp: 2}\nrules:\n"
                          "- {match: b, tie: a}\n"
                          "- {match: c, tie: a}\n"
                          "- {match: d, tie: a}\n"
                          "- {match: a}\n"));
    for (size_t i = 0; i < N_ITEMS(ranks); i++) {
        sample_make_dir(dir, ranks[i]);
        if (i > 0) {
            BASE_AUTO_MEM char *rank = base_path("%s/%s", dir, ranks[i]);

            sample_put_st(rank, "model.safetensors",
                          "{\"a\":{\"dtype\":\"U8\",\"shape\":[251],"
                          "\"data_offsets\":[0,251]},"
                          "\"b\":{\"dtype\":\"U8\",\"shape\":[251],"
                          "\"data_offsets\":[251,502]},"
                          "\"c\":{\"dtype\":\"U8\",\"shape\":[251],"
                          "\"data_offsets\":[502,753]},"
                          "\"d\":{\"dtype\":\"U8\",\"shape\":[251],"
                          "\"data_offsets\":[753,1004]}}",
                          1004);
        }
    }
    return dir;
}

static void test_ties_of_the_source_must_have_equal_bytes(void **state)
{
    static const char *const names = "bcd";
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *good = write_tied(tmp, "good");
    struct shown shown;
    struct base_err err = {0};

    assert_ok(show(good, NULL, STORE_TREE_HF, &shown, &err), &err);
    shown_done(&shown);
    for (size_t i = 0; names[i] != '\0'; i++) {
        char name[] = {names[i], '\0'};
        char text[] = "tensor ? cannot be tied to a";
        BASE_AUTO_MEM char *bad = write_tied(tmp, name);
        BASE_AUTO_MEM char *file =
            base_path("%s/ranks/000/model.safetensors", bad);
        BASE_AUTO_FD fd = open(file, O_RDWR | O_CLOEXEC);
        off_t end = lseek(fd, 0, SEEK_END);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "\xff", 1, end - 251 * (off_t)(2 - i) - 1),
                         1);
        assert_int_equal(show(bad, NULL, STORE_TREE_HF, &shown, &err),
                         BASE_MISMATCH);
        text[7] = names[i];
        assert_non_null(strstr(err.text, text));
        assert_non_null(strstr(err.text, "element [250] differs"));
        shown_done(&shown);
    }
}

static void test_an_object_without_a_source_is_refused(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *path = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct shown shown;
    struct base_err err = {0};

    assert_int_equal(show(path,
                          "mesh: {tp: 4}\nrules: [{match: '*'}]\n"
                          "objects: {'rng.txt': {on_change: refuse}}\n",
                          STORE_TREE_RANKS, &shown, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "rng.txt"));
    shown_done(&shown);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmp_dir_test(test_a_tree_of_ranks_has_what_the_ranks_show),
        tmp_dir_test(
            test_children_are_consecutive_sorted_and_know_their_parent),
        tmp_dir_test(test_hf_has_groups_and_job_objects_and_drops_rank_objects),
        tmp_dir_test(test_npy_has_every_tensor_by_name),
        tmp_dir_test(test_whole_trees_want_the_whole_layout),
        tmp_dir_test(test_hf_splits_at_five_gigabytes_and_writes_an_index),
        tmp_dir_test(test_a_declared_tie_must_have_equal_bytes),
        tmp_dir_test(test_ties_of_the_source_must_have_equal_bytes),
        tmp_dir_test(test_an_object_without_a_source_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
