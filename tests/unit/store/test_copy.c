#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "store/copy.h"
#include "store/slabs.h"
#include "store/strided.h"
#include "tests/unit/store/sample.h"

static struct store_source *open_source(const char *path)
{
    struct store_source *source = NULL;
    struct base_err err = {0};

    assert_ok(store_source_open_dir(path, NULL, &source, &err), &err);
    return source;
}

static void test_converts_there_and_back(void **state)
{
    static const uint64_t blocks[] = {0, 64, 8};
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *b_due = sample_write(tmp->path, "b", SAMPLE_DP4);
    struct base_err err = {0};

    for (size_t i = 0; i < N_ITEMS(blocks); i++) {
        struct store_copy_options options = {.n_threads = 1 + (unsigned)i,
                                             .block_bytes = blocks[i]};
        BASE_AUTO_MEM char *b = base_path("%s/b%zu", tmp->path, i);
        BASE_AUTO_MEM char *again = base_path("%s/a%zu", tmp->path, i);

        assert_ok(tree_dir_convert(a, b, SAMPLE_DP4, STORE_TREE_RANKS, &options,
                                   &err),
                  &err);
        tree_dir_same(b, b_due, "rng.txt");
        assert_ok(tree_dir_convert(b, again, SAMPLE_TP2, STORE_TREE_RANKS,
                                   &options, &err),
                  &err);
        tree_dir_same(a, again, "rng.txt");
    }
}

/* A target of rank files, made but not copied. */
struct output {
    struct store_source *source;
    struct store_target *target;
    struct ptc_file *shown[8];
    struct store_copy_file files[8];
    uint32_t n;
};

static void output_open(struct output *out,
                        const struct tmp_dir *tmp,
                        const char *path,
                        const char *yaml,
                        uint32_t max_files)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct base_err err = {0};
    const struct ptc_layout *layout;

    *out = (struct output){.source = open_source(path)};
    assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, &err), &err);
    assert_ok(store_target_open(out->source, &spec, &out->target, &err), &err);
    layout = store_target_layout(out->target);
    for (ptc_rank rank = 0; rank < ptc_layout_n_ranks(layout); rank++) {
        for (uint32_t g = 0; g < 2 && out->n < max_files; g++) {
            struct ptc_file **shown = &out->shown[out->n];

            assert_ok(ptc_file_create_rank(
                          layout, rank,
                          ptc_table_group(store_target_table(out->target), g),
                          shown, &err),
                      &err);
            assert_non_null(*shown);
            out->files[out->n] = (struct store_copy_file){
                .file = *shown,
                .fd = open(tmp->path, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600),
                .label = "target"};
            assert_true(out->files[out->n].fd >= 0);
            out->n++;
        }
    }
}

static enum base_code output_copy(struct output *out,
                                  const struct store_copy_options *options,
                                  struct base_err *err)
{
    return store_copy(out->source, store_target_pieces(out->target), out->files,
                      out->n, options, err);
}

static void output_done(struct output *out)
{
    for (uint32_t i = 0; i < out->n; i++) {
        ptc_file_free(out->shown[i]);
        (void)close(out->files[i].fd); /* nothing to keep */
    }
    store_target_free(out->target);
    store_source_free(out->source);
}

static void test_reads_each_byte_of_tensors_once(void **state)
{
    static const uint64_t blocks[] = {0, 64};
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);

    for (size_t i = 0; i < N_ITEMS(blocks); i++) {
        struct store_copy_options options = {.n_threads = 2,
                                             .block_bytes = blocks[i]};
        struct output out;
        struct base_io_stats before, after;
        struct base_err err = {0};

        output_open(&out, tmp, a, SAMPLE_DP4, 8);
        assert_int_equal(out.n, 8);
        before = base_io_stats_get();
        assert_ok(output_copy(&out, &options, &err), &err);
        after = base_io_stats_get();
        assert_int_equal(after.read_bytes - before.read_bytes,
                         ptc_table_n_bytes(store_source_table(out.source)));
        output_done(&out);
    }
}

