#include "tests/unit/store/fake_source.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"

uint32_t
fake_source_add(struct store_source *source, const void *bytes, size_t n)
{
    struct store_blob *blob = &source->blobs[source->n];

    if (source->n == FAKE_MAX_BLOBS) {
        return PTC_NONE;
    }
    blob->label = "blob";
    blob->fd = memfd_create("blob", MFD_CLOEXEC);
    blob->n_bytes = n;
    if (blob->fd < 0 ||
        base_io_pwrite(blob->fd, bytes, n, 0, "blob", NULL) != BASE_OK) {
        return PTC_NONE;
    }
    fake_source_trust(source, source->n);
    return source->n++;
}

void fake_source_trust(struct store_source *source, uint32_t idx)
{
    (void)fstat(source->blobs[idx].fd, &source->blobs[idx].stat);
}

void fake_source_done(struct store_source *source)
{
    for (uint32_t i = 0; i < source->n; i++) {
        (void)close(source->blobs[i].fd);
    }
    source->n = 0;
}

uint32_t store_source_n_blobs(const struct store_source *source)
{
    return source->n;
}

const struct store_blob *store_source_blob(const struct store_source *source,
                                           uint32_t idx)
{
    return &source->blobs[idx];
}

enum base_code store_blob_check(const struct store_blob *blob,
                                struct base_err *err)
{
    struct stat now;

    if (fstat(blob->fd, &now) != 0 || now.st_size != blob->stat.st_size ||
        memcmp(&now.st_mtim, &blob->stat.st_mtim, sizeof(now.st_mtim)) != 0) {
        return base_fail(err, BASE_CHANGED, "%s: changed", blob->label);
    }
    return BASE_OK;
}
