/* A Hugging Face directory, or one file: rank 0 of the whole layout.
 *
 * Files belong to groups: those that GROUP.safetensors.index.json names, those
 * that are GROUP-%05d-of-%05d.safetensors (all of them must be there), and
 * GROUP.safetensors by itself. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "ptc/dcp.h"
#include "ptc/hf_index.h"
#include "store/directory.h"

enum { INDEX_MAX_BYTES = 256 << 20 };

/* One index with the files it names; `used` marks top-level names. */
struct hf {
    struct store_dir *dir;
    bool *used; /* per tensor_names */
};

static size_t name_find(const struct store_dir *dir, struct base_str name)
{
    size_t low = 0, high = dir->tensor_names.n;

    while (low < high) { /* the listing is sorted */
        size_t middle = low + (high - low) / 2;

        if (base_str_cmp(dir->tensor_names.items[middle], name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < dir->tensor_names.n &&
                   base_str_eq(dir->tensor_names.items[low], name)
               ? low
               : SIZE_MAX;
}

static enum base_code
add_file(struct hf *hf, size_t idx, struct base_str group, struct base_err *err)
{
    struct base_str name = hf->dir->tensor_names.items[idx];
    const char *label;

    hf->used[idx] = true;
    BASE_TRY(store_dir_join(hf->dir, hf->dir->source->path, name, &label, err));
    return store_dir_add_file(hf->dir, hf->dir->fd, name, label, group, 0, err);
}

struct found {
    struct base_str tensor;
    uint32_t file; /* of dir->files */
};

static int found_cmp(const void *a, const void *b)
{
    return base_str_cmp(((const struct found *)a)->tensor,
                        ((const struct found *)b)->tensor);
}

/* Each tensor of the index is in the file it says, and the files have no
 * other.  @first: the first of the index's files in dir->files. */
static enum base_code compare_index(const struct store_dir *dir,
                                    const struct ptc_hf_index *index,
                                    size_t first,
                                    const char *label,
                                    struct base_err *err)
{
    BASE_AUTO_MEM struct found *found = NULL;
    size_t n = 0, at = 0;

    for (size_t f = 0; f < index->n_files; f++) {
        n += dir->files.items[first + f].header->n_entries;
    }
    found = calloc(n + 1, sizeof(*found));
    if (found == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: no memory for it", label);
    }
    for (uint32_t f = 0; f < index->n_files; f++) {
        const struct ptc_st_header *header = dir->files.items[first + f].header;

        for (uint32_t i = 0; i < header->n_entries; i++) {
            found[at++] = (struct found){header->entries[i].name, f};
        }
    }
    qsort(found, n, sizeof(*found), found_cmp);
    for (uint32_t i = 0; i < index->n_entries; i++) {
        struct found key = {.tensor = index->entries[i].tensor};
        const struct found *hit =
            bsearch(&key, found, n, sizeof(key), found_cmp);

        if (hit == NULL || hit->file != index->entries[i].file) {
            return base_fail(err, BASE_MISMATCH,
                             "%s: tensor %.*s is not in %.*s%s%.*s", label,
                             BASE_STR_FMT(key.tensor),
                             BASE_STR_FMT(index->files[index->entries[i].file]),
                             hit == NULL ? "" : ", but in ",
                             hit == NULL ? 0 : (int)index->files[hit->file].len,
                             hit == NULL ? "" : index->files[hit->file].ptr);
        }
    }
    for (at = 0, n += 0; at < n; at++) {
        uint32_t low = 0, high = index->n_entries;

        while (low < high) {
            uint32_t middle = low + (high - low) / 2;

            if (base_str_cmp(index->entries[middle].tensor, found[at].tensor) <
                0) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low == index->n_entries ||
            !base_str_eq(index->entries[low].tensor, found[at].tensor)) {
            return base_fail(err, BASE_MISMATCH,
                             "%s: tensor %.*s of %.*s is not in the index",
                             label, BASE_STR_FMT(found[at].tensor),
                             BASE_STR_FMT(index->files[found[at].file]));
        }
    }
    return BASE_OK;
}

static enum base_code
open_index(struct hf *hf, struct base_str name, struct base_err *err)
{
    struct store_dir *dir = hf->dir;
    struct base_str suffix = BASE_STR(".safetensors.index.json");
    struct base_str group = {name.ptr, name.len - suffix.len};
    BASE_AUTO(ptc_hf_index) index = NULL;
    BASE_AUTO_BUF text;
    const char *label;
    size_t first = dir->files.n;
    enum base_code code;

    base_buf_init(&text, INDEX_MAX_BYTES);
    BASE_TRY(store_dir_join(dir, dir->source->path, name, &label, err));
    code = base_file_read(dir->fd, name.ptr, &text, err);
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", dir->source->path);
    }
    BASE_TRY(ptc_hf_index_parse(base_buf_str(&text), label, &index, err));
    for (uint32_t f = 0; f < index->n_files; f++) {
        size_t idx = name_find(dir, index->files[f]);

        if (idx == SIZE_MAX) {
            return base_fail(err, BASE_BAD_INPUT, "%s: file %.*s is missing",
                             label, BASE_STR_FMT(index->files[f]));
        }
        if (hf->used[idx]) {
            return base_fail(err, BASE_BAD_INPUT,
                             "%s: file %.*s is named by another index, too",
                             label, BASE_STR_FMT(index->files[f]));
        }
        BASE_TRY(add_file(hf, idx, group, err));
    }
    return compare_index(dir, index, first, label, err);
}

/* Is there an index for @group, so that no other file may be of it? */
static bool has_index(const struct store_dir *dir, struct base_str group)
{
    for (size_t i = 0; i < dir->index_names.n; i++) {
        struct base_str name = dir->index_names.items[i];

        if (name.len > group.len && base_str_starts(name, group) &&
            strcmp(name.ptr + group.len, ".safetensors.index.json") == 0) {
            return true;
        }
    }
    return false;
}

/* GROUP-00001-of-N: the first stands for all N. */
static enum base_code open_shards(struct hf *hf,
                                  size_t first,
                                  struct base_str group,
                                  uint64_t n,
                                  struct base_err *err)
{
    struct store_dir *dir = hf->dir;

    for (uint64_t i = 1; i <= n; i++) {
        BASE_AUTO_MEM char *name =
            base_path("%.*s-%05" PRIu64 "-of-%05" PRIu64 ".safetensors",
                      BASE_STR_FMT(group), i, n);
        size_t idx;

        if (name == NULL) {
            return base_fail(err, BASE_NO_MEM, "no memory for a path");
        }
        idx = name_find(dir, base_str_of(name));
        if (idx == SIZE_MAX) {
            return base_fail(
                err, BASE_NOT_FOUND, "%s/%s: missing, though %s is there",
                dir->source->path, name, dir->tensor_names.items[first].ptr);
        }
        BASE_TRY(add_file(hf, idx, group, err));
    }
    return BASE_OK;
}

static enum base_code open_rest(struct hf *hf, size_t idx, struct base_err *err)
{
    struct store_dir *dir = hf->dir;
    struct base_str name = dir->tensor_names.items[idx];
    struct base_str group = store_dir_stem(name);
    uint64_t shard = 0, n = 0;
    bool is_shard = store_dir_split_shard(group, &group, &shard, &n);

    if (has_index(dir, group)) {
        return base_fail(err, BASE_MISMATCH,
                         "%s/%s: its group's index does not name it",
                         dir->source->path, name.ptr);
    }
    if (!is_shard) {
        return add_file(hf, idx, group, err);
    }
    if (shard == 0 || shard > n) {
        return base_fail(err, BASE_BAD_INPUT, "%s/%s: no such shard",
                         dir->source->path, name.ptr);
    }
    return open_shards(hf, idx, group, n, err);
}

static enum base_code open_files(struct hf *hf, struct base_err *err)
{
    struct store_dir *dir = hf->dir;

    for (size_t i = 0; i < dir->index_names.n; i++) {
        BASE_TRY(open_index(hf, dir->index_names.items[i], err));
    }
    for (size_t i = 0; i < dir->tensor_names.n; i++) {
        if (!hf->used[i]) {
            BASE_TRY(open_rest(hf, i, err));
        }
    }
    return BASE_OK;
}

/* Only `hf` is another way to say what is so anyway. */
static enum base_code check_from(const struct store_dir *dir,
                                 struct base_err *err)
{
    if (dir->options->from != NULL && strcmp(dir->options->from, "hf") != 0) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s holds whole tensors (no ranks/), so --from %s is "
                         "not wanted",
                         dir->source->path, dir->options->from);
    }
    return BASE_OK;
}

