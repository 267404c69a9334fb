/* The file `vote`: lines of text, in one order, one way to write each. */
#include <inttypes.h>
#include <stdio.h>

#include "base/num.h"
#include "store/blob.h"
#include "store/root_priv.h"
#include "store/vote_priv.h"

#define MAGIC   "retile vote 1"
#define UNKNOWN "-" /* a step that is not known */

/* --- writing ------------------------------------------------------------ */

enum base_code store_vote_format(const struct store_vote_file *file,
                                 struct base_buf *text,
                                 struct base_err *err)
{
    const struct store_vote *vote = &file->vote;
    char digest[BASE_DIGEST_TEXT_BYTES];
    char blob[STORE_BLOB_TEXT_BYTES];
    char step[24] = UNKNOWN;

    if (vote->step != UINT64_MAX) {
        (void)snprintf(step, sizeof(step), "%" PRIu64, vote->step);
    }
    /* Failures stay in the buffer, checked below. */
    (void)base_buf_addf(text,
                        MAGIC "\njob %s\nnumber %" PRIu64
                              "\ngeneration %" PRIu64 "\norigin %s\nstep %s\n"
                              "parent %" PRIu64 "\nmanifest %s\nadopted %zu\n",
                        vote->job, vote->number, vote->generation, vote->origin,
                        step, vote->parent,
                        base_digest_format(vote->manifest, digest),
                        file->adopted.n);
    for (size_t i = 0; i < file->adopted.n; i++) {
        const struct store_vote_adopted *item = &file->adopted.items[i];

        (void)base_buf_addf(
            text, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu32 "\n",
            store_blob_name_format(&item->blob, blob), item->ino, item->n_bytes,
            item->mtime_s, item->mtime_ns);
    }
    return base_buf_check(text, err);
}

/* --- reading ------------------------------------------------------------ */

struct reader {
    struct base_str rest;
    const char *origin;
    uint64_t line; /* that was read last, from 1 */
};

static enum base_code
wrong(const struct reader *reader, const char *what, struct base_err *err)
{
    return base_fail(err, BASE_BAD_INPUT,
                     "%s: line %" PRIu64 " (%s) is malformed", reader->origin,
                     reader->line, what);
}

/* Up to the next @end, which is taken, too; false when there is none. */
static bool
take_until(struct base_str *rest, char end, struct base_str *ret_head)
{
    const char *at = rest->len == 0 ? NULL : memchr(rest->ptr, end, rest->len);
    size_t n;

    if (at == NULL) {
        return false;
    }
    n = (size_t)(at - rest->ptr);
    *ret_head = (struct base_str){rest->ptr, n};
    *rest = (struct base_str){at + 1, rest->len - n - 1};
    return true;
}

static bool
read_line(struct reader *reader, const char *key, struct base_str *ret_value)
{
    struct base_str found;

    reader->line++;
    return take_until(&reader->rest, '\n', ret_value) &&
           take_until(ret_value, ' ', &found) &&
           base_str_eq(found, base_str_of(key));
}

static bool parse_number(struct base_str text, uint64_t *ret)
{
    return base_parse_u64(text, ret) && (text.len == 1 || text.ptr[0] != '0');
}

static enum base_code read_number(struct reader *reader,
                                  const char *key,
                                  uint64_t *ret,
                                  struct base_err *err)
{
    struct base_str text;

    return read_line(reader, key, &text) && parse_number(text, ret)
               ? BASE_OK
               : wrong(reader, key, err);
}

/* A text without a NUL into @ret, of @size bytes. */
static bool
read_text(struct reader *reader, const char *key, char *ret, size_t size)
{
    struct base_str text;

    if (!read_line(reader, key, &text) || text.len >= size ||
        memchr(text.ptr, '\0', text.len) != NULL) {
        return false;
    }
    memcpy(ret, text.ptr, text.len);
    ret[text.len] = '\0';
    return true;
}

static bool is_origin(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz");

    return n > 0 && text[n] == '\0';
}

