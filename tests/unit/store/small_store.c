#include "tests/unit/store/small_store.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/num.h"
#include "store/blob.h"
#include "store/digest.h"

static const char table_text[] =
    "{\"retile_table\":1,\"tensors\":["
    "{\"name\":\"a\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[4,3]},"
    "{\"name\":\"big\",\"group\":\"model\",\"dtype\":\"U8\","
    "\"shape\":[2097157]},"
    "{\"name\":\"m1\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[8]},"
    "{\"name\":\"m2\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[4]}],"
    "\"objects\":{\"notes.txt\":\"job\"}}";

/* Tensors: a 0, big 1, m1 2, m2 3. */
static const struct {
    uint32_t tensor;
    struct ptc_piece piece;
} pieces[] = {
    {0, {{2, {0, 0}, {2, 3}}, 0, SMALL_HEADER_BYTES, {12, 4}}},
    {0, {{2, {2, 0}, {4, 3}}, 0, SMALL_HEADER_BYTES + 24, {12, 4}}},
    {1,
     {{1, {0}, {SMALL_BIG_BYTES}}, 0, SMALL_HEADER_BYTES + SMALL_A_BYTES, {1}}},
    {2, {{1, {0}, {8}}, 1, 0, {4}}},
    {3, {{1, {0}, {4}}, 1, 32, {4}}},
};

enum { N_REGIONS = 5, N_CHUNKS = 7 };

static const struct ptc_manifest_region regions[N_REGIONS] = {
    {.tensor = 0, .blob = 0, .offset = SMALL_HEADER_BYTES, .n_bytes = 24},
    {.tensor = 0, .blob = 0, .offset = SMALL_HEADER_BYTES + 24, .n_bytes = 24},
    {.tensor = 1,
     .blob = 0,
     .offset = SMALL_HEADER_BYTES + SMALL_A_BYTES,
     .n_bytes = SMALL_BIG_BYTES},
    {.tensor = PTC_NONE, .blob = 1, .n_bytes = SMALL_BUCKET_BYTES},
    {.tensor = PTC_NONE, .blob = 2, .n_bytes = SMALL_NOTES_BYTES},
};

static const uint64_t blob_bytes[SMALL_N_BLOBS] = {
    SMALL_HEADER_BYTES + SMALL_A_BYTES + SMALL_BIG_BYTES, SMALL_BUCKET_BYTES,
    SMALL_NOTES_BYTES};

int small_store_make(void **state)
{
    static struct small_store store;
    void *dir;
    struct base_err err;

    (void)tmp_dir_make(&dir);
    store = (struct small_store){.dir = dir};
    (void)snprintf(store.path, sizeof(store.path), "%s/store", store.dir->path);
    assert_ok(store_root_init(store.path, 0, &err), &err);
    assert_ok(store_root_open(store.path, &store.root, &err), &err);
    *state = &store;
    return 0;
}

int small_store_remove(void **state)
{
    struct small_store *store = *state;
    void *dir = store->dir;

    store_root_free(store->root);
    return tmp_dir_remove(&dir);
}

const char *
small_store_at(const struct small_store *store, const char *fmt, ...)
{
    static char path[512];
    char rest[256];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(rest, sizeof(rest), fmt, args);
    va_end(args);
    (void)snprintf(path, sizeof(path), "%s/%s", store->path, rest);
    return path;
}

const char *small_store_blob_at(const struct small_store *store,
                                const struct ptc_manifest_blob *blob)
{
    BASE_AUTO_MEM char *path = store_blob_path(&blob->name);

    assert_non_null(path);
    return small_store_at(store, "%s", path);
}

bool small_store_has(const struct small_store *store, const char *path)
{
    return faccessat(store_root_fd(store->root), path, F_OK, 0) == 0;
}

void small_store_write(const struct small_store *store,
                       const char *path,
                       const char *text)
{
    struct base_err err;

    (void)unlinkat(store_root_fd(store->root), path, 0); /* may not be there */
    assert_ok(base_file_write(store_root_fd(store->root), path,
                              base_str_of(text), &err),
              &err);
}

struct small_blobs small_store_blobs(struct small_store *store, uint64_t seed)
{
    struct small_blobs blobs;
    struct base_err err;

    for (size_t i = 0; i < SMALL_N_BLOBS; i++) {
        struct ptc_manifest_blob *blob = &blobs.blobs[i];
        size_t n = (size_t)blob_bytes[i];
        BASE_AUTO_MEM char *bytes = malloc(n);
        BASE_AUTO_MEM char *path = NULL;

        assert_non_null(bytes);
        for (size_t k = 0; k < n; k++) {
            bytes[k] = (char)base_random_next(&seed);
        }
        assert_ok(store_blob_name_make(&blob->name, &err), &err);
        blob->n_bytes = n;
        path = store_blob_path(&blob->name);
        assert_ok(store_blob_make_folder(store->root, &blob->name, &err), &err);
        assert_ok(base_file_write(store_root_fd(store->root), path,
                                  (struct base_str){bytes, n}, &err),
                  &err);
    }
    return blobs;
}

/* Regions and chunks as the blobs' bytes are now. */
static void digest_all(struct small_store *store,
                       const struct small_blobs *blobs,
                       struct ptc_manifest_region *ret_regions,
                       struct base_digest *ret_chunks)
{
    struct base_err err;
    uint64_t chunk = 0;

