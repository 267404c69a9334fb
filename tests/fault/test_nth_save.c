/* Allocations and system calls that fail while a save becomes a version, is
 * digested and compacted. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "base/file.h"
#include "store/compact.h"
#include "store/save.h"
#include "tests/fault/store_lab.h"
#include "tests/unit/store/sample.h"

/* Of each kind of failure in a scenario; RETILE_CASES=100000 takes all. */
enum { N_CASES = 30 };

static const struct store_import_options one_thread = {.n_threads = 1};

static enum base_code open_root(struct store_root **ret, struct base_err *err)
{
    return store_root_open(store_lab_at("store"), ret, err);
}

/* --- saves -------------------------------------------------------------- */

static struct store_save save = {.name = "100", .step = 100};

/* What the ranks of layout "a" write; they do not fail here. */
static void write_save(const struct store_staging *staging)
{
    BASE_AUTO_MEM char *path = NULL;

    nth_pause();
    path = base_path("%s/100", store_staging_path(staging));
    assert_non_null(path);
    store_lab_copy(store_lab_at("a"), path);
    nth_resume();
}

static enum base_code finish(const struct store_staging *staging,
                             uint64_t number,
                             struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;

    BASE_TRY(open_root(&root, err));
    return store_save_finish(root, store_staging_path(staging), "j", &save,
                             number, NULL, err);
}

/* A mount that could not begin, or end, well: whoever takes the store's lock
 * next removes what it left in staging. */
static void clear_staging(struct store_root *root)
{
    struct base_err err;

    nth_pause();
    assert_ok(store_root_lock(root, 0, &err), &err);
    store_root_unlock(root);
    nth_resume();
}

/* What comes between the opening and the removing of a staging. */
typedef enum base_code (*staged_fn)(struct store_staging *staging,
                                    struct base_err *err);

static enum base_code with_staging(staged_fn fn, struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    struct store_staging *staging = NULL;
    enum base_code code;
    enum base_code removed;

    BASE_TRY(open_root(&root, err));
    code = store_staging_open(root, "j", &staging, err);
    if (code != BASE_OK) {
        clear_staging(root);
        return code;
    }
    code = fn(staging, err);
    removed = store_staging_remove(&staging, code == BASE_OK ? err : NULL);
    if (removed != BASE_OK) {
        clear_staging(root);
    }
    return code == BASE_OK ? removed : code;
}

static enum base_code no_save(struct store_staging *staging,
                              struct base_err *err)
{
    uint64_t n_bytes = 0;

    BASE_TRY(store_staging_room(staging, &n_bytes, err));
    assert_true(n_bytes > 0);
    return BASE_OK;
}

static enum base_code do_staging(struct base_err *err)
{
    return with_staging(no_save, err);
}

static enum base_code commit(struct store_staging *staging,
                             struct base_err *err)
{
    uint64_t number = 0;

    write_save(staging);
    return store_save_commit(staging, &save, &number, err);
}

static enum base_code do_commit(struct base_err *err)
{
    return with_staging(commit, err);
}

/* What failed can be done again, with what the ranks wrote. */
static enum base_code commit_twice(struct store_staging *staging,
                                   struct base_err *err)
{
    enum base_code code = commit(staging, err);
    struct base_err again = {0};
    uint64_t number = 0;

    nth_pause();
    assert_ok(store_save_commit(staging, &save, &number, &again), &again);
    nth_resume();
    return code;
}

static enum base_code do_commit_twice(struct base_err *err)
{
    return with_staging(commit_twice, err);
}

static enum base_code commit_and_finish(struct store_staging *staging,
                                        struct base_err *err)
{
    struct base_err again = {0};
    enum base_code code;
    uint64_t number = 0;

    write_save(staging);
    nth_pause();
    assert_ok(store_save_commit(staging, &save, &number, &again), &again);
    nth_resume();
    code = finish(staging, number, err);
    if (code != BASE_OK) {
        nth_pause();
        assert_ok(finish(staging, number, &again), &again);
        nth_resume();
    }
    return code;
}

static enum base_code do_finish(struct base_err *err)
{
    return with_staging(commit_and_finish, err);
}

/* A save that a coordinator decides about. */
static enum base_code vote(struct store_staging *staging, struct base_err *err)
{
    enum base_code code;

    save.attempt.number = 7;
    code = commit(staging, err);
    save.attempt.number = 0;
    return code;
}

static enum base_code do_vote(struct base_err *err)
{
    return with_staging(vote, err);
}

/* What failed can be done again. */
static enum base_code publish(struct store_staging *staging,
                              struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    struct base_err again = {0};
    enum base_code code;
    uint64_t number = 0;

    write_save(staging);
    nth_pause();
    assert_ok(open_root(&root, &again), &again);
    save.attempt.number = 7;
    assert_ok(store_save_commit(staging, &save, &number, &again), &again);
    save.attempt.number = 0;
    nth_resume();
    code = store_vote_publish(root, "j", 7, err);
    if (code != BASE_OK) {
        nth_pause();
        assert_ok(store_vote_publish(root, "j", 7, &again), &again);
        nth_resume();
    }
    return code;
}

static enum base_code do_publish(struct base_err *err)
{
    return with_staging(publish, err);
}

static void arrange_nothing(struct store_root *root)
{
    (void)root;
}

static void arrange_one(struct store_root *root)
{
    assert_int_equal(store_lab_import(root, "a"), 1);
}

static void test_save(void **state)
{
    (void)state;
    save.parent = 0;
    store_lab_run("staging", arrange_nothing, do_staging, N_CASES);
    store_lab_run("commit of the first", arrange_nothing, do_commit, N_CASES);
    save.parent = 1;
    store_lab_run("commit", arrange_one, do_commit, N_CASES);
    store_lab_run("finish", arrange_one, do_finish, N_CASES);
    store_lab_run("vote", arrange_one, do_vote, N_CASES);
    store_lab_run("publish", arrange_one, do_publish, N_CASES);
    save.replicas = STORE_REPLICAS_REFUSE;
    store_lab_run("commit twice", arrange_one, do_commit_twice, N_CASES);
    save.replicas = STORE_REPLICAS_WARN;
}

/* --- upkeep ------------------------------------------------------------- */

static void arrange_undigested(struct store_root *root)
{
    struct base_err err;

    (void)root;
    save.parent = 0;
    assert_ok(with_staging(commit, &err), &err);
}

static enum base_code do_digest(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    uint64_t n_bytes = 0;

    BASE_TRY(open_root(&root, err));
    return store_digest_version(root, "j", 0, &one_thread, &n_bytes, err);
}

static void arrange_rescaled(struct store_root *root)
{
    arrange_one(root);
    assert_int_equal(store_lab_rescale(root, SAMPLE_DP4), 2);
}

static enum base_code do_compact(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    struct store_worth worth;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_compact_worth(root, "j", 2, &worth, err));
    return store_compact(root, "j", 2, &one_thread, err);
}

static void test_upkeep(void **state)
{
    (void)state;
    store_lab_run("digest", arrange_undigested, do_digest, N_CASES);
    store_lab_run("compact", arrange_rescaled, do_compact, N_CASES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_lab_test(test_save),
        store_lab_test(test_upkeep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
