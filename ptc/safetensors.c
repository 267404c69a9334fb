/* Reading a safetensors header.  docs/formats.md lists the rules.
 *
 * One pass over the JSON object makes the entries and checks each alone; then
 * they are sorted by (begin, end) and one walk finds holes, overlaps and data
 * that end elsewhere than the file does.
 *
 * Source of the rules: safetensors, src/tensor.rs. */
#include "ptc/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/json.h"
#include "ptc/table.h"

#define ARENA_MAX_BYTES (UINT64_C(4) << 30)
#define LENGTH_BYTES    8u

static const char *const entry_keys[] = {"dtype", "shape", "data_offsets"};
#define N_ENTRY_KEYS (sizeof(entry_keys) / sizeof(entry_keys[0]))

void ptc_st_header_free(struct ptc_st_header *header)
{
    if (header != NULL) {
        base_arena_free(header->arena);
        free(header);
    }
}

static enum base_code no_mem(const char *origin, struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "%s: cannot allocate the header",
                     origin);
}

static uint64_t load_u64(const uint8_t *bytes)
{
    uint64_t value = 0;

    for (size_t i = LENGTH_BYTES; i-- > 0;) {
        value = value << 8 | bytes[i];
    }
    return value;
}

enum base_code ptc_st_header_length(const uint8_t first8[8],
                                    uint64_t file_bytes,
                                    const char *origin,
                                    uint64_t *ret_length,
                                    struct base_err *err)
{
    uint64_t length;

    if (file_bytes < LENGTH_BYTES) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: header length: the file has %" PRIu64
                         " bytes, fewer than 8",
                         origin, file_bytes);
    }
    length = load_u64(first8);
    if (length > PTC_ST_MAX_HEADER) {
        return base_fail(err, BASE_LIMIT,
                         "%s: header length: %" PRIu64
                         " bytes, at most %u are allowed",
                         origin, length, PTC_ST_MAX_HEADER);
    }
    if (length > file_bytes - LENGTH_BYTES) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: header length: %" PRIu64
                         " bytes, but the file has %" PRIu64,
                         origin, length, file_bytes);
    }
    *ret_length = length;
    return BASE_OK;
}

/* __metadata__: strings only, sorted by key. */

static int cmp_meta(const void *a, const void *b)
{
    return base_str_cmp(*(const struct base_str *)a,
                        *(const struct base_str *)b);
}

static enum base_code read_meta(struct ptc_st_header *header,
                                json_t *meta,
                                const char *origin,
                                struct base_err *err)
{
    const char *key;
    size_t key_len;
    json_t *value;
    uint32_t n = 0;

    if (!json_is_object(meta)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: __metadata__: expected an object", origin);
    }
    header->meta = base_arena_alloc(header->arena, json_object_size(meta),
                                    sizeof(*header->meta));
    if (header->meta == NULL) {
        return no_mem(origin, err);
    }
    json_object_keylen_foreach(meta, key, key_len, value)
    {
        if (!json_is_string(value)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "%s: __metadata__: %.100s: expected a string",
                             origin, key);
        }
        header->meta[n][0] =
            base_arena_str(header->arena, (struct base_str){key, key_len});
        header->meta[n][1] = base_arena_str(header->arena, ptc_json_str(value));
        if (header->meta[n][0].ptr == NULL || header->meta[n][1].ptr == NULL) {
            return no_mem(origin, err);
        }
        n++;
    }
    header->n_meta = n;
    if (n > 1) {
        qsort(header->meta, n, sizeof(*header->meta), cmp_meta);
    }
    return BASE_OK;
}

struct base_str ptc_st_meta(const struct ptc_st_header *header, const char *key)
{
    struct base_str wanted[2] = {base_str_of(key), {NULL, 0}};
    const struct base_str(*found)[2] = NULL;

    if (header->n_meta > 0) {
        found = bsearch(wanted, header->meta, header->n_meta,
                        sizeof(*header->meta), cmp_meta);
    }
    return found != NULL ? (*found)[1] : (struct base_str){NULL, 0};
}

/* One tensor. */

/* Does the shape need as many bytes as the offsets leave? */
static enum base_code check_size(const struct ptc_st_entry *entry,
                                 struct base_err *err)
{
    uint64_t n_elems = 1;
    uint64_t n_bytes;

    for (uint32_t d = 0; d < entry->n_dims; d++) {
        if (!base_mul_u64(n_elems, entry->shape[d], &n_elems)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "shape: the number of elements overflows");
        }
    }
    if (!ptc_dtype_bytes(entry->dtype, n_elems, &n_bytes)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "shape: %" PRIu64
                         " elements of %s overflow or are no whole number of "
                         "bytes",
                         n_elems, ptc_dtype_name(entry->dtype));
    }
    if (entry->begin > entry->end) {
        return base_fail(err, BASE_BAD_INPUT,
                         "data_offsets: [%" PRIu64 ", %" PRIu64
                         "] ends before it begins",
                         entry->begin, entry->end);
    }
    if (entry->end - entry->begin != n_bytes) {
        return base_fail(err, BASE_BAD_INPUT,
                         "data_offsets: %" PRIu64
                         " bytes, but dtype and shape need %" PRIu64,
                         entry->end - entry->begin, n_bytes);
    }
    return BASE_OK;
}

/* Errors name the field; the caller knows file and tensor. */
static enum base_code read_entry(struct ptc_st_header *header,
                                 const json_t *object,
                                 struct ptc_st_entry *entry,
                                 struct base_err *err)
{
    uint64_t shape[PTC_MAX_DIMS];
    uint64_t offsets[2];
    uint64_t *copy;
    struct base_str dtype;
    uint32_t n;

