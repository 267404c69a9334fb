#include "fuse/whole.h"

#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/num.h"
#include "ptc/view.h"

enum {
    MAX_BLOBS = 16,    /* a file's bytes are in, at their own offsets */
    MAX_OTHERS = 4096, /* runs elsewhere */
    OTHERS_SHARE = 32, /* of the file, at most, are their bytes */
    OTHERS_MAX_BYTES = 64 << 20, /* read twice at the first open: ~0.1 s */
    CHUNK_BYTES = 1 << 16,
};

static uint64_t max_others(uint64_t n_bytes)
{
    return base_min_u64(n_bytes / OTHERS_SHARE, OTHERS_MAX_BYTES);
}

/* How many bytes of the file each of the first few blobs has in place. */
struct census {
    uint32_t blobs[MAX_BLOBS];
    uint64_t n_bytes[MAX_BLOBS];
    uint32_t n;
};

static void census_add(struct census *census, const struct ptc_run *run)
{
    uint32_t i = 0;

    while (i < census->n && census->blobs[i] != run->blob) {
        i++;
    }
    if (i == MAX_BLOBS) {
        return;
    }
    if (i == census->n) {
        census->blobs[census->n++] = run->blob;
        census->n_bytes[i] = 0;
    }
    census->n_bytes[i] += run->n_bytes;
}

static bool is_in_place(const struct store_source *source,
                        const struct ptc_view *view,
                        const struct ptc_run *run,
                        uint64_t position)
{
    return run->blob != PTC_BLOB_HEADER && run->blob != PTC_BLOB_ZERO &&
           run->offset == position &&
           store_source_blob(source, run->blob)->n_bytes ==
               ptc_view_n_bytes(view);
}

/* The blob with the most bytes in place; PTC_NONE: too many are elsewhere. */
static uint32_t most_of(const struct store_source *source,
                        const struct ptc_view *view)
{
    const uint64_t n_all = ptc_view_n_bytes(view);
    const uint64_t begin = ptc_view_header(view).len;
    struct census census = {.n = 0};
    struct ptc_cursor cursor;
    struct ptc_run run;
    uint64_t position = begin;
    uint64_t n_elsewhere = 0;
    uint32_t n_others = 0;
    uint32_t best = 0;
    uint32_t i;

    ptc_cursor_init(&cursor, view, begin, n_all - begin);
    while (ptc_cursor_next(&cursor, &run)) {
        if (is_in_place(source, view, &run, position)) {
            census_add(&census, &run);
        } else {
            n_elsewhere += run.n_bytes;
            n_others++;
        }
        if (n_elsewhere > max_others(n_all) || n_others > MAX_OTHERS) {
            return PTC_NONE;
        }
        position += run.n_bytes;
    }
    for (i = 1; i < census.n; i++) {
        best = census.n_bytes[i] > census.n_bytes[best] ? i : best;
    }
    if (census.n == 0 ||
        (n_all - begin) - census.n_bytes[best] > max_others(n_all)) {
        return PTC_NONE;
    }
    return census.blobs[best];
}

/* Has @blob the @n_bytes of @bytes at @position? */
static bool has_bytes(const struct store_blob *blob,
                      uint64_t position,
                      const char *bytes,
                      size_t n_bytes)
{
    BASE_AUTO_MEM char *found = malloc(n_bytes);
    struct base_err err;

    return found != NULL &&
           base_io_pread(blob->fd, found, n_bytes, position, blob->label,
                         &err) == BASE_OK &&
           memcmp(found, bytes, n_bytes) == 0;
}

/* Has @blob at @position what the run @at of another blob says? */
static bool has_run(const struct store_source *source,
                    const struct store_blob *blob,
                    uint64_t position,
                    const struct ptc_run *at)
{
    BASE_AUTO_MEM char *bytes = malloc(CHUNK_BYTES);
    const struct store_blob *other;
    uint64_t done;
    struct base_err err;

    if (bytes == NULL || at->blob == PTC_BLOB_HEADER ||
        at->blob == PTC_BLOB_ZERO) {
        return false;
    }
    other = store_source_blob(source, at->blob);
    for (done = 0; done < at->n_bytes; done += CHUNK_BYTES) {
        size_t n = (size_t)base_min_u64(CHUNK_BYTES, at->n_bytes - done);

        if (base_io_pread(other->fd, bytes, n, at->offset + done, other->label,
                          &err) != BASE_OK ||
            !has_bytes(blob, position + done, bytes, n)) {
            return false;
        }
    }
    return true;
}

static bool is_equal(const struct store_source *source,
                     const struct ptc_view *view,
                     uint32_t idx)
{
    const struct store_blob *blob = store_source_blob(source, idx);
    const struct base_str header = ptc_view_header(view);
    struct ptc_cursor cursor;
    struct ptc_run run;
    uint64_t position = header.len;
    uint32_t n_others = 0;

    if (!has_bytes(blob, 0, header.ptr, header.len)) {
        return false;
    }
    ptc_cursor_init(&cursor, view, position, ptc_view_n_bytes(view) - position);
    while (ptc_cursor_next(&cursor, &run)) {
        if (run.blob != idx || run.offset != position) {
            n_others++;
            if (n_others > MAX_OTHERS ||
                !has_run(source, blob, position, &run)) {
                return false;
            }
        }
        position += run.n_bytes;
    }
    return true;
}

const struct store_blob *fs_whole_blob(const struct fs_node *node,
                                       const struct ptc_view *view)
{
    const struct store_source *source = node->version->source;
    uint32_t idx;

    if (store_source_form(source) != STORE_FORM_VERSION ||
        node->version->verify != NULL) {
        return NULL;
    }
    idx = most_of(source, view);
    if (idx == PTC_NONE || !is_equal(source, view, idx)) {
        return NULL;
    }
    return store_source_blob(source, idx);
}
