/* A small store, its versions written by hand: what the library opens, checks
 * and sweeps must not depend on what publishes.
 *
 * Each version has the same table: `a` in two regions, `big` of two chunks and
 * a bit, `m1` and `m2` in a flat bucket, and the object notes.txt.  Blob 0 has
 * a and big behind 4096 bytes of header, blob 1 the bucket, blob 2 the object. */
#ifndef UNIT_STORE_SMALL_STORE_H
#define UNIT_STORE_SMALL_STORE_H

#include "store/root.h"
#include "tests/unit/base/tmp_dir.h"

#define SMALL_BIG_BYTES    (2 * PTC_DIGEST_CHUNK_BYTES + 5)
#define SMALL_HEADER_BYTES ((uint64_t)4096)
#define SMALL_A_BYTES      ((uint64_t)48)
#define SMALL_BUCKET_BYTES ((uint64_t)48)
#define SMALL_NOTES_BYTES  ((uint64_t)16)
#define SMALL_N_BLOBS      3

struct small_store {
    struct tmp_dir *dir; /* the store is dir/store */
    char path[96];
    struct store_root *root; /* open, not locked */
    const char *layout;      /* of versions published from now; NULL: whole */
    bool is_undigested;      /* no region of these is digested */
    uint32_t object_blob;    /* where these have the object; 0: in its own */
};

struct small_blobs {
    struct ptc_manifest_blob blobs[SMALL_N_BLOBS];
};

/* Setup and teardown of a test whose state is a struct small_store. */
int small_store_make(void **state);
int small_store_remove(void **state);

/* Write the blobs of the bytes that @seed gives. */
struct small_blobs small_store_blobs(struct small_store *store, uint64_t seed);
/* Publish JOB@number over such blobs. */
void small_store_publish(struct small_store *store,
                         const char *job,
                         uint64_t number,
                         const struct small_blobs *blobs);
/* The same as if @head_number were the manifest's. */
void small_store_publish_as(struct small_store *store,
                            const char *job,
                            uint64_t number,
                            uint64_t head_number,
                            const struct small_blobs *blobs);
/* "/tmp/.../store/" and the formatted rest; valid until the next call. */
const char *small_store_at(const struct small_store *store,
                           const char *fmt,
                           ...) __attribute__((format(printf, 2, 3)));
const char *small_store_blob_at(const struct small_store *store,
                                const struct ptc_manifest_blob *blob);
/* Flip a bit of the file's byte @at. */
void small_store_flip(const char *path, uint64_t at);
bool small_store_has(const struct small_store *store, const char *path);
/* Make or replace a file of the store. */
void small_store_write(const struct small_store *store,
                       const char *path,
                       const char *text);

#define small_store_test(test)                                                 \
    cmocka_unit_test_setup_teardown(test, small_store_make, small_store_remove)

#endif
