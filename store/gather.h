/* Gather: bytes of a shown file out of the blobs it consists of.
 *
 * For the mount: long runs are answered as iovecs straight out of the mapped
 * page cache, short ones are copied into the caller's scratch.  A blob that
 * was changed or truncated under us gives BASE_CHANGED, never wrong bytes and
 * never SIGBUS: each touched blob is compared with what it was when opened, and
 * copies out of a mapping run under a guard.
 *
 * A gather belongs to one thread; maps are shared, counted, made on first use. */
#ifndef STORE_GATHER_H
#define STORE_GATHER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "ptc/view.h"
#include "store/source.h"

/* Maps of a source's blobs, shared by all threads; borrows the source.  A blob
 * that several sources have is mapped once. */
struct store_maps;
struct store_maps *store_maps_create(const struct store_source *source);
void store_maps_free(struct store_maps *maps);
BASE_AUTO_DEFINE(store_maps);

/* Install the process's SIGBUS handler, which turns a fault inside a guarded
 * copy into BASE_CHANGED and leaves every other SIGBUS deadly.  Once, early. */
enum base_code store_guard_install(struct base_err *err) BASE_MUST_CHECK;

#define STORE_GATHER_MAX_IOV      1000
#define STORE_GATHER_DIRECT_BYTES 4096 /* runs this long are not copied */

struct store_gather {
    struct iovec iov[STORE_GATHER_MAX_IOV + 4];
    uint32_t n_iov;
    uint64_t n_bytes; /* gathered: less than asked only at the file's end, or
                         when iov or scratch ran out */
};

/* Gather @n_bytes of @view from @offset.  iov entries point into maps, into the
 * view's header and into @scratch (page aligned, @scratch_bytes long), and
 * stay valid as long as these.
 * Errors: BASE_CHANGED, BASE_IO (also a page that faults though the file is as
 *         it was), BASE_NO_MEM */
enum base_code store_gather(struct store_maps *maps,
                            const struct ptc_view *view,
                            uint64_t offset,
                            size_t n_bytes,
                            void *scratch,
                            size_t scratch_bytes,
                            struct store_gather *ret,
                            struct base_err *err) BASE_MUST_CHECK;

#endif
