/* Readers beside everything that changes a store.
 *
 * Each state is filled with bytes that follow from its step; rescale, rollback,
 * compaction and digesting keep step and bytes.  So a reader can tell of any
 * version, at any time, whether it is exactly one state.  Readers and changers
 * are processes with a root of their own; RETILE_SEED and RETILE_SECONDS. */
#include "tests/unit/base/tmp_dir.h"
#include "tests/unit/unit.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/io.h"
#include "base/num.h"
#include "store/blob.h"
#include "store/change.h"
#include "store/compact.h"
#include "store/derive.h"
#include "tests/unit/store/sample.h"
#include "tests/unit/store/small_store.h"

#define ROWS    ((uint64_t)96)
#define COLS    ((uint64_t)480)
#define N_BYTES (ROWS * COLS)

enum { N_STATES = 4, N_READERS = 3, N_CHANGERS = 2, MAX_VERSIONS = 3 };
enum { MIN_DONE = 5 }; /* of each, however busy the machine is */

static unsigned char byte_of(uint64_t step, uint64_t at)
{
    return (unsigned char)((at * 2654435761u >> 7) + step * 97);
}

static void say(const char *who, const char *what)
{
    (void)fprintf(stderr, "%s: %s\n", who, what);
}

static int64_t now_s(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail */
    return ts.tv_sec;
}

/* --- states ------------------------------------------------------------- */

static char *state_dir(const char *top, uint64_t step)
{
    return base_path("%s/state%" PRIu64, top, step);
}

static void write_state(const char *top, uint64_t step)
{
    static const char header[] = "{\"w\":{\"dtype\":\"U8\",\"shape\":[96,480],"
                                 "\"data_offsets\":[0,46080]},"
                                 "\"v\":{\"dtype\":\"U8\",\"shape\":[96,480],"
                                 "\"data_offsets\":[46080,92160]}}";
    BASE_AUTO_MEM char *dir = state_dir(top, step);
    BASE_AUTO_BUF bytes;
    char text[64];
    uint64_t n = strlen(header);

    base_buf_init(&bytes, 1 << 20);
    for (unsigned i = 0; i < 8; i++) {
        char byte = (char)(n >> (8 * i) & 0xff);

        (void)base_buf_add(&bytes, &byte, 1); /* sticky */
    }
    (void)base_buf_add_str(&bytes, base_str_of(header));
    for (uint64_t i = 0; i < 2 * N_BYTES; i++) {
        char byte = (char)byte_of(step, i % N_BYTES);

        (void)base_buf_add(&bytes, &byte, 1);
    }
    assert_int_equal(mkdir(dir, 0777), 0);
    tree_dir_put(dir, "model.safetensors", base_buf_str(&bytes));
    (void)snprintf(text, sizeof(text), "{\"step\": %" PRIu64 "}", step);
    tree_dir_put(dir, "retile.json", base_str_of(text));
}

/* --- reading ------------------------------------------------------------ */

struct reading {
    const struct store_source *source;
    uint64_t step;
    uint64_t n_bytes;
};

/* Both tensors have the same bytes, by row and column. */
static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    struct reading *reading = ctx;
    const struct store_blob *blob =
        store_source_blob(reading->source, piece->blob);
    uint64_t n_cols = piece->box.end[1] - piece->box.begin[1];
    unsigned char row[COLS];

    (void)tensor;
    for (uint64_t r = piece->box.begin[0]; r < piece->box.end[0]; r++) {
        uint64_t at =
            piece->offset + (r - piece->box.begin[0]) * piece->stride[0];

        BASE_TRY(
            base_io_pread(blob->fd, row, (size_t)n_cols, at, blob->label, err));
        for (uint64_t c = 0; c < n_cols; c++) {
            if (row[c] !=
                byte_of(reading->step, r * COLS + piece->box.begin[1] + c)) {
                return base_fail(err, BASE_MISMATCH,
                                 "%s: a byte is not that of step %" PRIu64,
                                 store_source_path(reading->source),
                                 reading->step);
            }
        }
        reading->n_bytes += n_cols;
    }
    return BASE_OK;
}

