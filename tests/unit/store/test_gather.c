/* Gather: right bytes, few copies, and files that change underneath. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/io.h"
#include "base/num.h"
#include "store/gather.h"
#include "tests/prop/file_bytes.h"
#include "tests/unit/ptc/fixture.h"
#include "tests/unit/store/fake_source.h"

#define SCRATCH_BYTES ((size_t)1 << 20)

static const struct fixture_tensor tensors[] = {
    {"flat", "model", PTC_F32, 1, {1000}, NULL},
    {"long", "model", PTC_F32, 2, {24, 4096}, NULL}, /* rows of 4 KiB */
    {"short", "model", PTC_F32, 2, {40, 512}, NULL}, /* of 512 bytes */
    {"tiny", "model", PTC_BF16, 2, {100, 4}, NULL},  /* of 2 */
};

#define FROM                                                                   \
    "mesh: {tp: 4}\n"                                                          \
    "rules: [{match: flat, dims: [tp]}, {match: '*', dims: [~, tp]}]\n"
#define TO                                                                     \
    "mesh: {tp: 2, dp: 3}\n"                                                   \
    "flats: {f: {over: [dp], align: 4096}}\n"                                  \
    "rules:\n"                                                                 \
    "  - {match: flat, flat: f}\n"                                             \
    "  - {match: '*', dims: [tp]}\n"
#define WHOLE "mesh: {}\nrules: [{match: '*'}]\n"

/* A source's files in memory files, and views of a target over them. */
struct world {
    struct ptc_table *table;
    struct ptc_layout *from;
    struct ptc_layout *to;
    struct file_set source_files;
    struct file_set files;
    struct ptc_pieces *pieces;
    struct store_source source;
    struct store_maps *maps;
    uint8_t *scratch;
};

