/* Allocations and system calls that fail while a store is made, opened, changed
 * and checked. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/io.h"
#include "store/copy.h"
#include "store/gather.h"
#include "store/target.h"
#include "store/vote.h"
#include "tests/fault/store_lab.h"
#include "tests/unit/store/sample.h"

/* Of each kind of failure in a scenario; RETILE_CASES=100000 takes all. */
enum { N_CASES = 30, SCRATCH_BYTES = 1 << 16 };

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "out of memory");
}

static enum base_code open_root(struct store_root **ret, struct base_err *err)
{
    return store_root_open(store_lab_at("store"), ret, err);
}

static enum base_code open_version(const struct store_root *root,
                                   uint64_t number,
                                   struct store_source **ret,
                                   struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;

    BASE_TRY(store_version_open(root, "j", number, &version, err));
    return store_source_open_version(root, &version, ret, err);
}

/* --- a new store -------------------------------------------------------- */

static enum base_code do_init(struct base_err *err)
{
    return store_root_init(store_lab_at("new"), 1u << 30, err);
}

/* What failed can be done again, or was done. */
static void check_init(const struct nth_failure *failure, enum base_code rc)
{
    struct store_root *root = NULL;
    struct base_err err;

    if (store_root_open(store_lab_at("new"), &root, &err) != BASE_OK) {
        assert_int_not_equal(rc, BASE_OK);
        if (do_init(&err) != BASE_OK) {
            nth_wrong(failure, "not to be made again: %s", err.text);
            assert_ok(base_dir_remove(AT_FDCWD, store_lab_at("new"), &err),
                      &err);
            assert_ok(do_init(&err), &err);
        }
        assert_ok(store_root_open(store_lab_at("new"), &root, &err), &err);
    }
    store_root_free(root);
    assert_ok(base_dir_remove(AT_FDCWD, store_lab_at("new"), &err), &err);
}

static void test_init(void **state)
{
    const struct nth_scenario scenario = {
        .name = "init", .run = do_init, .check = check_init};

    (void)state;
    nth_run(&scenario, UINT64_MAX);
}

static void arrange_nothing(struct store_root *root)
{
    (void)root;
}

/* --- reading ------------------------------------------------------------ */

/* j@1 imported, j@2 the same rescaled, j@3 imported from other files. */
static void arrange_three(struct store_root *root)
{
    assert_int_equal(store_lab_import(root, "a"), 1);
    assert_int_equal(store_lab_rescale(root, SAMPLE_DP4), 2);
    assert_int_equal(store_lab_import(root, "b"), 3);
}

static enum base_code do_open(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    uint64_t used, budget;
    char **names = NULL;
    size_t n = 0;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_root_jobs(root, &names, &n, err));
    base_names_free(names, n);
    BASE_TRY(store_root_versions(root, "j", &numbers, &n, err));
    assert_int_equal(n, 3);
    return store_root_usage(root, &used, &budget, err);
}

static void test_open(void **state)
{
    (void)state;
    store_lab_run("open", arrange_three, do_open, UINT64_MAX);
}

/* A shown file, by the mount's way and by the export's: the same bytes. */
struct reading {
    const struct store_source *source;
    const struct store_target *target;
    struct store_maps *maps;
    void *scratch;
};

static enum base_code gather_file(const struct reading *reading,
                                  const struct ptc_file *file,
                                  struct base_buf *ret,
                                  struct base_err *err)
{
    BASE_AUTO(ptc_view) view = NULL;
    BASE_AUTO_MEM struct store_gather *part = calloc(1, sizeof(*part));

    if (part == NULL) {
        return no_mem(err);
    }
    BASE_TRY(ptc_view_create(file, store_target_pieces(reading->target), &view,
                             err));
    do {
        BASE_TRY(store_gather(reading->maps, view, ret->len, SCRATCH_BYTES,
                              reading->scratch, SCRATCH_BYTES, part, err));
        for (uint32_t i = 0; i < part->n_iov; i++) {
            (void)base_buf_add(ret, part->iov[i].iov_base,
                               part->iov[i].iov_len); /* sticky */
        }
        BASE_TRY(base_buf_check(ret, err));
    } while (part->n_bytes > 0);
    return BASE_OK;
}

