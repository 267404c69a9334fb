/* The table of a directory.  What --table or coordinates say comes first; the
 * rest must follow from the shards (ptc/infer.h). */
#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "ptc/infer.h"
#include "store/directory.h"

enum { TABLE_MAX_BYTES = 1 << 30 };

/* Put a list into order and drop repeats before it grows past this. */
enum { COMPACT_AT = 1 << 20 };

/* What one file says of one global tensor. */
struct record {
    struct base_str name;
    struct base_str group;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    const uint64_t *shape;
    uint32_t file;
};

/* What one file says of one tie. */
struct tie {
    struct base_str name;
    struct base_str target;
    uint32_t file;
};

struct known {
    struct store_dir *dir;
    BASE_VEC(struct record) records;
    BASE_VEC(struct tie) ties;
    size_t compact_at;
};

static enum base_code no_mem(const struct store_dir *dir, struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "%s: no memory for its table",
                     dir->source->path);
}

static const char *label_of(const struct known *k, uint32_t file)
{
    return store_dir_label(k->dir, &k->dir->files.items[file]);
}

static int record_cmp(const void *va, const void *vb)
{
    const struct record *a = va;
    const struct record *b = vb;
    int order = base_str_cmp(a->name, b->name);

    return order != 0 ? order : (a->file > b->file) - (a->file < b->file);
}

static enum base_code records_agree(const struct known *k,
                                    const struct record *a,
                                    const struct record *b,
                                    struct base_err *err)
{
    const char *what = NULL;

    if (a->dtype != b->dtype) {
        what = "dtype";
    } else if (a->n_dims != b->n_dims ||
               (a->n_dims > 0 && memcmp(a->shape, b->shape,
                                        a->n_dims * sizeof(*a->shape)) != 0)) {
        what = "global shape";
    } else if (!base_str_eq(a->group, b->group)) {
        what = "group";
    }
    if (what == NULL) {
        return BASE_OK;
    }
    return base_fail(err, BASE_MISMATCH,
                     "tensor %.*s: %s and %s disagree in its %s",
                     BASE_STR_FMT(a->name), label_of(k, a->file),
                     label_of(k, b->file), what);
}

static enum base_code compact(struct known *k, struct base_err *err)
{
    size_t n = 0;

    if (k->records.n == 0) {
        return BASE_OK;
    }
    qsort(k->records.items, k->records.n, sizeof(*k->records.items),
          record_cmp);
    for (size_t i = 0; i < k->records.n; i++) {
        const struct record *record = &k->records.items[i];

        if (n > 0 && base_str_eq(k->records.items[n - 1].name, record->name)) {
            BASE_TRY(records_agree(k, &k->records.items[n - 1], record, err));
            continue;
        }
        k->records.items[n++] = *record;
    }
    k->records.n = n;
    k->compact_at = 2 * n + COMPACT_AT;
    return BASE_OK;
}

static enum base_code add_record(struct known *k,
                                 struct base_str name,
                                 const struct ptc_coord_shard *shard,
                                 enum ptc_dtype dtype,
                                 uint32_t file,
                                 struct base_err *err)
{
    struct record record = {.name = name,
                            .group = k->dir->files.items[file].group,
                            .dtype = dtype,
                            .n_dims = shard->n_dims,
                            .shape = shard->shape,
                            .file = file};

    if (!base_vec_push(&k->records, record)) {
        return no_mem(k->dir, err);
    }
    return k->records.n < k->compact_at ? BASE_OK : compact(k, err);
}

static enum base_code
records_of_file(struct known *k, uint32_t idx, struct base_err *err)
{
    const struct store_dir_file *file = &k->dir->files.items[idx];

    for (uint32_t i = 0; i < file->header->n_entries; i++) {
        const struct ptc_st_entry *entry = &file->header->entries[i];
        const struct ptc_coord *coord =
            file->coords == NULL ? NULL
                                 : ptc_coords_find(file->coords, entry->name);

        if (coord == NULL) {
            k->dir->all_have_coords = false;
        } else if (!coord->is_flat) {
            BASE_TRY(add_record(k, entry->name, &coord->shard, entry->dtype,
                                idx, err));
        } else {
            for (uint32_t m = 0; m < coord->n_members; m++) {
                BASE_TRY(add_record(k, coord->members[m].name,
                                    &coord->members[m].shard, entry->dtype, idx,
                                    err));
            }
        }
    }
    for (uint32_t i = 0; file->coords != NULL && i < file->coords->n_ties;
         i++) {
        struct tie tie = {file->coords->ties[i].name,
                          file->coords->ties[i].target, idx};

        if (!base_vec_push(&k->ties, tie)) {
            return no_mem(k->dir, err);
        }
    }
    return BASE_OK;
}

