/* Random rules: each takes axes of its mesh from a shuffled list, so that none
 * is used twice, and cuts that fit the kind it is for. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "tests/prop/random_impl.h"

/* The glob that names of kind @k match, and no others. */
static void kind_glob(uint32_t k, uint64_t *random, char *text, size_t n)
{
    switch (random_below(random, 3)) {
    case 0:
        (void)snprintf(text, n, "*.k%" PRIu32 ".w", k);
        return;
    case 1:
        (void)snprintf(text, n, "*k%" PRIu32 ".?", k);
        return;
    default:
        (void)snprintf(text, n, "[!h]*.k%" PRIu32 ".[vw]", k);
        return;
    }
}

/* Do @n units, split by axes of these sizes in turn, repeat evenly? */
static bool units_fit(uint64_t n, const uint32_t *sizes, uint32_t n_sizes)
{
    uint64_t chunk;

    if (n_sizes == 0 || n == 0) {
        return true;
    }
    if (sizes[0] > n) {
        return sizes[0] % n == 0 && units_fit(1, sizes + 1, n_sizes - 1);
    }
    chunk = base_ceil_div(n, sizes[0]);
    if (!units_fit(chunk, sizes + 1, n_sizes - 1)) {
        return false;
    }
    return n % chunk == 0 || units_fit(n % chunk, sizes + 1, n_sizes - 1);
}

/* How a rule cuts one dimension, beyond its axes. */
struct cutting {
    uint64_t unit; /* 1: none */
    uint32_t n_segments;
    uint64_t segments[3];
    bool has_cuts;
};

static void draw_cutting(uint64_t *random,
                         uint64_t length,
                         const uint32_t *sizes,
                         uint32_t n_sizes,
                         bool is_aligned,
                         struct cutting *ret)
{
    uint64_t unit = is_aligned ? 4 : 1 + random_below(random, 3);
    uint64_t left;

    *ret = (struct cutting){.unit = 1};
    if (n_sizes == 1 && !is_aligned && random_one_in(random, 4)) {
        ret->has_cuts = true;
        return;
    }
    if (length % unit != 0 || (!is_aligned && random_one_in(random, 2))) {
        unit = 1;
    }
    left = length / unit;
    if (left >= 2 && random_one_in(random, 3)) {
        ret->segments[0] = 1 + random_below(random, left - 1);
        ret->segments[1] = left - ret->segments[0];
        ret->n_segments = 2;
        if (ret->segments[1] > 1 && random_one_in(random, 2)) {
            ret->segments[2] = 1;
            ret->segments[1]--;
            ret->n_segments = 3;
        }
        for (uint32_t i = 0; unit > 1 && i < ret->n_segments; i++) {
            if (!units_fit(ret->segments[i], sizes, n_sizes)) {
                ret->n_segments = 0;
                unit = 1;
            }
        }
        for (uint32_t i = 0; i < ret->n_segments; i++) {
            ret->segments[i] *= unit;
        }
    } else if (unit > 1 && !units_fit(left, sizes, n_sizes)) {
        unit = 1;
    }
    ret->unit = unit;
}

static int u64_cmp(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return (*x > *y) - (*x < *y);
}

/* `{DIM: value}` entries of one key, collected while dims are drawn. */
struct extras {
    char unit[256];
    char segments[256];
    char cuts[256];
};

static void extra_add(char *text, uint32_t dim, const char *value)
{
    size_t n = strlen(text);

    (void)snprintf(text + n, 256 - n, "%s%" PRIu32 ": %s", n == 0 ? "" : ", ",
                   dim, value);
}

/* Write what @cutting says of dimension @dim into @extras. */
static void extras_fill(uint64_t *random,
                        const struct cutting *cutting,
                        uint32_t dim,
                        uint64_t length,
                        uint32_t n_parts,
                        struct extras *extras)
{
    uint64_t points[MAX_RANKS];
    char text[128] = "[";
    size_t n = 1;