static enum base_code copy_file(const struct reading *reading,
                                const struct ptc_file *file,
                                int fd,
                                struct base_err *err)
{
    const struct store_copy_options options = {
        .n_threads = 1, .memory_bytes = 1u << 20, .block_bytes = 64};
    struct store_copy_file job = {.file = file, .fd = fd, .label = "out"};
    struct base_str header = ptc_file_header(file);

    BASE_TRY(base_io_pwrite(fd, header.ptr, header.len, 0, "out", err));
    return store_copy(reading->source, store_target_pieces(reading->target),
                      &job, 1, &options, err);
}

static enum base_code read_file(const struct reading *reading,
                                const struct ptc_file *file,
                                struct base_err *err)
{
    BASE_AUTO_BUF gathered;
    BASE_AUTO_BUF copied;
    BASE_AUTO_FD fd = -1;

    base_buf_init(&gathered, 1u << 20);
    base_buf_init(&copied, 1u << 20);
    BASE_TRY(gather_file(reading, file, &gathered, err));
    BASE_TRY(base_io_open(AT_FDCWD, store_lab_at("out"),
                          O_RDWR | O_CREAT | O_TRUNC, 0600, "out", &fd, err));
    BASE_TRY(copy_file(reading, file, fd, err));
    BASE_TRY(base_file_read(AT_FDCWD, store_lab_at("out"), &copied, err));
    assert_int_equal(gathered.len, ptc_file_n_bytes(file));
    assert_int_equal(copied.len, gathered.len);
    assert_memory_equal(copied.ptr, gathered.ptr, copied.len);
    return BASE_OK;
}

static enum base_code read_tree(const struct reading *reading,
                                const struct store_tree *tree,
                                struct base_err *err)
{
    for (uint32_t i = 0; i < store_tree_n_nodes(tree); i++) {
        BASE_AUTO(ptc_file) file = NULL;

        if (store_tree_node(tree, i)->kind == STORE_NODE_FILE) {
            BASE_TRY(store_tree_file(tree, i, &file, err));
            BASE_TRY(read_file(reading, file, err));
        }
    }
    return BASE_OK;
}

static enum base_code do_read(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(store_target) target = NULL;
    BASE_AUTO(store_tree) tree = NULL;
    BASE_AUTO(store_maps) maps = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_MEM void *scratch = aligned_alloc(4096, SCRATCH_BYTES);
    struct reading reading = {.scratch = scratch};

    if (scratch == NULL) {
        return no_mem(err);
    }
    BASE_TRY(open_root(&root, err));
    BASE_TRY(open_version(root, 2, &source, err));
    BASE_TRY(ptc_spec_parse(BASE_STR(SAMPLE_TP2), "spec", &spec, err));
    BASE_TRY(store_target_open(source, &spec, &target, err));
    BASE_TRY(store_tree_create(target, STORE_TREE_RANKS, &tree, err));
    maps = store_maps_create(source);
    if (maps == NULL) {
        return no_mem(err);
    }
    reading.source = source;
    reading.target = target;
    reading.maps = maps;
    return read_tree(&reading, tree, err);
}

static void test_read(void **state)
{
    struct base_err err;

    (void)state;
    assert_ok(store_guard_install(&err), &err);
    store_lab_run("read", arrange_three, do_read, N_CASES);
}

/* --- directories --------------------------------------------------------- */

/* The state of "a" as one Hugging Face directory, "hf", and two shards as
 * PyTorch DCP writes them, "dcp". */
static void arrange_directories(struct store_root *root)
{
    const struct store_copy_options options = {.n_threads = 1};
    struct base_err err;

    (void)root;
    assert_ok(tree_dir_convert(store_lab_at("a"), store_lab_at("hf"), NULL,
                               STORE_TREE_HF, &options, &err),
              &err);
    sample_make_dir(store_lab_at("."), "dcp");
    sample_put_st(
        store_lab_at("dcp"), "shard-00001-model-00001-of-00002.safetensors",
        "{\"__metadata__\":{\"DCP_SHARDING_INFO\":\"{\\\"w\\\":{"
        "\\\"saved_offsets\\\":[0,0]}}\"}," F32("w", "[2,2]", 0, 16) "}",
        16);
    sample_put_st(
        store_lab_at("dcp"), "shard-00002-model-00002-of-00002.safetensors",
        "{\"__metadata__\":{\"DCP_SHARDING_INFO\":\"{\\\"w\\\":{"
        "\\\"saved_offsets\\\":[2,0]}}\"}," F32("w", "[1,2]", 0, 8) "}",
        8);
}