static void world_make(struct world *world, const char *from, const char *to)
{
    struct base_err err;

    memset(world, 0, sizeof(*world));
    world->table = fixture_table(tensors, N_ITEMS(tensors));
    world->from = fixture_layout(world->table, from);
    world->to = fixture_layout(world->table, to);
    assert_ok(file_set_ranks(world->from, &world->source_files, &err), &err);
    assert_ok(file_set_fill(&world->source_files, &err), &err);
    assert_ok(file_set_pieces(&world->source_files, world->from, &world->pieces,
                              &err),
              &err);
    assert_ok(file_set_ranks(world->to, &world->files, &err), &err);
    assert_ok(file_set_fill(&world->files, &err), &err);
    for (uint32_t i = 0; i < world->source_files.n; i++) {
        assert_int_equal(
            fake_source_add(&world->source, world->source_files.bytes[i],
                            ptc_file_n_bytes(world->source_files.files[i])),
            i);
    }
    world->maps = store_maps_create(&world->source);
    assert_non_null(world->maps);
    world->scratch = mmap(NULL, SCRATCH_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(world->scratch, MAP_FAILED);
    assert_ok(store_guard_install(&err), &err);
}

static void world_done(struct world *world)
{
    (void)munmap(world->scratch, SCRATCH_BYTES);
    store_maps_free(world->maps);
    fake_source_done(&world->source);
    file_set_done(&world->source_files);
    file_set_done(&world->files);
    ptc_pieces_free(world->pieces);
    ptc_layout_free(world->from);
    ptc_layout_free(world->to);
    ptc_table_free(world->table);
}

static struct ptc_view *world_view(const struct world *world, uint32_t file)
{
    struct ptc_view *view = NULL;
    struct base_err err;

    assert_ok(
        ptc_view_create(world->files.files[file], world->pieces, &view, &err),
        &err);
    return view;
}

/* Gather all of [offset, offset + n), in as many steps as it takes, and
 * compare with @expect. */
static void gather_compare(const struct world *world,
                           const struct ptc_view *view,
                           uint64_t offset,
                           uint64_t n,
                           size_t scratch_bytes,
                           const uint8_t *expect)
{
    uint64_t end = base_min_u64(offset + n, ptc_view_n_bytes(view));

    while (offset < end) {
        static struct store_gather gather;
        struct base_err err = {0};
        uint64_t at = offset;

        assert_ok(store_gather(world->maps, view, offset, end - offset,
                               world->scratch, scratch_bytes, &gather, &err),
                  &err);
        assert_true(gather.n_bytes > 0 && gather.n_bytes <= end - offset);
        assert_true(gather.n_iov <= STORE_GATHER_MAX_IOV);
        for (uint32_t i = 0; i < gather.n_iov; i++) {
            assert_true(gather.iov[i].iov_len > 0);
            assert_memory_equal(gather.iov[i].iov_base, expect + at,
                                gather.iov[i].iov_len);
            at += gather.iov[i].iov_len;
        }
        assert_int_equal(at - offset, gather.n_bytes);
        offset = at;
    }
}

static void test_gathered_bytes_are_the_files_bytes(void **state)
{
    static const char *const changes[][2] = {
        {FROM, TO}, {FROM, WHOLE}, {WHOLE, FROM}, {WHOLE, TO}};
    uint64_t random = 1;

    (void)state;
    for (size_t c = 0; c < N_ITEMS(changes); c++) {
        struct world world;

        world_make(&world, changes[c][0], changes[c][1]);
        for (uint32_t i = 0; i < world.files.n; i++) {
            BASE_AUTO(ptc_view) view = world_view(&world, i);
            const uint8_t *expect = world.files.bytes[i];
            uint64_t n = ptc_view_n_bytes(view);

            gather_compare(&world, view, 0, n, SCRATCH_BYTES, expect);
            for (unsigned k = 0; k < 40; k++) {
                uint64_t offset = base_random_next(&random) % n;
                uint64_t length = base_random_next(&random) % 100000;
                size_t scratch = 1 + base_random_next(&random) % 5000;

                gather_compare(&world, view, offset, length, scratch, expect);
            }
        }
        world_done(&world);
    }
}

static bool is_in(const struct world *world, const void *bytes)
{
    uintptr_t at = (uintptr_t)bytes;
    uintptr_t scratch = (uintptr_t)world->scratch;

    return at >= scratch && at < scratch + SCRATCH_BYTES;
}

static void test_long_runs_are_not_copied(void **state)
{
    struct world world;
    static struct store_gather gather;
    struct base_err err;
    struct base_io_stats before = base_io_stats_get();
    uint64_t at;

    (void)state;
    world_make(&world, FROM, WHOLE);
    BASE_AUTO(ptc_view) view = world_view(&world, 0);
    /* `long` is behind `flat`, in order of name. */
    at = ptc_view_header(view).len + 4000;
    assert_ok(store_gather(world.maps, view, at, 8 * 4096, world.scratch,
                           SCRATCH_BYTES, &gather, &err),
              &err);
    assert_int_equal(gather.n_iov, 8);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(gather.iov[i].iov_len, 4096);
        assert_false(is_in(&world, gather.iov[i].iov_base));
    }
    /* Short runs: one iovec, whatever they were. */
    at += 24 * 4096 * 4;
    assert_ok(store_gather(world.maps, view, at, 64 * 512, world.scratch,
                           SCRATCH_BYTES, &gather, &err),
              &err);
    assert_int_equal(gather.n_iov, 1);
    assert_true(is_in(&world, gather.iov[0].iov_base));
    assert_int_equal(base_io_stats_get().mapped_bytes - before.mapped_bytes,
                     8 * 4096 + 64 * 512);
    world_done(&world);
}

/* Gather the file from its data on, after @harm was done to its blobs. */
static enum base_code gather_after(void (*harm)(struct world *world),
                                   uint64_t skip,
                                   struct base_err *err)
{
    struct world world;
    static struct store_gather gather;
    enum base_code rc;

    world_make(&world, FROM, WHOLE);
    BASE_AUTO(ptc_view) view = world_view(&world, 0);
    /* Once before, so that the blobs are mapped. */
    gather_compare(&world, view, 0, ptc_view_n_bytes(view), SCRATCH_BYTES,
                   world.files.bytes[0]);
    harm(&world);
    rc = store_gather(world.maps, view, ptc_view_header(view).len + skip,
                      4 * 4096, world.scratch, SCRATCH_BYTES, &gather, err);
    world_done(&world);
    return rc;
}

