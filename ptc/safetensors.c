/* Reading a safetensors header.  docs/formats.md lists the rules.
 *
 * One pass over the text makes the entries and checks each alone; sorted by
 * name they show a name twice; sorted by (begin, end), one walk finds holes,
 * overlaps and data that end elsewhere than the file does.  Memory is that of
 * the entries.
 *
 * Source of the rules: safetensors, src/tensor.rs. */
#include "ptc/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/json_reader.h"
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
    if (ret->ptr == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate the header");
    }
    return BASE_OK;
}

static enum base_code read_meta_items(struct ptc_st_header *header,
                                      struct ptc_json_reader *r,
                                      struct base_err *err)
{
    size_t cap = 0;

    BASE_TRY(ptc_json_read_enter(r, '{', err));
    for (;;) {
        struct base_str key;
        struct base_str value;
        bool has_key;
        enum base_code rc;

        BASE_TRY(ptc_json_read_key(r, &has_key, &key, err));
        if (!has_key) {
            return BASE_OK;
        }
        rc = ptc_json_read_str(r, &value, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "key '%.*s'",
                             (int)base_min_u64(key.len, 100), key.ptr);
        }
        if (header->n_meta == cap &&
            !base_vec_grow_((void **)&header->meta, &cap, cap + 1,
                            sizeof(*header->meta))) {
            return base_fail(err, BASE_NO_MEM, "cannot allocate the header");
        }
        BASE_TRY(copy_str(header, key, &header->meta[header->n_meta][0], err));
        BASE_TRY(
            copy_str(header, value, &header->meta[header->n_meta][1], err));
        header->n_meta++;
    }
}

/* Errors name the key; the caller knows the file. */
static enum base_code read_meta(struct ptc_st_header *header,
                                struct ptc_json_reader *r,
                                struct base_err *err)
{
    BASE_TRY(read_meta_items(header, r, err));
    if (header->n_meta > 1) {
        qsort(header->meta, header->n_meta, sizeof(*header->meta), cmp_meta);
    }
    for (uint32_t i = 1; i < header->n_meta; i++) {
        if (base_str_eq(header->meta[i - 1][0], header->meta[i][0])) {
            return base_fail(err, BASE_BAD_INPUT, "key '%.100s' twice",
                             header->meta[i][0].ptr);
        }
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
read_dtype(struct ptc_json_reader *r, enum ptc_dtype *ret, struct base_err *err)
{
    struct base_str name;

    BASE_TRY(ptc_json_read_str(r, &name, err));
    if (!ptc_dtype_parse(name, ret)) {
        return base_fail(err, BASE_BAD_INPUT, "unknown dtype '%.*s'",
                         (int)base_min_u64(name.len, 40), name.ptr);
    }
    return BASE_OK;
}

static enum base_code read_shape(const struct ptc_st_header *header,
                                 struct ptc_json_reader *r,
                                 struct ptc_st_entry *entry,
                                 struct base_err *err)
{
    uint64_t shape[PTC_MAX_DIMS];
    uint64_t *copy;

    BASE_TRY(ptc_json_read_u64s(r, PTC_MAX_DIMS, shape, &entry->n_dims, err));
    copy = base_arena_alloc(header->arena, entry->n_dims, sizeof(*copy));
    if (copy == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate the header");
    }
    if (entry->n_dims > 0) {
        memcpy(copy, shape, entry->n_dims * sizeof(*copy));
    }
    entry->shape = copy;
    return BASE_OK;
}

static enum base_code read_offsets(struct ptc_json_reader *r,
                                   struct ptc_st_entry *entry,
                                   struct base_err *err)
{
    uint64_t offsets[2];
    uint32_t n;

    BASE_TRY(ptc_json_read_u64s(r, 2, offsets, &n, err));
    if (n != 2) {
        return base_fail(err, BASE_BAD_INPUT,
                         "expected two numbers, got %" PRIu32, n);
    }
    entry->begin = offsets[0];
    entry->end = offsets[1];
    return BASE_OK;
}

/* Errors name the field; the caller knows file and tensor. */
static enum base_code read_entry(const struct ptc_st_header *header,
                                 struct ptc_json_reader *r,
                                 struct ptc_st_entry *entry,
                                 struct base_err *err)
{
    uint32_t seen = 0;
    unsigned key;

    BASE_TRY(ptc_json_read_enter(r, '{', err));
    for (;;) {
        enum base_code rc;

        BASE_TRY(ptc_json_read_field(r, entry_keys, N_KEYS, &seen, &key, err));
        if (key == N_KEYS) {
            break;
        }
        if (key == KEY_DTYPE) {
            rc = read_dtype(r, &entry->dtype, err);
        } else if (key == KEY_SHAPE) {
            rc = read_shape(header, r, entry, err);
        } else {
            rc = read_offsets(r, entry, err);
        }
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "%s", entry_keys[key]);
        }
    }
    for (key = 0; key < N_KEYS; key++) {
        if ((seen & UINT32_C(1) << key) == 0) {
            return base_fail(err, BASE_BAD_INPUT, "%s: missing",
                             entry_keys[key]);
        }
    }
    return check_size(entry, err);
}

