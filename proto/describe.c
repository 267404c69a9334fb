#include "proto/describe.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "proto/rpc.h"
#include "ptc/manifest.h"
#include "ptc/spec.h"
#include "store/root.h"

enum { MESH_MAX_BYTES = 1024 };

char *rpc_mesh_text(const struct ptc_spec *spec)
{
    const struct ptc_mesh *mesh = &spec->meshes[0];
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, MESH_MAX_BYTES);
    (void)base_buf_add_str(&buf, BASE_STR("")); /* sticky */
    for (uint32_t i = 0; i < mesh->n_axes; i++) {
        (void)base_buf_addf(&buf, "%s%.*s=%" PRIu32, i == 0 ? "" : ",",
                            BASE_STR_FMT(mesh->axes[i].name),
                            mesh->axes[i].size);
    }
    return buf.failed == BASE_OK && buf.ptr != NULL ? base_steal(&buf.ptr)
                                                    : strdup("");
}

static Retile__V1__AttemptKind kind_of(struct base_str origin)
{
    static const struct {
        const char *name;
        Retile__V1__AttemptKind kind;
    } kinds[] = {
        {"save", RETILE__V1__ATTEMPT_KIND__ATTEMPT_SAVE},
        {"rescale", RETILE__V1__ATTEMPT_KIND__ATTEMPT_RESCALE},
        {"import", RETILE__V1__ATTEMPT_KIND__ATTEMPT_IMPORT},
        {"rollback", RETILE__V1__ATTEMPT_KIND__ATTEMPT_ROLLBACK},
        {"copy", RETILE__V1__ATTEMPT_KIND__ATTEMPT_COPY},
    };

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (base_str_eq(origin, base_str_of(kinds[i].name))) {
            return kinds[i].kind;
        }
    }
    return RETILE__V1__ATTEMPT_KIND__ATTEMPT_KIND_UNSPECIFIED;
}

static uint64_t objects_bytes(const struct ptc_manifest *manifest)
{
    uint64_t n_bytes = 0;

    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(manifest, i);

        n_bytes += ptc_manifest_region(manifest, object.region).n_bytes;
    }
    return n_bytes;
}

/* Every byte of the table is in one piece; a vote's table is not read. */
static enum base_code add_piece(void *ctx,
                                const struct ptc_manifest_extent *extent,
                                struct base_err *err)
{
    (void)err;
    *(uint64_t *)ctx += extent->n_bytes;
    return BASE_OK;
}

static uint64_t all_bytes(const struct ptc_manifest *manifest)
{
    uint64_t n_bytes = objects_bytes(manifest);

    (void)!ptc_manifest_extents(manifest, add_piece, &n_bytes,
                                NULL); /* never */
    return n_bytes;
}

Retile__V1__Version *rpc_version_describe(const struct store_version *version)
{
    const struct ptc_manifest *manifest = store_version_manifest(version);
    const struct ptc_manifest_head *head = ptc_manifest_head(manifest);
    Retile__V1__Version said = RETILE__V1__VERSION__INIT;
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_MEM char *layout = strndup(head->layout.ptr, head->layout.len);
    BASE_AUTO_MEM char *mesh = NULL;

    if (layout == NULL) {
        return NULL;
    }
    said.number = head->version;
    said.parent = head->parent;
    said.kind = kind_of(head->origin);
    said.has_step = head->step != UINT64_MAX;
    said.step = said.has_step ? head->step : 0;
    said.has_samples = head->samples != UINT64_MAX;
    said.samples = said.has_samples ? head->samples : 0;
    said.n_bytes = all_bytes(manifest);
    said.layout = layout;
    if (ptc_spec_parse(head->layout, "layout", &spec, NULL) == BASE_OK) {
        mesh = rpc_mesh_text(spec);
    }
    if (mesh != NULL) {
        said.mesh = mesh;
    }
    said.created_ns = head->created_ns;
    said.durability = RETILE__V1__DURABILITY__DURABILITY_LOCAL;
    return rpc_message_copy(&said.base);
}