/* DCP's writer says of whole tensors, too, where they begin: at 0.  One that
 * begins elsewhere is a part, whatever an index makes of it. */
static enum base_code check_dcp(const struct store_dir *dir,
                                struct base_err *err)
{
    for (size_t f = 0; f < dir->files.n; f++) {
        const struct store_dir_file *file = &dir->files.items[f];
        const char *label = store_dir_label(dir, file);
        struct base_str text = ptc_st_meta(file->header, "DCP_SHARDING_INFO");
        BASE_AUTO(ptc_dcp_info) info = NULL;

        if (text.ptr == NULL) {
            continue;
        }
        BASE_TRY(ptc_dcp_info_parse(text, label, &info, err));
        for (uint32_t i = 0; i < info->n_entries; i++) {
            const struct ptc_dcp_entry *entry = &info->entries[i];

            for (uint32_t d = 0; d < entry->n_dims; d++) {
                if (entry->offset[d] != 0) {
                    return base_fail(err, BASE_MISMATCH,
                                     "%s: tensor %.*s: DCP_SHARDING_INFO says "
                                     "that it is a part, the index calls it "
                                     "whole",
                                     label, BASE_STR_FMT(entry->tensor));
                }
            }
        }
    }
    return BASE_OK;
}

enum base_code store_dir_open_hf(struct store_dir *dir, struct base_err *err)
{
    struct store_source *source = dir->source;
    BASE_AUTO_MEM bool *used = calloc(dir->tensor_names.n + 1, sizeof(*used));
    struct hf hf = {dir, used};
    BASE_AUTO(ptc_table) known = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    enum base_code code;

    if (used == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: no memory for its files",
                         source->path);
    }
    BASE_TRY(check_from(dir, err));
    if (source->form == STORE_FORM_HF) { /* else its file is there already */
        BASE_TRY(open_files(&hf, err));
        BASE_TRY(check_dcp(dir, err));
    }
    store_source_sort_objects(source);
    BASE_TRY(store_dir_known(dir, &known, err));
    BASE_TRY(ptc_spec_whole(&spec, err));
    BASE_TRY(store_dir_make_table(dir, known, spec, err));
    code = ptc_layout_create(&spec, source->table, &source->layout, err);
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", source->path);
    }
    return store_dir_check(dir, err);
}
