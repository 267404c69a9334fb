/* Everything that is kept is copied into an arena, so nothing of the JSON tree
 * survives. */
#include "ptc/coords.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ptc/json.h"

/* Numbers become words, so the arena is larger than the text at most by this
 * factor ("0," is two bytes, a range of two numbers sixteen). */
enum { ARENA_FACTOR = 24, ARENA_SLACK = 1 << 16 };

struct reader {
    const char *origin;
    struct base_arena *arena;
    struct base_err *err;
    struct base_str tensor; /* being read; for errors */
};

static enum base_code bad(const struct reader *r, const char *what)
{
    if (r->tensor.ptr == NULL) {
        return base_fail(r->err, BASE_BAD_INPUT, "%s: metadata `retile`: %s",
                         r->origin, what);
    }
    return base_fail(r->err, BASE_BAD_INPUT,
                     "%s: metadata `retile`: tensor %.*s: %s", r->origin,
                     BASE_STR_FMT(r->tensor), what);
}

static enum base_code no_mem(const struct reader *r)
{
    return base_fail(r->err, BASE_NO_MEM, "%s: no memory for its metadata",
                     r->origin);
}

void ptc_coords_free(struct ptc_coords *coords)
{
    if (coords != NULL) {
        base_arena_free(coords->arena);
        free(coords);
    }
}

static bool key_is(const char *key, size_t len, const char *word)
{
    return strlen(word) == len && memcmp(key, word, len) == 0;
}

static bool to_u64(const json_t *json, uint64_t *ret)
{
    if (!json_is_integer(json) || json_integer_value(json) < 0) {
        return false;
    }
    *ret = (uint64_t)json_integer_value(json);
    return true;
}

static enum base_code str_copy(const struct reader *r,
                               const char *ptr,
                               size_t len,
                               struct base_str *ret)
{
    *ret = base_arena_str(r->arena, (struct base_str){ptr, len});
    return ret->ptr == NULL ? no_mem(r) : BASE_OK;
}

/* An array of at most PTC_MAX_DIMS numbers. */
static enum base_code read_numbers(const struct reader *r,
                                   const json_t *json,
                                   const char *what,
                                   uint32_t *ret_n,
                                   const uint64_t **ret)
{
    size_t n = json_array_size(json);
    uint64_t *numbers;

    if (!json_is_array(json) || n > PTC_MAX_DIMS) {
        return bad(r, what);
    }
    numbers = base_arena_alloc(r->arena, n + 1, sizeof(*numbers));
    if (numbers == NULL) {
        return no_mem(r);
    }
    for (size_t i = 0; i < n; i++) {
        if (!to_u64(json_array_get(json, i), &numbers[i])) {
            return bad(r, what);
        }
    }
    *ret_n = (uint32_t)n;
    *ret = numbers;
    return BASE_OK;
}

/* [[b, e], ...] of one dimension, ascending, within its length. */
static enum base_code read_dim_ranges(const struct reader *r,
                                      const json_t *json,
                                      uint64_t length,
                                      uint32_t *ret_n,
                                      const struct ptc_range **ret)
{
    const char *what = "`ranges` is not a list of [begin, end], ascending and "
                       "within `shape`, for each dimension";
    size_t n = json_array_size(json);
    struct ptc_range *ranges;
    uint64_t past = 0;

    if (!json_is_array(json) || n > UINT32_MAX) {
        return bad(r, what);
    }
    ranges = base_arena_alloc(r->arena, n + 1, sizeof(*ranges));
    if (ranges == NULL) {
        return no_mem(r);
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *pair = json_array_get(json, i);

        if (json_array_size(pair) != 2 ||
            !to_u64(json_array_get(pair, 0), &ranges[i].begin) ||
            !to_u64(json_array_get(pair, 1), &ranges[i].end) ||
            ranges[i].begin < past || ranges[i].end < ranges[i].begin ||
            ranges[i].end > length) {
            return bad(r, what);
        }
        past = ranges[i].end;
    }
    *ret_n = (uint32_t)n;
    *ret = ranges;
    return BASE_OK;
}

/* `shape` with either `offset` or `ranges`; each may be NULL (absent). */
static enum base_code read_shard(const struct reader *r,
                                 const json_t *shape,
                                 const json_t *offset,
                                 const json_t *ranges,
                                 struct ptc_coord_shard *ret)
{
    uint32_t n = 0;
    uint32_t *counts;
    const struct ptc_range **lists;

