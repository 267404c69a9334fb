/* The index's files are made distinct by one sort, and each tensor finds its
 * file by bisection. */
#include "ptc/hf_index.h"

#include <inttypes.h>
#include <stdlib.h>

#include "ptc/json.h"
#include "ptc/table.h"

#define ARENA_MAX_BYTES (UINT64_C(4) << 30)

static const char *const index_keys[] = {"metadata", "weight_map"};

void ptc_hf_index_free(struct ptc_hf_index *index)
{
    if (index != NULL) {
        base_arena_free(index->arena);
        free(index);
    }
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate the index");
}

static int cmp_strs(const void *a, const void *b)
{
    return base_str_cmp(*(const struct base_str *)a,
                        *(const struct base_str *)b);
}

static int cmp_entries(const void *a, const void *b)
{
    return base_str_cmp(((const struct ptc_hf_entry *)a)->tensor,
                        ((const struct ptc_hf_entry *)b)->tensor);
}

/* Some writers give the size as a fraction ("123.0"). */
static enum base_code
read_total_size(json_t *metadata, uint64_t *ret, struct base_err *err)
{
    const json_t *value = json_object_get(metadata, "total_size");
    enum base_code rc;

    if (value == NULL) {
        return BASE_OK;
    }
    if (json_is_real(value)) {
        double real = json_real_value(value);

        if (!(real >= 0 && real <= 9007199254740992.0) || /* 2^53 */
            (double)(uint64_t)real != real) {
            return base_fail(err, BASE_BAD_INPUT,
                             "metadata: total_size: not a whole number");
        }
        *ret = (uint64_t)real;
        return BASE_OK;
    }
    rc = ptc_json_get_u64(metadata, "total_size", ret, err);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "metadata");
}

static enum base_code check_file(struct base_str file, struct base_err *err)
{
    BASE_TRY(ptc_name_check(file, "file", err));
    if (file.ptr[0] == '.' || !base_str_ends(file, BASE_STR(".safetensors"))) {
        return base_fail(err, BASE_BAD_INPUT,
                         "file '%.*s': not a name that ends in .safetensors",
                         BASE_STR_FMT(file));
    }
    return BASE_OK;
}

/* Fill index->files from @all (@n names, borrowed; sorted by the call). */
static enum base_code collect_files(struct ptc_hf_index *index,
                                    struct base_str *all,
                                    uint32_t n,
                                    struct base_err *err)
{
    uint32_t n_files = 0;

    if (n > 1) {
        qsort(all, n, sizeof(*all), cmp_strs);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (n_files == 0 || !base_str_eq(all[n_files - 1], all[i])) {
            all[n_files++] = all[i];
        }
    }
    index->files =
        base_arena_alloc(index->arena, n_files, sizeof(*index->files));
    if (index->files == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n_files; i++) {
        index->files[i] = base_arena_str(index->arena, all[i]);
        if (index->files[i].ptr == NULL) {
            return no_mem(err);
        }
    }
    index->n_files = n_files;
    return BASE_OK;
}

/* Check all of weight_map, and give the files' names, borrowed. */
static enum base_code
check_map(json_t *map, struct base_str *ret_files, struct base_err *err)
{
    const char *key;
    size_t key_len;
    json_t *value;
    size_t n = 0;

    json_object_keylen_foreach(map, key, key_len, value)
    {
        struct base_str tensor = {key, key_len};
        enum base_code rc = ptc_name_check(tensor, "tensor", err);

        if (rc != BASE_OK) {
            return base_wrap(err, rc, "weight_map");
        }
        if (!json_is_string(value)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "weight_map: tensor '%s': expected a string", key);
        }
        ret_files[n] = ptc_json_str(value);
        rc = check_file(ret_files[n], err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "weight_map: tensor '%s'", key);
        }
        n++;
    }
    return BASE_OK;
}

