/* How fast is a gather?  Tensors whose columns lie on four ranks are shown
 * whole (four pieces a row), and whole ones as one rank's columns (one strided
 * piece), for several piece sizes.  Each gather of 1 MiB is followed by a copy
 * of its iovecs, which stands for the kernel's copy to the reader; the ratio is
 * to the same copy out of a mapped file that has the bytes in order.  The
 * blobs are memory files and warm; times are of the processor.
 *
 *   retile-bench-gather [MIB]      JSON to stdout, a table to stderr */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "store/gather.h"

#define REQUEST_BYTES ((size_t)1 << 20)
#define N_ROUNDS      7
#define N_PARTS       4

/* The least of a source that a gather needs: blobs. */
struct store_source {
    uint32_t n;
    struct store_blob blobs[N_PARTS];
};

uint32_t store_source_n_blobs(const struct store_source *source)
{
    return source->n;
}

const struct store_blob *store_source_blob(const struct store_source *source,
                                           uint32_t idx)
{
    return &source->blobs[idx];
}

enum base_code store_blob_check(const struct store_blob *blob,
                                struct base_err *err)
{
    struct stat now;

    if (fstat(blob->fd, &now) != 0 || now.st_size != blob->stat.st_size) {
        return base_fail(err, BASE_CHANGED, "%s: changed", blob->label);
    }
    return BASE_OK;
}

static enum base_code
source_add(struct store_source *source, uint64_t n_bytes, struct base_err *err)
{
    struct store_blob *blob = &source->blobs[source->n++];
    void *bytes;

    blob->label = "blob";
    blob->n_bytes = n_bytes;
    blob->fd = memfd_create("blob", MFD_CLOEXEC);
    if (blob->fd < 0 || ftruncate(blob->fd, (off_t)n_bytes) != 0 ||
        fstat(blob->fd, &blob->stat) != 0) {
        return base_fail(err, BASE_NO_SPACE, "cannot make a blob");
    }
    bytes =
        mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, blob->fd, 0);
    if (bytes == MAP_FAILED) {
        return base_fail(err, BASE_NO_MEM, "cannot map a blob");
    }
    memset(bytes, (int)source->n, n_bytes);
    (void)munmap(bytes, n_bytes);
    return BASE_OK;
}

static void source_done(struct store_source *source)
{
    for (uint32_t i = 0; i < source->n; i++) {
        (void)close(source->blobs[i].fd);
    }
}

/* A shown file: all of a tensor [n_rows, row_bytes] or rank 0's columns. */
struct shown {
    struct ptc_table *table;
    struct ptc_layout *layout;
    struct ptc_file *file;
    struct ptc_pieces *pieces;
    struct ptc_view *view;
};

static void shown_done(struct shown *shown)
{
    ptc_view_free(shown->view);
    ptc_pieces_free(shown->pieces);
    ptc_file_free(shown->file);
    ptc_layout_free(shown->layout);
    ptc_table_free(shown->table);
}

static enum base_code table_make(uint64_t n_rows,
                                 uint64_t row_bytes,
                                 struct ptc_table **ret,
                                 struct base_err *err)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();

    if (builder == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a table");
    }
    BASE_TRY(ptc_table_add(builder, BASE_STR("t"), BASE_STR("model"), PTC_U8, 2,
                           (const uint64_t[]){n_rows, row_bytes}, err));
    return ptc_table_finish(builder, ret, err);
}

static enum base_code shown_make(uint64_t n_rows,
                                 uint64_t piece_bytes,
                                 bool is_whole,
                                 struct shown *ret,
                                 struct base_err *err)
{
    static const char whole[] = "mesh: {}\nrules: [{match: t}]\n";
    static const char cut[] =
        "mesh: {tp: 4}\nrules: [{match: t, dims: [~, tp]}]\n";
    BASE_AUTO(ptc_spec) spec = NULL;
    uint64_t row_bytes = N_PARTS * piece_bytes;

    BASE_TRY(table_make(n_rows, row_bytes, &ret->table, err));
    BASE_TRY(ptc_spec_parse(base_str_of(is_whole ? whole : cut), "bench", &spec,
                            err));
    BASE_TRY(ptc_layout_create(&spec, ret->table, &ret->layout, err));
    BASE_TRY(ptc_file_create_rank(ret->layout, 0, BASE_STR("model"), &ret->file,
                                  err));
    ret->pieces = ptc_pieces_create(ret->table);
    if (ret->pieces == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate pieces");
    }
    for (uint32_t p = 0; p < N_PARTS; p++) {
        struct ptc_piece piece = {
            .box = {2, {0, p * piece_bytes}, {n_rows, (p + 1) * piece_bytes}},
            .blob = is_whole ? p : 0,
            .offset = is_whole ? 0 : p * piece_bytes,
            .stride = {is_whole ? piece_bytes : row_bytes, 1}};

        BASE_TRY(ptc_pieces_add(ret->pieces, 0, &piece, err));
    }
    BASE_TRY(ptc_pieces_seal(ret->pieces, err));
    return ptc_view_create(ret->file, ret->pieces, &ret->view, err);
}