/* Digests and blobs' names are 16 bytes both. */
static bool parse_digest(struct base_str text, struct base_digest *ret)
{
    struct ptc_blob_name name;

    if (!store_blob_name_parse(text, &name)) {
        return false;
    }
    memcpy(ret->bytes, name.bytes, sizeof(ret->bytes));
    return true;
}

static enum base_code
read_head(struct reader *reader, struct store_vote *vote, struct base_err *err)
{
    struct base_str text;

    reader->line++;
    if (!take_until(&reader->rest, '\n', &text) ||
        !base_str_eq(text, BASE_STR(MAGIC))) {
        return wrong(reader, MAGIC, err);
    }
    if (!read_text(reader, "job", vote->job, sizeof(vote->job)) ||
        store_job_check(vote->job, NULL) != BASE_OK) {
        return wrong(reader, "job", err);
    }
    BASE_TRY(read_number(reader, "number", &vote->number, err));
    if (store_vote_check_name(vote->job, vote->number, NULL) != BASE_OK) {
        return wrong(reader, "number", err);
    }
    BASE_TRY(read_number(reader, "generation", &vote->generation, err));
    if (!read_text(reader, "origin", vote->origin, sizeof(vote->origin)) ||
        !is_origin(vote->origin)) {
        return wrong(reader, "origin", err);
    }
    vote->step = UINT64_MAX;
    if (!read_line(reader, "step", &text) ||
        (!base_str_eq(text, BASE_STR(UNKNOWN)) &&
         (!parse_number(text, &vote->step) || vote->step == UINT64_MAX))) {
        return wrong(reader, "step", err);
    }
    BASE_TRY(read_number(reader, "parent", &vote->parent, err));
    if (vote->parent >= vote->number) {
        return wrong(reader, "parent", err);
    }
    if (!read_line(reader, "manifest", &text) ||
        !parse_digest(text, &vote->manifest)) {
        return wrong(reader, "manifest", err);
    }
    return BASE_OK;
}

/* BLOB INODE BYTES SECONDS NANOSECONDS */
static bool parse_adopted(struct base_str line, struct store_vote_adopted *ret)
{
    struct base_str part[4];
    uint64_t ns;

    for (unsigned i = 0; i < 4; i++) {
        if (!take_until(&line, ' ', &part[i])) {
            return false;
        }
    }
    if (!store_blob_name_parse(part[0], &ret->blob) ||
        !parse_number(part[1], &ret->ino) ||
        !parse_number(part[2], &ret->n_bytes) ||
        !parse_number(part[3], &ret->mtime_s) || !parse_number(line, &ns) ||
        ns >= 1000000000) {
        return false;
    }
    ret->mtime_ns = (uint32_t)ns;
    return true;
}

static enum base_code read_adopted(struct reader *reader,
                                   struct store_vote_file *file,
                                   struct base_err *err)
{
    uint64_t n;

    BASE_TRY(read_number(reader, "adopted", &n, err));
    for (uint64_t i = 0; i < n; i++) { /* ends with the text, at the latest */
        struct store_vote_adopted item;
        struct base_str line;

        reader->line++;
        if (!take_until(&reader->rest, '\n', &line) ||
            !parse_adopted(line, &item)) {
            return wrong(reader, "an adopted file", err);
        }
        if (!base_vec_push(&file->adopted, item)) {
            return base_fail(err, BASE_NO_MEM, "%s: cannot read it",
                             reader->origin);
        }
    }
    if (reader->rest.len > 0) {
        reader->line++;
        return wrong(reader, "one too many", err);
    }
    return BASE_OK;
}

enum base_code store_vote_parse(struct base_str text,
                                const char *origin,
                                struct store_vote_file *ret,
                                struct base_err *err)
{
    struct reader reader = {.rest = text, .origin = origin};

    BASE_TRY(read_head(&reader, &ret->vote, err));
    return read_adopted(&reader, ret, err);
}
