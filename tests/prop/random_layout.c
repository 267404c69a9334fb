/* Random problems.
 *
 * A table is made of kinds: names with the same shape, dtype and group, one
 * per layer, one per layer and expert, or a single one.  A spec then draws
 * meshes, flats and one rule per kind; what a rule uses is drawn so that it
 * fits (axes once, units that repeat evenly, flats of one dtype and group). */
#include "tests/prop/random_layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "tests/prop/random_impl.h"

static const char *const axis_names[] = {"tp", "dp", "pp", "ep", "cp"};
static const enum ptc_dtype dtypes[] = {PTC_F32, PTC_BF16, PTC_U8, PTC_I64};

uint64_t random_below(uint64_t *state, uint64_t n)
{
    return base_random_next(state) % n;
}

bool random_one_in(uint64_t *state, uint64_t n)
{
    return random_below(state, n) == 0;
}

static uint64_t env_u64(const char *name, bool *ret_is_set)
{
    const char *text = getenv(name);
    uint64_t value = 0;

    *ret_is_set = text != NULL && base_parse_u64(base_str_of(text), &value);
    return value;
}

uint64_t random_seed(uint64_t idx)
{
    uint64_t state = idx;
    bool is_set;
    uint64_t seed = env_u64("RETILE_SEED", &is_set);

    return is_set ? seed : base_random_next(&state) >> 32;
}

uint64_t random_n_cases(uint64_t preset)
{
    bool is_set;
    uint64_t n;

    (void)env_u64("RETILE_SEED", &is_set);
    if (is_set) {
        return 1;
    }
    n = env_u64("RETILE_CASES", &is_set);
    return is_set ? n : preset;
}

/* The table. */

static void draw_shape(uint64_t *random, struct kind *kind)
{
    uint64_t n_elems = 1;

    kind->n_dims = (uint32_t)random_below(random, 5);
    for (uint32_t d = 0; d < kind->n_dims; d++) {
        uint64_t size = 1 + random_below(random, 12);

        if (random_one_in(random, 40)) {
            size = 0;
        }
        if (n_elems * size > (kind->is_sub_byte ? 12 : MAX_ELEMS)) {
            size = 1;
        }
        kind->shape[d] = size;
        n_elems *= size == 0 ? 1 : size;
    }
    if (kind->is_sub_byte) {
        if (kind->n_dims == 0) {
            kind->n_dims = 1;
        }
        kind->shape[kind->n_dims - 1] = 8 * (1 + random_below(random, 2));
    }
}

static void draw_kind(uint64_t *random, struct kind *kind)
{
    *kind = (struct kind){.where = (enum where)random_below(random, 3)};
    kind->is_sub_byte = random_one_in(random, 8);
    kind->is_extra = random_one_in(random, 4);
    kind->dtype = dtypes[random_below(random, 4)];
    if (kind->is_sub_byte) {
        kind->dtype = random_one_in(random, 2) ? PTC_F4 : PTC_F6_E2M3;
    }
    draw_shape(random, kind);
}

/* The name of kind @k in layer @layer and of expert @expert. */
void random_kind_name(const struct kind *kind,
                      uint32_t k,
                      uint32_t layer,
                      uint32_t expert,
                      char *text,
                      size_t n)
{
    switch (kind->where) {
    case WHERE_ONCE:
        (void)snprintf(text, n, "once.k%" PRIu32 ".w", k);
        return;
    case WHERE_LAYER:
        /* numbers need not be consecutive */
        (void)snprintf(text, n, "layers.%" PRIu32 ".k%" PRIu32 ".w",
                       layer * 3 + 2, k);
        return;
    case WHERE_EXPERT:
        (void)snprintf(text, n,
                       "layers.%" PRIu32 ".experts.%" PRIu32 ".k%" PRIu32 ".w",
                       layer * 3 + 2, expert, k);
        return;
    }
}