static int tie_cmp(const void *va, const void *vb)
{
    const struct tie *a = va;
    const struct tie *b = vb;
    int order = base_str_cmp(a->name, b->name);

    return order != 0 ? order : (a->file > b->file) - (a->file < b->file);
}

static enum base_code add_ties(struct known *k,
                               struct ptc_table_builder *builder,
                               struct base_err *err)
{
    if (k->ties.n > 0) {
        qsort(k->ties.items, k->ties.n, sizeof(*k->ties.items), tie_cmp);
    }
    for (size_t i = 0; i < k->ties.n; i++) {
        const struct tie *tie = &k->ties.items[i];
        const struct tie *last = i > 0 ? tie - 1 : NULL;

        if (last != NULL && base_str_eq(last->name, tie->name)) {
            if (!base_str_eq(last->target, tie->target)) {
                return base_fail(
                    err, BASE_MISMATCH,
                    "tensor %.*s: tied to %.*s by %s, to %.*s by "
                    "%s",
                    BASE_STR_FMT(tie->name), BASE_STR_FMT(last->target),
                    label_of(k, last->file), BASE_STR_FMT(tie->target),
                    label_of(k, tie->file));
            }
            continue;
        }
        BASE_TRY(ptc_table_add_tie(builder, tie->name, tie->target, err));
    }
    return BASE_OK;
}

/* Tensors and ties of @table, without its objects: those are the directory's. */
static enum base_code add_tensors(struct ptc_table_builder *builder,
                                  const struct ptc_table *table,
                                  struct base_err *err)
{
    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);

        BASE_TRY(ptc_table_add(builder, t->name, t->group, t->dtype, t->n_dims,
                               t->shape, err));
        if (t->tie != PTC_NONE) {
            BASE_TRY(ptc_table_add_tie(
                builder, t->name, ptc_table_tensor(table, t->tie)->name, err));
        }
    }
    return BASE_OK;
}

bool store_dir_is_known_group(const struct store_dir *dir,
                              struct base_str group)
{
    const struct ptc_table *table = dir->save != NULL ? dir->save->table : NULL;
    uint32_t first = 0;
    uint32_t end = table == NULL ? 0 : ptc_table_n_groups(table);

