/* Where a save's layout, table, objects and position come from; when it is the
 * same save; what is ignored. */
#include "tests/unit/store/saved.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/change.h"
#include "tests/prop/tree_dir.h"
#include "tests/unit/store/sample.h"

static void make_parent(struct saved *saved)
{
    saved_write_whole(saved);
    saved_write(saved, 10);
    saved_put(saved_in(saved, 10, "retile.json"),
              "{\"step\": 10, \"samples\": 640}");
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
}

static struct store_version *open_version(const struct saved *saved,
                                          uint64_t number)
{
    struct store_version *version = NULL;
    struct base_err err = {0};

    assert_ok(store_version_open(saved->root, "j", number, &version, &err),
              &err);
    return version;
}

static void must_have(const struct saved *saved,
                      uint64_t number,
                      const char *name,
                      uint32_t rank,
                      const char *text)
{
    BASE_AUTO_MEM char *has = saved_object(saved, number, name, rank);

    if (text == NULL) {
        assert_null(has);
    } else {
        assert_non_null(has);
        assert_string_equal(has, text);
    }
}

/* --- layouts ------------------------------------------------------------ */

static void test_a_first_save_says_its_layout_or_is_told_it(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM char *spec = strdup(saved_at(saved, "spec.yaml"));
    struct base_err err = {0};

    saved_write_whole(saved);
    saved_write(saved, 10);
    saved_put(spec, SAVED_3D);
    saved->spec = spec;
    assert_int_equal(saved_must_commit(saved, 10, 0), 1); /* both agree */

    saved_write(saved, 20);
    saved_unlink(saved_in(saved, 20, "layout.yaml"));
    assert_int_equal(saved_must_commit(saved, 20, 0), 2);
    saved_must_equal(saved, 2);

    saved_write(saved, 30);
    saved_put(saved_in(saved, 30, "layout.yaml"), "mesh: {dp: 8}\nrules: []\n");
    saved_must_refuse(saved, 30, 0,
                      "30/layout.yaml: is not the layout that is loaded");

    saved->spec = NULL;
    saved_unlink(saved_in(saved, 30, "layout.yaml"));
    saved_must_refuse(saved, 30, 0, "30: has no layout.yaml");

    saved->spec = "no-such-preset";
    assert_int_equal(
        saved_commit(saved, 30, 0, STORE_REPLICAS_WARN, &(uint64_t){0}, &err),
        BASE_NOT_FOUND);
    assert_int_equal(saved->n_refusals, 0); /* not the save's fault */
}

/* Ties of which the files say nothing, none of them true: each is told. */
static void test_each_tie_that_is_none_is_told(void **state)
{
    static const char rules[] =
        "rules:\n"
        "- {match: l1.a, dims: [tp], stage: layer, tie: l0.a}\n"
        "- {match: l1.b, dims: [~, tp], stage: layer, tie: l0.b}\n";
    const char *rest = strstr(SAVED_3D, "rules:\n") + strlen("rules:\n");
    struct saved *saved = *state;
    BASE_AUTO_BUF spec;

    base_buf_init(&spec, 4096);
    (void)base_buf_add(&spec, SAVED_3D,
                       strlen(SAVED_3D) - strlen(rest) - strlen("rules:\n"));
    (void)base_buf_addf(&spec, "%s%s", rules, rest);
    saved_write(saved, 10);
    saved_put(saved_in(saved, 10, "layout.yaml"), spec.ptr);
    saved_must_refuse(saved, 10, 0, "tensor l1.a cannot be tied to l0.a: ");
    assert_true(saved_was_told(saved, "tensor l1.b cannot be tied to l0.b: "));
}

static bool keep_all(void *ctx, struct base_str name)
{
    (void)ctx;
    (void)name;
    return true;
}

