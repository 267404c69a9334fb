/* The parts of store_source_open_dir: what stands between a directory's files
 * and a source while it is opened.
 *
 *   dir_scan.c     lists, opens, reads headers and coordinates
 *   dir_plain.c    ranks/RRR under a spec          -> files of many ranks
 *   dir_hf.c       index and shards, or one file   -> files of rank 0, whole
 *   dir_sharded.c  DCP's sharded files             -> table and pieces at once
 *   dir_table.c    the table: --table, coordinates, or inferred
 *   dir_check.c    every file against the layout; pieces and replicas
 *   dir_missing.c  what no rank of a save wrote
 *   dir_save.c     a save: the plain form, where ranks may leave out what others
 *                  wrote, and all that is wrong is told
 *
 * Descriptors of files go to the source at once; the rest lives in `struct
 * store_dir` and ends with it. */
#ifndef STORE_DIRECTORY_H
#define STORE_DIRECTORY_H

#include "ptc/coords.h"
#include "ptc/safetensors.h"
#include "store/problems.h"
#include "store/source_priv.h"

#define STORE_DIR_MAX_NAMES 200000u /* in one directory */
#define STORE_DIR_MAX_FILES 1000000u

/* One safetensors file. */
struct store_dir_file {
    struct base_str name;  /* in its directory; in the source's arena */
    struct base_str group; /* likewise */
    ptc_rank rank;
    uint32_t blob;
    struct ptc_st_header *header;
    struct ptc_coords *coords; /* NULL when the file has none */
};

/* A file of tensors that could not be read: it was told. */
struct store_dir_lost {
    struct base_str group;
    ptc_rank rank;
};

/* What a save is opened with. */
struct store_dir_save {
    int parent_fd;    /* the directory that it lies in */
    const char *name; /* its name there, and the source's path in labels */
    const char *path; /* the whole one: where config.json is looked for */
    uint64_t step;
    const struct ptc_table *table;      /* of the version before it, or NULL */
    struct ptc_spec *spec;              /* its layout; taken */
    const char *layout;                 /* without it: a SPEC, or NULL */
    const struct base_str *job_objects; /* which it keeps where it has none */
    uint32_t n_job_objects;
    struct store_problems *problems;
    struct store_dir_file
        *files; /* out: given, free with store_dir_files_free */
    size_t n_files;
};
void store_dir_files_free(struct store_dir_file *files, size_t n);

struct store_dir {
    struct store_source *source;
    struct store_dir_save *save;     /* NULL: no save */
    struct store_problems *problems; /* NULL: the first ends it */
    BASE_VEC(struct store_dir_lost) lost;
    const struct store_source_options *options;
    int fd; /* of the directory; -1 for one file */
    BASE_VEC(struct store_dir_file) files;
    BASE_VEC(struct base_str) tensor_names; /* top-level *.safetensors */
    BASE_VEC(struct base_str) index_names;  /* top-level *.index.json */
    bool has_layout_yaml;
    bool has_ranks;
    bool all_have_coords; /* all tensors of all files */
    bool has_table;       /* the table comes from --table or coordinates */
};

/* What a label says of a file: its path below the command line's. */
const char *store_dir_label(const struct store_dir *dir,
                            const struct store_dir_file *file);

/* List the top: sort names into tensor files, indices, job objects (opened),
 * ignored ones, layout.yaml, ranks/. */
enum base_code store_dir_scan_top(struct store_dir *dir,
                                  struct base_err *err) BASE_MUST_CHECK;
/* List ranks/RRR (descriptor @rank_fd): files are added, objects opened. */
enum base_code store_dir_scan_rank(struct store_dir *dir,
                                   int rank_fd,
                                   const char *shown_path,
                                   ptc_rank rank,
                                   struct base_err *err) BASE_MUST_CHECK;
