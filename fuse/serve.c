#include "fuse/serve.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/io.h"
#include "base/num.h"
#include "store/guard.h"
#include "store/verify.h"

enum {
    PAGE_BYTES = 4096, /* at least: any smaller than a page will do */
    SCRATCH_ALIGN_BYTES = 4096,
    SCRATCH_BYTES = FS_MAX_READ,
};

/* With runs of STORE_GATHER_DIRECT_BYTES and more sent in place and the rest
 * in scratch, the largest request always fits. */
_Static_assert(2 * (FS_MAX_READ / STORE_GATHER_DIRECT_BYTES) + 2 <=
                   STORE_GATHER_MAX_IOV,
               "a read of FS_MAX_READ bytes fits one gather");

/* owner: its thread */
struct scratch {
    _Alignas(SCRATCH_ALIGN_BYTES) char bytes[SCRATCH_BYTES];
    struct store_gather gather;
    struct iovec one;
};

static pthread_key_t scratch_key;
static bool has_scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void scratch_init(void)
{
    has_scratch_key = pthread_key_create(&scratch_key, free) == 0;
}

/* This thread's; NULL: no memory. */
static struct scratch *scratch_get(void)
{
    struct scratch *scratch;

    (void)pthread_once(&scratch_once, scratch_init); /* cannot fail */
    if (!has_scratch_key) {
        return NULL;
    }
    scratch = pthread_getspecific(scratch_key);
    if (scratch == NULL) {
        scratch = aligned_alloc(SCRATCH_ALIGN_BYTES, sizeof(*scratch));
        if (scratch != NULL && pthread_setspecific(scratch_key, scratch) != 0) {
            free(scratch);
            scratch = NULL;
        }
    }
    return scratch;
}

void *fs_serve_scratch(void)
{
    struct scratch *scratch = scratch_get();

    return scratch != NULL ? scratch->bytes : NULL;
}

/* Answer with bytes [offset, offset + n_bytes) of @all. */
static void serve_text(struct scratch *scratch,
                       struct base_str all,
                       uint64_t offset,
                       size_t n_bytes,
                       struct fs_answer *ret)
{
    size_t begin = (size_t)base_min_u64(offset, all.len);
    size_t n = (size_t)base_min_u64(n_bytes, all.len - begin);

    /* An iovec has no const; it is only written out. */
    scratch->one = (struct iovec){
        .iov_base = (void *)(uintptr_t)(all.ptr + begin),
        .iov_len = n,
    };
    *ret = (struct fs_answer){&scratch->one, n > 0 ? 1 : 0, n};
}

static enum base_code serve_object(struct scratch *scratch,
                                   const struct fs_version *version,
                                   const struct store_blob *blob,
                                   uint64_t offset,
                                   size_t n_bytes,
                                   struct fs_answer *ret,
                                   struct base_err *err)
{
    uint64_t begin = base_min_u64(offset, blob->n_bytes);
    size_t n = (size_t)base_min_u64(n_bytes, blob->n_bytes - begin);

    BASE_TRY(store_blob_check(blob, err));
    if (version->verify != NULL && n > 0) {
        BASE_TRY(store_verify_range(
            version->verify,
            (uint32_t)(blob - store_source_blob(version->source, 0)), begin, n,
            err));
    }
    BASE_TRY(
        base_io_pread(blob->fd, scratch->bytes, n, begin, blob->label, err));
    scratch->one = (struct iovec){scratch->bytes, n};
    *ret = (struct fs_answer){&scratch->one, n > 0 ? 1 : 0, n};
    return BASE_OK;
}

/* Touch each page of @ctx, a struct store_gather, so that the kernel finds all of
 * them when it copies.  One that it had to fetch while this process is being
 * killed would be an error for the reader, in place of a request sent again. */
static void touch(void *ctx)
{
    const struct store_gather *gather = ctx;
    uint32_t i;

    for (i = 0; i < gather->n_iov; i++) {
        const volatile char *bytes = gather->iov[i].iov_base;
        const size_t n = gather->iov[i].iov_len;
        size_t at;

        for (at = 0; at < n; at += PAGE_BYTES) {
            (void)bytes[at];
        }
        (void)bytes[n - 1]; /* runs have bytes */
    }
}

static enum base_code serve_file(const struct fs_version *version,
                                 struct scratch *scratch,
                                 const struct ptc_view *view,
                                 uint64_t offset,
                                 size_t n_bytes,
                                 struct fs_answer *ret,
                                 struct base_err *err)
{
    uint64_t end = ptc_view_n_bytes(view);
    uint64_t begin = base_min_u64(offset, end);
    size_t n = (size_t)base_min_u64(n_bytes, end - begin);

    scratch->gather.n_iov = 0;
    scratch->gather.n_bytes = 0;
    if (n > 0) {
        if (version->verify != NULL) {
            BASE_TRY(store_verify_view(version->verify, view, begin, n, err));
        }
        BASE_TRY(store_gather(version->maps, view, begin, n, scratch->bytes,
                              SCRATCH_BYTES, &scratch->gather, err));
    }
    /* In the page cache a short read would become zeros. */
    if (scratch->gather.n_bytes != n) {
        return base_fail(err, BASE_IO,
                         "gathered %llu of %zu bytes at offset %llu",
                         (unsigned long long)scratch->gather.n_bytes, n,
                         (unsigned long long)begin);
    }
    /* A page that is gone: the kernel will find that, too. */
    (void)store_guard_run(touch, &scratch->gather);
    *ret = (struct fs_answer){scratch->gather.iov, scratch->gather.n_iov, n};
    return BASE_OK;
}

enum base_code fs_serve(const struct fs_node *node,
                        struct base_str snapshot,
                        uint64_t offset,
                        size_t n_bytes,
                        struct fs_answer *ret,
                        struct base_err *err)
{
    struct scratch *scratch = scratch_get();

    if (scratch == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory to read into");
    }
    if (n_bytes > FS_MAX_READ) {
        return base_fail(err, BASE_BAD_ARG, "a read of %zu bytes", n_bytes);
    }
    BASE_TRY(base_fault_check(BASE_FAULT_mount_read, err));
    switch (node->kind) {
    case FS_DIR:
    case FS_LINK:
        return base_fail(err, BASE_BAD_ARG, "no file");
    case FS_TEXT:
        serve_text(scratch, node->node->text, offset, n_bytes, ret);
        return BASE_OK;
    case FS_OBJECT:
        return serve_object(scratch, node->version, node->node->object, offset,
                            n_bytes, ret, err);
    case FS_FILE:
        return serve_file(node->version, scratch, fs_views_get(node), offset,
                          n_bytes, ret, err);
    case FS_STATUS:
    case FS_EVENTS:
    case FS_REQUEST:
        serve_text(scratch, snapshot, offset, n_bytes, ret);
        return BASE_OK;
    }
    abort(); /* not a kind */
}