static void test_reads_nothing_that_no_file_wants(void **state)
{
    static const char rules[] =
        "mesh: {tp: 2}\n"
        "rules: [{match: t, dims: [~, tp], tie: w}, {match: '[wu]',"
        " dims: [~, tp]}, {match: '[sv]'}, {match: 'optim.*'}]\n"
        "objects: {'*': {on_change: copy}}\n";
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_DP4);
    struct store_copy_options options = {.n_threads = 1};
    struct output out;
    struct base_io_stats before, after;
    struct base_err err = {0};

    output_open(&out, tmp, a, rules, 1); /* rank 0's model alone */
    before = base_io_stats_get();
    assert_ok(output_copy(&out, &options, &err), &err);
    after = base_io_stats_get();
    /* w: 7 x 3, u: 3 x 5, v: 5, s: 1, of four bytes each */
    assert_int_equal(after.read_bytes - before.read_bytes,
                     (7 * 3 + 3 * 5 + 5 + 1) * 4);
    output_done(&out);
}

struct progress {
    unsigned n_calls;
    unsigned stop_at;
    uint64_t done;
    uint64_t all;
};

static bool on_progress(void *ctx, uint64_t done, uint64_t all)
{
    struct progress *progress = ctx;

    assert_true(done >= progress->done);
    progress->done = done;
    progress->all = all;
    progress->n_calls++;
    return progress->n_calls != progress->stop_at;
}

static void test_tells_progress_up_to_the_end(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct progress progress = {0};
    struct store_copy_options options = {.n_threads = 2,
                                         .block_bytes = 32,
                                         .progress = on_progress,
                                         .progress_ctx = &progress};
    struct output out;
    struct base_err err = {0};

    output_open(&out, tmp, a, SAMPLE_DP4, 8);
    assert_ok(output_copy(&out, &options, &err), &err);
    assert_true(progress.n_calls > 3);
    assert_int_equal(progress.done, progress.all);
    progress = (struct progress){.stop_at = 2};
    assert_int_equal(output_copy(&out, &options, &err), BASE_INTERRUPTED);
    output_done(&out);
}

static void test_refuses_memory_that_is_too_little(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    struct store_copy_options options = {.memory_bytes = 1000};
    struct output out;
    struct base_err err = {0};

    output_open(&out, tmp, a, SAMPLE_DP4, 8);
    assert_int_equal(output_copy(&out, &options, &err), BASE_BAD_ARG);
    options.memory_bytes = 1 << 20;
    options.n_threads = 8; /* fewer are taken */
    assert_ok(output_copy(&out, &options, &err), &err);
    output_done(&out);
}

static void test_a_source_that_shrinks_is_an_error(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *file = base_path("%s/ranks/001/model.safetensors", a);
    struct store_copy_options options = {0};
    struct output out;
    struct base_err err = {0};

    output_open(&out, tmp, a, SAMPLE_DP4, 8);
    assert_int_equal(truncate(file, 100), 0);
    assert_int_equal(output_copy(&out, &options, &err), BASE_CHANGED);
    assert_non_null(strstr(err.text, "ranks/001/model.safetensors"));
    output_done(&out);
}

static void test_a_source_that_is_written_to_is_an_error(void **state)
{
    static const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *file = base_path("%s/ranks/001/model.safetensors", a);
    struct store_copy_options options = {0};
    struct output out;
    struct base_err err = {0};

    output_open(&out, tmp, a, SAMPLE_DP4, 8);
    assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
    assert_int_equal(output_copy(&out, &options, &err), BASE_CHANGED);
    assert_non_null(strstr(err.text, "ranks/001/model.safetensors"));
    output_done(&out);
}

/* --- comparing ---------------------------------------------------------- */

/* Change the last byte of a file. */
static void spoil(const char *path)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char byte = 0;
    off_t end;

    assert_true(fd >= 0);
    end = lseek(fd, 0, SEEK_END);
    assert_int_equal(pread(fd, &byte, 1, end - 1), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, end - 1), 1);
    (void)close(fd); /* read again by name */
}