static enum base_code
read_map(struct ptc_hf_index *index, json_t *map, struct base_err *err)
{
    BASE_AUTO_MEM struct base_str *all = NULL;
    size_t n = json_object_size(map);
    const char *key;
    size_t key_len;
    json_t *value;

    if (n > PTC_MAX_TENSORS) {
        return base_fail(err, BASE_LIMIT, "weight_map: more than %u tensors",
                         PTC_MAX_TENSORS);
    }
    all = calloc(n + 1, sizeof(*all));
    index->entries = base_arena_alloc(index->arena, n, sizeof(*index->entries));
    if (all == NULL || index->entries == NULL) {
        return no_mem(err);
    }
    BASE_TRY(check_map(map, all, err));
    BASE_TRY(collect_files(index, all, (uint32_t)n, err));
    json_object_keylen_foreach(map, key, key_len, value)
    {
        struct ptc_hf_entry *entry = &index->entries[index->n_entries];
        struct base_str file = ptc_json_str(value);
        const struct base_str *found = bsearch(
            &file, index->files, index->n_files, sizeof(file), cmp_strs);

        entry->tensor =
            base_arena_str(index->arena, (struct base_str){key, key_len});
        if (entry->tensor.ptr == NULL) {
            return no_mem(err);
        }
        entry->file = (uint32_t)(found - index->files);
        index->n_entries++;
    }
    if (index->n_entries > 1) {
        qsort(index->entries, index->n_entries, sizeof(*index->entries),
              cmp_entries);
    }
    return BASE_OK;
}

static enum base_code
read_root(struct ptc_hf_index *index, const json_t *root, struct base_err *err)
{
    json_t *part;

    BASE_TRY(ptc_json_check_keys(
        root, index_keys, sizeof(index_keys) / sizeof(index_keys[0]), err));
    if (json_object_get(root, "metadata") != NULL) {
        BASE_TRY(ptc_json_get(root, "metadata", JSON_OBJECT, &part, err));
        BASE_TRY(read_total_size(part, &index->total_size, err));
    }
    BASE_TRY(ptc_json_get(root, "weight_map", JSON_OBJECT, &part, err));
    return read_map(index, part, err);
}

enum base_code ptc_hf_index_parse(struct base_str text,
                                  const char *origin,
                                  struct ptc_hf_index **ret,
                                  struct base_err *err)
{
    BASE_AUTO(ptc_hf_index) index = NULL;
    PTC_JSON_AUTO root = NULL;
    enum base_code rc;

    BASE_TRY(ptc_json_load(text, origin, &root, err));
    index = calloc(1, sizeof(*index));
    if (index != NULL) {
        index->arena = base_arena_create(ARENA_MAX_BYTES);
    }
    if (index == NULL || index->arena == NULL) {
        return base_wrap(err, no_mem(err), "%s", origin);
    }
    rc = read_root(index, root, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s", origin);
    }
    *ret = base_steal(&index);
    return BASE_OK;
}

enum base_code ptc_hf_index_write(const struct ptc_hf_index *index,
                                  struct base_buf *buf,
                                  struct base_err *err)
{
    /* Failures stick to the buffer; the last call tells. */
    (void)base_buf_addf(buf,
                        "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64
                        "\n  },\n  \"weight_map\": {",
                        index->total_size);
    for (uint32_t i = 0; i < index->n_entries; i++) {
        const struct ptc_hf_entry *entry = &index->entries[i];

        (void)base_buf_add_str(buf, base_str_of(i == 0 ? "\n    " : ",\n    "));
        (void)base_buf_add_json(buf, entry->tensor);
        (void)base_buf_add_str(buf, BASE_STR(": "));
        (void)base_buf_add_json(buf, index->files[entry->file]);
    }
    (void)base_buf_add_str(
        buf, base_str_of(index->n_entries > 0 ? "\n  }\n}\n" : "}\n}\n"));
    return base_buf_check(buf, err);
}
