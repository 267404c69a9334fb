/* fsck: is a store what root.h says?
 *
 *   1. The root, jobs/ and every version's directory have only what belongs
 *      there; each manifest opens, those that were replaced, too.
 *   2. Each table that a manifest names is there and whole; the others in
 *      tables/ are what their names say.
 *   3. Each version's pieces cover its table exactly, its layout is one of
 *      that table, and each of its objects is a blob of its own.
 *   4. Each blob that a manifest names is there, in its size; blobs/ has
 *      nothing but blobs.
 *
 * A damage is told where it lies, once, however many versions suffer from it:
 * so blobs and tables are collected first.  Versions stay open, and thereby
 * held, until the end.  What a change at work moves into place meanwhile is
 * no finding: an unnamed blob is the sweep's matter. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "store/blob.h"
#include "store/check_priv.h"
#include "store/root_priv.h"
#include "store/source_priv.h"

/* A table that a manifest names. */
struct check_table {
    struct base_digest digest;
    struct ptc_table *table; /* NULL: damaged, and told */
};

struct tables {
    BASE_VEC(struct check_table) all; /* by digest */
};

void check_tell(struct check *check, const char *fmt, ...)
{
    BASE_AUTO_MEM char *text = NULL;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&text, fmt, args);
    va_end(args);
    check->n_findings++;
    check->tell(check->ctx, n < 0 ? "a finding (no memory for it)" : text);
    if (n < 0) {
        text = NULL;
    }
}

bool check_is_finding(enum base_code code)
{
    return code != BASE_OK && code != BASE_NO_MEM && code != BASE_INTERRUPTED;
}

enum base_code check_list(const struct check *check,
                          const char *path,
                          struct store_listing *ret,
                          struct base_err *err)
{
    enum base_code code = store_list(check->root, path, ret, err);

    return code == BASE_NOT_FOUND ? BASE_OK : code;
}

/* --- 2 and 3: tables and pieces --- */

static void tables_done(struct tables *tables)
{
    for (size_t i = 0; i < tables->all.n; i++) {
        ptc_table_free(tables->all.items[i].table);
    }
    base_vec_done(&tables->all);
}

static struct check_table *tables_find(const struct tables *tables,
                                       struct base_digest digest)
{
    for (size_t i = 0; i < tables->all.n; i++) {
        if (base_digest_eq(tables->all.items[i].digest, digest)) {
            return &tables->all.items[i];
        }
    }
    return NULL;
}

static enum base_code tables_add(struct check *check,
                                 struct tables *tables,
                                 const struct store_version *v,
                                 struct base_err *err)
{
    struct check_table item = {
        .digest = ptc_manifest_head(store_version_manifest(v))->table};
    enum base_code code;

    if (tables_find(tables, item.digest) != NULL) {
        return BASE_OK;
    }
    code = store_table_read(check->root, item.digest, &item.table, err);
    if (check_is_finding(code)) {
        check_tell(check, "%s (%s needs it)", err->text,
                   store_version_label(v));
        item.table = NULL;
        code = BASE_OK;
    }
    BASE_TRY(code);
    if (!base_vec_push(&tables->all, item)) {
        ptc_table_free(item.table);
        return base_fail(err, BASE_NO_MEM, "tables: cannot check");
    }
    return BASE_OK;
}

/* Those that no manifest names. */
static enum base_code check_other_tables(struct check *check,
                                         const struct tables *tables,
                                         struct base_err *err)
{
    STORE_AUTO_LISTING all = {0};

    BASE_TRY(check_list(check, "tables", &all, err));
    for (size_t i = 0; i < all.n; i++) {
        struct ptc_blob_name name;
        struct base_digest digest;
        BASE_AUTO(ptc_table) table = NULL;
        enum base_code code;

        if (!store_blob_name_parse(base_str_of(all.names[i]), &name)) {
            check_tell(check, "tables/%s: does not belong to the store",
                       all.names[i]);
            continue;
        }
        memcpy(digest.bytes, name.bytes, sizeof(digest.bytes));
        if (tables_find(tables, digest) != NULL) {
            continue;
        }
        code = store_table_read(check->root, digest, &table, err);
        if (check_is_finding(code) &&
            code != BASE_NOT_FOUND) { /* swept meanwhile */
            check_tell(check, "%s", err->text);
        } else if (code != BASE_NOT_FOUND) {
            BASE_TRY(code);
        }
    }
    return BASE_OK;
}

static enum base_code
check_tables(struct check *check, struct tables *tables, struct base_err *err)
{
    for (size_t i = 0; i < check->versions.n; i++) {
        BASE_TRY(
            tables_add(check, tables, check->versions.items[i].version, err));
    }
    BASE_TRY(check_other_tables(check, tables, err));
    for (size_t i = 0; i < check->versions.n; i++) {
        struct check_version *item = &check->versions.items[i];
        const struct ptc_manifest *manifest =
            store_version_manifest(item->version);
        BASE_AUTO(ptc_layout) layout = NULL;
        BASE_AUTO(ptc_pieces) pieces = NULL;
        enum base_code code;

        item->table =
            tables_find(tables, ptc_manifest_head(manifest)->table)->table;
        if (item->table == NULL) {
            continue;
        }
        code = ptc_manifest_pieces(manifest, item->table, &pieces, err);
        if (code == BASE_OK) {
            code = store_manifest_layout(manifest, item->table, "its layout",
                                         &layout, err);
        }
        if (check_is_finding(code)) {
            check_tell(check, "%s: %s", store_version_label(item->version),
                       err->text);
        } else {
            BASE_TRY(code);
        }
    }
    return BASE_OK;
}

/* --- 3: objects --- */

