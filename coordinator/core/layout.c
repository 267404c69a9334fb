/* Texts of layouts: specs, short forms, sizes of axes. */
#include <stdio.h>

#include "base/num.h"
#include "coordinator/core/impl.h"
#include "ptc/preset.h"
#include "ptc/spec.h"

void layout_done(struct coord_layout *layout)
{
    base_buf_done(&layout->text);
}

/* One "axis=size"; the rest after its comma, .ptr NULL past the last. */
static bool
next_size(struct base_str *rest, struct base_str *ret_axis, uint64_t *ret_size)
{
    const char *comma = memchr(rest->ptr, ',', rest->len);
    size_t n = comma != NULL ? (size_t)(comma - rest->ptr) : rest->len;
    const char *equals = memchr(rest->ptr, '=', n);
    size_t n_axis = equals != NULL ? (size_t)(equals - rest->ptr) : 0;
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    if (n_axis == 0 || n_axis > 32 ||
        !base_parse_u64((struct base_str){equals + 1, n - n_axis - 1},
                        ret_size) ||
        *ret_size == 0 || *ret_size > PTC_MAX_RANKS) {
        return false;
    }
    for (size_t i = 0; i < n_axis; i++) {
        const char *at = strchr(letters, rest->ptr[i]);

        if (at == NULL || rest->ptr[i] == '\0' ||
            (i == 0 && at - letters >= 53)) {
            return false;
        }
    }
    *ret_axis = (struct base_str){rest->ptr, n_axis};
    *rest = comma != NULL ? (struct base_str){comma + 1, rest->len - n - 1}
                          : (struct base_str){NULL, 0};
    return true;
}

bool layout_is_sizes(const char *text)
{
    struct base_str rest = base_str_of(text);
    struct base_str axis;
    uint64_t size;

    while (rest.ptr != NULL) {
        if (!next_size(&rest, &axis, &size)) {
            return false;
        }
    }
    return true;
}

uint32_t layout_mesh_ranks(const char *mesh)
{
    struct base_str rest = base_str_of(mesh);
    struct base_str axis;
    uint64_t n = 1;
    uint64_t size;

    if (mesh[0] == '\0') {
        return 1; /* no axes: one rank */
    }
    while (rest.ptr != NULL) {
        if (!next_size(&rest, &axis, &size)) {
            return 0;
        }
        n *= size;
        if (n > PTC_MAX_RANKS) {
            return 0;
        }
    }
    return (uint32_t)n;
}

static enum base_code write_out(const struct ptc_spec *spec,
                                struct coord_layout *ret,
                                struct base_err *err)
{
    const struct ptc_mesh *mesh = &spec->meshes[0];
    size_t n = 0;

    base_buf_init(&ret->text, PTC_SPEC_MAX_BYTES);
    BASE_TRY(ptc_spec_format(spec, &ret->text, err));
    for (uint32_t i = 0; i < mesh->n_axes; i++) {
        int wrote =
            snprintf(ret->mesh + n, sizeof(ret->mesh) - n, "%s%.*s=%" PRIu32,
                     i > 0 ? "," : "", BASE_STR_FMT(mesh->axes[i].name),
                     mesh->axes[i].size);

        if (wrote < 0 || (size_t)wrote >= sizeof(ret->mesh) - n) {
            return base_fail(err, BASE_LIMIT, "the mesh is too long");
        }
        n += (size_t)wrote;
    }
    ret->mesh[n] = '\0';
    ret->n_ranks = mesh->n_ranks;
    return BASE_OK;
}

enum base_code
layout_parse(const char *text, struct coord_layout *ret, struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;

    if (ptc_preset_is_short_form(base_str_of(text))) {
        BASE_TRY(ptc_preset_expand(base_str_of(text), (struct base_str){"", 0},
                                   "", NULL, &spec, err));
    } else {
        BASE_TRY(ptc_spec_parse(base_str_of(text), "layout", &spec, err));
    }
    return write_out(spec, ret, err);
}

/* Sizes are set in every mesh that has the axis. */
static enum base_code resize(struct ptc_spec *spec,
                             struct base_str axis,
                             uint64_t size,
                             struct base_err *err)
{
    bool is_there = false;

    for (uint32_t i = 0; i < spec->n_meshes; i++) {
        uint32_t at = ptc_mesh_find(&spec->meshes[i], axis);

        if (at != UINT32_MAX) {
            spec->meshes[i].axes[at].size = (uint32_t)size;
            is_there = true;
        }
    }
    if (!is_there) {
        return base_fail(err, BASE_BAD_ARG, "the layout has no axis %.*s",
                         BASE_STR_FMT(axis));
    }
    return BASE_OK;
}

enum base_code layout_resize(const char *layout,
                             const char *sizes,
                             struct coord_layout *ret,
                             struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct base_str rest = base_str_of(sizes);
    struct base_str axis;
    uint64_t size;
    AUTO_LAYOUT changed = {0};

    BASE_TRY(ptc_spec_parse(base_str_of(layout), "layout", &spec, err));
    while (rest.ptr != NULL) {
        if (!next_size(&rest, &axis, &size)) {
            return base_fail(err, BASE_BAD_ARG, "%s: no sizes of axes", sizes);
        }
        BASE_TRY(resize(spec, axis, size, err));
    }
    BASE_TRY(write_out(spec, &changed, err));
    /* What a size contradicts (products of meshes, counts) is found by this. */
    return layout_parse(changed.text.ptr, ret, err);
}
