/* A source: one complete state, wherever it lies.  A table, a layout, pieces,
 * blobs as descriptors, objects.  Convert, mount and verify see only this; a
 * plain checkpoint directory is the first backend, a store the second.
 *
 * A source is immutable after it was opened; any thread may read it.
 *
 * Directories that store_source_open_dir understands:
 *   plain         layout.yaml, ranks/003/GROUP.safetensors, ranks/003/NAME, NAME
 *   Hugging Face  model.safetensors[.index.json], GROUP.safetensors..., NAME
 *   sharded       files of PyTorch DCP's safetensors writer (DCP_SHARDING_INFO)
 *   one file      a path that is one .safetensors file
 * Names that begin with '.' or end in '.tmp' are ignored, and so are
 * directories other than ranks/ (store_source_ignored lists those). */
#ifndef STORE_SOURCE_H
#define STORE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "ptc/layout.h"
#include "ptc/pieces.h"
#include "ptc/table.h"

struct store_source_options {
    const char *from;  /* --from: a spec file, a short form, or NULL */
    const char *table; /* --table: a table's file, or NULL */
};

enum store_form {
    STORE_FORM_PLAIN,
    STORE_FORM_HF,
    STORE_FORM_SHARDED,
    STORE_FORM_FILE,
    STORE_FORM_VERSION, /* of a store: store_source_open_version */
};

struct store_source;
void store_source_free(struct store_source *source);
BASE_AUTO_DEFINE(store_source);

/* Open and check: headers of all files, coordinates against the spec, dtypes,
 * shapes, coverage.  Reads no tensor data.  All files stay open, so the
 * process's soft limit of open files is raised to its hard limit.
 * Errors: BASE_NOT_FOUND  @path does not exist
 *         BASE_BAD_INPUT, BASE_MISMATCH  naming file and field
 *         BASE_BAD_ARG  `from` given where layout.yaml is, or needed and absent */
enum base_code store_source_open_dir(const char *path,
                                     const struct store_source_options *options,
                                     struct store_source **ret,
                                     struct base_err *err) BASE_MUST_CHECK;

enum store_form store_source_form(const struct store_source *source);
const char *store_source_path(const struct store_source *source);
const struct ptc_table *store_source_table(const struct store_source *source);
/* The layout the bytes are in; `hf` and `one file` have the whole layout.
 * NULL for a sharded directory, whose pieces are explicit. */
const struct ptc_layout *store_source_layout(const struct store_source *source);
/* Every byte once (the lowest rank's copy). */
const struct ptc_pieces *store_source_pieces(const struct store_source *source);
/* The other copies of replicated and tied bytes: for verification only. */
const struct ptc_pieces *
store_source_replicas(const struct store_source *source);

struct store_blob {
    const char *label; /* path, for errors */
    int fd;            /* open for reading as long as the source is */
    uint64_t n_bytes;
    struct stat stat; /* when it was opened: what store_blob_check compares */
};
uint32_t store_source_n_blobs(const struct store_source *source);
const struct store_blob *store_source_blob(const struct store_source *source,
                                           uint32_t idx);
/* BASE_CHANGED when size, mtime or inode are not as when it was opened. */
enum base_code store_blob_check(const struct store_blob *blob,
                                struct base_err *err) BASE_MUST_CHECK;

/* Objects.  @rank is PTC_NONE for a job's.  The path is relative to the
 * source's directory; *ret is NULL when that rank has no such object. */
enum base_code store_source_object(const struct store_source *source,
                                   struct base_str name,
                                   ptc_rank rank,
                                   const struct store_blob **ret,
                                   struct base_err *err) BASE_MUST_CHECK;
uint32_t store_source_n_ignored(const struct store_source *source);
const char *store_source_ignored(const struct store_source *source,
                                 uint32_t idx);

/* What SPEC on a command line means: a YAML file, `hf`, or a short form (whose
 * config.json is read beside the source @path, may be NULL).  @table may be
 * NULL.  *ret_is_hf tells `hf` from a layout of ranks. */
enum base_code store_spec_open(const char *text,
                               const char *path,
                               const struct ptc_table *table,
                               struct ptc_spec **ret,
                               bool *ret_is_hf,
                               struct base_err *err) BASE_MUST_CHECK;
/* The same for a source that is open: its table, its config.json (a version's
 * is its job object of that name). */
enum base_code store_spec_open_source(const char *text,
                                      const struct store_source *source,
                                      struct ptc_spec **ret,
                                      bool *ret_is_hf,
                                      struct base_err *err) BASE_MUST_CHECK;

#endif