    while (first < end) {
        uint32_t middle = first + (end - first) / 2;
        int order = base_str_cmp(group, ptc_table_group(table, middle));

        if (order == 0) {
            return true;
        }
        if (order < 0) {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    return false;
}

static enum base_code
from_coords(struct known *k, struct ptc_table **ret, struct base_err *err)
{
    const struct ptc_table *before =
        k->dir->save != NULL ? k->dir->save->table : NULL;
    BASE_AUTO(ptc_table_builder) builder = NULL;

    for (uint32_t i = 0; i < k->dir->files.n; i++) {
        if (!store_dir_is_known_group(k->dir, k->dir->files.items[i].group)) {
            BASE_TRY(records_of_file(k, i, err));
        }
    }
    BASE_TRY(compact(k, err));
    if (k->records.n == 0 && k->ties.n == 0 && before == NULL) {
        *ret = NULL;
        return BASE_OK;
    }
    builder = ptc_table_builder_create();
    if (builder == NULL) {
        return no_mem(k->dir, err);
    }
    if (before != NULL) {
        BASE_TRY(add_tensors(builder, before, err));
    }
    for (size_t i = 0; i < k->records.n; i++) {
        const struct record *r = &k->records.items[i];
        enum base_code code = ptc_table_add(builder, r->name, r->group,
                                            r->dtype, r->n_dims, r->shape, err);

        if (code != BASE_OK) {
            return base_wrap(err, code, "%s: metadata `retile`",
                             label_of(k, r->file));
        }
    }
    BASE_TRY(add_ties(k, builder, err));
    k->dir->has_table = true;
    return ptc_table_finish(builder, ret, err);
}

static enum base_code
from_file(struct store_dir *dir, struct ptc_table **ret, struct base_err *err)
{
    const char *path = dir->options->table;
    BASE_AUTO_BUF text;

    base_buf_init(&text, TABLE_MAX_BYTES);
    BASE_TRY(base_file_read(AT_FDCWD, path, &text, err));
    BASE_TRY(ptc_table_parse(base_buf_str(&text), path, ret, err));
    dir->has_table = true;
    dir->all_have_coords = true; /* the table stands in for them */
    return BASE_OK;
}

enum base_code store_dir_known(struct store_dir *dir,
                               struct ptc_table **ret,
                               struct base_err *err)
{
    struct known k = {.dir = dir, .compact_at = COMPACT_AT};
    enum base_code code;

    if (dir->options->table != NULL) {
        return from_file(dir, ret, err);
    }
    dir->all_have_coords = true; /* until one has not */
    code = from_coords(&k, ret, err);
    base_vec_done(&k.records);
    base_vec_done(&k.ties);
    return code;
}

/* --- the source's table ------------------------------------------------- */

/* Job objects of the version before a save, where the save has none. */
static enum base_code keep_objects(const struct store_dir *dir,
                                   struct ptc_table_builder *builder,
                                   struct base_err *err)
{
    for (uint32_t i = 0; dir->save != NULL && i < dir->save->n_job_objects;
         i++) {
        struct base_str name = dir->save->job_objects[i];

        if (!store_source_has_object(dir->source, name)) {
            BASE_TRY(ptc_table_add_object(builder, name, false, err));
        }
    }
    return BASE_OK;
}

enum base_code store_dir_add_objects(const struct store_dir *dir,
                                     struct ptc_table_builder *builder,
                                     struct base_err *err)
{
    const struct store_source *source = dir->source;

    for (uint32_t i = 0; i < store_source_n_objects(source); i++) {
        const struct store_object *object = store_source_object_at(source, i);
        const struct store_object *last = object - 1;

        if (i > 0 && base_str_eq(last->name, object->name) &&
            (last->rank == PTC_NONE) == (object->rank == PTC_NONE)) {
            continue;
        }
        BASE_TRY(ptc_table_add_object(builder, object->name,
                                      object->rank != PTC_NONE, err));
    }
    return keep_objects(dir, builder, err);
}

/* Everything in the files that @known does not tell, for inference. */
static enum base_code infer_rest(struct store_dir *dir,
                                 const struct ptc_table *known,
                                 const struct ptc_spec *spec,
                                 struct ptc_table_builder *builder,
                                 struct base_err *err)
{
    BASE_VEC(struct ptc_seen) seen = {0};
    bool fits = true;
    enum base_code code;

    for (size_t f = 0; f < dir->files.n && fits; f++) {
        const struct store_dir_file *file = &dir->files.items[f];

        if (store_dir_is_known_group(dir, file->group)) {
            continue;
        }
        for (uint32_t i = 0; i < file->header->n_entries && fits; i++) {
            const struct ptc_st_entry *entry = &file->header->entries[i];
            struct ptc_seen item = {.name = entry->name,
                                    .group = file->group,
                                    .rank = file->rank,
                                    .dtype = entry->dtype,
                                    .n_dims = entry->n_dims,
                                    .shape = entry->shape};

            if ((file->coords != NULL &&
                 ptc_coords_find(file->coords, entry->name) != NULL) ||
                (known != NULL &&
                 ptc_table_find(known, entry->name) != PTC_NONE)) {
                continue;
            }
            fits = base_vec_push(&seen, item);
        }
    }
    code = fits ? ptc_infer(spec, seen.items, seen.n, known, builder, err)
                : no_mem(dir, err);
    base_vec_done(&seen);
    return code;
}

/* Ties that the spec declares join the table. */
static enum base_code declare_ties(const struct ptc_spec *spec,
                                   struct ptc_table **table,
                                   struct base_err *err)
{
    BASE_AUTO(ptc_table) more = NULL;

    BASE_TRY(ptc_spec_ties(spec, *table, &more, err));
    if (more != NULL) {
        ptc_table_free(*table);
        *table = base_steal(&more);
    }
    return BASE_OK;
}

enum base_code store_dir_make_table(struct store_dir *dir,
                                    const struct ptc_table *known,
                                    const struct ptc_spec *spec,
                                    struct base_err *err)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    BASE_AUTO(ptc_table) table = NULL;
    enum base_code code = BASE_OK;

    if (builder == NULL) {
        return no_mem(dir, err);
    }
    if (known != NULL) {
        BASE_TRY(add_tensors(builder, known, err));
    }
    if (!dir->all_have_coords) {
        code = infer_rest(dir, known, spec, builder, err);
    }
    if (code == BASE_OK) {
        code = store_dir_add_objects(dir, builder, err);
    }
    if (code == BASE_OK) {
        code = ptc_table_finish(builder, &table, err);
    }
    if (code == BASE_OK) {
        code = declare_ties(spec, &table, err);
    }
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", dir->source->path);
    }
    if (ptc_table_n_tensors(table) == 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s: no tensors",
                         dir->source->path);
    }
    dir->source->table = base_steal(&table);
    return BASE_OK;
}
