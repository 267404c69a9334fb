#include "ptc/mesh.h"

#include <assert.h>

uint32_t ptc_mesh_find(const struct ptc_mesh *mesh, struct base_str name)
{
    for (uint32_t i = 0; i < mesh->n_axes; i++) {
        if (base_str_eq(mesh->axes[i].name, name)) {
            return i;
        }
    }
    return UINT32_MAX;
}

void ptc_mesh_coords(const struct ptc_mesh *mesh,
                     uint32_t rank,
                     uint32_t *coords)
{
    assert(rank < mesh->n_ranks);
    for (uint32_t i = mesh->n_axes; i-- > 0;) {
        coords[i] = rank % mesh->axes[i].size;
        rank /= mesh->axes[i].size;
    }
}

uint32_t ptc_mesh_rank(const struct ptc_mesh *mesh, const uint32_t *coords)
{
    uint32_t rank = 0;

    for (uint32_t i = 0; i < mesh->n_axes; i++) {
        assert(coords[i] < mesh->axes[i].size);
        rank = rank * mesh->axes[i].size + coords[i];
    }
    return rank;
}
