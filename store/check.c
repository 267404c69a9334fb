/* fsck: is a store what root.h says?
 *
 *   1. The root, jobs/ and every version's directory have only what belongs
 *      there; each manifest opens.
 *   2. Each table that a manifest names is there and whole; the others in
 *      tables/ are what their names say.
 *   3. Each version's pieces cover its table exactly, and its layout is one
 *      of that table.
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

/* Is the failure of one thing that is looked at a finding?  Others end the
 * check. */
static bool is_finding(enum base_code code)
{
    return code != BASE_OK && code != BASE_NO_MEM && code != BASE_INTERRUPTED;
}

static bool is_kind(const struct check *check, const char *path, mode_t kind)
{
    struct stat st;

    return fstatat(store_root_fd(check->root), path, &st,
                   AT_SYMLINK_NOFOLLOW) == 0 &&
           (st.st_mode & S_IFMT) == kind;
}

static bool
is_one_of(const char *name, const char *const *names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Entries; none where there is no such directory (told elsewhere, or released
 * meanwhile). */
static enum base_code list_some(const struct check *check,
                                const char *path,
                                struct store_listing *ret,
                                struct base_err *err)
{
    enum base_code code = store_list(check->root, path, ret, err);

    return code == BASE_NOT_FOUND ? BASE_OK : code;
}

/* Tell what @path has besides @names. */
static enum base_code check_entries(struct check *check,
                                    const char *path,
                                    const char *const *names,
                                    size_t n_names,
                                    struct base_err *err)
{
    STORE_AUTO_LISTING all = {0};

    BASE_TRY(list_some(check, path, &all, err));
    for (size_t i = 0; i < all.n; i++) {
        if (!is_one_of(all.names[i], names, n_names)) {
            check_tell(check, "%s%s%s: does not belong to the store",
                       strcmp(path, ".") == 0 ? "" : path,
                       strcmp(path, ".") == 0 ? "" : "/", all.names[i]);
        }
    }
    return BASE_OK;
}

/* --- 1: the tree --- */

static enum base_code check_root(struct check *check, struct base_err *err)
{
    static const char *const names[] = {"id",     "lock", "blobs",
                                        "tables", "jobs", "staging"};
    STORE_AUTO_LISTING left = {0};
    bool is_busy;

    BASE_TRY(check_entries(check, ".", names, sizeof(names) / sizeof(names[0]),
                           err));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (!is_kind(check, names[i], i < 2 ? S_IFREG : S_IFDIR)) {
            check_tell(check, "%s: is missing, or no %s", names[i],
                       i < 2 ? "regular file" : "directory");
        }
    }
    /* In this order: what was there before nobody held the lock, and still is,
     * has no owner. */
    BASE_TRY(list_some(check, "staging", &left, err));
    BASE_TRY(store_root_is_busy(check->root, &is_busy, err));
    for (size_t i = 0; i < left.n && !is_busy; i++) {
        BASE_AUTO_MEM char *path = base_path("staging/%s", left.names[i]);
        struct stat st;

        if (path == NULL) {
            return base_fail(err, BASE_NO_MEM, "staging: cannot check");
        }
        /* A change that ended between the two took it away. */
        if (fstatat(store_root_fd(check->root), path, &st,
                    AT_SYMLINK_NOFOLLOW) == 0) {
            check_tell(check,
                       "%s: left by a change that died; the next change "
                       "removes it",
                       path);
        }
    }
    return BASE_OK;
}

