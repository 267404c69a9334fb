#include "tests/unit/ptc/bind.h"

#include "tests/unit/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"

/* Text that grows in a buffer of BIND_TEXT_BYTES. */
struct out {
    const struct ptc_layout *layout;
    ptc_rank rank;
    char *text;
    size_t n;
    struct base_str wanted; /* a shown tensor */
    struct ptc_shown found;
    bool is_found;
};

static void add(struct out *out, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static void add(struct out *out, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    out->n += (size_t)vsnprintf(out->text + out->n, BIND_TEXT_BYTES - out->n,
                                fmt, args);
    va_end(args);
    assert_true(out->n < BIND_TEXT_BYTES);
}

static void table_line(struct ptc_table_builder *builder, char *line)
{
    char *save = NULL;
    char *name = strtok_r(line, " ", &save);
    char *second = strtok_r(NULL, " ", &save);
    char *third = strtok_r(NULL, " ", &save);
    char *group = strtok_r(NULL, " ", &save);
    uint64_t shape[PTC_MAX_DIMS];
    enum ptc_dtype dtype;
    struct base_err err;
    uint32_t n_dims = 0;

    if (strcmp(second, "=") == 0) {
        assert_ok(ptc_table_add_tie(builder, base_str_of(name),
                                    base_str_of(third), &err),
                  &err);
        return;
    }
    assert_true(ptc_dtype_parse(base_str_of(second), &dtype));
    for (char *size = strtok_r(third, "x", &save); size != NULL;
         size = strtok_r(NULL, "x", &save)) {
        if (strcmp(size, "-") != 0) {
            assert_true(base_parse_u64(base_str_of(size), &shape[n_dims++]));
        }
    }
    if (group == NULL) {
        group = strncmp(name, "optim.", 6) == 0 ? "optim" : "model";
    }
    assert_ok(ptc_table_add(builder, base_str_of(name), base_str_of(group),
                            dtype, n_dims, shape, &err),
              &err);
}

struct ptc_table *bind_table(const char *lines)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_table *table = NULL;
    char *copy = strdup(lines);
    char *save = NULL;
    struct base_err err;

    assert_non_null(builder);
    assert_non_null(copy);
    for (char *line = strtok_r(copy, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        table_line(builder, line);
    }
    free(copy);
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    return table;
}

struct ptc_layout *bind_layout(const char *yaml, const struct ptc_table *table)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct ptc_layout *layout = NULL;
    struct base_err err;

    assert_ok(ptc_spec_parse(base_str_of(yaml), "test", &spec, &err), &err);
    assert_ok(ptc_layout_create(&spec, table, &layout, &err), &err);
    assert_null(spec); /* taken */
    return layout;
}

enum base_code bind_error(const char *yaml,
                          const struct ptc_table *table,
                          struct base_err *ret)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct ptc_layout *layout = NULL;
    enum base_code rc;

    ret->text[0] = '\0';
    assert_ok(ptc_spec_parse(base_str_of(yaml), "test", &spec, ret), ret);
    rc = ptc_layout_create(&spec, table, &layout, ret);
    if (rc != BASE_OK) {
        assert_non_null(spec); /* taken on success only */
        assert_null(layout);
    }
    ptc_layout_free(layout);
    return rc;
}

static uint32_t tensor_idx(const struct ptc_layout *layout, const char *name)
{
    uint32_t idx = ptc_table_find(ptc_layout_table(layout), base_str_of(name));

    assert_int_not_equal(idx, PTC_NONE);
    return idx;
}

static enum base_code
add_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    struct out *out = ctx;
    char text[PTC_BOX_TEXT_BYTES];

    (void)err;
    add(out, "%s%s@%" PRIu64, out->n == 0 ? "" : " ",
        ptc_box_format(&part->box, text), part->offset);
    return BASE_OK;
}

const char *bind_parts(const struct ptc_layout *layout,
                       const char *tensor,
                       ptc_rank rank,
                       char *text)
{
    struct out out = {.text = text};
    struct base_err err;

    text[0] = '\0';
    assert_ok(ptc_layout_parts(layout, tensor_idx(layout, tensor), rank,
                               add_part, &out, &err),
              &err);
    return text;
}