    if (shape == NULL || (offset == NULL) == (ranges == NULL)) {
        return bad(r, "wants `shape` and one of `offset` and `ranges`");
    }
    BASE_TRY(read_numbers(r, shape, "`shape` is not a list of sizes",
                          &ret->n_dims, &ret->shape));
    if (offset != NULL) {
        BASE_TRY(read_numbers(r, offset, "`offset` is not a list of numbers",
                              &n, &ret->offset));
        if (n != ret->n_dims) {
            return bad(r, "`offset` and `shape` differ in length");
        }
        for (uint32_t d = 0; d < n; d++) {
            if (ret->offset[d] > ret->shape[d]) {
                return bad(r, "`offset` lies outside `shape`");
            }
        }
        return BASE_OK;
    }
    if (!json_is_array(ranges) || json_array_size(ranges) != ret->n_dims) {
        return bad(r, "`ranges` and `shape` differ in length");
    }
    counts = base_arena_alloc(r->arena, ret->n_dims + 1, sizeof(*counts));
    lists = base_arena_alloc(r->arena, ret->n_dims + 1, sizeof(*lists));
    if (counts == NULL || lists == NULL) {
        return no_mem(r);
    }
    for (uint32_t d = 0; d < ret->n_dims; d++) {
        BASE_TRY(read_dim_ranges(r, json_array_get(ranges, d), ret->shape[d],
                                 &counts[d], &lists[d]));
    }
    ret->n_ranges = counts;
    ret->ranges = lists;
    return BASE_OK;
}

/* The keys of an object that is a shard, a flat or a member. */
struct fields {
    const json_t *shape, *offset, *ranges, *flat, *members, *name, *at;
};

static enum base_code
read_fields(const struct reader *r, json_t *json, struct fields *ret)
{
    const char *key;
    size_t len;
    json_t *value;

    if (!json_is_object(json)) {
        return bad(r, "is not an object");
    }
    *ret = (struct fields){0};
    json_object_keylen_foreach(json, key, len, value)
    {
        if (key_is(key, len, "shape")) {
            ret->shape = value;
        } else if (key_is(key, len, "offset")) {
            ret->offset = value;
        } else if (key_is(key, len, "ranges")) {
            ret->ranges = value;
        } else if (key_is(key, len, "flat")) {
            ret->flat = value;
        } else if (key_is(key, len, "members")) {
            ret->members = value;
        } else if (key_is(key, len, "name")) {
            ret->name = value;
        } else if (key_is(key, len, "at")) {
            ret->at = value;
        } else {
            return base_fail(r->err, BASE_BAD_INPUT,
                             "%s: metadata `retile`: tensor %.*s: unknown key "
                             "`%.*s`",
                             r->origin, BASE_STR_FMT(r->tensor),
                             (int)(len > 64 ? 64 : len), key);
        }
    }
    return BASE_OK;
}

static enum base_code
read_member(const struct reader *r, json_t *json, struct ptc_coord_member *ret)
{
    struct fields f;

    BASE_TRY(read_fields(r, json, &f));
    if (f.flat != NULL || f.members != NULL || !json_is_string(f.name) ||
        !to_u64(f.at, &ret->at)) {
        return bad(r, "a member wants `name`, `at`, `shape` and `ranges`");
    }
    BASE_TRY(str_copy(r, json_string_value(f.name), json_string_length(f.name),
                      &ret->name));
    return read_shard(r, f.shape, f.offset, f.ranges, &ret->shard);
}

static enum base_code
read_flat(const struct reader *r, const struct fields *f, struct ptc_coord *ret)
{
    size_t n = json_array_size(f->members);
    struct ptc_coord_member *members;
    const uint64_t *flat;
    uint32_t n_flat;

    if (f->shape != NULL || f->offset != NULL || f->ranges != NULL ||
        !json_is_array(f->members) || n > UINT32_MAX) {
        return bad(r, "a flat wants `flat` and `members` and nothing else");
    }
    BASE_TRY(read_numbers(r, f->flat, "`flat` is not [size, begin]", &n_flat,
                          &flat));
    if (n_flat != 2 || flat[1] > flat[0]) {
        return bad(r, "`flat` is not [size, begin]");
    }
    members = base_arena_alloc(r->arena, n + 1, sizeof(*members));
    if (members == NULL) {
        return no_mem(r);
    }
    for (size_t i = 0; i < n; i++) {
        BASE_TRY(read_member(r, json_array_get(f->members, i), &members[i]));
    }
    ret->is_flat = true;
    ret->flat_elems = flat[0];
    ret->flat_begin = flat[1];
    ret->n_members = (uint32_t)n;
    ret->members = members;
    return BASE_OK;
}

