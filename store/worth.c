/* What compaction would do for a version.
 *
 * Dead bytes: the pieces of all versions that lie in the version's blobs are
 * sorted by where they begin; those whose ranges overlap are one stretch of a
 * blob.  Pieces of one version do not overlap, so of a stretch as many bytes
 * are named as the version with the most there has. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/view.h"
#include "store/blob.h"
#include "store/compact_priv.h"
#include "store/root_priv.h"
#include "store/source_priv.h"

#define SHORT_RUN_BYTES ((uint64_t)4096)

/* A range of one of our blobs that a version names. */
struct named {
    struct ptc_manifest_extent extent; /* blob: ours */
    uint32_t version;                  /* counts from 0 */
};

struct own_blob {
    struct ptc_manifest_blob blob;
    uint32_t idx; /* in our manifest */
};

struct worth {
    const struct store_root *root;
    const char *label; /* of our version */
    const struct ptc_manifest *manifest;
    struct own_blob *by_name;
    bool
        *is_shared; /* by blob: another version names it, or an object has it */
    BASE_VEC(struct named) named;
    uint32_t n_versions;
    const uint32_t *map; /* the version looked at: its blobs' indices as ours */
};

static void worth_done(struct worth *worth)
{
    free(worth->by_name);
    free(worth->is_shared);
    base_vec_done(&worth->named);
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot see what compaction is worth");
}

static int own_cmp(const void *a, const void *b)
{
    const struct own_blob *x = a;
    const struct own_blob *y = b;

    return store_blob_name_cmp(&x->blob.name, &y->blob.name);
}

/* --- what versions name ------------------------------------------------- */

static enum base_code on_extent(void *ctx,
                                const struct ptc_manifest_extent *extent,
                                struct base_err *err)
{
    struct worth *worth = ctx;
    struct named named = {*extent, worth->n_versions};

    named.extent.blob = worth->map[extent->blob];
    return named.extent.blob == PTC_NONE || base_vec_push(&worth->named, named)
               ? BASE_OK
               : no_mem(err);
}

static enum base_code add_objects(struct worth *worth,
                                  const struct ptc_manifest *m,
                                  bool is_own,
                                  struct base_err *err)
{
    for (uint32_t i = 0; i < ptc_manifest_n_objects(m); i++) {
        struct ptc_manifest_region region =
            ptc_manifest_region(m, ptc_manifest_object(m, i).region);
        struct ptc_manifest_extent extent = {region.blob, region.offset,
                                             region.n_bytes, region.n_bytes};
        uint32_t own = worth->map[region.blob];

        if (is_own) {
            worth->is_shared[region.blob] = true; /* it stays */
        }
        /* Several ranks may have one: count it once. */
        if (own != PTC_NONE &&
            (worth->named.n == 0 ||
             worth->named.items[worth->named.n - 1].extent.blob != own)) {
            BASE_TRY(on_extent(worth, &extent, err));
        }
    }
    return BASE_OK;
}

static enum base_code add_version(struct worth *worth,
                                  const struct store_version *version,
                                  struct base_err *err)
{
    const struct ptc_manifest *m = store_version_manifest(version);
    uint32_t n_own = ptc_manifest_n_blobs(worth->manifest);
    uint32_t n = ptc_manifest_n_blobs(m);
    bool is_own = strcmp(store_version_label(version), worth->label) == 0;
    BASE_AUTO_MEM uint32_t *map = calloc((size_t)n + 1, sizeof(*map));
    bool shares = false;

    if (map == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n; i++) {
        struct own_blob key = {.blob = ptc_manifest_blob(m, i)};
        const struct own_blob *own =
            n_own == 0
                ? NULL
                : bsearch(&key, worth->by_name, n_own, sizeof(key), own_cmp);

        map[i] = own == NULL ? PTC_NONE : own->idx;
        if (own != NULL) {
            shares = true;
            worth->is_shared[own->idx] |= !is_own;
        }
    }
    if (shares) {
        worth->map = map;
        BASE_TRY(ptc_manifest_extents(m, on_extent, worth, err));
        BASE_TRY(add_objects(worth, m, is_own, err));
        worth->n_versions++;
    }
    return BASE_OK;
}