/* Files without a word of coordinates, each box from one rank only. */
static void test_a_first_save_is_inferred(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM char *spec = strdup(saved_at(saved, "spec.yaml"));
    struct base_err err = {0};
    BASE_AUTO(store_version) version = NULL;
    const struct ptc_table *table;

    saved_put(saved_at(saved, "spec.yaml"),
              "mesh: {pp: 2, dp: 2, tp: 2}\n"
              "stages: {axis: pp, layer: 'l(\\d+)'}\n"
              "rules:\n"
              "- {match: 'l*.a', dims: [tp], stage: layer}\n"
              "- {match: 'l*.b', dims: [~, tp], stage: layer}\n"
              "- {match: n, stage: all}\n"
              "- {match: e, dims: [tp], stage: first}\n"
              "- {match: t, dims: [tp], stage: last, tie: e}\n");
    saved->spec = spec;
    saved_write(saved, 10);
    saved_unlink(saved_in(saved, 10, "layout.yaml"));
    for (unsigned rank = 0; rank < 8; rank++) {
        saved_unlink(saved_in(saved, 10, "ranks/%03u/optim.safetensors", rank));
        tree_dir_thin(saved_in(saved, 10, "ranks/%03u/model.safetensors", rank),
                      keep_all, NULL, "10");
    }
    saved_unlink(saved_in(saved, 10, "ranks/000/model.safetensors"));
    saved_unlink(saved_in(saved, 10, "ranks/003/model.safetensors"));
    saved_unlink(saved_in(saved, 10, "ranks/006/model.safetensors"));
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
    version = open_version(saved, 1);
    table = store_version_table(version);
    assert_int_equal(ptc_table_n_tensors(table), 7);
    assert_int_equal(
        ptc_table_tensor(table, ptc_table_find(table, BASE_STR("l0.b")))
            ->shape[1],
        8);

    /* Nobody has the second half of l0.a: its shape is not known. */
    saved_write(saved, 20);
    saved_unlink(saved_in(saved, 20, "layout.yaml"));
    for (unsigned rank = 0; rank < 8; rank++) {
        saved_unlink(saved_in(saved, 20, "ranks/%03u/optim.safetensors", rank));
        tree_dir_thin(saved_in(saved, 20, "ranks/%03u/model.safetensors", rank),
                      keep_all, NULL, NULL);
    }
    saved_unlink(saved_in(saved, 20, "ranks/001/model.safetensors"));
    saved_unlink(saved_in(saved, 20, "ranks/003/model.safetensors"));
    saved_must_refuse(saved, 20, 0, "tensor e");
    assert_ok(base_dir_remove(store_staging_fd(saved->staging), "20", &err),
              &err);
}

/* --- groups ------------------------------------------------------------- */

static void
put_extra(const struct saved *saved, uint64_t step, const char *name)
{
    char header[200];

    (void)snprintf(header, sizeof(header),
                   "{\"%s\":{\"dtype\":\"F32\",\"shape\":[2,3],"
                   "\"data_offsets\":[0,24]}}",
                   name);
    sample_put_st(saved_in(saved, step, "ranks/005"), "extra.safetensors",
                  header, 24);
}

static void test_a_save_may_bring_a_group_and_then_has_it(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_version) version = NULL;
    const struct ptc_table *table;
    uint32_t idx;

    make_parent(saved);
    saved_write(saved, 20);
    put_extra(saved, 20, "x.k");
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    saved_must_equal(saved, 2);
    version = open_version(saved, 2);
    table = store_version_table(version);
    idx = ptc_table_find(table, BASE_STR("x.k"));
    assert_true(idx != PTC_NONE);
    assert_true(
        base_str_eq(ptc_table_tensor(table, idx)->group, BASE_STR("extra")));

    saved_write(saved, 30);
    saved_must_refuse(saved, 30, 2, "30: group extra is missing");
    put_extra(saved, 30, "x.l");
    saved_must_refuse(saved, 30, 2, "tensor x.l: neither the table nor a flat");
    saved_unlink(saved_in(saved, 30, "ranks/005/extra.safetensors"));
    put_extra(saved, 30, "x.k");
    assert_int_equal(saved_must_commit(saved, 30, 2), 3);

    saved_write(saved, 40); /* no rule has a word for it */
    put_extra(saved, 40, "y");
    saved_must_refuse(saved, 40, 1, "tensor y");
    saved_must_be_sound(saved);
}