static enum base_code compare(const struct store_source *a,
                              const struct ptc_pieces *a_pieces,
                              const struct store_source *b,
                              struct base_err *err)
{
    static const uint64_t blocks[] = {0, 16};
    enum base_code code = BASE_OK;

    for (size_t i = 0; i < N_ITEMS(blocks) && code == BASE_OK; i++) {
        struct store_copy_options options = {.n_threads = 1,
                                             .block_bytes = blocks[i]};

        code = store_compare(a, a_pieces, b, store_source_pieces(b), NULL,
                             &options, err);
    }
    return code;
}

static void test_equal_states_in_two_layouts_compare_equal(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a_path = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *b_path = sample_write(tmp->path, "b", SAMPLE_DP4);
    BASE_AUTO(store_source) a = open_source(a_path);
    BASE_AUTO(store_source) b = open_source(b_path);
    struct base_err err = {0};

    assert_ok(compare(a, store_source_pieces(a), b, &err), &err);
    assert_ok(compare(b, store_source_pieces(b), a, &err), &err);
    assert_ok(compare(a, store_source_replicas(a), a, &err), &err);
    assert_ok(compare(b, store_source_replicas(b), a, &err), &err);
}

static void test_names_the_element_that_differs(void **state)
{
    const struct tmp_dir *tmp = *state;
    BASE_AUTO_MEM char *a_path = sample_write(tmp->path, "a", SAMPLE_TP2);
    BASE_AUTO_MEM char *b_path = sample_write(tmp->path, "b", SAMPLE_DP4);
    BASE_AUTO_MEM char *file =
        base_path("%s/ranks/001/model.safetensors", a_path);
    BASE_AUTO(store_source) a = NULL;
    BASE_AUTO(store_source) b = open_source(b_path);
    struct base_err err = {0};

    spoil(file); /* the last tensor is w, and its last element [6, 5] */
    a = open_source(a_path);
    assert_int_equal(compare(a, store_source_pieces(a), b, &err),
                     BASE_MISMATCH);
    assert_non_null(strstr(err.text, "tensor w: element [6, 5] differs in"));
    assert_non_null(strstr(err.text, "a/ranks/001/model.safetensors"));
    assert_non_null(strstr(err.text, "b/ranks/000/model.safetensors"));
    /* rank 1's part of the tie t is as it was, and now unlike w */
    assert_int_equal(compare(a, store_source_replicas(a), a, &err),
                     BASE_MISMATCH);
}

/* --- the parts ---------------------------------------------------------- */

static void test_slabs_cover_every_tensor_once(void **state)
{
    static const uint64_t limits[] = {1, 8, 20, 100, 1 << 20};
    BASE_AUTO(ptc_table) table = sample_table();

    (void)state;
    for (size_t i = 0; i < N_ITEMS(limits); i++) {
        BASE_AUTO(store_slabs) slabs = NULL;
        struct base_err err = {0};
        uint64_t elems = 0;

        assert_ok(store_slabs_create(table, limits[i], &slabs, &err), &err);
        for (size_t k = 0; k < store_slabs_n(slabs); k++) {
            struct ptc_box box;
            uint32_t begin, end;
            uint64_t slab_elems = 0;

            store_slabs_get(slabs, k, &begin, &end, &box);
            assert_true(begin < end);
            if (end == begin + 1) {
                slab_elems = ptc_box_elems(&box);
            }
            for (uint32_t t = begin; end > begin + 1 && t < end; t++) {
                slab_elems += ptc_table_tensor(table, t)->tie == PTC_NONE
                                  ? ptc_table_tensor(table, t)->n_elems
                                  : 0;
            }
            assert_true(slab_elems * 4 <= limits[i] || slab_elems == 1);
            elems += slab_elems;
        }
        assert_int_equal(elems * 4, ptc_table_n_bytes(table));
    }
}