/* Open @name in @dir_fd as a file of tensors: blob, header, coordinates. */
enum base_code store_dir_add_file(struct store_dir *dir,
                                  int dir_fd,
                                  struct base_str name,
                                  const char *label,
                                  struct base_str group,
                                  ptc_rank rank,
                                  struct base_err *err) BASE_MUST_CHECK;
/* "model" of "model.safetensors"; @name must end so. */
struct base_str store_dir_stem(struct base_str name);
/* A NUL-terminated copy in the source's arena. */
enum base_code store_dir_str(struct store_dir *dir,
                             struct base_str text,
                             struct base_str *ret,
                             struct base_err *err) BASE_MUST_CHECK;
/* "PREFIX/NAME" in the source's arena. */
enum base_code store_dir_join(struct store_dir *dir,
                              const char *prefix,
                              struct base_str name,
                              const char **ret,
                              struct base_err *err) BASE_MUST_CHECK;

/* Split "STEM-00002-of-00005[.safetensors]" (@stem without the suffix).
 * False when it is no such name. */
bool store_dir_split_shard(struct base_str stem,
                           struct base_str *ret_group,
                           uint64_t *ret_idx,
                           uint64_t *ret_n);

/* The forms: each leaves files (or, sharded, table and pieces) in @dir. */
enum base_code store_dir_open_hf(struct store_dir *dir,
                                 struct base_err *err) BASE_MUST_CHECK;
enum base_code store_dir_open_plain(struct store_dir *dir,
                                    struct base_err *err) BASE_MUST_CHECK;
enum base_code store_dir_open_sharded(struct store_dir *dir,
                                      struct base_err *err) BASE_MUST_CHECK;

/* Tensors and ties that --table or coordinates tell: *ret is given, or NULL
 * when they tell nothing.  Sets has_table and all_have_coords. */
enum base_code store_dir_known(struct store_dir *dir,
                               struct ptc_table **ret,
                               struct base_err *err) BASE_MUST_CHECK;
/* The source's table: @known (may be NULL), what @spec lets us infer of the
 * rest, the ties that @spec declares, the directory's objects. */
enum base_code store_dir_make_table(struct store_dir *dir,
                                    const struct ptc_table *known,
                                    const struct ptc_spec *spec,
                                    struct base_err *err) BASE_MUST_CHECK;
/* Objects of the directory into @builder. */
enum base_code store_dir_add_objects(const struct store_dir *dir,
                                     struct ptc_table_builder *builder,
                                     struct base_err *err) BASE_MUST_CHECK;

/* The rank that a name in ranks/ stands for: "%03u" and nothing else. */
bool store_dir_rank_of(const char *name, ptc_rank *ret);
/* layout.yaml, which is there. */
enum base_code store_dir_read_layout(struct store_dir *dir,
                                     struct ptc_spec **ret,
                                     struct base_err *err) BASE_MUST_CHECK;
/* Is @group one of the version that a save follows? */
bool store_dir_is_known_group(const struct store_dir *dir,
                              struct base_str group);
/* Free what stands in @dir but the source. */
void store_dir_done(struct store_dir *dir);

/* A save as a source: its pieces are the lowest writer's, its replicas what
 * others wrote of the same.  All that is wrong with it is told: *ret is only
 * there for more to be looked at, when problems->n is not 0.
 * Errors: BASE_BAD_INPUT, BASE_MISMATCH  told, and nothing more can be looked
 *         at; BASE_IO, BASE_NO_MEM, BASE_CHANGED */
enum base_code store_source_open_save(struct store_dir_save *save,
                                      struct store_source **ret,
                                      struct base_err *err) BASE_MUST_CHECK;

/* Tell what the pieces of a save lack, but for tensors that are bad: told
 * already. */
enum base_code store_dir_tell_missing(struct store_dir *dir,
                                      const bool *is_bad,
                                      struct base_err *err) BASE_MUST_CHECK;

/* Compare all files with the source's layout and make its pieces. */
enum base_code store_dir_check(struct store_dir *dir,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