static enum base_code
read_all(const struct store_source *source, uint64_t step, struct base_err *err)
{
    const struct ptc_table *table = store_source_table(source);
    struct reading reading = {.source = source, .step = step};
    const struct store_blob *blob = NULL;
    char text[64] = "";
    char wanted[64];

    for (uint32_t t = 0; t < ptc_table_n_tensors(table); t++) {
        const struct ptc_tensor *info = ptc_table_tensor(table, t);
        struct ptc_box whole = ptc_box_whole(info->n_dims, info->shape);

        BASE_TRY(ptc_pieces_find(store_source_pieces(source), t, &whole,
                                 on_piece, &reading, err));
    }
    BASE_TRY(store_source_object(source, BASE_STR("retile.json"), PTC_NONE,
                                 &blob, err));
    if (blob == NULL || blob->n_bytes >= sizeof(text)) {
        return base_fail(err, BASE_MISMATCH, "%s: has no retile.json",
                         store_source_path(source));
    }
    BASE_TRY(base_io_pread(blob->fd, text, (size_t)blob->n_bytes, 0,
                           blob->label, err));
    (void)snprintf(wanted, sizeof(wanted), "{\"step\": %" PRIu64 "}", step);
    if (reading.n_bytes != 2 * N_BYTES || strcmp(text, wanted) != 0) {
        return base_fail(err, BASE_MISMATCH, "%s: %" PRIu64 " bytes, %s",
                         store_source_path(source), reading.n_bytes, text);
    }
    return BASE_OK;
}

/* Now and then, so long that sweeps come meanwhile. */
static void linger(uint64_t *seed)
{
    if (base_random_next(seed) % 2 == 0) {
        (void)poll(NULL, 0, 50); /* a signal only makes it shorter */
    }
}

/* Any version, read twice: what was opened stays what it was. */
static enum base_code
read_one(struct store_root *root, uint64_t *seed, struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    size_t n = 0;
    uint64_t number = 0;
    uint64_t step;
    enum base_code code;

    BASE_TRY(store_root_versions(root, "j", &numbers, &n, err));
    if (base_random_next(seed) % 3 != 0) {
        number = numbers[base_random_next(seed) % n];
    }
    code = store_version_open(root, "j", number, &version, err);
    if (code == BASE_NOT_FOUND && number != 0) {
        return BASE_OK; /* released meanwhile */
    }
    BASE_TRY(code);
    step = ptc_manifest_head(store_version_manifest(version))->step;
    linger(seed);
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    BASE_TRY(read_all(source, step, err));
    linger(seed);
    return read_all(source, step, err);
}

/* --- changing ----------------------------------------------------------- */

static enum base_code
rescale(struct store_root *root, uint64_t *seed, struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    uint64_t n = 1 + base_random_next(seed) % 6;
    uint64_t number;
    char yaml[128];

    (void)snprintf(yaml, sizeof(yaml),
                   "mesh: {tp: %" PRIu64 "}\nrules:\n"
                   "- {match: w, dims: [%s]}\n- {match: v, dims: [%s]}\n",
                   n, base_random_next(seed) % 2 == 0 ? "tp, ~" : "~, tp",
                   base_random_next(seed) % 2 == 0 ? "tp, ~" : "~, tp");
    BASE_TRY(ptc_spec_parse(base_str_of(yaml), "spec", &spec, err));
    return store_rescale(root, "j", 0, &spec, NULL, NULL, NULL, &number, err);
}

static enum base_code import(struct store_root *root,
                             const char *top,
                             uint64_t *seed,
                             struct base_err *err)
{
    const struct store_import_options options = {.n_threads = 1};
    BASE_AUTO_MEM char *dir = state_dir(top, base_random_next(seed) % N_STATES);
    BASE_AUTO(store_source) source = NULL;
    uint64_t number;

    BASE_TRY(store_source_open_dir(dir, NULL, &source, err));
    return store_import(root, "j", source, &options, NULL, &number, err);
}

/* As a save leaves it. */
static enum base_code
undigest(struct store_root *root, uint64_t number, struct base_err *err)
{
    STORE_AUTO_DERIVED derived = {0};
    BASE_AUTO(store_change) change = NULL;
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(ptc_pieces) pieces = NULL;
    const struct ptc_manifest *m;

    BASE_TRY(store_change_begin(root, "j", 0, NULL, &change, err));
    BASE_TRY(store_version_open(root, "j", number, &version, err));
    m = store_version_manifest(version);
    BASE_TRY(
        ptc_manifest_pieces(m, store_version_table(version), &pieces, err));
    BASE_TRY(store_derive(&derived, m, store_version_table(version),
                          store_version_table(version), err));
    BASE_TRY(store_derive_objects(&derived, err));
    derived.manifest.pieces = pieces;
    for (uint32_t i = 0; i < derived.manifest.n_regions; i++) {
        derived.regions[i].is_digested = false;
        memset(&derived.regions[i].digest, 0, sizeof(struct base_digest));
    }
    memset(derived.chunks, 0,
           (size_t)derived.manifest.n_chunks * sizeof(*derived.chunks));
    return store_change_replace(change, &derived.manifest, number,
                                ptc_manifest_digest(m), err);
}