static enum base_code add_entry(struct ptc_st_header *header,
                                struct ptc_json_reader *r,
                                struct base_str name,
                                size_t *cap,
                                struct base_err *err)
{
    struct ptc_st_entry *entry;
    enum base_code rc;

    BASE_TRY(ptc_name_check(name, "tensor", err));
    if (header->n_entries >= PTC_MAX_TENSORS) {
        return base_fail(err, BASE_LIMIT, "more than %u tensors",
                         PTC_MAX_TENSORS);
    }
    if (header->n_entries == *cap &&
        !base_vec_grow_((void **)&header->entries, cap, *cap + 1,
                        sizeof(*header->entries))) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate the header");
    }
    entry = &header->entries[header->n_entries];
    *entry = (struct ptc_st_entry){0};
    BASE_TRY(copy_str(header, name, &entry->name, err));
    rc = read_entry(header, r, entry, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "tensor '%s'", entry->name.ptr);
    }
    header->n_entries++;
    return BASE_OK;
}

static enum base_code read_entries(struct ptc_st_header *header,
                                   struct ptc_json_reader *r,
                                   struct base_err *err)
{
    bool has_meta = false;
    size_t cap = 0;

    BASE_TRY(ptc_json_read_enter(r, '{', err));
    for (;;) {
        struct base_str key;
        bool has_key;
        enum base_code rc;

        BASE_TRY(ptc_json_read_key(r, &has_key, &key, err));
        if (!has_key) {
            return ptc_json_read_end(r, err);
        }
        if (!base_str_eq(key, BASE_STR("__metadata__"))) {
            BASE_TRY(add_entry(header, r, key, &cap, err));
            continue;
        }
        if (has_meta) {
            return base_fail(err, BASE_BAD_INPUT, "key '__metadata__' twice");
        }
        has_meta = true;
        rc = read_meta(header, r, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "__metadata__");
        }
    }
}

/* All tensors together. */

static int cmp_names(const void *a, const void *b)
{
    return base_str_cmp(((const struct ptc_st_entry *)a)->name,
                        ((const struct ptc_st_entry *)b)->name);
}

static enum base_code check_names(struct ptc_st_header *header,
                                  struct base_err *err)
{
    if (header->n_entries > 1) {
        qsort(header->entries, header->n_entries, sizeof(*header->entries),
              cmp_names);
    }
    for (uint32_t i = 1; i < header->n_entries; i++) {
        if (cmp_names(&header->entries[i - 1], &header->entries[i]) == 0) {
            return base_fail(err, BASE_BAD_INPUT, "tensor '%s': twice there",
                             header->entries[i].name.ptr);
        }
    }
    return BASE_OK;
}

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
    struct ptc_json_reader r;

    if (json.len > PTC_ST_MAX_HEADER || file_bytes < LENGTH_BYTES ||
        json.len > file_bytes - LENGTH_BYTES) {
        return base_fail(err, BASE_BAD_INPUT,
                         "header length: %zu bytes do not fit", json.len);
    }
    if (json.len == 0 || json.ptr[0] != '{') {
        return base_fail(err, BASE_BAD_INPUT,
                         "header: does not begin with '{'");
    }
    header->arena = base_arena_create(ARENA_MAX_BYTES);
    if (header->arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate the header");
    }
    header->data_offset = LENGTH_BYTES + json.len;
    BASE_TRY(ptc_json_reader_init(&r, json, header->arena, err));
    BASE_TRY(read_entries(header, &r, err));
    BASE_TRY(check_names(header, err));
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
