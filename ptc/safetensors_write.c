/* Writing a safetensors header: the reference writer's order and form, our
 * padding. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/safetensors.h"

#define LENGTH_BYTES 8u

static int cmp_new(const void *a, const void *b)
{
    const struct ptc_st_new *x = a;
    const struct ptc_st_new *y = b;

    if (x->dtype != y->dtype) {
        return x->dtype > y->dtype ? -1 : 1;
    }
    return base_str_cmp(x->name, y->name);
}

void ptc_st_order(struct ptc_st_new *entries, uint32_t n)
{
    uint64_t offset = 0;

    if (n > 1) {
        qsort(entries, n, sizeof(*entries), cmp_new);
    }
    for (uint32_t i = 0; i < n; i++) {
        entries[i].offset = offset;
        offset += entries[i].n_bytes; /* a table's bytes fit 2^63 */
    }
}

static void write_entry(const struct ptc_st_new *entry, struct base_buf *buf)
{
    /* Failures stick to the buffer; the last call tells. */
    (void)base_buf_add_json(buf, entry->name);
    (void)base_buf_addf(buf, ":{\"dtype\":\"%s\",\"shape\":[",
                        ptc_dtype_name(entry->dtype));
    for (uint32_t d = 0; d < entry->n_dims; d++) {
        (void)base_buf_addf(buf, "%s%" PRIu64, d == 0 ? "" : ",",
                            entry->shape[d]);
    }
    (void)base_buf_addf(buf, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
                        entry->offset, entry->offset + entry->n_bytes);
}

/* Put the length of the JSON, which begins behind it, in its place. */
static void store_length(char *at, uint64_t length)
{
    for (size_t i = 0; i < LENGTH_BYTES; i++) {
        at[i] = (char)(unsigned char)(length >> (8 * i));
    }
}

enum base_code ptc_st_header_write(const struct ptc_st_new *entries,
                                   uint32_t n,
                                   struct base_str retile,
                                   struct base_buf *buf,
                                   struct base_err *err)
{
    static const char spaces[] = "                                ";
    size_t start = buf->len;
    uint64_t padded;
    uint64_t left;

    (void)base_buf_add(buf, "\0\0\0\0\0\0\0\0", LENGTH_BYTES);
    (void)base_buf_add_str(buf,
                           BASE_STR("{\"__metadata__\":{\"format\":\"pt\""));
    if (retile.len > 0) {
        (void)base_buf_add_str(buf, BASE_STR(",\"retile\":"));
        (void)base_buf_add_json(buf, retile);
    }
    (void)base_buf_add_str(buf, BASE_STR("}"));
    for (uint32_t i = 0; i < n; i++) {
        (void)base_buf_add_str(buf, BASE_STR(","));
        write_entry(&entries[i], buf);
    }
    (void)base_buf_add_str(buf, BASE_STR("}"));
    BASE_TRY(base_buf_check(buf, err));

    padded =
        base_ceil_div(buf->len - start, PTC_ST_DATA_ALIGN) * PTC_ST_DATA_ALIGN;
    if (padded - LENGTH_BYTES > PTC_ST_MAX_HEADER) {
        return base_fail(err, BASE_LIMIT,
                         "a safetensors header of %" PRIu64
                         " bytes, at most %u are allowed",
                         padded - LENGTH_BYTES, PTC_ST_MAX_HEADER);
    }
    for (left = padded - (buf->len - start); left > 0;) {
        size_t step = (size_t)base_min_u64(left, sizeof(spaces) - 1);

        (void)base_buf_add(buf, spaces, step);
        left -= step;
    }
    BASE_TRY(base_buf_check(buf, err));
    store_length(buf->ptr + start, padded - LENGTH_BYTES);
    return BASE_OK;
}
