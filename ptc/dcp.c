#include "ptc/dcp.h"

#include <stdlib.h>

#include "ptc/json.h"
#include "ptc/table.h"

#define ARENA_MAX_BYTES (UINT64_C(4) << 30)

static const char *const entry_keys[] = {"saved_offsets"};

void ptc_dcp_info_free(struct ptc_dcp_info *info)
{
    if (info != NULL) {
        base_arena_free(info->arena);
        free(info);
    }
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate the sharding info");
}

static int cmp_entries(const void *a, const void *b)
{
    return base_str_cmp(((const struct ptc_dcp_entry *)a)->tensor,
                        ((const struct ptc_dcp_entry *)b)->tensor);
}

static enum base_code read_entry(struct ptc_dcp_entry *entry,
                                 const json_t *object,
                                 struct base_err *err)
{
    if (!json_is_object(object)) {
        return base_fail(err, BASE_BAD_INPUT, "expected an object");
    }
    BASE_TRY(ptc_json_check_keys(object, entry_keys, 1, err));
    return ptc_json_get_u64s(object, "saved_offsets", PTC_MAX_DIMS,
                             entry->offset, &entry->n_dims, err);
}

static enum base_code
read_entries(struct ptc_dcp_info *info, json_t *root, struct base_err *err)
{
    size_t n = json_object_size(root);
    const char *key;
    size_t key_len;
    json_t *value;

    if (n > PTC_MAX_TENSORS) {
        return base_fail(err, BASE_LIMIT, "more than %u tensors",
                         PTC_MAX_TENSORS);
    }
    info->entries = base_arena_alloc(info->arena, n, sizeof(*info->entries));
    if (info->entries == NULL) {
        return no_mem(err);
    }
    json_object_keylen_foreach(root, key, key_len, value)
    {
        struct ptc_dcp_entry *entry = &info->entries[info->n_entries];
        struct base_str name = {key, key_len};
        enum base_code rc;

        BASE_TRY(ptc_name_check(name, "tensor", err));
        rc = read_entry(entry, value, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "tensor '%s'", key);
        }
        entry->tensor = base_arena_str(info->arena, name);
        if (entry->tensor.ptr == NULL) {
            return no_mem(err);
        }
        info->n_entries++;
    }
    if (info->n_entries > 1) {
        qsort(info->entries, info->n_entries, sizeof(*info->entries),
              cmp_entries);
    }
    return BASE_OK;
}

enum base_code ptc_dcp_info_parse(struct base_str text,
                                  const char *origin,
                                  struct ptc_dcp_info **ret,
                                  struct base_err *err)
{
    BASE_AUTO(ptc_dcp_info) info = NULL;
    PTC_JSON_AUTO root = NULL;
    enum base_code rc;

    rc = ptc_json_load(text, "DCP_SHARDING_INFO", &root, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s", origin);
    }
    info = calloc(1, sizeof(*info));
    if (info != NULL) {
        info->arena = base_arena_create(ARENA_MAX_BYTES);
    }
    if (info == NULL || info->arena == NULL) {
        return base_wrap(err, no_mem(err), "%s", origin);
    }
    rc = read_entries(info, root, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s: DCP_SHARDING_INFO", origin);
    }
    *ret = base_steal(&info);
    return BASE_OK;
}

const struct ptc_dcp_entry *ptc_dcp_info_find(const struct ptc_dcp_info *info,
                                              struct base_str tensor)
{
    const struct ptc_dcp_entry wanted = {.tensor = tensor};

    return bsearch(&wanted, info->entries, info->n_entries,
                   sizeof(*info->entries), cmp_entries);
}