static enum base_code do_dcp(struct base_err *err)
{
    BASE_AUTO(store_source) source = NULL;

    BASE_TRY(store_source_open_dir(store_lab_at("dcp"), NULL, &source, err));
    assert_int_equal(store_source_form(source), STORE_FORM_SHARDED);
    return BASE_OK;
}

/* Opened, replicas and all, and compared: what `retile verify` does. */
static enum base_code do_verify(struct base_err *err)
{
    const struct store_copy_options options = {.n_threads = 1};
    BASE_AUTO(store_source) a = NULL;
    BASE_AUTO(store_source) hf = NULL;

    BASE_TRY(store_source_open_dir(store_lab_at("a"), NULL, &a, err));
    BASE_TRY(store_source_open_dir(store_lab_at("hf"), NULL, &hf, err));
    BASE_TRY(store_compare(hf, store_source_pieces(hf), a,
                           store_source_pieces(a), NULL, &options, err));
    return store_compare(a, store_source_replicas(a), a, store_source_pieces(a),
                         NULL, &options, err);
}

/* The tree of single tensors, of a layout that a short form or a file says. */
static enum base_code do_tree(struct base_err *err)
{
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(store_target) target = NULL;
    BASE_AUTO(store_tree) tree = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    bool is_hf = false;

    BASE_TRY(store_source_open_dir(store_lab_at("a"), NULL, &source, err));
    BASE_TRY(store_spec_open_source("hf", source, &spec, &is_hf, err));
    assert_true(is_hf);
    BASE_TRY(store_target_open(source, &spec, &target, err));
    return store_tree_create(target, STORE_TREE_NPY, &tree, err);
}

static void test_directories(void **state)
{
    (void)state;
    store_lab_run("verify", arrange_directories, do_verify, N_CASES);
    store_lab_run("sharded", arrange_nothing, do_dcp, N_CASES);
    store_lab_run("tree", arrange_nothing, do_tree, N_CASES);
}

/* --- checking ----------------------------------------------------------- */

static void ignore(void *ctx, const char *text)
{
    (void)text;
    (*(uint64_t *)ctx)++;
}

static enum base_code do_check(bool is_scrub, struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    uint64_t n_told = 0;
    uint64_t n = 0;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_check(root, is_scrub, 1, NULL, ignore, &n_told, &n, err));
    assert_int_equal(n, n_told);
    return n == 0 ? BASE_OK : base_fail(err, BASE_IO, "the check has findings");
}

static enum base_code do_fsck(struct base_err *err)
{
    return do_check(false, err);
}

static enum base_code do_scrub(struct base_err *err)
{
    return do_check(true, err);
}

static void test_checks(void **state)
{
    (void)state;
    store_lab_run("fsck", arrange_three, do_fsck, N_CASES);
    store_lab_run("scrub", arrange_three, do_scrub, N_CASES);
}

/* --- changing ----------------------------------------------------------- */

static enum base_code do_import(struct base_err *err)
{
    const struct store_import_options options = {.n_threads = 1};
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO(store_source) source = NULL;
    uint64_t number;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_source_open_dir(store_lab_at("b"), NULL, &source, err));
    return store_import(root, "j", source, &options, NULL, &number, err);
}

static void arrange_one(struct store_root *root)
{
    assert_int_equal(store_lab_import(root, "a"), 1);
}

static void test_import(void **state)
{
    (void)state;
    store_lab_run("first import", arrange_nothing, do_import, N_CASES);
    store_lab_run("import", arrange_one, do_import, N_CASES);
}

static enum base_code do_rescale(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    uint64_t number;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(ptc_spec_parse(BASE_STR(SAMPLE_DP4), "spec", &spec, err));
    return store_rescale(root, "j", 0, &spec, NULL, NULL, NULL, &number, err);
}

static enum base_code do_rollback(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    uint64_t number;

    BASE_TRY(open_root(&root, err));
    return store_rollback(root, "j", 1, NULL, &number, err);
}