/* Each is a blob of its own: a reader gets its descriptor. */
static void check_objects(struct check *check, const struct store_version *v)
{
    const struct ptc_manifest *manifest = store_version_manifest(v);

    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(manifest, i);
        struct ptc_manifest_region region =
            ptc_manifest_region(manifest, object.region);

        if (region.offset != 0 ||
            region.n_bytes !=
                ptc_manifest_blob(manifest, region.blob).n_bytes) {
            check_tell(check, "%s: object %.*s: is no blob of its own",
                       store_version_label(v), BASE_STR_FMT(object.name));
        }
    }
}

/* --- 4: blobs --- */

static int blob_cmp(const void *a, const void *b)
{
    const struct check_blob *x = a;
    const struct check_blob *y = b;
    int cmp = store_blob_name_cmp(&x->blob.name, &y->blob.name);

    if (cmp == 0) {
        cmp = (x->blob.n_bytes > y->blob.n_bytes) -
              (x->blob.n_bytes < y->blob.n_bytes);
    }
    return cmp != 0 ? cmp
                    : (x->version > y->version) - (x->version < y->version);
}

static bool is_same_blob(const struct ptc_manifest_blob *a,
                         const struct ptc_manifest_blob *b)
{
    return store_blob_name_cmp(&a->name, &b->name) == 0 &&
           a->n_bytes == b->n_bytes;
}

static enum base_code blobs_collect(struct check *check, struct base_err *err)
{
    size_t n_kept = 0;

    for (size_t i = 0; i < check->versions.n; i++) {
        const struct ptc_manifest *manifest =
            store_version_manifest(check->versions.items[i].version);

        for (uint32_t k = 0; k < ptc_manifest_n_blobs(manifest); k++) {
            struct check_blob item = {
                .blob = ptc_manifest_blob(manifest, k),
                .version = (uint32_t)i,
            };

            if (!base_vec_push(&check->blobs, item)) {
                return base_fail(err, BASE_NO_MEM, "blobs: cannot check");
            }
        }
    }
    if (check->blobs.n > 0) {
        qsort(check->blobs.items, check->blobs.n, sizeof(*check->blobs.items),
              blob_cmp);
    }
    for (size_t i = 0; i < check->blobs.n; i++) {
        struct check_blob *items = check->blobs.items;

        if (n_kept == 0 ||
            !is_same_blob(&items[i].blob, &items[n_kept - 1].blob)) {
            items[n_kept++] = items[i];
        }
    }
    check->blobs.n = n_kept;
    return BASE_OK;
}

static enum base_code check_blobs(struct check *check, struct base_err *err)
{
    BASE_TRY(blobs_collect(check, err));
    for (size_t i = 0; i < check->blobs.n; i++) {
        struct check_blob *item = &check->blobs.items[i];
        BASE_AUTO_FD fd = -1;
        enum base_code code =
            store_blob_open(check->root, &item->blob, &fd, err);

        if (check_is_finding(code)) {
            check_tell(check, "%s (%s needs it)", err->text,
                       store_version_label(
                           check->versions.items[item->version].version));
            item->is_bad = true;
        } else {
            BASE_TRY(code);
        }
    }
    return BASE_OK;
}

bool check_blob_is_bad(const struct check *check,
                       const struct ptc_manifest_blob *blob)
{
    size_t begin = 0;
    size_t end = check->blobs.n;
    const struct check_blob key = {.blob = *blob};

    /* The first that is not before the key: versions count from 0. */
    while (begin < end) {
        size_t mid = begin + (end - begin) / 2;

        if (blob_cmp(&check->blobs.items[mid], &key) < 0) {
            begin = mid + 1;
        } else {
            end = mid;
        }
    }
    return begin == check->blobs.n || check->blobs.items[begin].is_bad;
}

static enum base_code check_blob_file(void *ctx,
                                      const char *path,
                                      const struct ptc_manifest_blob *blob,
                                      struct base_err *err)
{
    struct check *check = ctx;

    (void)err;
    if (blob == NULL) {
        check_tell(check, "%s: is no blob", path);
    }
    return BASE_OK;
}

static void check_done(struct check *check)
{
    for (size_t i = 0; i < check->versions.n; i++) {
        store_version_free(check->versions.items[i].version);
    }
    base_vec_done(&check->versions);
    base_vec_done(&check->blobs);
}

enum base_code store_check(struct store_root *root,
                           bool is_scrub,
                           unsigned n_threads,
                           bool (*progress)(void *ctx,
                                            uint64_t done_bytes,
                                            uint64_t all_bytes),
                           store_finding_fn tell,
                           void *ctx,
                           uint64_t *ret_n,
                           struct base_err *err)
{
    __attribute__((cleanup(tables_done))) struct tables tables = {0};
    __attribute__((cleanup(check_done))) struct check check = {
        .root = root, .tell = tell, .ctx = ctx};
    struct base_err local; /* findings are made of its text */
    enum base_code code;

    err = err != NULL ? err : &local;
    store_raise_open_files(); /* versions stay open */
    BASE_TRY(check_tree(&check, err));
    BASE_TRY(check_tables(&check, &tables, err));
    for (size_t i = 0; i < check.versions.n; i++) {
        check_objects(&check, check.versions.items[i].version);
    }
    BASE_TRY(check_blobs(&check, err));
    code = store_blobs_each(root, check_blob_file, &check, err);
    if (code != BASE_NOT_FOUND) { /* no blobs/: told */
        BASE_TRY(code);
    }
    if (is_scrub) {
        BASE_TRY(check_scrub(&check, n_threads, progress, err));
    }
    *ret_n = check.n_findings;
    return BASE_OK;
}