/* --- objects and the position ------------------------------------------- */

static void test_job_objects_stay_and_the_position_does_not(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_version) first = NULL;
    BASE_AUTO(store_version) second = NULL;
    const struct ptc_manifest_head *head;

    make_parent(saved);
    first = open_version(saved, 1);
    head = ptc_manifest_head(store_version_manifest(first));
    assert_int_equal(head->step, 10);
    assert_int_equal(head->samples, 640);
    assert_int_equal(head->parent, 0);

    saved_write(saved, 20);
    saved_unlink(saved_in(saved, 20, "note.txt"));
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    assert_true(saved_was_told(saved, "20: has no retile.json"));
    must_have(saved, 2, "note.txt", PTC_NONE, "a job's object");
    must_have(saved, 2, "retile.json", PTC_NONE, NULL);
    second = open_version(saved, 2);
    head = ptc_manifest_head(store_version_manifest(second));
    assert_int_equal(head->step, 20);
    assert_int_equal(head->samples, UINT64_MAX);
    assert_int_equal(head->parent, 1);

    saved_write(saved, 30);
    saved_put(saved_in(saved, 30, "note.txt"), "");
    saved_put(saved_in(saved, 30, "more.txt"), "more");
    assert_int_equal(saved_must_commit(saved, 30, 2), 3);
    must_have(saved, 3, "note.txt", PTC_NONE, "");
    must_have(saved, 3, "more.txt", PTC_NONE, "more");
    saved_must_be_sound(saved);
}

static void test_a_kept_object_keeps_its_digest(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO(store_version) version = NULL;
    const struct ptc_manifest *manifest;
    struct base_err err = {0};
    uint64_t n_bytes = 0;

    make_parent(saved);
    assert_ok(saved_finish(saved, 10, STORE_REPLICAS_WARN, 1, &err), &err);
    saved_write(saved, 20);
    saved_unlink(saved_in(saved, 20, "note.txt"));
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    version = open_version(saved, 2);
    manifest = store_version_manifest(version);
    assert_int_equal(ptc_manifest_undigested(manifest, &n_bytes),
                     ptc_manifest_n_regions(manifest) - 1);
    saved_must_be_sound(saved);
}

static void test_a_job_s_object_may_become_the_ranks(void **state)
{
    struct saved *saved = *state;

    make_parent(saved);
    saved_write(saved, 20);
    saved_unlink(saved_in(saved, 20, "note.txt"));
    for (unsigned rank = 0; rank < 8; rank++) {
        saved_put(saved_in(saved, 20, "ranks/%03u/note.txt", rank), "own");
    }
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    must_have(saved, 2, "note.txt", PTC_NONE, NULL);
    must_have(saved, 2, "note.txt", 6, "own");
    saved_must_be_sound(saved);
}

static void test_objects_of_ranks_are_all_there_or_none(void **state)
{
    struct saved *saved = *state;

    make_parent(saved);
    saved_write(saved, 20); /* dp.txt varies over dp: two are due */
    saved_put(saved_in(saved, 20, "ranks/005/dp.txt"), "not the lowest");
    saved_put(saved_in(saved, 20, "ranks/001/dp.txt"), "dp 0");
    saved_must_refuse(saved, 20, 1, "20/ranks/002/dp.txt: missing");
    saved_put(saved_in(saved, 20, "ranks/007/dp.txt"), "dp 1");
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    must_have(saved, 2, "dp.txt", 0, "dp 0");
    must_have(saved, 2, "dp.txt", 1, NULL); /* rank 0's is shown */
    must_have(saved, 2, "dp.txt", 2, "dp 1");
    must_have(saved, 2, "rng.txt", 7, "rank 7");

    saved_write(saved, 30);
    for (unsigned rank = 0; rank < 8; rank++) {
        saved_unlink(saved_in(saved, 30, "ranks/%03u/rng.txt", rank));
    }
    assert_int_equal(saved_must_commit(saved, 30, 2), 3);
    assert_true(saved_was_told(saved, "30: no rank wrote dp.txt, which j@2"));
    assert_true(saved_was_told(saved, "30: no rank wrote rng.txt, which j@2"));
    must_have(saved, 3, "rng.txt", 0, NULL);
    saved_must_be_sound(saved);
}

