/* Input: u64 LE bytes of data behind the header, then the header's JSON.
 *
 * What parses is covered without gap, and is the same after it was written by
 * us and read again. */
#include "ptc/safetensors.h"
#include "ptc/table.h"
#include "tests/fuzz/fuzz.h"

static void check_entries(const struct ptc_st_header *header, uint64_t end)
{
    uint64_t at = 0;

    for (uint32_t i = 0; i < header->n_entries; i++) {
        const struct ptc_st_entry *entry = &header->entries[i];
        struct ptc_box box = ptc_box_whole(entry->n_dims, entry->shape);
        uint64_t n_bytes = 0;

        FUZZ_CHECK(entry->begin == at && entry->end >= at);
        FUZZ_CHECK(ptc_name_check(entry->name, "tensor", NULL) == BASE_OK);
        FUZZ_CHECK(
            ptc_dtype_bytes(entry->dtype, ptc_box_elems(&box), &n_bytes));
        FUZZ_CHECK(n_bytes == entry->end - entry->begin);
        at = entry->end;
    }
    FUZZ_CHECK(at == end);
    for (uint32_t i = 0; i < header->n_meta; i++) {
        FUZZ_CHECK(base_str_eq(ptc_st_meta(header, header->meta[i][0].ptr),
                               header->meta[i][1]));
    }
}

/* Does @header list what @entries say? */
static void check_same(const struct ptc_st_header *header,
                       const struct ptc_st_new *entries)
{
    for (uint32_t i = 0; i < header->n_entries; i++) {
        const struct ptc_st_entry *entry = &header->entries[i];
        bool is_found = false;

        for (uint32_t k = 0; k < header->n_entries && !is_found; k++) {
            is_found = base_str_eq(entry->name, entries[k].name) &&
                       entry->dtype == entries[k].dtype &&
                       entry->n_dims == entries[k].n_dims &&
                       entry->begin == entries[k].offset &&
                       entry->end == entries[k].offset + entries[k].n_bytes &&
                       (entry->n_dims == 0 ||
                        memcmp(entry->shape, entries[k].shape,
                               entry->n_dims * sizeof(*entry->shape)) == 0);
        }
        FUZZ_CHECK(is_found);
    }
}

static void check_rewritten(const struct ptc_st_header *header, uint64_t end)
{
    struct ptc_st_new *entries =
        calloc((size_t)header->n_entries + 1, sizeof(*entries));
    BASE_AUTO(ptc_st_header) back = NULL;
    BASE_AUTO_BUF buf;
    struct base_err err = {0};
    uint64_t length = 0;

    base_buf_init(&buf, 1u << 26);
    FUZZ_CHECK(entries != NULL);
    for (uint32_t i = 0; i < header->n_entries; i++) {
        const struct ptc_st_entry *e = &header->entries[i];

        entries[i] = (struct ptc_st_new){e->name,  e->dtype,          e->n_dims,
                                         e->shape, e->end - e->begin, 0};
    }
    ptc_st_order(entries, header->n_entries);
    FUZZ_CHECK(ptc_st_header_write(entries, header->n_entries,
                                   ptc_st_meta(header, "retile"), &buf,
                                   &err) == BASE_OK);
    FUZZ_CHECK(buf.len % PTC_ST_DATA_ALIGN == 0);
    FUZZ_CHECK(ptc_st_header_length((const uint8_t *)buf.ptr, buf.len + end,
                                    "fuzz", &length, &err) == BASE_OK);
    FUZZ_CHECK(length == buf.len - 8);
    FUZZ_CHECK(
        ptc_st_header_parse((struct base_str){buf.ptr + 8, (size_t)length},
                            buf.len + end, "fuzz", &back, &err) == BASE_OK);
    FUZZ_CHECK(back->n_entries == header->n_entries);
    FUZZ_CHECK(base_str_eq(ptc_st_meta(back, "retile"),
                           ptc_st_meta(header, "retile")));
    check_same(back, entries);
    free(entries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BASE_AUTO(ptc_st_header) header = NULL;
    struct base_err err = {0};
    struct base_str json;
    uint64_t data_bytes = 0;
    uint64_t length = 0;
    enum base_code code;

    if (size < 8) {
        return 0;
    }
    code = ptc_st_header_length(data, size, "fuzz", &length, &err);
    if (code != BASE_OK) {
        fuzz_check_error(code, &err);
    } else {
        FUZZ_CHECK(length <= size - 8);
    }
    for (size_t i = 8; i-- > 0;) {
        data_bytes = data_bytes << 8 | data[i];
    }
    data_bytes &= UINT64_MAX >> 1; /* so that the file's size is a number */
    json = fuzz_str(data + 8, size - 8);
    code = ptc_st_header_parse(json, 8 + json.len + data_bytes, "fuzz", &header,
                               &err);
    if (code != BASE_OK) {
        FUZZ_CHECK(header == NULL);
        fuzz_check_error(code, &err);
        return 0;
    }
    check_entries(header, data_bytes);
    check_rewritten(header, data_bytes);
    return 0;
}
