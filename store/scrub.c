/* Scrub: every byte that has a digest is read and compared with it.
 *
 * Versions that share blobs share regions: regions are sorted by where they
 * lie and read once, for the oldest version that names them, in parts of 64
 * chunks so that threads share a large one.  Chunks that are wrong are kept and
 * told at the end, neighbours as one. */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/parallel.h"
#include "store/blob.h"
#include "store/check_priv.h"
#include "store/digest.h"

enum { PART_CHUNKS = 64, NAMES_SHOWN = 3 };

struct part {
    struct ptc_manifest_blob blob;
    struct ptc_manifest_region region;
    uint32_t version; /* index into check->versions */
    uint32_t idx;     /* the region's in its manifest */
    uint64_t first;   /* chunk of the region */
};

/* Chunks [begin, end) of a part's region are wrong; @text: cannot be read. */
struct wrong {
    size_t part;
    uint64_t begin;
    uint64_t end;
    char *text; /* NULL: their digests differ */
};

struct scrub {
    struct check *check; /* threads only read it */
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    uint64_t all_bytes;
    BASE_VEC(struct part) parts;
    pthread_mutex_t lock; /* guards what follows, and calls of progress */
    uint64_t done_bytes;
    BASE_VEC(struct wrong) wrongs;
};

static void scrub_done(struct scrub *scrub)
{
    for (size_t i = 0; i < scrub->wrongs.n; i++) {
        free(scrub->wrongs.items[i].text);
    }
    base_vec_done(&scrub->wrongs);
    base_vec_done(&scrub->parts);
    (void)pthread_mutex_destroy(&scrub->lock); /* no one holds it */
}

/* Where it lies, then what its digest is, then how old its version is (they
 * are collected in order). */
static int part_cmp(const void *a, const void *b)
{
    const struct part *x = a;
    const struct part *y = b;
    int cmp = store_blob_name_cmp(&x->blob.name, &y->blob.name);

    if (cmp == 0) {
        cmp = (x->region.offset > y->region.offset) -
              (x->region.offset < y->region.offset);
    }
    if (cmp == 0) {
        cmp = (x->region.n_bytes > y->region.n_bytes) -
              (x->region.n_bytes < y->region.n_bytes);
    }
    if (cmp == 0) {
        cmp = (x->first > y->first) - (x->first < y->first);
    }
    if (cmp == 0) {
        cmp = memcmp(x->region.digest.bytes, y->region.digest.bytes,
                     sizeof(x->region.digest.bytes));
    }
    if (cmp == 0) {
        cmp = (x->version > y->version) - (x->version < y->version);
    }
    return cmp != 0 ? cmp : (x->idx > y->idx) - (x->idx < y->idx);
}

/* Are they the same bytes with the same digest? */
static bool is_same_part(const struct part *a, const struct part *b)
{
    return store_blob_name_cmp(&a->blob.name, &b->blob.name) == 0 &&
           a->region.offset == b->region.offset &&
           a->region.n_bytes == b->region.n_bytes && a->first == b->first &&
           base_digest_eq(a->region.digest, b->region.digest);
}

static uint64_t part_bytes(const struct part *part)
{
    uint64_t begin = part->first * PTC_DIGEST_CHUNK_BYTES;

    return base_min_u64(part->region.n_bytes - begin,
                        PART_CHUNKS * PTC_DIGEST_CHUNK_BYTES);
}

static enum base_code
parts_add(struct scrub *scrub, uint32_t version, struct base_err *err)
{
    const struct ptc_manifest *manifest =
        store_version_manifest(scrub->check->versions.items[version].version);

    for (uint32_t i = 0; i < ptc_manifest_n_regions(manifest); i++) {
        struct part part = {.region = ptc_manifest_region(manifest, i),
                            .version = version,
                            .idx = i};
        uint64_t n = store_digest_n_chunks(part.region.n_bytes);

        part.blob = ptc_manifest_blob(manifest, part.region.blob);
        if (!part.region.is_digested) {
            continue; /* nothing to compare it with yet */
        }
        if (check_blob_is_bad(scrub->check, &part.blob)) {
            continue; /* told */
        }
        for (; part.first < n; part.first += PART_CHUNKS) {
            if (!base_vec_push(&scrub->parts, part)) {
                return base_fail(err, BASE_NO_MEM, "regions: cannot scrub");
            }
        }
    }
    return BASE_OK;
}

static enum base_code parts_collect(struct scrub *scrub, struct base_err *err)
{
    size_t n_kept = 0;

    for (size_t i = 0; i < scrub->check->versions.n; i++) {
        BASE_TRY(parts_add(scrub, (uint32_t)i, err));
    }
    if (scrub->parts.n > 0) {
        qsort(scrub->parts.items, scrub->parts.n, sizeof(*scrub->parts.items),
              part_cmp);
    }
    for (size_t i = 0; i < scrub->parts.n; i++) {
        struct part *items = scrub->parts.items;

        if (n_kept == 0 || !is_same_part(&items[i], &items[n_kept - 1])) {
            items[n_kept++] = items[i];
            scrub->all_bytes += part_bytes(&items[n_kept - 1]);
        }
    }
    scrub->parts.n = n_kept;
    return BASE_OK;
}