static void test_what_ranks_wrote_of_one_object_is_compared(void **state)
{
    struct saved *saved = *state;
    struct base_err err = {0};

    make_parent(saved);
    saved_write(saved, 20);
    for (unsigned rank = 0; rank < 8; rank++) {
        saved_put(saved_in(saved, 20, "ranks/%03u/dp.txt", rank),
                  rank == 6 ? "another" : "of all");
    }
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    assert_ok(saved_finish(saved, 20, STORE_REPLICAS_WARN, 2, &err), &err);
    assert_true(saved_was_told(saved, "- 20/ranks/006/dp.txt and "
                                      "20/ranks/002/dp.txt differ"));
    assert_int_equal(saved->n_refusals, 0);
    must_have(saved, 2, "dp.txt", 2, "of all");
}

/* --- the same save ------------------------------------------------------ */

static void test_a_save_that_is_there_is_not_made_again(void **state)
{
    struct saved *saved = *state;
    BASE_AUTO_MEM char *before = NULL;
    BASE_AUTO_MEM char *after = NULL;

    make_parent(saved);
    saved_write(saved, 20);
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    before = saved_picture(saved_at(saved, "store"));
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    assert_int_equal(saved_must_commit(saved, 10, 0), 1);
    after = saved_picture(saved_at(saved, "store"));
    assert_string_equal(after, before);
    assert_int_equal(saved_must_commit(saved, 20, 2), 3); /* of another one */
    assert_int_equal(saved_must_commit(saved, 20, 0), 4); /* of none */
}

/* --- what is not looked at, and what is told ---------------------------- */

static void test_hidden_names_and_directories_are_ignored(void **state)
{
    struct saved *saved = *state;

    make_parent(saved);
    saved_write(saved, 20);
    saved_put(saved_in(saved, 20, ".hidden"), "");
    saved_put(saved_in(saved, 20, "half.tmp"), "");
    saved_put(saved_in(saved, 20, "ranks/001/.tmp1234"), "");
    saved_put(saved_in(saved, 20, "ranks/001/model.safetensors.tmp"), "");
    assert_int_equal(mkdir(saved_in(saved, 20, "ranks/.x"), 0700), 0);
    assert_int_equal(mkdir(saved_in(saved, 20, "logs"), 0700), 0);
    assert_int_equal(mkdir(saved_in(saved, 20, "ranks/003/deep"), 0700), 0);
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    saved_must_equal(saved, 2);
    assert_true(saved_was_told(saved, "20/logs: "));
    assert_true(saved_was_told(saved, "20/ranks/003/deep: "));
}

static void test_names_are_names(void **state)
{
    struct saved *saved = *state;
    static const char *const names[] = {"../10", "", ".done.10", "a/b"};
    struct base_err err = {0};
    uint64_t number = 0;

    for (size_t i = 0; i < N_ITEMS(names); i++) {
        struct store_save save = {.name = names[i], .step = 10};
        enum base_code code =
            store_save_commit(saved->staging, &save, &number, &err);

        assert_true(code == BASE_BAD_ARG || code == BASE_BAD_INPUT);
    }
    assert_int_equal(
        saved_commit(saved, 10, 0, STORE_REPLICAS_WARN, &number, &err),
        BASE_NOT_FOUND);
    saved_write(saved, 10);
    assert_int_equal(
        saved_commit(saved, 10, 7, STORE_REPLICAS_WARN, &number, &err),
        BASE_NOT_FOUND);
}

/* --- while it is committed ---------------------------------------------- */

static struct saved *hooked;

static void write_more(void)
{
    saved_flip(saved_in(hooked, 20, "ranks/003/optim.safetensors"), 3);
}

static void replace_file(void)
{
    const char *path = saved_in(hooked, 20, "ranks/000/model.safetensors");

    hooked->hook = NULL;
    tree_dir_thin(path, keep_all, NULL, NULL);
}

