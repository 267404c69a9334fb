/* Checkpoint directories for tests: a layout's plain form written from known
 * bytes, a directory turned into another as `retile convert` does, two trees
 * compared byte by byte.  Failures are cmocka's. */
#ifndef TESTS_PROP_TREE_DIR_H
#define TESTS_PROP_TREE_DIR_H

#include "ptc/layout.h"
#include "store/copy.h"
#include "store/target.h"

/* Make an empty directory in TMPDIR, else in memory (/dev/shm), else in /tmp;
 * given. */
char *tree_dir_temp(void);

/* Write @layout's plain form below @dir (made here): layout.yaml, rank files
 * filled as file_set_fill does, the job object note.txt, and rng.txt for each
 * rank ("rank 3"). */
void tree_dir_write(const char *dir, const struct ptc_layout *layout);

/* Show @from under the spec @yaml (NULL: whole) as the tree @kind and write it
 * to @to (made here), with @options.  Errors are those of the library. */
enum base_code tree_dir_convert(const char *from,
                                const char *to,
                                const char *yaml,
                                enum store_tree_kind kind,
                                const struct store_copy_options *options,
                                struct base_err *err) BASE_MUST_CHECK;

/* Fail unless both trees have the same names and bytes; names of files that end
 * in @except (may be NULL) are not looked at. */
void tree_dir_same(const char *a, const char *b, const char *except);

/* Write the safetensors file @path anew, with those tensors only that @keep
 * says, without the metadata key "retile", and with "step" when @step is not
 * NULL.  Returns how many tensors were kept. */
uint32_t tree_dir_thin(const char *path,
                       bool (*keep)(void *ctx, struct base_str name),
                       void *ctx,
                       const char *step);

/* Write a file, its directory must exist. */
void tree_dir_put(const char *dir, const char *name, struct base_str bytes);

#endif