static void test_rescale(void **state)
{
    (void)state;
    store_lab_run("rescale", arrange_one, do_rescale, N_CASES);
    store_lab_run("rollback", arrange_three, do_rollback, N_CASES);
}

/* --- votes -------------------------------------------------------------- */

static const struct store_attempt attempt = {7, 1};

static enum base_code vote(struct store_root *root, struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    uint64_t number;

    BASE_TRY(ptc_spec_parse(BASE_STR(SAMPLE_DP4), "spec", &spec, err));
    return store_rescale(root, "j", 0, &spec, NULL, NULL, &attempt, &number,
                         err);
}

static enum base_code do_vote(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;

    BASE_TRY(open_root(&root, err));
    return vote(root, err);
}

static void arrange_voted(struct store_root *root)
{
    struct base_err err;

    arrange_one(root);
    assert_ok(vote(root, &err), &err);
}

static enum base_code do_publish(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;

    BASE_TRY(open_root(&root, err));
    return store_vote_publish(root, "j", 7, err);
}

static enum base_code do_discard(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;

    BASE_TRY(open_root(&root, err));
    return store_vote_remove(root, "j", 7, err);
}

static enum base_code do_list(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    size_t n = 0;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_vote_list(root, &votes, &n, err));
    assert_int_equal(n, 1);
    return do_check(false, err);
}

/* The owner's, and another's that serves it. */
static enum base_code do_own(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    BASE_AUTO(store_root) other = NULL;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_root_own(root, err));
    BASE_TRY(open_root(&other, err));
    store_root_serve_owner(other);
    return store_root_lock(other, 0, err);
}

static void test_votes(void **state)
{
    (void)state;
    store_lab_run("vote", arrange_one, do_vote, N_CASES);
    store_lab_run("vote again", arrange_voted, do_vote, N_CASES);
    store_lab_run("publish", arrange_voted, do_publish, N_CASES);
    store_lab_run("remove", arrange_voted, do_discard, N_CASES);
    store_lab_run("list votes", arrange_voted, do_list, N_CASES);
    store_lab_run("own", arrange_one, do_own, N_CASES);
}

#define LOCK_WAIT_NS ((int64_t)1000000000)

static enum base_code do_pin(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_root_lock(root, LOCK_WAIT_NS, err));
    return store_version_pin(root, "j", 1, "for the paper", err);
}

static enum base_code do_unpin(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_root_lock(root, LOCK_WAIT_NS, err));
    return store_version_pin(root, "j", 1, NULL, err);
}

static void arrange_pinned(struct store_root *root)
{
    struct base_err err;

    arrange_one(root);
    assert_ok(store_root_lock(root, 0, &err), &err);
    assert_ok(store_version_pin(root, "j", 1, "for a while", &err), &err);
    store_root_unlock(root);
}

static enum base_code do_release(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_root_lock(root, LOCK_WAIT_NS, err));
    return store_version_release(root, "j", 1, err);
}

/* Blobs that no version needs any more. */
static void arrange_released(struct store_root *root)
{
    struct base_err err;

    arrange_one(root);
    assert_int_equal(store_lab_import(root, "b"), 2);
    assert_ok(store_root_lock(root, 0, &err), &err);
    assert_ok(store_version_release(root, "j", 1, &err), &err);
    store_root_unlock(root);
}

static enum base_code do_sweep(struct base_err *err)
{
    BASE_AUTO(store_root) root = NULL;
    struct store_sweep swept;

    BASE_TRY(open_root(&root, err));
    BASE_TRY(store_root_lock(root, LOCK_WAIT_NS, err));
    return store_sweep(root, &swept, err);
}

static void test_upkeep(void **state)
{
    (void)state;
    store_lab_run("pin", arrange_one, do_pin, N_CASES);
    store_lab_run("pin again", arrange_pinned, do_pin, N_CASES);
    store_lab_run("unpin", arrange_pinned, do_unpin, N_CASES);
    store_lab_run("release", arrange_three, do_release, N_CASES);
    store_lab_run("sweep", arrange_released, do_sweep, N_CASES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        store_lab_test(test_init),        store_lab_test(test_open),
        store_lab_test(test_read),        store_lab_test(test_checks),
        store_lab_test(test_directories), store_lab_test(test_import),
        store_lab_test(test_rescale),     store_lab_test(test_votes),
        store_lab_test(test_upkeep),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