static void test_runs_are_as_long_as_both_sides_allow(void **state)
{
    static const struct {
        struct ptc_box box;
        uint64_t a[3], b[3];
        uint64_t run_bytes, n_runs;
        uint32_t n_loops;
    } cases[] = {
        /* whole on both sides */
        {{3, {0}, {2, 3, 4}}, {48, 16, 4}, {48, 16, 4}, 96, 1, 0},
        /* rows apart on one side: two loops make one */
        {{3, {0}, {2, 3, 4}}, {96, 32, 4}, {48, 16, 4}, 16, 6, 1},
        /* rows apart unevenly */
        {{3, {0}, {2, 3, 4}}, {100, 32, 4}, {48, 16, 4}, 16, 6, 2},
        /* elements apart */
        {{1, {0}, {5}}, {8}, {4}, 4, 5, 1},
        /* a dimension of one index has no say */
        {{2, {7, 0}, {8, 4}}, {999, 4}, {1, 4}, 16, 1, 0},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        struct store_strided s;
        struct base_err err = {0};

        assert_ok(store_strided_plan(PTC_F32, &cases[i].box, cases[i].a,
                                     cases[i].b, &s, &err),
                  &err);
        assert_int_equal(s.run_bytes, cases[i].run_bytes);
        assert_int_equal(s.n_runs, cases[i].n_runs);
        assert_int_equal(s.n_loops, cases[i].n_loops);
    }
}

static void test_runs_inside_a_byte_are_refused(void **state)
{
    static const struct ptc_box box = {1, {0}, {3}};
    static const uint64_t stride[] = {4};
    struct store_strided s;
    struct base_err err = {0};

    (void)state;
    assert_int_equal(store_strided_plan(PTC_F4, &box, stride, stride, &s, &err),
                     BASE_UNSUPPORTED);
}

/* A file of @n zeros with one byte set; the caller closes blob.fd. */
static struct store_blob
blob_make(const struct tmp_dir *tmp, const char *name, uint64_t n, uint64_t at)
{
    BASE_AUTO_MEM char *path = base_path("%s/%s", tmp->path, name);
    struct store_blob blob = {.label = name, .n_bytes = n};
    struct base_err err = {0};

    assert_non_null(path);
    assert_ok(base_io_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600, path,
                           &blob.fd, &err),
              &err);
    assert_int_equal(ftruncate(blob.fd, (off_t)n), 0);
    assert_ok(base_io_pwrite(blob.fd, "x", 1, at, path, &err), &err);
    return blob;
}

static void test_files_are_compared_whole(void **state)
{
    enum { N = 200000 };
    static const struct {
        uint64_t n, at;
        enum base_code code;
    } cases[] = {{N, N - 1, BASE_OK},
                 {N, N - 2, BASE_MISMATCH},
                 {N, 0, BASE_MISMATCH},
                 {N + 1, N - 1, BASE_MISMATCH}};
    const struct tmp_dir *tmp = *state;
    struct store_blob a = blob_make(tmp, "a", N, N - 1);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char name[] = {'b', (char)('0' + i), '\0'};
        struct store_blob b = blob_make(tmp, name, cases[i].n, cases[i].at);

        assert_int_equal(store_compare_blobs(&a, &b, NULL), cases[i].code);
        (void)close(b.fd);
    }
    (void)close(a.fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmp_dir_test(test_converts_there_and_back),
        tmp_dir_test(test_reads_each_byte_of_tensors_once),
        tmp_dir_test(test_reads_nothing_that_no_file_wants),
        tmp_dir_test(test_tells_progress_up_to_the_end),
        tmp_dir_test(test_refuses_memory_that_is_too_little),
        tmp_dir_test(test_a_source_that_shrinks_is_an_error),
        tmp_dir_test(test_a_source_that_is_written_to_is_an_error),
        tmp_dir_test(test_equal_states_in_two_layouts_compare_equal),
        tmp_dir_test(test_names_the_element_that_differs),
        tmp_dir_test(test_files_are_compared_whole),
        cmocka_unit_test(test_slabs_cover_every_tensor_once),
        cmocka_unit_test(test_runs_are_as_long_as_both_sides_allow),
        cmocka_unit_test(test_runs_inside_a_byte_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
