/* Reading a safetensors header.  docs/formats.md lists the rules.
 *
 * The JSON becomes a tree (ptc/json.h bounds it and refuses a name twice), the
 * tree entries, each checked alone.  Without the tree, the entries are sorted
 * by (begin, end), and one walk finds holes, overlaps and data that end
 * elsewhere than the file does.
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

enum { KEY_DTYPE, KEY_SHAPE, KEY_OFFSETS, N_KEYS };
static const char *const entry_keys[N_KEYS] = {
    [KEY_DTYPE] = "dtype",
    [KEY_SHAPE] = "shape",
    [KEY_OFFSETS] = "data_offsets",
};

void ptc_st_header_free(struct ptc_st_header *header)
{
    if (header != NULL) {
        base_arena_free(header->arena);
        free(header->entries);
        free(header->meta);
        free(header);
    }
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate the header");
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

/* A copy that lives as long as the header. */
static enum base_code copy_str(const struct ptc_st_header *header,
                               struct base_str s,
                               struct base_str *ret,
                               struct base_err *err)
{
    *ret = base_arena_str(header->arena, s);
    return ret->ptr != NULL ? BASE_OK : no_mem(err);
}

/* Errors name the key; the caller knows the file. */
static enum base_code
read_meta(struct ptc_st_header *header, json_t *object, struct base_err *err)
{
    const char *key;
    size_t key_len;
    json_t *value;

    BASE_TRY(ptc_json_check_type(object, JSON_OBJECT, err));
    header->meta = calloc(json_object_size(object) + 1, sizeof(*header->meta));
    if (header->meta == NULL) {
        return no_mem(err);
    }
    json_object_keylen_foreach(object, key, key_len, value)
    {
        struct base_str *pair = header->meta[header->n_meta];
        enum base_code rc = ptc_json_check_type(value, JSON_STRING, err);

        if (rc != BASE_OK) {
            return base_wrap(err, rc, "key '%.100s'", key);
        }
        BASE_TRY(
            copy_str(header, (struct base_str){key, key_len}, &pair[0], err));
        BASE_TRY(copy_str(header, ptc_json_str(value), &pair[1], err));
        header->n_meta++;
    }
    if (header->n_meta > 1) {
        qsort(header->meta, header->n_meta, sizeof(*header->meta), cmp_meta);
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

static enum base_code
read_dtype(const json_t *object, enum ptc_dtype *ret, struct base_err *err)
{
    struct base_str name;

    BASE_TRY(ptc_json_get_str(object, entry_keys[KEY_DTYPE], &name, err));
    if (!ptc_dtype_parse(name, ret)) {
        return base_fail(err, BASE_BAD_INPUT, "dtype: unknown dtype '%.*s'",
                         (int)base_min_u64(name.len, 40), name.ptr);
    }
    return BASE_OK;
}

static enum base_code read_shape(const struct ptc_st_header *header,
                                 const json_t *object,
                                 struct ptc_st_entry *entry,
                                 struct base_err *err)
{
    uint64_t shape[PTC_MAX_DIMS];
    uint64_t *copy;

    BASE_TRY(ptc_json_get_u64s(object, entry_keys[KEY_SHAPE], PTC_MAX_DIMS,
                               shape, &entry->n_dims, err));
    copy = base_arena_alloc(header->arena, entry->n_dims, sizeof(*copy));
    if (copy == NULL) {
        return no_mem(err);
    }
    if (entry->n_dims > 0) {
        memcpy(copy, shape, entry->n_dims * sizeof(*copy));
    }
    entry->shape = copy;
    return BASE_OK;
}

static enum base_code read_offsets(const json_t *object,
                                   struct ptc_st_entry *entry,
                                   struct base_err *err)
{
    uint64_t offsets[2];
    uint32_t n;

    BASE_TRY(ptc_json_get_u64s(object, entry_keys[KEY_OFFSETS], 2, offsets, &n,
                               err));
    if (n != 2) {
        return base_fail(err, BASE_BAD_INPUT,
                         "data_offsets: expected two numbers, got %" PRIu32, n);
    }
    entry->begin = offsets[0];
    entry->end = offsets[1];
    return BASE_OK;
}

/* Errors name the field; the caller knows file and tensor. */
static enum base_code read_entry(const struct ptc_st_header *header,
                                 const json_t *object,
                                 struct ptc_st_entry *entry,
                                 struct base_err *err)
{
    BASE_TRY(ptc_json_check_type(object, JSON_OBJECT, err));
    BASE_TRY(ptc_json_check_keys(object, entry_keys, N_KEYS, err));
    BASE_TRY(read_dtype(object, &entry->dtype, err));
    BASE_TRY(read_shape(header, object, entry, err));
    BASE_TRY(read_offsets(object, entry, err));
    return check_size(entry, err);
}

static enum base_code add_entry(struct ptc_st_header *header,
                                struct base_str name,
                                const json_t *object,
                                struct base_err *err)
{
    struct ptc_st_entry *entry = &header->entries[header->n_entries];
    enum base_code rc;

    BASE_TRY(ptc_name_check(name, "tensor", err));
    BASE_TRY(copy_str(header, name, &entry->name, err));
    rc = read_entry(header, object, entry, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "tensor '%s'", entry->name.ptr);
    }
    header->n_entries++;
    return BASE_OK;
}

static enum base_code
read_entries(struct ptc_st_header *header, json_t *root, struct base_err *err)
{
    size_t n = json_object_size(root); /* perhaps one too many: the metadata */
    const char *key;
    size_t key_len;
    json_t *value;

    if (n > PTC_MAX_TENSORS) {
        return base_fail(err, BASE_LIMIT, "more than %u tensors",
                         PTC_MAX_TENSORS);
    }
    header->entries = calloc(n + 1, sizeof(*header->entries));
    if (header->entries == NULL) {
        return no_mem(err);
    }
    json_object_keylen_foreach(root, key, key_len, value)
    {
        struct base_str name = {key, key_len};
        enum base_code rc;

        if (!base_str_eq(name, BASE_STR("__metadata__"))) {
            BASE_TRY(add_entry(header, name, value, err));
            continue;
        }
        rc = read_meta(header, value, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "__metadata__");
        }
    }
    return BASE_OK;
}

