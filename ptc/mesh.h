/* A mesh: named axes and their sizes in rank order, the last axis fastest.
 * Values; names are borrowed from whoever made the mesh (a spec).  Pure. */
#ifndef PTC_MESH_H
#define PTC_MESH_H

#include <stdint.h>

#include "base/str.h"

#define PTC_MAX_AXES  8
#define PTC_MAX_RANKS 1048576u /* 2^20 */

struct ptc_axis {
    struct base_str name; /* [A-Za-z_][A-Za-z0-9_]*, at most 32 bytes */
    uint32_t size;        /* at least 1 */
};

struct ptc_mesh {
    uint32_t n_axes; /* 0: one rank */
    uint32_t n_ranks;
    struct ptc_axis axes[PTC_MAX_AXES];
};

/* PTC_NONE (UINT32_MAX) when the mesh lacks the axis. */
uint32_t ptc_mesh_find(const struct ptc_mesh *mesh, struct base_str name);
/* coords[i] of axis i; room for PTC_MAX_AXES. */
void ptc_mesh_coords(const struct ptc_mesh *mesh,
                     uint32_t rank,
                     uint32_t *coords);
uint32_t ptc_mesh_rank(const struct ptc_mesh *mesh, const uint32_t *coords);

#endif
