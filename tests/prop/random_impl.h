/* Inside the random problems: what drawing a spec works with, and its rules. */
#ifndef TESTS_PROP_RANDOM_IMPL_H
#define TESTS_PROP_RANDOM_IMPL_H

#include "tests/prop/random_layout.h"

enum {
    MAX_KINDS = 8,
    MAX_AXES = 5,
    MAX_RANKS = 24,
    MAX_ELEMS = 120,
};

enum where {
    WHERE_ONCE,
    WHERE_LAYER,
    WHERE_EXPERT,
};

struct kind {
    enum where where;
    enum ptc_dtype dtype;
    bool is_extra; /* group `extra`, not `model` */
    bool is_sub_byte;
    uint32_t n_dims;
    uint64_t shape[4];
};

struct axis {
    const char *name;
    uint32_t size;
};

struct mesh {
    uint32_t n_axes;
    struct axis axes[MAX_AXES];
};

/* What drawing one spec works with. */
struct spec_draw {
    uint64_t *random;
    struct base_buf *out;
    const struct kind *kinds;
    uint32_t n_kinds;
    uint32_t n_layers;
    uint32_t n_experts;
    bool has_states;
    struct mesh meshes[2];
    uint32_t n_meshes;
    const char *stage_axis; /* NULL: no stages */
    bool has_counts;
    const char *expert_axis;
    bool has_expert_counts;
    uint32_t n_over; /* flats: axes, of mesh 0 */
    const char *over[2];
};

/* True once in @n times. */
bool random_one_in(uint64_t *state, uint64_t n);
/* The name of kind @k in layer @layer and of expert @expert. */
void random_kind_name(const struct kind *kind,
                      uint32_t k,
                      uint32_t layer,
                      uint32_t expert,
                      char *text,
                      size_t n);
void random_shuffle(uint64_t *random, const char **names, uint32_t n);
/* NULL when the mesh lacks it (or @name is NULL). */
const struct axis *random_mesh_axis(const struct mesh *mesh, const char *name);
/* Write `rules`: one per kind, and some for states and ties. */
void random_write_rules(struct spec_draw *draw);

#endif