    if (!json_is_object(object)) {
        return base_fail(err, BASE_BAD_INPUT, "expected an object");
    }
    BASE_TRY(ptc_json_check_keys(object, entry_keys, N_ENTRY_KEYS, err));
    BASE_TRY(ptc_json_get_str(object, "dtype", &dtype, err));
    if (!ptc_dtype_parse(dtype, &entry->dtype)) {
        return base_fail(err, BASE_BAD_INPUT, "dtype: unknown dtype '%.40s'",
                         dtype.ptr);
    }
    BASE_TRY(ptc_json_get_u64s(object, "shape", PTC_MAX_DIMS, shape,
                               &entry->n_dims, err));
    BASE_TRY(ptc_json_get_u64s(object, "data_offsets", 2, offsets, &n, err));
    if (n != 2) {
        return base_fail(err, BASE_BAD_INPUT,
                         "data_offsets: expected two numbers, got %" PRIu32, n);
    }
    entry->begin = offsets[0];
    entry->end = offsets[1];
    copy = base_arena_alloc(header->arena, entry->n_dims, sizeof(*copy));
    if (copy == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate the shape");
    }
    if (entry->n_dims > 0) {
        memcpy(copy, shape, entry->n_dims * sizeof(*copy));
    }
    entry->shape = copy;
    return check_size(entry, err);
}

static enum base_code read_entries(struct ptc_st_header *header,
                                   json_t *root,
                                   const char *origin,
                                   struct base_err *err)
{
    size_t n_keys = json_object_size(root);
    const char *key;
    size_t key_len;
    json_t *value;

    if (n_keys > PTC_MAX_TENSORS) {
        return base_fail(err, BASE_LIMIT, "%s: more than %u tensors", origin,
                         PTC_MAX_TENSORS);
    }
    header->entries =
        base_arena_alloc(header->arena, n_keys, sizeof(*header->entries));
    if (header->entries == NULL) {
        return no_mem(origin, err);
    }
    json_object_keylen_foreach(root, key, key_len, value)
    {
        struct ptc_st_entry *entry = &header->entries[header->n_entries];
        struct base_str name = {key, key_len};
        enum base_code rc;

        if (base_str_eq(name, BASE_STR("__metadata__"))) {
            BASE_TRY(read_meta(header, value, origin, err));
            continue;
        }
        rc = ptc_name_check(name, "tensor", err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "%s", origin);
        }
        entry->name = base_arena_str(header->arena, name);
        if (entry->name.ptr == NULL) {
            return no_mem(origin, err);
        }
        rc = read_entry(header, value, entry, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "%s: tensor '%s'", origin, key);
        }
        header->n_entries++;
    }
    return BASE_OK;
}

/* All tensors together. */

/* Entries of equal offsets are empty; the name makes their order total. */
static int cmp_entries(const void *a, const void *b)
{
    const struct ptc_st_entry *x = a;
    const struct ptc_st_entry *y = b;

    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    if (x->end != y->end) {
        return x->end < y->end ? -1 : 1;
    }
    return base_str_cmp(x->name, y->name);
}

static enum base_code check_cover(const struct ptc_st_header *header,
                                  uint64_t data_bytes,
                                  const char *origin,
                                  struct base_err *err)
{
    uint64_t end = 0;

    for (uint32_t i = 0; i < header->n_entries; i++) {
        const struct ptc_st_entry *entry = &header->entries[i];

        if (entry->begin != end) {
            return base_fail(err, BASE_BAD_INPUT,
                             "%s: tensor '%.*s': data_offsets: begins at "
                             "%" PRIu64 ", but %s %" PRIu64 " (%s)",
                             origin, BASE_STR_FMT(entry->name), entry->begin,
                             i == 0 ? "the data begin at"
                                    : "the tensor before it ends at",
                             end, entry->begin < end ? "overlap" : "hole");
        }
        end = entry->end;
    }
    if (end != data_bytes) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: the tensors have %" PRIu64 " bytes, but %" PRIu64
                         " follow the header (%s)",
                         origin, end, data_bytes,
                         end > data_bytes ? "truncated" : "bytes left over");
    }
    return BASE_OK;
}

enum base_code ptc_st_header_parse(struct base_str json,
                                   uint64_t file_bytes,
                                   const char *origin,
                                   struct ptc_st_header **ret,
                                   struct base_err *err)
{
    BASE_AUTO(ptc_st_header) header = NULL;
    PTC_JSON_AUTO root = NULL;

    if (json.len > PTC_ST_MAX_HEADER || file_bytes < LENGTH_BYTES ||
        json.len > file_bytes - LENGTH_BYTES) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: header length: %zu bytes do not fit", origin,
                         json.len);
    }
    if (json.len == 0 || json.ptr[0] != '{') {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: header: does not begin with '{'", origin);
    }
    BASE_TRY(ptc_json_load(json, origin, &root, err));
    header = calloc(1, sizeof(*header));
    if (header == NULL) {
        return no_mem(origin, err);
    }
    header->arena = base_arena_create(ARENA_MAX_BYTES);
    if (header->arena == NULL) {
        return no_mem(origin, err);
    }
    header->data_offset = LENGTH_BYTES + json.len;
    BASE_TRY(read_entries(header, root, origin, err));
    if (header->n_entries > 1) {
        qsort(header->entries, header->n_entries, sizeof(*header->entries),
              cmp_entries);
    }
    BASE_TRY(
        check_cover(header, file_bytes - header->data_offset, origin, err));
    *ret = base_steal(&header);
    return BASE_OK;
}
