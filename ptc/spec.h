/* A spec: the text of a layout, as a structure.  The language is described in
 * docs/layouts.md; a spec knows no tensors (ptc/layout.h binds it to a table).
 *
 * Names of axes, meshes and flats are resolved to indices when it is parsed.
 * Everything lives in the spec's arena.  Immutable once made.  Pure. */
#ifndef PTC_SPEC_H
#define PTC_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/str.h"
#include "ptc/box.h"
#include "ptc/mesh.h"

#define PTC_SPEC_MAX_BYTES (1u << 20)
#define PTC_MAX_RULES      10000u
#define PTC_MAX_MESHES     8u
#define PTC_MAX_FLATS      64u

/* How one dimension is cut. */
struct ptc_dim_rule {
    uint32_t n_axes;             /* 0: not cut */
    uint32_t axes[PTC_MAX_AXES]; /* indices into the rule's mesh, in cutting
                                    order: first by axes[0], each part again */
    uint64_t unit;               /* cut at multiples only; 1 when not given */
    uint32_t n_segments;         /* 0: one segment, the whole dimension */
    const uint64_t *segments;    /* lengths; their sum must be the dimension */
    uint32_t n_cuts;             /* 0: torch.chunk's cut points */
    const uint64_t *cuts;        /* else the inner cut points, ascending: one
                                    fewer than the (single) axis has parts */
};

enum ptc_stage_kind {
    PTC_STAGE_ALL,   /* on every stage */
    PTC_STAGE_LAYER, /* on the stage of the layer its name tells */
    PTC_STAGE_FIRST,
    PTC_STAGE_LAST,
    PTC_STAGE_LIST, /* on the numbered stages */
};

struct ptc_rule {
    struct base_str match; /* fnmatch(3) without flags; NUL-terminated */
    uint32_t mesh;         /* 0 is `mesh`; else an index of meshes */
    uint32_t n_dims;       /* dims given; further ones are not cut */
    struct ptc_dim_rule dims[PTC_MAX_DIMS];
    enum ptc_stage_kind stage;
    uint32_t n_stage_list;
    const uint32_t *stage_list;
    bool is_expert;      /* placed by the number `experts` reads in its name */
    bool is_optional;    /* may match nothing */
    uint32_t flat;       /* index of flats, or PTC_NONE */
    struct base_str tie; /* .len 0: none; then match is a plain name */
    uint32_t line;       /* 1.. in the text; 0 when made by a preset */
};

/* Whole tensors placed along an axis by a number in their names: pipeline
 * stages by layer, experts by expert. */
struct ptc_numbered {
    bool is_set;
    struct base_str axis;    /* each mesh that is used with it must have it */
    struct base_str pattern; /* PCRE2 with one group: the number */
    uint32_t n_counts;       /* 0: torch.chunk's rule over the numbers found */
    const uint32_t *counts;  /* how many consecutive numbers each chunk has;
                                axis size * interleave entries */
    uint32_t interleave;     /* 1: chunk i is on stage i; v: on i modulo size */
};

/* Tensors laid end to end, padded, cut into equal ranges (FSDP-1, ZeRO-1). */
struct ptc_flat {
    struct base_str name;
    uint32_t n_axes; /* at least 1 */
    struct base_str axes[PTC_MAX_AXES];
    uint32_t n_order;             /* 0: members in order of name */
    const struct base_str *order; /* globs: members by first match, then name */
    uint64_t bucket_elems;        /* close a bucket once it has as many; 0: one
                                     bucket for all */
    bool is_per_layer;            /* a bucket per layer number (`stages`) */
    uint64_t align_elems;         /* each rank's part is a multiple; >= 1 */
};

enum ptc_on_change {
    PTC_ON_CHANGE_REFUSE,
    PTC_ON_CHANGE_COPY,
    PTC_ON_CHANGE_DROP,
};

struct ptc_object_rule {
    struct base_str name; /* glob over objects' names */
    bool has_varies;      /* else it varies over all axes of `mesh` */
    uint32_t n_varies;
    struct base_str varies[PTC_MAX_AXES];
    enum ptc_on_change on_change;
};

struct ptc_spec {
    struct base_arena *arena;
    uint32_t n_meshes; /* >= 1; meshes[0] is `mesh`, its name empty */
    struct base_str mesh_names[PTC_MAX_MESHES];
    struct ptc_mesh meshes[PTC_MAX_MESHES]; /* equal n_ranks */
    struct ptc_numbered stages;
    struct ptc_numbered experts;
    uint32_t n_flats;
    struct ptc_flat *flats;
    uint32_t n_rules;
    struct ptc_rule *rules;
    uint32_t n_objects;
    struct ptc_object_rule *objects;
};

void ptc_spec_free(struct ptc_spec *spec);
BASE_AUTO_DEFINE(ptc_spec);

/* Parse YAML.  @origin names the text in errors: "FILE:LINE: key: ...".
 * Aliases, anchors, tags, several documents, duplicate keys, nesting deeper
 * than 8, and more than PTC_SPEC_MAX_BYTES are refused; an unknown key names
 * the nearest.
 * Errors: BASE_BAD_INPUT, BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_spec_parse(struct base_str text,
                              const char *origin,
                              struct ptc_spec **ret,
                              struct base_err *err) BASE_MUST_CHECK;

/* The canonical text: fixed order of keys, defaults left out.  Parsing it
 * yields an equal spec; equal specs yield equal bytes. */
enum base_code ptc_spec_format(const struct ptc_spec *spec,
                               struct base_buf *buf,
                               struct base_err *err) BASE_MUST_CHECK;

/* Digest of the canonical text. */
enum base_code ptc_spec_digest(const struct ptc_spec *spec,
                               struct base_digest *ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* The layout of one rank that holds everything whole: what `hf` means. */
enum base_code ptc_spec_whole(struct ptc_spec **ret,
                              struct base_err *err) BASE_MUST_CHECK;

#endif