static double now_s(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* cannot fail */
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Processor seconds to gather the whole view and copy what came. */
static enum base_code gather_time(struct store_maps *maps,
                                  const struct ptc_view *view,
                                  uint8_t *scratch,
                                  uint8_t *out,
                                  double *ret_s,
                                  struct base_err *err)
{
    static struct store_gather gather;
    double begin = now_s();

    for (uint64_t at = 0; at < ptc_view_n_bytes(view); at += gather.n_bytes) {
        uint8_t *to = out;

        BASE_TRY(store_gather(maps, view, at, REQUEST_BYTES, scratch,
                              REQUEST_BYTES, &gather, err));
        for (uint32_t i = 0; i < gather.n_iov; i++) {
            memcpy(to, gather.iov[i].iov_base, gather.iov[i].iov_len);
            to += gather.iov[i].iov_len;
        }
    }
    *ret_s = now_s() - begin;
    return BASE_OK;
}

static double copy_time(const uint8_t *from, uint64_t n_bytes, uint8_t *out)
{
    double begin = now_s();

    for (uint64_t at = 0; at < n_bytes; at += REQUEST_BYTES) {
        memcpy(out, from + at,
               (size_t)base_min_u64(REQUEST_BYTES, n_bytes - at));
    }
    return now_s() - begin;
}

static enum base_code case_run(uint64_t n_bytes,
                               uint64_t piece_bytes,
                               bool is_whole,
                               uint8_t *scratch,
                               bool is_first,
                               struct base_err *err)
{
    struct store_source source = {0};
    struct shown shown = {0};
    uint64_t n_rows = n_bytes / (N_PARTS * piece_bytes);
    uint64_t shown_bytes = is_whole ? n_bytes : n_bytes / N_PARTS;
    struct store_maps *maps = NULL;
    const uint8_t *plain;
    double best_copy = 1e9;
    double best = 1e9;
    enum base_code rc = BASE_OK;

    for (unsigned i = 0; rc == BASE_OK && i < (is_whole ? N_PARTS : 1); i++) {
        rc = source_add(&source, n_bytes / (is_whole ? N_PARTS : 1), err);
    }
    if (rc == BASE_OK) {
        rc = shown_make(n_rows, piece_bytes, is_whole, &shown, err);
        maps = store_maps_create(&source);
    }
    /* The plain file: as many bytes as one blob has, over and over. */
    plain = mmap(NULL, source.blobs[0].n_bytes, PROT_READ, MAP_SHARED,
                 source.blobs[0].fd, 0);
    if (rc == BASE_OK && (maps == NULL || plain == MAP_FAILED)) {
        rc = base_fail(err, BASE_NO_MEM, "cannot map");
    }
    for (unsigned round = 0; rc == BASE_OK && round < N_ROUNDS; round++) {
        double seconds = 0;
        double copy =
            copy_time(plain, n_bytes / N_PARTS, scratch + REQUEST_BYTES);

        best_copy = round > 0 && copy < best_copy ? copy : best_copy;
        rc = gather_time(maps, shown.view, scratch, scratch + REQUEST_BYTES,
                         &seconds, err);
        best = round > 0 && seconds < best ? seconds : best;
    }
    if (rc == BASE_OK) {
        double copy_rate = (double)(n_bytes / N_PARTS) / best_copy;
        double rate = (double)shown_bytes / best;

        printf("%s\n    {\"shown\": \"%s\", \"piece_bytes\": %" PRIu64
               ", \"bytes_per_s\": %.0f, \"copy_bytes_per_s\": %.0f}",
               is_first ? "" : ",", is_whole ? "whole" : "columns", piece_bytes,
               rate, copy_rate);
        (void)fprintf(stderr, "%-8s %7" PRIu64 " %9.2f %9.2f %7.2f\n",
                      is_whole ? "whole" : "columns", piece_bytes, rate / 1e9,
                      copy_rate / 1e9, rate / copy_rate);
    }
    if (plain != MAP_FAILED) {
        (void)munmap((void *)(uintptr_t)plain, source.blobs[0].n_bytes);
    }
    store_maps_free(maps);
    shown_done(&shown);
    source_done(&source);
    return rc;
}

static enum base_code bench(uint64_t n_bytes, struct base_err *err)
{
    static const uint64_t pieces[] = {512, 1024, 2048, 4096, 65536};
    BASE_AUTO_MEM uint8_t *scratch = aligned_alloc(4096, 2 * REQUEST_BYTES);
    bool is_first = true;

    if (scratch == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate scratch");
    }
    memset(scratch, 0, 2 * REQUEST_BYTES);
    BASE_TRY(store_guard_install(err));
    (void)fprintf(stderr, "shown      piece gather GB/s copy GB/s   ratio\n");
    printf("{\"version\": 1, \"bench\": \"gather\", \"cases\": [");
    for (unsigned is_whole = 0; is_whole < 2; is_whole++) {
        for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
            BASE_TRY(
                case_run(n_bytes, pieces[i], is_whole, scratch, is_first, err));
            is_first = false;
        }
    }
    printf("\n]}\n");
    return BASE_OK;
}

int main(int argc, char **argv)
{
    uint64_t n_mib = 256;
    struct base_err err = {0};

    if (argc > 1 && (!base_parse_u64(base_str_of(argv[1]), &n_mib) ||
                     n_mib == 0 || n_mib > 65536)) {
        (void)fprintf(stderr, "usage: retile-bench-gather [MIB]\n");
        return 2;
    }
    if (bench(n_mib << 20, &err) != BASE_OK) {
        (void)fprintf(stderr, "retile-bench-gather: %s\n", err.text);
        return 1;
    }
    return 0;
}
