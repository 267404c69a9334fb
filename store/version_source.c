/* A version as a source: the blobs that its manifest names, opened in the
 * manifest's order, so that pieces, blobs and objects have the same indices. */
#include <errno.h>
#include <inttypes.h>

#include "base/file.h"
#include "store/blob.h"
#include "store/change.h"
#include "store/source_priv.h"

static enum base_code no_mem(const struct store_source *source,
                             struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "%s: cannot allocate a source",
                     source->path);
}

/* It was one when the manifest was written: what is wrong now is the manifest,
 * not an argument. */
static enum base_code manifest_fault(enum base_code code)
{
    return code == BASE_BAD_ARG || code == BASE_MISMATCH ? BASE_BAD_INPUT
                                                         : code;
}

enum base_code store_manifest_layout(const struct ptc_manifest *manifest,
                                     const struct ptc_table *table,
                                     const char *label,
                                     struct ptc_layout **ret,
                                     struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    enum base_code rc;

    rc = ptc_spec_parse(ptc_manifest_head(manifest)->layout, label, &spec, err);
    if (rc != BASE_OK) {
        return manifest_fault(rc); /* it says where */
    }
    rc = ptc_layout_create(&spec, table, ret, err);
    return rc == BASE_OK ? rc : base_wrap(err, manifest_fault(rc), "%s", label);
}

static enum base_code open_blob(struct store_source *source,
                                const struct store_root *root,
                                struct ptc_manifest_blob named,
                                struct base_err *err)
{
    struct store_blob blob = {.n_bytes = named.n_bytes};
    BASE_AUTO_MEM char *path = store_blob_path(&named.name);
    BASE_AUTO_MEM char *label =
        path == NULL ? NULL : base_path("%s/%s", store_root_path(root), path);
    BASE_AUTO_FD fd = -1;
    enum base_code rc;

    if (label != NULL) {
        blob.label = base_arena_str(source->arena, base_str_of(label)).ptr;
    }
    if (blob.label == NULL) {
        return no_mem(source, err);
    }
    rc = store_blob_open(root, &named, &fd, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "%s", source->path);
    }
    if (fstat(fd, &blob.stat) != 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", blob.label);
    }
    blob.fd = fd;
    if (!base_vec_push(&source->blobs, blob)) {
        return no_mem(source, err);
    }
    (void)base_steal_fd(&fd); /* the source closes it */
    return BASE_OK;
}

/* An object is a blob of its own. */
static enum base_code open_object(struct store_source *source,
                                  const struct ptc_manifest *manifest,
                                  uint32_t idx,
                                  struct base_err *err)
{
    struct ptc_manifest_object said = ptc_manifest_object(manifest, idx);
    struct ptc_manifest_region region =
        ptc_manifest_region(manifest, said.region);
    struct store_object object = {.rank = said.rank, .blob = region.blob};

    if (region.offset != 0 ||
        region.n_bytes != source->blobs.items[region.blob].n_bytes) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: object %.*s: is no blob of its own", source->path,
                         BASE_STR_FMT(said.name));
    }
    object.name = base_arena_str(source->arena, said.name);
    if (object.name.ptr == NULL || !base_vec_push(&source->objects, object)) {
        return no_mem(source, err);
    }
    return BASE_OK;
}

static enum base_code open_all(struct store_source *source,
                               const struct store_root *root,
                               const struct store_version *version,
                               struct base_err *err)
{
    const struct ptc_manifest *manifest = store_version_manifest(version);

    BASE_TRY(store_manifest_layout(manifest, source->lent_table, source->path,
                                   &source->layout, err));
    BASE_TRY(ptc_manifest_pieces(manifest, source->lent_table, &source->pieces,
                                 err));
    source->replicas = ptc_pieces_create(source->lent_table);
    if (source->replicas == NULL) {
        return no_mem(source, err);
    }
    BASE_TRY(ptc_pieces_seal(source->replicas, err)); /* it has none */
    store_raise_open_files();
    for (uint32_t i = 0; i < ptc_manifest_n_blobs(manifest); i++) {
        BASE_TRY(open_blob(source, root, ptc_manifest_blob(manifest, i), err));
    }
    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        BASE_TRY(open_object(source, manifest, i, err));
    }
    store_source_sort_objects(source);
    return BASE_OK;
}

enum base_code store_source_open_version(const struct store_root *root,
                                         struct store_version **version,
                                         struct store_source **ret,
                                         struct base_err *err)
{
    BASE_AUTO(store_source) source = NULL;

    BASE_TRY(store_source_create(store_version_label(*version), &source, err));
    source->form = STORE_FORM_VERSION;
    source->lent_table = store_version_table(*version);
    BASE_TRY(open_all(source, root, *version, err));
    source->version = base_steal(version);
    *ret = base_steal(&source);
    return BASE_OK;
}

const struct store_version *
store_source_version(const struct store_source *source)
{
    return source->version;
}