static enum base_code
wrong_add(struct scrub *scrub, struct wrong wrong, struct base_err *err)
{
    bool is_added;

    (void)pthread_mutex_lock(&scrub->lock); /* ours: cannot fail */
    is_added = base_vec_push(&scrub->wrongs, wrong);
    (void)pthread_mutex_unlock(&scrub->lock);
    if (!is_added) {
        free(wrong.text);
        return base_fail(err, BASE_NO_MEM, "cannot keep a finding");
    }
    return BASE_OK;
}

/* Compare a part's chunks with what the manifest says. */
static enum base_code part_compare(struct scrub *scrub,
                                   size_t idx,
                                   const struct base_digest *chunks,
                                   struct base_err *err)
{
    const struct part *part = &scrub->parts.items[idx];
    const struct ptc_manifest *manifest = store_version_manifest(
        scrub->check->versions.items[part->version].version);
    uint64_t n = store_digest_n_chunks(part_bytes(part));
    struct wrong wrong = {.part = idx};

    for (uint64_t i = 0; i <= n; i++) {
        bool is_wrong =
            i < n && !base_digest_eq(chunks[i],
                                     ptc_manifest_chunk(manifest, &part->region,
                                                        part->first + i));

        if (is_wrong && wrong.end == 0) {
            wrong.begin = part->first + i;
        }
        if (is_wrong) {
            wrong.end = part->first + i + 1;
        } else if (wrong.end != 0) {
            BASE_TRY(wrong_add(scrub, wrong, err));
            wrong.end = 0;
        }
    }
    return BASE_OK;
}

static enum base_code
progress_add(struct scrub *scrub, uint64_t n_bytes, struct base_err *err)
{
    bool go_on = true;

    (void)pthread_mutex_lock(&scrub->lock);
    scrub->done_bytes += n_bytes;
    if (scrub->progress != NULL) {
        go_on = scrub->progress(scrub->check->ctx, scrub->done_bytes,
                                scrub->all_bytes);
    }
    (void)pthread_mutex_unlock(&scrub->lock);
    return go_on ? BASE_OK : base_fail(err, BASE_INTERRUPTED, "interrupted");
}

/* One part, on some thread. */
static enum base_code
part_read(void *ctx, size_t idx, unsigned thread, struct base_err *err)
{
    struct scrub *scrub = ctx;
    const struct part *part = &scrub->parts.items[idx];
    struct base_digest chunks[PART_CHUNKS];
    BASE_AUTO_MEM char *path = store_blob_path(&part->blob.name);
    BASE_AUTO_FD fd = -1;
    struct base_err why = {0};
    enum base_code code;

    (void)thread;
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot scrub");
    }
    code = store_blob_open(scrub->check->root, &part->blob, &fd, &why);
    if (code == BASE_OK) {
        code = store_digest_range(
            fd, part->region.offset + part->first * PTC_DIGEST_CHUNK_BYTES,
            part_bytes(part), path, chunks, NULL, &why);
    }
    if (code == BASE_NO_MEM) {
        return base_fail(err, code, "%s", why.text);
    }
    if (code == BASE_OK) {
        BASE_TRY(part_compare(scrub, idx, chunks, err));
    } else {
        struct wrong wrong = {.part = idx,
                              .begin = part->first,
                              .end = part->first +
                                     store_digest_n_chunks(part_bytes(part)),
                              .text = strdup(why.text)};

        if (wrong.text == NULL) {
            return base_fail(err, BASE_NO_MEM, "cannot keep a finding");
        }
        BASE_TRY(wrong_add(scrub, wrong, err));
    }
    return progress_add(scrub, part_bytes(part), err);
}

/* --- telling --- */

/* The tensors that lie (also) in bytes [begin, end) of a blob: of a flat
 * bucket, whose regions belong to none. */
struct members {
    const struct ptc_table *table;
    uint32_t blob;
    uint64_t begin;
    uint64_t end;
    uint32_t last; /* the tensor named last */
    uint32_t n;
    struct base_buf *text;
};

static enum base_code members_add(void *ctx,
                                  uint32_t tensor,
                                  const struct ptc_piece *piece,
                                  struct base_err *err)
{
    struct members *members = ctx;
    const struct ptc_tensor *t = ptc_table_tensor(members->table, tensor);
    unsigned bits = ptc_dtype_bits(t->dtype);
    uint64_t n_bits = bits;
    uint64_t end;

    (void)err;
    for (uint32_t i = 0; i < piece->box.n_dims; i++) {
        n_bits += (piece->box.end[i] - piece->box.begin[i] - 1) *
                  piece->stride[i] * (bits % 8 == 0 ? 8 : 1);
    }
    end = piece->offset + base_ceil_div(n_bits, 8);
    if (piece->blob != members->blob || piece->offset >= members->end ||
        end <= members->begin || members->last == tensor) {
        return BASE_OK;
    }
    members->last = tensor;
    if (members->n++ < NAMES_SHOWN) {
        (void)base_buf_addf(members->text, "%s'%.*s'",
                            members->n > 1 ? ", " : "", BASE_STR_FMT(t->name));
    }
    return BASE_OK;
}