static enum base_code check_version(struct check *check,
                                    const char *job,
                                    uint64_t number,
                                    struct base_err *err)
{
    static const char *const names[] = {"manifest", "lock", "pin"};
    BASE_AUTO_MEM char *path =
        base_path("jobs/%s/versions/%" PRIu64, job, number);
    BASE_AUTO(store_version) v = NULL;
    BASE_AUTO_MEM char *why = NULL;
    struct check_version item = {0};
    enum base_code code =
        store_version_open_manifest(check->root, job, number, &v, err);

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot check", job);
    }
    if (code == BASE_NOT_FOUND) {
        return BASE_OK; /* released meanwhile */
    }
    if (is_finding(code)) {
        check_tell(check, "%s", err->text);
        return BASE_OK;
    }
    BASE_TRY(code);
    BASE_TRY(check_entries(check, path, names, sizeof(names) / sizeof(names[0]),
                           err));
    code = store_version_pin_why(check->root, job, number, &why, err);
    if (is_finding(code)) {
        check_tell(check, "%s", err->text);
    } else {
        BASE_TRY(code);
    }
    item.version = v;
    if (!base_vec_push(&check->versions, item)) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot check", job);
    }
    (void)base_steal(&v); /* check->versions has it */
    return BASE_OK;
}

/* A job's `last`, when there is one. */
static enum base_code
check_last(struct check *check, const char *job, struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("jobs/%s/last", job);
    BASE_AUTO_BUF text;
    enum base_code code;
    uint64_t number;

    base_buf_init(&text, 32);
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot check", job);
    }
    code = base_file_read(store_root_fd(check->root), path, &text, err);
    if (code == BASE_NOT_FOUND) {
        return BASE_OK;
    }
    if (is_finding(code)) {
        check_tell(check, "%s", err->text);
        return BASE_OK;
    }
    BASE_TRY(code);
    if (text.len > 0 && text.ptr[text.len - 1] == '\n') {
        text.ptr[--text.len] = '\0';
    }
    if (strlen(text.ptr) != text.len ||
        !store_number_parse(text.ptr, &number)) {
        check_tell(check, "%s: is not a number", path);
    }
    return BASE_OK;
}

static enum base_code
check_job(struct check *check, const char *job, struct base_err *err)
{
    static const char *const names[] = {"versions", "last"};
    BASE_AUTO_MEM char *path = base_path("jobs/%s", job);
    BASE_AUTO_MEM char *versions = base_path("jobs/%s/versions", job);
    STORE_AUTO_LISTING all = {0};

    if (path == NULL || versions == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot check", job);
    }
    if (store_job_check(job, NULL) != BASE_OK ||
        !is_kind(check, path, S_IFDIR)) {
        check_tell(check, "%s: is no job", path);
        return BASE_OK;
    }
    BASE_TRY(check_entries(check, path, names, sizeof(names) / sizeof(names[0]),
                           err));
    BASE_TRY(check_last(check, job, err));
    BASE_TRY(list_some(check, versions, &all, err));
    for (size_t i = 0; i < all.n; i++) {
        uint64_t number;

        if (!store_number_parse(all.names[i], &number)) {
            check_tell(check, "%s/%s: is no version", versions, all.names[i]);
            continue;
        }
        BASE_TRY(check_version(check, job, number, err));
    }
    return BASE_OK;
}

static enum base_code check_jobs(struct check *check, struct base_err *err)
{
    STORE_AUTO_LISTING jobs = {0};

    BASE_TRY(list_some(check, "jobs", &jobs, err));
    for (size_t i = 0; i < jobs.n; i++) {
        BASE_TRY(check_job(check, jobs.names[i], err));
    }
    return BASE_OK;
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
    if (is_finding(code)) {
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

    BASE_TRY(list_some(check, "tables", &all, err));
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
        if (is_finding(code) && code != BASE_NOT_FOUND) { /* swept meanwhile */
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
        if (is_finding(code)) {
            check_tell(check, "%s: %s", store_version_label(item->version),
                       err->text);
        } else {
            BASE_TRY(code);
        }
    }
    return BASE_OK;
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

        if (is_finding(code)) {
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
    BASE_TRY(check_root(&check, err));
    BASE_TRY(check_jobs(&check, err));
    BASE_TRY(check_tables(&check, &tables, err));
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