static enum base_code
read_coord(const struct reader *r, json_t *json, struct ptc_coord *ret)
{
    struct fields f;

    BASE_TRY(read_fields(r, json, &f));
    if (f.name != NULL || f.at != NULL) {
        return bad(r, "`name` and `at` belong to the members of a flat");
    }
    if (f.flat != NULL || f.members != NULL) {
        return read_flat(r, &f, ret);
    }
    return read_shard(r, f.shape, f.offset, f.ranges, &ret->shard);
}

static int coord_cmp(const void *a, const void *b)
{
    return base_str_cmp(((const struct ptc_coord *)a)->name,
                        ((const struct ptc_coord *)b)->name);
}

static int tie_cmp(const void *a, const void *b)
{
    return base_str_cmp(((const struct ptc_coord_tie *)a)->name,
                        ((const struct ptc_coord_tie *)b)->name);
}

static enum base_code
read_tensors(struct reader *r, json_t *json, struct ptc_coords *coords)
{
    const char *key;
    size_t len;
    json_t *value;
    struct ptc_coord *entry;

    if (!json_is_object(json)) {
        return bad(r, "`tensors` is not an object");
    }
    coords->entries = base_arena_alloc(r->arena, json_object_size(json) + 1,
                                       sizeof(*coords->entries));
    if (coords->entries == NULL) {
        return no_mem(r);
    }
    json_object_keylen_foreach(json, key, len, value)
    {
        entry = &coords->entries[coords->n_entries++];
        BASE_TRY(str_copy(r, key, len, &entry->name));
        r->tensor = entry->name;
        BASE_TRY(read_coord(r, value, entry));
    }
    r->tensor = (struct base_str){0};
    if (coords->n_entries > 0) {
        qsort(coords->entries, coords->n_entries, sizeof(*coords->entries),
              coord_cmp);
    }
    return BASE_OK;
}

static enum base_code
read_ties(const struct reader *r, json_t *json, struct ptc_coords *coords)
{
    const char *key;
    size_t len;
    json_t *value;
    struct ptc_coord_tie *tie;

    if (!json_is_object(json)) {
        return bad(r, "`ties` is not an object");
    }
    coords->ties = base_arena_alloc(r->arena, json_object_size(json) + 1,
                                    sizeof(*coords->ties));
    if (coords->ties == NULL) {
        return no_mem(r);
    }
    json_object_keylen_foreach(json, key, len, value)
    {
        if (!json_is_string(value)) {
            return bad(r, "`ties` holds something that is not a name");
        }
        tie = &coords->ties[coords->n_ties++];
        BASE_TRY(str_copy(r, key, len, &tie->name));
        BASE_TRY(str_copy(r, json_string_value(value),
                          json_string_length(value), &tie->target));
    }
    if (coords->n_ties > 0) {
        qsort(coords->ties, coords->n_ties, sizeof(*coords->ties), tie_cmp);
    }
    return BASE_OK;
}

static enum base_code
read_top(struct reader *r, json_t *json, struct ptc_coords *coords)
{
    json_t *tensors = NULL;
    json_t *ties = NULL;
    json_t *version = NULL;
    const char *key;
    size_t len;
    json_t *value;

    if (!json_is_object(json)) {
        return bad(r, "is not a JSON object");
    }
    json_object_keylen_foreach(json, key, len, value)
    {
        if (key_is(key, len, "version")) {
            version = value;
        } else if (key_is(key, len, "tensors")) {
            tensors = value;
        } else if (key_is(key, len, "ties")) {
            ties = value;
        } else {
            return base_fail(r->err, BASE_BAD_INPUT,
                             "%s: metadata `retile`: unknown key `%.*s`",
                             r->origin, (int)(len > 64 ? 64 : len), key);
        }
    }
    if (!json_is_integer(version) || json_integer_value(version) != 1) {
        return bad(r, "`version` is not 1");
    }
    if (tensors == NULL) {
        return bad(r, "`tensors` is missing");
    }
    BASE_TRY(read_tensors(r, tensors, coords));
    return ties == NULL ? BASE_OK : read_ties(r, ties, coords);
}