static enum base_code
clean(struct store_root *root, uint64_t number, struct base_err *err)
{
    struct store_sweep swept;
    enum base_code code;

    BASE_TRY(store_root_lock(root, (int64_t)10000000000, err));
    code = number == 0 ? store_sweep(root, &swept, err)
                       : store_version_release(root, "j", number, err);
    store_root_unlock(root);
    return code;
}

static enum base_code change_one(struct store_root *root,
                                 const char *top,
                                 uint64_t *seed,
                                 struct base_err *err)
{
    const struct store_import_options options = {.n_threads = 1};
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    uint64_t number, ignored;
    size_t n = 0;

    BASE_TRY(store_root_versions(root, "j", &numbers, &n, err));
    number = numbers[base_random_next(seed) % n];
    if (n > MAX_VERSIONS) {
        return clean(root, numbers[0], err);
    }
    switch (base_random_next(seed) % 9) {
    case 0:
        return import(root, top, seed, err);
    case 1:
        return rescale(root, seed, err);
    case 2:
        return store_rollback(root, "j", number, NULL, &ignored, err);
    case 3:
    case 4:
        BASE_TRY(store_compact(root, "j", number, &options, err));
        return clean(root, 0, err);
    case 5:
        return undigest(root, number, err);
    case 6:
        return store_digest_version(root, "j", number, &options, &ignored, err);
    case 7:
        return clean(root, number, err);
    default:
        return clean(root, 0, err);
    }
}

/* What a change may say beside others: it is gone, in use, the current one,
 * changed meanwhile. */
static bool is_fair(enum base_code code)
{
    return code == BASE_OK || code == BASE_NOT_FOUND || code == BASE_EXISTS ||
           code == BASE_BAD_ARG || code == BASE_CHANGED;
}

/* --- processes ---------------------------------------------------------- */

enum role { READER, CHANGER, CHECKER };

static void on_finding(void *ctx, const char *text)
{
    (void)ctx;
    say("fsck", text);
}

static enum base_code
check_one(struct store_root *root, bool is_scrub, struct base_err *err)
{
    uint64_t n = 0;

    BASE_TRY(store_check(root, is_scrub, 1, NULL, on_finding, NULL, &n, err));
    return n == 0 ? BASE_OK : base_fail(err, BASE_MISMATCH, "findings");
}

static int play(enum role role,
                const struct small_store *store,
                uint64_t seed,
                int64_t end_s)
{
    static const char *const names[] = {"reader", "changer", "checker"};
    BASE_AUTO(store_root) root = NULL;
    struct base_err err = {0};
    uint64_t n_done = 0;
    enum base_code code = store_root_open(store->path, &root, &err);

    (void)alarm(120); /* nothing hangs */
    while (code == BASE_OK && (now_s() < end_s || n_done < MIN_DONE)) {
        if (role == READER) {
            code = read_one(root, &seed, &err);
        } else if (role == CHECKER) {
            code = check_one(root, n_done % 4 == 0, &err);
        } else {
            code = change_one(root, store->dir->path, &seed, &err);
            n_done += code == BASE_OK;
            code = is_fair(code) ? BASE_OK : code;
            n_done--;
        }
        n_done++;
    }
    if (code != BASE_OK) {
        (void)fprintf(stderr, "%s: %" PRIu64 " done: %s\n", names[role], n_done,
                      err.text);
        return 1;
    }
    (void)printf("%s: %" PRIu64 "\n", names[role], n_done);
    (void)fflush(stdout);
    return 0;
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t number;

    return text != NULL && base_parse_u64(base_str_of(text), &number)
               ? number
               : otherwise;
}

static void test_every_reader_reads_one_version(void **state)
{
    struct small_store *store = *state;
    uint64_t seed = number_of("RETILE_SEED", (uint64_t)getpid());
    int64_t end_s = now_s() + (int64_t)number_of("RETILE_SECONDS", 4);
    pid_t children[N_READERS + N_CHANGERS + 1];
    struct base_err err = {0};
    bool is_good = true;

    (void)printf("RETILE_SEED=%" PRIu64 "\n", seed);
    (void)fflush(stdout);
    for (uint64_t step = 0; step < N_STATES; step++) {
        write_state(store->dir->path, step);
    }
    assert_ok(import(store->root, store->dir->path, &seed, &err), &err);
    for (unsigned i = 0; i < N_ITEMS(children); i++) {
        enum role role = i < N_READERS                ? READER
                         : i < N_READERS + N_CHANGERS ? CHANGER
                                                      : CHECKER;

        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            _exit(play(role, store, seed + 1000 * i, end_s));
        }
    }
    for (unsigned i = 0; i < N_ITEMS(children); i++) {
        int status = 0;

        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        is_good = is_good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    assert_true(is_good);
    assert_ok(clean(store->root, 0, &err), &err);
    assert_ok(check_one(store->root, true, &err), &err);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        small_store_test(test_every_reader_reads_one_version),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
