/* A store's blobs as files: names, paths, opening, going over all of them.
 *
 * A blob lies in blobs/ab/abcdef..., all 32 digits of its name, in a folder
 * named by the first two that is made when it is first needed.  Paths are
 * relative to the root's directory (store_root_fd). */
#ifndef STORE_BLOB_H
#define STORE_BLOB_H

#include <stdbool.h>
#include <stdint.h>

#include "ptc/manifest.h"
#include "store/root.h"

#define STORE_BLOB_TEXT_BYTES 33

/* A new name from the kernel's random numbers.  Errors: BASE_IO */
enum base_code store_blob_name_make(struct ptc_blob_name *ret,
                                    struct base_err *err) BASE_MUST_CHECK;
/* Fill @text (33 bytes, NUL-terminated); returns @text. */
char *store_blob_name_format(const struct ptc_blob_name *name, char *text);
/* False unless @text is 32 lower-case hexadecimal digits. */
bool store_blob_name_parse(struct base_str text, struct ptc_blob_name *ret);
int store_blob_name_cmp(const struct ptc_blob_name *a,
                        const struct ptc_blob_name *b);

/* "blobs/ab/abcdef...", given (free it); NULL when memory is short. */
char *store_blob_path(const struct ptc_blob_name *name);
/* Make the folder that @name lies in, when it is not there, and sync blobs/.
 * Needs the lock. */
enum base_code store_blob_make_folder(struct store_root *root,
                                      const struct ptc_blob_name *name,
                                      struct base_err *err) BASE_MUST_CHECK;

/* Open for reading.  *ret_fd is given; close it.  Errors: BASE_NOT_FOUND;
 * BASE_MISMATCH  no regular file, or not of @blob's size (both are named) */
enum base_code store_blob_open(const struct store_root *root,
                               const struct ptc_manifest_blob *blob,
                               int *ret_fd,
                               struct base_err *err) BASE_MUST_CHECK;

/* Call @fn for each entry below blobs/, in order of path: @blob is NULL for
 * what is no blob (a strange name, no regular file).  An entry that goes away
 * meanwhile is passed over.  Errors: fn's, BASE_IO */
typedef enum base_code (*store_blob_fn)(void *ctx,
                                        const char *path,
                                        const struct ptc_manifest_blob *blob,
                                        struct base_err *err);
enum base_code store_blobs_each(const struct store_root *root,
                                store_blob_fn fn,
                                void *ctx,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
