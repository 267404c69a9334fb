/* What staging.c, save.c, save_objects.c and save_finish.c share. */
#ifndef STORE_SAVE_PRIV_H
#define STORE_SAVE_PRIV_H

#include "store/directory.h"
#include "store/save.h"

struct store_root *store_staging_root(const struct store_staging *staging);
/* "staging/save.JOB" */
const char *store_staging_name(const struct store_staging *staging);
const char *store_staging_job(const struct store_staging *staging);

/* An object of the version to be. */
struct store_saved_object {
    struct base_str name; /* lives as long as source and parent */
    ptc_rank rank;        /* PTC_NONE: the job's */
    uint32_t blob;        /* of the source; PTC_NONE: `kept` */
    uint32_t kept;        /* else an object of the parent's manifest */
};

/* One of the source's objects that stands for the same ranks as another. */
struct store_saved_replica {
    uint32_t object;
    uint32_t lowest; /* that of the lowest rank, which counts */
};

/* A save that is looked at. */
struct store_looked {
    const struct store_save *save;
    struct store_problems problems;
    struct store_version *parent;          /* NULL: none */
    BASE_VEC(struct base_str) job_objects; /* that the parent has */
    struct store_source *source;
    struct store_dir_file *files; /* of the source: their headers */
    size_t n_files;
    BASE_VEC(struct store_saved_object) objects;
    BASE_VEC(struct store_saved_replica) object_replicas;
    uint64_t samples; /* UINT64_MAX: not said */
};

void store_looked_done(struct store_looked *looked);
#define STORE_AUTO_LOOKED                                                      \
    __attribute__((cleanup(store_looked_done))) struct store_looked

/* Open the save that lies in @staging_fd.  With @number, the version that it
 * has become, that is what it is held against (and nothing is told of it).
 * What was told is in ->problems: check it.  Errors: as
 * store_source_open_save's; BASE_NOT_FOUND (save or parent) */
enum base_code store_looked_open(const struct store_root *root,
                                 const char *job,
                                 int staging_fd,
                                 const char *staging_path,
                                 const struct store_save *save,
                                 uint64_t number,
                                 struct store_looked *ret,
                                 struct base_err *err) BASE_MUST_CHECK;
/* Which objects the version has; what is wrong with them is told. */
enum base_code store_looked_objects(struct store_looked *looked,
                                    struct base_err *err) BASE_MUST_CHECK;
/* Compare objects that several ranks wrote for the same ranks, and tell each
 * that differs, as a refusal or not.  *n counts them, too. */
enum base_code
store_looked_compare_objects(struct store_looked *looked,
                             bool is_refusal,
                             uint64_t *n,
                             struct base_err *err) BASE_MUST_CHECK;
/* Compare replicas with @to's bytes (over the same tensors), and tell each
 * tensor and each object that differs, as a refusal or not.  *ret_n counts
 * them.  Comes after store_looked_objects. */
enum base_code store_looked_compare(struct store_looked *looked,
                                    const struct store_source *to,
                                    bool is_refusal,
                                    bool (*progress)(void *ctx,
                                                     uint64_t done_bytes,
                                                     uint64_t all_bytes),
                                    void *ctx,
                                    uint64_t *ret_n,
                                    struct base_err *err) BASE_MUST_CHECK;

#endif