static enum base_code
add_cell(void *ctx, const struct ptc_cell *cell, struct base_err *err)
{
    struct out *out = ctx;
    char text[PTC_BOX_TEXT_BYTES];

    (void)err;
    add(out, "%s%s:", out->n == 0 ? "" : " ", ptc_box_format(&cell->box, text));
    for (uint64_t k = 0; k < cell->n_holders; k++) {
        add(out, "%s%" PRIu32, k == 0 ? "" : ",",
            ptc_cell_holder(out->layout, cell, k));
    }
    return BASE_OK;
}

const char *
bind_cells(const struct ptc_layout *layout, const char *tensor, char *text)
{
    uint32_t idx = tensor_idx(layout, tensor);
    const struct ptc_tensor *t =
        ptc_table_tensor(ptc_layout_table(layout), idx);
    struct ptc_box box = ptc_box_whole(t->n_dims, t->shape);
    struct out out = {.layout = layout, .text = text};
    struct base_err err;

    text[0] = '\0';
    assert_ok(ptc_layout_find(layout, idx, &box, add_cell, &out, &err), &err);
    return text;
}

static enum base_code
add_shown(void *ctx, const struct ptc_shown *shown, struct base_err *err)
{
    struct out *out = ctx;

    (void)err;
    if (base_str_eq(shown->name, out->wanted)) {
        out->found = *shown;
        out->is_found = true;
    }
    add(out, "%s%.*s[", out->n == 0 ? "" : " ", BASE_STR_FMT(shown->name));
    for (uint32_t d = 0; d < shown->n_dims; d++) {
        add(out, "%s%" PRIu64, d == 0 ? "" : ",", shown->shape[d]);
    }
    add(out, "]");
    return BASE_OK;
}

const char *bind_shown(const struct ptc_layout *layout,
                       ptc_rank rank,
                       const char *group,
                       char *text)
{
    struct out out = {.text = text};
    struct base_err err;

    text[0] = '\0';
    assert_ok(ptc_layout_shown(layout, rank, base_str_of(group), add_shown,
                               &out, &err),
              &err);
    return text;
}

static struct ptc_shown
find_shown(const struct ptc_layout *layout, ptc_rank rank, const char *name)
{
    char text[BIND_TEXT_BYTES];
    struct out out = {.text = text, .wanted = base_str_of(name)};
    struct base_err err;

    assert_ok(
        ptc_layout_shown(layout, rank, base_str_of(""), add_shown, &out, &err),
        &err);
    assert_true(out.is_found);
    return out.found;
}

static enum base_code add_shown_part(void *ctx,
                                     uint32_t tensor,
                                     const struct ptc_part *part,
                                     struct base_err *err)
{
    struct out *out = ctx;
    char text[PTC_BOX_TEXT_BYTES];

    (void)err;
    add(out, "%s%.*s%s@%" PRIu64, out->n == 0 ? "" : " ",
        BASE_STR_FMT(
            ptc_table_tensor(ptc_layout_table(out->layout), tensor)->name),
        ptc_box_format(&part->box, text), part->offset);
    return BASE_OK;
}

const char *bind_shown_parts(const struct ptc_layout *layout,
                             ptc_rank rank,
                             const char *name,
                             char *text)
{
    struct ptc_shown shown = find_shown(layout, rank, name);
    struct out out = {.layout = layout, .text = text};
    struct base_err err;

    text[0] = '\0';
    assert_ok(ptc_layout_shown_parts(layout, rank, &shown, add_shown_part, &out,
                                     &err),
              &err);
    return text;
}

const char *bind_json(const struct ptc_layout *layout,
                      ptc_rank rank,
                      const char *name,
                      char *text)
{
    struct ptc_shown shown = find_shown(layout, rank, name);
    BASE_AUTO_BUF buf = {0};
    struct base_err err;

    base_buf_init(&buf, BIND_TEXT_BYTES - 1);
    assert_ok(ptc_layout_shown_json(layout, rank, &shown, &buf, &err), &err);
    memcpy(text, buf.ptr, buf.len + 1);
    return text;
}