    if (cutting->unit > 1) {
        (void)snprintf(text, sizeof(text), "%" PRIu64, cutting->unit);
        extra_add(extras->unit, dim, text);
        text[0] = '[';
    }
    for (uint32_t i = 0; i < cutting->n_segments; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%" PRIu64,
                              i == 0 ? "" : ", ", cutting->segments[i]);
    }
    if (cutting->n_segments > 0) {
        (void)snprintf(text + n, sizeof(text) - n, "]");
        extra_add(extras->segments, dim, text);
    }
    if (!cutting->has_cuts) {
        return;
    }
    for (uint32_t i = 0; i + 1 < n_parts; i++) {
        points[i] = random_below(random, length + 1);
    }
    qsort(points, n_parts - 1, sizeof(points[0]), u64_cmp);
    for (uint32_t i = 0; i + 1 < n_parts; i++) {
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%" PRIu64,
                              i == 0 ? "" : ", ", points[i]);
    }
    (void)snprintf(text + n, sizeof(text) - n, "]");
    extra_add(extras->cuts, dim, text);
}

/* Write `dims` and what goes with it for @kind, from the axes left in
 * @names. */
static void write_dims(struct spec_draw *draw,
                       const struct mesh *mesh,
                       const struct kind *kind,
                       const char **names,
                       uint32_t n_names)
{
    struct extras extras = {"", "", ""};
    uint64_t *random = draw->random;

    if (kind->n_dims == 0 || random_one_in(random, 6)) {
        return;
    }
    (void)base_buf_addf(draw->out, ", dims: [");
    for (uint32_t d = 0; d < kind->n_dims; d++) {
        uint32_t n = (uint32_t)random_below(random, 4);
        bool is_last = d + 1 == kind->n_dims;
        uint32_t sizes[3];
        uint32_t n_parts = 1;
        struct cutting cutting;
        bool is_plain;

        n = n == 3 ? 0 : n;
        n = n > n_names ? n_names : n;
        (void)base_buf_addf(draw->out, "%s", d == 0 ? "" : ", ");
        for (uint32_t i = 0; i < n; i++) {
            sizes[i] = random_mesh_axis(mesh, names[n_names - 1 - i])->size;
            n_parts *= sizes[i];
        }
        if (kind->is_sub_byte && is_last &&
            !units_fit(kind->shape[d] / 4, sizes, n)) {
            n = 0;
        }
        if (n == 0) {
            (void)base_buf_addf(draw->out, "~");
            continue;
        }
        is_plain = n == 1 && random_one_in(random, 2);
        (void)base_buf_addf(draw->out, "%s%s", is_plain ? "" : "[",
                            names[n_names - 1]);
        for (uint32_t i = 1; i < n; i++) {
            (void)base_buf_addf(draw->out, ", %s", names[n_names - 1 - i]);
        }
        (void)base_buf_addf(draw->out, "%s", is_plain ? "" : "]");
        n_names -= n;
        draw_cutting(random, kind->shape[d], sizes, n,
                     kind->is_sub_byte && is_last, &cutting);
        if (kind->is_sub_byte && is_last && cutting.unit == 1) {
            /* segments that do not fit: units of the whole do */
            cutting = (struct cutting){.unit = 4};
        }
        extras_fill(random, &cutting, d, kind->shape[d], n_parts, &extras);
    }
    (void)base_buf_addf(draw->out, "]");
    if (extras.unit[0] != '\0') {
        (void)base_buf_addf(draw->out, ", unit: {%s}", extras.unit);
    }
    if (extras.segments[0] != '\0') {
        (void)base_buf_addf(draw->out, ", segments: {%s}", extras.segments);
    }
    if (extras.cuts[0] != '\0') {
        (void)base_buf_addf(draw->out, ", cuts: {%s}", extras.cuts);
    }
}

/* Take @name out of @names; false when it is not there. */
static bool take(const char **names, uint32_t *n_names, const char *name)
{
    for (uint32_t i = 0; name != NULL && i < *n_names; i++) {
        if (strcmp(names[i], name) == 0) {
            names[i] = names[--*n_names];
            return true;
        }
    }
    return false;
}

