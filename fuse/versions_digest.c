/* The digest of a version: of the digests of its table, layout and regions, and
 * of where these stand.  Blobs' names, which are random, are not in it, nor
 * what a version is called. */
#include <inttypes.h>

#include "fuse/versions_impl.h"
#include "store/root.h"

enum { MAX_BYTES = 1 << 30 };

static void add_u64(struct base_buf *buf, uint64_t value)
{
    (void)base_buf_addf(buf, "%" PRIu64 "\n", value); /* sticky; see below */
}

static void add_digest(struct base_buf *buf, struct base_digest digest)
{
    (void)base_buf_add(buf, digest.bytes, sizeof(digest.bytes));
}

static void add_head(struct base_buf *buf, const struct ptc_manifest_head *head)
{
    add_digest(buf, head->table);
    add_u64(buf, head->step);
    add_u64(buf, head->samples);
    add_u64(buf, head->layout.len);
    (void)base_buf_add_str(buf, head->layout);
}

/* False: it has no digest yet. */
static bool add_region(struct base_buf *buf,
                       const struct ptc_manifest_region *region)
{
    add_u64(buf, region->tensor);
    add_u64(buf, region->blob);
    add_u64(buf, region->offset);
    add_u64(buf, region->n_bytes);
    add_digest(buf, region->digest);
    return region->is_digested;
}

static void add_object(struct base_buf *buf,
                       const struct ptc_manifest_object *object)
{
    add_u64(buf, object->rank);
    add_u64(buf, object->region);
    add_u64(buf, object->name.len);
    (void)base_buf_add_str(buf, object->name);
}

enum base_code fs_versions_digest(const struct fs_versions *versions,
                                  uint64_t number,
                                  struct base_digest *ret,
                                  struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO_BUF buf;
    const struct ptc_manifest *manifest;
    uint32_t i;

    base_buf_init(&buf, MAX_BYTES);
    BASE_TRY(store_version_open(versions->root, versions->options->job, number,
                                &version, err));
    manifest = store_version_manifest(version);
    add_head(&buf, ptc_manifest_head(manifest));
    for (i = 0; i < ptc_manifest_n_regions(manifest); i++) {
        const struct ptc_manifest_region region =
            ptc_manifest_region(manifest, i);

        if (!add_region(&buf, &region)) {
            return base_fail(err, BASE_NOT_FOUND,
                             "version %" PRIu64 " is not digested yet", number);
        }
    }
    for (i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        const struct ptc_manifest_object object =
            ptc_manifest_object(manifest, i);

        add_object(&buf, &object);
    }
    BASE_TRY(base_buf_check(&buf, err));
    *ret = base_digest_of(buf.ptr, buf.len);
    return BASE_OK;
}