static void truncate_all(struct world *world)
{
    for (uint32_t i = 0; i < world->source.n; i++) {
        assert_int_equal(ftruncate(world->source.blobs[i].fd, 0), 0);
    }
}

static void truncate_one(struct world *world)
{
    assert_int_equal(ftruncate(world->source.blobs[3].fd, 0), 0);
}

static void modify_one(struct world *world)
{
    int fd = world->source.blobs[2].fd;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1}};

    assert_int_equal(pwrite(fd, "x", 1, 5000), 1);
    assert_int_equal(futimens(fd, times), 0); /* no clock is that coarse */
}

static void fault_quietly(struct world *world)
{
    truncate_all(world);
    for (uint32_t i = 0; i < world->source.n; i++) {
        fake_source_trust(&world->source, i);
    }
}

static void test_files_that_change_are_told(void **state)
{
    enum { FLAT = 0, LONG = 4000, SHORT = 4000 + 24 * 4096 * 4 };
    static const struct {
        void (*harm)(struct world *world);
        uint64_t skip;
        enum base_code code;
    } cases[] = {
        {truncate_all, LONG, BASE_CHANGED}, /* nothing is copied */
        {truncate_all, SHORT, BASE_CHANGED}, {truncate_one, LONG, BASE_CHANGED},
        {truncate_one, SHORT, BASE_CHANGED}, {truncate_one, FLAT, BASE_CHANGED},
        {modify_one, LONG, BASE_CHANGED},    {modify_one, SHORT, BASE_CHANGED},
        {fault_quietly, SHORT, BASE_IO}, /* a disk that fails */
    };
    struct base_err err;

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(gather_after(cases[i].harm, cases[i].skip, &err),
                         cases[i].code);
    }
}

/* Every file of @to over blobs that are too long to map. */
static void read_unmapped(const char *from, const char *to)
{
    struct world world;
    uint64_t n = UINT64_C(1) << 50; /* more than there are addresses */

    world_make(&world, from, to);
    for (uint32_t i = 0; i < world.source.n; i++) {
        world.source.blobs[i].n_bytes = n;
        assert_int_equal(ftruncate(world.source.blobs[i].fd, (off_t)n), 0);
        fake_source_trust(&world.source, i);
    }
    for (uint32_t i = 0; i < world.files.n; i++) {
        struct base_io_stats before = base_io_stats_get();
        struct base_io_stats after;
        BASE_AUTO(ptc_view) view = world_view(&world, i);

        gather_compare(&world, view, 0, ptc_view_n_bytes(view), SCRATCH_BYTES,
                       world.files.bytes[i]);
        after = base_io_stats_get();
        assert_int_equal(after.mapped_bytes, before.mapped_bytes);
        assert_int_equal(after.read_bytes - before.read_bytes,
                         ptc_view_n_bytes(view) - ptc_view_header(view).len);
    }
    world_done(&world);
}

static void test_a_blob_that_cannot_be_mapped_is_read(void **state)
{
    (void)state;
    read_unmapped(FROM, WHOLE);
    read_unmapped(WHOLE, FROM);
}

/* How a child that does @deed ends. */
static int child_signal(void (*deed)(void))
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};

        (void)setrlimit(RLIMIT_CORE, &none); /* no core file of a test */
        deed();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touch_past_end(void)
{
    int fd = memfd_create("empty", MFD_CLOEXEC);
    const volatile char *bytes = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

    _exit(store_guard_install(NULL) == BASE_OK ? bytes[0] : 1);
}

static void signal_ourselves(void)
{
    if (store_guard_install(NULL) == BASE_OK) {
        (void)raise(SIGBUS);
    }
}

static void test_other_bus_errors_stay_deadly(void **state)
{
    (void)state;
    assert_int_equal(child_signal(touch_past_end), SIGBUS);
    assert_int_equal(child_signal(signal_ourselves), SIGBUS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gathered_bytes_are_the_files_bytes),
        cmocka_unit_test(test_long_runs_are_not_copied),
        cmocka_unit_test(test_files_that_change_are_told),
        cmocka_unit_test(test_a_blob_that_cannot_be_mapped_is_read),
        cmocka_unit_test(test_other_bus_errors_stay_deadly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