/* Write `stage` for @kind, if its axis is free. */
static void write_stage(struct spec_draw *draw,
                        uint32_t m,
                        const struct kind *kind,
                        const char **names,
                        uint32_t *n_names)
{
    const struct mesh *mesh = &draw->meshes[m];
    uint64_t *random = draw->random;
    const struct axis *axis = random_mesh_axis(mesh, draw->stage_axis);
    bool can_layer = kind->where != WHERE_ONCE;

    /* counts fit the axis of mesh 0 only */
    if (axis == NULL || random_one_in(random, 4) ||
        (m > 0 && draw->has_counts) ||
        !take(names, n_names, draw->stage_axis)) {
        return;
    }
    if (can_layer && !random_one_in(random, 6)) {
        (void)base_buf_addf(draw->out, ", stage: layer");
        return;
    }
    switch (random_below(random, 4)) {
    case 0:
        (void)base_buf_addf(draw->out, ", stage: first");
        return;
    case 1:
        (void)base_buf_addf(draw->out, ", stage: last");
        return;
    case 2:
        (void)base_buf_addf(draw->out, ", stage: %" PRIu64,
                            random_below(random, axis->size));
        return;
    default:
        (void)base_buf_addf(draw->out, ", stage: [%" PRIu32, axis->size - 1);
        if (axis->size > 1) {
            (void)base_buf_addf(draw->out, ", %" PRIu64,
                                random_below(random, axis->size - 1));
        }
        (void)base_buf_addf(draw->out, "]");
    }
}

/* Write all of a rule for @kind behind its `match`. */
static void write_rule_rest(struct spec_draw *draw, const struct kind *kind)
{
    uint64_t *random = draw->random;
    bool is_flat = draw->n_over > 0 && random_one_in(random, 2);
    uint32_t m =
        !is_flat && draw->n_meshes > 1 ? (uint32_t)random_below(random, 2) : 0;
    const struct mesh *mesh = &draw->meshes[m];
    const char *names[MAX_AXES];
    uint32_t n_names = mesh->n_axes;

    for (uint32_t a = 0; a < mesh->n_axes; a++) {
        names[a] = mesh->axes[a].name;
    }
    random_shuffle(random, names, n_names);
    if (is_flat) {
        (void)base_buf_addf(draw->out, ", flat: f%u_%u", (unsigned)kind->dtype,
                            kind->is_extra ? 1U : 0U);
        for (uint32_t i = 0; i < draw->n_over; i++) {
            (void)take(names, &n_names, draw->over[i]);
        }
    }
    if (m > 0) {
        (void)base_buf_addf(draw->out, ", mesh: other");
    }
    write_stage(draw, m, kind, names, &n_names);
    if (kind->where == WHERE_EXPERT && (m == 0 || !draw->has_expert_counts) &&
        !random_one_in(random, 4) && take(names, &n_names, draw->expert_axis)) {
        (void)base_buf_addf(draw->out, ", expert: true");
    }
    write_dims(draw, mesh, kind, names, n_names);
    (void)base_buf_addf(draw->out, "}\n");
}

/* Rules for optimizer states of their own, before those of the kinds. */
static void write_state_rules(struct spec_draw *draw)
{
    uint32_t k = (uint32_t)random_below(draw->random, draw->n_kinds);
    struct kind kind = draw->kinds[k];

    kind.dtype = PTC_F32;
    kind.is_sub_byte = false;
    kind.is_extra = false;
    if (random_one_in(draw->random, 2)) {
        (void)base_buf_addf(draw->out, "  - {match: 'optim.m.*.k%" PRIu32 ".w'",
                            k);
        write_rule_rest(draw, &kind);
    }
    if (draw->n_over > 0 && random_one_in(draw->random, 2)) {
        (void)base_buf_addf(draw->out,
                            "  - {match: 'optim.v.*', flat: f%u_1}\n",
                            (unsigned)PTC_F32);
    }
}

void random_write_rules(struct spec_draw *draw)
{
    bool is_tied_alike = random_one_in(draw->random, 2);
    struct kind kind = draw->kinds[0];
    char name[64];

    (void)base_buf_addf(draw->out, "rules:\n");
    if (draw->has_states) {
        write_state_rules(draw);
    }
    (void)base_buf_addf(draw->out,
                        "  - {match: 'nothing.*', optional: true}\n");
    for (uint32_t k = 0; k < draw->n_kinds; k++) {
        char glob[64];

        kind_glob(k, draw->random, glob, sizeof(glob));
        (void)base_buf_addf(draw->out, "  - {match: '%s'", glob);
        write_rule_rest(draw, &draw->kinds[k]);
    }
    if (is_tied_alike) {
        return; /* head.w takes its target's rule */
    }
    random_kind_name(&kind, 0, 0, 0, name, sizeof(name));
    kind.where = WHERE_ONCE; /* its own name has no number */
    (void)base_buf_addf(draw->out, "  - {match: head.w, tie: %s", name);
    write_rule_rest(draw, &kind);
}