    for (size_t i = 0; i < N_REGIONS; i++) {
        struct ptc_manifest_region *region = &ret_regions[i];
        BASE_AUTO_FD fd = -1;

        *region = regions[i];
        region->first_chunk = chunk;
        region->is_digested = !store->is_undigested;
        if (i == N_REGIONS - 1 && store->object_blob != 0) {
            region->blob = store->object_blob;
        }
        assert_ok(store_blob_open(store->root, &blobs->blobs[region->blob], &fd,
                                  &err),
                  &err);
        assert_ok(store_digest_range(fd, region->offset, region->n_bytes,
                                     "blob", &ret_chunks[chunk],
                                     &region->digest, &err),
                  &err);
        chunk += store_digest_n_chunks(region->n_bytes);
        if (store->is_undigested) {
            region->digest = (struct base_digest){0};
        }
    }
    assert_int_equal(chunk, N_CHUNKS);
    if (store->is_undigested) {
        memset(ret_chunks, 0, N_CHUNKS * sizeof(*ret_chunks));
    }
}

static void write_table(struct small_store *store,
                        const struct ptc_table *table)
{
    char digest[BASE_DIGEST_TEXT_BYTES];
    char path[64];
    BASE_AUTO_BUF text;
    struct base_err err;

    base_buf_init(&text, 1 << 16);
    assert_ok(ptc_table_format(table, &text, &err), &err);
    (void)snprintf(path, sizeof(path), "tables/%s",
                   base_digest_format(ptc_table_digest(table), digest));
    if (!small_store_has(store, path)) {
        assert_ok(base_file_write(store_root_fd(store->root), path,
                                  base_buf_str(&text), &err),
                  &err);
    }
}

static void
make_folders(struct small_store *store, const char *job, uint64_t number)
{
    (void)mkdir(small_store_at(store, "jobs/%s", job), 0700);
    (void)mkdir(small_store_at(store, "jobs/%s/versions", job), 0700);
    assert_int_equal(mkdir(small_store_at(store, "jobs/%s/versions/%llu", job,
                                          (unsigned long long)number),
                           0700),
                     0);
}

void small_store_publish_as(struct small_store *store,
                            const char *job,
                            uint64_t number,
                            uint64_t head_number,
                            const struct small_blobs *blobs)
{
    struct ptc_manifest_region own[N_REGIONS];
    struct base_digest chunks[N_CHUNKS];
    const struct ptc_manifest_object object = {
        .name = BASE_STR("notes.txt"), .rank = PTC_NONE, .region = 4};
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_pieces) all = NULL;
    BASE_AUTO_BUF bytes;
    struct ptc_manifest_new from;
    struct base_err err;

    base_buf_init(&bytes, 1 << 20);
    assert_ok(ptc_table_parse(base_str_of(table_text), "table", &table, &err),
              &err);
    all = ptc_pieces_create(table);
    for (size_t i = 0; i < N_ITEMS(pieces); i++) {
        assert_ok(ptc_pieces_add(all, pieces[i].tensor, &pieces[i].piece, &err),
                  &err);
    }
    assert_ok(ptc_pieces_seal(all, &err), &err);
    digest_all(store, blobs, own, chunks);
    from = (struct ptc_manifest_new){
        .head = {.version = head_number,
                 .step = UINT64_MAX,
                 .samples = UINT64_MAX,
                 .layout = base_str_of(store->layout != NULL
                                           ? store->layout
                                           : "mesh: {}\nrules:\n  - match: "
                                             "'*'\n"),
                 .origin = BASE_STR("import")},
        .blobs = blobs->blobs,
        .n_blobs = SMALL_N_BLOBS,
        .regions = own,
        .n_regions = N_REGIONS,
        .chunks = chunks,
        .n_chunks = N_CHUNKS,
        .objects = &object,
        .n_objects = 1,
        .table = table,
        .pieces = all,
    };
    assert_ok(ptc_manifest_encode(&from, &bytes, &err), &err);
    write_table(store, table);
    make_folders(store, job, number);
    assert_ok(
        base_file_write(AT_FDCWD,
                        small_store_at(store, "jobs/%s/versions/%llu/manifest",
                                       job, (unsigned long long)number),
                        base_buf_str(&bytes), &err),
        &err);
    assert_ok(
        base_file_write(AT_FDCWD,
                        small_store_at(store, "jobs/%s/versions/%llu/lock", job,
                                       (unsigned long long)number),
                        BASE_STR(""), &err),
        &err);
}

void small_store_publish(struct small_store *store,
                         const char *job,
                         uint64_t number,
                         const struct small_blobs *blobs)
{
    small_store_publish_as(store, job, number, number, blobs);
}

void small_store_flip(const char *path, uint64_t at)
{
    struct base_err err;
    BASE_AUTO_FD fd = -1;
    char byte;

    assert_int_equal(chmod(path, 0600), 0);
    assert_ok(base_io_open(AT_FDCWD, path, O_RDWR, 0, path, &fd, &err), &err);
    assert_ok(base_io_pread(fd, &byte, 1, at, path, &err), &err);
    byte = (char)(byte ^ 8);
    assert_ok(base_io_pwrite(fd, &byte, 1, at, path, &err), &err);
}