static enum base_code read_json(struct ptc_st_header *header,
                                struct base_str text,
                                struct base_err *err)
{
    PTC_JSON_AUTO root = NULL;

    while (text.len > 0 && text.ptr[text.len - 1] == ' ') {
        text.len--;
    }
    if (text.len == 0 || text.ptr[0] != '{') {
        return base_fail(err, BASE_BAD_INPUT,
                         "header: does not begin with '{'");
    }
    if (text.ptr[text.len - 1] != '}') {
        return base_fail(err, BASE_BAD_INPUT,
                         "header: ends neither in '}' nor in spaces behind it");
    }
    BASE_TRY(ptc_json_load(text, "header", &root, err));
    return read_entries(header, root, err);
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

static enum base_code check_cover(struct ptc_st_header *header,
                                  uint64_t data_bytes,
                                  struct base_err *err)
{
    uint64_t end = 0;

    if (header->n_entries > 1) {
        qsort(header->entries, header->n_entries, sizeof(*header->entries),
              cmp_entries);
    }
    for (uint32_t i = 0; i < header->n_entries; i++) {
        const struct ptc_st_entry *entry = &header->entries[i];

        if (entry->begin != end) {
            return base_fail(err, BASE_BAD_INPUT,
                             "tensor '%s': data_offsets: begins at %" PRIu64
                             ", but %s %" PRIu64 " (%s)",
                             entry->name.ptr, entry->begin,
                             i == 0 ? "the data begin at"
                                    : "the tensor before it ends at",
                             end, entry->begin < end ? "overlap" : "hole");
        }
        end = entry->end;
    }
    if (end != data_bytes) {
        return base_fail(err, BASE_BAD_INPUT,
                         "data: the tensors have %" PRIu64
                         " bytes, but %" PRIu64 " follow the header (%s)",
                         end, data_bytes,
                         end > data_bytes ? "truncated" : "bytes left over");
    }
    return BASE_OK;
}

/* Errors lack the file's name. */
static enum base_code parse(struct ptc_st_header *header,
                            struct base_str json,
                            uint64_t file_bytes,
                            struct base_err *err)
{
    if (json.len > PTC_ST_MAX_HEADER || file_bytes < LENGTH_BYTES ||
        json.len > file_bytes - LENGTH_BYTES) {
        return base_fail(err, BASE_BAD_INPUT,
                         "header length: %zu bytes do not fit", json.len);
    }
    header->arena = base_arena_create(ARENA_MAX_BYTES);
    if (header->arena == NULL) {
        return no_mem(err);
    }
    header->data_offset = LENGTH_BYTES + json.len;
    BASE_TRY(read_json(header, json, err));
    return check_cover(header, file_bytes - header->data_offset, err);
}

enum base_code ptc_st_header_parse(struct base_str json,
                                   uint64_t file_bytes,
                                   const char *origin,
                                   struct ptc_st_header **ret,
                                   struct base_err *err)
{
    BASE_AUTO(ptc_st_header) header = calloc(1, sizeof(*header));
    enum base_code rc;

    if (header == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot allocate the header",
                         origin);
    }
    rc = parse(header, json, file_bytes, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s", origin);
    }
    *ret = base_steal(&header);
    return BASE_OK;
}