static enum base_code members_name(const struct check_version *version,
                                   struct members *members,
                                   struct base_err *err)
{
    BASE_AUTO(ptc_pieces) pieces = NULL;
    uint32_t n = ptc_table_n_tensors(version->table);

    BASE_TRY(ptc_manifest_pieces(store_version_manifest(version->version),
                                 version->table, &pieces, err));
    for (uint32_t i = 0; i < n; i++) {
        const struct ptc_tensor *t = ptc_table_tensor(version->table, i);
        struct ptc_box whole = ptc_box_whole(t->n_dims, t->shape);

        if (t->tie == PTC_NONE) {
            BASE_TRY(
                ptc_pieces_find(pieces, i, &whole, members_add, members, err));
        }
    }
    if (members->n > NAMES_SHOWN) {
        (void)base_buf_addf(members->text, " and %" PRIu32 " more",
                            members->n - NAMES_SHOWN);
    }
    return BASE_OK;
}

/* Whose bytes they are: "tensor 'x'", "object 'rng.pt' of rank 3". */
static void owner_name(const struct check *check,
                       const struct part *part,
                       uint64_t begin,
                       uint64_t end,
                       struct base_buf *text)
{
    const struct check_version *version = &check->versions.items[part->version];
    const struct ptc_manifest *manifest =
        store_version_manifest(version->version);
    struct members members = {.table = version->table,
                              .blob = part->region.blob,
                              .begin = begin,
                              .end = end,
                              .last = PTC_NONE,
                              .text = text};

    if (part->region.tensor != PTC_NONE) {
        if (version->table != NULL &&
            part->region.tensor < ptc_table_n_tensors(version->table)) {
            struct base_str name =
                ptc_table_tensor(version->table, part->region.tensor)->name;

            (void)base_buf_addf(text, "tensor '%.*s'", BASE_STR_FMT(name));
        } else {
            (void)base_buf_addf(text, "tensor %" PRIu32 " of a damaged table",
                                part->region.tensor);
        }
        return;
    }
    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(manifest, i);

        if (object.region == part->idx) {
            (void)base_buf_addf(text, "object '%.*s'",
                                BASE_STR_FMT(object.name));
            if (object.rank != PTC_NONE) {
                (void)base_buf_addf(text, " of rank %" PRIu32, object.rank);
            }
            return;
        }
    }
    (void)base_buf_addf(text, "a bucket with ");
    if (version->table == NULL ||
        members_name(version, &members, NULL) != BASE_OK || members.n == 0) {
        text->len = 0;
        (void)base_buf_addf(text, "a file's header, or no known tensor");
    }
}

static void wrong_tell(struct scrub *scrub, const struct wrong *wrong)
{
    struct check *check = scrub->check;
    const struct part *part = &scrub->parts.items[wrong->part];
    uint64_t begin = wrong->begin * PTC_DIGEST_CHUNK_BYTES;
    uint64_t end =
        base_min_u64(wrong->end * PTC_DIGEST_CHUNK_BYTES, part->region.n_bytes);
    char name[STORE_BLOB_TEXT_BYTES];
    BASE_AUTO_BUF owner;

    base_buf_init(&owner, 4096);
    begin += part->region.offset;
    end += part->region.offset;
    owner_name(check, part, begin, end, &owner);
    (void)store_blob_name_format(&part->blob.name, name);
    check_tell(
        check, "%s: %.*s: bytes %" PRIu64 " to %" PRIu64 " of blob %s %s",
        store_version_label(check->versions.items[part->version].version),
        (int)owner.len, owner.len > 0 ? owner.ptr : "", begin, end, name,
        wrong->text != NULL ? wrong->text : "are not those of their digest");
}

static int wrong_cmp(const void *a, const void *b)
{
    const struct wrong *x = a;
    const struct wrong *y = b;

    if (x->part != y->part) {
        return x->part < y->part ? -1 : 1;
    }
    return (x->begin > y->begin) - (x->begin < y->begin);
}

enum base_code check_scrub(struct check *check,
                           unsigned n_threads,
                           bool (*progress)(void *ctx,
                                            uint64_t done_bytes,
                                            uint64_t all_bytes),
                           struct base_err *err)
{
    __attribute__((cleanup(scrub_done))) struct scrub scrub = {
        .check = check,
        .progress = progress,
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };

    BASE_TRY(parts_collect(&scrub, err));
    BASE_TRY(base_parallel(n_threads == 0 ? base_n_cpus() : n_threads,
                           scrub.parts.n, part_read, &scrub, err));
    if (scrub.wrongs.n > 0) {
        qsort(scrub.wrongs.items, scrub.wrongs.n, sizeof(*scrub.wrongs.items),
              wrong_cmp);
    }
    for (size_t i = 0; i < scrub.wrongs.n; i++) {
        wrong_tell(&scrub, &scrub.wrongs.items[i]);
    }
    return BASE_OK;
}