static void remove_file(void)
{
    hooked->hook = NULL;
    saved_unlink(saved_in(hooked, 20, "ranks/000/model.safetensors"));
}

static void test_what_changes_meanwhile_is_not_published(void **state)
{
    static void (*const hooks[])(void) = {write_more, replace_file,
                                          remove_file};
    struct saved *saved = *state;

    make_parent(saved);
    hooked = saved;
    for (size_t i = 0; i < N_ITEMS(hooks); i++) {
        struct base_err err = {0};
        uint64_t number = 0;

        saved_write(saved, 20);
        saved->hook = hooks[i]; /* it is said that there is no position */
        assert_int_equal(
            saved_commit(saved, 20, 1, STORE_REPLICAS_WARN, &number, &err),
            BASE_CHANGED);
        saved->hook = NULL;
        assert_ok(base_dir_remove(store_staging_fd(saved->staging), "20", &err),
                  &err);
    }
    assert_int_equal(saved_n_versions(saved), 1);
    saved_must_be_sound(saved);
}

/* --- afterwards --------------------------------------------------------- */

static void test_finish_digests_compares_and_removes(void **state)
{
    struct saved *saved = *state;
    struct base_err err = {0};
    BASE_AUTO(store_version) version = NULL;
    uint64_t n_bytes = 1, number = 0;
    struct stat st;

    make_parent(saved);
    saved_write(saved, 20);
    saved_flip(saved_in(saved, 20, "ranks/002/model.safetensors"), 0);
    assert_ok(saved_commit(saved, 20, 1, STORE_REPLICAS_WARN, &number, &err),
              &err);
    saved_must_equal(saved, 2); /* rank 0's counts */
    assert_ok(saved_finish(saved, 20, STORE_REPLICAS_WARN, 2, &err), &err);
    assert_true(saved_was_told(
        saved, "tensor n: element [4] differs in 20/ranks/002/model."));
    assert_int_equal(saved->n_refusals, 0);
    assert_int_equal(stat(saved_in(saved, 20, "%s", ""), &st), -1);
    version = open_version(saved, 2);
    assert_int_equal(
        ptc_manifest_undigested(store_version_manifest(version), &n_bytes), 0);
    saved_must_equal(saved, 2);
    /* Once more, when a killed one has done it: nothing. */
    assert_ok(saved_finish(saved, 20, STORE_REPLICAS_WARN, 2, &err), &err);
    assert_int_equal(saved->told.len, 0);
    saved_must_be_sound(saved);
}

static void test_finish_of_a_released_version_removes_its_files(void **state)
{
    struct saved *saved = *state;
    struct base_err err = {0};
    struct stat st;

    make_parent(saved);
    saved_write(saved, 20);
    assert_int_equal(saved_must_commit(saved, 20, 1), 2);
    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    assert_ok(store_version_release(saved->root, "j", 1, &err), &err);
    store_root_unlock(saved->root);
    assert_ok(saved_finish(saved, 10, STORE_REPLICAS_WARN, 1, &err), &err);
    assert_int_equal(stat(saved_in(saved, 10, "%s", ""), &st), -1);
    saved_must_equal(saved, 2);
    saved_must_be_sound(saved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saved_test(test_a_first_save_says_its_layout_or_is_told_it),
        saved_test(test_each_tie_that_is_none_is_told),
        saved_test(test_a_first_save_is_inferred),
        saved_test(test_a_save_may_bring_a_group_and_then_has_it),
        saved_test(test_job_objects_stay_and_the_position_does_not),
        saved_test(test_a_kept_object_keeps_its_digest),
        saved_test(test_a_job_s_object_may_become_the_ranks),
        saved_test(test_objects_of_ranks_are_all_there_or_none),
        saved_test(test_what_ranks_wrote_of_one_object_is_compared),
        saved_test(test_a_save_that_is_there_is_not_made_again),
        saved_test(test_hidden_names_and_directories_are_ignored),
        saved_test(test_names_are_names),
        saved_test(test_what_changes_meanwhile_is_not_published),
        saved_test(test_finish_digests_compares_and_removes),
        saved_test(test_finish_of_a_released_version_removes_its_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