/* Parse @text and make empty coords for it. */
static enum base_code coords_begin(struct base_str text,
                                   const char *origin,
                                   json_t **ret_json,
                                   struct ptc_coords **ret,
                                   struct base_err *err)
{
    BASE_AUTO(ptc_coords) coords = NULL;
    enum base_code code;

    if (text.len > PTC_COORDS_MAX_BYTES) {
        return base_fail(err, BASE_LIMIT,
                         "%s: metadata `retile` has %zu bytes, the limit is %u",
                         origin, text.len, PTC_COORDS_MAX_BYTES);
    }
    code = ptc_json_load(text, "metadata `retile`", ret_json, err);
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", origin);
    }
    coords = calloc(1, sizeof(*coords));
    if (coords != NULL) {
        coords->arena =
            base_arena_create(text.len * ARENA_FACTOR + ARENA_SLACK);
    }
    if (coords == NULL || coords->arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: no memory for its metadata",
                         origin);
    }
    *ret = base_steal(&coords);
    return BASE_OK;
}

enum base_code ptc_coords_parse(struct base_str text,
                                const char *origin,
                                struct ptc_coords **ret,
                                struct base_err *err)
{
    BASE_AUTO(ptc_coords) coords = NULL;
    PTC_JSON_AUTO json = NULL;
    struct reader r = {.origin = origin, .err = err};

    BASE_TRY(coords_begin(text, origin, &json, &coords, err));
    r.arena = coords->arena;
    BASE_TRY(read_top(&r, json, coords));
    *ret = base_steal(&coords);
    return BASE_OK;
}

enum base_code ptc_coords_parse_one(struct base_str json_text,
                                    struct base_str name,
                                    struct ptc_coords **ret,
                                    struct base_err *err)
{
    BASE_AUTO(ptc_coords) coords = NULL;
    PTC_JSON_AUTO json = NULL;
    struct reader r = {.origin = "coordinates", .err = err, .tensor = name};

    BASE_TRY(coords_begin(json_text, r.origin, &json, &coords, err));
    r.arena = coords->arena;
    coords->entries = base_arena_alloc(r.arena, 1, sizeof(*coords->entries));
    if (coords->entries == NULL) {
        return no_mem(&r);
    }
    coords->n_entries = 1;
    BASE_TRY(str_copy(&r, name.ptr, name.len, &coords->entries[0].name));
    BASE_TRY(read_coord(&r, json, &coords->entries[0]));
    *ret = base_steal(&coords);
    return BASE_OK;
}

const struct ptc_coord *ptc_coords_find(const struct ptc_coords *coords,
                                        struct base_str name)
{
    struct ptc_coord key = {.name = name};

    if (coords->n_entries == 0) {
        return NULL;
    }
    return bsearch(&key, coords->entries, coords->n_entries,
                   sizeof(*coords->entries), coord_cmp);
}

/* --- comparing ---------------------------------------------------------- */

static void
numbers_text(const char *word, uint32_t n, const uint64_t *numbers, char *text)
{
    size_t room = PTC_COORD_TEXT_BYTES;
    int len = snprintf(text, room, "%s [", word);

    for (uint32_t i = 0; i < n && len > 0 && (size_t)len < room; i++) {
        len += snprintf(text + len, room - (size_t)len, "%s%" PRIu64,
                        i == 0 ? "" : ", ", numbers[i]);
    }
    if (len > 0 && (size_t)len < room) {
        (void)snprintf(text + len, room - (size_t)len, "]");
    }
}

/* The ranges of dimension @d; a lone offset is a range whose end is unknown
 * (the shape in the file tells it, and that is compared elsewhere). */
static uint32_t shard_n_ranges(const struct ptc_coord_shard *s, uint32_t d)
{
    return s->offset != NULL ? 1 : s->n_ranges[d];
}

