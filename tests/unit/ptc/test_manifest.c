/* Manifests: a round trip, golden bytes, and whatever can be wrong in one.
 *
 * Given a path, the program writes the golden file there and tests nothing. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "ptc/manifest.h"
#include "ptc/manifest_impl.h"

#define BIG_BYTES  (2 * PTC_DIGEST_CHUNK_BYTES + 5)
#define MAX_BYTES  4096
#define END_BYTES  PTC_MANIFEST_END_BYTES
#define HEADER     PTC_MANIFEST_N_SECTIONS /* as a section */
#define N_SECTIONS PTC_MANIFEST_N_SECTIONS
#define UNDIGESTED 3 /* the region without a digest */

/* ---- A small version ---- */

struct sample {
    struct ptc_table *table;
    struct ptc_pieces *pieces;
    struct ptc_manifest_new from;
};

static void sample_done(struct sample *sample)
{
    ptc_pieces_free(sample->pieces);
    ptc_table_free(sample->table);
}
#define SAMPLE __attribute__((cleanup(sample_done))) struct sample

static const struct ptc_manifest_blob sample_blobs[] = {
    {.name = {{0xab, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
     .n_bytes = 8192},
    {.name = {{0xcd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
     .n_bytes = 64 + BIG_BYTES},
};

/* Tensors in the table: a 0, big 1, n 2, q 3, t 4 (a tie to a), z 5. */
static const struct {
    uint32_t tensor;
    struct ptc_piece piece;
} sample_pieces[] = {
    {0, {{2, {2, 0}, {4, 3}}, 1, 0, {12, 4}}},
    {0, {{2, {0, 0}, {2, 3}}, 0, 4096, {12, 4}}},
    {1, {{1, {0}, {BIG_BYTES}}, 1, 64, {1}}},
    {2, {{0, {0}, {0}}, 0, 4120, {0}}},
    {3, {{2, {0, 0}, {2, 4}}, 0, 5000, {16, 4}}}, /* in bits */
};

static struct ptc_manifest_region sample_regions[] = {
    {.tensor = 0, .blob = 0, .offset = 4096, .n_bytes = 24},
    {.tensor = 0, .blob = 1, .offset = 0, .n_bytes = 24},
    {.tensor = 1, .blob = 1, .offset = 64, .n_bytes = BIG_BYTES},
    {.tensor = 2, .blob = 0, .offset = 4120, .n_bytes = 8},
    {.tensor = 3, .blob = 0, .offset = 5000, .n_bytes = 4},
    {.tensor = PTC_NONE, .blob = 0, .offset = 6000, .n_bytes = 0},
    {.tensor = PTC_NONE, .blob = 0, .offset = 7000, .n_bytes = 5},
    {.tensor = PTC_NONE, .blob = 0, .offset = 8187, .n_bytes = 5},
};

static const struct ptc_manifest_object sample_objects[] = {
    {.name = {"notes.txt", 9}, .rank = PTC_NONE, .region = 5},
    {.name = {"rng.pt", 6}, .rank = 0, .region = 6},
    {.name = {"rng.pt", 6}, .rank = 1, .region = 7},
};

static struct base_digest sample_chunks[9];

static struct ptc_table *sample_table(void)
{
    static const char text[] =
        "{\"retile_table\":1,\"tensors\":["
        "{\"name\":\"a\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[4,3]}"
        ","
        "{\"name\":\"big\",\"group\":\"model\",\"dtype\":\"U8\","
        "\"shape\":[2097157]},"
        "{\"name\":\"n\",\"group\":\"model\",\"dtype\":\"I64\",\"shape\":[]},"
        "{\"name\":\"q\",\"group\":\"model\",\"dtype\":\"F4\",\"shape\":[2,4]},"
        "{\"name\":\"z\",\"group\":\"model\",\"dtype\":\"F32\",\"shape\":[0,5]}"
        "],"
        "\"ties\":{\"t\":\"a\"},"
        "\"objects\":{\"notes.txt\":\"job\",\"rng.pt\":\"rank\"}}";
    struct ptc_table *table = NULL;
    struct base_err err;

    assert_ok(ptc_table_parse(base_str_of(text), "table", &table, &err), &err);
    return table;
}

static void sample_init(struct sample *sample)
{
    uint64_t chunk = 0;
    struct base_err err;

    for (size_t i = 0; i < N_ITEMS(sample_chunks); i++) {
        memset(sample_chunks[i].bytes, (int)i + 1, 16);
    }
    for (size_t i = 0; i < N_ITEMS(sample_regions); i++) {
        struct ptc_manifest_region *region = &sample_regions[i];
        uint64_t n = (region->n_bytes + PTC_DIGEST_CHUNK_BYTES - 1) /
                     PTC_DIGEST_CHUNK_BYTES;

        region->first_chunk = chunk;
        region->is_digested = i != UNDIGESTED;
        if (region->is_digested) {
            region->digest =
                base_digest_of(sample_chunks + chunk, 16 * (size_t)n);
        } else {
            memset(sample_chunks + chunk, 0, 16 * (size_t)n);
        }
        chunk += n;
    }
    assert_int_equal(chunk, N_ITEMS(sample_chunks));
    sample->table = sample_table();
    sample->pieces = ptc_pieces_create(sample->table);
    assert_non_null(sample->pieces);
    for (size_t i = 0; i < N_ITEMS(sample_pieces); i++) {
        assert_ok(ptc_pieces_add(sample->pieces, sample_pieces[i].tensor,
                                 &sample_pieces[i].piece, &err),
                  &err);
    }
    assert_ok(ptc_pieces_seal(sample->pieces, &err), &err);
    sample->from = (struct ptc_manifest_new){
        .head = {.version = 7,
                 .parent = 5,
                 .step = 1000,
                 .samples = UINT64_MAX,
                 .created_ns = 1700000000123456789,
                 .layout = BASE_STR("mesh: {}\nrules:\n  - match: '*'\n"),
                 .origin = BASE_STR("import")},
        .blobs = sample_blobs,
        .n_blobs = N_ITEMS(sample_blobs),
        .regions = sample_regions,
        .n_regions = N_ITEMS(sample_regions),
        .chunks = sample_chunks,
        .n_chunks = N_ITEMS(sample_chunks),
        .objects = sample_objects,
        .n_objects = N_ITEMS(sample_objects),
        .table = sample->table,
        .pieces = sample->pieces,
    };
}

/* A manifest's bytes, to be spoiled. */
struct image {
    size_t n;
    _Alignas(8) char bytes[MAX_BYTES];
};

static struct base_str text_of(const struct image *image)
{
    return (struct base_str){image->bytes, image->n};
}

static void encode(const struct ptc_manifest_new *from, struct image *ret)
{
    BASE_AUTO_BUF buf;
    struct base_err err;

    base_buf_init(&buf, MAX_BYTES);
    assert_ok(ptc_manifest_encode(from, &buf, &err), &err);
    ret->n = buf.len;
    memcpy(ret->bytes, buf.ptr, buf.len);
}

static void encode_sample(struct image *ret)
{
    SAMPLE sample = {0};

    sample_init(&sample);
    encode(&sample.from, ret);
}

static void put(struct image *image, size_t at, unsigned width, uint64_t value)
{
    assert_true(at + width <= image->n);
    for (unsigned i = 0; i < width; i++) {
        image->bytes[at + i] = (char)(value >> (8 * i));
    }
}

/* Make size and digest right again. */
static void reseal(struct image *image)
{
    size_t body = image->n - END_BYTES;
    struct base_digest digest;

    put(image, PTC_MANIFEST_AT_N_BYTES, 8, image->n);
    digest = base_digest_of(image->bytes, body);
    memcpy(image->bytes + body, digest.bytes, sizeof(digest.bytes));
}

/* Where record @idx of @section begins. */
static size_t record_at(const struct image *image, unsigned section, size_t idx)
{
    static const size_t record_bytes[] = {
#define X(id, name, n_bytes) n_bytes,
        PTC_MANIFEST_SECTIONS(X)
#undef X
    };
    const unsigned char *bytes = (const unsigned char *)image->bytes;

    if (section == HEADER) {
        return 0;
    }
    return (size_t)ptc_manifest_u64(bytes + PTC_MANIFEST_AT_SECTIONS +
                                    16 * (size_t)section) +
           idx * record_bytes[section];
}

static struct ptc_manifest *open_image(const struct image *image)
{
    struct ptc_manifest *manifest = NULL;
    struct base_err err;

    assert_ok(ptc_manifest_open(text_of(image), "m", &manifest, &err), &err);
    return manifest;
}

/* ---- Round trip ---- */

/* What an opened manifest says, as the input of the encoder. */
static void encode_opened(const struct ptc_manifest *manifest,
                          const struct ptc_table *table,
                          struct image *ret)
{
    BASE_AUTO(ptc_pieces) pieces = NULL;
    struct ptc_manifest_blob blobs[2];
    struct ptc_manifest_region regions[8];
    struct ptc_manifest_object objects[3];
    struct base_digest chunks[9];
    struct ptc_manifest_new from = {
        .head = *ptc_manifest_head(manifest),
        .blobs = blobs,
        .n_blobs = ptc_manifest_n_blobs(manifest),
        .regions = regions,
        .n_regions = ptc_manifest_n_regions(manifest),
        .chunks = chunks,
        .objects = objects,
        .n_objects = ptc_manifest_n_objects(manifest),
        .table = table,
    };
    struct base_err err;

    assert_ok(ptc_manifest_pieces(manifest, table, &pieces, &err), &err);
    from.pieces = pieces;
    assert_true(from.n_blobs <= 2 && from.n_regions <= 8);
    assert_true(from.n_objects <= 3);
    for (uint32_t i = 0; i < from.n_blobs; i++) {
        blobs[i] = ptc_manifest_blob(manifest, i);
    }
    for (uint32_t i = 0; i < from.n_regions; i++) {
        uint64_t n;

        regions[i] = ptc_manifest_region(manifest, i);
        n = (regions[i].n_bytes + PTC_DIGEST_CHUNK_BYTES - 1) /
            PTC_DIGEST_CHUNK_BYTES;
        for (uint64_t c = 0; c < n; c++) {
            chunks[from.n_chunks++] =
                ptc_manifest_chunk(manifest, &regions[i], c);
        }
    }
    for (uint32_t i = 0; i < from.n_objects; i++) {
        objects[i] = ptc_manifest_object(manifest, i);
    }
    encode(&from, ret);
}

static void test_what_was_encoded_is_what_is_read(void **state)
{
    SAMPLE sample = {0};
    struct image image;
    BASE_AUTO(ptc_manifest) m = NULL;
    const struct ptc_manifest_head *head;
    uint64_t n_bytes;

    (void)state;
    sample_init(&sample);
    encode(&sample.from, &image);
    m = open_image(&image);
    assert_int_equal(ptc_manifest_undigested(m, &n_bytes), 1);
    assert_int_equal(n_bytes, sample_regions[UNDIGESTED].n_bytes);
    head = ptc_manifest_head(m);
    assert_int_equal(head->version, 7);
    assert_int_equal(head->parent, 5);
    assert_int_equal(head->step, 1000);
    assert_true(head->samples == UINT64_MAX);
    assert_int_equal(head->created_ns, 1700000000123456789);
    assert_true(base_digest_eq(head->table, ptc_table_digest(sample.table)));
    assert_true(base_str_eq(head->layout, sample.from.head.layout));
    assert_true(base_str_eq(head->origin, BASE_STR("import")));
    assert_int_equal(ptc_manifest_n_blobs(m), N_ITEMS(sample_blobs));
    for (uint32_t i = 0; i < N_ITEMS(sample_blobs); i++) {
        struct ptc_manifest_blob blob = ptc_manifest_blob(m, i);

        assert_memory_equal(blob.name.bytes, sample_blobs[i].name.bytes, 16);
        assert_int_equal(blob.n_bytes, sample_blobs[i].n_bytes);
    }
    assert_int_equal(ptc_manifest_n_regions(m), N_ITEMS(sample_regions));
    for (uint32_t i = 0; i < N_ITEMS(sample_regions); i++) {
        struct ptc_manifest_region region = ptc_manifest_region(m, i);

        assert_int_equal(region.tensor, sample_regions[i].tensor);
        assert_int_equal(region.blob, sample_regions[i].blob);
        assert_int_equal(region.offset, sample_regions[i].offset);
        assert_int_equal(region.n_bytes, sample_regions[i].n_bytes);
        assert_int_equal(region.first_chunk, sample_regions[i].first_chunk);
        assert_true(base_digest_eq(region.digest, sample_regions[i].digest));
        assert_true(region.is_digested == (i != UNDIGESTED));
    }
    assert_true(base_digest_eq(ptc_manifest_chunk(m, &sample_regions[2], 2),
                               sample_chunks[4]));
    assert_int_equal(ptc_manifest_n_objects(m), N_ITEMS(sample_objects));
    for (uint32_t i = 0; i < N_ITEMS(sample_objects); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(m, i);

        assert_true(base_str_eq(object.name, sample_objects[i].name));
        assert_int_equal(object.rank, sample_objects[i].rank);
        assert_int_equal(object.region, sample_objects[i].region);
    }
}

static enum base_code on_piece(void *ctx,
                               uint32_t tensor,
                               const struct ptc_piece *piece,
                               struct base_err *err)
{
    unsigned *n_found = ctx;

    (void)err;
    for (size_t i = 0; i < N_ITEMS(sample_pieces); i++) {
        const struct ptc_piece *want = &sample_pieces[i].piece;

        if (sample_pieces[i].tensor == tensor && want->blob == piece->blob &&
            want->offset == piece->offset &&
            ptc_box_eq(&want->box, &piece->box)) {
            assert_memory_equal(want->stride, piece->stride,
                                piece->box.n_dims * sizeof(uint64_t));
            ++*n_found;
        }
    }
    return BASE_OK;
}

static void test_pieces_are_found_again(void **state)
{
    SAMPLE sample = {0};
    struct image image;
    BASE_AUTO(ptc_manifest) m = NULL;
    BASE_AUTO(ptc_pieces) pieces = NULL;
    struct base_err err;
    unsigned n_found = 0;

    (void)state;
    sample_init(&sample);
    encode(&sample.from, &image);
    m = open_image(&image);
    assert_ok(ptc_manifest_pieces(m, sample.table, &pieces, &err), &err);
    assert_int_equal(ptc_pieces_n(pieces), N_ITEMS(sample_pieces));
    for (uint32_t t = 0; t < ptc_table_n_tensors(sample.table); t++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(sample.table, t);
        struct ptc_box box = ptc_box_whole(tensor->n_dims, tensor->shape);

        if (tensor->tie == PTC_NONE) {
            assert_ok(
                ptc_pieces_find(pieces, t, &box, on_piece, &n_found, &err),
                &err);
        }
    }
    assert_int_equal(n_found, N_ITEMS(sample_pieces));
}

static void test_reading_and_encoding_again_gives_the_same_bytes(void **state)
{
    SAMPLE sample = {0};
    struct image image;
    struct image again;
    BASE_AUTO(ptc_manifest) m = NULL;

    (void)state;
    sample_init(&sample);
    encode(&sample.from, &image);
    m = open_image(&image);
    encode_opened(m, sample.table, &again);
    assert_int_equal(again.n, image.n);
    assert_memory_equal(again.bytes, image.bytes, image.n);
}

static void test_a_version_of_nothing_is_a_version(void **state)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_pieces) pieces = NULL;
    BASE_AUTO(ptc_pieces) back = NULL;
    BASE_AUTO(ptc_manifest) m = NULL;
    struct ptc_manifest_new from = {.head = {.version = 1}};
    struct base_err err;
    struct image image;

    (void)state;
    assert_non_null(builder);
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    pieces = ptc_pieces_create(table);
    assert_non_null(pieces);
    assert_ok(ptc_pieces_seal(pieces, &err), &err);
    from.head.layout = BASE_STR("x");
    from.head.origin = BASE_STR("save");
    from.table = table;
    from.pieces = pieces;
    encode(&from, &image);
    m = open_image(&image);
    assert_int_equal(ptc_manifest_n_blobs(m), 0);
    assert_int_equal(ptc_manifest_n_regions(m), 0);
    assert_int_equal(ptc_manifest_n_objects(m), 0);
    assert_ok(ptc_manifest_pieces(m, table, &back, &err), &err);
    assert_int_equal(ptc_pieces_n(back), 0);
}

/* ---- Golden bytes ---- */

static void test_todays_encoder_makes_the_golden_bytes(void **state)
{
    const char *root = getenv("RETILE_SOURCE");
    BASE_AUTO_MEM char *path = NULL;
    BASE_AUTO_BUF golden;
    struct base_err err;
    struct image image;

    (void)state;
    base_buf_init(&golden, MAX_BYTES);
    path =
        base_path("%s/tests/golden/manifest-2.bin", root != NULL ? root : ".");
    assert_non_null(path);
    assert_ok(base_file_read(AT_FDCWD, path, &golden, &err), &err);
    encode_sample(&image);
    assert_int_equal(image.n, golden.len);
    assert_memory_equal(image.bytes, golden.ptr, golden.len);
}

/* ---- What is wrong ---- */

static void refuse(const struct image *image, const char *text)
{
    struct ptc_manifest *manifest = NULL;
    struct base_err err;

    if (ptc_manifest_open(text_of(image), "m", &manifest, &err) !=
            BASE_BAD_INPUT ||
        strstr(err.text, text) == NULL ||
        strncmp(err.text, "m: manifest", 11) != 0) {
        fail_msg("'%s' expected, not: %s", text,
                 manifest != NULL ? "opened" : err.text);
    }
    assert_null(manifest);
}

struct wrong {
    unsigned section;
    unsigned idx;   /* of the record; of texts: the byte */
    unsigned field; /* its offset in the record */
    unsigned width;
    uint64_t value;
    const char *text;
};

#define SECTION(id) (unsigned)(PTC_MANIFEST_AT_SECTIONS + 16 * (id))

static const struct wrong wrongs[] = {
    {HEADER, 0, 0, 1, 'r', "header: magic"},
    {HEADER, 0, 8, 4, 1, "header: format: 1"},
    {HEADER, 0, 12, 4, 1, "header: reserved"},
    {HEADER, 0, 24, 8, 0, "header: version"},
    {HEADER, 0, 32, 8, 7, "header: parent: 7"},
    {HEADER, 0, SECTION(0), 8, 216, "blobs: offset: 216, expected 208"},
    {HEADER, 0, SECTION(1), 8, 0, "tensors: offset"},
    {HEADER, 0, SECTION(2), 8, UINT64_MAX, "pieces: offset"},
    {HEADER, 0, SECTION(3), 8, 208, "regions: offset"},
    {HEADER, 0, SECTION(4), 8, 1, "chunks: offset"},
    {HEADER, 0, SECTION(5), 8, 0, "objects: offset"},
    {HEADER, 0, SECTION(6), 8, 0, "texts: offset"},
    {HEADER, 0, SECTION(0) + 8, 8, UINT64_MAX, "blobs: count"},
    {HEADER, 0, SECTION(1) + 8, 8, 1u << 30, "tensors: count"},
    {HEADER, 0, SECTION(2) + 8, 8, (uint64_t)1 << 61, "pieces: count"},
    {HEADER, 0, SECTION(3) + 8, 8, 500, "regions: count"},
    {HEADER, 0, SECTION(4) + 8, 8, (uint64_t)1 << 60, "chunks: count"},
    {HEADER, 0, SECTION(5) + 8, 8, 500, "objects: count"},
    {HEADER, 0, SECTION(6) + 8, 8, 5000, "texts: count"},
    {HEADER, 0, SECTION(6) + 8, 8, 40, "texts: count: they end"},
    {HEADER, 0, SECTION(6) + 8, 8, 54, "texts: count: 54 bytes, 52 used"},
    {HEADER, 0, SECTION(5) + 8, 8, 2, "texts: offset"},
    {HEADER, 0, 192, 4, 1, "header: layout: offset: 1"},
    {HEADER, 0, 196, 4, 0, "header: layout: length"},
    {HEADER, 0, 196, 4, 1000, "header: layout: length"},
    {HEADER, 0, 200, 4, 33, "header: origin: offset: 33"},
    {HEADER, 0, 204, 4, 0, "header: origin: length"},
    {HEADER, 0, 204, 4, 1000, "header: origin: length"},
    {PTC_MANIFEST_BLOBS, 1, 0, 1, 0xab, "blobs: name: ab0102"},
    {PTC_MANIFEST_BLOBS, 1, 16, 8, (uint64_t)1 << 63, "blobs: 1: bytes"},
    {PTC_MANIFEST_BLOBS, 1, 16, 8, BIG_BYTES + 63, "outside blob 1"},
    {PTC_MANIFEST_TENSORS, 1, 0, 8, 0, "tensors: 1: first word: 0"},
    {PTC_MANIFEST_TENSORS, 1, 8, 8, UINT64_MAX, "tensors: 1: pieces"},
    {PTC_MANIFEST_TENSORS, 1, 8, 8, 0, "tensors: 2: first word"},
    {PTC_MANIFEST_TENSORS, 3, 8, 8, 0, "tensors: 4: first word"},
    {PTC_MANIFEST_TENSORS, 0, 16, 4, 9, "tensors: 0: dimensions: 9"},
    {PTC_MANIFEST_TENSORS, 0, 20, 4, 0, "tensors: 0: bits"},
    {PTC_MANIFEST_TENSORS, 0, 20, 4, 7, "tensors: 0: bits"},
    {PTC_MANIFEST_PIECES, 0, 0, 8, 4, "tensor 0: box: dimension 0 is empty"},
    {PTC_MANIFEST_PIECES, 3, 0, 8, 0, "tensor 0: box: dimension 1 is empty"},
    {PTC_MANIFEST_PIECES, 3, 0, 8, UINT64_MAX, "offset and stride: outside"},
    {PTC_MANIFEST_PIECES, 4, 0, 8, UINT64_MAX, "offset and stride: outside"},
    {PTC_MANIFEST_PIECES, 6, 0, 8, 8192, "offset and stride: outside"},
    {PTC_MANIFEST_PIECES, 6, 0, 8, 8192 - 23, "offset and stride: outside"},
    {PTC_MANIFEST_PIECES, 7, 0, 8, 2, "tensor 0: blob: 2 of 2"},
    {PTC_MANIFEST_PIECES, 7, 0, 8, (uint64_t)1 << 32, "tensor 0: blob"},
    {PTC_MANIFEST_PIECES, 8, 0, 8, 0, "word 8, of tensor 0: box: not in order"},
    {PTC_MANIFEST_REGIONS, 0, 0, 4, 6, "regions: 0: tensor: 6 of 6"},
    {PTC_MANIFEST_REGIONS, 1, 4, 4, 2, "regions: 1: blob: 2 of 2"},
    {PTC_MANIFEST_REGIONS, 2, 8, 8, 65, "regions: 2: offset and bytes"},
    {PTC_MANIFEST_REGIONS, 2, 8, 8, UINT64_MAX, "regions: 2: offset and"},
    {PTC_MANIFEST_REGIONS, 0, 16, 8, UINT64_MAX, "regions: 0: offset and"},
    {PTC_MANIFEST_REGIONS, 2, 16, 8, 1, "regions: 2: digest"},
    {PTC_MANIFEST_REGIONS, 5, 16, 8, 1, "regions: 5: digest"},
    {PTC_MANIFEST_REGIONS, 3, 24, 8, 0, "regions: 3: first chunk: 0"},
    {PTC_MANIFEST_REGIONS, 3, 24, 8, UINT64_MAX, "regions: 3: first chunk"},
    {PTC_MANIFEST_REGIONS, 4, 32, 1, 0, "regions: 4: digest"},
    {PTC_MANIFEST_REGIONS, 4, 48, 4, 0, "regions: 4: digest: not zero, though"},
    {PTC_MANIFEST_REGIONS, 4, 48, 4, 2, "regions: 4: flags: 2"},
    {PTC_MANIFEST_REGIONS, 4, 48, 4, 3, "regions: 4: flags: 3"},
    {PTC_MANIFEST_REGIONS, 4, 52, 4, 1, "regions: 4: reserved: not zero"},
    {PTC_MANIFEST_REGIONS, 3, 32, 1, 1, "regions: 3: digest: not zero, though"},
    {PTC_MANIFEST_REGIONS, 3, 47, 1, 1, "regions: 3: digest: not zero, though"},
    {PTC_MANIFEST_REGIONS, 3, 48, 4, 1, "regions: 3: digest: not that of"},
    {PTC_MANIFEST_CHUNKS, 4, 0, 1, 0, "regions: 2: digest"},
    {PTC_MANIFEST_CHUNKS, 5, 15, 1, 1, "regions: 3: digest: not zero, though"},
    {PTC_MANIFEST_OBJECTS, 0, 0, 4, 38, "objects: 0: name: offset: 38"},
    {PTC_MANIFEST_OBJECTS, 1, 4, 4, 0, "objects: 1: name: length"},
    {PTC_MANIFEST_OBJECTS, 1, 4, 4, 7, "objects: 1: name: length"},
    {PTC_MANIFEST_OBJECTS, 1, 4, 4, 5, "objects: 2: name: offset"},
    {PTC_MANIFEST_OBJECTS, 1, 8, 4, PTC_NONE, "objects: 2: rank"},
    {PTC_MANIFEST_OBJECTS, 1, 8, 4, 1u << 20, "objects: 1: rank: 1048576"},
    {PTC_MANIFEST_OBJECTS, 2, 8, 4, 0, "objects: 2: rank"},
    {PTC_MANIFEST_OBJECTS, 2, 8, 4, PTC_NONE, "objects: 2: rank"},
    {PTC_MANIFEST_OBJECTS, 2, 12, 4, 8, "objects: 2: region: 8"},
    {PTC_MANIFEST_OBJECTS, 2, 12, 4, 4, "objects: 2: region: 4"},
    {PTC_MANIFEST_TEXTS, 0, 0, 1, 0, "header: layout: not UTF-8"},
    {PTC_MANIFEST_TEXTS, 1, 0, 1, 0xff, "header: layout: not UTF-8"},
    {PTC_MANIFEST_TEXTS, 33, 0, 1, 'I', "header: origin"},
    {PTC_MANIFEST_TEXTS, 39, 0, 1, '/', "objects: 0: name"},
    {PTC_MANIFEST_TEXTS, 46, 0, 1, 'a', "objects: 1: name: not behind"},
    {PTC_MANIFEST_TEXTS, 52, 0, 1, 1, "texts: padding"},
};

static void test_a_field_out_of_range_is_refused_by_name(void **state)
{
    struct image good;

    (void)state;
    encode_sample(&good);
    for (size_t i = 0; i < N_ITEMS(wrongs); i++) {
        const struct wrong *wrong = &wrongs[i];
        struct image image = good;

        put(&image, record_at(&good, wrong->section, wrong->idx) + wrong->field,
            wrong->width, wrong->value);
        reseal(&image);
        refuse(&image, wrong->text);
    }
}

static void test_pieces_of_no_tensor_are_refused(void **state)
{
    struct image image;

    (void)state;
    encode_sample(&image);
    put(&image, record_at(&image, PTC_MANIFEST_TENSORS, 3) + 8, 8, 0);
    put(&image, record_at(&image, PTC_MANIFEST_TENSORS, 4), 8, 23);
    put(&image, record_at(&image, PTC_MANIFEST_TENSORS, 5), 8, 23);
    reseal(&image);
    refuse(&image, "pieces: count: 31 words, the tensors have 23");
}

/* 2 x 4 elements of 4 bits, 16 bits from row to row: 4 bytes. */
static void test_a_piece_of_part_bytes_may_end_where_its_blob_does(void **state)
{
    struct image image;
    BASE_AUTO(ptc_manifest) m = NULL;
    size_t at;

    (void)state;
    encode_sample(&image);
    at = record_at(&image, PTC_MANIFEST_PIECES, 29);
    put(&image, at, 8, 8192 - 4);
    reseal(&image);
    m = open_image(&image);
    put(&image, at, 8, 8192 - 3);
    reseal(&image);
    refuse(&image, "word 23, of tensor 3: offset and stride");
}

static void test_no_part_of_a_manifest_is_one(void **state)
{
    struct image good;

    (void)state;
    encode_sample(&good);
    for (size_t n = 0; n < good.n; n++) {
        struct image image = good;
        BASE_AUTO_MEM char *exact = malloc(n > 0 ? n : 1);
        BASE_AUTO(ptc_manifest) m = NULL;

        assert_non_null(exact); /* so that a sanitizer sees an overrun */
        memcpy(exact, good.bytes, n);
        assert_int_equal(
            ptc_manifest_open((struct base_str){exact, n}, "m", &m, NULL),
            BASE_BAD_INPUT);
        if (n >= PTC_MANIFEST_HEADER_BYTES + END_BYTES) {
            image.n = n;
            reseal(&image);
            refuse(&image, "");
        }
    }
}

static void test_any_flipped_byte_is_refused(void **state)
{
    struct image image;

    (void)state;
    encode_sample(&image);
    for (size_t at = 0; at < image.n; at++) {
        image.bytes[at] = (char)(image.bytes[at] ^ 0x20);
        refuse(&image, at < 8                ? "header: magic"
                       : at < 12             ? "header: format"
                       : at >= 16 && at < 24 ? "header: bytes"
                                             : "digest: not that of the bytes");
        image.bytes[at] = (char)(image.bytes[at] ^ 0x20);
    }
}

/* With a digest that fits: it is refused, or every byte of it has a meaning
 * that survives reading and encoding again. */
static void test_any_byte_may_have_any_value_without_harm(void **state)
{
    BASE_AUTO(ptc_table) table = sample_table();
    struct image good;

    (void)state;
    encode_sample(&good);
    for (size_t at = 0; at < good.n - END_BYTES; at++) {
        for (unsigned value = 0; value < 256; value += 15) {
            BASE_AUTO(ptc_manifest) m = NULL;
            BASE_AUTO(ptc_pieces) pieces = NULL;
            struct image image = good;
            struct image again;

            put(&image, at, 1, value);
            reseal(&image);
            if (ptc_manifest_open(text_of(&image), "m", &m, NULL) == BASE_OK &&
                ptc_manifest_pieces(m, table, &pieces, NULL) == BASE_OK) {
                encode_opened(m, table, &again);
                assert_int_equal(again.n, image.n);
                assert_memory_equal(again.bytes, image.bytes, image.n);
            }
        }
    }
}

static void test_pieces_must_be_of_the_table(void **state)
{
    static const struct wrong cases[] = {
        {HEADER, 0, PTC_MANIFEST_AT_TABLE, 1, 0, "is over table"},
        {PTC_MANIFEST_TENSORS, 5, 16, 4, 1, "tensor z: 1 dimensions of 32"},
        {PTC_MANIFEST_TENSORS, 0, 20, 4, 16, "tensor a: 2 dimensions of 16"},
        {PTC_MANIFEST_PIECES, 2, 0, 8, 1, "tensor a"},  /* a row is missing */
        {PTC_MANIFEST_PIECES, 2, 0, 8, 3, "tensor a"},  /* a row is twice */
        {PTC_MANIFEST_PIECES, 10, 0, 8, 5, "tensor a"}, /* a row too many */
    };
    BASE_AUTO(ptc_table) table = sample_table();
    struct image good;

    (void)state;
    encode_sample(&good);
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(ptc_manifest) m = NULL;
        struct ptc_pieces *pieces = NULL;
        struct image image = good;
        struct base_err err;

        put(&image,
            record_at(&good, cases[i].section, cases[i].idx) + cases[i].field,
            cases[i].width, cases[i].value);
        reseal(&image);
        m = open_image(&image);
        assert_int_equal(ptc_manifest_pieces(m, table, &pieces, &err),
                         i == 0 ? BASE_MISMATCH : BASE_BAD_INPUT);
        assert_null(pieces);
        if (strstr(err.text, cases[i].text) == NULL ||
            strncmp(err.text, "m: manifest: ", 13) != 0) {
            fail_msg("'%s' expected, not: %s", cases[i].text, err.text);
        }
    }
}

static void test_what_could_not_be_opened_is_not_encoded(void **state)
{
    const struct ptc_manifest_blob twice[] = {
        sample_blobs[0],
        sample_blobs[1],
        sample_blobs[0],
    };
    struct base_digest more[N_ITEMS(sample_chunks) + 1] = {0};
    SAMPLE sample = {0};
    BASE_AUTO_BUF buf;
    BASE_AUTO_BUF small;
    struct base_err err;

    (void)state;
    sample_init(&sample);
    base_buf_init(&buf, MAX_BYTES);
    base_buf_init(&small, 100);
    sample.from.n_chunks--;
    assert_int_equal(ptc_manifest_encode(&sample.from, &buf, &err),
                     BASE_BAD_ARG);
    assert_non_null(strstr(err.text, "regions: 7"));
    memcpy(more, sample_chunks, sizeof(sample_chunks));
    sample.from.chunks = more;
    sample.from.n_chunks = N_ITEMS(more);
    assert_int_equal(ptc_manifest_encode(&sample.from, &buf, &err),
                     BASE_BAD_ARG);
    assert_non_null(strstr(err.text, "chunks: count: 10, the regions have 9"));
    sample.from.n_chunks = N_ITEMS(sample_chunks);
    sample.from.blobs = twice;
    sample.from.n_blobs = N_ITEMS(twice);
    assert_int_equal(ptc_manifest_encode(&sample.from, &buf, &err),
                     BASE_BAD_ARG);
    assert_non_null(strstr(err.text, "blobs: name: ab01"));
    sample.from.n_blobs = N_ITEMS(sample_blobs);
    sample.from.n_chunks = PTC_MANIFEST_MAX_BYTES / 16;
    assert_int_equal(ptc_manifest_encode(&sample.from, &buf, &err), BASE_LIMIT);
    sample.from.n_chunks = UINT64_MAX;
    assert_int_equal(ptc_manifest_encode(&sample.from, &buf, &err), BASE_LIMIT);
    assert_int_equal(buf.len, 0);
    sample.from.n_chunks = N_ITEMS(sample_chunks);
    assert_int_equal(ptc_manifest_encode(&sample.from, &small, &err),
                     BASE_LIMIT);
    assert_ok(ptc_manifest_encode(&sample.from, &buf, &err), &err);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_encoded_is_what_is_read),
        cmocka_unit_test(test_pieces_are_found_again),
        cmocka_unit_test(test_reading_and_encoding_again_gives_the_same_bytes),
        cmocka_unit_test(test_a_version_of_nothing_is_a_version),
        cmocka_unit_test(test_todays_encoder_makes_the_golden_bytes),
        cmocka_unit_test(test_a_field_out_of_range_is_refused_by_name),
        cmocka_unit_test(test_pieces_of_no_tensor_are_refused),
        cmocka_unit_test(
            test_a_piece_of_part_bytes_may_end_where_its_blob_does),
        cmocka_unit_test(test_no_part_of_a_manifest_is_one),
        cmocka_unit_test(test_any_flipped_byte_is_refused),
        cmocka_unit_test(test_any_byte_may_have_any_value_without_harm),
        cmocka_unit_test(test_pieces_must_be_of_the_table),
        cmocka_unit_test(test_what_could_not_be_opened_is_not_encoded),
    };

    if (argc == 2) {
        struct base_err err = {0};
        struct image image;

        encode_sample(&image);
        if (base_file_write(AT_FDCWD, argv[1], text_of(&image), &err) !=
            BASE_OK) {
            (void)fprintf(stderr, "%s\n", err.text);
            return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