static enum base_code
add_job(struct worth *worth, const char *job, struct base_err *err)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;
    enum base_code code =
        store_root_versions(worth->root, job, &numbers, &n, err);

    if (code == BASE_NOT_FOUND) {
        return BASE_OK; /* a job without versions/ */
    }
    BASE_TRY(code);
    for (size_t i = 0; i < n; i++) {
        BASE_AUTO(store_version) version = NULL;

        code = store_version_open_manifest(worth->root, job, numbers[i],
                                           &version, err);
        if (code == BASE_NOT_FOUND) {
            continue; /* released meanwhile */
        }
        BASE_TRY(code);
        BASE_TRY(add_version(worth, version, err));
    }
    return BASE_OK;
}

static enum base_code add_all(struct worth *worth, struct base_err *err)
{
    uint32_t n = ptc_manifest_n_blobs(worth->manifest);
    STORE_AUTO_LISTING jobs = {0};

    worth->by_name = calloc((size_t)n + 1, sizeof(*worth->by_name));
    worth->is_shared = calloc((size_t)n + 1, sizeof(*worth->is_shared));
    if (worth->by_name == NULL || worth->is_shared == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n; i++) {
        worth->by_name[i] =
            (struct own_blob){ptc_manifest_blob(worth->manifest, i), i};
    }
    qsort(worth->by_name, n, sizeof(*worth->by_name), own_cmp);
    BASE_TRY(store_root_jobs(worth->root, &jobs.names, &jobs.n, err));
    for (size_t i = 0; i < jobs.n; i++) {
        BASE_TRY(add_job(worth, jobs.names[i], err));
    }
    return BASE_OK;
}

/* --- counting ----------------------------------------------------------- */

static int named_cmp(const void *a, const void *b)
{
    const struct named *x = a;
    const struct named *y = b;

    if (x->extent.blob != y->extent.blob) {
        return x->extent.blob < y->extent.blob ? -1 : 1;
    }
    return (x->extent.offset > y->extent.offset) -
           (x->extent.offset < y->extent.offset);
}

/* Bytes of items [begin, end), a stretch of one blob of @n_bytes, that are
 * named.  @sums has a zero for each version, and keeps it. */
static uint64_t stretch_bytes(const struct named *items,
                              size_t begin,
                              size_t end,
                              uint64_t n_bytes,
                              uint64_t *sums)
{
    uint64_t most = 0;

    for (size_t i = begin; i < end; i++) {
        uint64_t *sum = &sums[items[i].version];

        *sum += items[i].extent.n_bytes; /* disjoint, but for ill manifests */
        most = base_max_u64(most, *sum);
    }
    for (size_t i = begin; i < end; i++) {
        sums[items[i].version] = 0;
    }
    return base_min_u64(most, n_bytes);
}

/* Bytes of our blobs that a version names. */
static enum base_code
count_named(const struct worth *worth, uint64_t *ret, struct base_err *err)
{
    const struct named *items = worth->named.items;
    size_t n = worth->named.n;
    BASE_AUTO_MEM uint64_t *sums =
        calloc((size_t)worth->n_versions + 1, sizeof(*sums));
    uint64_t n_bytes = 0;
    size_t end;

    if (sums == NULL) {
        return no_mem(err);
    }
    if (n > 0) {
        qsort(worth->named.items, n, sizeof(*items), named_cmp);
    }
    for (size_t i = 0; i < n; i = end) {
        uint64_t begins = items[i].extent.offset;
        uint64_t ends = begins + items[i].extent.span_bytes;

        for (end = i + 1;
             end < n && items[end].extent.blob == items[i].extent.blob &&
             items[end].extent.offset < ends;
             end++) {
            ends = base_max_u64(ends, items[end].extent.offset +
                                          items[end].extent.span_bytes);
        }
        n_bytes += stretch_bytes(items, i, end, ends - begins, sums);
    }
    *ret = n_bytes;
    return BASE_OK;
}