static enum base_code add_states(struct ptc_table_builder *builder,
                                 const char *name,
                                 const struct kind *kind)
{
    const uint64_t one[1] = {1};
    char text[128];

    for (unsigned s = 0; s < 2; s++) {
        (void)snprintf(text, sizeof(text), "optim.%s.%s", s == 0 ? "m" : "v",
                       name);
        BASE_TRY(ptc_table_add(builder, base_str_of(text), BASE_STR("optim"),
                               PTC_F32, kind->n_dims, kind->shape, NULL));
    }
    (void)snprintf(text, sizeof(text), "optim.step.%s", name);
    return ptc_table_add(builder, base_str_of(text), BASE_STR("optim"), PTC_I64,
                         kind->where == WHERE_LAYER ? 1 : 0, one, NULL);
}

static enum base_code add_kind(struct ptc_table_builder *builder,
                               const struct spec_draw *draw,
                               uint32_t k)
{
    const struct kind *kind = &draw->kinds[k];
    uint32_t n_layers = kind->where == WHERE_ONCE ? 1 : draw->n_layers;
    uint32_t n_experts = kind->where == WHERE_EXPERT ? draw->n_experts : 1;

    for (uint32_t layer = 0; layer < n_layers; layer++) {
        for (uint32_t expert = 0; expert < n_experts; expert++) {
            char name[64];

            random_kind_name(kind, k, layer, expert, name, sizeof(name));
            BASE_TRY(ptc_table_add(
                builder, base_str_of(name),
                kind->is_extra ? BASE_STR("extra") : BASE_STR("model"),
                kind->dtype, kind->n_dims, kind->shape, NULL));
            if (draw->has_states) {
                BASE_TRY(add_states(builder, name, kind));
            }
        }
    }
    return BASE_OK;
}

static enum base_code make_table(struct spec_draw *draw, struct ptc_table **ret)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    char name[64];

    if (builder == NULL) {
        return BASE_NO_MEM;
    }
    for (uint32_t k = 0; k < draw->n_kinds; k++) {
        BASE_TRY(add_kind(builder, draw, k));
    }
    /* a tie that rules declare, and one that only the table knows */
    random_kind_name(&draw->kinds[0], 0, 0, 0, name, sizeof(name));
    BASE_TRY(ptc_table_add_tie(builder, BASE_STR("head.w"), base_str_of(name),
                               NULL));
    BASE_TRY(ptc_table_add_tie(builder, BASE_STR("hidden.alias"),
                               base_str_of(name), NULL));
    BASE_TRY(ptc_table_add_object(builder, BASE_STR("rng.json"), true, NULL));
    return ptc_table_finish(builder, ret, NULL);
}

/* Meshes. */

void random_shuffle(uint64_t *random, const char **names, uint32_t n)
{
    for (uint32_t i = n; i > 1; i--) {
        uint64_t j = random_below(random, i);
        const char *name = names[i - 1];

        names[i - 1] = names[j];
        names[j] = name;
    }
}

/* Axes whose sizes have the product @n_ranks; 0: any. */
static void draw_mesh(uint64_t *random, uint32_t n_ranks, struct mesh *mesh)
{
    const char *names[5];
    uint32_t left = n_ranks;
    uint32_t n = 1;

    memcpy(names, axis_names, sizeof(names));
    random_shuffle(random, names, 5);
    mesh->n_axes = (uint32_t)random_below(random, MAX_AXES + 1);
    if (n_ranks > 1 && mesh->n_axes == 0) {
        mesh->n_axes = 1;
    }
    for (uint32_t a = 0; a < mesh->n_axes; a++) {
        uint32_t size = 1 + (uint32_t)random_below(random, 4);

        if (random_one_in(random, 6)) {
            size = 5 + (uint32_t)random_below(random, 4);
        }
        if (n_ranks != 0) {
            while (left % size != 0) {
                size--;
            }
            if (a + 1 == mesh->n_axes) {
                size = left;
            }
            left /= size;
        } else if (n * size > MAX_RANKS) {
            size = 1;
        }
        n *= size;
        mesh->axes[a] = (struct axis){names[a], size};
    }
}