static void ranges_text(const struct ptc_coord_shard *s, uint32_t d, char *text)
{
    size_t room = PTC_COORD_TEXT_BYTES;
    int len;

    if (s->offset != NULL) {
        (void)snprintf(text, room, "dimension %u from %" PRIu64, d,
                       s->offset[d]);
        return;
    }
    len = snprintf(text, room, "dimension %u is", d);
    for (uint32_t i = 0; i < s->n_ranges[d] && len > 0 && (size_t)len < room;
         i++) {
        len += snprintf(text + len, room - (size_t)len, " %" PRIu64 ":%" PRIu64,
                        s->ranges[d][i].begin, s->ranges[d][i].end);
    }
    if (s->n_ranges[d] == 0) {
        (void)snprintf(text, room, "dimension %u is empty", d);
    }
}

static bool dim_same(const struct ptc_coord_shard *a,
                     const struct ptc_coord_shard *b,
                     uint32_t d)
{
    uint32_t n = shard_n_ranges(a, d);

    if (shard_n_ranges(b, d) != n) {
        return false;
    }
    if (a->offset != NULL && b->offset != NULL) {
        return a->offset[d] == b->offset[d];
    }
    if (a->offset != NULL) {
        return a->offset[d] == b->ranges[d][0].begin;
    }
    if (b->offset != NULL) {
        return b->offset[d] == a->ranges[d][0].begin;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (a->ranges[d][i].begin != b->ranges[d][i].begin ||
            a->ranges[d][i].end != b->ranges[d][i].end) {
            return false;
        }
    }
    return true;
}

static bool shard_same(const struct ptc_coord_shard *a,
                       const struct ptc_coord_shard *b,
                       char *a_text,
                       char *b_text)
{
    bool same = a->n_dims == b->n_dims;

    for (uint32_t d = 0; same && d < a->n_dims; d++) {
        same = a->shape[d] == b->shape[d];
    }
    if (!same) {
        numbers_text("global shape", a->n_dims, a->shape, a_text);
        numbers_text("global shape", b->n_dims, b->shape, b_text);
        return false;
    }
    for (uint32_t d = 0; d < a->n_dims; d++) {
        if (!dim_same(a, b, d)) {
            ranges_text(a, d, a_text);
            ranges_text(b, d, b_text);
            return false;
        }
    }
    return true;
}

static void member_text(const struct ptc_coord_member *m, char *text)
{
    (void)snprintf(text, PTC_COORD_TEXT_BYTES, "member %.*s at %" PRIu64,
                   BASE_STR_FMT(m->name), m->at);
}

static bool flat_same(const struct ptc_coord *a,
                      const struct ptc_coord *b,
                      char *a_text,
                      char *b_text)
{
    uint64_t a_flat[2] = {a->flat_elems, a->flat_begin};
    uint64_t b_flat[2] = {b->flat_elems, b->flat_begin};

    if (memcmp(a_flat, b_flat, sizeof(a_flat)) != 0) {
        numbers_text("flat", 2, a_flat, a_text);
        numbers_text("flat", 2, b_flat, b_text);
        return false;
    }
    for (uint32_t i = 0; i < a->n_members && i < b->n_members; i++) {
        const struct ptc_coord_member *x = &a->members[i];
        const struct ptc_coord_member *y = &b->members[i];

        if (!base_str_eq(x->name, y->name) || x->at != y->at) {
            member_text(x, a_text);
            member_text(y, b_text);
            return false;
        }
        if (!shard_same(&x->shard, &y->shard, a_text, b_text)) {
            return false;
        }
    }
    if (a->n_members != b->n_members) {
        (void)snprintf(a_text, PTC_COORD_TEXT_BYTES, "%u members",
                       a->n_members);
        (void)snprintf(b_text, PTC_COORD_TEXT_BYTES, "%u members",
                       b->n_members);
        return false;
    }
    return true;
}

bool ptc_coord_same(const struct ptc_coord *a,
                    const struct ptc_coord *b,
                    char *a_text,
                    char *b_text)
{
    if (a->is_flat != b->is_flat) {
        (void)snprintf(a_text, PTC_COORD_TEXT_BYTES, "%s",
                       a->is_flat ? "part of a flat" : "a tensor of its own");
        (void)snprintf(b_text, PTC_COORD_TEXT_BYTES, "%s",
                       b->is_flat ? "part of a flat" : "a tensor of its own");
        return false;
    }
    return a->is_flat ? flat_same(a, b, a_text, b_text)
                      : shard_same(&a->shard, &b->shard, a_text, b_text);
}