/* Runs that the rank files are gathered of, and their bytes. */
static enum base_code count_runs(const struct ptc_layout *layout,
                                 const struct ptc_pieces *pieces,
                                 uint64_t *ret_n,
                                 uint64_t *ret_bytes,
                                 struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(layout);

    for (ptc_rank rank = 0; rank < ptc_layout_n_ranks(layout); rank++) {
        for (uint32_t g = 0; g < ptc_table_n_groups(table); g++) {
            BASE_AUTO(ptc_file) file = NULL;
            BASE_AUTO(ptc_view) view = NULL;
            struct ptc_cursor cursor;
            struct ptc_run run;
            uint64_t n_rows, stride;

            BASE_TRY(ptc_file_create_rank(
                layout, rank, ptc_table_group(table, g), &file, err));
            if (file == NULL) {
                continue;
            }
            BASE_TRY(ptc_view_create(file, pieces, &view, err));
            ptc_cursor_init(&cursor, view, 0, ptc_view_n_bytes(view));
            while (ptc_cursor_next_rows(&cursor, &run, &n_rows, &stride)) {
                if (run.blob < PTC_BLOB_HEADER) {
                    *ret_n += n_rows;
                    *ret_bytes += n_rows * run.n_bytes;
                }
            }
        }
    }
    return BASE_OK;
}

static enum base_code measure(struct worth *worth,
                              const struct store_source *source,
                              struct store_worth *ret,
                              struct base_err *err)
{
    const struct store_import_options none = {0};
    STORE_AUTO_PACK pack = {.options = &none};
    uint64_t blob_bytes = 0, named = 0, used = 0, budget = 0;
    uint64_t n_runs = 0, run_bytes = 0;

    BASE_TRY(store_pack_plan(&pack, source, err));
    BASE_TRY(
        store_pack_is_compact(&pack, worth->manifest, &ret->is_compact, err));
    BASE_TRY(add_all(worth, err));
    BASE_TRY(count_named(worth, &named, err));
    BASE_TRY(count_runs(pack.layout, store_source_pieces(source), &n_runs,
                        &run_bytes, err));
    BASE_TRY(store_root_usage(worth->root, &used, &budget, err));
    for (uint32_t i = 0; i < ptc_manifest_n_blobs(worth->manifest); i++) {
        uint64_t n_bytes = ptc_manifest_blob(worth->manifest, i).n_bytes;

        blob_bytes += n_bytes; /* files: together far below 2^64 */
        ret->n_freed_bytes += worth->is_shared[i] ? 0 : n_bytes;
    }
    ret->n_bytes = pack.file_bytes;
    ret->n_dead_bytes = blob_bytes - base_min_u64(named, blob_bytes);
    ret->run_bytes = n_runs == 0 ? 0 : run_bytes / n_runs;
    if (ret->is_compact) {
        ret->n_freed_bytes = 0;
    }
    ret->is_due = !ret->is_compact &&
                  (ret->n_dead_bytes > blob_bytes / 2 ||
                   (n_runs > 0 && ret->run_bytes < SHORT_RUN_BYTES)) &&
                  used <= budget && ret->n_bytes <= budget - used;
    return BASE_OK;
}

enum base_code store_compact_worth(const struct store_root *root,
                                   const char *job,
                                   uint64_t number,
                                   struct store_worth *ret,
                                   struct base_err *err)
{
    __attribute__((cleanup(worth_done))) struct worth worth = {.root = root};
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    struct store_worth sum = {0};

    BASE_TRY(store_version_open(root, job, number, &version, err));
    worth.manifest = store_version_manifest(version); /* the source keeps it */
    worth.label = store_version_label(version);
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    BASE_TRY(measure(&worth, source, &sum, err));
    *ret = sum;
    return BASE_OK;
}