static uint32_t mesh_ranks(const struct mesh *mesh)
{
    uint32_t n = 1;

    for (uint32_t a = 0; a < mesh->n_axes; a++) {
        n *= mesh->axes[a].size;
    }
    return n;
}

const struct axis *random_mesh_axis(const struct mesh *mesh, const char *name)
{
    for (uint32_t a = 0; name != NULL && a < mesh->n_axes; a++) {
        if (strcmp(mesh->axes[a].name, name) == 0) {
            return &mesh->axes[a];
        }
    }
    return NULL;
}

static void write_mesh(struct base_buf *out, const struct mesh *mesh)
{
    (void)base_buf_addf(out, "{");
    for (uint32_t a = 0; a < mesh->n_axes; a++) {
        (void)base_buf_addf(out, "%s%s: %" PRIu32, a == 0 ? "" : ", ",
                            mesh->axes[a].name, mesh->axes[a].size);
    }
    (void)base_buf_addf(out, "}");
}

/* `stages` or `experts`: an axis of mesh 0 and how @n_numbers go along it. */
static void write_numbered(struct spec_draw *draw,
                           const char *key,
                           const char *what,
                           const char *pattern,
                           uint32_t n_numbers,
                           const char **ret_axis,
                           bool *ret_has_counts)
{
    const struct mesh *mesh = &draw->meshes[0];
    const struct axis *axis;
    uint32_t interleave = 1 + (uint32_t)random_below(draw->random, 2);

    *ret_axis = NULL;
    if (mesh->n_axes == 0 || random_one_in(draw->random, 3)) {
        return;
    }
    axis = &mesh->axes[random_below(draw->random, mesh->n_axes)];
    *ret_axis = axis->name;
    *ret_has_counts = random_one_in(draw->random, 3);
    (void)base_buf_addf(draw->out, "%s: {axis: %s, %s: '%s'", key, axis->name,
                        what, pattern);
    if (*ret_has_counts) {
        uint32_t n_chunks = axis->size * interleave;

        (void)base_buf_addf(draw->out, ", counts: [");
        for (uint32_t c = 0; c < n_chunks; c++) {
            uint32_t n =
                c + 1 == n_chunks
                    ? n_numbers
                    : (uint32_t)random_below(draw->random, n_numbers + 1);

            (void)base_buf_addf(draw->out, "%s%" PRIu32, c == 0 ? "" : ", ", n);
            n_numbers -= n;
        }
        (void)base_buf_addf(draw->out, "]");
    }
    if (interleave > 1) {
        (void)base_buf_addf(draw->out, ", interleave: %" PRIu32, interleave);
    }
    (void)base_buf_addf(draw->out, "}\n");
}

/* May a tensor have that dtype? */
static bool is_drawn(enum ptc_dtype dtype)
{
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        if (dtypes[i] == dtype) {
            return true;
        }
    }
    return dtype == PTC_F4 || dtype == PTC_F6_E2M3;
}

/* Flats: one per dtype and group, all over the same axes of mesh 0. */
static void write_flats(struct spec_draw *draw)
{
    const struct mesh *mesh = &draw->meshes[0];
    uint64_t *random = draw->random;
    char over[64] = "";

    draw->n_over = 0;
    if (mesh->n_axes == 0 || random_one_in(random, 2)) {
        return;
    }
    draw->over[draw->n_over++] =
        mesh->axes[random_below(random, mesh->n_axes)].name;
    if (random_one_in(random, 3)) {
        const char *other = mesh->axes[random_below(random, mesh->n_axes)].name;

        if (other != draw->over[0]) {
            draw->over[draw->n_over++] = other;
        }
    }
    (void)snprintf(over, sizeof(over), "%s%s%s", draw->over[0],
                   draw->n_over > 1 ? ", " : "",
                   draw->n_over > 1 ? draw->over[1] : "");
    (void)base_buf_addf(draw->out, "flats:\n");
    for (unsigned d = 0; d < PTC_N_DTYPES; d++) {
        for (unsigned extra = 0; extra < 2 && is_drawn((enum ptc_dtype)d);
             extra++) {
            (void)base_buf_addf(draw->out, "  f%u_%u: {over: [%s]", d, extra,
                                over);
            if (random_one_in(random, 3)) {
                (void)base_buf_addf(draw->out,
                                    ", order: ['*k1*', 'layers.2*']");
            }
            if (draw->stage_axis != NULL && random_one_in(random, 3)) {
                (void)base_buf_addf(draw->out, ", bucket: layer");
            } else if (random_one_in(random, 2)) {
                (void)base_buf_addf(draw->out, ", bucket: %" PRIu64,
                                    1 + random_below(random, 200));
            }
            (void)base_buf_addf(draw->out, ", align: %" PRIu64 "}\n",
                                4 * (1 + random_below(random, 3)));
        }
    }
}

static void write_spec(struct spec_draw *draw)
{
    draw->n_meshes = random_one_in(draw->random, 2) ? 2 : 1;
    draw_mesh(draw->random, 0, &draw->meshes[0]);
    (void)base_buf_addf(draw->out, "mesh: ");
    write_mesh(draw->out, &draw->meshes[0]);
    (void)base_buf_addf(draw->out, "\n");
    if (draw->n_meshes > 1) {
        draw_mesh(draw->random, mesh_ranks(&draw->meshes[0]), &draw->meshes[1]);
        (void)base_buf_addf(draw->out, "meshes: {other: ");
        write_mesh(draw->out, &draw->meshes[1]);
        (void)base_buf_addf(draw->out, "}\n");
    }
    write_numbered(draw, "stages", "layer", "layers\\.([0-9]+)\\.",
                   draw->n_layers, &draw->stage_axis, &draw->has_counts);
    write_numbered(draw, "experts", "expert", "experts\\.([0-9]+)\\.",
                   draw->n_experts, &draw->expert_axis,
                   &draw->has_expert_counts);
    write_flats(draw);
    random_write_rules(draw);
    (void)base_buf_addf(draw->out, "objects: {'rng.*': {on_change: copy}}\n");
}

enum base_code random_problem(uint64_t seed, struct random_problem *ret)
{
    uint64_t random = seed;
    struct kind kinds[MAX_KINDS];
    struct spec_draw draw = {.random = &random, .kinds = kinds};

    *ret = (struct random_problem){.seed = seed};
    draw.n_kinds = 1 + (uint32_t)random_below(&random, MAX_KINDS);
    draw.n_layers = 1 + (uint32_t)random_below(&random, 4);
    draw.n_experts = 1 + (uint32_t)random_below(&random, 3);
    draw.has_states = random_one_in(&random, 3);
    for (uint32_t k = 0; k < draw.n_kinds; k++) {
        draw_kind(&random, &kinds[k]);
    }
    BASE_TRY(make_table(&draw, &ret->table));
    for (unsigned i = 0; i < RANDOM_N_SPECS; i++) {
        BASE_AUTO_BUF out = {0};

        base_buf_init(&out, PTC_SPEC_MAX_BYTES);
        draw.out = &out;
        draw.has_counts = draw.has_expert_counts = false;
        write_spec(&draw);
        BASE_TRY(base_buf_check(&out, NULL));
        ret->specs[i] = strdup(out.ptr);
        if (ret->specs[i] == NULL) {
            return BASE_NO_MEM;
        }
    }
    return BASE_OK;
}

void random_problem_done(struct random_problem *problem)
{
    ptc_table_free(problem->table);
    for (unsigned i = 0; i < RANDOM_N_SPECS; i++) {
        free(problem->specs[i]);
    }
    *problem = (struct random_problem){.table = NULL};
}

enum base_code random_problem_bind(const struct random_problem *problem,
                                   unsigned idx,
                                   struct ptc_layout **ret,
                                   struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;

    BASE_TRY(
        ptc_spec_parse(base_str_of(problem->specs[idx]), "random", &spec, err));
    return ptc_layout_create(&spec, problem->table, ret, err);
}
